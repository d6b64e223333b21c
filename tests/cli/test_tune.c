/* SPDX-License-Identifier: Apache-2.0 */
/* `pega tune`: on the CPU, and on the fake driver, where times mean nothing. What is measured is not
 * looked at here, but that the table is one, is used, and is judged. */
#include <unistd.h>

#include "support.h"

#define PREFILL "pegainfer.qwen35.gated_delta_rule_prefill"

static char *fake;              /* LD_LIBRARY_PATH=... */
static const char *kernel_pack; /* or NULL */

static int64_t rows_of(const char *path) {
  json_t *table = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
  assert_non_null(table);
  json_t *rows = json_object_get(table, "rows");
  for (size_t i = 0; i < json_array_size(rows); ++i) {
    double before = 0;
    const char *key;
    json_t *us;
    json_object_foreach(json_object_get(json_array_get(rows, i), "us"), key, us) {
      assert_true(json_number_value(us) >= before); /* the fastest first */
      before = json_number_value(us);
      assert_non_null(json_object_get(json_object_get(json_array_get(rows, i), "low"), key));
    }
    assert_true(before > 0);
  }
  const int64_t count = (int64_t)json_array_size(rows);
  json_decref(table);
  return count;
}

static void test_cpu(void **state) {
  (void)state;
  expect(run("tune", "--device", "cpu", "--quick", "--heads", "1:2", "--tokens", "64,1,64", "-o",
             "cpu.json"),
         0, "written to cpu.json; PEGA_CHOICES names it", NULL);
  assert_true(rows_of("cpu.json") >= 2);
  assert_int_equal(count_files("cpu.json"), 1); /* and nothing beside it */
  json_t *table = json_load_file("cpu.json", 0, NULL);
  assert_string_equal(
      json_text_at(table, "command"),
      "pega tune --quick --device cpu --heads 1:2 --tokens 64,1,64 --output cpu.json");
  json_decref(table);
  const run_how how = {"PEGA_CHOICES=cpu.json", NULL};
  run_result result = run_with(&how, "explain", PREFILL, "64", "1", "1", "2");
  assert_non_null(
      strstr(result.out, "The one with the shortest time is taken, by cpu.json, rows "));
  assert_non_null(strstr(result.out, ": HK = 1, HV = 2, N = 1 of 64 tokens: cpu_"));
  expect(result, 0, "the shortest time", NULL);
  json_t *object =
      expect_json(run_with(&how, "explain", PREFILL, "64", "1", "1", "2", "--json"), 0);
  assert_string_equal(json_text_at(object, "implementations.0.table"), "cpu.json");
  assert_true(json_is_real(json_at(object, "implementations.0.us")) ||
              json_is_real(json_at(object, "implementations.1.us")));
  assert_true(json_is_null(json_at(object, "implementations.3.us")));
  json_decref(object);
  expect(run("explain", PREFILL, "64"), 0, "No table of measured times knows of such a call", NULL);
  object = expect_json(run("tune", "--device", "cpu", "--quick", "--heads", "1:2", "--tokens", "1",
                           "--sequences", "2,1,2", "--json"),
                       0);
  assert_int_equal(json_array_size(json_at(object, "table.rows")), 2);
  assert_string_equal(json_text_at(object, "table.device.target"), "cpu");
  assert_string_equal(json_text_at(object, "table.how"), "wall");
  assert_int_equal(json_integer_value(json_at(object, "before.sizes")), 2);
  json_decref(object);
  /* What was taken, and how it compares; whether it was fast is the machine's affair. */
  result = run("tune", "--device", "cpu", "--check", "cpu.json", "--seed", "7", "--points", "3");
  assert_true(result.code == 0 || result.code == 1);
  assert_non_null(strstr(result.out, " of 3 choices more than 3 % slower than the fastest"));
  assert_non_null(strstr(result.out, "; seed 7"));
  run_free(&result);
}

