/* SPDX-License-Identifier: Apache-2.0 */
/* Signatures as they are given: what is refused and why, what is kept, how they read. */
#include <stdio.h>
#include <string.h>

#include "support.h"

static pega_status create(const pega_signature *signature, pega_error *error) {
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  pega_function *function = NULL;
  options.name = "t.f";
  options.call = support_no_op;
  options.signature = signature;
  pega_status status = pega_function_create(&options, &function, error);
  assert_int_equal(function != NULL, status == PEGA_OK);
  pega_function_release(function);
  return status;
}

#define EXPECT_REFUSED(signature, status, ...)                   \
  do {                                                           \
    pega_error error_ = PEGA_ERROR_INIT;                         \
    EXPECT_ERROR(create(&(signature), &error_), &error_, status, \
                 "signature of 't.f': ", __VA_ARGS__);           \
    assert_int_equal(create(&(signature), NULL), status);        \
    pega_error_clear(&error_);                                   \
  } while (0)

static void test_signature_fields(void **state) {
  (void)state;
  const pega_signature good = PEGA_SIGNATURE_INIT;
  const pega_param params[1] = {{.name = "x"}};
  pega_error error = PEGA_ERROR_INIT;
  pega_signature bad = good;
  EXPECT_OK(create(&good, &error), &error);

  bad.struct_size = 3;
  EXPECT_REFUSED(bad, PEGA_ERROR_VERSION, "struct_size 3 and param_size ", "PEGA_SIGNATURE_INIT");
  /* A newer caller's is taken as long as what is new in it is zero. */
  struct {
    pega_signature known;
    uint64_t unknown;
  } newer = {good, 0};
  newer.known.struct_size = sizeof newer;
  EXPECT_OK(create(&newer.known, &error), &error);
  newer.unknown = 1;
  EXPECT_REFUSED(newer.known, PEGA_ERROR_VERSION, "build with the header of this library");
  bad = good;
  bad.param_size = 5;
  EXPECT_REFUSED(bad, PEGA_ERROR_VERSION, "param_size 5: expected");
  bad = good;
  bad.num_params = -1;
  EXPECT_REFUSED(bad, PEGA_ERROR_INVALID_ARGUMENT, "-1 parameters: expected 0 to 64");
  bad.num_params = 65;
  bad.params = params;
  EXPECT_REFUSED(bad, PEGA_ERROR_INVALID_ARGUMENT, "65 parameters: expected 0 to 64");
  bad.num_params = 1;
  bad.params = NULL;
  EXPECT_REFUSED(bad, PEGA_ERROR_INVALID_ARGUMENT, "1 parameters: expected");
  bad = good;
  bad.flags = 2;
  EXPECT_REFUSED(bad, PEGA_ERROR_INVALID_ARGUMENT, "unknown flags or result type");
  bad = good;
  bad.reserved = 1;
  EXPECT_REFUSED(bad, PEGA_ERROR_INVALID_ARGUMENT, "unknown flags or result type");
  bad = good;
  bad.result = PEGA_TYPE_OBJECT + 1;
  EXPECT_REFUSED(bad, PEGA_ERROR_INVALID_ARGUMENT, "built for a newer library?");
}

#define EXPECT_BAD_PARAM(why, ...)                                                          \
  do {                                                                                      \
    const pega_param params_[] = {{.name = "first", .type = PEGA_TYPE_INT}, {__VA_ARGS__}}; \
    pega_signature signature_ = PEGA_SIGNATURE_INIT;                                        \
    signature_.params = params_;                                                            \
    signature_.num_params = 2;                                                              \
    EXPECT_REFUSED(signature_, PEGA_ERROR_INVALID_ARGUMENT, "parameter 1 '", why);          \
  } while (0)

