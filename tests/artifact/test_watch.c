/* SPDX-License-Identifier: Apache-2.0 */
/* The watch of the CUDA context, and the context of the tensors' device, in a process where the driver becomes
 * known late. The order of the tests matters: it is known for good then. */
#include <pega/fake_driver.h>

#include "../core/support.h"
#include "artifact/context.h"
#include "artifact/device.h"

int cuInit(unsigned flags);
int cuCtxGetCurrent(void **context);
int cuCtxSetCurrent(void *context);
int cuDevicePrimaryCtxRetain(void **context, int device);

static void *primaries[2];

static void *current(void) {
  void *context = NULL;
  assert_int_equal(cuCtxGetCurrent(&context), 0);
  return context;
}

/* A driver that becomes known during a call: what was current before is not known, and stays. */
static void test_found_meanwhile(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_context_room room;
  assert_int_equal(cuCtxSetCurrent(primaries[0]), 0);
  pega_context_begin(&room);
  pega_context_prepare();
  EXPECT_OK(pega_context_end(&room, "file", "f", false, PEGA_OK, &error), &error);
  assert_ptr_equal(current(), primaries[0]);
  /* And from now on it is watched. */
  pega_context_begin(&room);
  assert_int_equal(cuCtxSetCurrent(primaries[1]), 0);
  EXPECT_ERROR(pega_context_end(&room, "file", "f", false, PEGA_OK, &error), &error,
               PEGA_ERROR_CALLEE, "file: function 'f' left");
  assert_ptr_equal(current(), primaries[0]);
  pega_error_clear(&error);
}

static void test_device_is_found_late(void **state) {
  (void)state;
  pega_device_entered entered;
  assert_int_equal(cuCtxSetCurrent(primaries[0]), 0);
  assert_int_equal(pega_device_enter(1, &entered), 0);
  assert_ptr_equal(entered.context, primaries[1]);
  assert_ptr_equal(current(), primaries[1]);
  pega_device_leave(&entered);
  assert_ptr_equal(current(), primaries[0]);
}

/* The driver is asked for the number of a device once. */
static void test_device_is_asked_once(void **state) {
  (void)state;
  pega_device_entered entered;
  assert_int_equal(cuCtxSetCurrent(primaries[0]), 0);
  pega_fake_driver_clear_records();
  for (int i = 0; i < 10; ++i) {
    assert_int_equal(pega_device_enter(0, &entered), 0);
    assert_null(entered.context);
    assert_int_equal(pega_device_enter(1, &entered), 0);
    assert_ptr_equal(current(), primaries[1]);
    pega_device_leave(&entered);
  }
  assert_true(pega_fake_driver_count("cuDeviceGet") <= 1);
  /* One that is not there is asked for again, and is an error. */
  for (int i = 0; i < 2; ++i) {
    assert_int_equal(pega_device_enter(7, &entered), 101);
    assert_null(entered.context);
    assert_ptr_equal(current(), primaries[0]);
  }
  assert_int_equal(pega_device_enter(-1, &entered), 101);
  assert_int_equal(pega_device_enter(1 << 20, &entered), 101);
}

static int begin(void **state) {
  (void)state;
  if (pega_fake_driver_configure("devices=2") != 0 || cuInit(0) != 0) return -1;
  return cuDevicePrimaryCtxRetain(&primaries[0], 0) + cuDevicePrimaryCtxRetain(&primaries[1], 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_found_meanwhile),
      cmocka_unit_test(test_device_is_found_late),
      cmocka_unit_test(test_device_is_asked_once),
  };
  return cmocka_run_group_tests_name("watch", tests, begin, NULL);
}
