/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel packs on a machine with no GPU: verify, info, list, explain, and what call refuses. */
#include <pega/pack.h>
#include <unistd.h>

#include "pack_file.h"

static const pack_text small = {"A pack of tests.", PACK_KEEP "," PACK_TENSOR};

static void test_verify(void **state) {
  (void)state;
  expect(run("verify", "small.pegapack"), 0,
         "small.pegapack: ok, small: 2 functions, 3 variants, 1 golden case, 3 blobs of ", NULL);
  expect(run("verify", "small.pegapack", "folder"), 0, "\nfolder: ok, small: 2 functions", NULL);
  json_t *object = expect_json(run("verify", "--json", "small.pegapack", "folder"), 0);
  assert_int_equal(json_integer_value(json_at(object, "failed")), 0);
  assert_string_equal(json_text_at(object, "packs.1.path"), "folder");
  assert_string_equal(json_text_at(object, "packs.1.name"), "small");
  assert_true(json_is_true(json_at(object, "packs.0.ok")));
  assert_int_equal(json_integer_value(json_at(object, "packs.0.functions")), 2);
  assert_int_equal(json_integer_value(json_at(object, "packs.0.variants")), 3);
  assert_int_equal(json_integer_value(json_at(object, "packs.0.golden")), 1);
  assert_int_equal(json_integer_value(json_at(object, "packs.0.blobs")), 3);
  json_decref(object);
}

static void test_verify_fails(void **state) {
  (void)state;
  /* The others are checked all the same. */
  run_result result = run("verify", "none", "small.pegapack", "damaged.pegapack");
  assert_non_null(strstr(result.out, "small.pegapack: ok"));
  assert_null(strstr(result.out, "damaged"));
  assert_non_null(strstr(result.err, "pega: none: No such file"));
  assert_non_null(strstr(result.err, "pega: 2 of 3 packs failed\n"));
  expect(result, 1, "ok", "damaged.pegapack: blob ");
  expect(run("verify", "damaged.pegapack"), 1, NULL, "its SHA-256 is ");
  expect(run("verify", "stdout.txt"), 1, NULL, "stdout.txt");
  expect(run("info", "nul.pegapack"), 0, "t.nul() -> None\n", NULL);
  expect(run("verify", "nul.pegapack"), 1, NULL,
         "pega: nul.pegapack: pack 'small', function 't.nul'");
  json_t *object = expect_json(run("verify", "--json", "damaged.pegapack", "small.pegapack"), 1);
  assert_int_equal(json_integer_value(json_at(object, "failed")), 1);
  assert_true(json_is_false(json_at(object, "packs.0.ok")));
  assert_string_equal(json_text_at(object, "packs.0.error.status"), "FORMAT");
  assert_true(json_is_true(json_at(object, "packs.1.ok")));
  json_decref(object);
}

static void test_info(void **state) {
  (void)state;
  static const char *const parts[] = {
      "small (small.pegapack)\n  A pack of tests.\n  2 functions, 3 variants, 1 golden case, 3 blobs",
      "\nt.keep(x: out pointer, n: int[0..1000], s: stream) -> None\n  Keeps x.\n",
      "    x: pointer, nonnull, output, aligned to 16 bytes\n        four ones\n"
      "        points at: float32, [n], row-major\n",
      "    n: int, 0 to 1000\n        domain: a few\n",
      "    variant  target  entry  kind  block   cluster  shared  static shared  registers  local "
      "bytes  launch  scratch  made by\n"
      "    0        sm_80   keep   ptx   64x1x1  1x1x1    1024    16             24         8      "
      "      plain   0        hand 1, none 2\n",
      "  golden cases: \"stays\"\n",
      "32x1x1  2x1x1    0       0              16         0            PDL, cooperative  256      -\n",
      "  no golden cases\n",
  };
  for (size_t i = 0; i < sizeof parts / sizeof *parts; ++i) {
    expect(run("info", "small.pegapack"), 0, parts[i], NULL);
  }
  expect(run("info", "folder"), 0, "small (folder)\n", NULL);
  run_result result = run("info", "./folder", "t.keep");
  assert_null(strstr(result.out, "t.tensor"));
  assert_null(strstr(result.out, "grid"));
  expect(result, 0, "  golden cases: \"stays\"\n", NULL);
  expect(run("info", "t.keep", "--pack", "folder"), 0, "  golden cases: \"stays\"\n", NULL);
  expect(run("info", "t.keep", "-p", "folder", "--params"), 0,
         "    variant 1, sm_90:\n      grid: cdiv(n, 64), 1, 1\n      when: n > 1\n"
         "      made by: hand 1, none 2, from keep.py, num_warps=2, fast=true\n"
         "      offset  size  type     parameter  role      value\n"
         "      0       8     pointer  px         argument  x\n"
         "      8       4     i32      pn         argument  n\n",
         NULL);
}

