/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel_pack.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>

pega_status cli_pack_open(const char *path, bool allow_ptx, cli_pack *out, pega_error *error) {
  json_error_t problem;
  size_t size = 0;
  pega_pack_options options = PEGA_PACK_OPTIONS_INIT;
  memset(out, 0, sizeof *out);
  if (path == NULL) {
    options.data = pega_pack_embedded(&options.size);
    options.flags = PEGA_PACK_STATIC;
    path = CLI_PACK_EMBEDDED;
    if (options.data == NULL) {
      return pega_error_set(error, PEGA_ERROR_UNAVAILABLE, NULL,
                            "libpega has no pack of its own: it was built without PEGA_AOT; name a "
                            "pack's file or folder");
    }
  } else {
    options.path = path;
  }
  if (allow_ptx) options.flags |= PEGA_PACK_ALLOW_PTX;
  const char *manifest;
  pega_status status = pega_pack_open(&options, &out->pack, error);
  if (status == PEGA_OK) status = pega_pack_manifest(out->pack, &manifest, &size, error);
  if (status != PEGA_OK) return status;
  out->path = path;
  out->manifest = json_loadb(manifest, size, JSON_REJECT_DUPLICATES, &problem);
  if (out->manifest != NULL) return PEGA_OK;
  return pega_error_set(error, PEGA_ERROR_INTERNAL, NULL,
                        "%s: the library takes its manifest, but line %d is no JSON: %s", path,
                        problem.line, problem.text);
}

void cli_pack_close(cli_pack *pack) {
  json_decref(pack->manifest);
  pega_pack_release(pack->pack);
  memset(pack, 0, sizeof *pack);
}

pega_status cli_pack_verify(const cli_pack *pack, pega_error *error) {
  pega_error plain = PEGA_ERROR_INIT;
  const pega_status status = pega_pack_verify(pack->pack, &plain);
  const char *text = pega_error_message(&plain);
  /* Of two copies of a pack the name does not tell which one it is. */
  if (status != PEGA_OK && strstr(text, pack->path) == NULL) {
    (void)pega_error_set(error, status, NULL, "%s: %s", pack->path, text);
  } else if (status != PEGA_OK) {
    pega_error_copy(&plain, error);
  }
  pega_error_clear(&plain);
  return status;
}

bool cli_is_pack_path(const char *word) {
  static const char ending[] = ".pegapack";
  struct stat info;
  const size_t size = strlen(word);
  if (strchr(word, '/') != NULL) return true;
  if (size >= strlen(ending) && strcmp(word + size - strlen(ending), ending) == 0) return true;
  return stat(word, &info) == 0;
}

json_t *cli_pack_functions(const cli_pack *pack) {
  return json_object_get(pack->manifest, "functions");
}

const char *cli_member_text(const json_t *object, const char *key) {
  const char *text = json_string_value(json_object_get(object, key));
  return text == NULL ? "" : text;
}

json_t *cli_pack_function(const cli_pack *pack, const char *name) {
  size_t index = 0;
  json_t *function = NULL;
  json_array_foreach(cli_pack_functions(pack), index, function) {
    if (strcmp(cli_member_text(function, "name"), name) == 0) return function;
  }
  return NULL;
}

typedef struct counts {
  size_t functions;
  size_t variants;
  size_t golden;
  size_t blobs;
  json_int_t bytes;
} counts;

static counts count(const cli_pack *pack) {
  counts all = {0, 0, 0, 0, 0};
  size_t index = 0;
  json_t *item = NULL;
  const json_t *blobs = json_object_get(pack->manifest, "blobs");
  json_array_foreach(cli_pack_functions(pack), index, item) {
    ++all.functions;
    all.variants += json_array_size(json_object_get(item, "variants"));
    all.golden += json_array_size(json_object_get(item, "golden"));
  }
  json_array_foreach(blobs, index, item) {
    ++all.blobs;
    all.bytes += json_integer_value(json_object_get(item, "size"));
  }
  return all;
}

void cli_pack_set_counts(json_t *object, const cli_pack *pack) {
  const counts all = count(pack);
  cli_json_set(object, "name", cli_json_string(pega_pack_name(pack->pack)));
  cli_json_set(object, "functions", json_integer((json_int_t)all.functions));
  cli_json_set(object, "variants", json_integer((json_int_t)all.variants));
  cli_json_set(object, "golden", json_integer((json_int_t)all.golden));
  cli_json_set(object, "blobs", json_integer((json_int_t)all.blobs));
  cli_json_set(object, "bytes", json_integer(all.bytes));
}

static const char *plural(size_t number) { return number == 1 ? "" : "s"; }

void cli_pack_print_counts(const cli_pack *pack) {
  const counts all = count(pack);
  (void)printf("%zu function%s, %zu variant%s, %zu golden case%s, %zu blob%s of %" PRId64 " bytes",
               all.functions, plural(all.functions), all.variants, plural(all.variants), all.golden,
               plural(all.golden), all.blobs, plural(all.blobs), (int64_t)all.bytes);
}

/* As the library reads it: not in a process with more rights than its user. */
const char *cli_pack_path(void) { return secure_getenv(CLI_PACK_PATH); }

void cli_pack_path_each(bool (*visit)(void *self, const char *path), void *self) {
  const char *list = cli_pack_path();
  bool more = list != NULL;
  while (more && *list != '\0') {
    const size_t size = strcspn(list, ":");
    if (size > 0) {
      char *path = strndup(list, size);
      if (path == NULL) cli_out_of_memory();
      more = visit(self, path);
      free(path);
    }
    list += size;
    list += *list == ':' ? 1 : 0;
  }
}
