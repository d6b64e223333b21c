/* SPDX-License-Identifier: Apache-2.0 */
/* The manifest as a whole: its version, its blobs, its functions. */
#include "manifest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/signature.h"
#include "core/text.h"
#include "digest.h"
#include "param.h"

static const char kDamaged[] =
    "its SHA-256 is not the index's: damaged or changed; copy or build the pack again";

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
  pack->blobs = pega_arena_alloc(&pack->arena, count, sizeof *pack->blobs);
  pack->bytes = pega_arena_alloc(&pack->arena, count, sizeof *pack->bytes);
  if (pack->blobs == NULL || pack->bytes == NULL ||
      !pega_table_make(&pack->blob_names, &pack->arena, count)) {
    return pega_json_out_of_memory(reader);
  }
  pack->num_blobs = (int32_t)count;
  for (size_t i = 0; i < count; ++i) {
    pega_json item = pega_json_item(&array, i);
    if (!read_blob(manifest, &item, &pack->blobs[i])) return false;
    if (pega_table_put(&pack->blob_names, i, pega_pack_blob_name, pack) >= 0) {
      return pega_json_fail(reader, &item, PEGA_ERROR_FORMAT, "blob %s is there twice",
                            pack->blobs[i].name);
    }
  }
  return true;
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
  pega_pack *pack = manifest->pack;
  *out = pega_table_find(&pack->blob_names, pega_json_text_of(at.value), pega_pack_blob_name, pack);
  if (*out < 0) {
    return pega_json_fail(reader, &at, PEGA_ERROR_FORMAT, "blob %s is not among the pack's blobs",
                          pega_json_text_of(at.value));
  }
  if ((kinds >> pack->blobs[*out].kind & 1) == 0) {
    return pega_json_fail(reader, &at, PEGA_ERROR_FORMAT, "blob %s is of kind %s: expected %s",
                          pega_json_text_of(at.value),
                          pack->blobs[*out].kind == kBlobData ? "data" : "code",
                          kinds == kAnyKernelBlob ? "cubin, ptx or fatbin" : "data");
  }
  pack->bytes[*out].used = true;
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
  pack->functions = pega_arena_alloc(&pack->arena, count, sizeof *pack->functions);
  if (functions == NULL || pack->functions == NULL ||
      !pega_table_make(&pack->function_names, &pack->arena, count)) {
    return pega_json_out_of_memory(reader);
  }
  pack->num_functions = (int32_t)count;
  for (size_t i = 0; i < count; ++i) {
    pega_json item = pega_json_item(&array, i);
    if (!read_function(manifest, &item, &functions[i])) return false;
    pack->functions[i].name = functions[i].name;
    atomic_init(&pack->functions[i].description, &functions[i]);
    if (pega_table_put(&pack->function_names, i, pega_pack_function_name, pack) >= 0) {
      return pega_json_fail(reader, &item, PEGA_ERROR_FORMAT, "the name '%s' is used twice",
                            functions[i].name);
    }
  }
  return true;
}

/* ---- All of it ---- */

static bool check_version(pega_json_reader *reader, const pega_json *root) {
  int64_t version;
  if (!pega_json_need_int(reader, root, "schema_version", 1, INT64_MAX, &version)) return false;
  if (version == PEGA_PACK_SCHEMA_VERSION) return true;
  return pega_json_fail(reader, root, PEGA_ERROR_VERSION,
                        "schema_version %" PRId64 ": this library reads %d; use a newer one",
                        version, PEGA_PACK_SCHEMA_VERSION);
}

/* All but the functions. */
static bool read_root(pega_manifest *manifest, const pega_json *root) {
  static const char *const fields[] = {"schema_version", "name", "doc", "blobs", "functions", NULL};
  pega_json_reader *reader = &manifest->reader;
  const char *doc;
  /* Of another version nothing else is known. */
  return check_version(reader, root) && pega_json_fields(reader, root, fields) &&
         pega_manifest_word(reader, root, "name", PEGA_MAX_NAME, &manifest->pack->name) &&
         pega_json_text_or(reader, root, "doc", "", &doc) && read_blobs(manifest, root);
}

static bool find_blobs(pega_manifest *manifest) {
  manifest->reader.status = pega_container_find_blobs(manifest->pack, manifest->reader.error);
  return manifest->reader.status == PEGA_OK;
}

bool pega_manifest_blobs_used(pega_json_reader *reader, const pega_pack *pack) {
  for (int32_t i = 0; i < pack->num_blobs; ++i) {
    if (pack->bytes[i].used) continue;
    return pega_json_fail(reader, NULL, PEGA_ERROR_FORMAT,
                          "blobs[%" PRId32 "]: nothing refers to blob %s", i, pack->blobs[i].name);
  }
  return true;
}

pega_status pega_manifest_read(pega_pack *pack, pega_error *error) {
  pega_manifest manifest = {{pack->source, &pack->arena, error, PEGA_OK, NULL}, pack};
  pega_arena document = {NULL};
  pega_json_value value;
  const pega_json root = {NULL, NULL, 0, &value};
  bool read =
      pega_json_parse(&manifest.reader, pack->manifest, pack->manifest_size, &document, &value) &&
      read_root(&manifest, &root) && find_blobs(&manifest) && read_functions(&manifest, &root) &&
      pega_manifest_blobs_used(&manifest.reader, pack);
  pega_arena_free(&document);
  return read ? PEGA_OK : manifest.reader.status;
}

