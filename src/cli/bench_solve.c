/* SPDX-License-Identifier: Apache-2.0 */
/* The chunk solve, over buffers that rotate: it finds nothing of its input in a cache. */
#include <stdlib.h>

#include "bench_device.h"
#include "bench_truth.h"

enum { HEADS = 32, CHUNK = PEGA_QWEN35_CHUNK, MAX_SETS = 64 };

/* Of the largest element. Rounding to bf16 makes 5e-4 to 1e-3 of it. */
static const double kLimit = 2e-3;

typedef struct solve {
  int64_t tokens;
  int sets;
  CUdeviceptr memory;
  int64_t in_bytes; /* of a set, before its output */
  int64_t set_bytes;
  pega_function *raw;
  CUstream stream;
} solve;

static pega_status put(void *self, int64_t number, pega_error *error) {
  const solve *on = self;
  const CUdeviceptr in = on->memory + (CUdeviceptr)(number % on->sets * on->set_bytes);
  const pega_value args[] = {
      pega_value_pointer((void *)(uintptr_t)in),
      pega_value_pointer((void *)(uintptr_t)(in + (CUdeviceptr)on->in_bytes)),
      pega_value_int(on->tokens), pega_value_int(HEADS), pega_value_pointer(on->stream)};
  return pega_function_call(on->raw, args, 5, NULL, error);
}

/* The largest errors of a chunk of the last set, over all heads. */
static pega_status chunk_error(const solve *on, int64_t chunk, bench_solve_errors *out,
                               pega_error *error) {
  const int64_t count = CHUNK * HEADS * CHUNK;
  const CUdeviceptr set = on->memory + (CUdeviceptr)((on->sets - 1) * on->set_bytes);
  float *a = malloc((size_t)count * 4);
  uint16_t *got = malloc((size_t)count * 2);
  if (a == NULL || got == NULL) cli_out_of_memory();
  CUresult result = gpu.copy_out(a, set + (CUdeviceptr)(chunk * count) * 4, (size_t)count * 4);
  if (result == 0) {
    result =
        gpu.copy_out(got, set + (CUdeviceptr)(on->in_bytes + chunk * count * 2), (size_t)count * 2);
  }
  for (int head = 0; head < HEADS && result == 0; ++head) {
    bench_solve_error(a + head * CHUNK, got + head * CHUNK, HEADS * CHUNK, out);
  }
  free(a);
  free(got);
  return result == 0 ? PEGA_OK : bench_driver_error(error, result, "copy_out");
}

static pega_status check(bench_run *run, solve *on, bench_way *way, pega_error *error) {
  bench_solve_errors worst = {0, 0, 0};
  const int64_t chunks = on->tokens / CHUNK;
  BENCH_OK(put(on, on->sets - 1, error));
  BENCH_CUDA(stream_synchronize(on->stream));
  /* All that differ from each other, and the last. */
  for (int64_t i = 0; i < chunks && i < BENCH_TRIANGLE_CHUNKS; ++i) {
    BENCH_OK(chunk_error(on, i, &worst, error));
  }
  BENCH_OK(chunk_error(on, chunks - 1, &worst, error));
  bench_judge(run, way, "output", "max", worst.max, kLimit);
  bench_judge(run, way, "output", "rounding", worst.rounding, kLimit);
  bench_judge(run, way, "output", "past_rounding", worst.past_rounding, kLimit);
  return PEGA_OK;
}

static pega_status measure(bench_run *run, solve *on, pega_error *error) {
  on->in_bytes = on->tokens * HEADS * CHUNK * 4;
  on->set_bytes = on->in_bytes / 2 * 3;
  const int64_t sets = run->quick ? 2 : (BENCH_ROTATED + on->set_bytes - 1) / on->set_bytes;
  on->sets = sets < 2 ? 2 : sets > MAX_SETS ? MAX_SETS : (int)sets;
  on->stream = bench_device_stream(run->device);
  BENCH_OK(bench_device_alloc(run->device, on->sets * on->set_bytes, &on->memory, error));
  for (int i = 0; i < on->sets; ++i) {
    const CUdeviceptr set = on->memory + (CUdeviceptr)(i * on->set_bytes);
    BENCH_OK(bench_device_fill(run->device, BENCH_TRIANGLES, 0, set, on->in_bytes, error));
    BENCH_CUDA(set_bytes(set + (CUdeviceptr)on->in_bytes, 0xff, (size_t)(on->in_bytes / 2)));
  }
  bench_way way = {.name = "triton",
                   .by = BENCH_OURS,
                   .chosen = true,
                   .rotated = true,
                   .floor = bench_floor(bench_solve_bytes(on->tokens, HEADS))};
  bench_job job = {.device = run->device, .put = put, .self = on, .sets = on->sets};
  pega_error failure = PEGA_ERROR_INIT;
  if (check(run, on, &way, &failure) != PEGA_OK) {
    bench_leave_out(&way, pega_error_message(&failure));
    run->failed = true;
  }
  pega_error_clear(&failure);
  bench_device_compare(run, &way, &job, 1, 0);
  bench_ways_clear(&way, 1);
  return PEGA_OK;
}

pega_status bench_solve(bench_run *run, pega_error *error) {
  static const int64_t lengths[] = {512, 2048, 8192, 32768, 131072};
  const int count = run->quick ? 1 : (int)(sizeof lengths / sizeof *lengths);
  solve on = {0};
  pega_status status = pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE_RAW, &on.raw, error);
  if (status == PEGA_OK) status = pega_function_prepare(on.raw, BENCH_DEVICE, error);
  for (int i = 0; i < count && status == PEGA_OK; ++i) {
    on.tokens = run->quick ? 256 : lengths[i];
    bench_case_begin(run,
                     json_pack("{s:I, s:i}", "tokens", (json_int_t)on.tokens, "value_heads", HEADS),
                     BENCH_PEERS_ROTATING);
    bench_case_try(run, measure(run, &on, error), error);
    bench_case_end(run);
    bench_device_free(run->device);
  }
  pega_function_release(on.raw);
  return status;
}
