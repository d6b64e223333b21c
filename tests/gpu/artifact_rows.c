/* SPDX-License-Identifier: Apache-2.0 */
#include "artifact_rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

static const DLDataType bfloat16 = {kDLBfloat, 16, 1};

/* ---- numbers ---- */

static float from_float16(uint16_t bits) {
  int exponent = bits >> 10 & 31;
  float value = exponent == 0 ? ldexpf((float)(bits & 1023), -24)
                              : ldexpf((float)((bits & 1023) | 1024), exponent - 25);
  if (exponent == 31) value = (bits & 1023) != 0 ? NAN : INFINITY;
  return (bits & 0x8000) != 0 ? -value : value;
}

double artifact_at(const artifact_tensor *tensor, int64_t i) {
  const DLDataType dtype = tensor->tensor.dtype;
  if (dtype.code == kDLFloat && dtype.bits == 32) return ((const float *)tensor->host)[i];
  if (dtype.code == kDLInt) return ((const int32_t *)tensor->host)[i];
  uint16_t bits = ((const uint16_t *)tensor->host)[i];
  if (dtype.code == kDLFloat) return from_float16(bits);
  uint32_t wide = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &wide, sizeof value);
  return (double)value;
}

/* A multiple of 1/128: exact in every type. */
static void put_random(artifact_tensor *tensor, int64_t i, uint64_t *seed) {
  *seed = *seed * 6364136223846793005u + 1442695040888963407u;
  const int steps = (int)(*seed >> 33 & 0x7fffffff) % 129; /* 0 to 128 */
  const float value = ((*seed >> 32 & 1) != 0 ? -1.0f : 1.0f) * (float)steps / 128.0f;
  if (tensor->tensor.dtype.bits == 32) {
    ((float *)tensor->host)[i] = value;
    return;
  }
  uint32_t wide;
  memcpy(&wide, &value, sizeof wide);
  uint16_t bits = (uint16_t)(wide >> 16);
  if (tensor->tensor.dtype.code == kDLFloat) {
    uint32_t exponent = (wide >> 23 & 255) + 15 - 127;
    bits = steps == 0 ? 0 : (uint16_t)(exponent << 10 | (wide >> 13 & 1023));
    if (value < 0) bits |= 0x8000;
  }
  ((uint16_t *)tensor->host)[i] = bits;
}

int artifact_add_tensor(artifact_call *call, DLDataType dtype, bool random, const int64_t *sizes,
                        int num_sizes) {
  const int number = call->num_tensors++;
  artifact_tensor *tensor = &call->tensors[number];
  int64_t count = 1;
  for (int i = num_sizes - 1; i >= 0; i--) {
    tensor->shape[i] = sizes[i];
    tensor->strides[i] = count;
    count *= sizes[i];
  }
  tensor->bytes = (size_t)count * dtype.bits / 8;
  tensor->host = calloc(1, tensor->bytes);
  CUdeviceptr memory = 0;
  GPU_OK(gpu.alloc(&memory, tensor->bytes));
  tensor->tensor = (DLTensor){.data = (void *)(uintptr_t)memory,
                              .device = {kDLCUDA, 0},
                              .ndim = num_sizes,
                              .dtype = dtype,
                              .shape = tensor->shape,
                              .strides = tensor->strides};
  for (int64_t i = 0; random && i < count; i++) put_random(tensor, i, &call->seed);
  return number;
}

void artifact_pass(artifact_call *call, pega_value value) { call->args[call->num_args++] = value; }

void artifact_pass_tensor(artifact_call *call, int tensor) {
  artifact_pass(call, pega_value_tensor(&call->tensors[tensor].tensor));
}

/* ---- RMS norm: tensors 0 x, 1 weight, 2 out ---- */

enum { NORM_ROWS = 64, NORM_COLUMNS = 4096 };

static void make_rms_norm(artifact_call *call, DLDataType dtype) {
  (void)artifact_add_tensor(call, dtype, true, (const int64_t[]){NORM_ROWS, NORM_COLUMNS}, 2);
  (void)artifact_add_tensor(call, dtype, true, (const int64_t[]){NORM_COLUMNS}, 1);
  (void)artifact_add_tensor(call, dtype, false, (const int64_t[]){NORM_ROWS, NORM_COLUMNS}, 2);
}

