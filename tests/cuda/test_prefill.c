/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A call of several launches: what it launches and allocates, and that it launches all or nothing. With
 * the library's own pack, build/kernels/qwen35.pegapack, as PEGA_PACK_PATH names it.
 */
#include <pega/qwen35.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "machine.h"

enum { kTokens = 200, kKeyHeads = 2, kValueHeads = 4, kArguments = 13 };
enum { kImplementation = 10, kWorkspace = 11 };
enum { kQkvDim = (2 * kKeyHeads + kValueHeads) * 128 };

static pega_function *projected;
static CUstream stream;
static uint64_t memory[9];
static const size_t sizes[] = {
    kTokens * kQkvDim * 2, kTokens *kValueHeads * 2,   kTokens *kValueHeads * 2, kValueHeads * 2,
    kValueHeads * 4,       kTokens *kValueHeads * 256, kValueHeads * 65536,      64 << 20};

/* The prefill from projections, one sequence; a workspace where `workspace` says so. */
static pega_status prefill(const char *implementation, bool workspace, pega_error *error) {
  const DLDevice cuda = CUDA(0);
#define AT(i, dtype_, ...)                                                                  \
  {                                                                                         \
    .data = (void *)(uintptr_t)memory[i], .device = cuda,                                   \
    .ndim = (int32_t)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), .dtype = dtype_, \
    .shape = (int64_t[]) {                                                                  \
      __VA_ARGS__                                                                           \
    }                                                                                       \
  }
  DLTensor qkv = AT(0, BFLOAT16, kTokens, kQkvDim);
  DLTensor b = AT(1, BFLOAT16, kTokens, kValueHeads);
  DLTensor a = AT(2, BFLOAT16, kTokens, kValueHeads);
  DLTensor dt_bias = AT(3, BFLOAT16, kValueHeads);
  DLTensor a_log = AT(4, FLOAT32, kValueHeads);
  DLTensor output = AT(5, BFLOAT16, kTokens, kValueHeads, 128);
  DLTensor state = AT(6, FLOAT32, 1, kValueHeads, 128, 128);
  DLTensor work = AT(7, DTYPE(kDLUInt, 8, 1), 64 << 20);
#undef AT
  const pega_value none = pega_value_none();
  pega_value args[kArguments] = {pega_value_tensor(&qkv),
                                 pega_value_tensor(&b),
                                 pega_value_tensor(&a),
                                 pega_value_tensor(&dt_bias),
                                 pega_value_tensor(&a_log),
                                 none,
                                 none,
                                 none,
                                 pega_value_tensor(&output),
                                 pega_value_tensor(&state),
                                 none,
                                 none,
                                 none};
  if (implementation != NULL) args[kImplementation] = pega_value_string(implementation);
  if (workspace) args[kWorkspace] = pega_value_tensor(&work);
  return pega_function_call(projected, args, kArguments, NULL, error);
}

static void start(void) {
  pega_error error = PEGA_ERROR_INIT;
  machine_start("");
  EXPECT_OK(pega_registry_get(PEGA_QWEN35_PREFILL_PROJECTED, &projected, &error), &error);
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; ++i) {
    memory[i] = machine_alloc(0, sizes[i]);
  }
  stream = machine_stream(0, 1);
  EXPECT_OK(pega_stream_set(CUDA(0), stream, NULL, &error), &error);
  CUcontext context = NULL;
  assert_int_equal(cu.cuDevicePrimaryCtxRetain(&context, 0), 0);
  assert_int_equal(cu.cuCtxSetCurrent(context), 0);
  pega_fake_driver_clear_records();
}

static int expect_capture_ends(void) {
  CUgraph graph = NULL;
  size_t nodes = 0;
  assert_int_equal(cu.cuStreamEndCapture(stream, &graph), 0);
  assert_int_equal(cu.cuGraphGetNodes(graph, NULL, &nodes), 0);
  assert_int_equal(cu.cuGraphDestroy(graph), 0);
  return (int)nodes;
}

