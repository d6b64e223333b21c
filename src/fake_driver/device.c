/* SPDX-License-Identifier: Apache-2.0 */
/* Starting the driver, and what it says of devices. */
#include <stdio.h>
#include <string.h>

#include "fake.h"

fake_device *fake_device_of(int device) {
  return device >= 0 && device < fake.num_devices ? &fake.devices[device] : NULL;
}

static CUresult init(unsigned flags) {
  if (atomic_load(&fake_forked) != 0) return FAKE_CUDA_ERROR_NOT_INITIALIZED;
  if (fake.bad_configuration) return FAKE_CUDA_ERROR_UNKNOWN;
  if (flags != 0) return FAKE_CUDA_ERROR_INVALID_VALUE;
  if (fake.num_devices == 0) return FAKE_CUDA_ERROR_NO_DEVICE;
  fake.initialised = true;
  fake_update_slow();
  return FAKE_CUDA_SUCCESS;
}

CUresult cuInit(unsigned flags) {
  fake_watch_forks(); /* before the lock, which the handlers take */
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuInit);
  if (result == 0) result = init(flags);
  return fake_leave(&call, result);
}

CUresult cuDriverGetVersion(int *version) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuDriverGetVersion);
  if (result == 0 && version == NULL) result = FAKE_CUDA_ERROR_INVALID_VALUE;
  if (result == 0) *version = fake.driver_version;
  return fake_leave(&call, result);
}

CUresult cuDeviceGetCount(int *count) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuDeviceGetCount);
  if (result == 0 && count == NULL) result = FAKE_CUDA_ERROR_INVALID_VALUE;
  if (result == 0) *count = fake.num_devices;
  return fake_leave(&call, result);
}

CUresult cuDeviceGet(CUdevice *out, int ordinal) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuDeviceGet);
  if (result == 0 && out == NULL) result = FAKE_CUDA_ERROR_INVALID_VALUE;
  if (result == 0 && fake_device_of(ordinal) == NULL) result = FAKE_CUDA_ERROR_INVALID_DEVICE;
  if (result == 0) *out = ordinal;
  return fake_leave(&call, result);
}

/* A valid device and somewhere to write, or why not. */
static CUresult check(const void *out, CUdevice device, const fake_device **found) {
  if (out == NULL) return FAKE_CUDA_ERROR_INVALID_VALUE;
  *found = fake_device_of(device);
  return *found == NULL ? FAKE_CUDA_ERROR_INVALID_DEVICE : FAKE_CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *out, int size, CUdevice device) {
  fake_call call;
  const fake_device *it;
  CUresult result = fake_enter(&call, FAKE_cuDeviceGetName);
  if (result == 0) result = check(out, device, &it);
  if (result == 0 && size <= 0) result = FAKE_CUDA_ERROR_INVALID_VALUE;
  if (result == 0) snprintf(out, (size_t)size, "%s", it->name);
  return fake_leave(&call, result);
}

CUresult cuDeviceGetAttribute(int *out, int attribute, CUdevice device) {
  fake_call call;
  const fake_device *it;
  CUresult result = fake_enter(&call, FAKE_cuDeviceGetAttribute);
  if (result == 0) result = check(out, device, &it);
  if (result == 0 && (attribute < 1 || attribute >= kNumAttributes)) {
    result = FAKE_CUDA_ERROR_INVALID_VALUE;
  }
  if (result == 0) *out = it->attributes[attribute];
  return fake_leave(&call, result);
}

CUresult cuDeviceTotalMem_v2(size_t *out, CUdevice device) {
  fake_call call;
  const fake_device *it;
  CUresult result = fake_enter(&call, FAKE_cuDeviceTotalMem_v2);
  if (result == 0) result = check(out, device, &it);
  if (result == 0) *out = it->total_memory;
  return fake_leave(&call, result);
}

static CUresult get_uuid(CUuuid *out, CUdevice device) {
  const fake_device *it;
  CUresult result = check(out, device, &it);
  if (result != 0) return result;
  static const char kText[15] = "pega fake GPU ";
  memcpy(out->bytes, kText, sizeof kText);
  out->bytes[15] = (unsigned char)device;
  return FAKE_CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid(CUuuid *out, CUdevice device) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuDeviceGetUuid);
  if (result == 0) result = get_uuid(out, device);
  return fake_leave(&call, result);
}

CUresult cuDeviceGetUuid_v2(CUuuid *out, CUdevice device) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuDeviceGetUuid_v2);
  if (result == 0) result = get_uuid(out, device);
  return fake_leave(&call, result);
}
