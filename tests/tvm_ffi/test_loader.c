/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Artifacts with an embedded binary: with the loader that they need they open and their imports are
 * found; without it they are refused before any of their code runs; malformed ones are refused
 * whatever is wrong with them.
 */
#include "support.h"

#define LOADER(variant) PEGA_TEST_LOADERS "/loader_" #variant ".so"

static pega_error error = PEGA_ERROR_INIT;

static pega_status open_module(const char *path, pega_tvm_ffi_module **module) {
  return pega_tvm_ffi_module_open(support_runtime, path, module, &error);
}

static int loads;

/* A loader for "cuda" that takes the bytes and gives the fixture module. */
static pega_status load_cuda(void *self, const pega_value *args, int32_t num_args,
                             pega_value *result, pega_error *out_error) {
  size_t size = 0;
  const char *bytes = num_args == 1 ? pega_value_as_bytes(&args[0], &size) : NULL;
  if (bytes == NULL || size != 5 || memcmp(bytes, "cubin", 5) != 0) {
    return pega_error_set(out_error, PEGA_ERROR_TYPE, NULL, "expected the bytes 'cubin'");
  }
  loads++;
  const pega_value path = pega_value_string(PEGA_TEST_FIXTURE);
  return pega_function_call(self, &path, 1, result, out_error);
}

/* Every lie in the binary is found by reading it: the loader, though there, is never asked. */
static void test_malformed(void **state) {
  (void)state;
  pega_function *load_file = NULL;
  EXPECT_OK(pega_tvm_ffi_get_global(support_runtime, "ffi.ModuleLoadFromFile", &load_file, &error));
  pega_function *loader = support_function("test.load_cuda", NULL, load_cuda, load_file);
  EXPECT_OK(
      pega_tvm_ffi_export(support_runtime, "ffi.Module.load_from_bytes.cuda", loader, 0, &error));
  static const char *const paths[] = {LOADER(1), LOADER(2), LOADER(3), LOADER(4),
                                      LOADER(5), LOADER(6), LOADER(7), LOADER(9)};
  for (int i = 0; i < SUPPORT_COUNT(paths); i++) {
    pega_tvm_ffi_module *module = NULL;
    EXPECT_FAILURE(PEGA_ERROR_FORMAT, open_module(paths[i], &module), paths[i],
                   "__tvm_ffi__library_bin");
    assert_null(module);
  }
  assert_int_equal(loads, 0);
  EXPECT_OK(pega_tvm_ffi_remove_global(support_runtime, "ffi.Module.load_from_bytes.cuda", &error));
  pega_function_release(loader);
  pega_function_release(load_file);
}

/* A binary of nothing but the library itself needs no loader. */
static void test_library_alone(void **state) {
  (void)state;
  pega_tvm_ffi_module *module = NULL;
  pega_function *function = NULL;
  pega_value result = pega_value_none();
  EXPECT_OK(open_module(LOADER(10), &module));
  EXPECT_OK(pega_tvm_ffi_module_get(module, "host_part", &function, &error));
  EXPECT_OK(pega_function_call(function, NULL, 0, &result, &error));
  EXPECT_INT(&result, 11);
  pega_value names = pega_value_none();
  EXPECT_OK(pega_tvm_ffi_module_list(module, &names, &error));
  assert_int_equal(pega_value_size(&names), 1);
  assert_string_equal(pega_value_as_string(pega_array_get(&names, 0), NULL), "host_part");
  pega_value_release(&names);
  pega_function_release(function);
  pega_tvm_ffi_module_close(module);
}

