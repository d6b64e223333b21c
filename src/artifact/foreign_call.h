/* SPDX-License-Identifier: Apache-2.0 */
/* Calls foreign code so that no exception gets past: the stack is unwound to here and no further. Compiled
 * into each library that calls foreign code. */
#ifndef PEGA_ARTIFACT_FOREIGN_CALL_H_
#define PEGA_ARTIFACT_FOREIGN_CALL_H_

#include <stdbool.h>
#include <stddef.h>

enum { kForeignWhatRoom = 512 }; /* what a text of an exception may need */

/* Calls run(data). False if something was thrown through it: the exception is destroyed, and `what` (may
 * be NULL) says its type and, where it is a std::exception, its text: "std::runtime_error: no such file".
 * `what` is written only then. Forced unwinding (pthread_exit, cancellation) goes on. `run` and what it
 * calls on the way to the foreign code have to be compiled with unwind tables. No lock, no allocation, and
 * no text where nothing is thrown. */
bool pega_foreign_call(void (*run)(void *data), void *data, char *what, size_t what_size);

enum { kForeignWhyRoom = 4096 }; /* what a text of a failed load may need */

/* dlopen() that comes back when a constructor throws. NULL with `why` (never empty), and whether something
 * was thrown in `threw` (may be NULL). */
void *pega_foreign_load(const char *path, int mode, bool *threw, char *why, size_t why_size);

#endif /* PEGA_ARTIFACT_FOREIGN_CALL_H_ */
