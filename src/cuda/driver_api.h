/* SPDX-License-Identifier: Apache-2.0 */
/* The part of the CUDA driver's interface that the library uses, declared here so that building needs
 * no CUDA toolkit. Names, numbers and layouts are those of cuda.h, CUDA 13.0. */
#ifndef PEGA_CUDA_DRIVER_API_H_
#define PEGA_CUDA_DRIVER_API_H_

#include <stddef.h>
#include <stdint.h>

typedef int CUresult;
typedef int CUdevice;
typedef uint64_t CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUstream_st *CUstream;

/* CUresult, those that the library tells apart or returns. */
enum {
  kCudaSuccess = 0,
  kCudaErrorInvalidValue = 1,
  kCudaErrorOutOfMemory = 2,
  kCudaErrorNotInitialized = 3,
  kCudaErrorNoDevice = 100,
  kCudaErrorInvalidContext = 201,
  kCudaErrorNoBinaryForGpu = 209,
  kCudaErrorEccUncorrectable = 214,
  kCudaErrorNvlinkUncorrectable = 220,
  kCudaErrorContained = 226,
  kCudaErrorInvalidHandle = 400,
  kCudaErrorIllegalAddress = 700,
  kCudaErrorLaunchOutOfResources = 701,
  kCudaErrorLaunchTimeout = 702,
  kCudaErrorContextIsDestroyed = 709,
  kCudaErrorAssert = 710,
  kCudaErrorHardwareStackError = 714,
  kCudaErrorIllegalInstruction = 715,
  kCudaErrorMisalignedAddress = 716,
  kCudaErrorInvalidAddressSpace = 717,
  kCudaErrorInvalidPc = 718,
  kCudaErrorLaunchFailed = 719,
  kCudaErrorCooperativeLaunchTooLarge = 720,
  kCudaErrorTensorMemoryLeak = 721,
  kCudaErrorNotSupported = 801,
  kCudaErrorSystemDriverMismatch = 803,
  kCudaErrorStreamCaptureUnsupported = 900,
  kCudaErrorStreamCaptureImplicit = 906,
  kCudaErrorExternalDevice = 911,
  kCudaErrorUnknown = 999
};

/* CUdevice_attribute */
enum {
  kDeviceMaxGridDimX = 5, /* Y and Z follow */
  kDeviceMultiprocessors = 16,
  kDeviceComputeMajor = 75,
  kDeviceComputeMinor = 76,
  kDeviceCooperativeLaunch = 95,
  kDeviceMaxSharedOptin = 97,
  kDeviceMemoryPools = 115,
  kDeviceClusterLaunch = 120
};

/* CUfunction_attribute */
enum { kFunctionMaxThreads = 0, kFunctionMaxDynamicShared = 8, kFunctionNonPortableCluster = 14 };

enum { kPointerDeviceOrdinal = 9 };                     /* CUpointer_attribute */
enum { kCaptureModeRelaxed = 2 };                       /* CUstreamCaptureMode */
enum { kCaptureStatusNone = 0 };                        /* CUstreamCaptureStatus */
enum { kJitErrorLogBuffer = 5, kJitErrorLogBytes = 6 }; /* CUjit_option */

/* CUlaunchAttributeID */
enum {
  kLaunchCooperative = 2,
  kLaunchClusterDimension = 4,
  kLaunchProgrammaticStreamSerialization = 6
};

