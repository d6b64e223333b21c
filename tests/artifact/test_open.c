/* SPDX-License-Identifier: Apache-2.0 */
/* Opening artifacts: arguments, files that are none, functions, the registry, threads. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "../core/support.h"
#include "../pack/build.h"
#include "module_loader.h"

static const char *const kNone[] = {NULL};

static int setup(void **state) {
  (void)state;
  return module_loader_add(NULL, NULL) == PEGA_OK ? 0 : 1;
}

static void test_arguments(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_artifact *artifact = NULL;
  pega_artifact_options options = PEGA_ARTIFACT_OPTIONS_INIT;
  EXPECT_ERROR(pega_artifact_open(NULL, &artifact, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "options is NULL");
  EXPECT_ERROR(pega_artifact_open(&options, NULL, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "out is NULL");
  EXPECT_ERROR(pega_artifact_open(&options, &artifact, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "the path is NULL");
  options.path = "";
  EXPECT_ERROR(pega_artifact_open(&options, &artifact, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "empty");
  options.path = FIXTURES "/no-such-file.so";
  EXPECT_ERROR(pega_artifact_open(&options, &artifact, &error), &error, PEGA_ERROR_NOT_FOUND,
               "no-such-file.so");
  options.path = FIXTURES "/same_a.so";
  options.flags = 1u << 20;
  EXPECT_ERROR(pega_artifact_open(&options, &artifact, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "unknown flags");
  options.flags = 0;
  options.num_search_paths = 1;
  EXPECT_ERROR(pega_artifact_open(&options, &artifact, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "search_paths");
  const char *const folder = FIXTURES "/no-such-folder";
  options.search_paths = &folder;
  EXPECT_ERROR(pega_artifact_open(&options, &artifact, &error), &error, PEGA_ERROR_NOT_FOUND,
               "no-such-folder", "is no folder");
  options.struct_size = 4;
  EXPECT_ERROR(pega_artifact_open(&options, &artifact, &error), &error, PEGA_ERROR_VERSION,
               "struct_size 4");
  assert_null(artifact);
  assert_string_equal(pega_artifact_path(NULL), "");
  pega_artifact_release(pega_artifact_retain(NULL));
  pega_error_clear(&error);
}

/* A shared library that nobody knows how to call. */
static void test_unknown(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_artifact *artifact = NULL;
  EXPECT_ERROR(module_open("../../../lib/libpega.so", kNone, 0, &artifact, &error), &error,
               PEGA_ERROR_FORMAT, "is a shared library of no known format", "it exports",
               "there is no signature file ", "libpega.so.json", "test module",
               "write a signature file");
  pega_error_clear(&error);
}

static void test_functions(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_artifact *artifact = NULL;
  pega_artifact *again = NULL;
  pega_function *function = NULL;
  pega_value names = pega_value_none();
  pega_value result = pega_value_none();
  EXPECT_OK(module_open("same_a.so", kNone, 0, &artifact, &error), &error);
  EXPECT_OK(module_open("same_a.so", kNone, 0, &again, &error), &error);
  assert_string_equal(pega_artifact_format(artifact), "test module");
  EXPECT_TEXT(pega_artifact_path(artifact), "same_a.so");
  EXPECT_OK(pega_artifact_list(artifact, &names, &error), &error);
  assert_int_equal(pega_value_size(&names), 1);
  pega_value_release(&names);
  EXPECT_ERROR(pega_artifact_get(artifact, "nothing", &function, &error), &error,
               PEGA_ERROR_NOT_FOUND, "nothing");
  EXPECT_ERROR(pega_artifact_get(artifact, NULL, &function, &error), &error,
               PEGA_ERROR_INVALID_ARGUMENT, "name is NULL");
  EXPECT_OK(pega_artifact_get(artifact, "value", &function, &error), &error);
  pega_artifact_release(artifact);
  pega_artifact_release(again);
  EXPECT_OK(pega_function_call(function, NULL, 0, &result, &error), &error);
  assert_int_equal(result.as.i64, 1);
  pega_function_release(function);
  pega_error_clear(&error);
}

static int64_t call_registered(const char *name) {
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function = NULL;
  pega_value result = pega_value_none();
  EXPECT_OK(pega_registry_get(name, &function, &error), &error);
  assert_string_equal(pega_function_name(function), name);
  assert_string_equal(pega_function_doc(function), "a function of the tests");
  EXPECT_OK(pega_function_call(function, NULL, 0, &result, &error), &error);
  pega_function_release(function);
  return result.as.i64;
}

