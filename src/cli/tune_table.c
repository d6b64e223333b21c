/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include <pega/qwen35.h>

#include "print.h"
#include "tune.h"

static bool is_provided(const char *name) { return strncmp(name, "flashinfer", 10) == 0; }

/* Three digits more than the spread has. */
static json_t *rounded(double us) { return json_real(round(us * 1000) / 1000); }

static json_t *make_row(const tune_result *result, bool own) {
  const tune_time *order[TUNE_MOST];
  int count = 0;
  for (int i = 0; i < result->count; ++i) {
    const tune_time *time = &result->of[i];
    if (time->rounds == 0 || (own && is_provided(time->name))) continue;
    int at = count++;
    for (; at > 0 && order[at - 1]->median > time->median; --at) order[at] = order[at - 1];
    order[at] = time;
  }
  if (count == 0) return NULL;
  json_t *row = json_object();
  json_t *us = json_object();
  json_t *low = json_object();
  json_t *high = json_object();
  for (int i = 0; i < count; ++i) {
    cli_json_set(us, order[i]->name, rounded(order[i]->median < 0.001 ? 0.001 : order[i]->median));
    cli_json_set(low, order[i]->name, rounded(order[i]->low));
    cli_json_set(high, order[i]->name, rounded(order[i]->high));
  }
  cli_json_set(row, "key_heads", json_integer(result->sizes.key_heads));
  cli_json_set(row, "value_heads", json_integer(result->sizes.value_heads));
  cli_json_set(row, "sequences", json_integer(result->sizes.sequences));
  cli_json_set(row, "tokens", json_integer(result->sizes.tokens));
  cli_json_set(row, "us", us);
  cli_json_set(row, "low", low);
  cli_json_set(row, "high", high);
  return row;
}

json_t *tune_table(const tune_place *place, const tune_result *const *results, size_t count,
                   bool own) {
  char date[32];
  const time_t now = time(NULL);
  struct tm parts;
  json_t *table = json_object();
  json_t *device = json_object();
  json_t *rows = json_array();
  (void)strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &parts));
  cli_json_set(device, "name", cli_json_string(place->name));
  cli_json_set(device, "target", cli_json_string(place->target));
  cli_json_set(device, "multiprocessors", json_integer(place->multiprocessors));
  for (size_t i = 0; i < count; ++i) {
    json_t *row = make_row(results[i], own);
    if (row != NULL) cli_json_append(rows, row);
  }
  cli_json_set(table, "schema_version", json_integer(1));
  cli_json_set(table, "function", cli_json_string(PEGA_QWEN35_PREFILL));
  cli_json_set(table, "device", device);
  cli_json_set(table, "date", cli_json_string(date));
  cli_json_set(table, "pega", cli_json_string(pega_version_string()));
  cli_json_set(table, "how",
               cli_json_string(place->device.device_type == kDLCPU ? "wall"
                               : place->eager                      ? "eager"
                                                                   : "graph"));
  cli_json_set(table, "rows", rows);
  return table;
}

static void write_all(FILE *file, const json_t *table) {
  const char *key = NULL;
  json_t *value = NULL;
  const char *before = "{\n ";
  json_object_foreach((json_t *)(uintptr_t)table, key, value) {
    if (strcmp(key, "rows") == 0) continue;
    (void)fprintf(file, "%s\"%s\": ", before, key);
    (void)json_dumpf(value, file, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
    before = ",\n ";
  }
  (void)fputs(",\n \"rows\": [", file);
  size_t index = 0;
  json_array_foreach(json_object_get(table, "rows"), index, value) {
    (void)fputs(index == 0 ? "\n  " : ",\n  ", file);
    (void)json_dumpf(value, file, JSON_REAL_PRECISION(7));
  }
  (void)fputs("\n ]\n}\n", file);
}

/* Beside the file first: a process that reads it has the old table or the new one. */
pega_status tune_write(const json_t *table, const char *path, pega_error *error) {
  char *beside = NULL;
  if (asprintf(&beside, "%s.new", path) < 0) cli_out_of_memory();
  FILE *file = fopen(beside, "we");
  bool good = file != NULL;
  if (good && table != NULL) write_all(file, table);
  int code = errno;
  if (good && ferror(file)) good = false;
  if (file != NULL && fclose(file) != 0) {
    code = errno;
    good = false;
  }
  if (good && table != NULL && rename(beside, path) != 0) {
    code = errno;
    good = false;
  }
  if (file != NULL && (!good || table == NULL)) (void)remove(beside);
  free(beside);
  if (good) return PEGA_OK;
  return pega_error_set(error, PEGA_ERROR_IO, NULL, "%s: %s", path, strerror(code));
}
