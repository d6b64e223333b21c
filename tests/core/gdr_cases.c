/* SPDX-License-Identifier: Apache-2.0 */
/* Cases of the prefill. */
#include "gdr_cases.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const char *shown(const char *implementation) {
  return implementation == NULL ? "(chosen)" : implementation;
}

/* ---- the inputs on which error is measured ---- */

static void measure(const gdr_setting *setting, const gdr_problem *problem, bool projected,
                    double lowest_gate, uint64_t seed) {
  gdr_answer answer = gdr_solve_recurrence(problem);
  for (int i = 0; i < setting->num_implementations; ++i) {
    const gdr_variation how = {
        .implementation = setting->implementations[i], .projected = projected, .cu_bits = -1};
    if (!gdr_takes(how.implementation, problem, &how)) continue;
    const gdr_outcome got =
        gdr_run_prefill(setting, problem, &answer, &how, "measured inputs", false);
    print_message(
        "%s in [%g, 0] T=%-4d seed %d %-14s: output rms %.2e max %.2e, final state rms %.2e max "
        "%.2e\n",
        projected ? "projected, exp(a_log)" : "g", projected ? -lowest_gate : lowest_gate,
        (int)problem->num_tokens, (int)seed, shown(how.implementation), got.output.rms,
        got.output.max, got.final_state.rms, got.final_state.max);
  }
  gdr_answer_free(&answer);
}

void gdr_case_measured_inputs(const gdr_setting *setting) {
  static const int64_t lengths[] = {64, 256, 1000};
  static const double gates[] = {-0.1, -10};
  for (int g = 0; g < (setting->brief ? 1 : COUNT(gates)); ++g) {
    for (int t = 0; t < (setting->brief ? 1 : COUNT(lengths)); ++t) {
      for (uint64_t seed = 1; seed <= (setting->brief ? 1 : 2); ++seed) {
        gdr_options options = {.num_key_heads = 16,
                               .num_value_heads = 32,
                               .lengths = &lengths[t],
                               .num_sequences = 1,
                               .lowest_gate = gates[g],
                               .seed = seed};
        gdr_problem problem = gdr_problem_create(&options);
        measure(setting, &problem, false, gates[g], seed);
        gdr_problem_free(&problem);
        if (seed != 1) continue;
        options.projected = true;
        problem = gdr_problem_create(&options);
        measure(setting, &problem, true, gates[g], seed);
        gdr_problem_free(&problem);
      }
    }
  }
  print_message("limits: output rms %.1e, final state rms %.1e\n", setting->output_limit,
                setting->state_limit);
}

/* ---- shapes, lengths, sequences ---- */

void gdr_case_heads(const gdr_setting *setting) {
  static const int64_t heads[][2] = {{1, 1}, {2, 2}, {4, 8}, {1, 5}, {16, 32}, {16, 48}, {16, 64}};
  for (int h = 0; h < (setting->brief ? 4 : COUNT(heads)); ++h) {
    gdr_problem problem = gdr_problem_simple(h % 2 == 0 ? 129 : 65, heads[h][0], heads[h][1],
                                             h % 2 == 0 ? -0.1 : -10, 30 + (uint64_t)h);
    gdr_run_prefills(setting, &problem, (gdr_variation){0}, "heads");
    gdr_problem_free(&problem);
  }
}

void gdr_case_lengths(const gdr_setting *setting) {
  static const int64_t all[] = {0, 1, 2, 63, 64, 65, 127, 128, 129, 200};
  static const int64_t few[] = {0, 1, 65};
  const int64_t *lengths = setting->brief ? few : all;
  for (int t = 0; t < (setting->brief ? COUNT(few) : COUNT(all)); ++t) {
    for (int form = 0; form < 4; ++form) {
      const gdr_options options = {.num_key_heads = 2,
                                   .num_value_heads = 4,
                                   .lengths = &lengths[t],
                                   .num_sequences = 1,
                                   .lowest_gate = form % 2 == 0 ? -0.1 : -10,
                                   .state_size = form < 2 ? 0.3 : 0,
                                   .seed = 50 + (uint64_t)t,
                                   .projected = true};
      gdr_problem problem = gdr_problem_create(&options);
      const int cu_bits = form < 2 ? -1 : 64;
      gdr_run_prefills(setting, &problem, (gdr_variation){.cu_bits = cu_bits}, "lengths");
      gdr_run_prefills(setting, &problem, (gdr_variation){.cu_bits = cu_bits, .projected = true},
                       "lengths, projected");
      gdr_problem_free(&problem);
    }
  }
}

