/* SPDX-License-Identifier: Apache-2.0 */
/* Foreign code that changes the current CUDA context: the caller's is current again, and the text says who
 * did it. Against the fake driver, with two devices. */
#include <pega/fake_driver.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../core/support.h"
#include "module_loader.h"

int cuInit(unsigned flags);
int cuCtxGetCurrent(void **context);
int cuCtxSetCurrent(void *context);
int cuCtxPushCurrent_v2(void *context);
int cuCtxPopCurrent_v2(void **context);
int cuCtxCreate_v2(void **context, unsigned flags, int device);
int cuDevicePrimaryCtxRetain(void **context, int device);

static pega_artifact *strict;
static pega_artifact *lenient;
static void *mine;

static void *current(void) {
  void *context = NULL;
  assert_int_equal(cuCtxGetCurrent(&context), 0);
  return context;
}

static pega_status call(pega_artifact *artifact, const char *name, pega_error *error) {
  pega_function *function = NULL;
  EXPECT_OK(pega_artifact_get(artifact, name, &function, error), error);
  assert_string_equal(pega_function_name(function), name);
  assert_string_equal(pega_function_doc(function), "a function of the tests");
  pega_value result = pega_value_none();
  pega_status status = pega_function_call(function, NULL, 0, &result, error);
  pega_function_release(function);
  return status;
}

static int setup(void **state) {
  (void)state;
  if (pega_fake_driver_configure("devices=2") != 0 || cuInit(0) != 0) return -1;
  if (module_loader_add(NULL, NULL) != PEGA_OK) return -1;
  if (module_open("context.so", NULL, 0, &strict, NULL) != PEGA_OK) return -1;
  return module_open("context.so", NULL, PEGA_ARTIFACT_RESTORE_CONTEXT, &lenient, NULL) == PEGA_OK
             ? 0
             : 1;
}

/* A stack of the caller's: one context, which is current. */
static int begin(void **state) {
  (void)state;
  void *popped;
  while (current() != NULL) assert_int_equal(cuCtxPopCurrent_v2(&popped), 0);
  assert_int_equal(cuDevicePrimaryCtxRetain(&mine, 0), 0);
  return cuCtxSetCurrent(mine);
}

static void test_changes(void **state) {
  (void)state;
  static const char *const names[] = {"sets", "pushes", "pops"};
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_OK(call(strict, "well_behaved", &error), &error);
  assert_ptr_equal(current(), mine);
  for (int i = 0; i < COUNT(names); ++i) {
    char quoted[64];
    snprintf(quoted, sizeof quoted, "function '%s' left ", names[i]);
    EXPECT_ERROR(call(strict, names[i], &error), &error, PEGA_ERROR_CALLEE, "context.so", quoted,
                 i == 2 ? "no context" : "of device 1", "of device 0", "is current again");
    assert_string_equal(error.kind, "ContextError");
    assert_ptr_equal(current(), mine);
    EXPECT_OK(call(lenient, names[i], &error), &error);
    assert_ptr_equal(current(), mine);
  }
  pega_error_clear(&error);
}

/* What was pushed is popped: below is what was below. */
static void test_depth(void **state) {
  (void)state;
  void *popped;
  EXPECT_OK(call(lenient, "pushes", NULL), NULL);
  assert_int_equal(cuCtxPopCurrent_v2(&popped), 0);
  assert_ptr_equal(popped, mine);
  assert_null(current());
}

static const char may_differ[] = "what lies below it on the thread's stack of contexts may not be";

/* Whether the code set another context or took the caller's off cannot be told apart: the text says that.
 * Where the caller's is still there it can. */
static void test_below(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  void *below;
  void *popped;
  assert_int_equal(cuDevicePrimaryCtxRetain(&below, 1), 0);
  assert_int_equal(cuCtxSetCurrent(below), 0);
  assert_int_equal(cuCtxPushCurrent_v2(mine), 0);
  EXPECT_ERROR(call(strict, "pushes", &error), &error, PEGA_ERROR_CALLEE, "current again");
  assert_null(strstr(pega_error_message(&error), may_differ));
  assert_ptr_equal(current(), mine);
  assert_int_equal(cuCtxPopCurrent_v2(&popped), 0);
  assert_ptr_equal(current(), below);
  assert_int_equal(cuCtxPushCurrent_v2(mine), 0);
  EXPECT_ERROR(call(strict, "pops", &error), &error, PEGA_ERROR_CALLEE, "current again",
               may_differ);
  assert_ptr_equal(current(), mine);
  EXPECT_ERROR(call(strict, "fails_and_pops", &error), &error, PEGA_ERROR_CALLEE, "said 5");
  EXPECT_TEXT(pega_error_traceback(&error), "was put back");
  EXPECT_TEXT(pega_error_traceback(&error), may_differ);
  assert_ptr_equal(current(), mine);
  pega_error_clear(&error);
}

