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
                              pega_qwen35_chunk_scratch *s, int num_rows) {
  const int columns = kernels->columns;
  const int padded = pega_qwen35_padded_rows(num_rows);
  for (int d = 0; d < kDim; d++) s->keep[d] = s->gates.from_start[kChunk - 1];
  kernels->multiply(s->v, s->left, s->v, columns, s->gates.to_end, padded, 0, PEGA_QWEN35_FULL);
  kernels->multiply(state, s->left, s->v, columns, s->keep, kDim, num_rows, PEGA_QWEN35_FULL);
}

void pega_qwen35_load_rows(const pega_qwen35_kernels *kernels, float *to, const uint16_t *from,
                           int64_t stride, int num_rows, bool normalize) {
  kernels->load(to, from, stride, num_rows, normalize);
  const int num_zeros = pega_qwen35_padded_rows(num_rows) - num_rows;
  memset(to + num_rows * kDim, 0, (size_t)num_zeros * kDim * sizeof(float));
}

void pega_qwen35_transpose_k(pega_qwen35_chunk_scratch *s, int num_rows) {
  /* Eight by eight: a line of each side is at hand until all of it has been used. */
  const int padded = pega_qwen35_padded_rows(num_rows);
  for (int row = 0; row < padded; row += 8) {
    for (int column = 0; column < kDim; column += 8) {
      for (int i = 0; i < 8; i++) {
        for (int j = 0; j < 8; j++) {
          s->left[(column + i) * kDim + row + j] = s->k[(row + j) * kDim + column + i];
        }
      }
    }
  }
  /* A panel may be wider than what is left of the rows. */
  for (int column = 0; column < kDim; column++) {
    memset(s->left + column * kDim + padded, 0, (size_t)(kChunk - padded) * sizeof(float));
  }
}

void pega_qwen35_multiply_k(const pega_qwen35_kernels *kernels, float *panels, const float *x,
                            const pega_qwen35_chunk_scratch *s, int num_rows) {
  const int padded = pega_qwen35_padded_rows(num_rows);
  for (int column = 0; column < padded; column += kernels->columns) {
    kernels->multiply(panels + column * kChunk + column * kernels->columns, x + column * kDim,
                      s->left + column, kDim, NULL, padded - column, kDim, PEGA_QWEN35_FULL);
  }
}

void pega_qwen35_state_to_panels(float *panels, const float *state, int first_column,
                                 int num_columns, int panel_columns) {
  const size_t row_bytes = (size_t)panel_columns * sizeof(float);
  for (int column = 0; column < num_columns; column += panel_columns) {
    for (int d = 0; d < kDim; d++, panels += panel_columns) {
      if (state == NULL) {
        memset(panels, 0, row_bytes);
      } else {
        memcpy(panels, state + d * kDim + first_column + column, row_bytes);
      }
    }
  }
}

void pega_qwen35_state_from_panels(float *state, const float *panels, int first_column,
                                   int num_columns, int panel_columns) {
  for (int column = 0; column < num_columns; column += panel_columns) {
    for (int d = 0; d < kDim; d++, panels += panel_columns) {
      memcpy(state + d * kDim + first_column + column, panels,
             (size_t)panel_columns * sizeof(float));
    }
  }
}
