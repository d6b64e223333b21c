/* SPDX-License-Identifier: Apache-2.0 */
/* What is on the way of a launch that is prepared: no lock, no allocation, and of the driver two calls. */
#include <pega/qwen35.h>
#include <stdio.h>
#include <string.h>

#include "../core/allocations.h"
#include "machine.h"
#include "packs.h"

#define POINTERS                                                                  \
  "{'name':'a_tril_ptr','type':'pointer'},{'name':'a_inv_ptr','type':'pointer'}," \
  "{'name':'seq_len','type':'int'},{'name':'num_value_heads','type':'int'}"
static const kernel_param raw_params[] = {PARAM("pointer", "a_tril_ptr"),
                                          PARAM("pointer", "a_inv_ptr"),
                                          PARAM("i32", "seq_len"),
                                          PARAM("i32", "num_value_heads"),
                                          SCRATCH("global_scratch"),
                                          SCRATCH("profile_scratch"),
                                          END_OF_PARAMS};
static const kernel_param tensor_params[] = {
    PARAM("pointer", "x"), PARAM("i64", "T * 2"),        PARAM("f32", "f"),
    PARAM("bf16", "f"),    PARAM("i64", "stride(x, 0)"), END_OF_PARAMS};
static const kernel_param map_params[] = {
    {.type = "tensor_map",
     .value = "x",
     .role = "tensor_descriptor",
     .encoding = "{'block':[4,4],'swizzle':0,'elem_type':7,'elem_size':4,'padding':0}"},
    END_OF_PARAMS};
static const kernel_variant raw = {"sm_90",
                                   "raw",
                                   .when = "['seq_len % 2 == 0']",
                                   .params = raw_params,
                                   .grid = {"cdiv(seq_len, 64)", "num_value_heads"},
                                   .shared = 70000};
static const kernel_variant wide = {"sm_90",
                                    "wide",
                                    .params = raw_params,
                                    .grid = {"4"},
                                    .cluster = {4, 1, 1},
                                    .pdl = true,
                                    .cooperative = true};
static const kernel_variant scratch = {"sm_90", "scratch", .params = raw_params,
                                       .global_scratch = 64, .global_alignment = 16};
static const kernel_variant tensor = {"sm_90", "tensor", .params = tensor_params, .grid = {"T"}};
static const kernel_variant map = {"sm_90a", "map", .params = map_params, .grid = {"T"}};
static const kernel_function functions[] = {
    {PEGA_QWEN35_CHUNK_SOLVE_RAW, "[" POINTERS ",{'name':'stream','type':'stream'}]", &raw, 1,
     NULL},
    {"t.raw", "[" POINTERS ",{'name':'stream','type':'stream'}]", &raw, 1, NULL},
    {"t.wide", "[" POINTERS ",{'name':'stream','type':'stream'}]", &wide, 1, NULL},
    {"t.scratch", "[" POINTERS ",{'name':'stream','type':'stream'}]", &scratch, 1, NULL},
    {"t.tensor",
     "[{'name':'x','type':'Tensor','dtype':'float32','shape':'T, 4'},{'name':'f','type':'float'}]",
     &tensor, 1, NULL},
    {"t.map", "[{'name':'x','type':'Tensor','dtype':'float32','shape':'T, 4'}]", &map, 1, NULL},
};

static pega_pack *pack;
static uint64_t memory;

/* What one call costs. `quiet`: the fake driver itself then allocates nothing and takes no lock. */
static void expect_bare(pega_status (*call)(void *self, pega_error *error), void *self,
                        const char *launch, const char *more, bool counts_allocations) {
  pega_error error = PEGA_ERROR_INIT;
  pega_fake_driver_set_quiet(true);
  for (int again = 0; again < 3; ++again) {
    const uint64_t all = pega_fake_driver_count(NULL);
    const uint64_t currents = pega_fake_driver_count("cuCtxGetCurrent");
    const uint64_t launches = pega_fake_driver_count(launch);
    const uint64_t others = more == NULL ? 0 : pega_fake_driver_count(more);
    allocations_begin(0);
    const pega_status status = call(self, &error);
    const allocations got = allocations_end();
    EXPECT_OK(status, &error);
    assert_int_equal(pega_fake_driver_count("cuCtxGetCurrent"), currents + 1);
    assert_int_equal(pega_fake_driver_count(launch), launches + 1);
    if (more != NULL) assert_int_equal(pega_fake_driver_count(more), others + 1);
    if (counts_allocations) {
      assert_int_equal(pega_fake_driver_count(NULL), all + (more == NULL ? 2 : 3));
      assert_int_equal(got.made, 0);
      assert_int_equal(got.live, 0);
      assert_int_equal(got.locks, 0);
    }
  }
  pega_fake_driver_set_quiet(false);
}

