/* SPDX-License-Identifier: Apache-2.0 */
/* What PTX says of itself, against the manifest. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "build.h"
#include "pack/ptx.h"

/* On a copy that ends where its allocation does, for sanitizers to see. */
static pega_status check_bytes(const char *text, size_t size, const char *target, const char *entry,
                               pega_error *error) {
  pega_target parsed;
  char *copy = malloc(size == 0 ? 1 : size);
  assert_non_null(copy);
  memcpy(copy, text, size);
  assert_true(pega_target_parse(target, &parsed));
  const pega_status status = pega_ptx_check(copy, size, &parsed, entry, "it", error);
  free(copy);
  return status;
}

#define HEAD ".version 8.0\n.target sm_80\n.address_size 64\n"

static void test_good(void **state) {
  (void)state;
  static const struct {
    const char *text, *target;
  } cases[] = {
      {HEAD ".visible .entry k() { ret; }", "sm_80"},
      {HEAD ".visible .entry k", "sm_80"},
      {HEAD ".weak .entry k(.param .u64 p)\n{ ld.param.u64 %rd1, [p]; ret; }", "sm_80"},
      {HEAD ".visible .entry kk() {}\n.entry other() {} .visible .func k() {}\n"
            ".visible .entry k() {}",
       "sm_80"},
      {"// made by hand\r\n/* .target sm_70 */ .version/**/8.0\n.target sm_90a, debug\n"
       "#define nothing\n.visible /* of */ .entry // k\n k\n(.param .b32 x) {}",
       "sm_90a"},
      {".version 9.3.target sm_103f .visible.entry k{}", "sm_103f"},
      /* Nothing begins in a string. */
      {HEAD ".file 1 \"/home//.entry\\\" /* .target sm_70\"\n.visible .entry k() {}", "sm_80"},
      {HEAD ".file 1 \"no end\n.visible .entry k() {}", "sm_80"},
      {HEAD ".target sm_80\n.visible .entry k() {}", "sm_80"},
      {HEAD ".visible .entry k() {} /* no end", "sm_80"},
      {HEAD ".visible .entry k() {} /", "sm_80"},
  };
  for (int32_t i = 0; i < COUNT(cases); ++i) {
    pega_error error = PEGA_ERROR_INIT;
    EXPECT_OK(check_bytes(cases[i].text, strlen(cases[i].text), cases[i].target, "k", &error),
              &error);
  }
}

#define NO_PTX "it: this is no PTX: it does not begin with .version and a number such as 8.0"

static void test_refused(void **state) {
  (void)state;
  static const struct {
    const char *text, *target, *error;
  } cases[] = {
      {"", "sm_80", NO_PTX},
      {"garbage", "sm_80", NO_PTX},
      {"\x7f\x45LF\x02\xff", "sm_80", NO_PTX},
      {"garbage " HEAD ".visible .entry k() {}", "sm_80", NO_PTX},
      {"// .version 8.0", "sm_80", NO_PTX},
      {"/* " HEAD ".visible .entry k() {}", "sm_80", NO_PTX},
      {".versions 8.0 .target sm_80 .visible .entry k() {}", "sm_80", NO_PTX},
      {".version", "sm_80", NO_PTX},
      {".version 8", "sm_80", NO_PTX},
      {".version 8.", "sm_80", NO_PTX},
      {".version 8.x\n.target sm_80\n.visible .entry k() {}", "sm_80", NO_PTX},
      {".version x.0\n.target sm_80\n.visible .entry k() {}", "sm_80", NO_PTX},
      {".version 8.0", "sm_80", "it: the PTX has no .target"},
      {".version 8.0\n.visible .entry k() {}", "sm_80", "it: the PTX has no .target"},
      {".version 8.0\n// .target sm_80\n.visible .entry k() {}", "sm_80", "has no .target"},
      {".version 8.0 .target", "sm_80", "it: the PTX has no .target"},
      {".version 8.0\n.target sm_120\n.visible .entry k() {}", "sm_80",
       "it: targets differ: manifest sm_80, PTX sm_120; build the pack again"},
      {".version 8.0\n.target sm_80\n.visible .entry k() {}", "sm_86",
       "targets differ: manifest sm_86, PTX sm_80"},
      {".version 8.0\n.target sm_90a\n.visible .entry k() {}", "sm_90",
       "targets differ: manifest sm_90, PTX sm_90a"},
      {".version 8.0\n.target sm_90\n.visible .entry k() {}", "sm_90a",
       "targets differ: manifest sm_90a, PTX sm_90"},
      {".version 8.0\n.target sm_100a\n.visible .entry k() {}", "sm_100f",
       "targets differ: manifest sm_100f, PTX sm_100a"},
      {".version 8.0\n.target 80\n.visible .entry k() {}", "sm_80", "manifest sm_80, PTX 80"},
      {HEAD ".target sm_90\n.visible .entry k() {}", "sm_80", "manifest sm_80, PTX sm_90"},
      {HEAD, "sm_80", "it: the PTX has no visible entry; build the pack again"},
      {HEAD "// .visible .entry k() {}", "sm_80", "it: the PTX has no visible entry"},
      {HEAD "/* .visible .entry k() {} */", "sm_80", "it: the PTX has no visible entry"},
      {HEAD ".pragma \".visible .entry k\";", "sm_80", "it: the PTX has no visible entry"},
      {HEAD ".visible .func k() {}", "sm_80", "it: the PTX has no visible entry"},
      {HEAD ".visible .entry", "sm_80", "it: the PTX has no visible entry"},
      {HEAD ".entry k() {}", "sm_80", "entry of this name is neither .visible nor .weak"},
      {HEAD ".visible .global .u32 k; .entry k() {}", "sm_80", "neither .visible nor .weak"},
      {HEAD ".visible .entry kk() {} .visible .entry k_() {}", "sm_80",
       "it: the PTX has no such entry, it has: kk; build the pack again"},
      {HEAD ".visible .entry k$() {}", "sm_80", "no such entry, it has: k$"},
      {HEAD ".visible .entry K() {}", "sm_80", "no such entry, it has: K"},
  };
  for (int32_t i = 0; i < COUNT(cases); ++i) {
    pega_error error = PEGA_ERROR_INIT;
    EXPECT_ERROR(check_bytes(cases[i].text, strlen(cases[i].text), cases[i].target, "k", &error),
                 &error, PEGA_ERROR_FORMAT, cases[i].error);
    pega_error_clear(&error);
  }
}

