/* SPDX-License-Identifier: Apache-2.0 */
/* One prefill wherever the tensors are, and what must be true of it. */
#include <stdio.h>
#include <stdlib.h>

#include "gdr_cases.h"

/* ---- the CPU ---- */

static gdr_buffer cpu_create(int64_t bytes, const void *from) {
  const gdr_guarded guarded = gdr_guarded_create(bytes);
  if (from != NULL) memcpy(guarded.data, from, (size_t)bytes);
  return (gdr_buffer){guarded.data, bytes};
}

static gdr_buffer cpu_create_workspace(int64_t bytes) { return cpu_create(bytes, NULL); }

static void cpu_read(gdr_buffer buffer, void *out) {
  memcpy(out, buffer.data, (size_t)buffer.bytes);
}

static bool cpu_intact(gdr_buffer buffer) {
  const gdr_guarded guarded = gdr_guarded_of(buffer.data, buffer.bytes);
  return gdr_guarded_intact(&guarded);
}

static void cpu_destroy(gdr_buffer buffer) {
  if (buffer.data == NULL) return;
  gdr_guarded guarded = gdr_guarded_of(buffer.data, buffer.bytes);
  gdr_guarded_free(&guarded);
}

static pega_status cpu_run(gdr_args *args, pega_error *error) { return gdr_run(args, error); }

const gdr_place gdr_cpu_place = {.device = {kDLCPU, 0},
                                 .create = cpu_create,
                                 .create_workspace = cpu_create_workspace,
                                 .read = cpu_read,
                                 .intact = cpu_intact,
                                 .destroy = cpu_destroy,
                                 .run = cpu_run};

/* ---- one prefill ---- */

void gdr_expect_within(const char *name, gdr_error got, double limit, const gdr_problem *problem,
                       const char *implementation, const char *what) {
  if (got.rms <= limit) return;
  print_error("%s: T=%d N=%d HK=%d HV=%d, %s: %s: rms %.3g, max %.3g; at most %.3g\n", what,
              (int)problem->num_tokens, (int)problem->num_sequences, (int)problem->num_key_heads,
              (int)problem->num_value_heads,
              implementation == NULL ? "the library's choice" : implementation, name, got.rms,
              got.max, limit);
  fail();
}

/* An empty sequence hands its state on, to the bit. */
static void expect_states_handed_on(const gdr_problem *problem, const float *final_state) {
  const int64_t count = problem->num_value_heads * kGdrState;
  for (int64_t s = 0; s < problem->num_sequences; ++s) {
    if (problem->cu_seqlens[s] != problem->cu_seqlens[s + 1]) continue;
    for (int64_t i = s * count; i < (s + 1) * count; ++i) {
      const float expected = problem->initial_state == NULL ? 0 : problem->initial_state[i];
      if (memcmp(&final_state[i], &expected, sizeof expected) != 0) {
        print_error("state of the empty sequence %d: element %d is %g, was %g\n", (int)s,
                    (int)(i - s * count), (double)final_state[i], (double)expected);
        fail();
      }
    }
  }
}

enum { kMostBuffers = 16 };

/* A call's memory: what was copied there, to see that it stays so. */
typedef struct buffers {
  const gdr_place *place;
  gdr_buffer buffers[kMostBuffers];
  const void *copied_from[kMostBuffers];
  int count;
} buffers;

static void *put(buffers *all, const void *from, int64_t bytes) {
  if (from == NULL) return NULL;
  all->copied_from[all->count] = from;
  all->buffers[all->count] = all->place->create(bytes, from);
  return all->buffers[all->count++].data;
}

static void expect_unchanged(const buffers *all) {
  for (int i = 0; i < all->count; ++i) {
    void *now = gdr_allocate(all->buffers[i].bytes, 1);
    all->place->read(all->buffers[i], now);
    assert_memory_equal(now, all->copied_from[i], (size_t)all->buffers[i].bytes);
    free(now);
  }
}

static void put_inputs(buffers *all, const gdr_problem *problem, const gdr_variation *how,
                       gdr_memory *memory) {
  const int64_t t = problem->num_tokens;
  const int64_t hk = problem->num_key_heads;
  const int64_t hv = problem->num_value_heads;
  const gdr_memory host = gdr_host_memory(problem);
  if (how->projected) {
    memory->qkv = put(all, host.qkv, t * (2 * hk + hv) * kGdrDim * 2);
    memory->b = put(all, host.b, t * hv * 2);
    memory->a = put(all, host.a, t * hv * 2);
    memory->dt_bias = put(all, host.dt_bias, hv * 2);
    memory->a_log = put(all, host.a_log, hv * 4);
  } else {
    memory->q = put(all, host.q, t * hk * kGdrDim * 2);
    memory->k = put(all, host.k, t * hk * kGdrDim * 2);
    memory->v = put(all, host.v, t * hv * kGdrDim * 2);
    memory->g = put(all, host.g, t * hv * 4);
    memory->beta = put(all, host.beta, t * hv * 4);
  }
}

