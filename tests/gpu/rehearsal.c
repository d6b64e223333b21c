/* SPDX-License-Identifier: Apache-2.0 */
#include "rehearsal.h"

#include <dlfcn.h>
#include <pega/fake_driver.h>
#include <pega/qwen35.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda.h"

/* Addresses below are of nothing: a launch on them faults, as on a GPU. */
enum { kLeastAddress = 1 << 20 };

static pega_function *solve;

static int compute(const pega_fake_driver_launch *launch, void *user) {
  (void)user;
  if (launch->num_params < 4) return 1;
  uintptr_t a_tril;
  uintptr_t a_inv;
  int32_t sizes[2];
  memcpy(&a_tril, launch->params[0].bytes, sizeof a_tril);
  memcpy(&a_inv, launch->params[1].bytes, sizeof a_inv);
  memcpy(&sizes[0], launch->params[2].bytes, sizeof sizes[0]);
  memcpy(&sizes[1], launch->params[3].bytes, sizeof sizes[1]);
  if (a_tril < kLeastAddress || a_inv < kLeastAddress) return GPU_ILLEGAL_ADDRESS;
  int64_t shape[] = {sizes[0], sizes[1], PEGA_QWEN35_CHUNK};
  DLTensor in = {.data = (void *)a_tril,
                 .device = {kDLCPU, 0},
                 .ndim = 3,
                 .dtype = {kDLFloat, 32, 1},
                 .shape = shape};
  DLTensor out = in;
  out.data = (void *)a_inv;
  out.dtype.code = kDLBfloat;
  out.dtype.bits = 16;
  const pega_value args[] = {pega_value_tensor(&in), pega_value_tensor(&out)};
  return pega_function_call(solve, args, 2, NULL, NULL) == PEGA_OK ? 0 : 1;
}

void rehearsal_begin(void) {
  int (*set_kernel)(const char *, pega_fake_driver_kernel, void *);
  void *address = dlsym(gpu.library, "pega_fake_driver_set_kernel");
  memcpy(&set_kernel, &address, sizeof set_kernel);
  if (address == NULL || pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE, &solve, NULL) != PEGA_OK ||
      set_kernel("gated_delta_rule_chunk_solve", compute, NULL) != 0 ||
      set_kernel("gated_delta_rule_chunk_solve_halves", compute, NULL) != 0) {
    printf("the fake driver cannot be given the solve\n");
    exit(1);
  }
}
