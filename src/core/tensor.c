/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdlib.h>

#include "object.h"

bool pega_dtype_is_known(DLDataType dtype) {
  if (dtype.lanes == 0 || dtype.bits == 0) return false;
  switch (dtype.code) {
    case kDLFloat:
      return dtype.bits == 16 || dtype.bits == 32 || dtype.bits == 64 || dtype.bits == 8;
    case kDLBfloat:
      return dtype.bits == 16;
    case kDLComplex:
      return dtype.bits == 32 || dtype.bits == 64 || dtype.bits == 128;
    case kDLInt:
    case kDLUInt:
      return dtype.bits <= 128;
    default:
      return dtype.code <= 17;
  }
}

/* Bits of one element with its lanes. */
static int64_t element_bits(DLDataType dtype) { return (int64_t)dtype.bits * dtype.lanes; }

size_t pega_dtype_alignment(DLDataType dtype) {
  /* Vectors and odd sizes are only promised the alignment of their power-of-two part. */
  size_t bytes = (size_t)element_bits(dtype) / 8;
  size_t alignment = bytes & (~bytes + 1);
  return alignment == 0 ? 1 : alignment > 16 ? 16 : alignment;
}

static pega_status bad_shape(pega_error *error, int32_t axis, int64_t size) {
  return pega_error_set(error, PEGA_ERROR_SHAPE, NULL,
                        "tensor shape[%" PRId32 "] is %" PRId64 ": expected a size >= 0", axis,
                        size);
}

pega_status pega_tensor_validate(const DLTensor *tensor, pega_error *error) {
  if (tensor == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL, "tensor is NULL");
  }
  if (tensor->ndim < 0 || tensor->ndim > PEGA_MAX_RANK) {
    return pega_error_set(error, PEGA_ERROR_SHAPE, NULL,
                          "tensor rank is %" PRId32 ": expected 0 to %d", tensor->ndim,
                          PEGA_MAX_RANK);
  }
  if (tensor->ndim > 0 && tensor->shape == NULL) {
    return pega_error_set(error, PEGA_ERROR_SHAPE, NULL,
                          "tensor of rank %" PRId32 " has shape NULL", tensor->ndim);
  }
  if (!pega_dtype_is_known(tensor->dtype)) {
    return pega_error_set(error, PEGA_ERROR_DTYPE, NULL,
                          "tensor dtype {code %u, bits %u, lanes %u} is none that DLPack defines",
                          tensor->dtype.code, tensor->dtype.bits, tensor->dtype.lanes);
  }
  if ((int32_t)tensor->device.device_type <= 0 ||
      (tensor->device.device_id < 0 && (int32_t)tensor->device.device_type != kDLCPU)) {
    return pega_error_set(error, PEGA_ERROR_DEVICE, NULL,
                          "tensor device {type %d, id %" PRId32
                          "}: expected a DLPack device type and an id >= 0",
                          (int)tensor->device.device_type, tensor->device.device_id);
  }
  bool empty = false;
  for (int32_t i = 0; i < tensor->ndim; ++i) {
    if (tensor->shape[i] < 0) return bad_shape(error, i, tensor->shape[i]);
    if (tensor->shape[i] == 0) empty = true;
  }
  /* Lowest and highest element, counted from the first; an empty tensor touches none. */
  int64_t low = 0;
  int64_t high = 0;
  int64_t row_major = 1;
  for (int32_t i = tensor->ndim - 1; i >= 0; --i) {
    int64_t size = tensor->shape[i];
    int64_t stride = tensor->strides == NULL ? row_major : tensor->strides[i];
    int64_t reach = 0;
    bool overflow = false;
    if (!empty) {
      overflow = __builtin_mul_overflow(size - 1, stride, &reach) ||
                 (reach < 0 ? __builtin_add_overflow(low, reach, &low)
                            : __builtin_add_overflow(high, reach, &high));
    }
    overflow = overflow || __builtin_mul_overflow(row_major, size > 0 ? size : 1, &row_major);
    if (overflow) {
      return pega_error_set(error, PEGA_ERROR_SHAPE, NULL,
                            "tensor shape[%" PRId32 "] = %" PRId64 " with stride %" PRId64
                            " reaches past int64: the sizes or strides are wrong",
                            i, size, stride);
    }
  }
  int64_t elements;
  int64_t bits;
  if (__builtin_sub_overflow(high, low, &elements) ||
      __builtin_add_overflow(elements, 1, &elements) ||
      __builtin_mul_overflow(elements, element_bits(tensor->dtype), &bits) ||
      __builtin_mul_overflow(row_major, element_bits(tensor->dtype), &bits)) {
    return pega_error_set(error, PEGA_ERROR_SHAPE, NULL,
                          "tensor's bytes do not fit in int64: the sizes or strides are wrong");
  }
  if (empty) return PEGA_OK;
  if (tensor->data == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "tensor has elements but data is NULL");
  }
  uintptr_t address;
  if (__builtin_add_overflow((uintptr_t)tensor->data, tensor->byte_offset, &address)) {
    return pega_error_set(error, PEGA_ERROR_LAYOUT, NULL,
                          "tensor data + byte_offset %" PRIu64 " wraps around",
                          tensor->byte_offset);
  }
  size_t alignment = pega_dtype_alignment(tensor->dtype);
  if ((address & (alignment - 1)) != 0) {
    char name[PEGA_NAME_SIZE];
    return pega_error_set(error, PEGA_ERROR_LAYOUT, NULL,
                          "tensor data + byte_offset is 0x%" PRIxPTR
                          ": expected an address aligned to %zu bytes, as %s needs",
                          address, alignment, pega_dtype_name(tensor->dtype, name));
  }
  return PEGA_OK;
}

