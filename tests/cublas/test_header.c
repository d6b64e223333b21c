/* SPDX-License-Identifier: Apache-2.0 */
/* The library's own declarations against the toolkit's cublas_api.h, where there is one. */
#include <stdio.h>

#ifndef TEST_CUBLAS_H
int main(void) {
  printf("SKIP: no cublas_api.h was found at configuration: install a CUDA toolkit with cuBLAS\n");
  return 77;
}
#else
#include <cublas_api.h>

#define PEGA_CUBLAS_REAL_TYPES
typedef cublasOperation_t cublas_operation;
typedef cudaDataType cublas_data_type;
typedef cublasComputeType_t cublas_compute;
typedef cublasGemmAlgo_t cublas_algo;
typedef cublasMath_t cublas_math;
typedef libraryPropertyType cublas_property;
typedef cublasStatus_t cublas_status;
#include "cublas/api.h"

static int failures;

static void check(const char *name, long number, long theirs) {
  if (number == theirs) return;
  ++failures;
  printf("%s: %ld here, %ld in cublas_api.h\n", name, number, theirs);
}

int main(void) {
#define STATUS(name, number) check(#name, number, (long)CUBLAS_STATUS_##name);
  PEGA_CUBLAS_STATUSES(STATUS)
#define SAME(own, theirs) check(#theirs, (long)(own), (long)(theirs));
  SAME(kCublasOpN, CUBLAS_OP_N)
  SAME(kCublasOpT, CUBLAS_OP_T)
  SAME(kCudaR32F, CUDA_R_32F)
  SAME(kCudaR16F, CUDA_R_16F)
  SAME(kCudaR16BF, CUDA_R_16BF)
  SAME(kCublasCompute32F, CUBLAS_COMPUTE_32F)
  SAME(kCublasCompute32FFastTf32, CUBLAS_COMPUTE_32F_FAST_TF32)
  SAME(kCublasGemmDefault, CUBLAS_GEMM_DEFAULT)
  SAME(kCublasMathDefault, CUBLAS_DEFAULT_MATH)
  SAME(kCublasMathNoReducedReduction, CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION)
  SAME(kPropertyMajor, MAJOR_VERSION)
  SAME(kPropertyMinor, MINOR_VERSION)
  SAME(kPropertyPatch, PATCH_LEVEL)
  /* An enumeration is passed as the int that stands for it. */
  SAME(sizeof(int), sizeof(cublasStatus_t))
  SAME(sizeof(int), sizeof(cublasOperation_t))
  SAME(sizeof(int), sizeof(cudaDataType))
  SAME(sizeof(int), sizeof(cublasComputeType_t))
  SAME(sizeof(int), sizeof(cublasGemmAlgo_t))
  SAME(sizeof(int), sizeof(cublasMath_t))
  SAME(sizeof(int), sizeof(libraryPropertyType))
  /* Parameters, each of its type. */
#define FUNCTION(name, need, since, parameters) \
  check(#name, 1, __builtin_types_compatible_p(__typeof__(name), cublas_status parameters));
  PEGA_CUBLAS_FUNCTIONS(FUNCTION)
  printf("cuBLAS %d.%d: %d differences\n", CUBLAS_VER_MAJOR, CUBLAS_VER_MINOR, failures);
  return failures != 0;
}
#endif
