/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The prefill by FlashInfer's kernels, provided from a module that tools/dsl/flashinfer_gdn.py
 * built (PEGA_TEST_FLASHINFER), on the cases of every implementation against the recurrence in
 * fp64; and, with the argument "time", how long a prefill takes beside the library's own.
 */
#include <pega/artifact.h>
#include <pega/tvm_ffi.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "gdr_device.h"

static const char *const implementations[] = {"flashinfer", "flashinfer_cp", "triton_chunked"};
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

static double now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* The module's function with the time that its calls take. */
static double inside_ns;

static pega_status call_timed(void *self, const pega_value *args, int32_t num_args,
                              pega_value *result, pega_error *error) {
  const double begin = now_ns();
  const pega_status status = pega_function_call(self, args, num_args, result, error);
  inside_ns += now_ns() - begin;
  return status;
}

static void make_timed(pega_function **function) {
  pega_error error = PEGA_ERROR_INIT;
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  options.call = call_timed;
  options.self = *function; /* kept for the rest of the process */
  EXPECT_OK(pega_function_create(&options, function, &error), &error);
}

/* Opens the module and provides its function. 0, or the exit status of a program that cannot run
 * here. */
static int provide(bool timed) {
  const char *path = getenv("PEGA_TEST_FLASHINFER");
  if (path == NULL || access(path, R_OK) != 0) {
    printf("SKIP: %s is not there; tools/dsl/flashinfer_gdn.py makes it\n",
           path == NULL ? "the module (PEGA_TEST_FLASHINFER)" : path);
    return SUPPORT_SKIP;
  }
  pega_error error = PEGA_ERROR_INIT;
  pega_artifact_options options = PEGA_ARTIFACT_OPTIONS_INIT;
  pega_artifact *artifact = NULL;
  pega_function *function = NULL;
  options.path = path;
  pega_status status = pega_tvm_ffi_add_loader(NULL, &error);
  if (status == PEGA_OK) status = pega_artifact_open(&options, &artifact, &error);
  if (status == PEGA_OK) {
    status = pega_artifact_get(artifact, "gated_delta_rule_prefill", &function, &error);
  }
  if (timed && status == PEGA_OK) make_timed(&function);
  for (int i = 0; i < 2 && status == PEGA_OK; ++i) {
    status = pega_qwen35_provide_prefill(implementations[i], function, &error);
  }
  if (status != PEGA_OK) printf("%s\n", pega_error_message(&error));
  pega_error_clear(&error);
  pega_function_release(function);
  pega_artifact_release(artifact);
  return status == PEGA_OK ? 0 : 1;
}

/* ---- a call on memory that stays ---- */

typedef struct call {
  gdr_args args;
  CUdeviceptr memory[10];
  int count;
} call;

static const void *put(call *it, const void *from, int64_t part, int64_t bytes) {
  CUdeviceptr memory;
  GPU_OK(gpu.alloc(&memory, (size_t)bytes));
  it->memory[it->count++] = memory;
  if (from == NULL) {
    GPU_OK(gpu.set_bytes(memory, 0, (size_t)bytes));
    return (const void *)(uintptr_t)memory;
  }
  GPU_OK(gpu.copy_in(memory, from, (size_t)part));
  for (int64_t done = part; done < bytes; done += part) {
    const int64_t left = bytes - done < part ? bytes - done : part;
    GPU_OK(gpu.copy_async(memory + (CUdeviceptr)done, memory, (size_t)left, NULL));
  }
  return (const void *)(uintptr_t)memory;
}

