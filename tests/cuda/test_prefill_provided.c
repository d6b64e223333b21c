/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A prefill by functions that are provided, on the fake driver: what they are given, what is made
 * of it, and what is refused. The kernels on both sides run as the functions below on the host, and
 * the function provided is one that computes with the library's CPU code. With the library's own
 * pack, as PEGA_PACK_PATH names it.
 */
#include <math.h>
#include <pega/qwen35.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../core/allocations.h"
#include "machine.h"

enum { kHK = 2, kHV = 4, kDim = 128, kState = 128 * 128, kMostTokens = 300, kMostSequences = 4 };
enum {
  kQ,
  kK,
  kV,
  kAlpha,
  kBeta,
  kSequences,
  kInitial,
  kOutput,
  kFinal,
  kWorkspace,
  kScale,
  kChunk,
  kStream
};
enum { kProvidedArguments = 13 };

/* --- the kernels, on the host --- */

#define PARAM(launch, index, type) (*(type const *)(launch)->params[index].bytes)

static int linear_inputs(const pega_fake_driver_launch *launch, void *user) {
  (void)user;
  const float *g = PARAM(launch, 0, const float *);
  const float *initial = PARAM(launch, 1, const float *);
  const void *listed = PARAM(launch, 2, const void *);
  float *alpha = PARAM(launch, 3, float *);
  float *turned = PARAM(launch, 4, float *);
  int64_t *sequences = PARAM(launch, 5, int64_t *);
  const int64_t tokens = PARAM(launch, 6, int64_t);
  const int64_t count = PARAM(launch, 7, int64_t);
  const int32_t bits = PARAM(launch, 8, int32_t);
  const int32_t heads = PARAM(launch, 9, int32_t);
  for (int64_t i = 0; i < tokens * heads; ++i) alpha[i] = expf(g[i]);
  for (int64_t i = 0; i < (initial == NULL ? 0 : count * heads * kState); ++i) {
    const int64_t head = i / kState;
    turned[head * kState + i % kDim * kDim + i % kState / kDim] = initial[i];
  }
  for (int64_t i = 0; i <= count; ++i) {
    sequences[i] = listed == NULL ? (i == 0 ? 0 : tokens)
                   : bits == 64   ? ((const int64_t *)listed)[i]
                                  : ((const int32_t *)listed)[i];
  }
  return 0;
}

static int linear_outputs(const pega_fake_driver_launch *launch, void *user) {
  (void)user;
  const float *turned = PARAM(launch, 0, const float *);
  const float *initial = PARAM(launch, 1, const float *);
  const int64_t *sequences = PARAM(launch, 2, const int64_t *);
  float *final = PARAM(launch, 3, float *);
  const int64_t count = PARAM(launch, 4, int64_t);
  const int32_t heads = PARAM(launch, 5, int32_t);
  for (int64_t i = 0; i < count * heads * kState; ++i) {
    const int64_t head = i / kState;
    const int64_t sequence = head / heads;
    final[i] = sequences[sequence] < sequences[sequence + 1]
                   ? turned[head * kState + i % kDim * kDim + i % kState / kDim]
               : initial == NULL ? 0
                                 : initial[i];
  }
  return 0;
}

/* --- the function --- */

typedef struct stand_in {
  int calls;
  pega_status answer; /* PEGA_OK: computes */
  bool quiet;         /* fails with no text */
  bool parked;        /* leaves everything alone, as many threads are in it */
  int64_t shapes[10][4], strides[10][4];
  int32_t ndim[10];
  DLDataType dtypes[10];
  DLDevice devices[10];
  uintptr_t data[10];
  double scale;
  int64_t chunk;
  void *stream;
  CUcontext context;
  int workspace_device;
  uint64_t launches_before;
} stand_in;

static DLTensor here(void *data, DLDataType dtype, int32_t ndim, int64_t *shape) {
  return (DLTensor){data, {kDLCPU, 0}, ndim, dtype, shape, NULL, 0};
}

static void turn_states(const float *from, float *to, int64_t count) {
  for (int64_t i = 0; i < count * kState; ++i) {
    to[i / kState * kState + i % kDim * kDim + i % kState / kDim] = from[i];
  }
}

