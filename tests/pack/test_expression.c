/* SPDX-License-Identifier: Apache-2.0 */
/* Expressions: what they give, what they refuse, with which words. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "build.h"
#include "pack/expression.h"

static const pega_param params[] = {
    {.name = "n", .type = PEGA_TYPE_INT},
    {.name = "m", .type = PEGA_TYPE_INT},
    {.name = "p", .type = PEGA_TYPE_POINTER},
    {.name = "t", .type = PEGA_TYPE_TENSOR, .shape = "T, HV, 64"},
    {.name = "u", .type = PEGA_TYPE_TENSOR, .flags = PEGA_PARAM_OPTIONAL, .shape = "U, T"},
    {.name = "any", .type = PEGA_TYPE_TENSOR},
    {.name = "f", .type = PEGA_TYPE_FLOAT},
    {.name = "b", .type = PEGA_TYPE_BOOL},
    {.name = "min", .type = PEGA_TYPE_INT},
    {.name = "HV", .type = PEGA_TYPE_INT},
};
enum { kNumParams = (int)(sizeof params / sizeof *params) };

static pega_signature signature(void) {
  pega_signature made = PEGA_SIGNATURE_INIT;
  made.params = params;
  made.num_params = kNumParams;
  return made;
}

static int64_t t_shape[] = {7, 3, 64}, t_strides[] = {1000, 64, 1}, u_shape[] = {5, 7};
static DLTensor t, u, rank_one;

static void fill_args(pega_value args[kNumParams], int64_t n, int64_t m) {
  t = (DLTensor){.data = (void *)(uintptr_t)0x1000,
                 .ndim = 3,
                 .dtype = FLOAT32,
                 .shape = t_shape,
                 .strides = t_strides,
                 .byte_offset = 32};
  u = (DLTensor){.data = (void *)(uintptr_t)0x2000, .ndim = 2, .dtype = FLOAT32, .shape = u_shape};
  rank_one = (DLTensor){.ndim = 1, .dtype = FLOAT32, .shape = u_shape};
  args[0] = pega_value_int(n);
  args[1] = pega_value_int(m);
  args[2] = pega_value_pointer((void *)(uintptr_t)0x700000000010);
  args[3] = pega_value_tensor(&t);
  args[4] = pega_value_tensor(&u);
  args[5] = pega_value_tensor(&rank_one);
  args[6] = pega_value_float(1.5);
  args[7] = pega_value_bool(true);
  args[8] = pega_value_uint(9);
  args[9] = pega_value_int(0);
}

static pega_status run(const char *text, int64_t n, int64_t m, int64_t *out, pega_error *error) {
  pega_instruction code[kMaxExpressionSize];
  pega_value args[kNumParams];
  const pega_signature made = signature();
  pega_expression expression = {code, 0, text};
  fill_args(args, n, m);
  pega_status status = pega_expression_compile(text, &made, code, &expression.size, error);
  if (status == PEGA_OK) status = pega_expression_evaluate(&expression, args, out, error);
  return status;
}

static void test_values(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int64_t n, m, value;
  } cases[] = {
      {"1", 0, 0, 1},
      {"9223372036854775807", 0, 0, INT64_MAX},
      {"-9223372036854775807 - 1", 0, 0, INT64_MIN},
      {"n + m * 2", 3, 4, 11},
      {"(n + m) * 2", 3, 4, 14},
      {"n - m - 1", 10, 3, 6},
      {"n / m", 7, 2, 3},
      {"n / m", -7, 2, -4},
      {"n / m", 7, -2, -4},
      {"n / m", -7, -2, 3},
      {"n % m", 7, 2, 1},
      {"n % m", -7, 2, 1},
      {"n % m", 7, -2, -1},
      {"n % m", -7, -2, -1},
      {"n % m", INT64_MIN, -1, 0},
      {"n % m", -6, 3, 0},
      {"cdiv(n, m)", 7, 2, 4},
      {"cdiv(n, m)", -7, 2, -3},
      {"cdiv(n, m)", -7, -2, 4},
      {"cdiv(n,m)", 6, 2, 3},
      {"cdiv(n, 64)", 0, 0, 0},
      {"min(n, m)", 3, -4, -4},
      {"max(n, m)", 3, -4, 3},
      {"min", 0, 0, 9},
      {"min (min, 5)", 0, 0, 5},
      {"-n", 5, 0, -5},
      {"--n", 5, 0, 5},
      {"- n * m", 5, 2, -10},
      {"n - -m", 5, 2, 7},
      {"n == m", 1, 1, 1},
      {"n != m", 1, 1, 0},
      {"n < m", 1, 2, 1},
      {"n <= m", 2, 2, 1},
      {"n > m", 2, 2, 0},
      {"n >= m", 2, 2, 1},
      {"n + 1 == m and m > 1", 1, 2, 1},
      {"n == 5 or m == 2", 1, 2, 1},
      {"n == 5 and m == 2", 1, 2, 0},
      {"n and m", 7, 8, 1},
      {"n or m", 0, 0, 0},
      {"not n", 0, 0, 1},
      {"not not n", 7, 0, 1},
      {"not n == m", 1, 2, 1},
      {"1 or 0 and 0", 0, 0, 1},
      {"T", 0, 0, 7},
      {"U * T", 0, 0, 35},
      {"shape(t, 1)", 0, 0, 3},
      {"shape( u , 0 )", 0, 0, 5},
      {"stride(t, 0)", 0, 0, 1000},
      {"stride(u, 0)", 0, 0, 7},
      {"stride(u, 1)", 0, 0, 1},
      {"shape(any, 0)", 0, 0, 5},
      {"p % 32", 0, 0, 16},
      {"p", 0, 0, 0x700000000010},
      {"t", 0, 0, 0x1020},
      {"b", 0, 0, 1},
      {"  n  ", 4, 0, 4},
      {"((((((((((n))))))))))", 4, 0, 4},
  };
  for (int32_t i = 0; i < COUNT(cases); ++i) {
    pega_error error = PEGA_ERROR_INIT;
    int64_t value = 0;
    EXPECT_OK(run(cases[i].text, cases[i].n, cases[i].m, &value, &error), &error);
    if (value != cases[i].value) {
      fail_msg("%s with n = %lld, m = %lld: expected %lld, got %lld", cases[i].text,
               (long long)cases[i].n, (long long)cases[i].m, (long long)cases[i].value,
               (long long)value);
    }
  }
}

static void test_refused_texts(void **state) {
  (void)state;
  static const struct {
    const char *text, *error;
  } cases[] = {
      {"", "at byte 0: expected a value, and the text ends"},
      {"   ", "at byte 3: expected a value, and the text ends"},
      {"n +", "at byte 3: expected a value, and the text ends"},
      {"n m", "at byte 2: expected an operator or the end, got 'm'"},
      {"(n", "at byte 2: expected ')', and the text ends"},
      {"n)", "expected an operator or the end, got ')'"},
      {"cdiv(n)", "expected ',', got ')'"},
      {"cdiv(n, m, 1)", "expected ')', got ', 1)'"},
      {"pow(n, 2)", "unknown function 'pow': expected cdiv, min, max, shape or stride"},
      {"x", "unknown name 'x': no parameter, and no size in a Tensor's shape"},
      {"N", "unknown name 'N'"},
      {"_", "unknown name '_'"},
      {"f", "parameter 'f' is of type float: expected an int, a bool, a pointer or a Tensor"},
      {"HV", "'HV' is both a parameter and a size in the shape of 't': rename one"},
      {"0x10", "at byte 1: expected a decimal integer, got 'x10'"},
      {"1.5", "expected a decimal integer, got '.5'"},
      {"9223372036854775808", "the number is past int64"},
      {"99999999999999999999999", "the number is past int64"},
      {"n < m < 3", "comparisons do not chain"},
      {"n == m == 3", "comparisons do not chain"},
      {"n = m", "expected an operator or the end, got '= m'"},
      {"n << 1", "expected a value, got '< 1'"},
      {"n & 1", "expected an operator or the end, got '& 1'"},
      {"n ** 2", "expected a value, got '* 2'"},
      {"n and", "expected a value, and the text ends"},
      {"and", "unknown name 'and'"},
      {"+n", "expected a value, got '+n'"},
      {"!n", "expected a value, got '!n'"},
      {"shape(n, 0)", "expected the name of a Tensor parameter, got 'n'"},
      {"shape(t)", "expected ',', got ')'"},
      {"shape(t, n)", "expected the number of a dimension"},
      {"shape(t, 3)", "at byte 9: 't' has 3 dimensions at most"},
      {"shape(any, 32)", "'any' has 32 dimensions at most"},
      {"stride(t, 4294967296)", "'t' has 3 dimensions at most"},
      {"shape(t, 0) 1", "expected an operator"},
      {"n\n", "expected an operator"},
      {"\xc3\xa9", "expected a value"},
      {"((((((((((((((((n))))))))))))))))", "nested too deeply"},
      {"------------------n", "nested too deeply"},
      {"1+(1+(1+(1+(1+(1+(1+(1+(1+(1+(1+(1+(1+(1+(1+(1+1)))))))))))))))",
       "more than 16 values are needed at once"},
      {"min(1,min(1,min(1,min(1,min(1,min(1,min(1,min(1,min(1,min(1,min(1,min(1,min(1,min(1,"
       "min(1,(min(1,1))))))))))))))))",
       "nested too deeply"},
  };
  for (int32_t i = 0; i < COUNT(cases); ++i) {
    pega_error error = PEGA_ERROR_INIT;
    int64_t value;
    EXPECT_ERROR(run(cases[i].text, 1, 2, &value, &error), &error, PEGA_ERROR_FORMAT,
                 cases[i].error, "expression '");
    pega_error_clear(&error);
  }
}

static void test_limits(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  char text[700];
  int64_t value;
  /* 32 numbers and 31 additions fit, 33 and 32 do not. */
  for (int count = 32; count <= 33; ++count) {
    text[0] = '\0';
    for (int i = 0; i < count; ++i) strcat(text, i == 0 ? "1" : "+1");
    pega_status status = run(text, 0, 0, &value, &error);
    assert_int_equal(status, count == 32 ? PEGA_OK : PEGA_ERROR_FORMAT);
    if (count == 32) assert_int_equal(value, 32);
  }
  EXPECT_TEXT(pega_error_message(&error), "more than 64 operations and operands");
  memset(text, ' ', 511);
  strcpy(text + 511, "1");
  EXPECT_OK(run(text, 0, 0, &value, &error), &error);
  strcpy(text + 511, " 1");
  EXPECT_ERROR(run(text, 0, 0, &value, &error), &error, PEGA_ERROR_RANGE, "longer than 512 bytes");
  pega_error_clear(&error);
}

