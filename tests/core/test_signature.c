/* SPDX-License-Identifier: Apache-2.0 */
/* The check of a call's arguments: what passes, and the text of each refusal. */
#include <stdio.h>
#include <string.h>

#include "support.h"

static _Alignas(64) char memory[4096];

/* Checks one call of a function with these parameters, named t.f. */
static pega_status check(const pega_param *params, int32_t num_params, pega_error *error,
                         const pega_value *args, int32_t num_args) {
  pega_function *function = support_function("t.f", params, num_params, 0);
  const pega_status status = pega_function_check(function, args, num_args, error);
  /* A call says the same, in the same words; and NULL for the error is no other path. */
  pega_error called = PEGA_ERROR_INIT;
  pega_value result = pega_value_int(5);
  assert_int_equal(pega_function_call(function, args, num_args, &result, &called), status);
  assert_int_equal(result.kind, PEGA_NONE);
  assert_string_equal(pega_error_message(&called),
                      status == PEGA_OK ? "" : pega_error_message(error));
  assert_int_equal(pega_function_check(function, args, num_args, NULL), status);
  pega_error_clear(&called);
  pega_function_release(function);
  return status;
}

#define PARAMS(...) ((const pega_param[]){__VA_ARGS__}), COUNT(((const pega_param[]){__VA_ARGS__}))

/* PASSES(parameters in PARAMS(), arguments...) and so on. */
#define PASSES(params, ...)                                        \
  do {                                                             \
    pega_error error_ = PEGA_ERROR_INIT;                           \
    EXPECT_OK(check(params, &error_, ARGS(__VA_ARGS__)), &error_); \
  } while (0)
#define FAILS(params, status, text, ...)                                                    \
  do {                                                                                      \
    pega_error error_ = PEGA_ERROR_INIT;                                                    \
    EXPECT_ERROR(check(params, &error_, ARGS(__VA_ARGS__)), &error_, status, "t.f: ", text, \
                 "; call it as t.f(");                                                      \
    pega_error_clear(&error_);                                                              \
  } while (0)

static void test_count(void **state) {
  (void)state;
  const pega_value args[3] = {pega_value_int(1), pega_value_int(2), pega_value_int(3)};
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_ERROR(check(PARAMS({.name = "a"}, {.name = "b"}), &error, args, 1), &error,
               PEGA_ERROR_ARGUMENT_COUNT,
               "t.f: expected 2 arguments, got 1; call it as t.f(a: any, b: any) -> None");
  EXPECT_ERROR(check(PARAMS({.name = "a"}, {.name = "b"}), &error, args, 3), &error,
               PEGA_ERROR_ARGUMENT_COUNT, "t.f: expected 2 arguments, got 3");
  EXPECT_ERROR(check(PARAMS({.name = "a"}), &error, NULL, 0), &error, PEGA_ERROR_ARGUMENT_COUNT,
               "t.f: expected 1 argument, got 0");
  const pega_param none = {.name = "unused"};
  EXPECT_ERROR(check(&none, 0, &error, args, 1), &error, PEGA_ERROR_ARGUMENT_COUNT,
               "t.f: expected 0 arguments, got 1");
  EXPECT_OK(check(&none, 0, &error, NULL, 0), &error);
  pega_error_clear(&error);
}

