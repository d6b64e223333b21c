/* SPDX-License-Identifier: Apache-2.0 */
/* Failure rules, sticky errors, strict loading, what is alive, and misuse that is counted. */
#include "support.h"

static void test_fail_nth(void **state) {
  (void)state;
  CUdeviceptr memory = 0;
  ok(pega_fake_driver_fail("cuMemAlloc_v2", 2, FAKE_CUDA_ERROR_OUT_OF_MEMORY, false));
  ok(cuMemAlloc_v2(&memory, 16));
  ok(cuMemFree_v2(memory));
  memory = 0;
  assert_int_equal(cuMemAlloc_v2(&memory, 16), FAKE_CUDA_ERROR_OUT_OF_MEMORY);
  assert_int_equal(memory, 0);
  assert_int_equal(live().allocations, 0);
  ok(cuMemAlloc_v2(&memory, 16));
  ok(cuMemFree_v2(memory));
}

static void test_fail_from_then_on(void **state) {
  (void)state;
  CUdeviceptr memory;
  CUcontext got;
  ok(pega_fake_driver_fail(NULL, 3, 999, true));
  ok(cuCtxGetCurrent(&got));
  ok(cuMemAlloc_v2(&memory, 16));
  assert_int_equal(cuMemFree_v2(memory), 999);
  assert_int_equal(cuInit(0), 999);
  assert_int_equal(launch_plain(stream), 999);
  assert_int_equal(live().allocations, 1); /* what failed did nothing */
  pega_fake_driver_clear_failures();
  ok(cuMemFree_v2(memory));
  assert_int_equal(pega_fake_driver_fail("cuMemAlloc", 1, 2, false), FAKE_CUDA_ERROR_NOT_FOUND);
  assert_int_equal(pega_fake_driver_fail(NULL, 0, 2, false), 1);
  assert_int_equal(pega_fake_driver_fail(NULL, 1, 0, false), 1);
}

/* Each rule counts for itself; of two that fit at once the older decides. */
static void test_fail_rules_add_up(void **state) {
  (void)state;
  CUcontext got;
  ok(pega_fake_driver_fail("cuCtxGetCurrent", 2, 700, false));
  ok(pega_fake_driver_fail(NULL, 2, 701, false));
  ok(pega_fake_driver_fail("cuCtxGetCurrent", 3, 702, false));
  ok(cuCtxGetCurrent(&got));
  assert_int_equal(cuCtxGetCurrent(&got), 700);
  assert_int_equal(cuCtxGetCurrent(&got), 701);
  assert_int_equal(cuCtxGetCurrent(&got), 702);
  ok(cuCtxGetCurrent(&got));
}

static void test_poison(void **state) {
  (void)state;
  CUdeviceptr memory;
  CUcontext other;
  CUdevice device;
  ok(cuCtxCreate_v2(&other, 0, 0));
  ok(pega_fake_driver_poison(context, 719));
  ok(cuMemAlloc_v2(&memory, 16)); /* the other context is well */
  ok(cuCtxSetCurrent(context));
  assert_int_equal(cuMemAlloc_v2(&memory, 16), 719);
  assert_int_equal(cuModuleUnload(module), 719);
  assert_int_equal(cuStreamSynchronize(stream), 719);
  ok(cuCtxGetDevice(&device));
  ok(cuDevicePrimaryCtxRelease_v2(0));
  ok(cuDevicePrimaryCtxRetain(&context, 0)); /* a new life */
  ok(cuMemAlloc_v2(&memory, 16));
  assert_int_equal(pega_fake_driver_poison(stream, 700), 1);
}

