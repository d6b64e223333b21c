/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of bench_launch. Each prints its table and returns what it measured as JSON, or NULL, having
 * said why. */
#ifndef PEGA_BENCH_LAUNCH_H_
#define PEGA_BENCH_LAUNCH_H_

#include <jansson.h>

#include "cuda.h"
#include "kernel.h"

/* Ends the program with the result's name where a driver call fails. */
#define MUST(call) bench_must(call, #call)
void bench_must(CUresult result, const char *call);

/* CLOCK_MONOTONIC in nanoseconds. */
double bench_now(void);
void bench_sort(double *values, int count);
/* Of sorted values; 0.5 is the median. */
double bench_quantile(const double *sorted, int count, double fraction);

/* Host time of a launch, each way in turn. */
json_t *bench_launches(const bench_kernel *kernel);

/* Whole processes, from start to the first result. `program` is this program's path. */
json_t *bench_cold_start(const char *program, const char *pack, const bench_kernel *kernel);

/* GPU time of the solve, and the floor that memory sets. */
json_t *bench_solve(void);

#endif /* PEGA_BENCH_LAUNCH_H_ */
