/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A real artifact that its makers compiled: the wheel's own libtvm_ffi_testing.so, C++ inside. Its
 * module functions (with the doc that it ships) and the globals that it registers when loaded.
 */
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "support.h"

static pega_error error = PEGA_ERROR_INIT;
static char artifact[PATH_MAX];

static pega_function *get_global(const char *name) {
  pega_function *function = NULL;
  EXPECT_OK(pega_tvm_ffi_get_global(support_runtime, name, &function, &error));
  return function;
}

static void test_module_functions(void **state) {
  (void)state;
  pega_tvm_ffi_module *module = NULL;
  pega_function *function = NULL;
  pega_value names = pega_value_none();
  EXPECT_OK(pega_tvm_ffi_module_open(support_runtime, artifact, &module, &error));
  EXPECT_OK(pega_tvm_ffi_module_list(module, &names, &error));
  int64_t count = pega_value_size(&names);
  pega_value_release(&names);
  /* The oldest wheel's library registers globals alone. */
  if (count > 0) {
    pega_value sum = pega_value_none();
    EXPECT_OK(
        pega_tvm_ffi_module_get(module, "testing_dll_test_add_with_docstring", &function, &error));
    EXPECT_OK(CALL(function, &sum, INT(40), INT(2)));
    EXPECT_INT(&sum, 42);
    EXPECT_TEXT(pega_function_doc(function), "Add two integers and return the sum.");
    EXPECT_FAILURE(PEGA_ERROR_CALLEE, CALL(function, &sum, INT(40), TEXT("two")), "int");
    assert_string_equal(pega_error_kind(&error), "TypeError");
    pega_function_release(function);
  }
  pega_tvm_ffi_module_close(module);
}

static void test_globals_it_registers(void **state) {
  (void)state;
  EXPECT_OK(pega_tvm_ffi_load_library(support_runtime, artifact, &error));
  pega_function *echo = get_global("testing.echo");
  pega_function *apply = get_global("testing.apply");
  pega_function *nop = get_global("testing.nop");
  pega_value result = pega_value_none();
  EXPECT_OK(CALL(echo, &result, TEXT("there and back, through C++")));
  EXPECT_STRING(&result, "there and back, through C++");
  EXPECT_OK(CALL(apply, &result, pega_value_function(echo), INT(7)));
  EXPECT_INT(&result, 7);
  EXPECT_OK(pega_function_call(nop, NULL, 0, &result, &error));
  assert_int_equal(result.kind, PEGA_NONE);
  pega_function_release(echo);
  pega_function_release(apply);
  pega_function_release(nop);
}

/* A C++ exception, thrown and not raised. */
static void test_exception(void **state) {
  (void)state;
  pega_function *raise_error = get_global("testing.test_raise_error");
  EXPECT_FAILURE(PEGA_ERROR_CALLEE, CALL(raise_error, NULL, TEXT("KeyError"), TEXT("from C++")),
                 "from C++");
  assert_string_equal(pega_error_kind(&error), "KeyError");
  EXPECT_TEXT(pega_error_traceback(&error), "TestRaiseError");

  /* engine -> C++ -> engine -> C++ */
  pega_function *apply = get_global("testing.apply");
  EXPECT_FAILURE(PEGA_ERROR_CALLEE,
                 CALL(apply, NULL, pega_value_function(raise_error), TEXT("IndexError"),
                      TEXT("deeper in C++")),
                 "deeper in C++");
  assert_string_equal(pega_error_kind(&error), "IndexError");
  pega_function_release(apply);
  pega_function_release(raise_error);
}

/* Containers of its own making, with the tensor in them that it was given. */
static void test_nested_containers(void **state) {
  (void)state;
  pega_function *make = NULL;
  if (pega_tvm_ffi_get_global(support_runtime, "testing.make_nested_map_with_tensor", &make,
                              NULL) != PEGA_OK) {
    return; /* later wheels have it */
  }
  int deleted = 0;
  pega_value first = support_tensor_create(3, 1.0f, &deleted);
  pega_value second = support_tensor_create(4, 1.0f, &deleted);
  pega_value made = pega_value_none();
  EXPECT_OK(CALL(make, &made, first, second));
  const void *memory = pega_tensor_data(pega_value_as_tensor(&first));
  pega_value_release(&first);
  pega_value_release(&second);
  assert_int_equal(made.kind, PEGA_MAP);
  assert_int_equal(pega_map_get(&made, "scalar")->as.i64, 99);
  const pega_value *array = pega_map_get(&made, "array");
  assert_int_equal(pega_value_size(array), 2);
  assert_int_equal(pega_value_as_tensor(pega_array_get(array, 1))->shape[0], 4);
  const pega_value *inner = pega_map_get(pega_map_get(&made, "map"), "t");
  assert_ptr_equal(pega_tensor_data(pega_value_as_tensor(inner)), memory);
  assert_int_equal(deleted, 0);
  pega_value_release(&made);
  assert_int_equal(deleted, 2);
  pega_function_release(make);
}

int main(void) {
  if (support_open(NULL) != 0) return 1;
  pega_tvm_ffi_info info = {.struct_size = sizeof info};
  if (pega_tvm_ffi_describe(support_runtime, &info, NULL) != PEGA_OK) return 1;
  const char *slash = strrchr(info.path, '/');
  snprintf(artifact, sizeof artifact, "%.*s/libtvm_ffi_testing.so", (int)(slash - info.path),
           info.path);
  if (access(artifact, R_OK) != 0) {
    printf("SKIP: there is no %s\n", artifact);
    return 77;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_module_functions),
      cmocka_unit_test(test_globals_it_registers),
      cmocka_unit_test(test_exception),
      cmocka_unit_test(test_nested_containers),
  };
  int failed = cmocka_run_group_tests_name("wheel artifact", tests, NULL, support_close);
  pega_error_clear(&error);
  return failed;
}
