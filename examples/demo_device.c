/* SPDX-License-Identifier: Apache-2.0 */
#include "demo_device.h"

#include <dlfcn.h>
#include <stdlib.h>

struct demo_device demo_cpu(void) {
  struct demo_device cpu;
  memset(&cpu, 0, sizeof cpu);
  cpu.device = (DLDevice){kDLCPU, 0};
  return cpu;
}

/* A function out of the driver, whatever its type. */
static bool find(void *driver, const char *name, void *out) {
  void *symbol = dlsym(driver, name);
  memcpy(out, &symbol, sizeof symbol);
  return symbol != NULL;
}

bool demo_gpu(struct demo_device *out) {
  int (*init)(unsigned) = NULL;
  int (*get)(int *, int) = NULL;
  int (*retain)(void **, int) = NULL;
  int (*set_current)(void *) = NULL;
  void *context = NULL;
  int device = 0;
  memset(out, 0, sizeof *out);
  out->device = (DLDevice){kDLCUDA, 0};
  out->driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (out->driver == NULL) return false;
  bool found = find(out->driver, "cuInit", &init) && find(out->driver, "cuDeviceGet", &get) &&
               find(out->driver, "cuDevicePrimaryCtxRetain", &retain) &&
               find(out->driver, "cuCtxSetCurrent", &set_current) &&
               find(out->driver, "cuMemAlloc_v2", &out->allocate) &&
               find(out->driver, "cuMemFree_v2", &out->release) &&
               find(out->driver, "cuMemcpyHtoD_v2", &out->copy_in) &&
               find(out->driver, "cuMemcpyDtoH_v2", &out->copy_out) &&
               find(out->driver, "cuCtxSynchronize", &out->synchronize);
  return found && init(0) == 0 && get(&device, 0) == 0 && retain(&context, device) == 0 &&
         set_current(context) == 0;
}

void *demo_device_copy(const struct demo_device *where, const void *from, size_t size) {
  if (where->driver == NULL) {
    void *memory = aligned_alloc(64, (size + 63) / 64 * 64);
    if (memory != NULL && from != NULL) memcpy(memory, from, size);
    return memory;
  }
  uint64_t memory = 0;
  if (where->allocate(&memory, size) != 0) return NULL;
  if (from != NULL && where->copy_in(memory, from, size) != 0) {
    where->release(memory);
    return NULL;
  }
  return (void *)(uintptr_t)memory;
}

void demo_device_free(const struct demo_device *where, void *memory) {
  if (where->driver == NULL) {
    free(memory);
  } else if (memory != NULL) {
    where->release((uint64_t)(uintptr_t)memory);
  }
}

void demo_device_wait(const struct demo_device *where) {
  if (where->driver != NULL) where->synchronize();
}

bool demo_device_read(const struct demo_device *where, void *to, const void *memory, size_t size) {
  if (where->driver == NULL) {
    memcpy(to, memory, size);
    return true;
  }
  return where->synchronize() == 0 && where->copy_out(to, (uint64_t)(uintptr_t)memory, size) == 0;
}
