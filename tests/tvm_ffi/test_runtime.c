/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding a runtime: the order of the search, choices that never fall through, libraries that are
 * refused and what the refusal says, second copies, and the host's SIGSEGV handler. Each case is a
 * process of its own (runtime_probe.c), because a runtime once loaded stays.
 */
#include "files.h"
#include "process.h"
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LIBRARY_ENV PEGA_TVM_FFI_LIBRARY_ENV
#define SCRATCH(name) PEGA_TEST_SCRATCH "/" name
/* The same library at another place is another library to the search. */
#define OTHER_COPY PEGA_TEST_COPIES "/libtvm_ffi.so"
#define FAKE(version) PEGA_TEST_FAKES "/" version "/libtvm_ffi.so"

static process_result result;
static char line[4096];

#define PROBE(...) run_probe(PEGA_TEST_PROBE, NULL, (const char *const[]){__VA_ARGS__, NULL})
#define PROBE_ENV(variable, ...) \
  run_probe(PEGA_TEST_PROBE, variable, (const char *const[]){__VA_ARGS__, NULL})
#define LINE(name) process_line(&result, name, line, sizeof line)

static void run_probe(const char *program, const char *variable, const char *const *words) {
  const char *argv[16] = {program};
  for (size_t i = 0; words[i] != NULL && i < 14; i++) argv[i + 1] = words[i];
  const char *environment[] = {variable == NULL ? LIBRARY_ENV : variable, NULL};
  assert_int_equal(process_run(argv, environment, &result), 0);
  assert_int_equal(result.signal, 0);
  assert_int_not_equal(result.exit_code, 127);
}

static void expect_source(pega_tvm_ffi_source source, const char *path) {
  if (strcmp(LINE("status"), "OK") != 0) print_error("%s\n", result.output);
  assert_string_equal(LINE("status"), "OK");
  assert_int_equal(strtol(LINE("source"), NULL, 10), source);
  char *real = realpath(path, NULL);
  assert_non_null(real);
  char *got = realpath(LINE("path"), NULL);
  assert_non_null(got);
  assert_string_equal(got, real);
  free(real);
  free(got);
}

#define EXPECT_REFUSED(expected, ...)                                                           \
  do {                                                                                          \
    const char *const needles_[] = {__VA_ARGS__};                                               \
    if (strcmp(LINE("status"), expected) != 0) print_error("%s\n", result.output);              \
    assert_string_equal(LINE("status"), expected);                                              \
    support_expect_all(result.output, needles_, sizeof needles_ / sizeof needles_[0], __FILE__, \
                       __LINE__);                                                               \
  } while (0)

/* ---- the order of the search ---- */

static void test_explicit_comes_first(void **state) {
  (void)state;
  PROBE_ENV(LIBRARY_ENV "=/nonexistent/libtvm_ffi.so", "--library", OTHER_COPY);
  expect_source(PEGA_TVM_FFI_EXPLICIT, OTHER_COPY);
}

static void test_environment_comes_second(void **state) {
  (void)state;
  PROBE_ENV(LIBRARY_ENV "=" OTHER_COPY, "--twice");
  expect_source(PEGA_TVM_FFI_ENVIRONMENT, OTHER_COPY);
}

static void test_copy_in_process_comes_third(void **state) {
  (void)state;
  PROBE("--preload", OTHER_COPY);
  expect_source(PEGA_TVM_FFI_PROCESS, OTHER_COPY);
  assert_string_equal(LINE("copies"), "1");
}

static void test_build_copy_comes_fourth(void **state) {
  (void)state;
  run_probe(PEGA_TEST_PROBE, "LD_LIBRARY_PATH=" PEGA_TEST_COPIES, (const char *const[]){NULL});
  expect_source(PEGA_TVM_FFI_BUILD, PEGA_TEST_BUILD_LIBRARY);
}

#define ARTIFACT(folder) "--artifact", PEGA_TEST_FIXTURE, "--folder", folder

