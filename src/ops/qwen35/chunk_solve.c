/* SPDX-License-Identifier: Apache-2.0 */
/* The chunk solve as functions: its checks, its choice of implementation, its C symbol. */
#include "chunk_solve.h"
#include "core/hot.h"

#include <inttypes.h>
#include <stdatomic.h>

#include "chunk_solve_cpu.h"
#include "core/function.h"
#include "ops/symbol_error.h"
#include "pega/qwen35.h"

/* What a GPU's kernel may assume: of addresses, in bytes, and of the number of value heads. */
enum { kGpuAlignment = 16, kGpuMaxHeads = 1 << 19 };

/* What every form comes down to. Addresses are of the device's memory. */
typedef struct solve_call {
  uintptr_t a_tril;
  uintptr_t a_inv;
  int64_t seq_len;
  int64_t num_value_heads;
} solve_call;

/* Checks that concern more than one argument: extent and overlap. */
PEGA_HOT static pega_status check_memory(const char *name, const solve_call *call,
                                         pega_error *error) {
  int64_t elements;
  int64_t bytes;
  if (__builtin_mul_overflow(call->seq_len, call->num_value_heads, &elements) ||
      __builtin_mul_overflow(elements, (int64_t)PEGA_QWEN35_CHUNK, &elements) ||
      __builtin_mul_overflow(elements, (int64_t)sizeof(float), &bytes)) {
    return pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                          "%s: seq_len %" PRId64 " x num_value_heads %" PRId64
                          " x 64 floats do not fit in int64 bytes",
                          name, call->seq_len, call->num_value_heads);
  }
  uintptr_t in_end;
  uintptr_t out_end;
  if (__builtin_add_overflow(call->a_tril, (uintptr_t)bytes, &in_end) ||
      __builtin_add_overflow(call->a_inv, (uintptr_t)bytes / 2, &out_end)) {
    return pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                          "%s: a_tril at 0x%" PRIxPTR " or a_inv at 0x%" PRIxPTR
                          " with seq_len %" PRId64 " x num_value_heads %" PRId64
                          " x 64 elements ends past the address space",
                          name, call->a_tril, call->a_inv, call->seq_len, call->num_value_heads);
  }
  if (call->a_tril < out_end && call->a_inv < in_end) {
    return pega_error_set(error, PEGA_ERROR_LAYOUT, NULL,
                          "%s: arguments 0 and 1 overlap: a_tril is [0x%" PRIxPTR ", 0x%" PRIxPTR
                          "), a_inv is [0x%" PRIxPTR ", 0x%" PRIxPTR "): expected separate memory",
                          name, call->a_tril, in_end, call->a_inv, out_end);
  }
  return PEGA_OK;
}

PEGA_HOT static pega_status call_raw(void *self, const pega_value *args, int32_t num_args,
                                     pega_value *result, pega_error *error) {
  (void)self;
  (void)num_args;
  (void)result;
  /* Every accepted kind of pointer keeps the address in u64, every kind of integer in i64. */
  const solve_call call = {(uintptr_t)args[0].as.u64, (uintptr_t)args[1].as.u64, args[2].as.i64,
                           args[3].as.i64};
  pega_status status = check_memory(PEGA_QWEN35_CHUNK_SOLVE_RAW, &call, error);
  if (status != PEGA_OK || call.seq_len == 0 || call.num_value_heads == 0) return status;
  return pega_kernel_slot_launch(&pega_qwen35_chunk_solve_kernel, PEGA_QWEN35_CHUNK_SOLVE_RAW, args,
                                 -1, NULL, error);
}

/* Arguments that only a GPU refuses, then the launch on the device's current stream. */
static pega_status solve_cuda_tensors(const solve_call *call, int32_t device, pega_error *error) {
  static const char name[] = PEGA_QWEN35_CHUNK_SOLVE;
  if (call->seq_len > INT32_MAX || call->num_value_heads > kGpuMaxHeads) {
    return pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                          "%s: T = %" PRId64 ", HV = %" PRId64
                          " on a GPU: expected at most %d and %d",
                          name, call->seq_len, call->num_value_heads, INT32_MAX, kGpuMaxHeads);
  }
  if (call->seq_len == 0 || call->num_value_heads == 0) return PEGA_OK;
  void *stream;
  /* Managed memory is used on the streams of its device. */
  pega_status status = pega_stream_get((DLDevice){kDLCUDA, device}, &stream, error);
  if (status != PEGA_OK) return status;
  const pega_value args[] = {pega_value_pointer((const void *)call->a_tril),
                             pega_value_pointer((const void *)call->a_inv),
                             pega_value_int(call->seq_len), pega_value_int(call->num_value_heads),
                             pega_value_pointer(stream)};
  return pega_kernel_slot_launch(&pega_qwen35_chunk_solve_kernel, name, args, device, NULL, error);
}

