/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file bench_same.h
 * \brief A small prefill whose inputs ours and the peers' get bit by bit, so that their
 *        errors can be compared.
 *
 * Inputs and results pass through files in memory, /proc/PID/fd/N: nothing is left, however the
 * run ends.
 */
#ifndef PEGA_CLI_BENCH_SAME_H_
#define PEGA_CLI_BENCH_SAME_H_

#include "cli.h"
#include "print.h"

/** \brief Sizes, inputs, and what is right of them by the rule in double, for every head. */
typedef struct bench_same {
  int64_t sequences, tokens; /**< tokens of each */
  int64_t key_heads, value_heads;
  int inputs; /**< file with q, k, v, g, beta, one behind the other */
  /** file that a peer appends the results of its ways to: output, final states [N, HV, K, V] */
  int results;
  json_t *request; /**< what peers are told: "sequences", "tokens", "inputs", "results"; owned */
  double *output;  /**< owned */
  double *states;  /**< owned */
} bench_same;

/**
 * \brief Makes the files and works out what is right.
 * \param in q, k, v, g, beta on the host, row-major: bf16, and fp32 from g on.
 */
pega_status bench_same_open(bench_same *out, int64_t sequences, int64_t tokens, int64_t key_heads,
                            int64_t value_heads, const void *const in[5], pega_error *error);
/** \brief Gives back everything. Takes zeros. */
void bench_same_close(bench_same *self);

/** \brief Elements of the output, of the states. */
int64_t bench_same_output(const bench_same *self);
int64_t bench_same_states(const bench_same *self);
/**
 * \brief {"sequences", "tokens", "output_rms", "state_rms"}: errors of a result, null
 *        where one is no number.
 * \param largest The larger of the two; a NaN where one is. May be NULL.
 */
json_t *bench_same_judge(const bench_same *self, const uint16_t *output, const float *states,
                         double *largest);
/** \brief The same of result `number` of the file; NULL where the file has no such. */
json_t *bench_same_judge_file(const bench_same *self, int64_t number, double *largest);

#endif  // PEGA_CLI_BENCH_SAME_H_
