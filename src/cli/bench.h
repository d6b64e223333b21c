/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file bench.h
 * \brief The parts of `pega bench`, the one way in which they measure, and the report that they fill.
 *
 * A part measures cases. Of each case every way to do it, ours and the peers', takes samples in rounds,
 * one after the other, so that a change of the machine's speed meets them all; median, p10 and p90 of
 * a way become a row of the report. docs/benchmark.md tells users the same.
 */
#ifndef PEGA_CLI_BENCH_H_
#define PEGA_CLI_BENCH_H_

#include "bench_same.h"
#include "cli.h"
#include "print.h"

/** \brief Values of a row's "how". */
#define BENCH_GRAPH "graph" /**< GPU time of a call, replays of a CUDA graph of one */
#define BENCH_ROW "row"     /**< the same of a graph of ten or more in a row, a call's share */
#define BENCH_EAGER "eager" /**< between events around one call */
#define BENCH_WALL "wall"   /**< host clock around a call and waiting for its end */
#define BENCH_HOST "host"   /**< host clock around calls that nothing waits for */

/** \brief Who made what is measured, where it is the library. */
#define BENCH_OURS "pega"

typedef struct bench_peers bench_peers;
typedef struct bench_device bench_device;

/** \brief A run of `pega bench`. */
typedef struct bench_run {
  const cli_options *options;
  bool quick;           /**< few samples and small sizes: what is measured means little */
  bool failed;          /**< something of ours failed or was wrong; peers do not count */
  bool text;            /**< print tables */
  bool fake;            /**< the driver is the fake one: no kernel runs */
  const char *pack;     /**< path of the pack with the GPU's kernels; NULL for the one in libpega */
  bench_device *device; /**< in parts that need a GPU */
  bench_peers *peers;   /**< asked in bench_compare() for the case that was prepared last */
  const bench_same
      *same; /**< what peers get alike in cases that begin from now on; NULL: nothing */
  const json_t
      *told;        /**< members of what peers are told of cases that begin from now on, or NULL */
  json_t *case_;    /**< the case in work, or NULL; owned */
  const char *part; /**< name of the part in work */
  const char *unit; /**< of its samples: "us", "ns", "ms" */
  json_t *report;   /**< the document */
} bench_run;

/** \brief A part of `pega bench`. */
typedef struct bench_part {
  const char *name;
  const char *unit;
  const char *title; /**< what its numbers are */
  bool gpu;          /**< needs a GPU and the pack with its kernels */
  bool by_name;      /**< its table has a line a way; else a line a case and a column a way */
  /** Adds its rows to the report. A failure ends the part, not the run. */
  pega_status (*measure)(bench_run *run, pega_error *error);
} bench_part;

pega_status bench_call(bench_run *run, pega_error *error);
pega_status bench_launch(bench_run *run, pega_error *error);
pega_status bench_cold(bench_run *run, pega_error *error);
pega_status bench_solve(bench_run *run, pega_error *error);
pega_status bench_stages(bench_run *run, pega_error *error);
pega_status bench_prefill(bench_run *run, pega_error *error);
pega_status bench_decode(bench_run *run, pega_error *error);
pega_status bench_cpu(bench_run *run, pega_error *error);

/* ------------------------------------------------------------------------------------ measuring -- */

/** \brief One way to do a case: what is measured. Start it as zeros. */
typedef struct bench_way {
  const char *name;
  const char *by; /**< BENCH_OURS, or who else */
  bool chosen;    /**< what the library takes by itself */
  bool rotated;   /**< its calls touch other memory each time, more than caches hold */
  double floor;   /**< in the part's unit; 0 where nobody knows one */
  json_t *extra;  /**< members that its rows have besides, or NULL; owned */
  /** Takes `count` samples, in the part's unit. A failure leaves the way out. */
  pega_status (*sample)(void *self, int count, double *out, pega_error *error);
  void *self;
  char *left_out; /**< why it is not measured, or NULL; owned */
  double median;  /**< of the last bench_compare(), 0 where it was left out */
} bench_way;

/** \brief Rounds, and samples that a way takes in its turn. */
typedef struct bench_rounds {
  int rounds;
  int samples;
} bench_rounds;

/** \brief 4 rounds of 5 samples; one of 2 where the run is quick. */
bench_rounds bench_usual_rounds(const bench_run *run);

