/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole prefill on a GPU: every implementation on every shape and edge case against the recurrence
 * in fp64, and against the CPU; captured; with more elements than 32 bits count. PEGA_TEST_BRIEF
 * leaves a few shapes, for tools that watch memory.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "gdr_device.h"

static const char *const implementations[] = {NULL, "triton_chunked", "triton_fused",
                                              "cuda_recurrent", "triton_stages"};
static gdr_setting device;

#define CASE(name)                        \
  static void test_##name(void **state) { \
    (void)state;                          \
    gdr_case_##name(&device);             \
  }

CASE(measured_inputs)
CASE(heads)
CASE(lengths)
CASE(sequences)
CASE(sequences_are_alone)
CASE(projected)
CASE(normalize)
CASE(scale)
CASE(extremes)
CASE(in_place)
CASE(carried_states)
CASE(workspace)

/* ---- the CPU's answer ---- */

static void test_agrees_with_the_cpu(void **state) {
  (void)state;
  static const int64_t lengths[] = {300, 0, 64, 1, 130};
  static const gdr_setting cpu = {
      .place = &gdr_cpu_place, .output_limit = 2.0e-3, .state_limit = 1e-4};
  for (int strong = 0; strong < 2; ++strong) {
    for (int projected = 0; projected < 2; ++projected) {
      const gdr_options options = {.num_key_heads = 4,
                                   .num_value_heads = 8,
                                   .lengths = lengths,
                                   .num_sequences = COUNT(lengths),
                                   .lowest_gate = strong == 1 ? -10 : -0.1,
                                   .state_size = 0.3,
                                   .seed = 200,
                                   .projected = projected == 1};
      gdr_problem problem = gdr_problem_create(&options);
      gdr_answer answer = gdr_solve_recurrence(&problem);
      gdr_variation how = {.projected = projected == 1};
      gdr_outcome here = gdr_run_prefill(&cpu, &problem, &answer, &how, "on the CPU", true);
      const int64_t num_outputs = problem.num_tokens * 8 * kGdrDim;
      const int64_t num_states = COUNT(lengths) * 8 * kGdrState;
      double *outputs = gdr_widen_bf16(here.outputs, num_outputs);
      double *states = gdr_widen_f32(here.final_states, num_states);
      for (int i = 0; i < COUNT(implementations); ++i) {
        how.implementation = implementations[i];
        if (!gdr_takes(how.implementation, &problem, &how)) continue;
        gdr_outcome there =
            gdr_run_prefill(&device, &problem, &answer, &how, "on the device", true);
        const gdr_error output = gdr_compare_bf16(there.outputs, outputs, num_outputs);
        const gdr_error final_state = gdr_compare_f32(there.final_states, states, num_states);
        printf("%-14s %s: from the CPU's output rms %.2e, final state rms %.2e\n",
               how.implementation == NULL ? "(chosen)" : how.implementation,
               projected == 1 ? "projected" : "plain    ", output.rms, final_state.rms);
        /* Two answers, each as near to the true one as it has to be. */
        gdr_expect_within("output", output, device.output_limit + cpu.output_limit, &problem,
                          how.implementation, "device and CPU");
        gdr_expect_within("final state", final_state, device.state_limit + cpu.state_limit,
                          &problem, how.implementation, "device and CPU");
        free(there.outputs);
        free(there.final_states);
      }
      free(outputs);
      free(states);
      free(here.outputs);
      free(here.final_states);
      gdr_answer_free(&answer);
      gdr_problem_free(&problem);
    }
  }
}

/* ---- one call whose memory stays, for what follows ---- */

enum { kTokens = 200, kSequences = 3, kKeyHeads = 2, kValueHeads = 4 };
enum {
  IN_Q,
  IN_K,
  IN_V,
  IN_G,
  IN_BETA,
  IN_INITIAL_STATE,
  IN_CU_SEQLENS,
  OUT_OUTPUT,
  OUT_FINAL_STATE,
  OUT_WORKSPACE,
  NUM_MEMORY
};

typedef struct call {
  gdr_problem problem;
  gdr_answer answer;
  gdr_buffer memory[NUM_MEMORY];
  gdr_args args;
} call;

static gdr_problem make_problem(uint64_t seed) {
  static const int64_t lengths[kSequences] = {65, 0, 135};
  const gdr_options options = {.num_key_heads = kKeyHeads,
                               .num_value_heads = kValueHeads,
                               .lengths = lengths,
                               .num_sequences = kSequences,
                               .lowest_gate = -0.1,
                               .state_size = 0.3,
                               .seed = seed};
  return gdr_problem_create(&options);
}

