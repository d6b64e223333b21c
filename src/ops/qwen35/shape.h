/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes of a gated delta rule call, and what all of its functions check of them. */
#ifndef PEGA_OPS_QWEN35_SHAPE_H_
#define PEGA_OPS_QWEN35_SHAPE_H_

#include "pega/qwen35.h"

enum {
  kGdrChunk = PEGA_QWEN35_CHUNK,
  kGdrHeadSize = PEGA_QWEN35_HEAD_SIZE,
  kGdrStateSize = PEGA_QWEN35_HEAD_SIZE * PEGA_QWEN35_HEAD_SIZE,
  kGdrMaxHeads = 1 << 16,
  kGdrAlignment = 16 /* bytes, of addresses that a kernel is given */
};

#define PEGA_GDR_SCALE 0.08838834764831845f /* 128^-0.5 */

/* With heads up to kGdrMaxHeads and tokens up to INT32_MAX no extent in bytes passes int64. */
typedef struct pega_gdr_shape {
  int64_t num_tokens;
  int64_t num_sequences;
  int64_t num_key_heads;
  int64_t num_value_heads;
} pega_gdr_shape;

static inline int64_t pega_gdr_qkv_dim(const pega_gdr_shape *shape) {
  return (2 * shape->num_key_heads + shape->num_value_heads) * kGdrHeadSize;
}

static inline int64_t pega_gdr_num_chunks(int64_t num_tokens) {
  return num_tokens / kGdrChunk + (num_tokens % kGdrChunk != 0);
}

/* That the numbers are within their ranges and HV is a multiple of HK. `function` begins the text. */
pega_status pega_gdr_check_shape(const char *function, const pega_gdr_shape *shape,
                                 pega_error *error);

/* Finds HK from the width of qkv, (2 HK + HV) 128. */
pega_status pega_gdr_split_qkv(const char *function, int64_t qkv_dim, pega_gdr_shape *shape,
                               pega_error *error);

/* Where a call on tensors runs. */
typedef enum pega_gdr_place { kPlaceCpu, kPlaceCuda } pega_gdr_place;
pega_status pega_gdr_place_of(const char *function, const char *argument, DLDevice device,
                              pega_gdr_place *out, pega_error *error);

/* Parameters of signatures that every function of the rule has. */
#define PEGA_GDR_BF16 \
  { kDLBfloat, 16, 1 }
#define PEGA_GDR_FP32 \
  { kDLFloat, 32, 1 }
#define PEGA_GDR_TENSOR(param_name, param_dtype, param_shape, extra, text)               \
  {                                                                                      \
    .name = param_name, .doc = text, .type = PEGA_TYPE_TENSOR,                           \
    .flags = PEGA_PARAM_CONTIGUOUS | (extra), .dtype = param_dtype, .shape = param_shape \
  }
#define PEGA_GDR_INT(param_name, least, most, text)                                    \
  {                                                                                    \
    .name = param_name, .doc = text, .type = PEGA_TYPE_INT, .flags = PEGA_PARAM_RANGE, \
    .min = (least), .max = (most)                                                      \
  }
#define PEGA_GDR_COUNT(array) ((int32_t)(sizeof(array) / sizeof *(array)))
#define PEGA_GDR_SIGNATURE(params, signature_flags, result_type)                                 \
  {                                                                                              \
    sizeof(pega_signature), sizeof(pega_param), params, PEGA_GDR_COUNT(params), signature_flags, \
        result_type, 0                                                                           \
  }

#endif /* PEGA_OPS_QWEN35_SHAPE_H_ */
