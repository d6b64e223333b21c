/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 64 threads at once call into TVM FFI, are called back by it, fail in both directions, export and
 * look up. Each thread checks its own answers: a mixed-up one fails the test, a race is found by
 * ThreadSanitizer.
 */
#include "support.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define NUM_THREADS 64
#define ROUNDS 200

static pega_function *add;
static pega_function *apply;
static pega_function *apply_on_thread;
static pega_function *identity;
static pega_function *raise_error;
static pega_function *return_function;
static pega_function *make_tensor;

/* What a thread has; a count of wrong answers instead of asserts, which belong to the main thread. */
struct worker {
  pthread_t thread;
  pthread_barrier_t *start;
  void (*round)(struct worker *worker, int i);
  int number;
  int wrong;
  char first_wrong[256];
  int deleted;
};

static void expect(struct worker *worker, bool right, const char *what, const char *text) {
  if (right) return;
  if (worker->wrong++ == 0) {
    snprintf(worker->first_wrong, sizeof worker->first_wrong, "%s: %s", what, text);
  }
}

#define EXPECT(condition, text) expect(worker, condition, #condition, text)

static void *run_worker(void *argument) {
  struct worker *worker = argument;
  pthread_barrier_wait(worker->start);
  for (int i = 0; i < ROUNDS; i++) worker->round(worker, i);
  return NULL;
}

static void run_workers(void (*round)(struct worker *worker, int i)) {
  static struct worker workers[NUM_THREADS];
  pthread_barrier_t start;
  memset(workers, 0, sizeof workers);
  pthread_barrier_init(&start, NULL, NUM_THREADS);
  for (int i = 0; i < NUM_THREADS; i++) {
    workers[i].number = i;
    workers[i].round = round;
    workers[i].start = &start;
    assert_int_equal(pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]), 0);
  }
  for (int i = 0; i < NUM_THREADS; i++) pthread_join(workers[i].thread, NULL);
  pthread_barrier_destroy(&start);
  for (int i = 0; i < NUM_THREADS; i++) {
    if (workers[i].wrong > 0) {
      fail_msg("thread %d: %d wrong, the first: %s", i, workers[i].wrong, workers[i].first_wrong);
    }
  }
}

/* ---- what is called back: adds the thread's number, or fails with it ---- */

static pega_status add_number(void *self, const pega_value *args, int32_t num_args,
                              pega_value *result, pega_error *error) {
  struct worker *worker = self;
  if (num_args != 1 || args[0].kind != PEGA_INT) {
    return pega_error_set(error, PEGA_ERROR_TYPE, NULL, "thread %d refuses", worker->number);
  }
  const pega_value sum[] = {args[0], pega_value_int(worker->number)};
  return pega_function_call(add, sum, 2, result, error);
}

static void count_deleter(void *self) {
  struct worker *worker = self;
  worker->deleted++;
}

static pega_function *make_callback(struct worker *worker) {
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  options.call = add_number;
  options.self = worker;
  options.deleter = count_deleter;
  pega_function *function = NULL;
  EXPECT(pega_function_create(&options, &function, NULL) == PEGA_OK, "");
  return function;
}

/* Engine -> module -> engine -> module. */
static void calls_round(struct worker *worker, int i) {
  pega_error error = PEGA_ERROR_INIT;
  pega_value result = pega_value_none();
  pega_function *callback = make_callback(worker);
  const pega_value args[] = {pega_value_function(callback), pega_value_int(i)};
  pega_status status = pega_function_call(apply, args, 2, &result, &error);
  EXPECT(status == PEGA_OK, pega_error_message(&error));
  EXPECT(result.kind == PEGA_INT && result.as.i64 == i + worker->number, "apply");

  /* Now and then from a thread that nobody has seen before. */
  if (i % 50 == 0) {
    status = pega_function_call(apply_on_thread, args, 2, &result, &error);
    EXPECT(status == PEGA_OK, pega_error_message(&error));
    EXPECT(result.as.i64 == i + worker->number, "apply_on_thread");
  }
  pega_function_release(callback);
  EXPECT(worker->deleted == i + 1, "the callback's deleter");
  pega_error_clear(&error);
}

