/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors both ways: kind, message, traceback and cause through any depth of nesting (engine ->
 * module -> callback -> engine ...), failures that say nothing, errors that nobody reads.
 */
#include "support.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static pega_error error = PEGA_ERROR_INIT;

/* ---- what the engine offers ---- */

/* fail_with(kind, message) */
static pega_status fail_with(void *self, const pega_value *args, int32_t num_args,
                             pega_value *result, pega_error *out_error) {
  (void)self;
  (void)num_args;
  (void)result;
  size_t size = 0;
  const char *message = pega_value_as_string(&args[1], &size);
  return pega_error_set_text(out_error, PEGA_ERROR_RANGE, pega_value_as_string(&args[0], NULL),
                             message, size);
}

static pega_status fail_silently(void *self, const pega_value *args, int32_t num_args,
                                 pega_value *result, pega_error *out_error) {
  (void)self;
  (void)args;
  (void)num_args;
  (void)result;
  (void)out_error;
  return PEGA_ERROR_INTERNAL;
}

struct descent {
  pega_function *apply; /* the fixture's */
  pega_function *raise; /* the fixture's */
  pega_function *self;
  bool wrap; /* each level fails with an error of its own, caused by the one below */
};

/* descend(depth): engine -> module -> engine -> ... until depth is 0, then the module raises. */
static pega_status descend(void *self, const pega_value *args, int32_t num_args, pega_value *result,
                           pega_error *out_error) {
  struct descent *descent = self;
  (void)num_args;
  int64_t depth = args[0].as.i64;
  if (depth == 0) {
    const pega_value raised[] = {TEXT("IndexError"), TEXT("the bottom of it")};
    return pega_function_call(descent->raise, raised, 2, result, out_error);
  }
  const pega_value next[] = {pega_value_function(descent->self), INT(depth - 1)};
  pega_error inner = PEGA_ERROR_INIT;
  pega_status status = pega_function_call(descent->apply, next, 2, result, &inner);
  if (status == PEGA_OK) return status;
  if (!descent->wrap) {
    pega_error_copy(&inner, out_error);
    pega_error_clear(&inner);
    return status;
  }
  pega_error_set(out_error, PEGA_ERROR_INTERNAL, "RuntimeError", "level %d", (int)depth);
  pega_error_set_cause(out_error, &inner);
  return PEGA_ERROR_INTERNAL;
}

static void descent_open(struct descent *descent, bool wrap) {
  descent->apply = support_get("apply");
  descent->raise = support_get("raise");
  descent->self = support_function("test.descend", NULL, descend, descent);
  descent->wrap = wrap;
}

static void descent_close(struct descent *descent) {
  pega_function_release(descent->apply);
  pega_function_release(descent->raise);
  pega_function_release(descent->self);
}

static bool has_causes(void) {
  return support_symbol("TVMFFIErrorCreateWithCauseAndExtraContext") != NULL;
}

/* ---- TVM FFI -> engine ---- */

static void test_every_kind(void **state) {
  (void)state;
  static const char *const kinds[] = {
      "RuntimeError",        "ValueError",     "TypeError",    "AttributeError", "KeyError",
      "IndexError",          "AssertionError", "MemoryError",  "OSError",        "StopIteration",
      "NotImplementedError", "InternalError",  "acme.OwnError"};
  for (int i = 0; i < SUPPORT_COUNT(kinds); i++) {
    pega_value result = INT(1);
    EXPECT_FAILURE(PEGA_ERROR_CALLEE,
                   CALL_FIXTURE("raise", &result, TEXT(kinds[i]), TEXT("what went wrong")),
                   "what went wrong");
    assert_string_equal(pega_error_kind(&error), kinds[i]);
    assert_int_equal(result.kind, PEGA_NONE);
    EXPECT_TEXT(pega_error_traceback(&error), "fixture_raise");
  }
}

