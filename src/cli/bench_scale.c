/* SPDX-License-Identifier: Apache-2.0 */
/* The part `scale` of `pega bench`. */
#include "bench_scale.h"

#include <stdlib.h>
#include <time.h>

#include "bench.h"

enum { DEFAULT_SAMPLES = 20, MOST_FUNCTIONS = 10000, QUICK = 5, QUICK_FUNCTIONS = 100 };

double bench_scale_now(void) {
  struct timespec time;
  (void)clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static int compare_doubles(const void *left, const void *right) {
  const double a = *(const double *)left;
  const double b = *(const double *)right;
  return (a > b) - (a < b);
}

void bench_scale_done(const bench_scale_rows *rows, const char *name, const char *by,
                      const char *count, int number, const char *unit, double *samples) {
  const bench_scale_row row = {name, by, count, number, unit, samples, rows->num_samples, NULL};
  qsort(samples, (size_t)rows->num_samples, sizeof *samples, compare_doubles);
  rows->add(rows->user, &row);
}

static void add(void *user, const bench_scale_row *row) {
  bench_run *run = user;
  const char *by = row->by == NULL ? BENCH_OURS : row->by;
  const bench_way way = {.name = row->name, .by = by};
  run->unit = row->unit;
  bench_case_begin(run, json_pack("{s:i}", row->count, row->number), BENCH_ALONE);
  if (row->left_out != NULL) {
    bench_add_left_out(run, row->name, by, BENCH_HOST, row->left_out);
  } else {
    bench_add_row(run, &way, BENCH_HOST, row->samples, row->num_samples, 0);
  }
  bench_case_end(run);
}

pega_status bench_scale(bench_run *run, pega_error *error) {
  const int batches = run->options->batches;
  const int samples = batches != 0 ? batches : run->quick ? 2 : DEFAULT_SAMPLES;
  const bench_scale_rows rows = {add, run, samples};
  pega_status status =
      bench_scale_packs(&rows, samples < QUICK ? QUICK_FUNCTIONS : MOST_FUNCTIONS, error);
  if (status == PEGA_OK) status = bench_scale_threads(&rows, error);
  return status;
}
