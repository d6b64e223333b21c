/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Engine -> TVM FFI: a module is loaded, its functions are listed, got and called, and every kind of
 * value goes there as an argument and comes back as a result.
 */
#include "files.h"
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static pega_error error = PEGA_ERROR_INIT;

/* identity(value) of the fixture; owned. */
static pega_value round_trip(pega_value value) {
  pega_value result = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("identity", &result, value));
  return result;
}

/* The tag with which TVM FFI code sees the value. */
static int64_t type_index(pega_value value) {
  pega_value result = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("type_index", &result, value));
  assert_int_equal(result.kind, PEGA_INT);
  return result.as.i64;
}

/* ---- modules and functions ---- */

static void test_list(void **state) {
  (void)state;
  pega_value names = pega_value_none();
  EXPECT_OK(pega_tvm_ffi_module_list(support_fixture, &names, &error));
  assert_int_equal(names.kind, PEGA_ARRAY);
  int64_t count = pega_value_size(&names);
  int found = 0;
  for (int64_t i = 0; i < count; i++) {
    size_t size = 0;
    const char *name = pega_value_as_string(pega_array_get(&names, i), &size);
    assert_non_null(name);
    /* Neither the prefix of the symbols nor what is not a function. */
    EXPECT_NO_TEXT(name, "__");
    if (strcmp(name, "add") == 0 || strcmp(name, "add_one") == 0 || strcmp(name, "raise") == 0) {
      found++;
    }
    if (i > 0) {
      assert_true(strcmp(pega_value_as_string(pega_array_get(&names, i - 1), NULL), name) < 0);
    }
  }
  assert_int_equal(found, 3);
  pega_value_release(&names);
}

static void test_get_and_call(void **state) {
  (void)state;
  pega_function *add = support_get("add");
  assert_string_equal(pega_function_name(add), "add");
  pega_value sum = pega_value_none();
  EXPECT_OK(CALL(add, &sum, INT(2), INT(3)));
  EXPECT_INT(&sum, 5);
  EXPECT_OK(CALL(add, &sum, INT(INT64_MIN), INT(-1)));
  EXPECT_INT(&sum, INT64_MAX);
  /* The result may be dropped. */
  EXPECT_OK(CALL(add, NULL, INT(2), INT(3)));
  pega_function_release(add);
}

static void test_global(void **state) {
  (void)state;
  pega_function *function = NULL;
  EXPECT_OK(pega_tvm_ffi_get_global(support_runtime, "ffi.String", &function, &error));
  pega_value text = pega_value_none();
  EXPECT_OK(CALL(function, &text, TEXT("a text of more than seven bytes")));
  EXPECT_STRING(&text, "a text of more than seven bytes");
  pega_function_release(function);

  pega_value names = pega_value_none();
  EXPECT_OK(pega_tvm_ffi_list_globals(support_runtime, &names, &error));
  bool found = false;
  for (int64_t i = 0; i < pega_value_size(&names); i++) {
    found =
        found || strcmp(pega_value_as_string(pega_array_get(&names, i), NULL), "ffi.String") == 0;
  }
  assert_true(found);
  pega_value_release(&names);
}

/* Functions and values outlive the module they came from. */
static void test_module_may_be_closed_first(void **state) {
  (void)state;
  pega_tvm_ffi_module *module = NULL;
  pega_function *add = NULL;
  pega_function *make_tensor = NULL;
  pega_function *return_function = NULL;
  EXPECT_OK(pega_tvm_ffi_module_open(support_runtime, PEGA_TEST_FIXTURE_COPY, &module, &error));
  EXPECT_OK(pega_tvm_ffi_module_get(module, "add", &add, &error));
  EXPECT_OK(pega_tvm_ffi_module_get(module, "make_tensor", &make_tensor, &error));
  EXPECT_OK(pega_tvm_ffi_module_get(module, "return_function", &return_function, &error));
  pega_tvm_ffi_module_close(module);

  pega_value sum = pega_value_none();
  EXPECT_OK(CALL(add, &sum, INT(2), INT(3)));
  EXPECT_INT(&sum, 5);
  pega_value tensor = pega_value_none();
  pega_value adder = pega_value_none();
  EXPECT_OK(CALL(make_tensor, &tensor, INT(4)));
  EXPECT_OK(CALL(return_function, &adder, INT(40)));
  pega_function_release(add);
  pega_function_release(make_tensor);
  pega_function_release(return_function);

  /* Nothing of the module is held but what it returned: its code must still be there. */
  EXPECT_OK(CALL(pega_value_as_function(&adder), &sum, INT(2)));
  EXPECT_INT(&sum, 42);
  pega_value_release(&adder);
  pega_value_release(&tensor);
}

