/* SPDX-License-Identifier: Apache-2.0 */
/* What the other tests of the gated delta rule are judged by, judged itself: the recurrence against a
 * few lines of plain C, and the chunked form's formulas, chained in fp64, against the recurrence. */
#include <math.h>
#include <stdlib.h>

#include "gdr_reference.h"
#include "support.h"

/* One sequence and head with nothing clever: the rule as it is written. */
static void plain_head(const gdr_problem *problem, int64_t sequence, int64_t head, double *output,
                       double *state) {
  const int64_t hk = problem->num_key_heads;
  const int64_t hv = problem->num_value_heads;
  for (int64_t i = 0; i < kGdrState; ++i) {
    state[i] = problem->initial_state == NULL
                   ? 0
                   : (double)problem->initial_state[(sequence * hv + head) * kGdrState + i];
  }
  for (int64_t t = problem->cu_seqlens[sequence]; t < problem->cu_seqlens[sequence + 1]; ++t) {
    double *q = gdr_widen_bf16(problem->q + (t * hk + head * hk / hv) * kGdrDim, kGdrDim);
    double *k = gdr_widen_bf16(problem->k + (t * hk + head * hk / hv) * kGdrDim, kGdrDim);
    double *v = gdr_widen_bf16(problem->v + (t * hv + head) * kGdrDim, kGdrDim);
    for (int64_t i = 0; i < kGdrState; ++i) state[i] *= exp((double)problem->g[t * hv + head]);
    for (int c = 0; c < kGdrDim; ++c) {
      double u = v[c];
      for (int d = 0; d < kGdrDim; ++d) u -= k[d] * state[d * kGdrDim + c];
      u *= (double)problem->beta[t * hv + head];
      double o = 0;
      for (int d = 0; d < kGdrDim; ++d) {
        state[d * kGdrDim + c] += k[d] * u;
        o += q[d] * state[d * kGdrDim + c];
      }
      output[(t * hv + head) * kGdrDim + c] = o / sqrt(kGdrDim);
    }
    free(q);
    free(k);
    free(v);
  }
}

static double farthest(const double *one, const double *other, int64_t count) {
  double difference = 0;
  double greatest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double apart = fabs(one[i] - other[i]);
    if (!(apart <= difference)) difference = apart;
    greatest = fmax(greatest, fabs(other[i]));
  }
  return difference == 0 ? 0 : difference / greatest;
}

static void test_recurrence(void **state) {
  (void)state;
  static const int64_t lengths[] = {5, 0, 1, 40};
  const gdr_options options = {.num_key_heads = 2,
                               .num_value_heads = 6,
                               .lengths = lengths,
                               .num_sequences = 4,
                               .lowest_gate = -2,
                               .state_size = 0.3,
                               .seed = 3};
  gdr_problem problem = gdr_problem_create(&options);
  gdr_answer answer = gdr_solve_recurrence(&problem);
  const int64_t outputs = problem.num_tokens * 6 * kGdrDim;
  double *output = gdr_allocate(outputs, sizeof *output);
  double *states = gdr_allocate(4 * 6 * kGdrState, sizeof *states);
  for (int64_t i = 0; i < 4 * 6; ++i) {
    plain_head(&problem, i / 6, i % 6, output, states + i * kGdrState);
  }
  assert_true(farthest(answer.output, output, outputs) < 1e-13);
  assert_true(farthest(answer.final_state, states, 4 * 6 * kGdrState) < 1e-13);
  /* An empty sequence hands its state on. */
  for (int64_t i = 6 * kGdrState; i < 12 * kGdrState; ++i) {
    assert_true(answer.final_state[i] == (double)problem.initial_state[i]);
  }
  free(output);
  free(states);
  gdr_answer_free(&answer);
  gdr_problem_free(&problem);
}

