/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bad input to every function of the bridge: each gets a clear error and changes nothing.
 */
#include "files.h"
#include "support.h"

#include <stdio.h>
#include <stdlib.h>

#define SCRATCH(name) PEGA_TEST_SCRATCH "/" name

static pega_error error = PEGA_ERROR_INIT;

static pega_status nothing(void *self, const pega_value *args, int32_t num_args, pega_value *result,
                           pega_error *out_error) {
  (void)self;
  (void)args;
  (void)num_args;
  (void)result;
  (void)out_error;
  return PEGA_OK;
}

#define EXPECT_INVALID(call) EXPECT_FAILURE(PEGA_ERROR_INVALID_ARGUMENT, call, "")

static void test_null_runtime_and_out(void **state) {
  (void)state;
  pega_tvm_ffi *runtime = support_runtime;
  pega_tvm_ffi_module *module = NULL;
  pega_function *function = NULL;
  pega_value value = pega_value_none();
  void *pointer = NULL;
  pega_tvm_ffi_info info = {.struct_size = sizeof info};
  EXPECT_INVALID(pega_tvm_ffi_open(NULL, NULL, &error));
  EXPECT_INVALID(pega_tvm_ffi_search_report(NULL, NULL, &error));
  EXPECT_INVALID(pega_tvm_ffi_describe(NULL, &info, &error));
  EXPECT_INVALID(pega_tvm_ffi_describe(runtime, NULL, &error));
  EXPECT_INVALID(pega_tvm_ffi_module_open(NULL, PEGA_TEST_FIXTURE, &module, &error));
  EXPECT_INVALID(pega_tvm_ffi_module_open(runtime, NULL, &module, &error));
  EXPECT_INVALID(pega_tvm_ffi_module_open(runtime, PEGA_TEST_FIXTURE, NULL, &error));
  EXPECT_INVALID(pega_tvm_ffi_module_list(NULL, &value, &error));
  EXPECT_INVALID(pega_tvm_ffi_module_list(support_fixture, NULL, &error));
  EXPECT_INVALID(pega_tvm_ffi_module_get(NULL, "add", &function, &error));
  EXPECT_INVALID(pega_tvm_ffi_module_get(support_fixture, NULL, &function, &error));
  EXPECT_INVALID(pega_tvm_ffi_module_get(support_fixture, "add", NULL, &error));
  EXPECT_INVALID(pega_tvm_ffi_load_library(NULL, PEGA_TEST_FIXTURE, &error));
  EXPECT_INVALID(pega_tvm_ffi_load_library(runtime, NULL, &error));
  EXPECT_INVALID(pega_tvm_ffi_get_global(NULL, "ffi.String", &function, &error));
  EXPECT_INVALID(pega_tvm_ffi_get_global(runtime, NULL, &function, &error));
  EXPECT_INVALID(pega_tvm_ffi_get_global(runtime, "ffi.String", NULL, &error));
  EXPECT_INVALID(pega_tvm_ffi_list_globals(NULL, &value, &error));
  EXPECT_INVALID(pega_tvm_ffi_list_globals(runtime, NULL, &error));
  EXPECT_INVALID(pega_tvm_ffi_export(runtime, "test.null", NULL, 0, &error));
  EXPECT_INVALID(pega_tvm_ffi_export_all(NULL, 0, &value, &error));
  EXPECT_INVALID(pega_tvm_ffi_remove_global(NULL, "ffi.String", &error));
  EXPECT_INVALID(pega_tvm_ffi_remove_global(runtime, NULL, &error));
  EXPECT_INVALID(pega_tvm_ffi_function_from_handle(runtime, NULL, "f", &function, &error));
  EXPECT_INVALID(pega_tvm_ffi_function_from_handle(NULL, &pointer, "f", &function, &error));
  EXPECT_INVALID(pega_tvm_ffi_function_to_handle(runtime, NULL, &pointer, &error));
  EXPECT_INVALID(pega_tvm_ffi_symbol(NULL, "TVMFFIFunctionCall", &pointer, &error));
  EXPECT_INVALID(pega_tvm_ffi_symbol(runtime, NULL, &pointer, &error));
  EXPECT_INVALID(pega_tvm_ffi_symbol(runtime, "TVMFFIFunctionCall", NULL, &error));
  assert_null(module);
  assert_null(function);
  assert_null(pointer);
  assert_int_equal(value.kind, PEGA_NONE);
  /* These two take NULL. */
  pega_tvm_ffi_close(NULL);
  pega_tvm_ffi_module_close(NULL);
}