/* The message is the callee's own, so that a host can compare it; who said it is told elsewhere. */
static void test_message_is_whole(void **state) {
  (void)state;
  const size_t size = 100 * 1024;
  char *message = malloc(size + 1);
  assert_non_null(message);
  for (size_t i = 0; i < size; i++) message[i] = (char)('a' + i % 26);
  message[size] = '\0';
  assert_int_equal(CALL_FIXTURE("raise", NULL, TEXT("ValueError"), TEXT(message)),
                   PEGA_ERROR_CALLEE);
  EXPECT_TEXT(pega_error_message(&error), message);
  assert_int_equal(strlen(error.message), sizeof error.message - 1);

  /* And the same message from the engine, as TVM FFI sees it. */
  pega_function *function = support_function("test.fail", NULL, fail_with, NULL);
  pega_value caught = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("catch", &caught, pega_value_function(function), TEXT("OwnError"),
                         TEXT(message)));
  size_t got = 0;
  const char *text = pega_value_as_string(pega_array_get(&caught, 1), &got);
  assert_int_equal(got, size);
  assert_memory_equal(text, message, size);
  pega_value_release(&caught);
  pega_function_release(function);
  free(message);
}

static void test_strange_text(void **state) {
  (void)state;
  EXPECT_FAILURE(PEGA_ERROR_CALLEE,
                 CALL_FIXTURE("raise", NULL, TEXT("ValueError"), TEXT("zwölf\nlines %s %n %d")),
                 "zwölf\nlines %s %n %d");
  /* No message, no kind: there is something to read all the same. */
  assert_int_equal(CALL_FIXTURE("raise", NULL, TEXT("ValueError"), TEXT("")), PEGA_ERROR_CALLEE);
  assert_string_not_equal(pega_error_message(&error), "");
  assert_int_equal(CALL_FIXTURE("raise", NULL, TEXT(""), TEXT("only a message")),
                   PEGA_ERROR_CALLEE);
  EXPECT_TEXT(pega_error_message(&error), "only a message");
  assert_string_not_equal(pega_error_kind(&error), "");
  /* NUL ends pega's text; what is before it stays. */
  assert_int_equal(
      CALL_FIXTURE("raise", NULL, TEXT("ValueError"), pega_value_string_n("before\0after", 12)),
      PEGA_ERROR_CALLEE);
  EXPECT_TEXT(pega_error_message(&error), "before");
  /* A kind longer than the inline room. */
  char kind[300];
  memset(kind, 'K', sizeof kind - 1);
  kind[sizeof kind - 1] = '\0';
  assert_int_equal(CALL_FIXTURE("raise", NULL, TEXT(kind), TEXT("long kind")), PEGA_ERROR_CALLEE);
  assert_int_equal(strncmp(pega_error_kind(&error), kind, 60), 0);
}

static void test_cause_from_tvm_ffi(void **state) {
  (void)state;
  pega_status status = CALL_FIXTURE("raise_chain", NULL, INT(3));
  assert_int_equal(status, PEGA_ERROR_CALLEE);
  if (!has_causes()) {
    assert_string_equal(pega_error_kind(&error), "NotImplementedError");
    return;
  }
  const pega_error *level = &error;
  for (char i = '0'; i <= '3'; i++) {
    const char text[] = {'l', 'e', 'v', 'e', 'l', ' ', i, '\0'};
    assert_non_null(level);
    assert_string_equal(pega_error_kind(level), "ValueError");
    EXPECT_TEXT(pega_error_message(level), text);
    level = pega_error_cause(level);
  }
  assert_null(level);
}

/* ---- engine -> TVM FFI ---- */