/* The file is the one that the path names, wherever the process is and whatever it is called. */
static void test_odd_paths(void **state) {
  (void)state;
  static const char *const names[] = {"no extension", "zwölf.dso", "v1.2.so.0"};
  char *before = getcwd(NULL, 0);
  assert_non_null(before);
  assert_int_equal(chdir(PEGA_TEST_SCRATCH), 0);
  for (int i = 0; i < SUPPORT_COUNT(names); i++) {
    pega_tvm_ffi_module *module = NULL;
    pega_function *add = NULL;
    pega_value sum = pega_value_none();
    assert_int_equal(files_copy(PEGA_TEST_FIXTURE, names[i]), 0);
    EXPECT_OK(pega_tvm_ffi_module_open(support_runtime, names[i], &module, &error));
    EXPECT_OK(pega_tvm_ffi_module_get(module, "add", &add, &error));
    EXPECT_OK(CALL(add, &sum, INT(20), INT(22)));
    EXPECT_INT(&sum, 42);
    pega_function_release(add);
    pega_tvm_ffi_module_close(module);
  }
  assert_int_equal(chdir(before), 0);
  free(before);
}

static void test_same_file_twice(void **state) {
  (void)state;
  pega_tvm_ffi_module *again = NULL;
  pega_function *add = NULL;
  pega_value sum = pega_value_none();
  EXPECT_OK(pega_tvm_ffi_module_open(support_runtime, PEGA_TEST_FIXTURE, &again, &error));
  EXPECT_OK(pega_tvm_ffi_module_get(again, "add", &add, &error));
  EXPECT_OK(CALL(add, &sum, INT(1), INT(1)));
  EXPECT_INT(&sum, 2);
  pega_function_release(add);
  pega_tvm_ffi_module_close(again);
}

/* ---- plain values ---- */

static void test_none_and_bool(void **state) {
  (void)state;
  assert_int_equal(type_index(pega_value_none()), kTVMFFINone);
  assert_int_equal(round_trip(pega_value_none()).kind, PEGA_NONE);
  for (int i = 0; i < 2; i++) {
    assert_int_equal(type_index(pega_value_bool(i == 1)), kTVMFFIBool);
    pega_value result = round_trip(pega_value_bool(i == 1));
    assert_int_equal(result.kind, PEGA_BOOL);
    assert_int_equal(result.as.boolean, i == 1);
  }
}

static void test_integers(void **state) {
  (void)state;
  static const int64_t numbers[] = {0, 1, -1, INT32_MAX, INT64_MAX, INT64_MIN};
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
    assert_int_equal(type_index(INT(numbers[i])), kTVMFFIInt);
    pega_value result = round_trip(INT(numbers[i]));
    EXPECT_INT(&result, numbers[i]);
  }
  assert_int_equal(type_index(pega_value_uint(INT64_MAX)), kTVMFFIInt);
  pega_value result = round_trip(pega_value_uint(7));
  EXPECT_INT(&result, 7);
}

/* What does not fit in int64 goes as a big integer where the runtime has them, else not at all. */
static void test_integers_beyond_int64(void **state) {
  (void)state;
  static const uint64_t numbers[] = {UINT64_C(1) << 63, UINT64_MAX};
  for (size_t i = 0; i < 2; i++) {
    pega_value result = pega_value_none();
    if (support_symbol("TVMFFIBigIntFromByteArray") == NULL) {
      EXPECT_FAILURE(PEGA_ERROR_RANGE,
                     CALL_FIXTURE("identity", &result, pega_value_uint(numbers[i])), "identity");
      continue;
    }
    EXPECT_OK(CALL_FIXTURE("identity", &result, pega_value_uint(numbers[i])));
    assert_int_equal(result.kind, PEGA_UINT);
    assert_true(result.as.u64 == numbers[i]);
    pega_value_release(&result);
  }
}

