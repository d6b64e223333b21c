/* SPDX-License-Identifier: Apache-2.0 */
/* pega_error: what it holds, what becomes of text that does not fit, who frees what. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

enum { kInline = sizeof(((pega_error *)0)->message) };

/* ---- Text ---- */

static void test_status_table(void **state) {
  (void)state;
  /* Written out, not made from the header's list: these never change. */
  static const struct {
    int number;
    const char *name;
    const char *kind;
  } pinned[] = {
      {1, "INVALID_ARGUMENT", "ValueError"},
      {2, "ARGUMENT_COUNT", "TypeError"},
      {3, "TYPE", "TypeError"},
      {4, "RANGE", "ValueError"},
      {5, "DTYPE", "TypeError"},
      {6, "SHAPE", "ValueError"},
      {7, "LAYOUT", "ValueError"},
      {8, "DEVICE", "ValueError"},
      {9, "NOT_FOUND", "KeyError"},
      {10, "ALREADY_EXISTS", "KeyError"},
      {11, "OUT_OF_MEMORY", "MemoryError"},
      {12, "IO", "OSError"},
      {13, "FORMAT", "ValueError"},
      {14, "VERSION", "RuntimeError"},
      {15, "SYMBOL", "RuntimeError"},
      {16, "UNAVAILABLE", "RuntimeError"},
      {17, "UNSUPPORTED", "NotImplementedError"},
      {18, "CALLEE", "RuntimeError"},
      {19, "DRIVER", "RuntimeError"},
      {20, "INTERNAL", "InternalError"},
  };
  pega_error error = PEGA_ERROR_INIT;
  assert_string_equal(pega_status_name(PEGA_OK), "OK");
  for (int i = 0; i < COUNT(pinned); ++i) {
    const pega_status status = (pega_status)pinned[i].number;
    assert_string_equal(pega_status_name(status), pinned[i].name);
    assert_int_equal(pega_error_set(&error, status, NULL, "text"), status);
    assert_string_equal(pega_error_kind(&error), pinned[i].kind);
  }
  for (int number = COUNT(pinned) + 1; number < 64; ++number) {
    assert_string_equal(pega_status_name((pega_status)number), "UNKNOWN");
  }
  pega_error_set(&error, (pega_status)99, NULL, "text");
  assert_string_equal(pega_error_kind(&error), "RuntimeError");
  pega_error_clear(&error);
}

static void test_set(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  error.code = 7;
  assert_int_equal(pega_error_set(&error, PEGA_ERROR_RANGE, NULL, "%d of %s", 3, "five"),
                   PEGA_ERROR_RANGE);
  assert_int_equal(error.status, PEGA_ERROR_RANGE);
  assert_int_equal(error.code, 0);
  assert_string_equal(error.message, "3 of five");
  assert_string_equal(pega_error_message(&error), "3 of five");
  assert_string_equal(error.kind, "ValueError");
  /* A short text needs no heap. */
  assert_null(error.detail);

  pega_error_set(&error, PEGA_ERROR_IO, "FileNotFoundError", "gone");
  assert_string_equal(error.kind, "FileNotFoundError");
  assert_string_equal(error.message, "gone");

  error.code = 7;
  pega_error_clear(&error);
  assert_int_equal(error.status, PEGA_OK);
  assert_int_equal(error.code, 0);
  assert_string_equal(pega_error_message(&error), "");
  assert_string_equal(pega_error_kind(&error), "");
  pega_error_clear(&error);
}

static void test_set_text_is_no_format(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  const char text[] = "100%s %n \x01\xff tail";
  assert_int_equal(
      pega_error_set_text(&error, PEGA_ERROR_CALLEE, "Kind%d", text, sizeof text - 1 - 5),
      PEGA_ERROR_CALLEE);
  assert_string_equal(error.message, "100%s %n \x01\xff");
  assert_string_equal(error.kind, "Kind%d");
  pega_error_set_text(&error, PEGA_ERROR_CALLEE, NULL, NULL, 5);
  assert_string_equal(error.message, "");
  assert_int_equal(error.status, PEGA_ERROR_CALLEE);
  pega_error_clear(&error);
}

