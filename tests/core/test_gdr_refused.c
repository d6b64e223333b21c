/* SPDX-License-Identifier: Apache-2.0 */
/* What the prefill on CPU tensors refuses, in what words, and that nothing is written then. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "gdr_call.h"

enum { kTokens = 70, kSequences = 3, kKeyHeads = 2, kValueHeads = 4 };

/* A good call of each form, and its memory. */
static gdr_problem problem;
static gdr_memory memory;
static gdr_guarded output;
static gdr_guarded final_state;
static gdr_args args;
static bool projected;
static int64_t cu_seqlens[kSequences + 1];

static void describe(void) {
  if (projected) {
    gdr_projected_args(&args, &problem, &memory);
  } else {
    gdr_prefill_args(&args, &problem, &memory);
  }
}

static int make(void **state) {
  (void)state;
  static const int64_t lengths[kSequences] = {64, 0, 6};
  const gdr_options options = {.num_key_heads = kKeyHeads,
                               .num_value_heads = kValueHeads,
                               .lengths = lengths,
                               .num_sequences = kSequences,
                               .lowest_gate = -0.1,
                               .state_size = 0.3,
                               .seed = 1,
                               .projected = true};
  problem = gdr_problem_create(&options);
  output = gdr_guarded_create(kTokens * kValueHeads * kGdrDim * 2);
  final_state = gdr_guarded_create(kSequences * kValueHeads * kGdrState * 4);
  memcpy(cu_seqlens, problem.cu_seqlens, sizeof cu_seqlens);
  memory = gdr_host_memory(&problem);
  memory.cu_seqlens = cu_seqlens;
  memory.output = output.data;
  memory.final_state = final_state.data;
  projected = false;
  describe();
  return 0;
}

static int unmake(void **state) {
  (void)state;
  gdr_guarded_free(&output);
  gdr_guarded_free(&final_state);
  gdr_problem_free(&problem);
  return 0;
}

#define REFUSED(status, ...)                                                        \
  do {                                                                              \
    pega_error error_ = PEGA_ERROR_INIT;                                            \
    EXPECT_ERROR(gdr_run(&args, &error_), &error_, status, args.name, __VA_ARGS__); \
    assert_int_equal(gdr_run(&args, NULL), status);                                 \
    pega_error_clear(&error_);                                                      \
    assert_true(gdr_guarded_untouched(&output));                                    \
    assert_true(gdr_guarded_untouched(&final_state));                               \
    memcpy(cu_seqlens, problem.cu_seqlens, sizeof cu_seqlens);                      \
    describe();                                                                     \
  } while (0)

/* That the call which the others are spoiled copies of is good; the last test of each, as it writes. */
static void expect_good(void) {
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_OK(gdr_run(&args, &error), &error);
  assert_false(gdr_guarded_untouched(&output));
}

