/* SPDX-License-Identifier: Apache-2.0 */
/* The part of cuBLAS and of the CUDA driver that the library uses, declared here so that building needs no
 * CUDA toolkit. Names, numbers and layouts are those of cublas_api.h, CUDA 13.0, the same since 11.0. */
#ifndef PEGA_CUBLAS_API_H_
#define PEGA_CUBLAS_API_H_

#include "cuda/driver_api.h"

typedef struct cublasContext *cublasHandle_t;

/* cuBLAS's enumerations, all of an int's size. A test puts the real ones here. */
#ifndef PEGA_CUBLAS_REAL_TYPES
typedef int cublas_operation, cublas_data_type, cublas_compute, cublas_algo, cublas_math;
typedef int cublas_property, cublas_status;
#endif

/* cublasStatus_t: name and number. */
#define PEGA_CUBLAS_STATUSES(X) \
  X(SUCCESS, 0)                 \
  X(NOT_INITIALIZED, 1)         \
  X(ALLOC_FAILED, 3)            \
  X(INVALID_VALUE, 7)           \
  X(ARCH_MISMATCH, 8)           \
  X(MAPPING_ERROR, 11)          \
  X(EXECUTION_FAILED, 13)       \
  X(INTERNAL_ERROR, 14)         \
  X(NOT_SUPPORTED, 15)          \
  X(LICENSE_ERROR, 16)

enum {
#define PEGA_CUBLAS_STATUS_(name, number) kCublas_##name = number,
  PEGA_CUBLAS_STATUSES(PEGA_CUBLAS_STATUS_)
#undef PEGA_CUBLAS_STATUS_
};

enum { kCublasOpN = 0, kCublasOpT = 1 };                             /* cublasOperation_t */
enum { kCudaR32F = 0, kCudaR16F = 2, kCudaR16BF = 14 };              /* cudaDataType */
enum { kCublasCompute32F = 68, kCublasCompute32FFastTf32 = 77 };     /* cublasComputeType_t */
enum { kCublasGemmDefault = -1 };                                    /* cublasGemmAlgo_t */
enum { kCublasMathDefault = 0, kCublasMathNoReducedReduction = 16 }; /* cublasMath_t */
enum { kPropertyMajor = 0, kPropertyMinor = 1, kPropertyPatch = 2 }; /* libraryPropertyType */

/* Parameters of the two products, with `size_type` for sizes. */
#define PEGA_CUBLAS_GEMM_(size_type)                                                       \
  (cublasHandle_t handle, cublas_operation transa, cublas_operation transb, size_type m,   \
   size_type n, size_type k, const void *alpha, const void *a, cublas_data_type a_type,    \
   size_type lda, const void *b, cublas_data_type b_type, size_type ldb, const void *beta, \
   void *c, cublas_data_type c_type, size_type ldc, cublas_compute compute, cublas_algo algo)
#define PEGA_CUBLAS_GEMM_BATCHED_(size_type)                                                 \
  (cublasHandle_t handle, cublas_operation transa, cublas_operation transb, size_type m,     \
   size_type n, size_type k, const void *alpha, const void *a, cublas_data_type a_type,      \
   size_type lda, long long stride_a, const void *b, cublas_data_type b_type, size_type ldb, \
   long long stride_b, const void *beta, void *c, cublas_data_type c_type, size_type ldc,    \
   long long stride_c, size_type count, cublas_compute compute, cublas_algo algo)

/* Every function of cuBLAS: name, whether the library needs it, the version that brought it, parameters. */
#define PEGA_CUBLAS_FUNCTIONS(X)                                                   \
  X(cublasGetProperty, REQUIRED, "8.0", (cublas_property type, int *value))        \
  X(cublasCreate_v2, REQUIRED, "4.0", (cublasHandle_t * handle))                   \
  X(cublasDestroy_v2, REQUIRED, "4.0", (cublasHandle_t handle))                    \
  X(cublasSetStream_v2, REQUIRED, "4.0", (cublasHandle_t handle, CUstream stream)) \
  X(cublasSetMathMode, REQUIRED, "9.0", (cublasHandle_t handle, cublas_math mode)) \
  X(cublasSetWorkspace_v2, REQUIRED, "11.0",                                       \
    (cublasHandle_t handle, void *workspace, size_t size))                         \
  X(cublasGemmEx, REQUIRED, "8.0", PEGA_CUBLAS_GEMM_(int))                         \
  X(cublasGemmStridedBatchedEx, REQUIRED, "9.1", PEGA_CUBLAS_GEMM_BATCHED_(int))   \
  X(cublasGemmEx_64, OPTIONAL, "12.0", PEGA_CUBLAS_GEMM_(int64_t))                 \
  X(cublasGemmStridedBatchedEx_64, OPTIONAL, "12.0", PEGA_CUBLAS_GEMM_BATCHED_(int64_t))

/* Every function of the driver, by its symbol: whether it is needed, parameters. */
#define PEGA_CUBLAS_DRIVER_FUNCTIONS(X)                                           \
  X(cuInit, REQUIRED, (unsigned flags))                                           \
  X(cuDriverGetVersion, REQUIRED, (int *version))                                 \
  X(cuGetErrorName, REQUIRED, (CUresult result, const char **name))               \
  X(cuDeviceGetCount, REQUIRED, (int *count))                                     \
  X(cuDeviceGetAttribute, REQUIRED, (int *value, int attribute, CUdevice device)) \
  X(cuDevicePrimaryCtxRetain, REQUIRED, (CUcontext * context, CUdevice device))   \
  X(cuDevicePrimaryCtxRelease_v2, REQUIRED, (CUdevice device))                    \
  X(cuCtxGetCurrent, REQUIRED, (CUcontext * context))                             \
  X(cuCtxSetCurrent, REQUIRED, (CUcontext context))                               \
  X(cuCtxPushCurrent_v2, REQUIRED, (CUcontext context))                           \
  X(cuCtxPopCurrent_v2, REQUIRED, (CUcontext * context))                          \
  X(cuCtxGetDevice, REQUIRED, (CUdevice * device))                                \
  X(cuCtxGetId, OPTIONAL, (CUcontext context, unsigned long long *id))            \
  X(cuStreamIsCapturing, REQUIRED, (CUstream stream, int *status))                \
  X(cuThreadExchangeStreamCaptureMode, REQUIRED, (int *mode))                     \
  X(cuMemAlloc_v2, REQUIRED, (CUdeviceptr * out, size_t bytes))                   \
  X(cuMemFree_v2, REQUIRED, (CUdeviceptr memory))

typedef struct pega_cublas_api {
#define PEGA_CUBLAS_MEMBER_(name, need, since, parameters) cublas_status(*name) parameters;
  PEGA_CUBLAS_FUNCTIONS(PEGA_CUBLAS_MEMBER_)
#undef PEGA_CUBLAS_MEMBER_
#define PEGA_CUBLAS_MEMBER_(name, need, parameters) CUresult(*name) parameters;
  PEGA_CUBLAS_DRIVER_FUNCTIONS(PEGA_CUBLAS_MEMBER_)
#undef PEGA_CUBLAS_MEMBER_
  int version;        /* of cuBLAS, major * 10000 + minor * 100 + patch */
  int driver_version; /* 13000 */
  int num_devices;
  uint64_t workspace_bytes; /* as the options say, or 0 */
  char *path;
} pega_cublas_api;

#endif /* PEGA_CUBLAS_API_H_ */
