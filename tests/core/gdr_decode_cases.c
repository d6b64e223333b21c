/* SPDX-License-Identifier: Apache-2.0 */
/* Cases of the decode step. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "gdr_cases.h"

enum { kMost = 16 };

/* One step for a batch: which state each token has in a pool. */
typedef struct step {
  int64_t batch_size;
  int64_t num_slots;
  int64_t slots[kMost]; /* negative: padding */
  bool no_slots;        /* token i has state i */
} step;

static const step steps[] = {
    {3, 7, {6, 0, 3}, false},
    {8, 11, {5, -1, 9, -7, 8, 3, INT32_MIN, 0}, false},
    {3, 3, {0}, true},
    {1, 1, {0}, true},
    {1, 1, {0}, false},
    {1, 5, {3}, false},
    {3, 3, {2, 0, 1}, false},
    {8, 8, {0}, true},
    {8, 11, {10, 1, 9, 2, 8, 3, 7, 0}, false},
    {2, 4, {-1, -1}, false},
    {0, 3, {0}, false},
    {2, 6, {0}, true},
};
enum { kFewSteps = 3 };

typedef struct form {
  int64_t num_key_heads;
  int64_t num_value_heads;
  bool projected;
  bool normalize;
  bool check;
  int slot_bits;
} form;

static int64_t slot_of(const step *it, int64_t i) { return it->no_slots ? i : it->slots[i]; }

static void expect_within(const char *name, gdr_error got, double limit, const step *it,
                          const form *how) {
  if (got.rms <= limit) return;
  print_error("B=%d of %d states, HK=%d HV=%d, %s form%s: %s: rms %.3g, max %.3g; at most %.3g\n",
              (int)it->batch_size, (int)it->num_slots, (int)how->num_key_heads,
              (int)how->num_value_heads, how->projected ? "projected" : "plain",
              how->normalize ? ", normalized" : "", name, got.rms, got.max, limit);
  fail();
}

/* The pool before the step: the batch's states, and numbers that nobody may touch. */
static float *make_pool(const step *it, const gdr_problem *problem, bool asked[kMost]) {
  const int64_t size = problem->num_value_heads * kGdrState;
  float *pool = gdr_allocate(it->num_slots * size, sizeof *pool);
  for (int64_t i = 0; i < it->num_slots * size; ++i) pool[i] = (float)(i % 1000) + 0.5f;
  for (int64_t i = 0; i < it->batch_size; ++i) {
    const int64_t slot = slot_of(it, i);
    if (slot < 0) continue;
    asked[slot] = true;
    memcpy(pool + slot * size, problem->initial_state + i * size, (size_t)size * 4);
  }
  return pool;
}

static void run_step(const gdr_setting *setting, const step *it, const form *how, uint64_t seed) {
  static const int64_t ones[kMost] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  const gdr_place *place = setting->place;
  const int64_t hk = how->num_key_heads;
  const int64_t hv = how->num_value_heads;
  const int64_t b = it->batch_size;
  const int64_t state_size = hv * kGdrState;
  const gdr_options options = {.num_key_heads = hk,
                               .num_value_heads = hv,
                               .lengths = ones,
                               .num_sequences = b,
                               .lowest_gate = seed % 2 == 0 ? -0.1 : -10,
                               .state_size = 0.4,
                               .seed = seed,
                               .projected = how->projected,
                               .long_rows = how->normalize};
  gdr_problem problem = gdr_problem_create(&options);
  gdr_answer answer = gdr_solve_recurrence(&problem);
  bool asked[kMost] = {false};
  float *before = make_pool(it, &problem, asked);
  int32_t narrow[kMost];
  for (int64_t i = 0; i < b; ++i) narrow[i] = (int32_t)slot_of(it, i);

  const gdr_memory host = gdr_host_memory(&problem);
  gdr_memory memory = {
      .device = place->device, .num_slots = it->num_slots, .slot_bits = how->slot_bits};
  gdr_buffer all[8];
  gdr_args args;
  all[0] = place->create(it->num_slots * state_size * 4, before);
  all[1] = place->create(b * hv * kGdrDim * 2, NULL);
  all[2] = how->slot_bits == 32 ? place->create(b * 4, narrow) : place->create(b * 8, it->slots);
  memory.states = all[0].data;
  memory.output = all[1].data;
  memory.slots = it->no_slots ? NULL : all[2].data;
  if (how->projected) {
    memory.qkv = (all[3] = place->create(b * (2 * hk + hv) * kGdrDim * 2, host.qkv)).data;
    memory.b = (all[4] = place->create(b * hv * 2, host.b)).data;
    memory.a = (all[5] = place->create(b * hv * 2, host.a)).data;
    memory.dt_bias = (all[6] = place->create(hv * 2, host.dt_bias)).data;
    memory.a_log = (all[7] = place->create(hv * 4, host.a_log)).data;
    gdr_decode_projected_args(&args, &problem, &memory);
    if (how->check) args.values[DECODE_PROJECTED_CHECK] = pega_value_bool(true);
  } else {
    memory.q = (all[3] = place->create(b * hk * kGdrDim * 2, host.q)).data;
    memory.k = (all[4] = place->create(b * hk * kGdrDim * 2, host.k)).data;
    memory.v = (all[5] = place->create(b * hv * kGdrDim * 2, host.v)).data;
    memory.g = (all[6] = place->create(b * hv * 4, host.g)).data;
    memory.beta = (all[7] = place->create(b * hv * 4, host.beta)).data;
    gdr_decode_args(&args, &problem, &memory);
    if (how->normalize) args.values[DECODE_NORMALIZE] = pega_value_bool(true);
    if (how->check) args.values[DECODE_CHECK] = pega_value_bool(true);
  }
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_OK(place->run(&args, &error), &error);
  for (int i = 0; i < COUNT(all); ++i) assert_true(place->intact(all[i]));

  uint16_t *output = gdr_allocate(b * hv * kGdrDim, 2);
  float *pool = gdr_allocate(it->num_slots * state_size, 4);
  place->read(all[0], pool);
  place->read(all[1], output);
  for (int64_t i = 0; i < b; ++i) {
    const int64_t slot = slot_of(it, i);
    double *rows = answer.output + i * hv * kGdrDim;
    if (slot < 0) {
      for (int64_t j = 0; j < hv * kGdrDim; ++j) {
        assert_int_equal(output[i * hv * kGdrDim + j], 0);
        rows[j] = 0;
      }
      continue;
    }
    expect_within(
        "state",
        gdr_compare_f32(pool + slot * state_size, answer.final_state + i * state_size, state_size),
        setting->state_limit, it, how);
  }
  expect_within("output", gdr_compare_bf16(output, answer.output, b * hv * kGdrDim),
                setting->output_limit, it, how);
  for (int64_t s = 0; s < it->num_slots; ++s) {
    if (asked[s]) continue;
    assert_memory_equal(pool + s * state_size, before + s * state_size, (size_t)state_size * 4);
  }
  for (int i = 0; i < COUNT(all); ++i) place->destroy(all[i]);
  free(output);
  free(pool);
  free(before);
  gdr_answer_free(&answer);
  gdr_problem_free(&problem);
}

