/* SPDX-License-Identifier: Apache-2.0 */
/* Plain C libraries through their signature files: what arrives, what comes back, what is refused. */
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <pega/artifact.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../core/allocations.h"
#include "../core/support.h"

static char signature_path[64]; /* of the file that is written before each opening */

static void write_signature(const char *text, size_t size) {
  FILE *file = fopen(signature_path, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(text, 1, size, file), size);
  assert_int_equal(fclose(file), 0);
}

static pega_status open_bytes(const char *library, const char *text, size_t size,
                              pega_artifact **out, pega_error *error) {
  pega_artifact_options options = PEGA_ARTIFACT_OPTIONS_INIT;
  options.path = library;
  options.signature_path = signature_path;
  write_signature(text, size);
  return pega_artifact_open(&options, out, error);
}

static pega_artifact *opened(const char *library, const char *text) {
  pega_error error = PEGA_ERROR_INIT;
  pega_artifact *artifact = NULL;
  EXPECT_OK(open_bytes(library, text, strlen(text), &artifact, &error), &error);
  return artifact;
}

/* A function of a signature file with this one. `members` are all but its name. */
static pega_function *function_of(const char *library, const char *members) {
  char text[8192];
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function = NULL;
  snprintf(text, sizeof text, "{\"schema_version\": 1, \"functions\": [{\"name\": \"f\", %s}]}",
           members);
  pega_artifact *artifact = opened(library, text);
  EXPECT_OK(pega_artifact_get(artifact, "f", &function, &error), &error);
  pega_artifact_release(artifact); /* the function lives on */
  return function;
}

static pega_function *of_fixture(const char *members) { return function_of(C_FIXTURE, members); }

static pega_value call(pega_function *function, const pega_value *args, int32_t count) {
  pega_error error = PEGA_ERROR_INIT;
  pega_value result = pega_value_none();
  EXPECT_OK(pega_function_call(function, args, count, &result, &error), &error);
  return result;
}

/* What the fixture's last call got. */
static void expect_got(const char *expected) {
  pega_function *function =
      of_fixture("\"symbol\": \"fixture_got\", \"params\": [], \"returns\": {\"c\": \"cstring\"}");
  pega_value result = call(function, NULL, 0);
  assert_string_equal(pega_value_as_string(&result, NULL), expected);
  pega_value_release(&result);
  pega_function_release(function);
}

/* ---- What arrives ---- */

static void test_nothing(void **state) {
  (void)state;
  pega_function *function = of_fixture(
      "\"symbol\": \"fixture_nothing\", \"doc\": \"Does nothing\", \"params\": [], "
      "\"returns\": \"void\"");
  assert_int_equal(call(function, NULL, 0).kind, PEGA_NONE);
  expect_got("nothing");
  assert_string_equal(pega_function_doc(function), "Does nothing");
  assert_string_equal(pega_function_signature_text(function), "f() -> None");
  pega_function_release(function);
}

#define INTS                                                                                       \
  "\"symbol\": \"fixture_ints\", \"returns\": \"void\", \"params\": ["                             \
  "{\"name\": \"a\", \"c\": \"i8\"}, {\"name\": \"b\", \"c\": \"i16\"}, {\"name\": \"c\", \"c\": " \
  "\"i32\"}, {\"name\": \"d\", \"c\": \"i64\"}, {\"name\": \"e\", \"c\": \"u8\"}, {\"name\": "     \
  "\"f\", \"c\": \"u16\"}, {\"name\": \"g\", \"c\": \"u32\"}, {\"name\": \"h\", \"c\": \"u64\"}, " \
  "{\"name\": \"i\", \"c\": \"size\"}, {\"name\": \"j\", \"c\": \"bool\"}]"

static void test_integers(void **state) {
  (void)state;
  static const int64_t least[] = {INT8_MIN, INT16_MIN, INT32_MIN, INT64_MIN, 0, 0, 0, 0, 0};
  static const int64_t most[] = {INT8_MAX,   INT16_MAX,  INT32_MAX, INT64_MAX, UINT8_MAX,
                                 UINT16_MAX, UINT32_MAX, INT64_MAX, INT64_MAX};
  pega_function *function = of_fixture(INTS);
  pega_error error = PEGA_ERROR_INIT;
  pega_value args[10];
  for (int i = 0; i < 9; ++i) args[i] = pega_value_int(least[i]);
  args[9] = pega_value_bool(true);
  call(function, args, 10);
  expect_got("-128 -32768 -2147483648 -9223372036854775808 0 0 0 0 0 1");
  for (int i = 0; i < 9; ++i) args[i] = pega_value_int(most[i]);
  args[9] = pega_value_bool(false);
  call(function, args, 10);
  expect_got(
      "127 32767 2147483647 9223372036854775807 255 65535 4294967295 9223372036854775807 "
      "9223372036854775807 0");
  for (int i = 0; i < 9; ++i) {
    const char *const name =
        (const char *[]){"'a'", "'b'", "'c'", "'d'", "'e'", "'f'", "'g'", "'h'", "'i'"}[i];
    if (most[i] != INT64_MAX) {
      args[i] = pega_value_int(most[i] + 1);
      EXPECT_ERROR(pega_function_call(function, args, 10, NULL, &error), &error, PEGA_ERROR_RANGE,
                   "f", name);
    }
    if (least[i] != INT64_MIN) {
      args[i] = pega_value_int(least[i] - 1);
      EXPECT_ERROR(pega_function_call(function, args, 10, NULL, &error), &error, PEGA_ERROR_RANGE,
                   "f", name);
    }
    args[i] = pega_value_uint((uint64_t)INT64_MAX + 1);
    EXPECT_ERROR(pega_function_call(function, args, 10, NULL, &error), &error, PEGA_ERROR_RANGE,
                 name);
    args[i] = pega_value_float(1);
    EXPECT_ERROR(pega_function_call(function, args, 10, NULL, &error), &error, PEGA_ERROR_TYPE,
                 name);
    args[i] = pega_value_int(0);
  }
  EXPECT_ERROR(pega_function_call(function, args, 9, NULL, &error), &error,
               PEGA_ERROR_ARGUMENT_COUNT, "f");
  pega_error_clear(&error);
  pega_function_release(function);
}

/* Parameters of the types in `kinds`, named a, b, ... */
static const char *params_of(const char *const *kinds, int32_t count, char *room) {
  char *at = room;
  for (int32_t i = 0; i < count; ++i) {
    at += sprintf(at, "%s{\"name\": \"%c\", \"c\": \"%s\"}", i == 0 ? "" : ", ", 'a' + i, kinds[i]);
  }
  return room;
}