static void test_tensors(void **state) {
  (void)state;
  for (int form = 0; form < 2; ++form) {
    projected = form == 1;
    describe();
    static const int plain[] = {PREFILL_Q,      PREFILL_K,          PREFILL_V,
                                PREFILL_G,      PREFILL_BETA,       PREFILL_INITIAL_STATE,
                                PREFILL_OUTPUT, PREFILL_FINAL_STATE};
    /* Both forms have five inputs, and the rest at the same places. */
    for (int j = 0; j < COUNT(plain); ++j) {
      const int i = plain[j];
      char argument[32];
      snprintf(argument, sizeof argument, "argument %d '", i);
      args.tensors[i].dtype = DTYPE(kDLFloat, 16, 1);
      REFUSED(PEGA_ERROR_DTYPE, argument, "float16");
      args.tensors[i].ndim -= 1;
      REFUSED(PEGA_ERROR_SHAPE, argument);
      args.tensors[i].device = DEVICE(kDLCUDA, 0);
      REFUSED(PEGA_ERROR_DEVICE, "cuda:0");
      args.tensors[i].data = NULL;
      REFUSED(PEGA_ERROR_INVALID_ARGUMENT, argument, "NULL");
      args.values[i] = pega_value_int(3);
      REFUSED(PEGA_ERROR_TYPE, argument, "got int");
      args.tensors[i].data = (char *)args.tensors[i].data + 1;
      REFUSED(PEGA_ERROR_LAYOUT, argument, "aligned");
      const int32_t last = args.tensors[i].ndim - 1;
      if (last > 0) {
        int64_t strides[4];
        for (int32_t d = last; d >= 0; --d) {
          strides[d] = d == last ? 1 : strides[d + 1] * args.shapes[i][d + 1];
        }
        strides[last - 1] += 1;
        args.tensors[i].strides = strides;
        REFUSED(PEGA_ERROR_LAYOUT, argument, "contiguous");
      }
    }
    /* A state as others keep it, [N, H, V, K] seen as [N, H, K, V]. */
    int64_t transposed[] = {kValueHeads * kGdrState, kGdrState, 1, kGdrDim};
    args.tensors[PREFILL_INITIAL_STATE].strides = transposed;
    REFUSED(PEGA_ERROR_LAYOUT, "'initial_state'", "contiguous");
    args.tensors[PREFILL_FINAL_STATE].strides = transposed;
    REFUSED(PEGA_ERROR_LAYOUT, "'final_state'", "contiguous");
    for (int d = 0; d < 2; ++d) {
      args.tensors[d == 0 ? PREFILL_Q : PREFILL_OUTPUT].device = DEVICE(kDLVulkan, 0);
      REFUSED(PEGA_ERROR_DEVICE, "vulkan:0");
    }
    for (int i = 0; i < COUNT(args.tensors); ++i) args.tensors[i].device = DEVICE(kDLVulkan, 0);
    REFUSED(PEGA_ERROR_DEVICE, "vulkan:0", "cpu or cuda");
  }
}

static void test_sizes(void **state) {
  (void)state;
  args.shapes[PREFILL_Q][2] = 64;
  REFUSED(PEGA_ERROR_SHAPE, "'q'", "128");
  args.shapes[PREFILL_K][1] = 1;
  REFUSED(PEGA_ERROR_SHAPE, "'k'", "HK = 2");
  args.shapes[PREFILL_V][0] = kTokens - 1;
  REFUSED(PEGA_ERROR_SHAPE, "'v'", "T = 70");
  args.shapes[PREFILL_G][1] = 3;
  REFUSED(PEGA_ERROR_SHAPE, "'g'", "HV = 4");
  args.shapes[PREFILL_BETA][0] = 1;
  REFUSED(PEGA_ERROR_SHAPE, "'beta'", "T = 70");
  args.shapes[PREFILL_OUTPUT][0] = kTokens + 1;
  REFUSED(PEGA_ERROR_SHAPE, "'output'", "T = 70");
  args.shapes[PREFILL_INITIAL_STATE][0] = 2;
  REFUSED(PEGA_ERROR_SHAPE, "initial_state");
  args.shapes[PREFILL_INITIAL_STATE][1] = 2;
  REFUSED(PEGA_ERROR_SHAPE, "'initial_state'", "HV = 4");
  args.shapes[PREFILL_INITIAL_STATE][0] = args.shapes[PREFILL_FINAL_STATE][0] = 2;
  REFUSED(PEGA_ERROR_SHAPE, "initial_state", "2", "N = 3");
  args.values[PREFILL_INITIAL_STATE] = pega_value_none();
  args.shapes[PREFILL_FINAL_STATE][0] = 4;
  REFUSED(PEGA_ERROR_SHAPE, "final_state", "4", "N = 3");
  args.values[PREFILL_CU_SEQLENS] = pega_value_none();
  REFUSED(PEGA_ERROR_SHAPE, "initial_state", "N = 1", "cu_seqlens");
  /* HV that HK does not divide. */
  for (int i = PREFILL_V; i <= PREFILL_BETA; ++i) args.shapes[i][1] = 3;
  args.shapes[PREFILL_OUTPUT][1] = args.shapes[PREFILL_INITIAL_STATE][1] =
      args.shapes[PREFILL_FINAL_STATE][1] = 3;
  REFUSED(PEGA_ERROR_SHAPE, "HV = 3", "HK = 2", "multiple");
  for (int i = PREFILL_V; i <= PREFILL_BETA; ++i) args.shapes[i][1] = 0;
  args.shapes[PREFILL_OUTPUT][1] = args.shapes[PREFILL_INITIAL_STATE][1] =
      args.shapes[PREFILL_FINAL_STATE][1] = 0;
  REFUSED(PEGA_ERROR_SHAPE, "HV = 0");
  args.shapes[PREFILL_Q][1] = args.shapes[PREFILL_K][1] = 0;
  REFUSED(PEGA_ERROR_SHAPE, "HK = 0");

  projected = true;
  describe();
  args.shapes[PROJECTED_QKV][1] -= kGdrDim;
  REFUSED(PEGA_ERROR_SHAPE, "qkv", "896", "HV = 4", "(2 HK + HV) 128");
  args.shapes[PROJECTED_QKV][1] -= 1;
  REFUSED(PEGA_ERROR_SHAPE, "qkv", "1023", "(2 HK + HV) 128");
  args.shapes[PROJECTED_QKV][1] = kValueHeads * kGdrDim;
  REFUSED(PEGA_ERROR_SHAPE, "qkv", "512", "(2 HK + HV) 128");
  args.shapes[PROJECTED_QKV][1] = (2 * 3 + kValueHeads) * kGdrDim;
  REFUSED(PEGA_ERROR_SHAPE, "HV = 4", "HK = 3", "multiple");
  args.shapes[PROJECTED_DT_BIAS][0] = 3;
  REFUSED(PEGA_ERROR_SHAPE, "'dt_bias'", "HV = 4");
  args.shapes[PROJECTED_A_LOG][0] = 5;
  REFUSED(PEGA_ERROR_SHAPE, "'a_log'", "HV = 4");
  expect_good();
}

