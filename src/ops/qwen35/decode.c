/* SPDX-License-Identifier: Apache-2.0 */
/* The decode step: one token of each of a batch of sequences, states changed in place. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/function.h"
#include "core/hot.h"
#include "ops/qwen35/decode_cpu.h"
#include "ops/qwen35/prefill.h"
#include "ops/symbol_error.h"

#define OPTIONAL PEGA_PARAM_OPTIONAL

/* --- the functions on tensors --- */

#define STATES_AND_OUTPUT                                                                             \
  PEGA_GDR_FP32_TENSOR(                                                                               \
      "states", PEGA_PARAM_OUTPUT, "P, HV, 128, 128",                                                 \
      "a pool of states, (K, V) with V contiguous; those of the batch are changed"),                  \
      {.name = "slots",                                                                               \
       .doc =                                                                                         \
           "int32 or int64: which state each token has; negative is padding; None: token i, state i", \
       .type = PEGA_TYPE_TENSOR,                                                                      \
       .flags = OPTIONAL | PEGA_PARAM_CONTIGUOUS,                                                     \
       .shape = "B",                                                                                  \
       .domain = "below P, each at most once"},                                                       \
      {.name = "scale", .doc = "None is 128^-0.5", .type = PEGA_TYPE_FLOAT, .flags = OPTIONAL},       \
      PEGA_GDR_BF16_TENSOR("output", PEGA_PARAM_OUTPUT, "B, HV, 128",                                 \
                           "the rule's output; 0 for padding")

static const pega_param plain_params[] = {
    PEGA_GDR_PLAIN_INPUTS("B"),
    STATES_AND_OUTPUT,
    PEGA_GDR_NORMALIZE,
    PEGA_GDR_CHECK,
};
static const pega_param projected_params[] = {
    PEGA_GDR_PROJECTED_INPUTS("B"),
    STATES_AND_OUTPUT,
    PEGA_GDR_CHECK,
};

enum { kStates = 5, kSlots, kScale, kOutput, kBehindOutput };

/* --- the kernels --- */

enum { kPlain, kProjected, kBatch, kNumKernels };
#define CUDA "pegainfer.cuda_cubin.qwen35.gated_delta_rule_decode"
static pega_kernel_slot slots[kNumKernels] = {
    [kPlain] =
        {CUDA, NULL,
         "*q_ptr *k_ptr *v_ptr *g_ptr *beta_ptr *states_ptr ?slots_ptr *output_ptr #batch_size "
         "#num_slots &slot_bits ^num_key_heads ^num_value_heads %scale &normalize ~stream",
         NULL},
    [kProjected] = {CUDA "_projected", NULL,
                    "*qkv_ptr *b_ptr *a_ptr *dt_bias_ptr *a_log_ptr *states_ptr ?slots_ptr "
                    "*output_ptr #batch_size #num_slots &slot_bits ^num_key_heads ^num_value_heads "
                    "%scale ~stream",
                    NULL},
    [kBatch] =
        {CUDA "_batch", NULL,
         "*qkv_ptr *b_proj_ptr *a_proj_ptr *dt_bias_ptr *a_log_ptr *state_ptrs_ptr *output_ptr "
         "#batch_size ^num_key_heads ^num_value_heads ~stream",
         NULL},
};

pega_kernel_slot *pega_decode_kernel_slot(const char *name) {
  for (int i = 0; i < kNumKernels; ++i) {
    if (strcmp(slots[i].name, name) == 0) return &slots[i];
  }
  return NULL;
}

#define P(pointer) pega_value_pointer(pointer)
#define I(number) pega_value_int(number)

static pega_status launch(const pega_decode *call, pega_error *error) {
  const pega_gdr_shape *shape = &call->shape;
  void *stream;
  pega_status status = pega_stream_get((DLDevice){kDLCUDA, call->device}, &stream, error);
  if (status != PEGA_OK) return status;
  if (call->in.projected) {
    const pega_value args[] = {
        P(call->in.q),
        P(call->in.b),
        P(call->in.a),
        P(call->in.dt_bias),
        P(call->in.a_log),
        P(call->states),
        P(call->slots),
        P(call->output),
        I(shape->num_sequences),
        I(call->num_slots),
        I(call->slot_bits),
        I(shape->num_key_heads),
        I(shape->num_value_heads),
        pega_value_float((double)call->scale),
        P(stream),
    };
    return pega_kernel_slot_launch(&slots[kProjected], call->function, args, call->device, NULL,
                                   error);
  }
  const pega_value args[] = {
      P(call->in.q),
      P(call->in.k),
      P(call->in.v),
      P(call->in.g),
      P(call->in.beta),
      P(call->states),
      P(call->slots),
      P(call->output),
      I(shape->num_sequences),
      I(call->num_slots),
      I(call->slot_bits),
      I(shape->num_key_heads),
      I(shape->num_value_heads),
      pega_value_float((double)call->scale),
      I(call->in.normalize ? 1 : 0),
      P(stream),
  };
  return pega_kernel_slot_launch(&slots[kPlain], call->function, args, call->device, NULL, error);
}

