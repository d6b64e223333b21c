/* SPDX-License-Identifier: Apache-2.0 */
#include "describe.h"

#include <inttypes.h>

#include "signature.h"

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

json_t *cli_json_param(const pega_param *param) {
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

void cli_print_param(const pega_param *param, int indent) {
  char name[PEGA_NAME_SIZE];
  (void)printf("%*s", indent, "");
  cli_print_line(stdout, param->name);
  (void)printf(": %s", pega_type_name(param->type));
  if (param->type == PEGA_TYPE_TENSOR) {
    if (has_dtype(param)) (void)printf(", %s", pega_dtype_name(param->dtype, name));
    if (param->shape != NULL) {
      (void)fputs(", [", stdout);
      cli_print_line(stdout, param->shape);
      (void)putchar(']');
    }
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
    (void)printf("%*s%s", indent + 4, "", i == 0 ? "" : "domain: ");
    cli_print_line(stdout, texts[i]);
    (void)putchar('\n');
  }
}
