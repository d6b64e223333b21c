/* SPDX-License-Identifier: Apache-2.0 */
/* Tells what a file is and needs, as one value. */
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "examine.h"
#include "gpu_code.h"
#include "pack/json.h"
#include "pega/pack.h"

enum { kMostKeys = 16, kHeadBytes = 1 << 16 };

static pega_status no_memory(const char *path, pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "%s: no memory to describe it",
                        path);
}

/* ---- Building values: after a failure everything does nothing ---- */

typedef struct builder {
  const char *path;
  pega_error *error;
  pega_status status;
} builder;

typedef struct list {
  pega_value *items;
  size_t count, capacity;
} list;

typedef struct map {
  pega_value keys[kMostKeys];
  pega_value values[kMostKeys];
  int32_t count;
} map;

/* Takes `value`. */
static void list_add(builder *b, list *to, pega_value value) {
  if (b->status == PEGA_OK && to->count == to->capacity) {
    size_t capacity = to->capacity == 0 ? 16 : to->capacity * 2;
    pega_value *items = realloc(to->items, capacity * sizeof *items);
    if (items == NULL) {
      b->status = no_memory(b->path, b->error);
    } else {
      to->items = items;
      to->capacity = capacity;
    }
  }
  if (b->status != PEGA_OK) {
    pega_value_release(&value);
    return;
  }
  to->items[to->count++] = value;
}

static void list_add_text(builder *b, list *to, const char *text) {
  list_add(b, to, pega_value_string(text));
}

/* The array, owned; the list is empty then. */
static pega_value list_end(builder *b, list *from) {
  pega_value out = pega_value_none();
  if (b->status == PEGA_OK) {
    b->status = pega_array_create(from->items, (int64_t)from->count, &out, b->error);
  }
  for (size_t i = 0; i < from->count; ++i) pega_value_release(&from->items[i]);
  free(from->items);
  memset(from, 0, sizeof *from);
  return out;
}

/* Takes `value`. */
static void map_set(map *to, const char *key, pega_value value) {
  to->keys[to->count] = pega_value_string(key);
  to->values[to->count++] = value;
}

static void map_set_text(map *to, const char *key, const char *text) {
  map_set(to, key, pega_value_string(text));
}

static pega_value map_end(builder *b, map *from) {
  pega_value out = pega_value_none();
  if (b->status == PEGA_OK) {
    b->status = pega_map_create(from->keys, from->values, from->count, &out, b->error);
  }
  for (int32_t i = 0; i < from->count; ++i) pega_value_release(&from->values[i]);
  from->count = 0;
  return out;
}

/* ---- Parts ---- */

static pega_value describe_kernels(builder *b, const pega_gpu_codes *codes) {
  list all = {NULL, 0, 0};
  for (int32_t i = 0; i < codes->count && b->status == PEGA_OK; ++i) {
    const pega_gpu_code *code = &codes->items[i];
    const char *name = code->entries;
    list entries = {NULL, 0, 0};
    map one = {.count = 0};
    for (int32_t k = 0; k < code->num_entries; ++k) {
      list_add_text(b, &entries, name);
      name += strlen(name) + 1;
    }
    map_set_text(&one, "kind", code->kind);
    map_set_text(&one, "target", code->target);
    map_set(&one, "offset", pega_value_int((int64_t)code->offset));
    map_set(&one, "size", pega_value_int((int64_t)code->size));
    map_set(&one, "fatbin", pega_value_bool(code->in_fatbin));
    map_set(&one, "compressed", pega_value_bool(code->compressed));
    map_set(&one, "entries", list_end(b, &entries));
    list_add(b, &all, map_end(b, &one));
  }
  return list_end(b, &all);
}