static pega_function *get(const char *name) {
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function;
  EXPECT_OK(pega_pack_get(pack, name, &function, &error), &error);
  EXPECT_OK(pega_function_prepare(function, CUDA(0), &error), &error);
  return function;
}

static pega_status call_raw(void *self, pega_error *error) {
  return pega_function_call(
      (pega_function *)self,
      ARGS(pega_value_pointer((void *)(uintptr_t)memory), pega_value_int((int64_t)(memory + 4096)),
           pega_value_int(2), pega_value_int(1), pega_value_pointer(NULL)),
      NULL, error);
}

static pega_status call_symbol(void *self, pega_error *error) {
  (void)self;
  const int result = gated_delta_rule_prefill_chunk_solve_cuda(
      (const float *)(uintptr_t)memory, (uint16_t *)(uintptr_t)(memory + 4096), 2, 1, NULL);
  return result == 0 ? PEGA_OK : pega_symbol_last_error(error);
}

static pega_status call_tensor(void *self, pega_error *error) {
  const DLTensor x = {(void *)(uintptr_t)memory, CUDA(0), 2, FLOAT32, SHAPE(3, 4), NULL, 0};
  return pega_function_call((pega_function *)self,
                            ARGS(pega_value_tensor(&x), pega_value_float(0.5)), NULL, error);
}

static pega_status call_map(void *self, pega_error *error) {
  const DLTensor x = {(void *)(uintptr_t)memory, CUDA(0), 2, FLOAT32, SHAPE(3, 4), NULL, 0};
  return pega_function_call((pega_function *)self, ARGS(pega_value_tensor(&x)), NULL, error);
}

static pega_status call_solve_tensor(void *self, pega_error *error) {
  const DLTensor a = {(void *)(uintptr_t)memory, CUDA(0), 3, FLOAT32, SHAPE(2, 1, 64), NULL, 0};
  const DLTensor b = {
      (void *)(uintptr_t)(memory + 4096), CUDA(0), 3, BFLOAT16, SHAPE(2, 1, 64), NULL, 0};
  return pega_function_call((pega_function *)self,
                            ARGS(pega_value_tensor(&a), pega_value_tensor(&b)), NULL, error);
}

static pega_status call_plan(void *self, pega_error *error) {
  void *const pointers[] = {(void *)(uintptr_t)memory, (void *)(uintptr_t)(memory + 4096)};
  return pega_plan_call((const pega_plan *)self, pointers, NULL, error);
}

/* And of a plan: what counts allocations is between the driver's calls, too. */
static void test_plans(void **state) {
  (void)state;
  static const char *const rows[] = {"t.raw", "t.wide"};
  pega_error error = PEGA_ERROR_INIT;
  for (int i = 0; i < COUNT(rows); ++i) {
    pega_function *function = get(rows[i]);
    pega_plan *plan = NULL;
    EXPECT_OK(pega_plan_create(function,
                               ARGS(pega_value_pointer((void *)(uintptr_t)memory),
                                    pega_value_int((int64_t)(memory + 4096)), pega_value_int(2),
                                    pega_value_int(1), pega_value_pointer(NULL)),
                               &plan, &error),
              &error);
    expect_bare(call_plan, plan, i == 0 ? "cuLaunchKernel" : "cuLaunchKernelEx", NULL, i == 0);
    const uint64_t before = pega_fake_driver_num_calls();
    EXPECT_OK(call_plan(plan, &error), &error);
    assert_int_equal(pega_fake_driver_num_calls() - before, 2);
    pega_plan_release(plan);
    pega_function_release(function);
  }
}

