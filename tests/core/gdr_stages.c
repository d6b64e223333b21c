/* SPDX-License-Identifier: Apache-2.0 */
#include "gdr_stages.h"

#include <math.h>
#include <stdlib.h>

const gdr_stage_description gdr_stage_descriptions[NUM_STAGES] = {
    [STAGE_PREPARE] = {"prepare",
                       PEGA_QWEN35_CHUNK_PREPARE,
                       PEGA_QWEN35_CHUNK_PREPARE_RAW,
                       10,
                       5,
                       5,
                       {TENSOR_QKV, TENSOR_B, TENSOR_A, TENSOR_DT_BIAS, TENSOR_A_LOG, TENSOR_Q,
                        TENSOR_K, TENSOR_V, TENSOR_G, TENSOR_BETA}},
    [STAGE_CUMSUM] = {"cumsum",
                      PEGA_QWEN35_CHUNK_CUMSUM,
                      PEGA_QWEN35_CHUNK_CUMSUM_RAW,
                      2,
                      1,
                      1,
                      {TENSOR_G, TENSOR_G_CUMSUM}},
    [STAGE_A] = {"a",
                 PEGA_QWEN35_CHUNK_A,
                 PEGA_QWEN35_CHUNK_A_RAW,
                 4,
                 3,
                 1,
                 {TENSOR_K, TENSOR_G_CUMSUM, TENSOR_BETA, TENSOR_A_TRIL}},
    [STAGE_SOLVE] = {"solve",
                     PEGA_QWEN35_CHUNK_SOLVE,
                     PEGA_QWEN35_CHUNK_SOLVE_RAW,
                     2,
                     1,
                     1,
                     {TENSOR_A_TRIL, TENSOR_A_INV}},
    [STAGE_RECOMPUTE] = {"recompute",
                         PEGA_QWEN35_CHUNK_RECOMPUTE,
                         PEGA_QWEN35_CHUNK_RECOMPUTE_RAW,
                         7,
                         3,
                         2,
                         {TENSOR_K, TENSOR_V, TENSOR_BETA, TENSOR_W, TENSOR_U, TENSOR_A_INV,
                          TENSOR_G_CUMSUM}},
    [STAGE_STATE] = {"state",
                     PEGA_QWEN35_CHUNK_STATE,
                     PEGA_QWEN35_CHUNK_STATE_RAW,
                     8,
                     5,
                     3,
                     {TENSOR_K, TENSOR_W, TENSOR_U, TENSOR_G_CUMSUM, TENSOR_INITIAL_STATE,
                      TENSOR_CHUNK_STATE, TENSOR_V_NEW, TENSOR_FINAL_STATE}},
    [STAGE_O] = {"o",
                 PEGA_QWEN35_CHUNK_O,
                 PEGA_QWEN35_CHUNK_O_RAW,
                 6,
                 5,
                 1,
                 {TENSOR_Q, TENSOR_K, TENSOR_V_NEW, TENSOR_CHUNK_STATE, TENSOR_G_CUMSUM,
                  TENSOR_OUTPUT}},
};

/* What a tensor's sizes are made of, outermost first; 0 ends. */
enum { D_T = 1, D_HV, D_QKV, D_DIM, D_CHUNK, D_NUM_CHUNKS };

