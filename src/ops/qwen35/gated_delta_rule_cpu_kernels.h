/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PEGA_OPS_QWEN35_GATED_DELTA_RULE_CPU_KERNELS_H_
#define PEGA_OPS_QWEN35_GATED_DELTA_RULE_CPU_KERNELS_H_

#include <stdbool.h>
#include <stdint.h>

#include "ops/qwen35/gated_delta_rule_cpu.h"

/**
 * \file gated_delta_rule_cpu_kernels.h
 * \brief The inner loops of the gated delta rule, for one instruction set each
 *
 * What is done with them is written once, in plain C; they hold only what needs wide registers.
 *
 * A panel is a strip of a matrix as wide as a kernel takes at a time: `columns` columns, stored one
 * row after the other. The state and everything that has the columns of v is kept in panels, which
 * fit the first-level cache. All other matrices have rows of 128.
 */

/* Stands for itself and for what a gate below it would do: exp of it is 0 in fp32, so no weight across
 * it is anything but 0. Sums of 64 stay small enough for a double to carry them to 12 digits behind the
 * point, and so the weights between tokens that follow it. The GPU's kernels have the same. */
#define PEGA_QWEN35_MIN_GATE -128.0f

enum {
  kChunk = 64, /* tokens of a chunk */
  kDim = 128,  /* numbers in a row of q, k, v */
  kMaxPanelColumns = 32,
  kRowGranularity = 8, /* a multiple of the rows that any kernel takes at a time */
};

/**
 * \brief The gates of one chunk of one head
 *
 * G, the sum of the gates up to a token, is the unevaluated sum of two floats: differences of sums
 * that are large and close must not lose what lies between them.
 */
typedef struct {
  float high[kChunk], low[kChunk];
  float beta[kChunk];
  /** Written by decay(): exp(G_i), exp(G_last - G_i) */
  float from_start[kChunk], to_end[kChunk];
} pega_qwen35_chunk_gates;

/** \brief Which a[i, j] of a product count */
typedef enum {
  /** All with j < depth */
  PEGA_QWEN35_FULL,
  /** The same of the transposed: a[i, j] is at a + j 128 + i */
  PEGA_QWEN35_TRANSPOSED,
  /** Those with j <= i. Right of the diagonal, a is zero up to a multiple of kRowGranularity. */
  PEGA_QWEN35_LOWER,
  /** Those with j < i, and b is c: c <- (I - a)^-1 (scale c), row after row */
  PEGA_QWEN35_SOLVE,
} pega_qwen35_shape;

struct pega_qwen35_kernels {
  const char *name;
  /** Columns of a panel; divides kMaxPanelColumns */
  int columns;
  /** Columns that recur() takes; divides 64 */
  int recur_columns;

  /** \brief c[i, :] = scale[i] c[i, :] + sum over j of a[i, j] b[j, :]
   *
   * c is a panel of num_rows rows, a multiple of kRowGranularity; a has rows of 128; the rows of b,
   * as wide as a panel, are b_stride apart. Without a scale c is not read. */
  void (*multiply)(float *c, const float *a, const float *b, int64_t b_stride, const float *scale,
                   int num_rows, int depth, pega_qwen35_shape shape);

  /** \brief Rows of 128 from bf16, normalised if wanted; rows of `from` are `stride` apart. */
  void (*load)(float *to, const uint16_t *from, int64_t stride, int num_rows, bool normalize);

  /** \brief a[i, j] = sign beta_i exp(G_i - G_j) kk[i, j] for j < i, p[i, j] = exp(G_i - G_j)
   * qk[i, j] for j <= i, and 0 from there to the next multiple of kRowGranularity
   *
   * a and p have rows of 128; kk and qk are panels of 64 rows. kk or qk NULL: without that one. */
  void (*decay)(float *a, float *p, const float *kk, const float *qk,
                pega_qwen35_chunk_gates *gates, float sign, int num_rows);

  /** \brief c[i, :] = x[i, :] - c_factor[i] c[i, :], c a panel, x bf16
   *
   * Without a c_factor c is not read. */
  void (*subtract_from)(float *c, const float *c_factor, const uint16_t *x, int64_t x_stride,
                        int num_rows);

  /** \brief to[i, :] = factor c[i, :], c a panel, to bf16 */
  void (*store)(uint16_t *to, int64_t stride, const float *c, float factor, int num_rows);

