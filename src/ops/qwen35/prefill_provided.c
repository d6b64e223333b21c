/* SPDX-License-Identifier: Apache-2.0 */
/* A prefill by functions that were provided: what is taken from whom, and what lies between them
 * and ours. */
#include <inttypes.h>
#include <math.h>

#include "core/text.h"
#include "ops/qwen35/prefill_launch.h"

/* The functions: set once and kept for the rest of the process, so that calls read them without
 * a lock. */
enum { kWhole, kParallel, kNumProvided };
static const char *const names[kNumProvided] = {"flashinfer", "flashinfer_cp"};
static _Atomic(pega_function *) provided[kNumProvided];

static const uint8_t wanted[] = {
    PEGA_TYPE_TENSOR, PEGA_TYPE_TENSOR, PEGA_TYPE_TENSOR, PEGA_TYPE_TENSOR, PEGA_TYPE_TENSOR,
    PEGA_TYPE_TENSOR, PEGA_TYPE_TENSOR, PEGA_TYPE_TENSOR, PEGA_TYPE_TENSOR, PEGA_TYPE_TENSOR,
    PEGA_TYPE_FLOAT,  PEGA_TYPE_INT,    PEGA_TYPE_STREAM};
enum { kNumArguments = sizeof wanted };

static bool takes_them(const pega_signature *signature) {
  if (signature->num_params != kNumArguments) return false;
  for (int i = 0; i < kNumArguments; ++i) {
    const uint32_t type = signature->params[i].type;
    if (type != wanted[i] && type != PEGA_TYPE_ANY &&
        !(wanted[i] == PEGA_TYPE_STREAM && type == PEGA_TYPE_POINTER)) {
      return false;
    }
  }
  return true;
}

pega_status pega_qwen35_provide_prefill(const char *implementation, pega_function *function,
                                        pega_error *error) {
  static const char where[] = "pega_qwen35_provide_prefill";
  int which = 0;
  if (implementation == NULL || function == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL, "%s: '%s' is NULL", where,
                          function == NULL ? "function" : "implementation");
  }
  while (which < kNumProvided && strcmp(names[which], implementation) != 0) ++which;
  if (which == kNumProvided) {
    char shown[96];
    return pega_error_set(error, PEGA_ERROR_NOT_FOUND, NULL,
                          "%s: no implementation '%s' can be provided: expected '%s' or '%s'",
                          where, pega_text_short_name(implementation, shown), names[0], names[1]);
  }
  const pega_signature *signature = pega_function_signature(function);
  if (signature != NULL && !takes_them(signature)) {
    return pega_error_set(
        error, PEGA_ERROR_TYPE, NULL,
        "%s: '%s' takes something else than an implementation of the prefill does "
        "(pega/qwen35.h: 10 tensors, a float, an int, a stream): %s",
        where, pega_function_name(function), pega_function_signature_text(function));
  }
  pega_function *before = NULL;
  pega_function_retain(function);
  if (atomic_compare_exchange_strong(&provided[which], &before, function)) return PEGA_OK;
  pega_function_release(function);
  if (before == function) return PEGA_OK;
  return pega_error_set(error, PEGA_ERROR_ALREADY_EXISTS, NULL,
                        "%s: '%s' was provided before, by '%s': what is provided stays", where,
                        names[which], pega_function_name(before));
}

/* --- sizes --- */

/* On the GPU there are as many multiprocessors as this, and a few more. */
enum { kProcessors = 132, kDescriptors = 256 * 128, kMaxSequences = 65535 };

static int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Tokens of a chunk that is worked on beside the others: where there are few heads, or few
 * tokens, as long as there are chunks, so that going over the chunks takes no longer than going
 * through one; else as many chunks as there are processors for. */
static int64_t chunk_of(const pega_gdr_shape *shape) {
  const int64_t tokens = shape->num_tokens;
  const int64_t heads = shape->num_value_heads;
  if (divide_up(tokens, 512) * heads * 2 < kProcessors) {
    const int64_t even = (int64_t)ceil(sqrt((double)(tokens * kGdrChunk)));
    return divide_up(even < 1 ? 1 : even, kGdrChunk) * kGdrChunk;
  }
  const int64_t chunks = heads < kProcessors ? kProcessors / heads : 1;
  return divide_up(divide_up(tokens, chunks), 512) * 512;
}

/* As many pieces of `size` tokens as the sequences can have. */
static int64_t pieces(const pega_gdr_shape *shape, int64_t size) {
  const int64_t tokens = shape->num_tokens;
  const int64_t least = shape->num_sequences < tokens ? shape->num_sequences : tokens;
  return least + (tokens - least) / size;
}