/* No text is made, and the driver is not asked for one, where a call succeeds. */
static void test_no_text(void **state) {
  (void)state;
  const uint64_t before = pega_fake_driver_count("cuCtxGetDevice");
  void *popped;
  EXPECT_OK(call(lenient, "pushes", NULL), NULL);
  assert_int_equal(cuCtxPopCurrent_v2(&popped), 0);
  EXPECT_OK(call(strict, "sets", NULL), NULL);
  EXPECT_OK(call(strict, "pushes_twice", NULL), NULL);
  assert_true(pega_fake_driver_count("cuCtxGetDevice") == before);
}

/* A context that becomes current where none was is taken off, and is no error. */
static void test_none_before(void **state) {
  (void)state;
  static const char *const names[] = {"sets", "pushes", "pushes_twice"};
  pega_error error = PEGA_ERROR_INIT;
  void *popped;
  assert_int_equal(cuCtxPopCurrent_v2(&popped), 0);
  for (int i = 0; i < COUNT(names); ++i) {
    assert_null(current());
    EXPECT_OK(call(strict, names[i], &error), &error);
    assert_null(current());
  }
}

static void test_failed_call(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_ERROR(call(strict, "fails_and_pushes", &error), &error, PEGA_ERROR_CALLEE,
               "the module said 5; it also left context", "of device 1", "which was put back");
  EXPECT_TEXT(pega_error_traceback(&error), "fails_and_pushes: it also left context");
  assert_ptr_equal(current(), mine);
  pega_error_clear(&error);
}

/* A module that gets the driver by dlopen() and dlsym(). */
static void test_hidden(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_artifact *hidden = NULL;
  EXPECT_OK(module_open("hidden.so", NULL, 0, &hidden, &error), &error);
  EXPECT_ERROR(call(hidden, "sets", &error), &error, PEGA_ERROR_CALLEE, "hidden.so",
               "function 'sets' left ", "of device 1", "is current again");
  assert_string_equal(error.kind, "ContextError");
  assert_ptr_equal(current(), mine);
  pega_artifact_release(hidden);
  pega_error_clear(&error);
}

/* What a constructor leaves current. */
static void test_loading(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_artifact *artifact = NULL;
  void *popped;
  EXPECT_ERROR(module_open("loads.so", NULL, 0, &artifact, &error), &error, PEGA_ERROR_CALLEE,
               "loads.so: loading it left context", "of device 1", "is current again");
  assert_string_equal(error.kind, "ContextError");
  assert_null(artifact);
  assert_ptr_equal(current(), mine);
  EXPECT_OK(module_open("loads_too.so", NULL, PEGA_ARTIFACT_RESTORE_CONTEXT, &artifact, &error),
            &error);
  assert_ptr_equal(current(), mine);
  pega_artifact_release(artifact);
  assert_int_equal(cuCtxPopCurrent_v2(&popped), 0);
  EXPECT_OK(module_open("loads_last.so", NULL, 0, &artifact, &error), &error);
  assert_null(current());
  pega_artifact_release(artifact);
  pega_error_clear(&error);
}

static void test_destroyed(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  void *created = NULL;
  assert_int_equal(cuCtxCreate_v2(&created, 0, 0), 0);
  EXPECT_ERROR(call(strict, "destroys", &error), &error, PEGA_ERROR_CALLEE, "context.so",
               "could not be put back", "destroyed");
  pega_error_clear(&error);
}

/* `measure`: what the watch costs, on a driver that answers at once. */
static int measure(void) {
  enum { kCalls = 2000000 };
  pega_function *function = NULL;
  pega_value result;
  struct timespec a;
  struct timespec b;
  void *context;
  pega_fake_driver_set_quiet(true);
  if (pega_artifact_get(strict, "nothing", &function, NULL) != PEGA_OK) return 1;
  for (int round = 0; round < 3; ++round) {
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int i = 0; i < kCalls; ++i) pega_function_call(function, NULL, 0, &result, NULL);
    clock_gettime(CLOCK_MONOTONIC, &b);
    printf("watched call: %.1f ns\n",
           ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / kCalls);
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int i = 0; i < kCalls; ++i) {
      cuCtxGetCurrent(&context);
      cuCtxGetCurrent(&context);
    }
    clock_gettime(CLOCK_MONOTONIC, &b);
    printf("two queries: %.1f ns\n",
           ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / kCalls);
  }
  pega_function_release(function);
  return 0;
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(test_changes, begin),
      cmocka_unit_test_setup(test_depth, begin),
      cmocka_unit_test_setup(test_below, begin),
      cmocka_unit_test_setup(test_no_text, begin),
      cmocka_unit_test_setup(test_none_before, begin),
      cmocka_unit_test_setup(test_failed_call, begin),
      cmocka_unit_test_setup(test_hidden, begin),
      cmocka_unit_test_setup(test_loading, begin),
      cmocka_unit_test_setup(test_destroyed, begin),
  };
  if (argc > 1 && strcmp(argv[1], "measure") == 0) {
    return setup(NULL) != 0 || begin(NULL) != 0 ? 1 : measure();
  }
  return cmocka_run_group_tests(tests, setup, NULL);
}
