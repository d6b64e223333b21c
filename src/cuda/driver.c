/* SPDX-License-Identifier: Apache-2.0 */
#include "driver.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

typedef int (*cu_init_fn)(unsigned flags);
typedef int (*cu_device_get_count_fn)(int *count);

static pthread_once_t driver_once = PTHREAD_ONCE_INIT;
static pega_status driver_status; /* these three are written inside driver_once alone */
static int driver_result;         /* the driver's own code, 0 where it was not asked */
static char driver_text[512];

static void refuse(const char *what, const char *detail, int result) {
  driver_status = PEGA_ERROR_UNAVAILABLE;
  driver_result = result;
  if (detail != NULL) {
    snprintf(driver_text, sizeof driver_text, "%s: %s", what, detail);
  } else {
    snprintf(driver_text, sizeof driver_text, "%s (CUresult %d)", what, result);
  }
}

static void open_driver(void) {
  void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) {
    const char *why = dlerror();
    refuse("no CUDA driver: libcuda.so.1 could not be opened",
           why == NULL ? "no reason given" : why, 0);
    return;
  }
  cu_init_fn init;
  cu_device_get_count_fn get_count;
  *(void **)&init = dlsym(library, "cuInit");
  *(void **)&get_count = dlsym(library, "cuDeviceGetCount");
  if (init == NULL || get_count == NULL) {
    refuse("libcuda.so.1 is no CUDA driver", "it lacks cuInit or cuDeviceGetCount", 0);
    return;
  }
  int result = init(0);
  if (result != kCudaSuccess) {
    refuse("the CUDA driver did not start: cuInit failed", NULL, result);
    return;
  }
  int count = 0;
  result = get_count(&count);
  if (result != kCudaSuccess) {
    refuse("the CUDA driver could not count devices: cuDeviceGetCount failed", NULL, result);
  } else if (count == 0) {
    refuse("the CUDA driver is there", "it has no device", 0);
  }
}

pega_status pega_cuda_driver_open(pega_error *error) {
  pthread_once(&driver_once, open_driver);
  if (driver_status == PEGA_OK) return PEGA_OK;
  pega_error_set(error, driver_status, NULL,
                 "%s; install the NVIDIA driver to run on a GPU, or call the tensor form on "
                 "CPU tensors",
                 driver_text);
  if (error != NULL) error->code = driver_result;
  return driver_status;
}

int pega_cuda_result(pega_status status, const pega_error *error) {
  switch (status) {
    case PEGA_OK:
      return kCudaSuccess;
    case PEGA_ERROR_UNAVAILABLE:
      return error != NULL && error->code != 0 ? error->code : kCudaErrorNoDevice;
    case PEGA_ERROR_UNSUPPORTED:
      return kCudaErrorNotSupported;
    case PEGA_ERROR_OUT_OF_MEMORY:
      return kCudaErrorOutOfMemory;
    case PEGA_ERROR_DRIVER:
      return error != NULL && error->code != 0 ? error->code : kCudaErrorUnknown;
    case PEGA_ERROR_INTERNAL:
      return kCudaErrorUnknown;
    default:
      return kCudaErrorInvalidValue;
  }
}
