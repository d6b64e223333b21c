/* SPDX-License-Identifier: Apache-2.0 */
/* The check mode: whether values are such as the rule means. */
#ifndef PEGA_OPS_QWEN35_VALUES_H_
#define PEGA_OPS_QWEN35_VALUES_H_

#include "ops/qwen35/shape.h"

/* Where values are read: the CPU's memory, or a device's, after what is on its current stream. */
typedef struct pega_gdr_memory {
  const char *function; /* begins error texts */
  pega_gdr_place place;
  int32_t device;
  int64_t first_row; /* which row of the call's tensors the first one looked at is, for texts */
} pega_gdr_memory;

/* That every log gate is <= 0 and no NaN: [rows, num_value_heads]. */
pega_status pega_gdr_check_gates(const pega_gdr_memory *in, const float *g, int64_t rows,
                                 int64_t num_value_heads, pega_error *error);
/* That every beta is in [0, 1]. */
pega_status pega_gdr_check_betas(const pega_gdr_memory *in, const float *beta, int64_t rows,
                                 int64_t num_value_heads, pega_error *error);
/* That every row of 128 is of length 1: [rows, num_heads, 128]. */
pega_status pega_gdr_check_norms(const pega_gdr_memory *in, const char *name,
                                 const uint16_t *values, int64_t rows, int64_t num_heads,
                                 pega_error *error);
/* That no element is infinite or NaN; bits is 16 for bf16 and 32 for fp32. */
pega_status pega_gdr_check_finite(const pega_gdr_memory *in, const char *name, const void *values,
                                  int bits, int64_t count, pega_error *error);

/* The index-th of integers of 32 or 64 bits. */
int64_t pega_gdr_index(const void *values, int bits, int64_t index);
/* That cu_seqlens begins with 0, does not decrease and ends with T. */
pega_status pega_gdr_check_seqlens(const pega_gdr_memory *in, const void *values, int bits,
                                   int64_t num_sequences, int64_t num_tokens, pega_error *error);
/* That no slot is >= num_slots and none is there twice; negative ones are padding. Where `out` is not NULL
 * it receives all of them. */
pega_status pega_gdr_check_slots(const pega_gdr_memory *in, const void *values, int bits,
                                 int64_t batch_size, int64_t num_slots, int64_t *out,
                                 pega_error *error);

#endif /* PEGA_OPS_QWEN35_VALUES_H_ */
