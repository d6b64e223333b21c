/* SPDX-License-Identifier: Apache-2.0 */
/* Every driver call of every scenario is made to fail, with each of many codes: the error names the
 * call and the code, the thread's contexts are what they were, nothing leaks, and trying again works
 * or, after an error that a context does not survive, says at once that it cannot. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenarios.h"

static const int codes[] = {1, 2, 3, 100, 201, 209, 214, 400, 500, 700, 719, 801, 900, 906, 999};

static bool is_sticky(int code) { return code == 214 || code == 700 || code == 719; }

/* A failure of these may go unseen: what they are for is done another way, or tried again. */
static bool is_tolerated(const char *call, int code) {
  if (strcmp(call, "cuPointerGetAttribute") == 0 && code == 201) return true;
  static const char *const names[] = {"cuCtxPopCurrent", "cuMemFreeAsync",
                                      "cuMemFree",       "cuThreadExchangeStreamCaptureMode",
                                      "cuCtxGetId",      "cuCtxGetDevice"};
  for (int i = 0; i < COUNT(names); ++i) {
    if (strcmp(call, names[i]) == 0) return true;
  }
  return false;
}

/* Of these the failure of a device is remembered; of the others it is not known to be the device's. */
static bool is_of_device(const char *call) {
  static const char *const names[] = {
      "cuModuleLoadData",   "cuModuleLoadDataEx", "cuModuleGetFunction", "cuFuncLoad",
      "cuFuncGetAttribute", "cuFuncSetAttribute", "cuFuncGetParamInfo",  "cuLaunchKernel",
      "cuLaunchKernelEx",   "cuMemAllocAsync",    "cuStreamIsCapturing", "cuDevicePrimaryCtxRetain",
      "cuMemAlloc",         "cuMemcpyHtoD",       "cuMemcpyDtoH",        "cuCtxSynchronize"};
  for (int i = 0; i < COUNT(names); ++i) {
    if (strcmp(call, names[i]) == 0) return true;
  }
  return false;
}

/* The name that the library knows an entry point by. */
static void base_name(const char *symbol, char *out, size_t capacity) {
  snprintf(out, capacity, "%s", symbol);
  char *version = strstr(out, "_v");
  if (version != NULL) *version = '\0';
}

/* What the failing call was: call number `nth` since the records were cleared. */
static bool failed_call(uint64_t nth, char *out, size_t capacity) {
  pega_fake_driver_call call;
  if (pega_fake_driver_get_call(nth - 1, &call) != 0) return false;
  base_name(call.name, out, capacity);
  return true;
}

static const scenario *running;
static uint64_t nth_failing;
static int code_failing;
static char call_failing[64];

#define REQUIRE(condition, error)                                                          \
  do {                                                                                     \
    if (!(condition)) {                                                                    \
      fail_msg("%s, call %d %s failing with %d: %s: not so; %s: %s", running->name,        \
               (int)nth_failing, call_failing, code_failing, #condition,                   \
               pega_status_name((pega_status)(error)->status), pega_error_message(error)); \
    }                                                                                      \
  } while (0)

static void check_error(pega_status status, const pega_error *error) {
  const char *text = pega_error_message(error);
  char number[16];
  /* That is how the driver says that there is no such parameter, which after the last is true. */
  const bool no_param = strcmp(call_failing, "cuFuncGetParamInfo") == 0 && code_failing == 1;
  if (status == PEGA_OK) {
    REQUIRE(is_tolerated(call_failing, code_failing) || no_param, error);
    return;
  }
  if (status == running->expected && is_tolerated(call_failing, code_failing)) return;
  REQUIRE(error->status == (int32_t)status, error);
  if (no_param) {
    REQUIRE(status == PEGA_ERROR_FORMAT && strstr(text, "the driver says [") != NULL, error);
    return;
  }
  if (strcmp(call_failing, "cuStreamIsCapturing") == 0 && code_failing == 906) {
    REQUIRE(status == PEGA_ERROR_UNAVAILABLE && error->code == 900, error);
    REQUIRE(strstr(text, "nothing was launched") != NULL, error);
    return;
  }
  snprintf(number, sizeof number, "(%d)", code_failing);
  REQUIRE(status == (code_failing == 2 ? PEGA_ERROR_OUT_OF_MEMORY : PEGA_ERROR_DRIVER), error);
  REQUIRE(error->code == code_failing, error);
  REQUIRE(strstr(text, call_failing) != NULL, error);
  REQUIRE(strstr(text, number) != NULL, error);
}

