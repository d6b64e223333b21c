/* SPDX-License-Identifier: Apache-2.0 */
/* Functions: lazy loading, attributes, parameters. */
#include <string.h>

#include "fake.h"

CUresult fake_function_load(fake_slot *slot) {
  if (atomic_load(&slot->loaded) != 0) return FAKE_CUDA_SUCCESS;
  if (fake.strict_loading && !fake_capture_permits()) {
    return FAKE_CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  atomic_store_explicit(&slot->loaded, 1, memory_order_release);
  return FAKE_CUDA_SUCCESS;
}

static CUresult get_attribute(int *out, int attribute, CUfunction slot) {
  if (out == NULL) return FAKE_CUDA_ERROR_INVALID_VALUE;
  const fake_function *function = fake_object(slot, kIsFunction);
  if (function == NULL) return FAKE_CUDA_ERROR_INVALID_HANDLE;
  CUresult result = fake_function_load(slot);
  if (result != 0) return result;
  const fake_kernel *kernel = function->kernel;
  const int *device = fake_device_of(slot->device)->attributes;
  int architecture = (int)function->module->image.architecture;
  int binary = device[FAKE_CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR] * 10 +
               device[FAKE_CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR];
  switch (attribute) {
    case FAKE_CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
      *out = (int)slot->max_threads;
      break;
    case FAKE_CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
      *out = (int)slot->static_shared;
      break;
    case FAKE_CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
      *out = (int)kernel->constant_bytes;
      break;
    case FAKE_CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
      *out = (int)kernel->local_bytes;
      break;
    case FAKE_CU_FUNC_ATTRIBUTE_NUM_REGS:
      *out = (int)slot->registers;
      break;
    case FAKE_CU_FUNC_ATTRIBUTE_PTX_VERSION:
      *out = architecture;
      break;
    case FAKE_CU_FUNC_ATTRIBUTE_BINARY_VERSION:
      *out = function->module->image.ptx ? binary : architecture;
      break;
    case FAKE_CU_FUNC_ATTRIBUTE_CACHE_MODE_CA:
      *out = 0;
      break;
    case FAKE_CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
      *out = (int)atomic_load(&slot->max_dynamic);
      break;
    case FAKE_CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
      *out = function->carveout;
      break;
    case FAKE_CU_FUNC_ATTRIBUTE_CLUSTER_SIZE_MUST_BE_SET:
      *out = kernel->explicit_cluster;
      break;
    case FAKE_CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
    case FAKE_CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
    case FAKE_CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
      *out = (int)function->cluster[attribute - FAKE_CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH];
      break;
    case FAKE_CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
      *out = function->non_portable;
      break;
    case FAKE_CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
      *out = function->scheduling;
      break;
    default:
      return FAKE_CUDA_ERROR_INVALID_VALUE;
  }
  return FAKE_CUDA_SUCCESS;
}

CUresult cuFuncGetAttribute(int *out, int attribute, CUfunction function) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuFuncGetAttribute);
  if (result == 0) result = get_attribute(out, attribute, function);
  return fake_leave(&call, result);
}

static CUresult set_max_dynamic(fake_slot *slot, int value) {
  int most = fake_device_of(slot->device)
                 ->attributes[FAKE_CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN];
  if (value < 0 || value > most - (int)slot->static_shared) return FAKE_CUDA_ERROR_INVALID_VALUE;
  atomic_store(&slot->max_dynamic, (uint32_t)value);
  return FAKE_CUDA_SUCCESS;
}

static CUresult set_cluster(fake_slot *slot, fake_function *function, int side, int value) {
  if (function->kernel->cluster[0] != 0 || value < 0) return FAKE_CUDA_ERROR_INVALID_VALUE;
  function->cluster[side] = (uint32_t)value;
  atomic_store(&slot->plain, 0);
  return FAKE_CUDA_SUCCESS;
}

static CUresult set_attribute(CUfunction slot, int attribute, int value) {
  fake_function *function = fake_object(slot, kIsFunction);
  if (function == NULL) return FAKE_CUDA_ERROR_INVALID_HANDLE;
  CUresult result = fake_function_load(slot);
  if (result != 0) return result;
  switch (attribute) {
    case FAKE_CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
      return set_max_dynamic(slot, value);
    case FAKE_CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
      if (value < -1 || value > 100) return FAKE_CUDA_ERROR_INVALID_VALUE;
      function->carveout = value;
      return FAKE_CUDA_SUCCESS;
    case FAKE_CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
    case FAKE_CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
    case FAKE_CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
      return set_cluster(slot, function, attribute - FAKE_CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH,
                         value);
    case FAKE_CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
      if (value < 0 || value > 1) return FAKE_CUDA_ERROR_INVALID_VALUE;
      function->non_portable = value;
      return FAKE_CUDA_SUCCESS;
    case FAKE_CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
      if (value < 0 || value > 2) return FAKE_CUDA_ERROR_INVALID_VALUE;
      function->scheduling = value;
      return FAKE_CUDA_SUCCESS;
    default:
      return FAKE_CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult cuFuncSetAttribute(CUfunction function, int attribute, int value) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuFuncSetAttribute);
  if (result == 0) result = set_attribute(function, attribute, value);
  return fake_leave(&call, result);
}

/* The function of a query, and somewhere to write. */
static CUresult find(CUfunction handle, const void *out, const fake_function **function) {
  if (out == NULL) return FAKE_CUDA_ERROR_INVALID_VALUE;
  *function = fake_object(handle, kIsFunction);
  return *function == NULL ? FAKE_CUDA_ERROR_INVALID_HANDLE : FAKE_CUDA_SUCCESS;
}

CUresult cuFuncGetModule(CUmodule *out, CUfunction handle) {
  fake_call call;
  const fake_function *function;
  CUresult result = fake_enter(&call, FAKE_cuFuncGetModule);
  if (result == 0) result = find(handle, out, &function);
  if (result == 0) *out = function->module->handle;
  return fake_leave(&call, result);
}

CUresult cuFuncGetName(const char **out, CUfunction handle) {
  fake_call call;
  const fake_function *function;
  CUresult result = fake_enter(&call, FAKE_cuFuncGetName);
  if (result == 0) result = find(handle, out, &function);
  if (result == 0) *out = function->kernel->name;
  return fake_leave(&call, result);
}

CUresult cuFuncGetParamInfo(CUfunction handle, size_t index, size_t *offset, size_t *size) {
  fake_call call;
  const fake_function *function;
  CUresult result = fake_enter(&call, FAKE_cuFuncGetParamInfo);
  if (result == 0) result = find(handle, offset, &function);
  if (result == 0 && index >= function->kernel->num_params) result = FAKE_CUDA_ERROR_INVALID_VALUE;
  if (result == 0) {
    *offset = function->kernel->params[index].offset;
    if (size != NULL) *size = function->kernel->params[index].size;
  }
  return fake_leave(&call, result);
}

CUresult cuFuncIsLoaded(int *out, CUfunction handle) {
  fake_call call;
  const fake_function *function;
  CUresult result = fake_enter(&call, FAKE_cuFuncIsLoaded);
  if (result == 0) result = find(handle, out, &function);
  if (result == 0) *out = (int)atomic_load(&handle->loaded);
  return fake_leave(&call, result);
}

CUresult cuFuncLoad(CUfunction handle) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuFuncLoad);
  if (result == 0 && fake_object(handle, kIsFunction) == NULL) {
    result = FAKE_CUDA_ERROR_INVALID_HANDLE;
  }
  if (result == 0) result = fake_function_load(handle);
  return fake_leave(&call, result);
}
