/* SPDX-License-Identifier: Apache-2.0 */
/* The parallel loop: every item once, on as many threads as there is work for. */
#include "core/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

static int num_cpus(void) {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

static void test_num_threads(void **state) {
  (void)state;
  static const struct {
    int64_t count;
    int64_t grain;
    int num_threads;
    int expected;
  } cases[] = {
      {0, 1, 8, 1},
      {-5, 1, 8, 1},
      {1, 1, 8, 1},
      {100, 1, 1, 1},
      {100, 10, 8, 8},
      {100, 10, 20, 10},
      {101, 10, 20, 11},
      {100, 1000, 8, 1},
      {INT64_MAX, 1, 100000, PEGA_PARALLEL_MAX_THREADS},
      {INT64_MAX, INT64_MAX, 8, 1},
      {1, 1, 0, 1},
      {3, 1, 0, 1},
      {INT64_MAX, INT64_MAX - 1, 0, 1},
  };
  for (int i = 0; i < COUNT(cases); ++i) {
    assert_int_equal(
        pega_parallel_num_threads(cases[i].count, cases[i].grain, cases[i].num_threads),
        cases[i].expected);
  }
  /* By default one for each CPU, with two grains of work or more each. */
  const int cpus = num_cpus();
  for (int64_t count = 1; count < 64; ++count) {
    const int threads = pega_parallel_num_threads(count, 1, 0);
    const int64_t expected = count / 2 < 1 ? 1 : count / 2 < cpus ? count / 2 : cpus;
    assert_int_equal(threads, expected);
    assert_int_equal(pega_parallel_num_threads(count, 1, -3), threads);
  }
}

typedef struct record {
  _Atomic int *times;
  int64_t count;
  int64_t grain;
  int64_t written; /* by the body, not atomic: visible to the caller afterwards */
  _Atomic int bad_ranges;
  _Atomic int calls;
} record;

static void visit(void *self, int64_t begin, int64_t end) {
  record *it = self;
  ++it->calls;
  if (begin < 0 || end > it->count || begin >= end) ++it->bad_ranges;
  if (it->grain > 0 && (end - begin > it->grain || begin % it->grain != 0)) ++it->bad_ranges;
  for (int64_t i = begin; i < end; ++i) ++it->times[i];
}

static void test_every_item_once(void **state) {
  (void)state;
  static const int64_t counts[] = {1, 2, 7, 64, 100, 1001};
  static const int64_t grains[] = {1, 3, 64, 5000};
  static const int threads[] = {-1, 0, 1, 2, 3, 17, 1000};
  _Atomic int times[1001];
  for (int c = 0; c < COUNT(counts); ++c) {
    for (int g = 0; g < COUNT(grains); ++g) {
      for (int t = 0; t < COUNT(threads); ++t) {
        memset((void *)times, 0, sizeof times);
        const bool alone = pega_parallel_num_threads(counts[c], grains[g], threads[t]) == 1;
        record it = {.times = times, .count = counts[c], .grain = alone ? 0 : grains[g]};
        pega_parallel_for(counts[c], grains[g], threads[t], visit, &it);
        assert_int_equal(it.bad_ranges, 0);
        for (int64_t i = 0; i < counts[c]; ++i) assert_int_equal(times[i], 1);
      }
    }
  }
  record none = {0};
  pega_parallel_for(0, 1, 4, visit, &none);
  pega_parallel_for(-1, 1, 4, visit, &none);
  assert_int_equal(none.calls, 0);
}

static void write_plainly(void *self, int64_t begin, int64_t end) {
  int64_t *items = self;
  for (int64_t i = begin; i < end; ++i) items[i] = i * i;
}

/* Data go in and come back without locks of the caller's: a race detector looks on. */
static void test_results_are_visible(void **state) {
  (void)state;
  enum { kItems = 10000 };
  int64_t *items = calloc(kItems, sizeof *items);
  assert_non_null(items);
  for (int round = 0; round < 20; ++round) {
    memset(items, 0, kItems * sizeof *items);
    pega_parallel_for(kItems, 100, 4, write_plainly, items);
    for (int64_t i = 0; i < kItems; ++i) assert_int_equal(items[i], i * i);
  }
  free(items);
}

/* As many threads as asked for really run at once: each waits for all others. */
static void meet(void *barrier, int64_t begin, int64_t end) {
  (void)begin;
  (void)end;
  pthread_barrier_wait(barrier);
}

static void test_threads_run_at_once(void **state) {
  (void)state;
  pthread_barrier_t barrier;
  assert_int_equal(pthread_barrier_init(&barrier, NULL, 5), 0);
  pega_parallel_for(5, 1, 5, meet, &barrier);
  pthread_barrier_destroy(&barrier);
}

static void nested(void *self, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    pega_parallel_for(100, 10, 3, visit, &((record *)self)[i]);
  }
}

static void test_nested_loops(void **state) {
  (void)state;
  static _Atomic int times[4][100];
  record records[4];
  for (int i = 0; i < 4; ++i) records[i] = (record){.times = times[i], .count = 100, .grain = 10};
  pega_parallel_for(4, 1, 4, nested, records);
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 100; ++j) assert_int_equal(times[i][j], 1);
  }
}

/* ---- Signals stay with the application's threads ---- */

static _Atomic int wrong_masks;
static pthread_t caller;

static void look_at_mask(void *barrier, int64_t begin, int64_t end) {
  (void)begin;
  (void)end;
  sigset_t mask;
  pthread_sigmask(SIG_SETMASK, NULL, &mask);
  const bool helper = !pthread_equal(pthread_self(), caller);
  if (sigismember(&mask, SIGUSR1) != (helper ? 1 : 0)) ++wrong_masks;
  if (sigismember(&mask, SIGTERM) != (helper ? 1 : 0)) ++wrong_masks;
  /* A fault must reach its handler wherever it happens. */
  if (sigismember(&mask, SIGSEGV) != 0 || sigismember(&mask, SIGBUS) != 0) ++wrong_masks;
  pthread_barrier_wait(barrier);
}

static void test_helpers_block_signals(void **state) {
  (void)state;
  pthread_barrier_t barrier;
  sigset_t before, after;
  caller = pthread_self();
  assert_int_equal(pthread_barrier_init(&barrier, NULL, 4), 0);
  pthread_sigmask(SIG_SETMASK, NULL, &before);
  pega_parallel_for(4, 1, 4, look_at_mask, &barrier);
  pthread_sigmask(SIG_SETMASK, NULL, &after);
  assert_int_equal(wrong_masks, 0);
  for (int number = 1; number < 32; ++number) {
    assert_int_equal(sigismember(&before, number), sigismember(&after, number));
  }
  int cancel_state;
  pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &cancel_state);
  assert_int_equal(cancel_state, PTHREAD_CANCEL_ENABLE);
  pthread_barrier_destroy(&barrier);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_num_threads),         cmocka_unit_test(test_every_item_once),
      cmocka_unit_test(test_results_are_visible), cmocka_unit_test(test_threads_run_at_once),
      cmocka_unit_test(test_nested_loops),        cmocka_unit_test(test_helpers_block_signals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
