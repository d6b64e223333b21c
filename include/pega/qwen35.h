/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file pega/qwen35.h
 * \brief Qwen3.5's gated delta rule: names of its functions, and the plain C symbols of its kernels.
 *
 * A whole prefill and a decode step are functions on tensors, on the CPU and on CUDA devices, had from
 * pega_registry_get() by the names below. Of the prefill's seven stages each is there once on tensors,
 * once in the raw form on pointers, and as a plain C symbol with the raw form's arguments. A symbol
 * returns a number with the meaning of the CUDA driver's CUresult; the text belonging to a failure is
 * had from pega_symbol_last_error().
 */
#ifndef PEGA_QWEN35_H_
#define PEGA_QWEN35_H_

#include "pega.h"

#ifdef __cplusplus
extern "C" {
#endif

/** \brief Tokens of a chunk. */
#define PEGA_QWEN35_CHUNK 64
/** \brief Elements of a row of q, k and v, for each head. */
#define PEGA_QWEN35_HEAD_SIZE 128

/* ------------------------------------------------------------------------- the whole functions -- */

/**
 * \brief The whole prefill on tensors: (q, k, v, g, beta, initial_state, cu_seqlens, scale, output,
 *        final_state, normalize, implementation, workspace, check). docs/functions.md.
 */
#define PEGA_QWEN35_PREFILL "pegainfer.qwen35.gated_delta_rule_prefill"
/**
 * \brief The same from the projections: (qkv, b, a, dt_bias, a_log, initial_state, cu_seqlens, scale,
 *        output, final_state, implementation, workspace, check).
 */
#define PEGA_QWEN35_PREFILL_PROJECTED "pegainfer.qwen35.gated_delta_rule_prefill_projected"
/**
 * \brief Bytes of workspace that a prefill needs: (num_tokens, num_sequences, num_key_heads,
 *        num_value_heads, device, projected, normalize, implementation) -> int.
 */
#define PEGA_QWEN35_PREFILL_WORKSPACE "pegainfer.qwen35.gated_delta_rule_prefill_workspace"
/**
 * \brief How an implementation is chosen: (device, num_tokens, num_sequences, num_key_heads,
 *        num_value_heads, projected, normalize) -> array of maps, one for each implementation: name, device,
 *        how, when, taken, reason, us (the time that a table predicts, or None), workspace (bytes, or None),
 *        table (where that comes from, or None), rows (text: the table's rows that were looked at, from 0).
 */
#define PEGA_QWEN35_PREFILL_EXPLAIN "pegainfer.qwen35.gated_delta_rule_prefill_explain"
/**
 * \brief The decode step on tensors: (q, k, v, g, beta, states, slots, scale, output, normalize,
 *        check); states are changed in place.
 */
#define PEGA_QWEN35_DECODE "pegainfer.qwen35.gated_delta_rule_decode"
/** \brief The same from the projections: (qkv, b, a, dt_bias, a_log, states, slots, scale, output, check). */
#define PEGA_QWEN35_DECODE_PROJECTED "pegainfer.qwen35.gated_delta_rule_decode_projected"

/* ------------------------------------------------------------- implementations from elsewhere -- */

/**
 * \brief Gives the prefill an implementation that somebody else has compiled.
 *
 * A prefill that names it then makes its inputs what the function takes, calls it, and makes its states
 * what a prefill returns. tools/dsl/flashinfer_gdn.py builds a module with such a function, which serves as
 * both; docs/functions.md has the commands.
 *
 * The function takes 13 arguments, tensors of one CUDA device:
 *   q, k           bf16 [T, HK, 128], rows of length 1
 *   v              bf16 [T, HV, 128]; strides [at least 128 HV, 128, 1]
 *   alpha          fp32 [T, HV], linear gates exp(g)
 *   beta           fp32 [T, HV]
 *   cu_seqlens     int64 [N + 1], 0 to T, never decreasing; sequences may be empty
 *   initial_state  fp32 [N, HV, V, K], K contiguous; or None for zeros
 *   output         bf16 [T, HV, 128], written
 *   final_state    fp32 [N, HV, V, K], written, but for empty sequences
 *   workspace      uint8, aligned to 256 bytes: 32768 for "flashinfer"; for "flashinfer_cp" as many more as
 *                  bf16 [B, HV, 64, 64] and three fp32 [C, HV, 128, 128] have, each a multiple of 256,
 *                  where B and C are N + (T - N) / 64 and N + (T - N) / chunk, of N at most T
 *   scale          float
 *   chunk          int: 0, or for "flashinfer_cp" the tokens of a chunk, a multiple of 64
 *   stream         pointer: where its work is put
 * T, N >= 1. It must do all its work on the stream and wait for nothing; a call of it is made with a
 * context of the device current, which it leaves so.
 *
 * \param implementation "flashinfer" or "flashinfer_cp".
 * \param function Retained for the rest of the process: what was provided stays. The same again does
 *        nothing. Where it has a signature, that is compared.
 * \return PEGA_ERROR_NOT_FOUND for another name, PEGA_ERROR_ALREADY_EXISTS where another function was
 *         provided, PEGA_ERROR_TYPE for one that takes something else.
 *
 * Any thread, while others call prefills too: it is one atomic store, and calls read it without a lock.
 */
PEGA_API pega_status pega_qwen35_provide_prefill(const char *implementation,
                                                 pega_function *function, pega_error *error);

/* ---------------------------------------------------------------------------- measured choices -- */

/**
 * \brief Loads a table of measured times, by which prefills choose their implementation from then on.
 *
 * `pega tune` writes such tables; docs/tuning.md has their form and the rule. A prefill that names no
 * implementation takes the one that has the shortest time for its sizes in a table for its device, of those
 * that can do the call. A table that was loaded goes before those that the environment variable PEGA_CHOICES
 * names (paths with colons between them, read by the first call that chooses; ignored with raised
 * privileges), and these before the library's own. Of several the one for as many multiprocessors as the
 * device has is taken, else one for the same compute capability; of equal ones that which was loaded last.
 *
 * The library's own table has none of the implementations that pega_qwen35_provide_prefill() gives: they
 * round more. A table that has times of them lets them be taken, once they are provided.
 *
 * Load tables before asking for workspaces: another implementation may want another one. A call whose
 * workspace is too small is refused.
 *
 * \param path File to read, borrowed; with `text` the name that errors and explanations call it by, or NULL.
 * \param text The table itself, `size` bytes of JSON, borrowed; NULL: it is in the file.
 * \return PEGA_ERROR_INVALID_ARGUMENT if both are NULL, PEGA_ERROR_NOT_FOUND or PEGA_ERROR_IO for a file that
 *         cannot be read, PEGA_ERROR_FORMAT or PEGA_ERROR_RANGE for what is no such table, with the place in it,
 *         PEGA_ERROR_OUT_OF_MEMORY. Nothing has changed then.
 *
 * Any thread, while others call prefills: it is one atomic store, and calls read it without a lock. What was
 * loaded is kept for the rest of the process. Since 0.1.0.
 */
PEGA_API pega_status pega_qwen35_load_choices(const char *path, const char *text, size_t size,
                                              pega_error *error);

/* ---------------------------------------------------------------------------------- the stages -- */

/** \brief Names of a stage on tensors, which runs where they are, and of its raw form on pointers. */
#define PEGA_QWEN35_CHUNK_PREPARE "pegainfer.qwen35.gated_delta_rule_chunk_prepare"
#define PEGA_QWEN35_CHUNK_PREPARE_RAW "pegainfer.triton_cubin.qwen35.gated_delta_rule_chunk_prepare"
#define PEGA_QWEN35_CHUNK_CUMSUM "pegainfer.qwen35.gated_delta_rule_chunk_cumsum"
#define PEGA_QWEN35_CHUNK_CUMSUM_RAW "pegainfer.triton_cubin.qwen35.gated_delta_rule_chunk_cumsum"
#define PEGA_QWEN35_CHUNK_A "pegainfer.qwen35.gated_delta_rule_chunk_a"
#define PEGA_QWEN35_CHUNK_A_RAW "pegainfer.triton_cubin.qwen35.gated_delta_rule_chunk_a"
#define PEGA_QWEN35_CHUNK_SOLVE "pegainfer.qwen35.gated_delta_rule_chunk_solve"
#define PEGA_QWEN35_CHUNK_SOLVE_RAW "pegainfer.triton_cubin.qwen35.gated_delta_rule_chunk_solve"
#define PEGA_QWEN35_CHUNK_RECOMPUTE "pegainfer.qwen35.gated_delta_rule_chunk_recompute"
#define PEGA_QWEN35_CHUNK_RECOMPUTE_RAW \
  "pegainfer.triton_cubin.qwen35.gated_delta_rule_chunk_recompute"
#define PEGA_QWEN35_CHUNK_STATE "pegainfer.qwen35.gated_delta_rule_chunk_state"
#define PEGA_QWEN35_CHUNK_STATE_RAW "pegainfer.triton_cubin.qwen35.gated_delta_rule_chunk_state"
#define PEGA_QWEN35_CHUNK_O "pegainfer.qwen35.gated_delta_rule_chunk_o"
#define PEGA_QWEN35_CHUNK_O_RAW "pegainfer.triton_cubin.qwen35.gated_delta_rule_chunk_o"

/*
 * What the symbols below have in common.
 *
 * Memory is the device's, contiguous and row-major in the order given, aligned to 16 bytes; bf16 is
 * passed as its 16 bits. What is written may not overlap anything else, unless a text says so. T =
 * seq_len, HK = num_key_heads, HV = num_value_heads, a multiple of HK; value head h uses key head
 * h / (HV / HK). Rows past T do not exist and are not touched. T = 0 or HV = 0 does nothing, except
 * that a state passes through; prepare and the decode step want HV >= 1. `stream` is a CUstream as a pointer, borrowed, NULL for the default
 * stream; launches are asynchronous. Any thread.
 *
 * Returns 0 (CUDA_SUCCESS) when launched; 1 (CUDA_ERROR_INVALID_VALUE) for a bad argument, found
 * before anything else; 100 (CUDA_ERROR_NO_DEVICE) where no CUDA driver or device is present, or the
 * driver's own code where it does not start; 801 (CUDA_ERROR_NOT_SUPPORTED) where no pack with the
 * kernel is at hand; 209 (CUDA_ERROR_NO_BINARY_FOR_GPU) where the pack has none for the device; what
 * the driver says otherwise. pega_symbol_last_error() has the text.
 *
 * Source of the rules: the chunked (WY) form of the gated delta rule, docs/functions.md.
 */

/**
 * \brief Splits and expands the projections: normalised q and k, v, gates.
 *
 * \param qkv bf16 [T, qkv_dim]: q (HK * 128), k (HK * 128), v (HV * 128).
 * \param b_proj, a_proj bf16 [T, HV].
 * \param dt_bias bf16 [HV].
 * \param a_log fp32 [HV].
 * \param q_out, k_out bf16 [T, HV, 128]: the row of the value head's key head, divided by
 *        sqrt(sum of squares + 1e-12).
 * \param v_out bf16 [T, HV, 128].
 * \param g_out fp32 [T, HV]: log gate -exp(a_log) softplus(a + dt_bias); softplus(x) = x for x > 20.
 * \param beta_out fp32 [T, HV]: sigmoid(b).
 * \param num_key_heads HK, 1 to 2^16.
 * \param num_value_heads HV, 1 to 2^16.
 * \param qkv_dim (2 HK + HV) * 128.
 * \param seq_len T, >= 0.
 */
PEGA_API int gated_delta_rule_prefill_chunk_prepare_cuda(
    const uint16_t *qkv, const uint16_t *b_proj, const uint16_t *a_proj, const uint16_t *dt_bias,
    const float *a_log, uint16_t *q_out, uint16_t *k_out, uint16_t *v_out, float *g_out,
    float *beta_out, int32_t num_key_heads, int32_t num_value_heads, int32_t qkv_dim,
    int32_t seq_len, void *stream);

/**
 * \brief Prefix sums of the log gates, restarted at each chunk of 64 tokens. Gates below -128, whose
 *        exp() is 0 in fp32, count as -128.
 * \param g_in fp32 [T, HV].
 * \param g_out fp32 [T, HV]: G.
 */
PEGA_API int gated_delta_rule_prefill_chunk_cumsum_cuda(const float *g_in, float *g_out,
                                                        int32_t seq_len, int32_t num_value_heads,
                                                        void *stream);

/**
 * \brief A[i, j] = beta_i exp(G_i - G_j) (k_i . k_j) for i > j within a chunk, 0 elsewhere.
 * \param k bf16 [T, HV, 128].
 * \param g_cumsum fp32 [T, HV]: G.
 * \param beta fp32 [T, HV].
 * \param a_tril fp32 [T, HV, 64]: row t of head h holds row (t mod 64) of its chunk's A.
 */
PEGA_API int gated_delta_rule_prefill_chunk_a_cuda(const uint16_t *k, const float *g_cumsum,
                                                   const float *beta, float *a_tril,
                                                   int32_t seq_len, int32_t num_value_heads,
                                                   void *stream);

/**
 * \brief Inverts I + A chunk by chunk: a_inv = (I + A)^-1, A strictly lower triangular.
 * \param a_tril fp32 [T, HV, 64]. Only the strict lower triangle is read.
 * \param a_inv bf16 [T, HV, 64]. The strict upper triangle is written as 0.
 * \param seq_len T, >= 0; 0 does nothing.
 * \param num_value_heads HV, 0 to 2^19; 0 does nothing.
 */
PEGA_API int gated_delta_rule_prefill_chunk_solve_cuda(const float *a_tril, uint16_t *a_inv,
                                                       int32_t seq_len, int32_t num_value_heads,
                                                       void *stream);

/**
 * \brief The chunk's values and keys behind the solve: u = Ainv (beta v), w = Ainv (beta exp(G) k).
 * \param k, v bf16 [T, HV, 128].
 * \param beta fp32 [T, HV].
 * \param w, u bf16 [T, HV, 128], written.
 * \param a_inv bf16 [T, HV, 64].
 * \param g_cumsum fp32 [T, HV]: G.
 */
PEGA_API int gated_delta_rule_prefill_chunk_recompute_cuda(const uint16_t *k, const uint16_t *v,
                                                           const float *beta, uint16_t *w,
                                                           uint16_t *u, const uint16_t *a_inv,
                                                           const float *g_cumsum, int32_t seq_len,
                                                           int32_t num_value_heads, void *stream);

/**
 * \brief Carries the state over the chunks: v_new = u - w S; S <- exp(G_last) S + k^T (exp(G_last - G)
 *        v_new).
 * \param k, w, u bf16 [T, HV, 128].
 * \param g_cumsum fp32 [T, HV]: G.
 * \param initial_state fp32 [HV, 128, 128] (K, then V contiguous); NULL for zeros.
 * \param chunk_state fp32 [ceil(T / 64), HV, 128, 128]: the state before each chunk, written.
 * \param v_new bf16 [T, HV, 128], written.
 * \param final_state fp32 [HV, 128, 128], written; NULL where it is not wanted. May be initial_state.
 */
PEGA_API int gated_delta_rule_prefill_chunk_state_cuda(const uint16_t *k, const uint16_t *w,
                                                       const uint16_t *u, const float *g_cumsum,
                                                       const float *initial_state,
                                                       float *chunk_state, uint16_t *v_new,
                                                       float *final_state, int32_t seq_len,
                                                       int32_t num_value_heads, void *stream);

/**
 * \brief o = scale (exp(G) (q S_before) + (exp(G_i - G_j) q_i . k_j for i >= j) v_new).
 * \param q, k, v_new bf16 [T, HV, 128].
 * \param chunk_state fp32 [ceil(T / 64), HV, 128, 128].
 * \param g_cumsum fp32 [T, HV]: G.
 * \param output bf16 [T, HV * 128], written.
 * \param scale 128^-0.5 in the rule.
 */
PEGA_API int gated_delta_rule_prefill_chunk_o_cuda(const uint16_t *q, const uint16_t *k,
                                                   const uint16_t *v_new, const float *chunk_state,
                                                   const float *g_cumsum, uint16_t *output,
                                                   int32_t seq_len, int32_t num_value_heads,
                                                   float scale, void *stream);

/* ------------------------------------------------------------------------------ the decode step -- */

/**
 * \brief One token of one sequence from its projections, the state changed in place.
 * \param qkv bf16 [(2 HK + HV) * 128]: q, k, v.
 * \param b_proj, a_proj bf16 [HV].
 * \param dt_bias bf16 [HV].
 * \param a_log fp32 [HV].
 * \param state fp32 [HV, 128, 128] (K, then V contiguous), read and written.
 * \param output bf16 [HV * 128], written; scaled by 128^-0.5.
 * \param num_key_heads, num_value_heads HK and HV, 1 to 2^16.
 * \param key_dim, val_dim 128.
 */
PEGA_API int gated_delta_rule_decode_cuda(const uint16_t *qkv, const uint16_t *b_proj,
                                          const uint16_t *a_proj, const uint16_t *dt_bias,
                                          const float *a_log, float *state, uint16_t *output,
                                          int32_t num_key_heads, int32_t num_value_heads,
                                          int32_t key_dim, int32_t val_dim, void *stream);

/**
 * \brief One token of each of batch_size sequences, whose states are anywhere.
 * \param qkv bf16 [batch_size, (2 HK + HV) * 128].
 * \param b_proj, a_proj bf16 [batch_size, HV].
 * \param state_ptrs Device memory [batch_size]: the address of each sequence's state, fp32 [HV, 128,
 *        128], aligned to 16 bytes, all different; 0 leaves a row of output 0 and touches no state.
 * \param output bf16 [batch_size, HV * 128], written.
 * \param batch_size >= 0; 0 does nothing.
 */
PEGA_API int gated_delta_rule_decode_batch_cuda(const uint16_t *qkv, const uint16_t *b_proj,
                                                const uint16_t *a_proj, const uint16_t *dt_bias,
                                                const float *a_log, const uint64_t *state_ptrs,
                                                uint16_t *output, int32_t batch_size,
                                                int32_t num_key_heads, int32_t num_value_heads,
                                                int32_t key_dim, int32_t val_dim, void *stream);

/**
 * \brief How the calling thread's last call of a plain C symbol ended.
 * \param error Receives a copy of its error, or is cleared when it succeeded; may be NULL.
 * \return Its status, PEGA_OK when it succeeded or there was none.
 */
PEGA_API pega_status pega_symbol_last_error(pega_error *error);

#ifdef __cplusplus
} /* extern "C" */
#endif
#endif /* PEGA_QWEN35_H_ */
