/* SPDX-License-Identifier: Apache-2.0 */
/* The chunk solve on raw pointers, as a function and as a C symbol: every argument error comes
 * before the CUDA driver is touched. What happens then is in test_solve_driver.c. */
#include <dlfcn.h>
#include <inttypes.h>
#include <pega/qwen35.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "support.h"

/* Addresses that nobody reads: 16-byte aligned and far apart. */
#define A_TRIL ((uintptr_t)0x10000000)
#define A_INV ((uintptr_t)0x70000000)

static pega_function *solve;

static int get_solve(void **state) {
  (void)state;
  return pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE_RAW, &solve, NULL) == PEGA_OK ? 0 : -1;
}

static int release_solve(void **state) {
  (void)state;
  pega_function_release(solve);
  return 0;
}

static const char raw_name[] = "pegainfer.triton_cubin.qwen35.gated_delta_rule_chunk_solve: ";

/* The five good arguments, with argument `index` replaced. */
static pega_status run_with(int32_t index, pega_value replaced, pega_error *error) {
  pega_value args[5] = {pega_value_int(A_TRIL), pega_value_int(A_INV), pega_value_int(64),
                        pega_value_int(32), pega_value_int(0)};
  pega_value result = pega_value_int(99);
  args[index] = replaced;
  const pega_status status = pega_function_call(solve, args, 5, &result, error);
  assert_int_equal(result.kind, PEGA_NONE);
  return status;
}

#define REFUSED(index, value, status, ...)                                                 \
  do {                                                                                     \
    pega_error error_ = PEGA_ERROR_INIT;                                                   \
    EXPECT_ERROR(run_with(index, value, &error_), &error_, status, raw_name, __VA_ARGS__); \
    assert_int_equal(run_with(index, value, NULL), status);                                \
    pega_error_clear(&error_);                                                             \
  } while (0)

static bool driver_is_loaded(void) {
  return dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD) != NULL;
}

static void test_signature(void **state) {
  (void)state;
  assert_string_equal(pega_function_signature_text(solve), PEGA_QWEN35_CHUNK_SOLVE_RAW
                      "(a_tril_ptr: pointer, a_inv_ptr: out pointer, seq_len: int[0..2147483647], "
                      "num_value_heads: int[0..524288], stream: stream) -> None");
  pega_error error = PEGA_ERROR_INIT;
  const pega_value args[6] = {pega_value_int(A_TRIL), pega_value_int(A_INV), pega_value_int(1),
                              pega_value_int(1),      pega_value_int(0),     pega_value_int(0)};
  EXPECT_ERROR(pega_function_call(solve, args, 4, NULL, &error), &error, PEGA_ERROR_ARGUMENT_COUNT,
               raw_name, "expected 5 arguments, got 4");
  EXPECT_ERROR(pega_function_call(solve, args, 6, NULL, &error), &error, PEGA_ERROR_ARGUMENT_COUNT,
               raw_name, "expected 5 arguments, got 6");
  pega_error_clear(&error);
}

static void test_pointers(void **state) {
  (void)state;
  static const char *const names[] = {"argument 0 'a_tril_ptr'", "argument 1 'a_inv_ptr'"};
  const DLTensor tensor = TENSOR(&solve, FLOAT32, 1);
  for (int32_t i = 0; i < 2; ++i) {
    const pega_value wrong[] = {pega_value_none(), pega_value_bool(true), pega_value_float(1024),
                                pega_value_string("0x1000"), pega_value_tensor(&tensor)};
    for (int j = 0; j < COUNT(wrong); ++j) {
      REFUSED(i, wrong[j], PEGA_ERROR_TYPE, names[i], "expected a pointer (or int >= 0), got ");
    }
    REFUSED(i, pega_value_int(-16), PEGA_ERROR_RANGE, names[i],
            "expected a pointer (or int >= 0), got int -16");
    const pega_value nulls[] = {pega_value_pointer(NULL), pega_value_int(0), pega_value_uint(0)};
    const pega_value misaligned[] = {pega_value_pointer((void *)(A_TRIL + 8)),
                                     pega_value_int(A_TRIL + 8), pega_value_uint(A_TRIL + 8)};
    for (int j = 0; j < 3; ++j) {
      REFUSED(i, nulls[j], PEGA_ERROR_RANGE, names[i], "expected a pointer that is not NULL");
      REFUSED(i, misaligned[j], PEGA_ERROR_LAYOUT, names[i],
              "expected an address aligned to 16 bytes, got 0x10000008");
    }
  }
}

