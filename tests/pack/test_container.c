/* SPDX-License-Identifier: Apache-2.0 */
/* Pack files that are not whole, or more than that: cut at every byte, changed at every bit. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "build.h"

static parts good;
static bytes file;
static file_places places;

static int set_up(void **state) {
  (void)state;
  good = build_parts();
  file = build_file_at(&good, &places);
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
  for (size_t i = 0; i < 8 * file.size; ++i) {
    pega_error error = PEGA_ERROR_INIT;
    file.data[i / 8] ^= (unsigned char)(1 << i % 8);
    pega_status status = try(file.data, file.size, &error);
    file.data[i / 8] ^= (unsigned char)(1 << i % 8);
    if (status == PEGA_OK) fail_msg("bit %zu does not count", i);
    assert_int_equal(error.status, status);
    assert_true(pega_error_message(&error)[0] != '\0');
    pega_error_clear(&error);
  }
}

/* Reads a function's description, and no blob. */
static pega_status describe(pega_pack *pack, const char *name, pega_error *error) {
  pega_value variants = pega_value_none();
  pega_status status = pega_pack_explain(pack, name, "sm_90", &variants, error);
  pega_value_release(&variants);
  return status;
}

/* What is damaged is met when it is needed, and nothing else is affected. */
static void test_damage_is_met_where_it_is(void **state) {
  (void)state;
  static const char *const names[] = {"t.scale", "t.map"};
  assert_int_equal(places.num_functions, 2);
  for (size_t i = 0; i < file.size; ++i) {
    pega_error error = PEGA_ERROR_INIT;
    pega_pack *pack = NULL;
    const char *manifest = NULL;
    file.data[i] ^= 0x10;
    pega_status status = build_open(&file, PEGA_PACK_STATIC, &pack, &error);
    if ((status == PEGA_OK) != (i >= places.manifest)) {
      fail_msg("byte %zu: opened with %s: %s", i, pega_status_name(status),
               pega_error_message(&error));
    }
    for (int k = 0; k < 2 && status == PEGA_OK; ++k) {
      const bool own = i >= places.functions[k] && i < places.functions[k] + places.sizes[k];
      if (own) {
        EXPECT_ERROR(describe(pack, names[k], &error), &error, PEGA_ERROR_FORMAT,
                     "pack in memory: manifest: function '", names[k],
                     "its SHA-256 is not the index's: damaged or changed");
      } else {
        EXPECT_OK(describe(pack, names[k], &error), &error);
      }
    }
    if (status == PEGA_OK) {
      const bool own = i < places.manifest + places.manifest_size;
      status = pega_pack_manifest(pack, &manifest, NULL, &error);
      assert_int_equal(status, own ? PEGA_ERROR_FORMAT : PEGA_OK);
      assert_int_equal(manifest == NULL, own);
    }
    pega_pack_release(pack);
    pega_error_clear(&error);
    file.data[i] ^= 0x10;
  }
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
      {8, 4, 1, PEGA_ERROR_VERSION,
       "container version 1: this library reads version 2; build the pack again"},
      {8, 4, 3, PEGA_ERROR_VERSION,
       "container version 3: this library reads version 2; use a newer"},
      {8, 4, 0, PEGA_ERROR_VERSION, "container version 0"},
      {8, 4, UINT32_MAX, PEGA_ERROR_VERSION, "container version 4294967295"},
      {12, 4, 0, PEGA_ERROR_FORMAT, "its index has not the SHA-256"},
      {12, 4, 1 << 20, PEGA_ERROR_FORMAT, "cut off"},
      {12, 4, (8u << 20) + 1, PEGA_ERROR_RANGE, "an index of 8388609 bytes, at most 8388608"},
      {12, 4, UINT32_MAX, PEGA_ERROR_RANGE, "an index of 4294967295 bytes"},
      {16, 1, 1, PEGA_ERROR_FORMAT, "its index has not the SHA-256 that its header says: damaged"},
  };
  for (int32_t i = 0; i < COUNT(cases); ++i) {
    bytes copy = {NULL, 0};
    bytes_append(&copy, file.data, file.size);
    set_header(&copy, cases[i].at, cases[i].size, cases[i].number);
    expect_error(&copy, cases[i].status, cases[i].text);
    bytes_free(&copy);
  }
}