/* A folder that is given with an artifact comes after a copy in the process and before the build's. */
static void test_given_folder(void **state) {
  (void)state;
  PROBE(ARTIFACT(PEGA_TEST_COPIES));
  expect_source(PEGA_TVM_FFI_FOLDER, OTHER_COPY);
  assert_string_equal(LINE("copies"), "1");
  PROBE_ENV(LIBRARY_ENV "=" PEGA_TEST_BUILD_LIBRARY, ARTIFACT(PEGA_TEST_COPIES));
  expect_source(PEGA_TVM_FFI_ENVIRONMENT, PEGA_TEST_BUILD_LIBRARY);
  PROBE("--library", PEGA_TEST_BUILD_LIBRARY, ARTIFACT(PEGA_TEST_COPIES));
  expect_source(PEGA_TVM_FFI_EXPLICIT, PEGA_TEST_BUILD_LIBRARY);
  PROBE("--preload", PEGA_TEST_BUILD_LIBRARY, ARTIFACT(PEGA_TEST_COPIES));
  expect_source(PEGA_TVM_FFI_PROCESS, PEGA_TEST_BUILD_LIBRARY);
  PROBE(ARTIFACT(PEGA_TEST_SCRATCH));
  expect_source(PEGA_TVM_FFI_BUILD, PEGA_TEST_BUILD_LIBRARY);
}

/* What is there is a choice: nothing else is tried. */
static void test_given_folder_refused(void **state) {
  (void)state;
  PROBE(ARTIFACT(PEGA_TEST_FAKES "/1.0.0"));
  EXPECT_REFUSED("VERSION", "the given folders'", FAKE("1.0.0"), "too new");
}

static void test_system_comes_last(void **state) {
  (void)state;
  const char *none[] = {NULL};
  run_probe(PEGA_TEST_PROBE_NOBUILD, "LD_LIBRARY_PATH=" PEGA_TEST_COPIES, none);
  expect_source(PEGA_TVM_FFI_SYSTEM, OTHER_COPY);
}

static void test_nothing_found_tells_every_place(void **state) {
  (void)state;
  const char *none[] = {NULL};
  run_probe(PEGA_TEST_PROBE_NOBUILD, "LD_LIBRARY_PATH=" PEGA_TEST_SCRATCH "/nothing-here", none);
  EXPECT_REFUSED("UNAVAILABLE", LIBRARY_ENV, "/nonexistent/build/libtvm_ffi.so", "libtvm_ffi.so",
                 "apache-tvm-ffi");
}

static void test_report_tells_every_place(void **state) {
  (void)state;
  PROBE_ENV(LIBRARY_ENV "=" FAKE("0.2.0"), "--report");
  assert_string_equal(LINE("status"), "OK");
  EXPECT_TEXT(result.output, FAKE("0.2.0"));
  EXPECT_TEXT(result.output, "0.2.0");
  PROBE("--report");
  EXPECT_TEXT(result.output, LIBRARY_ENV);
  char *build = realpath(PEGA_TEST_BUILD_LIBRARY, NULL);
  assert_non_null(build);
  EXPECT_TEXT(result.output, build);
  free(build);
}

static void test_opening_again_is_the_same_runtime(void **state) {
  (void)state;
  PROBE("--twice");
  assert_string_equal(LINE("again"), "the same");
  PROBE("--library", OTHER_COPY, "--twice");
  assert_string_equal(LINE("again"), "the same");
}

/* ---- choices never fall through ---- */

static void test_missing_choice_is_final(void **state) {
  (void)state;
  PROBE("--library", "/nonexistent/libtvm_ffi.so");
  EXPECT_REFUSED("NOT_FOUND", "/nonexistent/libtvm_ffi.so");
  EXPECT_NO_TEXT(result.output, PEGA_TEST_BUILD_LIBRARY);

  PROBE_ENV(LIBRARY_ENV "=/nonexistent/libtvm_ffi.so", "--call", PEGA_TEST_FIXTURE);
  EXPECT_REFUSED("NOT_FOUND", "/nonexistent/libtvm_ffi.so", LIBRARY_ENV);
  EXPECT_NO_TEXT(result.output, PEGA_TEST_BUILD_LIBRARY);
}

static void test_unfit_choice_is_final(void **state) {
  (void)state;
  PROBE("--library", FAKE("0.2.0"));
  assert_string_equal(LINE("status"), "VERSION");
  PROBE_ENV(LIBRARY_ENV "=" FAKE("0.2.0"), "--call", PEGA_TEST_FIXTURE);
  EXPECT_REFUSED("VERSION", FAKE("0.2.0"), LIBRARY_ENV);
}

/* ---- libraries that are refused ---- */

