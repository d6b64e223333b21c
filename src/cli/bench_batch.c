/* SPDX-License-Identifier: Apache-2.0 */
/* Rows whose samples are batches of calls on the host, with what they allocate. */
#include <stdlib.h>

#include "allocations.h"
#include "bench.h"

typedef struct batches {
  bench_row *row;
  int32_t calls;
} batches;

/* Timed batches; how often they allocated is added to the row. */
static pega_status sample(void *self, int count, double *out, pega_error *error) {
  const batches *it = self;
  bench_row *row = it->row;
  pega_status status = PEGA_OK;
  for (int i = 0; i < count && status == PEGA_OK; ++i) {
    uint64_t before = 0;
    uint64_t after = 0;
    const bool counted = cli_allocations(&before);
    const double start = bench_now();
    status = row->batch(row->self, it->calls, error);
    out[i] = (bench_now() - start) / it->calls;
    if (row->allocations >= 0 && counted && cli_allocations(&after)) {
      row->allocations += (int64_t)(after - before) - 1; /* reading the count allocates once */
    } else {
      row->allocations = -1;
    }
  }
  return status;
}

/* Rows of one group, which are neighbours. */
static void measure_group(bench_run *run, bench_row *rows, int num_rows, int32_t rounds,
                          int32_t calls) {
  bench_way *ways = calloc((size_t)num_rows, sizeof *ways);
  batches *selves = calloc((size_t)num_rows, sizeof *selves);
  int base = -1;
  if (ways == NULL || selves == NULL) cli_out_of_memory();
  for (int i = 0; i < num_rows; ++i) {
    selves[i] = (batches){&rows[i], calls};
    ways[i].name = rows[i].name;
    ways[i].by = rows[i].by == NULL ? BENCH_OURS : rows[i].by;
    ways[i].sample = sample;
    ways[i].self = &selves[i];
    if (rows[i].left_out != NULL) bench_leave_out(&ways[i], rows[i].left_out);
    if (rows[i].left_out == NULL && base < 0) base = i;
    /* What the first batches allocate counts no more than their times. */
    pega_error ignored = PEGA_ERROR_INIT;
    double first = 0;
    if (rows[i].left_out == NULL) (void)sample(&selves[i], 1, &first, &ignored);
    pega_error_clear(&ignored);
    rows[i].allocations = 0;
  }
  bench_case_begin(run, json_pack("{s:s}", "arguments", rows->group), BENCH_ALONE);
  bench_compare(run, BENCH_HOST, (bench_rounds){rounds, 1}, ways, num_rows, base, 0);
  bench_case_end(run);
  bench_ways_clear(ways, num_rows);
  free(ways);
  free(selves);
}

/* The rows were added in order, and are the last of the report. */
static void add_allocations(bench_run *run, const bench_row *rows, int num_rows) {
  json_t *all = json_object_get(run->report, "rows");
  const size_t first = json_array_size(all) - (size_t)num_rows;
  for (int i = 0; i < num_rows; ++i) {
    json_t *row = json_array_get(all, first + (size_t)i);
    if (json_object_get(row, "median") == NULL) continue;
    cli_json_set(row, "allocations",
                 rows[i].allocations < 0 ? json_null() : json_integer(rows[i].allocations));
  }
}

void bench_measure(bench_run *run, bench_row *rows, int num_rows, int32_t rounds, int32_t calls) {
  for (int first = 0; first < num_rows;) {
    int end = first + 1;
    while (end < num_rows && strcmp(rows[end].group, rows[first].group) == 0) ++end;
    measure_group(run, rows + first, end - first, rounds, calls);
    add_allocations(run, rows + first, end - first);
    first = end;
  }
}