/* Which device has latched the failure, -1 for none. */
static int sticky_device(void) {
  for (int i = 0; i < 2; ++i) {
    const pega_device_health_info health = machine_health(i);
    if (health.code == 0) continue;
    assert_int_equal(health.code, code_failing);
    assert_true(strncmp(health.code_name, "CUDA_ERROR_", 11) == 0);
    assert_true(health.failed[0] != '\0');
    return i;
  }
  return -1;
}

static void check_sticky(pega_status status) {
  pega_error error = PEGA_ERROR_INIT;
  const bool closing = strcmp(running->name, "close") == 0;
  const int device = sticky_device();
  if (status != PEGA_OK && is_sticky(code_failing) && is_of_device(call_failing)) {
    REQUIRE(device >= 0, &error);
  }
  if (device < 0) return;
  REQUIRE(is_sticky(code_failing), &error);
  if (closing) return;
  /* At once: nothing is loaded, nothing launched. */
  const uint64_t loads = pega_fake_driver_count("cuModuleLoadData");
  const uint64_t launches = pega_fake_driver_count("cuLaunchKernel");
  const pega_status again = running->run(&error);
  REQUIRE(again == PEGA_ERROR_DRIVER, &error);
  REQUIRE(error.code == code_failing, &error);
  REQUIRE(strstr(pega_error_message(&error), "cannot be used since") != NULL, &error);
  REQUIRE(strstr(pega_error_message(&error), "pega_cuda_close()") != NULL, &error);
  assert_int_equal(pega_fake_driver_count("cuModuleLoadData"), loads);
  if (strncmp(running->name, "two devices", 11) != 0) {
    assert_int_equal(pega_fake_driver_count("cuLaunchKernel"), launches);
  }
  pega_error_clear(&error);
}

/* One run with call `nth` failing. False when there is no such call any more. */
static bool fail_call(uint64_t nth, int code, bool from_then_on) {
  pega_error error = PEGA_ERROR_INIT;
  nth_failing = nth;
  code_failing = code;
  snprintf(call_failing, sizeof call_failing, "none");
  const pega_fake_driver_live_counts at_first = machine_live();
  if (running->setup != NULL) running->setup();
  const machine_stack stack = machine_get_stack();
  const CUcontext current = machine_current();
  pega_fake_driver_clear_records();
  assert_int_equal(pega_fake_driver_fail(NULL, nth, code, from_then_on), 0);
  const pega_status status = running->run(&error);
  pega_fake_driver_clear_failures();
  const bool failed = failed_call(nth, call_failing, sizeof call_failing);
  if (!failed) REQUIRE(status == running->expected, &error);
  if (failed && !from_then_on) {
    check_error(status, &error);
    REQUIRE(machine_current() == current, &error);
    machine_expect_stack(&stack, call_failing);
  }
  pega_error_clear(&error);
  machine_set_stack(&stack);
  if (failed && !from_then_on) check_sticky(status);
  if (sticky_device() >= 0) {
    /* The work is stopped; what there was is given back, and it is begun anew. */
    if (running->teardown != NULL) running->teardown();
    EXPECT_OK(pega_cuda_close(&error), &error);
    if (running->setup != NULL) running->setup();
  }
  assert_int_equal(sticky_device(), -1);
  const pega_status retried = running->run(&error);
  REQUIRE(retried == running->expected, &error);
  pega_error_clear(&error);
  if (running->teardown != NULL) running->teardown();
  EXPECT_OK(pega_cuda_close(&error), &error);
  machine_expect_live(&at_first, running->name);
  return failed;
}

