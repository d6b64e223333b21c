/* SPDX-License-Identifier: Apache-2.0 */
/* A call with its signature checked allocates nothing and takes no lock. */
#include <stdio.h>
#include <stdlib.h>

#include "allocations.h"

static _Alignas(64) char memory[64];

/* Uses its arguments, as a launch would. */
static pega_status launch(void *self, const pega_value *args, int32_t num_args, pega_value *result,
                          pega_error *error) {
  (void)error;
  uint64_t sum = 0;
  for (int32_t i = 0; i < num_args; ++i) sum += args[i].as.u64;
  *(uint64_t *)self += sum;
  *result = pega_value_uint(sum);
  return PEGA_OK;
}

static void expect_bare_call(const pega_param *params, int32_t num_params, uint32_t flags,
                             const pega_value *args) {
  pega_error error = PEGA_ERROR_INIT;
  pega_signature signature;
  uint64_t total = 0;
  pega_function_options options = support_options("t.launch", &signature, params, num_params);
  signature.flags = flags;
  options.call = launch;
  options.self = &total;
  pega_function *function;
  EXPECT_OK(pega_function_create(&options, &function, &error), &error);
  /* The first call too: nothing is put off until then. */
  for (int again = 0; again < 3; ++again) {
    pega_value result;
    allocations_begin(0);
    const pega_status status = pega_function_call(function, args, num_params, &result, &error);
    const pega_status checked = pega_function_check(function, args, num_params, &error);
    const pega_status dropped = pega_function_call(function, args, num_params, NULL, NULL);
    const allocations got = allocations_end();
    EXPECT_OK(status, &error);
    EXPECT_OK(checked, &error);
    EXPECT_OK(dropped, &error);
    assert_int_equal(got.made, 0);
    assert_int_equal(got.live, 0);
    assert_int_equal(got.locks, 0);
  }
  assert_int_not_equal(total, 0);
  pega_function_release(function);
}

static void test_five_ints(void **state) {
  (void)state;
  const pega_param params[5] = {
      {.name = "a", .type = PEGA_TYPE_INT, .flags = PEGA_PARAM_RANGE, .min = 0, .max = 100},
      {.name = "b", .type = PEGA_TYPE_INT},
      {.name = "c", .type = PEGA_TYPE_INT, .flags = PEGA_PARAM_OPTIONAL},
      {.name = "d", .type = PEGA_TYPE_POINTER, .flags = PEGA_PARAM_NONNULL, .alignment = 16},
      {.name = "e", .type = PEGA_TYPE_STREAM},
  };
  const pega_value ints[5] = {pega_value_int(1), pega_value_int(2), pega_value_int(3),
                              pega_value_int(16), pega_value_int(5)};
  expect_bare_call(params, 5, 0, ints);
}

static void test_seven_tensors(void **state) {
  (void)state;
  static const char *const names[7] = {"a", "b", "c", "d", "e", "f", "g"};
  pega_error error = PEGA_ERROR_INIT;
  const DLTensor tensor = TENSOR(memory, FLOAT32, 2, 4);
  pega_value counted;
  EXPECT_OK(pega_tensor_create(&tensor, 0, NULL, NULL, NULL, &counted, &error), &error);
  pega_param params[7] = {{0}};
  pega_value args[7];
  for (int i = 0; i < 7; ++i) {
    params[i] = (pega_param){.name = names[i],
                             .type = PEGA_TYPE_TENSOR,
                             .flags = PEGA_PARAM_CONTIGUOUS | (i == 6 ? PEGA_PARAM_OUTPUT : 0),
                             .dtype = FLOAT32,
                             .device_type = kDLCPU,
                             .shape = i % 2 == 0 ? "T, 4" : "T, HV",
                             .alignment = 16};
    args[i] = i == 6 ? counted : pega_value_tensor(&tensor);
  }
  expect_bare_call(params, 7, PEGA_SIGNATURE_SAME_DEVICE, args);
  pega_value_release(&counted);
}

/* What is counted is what happens. */
static void test_the_counters(void **state) {
  (void)state;
  pega_value list;
  allocations_begin(0);
  void *volatile block = malloc(100);
  block = realloc(block, 5000);
  const pega_status status = pega_registry_list(&list, NULL);
  allocations got = allocations_end();
  assert_int_equal(status, PEGA_OK);
  assert_true(got.made >= 5);
  assert_true(got.live >= 2);
  assert_true(got.locks >= 1);
  assert_false(got.failed);
  pega_value_release(&list);
  free(block);
  allocations_begin(2);
  void *volatile first = malloc(1);
  void *volatile second = malloc(1);
  void *volatile third = calloc(1, 1);
  got = allocations_end();
  assert_true(got.failed);
  assert_non_null(first);
  assert_null(second);
  assert_non_null(third);
  free(first);
  free(third);
}

int main(void) {
  if (!allocations_are_counted()) {
    printf("SKIP: a sanitizer or valgrind owns malloc here; without them its calls are counted\n");
    return SUPPORT_SKIP;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_the_counters),
      cmocka_unit_test(test_five_ints),
      cmocka_unit_test(test_seven_tensors),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