static void test_null_with_a_function(void **state) {
  (void)state;
  pega_function *function = support_function("test.null", NULL, nothing, NULL);
  void *handle = NULL;
  EXPECT_INVALID(pega_tvm_ffi_export(NULL, "test.null", function, 0, &error));
  EXPECT_INVALID(pega_tvm_ffi_function_to_handle(NULL, function, &handle, &error));
  EXPECT_INVALID(pega_tvm_ffi_function_to_handle(support_runtime, function, NULL, &error));
  EXPECT_INVALID(pega_tvm_ffi_export(support_runtime, "test.null", function, 0xff00u, &error));
  pega_function_release(function);
}

/* Nobody has to want the error. */
static void test_null_error(void **state) {
  (void)state;
  pega_tvm_ffi_module *module = NULL;
  pega_function *function = NULL;
  assert_int_equal(pega_tvm_ffi_module_open(support_runtime, "/nonexistent.so", &module, NULL),
                   PEGA_ERROR_NOT_FOUND);
  assert_int_equal(pega_tvm_ffi_module_get(support_fixture, "no_such", &function, NULL),
                   PEGA_ERROR_NOT_FOUND);
  assert_int_equal(pega_tvm_ffi_get_global(support_runtime, "no.such", &function, NULL),
                   PEGA_ERROR_NOT_FOUND);
  pega_function *raise_error = support_get("raise");
  const pega_value args[] = {TEXT("ValueError"), TEXT("unread")};
  assert_int_equal(pega_function_call(raise_error, args, 2, NULL, NULL), PEGA_ERROR_CALLEE);
  pega_function_release(raise_error);
}

static void test_options(void **state) {
  (void)state;
  pega_tvm_ffi *runtime = NULL;
  pega_tvm_ffi_options options = PEGA_TVM_FFI_OPTIONS_INIT;
  static const uint32_t sizes[] = {0, 1, sizeof options - 1, UINT32_MAX};
  for (int i = 0; i < SUPPORT_COUNT(sizes); i++) {
    options.struct_size = sizes[i];
    assert_int_not_equal(pega_tvm_ffi_open(&options, &runtime, &error), PEGA_OK);
    EXPECT_TEXT(pega_error_message(&error), "struct_size");
  }
  options = (pega_tvm_ffi_options)PEGA_TVM_FFI_OPTIONS_INIT;
  options.flags = 0x80;
  EXPECT_FAILURE(PEGA_ERROR_INVALID_ARGUMENT, pega_tvm_ffi_open(&options, &runtime, &error),
                 "flags");
  options = (pega_tvm_ffi_options)PEGA_TVM_FFI_OPTIONS_INIT;
  options.library_path = "";
  assert_int_not_equal(pega_tvm_ffi_open(&options, &runtime, &error), PEGA_OK);
  assert_null(runtime);
  pega_tvm_ffi_info info = {.struct_size = 4};
  assert_int_not_equal(pega_tvm_ffi_describe(support_runtime, &info, &error), PEGA_OK);
}

/* A newer caller's struct is longer: what it says there must be nothing, and is told as nothing. */
static void test_larger_structs(void **state) {
  (void)state;
  struct {
    pega_tvm_ffi_options known;
    unsigned char tail[16];
  } options = {PEGA_TVM_FFI_OPTIONS_INIT, {0}};
  options.known.struct_size = (uint32_t)sizeof options;
  pega_tvm_ffi *runtime = NULL;
  EXPECT_OK(pega_tvm_ffi_open(&options.known, &runtime, &error));
  assert_ptr_equal(runtime, support_runtime);
  pega_tvm_ffi_close(runtime);
  runtime = NULL;
  for (size_t i = 0; i < sizeof options.tail; i += sizeof options.tail - 1) {
    options.tail[i] = 1;
    EXPECT_FAILURE(PEGA_ERROR_VERSION, pega_tvm_ffi_open(&options.known, &runtime, &error),
                   "struct_size");
    assert_null(runtime);
    options.tail[i] = 0;
  }

  struct {
    pega_tvm_ffi_info known;
    unsigned char tail[16];
    unsigned char behind[16];
  } info;
  memset(&info, 0xa5, sizeof info);
  info.known.struct_size = (uint32_t)(sizeof info.known + sizeof info.tail);
  EXPECT_OK(pega_tvm_ffi_describe(support_runtime, &info.known, &error));
  assert_int_equal(info.known.struct_size, sizeof info.known + sizeof info.tail);
  assert_int_equal(info.known.num_copies, 1);
  for (size_t i = 0; i < sizeof info.tail; i++) {
    assert_int_equal(info.tail[i], 0);
    assert_int_equal(info.behind[i], 0xa5);
  }
}

