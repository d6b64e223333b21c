/* SPDX-License-Identifier: Apache-2.0 */
/* The handwritten CUDA library, opened through its signature file: RMS norm against its formula in fp64,
 * the decode step against the library's own on the CPU, streams, contexts, errors. PEGA_TEST_HANDWRITTEN
 * names the library. */
#include <math.h>
#include <pega/artifact.h>
#include <pega/qwen35.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cuda.h"
#include "support.h"

#define GPU_OK(call)                                                                     \
  do {                                                                                   \
    const CUresult result_ = (call);                                                     \
    if (result_ != 0) fail_msg("%s: %s (%d)", #call, gpu_result_name(result_), result_); \
  } while (0)
#define CUDA0 DEVICE(kDLCUDA, 0)
#define FLOAT16 DTYPE(kDLFloat, 16, 1)
#define UINT64 DTYPE(kDLUInt, 64, 1)

static pega_artifact *artifact;
static CUcontext primary;

static pega_function *get(const char *name) {
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function = NULL;
  EXPECT_OK(pega_artifact_get(artifact, name, &function, &error), &error);
  return function;
}

/* ---- Numbers ---- */

static uint64_t random_state = 1;
static double uniform(double low, double high) {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return low + (high - low) * (double)(random_state >> 11) / 9007199254740992.0;
}

static uint16_t to_bf16(double value) {
  const float narrow = (float)value;
  uint32_t bits;
  memcpy(&bits, &narrow, sizeof bits);
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* Exact for what the tests put in: whole multiples of 2^-10 below 8. */
static uint16_t to_fp16(double value) {
  const double size = fabs(value);
  if (size == 0) return 0;
  int exponent;
  frexp(size, &exponent); /* size = f 2^exponent, f in [1/2, 1) */
  const long fraction = lrint(ldexp(size, 11 - exponent));
  return (uint16_t)((value < 0 ? 0x8000 : 0) | (((exponent + 13) << 10) + (int)fraction));
}

static double from_fp16(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double size = exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
  return bits & 0x8000 ? -size : size;
}

typedef struct format {
  const char *name;
  DLDataType dtype;
  size_t size;
  double step; /* half a unit in the last place, relative */
} format;

static const format formats[] = {
    {"pegainfer.handwritten.rms_norm_bf16", {kDLBfloat, 16, 1}, 2, 0x1p-8},
    {"pegainfer.handwritten.rms_norm_fp16", {kDLFloat, 16, 1}, 2, 0x1p-11},
    {"pegainfer.handwritten.rms_norm_fp32", {kDLFloat, 32, 1}, 4, 0x1p-21},
};

static double load(const format *of, const void *memory, size_t index) {
  float value;
  if (of->size == 4) {
    memcpy(&value, (const char *)memory + 4 * index, sizeof value);
    return (double)value;
  }
  uint16_t bits;
  memcpy(&bits, (const char *)memory + 2 * index, sizeof bits);
  if (of->dtype.code == kDLFloat) return from_fp16(bits);
  const uint32_t wide = (uint32_t)bits << 16;
  memcpy(&value, &wide, sizeof value);
  return (double)value;
}

static void store(const format *of, void *memory, size_t index, double number) {
  const float value = (float)number;
  const uint16_t bits = of->dtype.code == kDLBfloat ? to_bf16(number) : to_fp16(number);
  if (of->size == 4) {
    memcpy((char *)memory + 4 * index, &value, sizeof value);
  } else {
    memcpy((char *)memory + 2 * index, &bits, sizeof bits);
  }
}

static DLTensor cuda_tensor(CUdeviceptr data, DLDataType dtype, int32_t ndim, int64_t *shape) {
  return (DLTensor){.data = (void *)(uintptr_t)data,
                    .device = CUDA0,
                    .ndim = ndim,
                    .dtype = dtype,
                    .shape = shape};
}

static CUdeviceptr upload(const void *bytes, size_t size) {
  CUdeviceptr memory;
  GPU_OK(gpu.alloc(&memory, size + 16));
  GPU_OK(gpu.copy_in(memory, bytes, size));
  return memory;
}

/* ---- RMS norm ---- */

/* Rows and columns; the first element is `offset` elements behind an aligned address. */
static void norm_case(const format *of, int64_t rows, int64_t cols, int64_t offset, bool in_place) {
  const size_t count = (size_t)(rows * cols), room = count + (size_t)offset + 64;
  void *x = calloc(room, of->size), *weight = calloc((size_t)cols + 64, of->size);
  unsigned char *y = malloc(room * of->size);
  for (size_t i = 0; i < count; ++i) {
    store(of, x, (size_t)offset + i, floor(uniform(-2048, 2048)) / 1024);
  }
  for (int64_t i = 0; i < cols; ++i) {
    store(of, weight, (size_t)i, floor(uniform(512, 1536)) / 1024);
  }
  const CUdeviceptr x_gpu = upload(x, room * of->size);
  const CUdeviceptr weight_gpu = upload(weight, ((size_t)cols + 64) * of->size);
  CUdeviceptr y_gpu = x_gpu;
  if (!in_place) {
    GPU_OK(gpu.alloc(&y_gpu, room * of->size));
    GPU_OK(gpu.set_bytes(y_gpu, 0xa5, room * of->size));
  }
  int64_t shape[] = {rows, cols};
  const uint64_t skip = (uint64_t)offset * of->size;
  DLTensor tensors[] = {cuda_tensor(x_gpu + skip, of->dtype, 2, shape),
                        cuda_tensor(weight_gpu, of->dtype, 1, &shape[1]),
                        cuda_tensor(y_gpu + skip, of->dtype, 2, shape)};
  const pega_value args[] = {pega_value_tensor(&tensors[0]), pega_value_tensor(&tensors[1]),
                             pega_value_tensor(&tensors[2]), pega_value_float(1e-5)};
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function = get(of->name);
  EXPECT_OK(pega_function_call(function, args, 4, NULL, &error), &error);
  GPU_OK(gpu.synchronize());
  GPU_OK(gpu.copy_out(y, y_gpu, room * of->size));
  double worst = 0;
  for (int64_t row = 0; row < rows; ++row) {
    const size_t begin = (size_t)(offset + row * cols);
    double sum = 0;
    for (int64_t i = 0; i < cols; ++i) {
      const double value = load(of, x, begin + (size_t)i);
      sum += value * value;
    }
    const double factor = 1 / sqrt(sum / (double)cols + (double)1e-5f);
    for (int64_t i = 0; i < cols; ++i) {
      const double expected = load(of, x, begin + (size_t)i) * factor * load(of, weight, (size_t)i);
      const double got = load(of, y, begin + (size_t)i);
      const double error_of = fabs(got - expected) / fmax(fabs(expected), 1e-3);
      if (!(error_of <= 1.02 * of->step)) {
        fail_msg("%s [%lld, %lld] + %lld: row %lld, column %lld: got %g, expected %g", of->name,
                 (long long)rows, (long long)cols, (long long)offset, (long long)row, (long long)i,
                 got, expected);
      }
      worst = fmax(worst, error_of);
    }
  }
  /* Nothing around is written. */
  for (size_t i = 0; !in_place && i < room * of->size; ++i) {
    const size_t at = i / of->size;
    if (at < (size_t)offset || at >= (size_t)offset + count) assert_int_equal(y[i], 0xa5);
  }
  GPU_OK(gpu.release(x_gpu));
  GPU_OK(gpu.release(weight_gpu));
  if (!in_place) GPU_OK(gpu.release(y_gpu));
  pega_function_release(function);
  free(x);
  free(weight);
  free(y);
}

static void test_rms_norm(void **state) {
  (void)state;
  static const int64_t cols[] = {1,    2,    3,    7,    8,     31,    64,    100,   128,   255,
                                 256,  264,  512,  768,  1000,  1024,  1536,  2048,  2560,  4096,
                                 5120, 5121, 7168, 8192, 12288, 16384, 32768, 32776, 40000, 65536};
  for (int32_t i = 0; i < COUNT(formats); ++i) {
    for (int32_t j = 0; j < COUNT(cols); ++j) {
      norm_case(&formats[i], 5, cols[j], 0, false);
      norm_case(&formats[i], 3, cols[j], 1, false);
      norm_case(&formats[i], 2, cols[j], 0, true);
    }
    norm_case(&formats[i], 1, 4096, 0, false);
    norm_case(&formats[i], 1027, 128, 0, false);
  }
}

static void test_rms_norm_of_nothing(void **state) {
  (void)state;
  norm_case(&formats[0], 0, 128, 0, false);
}

/* ---- Streams and contexts ---- */

static CUdeviceptr small_memory;

static pega_status small_norm(pega_function *function, pega_error *error) {
  int64_t shape[] = {4, 64};
  DLTensor x = cuda_tensor(small_memory, BFLOAT16, 2, shape);
  DLTensor weight = cuda_tensor(small_memory, BFLOAT16, 1, &shape[1]);
  DLTensor y = cuda_tensor(small_memory + 1024, BFLOAT16, 2, shape);
  const pega_value args[] = {pega_value_tensor(&x), pega_value_tensor(&weight),
                             pega_value_tensor(&y), pega_value_none()};
  return pega_function_call(function, args, 4, NULL, error);
}

static void test_current_stream(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function = get("pegainfer.handwritten.rms_norm_bf16");
  EXPECT_OK(small_norm(function, &error), &error);
  CUstream stream;
  CUgraph graph;
  int status = 0;
  GPU_OK(gpu.stream_create(&stream, GPU_STREAM_NON_BLOCKING));
  EXPECT_OK(pega_stream_set(CUDA0, stream, NULL, &error), &error);
  /* What is captured is what was launched on this stream. */
  GPU_OK(gpu.capture_begin(stream, GPU_CAPTURE_GLOBAL));
  EXPECT_OK(small_norm(function, &error), &error);
  GPU_OK(gpu.capture_status(stream, &status));
  assert_int_equal(status, GPU_CAPTURE_ACTIVE);
  GPU_OK(gpu.capture_end(stream, &graph));
  CUgraphExec exec;
  GPU_OK(gpu.graph_instantiate(&exec, graph, 0));
  GPU_OK(gpu.graph_launch(exec, stream));
  GPU_OK(gpu.stream_synchronize(stream));
  GPU_OK(gpu.exec_destroy(exec));
  GPU_OK(gpu.graph_destroy(graph));
  EXPECT_OK(pega_stream_set(CUDA0, NULL, NULL, &error), &error);
  GPU_OK(gpu.stream_destroy(stream));
  pega_function_release(function);
}

static void *call_without_context(void *out) {
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function = get("pegainfer.handwritten.rms_norm_bf16");
  CUcontext after = NULL;
  *(pega_status *)out = small_norm(function, &error);
  if (gpu.context_get(&after) != 0 || after != NULL) *(pega_status *)out = PEGA_ERROR_INTERNAL;
  if (error.status != PEGA_OK) print_error("%s\n", pega_error_message(&error));
  pega_error_clear(&error);
  pega_function_release(function);
  return NULL;
}

static void test_thread_without_context(void **state) {
  (void)state;
  pthread_t thread;
  pega_status status = PEGA_ERROR_INTERNAL;
  assert_int_equal(pthread_create(&thread, NULL, call_without_context, &status), 0);
  assert_int_equal(pthread_join(thread, NULL), 0);
  assert_int_equal(status, PEGA_OK);
  GPU_OK(gpu.synchronize());
}

static void test_errors(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function = get("pegainfer.handwritten.raw.rms_norm_bf16");
  EXPECT_ERROR(
      pega_function_call(
          function,
          ARGS(pega_value_pointer(NULL), pega_value_pointer(NULL), pega_value_pointer(NULL),
               pega_value_int(1), pega_value_int(1), pega_value_float(0), pega_value_pointer(NULL)),
          NULL, &error),
      &error, PEGA_ERROR_DRIVER, "pegainfer.handwritten.raw.rms_norm_bf16", "rms_norm_bf16_cuda",
      "libpegainfer_kernels_cuda.so", "returned 1", "x, weight or y is NULL");
  assert_int_equal(error.code, 1);
  EXPECT_ERROR(pega_function_call(function,
                                  ARGS(pega_value_pointer(NULL), pega_value_pointer(NULL),
                                       pega_value_pointer(NULL), pega_value_int(1),
                                       pega_value_int(INT64_C(1) << 31), pega_value_float(0),
                                       pega_value_pointer(NULL)),
                                  NULL, &error),
               &error, PEGA_ERROR_RANGE, "cols", "2147483648");
  pega_error_clear(&error);
  pega_function_release(function);
}

/* ---- The decode step ---- */

static void decode_case(int64_t batch, int64_t key_heads, int64_t heads, bool one) {
  const int64_t width = (2 * key_heads + heads) * 128, state_size = heads * 128 * 128;
  const format *bf16 = &formats[0];
  const int64_t sizes[] = {batch * width, batch * heads, batch * heads, heads};
  void *in[4];
  CUdeviceptr in_gpu[4];
  for (int i = 0; i < 4; ++i) {
    in[i] = calloc((size_t)sizes[i], 2);
    for (int64_t j = 0; j < sizes[i]; ++j) {
      store(bf16, in[i], (size_t)j, i == 2 ? uniform(-6, 2) : uniform(-1, 1));
    }
    in_gpu[i] = upload(in[i], (size_t)sizes[i] * 2);
  }
  float *a_log = malloc((size_t)heads * 4);
  for (int64_t i = 0; i < heads; ++i) a_log[i] = (float)uniform(-1, 1);
  float *states = malloc((size_t)(batch * state_size) * 4);
  for (int64_t i = 0; i < batch * state_size; ++i) states[i] = (float)uniform(-1, 1);
  float *got_states = malloc((size_t)(batch * state_size) * 4);
  uint16_t *out = calloc((size_t)(batch * heads * 128), 2),
           *got = calloc((size_t)(batch * heads * 128), 2);
  const CUdeviceptr a_log_gpu = upload(a_log, (size_t)heads * 4);
  const CUdeviceptr states_gpu = upload(states, (size_t)(batch * state_size) * 4);
  const CUdeviceptr out_gpu = upload(out, (size_t)(batch * heads * 128) * 2);
  uint64_t *pointers = malloc((size_t)batch * 8);
  for (int64_t i = 0; i < batch; ++i) {
    pointers[i] = states_gpu + (uint64_t)(i * state_size) * 4;
  }
  const CUdeviceptr pointers_gpu = upload(pointers, (size_t)batch * 8);
  pega_error error = PEGA_ERROR_INIT;
  /* A single token has no dimension for it. */
  int64_t rows[] = {batch, width}, gates[] = {batch, heads}, output[] = {batch, heads, 128},
          state[] = {batch, heads, 128, 128};
  const int32_t less = one ? 1 : 0;
  DLTensor t[] = {cuda_tensor(in_gpu[0], BFLOAT16, 2 - less, rows + less),
                  cuda_tensor(in_gpu[1], BFLOAT16, 2 - less, gates + less),
                  cuda_tensor(in_gpu[2], BFLOAT16, 2 - less, gates + less),
                  cuda_tensor(in_gpu[3], BFLOAT16, 1, &gates[1]),
                  cuda_tensor(a_log_gpu, FLOAT32, 1, &gates[1]),
                  one ? cuda_tensor(states_gpu, FLOAT32, 3, state + 1)
                      : cuda_tensor(pointers_gpu, UINT64, 1, rows),
                  cuda_tensor(out_gpu, BFLOAT16, 3 - less, output + less)};
  pega_value args[10];
  for (int i = 0; i < 7; ++i) args[i] = pega_value_tensor(&t[i]);
  pega_function *function = get(one ? "pegainfer.handwritten.gated_delta_rule_decode"
                                    : "pegainfer.handwritten.gated_delta_rule_decode_batch");
  EXPECT_OK(pega_function_call(function, args, 7, NULL, &error), &error);
  GPU_OK(gpu.synchronize());
  GPU_OK(gpu.copy_out(got, out_gpu, (size_t)(batch * heads * 128) * 2));
  GPU_OK(gpu.copy_out(got_states, states_gpu, (size_t)(batch * state_size) * 4));
  pega_function_release(function);

  /* The same on the CPU. */
  DLTensor cpu[] = {
      TENSOR(in[0], BFLOAT16, batch, width),   TENSOR(in[1], BFLOAT16, batch, heads),
      TENSOR(in[2], BFLOAT16, batch, heads),   TENSOR(in[3], BFLOAT16, heads),
      TENSOR(a_log, FLOAT32, heads),           TENSOR(states, FLOAT32, batch, heads, 128, 128),
      TENSOR(out, BFLOAT16, batch, heads, 128)};
  for (int i = 0; i < 6; ++i) args[i] = pega_value_tensor(&cpu[i]);
  args[6] = args[7] = pega_value_none();
  args[8] = pega_value_tensor(&cpu[6]);
  EXPECT_OK(pega_registry_get(PEGA_QWEN35_DECODE_PROJECTED, &function, &error), &error);
  EXPECT_OK(pega_function_call(function, args, 9, NULL, &error), &error);
  pega_function_release(function);
  double worst = 0, worst_state = 0;
  for (int64_t i = 0; i < batch * heads * 128; ++i) {
    worst = fmax(worst, fabs(load(bf16, out, (size_t)i) - load(bf16, got, (size_t)i)));
  }
  for (int64_t i = 0; i < batch * state_size; ++i) {
    worst_state = fmax(worst_state, fabs((double)states[i] - (double)got_states[i]));
  }
  printf("decode: %lld tokens, %lld heads: output differs by %.2g, states by %.2g\n",
         (long long)batch, (long long)heads, worst, worst_state);
  assert_true(worst < 2e-2 && worst_state < 2e-3);
  for (int i = 0; i < 4; ++i) {
    free(in[i]);
    GPU_OK(gpu.release(in_gpu[i]));
  }
  GPU_OK(gpu.release(a_log_gpu));
  GPU_OK(gpu.release(states_gpu));
  GPU_OK(gpu.release(out_gpu));
  GPU_OK(gpu.release(pointers_gpu));
  free(pointers);
  free(a_log);
  free(states);
  free(got_states);
  free(out);
  free(got);
}

static void test_decode(void **state) {
  (void)state;
  decode_case(1, 2, 4, true);
  decode_case(1, 16, 32, true);
  decode_case(3, 2, 4, false);
  decode_case(17, 16, 32, false);
}

/* ---- How fast, for people ---- */

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void test_show_speed(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function = get("pegainfer.handwritten.rms_norm_bf16");
  static const int64_t shapes[][2] = {{1, 4096}, {64, 4096}, {4096, 4096}, {16384, 8192}};
  for (int32_t i = 0; i < COUNT(shapes); ++i) {
    int64_t shape[] = {shapes[i][0], shapes[i][1]};
    const size_t bytes = (size_t)(shape[0] * shape[1]) * 2;
    CUdeviceptr x, y, weight;
    CUevent from, to;
    float milliseconds;
    GPU_OK(gpu.alloc(&x, bytes));
    GPU_OK(gpu.alloc(&y, bytes));
    GPU_OK(gpu.alloc(&weight, (size_t)shape[1] * 2));
    GPU_OK(gpu.set_bytes(x, 0x3c, bytes));
    GPU_OK(gpu.set_bytes(weight, 0x3c, (size_t)shape[1] * 2));
    GPU_OK(gpu.event_create(&from, GPU_EVENT_DEFAULT));
    GPU_OK(gpu.event_create(&to, GPU_EVENT_DEFAULT));
    DLTensor t[] = {cuda_tensor(x, BFLOAT16, 2, shape), cuda_tensor(weight, BFLOAT16, 1, &shape[1]),
                    cuda_tensor(y, BFLOAT16, 2, shape)};
    const pega_value args[] = {pega_value_tensor(&t[0]), pega_value_tensor(&t[1]),
                               pega_value_tensor(&t[2]), pega_value_none()};
    for (int k = 0; k < 20; ++k) {
      EXPECT_OK(pega_function_call(function, args, 4, NULL, &error), &error);
    }
    GPU_OK(gpu.synchronize());
    GPU_OK(gpu.event_record(from, NULL));
    const double begin = now();
    for (int k = 0; k < 200; ++k) {
      EXPECT_OK(pega_function_call(function, args, 4, NULL, &error), &error);
    }
    const double end = now();
    GPU_OK(gpu.event_record(to, NULL));
    GPU_OK(gpu.event_synchronize(to));
    GPU_OK(gpu.event_elapsed(&milliseconds, from, to));
    printf("rms_norm bf16 [%lld, %lld]: %.2f us, %.0f GB/s; host %.0f ns a call\n",
           (long long)shape[0], (long long)shape[1], (double)milliseconds * 1e3 / 200,
           2 * (double)bytes * 200 / ((double)milliseconds * 1e-3) * 1e-9, (end - begin) / 200);
    GPU_OK(gpu.release(x));
    GPU_OK(gpu.release(y));
    GPU_OK(gpu.release(weight));
  }
  pega_function_release(function);
}

int main(void) {
  pega_error error = PEGA_ERROR_INIT;
  pega_artifact_options options = PEGA_ARTIFACT_OPTIONS_INIT;
  options.path = getenv("PEGA_TEST_HANDWRITTEN");
  setvbuf(stdout, NULL, _IOLBF, 0);
  FILE *file = options.path == NULL ? NULL : fopen(options.path, "rb");
  if (file == NULL) {
    printf("SKIP: there is no %s: tools/dsl/build_handwritten.sh makes it\n",
           options.path == NULL ? "PEGA_TEST_HANDWRITTEN" : options.path);
    return SUPPORT_SKIP;
  }
  fclose(file);
  const char *why = gpu_open();
  if (why == NULL && gpu.fake && getenv("PEGA_TEST_REHEARSAL") == NULL) {
    why =
        "libcuda.so.1 is the fake driver, which runs no kernel (PEGA_TEST_REHEARSAL=1 runs what it can)";
  }
  if (why != NULL) {
    printf("SKIP: %s\n", why);
    return SUPPORT_SKIP;
  }
  printf("%s, driver %d.%d\n", gpu.name, gpu.version / 1000, gpu.version % 1000 / 10);
  if (gpu.primary_retain(&primary, 0) != 0 || gpu.context_set(primary) != 0 ||
      gpu.alloc(&small_memory, 4096) != 0) {
    printf("SKIP: the device has no context or memory\n");
    return SUPPORT_SKIP;
  }
  if (pega_artifact_open(&options, &artifact, &error) != PEGA_OK) {
    print_error("%s\n", pega_error_message(&error));
    return 1;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_rms_norm),       cmocka_unit_test(test_rms_norm_of_nothing),
      cmocka_unit_test(test_current_stream), cmocka_unit_test(test_thread_without_context),
      cmocka_unit_test(test_errors),         cmocka_unit_test(test_decode),
      cmocka_unit_test(test_show_speed),
  };
  const struct CMUnitTest rehearsal[] = {cmocka_unit_test(test_errors)};
  const int failed = gpu.fake ? cmocka_run_group_tests(rehearsal, NULL, NULL)
                              : cmocka_run_group_tests(tests, NULL, NULL);
  pega_artifact_release(artifact);
  return failed;
}