/* An index whose digest is right says something that cannot be: it is refused when the pack is opened. */
static void test_index(void **state) {
  (void)state;
  const size_t blob = FILE_INDEX_BEGIN, function = blob + 4 * FILE_INDEX_BLOB;
  const size_t names = function + 2 * FILE_INDEX_FUNCTION; /* tests, t.scale, t.map */
  const struct {
    size_t at;
    int size;
    uint64_t number;
    pega_status status;
    const char *text;
  } cases[] = {
      {0, 8, (512u << 20) + 1, PEGA_ERROR_RANGE,
       "its index: bytes of the manifest: 536870913, at most 536870912 are allowed"},
      {0, 8, UINT64_MAX, PEGA_ERROR_RANGE, "bytes of the manifest: 18446744073709551615"},
      {0, 8, 1 << 20, PEGA_ERROR_FORMAT, "and the manifest ends at byte"},
      {0, 8, 100, PEGA_ERROR_FORMAT, "its index: no place for functions"},
      {0, 8, places.manifest_size - 2, PEGA_ERROR_FORMAT, "a function ends past the manifest"},
      {40, 4, 65537, PEGA_ERROR_RANGE, "its index: blobs: 65537, at most 65536"},
      {40, 4, 5, PEGA_ERROR_FORMAT, "its index: "},
      {40, 4, 65536, PEGA_ERROR_FORMAT, "its index: it is too short"},
      {44, 4, 16385, PEGA_ERROR_RANGE, "its index: functions: 16385, at most 16384"},
      {44, 4, 16384, PEGA_ERROR_FORMAT, "its index: it is too short"},
      {48, 4, UINT32_MAX, PEGA_ERROR_FORMAT, "its index: no place for functions"},
      {52, 4, 2, PEGA_ERROR_VERSION, "schema_version 2: this library reads 1; use a newer one"},
      {blob + 32, 8, (1u << 30) + 1, PEGA_ERROR_RANGE, "bytes of a blob: 1073741825"},
      {blob + 32, 8, 1u << 30, PEGA_ERROR_FORMAT, "cut off: it has "},
      {blob + 32, 8, 1, PEGA_ERROR_FORMAT, "nothing may follow the last blob"},
      {blob + 40, 4, 4, PEGA_ERROR_FORMAT, "its index: a blob of no known kind"},
      {function + 32, 4, UINT32_MAX, PEGA_ERROR_FORMAT, "a function ends past the manifest"},
      {names, 1, 0, PEGA_ERROR_FORMAT, "expected names of 1 to 255 bytes"},
      {names + 1, 1, ' ', PEGA_ERROR_FORMAT, "without blanks"},
      {names + 8, 1, 0xff, PEGA_ERROR_FORMAT, "UTF-8"},
      {names + 7, 1, 0, PEGA_ERROR_FORMAT, "nothing may follow the names"},
      {places.index_size - 1, 1, 'x', PEGA_ERROR_FORMAT, "expected names of 1 to 255 bytes"},
  };
  for (int32_t i = 0; i < COUNT(cases); ++i) {
    bytes copy = {NULL, 0};
    bytes_append(&copy, file.data, file.size);
    set_header(&copy, FILE_HEADER + cases[i].at, cases[i].size, cases[i].number);
    file_digest_index(copy.data);
    expect_error(&copy, cases[i].status, cases[i].text);
    bytes_free(&copy);
  }
  bytes copy = {NULL, 0};
  bytes_append(&copy, file.data, file.size);
  /* The second blob is the first once more; nothing of an index's beginning. */
  memcpy(copy.data + FILE_HEADER + blob + FILE_INDEX_BLOB, copy.data + FILE_HEADER + blob, 32);
  file_digest_index(copy.data);
  expect_error(&copy, PEGA_ERROR_FORMAT, "its index: a blob is there twice");
  set_header(&copy, 12, 4, FILE_INDEX_BEGIN - 1);
  file_digest_index(copy.data);
  expect_error(&copy, PEGA_ERROR_FORMAT, "its index: it is too short");
  bytes_free(&copy);
}

