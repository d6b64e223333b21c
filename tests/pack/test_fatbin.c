/* SPDX-License-Identifier: Apache-2.0 */
/* Blobs that are fatbins: the one cubin or PTX for a variant's target is found and compared; what is damaged,
 * compressed, missing or there twice is refused before a driver sees it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "build.h"
#include "pack/pack.h"

static pega_error error = PEGA_ERROR_INIT;

static void number(bytes *to, uint64_t value, size_t size) { bytes_append(to, &value, size); }

typedef struct entry {
  int kind; /* 1 PTX, 2 a cubin, 8 something else */
  int arch;
  uint64_t flags; /* 0x100000 'a', 0x200000 'f', 0x2000 and 0x8000 compressed */
  const void *code;
  size_t size;
  int options; /* bytes of the header beyond 64 */
} entry;

static void append(bytes *to, const entry *which) {
  const size_t padded = (which->size + 7) / 8 * 8;
  number(to, (uint64_t)which->kind, 2);
  number(to, 0x101, 2);
  number(to, 64 + (uint64_t)which->options, 4);
  number(to, padded, 8);
  number(to, 0, 4);
  number(to, 64, 4);
  number(to, 0x10008, 4);
  number(to, (uint64_t)which->arch, 4);
  number(to, 0, 8);
  number(to, which->flags | 0x11, 8);
  number(to, 0, 8);
  number(to, 0, 8);
  for (int i = 0; i < which->options; ++i) number(to, 0x2a, 1);
  bytes_append(to, which->code, which->size);
  for (size_t i = which->size; i < padded; ++i) number(to, 0, 1);
}

static bytes join(const entry *entries, int count) {
  bytes inner = {NULL, 0}, made = {NULL, 0};
  for (int i = 0; i < count; ++i) append(&inner, &entries[i]);
  number(&made, 0xBA55ED50u, 4);
  number(&made, 1, 2);
  number(&made, 16, 2);
  number(&made, inner.size, 8);
  if (inner.size > 0) bytes_append(&made, inner.data, inner.size);
  bytes_free(&inner);
  return made;
}

/* Verifies a pack whose first blob is this, of kind fatbin. Takes it. `ptx`: its variant wants PTX. */
static pega_status verify(bytes fatbin, bool ptx) {
  parts made = build_parts_with(fatbin);
  build_replace(&made, "'kind':'cubin'", "'kind':'fatbin'");
  if (ptx) build_replace(&made, "'target':'sm_90a',", "'target':'sm_90a','ptx':true,");
  bytes file = build_file(&made);
  pega_pack *pack = NULL;
  EXPECT_OK(build_open(&file, 0, &pack, &error), &error);
  const pega_status status = pega_pack_verify(pack, &error);
  pega_pack_release(pack);
  bytes_free(&file);
  build_free(&made);
  return status;
}

static const char text[] = ".version 9.0\n.target sm_90a\n.visible .entry k() {}\n";

/* A cubin of another architecture and of another suffix beside k's, PTX, something else. */
static bytes good(bytes *k) {
  cubin_spec other = build_spec_k();
  other.sm = 80;
  other.accelerated = false;
  bytes old = build_cubin(&other);
  const cubin_spec spec = build_spec_k();
  *k = build_cubin(&spec);
  const entry entries[] = {{2, 80, 0, old.data, old.size, 0},
                           {2, 90, 0, old.data, old.size, 0},
                           {8, 90, 0x100000, "lto", 3, 56},
                           {2, 90, 0x100000, k->data, k->size, 48},
                           {1, 90, 0x100000, text, sizeof text, 16}};
  bytes made = join(entries, 5);
  bytes_free(&old);
  return made;
}

static void test_good(void **state) {
  (void)state;
  bytes k, fatbin = good(&k);
  EXPECT_OK(verify(fatbin, false), &error);
  bytes_free(&k);
  fatbin = good(&k);
  EXPECT_OK(verify(fatbin, true), &error);
  bytes_free(&k);
}

