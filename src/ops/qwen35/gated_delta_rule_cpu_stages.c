/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "core/parallel.h"
#include "ops/qwen35/gated_delta_rule_cpu_kernels.h"

/* What the stages are given; each has its own use for some of it. */
typedef struct {
  const pega_qwen35_kernels *kernels;
  const uint16_t *q, *k, *v, *w, *u, *a_inv;
  const float *g, *beta, *states;
  uint16_t *to_q, *to_k, *to_v;
  float *to_fp32, *to_states;
  int64_t seq_len, num_key_heads, num_value_heads;
  float scale;
} stage_job;

static const pega_qwen35_kernels *or_fastest(const pega_qwen35_kernels *kernels) {
  return kernels == NULL ? pega_qwen35_kernels_fastest() : kernels;
}

/* One tile: the rows of a chunk of a head. */
typedef struct {
  int64_t row; /* token * HV + head of its first row */
  int64_t stride;
  int num_rows;
} tile;

static tile tile_of(const stage_job *job, int64_t chunk, int64_t head) {
  const int64_t token = chunk * kChunk;
  const int64_t left = job->seq_len - token;
  return (tile){token * job->num_value_heads + head, job->num_value_heads * kDim,
                left < kChunk ? (int)left : kChunk};
}

static int64_t num_chunks_of(int64_t seq_len) { return seq_len / kChunk + (seq_len % kChunk != 0); }

/* Some tens of microseconds to a tile. */
static void for_each_tile(stage_job *job, int num_threads, pega_parallel_body body) {
  pega_parallel_for(num_chunks_of(job->seq_len) * job->num_value_heads, 1, num_threads, body, job);
}

/* ---- prepare ---- */

static void prepare_tokens(void *self, int64_t begin, int64_t end) {
  const stage_job *job = self;
  const int64_t heads_per_key_head = job->num_value_heads / job->num_key_heads;
  const int64_t key_dim = job->num_key_heads * kDim;
  const int64_t value_dim = job->num_value_heads * kDim;
  _Alignas(64) float row[kDim * kMaxPanelColumns];
  for (int64_t token = begin; token < end; token++) {
    const uint16_t *from = job->v + token * (2 * key_dim + value_dim);
    for (int which = 0; which < 2; which++) {
      uint16_t *to = (which == 0 ? job->to_q : job->to_k) + token * value_dim;
      for (int64_t head = 0; head < job->num_key_heads; head++, from += kDim) {
        job->kernels->load(row, from, 0, 1, true);
        /* Exact: the numbers are bf16 already. A row is as many panels of one row. */
        for (int column = 0; column < kDim; column += job->kernels->columns) {
          job->kernels->store(to + column, 0, row + column, 1.0f, 1);
        }
        for (int64_t i = 1; i < heads_per_key_head; i++) {
          memcpy(to + i * kDim, to, kDim * sizeof *to);
        }
        to += heads_per_key_head * kDim;
      }
    }
    memcpy(job->to_v + token * value_dim, from, (size_t)value_dim * sizeof *from);
  }
}

void pega_qwen35_chunk_prepare_cpu(const pega_qwen35_kernels *kernels, const uint16_t *qkv,
                                   const uint16_t *b, const uint16_t *a, const uint16_t *dt_bias,
                                   const float *a_log, uint16_t *q, uint16_t *k, uint16_t *v,
                                   float *g, float *beta, int64_t seq_len, int64_t num_key_heads,
                                   int64_t num_value_heads, int num_threads) {
  if (num_key_heads <= 0 || num_value_heads < num_key_heads) return;
  stage_job job = {.kernels = or_fastest(kernels),
                   .v = qkv,
                   .to_q = q,
                   .to_k = k,
                   .to_v = v,
                   .num_key_heads = num_key_heads,
                   .num_value_heads = num_value_heads};
  pega_parallel_for(seq_len, 1 + 256 / num_value_heads, num_threads, prepare_tokens, &job);
  pega_qwen35_gates_cpu(b, a, dt_bias, a_log, g, beta, seq_len, num_value_heads, num_threads);
}

