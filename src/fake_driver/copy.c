/* SPDX-License-Identifier: Apache-2.0 */
/* Copies and sets, and what is known of a pointer. */
#include <string.h>

#include "fake.h"

CUresult fake_node_check(const fake_node *node) {
  if (node->size == 0) return FAKE_CUDA_SUCCESS;
  if (node->to == 0 || (node->kind == kNodeCopy && node->from == 0)) {
    return FAKE_CUDA_ERROR_INVALID_VALUE;
  }
  CUresult result = FAKE_CUDA_SUCCESS;
  if (node->from_device) result = fake_memory_check(node->from, node->size);
  if (result == 0 && node->to_device) result = fake_memory_check(node->to, node->size);
  return result;
}

void fake_node_run(const fake_node *node) {
  void *to = (void *)(uintptr_t)node->to;
  if (node->size == 0) return;
  if (node->kind == kNodeCopy) {
    memmove(to, (const void *)(uintptr_t)node->from, node->size);
  } else {
    memset(to, node->value, node->size);
  }
}

/* Does the work, or has the stream's capture keep it. */
static CUresult submit(const fake_node *node, fake_stream *stream) {
  if (stream->capture != NULL) return fake_capture_add(stream->capture, *node);
  fake_node_run(node);
  return FAKE_CUDA_SUCCESS;
}

static CUresult submit_async(const fake_node *node, CUstream handle) {
  fake_stream *stream;
  CUresult result = fake_stream_use(handle, &stream);
  return result == 0 ? submit(node, stream) : result;
}

/* On the legacy stream, and waited for. Driver 13.0 lets it pass while another stream captures. */
static CUresult submit_sync(const fake_node *node) {
  fake_stream *stream;
  CUresult result = fake_stream_use(NULL, &stream);
  if (result == 0) result = submit(node, stream);
  if (result == 0) fake_stream_wait(stream, stream->submitted);
  return result;
}

enum { kFromDevice = 1, kToDevice = 2 };

static CUresult make_copy(fake_node *node, uint64_t to, uint64_t from, size_t size, int sides) {
  *node = (fake_node){.kind = kNodeCopy,
                      .to = to,
                      .from = from,
                      .size = size,
                      .from_device = (sides & kFromDevice) != 0,
                      .to_device = (sides & kToDevice) != 0};
  return fake_node_check(node);
}

static CUresult make_set(fake_node *node, uint64_t to, unsigned char value, size_t size) {
  *node = (fake_node){.kind = kNodeSet, .to = to, .value = value, .size = size, .to_device = true};
  return fake_node_check(node);
}

static uint64_t address_of(const void *host) { return (uint64_t)(uintptr_t)host; }

CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t size) {
  fake_call call;
  fake_node node;
  CUresult result = fake_enter(&call, FAKE_cuMemcpyHtoD_v2);
  if (result == 0) result = make_copy(&node, to, address_of(from), size, kToDevice);
  if (result == 0 && size > 0) result = submit_sync(&node);
  return fake_leave(&call, result);
}

CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t size) {
  fake_call call;
  fake_node node;
  CUresult result = fake_enter(&call, FAKE_cuMemcpyDtoH_v2);
  if (result == 0) result = make_copy(&node, address_of(to), from, size, kFromDevice);
  if (result == 0 && size > 0) result = submit_sync(&node);
  return fake_leave(&call, result);
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t size, CUstream stream) {
  fake_call call;
  fake_node node;
  CUresult result = fake_enter(&call, FAKE_cuMemcpyHtoDAsync_v2);
  if (result == 0) result = make_copy(&node, to, address_of(from), size, kToDevice);
  if (result == 0) result = submit_async(&node, stream);
  return fake_leave(&call, result);
}

CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t size, CUstream stream) {
  fake_call call;
  fake_node node;
  CUresult result = fake_enter(&call, FAKE_cuMemcpyDtoHAsync_v2);
  if (result == 0) result = make_copy(&node, address_of(to), from, size, kFromDevice);
  if (result == 0) result = submit_async(&node, stream);
  return fake_leave(&call, result);
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream stream) {
  fake_call call;
  fake_node node;
  CUresult result = fake_enter(&call, FAKE_cuMemcpyDtoDAsync_v2);
  if (result == 0) result = make_copy(&node, to, from, size, kFromDevice | kToDevice);
  if (result == 0) result = submit_async(&node, stream);
  return fake_leave(&call, result);
}

CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t count) {
  fake_call call;
  fake_node node;
  CUresult result = fake_enter(&call, FAKE_cuMemsetD8_v2);
  if (result == 0) result = make_set(&node, to, value, count);
  if (result == 0 && count > 0) result = submit_sync(&node);
  return fake_leave(&call, result);
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream stream) {
  fake_call call;
  fake_node node;
  CUresult result = fake_enter(&call, FAKE_cuMemsetD8Async);
  if (result == 0) result = make_set(&node, to, value, count);
  if (result == 0) result = submit_async(&node, stream);
  return fake_leave(&call, result);
}

/* ---------------------------------------------------------------------------------- pointers -- */

static void write_int(void *out, int value) { memcpy(out, &value, sizeof value); }

static CUresult get_attribute(void *out, int attribute, const fake_memory_range *range,
                              CUdeviceptr address) {
  switch (attribute) {
    case FAKE_CU_POINTER_ATTRIBUTE_CONTEXT:
      memcpy(out, &range->context, sizeof range->context);
      return FAKE_CUDA_SUCCESS;
    case FAKE_CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
      write_int(out, FAKE_CU_MEMORYTYPE_DEVICE);
      return FAKE_CUDA_SUCCESS;
    case FAKE_CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
      memcpy(out, &address, sizeof address);
      return FAKE_CUDA_SUCCESS;
    case FAKE_CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
    case FAKE_CU_POINTER_ATTRIBUTE_IS_MANAGED:
      memset(out, 0, 1);
      return FAKE_CUDA_SUCCESS;
    case FAKE_CU_POINTER_ATTRIBUTE_BUFFER_ID:
      memcpy(out, &range->id, sizeof range->id);
      return FAKE_CUDA_SUCCESS;
    case FAKE_CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
      write_int(out, range->context->device);
      return FAKE_CUDA_SUCCESS;
    case FAKE_CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
      memcpy(out, &range->address, sizeof range->address);
      return FAKE_CUDA_SUCCESS;
    case FAKE_CU_POINTER_ATTRIBUTE_RANGE_SIZE:
      memcpy(out, &range->size, sizeof range->size);
      return FAKE_CUDA_SUCCESS;
    case FAKE_CU_POINTER_ATTRIBUTE_MAPPED:
      memset(out, 1, 1);
      return FAKE_CUDA_SUCCESS;
    default: /* HOST_POINTER of device memory, and what is not modelled */
      return FAKE_CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult cuPointerGetAttribute(void *out, int attribute, CUdeviceptr address) {
  fake_call call;
  fake_memory_range range;
  CUresult result = fake_enter(&call, FAKE_cuPointerGetAttribute);
  if (result == 0 && (out == NULL || !fake_memory_find(address, &range))) {
    result = FAKE_CUDA_ERROR_INVALID_VALUE;
  }
  if (result == 0) result = get_attribute(out, attribute, &range, address);
  return fake_leave(&call, result);
}

/* Of memory that the driver does not know, the answers are zeros and there is no error. */
static void zero_attribute(void *out, int attribute) {
  switch (attribute) {
    case FAKE_CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
      write_int(out, -2); /* CU_DEVICE_INVALID */
      break;
    case FAKE_CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
      write_int(out, 0);
      break;
    case FAKE_CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
    case FAKE_CU_POINTER_ATTRIBUTE_IS_MANAGED:
    case FAKE_CU_POINTER_ATTRIBUTE_MAPPED:
      memset(out, 0, 1);
      break;
    default:
      memset(out, 0, sizeof(uint64_t));
  }
}

CUresult cuPointerGetAttributes(unsigned count, int *attributes, void **out, CUdeviceptr address) {
  fake_call call;
  fake_memory_range range;
  CUresult result = fake_enter(&call, FAKE_cuPointerGetAttributes);
  if (result == 0 && (count == 0 || attributes == NULL || out == NULL)) {
    result = FAKE_CUDA_ERROR_INVALID_VALUE;
  }
  bool found = result == 0 && fake_memory_find(address, &range);
  for (unsigned i = 0; result == 0 && i < count; ++i) {
    if (!found || get_attribute(out[i], attributes[i], &range, address) != 0) {
      zero_attribute(out[i], attributes[i]);
    }
  }
  return fake_leave(&call, result);
}