static void test_dimensions(void **state) {
  (void)state;
  static const char *const names[] = {"argument 2 'seq_len'", "argument 3 'num_value_heads'"};
  for (int32_t i = 0; i < 2; ++i) {
    const pega_value wrong[] = {pega_value_none(), pega_value_bool(true), pega_value_float(64),
                                pega_value_pointer((void *)A_TRIL), pega_value_string("64")};
    for (int j = 0; j < COUNT(wrong); ++j) {
      REFUSED(i + 2, wrong[j], PEGA_ERROR_TYPE, names[i], "expected int, got ");
    }
    const int64_t most[] = {INT32_MAX, 1 << 19};
    char expected[80];
    snprintf(expected, sizeof expected, "expected a value from 0 to %" PRId64 ", got ", most[i]);
    const pega_value out_of_range[] = {
        pega_value_int(-1),
        pega_value_int(most[i] + 1),
        /* Would be 0 and 64 if it were cut to 32 bits. */
        pega_value_int((int64_t)1 << 32),
        pega_value_int(((int64_t)1 << 32) + 64),
        pega_value_int(INT64_MIN),
        pega_value_uint((uint64_t)most[i] + 1),
        pega_value_uint(UINT64_MAX),
    };
    for (int j = 0; j < COUNT(out_of_range); ++j) {
      REFUSED(i + 2, out_of_range[j], PEGA_ERROR_RANGE, names[i], expected);
    }
  }
}

static void test_stream(void **state) {
  (void)state;
  REFUSED(4, pega_value_none(), PEGA_ERROR_TYPE, "argument 4 'stream'",
          "expected a stream (pointer or int >= 0), got None");
  REFUSED(4, pega_value_float(0), PEGA_ERROR_TYPE, "argument 4 'stream'");
  REFUSED(4, pega_value_bool(false), PEGA_ERROR_TYPE, "argument 4 'stream'");
  REFUSED(4, pega_value_int(-1), PEGA_ERROR_RANGE, "argument 4 'stream'", "got int -1");
}

static void test_memory(void **state) {
  (void)state;
  /* 64 tokens x 32 heads: 0x80000 bytes in, 0x40000 bytes out. */
  REFUSED(1, pega_value_int(A_TRIL), PEGA_ERROR_LAYOUT, "a_tril is [0x10000000, 0x10080000)",
          "a_inv is [0x10000000, 0x10040000)", "overlap", "expected separate memory");
  REFUSED(1, pega_value_int(A_TRIL + 0x80000 - 16), PEGA_ERROR_LAYOUT, "overlap");
  REFUSED(1, pega_value_int(A_TRIL - 0x40000 + 16), PEGA_ERROR_LAYOUT, "overlap");
  REFUSED(0, pega_value_uint(UINT64_MAX - 15), PEGA_ERROR_RANGE, "ends past the address space");
  REFUSED(1, pega_value_uint(UINT64_MAX - 15), PEGA_ERROR_RANGE, "ends past the address space");
  /* The greatest sizes: 2^58 bytes less one head's row. */
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_ERROR(pega_function_call(
                   solve,
                   ARGS(pega_value_int(A_TRIL), pega_value_int(A_INV), pega_value_int(INT32_MAX),
                        pega_value_int(1 << 19), pega_value_int(0)),
                   NULL, &error),
               &error, PEGA_ERROR_LAYOUT, raw_name, "a_tril is [0x10000000, 0x400000008000000)",
               "overlap");
  pega_error_clear(&error);
}

