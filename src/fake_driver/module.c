/* SPDX-License-Identifier: Apache-2.0 */
/* Modules: loading an image, finding its functions, letting it go. */
#include <stdlib.h>
#include <string.h>

#include "fake.h"

static bool can_run(const fake_image *image, const fake_device *device) {
  int major = device->attributes[FAKE_CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR];
  int minor = device->attributes[FAKE_CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR];
  uint32_t architecture = (uint32_t)(major * 10 + minor);
  if (image->ptx) return image->architecture <= architecture;
  return image->architecture / 10 == (uint32_t)major && image->architecture <= architecture;
}

static CUresult read_image(const void *bytes, fake_image *image) {
  const char *text = bytes;
  if (memcmp(text, "\177ELF", 4) == 0) return fake_cubin_read(bytes, image);
  return fake_ptx_read(text, image);
}

static fake_module *new_module(fake_image *image, fake_slot *context) {
  fake_module *module = calloc(1, sizeof *module);
  fake_function *functions = calloc(image->num_kernels + 1, sizeof *functions);
  fake_slot *handle = NULL;
  if (module != NULL && functions != NULL) handle = fake_slot_create(kIsModule, context, module);
  if (handle == NULL) {
    free(module);
    free(functions);
    return NULL;
  }
  *module = (fake_module){.handle = handle, .image = *image, .functions = functions};
  for (size_t i = 0; i < image->num_kernels; ++i) {
    functions[i].module = module;
    functions[i].kernel = &module->image.kernels[i];
    functions[i].carveout = -1;
    memcpy(functions[i].cluster, module->image.kernels[i].cluster, sizeof functions[i].cluster);
  }
  return module;
}

static CUresult load(CUmodule *out, const void *bytes) {
  if (out == NULL || bytes == NULL) return FAKE_CUDA_ERROR_INVALID_VALUE;
  fake_image image = {0};
  fake_slot *context = fake_current();
  CUresult result = read_image(bytes, &image);
  if (result == 0 && !can_run(&image, fake_device_of(context->device))) {
    result = image.ptx ? FAKE_CUDA_ERROR_INVALID_PTX : FAKE_CUDA_ERROR_NO_BINARY_FOR_GPU;
  }
  fake_module *module = NULL;
  if (result == 0) {
    module = new_module(&image, context);
    if (module == NULL) result = FAKE_CUDA_ERROR_OUT_OF_MEMORY;
  }
  if (result != 0) {
    fake_image_free(&image);
    return result;
  }
  *out = module->handle;
  return FAKE_CUDA_SUCCESS;
}

CUresult cuModuleLoadData(CUmodule *out, const void *image) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuModuleLoadData);
  if (result == 0) result = load(out, image);
  return fake_leave(&call, result);
}

/* Options are accepted and, except that they are there, not looked at. */
CUresult cuModuleLoadDataEx(CUmodule *out, const void *image, unsigned count, int *options,
                            void **values) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuModuleLoadDataEx);
  if (result == 0 && count > 0 && (options == NULL || values == NULL)) {
    result = FAKE_CUDA_ERROR_INVALID_VALUE;
  }
  if (result == 0) result = load(out, image);
  return fake_leave(&call, result);
}

/* The launches that graphs keep must not lead to a module that is gone. */
static void forget_in(fake_kind kind, const fake_module *module) {
  for (fake_slot *it = NULL; (it = fake_slot_next(it, kind)) != NULL;) {
    fake_graph *graph = it->object;
    for (size_t i = 0; i < graph->num_nodes; ++i) {
      fake_launch *launch = graph->nodes[i].launch;
      if (launch != NULL && launch->module == module) launch->module = NULL;
    }
  }
}

void fake_module_destroy(fake_module *module) {
  forget_in(kIsGraph, module);
  forget_in(kIsGraphExec, module);
  for (size_t i = 0; i < module->image.num_kernels; ++i) {
    if (module->functions[i].handle != NULL) fake_slot_destroy(module->functions[i].handle);
  }
  fake_slot_destroy(module->handle);
  fake_image_free(&module->image);
  free(module->functions);
  free(module->pending);
  free(module);
}

static bool is_in_flight(const fake_module *module) {
  for (size_t i = 0; i < module->num_pending; ++i) {
    if (module->pending[i].stream->done < module->pending[i].count) return true;
  }
  return false;
}

CUresult cuModuleUnload(CUmodule handle) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuModuleUnload);
  fake_module *module = NULL;
  if (result == 0) {
    module = fake_object(handle, kIsModule);
    if (module == NULL) result = FAKE_CUDA_ERROR_INVALID_HANDLE;
  }
  if (result == 0) {
    if (module->graph_nodes > 0) ++fake.faults.unloaded_in_graph;
    if (is_in_flight(module)) ++fake.faults.unloaded_in_flight;
    fake_module_destroy(module);
  }
  return fake_leave(&call, result);
}

static void describe(fake_slot *slot, const fake_kernel *kernel) {
  const int *attributes = fake_device_of(slot->device)->attributes;
  uint32_t most = (uint32_t)attributes[FAKE_CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK];
  uint32_t shared = (uint32_t)attributes[FAKE_CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK];
  uint32_t registers = (uint32_t)attributes[FAKE_CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK];
  bool bounded = kernel->max_threads != 0 && kernel->max_threads < most;
  slot->max_threads = bounded ? kernel->max_threads : most;
  slot->registers = kernel->registers;
  slot->most_for_registers = most;
  if (kernel->registers > 0) {
    slot->most_for_registers = registers / ((kernel->registers + 7) / 8 * 8 * 32) * 32;
  }
  slot->static_shared = kernel->static_shared;
  slot->num_params = kernel->num_params;
  uint32_t dynamic = shared > kernel->static_shared ? shared - kernel->static_shared : 0;
  atomic_store(&slot->max_dynamic, dynamic);
  atomic_store(&slot->plain, kernel->cluster[0] == 0 && !kernel->explicit_cluster);
  atomic_store(&slot->loaded, fake.eager_loading || !fake.strict_loading);
}

static CUresult get_function(CUfunction *out, CUmodule handle, const char *name) {
  if (out == NULL || name == NULL) return FAKE_CUDA_ERROR_INVALID_VALUE;
  fake_module *module = fake_object(handle, kIsModule);
  if (module == NULL) return FAKE_CUDA_ERROR_INVALID_HANDLE;
  for (size_t i = 0; i < module->image.num_kernels; ++i) {
    fake_function *function = &module->functions[i];
    if (strcmp(function->kernel->name, name) != 0) continue;
    if (function->handle == NULL) {
      fake_slot *slot = fake_slot_create(kIsFunction, handle->context, function);
      if (slot == NULL) return FAKE_CUDA_ERROR_OUT_OF_MEMORY;
      describe(slot, function->kernel);
      function->handle = slot;
    }
    *out = function->handle;
    return FAKE_CUDA_SUCCESS;
  }
  return FAKE_CUDA_ERROR_NOT_FOUND;
}

CUresult cuModuleGetFunction(CUfunction *out, CUmodule module, const char *name) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuModuleGetFunction);
  if (result == 0) result = get_function(out, module, name);
  return fake_leave(&call, result);
}

CUresult cuModuleGetLoadingMode(int *out) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuModuleGetLoadingMode);
  if (result == 0 && out == NULL) result = FAKE_CUDA_ERROR_INVALID_VALUE;
  if (result == 0) {
    *out = fake.eager_loading ? FAKE_CU_MODULE_EAGER_LOADING : FAKE_CU_MODULE_LAZY_LOADING;
  }
  return fake_leave(&call, result);
}
