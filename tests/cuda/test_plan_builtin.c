/* SPDX-License-Identifier: Apache-2.0 */
/* Plans of the library's own functions, with its own pack: of every function, with each choice of
 * what may be left out, either the plan launches what the call does, or there is none, for a
 * reason. */
#include <pega/qwen35.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "machine.h"
#include "packs.h"

enum { kMostArgs = 24, kMostPointers = 16, kWorkspace = 64 << 20 };
/* Two sets of memory: nobody reads it, but it must not overlap. */
#define FIRST UINT64_C(0x100000000000)
#define SECOND UINT64_C(0x200000000000)

static const struct {
  const char *name;
  int64_t size;
} sizes[] = {{"T", 200}, {"HV", 4}, {"HK", 2}, {"D", 1024}, {"NC", 4},
             {"N", 1},   {"B", 3},  {"P", 5},  {"64", 64},  {"128", 128}};
static const struct {
  const char *name;
  int64_t value;
} numbers[] = {{"seq_len", 200}, {"num_value_heads", 4}, {"num_key_heads", 2}, {"qkv_dim", 1024}};

typedef struct call {
  pega_value args[kMostArgs];
  DLTensor tensors[kMostArgs];
  int64_t shapes[kMostArgs][4];
} call;

static int device;
static CUstream stream;

static int64_t size_of(const char *text, size_t length) {
  for (int i = 0; i < COUNT(sizes); ++i) {
    if (strlen(sizes[i].name) == length && memcmp(sizes[i].name, text, length) == 0)
      return sizes[i].size;
  }
  fail_msg("no size for '%.*s'", (int)length, text);
  return 0;
}

static pega_value make_tensor(const pega_param *param, int32_t i, uint64_t address, call *out) {
  DLTensor *tensor = &out->tensors[i];
  *tensor = (DLTensor){.data = (void *)(uintptr_t)address,
                       .device = CUDA(device),
                       .dtype = param->dtype,
                       .shape = out->shapes[i]};
  if (strcmp(param->name, "workspace") == 0) {
    out->shapes[i][tensor->ndim++] = kWorkspace;
    return pega_value_tensor(tensor);
  }
  if (strcmp(param->name, "cu_seqlens") == 0) {
    out->shapes[i][tensor->ndim++] = 2;
  } else {
    for (const char *at = param->shape; *at != '\0'; at += strspn(at, ", ")) {
      const size_t length = strcspn(at, ",");
      out->shapes[i][tensor->ndim++] = size_of(at, length);
      at += length;
    }
  }
  if (param->dtype.bits == 0) tensor->dtype = DTYPE(kDLInt, 64, 1); /* slots, cu_seqlens */
  return pega_value_tensor(tensor);
}

/* Arguments by what the signature says; of what is optional those in `given` alone. */
static void make_args(const pega_signature *signature, uint64_t base, uint32_t given,
                      const char *implementation, call *out) {
  uint32_t optional = 1;
  for (int32_t i = 0; i < signature->num_params; ++i) {
    const pega_param *param = &signature->params[i];
    const uint64_t address = base + (uint64_t)i * (UINT64_C(1) << 32);
    pega_value *value = &out->args[i];
    *value = pega_value_none();
    if (strcmp(param->name, "implementation") == 0) {
      *value = pega_value_string(implementation);
      continue;
    }
    if (strcmp(param->name, "check") == 0) continue;
    if ((param->flags & PEGA_PARAM_OPTIONAL) != 0) {
      const bool is_given = (given & optional) != 0;
      optional <<= 1;
      if (!is_given) continue;
    }
    switch (param->type) {
      case PEGA_TYPE_TENSOR:
        *value = make_tensor(param, i, address, out);
        break;
      case PEGA_TYPE_POINTER:
        *value = pega_value_pointer((void *)(uintptr_t)address);
        break;
      case PEGA_TYPE_STREAM:
        *value = pega_value_pointer(stream);
        break;
      case PEGA_TYPE_FLOAT:
        *value = pega_value_float(0.25);
        break;
      case PEGA_TYPE_BOOL:
        *value = pega_value_bool(true);
        break;
      default:
        for (int n = 0; n < COUNT(numbers); ++n) {
          if (strcmp(numbers[n].name, param->name) == 0) *value = pega_value_int(numbers[n].value);
        }
    }
  }
}

