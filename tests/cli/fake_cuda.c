/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A CUDA driver with no GPU behind it, for the tests of `pega doctor`. FAKE_CUDA says what it does:
 * "two" devices, "none", or "broken" in cuInit. Compiled with FAKE_CUDA_OLD it lacks a symbol.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

static int is(const char *what) {
  const char *mode = getenv("FAKE_CUDA");
  return mode != NULL && strcmp(mode, what) == 0;
}

EXPORT int cuDriverGetVersion(int *version);
int cuDriverGetVersion(int *version) {
  *version = 13010;
  return 0;
}

EXPORT int cuInit(unsigned flags);
int cuInit(unsigned flags) {
  (void)flags;
  return is("none") ? 100 : is("broken") ? 999 : 0;
}

EXPORT int cuGetErrorName(int result, const char **name);
int cuGetErrorName(int result, const char **name) {
  *name = result == 100 ? "CUDA_ERROR_NO_DEVICE" : "CUDA_ERROR_UNKNOWN";
  return 0;
}

EXPORT int cuGetErrorString(int result, const char **text);
int cuGetErrorString(int result, const char **text) {
  *text = result == 100 ? "no CUDA-capable device is detected" : "unknown error";
  return 0;
}

EXPORT int cuDeviceGetCount(int *count);
int cuDeviceGetCount(int *count) {
  *count = 2;
  return 0;
}

EXPORT int cuDeviceGet(int *device, int ordinal);
int cuDeviceGet(int *device, int ordinal) {
  *device = ordinal + 40;
  return 0;
}

EXPORT int cuDeviceGetName(char *name, int size, int device);
int cuDeviceGetName(char *name, int size, int device) {
  (void)snprintf(name, (size_t)size, "Fake GPU %d", device);
  return 0;
}

EXPORT int cuDeviceGetAttribute(int *value, int attribute, int device);
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  *value = attribute == 75 ? device - 31 : attribute == 76 ? 3 : -1;
  return 0;
}

#ifndef FAKE_CUDA_OLD
EXPORT int cuDeviceTotalMem_v2(size_t *bytes, int device);
int cuDeviceTotalMem_v2(size_t *bytes, int device) {
  *bytes = (size_t)85899345920U + (size_t)device;
  return 0;
}
#endif
