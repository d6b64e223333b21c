/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA driver, opened at run time: nothing of the library links against it. */
#ifndef PEGA_CUDA_DRIVER_H_
#define PEGA_CUDA_DRIVER_H_

#include "pega/pega.h"

/* Numbers of the driver's CUresult that plain C symbols return. Source: cuda.h of CUDA 13.0. */
enum {
  kCudaSuccess = 0,
  kCudaErrorInvalidValue = 1,
  kCudaErrorOutOfMemory = 2,
  kCudaErrorNoDevice = 100,
  kCudaErrorNotSupported = 801,
  kCudaErrorUnknown = 999
};

/* Opens libcuda.so.1, initialises it and counts devices, once; PEGA_ERROR_UNAVAILABLE says which of
 * these failed and how. A process that has no driver gets the same answer without another try. */
pega_status pega_cuda_driver_open(pega_error *error);

/* The CUresult that stands for a status in a plain C symbol's return value. */
int pega_cuda_result(pega_status status, const pega_error *error);

#endif /* PEGA_CUDA_DRIVER_H_ */