static pega_status compute(const stand_in *seen, const pega_value *args, pega_error *error) {
  const int64_t tokens = seen->shapes[kQ][0];
  const int64_t heads = seen->shapes[kV][1];
  const int64_t count = seen->shapes[kSequences][0] - 1;
  uint16_t *v = calloc((size_t)(tokens * heads * kDim), 2);
  float *g = calloc((size_t)(tokens * heads), 4);
  float *initial = calloc((size_t)(count * heads * kState), 4);
  float *final = calloc((size_t)(count * heads * kState), 4);
  for (int64_t t = 0; t < tokens; ++t) {
    const uint16_t *row = (const uint16_t *)seen->data[kV] + t * seen->strides[kV][0];
    memcpy(v + t * heads * kDim, row, (size_t)(heads * kDim) * 2);
  }
  for (int64_t i = 0; i < tokens * heads; ++i) g[i] = logf(((const float *)seen->data[kAlpha])[i]);
  if (seen->ndim[kInitial] != 0) {
    turn_states((const float *)seen->data[kInitial], initial, count * heads);
  }
  int64_t keys[] = {tokens, seen->shapes[kQ][1], kDim};
  int64_t values[] = {tokens, heads, kDim};
  int64_t gates[] = {tokens, heads};
  int64_t states[] = {count, heads, kDim, kDim};
  int64_t starts[] = {count + 1};
  DLTensor tensors[] = {here((void *)seen->data[kQ], BFLOAT16, 3, keys),
                        here((void *)seen->data[kK], BFLOAT16, 3, keys),
                        here(v, BFLOAT16, 3, values),
                        here(g, FLOAT32, 2, gates),
                        here((void *)seen->data[kBeta], FLOAT32, 2, gates),
                        here(initial, FLOAT32, 4, states),
                        here((void *)seen->data[kSequences], DTYPE(kDLInt, 64, 1), 1, starts),
                        here((void *)seen->data[kOutput], BFLOAT16, 3, values),
                        here(final, FLOAT32, 4, states)};
  pega_function *prefill;
  pega_status status = pega_registry_get(PEGA_QWEN35_PREFILL, &prefill, error);
  if (status == PEGA_OK) {
    pega_value own[12];
    for (int i = 0; i < 7; ++i) own[i] = pega_value_tensor(&tensors[i]);
    own[7] = args[kScale];
    own[8] = pega_value_tensor(&tensors[7]);
    own[9] = pega_value_tensor(&tensors[8]);
    own[10] = pega_value_none();
    own[11] = pega_value_string("cpu_recurrent");
    status = pega_function_call(prefill, own, 12, NULL, error);
    pega_function_release(prefill);
  }
  /* The states of empty sequences are not its business. */
  const int64_t *starts_of = (const int64_t *)seen->data[kSequences];
  for (int64_t s = 0; s < count; ++s) {
    if (starts_of[s] == starts_of[s + 1]) continue;
    turn_states(final + s * heads * kState, (float *)seen->data[kFinal] + s * heads * kState,
                heads);
  }
  free(v);
  free(g);
  free(initial);
  free(final);
  return status;
}

static pega_status call_stand_in(void *self, const pega_value *args, int32_t num_args,
                                 pega_value *result, pega_error *error) {
  stand_in *seen = self;
  (void)result;
  if (seen->parked) return PEGA_OK;
  assert_int_equal(num_args, kProvidedArguments);
  ++seen->calls;
  for (int i = 0; i < 10; ++i) {
    const DLTensor *tensor = pega_value_as_tensor(&args[i]);
    seen->ndim[i] = tensor == NULL ? 0 : tensor->ndim;
    if (tensor == NULL) continue;
    seen->dtypes[i] = tensor->dtype;
    seen->devices[i] = tensor->device;
    seen->data[i] = (uintptr_t)tensor->data + tensor->byte_offset;
    for (int d = 0; d < tensor->ndim; ++d) {
      seen->shapes[i][d] = tensor->shape[d];
      seen->strides[i][d] = tensor->strides[d];
    }
  }
  seen->scale = args[kScale].as.f64;
  seen->chunk = args[kChunk].as.i64;
  seen->stream = args[kStream].as.pointer;
  seen->context = machine_current();
  assert_int_equal(
      cu.cuPointerGetAttribute(&seen->workspace_device, FAKE_CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
                               seen->data[kWorkspace]),
      0);
  seen->launches_before = pega_fake_driver_num_launches();
  if (seen->quiet) return seen->answer;
  if (seen->answer != PEGA_OK) {
    pega_error_set(error, seen->answer, "CudaError", "the kernel is on strike");
    if (error != NULL) error->code = 700;
    return seen->answer;
  }
  return compute(seen, args, error);
}

static stand_in seen;

static pega_function *make_function(const pega_signature *signature) {
  pega_error error = PEGA_ERROR_INIT;
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  pega_function *function;
  options.name = "stand_in";
  options.signature = signature;
  options.call = call_stand_in;
  options.self = &seen;
  EXPECT_OK(pega_function_create(&options, &function, &error), &error);
  return function;
}

static pega_signature signature_of(pega_param params[kProvidedArguments + 1]) {
  static const char *const names[] = {"q",     "k",       "v",      "alpha", "beta",
                                      "cu",    "initial", "out",    "final", "workspace",
                                      "scale", "chunk",   "stream", "more"};
  pega_signature signature = PEGA_SIGNATURE_INIT;
  memset(params, 0, (kProvidedArguments + 1) * sizeof *params);
  for (int i = 0; i <= kProvidedArguments; ++i) {
    params[i].name = names[i];
    params[i].type = PEGA_TYPE_TENSOR;
  }
  params[kInitial].flags = PEGA_PARAM_OPTIONAL;
  params[kScale].type = PEGA_TYPE_FLOAT;
  params[kChunk].type = PEGA_TYPE_INT;
  params[kStream].type = PEGA_TYPE_STREAM;
  signature.params = params;
  signature.num_params = kProvidedArguments;
  return signature;
}

static void provide(void) {
  pega_error error = PEGA_ERROR_INIT;
  pega_param params[kProvidedArguments + 1];
  const pega_signature signature = signature_of(params);
  pega_function *function = make_function(&signature);
  EXPECT_OK(pega_qwen35_provide_prefill("flashinfer", function, &error), &error);
  EXPECT_OK(pega_qwen35_provide_prefill("flashinfer_cp", function, &error), &error);
  pega_function_release(function); /* the library keeps it */
}

/* --- calls --- */

static pega_function *prefill_function;
static CUstream stream;
static uint64_t memory[8]; /* q, k, v, g, beta, states, output, workspace */
static uint64_t cu_seqlens, final_states;
enum { kWorkspaceBytes = 64 << 20 };