static void test_floats(void **state) {
  (void)state;
  static const double numbers[] = {0.0, -0.0, 1.5, -1e308, 5e-324, INFINITY};
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
    assert_int_equal(type_index(pega_value_float(numbers[i])), kTVMFFIFloat);
    pega_value result = round_trip(pega_value_float(numbers[i]));
    assert_int_equal(result.kind, PEGA_FLOAT);
    assert_memory_equal(&result.as.f64, &numbers[i], sizeof numbers[i]);
  }
  assert_true(isnan(round_trip(pega_value_float(NAN)).as.f64));
}

static void test_pointers(void **state) {
  (void)state;
  int here = 0;
  const void *const pointers[] = {NULL, &here, (const void *)UINTPTR_MAX};
  for (size_t i = 0; i < 3; i++) {
    pega_value result = round_trip(pega_value_pointer(pointers[i]));
    assert_int_equal(result.kind, PEGA_POINTER);
    assert_ptr_equal(result.as.pointer, pointers[i]);
    assert_int_equal(type_index(pega_value_pointer(pointers[i])), kTVMFFIOpaquePtr);
  }
}

static void test_dtype_and_device(void **state) {
  (void)state;
  DLDataType bfloat16 = {kDLBfloat, 16, 4};
  assert_int_equal(type_index(pega_value_dtype(bfloat16)), kTVMFFIDataType);
  pega_value result = round_trip(pega_value_dtype(bfloat16));
  assert_int_equal(result.kind, PEGA_DTYPE);
  assert_memory_equal(&result.as.dtype, &bfloat16, sizeof bfloat16);

  DLDevice device = {kDLCUDA, 3};
  assert_int_equal(type_index(pega_value_device(device)), kTVMFFIDevice);
  result = round_trip(pega_value_device(device));
  assert_int_equal(result.kind, PEGA_DEVICE);
  assert_memory_equal(&result.as.device, &device, sizeof device);
}

/* ---- text and bytes, of the lengths where the form changes ---- */

static void check_text(const char *bytes, size_t size) {
  pega_value length = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("text_size", &length, pega_value_string_n(bytes, size)));
  EXPECT_INT(&length, (int64_t)size);
  EXPECT_OK(CALL_FIXTURE("text_size", &length, pega_value_bytes(bytes, size)));
  EXPECT_INT(&length, (int64_t)size);

  size_t got = 0;
  pega_value text = round_trip(pega_value_string_n(bytes, size));
  assert_int_equal(text.kind, PEGA_STRING);
  assert_non_null(pega_value_as_string(&text, &got));
  assert_int_equal(got, size);
  assert_memory_equal(pega_value_as_string(&text, NULL), bytes, size);

  pega_value raw = round_trip(pega_value_bytes(bytes, size));
  assert_int_equal(raw.kind, PEGA_BYTES);
  assert_non_null(pega_value_as_bytes(&raw, &got));
  assert_int_equal(got, size);
  assert_memory_equal(pega_value_as_bytes(&raw, NULL), bytes, size);

  /* What came back is counted and goes out again. */
  pega_value again = round_trip(text);
  assert_non_null(pega_value_as_string(&again, &got));
  assert_int_equal(got, size);
  pega_value_release(&again);
  pega_value_release(&text);
  pega_value_release(&raw);
}

static void test_text_and_bytes(void **state) {
  (void)state;
  check_text("", 0);
  check_text("seven77", 7);
  check_text("eight888", 8);
  check_text("zwölf Bytes", strlen("zwölf Bytes"));
  check_text("nul\0inside it", 13);
  const size_t large = 1000000;
  char *long_text = malloc(large);
  assert_non_null(long_text);
  memset(long_text, 'x', large);
  check_text(long_text, large);
  free(long_text);
}

/* ---- functions, arrays, maps, objects ---- */

static void test_function_result(void **state) {
  (void)state;
  int64_t before = support_counter("deleter_count");
  pega_value adder = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("return_function", &adder, INT(40)));
  assert_int_equal(adder.kind, PEGA_FUNCTION);
  pega_value sum = pega_value_none();
  EXPECT_OK(CALL(pega_value_as_function(&adder), &sum, INT(2)));
  EXPECT_INT(&sum, 42);
  /* It goes back as the very same object: no layer is put around it. */
  int64_t bits[2];
  for (int i = 0; i < 2; i++) {
    pega_value address = pega_value_none();
    EXPECT_OK(CALL_FIXTURE("int_bits", &address, adder));
    bits[i] = address.as.i64;
  }
  assert_true(bits[0] == bits[1]);
  assert_int_equal(type_index(adder), kTVMFFIFunction);
  pega_value again = round_trip(adder);
  EXPECT_OK(CALL_FIXTURE("int_bits", &sum, again));
  assert_true(sum.as.i64 == bits[0]);
  pega_value_release(&again);
  assert_int_equal(support_counter("deleter_count"), before);
  pega_value_release(&adder);
  assert_int_equal(support_counter("deleter_count"), before + 1);
}