/* ---- names ---- */

static char *long_name(void) {
  const size_t size = 1000000;
  char *name = malloc(size + 1);
  assert_non_null(name);
  memset(name, 'n', size);
  name[size] = '\0';
  return name;
}

static void test_long_names(void **state) {
  (void)state;
  char *name = long_name();
  pega_function *function = support_function("test.long", NULL, nothing, NULL);
  pega_function *found = NULL;
  pega_tvm_ffi_module *module = NULL;
  void *symbol = NULL;
  assert_int_not_equal(pega_tvm_ffi_export(support_runtime, name, function, 0, &error), PEGA_OK);
  assert_true(strlen(pega_error_message(&error)) < 4096);
  assert_int_equal(pega_tvm_ffi_get_global(support_runtime, name, &found, &error),
                   PEGA_ERROR_NOT_FOUND);
  assert_true(strlen(pega_error_message(&error)) < 4096);
  assert_int_equal(pega_tvm_ffi_module_get(support_fixture, name, &found, &error),
                   PEGA_ERROR_NOT_FOUND);
  assert_int_not_equal(pega_tvm_ffi_remove_global(support_runtime, name, &error), PEGA_OK);
  assert_int_not_equal(pega_tvm_ffi_module_open(support_runtime, name, &module, &error), PEGA_OK);
  assert_int_not_equal(pega_tvm_ffi_load_library(support_runtime, name, &error), PEGA_OK);
  assert_int_not_equal(pega_tvm_ffi_symbol(support_runtime, name, &symbol, &error), PEGA_OK);
  assert_null(found);
  assert_null(module);
  pega_function_release(function);
  free(name);
}

static void test_odd_names(void **state) {
  (void)state;
  static const char *const names[] = {"", " ", "a name with blanks", "tab\there", "line\nbreak"};
  pega_function *function = support_function("test.odd", NULL, nothing, NULL);
  pega_function *found = NULL;
  for (int i = 0; i < SUPPORT_COUNT(names); i++) {
    EXPECT_INVALID(pega_tvm_ffi_export(support_runtime, names[i], function, 0, &error));
    assert_int_not_equal(pega_tvm_ffi_get_global(support_runtime, names[i], &found, &error),
                         PEGA_OK);
    assert_int_not_equal(pega_tvm_ffi_module_get(support_fixture, names[i], &found, &error),
                         PEGA_OK);
  }
  assert_null(found);
  pega_function_release(function);
}

/* A name with NUL inside reaches the engine only from TVM FFI: the lookup there does not match. */
static void test_name_with_nul(void **state) {
  (void)state;
  pega_value result = pega_value_none();
  EXPECT_FAILURE(PEGA_ERROR_CALLEE,
                 CALL_FIXTURE("call_global", &result, pega_value_string_n("ffi\0String", 10)),
                 "ffi");
}

/* ---- modules ---- */

static void expect_no_module(const char *path) {
  pega_tvm_ffi_module *module = NULL;
  pega_status status = pega_tvm_ffi_module_open(support_runtime, path, &module, &error);
  if (status == PEGA_OK) print_error("%s was opened\n", path);
  assert_int_not_equal(status, PEGA_OK);
  assert_null(module);
  EXPECT_TEXT(pega_error_message(&error), path);
}

static void test_files_that_are_no_module(void **state) {
  (void)state;
  const char text[] = "def add_one(x):\n    return x + 1\n";
  assert_int_equal(files_write(SCRATCH("module_text.so"), text, sizeof text - 1), 0);
  assert_int_equal(files_write(SCRATCH("module_0.so"), text, 0), 0);
  assert_int_equal(files_write(SCRATCH("module_1.so"), "\177", 1), 0);
  assert_int_equal(files_write(SCRATCH("module_4.so"), "\177ELF", 4), 0);
  expect_no_module(SCRATCH("module_text.so"));
  expect_no_module(SCRATCH("module_0.so"));
  expect_no_module(SCRATCH("module_1.so"));
  expect_no_module(SCRATCH("module_4.so"));
  expect_no_module(PEGA_TEST_SCRATCH);
  expect_no_module("/dev/null");
  expect_no_module(PEGA_TEST_OBJECT_FILE);
}