/* `it` must not be moved. */
static void make_call(call *it, const char *implementation) {
  const gdr_place *place = &gdr_device_place;
  memset(it, 0, sizeof *it);
  it->problem = make_problem(300);
  it->answer = gdr_solve_recurrence(&it->problem);
  it->memory[IN_Q] = place->create(kTokens * kKeyHeads * kGdrDim * 2, it->problem.q);
  it->memory[IN_K] = place->create(kTokens * kKeyHeads * kGdrDim * 2, it->problem.k);
  it->memory[IN_V] = place->create(kTokens * kValueHeads * kGdrDim * 2, it->problem.v);
  it->memory[IN_G] = place->create(kTokens * kValueHeads * 4, it->problem.g);
  it->memory[IN_BETA] = place->create(kTokens * kValueHeads * 4, it->problem.beta);
  it->memory[IN_INITIAL_STATE] =
      place->create(kSequences * kValueHeads * kGdrState * 4, it->problem.initial_state);
  it->memory[IN_CU_SEQLENS] = place->create((kSequences + 1) * 8, it->problem.cu_seqlens);
  it->memory[OUT_OUTPUT] = place->create(kTokens * kValueHeads * kGdrDim * 2, NULL);
  it->memory[OUT_FINAL_STATE] = place->create(kSequences * kValueHeads * kGdrState * 4, NULL);
  const int64_t bytes = gdr_workspace_bytes(&it->problem, CUDA0, false, false, implementation);
  it->memory[OUT_WORKSPACE] = place->create_workspace(bytes);
  const gdr_memory memory = {.device = CUDA0,
                             .q = it->memory[IN_Q].data,
                             .k = it->memory[IN_K].data,
                             .v = it->memory[IN_V].data,
                             .g = it->memory[IN_G].data,
                             .beta = it->memory[IN_BETA].data,
                             .initial_state = it->memory[IN_INITIAL_STATE].data,
                             .cu_seqlens = it->memory[IN_CU_SEQLENS].data,
                             .cu_bits = 64,
                             .output = it->memory[OUT_OUTPUT].data,
                             .final_state = it->memory[OUT_FINAL_STATE].data};
  gdr_prefill_args(&it->args, &it->problem, &memory);
  it->args.values[PREFILL_IMPLEMENTATION] = pega_value_string(implementation);
}

static void give_workspace(call *it) {
  const gdr_buffer workspace = it->memory[OUT_WORKSPACE];
  gdr_set_tensor(&it->args, PREFILL_WORKSPACE, CUDA0, UINT8, workspace.data, 1, &workspace.bytes);
}

static void unmake_call(call *it) {
  for (int i = 0; i < NUM_MEMORY; ++i) {
    assert_true(gdr_device_place.intact(it->memory[i]));
    gdr_device_place.destroy(it->memory[i]);
  }
  gdr_answer_free(&it->answer);
  gdr_problem_free(&it->problem);
}

static void poison_outputs(const call *it) {
  gdr_device_poison(it->memory[OUT_OUTPUT]);
  gdr_device_poison(it->memory[OUT_FINAL_STATE]);
}

static bool outputs_untouched(const call *it) {
  return gdr_device_untouched(it->memory[OUT_OUTPUT]) &&
         gdr_device_untouched(it->memory[OUT_FINAL_STATE]);
}

static void expect_right(const call *it, const gdr_answer *answer, const char *what) {
  uint16_t *output = gdr_allocate(it->memory[OUT_OUTPUT].bytes, 1);
  float *final_state = gdr_allocate(it->memory[OUT_FINAL_STATE].bytes, 1);
  gdr_device_place.read(it->memory[OUT_OUTPUT], output);
  gdr_device_place.read(it->memory[OUT_FINAL_STATE], final_state);
  gdr_expect_within("output",
                    gdr_compare_bf16(output, answer->output, kTokens * kValueHeads * kGdrDim),
                    device.output_limit, &it->problem, NULL, what);
  gdr_expect_within(
      "final state",
      gdr_compare_f32(final_state, answer->final_state, kSequences * kValueHeads * kGdrState),
      device.state_limit, &it->problem, NULL, what);
  free(output);
  free(final_state);
}

/* The implementations that take this call. */
static const char *const of_calls[] = {NULL, "triton_chunked", "triton_fused", "cuda_recurrent"};

/* ---- sequences that are none ---- */

