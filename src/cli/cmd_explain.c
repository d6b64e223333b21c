/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdlib.h>

#include "explain_choice.h"
#include "kernel_pack.h"
#include "provide.h"
#include "table.h"

/* Looking for a function in the packs of PEGA_PACK_PATH. */
typedef struct search {
  const char *name;
  bool allow_ptx;
  char *path; /* of the pack, owned */
  cli_pack pack;
  int num_packs;
  pega_status status;
  pega_error *error;
} search;

/* As the library does it: the first pack that has the function; one that cannot be read ends it. */
static bool look(void *self, const char *path) {
  search *found = self;
  cli_pack pack = CLI_PACK_INIT;
  pega_error failure = PEGA_ERROR_INIT;
  ++found->num_packs;
  found->path = strdup(path);
  if (found->path == NULL) cli_out_of_memory();
  found->status = cli_pack_open(found->path, found->allow_ptx, &pack, &failure);
  if (found->status == PEGA_OK && cli_pack_function(&pack, found->name) != NULL) {
    found->pack = pack;
    return false;
  }
  cli_pack_close(&pack);
  free(found->path);
  found->path = NULL;
  if (found->status == PEGA_OK) return true;
  (void)pega_error_set(found->error, found->status, NULL,
                       CLI_PACK_PATH " names a pack that cannot be used: %s",
                       pega_error_message(&failure));
  pega_error_clear(&failure);
  return false;
}

static cli_exit find(const cli_options *options, search *out, pega_error *error) {
  out->name = options->args[0];
  out->allow_ptx = options->allow_ptx;
  out->error = error;
  if (options->pack != NULL || options->embedded) {
    const pega_status status = cli_pack_open(options->pack, options->allow_ptx, &out->pack, error);
    return status == PEGA_OK ? CLI_DONE : CLI_FAILED;
  }
  cli_pack_path_each(look, out);
  if (out->status != PEGA_OK) return CLI_FAILED;
  if (out->pack.pack != NULL) return CLI_DONE;
  if (pega_pack_embedded(NULL) != NULL) {
    const pega_status status = cli_pack_open(NULL, options->allow_ptx, &out->pack, error);
    if (status != PEGA_OK) return CLI_FAILED;
    if (cli_pack_function(&out->pack, out->name) != NULL) return CLI_DONE;
    cli_pack_close(&out->pack);
  }
  if (out->num_packs == 0) {
    return cli_misuse(error,
                      "explain: no pack to look in has it: --pack is not given, " CLI_PACK_PATH
                      " is %s, and libpega has %s; give --pack PACK",
                      cli_pack_path() == NULL ? "not set" : "empty",
                      pega_pack_embedded(NULL) == NULL ? "none of its own (PEGA_AOT)"
                                                       : "no such function in its own");
  }
  (void)pega_error_set(error, PEGA_ERROR_NOT_FOUND, NULL,
                       "no function '%.255s' in the %d pack%s of " CLI_PACK_PATH
                       " '%.400s'; `pega list --pack PACK` shows what a pack has",
                       out->name, out->num_packs, out->num_packs == 1 ? "" : "s", cli_pack_path());
  return CLI_FAILED;
}

static bool taken(const pega_value *variant) {
  const pega_value *value = pega_map_get(variant, "taken");
  return value != NULL && value->kind == PEGA_BOOL && value->as.boolean;
}

static int64_t index_of(const pega_value *variant) {
  const pega_value *value = pega_map_get(variant, "index");
  return value != NULL && value->kind == PEGA_INT ? value->as.i64 : -1;
}

/* A text of the map as JSON; null where there is none. */
static json_t *text_of(const pega_value *variant, const char *key) {
  size_t size = 0;
  const char *text = pega_value_as_string(pega_map_get(variant, key), &size);
  return text == NULL ? json_null() : cli_json_text(text, size);
}

static json_t *reason_of(const pega_value *variant) {
  json_t *text = text_of(variant, "reason");
  if (!json_is_string(text)) return text;
  char *words = cli_own_words(json_string_value(text));
  json_decref(text);
  text = cli_json_string(words);
  free(words);
  return text;
}