static void start(void) {
  pega_error error = PEGA_ERROR_INIT;
  machine_start("devices=2");
  EXPECT_OK(pega_registry_get(PEGA_QWEN35_PREFILL, &prefill_function, &error), &error);
  const size_t sizes[] = {kMostTokens * kHK * 256, kMostTokens * kHK * 256,
                          kMostTokens * kHV * 256, kMostTokens * kHV * 4,
                          kMostTokens * kHV * 4,   kMostSequences * kHV * kState * 4,
                          kMostTokens * kHV * 256, kWorkspaceBytes};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; ++i) memory[i] = machine_alloc(0, sizes[i]);
  cu_seqlens = machine_alloc(0, 64);
  final_states = machine_alloc(0, kMostSequences * kHV * kState * 4);
  stream = machine_stream(0, 1);
  EXPECT_OK(pega_stream_set(CUDA(0), stream, NULL, &error), &error);
  CUcontext context = NULL;
  assert_int_equal(cu.cuDevicePrimaryCtxRetain(&context, 0), 0);
  assert_int_equal(cu.cuCtxSetCurrent(context), 0);
  assert_int_equal(
      pega_fake_driver_set_kernel("gated_delta_rule_prefill_linear_inputs", linear_inputs, NULL),
      0);
  assert_int_equal(
      pega_fake_driver_set_kernel("gated_delta_rule_prefill_linear_outputs", linear_outputs, NULL),
      0);
  memset(&seen, 0, sizeof seen);
  /* Rows of about length 1, everything else in its domain. */
  uint32_t state = 1;
#define RANDOM() ((double)((state = state * 1664525u + 1013904223u) >> 8) / (double)(1u << 24))
  for (int m = 0; m < 3; ++m) {
    uint16_t *to = (uint16_t *)(uintptr_t)memory[m];
    for (size_t i = 0; i < sizes[m] / 2; ++i) {
      const float x = (float)(RANDOM() * 0.3 - 0.15);
      uint32_t bits;
      memcpy(&bits, &x, 4);
      to[i] = (uint16_t)(bits >> 16);
    }
  }
  for (size_t i = 0; i < sizes[3] / 4; ++i) {
    ((float *)(uintptr_t)memory[3])[i] = (float)(-2 * RANDOM());
    ((float *)(uintptr_t)memory[4])[i] = (float)RANDOM();
  }
  for (size_t i = 0; i < sizes[5] / 4; ++i) {
    ((float *)(uintptr_t)memory[5])[i] = (float)(RANDOM() - 0.5);
  }
#undef RANDOM
  pega_fake_driver_clear_records();
}

typedef struct how {
  const char *implementation;
  DLDevice device;
  int64_t tokens, sequences;
  bool initial, listed, no_final, in_place, no_workspace, check;
  void *output, *final; /* NULL: the device's */
} how;

static pega_status prefill(const how *h, pega_error *error) {
  const DLDevice device = h->device;
#define AT(at, dtype_, ...)                                                                 \
  {                                                                                         \
    .data = (void *)(uintptr_t)(at), .device = device,                                      \
    .ndim = (int32_t)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), .dtype = dtype_, \
    .shape = (int64_t[]) {                                                                  \
      __VA_ARGS__                                                                           \
    }                                                                                       \
  }
  DLTensor q = AT(memory[0], BFLOAT16, h->tokens, kHK, kDim);
  DLTensor k = AT(memory[1], BFLOAT16, h->tokens, kHK, kDim);
  DLTensor v = AT(memory[2], BFLOAT16, h->tokens, kHV, kDim);
  DLTensor g = AT(memory[3], FLOAT32, h->tokens, kHV);
  DLTensor beta = AT(memory[4], FLOAT32, h->tokens, kHV);
  DLTensor initial = AT(memory[5], FLOAT32, h->sequences, kHV, kDim, kDim);
  DLTensor listed = AT(cu_seqlens, DTYPE(kDLInt, 32, 1), h->sequences + 1);
  DLTensor output =
      AT(h->output != NULL ? (uintptr_t)h->output : memory[6], BFLOAT16, h->tokens, kHV, kDim);
  DLTensor final = AT(h->in_place        ? memory[5]
                      : h->final != NULL ? (uintptr_t)h->final
                                         : final_states,
                      FLOAT32, h->sequences, kHV, kDim, kDim);
  DLTensor work = AT(memory[7], DTYPE(kDLUInt, 8, 1), kWorkspaceBytes);
#undef AT
  const pega_value none = pega_value_none();
  const bool cpu = device.device_type == kDLCPU;
  pega_value args[14] = {pega_value_tensor(&q),
                         pega_value_tensor(&k),
                         pega_value_tensor(&v),
                         pega_value_tensor(&g),
                         pega_value_tensor(&beta),
                         h->initial ? pega_value_tensor(&initial) : none,
                         h->listed ? pega_value_tensor(&listed) : none,
                         none,
                         pega_value_tensor(&output),
                         h->no_final ? none : pega_value_tensor(&final),
                         none,
                         h->implementation == NULL ? none : pega_value_string(h->implementation),
                         h->no_workspace || cpu ? none : pega_value_tensor(&work),
                         h->check ? pega_value_bool(true) : none};
  return pega_function_call(prefill_function, args, 14, NULL, error);
}

static double float_of(uint16_t bits) {
  const uint32_t wide = (uint32_t)bits << 16;
  float x;
  memcpy(&x, &wide, 4);
  return (double)x;
}

