/* SPDX-License-Identifier: Apache-2.0 */
/* Samples by turns, and what becomes of them. */
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "bench.h"
#include "bench_peer.h"

enum { WARM_UPS = 3 };

double bench_now(void) {
  struct timespec time;
  (void)clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static int compare_doubles(const void *left, const void *right) {
  const double a = *(const double *)left;
  const double b = *(const double *)right;
  return (a > b) - (a < b);
}

void bench_sort(double *values, int count) {
  qsort(values, (size_t)count, sizeof *values, compare_doubles);
}

double bench_quantile(const double *sorted, int count, double fraction) {
  const double at = fraction * (count - 1);
  const int below = (int)at;
  const int above = below + 1 < count ? below + 1 : below;
  return sorted[below] + (at - below) * (sorted[above] - sorted[below]);
}

bench_rounds bench_usual_rounds(const bench_run *run) {
  return run->quick ? (bench_rounds){1, 2} : (bench_rounds){4, 5};
}

void bench_leave_out(bench_way *way, const char *reason) {
  if (way->left_out != NULL) return;
  way->left_out = strdup(reason);
  if (way->left_out == NULL) cli_out_of_memory();
}

void bench_ways_clear(bench_way *ways, int num_ways) {
  for (int i = 0; i < num_ways; ++i) {
    free(ways[i].left_out);
    json_decref(ways[i].extra);
    ways[i].left_out = NULL;
    ways[i].extra = NULL;
  }
}

void bench_case_begin(bench_run *run, json_t *what, bench_who who) {
  if (what == NULL) cli_out_of_memory();
  run->case_ = what;
  if (who != BENCH_ALONE) {
    bench_peers_prepare(run->peers, run->part, what, who == BENCH_PEERS_ROTATING, run->same,
                        run->told);
  }
}

void bench_case_end(bench_run *run) {
  bench_peers_drop(run->peers);
  json_decref(run->case_);
  run->case_ = NULL;
  (void)bench_keep(run, NULL);
}

void bench_case_try(bench_run *run, pega_status status, pega_error *error) {
  if (status == PEGA_OK) return;
  bench_add_left_out(run, BENCH_OURS, BENCH_OURS, BENCH_GRAPH, pega_error_message(error));
  run->failed = true;
  pega_error_clear(error);
}

/* A turn of a way. */
static void take(bench_run *run, bench_way *way, int count, double *out) {
  pega_error error = PEGA_ERROR_INIT;
  if (way->left_out != NULL) return;
  if (way->sample(way->self, count, out, &error) != PEGA_OK) {
    bench_leave_out(way, pega_error_message(&error));
    if (strcmp(way->by, BENCH_OURS) == 0) run->failed = true;
  }
  pega_error_clear(&error);
}

/* The median over samples of this way's over the base's that was taken in the same place. */
static double paired_ratio(const double *samples, const double *base, int count, double *scratch) {
  for (int i = 0; i < count; ++i) scratch[i] = samples[i] / base[i];
  bench_sort(scratch, count);
  return bench_quantile(scratch, count, 0.5);
}

static void report(bench_run *run, const char *how, bench_way *const *all, int num_all, int base,
                   double *samples, int count) {
  double *scratch = calloc((size_t)count, sizeof *scratch);
  double *ratios = calloc((size_t)num_all, sizeof *ratios);
  if (scratch == NULL || ratios == NULL) cli_out_of_memory();
  const bool paired = base >= 0 && all[base]->left_out == NULL;
  for (int i = 0; i < num_all; ++i) {
    const double *own = samples + (size_t)i * (size_t)count;
    if (paired && all[i]->left_out == NULL) {
      ratios[i] = paired_ratio(own, samples + (size_t)base * (size_t)count, count, scratch);
    }
  }
  for (int i = 0; i < num_all; ++i) {
    double *own = samples + (size_t)i * (size_t)count;
    all[i]->median = 0;
    if (all[i]->left_out != NULL) {
      bench_add_left_out(run, all[i]->name, all[i]->by, how, all[i]->left_out);
      continue;
    }
    bench_sort(own, count);
    all[i]->median = bench_quantile(own, count, 0.5);
    bench_add_row(run, all[i], how, own, count, ratios[i]);
  }
  free(scratch);
  free(ratios);
}

void bench_compare(bench_run *run, const char *how, bench_rounds rounds, bench_way *ways,
                   int num_ways, int base, double limit) {
  bench_way *theirs = NULL;
  const int num_theirs = bench_peers_ways(run->peers, run->unit, how, limit, &theirs);
  const int num_all = num_ways + num_theirs;
  const int count = rounds.rounds * rounds.samples;
  const int room = count > WARM_UPS ? count : WARM_UPS;
  double *samples = calloc((size_t)(num_all + 1) * (size_t)room, sizeof *samples);
  bench_way **all = calloc((size_t)num_all + 1, sizeof(bench_way *));
  if (samples == NULL || all == NULL) cli_out_of_memory();
  for (int i = 0; i < num_all; ++i) all[i] = i < num_ways ? &ways[i] : &theirs[i - num_ways];
  for (int i = 0; i < num_theirs && num_ways > 0; ++i) theirs[i].floor = ways[0].floor;
  for (int i = 0; i < num_all; ++i) take(run, all[i], WARM_UPS, samples);
  for (int round = 0; round < rounds.rounds; ++round) {
    for (int turn = 0; turn < num_all; ++turn) {
      const int which = (round + turn) % num_all;
      take(run, all[which], rounds.samples,
           samples + (size_t)which * (size_t)count + (size_t)(round * rounds.samples));
    }
  }
  report(run, how, all, num_all, base, samples, count);
  bench_peers_ways_end(run->peers, theirs, num_theirs);
  free(all);
  free(samples);
}
