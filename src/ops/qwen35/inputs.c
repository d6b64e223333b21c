/* SPDX-License-Identifier: Apache-2.0 */
#include "inputs.h"

#include <inttypes.h>

#include "core/hot.h"
#include "core/object.h"

void *pega_gdr_data(const pega_value *value) {
  const DLTensor *tensor = pega_tensor_of(value);
  return tensor == NULL ? NULL : pega_tensor_address(tensor);
}

float pega_gdr_scale(const pega_value *value) {
  if (value->kind == PEGA_FLOAT) return (float)value->as.f64;
  if (value->kind == PEGA_INT) return (float)value->as.i64;
  return PEGA_GDR_SCALE;
}

PEGA_HOT pega_status pega_gdr_read_inputs(const char *function, const pega_value *args,
                                          pega_gdr_inputs *inputs, pega_gdr_shape *shape,
                                          pega_error *error) {
  const DLTensor *first = pega_value_as_tensor(&args[0]);
  shape->num_tokens = first->shape[0];
  pega_status status = PEGA_OK;
  if (inputs->projected) {
    shape->num_value_heads = pega_value_as_tensor(&args[1])->shape[1];
    status = pega_gdr_split_qkv(function, first->shape[1], shape, error);
  } else {
    shape->num_key_heads = first->shape[1];
    shape->num_value_heads = pega_value_as_tensor(&args[2])->shape[1];
  }
  if (status == PEGA_OK) status = pega_gdr_check_shape(function, shape, error);
  if (status != PEGA_OK) return status;
  const int64_t key_columns = shape->num_key_heads * kGdrHeadSize;
  inputs->q = pega_tensor_data(first);
  if (inputs->projected) {
    inputs->k = inputs->q == NULL ? NULL : inputs->q + key_columns;
    inputs->v = inputs->q == NULL ? NULL : inputs->q + 2 * key_columns;
    inputs->qk_stride = pega_gdr_qkv_dim(shape);
    inputs->v_stride = inputs->qk_stride;
    inputs->g = NULL;
    inputs->beta = NULL;
    inputs->b = pega_gdr_data(&args[1]);
    inputs->a = pega_gdr_data(&args[2]);
    inputs->dt_bias = pega_gdr_data(&args[3]);
    inputs->a_log = pega_gdr_data(&args[4]);
  } else {
    inputs->k = pega_gdr_data(&args[1]);
    inputs->v = pega_gdr_data(&args[2]);
    inputs->qk_stride = key_columns;
    inputs->v_stride = shape->num_value_heads * kGdrHeadSize;
    inputs->g = pega_gdr_data(&args[3]);
    inputs->beta = pega_gdr_data(&args[4]);
    inputs->b = NULL;
    inputs->a = NULL;
    inputs->dt_bias = NULL;
    inputs->a_log = NULL;
  }
  return PEGA_OK;
}

static pega_status check_projected(const pega_gdr_memory *in, const pega_gdr_inputs *inputs,
                                   const pega_gdr_shape *shape, int64_t count, pega_error *error) {
  const int64_t heads = shape->num_value_heads;
  const int64_t first = in->first_row;
  const struct {
    const char *name;
    const void *values;
    int bits;
    int64_t count;
  } all[] = {{"qkv", inputs->q + first * inputs->qk_stride, 16, count * inputs->qk_stride},
             {"b", inputs->b + first * heads, 16, count * heads},
             {"a", inputs->a + first * heads, 16, count * heads},
             {"dt_bias", inputs->dt_bias, 16, heads},
             {"a_log", inputs->a_log, 32, heads}};
  pega_status status = PEGA_OK;
  for (size_t i = 0; i < sizeof all / sizeof *all && status == PEGA_OK; ++i) {
    status =
        pega_gdr_check_finite(in, all[i].name, all[i].values, all[i].bits, all[i].count, error);
  }
  return status;
}

