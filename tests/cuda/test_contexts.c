/* SPDX-License-Identifier: Apache-2.0 */
/* Where a launch goes: the thread's context, its tensors' device, its stream, its pointer; and that the
 * contexts of the thread are after each call what they were before. Also what lives how long. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "machine.h"
#include "packs.h"

static const kernel_param params[] = {PARAM("pointer", "x"), END_OF_PARAMS};
#define ON_BOTH(symbol)                                                                  \
  static const kernel_variant symbol[] = {{"sm_90", #symbol "_on_90", .params = params}, \
                                          {"sm_80", #symbol "_on_80", .params = params}}
ON_BOTH(raw);
ON_BOTH(tensor);
ON_BOTH(plain);
static const kernel_function functions[] = {
    {"t.raw", "[{'name':'x','type':'pointer'},{'name':'s','type':'stream'}]", raw, 2, NULL},
    {"t.tensor", "[{'name':'x','type':'Tensor'}]", tensor, 2, NULL},
    {"t.plain", "[{'name':'x','type':'pointer'}]", plain, 2, NULL},
};

static bytes file;
static pega_pack *pack;
static pega_function *raw_form, *tensor_form, *plain_form;
static uint64_t lost; /* modules that went with the context of others that they were in */
static uint64_t memory[2];
static CUcontext primary[2];

static int setup(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pack = pack_open(&file, 0);
  EXPECT_OK(pega_pack_get(pack, "t.raw", &raw_form, &error), &error);
  EXPECT_OK(pega_pack_get(pack, "t.tensor", &tensor_form, &error), &error);
  EXPECT_OK(pega_pack_get(pack, "t.plain", &plain_form, &error), &error);
  for (int i = 0; i < 2; ++i) {
    memory[i] = machine_alloc(i, 256);
    assert_int_equal(cu.cuDevicePrimaryCtxRetain(&primary[i], i), 0);
  }
  assert_null(machine_current());
  return 0;
}

static int teardown(void **state) {
  (void)state;
  const pega_fake_driver_live_counts nothing = {0};
  pega_function_release(raw_form);
  pega_function_release(tensor_form);
  pega_function_release(plain_form);
  pega_pack_release(pack);
  assert_null(machine_current());
  for (int i = 0; i < 2; ++i) {
    machine_free(i, memory[i]);
    assert_int_equal(cu.cuDevicePrimaryCtxRelease_v2(i), 0);
  }
  assert_int_equal(pega_cuda_close(NULL), PEGA_OK);
  machine_expect_live(&nothing, "in the end");
  machine_expect_no_faults(lost);
  return 0;
}

/* The call succeeds, in this context, on this stream, as this kernel; the thread's contexts stay. */
static void expect_in(pega_function *function, const pega_value *args, int32_t count,
                      CUcontext context, CUstream stream, const char *kernel) {
  pega_error error = PEGA_ERROR_INIT;
  const machine_stack stack = machine_get_stack();
  const uint64_t launches = pega_fake_driver_num_launches();
  EXPECT_OK(pega_function_call(function, args, count, NULL, &error), &error);
  machine_expect_stack(&stack, kernel);
  assert_int_equal(pega_fake_driver_num_launches(), launches + 1);
  const pega_fake_driver_launch got = machine_last_launch();
  assert_ptr_equal(got.context, context);
  assert_ptr_equal(got.stream, stream);
  assert_string_equal(got.name, kernel);
}

static pega_value at(int device) { return pega_value_pointer((void *)(uintptr_t)memory[device]); }
#define RAW(device, stream) ARGS(at(device), pega_value_pointer(stream))

static DLTensor tensor_on(int device) {
  static int64_t shape[1] = {4};
  return (DLTensor){(void *)(uintptr_t)memory[device], CUDA(device), 1, FLOAT32, shape, NULL, 0};
}
static void expect_tensor(int device, CUcontext context, CUstream stream, const char *kernel) {
  const DLTensor x = tensor_on(device);
  expect_in(tensor_form, ARGS(pega_value_tensor(&x)), context, stream, kernel);
}

