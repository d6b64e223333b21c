/* SPDX-License-Identifier: Apache-2.0 */
/* `pega doctor`, with CUDA drivers that are made for it. */
#include <pega/pega.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support.h"

/* LD_LIBRARY_PATH=... for the folder of the driver that is of no use, and of the fake driver or NULL. */
static char *useless;
static char *fake;

static void test_report(void **state) {
  (void)state;
  json_t *object = expect_json(run("doctor", "--json"), 0);
  assert_string_equal(json_text_at(object, "pega.version"), pega_version_string());
  assert_true(strlen(json_text_at(object, "pega.compiler")) > 4);
  const bool bridge = json_is_true(json_at(object, "pega.bridge"));
  assert_true(json_is_boolean(json_at(object, bridge ? "tvm_ffi.bridge" : "bridge.bridge")));
  assert_true(json_is_boolean(json_at(object, "cuda.driver")));
  assert_true(json_is_boolean(json_at(object, "cublas.found")));
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
  if (fake == NULL) {
    print_message("SKIP: this build has no fake driver (src/fake_driver)\n");
    skip();
  }
  const run_how how = {fake, NULL};
  assert_int_equal(
      setenv("PEGA_FAKE_DRIVER", "devices=2,cc=10.3,driver=13010,memory=85899345921", 1), 0);
  assert_int_equal(setenv("PEGA_CUBLAS_LIBRARY", "/nonexistent/libcublas.so", 1), 0);
  json_t *object = expect_json(run_with(&how, "doctor", "--json"), 0);
  assert_true(json_is_true(json_at(object, "cuda.driver")));
  assert_non_null(strstr(json_text_at(object, "cuda.library"), "libcuda.so.1"));
  assert_string_equal(json_text_at(object, "cuda.version"), "13.1");
  assert_int_equal(json_array_size(json_at(object, "cuda.devices")), 2);
  assert_string_equal(json_text_at(object, "cuda.devices.0.name"), "Fake GPU 0");
  assert_string_equal(json_text_at(object, "cuda.devices.0.device"), "cuda:0");
  assert_string_equal(json_text_at(object, "cuda.devices.1.device"), "cuda:1");
  assert_string_equal(json_text_at(object, "cuda.devices.1.compute_capability"), "10.3");
  assert_string_equal(json_text_at(object, "cuda.devices.1.health"), "well");
  assert_int_equal(json_integer_value(json_at(object, "cuda.devices.1.memory_bytes")), 85899345921);
  assert_int_equal(json_integer_value(json_at(object, "cuda.devices.1.multiprocessors")), 132);
  assert_int_equal(json_integer_value(json_at(object, "cuda.devices.1.max_shared_memory_bytes")),
                   227 * 1024);
  assert_int_equal(json_array_size(json_at(object, "problems")), 0);
  /* That there is no cuBLAS is no problem. */
  assert_true(json_is_false(json_at(object, "cublas.found")));
  assert_non_null(strstr(json_text_at(object, "cublas.reason"), "/nonexistent/libcublas.so: "));
  json_decref(object);
  /* One that is none is. */
  assert_int_equal(setenv("PEGA_CUBLAS_LIBRARY", "libm.so.6", 1), 0);
  expect(run_with(&how, "doctor"), 1, "libm.so.6: it is no cuBLAS", NULL);
  assert_int_equal(unsetenv("PEGA_CUBLAS_LIBRARY"), 0);
  expect(run_with(&how, "doctor"), 0, "    1:\n      device: cuda:1\n      name: Fake GPU 1\n",
         NULL);
}

static void test_no_device(void **state) {
  (void)state;
  const run_how how = {useless, NULL};
  set_mode("none");
  expect(run_with(&how, "doctor"), 0,
         "  no device: CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected\n", NULL);
  expect(run_with(&how, "doctor"), 0, "  version: 10.2\n", NULL);
}

static void test_broken(void **state) {
  (void)state;
  const run_how how = {useless, NULL};
  set_mode("broken");
  expect(run_with(&how, "doctor"), 1, "broken: the CUDA driver did not start: cuInit failed", NULL);
  expect(run_with(&how, "doctor"), 1, "  driver error: CUDA_ERROR_UNKNOWN (999): unknown error\n",
         NULL);
  set_mode("textless");
  expect(run_with(&how, "doctor"), 1, "  driver error: CUDA_ERROR_UNKNOWN (999)\n", NULL);
  set_mode("broken");
  json_t *object = expect_json(run_with(&how, "doctor", "--json"), 1);
  assert_string_equal(json_text_at(object, "problems.0"), json_text_at(object, "cuda.error"));
  json_decref(object);
}

static void test_old(void **state) {
  (void)state;
  const run_how how = {useless, NULL};
  set_mode("");
  expect(run_with(&how, "doctor"), 1,
         "broken: libcuda.so.1 is CUDA driver version 10.2 and lacks cuGetProcAddress: expected",
         NULL);
}

static void test_no_library(void **state) {
  (void)state;
  const run_how how = {"LD_LIBRARY_PATH=.", NULL};
  write_file("libcuda.so.1", "no library\n", 11);
  expect(run_with(&how, "doctor"), 1, "broken: ./libcuda.so.1: ", NULL);
  assert_int_equal(remove("libcuda.so.1"), 0);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_report),    cmocka_unit_test(test_two_devices),
      cmocka_unit_test(test_no_device), cmocka_unit_test(test_broken),
      cmocka_unit_test(test_old),       cmocka_unit_test(test_no_library),
  };
  set_pega_path(argc, argv);
  if (argc < 3) return 2;
  (void)unsetenv("PEGA_PACK_PATH");
  useless = library_path(argv[2]);
  fake = argc > 3 ? library_path(argv[3]) : NULL;
  enter_folder();
  const int failed = cmocka_run_group_tests_name("cli.doctor", tests, NULL, NULL);
  leave_folder();
  free(useless);
  free(fake);
  free(pega_path);
  return failed;
}