/* Wrong lengths give wrong numbers, and nothing else: no access outside, nothing written beside. */
static void test_wrong_lengths(void **state) {
  (void)state;
  if (fixture_rehearsal("wrong cu_seqlens")) skip();
  static const int64_t wrong[][kSequences + 1] = {
      {-1, -5, 1000, 200},
      {0, 100000, 100001, 200},
      {200, 100, 50, 0},
      {0, 150, 20, 170},
      {INT64_MIN, INT64_MAX, INT64_MIN, INT64_MAX},
      {INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX},
      {-1, -1, -1, -1},
      {0, (int64_t)1 << 32, (int64_t)1 << 33, 200},
      {(int64_t)1 << 31, 0, INT32_MIN, 200},
      {64, 64, 64, 64},
      {100, 64, 128, 1 << 20},
      {0, 0, 0, 0},
      {(int64_t)1 << 62, (int64_t)1 << 61, (int64_t)1 << 62, 1},
  };
  for (int i = 0; i < COUNT(of_calls); ++i) {
    call it;
    make_call(&it, of_calls[i]);
    pega_error error = PEGA_ERROR_INIT;
    for (int bits = 32; bits <= 64; bits += 32) {
      for (int w = 0; w < COUNT(wrong); ++w) {
        for (int own = 0; own < 2; ++own) {
          int32_t narrow[kSequences + 1];
          for (int s = 0; s <= kSequences; ++s) {
            narrow[s] = (int32_t)(wrong[w][s] & UINT32_MAX);
            if (wrong[w][s] > INT32_MAX) narrow[s] = INT32_MAX - s;
            if (wrong[w][s] < INT32_MIN) narrow[s] = INT32_MIN + s;
          }
          if (bits == 64) {
            gdr_device_write(it.memory[IN_CU_SEQLENS], wrong[w]);
          } else {
            gdr_buffer half = it.memory[IN_CU_SEQLENS];
            half.bytes /= 2;
            gdr_device_write(half, narrow);
          }
          it.args.tensors[PREFILL_CU_SEQLENS].dtype = bits == 64 ? INT64 : INT32;
          it.args.values[PREFILL_WORKSPACE] = pega_value_none();
          if (own == 1 && it.memory[OUT_WORKSPACE].bytes > 0) give_workspace(&it);
          EXPECT_OK(gdr_device_call(&it.args, NULL, &error), &error);
          GPU_OK(gpu.synchronize());
        }
      }
      /* Asked to look, the library refuses. */
      it.args.values[PREFILL_CHECK] = pega_value_bool(true);
      poison_outputs(&it);
      EXPECT_ERROR(gdr_device_call(&it.args, NULL, &error), &error, PEGA_ERROR_RANGE,
                   "cu_seqlens[0] is ", "T = 200");
      assert_true(outputs_untouched(&it));
      it.args.values[PREFILL_CHECK] = pega_value_none();
    }
    /* And the device is as well as before. */
    gdr_device_write(it.memory[IN_CU_SEQLENS], it.problem.cu_seqlens);
    it.args.tensors[PREFILL_CU_SEQLENS].dtype = INT64;
    EXPECT_OK(gdr_device_call(&it.args, NULL, &error), &error);
    GPU_OK(gpu.synchronize());
    expect_right(&it, &it.answer, "after wrong lengths");
    unmake_call(&it);
    pega_error_clear(&error);
  }
}

/* ---- capture ---- */

