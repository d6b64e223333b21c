/* SPDX-License-Identifier: Apache-2.0 */
/* The binary that a module may embed: which loaders it needs, before anything of it is loaded. */
#ifndef PEGA_TVM_FFI_LIBRARY_BIN_H_
#define PEGA_TVM_FFI_LIBRARY_BIN_H_

#include "elf_file.h"
#include "runtime.h"

/* Checks that the embedded binary is well-formed and that a loader is registered for every part of
 * it; else says which is missing and what usually provides it. */
pega_status tvm_ffi_check_library_bin(pega_tvm_ffi *runtime, const char *path, const elf_file *file,
                                      pega_error *error);

#endif /* PEGA_TVM_FFI_LIBRARY_BIN_H_ */
