/* SPDX-License-Identifier: Apache-2.0 */
/* `pega doctor`, with CUDA drivers that are made for it. */
#include <pega/pega.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support.h"

/* LD_LIBRARY_PATH=... for the folder of the sound fake driver, and of the one without a symbol. */
static char *sound;
static char *old;

static void test_report(void **state) {
  (void)state;
  json_t *object = expect_json(run("doctor", "--json"), 0);
  assert_string_equal(json_text_at(object, "pega.version"), pega_version_string());
  assert_true(strlen(json_text_at(object, "pega.compiler")) > 4);
  const bool bridge = json_is_true(json_at(object, "pega.bridge"));
  assert_true(json_is_boolean(json_at(object, bridge ? "tvm_ffi.bridge" : "bridge.bridge")));
  assert_true(json_is_boolean(json_at(object, "cuda.driver")));
  assert_true(json_integer_value(json_at(object, "cpu.threads")) >= 1);
  assert_true(json_is_array(json_at(object, "cpu.features")));
  assert_true(json_integer_value(json_at(object, "functions.registered")) >= 2);
  assert_string_equal(json_text_at(object, "functions.chunk_solve_on_cpu"),
                      "right on a small tensor");
  assert_int_equal(json_array_size(json_at(object, "problems")), 0);
  if (json_is_false(json_at(object, "cuda.driver"))) {
    assert_non_null(strstr(json_text_at(object, "cuda.reason"), "libcuda.so.1"));
  }
  json_decref(object);
  expect(run("doctor"), 0, "nothing found is broken\n", NULL);
  expect(run("doctor"), 0, "pega:\n  version: ", NULL);
}

static void set_mode(const char *mode) { assert_int_equal(setenv("FAKE_CUDA", mode, 1), 0); }

static void test_two_devices(void **state) {
  (void)state;
  const run_how how = {sound, NULL};
  set_mode("two");
  json_t *object = expect_json(run_with(&how, "doctor", "--json"), 0);
  assert_true(json_is_true(json_at(object, "cuda.driver")));
  assert_non_null(strstr(json_text_at(object, "cuda.library"), "libcuda.so.1"));
  assert_string_equal(json_text_at(object, "cuda.version"), "13.1");
  assert_int_equal(json_array_size(json_at(object, "cuda.devices")), 2);
  assert_string_equal(json_text_at(object, "cuda.devices.0.name"), "Fake GPU 40");
  assert_string_equal(json_text_at(object, "cuda.devices.0.compute_capability"), "9.3");
  assert_string_equal(json_text_at(object, "cuda.devices.1.compute_capability"), "10.3");
  assert_string_equal(json_text_at(object, "cuda.devices.1.device"), "cuda:1");
  assert_int_equal(json_integer_value(json_at(object, "cuda.devices.1.memory_bytes")),
                   85899345920 + 41);
  assert_int_equal(json_array_size(json_at(object, "problems")), 0);
  json_decref(object);
  expect(run_with(&how, "doctor"), 0, "    1:\n      device: cuda:1\n      name: Fake GPU 41\n",
         NULL);
}

static void test_no_device(void **state) {
  (void)state;
  const run_how how = {sound, NULL};
  set_mode("none");
  expect(run_with(&how, "doctor"), 0,
         "  no device: cuInit: CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected\n",
         NULL);
}

static void test_broken(void **state) {
  (void)state;
  const run_how how = {sound, NULL};
  set_mode("broken");
  expect(run_with(&how, "doctor"), 1, "broken: cuInit: CUDA_ERROR_UNKNOWN (999): unknown error\n",
         NULL);
  json_t *object = expect_json(run_with(&how, "doctor", "--json"), 1);
  assert_string_equal(json_text_at(object, "problems.0"), json_text_at(object, "cuda.error"));
  json_decref(object);
}

static void test_missing_symbol(void **state) {
  (void)state;
  const run_how how = {old, NULL};
  expect(run_with(&how, "doctor"), 1, "broken: libcuda.so.1 has no symbol cuDeviceTotalMem_v2\n",
         NULL);
}

static void test_no_library(void **state) {
  (void)state;
  const run_how how = {"LD_LIBRARY_PATH=.", NULL};
  write_file("libcuda.so.1", "no library\n", 11);
  expect(run_with(&how, "doctor"), 1, "broken: ./libcuda.so.1: ", NULL);
  assert_int_equal(remove("libcuda.so.1"), 0);
}

static char *library_path(const char *folder) {
  char *absolute = realpath(folder, NULL);
  char *text = malloc(absolute == NULL ? 1 : strlen(absolute) + 32);
  if (absolute == NULL || text == NULL) {
    perror(folder);
    exit(2);
  }
  (void)sprintf(text, "LD_LIBRARY_PATH=%s", absolute);
  free(absolute);
  return text;
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_report),         cmocka_unit_test(test_two_devices),
      cmocka_unit_test(test_no_device),      cmocka_unit_test(test_broken),
      cmocka_unit_test(test_missing_symbol), cmocka_unit_test(test_no_library),
  };
  set_pega_path(argc, argv);
  if (argc < 4) return 2;
  sound = library_path(argv[2]);
  old = library_path(argv[3]);
  enter_folder();
  const int failed = cmocka_run_group_tests_name("cli.doctor", tests, NULL, NULL);
  leave_folder();
  free(sound);
  free(old);
  free(pega_path);
  return failed;
}