static void test_long_text(void **state) {
  (void)state;
  char text[5000];
  for (size_t size = kInline - 2; size < sizeof text;
       size = size < kInline + 2 ? size + 1 : size * 2) {
    pega_error error = PEGA_ERROR_INIT;
    memset(text, 'x', size);
    memcpy(text + size - 3, "END", 4);
    pega_error_set(&error, PEGA_ERROR_FORMAT, NULL, "%s", text);
    assert_string_equal(pega_error_message(&error), text);
    if (size < kInline) {
      assert_string_equal(error.message, text);
    } else {
      assert_int_equal(strlen(error.message), kInline - 1);
      assert_memory_equal(error.message, text, kInline - 4);
      assert_string_equal(error.message + kInline - 4, "...");
    }
    pega_error_clear(&error);
  }
}

/* Whether text is whole UTF-8 sequences; enough of the rules to see one that was cut. */
static bool whole_sequences(const char *text) {
  const unsigned char *at = (const unsigned char *)text;
  while (*at != 0) {
    int more = *at < 0x80 ? 0 : *at >= 0xf0 ? 3 : *at >= 0xe0 ? 2 : *at >= 0xc0 ? 1 : -1;
    if (more < 0) return false;
    ++at;
    for (; more > 0; --more, ++at) {
      if ((*at & 0xc0) != 0x80) return false;
    }
  }
  return true;
}

static void test_utf8_is_cut_between_characters(void **state) {
  (void)state;
  static const char *const characters[] = {"\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x90\xa2"};
  for (int c = 0; c < COUNT(characters); ++c) {
    for (int shift = 0; shift < 4; ++shift) {
      char text[2000] = "";
      memset(text, 'a', (size_t)shift);
      while (strlen(text) < 1200) strcat(text, characters[c]);
      pega_error error = PEGA_ERROR_INIT;
      pega_error_set_text(&error, PEGA_ERROR_FORMAT, text, text, strlen(text));
      assert_true(whole_sequences(error.message));
      assert_true(whole_sequences(error.kind));
      const size_t kept = strlen(error.message) - 3;
      assert_string_equal(error.message + kept, "...");
      assert_memory_equal(error.message, text, kept);
      /* No more is lost than the character that did not fit. */
      assert_true(kept + 3 + strlen(characters[c]) >= kInline - 1);
      assert_string_equal(pega_error_message(&error), text);
      assert_string_equal(pega_error_kind(&error), text);
      pega_error_clear(&error);
    }
  }
}

static void test_text_from_the_error_itself(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  char long_text[3000];
  memset(long_text, 'y', sizeof long_text);
  long_text[sizeof long_text - 1] = '\0';
  pega_error_set(&error, PEGA_ERROR_IO, "LongKind", "%s", long_text);
  pega_error_set(&error, PEGA_ERROR_CALLEE, pega_error_kind(&error), "again: %s",
                 pega_error_message(&error));
  assert_string_equal(pega_error_kind(&error), "LongKind");
  EXPECT_TEXT(pega_error_message(&error), "again: yyy");
  assert_int_equal(strlen(pega_error_message(&error)), sizeof long_text - 1 + 7);
  pega_error_set_text(&error, PEGA_ERROR_IO, NULL, pega_error_message(&error) + 7, 3);
  assert_string_equal(pega_error_message(&error), "yyy");
  pega_error_clear(&error);
}

