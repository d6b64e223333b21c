/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the demo share. */
#ifndef PEGA_EXAMPLES_DEMO_H_
#define PEGA_EXAMPLES_DEMO_H_

#include <pega/pega.h>
#include <pega/tvm_ffi.h>

/** Prints a section's heading. */
void demo_section(const char *title);

/** Prints a line and counts it: `passed` is what the demo promises to be true. */
void demo_check(bool passed, const char *format, ...) PEGA_PRINTF(2, 3);

/** Sections 2 to 4: the engine and the artifact call each other, and fail. */
void demo_boundary(pega_tvm_ffi *runtime, pega_tvm_ffi_module *module);

/** Section 5: the first kernel function on tensors of real shape, against fp64. */
void demo_solve(void);

/** Section 6: a whole prefill and decode steps after it, on the CPU and on a GPU, against fp64. */
void demo_prefill(void);

#endif /* PEGA_EXAMPLES_DEMO_H_ */
