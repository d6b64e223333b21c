/* SPDX-License-Identifier: Apache-2.0 */
#include "device.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/options.h"
#include "core/text.h"

enum { kClusterDriver = 11080 }; /* the first that knows of clusters */

static pega_cuda_mutex devices_mutex = PEGA_CUDA_MUTEX_INIT;
static pega_cuda_device devices[kMaxDevices];
static atomic_bool known[kMaxDevices]; /* the device's attributes are in place */

typedef struct interned_name {
  struct interned_name *next;
  char text[];
} interned_name;
static interned_name *names[256]; /* by hash, under devices_mutex */

/* Asks the driver for what a device is. */
static pega_status ask(const pega_cuda_driver *driver, const char *where, int32_t ordinal,
                       pega_cuda_device *out, pega_error *error) {
  CUresult result = driver->cuDeviceGet(&out->handle, ordinal);
  if (result != kCudaSuccess) return pega_cuda_fail(where, "cuDeviceGet", result, NULL, error);
  enum {
    MAJOR,
    MINOR,
    PROCESSORS,
    SHARED,
    GRID_X,
    GRID_Y,
    GRID_Z,
    CLUSTER,
    COOPERATIVE,
    POOLS,
    COUNT
  };
  static const int attributes[COUNT] = {kDeviceComputeMajor,      kDeviceComputeMinor,
                                        kDeviceMultiprocessors,   kDeviceMaxSharedOptin,
                                        kDeviceMaxGridDimX,       kDeviceMaxGridDimX + 1,
                                        kDeviceMaxGridDimX + 2,   kDeviceClusterLaunch,
                                        kDeviceCooperativeLaunch, kDeviceMemoryPools};
  int values[COUNT] = {0};
  for (int i = 0; i < COUNT; ++i) {
    result = driver->cuDeviceGetAttribute(&values[i], attributes[i], out->handle);
    /* A driver that is older than an attribute does not know it: the device then lacks the feature. */
    if (result == kCudaErrorInvalidValue && i == CLUSTER && driver->version < kClusterDriver) {
      values[i] = 0;
    } else if (result != kCudaSuccess) {
      return pega_cuda_fail(where, "cuDeviceGetAttribute", result, NULL, error);
    }
  }
  out->ordinal = ordinal;
  out->compute_capability = values[MAJOR] * 10 + values[MINOR];
  out->multiprocessors = values[PROCESSORS];
  out->max_shared = values[SHARED] > 0 ? (uint32_t)values[SHARED] : 0;
  for (int i = 0; i < 3; ++i) {
    out->max_grid[i] = values[GRID_X + i] > 0 ? (uint32_t)values[GRID_X + i] : 0;
  }
  out->clusters = values[CLUSTER] != 0;
  out->cooperative = values[COOPERATIVE] != 0;
  out->memory_pools = values[POOLS] != 0;
  return PEGA_OK;
}

pega_status pega_cuda_device_get(const pega_cuda_driver *driver, const char *where, int32_t ordinal,
                                 pega_cuda_device **out, pega_error *error) {
  int32_t count = driver->num_devices < kMaxDevices ? driver->num_devices : kMaxDevices;
  if (ordinal < 0 || ordinal >= count) {
    return pega_error_set(error, PEGA_ERROR_DEVICE, NULL,
                          "%s: there is no cuda:%" PRId32 ": expected 0 to %" PRId32, where,
                          ordinal, count - 1);
  }
  if (!atomic_load_explicit(&known[ordinal], memory_order_acquire)) {
    pega_cuda_device asked;
    memset(&asked, 0, sizeof asked);
    pega_status status = ask(driver, where, ordinal, &asked, error);
    if (status != PEGA_OK) return status;
    pega_cuda_lock(&devices_mutex);
    if (!atomic_load_explicit(&known[ordinal], memory_order_relaxed)) {
      pega_cuda_device *device = &devices[ordinal];
      device->ordinal = asked.ordinal;
      device->handle = asked.handle;
      device->compute_capability = asked.compute_capability;
      device->multiprocessors = asked.multiprocessors;
      memcpy(device->max_grid, asked.max_grid, sizeof device->max_grid);
      device->max_shared = asked.max_shared;
      device->clusters = asked.clusters;
      device->cooperative = asked.cooperative;
      device->memory_pools = asked.memory_pools;
      atomic_store_explicit(&known[ordinal], true, memory_order_release);
    }
    pega_cuda_unlock(&devices_mutex);
  }
  *out = &devices[ordinal];
  return PEGA_OK;
}

