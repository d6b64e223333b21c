/* SPDX-License-Identifier: Apache-2.0 */
/* The driver as the command line's benchmarks see it. */
#ifndef PEGA_TESTS_GPU_CUDA_H_
#define PEGA_TESTS_GPU_CUDA_H_

#include "../../src/cli/gpu.h"

#endif /* PEGA_TESTS_GPU_CUDA_H_ */
