/* SPDX-License-Identifier: Apache-2.0 */
/* `pega call` on the functions that every build has. */
#include <sys/stat.h>

#include "support.h"

enum { ROWS = 65, HEADS = 2, CHUNK = 64 };

/* A with one element in each of the two heads: row 1, column 0 is head + 0.5. NaN above the
 * diagonal, where nothing may be read. */
static void write_input(void) {
  char header[256];
  const size_t count = (size_t)ROWS * HEADS * CHUNK;
  const int size = snprintf(header, sizeof header,
                            "{\"a_tril\":{\"dtype\":\"F32\",\"shape\":[%d,%d,%d],\"data_offsets\":"
                            "[0,%zu]}}",
                            (int)ROWS, (int)HEADS, (int)CHUNK, count * sizeof(float));
  char *bytes = calloc(1, 8 + (size_t)size + count * sizeof(float));
  assert_non_null(bytes);
  bytes[0] = (char)size;
  memcpy(bytes + 8, header, (size_t)size);
  for (int row = 0; row < ROWS; ++row) {
    for (int head = 0; head < HEADS; ++head) {
      for (int column = 0; column < CHUNK; ++column) {
        const uint32_t nan = 0x7fc00000;
        float value = 0;
        if (column >= row % CHUNK) memcpy(&value, &nan, sizeof value);
        if (row == 1 && column == 0) value = (float)head + 0.5F;
        const size_t at = ((size_t)row * HEADS + (size_t)head) * CHUNK + (size_t)column;
        memcpy(bytes + 8 + (size_t)size + at * sizeof value, &value, sizeof value);
      }
    }
  }
  write_file("in.safetensors", bytes, 8 + (size_t)size + count * sizeof(float));
  free(bytes);
}

static void test_solve(void **state) {
  (void)state;
  size_t size = 0;
  static const char header[] =
      "{\"a_inv\":{\"dtype\":\"BF16\",\"shape\":[65,2,64],\"data_offsets\":[0,16640]}}";
  expect(run("call", SOLVE, "@in.safetensors:a_tril", "zeros:bfloat16[65,2,64]", "-o",
             "out.safetensors"),
         0, "a_inv = bfloat16[65, 2, 64] on cpu:0: 1, 0, 0, 0, 0, 0, 0, 0, ...\n", NULL);
  char *bytes = read_whole_file("out.safetensors", &size);
  assert_memory_equal(bytes + 8, header, strlen(header));
  const uint16_t *inverse = (const uint16_t *)(const void *)(bytes + size - 16640);
  for (size_t i = 0; i < 16640 / 2; ++i) {
    const size_t row = i / (HEADS * CHUNK);
    const size_t head = i / CHUNK % HEADS;
    const size_t column = i % CHUNK;
    uint16_t expected = row % CHUNK == column ? 0x3f80 : 0;
    if (row == 1 && column == 0) expected = head == 0 ? 0xbf00 : 0xbfc0;
    /* Below the diagonal a zero may have either sign. */
    if (column < row % CHUNK && inverse[i] == 0x8000) continue;
    assert_int_equal(inverse[i], expected);
  }
  free(bytes);
  /* The only tensor of a file needs no name; options may stand first. */
  json_t *object = expect_json(run("call", "--json", "-o", "out.safetensors", SOLVE,
                                   "@in.safetensors", "zeros:bfloat16[65,2,64]"),
                               0);
  assert_string_equal(json_text_at(object, "function"), SOLVE);
  assert_string_equal(json_text_at(object, "result.kind"), "none");
  assert_string_equal(json_text_at(object, "outputs.0.name"), "a_inv");
  assert_string_equal(json_text_at(object, "outputs.0.dtype"), "bfloat16");
  assert_int_equal(json_integer_value(json_at(object, "outputs.0.shape.1")), 2);
  assert_string_equal(json_text_at(object, "file"), "out.safetensors");
  json_decref(object);
}

/* An output parameter may be a tensor of a file: the file is not written, the copy is. */
static void test_output_from_file(void **state) {
  (void)state;
  size_t before = 0;
  size_t after = 0;
  char *first = read_whole_file("out.safetensors", &before);
  expect(run("call", SOLVE, "@in.safetensors:a_tril", "@out.safetensors:a_inv", "-o",
             "again.safetensors"),
         0, "written to again.safetensors", NULL);
  char *second = read_whole_file("again.safetensors", &after);
  assert_int_equal(before, after);
  assert_memory_equal(first, second, before);
  free(second);
  second = read_whole_file("out.safetensors", &after);
  assert_memory_equal(first, second, before);
  free(first);
  free(second);
}