/* The same call on the CPU gives the same. */
static void expect_right(const how *h) {
  pega_error error = PEGA_ERROR_INIT;
  how here_ = *h;
  const size_t rows = (size_t)(h->tokens * kHV * kDim);
  const size_t states = (size_t)(h->sequences * kHV * kState);
  uint16_t *output = calloc(rows + 1, 2);
  float *final = calloc(states + 1, 4);
  here_.device = CPU;
  here_.implementation = "cpu_recurrent";
  here_.output = output;
  here_.final = final;
  here_.in_place = false;
  EXPECT_OK(prefill(&here_, &error), &error);
  const uint16_t *there = (const uint16_t *)(uintptr_t)memory[6];
  for (size_t i = 0; i < rows; ++i) {
    assert_true(fabs(float_of(there[i]) - float_of(output[i])) <=
                1e-3 + 0.01 * fabs(float_of(output[i])));
  }
  const float *states_there = (const float *)(uintptr_t)final_states;
  for (size_t i = 0; i < states && !h->no_final; ++i) {
    assert_true(fabs((double)states_there[i] - (double) final[i]) <= 1e-4);
  }
  free(output);
  free(final);
}

static void list_sequences(const int32_t *values, int count) {
  memcpy((void *)(uintptr_t)cu_seqlens, values, (size_t)count * sizeof *values);
}

static void expect_tensor(int index, int32_t ndim, uint8_t code, uint8_t bits, const int64_t *shape,
                          int64_t row) {
  assert_int_equal(seen.ndim[index], ndim);
  assert_int_equal(seen.dtypes[index].code, code);
  assert_int_equal(seen.dtypes[index].bits, bits);
  assert_int_equal(seen.dtypes[index].lanes, 1);
  assert_int_equal(seen.devices[index].device_type, kDLCUDA);
  assert_int_equal(seen.devices[index].device_id, 0);
  int64_t step = 1;
  for (int d = ndim - 1; d >= 0; --d) {
    assert_int_equal(seen.shapes[index][d], shape[d]);
    assert_int_equal(seen.strides[index][d], d == 0 && row != 0 ? row : step);
    step *= shape[d];
  }
}

static bool in_workspace(int index) {
  return seen.data[index] >= memory[7] && seen.data[index] < memory[7] + kWorkspaceBytes &&
         seen.data[index] % 256 == 0;
}

/* --- tests --- */

static void not_provided(void) {
  pega_error error = PEGA_ERROR_INIT;
  start();
  const how h = {.implementation = "flashinfer", .device = CUDA(0), .tokens = 10, .sequences = 1};
  EXPECT_ERROR(prefill(&h, &error), &error, PEGA_ERROR_UNSUPPORTED, "'flashinfer'",
               "no function was provided", "pega_qwen35_provide_prefill()", "docs/functions.md");
  assert_int_equal(pega_fake_driver_num_launches(), 0);
  /* A name of something that can be provided is none of what cannot. */
  pega_param params[kProvidedArguments + 1];
  pega_signature signature = signature_of(params);
  pega_function *function = make_function(&signature);
  EXPECT_ERROR(pega_qwen35_provide_prefill("triton_chunked", function, &error), &error,
               PEGA_ERROR_NOT_FOUND, "'triton_chunked'", "'flashinfer'", "'flashinfer_cp'");
  EXPECT_ERROR(pega_qwen35_provide_prefill(NULL, function, &error), &error,
               PEGA_ERROR_INVALID_ARGUMENT, "'implementation'");
  EXPECT_ERROR(pega_qwen35_provide_prefill("flashinfer", NULL, &error), &error,
               PEGA_ERROR_INVALID_ARGUMENT, "'function'");
  /* Wrong signatures: one more, one of another type. */
  signature.num_params = kProvidedArguments + 1;
  pega_function *longer = make_function(&signature);
  EXPECT_ERROR(pega_qwen35_provide_prefill("flashinfer", longer, &error), &error, PEGA_ERROR_TYPE,
               "'stand_in'", "10 tensors", "more: ");
  signature.num_params = kProvidedArguments;
  params[kChunk].type = PEGA_TYPE_STRING;
  pega_function *other = make_function(&signature);
  EXPECT_ERROR(pega_qwen35_provide_prefill("flashinfer", other, &error), &error, PEGA_ERROR_TYPE,
               "chunk: ");
  EXPECT_ERROR(prefill(&h, &error), &error, PEGA_ERROR_UNSUPPORTED, "no function was provided");
  /* Once, and the same again; a function with no signature is taken at its word. */
  EXPECT_OK(pega_qwen35_provide_prefill("flashinfer", function, &error), &error);
  EXPECT_OK(pega_qwen35_provide_prefill("flashinfer", function, &error), &error);
  pega_function *free_form = make_function(NULL);
  EXPECT_ERROR(pega_qwen35_provide_prefill("flashinfer", free_form, &error), &error,
               PEGA_ERROR_ALREADY_EXISTS, "'flashinfer' was provided before", "'stand_in'");
  EXPECT_OK(pega_qwen35_provide_prefill("flashinfer_cp", free_form, &error), &error);
  pega_function *const all[] = {function, longer, other, free_form};
  for (int i = 0; i < COUNT(all); ++i) pega_function_release(all[i]);
  pega_error_clear(&error);
}

