/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the solve is launched: on the stream and in the context that it should, from any thread, inside
 * a stream capture, prepared and not.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "fixture.h"

enum { NUM_THREADS = 16 };

static pega_function *raw_form(void) { return fixture_function(PEGA_QWEN35_CHUNK_SOLVE_RAW); }

static void prepare(void) {
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_OK(pega_function_prepare(raw_form(), CUDA0, &error), &error);
}

/* Gives everything back, so that the next call finds nothing prepared. */
static void start_over(void) {
  pega_error error = PEGA_ERROR_INIT;
  GPU_OK(gpu.synchronize());
  EXPECT_OK(pega_cuda_close(&error), &error);
}

static CUcontext current(void) {
  CUcontext context = NULL;
  GPU_OK(gpu.context_get(&context));
  return context;
}

/* ---- streams ---- */

static atomic_bool open_gate;

static void wait_at_gate(void *user) {
  (void)user;
  const struct timespec pause = {0, 100000};
  for (int i = 0; i < 100000 && !atomic_load(&open_gate); ++i) nanosleep(&pause, NULL);
}

/* Behind a gate on its stream nothing may be done; on the other stream all of it. */
static void run_two_streams(solve_form form) {
  CUstream held;
  CUstream other;
  GPU_OK(gpu.stream_create(&held, GPU_STREAM_NON_BLOCKING));
  GPU_OK(gpu.stream_create(&other, GPU_STREAM_NON_BLOCKING));
  device_solve first = device_solve_create(1000, 8, -0.1, 21, false);
  device_solve second = device_solve_create(129, 32, -0.1, 22, false);
  atomic_store(&open_gate, false);
  const bool gated = gpu.host_function != NULL;
  if (gated) GPU_OK(gpu.host_function(held, wait_at_gate, NULL));
  device_solve_launch(&first, form, held);
  device_solve_launch(&second, form, other);
  GPU_OK(gpu.stream_synchronize(other));
  device_solve_expect_right(&second, "the free stream");
  const bool untouched = !gated || device_solve_untouched(&first);
  atomic_store(&open_gate, true);
  GPU_OK(gpu.stream_synchronize(held));
  assert_true(untouched);
  device_solve_expect_right(&first, "the held stream");
  device_solve_free(&first);
  device_solve_free(&second);
  GPU_OK(gpu.stream_destroy(held));
  GPU_OK(gpu.stream_destroy(other));
}

static void test_two_streams(void **state) {
  (void)state;
  if (gpu.host_function == NULL) fixture_rehearsal("that a launch waits for its stream");
  prepare();
  for (int form = 0; form < NUM_FORMS; ++form) run_two_streams((solve_form)form);
}

/* ---- contexts and threads ---- */

typedef struct job {
  device_solve *solve;
  CUcontext context; /* made current by the thread; NULL for none */
  CUstream stream;
  solve_form form;
  int repeats;
  pthread_barrier_t *barrier;
  pega_error error;
  CUcontext after;
  CUresult result;
} job;

static void *run_job(void *user) {
  job *it = user;
  it->result = it->context == NULL ? 0 : gpu.context_set(it->context);
  if (it->barrier != NULL) pthread_barrier_wait(it->barrier);
  for (int i = 0; i < it->repeats && it->result == 0 && it->error.status == 0; ++i) {
    device_solve_call(it->solve, it->form, it->stream, &it->error);
  }
  if (it->result == 0) it->result = gpu.context_get(&it->after);
  return NULL;
}

static void run_on_thread(job *it) {
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, run_job, it), 0);
  pthread_join(thread, NULL);
  GPU_OK(it->result);
  EXPECT_OK((pega_status)it->error.status, &it->error);
  assert_ptr_equal(it->after, it->context);
}

/* What the driver itself tells a thread that has no context: what the library can build on. */
static void *ask_without_context(void *user) {
  const job *it = user;
  CUcontext context = NULL;
  int ordinal = -1;
  if (gpu.stream_context == NULL || gpu.pointer_get == NULL) return NULL;
  CUresult of_stream = gpu.stream_context(it->stream, &context);
  CUresult of_pointer = gpu.pointer_get(&ordinal, GPU_POINTER_DEVICE, it->solve->a_tril);
  printf("without a context: cuStreamGetCtx %s, cuPointerGetAttribute(device) %s, %d\n",
         of_stream == 0 ? "succeeds" : gpu_result_name(of_stream),
         of_pointer == 0 ? "succeeds" : gpu_result_name(of_pointer), ordinal);
  return NULL;
}