static void test_nothing_left(void **state) {
  (void)state;
  const int before = count_files("");
  expect(run("call", SOLVE, "@in.safetensors", "zeros:bfloat16[65,2,63]", "-o", "new.safetensors"),
         1, NULL, "argument 1 'a_inv': expected shape (T, HV, 64), got (65, 2, 63)");
  expect(run("call", SOLVE, "@in.safetensors", "zeros:bfloat16[64,2,64]", "-o", "new.safetensors"),
         1, NULL, "T = 65 as in argument 0");
  expect(run("call", SOLVE, "@in.safetensors", "zeros:float16[65,2,64]", "-o", "new.safetensors"),
         1, NULL, "expected dtype bfloat16, got float16");
  expect(run("call", SOLVE, "@in.safetensors", "-o", "new.safetensors"), 1, NULL,
         "expected 2 arguments, got 1");
  expect(
      run("call", SOLVE, "@in.safetensors:x", "zeros:bfloat16[65,2,64]", "-o", "new.safetensors"),
      1, NULL, "argument 0 'a_tril': \"in.safetensors\": no tensor \"x\": it holds 1: \"a_tril\"");
  expect(
      run("call", SOLVE, "@none.safetensors:x", "zeros:bfloat16[65,2,64]", "-o", "new.safetensors"),
      1, NULL, "\"none.safetensors\": cannot open: No such file");
  expect(run("call", SOLVE, "@.", "zeros:bfloat16[65,2,64]", "-o", "new.safetensors"), 1, NULL,
         "got a directory");
  expect(run("call", SOLVE_RAW, "16", "0x1000", "0", "1", "0", "-o", "new.safetensors"), 1, NULL,
         "nothing to write: the call of " SOLVE_RAW " has no output tensor");
  expect(run("call", SOLVE, "@in.safetensors", "zeros:bfloat16[65,2,64]", "-o", "."), 1, NULL,
         "it exists and is no regular file");
  expect(run("call", SOLVE, "@in.safetensors", "zeros:bfloat16[65,2,64]", "-o", "no/new"), 1, NULL,
         "\"no/new\": cannot write: No such file");
  /* Where nothing can be written, nothing is even looked up. */
  expect(run("call", "nothing", "-o", "no/new"), 1, NULL, "\"no/new\": cannot write: No such file");
  assert_int_equal(mkfifo("fifo.safetensors", 0600), 0);
  expect(run("call", SOLVE, "@fifo.safetensors", "zeros:bfloat16[65,2,64]"), 1, NULL, "got a FIFO");
  assert_int_equal(remove("fifo.safetensors"), 0);
  assert_int_equal(count_files(""), before);
}

/* The raw form takes every kind of scalar, and checks each before it looks for a GPU. */
static void test_scalars(void **state) {
  (void)state;
  expect(run("call", SOLVE_RAW, "16", "0x1000", "0", "1", "0"), 0, "None\n", NULL);
  expect(run("call", SOLVE_RAW, "ptr:0x10", "ptr:4096", "+5", "0", "ptr:0"), 0, "None\n", NULL);
  expect(run("call", SOLVE_RAW, "16", "4096", "-5", "0", "0"), 1, NULL,
         "argument 2 'seq_len': expected a value from 0 to 2147483647, got int -5");
  expect(run("call", SOLVE_RAW, "16", "4096", "2147483648", "0", "0"), 1, NULL,
         "got int 2147483648");
  expect(run("call", SOLVE_RAW, "16", "4096", "18446744073709551615", "0", "0"), 1, NULL,
         "got uint 18446744073709551615");
  expect(run("call", SOLVE_RAW, "16", "4096", "18446744073709551616", "0", "0"), 2, NULL,
         "argument 2 'seq_len': an integer of more than 64 bits");
  expect(run("call", SOLVE_RAW, "16", "4096", "2.5", "0", "0"), 1, NULL, "got float 2.5");
  expect(run("call", SOLVE_RAW, "16", "4096", "-.5", "0", "0"), 1, NULL, "got float -0.5");
  expect(run("call", SOLVE_RAW, "16", "4096", "true", "0", "0"), 1, NULL, "got bool");
  expect(run("call", SOLVE_RAW, "none", "4096", "1", "0", "0"), 1, NULL, "got None");
  expect(run("call", SOLVE_RAW, "str:16", "4096", "1", "0", "0"), 1, NULL, "got string \"16\"");
  expect(run("call", SOLVE_RAW, "bytes:3136", "4096", "1", "0", "0"), 1, NULL, "got bytes");
  expect(run("call", SOLVE_RAW, "dtype:bfloat16", "4096", "1", "0", "0"), 1, NULL,
         "got dtype bfloat16");
  expect(run("call", SOLVE_RAW, "device:cuda:3", "4096", "1", "0", "0"), 1, NULL,
         "got device cuda:3");
  expect(run("call", SOLVE_RAW, "fn:" SOLVE, "4096", "1", "0", "0"), 1, NULL, "got function");
  expect(run("call", SOLVE_RAW, "zeros:float32[]", "4096", "1", "0", "0"), 1, NULL, "got tensor");
  expect(run("call", SOLVE_RAW, "0", "4096", "1", "0", "0"), 1, NULL, "that is not NULL, got NULL");
  expect(run("call", SOLVE_RAW, "-16", "4096", "1", "0", "0"), 1, NULL, "got int -16");
  expect(run("call", SOLVE_RAW, "16", "4096", "1", "0", "0", "9"), 1, NULL,
         "expected 5 arguments, got 6");
  expect(run("call", SOLVE_RAW, "--", "16", "4096", "-1", "0", "0"), 1, NULL, "got int -1");
}

