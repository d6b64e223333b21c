/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PEGA_OPS_QWEN35_GATED_DELTA_RULE_CPU_H_
#define PEGA_OPS_QWEN35_GATED_DELTA_RULE_CPU_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * \file gated_delta_rule_cpu.h
 * \brief The gated delta rule on the CPU: whole prefill, decode, and the stages of the chunked form
 *
 * T tokens, N sequences, HK key heads, HV value heads, rows of 128 numbers. bf16 is carried as its
 * 16 bits. Value head h uses key head h / (HV / HK). The state of a head is fp32 [128 keys, 128
 * values]. All arithmetic is fp32; a bf16 result is rounded once, to nearest, ties to even.
 *
 * Inf and NaN are not trapped. They stay within their head and its later tokens, but for those of
 * v: in the chunked form the outputs of up to seven tokens before may be lost with them.
 *
 * No function here checks what it is given beyond what its comment says, allocates, or keeps
 * anything between calls. Arrays need no alignment beyond that of their elements. Results do not
 * depend on the number of threads.
 *
 * Parameters that are the same everywhere:
 *   kernels      from pega_qwen35_kernels_named(), or NULL for the fastest ones
 *   num_threads  threads to use, the calling one included; <= 0 for one on each CPU that the
 *                calling thread may run on, fewer for small problems (core/parallel.h)
 */

/** \brief The inner loops for one instruction set (gated_delta_rule_cpu_kernels.h) */
typedef struct pega_qwen35_kernels pega_qwen35_kernels;

/**
 * \brief The inner loops with this name, for tests and benchmarks
 *
 * \param name "avx512", "avx2", "neon" or "portable"
 * \return NULL for a name that is unknown here or that this CPU cannot run
 */
const pega_qwen35_kernels *pega_qwen35_kernels_named(const char *name);

/** \brief The index-th name that this CPU can run, fastest first; NULL past the last one */
const char *pega_qwen35_kernels_name(int index);

/** \brief Integers of 32 or 64 bits, as the caller has them; values NULL means there are none */
typedef struct {
  const void *values;
  int bits;
} pega_qwen35_indices;

/* ---- Whole prefill ---- */

typedef enum {
  /** Chunks of tokens, as products of matrices. Takes a workspace. */
  PEGA_QWEN35_CHUNKED,
  /** Token by token. Faster for sequences of up to four tokens or so, nearly as fast for others. */
  PEGA_QWEN35_RECURRENT,
} pega_qwen35_implementation;

typedef struct {
  pega_qwen35_implementation implementation;
  /** Rows of q, k and v of one token are contiguous, those of the next one a stride away. */
  const uint16_t *q, *k, *v;
  int64_t q_stride, k_stride, v_stride;
  /** fp32 [T, HV]. g <= 0, -inf included; beta in [0, 1] */
  const float *g, *beta;
  /** fp32 [N, HV, 128, 128], NULL for zeros */
  const float *initial_state;
  /** [N + 1]; none: one sequence. Bounds outside 0 .. T are pulled in, so as to touch no memory
   * that is not the tensors'. */
  pega_qwen35_indices cu_seqlens;
  /** bf16 [T, HV, 128] */
  uint16_t *output;
  /** fp32 [N, HV, 128, 128], NULL if not wanted; may be initial_state. */
  float *final_state;
  int64_t num_tokens, num_sequences, num_key_heads, num_value_heads;
  float scale;
  /** Divide each row of q and k by sqrt(its sum of squares + 1e-12) and round it to bf16. */
  bool normalize;
  int num_threads;
  /** See pega_qwen35_prefill_cpu_workspace(). */
  void *workspace;
  size_t workspace_size;
} pega_qwen35_prefill;

/**
 * \brief Bytes of workspace that let pega_qwen35_prefill_cpu() use all the threads it is allowed
 *
 * To be aligned to 64 bytes for full speed. The chunked implementation makes do with less, on fewer
 * threads, down to the amount for one thread; the recurrent one takes none.
 */
size_t pega_qwen35_prefill_cpu_workspace(pega_qwen35_implementation implementation,
                                         int64_t num_sequences, int64_t num_key_heads,
                                         int64_t num_value_heads, int num_threads);

/** \return 0; or -1, with nothing written, where the workspace is too small for a single thread */
int pega_qwen35_prefill_cpu(const pega_qwen35_kernels *kernels, const pega_qwen35_prefill *prefill);

/* ---- Decode ---- */

