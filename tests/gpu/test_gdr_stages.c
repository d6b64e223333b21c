/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seven stages on a GPU: each in its three forms against its formula in fp64, and all of them, one
 * after the other, against the recurrence. PEGA_TEST_BRIEF leaves a few shapes, for tools that watch
 * memory.
 */
#include <stdio.h>
#include <stdlib.h>

#include "gdr_device.h"
#include "gdr_stages.h"

typedef enum stage_form {
  FORM_OF_TENSORS,
  FORM_OF_POINTERS,
  FORM_OF_C,
  NUM_STAGE_FORMS
} stage_form;
static const char *const form_names[NUM_STAGE_FORMS] = {"tensor form", "raw form", "C symbol"};

/* Relative rms: products are of bf16 with sums in fp32. */
static double limit_of(gdr_tensor tensor) {
  switch (tensor) {
    case TENSOR_G:
    case TENSOR_BETA:
    case TENSOR_G_CUMSUM:
    case TENSOR_A_TRIL:
      return 1e-5;
    case TENSOR_CHUNK_STATE:
    case TENSOR_FINAL_STATE:
      return 3.0e-3;
    default:
      return 3.8e-3;
  }
}

static gdr_error worst[NUM_TENSORS];

/* What one call of one stage has where. */
typedef struct memory {
  gdr_buffer buffers[NUM_TENSORS];
  const void *places[NUM_TENSORS];
} memory;

static bool is_output(const gdr_stage_description *stage, gdr_tensor tensor) {
  for (int i = stage->first_output; i < stage->first_output + stage->num_outputs; ++i) {
    if (stage->tensors[i] == tensor) return true;
  }
  return false;
}

static memory make(gdr_stage stage, const gdr_stage_problem *problem) {
  const gdr_stage_description *it = &gdr_stage_descriptions[stage];
  memory all;
  memset(&all, 0, sizeof all);
  for (int i = 0; i < it->num_tensors; ++i) {
    const gdr_tensor tensor = it->tensors[i];
    const bool output = is_output(it, tensor);
    if (!output && problem->data[tensor] == NULL) continue;
    all.buffers[tensor] =
        gdr_device_place.create(problem->bytes[tensor], output ? NULL : problem->data[tensor]);
    all.places[tensor] = all.buffers[tensor].data;
  }
  return all;
}

static void unmake(memory *all) {
  for (int i = 0; i < NUM_TENSORS; ++i) {
    if (all->buffers[i].data == NULL) continue;
    assert_true(gdr_device_place.intact(all->buffers[i]));
    gdr_device_place.destroy(all->buffers[i]);
  }
}

static pega_status call(gdr_stage stage, stage_form form, const gdr_problem *sizes,
                        const void *const places[NUM_TENSORS], CUstream stream, pega_error *error) {
  gdr_args args;
  gdr_args tensors;
  pega_status status;
  gdr_stage_tensor_args(&tensors, stage, sizes, CUDA0, places);
  if (form == FORM_OF_TENSORS) return gdr_device_call(&tensors, stream, error);
  if (form == FORM_OF_POINTERS) {
    gdr_stage_raw_args(&args, stage, sizes, places, stream);
    status = gdr_run(&args, error);
  } else {
    const int result = gdr_stage_symbol(stage, sizes, places, stream);
    status = pega_symbol_last_error(error);
    if (result != 0 && status == PEGA_OK) status = PEGA_ERROR_INTERNAL;
  }
  return status == PEGA_OK && gpu.fake ? gdr_device_call(&tensors, stream, error) : status;
}