static void test_info_json(void **state) {
  (void)state;
  json_t *object = expect_json(run("info", "small.pegapack", "--json"), 0);
  assert_string_equal(json_text_at(object, "name"), "small");
  assert_string_equal(json_text_at(object, "path"), "small.pegapack");
  assert_int_equal(json_integer_value(json_at(object, "schema_version")), 1);
  assert_int_equal(json_array_size(json_at(object, "blobs")), 3);
  json_t *keep = json_at(object, "functions.0");
  assert_string_equal(json_text_at(keep, "from"), "pack");
  assert_string_equal(json_text_at(keep, "signature"),
                      "t.keep(x: out pointer, n: int[0..1000], s: stream) -> None");
  assert_string_equal(json_text_at(keep, "params.0.pointee.shape"), "n");
  assert_true(json_is_null(json_at(keep, "params.1.pointee")));
  assert_string_equal(json_text_at(keep, "variants.1.when.0"), "n > 1");
  assert_int_equal(json_array_size(json_at(keep, "variants.0.when")), 0);
  assert_string_equal(json_text_at(keep, "variants.0.kind"), "ptx");
  assert_string_equal(json_text_at(keep, "variants.0.params.1.value"), "n");
  assert_int_equal(json_integer_value(json_at(keep, "variants.0.params.1.offset")), 8);
  /* What the manifest leaves out is there. */
  assert_int_equal(json_integer_value(json_at(keep, "variants.0.cluster.2")), 1);
  assert_true(json_is_false(json_at(keep, "variants.0.pdl")));
  assert_int_equal(json_integer_value(json_at(keep, "variants.0.global_scratch.alignment")), 1);
  assert_true(json_is_true(json_at(object, "functions.1.variants.0.pdl")));
  assert_string_equal(json_text_at(keep, "golden.0.name"), "stays");
  json_t *one = expect_json(run("info", "small.pegapack", "t.keep", "--json"), 0);
  assert_true(json_equal(one, keep));
  json_decref(one);
  one = expect_json(run("info", "t.keep", "--pack", "folder", "--json"), 0);
  assert_true(json_equal(one, keep));
  json_decref(one);
  json_decref(object);
}

static void test_info_fails(void **state) {
  (void)state;
  expect(run("info", "small.pegapack", "t.kee"), 1, NULL, "the nearest is 't.keep'");
  expect(run("info", "small.pegapack", "t.kee"), 1, NULL,
         "'t.keep'; `pega list --pack PACK` (or --embedded) shows all\n");
  expect_error(run("info", "small.pegapack", "t.kee", "--json"), 1, "NOT_FOUND", "KeyError",
               "; `pega list --pack PACK` (or --embedded) shows all");
  expect(run("info", "t.keep"), 1, NULL, "; `pega list` shows all\n");
  expect(run("info", "none.pegapack"), 1, NULL, "none.pegapack: No such file");
  expect(run("info", "no/pack"), 1, NULL, "no/pack: No such file");
  expect(run("info", "stdout.txt"), 1, NULL, "stdout.txt");
  expect(run("info", "t.keep"), 1, NULL, "no function 't.keep'");
  expect(
      run("info", "t.keep", "small.pegapack"), 2, NULL,
      "unexpected argument \"small.pegapack\": the one before it, \"t.keep\", is no path of a pack");
  expect(run("info", "a", "b", "--pack", "folder"), 2, NULL, "unexpected argument \"b\"");
  expect(run("info", SOLVE, "--params"), 2, NULL, "--params is for functions of packs");
  expect(run("info", "small.pegapack", "t", "x"), 2, NULL, "unexpected argument \"x\"");
  expect_error(run("info", "small.pegapack", "t.kee", "--json"), 1, "NOT_FOUND", "KeyError",
               "t.keep");
}

