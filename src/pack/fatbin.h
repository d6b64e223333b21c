/* SPDX-License-Identifier: Apache-2.0 */
/* What a fatbin holds: its header and its entries, read from memory, never trusted. Needs libc alone.
 *
 * A fatbin is a header of 16 bytes (magic, version, size of the header, bytes that follow it) and
 * one entry behind the other: a header of at least 64 bytes that says its own size, then the code,
 * padded to 8. All of it is little-endian. */
#ifndef PEGA_PACK_FATBIN_H_
#define PEGA_PACK_FATBIN_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PEGA_FATBIN_MAGIC 0xBA55ED50u

/* What an entry holds. Of other kinds there are (8 is code for linking later). */
enum { kFatbinPtx = 1, kFatbinCubin = 2 };

typedef struct pega_fatbin_entry {
  uint32_t kind;              /* kFatbinPtx, kFatbinCubin or another number */
  uint32_t arch;              /* 90 */
  char suffix;                /* 0, 'a' or 'f' */
  bool compressed;            /* `bytes` are not the code itself */
  const unsigned char *bytes; /* within the fatbin */
  size_t size;                /* with up to 7 bytes of padding */
} pega_fatbin_entry;

/* The entries that are still to come. */
typedef struct pega_fatbin {
  const unsigned char *at, *end;
} pega_fatbin;

/* Begins with a fatbin at `bytes`. `*total` receives how many bytes it has, at most `size`; NULL where it
 * has to be all of them. Returns NULL, or what is wrong with it, for people: "it is cut short". */
const char *pega_fatbin_begin(pega_fatbin *fatbin, const void *bytes, size_t size, size_t *total);

/* The next entry; `*more` is false at the end. Returns NULL, or what is wrong. */
const char *pega_fatbin_next(pega_fatbin *fatbin, pega_fatbin_entry *out, bool *more);

#endif /* PEGA_PACK_FATBIN_H_ */