static void test_more_than_registers(void **state) {
  (void)state;
  static const char *const kinds[] = {"f64", "i32", "f32", "pointer", "f64", "i8",     "f32", "i64",
                                      "f64", "u16", "f32", "i32",     "f64", "u8",     "f32", "i64",
                                      "f64", "f32", "i32", "f64",     "f32", "cstring"};
  char room[2048], members[4096];
  snprintf(members, sizeof members,
           "\"symbol\": \"fixture_mixed\", \"returns\": \"void\", \"params\": [%s]",
           params_of(kinds, COUNT(kinds), room));
  pega_function *function = of_fixture(members);
  const pega_value args[] = {pega_value_float(1.5),   pega_value_int(-2),
                             pega_value_float(3.25),  pega_value_pointer((void *)0x1234),
                             pega_value_int(5),       pega_value_int(-6),
                             pega_value_float(7.5),   pega_value_int(-8000000000),
                             pega_value_float(-9.5),  pega_value_int(10),
                             pega_value_float(11.5),  pega_value_int(-12),
                             pega_value_float(13.5),  pega_value_int(14),
                             pega_value_float(-15.5), pega_value_int(16),
                             pega_value_float(17.5),  pega_value_uint(18),
                             pega_value_int(-19),     pega_value_float(20.5),
                             pega_value_float(21.5),  pega_value_string("the end")};
  call(function, args, COUNT(args));
  expect_got(
      "1.5 -2 3.25 0x1234 5 -6 7.5 -8000000000 -9.5 10 11.5 -12 13.5 14 -15.5 16 17.5 18 "
      "-19 20.5 21.5 the end");
  pega_function_release(function);
}

static void test_fixed_and_defaults(void **state) {
  (void)state;
  pega_function *function = of_fixture(
      "\"symbol\": \"fixture_ints\", \"returns\": \"void\", \"params\": ["
      "{\"name\": \"a\", \"c\": \"i8\", \"value\": -5}, "
      "{\"name\": \"b\", \"c\": \"i16\", \"value\": \"n * 2 + 1\"}, "
      "{\"name\": \"n\", \"c\": \"i32\", \"min\": 0, \"max\": 20000}, "
      "{\"name\": \"d\", \"c\": \"i64\", \"default\": -7}, "
      "{\"name\": \"e\", \"c\": \"u8\", \"type\": \"bool\"}, "
      "{\"name\": \"f\", \"c\": \"u16\", \"value\": true}, "
      "{\"name\": \"g\", \"c\": \"u32\", \"value\": \"cdiv(n, 3)\"}, "
      "{\"name\": \"h\", \"c\": \"u64\", \"value\": \"n - 1\"}, "
      "{\"name\": \"i\", \"c\": \"size\", \"default\": 9}, "
      "{\"name\": \"j\", \"c\": \"bool\", \"value\": \"n > 3\"}]");
  pega_error error = PEGA_ERROR_INIT;
  assert_string_equal(pega_function_signature_text(function),
                      "f(n: int[0..20000], d: int or None, e: bool, i: int[0..9223372036854775807] "
                      "or None) -> None");
  call(function, ARGS(pega_value_int(10), pega_value_none(), pega_value_bool(true)));
  expect_got("-5 21 10 -7 1 1 4 9 9 1");
  call(function,
       ARGS(pega_value_int(1), pega_value_int(2), pega_value_bool(false), pega_value_int(3)));
  expect_got("-5 3 1 2 0 1 1 0 3 0");
  /* What is computed has to fit, too. */
  EXPECT_ERROR(pega_function_call(
                   function, ARGS(pega_value_int(16384), pega_value_none(), pega_value_bool(true)),
                   NULL, &error),
               &error, PEGA_ERROR_RANGE, "f: 'b' of fixture_ints = n * 2 + 1 = 32769", "i16",
               "-32768 to 32767");
  EXPECT_ERROR(pega_function_call(function,
                                  ARGS(pega_value_int(0), pega_value_none(), pega_value_bool(true)),
                                  NULL, &error),
               &error, PEGA_ERROR_RANGE, "'h'", "n - 1 = -1", "u64");
  pega_error_clear(&error);
  pega_function_release(function);
}

static void test_texts(void **state) {
  (void)state;
  pega_function *function = of_fixture(
      "\"symbol\": \"fixture_text\", \"returns\": {\"c\": \"cstring\"}, \"params\": "
      "[{\"name\": \"x\", \"c\": \"cstring\", \"optional\": true}]");
  pega_error error = PEGA_ERROR_INIT;
  static char big[5000];
  memset(big, 'x', sizeof big);
  /* No NUL follows the text. */
  pega_value result = call(function, ARGS(pega_value_string_n("abcdef", 3)));
  size_t size = 0;
  assert_string_equal(pega_value_as_string(&result, &size), "abc");
  assert_int_equal(size, 3);
  pega_value_release(&result);
  result = call(function, ARGS(pega_value_string("")));
  assert_string_equal(pega_value_as_string(&result, NULL), "");
  pega_value_release(&result);
  result = call(function, ARGS(pega_value_string_n(big, 4095)));
  pega_value_as_string(&result, &size);
  assert_int_equal(size, 4095);
  pega_value_release(&result);
  assert_int_equal(call(function, ARGS(pega_value_none())).kind, PEGA_NONE);
  EXPECT_ERROR(pega_function_call(function, ARGS(pega_value_string_n("a\0b", 3)), NULL, &error),
               &error, PEGA_ERROR_RANGE, "f: argument 'x'", "NUL");
  EXPECT_ERROR(pega_function_call(function, ARGS(pega_value_string_n(big, 4096)), NULL, &error),
               &error, PEGA_ERROR_RANGE, "f: argument 'x'", "4096");
  pega_error_clear(&error);
  pega_function_release(function);
}

/* ---- What comes back ---- */