static void test_list(void **state) {
  (void)state;
  expect(run("list", "--pack", "folder"), 0,
         "t.keep(x: out pointer, n: int[0..1000], s: stream) -> None\nt.tensor(t: out Tensor[",
         NULL);
  json_t *object = expect_json(run("list", "-p", "small.pegapack", "--json"), 0);
  assert_int_equal(json_array_size(json_at(object, "functions")), 2);
  assert_string_equal(json_text_at(object, "functions.0.from"), "pack");
  assert_string_equal(json_text_at(object, "functions.0.doc"), "Keeps x.");
  json_decref(object);
  expect(run("list", "--pack", "none"), 1, NULL, "none: No such file");
  expect(run("list", "--pack", "folder", "--module", "x.so"), 2, NULL,
         "list: expected one place to take functions from, got --pack and --module");
  expect(run("list", "--pack"), 2, NULL, "\"--pack\" needs a value");
  expect(run("doctor", "--pack", "x"), 2, NULL, "no option \"--pack\"");
}

static void test_explain(void **state) {
  (void)state;
  expect(run("explain", "t.keep", "--target", "sm_90", "--pack", "folder", "--allow-ptx"), 0,
         "t.keep for sm_90, pack small (folder)\n\n"
         "  variant  target  entry  taken  why\n"
         "  0        sm_80   keep   no     it would run, but sm_90 fits better\n"
         "  1        sm_90   keep   yes    ",
         NULL);
  expect(run("explain", "t.keep", "-t", "sm_86", "-p", "folder", "--allow-ptx"), 0,
         "  0        sm_80   keep   yes    ", NULL);
  expect(run("explain", "t.keep", "-t", "sm_75", "-p", "folder", "--allow-ptx"), 1,
         "\nno variant is taken: a call on such a GPU is refused\n", NULL);
  expect(run("explain", "t.keep", "-t", "sm_90", "-p", "folder"), 1,
         "no     it is PTX for sm_90, which the driver would compile: --allow-ptx lets it\n", NULL);
  json_t *object = expect_json(
      run("explain", "t.keep", "-t", "sm_90", "-p", "folder", "--allow-ptx", "--json"), 0);
  assert_string_equal(json_text_at(object, "function"), "t.keep");
  assert_string_equal(json_text_at(object, "path"), "folder");
  assert_true(json_is_true(json_at(object, "taken")));
  assert_true(json_is_false(json_at(object, "variants.0.taken")));
  assert_true(json_is_true(json_at(object, "variants.1.taken")));
  assert_int_equal(json_integer_value(json_at(object, "variants.1.index")), 1);
  assert_true(strlen(json_text_at(object, "variants.1.reason")) > 0);
  json_decref(object);
  object = expect_json(run("explain", "t.keep", "-t", "sm_75", "-p", "folder", "--json"), 1);
  assert_true(json_is_false(json_at(object, "taken")));
  assert_non_null(strstr(json_text_at(object, "variants.0.reason"), "--allow-ptx"));
  json_decref(object);
}