static void test_traceback(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_error_set(&error, PEGA_ERROR_CALLEE, NULL, "text");
  assert_string_equal(pega_error_traceback(&error), "");
  pega_error_append_traceback(&error, "inner\n", 6);
  pega_error_append_traceback(&error, "outer\nrest", 6);
  pega_error_append_traceback(&error, NULL, 6);
  pega_error_append_traceback(&error, "none", 0);
  assert_string_equal(pega_error_traceback(&error), "inner\nouter\n");

  pega_error copy = PEGA_ERROR_INIT;
  pega_error_copy(&error, &copy);
  pega_error_append_traceback(&copy, "copy\n", 5);
  assert_string_equal(pega_error_traceback(&copy), "inner\nouter\ncopy\n");
  assert_string_equal(pega_error_traceback(&error), "inner\nouter\n");
  pega_error_clear(&copy);

  /* Long enough for the heap to move it. */
  char text[5000];
  memset(text, 't', sizeof text);
  pega_error_append_traceback(&error, text, sizeof text);
  pega_error_append_traceback(&error, pega_error_traceback(&error), 12);
  assert_int_equal(strlen(pega_error_traceback(&error)), 12 + sizeof text + 12);
  assert_string_equal(pega_error_traceback(&error) + 12 + sizeof text, "inner\nouter\n");

  pega_error_set(&error, PEGA_ERROR_IO, NULL, "new");
  assert_string_equal(pega_error_traceback(&error), "");
  pega_error_clear(&error);
}

/* ---- Causes ---- */

static void test_cause(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  for (int depth = 0; depth < 4; ++depth) {
    pega_error outer = PEGA_ERROR_INIT;
    pega_error_set(&outer, (pega_status)(depth + 1), NULL, "depth %d", depth);
    outer.code = depth;
    if (depth > 0) pega_error_set_cause(&outer, &error);
    assert_int_equal(error.status, PEGA_OK);
    assert_string_equal(error.message, "");
    assert_null(error.detail);
    error = outer;
  }
  const pega_error *at = &error;
  for (int depth = 3; depth >= 0; --depth) {
    char text[16];
    snprintf(text, sizeof text, "depth %d", depth);
    assert_non_null(at);
    assert_string_equal(pega_error_message(at), text);
    assert_int_equal(at->status, depth + 1);
    assert_int_equal(at->code, depth);
    at = pega_error_cause(at);
  }
  assert_null(at);

  /* Its own cause takes its place. */
  pega_error_copy(pega_error_cause(&error), &error);
  assert_string_equal(pega_error_message(&error), "depth 2");
  assert_string_equal(pega_error_message(pega_error_cause(&error)), "depth 1");

  pega_error_set_cause(&error, &error);
  pega_error_set_cause(&error, NULL);
  assert_string_equal(pega_error_message(pega_error_cause(&error)), "depth 1");
  pega_error_clear(&error);
}

static void test_cause_is_taken(void **state) {
  (void)state;
  support_counter released = {0};
  static const int tag;
  pega_error error = PEGA_ERROR_INIT;
  pega_error cause = PEGA_ERROR_INIT;
  pega_error_set(&error, PEGA_ERROR_CALLEE, NULL, "error");
  pega_error_set(&cause, PEGA_ERROR_IO, NULL, "cause");
  pega_error_attach(&cause, &tag, &released, support_count);
  pega_error_set_cause(&error, &cause);
  assert_ptr_equal(pega_error_payload(pega_error_cause(&error), &tag), &released);
  assert_int_equal(released.count, 0);

  /* A second cause replaces the first. */
  pega_error_set(&cause, PEGA_ERROR_IO, NULL, "second");
  pega_error_set_cause(&error, &cause);
  assert_int_equal(released.count, 1);
  assert_string_equal(pega_error_message(pega_error_cause(&error)), "second");
  pega_error_clear(&error);

  pega_error_set(&cause, PEGA_ERROR_IO, NULL, "cause");
  pega_error_attach(&cause, &tag, &released, support_count);
  pega_error_set_cause(NULL, &cause);
  assert_int_equal(released.count, 2);
  assert_int_equal(cause.status, PEGA_OK);
}

enum { kChain = 100000 };

