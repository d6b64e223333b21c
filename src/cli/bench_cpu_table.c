/* SPDX-License-Identifier: Apache-2.0 */
/* The part `cpu` of `pega bench`: its rows, with what the processors can do at most. */
#include <math.h>

#include "bench.h"
#include "bench_cpu.h"
#include "bench_device.h"
#include "cpu_roof.h"

enum { MAX_CASES = 16 };

/* To the rows of the case, which are the last of the report: what the median makes of them. */
static void add_rates(const bench_run *run, double operations, double bytes) {
  json_t *rows = json_object_get(run->report, "rows");
  for (size_t i = json_array_size(rows); i-- > 0;) {
    json_t *row = json_array_get(rows, i);
    const double median = json_number_value(json_object_get(row, "median"));
    if (json_object_get(row, "case") != run->case_) return;
    if (median <= 0) continue;
    cli_json_set(row, "flop_per_second", json_real(operations / median * 1e6));
    cli_json_set(row, "bytes_per_second", json_real(bytes / median * 1e6));
  }
}

/* The limits of the GPU's parts. */
static pega_status check(bench_run *run, const bench_cpu_case *what, bench_cpu_work *work,
                         bench_way *way, pega_error *error) {
  const bool solve = strcmp(what->op, "solve") == 0;
  const bool prefill = strcmp(what->op, "prefill") == 0;
  bench_cpu_errors errors;
  const pega_status status = bench_cpu_check(work, &errors, error);
  if (status != PEGA_OK) return status;
  bench_judge_here(run, way, "output", solve ? "max" : "output_rms", errors.output,
                   solve     ? 2e-3
                   : prefill ? 6e-3
                             : 4e-3);
  if (!solve) {
    bench_judge_here(run, way, "state", "state_rms", errors.state, prefill ? 4e-3 : 1e-3);
  }
  return PEGA_OK;
}

static pega_status measure(bench_run *run, const bench_cpu_case *what, double flop_rate,
                           pega_error *error) {
  const int32_t batches = run->options->batches;
  const bench_rounds rounds = batches > 0 ? (bench_rounds){batches, 1} : bench_usual_rounds(run);
  bench_cpu_work *work = NULL;
  const double operations = bench_cpu_operations(what);
  const double bytes = bench_cpu_bytes(what);
  const double byte_rate = cpu_roof_bytes(what->threads, (int64_t)bytes, run->quick);
  const pega_status status = bench_cpu_open(what, run->quick, &work, error);
  if (status != PEGA_OK) return status;
  bench_way way = {.name = bench_cpu_name(work),
                   .by = BENCH_OURS,
                   .chosen = true,
                   /* What a quick run has for the roof is below what is measured under it. */
                   .floor = run->quick ? 0 : fmax(operations / flop_rate, bytes / byte_rate) * 1e6,
                   .sample = bench_cpu_sample,
                   .self = work};
  pega_error failure = PEGA_ERROR_INIT;
  way.extra = json_pack("{s:f, s:f, s:f, s:f}", "operations", operations, "bytes", bytes,
                        "peak_flop_per_second", flop_rate, "peak_bytes_per_second", byte_rate);
  if (check(run, what, work, &way, &failure) != PEGA_OK) {
    bench_leave_out(&way, pega_error_message(&failure));
    run->failed = true;
  }
  pega_error_clear(&failure);
  bench_compare(run, BENCH_WALL, rounds, &way, 1, -1, 0);
  add_rates(run, operations, bytes);
  bench_ways_clear(&way, 1);
  bench_cpu_close(work);
  return PEGA_OK;
}

pega_status bench_cpu(bench_run *run, pega_error *error) {
  const int most = cpu_roof_threads();
  for (int threads = most; threads >= 1; threads = threads > 1 ? 1 : 0) {
    bench_cpu_case cases[MAX_CASES];
    const int count = bench_cpu_cases(threads, run->quick, cases, MAX_CASES);
    const double rate = cpu_roof_flop(threads, run->quick);
    for (int i = 0; i < count; ++i) {
      bench_case_begin(run, bench_cpu_describe(&cases[i]), BENCH_PEERS);
      bench_case_try(run, measure(run, &cases[i], rate, error), error);
      bench_case_end(run);
    }
  }
  return PEGA_OK;
}
