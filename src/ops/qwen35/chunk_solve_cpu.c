/* SPDX-License-Identifier: Apache-2.0 */
#include "ops/qwen35/chunk_solve_cpu.h"

#include <stddef.h>
#include <string.h>

#include "core/parallel.h"

/* ---- Plain C ---- */

static uint16_t round_to_bf16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  /* A carry could turn a NaN into zero: it keeps its upper half and is made quiet instead. */
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40u);
  return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static inline void subtract_row(float sum[16], float factor, const float x[16]) {
  for (int column = 0; column < 16; column++) sum[column] -= factor * x[column];
}

static void solve_rows_portable(const float *const a[4], float *x, int row, uint16_t *const out[4],
                                bool stream) {
  (void)stream; /* plain C has no way to write around the caches */
  const int last_strip = row / 16;
  for (int strip = 0; strip <= last_strip; strip++) {
    float sums[4][16] = {{0}};
    for (int j = strip * 16; j < row; j++) {
      const float *xj = x + j * 64 + strip * 16;
      subtract_row(sums[0], a[0][j], xj);
      subtract_row(sums[1], a[1][j], xj);
      subtract_row(sums[2], a[2][j], xj);
      subtract_row(sums[3], a[3][j], xj);
    }
    for (int r = 0; r < 4; r++) {
      for (int j = 0; j < r; j++) subtract_row(sums[r], a[r][row + j], sums[j]);
      if (strip == last_strip) {
        const int diagonal = row % 16 + r;
        sums[r][diagonal] = 1.0f;
        for (int column = diagonal + 1; column < 16; column++) sums[r][column] = 0.0f;
      }
      memcpy(x + (row + r) * 64 + strip * 16, sums[r], sizeof sums[r]);
      for (int column = 0; column < 16; column++) {
        out[r][strip * 16 + column] = round_to_bf16(sums[r][column]);
      }
    }
  }
  const int num_columns = (last_strip + 1) * 16;
  for (int r = 0; r < 4; r++) {
    memset(out[r] + num_columns, 0, (size_t)(64 - num_columns) * sizeof(uint16_t));
  }
}

#define SOLVE_TILES pega_qwen35_chunk_solve_tiles_portable
#define SOLVE_TARGET
#define SOLVE_ROWS solve_rows_portable
#define SOLVE_FENCE (void)0
#include "ops/qwen35/chunk_solve_cpu_tiles.inl"

/* ---- Choice of implementation ---- */

static bool runs_anywhere(void) { return true; }

#if defined(__x86_64__)
/* These ask about the operating system too: it must save the wide registers. */
static bool runs_avx2(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool runs_avx512(void) {
  return runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl");
}
#endif

typedef struct {
  const char *name;
  bool (*runs)(void);
  pega_qwen35_chunk_solve_tiles solve;
} implementation;

/* Fastest first; the last one runs anywhere. */
static const implementation implementations[] = {
#if defined(__x86_64__)
    {"avx512", runs_avx512, pega_qwen35_chunk_solve_tiles_avx512},
    {"avx2", runs_avx2, pega_qwen35_chunk_solve_tiles_avx2},
#elif defined(__aarch64__)
    {"neon", runs_anywhere, pega_qwen35_chunk_solve_tiles_neon},
#endif
    {"portable", runs_anywhere, pega_qwen35_chunk_solve_tiles_portable},
};
enum { kNumImplementations = sizeof implementations / sizeof implementations[0] };

/* Asked anew for each call: it costs a few loads, and a remembered answer would be global state. */
static const implementation *runnable(int index) {
  for (int i = 0; i < kNumImplementations; i++) {
    if (implementations[i].runs() && index-- == 0) return &implementations[i];
  }
  return NULL;
}

/* ---- The whole solve ---- */

/* Ten to a hundred microseconds of work, against the tens that a thread costs. */
enum { kMinGrain = 16, kMaxGrain = 256 };

/* A result this large would push everything else out of the caches, and most of itself too; writing
 * around them then also saves reading every line before it is overwritten. */
#define STREAM_BYTES ((int64_t)8 << 20)

typedef struct {
  pega_qwen35_chunk_solve_job job;
  pega_qwen35_chunk_solve_tiles solve;
} parallel_solve;

static void solve_some(void *self, int64_t begin, int64_t end) {
  const parallel_solve *s = self;
  s->solve(&s->job, begin, end);
}

static void solve_all(const implementation *impl, const float *a_tril, uint16_t *a_inv,
                      int64_t seq_len, int64_t num_value_heads, int num_threads) {
  if (seq_len <= 0 || num_value_heads <= 0) return;
  const int64_t num_chunks = seq_len / 64 + (seq_len % 64 != 0);
  const int64_t num_tiles = num_chunks * num_value_heads;

  num_threads = pega_parallel_num_threads(num_tiles, kMinGrain, num_threads);
  /* Longer ranges make better use of the prefetch of the next tile, shorter ones end together. */
  int64_t grain = num_tiles / num_threads / 8;
  if (grain < kMinGrain) grain = kMinGrain;
  if (grain > kMaxGrain) grain = kMaxGrain;

  const int64_t out_bytes = seq_len * num_value_heads * 64 * (int64_t)sizeof(uint16_t);
  parallel_solve s = {
      .job = {.a_tril = a_tril,
              .a_inv = a_inv,
              .seq_len = seq_len,
              .num_value_heads = num_value_heads,
              .stream = out_bytes >= STREAM_BYTES && (uintptr_t)a_inv % 64 == 0},
      .solve = impl->solve,
  };
  pega_parallel_for(num_tiles, grain, num_threads, solve_some, &s);
}

void pega_qwen35_chunk_solve_cpu(const float *a_tril, uint16_t *a_inv, int64_t seq_len,
                                 int64_t num_value_heads, int num_threads) {
  solve_all(runnable(0), a_tril, a_inv, seq_len, num_value_heads, num_threads);
}

const char *pega_qwen35_chunk_solve_cpu_implementation(void) { return runnable(0)->name; }

const char *pega_qwen35_chunk_solve_cpu_name(int index) {
  const implementation *impl = index < 0 ? NULL : runnable(index);
  return impl == NULL ? NULL : impl->name;
}

int pega_qwen35_chunk_solve_cpu_with(const char *name, const float *a_tril, uint16_t *a_inv,
                                     int64_t seq_len, int64_t num_value_heads, int num_threads) {
  const implementation *impl;
  for (int i = 0; (impl = runnable(i)) != NULL; i++) {
    if (strcmp(impl->name, name) == 0) {
      solve_all(impl, a_tril, a_inv, seq_len, num_value_heads, num_threads);
      return 0;
    }
  }
  return -1;
}
