/* SPDX-License-Identifier: Apache-2.0 */
/* The command line as such: help, misuse, list, info, bench, and where output goes. */
#include <pega/pega.h>

#include "support.h"

static void test_version(void **state) {
  (void)state;
  char expected[64];
  (void)snprintf(expected, sizeof expected, "pega %s\n", pega_version_string());
  run_result result = run("--version");
  assert_string_equal(result.out, expected);
  expect(result, 0, expected, NULL);
  json_t *object = expect_json(run("--version", "--json"), 0);
  assert_string_equal(json_text_at(object, "version"), pega_version_string());
  json_decref(object);
}

static void test_help(void **state) {
  (void)state;
  static const char *const commands[] = {"doctor",  "list", "info",   "inspect", "call",  "verify",
                                         "explain", "test", "export", "tune",    "bench", "help"};
  expect(run("--help"), 0, "usage: pega COMMAND", NULL);
  expect(run("-h"), 0, "usage: pega COMMAND", NULL);
  expect(run("help"), 0, "Exit codes: 0 done, 1 failed, 2 misuse.", NULL);
  for (size_t i = 0; i < sizeof commands / sizeof commands[0]; ++i) {
    char usage[64];
    (void)snprintf(usage, sizeof usage, "usage: pega %s", commands[i]);
    expect(run("help"), 0, commands[i], NULL);
    expect(run("help", commands[i]), 0, usage, NULL);
    expect(run(commands[i], "--help"), 0, usage, NULL);
    expect(run(commands[i], "-h"), 0, usage, NULL);
  }
  json_t *all = expect_json(run("help", "--json"), 0);
  assert_int_equal(json_array_size(json_at(all, "commands")), sizeof commands / sizeof *commands);
  json_decref(all);
  json_t *one = expect_json(run("help", "call", "--json"), 0);
  assert_string_equal(json_text_at(one, "name"), "call");
  json_decref(one);
  expect(run("help", "call"), 0, "-o, --output FILE", NULL);
  expect(run("help", "call"), 0, "zeros:bfloat16[128,2,64]", NULL);
  /* Help wins over what else is missing. */
  expect(run("call", "--help"), 0, "usage: pega call NAME", NULL);
}

static void test_misuse(void **state) {
  (void)state;
  expect(run_words(NULL, (const char *const[]){NULL}), 2, NULL, "usage: pega COMMAND");
  expect(run("nonsense"), 2, NULL, "pega: no command \"nonsense\"; `pega help` lists them");
  expect(run("help", "nonsense"), 2, NULL, "pega: no command \"nonsense\"");
  expect(run("list", "--nonsense"), 2, NULL, "pega: list: no option \"--nonsense\"");
  expect(run("list", "-x"), 2, NULL, "pega: list: no option \"-x\"");
  expect(run("list", "--json=1"), 2, NULL, "pega: list: no option \"--json=1\"");
  expect(run("list", "extra"), 2, NULL, "pega: list: unexpected argument \"extra\"");
  expect(
      run("info"), 2, NULL,
      "expected `pega info NAME | PACK [NAME] | --embedded [NAME] [OPTION...]`, got 0 arguments");
  expect(run("info", "a", "b"), 2, NULL,
         "pega: info: unexpected argument \"b\": the one before it");
  expect(run("call", SOLVE, "-o"), 2, NULL, "pega: call: \"-o\" needs a value");
  expect(run("call", SOLVE, "--output"), 2, NULL, "pega: call: \"--output\" needs a value");
  expect(run("bench", "call", "--json"), 2, NULL, "bench: \"--json\" needs a value");
  expect(run("bench", "nonsense"), 2, NULL, "pega: bench: no benchmark \"nonsense\"");
  expect(run("bench", "call", "--batches", "0"), 2, NULL, "a number from 1 to 10000, got \"0\"");
  expect(run("bench", "call", "--batches", "10001"), 2, NULL,
         "a number from 1 to 10000, got \"10001\"");
  expect(run("bench", "call", "--batches", "x"), 2, NULL, "got \"x\"");
  /* An option of another command is none here. */
  expect(run("list", "-o", "x"), 2, NULL, "pega: list: no option \"-o\"");
  expect_error(run("nonsense", "--json"), 2, "INVALID_ARGUMENT", "ValueError",
               "no command \"nonsense\"");
  expect_error(run("info", "--json"), 2, "INVALID_ARGUMENT", "ValueError", "got 0 arguments");
  expect_error(run("list", "--nonsense", "--json"), 2, "INVALID_ARGUMENT", "ValueError",
               "no option \"--nonsense\"");
}

