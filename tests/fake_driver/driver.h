/* SPDX-License-Identifier: Apache-2.0 */
/* The driver as a program that opens it at run time has it: cu.cuInit(0). */
#ifndef PEGA_TESTS_FAKE_DRIVER_DRIVER_H_
#define PEGA_TESTS_FAKE_DRIVER_DRIVER_H_

#include <stdbool.h>

#include "entries.h"
#include "numbers.h"

typedef struct driver {
#define DRIVER_MEMBER_(symbol, name, version, needs, parameters) CUresult(*symbol) parameters;
  FAKE_ENTRIES(DRIVER_MEMBER_)
#undef DRIVER_MEMBER_
} driver;

extern driver cu;

/* Fills `cu` from libcuda.so.1. False where there is none; what a driver lacks is NULL. */
bool driver_open(void **library);

#endif /* PEGA_TESTS_FAKE_DRIVER_DRIVER_H_ */
