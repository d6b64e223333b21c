/* SPDX-License-Identifier: Apache-2.0 */
/* Device memory: host memory with its bounds, device and context known. */
#include <stdlib.h>
#include <string.h>

#include "fake.h"

/* The driver aligns allocations to 256 bytes at least. */
enum { kAlignment = 256, kFreedKept = 1024 };

typedef struct allocation {
  uint64_t address;
  uint64_t size;
  uint64_t id;
  fake_slot *context;
} allocation;

/* All under fake.lock. Sorted by address. */
static allocation *allocations;
static size_t num_allocations;
static size_t capacity;
/* The last addresses that were freed, to tell a double free from an unknown address. */
static uint64_t freed[kFreedKept];
static size_t num_freed;

/* Index of the first allocation that begins after `address`. */
static size_t upper_bound(uint64_t address) {
  size_t low = 0;
  size_t high = num_allocations;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (allocations[middle].address <= address) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

static allocation *find(uint64_t address) {
  size_t index = upper_bound(address);
  if (index == 0) return NULL;
  allocation *it = &allocations[index - 1];
  return address - it->address < it->size ? it : NULL;
}

static bool was_freed(uint64_t address) {
  for (size_t i = 0; i < kFreedKept; ++i) {
    if (freed[i] == address) return true;
  }
  return false;
}

static void unfree(uint64_t address) {
  for (size_t i = 0; i < kFreedKept; ++i) {
    if (freed[i] == address) freed[i] = 0;
  }
}

static CUresult allocate(CUdeviceptr *out, size_t size) {
  if (out == NULL || size == 0) return FAKE_CUDA_ERROR_INVALID_VALUE;
  fake_slot *context = fake_current();
  fake_device *device = fake_device_of(context->device);
  if (size > device->total_memory - device->used_memory) return FAKE_CUDA_ERROR_OUT_OF_MEMORY;
  if (num_allocations == capacity) {
    size_t more = capacity == 0 ? 64 : capacity * 2;
    allocation *grown = realloc(allocations, more * sizeof *grown);
    if (grown == NULL) return FAKE_CUDA_ERROR_OUT_OF_MEMORY;
    allocations = grown;
    capacity = more;
  }
  void *bytes = NULL;
  if (posix_memalign(&bytes, kAlignment, size) != 0) return FAKE_CUDA_ERROR_OUT_OF_MEMORY;
  uint64_t address = (uint64_t)(uintptr_t)bytes;
  size_t index = upper_bound(address);
  memmove(&allocations[index + 1], &allocations[index],
          (num_allocations - index) * sizeof *allocations);
  allocations[index] = (allocation){address, size, ++fake.next_id, context};
  ++num_allocations;
  device->used_memory += size;
  unfree(address);
  *out = address;
  return FAKE_CUDA_SUCCESS;
}

static void release(allocation *it) {
  fake.devices[it->context->device].used_memory -= it->size;
  freed[num_freed++ % kFreedKept] = it->address;
  free((void *)(uintptr_t)it->address);
  size_t index = (size_t)(it - allocations);
  --num_allocations;
  memmove(it, it + 1, (num_allocations - index) * sizeof *allocations);
}

static CUresult give_back(CUdeviceptr address) {
  if (address == 0) return FAKE_CUDA_SUCCESS;
  allocation *it = find(address);
  if (it != NULL && it->address == address) {
    release(it);
    return FAKE_CUDA_SUCCESS;
  }
  if (was_freed(address)) {
    ++fake.faults.double_frees;
  } else {
    ++fake.faults.unknown_frees;
  }
  return FAKE_CUDA_ERROR_INVALID_VALUE;
}

void fake_memory_empty(const fake_slot *context) {
  for (size_t i = num_allocations; i-- > 0;) {
    if (allocations[i].context != context) continue;
    ++fake.faults.lost_with_context;
    release(&allocations[i]);
  }
}

void fake_memory_reset(void) {
  while (num_allocations > 0) release(&allocations[num_allocations - 1]);
  free(allocations);
  allocations = NULL;
  capacity = 0;
  memset(freed, 0, sizeof freed);
  num_freed = 0;
}

void fake_memory_live(uint64_t *count, uint64_t *bytes) {
  *count = num_allocations;
  *bytes = 0;
  for (size_t i = 0; i < num_allocations; ++i) *bytes += allocations[i].size;
}

CUresult fake_memory_check(uint64_t address, uint64_t size) {
  const allocation *it = find(address);
  if (it != NULL && size <= it->size - (address - it->address)) return FAKE_CUDA_SUCCESS;
  ++fake.faults.out_of_bounds;
  return FAKE_CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemAlloc_v2(CUdeviceptr *out, size_t size) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuMemAlloc_v2);
  if (result == 0) result = allocate(out, size);
  return fake_leave(&call, result);
}

CUresult cuMemFree_v2(CUdeviceptr address) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuMemFree_v2);
  if (result == 0) result = give_back(address);
  return fake_leave(&call, result);
}

/* Allocation nodes are not modelled. */
static CUresult use_uncaptured(CUstream handle) {
  fake_stream *stream;
  CUresult result = fake_stream_use(handle, &stream);
  if (result == 0 && stream->capture != NULL) result = FAKE_CUDA_ERROR_NOT_SUPPORTED;
  return result;
}

CUresult cuMemAllocAsync(CUdeviceptr *out, size_t size, CUstream stream) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuMemAllocAsync);
  if (result == 0) result = use_uncaptured(stream);
  if (result == 0) result = allocate(out, size);
  return fake_leave(&call, result);
}

CUresult cuMemFreeAsync(CUdeviceptr address, CUstream stream) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuMemFreeAsync);
  if (result == 0) result = use_uncaptured(stream);
  if (result == 0) result = give_back(address);
  return fake_leave(&call, result);
}

CUresult cuMemGetInfo_v2(size_t *available, size_t *total) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuMemGetInfo_v2);
  if (result == 0 && (available == NULL || total == NULL)) result = FAKE_CUDA_ERROR_INVALID_VALUE;
  if (result == 0) {
    const fake_device *device = fake_device_of(fake_current()->device);
    *available = device->total_memory - device->used_memory;
    *total = device->total_memory;
  }
  return fake_leave(&call, result);
}

bool fake_memory_find(uint64_t address, fake_memory_range *out) {
  const allocation *it = find(address);
  if (it != NULL) *out = (fake_memory_range){it->address, it->size, it->id, it->context};
  return it != NULL;
}
