/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Balance over many round trips: references, deleters and allocated bytes are at the end what they
 * were at the start. `test_balance ROUNDS` runs that many instead (valgrind is slow; its own check
 * for leaks then says the rest).
 */
#include "support.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static pega_error error = PEGA_ERROR_INIT;
static int rounds = 100000;
static bool few;

/* Less than the smallest block a round: what is lost once a round is far above it. What is below
 * are the allocator's own caches. */
static int64_t slack(void) { return rounds <= 2000 ? 16384 : 65536; }

static int deleted;

static void count_deleter(void *self) {
  (void)self;
  deleted++;
}

static pega_status echo(void *self, const pega_value *args, int32_t num_args, pega_value *result,
                        pega_error *out_error) {
  (void)self;
  return num_args == 0 ? PEGA_OK : pega_value_retain(&args[0], result, out_error);
}

static pega_status refuse(void *self, const pega_value *args, int32_t num_args, pega_value *result,
                          pega_error *out_error) {
  (void)args;
  (void)num_args;
  (void)result;
  pega_error inner = PEGA_ERROR_INIT;
  pega_error_set(&inner, PEGA_ERROR_IO, NULL, "the reason");
  pega_error_set(out_error, PEGA_ERROR_UNAVAILABLE, NULL, "refused, time %d", *(int *)self);
  pega_error_set_cause(out_error, &inner);
  return PEGA_ERROR_UNAVAILABLE;
}

/* One way of using the boundary. */
typedef void (*trip)(void);

static void expect_balance(const char *name, trip run) {
  /* What is made once (caches, first-use tables) is made before the count. */
  for (int i = 0; i < 100; i++) run();
  int64_t before = support_allocated_bytes();
  for (int i = 0; i < rounds; i++) run();
  int64_t grown = support_allocated_bytes() - before;
  print_message("%-28s %7d rounds, %+" PRId64 " bytes\n", name, rounds, grown);
  if (grown > slack()) fail_msg("%s: %" PRId64 " bytes more than before", name, grown);
}

/* The count itself works: else every balance would be zero. */
static void test_the_count_counts(void **state) {
  (void)state;
  /* Under valgrind the C library's books are not kept: valgrind's own count says it, at the end. */
  if (few) return;
  int64_t before = support_allocated_bytes();
  void *volatile blocks[64];
  for (int i = 0; i < 64; i++) {
    blocks[i] = malloc(4096);
    assert_non_null(blocks[i]);
  }
  int64_t during = support_allocated_bytes();
  for (int i = 0; i < 64; i++) free(blocks[i]);
  assert_true(during - before >= 64 * 4096);
}

static pega_function *identity;
static pega_function *apply;
static pega_function *raise_error;

static void values_trip(void) {
  const pega_value values[] = {INT(1), TEXT("a text of more than seven bytes"),
                               pega_value_bytes("some bytes, more than seven", 27),
                               pega_value_float(1.0)};
  for (int i = 0; i < 4; i++) {
    pega_value result = pega_value_none();
    EXPECT_OK(CALL(identity, &result, values[i]));
    pega_value_release(&result);
  }
}

static void test_values(void **state) {
  (void)state;
  expect_balance("values", values_trip);
}

static void containers_trip(void) {
  const pega_value items[] = {TEXT("a text of more than seven bytes"), INT(2)};
  pega_value array = pega_value_none();
  pega_value map = pega_value_none();
  pega_value result = pega_value_none();
  EXPECT_OK(pega_array_create(items, 2, &array, &error));
  EXPECT_OK(CALL(identity, &result, array));
  pega_value_release(&result);
  EXPECT_OK(pega_map_create(items, &array, 1, &map, &error));
  EXPECT_OK(CALL(identity, &result, map));
  pega_value_release(&result);
  pega_value_release(&map);
  pega_value_release(&array);
}

static void test_containers(void **state) {
  (void)state;
  expect_balance("arrays and maps", containers_trip);
}