static void append_text(bytes *to, const char *text) { bytes_append(to, text, strlen(text)); }

static void append_long(bytes *to, size_t size) {
  char *text = malloc(size);
  assert_non_null(text);
  memset(text, 'x', size);
  bytes_append(to, text, size);
  free(text);
}

static void make_large(const bytes *manifest, bytes *out) {
  file_blob blobs[4];
  for (int i = 0; i < 4; ++i) {
    blobs[i] = (file_blob){good.blobs[i].data, good.blobs[i].size, (unsigned)i};
  }
  blobs[3].kind = FILE_CUBIN;
  out->data = file_make((const char *)manifest->data, manifest->size, blobs, 4, &out->size, NULL);
}

/* A manifest that is read in pieces may be larger than one that is read whole; a piece may not. */
static void test_large_manifest(void **state) {
  (void)state;
  enum { MANY = 540, LONG = 65000 };
  pega_error error = PEGA_ERROR_INIT;
  pega_pack *pack = NULL;
  bytes manifest = {NULL, 0}, large = {NULL, 0};
  const unsigned char *from = file.data + places.manifest;
  const size_t begin = places.functions[0] - places.manifest;
  char *scale = strndup((const char *)from + begin, places.sizes[0]);
  assert_non_null(scale);
  char *name = strstr(scale, "t.scale"), *doc = strstr(scale, "Scales.");
  assert_non_null(name);
  assert_non_null(doc);
  bytes_append(&manifest, from, begin);
  for (int i = 0; i < MANY; ++i) {
    char number[8];
    snprintf(number, sizeof number, "l.f%04d", i);
    memcpy(name, number, 7);
    bytes_append(&manifest, scale, (size_t)(doc - scale));
    append_long(&manifest, LONG);
    append_text(&manifest, doc);
    append_text(&manifest, ",");
  }
  free(scale);
  bytes_append(&manifest, from + begin, places.manifest_size - begin);
  assert_true(manifest.size > 32u << 20);
  make_large(&manifest, &large);
  EXPECT_OK(build_open(&large, PEGA_PACK_STATIC, &pack, &error), &error);
  EXPECT_OK(describe(pack, "l.f0539", &error), &error);
  EXPECT_OK(pega_pack_verify(pack, &error), &error);
  pega_pack_release(pack);
  set_header(&large, FILE_HEADER + FILE_INDEX_BEGIN + 4 * FILE_INDEX_BLOB + 32, 4, (32u << 20) + 1);
  file_digest_index(large.data);
  expect_error(&large, PEGA_ERROR_FORMAT, "or has more than 32 MiB");
  bytes_free(&large);
  bytes_free(&manifest);
}

