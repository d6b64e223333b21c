/* SPDX-License-Identifier: Apache-2.0 */
/* Values, element types and devices as text, and the names read back. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "support.h"

static void expect_format(pega_value value, const char *expected) {
  char text[512];
  const size_t size = pega_value_format(&value, text, sizeof text);
  assert_string_equal(text, expected);
  assert_int_equal(size, strlen(expected));
}

static void test_plain_values(void **state) {
  (void)state;
  expect_format(pega_value_none(), "None");
  expect_format(pega_value_bool(true), "true");
  expect_format(pega_value_bool(false), "false");
  expect_format(pega_value_int(INT64_MIN), "-9223372036854775808");
  expect_format(pega_value_uint(UINT64_MAX), "18446744073709551615");
  expect_format(pega_value_pointer(NULL), "pointer 0x0");
  expect_format(pega_value_pointer((void *)(uintptr_t)0xabc), "pointer 0xabc");
  expect_format(pega_value_dtype(BFLOAT16), "bfloat16");
  expect_format(pega_value_device(DEVICE(kDLCUDA, 2)), "cuda:2");
  /* A float never looks like an integer, and reads back as the same number. */
  expect_format(pega_value_float(3.0), "3.0");
  expect_format(pega_value_float(-0.0), "-0.0");
  expect_format(pega_value_float(0.1), "0.10000000000000001");
  expect_format(pega_value_float(1e300), "1.0000000000000001e+300");
  expect_format(pega_value_float((double)INFINITY), "inf");
  char text[64];
  const pega_value nan_value = pega_value_float((double)NAN);
  pega_value_format(&nan_value, text, sizeof text);
  EXPECT_TEXT(text, "nan");
}

static void test_text_values(void **state) {
  (void)state;
  expect_format(pega_value_string(""), "\"\"");
  expect_format(pega_value_string("plain"), "\"plain\"");
  expect_format(pega_value_string("a \"b\" \\ \n\x01\x7f"),
                "\"a \\\"b\\\" \\\\ \\n\\u0001\\u007f\"");
  expect_format(pega_value_string_n("a\0b", 3), "\"a\\u0000b\"");
  expect_format(pega_value_string("\xe2\x82\xac"), "\"\xe2\x82\xac\"");
  expect_format(pega_value_bytes("12345", 5), "5 bytes");
}

static void test_objects(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  float data[6];
  DLTensor tensor = TENSOR(data, FLOAT32, 2, 3);
  expect_format(pega_value_tensor(&tensor), "float32[2, 3] on cpu:0");
  tensor.ndim = 0;
  expect_format(pega_value_tensor(&tensor), "float32[] on cpu:0");
  /* A descriptor that is wrong is shown without following it. */
  tensor.ndim = 1 << 30;
  expect_format(pega_value_tensor(&tensor), "float32[rank 1073741824] on cpu:0");
  tensor.ndim = 2;
  tensor.shape = NULL;
  expect_format(pega_value_tensor(&tensor), "float32[rank 2] on cpu:0");

  const pega_param params[] = {{.name = "n", .type = PEGA_TYPE_INT}};
  pega_function *function = support_function("t.f", params, 1, 0);
  expect_format(pega_value_function(function), "function t.f(n: int) -> None");
  pega_function_release(function);
  function = support_function(NULL, NULL, 0, 0);
  expect_format(pega_value_function(function), "function (...)");
  pega_function_release(function);

  pega_value object;
  EXPECT_OK(pega_object_create("t.Type", NULL, NULL, NULL, &object, &error), &error);
  expect_format(object, "object t.Type");
  pega_value_release(&object);
}

static void test_containers(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_value items[20], array, map;
  for (int i = 0; i < 20; ++i) items[i] = pega_value_int(i);
  EXPECT_OK(pega_array_create(items, 2, &array, &error), &error);
  expect_format(array, "[0, 1]");
  items[1] = array;
  EXPECT_OK(pega_map_create(items, items + 1, 2, &map, &error), &error);
  expect_format(map, "{0: [0, 1], [0, 1]: 2}");
  pega_value_release(&map);
  pega_value_release(&array);
  EXPECT_OK(pega_array_create(items + 2, 18, &array, &error), &error);
  expect_format(array, "[2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, ...]");
  pega_value_release(&array);
  EXPECT_OK(pega_array_create(NULL, 0, &array, &error), &error);
  expect_format(array, "[]");
  pega_value_release(&array);
}

static void test_deep_and_wide_containers(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_value value = pega_value_int(1);
  /* Ten objects that, written out, would be 16^10 numbers. */
  for (int depth = 0; depth < 10; ++depth) {
    pega_value items[16], outer;
    for (int i = 0; i < 16; ++i) items[i] = value;
    EXPECT_OK(pega_array_create(items, 16, &outer, &error), &error);
    pega_value_release(&value);
    value = outer;
  }
  char text[256];
  const size_t size = pega_value_format(&value, text, sizeof text);
  assert_memory_equal(text, "[[[", 3);
  EXPECT_TEXT(text, "...");
  assert_true(size < 1 << 20);
  pega_value_release(&value);
}