/* A workspace holds everything, a kernel's scratch too: launches and nothing else. */
static void what_is_launched(void) {
  pega_error error = PEGA_ERROR_INIT;
  start();
  EXPECT_OK(prefill(NULL, true, &error), &error);
  assert_int_equal(pega_fake_driver_num_launches(), 3);
  assert_int_equal(pega_fake_driver_count("cuMemAllocAsync"), 0);
  EXPECT_OK(prefill(NULL, false, &error), &error);
  assert_int_equal(pega_fake_driver_num_launches(), 6);
  assert_int_equal(pega_fake_driver_count("cuMemAllocAsync"), 1);
  assert_int_equal(pega_fake_driver_count("cuMemFreeAsync"), 1);
  EXPECT_OK(prefill("triton_stages", true, &error), &error);
  assert_int_equal(pega_fake_driver_num_launches(), 13);
  assert_int_equal(pega_fake_driver_count("cuMemAllocAsync"), 1);
  EXPECT_OK(prefill("triton_fused", true, &error), &error); /* and what makes its inputs */
  assert_int_equal(pega_fake_driver_num_launches(), 15);
  assert_int_equal(pega_fake_driver_count("cuMemAllocAsync"), 1);
  assert_int_equal(pega_fake_driver_count("cuCtxSynchronize"), 0);
  machine_expect_no_faults(0);
}

/* One kernel of the call is prepared already; a capture gets none of it. */
static void capture_of_the_unprepared(void) {
  pega_error error = PEGA_ERROR_INIT;
  start();
  EXPECT_OK(prefill("cuda_recurrent", true, &error), &error);
  pega_fake_driver_clear_records();
  assert_int_equal(cu.cuStreamBeginCapture_v2(stream, 0), 0);
  EXPECT_ERROR(prefill("triton_chunked", true, &error), &error, PEGA_ERROR_UNAVAILABLE,
               "nothing was launched", "the capture is still valid");
  assert_int_equal(pega_fake_driver_num_launches(), 0);
  EXPECT_OK(prefill("cuda_recurrent", true, &error), &error);
  assert_int_equal(expect_capture_ends(), 2);
  /* And with no workspace. */
  EXPECT_OK(prefill("triton_chunked", true, &error), &error);
  assert_int_equal(cu.cuStreamBeginCapture_v2(stream, 0), 0);
  EXPECT_ERROR(prefill("triton_chunked", false, &error), &error, PEGA_ERROR_UNAVAILABLE,
               "give a 'workspace'", "the capture is still valid");
  EXPECT_OK(prefill("triton_chunked", true, &error), &error);
  assert_int_equal(expect_capture_ends(), 3);
  machine_expect_no_faults(0);
  pega_error_clear(&error);
}

/* A driver that takes the first launch and refuses the second. */
static void refused_midway(void) {
  pega_error error = PEGA_ERROR_INIT;
  start();
  EXPECT_OK(prefill(NULL, true, &error), &error);
  for (int nth = 1; nth <= 3; ++nth) {
    pega_fake_driver_clear_records();
    machine_fail_launch(nth, 1);
    EXPECT_ERROR(prefill(NULL, true, &error), &error, PEGA_ERROR_DRIVER,
                 nth == 1   ? "nothing was launched"
                 : nth == 2 ? "1 launches of this call were queued before one failed"
                            : "2 launches of this call were queued before one failed");
    assert_int_equal(error.code, 1);
    pega_fake_driver_clear_failures();
  }
  EXPECT_OK(prefill(NULL, true, &error), &error);
  machine_expect_no_faults(0);
}

/* The pool's memory goes back whatever fails. */
static void nothing_is_left(void) {
  pega_error error = PEGA_ERROR_INIT;
  start();
  EXPECT_OK(prefill(NULL, false, &error), &error);
  const pega_fake_driver_live_counts before = machine_live();
  pega_fake_driver_fail("cuMemAllocAsync", 1, 2, false);
  EXPECT_ERROR(prefill(NULL, false, &error), &error, PEGA_ERROR_OUT_OF_MEMORY, "cuMemAllocAsync");
  pega_fake_driver_clear_failures();
  machine_fail_launch(2, 1);
  EXPECT_ERROR(prefill(NULL, false, &error), &error, PEGA_ERROR_DRIVER, "were queued");
  pega_fake_driver_clear_failures();
  machine_expect_live(&before, "after failures");
  pega_error_clear(&error);
}

#define IN_CHILD(name)                    \
  static void test_##name(void **state) { \
    (void)state;                          \
    machine_in_child(name);               \
  }
IN_CHILD(what_is_launched)
IN_CHILD(capture_of_the_unprepared)
IN_CHILD(refused_midway)
IN_CHILD(nothing_is_left)

int main(void) {
  const char *pack = getenv("PEGA_PACK_PATH");
  if (pack == NULL || access(pack, R_OK) != 0) {
    printf("SKIP: %s is not there; ./dev kernels makes it\n", pack == NULL ? "the pack" : pack);
    return SUPPORT_SKIP;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_what_is_launched),
      cmocka_unit_test(test_capture_of_the_unprepared),
      cmocka_unit_test(test_refused_midway),
      cmocka_unit_test(test_nothing_is_left),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