bool gdr_takes(const char *implementation, const gdr_problem *problem, const gdr_variation *how) {
  if (implementation == NULL || strcmp(implementation, "triton_stages") != 0) return true;
  return how->projected && how->cu_bits < 0 && problem->num_sequences == 1;
}

gdr_outcome gdr_run_prefill(const gdr_setting *setting, const gdr_problem *problem,
                            const gdr_answer *answer, const gdr_variation *how, const char *what,
                            bool keep) {
  const gdr_place *place = setting->place;
  const int64_t n = problem->num_sequences;
  const int64_t num_outputs = problem->num_tokens * problem->num_value_heads * kGdrDim;
  const int64_t num_states = n * problem->num_value_heads * kGdrState;
  buffers inputs = {.place = place};
  gdr_memory memory = {.device = place->device, .cu_bits = how->cu_bits == 32 ? 32 : 64};
  put_inputs(&inputs, problem, how, &memory);
  int32_t *narrow = gdr_allocate(n + 1, sizeof *narrow);
  for (int64_t i = 0; i <= n; ++i) narrow[i] = (int32_t)problem->cu_seqlens[i];
  if (how->cu_bits == 32) memory.cu_seqlens = put(&inputs, narrow, (n + 1) * 4);
  if (how->cu_bits == 0 || how->cu_bits == 64) {
    memory.cu_seqlens = put(&inputs, problem->cu_seqlens, (n + 1) * 8);
  }
  if (!how->in_place) {
    memory.initial_state = put(&inputs, problem->initial_state, num_states * 4);
  }
  const gdr_buffer output = place->create(num_outputs * 2, NULL);
  const gdr_buffer final_state =
      place->create(num_states * 4, how->in_place ? problem->initial_state : NULL);
  memory.output = output.data;
  if (!how->no_final_state) memory.final_state = final_state.data;
  if (how->in_place) memory.initial_state = final_state.data;

  const bool normalize = problem->long_q != NULL;
  gdr_args args;
  int choice = PREFILL_IMPLEMENTATION;
  if (how->projected) {
    gdr_projected_args(&args, problem, &memory);
    choice = PROJECTED_IMPLEMENTATION;
  } else {
    gdr_prefill_args(&args, problem, &memory);
    if (normalize) args.values[PREFILL_NORMALIZE] = pega_value_bool(true);
  }
  if (how->scale) args.values[PREFILL_SCALE] = pega_value_float(problem->scale);
  args.values[choice] = pega_value_string(how->implementation);
  gdr_buffer workspace = {NULL, 0};
  if (how->workspace) {
    const int64_t bytes =
        gdr_workspace_bytes(problem, place->device, how->projected, normalize, how->implementation);
    workspace = place->create_workspace(bytes);
    gdr_set_tensor(&args, choice + 1, place->device, UINT8, workspace.data, 1, &bytes);
  }
  if (how->check) args.values[choice + 2] = pega_value_bool(true);
  pega_error error = PEGA_ERROR_INIT;
  if (place->run(&args, &error) != PEGA_OK) {
    print_error("%s: T=%d N=%d HK=%d HV=%d: %s\n", what, (int)problem->num_tokens, (int)n,
                (int)problem->num_key_heads, (int)problem->num_value_heads,
                pega_error_message(&error));
    fail();
  }

  assert_true(place->intact(output));
  assert_true(place->intact(final_state));
  if (how->workspace) assert_true(place->intact(workspace));
  expect_unchanged(&inputs);
  gdr_outcome got = {.outputs = gdr_allocate(num_outputs, 2),
                     .final_states = gdr_allocate(num_states, 4)};
  place->read(output, got.outputs);
  place->read(final_state, got.final_states);
  got.output = gdr_compare_bf16(got.outputs, answer->output, num_outputs);
  gdr_expect_within("output", got.output, setting->output_limit, problem, how->implementation,
                    what);
  if (how->no_final_state) {
    const unsigned char *bytes = (const unsigned char *)got.final_states;
    for (int64_t i = 0; i < num_states * 4; ++i) assert_int_equal(bytes[i], 0xff);
  } else {
    got.final_state = gdr_compare_f32(got.final_states, answer->final_state, num_states);
    gdr_expect_within("final state", got.final_state, setting->state_limit, problem,
                      how->implementation, what);
    expect_states_handed_on(problem, got.final_states);
  }
  if (!keep) {
    free(got.outputs);
    free(got.final_states);
    got.outputs = NULL;
    got.final_states = NULL;
  }
  free(narrow);
  for (int i = 0; i < inputs.count; ++i) place->destroy(inputs.buffers[i]);
  place->destroy(output);
  place->destroy(final_state);
  if (how->workspace) place->destroy(workspace);
  return got;
}

void gdr_run_prefills(const gdr_setting *setting, const gdr_problem *problem, gdr_variation how,
                      const char *what) {
  gdr_answer answer = gdr_solve_recurrence(problem);
  for (int i = 0; i < setting->num_implementations; ++i) {
    how.implementation = setting->implementations[i];
    if (!gdr_takes(how.implementation, problem, &how)) continue;
    gdr_run_prefill(setting, problem, &answer, &how, what, false);
  }
  gdr_answer_free(&answer);
}