static void test_sequences(void **state) {
  (void)state;
  for (int form = 0; form < 2; ++form) {
    projected = form == 1;
    describe();
    const int64_t wrong[][kSequences + 1] = {
        {0, 64, 64, 69},  {0, 64, 64, 71},        {1, 64, 64, 70},
        {-1, 64, 64, 70}, {0, 64, 63, 70},        {0, 71, 71, 70},
        {0, -1, 64, 70},  {0, INT64_MAX, 64, 70}, {0, INT64_MIN, 64, 70},
        {70, 70, 70, 70}, {0, 64, 64, INT64_MAX}, {0, (int64_t)1 << 32, 64, 70}};
    static const char *const texts[] = {"cu_seqlens[3] is 69",
                                        "cu_seqlens[3] is 71",
                                        "cu_seqlens[0] is 1",
                                        "cu_seqlens[0] is -1",
                                        "cu_seqlens[2] is 63",
                                        "cu_seqlens[1] is 71",
                                        "cu_seqlens[1] is -1",
                                        "cu_seqlens[1] is 9223372036854775807",
                                        "cu_seqlens[1] is -9223372036854775808",
                                        "cu_seqlens[0] is 70",
                                        "cu_seqlens[3] is 9223372036854775807",
                                        "cu_seqlens[1] is 4294967296"};
    for (int i = 0; i < COUNT(texts); ++i) {
      memcpy(cu_seqlens, wrong[i], sizeof cu_seqlens);
      REFUSED(PEGA_ERROR_RANGE, texts[i], "T = 70");
    }
    int32_t few[kSequences + 1] = {0, 64, 60, 70};
    args.tensors[PREFILL_CU_SEQLENS].data = few;
    args.tensors[PREFILL_CU_SEQLENS].dtype = INT32;
    REFUSED(PEGA_ERROR_RANGE, "cu_seqlens[2] is 60");
    args.shapes[PREFILL_CU_SEQLENS][0] = kSequences + 2;
    REFUSED(PEGA_ERROR_SHAPE, "initial_state", "N = 4");
    args.shapes[PREFILL_CU_SEQLENS][0] = kSequences;
    REFUSED(PEGA_ERROR_SHAPE, "initial_state", "N = 2");
    args.shapes[PREFILL_CU_SEQLENS][0] = 0;
    REFUSED(PEGA_ERROR_SHAPE, "cu_seqlens", "N + 1");
    args.shapes[PREFILL_CU_SEQLENS][0] = kSequences;
    args.values[PREFILL_INITIAL_STATE] = args.values[PREFILL_FINAL_STATE] = pega_value_none();
    REFUSED(PEGA_ERROR_RANGE, "cu_seqlens[2] is 64", "T = 70");
    args.tensors[PREFILL_CU_SEQLENS].ndim = 2;
    args.shapes[PREFILL_CU_SEQLENS][0] = 2;
    args.shapes[PREFILL_CU_SEQLENS][1] = 2;
    REFUSED(PEGA_ERROR_SHAPE, "'cu_seqlens'");
    const DLDataType types[] = {DTYPE(kDLUInt, 64, 1), DTYPE(kDLInt, 16, 1), FLOAT32};
    static const char *const names[] = {"uint64", "int16", "float32"};
    for (int i = 0; i < COUNT(types); ++i) {
      args.tensors[PREFILL_CU_SEQLENS].dtype = types[i];
      REFUSED(PEGA_ERROR_DTYPE, "'cu_seqlens'", names[i], "int32 or int64");
    }
    args.tensors[PREFILL_CU_SEQLENS].strides = SHAPE(2);
    REFUSED(PEGA_ERROR_LAYOUT, "'cu_seqlens'", "contiguous");
    args.tensors[PREFILL_CU_SEQLENS].device = DEVICE(kDLCUDA, 0);
    REFUSED(PEGA_ERROR_DEVICE, "'cu_seqlens'", "cuda:0");
  }
  expect_good();
}

