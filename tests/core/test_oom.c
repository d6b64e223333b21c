/* SPDX-License-Identifier: Apache-2.0 */
/* Each allocation made to fail once in turn: the status says so or the call did without, nothing
 * leaks, nothing of the caller's is released, and trying again works. */
#include <pega/qwen35.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "allocations.h"

enum { kMostAllocations = 1000 };

/* Does something and undoes it. Frees all that it made, the error's content too. */
typedef pega_status (*scenario)(pega_error *error);

static char last_text[sizeof(((pega_error *)0)->message)]; /* what the last run's error said */

static pega_status run_once(scenario run, int64_t fail_at, allocations *got) {
  pega_error error = PEGA_ERROR_INIT;
  allocations_begin(fail_at);
  const pega_status status = run(&error);
  memcpy(last_text, error.message, sizeof last_text);
  pega_error_clear(&error);
  *got = allocations_end();
  return status;
}

/* `expected` is what the scenario returns with memory enough; `may_fail` whether it may return
 * OUT_OF_MEMORY without. Returns how many allocations there are. */
static int64_t fail_each(const char *name, scenario run, pega_status expected, bool may_fail) {
  for (int64_t n = 1; n < kMostAllocations; ++n) {
    allocations got;
    const pega_status status = run_once(run, n, &got);
    const bool as_expected =
        status == expected || (got.failed && may_fail && status == PEGA_ERROR_OUT_OF_MEMORY);
    if (!as_expected || got.live != 0) {
      print_error("%s, allocation %d failing: %s, %d blocks left: %s\n", name, (int)n,
                  pega_status_name(status), (int)got.live, last_text);
      fail();
    }
    if (status == PEGA_ERROR_OUT_OF_MEMORY) EXPECT_TEXT(last_text, "no memory");
    if (!got.failed) return n - 1;
  }
  fail_msg("%s allocates without end", name);
  return 0;
}

#define FAIL_EACH(run, expected, may_fail) fail_each(#run, run, expected, may_fail)

/* ---- Values ---- */

static support_counter released;

static pega_status make_text(pega_error *error) {
  pega_value value = pega_value_none(), kept = pega_value_none();
  const pega_value view = pega_value_string("view");
  pega_status status = pega_string_create("text", 4, &value, error);
  if (status == PEGA_OK) status = pega_value_retain(&view, &kept, error);
  pega_value_release(&value);
  pega_value_release(&kept);
  return status;
}

static pega_status make_containers(pega_error *error) {
  const pega_value items[] = {pega_value_string("a"), pega_value_int(1), pega_value_bytes("bc", 2),
                              pega_value_string("d")};
  pega_value array = pega_value_none(), map = pega_value_none();
  pega_status status = pega_array_create(items, 4, &array, error);
  if (status == PEGA_OK) status = pega_map_create(items, &array, 1, &map, error);
  pega_value_release(&map);
  pega_value_release(&array);
  return status;
}

static pega_status make_object(pega_error *error) {
  pega_value value = pega_value_none();
  const int before = released.count;
  pega_status status = pega_object_create("t.T", NULL, &released, support_count, &value, error);
  pega_value_release(&value);
  /* A payload that was not taken is not released. */
  if (released.count != before + (status == PEGA_OK)) return PEGA_ERROR_INTERNAL;
  return status;
}

static int64_t shape[1] = {4};
static float data[4];

static void delete_managed(DLManagedTensor *self) { support_count(self->manager_ctx); }
static void delete_versioned(DLManagedTensorVersioned *self) { support_count(self->manager_ctx); }

static pega_status make_tensors(pega_error *error) {
  const int before = released.count;
  DLManagedTensor in = {
      {data, {kDLCPU, 0}, 1, {kDLFloat, 32, 1}, shape, NULL, 0}, &released, delete_managed};
  DLManagedTensor *out = NULL;
  DLManagedTensorVersioned *versioned = NULL;
  pega_value value = pega_value_none();
  pega_status status = pega_tensor_from_dlpack(&in, &value, error);
  const bool taken = status == PEGA_OK;
  if (status == PEGA_OK) status = pega_tensor_to_dlpack(&value, &out, error);
  if (status == PEGA_OK) status = pega_tensor_to_dlpack_versioned(&value, &versioned, error);
  pega_value_release(&value);
  if (out != NULL) out->deleter(out);
  if (versioned != NULL) versioned->deleter(versioned);
  if (released.count != before + taken) return PEGA_ERROR_INTERNAL;
  return status;
}