static void push(CUcontext context) { assert_int_equal(cu.cuCtxPushCurrent_v2(context), 0); }
static void pop(void) {
  CUcontext popped;
  assert_int_equal(cu.cuCtxPopCurrent_v2(&popped), 0);
}

/* Everything twice: the first call prepares, the second finds it prepared. */
static void test_no_context(void **state) {
  (void)state;
  for (int again = 0; again < 2; ++again) {
    expect_in(raw_form, RAW(0, NULL), primary[0], NULL, "raw_on_90");
    expect_in(raw_form, RAW(1, NULL), primary[1], NULL, "raw_on_80");
    expect_tensor(0, primary[0], NULL, "tensor_on_90");
    expect_tensor(1, primary[1], NULL, "tensor_on_80");
    expect_in(plain_form, ARGS(at(1)), primary[1], NULL, "plain_on_80");
    expect_in(plain_form, ARGS(at(0)), primary[0], NULL, "plain_on_90");
  }
}

static void test_primary_context(void **state) {
  (void)state;
  for (int again = 0; again < 2; ++again) {
    for (int i = 0; i < 2; ++i) {
      push(primary[i]);
      /* A raw call goes where the thread is, a call on tensors where they are. */
      expect_in(raw_form, RAW(0, NULL), primary[i], NULL, i == 0 ? "raw_on_90" : "raw_on_80");
      expect_tensor(0, primary[0], NULL, "tensor_on_90");
      expect_tensor(1, primary[1], NULL, "tensor_on_80");
      pop();
    }
  }
}

static void test_stream_names_the_context(void **state) {
  (void)state;
  CUstream streams[2];
  CUcontext foreign;
  CUstream foreign_stream;
  for (int i = 0; i < 2; ++i) streams[i] = machine_stream(i, 0);
  assert_int_equal(cu.cuCtxCreate_v2(&foreign, 0, 1), 0);
  assert_int_equal(cu.cuStreamCreate(&foreign_stream, 0), 0);
  pop();
  for (int again = 0; again < 3; ++again) {
    expect_in(raw_form, RAW(0, streams[1]), primary[1], streams[1], "raw_on_80");
    expect_in(raw_form, RAW(0, streams[0]), primary[0], streams[0], "raw_on_90");
    const uint64_t loads = pega_fake_driver_count("cuModuleLoadData");
    expect_in(raw_form, RAW(0, foreign_stream), foreign, foreign_stream, "raw_on_80");
    if (again > 0) assert_int_equal(pega_fake_driver_count("cuModuleLoadData"), loads);
  }
  /* Prepared there, it may be captured there, with no context current. */
  CUgraph graph;
  push(foreign);
  assert_int_equal(cu.cuStreamBeginCapture_v2(foreign_stream, 0), 0);
  pop();
  expect_in(raw_form, RAW(0, foreign_stream), foreign, foreign_stream, "raw_on_80");
  push(foreign);
  assert_int_equal(cu.cuStreamEndCapture(foreign_stream, &graph), 0);
  assert_int_equal(cu.cuGraphDestroy(graph), 0);
  pop();
  push(foreign);
  assert_int_equal(cu.cuStreamDestroy_v2(foreign_stream), 0);
  pop();
  assert_int_equal(pega_cuda_close(NULL), PEGA_OK);
  assert_int_equal(cu.cuCtxDestroy_v2(foreign), 0);
  for (int i = 0; i < 2; ++i) machine_destroy_stream(i, streams[i]);
}