/* Cut anywhere before its symbols end, a module is refused by reading it. */
static void test_truncated_module(void **state) {
  (void)state;
  long size = files_size(PEGA_TEST_FIXTURE);
  assert_true(size > 4096);
  for (int i = 1; i <= 24; i++) {
    char path[512];
    snprintf(path, sizeof path, SCRATCH("module_cut_%d.so"), i);
    assert_int_equal(files_copy(PEGA_TEST_FIXTURE, path), 0);
    assert_int_equal(files_truncate(path, i < 16 ? i * 16 : size * (i - 15) / 40), 0);
    expect_no_module(path);
    remove(path);
  }
}

/* Header fields that lie: each offset set to a value that cannot be. Refused, or opened if the
 * field does not matter; never a fault. */
static void test_lying_header(void **state) {
  (void)state;
  static const unsigned char absurd[8] = {0xf0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f};
  for (long offset = 16; offset < 64; offset += 2) {
    const size_t width = offset >= 24 && offset < 48 ? 8 : 2;
    char path[512];
    snprintf(path, sizeof path, SCRATCH("module_lie_%ld.so"), offset);
    assert_int_equal(files_copy(PEGA_TEST_FIXTURE, path), 0);
    assert_int_equal(files_patch(path, offset, absurd, width), 0);
    pega_tvm_ffi_module *module = NULL;
    pega_status status = pega_tvm_ffi_module_open(support_runtime, path, &module, &error);
    if (status != PEGA_OK) EXPECT_TEXT(pega_error_message(&error), path);
    pega_tvm_ffi_module_close(module);
    remove(path);
  }
}

/* ---- tensors ---- */

static support_vector vector;

#define EXPECT_BAD_TENSOR(expected, ...)                                                        \
  EXPECT_FAILURE(expected, CALL_FIXTURE("type_index", NULL, pega_value_tensor(&vector.tensor)), \
                 "type_index", __VA_ARGS__)

static void test_tensors_into_tvm_ffi(void **state) {
  (void)state;
  static int64_t huge[64];
  support_vector_init(&vector, 4, 0.0f);
  vector.tensor.ndim = 64;
  vector.tensor.shape = huge;
  vector.tensor.strides = NULL;
  EXPECT_BAD_TENSOR(PEGA_ERROR_SHAPE, "64");
  vector.tensor.ndim = INT32_MAX;
  EXPECT_BAD_TENSOR(PEGA_ERROR_SHAPE, "2147483647");
  vector.tensor.ndim = -1;
  EXPECT_BAD_TENSOR(PEGA_ERROR_SHAPE, "-1");

  support_vector_init(&vector, 4, 0.0f);
  vector.shape[0] = -4;
  EXPECT_BAD_TENSOR(PEGA_ERROR_SHAPE, "-4");
  support_vector_init(&vector, 4, 0.0f);
  vector.tensor.shape = NULL;
  EXPECT_BAD_TENSOR(PEGA_ERROR_SHAPE, "shape");

  support_vector_init(&vector, 4, 0.0f);
  vector.strides[0] = INT64_MAX / 2;
  assert_int_not_equal(CALL_FIXTURE("type_index", NULL, pega_value_tensor(&vector.tensor)),
                       PEGA_OK);
  support_vector_init(&vector, 4, 0.0f);
  vector.strides[0] = INT64_MIN;
  assert_int_not_equal(CALL_FIXTURE("type_index", NULL, pega_value_tensor(&vector.tensor)),
                       PEGA_OK);
  support_vector_init(&vector, 4, 0.0f);
  vector.shape[0] = INT64_MAX;
  assert_int_not_equal(CALL_FIXTURE("type_index", NULL, pega_value_tensor(&vector.tensor)),
                       PEGA_OK);

  support_vector_init(&vector, 4, 0.0f);
  vector.tensor.byte_offset = 1;
  EXPECT_BAD_TENSOR(PEGA_ERROR_LAYOUT, "align");
  support_vector_init(&vector, 4, 0.0f);
  vector.tensor.data = NULL;
  assert_int_not_equal(CALL_FIXTURE("type_index", NULL, pega_value_tensor(&vector.tensor)),
                       PEGA_OK);
  support_vector_init(&vector, 4, 0.0f);
  vector.tensor.dtype.code = 200;
  EXPECT_BAD_TENSOR(PEGA_ERROR_DTYPE, "200");
}

