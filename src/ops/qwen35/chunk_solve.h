/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PEGA_OPS_QWEN35_CHUNK_SOLVE_H_
#define PEGA_OPS_QWEN35_CHUNK_SOLVE_H_

#include "cuda/slot.h"

/* Makes the solve's raw form and its tensor form and hands each to `add`, which retains it. */
pega_status pega_qwen35_chunk_solve_functions(pega_status (*add)(pega_function *function,
                                                                 pega_error *error),
                                              pega_error *error);

/* Its kernel: the pack's function of the raw form's name. */
extern pega_kernel_slot pega_qwen35_chunk_solve_kernel;

#endif /* PEGA_OPS_QWEN35_CHUNK_SOLVE_H_ */
