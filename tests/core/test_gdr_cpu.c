/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CPU's inner loops of the gated delta rule, each set that this processor can run by its name: a call
 * through the library takes the fastest alone. Whole prefills, decode steps, and the seven stages chained.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gdr_reference.h"
#include "ops/qwen35/chunk_solve_cpu.h"
#include "ops/qwen35/gated_delta_rule_cpu.h"
#include "support.h"

#define OUTPUT_LIMIT 2.0e-3
#define STATE_LIMIT 1e-4
/* What the stages hand on is bfloat16: as a GPU's. */
#define STAGES_OUTPUT_LIMIT 3.8e-3
#define STAGES_STATE_LIMIT 3.0e-3

static void expect_below(const char *what, const char *kernels, double got, double limit) {
  if (got <= limit) return;
  print_error("%s with %s: rms %.3g; at most %.3g\n", what, kernels, got, limit);
  fail();
}

/* Sequences of all kinds of lengths; with an initial state unless its size is 0. */
static gdr_problem make_problem(int64_t key_heads, int64_t value_heads, double lowest_gate,
                                double state_size) {
  static const int64_t lengths[] = {129, 0, 1, 64, 63, 200};
  const gdr_options options = {.num_key_heads = key_heads,
                               .num_value_heads = value_heads,
                               .lengths = lengths,
                               .num_sequences = COUNT(lengths),
                               .lowest_gate = lowest_gate,
                               .state_size = state_size,
                               .seed = 77,
                               .long_rows = true};
  return gdr_problem_create(&options);
}

static void run_prefill(const pega_qwen35_kernels *kernels, pega_qwen35_implementation how,
                        const gdr_problem *it, const float *initial_state, uint16_t *output,
                        float *final_state, int num_threads) {
  const size_t bytes = pega_qwen35_prefill_cpu_workspace(how, it->num_sequences, it->num_key_heads,
                                                         it->num_value_heads, num_threads);
  void *workspace = gdr_allocate((int64_t)bytes, 1);
  memset(workspace, 0xff, bytes); /* NaN */
  memset(output, 0xff, (size_t)(it->num_tokens * it->num_value_heads * kGdrDim) * 2);
  const pega_qwen35_prefill prefill = {.implementation = how,
                                       .q = it->long_q,
                                       .k = it->long_k,
                                       .v = it->v,
                                       .q_stride = it->num_key_heads * kGdrDim,
                                       .k_stride = it->num_key_heads * kGdrDim,
                                       .v_stride = it->num_value_heads * kGdrDim,
                                       .g = it->g,
                                       .beta = it->beta,
                                       .initial_state = initial_state,
                                       .cu_seqlens = {it->cu_seqlens, 64},
                                       .output = output,
                                       .final_state = final_state,
                                       .num_tokens = it->num_tokens,
                                       .num_sequences = it->num_sequences,
                                       .num_key_heads = it->num_key_heads,
                                       .num_value_heads = it->num_value_heads,
                                       .scale = (float)it->scale,
                                       .normalize = true,
                                       .num_threads = num_threads,
                                       .workspace = workspace,
                                       .workspace_size = bytes};
  assert_int_equal(pega_qwen35_prefill_cpu(kernels, &prefill), 0);
  free(workspace);
}

static void run_prefills(const char *name, const gdr_problem *it, const gdr_answer *answer) {
  const int64_t num_outputs = it->num_tokens * it->num_value_heads * kGdrDim;
  const int64_t num_states = it->num_sequences * it->num_value_heads * kGdrState;
  uint16_t *output = gdr_allocate(num_outputs, 2);
  float *state = gdr_allocate(num_states, 4);
  for (int how = 0; how < 2; ++how) {
    const bool none = it->initial_state == NULL;
    if (!none) memcpy(state, it->initial_state, (size_t)num_states * 4);
    run_prefill(pega_qwen35_kernels_named(name),
                how == 0 ? PEGA_QWEN35_CHUNKED : PEGA_QWEN35_RECURRENT, it, none ? NULL : state,
                output, state, 2);
    expect_below(how == 0 ? "chunked: output" : "recurrent: output", name,
                 gdr_compare_bf16(output, answer->output, num_outputs).rms, OUTPUT_LIMIT);
    expect_below(how == 0 ? "chunked: state" : "recurrent: state", name,
                 gdr_compare_f32(state, answer->final_state, num_states).rms, STATE_LIMIT);
  }
  free(output);
  free(state);
}