/* --- reading a call --- */

static pega_status read_slots(const pega_value *args, pega_decode *call, pega_error *error) {
  call->num_slots = pega_value_as_tensor(&args[kStates])->shape[0];
  pega_status status = pega_gdr_read_indices(call->function, "slots", &args[kSlots], &call->slots,
                                             &call->slot_bits, error);
  if (status != PEGA_OK) return status;
  if (call->num_slots > INT32_MAX) {
    return pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                          "%s: %" PRId64 " states: expected at most %" PRId32, call->function,
                          call->num_slots, INT32_MAX);
  }
  if (call->slots != NULL || call->shape.num_sequences <= call->num_slots) return PEGA_OK;
  return pega_error_set(error, PEGA_ERROR_SHAPE, NULL,
                        "%s: %" PRId64 " tokens and %" PRId64
                        " states: without 'slots' expected a state for each token",
                        call->function, call->shape.num_sequences, call->num_slots);
}

/* One token and its state. */
static pega_status check_token(const pega_decode *call, int64_t token, int64_t slot,
                               pega_error *error) {
  const pega_gdr_memory in = {call->function, call->place, call->device, token};
  const int64_t size = call->shape.num_value_heads * kGdrStateSize;
  if (slot < 0) return PEGA_OK; /* padding: nothing of it counts */
  pega_status status = pega_gdr_check_inputs(&in, &call->in, &call->shape, 1, error);
  if (status != PEGA_OK) return status;
  const pega_gdr_memory of_state = {call->function, call->place, call->device, slot};
  return pega_gdr_check_finite(&of_state, "states", call->states + slot * size, 32, size, error);
}

static pega_status check_values(const pega_decode *call, pega_error *error) {
  const pega_gdr_memory in = {call->function, call->place, call->device, 0};
  const int64_t batch = call->shape.num_sequences;
  int64_t *used = NULL;
  pega_status status = PEGA_OK;
  if (call->slots != NULL && batch > 0) {
    used = malloc((size_t)batch * sizeof *used);
    if (used == NULL) {
      return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "%s: no memory to check slots",
                            call->function);
    }
    status = pega_gdr_check_slots(&in, call->slots, call->slot_bits, batch, call->num_slots, used,
                                  error);
  }
  for (int64_t i = 0; i < batch && status == PEGA_OK; ++i) {
    status = check_token(call, i, used == NULL ? i : used[i], error);
  }
  free(used);
  return status;
}

PEGA_HOT static pega_status run(pega_decode *call, const pega_value *args, const pega_param *params,
                                bool check, pega_error *error) {
  call->shape.num_sequences = pega_value_as_tensor(&args[0])->shape[0];
  pega_status status = pega_gdr_read_inputs(call->function, args, &call->in, &call->shape, error);
  if (status == PEGA_OK) status = read_slots(args, call, error);
  if (status != PEGA_OK) return status;
  const DLDevice device = pega_value_as_tensor(&args[0])->device;
  call->device = device.device_id;
  status = pega_gdr_place_of(call->function, params[0].name, device, &call->place, error);
  if (status != PEGA_OK) return status;
  call->states = pega_gdr_data(&args[kStates]);
  call->output = pega_gdr_data(&args[kOutput]);
  call->scale = pega_gdr_scale(&args[kScale]);
  static const pega_gdr_memory_arg memory[] = {
      {0, false, -1}, {1, false, -1},       {2, false, -1},     {3, false, -1},
      {4, false, -1}, {kStates, false, -1}, {kSlots, true, -1}, {kOutput, false, -1}};
  const pega_gdr_memory in = {call->function, call->place, call->device, 0};
  status = pega_gdr_check_memory(&in, params, args, memory, PEGA_GDR_COUNT(memory), error);
  if (status == PEGA_OK && check) {
    status = check_values(call, error);
  } else if (status == PEGA_OK && call->place == kPlaceCpu && call->slots != NULL) {
    status = pega_gdr_check_slots(&in, call->slots, call->slot_bits, call->shape.num_sequences,
                                  call->num_slots, NULL, error);
  }
  if (status != PEGA_OK || call->shape.num_sequences == 0) return status;
  return call->place == kPlaceCpu ? pega_decode_run_cpu(call, error) : launch(call, error);
}

