/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernels of the gated delta rule share. */
#ifndef PEGA_KERNELS_GATED_DELTA_RULE_CUH_
#define PEGA_KERNELS_GATED_DELTA_RULE_CUH_

#include <cuda_bf16.h>
#include <stdint.h>

namespace pega {

constexpr int kDim = 128;                             /* K and V: the state of a head is [K, V] */
constexpr float kDefaultScale = 0.08838834764831845f; /* 128^-0.5 */
constexpr unsigned kAllLanes = 0xffffffffu;

/* The head of q and k that goes with one of the values; at most 2^16 of each, so 32 bits do. */
__device__ __forceinline__ int key_head_of(int value_head, int num_key_heads, int num_value_heads) {
  return static_cast<int>(static_cast<unsigned>(value_head) * static_cast<unsigned>(num_key_heads) /
                          static_cast<unsigned>(num_value_heads));
}

/* ---- Vectors: N elements of bfloat16 as they lie in memory, and in float32 ---- */

template <int N>
struct Bits {
  uint32_t pairs[N / 2];
};

template <int N>
struct Floats {
  float at[N];
};

/* As nothing writes it while the kernel is there: not in one that begins early (begin()). */
struct Unchanging {
  template <typename T>
  __device__ __forceinline__ static T read(const T *at) {
    return __ldg(at);
  }
};

struct Changing {
  template <typename T>
  __device__ __forceinline__ static T read(const T *at) {
    return *at;
  }
};

/* From an address that is a multiple of 2 N bytes, or of 16. */
template <int N, typename Memory>
__device__ __forceinline__ Bits<N> load_bits(const __nv_bfloat16 *vector) {
  static_assert(N % 4 == 0, "whole words of 8 bytes");
  Bits<N> bits;
  if (N % 8 == 0) {
#pragma unroll
    for (int i = 0; i < N / 8; ++i) {
      const uint4 eight = Memory::read(reinterpret_cast<const uint4 *>(vector) + i);
      bits.pairs[4 * i] = eight.x;
      bits.pairs[4 * i + 1] = eight.y;
      bits.pairs[4 * i + 2] = eight.z;
      bits.pairs[4 * i + 3] = eight.w;
    }
  } else {
#pragma unroll
    for (int i = 0; i < N / 4; ++i) {
      const uint2 four = Memory::read(reinterpret_cast<const uint2 *>(vector) + i);
      bits.pairs[2 * i] = four.x;
      bits.pairs[2 * i + 1] = four.y;
    }
  }
  return bits;
}

template <int N>
__device__ __forceinline__ Floats<N> widen(const Bits<N> &bits) {
  Floats<N> floats;
#pragma unroll
  for (int i = 0; i < N / 2; ++i) {
    floats.at[2 * i] = __uint_as_float(bits.pairs[i] << 16);
    floats.at[2 * i + 1] = __uint_as_float(bits.pairs[i] & 0xffff0000u);
  }
  return floats;
}

__device__ __forceinline__ float4 to_float4(const Floats<4> &four) {
  return make_float4(four.at[0], four.at[1], four.at[2], four.at[3]);
}

template <int N>
__device__ __forceinline__ float dot(const Floats<N> &a, const Floats<N> &b) {
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < N; ++i) sum = fmaf(a.at[i], b.at[i], sum);
  return sum;
}

__device__ __forceinline__ float inverse_length(float sum_of_squares) {
  return rsqrtf(sum_of_squares + 1e-12f);
}

/* Times `factor`, rounded to bfloat16. */
template <int N>
__device__ __forceinline__ void multiply_round(Floats<N> &floats, float factor) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
    floats.at[i] = __bfloat162float(__float2bfloat16_rn(floats.at[i] * factor));
  }
}

/* Four elements, rounded to bfloat16. */
__device__ __forceinline__ void store_four(__nv_bfloat16 *at, float4 four) {
  const __nv_bfloat162 two = __floats2bfloat162_rn(four.x, four.y);
  const __nv_bfloat162 more = __floats2bfloat162_rn(four.z, four.w);
  uint2 bits;
  bits.x = *reinterpret_cast<const uint32_t *>(&two);
  bits.y = *reinterpret_cast<const uint32_t *>(&more);
  *reinterpret_cast<uint2 *>(at) = bits;
}

/* ---- float4 ---- */

__device__ __forceinline__ float4 operator+(float4 a, float4 b) {
  return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

__device__ __forceinline__ float4 operator*(float a, float4 b) {
  return make_float4(a * b.x, a * b.y, a * b.z, a * b.w);
}

/* a b + c */
__device__ __forceinline__ float4 multiply_add(float4 a, float b, float4 c) {
  return make_float4(fmaf(a.x, b, c.x), fmaf(a.y, b, c.y), fmaf(a.z, b, c.z), fmaf(a.w, b, c.w));
}

/* ---- Across the lanes of a warp ---- */

__device__ __forceinline__ float4 shuffle(float4 from, int mask) {
  return make_float4(
      __shfl_xor_sync(kAllLanes, from.x, mask), __shfl_xor_sync(kAllLanes, from.y, mask),
      __shfl_xor_sync(kAllLanes, from.z, mask), __shfl_xor_sync(kAllLanes, from.w, mask));
}

__device__ __forceinline__ float sum_warp(float part) {
#pragma unroll
  for (int mask = 1; mask < 32; mask *= 2) part += __shfl_xor_sync(kAllLanes, part, mask);
  return part;
}

/* ---- Launches ---- */

/* Before anything in memory is touched: what the kernels ahead wrote is there, all of it. The
 * kernel behind may begin; it waits like this for the end of this one. */
__device__ __forceinline__ void begin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* ---- Integers ---- */

/* The element `index` of int32 or int64 numbers. */
__device__ __forceinline__ int64_t integer_at(const void *numbers, int bits, int64_t index) {
  return bits == 64 ? static_cast<const int64_t *>(numbers)[index]
                    : static_cast<const int32_t *>(numbers)[index];
}

}  // namespace pega

#endif  // PEGA_KERNELS_GATED_DELTA_RULE_CUH_
