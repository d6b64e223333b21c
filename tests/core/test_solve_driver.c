/* SPDX-License-Identifier: Apache-2.0 */
/* What a good call of the chunk solve on GPU memory says, for each state that a CUDA driver can be
 * in. The library asks once in a process, so each state is a run of its own:
 *   test_core_solve_driver STATUS SYMBOL_RESULT TEXT...
 * A run with the word "absent" before these is for machines without a driver. */
#include <dlfcn.h>
#include <pega/qwen35.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

static pega_status expected_status;
static int expected_result;
static char **texts;
static int num_texts;

static int64_t shape[3] = {65, 32, 64};
#define A_TRIL ((uintptr_t)0x10000000)
#define A_INV ((uintptr_t)0x70000000)

static void expect_failure(pega_status got, pega_error *error, const char *name) {
  assert_int_equal(got, expected_status);
  assert_int_equal(error->status, expected_status);
  EXPECT_TEXT(pega_error_message(error), name);
  EXPECT_TEXT(pega_error_message(error), "nothing was launched");
  for (int i = 0; i < num_texts; ++i) EXPECT_TEXT(pega_error_message(error), texts[i]);
  pega_error_clear(error);
}

static void test_raw_form(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_function *solve;
  EXPECT_OK(pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE_RAW, &solve, &error), &error);
  for (int again = 0; again < 2; ++again) {
    expect_failure(
        pega_function_call(solve,
                           ARGS(pega_value_int(A_TRIL), pega_value_int(A_INV), pega_value_int(65),
                                pega_value_int(32), pega_value_int(0)),
                           NULL, &error),
        &error, PEGA_QWEN35_CHUNK_SOLVE_RAW);
    /* Memory that touches is not memory that overlaps: this gets as far. */
    expect_failure(
        pega_function_call(
            solve,
            ARGS(pega_value_int(A_TRIL), pega_value_uint(A_TRIL + 65 * 32 * 256),
                 pega_value_int(65), pega_value_int(32), pega_value_pointer((void *)A_TRIL)),
            NULL, &error),
        &error, PEGA_QWEN35_CHUNK_SOLVE_RAW);
  }
  pega_function_release(solve);
}

static void test_symbol(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  assert_int_equal(gated_delta_rule_prefill_chunk_solve_cuda((const float *)A_TRIL,
                                                             (uint16_t *)A_INV, 65, 32, NULL),
                   expected_result);
  expect_failure(pega_symbol_last_error(&error), &error, PEGA_QWEN35_CHUNK_SOLVE_RAW);
}

static void test_tensors_on_a_gpu(void **state) {
  (void)state;
  static const DLDeviceType types[] = {kDLCUDA, kDLCUDAManaged};
  pega_error error = PEGA_ERROR_INIT;
  pega_function *solve;
  EXPECT_OK(pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE, &solve, &error), &error);
  for (int i = 0; i < COUNT(types); ++i) {
    const DLTensor a_tril = {(void *)A_TRIL, {types[i], 0}, 3, FLOAT32, shape, NULL, 0};
    const DLTensor a_inv = {(void *)A_INV, {types[i], 0}, 3, BFLOAT16, shape, NULL, 0};
    expect_failure(
        pega_function_call(solve, ARGS(pega_value_tensor(&a_tril), pega_value_tensor(&a_inv)), NULL,
                           &error),
        &error, PEGA_QWEN35_CHUNK_SOLVE ":");
  }
  pega_function_release(solve);
}

static void test_cpu_tensors_need_no_driver(void **state) {
  (void)state;
  enum { kEntries = 65 * 32 * 64 };
  static float in[kEntries];
  static uint16_t out[kEntries];
  pega_error error = PEGA_ERROR_INIT;
  pega_function *solve;
  EXPECT_OK(pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE, &solve, &error), &error);
  const DLTensor a_tril = {in, CPU, 3, FLOAT32, shape, NULL, 0};
  const DLTensor a_inv = {out, CPU, 3, BFLOAT16, shape, NULL, 0};
  EXPECT_OK(pega_function_call(solve, ARGS(pega_value_tensor(&a_tril), pega_value_tensor(&a_inv)),
                               NULL, &error),
            &error);
  assert_int_equal(out[0], 0x3f80);
  pega_function_release(solve);
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "absent") == 0) {
    if (dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL) != NULL) {
      printf("SKIP: a CUDA driver is present, so what its absence says cannot be seen\n");
      return SUPPORT_SKIP;
    }
    --argc;
    ++argv;
  }
  if (argc < 4) {
    fprintf(stderr, "usage: test_core_solve_driver [absent] STATUS SYMBOL_RESULT TEXT...\n");
    return 2;
  }
  expected_status = (pega_status)atoi(argv[1]);
  expected_result = atoi(argv[2]);
  texts = argv + 3;
  num_texts = argc - 3;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_cpu_tensors_need_no_driver),
      cmocka_unit_test(test_raw_form),
      cmocka_unit_test(test_symbol),
      cmocka_unit_test(test_tensors_on_a_gpu),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
