/* SPDX-License-Identifier: Apache-2.0 */
/* A library that uses CUDA, for test_c_library_cuda.c: tells where it was called. */
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

extern int cuCtxGetDevice(int *device);
extern int cuCtxSetCurrent(void *context);

EXPORT int cuda_fixture_where(const void *x, void *stream, int64_t *out);
int cuda_fixture_where(const void *x, void *stream, int64_t *out) {
  int device = -1;
  const int code = cuCtxGetDevice(&device);
  out[0] = code == 0 ? device : -code;
  out[1] = (int64_t)(intptr_t)stream;
  out[2] = (int64_t)(intptr_t)x;
  return 0;
}

EXPORT int cuda_fixture_forget(const void *x);
int cuda_fixture_forget(const void *x) {
  (void)x;
  return cuCtxSetCurrent(0);
}

EXPORT int cuda_fixture_fail(int code);
int cuda_fixture_fail(int code) { return code; }