static void test_bad_words(void **state) {
  (void)state;
  expect(run("call", SOLVE_RAW, "word", "4096", "1", "0", "0"), 2, NULL,
         "argument 0 'a_tril_ptr': expected a value of type pointer, got \"word\"");
  expect(run("call", SOLVE_RAW, "16", "4096", "1x", "0", "0"), 2, NULL, "type int, got \"1x\"");
  expect(run("call", SOLVE_RAW, "16", "4096", "", "0", "0"), 2, NULL, "type int, got \"\"");
  expect(run("call", SOLVE_RAW, "16", "4096", " 1", "0", "0"), 2, NULL, "type int, got \" 1\"");
  expect(run("call", SOLVE_RAW, "16", "4096", "0x", "0", "0"), 2, NULL, "type int, got \"0x\"");
  expect(run("call", SOLVE, "word", "zeros:bfloat16[65,2,64]"), 2, NULL,
         "expected a tensor, @FILE:TENSOR or zeros:DTYPE[SIZES], got \"word\"");
  expect(run("call", SOLVE_RAW, "1", "2", "3", "4", "5", "word"), 2, NULL,
         "argument 5: cannot tell what \"word\" is: a string is written str:word");
  expect(run("call", SOLVE_RAW, "ptr:x"), 2, NULL, "expected an address like ptr:0x10, got \"x\"");
  expect(run("call", SOLVE_RAW, "ptr:-1"), 2, NULL, "got \"-1\"");
  expect(run("call", SOLVE_RAW, "bytes:0"), 2, NULL, "two hexadecimal digits for each byte");
  expect(run("call", SOLVE_RAW, "bytes:zz"), 2, NULL, "two hexadecimal digits for each byte");
  expect(run("call", SOLVE_RAW, "dtype:quux"), 2, NULL, "quux");
  expect(run("call", SOLVE_RAW, "device:moon"), 2, NULL, "moon");
  expect(run("call", SOLVE_RAW, "fn:nothing"), 1, NULL, "argument 0 'a_tril_ptr': no function");
  expect(run("call", SOLVE, "zeros:float32"), 2, NULL, "expected an element type and sizes");
  expect(run("call", SOLVE, "zeros:float32[1"), 2, NULL, "expected sizes like [128,2,64]");
  expect(run("call", SOLVE, "zeros:float32[1,]"), 2, NULL, "got \"[1,]\"");
  expect(run("call", SOLVE, "zeros:float32[,1]"), 2, NULL, "got \"[,1]\"");
  expect(run("call", SOLVE, "zeros:float32[1]x"), 2, NULL, "got \"[1]x\"");
  expect(run("call", SOLVE, "zeros:float32[-1]"), 2, NULL, "got \"[-1]\"");
  expect(run("call", SOLVE, "zeros:float32[1 ,2]"), 2, NULL, "expected sizes like");
  expect(run("call", SOLVE, "zeros:float32[99999999999999999999]"), 2, NULL, "expected sizes like");
  expect(run("call", SOLVE, "zeros:float32[4294967296,4294967296]"), 2, NULL, "2^63 - 1 bytes");
  expect(run("call", SOLVE, "zeros:float32[1099511627776]"), 1, NULL, "this machine has");
  expect(run("call", SOLVE,
             "zeros:int8[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]"),
         2, NULL, "at most 32 dimensions");
  expect_error(run("call", SOLVE, "word", "--json"), 2, "INVALID_ARGUMENT", "ValueError", "word");
  expect_error(run("call", SOLVE, "zeros:float32[1,2,3]", "--json"), 1, "ARGUMENT_COUNT",
               "TypeError", "expected 2 arguments, got 1");
}

/* Where there is no driver, and the arguments are right, the error says so. */
static void test_no_driver(void **state) {
  (void)state;
  run_result result = run("call", SOLVE_RAW, "16", "0x1000", "1", "1", "0", "--json");
  if (strstr(result.out, "libcuda.so.1 could not be opened") == NULL) {
    print_message("SKIP: this machine has a CUDA driver\n");
    run_free(&result);
    skip();
  }
  expect_error(result, 1, "UNAVAILABLE", "RuntimeError", "nothing was launched: no CUDA driver");
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_solve),        cmocka_unit_test(test_output_from_file),
      cmocka_unit_test(test_nothing_left), cmocka_unit_test(test_scalars),
      cmocka_unit_test(test_bad_words),    cmocka_unit_test(test_no_driver),
  };
  set_pega_path(argc, argv);
  enter_folder();
  write_input();
  const int failed = cmocka_run_group_tests_name("cli.call", tests, NULL, NULL);
  leave_folder();
  free(pega_path);
  return failed;
}