static void test_calls(void **state) {
  (void)state;
  run_workers(calls_round);
}

/* Each thread reads its own error, never a neighbour's. */
static void errors_round(struct worker *worker, int i) {
  pega_error error = PEGA_ERROR_INIT;
  char message[64];
  snprintf(message, sizeof message, "error %d of thread %d", i, worker->number);
  const pega_value raised[] = {pega_value_string("ValueError"), pega_value_string(message)};
  EXPECT(pega_function_call(raise_error, raised, 2, NULL, &error) == PEGA_ERROR_CALLEE, "");
  EXPECT(strstr(pega_error_message(&error), message) != NULL, pega_error_message(&error));

  pega_function *callback = make_callback(worker);
  const pega_value args[] = {pega_value_function(callback)};
  snprintf(message, sizeof message, "thread %d refuses", worker->number);
  EXPECT(pega_function_call(apply, args, 1, NULL, &error) == PEGA_ERROR_CALLEE, "");
  EXPECT(strstr(pega_error_message(&error), message) != NULL, pega_error_message(&error));
  pega_function_release(callback);
  pega_error_clear(&error);
}

static void test_errors(void **state) {
  (void)state;
  run_workers(errors_round);
}

static pega_value shared_tensor;
static pega_value shared_function;

/* All threads hold, pass and give back the same objects. */
static void shared_round(struct worker *worker, int i) {
  pega_value result = pega_value_none();
  pega_value copy = pega_value_none();
  EXPECT(pega_function_call(identity, &shared_tensor, 1, &result, NULL) == PEGA_OK, "tensor");
  EXPECT(pega_value_as_tensor(&result) != NULL, "tensor");
  EXPECT(pega_value_retain(&result, &copy, NULL) == PEGA_OK, "copy");
  pega_value_release(&result);
  EXPECT(*(float *)pega_tensor_data(pega_value_as_tensor(&copy)) == 0.0f, "data");
  pega_value_release(&copy);

  EXPECT(pega_function_call(identity, &shared_function, 1, &result, NULL) == PEGA_OK, "function");
  const pega_value arg = pega_value_int(i);
  pega_value sum = pega_value_none();
  EXPECT(pega_function_call(pega_value_as_function(&result), &arg, 1, &sum, NULL) == PEGA_OK, "");
  EXPECT(sum.as.i64 == i + 1000, "sum");
  pega_value_release(&result);
}

static void test_shared_objects(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  int64_t tensors = support_counter("tensor_deleter_count");
  int64_t functions = support_counter("deleter_count");
  EXPECT_OK(CALL(make_tensor, &shared_tensor, INT(4)));
  EXPECT_OK(CALL(return_function, &shared_function, INT(1000)));
  run_workers(shared_round);
  assert_true(support_counter("tensor_deleter_count") == tensors);
  pega_value_release(&shared_tensor);
  pega_value_release(&shared_function);
  assert_true(support_counter("tensor_deleter_count") == tensors + 1);
  assert_true(support_counter("deleter_count") == functions + 1);
}