static void test_explain_path(void **state) {
  (void)state;
  const run_how both = {"PEGA_PACK_PATH=:tensor.pegapack::small.pegapack", NULL};
  const run_how empty = {"PEGA_PACK_PATH=::", NULL};
  const run_how broken = {"PEGA_PACK_PATH=none:small.pegapack", NULL};
  expect(run_with(&both, "explain", "t.keep", "-t", "sm_90", "--allow-ptx"), 0,
         "pack small (small.pegapack)", NULL);
  expect(run_with(&both, "explain", "t.tensor", "-t", "sm_90", "--allow-ptx"), 0,
         "pack small (tensor.pegapack)", NULL);
  expect(
      run_with(&both, "explain", "t.none", "-t", "sm_90"), 1, NULL,
      "no function 't.none' in the 2 packs of PEGA_PACK_PATH ':tensor.pegapack::small.pegapack'");
  expect(
      run_with(&empty, "explain", "t.keep", "-t", "sm_90"), 2, NULL,
      pega_pack_embedded(NULL) == NULL
          ? "no pack to look in has it: --pack is not given, PEGA_PACK_PATH is empty, and libpega "
            "has none of its own (PEGA_AOT); give --pack PACK"
          : "PEGA_PACK_PATH is empty, and libpega has no such function in its own");
  expect(run_with(&broken, "explain", "t.keep", "-t", "sm_90"), 1, NULL,
         "PEGA_PACK_PATH names a pack that cannot be used: none: No such file");
  assert_int_equal(unsetenv("PEGA_PACK_PATH"), 0);
  expect(run("explain", "t.keep", "-t", "sm_90"), 2, NULL, "PEGA_PACK_PATH is not set");
}

static void test_explain_fails(void **state) {
  (void)state;
  expect(run("explain", "t.keep", "-p", "folder"), 2, NULL,
         "expected one of --target TARGET (sm_90) and --device DEVICE (0), got none");
  expect(run("explain", "t.keep", "-t", "sm_90", "-d", "0"), 2, NULL, "got both");
  expect(run("explain", "t.keep", "-t", "sm_9000000", "-p", "folder"), 2, NULL, "'sm_9000000'");
  expect(run("explain", "t.keep", "-t", "", "-p", "folder"), 2, NULL, "target ''");
  expect(run("explain", "t.keep", "-t", "sm_90\x1b[31m", "-p", "folder"), 2, NULL,
         "sm_90\\x1b[31m");
  expect(run("explain", "t.kee", "-t", "sm_90", "-p", "folder"), 1, NULL,
         "the nearest is 't.keep'");
  expect(run("explain", "t.keep", "-t", "sm_90", "-p", "none"), 1, NULL, "none: No such file");
  expect(run("explain", "-t", "sm_90"), 2, NULL, "expected `pega explain NAME --target TARGET |");
  static const char *const wrong[] = {"", "x", "cpu:0", "-1", "cuda:", "99999999999", "0 "};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i) {
    char text[96];
    (void)snprintf(text, sizeof text, "--device: expected a CUDA device, 0 or cuda:0, got \"%s\"",
                   wrong[i]);
    expect(run("explain", "t.keep", "--device", wrong[i], "-p", "folder"), 2, NULL, text);
  }
}

/* Where there is no driver: nothing that needs one crashes or is silent. */
static void test_no_driver(void **state) {
  (void)state;
  const run_how how = {"LD_LIBRARY_PATH=.", NULL};
  write_file("libcuda.so.1", "no library\n", 11);
  expect(run_with(&how, "test", "small.pegapack"), 1, NULL,
         "pega test runs kernels on a GPU, here cuda:0, and found none that it can use: ");
  expect(run_with(&how, "test", "small.pegapack", "-d", "3"), 1, NULL, "here cuda:3");
  expect_error(run_with(&how, "test", "folder", "--json"), 1, "UNAVAILABLE", "RuntimeError",
               "`pega verify` checks a pack without one");
  expect(run_with(&how, "explain", "t.keep", "-d", "0", "-p", "folder"), 1, NULL, "libcuda.so.1");
  /* What the pack is comes first. */
  expect(run_with(&how, "test", "none"), 1, NULL, "none: No such file");
  assert_int_equal(remove("libcuda.so.1"), 0);
  expect(run("test"), 2, NULL,
         "expected `pega test PACK | --embedded [OPTION...]`, got 0 arguments");
}