static void *run_long_chain(void *failed) {
  pega_error error = PEGA_ERROR_INIT;
  pega_error_set(&error, PEGA_ERROR_IO, NULL, "innermost");
  for (int i = 0; i < kChain; ++i) {
    pega_error outer = PEGA_ERROR_INIT;
    pega_error_set(&outer, PEGA_ERROR_CALLEE, NULL, "level");
    pega_error_set_cause(&outer, &error);
    error = outer;
  }
  int length = 0;
  for (const pega_error *at = &error; at != NULL; at = pega_error_cause(at)) ++length;
  pega_error copy = PEGA_ERROR_INIT;
  pega_error_copy(&error, &copy);
  pega_error_append_traceback(&copy, "frame\n", 6);
  pega_error_clear(&error);
  pega_error_clear(&copy);
  if (length != kChain + 1) *(int *)failed = length;
  return NULL;
}

static void test_long_chain_needs_no_stack(void **state) {
  (void)state;
  pthread_attr_t attributes;
  pthread_t thread;
  int failed = 0;
  pthread_attr_init(&attributes);
  assert_int_equal(pthread_attr_setstacksize(&attributes, 256 * 1024), 0);
  assert_int_equal(pthread_create(&thread, &attributes, run_long_chain, &failed), 0);
  pthread_join(thread, NULL);
  pthread_attr_destroy(&attributes);
  assert_int_equal(failed, 0);
}

/* ---- Copies and attachments ---- */

static void test_copy(void **state) {
  (void)state;
  char text[3000];
  memset(text, 'z', sizeof text);
  text[sizeof text - 1] = '\0';
  pega_error error = PEGA_ERROR_INIT;
  pega_error copy = PEGA_ERROR_INIT;
  pega_error_set(&error, PEGA_ERROR_SHAPE, "Kind", "%s", text);
  error.code = -5;
  pega_error_copy(&error, &copy);
  pega_error_copy(&error, &error);
  pega_error_copy(NULL, &copy);
  pega_error_copy(&error, NULL);
  pega_error_clear(&error);
  assert_int_equal(copy.status, PEGA_ERROR_SHAPE);
  assert_int_equal(copy.code, -5);
  assert_string_equal(pega_error_kind(&copy), "Kind");
  assert_string_equal(pega_error_message(&copy), text);
  /* The copy of an empty error is empty, and frees what was there. */
  pega_error_copy(&error, &copy);
  assert_int_equal(copy.status, PEGA_OK);
  assert_null(copy.detail);
}

static void test_attachment_is_released_once(void **state) {
  (void)state;
  static const int tag, other;
  support_counter released = {0};
  pega_error error = PEGA_ERROR_INIT;
  pega_error copy = PEGA_ERROR_INIT;
  pega_error changed = PEGA_ERROR_INIT;
  pega_error_set(&error, PEGA_ERROR_CALLEE, NULL, "text");
  pega_error_attach(&error, &tag, &released, support_count);
  pega_error_copy(&error, &copy);
  pega_error_copy(&error, &changed);
  pega_error_append_traceback(&changed, "frame\n", 6);
  assert_ptr_equal(pega_error_payload(&changed, &tag), &released);
  assert_null(pega_error_payload(&changed, &other));
  pega_error_clear(&error);
  assert_null(pega_error_payload(&error, &tag));
  pega_error_clear(&changed);
  assert_int_equal(released.count, 0);
  assert_ptr_equal(pega_error_payload(&copy, &tag), &released);
  /* New text is a new error: it drops what belonged to the old one. */
  pega_error_set(&copy, PEGA_ERROR_IO, NULL, "new");
  assert_int_equal(released.count, 1);
  assert_null(pega_error_payload(&copy, &tag));

  support_counter second = {0};
  pega_error_attach(&copy, &tag, &released, support_count);
  pega_error_attach(&copy, &other, &second, support_count);
  assert_int_equal(released.count, 2);
  assert_ptr_equal(pega_error_payload(&copy, &other), &second);
  pega_error_clear(&copy);
  pega_error_clear(&copy);
  assert_int_equal(released.count, 2);
  assert_int_equal(second.count, 1);

  pega_error_attach(NULL, &tag, &released, support_count);
  assert_int_equal(released.count, 3);
  pega_error_attach(NULL, &tag, &released, NULL);
  pega_error_set(&error, PEGA_ERROR_IO, NULL, "text");
  pega_error_attach(&error, &tag, &released, NULL);
  assert_ptr_equal(pega_error_payload(&error, &tag), &released);
  pega_error_clear(&error);
}

