/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of TVM FFI in the process, and what can be told of a library file without running it. */
#ifndef PEGA_TVM_FFI_LOCATE_H_
#define PEGA_TVM_FFI_LOCATE_H_

#include <stddef.h>
#include <sys/types.h>

/* A loaded object that defines TVMFFIGetVersion. */
typedef struct tvm_ffi_copy {
  const void *base;
  char *path; /* on the heap */
} tvm_ffi_copy;

/* Fills at most `capacity` copies in load order and returns how many there are in all. */
size_t tvm_ffi_find_copies(tvm_ffi_copy *copies, size_t capacity);
void tvm_ffi_free_copies(tvm_ffi_copy *copies, size_t count);

/* Version of the wheel that a .../tvm_ffi/lib/libtvm_ffi.so lies in, on the heap; NULL if none. */
char *tvm_ffi_wheel_version(const char *path);

#endif /* PEGA_TVM_FFI_LOCATE_H_ */
