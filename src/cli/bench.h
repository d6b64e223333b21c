/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file bench.h
 * \brief The benchmarks of `pega bench`, and the one way in which they measure.
 */
#ifndef PEGA_CLI_BENCH_H_
#define PEGA_CLI_BENCH_H_

#include "cli.h"

/** \brief Something to measure, and what was measured. */
typedef struct bench_row {
  const char *group; /**< rows of a group are compared with its first measured row */
  const char *name;
  /** Does it `calls` times. The loop lies in here, so that it costs the row nothing. */
  pega_status (*batch)(void *self, int32_t calls, pega_error *error);
  void *self;
  const char *left_out; /**< why it is not measured, or NULL */
  double median;        /**< ns per call, of the batches */
  double min;
  double max;
  int64_t allocations; /**< in all timed calls together; -1 where nothing counts */
} bench_row;

/**
 * \brief Measures rows that are not left out.
 *
 * The rows take turns, one batch each, so that a change of the machine's speed meets them all.
 */
pega_status bench_measure(bench_row *rows, int num_rows, int32_t batches, int32_t calls,
                          pega_error *error);
/** \brief Prints rows that bench_measure() has filled. */
void bench_print(const char *name, const bench_row *rows, int num_rows, int32_t batches,
                 int32_t calls, bool json);

/** \brief `pega bench call`. */
cli_exit bench_call(const cli_options *options, pega_error *error);

/** \brief Rows of `pega bench call` that need a TVM FFI runtime. */
typedef struct bench_foreign bench_foreign;

/** \brief Numbers of the rows that bench_foreign_row() fills. */
enum {
  BENCH_FOREIGN_CALL, /**< foreign code calls a foreign no-op */
  BENCH_FOREIGN_CALL_TENSORS,
  BENCH_IMPORTED_CALL, /**< libpega calls a foreign no-op */
  BENCH_IMPORTED_CALL_TENSORS,
  BENCH_EXPORTED_CALL, /**< foreign code calls a pega function */
  BENCH_EXPORTED_CALL_TENSORS
};

/**
 * \brief Opens the runtime and makes the functions that the rows call.
 * \param library The runtime, or NULL to search.
 * \param ints, tensors Checked no-ops of five arguments; borrowed until closed.
 * \param args Five tensors.
 * \return PEGA_ERROR_UNSUPPORTED in a build with no bridge.
 */
pega_status bench_foreign_open(const char *library, pega_function *ints, pega_function *tensors,
                               DLTensor *args, bench_foreign **out, pega_error *error);
/** \brief Gives back what was opened. Takes NULL. */
void bench_foreign_close(bench_foreign *self);
/** \brief Fills name, batch and self of a row. */
void bench_foreign_row(bench_foreign *self, int which, bench_row *row);

#endif  // PEGA_CLI_BENCH_H_