static void test_call(void **state) {
  (void)state;
  static const char memory[] =
      "t.keep: argument 0 'x': expected the address of memory on a GPU, which the command line cannot "
      "give";
  expect(run("call", "t.keep", "16", "4", "0", "--pack", "folder"), 1, NULL, memory);
  expect(run("call", "t.keep", "ptr:16", "4", "5", "--pack", "folder"), 1, NULL, memory);
  expect(
      run("call", "t.tensor", "zeros:float32[2,4]", "--pack", "folder"), 1, NULL,
      "t.tensor: argument 0 't': expected a tensor on a GPU, which the command line cannot give");
  expect_error(run("call", "t.tensor", "zeros:float32[2,4]", "--pack", "folder", "--json"), 1,
               "UNSUPPORTED", "NotImplementedError", "`pega test PACK` runs a pack's golden cases");
  expect(run("call", "t.numbers", "4", "5", "--pack", "numbers.pegapack"), 1, NULL,
         "t.numbers: argument 1 's': expected a stream of this process (0 is the default one)");
  /* What else is wrong is said as always. */
  expect(run("call", "t.keep", "16", "4", "--pack", "folder"), 1, NULL,
         "expected 3 arguments, got 2");
  expect(run("call", "t.keep", "16", "1001", "0", "--pack", "folder"), 1, NULL,
         "argument 1 'n': expected a value from 0 to 1000, got int 1001");
  expect(run("call", "t.keep", "8", "1", "0", "--pack", "folder"), 1, NULL, "aligned to 16");
  expect(run("call", "t.keep", "none", "1", "0", "--pack", "folder"), 1, NULL, "got None");
  expect(run("call", "t.tensor", "zeros:float32[2,3]", "--pack", "folder"), 1, NULL,
         "argument 0 't'");
  expect(run("call", "t.none", "--pack", "folder"), 1, NULL, "no function 't.none'");
  expect(run("call", SOLVE, "--pack", "folder"), 1, NULL, "no function '" SOLVE "'");
}

/* Text of a manifest can neither drive a terminal nor look like lines of pega's own. */
static void test_hostile(void **state) {
  (void)state;
  static const char forged[] = "\nforged";
  /* U+061C, U+200E, U+200F, U+202A, U+202E, U+2066, U+2069: they turn the direction of text. */
  static const char *const turns[] = {"\xd8\x9c",     "\xe2\x80\x8e", "\xe2\x80\x8f",
                                      "\xe2\x80\xaa", "\xe2\x80\xae", "\xe2\x81\xa6",
                                      "\xe2\x81\xa9"};
  static const char *const runs[][5] = {
      {"info", "hostile.pegapack", NULL},
      {"info", "hostile.pegapack", "--params", NULL},
      {"info", "hostile.pegapack", "--json", NULL},
      {"verify", "hostile.pegapack", NULL},
      {"list", "--pack", "hostile.pegapack", "--json", NULL},
  };
  for (size_t i = 0; i < sizeof runs / sizeof *runs; ++i) {
    run_result result = run_words(NULL, runs[i]);
    assert_int_equal(result.code, 0);
    assert_null(strchr(result.out, 0x1b));
    assert_null(strchr(result.out, 0x7f));
    assert_null(strstr(result.out, "\xc2\x9b"));
    assert_null(strstr(result.out, forged));
    for (size_t j = 0; j < sizeof turns / sizeof *turns; ++j) {
      assert_null(strstr(result.out, turns[j]));
    }
    run_free(&result);
  }
  expect(run("info", "hostile.pegapack"), 0,
         "golden cases: \"a\\x1b[31m\\x0aforged\\x7f\\xd8\\x9c\\xe2\\x80\\x8e", NULL);
  expect(
      run("info", "hostile.pegapack"), 0,
      "\\xc2\\x9b31m\\xd8\\x9c\\xe2\\x80\\x8e\\xe2\\x80\\x8f\\xe2\\x80\\xaa\\xe2\\x80\\xae\\xe2\\x81"
      "\\xa6\\xe2\\x81\\xa9\xe2\x80\xa6\n",
      NULL);
  expect(run("info", "hostile.pegapack", "--json"), 0,
         "\"doc\": \"\\u009b31m\\u061c\\u200e\\u200f\\u202a\\u202e\\u2066\\u2069\xe2\x80\xa6\"",
         NULL);
  json_t *object = expect_json(run("info", "hostile.pegapack", "--json"), 0);
  assert_string_equal(json_text_at(object, "functions.0.golden.0.name"),
                      "a\x1b[31m\nforged\x7f\xd8\x9c\xe2\x80\x8e");
  assert_string_equal(json_text_at(object, "doc"),
                      "\xc2\x9b"
                      "31m\xd8\x9c\xe2\x80\x8e\xe2\x80\x8f\xe2\x80\xaa\xe2\x80\xae"
                      "\xe2\x81\xa6\xe2\x81\xa9\xe2\x80\xa6");
  json_decref(object);
}

