/* SPDX-License-Identifier: Apache-2.0 */
/* A handle for each thread and context, a workspace for each of its streams: no lock, no allocation and no
 * sharing once they are there; captures, contexts, forks and failures on the way. */
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "../core/allocations.h"
#include "support_cublas.h"

enum { NUM_THREADS = 16, NUM_CALLS = 200, WORKSPACE = 4096 };

static fake_cublas *state;
static pega_function *gemm;
static pega_error error = PEGA_ERROR_INIT;

typedef struct product {
  float a[4], b[4], c[4];
  DLTensor tensors[3];
  int64_t shape[2];
} product;

/* The fake driver's device memory is the host's, so that the host's will do. */
static void start(product *p, int device) {
  float *data[3] = {p->a, p->b, p->c};
  p->shape[0] = p->shape[1] = 2;
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 4; ++j) data[i][j] = (float)(i + j);
    p->tensors[i] = (DLTensor){
        .data = data[i], .device = CUDA(device), .ndim = 2, .dtype = FLOAT32, .shape = p->shape};
  }
}

static pega_status call(product *p, void *stream, pega_error *failure) {
  const pega_value args[9] = {pega_value_tensor(&p->tensors[0]),
                              pega_value_tensor(&p->tensors[1]),
                              pega_value_tensor(&p->tensors[2]),
                              pega_value_none(),
                              pega_value_none(),
                              pega_value_none(),
                              pega_value_none(),
                              pega_value_none(),
                              pega_value_pointer(stream)};
  return pega_function_call(gemm, args, 9, NULL, failure);
}

static pega_cublas_info describe(void) {
  pega_cublas_info info = {.struct_size = sizeof info};
  EXPECT_OK(pega_cublas_describe(&info, &error), &error);
  return info;
}

static pthread_barrier_t together;

typedef struct worker {
  pthread_t thread;
  CUcontext context;
  CUstream streams[2];
  pega_status status;
  int64_t made, locks;
} worker;

static void *work(void *self) {
  worker *me = self;
  product p;
  pega_error failure = PEGA_ERROR_INIT;
  start(&p, 0);
  (void)cu.cuCtxSetCurrent(
      me->context); /* else each call takes another context, and gives it back */
  me->status = call(&p, me->streams[0], &failure);
  if (me->status == PEGA_OK) me->status = call(&p, me->streams[1], &failure);
  pthread_barrier_wait(&together);
  allocations_begin(0);
  for (int i = 0; me->status == PEGA_OK && i < NUM_CALLS; ++i) {
    me->status = call(&p, me->streams[i % 2], &failure);
  }
  const allocations got = allocations_end();
  me->made = got.made;
  me->locks = got.locks;
  pthread_barrier_wait(&together); /* all are alive together: none takes over another's handle */
  pega_error_clear(&failure);
  return NULL;
}

static void run_threads(worker *workers) {
  assert_int_equal(pthread_barrier_init(&together, NULL, NUM_THREADS), 0);
  for (int i = 0; i < NUM_THREADS; ++i) {
    assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
  }
  for (int i = 0; i < NUM_THREADS; ++i) {
    assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
    assert_int_equal(workers[i].status, PEGA_OK);
    if (!allocations_are_counted()) continue;
    assert_int_equal(workers[i].made, 0);
    assert_int_equal(workers[i].locks, 0);
  }
  pthread_barrier_destroy(&together);
}

