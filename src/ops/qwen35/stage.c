/* SPDX-License-Identifier: Apache-2.0 */
#include "stage.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/function.h"
#include "core/hot.h"
#include "ops/qwen35/inputs.h"
#include "ops/symbol_error.h"

/* What every form comes down to. */
typedef struct stage_call {
  const char *function;
  void *memory[kMaxStageMemory];
  pega_gdr_shape shape;
  float scale;
} stage_call;

static int64_t extent(const pega_stage_memory *memory, const pega_gdr_shape *shape) {
  const int64_t row = memory->row_size != 0 ? memory->row_size : pega_gdr_qkv_dim(shape);
  int64_t rows = 1;
  switch ((pega_stage_rows)memory->rows) {
    case kRowsToken:
      rows = shape->num_tokens;
      break;
    case kRowsChunkHead:
      rows = pega_gdr_num_chunks(shape->num_tokens) * shape->num_value_heads;
      break;
    case kRowsHead:
      rows = shape->num_value_heads;
      break;
    case kRowsTokenHead:
      rows = shape->num_tokens * shape->num_value_heads;
      break;
  }
  return rows * row * memory->element_size;
}

__attribute__((cold, noinline)) static pega_status misaligned(const stage_call *call,
                                                              const pega_memory *memory,
                                                              pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_LAYOUT, NULL,
                        "%s: '%s' at 0x%" PRIxPTR
                        ": expected an address aligned to %d bytes on a GPU",
                        call->function, memory->name, memory->begin, kGdrAlignment);
}

/* `align`: also that addresses are aligned as kernels have them. */
static pega_status check_memory(const pega_stage *stage, const stage_call *call, bool align,
                                pega_error *error) {
  pega_memory memory[kMaxStageMemory];
  for (int i = 0; i < stage->num_memory; ++i) {
    const pega_stage_memory *of = &stage->memory[i];
    memory[i].name = of->name;
    memory[i].begin = (uintptr_t)call->memory[i];
    memory[i].bytes = call->memory[i] == NULL ? 0 : extent(of, &call->shape);
    memory[i].output = of->output;
    memory[i].in_place = of->in_place;
    if (align && memory[i].begin % kGdrAlignment != 0 && memory[i].bytes != 0) {
      return misaligned(call, &memory[i], error);
    }
  }
  return pega_memory_check(call->function, memory, stage->num_memory, error);
}

static bool is_empty(const pega_stage *stage, const stage_call *call) {
  return call->shape.num_value_heads == 0 || (call->shape.num_tokens == 0 && !stage->has_states);
}

/* --- the raw form --- */

static pega_status check_raw_shape(const pega_stage *stage, const stage_call *call, int64_t qkv_dim,
                                   pega_error *error) {
  if (!stage->has_key_heads) return PEGA_OK;
  pega_status status = pega_gdr_check_shape(call->function, &call->shape, error);
  if (status != PEGA_OK) return status;
  if (qkv_dim == pega_gdr_qkv_dim(&call->shape)) return PEGA_OK;
  return pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                        "%s: qkv_dim is %" PRId64 ": expected (2 HK + HV) 128 = %" PRId64,
                        call->function, qkv_dim, pega_gdr_qkv_dim(&call->shape));
}

PEGA_HOT static pega_status call_raw(void *self, const pega_value *args, int32_t num_args,
                                     pega_value *result, pega_error *error) {
  (void)num_args;
  (void)result;
  const pega_stage *stage = self;
  const pega_value *sizes = args + stage->num_memory;
  stage_call call;
  call.function = stage->slot->name;
  /* Every accepted kind of pointer keeps the address in u64, every kind of integer in i64. */
  for (int i = 0; i < stage->num_memory; ++i) {
    call.memory[i] = args[i].kind == PEGA_NONE ? NULL : (void *)(uintptr_t)args[i].as.u64;
  }
  call.shape.num_sequences = 1;
  call.shape.num_tokens = sizes[stage->has_key_heads ? 3 : 0].as.i64;
  call.shape.num_value_heads = sizes[1].as.i64;
  call.shape.num_key_heads = stage->has_key_heads ? sizes[0].as.i64 : call.shape.num_value_heads;
  pega_status status =
      check_raw_shape(stage, &call, stage->has_key_heads ? sizes[2].as.i64 : 0, error);
  if (status == PEGA_OK) status = check_memory(stage, &call, false, error);
  if (status != PEGA_OK || is_empty(stage, &call)) return status;
  return pega_kernel_slot_launch(stage->slot, call.function, args, -1, NULL, error);
}

