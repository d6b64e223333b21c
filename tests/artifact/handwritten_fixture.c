/* SPDX-License-Identifier: Apache-2.0 */
/* In the place of the library of handwritten kernels, under its own signature file: what the decode steps are
 * told of heads goes into the first two numbers of their output. */
#include "../../kernels/cuda/handwritten/pegainfer_kernels_cuda.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT const char *pegainfer_kernels_cuda_last_error(void) { return ""; }

#define RMS_NORM(name, type)                                                                  \
  EXPORT int rms_norm_##name##_cuda(const type *x, const type *weight, type *y, int32_t rows, \
                                    int32_t cols, float eps, void *stream) {                  \
    (void)x, (void)weight, (void)y, (void)rows, (void)cols, (void)eps, (void)stream;          \
    return 0;                                                                                 \
  }
RMS_NORM(bf16, uint16_t)
RMS_NORM(fp16, uint16_t)
RMS_NORM(fp32, float)

static int note(uint16_t *output, int32_t num_key_heads, int32_t num_value_heads) {
  output[0] = (uint16_t)num_key_heads;
  output[1] = (uint16_t)num_value_heads;
  return 0;
}

EXPORT int gated_delta_rule_decode_cuda(const uint16_t *qkv, const uint16_t *b_proj,
                                        const uint16_t *a_proj, const uint16_t *dt_bias,
                                        const float *a_log, float *state, uint16_t *output,
                                        int32_t num_key_heads, int32_t num_value_heads,
                                        int32_t key_dim, int32_t val_dim, void *stream) {
  (void)qkv, (void)b_proj, (void)a_proj, (void)dt_bias, (void)a_log, (void)state, (void)key_dim;
  (void)val_dim, (void)stream;
  return note(output, num_key_heads, num_value_heads);
}

EXPORT int gated_delta_rule_decode_batch_cuda(const uint16_t *qkv, const uint16_t *b_proj,
                                              const uint16_t *a_proj, const uint16_t *dt_bias,
                                              const float *a_log, const uint64_t *state_ptrs,
                                              uint16_t *output, int32_t batch_size,
                                              int32_t num_key_heads, int32_t num_value_heads,
                                              int32_t key_dim, int32_t val_dim, void *stream) {
  (void)qkv, (void)b_proj, (void)a_proj, (void)dt_bias, (void)a_log, (void)state_ptrs,
      (void)key_dim;
  (void)val_dim, (void)stream, (void)batch_size;
  return note(output, num_key_heads, num_value_heads);
}
