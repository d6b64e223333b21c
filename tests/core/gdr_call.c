/* SPDX-License-Identifier: Apache-2.0 */
#include "gdr_call.h"

#include <stdlib.h>

/* ---- arguments ---- */

static gdr_args *begin(gdr_args *args, const char *name, int32_t count) {
  args->name = name;
  args->count = count;
  for (int i = 0; i < COUNT(args->values); ++i) args->values[i] = pega_value_none();
  return args;
}

void gdr_set_tensor(gdr_args *args, int index, DLDevice device, DLDataType dtype, const void *data,
                    int32_t ndim, const int64_t *sizes) {
  memcpy(args->shapes[index], sizes, (size_t)ndim * sizeof *sizes);
  args->tensors[index] = (DLTensor){.data = (void *)(uintptr_t)data,
                                    .device = device,
                                    .ndim = ndim,
                                    .dtype = dtype,
                                    .shape = args->shapes[index]};
  args->values[index] = pega_value_tensor(&args->tensors[index]);
}

#define PUT(index, dtype, data, ...)                                                  \
  gdr_set_tensor(args, index, memory->device, dtype, data, COUNT(SHAPE(__VA_ARGS__)), \
                 SHAPE(__VA_ARGS__))
#define PUT_OPTIONAL(index, dtype, data, ...)                 \
  do {                                                        \
    const void *data_ = (data);                               \
    if (data_ != NULL) PUT(index, dtype, data_, __VA_ARGS__); \
  } while (0)

static DLDataType whole_numbers(int bits) { return bits == 32 ? INT32 : INT64; }

gdr_memory gdr_host_memory(const gdr_problem *problem) {
  return (gdr_memory){.device = CPU,
                      .q = problem->long_q != NULL ? problem->long_q : problem->q,
                      .k = problem->long_k != NULL ? problem->long_k : problem->k,
                      .v = problem->v,
                      .g = problem->g,
                      .beta = problem->beta,
                      .qkv = problem->qkv,
                      .b = problem->b,
                      .a = problem->a,
                      .dt_bias = problem->dt_bias,
                      .a_log = problem->a_log,
                      .initial_state = problem->initial_state,
                      .cu_seqlens = problem->cu_seqlens,
                      .cu_bits = 64,
                      .slot_bits = 64};
}

void gdr_prefill_args(gdr_args *args, const gdr_problem *sizes, const gdr_memory *memory) {
  const int64_t t = sizes->num_tokens;
  const int64_t n = sizes->num_sequences;
  const int64_t hk = sizes->num_key_heads;
  const int64_t hv = sizes->num_value_heads;
  begin(args, PEGA_QWEN35_PREFILL, NUM_PREFILL);
  PUT(PREFILL_Q, BFLOAT16, memory->q, t, hk, kGdrDim);
  PUT(PREFILL_K, BFLOAT16, memory->k, t, hk, kGdrDim);
  PUT(PREFILL_V, BFLOAT16, memory->v, t, hv, kGdrDim);
  PUT(PREFILL_G, FLOAT32, memory->g, t, hv);
  PUT(PREFILL_BETA, FLOAT32, memory->beta, t, hv);
  PUT_OPTIONAL(PREFILL_INITIAL_STATE, FLOAT32, memory->initial_state, n, hv, kGdrDim, kGdrDim);
  PUT_OPTIONAL(PREFILL_CU_SEQLENS, whole_numbers(memory->cu_bits), memory->cu_seqlens, n + 1);
  PUT(PREFILL_OUTPUT, BFLOAT16, memory->output, t, hv, kGdrDim);
  PUT_OPTIONAL(PREFILL_FINAL_STATE, FLOAT32, memory->final_state, n, hv, kGdrDim, kGdrDim);
}

void gdr_projected_args(gdr_args *args, const gdr_problem *sizes, const gdr_memory *memory) {
  const int64_t t = sizes->num_tokens;
  const int64_t n = sizes->num_sequences;
  const int64_t hv = sizes->num_value_heads;
  begin(args, PEGA_QWEN35_PREFILL_PROJECTED, NUM_PROJECTED);
  PUT(PROJECTED_QKV, BFLOAT16, memory->qkv, t, (2 * sizes->num_key_heads + hv) * kGdrDim);
  PUT(PROJECTED_B, BFLOAT16, memory->b, t, hv);
  PUT(PROJECTED_A, BFLOAT16, memory->a, t, hv);
  PUT(PROJECTED_DT_BIAS, BFLOAT16, memory->dt_bias, hv);
  PUT(PROJECTED_A_LOG, FLOAT32, memory->a_log, hv);
  PUT_OPTIONAL(PROJECTED_INITIAL_STATE, FLOAT32, memory->initial_state, n, hv, kGdrDim, kGdrDim);
  PUT_OPTIONAL(PROJECTED_CU_SEQLENS, whole_numbers(memory->cu_bits), memory->cu_seqlens, n + 1);
  PUT(PROJECTED_OUTPUT, BFLOAT16, memory->output, t, hv, kGdrDim);
  PUT_OPTIONAL(PROJECTED_FINAL_STATE, FLOAT32, memory->final_state, n, hv, kGdrDim, kGdrDim);
}

