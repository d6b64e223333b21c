/* SPDX-License-Identifier: Apache-2.0 */
/* What stands before a pack file's manifest, so that opening reads no more: docs/packs.md has the form. */
#include <inttypes.h>
#include <stdio.h>

#include "core/text.h"
#include "digest.h"
#include "pack.h"

/* Bytes of the index: of its beginning, of each blob, of each function. */
enum { kBeginSize = 56, kBlobSize = kSha256Bytes + 12, kFunctionSize = kSha256Bytes + 4 };

static const char kNoName[] =
    "expected names of 1 to 255 bytes, UTF-8 without blanks and control characters";

static pega_status wrong(const pega_pack *pack, const char *what, pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_FORMAT, NULL, "%s: its index: %s; build the pack again",
                        pack->source, what);
}

static pega_status out_of_memory(const pega_pack *pack, pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "%s: no memory for its index",
                        pack->source);
}

static bool too_much(const pega_pack *pack, const char *what, uint64_t number, uint64_t most,
                     pega_error *error) {
  if (number <= most) return false;
  pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                 "%s: its index: %s: %" PRIu64 ", at most %" PRIu64 " are allowed", pack->source,
                 what, number, most);
  return true;
}

/* `at` is where the first blob's entry is, *end receives where the last blob ends in the file. */
static pega_status read_blobs(pega_pack *pack, const unsigned char *at, uint64_t *end,
                              pega_error *error) {
  const size_t count = (size_t)pack->num_blobs;
  pack->blobs = pega_arena_alloc(&pack->arena, count, sizeof *pack->blobs);
  pack->bytes = pega_arena_alloc(&pack->arena, count, sizeof *pack->bytes);
  if (pack->blobs == NULL || pack->bytes == NULL ||
      !pega_table_make(&pack->blob_names, &pack->arena, count)) {
    return out_of_memory(pack, error);
  }
  for (size_t i = 0; i < count; ++i, at += kBlobSize) {
    pega_blob *blob = &pack->blobs[i];
    memcpy(blob->sha256, at, kSha256Bytes);
    pega_sha256_name(blob->sha256, blob->name);
    blob->size = pega_little_endian(at + kSha256Bytes, 8);
    blob->kind = (uint32_t)pega_little_endian(at + kSha256Bytes + 8, 4);
    if (too_much(pack, "bytes of a blob", blob->size, PEGA_MAX_BLOB, error)) {
      return PEGA_ERROR_RANGE;
    }
    if (blob->kind > kBlobFatbin) return wrong(pack, "a blob of no known kind", error);
    if (pega_table_put(&pack->blob_names, i, pega_pack_blob_name, pack) >= 0) {
      return wrong(pack, "a blob is there twice", error);
    }
    pack->bytes[i].offset = *end;
    if (*end + blob->size > pack->file_size) {
      char what[96];
      snprintf(what, sizeof what, "blob %zu (%.16s...)", i, blob->name);
      return pega_pack_cut_off(pack, *end + blob->size, what, error);
    }
    *end = pega_padded(*end + blob->size);
  }
  return PEGA_OK;
}

/* The next of the names; NULL where there is none or it is none. */
static const char *next_name(const pega_pack *pack, const unsigned char **at) {
  const unsigned char *name = *at;
  const unsigned char *end = memchr(name, '\0', (size_t)(pack->index + pack->index_size - name));
  if (end == NULL || end == name || end - name > PEGA_MAX_NAME ||
      !pega_text_is_utf8((const char *)name, (size_t)(end - name))) {
    return NULL;
  }
  for (const unsigned char *byte = name; byte < end; ++byte) {
    if (*byte <= ' ' || *byte == 0x7f) return NULL;
  }
  *at = end + 1;
  return (const char *)name;
}

