/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel packs on devices that the fake driver models. Its kernels do nothing: a golden case agrees
 * where it expects what its memory begins as. */
#include <pega/pack.h>

#include "pack_file.h"

/* LD_LIBRARY_PATH=... */
static char *fake;

static void set_machine(const char *text) {
  assert_int_equal(setenv("PEGA_FAKE_DRIVER", text, 1), 0);
}

static void test_agrees(void **state) {
  (void)state;
  const run_how how = {fake, NULL};
  set_machine("devices=2,cc=9.0");
  expect(run_with(&how, "test", "good.pegapack", "--allow-ptx"), 0,
         "ok      t.keep, \"stays\", x: 4 elements, max error 0, tolerance 0.5\n"
         "cuda:0: 1 of 1 outputs agree\n",
         NULL);
  expect(run_with(&how, "test", "good.pegapack", "--allow-ptx", "--device", "cuda:1"), 0,
         "cuda:1: 1 of 1 outputs agree\n", NULL);
  json_t *object = expect_json(
      run_with(&how, "test", "good.pegapack", "--allow-ptx", "--device", "1", "--json"), 0);
  assert_string_equal(json_text_at(object, "device"), "cuda:1");
  assert_string_equal(json_text_at(object, "pack"), "small");
  assert_true(json_is_true(json_at(object, "ok")));
  assert_true(json_is_null(json_at(object, "error")));
  assert_int_equal(json_integer_value(json_at(object, "passed")), 1);
  assert_string_equal(json_text_at(object, "results.0.function"), "t.keep");
  assert_string_equal(json_text_at(object, "results.0.output"), "x");
  assert_int_equal(json_integer_value(json_at(object, "results.0.elements")), 4);
  assert_true(json_is_true(json_at(object, "results.0.ok")));
  json_decref(object);
}

static void test_differs(void **state) {
  (void)state;
  const run_how how = {fake, NULL};
  set_machine("cc=9.0");
  run_result result = run_with(&how, "test", "both.pegapack", "--allow-ptx");
  assert_non_null(strstr(result.out, "ok      t.keep, \"stays\""));
  assert_non_null(strstr(result.out, "cuda:0: 1 of 2 outputs agree, 1 FAILED\n"));
  expect(
      result, 1,
      "FAILED  t.wrong, \"changes\", x: 4 elements, 4 out of tolerance, max error 1, tolerance 0.5\n",
      "t.wrong on cuda:0: golden 'changes': 4 of 4 elements of 'x' are off");
  json_t *object = expect_json(run_with(&how, "test", "both.pegapack", "--allow-ptx", "--json"), 1);
  assert_true(json_is_false(json_at(object, "ok")));
  assert_int_equal(json_integer_value(json_at(object, "passed")), 1);
  assert_int_equal(json_integer_value(json_at(object, "failed")), 1);
  assert_int_equal(json_integer_value(json_at(object, "results.1.mismatches")), 4);
  assert_true(json_real_value(json_at(object, "results.1.max_error")) == 1.0);
  assert_string_equal(json_text_at(object, "error.status"), "CALLEE");
  assert_int_equal(json_array_size(json_at(object, "not_run")), 0);
  json_decref(object);
}

/* Where NaN is wanted the error is no number, and JSON has no infinity. */
static void test_numbers(void **state) {
  (void)state;
  const run_how how = {fake, NULL};
  set_machine("cc=9.0");
  expect(run_with(&how, "test", "nans.pegapack", "--allow-ptx"), 1,
         "x: 4 elements, 4 out of tolerance, max error not finite (a NaN or an infinity), "
         "tolerance 0.5\n",
         "4 of 4 elements of 'x' are off");
  expect(run_with(&how, "test", "nans.pegapack", "--allow-ptx"), 1,
         "max error 0, tolerance 0.5 + 0.25 * |expected|\n", "t.nans");
  json_t *object = expect_json(run_with(&how, "test", "nans.pegapack", "--allow-ptx", "--json"), 1);
  assert_true(json_is_null(json_at(object, "results.0.max_error")));
  assert_true(json_is_true(json_at(object, "results.0.not_finite")));
  assert_true(json_real_value(json_at(object, "results.0.relative_tolerance")) == 0.0);
  assert_true(json_is_real(json_at(object, "results.1.max_error")));
  assert_true(json_is_false(json_at(object, "results.1.not_finite")));
  assert_true(json_real_value(json_at(object, "results.1.relative_tolerance")) == 0.25);
  json_decref(object);
}

/* The kernels of the fake driver do nothing: what the pack in the library is to write is not there. */
static void test_embedded(void **state) {
  (void)state;
  const run_how how = {fake, NULL};
  set_machine("cc=9.0");
  if (pega_pack_embedded(NULL) == NULL) {
    expect(run_with(&how, "test", "--embedded"), 1, NULL, "libpega has no pack of its own");
    /* A built-in that lacks its kernel: said in the command line's words. */
    expect(run_with(&how, "call", SOLVE_RAW, "0x10000", "0x20000", "4", "1", "0"), 1, NULL,
           "; name a pack in PEGA_PACK_PATH\n");
  } else {
    run_result result = run_with(&how, "test", "--embedded", "--json");
    json_t *object = expect_json(result, 1);
    assert_string_equal(json_text_at(object, "path"), "the pack in libpega");
    assert_string_equal(json_text_at(object, "device"), "cuda:0");
    json_decref(object);
  }
}