static void test_engine_error_seen_by_tvm_ffi(void **state) {
  (void)state;
  pega_function *function = support_function("test.fail", NULL, fail_with, NULL);
  pega_value caught = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("catch", &caught, pega_value_function(function), TEXT("KeyError"),
                         TEXT("no such sequence")));
  assert_string_equal(pega_value_as_string(pega_array_get(&caught, 0), NULL), "KeyError");
  EXPECT_TEXT(pega_value_as_string(pega_array_get(&caught, 1), NULL), "no such sequence");
  /* Who failed is in the traceback. */
  EXPECT_TEXT(pega_value_as_string(pega_array_get(&caught, 2), NULL), "test.fail");
  pega_value_release(&caught);

  /* Through the module and back: the same kind and message as if called directly. */
  EXPECT_FAILURE(PEGA_ERROR_CALLEE,
                 CALL_FIXTURE("apply", NULL, pega_value_function(function), TEXT("KeyError"),
                              TEXT("no such sequence")),
                 "no such sequence");
  assert_string_equal(pega_error_kind(&error), "KeyError");
  EXPECT_TEXT(pega_error_traceback(&error), "test.fail");
  pega_function_release(function);
}

static pega_status fail_with_causes(void *self, const pega_value *args, int32_t num_args,
                                    pega_value *result, pega_error *out_error) {
  (void)self;
  (void)args;
  (void)num_args;
  (void)result;
  pega_error inner = PEGA_ERROR_INIT;
  pega_error middle = PEGA_ERROR_INIT;
  pega_error_set(&inner, PEGA_ERROR_IO, NULL, "the disk is full");
  pega_error_set(&middle, PEGA_ERROR_UNAVAILABLE, NULL, "the cache cannot grow");
  pega_error_set_cause(&middle, &inner);
  pega_error_set(out_error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "the request does not fit");
  pega_error_set_cause(out_error, &middle);
  return PEGA_ERROR_OUT_OF_MEMORY;
}

/* `self` counts how many causes the error has. */
static pega_status fail_with_many_causes(void *self, const pega_value *args, int32_t num_args,
                                         pega_value *result, pega_error *out_error) {
  (void)args;
  (void)num_args;
  (void)result;
  pega_error_set(out_error, PEGA_ERROR_IO, "OSError", "the bottom of it");
  for (int i = 0; i < *(const int *)self; i++) {
    pega_error wrap = PEGA_ERROR_INIT;
    pega_error_set(&wrap, PEGA_ERROR_CALLEE, NULL, "wrapped %d times", i + 1);
    pega_error_set_cause(&wrap, out_error);
    *out_error = wrap;
  }
  return PEGA_ERROR_CALLEE;
}

static void test_many_causes(void **state) {
  (void)state;
  static int count = 200;
  pega_function *function = support_function("test.causes", NULL, fail_with_many_causes, &count);
  assert_int_equal(CALL_FIXTURE("apply", NULL, pega_value_function(function)), PEGA_ERROR_CALLEE);
  if (has_causes()) {
    const pega_error *level = &error;
    int causes = 0;
    while (pega_error_cause(level) != NULL) {
      level = pega_error_cause(level);
      causes++;
    }
    assert_int_equal(causes, count);
    EXPECT_TEXT(pega_error_message(level), "the bottom of it");
  } else {
    EXPECT_TEXT(pega_error_message(&error), "the bottom of it");
  }
  pega_function_release(function);
}

/* Peers in other languages could read none of an error whose text is not UTF-8. */
static pega_status fail_in_bytes(void *self, const pega_value *args, int32_t num_args,
                                 pega_value *result, pega_error *out_error) {
  (void)self;
  (void)args;
  (void)num_args;
  (void)result;
  return pega_error_set(out_error, PEGA_ERROR_IO, "Odd\xff", "caf\xe9 is closed");
}

static void test_text_that_is_not_utf8(void **state) {
  (void)state;
  pega_function *function = support_function("test.bytes", NULL, fail_in_bytes, NULL);
  EXPECT_FAILURE(PEGA_ERROR_CALLEE, CALL_FIXTURE("apply", NULL, pega_value_function(function)),
                 "caf? is closed");
  assert_string_equal(pega_error_kind(&error), "Odd?");
  pega_function_release(function);
}