/* What is given to the driver is the entry, nothing around it. */
static void test_bytes(void **state) {
  (void)state;
  bytes k, fatbin = good(&k);
  parts made = build_parts_with(fatbin);
  build_replace(&made, "'kind':'cubin'", "'kind':'fatbin'");
  bytes file = build_file(&made);
  pega_pack *pack;
  const void *found;
  size_t size;
  EXPECT_OK(build_open(&file, 0, &pack, &error), &error);
  const pega_pack_function *function;
  EXPECT_OK(pega_pack_describe(pack, pega_pack_index(pack, "t.scale"), &function, &error), &error);
  EXPECT_OK(pega_pack_variant_bytes(pack, function, &function->variants[0], &found, &size, &error),
            &error);
  assert_true(size >= k.size && size < k.size + 8);
  assert_memory_equal(found, k.data, k.size);
  pega_pack_release(pack);
  bytes_free(&file);
  bytes_free(&k);
  build_free(&made);
}

static void test_refused(void **state) {
  (void)state;
  const cubin_spec spec = build_spec_k();
  bytes k = build_cubin(&spec);
  entry whole[3] = {{2, 90, 0x100000, k.data, k.size, 0},
                    {2, 80, 0, k.data, k.size, 0},
                    {2, 90, 0x100000, k.data, k.size, 0}};
  const entry none[2] = {{2, 80, 0, k.data, k.size, 0}, {1, 100, 0x200000, text, sizeof text, 0}};
  EXPECT_ERROR(
      verify(join(none, 2), false), &error, PEGA_ERROR_FORMAT,
      "function 't.scale', variant 0 (sm_90a), entry 'k': the fatbin has no cubin for this target, "
      "it has: a cubin for sm_80, PTX for sm_100f; build the pack again");
  EXPECT_ERROR(verify(join(none, 0), true), &error, PEGA_ERROR_FORMAT,
               "has no PTX for this target, it has: none");
  EXPECT_ERROR(verify(join(whole, 3), false), &error, PEGA_ERROR_FORMAT,
               "two entries for the target");
  whole[0].flags |= 0x8000;
  EXPECT_ERROR(
      verify(join(whole, 2), false), &error, PEGA_ERROR_FORMAT,
      "the fatbin's entry is compressed and cannot be checked; build it with --no-compress");
  whole[0].flags = 0x102000;
  EXPECT_ERROR(verify(join(whole, 2), false), &error, PEGA_ERROR_FORMAT, "is compressed");
  /* The header says what the cubin does not. */
  cubin_spec other = spec;
  other.accelerated = false;
  bytes plain = build_cubin(&other);
  const entry lies = {2, 90, 0x100000, plain.data, plain.size, 0};
  EXPECT_ERROR(verify(join(&lies, 1), false), &error, PEGA_ERROR_FORMAT, "targets differ");
  other = spec;
  other.registers = 25;
  bytes more = build_cubin(&other);
  const entry differs = {2, 90, 0x100000, more.data, more.size, 0};
  EXPECT_ERROR(verify(join(&differs, 1), false), &error, PEGA_ERROR_FORMAT,
               "registers differ: manifest 24, cubin 25");
  /* PTX without its NUL, and for another target. */
  char filled[56];
  memset(filled, ' ', sizeof filled);
  memcpy(filled, text, sizeof text - 1);
  entry ptx = {1, 90, 0x100000, filled, sizeof filled, 0};
  EXPECT_ERROR(verify(join(&ptx, 1), true), &error, PEGA_ERROR_FORMAT, "no NUL behind it");
  static const char old[] = ".version 9.0\n.target sm_90\n.visible .entry k() {}\n";
  ptx.code = old;
  ptx.size = sizeof old;
  EXPECT_ERROR(verify(join(&ptx, 1), true), &error, PEGA_ERROR_FORMAT,
               "targets differ: manifest sm_90a, PTX sm_90");
  /* Headers. */
  static const struct {
    size_t at;
    unsigned char to;
    const char *text;
  } damage[] = {{0, 0, "does not begin with a fatbin's header"},
                {4, 2, "its version is not 1"},
                {6, 8, "its header is of an impossible size"},
                {8, 1, "bytes follow its end"},
                {15, 1, "it is cut short"},
                {16 + 4, 8, "the header of an entry is of an impossible size"},
                {16 + 7, 255, "the header of an entry is of an impossible size"},
                {16 + 15, 255, "an entry reaches past its end"},
                {16 + 8, 1, "an entry reaches past its end"}};
  whole[0].flags = 0x100000;
  for (int i = 0; i < COUNT(damage); ++i) {
    bytes fatbin = join(whole, 2);
    fatbin.data[damage[i].at] = damage[i].to;
    EXPECT_ERROR(verify(fatbin, false), &error, PEGA_ERROR_FORMAT,
                 "the fatbin is damaged: ", damage[i].text);
  }
  bytes_free(&plain);
  bytes_free(&more);
  bytes_free(&k);
}