/* (x, weight, out, epsilon) */
static void make_tilelang_bf16(artifact_call *call) {
  make_rms_norm(call, bfloat16);
  for (int i = 0; i < 3; i++) artifact_pass_tensor(call, i);
  artifact_pass(call, pega_value_float(1e-6));
}

static void make_tilelang_fp16(artifact_call *call) {
  make_rms_norm(call, (DLDataType){kDLFloat, 16, 1});
  for (int i = 0; i < 3; i++) artifact_pass_tensor(call, i);
  artifact_pass(call, pega_value_float(1e-6));
}

/* (out, x, weight, epsilon, enable_pdl) */
static void make_flashinfer_norm(artifact_call *call) {
  make_rms_norm(call, bfloat16);
  artifact_pass_tensor(call, 2);
  artifact_pass_tensor(call, 0);
  artifact_pass_tensor(call, 1);
  artifact_pass(call, pega_value_float(1e-6));
  artifact_pass(call, pega_value_bool(false));
}

/* Relative to the largest number of a row: half a unit of the last place is 2^-9 in bfloat16. */
static double rms_norm_error(const artifact_call *call) {
  double worst = 0;
  for (int64_t r = 0; r < NORM_ROWS; r++) {
    double squares = 0;
    double largest = 1e-30;
    double difference = 0;
    for (int64_t c = 0; c < NORM_COLUMNS; c++) {
      double x = artifact_at(&call->tensors[0], r * NORM_COLUMNS + c);
      squares += x * x;
    }
    for (int64_t c = 0; c < NORM_COLUMNS; c++) {
      double right = artifact_at(&call->tensors[0], r * NORM_COLUMNS + c) *
                     artifact_at(&call->tensors[1], c) / sqrt(squares / NORM_COLUMNS + 1e-6);
      double got = artifact_at(&call->tensors[2], r * NORM_COLUMNS + c);
      largest = fmax(largest, fabs(right));
      difference = isfinite(got) ? fmax(difference, fabs(right - got)) : INFINITY;
    }
    worst = fmax(worst, difference / largest);
  }
  return worst;
}

/* (x, weight, y, epsilon) */
static void make_handwritten_norm(artifact_call *call) { make_tilelang_bf16(call); }

/* ---- the indexer's dots: tensors 0 q, 1 kv, 2 dots ---- */

enum { DOTS_ROWS = 64, DOTS_HEADS = 8, DOTS_COLUMNS = 512, DOTS_DIM = 128 };

static void make_dots(artifact_call *call) {
  const int64_t q[] = {DOTS_ROWS, DOTS_HEADS, DOTS_DIM};
  const int64_t kv[] = {DOTS_COLUMNS, DOTS_DIM};
  const int64_t dots[] = {DOTS_ROWS, DOTS_HEADS, DOTS_COLUMNS};
  (void)artifact_add_tensor(call, bfloat16, true, q, 3);
  (void)artifact_add_tensor(call, bfloat16, true, kv, 2);
  (void)artifact_add_tensor(call, (DLDataType){kDLFloat, 32, 1}, false, dots, 3);
  for (int i = 0; i < 3; i++) artifact_pass_tensor(call, i);
}

/* Every product and sum of these numbers is exact in float32. */
static double dots_error(const artifact_call *call) {
  double worst = 0;
  for (int64_t row = 0; row < DOTS_ROWS * DOTS_HEADS; row++) {
    for (int64_t c = 0; c < DOTS_COLUMNS; c++) {
      double right = 0;
      for (int64_t d = 0; d < DOTS_DIM; d++) {
        right += artifact_at(&call->tensors[0], row * DOTS_DIM + d) *
                 artifact_at(&call->tensors[1], c * DOTS_DIM + d);
      }
      double got = artifact_at(&call->tensors[2], row * DOTS_COLUMNS + c);
      worst = isfinite(got) ? fmax(worst, fabs(right - got)) : INFINITY;
    }
  }
  return worst;
}

/* ---- chunk cumsum: tensors 0 g, 1 its sums ---- */

enum { CUMSUM_ROWS = 200, CUMSUM_HEADS = 32, CUMSUM_CHUNK = 64 };

