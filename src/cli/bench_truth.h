/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file bench_truth.h
 * \brief What is right, in double: what `pega bench` compares results with, apart from the library.
 */
#ifndef PEGA_CLI_BENCH_TRUTH_H_
#define PEGA_CLI_BENCH_TRUTH_H_

#include <pega/qwen35.h>

/** \brief Sums of squares of differences and of what was expected; start them as zeros. */
typedef struct bench_sums {
  double difference;
  double expected;
} bench_sums;

/** \brief Root of the mean square of the differences, relative to that of what was expected. */
double bench_sums_rms(const bench_sums *sums);
void bench_sums_add(bench_sums *sums, double got, double expected);

double bench_from_bf16(uint16_t bits);

/** \brief Inputs of a prefill or of decode steps on the host, row-major as the library takes them. */
typedef struct bench_rule {
  const uint16_t *q, *k, *v;
  const float *g, *beta;
  int64_t key_heads, value_heads;
} bench_rule;

/**
 * \brief The rule, token by token, of one value head.
 * \param begin, tokens Rows of the inputs.
 * \param state [128, 128], K first; read and written.
 * \param output [tokens, 128], written; may be NULL.
 */
void bench_recurrence(const bench_rule *rule, int64_t head, int64_t begin, int64_t tokens,
                      double *state, double *output);

/** \brief Errors of inverses, relative to the largest element of each; start them as zeros. */
typedef struct bench_solve_errors {
  double max; /**< largest |got - exact| */
  double
      rounding; /**< the same of the exact inverse rounded to bf16: no bf16 output can have less */
  /** most by which an element is farther from the exact one than the nearest bf16 */
  double past_rounding;
} bench_solve_errors;

/**
 * \brief Raises errors to those of a result beside (I + A)^-1 of one chunk and head, in double.
 * \param a, got Their first elements; rows are `stride` elements apart.
 */
void bench_solve_error(const float *a, const uint16_t *got, int64_t stride,
                       bench_solve_errors *errors);

#endif  // PEGA_CLI_BENCH_TRUTH_H_