static const struct {
  const char *name;
  bool bf16;
  unsigned char sizes[4];
} tensors[NUM_TENSORS] = {
    [TENSOR_QKV] = {"qkv", true, {D_T, D_QKV}},
    [TENSOR_B] = {"b", true, {D_T, D_HV}},
    [TENSOR_A] = {"a", true, {D_T, D_HV}},
    [TENSOR_DT_BIAS] = {"dt_bias", true, {D_HV}},
    [TENSOR_A_LOG] = {"a_log", false, {D_HV}},
    [TENSOR_Q] = {"q", true, {D_T, D_HV, D_DIM}},
    [TENSOR_K] = {"k", true, {D_T, D_HV, D_DIM}},
    [TENSOR_V] = {"v", true, {D_T, D_HV, D_DIM}},
    [TENSOR_G] = {"g", false, {D_T, D_HV}},
    [TENSOR_BETA] = {"beta", false, {D_T, D_HV}},
    [TENSOR_G_CUMSUM] = {"g_cumsum", false, {D_T, D_HV}},
    [TENSOR_A_TRIL] = {"a_tril", false, {D_T, D_HV, D_CHUNK}},
    [TENSOR_A_INV] = {"a_inv", true, {D_T, D_HV, D_CHUNK}},
    [TENSOR_W] = {"w", true, {D_T, D_HV, D_DIM}},
    [TENSOR_U] = {"u", true, {D_T, D_HV, D_DIM}},
    [TENSOR_INITIAL_STATE] = {"initial_state", false, {D_HV, D_DIM, D_DIM}},
    [TENSOR_CHUNK_STATE] = {"chunk_state", false, {D_NUM_CHUNKS, D_HV, D_DIM, D_DIM}},
    [TENSOR_V_NEW] = {"v_new", true, {D_T, D_HV, D_DIM}},
    [TENSOR_FINAL_STATE] = {"final_state", false, {D_HV, D_DIM, D_DIM}},
    [TENSOR_OUTPUT] = {"output", true, {D_T, D_HV, D_DIM}},
};

const char *gdr_tensor_name(gdr_tensor tensor) { return tensors[tensor].name; }
bool gdr_tensor_is_bf16(gdr_tensor tensor) { return tensors[tensor].bf16; }

static int32_t get_sizes(gdr_tensor tensor, const gdr_problem *sizes, int64_t out[4]) {
  const int64_t hv = sizes->num_value_heads;
  const int64_t values[] = {[D_T] = sizes->num_tokens,
                            [D_HV] = hv,
                            [D_QKV] = (2 * sizes->num_key_heads + hv) * kGdrDim,
                            [D_DIM] = kGdrDim,
                            [D_CHUNK] = kGdrChunk,
                            [D_NUM_CHUNKS] = (sizes->num_tokens + kGdrChunk - 1) / kGdrChunk};
  int32_t ndim = 0;
  for (; ndim < 4 && tensors[tensor].sizes[ndim] != 0; ++ndim) {
    out[ndim] = values[tensors[tensor].sizes[ndim]];
  }
  return ndim;
}

/* ---- numbers ---- */

static double *expect(gdr_stage_problem *it, gdr_tensor tensor) {
  it->expected[tensor] = gdr_allocate(it->counts[tensor], sizeof(double));
  return it->expected[tensor];
}

/* Rounds what is expected to the tensor's type, and gives back the rounded numbers in fp64. */
static double *settle(gdr_stage_problem *it, gdr_tensor tensor) {
  const int64_t count = it->counts[tensor];
  if (tensors[tensor].bf16) {
    it->data[tensor] = gdr_narrow_bf16(it->expected[tensor], count);
    return gdr_widen_bf16(it->data[tensor], count);
  }
  it->data[tensor] = gdr_narrow_f32(it->expected[tensor], count);
  return gdr_widen_f32(it->data[tensor], count);
}

static void copy_in(gdr_stage_problem *it, gdr_tensor tensor, const void *from) {
  it->data[tensor] = gdr_allocate(it->bytes[tensor], 1);
  memcpy(it->data[tensor], from, (size_t)it->bytes[tensor]);
}