/* One sequence of `tokens`, whose rows repeat every 512; with a workspace and a final state. */
static void make_call(call *it, const char *implementation, int64_t tokens, int64_t hk, int64_t hv,
                      bool initial) {
  int64_t few = tokens < 512 ? tokens : 512;
  const gdr_options options = {.num_key_heads = hk,
                               .num_value_heads = hv,
                               .lengths = &few,
                               .num_sequences = 1,
                               .lowest_gate = -0.1,
                               .state_size = 0.3,
                               .seed = 600};
  gdr_problem problem = gdr_problem_create(&options);
  memset(it, 0, sizeof *it);
  const int64_t key_row = hk * kGdrDim * 2;
  const int64_t row = hv * kGdrDim * 2;
  gdr_memory memory = {.device = CUDA0, .cu_bits = 64};
  memory.q = put(it, problem.q, few * key_row, tokens * key_row);
  memory.k = put(it, problem.k, few * key_row, tokens * key_row);
  memory.v = put(it, problem.v, few * row, tokens * row);
  memory.g = put(it, problem.g, few * hv * 4, tokens * hv * 4);
  memory.beta = put(it, problem.beta, few * hv * 4, tokens * hv * 4);
  if (initial) {
    memory.initial_state = put(it, problem.initial_state, hv * kGdrState * 4, hv * kGdrState * 4);
  }
  memory.output = put(it, NULL, 0, tokens * row);
  memory.final_state = put(it, NULL, 0, hv * kGdrState * 4);
  gdr_problem sizes = problem;
  sizes.num_tokens = tokens;
  gdr_prefill_args(&it->args, &sizes, &memory);
  it->args.values[PREFILL_IMPLEMENTATION] = pega_value_string(implementation);
  const int64_t bytes = gdr_workspace_bytes(&sizes, CUDA0, false, false, implementation);
  gdr_set_tensor(&it->args, PREFILL_WORKSPACE, CUDA0, UINT8, put(it, NULL, 0, bytes), 1, &bytes);
  GPU_OK(gpu.synchronize());
  gdr_problem_free(&problem);
}

static void unmake_call(call *it) {
  for (int i = 0; i < it->count; ++i) GPU_OK(gpu.release(it->memory[i]));
}

/* ---- capture: nothing of the module was loaded before ---- */

static void test_captured_first(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_OK(pega_function_prepare(fixture_function(PEGA_QWEN35_PREFILL), CUDA0, &error), &error);
  for (int i = 0; i < 4; ++i) {
    call it;
    make_call(&it, implementations[i % 2], 700, 2, i < 2 ? 4 : 32, i % 3 != 0);
    CUstream stream;
    CUgraph graph = NULL;
    CUgraphExec exec;
    GPU_OK(gpu.stream_create(&stream, GPU_STREAM_NON_BLOCKING));
    GPU_OK(gpu.capture_begin(stream, GPU_CAPTURE_GLOBAL));
    const pega_status status = gdr_device_call(&it.args, stream, &error);
    int capturing = 0;
    const CUresult now = gpu.capture_status(stream, &capturing);
    printf("%s captured before its first call: %s; the capture is %s\n", implementations[i % 2],
           status == PEGA_OK ? "fine" : pega_error_message(&error),
           now == 0 && capturing == GPU_CAPTURE_ACTIVE ? "valid" : "not valid");
    const CUresult ended = gpu.capture_end(stream, &graph);
    assert_int_equal(status, PEGA_OK);
    assert_int_equal(ended, 0);
    GPU_OK(gpu.graph_instantiate(&exec, graph, 0));
    const size_t bytes = (size_t)(700 * (i < 2 ? 4 : 32) * kGdrDim * 2);
    const CUdeviceptr output = (CUdeviceptr)(uintptr_t)it.args.tensors[PREFILL_OUTPUT].data;
    unsigned char *replayed = gdr_allocate((int64_t)bytes, 1);
    unsigned char *called = gdr_allocate((int64_t)bytes, 1);
    GPU_OK(gpu.graph_launch(exec, stream));
    GPU_OK(gpu.stream_synchronize(stream));
    GPU_OK(gpu.copy_out(replayed, output, bytes));
    GPU_OK(gpu.set_bytes(output, 0, bytes));
    EXPECT_OK(gdr_device_call(&it.args, stream, &error), &error);
    GPU_OK(gpu.stream_synchronize(stream));
    GPU_OK(gpu.copy_out(called, output, bytes));
    assert_memory_equal(replayed, called, bytes);
    free(replayed);
    free(called);
    GPU_OK(gpu.exec_destroy(exec));
    GPU_OK(gpu.graph_destroy(graph));
    GPU_OK(gpu.stream_destroy(stream));
    unmake_call(&it);
  }
}