static void test_zero_is_a_no_op(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  for (int32_t i = 2; i < 4; ++i) {
    EXPECT_OK(run_with(i, pega_value_int(0), &error), &error);
    EXPECT_OK(run_with(i, pega_value_uint(0), &error), &error);
  }
  /* But not an excuse for wrong arguments. */
  EXPECT_ERROR(pega_function_call(solve,
                                  ARGS(pega_value_pointer(NULL), pega_value_int(A_INV),
                                       pega_value_int(0), pega_value_int(0), pega_value_int(0)),
                                  NULL, &error),
               &error, PEGA_ERROR_RANGE, "argument 0 'a_tril_ptr'", "not NULL");
  /* Each kind of pointer is taken. */
  EXPECT_OK(pega_function_call(
                solve,
                ARGS(pega_value_pointer((void *)A_TRIL), pega_value_uint(A_INV), pega_value_int(0),
                     pega_value_int(1 << 19), pega_value_pointer((void *)8)),
                NULL, &error),
            &error);
  EXPECT_OK(pega_function_call(
                solve,
                ARGS(pega_value_uint(A_TRIL), pega_value_pointer((void *)A_INV),
                     pega_value_int(INT32_MAX), pega_value_int(0), pega_value_uint(UINT64_MAX)),
                NULL, &error),
            &error);
  pega_error_clear(&error);
}

/* ---- The C symbol ---- */

static void expect_symbol_error(uintptr_t a_tril, uintptr_t a_inv, int32_t seq_len,
                                int32_t num_value_heads, pega_status status, const char *text) {
  pega_error error = PEGA_ERROR_INIT;
  assert_int_equal(gated_delta_rule_prefill_chunk_solve_cuda(
                       (const float *)a_tril, (uint16_t *)a_inv, seq_len, num_value_heads, NULL),
                   1);
  EXPECT_ERROR(pega_symbol_last_error(&error), &error, status,
               "gated_delta_rule_prefill_chunk_solve_cuda: ", raw_name, text);
  assert_int_equal(pega_symbol_last_error(NULL), status);
  pega_error_clear(&error);
}

static void test_symbol(void **state) {
  (void)state;
  expect_symbol_error(0, A_INV, 64, 32, PEGA_ERROR_RANGE, "argument 0 'a_tril_ptr'");
  expect_symbol_error(A_TRIL, 0, 64, 32, PEGA_ERROR_RANGE, "argument 1 'a_inv_ptr'");
  expect_symbol_error(0, A_INV, 0, 0, PEGA_ERROR_RANGE, "argument 0 'a_tril_ptr'");
  expect_symbol_error(A_TRIL + 4, A_INV, 64, 32, PEGA_ERROR_LAYOUT, "aligned to 16 bytes");
  expect_symbol_error(A_TRIL, A_INV + 2, 64, 32, PEGA_ERROR_LAYOUT, "aligned to 16 bytes");
  expect_symbol_error(A_TRIL, A_INV, -1, 32, PEGA_ERROR_RANGE, "argument 2 'seq_len'");
  expect_symbol_error(A_TRIL, A_INV, 64, INT32_MIN, PEGA_ERROR_RANGE,
                      "argument 3 'num_value_heads'");
  expect_symbol_error(A_TRIL, A_TRIL, 64, 32, PEGA_ERROR_LAYOUT, "overlap");
  expect_symbol_error(A_TRIL, A_INV, 64, INT32_MAX, PEGA_ERROR_RANGE,
                      "argument 3 'num_value_heads': expected a value from 0 to 524288");

  /* A success takes the error away. */
  pega_error error = PEGA_ERROR_INIT;
  pega_error_set(&error, PEGA_ERROR_IO, NULL, "left over");
  assert_int_equal(gated_delta_rule_prefill_chunk_solve_cuda((const float *)A_TRIL,
                                                             (uint16_t *)A_INV, 0, 32, NULL),
                   0);
  assert_int_equal(pega_symbol_last_error(&error), PEGA_OK);
  assert_int_equal(error.status, PEGA_OK);
  assert_string_equal(pega_error_message(&error), "");
}

static void *expect_no_error(void *failed) {
  if (pega_symbol_last_error(NULL) != PEGA_OK) *(bool *)failed = true;
  gated_delta_rule_prefill_chunk_solve_cuda(NULL, NULL, 1, 1, NULL);
  if (pega_symbol_last_error(NULL) != PEGA_ERROR_RANGE) *(bool *)failed = true;
  return NULL;
}

static void test_symbol_error_is_per_thread(void **state) {
  (void)state;
  pthread_t thread;
  bool failed = false;
  expect_symbol_error(A_TRIL, A_TRIL, 64, 32, PEGA_ERROR_LAYOUT, "overlap");
  assert_int_equal(pthread_create(&thread, NULL, expect_no_error, &failed), 0);
  pthread_join(thread, NULL);
  assert_false(failed);
  assert_int_equal(pega_symbol_last_error(NULL), PEGA_ERROR_LAYOUT);
}