/* What prepare is to give, before rounding. */
static void expect_prepare(gdr_stage_problem *it) {
  const gdr_problem *problem = &it->problem;
  const int64_t hk = problem->num_key_heads;
  const int64_t hv = problem->num_value_heads;
  double *q = expect(it, TENSOR_Q);
  double *k = expect(it, TENSOR_K);
  double *v = expect(it, TENSOR_V);
  double *g = expect(it, TENSOR_G);
  double *beta = expect(it, TENSOR_BETA);
  for (int64_t t = 0; t < problem->num_tokens; ++t) {
    const uint16_t *qkv = problem->qkv + t * (2 * hk + hv) * kGdrDim;
    for (int64_t h = 0; h < hv; ++h) {
      const int64_t at = t * hv + h;
      const uint16_t *q_row = qkv + h * hk / hv * kGdrDim;
      const uint16_t *k_row = q_row + hk * kGdrDim;
      double q_squares = 1e-12;
      double k_squares = 1e-12;
      for (int d = 0; d < kGdrDim; ++d) {
        q_squares += pow(gdr_bf16_to_double(q_row[d]), 2);
        k_squares += pow(gdr_bf16_to_double(k_row[d]), 2);
      }
      for (int d = 0; d < kGdrDim; ++d) {
        q[at * kGdrDim + d] = gdr_bf16_to_double(q_row[d]) / sqrt(q_squares);
        k[at * kGdrDim + d] = gdr_bf16_to_double(k_row[d]) / sqrt(k_squares);
        v[at * kGdrDim + d] = gdr_bf16_to_double(qkv[(2 * hk + h) * kGdrDim + d]);
      }
      const double x = gdr_bf16_to_double(problem->a[at]) + gdr_bf16_to_double(problem->dt_bias[h]);
      g[at] = -exp((double)problem->a_log[h]) * (x > 20 ? x : log1p(exp(x)));
      beta[at] = 1 / (1 + exp(-gdr_bf16_to_double(problem->b[at])));
    }
  }
}

gdr_stage_problem gdr_stage_problem_create(int64_t num_tokens, int64_t num_key_heads,
                                           int64_t num_value_heads, double lowest_gate,
                                           bool initial_state, uint64_t seed) {
  const gdr_options options = {.num_key_heads = num_key_heads,
                               .num_value_heads = num_value_heads,
                               .lengths = &num_tokens,
                               .num_sequences = 1,
                               .lowest_gate = lowest_gate,
                               .state_size = initial_state ? 0.5 : 0,
                               .seed = seed,
                               .projected = true};
  gdr_stage_problem it;
  memset(&it, 0, sizeof it);
  it.problem = gdr_problem_create(&options);
  if (seed % 2 == 1) it.problem.scale *= 1.7; /* a scale that is given counts */
  it.answer = gdr_solve_recurrence(&it.problem);
  for (int i = 0; i < NUM_TENSORS; ++i) {
    int64_t sizes[4];
    const int32_t ndim = get_sizes((gdr_tensor)i, &it.problem, sizes);
    it.counts[i] = 1;
    for (int32_t d = 0; d < ndim; ++d) it.counts[i] *= sizes[d];
    it.bytes[i] = it.counts[i] * (tensors[i].bf16 ? 2 : 4);
  }
  copy_in(&it, TENSOR_QKV, it.problem.qkv);
  copy_in(&it, TENSOR_B, it.problem.b);
  copy_in(&it, TENSOR_A, it.problem.a);
  copy_in(&it, TENSOR_DT_BIAS, it.problem.dt_bias);
  copy_in(&it, TENSOR_A_LOG, it.problem.a_log);
  double *initial = NULL;
  if (initial_state) {
    copy_in(&it, TENSOR_INITIAL_STATE, it.problem.initial_state);
    initial = gdr_widen_f32(it.problem.initial_state, it.counts[TENSOR_INITIAL_STATE]);
  }
  const int64_t t = num_tokens;
  const int64_t hv = num_value_heads;
  expect_prepare(&it);
  double *q = settle(&it, TENSOR_Q);
  double *k = settle(&it, TENSOR_K);
  double *v = settle(&it, TENSOR_V);
  double *g = settle(&it, TENSOR_G);
  double *beta = settle(&it, TENSOR_BETA);
  gdr_stage_cumsum(t, hv, g, expect(&it, TENSOR_G_CUMSUM));
  double *sums = settle(&it, TENSOR_G_CUMSUM);
  gdr_stage_a(t, hv, k, sums, beta, expect(&it, TENSOR_A_TRIL));
  double *a_tril = settle(&it, TENSOR_A_TRIL);
  gdr_stage_solve(t, hv, a_tril, expect(&it, TENSOR_A_INV));
  double *a_inv = settle(&it, TENSOR_A_INV);
  expect(&it, TENSOR_W);
  gdr_stage_recompute(t, hv, k, v, beta, a_inv, sums, it.expected[TENSOR_W], expect(&it, TENSOR_U));
  double *w = settle(&it, TENSOR_W);
  double *u = settle(&it, TENSOR_U);
  expect(&it, TENSOR_CHUNK_STATE);
  expect(&it, TENSOR_V_NEW);
  gdr_stage_state(t, hv, k, w, u, sums, initial, it.expected[TENSOR_CHUNK_STATE],
                  it.expected[TENSOR_V_NEW], expect(&it, TENSOR_FINAL_STATE));
  double *chunk_state = settle(&it, TENSOR_CHUNK_STATE);
  double *v_new = settle(&it, TENSOR_V_NEW);
  double *final_state = settle(&it, TENSOR_FINAL_STATE);
  gdr_stage_o(t, hv, q, k, v_new, chunk_state, sums, it.problem.scale, expect(&it, TENSOR_OUTPUT));
  double *output = settle(&it, TENSOR_OUTPUT);
  void *const all[] = {initial, q, k, v,     g,           beta,        sums,  a_tril,
                       a_inv,   w, u, v_new, chunk_state, final_state, output};
  for (int i = 0; i < COUNT(all); ++i) free(all[i]);
  return it;
}