static void test_functions_of_a_pack(void **state) {
  (void)state;
  static const struct {
    const char *name, *launch, *more;
    pega_status (*call)(void *self, pega_error *error);
    bool bare;
  } rows[] = {{"t.raw", "cuLaunchKernel", NULL, call_raw, true},
              {"t.wide", "cuLaunchKernelEx", NULL, call_raw, false},
              {"t.tensor", "cuLaunchKernel", NULL, call_tensor, true},
              {"t.map", "cuLaunchKernel", "cuTensorMapEncodeTiled", call_map, false},
              {"t.scratch", "cuLaunchKernel", "cuMemAllocAsync", call_raw, false}};
  for (int i = 0; i < COUNT(rows); ++i) {
    pega_function *function = get(rows[i].name);
    expect_bare(rows[i].call, function, rows[i].launch, rows[i].more, rows[i].bare);
    pega_function_release(function);
  }
}

/* Where the fake driver has work of its own, the calls are counted all the same. */
static void test_calls_beside_the_launch(void **state) {
  (void)state;
  static const struct {
    const char *name;
    pega_status (*call)(void *self, pega_error *error);
    uint64_t calls;
  } rows[] = {{"t.wide", call_raw, 2}, {"t.map", call_map, 3}, {"t.scratch", call_raw, 4}};
  pega_error error = PEGA_ERROR_INIT;
  for (int i = 0; i < COUNT(rows); ++i) {
    pega_function *function = get(rows[i].name);
    const uint64_t before = pega_fake_driver_num_calls();
    EXPECT_OK(rows[i].call(function, &error), &error);
    assert_int_equal(pega_fake_driver_num_calls() - before, rows[i].calls);
    pega_function_release(function);
  }
}

static void test_built_in(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function;
  EXPECT_OK(pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE_RAW, &function, &error), &error);
  EXPECT_OK(pega_function_prepare(function, CUDA(0), &error), &error);
  expect_bare(call_raw, function, "cuLaunchKernel", NULL, true);
  pega_function_release(function);
  expect_bare(call_symbol, NULL, "cuLaunchKernel", NULL, true);
  EXPECT_OK(pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE, &function, &error), &error);
  EXPECT_OK(pega_function_prepare(function, CUDA(0), &error), &error);
  expect_bare(call_solve_tensor, function, "cuLaunchKernel", NULL, true);
  pega_function_release(function);
}

/* The counters see what there is: the first launch, which prepares, locks, allocates and asks. */
static void test_the_first_launch_costs(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function;
  EXPECT_OK(pega_cuda_close(&error), &error);
  EXPECT_OK(pega_pack_get(pack, "t.raw", &function, &error), &error);
  const uint64_t all = pega_fake_driver_count(NULL);
  allocations_begin(0);
  const pega_status status = call_raw(function, &error);
  const allocations got = allocations_end();
  EXPECT_OK(status, &error);
  assert_true(pega_fake_driver_count(NULL) > all + 5);
  assert_true(got.made > 0);
  assert_true(got.locks > 0);
  pega_function_release(function);
}

int main(void) {
  if (!allocations_are_counted()) {
    printf("SKIP: a sanitizer or valgrind owns malloc here; without them its calls are counted\n");
    return SUPPORT_SKIP;
  }
  machine_start("");
  pega_error error = PEGA_ERROR_INIT;
  bytes file = pack_make("path", functions, COUNT(functions), NULL, 0);
  pack = pack_open(&file, 0);
  memory = machine_alloc(0, 8192);
  CUcontext context;
  cu.cuDevicePrimaryCtxRetain(&context, 0);
  cu.cuCtxPushCurrent_v2(context);
  if (pega_pack_register(pack, PEGA_REGISTER_OVERRIDE, &error) != PEGA_OK) {
    printf("not registered: %s\n", pega_error_message(&error));
    return 1;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_functions_of_a_pack),
      cmocka_unit_test(test_calls_beside_the_launch),
      cmocka_unit_test(test_built_in),
      cmocka_unit_test(test_plans),
      cmocka_unit_test(test_the_first_launch_costs),
  };
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  pega_pack_release(pack);
  bytes_free(&file);
  return failed;
}
