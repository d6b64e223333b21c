/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "ops/qwen35/gated_delta_rule_cpu_kernels.h"

/* Vectors of four floats, which the compiler takes apart where the machine has none. */
typedef float float_x4 __attribute__((vector_size(16)));

#define KERNELS pega_qwen35_kernels_portable
#define KERNELS_NAME "portable"
#define TARGET
#define NAME(x) x##_portable
#define LANES 4
#define vec float_x4
#define set1(x) ((float_x4){(x), (x), (x), (x)})
#define fma(a, b, c) ((a) * (b) + (c))
#include "ops/qwen35/gated_delta_rule_cpu_kernels.inl"