static void threads(void) {
  worker workers[NUM_THREADS] = {{0}};
  state = cublas_start("quiet=1", FAKE_12, WORKSPACE);
  gemm = cublas_function();
  const pega_fake_driver_live_counts before = machine_live();
  CUcontext primary;
  assert_int_equal(cu.cuDevicePrimaryCtxRetain(&primary, 0), 0);
  for (int i = 0; i < NUM_THREADS; ++i) {
    workers[i].context = primary;
    workers[i].streams[0] = machine_stream(0, 1);
    workers[i].streams[1] = machine_stream(0, 1);
  }
  state->quiet = true;
  run_threads(workers);
  pega_cublas_info info = describe();
  assert_true(info.handles == NUM_THREADS);
  assert_true(info.workspaces == 2 * NUM_THREADS);
  assert_true(info.workspace_bytes == 2 * NUM_THREADS * WORKSPACE);
  /* Threads that come after them take over what they left. */
  run_threads(workers);
  info = describe();
  assert_true(info.handles == NUM_THREADS);
  cublas_expect_clean(state);
  for (int i = 0; i < NUM_THREADS; ++i) {
    machine_destroy_stream(0, workers[i].streams[0]);
    machine_destroy_stream(0, workers[i].streams[1]);
  }
  EXPECT_OK(pega_cublas_close(&error), &error);
  assert_int_equal(cu.cuDevicePrimaryCtxRelease_v2(0), 0);
  assert_int_equal(state->handles, 0);
  machine_expect_live(&before, "after pega_cublas_close()");
  pega_function_release(gemm);
}

/* On the way of a call: the context query and cuBLAS, nothing else of the driver. */
static void path(void) {
  product p;
  start(&p, 0);
  state = cublas_start("devices=2", FAKE_12, WORKSPACE);
  gemm = cublas_function();
  CUcontext primary;
  assert_int_equal(cu.cuDevicePrimaryCtxRetain(&primary, 0), 0);
  assert_int_equal(cu.cuCtxPushCurrent_v2(primary), 0);
  EXPECT_OK(call(&p, NULL, &error), &error);
  assert_true(p.c[0] == 3 && p.c[3] == 16);
  pega_fake_driver_clear_records();
  const int binds = state->calls[FAKE_SET_STREAM];
  for (int i = 0; i < 10; ++i) EXPECT_OK(call(&p, NULL, &error), &error);
  assert_true(pega_fake_driver_count("cuCtxGetCurrent") == 20); /* and the fake's own */
  assert_true(pega_fake_driver_count("cuStreamIsCapturing") == 10);
  assert_true(pega_fake_driver_count(NULL) == 30);
  assert_int_equal(state->calls[FAKE_SET_STREAM], binds);
  assert_int_equal(state->calls[FAKE_CREATE], 1);
  assert_int_equal(cu.cuCtxPopCurrent_v2(&primary), 0);
  assert_int_equal(cu.cuDevicePrimaryCtxRelease_v2(0), 0);
}

static void contexts(void) {
  product p, other;
  start(&p, 0);
  start(&other, 1);
  state = cublas_start("devices=2", FAKE_12, WORKSPACE);
  gemm = cublas_function();
  /* None current: the primary one, which is not current afterwards. */
  EXPECT_OK(call(&p, NULL, &error), &error);
  assert_null(machine_current());
  /* One of the other device. */
  EXPECT_OK(call(&other, NULL, &error), &error);
  CUcontext own, current;
  assert_int_equal(cu.cuCtxCreate_v2(&own, 0, 0), 0);
  EXPECT_OK(call(&other, NULL, &error), &error);
  assert_ptr_equal(machine_current(), own);
  EXPECT_OK(call(&p, NULL, &error), &error);
  assert_int_equal(state->calls[FAKE_CREATE], 3);
  assert_int_equal(state->handles, 3);
  /* Destroyed by its owner: its handle is never used again, also where another has its place. */
  const int destroyed = state->calls[FAKE_DESTROY];
  assert_int_equal(cu.cuCtxDestroy_v2(own), 0);
  for (int i = 0; i < 20; ++i) {
    assert_int_equal(cu.cuCtxCreate_v2(&own, 0, 0), 0);
    EXPECT_OK(call(&p, NULL, &error), &error);
    assert_int_equal(cu.cuCtxDestroy_v2(own), 0);
  }
  assert_int_equal(state->calls[FAKE_CREATE], 23);
  assert_int_equal(state->wrong_contexts, 0);
  EXPECT_OK(pega_cublas_close(&error), &error);
  assert_int_equal(state->calls[FAKE_DESTROY], destroyed + 2); /* of the primary ones */
  assert_int_equal(cu.cuCtxGetCurrent(&current), 0);
  assert_null(current);
  pega_fake_driver_live_counts live = machine_live();
  assert_true(live.retained == 0);
  /* And again. */
  EXPECT_OK(call(&p, NULL, &error), &error);
  EXPECT_OK(pega_cublas_close(&error), &error);
}