/* ---- lengths and sequences that the cases have not ---- */

static void test_long(void **state) {
  (void)state;
  if (gdr_device_exact) skip();
  static const int64_t one[] = {512};
  static const int64_t long_one[] = {8192};
  static const int64_t several[] = {1500, 0, 64, 1, 700, 63, 2100};
  static const struct {
    const int64_t *lengths;
    int64_t count, hk, hv;
  } all[] = {{one, 1, 16, 32}, {long_one, 1, 2, 4}, {several, 7, 4, 8}, {several, 7, 2, 32}};
  for (int i = 0; i < COUNT(all); ++i) {
    for (int with = 0; with < 2; ++with) {
      const gdr_options options = {.num_key_heads = all[i].hk,
                                   .num_value_heads = all[i].hv,
                                   .lengths = all[i].lengths,
                                   .num_sequences = all[i].count,
                                   .lowest_gate = with == 0 ? -0.1 : -10,
                                   .state_size = with == 0 ? 0.3 : 0,
                                   .seed = 700 + (uint64_t)i};
      gdr_problem problem = gdr_problem_create(&options);
      gdr_run_prefills(&device, &problem, (gdr_variation){.cu_bits = all[i].count == 1 ? -1 : 32},
                       "long");
      gdr_problem_free(&problem);
    }
  }
}

/* How far off each is, beside the library's own. */
static void test_errors(void **state) {
  (void)state;
  if (gdr_device_exact) skip();
  static const int64_t batch[] = {700, 1, 0, 1500, 63, 64};
  static const struct {
    int64_t lengths; /* 0: those of the batch */
    int64_t hk, hv;
  } all[] = {{1, 16, 32},    {63, 16, 32},   {64, 16, 32}, {65, 16, 32}, {512, 16, 32},
             {1000, 16, 32}, {1000, 16, 48}, {8192, 4, 8}, {1000, 8, 8}, {0, 4, 8}};
  for (int i = 0; i < COUNT(all); ++i) {
    for (int strong = 0; strong < 2; ++strong) {
      const bool many = all[i].lengths == 0;
      const gdr_options options = {.num_key_heads = all[i].hk,
                                   .num_value_heads = all[i].hv,
                                   .lengths = many ? batch : &all[i].lengths,
                                   .num_sequences = many ? COUNT(batch) : 1,
                                   .lowest_gate = strong == 1 ? -10 : -0.1,
                                   .state_size = i % 2 == 0 ? 0.3 : 0,
                                   .seed = 900 + (uint64_t)i};
      gdr_problem problem = gdr_problem_create(&options);
      gdr_answer answer = gdr_solve_recurrence(&problem);
      for (int j = 0; j < COUNT(implementations); ++j) {
        const gdr_variation how = {.implementation = implementations[j], .cu_bits = many ? 32 : -1};
        const gdr_outcome out =
            gdr_run_prefill(&device, &problem, &answer, &how, "how far off", false);
        printf(
            "T=%-5lld N=%d HK=%-2d HV=%-2d g in [%4.1f, 0] %s %-14s: output rms %.2e max %.2e, final "
            "state rms %.2e max %.2e\n",
            (long long)problem.num_tokens, (int)problem.num_sequences, (int)all[i].hk,
            (int)all[i].hv, options.lowest_gate, i % 2 == 0 ? "state" : "zeros", implementations[j],
            out.output.rms, out.output.max, out.final_state.rms, out.final_state.max);
      }
      gdr_answer_free(&answer);
      gdr_problem_free(&problem);
    }
  }
}

