/* SPDX-License-Identifier: Apache-2.0 */
/* The whole prefill: one meaning, several implementations. */
#ifndef PEGA_OPS_QWEN35_PREFILL_H_
#define PEGA_OPS_QWEN35_PREFILL_H_

#include "cuda/slot.h"
#include "ops/qwen35/inputs.h"

/* A checked call. Memory is where `place` says. */
typedef struct pega_prefill {
  const char *function; /* begins error texts */
  pega_gdr_shape shape;
  pega_gdr_place place;
  int32_t device; /* ordinal, on a GPU */
  pega_gdr_inputs in;
  const float *initial_state; /* [N, HV, 128, 128], or NULL for zeros */
  const void *cu_seqlens;     /* [N + 1], or NULL for one sequence */
  int32_t cu_seqlens_bits;    /* 32 or 64 */
  float scale;
  uint16_t *output;   /* [T, HV, 128] */
  float *final_state; /* as initial_state, or NULL; may be it */
} pega_prefill;

/* One way to compute it. */
typedef struct pega_prefill_implementation {
  const char *name;
  pega_gdr_place place;
  /* Where no table knows of a call: taken by itself up to this many tokens a sequence on average; 0: only
   * when it is asked for. */
  int64_t max_tokens;
  /* And of several sequences up to this many in all: on a GPU nobody knows how they are spread. */
  int64_t max_total;
  /* Why it cannot be used for a call, or NULL. Looks at shape, device, in.projected and in.normalize
   * alone. */
  const char *(*unfit)(const pega_prefill *call);
  /* Bytes of workspace, aligned to kGdrWorkspaceAlignment. Looks at the same. */
  int64_t (*workspace)(const pega_prefill *call);
  pega_status (*run)(const pega_prefill *call, void *workspace, pega_error *error);
  const char *doc;
} pega_prefill_implementation;

enum { kGdrWorkspaceAlignment = 256 };

/* In the order in which they are asked where no table of measured times knows of a call. */
extern const pega_prefill_implementation pega_prefill_implementations[];
extern const int pega_num_prefill_implementations;

/* The implementation of this name, or, where `name` is NULL, the one that is taken by itself. `name` has
 * `name_size` bytes. */
pega_status pega_prefill_choose(const pega_prefill *call, const char *name, size_t name_size,
                                const pega_prefill_implementation **out, pega_error *error);

/* Bytes that a caller has to give an implementation, 0 for none. */
int64_t pega_prefill_workspace(const pega_prefill *call,
                               const pega_prefill_implementation *implementation);

/* An array of maps, one for each implementation: name, device, how, when, taken, reason, us, workspace,
 * table, rows. */
pega_status pega_prefill_explain(const pega_prefill *call, pega_value *out, pega_error *error);

/* Implementations of a GPU (prefill_cuda.c). */
int64_t pega_prefill_chunked_workspace(const pega_prefill *call);
pega_status pega_prefill_chunked(const pega_prefill *call, void *workspace, pega_error *error);
int64_t pega_prefill_inputs_workspace(const pega_prefill *call);
pega_status pega_prefill_recurrent(const pega_prefill *call, void *workspace, pega_error *error);
pega_status pega_prefill_fused(const pega_prefill *call, void *workspace, pega_error *error);
int64_t pega_prefill_stages_workspace(const pega_prefill *call);
pega_status pega_prefill_stages(const pega_prefill *call, void *workspace, pega_error *error);

/* Implementations that are provided (prefill_provided.c): in one piece, and in chunks side by side. */
const char *pega_prefill_whole_unfit(const pega_prefill *call);
int64_t pega_prefill_whole_workspace(const pega_prefill *call);
pega_status pega_prefill_whole(const pega_prefill *call, void *workspace, pega_error *error);
const char *pega_prefill_parallel_unfit(const pega_prefill *call);
int64_t pega_prefill_parallel_workspace(const pega_prefill *call);
pega_status pega_prefill_parallel(const pega_prefill *call, void *workspace, pega_error *error);

/* Runs an implementation of a GPU; where there is no workspace, one from the stream's pool. */
pega_status pega_prefill_launch(const pega_prefill *call,
                                const pega_prefill_implementation *implementation, void *workspace,
                                pega_error *error);
/* Loads what the implementations need on a device. */
pega_status pega_prefill_prepare(void *self, DLDevice device, pega_error *error);

/* The kernels that prefills and decode steps launch, for pega_builtin_kernel_slot(). */
pega_kernel_slot *pega_prefill_kernel_slot(const char *name);
pega_kernel_slot *pega_decode_kernel_slot(const char *name);

/* Makes the functions and hands each to `add`, which retains it. */
pega_status pega_prefill_functions(pega_status (*add)(pega_function *function, pega_error *error),
                                   pega_error *error);
pega_status pega_decode_functions(pega_status (*add)(pega_function *function, pega_error *error),
                                  pega_error *error);

#endif /* PEGA_OPS_QWEN35_PREFILL_H_ */
