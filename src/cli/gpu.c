/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

gpu_driver gpu;

static char reason[512];

static const char *refuse(const char *what, const char *detail) {
  snprintf(reason, sizeof reason, "%s%s", what, detail == NULL ? "" : detail);
  return reason;
}

/* The first required symbol that is missing, or NULL. */
static const char *resolve(void) {
  const char *missing = NULL;
  void *address;
#define RESOLVE(member, symbol, parameters)         \
  address = dlsym(gpu.library, #symbol);            \
  memcpy(&gpu.member, &address, sizeof gpu.member); \
  if (address == NULL && missing == NULL) missing = #symbol;
  GPU_ENTRY_POINTS(RESOLVE)
#undef RESOLVE
#define RESOLVE(member, symbol, parameters) \
  address = dlsym(gpu.library, #symbol);    \
  memcpy(&gpu.member, &address, sizeof gpu.member);
  GPU_OPTIONAL_ENTRY_POINTS(RESOLVE)
#undef RESOLVE
  return missing;
}

const char *gpu_open(void) {
  gpu.library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (gpu.library == NULL) return refuse("no CUDA driver: ", dlerror());
  const char *missing = resolve();
  if (missing != NULL)
    return refuse("libcuda.so.1 is no driver that can be used: it lacks ", missing);
  gpu.fake = dlsym(gpu.library, "pega_fake_driver_reset") != NULL;
  CUresult result = gpu.init(0);
  if (result != 0) return refuse("the CUDA driver does not start: ", gpu_result_name(result));
  int count = 0;
  if (gpu.device_count(&count) != 0 || count == 0) return refuse("there is no CUDA device", NULL);
  if (gpu.driver_version(&gpu.version) != 0) gpu.version = 0;
  if (gpu.device_name(gpu.name, (int)sizeof gpu.name, 0) != 0) gpu.name[0] = '\0';
  return NULL;
}

CUresult gpu_context_create(CUcontext *out) {
  if (gpu.context_create_v2 != NULL) return gpu.context_create_v2(out, 0, 0);
  return gpu.context_create_v4 != NULL ? gpu.context_create_v4(out, NULL, 0, 0) : GPU_NOT_SUPPORTED;
}

const char *gpu_result_name(CUresult result) {
  const char *name = NULL;
  return gpu.error_name(result, &name) == 0 && name != NULL ? name : "unknown CUresult";
}
