/* SPDX-License-Identifier: Apache-2.0 */
/* An open pack, as the files of this folder see it. */
#ifndef PEGA_PACK_PACK_H_
#define PEGA_PACK_PACK_H_

#include <pthread.h>
#include <stdatomic.h>

#include "arena.h"
#include "description.h"
#include "json_read.h"
#include "table.h"

/* docs/packs.md, "Limits". */
#define PEGA_MAX_MANIFEST ((uint64_t)32 << 20) /* of a folder; of a function in a file's */
#define PEGA_MAX_FILE_MANIFEST ((uint64_t)512 << 20)
#define PEGA_MAX_INDEX ((uint64_t)8 << 20) /* more than all names and digests can need */
#define PEGA_MAX_BLOB ((uint64_t)1 << 30)
#define PEGA_MAX_PACK_FILE ((uint64_t)4 << 30)
enum {
  kMaxBlobs = 65536,
  kMaxFunctions = 16384,
  kMaxVariants = 1024,
  kMaxGolden = 64,
  kMaxGoldenRank = 8,
  kMaxConditions = 64
};

/* Where a blob's bytes are. `bytes` is set once, under the lock of blobs, when they are all right. */
typedef struct pega_blob_bytes {
  const unsigned char *bytes; /* hashed; NULL until then */
  void *owned;                /* what to free, NULL where the bytes are in place */
  uint64_t offset;            /* in the pack file */
  bool used;                  /* a description that was read names it; under the pack's lock */
} pega_blob_bytes;

/* A function of the pack. Of a folder it is described from the beginning. */
typedef struct pega_pack_entry {
  const char *name;
  _Atomic(const pega_pack_function *) description; /* NULL until it was read, under the lock */
  pega_function *made;         /* borrowed: who has it gives notice; under the lock */
  const unsigned char *sha256; /* of its text in the manifest... */
  uint32_t offset, size;       /* ...which is here */
} pega_pack_entry;

struct pega_pack {
  struct pega_pack *next, **link; /* of the list of open ones */
  _Atomic uint32_t refs;
  uint32_t flags;
  pega_arena arena;   /* under the lock once the pack is open */
  const char *source; /* path, for errors */
  const char *name;

  bool folder;
  int descriptor;              /* of the file, of the folder's blobs/; -1: in memory */
  const unsigned char *memory; /* of a pack in memory: all of it, else NULL */
  uint64_t file_size;          /* of a file, in memory or not */
  void *owned;                 /* to be freed: the copy in memory, the index of a file */

  const unsigned char *index; /* of a file, hashed; NULL for a folder */
  size_t index_size;
  uint64_t manifest_offset; /* in the file */
  uint32_t functions_begin; /* in the manifest */
  uint32_t functions_end;
  char *manifest; /* owned, NUL-terminated; of a file NULL until it is asked for, under the lock */
  size_t manifest_size;

  pega_blob *blobs;
  int32_t num_blobs;
  pega_blob_bytes *bytes; /* one for each blob */
  pega_table blob_names;
  pega_pack_entry *functions; /* in the manifest's order */
  int32_t num_functions;
  pega_table function_names;

  void *kept; /* of pega_pack_keep() */
  void (*release_kept)(void *kept);

  pthread_mutex_t lock;
  pthread_mutex_t blobs_lock; /* held while a blob is read and hashed; no lock is taken under it */
};

/* --- container.c: where bytes are --- */

/* Of a folder reads the manifest; of a file the header and the index, whose digest is right then. */
pega_status pega_container_open(pega_pack *pack, const pega_pack_options *options,
                                pega_error *error);
/* With a folder's blobs known: each is there, of its size. */
pega_status pega_container_find_blobs(const pega_pack *pack, pega_error *error);
/* A piece of a pack file, in memory of its own with a NUL behind it. `what` it is, for errors. */
pega_status pega_container_read(const pega_pack *pack, uint64_t offset, uint64_t size,
                                const char *what, void **out, pega_error *error);
/* The same of a blob, in either form. */
pega_status pega_container_read_blob(const pega_pack *pack, int32_t index, void **out,
                                     pega_error *error);
/* What is between the pieces of a pack file is zero. */
pega_status pega_container_check_padding(const pega_pack *pack, pega_error *error);
void pega_container_close(pega_pack *pack);

/* --- index.c: what a pack file says before its manifest --- */

enum { kHeaderSize = 48, kBlobAlignment = 64 };

static inline uint64_t pega_little_endian(const unsigned char *from, int size) {
  uint64_t number = 0;
  for (int i = size - 1; i >= 0; --i) number = number << 8 | from[i];
  return number;
}

static inline uint64_t pega_padded(uint64_t offset) {
  return (offset + kBlobAlignment - 1) / kBlobAlignment * kBlobAlignment;
}

/* Names, blobs and functions; each has its place, and the file ends behind the last. */
pega_status pega_index_read(pega_pack *pack, pega_error *error);
/* "cut off: it has 5 bytes, and <what> ends at byte `wanted`". */
pega_status pega_pack_cut_off(const pega_pack *pack, uint64_t wanted, const char *what,
                              pega_error *error);

/* --- manifest.c --- */

/* Reads and checks a folder's manifest, whole. */
pega_status pega_manifest_read(pega_pack *pack, pega_error *error);
/* Reads and checks a file's manifest but for its functions, and that the index agrees. With the lock. */
pega_status pega_manifest_check(pega_pack *pack, pega_error *error);
/* Reads and checks a function of a file. With the lock. */
pega_status pega_manifest_describe(pega_pack *pack, int32_t index, pega_error *error);
/* With all functions read: each blob is one's. */
bool pega_manifest_blobs_used(pega_json_reader *reader, const pega_pack *pack);

/* --- pack.c --- */

/* As pega_pack_function_name(). */
const char *pega_pack_blob_name(const void *pack, size_t index);

#endif /* PEGA_PACK_PACK_H_ */
