/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file bench_cpu.h
 * \brief What `pega bench cpu` measures: the functions on CPU tensors, with what their results
 *        take at least.
 *
 * Operations of a case are those of the algorithm that is measured, a multiplication and an
 * addition one each; exponentials, conversions and what is computed in vain are not counted. n is
 * the tokens of a chunk, D the 128 of a head:
 *
 *   prefill  of each value head and chunk 6 n D^2 (keys and queries with the state, its update;
 *            2 n D^2 for a first chunk without a state), n (n - 1) D for the solve, n (n + 1) D for
 *            scores with values; of each key head and chunk n (n - 1) D for keys with keys and
 *            n (n + 1) D for queries with keys. Chunks are of 32 tokens, a first one without a
 *            state of 64.
 *   decode   of each value head 7 D^2: keys and queries with the state, decay, update
 *   solve    of each 64 x 64 tile n (n^2 - 1) / 3: the inverse by substitution
 *
 * Bytes are those of every input once and of every output once: of the solve's input the part below
 * the diagonal; of a decode step's states both ways.
 */
#ifndef PEGA_CLI_BENCH_CPU_H_
#define PEGA_CLI_BENCH_CPU_H_

#include "cli.h"
#include "print.h"

typedef struct bench_cpu_work bench_cpu_work;

/** \brief A case; size is tokens of one sequence (prefill, solve) or the batch (decode). */
typedef struct bench_cpu_case {
  const char *op; /**< "prefill", "decode" or "solve" */
  int64_t size;
  int threads; /**< no more than the calling thread has processors */
} bench_cpu_case;

/** \brief The cases with as many threads; those of a quick run are small. Returns how many. */
int bench_cpu_cases(int threads, bool quick, bench_cpu_case *out, int room);
/** \brief {"op", "tokens", ..., "threads"}. Returns owned. */
json_t *bench_cpu_describe(const bench_cpu_case *what);
double bench_cpu_operations(const bench_cpu_case *what);
double bench_cpu_bytes(const bench_cpu_case *what);

/** \brief Makes the inputs. Returns owned: give it back with bench_cpu_close(). */
pega_status bench_cpu_open(const bench_cpu_case *what, bool quick, bench_cpu_work **out,
                           pega_error *error);
/** \brief Takes NULL. */
void bench_cpu_close(bench_cpu_work *self);
/**
 * \brief Errors of a result from the rule in double, or of a solve's, of the largest element; 0
 *        of what it has not.
 */
typedef struct bench_cpu_errors {
  double output;
  double state;
} bench_cpu_errors;

/**
 * \brief Calls once and compares: of some heads, of a batch the first steps, of a solve every
 *        tile that differs.
 */
pega_status bench_cpu_check(bench_cpu_work *self, bench_cpu_errors *out, pega_error *error);
/** \brief What the library calls what it does. */
const char *bench_cpu_name(const bench_cpu_work *self);

/**
 * \brief Takes samples, in microseconds: after a pause, for others' threads spin a while after
 *        their work, and a call that does not count, the mean of calls that take 20 ms together.
 * \param self A bench_cpu_work.
 */
pega_status bench_cpu_sample(void *self, int count, double *out, pega_error *error);

#endif  // PEGA_CLI_BENCH_CPU_H_