/* Preparing happens where a call of the thread would run: then it may be captured there. */
static void test_prepared_in_a_context_of_others(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  CUcontext foreign;
  CUstream stream;
  CUgraph graph;
  assert_int_equal(cu.cuCtxCreate_v2(&foreign, 0, 0), 0);
  assert_int_equal(cu.cuStreamCreate(&stream, 0), 0);
  EXPECT_OK(pega_function_prepare(raw_form, CUDA(0), &error), &error);
  assert_int_equal(cu.cuStreamBeginCapture_v2(stream, 0), 0);
  expect_in(raw_form, RAW(0, stream), foreign, stream, "raw_on_90");
  assert_int_equal(cu.cuStreamEndCapture(stream, &graph), 0);
  assert_int_equal(cu.cuGraphDestroy(graph), 0);
  assert_int_equal(cu.cuStreamDestroy_v2(stream), 0);
  pop();
  assert_int_equal(pega_cuda_close(NULL), PEGA_OK);
  assert_int_equal(cu.cuCtxDestroy_v2(foreign), 0);
}

/* Whichever tensors are given say where a launch goes, and they are on one device. */
static void test_optional_tensors(void **state) {
  (void)state;
  static const kernel_variant variants[] = {{.target = "sm_90", .entry = "some_on_90"},
                                            {.target = "sm_80", .entry = "some_on_80"}};
  static const kernel_function described = {
      "t.some",
      "[{'name':'x','type':'Tensor','optional':true},{'name':'y','type':'Tensor','optional':true}]",
      variants, 2, NULL};
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function;
  pega_pack *own = pack_of(&described, &function);
  const DLTensor first = tensor_on(0);
  const DLTensor second = tensor_on(1);
  expect_in(function, ARGS(pega_value_tensor(&second), pega_value_none()), primary[1], NULL,
            "some_on_80");
  expect_in(function, ARGS(pega_value_none(), pega_value_tensor(&second)), primary[1], NULL,
            "some_on_80");
  expect_in(function, ARGS(pega_value_none(), pega_value_tensor(&first)), primary[0], NULL,
            "some_on_90");
  EXPECT_ERROR(
      pega_function_call(function, ARGS(pega_value_tensor(&first), pega_value_tensor(&second)),
                         NULL, &error),
      &error, PEGA_ERROR_DEVICE, "expected device cuda:0 as in argument 0 'x', got cuda:1");
  pega_error_clear(&error);
  pega_function_release(function);
  pega_pack_release(own);
}

/* A function with no stream parameter takes the current stream of the device it goes to. */
static void test_current_stream(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  CUstream streams[2];
  for (int i = 0; i < 2; ++i) {
    streams[i] = machine_stream(i, 0);
    EXPECT_OK(pega_stream_set(CUDA(i), streams[i], NULL, &error), &error);
  }
  for (int again = 0; again < 2; ++again) {
    expect_tensor(1, primary[1], streams[1], "tensor_on_80");
    expect_tensor(0, primary[0], streams[0], "tensor_on_90");
    /* Unprepared at first: the stream is of where it goes all the same. */
    push(primary[1]);
    expect_in(plain_form, ARGS(at(1)), primary[1], streams[1], "plain_on_80");
    expect_tensor(0, primary[0], streams[0], "tensor_on_90");
    pop();
    expect_in(plain_form, ARGS(at(0)), primary[0], streams[0], "plain_on_90");
  }
  for (int i = 0; i < 2; ++i) {
    EXPECT_OK(pega_stream_set(CUDA(i), NULL, NULL, &error), &error);
    machine_destroy_stream(i, streams[i]);
  }
}

/* Of the same device, but not its primary one: prepared on its own; gone, and another made in its
 * place, it is prepared again. */
static void test_contexts_of_others(void **state) {
  (void)state;
  expect_tensor(0, primary[0], NULL, "tensor_on_90");
  for (int again = 0; again < 3; ++again) {
    CUcontext foreign;
    assert_int_equal(cu.cuCtxCreate_v2(&foreign, 0, 0), 0);
    const uint64_t modules = machine_live().modules;
    expect_tensor(0, foreign, NULL, "tensor_on_90");
    expect_tensor(0, foreign, NULL, "tensor_on_90");
    assert_int_equal(machine_live().modules, modules + 1);
    expect_in(raw_form, RAW(1, NULL), foreign, NULL, "raw_on_90");
    expect_tensor(1, primary[1], NULL, "tensor_on_80");
    pop();
    expect_tensor(0, primary[0], NULL, "tensor_on_90");
    /* Closed before, it takes nothing with it. */
    if (again == 2) {
      assert_int_equal(pega_cuda_close(NULL), PEGA_OK);
    } else {
      lost += 2;
    }
    assert_int_equal(cu.cuCtxDestroy_v2(foreign), 0);
  }
}