pega_status pega_gdr_check_inputs(const pega_gdr_memory *in, const pega_gdr_inputs *inputs,
                                  const pega_gdr_shape *shape, int64_t count, pega_error *error) {
  if (count == 0) return PEGA_OK;
  if (inputs->projected) return check_projected(in, inputs, shape, count, error);
  const int64_t first = in->first_row;
  const int64_t heads = shape->num_value_heads;
  const int64_t key_heads = shape->num_key_heads;
  const uint16_t *q = inputs->q + first * inputs->qk_stride;
  const uint16_t *k = inputs->k + first * inputs->qk_stride;
  const uint16_t *v = inputs->v + first * inputs->v_stride;
  const int64_t keys = count * inputs->qk_stride;
  pega_status status = pega_gdr_check_gates(in, inputs->g + first * heads, count, heads, error);
  if (status == PEGA_OK) {
    status = pega_gdr_check_betas(in, inputs->beta + first * heads, count, heads, error);
  }
  if (status == PEGA_OK) status = pega_gdr_check_finite(in, "q", q, 16, keys, error);
  if (status == PEGA_OK) status = pega_gdr_check_finite(in, "k", k, 16, keys, error);
  if (status == PEGA_OK) {
    status = pega_gdr_check_finite(in, "v", v, 16, count * inputs->v_stride, error);
  }
  if (status != PEGA_OK || inputs->normalize) return status;
  status = pega_gdr_check_norms(in, "q", q, count, key_heads, error);
  if (status == PEGA_OK) status = pega_gdr_check_norms(in, "k", k, count, key_heads, error);
  return status;
}

__attribute__((cold, noinline)) static pega_status misaligned(const char *function,
                                                              const pega_memory *memory,
                                                              pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_LAYOUT, NULL,
                        "%s: '%s' at 0x%" PRIxPTR
                        ": expected an address aligned to %d bytes on a GPU",
                        function, memory->name, memory->begin, kGdrAlignment);
}

PEGA_HOT pega_status pega_gdr_check_memory(const pega_gdr_memory *in, const pega_param *params,
                                           const pega_value *args, const pega_gdr_memory_arg *which,
                                           int count, pega_error *error) {
  pega_memory memory[kMaxMemoryArgs];
  for (int i = 0; i < count; ++i) {
    const pega_param *param = &params[which[i].arg];
    const DLTensor *tensor = pega_tensor_of(&args[which[i].arg]);
    pega_memory *out = &memory[i];
    out->name = param->name;
    out->begin = 0;
    out->bytes = 0;
    out->output = (param->flags & PEGA_PARAM_OUTPUT) != 0;
    out->in_place = which[i].in_place;
    if (tensor == NULL) continue;
    const int64_t *shape = tensor->shape;
    int64_t bytes = tensor->dtype.bits / 8;
    for (int32_t axis = 0; axis < tensor->ndim; ++axis) bytes *= shape[axis];
    out->begin = (uintptr_t)pega_tensor_address(tensor);
    out->bytes = bytes;
    if (in->place == kPlaceCuda && !which[i].narrow && out->begin % kGdrAlignment != 0 &&
        bytes != 0) {
      return misaligned(in->function, out, error);
    }
  }
  return pega_memory_check(in->function, memory, count, error);
}

pega_status pega_gdr_read_indices(const char *function, const char *name, const pega_value *value,
                                  const void **out, int32_t *bits, pega_error *error) {
  const DLTensor *tensor = pega_value_as_tensor(value);
  *out = NULL;
  *bits = 32;
  if (tensor == NULL) return PEGA_OK;
  if (tensor->dtype.code != kDLInt || tensor->dtype.lanes != 1 ||
      (tensor->dtype.bits != 32 && tensor->dtype.bits != 64)) {
    char dtype[PEGA_NAME_SIZE];
    return pega_error_set(error, PEGA_ERROR_DTYPE, NULL, "%s: '%s' is %s: expected int32 or int64",
                          function, name, pega_dtype_name(tensor->dtype, dtype));
  }
  *out = pega_tensor_data(tensor);
  *bits = tensor->dtype.bits;
  return PEGA_OK;
}