/* Whatever cu_seqlens holds, nothing outside is touched, and the device is as well as before. */
static void test_wrong_lengths(void **state) {
  (void)state;
  if (gdr_device_exact) skip(); /* margins are looked at */
  static const int64_t lengths[] = {65, 0, 135};
  static const int64_t wrong[][4] = {{-1, -5, 1000, 200},
                                     {0, 100000, 100001, 200},
                                     {200, 100, 50, 0},
                                     {0, 150, 20, 170},
                                     {INT64_MIN, INT64_MAX, INT64_MIN, INT64_MAX},
                                     {0, 0, 0, 0}};
  const gdr_options options = {.num_key_heads = 2,
                               .num_value_heads = 4,
                               .lengths = lengths,
                               .num_sequences = 3,
                               .lowest_gate = -0.1,
                               .state_size = 0.3,
                               .seed = 800};
  gdr_problem problem = gdr_problem_create(&options);
  gdr_answer answer = gdr_solve_recurrence(&problem);
  int64_t kept[4];
  memcpy(kept, problem.cu_seqlens, sizeof kept);
  for (int i = 0; i < 2; ++i) {
    call it;
    memset(&it, 0, sizeof it);
    const int64_t states = 3 * 4 * kGdrState * 4;
    gdr_memory memory = {.device = CUDA0, .cu_bits = 64};
    memory.q = put(&it, problem.q, 200 * 2 * 256, 200 * 2 * 256);
    memory.k = put(&it, problem.k, 200 * 2 * 256, 200 * 2 * 256);
    memory.v = put(&it, problem.v, 200 * 4 * 256, 200 * 4 * 256);
    memory.g = put(&it, problem.g, 200 * 4 * 4, 200 * 4 * 4);
    memory.beta = put(&it, problem.beta, 200 * 4 * 4, 200 * 4 * 4);
    memory.initial_state = put(&it, problem.initial_state, states, states);
    memory.cu_seqlens = put(&it, kept, 32, 32);
    const gdr_buffer output = gdr_device_place.create(200 * 4 * 256, NULL);
    const gdr_buffer final_state = gdr_device_place.create(states, NULL);
    memory.output = output.data;
    memory.final_state = final_state.data;
    gdr_prefill_args(&it.args, &problem, &memory);
    it.args.values[PREFILL_IMPLEMENTATION] = pega_value_string(implementations[i]);
    pega_error error = PEGA_ERROR_INIT;
    const CUdeviceptr cu = (CUdeviceptr)(uintptr_t)memory.cu_seqlens;
    for (int w = 0; w < COUNT(wrong); ++w) {
      GPU_OK(gpu.copy_in(cu, wrong[w], 32));
      EXPECT_OK(gdr_device_call(&it.args, NULL, &error), &error);
      GPU_OK(gpu.synchronize());
      assert_true(gdr_device_place.intact(output) && gdr_device_place.intact(final_state));
    }
    GPU_OK(gpu.copy_in(cu, kept, 32));
    EXPECT_OK(gdr_device_call(&it.args, NULL, &error), &error);
    GPU_OK(gpu.synchronize());
    uint16_t *outputs = gdr_allocate(output.bytes, 1);
    gdr_device_place.read(output, outputs);
    gdr_expect_within("output", gdr_compare_bf16(outputs, answer.output, 200 * 4 * kGdrDim),
                      device.output_limit, &problem, implementations[i], "after wrong lengths");
    free(outputs);
    gdr_device_place.destroy(output);
    gdr_device_place.destroy(final_state);
    unmake_call(&it);
  }
  gdr_answer_free(&answer);
  gdr_problem_free(&problem);
}