int64_t pega_tensor_num_elements(const DLTensor *tensor) {
  if (tensor == NULL) return 0;
  int64_t count = 1;
  for (int32_t i = 0; i < tensor->ndim; ++i) count *= tensor->shape[i];
  return count;
}

int64_t pega_tensor_num_bytes(const DLTensor *tensor) {
  if (tensor == NULL) return 0;
  const uint64_t bits = (uint64_t)element_bits(tensor->dtype);
  const uint64_t elements = (uint64_t)pega_tensor_num_elements(tensor);
  /* The bits of a valid tensor fit in int64, but 7 more may not. */
  return (int64_t)(elements / 8 * bits + (elements % 8 * bits + 7) / 8);
}

bool pega_tensor_is_contiguous(const DLTensor *tensor) {
  if (tensor == NULL) return false;
  if (tensor->strides == NULL) return true;
  int64_t expected = 1;
  bool dense = true;
  for (int32_t i = tensor->ndim - 1; i >= 0; --i) {
    if (tensor->shape[i] == 0) return true;
    if (tensor->shape[i] != 1 && tensor->strides[i] != expected) dense = false;
    expected *= tensor->shape[i];
  }
  return dense;
}

void *pega_tensor_data(const DLTensor *tensor) {
  return tensor == NULL ? NULL : (void *)((uintptr_t)tensor->data + tensor->byte_offset);
}

static void destroy_tensor(pega_object *object) {
  pega_tensor_object *tensor = (pega_tensor_object *)object;
  if (tensor->payload.release != NULL) tensor->payload.release(tensor->payload.data);
  free(tensor);
}

pega_status pega_tensor_create(const DLTensor *view, uint64_t flags, const void *tag, void *payload,
                               void (*release)(void *payload), pega_value *out, pega_error *error) {
  if (out == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_tensor_create: out is NULL");
  }
  pega_status status = pega_tensor_validate(view, error);
  if (status != PEGA_OK) return status;
  pega_tensor_object *tensor = malloc(sizeof *tensor);
  if (tensor == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory for a tensor");
  }
  pega_object_init(&tensor->object, PEGA_TENSOR, destroy_tensor);
  tensor->view = *view;
  tensor->flags = flags;
  tensor->payload = (pega_payload){tag, payload, release};
  *out = pega_object_value(&tensor->object);
  return PEGA_OK;
}

static void release_managed(void *payload) {
  DLManagedTensor *managed = payload;
  if (managed->deleter != NULL) managed->deleter(managed);
}

static void release_managed_versioned(void *payload) {
  DLManagedTensorVersioned *managed = payload;
  if (managed->deleter != NULL) managed->deleter(managed);
}

pega_status pega_tensor_from_dlpack(DLManagedTensor *managed, pega_value *out, pega_error *error) {
  if (managed == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_tensor_from_dlpack: managed is NULL");
  }
  return pega_tensor_create(&managed->dl_tensor, 0, NULL, managed, release_managed, out, error);
}

