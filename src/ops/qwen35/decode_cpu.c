/* SPDX-License-Identifier: Apache-2.0 */
#include "decode_cpu.h"

#include <inttypes.h>
#include <stdlib.h>

#include "ops/qwen35/gated_delta_rule_cpu.h"

/* Gates of this many tokens and heads need no heap. */
enum { kFewGates = 1024 };

pega_status pega_decode_run_cpu(const pega_decode *call, pega_error *error) {
  const pega_gdr_shape *shape = &call->shape;
  pega_qwen35_decode decode = {
      .q = call->in.q,
      .k = call->in.k,
      .v = call->in.v,
      .q_stride = call->in.qk_stride,
      .k_stride = call->in.qk_stride,
      .v_stride = call->in.v_stride,
      .g = call->in.g,
      .beta = call->in.beta,
      .states = call->states,
      .slots = {call->slots, call->slot_bits},
      .output = call->output,
      .batch_size = shape->num_sequences,
      .num_slots = call->num_slots,
      .num_key_heads = shape->num_key_heads,
      .num_value_heads = shape->num_value_heads,
      .scale = call->scale,
      .normalize = call->in.normalize,
      .num_threads = 0,
  };
  if (!call->in.projected) {
    pega_qwen35_decode_cpu(NULL, &decode);
    return PEGA_OK;
  }
  float few[2 * kFewGates];
  const int64_t count = shape->num_sequences * shape->num_value_heads;
  float *gates = few;
  if (count > kFewGates) {
    gates = malloc((size_t)count * 2 * sizeof *gates);
    if (gates == NULL) {
      return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL,
                            "%s: no memory for %" PRId64 " gates", call->function, 2 * count);
    }
  }
  pega_qwen35_gates_cpu(call->in.b, call->in.a, call->in.dt_bias, call->in.a_log, gates,
                        gates + count, shape->num_sequences, shape->num_value_heads, 0);
  decode.g = gates;
  decode.beta = gates + count;
  pega_qwen35_decode_cpu(NULL, &decode);
  if (gates != few) free(gates);
  return PEGA_OK;
}
