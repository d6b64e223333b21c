/* SPDX-License-Identifier: Apache-2.0 */
/* Modules, functions, and the rules of launches. */
#include <string.h>

#include "conformance.h"

void check_modules(void) {
  CUmodule other = NULL;
  CUfunction found = NULL;
  size_t offset = 99;
  size_t size = 99;
  int mode = 0;
  int number = -1;
  CHECK(ERROR(INVALID_VALUE), cu.cuModuleLoadData(NULL, kPtx));
  CHECK(ERROR(INVALID_VALUE), cu.cuModuleLoadData(&other, NULL));
  CHECK(ERROR(INVALID_IMAGE),
        cu.cuModuleLoadData(&other, "this is no image at all, only some words"));
  CHECK(ERROR(INVALID_PTX), cu.cuModuleLoadData(&other, ".version 8.0\nnonsense\n"));
  CHECK(ERROR(INVALID_PTX), cu.cuModuleLoadData(&other, ".version 8.6\n.target sm_100\n"));
  CHECK(ERROR(UNSUPPORTED_PTX_VERSION),
        cu.cuModuleLoadData(&other, ".version 99.9\n.target sm_90\n"));
  CHECK(0, cu.cuModuleLoadData(&module, kPtx));
  CHECK(0, cu.cuModuleGetLoadingMode(&mode));
  CHECK(FAKE_CU_MODULE_LAZY_LOADING, mode);
  CHECK(ERROR(NOT_FOUND), cu.cuModuleGetFunction(&found, module, "absent"));
  CHECK(ERROR(INVALID_VALUE), cu.cuModuleGetFunction(&found, module, NULL));
  empty = function("empty");
  CUfunction gaps = function("gaps");
  CHECK(0, cu.cuFuncGetParamInfo(gaps, 0, &offset, &size));
  CHECK(0, offset);
  CHECK(1, size);
  CHECK(0, cu.cuFuncGetParamInfo(gaps, 1, &offset, &size));
  CHECK(16, offset);
  CHECK(20, size);
  CHECK(0, cu.cuFuncGetParamInfo(gaps, 2, &offset, &size));
  CHECK(36, offset);
  CHECK(2, size);
  CHECK(ERROR(INVALID_VALUE), cu.cuFuncGetParamInfo(gaps, 3, &offset, &size));
  CHECK(0, cu.cuFuncGetParamInfo(gaps, 2, &offset, NULL));
  CHECK(0, cu.cuFuncGetModule(&other, gaps));
  CHECK(1, other == module);
  CUfunction lazy = function("lazy1");
  CHECK(0, cu.cuFuncGetAttribute(&number, FAKE_CU_FUNC_ATTRIBUTE_NUM_REGS, lazy));
  CHECK(0, cu.cuFuncIsLoaded(&number, lazy));
  CHECK(1, number);
  lazy = function("lazy2");
  CHECK(0, cu.cuFuncLoad(lazy));
  CHECK(0, cu.cuFuncIsLoaded(&number, lazy));
  CHECK(1, number);
}

void check_attributes(void) {
  int number = 0;
  const int dynamic = FAKE_CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
  CHECK(0, cu.cuFuncGetAttribute(&number, dynamic, empty));
  CHECK(48 * 1024, number);
  CHECK(0, cu.cuFuncGetAttribute(&number, FAKE_CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, empty));
  CHECK(0, number);
  CHECK(0, cu.cuFuncGetAttribute(&number, FAKE_CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT,
                                 empty));
  CHECK(-1, number);
  CHECK(0, cu.cuFuncGetAttribute(&number, FAKE_CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK,
                                 function("bounded")));
  CHECK(64, number);
  CHECK(0, cu.cuFuncGetAttribute(&number, FAKE_CU_FUNC_ATTRIBUTE_PTX_VERSION, empty));
  CHECK(90, number);
  CHECK(0, cu.cuFuncGetAttribute(&number, FAKE_CU_FUNC_ATTRIBUTE_BINARY_VERSION, empty));
  CHECK(90, number);
  CHECK(ERROR(INVALID_VALUE), cu.cuFuncGetAttribute(&number, 99, empty));
  CHECK(ERROR(INVALID_VALUE), launch(empty, 1, 32, 48 * 1024 + 1, NULL));
  CHECK(0, cu.cuFuncSetAttribute(empty, dynamic, 227 * 1024));
  CHECK(ERROR(INVALID_VALUE), cu.cuFuncSetAttribute(empty, dynamic, 227 * 1024 + 1));
  CHECK(ERROR(INVALID_VALUE), cu.cuFuncSetAttribute(empty, dynamic, -1));
  CHECK(ERROR(INVALID_VALUE), cu.cuFuncSetAttribute(empty, FAKE_CU_FUNC_ATTRIBUTE_NUM_REGS, 1));
  CHECK(0, launch(empty, 1, 32, 227 * 1024, NULL));
  CHECK(ERROR(INVALID_VALUE), launch(empty, 1, 32, 227 * 1024 + 1, NULL));
  CHECK(0, cu.cuFuncGetAttribute(&number, FAKE_CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH,
                                 function("paired")));
  CHECK(2, number);
  CHECK(
      ERROR(INVALID_VALUE),
      cu.cuFuncSetAttribute(function("paired"), FAKE_CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH, 4));
}

