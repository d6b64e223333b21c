/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA driver, opened at run time: nothing of the library links against it. */
#ifndef PEGA_CUDA_DRIVER_H_
#define PEGA_CUDA_DRIVER_H_

#include <pthread.h>
#include <stdatomic.h>

#include "driver_api.h"
#include "pega/cuda.h"

/* What driver.c keeps, seen here so that a launch finds the driver without a call. */
extern _Atomic(const pega_cuda_driver *) pega_cuda_opened_driver;
/* What makes a launch look twice, 0 nearly always: kForkSeen, and how many threads have a table of
 * their own. */
extern atomic_uint pega_cuda_attention;
enum { kForkSeen = 1 << 30 };

/* Whether this process is a child, made by fork, of the one that opened the driver. */
static inline bool pega_cuda_forked(void) {
  const unsigned attention = atomic_load_explicit(&pega_cuda_attention, memory_order_relaxed);
  return __builtin_expect((attention & kForkSeen) != 0, 0);
}

/* The driver if it is open, else NULL: opens nothing. */
const pega_cuda_driver *pega_cuda_driver_look(void);
static inline const pega_cuda_driver *pega_cuda_driver_opened(void) {
  if (__builtin_expect(atomic_load_explicit(&pega_cuda_attention, memory_order_relaxed) != 0, 0)) {
    return pega_cuda_driver_look();
  }
  return atomic_load_explicit(&pega_cuda_opened_driver, memory_order_acquire);
}

/* From now on the calling thread is given `own` for the driver; NULL: the driver itself again. */
void pega_cuda_driver_use(const pega_cuda_driver *own);
/* Whether a table is a thread's own one: it records launches, whose addresses are no memory. */
static inline bool pega_cuda_records(const pega_cuda_driver *driver) {
  return __builtin_expect(
      driver != atomic_load_explicit(&pega_cuda_opened_driver, memory_order_relaxed), 0);
}
/* PEGA_ERROR_UNSUPPORTED for what cannot be recorded. */
pega_status pega_cuda_refuse_recording(const char *where, const char *why, pega_error *error);

/* The driver, opened and initialised on the first call; the same table from then on. A failure is
 * tried again by the next call. In a child of fork PEGA_ERROR_UNAVAILABLE. No lock once it is open. */
pega_status pega_cuda_driver_open(const pega_cuda_driver **out, pega_error *error);
static inline pega_status pega_cuda_driver_get(const pega_cuda_driver **out, pega_error *error) {
  *out = pega_cuda_driver_opened();
  return __builtin_expect(*out != NULL, 1) ? PEGA_OK : pega_cuda_driver_open(out, error);
}

/* A lock that is free in a child of fork, whoever held it in the parent: what it guards is changed by
 * single stores, so that it is whole at any time. It cannot be taken around the fork instead: a
 * driver forks on its own (nvidia-modprobe) while the library waits for it. */
typedef struct pega_cuda_mutex {
  pthread_mutex_t mutex;
  struct pega_cuda_mutex *next; /* of those that were ever locked */
  atomic_bool listed;
} pega_cuda_mutex;
#define PEGA_CUDA_MUTEX_INIT \
  { PTHREAD_MUTEX_INITIALIZER, NULL, false }
void pega_cuda_lock(pega_cuda_mutex *mutex);
void pega_cuda_unlock(pega_cuda_mutex *mutex);

/* "CUDA_ERROR_NOT_FOUND (500): named symbol not found", into `buffer`, which it returns. */
const char *pega_cuda_result_text(CUresult result, char *buffer, size_t capacity);

/* "where: call failed: CUDA_ERROR_...; hint", with the code in error->code. PEGA_ERROR_OUT_OF_MEMORY
 * for the driver's own, else PEGA_ERROR_DRIVER. `hint` may be NULL. */
pega_status pega_cuda_fail(const char *where, const char *call, CUresult result, const char *hint,
                           pega_error *error);

/* The CUresult that stands for a status in a plain C symbol's return value. */
int pega_cuda_result(pega_status status, const pega_error *error);

#endif /* PEGA_CUDA_DRIVER_H_ */