pega_status pega_tensor_from_dlpack_versioned(DLManagedTensorVersioned *managed, pega_value *out,
                                              pega_error *error) {
  if (managed == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_tensor_from_dlpack_versioned: managed is NULL");
  }
  /* The version comes first in every version of the struct; nothing after it may be read before it
   * is known. */
  if (managed->version.major != DLPACK_MAJOR_VERSION) {
    return pega_error_set(error, PEGA_ERROR_VERSION, NULL,
                          "DLPack tensor of version %" PRIu32 ".%" PRIu32
                          ": expected major version %d; ask the producer for that version",
                          managed->version.major, managed->version.minor, DLPACK_MAJOR_VERSION);
  }
  return pega_tensor_create(&managed->dl_tensor, managed->flags, NULL, managed,
                            release_managed_versioned, out, error);
}

uint64_t pega_tensor_flags(const pega_value *tensor) {
  if (tensor == NULL || tensor->kind != PEGA_TENSOR || (tensor->flags & PEGA_VALUE_COUNTED) == 0 ||
      tensor->as.object == NULL) {
    return 0;
  }
  return ((const pega_tensor_object *)tensor->as.object)->flags;
}

/* What both forms of export share: the counted tensor behind a value, or an error. */
static pega_status exportable(const pega_value *value, const void *out, pega_tensor_object **tensor,
                              pega_error *error) {
  if (out == NULL || pega_value_as_tensor(value) == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL, "pega_tensor_to_dlpack: %s",
                          out == NULL ? "out is NULL" : "the value is no tensor");
  }
  if ((value->flags & PEGA_VALUE_COUNTED) == 0) {
    return pega_error_set(error, PEGA_ERROR_UNSUPPORTED, NULL,
                          "pega_tensor_to_dlpack: a borrowed DLTensor has no owner to share; make "
                          "it counted with pega_tensor_from_dlpack()");
  }
  *tensor = (pega_tensor_object *)value->as.object;
  return PEGA_OK;
}

/* DLPack 1.2 and later asks producers for strides; a view without them gets them in `strides`, the
 * room for PEGA_MAX_RANK numbers behind the managed tensor. */
static void complete_strides(DLTensor *view, int64_t *strides) {
  if (view->strides != NULL || view->ndim == 0) return;
  int64_t stride = 1;
  for (int32_t i = view->ndim - 1; i >= 0; --i) {
    strides[i] = stride;
    stride *= view->shape[i] > 0 ? view->shape[i] : 1;
  }
  view->strides = strides;
}

static void delete_export(DLManagedTensor *self) {
  pega_object_release(self->manager_ctx);
  free(self);
}

static void delete_export_versioned(DLManagedTensorVersioned *self) {
  pega_object_release(self->manager_ctx);
  free(self);
}

pega_status pega_tensor_to_dlpack(const pega_value *value, DLManagedTensor **out,
                                  pega_error *error) {
  pega_tensor_object *tensor = NULL;
  pega_status status = exportable(value, out, &tensor, error);
  if (status != PEGA_OK) return status;
  if ((tensor->flags & DLPACK_FLAG_BITMASK_READ_ONLY) != 0) {
    return pega_error_set(error, PEGA_ERROR_UNSUPPORTED, NULL,
                          "pega_tensor_to_dlpack: the tensor is read-only and this form cannot say "
                          "so; use pega_tensor_to_dlpack_versioned()");
  }
  size_t room = tensor->view.strides == NULL ? PEGA_MAX_RANK * sizeof(int64_t) : 0;
  DLManagedTensor *managed = malloc(sizeof *managed + room);
  if (managed == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory for a tensor");
  }
  pega_object_retain(&tensor->object);
  managed->dl_tensor = tensor->view;
  complete_strides(&managed->dl_tensor, (int64_t *)(managed + 1));
  managed->manager_ctx = tensor;
  managed->deleter = delete_export;
  *out = managed;
  return PEGA_OK;
}

pega_status pega_tensor_to_dlpack_versioned(const pega_value *value, DLManagedTensorVersioned **out,
                                            pega_error *error) {
  pega_tensor_object *tensor = NULL;
  pega_status status = exportable(value, out, &tensor, error);
  if (status != PEGA_OK) return status;
  size_t room = tensor->view.strides == NULL ? PEGA_MAX_RANK * sizeof(int64_t) : 0;
  DLManagedTensorVersioned *managed = malloc(sizeof *managed + room);
  if (managed == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory for a tensor");
  }
  pega_object_retain(&tensor->object);
  managed->version.major = DLPACK_MAJOR_VERSION;
  managed->version.minor = DLPACK_MINOR_VERSION;
  managed->manager_ctx = tensor;
  managed->deleter = delete_export_versioned;
  managed->flags = tensor->flags;
  managed->dl_tensor = tensor->view;
  complete_strides(&managed->dl_tensor, (int64_t *)(managed + 1));
  *out = managed;
  return PEGA_OK;
}