static void test_capture(void **state) {
  (void)state;
  for (int i = 0; i < COUNT(of_calls); ++i) {
    call it;
    make_call(&it, of_calls[i]);
    pega_error error = PEGA_ERROR_INIT;
    EXPECT_OK(pega_function_prepare(fixture_function(PEGA_QWEN35_PREFILL), CUDA0, &error), &error);
    if (it.memory[OUT_WORKSPACE].bytes > 0) give_workspace(&it);
    CUstream stream;
    CUgraph graph;
    CUgraphExec exec;
    GPU_OK(gpu.stream_create(&stream, GPU_STREAM_NON_BLOCKING));
    GPU_OK(gpu.capture_begin(stream, GPU_CAPTURE_GLOBAL));
    if (gpu.fake) { /* not computed on the CPU, as nothing is run */
      void *previous;
      EXPECT_OK(pega_stream_set(CUDA0, stream, &previous, &error), &error);
      EXPECT_OK(gdr_run(&it.args, &error), &error);
      EXPECT_OK(pega_stream_set(CUDA0, previous, NULL, &error), &error);
    } else {
      EXPECT_OK(gdr_device_call(&it.args, stream, &error), &error);
    }
    GPU_OK(gpu.capture_end(stream, &graph));
    assert_true(outputs_untouched(&it)); /* captured, not run */
    GPU_OK(gpu.graph_instantiate(&exec, graph, 0));
    GPU_OK(gpu.graph_launch(exec, stream));
    GPU_OK(gpu.stream_synchronize(stream));
    if (!fixture_rehearsal("what a replayed graph computes")) {
      expect_right(&it, &it.answer, "a replayed graph");
      /* Other data, other lengths: all of it is read on the device. */
      gdr_problem next = make_problem(301);
      next.cu_seqlens[1] = 1;
      next.cu_seqlens[2] = 129;
      gdr_answer answer = gdr_solve_recurrence(&next);
      gdr_device_write(it.memory[IN_Q], next.q);
      gdr_device_write(it.memory[IN_K], next.k);
      gdr_device_write(it.memory[IN_V], next.v);
      gdr_device_write(it.memory[IN_G], next.g);
      gdr_device_write(it.memory[IN_BETA], next.beta);
      gdr_device_write(it.memory[IN_INITIAL_STATE], next.initial_state);
      gdr_device_write(it.memory[IN_CU_SEQLENS], next.cu_seqlens);
      for (int again = 0; again < 2; ++again) {
        poison_outputs(&it);
        GPU_OK(gpu.graph_launch(exec, stream));
        GPU_OK(gpu.stream_synchronize(stream));
        expect_right(&it, &answer, "a graph replayed on other data");
      }
      gdr_answer_free(&answer);
      gdr_problem_free(&next);
    }
    GPU_OK(gpu.exec_destroy(exec));
    GPU_OK(gpu.graph_destroy(graph));
    GPU_OK(gpu.stream_destroy(stream));
    unmake_call(&it);
  }
}

/* Nothing is allocated in a capture, and nothing is waited for; what is captured before and after is. */
static void test_refused_in_capture(void **state) {
  (void)state;
  call it;
  make_call(&it, "triton_chunked");
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_OK(pega_function_prepare(fixture_function(PEGA_QWEN35_PREFILL), CUDA0, &error), &error);
  assert_true(it.memory[OUT_WORKSPACE].bytes > 0);
  CUstream stream;
  CUgraph graph = NULL;
  CUgraphExec exec;
  GPU_OK(gpu.stream_create(&stream, GPU_STREAM_NON_BLOCKING));
  GPU_OK(gpu.capture_begin(stream, GPU_CAPTURE_GLOBAL));
  EXPECT_ERROR(gdr_device_call(&it.args, stream, &error), &error, PEGA_ERROR_UNAVAILABLE,
               "captured", "'workspace'", "the capture is still valid");
  give_workspace(&it);
  it.args.values[PREFILL_CHECK] = pega_value_bool(true);
  EXPECT_ERROR(gdr_device_call(&it.args, stream, &error), &error, PEGA_ERROR_UNAVAILABLE, "check",
               "the capture is still valid");
  int status = 0;
  GPU_OK(gpu.capture_status(stream, &status));
  assert_int_equal(status, GPU_CAPTURE_ACTIVE);
  GPU_OK(gpu.set_bytes_async((CUdeviceptr)(uintptr_t)it.memory[OUT_OUTPUT].data, 0x5a, 64, stream));
  GPU_OK(gpu.capture_end(stream, &graph));
  assert_non_null(graph);
  GPU_OK(gpu.graph_instantiate(&exec, graph, 0));
  GPU_OK(gpu.graph_launch(exec, stream));
  GPU_OK(gpu.stream_synchronize(stream));
  unsigned char *written = gdr_allocate(it.memory[OUT_OUTPUT].bytes, 1);
  gdr_device_place.read(it.memory[OUT_OUTPUT], written);
  for (int i = 0; i < 64; ++i) assert_int_equal(written[i], 0x5a);
  for (int i = 64; i < 128; ++i) assert_int_equal(written[i], 0xff);
  free(written);
  pega_error_clear(&error);
  GPU_OK(gpu.exec_destroy(exec));
  GPU_OK(gpu.graph_destroy(graph));
  GPU_OK(gpu.stream_destroy(stream));
  unmake_call(&it);
}

/* ---- the current stream ---- */