void gdr_decode_args(gdr_args *args, const gdr_problem *sizes, const gdr_memory *memory) {
  const int64_t b = sizes->num_tokens;
  const int64_t hk = sizes->num_key_heads;
  const int64_t hv = sizes->num_value_heads;
  begin(args, PEGA_QWEN35_DECODE, NUM_DECODE);
  PUT(DECODE_Q, BFLOAT16, memory->q, b, hk, kGdrDim);
  PUT(DECODE_K, BFLOAT16, memory->k, b, hk, kGdrDim);
  PUT(DECODE_V, BFLOAT16, memory->v, b, hv, kGdrDim);
  PUT(DECODE_G, FLOAT32, memory->g, b, hv);
  PUT(DECODE_BETA, FLOAT32, memory->beta, b, hv);
  PUT(DECODE_STATES, FLOAT32, memory->states, memory->num_slots, hv, kGdrDim, kGdrDim);
  PUT_OPTIONAL(DECODE_SLOTS, whole_numbers(memory->slot_bits), memory->slots, b);
  PUT(DECODE_OUTPUT, BFLOAT16, memory->output, b, hv, kGdrDim);
}

void gdr_decode_projected_args(gdr_args *args, const gdr_problem *sizes, const gdr_memory *memory) {
  const int64_t b = sizes->num_tokens;
  const int64_t hv = sizes->num_value_heads;
  begin(args, PEGA_QWEN35_DECODE_PROJECTED, NUM_DECODE_PROJECTED);
  PUT(DECODE_PROJECTED_QKV, BFLOAT16, memory->qkv, b, (2 * sizes->num_key_heads + hv) * kGdrDim);
  PUT(DECODE_PROJECTED_B, BFLOAT16, memory->b, b, hv);
  PUT(DECODE_PROJECTED_A, BFLOAT16, memory->a, b, hv);
  PUT(DECODE_PROJECTED_DT_BIAS, BFLOAT16, memory->dt_bias, hv);
  PUT(DECODE_PROJECTED_A_LOG, FLOAT32, memory->a_log, hv);
  PUT(DECODE_PROJECTED_STATES, FLOAT32, memory->states, memory->num_slots, hv, kGdrDim, kGdrDim);
  PUT_OPTIONAL(DECODE_PROJECTED_SLOTS, whole_numbers(memory->slot_bits), memory->slots, b);
  PUT(DECODE_PROJECTED_OUTPUT, BFLOAT16, memory->output, b, hv, kGdrDim);
}

static pega_status call(const char *name, const pega_value *values, int32_t count,
                        pega_value *result, pega_error *error) {
  pega_function *function;
  pega_status status = pega_registry_get(name, &function, error);
  if (status != PEGA_OK) return status;
  status = pega_function_call(function, values, count, result, error);
  pega_function_release(function);
  return status;
}

pega_status gdr_run(const gdr_args *args, pega_error *error) {
  return call(args->name, args->values, args->count, NULL, error);
}

int64_t gdr_workspace_bytes(const gdr_problem *sizes, DLDevice device, bool projected,
                            bool normalize, const char *implementation) {
  pega_error error = PEGA_ERROR_INIT;
  pega_value result = pega_value_none();
  EXPECT_OK(call(PEGA_QWEN35_PREFILL_WORKSPACE,
                 ARGS(pega_value_int(sizes->num_tokens), pega_value_int(sizes->num_sequences),
                      pega_value_int(sizes->num_key_heads), pega_value_int(sizes->num_value_heads),
                      pega_value_device(device), pega_value_bool(projected),
                      pega_value_bool(normalize), pega_value_string(implementation)),
                 &result, &error),
            &error);
  assert_int_equal(result.kind, PEGA_INT);
  assert_true(result.as.i64 >= 0);
  return result.as.i64;
}

/* ---- memory that shows what was written ---- */

enum { kMargin = 256, kMarginByte = 0xa5, kPoisonByte = 0xff };

gdr_guarded gdr_guarded_create(int64_t bytes) {
  gdr_guarded guarded = {.bytes = bytes};
  guarded.memory = gdr_allocate(bytes + 2 * kMargin, 1);
  guarded.data = guarded.memory + kMargin;
  memset(guarded.memory, kMarginByte, (size_t)bytes + 2 * kMargin);
  gdr_guarded_poison(&guarded);
  return guarded;
}

gdr_guarded gdr_guarded_of(void *data, int64_t bytes) {
  return (gdr_guarded){.memory = (unsigned char *)data - kMargin, .data = data, .bytes = bytes};
}

void gdr_guarded_poison(gdr_guarded *guarded) {
  memset(guarded->data, kPoisonByte, (size_t)guarded->bytes);
}

static bool all_are(const unsigned char *bytes, int64_t count, unsigned char value) {
  for (int64_t i = 0; i < count; ++i) {
    if (bytes[i] != value) return false;
  }
  return true;
}

bool gdr_guarded_intact(const gdr_guarded *guarded) {
  return all_are(guarded->memory, kMargin, kMarginByte) &&
         all_are(guarded->memory + kMargin + guarded->bytes, kMargin, kMarginByte);
}

bool gdr_guarded_untouched(const gdr_guarded *guarded) {
  return all_are(guarded->data, guarded->bytes, kPoisonByte);
}

void gdr_guarded_free(gdr_guarded *guarded) {
  free(guarded->memory);
  guarded->memory = NULL;
  guarded->data = NULL;
}
