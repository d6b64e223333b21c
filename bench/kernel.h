/* SPDX-License-Identifier: Apache-2.0 */
/* One kernel of a pack, taken out of it to be launched by hand, as others would. */
#ifndef PEGA_BENCH_KERNEL_H_
#define PEGA_BENCH_KERNEL_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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
typedef struct bench_launch {
  unsigned grid[3];
  uint64_t storage[kMaxKernelParams];
  void *params[kMaxKernelParams];
} bench_launch;

/* Takes the solve's variant for `target` ("cuda:0") out of a pack file; false, having said why. */
bool bench_kernel_read(const char *path, const char *target, bench_kernel *out);

/* Works out a launch's grid and parameters; false, having said why. */
bool bench_launch_make(const bench_kernel *kernel, const bench_args *args, bench_launch *out);

#endif /* PEGA_BENCH_KERNEL_H_ */
