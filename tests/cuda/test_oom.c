/* SPDX-License-Identifier: Apache-2.0 */
/* Every allocation of every scenario is made to fail once, the library's and the driver's alike: the
 * status says so or the call did without, nothing leaks, the contexts stay, trying again works. */
#include <stdio.h>
#include <string.h>

#include "../core/allocations.h"
#include "scenarios.h"

enum { kMostAllocations = 100000 };

static char last_text[sizeof(((pega_error *)0)->message)]; /* what the last run's error said */
static int32_t last_code;

/* The library's own failure, the driver's, or the driver's libelf's, which the driver takes for a bad
 * image. */
static bool is_out_of_memory(pega_status status) {
  if (status == PEGA_ERROR_DRIVER) return last_code == 200;
  return status == PEGA_ERROR_OUT_OF_MEMORY &&
         (strstr(last_text, "no memory") != NULL || strstr(last_text, "OUT_OF_MEMORY") != NULL);
}

/* One run with its end, counted; `failed` tells whether there was an allocation to fail. */
static allocations run_once(const scenario *it, int64_t fail_at, pega_status *status) {
  if (it->setup != NULL) it->setup();
  const machine_stack stack = machine_get_stack();
  allocations_begin(fail_at);
  pega_error error = PEGA_ERROR_INIT;
  *status = it->run(&error);
  memcpy(last_text, error.message, sizeof last_text);
  last_code = error.code;
  pega_error_clear(&error);
  const bool in_run = allocations_end().failed;
  machine_expect_stack(&stack, it->name);
  allocations_continue();
  const pega_status again = in_run ? it->run(NULL) : it->expected;
  if (it->teardown != NULL) it->teardown();
  const pega_status closed = pega_cuda_close(NULL);
  allocations got = allocations_end();
  got.failed = in_run;
  if (again != it->expected || closed != PEGA_OK) {
    fail_msg("%s, allocation %d failing: again %s, then closing %s", it->name, (int)fail_at,
             pega_status_name(again), pega_status_name(closed));
  }
  return got;
}

static void test_each_allocation(void **state) {
  (void)state;
  for (int i = 0; i < num_scenarios; ++i) {
    const scenario *it = &scenarios[i];
    pega_status status;
    /* Once for what stays for the rest of the process: names. */
    run_once(it, 0, &status);
    assert_int_equal(status, it->expected);
    const int64_t live = run_once(it, 0, &status).live;
    assert_int_equal(status, it->expected);
    const pega_fake_driver_live_counts at_first = machine_live();
    int64_t n = 0;
    bool failed = true;
    while (failed) {
      assert_true(++n < kMostAllocations);
      const allocations got = run_once(it, n, &status);
      failed = got.failed;
      if (got.live != live || (status != it->expected && !is_out_of_memory(status)) ||
          (status != it->expected && !failed)) {
        fail_msg("%s, allocation %d failing: %s, %d blocks left, not %d: %s", it->name, (int)n,
                 pega_status_name(status), (int)got.live, (int)live, last_text);
      }
      machine_expect_live(&at_first, it->name);
    }
    print_message("%s: %d allocations\n", it->name, (int)n - 1);
  }
}

static bool is_registered(const char *name) {
  pega_function *found = NULL;
  const bool there = pega_registry_get(name, &found, NULL) == PEGA_OK;
  pega_function_release(found);
  return there;
}

/* A pack is registered whole or not at all, and what it would take the place of stays. */
static void test_registering(void **state) {
  (void)state;
  static const kernel_param none[] = {END_OF_PARAMS};
  static const kernel_variant variant = {"sm_90", "one", .params = none};
  static const kernel_function several[] = {{"t.first", "[]", &variant, 1, NULL},
                                            {"t.taken", "[]", &variant, 1, NULL},
                                            {"t.last", "[]", &variant, 1, NULL}};
  pega_error error = PEGA_ERROR_INIT;
  bytes file = pack_make("several", several, COUNT(several), NULL, 0);
  pega_pack *pack = pack_open(&file, 0);
  pega_function *taken = support_function("t.taken", NULL, 0, 0), *found;
  EXPECT_OK(pega_registry_add(taken, 0, &error), &error);
  bool failed = true;
  int64_t n = 0, left = 0;
  while (failed) {
    assert_true(++n < 200);
    allocations_begin(n);
    const pega_status status = pega_pack_register(pack, PEGA_REGISTER_OVERRIDE, NULL);
    const allocations got = allocations_end();
    failed = got.failed;
    const bool done = status == PEGA_OK; /* also where the call did without */
    if (!done) assert_int_equal(status, PEGA_ERROR_OUT_OF_MEMORY);
    assert_true(done || failed);
    assert_int_equal(is_registered("t.first"), done);
    assert_int_equal(is_registered("t.last"), done);
    EXPECT_OK(pega_registry_get("t.taken", &found, &error), &error);
    assert_int_equal(found == taken, !done);
    pega_function_release(found);
    if (!done) {
      left += got.live;
    } else if (failed) {
      EXPECT_OK(pega_registry_remove("t.first", &error), &error);
      EXPECT_OK(pega_registry_remove("t.last", &error), &error);
      EXPECT_OK(pega_registry_add(taken, PEGA_REGISTER_OVERRIDE, &error), &error);
    }
  }
  assert_int_equal(left, 0);
  assert_true(n > 5);
  /* A function is made when it is first asked for: what fails then can be tried again. */
  failed = true;
  for (n = 0; failed;) {
    assert_true(++n < 200);
    EXPECT_OK(pega_pack_register(pack, PEGA_REGISTER_OVERRIDE, &error), &error);
    allocations_begin(n);
    const pega_status status = pega_registry_get("t.first", &found, NULL);
    if (status == PEGA_OK) pega_function_release(found);
    const allocations got = allocations_end();
    failed = got.failed;
    assert_int_equal(status, failed && status != PEGA_OK ? PEGA_ERROR_OUT_OF_MEMORY : PEGA_OK);
    EXPECT_OK(pega_registry_get("t.first", &found, &error), &error);
    assert_string_equal(pega_function_name(found), "t.first");
    pega_function_release(found);
  }
  assert_true(n > 5);
  for (int i = 0; i < COUNT(several); ++i) {
    EXPECT_OK(pega_registry_remove(several[i].name, &error), &error);
  }
  pega_function_release(taken);
  pega_pack_release(pack);
  bytes_free(&file);
}

int main(void) {
  if (!allocations_are_counted()) {
    printf("SKIP: a sanitizer or valgrind owns malloc here; without them it is made to fail\n");
    return SUPPORT_SKIP;
  }
  scenarios_start();
  scenarios_share_pack();
  pega_fake_driver_set_quiet(true);
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_allocation),
                                     cmocka_unit_test(test_registering)};
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  scenarios_end();
  return failed;
}