static void expect_same(uint64_t index, uint64_t expected_index, const char *what) {
  pega_fake_driver_launch got, expected;
  assert_int_equal(pega_fake_driver_get_launch(index, &got), 0);
  assert_int_equal(pega_fake_driver_get_launch(expected_index, &expected), 0);
  if (got.function != expected.function || got.context != expected.context ||
      got.stream != expected.stream || memcmp(got.grid, expected.grid, sizeof got.grid) != 0 ||
      memcmp(got.block, expected.block, sizeof got.block) != 0 ||
      got.shared_bytes != expected.shared_bytes || got.num_attributes != expected.num_attributes ||
      got.params_size != expected.params_size ||
      memcmp(got.params_bytes, expected.params_bytes, got.params_size) != 0) {
    fail_msg("%s: '%s' is launched otherwise than by the call", what, expected.name);
  }
}

static void launch_plan(const pega_plan *plan, const call *with, uint64_t count, const char *what) {
  pega_error error = PEGA_ERROR_INIT;
  void *pointers[kMostPointers];
  assert_int_equal(pega_plan_num_launches(plan), count);
  assert_in_range(pega_plan_num_pointers(plan), 2, kMostPointers);
  for (int32_t i = 0; i < pega_plan_num_pointers(plan); ++i) {
    const pega_value *value = &with->args[pega_plan_pointer_argument(plan, i)];
    pointers[i] = value->kind == PEGA_TENSOR ? pega_tensor_data(pega_value_as_tensor(value))
                                             : (void *)(uintptr_t)value->as.u64;
  }
  EXPECT_OK(pega_plan_call(plan, pointers, stream, &error), &error);
  assert_int_equal(pega_fake_driver_num_launches(), 2 * count);
  for (uint64_t i = 0; i < count; ++i) expect_same(count + i, i, what);
}

/* What became of all calls. */
static int num_plans, num_refused, num_pool;

static void compare(pega_function *function, uint32_t given, const char *implementation) {
  const pega_signature *signature = pega_function_signature(function);
  const char *name = pega_function_name(function);
  pega_error called = PEGA_ERROR_INIT, error = PEGA_ERROR_INIT;
  call bound, other;
  make_args(signature, FIRST, given, implementation, &bound);
  make_args(signature, SECOND, given, implementation, &other);
  pega_fake_driver_clear_records();
  const pega_status status =
      pega_function_call(function, other.args, signature->num_params, NULL, &called);
  const uint64_t count = pega_fake_driver_num_launches();
  const uint64_t pooled = pega_fake_driver_count("cuMemAllocAsync");
  pega_plan *plan = NULL;
  const pega_status made =
      pega_plan_create(function, bound.args, signature->num_params, &plan, &error);
  assert_int_equal(pega_fake_driver_num_launches(), count);
  assert_int_equal(pega_fake_driver_count("cuMemAllocAsync"), pooled);
  if (status != PEGA_OK) {
    assert_int_equal(made, status);
    ++num_refused;
  } else if (pooled > 0) {
    assert_int_equal(made, PEGA_ERROR_UNSUPPORTED);
    EXPECT_TEXT(pega_error_message(&error), "give a 'workspace'");
    ++num_pool;
  } else {
    EXPECT_OK(made, &error);
    launch_plan(plan, &other, count, name);
    ++num_plans;
  }
  pega_plan_release(plan);
  pega_error_clear(&called);
  pega_error_clear(&error);
}