static const char *unfit(const pega_prefill *call, int which) {
  const pega_gdr_shape *shape = &call->shape;
  const int64_t heads = shape->num_value_heads;
  const int64_t most = INT32_MAX / kGdrHeadSize / heads; /* rows, of fewer than 2^31 elements */
  if (atomic_load_explicit(&provided[which], memory_order_acquire) == NULL) {
    return "no function was provided: pega_qwen35_provide_prefill() takes one of a module that "
           "tools/dsl/flashinfer_gdn.py builds (docs/functions.md)";
  }
  if (shape->num_sequences > kMaxSequences) return "it takes up to 65535 sequences";
  if (shape->num_tokens > most || shape->num_sequences > most / kGdrHeadSize ||
      (which == kParallel && pieces(shape, kGdrChunk) > most / 32)) {
    return "it takes fewer than 2^31 elements of v and of states";
  }
  const pega_cuda_driver *driver;
  pega_cuda_device *device;
  if (pega_cuda_driver_get(&driver, NULL) != PEGA_OK ||
      pega_cuda_device_get(driver, call->function, call->device, &device, NULL) != PEGA_OK) {
    return "it is for GPUs of compute capability 9.0, and the driver has no such device";
  }
  return device->compute_capability == 90 ? NULL : "it is for GPUs of compute capability 9.0";
}

const char *pega_prefill_whole_unfit(const pega_prefill *call) { return unfit(call, kWhole); }
const char *pega_prefill_parallel_unfit(const pega_prefill *call) { return unfit(call, kParallel); }

/* --- the workspace --- */

typedef struct parts {
  pega_prefill_inputs in;
  void *alpha, *sequences, *initial, *final, *own;
  int64_t own_bytes;
} parts;

static parts take(const pega_prefill *call, int64_t chunk, pega_prefill_parts *workspace) {
  const pega_gdr_shape *shape = &call->shape;
  const int64_t heads = shape->num_value_heads;
  const int64_t states = shape->num_sequences * heads * kGdrStateSize * 4;
  parts out;
  out.in = pega_prefill_take_inputs(call, workspace);
  out.alpha = pega_prefill_take(workspace, pega_prefill_rows(call) * 4);
  out.sequences = pega_prefill_take(workspace, (shape->num_sequences + 1) * 8);
  /* Also where a call has no states: what is wanted is known of sizes alone. */
  out.initial = pega_prefill_take(workspace, states);
  out.final = pega_prefill_take(workspace, states);
  const int64_t begin = workspace->used;
  out.own = pega_prefill_take(workspace, kDescriptors);
  if (chunk > 0) {
    pega_prefill_take(workspace, pieces(shape, kGdrChunk) * heads * kGdrChunk * kGdrChunk * 2);
    for (int i = 0; i < 3; ++i) {
      pega_prefill_take(workspace, pieces(shape, chunk) * heads * kGdrStateSize * 4);
    }
  }
  out.own_bytes = workspace->used - begin;
  return out;
}

static int64_t workspace_bytes(const pega_prefill *call, int64_t chunk) {
  pega_prefill_parts workspace = {NULL, 0};
  (void)take(call, chunk, &workspace);
  return workspace.used;
}

int64_t pega_prefill_whole_workspace(const pega_prefill *call) { return workspace_bytes(call, 0); }
int64_t pega_prefill_parallel_workspace(const pega_prefill *call) {
  return workspace_bytes(call, chunk_of(&call->shape));
}

/* --- the call --- */

typedef struct tensor {
  DLTensor dl;
  int64_t shape[4], strides[4];
} tensor;

#define BF16 ((DLDataType){kDLBfloat, 16, 1})
#define FP32 ((DLDataType){kDLFloat, 32, 1})

/* Of rows, heads, and what one of them has; `row` elements from row to row. */
static pega_value fill(tensor *out, const pega_prefill *call, const void *data, DLDataType dtype,
                       int32_t ndim, const int64_t shape[4], int64_t row) {
  int64_t step = 1;
  for (int32_t i = ndim - 1; i >= 0; --i) {
    out->shape[i] = shape[i];
    out->strides[i] = i == 0 && row != 0 ? row : step;
    step *= shape[i];
  }
  out->dl = (DLTensor){
      (void *)(uintptr_t)data, {kDLCUDA, call->device}, ndim, dtype, out->shape, out->strides, 0};
  return pega_value_tensor(&out->dl);
}

