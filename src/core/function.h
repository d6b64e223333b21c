/* SPDX-License-Identifier: Apache-2.0 */
/* What the rest of the library may know of functions beyond pega.h. */
#ifndef PEGA_CORE_FUNCTION_H_
#define PEGA_CORE_FUNCTION_H_

#include "pega/pega.h"

/* How a function loads what it needs on a device; `self` is the function's. */
typedef pega_status (*pega_prepare)(void *self, DLDevice device, pega_error *error);

/* Set right after creation, before another thread can see the function. */
void pega_function_set_prepare(pega_function *function, pega_prepare prepare);
/* Whether it has one: all that such a function does on CUDA tensors or pointers is to launch
 * kernels of packs, so that a plan can be made of a call. */
bool pega_function_can_prepare(const pega_function *function);
/* Runs it; PEGA_OK for a function that has none. */
pega_status pega_function_run_prepare(pega_function *function, DLDevice device, pega_error *error);

#endif /* PEGA_CORE_FUNCTION_H_ */