static pega_status make_versioned_tensor(pega_error *error) {
  const int before = released.count;
  DLManagedTensorVersioned in = {{DLPACK_MAJOR_VERSION, 0},
                                 &released,
                                 delete_versioned,
                                 0,
                                 {data, {kDLCPU, 0}, 1, {kDLFloat, 32, 1}, shape, NULL, 0}};
  pega_value value = pega_value_none();
  const pega_status status = pega_tensor_from_dlpack_versioned(&in, &value, error);
  pega_value_release(&value);
  if (released.count != before + (status == PEGA_OK)) return PEGA_ERROR_INTERNAL;
  return status;
}

static void test_values(void **state) {
  (void)state;
  assert_true(FAIL_EACH(make_text, PEGA_OK, true) >= 2);
  assert_true(FAIL_EACH(make_containers, PEGA_OK, true) >= 5);
  assert_true(FAIL_EACH(make_object, PEGA_OK, true) >= 1);
  assert_true(FAIL_EACH(make_tensors, PEGA_OK, true) >= 3);
  assert_true(FAIL_EACH(make_versioned_tensor, PEGA_OK, true) >= 1);
}

/* ---- Functions ---- */

static const pega_param params[] = {
    {.name = "a",
     .doc = "a tensor",
     .type = PEGA_TYPE_TENSOR,
     .shape = "T, HV, 64",
     .domain = "> 0"},
    {.name = "n", .doc = "a number", .type = PEGA_TYPE_INT, .flags = PEGA_PARAM_RANGE, .max = 5},
};

static pega_status create_function(pega_error *error) {
  const int before = released.count;
  pega_signature signature;
  pega_function_options options = support_options("t.oom", &signature, params, 2);
  pega_function *function = NULL;
  options.doc = "Does nothing.";
  options.self = &released;
  options.deleter = support_count;
  const pega_status status = pega_function_create(&options, &function, error);
  pega_function_release(function);
  if (released.count != before + (status == PEGA_OK)) return PEGA_ERROR_INTERNAL;
  return status;
}

static pega_function *typed;   /* takes params */
static pega_function *failing; /* fails with a long text, a cause and a result */
static pega_function *silent;  /* fails and says nothing */

static pega_status refuse_call(pega_error *error) {
  /* Its text is longer than an error holds inline. */
  static char text[200];
  memset(text, 'x', sizeof text - 1);
  return pega_function_call(typed, ARGS(pega_value_string(text), pega_value_int(1)), NULL, error);
}

static pega_status fail_at_length(void *self, const pega_value *args, int32_t num_args,
                                  pega_value *result, pega_error *error) {
  (void)self;
  (void)args;
  (void)num_args;
  static char text[3000];
  memset(text, 'y', sizeof text - 1);
  pega_error cause = PEGA_ERROR_INIT;
  pega_string_create("dropped", 7, result, NULL);
  pega_error_set(error, PEGA_ERROR_IO, "Kind", "failed: %s", text);
  pega_error_set(&cause, PEGA_ERROR_DRIVER, NULL, "%s", text);
  pega_error_set_cause(error, &cause);
  pega_error_append_traceback(error, "frame\n", 6);
  return PEGA_ERROR_IO;
}

static pega_status fail_silently(void *self, const pega_value *args, int32_t num_args,
                                 pega_value *result, pega_error *error) {
  (void)self;
  (void)args;
  (void)num_args;
  (void)result;
  (void)error;
  return PEGA_ERROR_DEVICE;
}

static pega_status call_failing(pega_error *error) {
  pega_status status = pega_function_call(failing, NULL, 0, NULL, error);
  if (strcmp(pega_error_kind(error), "Kind") != 0) return PEGA_ERROR_INTERNAL;
  if (strncmp(pega_error_message(error), "failed: yyy", 11) != 0) return PEGA_ERROR_INTERNAL;
  return status;
}

static pega_status call_silent(pega_error *error) {
  pega_status status = pega_function_call(silent, NULL, 0, NULL, error);
  if (strstr(pega_error_message(error), "said nothing more") == NULL) return PEGA_ERROR_INTERNAL;
  return status;
}

static pega_function *make(const char *name, pega_call call) {
  pega_error error = PEGA_ERROR_INIT;
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  pega_function *function;
  options.name = name;
  options.call = call;
  EXPECT_OK(pega_function_create(&options, &function, &error), &error);
  return function;
}

