/* SPDX-License-Identifier: Apache-2.0 */
/* Handwritten CUDA kernels as plain C functions: libpegainfer_kernels_cuda.so. It needs nothing but a CUDA
 * driver, and nothing of pega. pega opens it through the signature file beside it.
 *
 * Each launches on `stream` (a CUstream or cudaStream_t as a pointer, NULL for the default stream) in the
 * calling thread's current context, asynchronously, and returns 0, or a number with the meaning of
 * cudaError_t: 1 for a bad argument, of which nothing was launched. Memory is the device's, row-major; bf16
 * and fp16 are passed as their 16 bits. Any thread. */
#ifndef PEGAINFER_KERNELS_CUDA_H_
#define PEGAINFER_KERNELS_CUDA_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What the calling thread's last failure was, "" before the first. Lives as long as the process. */
const char *pegainfer_kernels_cuda_last_error(void);

/* y[r, c] = x[r, c] * weight[c] / sqrt(mean of x[r, :]^2 + eps), computed in fp32 and rounded once.
 * x, y: [rows, cols]; weight: [cols]. y may be x. rows, cols >= 0; eps >= 0. Any alignment of the element; 16
 * bytes, with rows of a multiple of them, is fastest. */
int rms_norm_bf16_cuda(const uint16_t *x, const uint16_t *weight, uint16_t *y, int32_t rows,
                       int32_t cols, float eps, void *stream);
int rms_norm_fp16_cuda(const uint16_t *x, const uint16_t *weight, uint16_t *y, int32_t rows,
                       int32_t cols, float eps, void *stream);
int rms_norm_fp32_cuda(const float *x, const float *weight, float *y, int32_t rows, int32_t cols,
                       float eps, void *stream);

/* The decode step of the gated delta rule: see pega/qwen35.h, which has functions of the same names. All
 * memory is aligned to 16 bytes. */
int gated_delta_rule_decode_cuda(const uint16_t *qkv, const uint16_t *b_proj,
                                 const uint16_t *a_proj, const uint16_t *dt_bias,
                                 const float *a_log, float *state, uint16_t *output,
                                 int32_t num_key_heads, int32_t num_value_heads, int32_t key_dim,
                                 int32_t val_dim, void *stream);
int gated_delta_rule_decode_batch_cuda(const uint16_t *qkv, const uint16_t *b_proj,
                                       const uint16_t *a_proj, const uint16_t *dt_bias,
                                       const float *a_log, const uint64_t *state_ptrs,
                                       uint16_t *output, int32_t batch_size, int32_t num_key_heads,
                                       int32_t num_value_heads, int32_t key_dim, int32_t val_dim,
                                       void *stream);

#ifdef __cplusplus
} /* extern "C" */
#endif
#endif /* PEGAINFER_KERNELS_CUDA_H_ */