typedef struct batch {
  int64_t count;
  int64_t lengths[10];
} batch;

static const batch batches[] = {
    {4, {63, 1, 65, 0}},
    {3, {0, 0, 0}},
    {1, {0}},
    {1, {1}},
    {5, {1, 1, 1, 1, 1}},
    {3, {64, 0, 64}},
    {8, {0, 129, 0, 1, 127, 64, 2, 0}},
    {10, {1, 0, 0, 63, 64, 65, 1, 128, 3, 60}},
    {2, {200, 1}},
    {0, {0}},
};
enum { kFewBatches = 2 };

void gdr_case_sequences(const gdr_setting *setting) {
  for (int b = 0; b < (setting->brief ? kFewBatches : COUNT(batches)); ++b) {
    for (int form = 0; form < 4; ++form) {
      const gdr_options options = {.num_key_heads = 1,
                                   .num_value_heads = 2,
                                   .lengths = batches[b].lengths,
                                   .num_sequences = batches[b].count,
                                   .lowest_gate = form < 2 ? -0.1 : -10,
                                   .state_size = form % 2 == 0 ? 0.3 : 0,
                                   .seed = 70 + (uint64_t)b};
      gdr_problem problem = gdr_problem_create(&options);
      gdr_run_prefills(
          setting, &problem,
          (gdr_variation){.cu_bits = form % 2 == 0 ? 32 : 64, .no_final_state = form == 3},
          "sequences");
      gdr_problem_free(&problem);
    }
  }
}

void gdr_case_sequences_are_alone(const gdr_setting *setting) {
  static const int64_t lengths[] = {65, 3, 130};
  const gdr_options options = {.num_key_heads = 2,
                               .num_value_heads = 2,
                               .lengths = lengths,
                               .num_sequences = 3,
                               .lowest_gate = -0.1,
                               .state_size = 0.3,
                               .seed = 80};
  for (int i = 0; i < setting->num_implementations; ++i) {
    const gdr_variation how = {.implementation = setting->implementations[i]};
    gdr_problem problem = gdr_problem_create(&options);
    if (!gdr_takes(how.implementation, &problem, &how)) {
      gdr_problem_free(&problem);
      continue;
    }
    gdr_answer answer = gdr_solve_recurrence(&problem);
    gdr_outcome first = gdr_run_prefill(setting, &problem, &answer, &how, "a batch", true);
    gdr_answer_free(&answer);
    /* Everything of the second sequence becomes something else. */
    for (int64_t j = 65 * 2 * kGdrDim; j < 68 * 2 * kGdrDim; ++j) {
      problem.q[j] = problem.k[j % (65 * 2 * kGdrDim)];
      problem.v[j] = 0x4080;
    }
    for (int64_t j = 65 * 2; j < 68 * 2; ++j) problem.g[j] = -3;
    for (int64_t j = 2 * kGdrState; j < 4 * kGdrState; ++j) problem.initial_state[j] = 2;
    answer = gdr_solve_recurrence(&problem);
    gdr_outcome second =
        gdr_run_prefill(setting, &problem, &answer, &how, "a batch with another neighbour", true);
    gdr_answer_free(&answer);
    const int64_t row = 2 * kGdrDim;
    assert_memory_equal(first.outputs, second.outputs, 65 * row * 2);
    assert_memory_not_equal(first.outputs + 65 * row, second.outputs + 65 * row, 3 * row * 2);
    assert_memory_equal(first.outputs + 68 * row, second.outputs + 68 * row, 130 * row * 2);
    assert_memory_equal(first.final_states, second.final_states, 2 * kGdrState * 4);
    assert_memory_equal(first.final_states + 4 * kGdrState, second.final_states + 4 * kGdrState,
                        2 * kGdrState * 4);
    free(first.outputs);
    free(first.final_states);
    free(second.outputs);
    free(second.final_states);
    gdr_problem_free(&problem);
  }
}

/* ---- other forms of the inputs ---- */

