/* SPDX-License-Identifier: Apache-2.0 */
/* JSON: what is taken, what is made of it, what is refused and where. */
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "build.h"
#include "pack/json.h"

static pega_json_outcome parse(const char *text, size_t size, pega_arena *arena,
                               pega_json_value *value, pega_json_error *error) {
  /* A copy that ends where its allocation does. */
  char *copy = malloc(size + 1);
  assert_non_null(copy);
  memcpy(copy, text, size);
  copy[size] = '\0';
  const pega_json_outcome outcome = pega_json_parse_text(copy, size, arena, value, error);
  free(copy);
  return outcome;
}

static void test_numbers(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int64_t number;
  } integers[] = {{"0", 0},
                  {" 7 ", 7},
                  {"-12", -12},
                  {"1.0", 1},
                  {"1e3", 1000},
                  {"12.5e+1", 125},
                  {"1e-999", 0},
                  {"9007199254740991", 9007199254740991},
                  {"-9007199254740991", -9007199254740991}};
  static const struct {
    const char *text;
    double number;
  } reals[] = {{"0.5", 0.5},
               {"-0.25", -0.25},
               {"1E-3", 0.001},
               {"0.1", 0.1},
               {"4.9E0", 4.9},
               {"5e-324", 5e-324},
               {"-0", -0.0},
               {"-0.0", -0.0},
               {"-1e-999", -0.0},
               {"1e308", 1e308},
               /* Each could be its neighbour: none is an integer. */
               {"9007199254740992", 9007199254740992.0},
               {"9007199254740993", 9007199254740992.0},
               {"-9007199254740993", -9007199254740992.0},
               {"9223372036854775807", 9223372036854775807.0}};
  pega_arena arena = {NULL};
  pega_json_value value;
  pega_json_error error;
  for (int32_t i = 0; i < COUNT(integers); ++i) {
    assert_int_equal(parse(integers[i].text, strlen(integers[i].text), &arena, &value, &error), 0);
    assert_int_equal(value.type, kJsonInt);
    assert_true(value.as.i64 == integers[i].number);
  }
  for (int32_t i = 0; i < COUNT(reals); ++i) {
    assert_int_equal(parse(reals[i].text, strlen(reals[i].text), &arena, &value, &error), 0);
    assert_int_equal(value.type, kJsonReal);
    assert_memory_equal(&value.as.f64, &reals[i].number, sizeof(double));
  }
  pega_arena_free(&arena);
}

/* Where the process's locale has a comma, or a decimal point of two bytes (ps_AF, fa_IR), a point is a
 * point still, and the thread's locale is left as it was. */
static void test_locale(void **state) {
  (void)state;
  static const char *const names[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "ru_RU.UTF-8", "ps_AF.UTF-8",
                                      "fa_IR.UTF-8", "ps_AF",       "fa_IR"};
  pega_arena arena = {NULL};
  pega_json_value value;
  pega_json_error error;
  int tried = 0;
  for (int32_t i = 0; i < COUNT(names); ++i) {
    if (setlocale(LC_NUMERIC, names[i]) == NULL) continue;
    ++tried;
    assert_int_equal(parse("1.5", 3, &arena, &value, &error), kJsonGood);
    assert_true(value.as.f64 == 1.5);
    assert_string_not_equal(localeconv()->decimal_point, ".");
  }
  if (tried == 0) print_message("no locale with another decimal point is installed\n");
  pega_arena_free(&arena);
  setlocale(LC_NUMERIC, "C");
}

