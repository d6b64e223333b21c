/* SPDX-License-Identifier: Apache-2.0 */
/* The registry: add, get, override, remove, list, the nearest name, deleters that use it. */
#include <pega/qwen35.h>
#include <stdio.h>
#include <string.h>

#include "allocations.h"

/* A function that counts in `deleted` when it is gone. */
static pega_function *make(const char *name, support_counter *deleted) {
  pega_error error = PEGA_ERROR_INIT;
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  pega_function *function;
  options.name = name;
  options.call = support_no_op;
  options.self = deleted;
  options.deleter = support_count;
  EXPECT_OK(pega_function_create(&options, &function, &error), &error);
  return function;
}

static void test_add_get_remove(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  support_counter deleted = {0};
  pega_function *function = make("t.one", &deleted);
  pega_function *found;
  EXPECT_OK(pega_registry_add(function, 0, &error), &error);
  pega_function_release(function);
  EXPECT_OK(pega_registry_get("t.one", &found, &error), &error);
  assert_ptr_equal(found, function);
  EXPECT_OK(pega_registry_remove("t.one", &error), &error);
  /* Whoever holds it keeps it. */
  assert_int_equal(deleted.count, 0);
  EXPECT_OK(pega_function_call(found, NULL, 0, NULL, &error), &error);
  pega_function_release(found);
  assert_int_equal(deleted.count, 1);
  found = NULL;
  EXPECT_ERROR(pega_registry_get("t.one", &found, &error), &error, PEGA_ERROR_NOT_FOUND,
               "no function 't.one' among the ");
  assert_null(found);
  EXPECT_ERROR(pega_registry_remove("t.one", &error), &error, PEGA_ERROR_NOT_FOUND,
               "no function 't.one'");
  pega_error_clear(&error);
}

static void test_taken_and_override(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  support_counter old_deleted = {0}, new_deleted = {0};
  pega_function *old_one = make("t.taken", &old_deleted);
  pega_function *new_one = make("t.taken", &new_deleted);
  pega_function *held, *found;
  EXPECT_OK(pega_registry_add(old_one, 0, &error), &error);
  EXPECT_ERROR(pega_registry_add(new_one, 0, &error), &error, PEGA_ERROR_ALREADY_EXISTS,
               "function 't.taken' is registered already", "PEGA_REGISTER_OVERRIDE");
  EXPECT_ERROR(pega_registry_add(old_one, 0, &error), &error, PEGA_ERROR_ALREADY_EXISTS, "t.taken");
  EXPECT_OK(pega_registry_get("t.taken", &held, &error), &error);
  assert_ptr_equal(held, old_one);
  EXPECT_OK(pega_registry_add(new_one, PEGA_REGISTER_OVERRIDE, &error), &error);
  EXPECT_OK(pega_registry_get("t.taken", &found, &error), &error);
  assert_ptr_equal(found, new_one);
  pega_function_release(old_one);
  assert_int_equal(old_deleted.count, 0);
  pega_function_release(held);
  assert_int_equal(old_deleted.count, 1);
  /* By itself, and of a name that is free. */
  EXPECT_OK(pega_registry_add(new_one, PEGA_REGISTER_OVERRIDE, &error), &error);
  EXPECT_OK(pega_registry_remove("t.taken", &error), &error);
  EXPECT_OK(pega_registry_add(new_one, PEGA_REGISTER_OVERRIDE, &error), &error);
  EXPECT_OK(pega_registry_remove("t.taken", &error), &error);
  pega_function_release(found);
  assert_int_equal(new_deleted.count, 0);
  pega_function_release(new_one);
  assert_int_equal(new_deleted.count, 1);
  pega_error_clear(&error);
}

static void test_list(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  support_counter deleted = {0};
  static const char *const names[] = {"t.list.b", "t.list.c", "t.list.a"};
  pega_value before, list;
  EXPECT_OK(pega_registry_list(&before, &error), &error);
  for (int i = 0; i < 3; ++i) {
    pega_function *function = make(names[i], &deleted);
    EXPECT_OK(pega_registry_add(function, 0, &error), &error);
    pega_function_release(function);
  }
  EXPECT_OK(pega_registry_list(&list, &error), &error);
  for (int i = 0; i < 3; ++i) EXPECT_OK(pega_registry_remove(names[i], &error), &error);
  assert_int_equal(deleted.count, 3);

  /* The list is a copy: names in it outlive what they name. */
  assert_int_equal(list.kind, PEGA_ARRAY);
  assert_int_equal(pega_value_size(&list), pega_value_size(&before) + 3);
  int seen = 0;
  for (int64_t i = 0; i < pega_value_size(&list); ++i) {
    const char *name = pega_value_as_string(pega_array_get(&list, i), NULL);
    assert_non_null(name);
    if (i > 0) {
      assert_true(strcmp(pega_value_as_string(pega_array_get(&list, i - 1), NULL), name) < 0);
    }
    seen += strncmp(name, "t.list.", 7) == 0;
  }
  assert_int_equal(seen, 3);
  pega_value_release(&list);
  pega_value_release(&before);
}

