/* SPDX-License-Identifier: Apache-2.0 */
/* The fake driver's numbers and types against the toolkit's cuda.h, where there is one. */
#include <stddef.h>
#include <stdio.h>

#ifndef TEST_CUDA_H
int main(void) {
  printf("SKIP: no cuda.h was found at configuration: install a CUDA toolkit (13.0 or newer)\n");
  return 77;
}
#else
#include <cuda.h>

#include "numbers.h"

static int failures;

static void check(const char *name, long number, long theirs) {
  if (number == theirs) return;
  ++failures;
  printf("%s: %ld here, %ld in cuda.h\n", name, number, theirs);
}

int main(void) {
#define CHECK_(name, number) check(#name, number, (long)name);
  FAKE_RESULTS(CHECK_)
  FAKE_DEVICE_ATTRIBUTES(CHECK_)
  FAKE_FUNCTION_ATTRIBUTES(CHECK_)
  FAKE_LAUNCH_ATTRIBUTES(CHECK_)
  FAKE_POINTER_ATTRIBUTES(CHECK_)
  FAKE_OTHERS(CHECK_)
  /* Layouts of abi.h, whose names cuda.h has too. */
  check("sizeof CUlaunchAttribute", 72, sizeof(CUlaunchAttribute));
  check("sizeof CUlaunchConfig", 56, sizeof(CUlaunchConfig));
  check("offset of value", 8, offsetof(CUlaunchAttribute, value));
  check("offset of hStream", 32, offsetof(CUlaunchConfig, hStream));
  check("offset of attrs", 40, offsetof(CUlaunchConfig, attrs));
  check("offset of numAttrs", 48, offsetof(CUlaunchConfig, numAttrs));
  check("sizeof CUtensorMap", 128, sizeof(CUtensorMap));
  check("sizeof CUuuid", 16, sizeof(CUuuid));
  check("sizeof CUdeviceptr", 8, sizeof(CUdeviceptr));
  return failures == 0 ? 0 : 1;
}
#endif
