/* SPDX-License-Identifier: Apache-2.0 */
/* Shared libraries of plain C functions, and the signature files that say how to call them
 * (docs/c-library.md). Reading runs none of the library's code; loading is a second step. */
#ifndef PEGA_ARTIFACT_C_LIBRARY_H_
#define PEGA_ARTIFACT_C_LIBRARY_H_

#include "elf.h"

typedef struct pega_c_library pega_c_library;

/* What a signature file says of its library as a whole. Text lives as long as the library. */
typedef struct pega_c_library_needs {
  const char *const
      *libraries; /* to be loaded before it, beyond the file's own list: names or paths */
  int32_t num_libraries;
  int32_t cuda_driver; /* least version, 12040 for 12.4; 0 for any */
  bool uses_cuda;      /* it says so; who opens it may know without */
} pega_c_library_needs;

/* Called around each call of each function of a library that is loaded with one, whatever its signature file
 * says of CUDA. `begin` may refuse the call: `end` does
 * not run then. Else `end` runs, with what the call's status is, and returns what it is to be. `room` is for
 * what they keep in between; `function` is the function's name. Neither may allocate or lock while all is well. */
typedef struct pega_c_library_guard {
  pega_status (*begin)(void *self, void *room, pega_error *error);
  pega_status (*end)(void *self, const char *function, void *room, pega_status status,
                     pega_error *error);
  void *self;
} pega_c_library_guard;

enum { kCLibraryGuardRoom = 64 };

/* Reads a signature file and compares it with the library: each symbol is there and is a function, each type
 * and each reference makes sense. PEGA_ERROR_NOT_FOUND if there is no such file, PEGA_ERROR_FORMAT and
 * PEGA_ERROR_SYMBOL with the path of the field. `file` is borrowed for the call. */
pega_status pega_c_library_read(const pega_elf *file, const char *signature_path,
                                pega_c_library **out, pega_error *error);
pega_c_library_needs pega_c_library_needs_of(const pega_c_library *library);
/* Names of its functions, sorted; owned. Needs no loading. */
pega_status pega_c_library_list(const pega_c_library *library, pega_value *out, pega_error *error);

/* Loads what was read, all symbols bound, and makes its functions. What the file needs has to be in the
 * process or where the loader finds it. The library stays in the process. A failure leaves the description as
 * it was. `guard` is copied; NULL for none. With one, or if the file says that it uses CUDA, functions with
 * CUDA tensors run in the context of their device. */
pega_status pega_c_library_load(pega_c_library *library, const pega_c_library_guard *guard,
                                pega_error *error);
/* Both at once, with no guard. */
pega_status pega_c_library_open(const pega_elf *file, const char *signature_path,
                                pega_c_library **out, pega_error *error);
/* A function of a loaded library. Returns owned; it lives on when the library is closed.
 * PEGA_ERROR_NOT_FOUND names the nearest. */
pega_status pega_c_library_get(const pega_c_library *library, const char *name, pega_function **out,
                               pega_error *error);
void pega_c_library_close(pega_c_library *library); /* takes NULL */

#endif /* PEGA_ARTIFACT_C_LIBRARY_H_ */