/* --- the tensor form --- */

static pega_status launch_on_tensors(const pega_stage *stage, const stage_call *call,
                                     int32_t device, pega_error *error) {
  void *stream;
  /* Managed memory is used on the streams of its device. */
  pega_status status = pega_stream_get((DLDevice){kDLCUDA, device}, &stream, error);
  if (status != PEGA_OK) return status;
  pega_value args[kMaxStageMemory + 6];
  int n = 0;
  for (; n < stage->num_memory; ++n) args[n] = pega_value_pointer(call->memory[n]);
  if (stage->has_key_heads) {
    args[n++] = pega_value_int(call->shape.num_key_heads);
    args[n++] = pega_value_int(call->shape.num_value_heads);
    args[n++] = pega_value_int(pega_gdr_qkv_dim(&call->shape));
    args[n++] = pega_value_int(call->shape.num_tokens);
  } else {
    args[n++] = pega_value_int(call->shape.num_tokens);
    args[n++] = pega_value_int(call->shape.num_value_heads);
  }
  if (stage->has_scale) args[n++] = pega_value_float((double)call->scale);
  args[n] = pega_value_pointer(stream);
  return pega_kernel_slot_launch(stage->slot, call->function, args, device, NULL, error);
}

/* The sizes that a call's tensors have. All stages but prepare begin with one of [T, HV, ...]. */
static pega_status read_shape(const pega_stage *stage, const pega_value *args, stage_call *call,
                              pega_error *error) {
  const DLTensor *first = pega_value_as_tensor(&args[0]);
  call->shape.num_sequences = 1;
  call->shape.num_tokens = first->shape[0];
  if (stage->has_key_heads) {
    call->shape.num_value_heads = pega_value_as_tensor(&args[1])->shape[1];
    pega_status status = pega_gdr_split_qkv(call->function, first->shape[1], &call->shape, error);
    return status == PEGA_OK ? pega_gdr_check_shape(call->function, &call->shape, error) : status;
  }
  call->shape.num_value_heads = first->shape[1];
  call->shape.num_key_heads = first->shape[1];
  if (call->shape.num_tokens <= INT32_MAX && call->shape.num_value_heads <= kGdrMaxHeads) {
    return PEGA_OK;
  }
  return pega_error_set(
      error, PEGA_ERROR_RANGE, NULL,
      "%s: T = %" PRId64 ", HV = %" PRId64 ": expected at most %" PRId32 " and %d", call->function,
      call->shape.num_tokens, call->shape.num_value_heads, INT32_MAX, kGdrMaxHeads);
}

static pega_status check_chunks(const pega_stage *stage, const pega_value *args,
                                const stage_call *call, pega_error *error) {
  for (int i = 0; i < stage->num_memory; ++i) {
    if (stage->memory[i].rows != kRowsChunkHead) continue;
    const int64_t got = pega_value_as_tensor(&args[i])->shape[0];
    const int64_t expected = pega_gdr_num_chunks(call->shape.num_tokens);
    if (got == expected) continue;
    return pega_error_set(
        error, PEGA_ERROR_SHAPE, NULL,
        "%s: '%s' is for %" PRId64 " chunks: expected ceil(T / 64) = %" PRId64 " for T = %" PRId64,
        call->function, stage->memory[i].name, got, expected, call->shape.num_tokens);
  }
  return PEGA_OK;
}

PEGA_HOT static pega_status call_tensor(void *self, const pega_value *args, int32_t num_args,
                                        pega_value *result, pega_error *error) {
  (void)num_args;
  (void)result;
  const pega_stage *stage = self;
  stage_call call;
  call.function = stage->name;
  for (int i = 0; i < stage->num_memory; ++i) {
    call.memory[i] = pega_gdr_data(&args[i]);
  }
  call.scale = stage->has_scale ? pega_gdr_scale(&args[stage->num_memory]) : 0;
  pega_status status = read_shape(stage, args, &call, error);
  if (status == PEGA_OK) status = check_chunks(stage, args, &call, error);
  if (status != PEGA_OK) return status;
  const DLDevice device = pega_value_as_tensor(&args[0])->device;
  pega_gdr_place place;
  status = pega_gdr_place_of(call.function, stage->memory[0].name, device, &place, error);
  if (status == PEGA_OK) status = check_memory(stage, &call, place == kPlaceCuda, error);
  if (status != PEGA_OK || is_empty(stage, &call)) return status;
  if (place == kPlaceCuda) return launch_on_tensors(stage, &call, device.device_id, error);
  stage->cpu(call.memory, &call.shape, call.scale);
  return PEGA_OK;
}