static void test_results(void **state) {
  (void)state;
  static const char *const types[] = {"i8",  "i16", "i32", "i64", "u8",
                                      "u16", "u32", "f32", "f64", "bool"};
  const pega_value values[] = {
      pega_value_int(-128),       pega_value_int(-32768),     pega_value_int(INT32_MIN),
      pega_value_int(INT64_MIN),  pega_value_int(255),        pega_value_int(65535),
      pega_value_int(UINT32_MAX), pega_value_float(-0.15625), pega_value_float(-1e300),
      pega_value_bool(true),
  };
  for (int32_t i = 0; i < COUNT(types); ++i) {
    char members[512];
    snprintf(members, sizeof members,
             "\"symbol\": \"fixture_%s\", \"returns\": {\"c\": \"%s\"}, \"params\": "
             "[{\"name\": \"x\", \"c\": \"%s\"}]",
             types[i], types[i], types[i]);
    pega_function *function = of_fixture(members);
    const pega_value got = call(function, &values[i], 1);
    assert_int_equal(got.kind, values[i].kind);
    assert_int_equal(got.as.u64, values[i].as.u64);
    pega_function_release(function);
  }
  pega_function *function =
      of_fixture("\"symbol\": \"fixture_greatest\", \"returns\": {\"c\": \"u64\"}, \"params\": []");
  pega_value result = call(function, NULL, 0);
  assert_int_equal(result.kind, PEGA_UINT);
  assert_true(result.as.u64 == UINT64_MAX);
  pega_function_release(function);
  function = of_fixture(
      "\"symbol\": \"fixture_pointer\", \"returns\": {\"c\": \"pointer\"}, "
      "\"params\": [{\"name\": \"x\", \"c\": \"pointer\", \"optional\": true}]");
  result = call(function, ARGS(pega_value_pointer((void *)0x1234567890)));
  assert_int_equal(result.kind, PEGA_POINTER);
  assert_ptr_equal(result.as.pointer, (void *)0x1234567890);
  result = call(function, ARGS(pega_value_none()));
  assert_ptr_equal(result.as.pointer, NULL);
  pega_function_release(function);
}

static void test_float_past_float(void **state) {
  (void)state;
  pega_function *function = of_fixture(
      "\"symbol\": \"fixture_f32\", \"returns\": {\"c\": \"f32\"}, "
      "\"params\": [{\"name\": \"x\", \"c\": \"f32\"}]");
  assert_true(isinf(call(function, ARGS(pega_value_float(1e300))).as.f64));
  assert_true(isnan(call(function, ARGS(pega_value_float((double)NAN))).as.f64));
  assert_true(call(function, ARGS(pega_value_int(3))).as.f64 == 3);
  pega_function_release(function);
}

/* ---- Tensors ---- */

#define SCALE                                                                                    \
  "\"symbol\": \"fixture_scale\", \"returns\": {\"c\": \"i32\", \"status\": \"own\"}, "          \
  "\"params\": [{\"name\": \"x\", \"c\": \"pointer\", \"type\": \"Tensor\", \"dtype\": "         \
  "\"float32\", \"shape\": \"R, C\", \"contiguous\": false}, {\"name\": \"y\", \"c\": "          \
  "\"pointer\", \"type\": \"Tensor\", \"dtype\": \"float32\", \"shape\": \"R, C\", \"output\": " \
  "true}, {\"name\": \"rows\", \"c\": \"i32\", \"value\": \"R\"}, {\"name\": \"cols\", \"c\": "  \
  "\"i32\", \"value\": \"shape(y, 1)\"}, {\"name\": \"stride\", \"c\": \"i64\", \"value\": "     \
  "\"stride(x, 0)\"}, {\"name\": \"a\", \"c\": \"f32\", \"default\": 2}]"

static void test_tensors(void **state) {
  (void)state;
  pega_function *function = of_fixture(SCALE);
  pega_error error = PEGA_ERROR_INIT;
  float in[] = {1, 2, 3, 4, 5, 6, 7, 8}, out[6] = {0};
  DLTensor x = TENSOR(in, FLOAT32, 2, 3), y = TENSOR(out, FLOAT32, 2, 3);
  assert_string_equal(pega_function_signature_text(function),
                      "f(x: Tensor[float32, (R, C), cpu], y: out Tensor[float32, (R, C), cpu], a: "
                      "float or None) -> None");
  call(function, ARGS(pega_value_tensor(&x), pega_value_tensor(&y)));
  expect_got("2 3 3");
  assert_true(out[5] == 12);
  x.strides = (int64_t[]){4, 1};
  x.byte_offset = 4;
  call(function, ARGS(pega_value_tensor(&x), pega_value_tensor(&y), pega_value_float(-1)));
  expect_got("2 3 4");
  assert_true(out[0] == -2 && out[5] == -8);
  y.strides = (int64_t[]){1, 2};
  EXPECT_ERROR(pega_function_call(function, ARGS(pega_value_tensor(&x), pega_value_tensor(&y)),
                                  NULL, &error),
               &error, PEGA_ERROR_LAYOUT, "f", "'y'");
  y.strides = NULL;
  y.device.device_type = kDLCUDA;
  EXPECT_ERROR(pega_function_call(function, ARGS(pega_value_tensor(&x), pega_value_tensor(&y)),
                                  NULL, &error),
               &error, PEGA_ERROR_DEVICE, "f", "'y'");
  y.device.device_type = kDLCPU;
  y.shape = SHAPE(3, 3);
  EXPECT_ERROR(pega_function_call(function, ARGS(pega_value_tensor(&x), pega_value_tensor(&y)),
                                  NULL, &error),
               &error, PEGA_ERROR_SHAPE, "f", "'y'");
  /* A size that does not fit its type: no memory is touched for its check. */
  DLTensor many = TENSOR(in, FLOAT32, INT64_C(1) << 32, 0);
  EXPECT_ERROR(
      pega_function_call(function, ARGS(pega_value_tensor(&many), pega_value_tensor(&many)), NULL,
                         &error),
      &error, PEGA_ERROR_RANGE, "'rows' of fixture_scale", "4294967296", "i32");
  pega_error_clear(&error);
  pega_function_release(function);
}

#define FIVE(constraints)                                                                               \
  "\"symbol\": \"fixture_five\", \"returns\": {\"c\": \"i32\"}, \"params\": [{\"name\": \"a\", \"c\": " \
  "\"pointer\", \"type\": \"Tensor\", \"shape\": \"R, 3\", \"contiguous\": false}, {\"name\": \"b\", "  \
  "\"c\": \"pointer\"}, {\"name\": \"c\", \"c\": \"i32\"}, {\"name\": \"d\", \"c\": \"f32\"}, "         \
  "{\"name\": \"e\", \"c\": \"pointer\", \"optional\": true}], \"constraints\": [" constraints "]"

