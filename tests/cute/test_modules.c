/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The modules that tools/dsl/cute.sh made, opened as an engine does, in a process with no GPU: there is no
 * driver, or one that CUDA's runtime cannot start (the fake driver). Calls say so; nothing ends the process.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <pega/artifact.h>
#include <pega/tvm_ffi.h>

static pega_error error = PEGA_ERROR_INIT;
static char c_module[4096], tvm_ffi_module[4096];

static void expect_ok(pega_status status) {
  if (status != PEGA_OK) fail_msg("%s", pega_error_message(&error));
}

static void expect_text(const char *text, const char *needle) {
  if (strstr(text, needle) == NULL) fail_msg("no '%s' in: %s", needle, text);
}

/* A tensor that says it is a device's. Its memory is the host's: nothing here may come to use it. */
enum { T = 3, C = 5 };
static float storage[T * 8 * 128 + 16];

static bool with_strides;

/* `shape` has room for strides behind it. */
static DLTensor device_tensor(DLDataType dtype, int32_t ndim, int64_t *shape) {
  int64_t *strides = shape + ndim;
  for (int32_t i = ndim; i-- > 0;) strides[i] = i == ndim - 1 ? 1 : strides[i + 1] * shape[i + 1];
  uintptr_t address = ((uintptr_t)storage + 15) & ~(uintptr_t)15;
  return (DLTensor){.data = (void *)address,
                    .device = {kDLCUDA, 0},
                    .ndim = ndim,
                    .dtype = dtype,
                    .shape = shape,
                    .strides = with_strides ? strides : NULL};
}

static const DLDataType bfloat16 = {kDLBfloat, 16, 1}, float32 = {kDLFloat, 32, 1};

static pega_status call(pega_function *function, bool scores, int64_t c) {
  int64_t q_shape[6] = {T, 8, 128}, kv_shape[4] = {c, 128}, dots_shape[6] = {T, 8, c};
  int64_t weights_shape[4] = {T, 8}, scores_shape[4] = {T, c};
  DLTensor q = device_tensor(bfloat16, 3, q_shape), kv = device_tensor(bfloat16, 2, kv_shape);
  DLTensor weights = device_tensor(float32, 2, weights_shape);
  DLTensor out =
      scores ? device_tensor(float32, 2, scores_shape) : device_tensor(float32, 3, dots_shape);
  pega_value args[4] = {pega_value_tensor(&q), pega_value_tensor(&kv)};
  int32_t count = 2;
  if (scores) args[count++] = pega_value_tensor(&weights);
  args[count++] = pega_value_tensor(&out);
  return pega_function_call(function, args, count, NULL, &error);
}

static void test_c_module(void **state) {
  (void)state;
  pega_artifact_options options = PEGA_ARTIFACT_OPTIONS_INIT;
  pega_artifact *artifact = NULL;
  pega_function *dots = NULL, *scores = NULL;
  options.path = c_module;
  expect_ok(pega_artifact_open(&options, &artifact, &error));
  assert_string_equal(pega_artifact_format(artifact), "C library");
  expect_ok(pega_artifact_get(artifact, "deepseek.indexer_dots", &dots, &error));
  expect_ok(pega_artifact_get(artifact, "deepseek.indexer_scores", &scores, &error));
  assert_int_not_equal(call(dots, false, C), PEGA_OK);
  print_message("dots: %s\n", pega_error_message(&error));
  assert_int_not_equal(call(scores, true, C), PEGA_OK);
  print_message("scores: %s\n", pega_error_message(&error));
  pega_function_release(scores);
  pega_function_release(dots);
  pega_artifact_release(artifact);
}

