/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A real compiler's artifact with no GPU: a CPU module that Apache TVM compiled, opened and called from C.
 * Its numbers against fp64, on the caller's memory, from many threads, and what it says of bad arguments.
 */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "dsl.h"

#define COLUMNS 256
#define ALIGNMENT 64 /* what the compiler asks of data */

static pega_error error = PEGA_ERROR_INIT;
static pega_artifact *artifact;
static pega_function *rms_norm;
static pega_function *linear;

static float *numbers(int64_t count, uint64_t seed) {
  float *out = aligned_alloc(ALIGNMENT, (size_t)((count * 4 + ALIGNMENT) / ALIGNMENT * ALIGNMENT));
  assert_non_null(out);
  for (int64_t i = 0; i < count; i++) out[i] = dsl_random(&seed);
  return out;
}

/* The largest difference from fp64, relative to the largest number of the row. */
static double rms_norm_error(const float *x, const float *weight, double epsilon, const float *out,
                             int64_t rows) {
  double worst = 0;
  for (int64_t r = 0; r < rows; r++) {
    double squares = 0;
    double largest = 1e-30;
    double difference = 0;
    for (int c = 0; c < COLUMNS; c++) squares += (double)x[r * COLUMNS + c] * x[r * COLUMNS + c];
    for (int c = 0; c < COLUMNS; c++) {
      double right = x[r * COLUMNS + c] * weight[c] / sqrt(squares / COLUMNS + epsilon);
      largest = fmax(largest, fabs(right));
      difference = fmax(difference, fabs(right - out[r * COLUMNS + c]));
    }
    worst = fmax(worst, isnan(out[r * COLUMNS]) ? INFINITY : difference / largest);
  }
  return worst;
}

static void test_what_it_is(void **state) {
  (void)state;
  pega_value names = pega_value_none();
  assert_string_equal(pega_artifact_format(artifact), "TVM FFI module");
  DSL_OK(pega_artifact_list(artifact, &names, &error));
  assert_int_equal(pega_value_size(&names), 2);
  assert_string_equal(pega_value_as_string(pega_array_get(&names, 0), NULL), "linear");
  assert_string_equal(pega_value_as_string(pega_array_get(&names, 1), NULL), "rms_norm");
  pega_value_release(&names);
}

static void test_rms_norm(void **state) {
  (void)state;
  static const int64_t sizes[] = {1, 2, 3, 17, 256, 1000};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    int64_t rows = sizes[i];
    float *x = numbers(rows * COLUMNS, 1);
    float *weight = numbers(COLUMNS, 2);
    float *out = numbers((rows + 1) * COLUMNS, 3);
    float after = out[rows * COLUMNS];
    dsl_tensor x_tensor;
    dsl_tensor weight_tensor;
    dsl_tensor out_tensor;
    dsl_tensor_init(&x_tensor, x, DSL_FLOAT32, rows, COLUMNS);
    dsl_tensor_init(&weight_tensor, weight, DSL_FLOAT32, COLUMNS, -1);
    dsl_tensor_init(&out_tensor, out, DSL_FLOAT32, rows, COLUMNS);
    DSL_OK(
        DSL_CALL(rms_norm, T(x_tensor), T(weight_tensor), pega_value_float(1e-6), T(out_tensor)));
    double difference = rms_norm_error(x, weight, 1e-6, out, rows);
    print_message("rms_norm of %d rows: %.3g from fp64\n", (int)rows, difference);
    assert_true(difference < 1e-5);
    assert_true(out[rows * COLUMNS] == after);
    free(x);
    free(weight);
    free(out);
  }
}