/* Behind the copies that bring its inputs, on a stream that waits for nothing else. */
static void test_current_stream(void **state) {
  (void)state;
  if (fixture_rehearsal("the order of work on a stream")) skip();
  for (int i = 0; i < COUNT(of_calls); ++i) {
    call it;
    make_call(&it, of_calls[i]);
    pega_error error = PEGA_ERROR_INIT;
    CUstream stream;
    GPU_OK(gpu.stream_create(&stream, GPU_STREAM_NON_BLOCKING));
    const gdr_buffer kept = gdr_device_place.create(it.memory[IN_V].bytes, it.problem.v);
    const CUdeviceptr v = (CUdeviceptr)(uintptr_t)it.memory[IN_V].data;
    enum { kRounds = 20 };
    for (int round = 0; round < kRounds; ++round) {
      /* NaNs, then a pause of other work, then the numbers. */
      GPU_OK(gpu.set_bytes_async(v, 0xff, (size_t)kept.bytes, stream));
      for (int j = 0; j < 50; ++j) {
        GPU_OK(gpu.set_bytes_async((CUdeviceptr)(uintptr_t)it.memory[OUT_OUTPUT].data, 0xff,
                                   (size_t)it.memory[OUT_OUTPUT].bytes, stream));
      }
      GPU_OK(gpu.copy_async(v, (CUdeviceptr)(uintptr_t)kept.data, (size_t)kept.bytes, stream));
      EXPECT_OK(gdr_device_call(&it.args, stream, &error), &error);
    }
    GPU_OK(gpu.stream_synchronize(stream));
    expect_right(&it, &it.answer, "a stream of its own");
    gdr_device_place.destroy(kept);
    GPU_OK(gpu.stream_destroy(stream));
    unmake_call(&it);
  }
}

/* ---- what is refused ---- */

#define REFUSED(status, ...)                                                                      \
  do {                                                                                            \
    pega_error error_ = PEGA_ERROR_INIT;                                                          \
    EXPECT_ERROR(gdr_device_call(&args, NULL, &error_), &error_, status, args.name, __VA_ARGS__); \
    pega_error_clear(&error_);                                                                    \
    assert_true(outputs_untouched(&it));                                                          \
    args = it.args;                                                                               \
    for (int i_ = 0; i_ < args.count; ++i_) {                                                     \
      args.tensors[i_].shape = args.shapes[i_];                                                   \
      if (args.values[i_].kind == PEGA_TENSOR)                                                    \
        args.values[i_] = pega_value_tensor(&args.tensors[i_]);                                   \
    }                                                                                             \
  } while (0)

static void test_refused(void **state) {
  (void)state;
  call it;
  make_call(&it, "triton_chunked");
  give_workspace(&it);
  gdr_args args = it.args;
  for (int i = 0; i < args.count; ++i) {
    args.tensors[i].shape = args.shapes[i];
    if (args.values[i].kind == PEGA_TENSOR) args.values[i] = pega_value_tensor(&args.tensors[i]);
  }
  static const int aligned[] = {PREFILL_Q,      PREFILL_K,          PREFILL_V,
                                PREFILL_G,      PREFILL_BETA,       PREFILL_INITIAL_STATE,
                                PREFILL_OUTPUT, PREFILL_FINAL_STATE};
  for (int i = 0; i < COUNT(aligned); ++i) {
    args.tensors[aligned[i]].data = (char *)args.tensors[aligned[i]].data + 8;
    REFUSED(PEGA_ERROR_LAYOUT, "aligned to 16 bytes");
    args.tensors[aligned[i]].device = CPU;
    REFUSED(PEGA_ERROR_DEVICE, "cpu:0");
  }
  args.tensors[PREFILL_WORKSPACE].device = CPU;
  REFUSED(PEGA_ERROR_DEVICE, "'workspace'", "cpu:0");
  args.shapes[PREFILL_WORKSPACE][0] -= 1;
  REFUSED(PEGA_ERROR_SHAPE, "'workspace'", PEGA_QWEN35_PREFILL_WORKSPACE, "triton_chunked");
  args.tensors[PREFILL_OUTPUT].data = args.tensors[PREFILL_V].data;
  REFUSED(PEGA_ERROR_LAYOUT, "overlap", "'output'", "'v'");
  args.tensors[PREFILL_WORKSPACE].data = args.tensors[PREFILL_V].data;
  REFUSED(PEGA_ERROR_LAYOUT, "overlap", "'workspace'");
  static const char *const unknown[] = {"cpu_chunked", "vax"};
  for (int i = 0; i < COUNT(unknown); ++i) {
    args.values[PREFILL_IMPLEMENTATION] = pega_value_string(unknown[i]);
    REFUSED(PEGA_ERROR_NOT_FOUND, unknown[i], "'triton_chunked'", "'cuda_recurrent'",
            "'triton_stages'");
  }
  args.values[PREFILL_IMPLEMENTATION] = pega_value_string("triton_stages");
  REFUSED(PEGA_ERROR_UNSUPPORTED, "triton_stages", "projections");
  /* Values, where they are looked at. */
  const struct {
    int memory;
    int64_t index;
    float value;
    const char *text;
  } wrong[] = {{IN_G, 5, 0.9f, "g[1, 1] is 0.9"},
               {IN_G, kTokens * kValueHeads - 1, NAN, "g[199, 3] is "},
               {IN_BETA, 4, 2, "beta[1, 0] is 2"},
               {IN_INITIAL_STATE, 7, INFINITY, "element 7 of 'initial_state'"}};
  for (int i = 0; i < COUNT(wrong); ++i) {
    const gdr_buffer buffer = it.memory[wrong[i].memory];
    float *values = gdr_allocate(buffer.bytes, 1);
    gdr_device_place.read(buffer, values);
    const float kept = values[wrong[i].index];
    values[wrong[i].index] = wrong[i].value;
    gdr_device_write(buffer, values);
    args.values[PREFILL_CHECK] = pega_value_bool(true);
    REFUSED(PEGA_ERROR_RANGE, wrong[i].text);
    values[wrong[i].index] = kept;
    gdr_device_write(buffer, values);
    free(values);
  }
  uint16_t *k = gdr_allocate(it.memory[IN_K].bytes, 1);
  gdr_device_place.read(it.memory[IN_K], k);
  for (int d = 0; d < kGdrDim; ++d) k[3 * kGdrDim + d] = 0x4000;
  gdr_device_write(it.memory[IN_K], k);
  args.values[PREFILL_CHECK] = pega_value_bool(true);
  REFUSED(PEGA_ERROR_RANGE, "row [1, 1] of 'k'", "normalize");
  free(k);
  unmake_call(&it);
}

