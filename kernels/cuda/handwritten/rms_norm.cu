/* SPDX-License-Identifier: Apache-2.0 */
/* RMS norm. The time is that of reading x and writing y once: a row stays in the registers of its threads, in
 * vectors of 16 bytes, between the sum of its squares and its result. Short rows have a warp each, long ones
 * a block. Rows that do not fit, and those that are not whole vectors, are read twice, the second time out
 * of a cache. */
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "launch.h"

namespace {

constexpr int kWarp = 32;
constexpr int kRowsOfBlock = 4;    /* where a row has a warp */
constexpr int kMostVectors = 4;    /* of a thread */
constexpr int kMostThreads = 1024; /* of a row */

__device__ __forceinline__ float widen(float value) { return value; }
__device__ __forceinline__ float widen(__half value) { return __half2float(value); }
__device__ __forceinline__ float widen(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ __forceinline__ void round_to(float value, float *out) { *out = value; }
__device__ __forceinline__ void round_to(float value, __half *out) {
  *out = __float2half_rn(value);
}
__device__ __forceinline__ void round_to(float value, __nv_bfloat16 *out) {
  *out = __float2bfloat16_rn(value);
}

template <typename T>
constexpr int kLanes = 16 / static_cast<int>(sizeof(T)); /* elements of a vector */

template <typename T>
union Vector {
  uint4 bits;
  T at[kLanes<T>];
  __device__ __forceinline__ Vector() {}
};

/* Over the threads of a row: a warp, or a block of `threads`. */
__device__ __forceinline__ float sum_row(float part, int threads) {
  __shared__ float sums[kMostThreads / kWarp];
#pragma unroll
  for (int mask = 1; mask < kWarp; mask *= 2) part += __shfl_xor_sync(0xffffffffu, part, mask);
  if (threads == kWarp) return part;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  if (lane == 0) sums[threadIdx.x / kWarp] = part;
  __syncthreads();
  part = lane < threads / kWarp ? sums[lane] : 0.0f;
#pragma unroll
  for (int mask = 1; mask < kWarp; mask *= 2) part += __shfl_xor_sync(0xffffffffu, part, mask);
  return part;
}

/* A row of `count` vectors by blockDim.x threads, at most kVectors each. blockDim.y rows a block: one, or
 * more if blockDim.x is a warp. */
template <typename T, int kVectors>
__global__ void __launch_bounds__(kMostThreads)
    norm_vectors(const T *x, const T *weight, T *y, int rows, int count, float inverse_cols,
                 float eps) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (row >= rows) return; /* whole warps: no other thread waits for these */
  const uint4 *from = reinterpret_cast<const uint4 *>(x) + row * count;
  uint4 *to = reinterpret_cast<uint4 *>(y) + row * count;
  Vector<T> kept[kVectors];
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int at = static_cast<int>(threadIdx.x) + i * static_cast<int>(blockDim.x);
    kept[i].bits = at < count ? from[at] : make_uint4(0, 0, 0, 0);
  }
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
#pragma unroll
    for (int j = 0; j < kLanes<T>; ++j) {
      const float value = widen(kept[i].at[j]);
      sum = fmaf(value, value, sum);
    }
  }
  const float factor = rsqrtf(fmaf(sum_row(sum, static_cast<int>(blockDim.x)), inverse_cols, eps));
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int at = static_cast<int>(threadIdx.x) + i * static_cast<int>(blockDim.x);
    if (at >= count) continue;
    Vector<T> scale, out;
    scale.bits = __ldg(reinterpret_cast<const uint4 *>(weight) + at);
#pragma unroll
    for (int j = 0; j < kLanes<T>; ++j) {
      round_to(widen(kept[i].at[j]) * factor * widen(scale.at[j]), &out.at[j]);
    }
    to[at] = out.bits;
  }
}