static void capture(void) {
  product p;
  start(&p, 0);
  state = cublas_start("", FAKE_12, WORKSPACE);
  gemm = cublas_function();
  CUcontext primary;
  CUgraph graph;
  assert_int_equal(cu.cuDevicePrimaryCtxRetain(&primary, 0), 0);
  assert_int_equal(cu.cuCtxPushCurrent_v2(primary), 0);
  CUstream stream, second;
  assert_int_equal(cu.cuStreamCreate(&stream, 1), 0);
  assert_int_equal(cu.cuStreamCreate(&second, 1), 0);
  for (int mode = 0; mode < 3; ++mode) {
    assert_int_equal(cu.cuStreamBeginCapture_v2(stream, mode), 0);
    if (mode == 0) {
      EXPECT_ERROR(call(&p, stream, &error), &error, PEGA_ERROR_UNAVAILABLE, "nothing was launched",
                   "pega_cublas_prepare() before the capture", "still valid");
      assert_int_equal(error.code, 900);
      /* Another stream of the thread is prepared meanwhile, without an end to the capture. */
      EXPECT_OK(call(&p, second, &error), &error);
    } else {
      EXPECT_OK(call(&p, stream, &error), &error);
      assert_true(state->last.captured);
      assert_ptr_equal(state->last.stream, stream);
    }
    assert_int_equal(cu.cuStreamEndCapture(stream, &graph), 0);
    assert_int_equal(cu.cuGraphDestroy(graph), 0);
    if (mode == 0) EXPECT_OK(pega_cublas_prepare(CUDA(0), stream, &error), &error);
  }
  machine_expect_no_faults(0);
  cublas_expect_clean(state);
  /* More streams than workspaces. */
  CUstream streams[16];
  for (int i = 0; i < 14; ++i) {
    assert_int_equal(cu.cuStreamCreate(&streams[i], 1), 0);
    EXPECT_OK(call(&p, streams[i], &error), &error);
  }
  EXPECT_ERROR(call(&p, NULL, &error), &error, PEGA_ERROR_OUT_OF_MEMORY, "16 streams of cuda:0",
               "pega_cublas_release_stream()");
  EXPECT_OK(pega_cublas_release_stream(CUDA(0), stream, &error), &error);
  EXPECT_OK(pega_cublas_release_stream(CUDA(0), stream, &error), &error);
  EXPECT_OK(call(&p, NULL, &error), &error);
  assert_true(describe().workspaces == 16);
  EXPECT_OK(pega_cublas_close(&error), &error);
}

