/* SPDX-License-Identifier: Apache-2.0 */
/* The gated delta rule token by token, in one launch: for sequences too short for chunks.
 *
 * A warp holds kColumns columns of one head's state in registers, all 128 rows, and walks a
 * sequence; columns do not depend on one another, so that nothing is shared between warps.
 * blockIdx.x counts blocks of heads, blockIdx.y sequences. What the tokens bring is loaded kAhead
 * tokens at a time, while those before are worked on. Both products of the step
 *
 *   S <- exp(g) S;  u = beta (v - S^T k);  S <- S + k u^T;  o = scale S^T q
 *
 * are taken from S as it was: S^T q after it is exp(g) S^T q + (k . q) u before it. */
#include "gated_delta_rule.cuh"

using namespace pega;

namespace {

constexpr int kAhead = 4;
constexpr int kColumns = 8;                    /* of a warp */
constexpr int kLanesOfRow = kColumns / 4;      /* a thread has 4 columns */
constexpr int kRows = kDim * kLanesOfRow / 32; /* of a thread, one after another */
constexpr int kWarps = 4;                      /* of a block */
constexpr int kBlocksOfHead = kDim / (kColumns * kWarps);

/* Where a thread works. */
struct Place {
  int value_head, key_head;
  int row;    /* the first of kRows */
  int column; /* the first of 4 */
  bool first; /* of the threads that have these columns */
};

__device__ __forceinline__ Place place_of_thread(int num_key_heads, int num_value_heads) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int block = static_cast<int>(blockIdx.x) % kBlocksOfHead;
  Place place;
  place.value_head = static_cast<int>(blockIdx.x) / kBlocksOfHead;
  place.key_head = key_head_of(place.value_head, num_key_heads, num_value_heads);
  place.row = lane / kLanesOfRow * kRows;
  place.column = (block * kWarps + warp) * kColumns + lane % kLanesOfRow * 4;
  place.first = lane < kLanesOfRow;
  return place;
}

/* What a thread needs of the tokens: addresses of its rows and columns of one head. */
struct Inputs {
  const __nv_bfloat16 *q, *k, *v;
  const float *g, *beta;
  int64_t key_stride, v_stride, gate_stride; /* elements between tokens */
};

struct Token {
  Bits<kRows> q, k;
  Bits<4> v;
  float g, beta;
};

__device__ __forceinline__ void load(Token &token, const Inputs &in, int64_t t) {
  token.q = load_bits<kRows, Unchanging>(in.q + t * in.key_stride);
  token.k = load_bits<kRows, Unchanging>(in.k + t * in.key_stride);
  token.v = load_bits<4, Unchanging>(in.v + t * in.v_stride);
  token.g = __ldg(in.g + t * in.gate_stride);
  token.beta = __ldg(in.beta + t * in.gate_stride);
}

/* kAhead tokens from `first` on, or as many as there are. */
__device__ __forceinline__ void load(Token (&tokens)[kAhead], const Inputs &in, int64_t first,
                                     int64_t end) {
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    if (first + i < end) load(tokens[i], in, first + i);
  }
}

struct State {
  float4 rows[kRows];
};

/* Over all rows: the threads of a warp that have the same columns. */
__device__ __forceinline__ float sum_rows(float part) {
#pragma unroll
  for (int mask = kLanesOfRow; mask < 32; mask *= 2) part += __shfl_xor_sync(kAllLanes, part, mask);
  return part;
}

__device__ __forceinline__ float4 sum_rows(float4 part) {
#pragma unroll
  for (int mask = kLanesOfRow; mask < 32; mask *= 2) part = part + shuffle(part, mask);
  return part;
}