static void test_constraints(void **state) {
  (void)state;
  static const struct {
    const char *members;
    int64_t rows, c;
    pega_status status; /* PEGA_OK: it is called */
    const char *what, *got;
  } rows[] = {
      {FIVE(""), 2, 0, PEGA_OK, "", ""},
      {FIVE("\"c % 2 == 0\", \"R * c < 10\""), 2, 4, PEGA_OK, "", ""},
      {FIVE("\"c % 2 == 0\", \"R * c < 10\""), 2, 3, PEGA_ERROR_RANGE,
       "f: expected c % 2 == 0, got c = 3;", "not called"},
      {FIVE("\"c % 2 == 0\", \"R * c < 10\""), 5, 2, PEGA_ERROR_SHAPE,
       "f: expected R * c < 10, got R = 5, c = 2;", ""},
      {FIVE("\"R + c * R == -1 or c + R == 0\""), 5, -4, PEGA_ERROR_SHAPE, "got R = 5, c = -4;",
       ""},
      {FIVE("\"shape(a, 1) == 4\""), 5, 0, PEGA_ERROR_SHAPE, "got shape(a, 1) = 3;", ""},
      {FIVE("\"stride(a, 0) == c\""), 5, 4, PEGA_ERROR_RANGE, "got stride(a, 0) = 3, c = 4;", ""},
      {FIVE("\"stride(a, 0) == c\""), 5, 3, PEGA_OK, "", ""},
      {FIVE("\"b % 256 == 16 and e == 0\""), 5, 0, PEGA_ERROR_RANGE, "got b = 0x1234, e = 0x0;",
       ""},
      {FIVE("\"8 / c == 4\""), 5, 0, PEGA_ERROR_RANGE, "f: a constraint: expression '8 / c == 4'",
       "division by zero"},
      {FIVE("\"1 == 2\""), 5, 0, PEGA_ERROR_RANGE, "expected 1 == 2, got 0;", ""},
  };
  float memory[15] = {0};
  for (int32_t i = 0; i < COUNT(rows); ++i) {
    pega_error error = PEGA_ERROR_INIT;
    pega_value result = pega_value_none();
    DLTensor a = TENSOR(memory, FLOAT32, rows[i].rows, 3);
    pega_function *function = of_fixture(rows[i].members);
    const pega_status status =
        pega_function_call(function,
                           ARGS(pega_value_tensor(&a), pega_value_pointer((void *)0x1234),
                                pega_value_int(rows[i].c), pega_value_float(0)),
                           &result, &error);
    if (rows[i].status == PEGA_OK) {
      EXPECT_OK(status, &error);
    } else {
      EXPECT_ERROR(status, &error, rows[i].status, rows[i].what, rows[i].got);
      assert_int_equal(result.kind, PEGA_NONE);
    }
    pega_error_clear(&error);
    pega_function_release(function);
  }
}

/* Raw and tensor functions of one symbol, listed by their names. */
static void test_two_functions_of_a_symbol(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_value names;
  char text[256];
  pega_artifact *artifact = opened(
      C_FIXTURE,
      "{\"$schema\": \"x\", \"schema_version\": 1, \"doc\": \"d\", \"uses_cuda\": false, "
      "\"requires\": {\"libraries\": []}, \"functions\": ["
      "{\"name\": \"b.raw\", \"symbol\": \"fixture_pointer\", \"params\": [{\"name\": \"x\", "
      "\"c\": \"pointer\"}], \"returns\": {\"c\": \"pointer\"}}, "
      "{\"name\": \"a.tensor\", \"symbol\": \"fixture_pointer\", \"params\": [{\"name\": "
      "\"x\", \"c\": \"pointer\", \"type\": \"Tensor\"}], \"returns\": {\"c\": "
      "\"pointer\"}}, {\"name\": \"fixture_nothing\", \"params\": [], \"returns\": "
      "\"void\"}]}");
  EXPECT_OK(pega_artifact_list(artifact, &names, &error), &error);
  pega_value_format(&names, text, sizeof text);
  assert_string_equal(text, "[\"a.tensor\", \"b.raw\", \"fixture_nothing\"]");
  pega_value_release(&names);
  assert_string_equal(pega_artifact_format(artifact), "C library");
  pega_function *function = NULL;
  EXPECT_OK(pega_artifact_get(artifact, "a.tensor", &function, &error), &error);
  char memory[8];
  DLTensor tensor = TENSOR(memory, DTYPE(kDLInt, 8, 1), 4);
  tensor.byte_offset = 3;
  assert_ptr_equal(call(function, ARGS(pega_value_tensor(&tensor))).as.pointer, memory + 3);
  pega_function_release(function);
  EXPECT_ERROR(pega_artifact_get(artifact, "b.row", &function, &error), &error,
               PEGA_ERROR_NOT_FOUND, "b.row", "b.raw");
  pega_error_clear(&error);
  pega_artifact_release(artifact);
}

/* ---- Failures of foreign code ---- */

static void test_statuses(void **state) {
  (void)state;
  static const struct {
    const char *returns;
    int64_t code;
    pega_status status;
    const char *text, *more;
  } rows[] = {
      {"\"own\"", 7, PEGA_ERROR_CALLEE, "fixture_status", "returned 7"},
      {"\"own\"", -7, PEGA_ERROR_CALLEE, "fixture_status", "returned -7"},
      {"\"own\", \"last_error\": \"fixture_last_error\"", 7, PEGA_ERROR_CALLEE, "returned 7",
       ": the moon is full"},
      {"\"own\", \"last_error\": \"fixture_no_last_error\"", 7, PEGA_ERROR_CALLEE, "returned 7",
       "f:"},
      {"\"errno\"", 2, PEGA_ERROR_CALLEE, "returned 2", "No such file or directory"},
      {"\"errno\"", -2, PEGA_ERROR_CALLEE, "returned -2", "No such file or directory"},
      {"\"errno\"", INT32_MIN, PEGA_ERROR_CALLEE, "returned -2147483648", "Unknown error"},
      {"\"cuda driver\"", 1, PEGA_ERROR_DRIVER, "returned 1", "f:"},
      {"\"cuda runtime\"", 1, PEGA_ERROR_DRIVER, "returned 1", "f:"},
      {"\"cuda runtime\"", 2, PEGA_ERROR_OUT_OF_MEMORY, "returned 2", "f:"},
  };
  for (int32_t i = 0; i < COUNT(rows); ++i) {
    char members[512];
    pega_error error = PEGA_ERROR_INIT;
    snprintf(members, sizeof members,
             "\"symbol\": \"fixture_status\", \"params\": [{\"name\": \"code\", \"c\": \"i32\"}], "
             "\"returns\": {\"c\": \"i32\", \"status\": %s}",
             rows[i].returns);
    pega_function *function = of_fixture(members);
    assert_int_equal(call(function, ARGS(pega_value_int(0))).kind, PEGA_NONE);
    EXPECT_ERROR(pega_function_call(function, ARGS(pega_value_int(rows[i].code)), NULL, &error),
                 &error, rows[i].status, C_FIXTURE, rows[i].text, rows[i].more);
    assert_int_equal(error.code, rows[i].code);
    assert_int_equal(pega_function_call(function, ARGS(pega_value_int(rows[i].code)), NULL, NULL),
                     rows[i].status);
    pega_error_clear(&error);
    pega_function_release(function);
  }
}

