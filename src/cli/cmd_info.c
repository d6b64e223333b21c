/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdlib.h>

#include "print.h"
#include "signature.h"
#include "source.h"

/* Bits of pega_param.flags by the words that JSON and people see. */
static const struct {
  uint32_t bit;
  const char *word;
} FLAGS[] = {
    {PEGA_PARAM_OPTIONAL, "optional"},
    {PEGA_PARAM_NONNULL, "nonnull"},
    {PEGA_PARAM_CONTIGUOUS, "contiguous"},
    {PEGA_PARAM_OUTPUT, "output"},
};
enum { NUM_FLAGS = sizeof FLAGS / sizeof FLAGS[0] };

static bool has_dtype(const pega_param *param) {
  return param->dtype.bits != 0 || param->dtype.code != 0 || param->dtype.lanes != 0;
}

static json_t *json_param(const pega_param *param) {
  char name[PEGA_NAME_SIZE];
  json_t *object = json_object();
  json_t *flags = json_array();
  for (int i = 0; i < NUM_FLAGS; ++i) {
    if ((param->flags & FLAGS[i].bit) != 0) cli_json_append(flags, json_string(FLAGS[i].word));
  }
  cli_json_set(object, "name", cli_json_string(param->name));
  cli_json_set(object, "doc", cli_json_string(param->doc));
  cli_json_set(object, "type", json_string(pega_type_name(param->type)));
  cli_json_set(object, "flags", flags);
  if ((param->flags & PEGA_PARAM_RANGE) != 0) {
    cli_json_set(object, "min", json_integer(param->min));
    cli_json_set(object, "max", json_integer(param->max));
  }
  if (param->type == PEGA_TYPE_TENSOR) {
    cli_json_set(object, "dtype",
                 cli_json_string(has_dtype(param) ? pega_dtype_name(param->dtype, name) : NULL));
    cli_json_set(object, "shape", cli_json_string(param->shape));
    cli_json_set(object, "device", cli_json_string(cli_device_type_name(param->device_type, name)));
  }
  if (param->alignment != 0) cli_json_set(object, "alignment", json_integer(param->alignment));
  cli_json_set(object, "domain", cli_json_string(param->domain));
  return object;
}

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
      cli_json_append(params, json_param(cli_signature_param(signature, i)));
    }
    cli_json_set(object, "params", params);
    cli_json_set(object, "same_device",
                 json_boolean((signature->flags & PEGA_SIGNATURE_SAME_DEVICE) != 0));
    cli_json_set(object, "result", json_string(pega_type_name(signature->result)));
  }
  cli_print_json(object);
  free(text);
}

static void print_param(const pega_param *param) {
  char name[PEGA_NAME_SIZE];
  (void)fputs("  ", stdout);
  cli_print_string(stdout, param->name);
  (void)printf(": %s", pega_type_name(param->type));
  if (param->type == PEGA_TYPE_TENSOR) {
    if (has_dtype(param)) (void)printf(", %s", pega_dtype_name(param->dtype, name));
    if (param->shape != NULL) (void)printf(", [%s]", param->shape);
    if (param->device_type != 0) {
      (void)printf(", on %s", cli_device_type_name(param->device_type, name));
    }
  }
  if ((param->flags & PEGA_PARAM_RANGE) != 0) {
    (void)printf(", %" PRId64 " to %" PRId64, param->min, param->max);
  }
  for (int i = 0; i < NUM_FLAGS; ++i) {
    if ((param->flags & FLAGS[i].bit) != 0) (void)printf(", %s", FLAGS[i].word);
  }
  if (param->alignment != 0) (void)printf(", aligned to %" PRIu32 " bytes", param->alignment);
  (void)putchar('\n');
  const char *texts[] = {param->doc, param->domain};
  for (int i = 0; i < 2; ++i) {
    if (texts[i] == NULL || *texts[i] == '\0') continue;
    (void)fputs(i == 0 ? "      " : "      domain: ", stdout);
    cli_print_string(stdout, texts[i]);
    (void)putchar('\n');
  }
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
    (void)puts("\nIt says nothing about its parameters: any arguments pass.");
    return;
  }
  (void)printf("\nparameters:%s\n", signature->num_params == 0 ? " none" : "");
  for (int32_t i = 0; i < signature->num_params; ++i) {
    print_param(cli_signature_param(signature, i));
  }
  if ((signature->flags & PEGA_SIGNATURE_SAME_DEVICE) != 0) {
    (void)puts("  (all tensors on one device)");
  }
  (void)printf("result: %s\n", pega_type_name(signature->result));
}

cli_exit cli_info(const cli_options *options, pega_error *error) {
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
