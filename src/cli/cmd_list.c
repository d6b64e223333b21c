/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "print.h"
#include "source.h"

/* A name that leads to no function is listed without parameters. */
static void print_line(void *self, const char *name, pega_function *function, const char *from) {
  (void)self;
  (void)from;
  char *signature = function == NULL ? NULL : cli_signature_text(name, function);
  cli_print_string(stdout, signature == NULL ? name : signature);
  (void)putchar('\n');
  free(signature);
}

static void append_item(void *self, const char *name, pega_function *function, const char *from) {
  char *signature = function == NULL ? NULL : cli_signature_text(name, function);
  json_t *item = json_object();
  cli_json_set(item, "name", cli_json_string(name));
  cli_json_set(item, "from", json_string(from));
  cli_json_set(item, "signature", cli_json_string(signature));
  cli_json_set(item, "doc", cli_json_string(function == NULL ? NULL : pega_function_doc(function)));
  cli_json_append(self, item);
  free(signature);
}

cli_exit cli_list(const cli_options *options, pega_error *error) {
  cli_source *source = NULL;
  json_t *items = options->json ? json_array() : NULL;
  pega_status status = cli_source_open(options, &source, error);
  if (status == PEGA_OK) {
    status = cli_source_each(source, options->json ? append_item : print_line, items, error);
  }
  cli_source_close(source);
  if (status == PEGA_OK && options->json) {
    json_t *object = json_object();
    cli_json_set(object, "functions", json_incref(items));
    cli_print_json(object);
  }
  json_decref(items);
  return status == PEGA_OK ? CLI_DONE : CLI_FAILED;
}
