/* SPDX-License-Identifier: Apache-2.0 */
#include "file.h"

#include <nettle/sha2.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* ---- As much of JSON as good manifests need; of bad ones something is found, or nothing ---- */

typedef struct piece {
  const char *at, *end;
} piece;

/* Behind the string that begins at `at`. */
static const char *behind_string(const char *at, const char *end) {
  for (++at; at < end && *at != '"'; ++at) at += *at == '\\' && at + 1 < end;
  return at < end ? at + 1 : end;
}

/* Behind the value that begins at `at`. */
static const char *behind_value(const char *at, const char *end) {
  int depth = 0;
  while (at < end) {
    if (*at == '"') {
      at = behind_string(at, end);
    } else {
      if (depth == 0 && (*at == ',' || *at == ']' || *at == '}')) return at;
      depth += *at == '{' || *at == '[';
      depth -= *at == '}' || *at == ']';
      ++at;
    }
    if (depth == 0 && (at[-1] == '"' || at[-1] == '}' || at[-1] == ']')) return at;
  }
  return end;
}

/* The value of a member; where there is none, nothing at the end. */
static piece member(piece object, const char *key) {
  const char *at = object.at < object.end ? object.at + 1 : object.end;
  while (at < object.end && *at == '"') {
    const char *colon = behind_string(at, object.end);
    const size_t size = strlen(key);
    const bool found =
        (size_t)(colon - at) == size + 2 && memcmp(at + 1, key, size) == 0 && *colon == ':';
    if (colon >= object.end) break;
    const char *end = behind_value(colon + 1, object.end);
    if (found) return (piece){colon + 1, end};
    at = end < object.end ? end + 1 : end;
  }
  return (piece){object.end, object.end};
}

/* ---- Writing ---- */

typedef struct writer {
  unsigned char *data;
  size_t size, room;
} writer;

static void put(writer *to, const void *data, size_t size) {
  if (size == 0) return;
  if (to->size + size > to->room) {
    to->room = 2 * (to->size + size);
    to->data = realloc(to->data, to->room);
    if (to->data == NULL) abort();
  }
  memcpy(to->data + to->size, data, size);
  to->size += size;
}

static void put_number(writer *to, uint64_t number, int size) {
  for (int i = 0; i < size; ++i) put(to, &(unsigned char){(unsigned char)(number >> 8 * i)}, 1);
}

static void pad(writer *to) {
  while (to->size % 64 != 0) put(to, "", 1);
}

static void digest(const void *data, size_t size, unsigned char out[32]) {
  struct sha256_ctx context;
  sha256_init(&context);
  sha256_update(&context, size, data);
  sha256_digest(&context, 32, out);
}

static void put_name(writer *to, piece object) {
  const piece name = member(object, "name");
  if (name.end - name.at > 2) {
    put(to, name.at + 1, (size_t)(name.end - name.at) - 2);
  } else {
    put(to, "none", 4);
  }
  put(to, "", 1);
}

static uint64_t number_at(const unsigned char *at, int size) {
  uint64_t number = 0;
  for (int i = size - 1; i >= 0; --i) number = number << 8 | at[i];
  return number;
}

void file_digest_index(unsigned char *file) {
  digest(file + FILE_HEADER, number_at(file + 12, 4), file + 16);
}

void file_digest(unsigned char *file) {
  const size_t index_size = number_at(file + 12, 4);
  unsigned char *index = file + FILE_HEADER;
  const unsigned char *manifest = index + index_size;
  unsigned char *function = index + FILE_INDEX_BEGIN + number_at(index + 40, 4) * FILE_INDEX_BLOB;
  const unsigned char *text = manifest + number_at(index + 48, 4);
  for (uint64_t i = number_at(index + 44, 4); i > 0; --i) {
    const size_t size = number_at(function + 32, 4);
    digest(text, size, function);
    text += size + 1;
    function += FILE_INDEX_FUNCTION;
  }
  digest(manifest, number_at(index, 8), index + 8);
  file_digest_index(file);
}

static bool has_name(piece function, const char *name) {
  const piece own = member(function, "name");
  const size_t size = strlen(name);
  return (size_t)(own.end - own.at) == size + 2 && memcmp(own.at + 1, name, size) == 0;
}

static unsigned char *make(const char *manifest, size_t manifest_size, const file_blob *blobs,
                           int num_blobs, size_t *size, file_places *places, const char *without) {
  enum { MOST = 1 << 15 };
  static const unsigned char unknown[32];
  const piece root = {manifest, manifest + manifest_size};
  const piece list = member(root, "functions");
  static piece functions[MOST];
  uint32_t count = 0;
  const char *begin = list.at < list.end && *list.at == '[' ? list.at + 1 : manifest;
  for (const char *at = begin; at > manifest && at < list.end - 1; ++at) {
    if (count == MOST) abort();
    functions[count] = (piece){at, behind_value(at, list.end)};
    at = functions[count++].end;
    if (at < list.end && *at != ',') break;
  }
  for (uint32_t i = 0; without != NULL && i < count; ++i) {
    if (!has_name(functions[i], without)) continue;
    memmove(&functions[i], &functions[i + 1], (--count - i) * sizeof *functions);
    if (i == 0) begin = functions[0].at;
  }
  writer index = {NULL, 0, 0};
  put_number(&index, manifest_size, 8);
  put(&index, unknown, 32);
  put_number(&index, (uint64_t)num_blobs, 4);
  put_number(&index, count, 4);
  put_number(&index, (uint64_t)(begin - manifest), 4);
  put_number(&index, 1, 4);
  for (int i = 0; i < num_blobs; ++i) {
    unsigned char name[32];
    digest(blobs[i].data, blobs[i].size, name);
    put(&index, name, sizeof name);
    put_number(&index, blobs[i].size, 8);
    put_number(&index, blobs[i].kind, 4);
  }
  for (uint32_t i = 0; i < count; ++i) {
    put(&index, unknown, 32);
    put_number(&index, (uint64_t)(functions[i].end - functions[i].at), 4);
  }
  put_name(&index, root);
  for (uint32_t i = 0; i < count; ++i) put_name(&index, functions[i]);

  writer file = {NULL, 0, 0};
  put(&file, "PEGAPACK", 8);
  put_number(&file, 2, 4);
  put_number(&file, index.size, 4);
  put(&file, unknown, 32);
  put(&file, index.data, index.size);
  file_places found = {.index_size = index.size,
                       .manifest = file.size,
                       .manifest_size = manifest_size,
                       .num_functions = (int)count};
  for (uint32_t i = 0; i < count && i < 16; ++i) {
    found.functions[i] = file.size + (size_t)(functions[i].at - manifest);
    found.sizes[i] = (size_t)(functions[i].end - functions[i].at);
  }
  put(&file, manifest, manifest_size);
  pad(&file);
  found.blobs = file.size;
  for (int i = 0; i < num_blobs; ++i) {
    put(&file, blobs[i].data, blobs[i].size);
    pad(&file);
  }
  free(index.data);
  file_digest(file.data);
  *size = file.size;
  if (places != NULL) *places = found;
  return file.data;
}

unsigned char *file_make(const char *manifest, size_t manifest_size, const file_blob *blobs,
                         int num_blobs, size_t *size, file_places *places) {
  return make(manifest, manifest_size, blobs, num_blobs, size, places, NULL);
}

unsigned char *file_make_without(const char *manifest, size_t manifest_size, const file_blob *blobs,
                                 int num_blobs, size_t *size, const char *name) {
  return make(manifest, manifest_size, blobs, num_blobs, size, NULL, name);
}
