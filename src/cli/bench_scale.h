/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file bench_scale.h
 * \brief `pega bench scale`: packs of ever more functions, launches from ever more threads.
 */
#ifndef PEGA_CLI_BENCH_SCALE_H_
#define PEGA_CLI_BENCH_SCALE_H_

#include "bench.h"

/** \brief What was measured of one thing. Borrowed for the call. */
typedef struct bench_scale_row {
  const char *name;
  const char *by;    /**< "driver" where it is measured alone, else NULL */
  const char *count; /**< what `number` counts: "functions" or "threads" */
  int number;
  const char *unit;      /**< "us" or "ns" a time, "launches/s" */
  const double *samples; /**< sorted; NULL where it was left out */
  int num_samples;
  const char *left_out; /**< why */
} bench_scale_row;

typedef void (*bench_scale_add)(void *user, const bench_scale_row *row);

/** \brief Where rows go to. */
typedef struct bench_scale_rows {
  bench_scale_add add;
  void *user;
  int num_samples; /**< of each row; at least 1 */
} bench_scale_rows;

/**
 * \brief Measures packs of 10 to `most` functions, at most 10,000: opening, registering, looking up.
 *
 * The packs are made for it, in files under TMPDIR that have no names: nothing is left, however it ends.
 */
pega_status bench_scale_packs(const bench_scale_rows *rows, int most, pega_error *error);
/**
 * \brief Measures launches of the chunk solve by 1 to 16 threads at once, each on a stream and memory of
 *        its own: by the driver alone, of one function, and each of one from a pack opened for it
 *        alone. Left out where there is no driver or no kernel.
 */
pega_status bench_scale_threads(const bench_scale_rows *rows, pega_error *error);

/** \brief CLOCK_MONOTONIC in nanoseconds. */
double bench_scale_now(void);
/** \brief Sorts the samples of a row and adds it. */
void bench_scale_done(const bench_scale_rows *rows, const char *name, const char *by,
                      const char *count, int number, const char *unit, double *samples);

/** \brief `pega bench scale`. */
pega_status bench_scale(bench_run *run, pega_error *error);

#endif  // PEGA_CLI_BENCH_SCALE_H_