/* The bytes that a tensor argument covers. */
static int64_t bytes_of(int index) { return pega_tensor_num_bytes(&args.tensors[index]); }

static void test_overlap(void **state) {
  (void)state;
  static const int plain[] = {PREFILL_Q,         PREFILL_K,    PREFILL_V,
                              PREFILL_G,         PREFILL_BETA, PREFILL_INITIAL_STATE,
                              PREFILL_CU_SEQLENS};
  for (int form = 0; form < 2; ++form) {
    projected = form == 1;
    describe();
    for (int o = 0; o < 2; ++o) {
      const int out = o == 0 ? PREFILL_OUTPUT : PREFILL_FINAL_STATE;
      const char *name = o == 0 ? "'output'" : "'final_state'";
      for (int j = 0; j < COUNT(plain); ++j) {
        const int in = plain[j];
        const bool may = out == PREFILL_FINAL_STATE && in == PREFILL_INITIAL_STATE;
        char *begin = args.tensors[in].data;
        if (!may) {
          args.tensors[out].data = begin;
          REFUSED(PEGA_ERROR_LAYOUT, "overlap", name, "separate memory");
        }
        /* The output's first bytes in the input's last, and the other way about. */
        args.tensors[out].data = begin + bytes_of(in) - 4;
        REFUSED(PEGA_ERROR_LAYOUT, "overlap", name);
        args.tensors[out].data = begin - bytes_of(out) + 4;
        REFUSED(PEGA_ERROR_LAYOUT, "overlap", name);
      }
    }
    args.tensors[PREFILL_FINAL_STATE].data = output.data;
    REFUSED(PEGA_ERROR_LAYOUT, "overlap", "'output'", "'final_state'");
    /* A state in place is in place as a whole. */
    float *both = gdr_allocate(2 * kSequences * kValueHeads * kGdrState, sizeof *both);
    args.tensors[PREFILL_INITIAL_STATE].data = both;
    args.tensors[PREFILL_FINAL_STATE].data = both + kGdrState;
    REFUSED(PEGA_ERROR_LAYOUT, "overlap", "'initial_state'", "'final_state'", "in place");
    free(both);
    args.tensors[PREFILL_OUTPUT].data = (void *)(UINTPTR_MAX - 4095);
    REFUSED(PEGA_ERROR_RANGE, "'output'", "ends past the address space");
  }
}