/* Tensors that lie within others are read and written in place, and nothing around them. */
static void test_view(void **state) {
  (void)state;
  float *x = numbers(8 * COLUMNS, 4);
  float *weight = numbers(COLUMNS, 5);
  float *out = numbers(8 * COLUMNS, 6);
  float *before = numbers(8 * COLUMNS, 6);
  dsl_tensor x_tensor;
  dsl_tensor weight_tensor;
  dsl_tensor out_tensor;
  dsl_tensor_init(&x_tensor, x, DSL_FLOAT32, 3, COLUMNS);
  dsl_tensor_init(&weight_tensor, weight, DSL_FLOAT32, COLUMNS, -1);
  dsl_tensor_init(&out_tensor, out, DSL_FLOAT32, 3, COLUMNS);
  x_tensor.tensor.byte_offset = 2 * COLUMNS * sizeof(float);
  out_tensor.tensor.byte_offset = 4 * COLUMNS * sizeof(float);
  /* The compiler asks for data without an offset, and says so. */
  DSL_FAILURE(
      PEGA_ERROR_CALLEE,
      DSL_CALL(rms_norm, T(x_tensor), T(weight_tensor), pega_value_float(1e-6), T(out_tensor)),
      "x.byte_offset");
  assert_memory_equal(out, before, 8 * COLUMNS * sizeof(float));
  x_tensor.tensor.byte_offset = 0;
  x_tensor.tensor.data = x + 2 * COLUMNS;
  out_tensor.tensor.byte_offset = 0;
  out_tensor.tensor.data = out + 4 * COLUMNS;
  DSL_OK(DSL_CALL(rms_norm, T(x_tensor), T(weight_tensor), pega_value_float(1e-6), T(out_tensor)));
  assert_true(rms_norm_error(x + 2 * COLUMNS, weight, 1e-6, out + 4 * COLUMNS, 3) < 1e-5);
  assert_memory_equal(out, before, 4 * COLUMNS * sizeof(float));
  assert_memory_equal(out + 7 * COLUMNS, before + 7 * COLUMNS, COLUMNS * sizeof(float));
  free(x);
  free(weight);
  free(out);
  free(before);
}

static void test_linear(void **state) {
  (void)state;
  enum { rows = 5, inner = 37, columns = 48 };
  float *x = numbers(rows * inner, 7);
  float *weight = numbers(inner * columns, 8);
  float *bias = numbers(columns, 9);
  float *out = numbers(rows * columns, 10);
  dsl_tensor x_tensor;
  dsl_tensor weight_tensor;
  dsl_tensor bias_tensor;
  dsl_tensor out_tensor;
  dsl_tensor_init(&x_tensor, x, DSL_FLOAT32, rows, inner);
  dsl_tensor_init(&weight_tensor, weight, DSL_FLOAT32, inner, columns);
  dsl_tensor_init(&bias_tensor, bias, DSL_FLOAT32, columns, -1);
  dsl_tensor_init(&out_tensor, out, DSL_FLOAT32, rows, columns);
  DSL_OK(DSL_CALL(linear, T(x_tensor), T(weight_tensor), T(bias_tensor), T(out_tensor)));
  for (int r = 0; r < rows; r++) {
    for (int c = 0; c < columns; c++) {
      double right = bias[c];
      for (int k = 0; k < inner; k++) right += (double)x[r * inner + k] * weight[k * columns + c];
      assert_true(fabs(right - out[r * columns + c]) < 1e-4);
    }
  }
  free(x);
  free(weight);
  free(bias);
  free(out);
}