/* ---- more elements than 32 bits count ---- */

/* Copies `rows` rows of `row_bytes` on the device, again and again, until `all_rows` are there. */
static CUdeviceptr repeat(const void *from, int64_t rows, int64_t row_bytes, int64_t all_rows) {
  CUdeviceptr memory;
  GPU_OK(gpu.alloc(&memory, (size_t)(all_rows * row_bytes)));
  GPU_OK(gpu.copy_in(memory, from, (size_t)(rows * row_bytes)));
  for (int64_t row = rows; row < all_rows; row += rows) {
    const int64_t left = all_rows - row < rows ? all_rows - row : rows;
    GPU_OK(gpu.copy_async(memory + (CUdeviceptr)(row * row_bytes), memory,
                          (size_t)(left * row_bytes), NULL));
  }
  return memory;
}

static const void *at(CUdeviceptr memory) { return (const void *)(uintptr_t)memory; }

/* v and the output have more than 2^31 elements each, so have w and u in the workspace. Rows repeat
 * with a period that no power of two has anything in common with: an index cut to fewer bits finds
 * another row. */
static void run_past_31_bits(const char *implementation, int64_t num_tokens, int64_t hk,
                             int64_t hv) {
  enum { kPeriod = 4099, kSampled = 3, kWindow = 64, kWindows = 6, kCanary = 4096 };
  const gdr_options options = {.num_key_heads = hk,
                               .num_value_heads = hv,
                               .lengths = &num_tokens,
                               .num_sequences = 1,
                               .lowest_gate = -0.1,
                               .seed = 400,
                               .period = kPeriod};
  const int64_t row = hv * kGdrDim;
  const size_t out_bytes = (size_t)(num_tokens * row) * 2;
  const size_t wanted = 12 * out_bytes / 2 + ((size_t)2 << 30);
  size_t available = 0;
  size_t total = 0;
  GPU_OK(gpu.memory_info(&available, &total));
  if (available < wanted) {
    printf("SKIP: more than 2^31 elements: needs %zu MB of GPU memory, %zu MB are free\n",
           wanted >> 20, available >> 20);
    skip();
  }
  gdr_problem problem = gdr_problem_create(&options);
  const CUdeviceptr q = repeat(problem.q, kPeriod, hk * kGdrDim * 2, num_tokens);
  const CUdeviceptr k = repeat(problem.k, kPeriod, hk * kGdrDim * 2, num_tokens);
  const CUdeviceptr v = repeat(problem.v, kPeriod, row * 2, num_tokens);
  const CUdeviceptr g = repeat(problem.g, kPeriod, hv * 4, num_tokens);
  const CUdeviceptr beta = repeat(problem.beta, kPeriod, hv * 4, num_tokens);
  CUdeviceptr output;
  CUdeviceptr final_state;
  GPU_OK(gpu.alloc(&output, out_bytes + kCanary));
  GPU_OK(gpu.alloc(&final_state, (size_t)(hv * kGdrState) * 4));
  GPU_OK(gpu.set_bytes(output, 0xff, out_bytes + kCanary));
  GPU_OK(gpu.set_bytes(final_state, 0xff, (size_t)(hv * kGdrState) * 4));
  const gdr_memory memory = {.device = CUDA0,
                             .q = at(q),
                             .k = at(k),
                             .v = at(v),
                             .g = at(g),
                             .beta = at(beta),
                             .output = at(output),
                             .final_state = at(final_state)};
  gdr_args args;
  gdr_prefill_args(&args, &problem, &memory);
  args.values[PREFILL_IMPLEMENTATION] = pega_value_string(implementation);
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_OK(gdr_device_call(&args, NULL, &error), &error);
  GPU_OK(gpu.synchronize());

  /* Windows of tokens: the ends, and where an offset in elements or bytes passes a power of two. */
  const int64_t heads[kSampled] = {0, hv / 2 + 1 < hv ? hv / 2 + 1 : 0, hv - 1};
  const int64_t begins[kWindows] = {0,
                                    ((int64_t)1 << 29) / row - kWindow / 2,
                                    ((int64_t)1 << 30) / row - kWindow / 2,
                                    num_tokens / 4 * 3,
                                    ((int64_t)1 << 31) / row - kWindow / 2,
                                    num_tokens - kWindow};
  int64_t tokens[kWindows * kWindow];
  int num_windows = 0;
  for (int w = 0; w < kWindows; ++w) {
    /* Of a run with fewer elements those that are there, rising. */
    const int64_t last = num_windows == 0 ? -1 : tokens[num_windows * kWindow - 1];
    if (begins[w] <= last || begins[w] + kWindow > num_tokens) continue;
    for (int i = 0; i < kWindow; ++i) tokens[num_windows * kWindow + i] = begins[w] + i;
    ++num_windows;
  }
  const int64_t num_kept = num_windows * kWindow;
  double *outputs = gdr_allocate(kSampled * num_kept * kGdrDim, sizeof *outputs);
  double *states = gdr_allocate(kSampled * kGdrState, sizeof *states);
  gdr_walk_heads(&problem, heads, kSampled, tokens, num_kept, outputs, states);
  uint16_t *rows = gdr_allocate(num_kept * row, 2);
  for (int64_t i = 0; i < num_kept; i += kWindow) {
    GPU_OK(gpu.copy_out(rows + i * row, output + (CUdeviceptr)(tokens[i] * row * 2),
                        (size_t)(kWindow * row) * 2));
  }
  uint16_t *of_head = gdr_allocate(num_kept * kGdrDim, 2);
  float *state = gdr_allocate(kGdrState, 4);
  for (int h = 0; h < kSampled; ++h) {
    for (int64_t i = 0; i < num_kept; ++i) {
      memcpy(of_head + i * kGdrDim, rows + i * row + heads[h] * kGdrDim, kGdrDim * 2);
    }
    GPU_OK(
        gpu.copy_out(state, final_state + (CUdeviceptr)(heads[h] * kGdrState * 4), kGdrState * 4));
    const gdr_error out =
        gdr_compare_bf16(of_head, outputs + h * num_kept * kGdrDim, num_kept * kGdrDim);
    const gdr_error final = gdr_compare_f32(state, states + h * kGdrState, kGdrState);
    printf(
        "%s T=%lld HV=%d, %lld elements of v: head %d, %d rows: output rms %.2e, final state "
        "rms %.2e\n",
        implementation, (long long)num_tokens, (int)hv, (long long)(num_tokens * row),
        (int)heads[h], (int)num_kept, out.rms, final.rms);
    gdr_expect_within("output", out, device.output_limit, &problem, implementation, "a long run");
    gdr_expect_within("final state", final, device.state_limit, &problem, implementation,
                      "a long run");
  }
  unsigned char behind[kCanary];
  GPU_OK(gpu.copy_out(behind, output + out_bytes, kCanary));
  for (int i = 0; i < kCanary; ++i) assert_int_equal(behind[i], 0xff);
  void *const all[] = {outputs, states, rows, of_head, state};
  for (int i = 0; i < COUNT(all); ++i) free(all[i]);
  const CUdeviceptr memories[] = {q, k, v, g, beta, output, final_state};
  for (int i = 0; i < COUNT(memories); ++i) GPU_OK(gpu.release(memories[i]));
  gdr_problem_free(&problem);
}