/* The symbol is the library's own, whatever the registry holds under its function's name. */
static void test_symbol_needs_no_registry(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_OK(pega_registry_remove(PEGA_QWEN35_CHUNK_SOLVE_RAW, &error), &error);
  expect_symbol_error(A_TRIL, A_TRIL, 64, 32, PEGA_ERROR_LAYOUT, "overlap");
  EXPECT_OK(pega_registry_add(solve, 0, &error), &error);
}

/* Tensors on a GPU are checked, and found to be empty, without the driver too. */
static void test_tensors_on_a_gpu(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_function *tensor_form;
  EXPECT_OK(pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE, &tensor_form, &error), &error);
  DLTensor a_tril = TENSOR((void *)A_TRIL, FLOAT32, 65, 32, 64);
  DLTensor a_inv = TENSOR((void *)A_TRIL, BFLOAT16, 65, 32, 64);
  a_tril.device = a_inv.device = DEVICE(kDLCUDA, 0);
  const pega_value args[] = {pega_value_tensor(&a_tril), pega_value_tensor(&a_inv)};
  EXPECT_ERROR(pega_function_call(tensor_form, args, 2, NULL, &error), &error, PEGA_ERROR_LAYOUT,
               "arguments 0 and 1 overlap", "expected separate memory");
  a_inv.device.device_id = 1;
  EXPECT_ERROR(pega_function_call(tensor_form, args, 2, NULL, &error), &error, PEGA_ERROR_DEVICE,
               "argument 1 'a_inv': expected device cuda:0 as in argument 0 'a_tril', got cuda:1");
  a_inv.device.device_id = 0;
  a_inv.data = (void *)(A_INV + 8);
  EXPECT_ERROR(pega_function_call(tensor_form, args, 2, NULL, &error), &error, PEGA_ERROR_LAYOUT,
               "a_inv at 0x70000008", "aligned to 16 bytes on a GPU");
  a_inv.data = (void *)((uintptr_t)1 << 60);
  a_tril.shape = a_inv.shape = SHAPE((int64_t)INT32_MAX + 1, 1, 64);
  EXPECT_ERROR(pega_function_call(tensor_form, args, 2, NULL, &error), &error, PEGA_ERROR_RANGE,
               "T = 2147483648, HV = 1 on a GPU: expected at most 2147483647");
  a_tril.shape = a_inv.shape = SHAPE(0, 32, 64);
  EXPECT_OK(pega_function_call(tensor_form, args, 2, NULL, &error), &error);
  pega_function_release(tensor_form);
  pega_error_clear(&error);
}

/* The last test: it is about all that came before. ctest puts a library in the place of the driver
 * that would be loaded by the first look for one. */
static void test_driver_was_not_touched(void **state) {
  (void)state;
  assert_false(driver_is_loaded());
  pega_error error = PEGA_ERROR_INIT;
  assert_int_not_equal(run_with(2, pega_value_int(1), &error), PEGA_OK);
  EXPECT_TEXT(pega_error_message(&error), "nothing was launched");
  assert_int_equal(driver_is_loaded(), getenv("PEGA_TEST_FAKE_DRIVER") != NULL);
  pega_error_clear(&error);
}

int main(void) {
  if (driver_is_loaded()) {
    printf(
        "SKIP: libcuda.so.1 is in every process here, so nothing shows whether it was touched\n");
    return SUPPORT_SKIP;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_signature),
      cmocka_unit_test(test_pointers),
      cmocka_unit_test(test_dimensions),
      cmocka_unit_test(test_stream),
      cmocka_unit_test(test_memory),
      cmocka_unit_test(test_zero_is_a_no_op),
      cmocka_unit_test(test_symbol),
      cmocka_unit_test(test_symbol_error_is_per_thread),
      cmocka_unit_test(test_symbol_needs_no_registry),
      cmocka_unit_test(test_tensors_on_a_gpu),
      cmocka_unit_test(test_driver_was_not_touched),
  };
  return cmocka_run_group_tests(tests, get_solve, release_solve);
}