static void run_stage(gdr_stage stage, const gdr_stage_problem *problem, bool final_state) {
  const gdr_stage_description *it = &gdr_stage_descriptions[stage];
  memory all = make(stage, problem);
  if (!final_state) all.places[TENSOR_FINAL_STATE] = NULL;
  void *first[NUM_TENSORS] = {NULL};
  for (int form = 0; form < NUM_STAGE_FORMS; ++form) {
    for (int i = 0; i < it->num_outputs; ++i) {
      gdr_device_poison(all.buffers[it->tensors[it->first_output + i]]);
    }
    pega_error error = PEGA_ERROR_INIT;
    EXPECT_OK(call(stage, (stage_form)form, &problem->problem, all.places, NULL, &error), &error);
    GPU_OK(gpu.synchronize());
    for (int i = 0; i < it->num_outputs; ++i) {
      const gdr_tensor tensor = it->tensors[it->first_output + i];
      if (all.places[tensor] == NULL) {
        assert_true(gdr_device_untouched(all.buffers[tensor]));
        continue;
      }
      void *got = gdr_allocate(problem->bytes[tensor], 1);
      gdr_device_place.read(all.buffers[tensor], got);
      if (form == 0) {
        first[tensor] = got;
        const gdr_error error_of = gdr_stage_compare(problem, tensor, got);
        worst[tensor] = gdr_worse(worst[tensor], error_of);
        if (!(error_of.rms <= limit_of(tensor))) {
          print_error("%s of %s, T=%d HK=%d HV=%d: rms %.3g, max %.3g; at most %.3g\n",
                      gdr_tensor_name(tensor), it->name, (int)problem->problem.num_tokens,
                      (int)problem->problem.num_key_heads, (int)problem->problem.num_value_heads,
                      error_of.rms, error_of.max, limit_of(tensor));
          fail();
        }
        continue;
      }
      if (memcmp(first[tensor], got, (size_t)problem->bytes[tensor]) != 0) {
        print_error("%s of %s, T=%d HV=%d: the %s and the tensor form differ\n",
                    gdr_tensor_name(tensor), it->name, (int)problem->problem.num_tokens,
                    (int)problem->problem.num_value_heads, form_names[form]);
        fail();
      }
      free(got);
    }
  }
  for (int i = 0; i < NUM_TENSORS; ++i) free(first[i]);
  unmake(&all);
}

static void test_each_against_its_formula(void **state) {
  (void)state;
  static const int64_t all_lengths[] = {0, 1, 63, 64, 65, 127, 129, 200};
  static const int64_t few_lengths[] = {1, 65};
  static const int64_t heads[][2] = {{1, 3}, {2, 4}, {1, 1}, {16, 32}};
  static const double gates[] = {-0.1, -10};
  const bool brief = gdr_device_exact || gpu.fake;
  const int64_t *lengths = brief ? few_lengths : all_lengths;
  uint64_t seed = 20;
  int problems = 0;
  for (int t = 0; t < (brief ? COUNT(few_lengths) : COUNT(all_lengths)); ++t) {
    for (int h = 0; h < (brief ? 1 : COUNT(heads)); ++h) {
      for (int g = 0; g < COUNT(gates); ++g, ++problems) {
        gdr_stage_problem problem = gdr_stage_problem_create(
            lengths[t], heads[h][0], heads[h][1], gates[g], (t + h + g) % 2 == 0, ++seed);
        for (int stage = 0; stage < NUM_STAGES; ++stage) {
          run_stage((gdr_stage)stage, &problem, true);
        }
        run_stage(STAGE_STATE, &problem, false);
        gdr_stage_problem_free(&problem);
      }
    }
  }
  printf("%d problems, each stage in 3 forms with the same bits\n", problems);
  for (int i = 0; i < NUM_TENSORS; ++i) {
    if (worst[i].max > 0) {
      printf("%-12s worst rms %.2e, max %.2e (rms at most %.1e)\n", gdr_tensor_name((gdr_tensor)i),
             worst[i].rms, worst[i].max, limit_of((gdr_tensor)i));
    }
  }
}

