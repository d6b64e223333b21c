/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the two cold-start programs share: memory, one chunk solved, its result looked at. Each prints the
 * nanoseconds from having a context to having the result, and ends with 0 if the result is right.
 */
#ifndef PEGA_CLI_COLD_START_H_
#define PEGA_CLI_COLD_START_H_

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "gpu.h"

enum { COLD_IN_BYTES = 64 * 64 * 4, COLD_OUT_BYTES = 64 * 64 * 2 };

static inline double cold_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static inline void cold_must(CUresult result, const char *call) {
  if (result == 0) return;
  fprintf(stderr, "%s: %d\n", call, result);
  exit(1);
}

/* One chunk whose A is 0: its inverse is I. */
static inline void cold_begin(CUdeviceptr *a_tril, CUdeviceptr *a_inv) {
  CUcontext context;
  const char *why = gpu_open();
  if (why != NULL) {
    fprintf(stderr, "%s\n", why);
    exit(1);
  }
  cold_must(gpu.primary_retain(&context, 0), "cuDevicePrimaryCtxRetain");
  cold_must(gpu.context_set(context), "cuCtxSetCurrent");
  cold_must(gpu.alloc(a_tril, COLD_IN_BYTES), "cuMemAlloc");
  cold_must(gpu.alloc(a_inv, COLD_OUT_BYTES), "cuMemAlloc");
  cold_must(gpu.set_bytes(*a_tril, 0, COLD_IN_BYTES), "cuMemsetD8");
  cold_must(gpu.set_bytes(*a_inv, 0xff, COLD_OUT_BYTES), "cuMemsetD8");
}

static inline int cold_end(CUdeviceptr a_inv, double start) {
  static uint16_t got[64 * 64];
  cold_must(gpu.copy_out(got, a_inv, COLD_OUT_BYTES), "cuMemcpyDtoH");
  printf("%.0f\n", cold_now() - start);
  for (int i = 0; i < 64 * 64; ++i) {
    /* Below the diagonal 0 may be -0. */
    const uint16_t expected = i / 64 == i % 64 ? 0x3f80 : 0;
    if ((expected == 0 ? got[i] & 0x7fff : got[i]) != expected) return gpu.fake ? 0 : 1;
  }
  return 0;
}

#endif /* PEGA_CLI_COLD_START_H_ */
