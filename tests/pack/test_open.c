/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a good pack in each form, what it tells of itself, and arguments that are none. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "build.h"

static void expect_good(pega_pack *pack, const parts *from) {
  pega_error error = PEGA_ERROR_INIT;
  pega_value names = pega_value_none();
  size_t size;
  assert_string_equal(pega_pack_name(pack), "tests");
  const char *manifest = NULL, *again = NULL;
  EXPECT_OK(pega_pack_manifest(pack, &manifest, &size, &error), &error);
  assert_string_equal(manifest, from->manifest);
  assert_int_equal(size, strlen(from->manifest));
  EXPECT_OK(pega_pack_manifest(pack, &again, NULL, &error), &error);
  assert_ptr_equal(again, manifest);
  EXPECT_OK(pega_pack_list(pack, &names, &error), &error);
  assert_int_equal(pega_value_size(&names), 2);
  assert_string_equal(pega_value_as_string(pega_array_get(&names, 0), &size), "t.map");
  assert_string_equal(pega_value_as_string(pega_array_get(&names, 1), &size), "t.scale");
  pega_value_release(&names);
  EXPECT_OK(pega_pack_verify(pack, &error), &error);
  /* Again, from what is kept. */
  EXPECT_OK(pega_pack_verify(pack, &error), &error);
}

static void test_memory(void **state) {
  (void)state;
  static const uint32_t flags[] = {0, PEGA_PACK_STATIC, PEGA_PACK_ALLOW_PTX | PEGA_PACK_STATIC};
  parts made = build_parts();
  bytes file = build_file(&made);
  for (size_t i = 0; i < 3; ++i) {
    pega_error error = PEGA_ERROR_INIT;
    pega_pack *pack = NULL;
    bytes copy = {NULL, 0};
    bytes_append(&copy, file.data, file.size);
    EXPECT_OK(build_open(&copy, flags[i], &pack, &error), &error);
    /* Copied unless it is static. */
    if (flags[i] == 0) bytes_free(&copy);
    expect_good(pack, &made);
    assert_ptr_equal(pega_pack_retain(pack), pack);
    pega_pack_release(pack);
    expect_good(pack, &made);
    pega_pack_release(pack);
    bytes_free(&copy);
  }
  bytes_free(&file);
  build_free(&made);
}

/* Bytes that are used in place need no alignment. */
static void test_unaligned_memory(void **state) {
  (void)state;
  parts made = build_parts();
  bytes file = build_file(&made);
  for (size_t shift = 1; shift < 8; ++shift) {
    pega_error error = PEGA_ERROR_INIT;
    pega_pack *pack = NULL;
    bytes moved = {NULL, 0};
    bytes_append(&moved, "0123456", shift);
    bytes_append(&moved, file.data, file.size);
    pega_pack_options options = PEGA_PACK_OPTIONS_INIT;
    options.data = moved.data + shift;
    options.size = file.size;
    options.flags = PEGA_PACK_STATIC;
    EXPECT_OK(pega_pack_open(&options, &pack, &error), &error);
    expect_good(pack, &made);
    pega_pack_release(pack);
    bytes_free(&moved);
  }
  bytes_free(&file);
  build_free(&made);
}

static void test_file_and_folder(void **state) {
  (void)state;
  const char *folder = build_temporary();
  char path[128], link[128];
  parts made = build_parts();
  bytes file = build_file(&made);
  for (int form = 0; form < 2; ++form) {
    pega_error error = PEGA_ERROR_INIT;
    pega_pack *pack = NULL;
    snprintf(path, sizeof path, "%s/%s", folder, form == 0 ? "x.pegapack" : "x");
    snprintf(link, sizeof link, "%s/link%d", folder, form);
    if (form == 0) {
      build_write(path, file.data, file.size);
    } else {
      build_folder(&made, path);
    }
    EXPECT_OK(build_open_path(path, &pack, &error), &error);
    expect_good(pack, &made);
    pega_pack_release(pack);
    /* The pack's own name may be a link: it is the caller's choice. */
    assert_int_equal(symlink(path, link), 0);
    EXPECT_OK(build_open_path(link, &pack, &error), &error);
    expect_good(pack, &made);
    pega_pack_release(pack);
  }
  build_remove(folder);
  bytes_free(&file);
  build_free(&made);
}

/* A manifest of each size modulo 64: with and without padding. */
static void test_padding(void **state) {
  (void)state;
  parts made = build_parts();
  for (int i = 0; i < 64; ++i) {
    pega_error error = PEGA_ERROR_INIT;
    pega_pack *pack = NULL;
    bytes file = build_file(&made);
    EXPECT_OK(build_open(&file, 0, &pack, &error), &error);
    expect_good(pack, &made);
    pega_pack_release(pack);
    bytes_free(&file);
    build_replace(&made, "a pack of tests", "a pack of tests.");
  }
  build_free(&made);
}

