/* SPDX-License-Identifier: Apache-2.0 */
/* Which functions the library has of its own, and which kernels they look for in packs. */
#include "core/registry.h"
#include "cuda/slot.h"
#include "ops/qwen35/chunk_solve.h"
#include "ops/qwen35/prefill.h"
#include "ops/qwen35/stages.h"

pega_status pega_builtin_functions(pega_status (*add)(pega_function *function, pega_error *error),
                                   pega_error *error) {
  pega_status status = pega_qwen35_chunk_solve_functions(add, error);
  for (int i = 0; i < kNumStages && status == PEGA_OK; ++i) {
    status = pega_stage_functions(&pega_gdr_stages[i], add, error);
  }
  if (status == PEGA_OK) status = pega_prefill_functions(add, error);
  return status == PEGA_OK ? pega_decode_functions(add, error) : status;
}

pega_kernel_slot *pega_builtin_kernel_slot(const char *name) {
  if (strcmp(pega_qwen35_chunk_solve_kernel.name, name) == 0) {
    return &pega_qwen35_chunk_solve_kernel;
  }
  for (int i = 0; i < kNumStages; ++i) {
    if (strcmp(pega_gdr_stages[i].slot->name, name) == 0) return pega_gdr_stages[i].slot;
  }
  pega_kernel_slot *slot = pega_prefill_kernel_slot(name);
  return slot != NULL ? slot : pega_decode_kernel_slot(name);
}
