/* SPDX-License-Identifier: Apache-2.0 */
/* What the stages of the chunked gated delta rule take, and their C symbols. */
#include "stages.h"

#include "ops/qwen35/gated_delta_rule_cpu.h"

#define ROWS "T, HV, 128"
#define GATES "T, HV"
#define BF16(name, extra, shape, doc) PEGA_GDR_TENSOR(name, PEGA_GDR_BF16, shape, extra, doc)
#define FP32(name, extra, shape, doc) PEGA_GDR_TENSOR(name, PEGA_GDR_FP32, shape, extra, doc)

/* Memory: name, rows, bytes of an element, elements of a row. */
#define READ(name, rows, size, row) \
  { name, rows, size, -1, false, row }
#define WRITTEN(name, rows, size, row) \
  { name, rows, size, -1, true, row }

#define G_DOC "prefix sums of the log gates within each chunk"

/* --- prepare --- */

static const pega_param prepare_tensors[] = {
    BF16("qkv", 0, "T, D", "q (HK 128), k (HK 128), v (HV 128) of each token; D = (2 HK + HV) 128"),
    BF16("b", 0, GATES, "beta before its sigmoid"),
    BF16("a", 0, GATES, "gate before dt_bias and softplus"),
    BF16("dt_bias", 0, "HV", "added to a"),
    FP32("a_log", 0, "HV", "the gate is -exp(a_log) softplus(a + dt_bias)"),
    BF16("q", PEGA_PARAM_OUTPUT, ROWS, "normalised, the key head's for each of its value heads"),
    BF16("k", PEGA_PARAM_OUTPUT, ROWS, "normalised, the key head's for each of its value heads"),
    BF16("v", PEGA_PARAM_OUTPUT, ROWS, "as it is in qkv"),
    FP32("g", PEGA_PARAM_OUTPUT, GATES, "log gates"),
    FP32("beta", PEGA_PARAM_OUTPUT, GATES, "sigmoid(b)"),
};
static const pega_stage_memory prepare_memory[] = {
    READ("qkv", kRowsToken, 2, 0),        READ("b", kRowsTokenHead, 2, 1),
    READ("a", kRowsTokenHead, 2, 1),      READ("dt_bias", kRowsHead, 2, 1),
    READ("a_log", kRowsHead, 4, 1),       WRITTEN("q", kRowsTokenHead, 2, 128),
    WRITTEN("k", kRowsTokenHead, 2, 128), WRITTEN("v", kRowsTokenHead, 2, 128),
    WRITTEN("g", kRowsTokenHead, 4, 1),   WRITTEN("beta", kRowsTokenHead, 4, 1),
};

/* --- cumsum --- */

static const pega_param cumsum_tensors[] = {
    FP32("g", 0, GATES, "log gates, <= 0"),
    FP32("g_cumsum", PEGA_PARAM_OUTPUT, GATES, G_DOC),
};
static const pega_stage_memory cumsum_memory[] = {
    READ("g", kRowsTokenHead, 4, 1),
    WRITTEN("g_cumsum", kRowsTokenHead, 4, 1),
};

/* --- a --- */

static const pega_param a_tensors[] = {
    BF16("k", 0, ROWS, "normalised keys"),
    FP32("g_cumsum", 0, GATES, G_DOC),
    FP32("beta", 0, GATES, "in (0, 1)"),
    FP32("a_tril", PEGA_PARAM_OUTPUT, "T, HV, 64", "row t is row t mod 64 of its chunk's A"),
};
static const pega_stage_memory a_memory[] = {
    READ("k", kRowsTokenHead, 2, 128),
    READ("g_cumsum", kRowsTokenHead, 4, 1),
    READ("beta", kRowsTokenHead, 4, 1),
    WRITTEN("a_tril", kRowsTokenHead, 4, 64),
};

/* --- recompute --- */

