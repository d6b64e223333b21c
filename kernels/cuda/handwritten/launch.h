/* SPDX-License-Identifier: Apache-2.0 */
/* What the C functions share. */
#ifndef PEGAINFER_KERNELS_CUDA_LAUNCH_H_
#define PEGAINFER_KERNELS_CUDA_LAUNCH_H_

#include <cuda_runtime.h>
#include <stdint.h>

#include "pegainfer_kernels_cuda.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace handwritten {

/* Keeps what went wrong for the calling thread. `text` lives as long as the process. Returns `code`. */
int fail(cudaError_t code, const char *text);

inline int bad_argument(const char *text) { return fail(cudaErrorInvalidValue, text); }

inline bool aligned(const void *pointer, size_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

/* Launches; what other calls left behind is none of its result. */
template <typename... Params, typename... Args>
int launch(void (*kernel)(Params...), dim3 grid, dim3 block, void *stream, Args... args) {
  void *pointers[] = {&args...};
  static_assert(sizeof...(Params) == sizeof...(Args), "an argument for each parameter");
  const cudaError_t code = cudaLaunchKernel(reinterpret_cast<const void *>(kernel), grid, block,
                                            pointers, 0, static_cast<cudaStream_t>(stream));
  if (code == cudaSuccess) return 0;
  cudaGetLastError(); /* forgets it: the runtime library is this library's own */
  return fail(code, cudaGetErrorString(code));
}

}  // namespace handwritten

#endif  // PEGAINFER_KERNELS_CUDA_LAUNCH_H_
