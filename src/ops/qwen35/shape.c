/* SPDX-License-Identifier: Apache-2.0 */
#include "shape.h"

#include <inttypes.h>

#include "core/hot.h"

__attribute__((cold, noinline)) static pega_status fail(const char *function,
                                                        const pega_gdr_shape *shape,
                                                        pega_error *error) {
  if (shape->num_tokens < 0 || shape->num_tokens > INT32_MAX || shape->num_sequences < 0 ||
      shape->num_sequences > INT32_MAX) {
    return pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                          "%s: %" PRId64 " tokens in %" PRId64 " sequences: expected 0 to %" PRId32
                          " of each",
                          function, shape->num_tokens, shape->num_sequences, INT32_MAX);
  }
  if (shape->num_key_heads < 1 || shape->num_value_heads < 1 ||
      shape->num_value_heads > kGdrMaxHeads) {
    return pega_error_set(error, PEGA_ERROR_SHAPE, NULL,
                          "%s: HK = %" PRId64 " key heads, HV = %" PRId64
                          " value heads: expected 1 to %d",
                          function, shape->num_key_heads, shape->num_value_heads, kGdrMaxHeads);
  }
  return pega_error_set(error, PEGA_ERROR_SHAPE, NULL,
                        "%s: HV = %" PRId64 " value heads, HK = %" PRId64
                        " key heads: expected HV to be a multiple of HK",
                        function, shape->num_value_heads, shape->num_key_heads);
}

PEGA_HOT pega_status pega_gdr_check_shape(const char *function, const pega_gdr_shape *shape,
                                          pega_error *error) {
  if ((uint64_t)shape->num_tokens <= INT32_MAX && (uint64_t)shape->num_sequences <= INT32_MAX &&
      shape->num_key_heads >= 1 && shape->num_value_heads >= 1 &&
      shape->num_value_heads <= kGdrMaxHeads && shape->num_key_heads <= shape->num_value_heads &&
      (uint32_t)shape->num_value_heads % (uint32_t)shape->num_key_heads == 0) {
    return PEGA_OK;
  }
  return fail(function, shape, error);
}

pega_status pega_gdr_split_qkv(const char *function, int64_t qkv_dim, pega_gdr_shape *shape,
                               pega_error *error) {
  const int64_t of_keys = qkv_dim / kGdrHeadSize - shape->num_value_heads;
  shape->num_key_heads = of_keys / 2;
  if (qkv_dim % kGdrHeadSize == 0 && of_keys >= 2 && of_keys % 2 == 0) return PEGA_OK;
  return pega_error_set(error, PEGA_ERROR_SHAPE, NULL,
                        "%s: qkv has rows of %" PRId64 " elements and there are HV = %" PRId64
                        " value heads: expected (2 HK + HV) 128 for some HK >= 1",
                        function, qkv_dim, shape->num_value_heads);
}

pega_status pega_gdr_place_of(const char *function, const char *argument, DLDevice device,
                              pega_gdr_place *out, pega_error *error) {
  switch ((int32_t)device.device_type) {
    case kDLCPU:
    case kDLCUDAHost:
      *out = kPlaceCpu;
      return PEGA_OK;
    case kDLCUDA:
    case kDLCUDAManaged:
      *out = kPlaceCuda;
      return PEGA_OK;
    default: {
      char name[PEGA_NAME_SIZE];
      return pega_error_set(error, PEGA_ERROR_DEVICE, NULL,
                            "%s: '%s': expected a cpu or cuda device, got %s", function, argument,
                            pega_device_name(device, name));
    }
  }
}