/* Nothing fits the device: what was to be compared is named, and so is why it was not. */
static void test_not_run(void **state) {
  (void)state;
  const run_how how = {fake, NULL};
  set_machine("cc=7.5");
  run_result result = run_with(&how, "test", "both.pegapack", "--allow-ptx");
  assert_non_null(strstr(result.out, "NOT RUN t.wrong, \"changes\", x\n"));
  assert_non_null(strstr(result.out, "cuda:0: 0 of 2 outputs agree, 2 not run\n"));
  expect(result, 1, "NOT RUN t.keep, \"stays\", x\n", "t.keep");
  json_t *object = expect_json(run_with(&how, "test", "both.pegapack", "--allow-ptx", "--json"), 1);
  assert_string_equal(json_text_at(object, "not_run.1.function"), "t.wrong");
  assert_string_equal(json_text_at(object, "error.status"), "NOT_FOUND");
  json_decref(object);
  /* PTX is compiled only where that is asked for. */
  set_machine("cc=9.0");
  expect(run_with(&how, "test", "good.pegapack"), 1, "1 not run", "--allow-ptx lets it");
}

static void test_fails(void **state) {
  (void)state;
  const run_how how = {fake, NULL};
  set_machine("devices=2");
  expect(run_with(&how, "test", "tensor.pegapack", "--allow-ptx"), 1, "0 of 0 outputs agree",
         "no golden case");
  expect(run_with(&how, "test", "good.pegapack", "-d", "2"), 1, NULL, "here cuda:2");
  set_machine("devices=0");
  expect(run_with(&how, "test", "good.pegapack"), 1, NULL, "it can use");
  set_machine("driver=11000");
  expect_error(run_with(&how, "test", "good.pegapack", "--json"), 1, "VERSION", "RuntimeError",
               "update the driver");
}

static void test_explain(void **state) {
  (void)state;
  const run_how how = {fake, NULL};
  set_machine("devices=2,cc=8.9");
  expect(run_with(&how, "explain", "t.keep", "-d", "1", "-p", "good.pegapack", "--allow-ptx"), 0,
         "t.keep for cuda:1, pack small (good.pegapack)\n", NULL);
  expect(run_with(&how, "explain", "t.keep", "-d", "1", "-p", "good.pegapack", "--allow-ptx"), 0,
         "  0        sm_80   keep   yes    ", NULL);
  expect(run_with(&how, "explain", "t.keep", "-d", "2", "-p", "good.pegapack"), 1, NULL, "cuda:2");
}

static void test_call(void **state) {
  (void)state;
  const run_how how = {fake, NULL};
  set_machine("cc=9.0");
  expect(run_with(&how, "call", "t.keep", "0x1000", "4", "0", "-p", "good.pegapack", "--allow-ptx"),
         1, NULL, "expected the address of memory on a GPU");
  expect(run_with(&how, "call", "t.tensor", "zeros:float32[2,4]", "-p", "tensor.pegapack",
                  "--allow-ptx"),
         1, NULL, "expected a tensor on a GPU");
  /* What needs no memory is launched. */
  expect(run_with(&how, "call", "t.numbers", "3", "0", "-p", "numbers.pegapack", "--allow-ptx"), 0,
         "None\n", NULL);
  expect(run_with(&how, "call", "t.numbers", "5000000000", "0", "-p", "numbers.pegapack",
                  "--allow-ptx"),
         1, NULL, "nothing was launched");
  expect(run_with(&how, "call", "t.numbers", "3", "0", "-p", "numbers.pegapack"), 1, NULL, "PTX");
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_agrees),  cmocka_unit_test(test_differs),
      cmocka_unit_test(test_not_run), cmocka_unit_test(test_fails),
      cmocka_unit_test(test_explain), cmocka_unit_test(test_call),
      cmocka_unit_test(test_numbers), cmocka_unit_test(test_embedded),
  };
  static const pack_text good = {"", PACK_KEEP};
  static const pack_text both = {"", PACK_KEEP "," PACK_WRONG};
  static const pack_text tensor = {"", PACK_TENSOR};
  static const pack_text nans = {"", PACK_NANS "," PACK_RELATIVE};
  static const pack_text numbers = {"", PACK_NUMBERS};
  set_pega_path(argc, argv);
  if (argc < 3) {
    (void)puts("SKIP: this build has no fake driver (src/fake_driver)");
    free(pega_path);
    return 77;
  }
  fake = library_path(argv[2]);
  (void)unsetenv("PEGA_PACK_PATH");
  enter_folder();
  write_pack_file("good.pegapack", &good);
  write_pack_file("both.pegapack", &both);
  write_pack_file("tensor.pegapack", &tensor);
  write_pack_file("numbers.pegapack", &numbers);
  write_pack_file("nans.pegapack", &nans);
  const int failed = cmocka_run_group_tests_name("cli.pack_device", tests, NULL, NULL);
  leave_folder();
  free(fake);
  free(pega_path);
  return failed;
}