  /** \brief One token, recur_columns columns of one head: s[d, :] is at s + d s_stride.
   *
   * next is the s that follows, to be fetched from memory meanwhile, or NULL. */
  void (*recur)(float *s, int64_t s_stride, const float *q, const float *k, const uint16_t *v,
                uint16_t *output, float decay, float beta, float scale, const float *next);
};

extern const pega_qwen35_kernels pega_qwen35_kernels_portable;
#if defined(__x86_64__)
extern const pega_qwen35_kernels pega_qwen35_kernels_avx2;
extern const pega_qwen35_kernels pega_qwen35_kernels_avx512;
#elif defined(__aarch64__)
extern const pega_qwen35_kernels pega_qwen35_kernels_neon;
#endif

/** \brief The fastest kernels that this CPU can run */
const pega_qwen35_kernels *pega_qwen35_kernels_fastest(void);

/* ---- What prefill and the stages have in common ---- */

/** \brief What a thread needs to work on a chunk */
typedef struct {
  _Alignas(64) float k[kChunk * kDim];
  _Alignas(64) float q[kChunk * kDim];
  /** k transposed: rows of kChunk */
  _Alignas(64) float k_transposed[kDim * kChunk];
  /** Rows of 128: A in the left half, P in the right one */
  _Alignas(64) float left[kChunk * kDim];
  _Alignas(64) float kk[kChunk * kChunk];
  _Alignas(64) float qk[kChunk * kChunk];
  _Alignas(64) float v[kChunk * kMaxPanelColumns];
  _Alignas(64) float o[kChunk * kMaxPanelColumns];
  _Alignas(64) pega_qwen35_chunk_gates gates;
  /** What the rows of the state are multiplied by: exp(G_last), all the same */
  float keep[kDim];
} pega_qwen35_chunk_scratch;

static inline float *pega_qwen35_chunk_a_of(pega_qwen35_chunk_scratch *s) { return s->left; }

static inline float *pega_qwen35_chunk_p_of(pega_qwen35_chunk_scratch *s) {
  return s->left + kChunk;
}

/** \brief num_rows with the zeros that follow it */
static inline int pega_qwen35_padded_rows(int num_rows) {
  return (num_rows + kRowGranularity - 1) / kRowGranularity * kRowGranularity;
}

/** \brief G from g, or as it is given, as the sums of rows that are `stride` apart */
void pega_qwen35_sum_gates(pega_qwen35_chunk_gates *gates, const float *g, int64_t stride,
                           int num_rows);
void pega_qwen35_take_gate_sums(pega_qwen35_chunk_gates *gates, const float *g_cumsum,
                                int64_t stride, int num_rows);

void pega_qwen35_take_betas(pega_qwen35_chunk_gates *gates, const float *beta, int64_t stride,
                            int num_rows);

/** \brief S <- exp(G_last) S + k^T (exp(G_last - G) v) for one panel of S; s->v is overwritten.
 *
 * zero: S is not read, but taken for zeros. */
void pega_qwen35_update_state(const pega_qwen35_kernels *kernels, float *state,
                              pega_qwen35_chunk_scratch *s, int num_rows, bool zero);

/** \brief Rows of bf16 into rows of 128 floats, followed by rows of zeros to the padded number */
void pega_qwen35_load_rows(const pega_qwen35_kernels *kernels, float *to, const uint16_t *from,
                           int64_t stride, int num_rows, bool normalize);

/** \brief s->k into s->k_transposed */
void pega_qwen35_transpose_k(pega_qwen35_chunk_scratch *s, int num_rows);

/** \brief x k^T into panels of 64 rows, as far as it lies on or below the diagonal */
void pega_qwen35_multiply_k(const pega_qwen35_kernels *kernels, float *panels, const float *x,
                            const pega_qwen35_chunk_scratch *s, int num_rows);

/** \brief Rows of a state's columns into panels or back; state NULL is zeros
 *
 * \return whether all of them are zero
 */
bool pega_qwen35_state_to_panels(float *panels, const float *state, int first_column,
                                 int num_columns, int panel_columns);
void pega_qwen35_state_from_panels(float *state, const float *panels, int first_column,
                                   int num_columns, int panel_columns);

#endif /* PEGA_OPS_QWEN35_GATED_DELTA_RULE_CPU_KERNELS_H_ */
