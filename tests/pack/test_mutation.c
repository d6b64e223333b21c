/* SPDX-License-Identifier: Apache-2.0 */
/* Packs changed at random, many times: refused with a text, or good; never anything else.
 * PEGA_TEST_SEED repeats a run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "build.h"

static unsigned seed;

static size_t below(size_t count) { return (size_t)rand_r(&seed) % count; }

static void try(const bytes *file) {
  pega_error error = PEGA_ERROR_INIT;
  pega_pack *pack = NULL;
  unsigned char *copy = malloc(file->size + 1);
  assert_non_null(copy);
  memcpy(copy, file->data, file->size);
  pega_pack_options options = PEGA_PACK_OPTIONS_INIT;
  options.data = copy;
  options.size = file->size;
  options.flags = PEGA_PACK_STATIC;
  pega_status status = pega_pack_open(&options, &pack, &error);
  if (status == PEGA_OK) status = pega_pack_verify(pack, &error);
  if (status != PEGA_OK) {
    assert_int_equal(error.status, status);
    assert_true(status == PEGA_ERROR_FORMAT || status == PEGA_ERROR_RANGE ||
                status == PEGA_ERROR_VERSION);
    assert_true(pega_error_message(&error)[0] != '\0');
  }
  pega_pack_release(pack);
  pega_error_clear(&error);
  free(copy);
}

/* Changes a piece of text: what a person or a program gone wrong would do to JSON. */
static void change_text(bytes *text) {
  static const char *const words[] = {"{",
                                      "}",
                                      "[",
                                      "]",
                                      ",",
                                      ":",
                                      "\"",
                                      "null",
                                      "true",
                                      "-1",
                                      "0",
                                      "1e308",
                                      "\\u0000",
                                      "\\",
                                      "{}",
                                      "[]",
                                      "\"\"",
                                      "64",
                                      "99999999999999999999",
                                      "0.5"};
  const size_t at = below(text->size);
  bytes made = {NULL, 0};
  switch (below(4)) {
    case 0: { /* cut a piece out */
      const size_t size = 1 + below(40);
      bytes_append(&made, text->data, at);
      if (at + size < text->size) {
        bytes_append(&made, text->data + at + size, text->size - at - size);
      }
      break;
    }
    case 1: { /* repeat a piece elsewhere */
      const size_t from = below(text->size);
      size_t size = 1 + below(200);
      if (size > text->size - from) size = text->size - from;
      bytes_append(&made, text->data, at);
      bytes_append(&made, text->data + from, size);
      bytes_append(&made, text->data + at, text->size - at);
      break;
    }
    case 2: { /* put a word in place of one */
      const char *word = words[below(COUNT(words))];
      size_t end = at;
      while (end < text->size && strchr(",:]}", text->data[end]) == NULL) ++end;
      bytes_append(&made, text->data, at);
      bytes_append(&made, word, strlen(word));
      bytes_append(&made, text->data + end, text->size - end);
      break;
    }
    default:
      bytes_append(&made, text->data, text->size);
      made.data[at] = (unsigned char)rand_r(&seed);
      break;
  }
  bytes_free(text);
  *text = made;
}

static void test_manifests(void **state) {
  (void)state;
  for (int i = 0; i < 12000; ++i) {
    parts made = build_parts();
    bytes text = {(unsigned char *)made.manifest, strlen(made.manifest)};
    const size_t count = 1 + below(3);
    for (size_t j = 0; j < count && text.size > 0; ++j) change_text(&text);
    /* build_file() takes the size from the text, which may have a NUL now. */
    made.manifest = (char *)text.data;
    if (text.data == NULL) made.manifest = strdup("");
    bytes file = build_file(&made);
    try(&file);
    bytes_free(&file);
    build_free(&made);
  }
}

/* Numbers that are sizes, offsets and counts, replaced by extreme ones. */
static void test_numbers(void **state) {
  (void)state;
  static const char *const extremes[] = {"0",
                                         "-1",
                                         "1",
                                         "255",
                                         "256",
                                         "4095",
                                         "4096",
                                         "65535",
                                         "65536",
                                         "2147483647",
                                         "2147483648",
                                         "4294967295",
                                         "4294967296",
                                         "9223372036854775807",
                                         "-9223372036854775808"};
  const parts good = build_parts();
  for (const char *at = good.manifest; *at != '\0'; ++at) {
    if ((*at < '0' || *at > '9') || (at[-1] != ':' && at[-1] != ',' && at[-1] != '[')) continue;
    const size_t size = strspn(at, "0123456789");
    for (int32_t i = 0; i < COUNT(extremes); ++i) {
      parts made = build_parts();
      bytes text = {NULL, 0};
      bytes_append(&text, good.manifest, (size_t)(at - good.manifest));
      bytes_append(&text, extremes[i], strlen(extremes[i]));
      bytes_append(&text, at + size, strlen(at + size));
      free(made.manifest);
      made.manifest = (char *)text.data;
      bytes file = build_file(&made);
      try(&file);
      bytes_free(&file);
      build_free(&made);
    }
  }
  parts unused = good;
  build_free(&unused);
}

/* Cubins changed at random, in packs whose digests are right again. */
static void test_cubins(void **state) {
  (void)state;
  for (int i = 0; i < 3000; ++i) {
    const cubin_spec spec = build_spec_k();
    bytes cubin = build_cubin(&spec);
    const size_t count = 1 + below(5);
    for (size_t j = 0; j < count; ++j) cubin.data[below(cubin.size)] = (unsigned char)rand_r(&seed);
    parts made = build_parts_with(cubin);
    bytes file = build_file(&made);
    try(&file);
    bytes_free(&file);
    build_free(&made);
  }
}

/* Indexes changed at random whose digest is right again. */
static void test_indexes(void **state) {
  (void)state;
  const parts made = build_parts();
  file_places places;
  const bytes good = build_file_at(&made, &places);
  for (int i = 0; i < 20000; ++i) {
    bytes file = {NULL, 0};
    bytes_append(&file, good.data, good.size);
    const size_t count = 1 + below(3);
    for (size_t j = 0; j < count; ++j) {
      unsigned char *at = &file.data[FILE_HEADER + below(places.index_size)];
      *at = (unsigned char)(below(2) == 0 ? rand_r(&seed) : *at + (below(2) == 0 ? 1 : -1));
    }
    file_digest_index(file.data);
    try(&file);
    bytes_free(&file);
  }
  parts unused = made;
  bytes gone = good;
  bytes_free(&gone);
  build_free(&unused);
}

int main(void) {
  const char *given = getenv("PEGA_TEST_SEED");
  seed = given == NULL ? 20240603u : (unsigned)strtoul(given, NULL, 10);
  print_message("PEGA_TEST_SEED=%u\n", seed);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_manifests),
      cmocka_unit_test(test_numbers),
      cmocka_unit_test(test_indexes),
      cmocka_unit_test(test_cubins),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
