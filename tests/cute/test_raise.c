/* SPDX-License-Identifier: Apache-2.0 */
/* What arrives, through a real libtvm_ffi.so, of a CUDA error in a module of CuTe DSL. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <pega/tvm_ffi.h>

static const char *module_path;

static void test_raise(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_tvm_ffi_options options = PEGA_TVM_FFI_OPTIONS_INIT;
  pega_tvm_ffi *runtime = NULL;
  pega_tvm_ffi_module *module = NULL;
  pega_function *raise_cuda = NULL;
  if (pega_tvm_ffi_open(&options, &runtime, &error) != PEGA_OK ||
      pega_tvm_ffi_module_open(runtime, module_path, &module, &error) != PEGA_OK ||
      pega_tvm_ffi_module_get(module, "raise_cuda", &raise_cuda, &error) != PEGA_OK) {
    fail_msg("%s", pega_error_message(&error));
  }
  static const struct {
    int64_t code;
    const char *text;
  } cases[] = {
      {700,
       "CUDA Error Code: 700 cudaErrorIllegalAddress: an illegal memory access was encountered"},
      {12345, "CUDA Error Code: 12345 unknown error: no description"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
    pega_value code = pega_value_int(cases[i].code);
    assert_int_equal(pega_function_call(raise_cuda, &code, 1, NULL, &error), PEGA_ERROR_CALLEE);
    assert_string_equal(pega_error_kind(&error), "CUDADialectError");
    if (strstr(pega_error_message(&error), cases[i].text) == NULL) {
      fail_msg("no '%s' in: %s", cases[i].text, pega_error_message(&error));
    }
  }
  pega_error_clear(&error);
  pega_function_release(raise_cuda);
  pega_tvm_ffi_module_close(module);
  pega_tvm_ffi_close(runtime);
}

int main(int argc, char **argv) {
  module_path = argc > 1 ? argv[1] : "";
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_raise)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
