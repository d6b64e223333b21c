/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "describe.h"
#include "kernel_pack.h"
#include "signature.h"
#include "source.h"

static void print_json(const char *name, pega_function *function, const char *from) {
  char *text = cli_signature_text(name, function);
  const pega_signature *signature = pega_function_signature(function);
  json_t *object = json_object();
  cli_json_set(object, "name", cli_json_string(name));
  cli_json_set(object, "from", json_string(from));
  cli_json_set(object, "doc", cli_json_string(pega_function_doc(function)));
  cli_json_set(object, "signature", cli_json_string(text));
  if (signature == NULL) {
    cli_json_set(object, "params", json_null());
  } else {
    json_t *params = json_array();
    for (int32_t i = 0; i < signature->num_params; ++i) {
      cli_json_append(params, cli_json_param(cli_signature_param(signature, i)));
    }
    cli_json_set(object, "params", params);
    cli_json_set(object, "same_device",
                 json_boolean((signature->flags & PEGA_SIGNATURE_SAME_DEVICE) != 0));
    cli_json_set(object, "result", json_string(pega_type_name(signature->result)));
  }
  cli_print_json(object);
  free(text);
}

static void print_text(const char *name, pega_function *function, const char *from) {
  char *text = cli_signature_text(name, function);
  const pega_signature *signature = pega_function_signature(function);
  cli_print_string(stdout, name);
  (void)printf(" (%s)\n\n  ", from);
  cli_print_string(stdout, text);
  (void)putchar('\n');
  free(text);
  if (*pega_function_doc(function) != '\0') {
    (void)putchar('\n');
    cli_print_string(stdout, pega_function_doc(function));
    (void)putchar('\n');
  }
  if (signature == NULL) {
    (void)puts("\nIt does not tell pega its parameters, and checks its arguments itself.");
    return;
  }
  (void)printf("\nparameters:%s\n", signature->num_params == 0 ? " none" : "");
  for (int32_t i = 0; i < signature->num_params; ++i) {
    cli_print_param(cli_signature_param(signature, i), 2);
  }
  if ((signature->flags & PEGA_SIGNATURE_SAME_DEVICE) != 0) {
    (void)puts("  (all tensors on one device)");
  }
  (void)printf("result: %s\n", pega_type_name(signature->result));
}

static cli_exit info_function(const cli_options *options, pega_error *error) {
  cli_source *source = NULL;
  pega_function *function = NULL;
  const char *from = NULL;
  pega_status status = cli_source_open(options, &source, error);
  if (status == PEGA_OK) {
    status = cli_source_get(source, options->args[0], &function, &from, error);
  }
  if (status == PEGA_OK)
    (options->json ? print_json : print_text)(options->args[0], function, from);
  pega_function_release(function);
  cli_source_close(source);
  return status == PEGA_OK ? CLI_DONE : CLI_FAILED;
}

cli_exit cli_info(const cli_options *options, pega_error *error) {
  const char *word = options->args[0]; /* NULL: none, with --embedded alone */
  const char *second = options->num_args > 1 ? options->args[1] : NULL;
  const bool named = options->pack != NULL || options->artifact != NULL ||
                     options->module != NULL || options->globals;
  if (options->embedded) return cli_info_pack(options, NULL, word, error);
  const bool pack = !named && cli_is_pack_path(word);
  if (second != NULL && named) {
    return cli_misuse(error, "info: unexpected argument \"%.100s\"", second);
  }
  if (second != NULL && !pack) {
    return cli_misuse(error,
                      "info: unexpected argument \"%.100s\": the one before it, \"%.100s\", is no "
                      "path of a pack",
                      second, word);
  }
  if (pack) return cli_info_pack(options, word, second, error);
  if (options->pack != NULL) return cli_info_pack(options, options->pack, word, error);
  if (options->params) {
    return cli_misuse(error,
                      "info: --params is for functions of packs: give PACK, --pack PACK or "
                      "--embedded");
  }
  return info_function(options, error);
}
