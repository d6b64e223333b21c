/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PEGA_OPS_QWEN35_CHUNK_SOLVE_CPU_H_
#define PEGA_OPS_QWEN35_CHUNK_SOLVE_CPU_H_

#include <stdbool.h>
#include <stdint.h>

/**
 * \file chunk_solve_cpu.h
 * \brief The chunk solve of the gated delta rule on the CPU: (I + A)^-1 for each 64-row tile
 *
 * Input a_tril is fp32 [T, HV, 64] and output a_inv is bf16 [T, HV, 64], carried as its 16 bits;
 * both are row-major and contiguous (T = seq_len, HV = num_value_heads). Tile (c, h) is chunk c of
 * head h. It has n = min(64, T - 64 c) rows, and A[i, j] is a_tril[64 c + i, h, j].
 *
 * What is read: A[i, j] for j < i < n alone counts. Whatever stands on or above the diagonal, NaN
 * included, has no influence on the result.
 *
 * What is written: all 64 columns of rows i < n. Below the diagonal (I + A)^-1, computed in fp32
 * and rounded to the nearest bf16, ties to even; on the diagonal exactly 1; above it exactly +0.
 *
 * Inf and NaN below the diagonal are not trapped. A non-finite A[i, j] makes the entries that
 * depend on it non-finite; they lie in rows >= i of the same tile, and no column past the end of
 * the group of 16 columns that holds j is touched. A result that is NaN is written as a quiet NaN.
 */

/**
 * \brief Solve every tile with the fastest implementation that this CPU can run
 *
 * \param a_tril borrowed, [seq_len, num_value_heads, 64] fp32, aligned to 4 bytes
 * \param a_inv borrowed, [seq_len, num_value_heads, 64] bf16, aligned to 2 bytes; must not overlap
 *   a_tril. Faster where it is aligned to 64 bytes.
 * \param seq_len T; nothing is done for T <= 0
 * \param num_value_heads HV; nothing is done for HV <= 0
 * \param num_threads threads to use, the calling one included; <= 0 for one on each CPU that the
 *   calling thread may run on, fewer for small problems (core/parallel.h)
 *
 * Allocates nothing and cannot fail. Thread-safe. The result does not depend on num_threads.
 */
void pega_qwen35_chunk_solve_cpu(const float *a_tril, uint16_t *a_inv, int64_t seq_len,
                                 int64_t num_value_heads, int num_threads);

/**
 * \brief The name of the implementation that pega_qwen35_chunk_solve_cpu() uses on this CPU
 *
 * "avx512", "avx2", "neon" or "portable"; a static string.
 */
const char *pega_qwen35_chunk_solve_cpu_implementation(void);

/**
 * \brief Solve every tile with a named implementation, for tests and benchmarks
 *
 * \return 0; or -1, with nothing written, for a name that is unknown here or that this CPU cannot
 *   run
 */
int pega_qwen35_chunk_solve_cpu_with(const char *implementation, const float *a_tril,
                                     uint16_t *a_inv, int64_t seq_len, int64_t num_value_heads,
                                     int num_threads);

/**
 * \brief The names that pega_qwen35_chunk_solve_cpu_with() takes on this CPU, fastest first
 *
 * \return a static string; or NULL for index < 0 and past the last one
 */
const char *pega_qwen35_chunk_solve_cpu_name(int index);

/* What follows is for the implementations only. */

/** \brief One call's arguments, as its threads share them */
typedef struct {
  const float *a_tril;
  uint16_t *a_inv;
  int64_t seq_len;
  int64_t num_value_heads;
  /** Write around the caches. Only set where a_inv is aligned to 64 bytes. */
  bool stream;
} pega_qwen35_chunk_solve_job;

/**
 * \brief Solve the tiles begin <= tile < end, where tile = c * num_value_heads + h
 *
 * Heads run innermost, so that neighbouring tiles are neighbours in memory.
 */
typedef void (*pega_qwen35_chunk_solve_tiles)(const pega_qwen35_chunk_solve_job *job, int64_t begin,
                                              int64_t end);

void pega_qwen35_chunk_solve_tiles_portable(const pega_qwen35_chunk_solve_job *job, int64_t begin,
                                            int64_t end);
#if defined(__x86_64__)
void pega_qwen35_chunk_solve_tiles_avx2(const pega_qwen35_chunk_solve_job *job, int64_t begin,
                                        int64_t end);
void pega_qwen35_chunk_solve_tiles_avx512(const pega_qwen35_chunk_solve_job *job, int64_t begin,
                                          int64_t end);
#elif defined(__aarch64__)
void pega_qwen35_chunk_solve_tiles_neon(const pega_qwen35_chunk_solve_job *job, int64_t begin,
                                        int64_t end);
#endif

#endif /* PEGA_OPS_QWEN35_CHUNK_SOLVE_CPU_H_ */
