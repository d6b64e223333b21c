/* SPDX-License-Identifier: Apache-2.0 */
/* Many threads: the first launch of all at once, launches beside preparing, getting and releasing. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "machine.h"
#include "packs.h"

enum { kThreads = 64, kFunctions = 12, kRounds = 40 };

static const kernel_param params[] = {PARAM("pointer", "x"), PARAM("i64", "n"), END_OF_PARAMS};
static kernel_variant variants[kFunctions];
static kernel_function functions[kFunctions];
static char names[kFunctions][16], entries[kFunctions][16];
static bytes file;
static pega_pack *pack;
static uint64_t memory;
static pthread_barrier_t barrier;
static _Atomic int failures;

static void *run_all(void *(*body)(void *), int count) {
  pthread_t threads[kThreads];
  pthread_barrier_init(&barrier, NULL, (unsigned)count);
  for (intptr_t i = 0; i < count; ++i) {
    assert_int_equal(pthread_create(&threads[i], NULL, body, (void *)i), 0);
  }
  for (int i = 0; i < count; ++i) assert_int_equal(pthread_join(threads[i], NULL), 0);
  pthread_barrier_destroy(&barrier);
  assert_int_equal(failures, 0);
  return NULL;
}

static void expect(pega_status status, pega_error *error) {
  if (status != PEGA_OK) {
    ++failures;
    print_error("%s: %s\n", pega_status_name(status), pega_error_message(error));
  }
  pega_error_clear(error);
}

static void call(pega_function *function, int64_t n) {
  pega_error error = PEGA_ERROR_INIT;
  expect(pega_function_call(function,
                            ARGS(pega_value_pointer((void *)(uintptr_t)memory), pega_value_int(n),
                                 pega_value_pointer(NULL)),
                            NULL, &error),
         &error);
}

static pega_function *shared_function;

static void *launch_first(void *self) {
  pthread_barrier_wait(&barrier);
  call(shared_function, (intptr_t)self);
  return NULL;
}

static void test_first_launch_of_all(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  for (int round = 0; round < 5; ++round) {
    EXPECT_OK(pega_cuda_close(&error), &error);
    EXPECT_OK(pega_pack_get(pack, names[round], &shared_function, &error), &error);
    pega_fake_driver_clear_records();
    run_all(launch_first, kThreads);
    assert_int_equal(pega_fake_driver_count("cuModuleLoadData"), 1);
    assert_int_equal(pega_fake_driver_count("cuModuleGetFunction"), 1);
    assert_int_equal(pega_fake_driver_count("cuDevicePrimaryCtxRetain"), 1);
    assert_int_equal(pega_fake_driver_num_launches(), kThreads);
    bool seen[kThreads] = {false};
    for (uint64_t i = 0; i < kThreads; ++i) {
      pega_fake_driver_launch launch;
      int64_t n;
      assert_int_equal(pega_fake_driver_get_launch(i, &launch), 0);
      memcpy(&n, launch.params[1].bytes, sizeof n);
      assert_in_range(n, 0, kThreads - 1);
      assert_false(seen[n]);
      seen[n] = true;
    }
    pega_function_release(shared_function);
  }
}

/* Half launch what is prepared; the others get, prepare, launch and release, each in its own order. */
static void *mix(void *self) {
  const int index = (int)(intptr_t)self;
  pthread_barrier_wait(&barrier);
  for (int round = 0; round < kRounds; ++round) {
    if (index % 2 == 0) {
      call(shared_function, round);
      continue;
    }
    pega_error error = PEGA_ERROR_INIT;
    pega_function *function = NULL;
    expect(pega_pack_get(pack, names[(index + round) % kFunctions], &function, &error), &error);
    if (function == NULL) continue;
    if (round % 3 == 0) expect(pega_function_prepare(function, CUDA(0), &error), &error);
    call(function, round);
    pega_function_release(function);
    if (round % 7 == 0) {
      pega_device_health_info health = {.struct_size = sizeof health};
      expect(pega_device_health(CUDA(0), &health, &error), &error);
    }
  }
  return NULL;
}

static void test_launching_beside_preparing(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_OK(pega_cuda_close(&error), &error);
  EXPECT_OK(pega_pack_get(pack, names[0], &shared_function, &error), &error);
  EXPECT_OK(pega_function_prepare(shared_function, CUDA(0), &error), &error);
  pega_fake_driver_clear_records();
  run_all(mix, 16);
  assert_int_equal(pega_fake_driver_num_launches(), 16 * kRounds);
  /* Each of the others was loaded once, however often it was got. */
  assert_int_equal(pega_fake_driver_count("cuModuleLoadData"), kFunctions - 1);
  assert_int_equal(machine_live().modules, kFunctions);
  pega_function_release(shared_function);
}

