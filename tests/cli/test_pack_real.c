/* SPDX-License-Identifier: Apache-2.0 */
/* The packs of a folder, as tools/kernels makes them: each can be verified, shown and explained. */
#include <dirent.h>
#include <unistd.h>

#include "support.h"

static char *folder;

/* Calls `check` for each *.pegapack. Returns how many there are. */
static int each_pack(void (*check)(const char *path)) {
  static const char ending[] = ".pegapack";
  int count = 0;
  DIR *directory = folder == NULL ? NULL : opendir(folder);
  for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;) {
    char path[4096];
    const size_t size = strlen(entry->d_name);
    if (size <= strlen(ending) || strcmp(entry->d_name + size - strlen(ending), ending) != 0)
      continue;
    (void)snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
    if (check != NULL) check(path);
    ++count;
  }
  if (directory != NULL) (void)closedir(directory);
  return count;
}

static void verify(const char *path) { expect(run("verify", path), 0, ": ok, ", NULL); }

static void describe(const char *path) {
  json_t *object = expect_json(run("info", path, "--json"), 0);
  json_t *functions = json_at(object, "functions");
  run_result text = run("info", path, "--params");
  assert_int_equal(text.code, 0);
  assert_true(json_array_size(functions) > 0);
  for (size_t i = 0; i < json_array_size(functions); ++i) {
    json_t *function = json_array_get(functions, i);
    json_t *variants = json_at(function, "variants");
    const char *name = json_text_at(function, "name");
    assert_true(json_array_size(variants) > 0);
    assert_non_null(strstr(text.out, json_text_at(function, "signature")));
    /* Of the first function: every target takes the variant that was made for it. */
    for (size_t j = 0; j < json_array_size(variants) && i == 0; ++j) {
      json_t *variant = json_array_get(variants, j);
      const char *target = json_text_at(variant, "target");
      json_t *explained =
          expect_json(run("explain", name, "-t", target, "-p", path, "--allow-ptx", "--json"), 0);
      json_t *all = json_at(explained, "variants");
      assert_int_equal(json_array_size(all), json_array_size(variants));
      assert_true(json_is_true(json_at(explained, "taken")));
      json_decref(explained);
    }
  }
  expect(run("list", "--pack", path), 0, json_text_at(object, "functions.0.signature"), NULL);
  run_free(&text);
  json_decref(object);
}

static void test_verify(void **state) {
  (void)state;
  (void)each_pack(verify);
}

static void test_describe(void **state) {
  (void)state;
  (void)each_pack(describe);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_verify),
      cmocka_unit_test(test_describe),
  };
  set_pega_path(argc, argv);
  folder = argc > 2 ? realpath(argv[2], NULL) : NULL;
  int failed = 77;
  if (each_pack(NULL) == 0) {
    (void)puts("SKIP: no packs in build/kernels; tools/kernels/build-pack makes them");
  } else {
    enter_folder();
    failed = cmocka_run_group_tests_name("cli.pack_real", tests, NULL, NULL);
    leave_folder();
  }
  free(folder);
  free(pega_path);
  return failed;
}
