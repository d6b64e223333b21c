/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file gpu.h
 * \brief The CUDA driver as a client sees it, opened at run time: tests and benchmarks build without
 *        a toolkit. Names, numbers and layouts are those of NVIDIA's cuda.h.
 */
#ifndef PEGA_CLI_GPU_H_
#define PEGA_CLI_GPU_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef int CUresult;
typedef int CUdevice;
typedef uint64_t CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphExec_st *CUgraphExec;
typedef struct CUmemPool_st *CUmemoryPool;

enum {
  GPU_POINTER_DEVICE = 9,         /* CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL */
  GPU_NOT_SUPPORTED = 801,        /* CUDA_ERROR_NOT_SUPPORTED */
  GPU_NOT_READY = 600,            /* CUDA_ERROR_NOT_READY */
  GPU_ILLEGAL_ADDRESS = 700,      /* CUDA_ERROR_ILLEGAL_ADDRESS */
  GPU_STREAM_NON_BLOCKING = 1,    /* CU_STREAM_NON_BLOCKING */
  GPU_CAPTURE_GLOBAL = 0,         /* CU_STREAM_CAPTURE_MODE_GLOBAL */
  GPU_CAPTURE_ACTIVE = 1,         /* CU_STREAM_CAPTURE_STATUS_ACTIVE */
  GPU_EVENT_DEFAULT = 0,          /* CU_EVENT_DEFAULT */
  GPU_MEMPOOL_USED_CURRENT = 7,   /* CU_MEMPOOL_ATTR_USED_MEM_CURRENT */
  GPU_ATTRIBUTE_COOPERATIVE = 2,  /* CU_LAUNCH_ATTRIBUTE_COOPERATIVE */
  GPU_ATTRIBUTE_CLUSTER = 4,      /* CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION */
  GPU_ATTRIBUTE_PROGRAMMATIC = 6, /* CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION */
  GPU_FUNCTION_MAX_SHARED = 8     /* CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES */
};

typedef struct CUlaunchAttribute {
  int id;
  char pad[4];
  union {
    char bytes[64];
    int number;
    unsigned cluster[3];
  } value;
} CUlaunchAttribute;

typedef struct CUlaunchConfig {
  unsigned grid[3];
  unsigned block[3];
  unsigned shared_bytes;
  CUstream stream;
  CUlaunchAttribute *attributes;
  unsigned num_attributes;
} CUlaunchConfig;