/* One token of each of a batch is a prefill of sequences of one token. */
static void run_decode(const char *name, int64_t key_heads, int64_t value_heads) {
  enum { kBatch = 5 };
  static const int64_t ones[kBatch] = {1, 1, 1, 1, 1};
  static const int32_t slots[kBatch] = {0, 1, 2, 3, 4};
  const gdr_options options = {.num_key_heads = key_heads,
                               .num_value_heads = value_heads,
                               .lengths = ones,
                               .num_sequences = kBatch,
                               .lowest_gate = -0.1,
                               .state_size = 0.3,
                               .seed = 78};
  gdr_problem it = gdr_problem_create(&options);
  gdr_answer answer = gdr_solve_recurrence(&it);
  const int64_t num_outputs = kBatch * value_heads * kGdrDim;
  const int64_t num_states = kBatch * value_heads * kGdrState;
  uint16_t *output = gdr_allocate(num_outputs, 2);
  const pega_qwen35_decode decode = {.q = it.q,
                                     .k = it.k,
                                     .v = it.v,
                                     .q_stride = key_heads * kGdrDim,
                                     .k_stride = key_heads * kGdrDim,
                                     .v_stride = value_heads * kGdrDim,
                                     .g = it.g,
                                     .beta = it.beta,
                                     .states = it.initial_state,
                                     .slots = {slots, 32},
                                     .output = output,
                                     .batch_size = kBatch,
                                     .num_slots = kBatch,
                                     .num_key_heads = key_heads,
                                     .num_value_heads = value_heads,
                                     .scale = (float)it.scale,
                                     .num_threads = 2};
  pega_qwen35_decode_cpu(pega_qwen35_kernels_named(name), &decode);
  expect_below("decode: output", name, gdr_compare_bf16(output, answer.output, num_outputs).rms,
               OUTPUT_LIMIT);
  expect_below("decode: state", name,
               gdr_compare_f32(it.initial_state, answer.final_state, num_states).rms, STATE_LIMIT);
  free(output);
  gdr_answer_free(&answer);
  gdr_problem_free(&it);
}

/* From projections to output, with a scale that is not the usual one. */
static void run_stages(const char *name) {
  enum { kTokens = 150, kKeyHeads = 2, kHeads = 4, kChunks = 3 };
  static const int64_t length[] = {kTokens};
  const gdr_options options = {.num_key_heads = kKeyHeads,
                               .num_value_heads = kHeads,
                               .lengths = length,
                               .num_sequences = 1,
                               .lowest_gate = -0.1,
                               .seed = 79,
                               .projected = true};
  const pega_qwen35_kernels *kernels = pega_qwen35_kernels_named(name);
  gdr_problem it = gdr_problem_create(&options);
  it.scale = 0.3;
  gdr_answer answer = gdr_solve_recurrence(&it);
  enum { kRows = kTokens * kHeads };
  uint16_t *q = gdr_allocate(kRows * kGdrDim, 2), *k = gdr_allocate(kRows * kGdrDim, 2),
           *v = gdr_allocate(kRows * kGdrDim, 2), *w = gdr_allocate(kRows * kGdrDim, 2),
           *u = gdr_allocate(kRows * kGdrDim, 2), *v_new = gdr_allocate(kRows * kGdrDim, 2),
           *output = gdr_allocate(kRows * kGdrDim, 2), *a_inv = gdr_allocate(kRows * kGdrChunk, 2);
  float *g = gdr_allocate(kRows, 4), *beta = gdr_allocate(kRows, 4), *sums = gdr_allocate(kRows, 4),
        *a_tril = gdr_allocate(kRows * kGdrChunk, 4),
        *states = gdr_allocate(kChunks * kHeads * kGdrState, 4),
        *state = gdr_allocate(kHeads * kGdrState, 4);
  pega_qwen35_chunk_prepare_cpu(kernels, it.qkv, it.b, it.a, it.dt_bias, it.a_log, q, k, v, g, beta,
                                kTokens, kKeyHeads, kHeads, 2);
  pega_qwen35_chunk_cumsum_cpu(g, sums, kTokens, kHeads, 2);
  pega_qwen35_chunk_a_cpu(kernels, k, sums, beta, a_tril, kTokens, kHeads, 2);
  assert_int_equal(pega_qwen35_chunk_solve_cpu_with(name, a_tril, a_inv, kTokens, kHeads, 2), 0);
  pega_qwen35_chunk_recompute_cpu(kernels, k, v, beta, w, u, a_inv, sums, kTokens, kHeads, 2);
  pega_qwen35_chunk_state_cpu(kernels, k, w, u, sums, NULL, states, v_new, state, kTokens, kHeads,
                              2);
  pega_qwen35_chunk_o_cpu(kernels, q, k, v_new, states, sums, output, kTokens, kHeads,
                          (float)it.scale, 2);
  expect_below("stages: output", name, gdr_compare_bf16(output, answer.output, kRows * kGdrDim).rms,
               STAGES_OUTPUT_LIMIT);
  expect_below("stages: state", name,
               gdr_compare_f32(state, answer.final_state, kHeads * kGdrState).rms,
               STAGES_STATE_LIMIT);
  void *const all[] = {q, k, v, w, u, v_new, output, a_inv, g, beta, sums, a_tril, states, state};
  for (int i = 0; i < COUNT(all); ++i) free(all[i]);
  gdr_answer_free(&answer);
  gdr_problem_free(&it);
}

