/* SPDX-License-Identifier: Apache-2.0 */
/* Between the library's prefill and one that was provided (pega_qwen35_provide_prefill()): that has
 * linear gates, states with V before K, and sequences that are in order.
 *
 * Both kernels go over pieces of work with as many blocks as there are; states are turned in
 * strips of 32 columns, through shared memory. */
#include "gated_delta_rule.cuh"

using namespace pega;

namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kGates = 2048; /* of a piece */
constexpr int kStrip = 32;   /* columns of a state */
constexpr int kStrips = kDim / kStrip;
constexpr int64_t kState = kDim * kDim;

/* Columns become rows of `to`. */
__device__ __forceinline__ void turn(const float *from, float *to, int strip,
                                     float (&tile)[kDim][kStrip + 1]) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  __syncthreads(); /* the strip before is written */
#pragma unroll 4
  for (int row = warp; row < kDim; row += kWarps) {
    tile[row][lane] = from[row * kDim + strip * kStrip + lane];
  }
  __syncthreads();
  for (int column = warp; column < kStrip; column += kWarps) {
    float *row = to + (strip * kStrip + column) * kDim;
#pragma unroll
    for (int i = 0; i < kDim; i += 32) row[i + lane] = tile[i + lane][column];
  }
}

/* The largest of the threads up to this one. */
__device__ __forceinline__ int64_t largest_so_far(int64_t x, int64_t (&of_warps)[kWarps]) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const int64_t before = __shfl_up_sync(kAllLanes, x, step);
    if (lane >= step && before > x) x = before;
  }
  __syncthreads();
  if (lane == 31) of_warps[warp] = x;
  __syncthreads();
  for (int i = 0; i < warp; ++i) x = of_warps[i] > x ? of_warps[i] : x;
  return x;
}

/* Where sequences begin, within the tokens and never decreasing whatever is there. */
__device__ void order_sequences(const void *cu_seqlens, int bits, int64_t *out, int64_t num_tokens,
                                int64_t num_sequences) {
  __shared__ int64_t of_warps[kWarps];
  int64_t largest = 0;
  for (int64_t base = 0; base <= num_sequences; base += kThreads) {
    const int64_t i = base + threadIdx.x;
    int64_t begin = 0;
    if (i <= num_sequences) {
      begin = cu_seqlens != nullptr ? integer_at(cu_seqlens, bits, i) : i == 0 ? 0 : num_tokens;
      begin = begin < 0 ? 0 : begin > num_tokens ? num_tokens : begin;
    }
    begin = largest_so_far(begin, of_warps);
    begin = begin > largest ? begin : largest;
    if (i <= num_sequences) out[i] = begin;
    for (int warp = 0; warp < kWarps; ++warp) {
      largest = of_warps[warp] > largest ? of_warps[warp] : largest;
    }
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads)
    gated_delta_rule_prefill_linear_inputs(const float *g, const float *initial_state,
                                           const void *cu_seqlens, float *alpha, float *state,
                                           int64_t *sequences, int64_t num_tokens,
                                           int64_t num_sequences, int cu_seqlens_bits,
                                           int num_value_heads) {
  __shared__ float tile[kDim][kStrip + 1];
  const int64_t num_gates = num_tokens * num_value_heads;
  const int64_t gate_pieces = (num_gates + kGates - 1) / kGates;
  const int64_t strips = initial_state == nullptr ? 0 : num_sequences * num_value_heads * kStrips;
  for (int64_t piece = blockIdx.x; piece <= gate_pieces + strips; piece += gridDim.x) {
    if (piece == 0) {
      order_sequences(cu_seqlens, cu_seqlens_bits, sequences, num_tokens, num_sequences);
    } else if (piece <= gate_pieces) {
      const int64_t first = (piece - 1) * kGates + threadIdx.x;
#pragma unroll
      for (int i = 0; i < kGates; i += kThreads) {
        if (first + i < num_gates) alpha[first + i] = expf(g[first + i]);
      }
    } else {
      const int64_t strip = piece - 1 - gate_pieces, head = strip / kStrips * kState;
      turn(initial_state + head, state + head, static_cast<int>(strip % kStrips), tile);
    }
  }
}

/* A sequence of no tokens keeps its state, of which nobody else has made anything. */
extern "C" __global__ void __launch_bounds__(kThreads)
    gated_delta_rule_prefill_linear_outputs(const float *state, const float *initial_state,
                                            const int64_t *sequences, float *final_state,
                                            int64_t num_sequences, int num_value_heads) {
  __shared__ float tile[kDim][kStrip + 1];
  const int64_t strips = num_sequences * num_value_heads * kStrips;
  for (int64_t strip = blockIdx.x; strip < strips; strip += gridDim.x) {
    const int64_t sequence = strip / kStrips / num_value_heads, head = strip / kStrips * kState;
    const int part = static_cast<int>(strip % kStrips);
    if (sequences[sequence] < sequences[sequence + 1]) {
      turn(state + head, final_state + head, part, tile);
      continue;
    }
    const int64_t first = head + part * kStrip * kDim;
    for (int i = static_cast<int>(threadIdx.x); i < kStrip * kDim; i += kThreads) {
      final_state[first + i] = initial_state == nullptr ? 0.0f : initial_state[first + i];
    }
  }
}
