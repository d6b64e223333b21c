/* SPDX-License-Identifier: Apache-2.0 */
/* The peer: a kernel launched as TVM FFI's own C++ helper does, behind a packed function. It is a library that
 * bench/peers/cubin_launcher.py opens if it was built: it needs the CUDA toolkit. */
#ifndef PEGA_BENCH_LAUNCH_CUBIN_LAUNCHER_H_
#define PEGA_BENCH_LAUNCH_CUBIN_LAUNCHER_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct bench_cubin_launcher {
  /* Loads the kernel; NULL where that fails. `early`: launched so that it may begin before what is before it in
   * the stream has ended. */
  void *(*open)(const void *cubin, const char *entry, const unsigned *grid, const unsigned *block,
                unsigned shared, int early);
  /* One packed call: five arguments as TVMFFIAny, checked and converted as typed functions do. */
  int (*call)(void *kernel, void *a_tril, void *a_inv, int64_t seq_len, int64_t num_value_heads,
              void *stream);
  /* `count` such calls one after the other: ns of one, or -1 where one fails. */
  double (*time)(void *kernel, void *a_tril, void *a_inv, int64_t seq_len, int64_t num_value_heads,
                 void *stream, int count);
} bench_cubin_launcher;

const bench_cubin_launcher *bench_cubin_launcher_get(void);

#ifdef __cplusplus
}
#endif
#endif /* PEGA_BENCH_LAUNCH_CUBIN_LAUNCHER_H_ */
