/* SPDX-License-Identifier: Apache-2.0 */
/* Which functions the library has of its own. */
#include "core/registry.h"
#include "ops/qwen35/chunk_solve.h"

pega_status pega_builtin_functions(pega_status (*add)(pega_function *function, pega_error *error),
                                   pega_error *error) {
  return pega_qwen35_chunk_solve_functions(add, error);
}