static void test_every_set(void **state) {
  (void)state;
  static const int64_t heads[][2] = {{1, 1}, {2, 4}, {1, 3}};
  static const double gates[] = {-0.1, -10};
  for (int h = 0; h < COUNT(heads); ++h) {
    for (int g = 0; g < COUNT(gates); ++g) {
      gdr_problem problem = make_problem(heads[h][0], heads[h][1], gates[g], 0.3);
      gdr_answer answer = gdr_solve_recurrence(&problem);
      const char *name;
      for (int i = 0; (name = pega_qwen35_kernels_name(i)) != NULL; ++i) {
        run_prefills(name, &problem, &answer);
        run_decode(name, heads[h][0], heads[h][1]);
        if (h == 0 && g == 0) run_stages(name);
        if (h == 0 && g == 0) print_message("%s\n", name);
      }
      gdr_answer_free(&answer);
      gdr_problem_free(&problem);
    }
  }
}

/* Without states a sequence begins with another chunk, and with fewer products. */
static void test_no_state(void **state) {
  (void)state;
  gdr_problem problem = make_problem(2, 4, -0.1, 0);
  assert_null(problem.initial_state);
  gdr_answer answer = gdr_solve_recurrence(&problem);
  const char *name;
  for (int i = 0; (name = pega_qwen35_kernels_name(i)) != NULL; ++i) {
    run_prefills(name, &problem, &answer);
  }
  gdr_answer_free(&answer);
  gdr_problem_free(&problem);
}

/* However many threads there are, and thus however heads are cut: also where a head's state is
 * zero, all of it or in some columns, and products with it are left out. */
static void test_number_of_threads(void **state) {
  (void)state;
  static const int threads[] = {1, 2, 3, 64};
  gdr_problem problem = make_problem(2, 4, -0.1, 0.3);
  const int64_t num_heads = problem.num_sequences * problem.num_value_heads;
  const int64_t num_outputs = problem.num_tokens * problem.num_value_heads * kGdrDim;
  for (int64_t head = 0; head < num_heads; ++head) {
    float *row = problem.initial_state + head * kGdrState;
    for (int d = 0; d < kGdrDim; ++d, row += kGdrDim) {
      const int num_zeros = head % 4 == 0 ? 0 : head % 4 == 2 ? kGdrDim / 2 : kGdrDim;
      memset(row, 0, (size_t)num_zeros * sizeof *row);
      /* Rows of one number, and zeros below them, are not a zero state. */
      for (int v = 0; head % 4 == 3 && d < kGdrDim / 2 && v < kGdrDim; ++v) row[v] = 0.25f;
    }
  }
  gdr_answer answer = gdr_solve_recurrence(&problem);
  uint16_t *outputs[2] = {gdr_allocate(num_outputs, 2), gdr_allocate(num_outputs, 2)};
  float *states[2] = {gdr_allocate(num_heads * kGdrState, 4),
                      gdr_allocate(num_heads * kGdrState, 4)};
  const char *name;
  for (int i = 0; (name = pega_qwen35_kernels_name(i)) != NULL; ++i) {
    for (int t = 0; t < COUNT(threads); ++t) {
      run_prefill(pega_qwen35_kernels_named(name), PEGA_QWEN35_CHUNKED, &problem,
                  problem.initial_state, outputs[t > 0], states[t > 0], threads[t]);
      if (t == 0) {
        expect_below("zeros among the states: output", name,
                     gdr_compare_bf16(outputs[0], answer.output, num_outputs).rms, OUTPUT_LIMIT);
        expect_below("zeros among the states: state", name,
                     gdr_compare_f32(states[0], answer.final_state, num_heads * kGdrState).rms,
                     STATE_LIMIT);
      } else {
        assert_memory_equal(outputs[0], outputs[1], (size_t)num_outputs * 2);
        assert_memory_equal(states[0], states[1], (size_t)num_heads * kGdrState * 4);
      }
    }
  }
  for (int i = 0; i < 2; ++i) {
    free(outputs[i]);
    free(states[i]);
  }
  gdr_answer_free(&answer);
  gdr_problem_free(&problem);
}

static void test_names(void **state) {
  (void)state;
  assert_non_null(pega_qwen35_kernels_named("portable"));
  assert_null(pega_qwen35_kernels_named("nonsense"));
  assert_null(pega_qwen35_kernels_name(100));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_set), cmocka_unit_test(test_no_state),
      cmocka_unit_test(test_number_of_threads), cmocka_unit_test(test_names)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
