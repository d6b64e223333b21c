/* SPDX-License-Identifier: Apache-2.0 */
/* Each allocation of opening and verifying made to fail once: the status says so, nothing leaks. */
#include <stdio.h>
#include <string.h>

#include "../core/allocations.h"
#include "build.h"

enum { kMostAllocations = 10000 };

static bytes file;
static char folder[200];

/* Opens, lists, verifies, makes an image and closes; frees all that it made, the error's content too. */
static pega_status use(const char *path, uint32_t flags, pega_status expected, pega_error *error) {
  pega_pack *pack = NULL;
  pega_value names = pega_value_none();
  pega_status status =
      path != NULL ? build_open_path(path, &pack, error) : build_open(&file, flags, &pack, error);
  if (status != PEGA_OK) return status;
  status = pega_pack_list(pack, &names, error);
  pega_value_release(&names);
  if (status == PEGA_OK) {
    status = pega_pack_verify(pack, error);
    /* A blob that could not be had is had by trying again. */
    if (status == PEGA_ERROR_OUT_OF_MEMORY && pega_pack_verify(pack, NULL) != expected) {
      status = PEGA_ERROR_INTERNAL;
    }
  }
  if (status == PEGA_OK) {
    pega_value image = pega_value_none();
    status = pega_pack_image(pack, NULL, 0, NULL, &image, error);
    pega_value_release(&image);
  }
  pega_pack_release(pack);
  return status;
}

static void fail_each(const char *path, uint32_t flags, pega_status expected, int64_t at_least) {
  for (int64_t n = 1; n < kMostAllocations; ++n) {
    pega_error error = PEGA_ERROR_INIT;
    char text[sizeof error.message];
    allocations_begin(n);
    const pega_status status = use(path, flags, expected, &error);
    memcpy(text, error.message, sizeof text);
    pega_error_clear(&error);
    const allocations got = allocations_end();
    const bool as_expected =
        status == expected || (got.failed && status == PEGA_ERROR_OUT_OF_MEMORY);
    if (!as_expected || got.live != 0) {
      fail_msg("allocation %d failing: %s, %d blocks left: %s", (int)n, pega_status_name(status),
               (int)got.live, text);
    }
    if (status == PEGA_ERROR_OUT_OF_MEMORY) EXPECT_TEXT(text, "no memory");
    if (!got.failed) {
      assert_true(n > at_least);
      return;
    }
  }
  fail_msg("it allocates without end");
}

static int set_up(void **state) {
  (void)state;
  parts made = build_parts();
  /* More than the first piece of memory of each kind holds. */
  bytes list = {NULL, 0};
  bytes_append(&list, "'list':[", 8);
  for (int i = 0; i < 200; ++i) {
    static const char text[] =
        "'................................................................"
        "..................................................................',";
    bytes_append(&list, text, sizeof text - 1);
  }
  build_replace(&made, "'list':[", (const char *)list.data);
  bytes_free(&list);
  file = build_file(&made);
  snprintf(folder, sizeof folder, "%s/pack", build_temporary());
  build_folder(&made, folder);
  build_free(&made);
  /* What the C library and the parsers set up once is not counted. */
  return use(NULL, 0, PEGA_OK, NULL) == PEGA_OK && use(folder, 0, PEGA_OK, NULL) == PEGA_OK ? 0
                                                                                            : -1;
}

static int tear_down(void **state) {
  (void)state;
  bytes_free(&file);
  *strrchr(folder, '/') = '\0';
  build_remove(folder);
  return 0;
}

static void test_memory(void **state) {
  (void)state;
  fail_each(NULL, 0, PEGA_OK, 12);
  fail_each(NULL, PEGA_PACK_STATIC, PEGA_OK, 12);
}

static void test_folder(void **state) {
  (void)state;
  fail_each(folder, 0, PEGA_OK, 12);
}

static void test_failures(void **state) {
  (void)state;
  const size_t last = file.size - 70;
  file.data[last] ^= 1;
  fail_each(NULL, PEGA_PACK_STATIC, PEGA_ERROR_FORMAT, 12);
  file.data[last] ^= 1;
  file.data[file.size - 1] ^= 1;
  fail_each(NULL, PEGA_PACK_STATIC, PEGA_ERROR_FORMAT, 5);
  file.data[file.size - 1] ^= 1;
}

int main(void) {
  if (!allocations_are_counted()) {
    printf("SKIP: a sanitizer or valgrind owns malloc here; without them it is made to fail\n");
    return SUPPORT_SKIP;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_memory),
      cmocka_unit_test(test_folder),
      cmocka_unit_test(test_failures),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