/* Bytes changed and ends cut: never a crash, and refused unless it is but text of the manifest. */
static void test_broken_packs(void **state) {
  (void)state;
  enum { HEAD = 24 };
  size_t size = 0;
  char *bytes = read_whole_file("small.pegapack", &size);
  for (size_t i = 0; i < size; i += i < 32 ? 1 : 97) {
    bytes[i] = (char)(bytes[i] ^ 0x55);
    write_file("broken.pegapack", bytes, size);
    bytes[i] = (char)(bytes[i] ^ 0x55);
    run_result result = run("verify", "broken.pegapack");
    const bool good = result.code == 1 ? *result.err != '\0' : i >= HEAD && result.code == 0;
    if (!good) fail_msg("byte %zu: exit code %d, stderr: %s", i, result.code, result.err);
    run_free(&result);
  }
  for (size_t length = 0; length < size; length += length < 32 ? 8 : 1021) {
    write_file("broken.pegapack", bytes, length);
    expect(run("info", "broken.pegapack"), 1, NULL, "broken.pegapack");
  }
  free(bytes);
}

static void test_doctor(void **state) {
  (void)state;
  const run_how good = {"PEGA_PACK_PATH=small.pegapack:folder", NULL};
  const run_how bad = {"PEGA_PACK_PATH=damaged.pegapack:none:folder", NULL};
  json_t *object = expect_json(run_with(&good, "doctor", "--json"), 0);
  assert_string_equal(json_text_at(object, "packs.PEGA_PACK_PATH"), "small.pegapack:folder");
  assert_int_equal(json_array_size(json_at(object, "packs.found")), 2);
  assert_string_equal(json_text_at(object, "packs.found.1.path"), "folder");
  assert_string_equal(json_text_at(object, "packs.found.1.name"), "small");
  assert_int_equal(json_integer_value(json_at(object, "packs.found.1.functions")), 2);
  assert_true(json_is_true(json_at(object, "packs.found.1.verified")));
  json_decref(object);
  object = expect_json(run_with(&bad, "doctor", "--json"), 1);
  assert_true(json_is_false(json_at(object, "packs.found.0.verified")));
  assert_non_null(strstr(json_text_at(object, "packs.found.0.error"), "SHA-256"));
  assert_non_null(strstr(json_text_at(object, "packs.found.1.error"), "none: No such file"));
  assert_true(json_is_true(json_at(object, "packs.found.2.verified")));
  assert_int_equal(json_array_size(json_at(object, "problems")), 2);
  assert_string_equal(json_text_at(object, "problems.0"),
                      json_text_at(object, "packs.found.0.error"));
  json_decref(object);
  expect(run_with(&good, "doctor"), 0,
         "packs:\n  PEGA_PACK_PATH: small.pegapack:folder\n  found:\n    0:\n      path: small",
         NULL);
  expect(run_with(&bad, "doctor"), 1, "broken: none: No such file", NULL);
  expect(run("doctor"), 0,
         "packs:\n  reason: PEGA_PACK_PATH is not set\n  found: none\n  embedded:\n", NULL);
}

static void expect_none(run_result result) {
  expect(result, 1, NULL, "libpega has no pack of its own: it was built without PEGA_AOT");
}