pega_status pega_cuda_device_of(const pega_cuda_driver *driver, const char *where, DLDevice device,
                                pega_cuda_device **out, pega_error *error) {
  if ((int)device.device_type != kDLCUDA && (int)device.device_type != kDLCUDAManaged) {
    char name[PEGA_NAME_SIZE];
    return pega_error_set(error, PEGA_ERROR_DEVICE, NULL, "%s: expected a cuda device, got %s",
                          where, pega_device_name(device, name));
  }
  return pega_cuda_device_get(driver, where, device.device_id, out, error);
}

pega_status pega_cuda_device_primary(const pega_cuda_driver *driver, const char *where,
                                     pega_cuda_device *device, CUcontext *out, pega_error *error) {
  *out = atomic_load_explicit(&device->primary, memory_order_acquire);
  if (*out != NULL) return PEGA_OK;
  pega_cuda_lock(&devices_mutex);
  CUresult result = kCudaSuccess;
  *out = atomic_load_explicit(&device->primary, memory_order_relaxed);
  if (*out == NULL) {
    result = driver->cuDevicePrimaryCtxRetain(out, device->handle);
    if (result == kCudaSuccess) {
      atomic_store_explicit(&device->primary, *out, memory_order_release);
    } else {
      *out = NULL;
    }
  }
  pega_cuda_unlock(&devices_mutex);
  if (result == kCudaSuccess) return PEGA_OK;
  pega_cuda_note_result(device, result, where);
  return pega_cuda_fail(where, "cuDevicePrimaryCtxRetain", result, NULL, error);
}

pega_status pega_cuda_devices_release(const pega_cuda_driver *driver, pega_error *error) {
  pega_status status = PEGA_OK;
  pega_cuda_lock(&devices_mutex);
  for (int i = 0; i < kMaxDevices; ++i) {
    pega_cuda_device *device = &devices[i];
    if (atomic_load_explicit(&device->primary, memory_order_relaxed) != NULL) {
      CUresult result = driver->cuDevicePrimaryCtxRelease(device->handle);
      if (result == kCudaSuccess || atomic_load(&device->sticky) != 0) {
        atomic_store_explicit(&device->primary, NULL, memory_order_release);
      } else if (status == PEGA_OK) {
        /* Still ours: the next close tries again. */
        status =
            pega_cuda_fail("pega_cuda_close", "cuDevicePrimaryCtxRelease", result, NULL, error);
      }
    }
    atomic_store_explicit(&device->sticky, 0, memory_order_release);
    for (int k = 0; k < kGoodPlaces; ++k) {
      atomic_store_explicit(&device->good[k].name, NULL, memory_order_relaxed);
    }
  }
  pega_cuda_unlock(&devices_mutex);
  return status;
}

pega_status pega_cuda_enter(const pega_cuda_driver *driver, const char *where, CUcontext context,
                            pega_cuda_guard *guard, pega_error *error) {
  guard->pushed = false;
  CUresult result = driver->cuCtxGetCurrent(&guard->before);
  if (result != kCudaSuccess) return pega_cuda_fail(where, "cuCtxGetCurrent", result, NULL, error);
  if (guard->before == context) return PEGA_OK;
  result = driver->cuCtxPushCurrent(context);
  if (result != kCudaSuccess) return pega_cuda_fail(where, "cuCtxPushCurrent", result, NULL, error);
  guard->pushed = true;
  return PEGA_OK;
}

