/* SPDX-License-Identifier: Apache-2.0 */
/* CUDA devices: what they are, their primary contexts, their health. */
#ifndef PEGA_CUDA_DEVICE_H_
#define PEGA_CUDA_DEVICE_H_

#include <stdatomic.h>

#include "driver.h"

enum { kMaxDevices = 64, kGoodPlaces = 16 };

/* What was launched last without an error. Threads mostly have different ones, each on a line of its own: many
 * that launch different functions would else write one line at every launch. */
typedef struct pega_cuda_good {
  _Alignas(64) _Atomic(const char *) name; /* interned */
} pega_cuda_good;

typedef struct pega_cuda_device {
  int32_t ordinal;
  CUdevice handle;
  int32_t compute_capability; /* 90 */
  int32_t multiprocessors;
  uint32_t max_grid[3];
  uint32_t max_shared; /* bytes a block, after opting in */
  bool clusters, cooperative, memory_pools;
  _Atomic(CUcontext) primary; /* retained; NULL until first used and after pega_cuda_close() */
  _Atomic int sticky;         /* first sticky CUresult, 0 while well; read by every launch */
  char failed[256];           /* which function met it; written before `sticky` */
  pega_cuda_good good[kGoodPlaces]; /* of pega_cuda_good_place() */
} pega_cuda_device;

/* The device of an ordinal, its attributes asked for once. `where` begins error texts. */
pega_status pega_cuda_device_get(const pega_cuda_driver *driver, const char *where, int32_t ordinal,
                                 pega_cuda_device **out, pega_error *error);

/* The device that a DLDevice names: kDLCUDA or kDLCUDAManaged. */
pega_status pega_cuda_device_of(const pega_cuda_driver *driver, const char *where, DLDevice device,
                                pega_cuda_device **out, pega_error *error);

/* The device's primary context, retained on the first call. */
pega_status pega_cuda_device_primary(const pega_cuda_driver *driver, const char *where,
                                     pega_cuda_device *device, CUcontext *out, pega_error *error);

/* Gives back every retained primary context and forgets sticky errors; the first failure. */
pega_status pega_cuda_devices_release(const pega_cuda_driver *driver, pega_error *error);

/* Makes `context` current if it is not; what was current comes back with pega_cuda_leave(). */
typedef struct pega_cuda_guard {
  CUcontext before;
  bool pushed;
} pega_cuda_guard;
pega_status pega_cuda_enter(const pega_cuda_driver *driver, const char *where, CUcontext context,
                            pega_cuda_guard *guard, pega_error *error);
/* Returns `status`, or, where that is PEGA_OK and the context could not be given back, the failure. */
pega_status pega_cuda_leave(const pega_cuda_driver *driver, const char *where,
                            const pega_cuda_guard *guard, pega_status status, pega_error *error);

/* The same, from an ordinal, with the context that a call of this thread on the device runs in: the
 * current one if it is one of the device, else the primary one. */
pega_status pega_cuda_enter_device(const char *where, int32_t ordinal,
                                   const pega_cuda_driver **driver, pega_cuda_device **device,
                                   pega_cuda_guard *guard, pega_error *error);

/* Latches `result` if it is one after which a context cannot be used. `name` was being called. */
void pega_cuda_note_result(pega_cuda_device *device, CUresult result, const char *name);

/* PEGA_ERROR_DRIVER that tells of the latched error. */
pega_status pega_cuda_refuse_sticky(const char *where, const pega_cuda_device *device,
                                    pega_error *error);

static inline bool pega_cuda_is_sticky(const pega_cuda_device *device) {
  return __builtin_expect(atomic_load_explicit(&device->sticky, memory_order_acquire) != 0, 0);
}

static inline unsigned pega_cuda_good_place(void) {
  return (unsigned)((uint64_t)pthread_self() * UINT64_C(0x9e3779b97f4a7c15) >> 60);
}

static inline void pega_cuda_note_good(pega_cuda_device *device, const char *interned_name) {
  pega_cuda_good *good = &device->good[pega_cuda_good_place()];
  if (atomic_load_explicit(&good->name, memory_order_relaxed) != interned_name) {
    atomic_store_explicit(&good->name, interned_name, memory_order_relaxed);
  }
}

/* The one copy of a name that lives as long as the process; NULL without memory. */
const char *pega_cuda_intern(const char *name);

#endif /* PEGA_CUDA_DEVICE_H_ */