static void test_other_versions_are_refused(void **state) {
  (void)state;
  static const char *const versions[][2] = {
      {"0.2.0", FAKE("0.2.0")}, {"1.0.0", FAKE("1.0.0")}, {"0.0.9", FAKE("0.0.9")}};
  for (size_t i = 0; i < 3; i++) {
    PROBE("--library", versions[i][1]);
    /* Found, wanted, and what to do. */
    EXPECT_REFUSED("VERSION", versions[i][1], versions[i][0], "0.1.0", "0.2.0", "apache-tvm-ffi");
  }
}

static void test_missing_symbol_is_named(void **state) {
  (void)state;
  PROBE("--library", FAKE("0.1.99"));
  EXPECT_REFUSED("SYMBOL", FAKE("0.1.99"), "0.1.99", "TVMFFIErrorMoveFromRaised");
}

static void test_library_without_any_symbol(void **state) {
  (void)state;
  PROBE("--library", PEGA_TEST_NOT_A_RUNTIME);
  EXPECT_REFUSED("SYMBOL", PEGA_TEST_NOT_A_RUNTIME, "TVMFFIGetVersion");
}

static void test_files_that_are_no_library(void **state) {
  (void)state;
  const char text[] = "this is a text file\n";
  assert_int_equal(files_write(SCRATCH("text.so"), text, sizeof text - 1), 0);
  PROBE("--library", SCRATCH("text.so"));
  EXPECT_REFUSED("FORMAT", SCRATCH("text.so"), "ELF");

  assert_int_equal(files_write(SCRATCH("empty.so"), text, 0), 0);
  PROBE("--library", SCRATCH("empty.so"));
  EXPECT_REFUSED("FORMAT", SCRATCH("empty.so"));

  PROBE("--library", PEGA_TEST_SCRATCH);
  assert_string_not_equal(LINE("status"), "OK");
  EXPECT_TEXT(result.output, PEGA_TEST_SCRATCH);
}

static void test_truncated_library(void **state) {
  (void)state;
  assert_int_equal(files_copy(OTHER_COPY, SCRATCH("cut.so")), 0);
  long size = files_size(SCRATCH("cut.so"));
  const long cuts[] = {1, 40, 64, 200, size / 2, size - 100};
  for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
    assert_int_equal(files_copy(OTHER_COPY, SCRATCH("cut.so")), 0);
    assert_int_equal(files_truncate(SCRATCH("cut.so"), cuts[i]), 0);
    PROBE("--library", SCRATCH("cut.so"));
    /* Cut behind the last loaded page it is a library still; nothing else is. */
    if (i < 5) EXPECT_REFUSED("FORMAT", SCRATCH("cut.so"));
  }
}

static void test_wrong_architecture_is_named(void **state) {
  (void)state;
  assert_int_equal(files_copy_for_other_architecture(OTHER_COPY, SCRATCH("other-arch.so")), 0);
  PROBE("--library", SCRATCH("other-arch.so"));
  EXPECT_REFUSED("FORMAT", SCRATCH("other-arch.so"), "x86-64", "aarch64");
}

/* ---- two copies ---- */

static void test_second_copy_is_named(void **state) {
  (void)state;
  PROBE("--preload", OTHER_COPY, "--library", PEGA_TEST_BUILD_LIBRARY);
  assert_string_not_equal(LINE("status"), "OK");
  EXPECT_TEXT(result.output, OTHER_COPY);
  EXPECT_TEXT(result.output, PEGA_TEST_BUILD_LIBRARY);

  PROBE_ENV(LIBRARY_ENV "=" PEGA_TEST_BUILD_LIBRARY, "--preload", OTHER_COPY);
  assert_string_not_equal(LINE("status"), "OK");
  EXPECT_TEXT(result.output, OTHER_COPY);
}

/* Two copies that others loaded: the first is taken, the other told of. */
static void test_copies_of_others_are_told_of(void **state) {
  (void)state;
  PROBE("--preload-local", PEGA_TEST_BUILD_LIBRARY, "--preload-local", OTHER_COPY);
  expect_source(PEGA_TVM_FFI_PROCESS, PEGA_TEST_BUILD_LIBRARY);
  assert_string_equal(LINE("copies"), "2");
  EXPECT_TEXT(LINE("other"), "libtvm_ffi.so");
}

static void test_choosing_the_copy_in_process_is_no_second(void **state) {
  (void)state;
  PROBE("--preload", OTHER_COPY, "--library", OTHER_COPY);
  expect_source(PEGA_TVM_FFI_EXPLICIT, OTHER_COPY);
  assert_string_equal(LINE("copies"), "1");
}

