/* SPDX-License-Identifier: Apache-2.0 */
/* The modelled machine: text, environment, devices; quiet mode; versions of the driver. */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>

static int attribute_of(CUdevice device, int which) {
  int value = -99;
  ok(cuDeviceGetAttribute(&value, which, device));
  return value;
}

static void test_text(void **state) {
  (void)state;
  int number = 0;
  char name[64];
  size_t total;
  ok(pega_fake_driver_configure(
      "devices=3,cc=8.6,driver=12040,sms=7,optin=70000,memory=1000,shared=40000,loading=eager"));
  ok(cuInit(0));
  ok(cuDeviceGetCount(&number));
  assert_int_equal(number, 3);
  ok(cuDriverGetVersion(&number));
  assert_int_equal(number, 12040);
  assert_int_equal(attribute_of(2, FAKE_CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR), 6);
  assert_int_equal(attribute_of(2, FAKE_CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT), 7);
  assert_int_equal(attribute_of(2, 97), 70000);
  assert_int_equal(attribute_of(2, 8), 40000);
  assert_int_equal(attribute_of(2, FAKE_CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH), 0);
  ok(cuModuleGetLoadingMode(&number));
  assert_int_equal(number, FAKE_CU_MODULE_EAGER_LOADING);
  pega_fake_driver_device values = {.struct_size = sizeof values, .name = "One", .major = 10};
  ok(pega_fake_driver_set_device(1, &values));
  ok(cuDeviceGetName(name, sizeof name, 1));
  assert_string_equal(name, "One");
  assert_int_equal(attribute_of(1, FAKE_CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR), 10);
  assert_int_equal(attribute_of(0, FAKE_CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR), 8);
  ok(cuDeviceTotalMem_v2(&total, 1));
  assert_int_equal(total, 1000);
  ok(pega_fake_driver_set_attribute(0, 30, 77));
  assert_int_equal(attribute_of(0, 30), 77);
  assert_int_equal(pega_fake_driver_set_attribute(3, 30, 77), 1);
  assert_int_equal(pega_fake_driver_set_attribute(0, 200, 77), 1);
  assert_int_equal(pega_fake_driver_set_device(3, &values), 1);
  values.struct_size = 8;
  assert_int_equal(pega_fake_driver_set_device(0, &values), 1);
}

static void test_bad_text(void **state) {
  (void)state;
  static const char *const kBad[] = {"devices",   "devices=",    "devices=17",  "devices=-1",
                                     "cc=9",      "cc=9.0x",     "cc=nine",     "driver=13",
                                     "unknown=1", "loading=odd", "memory=1k",   "quiet=2",
                                     "absent=1",  "=1",          "devices=1 ,", "strict=yes"};
  int number = 0;
  for (size_t i = 0; i < sizeof kBad / sizeof kBad[0]; ++i) {
    if (pega_fake_driver_configure(kBad[i]) != 1) fail_msg("accepted: %s", kBad[i]);
  }
  ok(cuInit(0));
  ok(cuDeviceGetCount(&number));
  assert_int_equal(number, 1);
}

static void test_environment(void **state) {
  (void)state;
  int number = 0;
  setenv("PEGA_FAKE_DRIVER", "devices=2,driver=12080", 1);
  pega_fake_driver_reset();
  ok(cuInit(0));
  ok(cuDeviceGetCount(&number));
  assert_int_equal(number, 2);
  setenv("PEGA_FAKE_DRIVER", "devices=many", 1);
  pega_fake_driver_reset();
  assert_int_equal(cuInit(0), FAKE_CUDA_ERROR_UNKNOWN);
  setenv("PEGA_FAKE_DRIVER", "devices=0", 1);
  pega_fake_driver_reset();
  assert_int_equal(cuInit(0), FAKE_CUDA_ERROR_NO_DEVICE);
  unsetenv("PEGA_FAKE_DRIVER");
  pega_fake_driver_reset();
  ok(cuInit(0));
}

static CUresult find(const char *name, int version, void **found, int *status) {
  *found = status;
  return cuGetProcAddress_v2(name, found, version, 0, status);
}