/* What is wrong is found by the compiled code, and arrives as an error of the artifact's function. */
static void test_bad_arguments(void **state) {
  (void)state;
  enum { rows = 4 };
  float *x = numbers(rows * COLUMNS, 11);
  float *weight = numbers(COLUMNS, 12);
  float *out = numbers(rows * COLUMNS, 13);
  dsl_tensor good_x;
  dsl_tensor good_weight;
  dsl_tensor good_out;
  dsl_tensor bad;
  dsl_tensor_init(&good_x, x, DSL_FLOAT32, rows, COLUMNS);
  dsl_tensor_init(&good_weight, weight, DSL_FLOAT32, COLUMNS, -1);
  dsl_tensor_init(&good_out, out, DSL_FLOAT32, rows, COLUMNS);
  const pega_value epsilon = pega_value_float(1e-6);

  dsl_tensor_init(&bad, x, DSL_FLOAT64, rows / 2, COLUMNS);
  DSL_FAILURE(PEGA_ERROR_CALLEE, DSL_CALL(rms_norm, T(bad), T(good_weight), epsilon, T(good_out)),
              "rms_norm", "float32");
  assert_string_equal(pega_error_kind(&error), "TypeError");
  dsl_tensor_init(&bad, x, DSL_FLOAT32, rows, COLUMNS / 2);
  DSL_FAILURE(PEGA_ERROR_CALLEE, DSL_CALL(rms_norm, T(bad), T(good_weight), epsilon, T(good_out)),
              "x.strides");
  bad.tensor.strides = NULL; /* row-major: pega says so to foreign code */
  DSL_FAILURE(PEGA_ERROR_CALLEE, DSL_CALL(rms_norm, T(bad), T(good_weight), epsilon, T(good_out)),
              "x.strides", "256");
  assert_string_equal(pega_error_kind(&error), "ValueError");
  dsl_tensor_init(&bad, out, DSL_FLOAT32, rows - 1, COLUMNS);
  DSL_FAILURE(PEGA_ERROR_CALLEE, DSL_CALL(rms_norm, T(good_x), T(good_weight), epsilon, T(bad)),
              "out.shape[0]");
  dsl_tensor_init(&bad, x, DSL_FLOAT32, rows * COLUMNS, -1);
  DSL_FAILURE(PEGA_ERROR_CALLEE, DSL_CALL(rms_norm, T(bad), T(good_weight), epsilon, T(good_out)),
              "ndim", "2");
  bad = good_x;
  bad.tensor.shape = bad.shape;
  bad.tensor.strides = bad.strides;
  bad.tensor.device = (DLDevice){kDLCUDA, 0};
  DSL_FAILURE(PEGA_ERROR_CALLEE, DSL_CALL(rms_norm, T(bad), T(good_weight), epsilon, T(good_out)),
              "device_type");
  DSL_FAILURE(PEGA_ERROR_CALLEE, DSL_CALL(rms_norm, T(good_x), T(good_weight)), "4");
  assert_string_equal(pega_error_kind(&error), "TypeError");
  DSL_FAILURE(PEGA_ERROR_CALLEE,
              DSL_CALL(rms_norm, T(good_x), T(good_weight), pega_value_string("x"), T(good_out)),
              "epsilon");
  DSL_FAILURE(PEGA_ERROR_CALLEE,
              DSL_CALL(rms_norm, pega_value_none(), T(good_weight), epsilon, T(good_out)), "x");
  /* And after all of them it works. */
  DSL_OK(DSL_CALL(rms_norm, T(good_x), T(good_weight), epsilon, T(good_out)));
  free(x);
  free(weight);
  free(out);
}

static void test_name_not_found(void **state) {
  (void)state;
  pega_function *function = NULL;
  DSL_FAILURE(PEGA_ERROR_NOT_FOUND, pega_artifact_get(artifact, "rms_nrom", &function, &error),
              "rms_nrom", "rms_norm");
  assert_null(function);
}

/* ---- threads ---- */

struct worker {
  pthread_t thread;
  int number;
  double worst;
  pega_status status;
};

static void *run_worker(void *argument) {
  struct worker *worker = argument;
  enum { rows = 7 };
  float *x = numbers(rows * COLUMNS, (uint64_t)worker->number);
  float *weight = numbers(COLUMNS, (uint64_t)worker->number + 100);
  float *out = numbers(rows * COLUMNS, 0);
  dsl_tensor x_tensor;
  dsl_tensor weight_tensor;
  dsl_tensor out_tensor;
  dsl_tensor_init(&x_tensor, x, DSL_FLOAT32, rows, COLUMNS);
  dsl_tensor_init(&weight_tensor, weight, DSL_FLOAT32, COLUMNS, -1);
  dsl_tensor_init(&out_tensor, out, DSL_FLOAT32, rows, COLUMNS);
  pega_value args[] = {T(x_tensor), T(weight_tensor), pega_value_float(1e-6), T(out_tensor)};
  for (int i = 0; i < 200 && worker->status == PEGA_OK; i++) {
    memset(out, 0, rows * COLUMNS * sizeof *out);
    worker->status = pega_function_call(rms_norm, args, 4, NULL, NULL);
    worker->worst = fmax(worker->worst, rms_norm_error(x, weight, 1e-6, out, rows));
    /* Every other thread fails in between: one's error is not another's. */
    if (worker->number % 2 == 0 && pega_function_call(rms_norm, args, 3, NULL, NULL) == PEGA_OK) {
      worker->status = PEGA_ERROR_INTERNAL;
    }
  }
  free(x);
  free(weight);
  free(out);
  return NULL;
}

