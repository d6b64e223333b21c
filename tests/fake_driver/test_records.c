/* SPDX-License-Identifier: Apache-2.0 */
/* Records of calls and launches, host functions in a kernel's place, replays. */
#include "support.h"

static void test_calls(void **state) {
  (void)state;
  pega_fake_driver_call call;
  CUdeviceptr memory = 0;
  pega_fake_driver_clear_records();
  assert_int_equal(pega_fake_driver_num_calls(), 0);
  ok(cuMemAlloc_v2(&memory, 16));
  assert_int_equal(cuMemAlloc_v2(&memory, 0), 1);
  ok(cuMemFree_v2(memory));
  assert_int_equal(pega_fake_driver_num_calls(), 3);
  assert_int_equal(pega_fake_driver_count("cuMemAlloc_v2"), 2);
  assert_int_equal(pega_fake_driver_count("cuMemFree_v2"), 1);
  assert_int_equal(pega_fake_driver_count("cuInit"), 0);
  assert_int_equal(pega_fake_driver_count("cuNoSuchThing"), 0);
  assert_int_equal(pega_fake_driver_count(NULL), 3);
  ok(pega_fake_driver_get_call(1, &call));
  assert_string_equal(call.name, "cuMemAlloc_v2");
  assert_int_equal(call.result, 1);
  assert_int_equal(call.thread, 1);
  uint64_t sequence = call.sequence;
  ok(pega_fake_driver_get_call(2, &call));
  assert_string_equal(call.name, "cuMemFree_v2");
  assert_int_equal(call.sequence, sequence + 1);
  assert_int_equal(pega_fake_driver_get_call(3, &call), FAKE_CUDA_ERROR_NOT_FOUND);
  assert_int_equal(pega_fake_driver_get_call(0, NULL), 1);
  for (int i = 0; i < 10000; ++i) cuCtxGetCurrent(&context);
  assert_int_equal(pega_fake_driver_num_calls(), 10003);
  ok(pega_fake_driver_get_call(10002, &call));
  assert_string_equal(call.name, "cuCtxGetCurrent");
}

static void test_launch(void **state) {
  (void)state;
  pega_fake_driver_launch it;
  CUlaunchAttribute attributes[2];
  memset(attributes, 0, sizeof attributes);
  attributes[0].id = FAKE_CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
  attributes[0].value.clusterDim.x = 2;
  attributes[0].value.clusterDim.y = attributes[0].value.clusterDim.z = 1;
  attributes[1].id = FAKE_CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
  attributes[1].value.programmaticStreamSerializationAllowed = 1;
  uint64_t y = 0x1122334455667788;
  float a = 2.5f;
  int n = -3;
  void *params[] = {&y, &a, &n};
  CUlaunchConfig config = {6, 5, 4, 32, 2, 1, 96, stream, attributes, 2};
  ok(cuLaunchKernelEx(&config, add, params, NULL));
  y = 0; /* the record has copies */
  n = 0;
  assert_int_equal(pega_fake_driver_num_launches(), 1);
  ok(pega_fake_driver_get_launch(0, &it));
  assert_string_equal(it.name, "add");
  assert_ptr_equal(it.function, add);
  assert_ptr_equal(it.context, context);
  assert_ptr_equal(it.stream, stream);
  assert_int_equal(it.grid[0], 6);
  assert_int_equal(it.grid[1], 5);
  assert_int_equal(it.grid[2], 4);
  assert_int_equal(it.block[0], 32);
  assert_int_equal(it.block[1], 2);
  assert_int_equal(it.cluster[0], 2);
  assert_int_equal(it.shared_bytes, 96);
  assert_true(it.programmatic && !it.cooperative && !it.captured && !it.replayed);
  assert_int_equal(it.num_attributes, 2);
  assert_int_equal(it.attributes[1].id, 6);
  assert_int_equal(it.num_params, 3);
  assert_int_equal(it.params_size, 16);
  assert_int_equal(it.params[0].size, 8);
  assert_int_equal(*(const uint64_t *)it.params[0].bytes, 0x1122334455667788);
  assert_true(*(const float *)it.params[1].bytes == 2.5f);
  assert_int_equal(*(const int *)it.params[2].bytes, -3);
  assert_memory_equal((const char *)it.params_bytes + 12, it.params[2].bytes, 4);
  assert_int_equal(cuLaunchKernel(plain, 0, 1, 1, 1, 1, 1, 0, stream, NULL, NULL), 1);
  assert_int_equal(pega_fake_driver_num_launches(), 1); /* those that failed are not in it */
  ok(cuLaunchCooperativeKernel(plain, 1, 1, 1, 32, 1, 1, 0, stream, NULL));
  ok(pega_fake_driver_get_launch(1, &it));
  assert_true(it.cooperative);
  assert_int_equal(it.num_params, 0);
  assert_int_equal(pega_fake_driver_get_launch(2, &it), FAKE_CUDA_ERROR_NOT_FOUND);
  assert_int_equal(cuLaunchKernel(add, 1, 1, 1, 1, 1, 1, 0, stream, NULL, NULL), 1);
}

static int run_add(const pega_fake_driver_launch *launch, void *user) {
  float *y = *(float *const *)launch->params[0].bytes;
  float a = *(const float *)launch->params[1].bytes;
  int n = *(const int *)launch->params[2].bytes;
  for (int i = 0; i < n; ++i) y[i] += a;
  *(int *)user += 1;
  return 0;
}