/* Exactly: v is copied; A and its inverse are 0 where they have nothing. */
static void test_exact_parts(void **state) {
  (void)state;
  enum { kTokens = 70, kHeads = 3 };
  gdr_stage_problem problem = gdr_stage_problem_create(kTokens, 1, kHeads, -0.1, true, 7);
  pega_error error = PEGA_ERROR_INIT;

  memory all = make(STAGE_PREPARE, &problem);
  EXPECT_OK(call(STAGE_PREPARE, FORM_OF_TENSORS, &problem.problem, all.places, NULL, &error),
            &error);
  uint16_t *v = gdr_allocate(problem.bytes[TENSOR_V], 1);
  gdr_device_place.read(all.buffers[TENSOR_V], v);
  assert_memory_equal(v, problem.data[TENSOR_V], (size_t)problem.bytes[TENSOR_V]);
  free(v);
  unmake(&all);

  all = make(STAGE_A, &problem);
  EXPECT_OK(call(STAGE_A, FORM_OF_TENSORS, &problem.problem, all.places, NULL, &error), &error);
  float *a_tril = gdr_allocate(problem.bytes[TENSOR_A_TRIL], 1);
  gdr_device_place.read(all.buffers[TENSOR_A_TRIL], a_tril);
  for (int64_t row = 0; row < kTokens * kHeads; ++row) {
    for (int64_t j = row / kHeads % kGdrChunk; j < kGdrChunk; ++j) {
      assert_true(a_tril[row * kGdrChunk + j] == 0);
    }
  }
  free(a_tril);
  unmake(&all);

  /* An empty state is handed on, or is zeros. */
  for (int given = 0; given < 2; ++given) {
    all = make(STAGE_STATE, &problem);
    gdr_problem empty = problem.problem;
    empty.num_tokens = 0;
    if (given == 0) all.places[TENSOR_INITIAL_STATE] = NULL;
    EXPECT_OK(call(STAGE_STATE, FORM_OF_TENSORS, &empty, all.places, NULL, &error), &error);
    GPU_OK(gpu.synchronize());
    float *final_state = gdr_allocate(problem.bytes[TENSOR_FINAL_STATE], 1);
    gdr_device_place.read(all.buffers[TENSOR_FINAL_STATE], final_state);
    for (int64_t i = 0; i < problem.counts[TENSOR_FINAL_STATE]; ++i) {
      const float expected =
          given == 0 ? 0 : ((const float *)problem.data[TENSOR_INITIAL_STATE])[i];
      assert_true(final_state[i] == expected);
    }
    free(final_state);
    assert_true(gdr_device_untouched(all.buffers[TENSOR_V_NEW]));
    assert_true(gdr_device_untouched(all.buffers[TENSOR_CHUNK_STATE]));
    unmake(&all);
  }
  gdr_stage_problem_free(&problem);
}

/* All seven, each on what the one before wrote, on a stream of their own. */
static void chain(int64_t num_tokens, int64_t num_key_heads, int64_t num_value_heads,
                  double lowest_gate, bool in_place, stage_form form) {
  gdr_stage_problem problem = gdr_stage_problem_create(num_tokens, num_key_heads, num_value_heads,
                                                       lowest_gate, in_place, 40);
  CUstream stream;
  GPU_OK(gpu.stream_create(&stream, GPU_STREAM_NON_BLOCKING));
  memory all;
  memset(&all, 0, sizeof all);
  for (int i = 0; i < NUM_TENSORS; ++i) {
    if (i == TENSOR_INITIAL_STATE) continue;
    const void *from = i < TENSOR_Q ? problem.data[i] : NULL;
    if (in_place && i == TENSOR_FINAL_STATE) from = problem.data[TENSOR_INITIAL_STATE];
    all.buffers[i] = gdr_device_place.create(problem.bytes[i], from);
    all.places[i] = all.buffers[i].data;
  }
  if (in_place) all.places[TENSOR_INITIAL_STATE] = all.places[TENSOR_FINAL_STATE];
  pega_error error = PEGA_ERROR_INIT;
  for (int stage = 0; stage < NUM_STAGES; ++stage) {
    EXPECT_OK(call((gdr_stage)stage, form, &problem.problem, all.places, stream, &error), &error);
  }
  GPU_OK(gpu.stream_synchronize(stream));
  uint16_t *outputs = gdr_allocate(problem.bytes[TENSOR_OUTPUT], 1);
  float *states = gdr_allocate(problem.bytes[TENSOR_FINAL_STATE], 1);
  gdr_device_place.read(all.buffers[TENSOR_OUTPUT], outputs);
  gdr_device_place.read(all.buffers[TENSOR_FINAL_STATE], states);
  const gdr_error output =
      gdr_compare_bf16(outputs, problem.answer.output, problem.counts[TENSOR_OUTPUT]);
  const gdr_error final_state =
      gdr_compare_f32(states, problem.answer.final_state, problem.counts[TENSOR_FINAL_STATE]);
  printf(
      "T=%-4d HK=%-2d HV=%-2d gates to %-4g, %-11s: output rms %.2e max %.2e, final state rms "
      "%.2e max %.2e\n",
      (int)num_tokens, (int)num_key_heads, (int)num_value_heads, lowest_gate, form_names[form],
      output.rms, output.max, final_state.rms, final_state.max);
  assert_true(output.rms <= 3.8e-3);
  assert_true(final_state.rms <= 3.0e-3);
  free(outputs);
  free(states);
  unmake(&all);
  GPU_OK(gpu.stream_destroy(stream));
  gdr_stage_problem_free(&problem);
}