/* Each parameter type against each kind of value. */
static void test_types(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  const DLTensor tensor = TENSOR(memory, FLOAT32, 2);
  pega_function *function = support_function("t.g", NULL, 0, 0);
  pega_value values[PEGA_OBJECT + 1] = {
      pega_value_none(),           pega_value_bool(true),      pega_value_int(1),
      pega_value_uint(1),          pega_value_float(1),        pega_value_pointer(memory),
      pega_value_dtype(BFLOAT16),  pega_value_device(CPU),     pega_value_string("text"),
      pega_value_bytes("byte", 4), pega_value_tensor(&tensor), pega_value_function(function),
  };
  EXPECT_OK(pega_array_create(NULL, 0, &values[PEGA_ARRAY], &error), &error);
  EXPECT_OK(pega_map_create(NULL, NULL, 0, &values[PEGA_MAP], &error), &error);
  EXPECT_OK(pega_object_create("t.T", NULL, NULL, NULL, &values[PEGA_OBJECT], &error), &error);
#define BIT(kind) (1u << (kind))
  static const struct {
    uint32_t type;
    uint32_t kinds;
    const char *expected;
  } rows[] = {
      {PEGA_TYPE_ANY, UINT32_MAX, ""},
      {PEGA_TYPE_NONE, BIT(PEGA_NONE), "None"},
      {PEGA_TYPE_BOOL, BIT(PEGA_BOOL), "bool"},
      {PEGA_TYPE_INT, BIT(PEGA_INT) | BIT(PEGA_UINT), "int"},
      {PEGA_TYPE_FLOAT, BIT(PEGA_FLOAT) | BIT(PEGA_INT) | BIT(PEGA_UINT), "float"},
      {PEGA_TYPE_POINTER, BIT(PEGA_POINTER) | BIT(PEGA_INT) | BIT(PEGA_UINT),
       "a pointer (or int >= 0)"},
      {PEGA_TYPE_STREAM, BIT(PEGA_POINTER) | BIT(PEGA_INT) | BIT(PEGA_UINT),
       "a stream (pointer or int >= 0)"},
      {PEGA_TYPE_DTYPE, BIT(PEGA_DTYPE), "dtype"},
      {PEGA_TYPE_DEVICE, BIT(PEGA_DEVICE), "device"},
      {PEGA_TYPE_STRING, BIT(PEGA_STRING), "string"},
      {PEGA_TYPE_BYTES, BIT(PEGA_BYTES), "bytes"},
      {PEGA_TYPE_TENSOR, BIT(PEGA_TENSOR), "Tensor"},
      {PEGA_TYPE_FUNCTION, BIT(PEGA_FUNCTION), "function"},
      {PEGA_TYPE_ARRAY, BIT(PEGA_ARRAY), "array"},
      {PEGA_TYPE_MAP, BIT(PEGA_MAP), "map"},
      {PEGA_TYPE_OBJECT, BIT(PEGA_OBJECT), "object"},
  };
#undef BIT
  for (int row = 0; row < COUNT(rows); ++row) {
    for (uint32_t kind = 0; kind <= PEGA_OBJECT; ++kind) {
      if ((rows[row].kinds >> kind & 1) != 0) {
        PASSES(PARAMS({.name = "x", .type = rows[row].type}), values[kind]);
        continue;
      }
      char shown[128], text[256];
      pega_value_format(&values[kind], shown, sizeof shown);
      /* The text of these begins with what they are. */
      const bool named = kind == PEGA_NONE || kind == PEGA_POINTER || kind >= PEGA_FUNCTION;
      snprintf(text, sizeof text, "argument 0 'x': expected %s, got %s%s%s", rows[row].expected,
               named ? "" : pega_kind_name(kind), named ? "" : " ", shown);
      FAILS(PARAMS({.name = "x", .type = rows[row].type}), PEGA_ERROR_TYPE, text, values[kind]);
    }
  }
  for (uint32_t kind = PEGA_FUNCTION; kind <= PEGA_OBJECT; ++kind)
    pega_value_release(&values[kind]);
}

static void test_optional(void **state) {
  (void)state;
  for (uint32_t type = PEGA_TYPE_ANY; type <= PEGA_TYPE_OBJECT; ++type) {
    PASSES(PARAMS({.name = "x", .type = type, .flags = PEGA_PARAM_OPTIONAL}), pega_value_none());
  }
  FAILS(PARAMS({.name = "x", .type = PEGA_TYPE_INT, .flags = PEGA_PARAM_OPTIONAL}), PEGA_ERROR_TYPE,
        "argument 0 'x': expected int, got bool true", pega_value_bool(true));
  /* None binds no size: the next tensor does. */
  const DLTensor three = TENSOR(memory, FLOAT32, 3);
  const DLTensor four = TENSOR(memory, FLOAT32, 4);
  FAILS(PARAMS({.name = "a", .type = PEGA_TYPE_TENSOR, .flags = PEGA_PARAM_OPTIONAL, .shape = "T"},
               {.name = "b", .type = PEGA_TYPE_TENSOR, .shape = "T"},
               {.name = "c", .type = PEGA_TYPE_TENSOR, .shape = "T"}),
        PEGA_ERROR_SHAPE,
        "argument 2 'c': expected shape (T), got (4): shape[0] must be T = 3 as in argument 1 'b'",
        pega_value_none(), pega_value_tensor(&three), pega_value_tensor(&four));
}

