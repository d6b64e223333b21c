/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A CUDA driver that is of no use, for the tests of `pega doctor`. FAKE_CUDA says what cuInit does:
 * "none" finds no device, "broken" fails, "textless"
 * fails with a code that it has no text for; else it is one that is too old, without cuGetProcAddress.
 */
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

static int is(const char *what) {
  const char *mode = getenv("FAKE_CUDA");
  return mode != NULL && strcmp(mode, what) == 0;
}

EXPORT int cuDriverGetVersion(int *version);
int cuDriverGetVersion(int *version) {
  *version = 10020;
  return 0;
}

EXPORT int cuInit(unsigned flags);
int cuInit(unsigned flags) {
  (void)flags;
  return is("none") ? 100 : is("broken") || is("textless") ? 999 : 0;
}

EXPORT int cuGetErrorName(int result, const char **name);
int cuGetErrorName(int result, const char **name) {
  *name = result == 100 ? "CUDA_ERROR_NO_DEVICE" : "CUDA_ERROR_UNKNOWN";
  return 0;
}

EXPORT int cuGetErrorString(int result, const char **text);
int cuGetErrorString(int result, const char **text) {
  if (is("textless")) return cuGetErrorName(result, text);
  *text = result == 100 ? "no CUDA-capable device is detected" : "unknown error";
  return 0;
}

EXPORT int cuDeviceGetCount(int *count);
int cuDeviceGetCount(int *count) {
  *count = 2;
  return 0;
}