typedef struct {
  /** One token each, with strides as in pega_qwen35_prefill */
  const uint16_t *q, *k, *v;
  int64_t q_stride, k_stride, v_stride;
  /** fp32 [B, HV] */
  const float *g, *beta;
  /** fp32 [P, HV, 128, 128], read and written */
  float *states;
  /** [B], no slot twice; none: token i uses slot i. A slot outside 0 .. P - 1 is padding: no state
   * is touched, the output row is zero. */
  pega_qwen35_indices slots;
  /** bf16 [B, HV, 128] */
  uint16_t *output;
  int64_t batch_size, num_slots, num_key_heads, num_value_heads;
  float scale;
  bool normalize;
  int num_threads;
} pega_qwen35_decode;

void pega_qwen35_decode_cpu(const pega_qwen35_kernels *kernels, const pega_qwen35_decode *decode);

/* ---- Gates ---- */

/**
 * \brief g = -exp(a_log) softplus(a + dt_bias), beta = sigmoid(b), all [num_tokens, HV]
 *
 * softplus(x) is x for x > 20. a, b bf16 [num_tokens, HV], dt_bias bf16 [HV], a_log fp32 [HV]
 */
void pega_qwen35_gates_cpu(const uint16_t *b, const uint16_t *a, const uint16_t *dt_bias,
                           const float *a_log, float *g, float *beta, int64_t num_tokens,
                           int64_t num_value_heads, int num_threads);

/* ---- The stages of the chunked form ----
 *
 * A thread takes up to 220 KiB of its stack.
 *
 * One sequence. Tensors bf16 [T, HV, 128], g, g_cumsum and beta fp32 [T, HV], a_tril fp32
 * [T, HV, 64], a_inv bf16 [T, HV, 64], states fp32 [HV, 128, 128], chunk_state
 * [ceil(T / 64), HV, 128, 128]. G_i - G_j of two infinite sums counts as 0. */

/** \brief q, k normalised and expanded to HV heads, v copied; qkv is bf16 [T, (2 HK + HV) 128]. */
void pega_qwen35_chunk_prepare_cpu(const pega_qwen35_kernels *kernels, const uint16_t *qkv,
                                   const uint16_t *b, const uint16_t *a, const uint16_t *dt_bias,
                                   const float *a_log, uint16_t *q, uint16_t *k, uint16_t *v,
                                   float *g, float *beta, int64_t seq_len, int64_t num_key_heads,
                                   int64_t num_value_heads, int num_threads);

/** \brief Prefix sums of g, begun anew with each chunk, of gates below -128 as -128; g_cumsum may be g. */
void pega_qwen35_chunk_cumsum_cpu(const float *g, float *g_cumsum, int64_t seq_len,
                                  int64_t num_value_heads, int num_threads);

/** \brief A[i, j] = beta_i exp(G_i - G_j) (k_i . k_j) below the diagonal, 0 elsewhere */
void pega_qwen35_chunk_a_cpu(const pega_qwen35_kernels *kernels, const uint16_t *k,
                             const float *g_cumsum, const float *beta, float *a_tril,
                             int64_t seq_len, int64_t num_value_heads, int num_threads);

/** \brief u = Ainv (beta v), w = Ainv (beta exp(G) k); a_inv is read up to its diagonal. */
void pega_qwen35_chunk_recompute_cpu(const pega_qwen35_kernels *kernels, const uint16_t *k,
                                     const uint16_t *v, const float *beta, uint16_t *w, uint16_t *u,
                                     const uint16_t *a_inv, const float *g_cumsum, int64_t seq_len,
                                     int64_t num_value_heads, int num_threads);

/**
 * \brief v_new = u - w S; S <- exp(G_last) S + k^T (exp(G_last - G) v_new), chunk by chunk
 *
 * chunk_state is S before each chunk. initial_state NULL is zeros; final_state may be NULL, or
 * initial_state.
 */
void pega_qwen35_chunk_state_cpu(const pega_qwen35_kernels *kernels, const uint16_t *k,
                                 const uint16_t *w, const uint16_t *u, const float *g_cumsum,
                                 const float *initial_state, float *chunk_state, uint16_t *v_new,
                                 float *final_state, int64_t seq_len, int64_t num_value_heads,
                                 int num_threads);

/** \brief o = scale (exp(G) (q S) + P v_new), P[i, j] = exp(G_i - G_j) (q_i . k_j) for i >= j */
void pega_qwen35_chunk_o_cpu(const pega_qwen35_kernels *kernels, const uint16_t *q,
                             const uint16_t *k, const uint16_t *v_new, const float *chunk_state,
                             const float *g_cumsum, uint16_t *output, int64_t seq_len,
                             int64_t num_value_heads, float scale, int num_threads);

#endif /* PEGA_OPS_QWEN35_GATED_DELTA_RULE_CPU_H_ */