__attribute__((cold, noinline)) static pega_status misaligned(const solve_call *call,
                                                              pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_LAYOUT, NULL,
                        "%s: a_tril at 0x%" PRIxPTR ", a_inv at 0x%" PRIxPTR
                        ": expected addresses aligned to %d bytes on a GPU",
                        PEGA_QWEN35_CHUNK_SOLVE, call->a_tril, call->a_inv, kGpuAlignment);
}

PEGA_HOT static pega_status call_tensor(void *self, const pega_value *args, int32_t num_args,
                                        pega_value *result, pega_error *error) {
  (void)self;
  (void)num_args;
  (void)result;
  const DLTensor *a_tril = pega_value_as_tensor(&args[0]);
  const DLTensor *a_inv = pega_value_as_tensor(&args[1]);
  const solve_call call = {(uintptr_t)pega_tensor_data(a_tril), (uintptr_t)pega_tensor_data(a_inv),
                           a_tril->shape[0], a_tril->shape[1]};
  const int32_t where = (int32_t)a_tril->device.device_type;
  if ((where == kDLCUDA || where == kDLCUDAManaged) &&
      __builtin_expect((call.a_tril | call.a_inv) % kGpuAlignment != 0, 0) && call.seq_len != 0 &&
      call.num_value_heads != 0) {
    return misaligned(&call, error);
  }
  pega_status status = check_memory(PEGA_QWEN35_CHUNK_SOLVE, &call, error);
  if (status != PEGA_OK) return status;
  char device[PEGA_NAME_SIZE];
  switch (where) {
    case kDLCPU:
    case kDLCUDAHost:
      if (call.seq_len == 0 || call.num_value_heads == 0) return PEGA_OK;
      pega_qwen35_chunk_solve_cpu((const float *)call.a_tril, (uint16_t *)call.a_inv, call.seq_len,
                                  call.num_value_heads, 0);
      return PEGA_OK;
    case kDLCUDA:
    case kDLCUDAManaged:
      return solve_cuda_tensors(&call, a_tril->device.device_id, error);
    default:
      return pega_error_set(error, PEGA_ERROR_DEVICE, NULL,
                            "%s: argument 0 'a_tril': expected a tensor on a cpu or cuda device, "
                            "got %s",
                            PEGA_QWEN35_CHUNK_SOLVE, pega_device_name(a_tril->device, device));
  }
}

#define DIMENSION(dim_name, dim_doc, most)                                                        \
  {                                                                                               \
    .name = dim_name, .doc = dim_doc, .type = PEGA_TYPE_INT, .flags = PEGA_PARAM_RANGE, .min = 0, \
    .max = most                                                                                   \
  }

static const pega_param raw_params[] = {
    {.name = "a_tril_ptr",
     .doc = "device memory, float32 [seq_len, num_value_heads, 64]; only the strict lower triangle "
            "of each chunk is read",
     .type = PEGA_TYPE_POINTER,
     .flags = PEGA_PARAM_NONNULL,
     .alignment = kGpuAlignment},
    {.name = "a_inv_ptr",
     .doc =
         "device memory, bfloat16 [seq_len, num_value_heads, 64]; receives (I + A)^-1, zeros above "
         "the diagonal",
     .type = PEGA_TYPE_POINTER,
     .flags = PEGA_PARAM_NONNULL | PEGA_PARAM_OUTPUT,
     .alignment = kGpuAlignment},
    DIMENSION("seq_len", "tokens; 0 does nothing", INT32_MAX),
    DIMENSION("num_value_heads", "value heads; 0 does nothing", kGpuMaxHeads),
    {.name = "stream", .doc = "CUstream; 0 is the default stream", .type = PEGA_TYPE_STREAM},
};