static void test_refused_values(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int64_t n, m;
    const char *error;
  } cases[] = {
      {"n + m", INT64_MAX, 1, "expression 'n + m': overflow of int64"},
      {"n - m", INT64_MIN, 1, "overflow of int64"},
      {"n * m", INT64_MAX, 2, "overflow of int64"},
      {"n * m", INT64_MIN, -1, "overflow of int64"},
      {"-n", INT64_MIN, 0, "overflow of int64"},
      {"n / m", 1, 0, "expression 'n / m': division by zero"},
      {"n % m", 1, 0, "division by zero"},
      {"cdiv(n, m)", 1, 0, "division by zero"},
      {"n / m", INT64_MIN, -1, "overflow of int64"},
      {"cdiv(n, m)", INT64_MIN, -1, "overflow of int64"},
      {"n != 0 and 1 / n > 0", 0, 0, "division by zero"},
      {"shape(any, 1)", 0, 0, "expression 'shape(any, 1)': argument 5 has too few dimensions"},
  };
  for (int32_t i = 0; i < COUNT(cases); ++i) {
    pega_error error = PEGA_ERROR_INIT;
    int64_t value;
    EXPECT_ERROR(run(cases[i].text, cases[i].n, cases[i].m, &value, &error), &error,
                 PEGA_ERROR_RANGE, cases[i].error);
    pega_error_clear(&error);
  }
}