/* Nor does one come in as a module, or as a library that modules need; the process goes on. */
static void test_second_copy_is_no_module(void **state) {
  (void)state;
  static const char *const others[] = {
      OTHER_COPY, PEGA_TEST_WHEELS "/apache-tvm-ffi-0.1.12/tvm_ffi/lib/libtvm_ffi.so"};
  for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
    if (access(others[i], R_OK) != 0) continue; /* no unpacked wheels here */
    PROBE("--library", PEGA_TEST_BUILD_LIBRARY, "--second", others[i], "--call", PEGA_TEST_FIXTURE);
    if (strcmp(LINE("as module"), "ALREADY_EXISTS") != 0) print_error("%s\n", result.output);
    static const char *const ways[][2] = {{"as module", "as module message"},
                                          {"as library", "as library message"}};
    char own[sizeof line];
    process_line(&result, "path", own, sizeof own);
    assert_string_not_equal(own, "");
    for (size_t way = 0; way < 2; way++) {
      assert_string_equal(LINE(ways[way][0]), "ALREADY_EXISTS");
      EXPECT_TEXT(LINE(ways[way][1]), others[i]);
      EXPECT_TEXT(LINE(ways[way][1]), own);
    }
    assert_string_equal(LINE("copies"), "1");
    assert_string_equal(LINE("sum"), "5");
    assert_int_equal(result.exit_code, 0);
  }
  /* The runtime's own file is no second copy. */
  PROBE("--library", PEGA_TEST_BUILD_LIBRARY, "--second", PEGA_TEST_BUILD_LIBRARY);
  assert_string_equal(LINE("as library"), "OK");
}

/* ---- streams that were set before ---- */

static void test_streams_set_before_are_kept(void **state) {
  (void)state;
  PROBE("--streams");
  assert_string_equal(LINE("status"), "OK");
  assert_string_equal(LINE("main tvm_ffi"), "main 0, main 1");
  assert_string_equal(LINE("main engine"), "main 0, main 1");
  assert_string_equal(LINE("thread engine"), "thread 0, thread 1");
  assert_string_equal(LINE("thread tvm_ffi"), "thread 0, thread 1");
}

/* ---- the host's handler ---- */

static void test_segv_handler_survives(void **state) {
  (void)state;
  PROBE("--segv", "--library", OTHER_COPY);
  assert_string_equal(LINE("status"), "OK");
  assert_string_equal(LINE("segv"), "unchanged");
  assert_string_equal(LINE("handler"), "the host's");
  assert_int_equal(result.exit_code, 33);

  /* A host without a handler has none afterwards. */
  PROBE("--library", OTHER_COPY);
  assert_string_equal(LINE("segv"), "unchanged");

  /* Neither does a refused library leave one behind. */
  PROBE("--segv", "--library", FAKE("0.2.0"));
  assert_string_equal(LINE("segv"), "unchanged");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_explicit_comes_first),
      cmocka_unit_test(test_environment_comes_second),
      cmocka_unit_test(test_copy_in_process_comes_third),
      cmocka_unit_test(test_build_copy_comes_fourth),
      cmocka_unit_test(test_given_folder),
      cmocka_unit_test(test_given_folder_refused),
      cmocka_unit_test(test_system_comes_last),
      cmocka_unit_test(test_nothing_found_tells_every_place),
      cmocka_unit_test(test_report_tells_every_place),
      cmocka_unit_test(test_opening_again_is_the_same_runtime),
      cmocka_unit_test(test_missing_choice_is_final),
      cmocka_unit_test(test_unfit_choice_is_final),
      cmocka_unit_test(test_other_versions_are_refused),
      cmocka_unit_test(test_missing_symbol_is_named),
      cmocka_unit_test(test_library_without_any_symbol),
      cmocka_unit_test(test_files_that_are_no_library),
      cmocka_unit_test(test_truncated_library),
      cmocka_unit_test(test_wrong_architecture_is_named),
      cmocka_unit_test(test_second_copy_is_named),
      cmocka_unit_test(test_copies_of_others_are_told_of),
      cmocka_unit_test(test_choosing_the_copy_in_process_is_no_second),
      cmocka_unit_test(test_second_copy_is_no_module),
      cmocka_unit_test(test_streams_set_before_are_kept),
      cmocka_unit_test(test_segv_handler_survives),
  };
  return cmocka_run_group_tests_name("runtime", tests, NULL, NULL);
}
