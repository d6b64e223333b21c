/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a user reads when an artifact or an argument is not what it should be: each text names what
 * was tried, what was found and what to do. (Libraries that are no runtime: test_runtime.c.)
 */
#include "files.h"
#include "support.h"

#define LOADER(variant) PEGA_TEST_LOADERS "/loader_" #variant ".so"
#define SCRATCH(name) PEGA_TEST_SCRATCH "/" name

static pega_error error = PEGA_ERROR_INIT;

/* ---- artifacts ---- */

#define EXPECT_NO_MODULE(expected, path, ...)                                                   \
  do {                                                                                          \
    pega_tvm_ffi_module *module_ = NULL;                                                        \
    EXPECT_FAILURE(expected, pega_tvm_ffi_module_open(support_runtime, path, &module_, &error), \
                   path, __VA_ARGS__);                                                          \
    assert_null(module_);                                                                       \
  } while (0)

static void test_artifact_missing(void **state) {
  (void)state;
  EXPECT_NO_MODULE(PEGA_ERROR_NOT_FOUND, "/nonexistent/artifact.so", "No such file");
}

static void test_artifact_is_no_library(void **state) {
  (void)state;
  const char text[] = "#!/bin/sh\necho this is no library\n";
  assert_int_equal(files_write(SCRATCH("script.so"), text, sizeof text - 1), 0);
  EXPECT_NO_MODULE(PEGA_ERROR_FORMAT, SCRATCH("script.so"), "ELF");
}

static void test_artifact_for_other_architecture(void **state) {
  (void)state;
  assert_int_equal(files_copy_for_other_architecture(PEGA_TEST_FIXTURE, SCRATCH("arch.so")), 0);
  EXPECT_NO_MODULE(PEGA_ERROR_FORMAT, SCRATCH("arch.so"), "aarch64", "x86-64");
}

static void test_function_not_in_artifact(void **state) {
  (void)state;
  pega_function *function = NULL;
  /* What it has, and the nearest name. */
  EXPECT_FAILURE(PEGA_ERROR_NOT_FOUND,
                 pega_tvm_ffi_module_get(support_fixture, "ad_one", &function, &error), "ad_one",
                 "the nearest is 'add_one'", "call_global", "apply", PEGA_TEST_FIXTURE);
  assert_string_equal(pega_error_kind(&error), "KeyError");
  EXPECT_FAILURE(PEGA_ERROR_NOT_FOUND,
                 pega_tvm_ffi_module_get(support_fixture, "__tvm_ffi_add", &function, &error),
                 "__tvm_ffi_add", "add_one");
  assert_null(function);
}

static void test_artifact_without_any_function(void **state) {
  (void)state;
  pega_tvm_ffi_module *module = NULL;
  pega_status status =
      pega_tvm_ffi_module_open(support_runtime, PEGA_TEST_NOT_A_RUNTIME, &module, &error);
  if (status == PEGA_OK) {
    pega_function *function = NULL;
    EXPECT_FAILURE(PEGA_ERROR_NOT_FOUND, pega_tvm_ffi_module_get(module, "add", &function, &error),
                   "add", PEGA_TEST_NOT_A_RUNTIME);
    pega_tvm_ffi_module_close(module);
  }
  EXPECT_TEXT(pega_error_message(&error), "__tvm_ffi_");
}

static void test_global_missing(void **state) {
  (void)state;
  pega_function *function = NULL;
  EXPECT_FAILURE(PEGA_ERROR_NOT_FOUND,
                 pega_tvm_ffi_get_global(support_runtime, "ffi.Strin", &function, &error),
                 "ffi.Strin", "the nearest is 'ffi.String'");
  assert_null(function);
}

/* The loader is missing: the library that would bring it is named. */
static void test_loader_not_registered(void **state) {
  (void)state;
  EXPECT_NO_MODULE(PEGA_ERROR_UNAVAILABLE, LOADER(0), "cuda", "ffi.Module.load_from_bytes.cuda",
                   "libtvm_runtime.so", "pega_tvm_ffi_load_library");
  EXPECT_NO_MODULE(PEGA_ERROR_UNAVAILABLE, LOADER(8), "acme", "ffi.Module.load_from_bytes.acme");
}

