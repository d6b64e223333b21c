/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Real wheels, oldest, middle and newest, each opened and called in a process of its own. What a
 * library reports and what its wheel is called differ: both are told.
 */
#include "process.h"
#include "support.h"

#include <stdio.h>
#include <unistd.h>

static process_result result;
static char line[4096];

#define LINE(name) process_line(&result, name, line, sizeof line)

static void check_wheel(const char *wheel, const char *reported) {
  char path[4096];
  snprintf(path, sizeof path, "%s/apache-tvm-ffi-%s/tvm_ffi/lib/libtvm_ffi.so", PEGA_TEST_WHEELS,
           wheel);
  const char *argv[] = {PEGA_TEST_PROBE, "--library", path, "--call", PEGA_TEST_FIXTURE, NULL};
  assert_int_equal(process_run(argv, NULL, &result), 0);
  if (result.exit_code != 0) print_error("%s\n", result.output);
  assert_int_equal(result.exit_code, 0);
  assert_string_equal(LINE("status"), "OK");
  assert_string_equal(LINE("version"), reported);
  assert_string_equal(LINE("wheel"), wheel);
  assert_string_equal(LINE("segv"), "unchanged");
  assert_string_equal(LINE("sum"), "5");
}

static void test_oldest(void **state) {
  (void)state;
  check_wheel("0.1.0", "0.1.0");
}

static void test_middle(void **state) {
  (void)state;
  check_wheel("0.1.12", "0.1.12");
}

static void test_newest(void **state) {
  (void)state;
  check_wheel("0.1.15.post2", "0.1.16");
}

int main(void) {
  if (access(PEGA_TEST_WHEELS "/apache-tvm-ffi-0.1.0/tvm_ffi/lib/libtvm_ffi.so", R_OK) != 0) {
    printf("SKIP: no unpacked wheels in '%s' (PEGA_TVM_FFI_WHEELS)\n", PEGA_TEST_WHEELS);
    return 77;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_oldest),
      cmocka_unit_test(test_middle),
      cmocka_unit_test(test_newest),
  };
  return cmocka_run_group_tests_name("wheels", tests, NULL, NULL);
}
