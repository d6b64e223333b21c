/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_kernel.h"

#include <ctype.h>
#include <jansson.h>
#include <pega/pack.h>
#include <pega/qwen35.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char problem[512];

static bool no(const char *what, const char *detail) {
  (void)snprintf(problem, sizeof problem, "the solve's kernel cannot be launched by hand: %s%s",
                 what, detail);
  return false;
}

const char *bench_kernel_problem(void) { return problem; }

/* ---- reading ---- */

static void copy_text(char *to, size_t capacity, const json_t *from) {
  snprintf(to, capacity, "%s", json_is_string(from) ? json_string_value(from) : "0");
}

/* Blobs end the file in the manifest's order, each from a multiple of 64. */
static bool read_blob(const char *path, const json_t *blobs, const char *name, bench_kernel *out) {
  size_t to_end = 0;
  for (size_t i = json_array_size(blobs); i-- > 0;) {
    const json_t *blob = json_array_get(blobs, i);
    const size_t size = (size_t)json_integer_value(json_object_get(blob, "size"));
    to_end += (size + 63) / 64 * 64;
    if (strcmp(json_string_value(json_object_get(blob, "sha256")), name) != 0) continue;
    FILE *file = fopen(path, "rb");
    out->cubin = malloc(size);
    out->cubin_size = size;
    bool got = file != NULL && out->cubin != NULL && fseek(file, -(long)to_end, SEEK_END) == 0 &&
               fread(out->cubin, 1, size, file) == size;
    if (file != NULL) fclose(file);
    return got || no("its blob cannot be read from ", path);
  }
  return no("there is no blob ", name);
}

static bool read_variant(const json_t *variant, bench_kernel *out) {
  copy_text(out->target, sizeof out->target, json_object_get(variant, "target"));
  copy_text(out->entry, sizeof out->entry, json_object_get(variant, "entry"));
  for (size_t i = 0; i < 3; ++i) {
    copy_text(out->grid[i], sizeof out->grid[i],
              json_array_get(json_object_get(variant, "grid"), i));
    out->block[i] =
        (unsigned)json_integer_value(json_array_get(json_object_get(variant, "block"), i));
    out->cluster[i] =
        (unsigned)json_integer_value(json_array_get(json_object_get(variant, "cluster"), i));
  }
  out->shared = (unsigned)json_integer_value(json_object_get(variant, "shared"));
  out->pdl = json_is_true(json_object_get(variant, "pdl"));
  out->cooperative = json_is_true(json_object_get(variant, "cooperative"));
  const json_t *params = json_object_get(variant, "params");
  if (json_array_size(params) > kMaxKernelParams) return no("it has too many parameters", "");
  size_t i;
  const json_t *param;
  json_array_foreach(params, i, param) {
    /* Scratch has no value: it is of size 0 here, so its pointer is NULL. */
    copy_text(out->values[i], sizeof out->values[i], json_object_get(param, "value"));
    out->sizes[i] = (uint32_t)json_integer_value(json_object_get(param, "size"));
    if (out->sizes[i] > sizeof(uint64_t)) return no("it takes a tensor map", "");
  }
  out->num_params = (int)json_array_size(params);
  return true;
}

static bool holds(const char *text, const bench_args *args);

/* Whether a variant's conditions hold for a call; NULL: whether it has none. */
static bool fits(const json_t *variant, const bench_args *args) {
  const json_t *when = json_object_get(variant, "when");
  bool all = args != NULL || json_array_size(when) == 0;
  for (size_t i = 0; all && i < json_array_size(when); ++i) {
    all = holds(json_string_value(json_array_get(when, i)), args);
  }
  return all;
}