pega_status pega_cuda_leave(const pega_cuda_driver *driver, const char *where,
                            const pega_cuda_guard *guard, pega_status status, pega_error *error) {
  if (!guard->pushed) return status;
  CUcontext popped;
  CUresult result = driver->cuCtxPopCurrent(&popped);
  if (result == kCudaSuccess) return status;
  /* A context that is beyond use may refuse to be popped; the caller's must be current all the same. */
  CUcontext current;
  if (driver->cuCtxGetCurrent(&current) == kCudaSuccess && current == guard->before) return status;
  if (driver->cuCtxPopCurrent(&popped) == kCudaSuccess ||
      driver->cuCtxSetCurrent(guard->before) == kCudaSuccess) {
    return status;
  }
  if (status != PEGA_OK) return status;
  return pega_cuda_fail(where, "cuCtxPopCurrent", result,
                        "the work was done, but the context that was current could not be restored",
                        error);
}

/* Errors of which cuda.h says that the process must end to continue using CUDA. */
static bool sticky(CUresult result) {
  switch (result) {
    case kCudaErrorEccUncorrectable:
    case kCudaErrorNvlinkUncorrectable:
    case kCudaErrorContained:
    case kCudaErrorIllegalAddress:
    case kCudaErrorLaunchTimeout:
    case kCudaErrorAssert:
    case kCudaErrorHardwareStackError:
    case kCudaErrorIllegalInstruction:
    case kCudaErrorMisalignedAddress:
    case kCudaErrorInvalidAddressSpace:
    case kCudaErrorInvalidPc:
    case kCudaErrorLaunchFailed:
    case kCudaErrorTensorMemoryLeak:
    case kCudaErrorExternalDevice:
      return true;
    default:
      return false;
  }
}

pega_status pega_cuda_enter_device(const char *where, int32_t ordinal,
                                   const pega_cuda_driver **driver, pega_cuda_device **device,
                                   pega_cuda_guard *guard, pega_error *error) {
  CUcontext context = NULL;
  CUdevice handle = 0;
  pega_status status = pega_cuda_driver_get(driver, error);
  if (status == PEGA_OK) {
    status = pega_cuda_device_get(*driver, where, ordinal, device, error);
  }
  if (status != PEGA_OK) return status;
  if ((*driver)->cuCtxGetCurrent(&context) == kCudaSuccess && context != NULL &&
      (context == atomic_load_explicit(&(*device)->primary, memory_order_acquire) ||
       ((*driver)->cuCtxGetDevice(&handle) == kCudaSuccess && handle == (*device)->handle))) {
    *guard = (pega_cuda_guard){context, false};
    return PEGA_OK;
  }
  status = pega_cuda_device_primary(*driver, where, *device, &context, error);
  return status == PEGA_OK ? pega_cuda_enter(*driver, where, context, guard, error) : status;
}

void pega_cuda_note_result(pega_cuda_device *device, CUresult result, const char *name) {
  if (!sticky(result)) return;
  pega_cuda_lock(&devices_mutex);
  if (atomic_load_explicit(&device->sticky, memory_order_relaxed) == 0) {
    snprintf(device->failed, sizeof device->failed, "%s", name);
    atomic_store_explicit(&device->sticky, result, memory_order_release);
  }
  pega_cuda_unlock(&devices_mutex);
}

/* This thread's, or, where it has none, another's; NULL for none. */
static const char *last_good(const pega_cuda_device *device) {
  const unsigned own = pega_cuda_good_place();
  const char *name = NULL;
  for (unsigned k = 0; k < kGoodPlaces && name == NULL; ++k) {
    name = atomic_load_explicit(&device->good[(own + k) % kGoodPlaces].name, memory_order_relaxed);
  }
  return name;
}

pega_status pega_cuda_refuse_sticky(const char *where, const pega_cuda_device *device,
                                    pega_error *error) {
  char text[256];
  CUresult code = atomic_load_explicit(&device->sticky, memory_order_acquire);
  const char *good = last_good(device);
  pega_error_set(
      error, PEGA_ERROR_DRIVER, NULL,
      "%s: nothing was launched: cuda:%" PRId32
      " cannot be used since %s met %s; the last "
      "launch that went well was %s; start a new process, or try pega_cuda_close() once all work on "
      "the GPU has stopped: some drivers never recover in the same process",
      where, device->ordinal, device->failed, pega_cuda_result_text(code, text, sizeof text),
      good == NULL ? "none" : good);
  if (error != NULL) error->code = code;
  return PEGA_ERROR_DRIVER;
}

