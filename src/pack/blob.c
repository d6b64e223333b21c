/* SPDX-License-Identifier: Apache-2.0 */
/* A blob's bytes: read once, hashed once, kept. A large one takes long: look-ups do not wait for it. */
#include <inttypes.h>
#include <stdlib.h>

#include "digest.h"
#include "pack.h"

/* With the lock of blobs held. What is read and hashed here is what everybody gets. */
static pega_status load_locked(pega_pack *pack, int32_t index, pega_blob_bytes *out,
                               pega_error *error) {
  const pega_blob *blob = &pack->blobs[index];
  unsigned char digest[kSha256Bytes];
  char name[2 * kSha256Bytes + 1];
  void *owned = NULL;
  const unsigned char *bytes = pack->memory == NULL ? NULL : pack->memory + out->offset;
  /* The driver wants a NUL behind PTX, readers of ELF want it aligned. */
  if (bytes == NULL || blob->kind == kBlobPtx || (uintptr_t)bytes % _Alignof(uint64_t) != 0) {
    pega_status status = pega_container_read_blob(pack, index, &owned, error);
    if (status != PEGA_OK) return status;
    bytes = owned;
  }
  pega_sha256(bytes, (size_t)blob->size, digest);
  if (memcmp(digest, blob->sha256, sizeof digest) != 0) {
    free(owned);
    pega_sha256_name(digest, name);
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: blob %s: its SHA-256 is %s: damaged or changed; copy or build the "
                          "pack again",
                          pack->source, blob->name, name);
  }
  out->owned = owned;
  out->bytes = bytes;
  return PEGA_OK;
}

pega_status pega_pack_blob_bytes(pega_pack *pack, int32_t index, const void **bytes, size_t *size,
                                 pega_error *error) {
  const pega_blob *blob = &pack->blobs[index];
  pega_blob_bytes *state = &pack->bytes[index];
  pega_status status = PEGA_OK;
  pthread_mutex_lock(&pack->blobs_lock);
  if (state->bytes == NULL) status = load_locked(pack, index, state, error);
  if (status == PEGA_OK) {
    *bytes = state->bytes;
    *size = (size_t)blob->size;
  }
  pthread_mutex_unlock(&pack->blobs_lock);
  return status;
}