static int tensors_made;

static void tensors_trip(void) {
  pega_value tensor = support_tensor_create(3, 1.0f, &deleted);
  pega_value result = pega_value_none();
  tensors_made++;
  EXPECT_OK(CALL(identity, &result, tensor));
  pega_value_release(&tensor);
  pega_value again = pega_value_none();
  EXPECT_OK(CALL(identity, &again, result));
  pega_value_release(&result);
  pega_value_release(&again);
}

static void test_tensors(void **state) {
  (void)state;
  deleted = tensors_made = 0;
  expect_balance("tensors", tensors_trip);
  assert_int_equal(deleted, tensors_made);
  assert_true(deleted > rounds);
}

static int64_t foreign_tensors_made;

static void foreign_tensors_trip(void) {
  pega_value tensor = pega_value_none();
  pega_value result = pega_value_none();
  foreign_tensors_made++;
  EXPECT_OK(CALL_FIXTURE("make_tensor", &tensor, INT(3)));
  EXPECT_OK(CALL(identity, &result, tensor));
  pega_value_release(&tensor);
  pega_value_release(&result);
}

static void test_foreign_tensors(void **state) {
  (void)state;
  int64_t before = support_counter("tensor_deleter_count");
  foreign_tensors_made = 0;
  expect_balance("TVM FFI's tensors", foreign_tensors_trip);
  assert_true(support_counter("tensor_deleter_count") - before == foreign_tensors_made);
}

static int functions_made;

static void callbacks_trip(void) {
  pega_function *function = support_function_with_deleter(NULL, echo, &deleted, count_deleter);
  functions_made++;
  pega_value result = pega_value_none();
  EXPECT_OK(CALL(apply, &result, pega_value_function(function), TEXT("handed through, and back")));
  pega_value_release(&result);
  /* There and back as a value: the same function. */
  EXPECT_OK(CALL(identity, &result, pega_value_function(function)));
  pega_function_release(function);
  EXPECT_OK(CALL(pega_value_as_function(&result), NULL, INT(1)));
  pega_value_release(&result);
}

static void test_callbacks(void **state) {
  (void)state;
  deleted = functions_made = 0;
  expect_balance("callbacks", callbacks_trip);
  assert_int_equal(deleted, functions_made);
}

static void foreign_functions_trip(void) {
  pega_value adder = pega_value_none();
  pega_value sum = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("return_function", &adder, INT(40)));
  EXPECT_OK(CALL(apply, &sum, adder, INT(2)));
  EXPECT_INT(&sum, 42);
  pega_value_release(&adder);
  functions_made++;
}

static void test_foreign_functions(void **state) {
  (void)state;
  int64_t before = support_counter("deleter_count");
  functions_made = 0;
  expect_balance("TVM FFI's functions", foreign_functions_trip);
  assert_int_equal(support_counter("deleter_count") - before, functions_made);
}

static void globals_trip(void) {
  pega_function *function =
      support_function_with_deleter("test.balance", echo, &deleted, count_deleter);
  pega_function *found = NULL;
  functions_made++;
  EXPECT_OK(pega_tvm_ffi_export(support_runtime, NULL, function, 0, &error));
  pega_function_release(function);
  EXPECT_OK(pega_tvm_ffi_get_global(support_runtime, "test.balance", &found, &error));
  EXPECT_OK(CALL(found, NULL, INT(1)));
  EXPECT_OK(pega_tvm_ffi_remove_global(support_runtime, "test.balance", &error));
  pega_function_release(found);
}

static void test_globals(void **state) {
  (void)state;
  deleted = functions_made = 0;
  expect_balance("globals", globals_trip);
  assert_int_equal(deleted, functions_made);
}