/* --- making them --- */

static pega_status prepare(void *self, DLDevice device, pega_error *error) {
  const pega_stage *stage = self;
  return pega_kernel_slot_prepare(stage->slot, device, error);
}

enum { kMaxRawParams = kMaxStageMemory + 6, kDocSize = 64 };

/* What a pointer points at, as text. */
static void describe(const pega_stage_memory *memory, char doc[kDocSize]) {
  static const char *const shapes[] = {[kRowsToken] = "T, qkv_dim",
                                       [kRowsChunkHead] = "ceil(T / 64), HV, 128, 128",
                                       [kRowsHead] = "HV",
                                       [kRowsTokenHead] = "T, HV"};
  char row[24] = "";
  if (memory->rows == kRowsHead && memory->row_size == kGdrStateSize) {
    (void)snprintf(row, sizeof row, ", 128, 128");
  } else if (memory->rows == kRowsTokenHead && memory->row_size > 1) {
    (void)snprintf(row, sizeof row, ", %" PRId32, memory->row_size);
  }
  (void)snprintf(doc, kDocSize, "%s [%s%s]%s", memory->element_size == 2 ? "bfloat16" : "float32",
                 shapes[memory->rows], row, memory->output ? ", written" : "");
}

static pega_status create_raw(const pega_stage *stage, pega_function_options *options,
                              pega_function **out, pega_error *error) {
  pega_param params[kMaxRawParams];
  char names[kMaxRawParams][64];
  char docs[kMaxStageMemory][kDocSize];
  pega_signature signature = PEGA_SIGNATURE_INIT;
  const char *at = stage->slot->params;
  int n = 0;
  for (; n < kMaxRawParams && pega_kernel_slot_next_param(&at, &params[n], names[n]); ++n) {
    pega_param *param = &params[n];
    if (n < stage->num_memory) {
      describe(&stage->memory[n], docs[n]);
      param->doc = docs[n];
      if ((param->flags & PEGA_PARAM_NONNULL) == 0) param->flags |= PEGA_PARAM_OPTIONAL;
      if (stage->memory[n].output) param->flags |= PEGA_PARAM_OUTPUT;
    } else if (param->type == PEGA_TYPE_INT) {
      const bool heads = strstr(param->name, "heads") != NULL;
      if (heads && !stage->has_key_heads) param->min = 0;
      param->doc = heads ? "HK or HV, as its name says" : "T or the width of qkv, as its name says";
    }
  }
  signature.params = params;
  signature.num_params = n;
  options->signature = &signature;
  return pega_function_create(options, out, error);
}

static pega_status create(const pega_stage *stage, bool raw, pega_function **out,
                          pega_error *error) {
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  options.name = raw ? stage->slot->name : stage->name;
  options.doc = raw ? stage->raw_doc : stage->doc;
  options.signature = stage->signature;
  options.call = raw ? call_raw : call_tensor;
  options.self = (void *)(uintptr_t)stage;
  pega_status status =
      raw ? create_raw(stage, &options, out, error) : pega_function_create(&options, out, error);
  if (status == PEGA_OK) pega_function_set_prepare(*out, prepare);
  return status;
}

static pega_status get_raw_form(const pega_stage *stage, pega_function **out, pega_error *error) {
  *out = atomic_load_explicit(stage->raw_form, memory_order_acquire);
  if (*out != NULL) return PEGA_OK;
  pega_function *made;
  pega_status status = create(stage, true, &made, error);
  if (status != PEGA_OK) return status;
  if (atomic_compare_exchange_strong(stage->raw_form, out, made)) {
    *out = made;
  } else {
    pega_function_release(made);
  }
  return PEGA_OK;
}

pega_status pega_stage_functions(const pega_stage *stage,
                                 pega_status (*add)(pega_function *function, pega_error *error),
                                 pega_error *error) {
  pega_function *function;
  pega_status status = get_raw_form(stage, &function, error);
  if (status == PEGA_OK) status = add(function, error);
  if (status == PEGA_OK) {
    status = create(stage, false, &function, error);
    if (status != PEGA_OK) return status;
    status = add(function, error);
    pega_function_release(function);
  }
  return status;
}

int pega_stage_call_symbol(const pega_stage *stage, const pega_value *args, int32_t num_args) {
  pega_error error;
  pega_error_init(&error);
  pega_function *function;
  pega_status status = get_raw_form(stage, &function, &error);
  if (status == PEGA_OK) status = pega_function_call(function, args, num_args, NULL, &error);
  return pega_symbol_return(stage->symbol, status, &error);
}
