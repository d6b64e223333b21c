/* SPDX-License-Identifier: Apache-2.0 */
/* The whole prefill on CPU tensors, against the recurrence in fp64. */
#include <math.h>
#include <stdlib.h>

#include "gdr_cases.h"

static const char *const implementations[] = {NULL, "cpu_chunked", "cpu_recurrent"};

/* There everything takes ten times as long, and what threads share does not depend on shapes. */
#if defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZED true
#elif defined(__has_feature)
#define THREAD_SANITIZED __has_feature(thread_sanitizer)
#else
#define THREAD_SANITIZED false
#endif

/* Rounding the output to bf16 alone is about 1.7e-3. */
static const gdr_setting cpu = {.place = &gdr_cpu_place,
                                .implementations = implementations,
                                .num_implementations = COUNT(implementations),
                                .output_limit = 2.0e-3,
                                .state_limit = 1e-4,
                                .brief = THREAD_SANITIZED};

#define CASE(name)                        \
  static void test_##name(void **state) { \
    (void)state;                          \
    gdr_case_##name(&cpu);                \
  }

/* Large inputs. */
static void test_measured_inputs(void **state) {
  (void)state;
  gdr_setting setting = cpu;
  setting.brief = SUPPORT_SANITIZED;
  gdr_case_measured_inputs(&setting);
}

CASE(heads)
CASE(lengths)
CASE(sequences)
CASE(sequences_are_alone)
CASE(projected)
CASE(normalize)
CASE(scale)
CASE(extremes)
CASE(in_place)
CASE(carried_states)
CASE(workspace)

/* What is left out at the end is None; at an odd address the queried size is enough, too. */
static void test_arguments_left_out(void **state) {
  (void)state;
  gdr_problem problem = gdr_problem_simple(70, 1, 2, -0.1, 160);
  gdr_answer answer = gdr_solve_recurrence(&problem);
  gdr_guarded output = gdr_guarded_create(70 * 2 * kGdrDim * 2);
  gdr_memory memory = gdr_host_memory(&problem);
  memory.output = output.data;
  memory.cu_seqlens = NULL;
  gdr_args args;
  gdr_prefill_args(&args, &problem, &memory);
  pega_error error = PEGA_ERROR_INIT;
  for (args.count = PREFILL_OUTPUT + 1; args.count <= NUM_PREFILL; ++args.count) {
    gdr_guarded_poison(&output);
    EXPECT_OK(gdr_run(&args, &error), &error);
    assert_true(gdr_compare_bf16(output.data, answer.output, 70 * 2 * kGdrDim).rms <=
                cpu.output_limit);
  }
  args.count = NUM_PREFILL;
  const int64_t bytes = gdr_workspace_bytes(&problem, CPU, false, false, NULL);
  for (int shift = 0; shift < 70; shift += 23) {
    gdr_guarded workspace = gdr_guarded_create(bytes + shift);
    gdr_set_tensor(&args, PREFILL_WORKSPACE, CPU, UINT8, (char *)workspace.data + shift, 1, &bytes);
    gdr_guarded_poison(&output);
    EXPECT_OK(gdr_run(&args, &error), &error);
    assert_true(gdr_compare_bf16(output.data, answer.output, 70 * 2 * kGdrDim).rms <=
                cpu.output_limit);
    assert_true(gdr_guarded_intact(&workspace));
    gdr_guarded_free(&workspace);
  }
  assert_true(gdr_guarded_intact(&output));
  gdr_guarded_free(&output);
  gdr_answer_free(&answer);
  gdr_problem_free(&problem);
}

/* The table that chooses says so: one is taken, and it is what a call without a name does. */
static void test_explanation(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_function *explain;
  EXPECT_OK(pega_registry_get(PEGA_QWEN35_PREFILL_EXPLAIN, &explain, &error), &error);
  static const int64_t lengths[] = {1, 1000};
  for (int t = 0; t < COUNT(lengths); ++t) {
    gdr_problem problem = gdr_problem_simple(lengths[t], 1, 2, -0.1, 170);
    gdr_answer answer = gdr_solve_recurrence(&problem);
    pega_value table;
    EXPECT_OK(pega_function_call(
                  explain,
                  ARGS(pega_value_device(CPU), pega_value_int(lengths[t]), pega_value_int(1),
                       pega_value_int(1), pega_value_int(2), pega_value_bool(false)),
                  &table, &error),
              &error);
    int taken = 0;
    int here = 0;
    for (int64_t i = 0; i < pega_value_size(&table); ++i) {
      const pega_value *row = pega_array_get(&table, i);
      size_t size;
      const char *name = pega_value_as_string(pega_map_get(row, "name"), &size);
      const char *device = pega_value_as_string(pega_map_get(row, "device"), &size);
      const pega_value *is_taken = pega_map_get(row, "taken");
      assert_true(name != NULL && device != NULL && is_taken != NULL);
      assert_true(pega_value_as_string(pega_map_get(row, "reason"), &size) != NULL);
      if (strcmp(device, "cpu") != 0) {
        assert_false(is_taken->as.boolean);
        continue;
      }
      ++here;
      const gdr_variation how = {.implementation = name};
      gdr_outcome named =
          gdr_run_prefill(&cpu, &problem, &answer, &how, "a row of the table", true);
      gdr_outcome chosen =
          gdr_run_prefill(&cpu, &problem, &answer, &(gdr_variation){0}, "the table's choice", true);
      if (is_taken->as.boolean) {
        ++taken;
        assert_memory_equal(named.outputs, chosen.outputs, (size_t)lengths[t] * 2 * kGdrDim * 2);
        assert_memory_equal(named.final_states, chosen.final_states, 2 * kGdrState * 4);
      }
      free(named.outputs);
      free(named.final_states);
      free(chosen.outputs);
      free(chosen.final_states);
    }
    assert_int_equal(taken, 1);
    assert_int_equal(here, COUNT(implementations) - 1);
    pega_value_release(&table);
    gdr_answer_free(&answer);
    gdr_problem_free(&problem);
  }
  pega_function_release(explain);
}

