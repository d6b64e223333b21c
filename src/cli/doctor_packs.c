/* SPDX-License-Identifier: Apache-2.0 */
#include "doctor.h"
#include "kernel_pack.h"

/* Where add_pack() puts what it finds. */
typedef struct report {
  json_t *items;
  json_t *problems;
} report;

static bool add_pack(void *self, const char *path) {
  report *to = self;
  cli_pack pack = CLI_PACK_INIT;
  pega_error error = PEGA_ERROR_INIT;
  json_t *item = json_object();
  pega_status status = cli_pack_open(path, false, &pack, &error);
  cli_json_set(item, "path", cli_json_string(path));
  if (status == PEGA_OK) {
    cli_pack_set_counts(item, &pack);
    status = cli_pack_verify(&pack, &error);
  }
  cli_json_set(item, "verified", json_boolean(status == PEGA_OK));
  if (status != PEGA_OK) {
    /* The library stops at such a pack: what it names comes to nothing. */
    json_t *text = cli_json_string(pega_error_message(&error));
    cli_json_append(to->problems, json_incref(text));
    cli_json_set(item, "error", text);
  }
  cli_json_append(to->items, item);
  cli_pack_close(&pack);
  pega_error_clear(&error);
  return true;
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
  return object;
}