/* Of a libpega with no pack. */
static void check_no_embedded(void) {
  json_t *object = expect_json(run("doctor", "--json"), 0);
  assert_true(json_is_false(json_at(object, "packs.embedded.present")));
  assert_non_null(strstr(json_text_at(object, "packs.embedded.reason"), "PEGA_AOT"));
  json_decref(object);
  expect(run("doctor"), 0, "  embedded:\n    present: no\n", NULL);
  expect_none(run("info", "--embedded"));
  expect_none(run("info", "t.keep", "--embedded"));
  expect_none(run("list", "--embedded"));
  expect_none(run("test", "--embedded"));
  expect_none(run("verify", "--embedded"));
  expect_none(run("call", "t.keep", "--embedded"));
  expect_none(run("explain", "t.keep", "-t", "sm_90", "--embedded"));
  expect_error(run("info", "--embedded", "--json"), 1, "UNAVAILABLE", "RuntimeError", "no pack");
  /* The others are checked all the same. */
  expect(run("verify", "--embedded", "folder"), 1, "folder: ok", "pega: 1 of 2 packs failed\n");
}

/* Of one with a pack, which is shown as the same bytes in a file are. */
static void check_embedded(const void *bytes, size_t size) {
  const run_how no_driver = {"LD_LIBRARY_PATH=.", NULL};
  char text[PEGA_NAME_SIZE + 64];
  write_file("same.pegapack", bytes, size);
  json_t *same = expect_json(run("info", "same.pegapack", "--json"), 0);
  json_t *object = expect_json(run("info", "--embedded", "--json"), 0);
  const char *pack = json_text_at(same, "name");
  const char *name = json_text_at(same, "functions.0.name");
  assert_string_equal(json_text_at(object, "name"), pack);
  assert_string_equal(json_text_at(object, "path"), "the pack in libpega");
  assert_true(json_equal(json_at(object, "functions"), json_at(same, "functions")));
  json_decref(object);
  object = expect_json(run("info", name, "--embedded", "--json"), 0);
  assert_true(json_equal(object, json_at(same, "functions.0")));
  json_decref(object);
  expect(run("info", "--embedded", name, "--params"), 0, "offset  size  type", NULL);
  object = expect_json(run("list", "--embedded", "--json"), 0);
  json_t *listed = expect_json(run("list", "--pack", "same.pegapack", "--json"), 0);
  assert_true(json_equal(object, listed));
  json_decref(listed);
  json_decref(object);
  (void)snprintf(text, sizeof text, "the pack in libpega: ok, %s: ", pack);
  expect(run("verify", "--embedded"), 0, text, NULL);
  expect(run("verify", "same.pegapack", "--embedded"), 0, "\nsame.pegapack: ok", NULL);
  object = expect_json(run("verify", "--embedded", "--json"), 0);
  json_t *counted = expect_json(run("verify", "same.pegapack", "--json"), 0);
  assert_int_equal(json_integer_value(json_at(object, "packs.0.bytes")),
                   json_integer_value(json_at(counted, "packs.0.bytes")));
  json_decref(counted);
  json_decref(object);
  object = expect_json(run("doctor", "--json"), 0);
  assert_true(json_is_true(json_at(object, "packs.embedded.present")));
  assert_true(json_is_true(json_at(object, "packs.embedded.verified")));
  assert_string_equal(json_text_at(object, "packs.embedded.name"), pack);
  assert_int_equal(json_integer_value(json_at(object, "packs.embedded.functions")),
                   json_array_size(json_at(same, "functions")));
  json_decref(object);
  expect(run("doctor"), 0, "  embedded:\n    present: yes\n", NULL);
  expect(run("explain", name, "--embedded", "--allow-ptx", "-t",
             json_text_at(same, "functions.0.variants.0.target")),
         0, "(the pack in libpega)\n", NULL);
  expect(run("info", "t.none", "--embedded"), 1, NULL, "no function 't.none'");
  expect(run("call", "t.none", "--embedded"), 1, NULL, "no function 't.none'");
  write_file("libcuda.so.1", "no library\n", 11);
  expect(run_with(&no_driver, "test", "--embedded"), 1, NULL, "found none that it can use: ");
  assert_int_equal(remove("libcuda.so.1"), 0);
  json_decref(same);
}