static void test_param_fields(void **state) {
  (void)state;
  char long_name[66];
  memset(long_name, 'n', sizeof long_name - 1);
  long_name[65] = '\0';
  static const char no_identifier[] = "the name is no identifier of at most 64 bytes";
  EXPECT_BAD_PARAM(no_identifier, .name = NULL);
  EXPECT_BAD_PARAM(no_identifier, .name = "");
  EXPECT_BAD_PARAM(no_identifier, .name = "1a");
  EXPECT_BAD_PARAM(no_identifier, .name = "a-b");
  EXPECT_BAD_PARAM(no_identifier, .name = "a b");
  EXPECT_BAD_PARAM(no_identifier, .name = "\xc3\xa9");
  EXPECT_BAD_PARAM(no_identifier, .name = long_name);
  EXPECT_BAD_PARAM("'first': the name is used twice", .name = "first");
  EXPECT_BAD_PARAM("'x': unknown type", .name = "x", .type = PEGA_TYPE_OBJECT + 1);
  EXPECT_BAD_PARAM("'x': unknown flags", .name = "x", .flags = 32);
  EXPECT_BAD_PARAM("'x': unknown flags", .name = "x", .reserved = 1);
  EXPECT_BAD_PARAM("'x': min is greater than max", .name = "x", .type = PEGA_TYPE_INT,
                   .flags = PEGA_PARAM_RANGE, .min = 1, .max = 0);
  EXPECT_BAD_PARAM("'x': alignment is no power of two", .name = "x", .type = PEGA_TYPE_POINTER,
                   .alignment = 24);
}

static void test_shapes(void **state) {
  (void)state;
  static const char no_list[] = "shape is no list of sizes and names such as \"T, HV, 64\"";
  static const char too_many[] = "shape has too many names, or one of more than 31 bytes";
  static const struct {
    const char *shape;
    const char *why;
  } bad[] = {
      {"T,", "shape ends in a comma"},
      {"T, ", "shape ends in a comma"},
      {",T", no_list},
      {"T,,H", no_list},
      {"T H", no_list},
      {"T;H", no_list},
      {"-1", no_list},
      {"64T", no_list},
      {"T*2", no_list},
      {"(T)", no_list},
      {"\t", no_list},
      {"99999999999999999999", "shape has a size past int64"},
      {"n2345678901234567890123456789012", too_many},
      {"1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1",
       "shape has more dimensions than a tensor may have"},
  };
  for (int i = 0; i < COUNT(bad); ++i) {
    EXPECT_BAD_PARAM(bad[i].why, .name = "x", .type = PEGA_TYPE_TENSOR, .shape = bad[i].shape);
  }
  static const char *const good[] = {
      "",
      " ",
      "_",
      "0",
      "T",
      "T,T",
      " T , 64 ",
      "_x, __",
      "n234567890123456789012345678901",
      "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1",
  };
  pega_error error = PEGA_ERROR_INIT;
  for (int i = 0; i < COUNT(good); ++i) {
    const pega_param param = {.name = "x", .type = PEGA_TYPE_TENSOR, .shape = good[i]};
    pega_signature signature = PEGA_SIGNATURE_INIT;
    signature.params = &param;
    signature.num_params = 1;
    EXPECT_OK(create(&signature, &error), &error);
  }
}

/* As many parameters and as many names of sizes as there may be, and one more. */
static void test_limits(void **state) {
  (void)state;
  pega_param params[64] = {{0}};
  char names[64][8], shapes[64][16];
  pega_error error = PEGA_ERROR_INIT;
  for (int i = 0; i < 64; ++i) {
    snprintf(names[i], sizeof names[i], "p%d", i);
    snprintf(shapes[i], sizeof shapes[i], "S%d", i);
    params[i].name = names[i];
    params[i].type = PEGA_TYPE_TENSOR;
    params[i].shape = shapes[i];
  }
  pega_signature signature = PEGA_SIGNATURE_INIT;
  signature.params = params;
  signature.num_params = 64;
  EXPECT_OK(create(&signature, &error), &error);
  params[63].shape = "S63, one_more";
  EXPECT_REFUSED(signature, PEGA_ERROR_INVALID_ARGUMENT, "parameter 63 'p63'", "too many names");
}

static void expect_text(const pega_param *params, int32_t num_params, uint32_t result,
                        const char *expected) {
  pega_error error = PEGA_ERROR_INIT;
  pega_signature signature;
  pega_function_options options = support_options("t.f", &signature, params, num_params);
  signature.result = result;
  pega_function *function;
  EXPECT_OK(pega_function_create(&options, &function, &error), &error);
  assert_string_equal(pega_function_signature_text(function), expected);
  pega_function_release(function);
}

