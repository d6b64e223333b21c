/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file gdr_device.h
 * \brief The gated delta rule's cases on device 0.
 *
 * In a rehearsal a call is made on the fake driver, which runs no kernel, and then again on the CPU on
 * the same memory: what follows has numbers to look at, and they count for nothing.
 */
#ifndef PEGA_TESTS_GPU_GDR_DEVICE_H_
#define PEGA_TESTS_GPU_GDR_DEVICE_H_

#include "fixture.h"
#include "gdr_cases.h"

/** Device memory with margins; see gdr_place. */
extern const gdr_place gdr_device_place;

/** For tools that watch memory: allocations have exactly the size asked for. */
extern bool gdr_device_exact;

/** What every program does first: fixture_begin(), exactness from PEGA_TEST_BRIEF, kernels at hand. */
int gdr_device_begin(const char *function);

/** The setting of the device: FLA's error is the limit. */
gdr_setting gdr_device_setting(const char *const *implementations, int num_implementations);

/** Calls with `stream` as the thread's current one, and does not wait. In a rehearsal also on the CPU. */
pega_status gdr_device_call(gdr_args *args, CUstream stream, pega_error *error);

/** Fills with NaNs again. */
void gdr_device_poison(gdr_buffer buffer);
/** Whether all of it is as it was poisoned. */
bool gdr_device_untouched(gdr_buffer buffer);
/** Copies there. */
void gdr_device_write(gdr_buffer buffer, const void *from);

#endif /* PEGA_TESTS_GPU_GDR_DEVICE_H_ */
