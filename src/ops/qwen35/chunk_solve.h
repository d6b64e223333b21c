/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PEGA_OPS_QWEN35_CHUNK_SOLVE_H_
#define PEGA_OPS_QWEN35_CHUNK_SOLVE_H_

#include "pega/pega.h"

/* Makes the solve's raw form and its tensor form and hands each to `add`, which retains it. */
pega_status pega_qwen35_chunk_solve_functions(pega_status (*add)(pega_function *function,
                                                                 pega_error *error),
                                              pega_error *error);

#endif /* PEGA_OPS_QWEN35_CHUNK_SOLVE_H_ */