static CUresult launch_cluster(CUfunction it, unsigned grid, unsigned cluster) {
  CUlaunchAttribute attribute;
  memset(&attribute, 0, sizeof attribute);
  attribute.id = FAKE_CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
  attribute.value.clusterDim.x = cluster;
  attribute.value.clusterDim.y = 1;
  attribute.value.clusterDim.z = 1;
  CUlaunchConfig config = {grid, 1, 1, 32, 1, 1, 0, NULL, &attribute, 1};
  return cu.cuLaunchKernelEx(&config, it, NULL, NULL);
}

static CUresult launch_attribute(int id, int value) {
  CUlaunchAttribute attribute;
  memset(&attribute, 0, sizeof attribute);
  attribute.id = id;
  attribute.value.cooperative = value;
  CUlaunchConfig config = {1, 1, 1, 32, 1, 1, 0, NULL, &attribute, 1};
  return cu.cuLaunchKernelEx(&config, empty, NULL, NULL);
}

void check_launches(void) {
  int value = 7;
  int back = 0;
  CUdeviceptr memory = 0;
  CHECK(0, cu.cuMemAlloc_v2(&memory, 64));
  void *params[] = {&memory, &value};
  CUfunction store = function("store");
  CHECK(0, launch(empty, 1, 1024, 0, NULL));
  CHECK(ERROR(INVALID_VALUE), launch(empty, 1, 1025, 0, NULL));
  CHECK(ERROR(INVALID_VALUE), launch(empty, 0, 1, 0, NULL));
  CHECK(ERROR(INVALID_VALUE), launch(empty, 1, 0, 0, NULL));
  CHECK(ERROR(INVALID_VALUE), cu.cuLaunchKernel(empty, 1, 65536, 1, 1, 1, 1, 0, NULL, NULL, NULL));
  CHECK(ERROR(INVALID_VALUE), cu.cuLaunchKernel(empty, 1, 1, 1, 1, 1, 65, 0, NULL, NULL, NULL));
  CHECK(ERROR(INVALID_VALUE), launch(function("bounded"), 1, 65, 0, NULL));
  CHECK(ERROR(INVALID_HANDLE), launch(NULL, 1, 1, 0, NULL));
  CHECK(0, cu.cuLaunchKernel(store, 1, 1, 1, 1, 1, 1, 0, NULL, params, NULL));
  unsigned char packed[12];
  size_t size = sizeof packed;
  memcpy(packed, &memory, 8);
  memcpy(packed + 8, &value, 4);
  void *extra[] = {(void *)1, packed, (void *)2, &size, NULL};
  CHECK(0, cu.cuLaunchKernel(store, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, extra));
  CHECK(ERROR(INVALID_VALUE), cu.cuLaunchKernel(store, 1, 1, 1, 1, 1, 1, 0, NULL, params, extra));
  CHECK(0, cu.cuMemcpyDtoH_v2(&back, memory, 4));
  CHECK(0, launch_cluster(empty, 4, 2));
  CHECK(0, launch_cluster(empty, 8, 8));
  CHECK(ERROR(INVALID_CLUSTER_SIZE), launch_cluster(empty, 5, 2));
  CHECK(ERROR(INVALID_CLUSTER_SIZE), launch_cluster(empty, 16, 16));
  CHECK(0,
        cu.cuFuncSetAttribute(empty, FAKE_CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1));
  CHECK(0, launch_cluster(empty, 16, 16));
  CHECK(ERROR(INVALID_CLUSTER_SIZE), launch_cluster(empty, 32, 32));
  CHECK(ERROR(INVALID_CLUSTER_SIZE), launch_cluster(empty, 4, 0));
  CUfunction paired = function("paired");
  CHECK(0, launch(paired, 4, 32, 0, NULL));
  CHECK(ERROR(INVALID_CLUSTER_SIZE), launch(paired, 5, 32, 0, NULL));
  CHECK(0, launch_cluster(paired, 4, 2));
  CHECK(ERROR(INVALID_CLUSTER_SIZE), launch_cluster(paired, 4, 4));
  CHECK(0, launch_attribute(FAKE_CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION, 1));
  CHECK(0, launch_attribute(FAKE_CU_LAUNCH_ATTRIBUTE_COOPERATIVE, 1));
  CHECK(0, launch_attribute(FAKE_CU_LAUNCH_ATTRIBUTE_IGNORE, 0));
  CHECK(ERROR(INVALID_VALUE), launch_attribute(99, 0));
  CHECK(0, cu.cuLaunchCooperativeKernel(empty, 132, 1, 1, 32, 1, 1, 0, NULL, NULL));
  CHECK(ERROR(COOPERATIVE_LAUNCH_TOO_LARGE),
        cu.cuLaunchCooperativeKernel(empty, 100000, 1, 1, 32, 1, 1, 0, NULL, NULL));
  int number = 0;
  CHECK(0, cu.cuOccupancyMaxActiveBlocksPerMultiprocessor(&number, empty, 1024, 0));
  CHECK(2, number);
  CHECK(0, cu.cuOccupancyMaxActiveBlocksPerMultiprocessor(&number, empty, 32, 0));
  CHECK(32, number);
  CHECK(0, cu.cuOccupancyMaxActiveBlocksPerMultiprocessor(&number, empty, 32, 100 * 1024));
  CHECK(2, number);
  CHECK(0, cu.cuOccupancyMaxActiveBlocksPerMultiprocessor(&number, empty, 2048, 0));
  CHECK(0, number);
  CUlaunchAttribute attribute;
  memset(&attribute, 0, sizeof attribute);
  attribute.id = FAKE_CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
  attribute.value.clusterDim.x = 2;
  attribute.value.clusterDim.y = 1;
  attribute.value.clusterDim.z = 1;
  CUlaunchConfig config = {4, 1, 1, 32, 1, 1, 0, NULL, &attribute, 1};
  CHECK(0, cu.cuOccupancyMaxActiveClusters(&number, empty, &config));
  CHECK(1, number > 0);
  CHECK(0, cu.cuMemFree_v2(memory));
}

void check_other_context(void) {
  CUcontext made = NULL;
  CUstream stream = NULL;
  CUdeviceptr memory = 0;
  CUcontext got = NULL;
  CHECK(0, cu.cuCtxCreate_v2(&made, 0, 0));
  CHECK(0, cu.cuStreamCreate(&stream, 0));
  CHECK(ERROR(INVALID_HANDLE), launch(empty, 1, 1, 0, NULL));
  CHECK(ERROR(INVALID_HANDLE), launch(empty, 1, 1, 0, stream));
  CHECK(0, launch(empty, 1, 1, 0, free_running)); /* function and stream are of the other one */
  CHECK(0, cu.cuCtxPopCurrent_v2(&got));
  CHECK(ERROR(INVALID_HANDLE), launch(empty, 1, 1, 0, stream));
  CHECK(0, cu.cuCtxPushCurrent_v2(made));
  CHECK(0, cu.cuMemAlloc_v2(&memory, 16));
  CHECK(0, cu.cuStreamGetCtx(stream, &got));
  CHECK(1, got == made);
  CHECK(0, cu.cuCtxDestroy_v2(made));
  CHECK(0, cu.cuCtxSetCurrent(context));
}