static int calls;

static pega_status count_call(void *self, const pega_value *args, int32_t num_args,
                              pega_value *result, pega_error *out_error) {
  (void)self;
  (void)args;
  (void)num_args;
  (void)result;
  (void)out_error;
  calls++;
  return PEGA_OK;
}

/* The same from the other side: TVM FFI code hands a bad DLTensor* to an engine's function. Every
 * tensor argument of every call is checked, signature or not. */
static void test_tensors_from_tvm_ffi(void **state) {
  (void)state;
  pega_function *function = support_function("test.counts", NULL, count_call, NULL);
  void *handle = NULL;
  EXPECT_OK(pega_tvm_ffi_function_to_handle(support_runtime, function, &handle, &error));
  int (*call)(void *, TVMFFIAny *, int32_t, TVMFFIAny *) = NULL;
  int (*release)(void *) = NULL;
  void (*take)(void **) = NULL;
  *(void **)&call = support_symbol("TVMFFIFunctionCall");
  *(void **)&release = support_symbol("TVMFFIObjectDecRef");
  *(void **)&take = support_symbol("TVMFFIErrorMoveFromRaised");

  for (int i = 0; i < 5; i++) {
    support_vector_init(&vector, 4, 0.0f);
    if (i == 0) vector.tensor.ndim = 1000;
    if (i == 1) vector.shape[0] = -1;
    if (i == 2) vector.strides[0] = INT64_MAX;
    if (i == 3) vector.tensor.byte_offset = 2;
    if (i == 4) vector.tensor.data = NULL;
    TVMFFIAny args[1] = {{.type_index = kTVMFFIDLTensorPtr}};
    args[0].v_ptr = &vector.tensor;
    TVMFFIAny result = {0};
    assert_int_equal(call(handle, args, 1, &result), -1);
    void *raised = NULL;
    take(&raised);
    assert_non_null(raised);
    const TVMFFIErrorCell *cell =
        (const TVMFFIErrorCell *)((const char *)raised + sizeof(TVMFFIObject));
    EXPECT_TEXT(cell->message.data, "test.counts");
    release(raised);
  }

  /* A NULL DLTensor*, a negative count, arguments that are not there. */
  TVMFFIAny null_tensor[1] = {{.type_index = kTVMFFIDLTensorPtr}};
  TVMFFIAny result = {0};
  static const int32_t counts[] = {1, -1, INT32_MIN, INT32_MAX};
  for (int i = 0; i < SUPPORT_COUNT(counts); i++) {
    assert_int_not_equal(call(handle, counts[i] == 1 ? null_tensor : NULL, counts[i], &result), 0);
    void *raised = NULL;
    take(&raised);
    assert_non_null(raised);
    release(raised);
  }
  /* A type index that no version has. */
  TVMFFIAny unknown[1] = {{.type_index = 50}};
  assert_int_not_equal(call(handle, unknown, 1, &result), 0);
  void *raised = NULL;
  take(&raised);
  assert_non_null(raised);
  release(raised);
  assert_int_equal(calls, 0);
  release(handle);
  pega_function_release(function);
}

static void test_calls_into_tvm_ffi(void **state) {
  (void)state;
  pega_function *add = support_get("add");
  const pega_value args[] = {INT(1), INT(2)};
  pega_value result = INT(5);
  assert_int_not_equal(pega_function_call(add, NULL, 2, &result, &error), PEGA_OK);
  assert_int_not_equal(pega_function_call(add, args, -1, &result, &error), PEGA_OK);
  assert_int_not_equal(pega_function_call(NULL, args, 2, &result, &error), PEGA_OK);
  pega_value strange = {.kind = 999};
  assert_int_not_equal(pega_function_call(add, &strange, 1, &result, &error), PEGA_OK);
  EXPECT_OK(pega_function_call(add, args, 2, &result, &error));
  EXPECT_INT(&result, 3);
  pega_function_release(add);
}