PEGA_HOT static pega_status call_plain(void *self, const pega_value *args, int32_t num_args,
                                       pega_value *result, pega_error *error) {
  (void)self;
  (void)num_args;
  (void)result;
  pega_decode call;
  call.function = PEGA_QWEN35_DECODE;
  call.in.projected = false;
  call.in.normalize = pega_gdr_is_true(&args[kBehindOutput]);
  return run(&call, args, plain_params, pega_gdr_is_true(&args[kBehindOutput + 1]), error);
}

PEGA_HOT static pega_status call_projected(void *self, const pega_value *args, int32_t num_args,
                                           pega_value *result, pega_error *error) {
  (void)self;
  (void)num_args;
  (void)result;
  pega_decode call;
  call.function = PEGA_QWEN35_DECODE_PROJECTED;
  call.in.projected = true;
  call.in.normalize = true;
  return run(&call, args, projected_params, pega_gdr_is_true(&args[kBehindOutput]), error);
}

/* --- making them --- */

static pega_status prepare(void *self, DLDevice device, pega_error *error) {
  (void)self;
  pega_status status = PEGA_OK;
  for (int i = 0; i < kNumKernels && status == PEGA_OK; ++i) {
    status = pega_kernel_slot_prepare(&slots[i], device, error);
  }
  return status;
}

pega_status pega_decode_functions(pega_status (*add)(pega_function *function, pega_error *error),
                                  pega_error *error) {
  static const pega_signature plain_signature =
      PEGA_GDR_SIGNATURE(plain_params, PEGA_SIGNATURE_SAME_DEVICE, PEGA_TYPE_NONE);
  static const pega_signature projected_signature =
      PEGA_GDR_SIGNATURE(projected_params, PEGA_SIGNATURE_SAME_DEVICE, PEGA_TYPE_NONE);
  for (int i = 0; i < 2; ++i) {
    pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
    pega_function *function;
    options.name = i == 0 ? PEGA_QWEN35_DECODE : PEGA_QWEN35_DECODE_PROJECTED;
    options.doc = i == 0
                      ? "One token of each of a batch of sequences by the gated delta rule, states "
                        "changed in place. Runs where the tensors are; on CUDA tensors on the "
                        "current stream."
                      : "One token of each of a batch of sequences from the projections: q and k "
                        "are normalised, g = -exp(a_log) softplus(a + dt_bias), beta = sigmoid(b).";
    options.signature = i == 0 ? &plain_signature : &projected_signature;
    options.call = i == 0 ? call_plain : call_projected;
    pega_status status = pega_function_create(&options, &function, error);
    if (status != PEGA_OK) return status;
    pega_function_set_prepare(function, prepare);
    status = add(function, error);
    pega_function_release(function);
    if (status != PEGA_OK) return status;
  }
  return PEGA_OK;
}

/* --- C symbols --- */

/* What a C symbol checks of its pointers: not NULL, aligned. */
static pega_status check_pointers(const pega_memory *memory, int count, pega_error *error) {
  for (int i = 0; i < count; ++i) {
    if (memory[i].begin == 0) {
      return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL, "'%s' is NULL",
                            memory[i].name);
    }
    if (memory[i].begin % kGdrAlignment != 0) {
      return pega_error_set(error, PEGA_ERROR_LAYOUT, NULL,
                            "'%s' at 0x%" PRIxPTR ": expected an address aligned to %d bytes",
                            memory[i].name, memory[i].begin, kGdrAlignment);
    }
  }
  return PEGA_OK;
}

static pega_status check_sizes(const pega_gdr_shape *shape, int32_t key_dim, int32_t val_dim,
                               pega_error *error) {
  if (key_dim != kGdrHeadSize || val_dim != kGdrHeadSize) {
    return pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                          "key_dim is %" PRId32 ", val_dim %" PRId32 ": expected %d and %d",
                          key_dim, val_dim, kGdrHeadSize, kGdrHeadSize);
  }
  return pega_gdr_check_shape("the decode step", shape, error);
}