/* Single heads and rows, as long runs look at them, are those of the whole; so is a period. */
static void test_heads_and_rows(void **state) {
  (void)state;
  const int64_t length = 200;
  const gdr_options options = {.num_key_heads = 1,
                               .num_value_heads = 4,
                               .lengths = &length,
                               .num_sequences = 1,
                               .lowest_gate = -0.1,
                               .seed = 4,
                               .period = 37};
  gdr_problem problem = gdr_problem_create(&options);
  assert_int_equal(problem.num_rows, 37);
  gdr_answer answer = gdr_solve_recurrence(&problem);
  static const int64_t heads[] = {3, 1};
  static const int64_t tokens[] = {0, 63, 64, 199};
  double *outputs = gdr_allocate(2 * 4 * kGdrDim, sizeof *outputs);
  double *states = gdr_allocate(2 * kGdrState, sizeof *states);
  gdr_walk_heads(&problem, heads, 2, tokens, 4, outputs, states);
  for (int h = 0; h < 2; ++h) {
    for (int t = 0; t < 4; ++t) {
      assert_memory_equal(outputs + (h * 4 + t) * kGdrDim,
                          answer.output + (tokens[t] * 4 + heads[h]) * kGdrDim,
                          kGdrDim * sizeof(double));
    }
    assert_memory_equal(states + h * kGdrState, answer.final_state + heads[h] * kGdrState,
                        kGdrState * sizeof(double));
  }
  gdr_answer_free(&answer);

  /* The same rows written out. */
  gdr_problem whole = gdr_problem_simple(length, 1, 4, -0.1, 4);
  for (int64_t t = 37; t < length; ++t) {
    memcpy(whole.q + t * kGdrDim, problem.q + t % 37 * kGdrDim, kGdrDim * 2);
    memcpy(whole.k + t * kGdrDim, problem.k + t % 37 * kGdrDim, kGdrDim * 2);
    memcpy(whole.v + t * 4 * kGdrDim, problem.v + t % 37 * 4 * kGdrDim, 4 * kGdrDim * 2);
    memcpy(whole.g + t * 4, problem.g + t % 37 * 4, 4 * 4);
    memcpy(whole.beta + t * 4, problem.beta + t % 37 * 4, 4 * 4);
  }
  answer = gdr_solve_recurrence(&whole);
  assert_memory_equal(states, answer.final_state + 3 * kGdrState, kGdrState * sizeof(double));
  gdr_answer_free(&answer);
  free(outputs);
  free(states);
  gdr_problem_free(&whole);
  gdr_problem_free(&problem);
}

static void chain_stages(int64_t num_tokens, double lowest_gate, double state_size) {
  const gdr_options options = {.num_key_heads = 1,
                               .num_value_heads = 2,
                               .lengths = &num_tokens,
                               .num_sequences = 1,
                               .lowest_gate = lowest_gate,
                               .state_size = state_size,
                               .seed = 5};
  enum { kHeads = 2 };
  gdr_problem problem = gdr_problem_create(&options);
  gdr_answer answer = gdr_solve_recurrence(&problem);
  const int64_t rows = num_tokens * kHeads;
  const int64_t states = (num_tokens + kGdrChunk - 1) / kGdrChunk * kHeads * kGdrState;
  double *q = gdr_expand_heads(&problem, problem.q);
  double *k = gdr_expand_heads(&problem, problem.k);
  double *v = gdr_widen_bf16(problem.v, rows * kGdrDim);
  double *g = gdr_widen_f32(problem.g, rows);
  double *beta = gdr_widen_f32(problem.beta, rows);
  double *initial =
      state_size == 0 ? NULL : gdr_widen_f32(problem.initial_state, kHeads * kGdrState);
  double *sums = gdr_allocate(rows, sizeof *sums);
  double *a = gdr_allocate(rows * kGdrChunk, sizeof *a);
  double *inverse = gdr_allocate(rows * kGdrChunk, sizeof *inverse);
  double *w = gdr_allocate(rows * kGdrDim, sizeof *w);
  double *u = gdr_allocate(rows * kGdrDim, sizeof *u);
  double *chunk_state = gdr_allocate(states, sizeof *chunk_state);
  double *v_new = gdr_allocate(rows * kGdrDim, sizeof *v_new);
  double *final = gdr_allocate(kHeads * kGdrState, sizeof *final);
  double *output = gdr_allocate(rows * kGdrDim, sizeof *output);
  gdr_stage_cumsum(num_tokens, kHeads, g, sums);
  gdr_stage_a(num_tokens, kHeads, k, sums, beta, a);
  gdr_stage_solve(num_tokens, kHeads, a, inverse);
  gdr_stage_recompute(num_tokens, kHeads, k, v, beta, inverse, sums, w, u);
  gdr_stage_state(num_tokens, kHeads, k, w, u, sums, initial, chunk_state, v_new, final);
  gdr_stage_o(num_tokens, kHeads, q, k, v_new, chunk_state, sums, problem.scale, output);
  assert_true(farthest(output, answer.output, rows * kGdrDim) < 1e-11);
  assert_true(farthest(final, answer.final_state, kHeads * kGdrState) < 1e-11);
  void *const all[] = {q,       k, v, g,           beta,  initial, sums,  a,
                       inverse, w, u, chunk_state, v_new, final,   output};
  for (int i = 0; i < COUNT(all); ++i) free(all[i]);
  gdr_answer_free(&answer);
  gdr_problem_free(&problem);
}

