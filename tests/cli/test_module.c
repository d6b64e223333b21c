/* SPDX-License-Identifier: Apache-2.0 */
/* The command line on functions of TVM FFI: a module's, and the runtime's globals. */
#include "support.h"

/* The module, by its absolute path. */
static char *module;

/* Runs a command with --module behind its words. */
#define run_module(...) run(__VA_ARGS__, "--module", module)

static void test_list(void **state) {
  (void)state;
  expect(run_module("list"), 0, "\nadd_one(...)\n", NULL);
  json_t *object = expect_json(run_module("list", "--json"), 0);
  json_t *functions = json_at(object, "functions");
  bool found = false;
  for (size_t i = 0; i < json_array_size(functions); ++i) {
    json_t *item = json_array_get(functions, i);
    assert_string_equal(json_text_at(item, "from"), "module");
    assert_non_null(json_text_at(item, "signature"));
    found = found || strcmp(json_text_at(item, "name"), "add") == 0;
  }
  assert_true(found);
  json_decref(object);
  expect(run_module("info", "add"), 0,
         "\nIt does not tell pega its parameters, and checks its arguments itself.\n", NULL);
  object = expect_json(run_module("info", "add", "--json"), 0);
  assert_string_equal(json_text_at(object, "from"), "module");
  assert_true(json_is_null(json_at(object, "params")));
  json_decref(object);
}

static void test_values(void **state) {
  (void)state;
  expect(run_module("call", "add", "1", "2"), 0, "3\n", NULL);
  expect(run_module("call", "add", "-5", "0x10"), 0, "11\n", NULL);
  expect(run_module("call", "identity", "-2.5"), 0, "-2.5\n", NULL);
  expect(run_module("call", "identity", "true"), 0, "true\n", NULL);
  expect(run_module("call", "identity", "none"), 0, "None\n", NULL);
  expect(run_module("call", "identity", "str:a text of some length"), 0,
         "\"a text of some length\"\n", NULL);
  expect(run_module("call", "identity", "dtype:bfloat16"), 0, "bfloat16\n", NULL);
  expect(run_module("call", "identity", "device:cuda:1"), 0, "cuda:1\n", NULL);
  expect(run_module("call", "identity", "ptr:0x10"), 0, "pointer 0x10\n", NULL);
  /* The function keeps what it is given: no bare DLTensor will do. */
  expect(run_module("call", "identity", "zeros:float32[2]"), 0,
         "result = float32[2] on cpu:0: 0, 0\n", NULL);
  expect(run_module("call", "text_size", "bytes:00ff10"), 0, "3\n", NULL);
  json_t *object = expect_json(run_module("call", "add", "1", "2", "--json"), 0);
  assert_string_equal(json_text_at(object, "result.kind"), "int");
  assert_int_equal(json_integer_value(json_at(object, "result.value")), 3);
  assert_int_equal(json_array_size(json_at(object, "outputs")), 0);
  json_decref(object);
  object = expect_json(run_module("call", "make_array", "1", "str:x", "--json"), 0);
  assert_string_equal(json_text_at(object, "result.kind"), "array");
  assert_int_equal(json_integer_value(json_at(object, "result.items.0.value")), 1);
  assert_string_equal(json_text_at(object, "result.items.1.value"), "x");
  json_decref(object);
  object = expect_json(run_module("call", "make_map", "str:k", "2.5", "--json"), 0);
  assert_string_equal(json_text_at(object, "result.items.0.0.value"), "k");
  assert_true(json_real_value(json_at(object, "result.items.0.1.value")) == 2.5);
  json_decref(object);
}

/* Compares the floats at the end of a file. */
static void expect_floats(const char *path, const char *header, const float *expected,
                          size_t count) {
  size_t size = 0;
  char *bytes = read_whole_file(path, &size);
  assert_memory_equal(bytes + 8, header, strlen(header));
  assert_memory_equal(bytes + size - count * sizeof *expected, expected, count * sizeof *expected);
  free(bytes);
}

