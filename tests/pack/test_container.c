/* SPDX-License-Identifier: Apache-2.0 */
/* Pack files that are not whole, or more than that: cut at every byte, changed at every bit. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "build.h"

static parts good;
static bytes file;

static int set_up(void **state) {
  (void)state;
  good = build_parts();
  file = build_file(&good);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  bytes_free(&file);
  build_free(&good);
  return 0;
}

/* Opens and verifies a copy that ends where its allocation does, for sanitizers to see. */
static pega_status try(const unsigned char *data, size_t size, pega_error *error) {
  unsigned char *copy = malloc(size == 0 ? 1 : size);
  assert_non_null(copy);
  memcpy(copy, data, size);
  pega_pack_options options = PEGA_PACK_OPTIONS_INIT;
  options.data = copy;
  options.size = size;
  options.flags = PEGA_PACK_STATIC;
  pega_pack *pack = NULL;
  pega_status status = pega_pack_open(&options, &pack, error);
  if (status == PEGA_OK) status = pega_pack_verify(pack, error);
  pega_pack_release(pack);
  free(copy);
  return status;
}

static void test_cut_at_every_byte(void **state) {
  (void)state;
  for (size_t size = 0; size < file.size; ++size) {
    pega_error error = PEGA_ERROR_INIT;
    pega_status status = try(file.data, size, &error);
    if (status != PEGA_ERROR_FORMAT) {
      fail_msg("%zu of %zu bytes: %s", size, file.size, pega_status_name(status));
    }
    EXPECT_TEXT(pega_error_message(&error), size < 8 ? "does not begin with PEGAPACK" : "cut off");
    pega_error_clear(&error);
  }
}

static void test_every_bit_flipped(void **state) {
  (void)state;
  int good_ones = 0;
  for (size_t i = 0; i < 8 * file.size; ++i) {
    pega_error error = PEGA_ERROR_INIT;
    file.data[i / 8] ^= (unsigned char)(1 << i % 8);
    pega_status status = try(file.data, file.size, &error);
    file.data[i / 8] ^= (unsigned char)(1 << i % 8);
    /* Another doc is as good; nothing but the manifest may differ. */
    if (status == PEGA_OK) {
      ++good_ones;
      if (i / 8 < 24 || i / 8 >= 24 + strlen(good.manifest)) fail_msg("bit %zu does not count", i);
    } else {
      assert_true(pega_error_message(&error)[0] != '\0');
    }
    pega_error_clear(&error);
  }
  assert_true(good_ones > 0);
}

static void expect_error(const bytes *changed, pega_status status, const char *text) {
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_ERROR(try(changed->data, changed->size, &error), &error, status, text, "pack in memory: ");
  pega_error_clear(&error);
}

static void test_trailing_bytes(void **state) {
  (void)state;
  bytes copy = {NULL, 0};
  bytes_append(&copy, file.data, file.size);
  bytes_append(&copy, "", 1);
  expect_error(&copy, PEGA_ERROR_FORMAT, "nothing may follow the last blob");
  bytes_pad(&copy, 64);
  expect_error(&copy, PEGA_ERROR_FORMAT, "nothing may follow the last blob");
  bytes_free(&copy);
}

static void set_header(bytes *copy, size_t at, int size, uint64_t number) {
  for (int i = 0; i < size; ++i) copy->data[at + (size_t)i] = (unsigned char)(number >> 8 * i);
}

static void test_header(void **state) {
  (void)state;
  static const struct {
    size_t at;
    int size;
    uint64_t number;
    pega_status status;
    const char *text;
  } cases[] = {
      {0, 1, 'p', PEGA_ERROR_FORMAT, "does not begin with PEGAPACK"},
      {8, 4, 2, PEGA_ERROR_VERSION, "container version 2: this library reads version 1"},
      {8, 4, 0, PEGA_ERROR_VERSION, "container version 0"},
      {8, 4, UINT32_MAX, PEGA_ERROR_VERSION, "container version 4294967295"},
      {12, 4, 1, PEGA_ERROR_FORMAT, "bytes 12 to 15 of the header: expected 0, got 1"},
      {16, 8, 0, PEGA_ERROR_FORMAT, "no JSON"},
      {16, 8, 1 << 20, PEGA_ERROR_FORMAT, "cut off"},
      {16, 8, (32u << 20) + 1, PEGA_ERROR_RANGE, "a manifest of 33554433 bytes, at most 33554432"},
      {16, 8, UINT64_MAX, PEGA_ERROR_RANGE, "a manifest of 18446744073709551615 bytes"},
      {16, 8, UINT64_MAX - 23, PEGA_ERROR_RANGE, "at most 33554432"},
  };
  for (int32_t i = 0; i < COUNT(cases); ++i) {
    bytes copy = {NULL, 0};
    bytes_append(&copy, file.data, file.size);
    set_header(&copy, cases[i].at, cases[i].size, cases[i].number);
    expect_error(&copy, cases[i].status, cases[i].text);
    bytes_free(&copy);
  }
}

static void test_wrong_digest(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_pack *pack = NULL;
  char name[65];
  bytes copy = {NULL, 0};
  bytes_append(&copy, file.data, file.size);
  const size_t cubin = (24 + strlen(good.manifest) + 63) / 64 * 64;
  copy.data[cubin + 100] ^= 1;
  EXPECT_OK(build_open(&copy, 0, &pack, &error), &error);
  build_digest(copy.data + cubin, good.blobs[0].size, name);
  EXPECT_ERROR(pega_pack_verify(pack, &error), &error, PEGA_ERROR_FORMAT, good.names[0],
               "its SHA-256 is ", name, "copy or build the pack again");
  /* It stays wrong. */
  assert_int_equal(pega_pack_verify(pack, NULL), PEGA_ERROR_FORMAT);
  pega_pack_release(pack);
  pega_error_clear(&error);
  bytes_free(&copy);
}

/* A size that the machine could not give is refused by its number alone. */
static void test_huge_memory(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_pack *pack = NULL;
  pega_pack_options options = PEGA_PACK_OPTIONS_INIT;
  options.data = file.data;
  options.size = SIZE_MAX;
  EXPECT_ERROR(pega_pack_open(&options, &pack, &error), &error, PEGA_ERROR_RANGE,
               "at most 4294967296 are allowed");
  pega_error_clear(&error);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_cut_at_every_byte), cmocka_unit_test(test_every_bit_flipped),
      cmocka_unit_test(test_trailing_bytes),    cmocka_unit_test(test_header),
      cmocka_unit_test(test_wrong_digest),      cmocka_unit_test(test_huge_memory),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
