/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include <pega/cuda.h>

#include "kernel_pack.h"

/* What the golden cases gave so far. */
typedef struct run {
  bool json;
  json_t *results;
  json_t *seen; /* members named by output_key() */
  int64_t passed;
  int64_t failed;
} run;

/* Names one output of one case. Returns owned. */
static char *output_key(const char *function, const char *golden, const char *output) {
  char *key = NULL;
  if (asprintf(&key, "%s\n%s\n%s", function, golden, output) < 0) cli_out_of_memory();
  return key;
}

static void report(void *self, const pega_pack_test_result *result) {
  run *all = self;
  const bool good = result->mismatches == 0;
  const bool finite = isfinite(result->max_error);
  json_t *item = json_object();
  ++*(good ? &all->passed : &all->failed);
  cli_json_set(item, "function", cli_json_string(result->function));
  cli_json_set(item, "golden", cli_json_string(result->golden));
  cli_json_set(item, "output", cli_json_string(result->argument));
  cli_json_set(item, "elements", json_integer(result->elements));
  cli_json_set(item, "mismatches", json_integer(result->mismatches));
  /* The library says infinity for a NaN too; JSON has neither. */
  cli_json_set(item, "max_error", finite ? json_real(result->max_error) : json_null());
  cli_json_set(item, "not_finite", json_boolean(!finite));
  cli_json_set(item, "tolerance", cli_json_float(result->tolerance));
  cli_json_set(item, "relative_tolerance", cli_json_float(result->relative));
  cli_json_set(item, "ok", json_boolean(good));
  cli_json_append(all->results, item);
  char *key = output_key(result->function, result->golden, result->argument);
  cli_json_set(all->seen, key, json_true());
  free(key);
  if (all->json) return;
  (void)fputs(good ? "ok      " : "FAILED  ", stdout);
  cli_print_line(stdout, result->function);
  (void)fputs(", \"", stdout);
  cli_print_line(stdout, result->golden);
  (void)fputs("\", ", stdout);
  cli_print_line(stdout, result->argument);
  (void)printf(": %" PRId64 " elements", result->elements);
  if (!good) (void)printf(", %" PRId64 " out of tolerance", result->mismatches);
  (void)fputs(", max error ", stdout);
  if (finite) {
    (void)printf("%.3g", result->max_error);
  } else {
    (void)fputs("not finite (a NaN or an infinity)", stdout);
  }
  (void)printf(", tolerance %.3g", result->tolerance);
  if (result->relative != 0) (void)printf(" + %.3g * |expected|", result->relative);
  (void)putchar('\n');
}

/* Outputs that the manifest expects and that no result came for: their launch failed. */
static json_t *not_compared(const cli_pack *pack, const run *all) {
  json_t *missing = json_array();
  size_t i = 0;
  size_t j = 0;
  json_t *function = NULL;
  json_t *golden = NULL;
  const char *name = NULL;
  json_t *arg = NULL;
  json_array_foreach(cli_pack_functions(pack), i, function) {
    const char *function_name = cli_member_text(function, "name");
    json_array_foreach(json_object_get(function, "golden"), j, golden) {
      const char *golden_name = cli_member_text(golden, "name");
      json_object_foreach(json_object_get(golden, "args"), name, arg) {
        if (json_object_get(arg, "expect") == NULL) continue;
        char *key = output_key(function_name, golden_name, name);
        const bool compared = json_object_get(all->seen, key) != NULL;
        free(key);
        if (compared) continue;
        json_t *item = json_object();
        cli_json_set(item, "function", json_string(function_name));
        cli_json_set(item, "golden", json_string(golden_name));
        cli_json_set(item, "output", json_string(name));
        cli_json_append(missing, item);
      }
    }
  }
  return missing;
}

static void print_text(const run *all, const json_t *missing, const char *device) {
  size_t index = 0;
  json_t *item = NULL;
  json_array_foreach(missing, index, item) {
    (void)fputs("NOT RUN ", stdout);
    cli_print_line(stdout, cli_member_text(item, "function"));
    (void)fputs(", \"", stdout);
    cli_print_line(stdout, cli_member_text(item, "golden"));
    (void)fputs("\", ", stdout);
    cli_print_line(stdout, cli_member_text(item, "output"));
    (void)putchar('\n');
  }
  (void)printf("%s: %" PRId64 " of %" PRId64 " outputs agree", device, all->passed,
               all->passed + all->failed + (int64_t)json_array_size(missing));
  if (all->failed > 0) (void)printf(", %" PRId64 " FAILED", all->failed);
  if (json_array_size(missing) > 0) (void)printf(", %zu not run", json_array_size(missing));
  (void)putchar('\n');
}

static void print_json(const cli_pack *pack, run *all, json_t *missing, const char *device,
                       pega_error *error) {
  json_t *object = json_object();
  cli_json_set(object, "pack", cli_json_string(pega_pack_name(pack->pack)));
  cli_json_set(object, "path", cli_json_string(pack->path));
  cli_json_set(object, "device", json_string(device));
  cli_json_set(object, "ok", json_boolean(error->status == PEGA_OK));
  cli_json_set(object, "passed", json_integer(all->passed));
  cli_json_set(object, "failed", json_integer(all->failed));
  cli_json_set(object, "results", json_incref(all->results));
  cli_json_set(object, "not_run", json_incref(missing));
  cli_json_set(object, "error", error->status == PEGA_OK ? json_null() : cli_json_error(error));
  cli_print_json(object);
  pega_error_clear(error); /* it is printed */
}

static cli_exit test(const cli_options *options, cli_pack *pack, run *all, pega_error *error) {
  char device[PEGA_NAME_SIZE];
  const DLDevice cuda = {kDLCUDA, options->device};
  const char *path = options->embedded ? NULL : options->args[0];
  if (cli_pack_open(path, options->allow_ptx, pack, error) != PEGA_OK) {
    return CLI_FAILED;
  }
  /* Whether there is a GPU at all is better known before the first case than by each of them. */
  pega_device_info info;
  memset(&info, 0, sizeof info);
  info.struct_size = (uint32_t)sizeof info;
  if (pega_device_query(cuda, &info, error) != PEGA_OK) {
    pega_error why = PEGA_ERROR_INIT;
    pega_error_copy(error, &why);
    (void)pega_error_set(
        error, (pega_status)why.status, NULL,
        "pega test runs kernels on a GPU, here %s, and found none that it can use: "
        "%s; `pega verify` checks a pack without one",
        pega_device_name(cuda, device), pega_error_message(&why));
    error->code = why.code;
    pega_error_clear(&why);
    return CLI_FAILED;
  }
  const pega_status status = pega_pack_test(pack->pack, cuda, report, all, error);
  json_t *missing = not_compared(pack, all);
  (void)pega_device_name(cuda, device);
  if (all->json) {
    print_json(pack, all, missing, device, error);
  } else {
    print_text(all, missing, device);
  }
  json_decref(missing);
  return status == PEGA_OK ? CLI_DONE : CLI_FAILED;
}

cli_exit cli_test(const cli_options *options, pega_error *error) {
  cli_pack pack = CLI_PACK_INIT;
  run all = {options->json, json_array(), json_object(), 0, 0};
  const cli_exit code = test(options, &pack, &all, error);
  json_decref(all.results);
  json_decref(all.seen);
  cli_pack_close(&pack);
  return code;
}
