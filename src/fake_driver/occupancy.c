/* SPDX-License-Identifier: Apache-2.0 */
/* How many blocks and clusters run at once. Source of the rules: the tables of allocation
   granularity in NVIDIA's CUDA C++ programming guide. */
#include "launch.h"

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

static uint64_t round_up(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

uint64_t fake_occupancy(const fake_slot *function, uint32_t threads, uint32_t dynamic_shared) {
  const int *attributes = fake_device_of(function->device)->attributes;
  int most_of_block = attributes[FAKE_CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK];
  if (threads == 0 || threads > (uint32_t)most_of_block) return 0;
  uint64_t warps = (threads + 31) / 32;
  uint64_t most_threads =
      (uint64_t)attributes[FAKE_CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR];
  uint64_t blocks = (uint64_t)attributes[FAKE_CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR];
  blocks = least(blocks, most_threads / 32 / warps);
  if (function->registers > 0) {
    uint64_t of_warp = round_up((uint64_t)function->registers * 32, 256);
    uint64_t most = (uint64_t)attributes[FAKE_CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR];
    /* A multiprocessor has four parts, each with its own registers. */
    uint64_t warps_that_fit = most / 4 / of_warp * 4;
    blocks = least(blocks, warps_that_fit / warps);
  }
  uint64_t reserved =
      (uint64_t)attributes[FAKE_CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK];
  uint64_t shared = round_up(function->static_shared + (uint64_t)dynamic_shared + reserved, 128);
  uint64_t most_shared =
      (uint64_t)attributes[FAKE_CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR];
  return shared == 0 ? blocks : least(blocks, most_shared / shared);
}

static CUresult occupancy(int *out, CUfunction function, int block_size, size_t shared_bytes) {
  if (out == NULL || block_size <= 0) return FAKE_CUDA_ERROR_INVALID_VALUE;
  if (fake_object(function, kIsFunction) == NULL) return FAKE_CUDA_ERROR_INVALID_HANDLE;
  CUresult result = fake_function_load(function);
  if (result != 0) return result;
  *out = shared_bytes > INT32_MAX
             ? 0
             : (int)fake_occupancy(function, (uint32_t)block_size, (uint32_t)shared_bytes);
  return FAKE_CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *out, CUfunction function, int block_size,
                                                     size_t shared_bytes) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuOccupancyMaxActiveBlocksPerMultiprocessor);
  if (result == 0) result = occupancy(out, function, block_size, shared_bytes);
  return fake_leave(&call, result);
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *out, CUfunction function,
                                                              int block_size, size_t shared_bytes,
                                                              unsigned flags) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags);
  if (result == 0 && flags > 1) result = FAKE_CUDA_ERROR_INVALID_VALUE;
  if (result == 0) result = occupancy(out, function, block_size, shared_bytes);
  return fake_leave(&call, result);
}

static CUresult clusters(int *out, CUfunction function, const CUlaunchConfig *config) {
  if (out == NULL || config == NULL) return FAKE_CUDA_ERROR_INVALID_VALUE;
  if (fake_object(function, kIsFunction) == NULL) return FAKE_CUDA_ERROR_INVALID_HANDLE;
  fake_request request = {.grid = {config->gridDimX, config->gridDimY, config->gridDimZ},
                          .block = {config->blockDimX, config->blockDimY, config->blockDimZ},
                          .shared_bytes = config->sharedMemBytes};
  CUresult result = fake_request_attributes(&request, config->attrs, config->numAttrs);
  if (result == 0) result = fake_function_load(function);
  if (result == 0) result = fake_request_check(&request, function);
  if (result != 0) return result;
  if (request.cluster[0] == 0) return FAKE_CUDA_ERROR_INVALID_CLUSTER_SIZE;
  uint32_t threads = request.block[0] * request.block[1] * request.block[2];
  uint32_t size = request.cluster[0] * request.cluster[1] * request.cluster[2];
  const fake_device *device = fake_device_of(function->device);
  uint64_t blocks = fake_occupancy(function, threads, request.shared_bytes) *
                    (uint64_t)device->attributes[FAKE_CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT];
  *out = (int)(blocks / size);
  return FAKE_CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveClusters(int *out, CUfunction function, const CUlaunchConfig *config) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuOccupancyMaxActiveClusters);
  if (result == 0) result = clusters(out, function, config);
  return fake_leave(&call, result);
}