static void each_choice(pega_function *function) {
  static const char *const implementations[] = {NULL, "cuda_recurrent", "triton_chunked",
                                                "triton_stages", "flashinfer"};
  const pega_signature *signature = pega_function_signature(function);
  int num_optional = 0;
  bool has_choice = false;
  for (int32_t i = 0; i < signature->num_params; ++i) {
    const pega_param *param = &signature->params[i];
    if (strcmp(param->name, "implementation") == 0) {
      has_choice = true;
    } else if ((param->flags & PEGA_PARAM_OPTIONAL) != 0 && strcmp(param->name, "check") != 0) {
      ++num_optional;
    }
  }
  for (uint32_t given = 0; given < 1u << num_optional; ++given) {
    for (int i = 0; i < (has_choice ? COUNT(implementations) : 1); ++i) {
      compare(function, given, implementations[i]);
    }
  }
}

static bool launches(const char *name) {
  return strcmp(name, PEGA_QWEN35_PREFILL_WORKSPACE) != 0 &&
         strcmp(name, PEGA_QWEN35_PREFILL_EXPLAIN) != 0;
}

static void start(int on) {
  pega_error error = PEGA_ERROR_INIT;
  machine_start("devices=2");
  machine_set_capability(1, 8, 0);
  device = on;
  stream = machine_stream(on, 1);
  CUcontext context = NULL;
  assert_int_equal(cu.cuDevicePrimaryCtxRetain(&context, on), 0);
  assert_int_equal(cu.cuCtxSetCurrent(context), 0);
  EXPECT_OK(pega_stream_set(CUDA(on), stream, NULL, &error), &error);
}

static void all_of_them(int on, int expected_pooled_stages) {
  pega_error error = PEGA_ERROR_INIT;
  pega_value names;
  start(on);
  EXPECT_OK(pega_registry_list(&names, &error), &error);
  assert_int_equal(pega_value_size(&names), NUM_BUILTINS);
  for (int64_t i = 0; i < NUM_BUILTINS; ++i) {
    const char *name = pega_value_as_string(pega_array_get(&names, i), NULL);
    pega_function *function;
    EXPECT_OK(pega_registry_get(name, &function, &error), &error);
    const int plans = num_plans, pool = num_pool;
    if (launches(name)) each_choice(function);
    if (strstr(name, "chunk_state") != NULL) {
      assert_int_equal(num_plans - plans, expected_pooled_stages > 0 ? 0 : 4);
      assert_int_equal(num_pool - pool, expected_pooled_stages > 0 ? 4 : 0);
    } else if (launches(name)) {
      assert_true(num_plans > plans);
    }
    pega_function_release(function);
  }
  pega_value_release(&names);
  print_message("%d plans, %d calls refused, %d on memory of the pool\n", num_plans, num_refused,
                num_pool);
  assert_true(num_plans > 150 && num_refused > 50 && num_pool > 50);
  machine_expect_no_faults(0);
}

/* State wants scratch memory on 9.0, and none on 8.0. */
static void on_sm_90(void) { all_of_them(0, 4); }
static void on_sm_80(void) { all_of_them(1, 0); }

static pega_function *get(const char *name) {
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function = NULL;
  EXPECT_OK(pega_registry_get(name, &function, &error), &error);
  return function;
}

static void expect_no_plan(pega_function *function, const pega_value *args, pega_status status,
                           const char *text) {
  pega_error error = PEGA_ERROR_INIT;
  pega_plan *plan = NULL;
  const uint64_t before = pega_fake_driver_num_launches();
  EXPECT_ERROR(pega_plan_create(function, args, pega_function_signature(function)->num_params,
                                &plan, &error),
               &error, status, pega_function_name(function), text);
  EXPECT_NO_TEXT(pega_error_message(&error), "queued");
  assert_int_equal(pega_fake_driver_num_launches(), before);
  pega_error_clear(&error);
}

enum { kOutput = 8, kInitial = 5, kFinal = 9 };
/* Of what may be left out: initial_state, cu_seqlens, scale, final_state, normalize, workspace. */
enum { kAll = 63 };

