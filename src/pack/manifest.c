/* SPDX-License-Identifier: Apache-2.0 */
/* The manifest as a whole: its version, its blobs, its functions. */
#include "manifest.h"

#include <inttypes.h>
#include <stdlib.h>

#include "core/signature.h"
#include "digest.h"
#include "param.h"

bool pega_manifest_word(pega_json_reader *reader, const pega_json *object, const char *key,
                        size_t most, const char **out) {
  pega_json at;
  if (!pega_json_need(reader, object, key, &at) || !pega_json_text(reader, &at, 1, most, out)) {
    return false;
  }
  for (const char *byte = *out; *byte != '\0'; ++byte) {
    if ((unsigned char)*byte <= ' ' || *byte == 0x7f) {
      return pega_json_expected(reader, &at, "text without blanks and control characters");
    }
  }
  return true;
}

/* ---- Blobs ---- */

typedef struct sorted_name {
  const char *name;
  int32_t index;
} sorted_name;

static int compare_names(const void *a, const void *b) {
  return strcmp(((const sorted_name *)a)->name, ((const sorted_name *)b)->name);
}

/* Sorts by name; *twice receives the index of a name that is there twice, or -1. NULL when out of
 * memory. `room` has `count` items, the result is in the arena. */
static const int32_t *sort_names(pega_arena *arena, sorted_name *room, int32_t count,
                                 int32_t *twice) {
  int32_t *order = pega_arena_alloc(arena, (size_t)count, sizeof *order);
  *twice = -1;
  if (order == NULL) return NULL;
  qsort(room, (size_t)count, sizeof *room, compare_names);
  for (int32_t i = 0; i < count; ++i) {
    order[i] = room[i].index;
    if (i > 0 && strcmp(room[i].name, room[i - 1].name) == 0) {
      *twice = room[i].index > room[i - 1].index ? room[i].index : room[i - 1].index;
    }
  }
  return order;
}

static bool read_blob(pega_manifest *manifest, const pega_json *at, pega_blob *out) {
  static const char *const fields[] = {"sha256", "size", "kind", NULL};
  static const char *const kinds[] = {"cubin", "ptx", "data", "fatbin"};
  pega_json_reader *reader = &manifest->reader;
  const char *text;
  pega_json member;
  int64_t size;
  if (!pega_json_fields(reader, at, fields)) return false;
  if (!pega_json_need(reader, at, "sha256", &member)) return false;
  if (!pega_json_is(member.value, kJsonString) ||
      !pega_sha256_parse(pega_json_text_of(member.value), out->sha256)) {
    return pega_json_expected(reader, &member, "64 hexadecimal digits in lower case");
  }
  pega_sha256_name(out->sha256, out->name);
  if (!pega_json_need_int(reader, at, "size", 0, INT64_MAX, &size)) return false;
  if ((uint64_t)size > PEGA_MAX_BLOB) {
    return pega_json_fail(reader, at, PEGA_ERROR_RANGE,
                          "size is %" PRId64 ", at most %" PRIu64 " are allowed", size,
                          PEGA_MAX_BLOB);
  }
  out->size = (uint64_t)size;
  if (!pega_json_need(reader, at, "kind", &member)) return false;
  text = pega_json_text_of(member.value);
  for (uint32_t i = 0; i < 4; ++i) {
    if (strcmp(text, kinds[i]) != 0) continue;
    out->kind = i;
    return true;
  }
  return pega_json_expected(reader, &member, "\"cubin\", \"ptx\", \"fatbin\" or \"data\"");
}

static bool read_blobs(pega_manifest *manifest, const pega_json *root) {
  pega_json_reader *reader = &manifest->reader;
  pega_pack *pack = manifest->pack;
  pega_json array;
  size_t count;
  if (!pega_json_need(reader, root, "blobs", &array) ||
      !pega_json_array(reader, &array, 0, kMaxBlobs, &count)) {
    return false;
  }
  pega_blob *blobs = pega_arena_alloc(&pack->arena, count, sizeof *blobs);
  sorted_name *names = pega_arena_alloc(&pack->arena, count, sizeof *names);
  pack->bytes = pega_arena_alloc(&pack->arena, count, sizeof *pack->bytes);
  manifest->blob_used = pega_arena_alloc(&pack->arena, count, sizeof *manifest->blob_used);
  if (blobs == NULL || names == NULL || pack->bytes == NULL || manifest->blob_used == NULL) {
    return pega_json_out_of_memory(reader);
  }
  for (size_t i = 0; i < count; ++i) {
    pega_json item = pega_json_item(&array, i);
    if (!read_blob(manifest, &item, &blobs[i])) return false;
    names[i] = (sorted_name){blobs[i].name, (int32_t)i};
  }
  pack->blobs = blobs;
  pack->num_blobs = (int32_t)count;
  int32_t twice;
  manifest->blob_order = sort_names(&pack->arena, names, pack->num_blobs, &twice);
  if (manifest->blob_order == NULL) return pega_json_out_of_memory(reader);
  if (twice >= 0) {
    pega_json item = pega_json_item(&array, (size_t)twice);
    return pega_json_fail(reader, &item, PEGA_ERROR_FORMAT, "blob %s is there twice",
                          blobs[twice].name);
  }
  return true;
}