/* ---- Of a file ---- */

static bool same_blobs(const pega_pack *one, const pega_pack *other) {
  bool same = one->num_blobs == other->num_blobs;
  for (int32_t i = 0; same && i < one->num_blobs; ++i) {
    same = strcmp(one->blobs[i].name, other->blobs[i].name) == 0 &&
           one->blobs[i].size == other->blobs[i].size && one->blobs[i].kind == other->blobs[i].kind;
  }
  return same;
}

static bool index_differs(pega_json_reader *reader) {
  return pega_json_fail(reader, NULL, PEGA_ERROR_FORMAT,
                        "the file's index says something else: build the pack again");
}

/* The manifest without its functions, which the index has one behind the other with a comma between. */
static bool check_rest(pega_manifest *manifest, const pega_pack *pack, const char *text) {
  static const char before[] = "\"functions\":[";
  const size_t size = sizeof before - 1;
  pega_json_reader *reader = &manifest->reader;
  pega_arena document = {NULL};
  pega_json_value value;
  const pega_json root = {NULL, NULL, 0, &value};
  bool placed = pack->functions_begin > size && text[pack->functions_end] == ']' &&
                memcmp(text + pack->functions_begin - size, before, size) == 0;
  for (int32_t i = 1; placed && i < pack->num_functions; ++i) {
    placed = text[pack->functions[i].offset - 1] == ',';
  }
  if (!placed) return index_differs(reader);
  /* Where they stand nothing is left but brackets: what is read is then what the whole would be. */
  const size_t rest = pack->manifest_size - pack->functions_end;
  char *root_text = malloc(pack->functions_begin + rest + 1);
  if (root_text == NULL) return pega_json_out_of_memory(reader);
  memcpy(root_text, text, pack->functions_begin);
  memcpy(root_text + pack->functions_begin, text + pack->functions_end, rest + 1);
  const bool read =
      pega_json_parse(reader, root_text, pack->functions_begin + rest, &document, &value) &&
      read_root(manifest, &root);
  pega_arena_free(&document);
  free(root_text);
  if (!read) return false;
  const bool same =
      strcmp(manifest->pack->name, pack->name) == 0 && same_blobs(manifest->pack, pack);
  return same || index_differs(reader);
}

pega_status pega_manifest_check(pega_pack *pack, pega_error *error) {
  unsigned char digest[kSha256Bytes];
  pega_pack told = {.source = pack->source};
  pega_manifest manifest = {{pack->source, &told.arena, error, PEGA_OK, NULL}, &told};
  void *text;
  pega_status status = pega_container_read(pack, pack->manifest_offset, pack->manifest_size,
                                           "its manifest", &text, error);
  if (status != PEGA_OK) return status;
  pega_sha256(text, pack->manifest_size, digest);
  if (memcmp(digest, pack->index + 8, sizeof digest) != 0) {
    pega_json_fail(&manifest.reader, NULL, PEGA_ERROR_FORMAT, kDamaged);
  } else if (check_rest(&manifest, pack, text)) {
    pack->manifest = text;
    text = NULL;
  }
  pega_arena_free(&told.arena);
  free(text);
  return manifest.reader.status;
}

static bool describe(pega_manifest *manifest, pega_pack_entry *entry, const char *text) {
  pega_json_reader *reader = &manifest->reader;
  pega_arena *arena = &manifest->pack->arena;
  pega_arena document = {NULL};
  pega_json_value value;
  const pega_json root = {NULL, NULL, 0, &value};
  const pega_arena_mark before = pega_arena_here(arena);
  pega_pack_function *made = pega_arena_alloc(arena, 1, sizeof *made);
  if (made == NULL) return pega_json_out_of_memory(reader);
  bool read = pega_json_parse(reader, text, entry->size, &document, &value) &&
              read_function(manifest, &root, made);
  if (read && strcmp(made->name, entry->name) != 0) {
    read = pega_json_expected(reader, &root, "a function of the name that the index says");
  }
  pega_arena_free(&document);
  if (read) {
    atomic_store_explicit(&entry->description, made, memory_order_release);
  } else {
    pega_arena_undo(arena, before);
  }
  return read;
}

pega_status pega_manifest_describe(pega_pack *pack, int32_t index, pega_error *error) {
  unsigned char digest[kSha256Bytes];
  char name[96], where[128];
  pega_pack_entry *entry = &pack->functions[index];
  pega_manifest manifest = {{pack->source, &pack->arena, error, PEGA_OK, where}, pack};
  void *text;
  snprintf(where, sizeof where,
           "manifest: function '%s': ", pega_text_short_name(entry->name, name));
  pega_status status = pega_container_read(pack, pack->manifest_offset + entry->offset, entry->size,
                                           "a description", &text, error);
  if (status != PEGA_OK) return status;
  pega_sha256(text, entry->size, digest);
  if (memcmp(digest, entry->sha256, sizeof digest) != 0) {
    pega_json_fail(&manifest.reader, NULL, PEGA_ERROR_FORMAT, kDamaged);
  } else {
    describe(&manifest, entry, text);
  }
  free(text);
  return manifest.reader.status;
}
