/* SPDX-License-Identifier: Apache-2.0 */
/* The seven stages on CPU tensors: each against its formula in fp64, and all of them, one after the
 * other, against the recurrence. */
#include <stdio.h>
#include <stdlib.h>

#include "gdr_stages.h"

/* Relative rms of what is fp32. What is bf16 has to be the formula's number, rounded. */
static const double fp32_limit = 1e-5;

static gdr_error worst[NUM_TENSORS];

static void run_stage(gdr_stage stage, const gdr_stage_problem *problem, bool final_state) {
  const gdr_stage_description *it = &gdr_stage_descriptions[stage];
  const void *places[NUM_TENSORS];
  gdr_guarded outputs[NUM_TENSORS];
  for (int i = 0; i < NUM_TENSORS; ++i) places[i] = problem->data[i];
  for (int i = it->first_output; i < it->first_output + it->num_outputs; ++i) {
    const gdr_tensor tensor = it->tensors[i];
    outputs[tensor] = gdr_guarded_create(problem->bytes[tensor]);
    places[tensor] = tensor == TENSOR_FINAL_STATE && !final_state ? NULL : outputs[tensor].data;
  }
  gdr_args args;
  pega_error error = PEGA_ERROR_INIT;
  gdr_stage_tensor_args(&args, stage, &problem->problem, CPU, places);
  EXPECT_OK(gdr_run(&args, &error), &error);
  for (int i = it->first_output; i < it->first_output + it->num_outputs; ++i) {
    const gdr_tensor tensor = it->tensors[i];
    assert_true(gdr_guarded_intact(&outputs[tensor]));
    if (places[tensor] == NULL) {
      assert_true(gdr_guarded_untouched(&outputs[tensor]));
    } else {
      const gdr_error got = gdr_stage_compare(problem, tensor, outputs[tensor].data);
      worst[tensor] = gdr_worse(worst[tensor], got);
      const int64_t bad = !gdr_tensor_is_bf16(tensor)
                              ? !(got.rms <= fp32_limit)
                              : gdr_badly_rounded(outputs[tensor].data, problem->expected[tensor],
                                                  problem->counts[tensor]);
      if (bad != 0) {
        print_error("%s of %s, T=%d HK=%d HV=%d: rms %.3g, max %.3g; %s\n", gdr_tensor_name(tensor),
                    it->name, (int)problem->problem.num_tokens, (int)problem->problem.num_key_heads,
                    (int)problem->problem.num_value_heads, got.rms, got.max,
                    gdr_tensor_is_bf16(tensor) ? "badly rounded" : "rms at most 1e-5");
        fail();
      }
    }
    gdr_guarded_free(&outputs[tensor]);
  }
}

static void test_each_against_its_formula(void **state) {
  (void)state;
  static const int64_t lengths[] = {0, 1, 2, 63, 64, 65, 127, 128, 129, 200};
  static const int64_t heads[][2] = {{1, 1}, {1, 3}, {2, 4}, {2, 2}};
  static const double gates[] = {-0.1, -10};
  uint64_t seed = 20;
  for (int t = 0; t < COUNT(lengths); ++t) {
    for (int h = 0; h < COUNT(heads); ++h) {
      for (int g = 0; g < COUNT(gates); ++g) {
        const bool given = (t + h) % 2 == 0;
        gdr_stage_problem problem =
            gdr_stage_problem_create(lengths[t], heads[h][0], heads[h][1], gates[g], given, ++seed);
        for (int stage = 0; stage < NUM_STAGES; ++stage) {
          run_stage((gdr_stage)stage, &problem, true);
        }
        run_stage(STAGE_STATE, &problem, false);
        gdr_stage_problem_free(&problem);
      }
    }
  }
  for (int i = 0; i < NUM_TENSORS; ++i) {
    if (worst[i].max > 0) {
      print_message("%-12s worst rms %.2e, max %.2e (%s)\n", gdr_tensor_name((gdr_tensor)i),
                    worst[i].rms, worst[i].max,
                    gdr_tensor_is_bf16((gdr_tensor)i) ? "each well rounded" : "rms at most 1e-5");
    }
  }
}

