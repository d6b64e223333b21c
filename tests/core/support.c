/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <string.h>

void support_expect_ok(pega_status got, const pega_error *error, const char *call, const char *file,
                       int line) {
  if (got == PEGA_OK) return;
  print_error("%s\n  expected OK, got %s: %s\n", call, pega_status_name(got),
              pega_error_message(error));
  _fail(file, line);
}

void support_expect_error(pega_status got, const pega_error *error, pega_status expected,
                          const char *const *needles, int32_t num_needles, const char *call,
                          const char *file, int line) {
  const char *text = pega_error_message(error);
  if (got != expected || error->status != (int32_t)expected) {
    print_error("%s\n  expected %s, got %s; the error holds %s: %s\n", call,
                pega_status_name(expected), pega_status_name(got),
                pega_status_name((pega_status)error->status), text);
    _fail(file, line);
  }
  for (int32_t i = 0; i < num_needles; ++i) support_expect_text(text, needles[i], true, file, line);
}

void support_expect_text(const char *text, const char *needle, bool present, const char *file,
                         int line) {
  if ((strstr(text, needle) != NULL) == present) return;
  print_error("expected %s'%s' in: %s\n", present ? "" : "no ", needle, text);
  _fail(file, line);
}

pega_status support_no_op(void *self, const pega_value *args, int32_t num_args, pega_value *result,
                          pega_error *error) {
  (void)self;
  (void)args;
  (void)num_args;
  (void)result;
  (void)error;
  return PEGA_OK;
}

pega_function_options support_options(const char *name, pega_signature *signature,
                                      const pega_param *params, int32_t num_params) {
  const pega_signature empty = PEGA_SIGNATURE_INIT;
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  options.name = name;
  options.call = support_no_op;
  if (params != NULL) {
    *signature = empty;
    signature->params = params;
    signature->num_params = num_params;
    options.signature = signature;
  }
  return options;
}

pega_function *support_function(const char *name, const pega_param *params, int32_t num_params,
                                uint32_t signature_flags) {
  pega_error error = PEGA_ERROR_INIT;
  pega_signature signature;
  pega_function_options options = support_options(name, &signature, params, num_params);
  if (params != NULL) signature.flags = signature_flags;
  pega_function *function = NULL;
  EXPECT_OK(pega_function_create(&options, &function, &error), &error);
  return function;
}

void support_count(void *counter) { ++((support_counter *)counter)->count; }