static void test_int_range(void **state) {
  (void)state;
#define RANGE(low, high) \
  PARAMS({.name = "n", .type = PEGA_TYPE_INT, .flags = PEGA_PARAM_RANGE, .min = low, .max = high})
  PASSES(RANGE(-2, 5), pega_value_int(-2));
  PASSES(RANGE(-2, 5), pega_value_int(5));
  PASSES(RANGE(-2, 5), pega_value_uint(5));
  PASSES(RANGE(7, 7), pega_value_int(7));
  PASSES(RANGE(INT64_MIN, INT64_MAX), pega_value_int(INT64_MIN));
  FAILS(RANGE(-2, 5), PEGA_ERROR_RANGE,
        "argument 0 'n': expected a value from -2 to 5, got int 6; call it as t.f(n: int[-2..5])",
        pega_value_int(6));
  FAILS(RANGE(-2, 5), PEGA_ERROR_RANGE, "expected a value from -2 to 5, got int -3",
        pega_value_int(-3));
  FAILS(RANGE(-2, 5), PEGA_ERROR_RANGE, "got uint 6", pega_value_uint(6));
  FAILS(RANGE(INT64_MIN, INT64_MAX), PEGA_ERROR_RANGE, "got uint 9223372036854775808",
        pega_value_uint((uint64_t)INT64_MAX + 1));
#undef RANGE
  PASSES(PARAMS({.name = "n", .type = PEGA_TYPE_INT}), pega_value_int(INT64_MIN));
  PASSES(PARAMS({.name = "n", .type = PEGA_TYPE_INT}), pega_value_uint(INT64_MAX));
  FAILS(PARAMS({.name = "n", .type = PEGA_TYPE_INT}), PEGA_ERROR_RANGE,
        "argument 0 'n': expected a value that fits in int64, got uint 18446744073709551615",
        pega_value_uint(UINT64_MAX));
}

static void test_pointer(void **state) {
  (void)state;
  const pega_value nulls[] = {pega_value_pointer(NULL), pega_value_int(0), pega_value_uint(0)};
  static const uint32_t types[] = {PEGA_TYPE_POINTER, PEGA_TYPE_STREAM};
  for (int t = 0; t < 2; ++t) {
    for (int i = 0; i < 3; ++i) {
      PASSES(PARAMS({.name = "p", .type = types[t], .alignment = 16}), nulls[i]);
      FAILS(PARAMS({.name = "p", .type = types[t], .flags = PEGA_PARAM_NONNULL}), PEGA_ERROR_RANGE,
            "argument 0 'p': expected a pointer that is not NULL, got NULL", nulls[i]);
    }
    PASSES(PARAMS({.name = "p", .type = types[t]}), pega_value_int(INT64_MAX));
    PASSES(PARAMS({.name = "p", .type = types[t]}), pega_value_uint(UINT64_MAX));
  }
  FAILS(PARAMS({.name = "p", .type = PEGA_TYPE_POINTER}), PEGA_ERROR_RANGE,
        "argument 0 'p': expected a pointer (or int >= 0), got int -1", pega_value_int(-1));
  FAILS(PARAMS({.name = "s", .type = PEGA_TYPE_STREAM}), PEGA_ERROR_RANGE,
        "argument 0 's': expected a stream (pointer or int >= 0), got int -5", pega_value_int(-5));
  PASSES(PARAMS({.name = "p", .type = PEGA_TYPE_POINTER, .alignment = 16}), pega_value_int(0x30));
  FAILS(PARAMS({.name = "p", .type = PEGA_TYPE_POINTER, .alignment = 16}), PEGA_ERROR_LAYOUT,
        "argument 0 'p': expected an address aligned to 16 bytes, got 0x38", pega_value_uint(0x38));
}

