/* SPDX-License-Identifier: Apache-2.0 */
/* Launches: their rules, their parameters, and host functions in a kernel's place. */
#include "launch.h"

#include <stdlib.h>
#include <string.h>

enum { kMaxAttributes = 64, kPortableCluster = 8, kMostCluster = 16 };

typedef struct host_kernel {
  char *name;
  pega_fake_driver_kernel run;
  void *user;
  struct host_kernel *next;
} host_kernel;

static host_kernel *host_kernels; /* under fake.lock */

/* ---------------------------------------------------------------------------- host functions -- */

bool fake_kernels_set(void) { return host_kernels != NULL; }

static void remove_kernel(const char *name) {
  for (host_kernel **at = &host_kernels; *at != NULL; at = &(*at)->next) {
    host_kernel *it = *at;
    if (name != NULL && strcmp(it->name, name) != 0) continue;
    *at = it->next;
    free(it->name);
    free(it);
    return;
  }
}

void fake_kernels_reset(void) {
  while (host_kernels != NULL) remove_kernel(NULL);
}

int pega_fake_driver_set_kernel(const char *name, pega_fake_driver_kernel kernel, void *user) {
  if (name == NULL || name[0] == '\0') return FAKE_CUDA_ERROR_INVALID_VALUE;
  host_kernel *added = NULL;
  if (kernel != NULL) {
    added = malloc(sizeof *added);
    char *copy = strdup(name);
    if (added == NULL || copy == NULL) {
      free(added);
      free(copy);
      return FAKE_CUDA_ERROR_OUT_OF_MEMORY;
    }
    *added = (host_kernel){copy, kernel, user, NULL};
  }
  fake_lock();
  remove_kernel(name);
  if (added != NULL) {
    added->next = host_kernels;
    host_kernels = added;
  }
  fake_update_slow();
  fake_unlock();
  return FAKE_CUDA_SUCCESS;
}

/* ----------------------------------------------------------------------- a launch as a piece -- */

