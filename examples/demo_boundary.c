/* SPDX-License-Identifier: Apache-2.0 */
/* Sections 2 to 4 of the demo: calls and errors, both ways across the boundary. */
#include "demo.h"

#include <stdio.h>

static pega_error error = PEGA_ERROR_INIT;

/* ---- 2. the engine calls the artifact ---- */

static DLTensor vector_over(float *data, int64_t *shape) {
  DLTensor tensor = {
      .data = data,
      .device = {kDLCPU, 0},
      .ndim = 1,
      .dtype = {kDLFloat, 32, 1},
      .shape = shape,
  };
  return tensor;
}

static void engine_calls(pega_function *add_one) {
  demo_section("2. The engine calls TVM FFI code");
  float x[] = {1, 2, 3};
  float y[] = {0, 0, 0};
  int64_t shape[] = {3};
  DLTensor from = vector_over(x, shape);
  DLTensor to = vector_over(y, shape);
  const pega_value args[] = {pega_value_tensor(&from), pega_value_tensor(&to)};
  pega_status status = pega_function_call(add_one, args, 2, NULL, &error);
  demo_check(status == PEGA_OK && y[0] == 2 && y[1] == 3 && y[2] == 4,
             "add_one([1, 2, 3]) = [%g, %g, %g]", (double)y[0], (double)y[1], (double)y[2]);
}

/* ---- 3. the artifact calls the engine ---- */

/* What the engine offers: a token's score, or a refusal. */
static pega_status score(void *self, const pega_value *args, int32_t num_args, pega_value *result,
                         pega_error *out_error) {
  (void)self;
  (void)num_args;
  int64_t token = args[0].as.i64;
  if (token >= 10) {
    return pega_error_set(out_error, PEGA_ERROR_RANGE, "IndexError", "no token %lld of 10",
                          (long long)token);
  }
  *result = pega_value_int(token * token);
  return PEGA_OK;
}

static pega_function *create_score(void) {
  const pega_param params[] = {{.name = "token", .type = PEGA_TYPE_INT}};
  pega_signature signature = PEGA_SIGNATURE_INIT;
  signature.params = params;
  signature.num_params = 1;
  signature.result = PEGA_TYPE_INT;
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  options.name = "demo.score";
  options.doc = "Scores a token.";
  options.signature = &signature;
  options.call = score;
  pega_function *function = NULL;
  pega_function_create(&options, &function, &error);
  return function;
}

static void tvm_ffi_calls(pega_function *sum, pega_function *sum_global, pega_function *callback) {
  demo_section("3. TVM FFI code calls the engine");
  pega_value total = pega_value_none();
  const pega_value by_name[] = {pega_value_string("demo.score"), pega_value_int(5)};
  pega_status status = pega_function_call(sum_global, by_name, 2, &total, &error);
  demo_check(status == PEGA_OK && total.as.i64 == 30,
             "sum_global(\"demo.score\", 5) = %lld, found by its name", (long long)total.as.i64);
  const pega_value by_value[] = {pega_value_function(callback), pega_value_int(5)};
  status = pega_function_call(sum, by_value, 2, &total, &error);
  demo_check(status == PEGA_OK && total.as.i64 == 30, "sum(score, 5) = %lld, given as a callback",
             (long long)total.as.i64);
}

/* ---- 4. errors ---- */

static void expect_error(const char *what, pega_status status, const char *kind, const char *part) {
  demo_check(status != PEGA_OK && strcmp(pega_error_kind(&error), kind) == 0 &&
                 strstr(pega_error_message(&error), part) != NULL,
             "%s\n    %s: %s\n ", what, pega_error_kind(&error), pega_error_message(&error));
}

static void errors(pega_tvm_ffi_module *module, pega_function *add_one, pega_function *sum,
                   pega_function *sum_global, pega_function *callback) {
  demo_section("4. Errors cross both ways");
  const pega_value number[] = {pega_value_int(1)};
  expect_error("the artifact refuses the engine's arguments:",
               pega_function_call(add_one, number, 1, NULL, &error), "TypeError", "two float32");
  const pega_value too_far[] = {pega_value_function(callback), pega_value_int(100)};
  expect_error("the engine fails inside the artifact, inside the engine:",
               pega_function_call(sum, too_far, 2, NULL, &error), "IndexError",
               "no token 10 of 10");
  const pega_value wrong[] = {pega_value_function(sum_global), pega_value_int(1)};
  expect_error("the artifact fails inside the artifact:",
               pega_function_call(sum, wrong, 2, NULL, &error), "TypeError", "sum_global");
  pega_function *missing = NULL;
  expect_error("a function that the artifact does not have:",
               pega_tvm_ffi_module_get(module, "add_onne", &missing, &error), "KeyError",
               "add_one");
}

void demo_boundary(pega_tvm_ffi *runtime, pega_tvm_ffi_module *module) {
  pega_function *add_one = NULL;
  pega_function *sum = NULL;
  pega_function *sum_global = NULL;
  pega_function *callback = create_score();
  pega_status status = pega_tvm_ffi_export(runtime, NULL, callback, 0, &error);
  if (status == PEGA_OK) status = pega_tvm_ffi_module_get(module, "add_one", &add_one, &error);
  if (status == PEGA_OK) status = pega_tvm_ffi_module_get(module, "sum", &sum, &error);
  if (status == PEGA_OK) {
    status = pega_tvm_ffi_module_get(module, "sum_global", &sum_global, &error);
  }
  if (status == PEGA_OK) {
    engine_calls(add_one);
    tvm_ffi_calls(sum, sum_global, callback);
    errors(module, add_one, sum, sum_global, callback);
  } else {
    demo_check(false, "%s", pega_error_message(&error));
  }
  pega_tvm_ffi_remove_global(runtime, "demo.score", NULL);
  pega_function_release(add_one);
  pega_function_release(sum);
  pega_function_release(sum_global);
  pega_function_release(callback);
  pega_error_clear(&error);
}