static void test_functions(void **state) {
  (void)state;
  assert_true(FAIL_EACH(create_function, PEGA_OK, true) >= 3);
  typed = support_function("t.typed_with_a_name_that_makes_the_text_of_its_signature_long", params,
                           2, 0);
  failing = make("t.failing", fail_at_length);
  silent = make("t.silent", fail_silently);
  /* A failure stays the failure that it is. */
  FAIL_EACH(refuse_call, PEGA_ERROR_TYPE, false);
  assert_true(FAIL_EACH(call_failing, PEGA_ERROR_IO, false) >= 4);
  assert_true(FAIL_EACH(call_silent, PEGA_ERROR_DEVICE, false) >= 1);
  pega_function_release(typed);
  pega_function_release(failing);
  pega_function_release(silent);
}

/* ---- Errors, which cannot fail ---- */

static pega_status fill_error(pega_error *error) {
  static const int tag;
  static char text[3000];
  const int before = released.count;
  memset(text, 'z', sizeof text - 1);
  pega_error copy = PEGA_ERROR_INIT;
  pega_error_set(error, PEGA_ERROR_IO, NULL, "%s", text);
  pega_error_set_text(&copy, PEGA_ERROR_IO, text, text, sizeof text - 1);
  pega_error_attach(error, &tag, &released, support_count);
  pega_error_append_traceback(error, "one\n", 4);
  pega_error_append_traceback(error, "two\n", 4);
  pega_error_set_cause(error, &copy);
  const bool cause_is_empty = copy.status == PEGA_OK && copy.detail == NULL;
  pega_error_copy(error, &copy);
  pega_error_append_traceback(&copy, "three\n", 6);
  const bool text_stays =
      strncmp(error->message, "zzz", 3) == 0 && strncmp(copy.message, "zzz", 3) == 0;
  pega_error_clear(error);
  pega_error_clear(&copy);
  const bool released_once = released.count == before + 1;
  return cause_is_empty && text_stays && released_once ? PEGA_OK : PEGA_ERROR_INTERNAL;
}

static void test_errors(void **state) {
  (void)state;
  assert_true(FAIL_EACH(fill_error, PEGA_OK, false) >= 8);
}

/* ---- The registry ---- */

static pega_function *next_function;

static pega_status add_and_remove(pega_error *error) {
  pega_status status = pega_registry_add(next_function, 0, error);
  if (status == PEGA_OK) {
    pega_registry_remove(pega_function_name(next_function), error);
  } else if (pega_registry_get(pega_function_name(next_function), &(pega_function *){NULL}, NULL) !=
             PEGA_ERROR_NOT_FOUND) {
    return PEGA_ERROR_INTERNAL;
  }
  return status;
}

static pega_status override(pega_error *error) {
  return pega_registry_add(next_function, PEGA_REGISTER_OVERRIDE, error);
}

static pega_status look_up(pega_error *error) {
  pega_function *found = NULL;
  const pega_status status = pega_registry_get("t.oom.5", &found, error);
  pega_function_release(found);
  return status;
}

static pega_status look_up_in_vain(pega_error *error) {
  pega_function *found = NULL;
  return pega_registry_get("t.oom.none", &found, error);
}

static pega_status list(pega_error *error) {
  pega_value names = pega_value_none();
  const pega_status status = pega_registry_list(&names, error);
  pega_value_release(&names);
  return status;
}

static void test_registry(void **state) {
  (void)state;
  enum { kMany = 700 };
  pega_error error = PEGA_ERROR_INIT;
  char name[32];
  EXPECT_OK(pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE, &next_function, &error), &error);
  pega_function_release(next_function);
  int64_t most = 0, least = kMostAllocations;
  for (int i = 0; i < kMany; ++i) {
    snprintf(name, sizeof name, "t.oom.%d", i);
    next_function = make(name, fail_silently);
    const int64_t count = FAIL_EACH(add_and_remove, PEGA_OK, true);
    if (count > most) most = count;
    if (count < least) least = count;
    EXPECT_OK(pega_registry_add(next_function, 0, &error), &error);
    pega_function_release(next_function);
  }
  /* Among so many, the table grew, which costs an allocation more. */
  assert_int_equal(least, 1);
  assert_true(most > least);

  next_function = make("t.oom.5", fail_silently);
  EXPECT_OK(override(&error), &error);
  assert_int_equal(FAIL_EACH(override, PEGA_OK, false), 0);
  pega_function_release(next_function);
  assert_int_equal(FAIL_EACH(look_up, PEGA_OK, false), 0);
  FAIL_EACH(look_up_in_vain, PEGA_ERROR_NOT_FOUND, false);
  assert_true(FAIL_EACH(list, PEGA_OK, true) > kMany);
  for (int i = 0; i < kMany; ++i) {
    pega_function *found;
    snprintf(name, sizeof name, "t.oom.%d", i);
    EXPECT_OK(pega_registry_get(name, &found, &error), &error);
    pega_function_release(found);
    EXPECT_OK(pega_registry_remove(name, &error), &error);
  }
}