static void test_size_and_cut(void **state) {
  (void)state;
  const pega_value value = pega_value_string("hello");
  char text[8];
  assert_int_equal(pega_value_format(&value, NULL, 0), 7);
  assert_int_equal(pega_value_format(&value, NULL, 100), 7);
  for (size_t capacity = 1; capacity < sizeof text; ++capacity) {
    memset(text, '#', sizeof text);
    assert_int_equal(pega_value_format(&value, text, capacity), 7);
    assert_int_equal(strlen(text), capacity - 1);
    assert_memory_equal(text, "\"hello\"", capacity - 1);
    assert_int_equal(text[capacity], '#');
  }
  assert_int_equal(pega_value_format(&value, text, sizeof text), 7);
  assert_string_equal(text, "\"hello\"");
  text[0] = '#';
  assert_int_equal(pega_value_format(&value, text, 0), 7);
  assert_int_equal(text[0], '#');
}

static void test_dtype_names(void **state) {
  (void)state;
  static const struct {
    DLDataType dtype;
    const char *name;
  } known[] = {
      {{0, 8, 1}, "int8"},
      {{0, 64, 1}, "int64"},
      {{1, 8, 1}, "uint8"},
      {{1, 1, 1}, "uint1"},
      {{2, 16, 1}, "float16"},
      {{2, 32, 1}, "float32"},
      {{2, 64, 1}, "float64"},
      {{2, 32, 4}, "float32x4"},
      {{3, 64, 1}, "handle"},
      {{4, 16, 1}, "bfloat16"},
      {{4, 16, 65535}, "bfloat16x65535"},
      {{5, 64, 1}, "complex64"},
      {{6, 8, 1}, "bool"},
      {{7, 8, 1}, "float8_e3m4"},
      {{8, 8, 1}, "float8_e4m3"},
      {{9, 8, 1}, "float8_e4m3b11fnuz"},
      {{10, 8, 1}, "float8_e4m3fn"},
      {{11, 8, 1}, "float8_e4m3fnuz"},
      {{12, 8, 1}, "float8_e5m2"},
      {{13, 8, 1}, "float8_e5m2fnuz"},
      {{14, 8, 1}, "float8_e8m0fnu"},
      {{15, 6, 1}, "float6_e2m3fn"},
      {{16, 6, 1}, "float6_e3m2fn"},
      {{17, 4, 2}, "float4_e2m1fnx2"},
  };
  pega_error error = PEGA_ERROR_INIT;
  for (int i = 0; i < COUNT(known); ++i) {
    char name[PEGA_NAME_SIZE];
    DLDataType read;
    assert_ptr_equal(pega_dtype_name(known[i].dtype, name), name);
    assert_string_equal(name, known[i].name);
    EXPECT_OK(pega_dtype_parse(name, &read, &error), &error);
    assert_memory_equal(&read, &known[i].dtype, sizeof read);
  }
}

