/* SPDX-License-Identifier: Apache-2.0 */
/* An open pack, as the files of this folder see it. */
#ifndef PEGA_PACK_PACK_H_
#define PEGA_PACK_PACK_H_

#include <pthread.h>
#include <stdatomic.h>

#include "arena.h"
#include "description.h"

/* docs/packs.md, "Limits". */
#define PEGA_MAX_MANIFEST ((uint64_t)32 << 20)
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

/* Where a blob's bytes are. `bytes` is set once, under the pack's lock, when they are all right. */
typedef struct pega_blob_bytes {
  const unsigned char *bytes; /* hashed; NULL until then */
  void *owned;                /* what to free, NULL where the bytes are the pack file's */
  uint64_t offset;            /* in the pack file */
} pega_blob_bytes;

struct pega_pack {
  _Atomic uint32_t refs;
  uint32_t flags;
  pega_arena arena;
  const char *source; /* path, for errors */
  const char *name;
  char *manifest; /* owned, NUL-terminated */
  size_t manifest_size;

  const unsigned char *file; /* of a pack file: all of it, else NULL */
  uint64_t file_size;
  void *owned_file;
  int blobs_folder; /* of a folder: descriptor of blobs/, else -1 */

  const pega_blob *blobs;
  int32_t num_blobs;
  pega_blob_bytes *bytes; /* one for each blob */
  pthread_mutex_t lock;   /* guards `bytes` */

  const pega_pack_function *functions;
  int32_t num_functions;
  const int32_t *by_name; /* indices of functions, sorted by name */
};

/* container.c: puts the manifest's bytes into the pack, and what blobs are read from. */
pega_status pega_container_open(pega_pack *pack, const pega_pack_options *options,
                                pega_error *error);
/* With the manifest's blobs known: each has its place, of its size, and nothing else is there. */
pega_status pega_container_place(pega_pack *pack, pega_error *error);
/* Reads a blob of a folder into memory of its own, with a NUL behind it. */
pega_status pega_container_read_blob(const pega_pack *pack, const pega_blob *blob, void **out,
                                     pega_error *error);
void pega_container_close(pega_pack *pack);

/* manifest.c: reads and checks the manifest. */
pega_status pega_manifest_read(pega_pack *pack, pega_error *error);

#endif /* PEGA_PACK_PACK_H_ */