static void test_cause_to_tvm_ffi(void **state) {
  (void)state;
  pega_function *function = support_function("test.causes", NULL, fail_with_causes, NULL);
  pega_value caught = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("catch", &caught, pega_value_function(function)));
  assert_string_equal(pega_value_as_string(pega_array_get(&caught, 0), NULL), "MemoryError");
  EXPECT_TEXT(pega_value_as_string(pega_array_get(&caught, 1), NULL), "the request does not fit");
  if (has_causes()) {
    static const char *const chain[] = {"RuntimeError", "the cache cannot grow", "OSError",
                                        "the disk is full"};
    assert_int_equal(pega_value_size(&caught), 3 + 4);
    for (int i = 0; i < 4; i++) {
      assert_string_equal(pega_value_as_string(pega_array_get(&caught, 3 + i), NULL), chain[i]);
    }
  }
  pega_value_release(&caught);

  /* And back into the engine, whole. */
  assert_int_equal(CALL_FIXTURE("apply", NULL, pega_value_function(function)), PEGA_ERROR_CALLEE);
  if (has_causes()) {
    const pega_error *middle = pega_error_cause(&error);
    assert_non_null(middle);
    EXPECT_TEXT(pega_error_message(middle), "the cache cannot grow");
    const pega_error *inner = pega_error_cause(middle);
    assert_non_null(inner);
    assert_string_equal(pega_error_kind(inner), "OSError");
    EXPECT_TEXT(pega_error_message(inner), "the disk is full");
    assert_null(pega_error_cause(inner));
  }
  pega_function_release(function);
}

/* ---- nesting ---- */

static void test_any_depth(void **state) {
  (void)state;
  struct descent descent;
  descent_open(&descent, false);
  for (int depth = 0; depth <= 32; depth = depth == 0 ? 1 : depth * 2) {
    EXPECT_FAILURE(PEGA_ERROR_CALLEE, CALL(descent.self, NULL, INT(depth)), "the bottom of it");
    assert_string_equal(pega_error_kind(&error), "IndexError");
    assert_null(pega_error_cause(&error));
    const char *traceback = pega_error_traceback(&error);
    EXPECT_TEXT(traceback, "fixture_raise");
    /* Innermost first. */
    if (depth > 0) {
      EXPECT_TEXT(traceback, "test.descend");
      assert_true(strstr(traceback, "fixture_raise") < strstr(traceback, "test.descend"));
    }
  }
  descent_close(&descent);
}

static void test_cause_at_every_depth(void **state) {
  (void)state;
  if (!has_causes()) return;
  struct descent descent;
  descent_open(&descent, true);
  assert_int_equal(CALL(descent.self, NULL, INT(6)), PEGA_ERROR_INTERNAL);
  const pega_error *level = &error;
  for (int depth = 6; depth > 0; depth--) {
    char text[16];
    snprintf(text, sizeof text, "level %d", depth);
    assert_non_null(level);
    EXPECT_TEXT(pega_error_message(level), text);
    level = pega_error_cause(level);
  }
  assert_non_null(level);
  assert_string_equal(pega_error_kind(level), "IndexError");
  EXPECT_TEXT(pega_error_message(level), "the bottom of it");
  assert_null(pega_error_cause(level));
  descent_close(&descent);
}

/* ---- failures that say nothing ---- */

static void test_silent_failures(void **state) {
  (void)state;
  static const char *const names[] = {"fail_silently", "fail_frontend", "fail_strangely"};
  for (int i = 0; i < SUPPORT_COUNT(names); i++) {
    EXPECT_FAILURE(PEGA_ERROR_CALLEE, CALL_FIXTURE0(names[i], NULL), names[i], "returned");
    assert_string_equal(pega_error_kind(&error), "RuntimeError");
  }
}