/* A table that is wrong is followed; what is said of it and the exit code agree with what was measured, which
 * is the machine's affair. */
static void test_check(void **state) {
  (void)state;
  static const char wrong[] =
      "{\"schema_version\": 1, \"function\": \"" PREFILL
      "\", \"device\": {\"target\": \"cpu\"}, \"rows\": [{\"key_heads\": 4, \"value_heads\": 8, "
      "\"sequences\": 1, \"tokens\": 400, \"us\": {\"cpu_recurrent\": 1, \"cpu_chunked\": 2}}, "
      "{\"key_heads\": 4, \"value_heads\": 8, \"sequences\": 1, \"tokens\": 1, \"us\": "
      "{\"cpu_recurrent\": 1, \"cpu_chunked\": 2}}]}";
  write_file("wrong.json", wrong, sizeof wrong - 1);
  run_result result = run("tune", "--device", "cpu", "--check", "wrong.json", "--points", "10",
                          "--seed", "1", "--json");
  const int code = result.code;
  json_t *object = expect_json(result, code);
  json_int_t slow = 0;
  int twice = 0;
  for (size_t i = 0; i < json_array_size(json_at(object, "sizes")); ++i) {
    json_t *row = json_array_get(json_at(object, "sizes"), i);
    assert_string_equal(json_text_at(row, "taken"), "cpu_recurrent");
    assert_int_equal(json_integer_value(json_object_get(row, "sequences")), 1);
    assert_true(json_integer_value(json_object_get(row, "tokens")) <= 400);
    const double slower = json_number_value(json_object_get(row, "slower"));
    assert_true(json_number_value(json_object_get(row, "slower_p10")) <= slower);
    assert_true(json_number_value(json_object_get(row, "slower_p90")) >= slower);
    if (strcmp(json_text_at(row, "fastest"), "cpu_recurrent") == 0) assert_true(slower == 0);
    if (slower > 0.03) ++slow;
    /* What is too slow was measured twice; some others were. */
    const json_int_t times = json_integer_value(json_object_get(row, "measured"));
    if (slower > 0.03) assert_int_equal(times, 2);
    if (times == 2) ++twice;
  }
  assert_int_equal(json_array_size(json_at(object, "sizes")), 10);
  assert_true(twice >= slow && twice >= 1);
  assert_int_equal(json_integer_value(json_at(object, "too_slow")), slow);
  assert_int_equal(code, slow > 0 ? 1 : 0);
  assert_int_equal(json_integer_value(json_at(object, "seed")), 1);
  json_decref(object);
}

static void test_fake_gpu(void **state) {
  (void)state;
  if (fake == NULL || kernel_pack == NULL) skip();
  char variable[4200];
  snprintf(variable, sizeof variable, "PEGA_PACK_PATH=%s", kernel_pack);
  assert_int_equal(setenv("PEGA_FAKE_DRIVER", "cc=9.0", 1), 0);
  assert_int_equal(putenv(variable), 0);
  const run_how how = {fake, NULL};
  run_result result = run_with(&how, "tune", PREFILL, "--quick", "--heads", "2:4", "--tokens",
                               "1,100,10000", "--sequences", "1,3", "-o", "gpu.json");
  assert_non_null(strstr(result.out, "sm_90; replays of a CUDA graph of calls"));
  assert_non_null(strstr(result.out, "triton_chunked"));
  assert_non_null(strstr(result.out, "the choice until now: "));
  expect(result, 0, "This is the fake driver: the times mean nothing.", NULL);
  assert_true(rows_of("gpu.json") >= 6);
  json_t *object = expect_json(run_with(&how, "tune", "--quick", "--eager", "--heads", "2:4",
                                        "--tokens", "50", "--states", "--json", "-d", "cuda:0"),
                               0);
  assert_string_equal(json_text_at(object, "table.how"), "eager");
  assert_string_equal(json_text_at(object, "table.device.target"), "sm_90");
  assert_true(json_is_null(json_at(object, "file")));
  json_decref(object);
  result = run_with(&how, "tune", "--check", "gpu.json", "--quick");
  assert_true(result.code == 0 || result.code == 1);
  assert_non_null(strstr(result.out, " of 10 choices more than 3 %"));
  run_free(&result);
  /* A device that has too little memory for the long ones is measured without them. */
  assert_int_equal(setenv("PEGA_FAKE_DRIVER", "cc=9.0,memory=67108864", 1), 0);
  result = run_with(&how, "tune", "--quick", "--heads", "2:4", "--tokens", "64,4096000");
  if (result.code == 0) {
    assert_non_null(strstr(result.err, "left out: 1 x 4096000 tokens: cuMemAlloc failed"));
  }
  run_free(&result);
  assert_int_equal(unsetenv("PEGA_PACK_PATH"), 0);
}