/* Arguments that the signature lets through, and an integer cannot hold. */
static void test_strange_arguments(void **state) {
  (void)state;
  const struct {
    const char *text;
    int arg;
    pega_value value;
    const char *error; /* NULL: it is 0 */
  } cases[] = {
      {"n", 0, pega_value_uint(UINT64_MAX), "argument 0 is past int64"},
      {"n", 0, pega_value_none(), "argument 0 is no integer"},
      {"p", 2, pega_value_uint(UINT64_MAX), "argument 2 is no address below 2^63"},
      {"p", 2, pega_value_pointer((void *)UINTPTR_MAX), "argument 2 is no address below 2^63"},
      {"p", 2, pega_value_none(), NULL},
      {"u", 4, pega_value_none(), NULL},
      {"U", 4, pega_value_none(), "argument 4 is no tensor"},
  };
  const pega_signature made = signature();
  for (int32_t i = 0; i < COUNT(cases); ++i) {
    pega_error error = PEGA_ERROR_INIT;
    pega_instruction code[kMaxExpressionSize];
    pega_value args[kNumParams];
    pega_expression expression = {code, 0, cases[i].text};
    int64_t value = -1;
    fill_args(args, 0, 0);
    args[cases[i].arg] = cases[i].value;
    EXPECT_OK(pega_expression_compile(cases[i].text, &made, code, &expression.size, &error),
              &error);
    if (cases[i].error == NULL) {
      EXPECT_OK(pega_expression_evaluate(&expression, args, &value, &error), &error);
      assert_int_equal(value, 0);
    } else {
      EXPECT_ERROR(pega_expression_evaluate(&expression, args, &value, &error), &error,
                   PEGA_ERROR_RANGE, cases[i].error);
    }
    pega_error_clear(&error);
  }
  const pega_expression empty = {NULL, 0, ""};
  int64_t value;
  assert_int_equal(pega_expression_evaluate(&empty, NULL, &value, NULL), PEGA_ERROR_INTERNAL);
}