static pega_value describe_library(builder *b, const char *name, const char *found,
                                   const char *where, const char *wanted_by, bool direct) {
  map one = {.count = 0};
  map_set_text(&one, "name", name);
  map_set_text(&one, "found", found);
  map_set_text(&one, "where", where);
  map_set_text(&one, "wanted_by", wanted_by);
  map_set(&one, "direct", pega_value_bool(direct));
  return map_end(b, &one);
}

/* Of a file that cannot be loaded into this process nothing was looked for: its own list then. */
static pega_value describe_libraries(builder *b, const pega_examination *of) {
  list all = {NULL, 0, 0};
  for (int32_t i = 0; i < of->needs.num_libraries; ++i) {
    const pega_prerequisite *one = &of->needs.libraries[i];
    list_add(b, &all,
             describe_library(b, one->name, one->path, one->where, one->wanted_by, one->direct));
  }
  for (int32_t i = 0; of->needs.num_libraries == 0 && i < of->elf.num_needed; ++i) {
    list_add(b, &all,
             describe_library(b, of->elf.needed[i], "", "not looked for", of->elf.path, true));
  }
  return list_end(b, &all);
}

static pega_value describe_symbol(builder *b, const char *name, const char *version,
                                  const char *library, bool weak) {
  map one = {.count = 0};
  map_set_text(&one, "name", name);
  map_set_text(&one, "version", version);
  map_set_text(&one, "library", library);
  map_set(&one, "weak", pega_value_bool(weak));
  return map_end(b, &one);
}

static pega_value describe_symbols(builder *b, const pega_examination *of) {
  list all = {NULL, 0, 0};
  for (int32_t i = 0; i < of->needs.num_symbols; ++i) {
    const pega_wanted_symbol *one = &of->needs.symbols[i];
    list_add(b, &all, describe_symbol(b, one->name, one->version, one->library, one->weak));
  }
  for (int32_t i = 0; of->needs.num_symbols == 0 && i < of->elf.num_undefined; ++i) {
    const pega_elf_symbol *one = &of->elf.undefined[i];
    list_add(b, &all, describe_symbol(b, one->name, one->version, "", one->weak));
  }
  return list_end(b, &all);
}

static pega_value describe_exports(builder *b, const pega_elf *elf) {
  list all = {NULL, 0, 0};
  for (int32_t i = 0; i < elf->num_defined; ++i) list_add_text(b, &all, elf->defined[i].name);
  return list_end(b, &all);
}

static pega_value describe_missing(builder *b, const pega_examination *of) {
  list all = {NULL, 0, 0};
  for (int32_t i = 0; i < pega_examination_num_missing(of); ++i) {
    list_add_text(b, &all, pega_examination_missing(of, i));
  }
  return list_end(b, &all);
}

/* What is looked for when the file is opened. */
static pega_value describe_requires(builder *b, const pega_examination *of) {
  list all = {NULL, 0, 0};
  char text[64];
  int32_t driver = of->c_library == NULL ? 0 : pega_c_library_needs_of(of->c_library).cuda_driver;
  snprintf(text, sizeof text, "CUDA driver %d.%d", driver / 1000, driver % 1000 / 10);
  pega_value value = pega_value_none();
  if (driver > 0 && b->status == PEGA_OK) {
    b->status = pega_string_create(text, strlen(text), &value, b->error);
    list_add(b, &all, value);
  }
  return list_end(b, &all);
}

/* A copy of what the loader said under `key`; an empty array where it said nothing. */
static pega_value copy_told(builder *b, const pega_examination *of, const char *key) {
  pega_value out = pega_value_none();
  const pega_value *told = of->told.kind == PEGA_MAP ? pega_map_get(&of->told, key) : NULL;
  if (b->status == PEGA_OK) {
    b->status = told == NULL || told->kind != PEGA_ARRAY
                    ? pega_array_create(NULL, 0, &out, b->error)
                    : pega_value_retain(told, &out, b->error);
  }
  return out;
}

/* ---- ELF files ---- */

