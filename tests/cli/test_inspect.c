/* SPDX-License-Identifier: Apache-2.0 */
/* `pega inspect`: what it prints, and its exit codes. */
#include "support.h"

/* A library that needs another, the folder that has that one, and a library that ends who loads it. */
static char *small;
static char *folder;
static char *aborts;

static void test_missing(void **state) {
  (void)state;
  size_t size = 0;
  char *copy = read_whole_file(small, &size);
  write_file("copy.so", copy, size);
  free(copy);
  expect(run("inspect", "copy.so"), 1, "libartifact_other.so  NOWHERE", NULL);
  expect(run("inspect", "copy.so"), 1, "of which nobody provides:\n    other, other_plain\n", NULL);
  expect(run("inspect", "copy.so", "--search", folder), 1, "libartifact_other.so  given folder",
         NULL);
  expect(run("inspect", "copy.so", "--search", folder, "--symbols"), 1, "small_second", NULL);
  json_t *object = expect_json(run("inspect", "copy.so", "--json"), 1);
  assert_string_equal(json_text_at(object, "files.0.format"), "shared library");
  assert_string_equal(json_text_at(object, "files.0.libraries.0.name"), "libartifact_other.so");
  assert_true(json_array_size(json_at(object, "files.0.missing")) >= 1);
  assert_int_equal(json_integer_value(json_at(object, "failed")), 1);
  json_decref(object);
}

static void test_aborts(void **state) {
  (void)state;
  expect(run("inspect", aborts), 1, "aborts_function", NULL);
}

/* What a signature file asks for that no file can tell of: no driver is opened to inspect. */
static void test_requires(void **state) {
  (void)state;
  static const char signature[] =
      "{\"schema_version\": 1, \"requires\": {\"cuda_driver\": \"99.5\"}, \"functions\": [{\"name\": "
      "\"f\", \"symbol\": \"aborts_function\", \"params\": [], \"returns\": {\"c\": \"i32\"}}]}";
  size_t size = 0;
  char *copy = read_whole_file(aborts, &size);
  write_file("needs.so", copy, size);
  free(copy);
  write_file("needs.so.json", signature, sizeof signature - 1);
  expect(run("inspect", "needs.so"), 0, "  needs besides: CUDA driver 99.5 (looked for when", NULL);
  json_t *object = expect_json(run("inspect", "needs.so", "--json"), 0);
  assert_string_equal(json_text_at(object, "files.0.requires.0"), "CUDA driver 99.5");
  assert_int_equal(json_array_size(json_at(object, "files.0.missing")), 0);
  json_decref(object);
  expect(run("list", "--artifact", "needs.so"), 1, NULL, "a CUDA driver of version 99.5 or later");
}

/* Of another architecture: nobody looked for its symbols. */
static void test_other_architecture(void **state) {
  (void)state;
  size_t size = 0;
  char *copy = read_whole_file(small, &size);
  copy[18] = copy[18] == 62 ? (char)183 : 62;
  write_file("foreign.so", copy, size);
  free(copy);
  run_result result = run("inspect", "foreign.so", "--symbols");
  assert_null(strstr(result.out, "nobody; may be so"));
  expect(result, 1, "not looked for", NULL);
}

static void test_gpu_code(void **state) {
  (void)state;
  static const char ptx[] = ".version 8.0\n.target sm_90a\n.visible .entry k() { ret; }\n";
  write_file("k.ptx", ptx, sizeof ptx - 1);
  expect(run("inspect", "k.ptx"), 1, "sm_90a  ptx   1       57     1\n", NULL);
}

static void test_refused(void **state) {
  (void)state;
  write_file("broken.so", "\177", 1);
  expect(run("inspect", "broken.so"), 1, NULL, "it is no ELF file");
  expect(run("inspect", "nowhere.so", "broken.so"), 1, "\n", "nowhere.so: No such file");
  json_t *object = expect_json(run("inspect", "nowhere.so", "--json"), 1);
  assert_string_equal(json_text_at(object, "files.0.error.status"), "NOT_FOUND");
  json_decref(object);
  expect(run("inspect"), 2, NULL, "expected `pega inspect");
  expect(run("inspect", "broken.so", "--nonsense"), 2, NULL, "no option");
  expect(run("inspect", "broken.so", "--search"), 2, NULL, "needs a value");
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_missing),  cmocka_unit_test(test_aborts),
      cmocka_unit_test(test_requires), cmocka_unit_test(test_other_architecture),
      cmocka_unit_test(test_gpu_code), cmocka_unit_test(test_refused),
  };
  set_pega_path(argc, argv);
  if (argc != 5) {
    (void)fprintf(stderr, "usage: %s PEGA SMALL FOLDER ABORTS\n", argv[0]);
    return 2;
  }
  small = argv[2];
  folder = argv[3];
  aborts = argv[4];
  enter_folder();
  const int failed = cmocka_run_group_tests_name("cli.inspect", tests, NULL, NULL);
  leave_folder();
  free(pega_path);
  return failed;
}