static void test_past_31_bits(void **state) {
  (void)state;
  if (gdr_device_exact) skip();
  if (fixture_rehearsal("long runs and more than 2^31 elements")) skip();
  run_past_31_bits("triton_chunked", 262144 + 200, 16, 64);
  run_past_31_bits("triton_fused", 262144 + 200, 16, 64);
  run_past_31_bits("cuda_recurrent", 262144 + 200, 16, 64);
}

/* Problems of random sizes. PEGA_TEST_SEED chooses others. */
static void test_random_problems(void **state) {
  (void)state;
  enum { kProblems = 25, kMostSequences = 6 };
  const char *text = getenv("PEGA_TEST_SEED");
  uint64_t seed = text == NULL ? 20261122 : strtoull(text, NULL, 10);
  printf("random problems from PEGA_TEST_SEED=%llu\n", (unsigned long long)seed);
  for (int i = 0; i < (device.brief ? 2 : kProblems); ++i) {
    int64_t lengths[kMostSequences];
    const int64_t num_sequences = 1 + (int64_t)(gdr_uniform(&seed) * kMostSequences);
    for (int64_t n = 0; n < num_sequences; ++n) {
      const double size = gdr_uniform(&seed);
      lengths[n] = (int64_t)(size * size * 300);
    }
    const int64_t key_heads = 1 + (int64_t)(gdr_uniform(&seed) * 4);
    const gdr_options options = {
        .num_key_heads = key_heads,
        .num_value_heads = key_heads * (1 + (int64_t)(gdr_uniform(&seed) * 4)),
        .lengths = lengths,
        .num_sequences = num_sequences,
        .lowest_gate = -10 * gdr_uniform(&seed),
        .state_size = gdr_uniform(&seed) < 0.5 ? 0.3 : 0,
        .seed = seed};
    gdr_problem problem = gdr_problem_create(&options);
    gdr_run_prefills(&device, &problem,
                     (gdr_variation){.cu_bits = i % 2 == 0 ? 32 : 64, .workspace = i % 3 == 0},
                     "a random problem");
    gdr_problem_free(&problem);
  }
}