static void test_all_against_the_recurrence(void **state) {
  (void)state;
  if (gdr_device_exact) skip();
  static const int64_t lengths[] = {1, 63, 64, 65, 129, 200};
  for (int t = 0; t < COUNT(lengths); ++t) {
    chain(lengths[t], 2, 4, -0.1, t % 2 == 1, (stage_form)(t % NUM_STAGE_FORMS));
    chain(lengths[t], 1, 3, -10, t % 2 == 0, (stage_form)((t + 1) % NUM_STAGE_FORMS));
  }
  if (gpu.fake) return;
  chain(1000, 16, 32, -0.1, false, FORM_OF_C);
  chain(1000, 16, 32, -10, false, FORM_OF_C);
  chain(1000, 16, 64, -0.1, true, FORM_OF_C);
}

/* Every pointer of every stage, in every form: not aligned, on an output. */
static void test_refused(void **state) {
  (void)state;
  gdr_stage_problem problem = gdr_stage_problem_create(65, 1, 2, -0.1, true, 9);
  for (int s = 0; s < NUM_STAGES; ++s) {
    const gdr_stage stage = (gdr_stage)s;
    const gdr_stage_description *it = &gdr_stage_descriptions[stage];
    memory all = make(stage, &problem);
    pega_error error = PEGA_ERROR_INIT;
    for (int i = 0; i < it->num_tensors; ++i) {
      const gdr_tensor tensor = it->tensors[i];
      const void *places[NUM_TENSORS];
      for (int form = 0; form < NUM_STAGE_FORMS; ++form) {
        memcpy(places, all.places, sizeof places);
        places[tensor] = (const char *)places[tensor] + 8;
        EXPECT_ERROR(call(stage, (stage_form)form, &problem.problem, places, NULL, &error), &error,
                     PEGA_ERROR_LAYOUT, "aligned to 16 bytes");
        const gdr_tensor output = it->tensors[it->first_output];
        if (tensor == output) continue;
        memcpy(places, all.places, sizeof places);
        places[output] = places[tensor];
        EXPECT_ERROR(call(stage, (stage_form)form, &problem.problem, places, NULL, &error), &error,
                     PEGA_ERROR_LAYOUT, "overlap");
      }
    }
    pega_error_clear(&error);
    GPU_OK(gpu.synchronize());
    for (int i = 0; i < it->num_outputs; ++i) {
      assert_true(gdr_device_untouched(all.buffers[it->tensors[it->first_output + i]]));
    }
    unmake(&all);
  }
  gdr_stage_problem_free(&problem);
}

int main(void) {
  const int status = gdr_device_begin(PEGA_QWEN35_CHUNK_STATE_RAW);
  if (status != 0) return status;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_each_against_its_formula),
      cmocka_unit_test(test_exact_parts),
      cmocka_unit_test(test_all_against_the_recurrence),
      cmocka_unit_test(test_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
