/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Section 5 of the demo: Qwen3.5's gated-delta-rule chunk solve, a_inv = (I + A)^-1 chunk by chunk,
 * on tensors of real shape, compared with the same computed here in fp64.
 */
#include "demo.h"

#include <math.h>
#include <pega/qwen35.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
  kChunk = PEGA_QWEN35_CHUNK,
  kValueHeads = 32,
  kKeyHeads = 16,
  kKeySize = 128,
  kRuns = 5,
};

#define TOLERANCE 1e-3

struct problem {
  int64_t tokens;
  float *a_tril;
  uint16_t *a_inv; /* bf16 bits */
};

/* ---- inputs, as the layer before the solve makes them; the same on every run ---- */

static uint64_t random_state;

static double uniform(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (double)(random_state >> 11) / 9007199254740992.0;
}

static double normal(void) {
  double radius = sqrt(-2.0 * log(1.0 - uniform()));
  return radius * cos(6.283185307179586 * uniform());
}

static void make_key(float *key) {
  double squares = 0;
  for (int i = 0; i < kKeySize; i++) {
    key[i] = (float)normal();
    squares += (double)key[i] * key[i];
  }
  for (int i = 0; i < kKeySize; i++) key[i] = (float)(key[i] / sqrt(squares));
}

/* A[i, j] = beta_i exp(G_i - G_j) (k_i . k_j) for i > j; elsewhere NaN, which nobody may read. */
static void make_chunk(float *a_tril, const float *keys, int64_t rows, int head) {
  double log_gate[kChunk];
  double total = 0;
  for (int64_t i = 0; i < rows; i++) {
    total -= 0.1 * uniform();
    log_gate[i] = total;
  }
  int key_head = head * kKeyHeads / kValueHeads;
  for (int64_t i = 0; i < rows; i++) {
    float *row = a_tril + (i * kValueHeads + head) * kChunk;
    const float *key = keys + (i * kKeyHeads + key_head) * kKeySize;
    double beta = uniform();
    for (int64_t j = 0; j < i; j++) {
      const float *other = keys + (j * kKeyHeads + key_head) * kKeySize;
      float product = 0;
      for (int k = 0; k < kKeySize; k++) product += key[k] * other[k];
      row[j] = (float)(beta * exp(log_gate[i] - log_gate[j]) * product);
    }
    for (int64_t j = i; j < kChunk; j++) row[j] = NAN;
  }
}

static bool problem_create(struct problem *problem, int64_t tokens) {
  size_t count = (size_t)tokens * kValueHeads * kChunk;
  float *keys = malloc(sizeof(float) * (size_t)tokens * kKeyHeads * kKeySize);
  problem->tokens = tokens;
  problem->a_tril = aligned_alloc(64, count * sizeof *problem->a_tril);
  problem->a_inv = aligned_alloc(64, count * sizeof *problem->a_inv);
  bool made = keys != NULL && problem->a_tril != NULL && problem->a_inv != NULL;
  random_state = 0x9e3779b97f4a7c15u;
  for (int64_t i = 0; made && i < tokens * kKeyHeads; i++) make_key(keys + i * kKeySize);
  for (int64_t begin = 0; made && begin < tokens; begin += kChunk) {
    int64_t rows = tokens - begin < kChunk ? tokens - begin : kChunk;
    for (int head = 0; head < kValueHeads; head++) {
      make_chunk(problem->a_tril + begin * kValueHeads * kChunk,
                 keys + begin * kKeyHeads * kKeySize, rows, head);
    }
  }
  free(keys);
  return made;
}

static void problem_free(struct problem *problem) {
  free(problem->a_tril);
  free(problem->a_inv);
}

/* ---- the oracle ---- */

static double from_bfloat16(uint16_t bits) {
  uint32_t wide = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &wide, sizeof value);
  return (double)value;
}

/* Solves (I + A) x = e_j row by row in fp64 and compares with column j. */
static void compare_column(const struct problem *problem, int64_t begin, int64_t rows, int head,
                           int64_t column, double *worst, double *largest) {
  double x[kChunk];
  for (int64_t i = 0; i < rows; i++) {
    size_t row = (size_t)((begin + i) * kValueHeads + head) * kChunk;
    x[i] = i == column ? 1.0 : 0.0;
    for (int64_t k = column; k < i; k++) x[i] -= (double)problem->a_tril[row + (size_t)k] * x[k];
    double got = from_bfloat16(problem->a_inv[row + (size_t)column]);
    double off = fabs(got - x[i]);
    /* NaN is not less than anything: it must not pass. */
    if (!(off <= *worst)) *worst = off;
    if (fabs(x[i]) > *largest) *largest = fabs(x[i]);
  }
}

static double max_error(const struct problem *problem) {
  double worst = 0;
  double largest = 0;
  for (int64_t begin = 0; begin < problem->tokens; begin += kChunk) {
    int64_t left = problem->tokens - begin;
    int64_t rows = left < kChunk ? left : kChunk;
    for (int head = 0; head < kValueHeads; head++) {
      for (int64_t column = 0; column < rows; column++) {
        compare_column(problem, begin, rows, head, column, &worst, &largest);
      }
    }
  }
  return worst / largest;
}

/* ---- the call ---- */

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void solve_and_check(pega_function *solve, int64_t tokens) {
  struct problem problem;
  if (!problem_create(&problem, tokens)) {
    demo_check(false, "T=%lld: no memory", (long long)tokens);
    problem_free(&problem);
    return;
  }
  int64_t shape[] = {tokens, kValueHeads, kChunk};
  DLTensor a_tril = {.data = problem.a_tril,
                     .device = {kDLCPU, 0},
                     .ndim = 3,
                     .dtype = {kDLFloat, 32, 1},
                     .shape = shape};
  DLTensor a_inv = {.data = problem.a_inv,
                    .device = {kDLCPU, 0},
                    .ndim = 3,
                    .dtype = {kDLBfloat, 16, 1},
                    .shape = shape};
  const pega_value args[] = {pega_value_tensor(&a_tril), pega_value_tensor(&a_inv)};
  pega_error error = PEGA_ERROR_INIT;
  pega_status status = PEGA_OK;
  double best = HUGE_VAL;
  for (int run = 0; run < kRuns && status == PEGA_OK; run++) {
    double before = seconds();
    status = pega_function_call(solve, args, 2, NULL, &error);
    double took = seconds() - before;
    best = took < best ? took : best;
  }
  if (status == PEGA_OK) {
    double error_size = max_error(&problem);
    demo_check(error_size < TOLERANCE, "T=%-5lld HV=%d: max error %.1e (< %.0e), %.2f ms",
               (long long)tokens, kValueHeads, error_size, TOLERANCE, best * 1e3);
  } else {
    demo_check(false, "T=%lld: %s", (long long)tokens, pega_error_message(&error));
  }
  pega_error_clear(&error);
  problem_free(&problem);
}

void demo_solve(void) {
  demo_section("5. The first kernel function, on this machine's CPU, against fp64");
  pega_error error = PEGA_ERROR_INIT;
  pega_function *solve = NULL;
  if (pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE, &solve, &error) != PEGA_OK) {
    demo_check(false, "%s", pega_error_message(&error));
    pega_error_clear(&error);
    return;
  }
  printf("  %s\n", pega_function_signature_text(solve));
  solve_and_check(solve, 2048);
  solve_and_check(solve, 1000);
  pega_function_release(solve);
}
