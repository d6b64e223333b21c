/* SPDX-License-Identifier: Apache-2.0 */
/* What stands for the bridge in a build that has none. */
#include "bench.h"
#include "cli.h"
#include "doctor.h"

static const char reason[] =
    "this build of pega has no bridge to a foreign runtime: README.md says "
    "how to build one that has";

json_t *cli_doctor_bridge(const char *library, json_t *problems) {
  json_t *object = json_object();
  cli_json_set(object, "bridge", json_false());
  cli_json_set(object, "reason", json_string(reason));
  /* A runtime was asked for that nothing here can open. */
  if (library != NULL) cli_json_append(problems, json_string(reason));
  return object;
}

cli_exit cli_export(const cli_options *options, pega_error *error) {
  (void)options;
  (void)pega_error_set(error, PEGA_ERROR_UNSUPPORTED, NULL, "export: %s", reason);
  return CLI_FAILED;
}

pega_status bench_foreign_open(const char *library, pega_function *ints, pega_function *tensors,
                               DLTensor *args, bench_foreign **out, pega_error *error) {
  (void)library;
  (void)ints;
  (void)tensors;
  (void)args;
  (void)out;
  return pega_error_set(error, PEGA_ERROR_UNSUPPORTED, NULL, "this build has no bridge");
}

void bench_foreign_close(bench_foreign *self) { (void)self; }

void bench_foreign_row(bench_foreign *self, int which, bench_row *row) {
  (void)self;
  switch (which) {
    case BENCH_IMPORTED_CALL:
    case BENCH_IMPORTED_CALL_TENSORS:
      row->name = "foreign function through libpega";
      return;
    case BENCH_EXPORTED_CALL:
    case BENCH_EXPORTED_CALL_TENSORS:
      row->name = "pega function from foreign code";
      return;
    default:
      row->name = "foreign function from foreign code";
      row->by = "foreign";
  }
}