static void test_exceptions(void **state) {
  (void)state;
#ifdef THROWING_FIXTURE
  pega_function *function = function_of(
      THROWING_FIXTURE,
      "\"symbol\": \"throwing_fixture\", \"params\": [{\"name\": \"what\", \"c\": \"i32\"}], "
      "\"returns\": {\"c\": \"i32\", \"status\": \"own\"}");
  pega_error error = PEGA_ERROR_INIT;
  for (int i = 0; i < 1000; ++i) {
    EXPECT_ERROR(pega_function_call(function, ARGS(pega_value_int(1)), NULL, &error), &error,
                 PEGA_ERROR_CALLEE, "f:", "throwing_fixture of " THROWING_FIXTURE,
                 "std::runtime_error: the well is dry");
  }
  EXPECT_ERROR(pega_function_call(function, ARGS(pega_value_int(2)), NULL, &error), &error,
               PEGA_ERROR_CALLEE, "int");
  assert_int_equal(pega_function_call(function, ARGS(pega_value_int(1)), NULL, NULL),
                   PEGA_ERROR_CALLEE);
  call(function, ARGS(pega_value_int(0)));
  pega_function_release(function);
  /* So does what only tells the error. */
  function = function_of(
      THROWING_FIXTURE,
      "\"symbol\": \"throwing_status\", \"params\": [{\"name\": \"what\", \"c\": \"i32\"}], "
      "\"returns\": {\"c\": \"i32\", \"status\": \"own\", \"last_error\": \"throwing_last_error\"}");
  EXPECT_ERROR(pega_function_call(function, ARGS(pega_value_int(0)), NULL, &error), &error,
               PEGA_ERROR_CALLEE, "returned 3");
  pega_error_clear(&error);
  pega_function_release(function);
#else
  print_message("SKIP: there was no C++ compiler to make a library that throws\n");
#endif
}

/* ---- Bad signature files ---- */

#define HEAD "{\"schema_version\": 1, \"functions\": "
#define F "{\"name\": \"f\", \"symbol\": \"fixture_pointer\", \"returns\": \"void\", \"params\": ["
#define BAD(param) HEAD "[" F param "]}]}"
#define BAD_CONSTRAINTS(text) HEAD "[" F "], \"constraints\": " text "}]}"

