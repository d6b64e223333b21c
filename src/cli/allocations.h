/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file allocations.h
 * \brief How often this process has allocated memory.
 */
#ifndef PEGA_CLI_ALLOCATIONS_H_
#define PEGA_CLI_ALLOCATIONS_H_

#include <stdbool.h>
#include <stdint.h>

/**
 * \brief Counts every allocation of every library in the process, on all threads.
 * \param out Allocations since the start.
 * \return false where nothing counts: another C library than glibc, or a sanitizer.
 */
bool cli_allocations(uint64_t *out);

#endif  // PEGA_CLI_ALLOCATIONS_H_