void gdr_case_projected(const gdr_setting *setting) {
  static const int64_t heads[][2] = {{1, 4}, {2, 6}, {16, 32}};
  static const batch few[] = {{4, {63, 0, 1, 130}}, {1, {65}}, {1, {0}}, {2, {1, 1}}};
  for (int h = 0; h < (setting->brief ? 1 : COUNT(heads)); ++h) {
    for (int b = 0; b < (setting->brief ? 1 : COUNT(few)); ++b) {
      for (int form = 0; form < 2; ++form) {
        const gdr_options options = {.num_key_heads = heads[h][0],
                                     .num_value_heads = heads[h][1],
                                     .lengths = few[b].lengths,
                                     .num_sequences = few[b].count,
                                     .lowest_gate = form == 0 ? -0.1 : -10,
                                     .state_size = form == 0 ? 0.3 : 0,
                                     .seed = 90 + (uint64_t)b,
                                     .projected = true};
        gdr_problem problem = gdr_problem_create(&options);
        gdr_run_prefills(setting, &problem,
                         (gdr_variation){.projected = true, .cu_bits = 32, .workspace = form == 1},
                         "projected");
        if (few[b].count == 1) {
          gdr_run_prefills(setting, &problem, (gdr_variation){.projected = true, .cu_bits = -1},
                           "projected, one sequence");
        }
        /* The same from what prepare is to make of it. */
        gdr_run_prefills(setting, &problem, (gdr_variation){0}, "prepared by formula");
        gdr_problem_free(&problem);
      }
    }
  }
}

void gdr_case_normalize(const gdr_setting *setting) {
  static const int64_t lengths[] = {70, 1, 0, 64};
  const gdr_options options = {.num_key_heads = 2,
                               .num_value_heads = 4,
                               .lengths = lengths,
                               .num_sequences = 4,
                               .lowest_gate = -0.1,
                               .state_size = 0.3,
                               .seed = 100,
                               .long_rows = true};
  gdr_problem problem = gdr_problem_create(&options);
  gdr_run_prefills(setting, &problem, (gdr_variation){.check = true}, "normalize");
  gdr_run_prefills(setting, &problem, (gdr_variation){.workspace = true}, "normalize");
  /* Small rows, where the 1e-12 counts, large ones, and rows of zeros. */
  for (int d = 0; d < kGdrDim; ++d) {
    problem.long_k[d] = gdr_double_to_bf16(1e-7 * (d - 60));
    problem.long_q[3 * kGdrDim + d] = gdr_double_to_bf16(1e-8);
    problem.long_k[5 * kGdrDim + d] = gdr_double_to_bf16(1e3 * (d - 60));
    problem.long_q[7 * kGdrDim + d] = 0;
    problem.long_k[8 * kGdrDim + d] = 0;
  }
  gdr_problem_normalize(&problem);
  gdr_run_prefills(setting, &problem, (gdr_variation){0}, "normalize small and large rows");
  gdr_problem_free(&problem);
}

void gdr_case_scale(const gdr_setting *setting) {
  static const double scales[] = {-0.25, 1, 0};
  for (int i = 0; i < (setting->brief ? 1 : COUNT(scales)); ++i) {
    for (int projected = 0; projected < 2; ++projected) {
      const int64_t length = 100;
      const gdr_options options = {.num_key_heads = 1,
                                   .num_value_heads = 2,
                                   .lengths = &length,
                                   .num_sequences = 1,
                                   .lowest_gate = -0.1,
                                   .seed = 110,
                                   .projected = projected == 1};
      gdr_problem problem = gdr_problem_create(&options);
      problem.scale = scales[i];
      gdr_run_prefills(setting, &problem,
                       (gdr_variation){.scale = true, .projected = projected == 1, .cu_bits = -1},
                       "scale");
      gdr_problem_free(&problem);
    }
  }
}

/* ---- gates, betas and keys at the ends of what they may be ---- */

typedef enum extreme {
  BETA_ZERO,
  BETA_ONE,
  BETA_EITHER,
  GATE_ZERO,
  GATE_TEN,
  GATE_STRONG,
  GATE_INFINITE,
  GATE_SOMETIMES_STRONG,
  GATE_SOMETIMES_INFINITE,
  GATE_TINY,
  KEYS_EQUAL,
  KEYS_EQUAL_BETA_ONE,
  KEYS_ALTERNATE,
  NUM_EXTREMES
} extreme;

