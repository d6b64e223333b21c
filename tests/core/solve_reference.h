/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file solve_reference.h
 * \brief Inputs of the chunk solve as a model makes them, its answer in fp64, and a comparison.
 */
#ifndef PEGA_TESTS_CORE_SOLVE_REFERENCE_H_
#define PEGA_TESTS_CORE_SOLVE_REFERENCE_H_

#include <stdbool.h>
#include <stdint.h>

/** Written into every output entry before a solve, to see which were not touched. A NaN. */
#define SOLVE_UNTOUCHED 0xffa5u

/**
 * One problem. Both buffers have `margin` rows before row 0 and end on a whole chunk plus `margin`
 * rows: all that is not an input entry that may be read is NaN, all output is SOLVE_UNTOUCHED.
 */
typedef struct solve_problem {
  int64_t seq_len;
  int64_t num_value_heads;
  int64_t num_rows; /* of each buffer, margins included */
  float *in_buffer;
  uint16_t *out_buffer;
  float *a_tril;   /* row 0 in in_buffer */
  uint16_t *a_inv; /* row 0 in out_buffer */
} solve_problem;

enum { kSolveMargin = 3 };

/**
 * Makes a problem with A[i, j] = beta_i exp(G_i - G_j) k_i.k_j: keys normal, L2-normalised and
 * rounded to bf16, one for each key head; g uniform in [lowest_gate, 0], beta uniform in (0, 1).
 * Ends the process where there is no memory.
 */
solve_problem solve_problem_create(int64_t seq_len, int64_t num_key_heads, int64_t num_value_heads,
                                   double lowest_gate, uint64_t seed);
void solve_problem_free(solve_problem *problem);

/** Fills the whole output with SOLVE_UNTOUCHED again. */
void solve_problem_reset(solve_problem *problem);

/** How an output compares with the fp64 inverse. */
typedef struct solve_comparison {
  double max_error;      /* max |x - ref| / max |ref| */
  double rms_error;      /* sqrt(mean (x - ref)^2) / sqrt(mean ref^2) */
  int64_t badly_rounded; /* entries further from ref than rounding to bf16 explains */
  int64_t bad_above;     /* entries on the diagonal that are not 1, or above it that are not +0 */
  int64_t bad_outside;   /* entries outside rows 0 to seq_len - 1 that were written */
} solve_comparison;

solve_comparison solve_problem_compare(const solve_problem *problem);

#endif /* PEGA_TESTS_CORE_SOLVE_REFERENCE_H_ */