/* TVM FFI's table of globals has no lock of its own: the bridge's must do. */
static void globals_round(struct worker *worker, int i) {
  if (i >= ROUNDS / 4) return;
  pega_error error = PEGA_ERROR_INIT;
  char name[64];
  snprintf(name, sizeof name, "test.threads.%d", worker->number);
  pega_function *callback = make_callback(worker);
  pega_function *found = NULL;
  pega_status status = pega_tvm_ffi_export(support_runtime, name, callback, 0, &error);
  EXPECT(status == PEGA_OK, pega_error_message(&error));
  pega_function_release(callback);
  status = pega_tvm_ffi_get_global(support_runtime, name, &found, &error);
  EXPECT(status == PEGA_OK, pega_error_message(&error));
  const pega_value arg = pega_value_int(i);
  pega_value result = pega_value_none();
  status = pega_function_call(found, &arg, 1, &result, &error);
  EXPECT(status == PEGA_OK && result.as.i64 == i + worker->number, pega_error_message(&error));
  status = pega_tvm_ffi_remove_global(support_runtime, name, &error);
  EXPECT(status == PEGA_OK, pega_error_message(&error));
  pega_function_release(found);
  EXPECT(worker->deleted == i + 1, "the exported function's deleter");
  pega_value names = pega_value_none();
  if (i % 16 == 0) {
    EXPECT(pega_tvm_ffi_list_globals(support_runtime, &names, NULL) == PEGA_OK, "list");
    pega_value_release(&names);
  }
  pega_error_clear(&error);
}

static void test_globals(void **state) {
  (void)state;
  run_workers(globals_round);
}

static void opens_round(struct worker *worker, int i) {
  if (i >= 4) return;
  pega_error error = PEGA_ERROR_INIT;
  pega_tvm_ffi *runtime = NULL;
  pega_tvm_ffi_module *module = NULL;
  pega_function *function = NULL;
  EXPECT(pega_tvm_ffi_open(NULL, &runtime, &error) == PEGA_OK, pega_error_message(&error));
  EXPECT(runtime == support_runtime, "another runtime");
  pega_status status = pega_tvm_ffi_module_open(runtime, PEGA_TEST_FIXTURE, &module, &error);
  EXPECT(status == PEGA_OK, pega_error_message(&error));
  status = pega_tvm_ffi_module_get(module, "add", &function, &error);
  EXPECT(status == PEGA_OK, pega_error_message(&error));
  pega_tvm_ffi_module_close(module);
  const pega_value args[] = {pega_value_int(1), pega_value_int(worker->number)};
  pega_value sum = pega_value_none();
  EXPECT(pega_function_call(function, args, 2, &sum, NULL) == PEGA_OK, "add");
  EXPECT(sum.as.i64 == 1 + worker->number, "sum");
  pega_function_release(function);
  pega_tvm_ffi_close(runtime);
  pega_error_clear(&error);
}

static void test_opens(void **state) {
  (void)state;
  run_workers(opens_round);
}

static char streams[NUM_THREADS];

static void streams_round(struct worker *worker, int i) {
  const DLDevice device = {kDLCUDA, i % 2};
  void *stream = NULL;
  EXPECT(pega_stream_set(device, &streams[worker->number], NULL, NULL) == PEGA_OK, "set");
  EXPECT(pega_stream_get(device, &stream, NULL) == PEGA_OK, "get");
  EXPECT(stream == &streams[worker->number], "another thread's stream");
}

static void test_streams(void **state) {
  (void)state;
  run_workers(streams_round);
}

static int open_all(void **state) {
  if (support_open(state) != 0) return -1;
  add = support_get("add");
  apply = support_get("apply");
  apply_on_thread = support_get("apply_on_thread");
  identity = support_get("identity");
  raise_error = support_get("raise");
  return_function = support_get("return_function");
  make_tensor = support_get("make_tensor");
  return 0;
}

static int close_all(void **state) {
  pega_function_release(add);
  pega_function_release(apply);
  pega_function_release(apply_on_thread);
  pega_function_release(identity);
  pega_function_release(raise_error);
  pega_function_release(return_function);
  pega_function_release(make_tensor);
  return support_close(state);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_calls),          cmocka_unit_test(test_errors),
      cmocka_unit_test(test_shared_objects), cmocka_unit_test(test_globals),
      cmocka_unit_test(test_opens),          cmocka_unit_test(test_streams),
  };
  return cmocka_run_group_tests_name("threads", tests, open_all, close_all);
}