static const char *const extreme_names[NUM_EXTREMES] = {"beta 0",
                                                        "beta 1",
                                                        "beta 0 or 1",
                                                        "g 0",
                                                        "g -10",
                                                        "g -1e4",
                                                        "g -inf",
                                                        "g -1e4 sometimes",
                                                        "g -inf sometimes",
                                                        "g -1e-7",
                                                        "equal keys",
                                                        "equal keys, beta 1, g 0",
                                                        "keys x, -x, x, ..."};

static void make_gate_or_beta(extreme kind, int64_t t, float *g, float *beta) {
  switch (kind) {
    case BETA_ZERO:
      *beta = 0;
      break;
    case BETA_ONE:
      *beta = 1;
      break;
    case BETA_EITHER:
      *beta = (float)(t * 5 / 3 % 2);
      break;
    case GATE_ZERO:
      *g = 0;
      break;
    case GATE_TEN:
      *g = -10;
      break;
    case GATE_STRONG:
      *g = -1e4f;
      break;
    case GATE_INFINITE:
      *g = -INFINITY;
      break;
    case GATE_SOMETIMES_STRONG:
      if (t % 29 == 7) *g = -1e4f;
      break;
    case GATE_SOMETIMES_INFINITE:
      if (t % 29 == 7 || t % 64 == 0 || t % 64 == 63) *g = -INFINITY;
      break;
    case GATE_TINY:
      *g = -1e-7f;
      break;
    case KEYS_EQUAL_BETA_ONE:
      *g = 0;
      *beta = 1;
      break;
    case KEYS_EQUAL:
    case KEYS_ALTERNATE:
    case NUM_EXTREMES:
      break;
  }
}

static void make_extreme(gdr_problem *problem, extreme kind) {
  const int64_t hv = problem->num_value_heads;
  const int64_t row = problem->num_key_heads * kGdrDim;
  for (int64_t i = 0; i < problem->num_tokens * hv; ++i) {
    make_gate_or_beta(kind, i / hv, &problem->g[i], &problem->beta[i]);
  }
  if (kind < KEYS_EQUAL) return;
  for (int64_t t = 1; t < problem->num_tokens; ++t) {
    const uint16_t sign = kind == KEYS_ALTERNATE && t % 2 == 1 ? 0x8000 : 0;
    for (int64_t i = 0; i < row; ++i) {
      problem->k[t * row + i] = (uint16_t)(problem->k[i] ^ sign);
    }
  }
}

/* The same with limits for an extreme. */
static gdr_setting relaxed(const gdr_setting *setting, extreme kind) {
  const double times = kind >= KEYS_EQUAL ? setting->for_equal_keys : setting->at_edges;
  gdr_setting out = *setting;
  out.output_limit *= fmax(times, 1);
  out.state_limit *= fmax(times, 1);
  return out;
}

void gdr_case_extremes(const gdr_setting *setting) {
  static const int64_t lengths[] = {70, 1, 64, 200};
  /* Briefly: what is computed does not say which memory is read. */
  for (int kind = 0; kind < NUM_EXTREMES; kind += setting->brief ? 4 : 1) {
    for (int t = 0; t < (setting->brief ? 1 : COUNT(lengths)); ++t) {
      const gdr_options options = {.num_key_heads = 1,
                                   .num_value_heads = 4,
                                   .lengths = &lengths[t],
                                   .num_sequences = 1,
                                   .lowest_gate = -0.1,
                                   .state_size = t % 2 == 0 ? 0.3 : 0,
                                   .seed = 120 + (uint64_t)t};
      gdr_problem problem = gdr_problem_create(&options);
      make_extreme(&problem, (extreme)kind);
      const gdr_setting limits = relaxed(setting, (extreme)kind);
      gdr_run_prefills(&limits, &problem, (gdr_variation){.check = true}, extreme_names[kind]);
      gdr_problem_free(&problem);
    }
  }
}

/* ---- states that are carried ---- */

void gdr_case_in_place(const gdr_setting *setting) {
  for (int projected = 0; projected < 2; ++projected) {
    for (int b = 0; b < 2; ++b) {
      const gdr_options options = {.num_key_heads = 1,
                                   .num_value_heads = 2,
                                   .lengths = batches[b * 6].lengths,
                                   .num_sequences = b == 0 ? 1 : batches[6].count,
                                   .lowest_gate = -0.1,
                                   .state_size = 0.3,
                                   .seed = 130,
                                   .projected = projected == 1};
      gdr_problem problem = gdr_problem_create(&options);
      gdr_run_prefills(
          setting, &problem,
          (gdr_variation){
              .in_place = true, .projected = projected == 1, .cu_bits = b == 0 ? -1 : 64},
          "in place");
      gdr_problem_free(&problem);
    }
  }
}