static void test_choices(void **state) {
  (void)state;
  for (int form = 0; form < 2; ++form) {
    projected = form == 1;
    describe();
    const int choice = projected ? PROJECTED_IMPLEMENTATION : PREFILL_IMPLEMENTATION;
    static const char *const unknown[] = {"vax",          "",           "CPU_CHUNKED",
                                          "cpu_chunked ", "cpu_chunke", "triton_chunked"};
    for (int i = 0; i < COUNT(unknown); ++i) {
      args.values[choice] = pega_value_string(unknown[i]);
      REFUSED(PEGA_ERROR_NOT_FOUND, unknown[i], "'cpu_chunked'", "'cpu_recurrent'");
    }
    args.values[choice] = pega_value_int(1);
    REFUSED(PEGA_ERROR_TYPE, "'implementation'");
    args.values[choice + 2] = pega_value_int(1);
    REFUSED(PEGA_ERROR_TYPE, "'check'");
    args.values[PREFILL_SCALE] = pega_value_string("1");
    REFUSED(PEGA_ERROR_TYPE, "'scale'");
    if (!projected) {
      args.values[PREFILL_NORMALIZE] = pega_value_float(1);
      REFUSED(PEGA_ERROR_TYPE, "'normalize'");
    }
    args.count = PREFILL_OUTPUT;
    REFUSED(PEGA_ERROR_ARGUMENT_COUNT,
            projected ? "expected 9 to 13 arguments, got 8" : "expected 9 to 14 arguments, got 8");
    args.count = (projected ? NUM_PROJECTED : NUM_PREFILL) + 1;
    REFUSED(PEGA_ERROR_ARGUMENT_COUNT, projected ? "got 14" : "got 15");
  }
}

static void test_workspace(void **state) {
  (void)state;
  static const char *const implementations[] = {NULL, "cpu_chunked", "cpu_recurrent"};
  for (int form = 0; form < 2; ++form) {
    for (int i = 0; i < COUNT(implementations); ++i) {
      projected = form == 1;
      const int choice = projected ? PROJECTED_IMPLEMENTATION : PREFILL_IMPLEMENTATION;
      const int64_t bytes =
          gdr_workspace_bytes(&problem, CPU, projected, false, implementations[i]);
      if (bytes == 0) continue;
      gdr_guarded workspace = gdr_guarded_create(bytes);
      const int64_t less[] = {bytes - 1, 1, 0};
      char wanted[32];
      snprintf(wanted, sizeof wanted, "%lld", (long long)bytes);
      for (int l = 0; l < COUNT(less); ++l) {
        describe();
        args.values[choice] = pega_value_string(implementations[i]);
        gdr_set_tensor(&args, choice + 1, CPU, UINT8, workspace.data, 1, &less[l]);
        REFUSED(PEGA_ERROR_SHAPE, "'workspace'", wanted, PEGA_QWEN35_PREFILL_WORKSPACE);
      }
      args.values[choice] = pega_value_string(implementations[i]);
      gdr_set_tensor(&args, choice + 1, DEVICE(kDLCUDA, 0), UINT8, workspace.data, 1, &bytes);
      REFUSED(PEGA_ERROR_DEVICE, "'workspace'", "cuda:0", "cpu:0");
      gdr_set_tensor(&args, choice + 1, CPU, FLOAT32, workspace.data, 1, &bytes);
      REFUSED(PEGA_ERROR_DTYPE, "'workspace'", "uint8", "float32");
      gdr_set_tensor(&args, choice + 1, CPU, UINT8, workspace.data, 2, SHAPE(1, bytes));
      REFUSED(PEGA_ERROR_SHAPE, "'workspace'");
      args.values[choice] = pega_value_string(implementations[i]);
      gdr_set_tensor(&args, choice + 1, CPU, UINT8, args.tensors[0].data, 1, &bytes);
      REFUSED(PEGA_ERROR_LAYOUT, "overlap", "workspace");
      gdr_set_tensor(&args, choice + 1, CPU, UINT8, output.data, 1, &bytes);
      REFUSED(PEGA_ERROR_LAYOUT, "overlap", "workspace", "output");
      assert_true(gdr_guarded_untouched(&workspace));
      gdr_guarded_free(&workspace);
    }
  }
}