static const pega_param tensor_params[] = {
    {.name = "a_tril",
     .doc =
         "row t of head h is row t mod 64 of its chunk's A; only the strict lower triangle is read",
     .type = PEGA_TYPE_TENSOR,
     .flags = PEGA_PARAM_CONTIGUOUS,
     .dtype = {kDLFloat, 32, 1},
     .shape = "T, HV, 64"},
    {.name = "a_inv",
     .doc = "receives (I + A)^-1 in the same layout, zeros above the diagonal",
     .type = PEGA_TYPE_TENSOR,
     .flags = PEGA_PARAM_CONTIGUOUS | PEGA_PARAM_OUTPUT,
     .dtype = {kDLBfloat, 16, 1},
     .shape = "T, HV, 64"},
};

#define COUNT(array) ((int32_t)(sizeof(array) / sizeof *(array)))

static const pega_signature raw_signature = {sizeof(pega_signature),
                                             sizeof(pega_param),
                                             raw_params,
                                             COUNT(raw_params),
                                             0,
                                             PEGA_TYPE_NONE,
                                             0};
pega_kernel_slot pega_qwen35_chunk_solve_kernel = {PEGA_QWEN35_CHUNK_SOLVE_RAW, &raw_signature,
                                                   NULL, NULL};
static const pega_signature tensor_signature = {sizeof(pega_signature),
                                                sizeof(pega_param),
                                                tensor_params,
                                                COUNT(tensor_params),
                                                PEGA_SIGNATURE_SAME_DEVICE,
                                                PEGA_TYPE_NONE,
                                                0};

static pega_status prepare(void *self, DLDevice device, pega_error *error) {
  (void)self;
  return pega_kernel_slot_prepare(&pega_qwen35_chunk_solve_kernel, device, error);
}

static pega_status create(const char *name, const char *doc, const pega_signature *signature,
                          pega_call call, pega_function **out, pega_error *error) {
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  options.name = name;
  options.doc = doc;
  options.signature = signature;
  options.call = call;
  pega_status status = pega_function_create(&options, out, error);
  if (status == PEGA_OK) pega_function_set_prepare(*out, prepare);
  return status;
}

/* The raw form is made once and kept: the C symbol uses it whatever the registry holds. */
static _Atomic(pega_function *) raw_form;

static pega_status get_raw_form(pega_function **out, pega_error *error) {
  *out = atomic_load_explicit(&raw_form, memory_order_acquire);
  if (*out != NULL) return PEGA_OK;
  pega_function *made;
  pega_status status =
      create(PEGA_QWEN35_CHUNK_SOLVE_RAW,
             "The chunk solve on device pointers, with the arguments of the C symbol "
             "gated_delta_rule_prefill_chunk_solve_cuda.",
             &raw_signature, call_raw, &made, error);
  if (status != PEGA_OK) return status;
  if (atomic_compare_exchange_strong(&raw_form, out, made)) {
    *out = made;
  } else {
    pega_function_release(made);
  }
  return PEGA_OK;
}

pega_status pega_qwen35_chunk_solve_functions(pega_status (*add)(pega_function *function,
                                                                 pega_error *error),
                                              pega_error *error) {
  pega_function *function;
  pega_status status = get_raw_form(&function, error);
  if (status == PEGA_OK) status = add(function, error);
  if (status != PEGA_OK) return status;
  status =
      create(PEGA_QWEN35_CHUNK_SOLVE,
             "Inverts I + A for every chunk of 64 tokens and every value head: a_inv = (I + "
             "A)^-1, A strictly lower triangular. Runs where the tensors are; on CUDA tensors on "
             "the current stream. Input and output must not overlap.",
             &tensor_signature, call_tensor, &function, error);
  if (status != PEGA_OK) return status;
  status = add(function, error);
  pega_function_release(function);
  return status;
}

PEGA_HOT int gated_delta_rule_prefill_chunk_solve_cuda(const float *a_tril, uint16_t *a_inv,
                                                       int32_t seq_len, int32_t num_value_heads,
                                                       void *stream) {
  /* The raw form's own check, so that both refuse the same arguments with the same text. */
  pega_error error;
  pega_error_init(&error);
  pega_function *function;
  pega_status status = get_raw_form(&function, &error);
  if (status == PEGA_OK) {
    const pega_value args[] = {pega_value_pointer(a_tril), pega_value_pointer(a_inv),
                               pega_value_int(seq_len), pega_value_int(num_value_heads),
                               pega_value_pointer(stream)};
    status = pega_function_call(function, args, 5, NULL, &error);
  }
  return pega_symbol_return("gated_delta_rule_prefill_chunk_solve_cuda", status, &error);
}
