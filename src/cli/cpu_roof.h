/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file cpu_roof.h
 * \brief What this machine's processors can do at most: arithmetic, and moving bytes.
 */
#ifndef PEGA_CLI_CPU_ROOF_H_
#define PEGA_CLI_CPU_ROOF_H_

#include <stdbool.h>
#include <stdint.h>

/**
 * \brief Fused multiply-adds of float, two operations each, a second: the best of some tries.
 *
 * By the widest instructions that libpega has kernels for and the processor has, in registers
 * alone.
 */
double cpu_roof_flop(int threads, bool quick);

/**
 * \brief Bytes read and written a second by memcpy() of `bytes` in all, half of them read: the
 *        best of some tries, each of which does it again and again.
 *
 * So few bytes come from a cache as do those of a call that is made again and again.
 */
double cpu_roof_bytes(int threads, int64_t bytes, bool quick);

/** \brief Processors that the calling thread may run on. */
int cpu_roof_threads(void);

#endif /* PEGA_CLI_CPU_ROOF_H_ */
