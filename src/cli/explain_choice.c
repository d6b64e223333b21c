/* SPDX-License-Identifier: Apache-2.0 */
/* How a function chooses between implementations: what its "_explain" function says. */
#include "explain_choice.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "table.h"

enum { kSizes = 4 };

/* What is explained where no sizes are given. */
static const int64_t usual_sizes[kSizes] = {4096, 1, 16, 32};
static const char *const size_names[kSizes] = {"tokens", "sequences", "key heads", "value heads"};

/* A form of a function on other inputs; it chooses by the same table. */
static const char form[] = "_projected";

static size_t length_without_form(const char *name) {
  const size_t size = strlen(name);
  const size_t end = sizeof form - 1;
  return size > end && strcmp(name + size - end, form) == 0 ? size - end : size;
}

pega_function *cli_choice_find(const char *name) {
  char asked[PEGA_MAX_NAME + 1];
  pega_function *function = NULL;
  const int size =
      snprintf(asked, sizeof asked, "%.*s_explain", (int)length_without_form(name), name);
  if (size < 0 || size >= (int)sizeof asked) return NULL;
  return pega_registry_get(asked, &function, NULL) == PEGA_OK ? function : NULL;
}

static cli_exit read_sizes(const cli_options *options, int64_t sizes[kSizes], pega_error *error) {
  for (int i = 0; i < kSizes; ++i) {
    sizes[i] = usual_sizes[i];
    if (i + 1 >= options->num_args) continue;
    const char *text = options->args[i + 1];
    char *end = NULL;
    errno = 0;
    sizes[i] = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0) {
      return cli_misuse(error, "explain: expected a number of %s, got \"%.100s\"", size_names[i],
                        text);
    }
  }
  return CLI_DONE;
}

static json_t *make_rows(const pega_value *choices) {
  json_t *rows = json_array();
  for (int64_t i = 0; i < pega_value_size(choices); ++i) {
    const pega_value *choice = pega_array_get(choices, i);
    json_t *row = json_object();
    for (int64_t k = 0; k < pega_value_size(choice); ++k) {
      const char *key = pega_value_as_string(pega_map_key(choice, k), NULL);
      const pega_value *value = pega_map_value(choice, k);
      size_t size = 0;
      const char *text = pega_value_as_string(value, &size);
      json_t *shown = text != NULL                ? cli_json_text(text, size)
                      : value->kind == PEGA_BOOL  ? json_boolean(value->as.boolean)
                      : value->kind == PEGA_INT   ? json_integer(value->as.i64)
                      : value->kind == PEGA_FLOAT ? cli_json_float(value->as.f64)
                                                  : json_null();
      cli_json_set(row, key, shown);
    }
    cli_json_append(rows, row);
  }
  return rows;
}

/* The rows of a table's file that a choice lies between, each on a line; nothing where it cannot be read. */
static void print_table_rows(const char *path, const char *rows) {
  json_t *table = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
  const char *at = rows;
  while (table != NULL && *at != '\0') {
    char *end = NULL;
    const json_t *row =
        json_array_get(json_object_get(table, "rows"), (size_t)strtoul(at, &end, 10));
    const char *key = NULL;
    json_t *us = NULL;
    if (end == at) break;
    (void)printf("  row %.*s: HK = %" JSON_INTEGER_FORMAT ", HV = %" JSON_INTEGER_FORMAT
                 ", N = %" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT " tokens:",
                 (int)(end - at), at, json_integer_value(json_object_get(row, "key_heads")),
                 json_integer_value(json_object_get(row, "value_heads")),
                 json_integer_value(json_object_get(row, "sequences")),
                 json_integer_value(json_object_get(row, "tokens")));
    const char *comma = " ";
    json_object_foreach(json_object_get(row, "us"), key, us) {
      (void)fputs(comma, stdout);
      cli_print_line(stdout, key);
      (void)printf(" %.1f us", json_number_value(us));
      comma = ", ";
    }
    (void)putchar('\n');
    at = end + strspn(end, ", ");
  }
  json_decref(table);
}

