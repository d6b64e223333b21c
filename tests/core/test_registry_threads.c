/* SPDX-License-Identifier: Apache-2.0 */
/* 64 threads at one registry: first use at once, then adding, replacing, calling and removing. */
#include <pega/qwen35.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "support.h"

enum { kThreads = 64, kRounds = 200, kNames = 8 };

static pthread_barrier_t barrier;
static _Atomic int failures;
static _Atomic int created;
static support_counter deleted;

static void expect(bool as_expected) {
  if (!as_expected) ++failures;
}

static pega_status return_thread(void *self, const pega_value *args, int32_t num_args,
                                 pega_value *result, pega_error *error) {
  (void)args;
  (void)num_args;
  (void)error;
  *result = pega_value_bool(self == &deleted);
  return PEGA_OK;
}

static pega_function *make(const char *name) {
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  pega_function *function = NULL;
  options.name = name;
  options.call = return_thread;
  options.self = &deleted;
  options.deleter = support_count;
  expect(pega_function_create(&options, &function, NULL) == PEGA_OK);
  ++created;
  return function;
}

static void one_round(int thread, int round) {
  char own[32], shared[32];
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function, *found;
  snprintf(own, sizeof own, "t.own.%d", thread);
  snprintf(shared, sizeof shared, "t.shared.%d", (thread + round) % kNames);

  /* A name that this thread alone uses is there from add to remove, whatever others do. */
  function = make(own);
  expect(pega_registry_add(function, 0, &error) == PEGA_OK);
  expect(pega_registry_add(function, 0, &error) == PEGA_ERROR_ALREADY_EXISTS);
  expect(pega_registry_get(own, &found, &error) == PEGA_OK && found == function);
  pega_function_release(found);

  /* A shared name may be there or not; what is found works. */
  pega_function *mine = make(shared);
  expect(pega_registry_add(mine, PEGA_REGISTER_OVERRIDE, &error) == PEGA_OK);
  pega_function_release(mine);
  const pega_status got = pega_registry_get(shared, &found, &error);
  expect(got == PEGA_OK || got == PEGA_ERROR_NOT_FOUND);
  if (got == PEGA_OK) {
    pega_value result;
    expect(pega_function_call(found, NULL, 0, &result, &error) == PEGA_OK && result.as.boolean);
    pega_function_release(found);
  }
  if (round % 16 == 0) {
    pega_value list;
    expect(pega_registry_list(&list, &error) == PEGA_OK);
    expect(pega_value_size(&list) >= 3);
    pega_value_release(&list);
  }
  const pega_status removed = pega_registry_remove(shared, &error);
  expect(removed == PEGA_OK || removed == PEGA_ERROR_NOT_FOUND);
  expect(pega_registry_remove(own, &error) == PEGA_OK);
  pega_function_release(function);
  pega_error_clear(&error);
}

static void *run(void *arg) {
  const int thread = (int)(intptr_t)arg;
  pega_function *solve = NULL;
  pthread_barrier_wait(&barrier);
  /* The first use of all: everyone sees the library's own functions. */
  expect(pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE, &solve, NULL) == PEGA_OK);
  pega_function_release(solve);
  for (int round = 0; round < kRounds; ++round) one_round(thread, round);
  return NULL;
}

static void test_threads(void **state) {
  (void)state;
  pthread_t threads[kThreads];
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 512 * 1024);
  assert_int_equal(pthread_barrier_init(&barrier, NULL, kThreads), 0);
  for (int i = 0; i < kThreads; ++i) {
    assert_int_equal(pthread_create(&threads[i], &attributes, run, (void *)(intptr_t)i), 0);
  }
  for (int i = 0; i < kThreads; ++i) pthread_join(threads[i], NULL);
  pthread_attr_destroy(&attributes);
  assert_int_equal(failures, 0);

  /* Nothing is left but what the library has of its own, and every function is gone. */
  pega_error error = PEGA_ERROR_INIT;
  for (int i = 0; i < kNames; ++i) {
    char name[32];
    snprintf(name, sizeof name, "t.shared.%d", i);
    pega_registry_remove(name, NULL);
  }
  pega_value list;
  EXPECT_OK(pega_registry_list(&list, &error), &error);
  assert_int_equal(pega_value_size(&list), NUM_BUILTINS);
  pega_value_release(&list);
  assert_int_equal(created, 2 * kThreads * kRounds);
  assert_int_equal(deleted.count, created);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_threads)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
