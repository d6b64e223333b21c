/* SPDX-License-Identifier: Apache-2.0 */
/* Loading of the kernels of CuTe DSL's plain C objects: once a process, and once for each device. */
#include "pega/cute_module.h"

/* Of CUDA's runtime, declared here so that no headers of CUDA are needed. */
int cudaGetDevice(int *device);

/* Both functions of an object take the addresses of their arguments, the result's last. */
static int load(pega_cute_library *library, int32_t device) {
  int error = 0;
  void **place = &library->library;
  if (library->library == NULL) {
    void *args[] = {&place, &error};
    library->init(args);
    if (error != 0) {
      library->library = NULL;
      return error;
    }
  }
  void *args[] = {&place, &device, &error};
  library->load_to_device(args);
  return error;
}

enum { INVALID_DEVICE = 101, NUM_BITS = 64 };

int pega_cute_prepare(pega_cute_library *library) {
  int device = 0;
  int error = cudaGetDevice(&device);
  if (error != 0) {
    return error;
  }
  /* Without a bit that tells it would be loaded at each call, under the lock. */
  if (device < 0 || device >= NUM_BITS) {
    return INVALID_DEVICE;
  }
  uint64_t bit = UINT64_C(1) << device;
  if ((__atomic_load_n(&library->devices, __ATOMIC_ACQUIRE) & bit) != 0) {
    return 0;
  }
  pthread_mutex_lock(&library->lock);
  if ((library->devices & bit) == 0) {
    error = load(library, device);
    if (error == 0) {
      __atomic_fetch_or(&library->devices, bit, __ATOMIC_RELEASE);
    }
  }
  pthread_mutex_unlock(&library->lock);
  return error;
}