/** \brief Who measures a case. */
typedef enum bench_who {
  BENCH_ALONE,         /**< the library */
  BENCH_PEERS,         /**< peers, too */
  BENCH_PEERS_ROTATING /**< and they are asked for calls that find nothing in caches */
} bench_who;

/**
 * \brief Begins a case: what follows is about it.
 * \param what Taken: a JSON object of numbers and texts.
 */
void bench_case_begin(bench_run *run, json_t *what, bench_who who);
/** \brief Ends it: the peers drop it, and the document is written so far. */
void bench_case_end(bench_run *run);
/** \brief Where `status` is a failure, tells it of the case in work, and empties `error`: others go on. */
void bench_case_try(bench_run *run, pega_status status, pega_error *error);

/**
 * \brief Measures ways of a case, and the peers', by turns and adds a row for each.
 *
 * Another way begins each round. A way of ours that is left out or fails counts as failed unless
 * `left_out` was set before. What is named `how` is what the peers are asked for.
 * \param base Number of the way whose samples others are divided by, a pair a round: "ratio"; -1: none.
 * \param limit Peers whose median by BENCH_GRAPH was above it are not asked; 0 asks all.
 */
void bench_compare(bench_run *run, const char *how, bench_rounds rounds, bench_way *ways,
                   int num_ways, int base, double limit);

/** \brief Leaves a way out for good. The text is copied; what was said first stays. */
void bench_leave_out(bench_way *way, const char *reason);
/** \brief Frees what ways own. */
void bench_ways_clear(bench_way *ways, int num_ways);

/** \brief CLOCK_MONOTONIC in nanoseconds. */
double bench_now(void);
void bench_sort(double *values, int count);
/** \brief Of sorted values; 0.5 is the median. */
double bench_quantile(const double *sorted, int count, double fraction);

/* --------------------------------------------------------------------------------------- report -- */

/** \brief Starts the document: the machine, the version, the words of the command. Returns owned. */
json_t *bench_report_begin(const bench_run *run);
/** \brief Adds the GPU, once run->device is there. */
void bench_report_device(bench_run *run, const char *name, double copy_rate);
/** \brief Adds the row of a way of the case in work, from its samples, which are sorted. */
void bench_add_row(bench_run *run, const bench_way *way, const char *how, const double *samples,
                   int num_samples, double ratio);
/** \brief Adds a row of what was left out. */
void bench_add_left_out(bench_run *run, const char *name, const char *by, const char *how,
                        const char *reason);
/** \brief Says that a part was not measured. */
void bench_add_left_out_part(bench_run *run, const char *part, const char *reason);
/** \brief Writes the document, as it is so far, to the file that --json names. */
pega_status bench_keep(const bench_run *run, pega_error *error);
/** \brief Prints the tables of a part. */
void bench_print_part(const bench_run *run, const bench_part *part);

/** \brief {"cpu", "threads", "isa"}. Returns owned. */
json_t *bench_machine(void);
/** \brief {"sm_mhz", "memory_mhz"} of device 0 now, or null where NVML is not there. Returns owned. */
json_t *bench_clocks(void);
/** \brief The driver's own version as text, "580.159.04", or NULL. Static. */
const char *bench_driver_version(void);

/* ------------------------------------------------------------------- no-ops through boundaries -- */

/** \brief Something to measure, and what was measured. */
typedef struct bench_row {
  const char *group; /**< rows of a group are neighbours; its first that is measured is the base */
  const char *name;
  const char *by; /**< NULL: BENCH_OURS */
  /** Does it `calls` times. The loop lies in here, so that it costs the row nothing. */
  pega_status (*batch)(void *self, int32_t calls, pega_error *error);
  void *self;
  const char *left_out; /**< why it is not measured, or NULL */
  int64_t allocations;  /**< in all timed calls together; -1 where nothing counts */
} bench_row;

/**
 * \brief Measures rows that are not left out, and adds them to the report: one case a group, a sample a
 *        batch of `calls` calls.
 */
void bench_measure(bench_run *run, bench_row *rows, int num_rows, int32_t rounds, int32_t calls);

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
/** \brief Fills name, by, batch and self of a row. */
void bench_foreign_row(bench_foreign *self, int which, bench_row *row);

#endif  // PEGA_CLI_BENCH_H_
