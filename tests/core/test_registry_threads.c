/* SPDX-License-Identifier: Apache-2.0 */
/* 64 threads at one registry: first use at once, then adding, replacing, calling and removing; and
 * writers among readers that never rest; and children of fork. */
#include <dlfcn.h>
#include <pega/qwen35.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

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

static _Atomic bool stop;

#if !SUPPORT_SANITIZED

static _Thread_local bool stays; /* does not leave the lock before `leave` */
static _Atomic bool is_in, leave, written;
static _Atomic int64_t looked_up;

/* In the place of the C library's, which it goes on to. */
int pthread_rwlock_unlock(pthread_rwlock_t *lock) {
  static int (*_Atomic next)(pthread_rwlock_t *);
  int (*unlock)(pthread_rwlock_t *) = next;
  if (unlock == NULL) {
    *(void **)&unlock = dlsym(RTLD_NEXT, "pthread_rwlock_unlock");
    next = unlock;
  }
  if (stays) is_in = true;
  while (stays && !leave) sched_yield();
  return unlock(lock);
}

static void look_up(void) {
  pega_function *found = NULL;
  expect(pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE, &found, NULL) == PEGA_OK);
  pega_function_release(found);
}

static void *stay(void *arg) {
  stays = true;
  look_up();
  return arg;
}

static void *spin(void *arg) {
  for (; !stop; ++looked_up) look_up();
  return arg;
}

static void *write_once(void *arg) {
  expect(pega_registry_add(arg, PEGA_REGISTER_OVERRIDE, NULL) == PEGA_OK);
  written = true;
  return NULL;
}

/* While one reader is in and a writer waits, no other reader gets in: else readers that take turns would
 * keep the writer out for ever. */
static void test_writers_get_through(void **state) {
  (void)state;
  static const int64_t most = 20000000;
  pthread_t inside, spinning, writer;
  pega_function *function = make("t.written");
  look_up();
  assert_int_equal(pthread_create(&inside, NULL, stay, NULL), 0);
  while (!is_in) sched_yield();
  assert_int_equal(pthread_create(&spinning, NULL, spin, NULL), 0);
  while (looked_up == 0) sched_yield();
  assert_int_equal(pthread_create(&writer, NULL, write_once, function), 0);
  int64_t before;
  do { /* until the other reader stands still, too */
    before = looked_up;
    nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
  } while (looked_up != before && looked_up < most);
  const bool kept_out = looked_up >= most;
  const bool early = written;
  leave = true;
  pthread_join(writer, NULL);
  stop = true;
  pthread_join(spinning, NULL);
  pthread_join(inside, NULL);
  assert_false(early);
  assert_false(kept_out);
  assert_int_equal(failures, 0);
  assert_int_equal(pega_registry_remove("t.written", NULL), PEGA_OK);
  pega_function_release(function);
}

#else
static void test_writers_get_through(void **state) { (void)state; }
#endif

static void *write_on(void *arg) {
  while (!stop) {
    expect(pega_registry_add(arg, PEGA_REGISTER_OVERRIDE, NULL) == PEGA_OK);
    expect(pega_registry_remove(pega_function_name(arg), NULL) == PEGA_OK);
  }
  return NULL;
}

static void *read_on(void *arg) {
  while (!stop) {
    pega_function *found = NULL;
    expect(pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE, &found, NULL) == PEGA_OK);
    pega_function_release(found);
  }
  return arg;
}

static void use_in_child(void) {
  pega_function *function = NULL;
  alarm(20); /* ends one that hangs */
  if (pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE, &function, NULL) != PEGA_OK) _exit(1);
  if (pega_registry_add(function, PEGA_REGISTER_OVERRIDE, NULL) != PEGA_OK) _exit(2);
  if (pega_registry_remove(PEGA_QWEN35_CHUNK_SOLVE, NULL) != PEGA_OK) _exit(3);
  _exit(0);
}

/* Of a process that uses the registry in other threads every child can use it as well. */
static void test_fork(void **state) {
  (void)state;
  if (SUPPORT_SANITIZED) skip(); /* their own threads and locks do not go through it */
  pthread_t threads[4];
  pega_function *function[2] = {make("t.fork.0"), make("t.fork.1")};
  stop = false;
  for (int i = 0; i < 4; ++i) {
    assert_int_equal(
        pthread_create(&threads[i], NULL, i < 2 ? write_on : read_on, i < 2 ? function[i] : NULL),
        0);
  }
  int status = 0;
  for (int i = 0; i < 300 && status == 0; ++i) {
    const pid_t child = fork();
    if (child == 0) use_in_child();
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
  }
  stop = true;
  for (int i = 0; i < 4; ++i) pthread_join(threads[i], NULL);
  assert_int_equal(status, 0);
  assert_int_equal(failures, 0);
  pega_function_release(function[0]);
  pega_function_release(function[1]);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_threads),
                                     cmocka_unit_test(test_writers_get_through),
                                     cmocka_unit_test(test_fork)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
