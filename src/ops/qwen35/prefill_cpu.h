/* SPDX-License-Identifier: Apache-2.0 */
/* A prefill on the CPU: from a checked call to the implementations of gated_delta_rule_cpu.h. */
#ifndef PEGA_OPS_QWEN35_PREFILL_CPU_H_
#define PEGA_OPS_QWEN35_PREFILL_CPU_H_

#include "ops/qwen35/prefill.h"

int64_t pega_prefill_cpu_chunked_workspace(const pega_prefill *call);
pega_status pega_prefill_cpu_chunked(const pega_prefill *call, void *workspace, pega_error *error);
int64_t pega_prefill_cpu_recurrent_workspace(const pega_prefill *call);
pega_status pega_prefill_cpu_recurrent(const pega_prefill *call, void *workspace,
                                       pega_error *error);

/* Runs an implementation of the CPU; where there is no workspace, one from the heap. */
pega_status pega_prefill_run_cpu(const pega_prefill *call,
                                 const pega_prefill_implementation *implementation, void *workspace,
                                 pega_error *error);

#endif /* PEGA_OPS_QWEN35_PREFILL_CPU_H_ */