/* The number itself arrives from a function object, which no module stands before. */
static void test_silent_numbers(void **state) {
  (void)state;
  static const int codes[] = {-1, -2, 42};
  for (int i = 0; i < SUPPORT_COUNT(codes); i++) {
    pega_value failing = pega_value_none();
    char text[16];
    snprintf(text, sizeof text, "%d", codes[i]);
    EXPECT_OK(CALL_FIXTURE("make_failing", &failing, INT(codes[i])));
    EXPECT_FAILURE(PEGA_ERROR_CALLEE,
                   pega_function_call(pega_value_as_function(&failing), NULL, 0, NULL, &error),
                   text);
    assert_int_equal(error.code, codes[i]);
    if (codes[i] == -2) EXPECT_TEXT(pega_error_message(&error), "frontend");
    pega_value_release(&failing);
  }
}

static void test_silent_callback(void **state) {
  (void)state;
  pega_function *function = support_function("test.silent", NULL, fail_silently, NULL);
  pega_value caught = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("catch", &caught, pega_value_function(function)));
  EXPECT_TEXT(pega_value_as_string(pega_array_get(&caught, 1), NULL), "test.silent");
  assert_string_not_equal(pega_value_as_string(pega_array_get(&caught, 0), NULL), "");
  pega_value_release(&caught);
  EXPECT_FAILURE(PEGA_ERROR_CALLEE, CALL_FIXTURE("apply", NULL, pega_value_function(function)),
                 "test.silent");
  pega_function_release(function);
}

/* A silent failure two levels down does not lose its number on the way up. */
static void test_silent_failure_through_callback(void **state) {
  (void)state;
  pega_function *silent = support_get("fail_silently");
  EXPECT_FAILURE(PEGA_ERROR_CALLEE, CALL_FIXTURE("apply", NULL, pega_value_function(silent)),
                 "apply", "-1");
  pega_function_release(silent);
}

static void test_stale_error_is_not_blamed(void **state) {
  (void)state;
  pega_value result = pega_value_none();
  EXPECT_OK(CALL_FIXTURE0("leave_stale_error", &result));
  EXPECT_INT(&result, 7);
  assert_int_equal(CALL_FIXTURE0("fail_silently", NULL), PEGA_ERROR_CALLEE);
  EXPECT_NO_TEXT(pega_error_message(&error), "stale");
  EXPECT_TEXT(pega_error_message(&error), "fail_silently");

  EXPECT_OK(CALL_FIXTURE0("leave_stale_error", &result));
  assert_int_equal(CALL_FIXTURE0("fail_frontend", NULL), PEGA_ERROR_CALLEE);
  EXPECT_NO_TEXT(pega_error_message(&error), "stale");
}

/* ---- error objects: held while somebody may ask, then gone ---- */

static void test_unread_error_is_dropped(void **state) {
  (void)state;
  pega_function *raise = support_get("raise_kept");
  assert_int_equal(pega_function_call(raise, NULL, 0, NULL, &error), PEGA_ERROR_CALLEE);
  EXPECT_TEXT(pega_error_message(&error), "the kept error");
  pega_error copy = PEGA_ERROR_INIT;
  pega_error_copy(&error, &copy);
  pega_error_clear(&error);
  EXPECT_TEXT(pega_error_message(&copy), "the kept error");
  pega_error_clear(&copy);
  assert_int_equal(support_counter("kept_references"), 1);

  /* Nobody wants to know. */
  assert_int_equal(pega_function_call(raise, NULL, 0, NULL, NULL), PEGA_ERROR_CALLEE);
  pega_value taken = pega_value_none();
  EXPECT_OK(CALL_FIXTURE0("take_raised", &taken));
  assert_int_equal(taken.kind, PEGA_BOOL);
  assert_false(taken.as.boolean);
  assert_int_equal(support_counter("kept_references"), 1);

  /* Filled over without clearing. */
  for (int i = 0; i < 3; i++) {
    assert_int_equal(pega_function_call(raise, NULL, 0, NULL, &error), PEGA_ERROR_CALLEE);
  }
  pega_error_set(&error, PEGA_ERROR_INTERNAL, NULL, "another");
  assert_int_equal(support_counter("kept_references"), 1);
  EXPECT_OK(CALL_FIXTURE0("drop_kept", NULL));
  pega_function_release(raise);
}

