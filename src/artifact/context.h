/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps the CUDA context that is current on a thread what it was, across a call of foreign code. */
#ifndef PEGA_ARTIFACT_CONTEXT_H_
#define PEGA_ARTIFACT_CONTEXT_H_

#include "pega/pega.h"

/* Looks the driver up (opens libcuda.so.1, never initialises it). Once it is there, nothing; without one
 * there is nothing to watch and the two below do nothing. Whether it is there. */
bool pega_context_prepare(void);
/* The same for a driver that is in the process already. */
bool pega_context_prepare_loaded(void);

/* What is kept over a call: the driver, or NULL if there was none, and the context that was current, or
 * NULL. */
typedef struct pega_context_room {
  const void *driver;
  void *before;
} pega_context_room;

void pega_context_begin(pega_context_room *room);

/* Puts the context of before back, and takes off what was pushed over it. The depth of the thread's stack is
 * not known: if the code took contexts off, those below are not put back, and the text says so. Without a
 * driver at the beginning, nothing. `status` and `error` are the call's; returns them, or that the call left
 * another context current, unless `restore` says that this is all right. No error where none was current
 * before. `function` is NULL for the loading of the file. */
pega_status pega_context_end(const pega_context_room *room, const char *path, const char *function,
                             bool restore, pega_status status, pega_error *error);

#endif /* PEGA_ARTIFACT_CONTEXT_H_ */
