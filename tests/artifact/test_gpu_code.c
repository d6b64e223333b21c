/* SPDX-License-Identifier: Apache-2.0 */
/* GPU code in files: cubins, fatbins and PTX that the test writes itself. */
#include "artifact/gpu_code.h"
#include "bytes.h"

static const char kPtx[] =
    "\n// Generated\n.version 8.4\n.target sm_90a, debug\n.address_size 64\n"
    ".visible .entry first(\n.param .u64 p)\n{ ret; }\n.weak .entry second$1()\n{ ret; }\n"
    ".func device() { ret; }\n";

static pega_gpu_codes find(const bytes *in) {
  pega_gpu_codes codes;
  assert_int_equal(pega_gpu_code_find(in->data, in->size, &codes, NULL), PEGA_OK);
  return codes;
}

static void check(const pega_gpu_codes *codes, int index, const char *kind, const char *target,
                  uint64_t offset, const char *entry, const char *other) {
  assert_true(index < codes->count);
  const pega_gpu_code *code = &codes->items[index];
  assert_string_equal(code->kind, kind);
  assert_string_equal(code->target, target);
  assert_int_equal(code->offset, offset);
  assert_int_equal(code->num_entries, (entry != NULL) + (other != NULL));
  if (entry != NULL) assert_string_equal(code->entries, entry);
  if (other != NULL) assert_string_equal(code->entries + strlen(entry) + 1, other);
}

static void test_cubins(void **state) {
  (void)state;
  static const struct {
    int layout;
    uint32_t sm;
    bool accelerated;
    const char *target;
  } cases[] = {{12, 80, false, "sm_80"},
               {12, 90, true, "sm_90a"},
               {13, 90, true, "sm_90a"},
               {13, 90, false, "sm_90"},
               {13, 120, false, "sm_120"}};
  bytes all = {NULL, 0};
  size_t places[5];
  for (int i = 0; i < 5; ++i) {
    bytes_add(&all, NULL, 13); /* anywhere: on no boundary */
    places[i] = all.size;
    bytes_add_cubin(&all, cases[i].layout, cases[i].sm, cases[i].accelerated, "kernel");
  }
  pega_gpu_codes codes = find(&all);
  assert_int_equal(codes.count, 5);
  for (int i = 0; i < 5; ++i) {
    check(&codes, i, "cubin", cases[i].target, places[i], "kernel", "kernel_2");
    assert_false(codes.items[i].in_fatbin);
  }
  assert_int_equal(codes.items[0].size, places[1] - places[0] - 13);
  assert_false(codes.cut_off);
  pega_gpu_codes_free(&codes);
  bytes_free(&all);
}

static void test_ptx(void **state) {
  (void)state;
  bytes all = {NULL, 0};
  bytes_add(&all, "some text, .version 8.4\n.target sm_80\n", 38); /* not at a line's start */
  bytes_add(&all, "\0", 1);
  bytes_add(&all, ".version %d.%d\n.target sm_80\n\0", 30); /* a template */
  const size_t place = all.size;
  bytes_add(&all, kPtx, sizeof kPtx);
  bytes_add(&all, ".version 7.0 /* why */\n\n.target sm_120f\n", 40);
  pega_gpu_codes codes = find(&all);
  assert_int_equal(codes.count, 2);
  check(&codes, 0, "ptx", "sm_90a", place + 14, "first", "second$1");
  assert_int_equal(codes.items[0].size, sizeof kPtx - 15);
  check(&codes, 1, "ptx", "sm_120f", place + sizeof kPtx, NULL, NULL);
  pega_gpu_codes_free(&codes);
  bytes_free(&all);
}

static void make_fatbin(bytes *all, size_t places[5]) {
  bytes cubin = {NULL, 0};
  bytes_add_cubin(&cubin, 13, 100, false, "k");
  const size_t place = bytes_begin_fatbin(all);
  places[0] = all->size + 64;
  bytes_add_fatbin_entry(all, FATBIN_ELF, 100, FATBIN_F, cubin.data, cubin.size);
  places[1] = all->size + 64;
  bytes_add_fatbin_entry(all, FATBIN_PTX, 90, FATBIN_A, kPtx, sizeof kPtx);
  places[2] = all->size + 64;
  bytes_add_fatbin_entry(all, FATBIN_PTX, 80, FATBIN_LZ4, "(not to be read)", 16);
  places[3] = all->size + 64;
  bytes_add_fatbin_entry(all, FATBIN_ELF, 90, FATBIN_ZSTD | FATBIN_A, "[nor is this]", 13);
  places[4] = all->size + 64;
  bytes_add_fatbin_entry(all, FATBIN_OTHER, 90, 0, "for a linker", 12);
  bytes_end_fatbin(all, place);
  bytes_free(&cubin);
}

static void test_fatbins(void **state) {
  (void)state;
  bytes all = {NULL, 0};
  size_t places[5];
  size_t again[5];
  bytes_add(&all, NULL, 24);
  make_fatbin(&all, places);
  bytes_add(&all, "between", 7);
  make_fatbin(&all, again);
  pega_gpu_codes codes = find(&all);
  assert_int_equal(codes.count, 10);
  for (int i = 0; i < 10; i += 5) {
    const size_t *at = i == 0 ? places : again;
    check(&codes, i, "cubin", "sm_100f", at[0], "k", "k_2");
    check(&codes, i + 1, "ptx", "sm_90a", at[1] + 14, "first", "second$1");
    check(&codes, i + 2, "ptx", "sm_80", at[2], NULL, NULL);
    check(&codes, i + 3, "cubin", "sm_90a", at[3], NULL, NULL);
    check(&codes, i + 4, "fatbin", "sm_90", at[4], NULL, NULL);
    for (int k = 0; k < 5; ++k) {
      assert_true(codes.items[i + k].in_fatbin);
      assert_int_equal(codes.items[i + k].compressed, k == 2 || k == 3);
    }
  }
  assert_int_equal(codes.items[3].size, 13);
  pega_gpu_codes_free(&codes);
  bytes_free(&all);
}