/* In a context that is not the primary one; the caller's stays current. */
static void test_other_context(void **state) {
  (void)state;
  CUcontext before = NULL;
  CUcontext other = NULL;
  CUcontext after = NULL;
  GPU_OK(gpu.context_get(&before));
  GPU_OK(gpu_context_create(&other));
  pega_error error = PEGA_ERROR_INIT;
  for (int i = 0; i < 2; ++i) {
    call it;
    make_call(&it, implementations[i], 300, 2, 4, true);
    CUstream stream;
    GPU_OK(gpu.stream_create(&stream, GPU_STREAM_NON_BLOCKING));
    const pega_status status = gdr_device_call(&it.args, stream, &error);
    GPU_OK(gpu.context_get(&after));
    printf("%s in another context: %s; %s is current then\n", implementations[i],
           status == PEGA_OK ? "fine" : pega_error_message(&error),
           after == other ? "it" : "another one");
    if (status == PEGA_OK) GPU_OK(gpu.stream_synchronize(stream));
    assert_ptr_equal(after, other);
    pega_error_clear(&error);
    GPU_OK(gpu.context_set(other));
    GPU_OK(gpu.stream_destroy(stream));
    unmake_call(&it);
  }
  GPU_OK(gpu.context_set(before));
  GPU_OK(gpu.context_destroy(other));
}

/* ---- time ---- */

enum { kWarm = 3, kTimes = 20 };

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a;
  const double y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(double *values, int count) {
  qsort(values, (size_t)count, sizeof *values, ascending);
  return values[count / 2];
}

/* Of a call: microseconds on the GPU by a replayed graph, and by events around a call; the same by the
 * clock until the host knows that it is done; nanoseconds that the call takes on the host, and how many of
 * them in the module's function. */
static void time_one(const char *implementation, int64_t tokens, int64_t hk, int64_t hv) {
  call it;
  make_call(&it, implementation, tokens, hk, hv, false);
  pega_error error = PEGA_ERROR_INIT;
  CUstream stream;
  CUgraph graph;
  CUgraphExec exec;
  pega_function *function = fixture_function(it.args.name);
  static CUevent from;
  static CUevent to;
  GPU_OK(gpu.stream_create(&stream, GPU_STREAM_NON_BLOCKING));
  if (from == NULL) GPU_OK(gpu.event_create(&from, 0));
  if (to == NULL) GPU_OK(gpu.event_create(&to, 0));
  double replays[kTimes];
  double eager[kTimes];
  double wall[kTimes];
  double host[kTimes];
  double inside[kTimes];
  for (int i = 0; i < kWarm; ++i) EXPECT_OK(gdr_device_call(&it.args, stream, &error), &error);
  GPU_OK(gpu.stream_synchronize(stream));
  EXPECT_OK(pega_stream_set(CUDA0, stream, NULL, &error), &error);
  for (int i = 0; i < kTimes; ++i) {
    float ms = 0;
    GPU_OK(gpu.event_record(from, stream));
    EXPECT_OK(pega_function_call(function, it.args.values, it.args.count, NULL, &error), &error);
    GPU_OK(gpu.event_record(to, stream));
    GPU_OK(gpu.event_synchronize(to));
    GPU_OK(gpu.event_elapsed(&ms, from, to));
    eager[i] = 1e3 * (double)ms;
    const double start = now_ns();
    EXPECT_OK(pega_function_call(function, it.args.values, it.args.count, NULL, &error), &error);
    GPU_OK(gpu.stream_synchronize(stream));
    wall[i] = (now_ns() - start) / 1e3;
    enum { kBatch = 50 };
    const int batch = tokens > 2048 ? 4 : kBatch;
    inside_ns = 0;
    const double begin = now_ns();
    pega_status status = PEGA_OK;
    for (int j = 0; j < batch && status == PEGA_OK; ++j) {
      status = pega_function_call(function, it.args.values, it.args.count, NULL, &error);
    }
    host[i] = (now_ns() - begin) / batch;
    inside[i] = inside_ns / batch;
    EXPECT_OK(status, &error);
    GPU_OK(gpu.stream_synchronize(stream));
  }
  GPU_OK(gpu.capture_begin(stream, GPU_CAPTURE_GLOBAL));
  EXPECT_OK(gdr_run(&it.args, &error), &error);
  GPU_OK(gpu.capture_end(stream, &graph));
  GPU_OK(gpu.graph_instantiate(&exec, graph, 0));
  for (int i = 0; i < kWarm + kTimes; ++i) {
    float ms = 0;
    GPU_OK(gpu.event_record(from, stream));
    GPU_OK(gpu.graph_launch(exec, stream));
    GPU_OK(gpu.event_record(to, stream));
    GPU_OK(gpu.event_synchronize(to));
    GPU_OK(gpu.event_elapsed(&ms, from, to));
    if (i >= kWarm) replays[i - kWarm] = 1e3 * (double)ms;
  }
  EXPECT_OK(pega_stream_set(CUDA0, NULL, NULL, &error), &error);
  printf(
      "  %-14s T=%6lld HK=%d HV=%d: graph %8.1f us, events %8.1f us, wall %8.1f us, host %7.0f ns, of "
      "which the module %6.0f\n",
      implementation, (long long)tokens, (int)hk, (int)hv, median(replays, kTimes),
      median(eager, kTimes), median(wall, kTimes), median(host, kTimes), median(inside, kTimes));
  GPU_OK(gpu.exec_destroy(exec));
  GPU_OK(gpu.graph_destroy(graph));
  GPU_OK(gpu.stream_destroy(stream));
  unmake_call(&it);
}