/* Each failure on the way to a first call is told, leaves nothing half-made, and the next call succeeds. */
static void failures(void) {
  static const char *const entries[] = {"cuMemAlloc_v2",
                                        "cuStreamIsCapturing",
                                        "cuCtxGetCurrent",
                                        "cuThreadExchangeStreamCaptureMode",
                                        "cuDevicePrimaryCtxRetain",
                                        "cuCtxPushCurrent_v2"};
  product p;
  start(&p, 0);
  state = cublas_start("", FAKE_12, WORKSPACE);
  gemm = cublas_function();
  for (int i = 0; i < COUNT(entries); ++i) {
    /* The fake cuBLAS allocates first: its second allocation is the workspace. */
    for (uint64_t nth = 1; nth <= (i == 0 ? 2 : 1); ++nth) {
      assert_int_equal(pega_fake_driver_fail(entries[i], nth, i == 0 ? 2 : 999, false), 0);
      const pega_status status = call(&p, NULL, &error);
      pega_fake_driver_clear_failures();
      assert_int_equal(status, i == 0 ? PEGA_ERROR_OUT_OF_MEMORY : PEGA_ERROR_DRIVER);
      EXPECT_TEXT(pega_error_message(&error), "nothing was launched");
      if (nth == 2) EXPECT_TEXT(pega_error_message(&error), "a workspace of 4096 bytes on cuda:0");
      EXPECT_OK(call(&p, NULL, &error), &error);
      EXPECT_OK(pega_cublas_close(&error), &error);
      pega_fake_driver_live_counts live = machine_live();
      assert_true(live.retained == 0 && live.allocations == 0);
      assert_int_equal(state->handles, 0);
    }
  }
  static const fake_function functions[] = {FAKE_CREATE, FAKE_SET_MATH_MODE, FAKE_SET_STREAM,
                                            FAKE_SET_WORKSPACE};
  for (int i = 0; i < COUNT(functions); ++i) {
    state->fail[functions[i]] = 3;
    EXPECT_ERROR(call(&p, NULL, &error), &error, PEGA_ERROR_OUT_OF_MEMORY,
                 "CUBLAS_STATUS_ALLOC_FAILED (3)", "nothing was launched");
    state->fail[functions[i]] = 0;
    EXPECT_OK(call(&p, NULL, &error), &error);
    EXPECT_OK(pega_cublas_close(&error), &error);
    assert_int_equal(state->handles, 0);
    assert_true(machine_live().allocations == 0);
  }
  /* The host's own memory. */
  if (allocations_are_counted()) {
    int failed = 0;
    for (int at = 1; at < 20; ++at) {
      allocations_begin(at);
      const pega_status status = call(&p, NULL, &error);
      const allocations got = allocations_end();
      if (!got.failed) break;
      ++failed;
      if (status != PEGA_OK) assert_int_equal(status, PEGA_ERROR_OUT_OF_MEMORY);
      EXPECT_OK(call(&p, NULL, &error), &error);
      EXPECT_OK(pega_cublas_close(&error), &error);
    }
    assert_true(failed >= 1);
  }
  EXPECT_OK(pega_cublas_close(&error), &error);
  cublas_expect_clean(state);
}

static void *run_once(void *self) {
  pega_error failure = PEGA_ERROR_INIT;
  const pega_status status = call(self, (void *)2, &failure); /* the thread's own default stream */
  pega_error_clear(&failure);
  return (void *)(uintptr_t)status;
}

/* The workspace of a thread's own stream is not taken over with the handle. */
static void own_streams(void) {
  product p;
  pthread_t thread;
  void *status;
  start(&p, 0);
  state = cublas_start("", FAKE_12, WORKSPACE);
  gemm = cublas_function();
  for (int i = 0; i < 3; ++i) {
    assert_int_equal(pthread_create(&thread, NULL, run_once, &p), 0);
    assert_int_equal(pthread_join(thread, &status), 0);
    assert_ptr_equal(status, NULL);
    assert_true(describe().workspaces == 1);
  }
  assert_int_equal(state->calls[FAKE_CREATE], 1);
  assert_true(pega_fake_driver_count("cuMemFree_v2") == 2);
  EXPECT_OK(pega_cublas_close(&error), &error);
}

static void child_of_fork(void) {
  EXPECT_ERROR(pega_cublas_close(&error), &error, PEGA_ERROR_UNAVAILABLE,
               "does not survive a fork");
  EXPECT_ERROR(pega_cublas_prepare(CUDA(0), NULL, &error), &error, PEGA_ERROR_UNAVAILABLE,
               "start the child with exec");
}

static void forks(void) {
  product p;
  start(&p, 0);
  state = cublas_start("", FAKE_12, WORKSPACE);
  gemm = cublas_function();
  EXPECT_OK(call(&p, NULL, &error), &error);
  machine_in_child(child_of_fork);
  EXPECT_OK(call(&p, NULL, &error), &error);
  EXPECT_OK(pega_cublas_close(&error), &error);
}

#define IN_A_CHILD(body)                   \
  static void test_##body(void **unused) { \
    (void)unused;                          \
    machine_in_child(body);                \
  }
IN_A_CHILD(threads)
IN_A_CHILD(path)
IN_A_CHILD(contexts)
IN_A_CHILD(capture)
IN_A_CHILD(failures)
IN_A_CHILD(own_streams)
IN_A_CHILD(forks)

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_threads),  cmocka_unit_test(test_path),
      cmocka_unit_test(test_contexts), cmocka_unit_test(test_capture),
      cmocka_unit_test(test_failures), cmocka_unit_test(test_own_streams),
      cmocka_unit_test(test_forks),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
