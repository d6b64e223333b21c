/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file bench_stuff.h
 * \brief What inputs are made of, the same for the device and the CPU.
 */
#ifndef PEGA_CLI_BENCH_STUFF_H_
#define PEGA_CLI_BENCH_STUFF_H_

#include <pega/qwen35.h>

/**
 * \brief What inputs are made of, on the host from a fixed seed. Rows repeat after a prime
 *        number.
 */
typedef enum bench_stuff {
  BENCH_UNIT_ROWS, /**< bf16 rows of 128, normal, of length 1 */
  BENCH_NORMAL,    /**< bf16, normal */
  BENCH_GATES,     /**< fp32, uniform in [-0.1, 0] */
  BENCH_BETAS,     /**< fp32, uniform in (0, 1) */
  BENCH_DECAYS,    /**< fp32, uniform in [-3, 0] */
  BENCH_STATES,    /**< fp32, normal, of deviation 0.3 */
  /** fp32, A of the chunk solve at 32 value heads: chunks of weak gates and of strong ones by
   * turns */
  BENCH_TRIANGLES,
  BENCH_NUM_STUFF
} bench_stuff;

/** \brief Chunks of BENCH_TRIANGLES until they repeat; odd ones have strong gates. */
enum { BENCH_TRIANGLE_CHUNKS = 7 };

/** \brief Bytes until it repeats. */
int64_t bench_stuff_bytes(bench_stuff stuff);
/** \brief That many; made when first asked for, and static. Not thread-safe. */
const void *bench_stuff_made(bench_stuff stuff);
/** \brief The byte at which a seed begins. */
int64_t bench_stuff_shift(bench_stuff stuff, int seed);
/** \brief Fills memory on the host. */
void bench_stuff_fill(bench_stuff stuff, int seed, void *to, int64_t bytes);

#endif  // PEGA_CLI_BENCH_STUFF_H_