/* ---- What happens once in a process: each try in a process of its own ---- */

enum { kDone = 0, kMore = 1, kWrong = 2 };

/* Runs `body(n)` in a child for n = 1, 2, ... until it says that nothing failed. */
static void in_children(const char *name, int (*body)(int64_t fail_at)) {
  for (int64_t n = 1; n < kMostAllocations; ++n) {
    int status;
    fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
      const int outcome = body(n);
      fflush(NULL);
      _exit(outcome);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) == kWrong) {
      fail_msg("%s, allocation %d failing: the child ended with 0x%x", name, (int)n,
               (unsigned)status);
    }
    if (WEXITSTATUS(status) == kDone) {
      assert_true(n > 5);
      return;
    }
  }
  fail_msg("%s allocates without end", name);
}

static int64_t live_after_first_use;

static int first_use_of_registry(int64_t fail_at) {
  pega_error error = PEGA_ERROR_INIT;
  pega_function *found = NULL;
  allocations_begin(fail_at);
  pega_status status = pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE, &found, &error);
  if (status == PEGA_ERROR_OUT_OF_MEMORY && found == NULL) {
    status = pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE, &found, &error);
  }
  pega_function_release(found);
  const allocations got = allocations_end();
  pega_value names = pega_value_none();
  if (status == PEGA_OK) status = pega_registry_list(&names, &error);
  const bool all = pega_value_size(&names) == NUM_BUILTINS;
  pega_value_release(&names);
  pega_error_clear(&error);
  /* What stays is the registry with its functions, the same as if nothing had failed. */
  if (status != PEGA_OK || !all || got.live != live_after_first_use) {
    print_error("%s, %s names, %d blocks in place of %d\n", pega_status_name(status),
                all ? "all" : "not all", (int)got.live, (int)live_after_first_use);
    return kWrong;
  }
  return got.failed ? kMore : kDone;
}

static int first_use_of_symbol(int64_t fail_at) {
  allocations_begin(fail_at);
  const int result = gated_delta_rule_prefill_chunk_solve_cuda(NULL, NULL, 1, 1, NULL);
  const pega_status status = pega_symbol_last_error(NULL);
  const int again = gated_delta_rule_prefill_chunk_solve_cuda(NULL, NULL, 1, 1, NULL);
  const allocations got = allocations_end();
  /* 2 is CUDA_ERROR_OUT_OF_MEMORY. */
  const bool as_expected = (result == 2 && status == PEGA_ERROR_OUT_OF_MEMORY && got.failed) ||
                           (result == 1 && status == PEGA_ERROR_RANGE);
  if (!as_expected || again != 1) return kWrong;
  return got.failed ? kMore : kDone;
}

static int measure_first_use(void) {
  int pipe_ends[2];
  if (pipe(pipe_ends) != 0) return -1;
  const pid_t child = fork();
  if (child == 0) {
    pega_function *found = NULL;
    allocations_begin(0);
    pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE, &found, NULL);
    pega_function_release(found);
    const allocations got = allocations_end();
    _exit(write(pipe_ends[1], &got.live, sizeof got.live) != (ssize_t)sizeof got.live);
  }
  int status = -1;
  if (child < 0 || waitpid(child, &status, 0) != child || status != 0) return -1;
  const bool whole = read(pipe_ends[0], &live_after_first_use, sizeof live_after_first_use) ==
                     (ssize_t)sizeof live_after_first_use;
  close(pipe_ends[0]);
  close(pipe_ends[1]);
  return whole ? 0 : -1;
}

/* First of all tests: no use of the registry may come before. */
static void test_first_use(void **state) {
  (void)state;
  assert_int_equal(measure_first_use(), 0);
  in_children("first use of the registry", first_use_of_registry);
  in_children("first use of the C symbol", first_use_of_symbol);
}

int main(void) {
  if (!allocations_are_counted()) {
    printf("SKIP: a sanitizer or valgrind owns malloc here; without them it is made to fail\n");
    return SUPPORT_SKIP;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_first_use), cmocka_unit_test(test_values),
      cmocka_unit_test(test_functions), cmocka_unit_test(test_errors),
      cmocka_unit_test(test_registry),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