static const char *format_of(const pega_examination *of) {
  if (of->form == PEGA_FORM_LOADER) return of->loader->name;
  if (of->form == PEGA_FORM_C_LIBRARY) return "C library";
  if (of->elf.type == ET_REL) return "object file";
  return of->elf.type == ET_DYN && !of->elf.is_program ? "shared library" : "program";
}

static pega_value describe_elf(builder *b, const pega_examination *of,
                               const pega_gpu_codes *codes) {
  char machine[64];
  pega_value functions = pega_value_none();
  map all = {.count = 0};
  b->status = pega_examination_functions(of, &functions, b->error);
  map_set_text(&all, "path", of->elf.path);
  map_set_text(&all, "format", format_of(of));
  map_set(&all, "size", pega_value_int((int64_t)of->elf.size));
  map_set_text(&all, "architecture", pega_elf_machine_name(&of->elf, machine));
  map_set(&all, "functions", functions);
  map_set(&all, "exports", describe_exports(b, &of->elf));
  map_set(&all, "libraries", describe_libraries(b, of));
  map_set(&all, "symbols", describe_symbols(b, of));
  map_set(&all, "looked_for", pega_value_bool(pega_elf_check_loadable(&of->elf, NULL) == PEGA_OK));
  map_set(&all, "loaders", copy_told(b, of, "loaders"));
  map_set(&all, "kernels", describe_kernels(b, codes));
  map_set(&all, "requires", describe_requires(b, of));
  if (codes->cut_off) map_set(&all, "kernels_cut_off", pega_value_bool(true));
  map_set(&all, "missing", describe_missing(b, of));
  return map_end(b, &all);
}

static pega_status inspect_elf(const pega_artifact_options *options, pega_value *out,
                               pega_error *error) {
  pega_elf elf;
  pega_examination examination;
  pega_gpu_codes codes;
  pega_status status = pega_elf_read(options->path, &elf, error);
  if (status == PEGA_OK) status = pega_examine(&elf, options, &examination, error);
  if (status != PEGA_OK) return status;
  const pega_elf *file = &examination.elf;
  status = pega_gpu_code_find(file->bytes, (size_t)file->size, &codes, error);
  if (status == PEGA_OK) {
    builder b = {file->path, error, PEGA_OK};
    pega_value all = describe_elf(&b, &examination, &codes);
    status = b.status;
    if (status == PEGA_OK) *out = all;
  }
  pega_gpu_codes_free(&codes);
  pega_examination_free(&examination);
  return status;
}

/* ---- GPU code alone ---- */

/* Whether what the file begins with was found whole. */
static bool is_whole(const pega_gpu_codes *codes, const char *format) {
  if (codes->count == 0) return false;
  const pega_gpu_code *first = &codes->items[0];
  if (strcmp(format, "fatbin") == 0) return first->in_fatbin;
  return !first->in_fatbin && (strcmp(format, "cubin") != 0 || first->offset == 0);
}

static pega_status inspect_gpu_code(const char *given, const char *format, pega_value *out,
                                    pega_error *error) {
  unsigned char *bytes;
  uint64_t size;
  pega_gpu_codes codes;
  pega_status status = pega_elf_read_bytes(given, "GPU code", UINT64_MAX, &bytes, &size, error);
  if (status != PEGA_OK) return status;
  status = pega_gpu_code_find(bytes, (size_t)size, &codes, error);
  free(bytes);
  if (status != PEGA_OK) return status;
  char *path = realpath(given, NULL);
  char *missing = NULL;
  if (path == NULL ||
      asprintf(&missing,
               "%s: a %s is code for GPUs alone, and nothing in it says how it is launched: make a "
               "kernel pack of it (docs/packs.md)",
               path, format) < 0) {
    status = no_memory(given, error);
  } else if (!is_whole(&codes, format)) {
    /* It begins as one, and then is none. */
    status = pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                            "%s: a %s that is cut off or damaged: its parts do not fit into its "
                            "%llu bytes; copy or build it again",
                            path, format, (unsigned long long)size);
  } else {
    builder b = {path, error, PEGA_OK};
    list lacks = {NULL, 0, 0};
    map all = {.count = 0};
    list_add_text(&b, &lacks, missing);
    map_set_text(&all, "path", path);
    map_set_text(&all, "format", format);
    map_set(&all, "size", pega_value_int((int64_t)size));
    map_set(&all, "kernels", describe_kernels(&b, &codes));
    if (codes.cut_off) map_set(&all, "kernels_cut_off", pega_value_bool(true));
    map_set(&all, "missing", list_end(&b, &lacks));
    pega_value value = map_end(&b, &all);
    status = b.status;
    if (status == PEGA_OK) *out = value;
  }
  free(missing);
  free(path);
  pega_gpu_codes_free(&codes);
  return status;
}

