/* SPDX-License-Identifier: Apache-2.0 */
/* `pega info` on kernel packs. What is printed comes from the manifest, which the library has checked
 * whole, and from the signatures that it made of it. */
#include <inttypes.h>
#include <stdlib.h>

#include "describe.h"
#include "kernel_pack.h"
#include "signature.h"
#include "table.h"

/* A pack and what is to be shown of it. */
typedef struct view {
  cli_pack pack;
  json_t *blobs; /* by SHA-256 */
  bool params;
} view;

static json_int_t integer_of(const json_t *object, const char *key, json_int_t otherwise) {
  const json_t *value = json_object_get(object, key);
  return json_is_integer(value) ? json_integer_value(value) : otherwise;
}

static const char *kind_of(const view *self, const json_t *variant) {
  const json_t *blob = json_object_get(self->blobs, cli_member_text(variant, "blob"));
  return cli_member_text(blob, "kind");
}

/* --- JSON: the manifest's data, with what it may leave out filled in --- */

/* A copy of a member, or `otherwise`, which is taken. */
static json_t *copy_or(const json_t *object, const char *key, json_t *otherwise) {
  json_t *value = json_object_get(object, key);
  if (value == NULL) return otherwise;
  json_decref(otherwise);
  return json_deep_copy(value);
}

static void set_copy(json_t *to, const json_t *from, const char *key, json_t *otherwise) {
  cli_json_set(to, key, copy_or(from, key, otherwise));
}

static json_t *json_kernel_param(const json_t *param) {
  json_t *object = json_object();
  set_copy(object, param, "name", json_null());
  set_copy(object, param, "type", json_null());
  set_copy(object, param, "offset", json_null());
  set_copy(object, param, "size", json_null());
  set_copy(object, param, "role", json_null());
  set_copy(object, param, "value", json_null());
  if (json_object_get(param, "encoding") != NULL) set_copy(object, param, "encoding", json_null());
  return object;
}

static json_t *json_variant(const view *self, const json_t *variant, size_t index) {
  json_t *object = json_object();
  json_t *params = json_array();
  json_t *param = NULL;
  size_t i = 0;
  json_array_foreach(json_object_get(variant, "params"), i, param) {
    cli_json_append(params, json_kernel_param(param));
  }
  cli_json_set(object, "index", json_integer((json_int_t)index));
  set_copy(object, variant, "target", json_null());
  set_copy(object, variant, "entry", json_null());
  cli_json_set(object, "kind", cli_json_string(kind_of(self, variant)));
  set_copy(object, variant, "blob", json_null());
  set_copy(object, variant, "when", json_array());
  set_copy(object, variant, "grid", json_null());
  set_copy(object, variant, "block", json_null());
  set_copy(object, variant, "cluster", json_pack("[iii]", 1, 1, 1));
  set_copy(object, variant, "shared", json_integer(0));
  set_copy(object, variant, "static_shared", json_integer(0));
  set_copy(object, variant, "registers", json_null());
  set_copy(object, variant, "local_bytes", json_integer(0));
  set_copy(object, variant, "pdl", json_false());
  set_copy(object, variant, "cooperative", json_false());
  set_copy(object, variant, "global_scratch", json_pack("{sisi}", "size", 0, "alignment", 1));
  set_copy(object, variant, "profile_scratch", json_pack("{sisi}", "size", 0, "alignment", 1));
  cli_json_set(object, "params", params);
  set_copy(object, variant, "made_by", json_null());
  return object;
}

static json_t *json_function(const view *self, const json_t *described,
                             const pega_function *function) {
  const pega_signature *signature = pega_function_signature(function);
  const json_t *described_params = json_object_get(described, "params");
  json_t *object = json_object();
  json_t *params = json_array();
  json_t *variants = json_array();
  json_t *variant = NULL;
  size_t index = 0;
  for (int32_t i = 0; signature != NULL && i < signature->num_params; ++i) {
    json_t *param = cli_json_param(cli_signature_param(signature, i));
    set_copy(param, json_array_get(described_params, (size_t)i), "pointee", json_null());
    cli_json_append(params, param);
  }
  json_array_foreach(json_object_get(described, "variants"), index, variant) {
    cli_json_append(variants, json_variant(self, variant, index));
  }
  cli_json_set(object, "name", cli_json_string(pega_function_name(function)));
  cli_json_set(object, "from", json_string("pack"));
  cli_json_set(object, "doc", cli_json_string(pega_function_doc(function)));
  cli_json_set(object, "signature", cli_json_string(pega_function_signature_text(function)));
  cli_json_set(object, "params", params);
  cli_json_set(
      object, "same_device",
      json_boolean(signature != NULL && (signature->flags & PEGA_SIGNATURE_SAME_DEVICE) != 0));
  cli_json_set(object, "result",
               json_string(pega_type_name(signature == NULL ? PEGA_TYPE_ANY : signature->result)));
  cli_json_set(object, "variants", variants);
  set_copy(object, described, "golden", json_array());
  return object;
}

