/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The current stream crosses: what the engine sets TVM FFI code sees, and the other way round, per
 * thread and per device. No device is needed: a stream is a pointer that nobody opens here.
 */
#include "support.h"

#include <pthread.h>

static pega_error error = PEGA_ERROR_INIT;

static const DLDevice cuda0 = {kDLCUDA, 0};
static const DLDevice cuda1 = {kDLCUDA, 1};
static char streams[4];

static void *seen_by_tvm_ffi(DLDevice device) {
  pega_value result = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("get_stream", &result, INT(device.device_type), INT(device.device_id)));
  assert_int_equal(result.kind, PEGA_POINTER);
  return result.as.pointer;
}

static void *seen_by_engine(DLDevice device) {
  void *stream = &streams[3];
  EXPECT_OK(pega_stream_get(device, &stream, &error));
  return stream;
}

static void test_engine_sets(void **state) {
  (void)state;
  void *previous = &streams[3];
  assert_null(seen_by_tvm_ffi(cuda0));
  EXPECT_OK(pega_stream_set(cuda0, &streams[0], &previous, &error));
  assert_null(previous);
  EXPECT_OK(pega_stream_set(cuda1, &streams[1], NULL, &error));
  assert_ptr_equal(seen_by_tvm_ffi(cuda0), &streams[0]);
  assert_ptr_equal(seen_by_tvm_ffi(cuda1), &streams[1]);
  EXPECT_OK(pega_stream_set(cuda0, NULL, &previous, &error));
  assert_ptr_equal(previous, &streams[0]);
  assert_null(seen_by_tvm_ffi(cuda0));
  assert_ptr_equal(seen_by_tvm_ffi(cuda1), &streams[1]);
  EXPECT_OK(pega_stream_set(cuda1, NULL, NULL, &error));
}

static void test_tvm_ffi_sets(void **state) {
  (void)state;
  int (*set)(int32_t, int32_t, void *, void **) = NULL;
  *(void **)&set = support_symbol("TVMFFIEnvSetStream");
  assert_non_null(set);
  void *previous = NULL;
  assert_int_equal(set(kDLCUDA, 0, &streams[2], &previous), 0);
  assert_ptr_equal(seen_by_engine(cuda0), &streams[2]);
  assert_null(seen_by_engine(cuda1));
  assert_int_equal(set(kDLCUDA, 0, previous, NULL), 0);
  assert_null(seen_by_engine(cuda0));
}

static pega_status current_stream(void *self, const pega_value *args, int32_t num_args,
                                  pega_value *result, pega_error *out_error) {
  (void)self;
  (void)args;
  (void)num_args;
  void *stream = NULL;
  pega_status status = pega_stream_get(cuda0, &stream, out_error);
  if (status == PEGA_OK) *result = pega_value_pointer(stream);
  return status;
}

/* A callback sees the stream that is current where it runs. */
static void test_callback_sees_it(void **state) {
  (void)state;
  pega_function *function = support_function("test.stream", NULL, current_stream, NULL);
  pega_value result = pega_value_none();
  EXPECT_OK(pega_stream_set(cuda0, &streams[1], NULL, &error));
  EXPECT_OK(CALL_FIXTURE("apply", &result, pega_value_function(function)));
  assert_ptr_equal(result.as.pointer, &streams[1]);
  EXPECT_OK(CALL_FIXTURE("apply_on_thread", &result, pega_value_function(function)));
  assert_null(result.as.pointer);
  EXPECT_OK(pega_stream_set(cuda0, NULL, NULL, &error));
  pega_function_release(function);
}

static void *set_on_thread(void *argument) {
  void **seen = argument;
  pega_stream_get(cuda0, &seen[0], NULL);
  pega_stream_set(cuda0, &streams[2], NULL, NULL);
  pega_stream_get(cuda0, &seen[1], NULL);
  return NULL;
}

static void test_each_thread_has_its_own(void **state) {
  (void)state;
  EXPECT_OK(pega_stream_set(cuda0, &streams[0], NULL, &error));
  void *seen[2] = {&streams[3], &streams[3]};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, set_on_thread, seen), 0);
  pthread_join(thread, NULL);
  assert_null(seen[0]);
  assert_ptr_equal(seen[1], &streams[2]);
  assert_ptr_equal(seen_by_engine(cuda0), &streams[0]);
  assert_ptr_equal(seen_by_tvm_ffi(cuda0), &streams[0]);
  EXPECT_OK(pega_stream_set(cuda0, NULL, NULL, &error));
}

/* A device that cannot be is refused and nothing is set; the runtime would grow a table for it. */
static void test_impossible_devices(void **state) {
  (void)state;
  static const int32_t ids[] = {-1, INT32_MIN, INT32_MAX};
  for (int i = 0; i < SUPPORT_COUNT(ids); i++) {
    DLDevice device = {kDLCUDA, ids[i]};
    assert_int_not_equal(pega_stream_set(device, &streams[0], NULL, &error), PEGA_OK);
    EXPECT_TEXT(pega_error_message(&error), "device");
  }
  static const int32_t types[] = {-1, 0, 1000000000};
  for (int i = 0; i < SUPPORT_COUNT(types); i++) {
    DLDevice device = cuda0;
    memcpy(&device.device_type, &types[i], sizeof types[i]);
    assert_int_not_equal(pega_stream_set(device, &streams[0], NULL, &error), PEGA_OK);
    EXPECT_TEXT(pega_error_message(&error), "device");
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_engine_sets),        cmocka_unit_test(test_tvm_ffi_sets),
      cmocka_unit_test(test_callback_sees_it),   cmocka_unit_test(test_each_thread_has_its_own),
      cmocka_unit_test(test_impossible_devices),
  };
  int failed = cmocka_run_group_tests_name("stream", tests, support_open, support_close);
  pega_error_clear(&error);
  return failed;
}