static void test_needed_library_missing(void **state) {
  (void)state;
  EXPECT_FAILURE(
      PEGA_ERROR_NOT_FOUND,
      pega_tvm_ffi_load_library(support_runtime, "/nonexistent/libtvm_runtime.so", &error),
      "/nonexistent/libtvm_runtime.so");
}

/* ---- arguments, as TVM FFI code that calls the engine gets to read it ---- */

static pega_status never(void *self, const pega_value *args, int32_t num_args, pega_value *result,
                         pega_error *out_error) {
  (void)args;
  (void)num_args;
  (void)result;
  *(int *)self += 1;
  return pega_error_set(out_error, PEGA_ERROR_INTERNAL, NULL, "the check let it pass");
}

static int ran;

static pega_function *export_checked(void) {
  static const pega_param params[] = {
      {.name = "x",
       .type = PEGA_TYPE_TENSOR,
       .dtype = {kDLFloat, 32, 1},
       .device_type = kDLCPU,
       .shape = "n"},
      {.name = "y",
       .type = PEGA_TYPE_TENSOR,
       .dtype = {kDLFloat, 32, 1},
       .device_type = kDLCPU,
       .shape = "n"},
      {.name = "steps", .type = PEGA_TYPE_INT, .flags = PEGA_PARAM_RANGE, .min = 1, .max = 8}};
  pega_signature signature = PEGA_SIGNATURE_INIT;
  signature.params = params;
  signature.num_params = 3;
  pega_function *function = support_function("test.checked", &signature, never, &ran);
  EXPECT_OK(pega_tvm_ffi_export(support_runtime, NULL, function, PEGA_REGISTER_OVERRIDE, &error));
  return function;
}

static support_vector x;
static support_vector y;

/* call_global("test.checked", ...) fails like this, and nothing has run. */
#define EXPECT_CHECK(kind, arguments, ...)                                                  \
  do {                                                                                      \
    pega_function *function_ = export_checked();                                            \
    support_vector_init(&x, 4, 1.0f);                                                       \
    support_vector_init(&y, 4, 1.0f);                                                       \
    ran = 0;                                                                                \
    EXPECT_FAILURE(PEGA_ERROR_CALLEE, CALL_FIXTURE arguments, "test.checked", __VA_ARGS__); \
    assert_string_equal(pega_error_kind(&error), kind);                                     \
    assert_int_equal(ran, 0);                                                               \
    EXPECT_OK(pega_tvm_ffi_remove_global(support_runtime, "test.checked", &error));         \
    pega_function_release(function_);                                                       \
  } while (0)

#define X pega_value_tensor(&x.tensor)
#define Y pega_value_tensor(&y.tensor)
#define NAME TEXT("test.checked")

static void test_wrong_count(void **state) {
  (void)state;
  EXPECT_CHECK("TypeError", ("call_global", NULL, NAME, X, Y), "3", "2");
  EXPECT_CHECK("TypeError", ("call_global", NULL, NAME, X, Y, INT(1), INT(1)), "3", "4");
}

static void test_wrong_type(void **state) {
  (void)state;
  EXPECT_CHECK("TypeError", ("call_global", NULL, NAME, X, INT(5), INT(1)), "1", "'y'", "Tensor",
               "int");
  EXPECT_CHECK("TypeError", ("call_global", NULL, NAME, X, Y, TEXT("one")), "2", "'steps'", "int",
               "string");
  EXPECT_CHECK("TypeError", ("call_global", NULL, NAME, pega_value_none(), Y, INT(1)), "0", "'x'",
               "Tensor", "None");
}

static void test_wrong_range(void **state) {
  (void)state;
  EXPECT_CHECK("ValueError", ("call_global", NULL, NAME, X, Y, INT(9)), "2", "'steps'", "1", "8",
               "9");
  EXPECT_CHECK("ValueError", ("call_global", NULL, NAME, X, Y, INT(INT64_MIN)), "'steps'",
               "-9223372036854775808");
}

static DLTensor *with_dtype(support_vector *vector, uint8_t code, uint8_t bits) {
  support_vector_init(vector, 4, 1.0f);
  vector->tensor.dtype.code = code;
  vector->tensor.dtype.bits = bits;
  return &vector->tensor;
}