/* --- text --- */

/* "float32, [seq_len, 64], row-major" */
static void print_pointee(const json_t *pointee, int indent) {
  static const char *const keys[] = {"dtype", "shape", "layout"};
  const char *between = "";
  if (pointee == NULL) return;
  (void)printf("%*spoints at: ", indent, "");
  for (size_t i = 0; i < sizeof keys / sizeof *keys; ++i) {
    const bool shape = strcmp(keys[i], "shape") == 0;
    const char *text = cli_member_text(pointee, keys[i]);
    if (*text == '\0' && !shape) continue;
    (void)fputs(between, stdout);
    if (shape) (void)putchar('[');
    cli_print_line(stdout, text);
    if (shape) (void)putchar(']');
    between = ", ";
  }
  (void)putchar('\n');
}

/* "triton 3.9.0, ptxas 13.0.88" as owned text. */
static char *tool_text(const json_t *made_by) {
  const char *tool = cli_member_text(made_by, "tool");
  const char *version = cli_member_text(made_by, "version");
  const char *assembler = cli_member_text(made_by, "assembler");
  char *text = NULL;
  if (*tool == '\0' && *assembler == '\0') tool = "-";
  if (asprintf(&text, "%s%s%s%s%s", tool, *tool != '\0' && *version != '\0' ? " " : "", version,
               *tool != '\0' && *assembler != '\0' ? ", " : "", assembler) < 0) {
    cli_out_of_memory();
  }
  return text;
}

/* "[32, 1, 1]" as "32 x 1 x 1". */
static void add_extent(cli_table *table, const json_t *extent) {
  json_int_t sizes[3];
  for (size_t i = 0; i < 3; ++i) {
    const json_t *size = json_array_get(extent, i);
    sizes[i] = size == NULL ? 1 : json_integer_value(size);
  }
  cli_table_addf(table, "%" PRId64 "x%" PRId64 "x%" PRId64, (int64_t)sizes[0], (int64_t)sizes[1],
                 (int64_t)sizes[2]);
}

static void add_scratch(cli_table *table, const json_t *variant) {
  const json_int_t global = integer_of(json_object_get(variant, "global_scratch"), "size", 0);
  const json_int_t profile = integer_of(json_object_get(variant, "profile_scratch"), "size", 0);
  if (profile == 0) {
    cli_table_addf(table, "%" PRId64, (int64_t)global);
  } else {
    cli_table_addf(table, "%" PRId64 ", profile %" PRId64, (int64_t)global, (int64_t)profile);
  }
}

static void print_variants(const view *self, const json_t *variants, int indent) {
  static const char *const head[] = {
      "variant",       "target",    "entry",       "kind",   "block",   "cluster", "shared",
      "static shared", "registers", "local bytes", "launch", "scratch", "made by"};
  cli_table table = {(int)(sizeof head / sizeof *head), 0, 0, NULL};
  size_t index = 0;
  json_t *variant = NULL;
  for (size_t i = 0; i < sizeof head / sizeof *head; ++i) cli_table_add(&table, head[i]);
  json_array_foreach(variants, index, variant) {
    const bool pdl = json_is_true(json_object_get(variant, "pdl"));
    const bool cooperative = json_is_true(json_object_get(variant, "cooperative"));
    char *tool = tool_text(json_object_get(variant, "made_by"));
    cli_table_addf(&table, "%zu", index);
    cli_table_add(&table, cli_member_text(variant, "target"));
    cli_table_add(&table, cli_member_text(variant, "entry"));
    cli_table_add(&table, kind_of(self, variant));
    add_extent(&table, json_object_get(variant, "block"));
    add_extent(&table, json_object_get(variant, "cluster"));
    cli_table_addf(&table, "%" PRId64, (int64_t)integer_of(variant, "shared", 0));
    cli_table_addf(&table, "%" PRId64, (int64_t)integer_of(variant, "static_shared", 0));
    cli_table_addf(&table, "%" PRId64, (int64_t)integer_of(variant, "registers", 0));
    cli_table_addf(&table, "%" PRId64, (int64_t)integer_of(variant, "local_bytes", 0));
    cli_table_add(&table, pdl && cooperative ? "PDL, cooperative"
                          : pdl              ? "PDL"
                          : cooperative      ? "cooperative"
                                             : "plain");
    add_scratch(&table, variant);
    cli_table_add(&table, tool);
    free(tool);
  }
  cli_table_print(&table, indent);
}

