/* SPDX-License-Identifier: Apache-2.0 */
/* The decode step of the gated delta rule: one token of each sequence, states in place.
 *
 * A block has kColumns columns of one head's state, which do not depend on the others: blockIdx.x
 * counts such blocks, blockIdx.y tokens. Its threads have four columns of kRows rows each, so that a
 * warp reads whole lines of memory. The time is that of reading and writing the states once: all of
 * a thread's loads are under way before the first is needed, and S is kept in registers between.
 * For that the step
 *
 *   S <- exp(g) S;  u = beta (v - S^T k);  S <- S + k u^T;  o = scale S^T q
 *
 * takes both products from S as it was: S^T q after it is exp(g) S^T q + (k . q) u before it. */
#include "gated_delta_rule.cuh"

using namespace pega;

namespace {

/* Both from the declaration: how the work is cut depends on how much there is. */
constexpr int kColumns = COLUMNS;                /* of a block */
constexpr int kWarps = WARPS;                    /* of a block, two or more */
constexpr int kLanesOfRow = kColumns / 4;        /* a thread has 16 bytes of a row */
constexpr int kGroups = 32 / kLanesOfRow;        /* of rows, in a warp */
constexpr int kRows = kDim / (kGroups * kWarps); /* of a thread, one after another */
constexpr int kBlocksOfHead = kDim / kColumns;
constexpr int kThreads = 32 * kWarps;
constexpr int kBlocks = BLOCKS; /* of a multiprocessor: bounds the registers of a thread */
static_assert(kRows * kGroups * kWarps == kDim && kRows % 4 == 0 && kWarps >= 2, "the parts fit");

/* Where a block and a thread work. */
struct Place {
  int value_head, key_head;
  int row;    /* the first of the thread's kRows */
  int column; /* the first of its 4 */
};

__device__ __forceinline__ Place place_of_thread(int num_key_heads, int num_value_heads) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  Place place;
  place.value_head = static_cast<int>(blockIdx.x) / kBlocksOfHead;
  place.key_head = key_head_of(place.value_head, num_key_heads, num_value_heads);
  place.row = (warp * kGroups + lane / kLanesOfRow) * kRows;
  place.column = static_cast<int>(blockIdx.x) % kBlocksOfHead * kColumns + lane % kLanesOfRow * 4;
  return place;
}

/* What a step takes besides the state, as it lies in memory. Of q and k a thread has four elements:
 * those that its place in a warp says. */
struct Token {
  Bits<4> q, k, v;

  __device__ __forceinline__ Token(const __nv_bfloat16 *q_head, const __nv_bfloat16 *k_head,
                                   const __nv_bfloat16 *v_head, const Place &place)
      : q(load_bits<4, Changing>(q_head + static_cast<int>(threadIdx.x) % 32 * 4)),
        k(load_bits<4, Changing>(k_head + static_cast<int>(threadIdx.x) % 32 * 4)),
        v(load_bits<4, Changing>(v_head + place.column)) {}
};

struct State {
  float4 rows[kRows];
};

__device__ __forceinline__ State load_state(const float *head, const Place &place) {
  State state;
  const float4 *at = reinterpret_cast<const float4 *>(head + place.row * kDim + place.column);
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    state.rows[i] = at[i * (kDim / 4)];
  }
  return state;
}

__device__ __forceinline__ void store_state(float *head, const Place &place, const State &state) {
  float4 *at = reinterpret_cast<float4 *>(head + place.row * kDim + place.column);
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    at[i * (kDim / 4)] = state.rows[i];
  }
}

/* Over the groups of rows of a warp. */
__device__ __forceinline__ float4 sum_groups(float4 part) {
#pragma unroll
  for (int mask = kLanesOfRow; mask < 32; mask *= 2) part = part + shuffle(part, mask);
  return part;
}

/* A whole vector, by one warp. */
__device__ __forceinline__ void share(float4 *shared, const Bits<4> &part, bool normalize) {
  Floats<4> floats = widen(part);
  if (normalize) multiply_round(floats, inverse_length(sum_warp(dot(floats, floats))));
  shared[threadIdx.x % 32] = to_float4(floats);
}

