/* SPDX-License-Identifier: Apache-2.0 */
#include "ops/qwen35/gated_delta_rule_cpu_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <math.h>
#include <string.h>

#define KERNELS pega_qwen35_kernels_avx512
#define KERNELS_NAME "avx512"
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx2,fma")))
#define NAME(x) x##_avx512
#define LANES 16
#define ROWS_8
#define vec __m512
#define set1 _mm512_set1_ps
#define fma _mm512_fmadd_ps
#include "ops/qwen35/gated_delta_rule_cpu_kernels.inl"
#undef KERNELS
#undef KERNELS_NAME
#undef TARGET
#undef NAME
#undef LANES
#undef ROWS_8
#undef vec
#undef set1
#undef fma

#define KERNELS pega_qwen35_kernels_avx2
#define KERNELS_NAME "avx2"
#define TARGET __attribute__((target("avx2,fma")))
#define NAME(x) x##_avx2
#define LANES 8
#define vec __m256
#define set1 _mm256_set1_ps
#define fma _mm256_fmadd_ps
#include "ops/qwen35/gated_delta_rule_cpu_kernels.inl"

#endif