/* X(name here, symbol, parameters) */
#define GPU_ENTRY_POINTS(X)                                                                     \
  X(init, cuInit, (unsigned flags))                                                             \
  X(driver_version, cuDriverGetVersion, (int *version))                                         \
  X(error_name, cuGetErrorName, (CUresult result, const char **name))                           \
  X(device_count, cuDeviceGetCount, (int *count))                                               \
  X(device_name, cuDeviceGetName, (char *name, int size, CUdevice device))                      \
  X(primary_retain, cuDevicePrimaryCtxRetain, (CUcontext * context, CUdevice device))           \
  X(primary_release, cuDevicePrimaryCtxRelease_v2, (CUdevice device))                           \
  X(context_destroy, cuCtxDestroy_v2, (CUcontext context))                                      \
  X(context_get, cuCtxGetCurrent, (CUcontext * context))                                        \
  X(context_set, cuCtxSetCurrent, (CUcontext context))                                          \
  X(synchronize, cuCtxSynchronize, (void))                                                      \
  X(memory_info, cuMemGetInfo_v2, (size_t * available, size_t * total))                         \
  X(alloc, cuMemAlloc_v2, (CUdeviceptr * out, size_t bytes))                                    \
  X(release, cuMemFree_v2, (CUdeviceptr memory))                                                \
  X(alloc_async, cuMemAllocAsync, (CUdeviceptr * out, size_t bytes, CUstream stream))           \
  X(release_async, cuMemFreeAsync, (CUdeviceptr memory, CUstream stream))                       \
  X(copy_in, cuMemcpyHtoD_v2, (CUdeviceptr to, const void *from, size_t bytes))                 \
  X(copy_out, cuMemcpyDtoH_v2, (void *to, CUdeviceptr from, size_t bytes))                      \
  X(copy_async, cuMemcpyDtoDAsync_v2,                                                           \
    (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream))                          \
  X(set_bytes, cuMemsetD8_v2, (CUdeviceptr to, unsigned char value, size_t bytes))              \
  X(set_bytes_async, cuMemsetD8Async,                                                           \
    (CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream))                       \
  X(module_load, cuModuleLoadData, (CUmodule * module, const void *image))                      \
  X(module_unload, cuModuleUnload, (CUmodule module))                                           \
  X(module_function, cuModuleGetFunction,                                                       \
    (CUfunction * function, CUmodule module, const char *name))                                 \
  X(function_set, cuFuncSetAttribute, (CUfunction function, int attribute, int value))          \
  X(launch, cuLaunchKernel,                                                                     \
    (CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,  \
     unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream, void **params, \
     void **extra))                                                                             \
  X(launch_ex, cuLaunchKernelEx,                                                                \
    (const CUlaunchConfig *config, CUfunction function, void **params, void **extra))           \
  X(stream_create, cuStreamCreate, (CUstream * stream, unsigned flags))                         \
  X(stream_destroy, cuStreamDestroy_v2, (CUstream stream))                                      \
  X(stream_synchronize, cuStreamSynchronize, (CUstream stream))                                 \
  X(capture_begin, cuStreamBeginCapture_v2, (CUstream stream, int mode))                        \
  X(capture_status, cuStreamIsCapturing, (CUstream stream, int *status))                        \
  X(capture_end, cuStreamEndCapture, (CUstream stream, CUgraph * graph))                        \
  X(graph_instantiate, cuGraphInstantiateWithFlags,                                             \
    (CUgraphExec * exec, CUgraph graph, unsigned long long flags))                              \
  X(graph_launch, cuGraphLaunch, (CUgraphExec exec, CUstream stream))                           \
  X(graph_destroy, cuGraphDestroy, (CUgraph graph))                                             \
  X(exec_destroy, cuGraphExecDestroy, (CUgraphExec exec))                                       \
  X(event_create, cuEventCreate, (CUevent * event, unsigned flags))                             \
  X(event_record, cuEventRecord, (CUevent event, CUstream stream))                              \
  X(event_query, cuEventQuery, (CUevent event))                                                 \
  X(event_synchronize, cuEventSynchronize, (CUevent event))                                     \
  X(event_destroy, cuEventDestroy_v2, (CUevent event))                                          \
  X(event_elapsed, cuEventElapsedTime, (float *milliseconds, CUevent from, CUevent to))

/* The same, NULL where the driver has it not. */
#define GPU_OPTIONAL_ENTRY_POINTS(X)                                                           \
  X(stream_context, cuStreamGetCtx, (CUstream stream, CUcontext * context))                    \
  X(pointer_get, cuPointerGetAttribute, (void *value, int attribute, CUdeviceptr pointer))     \
  X(context_create_v2, cuCtxCreate_v2, (CUcontext * context, unsigned flags, CUdevice device)) \
  X(context_create_v4, cuCtxCreate_v4,                                                         \
    (CUcontext * context, void *params, unsigned flags, CUdevice device))                      \
  X(host_function, cuLaunchHostFunc, (CUstream stream, void (*run)(void *), void *user))       \
  X(default_pool, cuDeviceGetDefaultMemPool, (CUmemoryPool * pool, CUdevice device))           \
  X(pool_get, cuMemPoolGetAttribute, (CUmemoryPool pool, int attribute, void *value))          \
  X(pci_bus_id, cuDeviceGetPCIBusId, (char *id, int size, CUdevice device))

typedef struct gpu_driver {
#define GPU_MEMBER_(name, symbol, parameters) CUresult(*name) parameters;
  GPU_ENTRY_POINTS(GPU_MEMBER_)
  GPU_OPTIONAL_ENTRY_POINTS(GPU_MEMBER_)
#undef GPU_MEMBER_
  void *library;
  bool fake; /* pega's fake driver: no kernel runs */
  int version;
  char name[128]; /* of device 0 */
} gpu_driver;

/** The driver, once gpu_open() has returned NULL. */
extern gpu_driver gpu;

/** Opens libcuda.so.1 and initialises it; NULL, or why device 0 cannot be used. Static text. */
const char *gpu_open(void);

/** Makes a context of device 0 that is not its primary one, and makes it current. */
CUresult gpu_context_create(CUcontext *out);

/** "CUDA_ERROR_..." of a result. Static. */
const char *gpu_result_name(CUresult result);

#endif /* PEGA_CLI_GPU_H_ */
