/* SPDX-License-Identifier: Apache-2.0 */
#include "machine.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

void machine_start(const char *text) {
  void *library;
  assert_true(driver_open(&library));
  assert_int_equal(pega_fake_driver_configure(text), 0);
}

void machine_set_capability(int device, int major, int minor) {
  const pega_fake_driver_device values = {
      .struct_size = sizeof values, .major = major, .minor = minor};
  assert_int_equal(pega_fake_driver_set_device(device, &values), 0);
}

CUcontext machine_current(void) {
  CUcontext context = NULL;
  assert_int_equal(cu.cuCtxGetCurrent(&context), 0);
  return context;
}

machine_stack machine_get_stack(void) {
  machine_stack got = {0, {NULL}};
  CUcontext popped[COUNT(got.contexts)];
  while (got.depth < COUNT(popped) && cu.cuCtxPopCurrent_v2(&popped[got.depth]) == 0) ++got.depth;
  for (int i = 0; i < got.depth; ++i) {
    got.contexts[i] = popped[got.depth - 1 - i];
    assert_int_equal(cu.cuCtxPushCurrent_v2(got.contexts[i]), 0);
  }
  return got;
}

void machine_set_stack(const machine_stack *wanted) {
  CUcontext popped;
  while (cu.cuCtxPopCurrent_v2(&popped) == 0) {
  }
  for (int i = 0; i < wanted->depth; ++i) {
    assert_int_equal(cu.cuCtxPushCurrent_v2(wanted->contexts[i]), 0);
  }
}

void machine_expect_stack(const machine_stack *expected, const char *what) {
  const machine_stack got = machine_get_stack();
  bool same = got.depth == expected->depth;
  for (int i = 0; same && i < got.depth; ++i) same = got.contexts[i] == expected->contexts[i];
  if (!same)
    fail_msg("%s: the stack of contexts has %d, not %d, or others", what, got.depth,
             expected->depth);
}

pega_fake_driver_live_counts machine_live(void) {
  pega_fake_driver_live_counts live;
  pega_fake_driver_live(&live);
  return live;
}

void machine_expect_live(const pega_fake_driver_live_counts *expected, const char *what) {
  const pega_fake_driver_live_counts got = machine_live();
#define SAME(member)                                                                           \
  if (got.member != expected->member) {                                                        \
    fail_msg("%s: %d " #member ", expected %d", what, (int)got.member, (int)expected->member); \
  }
  SAME(contexts)
  SAME(retained)
  SAME(modules)
  SAME(functions_loaded)
  SAME(streams)
  SAME(events)
  SAME(allocations)
  SAME(allocated_bytes)
  SAME(graphs)
  SAME(graph_execs)
  SAME(captures)
#undef SAME
}

void machine_expect_no_faults(uint64_t lost) {
  pega_fake_driver_fault_counts faults;
  pega_fake_driver_faults(&faults);
  assert_int_equal(faults.dead_handles, 0);
  assert_int_equal(faults.unknown_handles, 0);
  assert_int_equal(faults.wrong_context, 0);
  assert_int_equal(faults.double_frees, 0);
  assert_int_equal(faults.unknown_frees, 0);
  assert_int_equal(faults.out_of_bounds, 0);
  assert_int_equal(faults.unloaded_in_graph, 0);
  assert_int_equal(faults.lost_with_context, lost);
  assert_int_equal(faults.captures_invalidated, 0);
}

pega_fake_driver_launch machine_last_launch(void) {
  pega_fake_driver_launch launch;
  const uint64_t count = pega_fake_driver_num_launches();
  assert_true(count > 0);
  assert_int_equal(pega_fake_driver_get_launch(count - 1, &launch), 0);
  return launch;
}

void machine_fail_launch(int nth, int result) {
  if (nth == 1) {
    assert_int_equal(pega_fake_driver_fail("cuLaunchKernel", 1, result, false), 0);
  } else {
    const uint64_t of_these = (uint64_t)nth - 1;
    assert_int_equal(pega_fake_driver_fail("cuLaunchKernelEx", of_these, result, false), 0);
  }
}

pega_device_health_info machine_health(int device) {
  pega_error error = PEGA_ERROR_INIT;
  pega_device_health_info health = {.struct_size = sizeof health};
  EXPECT_OK(pega_device_health(CUDA(device), &health, &error), &error);
  return health;
}

static void (*child_body)(void);
static void run_child_body(void **state) {
  (void)state;
  child_body();
}

void machine_in_child(void (*body)(void)) {
  int status = -1;
  fflush(NULL);
  const pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    alarm(60);
    child_body = body;
    const struct CMUnitTest tests[] = {cmocka_unit_test(run_child_body)};
    cmocka_set_message_output(CM_OUTPUT_STDOUT);
    const int failed = cmocka_run_group_tests_name("in a child", tests, NULL, NULL);
    fflush(NULL);
    _exit(failed != 0);
  }
  assert_int_equal(waitpid(child, &status, 0), child);
  if (status != 0) fail_msg("the child ended with 0x%x", (unsigned)status);
}

static void enter(int device) {
  CUcontext context;
  assert_int_equal(cu.cuInit(0), 0);
  assert_int_equal(cu.cuDevicePrimaryCtxRetain(&context, device), 0);
  assert_int_equal(cu.cuCtxPushCurrent_v2(context), 0);
}

static void leave(void) {
  CUcontext context;
  assert_int_equal(cu.cuCtxPopCurrent_v2(&context), 0);
}

uint64_t machine_alloc(int device, size_t size) {
  CUdeviceptr memory;
  enter(device);
  assert_int_equal(cu.cuMemAlloc_v2(&memory, size), 0);
  leave();
  return memory;
}

CUstream machine_stream(int device, unsigned flags) {
  CUstream stream;
  enter(device);
  assert_int_equal(cu.cuStreamCreate(&stream, flags), 0);
  leave();
  return stream;
}

static void release_twice(int device) {
  leave();
  assert_int_equal(cu.cuDevicePrimaryCtxRelease_v2(device), 0);
  assert_int_equal(cu.cuDevicePrimaryCtxRelease_v2(device), 0);
}

void machine_free(int device, uint64_t memory) {
  enter(device);
  assert_int_equal(cu.cuMemFree_v2(memory), 0);
  release_twice(device);
}

void machine_destroy_stream(int device, CUstream stream) {
  enter(device);
  assert_int_equal(cu.cuStreamDestroy_v2(stream), 0);
  release_twice(device);
}