static DLTensor *with_length(support_vector *vector, int64_t length) {
  support_vector_init(vector, length, 1.0f);
  return &vector->tensor;
}

static DLTensor *with_device(support_vector *vector, DLDeviceType type, int32_t id) {
  support_vector_init(vector, 4, 1.0f);
  vector->tensor.device.device_type = type;
  vector->tensor.device.device_id = id;
  return &vector->tensor;
}

static void test_wrong_dtype(void **state) {
  (void)state;
  support_vector other;
  EXPECT_CHECK(
      "TypeError",
      ("call_global", NULL, NAME, X, pega_value_tensor(with_dtype(&other, kDLBfloat, 16)), INT(1)),
      "1", "'y'", "float32", "bfloat16");
}

static void test_wrong_shape(void **state) {
  (void)state;
  support_vector other;
  EXPECT_CHECK("ValueError",
               ("call_global", NULL, NAME, X, pega_value_tensor(with_length(&other, 5)), INT(1)),
               "1", "'y'", "n", "4", "5");
}

static void test_wrong_device(void **state) {
  (void)state;
  support_vector other;
  EXPECT_CHECK(
      "ValueError",
      ("call_global", NULL, NAME, X, pega_value_tensor(with_device(&other, kDLCUDA, 1)), INT(1)),
      "1", "'y'", "cpu", "cuda:1");
}

/* ---- callbacks ---- */

static pega_status raise_own(void *self, const pega_value *args, int32_t num_args,
                             pega_value *result, pega_error *out_error) {
  (void)self;
  (void)args;
  (void)num_args;
  (void)result;
  return pega_error_set(out_error, PEGA_ERROR_UNAVAILABLE, "EngineError", "sequence 7 is gone");
}

static pega_status fail_quietly(void *self, const pega_value *args, int32_t num_args,
                                pega_value *result, pega_error *out_error) {
  (void)self;
  (void)args;
  (void)num_args;
  (void)result;
  (void)out_error;
  return PEGA_ERROR_UNAVAILABLE;
}

static void test_callback_raises(void **state) {
  (void)state;
  pega_function *function = support_function("test.lookup", NULL, raise_own, NULL);
  EXPECT_FAILURE(PEGA_ERROR_CALLEE, CALL_FIXTURE("apply", NULL, pega_value_function(function)),
                 "sequence 7 is gone");
  assert_string_equal(pega_error_kind(&error), "EngineError");
  /* Which functions it came through. */
  EXPECT_TEXT(pega_error_traceback(&error), "test.lookup");
  EXPECT_TEXT(pega_error_traceback(&error), "apply");
  pega_function_release(function);
}

static void test_callback_fails_silently(void **state) {
  (void)state;
  pega_function *function = support_function("test.quiet", NULL, fail_quietly, NULL);
  EXPECT_FAILURE(PEGA_ERROR_CALLEE, CALL_FIXTURE("apply", NULL, pega_value_function(function)),
                 "test.quiet", "UNAVAILABLE");
  pega_function_release(function);
  EXPECT_FAILURE(PEGA_ERROR_CALLEE, CALL_FIXTURE0("fail_silently", NULL), "fail_silently", "-1",
                 "without");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_artifact_missing),
      cmocka_unit_test(test_artifact_is_no_library),
      cmocka_unit_test(test_artifact_for_other_architecture),
      cmocka_unit_test(test_function_not_in_artifact),
      cmocka_unit_test(test_artifact_without_any_function),
      cmocka_unit_test(test_global_missing),
      cmocka_unit_test(test_loader_not_registered),
      cmocka_unit_test(test_needed_library_missing),
      cmocka_unit_test(test_wrong_count),
      cmocka_unit_test(test_wrong_type),
      cmocka_unit_test(test_wrong_range),
      cmocka_unit_test(test_wrong_dtype),
      cmocka_unit_test(test_wrong_shape),
      cmocka_unit_test(test_wrong_device),
      cmocka_unit_test(test_callback_raises),
      cmocka_unit_test(test_callback_fails_silently),
  };
  int failed = cmocka_run_group_tests_name("diagnostics", tests, support_open, support_close);
  pega_error_clear(&error);
  return failed;
}