static void check_faults(void) {
  pega_fake_driver_fault_counts faults;
  pega_fake_driver_faults(&faults);
  assert_int_equal(faults.dead_handles, 0);
  assert_int_equal(faults.unknown_handles, 0);
  assert_int_equal(faults.double_frees, 0);
  assert_int_equal(faults.unknown_frees, 0);
  assert_int_equal(faults.unloaded_in_graph, 0);
  assert_int_equal(faults.captures_invalidated, 0);
}

static void each_call(void) {
  uint64_t most = 0;
  scenarios_start();
  for (int c = 0; c < COUNT(codes); ++c) {
    uint64_t nth = 1;
    while (fail_call(nth, codes[c], false)) ++nth;
    if (nth > most) most = nth;
    assert_true(nth < 200);
  }
  check_faults();
  print_message("%s: %d driver calls\n", running->name, (int)most - 1);
  assert_true(most > 1 || strcmp(running->name, "explain") == 0);
  scenarios_end();
}

/* The driver does not recover: still no leak, no crash, and all works when it is back. */
static void from_each_call_on(void) {
  static const int some[] = {1, 2, 700, 999};
  scenarios_start();
  for (int c = 0; c < COUNT(some); ++c) {
    uint64_t nth = 1;
    while (fail_call(nth, some[c], true)) ++nth;
  }
  scenarios_end();
}

/* A scenario a process: the fake driver remembers every handle that it ever gave. */
static void test_each_call(void **state) {
  (void)state;
  for (int i = 0; i < num_scenarios; ++i) {
    running = &scenarios[i];
    machine_in_child(each_call);
  }
}

static void test_from_each_call_on(void **state) {
  (void)state;
  for (int i = 0; i < num_scenarios; ++i) {
    running = &scenarios[i];
    machine_in_child(from_each_call_on);
  }
}

/* The driver's memory of what is loaded is exact: after a failed prepare nothing stays. */
static void nothing_is_left_of_a_failed_prepare(void) {
  machine_start("devices=2");
  static const kernel_param none[] = {END_OF_PARAMS};
  static const kernel_variant variants[] = {
      {"sm_90", "one", .when = "['n > 1']", .params = none},
      {"sm_90", "two", .params = none},
  };
  static const kernel_function function = {"t.left", "[{'name':'n','type':'int'}]", variants, 2,
                                           NULL};
  pega_error error = PEGA_ERROR_INIT;
  pega_function *left;
  pega_pack *pack = pack_of(&function, &left);
  const uint64_t at_first = machine_live().modules;
  assert_int_equal(pega_fake_driver_fail("cuFuncLoad", 2, 500, false), 0);
  EXPECT_ERROR(
      pega_function_prepare(left, CUDA(0), &error), &error, PEGA_ERROR_DRIVER,
      "t.left: cannot be prepared on cuda:0: cuFuncLoad failed: CUDA_ERROR_NOT_FOUND (500)", "two");
  assert_int_equal(error.code, 500);
  assert_int_equal(machine_live().modules, at_first);
  /* What cannot be unloaded is not lost: it is used, or goes at the end. */
  assert_int_equal(pega_fake_driver_fail("cuFuncLoad", 2, 500, false), 0);
  assert_int_equal(pega_fake_driver_fail("cuModuleUnload", 1, 400, false), 0);
  EXPECT_ERROR(pega_function_prepare(left, CUDA(0), &error), &error, PEGA_ERROR_DRIVER, "(500)");
  assert_int_equal(machine_live().modules, at_first + 1);
  EXPECT_OK(pega_function_prepare(left, CUDA(0), &error), &error);
  assert_int_equal(machine_live().modules, at_first + 2);
  EXPECT_OK(pega_cuda_close(&error), &error);
  assert_int_equal(machine_live().modules, at_first);
  pega_error_clear(&error);
  pega_function_release(left);
  pega_pack_release(pack);
}

/* First the launch that went well, then the one that did not, then what a later call says. */
static int fault(const pega_fake_driver_launch *launch, void *user) {
  (void)launch;
  return *(const int *)user;
}

