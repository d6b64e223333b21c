/* SPDX-License-Identifier: Apache-2.0 */
/* Functions: made, called, failing in every way, and given back. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "support.h"

/* What a test's call does and what it saw. */
typedef struct script {
  pega_status status;  /* returned */
  pega_status set;     /* put into the error, unless OK */
  const char *text;    /* with this text */
  bool counted_result; /* puts an object that counts in `released` into the result */
  support_counter released;
  int calls;
  int32_t num_args;
  const pega_value *args;
  uint16_t result_kind_on_entry;
  int32_t error_status_on_entry;
} script;

static pega_status run_script(void *self, const pega_value *args, int32_t num_args,
                              pega_value *result, pega_error *error) {
  script *it = self;
  ++it->calls;
  it->args = args;
  it->num_args = num_args;
  it->result_kind_on_entry = result->kind;
  it->error_status_on_entry = error == NULL ? 0 : error->status;
  if (it->counted_result) {
    pega_object_create("t.Result", NULL, &it->released, support_count, result, NULL);
  }
  if (it->set != PEGA_OK) pega_error_set(error, it->set, NULL, "%s", it->text);
  return it->status;
}

static pega_function *make(const char *name, script *it) {
  pega_error error = PEGA_ERROR_INIT;
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  pega_function *function;
  options.name = name;
  options.call = run_script;
  options.self = it;
  EXPECT_OK(pega_function_create(&options, &function, &error), &error);
  return function;
}

/* ---- Making ---- */