static void test_strings(void **state) {
  (void)state;
  static const struct {
    const char *text, *string;
  } cases[] = {{"\"\"", ""},
               {"\"abc\"", "abc"},
               {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"},
               {"\"\\u0041\\u00e9\\u20AC\"", "A\xc3\xa9\xe2\x82\xac"},
               {"\"\\ud83d\\uDE00!\"", "\xf0\x9f\x98\x80!"},
               {"\"\xf0\x9f\x98\x80\x7f\"", "\xf0\x9f\x98\x80\x7f"}};
  pega_arena arena = {NULL};
  pega_json_value value;
  pega_json_error error;
  for (int32_t i = 0; i < COUNT(cases); ++i) {
    assert_int_equal(parse(cases[i].text, strlen(cases[i].text), &arena, &value, &error),
                     kJsonGood);
    assert_string_equal(pega_json_text_of(&value), cases[i].string);
    assert_int_equal(value.size, strlen(cases[i].string));
  }
  pega_arena_free(&arena);
}

static void test_containers(void **state) {
  (void)state;
  static const char text[] =
      " { \"a\" : [ 1 , [ ] , { } , null , true , false , \"s\" ] ,\r\n\t\"b\":{\"a\":2}, \"\":3 } ";
  pega_arena arena = {NULL};
  pega_json_value value;
  pega_json_error error;
  assert_int_equal(parse(text, strlen(text), &arena, &value, &error), kJsonGood);
  assert_int_equal(value.type, kJsonObject);
  assert_int_equal(value.size, 3);
  const pega_json_value *a = pega_json_find(&value, "a");
  assert_int_equal(a->type, kJsonArray);
  assert_int_equal(a->size, 7);
  assert_int_equal(a->as.members[0].value.as.i64, 1);
  assert_int_equal(a->as.members[1].value.size, 0);
  assert_int_equal(a->as.members[3].value.type, kJsonNull);
  assert_true(pega_json_is_bool(&a->as.members[4].value));
  assert_string_equal(pega_json_text_of(&a->as.members[6].value), "s");
  assert_int_equal(pega_json_find(pega_json_find(&value, "b"), "a")->as.i64, 2);
  assert_int_equal(pega_json_find(&value, "")->as.i64, 3);
  assert_null(pega_json_find(&value, "c"));
  assert_null(pega_json_find(a, "a"));
  pega_arena_free(&arena);
}

#define NUL_INSIDE "\"a\0b\""

static void test_refused(void **state) {
  (void)state;
  static const struct {
    const char *text;
    const char *what;
    size_t line, column;
  } cases[] = {
      /* cJSON refuses these; it says where, not why, and one too far where a key should be. */
      {"", "its end is missing or wrong", 1, 1},
      {" \n ", "its end is missing or wrong", 2, 2},
      {"[1", "its end is missing or wrong", 1, 3},
      {"[1,", "its end is missing or wrong", 1, 4},
      {"{\"a\":1,", "its end is missing or wrong", 1, 8},
      {"[1,]", "this is no JSON", 1, 4},
      {"[,1]", "this is no JSON", 1, 2},
      {"[1 2]", "this is no JSON", 1, 4},
      {"[1}", "this is no JSON", 1, 3},
      {"{\"a\":1,}", "its end is missing or wrong", 1, 9},
      {"{a:1}", "this is no JSON", 1, 3},
      {"{\"a\"}", "this is no JSON", 1, 5},
      {"{\"a\":}", "this is no JSON", 1, 6},
      {"{\"a\":1 \"b\":2}", "this is no JSON", 1, 8},
      {"{1:2}", "this is no JSON", 1, 3},
      {"]", "this is no JSON", 1, 1},
      {"1 2", "this is no JSON", 1, 3},
      {"{} x", "this is no JSON", 1, 4},
      {"{}{}", "this is no JSON", 1, 3},
      {"nul", "this is no JSON", 1, 1},
      {"nullx", "this is no JSON", 1, 5},
      {"True", "this is no JSON", 1, 1},
      {"NaN", "this is no JSON", 1, 1},
      {"Infinity", "this is no JSON", 1, 1},
      {"inf", "this is no JSON", 1, 1},
      {"'a'", "this is no JSON", 1, 1},
      {"// x\n1", "this is no JSON", 1, 1},
      {"[/* x */1]", "this is no JSON", 1, 2},
      {"+1", "this is no JSON", 1, 1},
      {".5", "this is no JSON", 1, 1},
      {"0x1", "this is no JSON", 1, 2},
      {"1+1", "this is no JSON", 1, 2},
      {"1.5.5", "this is no JSON", 1, 4},
      {"1e5e5", "this is no JSON", 1, 4},
      {"\xc2\xa0{}", "this is no JSON", 1, 1},
      {"\"\\x\"", "this is no JSON", 1, 2},
      {"\"\\ud800\"", "this is no JSON", 1, 2},
      {"\"\\udc00\"", "this is no JSON", 1, 2},
      {"\"\\ud800\\u0041\"", "this is no JSON", 1, 2},
      {"\"\\ud800\\n\"", "this is no JSON", 1, 2},
      /* These it takes. */
      {"\xef\xbb\xbf{}", "a byte order mark", 1, 1},
      {"\xef\xbb\xbf", "a byte order mark", 1, 1},
      {"[1,\v2]", "a control character", 1, 4},
      {"[1]\x01", "a control character", 1, 4},
      {"-", "a number without digits", 1, 2},
      {"-.5", "a number without digits", 1, 2},
      {"-Infinity", "a number without digits", 1, 2},
      {"01", "a number that begins with 0", 1, 1},
      {"[-01]", "a number that begins with 0", 1, 3},
      {"00", "a number that begins with 0", 1, 1},
      {"1.", "a number without digits behind its point", 1, 3},
      {"1.e1", "a number without digits behind its point", 1, 3},
      {"1e", "a number without digits in its exponent", 1, 3},
      {"1e+", "a number without digits in its exponent", 1, 4},
      {"\"a", "the text ends within a string", 1, 3},
      {"\"a\\", "the text ends within a string", 1, 4},
      {"\"a\\\"", "the text ends within a string", 1, 5},
      {"\"a\nb\"", "a control character in a string", 1, 3},
      {"{\"a\tb\":1}", "a control character in a string", 1, 4},
      {"\"a\\\nb\"", "a control character in a string", 1, 4},
      {"\"\\u12\"", "\\u without four hexadecimal digits", 1, 4},
      {"\"\\u12g4\"", "\\u without four hexadecimal digits", 1, 4},
      {"\"\\u", "\\u without four hexadecimal digits", 1, 4},
      {"\"\\u0000\"", "\\u0000 in a string", 1, 4},
      {"\"\\ud800\\u000g\"", "\\u without four hexadecimal digits", 1, 10},
      {"\"\xff\"", "it is not UTF-8", 1, 2},
      {"\"\xc0\x80\"", "it is not UTF-8", 1, 2},
      {"\"\xed\xa0\x80\"", "it is not UTF-8", 1, 2},
      {"\xff", "it is not UTF-8", 1, 1},
      {"[\n\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\",\n \"\xe2\x82\"]", "it is not UTF-8", 3, 3},
      {"{}\n\xf0\x9f\x98", "it is not UTF-8", 2, 1},
  };
  for (int32_t i = 0; i < COUNT(cases); ++i) {
    pega_arena arena = {NULL};
    pega_json_value value;
    pega_json_error error;
    const pega_json_outcome outcome =
        parse(cases[i].text, strlen(cases[i].text), &arena, &value, &error);
    if (outcome != kJsonBad || strcmp(error.what, cases[i].what) != 0 ||
        error.line != cases[i].line || error.column != cases[i].column) {
      fail_msg("%s: expected '%s' at %zu:%zu, got %d '%s' at %zu:%zu", cases[i].text, cases[i].what,
               cases[i].line, cases[i].column, (int)outcome, error.what, error.line, error.column);
    }
    pega_arena_free(&arena);
  }
  pega_arena arena = {NULL};
  pega_json_value value;
  pega_json_error error;
  static const struct {
    const char *text;
    size_t size, line, column;
  } nuls[] = {{NUL_INSIDE, sizeof NUL_INSIDE - 1, 1, 3},
              {"1\0", 2, 1, 2},
              {"\0", 1, 1, 1},
              {"[1,\n\n \0]", 8, 3, 2}};
  for (int32_t i = 0; i < COUNT(nuls); ++i) {
    assert_int_equal(parse(nuls[i].text, nuls[i].size, &arena, &value, &error), kJsonBad);
    assert_string_equal(error.what, "it has a NUL");
    assert_int_equal(error.line, nuls[i].line);
    assert_int_equal(error.column, nuls[i].column);
  }
  pega_arena_free(&arena);
}

/* What only shows in cJSON's tree has no place in the text, but a path. */
static void test_refused_by_path(void **state) {
  (void)state;
  static const struct {
    const char *text, *what, *path;
  } cases[] = {
      {"{\"a\":1,\n\"a\":2}", "duplicate object key", "a"},
      {"{\"a\":1,\"\\u0061\":2}", "duplicate object key", "a"},
      {"{\"b\":[{\"\":1,\"c\":2,\"\":3}]}", "duplicate object key", "b[0]."},
      {"{\"f\":[0,{\"v\":[[{\"p\":1,\"p\":2}]]}]}", "duplicate object key", "f[1].v[0][0].p"},
      {"1e999", "a number past what a double can hold", ""},
      {"[-1e999]", "a number past what a double can hold", "[0]"},
      {"{\"a\":{\"b\":1},\"c\":[1,{\"d\":2},1e309]}", "a number past what a double can hold",
       "c[2]"},
  };
  for (int32_t i = 0; i < COUNT(cases); ++i) {
    pega_arena arena = {NULL};
    pega_json_value value;
    pega_json_error error;
    assert_int_equal(parse(cases[i].text, strlen(cases[i].text), &arena, &value, &error), kJsonBad);
    assert_string_equal(error.what, cases[i].what);
    assert_int_equal(error.line, 0);
    assert_string_equal(error.path, cases[i].path);
    pega_arena_free(&arena);
  }
  /* Keys are not folded. */
  pega_arena arena = {NULL};
  pega_json_value value;
  pega_json_error error;
  assert_int_equal(parse("{\"a\":1,\"A\":2}", 13, &arena, &value, &error), kJsonGood);
  assert_int_equal(pega_json_find(&value, "A")->as.i64, 2);
  pega_arena_free(&arena);
}

static void expect_outcome(const bytes *text, pega_json_outcome outcome, const char *what,
                           const char *path) {
  pega_arena arena = {NULL};
  pega_json_value value;
  pega_json_error error;
  assert_int_equal(parse((const char *)text->data, text->size, &arena, &value, &error), outcome);
  if (what != NULL) assert_string_equal(error.what, what);
  assert_string_equal(error.path, path);
  pega_arena_free(&arena);
}

static void test_limits(void **state) {
  (void)state;
  for (int more = 0; more < 2; ++more) {
    bytes text = {NULL, 0};
    for (int i = 0; i < kMaxJsonDepth + more; ++i)
      bytes_append(&text, i % 2 == 0 ? "[" : "{\"a\":", i % 2 == 0 ? 1 : 5);
    for (int i = kMaxJsonDepth + more; i-- > 0;) bytes_append(&text, i % 2 == 0 ? "]" : "}", 1);
    if (more == 1) {
      expect_outcome(&text, kJsonTooMuch, "nested deeper than 16", "");
    } else {
      expect_outcome(&text, kJsonBad, "this is no JSON", ""); /* {"a":} */
    }
    bytes_free(&text);
    bytes_append(&text, "[{\"a\":{", 7);
    for (int i = 0; i < kMaxJsonMembers + more; ++i) {
      char member[32];
      const int size = snprintf(member, sizeof member, "%s\"%d\":0", i == 0 ? "" : ",", i);
      bytes_append(&text, member, (size_t)size);
    }
    bytes_append(&text, "}}]", 3);
    expect_outcome(&text, more == 1 ? kJsonTooMuch : kJsonGood,
                   more == 1 ? "an object of more than 256 members" : NULL,
                   more == 1 ? "[0].a" : "");
    bytes_free(&text);
    for (int i = 0; i < kMaxJsonNumber - 1 + more; ++i) bytes_append(&text, i == 1 ? "." : "1", 1);
    bytes_append(&text, "1", 1);
    expect_outcome(&text, more == 1 ? kJsonTooMuch : kJsonGood,
                   more == 1 ? "a number of more than 63 characters" : NULL, "");
    bytes_free(&text);
  }
  for (int more = 0; more < 2; ++more) {
    bytes text = {NULL, 0};
    const size_t size = 2 * (size_t)(kMaxJsonValues - 1 + more); /* and the array itself */
    text.data = malloc(size + 1);
    text.size = size + 1;
    assert_non_null(text.data);
    for (size_t i = 0; i < size; i += 2) memcpy(text.data + i, ",1", 2);
    text.data[0] = '[';
    text.data[size] = ']';
    expect_outcome(&text, more == 1 ? kJsonTooMuch : kJsonGood,
                   more == 1 ? "more than 2097152 values" : NULL, "");
    bytes_free(&text);
  }
  /* Far deeper than a stack. */
  bytes deep = {NULL, 0};
  for (int i = 0; i < 100; ++i) {
    static const char brackets[] = "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[";
    bytes_append(&deep, brackets, sizeof brackets - 1);
  }
  expect_outcome(&deep, kJsonTooMuch, "nested deeper than 16", "");
  bytes_free(&deep);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_numbers), cmocka_unit_test(test_locale),
      cmocka_unit_test(test_strings), cmocka_unit_test(test_containers),
      cmocka_unit_test(test_refused), cmocka_unit_test(test_refused_by_path),
      cmocka_unit_test(test_limits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