/* Cut at each byte it is good or refused, and nothing behind the end is read. */
static void test_cut_at_every_byte(void **state) {
  (void)state;
  static const char text[] =
      "/* a */ // b\n" HEAD ".file 1 \"a\\\"b\"\n.visible .entry k() { ret; } /* c */ // d\n";
  int good = 0;
  for (size_t size = 0; size < sizeof text; ++size) {
    good += check_bytes(text, size, "sm_80", "k", NULL) == PEGA_OK;
  }
  assert_int_equal(good, strlen("() { ret; } /* c */ // d\n") + 1);
}

/* What a scanner that goes back would take hours for. */
static void test_linear(void **state) {
  (void)state;
  static const char *const pieces[] = {
      "/*",       "/", "\"",   "\"\\", ".entry ", ".visible .entry x ",
      ".target ", "*", "//\n", " ",    "a",       "/* */"};
  enum { kSize = 16 << 20 };
  char *text = malloc(kSize);
  assert_non_null(text);
  const clock_t begin = clock();
  for (int32_t i = 0; i < COUNT(pieces); ++i) {
    const size_t size = strlen(pieces[i]);
    memcpy(text, HEAD, sizeof HEAD - 1);
    for (size_t j = sizeof HEAD - 1; j < kSize; ++j) {
      text[j] = pieces[i][(j - sizeof HEAD + 1) % size];
    }
    assert_int_equal(check_bytes(text, kSize, "sm_80", "k", NULL), PEGA_ERROR_FORMAT);
  }
  assert_true((double)(clock() - begin) / CLOCKS_PER_SEC < 60);
  free(text);
}

/* Through a pack: what it says names the file, and the blob is refused by its text alone. */
static void test_in_a_pack(void **state) {
  (void)state;
  static const struct {
    const char *text, *error;
  } cases[] = {
      {"", "this is no PTX"},
      {"garbage", "this is no PTX"},
      {".version 8.0\n.target sm_80\n.visible .entry wrong() { ret; }\n", "it has: wrong"},
      {".version 8.0\n.target sm_120\n.visible .entry k() { ret; }\n",
       "targets differ: manifest sm_80, PTX sm_120"},
  };
  const char *folder = build_temporary();
  char path[128], where[400];
  snprintf(path, sizeof path, "%s/x.pegapack", folder);
  snprintf(where, sizeof where,
           "%s: pack 'tests', function 't.scale', variant 1 (sm_80), entry 'k': ", path);
  for (int32_t i = 0; i < COUNT(cases); ++i) {
    pega_error error = PEGA_ERROR_INIT;
    pega_pack *pack = NULL;
    parts made = build_parts();
    char from[120], to[120];
    snprintf(from, sizeof from, "{'sha256':'%s','size':%zu", made.names[1], made.blobs[1].size);
    bytes_free(&made.blobs[1]);
    bytes_append(&made.blobs[1], cases[i].text, strlen(cases[i].text));
    char old[65];
    memcpy(old, made.names[1], sizeof old);
    build_digest(made.blobs[1].data, made.blobs[1].size, made.names[1]);
    snprintf(to, sizeof to, "{'sha256':'%s','size':%zu", made.names[1], made.blobs[1].size);
    build_replace(&made, from, to);
    build_replace(&made, old, made.names[1]);
    bytes file = build_file(&made);
    build_write(path, file.data, file.size);
    EXPECT_OK(build_open_path(path, &pack, &error), &error);
    EXPECT_ERROR(pega_pack_verify(pack, &error), &error, PEGA_ERROR_FORMAT, where, cases[i].error);
    pega_pack_release(pack);
    pega_error_clear(&error);
    bytes_free(&file);
    build_free(&made);
  }
  build_remove(folder);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_good),
      cmocka_unit_test(test_refused),
      cmocka_unit_test(test_cut_at_every_byte),
      cmocka_unit_test(test_linear),
      cmocka_unit_test(test_in_a_pack),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
