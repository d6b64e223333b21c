/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Modules through pega_artifact_open(): what they do wrong is told with their path; a loader that an
 * embedded binary names and nobody has is told before anything is loaded; and the same with the real files
 * of TileLang, whose folder of libraries PEGA_TILELANG_LIB names.
 */
#include <pega/artifact.h>
#include <stdio.h>
#include <stdlib.h>

#include "process.h"
#include "support.h"

static pega_error error = PEGA_ERROR_INIT;

static pega_status open_artifact(const char *path, const char *folder, pega_artifact **out) {
  pega_artifact_options options = PEGA_ARTIFACT_OPTIONS_INIT;
  options.path = path;
  options.search_paths = &folder;
  options.num_search_paths = folder == NULL ? 0 : 1;
  return pega_artifact_open(&options, out, &error);
}

static void test_calls(void **state) {
  (void)state;
  pega_artifact *artifact = NULL;
  pega_function *function = NULL;
  pega_value names = pega_value_none();
  pega_value result = pega_value_none();
  EXPECT_OK(open_artifact(PEGA_TEST_ARTIFACT_MODULE, NULL, &artifact));
  assert_string_equal(pega_artifact_format(artifact), "TVM FFI module");
  EXPECT_OK(pega_artifact_list(artifact, &names, &error));
  assert_int_equal(pega_value_size(&names), 4);
  pega_value_release(&names);
  EXPECT_OK(pega_artifact_get(artifact, "answer", &function, &error));
  EXPECT_OK(pega_function_call(function, NULL, 0, &result, &error));
  assert_int_equal(result.as.i64, 42);
  pega_function_release(function);
  /* TVM FFI itself catches what is a std::exception. */
  EXPECT_OK(pega_artifact_get(artifact, "throws", &function, &error));
  EXPECT_FAILURE(PEGA_ERROR_CALLEE, pega_function_call(function, NULL, 0, &result, &error),
                 "no such thing");
  EXPECT_TEXT(pega_error_traceback(&error),
              "File \"" PEGA_TEST_ARTIFACT_MODULE "\", line 0, in throws\n");
  pega_function_release(function);
  EXPECT_OK(pega_artifact_get(artifact, "throws_number", &function, &error));
  EXPECT_FAILURE(PEGA_ERROR_CALLEE, pega_function_call(function, NULL, 0, &result, &error),
                 PEGA_TEST_ARTIFACT_MODULE ": throws_number: an exception left it", "int");
  pega_function_release(function);
  EXPECT_OK(pega_artifact_get(artifact, "says_nothing", &function, &error));
  EXPECT_FAILURE(PEGA_ERROR_CALLEE, pega_function_call(function, NULL, 0, &result, &error),
                 PEGA_TEST_ARTIFACT_MODULE ": says_nothing returned -1 but set no error");
  pega_function_release(function);
  pega_artifact_release(artifact);
}

/* Variant 0 embeds a part of kind "cuda". */
static void test_loader_missing(void **state) {
  (void)state;
  pega_artifact *artifact = NULL;
  EXPECT_FAILURE(PEGA_ERROR_NOT_FOUND,
                 open_artifact(PEGA_TEST_LOADERS "/loader_0.so", NULL, &artifact), "loader_0.so",
                 "libtvm_runtime.so", "ffi.Module.load_from_bytes.cuda");
  assert_null(artifact);
}

/* In a process of its own: the dynamic loader is of little use after it. */
static void test_constructor_throws(void **state) {
  (void)state;
  static process_result result;
  const char *const argv[] = {PEGA_TEST_PROBE, "--artifact", PEGA_TEST_THROWING_MODULE, NULL};
  assert_int_equal(process_run(argv, NULL, &result), 0);
  assert_int_equal(result.signal, 0);
  EXPECT_TEXT(result.output, "status: CALLEE");
  EXPECT_TEXT(result.output, PEGA_TEST_THROWING_MODULE
              " cannot be loaded: one of its constructors threw "
              "std::runtime_error: not today");
}

static bool in_process(const char *text) {
  char line[4096];
  bool found = false;
  FILE *maps = fopen("/proc/self/maps", "r");
  while (maps != NULL && !found && fgets(line, sizeof line, maps) != NULL) {
    found = strstr(line, text) != NULL;
  }
  if (maps != NULL) fclose(maps);
  return found;
}

/* TileLang 0.1.15's runtime needs apache-tvm-ffi before 0.1.13. */
static void test_tilelang(void **state) {
  (void)state;
  const char *folder = getenv("PEGA_TILELANG_LIB");
  if (folder == NULL || folder[0] == '\0') {
    printf("SKIP: PEGA_TILELANG_LIB names no folder of TileLang's libraries\n");
    skip();
  }
  pega_tvm_ffi_info info = {.struct_size = (uint32_t)sizeof info};
  EXPECT_OK(pega_tvm_ffi_describe(support_runtime, &info, &error));
  char path[4096];
  snprintf(path, sizeof path, "%s/libtvm_runtime.so", folder);
  pega_artifact *artifact = NULL;
  if (info.minor == 1 && info.patch < 13) {
    if (strcmp(info.wheel_version, "0.1.12") != 0) skip();
    EXPECT_OK(open_artifact(path, folder, &artifact));
    assert_true(in_process("libtvm_runtime.so"));
    /* Now its loader is there, and a module that names it lacks nothing. */
    pega_function *loader = NULL;
    EXPECT_OK(pega_tvm_ffi_get_global(support_runtime, "ffi.Module.load_from_bytes.cuda", &loader,
                                      &error));
    pega_function_release(loader);
    pega_artifact_release(artifact);
    return;
  }
  EXPECT_FAILURE(PEGA_ERROR_SYMBOL, open_artifact(path, folder, &artifact), "libtvm_runtime.so",
                 "_ZN3tvm3ffi4json9StringifyERKNS0_3AnyENS0_8OptionalIivEE",
                 "tilelang 0.1.15 asks for apache-tvm-ffi<0.1.13", "found is apache-tvm-ffi ",
                 info.wheel_version, info.path);
  assert_null(artifact);
  assert_false(in_process("libtvm_runtime.so"));
  assert_false(in_process("libstub_"));
  EXPECT_FAILURE(PEGA_ERROR_SYMBOL,
                 open_artifact(PEGA_TEST_LOADERS "/loader_0.so", folder, &artifact),
                 "loader_0.so was not loaded", "libtvm_runtime.so needs the symbol");
  assert_false(in_process("libtvm_runtime.so"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_calls),
      cmocka_unit_test(test_loader_missing),
      cmocka_unit_test(test_constructor_throws),
      cmocka_unit_test(test_tilelang),
  };
  int failed = cmocka_run_group_tests_name("artifact", tests, support_open, support_close);
  pega_error_clear(&error);
  return failed;
}