static void test_strict_loading(void **state) {
  (void)state;
  CUgraph graph = NULL;
  CUmodule other = NULL;
  int loaded = -1;
  ok(cuFuncIsLoaded(&loaded, plain));
  assert_int_equal(loaded, 0);
  ok(cuStreamBeginCapture_v2(stream, 0));
  assert_int_equal(launch_plain(stream), FAKE_CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  assert_int_equal(cuStreamEndCapture(stream, &graph), FAKE_CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  assert_int_equal(faults().captures_invalidated, 1);
  ok(cuStreamBeginCapture_v2(stream, 1));
  assert_int_equal(cuFuncLoad(plain), FAKE_CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  assert_int_equal(cuStreamEndCapture(stream, &graph), FAKE_CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  ok(cuStreamBeginCapture_v2(stream, 0));
  assert_int_equal(cuModuleLoadData(&other, image()), FAKE_CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  assert_int_equal(cuStreamEndCapture(stream, &graph), FAKE_CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  assert_null(graph);
  ok(cuFuncIsLoaded(&loaded, plain));
  assert_int_equal(loaded, 0);
  ok(cuStreamBeginCapture_v2(stream, FAKE_CU_STREAM_CAPTURE_MODE_RELAXED));
  ok(launch_plain(stream));
  ok(cuModuleLoadData(&other, image()));
  ok(cuStreamEndCapture(stream, &graph));
  ok(cuGraphDestroy(graph));
  ok(cuFuncIsLoaded(&loaded, plain));
  assert_int_equal(loaded, 1);
  assert_int_equal(live().functions_loaded, 1);
  ok(cuStreamBeginCapture_v2(stream, 0));
  ok(launch_plain(stream)); /* loaded by now */
  pega_fake_driver_set_strict_loading(false);
  ok(launch_add(stream, 0, 0, 0)); /* not loaded before */
  ok(cuStreamEndCapture(stream, &graph));
  ok(cuGraphDestroy(graph));
}

static void test_live(void **state) {
  (void)state;
  CUdeviceptr memory;
  CUevent event;
  CUgraph graph;
  CUgraphExec exec;
  CUcontext made;
  begin("devices=2");
  CUcontext second;
  ok(cuDevicePrimaryCtxRetain(&second, 1));
  ok(cuDevicePrimaryCtxRetain(&second, 1));
  ok(cuMemAlloc_v2(&memory, 100));
  ok(cuEventCreate(&event, 0));
  ok(launch_plain(stream));
  assert_int_equal(live().launches_in_flight, 1);
  ok(cuStreamSynchronize(stream));
  assert_int_equal(live().launches_in_flight, 0);
  ok(cuStreamBeginCapture_v2(stream, 0));
  assert_int_equal(live().captures, 1);
  assert_int_equal(live().graphs, 0);
  ok(cuStreamEndCapture(stream, &graph));
  ok(cuGraphInstantiateWithFlags(&exec, graph, 0));
  ok(cuCtxCreate_v2(&made, 0, 0));
  pega_fake_driver_live_counts counts = live();
  assert_int_equal(counts.contexts, 1);
  assert_int_equal(counts.retained, 3);
  assert_int_equal(counts.retained_by[0], 1);
  assert_int_equal(counts.retained_by[1], 2);
  assert_int_equal(counts.modules, 1);
  assert_int_equal(counts.streams, 1);
  assert_int_equal(counts.events, 1);
  assert_int_equal(counts.allocations, 1);
  assert_int_equal(counts.allocated_bytes, 100);
  assert_int_equal(counts.graphs, 1);
  assert_int_equal(counts.graph_execs, 1);
  ok(cuCtxDestroy_v2(made));
  ok(cuGraphDestroy(graph));
  ok(cuGraphExecDestroy(exec));
  ok(cuDevicePrimaryCtxRelease_v2(1));
  ok(cuDevicePrimaryCtxRelease_v2(1));
  assert_int_equal(faults().lost_with_context, 0);
  ok(cuDevicePrimaryCtxRelease_v2(0));
  assert_int_equal(faults().lost_with_context, 4); /* module, stream, event, memory */
  counts = live();
  static const pega_fake_driver_live_counts kNothing;
  assert_memory_equal(&counts, &kNothing, sizeof counts);
}

static void test_dead_handles(void **state) {
  (void)state;
  int number;
  ok(cuModuleUnload(module));
  assert_int_equal(cuModuleUnload(module), FAKE_CUDA_ERROR_INVALID_HANDLE);
  assert_int_equal(launch_plain(stream), FAKE_CUDA_ERROR_INVALID_HANDLE);
  assert_int_equal(cuFuncGetAttribute(&number, 4, plain), FAKE_CUDA_ERROR_INVALID_HANDLE);
  assert_int_equal(faults().dead_handles, 3);
  assert_int_equal(cuStreamDestroy_v2((CUstream)(uintptr_t)0x1234560),
                   FAKE_CUDA_ERROR_INVALID_HANDLE);
  assert_int_equal(cuStreamDestroy_v2((CUstream)context), FAKE_CUDA_ERROR_INVALID_HANDLE);
  assert_int_equal(faults().unknown_handles, 2);
}

static void test_memory_faults(void **state) {
  (void)state;
  CUdeviceptr memory;
  char host[32];
  ok(cuMemAlloc_v2(&memory, 16));
  assert_int_equal(cuMemcpyHtoD_v2(memory, host, 17), 1);
  assert_int_equal(cuMemcpyDtoH_v2(host, memory + 8, 9), 1);
  assert_int_equal(cuMemsetD8Async(memory - 1, 0, 1, stream), 1);
  assert_int_equal(faults().out_of_bounds, 3);
  assert_int_equal(cuMemFree_v2(memory + 1), 1);
  ok(cuMemFree_v2(memory));
  assert_int_equal(cuMemFree_v2(memory), 1);
  assert_int_equal(faults().double_frees, 1);
  assert_int_equal(faults().unknown_frees, 1);
}

static void test_unload_faults(void **state) {
  (void)state;
  CUgraph graph;
  CUmodule other;
  CUevent event;
  ok(cuFuncLoad(plain));
  ok(launch_plain(stream));
  ok(cuStreamBeginCapture_v2(stream, 0));
  ok(launch_plain(stream));
  ok(cuStreamEndCapture(stream, &graph));
  ok(cuModuleUnload(module));
  assert_int_equal(faults().unloaded_in_graph, 1);
  assert_int_equal(faults().unloaded_in_flight, 1);
  ok(cuGraphDestroy(graph));
  /* Waited for by an event: no fault. */
  ok(cuModuleLoadData(&other, image()));
  ok(cuModuleGetFunction(&plain, other, "plain"));
  ok(launch_plain(stream));
  ok(cuEventCreate(&event, 0));
  ok(cuEventRecord(event, stream));
  ok(cuEventSynchronize(event));
  ok(cuModuleUnload(other));
  assert_int_equal(faults().unloaded_in_flight, 1);
  /* What the event does not stand behind is not waited for. */
  ok(cuModuleLoadData(&other, image()));
  ok(cuModuleGetFunction(&plain, other, "plain"));
  ok(cuEventRecord(event, stream));
  ok(launch_plain(stream));
  ok(cuEventSynchronize(event));
  ok(cuModuleUnload(other));
  assert_int_equal(faults().unloaded_in_flight, 2);
  ok(cuStreamDestroy_v2(stream));
  assert_int_equal(faults().freed_in_flight, 1);
}

static void test_wrong_context(void **state) {
  (void)state;
  CUcontext other;
  ok(cuCtxCreate_v2(&other, 0, 0));
  assert_int_equal(launch_plain(NULL), FAKE_CUDA_ERROR_INVALID_HANDLE);
  assert_int_equal(faults().wrong_context, 1);
  ok(launch_plain(stream));
}

static void test_reset(void **state) {
  (void)state;
  CUcontext got = context;
  pega_fake_driver_live_counts counts;
  static const pega_fake_driver_live_counts kNothing;
  ok(cuDevicePrimaryCtxRetain(&got, 0));
  pega_fake_driver_reset();
  counts = live();
  assert_memory_equal(&counts, &kNothing, sizeof counts);
  assert_int_equal(pega_fake_driver_num_calls(), 0);
  assert_int_equal(cuCtxGetCurrent(&got), FAKE_CUDA_ERROR_NOT_INITIALIZED);
  ok(cuInit(0));
  ok(cuCtxGetCurrent(&got));
  assert_null(got);
  assert_int_equal(cuCtxSetCurrent(stream), FAKE_CUDA_ERROR_INVALID_CONTEXT);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_fail_nth, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_fail_from_then_on, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_fail_rules_add_up, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_poison, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_strict_loading, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_live, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_dead_handles, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_memory_faults, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_unload_faults, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_wrong_context, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_reset, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