/* Texts of an array with commas between them. */
static void print_texts(const json_t *array, const char *otherwise) {
  size_t index = 0;
  json_t *item = NULL;
  if (json_array_size(array) == 0) (void)fputs(otherwise, stdout);
  json_array_foreach(array, index, item) {
    (void)fputs(index == 0 ? "" : ", ", stdout);
    cli_print_line(stdout, json_string_value(item));
  }
}

static void print_made_by(const json_t *made_by, int indent) {
  static const char *const keys[] = {"source", "source_sha256"};
  const char *name = NULL;
  json_t *flag = NULL;
  char *tool = tool_text(made_by);
  (void)printf("%*smade by: ", indent, "");
  cli_print_line(stdout, tool);
  free(tool);
  for (size_t i = 0; i < sizeof keys / sizeof *keys; ++i) {
    const char *text = cli_member_text(made_by, keys[i]);
    if (*text == '\0') continue;
    (void)fputs(i == 0 ? ", from " : ", SHA-256 ", stdout);
    cli_print_line(stdout, text);
  }
  json_object_foreach(json_object_get(made_by, "flags"), name, flag) {
    char *text = json_dumps(flag, JSON_ENCODE_ANY | JSON_COMPACT);
    if (text == NULL) cli_out_of_memory();
    (void)fputs(", ", stdout);
    cli_print_line(stdout, name);
    (void)putchar('=');
    cli_print_line(stdout, text);
    free(text);
  }
  (void)putchar('\n');
}

static void print_kernel_params(const json_t *params, int indent) {
  static const char *const head[] = {"offset", "size", "type", "parameter", "role", "value"};
  cli_table table = {(int)(sizeof head / sizeof *head), 0, 0, NULL};
  size_t index = 0;
  json_t *param = NULL;
  if (json_array_size(params) == 0) {
    (void)printf("%*sno parameters\n", indent, "");
    return;
  }
  for (size_t i = 0; i < sizeof head / sizeof *head; ++i) cli_table_add(&table, head[i]);
  json_array_foreach(params, index, param) {
    cli_table_addf(&table, "%" PRId64, (int64_t)integer_of(param, "offset", 0));
    cli_table_addf(&table, "%" PRId64, (int64_t)integer_of(param, "size", 0));
    cli_table_add(&table, cli_member_text(param, "type"));
    cli_table_add(&table, cli_member_text(param, "name"));
    cli_table_add(&table, cli_member_text(param, "role"));
    cli_table_add(&table, cli_member_text(param, "value"));
  }
  cli_table_print(&table, indent);
}

static void print_details(const json_t *variants, int indent) {
  size_t index = 0;
  json_t *variant = NULL;
  json_array_foreach(variants, index, variant) {
    (void)printf("\n%*svariant %zu, ", indent, "", index);
    cli_print_line(stdout, cli_member_text(variant, "target"));
    (void)printf(":\n%*sgrid: ", indent + 2, "");
    print_texts(json_object_get(variant, "grid"), "none");
    (void)printf("\n%*swhen: ", indent + 2, "");
    print_texts(json_object_get(variant, "when"), "always");
    (void)putchar('\n');
    print_made_by(json_object_get(variant, "made_by"), indent + 2);
    print_kernel_params(json_object_get(variant, "params"), indent + 2);
  }
}

static void print_golden(const json_t *golden, int indent) {
  size_t index = 0;
  json_t *item = NULL;
  if (json_array_size(golden) == 0) {
    (void)printf("%*sno golden cases\n", indent, "");
    return;
  }
  (void)printf("%*sgolden cases:", indent, "");
  json_array_foreach(golden, index, item) {
    (void)fputs(index == 0 ? " \"" : ", \"", stdout);
    cli_print_line(stdout, cli_member_text(item, "name"));
    (void)putchar('"');
  }
  (void)putchar('\n');
}

