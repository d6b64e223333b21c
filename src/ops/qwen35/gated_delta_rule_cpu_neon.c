/* SPDX-License-Identifier: Apache-2.0 */
#include "ops/qwen35/gated_delta_rule_cpu_kernels.h"

#if defined(__aarch64__)

#include <arm_neon.h>
#include <math.h>
#include <string.h>

#define KERNELS pega_qwen35_kernels_neon
#define KERNELS_NAME "neon"
#define TARGET
#define NAME(x) x##_neon
#define LANES 4
#define ROWS_8
#define vec float32x4_t
#define set1 vdupq_n_f32
#define fma(a, b, c) vfmaq_f32(c, a, b)
#include "ops/qwen35/gated_delta_rule_cpu_kernels.inl"

#endif