const char *pega_cuda_intern(const char *name) {
  interned_name **first = &names[pega_text_hash(name) % (sizeof names / sizeof *names)];
  pega_cuda_lock(&devices_mutex);
  interned_name *at = *first;
  while (at != NULL && strcmp(at->text, name) != 0) at = at->next;
  if (at == NULL) {
    size_t size = strlen(name) + 1;
    at = malloc(sizeof *at + size);
    if (at != NULL) {
      memcpy(at->text, name, size);
      at->next = *first;
      *first = at;
    }
  }
  pega_cuda_unlock(&devices_mutex);
  return at == NULL ? NULL : at->text;
}

static pega_status bad_struct(const char *function, uint32_t size, size_t expected,
                              pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_VERSION, NULL,
                        "%s: out is NULL or its struct_size %" PRIu32
                        " is less than %zu: set it to "
                        "the size of the struct before the call",
                        function, size, expected);
}

pega_status pega_device_count(int32_t *out, pega_error *error) {
  if (out == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_device_count: out is NULL");
  }
  const pega_cuda_driver *driver;
  pega_status status = pega_cuda_driver_get(&driver, error);
  if (status == PEGA_OK)
    *out = driver->num_devices < kMaxDevices ? driver->num_devices : kMaxDevices;
  return status;
}

pega_status pega_device_query(DLDevice device, pega_device_info *out, pega_error *error) {
  static const char where[] = "pega_device_query";
  if (out == NULL || out->struct_size < sizeof *out) {
    return bad_struct(where, out == NULL ? 0 : out->struct_size, sizeof *out, error);
  }
  const pega_cuda_driver *driver;
  pega_cuda_device *known_device;
  pega_status status = pega_cuda_driver_get(&driver, error);
  if (status == PEGA_OK) status = pega_cuda_device_of(driver, where, device, &known_device, error);
  if (status != PEGA_OK) return status;
  pega_device_info info;
  memset(&info, 0, sizeof info);
  size_t bytes = 0;
  CUresult result =
      driver->cuDeviceGetName(info.name, (int)sizeof info.name - 1, known_device->handle);
  if (result != kCudaSuccess) return pega_cuda_fail(where, "cuDeviceGetName", result, NULL, error);
  result = driver->cuDeviceTotalMem(&bytes, known_device->handle);
  if (result != kCudaSuccess) return pega_cuda_fail(where, "cuDeviceTotalMem", result, NULL, error);
  info.struct_size = out->struct_size;
  info.ordinal = known_device->ordinal;
  info.compute_capability = known_device->compute_capability;
  info.multiprocessors = known_device->multiprocessors;
  info.max_shared_memory = known_device->max_shared;
  info.total_memory = (int64_t)bytes;
  info.driver_version = driver->version;
  *out = info;
  return PEGA_OK;
}

pega_status pega_device_health(DLDevice device, pega_device_health_info *out, pega_error *error) {
  static const char where[] = "pega_device_health";
  if (out == NULL || out->struct_size < sizeof *out) {
    return bad_struct(where, out == NULL ? 0 : out->struct_size, sizeof *out, error);
  }
  const pega_cuda_driver *driver;
  pega_cuda_device *known_device;
  pega_status status = pega_cuda_driver_get(&driver, error);
  if (status == PEGA_OK) status = pega_cuda_device_of(driver, where, device, &known_device, error);
  if (status != PEGA_OK) return status;
  pega_device_health_info info;
  memset(&info, 0, sizeof info);
  info.struct_size = out->struct_size;
  info.code = atomic_load_explicit(&known_device->sticky, memory_order_acquire);
  if (info.code != 0) {
    const char *name = NULL;
    if (driver->cuGetErrorName(info.code, &name) != kCudaSuccess || name == NULL) name = "unknown";
    snprintf(info.code_name, sizeof info.code_name, "%s", name);
    snprintf(info.failed, sizeof info.failed, "%s", known_device->failed);
  }
  const char *good = last_good(known_device);
  if (good != NULL) snprintf(info.last_good, sizeof info.last_good, "%s", good);
  *out = info;
  return PEGA_OK;
}
