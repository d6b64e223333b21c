/* SPDX-License-Identifier: Apache-2.0 */
#include "fatbin.h"

#include <string.h>

enum {
  kHeaderSize = 16,
  kEntryHeaderSize = 64, /* options of the compiler may follow */
  kMostEntryHeader = 1 << 20,
  kVersion = 1,

  /* Offsets within an entry's header. */
  kEntryKind = 0,         /* u16 */
  kEntryHeaderBytes = 4,  /* u32 */
  kEntryBytes = 8,        /* u64, padding included */
  kEntryCompressed = 16,  /* u32, 0 where the code is as it is */
  kEntryArch = 28,        /* u32 */
  kEntryFlags = 40,       /* u64 */
  kEntryUncompressed = 56 /* u64, 0 where the code is as it is */
};

/* Flags of an entry. */
enum { kFlagLz4 = 0x2000, kFlagZstd = 0x8000, kFlagExact = 0x100000, kFlagFamily = 0x200000 };

static uint64_t number(const unsigned char *bytes, int size) {
  uint64_t value = 0;
  for (int i = size; i-- > 0;) value = value << 8 | bytes[i];
  return value;
}

const char *pega_fatbin_begin(pega_fatbin *fatbin, const void *bytes, size_t size, size_t *total) {
  const unsigned char *header = bytes;
  if (size < kHeaderSize || number(header, 4) != PEGA_FATBIN_MAGIC) {
    return "it does not begin with a fatbin's header";
  }
  if (number(header + 4, 2) != kVersion) return "its version is not 1";
  const uint64_t header_bytes = number(header + 6, 2), code = number(header + 8, 8);
  if (header_bytes < kHeaderSize || header_bytes % 8 != 0 || header_bytes > size) {
    return "its header is of an impossible size";
  }
  if (code > size - header_bytes) return "it is cut short";
  if (total != NULL) {
    *total = (size_t)(header_bytes + code);
  } else if (code != size - header_bytes) {
    return "bytes follow its end";
  }
  fatbin->at = header + header_bytes;
  fatbin->end = fatbin->at + code;
  return NULL;
}

const char *pega_fatbin_next(pega_fatbin *fatbin, pega_fatbin_entry *out, bool *more) {
  const unsigned char *entry = fatbin->at;
  const size_t left = (size_t)(fatbin->end - entry);
  memset(out, 0, sizeof *out);
  *more = left > 0;
  if (left == 0) return NULL;
  if (left < kEntryHeaderSize) return "it ends within an entry's header";
  const uint64_t header_bytes = number(entry + kEntryHeaderBytes, 4);
  const uint64_t size = number(entry + kEntryBytes, 8), flags = number(entry + kEntryFlags, 8);
  if (header_bytes < kEntryHeaderSize || header_bytes % 8 != 0 || header_bytes > kMostEntryHeader ||
      header_bytes > left) {
    return "the header of an entry is of an impossible size";
  }
  if (size % 8 != 0 || size > left - header_bytes) return "an entry reaches past its end";
  out->kind = (uint32_t)number(entry + kEntryKind, 2);
  out->arch = (uint32_t)number(entry + kEntryArch, 4);
  out->suffix = (flags & kFlagExact) != 0 ? 'a' : (flags & kFlagFamily) != 0 ? 'f' : '\0';
  out->compressed = (flags & (kFlagLz4 | kFlagZstd)) != 0 ||
                    number(entry + kEntryCompressed, 4) != 0 ||
                    number(entry + kEntryUncompressed, 8) != 0;
  out->bytes = entry + header_bytes;
  out->size = (size_t)size;
  fatbin->at = out->bytes + size;
  return NULL;
}