/* All digests are right, but the index and the manifest do not say the same. */
static void test_index_against_manifest(void **state) {
  (void)state;
  const size_t names =
      FILE_HEADER + FILE_INDEX_BEGIN + 4 * FILE_INDEX_BLOB + 2 * FILE_INDEX_FUNCTION;
  pega_error error = PEGA_ERROR_INIT;
  bytes copy = {NULL, 0};
  pega_pack *pack = NULL;
  /* A function under another name: nobody gets it. */
  bytes_append(&copy, file.data, file.size);
  copy.data[names + sizeof "tests" + 2] = 'x';
  file_digest(copy.data);
  EXPECT_OK(build_open(&copy, 0, &pack, &error), &error);
  EXPECT_ERROR(describe(pack, "t.xcale", &error), &error, PEGA_ERROR_FORMAT,
               "function 't.xcale': expected a function of the name that the index says");
  EXPECT_OK(describe(pack, "t.map", &error), &error);
  pega_pack_release(pack);
  expect_error(&copy, PEGA_ERROR_FORMAT, "expected a function of the name that the index says");
  bytes_free(&copy);
  /* The pack's name, a blob's kind; functions that the index passes over, in front and at the end. */
  for (int i = 0; i < 4; ++i) {
    bytes_append(&copy, file.data, file.size);
    unsigned char *index = copy.data + FILE_HEADER;
    if (i == 0) copy.data[names] = 'T';
    if (i == 1) index[FILE_INDEX_BEGIN + 40] = FILE_FATBIN;
    if (i >= 2) {
      /* One function and one name less; the place of the blobs stays. */
      bytes_free(&copy);
      const char *cut = i == 2 ? "t.scale" : "t.map";
      file_blob blobs[4];
      for (int k = 0; k < 4; ++k) {
        blobs[k] = (file_blob){good.blobs[k].data, good.blobs[k].size, (unsigned)k};
      }
      blobs[3].kind = FILE_CUBIN;
      copy.data =
          file_make_without(good.manifest, strlen(good.manifest), blobs, 4, &copy.size, cut);
      EXPECT_OK(build_open(&copy, 0, &pack, &error), &error);
      EXPECT_ERROR(describe(pack, cut, &error), &error, PEGA_ERROR_NOT_FOUND, "among the 1 of");
      pega_pack_release(pack);
    } else {
      file_digest(copy.data);
    }
    expect_error(&copy, PEGA_ERROR_FORMAT, "manifest: the file's index says something else");
    bytes_free(&copy);
  }
  pega_error_clear(&error);
}

/* What is between two functions is a comma: without it the manifest is no JSON, which no function tells. */
static void test_no_comma(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_pack *pack = NULL;
  bytes copy = {NULL, 0};
  bytes_append(&copy, file.data, file.size);
  assert_int_equal(copy.data[places.functions[1] - 1], ',');
  copy.data[places.functions[1] - 1] = ' ';
  file_digest(copy.data);
  EXPECT_OK(build_open(&copy, 0, &pack, &error), &error);
  EXPECT_OK(describe(pack, "t.map", &error), &error);
  pega_pack_release(pack);
  expect_error(&copy, PEGA_ERROR_FORMAT, "manifest: the file's index says something else");
  bytes_free(&copy);
}

/* Other spellings of the same manifest have no index. */
static void test_spelling(void **state) {
  (void)state;
  static const char *const spelled[][2] = {{"'functions':[", "'functions' : ["},
                                           {"'functions':[", "'functions':[ "},
                                           {"},{'name':'t.map'", "} , {'name':'t.map'"}};
  for (int32_t i = 0; i < COUNT(spelled); ++i) {
    pega_error error = PEGA_ERROR_INIT;
    parts made = build_parts();
    build_replace(&made, spelled[i][0], spelled[i][1]);
    bytes other = build_file(&made);
    assert_int_not_equal(try(other.data, other.size, &error), PEGA_OK);
    pega_error_clear(&error);
    bytes_free(&other);
    build_free(&made);
  }
}

static void test_wrong_digest(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_pack *pack = NULL;
  char name[65];
  bytes copy = {NULL, 0};
  bytes_append(&copy, file.data, file.size);
  const size_t cubin = places.blobs;
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
      cmocka_unit_test(test_cut_at_every_byte),
      cmocka_unit_test(test_every_bit_flipped),
      cmocka_unit_test(test_damage_is_met_where_it_is),
      cmocka_unit_test(test_index),
      cmocka_unit_test(test_index_against_manifest),
      cmocka_unit_test(test_large_manifest),
      cmocka_unit_test(test_no_comma),
      cmocka_unit_test(test_spelling),
      cmocka_unit_test(test_trailing_bytes),
      cmocka_unit_test(test_header),
      cmocka_unit_test(test_wrong_digest),
      cmocka_unit_test(test_huge_memory),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