/* The step: `state` to memory, and the block's part of `output`, the head's row. */
__device__ __forceinline__ void step(const Token &token, State &state, float *head_state,
                                     __nv_bfloat16 *output, const Place &place, float g, float beta,
                                     float scale, bool normalize) {
  __shared__ float4 q[kDim / 4], k[kDim / 4];
  __shared__ float4 sums_q[kWarps][kLanesOfRow], sums_k[kWarps][kLanesOfRow];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  if (warp == 0) share(q, token.q, normalize);
  if (warp == 1) share(k, token.k, normalize);
  __syncthreads();

  float4 sk = make_float4(0.0f, 0.0f, 0.0f, 0.0f), sq = sk;
#pragma unroll
  for (int i = 0; i < kRows / 4; ++i) {
    const float4 k_rows = k[place.row / 4 + i], q_rows = q[place.row / 4 + i];
    sk = multiply_add(state.rows[4 * i], k_rows.x, sk);
    sq = multiply_add(state.rows[4 * i], q_rows.x, sq);
    sk = multiply_add(state.rows[4 * i + 1], k_rows.y, sk);
    sq = multiply_add(state.rows[4 * i + 1], q_rows.y, sq);
    sk = multiply_add(state.rows[4 * i + 2], k_rows.z, sk);
    sq = multiply_add(state.rows[4 * i + 2], q_rows.z, sq);
    sk = multiply_add(state.rows[4 * i + 3], k_rows.w, sk);
    sq = multiply_add(state.rows[4 * i + 3], q_rows.w, sq);
  }
  sk = sum_groups(sk);
  sq = sum_groups(sq);
  const int of_row = lane % kLanesOfRow;
  if (lane < kLanesOfRow) {
    sums_k[warp][of_row] = sk;
    sums_q[warp][of_row] = sq;
  }
  __syncthreads();

  sk = sums_k[0][of_row];
#pragma unroll
  for (int i = 1; i < kWarps; ++i) sk = sk + sums_k[i][of_row];
  const float decay = expf(g);
  const float4 u = beta * multiply_add(sk, -decay, to_float4(widen(token.v)));
#pragma unroll
  for (int i = 0; i < kRows / 4; ++i) {
    const float4 k_rows = k[place.row / 4 + i];
    float4 *rows = state.rows + 4 * i;
    rows[0] = multiply_add(u, k_rows.x, decay * rows[0]);
    rows[1] = multiply_add(u, k_rows.y, decay * rows[1]);
    rows[2] = multiply_add(u, k_rows.z, decay * rows[2]);
    rows[3] = multiply_add(u, k_rows.w, decay * rows[3]);
  }
  store_state(head_state, place, state);
  if (warp == 0) {
    const float4 a = k[lane], b = q[lane];
    const float kq = sum_warp(a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w);
    sq = sums_q[0][of_row];
#pragma unroll
    for (int i = 1; i < kWarps; ++i) sq = sq + sums_q[i][of_row];
    if (lane < kLanesOfRow) {
      store_four(output + place.column, scale * multiply_add(u, kq, decay * sq));
    }
  }
  __syncthreads(); /* what is shared is free for another token */
}

__device__ __forceinline__ void pad(__nv_bfloat16 *output, const Place &place) {
  if (threadIdx.x < kLanesOfRow) {
    store_four(output + place.column, make_float4(0.0f, 0.0f, 0.0f, 0.0f));
  }
}

/* The gates of a projection, as they lie in memory. */
struct Gates {
  __nv_bfloat16 a, b, dt_bias;
  float a_log;

  __device__ __forceinline__ float g() const {
    const float x = __bfloat162float(a) + __bfloat162float(dt_bias);
    return -expf(a_log) * (x > 20.0f ? x : log1pf(expf(x)));
  }
  __device__ __forceinline__ float beta() const {
    return 1.0f / (1.0f + expf(-__bfloat162float(b)));
  }
};