void gdr_case_decode_batches(const gdr_setting *setting) {
  static const int64_t heads[][2] = {{2, 6}, {1, 1}, {16, 32}};
  uint64_t seed = 10;
  for (int s = 0; s < (setting->brief ? kFewSteps : COUNT(steps)); ++s) {
    for (int h = 0; h < (setting->brief ? 1 : COUNT(heads)); ++h) {
      for (int kind = 0; kind < 3; ++kind) {
        ++seed;
        const form how = {.num_key_heads = heads[h][0],
                          .num_value_heads = heads[h][1],
                          .projected = kind == 1,
                          .normalize = kind == 2,
                          .check = seed % 3 == 0,
                          .slot_bits = seed % 2 == 0 ? 32 : 64};
        run_step(setting, &steps[s], &how, seed);
      }
    }
  }
}

void gdr_case_decode_heads(const gdr_setting *setting) {
  static const int64_t heads[][2] = {{2, 2}, {4, 8}, {16, 48}, {16, 64}, {1, 7}};
  for (int h = 0; h < (setting->brief ? 1 : COUNT(heads)); ++h) {
    const form how = {
        .num_key_heads = heads[h][0], .num_value_heads = heads[h][1], .slot_bits = 64};
    run_step(setting, &steps[0], &how, 60 + (uint64_t)h);
  }
}