static pega_status call_self(void *self, const pega_value *args, int32_t num_args,
                             pega_value *result, pega_error *out_error) {
  return pega_function_call(self, args, num_args, result, out_error);
}

/* The traceback of the error with which a function fails, as TVM FFI code reads it. Owned. */
static char *traceback_of(pega_function *function) {
  pega_value caught = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("catch", &caught, pega_value_function(function)));
  const char *text = pega_value_as_string(pega_array_get(&caught, 2), NULL);
  assert_non_null(text);
  char *copy = strdup(text);
  assert_non_null(copy);
  pega_value_release(&caught);
  return copy;
}

/* What came from TVM FFI and leaves unchanged leaves as the very same object, its traceback longer
 * by the function that it passed. */
static void test_same_object_through_engine(void **state) {
  (void)state;
  pega_function *raise = support_get("raise_unkept");
  pega_function *function = support_function("test.passes_on", NULL, call_self, raise);
  pega_value same = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("raises_unkept", &same, pega_value_function(function)));
  assert_int_equal(same.kind, PEGA_BOOL);
  assert_true(same.as.boolean);
  char *traceback = traceback_of(function);
  EXPECT_TEXT(traceback, "fixture_raise");
  EXPECT_TEXT(traceback, "test.passes_on");
  free(traceback);
  pega_function_release(function);
  pega_function_release(raise);
}

/* So does one that somebody else holds too, but nothing is written to what they may read. */
static void test_shared_object_through_engine(void **state) {
  (void)state;
  pega_function *raise = support_get("raise_kept");
  pega_function *function = support_function("test.passes_on", NULL, call_self, raise);
  pega_value same = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("raises_kept", &same, pega_value_function(function)));
  assert_int_equal(same.kind, PEGA_BOOL);
  assert_true(same.as.boolean);
  char *traceback = traceback_of(function);
  EXPECT_TEXT(traceback, "fixture_raise");
  EXPECT_NO_TEXT(traceback, "test.passes_on");
  free(traceback);
  assert_int_equal(support_counter("kept_references"), 1);
  EXPECT_OK(CALL_FIXTURE0("drop_kept", NULL));
  pega_function_release(function);
  pega_function_release(raise);
}

enum { kCachedThreads = 8, kCachedRounds = 2000 };

struct cached {
  pega_function *function;
  int wrong;
};

static void *raise_cached(void *argument) {
  struct cached *cached = argument;
  for (int i = 0; i < kCachedRounds; i++) {
    pega_error own = PEGA_ERROR_INIT;
    pega_status status = pega_function_call(cached->function, NULL, 0, NULL, &own);
    if (status != PEGA_ERROR_CALLEE || strcmp(own.message, "the kept error") != 0) cached->wrong++;
    pega_error_clear(&own);
  }
  return NULL;
}

/* One error object that is raised again and again, by one thread and by many at once, through a
 * pega function that is a TVM FFI global. */
static void test_cached_object(void **state) {
  (void)state;
  pega_function *raise = support_get("raise_kept");
  pega_function *function = support_function("test.cached", NULL, call_self, raise);
  EXPECT_OK(pega_tvm_ffi_export(support_runtime, NULL, function, 0, &error));
  pega_function_release(function);
  EXPECT_OK(pega_tvm_ffi_get_global(support_runtime, "test.cached", &function, &error));
  char *first = traceback_of(function);

  struct cached alone = {function, 0};
  raise_cached(&alone);
  assert_int_equal(alone.wrong, 0);
  char *last = traceback_of(function);
  assert_string_equal(last, first);
  free(last);

  struct cached cached[kCachedThreads];
  pthread_t threads[kCachedThreads];
  for (int i = 0; i < kCachedThreads; i++) {
    cached[i] = (struct cached){function, 0};
    assert_int_equal(pthread_create(&threads[i], NULL, raise_cached, &cached[i]), 0);
  }
  for (int i = 0; i < kCachedThreads; i++) pthread_join(threads[i], NULL);
  for (int i = 0; i < kCachedThreads; i++) assert_int_equal(cached[i].wrong, 0);
  last = traceback_of(function);
  assert_string_equal(last, first);
  free(last);
  free(first);
  assert_int_equal(support_counter("kept_references"), 1);
  EXPECT_OK(CALL_FIXTURE0("drop_kept", NULL));
  EXPECT_OK(pega_tvm_ffi_remove_global(support_runtime, "test.cached", &error));
  pega_function_release(function);
  pega_function_release(raise);
}

