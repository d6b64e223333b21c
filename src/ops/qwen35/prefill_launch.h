/* SPDX-License-Identifier: Apache-2.0 */
/* What prefills on a GPU share: parts of a workspace, inputs made ready, launches one behind the
 * other. */
#ifndef PEGA_OPS_QWEN35_PREFILL_LAUNCH_H_
#define PEGA_OPS_QWEN35_PREFILL_LAUNCH_H_

#include "ops/qwen35/prefill.h"

/* Hands out parts of a workspace; with a NULL base it only counts. */
typedef struct pega_prefill_parts {
  char *base;
  int64_t used;
} pega_prefill_parts;
void *pega_prefill_take(pega_prefill_parts *workspace, int64_t bytes);

/* What every kernel works on in the end: normalised, with gates. */
typedef struct pega_prefill_inputs {
  const void *q, *k, *g, *beta;
} pega_prefill_inputs;
pega_prefill_inputs pega_prefill_take_inputs(const pega_prefill *call,
                                             pega_prefill_parts *workspace);

static inline int64_t pega_prefill_rows(const pega_prefill *call) {
  return call->shape.num_tokens * call->shape.num_value_heads;
}

enum { kPrefillMaxLaunches = 7 };

typedef struct pega_prefill_launcher {
  const pega_prefill *call;
  void *stream;
  pega_given_scratch scratch;
  int launched;
} pega_prefill_launcher;

/* The kernel that makes the inputs of a call, if it needs one, then one or two others. */
int pega_prefill_list_kernels(const pega_prefill *call, pega_kernel_slot *first,
                              pega_kernel_slot *second, pega_kernel_slot *out[kPrefillMaxLaunches]);
/* Before the first launch: every kernel of the call is found and prepared, or nothing happens. */
pega_status pega_prefill_start(const pega_prefill *call, pega_kernel_slot *const *needed, int count,
                               pega_prefill_launcher *out, pega_error *error);
/* Launches the kernel that makes the inputs, if there is one. */
pega_status pega_prefill_prepare_inputs(pega_prefill_launcher *with, const pega_prefill_inputs *in,
                                        pega_error *error);
pega_status pega_prefill_enqueue(pega_prefill_launcher *with, pega_kernel_slot *slot,
                                 const pega_value *args, pega_error *error);
/* Kernels on both sides of a provided function. */
extern pega_kernel_slot pega_prefill_linear_inputs, pega_prefill_linear_outputs;

#endif /* PEGA_OPS_QWEN35_PREFILL_LAUNCH_H_ */
