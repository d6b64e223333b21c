/* SPDX-License-Identifier: Apache-2.0 */
/* Which cuBLAS is opened, and what is said where none can be used. Each test is a process of its own, since
 * an open one stays. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "support_cublas.h"

static pega_error error = PEGA_ERROR_INIT;

static pega_status open_path(const char *path) {
  pega_cublas_options options = PEGA_CUBLAS_OPTIONS_INIT;
  options.library_path = path;
  return pega_cublas_open(&options, &error);
}

static pega_cublas_info describe(void) {
  pega_cublas_info info = {.struct_size = sizeof info};
  EXPECT_OK(pega_cublas_describe(&info, &error), &error);
  return info;
}

/* A failure is not kept: after each of them the next is tried. */
static void refusals(void) {
  machine_start("driver=13000");
  EXPECT_ERROR(open_path("/nonexistent/libcublas.so.12"), &error, PEGA_ERROR_UNAVAILABLE,
               "pega_cublas_open: no cuBLAS that can be used: /nonexistent/libcublas.so.12: ",
               "cannot open shared object file", "PEGA_CUBLAS_LIBRARY");
  EXPECT_ERROR(open_path(FAKE_FOLDER "/bad/libcublas_old.so"), &error, PEGA_ERROR_VERSION,
               "bad/libcublas_old.so: it is cuBLAS 10.2.0: expected 11.0 or newer");
  EXPECT_ERROR(open_path(FAKE_FOLDER "/bad/libcublas_lacks.so"), &error, PEGA_ERROR_SYMBOL,
               "it is cuBLAS 12.8.0 and lacks cublasSetWorkspace_v2 (cuBLAS 11.0)");
  EXPECT_ERROR(open_path("libm.so.6"), &error, PEGA_ERROR_SYMBOL,
               "libm.so.6: it is no cuBLAS, or one older than 8.0: it lacks cublasGetProperty");
  EXPECT_ERROR(open_path(FAKE_FOLDER "/CMakeFiles"), &error, PEGA_ERROR_UNAVAILABLE, "CMakeFiles");
  EXPECT_OK(open_path(FAKE_12), &error);
  EXPECT_ERROR(open_path(FAKE_12), &error, PEGA_ERROR_ALREADY_EXISTS, FAKE_12, "is open already");
  EXPECT_OK(pega_cublas_open(NULL, &error), &error);
  const pega_cublas_info info = describe();
  assert_int_equal(info.version, 120800);
  assert_string_equal(info.path, FAKE_12);
  assert_int_equal(info.wide, 1);
  assert_true(info.handles == 0 && info.workspaces == 0);
}

static void newest(void) {
  machine_start("driver=13000");
  EXPECT_OK(pega_cublas_open(NULL, &error), &error);
  assert_int_equal(describe().version, 130100);
}

/* A cuBLAS of CUDA 13 does not run on a driver of 12. */
static void that_the_driver_runs(void) {
  machine_start("driver=12040");
  EXPECT_OK(pega_cublas_open(NULL, &error), &error);
  assert_int_equal(describe().version, 120800);
}

static void named_and_too_new(void) {
  machine_start("driver=11040");
  EXPECT_ERROR(open_path(FAKE_12), &error, PEGA_ERROR_VERSION,
               "it is cuBLAS 12.8.0, which needs a driver of CUDA 12: this one is of 11.4");
  EXPECT_OK(open_path(FAKE_11), &error);
  assert_int_equal(describe().wide, 0);
}

/* What the environment names is the only one that is tried, unless the options name another. */
static void environment(void) {
  machine_start("driver=13000");
  setenv(PEGA_CUBLAS_LIBRARY_ENV, FAKE_FOLDER "/bad/libcublas_old.so", 1);
  EXPECT_ERROR(pega_cublas_open(NULL, &error), &error, PEGA_ERROR_VERSION, "cuBLAS 10.2.0");
  EXPECT_NO_TEXT(pega_error_message(&error), "libcublas.so.13");
  setenv(PEGA_CUBLAS_LIBRARY_ENV, FAKE_11, 1);
  EXPECT_OK(open_path(FAKE_12), &error);
  assert_int_equal(describe().version, 120800);
}