/* The first variant that is taken for such a call. */
static const json_t *choose(pega_pack *pack, const json_t *variants, const char *target,
                            const bench_args *args) {
  pega_error error = PEGA_ERROR_INIT;
  pega_value explained;
  const json_t *found = NULL;
  if (pega_pack_explain(pack, PEGA_QWEN35_CHUNK_SOLVE_RAW, target, &explained, &error) != PEGA_OK) {
    no(pega_error_message(&error), "");
    pega_error_clear(&error);
    return NULL;
  }
  for (int64_t i = 0; i < pega_value_size(&explained) && found == NULL; ++i) {
    const pega_value *taken = pega_map_get(pega_array_get(&explained, i), "taken");
    const json_t *variant = json_array_get(variants, (size_t)i);
    if (taken->as.boolean && fits(variant, args)) found = variant;
  }
  pega_value_release(&explained);
  if (found == NULL) no("no variant is known to be taken for such a call on ", target);
  return found;
}

static bool read_from(pega_pack *pack, const char *path, const json_t *manifest, const char *target,
                      const bench_args *args, bench_kernel *out) {
  size_t i;
  const json_t *function;
  json_array_foreach(json_object_get(manifest, "functions"), i, function) {
    if (strcmp(json_string_value(json_object_get(function, "name")), PEGA_QWEN35_CHUNK_SOLVE_RAW)) {
      continue;
    }
    const json_t *variant = choose(pack, json_object_get(function, "variants"), target, args);
    return variant != NULL && read_variant(variant, out) &&
           read_blob(path, json_object_get(manifest, "blobs"),
                     json_string_value(json_object_get(variant, "blob")), out);
  }
  return no("the pack lacks it: ", path);
}

bool bench_kernel_read(const char *path, const char *target, const bench_args *args,
                       bench_kernel *out) {
  memset(out, 0, sizeof *out);
  if (path == NULL) return no("the pack is in libpega", "");
  pega_error error = PEGA_ERROR_INIT;
  pega_pack_options options = PEGA_PACK_OPTIONS_INIT;
  options.path = path;
  pega_pack *pack = NULL;
  const char *text;
  size_t size;
  if (pega_pack_open(&options, &pack, &error) != PEGA_OK ||
      pega_pack_manifest(pack, &text, &size, &error) != PEGA_OK) {
    no(pega_error_message(&error), "");
    pega_error_clear(&error);
    pega_pack_release(pack);
    return false;
  }
  json_t *manifest = json_loadb(text, size, 0, NULL);
  bool good = read_from(pack, path, manifest, target, args, out);
  json_decref(manifest);
  pega_pack_release(pack);
  return good;
}

/* ---- expressions, as far as a solve's grid needs them ---- */

typedef struct reader {
  const char *at;
  const bench_args *args;
  bool failed;
} reader;

static int64_t sum(reader *it);

static void expect(reader *it, char wanted) {
  while (*it->at == ' ') ++it->at;
  if (*it->at == wanted) {
    ++it->at;
  } else {
    it->failed = true;
  }
}

static int64_t named(reader *it, const char *name, size_t size) {
  const struct {
    const char *name;
    int64_t value;
  } known[] = {{"seq_len", it->args->seq_len},
               {"num_value_heads", it->args->num_value_heads},
               {"a_tril_ptr", (int64_t)it->args->a_tril},
               {"a_inv_ptr", (int64_t)it->args->a_inv}};
  for (size_t i = 0; i < sizeof known / sizeof *known; ++i) {
    if (strlen(known[i].name) == size && memcmp(known[i].name, name, size) == 0) {
      return known[i].value;
    }
  }
  bool cdiv = size == 4 && memcmp(name, "cdiv", size) == 0;
  bool min = size == 3 && memcmp(name, "min", size) == 0;
  bool max = size == 3 && memcmp(name, "max", size) == 0;
  if (!cdiv && !min && !max) {
    it->failed = true;
    return 0;
  }
  expect(it, '(');
  int64_t a = sum(it);
  expect(it, ',');
  int64_t b = sum(it);
  expect(it, ')');
  if (cdiv) return b == 0 ? 0 : (a + b - 1) / b;
  return (a < b) == min ? a : b;
}