/* ---- -2: an error that is pending in the frontend language ---- */

/* What TVM FFI code that calls a pega function gets; the raised object, if any, to be released. */
static int code_of(pega_function *function, TVMFFIObjectHandle *raised) {
  int (*call)(void *, TVMFFIAny *, int32_t, TVMFFIAny *) = NULL;
  void (*take)(TVMFFIObjectHandle *) = NULL;
  int (*release)(void *) = NULL;
  *(void **)&call = support_symbol("TVMFFIFunctionCall");
  *(void **)&take = support_symbol("TVMFFIErrorMoveFromRaised");
  *(void **)&release = support_symbol("TVMFFIObjectDecRef");
  void *handle = NULL;
  EXPECT_OK(pega_tvm_ffi_function_to_handle(support_runtime, function, &handle, &error));
  TVMFFIAny result = {0};
  int code = call(handle, NULL, 0, &result);
  *raised = NULL;
  take(raised);
  release(handle);
  return code;
}

static pega_status fail_with_number(void *self, const pega_value *args, int32_t num_args,
                                    pega_value *result, pega_error *out_error) {
  (void)self;
  (void)args;
  (void)num_args;
  (void)result;
  pega_error_set(out_error, PEGA_ERROR_CALLEE, "OSError", "the host's driver said -2");
  out_error->code = -2;
  return PEGA_ERROR_CALLEE;
}

/* The number alone, which any host may use, says nothing. */
static void test_number_of_a_host(void **state) {
  (void)state;
  int (*release)(void *) = NULL;
  *(void **)&release = support_symbol("TVMFFIObjectDecRef");
  pega_function *function = support_function("test.number", NULL, fail_with_number, NULL);
  TVMFFIObjectHandle raised = NULL;
  assert_int_equal(code_of(function, &raised), -1);
  assert_non_null(raised);
  release(raised);
  pega_value caught = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("catch", &caught, pega_value_function(function)));
  assert_string_equal(pega_value_as_string(pega_array_get(&caught, 0), NULL), "OSError");
  assert_string_equal(pega_value_as_string(pega_array_get(&caught, 1), NULL),
                      "the host's driver said -2");
  pega_value_release(&caught);
  pega_function_release(function);
}

static pega_status call_self_and_copy(void *self, const pega_value *args, int32_t num_args,
                                      pega_value *result, pega_error *out_error) {
  pega_error inner = PEGA_ERROR_INIT;
  pega_status status = pega_function_call(self, args, num_args, result, &inner);
  pega_error_copy(&inner, out_error);
  pega_error_clear(&inner);
  return status;
}

static void test_frontend_error_passes_on(void **state) {
  (void)state;
  static const pega_call calls[] = {call_self, call_self_and_copy};
  pega_value failing = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("make_failing", &failing, INT(-2)));
  for (int i = 0; i < SUPPORT_COUNT(calls); i++) {
    pega_function *function =
        support_function("test.frontend", NULL, calls[i], pega_value_as_function(&failing));
    TVMFFIObjectHandle raised = NULL;
    assert_int_equal(code_of(function, &raised), -2);
    assert_null(raised);
    pega_function_release(function);
  }
  pega_value_release(&failing);
}