static void test_embedded(void **state) {
  (void)state;
  size_t size = 0;
  const void *bytes = pega_pack_embedded(&size);
  if (bytes == NULL) {
    check_no_embedded();
  } else {
    check_embedded(bytes, size);
  }
  expect(run("list", "--embedded", "-p", "folder"), 2, NULL,
         "list: expected one place to take functions from, got --pack and --embedded");
  expect(run("info", "t", "--embedded", "--module", "x.so"), 2, NULL,
         "got --embedded and --module");
  expect(run("test", "folder", "--embedded"), 2, NULL, "unexpected argument \"folder\"");
  expect(run("info", "t", "u", "--embedded"), 2, NULL, "unexpected argument \"u\"");
  expect(run("verify"), 2, NULL, "expected `pega verify PACK... | --embedded [OPTION...]`, got 0");
  expect(run("info"), 2, NULL, "--embedded [NAME] [OPTION...]`, got 0 arguments");
  expect(run("call", "--embedded"), 2, NULL, "got 0 arguments");
}

/* What the commands promise, and what they do not. */
static void test_help(void **state) {
  (void)state;
  static const char *const commands[] = {"info", "list", "call", "verify", "explain", "test"};
  for (size_t i = 0; i < sizeof commands / sizeof *commands; ++i) {
    expect(run(commands[i], "--help"), 0, "\n      --embedded  ", NULL);
  }
  expect(run("explain", "--help"), 0, "no\nblob is looked at (`pega verify` does that)", NULL);
  expect(run("verify", "--help"), 0, "Proved of each is its SHA-256;", NULL);
  expect(run("verify", "--help"), 0, "Not proved are types and\nvalues of parameters, grids,",
         NULL);
  expect(run("verify", "--help"), 0, "PTX for that target with that entry, and no more", NULL);
  expect(run("test", "--help"), 0, "is null, and \"not_finite\" is\ntrue", NULL);
}

static void write_packs(void) {
  static const pack_text tensor = {"", PACK_TENSOR};
  static const pack_text hostile = {
      /* An ellipsis ends it: what looks like such a character and is none stays. */
      "\\u009b31m\\u061c\\u200e\\u200f\\u202a\\u202e\\u2066\\u2069\\u2026",
      PACK_GOLDEN("t.keep", "a\\u001b[31m\\nforged\\u007f\\u061c\\u200e", "@ones@")};
  static const pack_text numbers = {"", PACK_NUMBERS};
  static const pack_text nul = {"", PACK_NUL};
  write_pack_file("small.pegapack", &small);
  write_pack_folder("folder", &small);
  write_pack_file("tensor.pegapack", &tensor);
  write_pack_file("hostile.pegapack", &hostile);
  write_pack_file("numbers.pegapack", &numbers);
  write_pack_file("nul.pegapack", &nul);
  write_pack_file("damaged.pegapack", &small);
  damage_pack_file("damaged.pegapack");
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_verify),        cmocka_unit_test(test_verify_fails),
      cmocka_unit_test(test_info),          cmocka_unit_test(test_info_json),
      cmocka_unit_test(test_info_fails),    cmocka_unit_test(test_list),
      cmocka_unit_test(test_explain),       cmocka_unit_test(test_explain_path),
      cmocka_unit_test(test_explain_fails), cmocka_unit_test(test_no_driver),
      cmocka_unit_test(test_call),          cmocka_unit_test(test_hostile),
      cmocka_unit_test(test_broken_packs),  cmocka_unit_test(test_doctor),
      cmocka_unit_test(test_embedded),      cmocka_unit_test(test_help),
  };
  set_pega_path(argc, argv);
  (void)unsetenv("PEGA_PACK_PATH");
  enter_folder();
  write_packs();
  const int failed = cmocka_run_group_tests_name("cli.pack", tests, NULL, NULL);
  leave_folder();
  free(pega_path);
  return failed;
}
