/* SPDX-License-Identifier: Apache-2.0 */
/* The entry points that launch, and their way with no lock for quiet mode. */
#include "launch.h"

/*
 * Whether the launch is one that would succeed, seen without the lock. All else is left to the way
 * with the lock, which finds the reason.
 */
static bool passes_quietly(const fake_slot *function, CUstream stream, const unsigned grid[3],
                           const unsigned block[3], unsigned shared_bytes, void **params,
                           void **extra) {
  if (atomic_load_explicit(&fake_slow, memory_order_acquire) != 0) return false;
  const fake_slot *context = fake_current();
  if (context == NULL || !fake_slot_is(context, kIsContext)) return false;
  if (!fake_slot_is(function, kIsFunction) || function->context != context) return false;
  if ((uintptr_t)stream > (uintptr_t)FAKE_STREAM_PER_THREAD &&
      (!fake_slot_is(stream, kIsStream) || stream->context != context)) {
    return false;
  }
  if (atomic_load_explicit(&function->loaded, memory_order_acquire) == 0 ||
      atomic_load_explicit(&function->plain, memory_order_relaxed) == 0) {
    return false;
  }
  if (function->num_params > 0 && (params == NULL) == (extra == NULL)) return false;
  if (grid[0] - 1u >= 0x7FFFFFFFu || grid[1] - 1u >= 65535u || grid[2] - 1u >= 65535u) return false;
  if (block[0] - 1u >= 1024u || block[1] - 1u >= 1024u || block[2] - 1u >= 64u) return false;
  uint32_t threads = block[0] * block[1] * block[2];
  if (threads > function->max_threads || threads > function->most_for_registers) return false;
  return shared_bytes <= atomic_load_explicit(&function->max_dynamic, memory_order_relaxed);
}

CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                        unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                        CUstream stream, void **params, void **extra) {
  const unsigned grid[3] = {grid_x, grid_y, grid_z};
  const unsigned block[3] = {block_x, block_y, block_z};
  if (passes_quietly(function, stream, grid, block, shared_bytes, params, extra)) {
    fake_count_quietly(kQuietLaunch);
    return FAKE_CUDA_SUCCESS;
  }
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuLaunchKernel);
  fake_request request = {.grid = {grid_x, grid_y, grid_z},
                          .block = {block_x, block_y, block_z},
                          .shared_bytes = shared_bytes};
  if (result == 0) {
    result = fake_request_launch(&request, function, stream, params, extra, call.sequence);
  }
  return fake_leave(&call, result);
}

/* The attributes that quiet mode lets pass: those that need no check. */
static bool attributes_pass(const CUlaunchConfig *config) {
  if (config->numAttrs > 0 && config->attrs == NULL) return false;
  for (unsigned i = 0; i < config->numAttrs; ++i) {
    const CUlaunchAttribute *it = &config->attrs[i];
    bool pass = it->id == FAKE_CU_LAUNCH_ATTRIBUTE_IGNORE ||
                it->id == FAKE_CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION ||
                it->id == FAKE_CU_LAUNCH_ATTRIBUTE_PRIORITY ||
                (it->id == FAKE_CU_LAUNCH_ATTRIBUTE_COOPERATIVE && it->value.cooperative == 0);
    if (it->id == FAKE_CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION) {
      unsigned x = it->value.clusterDim.x;
      unsigned y = it->value.clusterDim.y;
      unsigned z = it->value.clusterDim.z;
      pass = x - 1u < 8u && y - 1u < 8u && z - 1u < 8u && x * y * z <= 8 &&
             config->gridDimX % x == 0 && config->gridDimY % y == 0 && config->gridDimZ % z == 0;
    }
    if (!pass) return false;
  }
  return true;
}

static bool passes_quietly_ex(const CUlaunchConfig *config, const fake_slot *function,
                              void **params, void **extra) {
  if (config == NULL || !attributes_pass(config)) return false;
  const unsigned grid[3] = {config->gridDimX, config->gridDimY, config->gridDimZ};
  const unsigned block[3] = {config->blockDimX, config->blockDimY, config->blockDimZ};
  return passes_quietly(function, config->hStream, grid, block, config->sharedMemBytes, params,
                        extra);
}

static CUresult launch_ex(const CUlaunchConfig *config, CUfunction function, void **params,
                          void **extra, uint64_t sequence) {
  if (config == NULL) return FAKE_CUDA_ERROR_INVALID_VALUE;
  fake_request request = {.grid = {config->gridDimX, config->gridDimY, config->gridDimZ},
                          .block = {config->blockDimX, config->blockDimY, config->blockDimZ},
                          .shared_bytes = config->sharedMemBytes};
  CUresult result = fake_request_attributes(&request, config->attrs, config->numAttrs);
  if (result != 0) return result;
  return fake_request_launch(&request, function, config->hStream, params, extra, sequence);
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function, void **params,
                          void **extra) {
  if (passes_quietly_ex(config, function, params, extra)) {
    fake_count_quietly(kQuietLaunchEx);
    return FAKE_CUDA_SUCCESS;
  }
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuLaunchKernelEx);
  if (result == 0) result = launch_ex(config, function, params, extra, call.sequence);
  return fake_leave(&call, result);
}

CUresult cuLaunchCooperativeKernel(CUfunction function, unsigned grid_x, unsigned grid_y,
                                   unsigned grid_z, unsigned block_x, unsigned block_y,
                                   unsigned block_z, unsigned shared_bytes, CUstream stream,
                                   void **params) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuLaunchCooperativeKernel);
  fake_request request = {.grid = {grid_x, grid_y, grid_z},
                          .block = {block_x, block_y, block_z},
                          .shared_bytes = shared_bytes,
                          .cooperative = true};
  if (result == 0) {
    result = fake_request_launch(&request, function, stream, params, NULL, call.sequence);
  }
  return fake_leave(&call, result);
}