/* Two modules that define the same names stand side by side. */
static void test_same_names(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_artifact *a = NULL;
  pega_artifact *b = NULL;
  EXPECT_OK(module_open("same_a.so", kNone, 0, &a, &error), &error);
  EXPECT_OK(module_open("same_b.so", kNone, 0, &b, &error), &error);
  EXPECT_OK(pega_artifact_register(a, "a.", 0, &error), &error);
  EXPECT_OK(pega_artifact_register(b, "b.", 0, &error), &error);
  assert_int_equal(call_registered("a.value"), 1);
  assert_int_equal(call_registered("b.value"), 2);
  EXPECT_OK(pega_artifact_register(a, NULL, 0, &error), &error);
  EXPECT_ERROR(pega_artifact_register(b, NULL, 0, &error), &error, PEGA_ERROR_ALREADY_EXISTS,
               "same_a.so", "same_b.so", "'value'", "prefix");
  assert_int_equal(call_registered("value"), 1);
  EXPECT_OK(pega_artifact_register(b, NULL, PEGA_REGISTER_OVERRIDE, &error), &error);
  assert_int_equal(call_registered("value"), 2);
  EXPECT_ERROR(pega_artifact_register(b, NULL, 8, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "unknown flags");
  EXPECT_OK(pega_registry_remove("value", &error), &error);
  EXPECT_OK(pega_registry_remove("a.value", &error), &error);
  EXPECT_OK(pega_registry_remove("b.value", &error), &error);
  pega_artifact_release(a);
  pega_artifact_release(b);
  pega_error_clear(&error);
}

static pega_artifact *open_at(const char *path, const char *signature) {
  pega_error error = PEGA_ERROR_INIT;
  pega_artifact *artifact = NULL;
  pega_artifact_options options = PEGA_ARTIFACT_OPTIONS_INIT;
  options.path = path;
  options.signature_path = signature;
  options.flags = PEGA_ARTIFACT_ALLOW_PTX;
  EXPECT_OK(pega_artifact_open(&options, &artifact, &error), &error);
  return artifact;
}

/* Packs name who has the name that they want, and are named. */
static void test_names_of_packs(void **state) {
  (void)state;
  static const char text[] =
      "{\"schema_version\": 1, \"functions\": [{\"name\": \"t.map\", \"symbol\": "
      "\"test_module_value\", \"params\": [], \"returns\": \"void\"}]}";
  const char *const folder = build_temporary();
  char paths[3][256];
  pega_error error = PEGA_ERROR_INIT;
  parts made = build_parts();
  bytes file = build_file(&made);
  snprintf(paths[0], sizeof paths[0], "%s/first.pegapack", folder);
  snprintf(paths[1], sizeof paths[1], "%s/second.pegapack", folder);
  snprintf(paths[2], sizeof paths[2], "%s/library.json", folder);
  build_write(paths[0], file.data, file.size);
  build_write(paths[1], file.data, file.size);
  build_write(paths[2], text, sizeof text - 1);
  pega_artifact *first = open_at(paths[0], NULL);
  pega_artifact *second = open_at(paths[1], NULL);
  pega_artifact *library = open_at(FIXTURES "/same_a.so", paths[2]);

  EXPECT_OK(pega_artifact_register(first, NULL, 0, &error), &error);
  EXPECT_ERROR(pega_artifact_register(second, NULL, 0, &error), &error, PEGA_ERROR_ALREADY_EXISTS,
               "/second.pegapack: ", "it is of ", "/first.pegapack");
  EXPECT_ERROR(pega_artifact_register(library, NULL, 0, &error), &error, PEGA_ERROR_ALREADY_EXISTS,
               "same_a.so: ", "'t.map'", "/first.pegapack");
  EXPECT_OK(pega_artifact_register(second, NULL, PEGA_REGISTER_OVERRIDE, &error), &error);
  EXPECT_ERROR(pega_artifact_register(library, NULL, 0, &error), &error, PEGA_ERROR_ALREADY_EXISTS,
               "/second.pegapack");
  EXPECT_OK(pega_registry_remove("t.map", &error), &error);
  EXPECT_OK(pega_registry_remove("t.scale", &error), &error);

  EXPECT_OK(pega_artifact_register(library, NULL, 0, &error), &error);
  EXPECT_ERROR(pega_artifact_register(first, NULL, 0, &error), &error, PEGA_ERROR_ALREADY_EXISTS,
               "/first.pegapack: ", "'t.map'", "it is of ", "same_a.so");
  EXPECT_OK(pega_registry_remove("t.map", &error), &error);
  pega_artifact_release(first);
  pega_artifact_release(second);
  pega_artifact_release(library);
  pega_error_clear(&error);
  bytes_free(&file);
  build_free(&made);
  build_remove(folder);
}

static void *open_many(void *unused) {
  static const char *const folders[] = {FIXTURES "/libraries", NULL};
  static const char *const files[] = {"same_a.so", "chain_a.so", "same_b.so", "lacks_symbol.so"};
  (void)unused;
  for (int i = 0; i < 40; ++i) {
    pega_artifact *artifact = NULL;
    pega_status status = module_open(files[i % 4], folders, 0, &artifact, NULL);
    if (status != (i % 4 == 3 ? PEGA_ERROR_SYMBOL : PEGA_OK)) return "status";
    pega_artifact_release(artifact);
  }
  return NULL;
}

static void test_threads(void **state) {
  (void)state;
  pthread_t threads[6];
  for (int i = 0; i < 6; ++i) {
    assert_int_equal(pthread_create(&threads[i], NULL, open_many, NULL), 0);
  }
  for (int i = 0; i < 6; ++i) {
    void *failed = NULL;
    assert_int_equal(pthread_join(threads[i], &failed), 0);
    assert_null(failed);
  }
}

static void test_loaders(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_OK(module_loader_add(NULL, &error), &error);
  pega_artifact_loader loader;
  memset(&loader, 0, sizeof loader);
  EXPECT_ERROR(pega_artifact_add_loader(NULL, &error), &error, PEGA_ERROR_INVALID_ARGUMENT, "NULL");
  EXPECT_ERROR(pega_artifact_add_loader(&loader, &error), &error, PEGA_ERROR_VERSION,
               "struct_size 0");
  loader.struct_size = (uint32_t)sizeof loader;
  EXPECT_ERROR(pega_artifact_add_loader(&loader, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "name is not set");
  loader.name = "test module";
  EXPECT_ERROR(pega_artifact_add_loader(&loader, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "recognises is not set");
  pega_error_clear(&error);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_arguments),      cmocka_unit_test(test_unknown),
      cmocka_unit_test(test_functions),      cmocka_unit_test(test_same_names),
      cmocka_unit_test(test_names_of_packs), cmocka_unit_test(test_threads),
      cmocka_unit_test(test_loaders),
  };
  return cmocka_run_group_tests(tests, setup, NULL);
}
