/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GPU time of the solve: a graph of solves, each on other buffers, replayed between two events. Beside it
 * the time in which a device-to-device copy, a node of a graph too, moves as many bytes: the 32-byte sectors
 * that hold the strict lower triangle, read once, and the output, written once. A kernel can be faster than the
 * driver's copy.
 */
#include <math.h>
#include <pega/cuda.h>
#include <pega/qwen35.h>
#include <stdio.h>
#include <stdlib.h>

#include "launch.h"

enum { HEADS = 32, REPLAYS = 21, WARM_UPS = 3, MAX_SETS = 64, NODES = 64 };

/* Far more than any cache. */
static const size_t kRotated = (size_t)768 << 20;

static double replay(CUgraphExec exec, CUstream stream, int nodes, double *low, double *high) {
  CUevent from;
  CUevent to;
  double times[REPLAYS];
  MUST(gpu.event_create(&from, GPU_EVENT_DEFAULT));
  MUST(gpu.event_create(&to, GPU_EVENT_DEFAULT));
  for (int i = -WARM_UPS; i < REPLAYS; ++i) {
    float milliseconds = 0;
    MUST(gpu.event_record(from, stream));
    MUST(gpu.graph_launch(exec, stream));
    MUST(gpu.event_record(to, stream));
    MUST(gpu.event_synchronize(to));
    MUST(gpu.event_elapsed(&milliseconds, from, to));
    if (i >= 0) times[i] = (double)milliseconds * 1e3 / nodes;
  }
  bench_sort(times, REPLAYS);
  *low = bench_quantile(times, REPLAYS, 0.1);
  *high = bench_quantile(times, REPLAYS, 0.9);
  return bench_quantile(times, REPLAYS, 0.5);
}

static CUgraphExec finish(CUstream stream, CUgraph *graph) {
  CUgraphExec exec;
  MUST(gpu.capture_end(stream, graph));
  MUST(gpu.graph_instantiate(&exec, *graph, 0));
  return exec;
}

/* Bytes a second that a copy reads and writes together. */
static double measure_copy(CUstream stream, CUdeviceptr memory, size_t bytes) {
  enum { COPIES = 4 };
  CUgraph graph;
  double low;
  double high;
  MUST(gpu.capture_begin(stream, GPU_CAPTURE_GLOBAL));
  for (int i = 0; i < COPIES; ++i) {
    MUST(gpu.copy_async(memory + bytes / 2, memory, bytes / 2, stream));
  }
  CUgraphExec exec = finish(stream, &graph);
  const double us = replay(exec, stream, COPIES, &low, &high);
  MUST(gpu.exec_destroy(exec));
  MUST(gpu.graph_destroy(graph));
  return (double)bytes / (us / 1e6);
}

static void fill(float *a, size_t count) {
  uint64_t state = 1;
  for (size_t i = 0; i < count; ++i) {
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    a[i] = ((float)(state >> 40) * 0x1p-24f - 0.5f) * 0.2f;
  }
}