static void what_it_is_given(void) {
  pega_error error = PEGA_ERROR_INIT;
  start();
  provide();
  CUcontext context = machine_current();
  const int32_t starts[] = {0, 70, 70, 200};
  list_sequences(starts, 4);
  const int64_t keys[] = {200, kHK, kDim};
  const int64_t values[] = {200, kHV, kDim};
  const int64_t states[] = {3, kHV, kDim, kDim};
  for (int i = 0; i < 4; ++i) {
    const bool cp = i % 2 == 1;
    const how h = {.implementation = cp ? "flashinfer_cp" : "flashinfer",
                   .device = CUDA(0),
                   .tokens = 200,
                   .sequences = 3,
                   .initial = i < 2,
                   .listed = true};
    pega_fake_driver_clear_records();
    memset((void *)(uintptr_t)memory[7], 0xff, 1 << 20);
    memset((void *)(uintptr_t)final_states, 0xff, 3 * kHV * kState * 4);
    EXPECT_OK(prefill(&h, &error), &error);
    assert_string_equal(pega_error_message(&error), ""); /* of a call that went well */
    assert_int_equal(seen.calls, i + 1);
    assert_int_equal(pega_fake_driver_num_launches(), 2);
    assert_int_equal(seen.launches_before, 1);
    assert_int_equal(pega_fake_driver_count("cuMemAllocAsync"), 0);
    expect_tensor(kQ, 3, kDLBfloat, 16, keys, 0);
    expect_tensor(kK, 3, kDLBfloat, 16, keys, 0);
    expect_tensor(kV, 3, kDLBfloat, 16, values, 0);
    expect_tensor(kAlpha, 2, kDLFloat, 32, values, 0);
    expect_tensor(kBeta, 2, kDLFloat, 32, values, 0);
    expect_tensor(kSequences, 1, kDLInt, 64, (int64_t[]){4}, 0);
    if (i < 2) expect_tensor(kInitial, 4, kDLFloat, 32, states, 0);
    assert_int_equal(seen.ndim[kInitial], i < 2 ? 4 : 0);
    expect_tensor(kOutput, 3, kDLBfloat, 16, values, 0);
    expect_tensor(kFinal, 4, kDLFloat, 32, states, 0);
    /* B = 3 + 197 / 64 blocks of 64, and where there are chunks of 128, C = 3 + 197 / 128. */
    const int64_t more = 6 * kHV * 4096 * 2 + 3 * 4 * kHV * kState * 4;
    expect_tensor(kWorkspace, 1, kDLUInt, 8, (int64_t[]){32768 + (cp ? more : 0)}, 0);
    assert_int_equal(seen.data[kQ], memory[0]);
    assert_int_equal(seen.data[kK], memory[1]);
    assert_int_equal(seen.data[kV], memory[2]);
    assert_int_equal(seen.data[kBeta], memory[4]);
    assert_int_equal(seen.data[kOutput], memory[6]);
    assert_true(in_workspace(kAlpha) && in_workspace(kSequences) && in_workspace(kFinal) &&
                in_workspace(kWorkspace));
    assert_true(seen.data[kWorkspace] + 32768 + (uint64_t)(cp ? more : 0) <=
                memory[7] + kWorkspaceBytes);
    assert_int_equal(seen.chunk, cp ? 128 : 0);
    assert_true(fabs(seen.scale - 0.08838834764831845) < 1e-7);
    assert_ptr_equal(seen.stream, stream);
    assert_ptr_equal(seen.context, context);
    expect_right(&h);
  }
  machine_expect_no_faults(0);
}

/* A call goes to its tensors' device, whatever context the thread is in: what is provided, memory from the
 * pool, and what waits for the values. A context of the device's own is as good as the primary one. */
static void contexts(void) {
  pega_error error = PEGA_ERROR_INIT;
  start();
  provide();
  EXPECT_OK(pega_stream_set(CUDA(0), NULL, NULL, &error), &error); /* a stream of each context */
  CUcontext primary[2], own, popped;
  for (int i = 0; i < 2; ++i) {
    assert_int_equal(cu.cuDevicePrimaryCtxRetain(&primary[i], i), 0);
  }
  assert_int_equal(cu.cuCtxCreate_v2(&own, 0, 0), 0);
  assert_int_equal(cu.cuCtxPopCurrent_v2(&popped), 0);
  float *g = (float *)(uintptr_t)memory[3];
  const float first = g[0];
  CUcontext const current[] = {primary[1], NULL, own, primary[0]};
  for (int i = 0; i < COUNT(current); ++i) {
    CUcontext const expected = current[i] == own ? own : primary[0];
    for (int pool = 0; pool < 2; ++pool) {
      const how h = {.implementation = "flashinfer",
                     .device = CUDA(0),
                     .tokens = 5,
                     .sequences = 1,
                     .no_workspace = pool == 1};
      how checked = h;
      checked.check = true;
      assert_int_equal(cu.cuCtxSetCurrent(current[i]), 0);
      seen.workspace_device = -1;
      EXPECT_OK(prefill(&h, &error), &error);
      assert_ptr_equal(seen.context, expected);
      assert_int_equal(seen.workspace_device, 0);
      assert_ptr_equal(machine_current(), current[i]);
      assert_ptr_equal(machine_last_launch().context, expected);
      assert_int_equal(machine_live().launches_in_flight, 1);
      g[0] = NAN;
      EXPECT_ERROR(prefill(&checked, &error), &error, PEGA_ERROR_RANGE, "expected");
      g[0] = first;
      assert_int_equal(machine_live().launches_in_flight, 0);
      assert_ptr_equal(machine_current(), current[i]);
    }
  }
  machine_expect_no_faults(0);
  pega_error_clear(&error);
}