static int calls_of_the_provided;

static pega_status provided(void *self, const pega_value *args, int32_t num_args,
                            pega_value *result, pega_error *error) {
  ++calls_of_the_provided;
  return support_no_op(self, args, num_args, result, error);
}

static void refused(void) {
  pega_error error = PEGA_ERROR_INIT;
  start(0);
  call with;
  pega_function *prefill = get(PEGA_QWEN35_PREFILL);
  const pega_signature *signature = pega_function_signature(prefill);
  /* What the call itself refuses: an output on an input. */
  make_args(signature, FIRST, kAll, NULL, &with);
  with.tensors[kOutput].data = with.tensors[0].data;
  expect_no_plan(prefill, with.args, PEGA_ERROR_LAYOUT, "overlap");
  /* States in place are right. */
  make_args(signature, FIRST, kAll, NULL, &with);
  with.tensors[kFinal].data = with.tensors[kInitial].data;
  pega_plan *plan = NULL;
  EXPECT_OK(pega_plan_create(prefill, with.args, signature->num_params, &plan, &error), &error);
  /* What each pointer has to be aligned to: the kernels' 16, the indices' own, the workspace's. */
  assert_int_equal(pega_plan_num_pointers(plan), 10);
  static const size_t alignments[] = {16, 16, 16, 16, 16, 16, 8, 16, 16, 256};
  for (int i = 0; i < COUNT(alignments); ++i) {
    assert_int_equal(pega_plan_pointer_alignment(plan, i), alignments[i]);
  }
  pega_plan_release(plan);
  with.tensors[12].data = (char *)with.tensors[12].data + 16;
  expect_no_plan(prefill, with.args, PEGA_ERROR_UNSUPPORTED, "multiples of 256 may help");
  /* Values that would be read, and a CPU. */
  make_args(signature, FIRST, kAll, NULL, &with);
  with.args[signature->num_params - 1] = pega_value_bool(true);
  pega_fake_driver_clear_records();
  expect_no_plan(prefill, with.args, PEGA_ERROR_UNSUPPORTED, "'check' reads values");
  assert_int_equal(pega_fake_driver_count("cuCtxSynchronize"), 0);
  assert_int_equal(pega_fake_driver_count("cuMemcpyDtoH_v2"), 0);
  make_args(signature, FIRST, kAll, NULL, &with);
  for (int32_t i = 0; i < signature->num_params; ++i) with.tensors[i].device = CPU;
  expect_no_plan(prefill, with.args, PEGA_ERROR_UNSUPPORTED,
                 "expected every tensor on a cuda device");
  /* What a stage's kernel cannot read. */
  pega_function *stage = get(PEGA_QWEN35_CHUNK_CUMSUM);
  make_args(pega_function_signature(stage), FIRST, 0, NULL, &with);
  with.tensors[1].data = (char *)with.tensors[1].data + 8;
  expect_no_plan(stage, with.args, PEGA_ERROR_LAYOUT, "aligned to 16 bytes on a GPU");
  pega_function_release(stage);
  /* Others' code. */
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  pega_function *function;
  options.name = "t.provided";
  options.call = provided;
  EXPECT_OK(pega_function_create(&options, &function, &error), &error);
  EXPECT_OK(pega_qwen35_provide_prefill("flashinfer", function, &error), &error);
  pega_function_release(function);
  make_args(signature, FIRST, kAll, "flashinfer", &with);
  for (int32_t i = 0; i < signature->num_params; ++i) with.tensors[i].device = CUDA(0);
  expect_no_plan(prefill, with.args, PEGA_ERROR_UNSUPPORTED, "was provided");
  assert_int_equal(calls_of_the_provided, 0);
  /* Without a kernel at all. */
  pega_function_release(prefill);
  function = get(PEGA_QWEN35_PREFILL_WORKSPACE);
  const pega_value numbers_of[] = {pega_value_int(1), pega_value_int(1),          pega_value_int(1),
                                   pega_value_int(1), pega_value_device(CUDA(0)), pega_value_none(),
                                   pega_value_none(), pega_value_none()};
  expect_no_plan(function, numbers_of, PEGA_ERROR_UNSUPPORTED, "expected a function of a pack");
  pega_function_release(function);
}