/* A large batch of short sequences. */
static void test_many_sequences(void **state) {
  (void)state;
  if (gdr_device_exact) skip();
  enum { kLongest = 7 };
  const int many = gpu.fake ? 100 : 3000;
  int64_t *lengths = gdr_allocate(many, sizeof *lengths);
  for (int i = 0; i < many; ++i) lengths[i] = (i * 5 + i / 11) % (kLongest + 1);
  const gdr_options options = {.num_key_heads = 1,
                               .num_value_heads = 2,
                               .lengths = lengths,
                               .num_sequences = many,
                               .lowest_gate = -0.1,
                               .seed = 500};
  gdr_problem problem = gdr_problem_create(&options);
  gdr_run_prefills(&device, &problem, (gdr_variation){.cu_bits = 32}, "many short sequences");
  gdr_problem_free(&problem);
  free(lengths);
}

int main(void) {
  const int status = gdr_device_begin(PEGA_QWEN35_PREFILL);
  if (status != 0) return status;
  device = gdr_device_setting(implementations, COUNT(implementations));
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_measured_inputs),
      cmocka_unit_test(test_heads),
      cmocka_unit_test(test_lengths),
      cmocka_unit_test(test_sequences),
      cmocka_unit_test(test_sequences_are_alone),
      cmocka_unit_test(test_projected),
      cmocka_unit_test(test_normalize),
      cmocka_unit_test(test_scale),
      cmocka_unit_test(test_extremes),
      cmocka_unit_test(test_in_place),
      cmocka_unit_test(test_carried_states),
      cmocka_unit_test(test_workspace),
      cmocka_unit_test(test_agrees_with_the_cpu),
      cmocka_unit_test(test_wrong_lengths),
      cmocka_unit_test(test_capture),
      cmocka_unit_test(test_refused_in_capture),
      cmocka_unit_test(test_current_stream),
      cmocka_unit_test(test_refused),
      cmocka_unit_test(test_many_sequences),
      cmocka_unit_test(test_past_31_bits),
      cmocka_unit_test(test_random_problems),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