static void test_tensors(void **state) {
  (void)state;
  static const float two_to_four[3] = {2, 3, 4};
  static const float zero_to_two[3] = {0, 1, 2};
  /* 1, 2, 3 as float32, little-endian. */
  static const char input[] =
      "\x37\0\0\0\0\0\0\0"
      "{\"x\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}}"
      "\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40";
  write_file("x.safetensors", input, sizeof input - 1);
  /* Without a signature a new tensor is an output, and one of a file is not. */
  expect(
      run_module("call", "add_one", "@x.safetensors:x", "zeros:float32[3]", "-o", "y.safetensors"),
      0, "arg1 = float32[3] on cpu:0: 2, 3, 4\nwritten to y.safetensors\n", NULL);
  expect_floats("y.safetensors",
                "{\"arg1\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}}", two_to_four,
                3);
  expect(run_module("call", "make_tensor", "3", "-o", "z.safetensors"), 0,
         "result = float32[3] on cpu:0: 0, 1, 2\n", NULL);
  expect_floats("z.safetensors",
                "{\"result\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}}",
                zero_to_two, 3);
  const int before = count_files("");
  expect(
      run_module("call", "add_one", "@x.safetensors:x", "zeros:float32[4]", "-o", "w.safetensors"),
      1, NULL, "ValueError: add_one: the two vectors differ in length");
  expect(run_module("call", "add", "1", "2", "-o", "w.safetensors"), 1, NULL,
         "nothing to write: the call of add has no output tensor");
  assert_int_equal(count_files(""), before);
}

static void test_errors(void **state) {
  (void)state;
  expect(run_module("call", "add", "true", "2"), 1, NULL,
         "pega: TypeError: add: expected two integers");
  expect_error(run_module("call", "add", "1", "--json"), 1, "CALLEE", "TypeError",
               "add: expected 2 arguments");
  expect_error(run_module("call", "raise", "str:KeyError", "str:nothing there", "--json"), 1,
               "CALLEE", "KeyError", "nothing there");
  expect(run_module("call", "raise", "str:Odd", "str:\x1b[2Jgone"), 1, NULL, "Odd: \\x1b[2Jgone");
  run_result result = run_module("call", "raise_chain", "2", "--json");
  json_t *object = expect_json(result, 1);
  if (strcmp(json_text_at(object, "error.kind"), "NotImplementedError") != 0) {
    assert_string_equal(json_text_at(object, "error.message"), "level 0");
    assert_string_equal(json_text_at(object, "error.cause.message"), "level 1");
    assert_string_equal(json_text_at(object, "error.cause.cause.message"), "level 2");
    expect(run_module("call", "raise_chain", "1"), 1, NULL, "caused by: ");
  }
  json_decref(object);
}

/* The module calls the engine's functions: one that it is given, and one by its global name. */
static void test_callbacks(void **state) {
  (void)state;
  expect(run_module("call", "apply", "fn:" SOLVE_RAW, "16", "4096", "0", "1", "0"), 0, "None\n",
         NULL);
  expect(run_module("call", "apply", "fn:" SOLVE_RAW, "16", "4096", "-1", "1", "0"), 1, NULL,
         "argument 2 'seq_len'");
  expect(run_module("call", "call_global", "str:" SOLVE_RAW, "16", "4096", "0", "1", "0"), 0,
         "None\n", NULL);
}

static void test_not_there(void **state) {
  (void)state;
  expect(run_module("call", "ad_one"), 1, NULL, "add_one");
  expect_error(run_module("info", "nothing_here", "--json"), 1, "NOT_FOUND", "KeyError",
               "nothing_here");
  /* A module's functions are looked for in the module alone. */
  expect_error(run_module("info", SOLVE, "--json"), 1, "NOT_FOUND", "KeyError", SOLVE);
  write_file("text.so", "this is no library\n", 19);
  expect(run("list", "--module", "text.so"), 1, NULL, "text.so");
  expect(run("list", "--module", "none.so"), 1, NULL, "none.so");
  expect(run("list", "--module", "."), 1, NULL, "pega: ");
  expect(run("list", "--tvm-ffi=text.so"), 1, NULL, "text.so");
}