static void test_bad_files(void **state) {
  (void)state;
  static const struct {
    const char *text;
    pega_status status;
    const char *where, *what;
  } rows[] = {
      {"", PEGA_ERROR_FORMAT, "line 1", "JSON"},
      {"[]", PEGA_ERROR_FORMAT, "signature file", "expected an object, got an array"},
      {"{}", PEGA_ERROR_FORMAT, "schema_version", "missing"},
      {"{\"schema_version\": 2, \"new\": 1}", PEGA_ERROR_VERSION, "schema_version 2", "reads 1"},
      {"{\"schema_version\": 1}", PEGA_ERROR_FORMAT, "functions", "missing"},
      {"{\"schema_version\": 1, \"fonctions\": []}", PEGA_ERROR_FORMAT, "unknown field 'fonctions'",
       "'functions'"},
      {HEAD "[]}", PEGA_ERROR_FORMAT, "functions", "0"},
      {HEAD "[{}]}", PEGA_ERROR_FORMAT, "functions[0]", "'name'"},
      {HEAD "[{\"name\": \"a b\", \"symbol\": \"fixture_nothing\", \"params\": [], \"returns\": "
            "\"void\"}]}",
       PEGA_ERROR_FORMAT, "functions[0]", "blank"},
      {HEAD "[{\"name\": \"f\", \"params\": [], \"returns\": \"void\"}]}", PEGA_ERROR_SYMBOL,
       "functions[0]", "exports no symbol 'f'"},
      {HEAD "[{\"name\": \"f\", \"symbol\": \"fixture_nothin\", \"params\": [], \"returns\": "
            "\"void\"}]}",
       PEGA_ERROR_SYMBOL, "functions[0].symbol", "nearest is 'fixture_nothing'"},
      {HEAD "[{\"name\": \"f\", \"symbol\": \"fixture_data\", \"params\": [], \"returns\": "
            "\"void\"}]}",
       PEGA_ERROR_SYMBOL, "functions[0].symbol", "no function"},
      {HEAD "[{\"name\": \"f\", \"symbol\": \"fixture_nothing\", \"params\": []}]}",
       PEGA_ERROR_FORMAT, "functions[0]", "'returns' is missing"},
      {HEAD "[{\"name\": \"f\", \"symbol\": \"fixture_nothing\", \"params\": [], \"returns\": "
            "\"int\"}]}",
       PEGA_ERROR_FORMAT, "functions[0].returns", "\"void\""},
      {HEAD "[{\"name\": \"f\", \"symbol\": \"fixture_nothing\", \"params\": [], \"returns\": "
            "{\"c\": \"i16\", \"status\": \"own\"}}]}",
       PEGA_ERROR_FORMAT, "functions[0].returns.c", "\"i32\""},
      {HEAD "[{\"name\": \"f\", \"symbol\": \"fixture_nothing\", \"params\": [], \"returns\": "
            "{\"c\": \"i32\", \"status\": \"cuda\"}}]}",
       PEGA_ERROR_FORMAT, "functions[0].returns.status", "\"cuda driver\""},
      {HEAD "[{\"name\": \"f\", \"symbol\": \"fixture_nothing\", \"params\": [], \"returns\": "
            "{\"c\": \"i32\", \"last_error\": \"fixture_last_error\"}}]}",
       PEGA_ERROR_FORMAT, "functions[0].returns.last_error", "status"},
      {HEAD "[{\"name\": \"f\", \"symbol\": \"fixture_nothing\", \"params\": [], \"returns\": "
            "{\"c\": \"i32\", \"status\": \"own\", \"last_error\": \"fixture_error\"}}]}",
       PEGA_ERROR_SYMBOL, "functions[0].returns.last_error", "fixture_error"},
      {HEAD "[" F "]}, " F "]}]}", PEGA_ERROR_FORMAT, "functions", "'f' is used twice"},
      {BAD("1"), PEGA_ERROR_FORMAT, "functions[0].params[0]", "an object"},
      {BAD("{\"name\": \"x\"}"), PEGA_ERROR_FORMAT, "functions[0].params[0]", "'c' is missing"},
      {BAD("{\"name\": \"x\", \"c\": \"int\"}"), PEGA_ERROR_FORMAT, "params[0].c", "\"i32\""},
      {BAD("{\"c\": \"i32\"}"), PEGA_ERROR_FORMAT, "params[0]", "'name' is missing"},
      {BAD("{\"name\": \"x y\", \"c\": \"i32\"}"), PEGA_ERROR_FORMAT, "functions[0]", "x y"},
      {BAD("{\"name\": \"x\", \"c\": \"i32\"}, {\"name\": \"x\", \"c\": \"i32\", \"value\": 1}"),
       PEGA_ERROR_FORMAT, "params[1]", "'x' is used twice"},
      {BAD("{\"name\": \"x\", \"c\": \"i32\", \"type\": \"float\"}"), PEGA_ERROR_FORMAT,
       "params[0].type", "\"int\" or \"bool\""},
      {BAD("{\"name\": \"x\", \"c\": \"i32\", \"type\": \"Tensor\"}"), PEGA_ERROR_FORMAT,
       "params[0].type", "\"int\" or \"bool\""},
      {BAD("{\"name\": \"x\", \"c\": \"i32\", \"shape\": \"T\"}"), PEGA_ERROR_FORMAT,
       "params[0].shape", "does not know this field"},
      {BAD("{\"name\": \"x\", \"c\": \"i8\", \"min\": 0, \"max\": 128}"), PEGA_ERROR_RANGE,
       "params[0]", "-128 to 127"},
      {BAD("{\"name\": \"x\", \"c\": \"i8\", \"min\": 0}"), PEGA_ERROR_FORMAT, "params[0]",
       "without 'max'"},
      {BAD("{\"name\": \"x\", \"c\": \"i8\", \"min\": 3, \"max\": 2}"), PEGA_ERROR_FORMAT,
       "functions[0]", "'x'"},
      {BAD("{\"name\": \"x\", \"c\": \"i8\", \"optional\": true}"), PEGA_ERROR_FORMAT, "params[0]",
       "'default'"},
      {BAD("{\"name\": \"x\", \"c\": \"i8\", \"default\": 128}"), PEGA_ERROR_FORMAT,
       "params[0].default", "-128 to 127"},
      {BAD("{\"name\": \"x\", \"c\": \"i8\", \"type\": \"bool\", \"default\": 2}"),
       PEGA_ERROR_FORMAT, "params[0].default", "0 to 1"},
      {BAD("{\"name\": \"x\", \"c\": \"bool\", \"default\": 1}"), PEGA_ERROR_FORMAT,
       "params[0].default", "true or false"},
      {BAD("{\"name\": \"x\", \"c\": \"f32\", \"default\": 1e300}"), PEGA_ERROR_FORMAT,
       "params[0].default", "float"},
      {BAD("{\"name\": \"x\", \"c\": \"pointer\", \"default\": 0}"), PEGA_ERROR_FORMAT,
       "params[0].default", "None is NULL"},
      {BAD("{\"name\": \"x\", \"c\": \"pointer\", \"device\": \"cuda\"}"), PEGA_ERROR_FORMAT,
       "params[0].device", "Tensor"},
      {BAD("{\"name\": \"x\", \"c\": \"pointer\", \"type\": \"Tensor\", \"device\": \"cuda:1\"}"),
       PEGA_ERROR_FORMAT, "params[0].device", "\"cuda\""},
      {BAD("{\"name\": \"x\", \"c\": \"pointer\", \"type\": \"Tensor\", \"dtype\": \"f8\"}"),
       PEGA_ERROR_FORMAT, "params[0].dtype", "f8"},
      {BAD("{\"name\": \"x\", \"c\": \"pointer\", \"type\": \"Tensor\", \"shape\": \"T,\"}"),
       PEGA_ERROR_FORMAT, "functions[0]", "comma"},
      {BAD("{\"name\": \"x\", \"c\": \"pointer\", \"alignment\": 3}"), PEGA_ERROR_FORMAT,
       "params[0].alignment", "power of two"},
      {BAD("{\"name\": \"x\", \"c\": \"i32\", \"value\": \"T\"}"), PEGA_ERROR_FORMAT,
       "params[0].value", "unknown name 'T'"},
      {BAD("{\"name\": \"x\", \"c\": \"i32\", \"value\": \"1 +\"}"), PEGA_ERROR_FORMAT,
       "params[0].value", "the text ends"},
      {BAD("{\"name\": \"x\", \"c\": \"i32\", \"value\": 1, \"min\": 1}"), PEGA_ERROR_FORMAT,
       "params[0]", "unknown field 'min'"},
      {BAD("{\"name\": \"x\", \"c\": \"u8\", \"value\": 256}"), PEGA_ERROR_FORMAT,
       "params[0].value", "0 to 255"},
      {BAD("{\"name\": \"x\", \"c\": \"i32\", \"value\": 1.5}"), PEGA_ERROR_FORMAT,
       "params[0].value", "1.5"},
      {BAD("{\"name\": \"x\", \"c\": \"i32\", \"value\": null}"), PEGA_ERROR_FORMAT,
       "params[0].value", "null"},
      {BAD("{\"name\": \"x\", \"c\": \"pointer\", \"value\": 1}"), PEGA_ERROR_FORMAT,
       "params[0].value", "an expression or null"},
      {BAD("{\"name\": \"x\", \"c\": \"cstring\", \"value\": 1}"), PEGA_ERROR_FORMAT,
       "params[0].value", "a string"},
      {BAD("{\"name\": \"x\", \"c\": \"stream\", \"value\": \"other\"}"), PEGA_ERROR_FORMAT,
       "params[0].value", "\"current\""},
      {BAD("{\"name\": \"x\", \"c\": \"stream\", \"value\": \"current\"}"), PEGA_ERROR_FORMAT,
       "params[0].value", "no Tensor"},
      {BAD_CONSTRAINTS("\"1\""), PEGA_ERROR_FORMAT, "functions[0].constraints", "an array"},
      {BAD_CONSTRAINTS("[\"1\", 2]"), PEGA_ERROR_FORMAT, "functions[0].constraints[1]", "a string"},
      {BAD_CONSTRAINTS("[\"\"]"), PEGA_ERROR_FORMAT, "functions[0].constraints[0]", "1 to 512"},
      {BAD_CONSTRAINTS("[\"T > 1\"]"), PEGA_ERROR_FORMAT, "functions[0].constraints[0]",
       "unknown name 'T'"},
      {BAD_CONSTRAINTS("[\"1 ==\"]"), PEGA_ERROR_FORMAT, "functions[0].constraints[0]",
       "the text ends"},
      {BAD_CONSTRAINTS("[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]"), PEGA_ERROR_RANGE,
       "functions[0].constraints", "0 to 16"},
      {"{\"schema_version\": 1, \"requires\": {\"cuda_driver\": \"12\"}, \"functions\": []}",
       PEGA_ERROR_FORMAT, "requires.cuda_driver", "12.4"},
      {"{\"schema_version\": 1, \"requires\": {\"cuda_driver\": \"12.4x\"}, \"functions\": []}",
       PEGA_ERROR_FORMAT, "requires.cuda_driver", "12.4"},
      {"{\"schema_version\": 1, \"requires\": {\"libraries\": [\"\"]}, \"functions\": []}",
       PEGA_ERROR_FORMAT, "requires.libraries[0]", "1 to"},
      {"{\"schema_version\": 1, \"uses_cuda\": 1, \"functions\": []}", PEGA_ERROR_FORMAT,
       "uses_cuda", "true or false"},
  };
  for (int32_t i = 0; i < COUNT(rows); ++i) {
    pega_error error = PEGA_ERROR_INIT;
    pega_artifact *artifact = NULL;
    EXPECT_ERROR(open_bytes(C_FIXTURE, rows[i].text, strlen(rows[i].text), &artifact, &error),
                 &error, rows[i].status, signature_path, rows[i].where, rows[i].what);
    assert_null(artifact);
    pega_error_clear(&error);
  }
}