static pega_status add_cause(void *self, const pega_value *args, int32_t num_args,
                             pega_value *result, pega_error *out_error) {
  pega_status status = pega_function_call(self, args, num_args, result, out_error);
  pega_error cause = PEGA_ERROR_INIT;
  pega_error_set(&cause, PEGA_ERROR_IO, NULL, "the host knows why");
  pega_error_set_cause(out_error, &cause);
  return status;
}

/* What the engine adds to a foreign error is not lost because the error is foreign. */
static void test_cause_added_to_foreign_error(void **state) {
  (void)state;
  pega_function *raise_kept = support_get("raise_kept");
  pega_function *function = support_function("test.add_cause", NULL, add_cause, raise_kept);
  pega_value caught = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("catch", &caught, pega_value_function(function)));
  EXPECT_TEXT(pega_value_as_string(pega_array_get(&caught, 1), NULL), "the kept error");
  const pega_value *where = pega_array_get(&caught, has_causes() ? 4 : 1);
  assert_non_null(where);
  EXPECT_TEXT(pega_value_as_string(where, NULL), "the host knows why");
  pega_value_release(&caught);
  assert_int_equal(support_counter("kept_references"), 1);
  EXPECT_OK(CALL_FIXTURE0("drop_kept", NULL));
  pega_function_release(function);
  pega_function_release(raise_kept);
}

/* After every kind of failure the thread's slot is as empty as before. */
static void test_slot_is_left_empty(void **state) {
  (void)state;
  pega_function *function = support_function("test.fail", NULL, fail_with, NULL);
  pega_value taken = pega_value_none();
  assert_int_equal(CALL_FIXTURE("raise", NULL, TEXT("ValueError"), TEXT("x")), PEGA_ERROR_CALLEE);
  EXPECT_OK(CALL_FIXTURE0("take_raised", &taken));
  assert_false(taken.as.boolean);
  assert_int_equal(
      CALL_FIXTURE("apply", NULL, pega_value_function(function), TEXT("ValueError"), TEXT("x")),
      PEGA_ERROR_CALLEE);
  EXPECT_OK(CALL_FIXTURE0("take_raised", &taken));
  assert_false(taken.as.boolean);
  pega_tvm_ffi_module *module = NULL;
  assert_int_not_equal(
      pega_tvm_ffi_module_open(support_runtime, "/nonexistent.so", &module, &error), PEGA_OK);
  EXPECT_OK(CALL_FIXTURE0("take_raised", &taken));
  assert_false(taken.as.boolean);
  pega_function_release(function);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_kind),
      cmocka_unit_test(test_message_is_whole),
      cmocka_unit_test(test_strange_text),
      cmocka_unit_test(test_cause_from_tvm_ffi),
      cmocka_unit_test(test_engine_error_seen_by_tvm_ffi),
      cmocka_unit_test(test_cause_to_tvm_ffi),
      cmocka_unit_test(test_many_causes),
      cmocka_unit_test(test_text_that_is_not_utf8),
      cmocka_unit_test(test_any_depth),
      cmocka_unit_test(test_cause_at_every_depth),
      cmocka_unit_test(test_silent_failures),
      cmocka_unit_test(test_silent_numbers),
      cmocka_unit_test(test_silent_callback),
      cmocka_unit_test(test_silent_failure_through_callback),
      cmocka_unit_test(test_stale_error_is_not_blamed),
      cmocka_unit_test(test_unread_error_is_dropped),
      cmocka_unit_test(test_same_object_through_engine),
      cmocka_unit_test(test_shared_object_through_engine),
      cmocka_unit_test(test_cached_object),
      cmocka_unit_test(test_number_of_a_host),
      cmocka_unit_test(test_frontend_error_passes_on),
      cmocka_unit_test(test_cause_added_to_foreign_error),
      cmocka_unit_test(test_slot_is_left_empty),
  };
  int failed = cmocka_run_group_tests_name("error", tests, support_open, support_close);
  pega_error_clear(&error);
  return failed;
}
