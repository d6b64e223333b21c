/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_truth.h"

#include <math.h>
#include <string.h>

enum { HEAD = PEGA_QWEN35_HEAD_SIZE, CHUNK = PEGA_QWEN35_CHUNK };

double bench_from_bf16(uint16_t bits) {
  const uint32_t wide = (uint32_t)bits << 16;
  float value = 0;
  memcpy(&value, &wide, sizeof value);
  return value;
}

double bench_sums_rms(const bench_sums *sums) { return sqrt(sums->difference / sums->expected); }

void bench_sums_add(bench_sums *sums, double got, double expected) {
  sums->difference += (got - expected) * (got - expected);
  sums->expected += expected * expected;
}

static void widen(const uint16_t *from, double out[HEAD]) {
  for (int i = 0; i < HEAD; ++i) out[i] = bench_from_bf16(from[i]);
}

/* S <- exp(g) S; u = beta (v - S^T k); S <- S + k u^T; o = S^T q / sqrt(128) */
static void step(double *state, const double q[HEAD], const double k[HEAD], const double v[HEAD],
                 double g, double beta, double out[HEAD]) {
  const double decay = exp(g);
  double seen[HEAD] = {0};
  for (int i = 0; i < HEAD; ++i) {
    double *row = state + i * HEAD;
    for (int j = 0; j < HEAD; ++j) {
      row[j] *= decay;
      seen[j] += row[j] * k[i];
    }
  }
  for (int j = 0; j < HEAD; ++j) {
    seen[j] = beta * (v[j] - seen[j]);
    out[j] = 0;
  }
  for (int i = 0; i < HEAD; ++i) {
    double *row = state + i * HEAD;
    for (int j = 0; j < HEAD; ++j) {
      row[j] += k[i] * seen[j];
      out[j] += row[j] * q[i];
    }
  }
  for (int j = 0; j < HEAD; ++j) out[j] /= sqrt((double)HEAD);
}

void bench_recurrence(const bench_rule *rule, int64_t head, int64_t begin, int64_t tokens,
                      double *state, double *output) {
  const int64_t key_head = head / (rule->value_heads / rule->key_heads);
  for (int64_t t = begin; t < begin + tokens; ++t) {
    double q[HEAD];
    double k[HEAD];
    double v[HEAD];
    double out[HEAD];
    widen(rule->q + (t * rule->key_heads + key_head) * HEAD, q);
    widen(rule->k + (t * rule->key_heads + key_head) * HEAD, k);
    widen(rule->v + (t * rule->value_heads + head) * HEAD, v);
    step(state, q, k, v, rule->g[t * rule->value_heads + head],
         rule->beta[t * rule->value_heads + head], out);
    if (output != NULL) memcpy(output + (t - begin) * HEAD, out, sizeof out);
  }
}

/* The nearest bf16; of two the even one. */
static double rounded(double value) {
  int exponent = 0;
  if (value == 0) return 0;
  (void)frexp(value, &exponent);
  return ldexp(nearbyint(ldexp(value, 8 - exponent)), exponent - 8);
}

/* One that is no number is kept. */
static void raise_to(double *most, double value) {
  if (!(value <= *most)) *most = value;
}

void bench_solve_error(const float *a, const uint16_t *got, int64_t stride,
                       bench_solve_errors *errors) {
  double x[CHUNK][CHUNK];
  bench_solve_errors own = {0, 0, 0};
  double largest = 0;
  for (int i = 0; i < CHUNK; ++i) {
    for (int j = 0; j < CHUNK; ++j) {
      double sum = i == j ? 1 : 0;
      for (int k = j; k < i && j < i; ++k) sum -= (double)a[i * stride + k] * x[k][j];
      x[i][j] = sum;
      const double off = fabs(bench_from_bf16(got[i * stride + j]) - sum);
      const double least = fabs(rounded(sum) - sum);
      raise_to(&own.max, off);
      raise_to(&own.rounding, least);
      raise_to(&own.past_rounding, off - least);
      if (fabs(sum) > largest) largest = fabs(sum);
    }
  }
  raise_to(&errors->max, own.max / largest);
  raise_to(&errors->rounding, own.rounding / largest);
  raise_to(&errors->past_rounding, own.past_rounding / largest);
}
