/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "ops/qwen35/gated_delta_rule_cpu_kernels.h"

/* Keeps the difference of two infinite sums from being NaN; NaN itself stays. */
static const float kMinGateSum = -1e30f;

static void repeat_last_gate(pega_qwen35_chunk_gates *gates, int num_rows) {
  for (int i = num_rows; i < kChunk; i++) {
    gates->high[i] = gates->high[num_rows - 1];
    gates->low[i] = gates->low[num_rows - 1];
  }
}

void pega_qwen35_sum_gates(pega_qwen35_chunk_gates *gates, const float *g, int64_t stride,
                           int num_rows) {
  double sum = 0.0;
  for (int i = 0; i < num_rows; i++) {
    const float gate = g[i * stride];
    sum += (double)(gate < PEGA_QWEN35_MIN_GATE ? PEGA_QWEN35_MIN_GATE : gate);
    gates->high[i] = (float)sum;
    gates->low[i] = (float)(sum - (double)gates->high[i]);
  }
  repeat_last_gate(gates, num_rows);
}

void pega_qwen35_take_gate_sums(pega_qwen35_chunk_gates *gates, const float *g_cumsum,
                                int64_t stride, int num_rows) {
  for (int i = 0; i < num_rows; i++) {
    const float sum = g_cumsum[i * stride];
    gates->high[i] = sum < kMinGateSum ? kMinGateSum : sum;
    gates->low[i] = 0.0f;
  }
  repeat_last_gate(gates, num_rows);
}

void pega_qwen35_take_betas(pega_qwen35_chunk_gates *gates, const float *beta, int64_t stride,
                            int num_rows) {
  for (int i = 0; i < kChunk; i++) gates->beta[i] = i < num_rows ? beta[i * stride] : 0.0f;
}

void pega_qwen35_update_state(const pega_qwen35_kernels *kernels, float *state,
                              pega_qwen35_chunk_scratch *s, int num_rows, bool zero) {
  const int columns = kernels->columns;
  const int padded = pega_qwen35_padded_rows(num_rows);
  for (int d = 0; d < kDim; d++) s->keep[d] = s->gates.from_start[kChunk - 1];
  kernels->multiply(s->v, s->left, s->v, columns, s->gates.to_end, padded, 0, PEGA_QWEN35_FULL);
  kernels->multiply(state, s->k, s->v, columns, zero ? NULL : s->keep, kDim, num_rows,
                    PEGA_QWEN35_TRANSPOSED);
}

void pega_qwen35_load_rows(const pega_qwen35_kernels *kernels, float *to, const uint16_t *from,
                           int64_t stride, int num_rows, bool normalize) {
  kernels->load(to, from, stride, num_rows, normalize);
  const int num_zeros = pega_qwen35_padded_rows(num_rows) - num_rows;
  memset(to + num_rows * kDim, 0, (size_t)num_zeros * kDim * sizeof(float));
}

/* gcc and clang have one vector of four, and a shuffle of its elements by different names. */
typedef float float_x4 __attribute__((vector_size(16)));
#if defined(__clang__)
#define SHUFFLE __builtin_shufflevector
#else
typedef int32_t int_x4 __attribute__((vector_size(16)));
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (int_x4){__VA_ARGS__})
#endif

static inline float_x4 load_4(const float *x) {
  float_x4 v;
  memcpy(&v, x, sizeof v);
  return v;
}

static inline void store_4(float *x, float_x4 v) { memcpy(x, &v, sizeof v); }

void pega_qwen35_transpose_k(pega_qwen35_chunk_scratch *s, int num_rows) {
  const int padded = pega_qwen35_padded_rows(num_rows);
  for (int row = 0; row < padded; row += 4) {
    for (int column = 0; column < kDim; column += 4) {
      const float *from = s->k + row * kDim + column;
      float *to = s->k_transposed + column * kChunk + row;
      const float_x4 a = load_4(from), b = load_4(from + kDim);
      const float_x4 c = load_4(from + 2 * kDim), d = load_4(from + 3 * kDim);
      const float_x4 ab = SHUFFLE(a, b, 0, 4, 1, 5), cd = SHUFFLE(c, d, 0, 4, 1, 5);
      const float_x4 ab2 = SHUFFLE(a, b, 2, 6, 3, 7), cd2 = SHUFFLE(c, d, 2, 6, 3, 7);
      store_4(to, SHUFFLE(ab, cd, 0, 1, 4, 5));
      store_4(to + kChunk, SHUFFLE(ab, cd, 2, 3, 6, 7));
      store_4(to + 2 * kChunk, SHUFFLE(ab2, cd2, 0, 1, 4, 5));
      store_4(to + 3 * kChunk, SHUFFLE(ab2, cd2, 2, 3, 6, 7));
    }
  }
  /* A panel may be wider than what is left of the rows. */
  for (int column = 0; column < kDim; column++) {
    memset(s->k_transposed + column * kChunk + padded, 0,
           (size_t)(kChunk - padded) * sizeof(float));
  }
}

void pega_qwen35_multiply_k(const pega_qwen35_kernels *kernels, float *panels, const float *x,
                            const pega_qwen35_chunk_scratch *s, int num_rows) {
  const int padded = pega_qwen35_padded_rows(num_rows);
  for (int column = 0; column < padded; column += kernels->columns) {
    kernels->multiply(panels + column * kChunk + column * kernels->columns, x + column * kDim,
                      s->k_transposed + column, kChunk, NULL, padded - column, kDim,
                      PEGA_QWEN35_FULL);
  }
}

bool pega_qwen35_state_to_panels(float *panels, const float *state, int first_column,
                                 int num_columns, int panel_columns) {
  if (state == NULL) {
    memset(panels, 0, (size_t)num_columns * kDim * sizeof(float));
    return true;
  }
  bool zero = true;
  /* Row by row: so lie the states in memory, which is further away than the panels. */
  for (int d = 0; d < kDim; d++) {
    const float *row = state + d * kDim + first_column;
    for (int column = 0; column < num_columns; column += panel_columns) {
      memcpy(panels + column * kDim + d * panel_columns, row + column,
             (size_t)panel_columns * sizeof(float));
    }
    /* All are if one is, and each is as the next. */
    zero = zero && row[0] == 0.0f &&
           memcmp(row, row + 1, (size_t)(num_columns - 1) * sizeof(float)) == 0;
  }
  return zero;
}

void pega_qwen35_state_from_panels(float *state, const float *panels, int first_column,
                                   int num_columns, int panel_columns) {
  for (int d = 0; d < kDim; d++) {
    for (int column = 0; column < num_columns; column += panel_columns) {
      memcpy(state + d * kDim + first_column + column, panels + column * kDim + d * panel_columns,
             (size_t)panel_columns * sizeof(float));
    }
  }
}
