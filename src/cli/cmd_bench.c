/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "allocations.h"
#include "bench.h"
#include "print.h"

/* Batches before the first that counts. */
enum { WARM_UP = 3 };

static const struct {
  const char *name;
  cli_exit (*run)(const cli_options *options, pega_error *error);
} BENCHMARKS[] = {
    {"call", bench_call},
};
enum { NUM_BENCHMARKS = sizeof BENCHMARKS / sizeof BENCHMARKS[0] };

cli_exit cli_bench(const cli_options *options, pega_error *error) {
  for (int i = 0; i < NUM_BENCHMARKS; ++i) {
    if (strcmp(BENCHMARKS[i].name, options->args[0]) == 0) return BENCHMARKS[i].run(options, error);
  }
  return cli_misuse(error, "bench: no benchmark \"%.100s\"; `pega bench --help` lists them",
                    options->args[0]);
}

static double now(void) {
  struct timespec time;
  (void)clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static int compare_doubles(const void *left, const void *right) {
  const double a = *(const double *)left;
  const double b = *(const double *)right;
  return (a > b) - (a < b);
}

/* One timed batch; how often it allocated is added to the row. */
static pega_status measure_batch(bench_row *row, int32_t calls, double *ns, pega_error *error) {
  uint64_t before = 0;
  uint64_t after = 0;
  const bool counted = cli_allocations(&before);
  const double start = now();
  const pega_status status = row->batch(row->self, calls, error);
  *ns = (now() - start) / calls;
  if (counted && cli_allocations(&after)) {
    row->allocations += (int64_t)(after - before) - 1; /* reading the count allocates once */
  } else {
    row->allocations = -1;
  }
  return status;
}

pega_status bench_measure(bench_row *rows, int num_rows, int32_t batches, int32_t calls,
                          pega_error *error) {
  double *times = calloc((size_t)num_rows * (size_t)batches, sizeof *times);
  pega_status status = PEGA_OK;
  if (times == NULL) return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "out of memory");
  for (int32_t batch = -WARM_UP; batch < batches; ++batch) {
    for (int i = 0; i < num_rows && status == PEGA_OK; ++i) {
      double ns = 0;
      if (rows[i].left_out != NULL) continue;
      if (batch <= 0) rows[i].allocations = 0;
      status = measure_batch(&rows[i], calls, &ns, error);
      if (batch >= 0) times[(size_t)i * (size_t)batches + (size_t)batch] = ns;
    }
  }
  for (int i = 0; i < num_rows; ++i) {
    double *own = times + (size_t)i * (size_t)batches;
    qsort(own, (size_t)batches, sizeof *own, compare_doubles);
    rows[i].median = own[batches / 2];
    rows[i].min = own[0];
    rows[i].max = own[batches - 1];
  }
  free(times);
  return status;
}

/* The row that `row` is compared with. */
static const bench_row *base_of(const bench_row *rows, const bench_row *row) {
  while (strcmp(rows->group, row->group) != 0 || rows->left_out != NULL) ++rows;
  return rows;
}

static void print_json(const char *name, const bench_row *rows, int num_rows, int32_t batches,
                       int32_t calls) {
  json_t *object = json_object();
  json_t *measured = json_array();
  json_t *left_out = json_array();
  for (int i = 0; i < num_rows; ++i) {
    json_t *item = json_object();
    cli_json_set(item, "group", json_string(rows[i].group));
    cli_json_set(item, "name", json_string(rows[i].name));
    if (rows[i].left_out != NULL) {
      cli_json_set(item, "reason", cli_json_string(rows[i].left_out));
      cli_json_append(left_out, item);
      continue;
    }
    const bench_row *base = base_of(rows, &rows[i]);
    cli_json_set(item, "median_ns", json_real(rows[i].median));
    cli_json_set(item, "min_ns", json_real(rows[i].min));
    cli_json_set(item, "max_ns", json_real(rows[i].max));
    cli_json_set(item, "base", json_string(base->name));
    cli_json_set(item, "added_ns", json_real(rows[i].median - base->median));
    cli_json_set(item, "ratio", json_real(rows[i].median / base->median));
    cli_json_set(item, "allocations",
                 rows[i].allocations < 0 ? json_null() : json_integer(rows[i].allocations));
    cli_json_append(measured, item);
  }
  cli_json_set(object, "bench", json_string(name));
  cli_json_set(object, "batches", json_integer(batches));
  cli_json_set(object, "calls_per_batch", json_integer(calls));
  cli_json_set(object, "rows", measured);
  cli_json_set(object, "left_out", left_out);
  cli_print_json(object);
}

static void print_text(const char *name, const bench_row *rows, int num_rows, int32_t batches,
                       int32_t calls) {
  const char *group = "";
  (void)printf("pega bench %s: ns per call, %" PRId32 " batches of %" PRId32
               " calls, rows taking turns\n",
               name, batches, calls);
  (void)printf("%-54s %8s %8s %8s %8s %6s  %s\n", "", "median", "min", "max", "added", "ratio",
               "allocations");
  for (int i = 0; i < num_rows; ++i) {
    if (rows[i].left_out != NULL) continue;
    const bench_row *base = base_of(rows, &rows[i]);
    if (strcmp(group, rows[i].group) != 0) (void)printf("%s\n", rows[i].group);
    group = rows[i].group;
    (void)printf("  %-52s %8.2f %8.2f %8.2f %+8.2f %6.2f  ", rows[i].name, rows[i].median,
                 rows[i].min, rows[i].max, rows[i].median - base->median,
                 rows[i].median / base->median);
    if (rows[i].allocations < 0) {
      (void)puts("not counted");
    } else {
      (void)printf("%" PRId64 "\n", rows[i].allocations);
    }
  }
  for (int i = 0; i < num_rows; ++i) {
    if (rows[i].left_out == NULL) continue;
    (void)printf("left out: %s, %s: ", rows[i].group, rows[i].name);
    cli_print_string(stdout, rows[i].left_out);
    (void)putchar('\n');
  }
}

void bench_print(const char *name, const bench_row *rows, int num_rows, int32_t batches,
                 int32_t calls, bool json) {
  (json ? print_json : print_text)(name, rows, num_rows, batches, calls);
}