static void test_host_kernel(void **state) {
  (void)state;
  int runs = 0;
  CUdeviceptr y;
  float host[4] = {1, 2, 3, 4};
  ok(pega_fake_driver_set_kernel("add", run_add, &runs));
  ok(cuMemAlloc_v2(&y, sizeof host));
  ok(cuMemcpyHtoD_v2(y, host, sizeof host));
  ok(launch_add(stream, y, 10, 4));
  ok(launch_plain(stream));
  ok(cuMemcpyDtoH_v2(host, y, sizeof host));
  assert_true(host[0] == 11 && host[3] == 14);
  assert_int_equal(runs, 1);
  ok(pega_fake_driver_set_kernel("add", NULL, NULL));
  ok(launch_add(stream, y, 10, 4));
  assert_int_equal(runs, 1);
  assert_int_equal(pega_fake_driver_set_kernel("", run_add, NULL), 1);
  assert_int_equal(pega_fake_driver_set_kernel(NULL, run_add, NULL), 1);
}

static int run_nested(const pega_fake_driver_launch *launch, void *user) {
  CUdeviceptr memory;
  (void)launch;
  *(int *)user = cuMemAlloc_v2(&memory, 16);
  return FAKE_CUDA_ERROR_ILLEGAL_ADDRESS;
}

/* A host function may call the driver, and a code that it returns is the context's from then on. */
static void test_faulting_kernel(void **state) {
  (void)state;
  int nested = -1;
  ok(pega_fake_driver_set_kernel("plain", run_nested, &nested));
  ok(launch_plain(stream));
  assert_int_equal(nested, 0);
  assert_int_equal(cuStreamSynchronize(stream), FAKE_CUDA_ERROR_ILLEGAL_ADDRESS);
  assert_int_equal(launch_plain(stream), FAKE_CUDA_ERROR_ILLEGAL_ADDRESS);
  ok(pega_fake_driver_poison(context, 0));
  ok(cuStreamSynchronize(stream));
}

static void test_replay(void **state) {
  (void)state;
  int runs = 0;
  CUdeviceptr y;
  float host[2] = {0, 0};
  CUgraph graph;
  CUgraphExec exec;
  pega_fake_driver_launch it;
  ok(pega_fake_driver_set_kernel("add", run_add, &runs));
  ok(cuMemAlloc_v2(&y, sizeof host));
  ok(cuMemsetD8_v2(y, 0, sizeof host));
  ok(cuFuncLoad(add));
  float a = 2;
  int n = 2;
  void *params[] = {&y, &a, &n};
  ok(cuStreamBeginCapture_v2(stream, 0));
  ok(cuLaunchKernel(add, 2, 1, 1, 32, 1, 1, 0, stream, params, NULL));
  ok(cuMemcpyDtoHAsync_v2(host, y, sizeof host, stream));
  ok(cuStreamEndCapture(stream, &graph));
  assert_int_equal(runs, 0);
  a = 100; /* the graph has the value that was there */
  ok(cuGraphInstantiateWithFlags(&exec, graph, 0));
  ok(cuGraphDestroy(graph));
  for (int i = 1; i <= 3; ++i) {
    ok(cuGraphLaunch(exec, stream));
    assert_int_equal(runs, i);
    assert_true(host[1] == 2 * (float)i);
  }
  assert_int_equal(pega_fake_driver_num_launches(), 4);
  ok(pega_fake_driver_get_launch(0, &it));
  assert_true(it.captured && !it.replayed);
  ok(pega_fake_driver_get_launch(3, &it));
  assert_true(!it.captured && it.replayed);
  assert_true(*(const float *)it.params[1].bytes == 2);
  ok(cuMemFree_v2(y));
  ok(pega_fake_driver_set_kernel("add", NULL, NULL)); /* it would write there */
  assert_int_equal(cuGraphLaunch(exec, stream), FAKE_CUDA_ERROR_INVALID_VALUE);
  assert_int_equal(faults().out_of_bounds, 1);
  ok(cuGraphExecDestroy(exec));
}

static void test_tensor_map(void **state) {
  (void)state;
  _Alignas(64) unsigned char map[128];
  const uint64_t dim[] = {128, 64, 5};
  const uint64_t strides[] = {256, 16384};
  const uint32_t box[] = {64, 256, 1};
  const uint32_t steps[] = {1, 2, 1};
  pega_fake_driver_tensor_map it;
  void *address = (void *)(uintptr_t)0x7f0000001000;
  ok(cuTensorMapEncodeTiled(map, 6, 3, address, dim, strides, box, steps, 0, 3, 2, 1));
  ok(pega_fake_driver_tensor_map_decode(map, &it));
  assert_int_equal(it.global_address, 0x7f0000001000);
  assert_int_equal(it.rank, 3);
  assert_int_equal(it.global_dim[2], 5);
  assert_int_equal(it.global_strides[1], 16384);
  assert_int_equal(it.box_dim[1], 256);
  assert_int_equal(it.element_strides[1], 2);
  assert_int_equal(it.data_type, 6);
  assert_int_equal(it.interleave, 0);
  assert_int_equal(it.swizzle, 3);
  assert_int_equal(it.l2_promotion, 2);
  assert_int_equal(it.oob_fill, 1);
  map[0] ^= 1;
  assert_int_equal(pega_fake_driver_tensor_map_decode(map, &it), 1);
  assert_int_equal(pega_fake_driver_tensor_map_decode(NULL, &it), 1);
  assert_int_equal(
      cuTensorMapEncodeTiled(map + 32, 6, 3, address, dim, strides, box, steps, 0, 3, 2, 1), 1);
  begin_bare("cc=8.0");
  assert_int_equal(cuTensorMapEncodeTiled(map, 6, 3, address, dim, strides, box, steps, 0, 3, 2, 1),
                   FAKE_CUDA_ERROR_NOT_SUPPORTED);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_calls, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_launch, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_host_kernel, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_faulting_kernel, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_replay, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_tensor_map, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