static void test_builtin_functions(void **state) {
  (void)state;
  static const char *const names[] = {PEGA_QWEN35_CHUNK_SOLVE, PEGA_QWEN35_CHUNK_SOLVE_RAW};
  pega_error error = PEGA_ERROR_INIT;
  for (int i = 0; i < COUNT(names); ++i) {
    pega_function *function, *again;
    EXPECT_OK(pega_registry_get(names[i], &function, &error), &error);
    assert_string_equal(pega_function_name(function), names[i]);
    assert_true(strlen(pega_function_doc(function)) > 20);
    assert_non_null(pega_function_signature(function));
    /* They can be taken out and put back like any other, and do not come back by themselves. */
    EXPECT_OK(pega_registry_remove(names[i], &error), &error);
    assert_int_equal(pega_registry_get(names[i], &again, NULL), PEGA_ERROR_NOT_FOUND);
    EXPECT_OK(pega_registry_add(function, 0, &error), &error);
    pega_function_release(function);
  }
}

static void test_nearest_name(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  support_counter deleted = {0};
  pega_function *function = make("t.attention_forward", &deleted);
  pega_function *found;
  EXPECT_OK(pega_registry_add(function, 0, &error), &error);
  pega_function_release(function);
  static const char *const close[] = {"t.attention_forwards", "t.atention_forward",
                                      "t.attention_backward", "attention_forward"};
  for (int i = 0; i < COUNT(close); ++i) {
    EXPECT_ERROR(pega_registry_get(close[i], &found, &error), &error, PEGA_ERROR_NOT_FOUND,
                 close[i], "the nearest is 't.attention_forward'",
                 "pega_registry_list() shows all");
  }
  EXPECT_ERROR(pega_registry_remove("t.attention_forwrad", &error), &error, PEGA_ERROR_NOT_FOUND,
               "the nearest is 't.attention_forward'");
  EXPECT_ERROR(pega_registry_get("gated_delta_rule_chunk_solve", &found, &error), &error,
               PEGA_ERROR_NOT_FOUND, "the nearest is 'pegainfer.",
               "qwen35.gated_delta_rule_chunk_solve'");
  EXPECT_ERROR(pega_registry_get("zzz", &found, &error), &error, PEGA_ERROR_NOT_FOUND,
               "no function 'zzz'");
  EXPECT_NO_TEXT(pega_error_message(&error), "nearest");

  static char huge[1 << 20];
  memset(huge, 'n', sizeof huge - 1);
  EXPECT_ERROR(pega_registry_get(huge, &found, &error), &error, PEGA_ERROR_NOT_FOUND, "'nnn",
               "n...'");
  assert_true(strlen(pega_error_message(&error)) < 300);
  EXPECT_ERROR(pega_registry_get("", &found, &error), &error, PEGA_ERROR_NOT_FOUND,
               "no function ''");
  EXPECT_OK(pega_registry_remove("t.attention_forward", &error), &error);
  pega_error_clear(&error);
}

/* Whoever wants no text pays for none: the names are neither copied nor searched. */
static void test_miss_without_error(void **state) {
  (void)state;
  pega_function *found = NULL;
  pega_error error = PEGA_ERROR_INIT;
  if (!allocations_are_counted()) skip();
  assert_int_equal(pega_registry_get("t.missing", &found, NULL), PEGA_ERROR_NOT_FOUND);
  allocations_begin(0);
  const pega_status got = pega_registry_get("t.missing", &found, NULL);
  const pega_status removed = pega_registry_remove("t.missing", NULL);
  const allocations quiet = allocations_end();
  allocations_begin(0);
  const pega_status told = pega_registry_get("t.missing", &found, &error);
  const allocations loud = allocations_end();
  assert_int_equal(got, PEGA_ERROR_NOT_FOUND);
  assert_int_equal(removed, PEGA_ERROR_NOT_FOUND);
  assert_int_equal(told, PEGA_ERROR_NOT_FOUND);
  assert_int_equal(quiet.made, 0);
  assert_int_not_equal(loud.made, 0);
  pega_error_clear(&error);
}

/* Among long names that are all alike the first few hundred are compared: the nearest is the last. */
static void test_search_ends(void **state) {
  (void)state;
  enum { kAlike = 1000 };
  pega_error error = PEGA_ERROR_INIT;
  support_counter deleted = {0};
  char name[256];
  memset(name, 'a', 251);
  for (int i = 0; i < kAlike; ++i) {
    snprintf(name + 246, 10, "%09d", i < kAlike - 1 ? i : 999999998);
    pega_function *function = make(name, &deleted);
    EXPECT_OK(pega_registry_add(function, 0, &error), &error);
    pega_function_release(function);
  }
  pega_function *found;
  snprintf(name + 246, 10, "999999999");
  EXPECT_ERROR(pega_registry_get(name, &found, &error), &error, PEGA_ERROR_NOT_FOUND,
               "the nearest is 'aaa");
  EXPECT_NO_TEXT(pega_error_message(&error), "a999999998'");
  for (int i = 0; i < kAlike; ++i) {
    snprintf(name + 246, 10, "%09d", i < kAlike - 1 ? i : 999999998);
    EXPECT_OK(pega_registry_remove(name, &error), &error);
  }
  assert_int_equal(deleted.count, kAlike);
  pega_error_clear(&error);
}