static void test_array(void **state) {
  (void)state;
  pega_value array = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("make_array", &array, INT(1), TEXT("two of more than seven"),
                         pega_value_float(3.0)));
  assert_int_equal(array.kind, PEGA_ARRAY);
  assert_int_equal(pega_value_size(&array), 3);
  assert_int_equal(pega_array_get(&array, 0)->as.i64, 1);
  assert_string_equal(pega_value_as_string(pega_array_get(&array, 1), NULL),
                      "two of more than seven");
  assert_true(pega_array_get(&array, 2)->as.f64 == 3.0);
  assert_null(pega_array_get(&array, 3));
  pega_value_release(&array);

  const pega_value numbers[] = {INT(1), INT(2), INT(39)};
  pega_value sum = pega_value_none();
  EXPECT_OK(pega_array_create(numbers, 3, &array, &error));
  assert_int_equal(type_index(array), kTVMFFIArray);
  EXPECT_OK(CALL_FIXTURE("array_sum", &sum, array));
  EXPECT_INT(&sum, 42);

  /* Arrays in arrays, there and back. */
  pega_value nested = pega_value_none();
  const pega_value outer[] = {array, array, pega_value_none()};
  EXPECT_OK(pega_array_create(outer, 3, &nested, &error));
  pega_value back = round_trip(nested);
  assert_int_equal(pega_value_size(&back), 3);
  assert_int_equal(pega_array_get(pega_array_get(&back, 1), 2)->as.i64, 39);
  pega_value_release(&back);
  pega_value_release(&nested);
  pega_value_release(&array);

  EXPECT_OK(pega_array_create(NULL, 0, &array, &error));
  back = round_trip(array);
  assert_int_equal(back.kind, PEGA_ARRAY);
  assert_int_equal(pega_value_size(&back), 0);
  pega_value_release(&back);
  pega_value_release(&array);
}

static void test_map(void **state) {
  (void)state;
  pega_value map = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("make_map", &map, TEXT("one"), INT(1), TEXT("a longer key"), INT(2)));
  assert_int_equal(map.kind, PEGA_MAP);
  assert_int_equal(pega_value_size(&map), 2);
  assert_int_equal(pega_map_get(&map, "one")->as.i64, 1);
  assert_int_equal(pega_map_get(&map, "a longer key")->as.i64, 2);
  assert_null(pega_map_get(&map, "none"));
  pega_value_release(&map);

  const pega_value keys[] = {TEXT("x"), INT(5), TEXT("a key of some length")};
  const pega_value values[] = {INT(10), TEXT("five"), pega_value_float(0.5)};
  EXPECT_OK(pega_map_create(keys, values, 3, &map, &error));
  assert_int_equal(type_index(map), kTVMFFIMap);
  pega_value item = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("map_get", &item, map, TEXT("x")));
  EXPECT_INT(&item, 10);
  EXPECT_OK(CALL_FIXTURE("map_get", &item, map, INT(5)));
  EXPECT_STRING(&item, "five");
  pega_value back = round_trip(map);
  assert_int_equal(pega_value_size(&back), 3);
  assert_true(pega_map_get(&back, "a key of some length")->as.f64 == 0.5);
  pega_value_release(&back);
  pega_value_release(&map);

  /* The empty map is a map. */
  EXPECT_OK(pega_map_create(NULL, NULL, 0, &map, &error));
  back = round_trip(map);
  assert_int_equal(back.kind, PEGA_MAP);
  assert_int_equal(pega_value_size(&back), 0);
  pega_value_release(&back);
  pega_value_release(&map);
}