void gdr_stage_problem_free(gdr_stage_problem *problem) {
  for (int i = 0; i < NUM_TENSORS; ++i) {
    free(problem->data[i]);
    free(problem->expected[i]);
  }
  gdr_answer_free(&problem->answer);
  gdr_problem_free(&problem->problem);
}

gdr_error gdr_stage_compare(const gdr_stage_problem *problem, gdr_tensor tensor, const void *got) {
  const int64_t count = problem->counts[tensor];
  return tensors[tensor].bf16 ? gdr_compare_bf16(got, problem->expected[tensor], count)
                              : gdr_compare_f32(got, problem->expected[tensor], count);
}

/* ---- calls ---- */

static bool may_be_none(gdr_tensor tensor) {
  return tensor == TENSOR_INITIAL_STATE || tensor == TENSOR_FINAL_STATE;
}

static void begin(gdr_args *args, const char *name) {
  args->name = name;
  for (int i = 0; i < COUNT(args->values); ++i) args->values[i] = pega_value_none();
}

void gdr_stage_tensor_args(gdr_args *args, gdr_stage stage, const gdr_problem *sizes,
                           DLDevice device, const void *const places[NUM_TENSORS]) {
  const gdr_stage_description *it = &gdr_stage_descriptions[stage];
  begin(args, it->tensor_form);
  int32_t count = 0;
  for (; count < it->num_tensors; ++count) {
    const gdr_tensor tensor = it->tensors[count];
    if (places[tensor] == NULL && may_be_none(tensor)) continue;
    int64_t shape[4];
    const int32_t ndim = get_sizes(tensor, sizes, shape);
    gdr_set_tensor(args, count, device, tensors[tensor].bf16 ? BFLOAT16 : FLOAT32, places[tensor],
                   ndim, shape);
  }
  if (stage == STAGE_O) args->values[count++] = pega_value_float(sizes->scale);
  args->count = count;
}

