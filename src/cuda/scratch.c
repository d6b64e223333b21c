/* SPDX-License-Identifier: Apache-2.0 */
#include "scratch.h"

#include <inttypes.h>

#include "core/options.h"

static _Atomic(const pega_cuda_allocator *) given_allocator;

/* What cuMemAllocAsync promises of addresses. */
enum { kPoolAlignment = 256 };

pega_status pega_cuda_set_allocator(const pega_cuda_allocator *allocator, pega_error *error) {
  if (allocator != NULL &&
      (!pega_options_fit(allocator, allocator->struct_size, sizeof *allocator) ||
       allocator->reserved != 0 || allocator->allocate == NULL || allocator->release == NULL)) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_cuda_set_allocator: struct_size %" PRIu32 ", reserved %" PRIu32
                          ": expected %zu, 0, and allocate and release both set",
                          allocator->struct_size, allocator->reserved, sizeof *allocator);
  }
  atomic_store_explicit(&given_allocator, allocator, memory_order_release);
  return PEGA_OK;
}

pega_status pega_scratch_acquire(const pega_kernel *kernel, const pega_cuda_driver *driver,
                                 pega_cuda_device *device, const pega_scratch *wanted,
                                 uint64_t ctas, CUstream stream, pega_scratch_memory *out,
                                 pega_error *error) {
  uint64_t size;
  if (__builtin_mul_overflow(wanted->size, ctas, &size) || size > INT64_MAX) {
    return pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                          "%s: nothing was launched: %" PRIu64 " CTAs x %" PRIu64
                          " bytes of global scratch do not fit in int64",
                          kernel->name, ctas, wanted->size);
  }
  return pega_scratch_allocate(kernel->name, driver, device, size, wanted->alignment, stream, out,
                               error);
}

pega_status pega_scratch_allocate(const char *name, const pega_cuda_driver *driver,
                                  pega_cuda_device *device, uint64_t size, uint32_t alignment,
                                  CUstream stream, pega_scratch_memory *out, pega_error *error) {
  out->address = NULL;
  out->allocator = NULL;
  if (size == 0) return PEGA_OK;
#ifndef PEGA_MODULE
  if (pega_cuda_records(driver)) {
    return pega_cuda_refuse_recording(
        name,
        "it takes memory from the stream's pool or the allocator, and what a plan works on is given: "
        "give a 'workspace' where the function takes one",
        error);
  }
#endif
  const pega_cuda_allocator *allocator =
      atomic_load_explicit(&given_allocator, memory_order_acquire);
  if (allocator != NULL) {
    void *memory = NULL;
    pega_status status = allocator->allocate(allocator->self, (DLDevice){kDLCUDA, device->ordinal},
                                             (size_t)size, alignment, stream, &memory, error);
    if (status != PEGA_OK) {
      if (error != NULL && error->status == PEGA_OK) {
        pega_error_set(error, status, NULL,
                       "%s: nothing was launched: the allocator given to pega_cuda_set_allocator() "
                       "failed for %" PRIu64 " bytes and said nothing more",
                       name, size);
      }
      return status;
    }
    out->address = memory;
    out->allocator = allocator;
    if (memory == NULL || (uintptr_t)memory % alignment != 0) {
      if (memory != NULL) pega_scratch_release(name, driver, device, stream, out, PEGA_OK, NULL);
      return pega_error_set(error, PEGA_ERROR_LAYOUT, NULL,
                            "%s: nothing was launched: the allocator given to "
                            "pega_cuda_set_allocator() returned %p: expected %" PRIu64
                            " bytes aligned to %" PRIu32,
                            name, memory, size, alignment);
    }
    return PEGA_OK;
  }
  if (driver->cuMemAllocAsync == NULL || driver->cuMemFreeAsync == NULL || !device->memory_pools ||
      alignment > kPoolAlignment) {
    return pega_error_set(error, PEGA_ERROR_UNSUPPORTED, NULL,
                          "%s: nothing was launched: it needs %" PRIu64
                          " bytes of global scratch aligned to %" PRIu32 ", which cuda:%" PRId32
                          " has no stream-ordered pool for: give an allocator to "
                          "pega_cuda_set_allocator()",
                          name, size, alignment, device->ordinal);
  }
  CUdeviceptr memory = 0;
  CUresult result = driver->cuMemAllocAsync(&memory, (size_t)size, stream);
  if (result != kCudaSuccess) {
    pega_cuda_note_result(device, result, name);
    return pega_cuda_fail(name, "cuMemAllocAsync (global scratch)", result, "nothing was launched",
                          error);
  }
  out->address = (void *)(uintptr_t)memory;
  return PEGA_OK;
}

pega_status pega_scratch_release(const char *name, const pega_cuda_driver *driver,
                                 pega_cuda_device *device, CUstream stream,
                                 const pega_scratch_memory *memory, pega_status status,
                                 pega_error *error) {
  if (memory->address == NULL) return status;
  if (memory->allocator != NULL) {
    memory->allocator->release(memory->allocator->self, (DLDevice){kDLCUDA, device->ordinal},
                               memory->address, stream);
    return status;
  }
  const CUdeviceptr address = (CUdeviceptr)(uintptr_t)memory->address;
  CUresult result = driver->cuMemFreeAsync(address, stream);
  if (result == kCudaSuccess) return status;
  pega_cuda_note_result(device, result, name);
  /* An error of earlier work says nothing of this memory: it may be given back already. */
  if (!pega_cuda_is_sticky(device) && driver->cuMemFreeAsync(address, stream) == kCudaSuccess) {
    return status;
  }
  if (status != PEGA_OK) return status;
  return pega_cuda_fail(name, "cuMemFreeAsync (global scratch)", result, "the kernel was launched",
                        error);
}
