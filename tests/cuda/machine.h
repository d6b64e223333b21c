/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file machine.h
 * \brief The fake driver under a test: the machine, the thread's contexts, what is alive.
 *
 * The program is linked with the fake driver, so that it is the libcuda.so.1 that the library opens.
 * `cu` has the driver's own entry points.
 */
#ifndef PEGA_TESTS_CUDA_MACHINE_H_
#define PEGA_TESTS_CUDA_MACHINE_H_

#include <pega/cuda.h>
#include <pega/fake_driver.h>

#include "../core/support.h"
#include "../fake_driver/driver.h"

#define CUDA(id) DEVICE(kDLCUDA, id)

/** Models a machine, the text is that of pega_fake_driver_configure(). Before the library's first use. */
void machine_start(const char *text);
/** Makes `device` one of this compute capability. */
void machine_set_capability(int device, int major, int minor);

/** The thread's stack of contexts. */
typedef struct machine_stack {
  int depth;
  CUcontext contexts[8]; /**< the current one last */
} machine_stack;
/** Reads the stack. With failure rules set it counts calls like any other. */
machine_stack machine_get_stack(void);
/** Pops what is beyond `wanted`, and pushes what is missing. */
void machine_set_stack(const machine_stack *wanted);
void machine_expect_stack(const machine_stack *expected, const char *what);

CUcontext machine_current(void);
pega_fake_driver_live_counts machine_live(void);
void machine_expect_live(const pega_fake_driver_live_counts *expected, const char *what);
/** Nothing was misused: no dead handle, no invalid capture; `lost` things went with their context. */
void machine_expect_no_faults(uint64_t lost);

/** Makes the nth launch of a prefill, of 3, fail: those of its chunks and its scan begin early. */
void machine_fail_launch(int nth, int result);

/** The last launch recorded; the test fails where there is none. */
pega_fake_driver_launch machine_last_launch(void);
pega_device_health_info machine_health(int device);

/** Runs `body` in a process of its own, which has not used the driver unless this one has; the test
 *  fails if it does, or takes longer than a minute. */
void machine_in_child(void (*body)(void));

/** Device memory of the primary context of a device, which it retains. */
uint64_t machine_alloc(int device, size_t size);
/** A stream of the primary context of a device, which it retains. */
CUstream machine_stream(int device, unsigned flags);
/** Give back what these made, with the retain. */
void machine_free(int device, uint64_t memory);
void machine_destroy_stream(int device, CUstream stream);

#endif /* PEGA_TESTS_CUDA_MACHINE_H_ */
