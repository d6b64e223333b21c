/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file tune.h
 * \brief What `pega tune` measures: every implementation of a prefill that fits, case by case.
 */
#ifndef PEGA_CLI_TUNE_H_
#define PEGA_CLI_TUNE_H_

#include <jansson.h>

#include "cli.h"

/** \brief Sizes of a call; every sequence has `tokens` tokens. */
typedef struct tune_case {
  int64_t key_heads, value_heads, sequences, tokens;
} tune_case;

enum { TUNE_MOST = 16, TUNE_ROUNDS = 64, TUNE_NAME = 48 };

/** \brief One implementation in a case. */
typedef struct tune_time {
  char name[TUNE_NAME];
  bool fits;                /**< it can do the call */
  bool taken;               /**< the library would take it by itself */
  int64_t workspace;        /**< bytes */
  double predicted;         /**< us by the table that is in use, 0 for none */
  int rounds;               /**< how often it was measured; 0: it failed, or takes far longer */
  double us[TUNE_ROUNDS];   /**< us of a call, round by round: those of one round belong together */
  double median, low, high; /**< of them; low and high are p10 and p90 */
} tune_time;

typedef struct tune_result {
  tune_case sizes;
  int count;
  tune_time of[TUNE_MOST];
} tune_result;

/** \brief Where it is measured. Start it with tune_open(). */
typedef struct tune_place {
  DLDevice device;
  bool eager;  /**< calls one by one, and no graph of them */
  bool states; /**< calls that begin with states, not with zeros */
  bool fake;   /**< the fake driver: times mean nothing */
  char name[128];
  char target[16];
  int32_t multiprocessors;
  pega_function *prefill, *explain; /* owned */
  void *stream, *from, *to;         /* of a CUDA device */
} tune_place;

/** \brief Finds the functions, and on a CUDA device the driver; the primary context becomes current. */
pega_status tune_open(DLDevice device, const cli_tune_options *given, tune_place *out,
                      pega_error *error);
void tune_close(tune_place *place);
/** \brief A line that says what is measured where. */
void tune_print_place(const tune_place *place);

/** \brief Fills a result with what the library says of the case: who fits, who is taken. */
pega_status tune_ask(const tune_place *place, const tune_case *sizes, tune_result *out,
                     pega_error *error);
/**
 * \brief Measures all that fit, by turns, `rounds` times. An implementation that takes over three times as
 *        long as the fastest is measured once, in the same way.
 * \return PEGA_ERROR_OUT_OF_MEMORY where the device has no room for the case.
 */
pega_status tune_measure(const tune_place *place, int rounds, tune_result *result,
                         pega_error *error);

/** \brief The fastest that was measured, or NULL. */
const tune_time *tune_best(const tune_result *result);
/** \brief The one that the library takes, or NULL. */
const tune_time *tune_taken(const tune_result *result);
/** \brief The one of this name, or NULL. */
const tune_time *tune_find(const tune_result *result, const char *name);

/** \brief How much longer `slow` takes than `fast`: p10, median and p90 over the rounds of the ratio, less
 *         1. */
void tune_compare(const tune_time *slow, const tune_time *fast, double out[3]);

/** \brief Median and the like of values, which are sorted. */
double tune_quantile(double *values, int count, double quantile);

/** \brief The tables' JSON from results, in order; with --own without what is provided. */
json_t *tune_table(const tune_place *place, const tune_result *const *results, size_t count,
                   bool own);
/** \brief Writes it, each row on a line of its own; without a table only tries whether it could. */
pega_status tune_write(const json_t *table, const char *path, pega_error *error);

/** \brief `pega tune --check FILE`. */
cli_exit tune_check(const cli_options *options, const tune_place *place, pega_error *error);

#endif  // PEGA_CLI_TUNE_H_