static json_t *measure(pega_function *solve, CUstream stream, CUdeviceptr memory, int64_t tokens,
                       double bytes_a_second) {
  const size_t in_bytes = (size_t)(tokens * HEADS * PEGA_QWEN35_CHUNK) * 4;
  const size_t set_bytes = in_bytes / 2 * 3;
  int sets = (int)(kRotated / set_bytes);
  if (sets > MAX_SETS) sets = MAX_SETS;
  if (sets < 2) sets = 2;
  const int nodes = sets > NODES / 2 ? sets : NODES / sets * sets;
  float *host = malloc(in_bytes);
  if (host == NULL) return NULL;
  fill(host, in_bytes / 4);
  for (int i = 0; i < sets; ++i) {
    MUST(gpu.copy_in(memory + (size_t)i * set_bytes, host, in_bytes));
  }
  free(host);
  MUST(gpu.synchronize());
  pega_error error = PEGA_ERROR_INIT;
  CUgraph graph;
  MUST(gpu.capture_begin(stream, GPU_CAPTURE_GLOBAL));
  for (int i = 0; i < nodes && error.status == 0; ++i) {
    const CUdeviceptr in = memory + (size_t)(i % sets) * set_bytes;
    const pega_value args[] = {pega_value_pointer((void *)(uintptr_t)in),
                               pega_value_pointer((void *)(uintptr_t)(in + in_bytes)),
                               pega_value_int(tokens), pega_value_int(HEADS),
                               pega_value_pointer(stream)};
    pega_function_call(solve, args, 5, NULL, &error);
  }
  CUgraphExec exec = finish(stream, &graph);
  if (error.status != 0) {
    printf("%s\n", pega_error_message(&error));
    return NULL;
  }
  double low;
  double high;
  const double us = replay(exec, stream, nodes, &low, &high);
  MUST(gpu.exec_destroy(exec));
  MUST(gpu.graph_destroy(graph));
  int sectors = 0;
  for (int row = 0; row < PEGA_QWEN35_CHUNK; ++row) sectors += (row + 7) / 8;
  const double tiles = (double)(tokens / PEGA_QWEN35_CHUNK * HEADS);
  const double copy_us =
      tiles * (sectors * 32 + PEGA_QWEN35_CHUNK * PEGA_QWEN35_CHUNK * 2) / bytes_a_second * 1e6;
  printf("  T = %-8lld %6d %9.2f %9.2f to %-9.2f %9.2f %9.3f\n", (long long)tokens, sets, us, low,
         high, copy_us, us / copy_us);
  return json_pack("{s:I, s:i, s:i, s:f, s:f, s:f, s:f, s:f}", "tokens", (json_int_t)tokens,
                   "heads", HEADS, "buffers", sets, "median_us", us, "p10_us", low, "p90_us", high,
                   "copy_us", copy_us, "ratio", us / copy_us);
}

json_t *bench_solve(void) {
  static const int64_t all_tokens[] = {512, 2048, 8192, 32768};
  const DLDevice device = {kDLCUDA, 0};
  pega_error error = PEGA_ERROR_INIT;
  pega_function *solve;
  if (pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE_RAW, &solve, &error) != PEGA_OK ||
      pega_function_prepare(solve, device, &error) != PEGA_OK) {
    printf("%s\n", pega_error_message(&error));
    return NULL;
  }
  const size_t room = (size_t)1 << 30;
  CUdeviceptr memory;
  CUstream stream;
  MUST(gpu.alloc(&memory, room));
  MUST(gpu.set_bytes(memory, 0x3c, room));
  MUST(gpu.stream_create(&stream, GPU_STREAM_NON_BLOCKING));
  const double bytes_a_second = measure_copy(stream, memory, room);
  printf(
      "\nGPU time of the solve at HV = %d, us (median and p10 to p90 of %d replays of a graph)\n",
      HEADS, REPLAYS);
  printf(
      "  copy: as many bytes at the %.0f GB/s, read and written together, of a device-to-device copy\n",
      bytes_a_second / 1e9);
  printf("  %-12s %6s %9s %22s %9s %9s\n", "", "sets", "median", "", "copy", "ratio");
  json_t *rows = json_array();
  for (size_t i = 0; i < sizeof all_tokens / sizeof *all_tokens && rows != NULL; ++i) {
    json_t *row = measure(solve, stream, memory, all_tokens[i], bytes_a_second);
    if (row == NULL) {
      json_decref(rows);
      rows = NULL;
    } else {
      json_array_append_new(rows, row);
    }
  }
  MUST(gpu.stream_destroy(stream));
  MUST(gpu.release(memory));
  pega_function_release(solve);
  if (rows == NULL) return NULL;
  return json_pack("{s:f, s:o}", "copy_bytes_per_second", bytes_a_second, "sizes", rows);
}