/* Exactly: v is copied; A and its inverse are 0 where they have nothing; an empty state is handed on. */
static void test_exact_parts(void **state) {
  (void)state;
  enum { kTokens = 70, kHeads = 2 };
  gdr_stage_problem problem = gdr_stage_problem_create(kTokens, 1, kHeads, -0.1, true, 7);
  const void *places[NUM_TENSORS];
  gdr_guarded written[NUM_TENSORS];
  for (int i = 0; i < NUM_TENSORS; ++i) {
    places[i] = problem.data[i];
    written[i] = gdr_guarded_create(problem.bytes[i]);
  }
  gdr_args args;
  pega_error error = PEGA_ERROR_INIT;
  static const gdr_tensor prepared[] = {TENSOR_Q, TENSOR_K, TENSOR_V, TENSOR_G, TENSOR_BETA};
  for (int i = 0; i < COUNT(prepared); ++i) places[prepared[i]] = written[prepared[i]].data;
  gdr_stage_tensor_args(&args, STAGE_PREPARE, &problem.problem, CPU, places);
  EXPECT_OK(gdr_run(&args, &error), &error);
  assert_memory_equal(written[TENSOR_V].data, problem.data[TENSOR_V],
                      (size_t)problem.bytes[TENSOR_V]);

  places[TENSOR_A_TRIL] = written[TENSOR_A_TRIL].data;
  gdr_stage_tensor_args(&args, STAGE_A, &problem.problem, CPU, places);
  EXPECT_OK(gdr_run(&args, &error), &error);
  places[TENSOR_A_INV] = written[TENSOR_A_INV].data;
  gdr_stage_tensor_args(&args, STAGE_SOLVE, &problem.problem, CPU, places);
  EXPECT_OK(gdr_run(&args, &error), &error);
  const float *a_tril = places[TENSOR_A_TRIL];
  const uint16_t *a_inv = places[TENSOR_A_INV];
  for (int64_t row = 0; row < kTokens * kHeads; ++row) {
    const int64_t i = row / kHeads % kGdrChunk;
    assert_int_equal(a_inv[row * kGdrChunk + i], 0x3f80);
    for (int64_t j = i; j < kGdrChunk; ++j) {
      assert_true(a_tril[row * kGdrChunk + j] == 0);
      assert_true(j == i || a_inv[row * kGdrChunk + j] == 0);
    }
  }

  gdr_problem empty = problem.problem;
  empty.num_tokens = 0;
  places[TENSOR_FINAL_STATE] = written[TENSOR_FINAL_STATE].data;
  gdr_stage_tensor_args(&args, STAGE_STATE, &empty, CPU, places);
  EXPECT_OK(gdr_run(&args, &error), &error);
  assert_memory_equal(places[TENSOR_FINAL_STATE], places[TENSOR_INITIAL_STATE],
                      (size_t)problem.bytes[TENSOR_FINAL_STATE]);
  places[TENSOR_INITIAL_STATE] = NULL;
  gdr_guarded_poison(&written[TENSOR_FINAL_STATE]);
  gdr_stage_tensor_args(&args, STAGE_STATE, &empty, CPU, places);
  EXPECT_OK(gdr_run(&args, &error), &error);
  for (int64_t i = 0; i < kHeads * kGdrState; ++i) {
    assert_true(((const float *)places[TENSOR_FINAL_STATE])[i] == 0);
  }
  for (int i = 0; i < NUM_TENSORS; ++i) {
    assert_true(gdr_guarded_intact(&written[i]));
    gdr_guarded_free(&written[i]);
  }
  gdr_stage_problem_free(&problem);
}

/* All seven, each on what the one before wrote. w, u, v_new and the inverse are bf16 between them. */
static void chain(int64_t num_tokens, int64_t num_key_heads, int64_t num_value_heads,
                  double lowest_gate, bool in_place, uint64_t seed) {
  gdr_stage_problem problem = gdr_stage_problem_create(num_tokens, num_key_heads, num_value_heads,
                                                       lowest_gate, in_place, seed);
  const void *places[NUM_TENSORS];
  gdr_guarded written[NUM_TENSORS];
  for (int i = 0; i < NUM_TENSORS; ++i) {
    written[i] = gdr_guarded_create(problem.bytes[i]);
    places[i] = i < TENSOR_Q ? problem.data[i] : written[i].data;
  }
  places[TENSOR_INITIAL_STATE] = NULL;
  if (in_place) {
    memcpy(written[TENSOR_FINAL_STATE].data, problem.data[TENSOR_INITIAL_STATE],
           (size_t)problem.bytes[TENSOR_FINAL_STATE]);
    places[TENSOR_INITIAL_STATE] = places[TENSOR_FINAL_STATE];
  }
  pega_error error = PEGA_ERROR_INIT;
  for (int stage = 0; stage < NUM_STAGES; ++stage) {
    gdr_args args;
    gdr_stage_tensor_args(&args, (gdr_stage)stage, &problem.problem, CPU, places);
    EXPECT_OK(gdr_run(&args, &error), &error);
  }
  const gdr_error output =
      gdr_compare_bf16(places[TENSOR_OUTPUT], problem.answer.output, problem.counts[TENSOR_OUTPUT]);
  const gdr_error final = gdr_compare_f32(places[TENSOR_FINAL_STATE], problem.answer.final_state,
                                          problem.counts[TENSOR_FINAL_STATE]);
  print_message(
      "T=%-4d HK=%-2d HV=%-2d gates to %-4g: output rms %.2e max %.2e, final state rms %.2e max "
      "%.2e\n",
      (int)num_tokens, (int)num_key_heads, (int)num_value_heads, lowest_gate, output.rms,
      output.max, final.rms, final.max);
  assert_true(output.rms <= 3.8e-3);
  assert_true(final.rms <= 3.0e-3);
  for (int i = 0; i < NUM_TENSORS; ++i) {
    assert_true(gdr_guarded_intact(&written[i]));
    gdr_guarded_free(&written[i]);
  }
  gdr_stage_problem_free(&problem);
}