static void test_list(void **state) {
  (void)state;
  expect(run("list"), 0, SOLVE "(a_tril: Tensor[float32, (T, HV, 64)]", NULL);
  expect(run("list"), 0, "\n" SOLVE_RAW "(a_tril_ptr: pointer", NULL);
  json_t *object = expect_json(run("list", "--json"), 0);
  assert_true(json_array_size(json_at(object, "functions")) >= 2);
  /* In the order of their names. */
  assert_string_equal(json_text_at(object, "functions.6.name"), SOLVE);
  assert_string_equal(json_text_at(object, "functions.6.from"), "registry");
  assert_non_null(strstr(json_text_at(object, "functions.6.signature"), "a_inv: out Tensor"));
  assert_true(strlen(json_text_at(object, "functions.6.doc")) > 0);
  json_decref(object);
}

/* How a function with implementations chooses, for devices that need not be there. */
static void test_explain_choice(void **state) {
  (void)state;
  const char *const prefill = "pegainfer.qwen35.gated_delta_rule_prefill";
  expect(run("explain", prefill), 0, "on cpu:0: T = 4096 tokens, N = 1 sequences", NULL);
  expect(run("explain", prefill, "512", "64", "4", "8", "--device", "0"), 0,
         "on cuda:0: T = 512 tokens, N = 64 sequences, HK = 4, HV = 8", NULL);
  json_t *object = expect_json(run("explain", prefill, "--json"), 0);
  assert_string_equal(json_text_at(object, "device"), "cpu:0");
  assert_string_equal(json_text_at(object, "implementations.1.name"), "cpu_chunked");
  assert_true(json_is_true(json_at(object, "implementations.1.taken")));
  assert_true(json_is_integer(json_at(object, "implementations.1.workspace")));
  assert_false(json_is_true(json_at(object, "implementations.3.taken")));
  json_decref(object);
  object = expect_json(run("explain", prefill, "4", "--json"), 0);
  assert_true(json_is_true(json_at(object, "implementations.0.taken")));
  json_decref(object);
  object = expect_json(run("explain", prefill, "4096", "-d", "0", "--json"), 0);
  assert_string_equal(json_text_at(object, "implementations.3.name"), "triton_chunked");
  assert_true(json_is_true(json_at(object, "implementations.3.taken")));
  assert_string_equal(json_text_at(object, "implementations.0.reason"), "it runs elsewhere");
  json_decref(object);
  expect(run("explain", "pegainfer.qwen35.gated_delta_rule_prefill_projected", "64", "-d", "0"), 0,
         "taken only when it is asked for by name", NULL);
  expect(run("explain", prefill, "x"), 2, NULL, "expected a number of tokens, got \"x\"");
  expect(run("explain", prefill, "1", "1", "3", "4"), 1, NULL, "HV to be a multiple of HK");
  expect(run("explain", prefill, "-1"), 1, NULL, "num_tokens");
  expect(run("explain", prefill, "--target", "sm_90"), 2, NULL, "not --target");
  expect(run("explain", SOLVE, "64"), 2, NULL, "has no implementations");
}

static void test_info(void **state) {
  (void)state;
  expect(run("info", SOLVE), 0, "a_inv: Tensor, bfloat16, [T, HV, 64], contiguous, output\n", NULL);
  expect(run("info", SOLVE), 0, "all tensors on one device", NULL);
  expect(run("info", SOLVE_RAW), 0, "seq_len: int, 0 to 2147483647\n", NULL);
  expect(run("info", SOLVE_RAW), 0, "a_inv_ptr: pointer, nonnull, output, aligned to 16 bytes",
         NULL);
  json_t *object = expect_json(run("info", SOLVE, "--json"), 0);
  assert_string_equal(json_text_at(object, "name"), SOLVE);
  assert_string_equal(json_text_at(object, "result"), "None");
  assert_int_equal(json_array_size(json_at(object, "params")), 2);
  assert_string_equal(json_text_at(object, "params.0.name"), "a_tril");
  assert_string_equal(json_text_at(object, "params.0.type"), "Tensor");
  assert_string_equal(json_text_at(object, "params.0.dtype"), "float32");
  assert_string_equal(json_text_at(object, "params.0.shape"), "T, HV, 64");
  assert_true(json_is_null(json_at(object, "params.0.device")));
  assert_string_equal(json_text_at(object, "params.0.flags.0"), "contiguous");
  assert_string_equal(json_text_at(object, "params.1.flags.1"), "output");
  assert_true(json_is_true(json_at(object, "same_device")));
  json_decref(object);
}

