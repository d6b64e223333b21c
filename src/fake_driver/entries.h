/* SPDX-License-Identifier: Apache-2.0 */
/* The driver's entry points that the model has: the one list of them, their rules, their ABI. */
#ifndef PEGA_FAKE_DRIVER_ENTRIES_H_
#define PEGA_FAKE_DRIVER_ENTRIES_H_

#include "abi.h"

/* What fake_enter() sees to before an entry point's own rules. */
enum {
  kInit = 1,        /* needs cuInit */
  kContext = 3,     /* needs a live current context too, and returns its sticky error */
  kAnyContext = 35, /* the same of the current context, or does without one */
  kUnsafe = 4,      /* is "potentially unsafe" in the words of cuStreamBeginCapture */
  kLoads = 8,       /* is so where loading is strict */
  kHealthy = 16,    /* answers in a context with a sticky error too */
};

/* X(symbol, name for cuGetProcAddress, CUDA version that has it, what it needs, parameters) */
#define FAKE_ENTRIES(X)                                                                            \
  X(cuInit, "cuInit", 2000, 0, (unsigned flags))                                                   \
  X(cuDriverGetVersion, "cuDriverGetVersion", 2020, 0, (int *version))                             \
  X(cuGetProcAddress, "cuGetProcAddress", 11030, 0,                                                \
    (const char *name, void **out, int version, uint64_t flags))                                   \
  X(cuGetProcAddress_v2, "cuGetProcAddress", 12000, 0,                                             \
    (const char *name, void **out, int version, uint64_t flags, int *status))                      \
  X(cuGetErrorName, "cuGetErrorName", 6000, 0, (CUresult result, const char **out))                \
  X(cuGetErrorString, "cuGetErrorString", 6000, 0, (CUresult result, const char **out))            \
  X(cuDeviceGetCount, "cuDeviceGetCount", 2000, kInit, (int *count))                               \
  X(cuDeviceGet, "cuDeviceGet", 2000, kInit, (CUdevice * out, int ordinal))                        \
  X(cuDeviceGetName, "cuDeviceGetName", 2000, kInit, (char *out, int size, CUdevice device))       \
  X(cuDeviceGetAttribute, "cuDeviceGetAttribute", 2000, kInit,                                     \
    (int *out, int attribute, CUdevice device))                                                    \
  X(cuDeviceTotalMem_v2, "cuDeviceTotalMem", 3020, kInit, (size_t * out, CUdevice device))         \
  X(cuDeviceGetUuid, "cuDeviceGetUuid", 9020, kInit, (CUuuid * out, CUdevice device))              \
  X(cuDeviceGetUuid_v2, "cuDeviceGetUuid", 11040, kInit, (CUuuid * out, CUdevice device))          \
  X(cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain", 7000, kInit,                             \
    (CUcontext * out, CUdevice device))                                                            \
  X(cuDevicePrimaryCtxRelease_v2, "cuDevicePrimaryCtxRelease", 11000, kInit, (CUdevice device))    \
  X(cuDevicePrimaryCtxGetState, "cuDevicePrimaryCtxGetState", 7000, kInit,                         \
    (CUdevice device, unsigned *flags, int *active))                                               \
  X(cuDevicePrimaryCtxReset_v2, "cuDevicePrimaryCtxReset", 11000, kInit, (CUdevice device))        \
  X(cuCtxCreate_v2, "cuCtxCreate", 3020, kInit,                                                    \
    (CUcontext * out, unsigned flags, CUdevice device))                                            \
  X(cuCtxCreate_v3, "cuCtxCreate", 11040, kInit,                                                   \
    (CUcontext * out, void *affinity, int count, unsigned flags, CUdevice device))                 \
  X(cuCtxCreate_v4, "cuCtxCreate", 12050, kInit,                                                   \
    (CUcontext * out, void *params, unsigned flags, CUdevice device))                              \
  X(cuCtxDestroy_v2, "cuCtxDestroy", 4000, kInit, (CUcontext context))                             \
  X(cuCtxGetCurrent, "cuCtxGetCurrent", 4000, kInit, (CUcontext * out))                            \
  X(cuCtxSetCurrent, "cuCtxSetCurrent", 4000, kInit, (CUcontext context))                          \
  X(cuCtxPushCurrent_v2, "cuCtxPushCurrent", 4000, kInit, (CUcontext context))                     \
  X(cuCtxPopCurrent_v2, "cuCtxPopCurrent", 4000, kInit, (CUcontext * out))                         \
  X(cuCtxGetDevice, "cuCtxGetDevice", 2000, kContext | kHealthy, (CUdevice * out))                 \
  X(cuCtxGetDevice_v2, "cuCtxGetDevice", 13000, kInit, (CUdevice * out, CUcontext context))        \
  X(cuCtxGetFlags, "cuCtxGetFlags", 7000, kContext | kHealthy, (unsigned *out))                    \
  X(cuCtxGetId, "cuCtxGetId", 12000, kInit, (CUcontext context, unsigned long long *out))          \
  X(cuCtxGetApiVersion, "cuCtxGetApiVersion", 3020, kInit, (CUcontext context, unsigned *out))     \
  X(cuCtxSynchronize, "cuCtxSynchronize", 2000, kContext, (void))                                  \
  X(cuCtxSynchronize_v2, "cuCtxSynchronize", 13000, kInit, (CUcontext context))                    \
  X(cuModuleLoadData, "cuModuleLoadData", 2000, kContext | kLoads,                                 \
    (CUmodule * out, const void *image))                                                           \
  X(cuModuleLoadDataEx, "cuModuleLoadDataEx", 2010, kContext | kLoads,                             \
    (CUmodule * out, const void *image, unsigned count, int *options, void **values))              \
  X(cuModuleUnload, "cuModuleUnload", 2000, kContext | kUnsafe, (CUmodule module))                 \
  X(cuModuleGetFunction, "cuModuleGetFunction", 2000, kContext,                                    \
    (CUfunction * out, CUmodule module, const char *name))                                         \
  X(cuModuleGetLoadingMode, "cuModuleGetLoadingMode", 11070, kInit, (int *out))                    \
  X(cuFuncGetAttribute, "cuFuncGetAttribute", 2020, kContext,                                      \
    (int *out, int attribute, CUfunction function))                                                \
  X(cuFuncSetAttribute, "cuFuncSetAttribute", 9000, kContext,                                      \
    (CUfunction function, int attribute, int value))                                               \
  X(cuFuncGetModule, "cuFuncGetModule", 11000, kContext, (CUmodule * out, CUfunction function))    \
  X(cuFuncGetName, "cuFuncGetName", 12030, kContext, (const char **out, CUfunction function))      \
  X(cuFuncGetParamInfo, "cuFuncGetParamInfo", 12040, kContext,                                     \
    (CUfunction function, size_t index, size_t * offset, size_t * size))                           \
  X(cuFuncIsLoaded, "cuFuncIsLoaded", 12040, kContext, (int *out, CUfunction function))            \
  X(cuFuncLoad, "cuFuncLoad", 12040, kContext, (CUfunction function))                              \
  X(cuOccupancyMaxActiveBlocksPerMultiprocessor, "cuOccupancyMaxActiveBlocksPerMultiprocessor",    \
    6050, kContext, (int *out, CUfunction function, int block_size, size_t shared_bytes))          \
  X(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags,                                          \
    "cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags", 7000, kContext,                        \
    (int *out, CUfunction function, int block_size, size_t shared_bytes, unsigned flags))          \
  X(cuOccupancyMaxActiveClusters, "cuOccupancyMaxActiveClusters", 11070, kContext,                 \
    (int *out, CUfunction function, const CUlaunchConfig *config))                                 \
  X(cuLaunchKernel, "cuLaunchKernel", 4000, kContext,                                              \
    (CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,     \
     unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream, void **params,    \
     void **extra))                                                                                \
  X(cuLaunchKernelEx, "cuLaunchKernelEx", 11060, kContext,                                         \
    (const CUlaunchConfig *config, CUfunction function, void **params, void **extra))              \
  X(cuLaunchCooperativeKernel, "cuLaunchCooperativeKernel", 9000, kContext,                        \
    (CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,     \
     unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream, void **params))   \
  X(cuStreamCreate, "cuStreamCreate", 2000, kContext, (CUstream * out, unsigned flags))            \
  X(cuStreamCreateWithPriority, "cuStreamCreateWithPriority", 5050, kContext,                      \
    (CUstream * out, unsigned flags, int priority))                                                \
  X(cuStreamDestroy_v2, "cuStreamDestroy", 4000, kContext, (CUstream stream))                      \
  X(cuStreamSynchronize, "cuStreamSynchronize", 2000, kContext, (CUstream stream))                 \
  X(cuStreamQuery, "cuStreamQuery", 2000, kContext, (CUstream stream))                             \
  X(cuStreamWaitEvent, "cuStreamWaitEvent", 3020, kContext,                                        \
    (CUstream stream, CUevent event, unsigned flags))                                              \
  X(cuStreamGetFlags, "cuStreamGetFlags", 5050, kContext, (CUstream stream, unsigned *out))        \
  X(cuStreamGetCtx, "cuStreamGetCtx", 9020, kAnyContext, (CUstream stream, CUcontext * out))       \
  X(cuStreamGetCtx_v2, "cuStreamGetCtx", 12050, kAnyContext,                                       \
    (CUstream stream, CUcontext * out, void **green))                                              \
  X(cuStreamGetDevice, "cuStreamGetDevice", 12080, kContext, (CUstream stream, CUdevice * out))    \
  X(cuStreamIsCapturing, "cuStreamIsCapturing", 10000, kAnyContext, (CUstream stream, int *out))   \
  X(cuStreamGetCaptureInfo_v2, "cuStreamGetCaptureInfo", 11030, kContext,                          \
    (CUstream stream, int *status, uint64_t *id, CUgraph *graph, const CUgraphNode **dependencies, \
     size_t *count))                                                                               \
  X(cuStreamGetCaptureInfo_v3, "cuStreamGetCaptureInfo", 12030, kContext,                          \
    (CUstream stream, int *status, uint64_t *id, CUgraph *graph, const CUgraphNode **dependencies, \
     const void **edges, size_t *count))                                                           \
  X(cuStreamBeginCapture_v2, "cuStreamBeginCapture", 10010, kContext, (CUstream stream, int mode)) \
  X(cuStreamEndCapture, "cuStreamEndCapture", 10000, kContext, (CUstream stream, CUgraph * out))   \
  X(cuThreadExchangeStreamCaptureMode, "cuThreadExchangeStreamCaptureMode", 10010, kInit,          \
    (int *mode))                                                                                   \
  X(cuGraphGetNodes, "cuGraphGetNodes", 10000, kInit,                                              \
    (CUgraph graph, CUgraphNode * nodes, size_t * count))                                          \
  X(cuGraphInstantiateWithFlags, "cuGraphInstantiateWithFlags", 11040, kContext,                   \
    (CUgraphExec * out, CUgraph graph, unsigned long long flags))                                  \
  X(cuGraphLaunch, "cuGraphLaunch", 10000, kContext, (CUgraphExec exec, CUstream stream))          \
  X(cuGraphDestroy, "cuGraphDestroy", 10000, kInit, (CUgraph graph))                               \
  X(cuGraphExecDestroy, "cuGraphExecDestroy", 10000, kInit, (CUgraphExec exec))                    \
  X(cuMemAlloc_v2, "cuMemAlloc", 3020, kContext | kUnsafe, (CUdeviceptr * out, size_t size))       \
  X(cuMemFree_v2, "cuMemFree", 3020, kContext | kUnsafe, (CUdeviceptr address))                    \
  X(cuMemAllocAsync, "cuMemAllocAsync", 11020, kContext,                                           \
    (CUdeviceptr * out, size_t size, CUstream stream))                                             \
  X(cuMemFreeAsync, "cuMemFreeAsync", 11020, kContext, (CUdeviceptr address, CUstream stream))     \
  X(cuMemcpyHtoD_v2, "cuMemcpyHtoD", 3020, kContext,                                               \
    (CUdeviceptr to, const void *from, size_t size))                                               \
  X(cuMemcpyDtoH_v2, "cuMemcpyDtoH", 3020, kContext, (void *to, CUdeviceptr from, size_t size))    \
  X(cuMemcpyHtoDAsync_v2, "cuMemcpyHtoDAsync", 3020, kContext,                                     \
    (CUdeviceptr to, const void *from, size_t size, CUstream stream))                              \
  X(cuMemcpyDtoHAsync_v2, "cuMemcpyDtoHAsync", 3020, kContext,                                     \
    (void *to, CUdeviceptr from, size_t size, CUstream stream))                                    \
  X(cuMemcpyDtoDAsync_v2, "cuMemcpyDtoDAsync", 3020, kContext,                                     \
    (CUdeviceptr to, CUdeviceptr from, size_t size, CUstream stream))                              \
  X(cuMemsetD8_v2, "cuMemsetD8", 3020, kContext,                                                   \
    (CUdeviceptr to, unsigned char value, size_t count))                                           \
  X(cuMemsetD8Async, "cuMemsetD8Async", 3020, kContext,                                            \
    (CUdeviceptr to, unsigned char value, size_t count, CUstream stream))                          \
  X(cuMemGetInfo_v2, "cuMemGetInfo", 3020, kContext, (size_t * available, size_t * total))         \
  X(cuPointerGetAttribute, "cuPointerGetAttribute", 4000, kAnyContext,                             \
    (void *out, int attribute, CUdeviceptr address))                                               \
  X(cuPointerGetAttributes, "cuPointerGetAttributes", 7000, kAnyContext,                           \
    (unsigned count, int *attributes, void **out, CUdeviceptr address))                            \
  X(cuEventCreate, "cuEventCreate", 2000, kContext, (CUevent * out, unsigned flags))               \
  X(cuEventRecord, "cuEventRecord", 2000, kContext, (CUevent event, CUstream stream))              \
  X(cuEventQuery, "cuEventQuery", 2000, kContext, (CUevent event))                                 \
  X(cuEventSynchronize, "cuEventSynchronize", 2000, kContext, (CUevent event))                     \
  X(cuEventElapsedTime, "cuEventElapsedTime", 2000, kContext,                                      \
    (float *out, CUevent start, CUevent end))                                                      \
  X(cuEventElapsedTime_v2, "cuEventElapsedTime", 12080, kContext,                                  \
    (float *out, CUevent start, CUevent end))                                                      \
  X(cuEventDestroy_v2, "cuEventDestroy", 4000, kContext, (CUevent event))                          \
  X(cuTensorMapEncodeTiled, "cuTensorMapEncodeTiled", 12000, kInit,                                \
    (void *map, int data_type, uint32_t rank, void *address, const uint64_t *dim,                  \
     const uint64_t *strides, const uint32_t *box, const uint32_t *element_strides,                \
     int interleave, int swizzle, int l2_promotion, int oob_fill))

enum {
#define FAKE_ENTRY_ENUM_(symbol, name, version, needs, parameters) FAKE_##symbol,
  FAKE_ENTRIES(FAKE_ENTRY_ENUM_)
#undef FAKE_ENTRY_ENUM_
      FAKE_NUM_ENTRIES
};

#define FAKE_ENTRY_DECLARE_(symbol, name, version, needs, parameters) \
  __attribute__((visibility("default"))) CUresult symbol parameters;
FAKE_ENTRIES(FAKE_ENTRY_DECLARE_)
#undef FAKE_ENTRY_DECLARE_

#endif /* PEGA_FAKE_DRIVER_ENTRIES_H_ */