static pega_status read_functions(pega_pack *pack, const unsigned char *at,
                                  const unsigned char *names, pega_error *error) {
  const size_t count = (size_t)pack->num_functions;
  uint64_t offset = pack->functions_begin;
  pack->functions = pega_arena_alloc(&pack->arena, count, sizeof *pack->functions);
  if (pack->functions == NULL || !pega_table_make(&pack->function_names, &pack->arena, count)) {
    return out_of_memory(pack, error);
  }
  for (size_t i = 0; i < count; ++i, at += kFunctionSize) {
    pega_pack_entry *entry = &pack->functions[i];
    if (i > 0) ++offset; /* a comma */
    entry->sha256 = at;
    entry->offset = (uint32_t)offset;
    entry->size = (uint32_t)pega_little_endian(at + kSha256Bytes, 4);
    offset += entry->size;
    /* Before the next is added, so that nothing overflows. */
    if (offset >= pack->manifest_size || entry->size > PEGA_MAX_MANIFEST)
      return wrong(pack, "a function ends past the manifest, or has more than 32 MiB", error);
    entry->name = next_name(pack, &names);
    if (entry->name == NULL) return wrong(pack, kNoName, error);
    if (pega_table_put(&pack->function_names, i, pega_pack_function_name, pack) >= 0) {
      return wrong(pack, "a name is used twice", error);
    }
  }
  pack->functions_end = (uint32_t)offset;
  if (names == pack->index + pack->index_size) return PEGA_OK;
  return wrong(pack, "nothing may follow the names", error);
}

pega_status pega_index_read(pega_pack *pack, pega_error *error) {
  const unsigned char *at = pack->index;
  if (pack->index_size < kBeginSize) return wrong(pack, "it is too short", error);
  const uint64_t size = pega_little_endian(at, 8);
  const uint64_t num_blobs = pega_little_endian(at + 40, 4);
  const uint64_t num_functions = pega_little_endian(at + 44, 4);
  const uint64_t schema = pega_little_endian(at + 52, 4);
  pack->functions_begin = (uint32_t)pega_little_endian(at + 48, 4);
  if (schema != PEGA_PACK_SCHEMA_VERSION) {
    return pega_error_set(error, PEGA_ERROR_VERSION, NULL,
                          "%s: schema_version %" PRIu64 ": this library reads %d; use a newer one",
                          pack->source, schema, PEGA_PACK_SCHEMA_VERSION);
  }
  if (too_much(pack, "bytes of the manifest", size, PEGA_MAX_FILE_MANIFEST, error) ||
      too_much(pack, "blobs", num_blobs, kMaxBlobs, error) ||
      too_much(pack, "functions", num_functions, kMaxFunctions, error)) {
    return PEGA_ERROR_RANGE;
  }
  const unsigned char *functions = at + kBeginSize + num_blobs * kBlobSize;
  const unsigned char *names = functions + num_functions * kFunctionSize;
  if (names > at + pack->index_size) return wrong(pack, "it is too short", error);
  if (pack->functions_begin >= size) return wrong(pack, "no place for functions", error);
  pack->manifest_size = (size_t)size;
  pack->num_blobs = (int32_t)num_blobs;
  pack->num_functions = (int32_t)num_functions;
  pack->name = next_name(pack, &names);
  if (pack->name == NULL) return wrong(pack, kNoName, error);
  uint64_t end = pack->manifest_offset + size;
  if (end > pack->file_size) return pega_pack_cut_off(pack, end, "the manifest", error);
  end = pega_padded(end);
  pega_status status = read_blobs(pack, at + kBeginSize, &end, error);
  if (status == PEGA_OK) status = read_functions(pack, functions, names, error);
  if (status != PEGA_OK) return status;
  if (end > pack->file_size) return pega_pack_cut_off(pack, end, "the padding", error);
  if (end == pack->file_size) return PEGA_OK;
  return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                        "%s: it ends at byte %" PRIu64 " by its index, and has %" PRIu64
                        " bytes: nothing may follow the last blob",
                        pack->source, end, pack->file_size);
}
