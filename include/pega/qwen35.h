/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file pega/qwen35.h
 * \brief Qwen3.5's gated delta rule: the plain C symbols of its kernels.
 *
 * Each symbol is also a function in the registry (pega_registry_get()), once in the raw form with
 * the same arguments and once in a checked form on tensors. A symbol returns a number with the
 * meaning of the CUDA driver's CUresult; the text belonging to a failure is had from
 * pega_symbol_last_error().
 */
#ifndef PEGA_QWEN35_H_
#define PEGA_QWEN35_H_

#include "pega.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * \brief Name of the solve's raw form: (a_tril_ptr, a_inv_ptr, seq_len, num_value_heads, stream).
 */
#define PEGA_QWEN35_CHUNK_SOLVE_RAW "pegainfer.triton_cubin.qwen35.gated_delta_rule_chunk_solve"
/** \brief Name of the solve on tensors: (a_tril, a_inv); runs where the tensors are. */
#define PEGA_QWEN35_CHUNK_SOLVE "pegainfer.qwen35.gated_delta_rule_chunk_solve"

/** \brief Tokens of a chunk. */
#define PEGA_QWEN35_CHUNK 64

/**
 * \brief Inverts I + A chunk by chunk on the GPU: a_inv = (I + A)^-1, A strictly lower triangular.
 *
 * \param a_tril Device memory, fp32 [seq_len, num_value_heads, 64], contiguous, aligned to 16
 *        bytes. Row t of head h holds row (t mod 64) of its chunk's A. Only the strict lower
 *        triangle is read.
 * \param a_inv Device memory, bf16 bits, the same shape, aligned to 16 bytes, not overlapping
 *        a_tril. The strict upper triangle is written as 0; rows past seq_len are not touched.
 * \param seq_len Tokens, >= 0; 0 does nothing.
 * \param num_value_heads Value heads, 0 to 2^19; 0 does nothing.
 * \param stream CUstream as a pointer, NULL for the default stream. Borrowed.
 * \return 0 (CUDA_SUCCESS) when launched; 1 (CUDA_ERROR_INVALID_VALUE) for a bad argument, found
 *        before anything else; 100 (CUDA_ERROR_NO_DEVICE) where no CUDA driver or device is
 *        present, or the driver's own code where it does not start; 801 (CUDA_ERROR_NOT_SUPPORTED)
 *        where no pack with the kernel is at hand; 209 (CUDA_ERROR_NO_BINARY_FOR_GPU) where the pack
 *        has none for the device; what the driver says otherwise. The launch is asynchronous.
 *
 * Any thread. Source of the rule: the chunked (WY) form of the gated delta rule,
 * docs/functions.md.
 */
PEGA_API int gated_delta_rule_prefill_chunk_solve_cuda(const float *a_tril, uint16_t *a_inv,
                                                       int32_t seq_len, int32_t num_value_heads,
                                                       void *stream);

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