/* Cut after each of its bytes. */
static void test_truncated(void **state) {
  (void)state;
  bytes k, fatbin = good(&k);
  for (size_t size = 0; size < fatbin.size; ++size) {
    bytes part = {NULL, 0};
    if (size > 0) bytes_append(&part, fatbin.data, size);
    EXPECT_ERROR(verify(part, false), &error, PEGA_ERROR_FORMAT, "the fatbin is damaged");
  }
  bytes_free(&fatbin);
  bytes_free(&k);
}

/* Each byte turned into others: refused, or of no account; never anything else. */
static void test_flipped(void **state) {
  (void)state;
  static const unsigned char turns[] = {1, 0x80, 0xff};
  bytes k, fatbin = good(&k);
  int refused = 0;
  for (size_t at = 0; at < fatbin.size; ++at) {
    for (int i = 0; i < COUNT(turns); ++i) {
      bytes turned = {NULL, 0};
      bytes_append(&turned, fatbin.data, fatbin.size);
      turned.data[at] ^= turns[i];
      const pega_status status = verify(turned, (at & 1) != 0);
      if (status != PEGA_OK) {
        assert_int_equal(status, PEGA_ERROR_FORMAT);
        ++refused;
      }
    }
  }
  assert_true(refused > 100);
  bytes_free(&fatbin);
  bytes_free(&k);
}

/* Only a fatbin has a choice between cubins and PTX; a pack has to allow PTX. */
static void test_manifest(void **state) {
  (void)state;
  parts made = build_parts();
  build_replace(&made, "'target':'sm_90a',", "'target':'sm_90a','ptx':true,");
  bytes file = build_file(&made);
  pega_pack *pack;
  const pega_pack_function *function;
  EXPECT_OK(build_open(&file, 0, &pack, &error), &error);
  EXPECT_ERROR(pega_pack_describe(pack, 0, &function, &error), &error, PEGA_ERROR_FORMAT,
               "only a blob of kind fatbin has this");
  pega_pack_release(pack);
  bytes_free(&file);
  build_free(&made);
  made = build_parts();
  build_replace(&made, "'kind':'data'", "'kind':'fatbin'");
  file = build_file(&made);
  EXPECT_OK(build_open(&file, 0, &pack, &error), &error);
  EXPECT_ERROR(pega_pack_describe(pack, 0, &function, &error), &error, PEGA_ERROR_FORMAT,
               "expected data");
  pega_pack_release(pack);
  bytes_free(&file);
  build_free(&made);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_good),    cmocka_unit_test(test_bytes),
      cmocka_unit_test(test_refused), cmocka_unit_test(test_truncated),
      cmocka_unit_test(test_flipped), cmocka_unit_test(test_manifest),
  };
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  pega_error_clear(&error);
  return failed;
}