/* One call of two on parts of the same tensors. */
typedef struct part {
  int64_t begin;
  int64_t end;
  bool decode;
} part;

static void run_part(const gdr_setting *setting, const gdr_problem *whole, const gdr_memory *all,
                     part it, const char *implementation) {
  const int64_t hk = whole->num_key_heads;
  const int64_t hv = whole->num_value_heads;
  gdr_problem sizes = *whole;
  sizes.num_tokens = it.end - it.begin;
  gdr_memory memory = *all;
  gdr_args args;
  memory.output = (const uint16_t *)all->output + it.begin * hv * kGdrDim;
  if (all->qkv != NULL) {
    memory.qkv = (const uint16_t *)all->qkv + it.begin * (2 * hk + hv) * kGdrDim;
    memory.b = (const uint16_t *)all->b + it.begin * hv;
    memory.a = (const uint16_t *)all->a + it.begin * hv;
    if (it.decode) {
      gdr_decode_projected_args(&args, &sizes, &memory);
    } else {
      gdr_projected_args(&args, &sizes, &memory);
      args.values[PROJECTED_IMPLEMENTATION] = pega_value_string(implementation);
    }
  } else {
    memory.q = (const uint16_t *)all->q + it.begin * hk * kGdrDim;
    memory.k = (const uint16_t *)all->k + it.begin * hk * kGdrDim;
    memory.v = (const uint16_t *)all->v + it.begin * hv * kGdrDim;
    memory.g = (const float *)all->g + it.begin * hv;
    memory.beta = (const float *)all->beta + it.begin * hv;
    if (it.decode) {
      gdr_decode_args(&args, &sizes, &memory);
    } else {
      gdr_prefill_args(&args, &sizes, &memory);
      args.values[PREFILL_IMPLEMENTATION] = pega_value_string(implementation);
    }
  }
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_OK(setting->place->run(&args, &error), &error);
}

static void run_in_parts(const gdr_setting *setting, const gdr_problem *whole,
                         const gdr_answer *answer, bool projected, int64_t split,
                         const char *implementation) {
  const gdr_place *place = setting->place;
  const int64_t hk = whole->num_key_heads;
  const int64_t hv = whole->num_value_heads;
  const int64_t t = whole->num_tokens;
  const int64_t num_outputs = t * hv * kGdrDim;
  const int64_t num_states = hv * kGdrState;
  const bool decode = t == split + 1;
  gdr_buffer inputs[5];
  gdr_memory memory = {.device = place->device};
  if (projected) {
    inputs[0] = place->create(t * (2 * hk + hv) * kGdrDim * 2, whole->qkv);
    inputs[1] = place->create(t * hv * 2, whole->b);
    inputs[2] = place->create(t * hv * 2, whole->a);
    inputs[3] = place->create(hv * 2, whole->dt_bias);
    inputs[4] = place->create(hv * 4, whole->a_log);
    memory.qkv = inputs[0].data;
    memory.b = inputs[1].data;
    memory.a = inputs[2].data;
    memory.dt_bias = inputs[3].data;
    memory.a_log = inputs[4].data;
  } else {
    inputs[0] = place->create(t * hk * kGdrDim * 2, whole->q);
    inputs[1] = place->create(t * hk * kGdrDim * 2, whole->k);
    inputs[2] = place->create(t * hv * kGdrDim * 2, whole->v);
    inputs[3] = place->create(t * hv * 4, whole->g);
    inputs[4] = place->create(t * hv * 4, whole->beta);
    memory.q = inputs[0].data;
    memory.k = inputs[1].data;
    memory.v = inputs[2].data;
    memory.g = inputs[3].data;
    memory.beta = inputs[4].data;
  }
  const gdr_buffer output = place->create(num_outputs * 2, NULL);
  const gdr_buffer carried = place->create(num_states * 4, whole->initial_state);
  memory.output = output.data;
  memory.initial_state = whole->initial_state == NULL ? NULL : carried.data;
  memory.final_state = carried.data;
  run_part(setting, whole, &memory, (part){0, split, false}, implementation);
  memory.initial_state = memory.states = carried.data;
  memory.num_slots = 1;
  run_part(setting, whole, &memory, (part){split, t, decode}, implementation);
  assert_true(place->intact(output) && place->intact(carried));

  uint16_t *outputs = gdr_allocate(num_outputs, 2);
  float *states = gdr_allocate(num_states, 4);
  place->read(output, outputs);
  place->read(carried, states);
  const char *what = decode ? "prefill, then a decode step" : "two prefills";
  gdr_expect_within("output", gdr_compare_bf16(outputs, answer->output, num_outputs),
                    setting->output_limit, whole, implementation, what);
  gdr_expect_within("final state", gdr_compare_f32(states, answer->final_state, num_states),
                    setting->state_limit, whole, implementation, what);

  /* And they are what one prefill gives: two answers, each within the limit. */
  const gdr_variation how = {
      .implementation = implementation, .projected = projected, .cu_bits = -1};
  gdr_outcome once = gdr_run_prefill(setting, whole, answer, &how, "one prefill", true);
  double *one = gdr_widen_bf16(once.outputs, num_outputs);
  double *one_state = gdr_widen_f32(once.final_states, num_states);
  gdr_expect_within("output beside that of one prefill",
                    gdr_compare_bf16(outputs, one, num_outputs), 2 * setting->output_limit, whole,
                    implementation, what);
  gdr_expect_within("final state beside that of one prefill",
                    gdr_compare_f32(states, one_state, num_states), 2 * setting->state_limit, whole,
                    implementation, what);
  void *const all[] = {outputs, states, one, one_state, once.outputs, once.final_states};
  for (int i = 0; i < COUNT(all); ++i) free(all[i]);
  for (int i = 0; i < 5; ++i) place->destroy(inputs[i]);
  place->destroy(output);
  place->destroy(carried);
}