static void test_prepare_leaves_the_context(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  const CUcontext stacks[] = {NULL, primary[0], primary[1]};
  for (int i = 0; i < COUNT(stacks); ++i) {
    for (int device = 0; device < 2; ++device) {
      if (stacks[i] != NULL) push(stacks[i]);
      const machine_stack stack = machine_get_stack();
      EXPECT_OK(pega_function_prepare(raw_form, CUDA(device), &error), &error);
      machine_expect_stack(&stack, "prepare");
      EXPECT_OK(pega_function_prepare(raw_form, CUDA(device), &error), &error);
      machine_expect_stack(&stack, "prepare again");
      pega_device_info info = {.struct_size = sizeof info};
      EXPECT_OK(pega_device_query(CUDA(device), &info, &error), &error);
      machine_expect_stack(&stack, "query");
      EXPECT_OK(pega_cuda_close(&error), &error);
      machine_expect_stack(&stack, "close");
      if (stacks[i] != NULL) pop();
    }
  }
  EXPECT_ERROR(pega_function_prepare(raw_form, CUDA(2), &error), &error, PEGA_ERROR_DEVICE,
               "there is no cuda:2: expected 0 to 1");
  EXPECT_ERROR(pega_function_prepare(raw_form, CUDA(-1), &error), &error, PEGA_ERROR_DEVICE,
               "there is no cuda:-1");
  EXPECT_ERROR(pega_function_prepare(raw_form, CPU, &error), &error, PEGA_ERROR_DEVICE,
               "expected a cuda device, got cpu");
  pega_error_clear(&error);
}

static void test_host_pointer_without_a_context(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  char here[64];
  EXPECT_ERROR(
      pega_function_call(raw_form, ARGS(pega_value_pointer(here), pega_value_pointer(NULL)), NULL,
                         &error),
      &error, PEGA_ERROR_DRIVER, "t.raw: cuPointerGetAttribute failed: ", "nothing was launched",
      "make a context current");
  const DLTensor x = tensor_on(0);
  DLTensor elsewhere = x;
  elsewhere.device.device_id = 7;
  EXPECT_ERROR(pega_function_call(tensor_form, ARGS(pega_value_tensor(&elsewhere)), NULL, &error),
               &error, PEGA_ERROR_DEVICE, "there is no cuda:7");
  pega_error_clear(&error);
}

/* ---- Captures and graphs ---- */

