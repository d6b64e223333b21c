/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <stdlib.h>

#include "cubin.h"

CUcontext context;
CUmodule module;
CUfunction add;
CUfunction plain;
CUfunction heavy;
CUstream stream;

static unsigned char *bytes;

const unsigned char *image(void) {
  static const cubin_kernel kKernels[] = {
      {.name = "add", .num_params = 3, .params = {{0, 8}, {8, 4}, {12, 4}}, .registers = 10},
      {.name = "plain", .registers = 8, .shared = 400},
      {.name = "heavy", .registers = 255, .max_threads = 256, .cluster = {2, 1, 1}},
  };
  if (bytes == NULL) bytes = cubin_make(90, kKernels, 3, NULL);
  return bytes;
}

void begin_bare(const char *text) {
  ok(pega_fake_driver_configure(text));
  ok(cuInit(0));
  ok(cuDevicePrimaryCtxRetain(&context, 0));
  ok(cuCtxPushCurrent_v2(context));
  ok(cuStreamCreate(&stream, FAKE_CU_STREAM_NON_BLOCKING));
}

void begin(const char *text) {
  begin_bare(text);
  ok(cuModuleLoadData(&module, image()));
  ok(cuModuleGetFunction(&add, module, "add"));
  ok(cuModuleGetFunction(&plain, module, "plain"));
  ok(cuModuleGetFunction(&heavy, module, "heavy"));
}

int set_up(void **state) {
  (void)state;
  begin(NULL);
  return 0;
}

int tear_down(void **state) {
  (void)state;
  pega_fake_driver_reset();
  free(bytes);
  bytes = NULL;
  return 0;
}

CUresult launch_plain(CUstream where) {
  return cuLaunchKernel(plain, 1, 1, 1, 32, 1, 1, 0, where, NULL, NULL);
}

CUresult launch_add(CUstream where, CUdeviceptr y, float a, int n) {
  void *params[] = {&y, &a, &n};
  return cuLaunchKernel(add, 2, 3, 4, 32, 2, 1, 64, where, params, NULL);
}

pega_fake_driver_live_counts live(void) {
  pega_fake_driver_live_counts counts;
  pega_fake_driver_live(&counts);
  return counts;
}

pega_fake_driver_fault_counts faults(void) {
  pega_fake_driver_fault_counts counts;
  pega_fake_driver_faults(&counts);
  return counts;
}