/* ---- cumsum ---- */

static void cumsum_chunks(void *self, int64_t begin, int64_t end) {
  const stage_job *job = self;
  const int64_t n = job->num_value_heads;
  for (int64_t chunk = begin; chunk < end; chunk++) {
    for (int64_t head = 0; head < n; head++) {
      const tile t = tile_of(job, chunk, head);
      double sum = 0.0;
      for (int i = 0; i < t.num_rows; i++) {
        const float gate = job->g[t.row + i * n];
        sum += (double)(gate < PEGA_QWEN35_MIN_GATE ? PEGA_QWEN35_MIN_GATE : gate);
        job->to_fp32[t.row + i * n] = (float)sum;
      }
    }
  }
}

void pega_qwen35_chunk_cumsum_cpu(const float *g, float *g_cumsum, int64_t seq_len,
                                  int64_t num_value_heads, int num_threads) {
  stage_job job = {
      .g = g, .to_fp32 = g_cumsum, .seq_len = seq_len, .num_value_heads = num_value_heads};
  pega_parallel_for(num_chunks_of(seq_len), 8, num_threads, cumsum_chunks, &job);
}

/* ---- a ---- */

static void make_a(void *self, int64_t begin, int64_t end) {
  const stage_job *job = self;
  const int64_t n = job->num_value_heads;
  pega_qwen35_chunk_scratch s;
  for (int64_t i = begin; i < end; i++) {
    const tile t = tile_of(job, i / n, i % n);
    pega_qwen35_load_rows(job->kernels, s.k, job->k + t.row * kDim, t.stride, t.num_rows, false);
    pega_qwen35_transpose_k(&s, t.num_rows);
    pega_qwen35_multiply_k(job->kernels, s.kk, s.k, &s, t.num_rows);
    pega_qwen35_take_gate_sums(&s.gates, job->g + t.row, n, t.num_rows);
    pega_qwen35_take_betas(&s.gates, job->beta + t.row, n, t.num_rows);
    float *a = pega_qwen35_chunk_a_of(&s);
    job->kernels->decay(a, NULL, s.kk, NULL, &s.gates, 1.0f, t.num_rows);
    for (int row = 0; row < t.num_rows; row++, a += kDim) {
      float *to = job->to_fp32 + (t.row + row * n) * kChunk;
      memcpy(to, a, (size_t)row * sizeof *to);
      memset(to + row, 0, (size_t)(kChunk - row) * sizeof *to);
    }
  }
}

void pega_qwen35_chunk_a_cpu(const pega_qwen35_kernels *kernels, const uint16_t *k,
                             const float *g_cumsum, const float *beta, float *a_tril,
                             int64_t seq_len, int64_t num_value_heads, int num_threads) {
  stage_job job = {.kernels = or_fastest(kernels),
                   .k = k,
                   .g = g_cumsum,
                   .beta = beta,
                   .to_fp32 = a_tril,
                   .seq_len = seq_len,
                   .num_value_heads = num_value_heads};
  for_each_tile(&job, num_threads, make_a);
}

/* ---- recompute ---- */