static void test_time(void **state) {
  (void)state;
  static const int64_t lengths[] = {64, 128, 256, 512, 1024, 2048, 4096, 8192, 32768};
  printf("medians of %d; one sequence, no initial state, a workspace given\n", kTimes);
  for (int t = 0; t < COUNT(lengths); ++t) {
    for (int i = 0; i < COUNT(implementations); ++i) {
      time_one(implementations[i], lengths[t], 16, 32);
    }
  }
  for (int i = 0; i < COUNT(implementations); ++i) time_one(implementations[i], 8192, 4, 8);
}

int main(int argc, char **argv) {
  const int status = gdr_device_begin(PEGA_QWEN35_PREFILL);
  if (status != 0) return status;
  if (gpu.fake) {
    printf("SKIP: a rehearsal runs no kernel, and these are not the library's\n");
    return SUPPORT_SKIP;
  }
  const bool timed = argc > 1 && strcmp(argv[1], "time") == 0;
  const int provided = provide(timed);
  if (provided != 0) return provided;
  device = gdr_device_setting(implementations, COUNT(implementations));
  /* More is rounded than in the library's own kernels, which shows most where there are few
   * tokens. */
  device.output_limit = 6e-3;
  device.state_limit = 4e-3;
  if (timed) {
    const struct CMUnitTest times[] = {cmocka_unit_test(test_time)};
    return cmocka_run_group_tests(times, NULL, NULL);
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_captured_first), cmocka_unit_test(test_measured_inputs),
      cmocka_unit_test(test_heads),          cmocka_unit_test(test_lengths),
      cmocka_unit_test(test_sequences),      cmocka_unit_test(test_sequences_are_alone),
      cmocka_unit_test(test_projected),      cmocka_unit_test(test_normalize),
      cmocka_unit_test(test_scale),          cmocka_unit_test(test_extremes),
      cmocka_unit_test(test_in_place),       cmocka_unit_test(test_carried_states),
      cmocka_unit_test(test_workspace),      cmocka_unit_test(test_long),
      cmocka_unit_test(test_errors),         cmocka_unit_test(test_wrong_lengths),
      cmocka_unit_test(test_other_context),
  };
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  printf(
      "ROW {\"dsl\": \"FlashInfer\", \"artifact\": \"flashinfer/flashinfer_gdn_sm90.so\", "
      "\"function\": \"prefill\", \"ran\": %s}\n",
      failed == 0 ? "true" : "false");
  return failed;
}