/* The runtime's other containers arrive as the two that pega has. */
static void test_other_containers(void **state) {
  (void)state;
  static const char *const makers[][2] = {
      {"ffi.List", "array"}, {"ffi.Dict", "map"}, {"ffi.Shape", "array"}};
  for (size_t i = 0; i < 3; i++) {
    pega_function *make = NULL;
    /* Lists and dicts came with later runtimes; shapes were always there. */
    if (pega_tvm_ffi_get_global(support_runtime, makers[i][0], &make, NULL) != PEGA_OK) {
      assert_int_not_equal(i, 2);
      continue;
    }
    pega_value made = pega_value_none();
    EXPECT_OK(CALL(make, &made, INT(3), INT(4)));
    assert_string_equal(pega_kind_name(made.kind), makers[i][1]);
    assert_int_equal(pega_value_size(&made), i == 1 ? 1 : 2);
    const pega_value *item = i == 1 ? pega_map_value(&made, 0) : pega_array_get(&made, 1);
    assert_int_equal(item->as.i64, 4);
    pega_value_release(&made);
    pega_function_release(make);
  }
}

/* An object that pega knows nothing of passes through untouched. */
static void test_object(void **state) {
  (void)state;
  pega_function *load = NULL;
  pega_function *get = NULL;
  pega_value module = pega_value_none();
  EXPECT_OK(pega_tvm_ffi_get_global(support_runtime, "ffi.ModuleLoadFromFile", &load, &error));
  EXPECT_OK(pega_tvm_ffi_get_global(support_runtime, "ffi.ModuleGetFunction", &get, &error));
  EXPECT_OK(CALL(load, &module, TEXT(PEGA_TEST_FIXTURE)));
  assert_int_equal(module.kind, PEGA_OBJECT);
  assert_string_equal(pega_value_type_key(&module), "ffi.Module");
  assert_int_equal(type_index(module), kTVMFFIModule);
  pega_value add = pega_value_none();
  EXPECT_OK(CALL(get, &add, module, TEXT("add"), pega_value_bool(false)));
  assert_int_equal(add.kind, PEGA_FUNCTION);
  pega_value sum = pega_value_none();
  EXPECT_OK(CALL(pega_value_as_function(&add), &sum, INT(20), INT(22)));
  EXPECT_INT(&sum, 42);

  pega_value before = pega_value_none();
  pega_value after = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("references", &before, module));
  pega_value copy = round_trip(module);
  EXPECT_OK(CALL_FIXTURE("references", &after, module));
  assert_true(after.as.i64 == before.as.i64 + 1);
  pega_value_release(&copy);
  EXPECT_OK(CALL_FIXTURE("references", &after, module));
  assert_true(after.as.i64 == before.as.i64);
  pega_value_release(&add);
  pega_value_release(&module);
  pega_function_release(load);
  pega_function_release(get);
}

/* An object of the host's is not TVM FFI's: it says so instead of sending nonsense. */
static void test_host_object_does_not_cross(void **state) {
  (void)state;
  static const char tag = 0;
  static int payload;
  pega_value object = pega_value_none();
  EXPECT_OK(pega_object_create("host.Thing", &tag, &payload, NULL, &object, &error));
  pega_value result = pega_value_none();
  EXPECT_FAILURE(PEGA_ERROR_TYPE, CALL_FIXTURE("identity", &result, object), "identity",
                 "host.Thing");
  assert_int_equal(result.kind, PEGA_NONE);
  pega_value_release(&object);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_list),
      cmocka_unit_test(test_get_and_call),
      cmocka_unit_test(test_global),
      cmocka_unit_test(test_module_may_be_closed_first),
      cmocka_unit_test(test_odd_paths),
      cmocka_unit_test(test_same_file_twice),
      cmocka_unit_test(test_none_and_bool),
      cmocka_unit_test(test_integers),
      cmocka_unit_test(test_integers_beyond_int64),
      cmocka_unit_test(test_floats),
      cmocka_unit_test(test_pointers),
      cmocka_unit_test(test_dtype_and_device),
      cmocka_unit_test(test_text_and_bytes),
      cmocka_unit_test(test_function_result),
      cmocka_unit_test(test_array),
      cmocka_unit_test(test_map),
      cmocka_unit_test(test_other_containers),
      cmocka_unit_test(test_object),
      cmocka_unit_test(test_host_object_does_not_cross),
  };
  int failed = cmocka_run_group_tests_name("import", tests, support_open, support_close);
  pega_error_clear(&error);
  return failed;
}