/* ---- Packs: their manifest says all ---- */

/* A kernel's variant. */
typedef struct variant {
  const char *blob;
  const char *target;
  const char *entry;
} variant;

static const char *text_of(const pega_json_value *object, const char *key) {
  const pega_json_value *value = pega_json_find(object, key);
  return value == NULL ? "" : pega_json_text_of(value);
}

static uint32_t items_of(const pega_json_value *object, const char *key,
                         const pega_json_member **out) {
  const pega_json_value *value = pega_json_find(object, key);
  bool is_array = value != NULL && pega_json_is(value, kJsonArray);
  *out = is_array ? value->as.members : NULL;
  return is_array ? value->size : 0;
}

static int compare_variants(const void *a, const void *b) {
  const variant *left = a;
  const variant *right = b;
  int order = strcmp(left->blob, right->blob);
  return order != 0 ? order : strcmp(left->entry, right->entry);
}

static int compare_blobs(const void *a, const void *b) {
  const pega_json_value *const *left = a;
  const pega_json_value *const *right = b;
  return strcmp(text_of(*left, "sha256"), text_of(*right, "sha256"));
}

static int compare_to_blob(const void *sha256, const void *blob) {
  return strcmp(sha256, text_of(*(const pega_json_value *const *)blob, "sha256"));
}

static uint32_t collect_variants(const pega_json_value *root, variant *out) {
  const pega_json_member *functions;
  const pega_json_member *variants;
  uint32_t count = 0;
  uint32_t num_functions = items_of(root, "functions", &functions);
  for (uint32_t i = 0; i < num_functions; ++i) {
    uint32_t num_variants = items_of(&functions[i].value, "variants", &variants);
    for (uint32_t k = 0; k < num_variants; ++k, ++count) {
      const pega_json_value *from = &variants[k].value;
      if (out != NULL) {
        out[count] =
            (variant){text_of(from, "blob"), text_of(from, "target"), text_of(from, "entry")};
      }
    }
  }
  return count;
}