static void test_thread_without_context(void **state) {
  (void)state;
  device_solve solve = device_solve_create(200, 8, -0.1, 31, false);
  CUstream stream;
  GPU_OK(gpu.stream_create(&stream, GPU_STREAM_NON_BLOCKING));
  job asked = {.solve = &solve, .stream = stream};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, ask_without_context, &asked), 0);
  pthread_join(thread, NULL);
  for (int prepared = 0; prepared < 2; ++prepared) {
    for (int form = 0; form < NUM_FORMS; ++form) {
      for (int own_stream = 0; own_stream < 2; ++own_stream) {
        if (prepared == 0) start_over();
        device_solve_poison(&solve);
        job it = {.solve = &solve,
                  .stream = own_stream ? stream : NULL,
                  .form = (solve_form)form,
                  .repeats = 2};
        run_on_thread(&it);
        GPU_OK(gpu.synchronize());
        device_solve_expect_right(&solve, "a thread without a context");
      }
    }
  }
  GPU_OK(gpu.stream_destroy(stream));
  device_solve_free(&solve);
}

/* A context that others made: used, left current, and not confused with the next one at its address. */
static void test_other_context(void **state) {
  (void)state;
  prepare();
  CUcontext primary = current();
  for (int round = 0; round < 3; ++round) {
    CUcontext context;
    GPU_OK(gpu_context_create(&context));
    device_solve solve = device_solve_create(129, 8, -0.1, 41 + (uint64_t)round, false);
    CUstream stream;
    GPU_OK(gpu.stream_create(&stream, GPU_STREAM_NON_BLOCKING));
    for (int form = 0; form < NUM_FORMS; ++form) {
      device_solve_poison(&solve);
      device_solve_launch(&solve, (solve_form)form, form == FORM_RAW ? stream : NULL);
      assert_ptr_equal(current(), context);
      GPU_OK(gpu.synchronize());
      device_solve_expect_right(&solve, "a context of cuCtxCreate");
      job it = {.solve = &solve, .context = context, .stream = stream, .repeats = 3};
      device_solve_poison(&solve);
      run_on_thread(&it);
      GPU_OK(gpu.synchronize());
      device_solve_expect_right(&solve, "a thread in a context of cuCtxCreate");
    }
    GPU_OK(gpu.stream_destroy(stream));
    device_solve_free(&solve);
    GPU_OK(gpu.context_destroy(context));
    GPU_OK(gpu.context_set(primary));
  }
}

static void run_many_threads(bool same_start) {
  pthread_barrier_t barrier;
  pthread_barrier_init(&barrier, NULL, NUM_THREADS);
  pthread_t threads[NUM_THREADS];
  device_solve solves[NUM_THREADS];
  job jobs[NUM_THREADS];
  CUcontext context = current();
  for (int i = 0; i < NUM_THREADS; ++i) {
    solves[i] = device_solve_create(60 + 3 * i, 8, -0.1, 51 + (uint64_t)i, false);
    memset(&jobs[i], 0, sizeof jobs[i]);
    jobs[i].solve = &solves[i];
    jobs[i].context = i % 4 == 3 ? NULL : context;
    jobs[i].form = (solve_form)(i % NUM_FORMS);
    jobs[i].repeats = same_start ? 1 : 50;
    jobs[i].barrier = &barrier;
    GPU_OK(gpu.stream_create(&jobs[i].stream, GPU_STREAM_NON_BLOCKING));
  }
  if (same_start) start_over();
  for (int i = 0; i < NUM_THREADS; ++i) {
    assert_int_equal(pthread_create(&threads[i], NULL, run_job, &jobs[i]), 0);
  }
  for (int i = 0; i < NUM_THREADS; ++i) pthread_join(threads[i], NULL);
  GPU_OK(gpu.synchronize());
  for (int i = 0; i < NUM_THREADS; ++i) {
    GPU_OK(jobs[i].result);
    EXPECT_OK((pega_status)jobs[i].error.status, &jobs[i].error);
    device_solve_expect_right(&solves[i], "one of 16 threads");
    GPU_OK(gpu.stream_destroy(jobs[i].stream));
    device_solve_free(&solves[i]);
  }
  pthread_barrier_destroy(&barrier);
}

static void test_sixteen_threads(void **state) {
  (void)state;
  for (int i = 0; i < 5; ++i) run_many_threads(true);
  run_many_threads(false);
}

/* ---- capture ---- */

static void run_captured(solve_form form) {
  CUstream stream;
  CUgraph graph;
  CUgraphExec exec;
  prepare();
  GPU_OK(gpu.stream_create(&stream, GPU_STREAM_NON_BLOCKING));
  device_solve solve = device_solve_create(300, 8, -0.1, 61, false);
  device_solve next = device_solve_create(300, 8, -10, 62, false);
  GPU_OK(gpu.capture_begin(stream, GPU_CAPTURE_GLOBAL));
  device_solve_launch(&solve, form, stream);
  GPU_OK(gpu.capture_end(stream, &graph));
  assert_true(device_solve_untouched(&solve)); /* captured, not run */
  GPU_OK(gpu.graph_instantiate(&exec, graph, 0));
  GPU_OK(gpu.graph_launch(exec, stream));
  GPU_OK(gpu.stream_synchronize(stream));
  device_solve_expect_right(&solve, "a replayed graph");

  const solve_problem before = solve.problem;
  solve.problem = next.problem;
  device_solve_upload(&solve);
  device_solve_poison(&solve);
  GPU_OK(gpu.graph_launch(exec, stream));
  GPU_OK(gpu.stream_synchronize(stream));
  device_solve_expect_right(&solve, "a graph replayed on other data");
  solve.problem = before;

  GPU_OK(gpu.exec_destroy(exec));
  GPU_OK(gpu.graph_destroy(graph));
  GPU_OK(gpu.stream_destroy(stream));
  device_solve_free(&solve);
  device_solve_free(&next);
}

