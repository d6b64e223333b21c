/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file process.h
 * \brief Runs a program and keeps what it writes: for tests that need a fresh process.
 */
#ifndef PEGA_TESTS_TVM_FFI_PROCESS_H_
#define PEGA_TESTS_TVM_FFI_PROCESS_H_

#include <stddef.h>

/** What became of a program. */
typedef struct process_result {
  int exit_code;      /**< its exit status, or -1 if a signal ended it */
  int signal;         /**< that signal, or 0 */
  char output[65536]; /**< the beginning of its stdout and stderr, NUL-terminated */
} process_result;

/**
 * Runs argv[0] with the variables of `environment` ("NAME=value", or "NAME" to unset; NULL at the
 * end, or NULL for none) on top of the own. Returns 0 if it could be started.
 */
int process_run(const char *const *argv, const char *const *environment, process_result *result);

/** Value of the first line "name: value" of an output, up to the line's end, in `buffer`. */
const char *process_line(const process_result *result, const char *name, char *buffer,
                         size_t capacity);

#endif /* PEGA_TESTS_TVM_FFI_PROCESS_H_ */