/* Of each blob, the kernels that functions use. */
static pega_value describe_blobs(builder *b, const pega_json_value *root) {
  const pega_json_member *items;
  list all = {NULL, 0, 0};
  uint32_t num_blobs = items_of(root, "blobs", &items);
  uint32_t count = collect_variants(root, NULL);
  variant *variants = calloc((size_t)count + 1, sizeof *variants);
  const pega_json_value **blobs = calloc((size_t)num_blobs + 1, sizeof *blobs);
  if (variants == NULL || blobs == NULL) {
    b->status = no_memory(b->path, b->error);
    count = 0;
  } else {
    collect_variants(root, variants);
    for (uint32_t i = 0; i < num_blobs; ++i) blobs[i] = &items[i].value;
    qsort(variants, count, sizeof *variants, compare_variants);
    qsort(blobs, num_blobs, sizeof *blobs, compare_blobs);
  }
  for (uint32_t i = 0, next; i < count && b->status == PEGA_OK; i = next) {
    const char *blob = variants[i].blob;
    list entries = {NULL, 0, 0};
    map one = {.count = 0};
    for (next = i; next < count && strcmp(variants[next].blob, blob) == 0; ++next) {
      if (next == i || strcmp(variants[next].entry, variants[next - 1].entry) != 0) {
        list_add_text(b, &entries, variants[next].entry);
      }
    }
    const pega_json_value *const *found =
        bsearch(blob, blobs, num_blobs, sizeof *blobs, compare_to_blob);
    const pega_json_value *size = found == NULL ? NULL : pega_json_find(*found, "size");
    map_set_text(&one, "kind", found == NULL ? "" : text_of(*found, "kind"));
    map_set_text(&one, "target", variants[i].target);
    if (size != NULL && pega_json_is(size, kJsonInt)) {
      map_set(&one, "size", pega_value_int(size->as.i64));
    }
    map_set(&one, "fatbin", pega_value_bool(false));
    map_set(&one, "compressed", pega_value_bool(false));
    map_set(&one, "entries", list_end(b, &entries));
    list_add(b, &all, map_end(b, &one));
  }
  free(variants);
  free(blobs);
  return list_end(b, &all);
}

static pega_status describe_pack(const char *path, const pega_pack *pack,
                                 const pega_json_value *root, pega_value *out, pega_error *error) {
  builder b = {path, error, PEGA_OK};
  map all = {.count = 0};
  list missing = {NULL, 0, 0};
  pega_value functions = pega_value_none();
  b.status = pega_pack_list(pack, &functions, error);
  map_set_text(&all, "path", path);
  map_set_text(&all, "format", "pack");
  map_set(&all, "functions", functions);
  map_set(&all, "kernels", describe_blobs(&b, root));
  map_set(&all, "missing", list_end(&b, &missing));
  pega_value value = map_end(&b, &all);
  if (b.status == PEGA_OK) *out = value;
  return b.status;
}

static pega_status inspect_pack(const pega_artifact_options *options, pega_value *out,
                                pega_error *error) {
  pega_pack *pack = NULL;
  pega_pack_options how = PEGA_PACK_OPTIONS_INIT;
  how.path = options->path;
  pega_status status = pega_pack_open(&how, &pack, error);
  if (status != PEGA_OK) return status;
  size_t size;
  const char *manifest;
  status = pega_pack_manifest(pack, &manifest, &size, error);
  char *path = status == PEGA_OK ? realpath(options->path, NULL) : NULL;
  pega_arena arena = {NULL};
  pega_json_value root;
  pega_json_error why;
  if (status != PEGA_OK) {
    /* What is wrong with it is said. */
  } else if (path == NULL ||
             pega_json_parse_text(manifest, size, &arena, &root, &why) != kJsonGood) {
    status = no_memory(options->path, error); /* the pack has read it: nothing else can fail */
  } else {
    status = describe_pack(path, pack, &root, out, error);
  }
  pega_arena_free(&arena);
  free(path);
  pega_pack_release(pack);
  return status;
}

pega_status pega_artifact_inspect(const pega_artifact_options *options, pega_value *out,
                                  pega_error *error) {
  if (out == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_artifact_inspect: out is NULL");
  }
  pega_status status = pega_artifact_check_options("pega_artifact_inspect", options, error);
  bool is_pack = false;
  if (status == PEGA_OK) status = pega_artifact_is_pack(options->path, &is_pack, error);
  if (status != PEGA_OK) return status;
  if (is_pack) return inspect_pack(options, out, error);
  unsigned char *head;
  uint64_t size;
  status = pega_elf_read_bytes(options->path, "a shared library", kHeadBytes, &head, &size, error);
  if (status != PEGA_OK) return status;
  const char *format = pega_gpu_code_format(head, (size_t)size);
  free(head);
  return format != NULL ? inspect_gpu_code(options->path, format, out, error)
                        : inspect_elf(options, out, error);
}