/* An array in an array in an array ...: deeper than anybody means it. */
static void test_deep_nesting(void **state) {
  (void)state;
  pega_value deep = pega_value_none();
  EXPECT_OK(pega_array_create(NULL, 0, &deep, &error));
  for (int i = 0; i < 100000; i++) {
    pega_value outer = pega_value_none();
    pega_status status = pega_array_create(&deep, 1, &outer, &error);
    pega_value_release(&deep);
    /* It may be refused already where it is made. */
    if (status == PEGA_ERROR_RANGE) return;
    assert_int_equal(status, PEGA_OK);
    deep = outer;
  }
  pega_value result = pega_value_none();
  EXPECT_FAILURE(PEGA_ERROR_RANGE, CALL_FIXTURE("identity", &result, deep), "identity", "deep");
  assert_int_equal(result.kind, PEGA_NONE);
  pega_value_release(&deep);
}

/* A list of TVM FFI's that holds itself. */
static void test_endless_list(void **state) {
  (void)state;
  pega_function *make = NULL;
  pega_function *append = NULL;
  pega_function *clear = NULL;
  /* Later runtimes have lists. */
  if (pega_tvm_ffi_get_global(support_runtime, "ffi.List", &make, NULL) != PEGA_OK) return;
  void *handle = NULL;
  int (*call)(void *, TVMFFIAny *, int32_t, TVMFFIAny *) = NULL;
  int (*release)(void *) = NULL;
  *(void **)&call = support_symbol("TVMFFIFunctionCall");
  *(void **)&release = support_symbol("TVMFFIObjectDecRef");
  EXPECT_OK(pega_tvm_ffi_get_global(support_runtime, "ffi.ListAppend", &append, &error));
  EXPECT_OK(pega_tvm_ffi_get_global(support_runtime, "ffi.ListClear", &clear, &error));
  /* As a pega value it would be an array, a copy: the list is made and kept below. */
  TVMFFIAny list = {0};
  TVMFFIAny ignored = {0};
  EXPECT_OK(pega_tvm_ffi_function_to_handle(support_runtime, make, &handle, &error));
  assert_int_equal(call(handle, NULL, 0, &list), 0);
  release(handle);
  TVMFFIAny twice[2] = {list, list};
  EXPECT_OK(pega_tvm_ffi_function_to_handle(support_runtime, append, &handle, &error));
  assert_int_equal(call(handle, twice, 2, &ignored), 0);
  release(handle);

  pega_function *function = support_function("test.counts", NULL, count_call, NULL);
  calls = 0;
  EXPECT_OK(pega_tvm_ffi_function_to_handle(support_runtime, function, &handle, &error));
  assert_int_not_equal(call(handle, &list, 1, &ignored), 0);
  assert_int_equal(calls, 0);
  release(handle);
  pega_function_release(function);

  EXPECT_OK(pega_tvm_ffi_function_to_handle(support_runtime, clear, &handle, &error));
  assert_int_equal(call(handle, &list, 1, &ignored), 0);
  release(handle);
  release(list.v_obj);
  pega_function_release(make);
  pega_function_release(append);
  pega_function_release(clear);
}

/* Many arguments go through as they are. */
static void test_many_arguments(void **state) {
  (void)state;
  enum { kMany = 1000 };
  static pega_value items[kMany];
  for (int i = 0; i < kMany; i++) items[i] = INT(i);
  pega_value array = pega_value_none();
  EXPECT_OK(support_call("make_array", items, kMany, &array, &error));
  assert_int_equal(pega_value_size(&array), kMany);
  assert_int_equal(pega_array_get(&array, kMany - 1)->as.i64, kMany - 1);
  pega_value_release(&array);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_null_runtime_and_out),
      cmocka_unit_test(test_null_with_a_function),
      cmocka_unit_test(test_null_error),
      cmocka_unit_test(test_options),
      cmocka_unit_test(test_larger_structs),
      cmocka_unit_test(test_long_names),
      cmocka_unit_test(test_odd_names),
      cmocka_unit_test(test_name_with_nul),
      cmocka_unit_test(test_files_that_are_no_module),
      cmocka_unit_test(test_truncated_module),
      cmocka_unit_test(test_lying_header),
      cmocka_unit_test(test_tensors_into_tvm_ffi),
      cmocka_unit_test(test_tensors_from_tvm_ffi),
      cmocka_unit_test(test_calls_into_tvm_ffi),
      cmocka_unit_test(test_deep_nesting),
      cmocka_unit_test(test_endless_list),
      cmocka_unit_test(test_many_arguments),
  };
  int failed = cmocka_run_group_tests_name("bad input", tests, support_open, support_close);
  pega_error_clear(&error);
  return failed;
}