/* One sequence, that nobody lists; no final state; the state in place; none at all. */
static void forms(void) {
  pega_error error = PEGA_ERROR_INIT;
  start();
  provide();
  how h = {.implementation = "flashinfer",
           .device = CUDA(0),
           .tokens = 65,
           .sequences = 1,
           .no_final = true};
  EXPECT_OK(prefill(&h, &error), &error);
  assert_int_equal(pega_fake_driver_num_launches(), 1);
  expect_tensor(kFinal, 4, kDLFloat, 32, (int64_t[]){1, kHV, kDim, kDim}, 0);
  assert_true(in_workspace(kFinal));
  expect_right(&h);
  h = (how){.implementation = "flashinfer_cp",
            .device = CUDA(0),
            .tokens = 65,
            .sequences = 1,
            .no_workspace = true};
  pega_fake_driver_clear_records();
  EXPECT_OK(prefill(&h, &error), &error);
  assert_int_equal(pega_fake_driver_count("cuMemAllocAsync"), 1);
  assert_int_equal(pega_fake_driver_count("cuMemFreeAsync"), 1);
  expect_right(&h);
  /* No tokens: the function is not called, states are what they were. */
  const int32_t none[] = {0, 0, 0};
  list_sequences(none, 3);
  const int calls = seen.calls;
  for (int i = 0; i < 3; ++i) {
    h = (how){.implementation = i == 1 ? "flashinfer_cp" : "flashinfer",
              .device = CUDA(0),
              .sequences = 2,
              .listed = true,
              .initial = i < 2};
    memset((void *)(uintptr_t)final_states, 0xff, 2 * kHV * kState * 4);
    EXPECT_OK(prefill(&h, &error), &error);
    const float *final = (const float *)(uintptr_t)final_states;
    const float *initial = (const float *)(uintptr_t)memory[5];
    for (int s = 0; s < 2 * kHV * kState; ++s) {
      assert_true(final[s] == (i < 2 ? initial[s] : 0)); /* bit for bit */
    }
  }
  assert_int_equal(seen.calls, calls);
  /* Over the initial state. */
  h = (how){.implementation = "flashinfer",
            .device = CUDA(0),
            .tokens = 65,
            .sequences = 1,
            .initial = true};
  EXPECT_OK(prefill(&h, &error), &error);
  h.in_place = true;
  EXPECT_OK(prefill(&h, &error), &error);
  assert_memory_equal((const void *)(uintptr_t)memory[5], (const void *)(uintptr_t)final_states,
                      kHV * kState * 4);
  machine_expect_no_faults(0);
}

/* From the projections v stays where it is: columns of qkv. */
static void projected(void) {
  enum { kTokens = 50, kQkv = (2 * kHK + kHV) * kDim };
  pega_error error = PEGA_ERROR_INIT;
  start();
  provide();
  seen.answer =
      PEGA_ERROR_CALLEE; /* what it would compute of kernels that did not run means nothing */
  pega_function *function;
  EXPECT_OK(pega_registry_get(PEGA_QWEN35_PREFILL_PROJECTED, &function, &error), &error);
  const DLDevice device = CUDA(0);
  DLTensor tensors[] = {
      {(void *)(uintptr_t)memory[7], device, 2, BFLOAT16, (int64_t[]){kTokens, kQkv}, NULL, 0},
      {(void *)(uintptr_t)memory[0], device, 2, BFLOAT16, (int64_t[]){kTokens, kHV}, NULL, 0},
      {(void *)(uintptr_t)memory[1], device, 2, BFLOAT16, (int64_t[]){kTokens, kHV}, NULL, 0},
      {(void *)(uintptr_t)memory[2], device, 1, BFLOAT16, (int64_t[]){kHV}, NULL, 0},
      {(void *)(uintptr_t)memory[3], device, 1, FLOAT32, (int64_t[]){kHV}, NULL, 0},
      {(void *)(uintptr_t)memory[6], device, 3, BFLOAT16, (int64_t[]){kTokens, kHV, kDim}, NULL,
       0}};
  const pega_value none = pega_value_none();
  pega_value args[11] = {
      none, none, none, none, none, none, none, none, none, none, pega_value_string("flashinfer")};
  for (int i = 0; i < 5; ++i) args[i] = pega_value_tensor(&tensors[i]);
  args[8] = pega_value_tensor(&tensors[5]);
  EXPECT_ERROR(pega_function_call(function, args, 11, NULL, &error), &error, PEGA_ERROR_CALLEE,
               "2 launches of this call were queued", "on strike");
  expect_tensor(kV, 3, kDLBfloat, 16, (int64_t[]){kTokens, kHV, kDim}, kQkv);
  assert_int_equal(seen.data[kV], memory[7] + 2 * kHK * kDim * 2);
  expect_tensor(kQ, 3, kDLBfloat, 16, (int64_t[]){kTokens, kHK, kDim}, 0);
  assert_true(seen.data[kQ] != memory[7]);
  pega_function_release(function);
  pega_error_clear(&error);
  machine_expect_no_faults(0);
}

/* What a call costs beside the function: nothing is formatted or allocated, and of the driver it asks the
 * current context and the launches. */