static pega_status call_it(const pega_prefill_launcher *with, int which, int64_t chunk,
                           const parts *at, pega_error *error) {
  const pega_prefill *call = with->call;
  const pega_gdr_shape *shape = &call->shape;
  const int64_t tokens = shape->num_tokens;
  const int64_t sequences = shape->num_sequences;
  const int64_t heads = shape->num_value_heads;
  const int64_t keys[4] = {tokens, shape->num_key_heads, kGdrHeadSize, 0};
  const int64_t values[4] = {tokens, heads, kGdrHeadSize, 0};
  const int64_t states[4] = {sequences, heads, kGdrHeadSize, kGdrHeadSize};
  const int64_t starts[4] = {sequences + 1, 0, 0, 0};
  const int64_t bytes[4] = {at->own_bytes, 0, 0, 0};
  tensor tensors[10];
  const pega_value args[kNumArguments] = {
      fill(&tensors[0], call, at->in.q, BF16, 3, keys, 0),
      fill(&tensors[1], call, at->in.k, BF16, 3, keys, 0),
      fill(&tensors[2], call, call->in.v, BF16, 3, values, call->in.v_stride),
      fill(&tensors[3], call, at->alpha, FP32, 2, values, 0),
      fill(&tensors[4], call, at->in.beta, FP32, 2, values, 0),
      fill(&tensors[5], call, at->sequences, (DLDataType){kDLInt, 64, 1}, 1, starts, 0),
      call->initial_state == NULL ? pega_value_none()
                                  : fill(&tensors[6], call, at->initial, FP32, 4, states, 0),
      fill(&tensors[7], call, call->output, BF16, 3, values, 0),
      fill(&tensors[8], call, at->final, FP32, 4, states, 0),
      fill(&tensors[9], call, at->own, (DLDataType){kDLUInt, 8, 1}, 1, bytes, 0),
      pega_value_float((double)call->scale),
      pega_value_int(chunk),
      pega_value_pointer(with->stream),
  };
  pega_function *function = atomic_load_explicit(&provided[which], memory_order_acquire);
  return pega_function_call(function, args, kNumArguments, NULL, error);
}

/* Its error, with the implementation's name; the kind and the code stay. */
__attribute__((cold, noinline)) static pega_status named(const pega_prefill *call, int which,
                                                         pega_status status, pega_error *error) {
  if (error == NULL) return status;
  pega_error why;
  pega_error_init(&why);
  pega_error_copy(error, &why);
  pega_error_set(error, status, pega_error_kind(&why), "%s: implementation '%s': %s",
                 call->function, names[which], pega_error_message(&why));
  error->code = why.code;
  pega_error_set_cause(error, &why);
  return status;
}

/* In a context of the device: foreign code finds its device by it. */
static pega_status call_in_context(const pega_prefill_launcher *with, int which, int64_t chunk,
                                   const parts *at, pega_error *error) {
  const pega_prefill *call = with->call;
  const pega_cuda_driver *driver;
  pega_cuda_device *device;
  pega_cuda_guard guard;
  pega_status status =
      pega_cuda_enter_device(call->function, call->device, &driver, &device, &guard, error);
  if (status == PEGA_OK) {
    status = call_it(with, which, chunk, at, error);
    if (status != PEGA_OK) status = named(call, which, status, error);
    status = pega_cuda_leave(driver, call->function, &guard, status, error);
  }
  if (status == PEGA_OK) return PEGA_OK;
  return pega_launch_failed_midway(call->function, with->launched, status, error);
}

#define P(pointer) pega_value_pointer(pointer)
#define I(number) pega_value_int(number)

static pega_status run(const pega_prefill *call, int which, int64_t chunk, void *memory,
                       pega_error *error) {
  const pega_gdr_shape *shape = &call->shape;
  const pega_cuda_driver *driver = pega_cuda_driver_opened();
  if (driver != NULL && pega_cuda_records(driver)) {
    return pega_cuda_refuse_recording(
        call->function, "its implementation was provided: take one of the library's own", error);
  }
  pega_prefill_parts workspace = {memory, 0};
  const parts at = take(call, chunk, &workspace);
  pega_kernel_slot *needed[kPrefillMaxLaunches];
  const int count = pega_prefill_list_kernels(
      call, call->final_state == NULL ? NULL : &pega_prefill_linear_outputs,
      &pega_prefill_linear_inputs, needed);
  pega_prefill_launcher with;
  pega_status status = pega_prefill_start(call, needed, count, &with, error);
  if (status == PEGA_OK) status = pega_prefill_prepare_inputs(&with, &at.in, error);
  if (status == PEGA_OK) {
    const pega_value args[] = {
        P(at.in.g),
        P(call->initial_state),
        P(call->cu_seqlens),
        P(at.alpha),
        P(at.initial),
        P(at.sequences),
        I(shape->num_tokens),
        I(shape->num_sequences),
        I(call->cu_seqlens_bits),
        I(shape->num_value_heads),
        P(with.stream),
    };
    status = pega_prefill_enqueue(&with, &pega_prefill_linear_inputs, args, error);
  }
  if (status == PEGA_OK && shape->num_tokens > 0) {
    status = call_in_context(&with, which, chunk, &at, error);
    ++with.launched;
  }
  if (status != PEGA_OK || call->final_state == NULL) return status;
  const pega_value args[] = {
      P(at.final),          P(call->initial_state),  P(at.sequences),
      P(call->final_state), I(shape->num_sequences), I(shape->num_value_heads),
      P(with.stream),
  };
  return pega_prefill_enqueue(&with, &pega_prefill_linear_outputs, args, error);
}

pega_status pega_prefill_whole(const pega_prefill *call, void *workspace, pega_error *error) {
  return run(call, kWhole, 0, workspace, error);
}

pega_status pega_prefill_parallel(const pega_prefill *call, void *workspace, pega_error *error) {
  return run(call, kParallel, chunk_of(&call->shape), workspace, error);
}