static void test_info_not_found(void **state) {
  (void)state;
  expect(run("info", SOLVE "x"), 1, NULL, "the nearest is '" SOLVE "'");
  expect_error(run("info", SOLVE "x", "--json"), 1, "NOT_FOUND", "KeyError", SOLVE "x");
  /* Escape sequences reach neither a terminal nor JSON as they are. */
  expect(run("\x1b[31mred\xc2\x9b"), 2, NULL, "\"\\x1b[31mred\\xc2\\x9b\"");
  expect_error(run("bad\xff\xc3\xa4", "--json"), 2, "INVALID_ARGUMENT", "ValueError",
               "\"bad\\xff\xc3\xa4\"");
  char *name = malloc(1 << 17);
  assert_non_null(name);
  memset(name, 'n', (1 << 17) - 1);
  name[(1 << 17) - 1] = '\0';
  run_result result = run("info", name);
  assert_int_equal(result.code, 1);
  assert_true(strlen(result.err) < 2000);
  run_free(&result);
  free(name);
}

static void test_bench(void **state) {
  (void)state;
  expect(run("bench", "call", "--batches", "3"), 0, "pega function, signature checked", NULL);
  json_t *object = expect_json(run("bench", "call", "--batches", "3", "--json", "-"), 0);
  assert_string_equal(json_text_at(object, "command"), "pega bench call --batches 3");
  const json_t *rows = json_at(object, "rows");
  int measured = 0;
  assert_int_equal(json_array_size(rows), 10);
  for (size_t i = 0; i < json_array_size(rows); ++i) {
    json_t *row = json_array_get(rows, i);
    if (json_at(row, "median") == NULL) {
      assert_true(strlen(json_text_at(row, "left_out")) > 0);
      continue;
    }
    ++measured;
    const double median = json_real_value(json_at(row, "median"));
    assert_true(median > 0);
    assert_true(json_real_value(json_at(row, "low")) <= median);
    assert_true(json_real_value(json_at(row, "high")) >= median);
    assert_int_equal(json_integer_value(json_at(row, "samples")), 3);
    /* null where nothing counts: under a sanitizer. */
    if (!json_is_null(json_at(row, "allocations"))) {
      assert_int_equal(json_integer_value(json_at(row, "allocations")), 0);
    }
  }
  assert_true(measured >= 4);
  json_decref(object);
}

/* What a case takes at least is counted by formula; small ones by hand. */
static void test_bench_cpu(void **state) {
  (void)state;
  static const struct {
    const char *op;
    double operations, bytes;
  } expected[] = {
      {"prefill", 136757248, 3835392}, {"decode", 3670016, 4219136}, {"solve", 5591040, 1040384}};
  expect(run("bench", "cpu", "--quick", "--peers", "none"), 0, "cpu_chunked", NULL);
  json_t *object = expect_json(run("bench", "cpu", "--quick", "--peers", "none", "--json", "-"), 0);
  const json_t *rows = json_at(object, "rows");
  const size_t count = json_array_size(rows);
  assert_true(count == 3 || count == 6);
  for (size_t i = 0; i < count; ++i) {
    json_t *row = json_array_get(rows, i);
    json_t *what = json_at(row, "case");
    assert_string_equal(json_text_at(row, "part"), "cpu");
    assert_string_equal(json_text_at(row, "how"), "wall");
    assert_string_equal(json_text_at(row, "name"), i % 3 == 0 ? "cpu_chunked" : "cpu");
    assert_string_equal(json_text_at(what, "op"), expected[i % 3].op);
    if (i >= 3) assert_int_equal(json_integer_value(json_at(what, "threads")), 1);
    assert_true(json_real_value(json_at(row, "operations")) == expected[i % 3].operations);
    assert_true(json_real_value(json_at(row, "bytes")) == expected[i % 3].bytes);
    const double median = json_real_value(json_at(row, "median"));
    assert_true(json_real_value(json_at(row, "low")) <= median);
    assert_true(json_real_value(json_at(row, "high")) >= median);
    assert_true(json_real_value(json_at(row, "low")) > 0);
    /* A quick run knows no roof. */
    assert_true(json_is_null(json_at(row, "floor")));
    const bool solve = strcmp(expected[i % 3].op, "solve") == 0;
    const double error = json_real_value(json_at(row, solve ? "error.max" : "error.output_rms"));
    assert_true(error > 1e-4 && error < 4e-3);
  }
  json_decref(object);
}