static void make_cumsum(artifact_call *call) {
  const int64_t sizes[] = {CUMSUM_ROWS, CUMSUM_HEADS};
  (void)artifact_add_tensor(call, (DLDataType){kDLFloat, 32, 1}, true, sizes, 2);
  (void)artifact_add_tensor(call, (DLDataType){kDLFloat, 32, 1}, false, sizes, 2);
  artifact_pass_tensor(call, 0);
  artifact_pass_tensor(call, 1);
  artifact_pass(call, pega_value_int(CUMSUM_ROWS));
  artifact_pass(call, pega_value_int(CUMSUM_HEADS));
}

/* A pack's own function is on addresses and a stream; an exported one takes tensors for them. */
static void make_cumsum_of_pointers(artifact_call *call) {
  make_cumsum(call);
  for (int i = 0; i < 2; i++) call->args[i] = pega_value_pointer(call->tensors[i].tensor.data);
  artifact_pass(call, pega_value_pointer(call->stream));
}

static double cumsum_error(const artifact_call *call) {
  double sums[CUMSUM_HEADS];
  double worst = 0;
  for (int64_t row = 0; row < CUMSUM_ROWS; row++) {
    if (row % CUMSUM_CHUNK == 0) memset(sums, 0, sizeof sums);
    for (int64_t head = 0; head < CUMSUM_HEADS; head++) {
      sums[head] += artifact_at(&call->tensors[0], row * CUMSUM_HEADS + head);
      double got = artifact_at(&call->tensors[1], row * CUMSUM_HEADS + head);
      worst = isfinite(got) ? fmax(worst, fabs(sums[head] - got)) : INFINITY;
    }
  }
  return worst;
}

/* ---- the table ---- */

const artifact_row artifact_rows[] = {
    {.dsl = "TileLang",
     .artifact = "tilelang/rms_norm_bf16.so",
     .search = "tilelang/runtime",
     .runtime = "tilelang/runtime/libtvm_ffi.so",
     .function = "rms_norm",
     .make = make_tilelang_bf16,
     .error = rms_norm_error,
     .tolerance = 0.004},
    {.dsl = "TileLang",
     .artifact = "tilelang/rms_norm_fp16.so",
     .search = "tilelang/runtime",
     .runtime = "tilelang/runtime/libtvm_ffi.so",
     .function = "rms_norm",
     .make = make_tilelang_fp16,
     .error = rms_norm_error,
     .tolerance = 0.0005},
    {.dsl = "FlashInfer",
     .artifact = "flashinfer/norm.so",
     .search = "flashinfer/runtime",
     .function = "rmsnorm",
     .make = make_flashinfer_norm,
     .error = rms_norm_error,
     .tolerance = 0.004},
    {.dsl = "CuTe DSL",
     .artifact = "cute/indexer_tvm_ffi.so",
     .function = "indexer_dots",
     .make = make_dots,
     .error = dots_error,
     .tolerance = 1e-6},
    {.dsl = "CuTe DSL, C ABI",
     .artifact = "cute/indexer_c.so",
     .function = "deepseek.indexer_dots",
     .make = make_dots,
     .error = dots_error,
     .tolerance = 1e-6},
    {.dsl = "CUDA C++",
     .artifact = "handwritten/libpegainfer_kernels_cuda.so",
     .function = "pegainfer.handwritten.rms_norm_bf16",
     .make = make_handwritten_norm,
     .error = rms_norm_error,
     .tolerance = 0.004},
    {.dsl = "pack",
     .artifact = "../kernels/qwen35.pegapack",
     .function = "pegainfer.triton_cubin.qwen35.gated_delta_rule_chunk_cumsum",
     .make = make_cumsum_of_pointers,
     .error = cumsum_error,
     .tolerance = 1e-6},
    {.dsl = "pack as TVM FFI module",
     .artifact = "export/qwen35.so",
     .function = "pegainfer.triton_cubin.qwen35.gated_delta_rule_chunk_cumsum",
     .make = make_cumsum,
     .error = cumsum_error,
     .tolerance = 1e-6},
};
const size_t num_artifact_rows = sizeof artifact_rows / sizeof artifact_rows[0];
