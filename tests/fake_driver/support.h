/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PEGA_TESTS_FAKE_DRIVER_SUPPORT_H_
#define PEGA_TESTS_FAKE_DRIVER_SUPPORT_H_

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "entries.h"
#include "numbers.h"
#include "pega/fake_driver.h"

#define ok(call) assert_int_equal(call, 0)

/* Kernels of `image`: add(u64 y, f32 a, i32 n), plain(), heavy() with clusters of 2. */
extern CUcontext context; /* the primary one of device 0, current */
extern CUmodule module;
extern CUfunction add;
extern CUfunction plain;
extern CUfunction heavy;
extern CUstream stream; /* does not block */

/* A machine as `text` says, started, with the above. */
void begin(const char *text);
/* begin() without the module. */
void begin_bare(const char *text);
int set_up(void **state);
int tear_down(void **state);
/* The bytes of the module's image. */
const unsigned char *image(void);
CUresult launch_plain(CUstream where);
CUresult launch_add(CUstream where, CUdeviceptr y, float a, int n);

pega_fake_driver_live_counts live(void);
pega_fake_driver_fault_counts faults(void);

#endif /* PEGA_TESTS_FAKE_DRIVER_SUPPORT_H_ */