static const pega_param recompute_tensors[] = {
    BF16("k", 0, ROWS, "normalised keys"),
    BF16("v", 0, ROWS, "values"),
    FP32("beta", 0, GATES, "in (0, 1)"),
    BF16("w", PEGA_PARAM_OUTPUT, ROWS, "Ainv (beta exp(G) k)"),
    BF16("u", PEGA_PARAM_OUTPUT, ROWS, "Ainv (beta v)"),
    BF16("a_inv", 0, "T, HV, 64", "what the solve writes"),
    FP32("g_cumsum", 0, GATES, G_DOC),
};
static const pega_stage_memory recompute_memory[] = {
    READ("k", kRowsTokenHead, 2, 128),      READ("v", kRowsTokenHead, 2, 128),
    READ("beta", kRowsTokenHead, 4, 1),     WRITTEN("w", kRowsTokenHead, 2, 128),
    WRITTEN("u", kRowsTokenHead, 2, 128),   READ("a_inv", kRowsTokenHead, 2, 64),
    READ("g_cumsum", kRowsTokenHead, 4, 1),
};

/* --- state --- */

static const pega_param state_tensors[] = {
    BF16("k", 0, ROWS, "normalised keys"),
    BF16("w", 0, ROWS, "what recompute writes"),
    BF16("u", 0, ROWS, "what recompute writes"),
    FP32("g_cumsum", 0, GATES, G_DOC),
    FP32("initial_state", PEGA_PARAM_OPTIONAL, "HV, 128, 128", "(K, V); None is zeros"),
    FP32("chunk_state", PEGA_PARAM_OUTPUT, "NC, HV, 128, 128",
         "the state before each chunk; NC = ceil(T / 64)"),
    BF16("v_new", PEGA_PARAM_OUTPUT, ROWS, "u - w S"),
    FP32("final_state", PEGA_PARAM_OPTIONAL | PEGA_PARAM_OUTPUT, "HV, 128, 128",
         "the state after the last token; may be initial_state"),
};
static const pega_stage_memory state_memory[] = {
    READ("k", kRowsTokenHead, 2, 128),
    READ("w", kRowsTokenHead, 2, 128),
    READ("u", kRowsTokenHead, 2, 128),
    READ("g_cumsum", kRowsTokenHead, 4, 1),
    READ("initial_state", kRowsHead, 4, kGdrStateSize),
    WRITTEN("chunk_state", kRowsChunkHead, 4, kGdrStateSize),
    WRITTEN("v_new", kRowsTokenHead, 2, 128),
    {"final_state", kRowsHead, 4, 4, true, kGdrStateSize},
};

/* --- o --- */

static const pega_param o_tensors[] = {
    BF16("q", 0, ROWS, "normalised queries"),
    BF16("k", 0, ROWS, "normalised keys"),
    BF16("v_new", 0, ROWS, "what state writes"),
    FP32("chunk_state", 0, "NC, HV, 128, 128", "what state writes; NC = ceil(T / 64)"),
    FP32("g_cumsum", 0, GATES, G_DOC),
    BF16("output", PEGA_PARAM_OUTPUT, ROWS, "the rule's output"),
    {.name = "scale",
     .doc = "None is 128^-0.5",
     .type = PEGA_TYPE_FLOAT,
     .flags = PEGA_PARAM_OPTIONAL},
};
static const pega_stage_memory o_memory[] = {
    READ("q", kRowsTokenHead, 2, 128),      READ("k", kRowsTokenHead, 2, 128),
    READ("v_new", kRowsTokenHead, 2, 128),  READ("chunk_state", kRowsChunkHead, 4, kGdrStateSize),
    READ("g_cumsum", kRowsTokenHead, 4, 1), WRITTEN("output", kRowsTokenHead, 2, 128),
};

/* --- the CPU's way --- */

static void cpu_prepare(void *const *m, const pega_gdr_shape *shape, float scale) {
  (void)scale;
  pega_qwen35_chunk_prepare_cpu(NULL, m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7], m[8], m[9],
                                shape->num_tokens, shape->num_key_heads, shape->num_value_heads, 0);
}

static void cpu_cumsum(void *const *m, const pega_gdr_shape *shape, float scale) {
  (void)scale;
  pega_qwen35_chunk_cumsum_cpu(m[0], m[1], shape->num_tokens, shape->num_value_heads, 0);
}

static void cpu_a(void *const *m, const pega_gdr_shape *shape, float scale) {
  (void)scale;
  pega_qwen35_chunk_a_cpu(NULL, m[0], m[1], m[2], m[3], shape->num_tokens, shape->num_value_heads,
                          0);
}

