/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file pega/cute_module.h
 * \brief For C code that is linked into one module with objects of CuTe DSL's plain C export
 *        (pega_cute_module() of pega's CMake package): brings their kernels to the device.
 *
 * CuTe DSL writes a header beside such an object. What it declares inline loads the kernels for all
 * devices, prints errors to standard output and goes on. In its place:
 *
 *     #include <pega/cute_module.h>
 *     PEGA_CUTE_LIBRARY(scale)          // the object's function_prefix
 *
 *     int engine_scale(float *x, int n, void *stream) {
 *       int error = pega_cute_prepare(&scale_library);
 *       if (error == 0) {
 *         void *args[] = {&tensor, &stream, &error};    // as in the header's wrapper
 *         _mlir_scale__mlir_ciface_...(args, 3);
 *       }
 *       return pega_cute_result(error);
 *     }
 *
 * Nothing here prints or ends the process.
 */
#ifndef PEGA_CUTE_MODULE_H_
#define PEGA_CUTE_MODULE_H_

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** \brief The kernels of one object and the devices they were brought to. */
typedef struct pega_cute_library {
  void (*init)(void **args);           /**< `_mlir_<prefix>_cuda_init` */
  void (*load_to_device)(void **args); /**< `_mlir_<prefix>_cuda_load_to_device` */
  void *library;                       /**< cudaLibrary_t; NULL as long as it is not loaded */
  uint64_t devices;                    /**< a bit for each device that is ready */
  pthread_mutex_t lock;
} pega_cute_library;

/** \brief Defines `<prefix>_library` for the object exported with function_prefix `prefix`. */
#define PEGA_CUTE_LIBRARY(prefix)                                                             \
  void _mlir_##prefix##_cuda_init(void **args);                                               \
  void _mlir_##prefix##_cuda_load_to_device(void **args);                                     \
  static pega_cute_library prefix##_library = {_mlir_##prefix##_cuda_init,                    \
                                               _mlir_##prefix##_cuda_load_to_device, NULL, 0, \
                                               PTHREAD_MUTEX_INITIALIZER};

/**
 * \brief Brings the kernels to the current device, the first time it is called for it; then it is a query of
 *        the current device and one load. May be called from any thread. After an error it can be tried
 *        again.
 * \return A cudaError_t, 0 for success; 101 (cudaErrorInvalidDevice) for a device past the 64th, to which
 *         nothing is brought.
 */
int pega_cute_prepare(pega_cute_library *library);

/** \brief The CUresult that says what a cudaError_t says; CUDA_ERROR_UNKNOWN (999) where there is none. */
int pega_cute_result(int cuda_error);

#ifdef __cplusplus
} /* extern "C" */
#endif
#endif /* PEGA_CUTE_MODULE_H_ */