static pega_status ask_for_workspace(const pega_value *values, int32_t count, pega_error *error) {
  pega_function *function;
  pega_status status = pega_registry_get(PEGA_QWEN35_PREFILL_WORKSPACE, &function, error);
  if (status != PEGA_OK) return status;
  pega_value result = pega_value_none();
  status = pega_function_call(function, values, count, &result, error);
  assert_int_equal(result.kind, status == PEGA_OK ? PEGA_INT : PEGA_NONE);
  pega_function_release(function);
  return status;
}

static void test_workspace_function(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  const pega_value good[] = {pega_value_int(70), pega_value_int(3), pega_value_int(2),
                             pega_value_int(4), pega_value_device(CPU)};
  EXPECT_OK(ask_for_workspace(good, 5, &error), &error);
  const struct {
    int index;
    pega_value value;
    pega_status status;
    const char *text;
  } wrong[] = {
      {0, pega_value_int(-1), PEGA_ERROR_RANGE, "num_tokens"},
      {0, pega_value_int((int64_t)1 << 32), PEGA_ERROR_RANGE, "num_tokens"},
      {1, pega_value_int(-1), PEGA_ERROR_RANGE, "num_sequences"},
      {2, pega_value_int(0), PEGA_ERROR_RANGE, "num_key_heads"},
      {2, pega_value_int(3), PEGA_ERROR_SHAPE, "multiple"},
      {3, pega_value_int(-4), PEGA_ERROR_RANGE, "num_value_heads"},
      {3, pega_value_int(1 << 20), PEGA_ERROR_RANGE, "num_value_heads"},
      {4, pega_value_int(0), PEGA_ERROR_TYPE, "device"},
      {4, pega_value_device(DEVICE(kDLVulkan, 0)), PEGA_ERROR_DEVICE, "vulkan:0"},
  };
  for (int i = 0; i < COUNT(wrong); ++i) {
    pega_value values[5];
    memcpy(values, good, sizeof values);
    values[wrong[i].index] = wrong[i].value;
    EXPECT_ERROR(ask_for_workspace(values, 5, &error), &error, wrong[i].status,
                 PEGA_QWEN35_PREFILL_WORKSPACE, wrong[i].text);
  }
  const pega_value named[] = {good[0],           good[1],
                              good[2],           good[3],
                              good[4],           pega_value_bool(false),
                              pega_value_none(), pega_value_string("vax")};
  EXPECT_ERROR(ask_for_workspace(named, 8, &error), &error, PEGA_ERROR_NOT_FOUND, "'vax'",
               "'cpu_chunked'");
  EXPECT_ERROR(ask_for_workspace(named, 4, &error), &error, PEGA_ERROR_ARGUMENT_COUNT,
               "expected 5 to 8 arguments, got 4");
  pega_error_clear(&error);
}

/* ---- values, which are looked at only where that is asked for ---- */

static void expect_value_refused(float *value, float wrong, const char *text, const char *other) {
  const float kept = *value;
  *value = wrong;
  args.values[projected ? PROJECTED_CHECK : PREFILL_CHECK] = pega_value_bool(true);
  REFUSED(PEGA_ERROR_RANGE, text, other);
  *value = kept;
}

static void expect_bits_refused(uint16_t *value, uint16_t wrong, const char *text,
                                const char *other) {
  const uint16_t kept = *value;
  *value = wrong;
  args.values[projected ? PROJECTED_CHECK : PREFILL_CHECK] = pega_value_bool(true);
  REFUSED(PEGA_ERROR_RANGE, text, other);
  *value = kept;
}