static void sticky_errors(void) {
  machine_start("devices=2");
  static const kernel_param none[] = {END_OF_PARAMS};
  static const kernel_variant variant = {"sm_90", "faulty", .params = none};
  static const kernel_variant other = {"sm_90", "fine", .params = none};
  static const kernel_function functions[] = {{"t.faulty", "[]", &variant, 1, NULL},
                                              {"t.fine", "[]", &other, 1, NULL}};
  static const int all[] = {214, 220, 226, 700, 702, 710, 714, 715, 716, 717, 718, 719, 721, 911};
  static int code;
  pega_error error = PEGA_ERROR_INIT;
  bytes file = pack_make("sticky", functions, 2, NULL, 0);
  pega_pack *pack = pack_open(&file, 0);
  pega_function *faulty, *fine;
  EXPECT_OK(pega_pack_get(pack, "t.faulty", &faulty, &error), &error);
  EXPECT_OK(pega_pack_get(pack, "t.fine", &fine, &error), &error);
  for (int i = 0; i < COUNT(all); ++i) {
    char number[16];
    code = all[i];
    snprintf(number, sizeof number, "(%d)", code);
    EXPECT_OK(pega_function_prepare(faulty, CUDA(0), &error), &error);
    EXPECT_OK(pega_function_call(fine, NULL, 0, NULL, &error), &error);
    assert_string_equal(machine_health(0).last_good, "t.fine");
    assert_int_equal(pega_fake_driver_set_kernel("faulty", fault, &code), 0);
    /* The launch itself goes well; its error is met by the next call. */
    EXPECT_OK(pega_function_call(faulty, NULL, 0, NULL, &error), &error);
    assert_string_equal(machine_health(0).last_good, "t.faulty");
    assert_int_equal(machine_health(0).code, 0);
    EXPECT_ERROR(pega_function_call(fine, NULL, 0, NULL, &error), &error, PEGA_ERROR_DRIVER,
                 "t.fine: cuLaunchKernel failed: CUDA_ERROR_", number,
                 "the error may be that of an earlier launch on the device");
    assert_int_equal(error.code, code);
    const pega_device_health_info health = machine_health(0);
    assert_int_equal(health.code, code);
    assert_string_equal(health.failed, "t.fine");
    assert_string_equal(health.last_good, "t.faulty");
    const uint64_t launches = pega_fake_driver_count("cuLaunchKernel");
    EXPECT_ERROR(
        pega_function_call(faulty, NULL, 0, NULL, &error), &error, PEGA_ERROR_DRIVER,
        "t.faulty: nothing was launched: cuda:0 cannot be used since t.fine met CUDA_ERROR_",
        number, "the last launch that went well was t.faulty", "pega_cuda_close()");
    EXPECT_ERROR(pega_function_prepare(fine, CUDA(0), &error), &error, PEGA_ERROR_DRIVER,
                 "cannot be used since", number);
    EXPECT_ERROR(pega_pack_test(pack, CUDA(0), NULL, NULL, &error), &error, PEGA_ERROR_DRIVER,
                 "cannot be used since", number);
    assert_int_equal(pega_fake_driver_count("cuLaunchKernel"), launches);
    /* The other device is well. */
    assert_int_equal(machine_health(1).code, 0);
    assert_int_equal(pega_fake_driver_set_kernel("faulty", NULL, NULL), 0);
    EXPECT_OK(pega_cuda_close(&error), &error);
    assert_int_equal(machine_health(0).code, 0);
    assert_string_equal(machine_health(0).last_good, "");
    EXPECT_OK(pega_function_prepare(faulty, CUDA(0), &error), &error);
    EXPECT_OK(pega_function_call(faulty, NULL, 0, NULL, &error), &error);
  }
  EXPECT_OK(pega_cuda_close(&error), &error);
  pega_error_clear(&error);
  pega_function_release(faulty);
  pega_function_release(fine);
  pega_pack_release(pack);
  bytes_free(&file);
}

