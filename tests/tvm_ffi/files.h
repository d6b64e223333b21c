/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file files.h
 * \brief Makes the broken files that the tests hand to the bridge. Each returns 0 when done.
 */
#ifndef PEGA_TESTS_TVM_FFI_FILES_H_
#define PEGA_TESTS_TVM_FFI_FILES_H_

#include <stddef.h>

int files_write(const char *path, const void *bytes, size_t size);
int files_copy(const char *from, const char *to);
int files_patch(const char *path, long offset, const void *bytes, size_t size);
int files_truncate(const char *path, long size);
long files_size(const char *path);

/** Makes a copy of the shared library `from` claim to be for another processor. */
int files_copy_for_other_architecture(const char *from, const char *to);

#endif /* PEGA_TESTS_TVM_FFI_FILES_H_ */
