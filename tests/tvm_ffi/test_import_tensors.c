/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Engine -> TVM FFI with tensors: both forms (a DLTensor* that nobody counts, a Tensor object),
 * strides and offsets as they are, no copy on the way, every deleter exactly once.
 */
#include "support.h"

#include <stdio.h>

static pega_error error = PEGA_ERROR_INIT;

static int64_t type_index(pega_value value) {
  pega_value result = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("type_index", &result, value));
  return result.as.i64;
}

static int64_t references(pega_value value) {
  pega_value result = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("references", &result, value));
  return result.as.i64;
}

static void test_uncounted(void **state) {
  (void)state;
  support_vector x;
  support_vector y;
  support_vector_init(&x, 3, 1.0f);
  support_vector_init(&y, 3, 0.0f);
  assert_int_equal(type_index(pega_value_tensor(&x.tensor)), kTVMFFIDLTensorPtr);
  EXPECT_OK(
      CALL_FIXTURE("add_one", NULL, pega_value_tensor(&x.tensor), pega_value_tensor(&y.tensor)));
  for (int i = 0; i < 3; i++) assert_true(y.data[i] == (float)(i + 2));

  pega_value address = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("tensor_address", &address, pega_value_tensor(&x.tensor)));
  assert_ptr_equal(address.as.pointer, x.data);
}

static void test_strides_and_offset(void **state) {
  (void)state;
  support_vector x;
  support_vector y;
  support_vector_init(&x, 16, 0.0f);
  support_vector_init(&y, 16, -1.0f);
  /* Every third element from the second on, written backwards. */
  x.shape[0] = y.shape[0] = 4;
  x.strides[0] = 3;
  x.tensor.byte_offset = sizeof(float);
  y.strides[0] = -1;
  y.tensor.byte_offset = 3 * sizeof(float);
  EXPECT_OK(
      CALL_FIXTURE("add_one", NULL, pega_value_tensor(&x.tensor), pega_value_tensor(&y.tensor)));
  static const float expected[] = {11.0f, 8.0f, 5.0f, 2.0f, 3.0f};
  for (int i = 0; i < 5; i++) assert_true(y.data[i] == expected[i]);

  /* No strides at all means row-major. */
  support_vector_init(&x, 3, 1.0f);
  support_vector_init(&y, 3, 0.0f);
  x.tensor.strides = NULL;
  EXPECT_OK(
      CALL_FIXTURE("add_one", NULL, pega_value_tensor(&x.tensor), pega_value_tensor(&y.tensor)));
  assert_true(y.data[2] == 4.0f);
}

static void test_counted(void **state) {
  (void)state;
  int deleted = 0;
  pega_value x = support_tensor_create(3, 1.0f, &deleted);
  pega_value y = support_tensor_create(3, 0.0f, &deleted);
  assert_int_equal(type_index(x), kTVMFFITensor);
  EXPECT_OK(CALL_FIXTURE("add_one", NULL, x, y));
  const float *data = pega_tensor_data(pega_value_as_tensor(&y));
  for (int i = 0; i < 3; i++) assert_true(data[i] == (float)(i + 2));
  assert_int_equal(deleted, 0);
  pega_value_release(&x);
  assert_int_equal(deleted, 1);
  pega_value_release(&y);
  assert_int_equal(deleted, 2);
}

static void test_forms_mix(void **state) {
  (void)state;
  support_vector x;
  support_vector_init(&x, 3, 1.0f);
  pega_value y = support_tensor_create(3, 0.0f, NULL);
  EXPECT_OK(CALL_FIXTURE("add_one", NULL, pega_value_tensor(&x.tensor), y));
  assert_true(((float *)pega_tensor_data(pega_value_as_tensor(&y)))[2] == 4.0f);
  pega_value_release(&y);
}

/* TVM FFI may keep a counted tensor after the call: its deleter waits for that too. */
static void test_kept_by_the_callee(void **state) {
  (void)state;
  int deleted = 0;
  pega_value x = support_tensor_create(3, 1.0f, &deleted);
  const void *data = pega_tensor_data(pega_value_as_tensor(&x));
  EXPECT_OK(CALL_FIXTURE("hold", NULL, x));
  pega_value_release(&x);
  assert_int_equal(deleted, 0);
  pega_value back = pega_value_none();
  EXPECT_OK(CALL_FIXTURE0("get_held", &back));
  assert_int_equal(back.kind, PEGA_TENSOR);
  assert_ptr_equal(pega_tensor_data(pega_value_as_tensor(&back)), data);
  EXPECT_OK(CALL_FIXTURE0("release_held_on_thread", NULL));
  assert_int_equal(deleted, 0);
  pega_value_release(&back);
  assert_int_equal(deleted, 1);
}

