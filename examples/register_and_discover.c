/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Register a function, find it by name, read its signature, call it.
 *
 * Needs libpega alone. The function could as well come from a TVM FFI module or a kernel: who finds
 * and calls it does the same (see host_calls_dsl.c).
 */
#include <pega/pega.h>
#include <stdio.h>

/* What the function does. The arguments were checked against the signature before this runs. */
static pega_status clamp(void *self, const pega_value *args, int32_t num_args, pega_value *result,
                         pega_error *error) {
  (void)self;
  (void)num_args;
  (void)error;
  int64_t value = args[0].as.i64;
  int64_t limit = args[1].as.i64;
  *result = pega_value_int(value > limit ? limit : value);
  return PEGA_OK;
}

static pega_status register_clamp(pega_error *error) {
  const pega_param params[] = {
      {.name = "value", .doc = "what to clamp", .type = PEGA_TYPE_INT},
      {.name = "limit",
       .doc = "the most that comes out",
       .type = PEGA_TYPE_INT,
       .flags = PEGA_PARAM_RANGE,
       .min = 0,
       .max = 1000},
  };
  pega_signature signature = PEGA_SIGNATURE_INIT;
  signature.params = params;
  signature.num_params = 2;
  signature.result = PEGA_TYPE_INT;

  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  options.name = "example.clamp";
  options.doc = "Clamps an integer.";
  options.signature = &signature; /* copied, like all text in it */
  options.call = clamp;

  pega_function *function = NULL;
  pega_status status = pega_function_create(&options, &function, error);
  if (status == PEGA_OK) status = pega_registry_add(function, 0, error);
  pega_function_release(function); /* the registry keeps its own reference */
  return status;
}

/* Lists all that the process offers, built-in functions included. */
static pega_status list_functions(pega_error *error) {
  pega_value names = pega_value_none();
  pega_status status = pega_registry_list(&names, error);
  for (int64_t i = 0; status == PEGA_OK && i < pega_value_size(&names); i++) {
    const char *name = pega_value_as_string(pega_array_get(&names, i), NULL);
    pega_function *function = NULL;
    status = pega_registry_get(name, &function, error);
    if (status == PEGA_OK) printf("  %s\n", pega_function_signature_text(function));
    pega_function_release(function);
  }
  pega_value_release(&names);
  return status;
}

int main(void) {
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function = NULL;
  pega_value result = pega_value_none();
  const pega_value right[] = {pega_value_int(70), pega_value_int(42)};
  const pega_value wrong[] = {pega_value_int(70), pega_value_int(-1)};

  pega_status status = register_clamp(&error);
  if (status == PEGA_OK) {
    printf("functions:\n");
    status = list_functions(&error);
  }
  if (status == PEGA_OK) status = pega_registry_get("example.clamp", &function, &error);
  if (status == PEGA_OK) status = pega_function_call(function, right, 2, &result, &error);
  if (status == PEGA_OK) {
    printf("example.clamp(70, 42) = %lld\n", (long long)result.as.i64);
    /* A wrong argument is refused before the function runs, and the text says what was wrong. */
    if (pega_function_call(function, wrong, 2, &result, &error) != PEGA_OK) {
      printf("example.clamp(70, -1): %s\n", pega_error_message(&error));
    }
  } else {
    fprintf(stderr, "%s\n", pega_error_message(&error));
  }
  pega_function_release(function);
  pega_error_clear(&error);
  return status == PEGA_OK ? 0 : 1;
}