static void from_the_environment(void) {
  machine_start("driver=13000");
  setenv(PEGA_CUBLAS_LIBRARY_ENV, FAKE_11, 1);
  EXPECT_OK(pega_cublas_open(NULL, &error), &error);
  assert_int_equal(describe().version, 110500);
}

/* 2^31 rows apart with a cuBLAS that counts in 32 bits. */
static void too_wide(void) {
  cublas_start("driver=13000", FAKE_11, 0);
  pega_function *gemm = cublas_function();
  int64_t strides[2] = {(int64_t)1 << 31, 1};
  DLTensor a = TENSOR((void *)(uintptr_t)0x1000, FLOAT32, 2, 1);
  DLTensor b = TENSOR((void *)(uintptr_t)0x100, FLOAT32, 1, 1);
  DLTensor c = TENSOR((void *)(uintptr_t)0x200, FLOAT32, 2, 1);
  a.device = b.device = c.device = CUDA(0);
  a.strides = strides;
  EXPECT_ERROR(pega_function_call(
                   gemm, ARGS(pega_value_tensor(&a), pega_value_tensor(&b), pega_value_tensor(&c)),
                   NULL, &error),
               &error, PEGA_ERROR_UNSUPPORTED, "past 2147483647, which needs cuBLAS 12 or later",
               "this one is 11.5.0");
  pega_function_release(gemm);
}

static void no_device(void) {
  machine_start("devices=0");
  EXPECT_ERROR(pega_cublas_open(NULL, &error), &error, PEGA_ERROR_UNAVAILABLE,
               "no CUDA driver for cuBLAS", "no device", "100");
  assert_int_equal(error.code, 100);
}

static void bad_options(void) {
  pega_cublas_options options = PEGA_CUBLAS_OPTIONS_INIT;
  options.reserved = 1;
  EXPECT_ERROR(pega_cublas_open(&options, &error), &error, PEGA_ERROR_VERSION, "reserved 1");
  options.reserved = 0;
  options.struct_size = 4;
  EXPECT_ERROR(pega_cublas_open(&options, &error), &error, PEGA_ERROR_VERSION, "struct_size 4");
  options.struct_size = sizeof options;
  options.workspace_bytes = UINT64_MAX;
  EXPECT_ERROR(pega_cublas_open(&options, &error), &error, PEGA_ERROR_RANGE, "workspace_bytes");
  EXPECT_ERROR(pega_cublas_gemm(NULL, &error), &error, PEGA_ERROR_INVALID_ARGUMENT, "out is NULL");
  EXPECT_ERROR(pega_cublas_describe(NULL, &error), &error, PEGA_ERROR_VERSION, "info is NULL");
  pega_cublas_info info = {.struct_size = 8};
  EXPECT_ERROR(pega_cublas_describe(&info, &error), &error, PEGA_ERROR_VERSION, "smaller");
  EXPECT_ERROR(pega_cublas_prepare(CPU, NULL, &error), &error, PEGA_ERROR_DEVICE, "got cpu:0");
  EXPECT_ERROR(pega_cublas_release_stream(CPU, NULL, &error), &error, PEGA_ERROR_DEVICE, "cpu:0");
  /* Without a library there is nothing to give back, and a function can be had. */
  EXPECT_OK(pega_cublas_release_stream(CUDA(0), NULL, &error), &error);
  EXPECT_OK(pega_cublas_close(&error), &error);
  EXPECT_OK(pega_cublas_register(0, &error), &error);
  EXPECT_ERROR(pega_cublas_register(0, &error), &error, PEGA_ERROR_ALREADY_EXISTS,
               PEGA_CUBLAS_GEMM);
  EXPECT_OK(pega_cublas_register(PEGA_REGISTER_OVERRIDE, &error), &error);
  EXPECT_OK(pega_registry_remove(PEGA_CUBLAS_GEMM, &error), &error);
}

/* ---- Constructors that open it ---- */

static void run_in_constructor(void (*hook)(void)) {
  char text[32];
  snprintf(text, sizeof text, "%p", (void *)(uintptr_t)hook);
  setenv("PEGA_TEST_CONSTRUCTOR", text, 1);
}

static void open_inside(void) {
  pega_error inner = PEGA_ERROR_INIT;
  EXPECT_OK(pega_cublas_open(NULL, &inner), &inner);
}