static void test_c_symbols(void **state) {
  (void)state;
  void *library = dlopen(c_module, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) fail_msg("%s", dlerror());
  int (*dots)(const void *, const void *, float *, int32_t, int32_t, void *);
  int (*scores)(const void *, const void *, const float *, float *, int32_t, int32_t, void *);
  *(void **)&dots = dlsym(library, "deepseek_cutedsl_indexer_dots_bf16_cuda");
  *(void **)&scores = dlsym(library, "deepseek_cutedsl_indexer_scores_bf16_cuda");
  assert_non_null(dots);
  assert_non_null(scores);
  float *at = (float *)(((uintptr_t)storage + 15) & ~(uintptr_t)15);
  const char *odd = (const char *)at + 2;
  /* No driver to ask: 803 where there is none, else what the runtime makes of it. */
  const int no_driver = dots(at, at, at, T, C, NULL);
  assert_int_not_equal(no_driver, 0);
  assert_int_not_equal(no_driver, 1);
  assert_int_equal(scores(at, at, at, at, T, C, NULL), no_driver);
  /* Nothing to do needs no driver; what is wrong is said first. */
  assert_int_equal(dots(NULL, NULL, NULL, 0, C, NULL), 0);
  assert_int_equal(dots(NULL, NULL, NULL, T, 0, NULL), 0);
  assert_int_equal(scores(NULL, NULL, NULL, NULL, 0, 0, NULL), 0);
  static const int32_t sizes[][2] = {
      {-1, C}, {T, -1}, {INT32_MAX, C}, {T, INT32_MAX}, {INT32_MIN, INT32_MIN}};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; ++i) {
    assert_int_equal(dots(at, at, at, sizes[i][0], sizes[i][1], NULL), 1);
    assert_int_equal(scores(at, at, at, at, sizes[i][0], sizes[i][1], NULL), 1);
  }
  assert_int_equal(dots(NULL, at, at, T, C, NULL), 1);
  assert_int_equal(dots(at, NULL, at, T, C, NULL), 1);
  assert_int_equal(dots(at, at, NULL, T, C, NULL), 1);
  assert_int_equal(dots(odd, at, at, T, C, NULL), 1);
  assert_int_equal(dots(at, odd, at, T, C, NULL), 1);
  assert_int_equal(dots(at, at, (float *)(uintptr_t)odd, T, C, NULL), 1);
  assert_int_equal(scores(at, at, (const float *)(uintptr_t)odd, at, T, C, NULL), 1);
  assert_int_equal(scores(at, at, at, NULL, T, C, NULL), 1);
}

static void test_tvm_ffi_module(void **state) {
  (void)state;
  pega_tvm_ffi_options options = PEGA_TVM_FFI_OPTIONS_INIT;
  pega_tvm_ffi *runtime = NULL;
  pega_tvm_ffi_module *module = NULL;
  pega_function *dots = NULL, *scores = NULL;
  expect_ok(pega_tvm_ffi_open(&options, &runtime, &error));
  expect_ok(pega_tvm_ffi_module_open(runtime, tvm_ffi_module, &module, &error));
  expect_ok(pega_tvm_ffi_module_get(module, "indexer_dots", &dots, &error));
  expect_ok(pega_tvm_ffi_module_get(module, "indexer_scores", &scores, &error));
  /* Twice: what was loaded or not the first time; and what the modules read without asking. */
  for (int i = 0; i < 2; ++i) {
    with_strides = i == 0;
    assert_int_equal(call(dots, false, C), PEGA_ERROR_CALLEE);
    expect_text(pega_error_message(&error), "CUDA");
    print_message("dots: %s: %s\n", pega_error_kind(&error), pega_error_message(&error));
    assert_int_equal(call(scores, true, C), PEGA_ERROR_CALLEE);
    expect_text(pega_error_message(&error), "CUDA");
  }
  /* The compiler's own checks. */
  assert_int_equal(call(scores, false, C), PEGA_ERROR_CALLEE);
  assert_string_equal(pega_error_kind(&error), "TypeError");
  expect_text(pega_error_message(&error), "indexer_scores(");
  pega_function_release(scores);
  pega_function_release(dots);
  pega_tvm_ffi_module_close(module);
  pega_tvm_ffi_close(runtime);
}

int main(int argc, char **argv) {
  const char *folder = argc > 1 ? argv[1] : "";
  snprintf(c_module, sizeof c_module, "%s/indexer_c.so", folder);
  snprintf(tvm_ffi_module, sizeof tvm_ffi_module, "%s/indexer_tvm_ffi.so", folder);
  if (access(c_module, R_OK) != 0 || access(tvm_ffi_module, R_OK) != 0) {
    printf("SKIP: no modules in %s: tools/dsl/cute.sh builds them\n", folder);
    return 77;
  }
  /* The fake driver is asked for by name; any other would be given addresses of the host. */
  void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (driver != NULL && dlsym(driver, "pega_fake_driver_reset") == NULL) {
    puts("SKIP: this machine has a CUDA driver, and the tests are of machines without");
    return 77;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_c_module),
      cmocka_unit_test(test_c_symbols),
      cmocka_unit_test(test_tvm_ffi_module),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