/* What calls and plans want of addresses, and what not. */
static void alignments(void) {
  pega_error error = PEGA_ERROR_INIT;
  start(0);
  call with;
  pega_function *function = get(PEGA_QWEN35_PREFILL);
  const int32_t count = pega_function_signature(function)->num_params;
  /* A workspace begins anywhere. */
  make_args(pega_function_signature(function), FIRST, kAll, NULL, &with);
  with.tensors[12].data = (char *)with.tensors[12].data + 3;
  EXPECT_OK(pega_function_call(function, with.args, count, NULL, &error), &error);
  /* And what is empty: no tokens, which leaves the states as they are. */
  make_args(pega_function_signature(function), FIRST, kAll, NULL, &with);
  for (int i = 0; i < 5; ++i) {
    with.shapes[i][0] = 0;
    with.tensors[i].data = (char *)with.tensors[i].data + 4;
  }
  with.shapes[kOutput][0] = 0;
  with.tensors[kOutput].data = (char *)with.tensors[kOutput].data + 2;
  EXPECT_OK(pega_function_call(function, with.args, count, NULL, &error), &error);
  pega_function_release(function);
  /* The decode step's slots have the alignment of their type. */
  pega_plan *plan = NULL;
  function = get(PEGA_QWEN35_DECODE);
  make_args(pega_function_signature(function), FIRST, 1, NULL, &with);
  EXPECT_OK(pega_plan_create(function, with.args, pega_function_signature(function)->num_params,
                             &plan, &error),
            &error);
  assert_int_equal(pega_plan_num_pointers(plan), 8);
  for (int i = 0; i < 8; ++i) {
    assert_int_equal(pega_plan_pointer_alignment(plan, i), i == 6 ? 8 : 16);
  }
  pega_plan_release(plan);
  pega_function_release(function);
}

/* A driver that takes one launch of a plan and refuses the next. */
static void refused_midway(void) {
  pega_error error = PEGA_ERROR_INIT;
  call with;
  start(0);
  pega_function *prefill = get(PEGA_QWEN35_PREFILL_PROJECTED);
  const pega_signature *signature = pega_function_signature(prefill);
  make_args(signature, FIRST, 31, "triton_chunked", &with);
  pega_plan *plan = NULL;
  EXPECT_OK(pega_plan_create(prefill, with.args, signature->num_params, &plan, &error), &error);
  assert_int_equal(pega_plan_num_launches(plan), 3);
  void *pointers[kMostPointers];
  for (int i = 0; i < kMostPointers; ++i) pointers[i] = (void *)(uintptr_t)FIRST;
  for (int nth = 1; nth <= 3; ++nth) {
    machine_fail_launch(nth, 1);
    EXPECT_ERROR(pega_plan_call(plan, pointers, stream, &error), &error, PEGA_ERROR_DRIVER,
                 nth == 1   ? "nothing was launched"
                 : nth == 2 ? "1 launches of this call were queued before one failed"
                            : "2 launches of this call were queued before one failed");
    assert_int_equal(error.code, 1);
    pega_fake_driver_clear_failures();
    /* What went before it was launched without an error. */
    static const char *const before[] = {"", "prepare", "chunk"};
    if (nth > 1) EXPECT_TEXT(machine_health(0).last_good, before[nth - 1]);
  }
  EXPECT_OK(pega_plan_call(plan, pointers, stream, &error), &error);
  EXPECT_TEXT(machine_health(0).last_good, "scan");
  pega_plan_release(plan);
  pega_function_release(prefill);
  pega_error_clear(&error);
}