static void cpu_recompute(void *const *m, const pega_gdr_shape *shape, float scale) {
  (void)scale;
  pega_qwen35_chunk_recompute_cpu(NULL, m[0], m[1], m[2], m[3], m[4], m[5], m[6], shape->num_tokens,
                                  shape->num_value_heads, 0);
}

static void cpu_state(void *const *m, const pega_gdr_shape *shape, float scale) {
  (void)scale;
  pega_qwen35_chunk_state_cpu(NULL, m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7],
                              shape->num_tokens, shape->num_value_heads, 0);
}

static void cpu_o(void *const *m, const pega_gdr_shape *shape, float scale) {
  pega_qwen35_chunk_o_cpu(NULL, m[0], m[1], m[2], m[3], m[4], m[5], shape->num_tokens,
                          shape->num_value_heads, scale, 0);
}

/* --- all of them --- */

#define STAGE_SLOT(stage, raw_name, raw_params)                                        \
  static const pega_signature stage##_signature =                                      \
      PEGA_GDR_SIGNATURE(stage##_tensors, PEGA_SIGNATURE_SAME_DEVICE, PEGA_TYPE_NONE); \
  static pega_kernel_slot stage##_slot = {raw_name, NULL, raw_params, NULL};           \
  static _Atomic(pega_function *) stage##_raw_form;

STAGE_SLOT(
    prepare, PEGA_QWEN35_CHUNK_PREPARE_RAW,
    "*qkv_ptr *b_proj_ptr *a_proj_ptr *dt_bias_ptr *a_log_ptr *q_out_ptr *k_out_ptr *v_out_ptr "
    "*g_out_ptr *beta_out_ptr ^num_key_heads ^num_value_heads #qkv_dim #seq_len ~stream")
STAGE_SLOT(cumsum, PEGA_QWEN35_CHUNK_CUMSUM_RAW,
           "*g_in_ptr *g_out_ptr #seq_len ^num_value_heads ~stream")
STAGE_SLOT(a, PEGA_QWEN35_CHUNK_A_RAW,
           "*k_ptr *g_cumsum_ptr *beta_ptr *a_tril_ptr #seq_len ^num_value_heads ~stream")
STAGE_SLOT(recompute, PEGA_QWEN35_CHUNK_RECOMPUTE_RAW,
           "*k_ptr *v_ptr *beta_ptr *w_ptr *u_ptr *a_inv_ptr *g_cumsum_ptr #seq_len "
           "^num_value_heads ~stream")
STAGE_SLOT(state, PEGA_QWEN35_CHUNK_STATE_RAW,
           "*k_ptr *w_ptr *u_ptr *g_cumsum_ptr ?initial_state_ptr *chunk_state_ptr *v_new_ptr "
           "?final_state_ptr #seq_len ^num_value_heads ~stream")
STAGE_SLOT(o, PEGA_QWEN35_CHUNK_O_RAW,
           "*q_ptr *k_ptr *v_new_ptr *chunk_state_ptr *g_cumsum_ptr *output_ptr #seq_len "
           "^num_value_heads %scale ~stream")

#define STAGE(stage, tensor_name, text, ...)                                                      \
  {                                                                                               \
    .slot = &stage##_slot,                                                                        \
    .raw_doc =                                                                                    \
        "On device pointers, with the arguments of the C symbol "                                 \
        "gated_delta_rule_prefill_chunk_" #stage "_cuda.",                                        \
    .symbol = "gated_delta_rule_prefill_chunk_" #stage "_cuda", .name = tensor_name, .doc = text, \
    .signature = &stage##_signature, .memory = stage##_memory,                                    \
    .num_memory = PEGA_GDR_COUNT(stage##_memory), .cpu = cpu_##stage,                             \
    .raw_form = &stage##_raw_form, __VA_ARGS__                                                    \
  }

const pega_stage pega_gdr_stages[kNumStages] = {
    [kStagePrepare] = STAGE(
        prepare, PEGA_QWEN35_CHUNK_PREPARE,
        "Splits the projections into normalised queries and keys for each value head, values, "
        "log gates and betas.",
        .has_key_heads = true),
    [kStageCumsum] = STAGE(
        cumsum, PEGA_QWEN35_CHUNK_CUMSUM,
        "Prefix sums of the log gates, restarted at each chunk of 64 tokens; gates below -128, whose "
        "exp() is 0 in float32, count as -128.", ),
    [kStageA] = STAGE(a, PEGA_QWEN35_CHUNK_A,
                      "A[i,j] = beta_i exp(G_i - G_j) (k_i . k_j) for i > j within each chunk, 0 "
                      "elsewhere.", ),
    [kStageRecompute] = STAGE(recompute, PEGA_QWEN35_CHUNK_RECOMPUTE,
                              "u = Ainv (beta v) and w = Ainv (beta exp(G) k) of each chunk.", ),
    [kStageState] =
        STAGE(state, PEGA_QWEN35_CHUNK_STATE,
              "Carries the state over the chunks: v_new = u - w S, S <- exp(G_last) S + k^T "
              "(exp(G_last - G) v_new).",
              .has_states = true),
    [kStageO] = STAGE(o, PEGA_QWEN35_CHUNK_O,
                      "o = scale (exp(G) (q S) + (exp(G_i - G_j) q_i . k_j for i >= j) v_new).",
                      .has_scale = true),
};

/* --- C symbols --- */

#define P(pointer) pega_value_pointer(pointer)
#define I(number) pega_value_int(number)
#define CALL(stage, ...)                                       \
  const pega_value args[] = {__VA_ARGS__, P(stream)};          \
  return pega_stage_call_symbol(&pega_gdr_stages[stage], args, \
                                (int32_t)(sizeof args / sizeof *args))

int gated_delta_rule_prefill_chunk_prepare_cuda(const uint16_t *qkv, const uint16_t *b_proj,
                                                const uint16_t *a_proj, const uint16_t *dt_bias,
                                                const float *a_log, uint16_t *q_out,
                                                uint16_t *k_out, uint16_t *v_out, float *g_out,
                                                float *beta_out, int32_t num_key_heads,
                                                int32_t num_value_heads, int32_t qkv_dim,
                                                int32_t seq_len, void *stream) {
  CALL(kStagePrepare, P(qkv), P(b_proj), P(a_proj), P(dt_bias), P(a_log), P(q_out), P(k_out),
       P(v_out), P(g_out), P(beta_out), I(num_key_heads), I(num_value_heads), I(qkv_dim),
       I(seq_len));
}

int gated_delta_rule_prefill_chunk_cumsum_cuda(const float *g_in, float *g_out, int32_t seq_len,
                                               int32_t num_value_heads, void *stream) {
  CALL(kStageCumsum, P(g_in), P(g_out), I(seq_len), I(num_value_heads));
}

int gated_delta_rule_prefill_chunk_a_cuda(const uint16_t *k, const float *g_cumsum,
                                          const float *beta, float *a_tril, int32_t seq_len,
                                          int32_t num_value_heads, void *stream) {
  CALL(kStageA, P(k), P(g_cumsum), P(beta), P(a_tril), I(seq_len), I(num_value_heads));
}

int gated_delta_rule_prefill_chunk_recompute_cuda(const uint16_t *k, const uint16_t *v,
                                                  const float *beta, uint16_t *w, uint16_t *u,
                                                  const uint16_t *a_inv, const float *g_cumsum,
                                                  int32_t seq_len, int32_t num_value_heads,
                                                  void *stream) {
  CALL(kStageRecompute, P(k), P(v), P(beta), P(w), P(u), P(a_inv), P(g_cumsum), I(seq_len),
       I(num_value_heads));
}

int gated_delta_rule_prefill_chunk_state_cuda(const uint16_t *k, const uint16_t *w,
                                              const uint16_t *u, const float *g_cumsum,
                                              const float *initial_state, float *chunk_state,
                                              uint16_t *v_new, float *final_state, int32_t seq_len,
                                              int32_t num_value_heads, void *stream) {
  CALL(kStageState, P(k), P(w), P(u), P(g_cumsum), P(initial_state), P(chunk_state), P(v_new),
       P(final_state), I(seq_len), I(num_value_heads));
}

int gated_delta_rule_prefill_chunk_o_cuda(const uint16_t *q, const uint16_t *k,
                                          const uint16_t *v_new, const float *chunk_state,
                                          const float *g_cumsum, uint16_t *output, int32_t seq_len,
                                          int32_t num_value_heads, float scale, void *stream) {
  CALL(kStageO, P(q), P(k), P(v_new), P(chunk_state), P(g_cumsum), P(output), I(seq_len),
       I(num_value_heads), pega_value_float((double)scale));
}
