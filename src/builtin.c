/* SPDX-License-Identifier: Apache-2.0 */
/* Which functions the library has of its own, and which kernels they look for in packs. */
#include "core/registry.h"
#include "cuda/slot.h"
#include "ops/qwen35/chunk_solve.h"

pega_status pega_builtin_functions(pega_status (*add)(pega_function *function, pega_error *error),
                                   pega_error *error) {
  return pega_qwen35_chunk_solve_functions(add, error);
}

pega_kernel_slot *pega_builtin_kernel_slot(const char *name) {
  static pega_kernel_slot *const slots[] = {&pega_qwen35_chunk_solve_kernel};
  for (size_t i = 0; i < sizeof slots / sizeof *slots; ++i) {
    if (strcmp(slots[i]->name, name) == 0) return slots[i];
  }
  return NULL;
}