/* A symbol that its name alone does not find. */
static void test_hidden_symbol(void **state) {
  (void)state;
  static const char text[] =
      "{\"schema_version\": 1, \"functions\": [{\"name\": \"f\", \"symbol\": \"hidden_newer\", "
      "\"params\": [], \"returns\": \"void\"}]}";
  pega_error error = PEGA_ERROR_INIT;
  pega_artifact *artifact = NULL;
  EXPECT_ERROR(open_bytes(HIDDEN, text, sizeof text - 1, &artifact, &error), &error,
               PEGA_ERROR_SYMBOL, "functions[0].symbol", "'hidden_newer' of version HIDDEN_2 alone",
               "hidden_newer@@HIDDEN_2");
  pega_error_clear(&error);
}

/* A path in the signature file begins where that file is, not where the process is. */
static void test_relative_library(void **state) {
  (void)state;
  char text[512];
  char link[128];
  pega_error error = PEGA_ERROR_INIT;
  pega_artifact *artifact = NULL;
  const char *const base = strrchr(signature_path, '/') + 1;
  for (int i = 0; i < 2; ++i) {
    snprintf(text, sizeof text,
             "{\"schema_version\": 1, \"requires\": {\"libraries\": [\"%s%s.so\"]}, \"functions\": "
             "[{\"name\": \"fixture_nothing\", \"params\": [], \"returns\": \"void\"}]}",
             i == 0 ? "./" : "../tmp/./", base);
    snprintf(link, sizeof link, "%s.so", signature_path);
    EXPECT_ERROR(open_bytes(C_FIXTURE, text, strlen(text), &artifact, &error), &error,
                 PEGA_ERROR_NOT_FOUND, i == 0 ? "'/tmp/./" : "'/tmp/../tmp/./", base);
    assert_int_equal(symlink(HIDDEN, link), 0);
    const pega_status status = open_bytes(C_FIXTURE, text, strlen(text), &artifact, &error);
    unlink(link);
    EXPECT_OK(status, &error);
    pega_artifact_release(artifact);
    artifact = NULL;
  }
}

static void test_too_much(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_artifact *artifact = NULL;
  char text[16384] = HEAD "[" F;
  for (int i = 0; i < 65; ++i) {
    snprintf(text + strlen(text), 100, "%s{\"name\": \"x%d\", \"c\": \"i32\"}", i == 0 ? "" : ", ",
             i);
  }
  strcat(text, "]}]}");
  EXPECT_ERROR(open_bytes(C_FIXTURE, text, strlen(text), &artifact, &error), &error,
               PEGA_ERROR_RANGE, "functions[0].params", "65");
  pega_error_clear(&error);
}

static const char whole[] =
    "{\"schema_version\": 1, \"requires\": {\"libraries\": [\"libc.so.6\"]}, \"functions\": "
    "[{\"name\": \"f\", " SCALE
    ", \"constraints\": [\"R > 0\", \"C % 2 == R\"]}, {\"name\": \"g\", " INTS
    "}, {\"name\": \"h\", \"symbol\": "
    "\"fixture_text\", \"returns\": {\"c\": \"cstring\"}, \"params\": [{\"name\": \"x\", \"c\": "
    "\"cstring\"}]}]}";

/* Each prefix, and each byte changed in some ways: opened or refused with a text. */
static void test_damaged_files(void **state) {
  (void)state;
  static const unsigned char flips[] = {1, 2, 4, 0x20, 0x80, 0xff};
  const size_t size = sizeof whole - 1;
  char *copy = malloc(size);
  int32_t taken = 0;
  for (size_t i = 0; i < size; ++i) {
    pega_error error = PEGA_ERROR_INIT;
    pega_artifact *artifact = NULL;
    memcpy(copy, whole, size);
    assert_int_not_equal(open_bytes(C_FIXTURE, copy, i, &artifact, &error), PEGA_OK);
    EXPECT_TEXT(pega_error_message(&error), signature_path);
    for (int32_t j = 0; j < COUNT(flips); ++j) {
      copy[i] = (char)(whole[i] ^ (char)flips[j]);
      if (open_bytes(C_FIXTURE, copy, size, &artifact, &error) == PEGA_OK) {
        pega_artifact_release(artifact);
        artifact = NULL;
        ++taken;
      } else {
        assert_true(pega_error_message(&error)[0] != '\0');
      }
      copy[i] = whole[i];
    }
    pega_error_clear(&error);
  }
  print_message("%" PRId32 " of %zu changed files are as good as before\n", taken,
                size * sizeof flips);
  free(copy);
}

/* ---- Memory ---- */

