/* SPDX-License-Identifier: Apache-2.0 */
/* One kernel of a pack, taken out of it to be launched by hand, as others would. */
#ifndef PEGA_CLI_BENCH_KERNEL_H_
#define PEGA_CLI_BENCH_KERNEL_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gpu.h"

enum { kMaxKernelParams = 16 };

typedef struct bench_kernel {
  char target[32];
  char entry[256];
  char grid[3][512]; /* expressions */
  char values[kMaxKernelParams][512];
  uint32_t sizes[kMaxKernelParams];
  int num_params;
  unsigned block[3];
  unsigned cluster[3];
  unsigned shared;
  bool pdl;
  bool cooperative;
  void *cubin; /* owned */
  size_t cubin_size;
} bench_kernel;

/* The solve's arguments. */
typedef struct bench_args {
  uint64_t a_tril;
  uint64_t a_inv;
  int64_t seq_len;
  int64_t num_value_heads;
} bench_args;

/* What a launch by hand needs; `params` points into `storage`. */
typedef struct bench_kernel_launch {
  unsigned grid[3];
  uint64_t storage[kMaxKernelParams];
  void *params[kMaxKernelParams];
  CUlaunchConfig config; /* bench_launch_on() */
  CUlaunchAttribute attributes[3];
} bench_kernel_launch;

/* Takes the solve's variant for `target` ("cuda:0") and such a call out of a pack file; NULL: the one that is taken
 * where no condition holds. False: bench_kernel_problem(). */
bool bench_kernel_read(const char *path, const char *target, const bench_args *args,
                       bench_kernel *out);

/* Works out a launch's grid and parameters; false: bench_kernel_problem(). */
bool bench_launch_make(const bench_kernel *kernel, const bench_args *args,
                       bench_kernel_launch *out);

/* Fills `config`, for cuLaunchKernelEx on that stream; it points into `launch`. */
void bench_launch_on(const bench_kernel *kernel, CUstream stream, bench_kernel_launch *launch);

/* Loads the kernel; NULL, or why the driver does not. Static. */
const char *bench_kernel_load(const bench_kernel *kernel, CUmodule *module, CUfunction *function);

/* Why the last of the two failed. Static. */
const char *bench_kernel_problem(void);

#endif /* PEGA_CLI_BENCH_KERNEL_H_ */
