/* SPDX-License-Identifier: Apache-2.0 */
/* A stage of the chunked gated delta rule: one kernel, in its raw form, on tensors, as a C symbol. */
#ifndef PEGA_OPS_QWEN35_STAGE_H_
#define PEGA_OPS_QWEN35_STAGE_H_

#include "cuda/slot.h"
#include "ops/qwen35/shape.h"

enum { kMaxStageMemory = 10 };

/* How many rows an argument's memory has, and how they are counted. */
typedef enum pega_stage_rows {
  kRowsToken,     /* T */
  kRowsChunkHead, /* ceil(T / 64) HV */
  kRowsHead,      /* HV */
  kRowsTokenHead  /* T HV */
} pega_stage_rows;

/* One argument's memory. Stages take their memory first, in the same order in every form. */
typedef struct pega_stage_memory {
  const char *name;
  uint8_t rows;         /* a pega_stage_rows */
  uint8_t element_size; /* bytes */
  int8_t in_place;      /* index of the memory that it may be, or -1 */
  bool output;
  int32_t row_size; /* elements; 0: qkv_dim */
} pega_stage_memory;

typedef struct pega_stage {
  pega_kernel_slot *slot; /* its name and params are the raw form's */
  const char *raw_doc;
  const char *symbol; /* of the C symbol */
  const char *name;   /* of the tensor form */
  const char *doc;
  const pega_signature *signature; /* of the tensor form */
  const pega_stage_memory *memory;
  int32_t num_memory;
  bool has_key_heads; /* ends with HK, HV, qkv_dim, T instead of T, HV */
  bool has_scale;     /* before the stream */
  bool has_states;    /* there is something to do without tokens, too */
  void (*cpu)(void *const *memory, const pega_gdr_shape *shape, float scale);
  _Atomic(pega_function *) *raw_form; /* made once and kept: the C symbol uses it */
} pega_stage;

/* Makes both forms of a stage and hands each to `add`, which retains it. */
pega_status pega_stage_functions(const pega_stage *stage,
                                 pega_status (*add)(pega_function *function, pega_error *error),
                                 pega_error *error);

/* What a C symbol does: calls the raw form. */
int pega_stage_call_symbol(const pega_stage *stage, const pega_value *args, int32_t num_args);

#endif /* PEGA_OPS_QWEN35_STAGE_H_ */
