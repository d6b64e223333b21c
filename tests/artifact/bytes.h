/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file bytes.h
 * \brief Files and GPU code made byte by byte, for the tests of what is read of them.
 */
#ifndef PEGA_TESTS_ARTIFACT_BYTES_H_
#define PEGA_TESTS_ARTIFACT_BYTES_H_

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* cmocka.h needs the headers above. */
#include <cmocka.h>

/** \brief Bytes on the heap. */
typedef struct bytes {
  unsigned char *data;
  size_t size;
} bytes;

bytes bytes_read(const char *path);
void bytes_write(const char *path, const void *data, size_t size);
void bytes_free(bytes *from);
/** \brief Appends; `from` NULL: zeros. */
void bytes_add(bytes *to, const void *from, size_t size);

/**
 * \brief Appends a cubin: its two kernels are `entry` and `entry` + "_2", and it has a device function.
 * \param layout 12 for the header of CUDA 12, 13 for the one since.
 */
void bytes_add_cubin(bytes *to, int layout, uint32_t sm, bool accelerated, const char *entry);

enum { FATBIN_PTX = 1, FATBIN_ELF = 2, FATBIN_OTHER = 8 };
enum { FATBIN_A = 0x100000, FATBIN_F = 0x200000, FATBIN_LZ4 = 0x2000, FATBIN_ZSTD = 0x8000 };
/** \brief Appends the header of a fatbin and returns its place, for bytes_end_fatbin(). */
size_t bytes_begin_fatbin(bytes *to);
void bytes_add_fatbin_entry(bytes *to, uint16_t kind, uint32_t sm, uint32_t flags, const void *from,
                            size_t size);
void bytes_end_fatbin(bytes *to, size_t place);

#endif  // PEGA_TESTS_ARTIFACT_BYTES_H_