static void test_signature_text(void **state) {
  (void)state;
  const pega_param tensors[] = {
      {.name = "a", .type = PEGA_TYPE_TENSOR, .dtype = {kDLFloat, 32, 1}, .shape = "T, 64"},
      {.name = "b", .type = PEGA_TYPE_TENSOR, .device_type = kDLCUDA, .shape = ""},
      {.name = "c",
       .type = PEGA_TYPE_TENSOR,
       .flags = PEGA_PARAM_OUTPUT | PEGA_PARAM_OPTIONAL,
       .dtype = {kDLBfloat, 16, 1}},
  };
  expect_text(tensors, 3, PEGA_TYPE_TENSOR,
              "t.f(a: Tensor[float32, (T, 64)], b: Tensor[any, (), cuda], "
              "c: out Tensor[bfloat16] or None) -> Tensor");
  const pega_param numbers[] = {
      {.name = "n", .type = PEGA_TYPE_INT, .flags = PEGA_PARAM_RANGE, .min = -1, .max = 5},
      {.name = "x", .type = PEGA_TYPE_FLOAT, .flags = PEGA_PARAM_OPTIONAL},
      {.name = "p", .type = PEGA_TYPE_POINTER, .flags = PEGA_PARAM_OUTPUT},
      {.name = "s", .type = PEGA_TYPE_STREAM},
  };
  expect_text(numbers, 4, PEGA_TYPE_NONE,
              "t.f(n: int[-1..5], x: float or None, p: out pointer, s: stream) -> None");
  expect_text(numbers, 0, PEGA_TYPE_ANY, "t.f() -> any");
}

static void test_type_names(void **state) {
  (void)state;
  static const char *const names[] = {"any",      "None",  "bool",   "int",    "float", "pointer",
                                      "stream",   "dtype", "device", "string", "bytes", "Tensor",
                                      "function", "array", "map",    "object"};
  for (uint32_t type = 0; type < (uint32_t)COUNT(names); ++type) {
    assert_string_equal(pega_type_name(type), names[type]);
  }
  assert_string_equal(pega_type_name(16), "unknown");
  assert_string_equal(pega_type_name(UINT32_MAX), "unknown");
}

/* The function has a copy of everything: the caller's may change or go. */
static void test_everything_is_copied(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  char name[] = "alpha", doc[] = "what it is", shape[] = "T, 64", domain[] = "<= 0";
  char function_name[] = "t.f", function_doc[] = "what it does";
  pega_param param = {.name = name,
                      .doc = doc,
                      .type = PEGA_TYPE_TENSOR,
                      .flags = PEGA_PARAM_CONTIGUOUS,
                      .dtype = {kDLFloat, 32, 1},
                      .device_type = kDLCPU,
                      .shape = shape,
                      .alignment = 64,
                      .domain = domain};
  pega_signature signature;
  pega_function_options options = support_options(function_name, &signature, &param, 1);
  options.doc = function_doc;
  pega_function *function;
  EXPECT_OK(pega_function_create(&options, &function, &error), &error);
  char *const texts[] = {name, doc, shape, domain, function_name, function_doc};
  for (int i = 0; i < COUNT(texts); ++i) memset(texts[i], '#', strlen(texts[i]));
  memset(&param, 0x5a, sizeof param);
  memset(&signature, 0x5a, sizeof signature);
  memset(&options, 0x5a, sizeof options);

  const pega_signature *kept = pega_function_signature(function);
  assert_non_null(kept);
  assert_int_equal(kept->struct_size, sizeof(pega_signature));
  assert_int_equal(kept->param_size, sizeof(pega_param));
  assert_int_equal(kept->num_params, 1);
  assert_string_equal(kept->params[0].name, "alpha");
  assert_string_equal(kept->params[0].doc, "what it is");
  assert_string_equal(kept->params[0].shape, "T, 64");
  assert_string_equal(kept->params[0].domain, "<= 0");
  assert_int_equal(kept->params[0].type, PEGA_TYPE_TENSOR);
  assert_int_equal(kept->params[0].flags, PEGA_PARAM_CONTIGUOUS);
  assert_int_equal(kept->params[0].device_type, kDLCPU);
  assert_int_equal(kept->params[0].alignment, 64);
  assert_string_equal(pega_function_name(function), "t.f");
  assert_string_equal(pega_function_doc(function), "what it does");
  pega_function_release(function);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_signature_fields),
      cmocka_unit_test(test_param_fields),
      cmocka_unit_test(test_shapes),
      cmocka_unit_test(test_limits),
      cmocka_unit_test(test_signature_text),
      cmocka_unit_test(test_type_names),
      cmocka_unit_test(test_everything_is_copied),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