/* A value that no maker makes: only a host that fills in fields by hand has one. */
static void test_malformed_values(void **state) {
  (void)state;
  pega_value bad[8];
  for (int i = 0; i < COUNT(bad); ++i) bad[i] = pega_value_none();
  bad[0].kind = PEGA_OBJECT + 1;
  bad[1].kind = UINT16_MAX;
  bad[2] = pega_value_int(5);
  bad[2].flags = PEGA_VALUE_COUNTED;
  bad[3] = pega_value_int(5);
  bad[3].flags = 2;
  bad[4].kind = PEGA_TENSOR;
  bad[5].kind = PEGA_STRING;
  bad[5].size = 3;
  bad[6].kind = PEGA_FUNCTION;
  bad[6].as.pointer = memory;
  bad[7].kind = PEGA_ARRAY;
  bad[7].flags = PEGA_VALUE_COUNTED;
  for (int i = 0; i < COUNT(bad); ++i) {
    char text[96];
    snprintf(text, sizeof text, "argument 0 'x': malformed value (kind %u, flags %u, payload 0x",
             bad[i].kind, bad[i].flags);
    for (uint32_t type = PEGA_TYPE_ANY; type <= PEGA_TYPE_OBJECT; ++type) {
      FAILS(PARAMS({.name = "x", .type = type}), PEGA_ERROR_INVALID_ARGUMENT, text, bad[i]);
    }
  }
  pega_value empty = pega_value_none();
  empty.kind = PEGA_STRING;
  PASSES(PARAMS({.name = "x", .type = PEGA_TYPE_STRING}), empty);
}

static void test_texts_stay_readable(void **state) {
  (void)state;
  static char text[1 << 20];
  memset(text, 'x', sizeof text - 1);
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_ERROR(
      check(PARAMS({.name = "n", .type = PEGA_TYPE_INT}), &error, ARGS(pega_value_string(text))),
      &error, PEGA_ERROR_TYPE, "expected int, got string \"xxx", "x...; call it as");
  assert_true(strlen(pega_error_message(&error)) < 500);
  pega_error_clear(&error);
  /* The first argument that is wrong is the one that is named. */
  FAILS(PARAMS({.name = "a"}, {.name = "b", .type = PEGA_TYPE_INT},
               {.name = "c", .type = PEGA_TYPE_INT}),
        PEGA_ERROR_TYPE, "argument 1 'b'", pega_value_none(), pega_value_none(), pega_value_none());
  /* A function without a name is called "function". */
  const pega_param param = {.name = "x", .type = PEGA_TYPE_INT};
  pega_function *function = support_function(NULL, &param, 1, 0);
  EXPECT_ERROR(pega_function_check(function, ARGS(pega_value_none()), &error), &error,
               PEGA_ERROR_TYPE,
               "function: argument 0 'x': expected int, got None; call it as function(x: int)");
  pega_function_release(function);
  pega_error_clear(&error);
}

/* Text of an argument that is shown cut must stay whole characters. */
static void test_shown_text_is_cut_between_characters(void **state) {
  (void)state;
  for (int shift = 0; shift < 3; ++shift) {
    char text[600] = "";
    memset(text, 'a', (size_t)shift);
    while (strlen(text) < 500) strcat(text, "\xe2\x82\xac");
    pega_error error = PEGA_ERROR_INIT;
    EXPECT_ERROR(
        check(PARAMS({.name = "n", .type = PEGA_TYPE_INT}), &error, ARGS(pega_value_string(text))),
        &error, PEGA_ERROR_TYPE, "\xe2\x82\xac...; call it as");
    pega_error_clear(&error);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_count),
      cmocka_unit_test(test_types),
      cmocka_unit_test(test_optional),
      cmocka_unit_test(test_int_range),
      cmocka_unit_test(test_pointer),
      cmocka_unit_test(test_malformed_values),
      cmocka_unit_test(test_texts_stay_readable),
      cmocka_unit_test(test_shown_text_is_cut_between_characters),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