static void test_graph(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  CUstream stream = machine_stream(0, 1);
  CUgraph graph;
  CUgraphExec exec;
  EXPECT_OK(pega_function_prepare(raw_form, CUDA(0), &error), &error);
  push(primary[0]);
  assert_int_equal(cu.cuStreamBeginCapture_v2(stream, 0), 0);
  expect_in(raw_form, RAW(0, stream), primary[0], stream, "raw_on_90");
  assert_true(machine_last_launch().captured);
  /* Another function, which is not prepared: refused, and nothing is harmed. */
  EXPECT_OK(pega_stream_set(CUDA(0), stream, NULL, &error), &error);
  const DLTensor x = tensor_on(0);
  EXPECT_ERROR(
      pega_function_call(tensor_form, ARGS(pega_value_tensor(&x)), NULL, &error), &error,
      PEGA_ERROR_UNAVAILABLE,
      "t.tensor: nothing was launched: it is not prepared on cuda:0 and the stream is being "
      "captured",
      "call pega_function_prepare() before the capture (the capture is still valid)");
  assert_int_equal(error.code, 900);
  /* Prepared in the middle of it, it goes. */
  EXPECT_OK(pega_function_prepare(tensor_form, CUDA(0), &error), &error);
  expect_tensor(0, primary[0], stream, "tensor_on_90");
  /* On the legacy stream, which waits for the one that captures, nothing can be loaded either. */
  EXPECT_OK(pega_stream_set(CUDA(0), NULL, NULL, &error), &error);
  assert_int_equal(cu.cuStreamEndCapture(stream, &graph), 0);
  assert_int_equal(cu.cuGraphInstantiateWithFlags(&exec, graph, 0), 0);
  /* The functions and the pack may go: what a graph holds stays loaded. */
  pega_function_release(raw_form);
  pega_function_release(tensor_form);
  raw_form = tensor_form = NULL;
  const uint64_t launches = pega_fake_driver_num_launches();
  assert_int_equal(cu.cuGraphLaunch(exec, stream), 0);
  assert_int_equal(pega_fake_driver_num_launches(), launches + 2);
  assert_true(machine_last_launch().replayed);
  assert_int_equal(cu.cuStreamSynchronize(stream), 0);
  assert_int_equal(cu.cuGraphExecDestroy(exec), 0);
  assert_int_equal(cu.cuGraphDestroy(graph), 0);
  pop();
  machine_destroy_stream(0, stream);
  pega_error_clear(&error);
}

static void test_legacy_stream_beside_a_capture(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  CUstream stream = machine_stream(0, 0); /* one that the legacy stream waits for */
  CUgraph graph;
  push(primary[0]);
  assert_int_equal(cu.cuStreamBeginCapture_v2(stream, 2), 0);
  EXPECT_ERROR(pega_function_call(raw_form, RAW(0, NULL), NULL, &error), &error,
               PEGA_ERROR_UNAVAILABLE, "the capture is still valid");
  assert_int_equal(cu.cuStreamEndCapture(stream, &graph), 0);
  assert_int_equal(cu.cuGraphDestroy(graph), 0);
  pop();
  machine_destroy_stream(0, stream);
  pega_error_clear(&error);
}

/* ---- Lifetimes ---- */

static void test_functions_outlive_their_pack(void **state) {
  (void)state;
  pega_pack_release(pack);
  pack = NULL;
  expect_in(raw_form, RAW(0, NULL), primary[0], NULL, "raw_on_90");
  /* Two of one name share what is prepared. */
  pack = pack_open(&file, 0);
  pega_error error = PEGA_ERROR_INIT;
  pega_function *twin, *other;
  EXPECT_OK(pega_pack_get(pack, "t.raw", &twin, &error), &error);
  EXPECT_OK(pega_pack_get(pack, "t.raw", &other, &error), &error);
  uint64_t loads = pega_fake_driver_count("cuModuleLoadData");
  const uint64_t modules = machine_live().modules;
  /* The pack was opened anew: its bytes are the same, so the module is. */
  expect_in(twin, RAW(0, NULL), primary[0], NULL, "raw_on_90");
  assert_int_equal(pega_fake_driver_count("cuModuleLoadData"), loads);
  assert_int_equal(machine_live().modules, modules);
  const uint64_t gets = pega_fake_driver_count("cuModuleGetFunction");
  pega_function_release(twin);
  expect_in(other, RAW(0, NULL), primary[0], NULL, "raw_on_90");
  assert_int_equal(pega_fake_driver_count("cuModuleGetFunction"), gets);
  /* Released and got again: nothing was unloaded meanwhile. */
  pega_function_release(other);
  EXPECT_OK(pega_pack_get(pack, "t.raw", &other, &error), &error);
  expect_in(other, RAW(0, NULL), primary[0], NULL, "raw_on_90");
  assert_int_equal(pega_fake_driver_count("cuModuleLoadData"), loads);
  pega_function_release(other);
}