static int32_t find_blob(const pega_manifest *manifest, const char *name) {
  int32_t low = 0, high = manifest->pack->num_blobs;
  while (low < high) {
    int32_t middle = low + (high - low) / 2;
    int32_t index = manifest->blob_order[middle];
    int order = strcmp(name, manifest->pack->blobs[index].name);
    if (order == 0) return index;
    if (order < 0) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return -1;
}

bool pega_manifest_blob(pega_manifest *manifest, const pega_json *object, const char *key,
                        unsigned kinds, int32_t *out) {
  pega_json_reader *reader = &manifest->reader;
  unsigned char digest[kSha256Bytes];
  pega_json at;
  if (!pega_json_need(reader, object, key, &at)) return false;
  if (!pega_json_is(at.value, kJsonString) ||
      !pega_sha256_parse(pega_json_text_of(at.value), digest)) {
    return pega_json_expected(reader, &at, "64 hexadecimal digits in lower case");
  }
  *out = find_blob(manifest, pega_json_text_of(at.value));
  if (*out < 0) {
    return pega_json_fail(reader, &at, PEGA_ERROR_FORMAT, "blob %s is not among the pack's blobs",
                          pega_json_text_of(at.value));
  }
  if ((kinds >> manifest->pack->blobs[*out].kind & 1) == 0) {
    return pega_json_fail(reader, &at, PEGA_ERROR_FORMAT, "blob %s is of kind %s: expected %s",
                          pega_json_text_of(at.value),
                          manifest->pack->blobs[*out].kind == kBlobData ? "data" : "code",
                          kinds == kAnyKernelBlob ? "cubin, ptx or fatbin" : "data");
  }
  manifest->blob_used[*out] = true;
  return true;
}

/* ---- Functions ---- */

int32_t pega_manifest_param(const pega_signature *signature, const char *name) {
  for (int32_t i = 0; i < signature->num_params; ++i) {
    if (strcmp(signature->params[i].name, name) == 0) return i;
  }
  return -1;
}

static bool read_variants(const pega_manifest_function *function, const pega_json *at) {
  pega_json_reader *reader = &function->manifest->reader;
  pega_json array;
  size_t count;
  if (!pega_json_need(reader, at, "variants", &array) ||
      !pega_json_array(reader, &array, 1, kMaxVariants, &count)) {
    return false;
  }
  pega_kernel_variant *variants = pega_arena_alloc(reader->arena, count, sizeof *variants);
  if (variants == NULL) return pega_json_out_of_memory(reader);
  for (size_t i = 0; i < count; ++i) {
    pega_json item = pega_json_item(&array, i);
    if (!pega_manifest_read_variant(function, &item, &variants[i])) return false;
  }
  function->description->variants = variants;
  function->description->num_variants = (int32_t)count;
  return true;
}

static bool read_golden_cases(const pega_manifest_function *function, const pega_json *at) {
  pega_json_reader *reader = &function->manifest->reader;
  pega_json array;
  size_t count;
  if (!pega_json_get(at, "golden", &array)) return true;
  if (!pega_json_array(reader, &array, 0, kMaxGolden, &count)) return false;
  pega_golden *golden = pega_arena_alloc(reader->arena, count, sizeof *golden);
  if (golden == NULL) return pega_json_out_of_memory(reader);
  for (size_t i = 0; i < count; ++i) {
    pega_json item = pega_json_item(&array, i);
    if (!pega_manifest_read_golden(function, &item, &golden[i])) return false;
  }
  function->description->golden = golden;
  function->description->num_golden = (int32_t)count;
  return true;
}

static bool read_function(pega_manifest *manifest, const pega_json *at, pega_pack_function *out) {
  static const char *const fields[] = {"name",     "doc",    "same_device", "params",
                                       "variants", "golden", NULL};
  pega_json_reader *reader = &manifest->reader;
  pega_pointee pointees[kMaxParams];
  pega_manifest_function function = {manifest, out, NULL, pointees};
  bool same_device;
  memset(pointees, 0, sizeof pointees);
  if (!pega_json_fields(reader, at, fields) ||
      !pega_json_need_text(reader, at, "name", 1, PEGA_MAX_NAME, &out->name) ||
      !pega_json_text_or(reader, at, "doc", "", &out->doc) ||
      !pega_json_bool_or(reader, at, "same_device", false, &same_device) ||
      !pega_manifest_read_signature(manifest, at, &out->signature, pointees)) {
    return false;
  }
  const size_t count = (size_t)out->signature.num_params;
  pega_pointee *kept = pega_arena_alloc(&manifest->pack->arena, count, sizeof *kept);
  if (kept == NULL) return pega_json_out_of_memory(reader);
  memcpy(kept, pointees, count * sizeof *kept);
  out->pointees = kept;
  if (same_device) out->signature.flags |= PEGA_SIGNATURE_SAME_DEVICE;
  /* Who makes a function of it later can then only run out of memory. */
  function.function = pega_param_function(reader, at, out->name, out->doc, &out->signature);
  if (function.function == NULL) return false;
  bool read = read_variants(&function, at) && read_golden_cases(&function, at);
  pega_function_release(function.function);
  return read;
}

static bool read_functions(pega_manifest *manifest, const pega_json *root) {
  pega_json_reader *reader = &manifest->reader;
  pega_pack *pack = manifest->pack;
  pega_json array;
  size_t count;
  if (!pega_json_need(reader, root, "functions", &array) ||
      !pega_json_array(reader, &array, 0, kMaxFunctions, &count)) {
    return false;
  }
  pega_pack_function *functions = pega_arena_alloc(&pack->arena, count, sizeof *functions);
  sorted_name *names = pega_arena_alloc(&pack->arena, count, sizeof *names);
  if (functions == NULL || names == NULL) return pega_json_out_of_memory(reader);
  for (size_t i = 0; i < count; ++i) {
    pega_json item = pega_json_item(&array, i);
    if (!read_function(manifest, &item, &functions[i])) return false;
    names[i] = (sorted_name){functions[i].name, (int32_t)i};
  }
  int32_t twice;
  pack->functions = functions;
  pack->num_functions = (int32_t)count;
  pack->by_name = sort_names(&pack->arena, names, pack->num_functions, &twice);
  if (pack->by_name == NULL) return pega_json_out_of_memory(reader);
  if (twice >= 0) {
    pega_json item = pega_json_item(&array, (size_t)twice);
    return pega_json_fail(reader, &item, PEGA_ERROR_FORMAT, "the name '%s' is used twice",
                          functions[twice].name);
  }
  return true;
}

/* ---- All of it ---- */

static bool check_blobs_used(pega_manifest *manifest) {
  for (int32_t i = 0; i < manifest->pack->num_blobs; ++i) {
    if (manifest->blob_used[i]) continue;
    return pega_json_fail(&manifest->reader, NULL, PEGA_ERROR_FORMAT,
                          "blobs[%" PRId32 "]: nothing refers to blob %s", i,
                          manifest->pack->blobs[i].name);
  }
  return true;
}

static bool check_version(pega_json_reader *reader, const pega_json *root) {
  int64_t version;
  if (!pega_json_need_int(reader, root, "schema_version", 1, INT64_MAX, &version)) return false;
  if (version == PEGA_PACK_SCHEMA_VERSION) return true;
  return pega_json_fail(reader, root, PEGA_ERROR_VERSION,
                        "schema_version %" PRId64 ": this library reads %d; use a newer one",
                        version, PEGA_PACK_SCHEMA_VERSION);
}

static bool read_root(pega_manifest *manifest, const pega_json *root) {
  static const char *const fields[] = {"schema_version", "name", "doc", "blobs", "functions", NULL};
  pega_json_reader *reader = &manifest->reader;
  const char *doc;
  /* Of another version nothing else is known. */
  if (!check_version(reader, root) || !pega_json_fields(reader, root, fields) ||
      !pega_manifest_word(reader, root, "name", PEGA_MAX_NAME, &manifest->pack->name) ||
      !pega_json_text_or(reader, root, "doc", "", &doc) || !read_blobs(manifest, root)) {
    return false;
  }
  reader->status = pega_container_place(manifest->pack, reader->error);
  return reader->status == PEGA_OK && read_functions(manifest, root) && check_blobs_used(manifest);
}

pega_status pega_manifest_read(pega_pack *pack, pega_error *error) {
  pega_manifest manifest = {{pack->source, &pack->arena, error, PEGA_OK, NULL}, pack, NULL, NULL};
  pega_arena document = {NULL};
  pega_json_value value;
  const pega_json root = {NULL, NULL, 0, &value};
  bool read =
      pega_json_parse(&manifest.reader, pack->manifest, pack->manifest_size, &document, &value) &&
      read_root(&manifest, &root);
  pega_arena_free(&document);
  return read ? PEGA_OK : manifest.reader.status;
}
