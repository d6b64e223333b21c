/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules of the model, asked of whatever libcuda.so.1 is found: ctest runs this with the fake
 * driver; on a machine with a GPU of compute capability 9.0 the same program asks the real one.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conformance.h"

int failures;
CUcontext context;
CUmodule module;
CUfunction empty;
CUstream blocking;
CUstream free_running;

static int checks;

static const char *name_of(CUresult result) {
  const char *name = NULL;
  return cu.cuGetErrorName(result, &name) == 0 && name != NULL ? name : "?";
}

void check(int line, const char *what, long expected, long got) {
  ++checks;
  if (expected == got) return;
  ++failures;
  printf("%d: %s: expected %ld, got %ld (%s)\n", line, what, expected, got, name_of((int)got));
}

const char kPtx[] =
    ".version 8.0\n.target sm_90\n.address_size 64\n"
    ".visible .entry empty() { ret; }\n"
    ".visible .entry store(.param .u64 store_p, .param .u32 store_v) {\n"
    "  .reg .b64 %rd<3>; .reg .b32 %r<2>;\n"
    "  ld.param.u64 %rd1, [store_p]; ld.param.u32 %r1, [store_v];\n"
    "  cvta.to.global.u64 %rd2, %rd1; st.global.u32 [%rd2], %r1; ret; }\n"
    ".visible .entry gaps(.param .u8 a, .param .align 16 .b8 b[20], .param .u16 c) { ret; }\n"
    ".visible .entry bounded() .maxntid 64, 1, 1 { ret; }\n"
    ".visible .entry lazy1() { ret; }\n.visible .entry lazy2() { ret; }\n"
    ".visible .entry lazy3() { ret; }\n.visible .entry lazy4() { ret; }\n"
    ".visible .entry paired() .explicitcluster .reqnctapercluster 2, 1, 1 { ret; }\n";

CUfunction function(const char *name) {
  CUfunction found = NULL;
  CHECK(0, cu.cuModuleGetFunction(&found, module, name));
  return found;
}

CUresult launch(CUfunction it, unsigned grid, unsigned block, unsigned shared, CUstream stream) {
  return cu.cuLaunchKernel(it, grid, 1, 1, block, 1, 1, shared, stream, NULL, NULL);
}

static void before_init(void) {
  int number = 0;
  CUcontext got = NULL;
  void *found = NULL;
  int status = -1;
  CHECK(ERROR(NOT_INITIALIZED), cu.cuDeviceGetCount(&number));
  CHECK(ERROR(NOT_INITIALIZED), cu.cuCtxGetCurrent(&got));
  CHECK(ERROR(NOT_INITIALIZED), launch(NULL, 1, 1, 0, NULL));
  CHECK(0, cu.cuDriverGetVersion(&number));
  CHECK(0, cu.cuGetProcAddress_v2("cuInit", &found, 12000, 0, &status));
  CHECK(ERROR(INVALID_VALUE), cu.cuInit(1));
}

static void names(void) {
  void *found = NULL;
  void *other = NULL;
  int status = -1;
  int version = 0;
  cu.cuDriverGetVersion(&version);
  CHECK(0, cu.cuGetProcAddress_v2("cuMemAlloc", &found, 12000, 0, &status));
  CHECK(FAKE_CU_GET_PROC_ADDRESS_SUCCESS, status);
  CHECK(1, found == (void *)(uintptr_t)cu.cuMemAlloc_v2);
  found = &status;
  CHECK(0, cu.cuGetProcAddress_v2("cuNoSuchThing", &found, 12000, 0, &status));
  CHECK(FAKE_CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND, status);
  CHECK(1, found == NULL);
  found = &status;
  CHECK(0, cu.cuGetProcAddress_v2("cuTensorMapEncodeTiled", &found, 11080, 0, &status));
  CHECK(FAKE_CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT, status);
  CHECK(1, found == NULL);
  found = &status;
  CHECK(0, cu.cuGetProcAddress_v2("cuFuncLoad", &found, 12030, 0, NULL));
  CHECK(1, found == NULL);
  CHECK(0, cu.cuGetProcAddress_v2("cuFuncLoad", &found, 12040, 0, NULL));
  CHECK(0, cu.cuGetProcAddress_v2("cuGetProcAddress", &found, 11030, 0, &status));
  CHECK(0, cu.cuGetProcAddress_v2("cuGetProcAddress", &other, 12000, 0, &status));
  CHECK(1, found != other);
  CHECK(0, cu.cuGetProcAddress_v2("cuMemAlloc_v2", &found, 12000, 0, &status));
  CHECK(1, found == NULL);
  CHECK(ERROR(INVALID_VALUE), cu.cuGetProcAddress_v2("cuInit", &found, version + 1000, 0, &status));
  CHECK(ERROR(INVALID_VALUE), cu.cuGetProcAddress_v2("cuInit", &found, 12000, 64, &status));
  const char *text = NULL;
  CHECK(0, cu.cuGetErrorName(700, &text));
  CHECK(0, text == NULL ? 1 : strcmp(text, "CUDA_ERROR_ILLEGAL_ADDRESS"));
  CHECK(ERROR(INVALID_VALUE), cu.cuGetErrorName(12345, &text));
  CHECK(1, text == NULL);
  CHECK(ERROR(INVALID_VALUE), cu.cuGetErrorString(12345, &text));
}