static void print_function(const view *self, const json_t *described,
                           const pega_function *function) {
  const pega_signature *signature = pega_function_signature(function);
  const json_t *params = json_object_get(described, "params");
  const json_t *variants = json_object_get(described, "variants");
  cli_print_line(stdout, pega_function_signature_text(function));
  (void)putchar('\n');
  cli_print_lines(pega_function_doc(function), 2);
  (void)printf("  parameters:%s\n", signature == NULL || signature->num_params == 0 ? " none" : "");
  for (int32_t i = 0; signature != NULL && i < signature->num_params; ++i) {
    cli_print_param(cli_signature_param(signature, i), 4);
    print_pointee(json_object_get(json_array_get(params, (size_t)i), "pointee"), 8);
  }
  if (signature != NULL && (signature->flags & PEGA_SIGNATURE_SAME_DEVICE) != 0) {
    (void)puts("    (all tensors on one device)");
  }
  (void)puts("  variants:");
  print_variants(self, variants, 4);
  if (self->params) print_details(variants, 4);
  print_golden(json_object_get(described, "golden"), 2);
}

/* --- both --- */

/* Prints one function, or appends it to `items` if that is not NULL. */
static pega_status show_function(const view *self, const json_t *described, json_t *items,
                                 pega_error *error) {
  pega_function *function = NULL;
  const pega_status status =
      pega_pack_get(self->pack.pack, cli_member_text(described, "name"), &function, error);
  if (status != PEGA_OK) return status;
  if (items != NULL) {
    cli_json_append(items, json_function(self, described, function));
  } else {
    print_function(self, described, function);
  }
  pega_function_release(function);
  return PEGA_OK;
}

static pega_status show_one(const view *self, const char *name, bool json, pega_error *error) {
  pega_function *function = NULL;
  /* The library's own look-up says what is nearest to a name that is not there. */
  pega_status status = pega_pack_get(self->pack.pack, name, &function, error);
  pega_function_release(function);
  if (status != PEGA_OK) return status;
  json_t *items = json ? json_array() : NULL;
  status = show_function(self, cli_pack_function(&self->pack, name), items, error);
  if (status == PEGA_OK && json) cli_print_json(json_incref(json_array_get(items, 0)));
  json_decref(items);
  return status;
}

static void print_head(const view *self) {
  cli_print_line(stdout, pega_pack_name(self->pack.pack));
  (void)fputs(" (", stdout);
  cli_print_line(stdout, self->pack.path);
  (void)fputs(")\n", stdout);
  cli_print_lines(cli_member_text(self->pack.manifest, "doc"), 2);
  (void)fputs("  ", stdout);
  cli_pack_print_counts(&self->pack);
  (void)putchar('\n');
}

static pega_status show_all(const view *self, bool json, pega_error *error) {
  const json_t *manifest = self->pack.manifest;
  json_t *items = json ? json_array() : NULL;
  pega_status status = PEGA_OK;
  size_t index = 0;
  json_t *described = NULL;
  if (!json) print_head(self);
  json_array_foreach(cli_pack_functions(&self->pack), index, described) {
    if (!json) (void)putchar('\n');
    if (status == PEGA_OK) status = show_function(self, described, items, error);
  }
  if (status == PEGA_OK && json) {
    json_t *object = json_object();
    set_copy(object, manifest, "name", json_null());
    cli_json_set(object, "path", cli_json_string(self->pack.path));
    set_copy(object, manifest, "schema_version", json_null());
    set_copy(object, manifest, "doc", json_string(""));
    set_copy(object, manifest, "blobs", json_array());
    cli_json_set(object, "functions", json_incref(items));
    cli_print_json(object);
  }
  json_decref(items);
  return status;
}

cli_exit cli_info_pack(const cli_options *options, const char *path, const char *name,
                       pega_error *error) {
  view self = {CLI_PACK_INIT, json_object(), options->params};
  size_t index = 0;
  json_t *blob = NULL;
  pega_status status = cli_pack_open(path, false, &self.pack, error);
  json_array_foreach(json_object_get(self.pack.manifest, "blobs"), index, blob) {
    cli_json_set(self.blobs, cli_member_text(blob, "sha256"), json_incref(blob));
  }
  if (status == PEGA_OK) {
    status = name == NULL ? show_all(&self, options->json, error)
                          : show_one(&self, name, options->json, error);
  }
  json_decref(self.blobs);
  cli_pack_close(&self.pack);
  return status == PEGA_OK ? CLI_DONE : CLI_FAILED;
}