static void test_all_against_the_recurrence(void **state) {
  (void)state;
  static const int64_t lengths[] = {1, 63, 64, 65, 129, 200};
  for (int t = 0; t < COUNT(lengths); ++t) {
    chain(lengths[t], 2, 4, -0.1, t % 2 == 1, 40);
    chain(lengths[t], 1, 3, -10, t % 2 == 0, 41);
  }
  if (SUPPORT_SANITIZED) return;
  chain(1000, 16, 32, -0.1, false, 42);
  chain(1000, 16, 32, -10, false, 43);
}

#define REFUSED(status, ...)                                                        \
  do {                                                                              \
    pega_error error_ = PEGA_ERROR_INIT;                                            \
    EXPECT_ERROR(gdr_run(&args, &error_), &error_, status, args.name, __VA_ARGS__); \
    pega_error_clear(&error_);                                                      \
    gdr_stage_tensor_args(&args, stage, &problem.problem, CPU, places);             \
  } while (0)

/* Every tensor of every stage: of another type, size, layout; on another's memory. */
static void test_refusals(void **state) {
  (void)state;
  gdr_stage_problem problem = gdr_stage_problem_create(65, 1, 2, -0.1, true, 9);
  gdr_guarded written[NUM_TENSORS];
  for (int i = 0; i < NUM_TENSORS; ++i) written[i] = gdr_guarded_create(problem.bytes[i]);
  for (int s = 0; s < NUM_STAGES; ++s) {
    const gdr_stage stage = (gdr_stage)s;
    const gdr_stage_description *it = &gdr_stage_descriptions[stage];
    const void *places[NUM_TENSORS];
    for (int i = 0; i < NUM_TENSORS; ++i) places[i] = problem.data[i];
    for (int i = it->first_output; i < it->first_output + it->num_outputs; ++i) {
      places[it->tensors[i]] = written[it->tensors[i]].data;
    }
    gdr_args args;
    gdr_stage_tensor_args(&args, stage, &problem.problem, CPU, places);
    for (int i = 0; i < it->num_tensors; ++i) {
      char argument[40];
      snprintf(argument, sizeof argument, "argument %d '", i);
      args.tensors[i].dtype = DTYPE(kDLFloat, 16, 1);
      REFUSED(PEGA_ERROR_DTYPE, argument, "got float16");
      args.tensors[i].ndim -= 1;
      REFUSED(PEGA_ERROR_SHAPE, argument);
      args.shapes[i][args.tensors[i].ndim - 1] += 1;
      /* The first tensor to name a size gives it: a later one is then the odd one. */
      REFUSED(PEGA_ERROR_SHAPE, "expected");
      if (args.tensors[i].ndim > 1) {
        const int32_t last = args.tensors[i].ndim - 1;
        int64_t strides[4];
        for (int32_t d = last; d >= 0; --d) {
          strides[d] = d == last ? 1 : strides[d + 1] * args.shapes[i][d + 1];
        }
        strides[0] *= 2;
        args.tensors[i].strides = strides;
        REFUSED(PEGA_ERROR_LAYOUT, argument, "contiguous");
      }
      args.tensors[i].data = NULL;
      REFUSED(PEGA_ERROR_INVALID_ARGUMENT, argument, "NULL");
      args.tensors[i].device = DEVICE(kDLCUDA, 0);
      REFUSED(PEGA_ERROR_DEVICE, "cuda:0");
      const bool output = i >= it->first_output && i < it->first_output + it->num_outputs;
      for (int j = 0; output && j < it->num_tensors; ++j) {
        const gdr_tensor other = it->tensors[j];
        if (j == i) continue;
        /* The one pair that may share memory, and all of it: a state changed in place. */
        if (other == TENSOR_INITIAL_STATE && it->tensors[i] == TENSOR_FINAL_STATE) {
          args.tensors[i].data = (char *)(uintptr_t)places[other] + 4;
        } else {
          args.tensors[i].data = (void *)(uintptr_t)places[other];
        }
        REFUSED(PEGA_ERROR_LAYOUT, "overlap", gdr_tensor_name(it->tensors[i]));
      }
    }
    for (int i = it->first_output; i < it->first_output + it->num_outputs; ++i) {
      assert_true(gdr_guarded_untouched(&written[it->tensors[i]]));
    }
    args.values[0] = pega_value_none();
    REFUSED(PEGA_ERROR_TYPE, "argument 0 '", "got None");
  }
  for (int i = 0; i < NUM_TENSORS; ++i) gdr_guarded_free(&written[i]);
  gdr_stage_problem_free(&problem);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_each_against_its_formula),
      cmocka_unit_test(test_exact_parts),
      cmocka_unit_test(test_all_against_the_recurrence),
      cmocka_unit_test(test_refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