void gdr_stage_raw_args(gdr_args *args, gdr_stage stage, const gdr_problem *sizes,
                        const void *const places[NUM_TENSORS], void *stream) {
  const gdr_stage_description *it = &gdr_stage_descriptions[stage];
  begin(args, it->raw_form);
  const int64_t hk = sizes->num_key_heads;
  const int64_t hv = sizes->num_value_heads;
  int32_t count = 0;
  for (; count < it->num_tensors; ++count) {
    args->values[count] = pega_value_pointer(places[it->tensors[count]]);
  }
  if (stage == STAGE_PREPARE) {
    args->values[count++] = pega_value_int(hk);
    args->values[count++] = pega_value_int(hv);
    args->values[count++] = pega_value_int((2 * hk + hv) * kGdrDim);
    args->values[count++] = pega_value_int(sizes->num_tokens);
  } else {
    args->values[count++] = pega_value_int(sizes->num_tokens);
    args->values[count++] = pega_value_int(hv);
  }
  if (stage == STAGE_O) args->values[count++] = pega_value_float(sizes->scale);
  args->values[count++] = pega_value_pointer(stream);
  args->count = count;
}

int gdr_stage_symbol(gdr_stage stage, const gdr_problem *sizes,
                     const void *const places[NUM_TENSORS], void *stream) {
  const int32_t t = (int32_t)sizes->num_tokens;
  const int32_t hk = (int32_t)sizes->num_key_heads;
  const int32_t hv = (int32_t)sizes->num_value_heads;
  uint16_t *bf16[NUM_TENSORS];
  float *f32[NUM_TENSORS];
  for (int i = 0; i < NUM_TENSORS; ++i) {
    bf16[i] = (uint16_t *)(uintptr_t)places[i];
    f32[i] = (float *)(uintptr_t)places[i];
  }
  switch (stage) {
    case STAGE_PREPARE:
      return gated_delta_rule_prefill_chunk_prepare_cuda(
          bf16[TENSOR_QKV], bf16[TENSOR_B], bf16[TENSOR_A], bf16[TENSOR_DT_BIAS], f32[TENSOR_A_LOG],
          bf16[TENSOR_Q], bf16[TENSOR_K], bf16[TENSOR_V], f32[TENSOR_G], f32[TENSOR_BETA], hk, hv,
          (2 * hk + hv) * kGdrDim, t, stream);
    case STAGE_CUMSUM:
      return gated_delta_rule_prefill_chunk_cumsum_cuda(f32[TENSOR_G], f32[TENSOR_G_CUMSUM], t, hv,
                                                        stream);
    case STAGE_A:
      return gated_delta_rule_prefill_chunk_a_cuda(bf16[TENSOR_K], f32[TENSOR_G_CUMSUM],
                                                   f32[TENSOR_BETA], f32[TENSOR_A_TRIL], t, hv,
                                                   stream);
    case STAGE_SOLVE:
      return gated_delta_rule_prefill_chunk_solve_cuda(f32[TENSOR_A_TRIL], bf16[TENSOR_A_INV], t,
                                                       hv, stream);
    case STAGE_RECOMPUTE:
      return gated_delta_rule_prefill_chunk_recompute_cuda(
          bf16[TENSOR_K], bf16[TENSOR_V], f32[TENSOR_BETA], bf16[TENSOR_W], bf16[TENSOR_U],
          bf16[TENSOR_A_INV], f32[TENSOR_G_CUMSUM], t, hv, stream);
    case STAGE_STATE:
      return gated_delta_rule_prefill_chunk_state_cuda(
          bf16[TENSOR_K], bf16[TENSOR_W], bf16[TENSOR_U], f32[TENSOR_G_CUMSUM],
          f32[TENSOR_INITIAL_STATE], f32[TENSOR_CHUNK_STATE], bf16[TENSOR_V_NEW],
          f32[TENSOR_FINAL_STATE], t, hv, stream);
    case STAGE_O:
      return gated_delta_rule_prefill_chunk_o_cuda(
          bf16[TENSOR_Q], bf16[TENSOR_K], bf16[TENSOR_V_NEW], f32[TENSOR_CHUNK_STATE],
          f32[TENSOR_G_CUMSUM], bf16[TENSOR_OUTPUT], t, hv, (float)sizes->scale, stream);
    case NUM_STAGES:
      break;
  }
  return -1;
}