enum { kThreads = 8 };

static void *change_and_clear(void *arg) {
  pega_error *error = arg;
  for (int i = 0; i < 100; ++i) {
    pega_error copy = PEGA_ERROR_INIT;
    pega_error_copy(error, &copy);
    pega_error_append_traceback(&copy, "frame\n", 6);
    pega_error_clear(&copy);
  }
  pega_error_clear(error);
  return NULL;
}

static void test_copies_in_threads(void **state) {
  (void)state;
  static const int tag;
  support_counter released = {0};
  pega_error copies[kThreads];
  pthread_t threads[kThreads];
  pega_error error = PEGA_ERROR_INIT;
  pega_error cause = PEGA_ERROR_INIT;
  pega_error_set(&error, PEGA_ERROR_CALLEE, NULL, "text");
  pega_error_set(&cause, PEGA_ERROR_IO, NULL, "cause");
  pega_error_append_traceback(&cause, "frame\n", 6);
  pega_error_set_cause(&error, &cause);
  pega_error_attach(&error, &tag, &released, support_count);
  for (int i = 0; i < kThreads; ++i) {
    pega_error_init(&copies[i]);
    pega_error_copy(&error, &copies[i]);
  }
  pega_error_clear(&error);
  for (int i = 0; i < kThreads; ++i) {
    assert_int_equal(pthread_create(&threads[i], NULL, change_and_clear, &copies[i]), 0);
  }
  for (int i = 0; i < kThreads; ++i) pthread_join(threads[i], NULL);
  assert_int_equal(released.count, 1);
}

static void test_nulls(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  assert_int_equal(pega_error_set(NULL, PEGA_ERROR_IO, NULL, "x"), PEGA_ERROR_IO);
  assert_int_equal(pega_error_set_text(NULL, PEGA_ERROR_IO, NULL, "x", 1), PEGA_ERROR_IO);
  pega_error_clear(NULL);
  pega_error_append_traceback(NULL, "x", 1);
  pega_error_set_cause(NULL, NULL);
  assert_string_equal(pega_error_kind(NULL), "");
  assert_string_equal(pega_error_message(NULL), "");
  assert_string_equal(pega_error_traceback(NULL), "");
  assert_null(pega_error_cause(NULL));
  assert_null(pega_error_cause(&error));
  assert_null(pega_error_payload(NULL, NULL));
  assert_null(pega_error_payload(&error, NULL));

  /* pega_error_init() looks at nothing: garbage before it is fine. */
  memset(&error, 0xa5, sizeof error);
  pega_error_init(&error);
  assert_string_equal(pega_error_message(&error), "");
  pega_error_clear(&error);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_status_table),
      cmocka_unit_test(test_set),
      cmocka_unit_test(test_set_text_is_no_format),
      cmocka_unit_test(test_long_text),
      cmocka_unit_test(test_utf8_is_cut_between_characters),
      cmocka_unit_test(test_text_from_the_error_itself),
      cmocka_unit_test(test_traceback),
      cmocka_unit_test(test_cause),
      cmocka_unit_test(test_cause_is_taken),
      cmocka_unit_test(test_long_chain_needs_no_stack),
      cmocka_unit_test(test_copy),
      cmocka_unit_test(test_attachment_is_released_once),
      cmocka_unit_test(test_copies_in_threads),
      cmocka_unit_test(test_nulls),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