static void test_bench_scale(void **state) {
  (void)state;
  expect(run("bench", "scale", "--batches", "2"), 0, "look-up in the registry", NULL);
  json_t *object = expect_json(run("bench", "scale", "--batches", "2", "--json", "-"), 0);
  const json_t *rows = json_at(object, "rows");
  size_t measured = 0, of_packs = 0;
  for (size_t i = 0; i < json_array_size(rows); ++i) {
    json_t *row = json_array_get(rows, i);
    assert_string_equal(json_text_at(row, "part"), "scale");
    of_packs += json_at(row, "case.functions") != NULL;
    if (json_object_get(row, "left_out") != NULL) {
      assert_true(strlen(json_text_at(row, "left_out")) > 0);
      continue;
    }
    ++measured;
    const double median = json_real_value(json_at(row, "median"));
    assert_true(median > 0);
    assert_true(json_real_value(json_at(row, "low")) <= median);
    assert_true(json_real_value(json_at(row, "high")) >= median);
  }
  /* Of two sizes a pack with eight rows, and one of several variants with two; launches where
   * there is a device. */
  assert_int_equal(of_packs, 2 * (8 + 2));
  assert_int_equal(json_array_size(rows), of_packs + (size_t)(3 * 5));
  assert_true(measured >= of_packs);
  json_decref(object);
}

/* Where the packs cannot be made, the system's reason is told. */
static void test_bench_scale_nowhere(void **state) {
  (void)state;
  assert_int_equal(setenv("TMPDIR", "/nowhere/at/all", 1), 0);
  expect(run("bench", "scale", "--batches", "2"), 1, "left out: scale",
         "in /nowhere/at/all: No such file or directory");
  assert_int_equal(unsetenv("TMPDIR"), 0);
}

static void test_no_bridge(void **state) {
  (void)state;
  json_t *object = expect_json(run("doctor", "--json"), 0);
  const bool bridge = json_is_true(json_at(object, "pega.bridge"));
  json_decref(object);
  if (bridge) skip();
  static const char text[] = "has no bridge to a foreign runtime: README.md says how to build one";
  expect(run("list", "-m", "x.so"), 1, NULL, text);
  expect_error(run("call", "add", "1", "2", "--module", "x.so", "--json"), 1, "UNSUPPORTED",
               "NotImplementedError", text);
  expect(run("export", "x.pegapack", "-o", "x.so"), 1, NULL, text);
  expect(run("doctor"), 0, text, NULL);
  expect(run("bench", "call", "--batches", "2"), 0,
         "left out: foreign function from foreign code, five ints", NULL);
  /* Options that only a bridge gives a meaning are not there. */
  expect(run("list", "--tvm-ffi"), 2, NULL, "no option \"--tvm-ffi\"");
}

static void test_output_fails(void **state) {
  (void)state;
  const run_how full = {NULL, "/dev/full"};
  expect(run_with(&full, "list"), 1, NULL, "pega: cannot write to standard output: No space left");
  expect(run_with(&full, "--version"), 1, NULL, "cannot write to standard output");
  expect(run_with(&full, "doctor", "--json"), 1, NULL, "cannot write to standard output");
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_version),
      cmocka_unit_test(test_help),
      cmocka_unit_test(test_misuse),
      cmocka_unit_test(test_list),
      cmocka_unit_test(test_explain_choice),
      cmocka_unit_test(test_info),
      cmocka_unit_test(test_info_not_found),
      cmocka_unit_test(test_bench),
      cmocka_unit_test(test_bench_cpu),
      cmocka_unit_test(test_bench_scale),
      cmocka_unit_test(test_bench_scale_nowhere),
      cmocka_unit_test(test_no_bridge),
      cmocka_unit_test(test_output_fails),
  };
  set_pega_path(argc, argv);
  enter_folder();
  const int failed = cmocka_run_group_tests_name("cli.commands", tests, NULL, NULL);
  leave_folder();
  free(pega_path);
  return failed;
}
