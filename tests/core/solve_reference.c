/* SPDX-License-Identifier: Apache-2.0 */
#include "solve_reference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kChunk = 64, kHeadDim = 128 };

/* ---- Random numbers: the same on every machine ---- */

static uint64_t next_random(uint64_t *state) {
  uint64_t x = *state += 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

/* Uniform in (0, 1). */
static double uniform(uint64_t *state) {
  return ((double)(next_random(state) >> 12) + 0.5) * 0x1p-52;
}

static double normal(uint64_t *state) {
  const double radius = sqrt(-2.0 * log(uniform(state)));
  return radius * cos(6.283185307179586 * uniform(state));
}

static double bf16_to_double(uint16_t bits) {
  const uint32_t wide = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &wide, sizeof value);
  return (double)value;
}

static float round_to_bf16(double x) {
  float value = (float)x;
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  bits = (bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static void *allocate(size_t count, size_t size) {
  void *memory = NULL;
  if (posix_memalign(&memory, 64, count == 0 ? 64 : count * size) != 0) {
    fprintf(stderr, "no memory for the test's tensors\n");
    exit(1);
  }
  return memory;
}

/* ---- The problem ---- */

/* Keys of one chunk and one key head: normal, of length 1, rounded. */
static void make_keys(float keys[kChunk][kHeadDim], uint64_t *random) {
  for (int i = 0; i < kChunk; ++i) {
    double row[kHeadDim];
    double squares = 1e-12;
    for (int d = 0; d < kHeadDim; ++d) {
      row[d] = normal(random);
      squares += row[d] * row[d];
    }
    for (int d = 0; d < kHeadDim; ++d) keys[i][d] = round_to_bf16(row[d] / sqrt(squares));
  }
}

/* k_i.k_j for j < i. */
static void multiply_keys(float keys[kChunk][kHeadDim], double products[kChunk][kChunk]) {
  for (int i = 0; i < kChunk; ++i) {
    for (int j = 0; j < i; ++j) {
      double sum = 0;
      for (int d = 0; d < kHeadDim; ++d) sum += (double)keys[i][d] * (double)keys[j][d];
      products[i][j] = sum;
    }
  }
}

static void make_tile(const solve_problem *problem, int64_t chunk, int64_t head,
                      double products[kChunk][kChunk], double lowest_gate, uint64_t *random) {
  double gate_sum[kChunk];
  double sum = 0;
  for (int i = 0; i < kChunk; ++i) {
    sum += lowest_gate * uniform(random);
    gate_sum[i] = sum;
    const double beta = uniform(random);
    const int64_t row = chunk * kChunk + i;
    if (row >= problem->seq_len) return;
    float *a = problem->a_tril + (row * problem->num_value_heads + head) * kChunk;
    for (int j = 0; j < i; ++j) {
      a[j] = (float)(beta * exp(gate_sum[i] - gate_sum[j]) * products[i][j]);
    }
  }
}

solve_problem solve_problem_create(int64_t seq_len, int64_t num_key_heads, int64_t num_value_heads,
                                   double lowest_gate, uint64_t seed) {
  solve_problem problem = {.seq_len = seq_len, .num_value_heads = num_value_heads};
  const int64_t num_chunks = (seq_len + kChunk - 1) / kChunk;
  problem.num_rows = num_chunks * kChunk + 2 * kSolveMargin;
  const size_t count = (size_t)(problem.num_rows * num_value_heads * kChunk);
  const int64_t margin = kSolveMargin * num_value_heads * kChunk;
  problem.in_buffer = allocate(count, sizeof(float));
  problem.out_buffer = allocate(count, sizeof(uint16_t));
  problem.a_tril = problem.in_buffer + margin;
  problem.a_inv = problem.out_buffer + margin;
  for (size_t i = 0; i < count; ++i) problem.in_buffer[i] = (float)NAN;
  solve_problem_reset(&problem);

  static float keys[kChunk][kHeadDim];
  static double products[kChunk][kChunk];
  uint64_t random = seed;
  const int64_t heads_per_key = num_value_heads / num_key_heads;
  for (int64_t chunk = 0; chunk < num_chunks; ++chunk) {
    for (int64_t head = 0; head < num_value_heads; ++head) {
      if (head % heads_per_key == 0) {
        make_keys(keys, &random);
        multiply_keys(keys, products);
      }
      make_tile(&problem, chunk, head, products, lowest_gate, &random);
    }
  }
  return problem;
}

void solve_problem_free(solve_problem *problem) {
  free(problem->in_buffer);
  free(problem->out_buffer);
  problem->in_buffer = NULL;
  problem->out_buffer = NULL;
}

void solve_problem_reset(solve_problem *problem) {
  const int64_t count = problem->num_rows * problem->num_value_heads * kChunk;
  for (int64_t i = 0; i < count; ++i) problem->out_buffer[i] = SOLVE_UNTOUCHED;
}

/* ---- The answer ---- */

/* (I + A)^-1 of the first n rows, column by column from the top. */
static void invert(const float *a, int64_t stride, int64_t n, double x[kChunk][kChunk]) {
  for (int64_t column = 0; column < n; ++column) {
    x[column][column] = 1;
    for (int64_t i = column + 1; i < n; ++i) {
      double sum = 0;
      for (int64_t j = column; j < i; ++j) sum += (double)a[i * stride + j] * x[j][column];
      x[i][column] = -sum;
    }
  }
}

typedef struct sums {
  double max_difference;
  double max_reference;
  double squared_difference;
  double squared_reference;
} sums;

static void compare_entry(uint16_t bits, double reference, sums *total, solve_comparison *result) {
  const double difference = fabs(bf16_to_double(bits) - reference);
  /* Half a unit in the last place is at most 2^-8 of a number; fp32 sums add a little. A NaN must
   * not pass for a small number in any of these. */
  if (!(difference <= fabs(reference) * 0x1p-8 + 1e-5)) ++result->badly_rounded;
  if (!(difference <= total->max_difference)) total->max_difference = difference;
  total->max_reference = fmax(total->max_reference, fabs(reference));
  total->squared_difference += difference * difference;
  total->squared_reference += reference * reference;
}

solve_comparison solve_problem_compare(const solve_problem *problem) {
  solve_comparison result = {0};
  static double x[kChunk][kChunk];
  sums total = {0};
  const int64_t heads = problem->num_value_heads;
  const int64_t stride = heads * kChunk;
  for (int64_t first = 0; first < problem->seq_len; first += kChunk) {
    const int64_t n = problem->seq_len - first < kChunk ? problem->seq_len - first : kChunk;
    for (int64_t head = 0; head < heads; ++head) {
      const int64_t offset = (first * heads + head) * kChunk;
      invert(problem->a_tril + offset, stride, n, x);
      for (int64_t i = 0; i < n; ++i) {
        const uint16_t *row = problem->a_inv + offset + i * stride;
        for (int64_t j = 0; j < i; ++j) compare_entry(row[j], x[i][j], &total, &result);
        compare_entry(row[i], 1, &total, &result);
        result.bad_above += row[i] != 0x3f80;
        for (int64_t j = i + 1; j < kChunk; ++j) result.bad_above += row[j] != 0;
      }
    }
  }
  if (problem->seq_len > 0 && heads > 0) {
    result.max_error = total.max_difference / total.max_reference;
    result.rms_error = sqrt(total.squared_difference / total.squared_reference);
  }
  for (int64_t row = 0; row < problem->num_rows; ++row) {
    if (row >= kSolveMargin && row < kSolveMargin + problem->seq_len) continue;
    for (int64_t i = 0; i < stride; ++i) {
      result.bad_outside += problem->out_buffer[row * stride + i] != SOLVE_UNTOUCHED;
    }
  }
  return result;
}