static void test_stages_make_the_recurrence(void **state) {
  (void)state;
  static const int64_t lengths[] = {1, 63, 64, 65, 129, 200};
  for (int i = 0; i < COUNT(lengths); ++i) {
    chain_stages(lengths[i], -0.1, 0.5);
    chain_stages(lengths[i], -10, 0.5);
    chain_stages(lengths[i], -0.1, 0);
  }
}

/* The inputs are what they are said to be. */
static void test_inputs(void **state) {
  (void)state;
  const int64_t length = 100;
  gdr_options options = {.num_key_heads = 2,
                         .num_value_heads = 8,
                         .lengths = &length,
                         .num_sequences = 1,
                         .lowest_gate = -0.1,
                         .seed = 6};
  for (int form = 0; form < 3; ++form) {
    options.long_rows = form == 1;
    options.projected = form == 2;
    gdr_problem problem = gdr_problem_create(&options);
    for (int64_t row = 0; row < length * 2; ++row) {
      double q = 0;
      double k = 0;
      for (int d = 0; d < kGdrDim; ++d) {
        q += pow(gdr_bf16_to_double(problem.q[row * kGdrDim + d]), 2);
        k += pow(gdr_bf16_to_double(problem.k[row * kGdrDim + d]), 2);
      }
      assert_true(fabs(q - 1) < 1e-2 && fabs(k - 1) < 1e-2);
    }
    double strongest = 0;
    for (int64_t i = 0; i < length * 8; ++i) {
      assert_true(problem.g[i] <= 0 && problem.beta[i] > 0 && problem.beta[i] < 1);
      strongest = fmin(strongest, (double)problem.g[i]);
    }
    assert_true(form == 2 || (strongest >= -0.1f && strongest < -0.09));
    double squares = 0;
    for (int64_t i = 0; i < length * 8 * kGdrDim; ++i) {
      squares += pow(gdr_bf16_to_double(problem.v[i]), 2);
    }
    assert_true(fabs(squares / (double)(length * 8 * kGdrDim) - 1) < 0.02);
    gdr_problem_free(&problem);
  }
}

static void test_comparison(void **state) {
  (void)state;
  const double expected[] = {3, -4, 0, 0};
  float got[] = {3, -4, 0, 0};
  assert_true(gdr_compare_f32(got, expected, 4).rms == 0);
  got[3] = 0.5f;
  gdr_error error = gdr_compare_f32(got, expected, 4);
  assert_true(fabs(error.rms - 0.1) < 1e-12 && fabs(error.max - 0.125) < 1e-12);
  for (int i = 0; i < 4; ++i) {
    const float kept = got[i];
    got[i] = NAN;
    error = gdr_compare_f32(got, expected, 4);
    assert_true(isnan(error.rms) && isnan(error.max));
    assert_true(isnan(gdr_worse(error, (gdr_error){1, 1}).rms));
    assert_true(isnan(gdr_worse((gdr_error){1, 1}, error).max));
    got[i] = kept;
  }
  const double zeros[] = {0, 0};
  const float almost[] = {0, 1e-30f};
  assert_true(gdr_compare_f32(almost, zeros, 1).rms == 0);
  assert_true(isinf(gdr_compare_f32(almost, zeros, 2).rms));
  const double ones[] = {1, 1.003, -1.003};
  const uint16_t rounded[] = {0x3f80, 0x3f80, 0xbf80};
  const uint16_t not_rounded[] = {0x3f81, 0x7fc0, 0x3f80};
  assert_int_equal(gdr_badly_rounded(rounded, ones, 3), 0);
  assert_int_equal(gdr_badly_rounded(not_rounded, ones, 3), 3);
  assert_int_equal(gdr_double_to_bf16(1), 0x3f80);
  assert_int_equal(gdr_double_to_bf16(1.00390625), 0x3f80); /* halfway, to even */
  assert_int_equal(gdr_double_to_bf16(1.01171875), 0x3f82);
  assert_int_equal(gdr_double_to_bf16((double)INFINITY), 0x7f80);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_recurrence),
      cmocka_unit_test(test_heads_and_rows),
      cmocka_unit_test(test_stages_make_the_recurrence),
      cmocka_unit_test(test_inputs),
      cmocka_unit_test(test_comparison),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
