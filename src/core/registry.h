/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PEGA_CORE_REGISTRY_H_
#define PEGA_CORE_REGISTRY_H_

#include "pega/pega.h"

/* Makes the library's own functions and hands each to `add`, which retains it. Called once, when the
 * registry is first used; again after a failure. Defined in src/builtin.c, the one place that knows
 * which functions the library has. */
pega_status pega_builtin_functions(pega_status (*add)(pega_function *function, pega_error *error),
                                   pega_error *error);

#endif /* PEGA_CORE_REGISTRY_H_ */