static void test_dtype_refusals(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  DLDataType read = FLOAT32;
  static const char *const wrong[] = {
      "",
      "float",
      "Float32",
      "float0",
      "float256",
      "float99999999999999999999",
      "float-1",
      "float32x",
      "float32x0",
      "float32x65536",
      "float32 ",
      " float32",
      "float32x2x2",
      "double",
      "bool8",
      "int 8",
      "float8_",
      "float8_e4m3f",
      "float24",
      "bfloat32",
      "int129",
      "complex8",
  };
  for (int i = 0; i < COUNT(wrong); ++i) {
    EXPECT_ERROR(pega_dtype_parse(wrong[i], &read, &error), &error, PEGA_ERROR_DTYPE,
                 "unknown element type '", wrong[i], "such as float32");
    assert_memory_equal(&read, &FLOAT32, sizeof read);
  }
  EXPECT_ERROR(pega_dtype_parse(NULL, &read, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "pega_dtype_parse: name is NULL");
  EXPECT_ERROR(pega_dtype_parse("int8", NULL, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "pega_dtype_parse: out is NULL");

  /* No type has these; a name that shows the numbers still fits its buffer. */
  char name[PEGA_NAME_SIZE];
  assert_string_equal(pega_dtype_name(DTYPE(255, 255, 65535), name), "code255_255x65535");
  memset(name, '#', sizeof name);
  pega_dtype_name(DTYPE(kDLFloat8_e4m3b11fnuz, 255, 65535), name);
  assert_non_null(memchr(name, '\0', sizeof name));
  pega_error_clear(&error);
}

static void test_device_names(void **state) {
  (void)state;
  static const struct {
    int32_t type;
    const char *word;
  } known[] = {
      {1, "cpu"},        {2, "cuda"},     {3, "cuda_host"},     {4, "opencl"},
      {7, "vulkan"},     {8, "metal"},    {9, "vpi"},           {10, "rocm"},
      {11, "rocm_host"}, {12, "ext_dev"}, {13, "cuda_managed"}, {14, "oneapi"},
      {15, "webgpu"},    {16, "hexagon"}, {17, "maia"},         {18, "trn"},
  };
  pega_error error = PEGA_ERROR_INIT;
  for (int i = 0; i < COUNT(known); ++i) {
    for (int32_t id = 0; id < 3; ++id) {
      char name[PEGA_NAME_SIZE], expected[PEGA_NAME_SIZE];
      DLDevice device = DEVICE((DLDeviceType)known[i].type, id);
      DLDevice read;
      snprintf(expected, sizeof expected, "%s:%d", known[i].word, id);
      assert_ptr_equal(pega_device_name(device, name), name);
      assert_string_equal(name, expected);
      EXPECT_OK(pega_device_parse(name, &read, &error), &error);
      assert_int_equal(read.device_type, known[i].type);
      assert_int_equal(read.device_id, id);
    }
    DLDevice read = DEVICE(kDLCPU, 9);
    EXPECT_OK(pega_device_parse(known[i].word, &read, &error), &error);
    assert_int_equal(read.device_type, known[i].type);
    assert_int_equal(read.device_id, 0);
  }
}

static void test_device_refusals(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  DLDevice read = DEVICE(kDLCUDA, 3);
  static const char *const wrong[] = {"",        "gpu",    "cuda:",           "cuda:-1", "cuda:x",
                                      "cuda:1 ", "cuda 1", "cuda:2147483648", "CPU",     "cuda_:0"};
  for (int i = 0; i < COUNT(wrong); ++i) {
    EXPECT_ERROR(pega_device_parse(wrong[i], &read, &error), &error, PEGA_ERROR_DEVICE,
                 "unknown device '", wrong[i], "such as cpu or cuda:0");
  }
  assert_int_equal(read.device_type, kDLCUDA);
  assert_int_equal(read.device_id, 3);
  EXPECT_ERROR(pega_device_parse(NULL, &read, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "pega_device_parse: name is NULL");
  EXPECT_ERROR(pega_device_parse("cpu", NULL, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "pega_device_parse: out is NULL");

  char name[PEGA_NAME_SIZE];
  assert_string_equal(pega_device_name(DEVICE((DLDeviceType)99, 7), name), "device99:7");
  assert_string_equal(pega_device_name(DEVICE(kDLCUDAManaged, INT32_MIN), name),
                      "cuda_managed:-2147483648");
  pega_error_clear(&error);
}

/* What is shown of a name is whole characters. */
static void test_names_are_cut_between_characters(void **state) {
  (void)state;
  for (int shift = 0; shift < 3; ++shift) {
    char name[200] = "";
    memset(name, 'a', (size_t)shift);
    while (strlen(name) < 150) strcat(name, "\xe2\x82\xac");
    pega_error error = PEGA_ERROR_INIT;
    DLDataType dtype;
    EXPECT_ERROR(pega_dtype_parse(name, &dtype, &error), &error, PEGA_ERROR_DTYPE,
                 "\xe2\x82\xac...'");
    pega_error_clear(&error);
  }
}

static void test_long_names_are_shown_in_part(void **state) {
  (void)state;
  static char name[1 << 20];
  memset(name, 'n', sizeof name - 1);
  name[3] = '\n';
  pega_error error = PEGA_ERROR_INIT;
  DLDataType dtype;
  DLDevice device;
  EXPECT_ERROR(pega_dtype_parse(name, &dtype, &error), &error, PEGA_ERROR_DTYPE, "'nnn?nnn",
               "nnn...'");
  assert_true(strlen(pega_error_message(&error)) < 400);
  EXPECT_ERROR(pega_device_parse(name, &device, &error), &error, PEGA_ERROR_DEVICE, "'nnn?nnn",
               "nnn...'");
  assert_true(strlen(pega_error_message(&error)) < 400);
  pega_error_clear(&error);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_plain_values),
      cmocka_unit_test(test_text_values),
      cmocka_unit_test(test_objects),
      cmocka_unit_test(test_containers),
      cmocka_unit_test(test_size_and_cut),
      cmocka_unit_test(test_dtype_names),
      cmocka_unit_test(test_dtype_refusals),
      cmocka_unit_test(test_device_names),
      cmocka_unit_test(test_device_refusals),
      cmocka_unit_test(test_long_names_are_shown_in_part),
      cmocka_unit_test(test_names_are_cut_between_characters),
      cmocka_unit_test(test_deep_and_wide_containers),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