static void devices(void) {
  CUdevice device = -1;
  int number = 0;
  size_t size = 0;
  char name[64];
  CHECK(0, cu.cuDeviceGet(&device, 0));
  CHECK(0, device);
  CHECK(ERROR(INVALID_DEVICE), cu.cuDeviceGet(&device, 1000));
  CHECK(ERROR(INVALID_DEVICE), cu.cuDeviceGet(&device, -1));
  CHECK(0, cu.cuDeviceGetAttribute(&number, FAKE_CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 0));
  CHECK(9, number);
  CHECK(0,
        cu.cuDeviceGetAttribute(&number, FAKE_CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, 0));
  CHECK(48 * 1024, number);
  CHECK(0, cu.cuDeviceGetAttribute(&number,
                                   FAKE_CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 0));
  CHECK(227 * 1024, number);
  CHECK(0, cu.cuDeviceGetAttribute(
               &number, FAKE_CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, 0));
  CHECK(228 * 1024, number);
  CHECK(0, cu.cuDeviceGetAttribute(&number,
                                   FAKE_CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK, 0));
  CHECK(1024, number);
  CHECK(ERROR(INVALID_VALUE), cu.cuDeviceGetAttribute(&number, 0, 0));
  CHECK(ERROR(INVALID_VALUE), cu.cuDeviceGetAttribute(&number, 100000, 0));
  CHECK(ERROR(INVALID_DEVICE), cu.cuDeviceGetAttribute(&number, 1, 1000));
  CHECK(ERROR(INVALID_VALUE), cu.cuDeviceGetAttribute(NULL, 1, 0));
  CHECK(ERROR(INVALID_DEVICE), cu.cuDeviceTotalMem_v2(&size, 1000));
  CHECK(0, cu.cuDeviceGetName(name, sizeof name, 0));
  CHECK(ERROR(INVALID_VALUE), cu.cuDeviceGetName(NULL, 4, 0));
}

static void no_context(void) {
  CUdeviceptr memory = 0;
  CUdevice device;
  CUstream stream = NULL;
  CUcontext got = (CUcontext)(uintptr_t)8;
  CHECK(0, cu.cuCtxGetCurrent(&got));
  CHECK(1, got == NULL);
  CHECK(ERROR(INVALID_CONTEXT), cu.cuMemAlloc_v2(&memory, 16));
  CHECK(ERROR(INVALID_CONTEXT), cu.cuModuleLoadData(&module, kPtx));
  CHECK(ERROR(INVALID_CONTEXT), cu.cuCtxSynchronize());
  CHECK(ERROR(INVALID_CONTEXT), cu.cuStreamCreate(&stream, 0));
  CHECK(ERROR(INVALID_CONTEXT), cu.cuCtxGetDevice(&device));
  CHECK(ERROR(INVALID_CONTEXT), cu.cuCtxPopCurrent_v2(&got));
  CHECK(ERROR(INVALID_CONTEXT), cu.cuDevicePrimaryCtxRelease_v2(0));
  CHECK(0, cu.cuCtxSetCurrent(NULL));
}

