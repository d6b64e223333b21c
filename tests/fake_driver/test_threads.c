/* SPDX-License-Identifier: Apache-2.0 */
/* Many threads in the driver at once: stacks of their own, all calls counted, nothing lost. */
#include "support.h"

#include <pthread.h>
#include <stdatomic.h>

enum { kThreads = 4, kRounds = 300 };

static _Atomic int runs;
static _Atomic int failures;

static int run_plain(const pega_fake_driver_launch *launch, void *user) {
  (void)launch;
  (void)user;
  atomic_fetch_add(&runs, 1);
  return 0;
}

static void expect(CUresult result) {
  if (result != 0) atomic_fetch_add(&failures, 1);
}

static void *work(void *self) {
  (void)self;
  CUcontext got = context;
  expect(cuCtxGetCurrent(&got));
  if (got != NULL) atomic_fetch_add(&failures, 1); /* a new thread has no current context */
  expect(cuCtxSetCurrent(context));
  for (int i = 0; i < kRounds; ++i) {
    CUmodule own;
    CUfunction function;
    CUstream mine;
    CUdeviceptr memory;
    expect(cuModuleLoadData(&own, image()));
    expect(cuModuleGetFunction(&function, own, "plain"));
    expect(cuStreamCreate(&mine, 1));
    expect(cuMemAlloc_v2(&memory, 64));
    expect(cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, mine, NULL, NULL));
    expect(cuLaunchKernel(plain, 1, 1, 1, 32, 1, 1, 0, mine, NULL, NULL));
    expect(cuCtxGetCurrent(&got));
    expect(cuStreamSynchronize(mine));
    expect(cuMemFree_v2(memory));
    expect(cuStreamDestroy_v2(mine));
    expect(cuModuleUnload(own));
  }
  return NULL;
}

static void run_all(void) {
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; ++i)
    assert_int_equal(pthread_create(&threads[i], NULL, work, NULL), 0);
  for (int i = 0; i < kThreads; ++i) pthread_join(threads[i], NULL);
  assert_int_equal(atomic_load(&failures), 0);
}

static void test_recorded(void **state) {
  (void)state;
  atomic_store(&runs, 0);
  ok(pega_fake_driver_set_kernel("plain", run_plain, NULL));
  pega_fake_driver_clear_records();
  run_all();
  assert_int_equal(atomic_load(&runs), 2 * kThreads * kRounds);
  assert_int_equal(pega_fake_driver_count("cuLaunchKernel"), 2 * kThreads * kRounds);
  assert_int_equal(pega_fake_driver_num_launches(), 2 * kThreads * kRounds);
  assert_int_equal(pega_fake_driver_num_calls(), kThreads * (11 * kRounds + 2));
  assert_int_equal(live().modules, 1);
  assert_int_equal(live().allocations, 0);
  assert_int_equal(faults().unloaded_in_flight, 0);
}

static void test_quiet(void **state) {
  (void)state;
  ok(launch_plain(stream));
  ok(cuStreamSynchronize(stream));
  pega_fake_driver_clear_records();
  pega_fake_driver_set_quiet(true);
  run_all();
  assert_int_equal(pega_fake_driver_count("cuLaunchKernel"), 2 * kThreads * kRounds);
  assert_int_equal(pega_fake_driver_count(NULL), kThreads * (11 * kRounds + 2));
  assert_int_equal(pega_fake_driver_num_calls(), 0);
  assert_int_equal(live().streams, 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_recorded, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_quiet, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