static void errors_in_trip(void) {
  assert_int_equal(CALL(raise_error, NULL, TEXT("ValueError"), TEXT("something went wrong")),
                   PEGA_ERROR_CALLEE);
  /* Every second one is dropped unread. */
  static bool read;
  read = !read;
  if (read) EXPECT_TEXT(pega_error_message(&error), "something went wrong");
  pega_error_clear(&error);
}

static void test_errors_in(void **state) {
  (void)state;
  expect_balance("errors from TVM FFI", errors_in_trip);
}

static pega_function *refusing;

static void errors_out_trip(void) {
  assert_int_equal(CALL(apply, NULL, pega_value_function(refusing)), PEGA_ERROR_CALLEE);
  pega_value caught = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("catch", &caught, pega_value_function(refusing)));
  pega_value_release(&caught);
  pega_error_clear(&error);
}

static void test_errors_out(void **state) {
  (void)state;
  refusing = support_function("test.refuse", NULL, refuse, &rounds);
  expect_balance("errors of the engine", errors_out_trip);
  pega_function_release(refusing);
}

static void same_error_trip(void) {
  pega_value same = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("raises_kept", &same, pega_value_function(refusing)));
  assert_true(same.as.boolean);
}

static pega_status call_self(void *self, const pega_value *args, int32_t num_args,
                             pega_value *result, pega_error *out_error) {
  return pega_function_call(self, args, num_args, result, out_error);
}

/* One error object over and over: its references balance. Its traceback grows with every pass, so
 * the passes are few. */
static void test_same_error(void **state) {
  (void)state;
  pega_function *raise_kept = support_get("raise_kept");
  refusing = support_function("test.passes_on", NULL, call_self, raise_kept);
  for (int i = 0; i < 1000 && i < rounds; i++) same_error_trip();
  assert_int_equal(support_counter("kept_references"), 1);
  EXPECT_OK(CALL_FIXTURE0("drop_kept", NULL));
  pega_function_release(refusing);
  pega_function_release(raise_kept);
}

static void modules_trip(void) {
  pega_tvm_ffi *runtime = NULL;
  pega_tvm_ffi_module *module = NULL;
  pega_function *add = NULL;
  EXPECT_OK(pega_tvm_ffi_open(NULL, &runtime, &error));
  EXPECT_OK(pega_tvm_ffi_module_open(runtime, PEGA_TEST_FIXTURE, &module, &error));
  EXPECT_OK(pega_tvm_ffi_module_get(module, "add", &add, &error));
  EXPECT_OK(CALL(add, NULL, INT(1), INT(2)));
  pega_function_release(add);
  pega_tvm_ffi_module_close(module);
  pega_tvm_ffi_close(runtime);
}

/* Opening reads the file, so the rounds are fewer: a block lost once a round still shows. */
static void test_modules(void **state) {
  (void)state;
  int whole = rounds;
  rounds = rounds > 2000 ? 2000 : rounds;
  expect_balance("modules", modules_trip);
  rounds = whole;
}

static int open_all(void **state) {
  if (support_open(state) != 0) return -1;
  identity = support_get("identity");
  apply = support_get("apply");
  raise_error = support_get("raise");
  return 0;
}

static int close_all(void **state) {
  pega_function_release(identity);
  pega_function_release(apply);
  pega_function_release(raise_error);
  return support_close(state);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_the_count_counts),  cmocka_unit_test(test_values),
      cmocka_unit_test(test_containers),        cmocka_unit_test(test_tensors),
      cmocka_unit_test(test_foreign_tensors),   cmocka_unit_test(test_callbacks),
      cmocka_unit_test(test_foreign_functions), cmocka_unit_test(test_globals),
      cmocka_unit_test(test_errors_in),         cmocka_unit_test(test_errors_out),
      cmocka_unit_test(test_same_error),        cmocka_unit_test(test_modules),
  };
  few = argc > 1;
  if (few) rounds = atoi(argv[1]);
  int failed = cmocka_run_group_tests_name("balance", tests, open_all, close_all);
  pega_error_clear(&error);
  return failed;
}