static void contexts(void) {
  CUcontext again = NULL;
  unsigned flags = 9;
  int active = 9;
  unsigned long long id = 0;
  unsigned long long other = 0;
  CHECK(0, cu.cuDevicePrimaryCtxGetState(0, &flags, &active));
  CHECK(0, active);
  CHECK(ERROR(INVALID_DEVICE), cu.cuDevicePrimaryCtxRetain(&context, 1000));
  CHECK(0, cu.cuDevicePrimaryCtxRetain(&context, 0));
  CHECK(0, cu.cuDevicePrimaryCtxRetain(&again, 0));
  CHECK(1, context == again);
  CHECK(0, cu.cuDevicePrimaryCtxRelease_v2(0));
  CHECK(0, cu.cuDevicePrimaryCtxGetState(0, &flags, &active));
  CHECK(1, active);
  CHECK(0, cu.cuCtxGetId(context, &id));
  CHECK(0, cu.cuDevicePrimaryCtxRelease_v2(0));
  CHECK(0, cu.cuDevicePrimaryCtxGetState(0, &flags, &active));
  CHECK(0, active);
  CHECK(0, cu.cuDevicePrimaryCtxRetain(&again, 0));
  CHECK(1, context == again);
  CHECK(0, cu.cuCtxGetId(context, &other));
  CHECK(1, id != other);
  CHECK(0, cu.cuCtxPushCurrent_v2(context));
  CHECK(0, cu.cuCtxGetCurrent(&again));
  CHECK(1, context == again);
  CUcontext made = NULL;
  CHECK(0, cu.cuCtxCreate_v2(&made, 0, 0));
  CHECK(0, cu.cuCtxGetCurrent(&again));
  CHECK(1, made == again && made != context);
  CHECK(0, cu.cuCtxDestroy_v2(made));
  CHECK(0, cu.cuCtxGetCurrent(&again));
  CHECK(1, again == context);
  CHECK(ERROR(INVALID_VALUE), cu.cuCtxDestroy_v2(NULL));
}

static void forks(void) {
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    CUcontext got = NULL;
    CUdeviceptr it = 0;
    int count = 0;
    failures = 0;
    CHECK(3, cu.cuCtxGetCurrent(&got));
    CHECK(3, cu.cuMemAlloc_v2(&it, 16));
    CHECK(3, cu.cuDeviceGetCount(&count));
    CHECK(3, cu.cuInit(0));
    CHECK(3, launch(empty, 1, 1, 0, NULL));
    fflush(stdout);
    _exit(failures == 0 ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK(0, status);
}

/* Of the fake driver, or NULL. */
static int (*poison)(const void *context, int result);
static int (*configure)(const char *text);

static void sticky(void) {
  CUdeviceptr it = 0;
  CUstream stream = NULL;
  CUcontext got = NULL;
  int number = 0;
  CUdeviceptr nowhere = 16;
  int value = 1;
  void *params[] = {&nowhere, &value};
  CUfunction store = function("store");
  CHECK(0, cu.cuLaunchKernel(store, 1, 1, 1, 1, 1, 1, 0, NULL, params, NULL));
  if (poison != NULL) CHECK(0, poison(NULL, 700));
  CHECK(700, cu.cuCtxSynchronize());
  CHECK(700, cu.cuMemAlloc_v2(&it, 16));
  CHECK(700, launch(empty, 1, 1, 0, NULL));
  CHECK(700, cu.cuStreamCreate(&stream, 0));
  CHECK(700, cu.cuStreamSynchronize(NULL));
  CHECK(700, cu.cuFuncGetAttribute(&number, 4, empty));
  CHECK(700, cu.cuModuleUnload(module));
  CHECK(0, cu.cuCtxGetCurrent(&got));
  CHECK(0, cu.cuCtxGetDevice(&number));
  CHECK(0, cu.cuDeviceGetCount(&number));
  CHECK(0, cu.cuDevicePrimaryCtxRelease_v2(0));
}

int main(void) {
  void *library;
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (!driver_open(&library)) {
    printf("SKIP: no libcuda.so.1: put the fake driver's folder into LD_LIBRARY_PATH\n");
    return 77;
  }
  void *found = dlsym(library, "pega_fake_driver_poison");
  memcpy(&poison, &found, sizeof found);
  found = dlsym(library, "pega_fake_driver_configure");
  memcpy(&configure, &found, sizeof found);
  if (configure != NULL) CHECK(0, configure("strict=0"));
  before_init();
  CHECK(0, cu.cuInit(0));
  names();
  devices();
  no_context();
  contexts();
  check_modules();
  check_attributes();
  CHECK(0, cu.cuStreamCreate(&blocking, 0));
  CHECK(0, cu.cuStreamCreate(&free_running, 1));
  check_launches();
  check_other_context();
  check_memory();
  check_streams_and_events();
  check_capture();
  check_tensor_maps();
  forks();
  sticky();
  printf("%d of %d checks failed\n", failures, checks);
  return failures == 0 ? 0 : 1;
}
