/* SPDX-License-Identifier: Apache-2.0 */
/* What the library's files share. */
#ifndef PEGA_CUBLAS_CUBLAS_H_
#define PEGA_CUBLAS_CUBLAS_H_

#include <stdatomic.h>

#include "api.h"
#include "pega/cublas.h"

/* ---- library.c: cuBLAS and the driver, opened once ---- */

extern _Atomic(const pega_cublas_api *) pega_cublas_opened;
extern atomic_bool pega_cublas_fork_seen;

/* The one lock: around opening, around the list of handles. Free again in a child of fork. */
void pega_cublas_lock(void);
void pega_cublas_unlock(void);

/* Opens them, or says why not. `where` begins the text. */
pega_status pega_cublas_get(const char *where, const pega_cublas_api **out, pega_error *error);

/* "CUBLAS_STATUS_NOT_SUPPORTED"; "an unknown status" for a number that has no name. */
const char *pega_cublas_status_name(int status);
/* "where: call failed: CUBLAS_STATUS_...(15); what". */
pega_status pega_cublas_fail(const char *where, const char *call, cublas_status result,
                             const char *what, pega_error *error);
/* The same of the driver. */
pega_status pega_cublas_driver_fail(const pega_cublas_api *api, const char *where, const char *call,
                                    CUresult result, const char *what, pega_error *error);

/* ---- handle.c: a thread's handles ---- */

/* A handle, ready for one call: its stream and workspace are set, its context is current. */
typedef struct pega_cublas_lease {
  const pega_cublas_api *api;
  cublasHandle_t handle;
  bool pushed; /* a context that is to be taken away again */
  CUcontext before;
} pega_cublas_lease;

pega_status pega_cublas_enter(const char *where, int32_t ordinal, void *stream,
                              pega_cublas_lease *out, pega_error *error);
/* Returns `status`, or, where that is PEGA_OK and the context could not be given back, the failure. */
pega_status pega_cublas_leave(const char *where, const pega_cublas_lease *lease, pega_status status,
                              pega_error *error);
/* How many there are. */
void pega_cublas_count(pega_cublas_info *info);

#endif /* PEGA_CUBLAS_CUBLAS_H_ */