static void recompute(void *self, int64_t begin, int64_t end) {
  const stage_job *job = self;
  const pega_qwen35_kernels *kernels = job->kernels;
  const int64_t n = job->num_value_heads;
  const int columns = kernels->columns;
  pega_qwen35_chunk_scratch s;
  for (int64_t i = begin; i < end; i++) {
    const tile t = tile_of(job, i / n, i % n);
    const int padded = pega_qwen35_padded_rows(t.num_rows);
    memset(s.left, 0, (size_t)padded * kDim * sizeof(float));
    for (int row = 0; row < t.num_rows; row++) {
      const uint16_t *from = job->a_inv + (t.row + row * n) * kChunk;
      for (int j = 0; j <= row; j++) {
        const uint32_t bits = (uint32_t)from[j] << 16;
        memcpy(&s.left[row * kDim + j], &bits, sizeof bits);
      }
    }
    pega_qwen35_take_gate_sums(&s.gates, job->g + t.row, n, t.num_rows);
    pega_qwen35_take_betas(&s.gates, job->beta + t.row, n, t.num_rows);
    kernels->decay(NULL, NULL, NULL, NULL, &s.gates, 1.0f, 0);
    for (int row = 0; row < kChunk; row++) s.gates.from_start[row] *= s.gates.beta[row];
    memset(s.v, 0, sizeof s.v);
    for (int which = 0; which < 2; which++) {
      const uint16_t *from = (which == 0 ? job->v : job->k) + t.row * kDim;
      uint16_t *to = (which == 0 ? job->to_v : job->to_k) + t.row * kDim;
      const float *factor = which == 0 ? s.gates.beta : s.gates.from_start;
      for (int column = 0; column < kDim; column += columns) {
        kernels->subtract_from(s.v, NULL, from + column, t.stride, t.num_rows);
        kernels->multiply(s.v, s.left, s.v, columns, factor, padded, 0, PEGA_QWEN35_FULL);
        kernels->multiply(s.o, s.left, s.v, columns, NULL, padded, 0, PEGA_QWEN35_LOWER);
        kernels->store(to + column, t.stride, s.o, 1.0f, t.num_rows);
      }
    }
  }
}

void pega_qwen35_chunk_recompute_cpu(const pega_qwen35_kernels *kernels, const uint16_t *k,
                                     const uint16_t *v, const float *beta, uint16_t *w, uint16_t *u,
                                     const uint16_t *a_inv, const float *g_cumsum, int64_t seq_len,
                                     int64_t num_value_heads, int num_threads) {
  stage_job job = {.kernels = or_fastest(kernels),
                   .k = k,
                   .v = v,
                   .a_inv = a_inv,
                   .g = g_cumsum,
                   .beta = beta,
                   .to_k = w,
                   .to_v = u,
                   .seq_len = seq_len,
                   .num_value_heads = num_value_heads};
  for_each_tile(&job, num_threads, recompute);
}

/* ---- state ---- */

/* Half a head's columns to an item: they depend on nothing but themselves. */
enum { kStateColumns = 64 };

static void walk_states(void *self, int64_t begin, int64_t end) {
  const stage_job *job = self;
  const pega_qwen35_kernels *kernels = job->kernels;
  const int64_t n = job->num_value_heads;
  const int columns = kernels->columns;
  pega_qwen35_chunk_scratch s;
  _Alignas(64) float states[kDim * kStateColumns];
  float ones[kChunk];
  for (int i = 0; i < kChunk; i++) ones[i] = 1.0f;

  for (int64_t i = begin; i < end; i++) {
    const int64_t head = i / (kDim / kStateColumns);
    const int first_column = (int)(i % (kDim / kStateColumns)) * kStateColumns;
    const float *initial = job->states == NULL ? NULL : job->states + head * kDim * kDim;
    pega_qwen35_state_to_panels(states, initial, first_column, kStateColumns, columns);
    for (int64_t chunk = 0; chunk < num_chunks_of(job->seq_len); chunk++) {
      const tile t = tile_of(job, chunk, head);
      const int padded = pega_qwen35_padded_rows(t.num_rows);
      pega_qwen35_state_from_panels(job->to_states + (chunk * n + head) * kDim * kDim, states,
                                    first_column, kStateColumns, columns);
      pega_qwen35_load_rows(kernels, s.k, job->k + t.row * kDim, t.stride, t.num_rows, false);
      pega_qwen35_load_rows(kernels, s.q, job->w + t.row * kDim, t.stride, t.num_rows, false);
      pega_qwen35_take_gate_sums(&s.gates, job->g + t.row, n, t.num_rows);
      kernels->decay(NULL, NULL, NULL, NULL, &s.gates, 1.0f, 0);
      for (int column = 0; column < kStateColumns; column += columns) {
        const int64_t at = t.row * kDim + first_column + column;
        kernels->multiply(s.v, s.q, states + column * kDim, columns, NULL, padded, kDim,
                          PEGA_QWEN35_FULL);
        kernels->subtract_from(s.v, ones, job->u + at, t.stride, t.num_rows);
        kernels->store(job->to_v + at, t.stride, s.v, 1.0f, t.num_rows);
        pega_qwen35_update_state(kernels, states + column * kDim, &s, t.num_rows, false);
      }
    }
    if (job->to_fp32 != NULL) {
      pega_qwen35_state_from_panels(job->to_fp32 + head * kDim * kDim, states, first_column,
                                    kStateColumns, columns);
    }
  }
}