static void test_options(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_function *const untouched = (pega_function *)(uintptr_t)0x10;
  pega_function *function = untouched;
  support_counter deleted = {0};
  pega_function_options good = PEGA_FUNCTION_OPTIONS_INIT;
  good.call = support_no_op;
  good.self = &deleted;
  good.deleter = support_count;

  EXPECT_ERROR(pega_function_create(NULL, &function, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "pega_function_create: options is NULL");
  EXPECT_ERROR(pega_function_create(&good, NULL, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "pega_function_create: out is NULL");
  pega_function_options bad = good;
  bad.call = NULL;
  EXPECT_ERROR(pega_function_create(&bad, &function, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "options.call is NULL");
  static const uint32_t sizes[] = {0, sizeof(pega_function_options) - 1, 4097, UINT32_MAX};
  for (int i = 0; i < COUNT(sizes); ++i) {
    char text[64];
    snprintf(text, sizeof text, "options of struct_size %u: expected", sizes[i]);
    bad = good;
    bad.struct_size = sizes[i];
    EXPECT_ERROR(pega_function_create(&bad, &function, &error), &error, PEGA_ERROR_VERSION, text,
                 "PEGA_FUNCTION_OPTIONS_INIT");
  }
  bad = good;
  bad.reserved = 1;
  EXPECT_ERROR(pega_function_create(&bad, &function, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "pega_function_create: options.reserved is not 0");
  assert_ptr_equal(function, untouched);
  assert_int_equal(deleted.count, 0);

  /* Options of a newer caller are taken as long as what is new in them is zero. */
  struct {
    pega_function_options known;
    uint64_t unknown;
  } newer = {good, 0};
  newer.known.struct_size = sizeof newer;
  EXPECT_OK(pega_function_create(&newer.known, &function, &error), &error);
  pega_function_release(function);
  assert_int_equal(deleted.count, 1);
  newer.unknown = 1;
  EXPECT_ERROR(pega_function_create(&newer.known, &function, &error), &error, PEGA_ERROR_VERSION,
               "or more with zeros after it");
  assert_int_equal(deleted.count, 1);
  pega_error_clear(&error);
}

static void test_names(void **state) {
  (void)state;
  static char huge[1 << 20];
  memset(huge, 'n', sizeof huge - 1);
  const struct {
    const char *name;
    const char *why;
  } bad[] = {
      {"", "function name '': expected 1 to 255 bytes, got none"},
      {huge, "expected 1 to 255 bytes, got more"},
      {huge + sizeof huge - 1 - 256, "expected 1 to 255 bytes, got more"},
      {"a b", "function name 'a b': byte 1 is a blank or control character"},
      {"ab\n", "function name 'ab?': byte 2 is a blank"},
      {"\x7f", "byte 0 is a blank or control"},
      {"\t", "byte 0 is a blank or control"},
      {"caf\xe9", "function name of 4 bytes is not UTF-8"},
      {"\xe2\x82", "is not UTF-8"},
      {"\xc0\xaf", "is not UTF-8"},
      {"\xed\xa0\x80", "is not UTF-8"},
      {"\xf4\x90\x80\x80", "is not UTF-8"},
  };
  pega_error error = PEGA_ERROR_INIT;
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  pega_function *function = NULL;
  options.call = support_no_op;
  for (int i = 0; i < COUNT(bad); ++i) {
    options.name = bad[i].name;
    EXPECT_ERROR(pega_function_create(&options, &function, &error), &error,
                 PEGA_ERROR_INVALID_ARGUMENT, bad[i].why);
    assert_true(strlen(pega_error_message(&error)) < 200);
  }
  options.name = "t.f";
  options.doc = "caf\xe9";
  EXPECT_ERROR(pega_function_create(&options, &function, &error), &error,
               PEGA_ERROR_INVALID_ARGUMENT, "the doc of function 't.f' is not UTF-8");
  options.doc = NULL;
  assert_null(function);
  const char *const good[] = {"a", "a.b-c/d:e", "\xe2\x82\xac", huge + sizeof huge - 1 - 255};
  for (int i = 0; i < COUNT(good); ++i) {
    options.name = good[i];
    EXPECT_OK(pega_function_create(&options, &function, &error), &error);
    assert_string_equal(pega_function_name(function), good[i]);
    pega_function_release(function);
  }
  pega_error_clear(&error);
}

static void test_what_a_function_tells(void **state) {
  (void)state;
  script it = {0};
  pega_function *named = make("t.named", &it);
  pega_function *anonymous = make(NULL, &it);
  assert_string_equal(pega_function_name(named), "t.named");
  assert_string_equal(pega_function_name(anonymous), "");
  assert_string_equal(pega_function_doc(named), "");
  assert_null(pega_function_signature(named));
  assert_string_equal(pega_function_signature_text(named), "t.named(...)");
  assert_string_equal(pega_function_signature_text(anonymous), "(...)");
  assert_ptr_equal(pega_function_self(named, run_script), &it);
  assert_null(pega_function_self(named, support_no_op));
  assert_null(pega_function_self(named, NULL));
  assert_ptr_equal(pega_function_retain(named), named);
  pega_function_release(named);
  pega_function_release(named);
  pega_function_release(anonymous);
}

static void *release_function(void *function) {
  pega_function_release(function);
  return NULL;
}

static void test_deleter_runs_once_on_another_thread(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  support_counter deleted = {0};
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  options.call = support_no_op;
  options.self = &deleted;
  options.deleter = support_count;
  pega_function *function;
  EXPECT_OK(pega_function_create(&options, &function, &error), &error);
  /* As a value it is the same object. */
  const pega_value value = pega_value_function(function);
  pega_value kept;
  EXPECT_OK(pega_value_retain(&value, &kept, &error), &error);
  assert_ptr_equal(pega_value_as_function(&kept), function);
  pega_function_release(function);
  assert_int_equal(deleted.count, 0);
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, release_function, pega_value_as_function(&kept)),
                   0);
  pthread_join(thread, NULL);
  assert_int_equal(deleted.count, 1);
}

/* ---- Calling ---- */

static void test_call(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  script it = {.counted_result = true};
  pega_function *function = make("t.f", &it);
  const pega_value args[2] = {pega_value_int(1), pega_value_int(2)};
  pega_value result = pega_value_int(99);
  EXPECT_OK(pega_function_call(function, args, 2, &result, &error), &error);
  assert_int_equal(it.calls, 1);
  assert_int_equal(it.num_args, 2);
  assert_ptr_equal(it.args, args);
  assert_int_equal(it.result_kind_on_entry, PEGA_NONE);
  assert_string_equal(pega_value_type_key(&result), "t.Result");
  assert_int_equal(it.released.count, 0);
  pega_value_release(&result);
  assert_int_equal(it.released.count, 1);
  /* A result that nobody wants is given back. */
  EXPECT_OK(pega_function_call(function, args, 2, NULL, &error), &error);
  assert_int_equal(it.released.count, 2);
  EXPECT_OK(pega_function_call(function, NULL, 0, NULL, NULL), &error);
  pega_function_release(function);
}

static void test_failure_with_text(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  script it = {.status = PEGA_ERROR_IO,
               .set = PEGA_ERROR_IO,
               .text = "disk on fire",
               .counted_result = true};
  pega_function *function = make("t.f", &it);
  pega_value result = pega_value_int(99);
  EXPECT_ERROR(pega_function_call(function, NULL, 0, &result, &error), &error, PEGA_ERROR_IO,
               "disk on fire");
  assert_string_equal(pega_error_message(&error), "disk on fire");
  assert_string_equal(pega_error_kind(&error), "OSError");
  EXPECT_TEXT(pega_error_traceback(&error), "in t.f\n");
  assert_int_equal(result.kind, PEGA_NONE);
  assert_int_equal(it.released.count, 1);
  assert_int_equal(pega_function_call(function, NULL, 0, NULL, NULL), PEGA_ERROR_IO);
  assert_int_equal(it.released.count, 2);

  /* What is returned counts, also where the error says another thing. */
  it.status = PEGA_ERROR_RANGE;
  EXPECT_ERROR(pega_function_call(function, NULL, 0, NULL, &error), &error, PEGA_ERROR_RANGE,
               "disk on fire");
  pega_function_release(function);
  pega_error_clear(&error);
}

static void test_silent_failure(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  script it = {.status = PEGA_ERROR_DRIVER};
  pega_function *function = make("t.silent", &it);
  EXPECT_ERROR(pega_function_call(function, NULL, 0, NULL, &error), &error, PEGA_ERROR_DRIVER,
               "t.silent failed with status 19 (DRIVER) and said nothing more",
               "without filling its error");
  EXPECT_TEXT(pega_error_traceback(&error), "in t.silent\n");
  /* An error that is left over is not taken for this call's. */
  pega_error_set(&error, PEGA_ERROR_IO, NULL, "left over");
  EXPECT_ERROR(pega_function_call(function, NULL, 0, NULL, &error), &error, PEGA_ERROR_DRIVER,
               "said nothing more");
  EXPECT_NO_TEXT(pega_error_message(&error), "left over");
  assert_int_equal(it.error_status_on_entry, PEGA_OK);
  pega_function_release(function);

  function = make(NULL, &it);
  EXPECT_ERROR(pega_function_call(function, NULL, 0, NULL, &error), &error, PEGA_ERROR_DRIVER,
               "function failed with status 19");
  pega_function_release(function);
  pega_error_clear(&error);
}

static void test_unknown_status(void **state) {
  (void)state;
  static const int numbers[] = {21, 99, -1, INT32_MAX};
  for (int i = 0; i < COUNT(numbers); ++i) {
    char text[64];
    pega_error error = PEGA_ERROR_INIT;
    script it = {.status = (pega_status)numbers[i]};
    pega_function *function = make("t.f", &it);
    snprintf(text, sizeof text, "t.f failed with status %d (UNKNOWN)", numbers[i]);
    EXPECT_ERROR(pega_function_call(function, NULL, 0, NULL, &error), &error, PEGA_ERROR_CALLEE,
                 text);
    assert_int_equal(pega_function_call(function, NULL, 0, NULL, NULL), PEGA_ERROR_CALLEE);
    it.set = (pega_status)numbers[i];
    it.text = "own words";
    EXPECT_ERROR(pega_function_call(function, NULL, 0, NULL, &error), &error, PEGA_ERROR_CALLEE,
                 "own words");
    pega_function_release(function);
    pega_error_clear(&error);
  }
}

/* Keeps what it is told, as a log does. */
static pega_status keep_text(void *self, const pega_value *args, int32_t num_args,
                             pega_value *result, pega_error *error) {
  (void)num_args;
  (void)result;
  (void)error;
  return pega_value_retain(&args[0], self, NULL);
}

/* The text of an error is a natural argument of a call that may fill the same error. */
static void test_arguments_inside_the_error(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_value kept = pega_value_none();
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  options.call = keep_text;
  options.self = &kept;
  pega_function *function = NULL;
  EXPECT_OK(pega_function_create(&options, &function, &error), &error);
  char text[2000];
  static const size_t sizes[] = {10, sizeof text - 1};
  for (int i = 0; i < COUNT(sizes); ++i) {
    memset(text, 'x', sizes[i]);
    text[sizes[i]] = '\0';
    pega_error_set_text(&error, PEGA_ERROR_IO, NULL, text, sizes[i]);
    const pega_value argument = pega_value_string(pega_error_message(&error));
    EXPECT_OK(pega_function_call(function, &argument, 1, NULL, &error), &error);
    size_t size = 0;
    const char *got = pega_value_as_string(&kept, &size);
    assert_int_equal(size, sizes[i]);
    assert_memory_equal(got, text, sizes[i]);
    pega_value_release(&kept);
    assert_int_equal(error.status, PEGA_OK);
  }
  pega_function_release(function);
}

static void test_stale_error_is_cleared(void **state) {
  (void)state;
  static const int tag;
  support_counter released = {0};
  pega_error error = PEGA_ERROR_INIT;
  script it = {0};
  pega_function *function = make("t.f", &it);
  pega_error_set(&error, PEGA_ERROR_IO, NULL, "left over");
  pega_error_attach(&error, &tag, &released, support_count);
  EXPECT_OK(pega_function_call(function, NULL, 0, NULL, &error), &error);
  assert_int_equal(it.error_status_on_entry, PEGA_OK);
  assert_int_equal(released.count, 1);
  assert_int_equal(error.status, PEGA_OK);
  /* What a function that succeeds after all put there is no error of the call's. */
  it.set = PEGA_ERROR_IO;
  it.text = "tried and mended";
  EXPECT_OK(pega_function_call(function, NULL, 0, NULL, &error), &error);
  assert_int_equal(error.status, PEGA_OK);
  assert_string_equal(pega_error_message(&error), "");
  pega_function_release(function);
}

/* A call inside a call inside a call: each function it passed is in the traceback, inner first. */
static pega_status call_inner(void *self, const pega_value *args, int32_t num_args,
                              pega_value *result, pega_error *error) {
  return pega_function_call(self, args, num_args, result, error);
}

static void test_traceback_of_nested_calls(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  script it = {.status = PEGA_ERROR_IO, .set = PEGA_ERROR_IO, .text = "innermost"};
  pega_function *inner = make("t.inner", &it);
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  pega_function *outer;
  options.name = "t.outer";
  options.call = call_inner;
  options.self = inner;
  EXPECT_OK(pega_function_create(&options, &outer, &error), &error);
  EXPECT_ERROR(pega_function_call(outer, NULL, 0, NULL, &error), &error, PEGA_ERROR_IO,
               "innermost");
  const char *first = strstr(pega_error_traceback(&error), "in t.inner\n");
  const char *second = strstr(pega_error_traceback(&error), "in t.outer\n");
  assert_non_null(first);
  assert_non_null(second);
  assert_true(first < second);
  pega_function_release(outer);
  pega_function_release(inner);
  pega_error_clear(&error);
}

static void test_refused_calls_do_not_run(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  script it = {0};
  const pega_param param = {.name = "n", .type = PEGA_TYPE_INT};
  pega_signature signature;
  pega_function_options options = support_options("t.f", &signature, &param, 1);
  options.call = run_script;
  options.self = &it;
  pega_function *function;
  EXPECT_OK(pega_function_create(&options, &function, &error), &error);
  pega_value result = pega_value_int(99);
  EXPECT_ERROR(pega_function_call(function, ARGS(pega_value_none()), &result, &error), &error,
               PEGA_ERROR_TYPE, "argument 0 'n'");
  assert_int_equal(result.kind, PEGA_NONE);
  EXPECT_ERROR(pega_function_call(function, NULL, 1, NULL, &error), &error,
               PEGA_ERROR_INVALID_ARGUMENT, "t.f: expected a count >= 0", "got 1 at NULL");
  EXPECT_ERROR(pega_function_call(function, &result, -1, NULL, &error), &error,
               PEGA_ERROR_INVALID_ARGUMENT, "got -1 at");
  assert_int_equal(it.calls, 0);
  /* A function that takes anything still needs an address of what it is given. */
  pega_function *any = make("t.any", &it);
  EXPECT_ERROR(pega_function_call(any, NULL, 1, NULL, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "t.any: expected a count >= 0", "got 1 at NULL");
  assert_int_equal(it.calls, 0);
  pega_function_release(any);
  pega_function_release(function);
  pega_error_clear(&error);
}

/* Without a signature, values still have to be values and tensors tensors. */
/* What a function of three saw of its arguments: the last is None where it was left out. */
typedef struct seen {
  int32_t num_args;
  bool last_is_none;
  int calls;
} seen;

static pega_status see(void *self, const pega_value *args, int32_t num_args, pega_value *result,
                       pega_error *error) {
  (void)result;
  (void)error;
  seen *out = self;
  out->num_args = num_args;
  out->last_is_none = num_args == 3 && args[2].kind == PEGA_NONE;
  ++out->calls;
  return PEGA_OK;
}

static void test_arguments_left_out(void **state) {
  (void)state;
  /* An optional parameter with one behind it that is not cannot be left out. */
  const pega_param params[] = {
      {.name = "a", .type = PEGA_TYPE_INT, .flags = PEGA_PARAM_OPTIONAL},
      {.name = "b", .type = PEGA_TYPE_INT},
      {.name = "c", .type = PEGA_TYPE_STRING, .flags = PEGA_PARAM_OPTIONAL}};
  pega_signature signature;
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function = NULL;
  pega_function_options options = support_options("t.left_out", &signature, params, 3);
  seen saw = {0};
  options.call = see;
  options.self = &saw;
  EXPECT_OK(pega_function_create(&options, &function, &error), &error);
  const pega_value args[] = {pega_value_none(), pega_value_int(1), pega_value_string("c"),
                             pega_value_int(2)};
  EXPECT_OK(pega_function_call(function, args, 3, NULL, &error), &error);
  assert_int_equal(saw.num_args, 3);
  assert_false(saw.last_is_none);
  EXPECT_OK(pega_function_check(function, args, 2, &error), &error);
  assert_int_equal(saw.calls, 1);
  EXPECT_OK(pega_function_call(function, args, 2, NULL, &error), &error);
  assert_int_equal(saw.num_args, 3);
  assert_true(saw.last_is_none);
  EXPECT_ERROR(pega_function_call(function, args, 1, NULL, &error), &error,
               PEGA_ERROR_ARGUMENT_COUNT, "t.left_out: expected 2 to 3 arguments, got 1");
  EXPECT_ERROR(pega_function_call(function, NULL, 0, NULL, &error), &error,
               PEGA_ERROR_ARGUMENT_COUNT, "got 0");
  EXPECT_ERROR(pega_function_call(function, args, 4, NULL, &error), &error,
               PEGA_ERROR_ARGUMENT_COUNT, "got 4");
  /* What is there is checked all the same. */
  EXPECT_ERROR(pega_function_call(function, args + 2, 2, NULL, &error), &error, PEGA_ERROR_TYPE,
               "'a'");
  assert_int_equal(saw.calls, 2);
  pega_function_release(function);
  pega_error_clear(&error);
}

static void test_untyped_arguments_are_checked(void **state) {
  (void)state;
  float data[4];
  pega_error error = PEGA_ERROR_INIT;
  script it = {0};
  pega_function *any = make("t.any", &it);
  const DLTensor good_tensor = TENSOR(data, FLOAT32, 4);
  const DLTensor bad_tensor = TENSOR(data, FLOAT32, -4);
  pega_value bad_value = pega_value_none();
  bad_value.kind = 99;
  const pega_value number = pega_value_int(1), good = pega_value_tensor(&good_tensor);
  EXPECT_OK(pega_function_call(any, ARGS(number, good), NULL, &error), &error);
  assert_int_equal(it.calls, 1);
  EXPECT_ERROR(pega_function_call(any, ARGS(number, bad_value), NULL, &error), &error,
               PEGA_ERROR_INVALID_ARGUMENT, "t.any: argument 1: malformed value (kind 99");
  EXPECT_ERROR(
      pega_function_call(any, ARGS(good, number, pega_value_tensor(&bad_tensor)), NULL, &error),
      &error, PEGA_ERROR_SHAPE, "t.any: argument 2: tensor shape[0] is -4");
  assert_int_equal(it.calls, 1);
  pega_function_release(any);
  pega_error_clear(&error);
}

static void test_nulls(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_value result = pega_value_int(99);
  EXPECT_ERROR(pega_function_call(NULL, NULL, 0, &result, &error), &error,
               PEGA_ERROR_INVALID_ARGUMENT, "pega_function_call: function is NULL");
  assert_int_equal(result.kind, PEGA_NONE);
  EXPECT_ERROR(pega_function_check(NULL, NULL, 0, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "function is NULL");
  assert_int_equal(pega_function_call(NULL, NULL, 0, NULL, NULL), PEGA_ERROR_INVALID_ARGUMENT);
  assert_null(pega_function_retain(NULL));
  pega_function_release(NULL);
  assert_string_equal(pega_function_name(NULL), "");
  assert_string_equal(pega_function_doc(NULL), "");
  assert_string_equal(pega_function_signature_text(NULL), "");
  assert_null(pega_function_signature(NULL));
  assert_null(pega_function_self(NULL, support_no_op));
  pega_error_clear(&error);
}

enum { kThreads = 8, kCalls = 2000 };

static pega_status add_one(void *self, const pega_value *args, int32_t num_args, pega_value *result,
                           pega_error *error) {
  (void)self;
  (void)num_args;
  if (args[0].as.i64 % 10 == 0) return pega_error_set(error, PEGA_ERROR_RANGE, NULL, "tens");
  *result = pega_value_int(args[0].as.i64 + 1);
  return PEGA_OK;
}

static void *call_many_times(void *function) {
  pega_error error = PEGA_ERROR_INIT;
  intptr_t wrong = 0;
  for (int64_t i = 0; i < kCalls; ++i) {
    pega_value result;
    pega_function_retain(function);
    const pega_status status =
        pega_function_call(function, ARGS(pega_value_int(i)), &result, &error);
    wrong += i % 10 == 0 ? status != PEGA_ERROR_RANGE : status != PEGA_OK || result.as.i64 != i + 1;
    pega_function_release(function);
  }
  pega_error_clear(&error);
  return (void *)wrong;
}

static void test_many_threads_call_one_function(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  const pega_param param = {.name = "n", .type = PEGA_TYPE_INT};
  pega_signature signature;
  pega_function_options options = support_options("t.add_one", &signature, &param, 1);
  options.call = add_one;
  pega_function *function;
  EXPECT_OK(pega_function_create(&options, &function, &error), &error);
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; ++i) {
    assert_int_equal(pthread_create(&threads[i], NULL, call_many_times, function), 0);
  }
  for (int i = 0; i < kThreads; ++i) {
    void *wrong;
    pthread_join(threads[i], &wrong);
    assert_null(wrong);
  }
  pega_function_release(function);
}

static void test_version(void **state) {
  (void)state;
  char text[32];
  snprintf(text, sizeof text, "%d.%d.%d", PEGA_VERSION_MAJOR, PEGA_VERSION_MINOR,
           PEGA_VERSION_PATCH);
  assert_string_equal(pega_version_string(), text);
  assert_int_equal(pega_version(),
                   PEGA_VERSION_MAJOR * 10000 + PEGA_VERSION_MINOR * 100 + PEGA_VERSION_PATCH);
  /* The build's version and the header's are one. */
  assert_string_equal(pega_version_string(), PROJECT_VERSION);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_options),
      cmocka_unit_test(test_names),
      cmocka_unit_test(test_what_a_function_tells),
      cmocka_unit_test(test_deleter_runs_once_on_another_thread),
      cmocka_unit_test(test_call),
      cmocka_unit_test(test_failure_with_text),
      cmocka_unit_test(test_silent_failure),
      cmocka_unit_test(test_unknown_status),
      cmocka_unit_test(test_stale_error_is_cleared),
      cmocka_unit_test(test_arguments_inside_the_error),
      cmocka_unit_test(test_traceback_of_nested_calls),
      cmocka_unit_test(test_refused_calls_do_not_run),
      cmocka_unit_test(test_arguments_left_out),
      cmocka_unit_test(test_untyped_arguments_are_checked),
      cmocka_unit_test(test_nulls),
      cmocka_unit_test(test_many_threads_call_one_function),
      cmocka_unit_test(test_version),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