#define MEMORY(pointer, size, is_output) \
  { #pointer, (uintptr_t)(pointer), size, is_output, -1 }

int gated_delta_rule_decode_cuda(const uint16_t *qkv, const uint16_t *b_proj,
                                 const uint16_t *a_proj, const uint16_t *dt_bias,
                                 const float *a_log, float *state, uint16_t *output,
                                 int32_t num_key_heads, int32_t num_value_heads, int32_t key_dim,
                                 int32_t val_dim, void *stream) {
  static const char symbol[] = "gated_delta_rule_decode_cuda";
  pega_error error;
  pega_error_init(&error);
  const pega_gdr_shape shape = {1, 1, num_key_heads, num_value_heads};
  pega_status status = check_sizes(&shape, key_dim, val_dim, &error);
  if (status == PEGA_OK) {
    const int64_t heads = num_value_heads;
    const pega_memory memory[] = {
        MEMORY(qkv, pega_gdr_qkv_dim(&shape) * 2, false),
        MEMORY(b_proj, heads * 2, false),
        MEMORY(a_proj, heads * 2, false),
        MEMORY(dt_bias, heads * 2, false),
        MEMORY(a_log, heads * 4, false),
        MEMORY(state, heads * kGdrStateSize * 4, true),
        MEMORY(output, heads * kGdrHeadSize * 2, true),
    };
    status = check_pointers(memory, PEGA_GDR_COUNT(memory), &error);
    if (status == PEGA_OK) {
      status = pega_memory_check("the decode step", memory, PEGA_GDR_COUNT(memory), &error);
    }
  }
  if (status == PEGA_OK) {
    const pega_value args[] = {
        P(qkv),
        P(b_proj),
        P(a_proj),
        P(dt_bias),
        P(a_log),
        P(state),
        P(NULL),
        P(output),
        I(1),
        I(1),
        I(32),
        I(num_key_heads),
        I(num_value_heads),
        pega_value_float((double)PEGA_GDR_SCALE),
        P(stream),
    };
    status = pega_kernel_slot_launch(&slots[kProjected], "the decode step", args, -1, NULL, &error);
  }
  return pega_symbol_return(symbol, status, &error);
}

int gated_delta_rule_decode_batch_cuda(const uint16_t *qkv, const uint16_t *b_proj,
                                       const uint16_t *a_proj, const uint16_t *dt_bias,
                                       const float *a_log, const uint64_t *state_ptrs,
                                       uint16_t *output, int32_t batch_size, int32_t num_key_heads,
                                       int32_t num_value_heads, int32_t key_dim, int32_t val_dim,
                                       void *stream) {
  static const char symbol[] = "gated_delta_rule_decode_batch_cuda";
  pega_error error;
  pega_error_init(&error);
  const pega_gdr_shape shape = {batch_size, batch_size, num_key_heads, num_value_heads};
  pega_status status = check_sizes(&shape, key_dim, val_dim, &error);
  if (status == PEGA_OK) {
    const int64_t rows = (int64_t)batch_size * num_value_heads;
    const pega_memory memory[] = {
        MEMORY(qkv, batch_size * pega_gdr_qkv_dim(&shape) * 2, false),
        MEMORY(b_proj, rows * 2, false),
        MEMORY(a_proj, rows * 2, false),
        MEMORY(dt_bias, (int64_t)num_value_heads * 2, false),
        MEMORY(a_log, (int64_t)num_value_heads * 4, false),
        MEMORY(state_ptrs, (int64_t)batch_size * 8, false),
        MEMORY(output, rows * kGdrHeadSize * 2, true),
    };
    status = check_pointers(memory, PEGA_GDR_COUNT(memory), &error);
    if (status == PEGA_OK) {
      status = pega_memory_check("the decode step", memory, PEGA_GDR_COUNT(memory), &error);
    }
  }
  if (status == PEGA_OK && batch_size > 0) {
    const pega_value args[] = {
        P(qkv),    P(b_proj),     P(a_proj),        P(dt_bias),         P(a_log),  P(state_ptrs),
        P(output), I(batch_size), I(num_key_heads), I(num_value_heads), P(stream),
    };
    status = pega_kernel_slot_launch(&slots[kBatch], "the decode step", args, -1, NULL, &error);
  }
  return pega_symbol_return(symbol, status, &error);
}
