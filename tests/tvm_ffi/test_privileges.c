/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The environment is ignored when privileges are raised: a copy of the probe that runs with another
 * group than its caller's (so the system marks it secure) does not open what the variable names.
 */
#include "files.h"
#include "process.h"
#include "support.h"

#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROBE_COPY PEGA_TEST_SCRATCH "/privileged_probe"

static process_result result;
static char line[4096];

#define LINE(name) process_line(&result, name, line, sizeof line)

/* A group that this process may give a file to and is not its own. */
static int find_other_group(gid_t *group) {
  gid_t groups[256];
  int count = getgroups(256, groups);
  for (int i = 0; i < count; i++) {
    if (groups[i] != getegid()) {
      *group = groups[i];
      return 0;
    }
  }
  *group = getegid() + 1;
  return geteuid() == 0 ? 0 : -1;
}

static const char *make_privileged_probe(void) {
  gid_t group = 0;
  if (find_other_group(&group) != 0) return "the user is in one group only";
  if (files_copy(PEGA_TEST_PROBE, PROBE_COPY) != 0) return "the probe cannot be copied";
  if (chown(PROBE_COPY, (uid_t)-1, group) != 0) return "the file's group cannot be changed";
  if (chmod(PROBE_COPY, 02755) != 0) return "the setgid bit cannot be set";
  const char *argv[] = {PROBE_COPY, "--report", NULL};
  if (process_run(argv, NULL, &result) != 0) return "the probe does not run";
  /* A container or a file system may switch setgid off. */
  if (strcmp(LINE("secure"), "1") != 0) return "the system does not honour setgid here";
  return NULL;
}

static void test_environment_is_ignored(void **state) {
  (void)state;
  const char *environment[] = {PEGA_TVM_FFI_LIBRARY_ENV "=/nonexistent/libtvm_ffi.so",
                               "ASAN_OPTIONS=detect_leaks=0", NULL};
  const char *plain[] = {PEGA_TEST_PROBE, NULL};
  assert_int_equal(process_run(plain, environment, &result), 0);
  assert_string_equal(LINE("secure"), "0");
  assert_string_equal(LINE("status"), "NOT_FOUND");

  const char *privileged[] = {PROBE_COPY, NULL};
  assert_int_equal(process_run(privileged, environment, &result), 0);
  assert_string_equal(LINE("secure"), "1");
  assert_string_equal(LINE("status"), "OK");
  assert_string_equal(LINE("source"), "4");
}

/* The report says that the variable is there and why it does not count. */
static void test_report_says_so(void **state) {
  (void)state;
  const char *environment[] = {PEGA_TVM_FFI_LIBRARY_ENV "=/nonexistent/libtvm_ffi.so",
                               "ASAN_OPTIONS=detect_leaks=0", NULL};
  const char *privileged[] = {PROBE_COPY, "--report", NULL};
  assert_int_equal(process_run(privileged, environment, &result), 0);
  EXPECT_TEXT(result.output, PEGA_TVM_FFI_LIBRARY_ENV);
  EXPECT_TEXT(result.output, "privileges");
}

int main(void) {
  const char *reason = make_privileged_probe();
  if (reason != NULL) {
    printf("SKIP: no program with raised privileges can be made: %s\n", reason);
    return 77;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_environment_is_ignored),
      cmocka_unit_test(test_report_says_so),
  };
  int failed = cmocka_run_group_tests_name("privileges", tests, NULL, NULL);
  unlink(PROBE_COPY);
  return failed;
}