static void costs(void) {
  pega_error error = PEGA_ERROR_INIT;
  start();
  provide();
  seen.parked = true;
  assert_int_equal(
      pega_fake_driver_set_kernel("gated_delta_rule_prefill_linear_inputs", NULL, NULL), 0);
  assert_int_equal(
      pega_fake_driver_set_kernel("gated_delta_rule_prefill_linear_outputs", NULL, NULL), 0);
  const how all[] = {
      {.implementation = "flashinfer", .device = CUDA(0), .tokens = 65, .sequences = 1},
      {.implementation = "flashinfer_cp", .device = CUDA(0), .tokens = 65, .sequences = 1},
      {.implementation = "flashinfer",
       .device = CUDA(0),
       .tokens = 65,
       .sequences = 1,
       .no_final = true}};
  for (int i = 0; i < COUNT(all); ++i) {
    EXPECT_OK(prefill(&all[i], &error), &error); /* prepares */
    pega_fake_driver_clear_records();
    pega_fake_driver_set_quiet(true);
    for (int again = 0; again < 3; ++again) {
      allocations_begin(0);
      const pega_status status = prefill(&all[i], &error);
      const allocations got = allocations_end();
      EXPECT_OK(status, &error);
      assert_int_equal(error.status, PEGA_OK);
      assert_string_equal(pega_error_message(&error), "");
      if (!allocations_are_counted()) continue;
      assert_int_equal(got.made, 0);
      assert_int_equal(got.locks, 0);
    }
    const uint64_t launches = all[i].no_final ? 1 : 2;
    assert_int_equal(pega_fake_driver_count("cuLaunchKernel"), 3 * launches);
    assert_int_equal(pega_fake_driver_count("cuCtxGetCurrent"), 3 * (launches + 2));
    assert_int_equal(pega_fake_driver_count(NULL), 3 * (2 * launches + 2));
    pega_fake_driver_set_quiet(false);
  }
}

static void its_errors(void) {
  pega_error error = PEGA_ERROR_INIT;
  start();
  provide();
  how h = {.implementation = "flashinfer_cp", .device = CUDA(0), .tokens = 65, .sequences = 1};
  seen.answer = PEGA_ERROR_CALLEE;
  EXPECT_ERROR(prefill(&h, &error), &error, PEGA_ERROR_CALLEE, PEGA_QWEN35_PREFILL,
               "1 launches of this call were queued before one failed",
               "implementation 'flashinfer_cp'", "the kernel is on strike");
  assert_int_equal(error.code, 700);
  assert_int_equal(pega_fake_driver_num_launches(), 1); /* and not what comes behind it */
  seen.quiet = true;
  EXPECT_ERROR(prefill(&h, &error), &error, PEGA_ERROR_CALLEE, "implementation 'flashinfer_cp'",
               "stand_in");
  assert_int_equal(prefill(&h, NULL), PEGA_ERROR_CALLEE);
  seen.quiet = false;
  seen.answer = PEGA_OK;
  /* What is refused before it is called. */
  const int calls = seen.calls;
  pega_fake_driver_fail("cuLaunchKernel", 1, 1, false);
  EXPECT_ERROR(prefill(&h, &error), &error, PEGA_ERROR_DRIVER, "nothing was launched");
  pega_fake_driver_clear_failures();
  assert_int_equal(seen.calls, calls);
  pega_fake_driver_fail("cuLaunchKernel", 2, 1, false); /* what comes behind it */
  EXPECT_ERROR(prefill(&h, &error), &error, PEGA_ERROR_DRIVER, "2 launches of this call");
  pega_fake_driver_clear_failures();
  assert_int_equal(seen.calls, calls + 1);
  EXPECT_OK(prefill(&h, &error), &error);
  expect_right(&h);
  pega_error_clear(&error);
}

static void captured(void) {
  pega_error error = PEGA_ERROR_INIT;
  start();
  provide();
  how h = {.implementation = "flashinfer", .device = CUDA(0), .tokens = 65, .sequences = 1};
  assert_int_equal(cu.cuStreamBeginCapture_v2(stream, 0), 0);
  EXPECT_ERROR(prefill(&h, &error), &error, PEGA_ERROR_UNAVAILABLE, "nothing was launched",
               "the capture is still valid"); /* the kernels are not prepared */
  CUgraph graph = NULL;
  assert_int_equal(cu.cuStreamEndCapture(stream, &graph), 0);
  EXPECT_OK(prefill(&h, &error), &error);
  const int calls = seen.calls;
  assert_int_equal(cu.cuStreamBeginCapture_v2(stream, 0), 0);
  h.no_workspace = true;
  EXPECT_ERROR(prefill(&h, &error), &error, PEGA_ERROR_UNAVAILABLE, "give a 'workspace'",
               "the capture is still valid");
  assert_int_equal(seen.calls, calls);
  h.no_workspace = false;
  seen.parked = true; /* what it would read was captured, not computed */
  EXPECT_OK(prefill(&h, &error), &error);
  assert_int_equal(cu.cuStreamEndCapture(stream, &graph), 0);
  size_t nodes = 0;
  assert_int_equal(cu.cuGraphGetNodes(graph, NULL, &nodes), 0);
  assert_int_equal(nodes, 2);
  pega_error_clear(&error);
  machine_expect_no_faults(0);
}

/* --- explaining --- */

static void expect_row(int64_t tokens, int64_t sequences, int64_t heads, const char *name,
                       const char *reason) {
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function;
  EXPECT_OK(pega_registry_get(PEGA_QWEN35_PREFILL_EXPLAIN, &function, &error), &error);
  const pega_value args[] = {pega_value_device(CUDA(0)), pega_value_int(tokens),
                             pega_value_int(sequences), pega_value_int(heads / 2),
                             pega_value_int(heads)};
  pega_value table = pega_value_none();
  EXPECT_OK(pega_function_call(function, args, 5, &table, &error), &error);
  bool found = false;
  for (int64_t i = 0; i < pega_value_size(&table); ++i) {
    const pega_value *row = pega_array_get(&table, i);
    const pega_value *its_name = pega_map_get(row, "name");
    const pega_value *its_reason = pega_map_get(row, "reason");
    if (strcmp(pega_value_as_string(its_name, NULL), name) != 0) continue;
    found = true;
    EXPECT_TEXT(pega_value_as_string(its_reason, NULL), reason);
    assert_false(pega_map_get(row, "taken")->as.boolean);
  }
  assert_true(found);
  pega_value_release(&table);
  pega_function_release(function);
}