static int64_t primary(reader *it) {
  while (*it->at == ' ') ++it->at;
  if (*it->at == '(') {
    ++it->at;
    int64_t value = sum(it);
    expect(it, ')');
    return value;
  }
  if (isdigit((unsigned char)*it->at)) {
    char *end;
    int64_t value = strtoll(it->at, &end, 10);
    it->at = end;
    return value;
  }
  const char *name = it->at;
  while (isalnum((unsigned char)*it->at) || *it->at == '_') ++it->at;
  return named(it, name, (size_t)(it->at - name));
}

static int64_t product(reader *it) {
  int64_t value = primary(it);
  for (;;) {
    while (*it->at == ' ') ++it->at;
    char op = *it->at;
    if (op != '*' && op != '/') return value;
    ++it->at;
    int64_t other = primary(it);
    value = op == '*' ? value * other : other == 0 ? 0 : value / other;
  }
}

static int64_t sum(reader *it) {
  int64_t value = product(it);
  for (;;) {
    while (*it->at == ' ') ++it->at;
    char op = *it->at;
    if (op != '+' && op != '-') return value;
    ++it->at;
    int64_t other = product(it);
    value = op == '+' ? value + other : value - other;
  }
}

static bool evaluate(const char *text, const bench_args *args, int64_t *out) {
  reader it = {text, args, false};
  *out = sum(&it);
  return (!it.failed && *it.at == '\0') || no("an expression that is not understood: ", text);
}

/* Of conditions those that say "at most". */
static bool holds(const char *text, const bench_args *args) {
  reader it = {text, args, false};
  const int64_t left = sum(&it);
  expect(&it, '<');
  expect(&it, '=');
  if (it.failed) return false;
  const int64_t right = sum(&it);
  return !it.failed && *it.at == '\0' && left <= right;
}

bool bench_launch_make(const bench_kernel *kernel, const bench_args *args,
                       bench_kernel_launch *out) {
  int64_t value;
  memset(out, 0, sizeof *out);
  for (int i = 0; i < 3; ++i) {
    if (!evaluate(kernel->grid[i], args, &value)) return false;
    out->grid[i] = (unsigned)value;
  }
  for (int i = 0; i < kernel->num_params; ++i) {
    if (!evaluate(kernel->values[i], args, &value)) return false;
    out->storage[i] = (uint64_t)value; /* little-endian: the low bytes come first */
    out->params[i] = &out->storage[i];
  }
  return true;
}

void bench_launch_on(const bench_kernel *kernel, CUstream stream, bench_kernel_launch *launch) {
  CUlaunchAttribute *to = launch->attributes;
  unsigned n = 0;
  if (kernel->cluster[0] * kernel->cluster[1] * kernel->cluster[2] > 1) {
    to[n].id = GPU_ATTRIBUTE_CLUSTER;
    memcpy(to[n++].value.cluster, kernel->cluster, sizeof kernel->cluster);
  }
  if (kernel->pdl) {
    to[n].id = GPU_ATTRIBUTE_PROGRAMMATIC;
    to[n++].value.number = 1;
  }
  if (kernel->cooperative) {
    to[n].id = GPU_ATTRIBUTE_COOPERATIVE;
    to[n++].value.number = 1;
  }
  memcpy(launch->config.grid, launch->grid, sizeof launch->config.grid);
  memcpy(launch->config.block, kernel->block, sizeof launch->config.block);
  launch->config.shared_bytes = kernel->shared;
  launch->config.stream = stream;
  launch->config.attributes = to;
  launch->config.num_attributes = n;
}

const char *bench_kernel_load(const bench_kernel *kernel, CUmodule *module, CUfunction *function) {
  if (gpu.module_load(module, kernel->cubin) != 0 ||
      gpu.module_function(function, *module, kernel->entry) != 0 ||
      (kernel->shared > 48 * 1024 &&
       gpu.function_set(*function, GPU_FUNCTION_MAX_SHARED, (int)kernel->shared) != 0)) {
    return "the driver does not load the kernel's cubin";
  }
  return NULL;
}
