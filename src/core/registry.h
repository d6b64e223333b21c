/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PEGA_CORE_REGISTRY_H_
#define PEGA_CORE_REGISTRY_H_

#include "pega/pega.h"

/* Makes the library's own functions and hands each to `add`, which retains it. Called once, when the
 * registry is first used; again after a failure. Defined in src/builtin.c, the one place that knows
 * which functions the library has. */
pega_status pega_builtin_functions(pega_status (*add)(pega_function *function, pega_error *error),
                                   pega_error *error);

/* Who makes functions when they are first asked for. `self` is counted; any thread. */
typedef struct pega_function_source {
  const char *(*name)(const void *self, int32_t index);
  pega_status (*make)(void *self, int32_t index, pega_function **out, pega_error *error);
  void (*retain)(void *self);
  void (*release)(void *self);
} pega_function_source;

/* Registers functions that are not made yet, all or none; flags as for pega_registry_add(). `last` is
 * called when nothing else can fail any more, with the registry's lock held; where it fails none is. */
pega_status pega_registry_add_source(const pega_function_source *source, void *self,
                                     const int32_t *indices, int32_t count, uint32_t flags,
                                     pega_status (*last)(void *user, pega_error *error), void *user,
                                     pega_error *error);

#endif /* PEGA_CORE_REGISTRY_H_ */