static void test_registered_loader(void **state) {
  (void)state;
  pega_function *load_file = NULL;
  EXPECT_OK(pega_tvm_ffi_get_global(support_runtime, "ffi.ModuleLoadFromFile", &load_file, &error));
  pega_function *loader = support_function("test.load_cuda", NULL, load_cuda, load_file);
  pega_tvm_ffi_module *module = NULL;
  EXPECT_FAILURE(PEGA_ERROR_UNAVAILABLE, open_module(LOADER(0), &module), "cuda");
  EXPECT_OK(
      pega_tvm_ffi_export(support_runtime, "ffi.Module.load_from_bytes.cuda", loader, 0, &error));
  EXPECT_OK(open_module(LOADER(0), &module));
  assert_int_equal(loads, 1);

  /* Its own function, and one of the module that the loader made. */
  pega_function *function = NULL;
  pega_value result = pega_value_none();
  EXPECT_OK(pega_tvm_ffi_module_get(module, "host_part", &function, &error));
  EXPECT_OK(pega_function_call(function, NULL, 0, &result, &error));
  EXPECT_INT(&result, 11);
  pega_function_release(function);
  EXPECT_OK(pega_tvm_ffi_module_get(module, "add", &function, &error));
  EXPECT_OK(CALL(function, &result, INT(20), INT(22)));
  EXPECT_INT(&result, 42);
  pega_function_release(function);

  pega_tvm_ffi_module_close(module);
  EXPECT_OK(pega_tvm_ffi_remove_global(support_runtime, "ffi.Module.load_from_bytes.cuda", &error));
  pega_function_release(loader);
  pega_function_release(load_file);
}

static pega_status load_nothing(void *self, const pega_value *args, int32_t num_args,
                                pega_value *result, pega_error *out_error) {
  (void)self;
  (void)args;
  (void)num_args;
  (void)result;
  return pega_error_set(out_error, PEGA_ERROR_FORMAT, NULL, "this cubin is for another GPU");
}

/* A loader that fails is quoted. */
static void test_failing_loader(void **state) {
  (void)state;
  pega_function *loader = support_function("test.load_nothing", NULL, load_nothing, NULL);
  EXPECT_OK(
      pega_tvm_ffi_export(support_runtime, "ffi.Module.load_from_bytes.cuda", loader, 0, &error));
  pega_tvm_ffi_module *module = NULL;
  pega_status status = open_module(LOADER(0), &module);
  assert_int_not_equal(status, PEGA_OK);
  EXPECT_TEXT(pega_error_message(&error), "this cubin is for another GPU");
  EXPECT_OK(pega_tvm_ffi_remove_global(support_runtime, "ffi.Module.load_from_bytes.cuda", &error));
  pega_function_release(loader);
}

/* An artifact whose symbols are elsewhere: refused with the name of one, opened once they are there. */
static void test_needed_library(void **state) {
  (void)state;
  pega_tvm_ffi_module *module = NULL;
  assert_int_not_equal(open_module(PEGA_TEST_NEEDS, &module), PEGA_OK);
  EXPECT_TEXT(pega_error_message(&error), PEGA_TEST_NEEDS);
  EXPECT_TEXT(pega_error_message(&error), "fixture_provided");
  EXPECT_TEXT(pega_error_message(&error), "pega_tvm_ffi_load_library");
  assert_null(module);

  pega_function *function = NULL;
  pega_value result = pega_value_none();
  EXPECT_OK(pega_tvm_ffi_load_library(support_runtime, PEGA_TEST_PROVIDER, &error));
  EXPECT_OK(open_module(PEGA_TEST_NEEDS, &module));
  EXPECT_OK(pega_tvm_ffi_module_get(module, "call_provided", &function, &error));
  EXPECT_OK(pega_function_call(function, NULL, 0, &result, &error));
  EXPECT_INT(&result, 5);
  pega_function_release(function);
  pega_tvm_ffi_module_close(module);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_malformed),         cmocka_unit_test(test_library_alone),
      cmocka_unit_test(test_registered_loader), cmocka_unit_test(test_failing_loader),
      cmocka_unit_test(test_needed_library),
  };
  int failed = cmocka_run_group_tests_name("loader", tests, support_open, support_close);
  pega_error_clear(&error);
  return failed;
}