/* A launch of another thread has the error first, while this one gets its scratch. */
static pega_status fail_first(void *self, DLDevice device, size_t size, size_t alignment,
                              void *stream, void **out, pega_error *error) {
  static _Alignas(64) unsigned char room[64];
  pega_error first = PEGA_ERROR_INIT;
  (void)device;
  (void)alignment;
  (void)stream;
  (void)error;
  assert_true(size <= sizeof room);
  EXPECT_ERROR(pega_function_call(self, NULL, 0, NULL, &first), &first, PEGA_ERROR_DRIVER,
               "t.first: cuLaunchKernel failed: CUDA_ERROR_ILLEGAL_ADDRESS (700)");
  pega_error_clear(&first);
  *out = room;
  return PEGA_OK;
}

static void take_back(void *self, DLDevice device, void *memory, void *stream) {
  (void)self;
  (void)device;
  (void)memory;
  (void)stream;
}

/* What a device met first is the cause; what comes after it may be its consequence. */
static void first_error_stays(void) {
  machine_start("");
  static const kernel_param none[] = {END_OF_PARAMS};
  static const kernel_param scratch[] = {{.type = "pointer", .role = "global_scratch"},
                                         END_OF_PARAMS};
  static const kernel_variant first_variant = {"sm_90", "first", .params = none};
  static const kernel_variant second_variant = {"sm_90", "second", .params = scratch,
                                                .global_scratch = 8, .global_alignment = 8};
  static const kernel_function functions[] = {{"t.first", "[]", &first_variant, 1, NULL},
                                              {"t.second", "[]", &second_variant, 1, NULL}};
  pega_error error = PEGA_ERROR_INIT;
  bytes file = pack_make("latch", functions, 2, NULL, 0);
  pega_pack *pack = pack_open(&file, 0);
  pega_function *first, *second;
  EXPECT_OK(pega_pack_get(pack, "t.first", &first, &error), &error);
  EXPECT_OK(pega_pack_get(pack, "t.second", &second, &error), &error);
  EXPECT_OK(pega_function_prepare(first, CUDA(0), &error), &error);
  EXPECT_OK(pega_function_prepare(second, CUDA(0), &error), &error);
  const pega_cuda_allocator allocator = {sizeof allocator, 0, fail_first, take_back, first};
  EXPECT_OK(pega_cuda_set_allocator(&allocator, &error), &error);
  assert_int_equal(pega_fake_driver_fail("cuLaunchKernel", 1, 700, false), 0);
  assert_int_equal(pega_fake_driver_fail("cuLaunchKernel", 2, 719, false), 0);
  EXPECT_ERROR(pega_function_call(second, NULL, 0, NULL, &error), &error, PEGA_ERROR_DRIVER,
               "t.second: cuLaunchKernel failed: CUDA_ERROR_LAUNCH_FAILED (719)");
  pega_fake_driver_clear_failures();
  const pega_device_health_info health = machine_health(0);
  assert_int_equal(health.code, 700);
  assert_string_equal(health.code_name, "CUDA_ERROR_ILLEGAL_ADDRESS");
  assert_string_equal(health.failed, "t.first");
  EXPECT_ERROR(pega_function_call(second, NULL, 0, NULL, &error), &error, PEGA_ERROR_DRIVER,
               "cannot be used since t.first met CUDA_ERROR_ILLEGAL_ADDRESS (700)");
  assert_int_equal(error.code, 700);
  EXPECT_OK(pega_cuda_set_allocator(NULL, &error), &error);
  EXPECT_OK(pega_cuda_close(&error), &error);
  pega_error_clear(&error);
  pega_function_release(first);
  pega_function_release(second);
  pega_pack_release(pack);
  bytes_free(&file);
}

static void test_what_is_left(void **state) {
  (void)state;
  machine_in_child(nothing_is_left_of_a_failed_prepare);
  machine_in_child(sticky_errors);
  machine_in_child(first_error_stays);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_each_call),
      cmocka_unit_test(test_from_each_call_on),
      cmocka_unit_test(test_what_is_left),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