static void test_globals(void **state) {
  (void)state;
  expect(run("list", "--tvm-ffi"), 0, "\nffi.Array(...)\n", NULL);
  json_t *object = expect_json(run("list", "--tvm-ffi", "--json"), 0);
  json_t *functions = json_at(object, "functions");
  int registry = 0;
  int global = 0;
  int solves = 0;
  for (size_t i = 0; i < json_array_size(functions); ++i) {
    json_t *item = json_array_get(functions, i);
    registry += strcmp(json_text_at(item, "from"), "registry") == 0;
    global += strcmp(json_text_at(item, "from"), "global") == 0;
    solves += strcmp(json_text_at(item, "name"), SOLVE) == 0;
  }
  assert_true(registry >= 2);
  assert_true(global > 10);
  assert_int_equal(solves, 1);
  json_decref(object);
  expect(run("call", "--tvm-ffi", "ffi.Array", "1", "2"), 0, "[1, 2]\n", NULL);
  expect(run("call", "ffi.Array", "1", "2"), 1, NULL, "no function 'ffi.Array'");
  expect(run("info", "--tvm-ffi", "ffi.Array"), 0, "ffi.Array (global)\n", NULL);
}

static void test_doctor(void **state) {
  (void)state;
  json_t *object = expect_json(run("doctor", "--json"), 0);
  assert_true(json_is_true(json_at(object, "tvm_ffi.bridge")));
  assert_true(json_is_true(json_at(object, "tvm_ffi.runtime")));
  const char *path = json_text_at(object, "tvm_ffi.path");
  assert_true(strlen(json_text_at(object, "tvm_ffi.found_by")) > 0);
  assert_memory_equal(json_text_at(object, "tvm_ffi.reported_version"), "0.1.", 4);
  assert_int_equal(json_integer_value(json_at(object, "tvm_ffi.copies")), 1);
  assert_non_null(strstr(json_text_at(object, "tvm_ffi.search"), path));
  json_t *chosen = expect_json(run("doctor", "--tvm-ffi", path, "--json"), 0);
  assert_string_equal(json_text_at(chosen, "tvm_ffi.path"), path);
  assert_string_equal(json_text_at(chosen, "tvm_ffi.found_by"), "the command line");
  json_decref(chosen);
  json_decref(object);
  /* What was chosen and is not there is broken, wherever the choice was made. */
  expect(run("doctor", "--tvm-ffi", "/none/libtvm_ffi.so"), 1, "/none/libtvm_ffi.so", NULL);
  const run_how how = {"PEGA_TVM_FFI_LIBRARY=/none/libtvm_ffi.so", NULL};
  expect(run_with(&how, "doctor"), 1, "broken: ", NULL);
}

static void test_bench(void **state) {
  (void)state;
  json_t *object = expect_json(run("bench", "call", "--batches", "3", "--json", "-"), 0);
  const json_t *rows = json_at(object, "rows");
  assert_int_equal(json_array_size(rows), 10);
  for (size_t i = 0; i < 10; ++i) assert_non_null(json_at(json_array_get(rows, i), "median"));
  assert_string_equal(json_text_at(object, "rows.0.by"), "tvm-ffi");
  assert_true(json_real_value(json_at(object, "rows.0.ratio")) == 1.0);
  json_decref(object);
  expect(run("bench", "call", "--tvm-ffi", "/none/libtvm_ffi.so"), 1,
         "left out: call: ", "/none/libtvm_ffi.so");
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_list),      cmocka_unit_test(test_values),
      cmocka_unit_test(test_tensors),   cmocka_unit_test(test_errors),
      cmocka_unit_test(test_callbacks), cmocka_unit_test(test_not_there),
      cmocka_unit_test(test_globals),   cmocka_unit_test(test_doctor),
      cmocka_unit_test(test_bench),
  };
  set_pega_path(argc, argv);
  module = argc > 2 ? realpath(argv[2], NULL) : NULL;
  if (module == NULL) {
    (void)fprintf(stderr, "usage: %s PEGA MODULE\n", argv[0]);
    return 2;
  }
  enter_folder();
  const int failed = cmocka_run_group_tests_name("cli.module", tests, NULL, NULL);
  leave_folder();
  free(module);
  free(pega_path);
  return failed;
}