void gdr_case_carried_states(const gdr_setting *setting) {
  /* Where the first call ends, and the second. One token is a decode step. */
  static const int64_t splits[][2] = {{64, 65},   {65, 130},  {1, 2},    {63, 64},
                                      {100, 101}, {128, 192}, {40, 170}, {0, 70}};
  for (int s = 0; s < (setting->brief ? 2 : COUNT(splits)); ++s) {
    for (int projected = 0; projected < 2; ++projected) {
      const gdr_options options = {
          .num_key_heads = 2,
          .num_value_heads = 8, /* a token's b is 16 bytes then: as a GPU wants it */
          .lengths = &splits[s][1],
          .num_sequences = 1,
          .lowest_gate = s % 2 == 0 ? -0.1 : -10,
          .state_size = s % 3 == 0 ? 0.3 : 0,
          .seed = 140 + (uint64_t)s,
          .projected = projected == 1};
      gdr_problem whole = gdr_problem_create(&options);
      gdr_answer answer = gdr_solve_recurrence(&whole);
      const gdr_variation how = {.projected = projected == 1, .cu_bits = -1};
      for (int i = 0; i < setting->num_implementations; ++i) {
        if (!gdr_takes(setting->implementations[i], &whole, &how)) continue;
        run_in_parts(setting, &whole, &answer, projected == 1, splits[s][0],
                     setting->implementations[i]);
      }
      gdr_answer_free(&answer);
      gdr_problem_free(&whole);
    }
  }
}

void gdr_case_workspace(const gdr_setting *setting) {
  for (int b = 0; b < (setting->brief ? kFewBatches : COUNT(batches)); ++b) {
    const gdr_options options = {.num_key_heads = 2,
                                 .num_value_heads = 6,
                                 .lengths = batches[b].lengths,
                                 .num_sequences = batches[b].count,
                                 .lowest_gate = -0.1,
                                 .seed = 150 + (uint64_t)b,
                                 .projected = true};
    gdr_problem problem = gdr_problem_create(&options);
    gdr_variation how = {.workspace = true};
    gdr_run_prefills(setting, &problem, how, "the caller's workspace");
    how.projected = true;
    gdr_run_prefills(setting, &problem, how, "the caller's workspace, projected");
    how.cu_bits = -1;
    if (batches[b].count == 1) {
      gdr_run_prefills(setting, &problem, how, "the caller's workspace, one sequence");
    }
    gdr_problem_free(&problem);
  }
}
