/* SPDX-License-Identifier: Apache-2.0 */
/* An engine's side in small: exports a function, finds and calls it, and calls the library's own. */
#include <pega/pega.h>
#include <pega/qwen35.h>
#include <stdio.h>

static pega_status add(void *self, const pega_value *args, int32_t num_args, pega_value *result,
                       pega_error *error) {
  (void)self;
  (void)num_args;
  (void)error;
  *result = pega_value_int(args[0].as.i64 + args[1].as.i64);
  return PEGA_OK;
}

static pega_status export_and_call(pega_error *error) {
  const pega_param params[] = {{.name = "a", .type = PEGA_TYPE_INT},
                               {.name = "b", .type = PEGA_TYPE_INT}};
  pega_signature signature = PEGA_SIGNATURE_INIT;
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  pega_function *function = NULL;
  const pega_value args[] = {pega_value_int(2), pega_value_int(40)};
  pega_value sum = pega_value_none();
  signature.params = params;
  signature.num_params = 2;
  options.name = "app.add";
  options.signature = &signature;
  options.call = add;
  pega_status status = pega_function_create(&options, &function, error);
  if (status == PEGA_OK) status = pega_registry_add(function, 0, error);
  pega_function_release(function);
  function = NULL;
  if (status == PEGA_OK) status = pega_registry_get("app.add", &function, error);
  if (status == PEGA_OK) status = pega_function_call(function, args, 2, &sum, error);
  pega_function_release(function);
  if (status == PEGA_OK && sum.as.i64 != 42) {
    return pega_error_set(error, PEGA_ERROR_INTERNAL, NULL, "2 + 40 is not 42");
  }
  return status;
}

static pega_status solve(pega_error *error) {
  static float in[3 * 64];
  static uint16_t out[3 * 64];
  int64_t shape[] = {3, 1, 64};
  const DLTensor a_tril = {in, {kDLCPU, 0}, 3, {kDLFloat, 32, 1}, shape, NULL, 0};
  const DLTensor a_inv = {out, {kDLCPU, 0}, 3, {kDLBfloat, 16, 1}, shape, NULL, 0};
  const pega_value args[] = {pega_value_tensor(&a_tril), pega_value_tensor(&a_inv)};
  pega_function *function = NULL;
  in[64] = 0.5f;
  pega_status status = pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE, &function, error);
  if (status == PEGA_OK) status = pega_function_call(function, args, 2, NULL, error);
  pega_function_release(function);
  /* -0.5 below the diagonal, 1 on it. */
  if (status == PEGA_OK && (out[64] != 0xbf00 || out[65] != 0x3f80)) {
    return pega_error_set(error, PEGA_ERROR_INTERNAL, NULL, "the inverse is wrong");
  }
  return status;
}

int main(void) {
  pega_error error = PEGA_ERROR_INIT;
  pega_status status = export_and_call(&error);
  if (status == PEGA_OK) status = solve(&error);
  if (status != PEGA_OK) {
    fprintf(stderr, "%s: %s\n", pega_status_name(status), pega_error_message(&error));
    pega_error_clear(&error);
    return 1;
  }
  printf("consumer of pega %s: ok\n", pega_version_string());
  return 0;
}