/* The pack itself is opened and let go by each: the kernels of two are not mixed up. */
static void *open_each(void *self) {
  const int index = (int)(intptr_t)self;
  pthread_barrier_wait(&barrier);
  for (int round = 0; round < kRounds / 4; ++round) {
    pega_error error = PEGA_ERROR_INIT;
    pega_pack *own = NULL;
    pega_function *function = NULL;
    expect(build_open(&file, PEGA_PACK_STATIC, &own, &error), &error);
    expect(pega_pack_get(own, names[(index + round) % kFunctions], &function, &error), &error);
    pega_pack_release(own);
    if (function == NULL) continue;
    call(function, index);
    pega_function_release(function);
  }
  return NULL;
}

static void test_packs_of_each(void **state) {
  (void)state;
  const uint64_t modules = machine_live().modules;
  run_all(open_each, 16);
  assert_int_equal(machine_live().modules, modules);
}

/* A capture of one thread is not harmed by another that prepares. */
static _Atomic bool capturing, prepared;

static void *prepare_beside(void *self) {
  (void)self;
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function = NULL;
  while (!capturing) sched_yield();
  expect(pega_pack_get(pack, names[3], &function, &error), &error);
  expect(pega_function_prepare(function, CUDA(0), &error), &error);
  pega_function_release(function);
  prepared = true;
  return NULL;
}

static void test_capture_beside_preparing(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pthread_t thread;
  CUgraph graph;
  EXPECT_OK(pega_cuda_close(&error), &error);
  EXPECT_OK(pega_pack_get(pack, names[0], &shared_function, &error), &error);
  EXPECT_OK(pega_function_prepare(shared_function, CUDA(0), &error), &error);
  CUstream stream = machine_stream(0, 1);
  CUcontext context;
  assert_int_equal(cu.cuDevicePrimaryCtxRetain(&context, 0), 0);
  assert_int_equal(cu.cuCtxPushCurrent_v2(context), 0);
  assert_int_equal(pthread_create(&thread, NULL, prepare_beside, NULL), 0);
  assert_int_equal(cu.cuStreamBeginCapture_v2(stream, 0), 0);
  capturing = true;
  while (!prepared) sched_yield();
  EXPECT_OK(pega_function_call(shared_function,
                               ARGS(pega_value_pointer((void *)(uintptr_t)memory),
                                    pega_value_int(1), pega_value_pointer(stream)),
                               NULL, &error),
            &error);
  assert_int_equal(cu.cuStreamEndCapture(stream, &graph), 0);
  assert_int_equal(cu.cuGraphDestroy(graph), 0);
  assert_int_equal(pthread_join(thread, NULL), 0);
  assert_int_equal(failures, 0);
  assert_int_equal(cu.cuCtxPopCurrent_v2(&context), 0);
  assert_int_equal(cu.cuDevicePrimaryCtxRelease_v2(0), 0);
  machine_destroy_stream(0, stream);
  pega_function_release(shared_function);
}

int main(void) {
  machine_start("");
  for (int i = 0; i < kFunctions; ++i) {
    snprintf(names[i], sizeof names[i], "t.f%d", i);
    snprintf(entries[i], sizeof entries[i], "f%d", i);
    variants[i] = (kernel_variant){"sm_90", entries[i], .params = params};
    functions[i] = (kernel_function){
        names[i],
        "[{'name':'x','type':'pointer'},{'name':'n','type':'int'},{'name':'s','type':'stream'}]",
        &variants[i], 1, NULL};
  }
  file = pack_make("threads", functions, kFunctions, NULL, 0);
  pack = pack_open(&file, 0);
  /* In a context of its own, so that the primary one is the library's alone. */
  CUcontext holder, popped;
  CUdeviceptr address;
  cu.cuInit(0);
  cu.cuCtxCreate_v2(&holder, 0, 0);
  cu.cuMemAlloc_v2(&address, 256);
  cu.cuCtxPopCurrent_v2(&popped);
  memory = address;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_first_launch_of_all),
      cmocka_unit_test(test_launching_beside_preparing),
      cmocka_unit_test(test_packs_of_each),
      cmocka_unit_test(test_capture_beside_preparing),
  };
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  pega_cuda_close(NULL);
  pega_pack_release(pack);
  bytes_free(&file);
  return failed;
}
