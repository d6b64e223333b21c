/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An artifact (example_module.c) calls a function of the host: once by its name, after the host has
 * exported it as a TVM FFI global, and once as a callback that it is given. A failure of the host's
 * function goes through the artifact and comes back as what it was.
 *
 *   example_dsl_calls_host [ARTIFACT]
 */
#include <pega/pega.h>
#include <pega/tvm_ffi.h>
#include <stdio.h>

/* The host's function: TVM FFI code sees it as any other of its functions. */
static pega_status square(void *self, const pega_value *args, int32_t num_args, pega_value *result,
                          pega_error *error) {
  int64_t limit = *(const int64_t *)self;
  (void)num_args;
  if (args[0].as.i64 > limit) {
    return pega_error_set(error, PEGA_ERROR_RANGE, NULL, "no squares above %lld", (long long)limit);
  }
  *result = pega_value_int(args[0].as.i64 * args[0].as.i64);
  return PEGA_OK;
}

static pega_status create_square(int64_t *limit, pega_function **out, pega_error *error) {
  const pega_param params[] = {{.name = "n", .doc = "what to square", .type = PEGA_TYPE_INT}};
  pega_signature signature = PEGA_SIGNATURE_INIT;
  signature.params = params;
  signature.num_params = 1;
  signature.result = PEGA_TYPE_INT;
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  options.name = "example.square";
  options.doc = "Squares an integer.";
  options.signature = &signature;
  options.call = square;
  options.self = limit; /* given back to `square`; a deleter would run with the last reference */
  return pega_function_create(&options, out, error);
}

static pega_status call_both(pega_tvm_ffi_module *module, pega_function *function,
                             pega_error *error) {
  pega_function *sum = NULL;
  pega_function *sum_global = NULL;
  pega_value total = pega_value_none();
  const pega_value by_name[] = {pega_value_string("example.square"), pega_value_int(5)};
  const pega_value by_value[] = {pega_value_function(function), pega_value_int(5)};
  const pega_value too_far[] = {pega_value_function(function), pega_value_int(100)};

  pega_status status = pega_tvm_ffi_module_get(module, "sum_global", &sum_global, error);
  if (status == PEGA_OK) status = pega_tvm_ffi_module_get(module, "sum", &sum, error);
  if (status == PEGA_OK) status = pega_function_call(sum_global, by_name, 2, &total, error);
  if (status == PEGA_OK) {
    printf("sum_global(\"example.square\", 5) = %lld\n", (long long)total.as.i64);
    status = pega_function_call(sum, by_value, 2, &total, error);
  }
  if (status == PEGA_OK) {
    printf("sum(square, 5) = %lld\n", (long long)total.as.i64);
    if (pega_function_call(sum, too_far, 2, &total, error) != PEGA_OK) {
      printf("sum(square, 100): %s: %s\n", pega_error_kind(error), pega_error_message(error));
    }
  }
  pega_function_release(sum);
  pega_function_release(sum_global);
  return status;
}

int main(int argc, char **argv) {
  const char *path = argc > 1 ? argv[1] : EXAMPLE_MODULE;
  int64_t limit = 10;
  pega_error error = PEGA_ERROR_INIT;
  pega_tvm_ffi *runtime = NULL;
  pega_tvm_ffi_module *module = NULL;
  pega_function *function = NULL;

  pega_status status = pega_tvm_ffi_open(NULL, &runtime, &error);
  if (status == PEGA_OK) status = create_square(&limit, &function, &error);
  /* By its own name, "example.square". */
  if (status == PEGA_OK) status = pega_tvm_ffi_export(runtime, NULL, function, 0, &error);
  if (status == PEGA_OK) status = pega_tvm_ffi_module_open(runtime, path, &module, &error);
  if (status == PEGA_OK) status = call_both(module, function, &error);
  if (status != PEGA_OK) {
    fprintf(stderr, "%s: %s\n", pega_error_kind(&error), pega_error_message(&error));
  }

  /* `limit` is about to go: the global, which could still be called, goes before it. */
  if (runtime != NULL) pega_tvm_ffi_remove_global(runtime, "example.square", NULL);
  pega_function_release(function);
  pega_tvm_ffi_module_close(module);
  pega_tvm_ffi_close(runtime);
  pega_error_clear(&error);
  return status == PEGA_OK ? 0 : 1;
}