/* A step of a token whose row of a fused projection holds the q heads, the k heads, the v heads. */
__device__ __forceinline__ void projected(const __nv_bfloat16 *qkv, const __nv_bfloat16 *a,
                                          const __nv_bfloat16 *b, const __nv_bfloat16 *dt_bias,
                                          const float *a_log, int64_t token, int num_key_heads,
                                          int num_value_heads, float *states, __nv_bfloat16 *output,
                                          const Place &place, float scale) {
  const int64_t row = token * num_value_heads + place.value_head;
  const __nv_bfloat16 *q =
      qkv +
      (token * (2 * static_cast<int64_t>(num_key_heads) + num_value_heads) + place.key_head) * kDim;
  const __nv_bfloat16 *k = q + static_cast<int64_t>(num_key_heads) * kDim;
  const __nv_bfloat16 *v =
      k + (static_cast<int64_t>(num_key_heads) - place.key_head + place.value_head) * kDim;
  const Token inputs(q, k, v, place);
  const Gates gates = {a[row], b[row], dt_bias[place.value_head], a_log[place.value_head]};
  float *head_state = states + static_cast<int64_t>(place.value_head) * (kDim * kDim);
  State state = load_state(head_state, place);
  step(inputs, state, head_state, output + row * kDim, place, gates.g(), gates.beta(), scale, true);
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    gated_delta_rule_decode(const __nv_bfloat16 *q, const __nv_bfloat16 *k, const __nv_bfloat16 *v,
                            const float *g, const float *beta, float *states, const void *slots,
                            __nv_bfloat16 *output, int64_t batch_size, int64_t num_slots,
                            int slot_bits, int num_key_heads, int num_value_heads, float scale,
                            int normalize) {
  const Place place = place_of_thread(num_key_heads, num_value_heads);
  begin();
  for (int64_t token = blockIdx.y; token < batch_size; token += gridDim.y) {
    const int64_t row = token * num_value_heads + place.value_head;
    const int64_t slot = slots == nullptr ? token : integer_at(slots, slot_bits, token);
    if (slot < 0 || slot >= num_slots) {
      pad(output + row * kDim, place);
      continue;
    }
    const int64_t key_row = token * num_key_heads + place.key_head;
    const Token inputs(q + key_row * kDim, k + key_row * kDim, v + row * kDim, place);
    const float gate = g[row], rate = beta[row];
    float *head_state = states + (slot * num_value_heads + place.value_head) * (kDim * kDim);
    State state = load_state(head_state, place);
    step(inputs, state, head_state, output + row * kDim, place, gate, rate, scale, normalize != 0);
  }
}

extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    gated_delta_rule_decode_projected(const __nv_bfloat16 *qkv, const __nv_bfloat16 *b,
                                      const __nv_bfloat16 *a, const __nv_bfloat16 *dt_bias,
                                      const float *a_log, float *states, const void *slots,
                                      __nv_bfloat16 *output, int64_t batch_size, int64_t num_slots,
                                      int slot_bits, int num_key_heads, int num_value_heads,
                                      float scale) {
  const Place place = place_of_thread(num_key_heads, num_value_heads);
  begin();
  for (int64_t token = blockIdx.y; token < batch_size; token += gridDim.y) {
    const int64_t slot = slots == nullptr ? token : integer_at(slots, slot_bits, token);
    if (slot < 0 || slot >= num_slots) {
      pad(output + (token * num_value_heads + place.value_head) * kDim, place);
    } else {
      projected(qkv, a, b, dt_bias, a_log, token, num_key_heads, num_value_heads,
                states + slot * num_value_heads * (kDim * kDim), output, place, scale);
    }
  }
}

extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    gated_delta_rule_decode_batch(const __nv_bfloat16 *qkv, const __nv_bfloat16 *b,
                                  const __nv_bfloat16 *a, const __nv_bfloat16 *dt_bias,
                                  const float *a_log, const uint64_t *state_ptrs,
                                  __nv_bfloat16 *output, int64_t batch_size, int num_key_heads,
                                  int num_value_heads) {
  const Place place = place_of_thread(num_key_heads, num_value_heads);
  begin();
  for (int64_t token = blockIdx.y; token < batch_size; token += gridDim.y) {
    const uint64_t address = state_ptrs[token];
    if (address == 0 || address % 16 != 0) { /* a misaligned one could only fault */
      pad(output + (token * num_value_heads + place.value_head) * kDim, place);
    } else {
      projected(qkv, a, b, dt_bias, a_log, token, num_key_heads, num_value_heads,
                reinterpret_cast<float *>(address), output, place, kDefaultScale);
    }
  }
}