/* ---- a long run ---- */

static void test_long_run(void **state) {
  (void)state;
  const int64_t length = SUPPORT_SANITIZED ? 20000 : 262144;
  enum { kPeriod = 4099, kHeads = 2 };
  const gdr_options options = {.num_key_heads = 1,
                               .num_value_heads = kHeads,
                               .lengths = &length,
                               .num_sequences = 1,
                               .lowest_gate = -0.1,
                               .seed = 180,
                               .period = kPeriod};
  gdr_problem problem = gdr_problem_create(&options);
  /* Rows in front, at chunk boundaries on the way, and all of the last hundred. */
  enum { kTokens = 8 + 100 };
  int64_t tokens[kTokens] = {
      0, 1, 63, 64, length / 2 - 1, length / 2, length / 4 * 3 + 17, length / 64 * 63};
  for (int i = 8; i < kTokens; ++i) tokens[i] = length - kTokens + i;
  static const int64_t heads[kHeads] = {0, 1};
  double *outputs = gdr_allocate(kHeads * kTokens * kGdrDim, sizeof *outputs);
  double *states = gdr_allocate(kHeads * kGdrState, sizeof *states);
  gdr_walk_heads(&problem, heads, kHeads, tokens, kTokens, outputs, states);

  uint16_t *q = gdr_allocate(length * kGdrDim, 2);
  uint16_t *k = gdr_allocate(length * kGdrDim, 2);
  uint16_t *v = gdr_allocate(length * kHeads * kGdrDim, 2);
  float *g = gdr_allocate(length * kHeads, 4);
  float *beta = gdr_allocate(length * kHeads, 4);
  for (int64_t t = 0; t < length; ++t) {
    const int64_t row = t % kPeriod;
    memcpy(q + t * kGdrDim, problem.q + row * kGdrDim, kGdrDim * 2);
    memcpy(k + t * kGdrDim, problem.k + row * kGdrDim, kGdrDim * 2);
    memcpy(v + t * kHeads * kGdrDim, problem.v + row * kHeads * kGdrDim, kHeads * kGdrDim * 2);
    memcpy(g + t * kHeads, problem.g + row * kHeads, kHeads * 4);
    memcpy(beta + t * kHeads, problem.beta + row * kHeads, kHeads * 4);
  }
  gdr_guarded output = gdr_guarded_create(length * kHeads * kGdrDim * 2);
  gdr_guarded final_state = gdr_guarded_create(kHeads * kGdrState * 4);
  const gdr_memory memory = {.device = CPU,
                             .q = q,
                             .k = k,
                             .v = v,
                             .g = g,
                             .beta = beta,
                             .output = output.data,
                             .final_state = final_state.data};
  gdr_args args;
  gdr_prefill_args(&args, &problem, &memory);
  pega_error error = PEGA_ERROR_INIT;
  for (int i = 1; i < COUNT(implementations); ++i) {
    args.values[PREFILL_IMPLEMENTATION] = pega_value_string(implementations[i]);
    gdr_guarded_poison(&output);
    gdr_guarded_poison(&final_state);
    EXPECT_OK(gdr_run(&args, &error), &error);
    assert_true(gdr_guarded_intact(&output) && gdr_guarded_intact(&final_state));
    for (int h = 0; h < kHeads; ++h) {
      uint16_t *rows = gdr_allocate(kTokens * kGdrDim, 2);
      for (int t = 0; t < kTokens; ++t) {
        memcpy(rows + t * kGdrDim, (uint16_t *)output.data + (tokens[t] * kHeads + h) * kGdrDim,
               kGdrDim * 2);
      }
      const gdr_error rows_error =
          gdr_compare_bf16(rows, outputs + h * kTokens * kGdrDim, kTokens * kGdrDim);
      const gdr_error state_error = gdr_compare_f32((float *)final_state.data + h * kGdrState,
                                                    states + h * kGdrState, kGdrState);
      print_message("T=%d %-13s head %d: output rms %.2e (%d rows), final state rms %.2e\n",
                    (int)length, implementations[i], h, rows_error.rms, kTokens, state_error.rms);
      gdr_expect_within("output", rows_error, cpu.output_limit, &problem, implementations[i],
                        "a long run");
      gdr_expect_within("final state", state_error, cpu.state_limit, &problem, implementations[i],
                        "a long run");
      free(rows);
    }
  }
  void *const all[] = {q, k, v, g, beta, outputs, states};
  for (int i = 0; i < COUNT(all); ++i) free(all[i]);
  gdr_guarded_free(&output);
  gdr_guarded_free(&final_state);
  gdr_problem_free(&problem);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_measured_inputs),
      cmocka_unit_test(test_heads),
      cmocka_unit_test(test_lengths),
      cmocka_unit_test(test_sequences),
      cmocka_unit_test(test_sequences_are_alone),
      cmocka_unit_test(test_projected),
      cmocka_unit_test(test_normalize),
      cmocka_unit_test(test_scale),
      cmocka_unit_test(test_extremes),
      cmocka_unit_test(test_in_place),
      cmocka_unit_test(test_carried_states),
      cmocka_unit_test(test_workspace),
      cmocka_unit_test(test_arguments_left_out),
      cmocka_unit_test(test_explanation),
      cmocka_unit_test(test_long_run),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