static void test_empty_pack(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_pack *pack = NULL;
  pega_value names = pega_value_none();
  static const char manifest[] =
      "{\"schema_version\":1,\"name\":\"e\",\"blobs\":[],\"functions\":[]}";
  bytes file = {NULL, 0};
  file.data = file_make(manifest, sizeof manifest - 1, NULL, 0, &file.size, NULL);
  EXPECT_OK(build_open(&file, 0, &pack, &error), &error);
  EXPECT_OK(pega_pack_verify(pack, &error), &error);
  EXPECT_OK(pega_pack_list(pack, &names, &error), &error);
  assert_int_equal(pega_value_size(&names), 0);
  pega_value_release(&names);
  pega_pack_release(pack);
  bytes_free(&file);
}

static void test_bad_arguments(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_pack *pack = (pega_pack *)(void *)&error;
  pega_pack_options options = PEGA_PACK_OPTIONS_INIT;
  EXPECT_ERROR(pega_pack_open(NULL, &pack, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "options is NULL");
  EXPECT_ERROR(pega_pack_open(&options, NULL, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "out is NULL");
  EXPECT_ERROR(pega_pack_open(&options, &pack, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "none of options.path and options.data is set");
  options.path = "x";
  options.data = "y";
  EXPECT_ERROR(pega_pack_open(&options, &pack, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "each of options.path and options.data is set");
  options.data = NULL;
  options.size = 1;
  EXPECT_ERROR(pega_pack_open(&options, &pack, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "options.size is for data");
  options.size = 0;
  options.flags = PEGA_PACK_STATIC;
  EXPECT_ERROR(pega_pack_open(&options, &pack, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "PEGA_PACK_STATIC is for data");
  options.flags = 4;
  EXPECT_ERROR(pega_pack_open(&options, &pack, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "unknown flags 0x4");
  options.flags = 0;
  options.path = "";
  EXPECT_ERROR(pega_pack_open(&options, &pack, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "options.path is empty");
  options.path = "/nonexistent/pack";
  EXPECT_ERROR(pega_pack_open(&options, &pack, &error), &error, PEGA_ERROR_NOT_FOUND,
               "/nonexistent/pack: No such file or directory");
  assert_int_equal(error.code, 2);
  options.struct_size = 8;
  EXPECT_ERROR(pega_pack_open(&options, &pack, &error), &error, PEGA_ERROR_VERSION, "struct_size 8",
               "PEGA_PACK_OPTIONS_INIT");
  assert_ptr_equal(pack, &error);
  assert_int_equal(pega_pack_open(&options, &pack, NULL), PEGA_ERROR_VERSION);
  pega_value value = pega_value_none();
  EXPECT_ERROR(pega_pack_list(NULL, &value, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "pack is NULL");
  EXPECT_ERROR(pega_pack_verify(NULL, &error), &error, PEGA_ERROR_INVALID_ARGUMENT, "pack is NULL");
  size_t size;
  const char *manifest;
  EXPECT_ERROR(pega_pack_manifest(NULL, &manifest, &size, &error), &error,
               PEGA_ERROR_INVALID_ARGUMENT, "pack is NULL");
  assert_string_equal(pega_pack_name(NULL), "");
  /* None, or one that opens: it depends on how the library was built. */
  size = 1;
  const void *embedded = pega_pack_embedded(&size);
  assert_ptr_equal(pega_pack_embedded(NULL), embedded);
  assert_int_equal(embedded == NULL, size == 0);
  if (embedded != NULL) {
    pega_pack_options own = PEGA_PACK_OPTIONS_INIT;
    pega_pack *carried;
    own.flags = PEGA_PACK_STATIC;
    own.data = embedded;
    own.size = size;
    assert_int_equal(pega_pack_open(&own, &carried, &error), PEGA_OK);
    EXPECT_ERROR(pega_pack_manifest(carried, NULL, NULL, &error), &error,
                 PEGA_ERROR_INVALID_ARGUMENT, "out is NULL");
    pega_pack_release(carried);
  }
  assert_null(pega_pack_retain(NULL));
  pega_pack_release(NULL);
  pega_error_clear(&error);
}

/* Run with the word "list", the program prints the functions that test_bad_arguments() covers; the
 * test core.bad_input_covers_all compares that with what the library exports. */
static void list_covered(void) {
  printf(
      "pega_pack_embedded\npega_pack_list\npega_pack_manifest\npega_pack_name\npega_pack_open\n"
      "pega_pack_release\npega_pack_retain\npega_pack_verify\n");
}

int main(int argc, char **argv) {
  if (argc == 2 && strcmp(argv[1], "list") == 0) {
    list_covered();
    return 0;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_memory),          cmocka_unit_test(test_unaligned_memory),
      cmocka_unit_test(test_file_and_folder), cmocka_unit_test(test_padding),
      cmocka_unit_test(test_empty_pack),      cmocka_unit_test(test_bad_arguments),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