static void test_refusals(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  support_counter deleted = {0};
  pega_function *anonymous = make(NULL, &deleted);
  pega_function *named = make("t.refused", &deleted);
  pega_function *found = NULL;
  EXPECT_ERROR(pega_registry_add(NULL, 0, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "pega_registry_add: function is NULL");
  EXPECT_ERROR(pega_registry_add(anonymous, 0, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "pega_registry_add: the function has no name");
  EXPECT_ERROR(pega_registry_add(named, 6, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "pega_registry_add: unknown flags 0x6");
  EXPECT_ERROR(pega_registry_get(NULL, &found, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "pega_registry_get: name is NULL");
  EXPECT_ERROR(pega_registry_get("t.refused", NULL, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "pega_registry_get: out is NULL");
  EXPECT_ERROR(pega_registry_remove(NULL, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "pega_registry_remove: name is NULL");
  EXPECT_ERROR(pega_registry_list(NULL, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "pega_registry_list: out is NULL");
  assert_int_equal(pega_registry_get("t.refused", &found, NULL), PEGA_ERROR_NOT_FOUND);
  pega_function_release(anonymous);
  pega_function_release(named);
  assert_int_equal(deleted.count, 2);
  pega_error_clear(&error);
}

/* A deleter that looks up, adds and removes: the registry must not be locked while it runs. */
static int deleter_failures;

static void use_registry(void *self) {
  (void)self;
  pega_value list;
  pega_function *other = NULL;
  if (pega_registry_get("t.other", &other, NULL) != PEGA_OK) ++deleter_failures;
  if (pega_registry_remove("t.other", NULL) != PEGA_OK) ++deleter_failures;
  if (pega_registry_add(other, 0, NULL) != PEGA_OK) ++deleter_failures;
  if (pega_registry_list(&list, NULL) != PEGA_OK) ++deleter_failures;
  pega_value_release(&list);
  pega_function_release(other);
}

static void test_deleter_uses_the_registry(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  support_counter deleted = {0};
  pega_function *other = make("t.other", &deleted);
  pega_function *plain = make("t.user", &deleted);
  EXPECT_OK(pega_registry_add(other, 0, &error), &error);
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  options.name = "t.user";
  options.call = support_no_op;
  options.deleter = use_registry;
  for (int override = 0; override < 2; ++override) {
    pega_function *function;
    EXPECT_OK(pega_function_create(&options, &function, &error), &error);
    EXPECT_OK(pega_registry_add(function, 0, &error), &error);
    pega_function_release(function);
    /* The registry's is the last reference: giving it back runs the deleter. */
    if (override) {
      EXPECT_OK(pega_registry_add(plain, PEGA_REGISTER_OVERRIDE, &error), &error);
    }
    EXPECT_OK(pega_registry_remove("t.user", &error), &error);
  }
  assert_int_equal(deleter_failures, 0);
  EXPECT_OK(pega_registry_remove("t.other", &error), &error);
  pega_function_release(other);
  pega_function_release(plain);
  assert_int_equal(deleted.count, 2);
}

static void test_many_functions(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  support_counter deleted = {0};
  enum { kMany = 3000 };
  char name[32];
  for (int i = 0; i < kMany; ++i) {
    snprintf(name, sizeof name, "t.many.%d", i);
    pega_function *function = make(name, &deleted);
    EXPECT_OK(pega_registry_add(function, 0, &error), &error);
    pega_function_release(function);
  }
  for (int i = kMany - 1; i >= 0; --i) {
    pega_function *function;
    snprintf(name, sizeof name, "t.many.%d", i);
    EXPECT_OK(pega_registry_get(name, &function, &error), &error);
    assert_string_equal(pega_function_name(function), name);
    pega_function_release(function);
    EXPECT_OK(pega_registry_remove(name, &error), &error);
  }
  assert_int_equal(deleted.count, kMany);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_add_get_remove),
      cmocka_unit_test(test_taken_and_override),
      cmocka_unit_test(test_list),
      cmocka_unit_test(test_builtin_functions),
      cmocka_unit_test(test_nearest_name),
      cmocka_unit_test(test_miss_without_error),
      cmocka_unit_test(test_search_ends),
      cmocka_unit_test(test_refusals),
      cmocka_unit_test(test_deleter_uses_the_registry),
      cmocka_unit_test(test_many_functions),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
