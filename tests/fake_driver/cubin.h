/* SPDX-License-Identifier: Apache-2.0 */
/* Cubins for tests: what a compiler writes around the code, with no code. */
#ifndef PEGA_TESTS_FAKE_DRIVER_CUBIN_H_
#define PEGA_TESTS_FAKE_DRIVER_CUBIN_H_

#include <stddef.h>
#include <stdint.h>

typedef struct cubin_param {
  uint16_t offset;
  uint16_t size;
} cubin_param;

typedef struct cubin_kernel {
  const char *name;
  uint32_t num_params;
  cubin_param params[8];
  uint32_t registers;
  uint32_t shared; /* static, without the system's part */
  uint32_t max_threads;
  uint32_t cluster[3];
  int wide_params; /* describe parameters as kernels with more than 4 KB of them do */
} cubin_kernel;

/* A cubin of architecture 90 for sm_90, as CUDA 13 writes it. Freed with free(). */
unsigned char *cubin_make(uint32_t architecture, const cubin_kernel *kernels, size_t count,
                          size_t *size);

#endif /* PEGA_TESTS_FAKE_DRIVER_CUBIN_H_ */