/* Kernels that another put in place and that look at two addresses at once. */
#define POINTER(name) "{'name':'" name "','type':'pointer','nonnull':true},"
#define INT(name) "{'name':'" name "','type':'int'},"
#define STREAM "{'name':'stream','type':'stream'}]"
static void two_addresses(void) {
  static const kernel_param params[] = {PARAM("pointer", "a_tril_ptr"),
                                        PARAM("pointer", "a_inv_ptr"), END_OF_PARAMS};
  static const kernel_variant order[] = {
      {"sm_90", "ascending", .when = "['a_tril_ptr < a_inv_ptr']", .params = params},
      {"sm_90", "descending", .params = params}};
  static const kernel_variant either[] = {
      {"sm_90", "one_is", .when = "['a_tril_ptr % 64 == 0 or a_inv_ptr % 64 == 0']",
       .params = params},
      {"sm_90", "none_is", .params = params}};
  static const kernel_param inputs[] = {PARAM("pointer", "b_proj_ptr"), END_OF_PARAMS};
  static const kernel_variant same[] = {
      {"sm_90", "same", .when = "['b_proj_ptr == a_proj_ptr']", .params = inputs},
      {"sm_90", "two", .params = inputs}};
#define SOLVE \
  "[" POINTER("a_tril_ptr") POINTER("a_inv_ptr") INT("seq_len") INT("num_value_heads") STREAM
#define PREPARE                                                                                    \
  "[" POINTER("qkv_ptr") POINTER("b_proj_ptr") POINTER("a_proj_ptr") POINTER("dt_bias_ptr")        \
      POINTER("a_log_ptr") POINTER("q_out_ptr") POINTER("k_out_ptr") POINTER("v_out_ptr")          \
          POINTER("g_out_ptr") POINTER("beta_out_ptr") INT("num_key_heads") INT("num_value_heads") \
              INT("qkv_dim") INT("seq_len") STREAM
  static const kernel_function rows[] = {{PEGA_QWEN35_CHUNK_SOLVE_RAW, SOLVE, order, 2, NULL},
                                         {PEGA_QWEN35_CHUNK_SOLVE_RAW, SOLVE, either, 2, NULL},
                                         {PEGA_QWEN35_CHUNK_PREPARE_RAW, PREPARE, same, 2, NULL}};
  start(0);
  for (int i = 0; i < COUNT(rows); ++i) {
    pega_error error = PEGA_ERROR_INIT;
    bytes file = pack_make("other", &rows[i], 1, NULL, 0);
    pega_pack *pack = pack_open(&file, 0);
    EXPECT_OK(pega_pack_register(pack, PEGA_REGISTER_OVERRIDE, &error), &error);
    call with;
    pega_function *function = get(rows[i].name);
    make_args(pega_function_signature(function), FIRST, 0, NULL, &with);
    expect_no_plan(function, with.args, PEGA_ERROR_UNSUPPORTED,
                   i < 2 ? "depends on more than one address" : "depends on a_proj_ptr");
    pega_function_release(function);
    pega_pack_release(pack);
    bytes_free(&file);
  }
}

#define IN_CHILD(name)                    \
  static void test_##name(void **state) { \
    (void)state;                          \
    machine_in_child(name);               \
  }
IN_CHILD(on_sm_90)
IN_CHILD(on_sm_80)
IN_CHILD(refused)
IN_CHILD(alignments)
IN_CHILD(refused_midway)
IN_CHILD(two_addresses)

int main(void) {
  const char *pack = getenv("PEGA_PACK_PATH");
  if (pack == NULL || access(pack, R_OK) != 0) {
    printf("SKIP: %s is not there; ./dev kernels makes it\n", pack == NULL ? "the pack" : pack);
    return SUPPORT_SKIP;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_on_sm_90),      cmocka_unit_test(test_on_sm_80),
      cmocka_unit_test(test_refused),       cmocka_unit_test(test_alignments),
      cmocka_unit_test(test_two_addresses), cmocka_unit_test(test_refused_midway),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