typedef struct CUlaunchAttribute {
  int id;
  char pad[4];
  union {
    char bytes[64];
    int number;
    struct {
      unsigned x, y, z;
    } cluster;
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

typedef struct CUtensorMap {
  _Alignas(64) uint64_t opaque[16];
} CUtensorMap;

/* Every entry point: name, whether the library needs it, the CUDA version whose form of it is asked
 * for, parameters. What is not needed is NULL in a driver that is older. */
#define PEGA_CUDA_ENTRY_POINTS(X)                                                               \
  X(cuInit, REQUIRED, 2000, (unsigned flags))                                                   \
  X(cuDriverGetVersion, REQUIRED, 2020, (int *version))                                         \
  X(cuGetErrorName, REQUIRED, 6000, (CUresult result, const char **name))                       \
  X(cuGetErrorString, REQUIRED, 6000, (CUresult result, const char **text))                     \
  X(cuDeviceGetCount, REQUIRED, 2000, (int *count))                                             \
  X(cuDeviceGet, REQUIRED, 2000, (CUdevice * device, int ordinal))                              \
  X(cuDeviceGetName, REQUIRED, 2000, (char *name, int size, CUdevice device))                   \
  X(cuDeviceGetAttribute, REQUIRED, 2000, (int *value, int attribute, CUdevice device))         \
  X(cuDeviceTotalMem, REQUIRED, 3020, (size_t * bytes, CUdevice device))                        \
  X(cuDevicePrimaryCtxRetain, REQUIRED, 7000, (CUcontext * context, CUdevice device))           \
  X(cuDevicePrimaryCtxRelease, REQUIRED, 11000, (CUdevice device))                              \
  X(cuCtxGetCurrent, REQUIRED, 4000, (CUcontext * context))                                     \
  X(cuCtxSetCurrent, REQUIRED, 4000, (CUcontext context))                                       \
  X(cuCtxPushCurrent, REQUIRED, 4000, (CUcontext context))                                      \
  X(cuCtxPopCurrent, REQUIRED, 4000, (CUcontext * context))                                     \
  X(cuCtxGetDevice, REQUIRED, 2000, (CUdevice * device))                                        \
  X(cuCtxSynchronize, REQUIRED, 2000, (void))                                                   \
  X(cuCtxGetId, OPTIONAL, 12000, (CUcontext context, unsigned long long *id))                   \
  X(cuModuleLoadData, REQUIRED, 2000, (CUmodule * module, const void *image))                   \
  X(cuModuleLoadDataEx, REQUIRED, 2010,                                                         \
    (CUmodule * module, const void *image, unsigned num_options, int *options, void **values))  \
  X(cuModuleUnload, REQUIRED, 2000, (CUmodule module))                                          \
  X(cuModuleGetFunction, REQUIRED, 2000,                                                        \
    (CUfunction * function, CUmodule module, const char *name))                                 \
  X(cuFuncGetAttribute, REQUIRED, 2020, (int *value, int attribute, CUfunction function))       \
  X(cuFuncSetAttribute, REQUIRED, 9000, (CUfunction function, int attribute, int value))        \
  X(cuFuncGetParamInfo, OPTIONAL, 12040,                                                        \
    (CUfunction function, size_t index, size_t * offset, size_t * size))                        \
  X(cuFuncLoad, OPTIONAL, 12040, (CUfunction function))                                         \
  X(cuLaunchKernel, REQUIRED, 4000,                                                             \
    (CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,  \
     unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream, void **params, \
     void **extra))                                                                             \
  X(cuLaunchKernelEx, OPTIONAL, 11060,                                                          \
    (const CUlaunchConfig *config, CUfunction function, void **params, void **extra))           \
  X(cuStreamIsCapturing, REQUIRED, 10000, (CUstream stream, int *status))                       \
  X(cuStreamGetCtx, REQUIRED, 9020, (CUstream stream, CUcontext * context))                     \
  X(cuThreadExchangeStreamCaptureMode, REQUIRED, 10010, (int *mode))                            \
  X(cuPointerGetAttribute, REQUIRED, 4000, (void *data, int attribute, CUdeviceptr pointer))    \
  X(cuMemAlloc, REQUIRED, 3020, (CUdeviceptr * out, size_t bytes))                              \
  X(cuMemFree, REQUIRED, 3020, (CUdeviceptr memory))                                            \
  X(cuMemAllocAsync, OPTIONAL, 11020, (CUdeviceptr * out, size_t bytes, CUstream stream))       \
  X(cuMemFreeAsync, OPTIONAL, 11020, (CUdeviceptr memory, CUstream stream))                     \
  X(cuMemcpyHtoD, REQUIRED, 3020, (CUdeviceptr to, const void *from, size_t bytes))             \
  X(cuMemcpyDtoH, REQUIRED, 3020, (void *to, CUdeviceptr from, size_t bytes))                   \
  X(cuTensorMapEncodeTiled, OPTIONAL, 12000,                                                    \
    (CUtensorMap * out, int type, uint32_t rank, void *address, const uint64_t *sizes,          \
     const uint64_t *strides, const uint32_t *box, const uint32_t *element_strides,             \
     int interleave, int swizzle, int l2_promotion, int oob_fill))

typedef struct pega_cuda_driver {
#define PEGA_CUDA_MEMBER_(name, need, version, parameters) CUresult(*name) parameters;
  PEGA_CUDA_ENTRY_POINTS(PEGA_CUDA_MEMBER_)
#undef PEGA_CUDA_MEMBER_
  int version;     /* of the driver, 13000 for 13.0 */
  int num_devices; /* at least 1 */
} pega_cuda_driver;

#endif /* PEGA_CUDA_DRIVER_API_H_ */