static void test_threads(void **state) {
  (void)state;
  enum { count = 16 };
  struct worker workers[count] = {0};
  for (int i = 0; i < count; i++) {
    workers[i].number = i;
    assert_int_equal(pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]), 0);
  }
  for (int i = 0; i < count; i++) pthread_join(workers[i].thread, NULL);
  for (int i = 0; i < count; i++) {
    assert_int_equal(workers[i].status, PEGA_OK);
    assert_true(workers[i].worst < 1e-5);
  }
}

static void need(const char *file) {
  const int missing = dsl_need(file, "./dev artifacts tvm");
  if (missing == 77) skip();
  assert_int_equal(missing, 0);
}

/* A module whose loops run on the threads of libtvm_runtime.so holds a pointer that only that library
 * fills in: called without it, it would jump to nothing. */
static void test_needs_its_runtime(void **state) {
  (void)state;
  need("tvm/cpu_parallel.so");
  pega_artifact *parallel = NULL;
  DSL_FAILURE(PEGA_ERROR_NOT_FOUND, dsl_open("tvm/cpu_parallel.so", NULL, &parallel, &error),
              "cpu_parallel.so", "libtvm_runtime.so");
  assert_null(parallel);
}

static void test_with_its_runtime(void **state) {
  (void)state;
  need("tvm/runtime/libtvm_runtime.so");
  pega_artifact *parallel = NULL;
  pega_function *scale = NULL;
  DSL_OK(dsl_open("tvm/cpu_parallel.so", dsl_path("tvm/runtime"), &parallel, &error));
  DSL_OK(pega_artifact_get(parallel, "scale", &scale, &error));
  enum { length = 10000 };
  float *x = numbers(length, 14);
  float *out = numbers(length, 15);
  dsl_tensor x_tensor;
  dsl_tensor out_tensor;
  dsl_tensor_init(&x_tensor, x, DSL_FLOAT32, length, -1);
  dsl_tensor_init(&out_tensor, out, DSL_FLOAT32, length, -1);
  DSL_OK(DSL_CALL(scale, T(x_tensor), pega_value_float(3), T(out_tensor)));
  for (int i = 0; i < length; i++) assert_true(out[i] == x[i] * 3.0f);
  pega_function_release(scale);
  pega_artifact_release(parallel);
  free(x);
  free(out);
}

int main(void) {
  int missing = dsl_need("tvm/cpu.so", "./dev artifacts tvm");
  if (missing != 0) return missing;
  if (dsl_add_loader(NULL, &error) != PEGA_OK ||
      dsl_open("tvm/cpu.so", NULL, &artifact, &error) != PEGA_OK ||
      pega_artifact_get(artifact, "rms_norm", &rms_norm, &error) != PEGA_OK ||
      pega_artifact_get(artifact, "linear", &linear, &error) != PEGA_OK) {
    printf("%s\n", pega_error_message(&error));
    return 1;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_what_it_is),
      cmocka_unit_test(test_rms_norm),
      cmocka_unit_test(test_view),
      cmocka_unit_test(test_linear),
      cmocka_unit_test(test_bad_arguments),
      cmocka_unit_test(test_name_not_found),
      cmocka_unit_test(test_threads),
      cmocka_unit_test(test_needs_its_runtime),
      cmocka_unit_test(test_with_its_runtime),
  };
  int failed = cmocka_run_group_tests_name("Apache TVM", tests, NULL, NULL);
  pega_function_release(rms_norm);
  pega_function_release(linear);
  pega_artifact_release(artifact);
  pega_error_clear(&error);
  return failed;
}
