/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file gdr_reference.h
 * \brief Inputs of the gated delta rule as a model makes them, its answer in fp64, and comparisons.
 *
 * Numbers are the same on every machine. What finds no memory ends the process.
 */
#ifndef PEGA_TESTS_CORE_GDR_REFERENCE_H_
#define PEGA_TESTS_CORE_GDR_REFERENCE_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { kGdrDim = 128, kGdrChunk = 64, kGdrState = kGdrDim * kGdrDim };

/** What to make. Zero is a sensible value for every field but the heads. */
typedef struct gdr_options {
  int64_t num_key_heads;
  int64_t num_value_heads; /* a multiple of num_key_heads */
  const int64_t *lengths;  /* tokens of each sequence */
  int64_t num_sequences;
  double lowest_gate; /* g is uniform in [lowest_gate, 0] */
  double state_size;  /* standard deviation of the initial state's entries; 0: no initial state */
  uint64_t seed;
  bool projected; /* qkv, b, a, dt_bias and a_log, and q to beta of them */
  bool long_rows; /* q and k are not of length 1; they are normalised in the answer */
  int64_t period; /* not 0: only so many rows are made, token t has row t % period */
} gdr_options;

/** Inputs; T, N, HK, HV as in the functions' documentation. bf16 as its bits. */
typedef struct gdr_problem {
  int64_t num_tokens;
  int64_t num_sequences;
  int64_t num_key_heads;
  int64_t num_value_heads;
  int64_t num_rows;     /* of the tensors below: T, or the period */
  int64_t *cu_seqlens;  /* [N + 1] */
  uint16_t *q;          /* [T, HK, 128]; of long rows and projections: normalised */
  uint16_t *k;          /* [T, HK, 128] */
  uint16_t *v;          /* [T, HV, 128] */
  float *g;             /* [T, HV] */
  float *beta;          /* [T, HV] */
  float *initial_state; /* [N, HV, 128, 128]; NULL for zeros */
  uint16_t *long_q;     /* [T, HK, 128] with long_rows, else NULL */
  uint16_t *long_k;     /* the same */
  uint16_t *qkv;        /* [T, (2 HK + HV) * 128] with projected, else NULL, as all that follow */
  uint16_t *b;          /* [T, HV] */
  uint16_t *a;          /* [T, HV] */
  uint16_t *dt_bias;    /* [HV] */
  float *a_log;         /* [HV] */
  double scale;         /* 128^-0.5 */
} gdr_problem;

/**
 * q, k normal, L2-normalised and rounded to bf16; v normal, bf16; g uniform in [lowest_gate, 0], beta in
 * (0, 1). With projections all is normal, exp(a_log) uniform in (0, -lowest_gate), and q to beta are
 * what the rule's prepare makes of them in fp64, rounded; no number that is normalised lies halfway
 * between two of bf16. Change what you like before the answer is asked for.
 */
gdr_problem gdr_problem_create(const gdr_options *options);
/** One sequence, no initial state. */
gdr_problem gdr_problem_simple(int64_t num_tokens, int64_t num_key_heads, int64_t num_value_heads,
                               double lowest_gate, uint64_t seed);
void gdr_problem_free(gdr_problem *problem);
/** Makes q to beta of the projections anew, after these were changed. */
void gdr_problem_prepare(gdr_problem *problem);
/** Makes q and k of long_q and long_k anew, after these were changed. */
void gdr_problem_normalize(gdr_problem *problem);

/** The answer of the recurrence in fp64. */
typedef struct gdr_answer {
  double *output;      /* [T, HV, 128] */
  double *final_state; /* [N, HV, 128, 128] */
} gdr_answer;

/** Walks every sequence and head, on all processors. */
gdr_answer gdr_solve_recurrence(const gdr_problem *problem);
void gdr_answer_free(gdr_answer *answer);

/**
 * Walks some heads of sequence 0.
 * \param tokens Tokens of the sequence, rising, whose outputs are kept.
 * \param outputs [num_heads, num_tokens, 128].
 * \param final_states [num_heads, 128, 128].
 */
void gdr_walk_heads(const gdr_problem *problem, const int64_t *heads, int64_t num_heads,
                    const int64_t *tokens, int64_t num_tokens, double *outputs,
                    double *final_states);

/* ---- The seven stages' formulas, one sequence, in fp64 on the numbers given ---- */

/** k, q expanded to HV heads, as prepare writes them: [T, HV, 128] of [T, HK, 128]. */
double *gdr_expand_heads(const gdr_problem *problem, const uint16_t *rows);

void gdr_stage_cumsum(int64_t num_tokens, int64_t num_heads, const double *g, double *g_cumsum);
void gdr_stage_a(int64_t num_tokens, int64_t num_heads, const double *k, const double *g_cumsum,
                 const double *beta, double *a_tril);
void gdr_stage_solve(int64_t num_tokens, int64_t num_heads, const double *a_tril, double *a_inv);
void gdr_stage_recompute(int64_t num_tokens, int64_t num_heads, const double *k, const double *v,
                         const double *beta, const double *a_inv, const double *g_cumsum, double *w,
                         double *u);
/** \param initial_state, final_state NULL where there is none, or it is not wanted. */
void gdr_stage_state(int64_t num_tokens, int64_t num_heads, const double *k, const double *w,
                     const double *u, const double *g_cumsum, const double *initial_state,
                     double *chunk_state, double *v_new, double *final_state);
void gdr_stage_o(int64_t num_tokens, int64_t num_heads, const double *q, const double *k,
                 const double *v_new, const double *chunk_state, const double *g_cumsum,
                 double scale, double *output);

/* ---- Numbers ---- */

/** Memory for `count` things of `size` bytes, aligned to 64; to be freed. */
void *gdr_allocate(int64_t count, size_t size);
double *gdr_widen_bf16(const uint16_t *bits, int64_t count);
double *gdr_widen_f32(const float *values, int64_t count);
uint16_t *gdr_narrow_bf16(const double *values, int64_t count);
float *gdr_narrow_f32(const double *values, int64_t count);
double gdr_bf16_to_double(uint16_t bits);
uint16_t gdr_double_to_bf16(double value);

/** Uniform in (0, 1), and normal; the state moves on. */
double gdr_uniform(uint64_t *state);
double gdr_normal(uint64_t *state);

/** Runs do_one(user, i) for i in [0, count), on all processors. */
void gdr_for_all(int64_t count, void (*do_one)(void *user, int64_t i), void *user);

/** How an answer compares: NaN anywhere makes both NaN. */
typedef struct gdr_error {
  double rms; /* sqrt(mean (x - ref)^2) / sqrt(mean ref^2); of a ref of zeros: 0, or infinite */
  double max; /* max |x - ref| / max |ref| */
} gdr_error;

gdr_error gdr_compare_bf16(const uint16_t *got, const double *expected, int64_t count);
gdr_error gdr_compare_f32(const float *got, const double *expected, int64_t count);
/**
 * How many numbers are further from what is expected than rounding to bf16 explains, fp32 sums behind
 * it. That is for few numbers, whose rms depends on where they lie between powers of two.
 */
int64_t gdr_badly_rounded(const uint16_t *got, const double *expected, int64_t count);
/** The worse of each. */
gdr_error gdr_worse(gdr_error one, gdr_error other);

#endif /* PEGA_TESTS_CORE_GDR_REFERENCE_H_ */