static void test_values(void **state) {
  (void)state;
  const int64_t last = kTokens * kValueHeads - 1;
  expect_value_refused(&problem.g[last], 0.97f, "g[69, 3] is 0.97", "linear");
  expect_value_refused(&problem.g[0], 1, "g[0, 0] is 1", "log");
  expect_value_refused(&problem.g[5], NAN, "g[1, 1] is ", "nan");
  expect_value_refused(&problem.g[5], INFINITY, "g[1, 1] is inf", "log");
  expect_value_refused(&problem.beta[last], 2, "beta[69, 3] is 2", "0 to 1");
  expect_value_refused(&problem.beta[1], -0.5f, "beta[0, 1] is -0.5", "0 to 1");
  expect_value_refused(&problem.beta[1], NAN, "beta[0, 1] is ", "nan");
  expect_value_refused(&problem.initial_state[kGdrState + 7], -INFINITY, "'initial_state'", "inf");
  expect_value_refused(&problem.initial_state[0], NAN, "'initial_state'", "nan");
  expect_bits_refused(&problem.v[9], 0x7fc0, "element 9 of 'v'", "finite");
  expect_bits_refused(&problem.v[kTokens * kValueHeads * kGdrDim - 1], 0xff80, "of 'v'", "finite");
  expect_bits_refused(&problem.q[3], 0x7f80, "element 3 of 'q'", "finite");
  /* Rows that nobody has normalised. */
  expect_bits_refused(&problem.k[kTokens * kKeyHeads * kGdrDim - 1], 0x4000, "row [69, 1] of 'k'",
                      "normalize");
  expect_bits_refused(&problem.q[kGdrDim], 0x3f80, "row [0, 1] of 'q'", "length");

  projected = true;
  describe();
  expect_bits_refused(&problem.qkv[11], 0x7fff, "element 11 of 'qkv'", "finite");
  expect_bits_refused(&problem.b[2], 0x7f80, "element 2 of 'b'", "finite");
  expect_bits_refused(&problem.a[3], 0xff80, "element 3 of 'a'", "finite");
  expect_bits_refused(&problem.dt_bias[1], 0x7fc0, "element 1 of 'dt_bias'", "finite");
  expect_value_refused(&problem.a_log[0], INFINITY, "element 0 of 'a_log'", "finite");

  /* None of it is looked at without being asked. */
  projected = false;
  describe();
  problem.g[5] = 0.1f;
  problem.beta[1] = 1.5f;
  args.values[PREFILL_CHECK] = pega_value_bool(false);
  expect_good();
}

static void test_read_only(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  static const int outputs[] = {PREFILL_OUTPUT, PREFILL_FINAL_STATE};
  for (int i = 0; i < COUNT(outputs); ++i) {
    pega_value counted;
    EXPECT_OK(pega_tensor_create(&args.tensors[outputs[i]], DLPACK_FLAG_BITMASK_READ_ONLY, NULL,
                                 NULL, NULL, &counted, &error),
              &error);
    args.values[outputs[i]] = counted;
    REFUSED(PEGA_ERROR_LAYOUT, i == 0 ? "'output'" : "'final_state'", "read-only");
    pega_value_release(&counted);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_tensors, make, unmake),
      cmocka_unit_test_setup_teardown(test_sizes, make, unmake),
      cmocka_unit_test_setup_teardown(test_sequences, make, unmake),
      cmocka_unit_test_setup_teardown(test_overlap, make, unmake),
      cmocka_unit_test_setup_teardown(test_choices, make, unmake),
      cmocka_unit_test_setup_teardown(test_workspace, make, unmake),
      cmocka_unit_test_setup_teardown(test_workspace_function, make, unmake),
      cmocka_unit_test_setup_teardown(test_values, make, unmake),
      cmocka_unit_test_setup_teardown(test_read_only, make, unmake),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