static void test_misuse(void **state) {
  (void)state;
  expect(run("tune", "some.function"), 2, NULL, "\"some.function\" chooses by no table: expected");
  expect(run("tune", "--device", "tpu"), 2, NULL,
         "--device: expected 0, cuda:0 or cpu, got \"tpu\"");
  expect(run("tune", "-d", "cpu", "--tokens", "1,x"), 2, NULL,
         "--tokens: expected up to 64 numbers");
  expect(run("tune", "-d", "cpu", "--tokens", ""), 2, NULL, "--tokens: expected");
  expect(run("tune", "-d", "cpu", "--tokens", "0"), 2, NULL, "--tokens: expected");
  expect(run("tune", "-d", "cpu", "--tokens", "99999999999999999999"), 2, NULL,
         "--tokens: expected");
  expect(run("tune", "-d", "cpu", "--sequences", "1:2"), 2, NULL, "--sequences: expected");
  expect(run("tune", "-d", "cpu", "--heads", "3"), 2, NULL, "like 16:32,4:8, got \"3\"");
  expect(run("tune", "-d", "cpu", "--heads", "3:4"), 2, NULL, "a multiple of the key heads");
  expect(run("tune", "-d", "cpu", "--heads", "1:100000"), 2, NULL, "1 to 65536");
  expect(run("tune", "-d", "cpu", "--check", "x", "-o", "y"), 2, NULL, "not with --output");
  expect(run("tune", "-d", "cpu", "--check", "none.json"), 1, NULL, "none.json: No such file");
  write_file("bad.json", "{\"schema_version\": 1}", 21);
  expect(run("tune", "-d", "cpu", "--check", "bad.json"), 1, NULL, "'function' is missing");
  expect(run("tune", "-d", "cpu", "--check", "bad.json", "--points", "0"), 2, NULL,
         "--points: expected");
  expect(run("tune", "-d", "cpu", "--check", "bad.json", "--seed", "-1"), 2, NULL,
         "--seed: expected");
  expect(run("tune", "-d", "cpu", "--quick", "--tokens", "1", "-o", "no/such/folder.json"), 1, NULL,
         "no/such/folder.json: No such file");
  expect(run("tune", "-d", "cpu", "--artifact", "x.so"), 2, NULL, "runs on a CUDA device");
  const run_how bad = {"PEGA_CHOICES=bad.json", NULL};
  expect(run_with(&bad, "explain", PREFILL), 1, NULL,
         "PEGA_CHOICES names a table that cannot be used: bad.json: ");
  expect(run("tune", "--help"), 0, "--check FILE", NULL);
}

int main(int argc, char **argv) {
  set_pega_path(argc, argv);
  if (argc > 2 && argv[2][0] != '\0') fake = library_path(argv[2]);
  if (argc > 3 && access(argv[3], R_OK) == 0) kernel_pack = realpath(argv[3], NULL);
  enter_folder();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_cpu),
      cmocka_unit_test(test_check),
      cmocka_unit_test(test_fake_gpu),
      cmocka_unit_test(test_misuse),
  };
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  leave_folder();
  return failed;
}