void pega_qwen35_chunk_state_cpu(const pega_qwen35_kernels *kernels, const uint16_t *k,
                                 const uint16_t *w, const uint16_t *u, const float *g_cumsum,
                                 const float *initial_state, float *chunk_state, uint16_t *v_new,
                                 float *final_state, int64_t seq_len, int64_t num_value_heads,
                                 int num_threads) {
  stage_job job = {.kernels = or_fastest(kernels),
                   .k = k,
                   .w = w,
                   .u = u,
                   .g = g_cumsum,
                   .states = initial_state,
                   .to_states = chunk_state,
                   .to_v = v_new,
                   .to_fp32 = final_state,
                   .seq_len = seq_len,
                   .num_value_heads = num_value_heads};
  pega_parallel_for(num_value_heads * (kDim / kStateColumns), 1, num_threads, walk_states, &job);
}

/* ---- o ---- */

static void make_o(void *self, int64_t begin, int64_t end) {
  const stage_job *job = self;
  const pega_qwen35_kernels *kernels = job->kernels;
  const int64_t n = job->num_value_heads;
  const int columns = kernels->columns;
  pega_qwen35_chunk_scratch s;
  _Alignas(64) float state[kDim * kMaxPanelColumns];
  for (int64_t i = begin; i < end; i++) {
    const tile t = tile_of(job, i / n, i % n);
    const int padded = pega_qwen35_padded_rows(t.num_rows);
    pega_qwen35_load_rows(kernels, s.k, job->k + t.row * kDim, t.stride, t.num_rows, false);
    pega_qwen35_load_rows(kernels, s.q, job->q + t.row * kDim, t.stride, t.num_rows, false);
    pega_qwen35_transpose_k(&s, t.num_rows);
    pega_qwen35_multiply_k(kernels, s.qk, s.q, &s, t.num_rows);
    pega_qwen35_take_gate_sums(&s.gates, job->g + t.row, n, t.num_rows);
    kernels->decay(NULL, pega_qwen35_chunk_p_of(&s), NULL, s.qk, &s.gates, 1.0f, padded);
    memset(s.v, 0, sizeof s.v);
    for (int column = 0; column < kDim; column += columns) {
      const int64_t at = t.row * kDim + column;
      pega_qwen35_state_to_panels(state, job->states + i * kDim * kDim, column, columns, columns);
      kernels->subtract_from(s.v, NULL, job->v + at, t.stride, t.num_rows);
      kernels->multiply(s.o, s.q, state, columns, NULL, padded, kDim, PEGA_QWEN35_FULL);
      kernels->multiply(s.o, pega_qwen35_chunk_p_of(&s), s.v, columns, s.gates.from_start, padded,
                        0, PEGA_QWEN35_LOWER);
      kernels->store(job->to_v + at, t.stride, s.o, job->scale, t.num_rows);
    }
  }
}

void pega_qwen35_chunk_o_cpu(const pega_qwen35_kernels *kernels, const uint16_t *q,
                             const uint16_t *k, const uint16_t *v_new, const float *chunk_state,
                             const float *g_cumsum, uint16_t *output, int64_t seq_len,
                             int64_t num_value_heads, float scale, int num_threads) {
  stage_job job = {.kernels = or_fastest(kernels),
                   .q = q,
                   .k = k,
                   .v = v_new,
                   .states = chunk_state,
                   .g = g_cumsum,
                   .to_v = output,
                   .seq_len = seq_len,
                   .num_value_heads = num_value_heads,
                   .scale = scale};
  for_each_tile(&job, num_threads, make_o);
}
