/* SPDX-License-Identifier: Apache-2.0 */
/* What a shared library's file says of itself, read without running any of it. */
#ifndef PEGA_TVM_FFI_ELF_FILE_H_
#define PEGA_TVM_FFI_ELF_FILE_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pega/pega.h"

typedef struct elf_file {
  char **symbols; /* names of defined dynamic symbols */
  size_t num_symbols;
  bool uses_tvm_ffi; /* it defines or needs a symbol of TVM FFI's C API */
  char *library_bin; /* content of __tvm_ffi__library_bin to the end of its segment, or NULL */
  size_t library_bin_size;
} elf_file;

/* Reads a file that is to be loaded into this process. Refuses with the reason what cannot be: no
 * file, not ELF, another architecture, not a shared library. The text starts with the path. */
pega_status elf_file_read(const char *path, elf_file *out, pega_error *error);
void elf_file_free(elf_file *file);

bool elf_file_defines(const elf_file *file, const char *symbol);

#endif /* PEGA_TVM_FFI_ELF_FILE_H_ */