static void explained(void) {
  start();
  expect_row(1000, 1, 4, "flashinfer", "no function was provided");
  expect_row(1000, 1, 4, "flashinfer_cp", "no function was provided");
  provide();
  expect_row(1000, 1, 4, "flashinfer", "taken only when it is asked for by name");
  expect_row(1000, 1, 4, "flashinfer_cp", "taken only when it is asked for by name");
  expect_row(1000, 65536, 4, "flashinfer", "up to 65535 sequences");
  expect_row(524288, 1, 32, "flashinfer", "fewer than 2^31 elements");
  expect_row(524287, 1, 32, "flashinfer", "by name");
  expect_row(1000, 4096, 32, "flashinfer", "fewer than 2^31 elements");
  expect_row(500000, 20000, 32, "flashinfer", "fewer than 2^31 elements");
  pega_error error = PEGA_ERROR_INIT;
  /* The library's choice is as before. */
  how h = {.device = CUDA(0), .tokens = 200, .sequences = 1};
  EXPECT_OK(prefill(&h, &error), &error);
  assert_int_equal(seen.calls, 0);
}

static void another_gpu(void) {
  start();
  provide();
  pega_error error = PEGA_ERROR_INIT;
  machine_set_capability(0, 10, 0);
  how h = {.implementation = "flashinfer", .device = CUDA(0), .tokens = 10, .sequences = 1};
  EXPECT_ERROR(prefill(&h, &error), &error, PEGA_ERROR_UNSUPPORTED, "'flashinfer'",
               "compute capability 9.0");
  assert_int_equal(seen.calls, 0);
  expect_row(1000, 1, 4, "flashinfer_cp", "compute capability 9.0");
  h.device = CUDA(3);
  h.implementation = "flashinfer_cp";
  EXPECT_ERROR(prefill(&h, &error), &error, PEGA_ERROR_UNSUPPORTED, "no such device");
  pega_error_clear(&error);
}

/* --- threads --- */

enum { kThreads = 4 };
static atomic_int ready;
static atomic_bool provided_now;

static void *calls_all_the_time(void *unused) {
  (void)unused;
  pega_error error = PEGA_ERROR_INIT;
  CUcontext context = NULL;
  assert_int_equal(cu.cuDevicePrimaryCtxRetain(&context, 0), 0);
  assert_int_equal(cu.cuCtxSetCurrent(context), 0);
  const how h = {.implementation = "flashinfer", .device = CUDA(0), .tokens = 5, .sequences = 1};
  atomic_fetch_add(&ready, 1);
  int after = 0;
  while (after < 20) {
    const bool before = !atomic_load(&provided_now);
    const pega_status status = prefill(&h, &error);
    if (status == PEGA_ERROR_UNSUPPORTED) {
      assert_true(before);
    } else {
      EXPECT_OK(status, &error);
      ++after;
    }
  }
  pega_error_clear(&error);
  return NULL;
}

static void provided_meanwhile(void) {
  start();
  seen.parked = true;
  /* The threads have one memory: nothing is computed on it. */
  assert_int_equal(
      pega_fake_driver_set_kernel("gated_delta_rule_prefill_linear_inputs", NULL, NULL), 0);
  assert_int_equal(
      pega_fake_driver_set_kernel("gated_delta_rule_prefill_linear_outputs", NULL, NULL), 0);
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; ++i) {
    assert_int_equal(pthread_create(&threads[i], NULL, calls_all_the_time, NULL), 0);
  }
  while (atomic_load(&ready) < kThreads) usleep(100);
  usleep(2000);
  provide();
  atomic_store(&provided_now, true);
  for (int i = 0; i < kThreads; ++i) pthread_join(threads[i], NULL);
}

#define IN_CHILD(name)                    \
  static void test_##name(void **state) { \
    (void)state;                          \
    machine_in_child(name);               \
  }
IN_CHILD(not_provided)
IN_CHILD(what_it_is_given)
IN_CHILD(contexts)
IN_CHILD(forms)
IN_CHILD(projected)
IN_CHILD(costs)
IN_CHILD(its_errors)
IN_CHILD(captured)
IN_CHILD(explained)
IN_CHILD(another_gpu)
IN_CHILD(provided_meanwhile)

int main(void) {
  const char *pack = getenv("PEGA_PACK_PATH");
  if (pack == NULL || access(pack, R_OK) != 0) {
    printf("SKIP: %s is not there; ./dev kernels makes it\n", pack == NULL ? "the pack" : pack);
    return SUPPORT_SKIP;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_not_provided),       cmocka_unit_test(test_what_it_is_given),
      cmocka_unit_test(test_contexts),           cmocka_unit_test(test_forms),
      cmocka_unit_test(test_projected),          cmocka_unit_test(test_costs),
      cmocka_unit_test(test_its_errors),         cmocka_unit_test(test_captured),
      cmocka_unit_test(test_explained),          cmocka_unit_test(test_another_gpu),
      cmocka_unit_test(test_provided_meanwhile),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