static void test_formats(void **state) {
  (void)state;
  bytes cubin = {NULL, 0};
  bytes fatbin = {NULL, 0};
  size_t places[5];
  bytes_add_cubin(&cubin, 13, 90, true, "k");
  make_fatbin(&fatbin, places);
  assert_string_equal(pega_gpu_code_format(cubin.data, cubin.size), "cubin");
  assert_string_equal(pega_gpu_code_format(fatbin.data, fatbin.size), "fatbin");
  assert_string_equal(pega_gpu_code_format((const unsigned char *)kPtx, sizeof kPtx), "PTX");
  cubin.data[18] = 62;
  assert_null(pega_gpu_code_format(cubin.data, cubin.size));
  assert_null(pega_gpu_code_format((const unsigned char *)"// .version", 11));
  assert_null(pega_gpu_code_format(cubin.data, 1));
  assert_null(pega_gpu_code_format(cubin.data, 0));
  bytes_free(&cubin);
  bytes_free(&fatbin);
}

/* Each length, in memory that ends there. */
static void test_cut_off(void **state) {
  (void)state;
  bytes all = {NULL, 0};
  size_t places[5];
  make_fatbin(&all, places);
  bytes_add_cubin(&all, 12, 90, true, "after");
  bytes_add(&all, kPtx, sizeof kPtx - 1);
  for (size_t size = 0; size <= all.size; ++size) {
    unsigned char *part = malloc(size == 0 ? 1 : size);
    assert_non_null(part);
    memcpy(part, all.data, size);
    const bytes cut = {part, size};
    pega_gpu_codes codes = find(&cut);
    assert_true(codes.count <= 7);
    if (size == all.size) assert_int_equal(codes.count, 7);
    (void)pega_gpu_code_format(part, size);
    pega_gpu_codes_free(&codes);
    free(part);
  }
  bytes_free(&all);
}

/* Each byte, broken in three ways. */
static void test_broken(void **state) {
  (void)state;
  static const unsigned char masks[] = {0x01, 0x80, 0xff};
  bytes all = {NULL, 0};
  size_t places[5];
  make_fatbin(&all, places);
  bytes_add_cubin(&all, 13, 90, true, "after");
  for (size_t i = 0; i < all.size; ++i) {
    for (int k = 0; k < 3; ++k) {
      unsigned char *copy = malloc(all.size);
      assert_non_null(copy);
      memcpy(copy, all.data, all.size);
      copy[i] ^= masks[k];
      const bytes broken = {copy, all.size};
      pega_gpu_codes codes = find(&broken);
      for (int32_t n = 0; n < codes.count; ++n) {
        assert_true(codes.items[n].offset + codes.items[n].size <= all.size);
      }
      pega_gpu_codes_free(&codes);
      free(copy);
    }
  }
  bytes_free(&all);
}

/* Headers that each want all that follows looked at: the search gives up, and does not take for ever. */
static void test_hostile(void **state) {
  (void)state;
  enum { SIZE = 8 << 20 };
  bytes cubin = {NULL, 0};
  bytes all = {NULL, 0};
  bytes_add_cubin(&cubin, 13, 90, true, "k");
  bytes_add(&all, NULL, SIZE);
  for (size_t at = 0; at + 64 < SIZE / 2; at += 64) {
    const uint64_t sections = SIZE / 2 - at;
    const uint16_t count = 65535;
    memcpy(all.data + at, cubin.data, 64);
    memcpy(all.data + at + 40, &sections, sizeof sections);
    memcpy(all.data + at + 60, &count, sizeof count);
  }
  /* The last section of all lies outside. */
  for (size_t at = SIZE / 2; at + 64 <= SIZE; at += 64) all.data[at + 4] = at + 128 > SIZE ? 1 : 8;
  const size_t last = SIZE / 2 + (size_t)65534 * 64;
  assert_true(last + 64 <= SIZE);
  all.data[last + 4] = 1;
  memset(all.data + last + 24, 0xff, 16);
  /* What comes after all that is not found, and it is said that there may be something. */
  bytes_add(&all, cubin.data, cubin.size);
  pega_gpu_codes codes = find(&all);
  assert_int_equal(codes.count, 0);
  assert_true(codes.cut_off);
  pega_gpu_codes_free(&codes);
  all.size = SIZE;
  for (size_t at = 0; at + 9 < SIZE; at += 9) memcpy(all.data + at, "\n.version", 9);
  codes = find(&all);
  assert_int_equal(codes.count, 0);
  pega_gpu_codes_free(&codes);
  for (size_t at = 0; at + 16 <= SIZE; at += 4) memcpy(all.data + at, "\x50\xed\x55\xba", 4);
  codes = find(&all);
  assert_int_equal(codes.count, 0);
  pega_gpu_codes_free(&codes);
  bytes_free(&cubin);
  bytes_free(&all);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_cubins),  cmocka_unit_test(test_ptx),
      cmocka_unit_test(test_fatbins), cmocka_unit_test(test_formats),
      cmocka_unit_test(test_cut_off), cmocka_unit_test(test_broken),
      cmocka_unit_test(test_hostile),
  };
  return cmocka_run_group_tests_name("artifact.gpu_code", tests, NULL, NULL);
}