static void test_versions(void **state) {
  (void)state;
  void *found;
  void *other;
  int status = -1;
  ok(pega_fake_driver_configure("driver=12030,absent=error"));
  assert_int_equal(find("cuFuncLoad", 12030, &found, &status), FAKE_CUDA_ERROR_NOT_FOUND);
  assert_int_equal(status, FAKE_CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND); /* the driver lacks it */
  assert_null(found);
  assert_int_equal(find("cuFuncLoad", 12040, &found, &status), 1); /* newer than the driver */
  assert_int_equal(find("cuTensorMapEncodeTiled", 11080, &found, &status),
                   FAKE_CUDA_ERROR_NOT_FOUND);
  assert_int_equal(status, FAKE_CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
  ok(find("cuTensorMapEncodeTiled", 12000, &found, &status));
  assert_int_equal(status, 0);
  assert_true(found == (void *)(uintptr_t)cuTensorMapEncodeTiled);
  ok(find("cuStreamGetCaptureInfo", 12030, &found, &status));
  ok(find("cuStreamGetCaptureInfo", 12020, &other, &status));
  assert_true(found == (void *)(uintptr_t)cuStreamGetCaptureInfo_v3);
  assert_true(other == (void *)(uintptr_t)cuStreamGetCaptureInfo_v2);
  ok(cuGetProcAddress("cuInit", &found, 12000, 0));
  assert_int_equal(cuGetProcAddress("cuNothing", &found, 12000, 0), FAKE_CUDA_ERROR_NOT_FOUND);
  ok(pega_fake_driver_configure(NULL));
  ok(find("cuNothing", 13000, &found, &status)); /* as driver 13.0 does */
  assert_null(found);
  assert_int_equal(status, FAKE_CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
}

/* What the quiet way lets pass must be what the other way lets pass. */
static void test_quiet(void **state) {
  (void)state;
  CUcontext got = NULL;
  CUlaunchAttribute attribute;
  memset(&attribute, 0, sizeof attribute);
  attribute.id = FAKE_CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
  attribute.value.clusterDim.x = 2;
  attribute.value.clusterDim.y = attribute.value.clusterDim.z = 1;
  CUlaunchConfig config = {4, 1, 1, 32, 1, 1, 0, stream, &attribute, 1};
  ok(launch_plain(stream));
  ok(launch_add(stream, 0, 0, 0));
  for (int quiet = 1; quiet >= 0; --quiet) {
    pega_fake_driver_set_quiet(quiet == 1);
    pega_fake_driver_clear_records();
    ok(cuCtxGetCurrent(&got));
    assert_ptr_equal(got, context);
    ok(launch_plain(stream));
    ok(launch_plain(NULL));
    ok(launch_add(stream, 0, 1, 2));
    config.gridDimX = 4;
    ok(cuLaunchKernelEx(&config, plain, NULL, NULL));
    config.gridDimX = 5;
    assert_int_equal(cuLaunchKernelEx(&config, plain, NULL, NULL), 912);
    assert_int_equal(cuLaunchKernelEx(NULL, plain, NULL, NULL), 1);
    assert_int_equal(cuLaunchKernel(plain, 1, 65536, 1, 1, 1, 1, 0, stream, NULL, NULL), 1);
    assert_int_equal(cuLaunchKernel(plain, 1, 1, 1, 1025, 1, 1, 0, stream, NULL, NULL), 1);
    assert_int_equal(cuLaunchKernel(plain, 1, 1, 1, 1, 1, 1, 48 * 1024, stream, NULL, NULL), 1);
    assert_int_equal(cuLaunchKernel(add, 1, 1, 1, 1, 1, 1, 0, stream, NULL, NULL), 1);
    assert_int_equal(cuLaunchKernel(heavy, 3, 1, 1, 32, 1, 1, 0, stream, NULL, NULL), 912);
    assert_int_equal(cuLaunchKernel((CUfunction)stream, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL),
                     400);
    assert_int_equal(cuLaunchKernel(plain, 1, 1, 1, 1, 1, 1, 0, (CUstream)plain, NULL, NULL), 400);
    assert_int_equal(pega_fake_driver_count("cuLaunchKernel"), 10);
    assert_int_equal(pega_fake_driver_count("cuLaunchKernelEx"), 3);
    assert_int_equal(pega_fake_driver_count("cuCtxGetCurrent"), 1);
    assert_int_equal(pega_fake_driver_num_calls(), quiet == 1 ? 0 : 14);
    assert_int_equal(pega_fake_driver_num_launches(), quiet == 1 ? 0 : 4);
  }
}

/* Rules, poison and captures count in quiet mode as well. */
static void test_quiet_is_not_blind(void **state) {
  (void)state;
  CUcontext got;
  CUgraph graph;
  size_t count = 0;
  ok(launch_plain(stream));
  pega_fake_driver_set_quiet(true);
  ok(pega_fake_driver_fail("cuCtxGetCurrent", 1, 3, false));
  assert_int_equal(cuCtxGetCurrent(&got), 3);
  ok(pega_fake_driver_poison(NULL, 700));
  assert_int_equal(launch_plain(stream), 700);
  ok(pega_fake_driver_poison(NULL, 0));
  ok(cuStreamBeginCapture_v2(stream, 0));
  ok(launch_plain(stream));
  ok(cuStreamEndCapture(stream, &graph));
  ok(cuGraphGetNodes(graph, NULL, &count));
  assert_int_equal(count, 1);
  ok(cuGraphDestroy(graph));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(test_text, tear_down),
      cmocka_unit_test_teardown(test_bad_text, tear_down),
      cmocka_unit_test_teardown(test_environment, tear_down),
      cmocka_unit_test_teardown(test_versions, tear_down),
      cmocka_unit_test_setup_teardown(test_quiet, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_quiet_is_not_blind, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