/* The one that is opened itself does: the inner one is first, and stays. */
static void from_its_own_constructor(void) {
  machine_start("driver=13000");
  run_in_constructor(open_inside);
  EXPECT_ERROR(open_path(FAKE_CONSTRUCTOR), &error, PEGA_ERROR_ALREADY_EXISTS,
               "search/libcublas.so.13 is open already");
  assert_int_equal(describe().version, 130100);
}

static atomic_bool constructing, opening;

static void open_while_another_does(void) {
  atomic_store(&constructing, true);
  while (!atomic_load(&opening)) usleep(1000);
  usleep(200000); /* the other waits for the dynamic loader, which this thread has */
  open_inside();
}

static void *load_constructor(void *unused) {
  (void)unused;
  return dlopen(FAKE_CONSTRUCTOR, RTLD_NOW | RTLD_LOCAL);
}

/* Neither waits for the other for ever. */
static void from_a_constructor_in_another_thread(void) {
  pthread_t thread;
  void *loaded = NULL;
  machine_start("driver=13000");
  run_in_constructor(open_while_another_does);
  assert_int_equal(pthread_create(&thread, NULL, load_constructor, NULL), 0);
  while (!atomic_load(&constructing)) usleep(1000);
  atomic_store(&opening, true);
  EXPECT_OK(pega_cublas_open(NULL, &error), &error);
  assert_int_equal(pthread_join(thread, &loaded), 0);
  assert_non_null(loaded);
  assert_int_equal(describe().version, 130100);
}

/* Many at once: one table, and nothing is lost. */
static void *open_in_a_thread(void *path) {
  pega_error mine = PEGA_ERROR_INIT;
  pega_cublas_options options = PEGA_CUBLAS_OPTIONS_INIT;
  options.library_path = path;
  const pega_status status = pega_cublas_open(&options, &mine);
  const bool good = status == PEGA_OK || status == PEGA_ERROR_ALREADY_EXISTS;
  pega_error_clear(&mine);
  return status == PEGA_OK ? path : good ? NULL : (void *)-1;
}

static void many_at_once(void) {
  static const char *const paths[] = {FAKE_11, FAKE_12};
  pthread_t threads[8];
  const char *kept = NULL;
  machine_start("driver=13000");
  for (int i = 0; i < COUNT(threads); ++i) {
    char *path = (char *)(uintptr_t)paths[i % 2];
    assert_int_equal(pthread_create(&threads[i], NULL, open_in_a_thread, path), 0);
  }
  for (int i = 0; i < COUNT(threads); ++i) {
    void *got = NULL;
    assert_int_equal(pthread_join(threads[i], &got), 0);
    assert_true(got != (void *)-1);
    assert_true(got == NULL || kept == NULL); /* one alone has opened it */
    if (got != NULL) kept = got;
  }
  assert_non_null(kept);
  assert_string_equal(describe().path, kept);
}

#define IN_A_CHILD(body)                   \
  static void test_##body(void **unused) { \
    (void)unused;                          \
    machine_in_child(body);                \
  }
IN_A_CHILD(refusals)
IN_A_CHILD(newest)
IN_A_CHILD(that_the_driver_runs)
IN_A_CHILD(named_and_too_new)
IN_A_CHILD(environment)
IN_A_CHILD(from_the_environment)
IN_A_CHILD(too_wide)
IN_A_CHILD(no_device)
IN_A_CHILD(bad_options)
IN_A_CHILD(from_its_own_constructor)
IN_A_CHILD(from_a_constructor_in_another_thread)
IN_A_CHILD(many_at_once)

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_refusals),
      cmocka_unit_test(test_newest),
      cmocka_unit_test(test_that_the_driver_runs),
      cmocka_unit_test(test_named_and_too_new),
      cmocka_unit_test(test_environment),
      cmocka_unit_test(test_from_the_environment),
      cmocka_unit_test(test_too_wide),
      cmocka_unit_test(test_no_device),
      cmocka_unit_test(test_bad_options),
      cmocka_unit_test(test_from_its_own_constructor),
      cmocka_unit_test(test_from_a_constructor_in_another_thread),
      cmocka_unit_test(test_many_at_once),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
