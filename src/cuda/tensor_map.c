/* SPDX-License-Identifier: Apache-2.0 */
/* Host tensor descriptors: a CUtensorMap of a DLTensor. The rules that are checked here, so that their
 * breach has a text, are those of cuTensorMapEncodeTiled in CUDA 13.0's driver API manual. */
#include <inttypes.h>
#include <stdio.h>

#include "argument.h"

enum { kMaxMapRank = 5, kStrideAlignment = 16 };

static pega_status refuse(const pega_kernel *kernel, const pega_kernel_param *param,
                          pega_status status, pega_error *error, const char *format, ...)
    PEGA_PRINTF(5, 6);
static pega_status refuse(const pega_kernel *kernel, const pega_kernel_param *param,
                          pega_status status, pega_error *error, const char *format, ...) {
  char text[256];
  va_list list;
  va_start(list, format);
  vsnprintf(text, sizeof text, format, list);
  va_end(list);
  return pega_error_set(error, status, NULL,
                        "%s: nothing was launched: tensor descriptor '%s' of argument %" PRId32
                        " '%s': %s",
                        kernel->name, param->name, param->argument,
                        kernel->function->signature.params[param->argument].name, text);
}

pega_status pega_tensor_map_encode(const pega_kernel *kernel, const pega_cuda_driver *driver,
                                   const pega_kernel_param *param, const DLTensor *tensor,
                                   CUtensorMap *out, pega_error *error) {
  const pega_tensor_encoding *encoding = param->encoding;
  const int32_t rank = encoding->rank;
#ifndef PEGA_MODULE
  if (pega_cuda_records(driver)) {
    return pega_cuda_refuse_recording(
        kernel->name, "its kernel takes a tensor descriptor, which is encoded anew for each call",
        error);
  }
#endif
  if (tensor == NULL || tensor->ndim != rank) {
    return refuse(kernel, param, PEGA_ERROR_SHAPE, error, "expected %" PRId32 " dimensions, got %d",
                  rank, tensor == NULL ? -1 : (int)tensor->ndim);
  }
  if (driver->cuTensorMapEncodeTiled == NULL) {
    return refuse(kernel, param, PEGA_ERROR_UNSUPPORTED, error,
                  "the driver (%d.%d) lacks cuTensorMapEncodeTiled (CUDA 12.0)",
                  driver->version / 1000, driver->version % 1000 / 10);
  }
  const int bits = tensor->dtype.bits * tensor->dtype.lanes;
  if (bits != 8 * encoding->elem_size && !(encoding->fp4_padded != 0 && bits <= 8)) {
    return refuse(kernel, param, PEGA_ERROR_DTYPE, error,
                  "expected elements of %" PRId32 " bytes, got %d bits", encoding->elem_size, bits);
  }
  const uintptr_t address = (uintptr_t)pega_tensor_data(tensor);
  if (address % kStrideAlignment != 0) {
    return refuse(kernel, param, PEGA_ERROR_LAYOUT, error,
                  "address 0x%" PRIxPTR ": expected a multiple of %d", address, kStrideAlignment);
  }
  /* The driver counts dimensions from the innermost. */
  uint64_t sizes[kMaxMapRank];
  uint64_t strides[kMaxMapRank];
  uint32_t box[kMaxMapRank];
  uint32_t element_strides[kMaxMapRank];
  int64_t packed = 1;
  for (int32_t i = 0; i < rank; ++i) {
    const int32_t dim = rank - 1 - i;
    const int64_t stride = tensor->strides == NULL ? packed : tensor->strides[dim];
    /* Only a tensor with strides of its own may have more elements than an int64 counts. */
    if (__builtin_mul_overflow(packed, tensor->shape[dim], &packed)) packed = INT64_MAX;
    sizes[i] = (uint64_t)tensor->shape[dim];
    /* A map of 4-bit elements that are padded in shared memory counts elements, two a byte. */
    if (i == 0 && encoding->fp4_padded != 0) sizes[i] *= 2;
    box[i] = encoding->block[dim];
    element_strides[i] = 1;
    if (tensor->shape[dim] < 1 || tensor->shape[dim] > INT64_C(0x100000000)) {
      return refuse(kernel, param, PEGA_ERROR_SHAPE, error,
                    "size %" PRId32 " is %" PRId64 ": expected 1 to 2^32", dim, tensor->shape[dim]);
    }
    if (i == 0) {
      if (stride != 1) {
        return refuse(kernel, param, PEGA_ERROR_LAYOUT, error,
                      "stride of the last dimension is %" PRId64 ": expected 1", stride);
      }
      continue;
    }
    int64_t bytes;
    if (__builtin_mul_overflow(stride, (int64_t)encoding->elem_size, &bytes) || bytes < 0 ||
        bytes % kStrideAlignment != 0 || bytes >= INT64_C(1) << 40) {
      return refuse(kernel, param, PEGA_ERROR_LAYOUT, error,
                    "stride of dimension %" PRId32 " is %" PRId64
                    " elements: expected a multiple of %d bytes below 2^40",
                    dim, stride, kStrideAlignment);
    }
    strides[i - 1] = (uint64_t)bytes;
  }
  const CUresult result =
      driver->cuTensorMapEncodeTiled(out, encoding->elem_type, (uint32_t)rank, (void *)address,
                                     sizes, strides, box, element_strides, encoding->interleave,
                                     encoding->swizzle, encoding->l2_promotion, encoding->padding);
  if (result == kCudaSuccess) return PEGA_OK;
  char hint[160];
  snprintf(hint, sizeof hint, "nothing was launched; tensor descriptor '%.100s'", param->name);
  return pega_cuda_fail(kernel->name, "cuTensorMapEncodeTiled", result, hint, error);
}