/* Whatever the bytes are, the compiler comes back, and what it makes can be run. */
static void test_random_texts(void **state) {
  (void)state;
  static const char *const words[] = {
      "n",   "m",     " ",    "1",        "64",   "(",   ")", "+",  "-",  "*",
      "/",   "%",     "cdiv", "min(",     "max(", ",",   "<", "==", "!=", "and ",
      "or ", " not ", "T",    "shape(t,", "p",    "u,0", "x", "=",  "&",  "stride(t,0)"};
  const char *given = getenv("PEGA_TEST_SEED");
  unsigned seed = given == NULL ? 20240601u : (unsigned)strtoul(given, NULL, 10);
  print_message("PEGA_TEST_SEED=%u\n", seed);
  int good = 0;
  for (int i = 0; i < 100000; ++i) {
    char text[600] = "";
    const int count = rand_r(&seed) % 24;
    for (int j = 0; j < count; ++j) strcat(text, words[rand_r(&seed) % COUNT(words)]);
    int64_t value;
    if (run(text, rand_r(&seed), rand_r(&seed), &value, NULL) == PEGA_OK) ++good;
  }
  assert_true(good > 100);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_values),
      cmocka_unit_test(test_refused_texts),
      cmocka_unit_test(test_limits),
      cmocka_unit_test(test_refused_values),
      cmocka_unit_test(test_strange_arguments),
      cmocka_unit_test(test_random_texts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