/* Step after step in place: as good as a prefill of all. */
static void run_many_steps(const gdr_setting *setting, int64_t num_steps, double lowest_gate) {
  enum { kHeads = 4 };
  const gdr_place *place = setting->place;
  gdr_problem whole = gdr_problem_simple(num_steps, 2, kHeads, lowest_gate, 70);
  gdr_answer answer = gdr_solve_recurrence(&whole);
  const int64_t row = kHeads * kGdrDim;
  const int64_t slot = 1;
  float *pool = gdr_allocate(2 * kHeads * kGdrState, 4);
  memset(pool, 0, 2 * kHeads * kGdrState * 4);
  const gdr_buffer all[] = {place->create(num_steps * 2 * kGdrDim * 2, whole.q),
                            place->create(num_steps * 2 * kGdrDim * 2, whole.k),
                            place->create(num_steps * row * 2, whole.v),
                            place->create(num_steps * kHeads * 4, whole.g),
                            place->create(num_steps * kHeads * 4, whole.beta),
                            place->create(num_steps * row * 2, NULL),
                            place->create(2 * kHeads * kGdrState * 4, pool),
                            place->create(8, &slot)};
  gdr_problem sizes = whole;
  sizes.num_tokens = 1;
  pega_error error = PEGA_ERROR_INIT;
  for (int64_t t = 0; t < num_steps; ++t) {
    const gdr_memory memory = {.device = place->device,
                               .q = (uint16_t *)all[0].data + t * 2 * kGdrDim,
                               .k = (uint16_t *)all[1].data + t * 2 * kGdrDim,
                               .v = (uint16_t *)all[2].data + t * row,
                               .g = (float *)all[3].data + t * kHeads,
                               .beta = (float *)all[4].data + t * kHeads,
                               .output = (uint16_t *)all[5].data + t * row,
                               .states = all[6].data,
                               .num_slots = 2,
                               .slots = all[7].data,
                               .slot_bits = 64};
    gdr_args args;
    gdr_decode_args(&args, &sizes, &memory);
    /* What is left out at the end is None. */
    args.count = t % 2 == 0 ? NUM_DECODE : DECODE_OUTPUT + 1;
    EXPECT_OK(place->run(&args, &error), &error);
  }
  uint16_t *output = gdr_allocate(num_steps * row, 2);
  place->read(all[5], output);
  place->read(all[6], pool);
  const gdr_error outputs = gdr_compare_bf16(output, answer.output, num_steps * row);
  const gdr_error states =
      gdr_compare_f32(pool + kHeads * kGdrState, answer.final_state, kHeads * kGdrState);
  print_message("%d steps, g in [%g, 0]: output rms %.2e max %.2e, state rms %.2e max %.2e\n",
                (int)num_steps, lowest_gate, outputs.rms, outputs.max, states.rms, states.max);
  gdr_expect_within("output", outputs, setting->output_limit, &whole, "decode", "many steps");
  gdr_expect_within("state", states, setting->state_limit, &whole, "decode", "many steps");
  for (int64_t i = 0; i < kHeads * kGdrState; ++i) assert_true(pool[i] == 0);
  for (int i = 0; i < COUNT(all); ++i) {
    assert_true(place->intact(all[i]));
    place->destroy(all[i]);
  }
  free(output);
  free(pool);
  gdr_answer_free(&answer);
  gdr_problem_free(&whole);
}

void gdr_case_decode_many_steps(const gdr_setting *setting) {
  run_many_steps(setting, setting->brief ? 5 : 200, -0.1);
  if (!setting->brief) run_many_steps(setting, 200, -10);
}

void gdr_case_decode_extremes(const gdr_setting *setting) {
  static const float gates[] = {0, -10, -1e4f, -INFINITY};
  static const float betas[] = {0, 1, 0.5f};
  enum { kHeads = 8 };
  const gdr_place *place = setting->place;
  const int64_t one = 1;
  for (int i = 0; i < COUNT(gates) * COUNT(betas); ++i) {
    const gdr_options options = {.num_key_heads = 1,
                                 .num_value_heads = kHeads,
                                 .lengths = &one,
                                 .num_sequences = 1,
                                 .lowest_gate = -0.1,
                                 .state_size = 0.4,
                                 .seed = 80};
    gdr_problem problem = gdr_problem_create(&options);
    for (int h = 0; h < kHeads; ++h) {
      problem.g[h] = gates[i / COUNT(betas)];
      problem.beta[h] = betas[i % COUNT(betas)];
    }
    problem.scale = 0.5;
    gdr_answer answer = gdr_solve_recurrence(&problem);
    const gdr_buffer all[] = {place->create(kGdrDim * 2, problem.q),
                              place->create(kGdrDim * 2, problem.k),
                              place->create(kHeads * kGdrDim * 2, problem.v),
                              place->create(kHeads * 4, problem.g),
                              place->create(kHeads * 4, problem.beta),
                              place->create(kHeads * kGdrDim * 2, NULL),
                              place->create(kHeads * kGdrState * 4, problem.initial_state)};
    const gdr_memory memory = {.device = place->device,
                               .q = all[0].data,
                               .k = all[1].data,
                               .v = all[2].data,
                               .g = all[3].data,
                               .beta = all[4].data,
                               .output = all[5].data,
                               .states = all[6].data,
                               .num_slots = 1};
    gdr_args args;
    gdr_decode_args(&args, &problem, &memory);
    args.values[DECODE_SCALE] = pega_value_float(problem.scale);
    args.values[DECODE_CHECK] = pega_value_bool(true);
    pega_error error = PEGA_ERROR_INIT;
    EXPECT_OK(place->run(&args, &error), &error);
    uint16_t output[kHeads * kGdrDim];
    place->read(all[5], output);
    place->read(all[6], problem.initial_state);
    gdr_expect_within("output", gdr_compare_bf16(output, answer.output, kHeads * kGdrDim),
                      setting->output_limit, &problem, "decode", "gates and betas at the ends");
    gdr_expect_within(
        "state", gdr_compare_f32(problem.initial_state, answer.final_state, kHeads * kGdrState),
        setting->state_limit, &problem, "decode", "gates and betas at the ends");
    for (int j = 0; j < COUNT(all); ++j) {
      assert_true(place->intact(all[j]));
      place->destroy(all[j]);
    }
    gdr_answer_free(&answer);
    gdr_problem_free(&problem);
  }
}
