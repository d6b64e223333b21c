/* SPDX-License-Identifier: Apache-2.0 */
#include "provide.h"

#include <pega/qwen35.h>

#include "source.h"

/* As tools/dsl/flashinfer_gdn.py exports it. */
static const char function_name[] = "gated_delta_rule_prefill";
static const char *const implementations[] = {"flashinfer", "flashinfer_cp"};

pega_status cli_provide(const cli_options *options, pega_error *error) {
  if (options->artifact == NULL) return PEGA_OK;
  cli_source *source = NULL;
  pega_function *function = NULL;
  pega_status status = cli_source_open(options, &source, error);
  if (status != PEGA_OK) return status;
  status = cli_source_get(source, function_name, &function, NULL, error);
  for (size_t i = 0; i < sizeof implementations / sizeof *implementations; ++i) {
    if (status != PEGA_OK) break;
    status = pega_qwen35_provide_prefill(implementations[i], function, error);
  }
  pega_function_release(function);
  cli_source_close(source);
  return status;
}