/* A row of any length and alignment by a block. */
template <typename T>
__global__ void __launch_bounds__(kMostThreads)
    norm_elements(const T *x, const T *weight, T *y, int cols, float inverse_cols, float eps) {
  const T *from = x + static_cast<int64_t>(blockIdx.x) * cols;
  T *to = y + static_cast<int64_t>(blockIdx.x) * cols;
  float sum = 0.0f;
  for (int64_t at = threadIdx.x; at < cols; at += blockDim.x) {
    const float value = widen(from[at]);
    sum = fmaf(value, value, sum);
  }
  const float factor = rsqrtf(fmaf(sum_row(sum, static_cast<int>(blockDim.x)), inverse_cols, eps));
  for (int64_t at = threadIdx.x; at < cols; at += blockDim.x) {
    round_to(widen(from[at]) * factor * widen(weight[at]), &to[at]);
  }
}

int round_up(int number, int to) { return (number + to - 1) / to * to; }

template <typename T>
int norm(const T *x, const T *weight, T *y, int32_t rows, int32_t cols, float eps, void *stream) {
  if (rows < 0 || cols < 0) return handwritten::bad_argument("rows or cols is negative");
  if (!(eps >= 0.0f)) return handwritten::bad_argument("eps is negative or not a number");
  if (rows == 0 || cols == 0) return 0;
  if (x == nullptr || weight == nullptr || y == nullptr) {
    return handwritten::bad_argument("x, weight or y is NULL");
  }
  if (!handwritten::aligned(x, sizeof(T)) || !handwritten::aligned(weight, sizeof(T)) ||
      !handwritten::aligned(y, sizeof(T))) {
    return handwritten::bad_argument("x, weight or y is not aligned to its elements");
  }
  const float inverse_cols = 1.0f / static_cast<float>(cols);
  const int count = cols / kLanes<T>;
  const bool whole = cols % kLanes<T> == 0 && handwritten::aligned(x, 16) &&
                     handwritten::aligned(weight, 16) && handwritten::aligned(y, 16);
  if (!whole || count > kMostVectors * kMostThreads) {
    const int wanted = round_up(cols < 4 * kMostThreads ? (cols + 3) / 4 : kMostThreads, kWarp);
    return handwritten::launch(norm_elements<T>, dim3(static_cast<unsigned>(rows)),
                               dim3(static_cast<unsigned>(wanted)), stream, x, weight, y, cols,
                               inverse_cols, eps);
  }
  /* As many threads as have two vectors each, within the limits; a warp for short rows. */
  int threads = round_up((count + 1) / 2, kWarp);
  if (threads > kMostThreads) threads = kMostThreads;
  const int vectors = (count + threads - 1) / threads;
  const int of_block = threads == kWarp ? kRowsOfBlock : 1;
  const dim3 grid(static_cast<unsigned>((rows + int64_t{of_block} - 1) / of_block));
  const dim3 block(static_cast<unsigned>(threads), static_cast<unsigned>(of_block));
  auto *const kernel = vectors == 1   ? norm_vectors<T, 1>
                       : vectors == 2 ? norm_vectors<T, 2>
                                      : norm_vectors<T, kMostVectors>;
  return handwritten::launch(kernel, grid, block, stream, x, weight, y, rows, count, inverse_cols,
                             eps);
}

}  // namespace

EXPORT int rms_norm_bf16_cuda(const uint16_t *x, const uint16_t *weight, uint16_t *y, int32_t rows,
                              int32_t cols, float eps, void *stream) {
  return norm(reinterpret_cast<const __nv_bfloat16 *>(x),
              reinterpret_cast<const __nv_bfloat16 *>(weight), reinterpret_cast<__nv_bfloat16 *>(y),
              rows, cols, eps, stream);
}

EXPORT int rms_norm_fp16_cuda(const uint16_t *x, const uint16_t *weight, uint16_t *y, int32_t rows,
                              int32_t cols, float eps, void *stream) {
  return norm(reinterpret_cast<const __half *>(x), reinterpret_cast<const __half *>(weight),
              reinterpret_cast<__half *>(y), rows, cols, eps, stream);
}

EXPORT int rms_norm_fp32_cuda(const float *x, const float *weight, float *y, int32_t rows,
                              int32_t cols, float eps, void *stream) {
  return norm(x, weight, y, rows, cols, eps, stream);
}