static void test_result(void **state) {
  (void)state;
  int64_t before = support_counter("tensor_deleter_count");
  pega_value tensor = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("make_tensor", &tensor, INT(5)));
  assert_int_equal(tensor.kind, PEGA_TENSOR);
  const DLTensor *view = pega_value_as_tensor(&tensor);
  assert_non_null(view);
  assert_int_equal(view->ndim, 1);
  assert_int_equal(view->shape[0], 5);
  assert_int_equal(view->dtype.code, kDLFloat);
  assert_int_equal(view->dtype.bits, 32);
  assert_int_equal(view->device.device_type, kDLCPU);
  EXPECT_OK(pega_tensor_validate(view, &error));
  assert_true(((float *)pega_tensor_data(view))[4] == 4.0f);

  /* It goes back as the very same object, not as a tensor around a tensor. */
  assert_int_equal(references(tensor), 1);
  assert_int_equal(type_index(tensor), kTVMFFITensor);
  pega_value same = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("identity", &same, tensor));
  assert_int_equal(references(tensor), 2);
  pega_value copy = pega_value_none();
  EXPECT_OK(pega_value_retain(&tensor, &copy, &error));
  pega_value_release(&tensor);
  pega_value_release(&same);
  assert_int_equal(support_counter("tensor_deleter_count"), before);
  assert_int_equal(references(copy), 1);
  pega_value_release(&copy);
  assert_int_equal(support_counter("tensor_deleter_count"), before + 1);
}

/* A dropped result is released by the library. */
static void test_dropped_result(void **state) {
  (void)state;
  int64_t before = support_counter("tensor_deleter_count");
  EXPECT_OK(CALL_FIXTURE("make_tensor", NULL, INT(5)));
  assert_int_equal(support_counter("tensor_deleter_count"), before + 1);
}

static void test_result_as_dlpack(void **state) {
  (void)state;
  int64_t before = support_counter("tensor_deleter_count");
  pega_value tensor = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("make_tensor", &tensor, INT(3)));
  const void *data = pega_tensor_data(pega_value_as_tensor(&tensor));
  DLManagedTensor *managed = NULL;
  DLManagedTensorVersioned *versioned = NULL;
  EXPECT_OK(pega_tensor_to_dlpack(&tensor, &managed, &error));
  EXPECT_OK(pega_tensor_to_dlpack_versioned(&tensor, &versioned, &error));
  pega_value_release(&tensor);
  assert_ptr_equal(managed->dl_tensor.data, data);
  assert_ptr_equal(versioned->dl_tensor.data, data);
  managed->deleter(managed);
  assert_int_equal(support_counter("tensor_deleter_count"), before);
  versioned->deleter(versioned);
  assert_int_equal(support_counter("tensor_deleter_count"), before + 1);
}

static void test_in_array(void **state) {
  (void)state;
  int deleted = 0;
  pega_value tensor = support_tensor_create(3, 1.0f, &deleted);
  pega_value array = pega_value_none();
  pega_value back = pega_value_none();
  EXPECT_OK(pega_array_create(&tensor, 1, &array, &error));
  EXPECT_OK(CALL_FIXTURE("identity", &back, array));
  assert_int_equal(pega_array_get(&back, 0)->kind, PEGA_TENSOR);
  assert_ptr_equal(pega_tensor_data(pega_value_as_tensor(pega_array_get(&back, 0))),
                   pega_tensor_data(pega_value_as_tensor(&tensor)));
  pega_value_release(&tensor);
  pega_value_release(&array);
  assert_int_equal(deleted, 0);
  pega_value_release(&back);
  assert_int_equal(deleted, 1);
}

static void test_read_only_stays_so(void **state) {
  (void)state;
  static float memory[4] = {1, 2, 3, 4};
  static int64_t shape[] = {4};
  DLTensor view = {memory, {kDLCPU, 0}, 1, {kDLFloat, 32, 1}, shape, NULL, 0};
  static const char tag = 0;
  pega_value tensor = pega_value_none();
  EXPECT_OK(
      pega_tensor_create(&view, DLPACK_FLAG_BITMASK_READ_ONLY, &tag, NULL, NULL, &tensor, &error));
  pega_value back = pega_value_none();
  pega_status status = CALL_FIXTURE("identity", &back, tensor);
  /* A Tensor object has no such flag: it may be refused, but not come back as writable. */
  if (status == PEGA_OK) {
    assert_true((pega_tensor_flags(&back) & DLPACK_FLAG_BITMASK_READ_ONLY) != 0);
  } else {
    EXPECT_TEXT(pega_error_message(&error), "read-only");
  }
  pega_value_release(&back);
  pega_value_release(&tensor);
}

static void test_zero_elements_and_rank_zero(void **state) {
  (void)state;
  support_vector x;
  support_vector y;
  support_vector_init(&x, 0, 0.0f);
  support_vector_init(&y, 0, 0.0f);
  x.tensor.data = NULL;
  EXPECT_OK(
      CALL_FIXTURE("add_one", NULL, pega_value_tensor(&x.tensor), pega_value_tensor(&y.tensor)));
  x.tensor.ndim = 0;
  x.tensor.shape = x.tensor.strides = NULL;
  x.tensor.data = x.data;
  pega_value address = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("tensor_address", &address, pega_value_tensor(&x.tensor)));
  assert_ptr_equal(address.as.pointer, x.data);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_uncounted),
      cmocka_unit_test(test_strides_and_offset),
      cmocka_unit_test(test_counted),
      cmocka_unit_test(test_forms_mix),
      cmocka_unit_test(test_kept_by_the_callee),
      cmocka_unit_test(test_result),
      cmocka_unit_test(test_dropped_result),
      cmocka_unit_test(test_result_as_dlpack),
      cmocka_unit_test(test_in_array),
      cmocka_unit_test(test_read_only_stays_so),
      cmocka_unit_test(test_zero_elements_and_rank_zero),
  };
  int failed = cmocka_run_group_tests_name("import tensors", tests, support_open, support_close);
  pega_error_clear(&error);
  return failed;
}
