/* SPDX-License-Identifier: Apache-2.0 */
/* Global scratch of a launch: from the caller's allocator, else from the device's pool. */
#ifndef PEGA_CUDA_SCRATCH_H_
#define PEGA_CUDA_SCRATCH_H_

#include "kernel.h"

typedef struct pega_scratch_memory {
  void *address; /* NULL for none */
  const pega_cuda_allocator *allocator;
} pega_scratch_memory;

/* Memory for `ctas` CTAs on the stream; nothing where the kernel wants none. The context is current. */
pega_status pega_scratch_acquire(const pega_kernel *kernel, const pega_cuda_driver *driver,
                                 pega_cuda_device *device, const pega_scratch *wanted,
                                 uint64_t ctas, CUstream stream, pega_scratch_memory *out,
                                 pega_error *error);
/* `size` bytes on the stream for the function `name`, nothing where that is 0. The context is current. */
pega_status pega_scratch_allocate(const char *name, const pega_cuda_driver *driver,
                                  pega_cuda_device *device, uint64_t size, uint32_t alignment,
                                  CUstream stream, pega_scratch_memory *out, pega_error *error);
/* Gives it back behind what is on the stream. Returns `status`, or its own failure where that is OK. */
pega_status pega_scratch_release(const char *name, const pega_cuda_driver *driver,
                                 pega_cuda_device *device, CUstream stream,
                                 const pega_scratch_memory *memory, pega_status status,
                                 pega_error *error);

#endif /* PEGA_CUDA_SCRATCH_H_ */