/* Where the choice comes from. */
static void print_source(const json_t *rows) {
  const json_t *first = json_array_get(rows, 0);
  const char *table = cli_member_text(first, "table");
  if (*table == '\0') {
    (void)printf(
        "\nNo table of measured times knows of such a call: the first that fits is taken.");
  } else {
    (void)fputs("\nThe one with the shortest time is taken, by ", stdout);
    cli_print_line(stdout, table);
    (void)fputs(", rows ", stdout);
    cli_print_line(stdout, cli_member_text(first, "rows"));
    (void)fputs(", counted from 0.\n", stdout);
    print_table_rows(table, cli_member_text(first, "rows"));
  }
  (void)printf("%sA call may name another as 'implementation'.\n", *table == '\0' ? " " : "");
}

static void print_text(const char *name, const char *device, const int64_t sizes[kSizes],
                       const json_t *rows) {
  cli_table table = {8, 0, 0, NULL};
  static const char *const head[] = {"implementation", "device",    "how", "taken by itself", "us",
                                     "taken",          "workspace", "why"};
  size_t index = 0;
  json_t *row = NULL;
  cli_print_line(stdout, name);
  (void)printf(" on %s: T = %" PRId64 " tokens, N = %" PRId64 " sequences, HK = %" PRId64
               ", HV = %" PRId64 "\n\n",
               device, sizes[0], sizes[1], sizes[2], sizes[3]);
  for (size_t i = 0; i < sizeof head / sizeof *head; ++i) cli_table_add(&table, head[i]);
  json_array_foreach(rows, index, row) {
    cli_table_add(&table, cli_member_text(row, "name"));
    cli_table_add(&table, cli_member_text(row, "device"));
    cli_table_add(&table, cli_member_text(row, "how"));
    cli_table_add(&table, cli_member_text(row, "when"));
    const json_t *us = json_object_get(row, "us");
    if (json_is_real(us)) {
      cli_table_addf(&table, "%.1f", json_real_value(us));
    } else {
      cli_table_add(&table, "-");
    }
    cli_table_add(&table, json_is_true(json_object_get(row, "taken")) ? "yes" : "no");
    const json_t *workspace = json_object_get(row, "workspace");
    if (json_is_integer(workspace)) {
      cli_table_addf(&table, "%" JSON_INTEGER_FORMAT, json_integer_value(workspace));
    } else {
      cli_table_add(&table, "-");
    }
    cli_table_add(&table, cli_member_text(row, "reason"));
  }
  cli_table_print(&table, 2);
  print_source(rows);
}

cli_exit cli_choice_explain(pega_function *function, const cli_options *options,
                            pega_error *error) {
  char device_name[PEGA_NAME_SIZE];
  int64_t sizes[kSizes];
  if (options->target != NULL) {
    return cli_misuse(error,
                      "explain: %.200s chooses between implementations by device and sizes: "
                      "give --device DEVICE, or nothing for the CPU, not --target",
                      options->args[0]);
  }
  const cli_exit code = read_sizes(options, sizes, error);
  if (code != CLI_DONE) return code;
  DLDevice device = {kDLCPU, 0};
  if (options->has_device) device = (DLDevice){kDLCUDA, options->device};
  const char *name = options->args[0];
  const bool projected = length_without_form(name) < strlen(name);
  const pega_value args[] = {pega_value_device(device), pega_value_int(sizes[0]),
                             pega_value_int(sizes[1]),  pega_value_int(sizes[2]),
                             pega_value_int(sizes[3]),  pega_value_bool(projected)};
  pega_value choices = pega_value_none();
  const pega_status status = pega_function_call(function, args, 2 + kSizes, &choices, error);
  if (status != PEGA_OK) return CLI_FAILED;
  json_t *rows = make_rows(&choices);
  pega_value_release(&choices);
  (void)pega_device_name(device, device_name);
  if (options->json) {
    json_t *report = json_object();
    cli_json_set(report, "function", cli_json_string(options->args[0]));
    cli_json_set(report, "device", cli_json_string(device_name));
    cli_json_set(report, "num_tokens", json_integer(sizes[0]));
    cli_json_set(report, "num_sequences", json_integer(sizes[1]));
    cli_json_set(report, "num_key_heads", json_integer(sizes[2]));
    cli_json_set(report, "num_value_heads", json_integer(sizes[3]));
    cli_json_set(report, "implementations", rows);
    cli_print_json(report);
  } else {
    print_text(options->args[0], device_name, sizes, rows);
    json_decref(rows);
  }
  return CLI_DONE;
}
