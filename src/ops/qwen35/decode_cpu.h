/* SPDX-License-Identifier: Apache-2.0 */
/* A checked decode step, and how the CPU runs it. */
#ifndef PEGA_OPS_QWEN35_DECODE_CPU_H_
#define PEGA_OPS_QWEN35_DECODE_CPU_H_

#include "ops/qwen35/inputs.h"

/* Memory is where `place` says; of the shape, sequences and tokens are both the batch. */
typedef struct pega_decode {
  const char *function; /* begins error texts */
  pega_gdr_shape shape;
  pega_gdr_place place;
  int32_t device; /* ordinal, on a GPU */
  pega_gdr_inputs in;
  float *states;     /* [P, HV, 128, 128] */
  int64_t num_slots; /* P */
  const void *slots; /* [B], or NULL: token i has state i */
  int32_t slot_bits; /* 32 or 64 */
  float scale;
  uint16_t *output; /* [B, HV, 128] */
} pega_decode;

pega_status pega_decode_run_cpu(const pega_decode *call, pega_error *error);

#endif /* PEGA_OPS_QWEN35_DECODE_CPU_H_ */
