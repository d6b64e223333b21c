/* SPDX-License-Identifier: Apache-2.0 */
/* The binary that a module may embed: which loaders it needs, before anything of it is loaded. */
#ifndef PEGA_TVM_FFI_LIBRARY_BIN_H_
#define PEGA_TVM_FFI_LIBRARY_BIN_H_

#include "artifact/elf.h"
#include "runtime.h"

/* The global function that loads parts of `kind` is this with the kind behind it. */
#define TVM_FFI_LOADER_PREFIX "ffi.Module.load_from_bytes."

/* Reads the embedded binary, `room` bytes from its symbol on, and calls `visit` with the kind of each part
 * that needs a loader. Refuses one that is malformed. */
pega_status tvm_ffi_visit_library_bin(const char *path, const void *bytes, size_t room,
                                      pega_status (*visit)(void *self, const char *kind,
                                                           pega_error *error),
                                      void *self, pega_error *error);

/* Whether a loader for parts of `kind` is registered in an open runtime. */
pega_status tvm_ffi_has_loader(pega_tvm_ffi *runtime, const char *kind, bool *out,
                               pega_error *error);

/* What usually registers the loader of a kind, as text, and as names of libraries, ended by NULL. */
const char *tvm_ffi_provider_text(const char *kind);
const char *const *tvm_ffi_provider_libraries(const char *kind);

/* Checks that the embedded binary is well-formed and that a loader is registered for every part of
 * it; else says which is missing and what usually provides it. */
pega_status tvm_ffi_check_library_bin(pega_tvm_ffi *runtime, const char *path, const pega_elf *file,
                                      pega_error *error);

#endif /* PEGA_TVM_FFI_LIBRARY_BIN_H_ */