static void test_close_and_again(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  for (int i = 0; i < 3; ++i) {
    expect_in(raw_form, RAW(0, NULL), primary[0], NULL, "raw_on_90");
    expect_tensor(1, primary[1], NULL, "tensor_on_80");
    assert_int_equal(machine_live().modules, 2);
    EXPECT_OK(pega_cuda_close(&error), &error);
    assert_int_equal(machine_live().modules, 0);
    assert_int_equal(machine_live().retained, 4); /* the test's own */
    EXPECT_OK(pega_cuda_close(&error), &error);
  }
}

/* The last launch that went well is known by a name that outlives its function. */
static void test_name_outlives_the_function(void **state) {
  (void)state;
  expect_in(raw_form, RAW(0, NULL), primary[0], NULL, "raw_on_90");
  pega_function_release(raw_form);
  raw_form = NULL;
  assert_string_equal(machine_health(0).last_good, "t.raw");
  assert_string_equal(machine_health(1).last_good, "");
}

/* A thread that launches another function, and stays. */
typedef struct launcher {
  pthread_barrier_t barrier;
  pega_status status;
  char before[256], after[256];
} launcher;

static void *launch_and_stay(void *arg) {
  launcher *mine = arg;
  pega_device_health_info health = {.struct_size = sizeof health};
  mine->status = pega_device_health(CUDA(0), &health, NULL);
  memcpy(mine->before, health.last_good, sizeof mine->before);
  if (mine->status == PEGA_OK) {
    mine->status = pega_function_call(plain_form, ARGS(at(0)), NULL, NULL);
  }
  if (mine->status == PEGA_OK) mine->status = pega_device_health(CUDA(0), &health, NULL);
  memcpy(mine->after, health.last_good, sizeof mine->after);
  pthread_barrier_wait(&mine->barrier);
  pthread_barrier_wait(&mine->barrier);
  return NULL;
}

/* A thread's own last launch is told, as threads that launch different functions do not write one place. Some
 * share theirs with this thread: then the next. */
static void test_last_good_of_a_thread(void **state) {
  (void)state;
  enum { kMost = 32 };
  static launcher launchers[kMost];
  pthread_t threads[kMost];
  int count = 0;
  bool kept = false;
  while (count < kMost && !kept) {
    launcher *next = &launchers[count];
    expect_in(raw_form, RAW(0, NULL), primary[0], NULL, "raw_on_90");
    assert_string_equal(machine_health(0).last_good, "t.raw");
    assert_int_equal(pthread_barrier_init(&next->barrier, NULL, 2), 0);
    assert_int_equal(pthread_create(&threads[count++], NULL, launch_and_stay, next), 0);
    pthread_barrier_wait(&next->barrier);
    assert_int_equal(next->status, PEGA_OK);
    assert_true(next->before[0] != '\0'); /* another thread's */
    assert_string_equal(next->after, "t.plain");
    kept = strcmp(machine_health(0).last_good, "t.raw") == 0;
  }
  for (int i = 0; i < count; ++i) {
    pthread_barrier_wait(&launchers[i].barrier);
    pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&launchers[i].barrier);
  }
  assert_true(kept);
  assert_string_equal(machine_health(1).last_good, "");
}

int main(void) {
  machine_start("devices=2");
  machine_set_capability(1, 8, 6);
  file = pack_make("contexts", functions, COUNT(functions), NULL, 0);
  assert_int_equal(cu.cuInit(0), 0);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      TEST(test_no_context),
      TEST(test_primary_context),
      TEST(test_stream_names_the_context),
      TEST(test_prepared_in_a_context_of_others),
      TEST(test_optional_tensors),
      TEST(test_current_stream),
      TEST(test_prepare_leaves_the_context),
      TEST(test_host_pointer_without_a_context),
      TEST(test_graph),
      TEST(test_legacy_stream_beside_a_capture),
      TEST(test_functions_outlive_their_pack),
      TEST(test_close_and_again),
      TEST(test_name_outlives_the_function),
      TEST(test_last_good_of_a_thread),
      TEST(test_contexts_of_others),
  };
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  bytes_free(&file);
  return failed;
}