/* Updates the state and returns S^T q, not yet scaled. */
__device__ __forceinline__ float4 step(State &state, const Token &token) {
  const Floats<kRows> q = widen(token.q), k = widen(token.k);
  float4 sk = make_float4(0.0f, 0.0f, 0.0f, 0.0f), sq = sk;
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    sk = multiply_add(state.rows[i], k.at[i], sk);
    sq = multiply_add(state.rows[i], q.at[i], sq);
  }
  sk = sum_rows(sk);
  sq = sum_rows(sq);
  const float kq = sum_rows(dot(k, q));
  const float decay = expf(token.g);
  const float4 u = token.beta * multiply_add(sk, -decay, to_float4(widen(token.v)));
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    state.rows[i] = multiply_add(u, k.at[i], decay * state.rows[i]);
  }
  return multiply_add(u, kq, decay * sq);
}

__device__ __forceinline__ int64_t clamp(int64_t x, int64_t low, int64_t high) {
  return x < low ? low : x > high ? high : x;
}

}  // namespace

extern "C" __global__ void __launch_bounds__(32 * kWarps) gated_delta_rule_prefill_recurrent(
    const __nv_bfloat16 *q, const __nv_bfloat16 *k, const __nv_bfloat16 *v, const float *g,
    const float *beta, const float *initial_state, const void *cu_seqlens, __nv_bfloat16 *output,
    float *final_state, int64_t num_tokens, int64_t num_sequences, int cu_seqlens_bits,
    int num_key_heads, int num_value_heads, int64_t v_stride, float scale) {
  const Place place = place_of_thread(num_key_heads, num_value_heads);
  const int64_t head = place.value_head;
  Inputs in;
  in.q = q + place.key_head * kDim + place.row;
  in.k = k + place.key_head * kDim + place.row;
  in.v = v + head * kDim + place.column;
  in.g = g + head;
  in.beta = beta + head;
  in.key_stride = static_cast<int64_t>(num_key_heads) * kDim;
  in.v_stride = v_stride;
  in.gate_stride = num_value_heads;
  const int64_t out_stride = static_cast<int64_t>(num_value_heads) * kDim;
  __nv_bfloat16 *out = output + head * kDim + place.column;
  for (int64_t sequence = blockIdx.y; sequence < num_sequences; sequence += gridDim.y) {
    int64_t begin = 0, end = num_tokens;
    if (cu_seqlens != nullptr) { /* whatever it holds, nothing outside the tensors is touched */
      begin = clamp(integer_at(cu_seqlens, cu_seqlens_bits, sequence), 0, num_tokens);
      end = clamp(integer_at(cu_seqlens, cu_seqlens_bits, sequence + 1), begin, num_tokens);
    }
    Token now[kAhead], next[kAhead];
    load(now, in, begin, end);
    const int64_t of_thread =
        (sequence * num_value_heads + head) * (kDim * kDim) + place.row * kDim + place.column;
    State state;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      state.rows[i] = initial_state == nullptr
                          ? make_float4(0.0f, 0.0f, 0.0f, 0.0f)
                          : *reinterpret_cast<const float4 *>(initial_state + of_thread + i * kDim);
    }
    int64_t t = begin;
    for (; t + 2 * kAhead <= end; t += kAhead) { /* with no question between its steps */
#pragma unroll
      for (int i = 0; i < kAhead; ++i) load(next[i], in, t + kAhead + i);
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const float4 o = step(state, now[i]);
        if (place.first) store_four(out + (t + i) * out_stride, scale * o);
      }
#pragma unroll
      for (int i = 0; i < kAhead; ++i) now[i] = next[i];
    }
    for (; t < end; t += kAhead) {
      load(next, in, t + kAhead, end);
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        if (t + i < end) {
          const float4 o = step(state, now[i]);
          if (place.first) store_four(out + (t + i) * out_stride, scale * o);
        }
      }
#pragma unroll
      for (int i = 0; i < kAhead; ++i) now[i] = next[i];
    }
    if (final_state != nullptr) {
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        *reinterpret_cast<float4 *>(final_state + of_thread + i * kDim) = state.rows[i];
      }
    }
  }
}
