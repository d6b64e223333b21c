/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel_pack.h"

/* `path`: as cli_pack_open() takes it. `report`: the list for JSON, or NULL. */
static bool verify_one(const char *path, json_t *report) {
  cli_pack pack = CLI_PACK_INIT;
  pega_error error = PEGA_ERROR_INIT;
  pega_status status = cli_pack_open(path, false, &pack, &error);
  if (status == PEGA_OK) status = cli_pack_verify(&pack, &error);
  if (report != NULL) {
    json_t *item = json_object();
    cli_json_set(item, "path", cli_json_string(path == NULL ? CLI_PACK_EMBEDDED : path));
    cli_json_set(item, "ok", json_boolean(status == PEGA_OK));
    if (status == PEGA_OK) {
      cli_pack_set_counts(item, &pack);
    } else {
      cli_json_set(item, "error", cli_json_error(&error));
    }
    cli_json_append(report, item);
  } else if (status == PEGA_OK) {
    cli_print_line(stdout, pack.path);
    (void)fputs(": ok, ", stdout);
    cli_print_line(stdout, pega_pack_name(pack.pack));
    (void)fputs(": ", stdout);
    cli_pack_print_counts(&pack);
    (void)putchar('\n');
  } else {
    cli_print_error(&error, false);
  }
  cli_pack_close(&pack);
  pega_error_clear(&error);
  return status == PEGA_OK;
}

cli_exit cli_verify(const cli_options *options, pega_error *error) {
  (void)error; /* each pack has its own */
  json_t *report = options->json ? json_array() : NULL;
  int failed = 0;
  const int num_packs = options->num_args + (options->embedded ? 1 : 0);
  if (options->embedded && !verify_one(NULL, report)) ++failed;
  for (int i = 0; i < options->num_args; ++i) {
    if (!verify_one(options->args[i], report)) ++failed;
  }
  if (options->json) {
    json_t *object = json_object();
    cli_json_set(object, "packs", report);
    cli_json_set(object, "failed", json_integer(failed));
    cli_print_json(object);
  } else if (num_packs > 1 && failed > 0) {
    (void)fprintf(stderr, "pega: %d of %d packs failed\n", failed, num_packs);
  }
  return failed == 0 ? CLI_DONE : CLI_FAILED;
}