static size_t round_up(size_t size) {
  return (size + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
}

/* One block: the launch, its attributes, its params, the name, the parameters' bytes. */
static fake_launch *allocate(uint32_t num_attributes, uint32_t num_params, uint32_t params_size,
                             const char *name) {
  size_t attributes = round_up(num_attributes * sizeof(pega_fake_driver_launch_attribute));
  size_t params = round_up(num_params * sizeof(pega_fake_driver_param));
  size_t bytes = round_up(params_size);
  size_t name_size = strlen(name) + 1;
  fake_launch *launch = calloc(1, sizeof *launch + attributes + params + bytes + name_size);
  if (launch == NULL) return NULL;
  char *at = (char *)launch->storage;
  launch->view.num_attributes = num_attributes;
  launch->view.num_params = num_params;
  launch->view.params_size = params_size;
  launch->view.attributes = (pega_fake_driver_launch_attribute *)at;
  launch->view.params = (pega_fake_driver_param *)(at + attributes);
  launch->view.params_bytes = at + attributes + params;
  launch->view.name = memcpy(at + attributes + params + bytes, name, name_size);
  return launch;
}

/* What `allocate` laid out may be written by those who fill it. */
static void *writable(const void *part) { return (void *)(uintptr_t)part; }

static void point_params(fake_launch *launch, const fake_param *layout) {
  pega_fake_driver_param *params = writable(launch->view.params);
  for (uint32_t i = 0; i < launch->view.num_params; ++i) {
    const char *bytes = (const char *)launch->view.params_bytes + layout[i].offset;
    params[i] = (pega_fake_driver_param){layout[i].offset, layout[i].size, bytes};
  }
}

fake_launch *fake_launch_copy(const fake_launch *from) {
  const pega_fake_driver_launch *view = &from->view;
  fake_launch *copy =
      allocate(view->num_attributes, view->num_params, view->params_size, view->name);
  if (copy == NULL) return NULL;
  pega_fake_driver_launch own = copy->view;
  copy->view = *view;
  copy->view.name = own.name;
  copy->view.attributes = own.attributes;
  copy->view.params = own.params;
  copy->view.params_bytes = own.params_bytes;
  copy->function = from->function;
  copy->module = from->module;
  if (view->num_attributes > 0) {
    memcpy(writable(own.attributes), view->attributes,
           view->num_attributes * sizeof *view->attributes);
  }
  if (view->params_size > 0)
    memcpy(writable(own.params_bytes), view->params_bytes, view->params_size);
  pega_fake_driver_param *params = writable(own.params);
  for (uint32_t i = 0; i < view->num_params; ++i) {
    const char *bytes = (const char *)own.params_bytes + view->params[i].offset;
    params[i] = (pega_fake_driver_param){view->params[i].offset, view->params[i].size, bytes};
  }
  return copy;
}

/* ----------------------------------------------------------------------------------- running -- */

/* Remembers that the module's code is needed until the stream was waited for. */
static void mark_in_flight(fake_module *module, fake_stream *stream) {
  ++stream->submitted;
  if (fake.quiet || module == NULL) return;
  for (size_t i = 0; i < module->num_pending; ++i) {
    if (module->pending[i].stream != stream) continue;
    module->pending[i].count = stream->submitted;
    return;
  }
  fake_pending *grown = realloc(module->pending, (module->num_pending + 1) * sizeof *grown);
  if (grown == NULL) return;
  module->pending = grown;
  module->pending[module->num_pending++] = (fake_pending){stream, stream->submitted};
}

static CUresult run_host_kernel(fake_launch *launch, fake_slot *context) {
  const host_kernel *it = host_kernels;
  while (it != NULL && strcmp(it->name, launch->view.name) != 0) it = it->next;
  if (it == NULL) return FAKE_CUDA_SUCCESS;
  pega_fake_driver_kernel run = it->run;
  void *user = it->user;
  fake_unlock();
  int result = run(&launch->view, user);
  fake_lock();
  if (result != 0 && fake_slot_is(context, kIsContext)) fake_context_poison(context, result);
  return FAKE_CUDA_SUCCESS; /* a kernel's fault is seen by the calls after the launch */
}

CUresult fake_launch_run(fake_launch *launch, fake_stream *stream, uint64_t sequence) {
  launch->view.sequence = sequence;
  mark_in_flight(launch->module, stream);
  CUresult result = run_host_kernel(launch, stream->context);
  fake_launch_record(launch, sequence);
  return result;
}

/* -------------------------------------------------------------------------------- parameters -- */

enum { kExtraEnd = 0, kExtraPointer = 1, kExtraSize = 2 }; /* CU_LAUNCH_PARAM_* */

static CUresult read_extra(void **extra, const void **bytes, size_t *size) {
  *bytes = NULL;
  *size = 0;
  for (int i = 0; i < 3; ++i) {
    uintptr_t key = (uintptr_t)extra[2 * i];
    if (key == kExtraEnd) break;
    if (key == kExtraPointer) {
      *bytes = extra[2 * i + 1];
    } else if (key == kExtraSize && extra[2 * i + 1] != NULL) {
      *size = *(const size_t *)extra[2 * i + 1];
    } else {
      return FAKE_CUDA_ERROR_INVALID_VALUE;
    }
  }
  return FAKE_CUDA_SUCCESS;
}

static CUresult copy_params(fake_launch *launch, const fake_kernel *kernel, void **params,
                            void **extra) {
  char *to = writable(launch->view.params_bytes);
  point_params(launch, kernel->params);
  if (kernel->num_params == 0) return FAKE_CUDA_SUCCESS;
  if ((params == NULL) == (extra == NULL)) return FAKE_CUDA_ERROR_INVALID_VALUE;
  if (extra != NULL) {
    const void *bytes;
    size_t size;
    CUresult result = read_extra(extra, &bytes, &size);
    if (result != 0) return result;
    if (bytes == NULL || size < kernel->params_size) return FAKE_CUDA_ERROR_INVALID_VALUE;
    memcpy(to, bytes, kernel->params_size);
    return FAKE_CUDA_SUCCESS;
  }
  for (uint32_t i = 0; i < kernel->num_params; ++i) {
    if (params[i] == NULL) return FAKE_CUDA_ERROR_INVALID_VALUE;
    memcpy(to + kernel->params[i].offset, params[i], kernel->params[i].size);
  }
  return FAKE_CUDA_SUCCESS;
}

/* ------------------------------------------------------------------------------------- rules -- */

static CUresult check_shape(const fake_request *request, const fake_slot *function,
                            const fake_device *device) {
  const int *attributes = device->attributes;
  uint64_t threads = 1;
  for (int i = 0; i < 3; ++i) {
    int most_grid = attributes[FAKE_CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X + i];
    int most_block = attributes[FAKE_CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X + i];
    if (request->grid[i] == 0 || request->grid[i] > (uint32_t)most_grid || request->block[i] == 0 ||
        request->block[i] > (uint32_t)most_block) {
      return FAKE_CUDA_ERROR_INVALID_VALUE;
    }
    threads *= request->block[i];
  }
  if (threads > function->max_threads) return FAKE_CUDA_ERROR_INVALID_VALUE;
  if (request->shared_bytes > atomic_load(&function->max_dynamic)) {
    return FAKE_CUDA_ERROR_INVALID_VALUE;
  }
  /* Registers are given out to whole warps, 8 a thread at a time. */
  uint64_t warps = (threads + 31) / 32;
  uint64_t registers = warps * 32 * ((function->registers + 7) / 8 * 8);
  int most = attributes[FAKE_CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK];
  return registers > (uint64_t)most ? FAKE_CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES : FAKE_CUDA_SUCCESS;
}

static CUresult check_cluster(fake_request *request, const fake_function *function,
                              const fake_device *device) {
  bool asked = request->cluster[0] != 0;
  if (function->cluster[0] != 0) {
    if (asked && memcmp(request->cluster, function->cluster, sizeof request->cluster) != 0) {
      return FAKE_CUDA_ERROR_INVALID_CLUSTER_SIZE;
    }
    memcpy(request->cluster, function->cluster, sizeof request->cluster);
  } else if (!asked) {
    return function->kernel->explicit_cluster ? FAKE_CUDA_ERROR_INVALID_CLUSTER_SIZE
                                              : FAKE_CUDA_SUCCESS;
  }
  if (device->attributes[FAKE_CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH] == 0) {
    return FAKE_CUDA_ERROR_INVALID_VALUE;
  }
  uint64_t blocks = 1;
  for (int i = 0; i < 3; ++i) {
    blocks *= request->cluster[i];
    if (blocks > kMostCluster) return FAKE_CUDA_ERROR_INVALID_CLUSTER_SIZE;
    if (request->grid[i] % request->cluster[i] != 0) return FAKE_CUDA_ERROR_INVALID_CLUSTER_SIZE;
  }
  uint64_t most = function->non_portable != 0 ? kMostCluster : kPortableCluster;
  return blocks > most ? FAKE_CUDA_ERROR_INVALID_CLUSTER_SIZE : FAKE_CUDA_SUCCESS;
}

static CUresult check_cooperative(const fake_request *request, const fake_function *function,
                                  const fake_device *device) {
  if (!request->cooperative) return FAKE_CUDA_SUCCESS;
  if (device->attributes[FAKE_CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH] == 0) {
    return FAKE_CUDA_ERROR_NOT_SUPPORTED;
  }
  uint64_t blocks = (uint64_t)request->grid[0] * request->grid[1] * request->grid[2];
  uint32_t threads = request->block[0] * request->block[1] * request->block[2];
  uint64_t resident = fake_occupancy(function->handle, threads, request->shared_bytes);
  uint64_t multiprocessors =
      (uint64_t)device->attributes[FAKE_CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT];
  return blocks > resident * multiprocessors ? FAKE_CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE
                                             : FAKE_CUDA_SUCCESS;
}

CUresult fake_request_check(fake_request *request, fake_slot *slot) {
  const fake_function *function = slot->object;
  const fake_device *device = fake_device_of(slot->device);
  CUresult result = check_shape(request, slot, device);
  if (result == 0) result = check_cluster(request, function, device);
  if (result == 0) result = check_cooperative(request, function, device);
  return result;
}

static fake_launch *make(const fake_request *request, fake_slot *slot, CUstream stream) {
  const fake_function *function = slot->object;
  const fake_kernel *kernel = function->kernel;
  fake_launch *launch =
      allocate(request->num_attributes, kernel->num_params, kernel->params_size, kernel->name);
  if (launch == NULL) return NULL;
  pega_fake_driver_launch *view = &launch->view;
  view->function = slot;
  view->context = slot->context;
  view->stream = stream;
  view->device = slot->device;
  view->cooperative = request->cooperative;
  view->programmatic = request->programmatic;
  memcpy(view->grid, request->grid, sizeof view->grid);
  memcpy(view->block, request->block, sizeof view->block);
  memcpy(view->cluster, request->cluster, sizeof view->cluster);
  view->shared_bytes = request->shared_bytes;
  pega_fake_driver_launch_attribute *attributes = writable(view->attributes);
  for (uint32_t i = 0; i < request->num_attributes; ++i) {
    attributes[i].id = (uint32_t)request->attributes[i].id;
    memcpy(attributes[i].value, &request->attributes[i].value, sizeof attributes[i].value);
  }
  launch->function = slot;
  launch->module = function->module;
  return launch;
}

/* Function and stream go together; the current context need not be theirs. */
static CUresult check_places(const fake_slot *slot, const fake_stream *stream) {
  if (slot->context == stream->context) return FAKE_CUDA_SUCCESS;
  ++fake.faults.wrong_context;
  return FAKE_CUDA_ERROR_INVALID_HANDLE;
}

CUresult fake_request_launch(fake_request *request, fake_slot *slot, CUstream handle, void **params,
                             void **extra, uint64_t sequence) {
  if (fake_object(slot, kIsFunction) == NULL) return FAKE_CUDA_ERROR_INVALID_HANDLE;
  fake_stream *stream;
  CUresult result = fake_stream_use(handle, &stream);
  if (result == 0) result = check_places(slot, stream);
  if (result == 0) result = fake_function_load(slot);
  if (result == 0) result = fake_request_check(request, slot);
  if (result != 0) return result;
  fake_launch *launch = make(request, slot, handle);
  if (launch == NULL) return FAKE_CUDA_ERROR_OUT_OF_MEMORY;
  const fake_function *function = slot->object;
  result = copy_params(launch, function->kernel, params, extra);
  if (result != 0) {
    free(launch);
    return result;
  }
  if (stream->capture == NULL) return fake_launch_run(launch, stream, sequence);
  launch->view.captured = true;
  fake_launch *copy = fake_launch_copy(launch);
  if (copy == NULL) result = FAKE_CUDA_ERROR_OUT_OF_MEMORY;
  if (result == 0) {
    result = fake_capture_add(stream->capture, (fake_node){.kind = kNodeLaunch, .launch = copy});
  }
  if (result != 0) {
    free(launch);
    free(copy);
    return result;
  }
  fake_launch_record(launch, sequence);
  return FAKE_CUDA_SUCCESS;
}

CUresult fake_request_attributes(fake_request *request, const CUlaunchAttribute *attributes,
                                 uint32_t count) {
  if (count > kMaxAttributes || (count > 0 && attributes == NULL)) {
    return FAKE_CUDA_ERROR_INVALID_VALUE;
  }
  request->attributes = attributes;
  request->num_attributes = count;
  for (uint32_t i = 0; i < count; ++i) {
    const CUlaunchAttributeValue *value = &attributes[i].value;
    switch (attributes[i].id) {
      case FAKE_CU_LAUNCH_ATTRIBUTE_COOPERATIVE:
        request->cooperative = value->cooperative != 0;
        break;
      case FAKE_CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION:
        if (value->clusterDim.x == 0 || value->clusterDim.y == 0 || value->clusterDim.z == 0) {
          return FAKE_CUDA_ERROR_INVALID_CLUSTER_SIZE;
        }
        request->cluster[0] = value->clusterDim.x;
        request->cluster[1] = value->clusterDim.y;
        request->cluster[2] = value->clusterDim.z;
        break;
      case FAKE_CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION:
        request->programmatic = value->programmaticStreamSerializationAllowed != 0;
        break;
      default:
        if (attributes[i].id < 0 ||
            attributes[i].id > FAKE_CU_LAUNCH_ATTRIBUTE_NVLINK_UTIL_CENTRIC_SCHEDULING) {
          return FAKE_CUDA_ERROR_INVALID_VALUE;
        }
    }
  }
  return FAKE_CUDA_SUCCESS;
}
