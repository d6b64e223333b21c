/* SPDX-License-Identifier: Apache-2.0 */
/* What a prefill and a decode step take first: q, k, v, gates and betas, or the projections. */
#ifndef PEGA_OPS_QWEN35_INPUTS_H_
#define PEGA_OPS_QWEN35_INPUTS_H_

#include "ops/memory.h"
#include "ops/qwen35/values.h"

/* Their parameters; `rows` is "T" of tokens or "B" of a batch. */
#define PEGA_GDR_BF16_TENSOR(name, extra, shape, doc) \
  PEGA_GDR_TENSOR(name, PEGA_GDR_BF16, shape, extra, doc)
#define PEGA_GDR_FP32_TENSOR(name, extra, shape, doc) \
  PEGA_GDR_TENSOR(name, PEGA_GDR_FP32, shape, extra, doc)
#define PEGA_GDR_GATE(gate, rows, text, values)                                          \
  {                                                                                      \
    .name = gate, .doc = text, .type = PEGA_TYPE_TENSOR, .flags = PEGA_PARAM_CONTIGUOUS, \
    .dtype = PEGA_GDR_FP32, .shape = rows ", HV", .domain = values                       \
  }
#define PEGA_GDR_FLAG(flag, text) \
  { .name = flag, .doc = text, .type = PEGA_TYPE_BOOL, .flags = PEGA_PARAM_OPTIONAL }
#define PEGA_GDR_PLAIN_INPUTS(rows)                                                              \
  PEGA_GDR_BF16_TENSOR("q", 0, rows ", HK, 128", "queries, rows of length 1 unless normalize"),  \
      PEGA_GDR_BF16_TENSOR("k", 0, rows ", HK, 128", "keys, rows of length 1 unless normalize"), \
      PEGA_GDR_BF16_TENSOR("v", 0, rows ", HV, 128", "values; HV is a multiple of HK"),          \
      PEGA_GDR_GATE("g", rows, "log gates", "log gate, <= 0"),                                   \
      PEGA_GDR_GATE("beta", rows, "how much of a value is written", "0 to 1")
#define PEGA_GDR_PROJECTED_INPUTS(rows)                                                          \
  PEGA_GDR_BF16_TENSOR("qkv", 0, rows ", D",                                                     \
                       "q (HK 128), k (HK 128), v (HV 128) of each token; D = (2 HK + HV) 128"), \
      PEGA_GDR_BF16_TENSOR("b", 0, rows ", HV", "beta before its sigmoid"),                      \
      PEGA_GDR_BF16_TENSOR("a", 0, rows ", HV", "gate before dt_bias and softplus"),             \
      PEGA_GDR_BF16_TENSOR("dt_bias", 0, "HV", "added to a"),                                    \
      PEGA_GDR_FP32_TENSOR("a_log", 0, "HV", "the log gate is -exp(a_log) softplus(a + dt_bias)")
#define PEGA_GDR_NORMALIZE \
  PEGA_GDR_FLAG("normalize", "divides rows of q and k by their length; None is False")
#define PEGA_GDR_CHECK \
  PEGA_GDR_FLAG("check", "reads all values first and refuses wrong ones; waits for the device")

typedef struct pega_gdr_inputs {
  bool projected;            /* from qkv, b, a, dt_bias, a_log; else from q, k, v, g, beta */
  bool normalize;            /* q and k have to be normalised; true where projected */
  const uint16_t *q, *k, *v; /* [T, HK, 128] twice, [T, HV, 128]; columns of qkv where projected */
  int64_t qk_stride, v_stride; /* elements from token to token */
  const float *g, *beta;       /* [T, HV]; NULL where projected */
  const uint16_t *b, *a;       /* [T, HV]; these NULL where not */
  const uint16_t *dt_bias;     /* [HV] */
  const float *a_log;          /* [HV] */
} pega_gdr_inputs;

/* Reads the first arguments, of which a signature has checked all but how their sizes go together:
 * the rest of `inputs`, and of `shape` tokens and heads. */
pega_status pega_gdr_read_inputs(const char *function, const pega_value *args,
                                 pega_gdr_inputs *inputs, pega_gdr_shape *shape, pega_error *error);

/* The check mode's look at `count` tokens of them from in->first_row on. */
pega_status pega_gdr_check_inputs(const pega_gdr_memory *in, const pega_gdr_inputs *inputs,
                                  const pega_gdr_shape *shape, int64_t count, pega_error *error);

/* A tensor argument's memory, or NULL for None. */
void *pega_gdr_data(const pega_value *value);
static inline bool pega_gdr_is_true(const pega_value *value) {
  return value->kind == PEGA_BOOL && value->as.boolean;
}
/* The scale that an optional number says; None is 128^-0.5. */
float pega_gdr_scale(const pega_value *value);

/* An argument whose memory is checked. */
typedef struct pega_gdr_memory_arg {
  uint8_t arg;
  bool narrow; /* no kernel reads it in wide pieces, so that it has its elements' alignment alone */
  int8_t in_place; /* which of these it may be, or -1 */
} pega_gdr_memory_arg;
enum { kMaxMemoryArgs = 10 };

/* That these arguments' memory is aligned as kernels want it and that what is written overlaps
 * nothing; elements are whole bytes. */
pega_status pega_gdr_check_memory(const pega_gdr_memory *in, const pega_param *params,
                                  const pega_value *args, const pega_gdr_memory_arg *which,
                                  int count, pega_error *error);

/* That an optional tensor of indices, 'cu_seqlens' or 'slots', is of int32 or int64; its address and
 * bits. */
pega_status pega_gdr_read_indices(const char *function, const char *name, const pega_value *value,
                                  const void **out, int32_t *bits, pega_error *error);

#endif /* PEGA_OPS_QWEN35_INPUTS_H_ */
