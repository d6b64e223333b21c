/* SPDX-License-Identifier: Apache-2.0 */
#include "doctor.h"
#include "kernel_pack.h"

/* Where add_pack() puts what it finds. */
typedef struct report {
  json_t *items;
  json_t *problems;
} report;

/* Counts, and whether the pack verifies. `path`: as cli_pack_open() takes it. */
static void check_pack(const char *path, json_t *item, json_t *problems) {
  cli_pack pack = CLI_PACK_INIT;
  pega_error error = PEGA_ERROR_INIT;
  pega_status status = cli_pack_open(path, false, &pack, &error);
  if (status == PEGA_OK) {
    cli_pack_set_counts(item, &pack);
    status = cli_pack_verify(&pack, &error);
  }
  cli_json_set(item, "verified", json_boolean(status == PEGA_OK));
  if (status != PEGA_OK) {
    /* The library stops at such a pack: what it names comes to nothing. */
    json_t *text = cli_json_string(pega_error_message(&error));
    cli_json_append(problems, json_incref(text));
    cli_json_set(item, "error", text);
  }
  cli_pack_close(&pack);
  pega_error_clear(&error);
}

static bool add_pack(void *self, const char *path) {
  report *to = self;
  json_t *item = json_object();
  cli_json_set(item, "path", cli_json_string(path));
  check_pack(path, item, to->problems);
  cli_json_append(to->items, item);
  return true;
}

static json_t *about_embedded(json_t *problems) {
  const bool present = pega_pack_embedded(NULL) != NULL;
  json_t *item = json_object();
  cli_json_set(item, "present", json_boolean(present));
  if (present) {
    check_pack(NULL, item, problems);
  } else {
    cli_json_set(item, "reason", json_string("libpega was built without PEGA_AOT"));
  }
  return item;
}

json_t *cli_doctor_packs(json_t *problems) {
  json_t *object = json_object();
  report to = {json_array(), problems};
  const char *path = cli_pack_path();
  if (path == NULL) {
    cli_json_set(object, "reason", json_string(CLI_PACK_PATH " is not set"));
  } else {
    cli_json_set(object, CLI_PACK_PATH, cli_json_string(path));
  }
  cli_pack_path_each(add_pack, &to);
  cli_json_set(object, "found", to.items);
  cli_json_set(object, "embedded", about_embedded(problems));
  return object;
}