static json_t *make_report(const search *found, const char *target, const pega_value *variants) {
  json_t *object = json_object();
  json_t *items = json_array();
  bool any = false;
  for (int64_t i = 0; i < pega_value_size(variants); ++i) {
    const pega_value *variant = pega_array_get(variants, i);
    json_t *item = json_object();
    cli_json_set(item, "index", json_integer(index_of(variant)));
    cli_json_set(item, "target", text_of(variant, "target"));
    cli_json_set(item, "entry", text_of(variant, "entry"));
    cli_json_set(item, "taken", json_boolean(taken(variant)));
    cli_json_set(item, "reason", reason_of(variant));
    cli_json_append(items, item);
    any = any || taken(variant);
  }
  cli_json_set(object, "function", cli_json_string(found->name));
  cli_json_set(object, "pack", cli_json_string(pega_pack_name(found->pack.pack)));
  cli_json_set(object, "path", cli_json_string(found->pack.path));
  cli_json_set(object, "target", cli_json_string(target));
  cli_json_set(object, "taken", json_boolean(any));
  cli_json_set(object, "variants", items);
  return object;
}

static void print_text(const json_t *report) {
  cli_table table = {5, 0, 0, NULL};
  static const char *const head[] = {"variant", "target", "entry", "taken", "why"};
  size_t index = 0;
  json_t *item = NULL;
  cli_print_line(stdout, cli_member_text(report, "function"));
  (void)fputs(" for ", stdout);
  cli_print_line(stdout, cli_member_text(report, "target"));
  (void)fputs(", pack ", stdout);
  cli_print_line(stdout, cli_member_text(report, "pack"));
  (void)fputs(" (", stdout);
  cli_print_line(stdout, cli_member_text(report, "path"));
  (void)fputs(")\n\n", stdout);
  for (size_t i = 0; i < sizeof head / sizeof *head; ++i) cli_table_add(&table, head[i]);
  json_array_foreach(json_object_get(report, "variants"), index, item) {
    cli_table_addf(&table, "%" JSON_INTEGER_FORMAT,
                   json_integer_value(json_object_get(item, "index")));
    cli_table_add(&table, cli_member_text(item, "target"));
    cli_table_add(&table, cli_member_text(item, "entry"));
    cli_table_add(&table, json_is_true(json_object_get(item, "taken")) ? "yes" : "no");
    cli_table_add(&table, cli_member_text(item, "reason"));
  }
  cli_table_print(&table, 2);
  if (!json_is_true(json_object_get(report, "taken"))) {
    (void)fputs("\nno variant is taken: a call on such a GPU is refused\n", stdout);
  }
}

static cli_exit explain(const cli_options *options, search *found, pega_error *error) {
  char device[PEGA_NAME_SIZE];
  pega_value variants = pega_value_none();
  const char *target = options->target;
  const cli_exit code = find(options, found, error);
  if (code != CLI_DONE) return code;
  if (target == NULL) {
    target = pega_device_name((DLDevice){kDLCUDA, options->device}, device);
  }
  if (pega_pack_explain(found->pack.pack, found->name, target, &variants, error) != PEGA_OK) {
    if (error->status == PEGA_ERROR_INVALID_ARGUMENT) return CLI_MISUSE;
    return CLI_FAILED;
  }
  json_t *report = make_report(found, target, &variants);
  pega_value_release(&variants);
  const bool any = json_is_true(json_object_get(report, "taken"));
  if (options->json) {
    cli_print_json(report);
  } else {
    print_text(report);
    json_decref(report);
  }
  return any ? CLI_DONE : CLI_FAILED;
}

cli_exit cli_explain(const cli_options *options, pega_error *error) {
  search found;
  memset(&found, 0, sizeof found);
  pega_function *choice = cli_choice_find(options->args[0]);
  if (choice != NULL) {
    if (cli_provide(options, error) != PEGA_OK) {
      pega_function_release(choice);
      return CLI_FAILED;
    }
    const cli_exit code = cli_choice_explain(choice, options, error);
    pega_function_release(choice);
    return code;
  }
  if (options->num_args > 1) {
    return cli_misuse(error,
                      "explain: unexpected argument \"%.100s\": %.200s has no implementations "
                      "that are chosen by sizes",
                      options->args[1], options->args[0]);
  }
  if ((options->target != NULL) == options->has_device) {
    return cli_misuse(error,
                      "explain: expected one of --target TARGET (sm_90) and --device DEVICE (0), "
                      "got %s",
                      options->has_device ? "both" : "none");
  }
  const cli_exit code = explain(options, &found, error);
  cli_pack_close(&found.pack);
  free(found.path);
  return code;
}