static void test_out_of_memory(void **state) {
  (void)state;
  if (!allocations_are_counted()) {
    print_message("SKIP: allocations are not counted in this process\n");
    return;
  }
  write_signature(whole, sizeof whole - 1);
  pega_artifact_options options = PEGA_ARTIFACT_OPTIONS_INIT;
  options.path = C_FIXTURE;
  options.signature_path = signature_path;
  pega_artifact_release(opened(C_FIXTURE, whole)); /* what the loader keeps is its own */
  for (int64_t n = 1; n < 10000; ++n) {
    pega_error error = PEGA_ERROR_INIT;
    pega_artifact *artifact = NULL;
    char text[sizeof error.message];
    allocations_begin(n);
    const pega_status status = pega_artifact_open(&options, &artifact, &error);
    if (status == PEGA_OK) pega_artifact_release(artifact);
    memcpy(text, error.message, sizeof text);
    pega_error_clear(&error);
    const allocations got = allocations_end();
    if (status != PEGA_OK && (!got.failed || status != PEGA_ERROR_OUT_OF_MEMORY)) {
      /* The dynamic loader's own failures come as texts of its own. */
      if (strstr(text, "cannot allocate memory") == NULL) {
        fail_msg("allocation %d failing: %s: %s", (int)n, pega_status_name(status), text);
      }
    }
    if (status != PEGA_OK && got.live != 0) {
      fail_msg("allocation %d failing: %d blocks left: %s", (int)n, (int)got.live, text);
    }
    if (!got.failed) {
      assert_int_equal(status, PEGA_OK);
      assert_true(n > 50);
      return;
    }
  }
  fail_msg("it allocates without end");
}

static void test_calls_allocate_nothing(void **state) {
  (void)state;
  if (!allocations_are_counted()) {
    print_message("SKIP: allocations are not counted in this process\n");
    return;
  }
  pega_function *scale =
                    of_fixture(SCALE ", \"constraints\": [\"R * C == 6\", \"stride(x, 1) == 1\"]"),
                *ints = of_fixture(INTS);
  float in[] = {1, 2, 3, 4, 5, 6};
  DLTensor x = TENSOR(in, FLOAT32, 2, 3);
  pega_value args[10];
  for (int i = 0; i < 9; ++i) args[i] = pega_value_int(i);
  args[9] = pega_value_bool(true);
  allocations_begin(0);
  for (int i = 0; i < 10; ++i) {
    call(scale, ARGS(pega_value_tensor(&x), pega_value_tensor(&x), pega_value_float(1)));
    call(ints, args, 10);
  }
  const allocations got = allocations_end();
  assert_int_equal(got.made, 0);
  assert_int_equal(got.locks, 0);
  pega_function_release(scale);
  pega_function_release(ints);
}

/* ---- How long a call takes, for people ---- */

static double nanoseconds(pega_function *function, const pega_value *args, int32_t count) {
  enum { kRounds = 7, kCalls = 200000 };
  double best = 1e9;
  for (int round = 0; round < kRounds; ++round) {
    struct timespec begin, end;
    pega_error error = PEGA_ERROR_INIT;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (int i = 0; i < kCalls; ++i) {
      if (pega_function_call(function, args, count, NULL, &error) != PEGA_OK) {
        fail_msg("%s", pega_error_message(&error));
      }
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    const double time =
        (double)(end.tv_sec - begin.tv_sec) * 1e9 + (double)(end.tv_nsec - begin.tv_nsec);
    if (time / kCalls < best) best = time / kCalls;
  }
  return best;
}

static void test_show_cost(void **state) {
  (void)state;
  pega_function *raw = of_fixture(
      "\"symbol\": \"fixture_five\", \"returns\": {\"c\": \"i32\", \"status\": \"own\"}, "
      "\"params\": [{\"name\": \"a\", \"c\": \"pointer\"}, {\"name\": \"b\", \"c\": "
      "\"pointer\"}, {\"name\": \"c\", \"c\": \"i32\"}, {\"name\": \"d\", \"c\": "
      "\"f32\"}, {\"name\": \"e\", \"c\": \"stream\"}]");
#define BF16(name, more)                                      \
  "{\"name\": \"" name                                        \
  "\", \"c\": \"pointer\", \"type\": \"Tensor\", \"dtype\": " \
  "\"bfloat16\", " more "}, "
  pega_function *tensors = of_fixture(
      "\"symbol\": \"fixture_three\", \"returns\": {\"c\": \"i32\", \"status\": \"own\"}, "
      "\"params\": [" BF16("x", "\"shape\": \"R, C\"") BF16("w", "\"shape\": \"C\"")
          BF16("y", "\"shape\": \"R, C\", \"output\": true") "{\"name\": \"rows\", \"c\": \"i32\", "
      "\"value\": \"R\"}, {\"name\": \"cols\", \"c\": \"i32\", \"value\": \"C\"}, {\"name\": "
      "\"eps\", \"c\": \"f32\"}, {\"name\": \"stream\", \"c\": \"stream\", \"value\": "
      "\"current\"}]");
  uint16_t memory[64];
  DLTensor x = TENSOR(memory, BFLOAT16, 2, 16), w = TENSOR(memory, BFLOAT16, 16),
           y = TENSOR(memory + 32, BFLOAT16, 2, 16);
  print_message(
      "raw, 5 arguments: %.1f ns; 3 tensors: %.1f ns\n",
      nanoseconds(raw, ARGS(pega_value_pointer(memory), pega_value_pointer(memory + 1),
                            pega_value_int(1), pega_value_float(0.5), pega_value_pointer(NULL))),
      nanoseconds(tensors, ARGS(pega_value_tensor(&x), pega_value_tensor(&w), pega_value_tensor(&y),
                                pega_value_float(1e-6))));
  pega_function_release(raw);
  pega_function_release(tensors);
}

static int make_folder(void **state) {
  (void)state;
  strcpy(signature_path, "/tmp/pega-c-library-XXXXXX");
  const int fd = mkstemp(signature_path);
  return fd < 0 ? -1 : close(fd);
}

static int remove_folder(void **state) {
  (void)state;
  return unlink(signature_path);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_nothing),
      cmocka_unit_test(test_integers),
      cmocka_unit_test(test_more_than_registers),
      cmocka_unit_test(test_fixed_and_defaults),
      cmocka_unit_test(test_texts),
      cmocka_unit_test(test_results),
      cmocka_unit_test(test_float_past_float),
      cmocka_unit_test(test_tensors),
      cmocka_unit_test(test_constraints),
      cmocka_unit_test(test_two_functions_of_a_symbol),
      cmocka_unit_test(test_statuses),
      cmocka_unit_test(test_exceptions),
      cmocka_unit_test(test_bad_files),
      cmocka_unit_test(test_hidden_symbol),
      cmocka_unit_test(test_relative_library),
      cmocka_unit_test(test_too_much),
      cmocka_unit_test(test_damaged_files),
      cmocka_unit_test(test_out_of_memory),
      cmocka_unit_test(test_calls_allocate_nothing),
      cmocka_unit_test(test_show_cost),
  };
  return cmocka_run_group_tests_name("C library", tests, make_folder, remove_folder);
}