static void test_capture(void **state) {
  (void)state;
  for (int form = 0; form < NUM_FORMS; ++form) run_captured((solve_form)form);
}

static void run_unprepared(solve_form form) {
  CUstream stream;
  CUgraph graph = NULL;
  CUgraphExec exec;
  pega_error error = PEGA_ERROR_INIT;
  GPU_OK(gpu.stream_create(&stream, GPU_STREAM_NON_BLOCKING));
  device_solve solve = device_solve_create(100, 8, -0.1, 71, false);
  start_over();
  GPU_OK(gpu.capture_begin(stream, GPU_CAPTURE_GLOBAL));
  EXPECT_ERROR(device_solve_call(&solve, form, stream, &error), &error, PEGA_ERROR_UNAVAILABLE,
               "not prepared on cuda:0", "pega_function_prepare", "the capture is still valid");
  int status = 0;
  GPU_OK(gpu.capture_status(stream, &status));
  assert_int_equal(status, GPU_CAPTURE_ACTIVE);
  /* What is captured afterwards runs. */
  GPU_OK(gpu.set_bytes_async(solve.out_memory, 0x5a, 64, stream));
  GPU_OK(gpu.capture_end(stream, &graph));
  assert_non_null(graph);
  GPU_OK(gpu.graph_instantiate(&exec, graph, 0));
  GPU_OK(gpu.graph_launch(exec, stream));
  GPU_OK(gpu.stream_synchronize(stream));
  unsigned char written[64];
  GPU_OK(gpu.copy_out(written, solve.out_memory, sizeof written));
  assert_int_equal(written[0], 0x5a);
  assert_int_equal(written[63], 0x5a);
  GPU_OK(gpu.exec_destroy(exec));
  GPU_OK(gpu.graph_destroy(graph));
  /* And outside of a capture the call prepares by itself. */
  device_solve_poison(&solve);
  device_solve_launch(&solve, form, stream);
  GPU_OK(gpu.stream_synchronize(stream));
  device_solve_expect_right(&solve, "a call that prepares");
  GPU_OK(gpu.stream_destroy(stream));
  device_solve_free(&solve);
  pega_error_clear(&error);
}

static void test_unprepared_in_capture(void **state) {
  (void)state;
  for (int form = 0; form < NUM_FORMS; ++form) run_unprepared((solve_form)form);
}

/* ---- what is told ---- */

static void test_device_is_told(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  int32_t count = 0;
  EXPECT_OK(pega_device_count(&count, &error), &error);
  assert_true(count >= 1);
  pega_device_info info = {.struct_size = sizeof info};
  EXPECT_OK(pega_device_query(CUDA0, &info, &error), &error);
  assert_string_equal(info.name, gpu.name);
  assert_int_equal(info.driver_version, gpu.version);
  size_t available = 0;
  size_t total = 0;
  GPU_OK(gpu.memory_info(&available, &total));
  /* The two count what is reserved differently. */
  assert_in_range(info.total_memory, total / 20 * 19, total / 20 * 21);
  printf(
      "%s: compute capability %d.%d, %d multiprocessors, %lld bytes of shared memory a block, "
      "%lld MB\n",
      info.name, info.compute_capability / 10, info.compute_capability % 10, info.multiprocessors,
      (long long)info.max_shared_memory, (long long)(info.total_memory >> 20));
  prepare();
  device_solve solve = device_solve_create(1, 1, -0.1, 81, false);
  device_solve_launch(&solve, FORM_RAW, NULL);
  GPU_OK(gpu.synchronize());
  pega_device_health_info health = {.struct_size = sizeof health};
  EXPECT_OK(pega_device_health(CUDA0, &health, &error), &error);
  assert_int_equal(health.code, 0);
  assert_string_equal(health.failed, "");
  assert_string_equal(health.last_good, PEGA_QWEN35_CHUNK_SOLVE_RAW);
  device_solve_free(&solve);
}

int main(void) {
  const int status = fixture_begin_solve();
  if (status != 0) return status;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_device_is_told),  cmocka_unit_test(test_two_streams),
      cmocka_unit_test(test_capture),         cmocka_unit_test(test_unprepared_in_capture),
      cmocka_unit_test(test_other_context),   cmocka_unit_test(test_thread_without_context),
      cmocka_unit_test(test_sixteen_threads),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
