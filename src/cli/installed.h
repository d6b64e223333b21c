/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file installed.h
 * \brief What is installed beside `pega`, found from where the program is.
 */
#ifndef PEGA_CLI_INSTALLED_H_
#define PEGA_CLI_INSTALLED_H_

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

/** \brief Absolute path of `place`, relative to the prefix. False where there is no such thing. */
bool cli_installed(const char *place, char *path, size_t size);

#endif  // PEGA_CLI_INSTALLED_H_
