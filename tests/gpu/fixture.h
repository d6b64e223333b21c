/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file fixture.h
 * \brief What the GPU tests share: a device or a skip, checked driver calls, solves on the device.
 *
 * On pega's fake driver a program only rehearses, and only if PEGA_TEST_REHEARSAL is set: the solve
 * is then computed by the CPU, and what needs a real kernel is skipped with a line that says so.
 */
#ifndef PEGA_TESTS_GPU_FIXTURE_H_
#define PEGA_TESTS_GPU_FIXTURE_H_

#include <pega/cuda.h>
#include <pega/pack.h>
#include <pega/qwen35.h>

#include "cuda.h"
#include "solve_reference.h"
#include "support.h"

#define CUDA0 DEVICE(kDLCUDA, 0)

/** A driver call that succeeds; if not, the test fails with the result's name. */
#define GPU_OK(call) fixture_gpu_ok(call, #call, __FILE__, __LINE__)
void fixture_gpu_ok(CUresult result, const char *call, const char *file, int line);

/**
 * Makes device 0's primary context current. 0, or the exit status of a program that cannot run here,
 * which has said why.
 */
int fixture_begin(void);

/** fixture_begin(), and the kernels of this function must be at hand. */
int fixture_begin_with(const char *function);
/** The same for the solve. */
int fixture_begin_solve(void);

/** In a rehearsal: says what is left out, and why, and returns true. */
bool fixture_rehearsal(const char *left_out);

/** Opens the pack `name` of the folder PEGA_TEST_KERNELS; NULL, having said why, if it is not there. */
pega_pack *fixture_pack(const char *name);

/** A problem and its memory on the device. */
typedef struct device_solve {
  solve_problem problem;
  bool exact; /* only rows 0 to seq_len - 1 are on the device, in memory of exactly their size */
  CUdeviceptr in_memory;
  CUdeviceptr out_memory;
  CUdeviceptr a_tril;
  CUdeviceptr a_inv;
} device_solve;

/**
 * Makes a problem as solve_problem_create() does, with NaN, infinities and large numbers in every
 * input entry that may not be read, in the context that is current. `exact` lets a tool see any access
 * outside; else rows around show what was written.
 */
device_solve device_solve_create(int64_t seq_len, int64_t num_value_heads, double lowest_gate,
                                 uint64_t seed, bool exact);
void device_solve_free(device_solve *solve);

/** Copies the problem's input to the device. */
void device_solve_upload(const device_solve *solve);
/** Fills the output on the device with SOLVE_UNTOUCHED. Synchronous. */
void device_solve_poison(const device_solve *solve);
/** Copies the output, and what is around it, back into the problem. */
void device_solve_download(device_solve *solve);
/** Downloads, and compares with the fp64 inverse; the test fails if the output is not right. */
solve_comparison device_solve_expect_right(device_solve *solve, const char *what);
/** Whether every entry of the output is still SOLVE_UNTOUCHED. Downloads. */
bool device_solve_untouched(device_solve *solve);

/** The three ways to call the solve. */
typedef enum solve_form { FORM_RAW, FORM_TENSOR, FORM_SYMBOL, NUM_FORMS } solve_form;

/** Calls one form on the device's memory; the thread's current stream of cuda:0 is `stream`. */
pega_status device_solve_call(const device_solve *solve, solve_form form, CUstream stream,
                              pega_error *error);
/** device_solve_call() that must succeed. */
void device_solve_launch(const device_solve *solve, solve_form form, CUstream stream);

/** The registry's function of this name, owned by the fixture. */
pega_function *fixture_function(const char *name);

#endif /* PEGA_TESTS_GPU_FIXTURE_H_ */
