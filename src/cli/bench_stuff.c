/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_stuff.h"

#include <math.h>
#include <stdlib.h>

#include "print.h"

/* Rows until they repeat: a prime, so that no two chunks of 64 tokens are the same. */
enum { UNIT_ROWS = 16381, NUMBERS = 1048573, HEADS = 32 };

/* Gates of the solve's chunks, by turns. */
static const double WEAK = 0.01, STRONG = 2;

static double uniform(uint64_t *state) {
  uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

static void normals(uint64_t *state, double *out, int count) {
  for (int i = 0; i < count; i += 2) {
    const double radius = sqrt(-2 * log(1 - uniform(state)));
    const double angle = 6.283185307179586 * uniform(state);
    out[i] = radius * cos(angle);
    if (i + 1 < count) out[i + 1] = radius * sin(angle);
  }
}

static uint16_t to_bf16(double value) {
  const float narrow = (float)value;
  uint32_t bits = 0;
  memcpy(&bits, &narrow, sizeof bits);
  return (uint16_t)((bits + 0x7fffU + (bits >> 16 & 1U)) >> 16);
}

/* A row of length 1. */
static void unit_row(uint64_t *state, double row[PEGA_QWEN35_HEAD_SIZE]) {
  double sum = 0;
  normals(state, row, PEGA_QWEN35_HEAD_SIZE);
  for (int i = 0; i < PEGA_QWEN35_HEAD_SIZE; ++i) sum += row[i] * row[i];
  for (int i = 0; i < PEGA_QWEN35_HEAD_SIZE; ++i) row[i] /= sqrt(sum);
}

/* A[i, j] = beta_i exp(G_i - G_j) k_i . k_j of one chunk and head, gates uniform in [-most, 0];
 * above the diagonal is
 * nothing to be read, and something. */
static void triangle(uint64_t *state, double most, float *out) {
  enum { C = PEGA_QWEN35_CHUNK, K = PEGA_QWEN35_HEAD_SIZE };
  static double keys[C][K];
  double gates[C];
  double sum = 0;
  for (int i = 0; i < C; ++i) {
    unit_row(state, keys[i]);
    gates[i] = sum -= most * uniform(state);
  }
  for (int i = 0; i < C; ++i) {
    const double beta = uniform(state);
    for (int j = 0; j < C; ++j) {
      double dot = 0.01;
      for (int k = 0; k < K && j < i; ++k) dot += keys[i][k] * keys[j][k];
      out[i * HEADS * C + j] = (float)(beta * exp(gates[i] - gates[j]) * dot);
    }
  }
}

int64_t bench_stuff_bytes(bench_stuff stuff) {
  switch (stuff) {
    case BENCH_UNIT_ROWS:
      return (int64_t)UNIT_ROWS * PEGA_QWEN35_HEAD_SIZE * 2;
    case BENCH_NORMAL:
      return (int64_t)NUMBERS * 2;
    case BENCH_TRIANGLES:
      return (int64_t)BENCH_TRIANGLE_CHUNKS * HEADS * PEGA_QWEN35_CHUNK * PEGA_QWEN35_CHUNK * 4;
    default:
      return (int64_t)NUMBERS * 4;
  }
}

static void *make(bench_stuff stuff) {
  uint64_t state = (uint64_t)stuff + 1;
  void *memory = malloc((size_t)bench_stuff_bytes(stuff));
  uint16_t *narrow = memory;
  float *wide = memory;
  if (memory == NULL) cli_out_of_memory();
  if (stuff == BENCH_UNIT_ROWS) {
    double row[PEGA_QWEN35_HEAD_SIZE];
    for (int i = 0; i < UNIT_ROWS; ++i) {
      unit_row(&state, row);
      for (int k = 0; k < PEGA_QWEN35_HEAD_SIZE; ++k) *narrow++ = to_bf16(row[k]);
    }
    return memory;
  }
  if (stuff == BENCH_TRIANGLES) {
    enum { C = PEGA_QWEN35_CHUNK };
    for (int i = 0; i < BENCH_TRIANGLE_CHUNKS * HEADS; ++i) {
      const double most = i / HEADS % 2 == 0 ? WEAK : STRONG;
      triangle(&state, most, wide + i / HEADS * HEADS * C * C + i % HEADS * C);
    }
    return memory;
  }
  for (int i = 0; i < NUMBERS; i += 2) {
    double pair[2] = {uniform(&state), uniform(&state)};
    if (stuff == BENCH_NORMAL || stuff == BENCH_STATES) normals(&state, pair, 2);
    for (int k = 0; k < 2 && i + k < NUMBERS; ++k) {
      const double value = stuff == BENCH_GATES    ? -0.1 * pair[k]
                           : stuff == BENCH_DECAYS ? -3 * pair[k]
                           : stuff == BENCH_STATES ? 0.3 * pair[k]
                                                   : pair[k];
      if (stuff == BENCH_NORMAL) narrow[i + k] = to_bf16(value);
      if (stuff != BENCH_NORMAL) wide[i + k] = (float)value;
    }
  }
  return memory;
}

const void *bench_stuff_made(bench_stuff stuff) {
  static void *made[BENCH_NUM_STUFF + 1];
  if (made[stuff] == NULL) made[stuff] = make(stuff);
  return made[stuff];
}

/* Another seed begins elsewhere, at a whole row. */
int64_t bench_stuff_shift(bench_stuff stuff, int seed) {
  const int64_t row = stuff == BENCH_UNIT_ROWS ? PEGA_QWEN35_HEAD_SIZE * 2
                      : stuff == BENCH_NORMAL  ? 2
                                               : 4;
  if (stuff == BENCH_TRIANGLES) return 0;
  return (int64_t)seed * 7919 % (bench_stuff_bytes(stuff) / row) * row;
}

void bench_stuff_fill(bench_stuff stuff, int seed, void *to, int64_t bytes) {
  const int64_t period = bench_stuff_bytes(stuff);
  const char *from = bench_stuff_made(stuff);
  int64_t at = bench_stuff_shift(stuff, seed);
  for (int64_t done = 0; done < bytes;) {
    const int64_t part = bytes - done < period - at ? bytes - done : period - at;
    memcpy((char *)to + done, from + at, (size_t)part);
    done += part;
    at = 0;
  }
}
