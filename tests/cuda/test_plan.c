/* SPDX-License-Identifier: Apache-2.0 */
/* A plan launches what the call that it was made of launches, byte by byte, and nothing else. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../core/allocations.h"
#include "machine.h"
#include "packs.h"

enum { kMostPointers = 16, kThreads = 8, kRounds = 200 };

static const kernel_param raw_params[] = {PARAM("pointer", "x"),   PARAM("i32", "n"),
                                          PARAM("pointer", "y"),   PARAM("pointer", "x + 256 * n"),
                                          PARAM("i64", "y - 16"),  PARAM("f32", "f"),
                                          PARAM("pointer", "z"),   SCRATCH("global_scratch"),
                                          PARAM("bool", "z != 0"), END_OF_PARAMS};
static const kernel_param tensor_params[] = {PARAM("pointer", "a"),        PARAM("i64", "T * 2"),
                                             PARAM("bf16", "f"),           PARAM("pointer", "b"),
                                             PARAM("i64", "stride(a, 0)"), END_OF_PARAMS};
static const kernel_param map_params[] = {
    {.type = "tensor_map",
     .value = "a",
     .role = "tensor_descriptor",
     .encoding = "{'block':[4,4],'swizzle':0,'elem_type':7,'elem_size':4,'padding':0}"},
    END_OF_PARAMS};
static const kernel_param low_params[] = {PARAM("i32", "x % 65536"), END_OF_PARAMS};
static const kernel_param pointer_params[] = {PARAM("pointer", "x"), END_OF_PARAMS};

#define RAW                                                                                    \
  "[{'name':'x','type':'pointer','nonnull':true,'alignment':8},{'name':'y','type':'pointer'}," \
  "{'name':'n','type':'int','min':0,'max':100000},{'name':'f','type':'float'},"                \
  "{'name':'z','type':'pointer'},{'name':'s','type':'stream'}]"
#define POINTER "[{'name':'x','type':'pointer'},{'name':'s','type':'stream'}]"
#define TENSORS                                                                                 \
  "[{'name':'a','type':'Tensor','dtype':'float32','shape':'T, 4'},{'name':'f','type':'float'}," \
  "{'name':'b','type':'Tensor','dtype':'bfloat16','shape':'T','optional':true}]"

static const kernel_variant raw[] = {
    {"sm_90", "even", .when = "['n % 2 == 0']", .params = raw_params, .grid = {"cdiv(n, 64)", "2"},
     .block = {64, 2, 1}, .shared = 70000},
    {"sm_90", "odd", .params = raw_params, .grid = {"n"}}};
static const kernel_variant wide = {"sm_90",
                                    "wide",
                                    .params = raw_params,
                                    .grid = {"4"},
                                    .cluster = {4, 1, 1},
                                    .pdl = true,
                                    .cooperative = true};
static const kernel_variant tensors = {"sm_90", "tensors", .params = tensor_params,
                                       .grid = {"T", "3"}};
static const kernel_variant scratch = {"sm_90", "scratch", .params = raw_params,
                                       .global_scratch = 64, .global_alignment = 16};
static const kernel_variant map = {"sm_90a", "map", .params = map_params};
static const kernel_variant aligned[] = {
    {"sm_90", "by_64", .when = "['x % 64 == 0']", .params = pointer_params},
    {"sm_90", "by_less", .params = pointer_params}};
static const kernel_variant by_64[] = {
    {"sm_90", "by_64", .when = "['x % 64 == 0']", .params = raw_params}};
static const kernel_variant by_half = {"sm_90", "half", .when = "['x % 512 == 0']",
                                       .params = raw_params};
static const kernel_variant high = {"sm_90", "high", .when = "['x < 281474976710656']",
                                    .params = raw_params};
static const kernel_variant low = {"sm_90", "low", .params = low_params};
static const kernel_param many_params[] = {
    PARAM("i32", "7"), {.type = "i32", .value = "7", .offset = 600}, END_OF_PARAMS};
static const kernel_variant many = {"sm_90", "many", .params = many_params};
static const kernel_variant sized = {"sm_90", "sized", .params = low_params, .grid = {"x % 7"}};

/* What looks at addresses: at two of them, or at more than the low bits of one. */
static const kernel_param least_params[] = {PARAM("pointer", "min(x, y)"), END_OF_PARAMS};
static const kernel_param equal_params[] = {PARAM("i32", "x == z"), END_OF_PARAMS};
static const kernel_variant in_place[] = {
    {"sm_90", "in_place", .when = "['x == z']", .params = raw_params},
    {"sm_90", "apart", .params = raw_params}};
static const kernel_variant overlap[] = {
    {"sm_90", "apart", .when = "['x + 4 * n <= z or z + 4 * n <= x']", .params = raw_params},
    {"sm_90", "overlapping", .params = raw_params}};
static const kernel_variant page[] = {
    {"sm_90", "first", .when = "['x / 4096 % 2 == 0']", .params = raw_params},
    {"sm_90", "second", .params = raw_params}};
static const kernel_variant least = {"sm_90", "least", .params = least_params};
static const kernel_variant equal = {"sm_90", "equal", .params = equal_params};
static const kernel_variant by_grid = {"sm_90", "by_grid", .params = raw_params,
                                       .grid = {"1 + (x == z) * 7"}};
static const kernel_variant to_none = {"sm_90", "to_none", .params = raw_params,
                                       .grid = {"x == z"}};
/* What looks at whether they are there, and at low bits. */
static const kernel_variant either[] = {
    {"sm_90", "one_is", .when = "['x % 16 == 0 or z % 32 == 0']", .params = raw_params},
    {"sm_90", "none_is", .params = raw_params}};
static const kernel_variant odd_low[] = {
    {"sm_90", "is_8", .when = "['(x + 8 * n) % 16 == 8']", .params = raw_params},
    {"sm_90", "is_0", .params = raw_params}};
static const kernel_variant there[] = {
    {"sm_90", "there", .when = "['x != 0 and not (z == 0)', 'x and y']", .params = raw_params},
    {"sm_90", "not_there", .params = raw_params}};
static const kernel_variant later[] = {
    {"sm_90", "special", .when = "['x % 64 == 0', 'x < y', 'n == 7']", .params = raw_params},
    {"sm_90", "usual", .when = "['n > 0']", .params = raw_params},
    {"sm_90", "never", .when = "['x < y']", .params = raw_params}};

static const kernel_function functions[] = {{"t.raw", RAW, raw, 2, NULL},
                                            {"t.in_place", RAW, in_place, 2, NULL},
                                            {"t.overlap", RAW, overlap, 2, NULL},
                                            {"t.page", RAW, page, 2, NULL},
                                            {"t.least", RAW, &least, 1, NULL},
                                            {"t.equal", RAW, &equal, 1, NULL},
                                            {"t.by_grid", RAW, &by_grid, 1, NULL},
                                            {"t.to_none", RAW, &to_none, 1, NULL},
                                            {"t.either", RAW, either, 2, NULL},
                                            {"t.odd_low", RAW, odd_low, 2, NULL},
                                            {"t.there", RAW, there, 2, NULL},
                                            {"t.later", RAW, later, 3, NULL},
                                            {"t.wide", RAW, &wide, 1, NULL},
                                            {"t.tensors", TENSORS, &tensors, 1, NULL},
                                            {"t.scratch", RAW, &scratch, 1, NULL},
                                            {"t.map",
                                             "[{'name':'a','type':'Tensor','dtype':"
                                             "'float32','shape':'T, 4'}]",
                                             &map, 1, NULL},
                                            {"t.aligned", POINTER, aligned, 2, NULL},
                                            {"t.by_64", RAW, by_64, 1, NULL},
                                            {"t.half", RAW, &by_half, 1, NULL},
                                            {"t.high", RAW, &high, 1, NULL},
                                            {"t.low", POINTER, &low, 1, NULL},
                                            {"t.sized", POINTER, &sized, 1, NULL},
                                            {"t.many", POINTER, &many, 1, NULL}};
static bytes file;
static pega_pack *pack;
static CUcontext primary;
static CUstream stream, other_stream;

static pega_function *get(const char *name) {
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function = NULL;
  EXPECT_OK(pega_pack_get(pack, name, &function, &error), &error);
  return function;
}

/* Memory is never looked at: any address will do. */
static void *at(uint64_t address) { return (void *)(uintptr_t)address; }
enum { kFirst = 0x10000, kSecond = 0x7000000 };

typedef struct raw_call {
  pega_value args[6];
} raw_call;

static raw_call raw_args(uint64_t first, int64_t n, bool z, void *on) {
  return (raw_call){{pega_value_pointer(at(first)), pega_value_int((int64_t)first + 0x1000),
                     pega_value_int(n), pega_value_float(0.5),
                     pega_value_pointer(z ? at(first + 0x2000) : NULL), pega_value_pointer(on)}};
}

static pega_plan *make(pega_function *function, const pega_value *args, int32_t num_args) {
  pega_error error = PEGA_ERROR_INIT;
  pega_plan *plan = NULL;
  const uint64_t before = pega_fake_driver_num_launches();
  EXPECT_OK(pega_plan_create(function, args, num_args, &plan, &error), &error);
  assert_int_equal(pega_fake_driver_num_launches(), before);
  return plan;
}

static pega_fake_driver_launch launch_at(uint64_t index) {
  pega_fake_driver_launch got;
  assert_int_equal(pega_fake_driver_get_launch(index, &got), 0);
  return got;
}

/* All that a GPU gets. */
static void expect_same(uint64_t index, uint64_t expected_index, const char *what) {
  const pega_fake_driver_launch got = launch_at(index);
  const pega_fake_driver_launch expected = launch_at(expected_index);
  bool same =
      strcmp(got.name, expected.name) == 0 && got.function == expected.function &&
      got.context == expected.context && got.stream == expected.stream &&
      memcmp(got.grid, expected.grid, sizeof got.grid) == 0 &&
      memcmp(got.block, expected.block, sizeof got.block) == 0 &&
      memcmp(got.cluster, expected.cluster, sizeof got.cluster) == 0 &&
      got.shared_bytes == expected.shared_bytes && got.cooperative == expected.cooperative &&
      got.programmatic == expected.programmatic && got.num_attributes == expected.num_attributes &&
      got.params_size == expected.params_size;
  for (uint32_t i = 0; same && i < got.num_attributes; ++i) {
    same = memcmp(&got.attributes[i], &expected.attributes[i], sizeof got.attributes[i]) == 0;
  }
  same = same && memcmp(got.params_bytes, expected.params_bytes, got.params_size) == 0;
  if (!same) fail_msg("%s: '%s' is launched otherwise than by the call", what, expected.name);
}

static void *address_of(const pega_value *value) {
  if (value->kind == PEGA_TENSOR) return pega_tensor_data(pega_value_as_tensor(value));
  return at(value->as.u64);
}

/* The pointers of a plan, out of arguments. */
static int32_t pointers_of(const pega_plan *plan, const pega_value *args, void **out) {
  const int32_t count = pega_plan_num_pointers(plan);
  assert_in_range(count, 0, kMostPointers);
  for (int32_t i = 0; i < count; ++i) {
    const int32_t argument = pega_plan_pointer_argument(plan, i);
    assert_true(argument >= 0 && (i == 0 || argument > pega_plan_pointer_argument(plan, i - 1)));
    out[i] = address_of(&args[argument]);
  }
  return count;
}

/* The call, then a plan made with `bound` and called with the pointers of `args`: the same
 * launches. */
static void expect_as_called(pega_function *function, const pega_value *bound,
                             const pega_value *args, int32_t num_args, void *on) {
  pega_error error = PEGA_ERROR_INIT;
  void *pointers[kMostPointers];
  pega_fake_driver_clear_records();
  EXPECT_OK(pega_function_call(function, args, num_args, NULL, &error), &error);
  const uint64_t count = pega_fake_driver_num_launches();
  pega_plan *plan = make(function, bound, num_args);
  assert_int_equal(pega_plan_num_launches(plan), count);
  pointers_of(plan, args, pointers);
  for (uint64_t again = 0; again < 2; ++again) {
    EXPECT_OK(pega_plan_call(plan, pointers, on, &error), &error);
    assert_int_equal(pega_fake_driver_num_launches(), (again + 2) * count);
    for (uint64_t i = 0; i < count; ++i) {
      expect_same((again + 1) * count + i, i, pega_function_name(function));
    }
  }
  pega_plan_release(plan);
}

/* ---- What is launched ---- */

static void test_raw(void **state) {
  (void)state;
  static const char *const names[] = {"t.raw", "t.wide"};
  for (int i = 0; i < COUNT(names); ++i) {
    pega_function *function = get(names[i]);
    for (int n = 1; n < 4; ++n) {
      for (int z = 0; z < 2; ++z) {
        const raw_call bound = raw_args(kFirst, n, z != 0, NULL);
        const raw_call call = raw_args(kSecond, n, z != 0, stream);
        expect_as_called(function, bound.args, call.args, 6, stream);
        expect_as_called(function, call.args, call.args, 6, stream);
      }
    }
    pega_function_release(function);
  }
}

typedef struct tensor_call {
  int64_t shape[2], strides[2];
  DLTensor a, b;
  pega_value args[3];
} tensor_call;

static void tensor_args(tensor_call *out, uint64_t first, uint64_t offset, bool b) {
  *out = (tensor_call){.shape = {3, 4}, .strides = {9, 1}};
  out->a = (DLTensor){at(first), CUDA(0), 2, FLOAT32, out->shape, out->strides, offset};
  out->b = (DLTensor){at(first + 0x4000), CUDA(0), 1, BFLOAT16, out->shape, NULL, 0};
  out->args[0] = pega_value_tensor(&out->a);
  out->args[1] = pega_value_int(2);
  out->args[2] = b ? pega_value_tensor(&out->b) : pega_value_none();
}

static void test_tensors(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function = get("t.tensors");
  EXPECT_OK(pega_stream_set(CUDA(0), stream, NULL, &error), &error);
  for (int b = 0; b < 2; ++b) {
    tensor_call bound, call;
    tensor_args(&bound, kFirst, 32, b != 0);
    tensor_args(&call, kSecond, 12, b != 0);
    expect_as_called(function, bound.args, call.args, 3, stream);
    /* What is left out is none. */
    if (b == 0) expect_as_called(function, bound.args, call.args, 2, stream);
  }
  /* A counted tensor. */
  tensor_call bound, call;
  tensor_args(&bound, kFirst, 0, false);
  tensor_args(&call, kSecond, 0, false);
  EXPECT_OK(pega_tensor_create(&bound.a, 0, NULL, NULL, NULL, &bound.args[0], &error), &error);
  expect_as_called(function, bound.args, call.args, 3, stream);
  pega_value_release(&bound.args[0]);
  EXPECT_OK(pega_stream_set(CUDA(0), NULL, NULL, &error), &error);
  pega_function_release(function);
}

/* Which pointers there are, and what they have to be aligned to. */
static void test_pointers(void **state) {
  (void)state;
  static const struct {
    const char *name;
    size_t alignment; /* of x */
  } rows[] = {{"t.raw", 8}, {"t.by_64", 64}};
  pega_error error = PEGA_ERROR_INIT;
  for (int i = 0; i < COUNT(rows); ++i) {
    pega_function *function = get(rows[i].name);
    const raw_call call = raw_args(kFirst, 2, false, NULL);
    pega_plan *plan = make(function, call.args, 6);
    assert_int_equal(pega_plan_num_pointers(plan), 2);
    assert_int_equal(pega_plan_num_launches(plan), 1);
    assert_int_equal(pega_plan_pointer_argument(plan, 0), 0);
    assert_int_equal(pega_plan_pointer_argument(plan, 1), 1);
    assert_int_equal(pega_plan_pointer_argument(plan, 2), -1);
    assert_int_equal(pega_plan_pointer_argument(plan, -1), -1);
    assert_int_equal(pega_plan_pointer_alignment(plan, 0), rows[i].alignment);
    assert_int_equal(pega_plan_pointer_alignment(plan, 1), 1);
    assert_int_equal(pega_plan_pointer_alignment(plan, 2), 0);
    const uint64_t half = rows[i].alignment / 2;
    pega_fake_driver_clear_records();
    EXPECT_ERROR(pega_plan_call(plan, (void *[]){at(kFirst + half), at(3)}, NULL, &error), &error,
                 PEGA_ERROR_LAYOUT, rows[i].name, "nothing was launched", "pointer 0 of the plan",
                 "argument 0 'x'", rows[i].alignment == 8 ? "aligned to 8 bytes" : "to 64 bytes",
                 "got 0x10");
    EXPECT_ERROR(pega_plan_call(plan, (void *[]){at(kFirst), NULL}, NULL, &error), &error,
                 PEGA_ERROR_RANGE, "pointer 1 of the plan", "argument 1 'y'", "not NULL");
    EXPECT_ERROR(pega_plan_call(plan, NULL, NULL, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
                 "pointers is NULL");
    EXPECT_ERROR(pega_plan_call(NULL, (void *[]){NULL}, NULL, &error), &error,
                 PEGA_ERROR_INVALID_ARGUMENT, "plan is NULL");
    assert_int_equal(pega_fake_driver_num_launches(), 0);
    EXPECT_OK(pega_plan_call(plan, (void *[]){at(kFirst + 64), at(3)}, NULL, &error), &error);
    assert_int_equal(pega_fake_driver_num_launches(), 1);
    pega_plan_release(plan);
    pega_function_release(function);
  }
  pega_error_clear(&error);
  assert_int_equal(pega_plan_num_pointers(NULL), 0);
  assert_int_equal(pega_plan_num_launches(NULL), 0);
}

/* Two plans of one function, and streams: nothing is kept from call to call. */
static void test_streams(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function = get("t.raw");
  const raw_call two = raw_args(kFirst, 2, true, stream);
  const raw_call three = raw_args(kSecond, 3, true, stream);
  pega_plan *plans[] = {make(function, two.args, 6), make(function, three.args, 6)};
  void *const streams[] = {stream, other_stream, NULL};
  for (int i = 0; i < 12; ++i) {
    void *x = at((uint64_t)kFirst + (uint64_t)i * 64);
    pega_fake_driver_clear_records();
    EXPECT_OK(pega_plan_call(plans[i % 2], (void *[]){x, x, x}, streams[i % 3], &error), &error);
    const pega_fake_driver_launch got = machine_last_launch();
    assert_string_equal(got.name, i % 2 == 0 ? "even" : "odd");
    assert_ptr_equal(got.stream, streams[i % 3]);
    assert_memory_equal(got.params[0].bytes, &x, sizeof x);
    assert_memory_equal(got.params[2].bytes, &x, sizeof x);
    const uint64_t behind = (uint64_t)(uintptr_t)x + (i % 2 == 0 ? 512 : 768);
    assert_memory_equal(got.params[3].bytes, &behind, sizeof behind);
  }
  for (int i = 0; i < 2; ++i) pega_plan_release(plans[i]);
  pega_function_release(function);
}

static void test_nothing_to_launch(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function = get("t.raw");
  const raw_call call = raw_args(kFirst, 0, true, NULL);
  pega_plan *plan = make(function, call.args, 6);
  assert_int_equal(pega_plan_num_launches(plan), 0);
  assert_int_equal(pega_plan_num_pointers(plan), 3);
  pega_fake_driver_clear_records();
  EXPECT_OK(pega_plan_call(plan, (void *[]){at(8), at(8), at(8)}, NULL, &error), &error);
  EXPECT_ERROR(pega_plan_call(plan, (void *[]){at(8), at(8), NULL}, NULL, &error), &error,
               PEGA_ERROR_RANGE, "argument 4 'z'");
  assert_int_equal(pega_fake_driver_num_launches(), 0);
  pega_plan_release(plan);
  pega_function_release(function);
  pega_error_clear(&error);
}

/* ---- What is no plan ---- */

static pega_status on_host(void *self, const pega_value *args, int32_t num_args, pega_value *result,
                           pega_error *error) {
  ++*(int *)self;
  return support_no_op(self, args, num_args, result, error);
}

static void expect_no_plan(pega_function *function, const pega_value *args, int32_t num_args,
                           pega_status status, const char *text) {
  pega_error error = PEGA_ERROR_INIT;
  pega_plan *plan = (pega_plan *)at(1);
  const uint64_t before = pega_fake_driver_num_launches();
  EXPECT_ERROR(pega_plan_create(function, args, num_args, &plan, &error), &error, status,
               pega_function_name(function), text);
  assert_int_equal(pega_plan_create(function, args, num_args, &plan, NULL), status);
  assert_ptr_equal(plan, at(1));
  assert_int_equal(pega_fake_driver_num_launches(), before);
  pega_error_clear(&error);
}

static void test_refused(void **state) {
  (void)state;
  static const struct {
    const char *name;
    uint64_t x;
    const char *text;
  } rows[] = {
      {"t.scratch", kFirst, "takes memory from the stream's pool"},
      {"t.half", kFirst, "depends on x"},
      {"t.high", kFirst, "depends on an address"},
      /* The call itself is refused. */
      {"t.half", kFirst + 64, "none of the 1 variants"},
      {"t.raw", kFirst + 1, "aligned to 8 bytes"},
  };
  for (int i = 0; i < COUNT(rows); ++i) {
    pega_function *function = get(rows[i].name);
    const raw_call call = raw_args(rows[i].x, 2, true, NULL);
    expect_no_plan(function, call.args, 6,
                   i < 3    ? PEGA_ERROR_UNSUPPORTED
                   : i == 3 ? PEGA_ERROR_NOT_FOUND
                            : PEGA_ERROR_LAYOUT,
                   rows[i].text);
    pega_function_release(function);
  }
  static const struct {
    const char *name, *text;
  } pointer_rows[] = {{"t.low", "depends on x"},
                      {"t.sized", "depends on an address"},
                      {"t.many", "or than 64 parameters or 512 bytes"}};
  for (int i = 0; i < COUNT(pointer_rows); ++i) {
    pega_function *function = get(pointer_rows[i].name);
    const pega_value args[] = {pega_value_pointer(at(kFirst)), pega_value_pointer(stream)};
    expect_no_plan(function, args, 2, PEGA_ERROR_UNSUPPORTED, pointer_rows[i].text);
    pega_function_release(function);
  }
  /* Bound where it is not the aligned one that is launched. */
  pega_function *function = get("t.aligned");
  expect_no_plan(function,
                 (pega_value[]){pega_value_pointer(at(kFirst + 8)), pega_value_pointer(NULL)}, 2,
                 PEGA_ERROR_UNSUPPORTED, "multiples of 256 may help");
  const pega_value good[] = {pega_value_pointer(at(kFirst)), pega_value_pointer(NULL)};
  pega_plan *plan = make(function, good, 2);
  assert_int_equal(pega_plan_pointer_alignment(plan, 0), 64);
  pega_plan_release(plan);
  pega_function_release(function);
  tensor_call call;
  tensor_args(&call, kFirst, 0, true);
  function = get("t.map");
  expect_no_plan(function, call.args, 1, PEGA_ERROR_UNSUPPORTED, "tensor descriptor");
  pega_function_release(function);
  function = get("t.tensors");
  call.a.device = call.b.device = CPU;
  expect_no_plan(function, call.args, 3, PEGA_ERROR_DEVICE, "expected a tensor on a cuda device");
  expect_no_plan(function, call.args, 1, PEGA_ERROR_ARGUMENT_COUNT, "expected 2 to 3 arguments");
  pega_function_release(function);
  int calls = 0;
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  pega_error error = PEGA_ERROR_INIT;
  options.name = "t.host";
  options.call = on_host;
  options.self = &calls;
  EXPECT_OK(pega_function_create(&options, &function, &error), &error);
  expect_no_plan(function, call.args, 3, PEGA_ERROR_UNSUPPORTED, "expected a function of a pack");
  assert_int_equal(calls, 0);
  pega_function_release(function);
}

/* An expression that does with an address what a plan cannot follow. */
static void test_expressions_refused(void **state) {
  (void)state;
  static const struct {
    const char *name, *text;
  } rows[] = {{"t.in_place", "depends on x == z"},
              {"t.overlap", "depends on x + 4 * n <= z or z + 4 * n <= x"},
              {"t.page", "depends on x / 4096 % 2 == 0"},
              {"t.least", "depends on min(x, y)"},
              {"t.equal", "depends on x == z"},
              {"t.by_grid", "depends on 1 + (x == z) * 7"},
              {"t.to_none", "depends on x == z"}};
  for (int i = 0; i < COUNT(rows); ++i) {
    pega_function *function = get(rows[i].name);
    const raw_call call = raw_args(kFirst, 2, true, NULL);
    expect_no_plan(function, call.args, 6, PEGA_ERROR_UNSUPPORTED, rows[i].text);
    pega_function_release(function);
  }
}

/* Those that it can: what they come to is the same in every call that the alignments let pass. */
static void test_expressions(void **state) {
  (void)state;
  static const struct {
    const char *name, *launched;
    size_t x, z; /* alignments */
  } rows[] = {{"t.either", "one_is", 16, 32},
              {"t.odd_low", "is_0", 16, 1},
              {"t.there", "there", 8, 1},
              {"t.later", "usual", 8, 1}};
  pega_error error = PEGA_ERROR_INIT;
  for (int i = 0; i < COUNT(rows); ++i) {
    pega_function *function = get(rows[i].name);
    const raw_call call = raw_args(kFirst, 2, true, NULL);
    const raw_call other = raw_args(kSecond, 2, true, NULL);
    expect_as_called(function, call.args, other.args, 6, NULL);
    assert_string_equal(machine_last_launch().name, rows[i].launched);
    pega_plan *plan = make(function, call.args, 6);
    assert_int_equal(pega_plan_pointer_alignment(plan, 0), rows[i].x);
    assert_int_equal(pega_plan_pointer_alignment(plan, 1), 1);
    assert_int_equal(pega_plan_pointer_alignment(plan, 2), rows[i].z);
    if (rows[i].x == 16) {
      EXPECT_ERROR(
          pega_plan_call(plan, (void *[]){at(kFirst + 8), at(8), at(kFirst + 8)}, NULL, &error),
          &error, PEGA_ERROR_LAYOUT, "aligned to 16 bytes");
    }
    pega_plan_release(plan);
    pega_function_release(function);
  }
  /* Bound to an address that the plan would not take. */
  pega_function *function = get("t.either");
  raw_call call = raw_args(kFirst, 2, true, NULL);
  call.args[4] = pega_value_pointer(at(kFirst + 8));
  expect_no_plan(function, call.args, 6, PEGA_ERROR_UNSUPPORTED, "depends on z");
  pega_function_release(function);
  pega_error_clear(&error);
}

/* A driver that fails while a plan is made says so; it is no address's fault. */
static void test_trials_fail(void **state) {
  (void)state;
  pega_function *function = get("t.raw");
  const raw_call call = raw_args(kFirst, 2, true, NULL);
  int failed = 0;
  for (uint64_t nth = 1; nth < 100; ++nth) {
    pega_error error = PEGA_ERROR_INIT;
    pega_plan *plan = NULL;
    pega_fake_driver_fail("cuCtxGetCurrent", nth, 3, false);
    const pega_status status = pega_plan_create(function, call.args, 6, &plan, &error);
    pega_fake_driver_clear_failures();
    pega_plan_release(plan);
    if (status != PEGA_OK) {
      EXPECT_ERROR(status, &error, PEGA_ERROR_DRIVER, "cuCtxGetCurrent");
      assert_int_equal(error.code, 3);
      ++failed;
    }
    pega_error_clear(&error);
  }
  assert_in_range(failed, 8, 50);
  pega_function_release(function);
}

/* ---- Pointers that are none, or change ---- */

static void test_no_pointers(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function = get("t.there");
  const pega_value args[] = {
      pega_value_pointer(at(kFirst)), pega_value_pointer(NULL), pega_value_int(2),
      pega_value_float(0.5),          pega_value_pointer(NULL), pega_value_pointer(NULL)};
  pega_plan *plan = make(function, args, 6);
  assert_int_equal(pega_plan_num_pointers(plan), 1);
  EXPECT_ERROR(pega_plan_call(plan, NULL, NULL, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "pointers is NULL");
  pega_plan_release(plan);
  pega_function_release(function);
  function = get("t.low");
  const pega_value none[] = {pega_value_pointer(NULL), pega_value_pointer(NULL)};
  plan = make(function, none, 2);
  assert_int_equal(pega_plan_num_pointers(plan), 0);
  pega_fake_driver_clear_records();
  EXPECT_OK(pega_plan_call(plan, NULL, NULL, &error), &error);
  assert_int_equal(pega_fake_driver_num_launches(), 1);
  pega_plan_release(plan);
  pega_function_release(function);
  pega_error_clear(&error);
}

/* Addresses that another thread changes meanwhile, at the end of what may be read. */
static _Atomic int flipping;
static void *flip(void *pointer) {
  void *volatile *at_end = pointer;
  for (unsigned i = 0; flipping != 0; ++i) *at_end = i % 2 == 0 ? NULL : at(kFirst);
  return NULL;
}

static void test_changing_pointers(void **state) {
  (void)state;
  if (!allocations_are_counted()) skip(); /* a race on purpose: not under a sanitizer */
  const size_t page_size = (size_t)sysconf(_SC_PAGESIZE);
  char *pages =
      mmap(NULL, 2 * page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  assert_true(pages != MAP_FAILED && mprotect(pages + page_size, page_size, PROT_NONE) == 0);
  void **pointers = (void **)(void *)(pages + page_size) - 1;
  pega_function *function = get("t.aligned");
  const pega_value args[] = {pega_value_pointer(at(kFirst)), pega_value_pointer(NULL)};
  pega_plan *plan = make(function, args, 2);
  pthread_t thread;
  flipping = 1;
  assert_int_equal(pthread_create(&thread, NULL, flip, pointers), 0);
  pega_fake_driver_set_quiet(true);
  for (int i = 0; i < 200000; ++i) {
    const pega_status status = pega_plan_call(plan, pointers, NULL, NULL);
    assert_true(status == PEGA_OK || status == PEGA_ERROR_RANGE ||
                status == PEGA_ERROR_INVALID_ARGUMENT);
  }
  pega_fake_driver_set_quiet(false);
  flipping = 0;
  assert_int_equal(pthread_join(thread, NULL), 0);
  pega_plan_release(plan);
  pega_function_release(function);
  assert_int_equal(munmap(pages, 2 * page_size), 0);
}

/* ---- Contexts, captures, closing ---- */

static void test_contexts(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function = get("t.raw");
  const raw_call call = raw_args(kFirst, 2, true, NULL);
  void *const pointers[] = {at(8), at(8), at(8)};
  CUcontext foreign, second, popped;
  assert_int_equal(cu.cuCtxCreate_v2(&foreign, 0, 0), 0);
  pega_plan *in_foreign = make(function, call.args, 6);
  assert_int_equal(cu.cuCtxPopCurrent_v2(&popped), 0);
  pega_plan *in_primary = make(function, call.args, 6);
  assert_int_equal(cu.cuCtxCreate_v2(&second, 0, 1), 0);
  /* In the primary one, the foreign one, another device's, and with none. */
  CUcontext const currents[] = {primary, foreign, second, NULL};
  for (int i = 0; i < COUNT(currents); ++i) {
    const machine_stack wanted = {currents[i] == NULL ? 0 : 1, {currents[i]}};
    machine_set_stack(&wanted);
    for (int p = 0; p < 2; ++p) {
      pega_fake_driver_clear_records();
      EXPECT_OK(pega_plan_call(p == 0 ? in_primary : in_foreign, pointers, NULL, &error), &error);
      assert_ptr_equal(machine_last_launch().context, p == 0 ? primary : foreign);
      /* A context that others made is looked at each time, also where it is current. */
      assert_int_equal(pega_fake_driver_count("cuCtxGetId"), p);
      machine_expect_stack(&wanted, "a plan's call");
    }
  }
  /* Made with none current: in the device's primary context. */
  tensor_call tensors_call;
  tensor_args(&tensors_call, kFirst, 0, true);
  pega_function *on_tensors = get("t.tensors");
  const machine_stack none = {0, {NULL}};
  machine_set_stack(&none);
  pega_plan *plan = make(on_tensors, tensors_call.args, 3);
  machine_expect_stack(&none, "making a plan");
  pega_fake_driver_clear_records();
  EXPECT_OK(pega_plan_call(plan, pointers, NULL, &error), &error);
  assert_ptr_equal(machine_last_launch().context, primary);
  pega_plan_release(plan);
  pega_function_release(on_tensors);
  /* Its context is gone. */
  assert_int_equal(cu.cuCtxDestroy_v2(foreign), 0);
  assert_int_equal(cu.cuCtxDestroy_v2(second), 0);
  const machine_stack usual = {1, {primary}};
  machine_set_stack(&usual);
  pega_fake_driver_clear_records();
  EXPECT_ERROR(pega_plan_call(in_foreign, pointers, NULL, &error), &error, PEGA_ERROR_UNAVAILABLE,
               "nothing was launched", "with its context", "make another plan");
  EXPECT_OK(pega_plan_call(in_primary, pointers, NULL, &error), &error);
  assert_int_equal(pega_fake_driver_num_launches(), 1);
  pega_plan_release(in_foreign);
  pega_plan_release(in_primary);
  pega_function_release(function);
  pega_error_clear(&error);
}

static void test_capture(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_OK(pega_cuda_close(&error), &error);
  pega_function *function = get("t.raw");
  const raw_call call = raw_args(kFirst, 2, true, stream);
  CUgraph graph;
  size_t nodes = 0;
  /* Not prepared: as the call would be refused. */
  assert_int_equal(cu.cuStreamBeginCapture_v2(stream, 0), 0);
  expect_no_plan(function, call.args, 6, PEGA_ERROR_UNAVAILABLE, "the capture is still valid");
  EXPECT_OK(pega_function_prepare(function, CUDA(0), &error), &error);
  pega_plan *plan = make(function, call.args, 6);
  for (int i = 0; i < 3; ++i) {
    EXPECT_OK(pega_plan_call(plan, (void *[]){at(8), at(8), at(8)}, stream, &error), &error);
    assert_true(machine_last_launch().captured);
  }
  assert_int_equal(cu.cuStreamEndCapture(stream, &graph), 0);
  assert_int_equal(cu.cuGraphGetNodes(graph, NULL, &nodes), 0);
  assert_int_equal(nodes, 3);
  assert_int_equal(cu.cuGraphDestroy(graph), 0);
  pega_plan_release(plan);
  pega_function_release(function);
}

/* The plan holds what it needs of function and pack, until the last reference. */
static void test_kept(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function;
  pega_pack *own = pack_open(&file, 0);
  EXPECT_OK(pega_pack_get(own, "t.raw", &function, &error), &error);
  const raw_call call = raw_args(kFirst, 2, true, NULL);
  pega_plan *plan = make(function, call.args, 6);
  pega_plan *other = make(function, call.args, 6);
  pega_function_release(function);
  pega_pack_release(own);
  assert_ptr_equal(pega_plan_retain(plan), plan);
  pega_plan_release(plan);
  pega_plan_release(other);
  pega_fake_driver_clear_records();
  EXPECT_OK(pega_plan_call(plan, (void *[]){at(8), at(8), at(8)}, NULL, &error), &error);
  EXPECT_ERROR(pega_plan_call(plan, (void *[]){at(9), at(8), at(8)}, NULL, &error), &error,
               PEGA_ERROR_LAYOUT, "t.raw", "'x'");
  assert_int_equal(pega_fake_driver_num_launches(), 1);
  pega_plan_release(plan);
  pega_plan_release(NULL);
  assert_null(pega_plan_retain(NULL));
  pega_error_clear(&error);
}

static void test_closed(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function = get("t.raw");
  const raw_call call = raw_args(kFirst, 2, true, NULL);
  void *const pointers[] = {at(8), at(8), at(8)};
  pega_plan *plan = make(function, call.args, 6);
  EXPECT_OK(pega_plan_call(plan, pointers, NULL, &error), &error);
  EXPECT_OK(pega_cuda_close(&error), &error);
  pega_fake_driver_clear_records();
  for (int i = 0; i < 2; ++i) {
    EXPECT_ERROR(pega_plan_call(plan, pointers, NULL, &error), &error, PEGA_ERROR_UNAVAILABLE,
                 "t.raw: nothing was launched", "pega_cuda_close()", "make another plan");
    /* Prepared again: still another's kernel. */
    if (i == 0) EXPECT_OK(pega_function_prepare(function, CUDA(0), &error), &error);
  }
  assert_int_equal(pega_fake_driver_num_launches(), 0);
  pega_plan_release(plan);
  expect_as_called(function, call.args, call.args, 6, NULL);
  pega_function_release(function);
  pega_error_clear(&error);
}

/* ---- Failures ---- */

static void test_driver_fails(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  static const struct {
    const char *name, *entry;
  } rows[] = {{"t.raw", "cuLaunchKernel"}, {"t.wide", "cuLaunchKernelEx"}};
  void *const pointers[] = {at(8), at(8), at(8)};
  for (int i = 0; i < COUNT(rows); ++i) {
    pega_function *function = get(rows[i].name);
    const raw_call call = raw_args(kFirst, 2, true, NULL);
    pega_plan *plan = make(function, call.args, 6);
    pega_fake_driver_fail(rows[i].entry, 1, 1, false);
    EXPECT_ERROR(pega_plan_call(plan, pointers, NULL, &error), &error, PEGA_ERROR_DRIVER,
                 rows[i].name, rows[i].entry, "CUDA_ERROR_INVALID_VALUE", "nothing was launched");
    assert_int_equal(error.code, 1);
    pega_fake_driver_clear_failures();
    pega_fake_driver_fail("cuCtxGetCurrent", 1, 3, false);
    EXPECT_OK(pega_plan_call(plan, pointers, NULL, &error), &error);
    pega_fake_driver_clear_failures();
    pega_fake_driver_fail("cuCtxGetCurrent", 1, 3, true);
    EXPECT_ERROR(pega_plan_call(plan, pointers, NULL, &error), &error, PEGA_ERROR_DRIVER,
                 "cuCtxGetCurrent");
    pega_fake_driver_clear_failures();
    /* A driver that refuses all launches does not mind a plan's being made. */
    pega_fake_driver_fail(rows[i].entry, 1, 1, true);
    pega_plan_release(make(function, call.args, 6));
    pega_fake_driver_clear_failures();
    pega_plan_release(plan);
    pega_function_release(function);
  }
  pega_error_clear(&error);
}

static void test_sticky(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function = get("t.raw");
  const raw_call call = raw_args(kFirst, 2, true, NULL);
  void *const pointers[] = {at(8), at(8), at(8)};
  pega_plan *plan = make(function, call.args, 6);
  EXPECT_OK(pega_plan_call(plan, pointers, NULL, &error), &error);
  assert_string_equal(machine_health(0).last_good, "t.raw");
  pega_function *wide_one = get("t.wide");
  EXPECT_OK(pega_function_call(wide_one, call.args, 6, NULL, &error), &error);
  assert_string_equal(machine_health(0).last_good, "t.wide");
  EXPECT_OK(pega_plan_call(plan, pointers, NULL, &error), &error);
  assert_string_equal(machine_health(0).last_good, "t.raw");
  pega_function_release(wide_one);
  pega_fake_driver_fail("cuLaunchKernel", 1, 700, false);
  EXPECT_ERROR(pega_plan_call(plan, pointers, NULL, &error), &error, PEGA_ERROR_DRIVER,
               "CUDA_ERROR_ILLEGAL_ADDRESS");
  pega_fake_driver_clear_failures();
  assert_int_equal(machine_health(0).code, 700);
  assert_string_equal(machine_health(0).failed, "t.raw");
  pega_fake_driver_clear_records();
  EXPECT_ERROR(pega_plan_call(plan, pointers, NULL, &error), &error, PEGA_ERROR_DRIVER,
               "cannot be used since t.raw");
  assert_int_equal(error.code, 700);
  expect_no_plan(function, call.args, 6, PEGA_ERROR_DRIVER, "cannot be used since t.raw");
  assert_int_equal(pega_fake_driver_num_launches(), 0);
  EXPECT_OK(pega_cuda_close(&error), &error);
  pega_plan_release(plan);
  pega_function_release(function);
  pega_error_clear(&error);
}

static void test_out_of_memory(void **state) {
  (void)state;
  if (!allocations_are_counted()) skip();
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function = get("t.raw");
  EXPECT_OK(pega_function_prepare(function, CUDA(0), &error), &error);
  const raw_call call = raw_args(kFirst, 2, true, NULL);
  bool failed = true;
  int64_t n = 0;
  pega_fake_driver_set_quiet(true);
  while (failed) {
    pega_plan *plan = NULL;
    allocations_begin(++n);
    const pega_status status = pega_plan_create(function, call.args, 6, &plan, NULL);
    pega_plan_release(plan);
    const allocations got = allocations_end();
    failed = got.failed;
    assert_int_equal(status, failed ? PEGA_ERROR_OUT_OF_MEMORY : PEGA_OK);
    assert_int_equal(got.live, 0);
    assert_true(n < 100);
  }
  assert_int_equal(n, 3);
  pega_fake_driver_set_quiet(false);
  pega_function_release(function);
}

static pega_plan *parents_plan;

static void after_fork(void) {
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_ERROR(pega_plan_call(parents_plan, (void *[]){at(8), at(8), at(8)}, NULL, &error), &error,
               PEGA_ERROR_UNAVAILABLE, "forked");
  pega_error_clear(&error);
}

static void test_fork(void **state) {
  (void)state;
  pega_function *function = get("t.raw");
  const raw_call call = raw_args(kFirst, 2, true, NULL);
  parents_plan = make(function, call.args, 6);
  machine_in_child(after_fork);
  pega_plan_release(parents_plan);
  pega_function_release(function);
}

/* ---- Threads ---- */

static pega_plan *shared;
static pega_function *shared_function;
static _Atomic int failures;

/* Thread 0 and 1 make plans, the others call one plan and the function: what is recorded is the
 * maker's own call alone. */
static void *mix(void *self) {
  const uint64_t index = (uint64_t)(uintptr_t)self;
  const uint64_t mine = kSecond + index * 0x100000;
  CUcontext popped;
  pega_error error = PEGA_ERROR_INIT;
  cu.cuCtxPushCurrent_v2(primary);
  for (int i = 0; i < kRounds; ++i) {
    const raw_call call = raw_args(mine, 2, true, NULL);
    pega_plan *plan = NULL;
    pega_status status;
    if (index < 2) {
      status = pega_plan_create(shared_function, call.args, 6, &plan, &error);
      pega_plan_release(plan);
      pega_plan_release(pega_plan_retain(shared));
    } else if (index % 2 == 0) {
      status = pega_plan_call(shared, (void *[]){at(mine), at(mine + 0x1000), at(mine + 0x2000)},
                              NULL, &error);
    } else {
      status = pega_function_call(shared_function, call.args, 6, NULL, &error);
    }
    if (status != PEGA_OK) {
      ++failures;
      print_error("%s\n", pega_error_message(&error));
    }
  }
  cu.cuCtxPopCurrent_v2(&popped);
  pega_error_clear(&error);
  return NULL;
}

static void test_threads(void **state) {
  (void)state;
  pthread_t threads[kThreads];
  shared_function = get("t.raw");
  const raw_call call = raw_args(kFirst, 2, true, NULL);
  shared = make(shared_function, call.args, 6);
  pega_fake_driver_clear_records();
  for (uintptr_t i = 0; i < kThreads; ++i) {
    assert_int_equal(pthread_create(&threads[i], NULL, mix, (void *)i), 0);
  }
  for (int i = 0; i < kThreads; ++i) assert_int_equal(pthread_join(threads[i], NULL), 0);
  assert_int_equal(failures, 0);
  assert_int_equal(pega_fake_driver_num_launches(), (kThreads - 2) * kRounds);
  int seen[kThreads] = {0};
  for (uint64_t i = 0; i < (kThreads - 2) * kRounds; ++i) {
    const pega_fake_driver_launch got = launch_at(i);
    uint64_t x, y, z;
    memcpy(&x, got.params[0].bytes, sizeof x);
    memcpy(&y, got.params[2].bytes, sizeof y);
    memcpy(&z, got.params[6].bytes, sizeof z);
    const uint64_t index = (x - kSecond) / 0x100000;
    assert_in_range(index, 2, kThreads - 1);
    assert_true(x == kSecond + index * 0x100000 && y == x + 0x1000 && z == x + 0x2000);
    ++seen[index];
  }
  for (int i = 2; i < kThreads; ++i) assert_int_equal(seen[i], kRounds);
  pega_plan_release(shared);
  pega_function_release(shared_function);
}

int main(void) {
  machine_start("devices=2");
  file = pack_make("plan", functions, COUNT(functions), NULL, 0);
  pack = pack_open(&file, 0);
  stream = machine_stream(0, 1);
  other_stream = machine_stream(0, 1);
  cu.cuDevicePrimaryCtxRetain(&primary, 0);
  cu.cuCtxPushCurrent_v2(primary);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_raw),
      cmocka_unit_test(test_tensors),
      cmocka_unit_test(test_pointers),
      cmocka_unit_test(test_streams),
      cmocka_unit_test(test_nothing_to_launch),
      cmocka_unit_test(test_refused),
      cmocka_unit_test(test_expressions_refused),
      cmocka_unit_test(test_expressions),
      cmocka_unit_test(test_trials_fail),
      cmocka_unit_test(test_no_pointers),
      cmocka_unit_test(test_changing_pointers),
      cmocka_unit_test(test_contexts),
      cmocka_unit_test(test_capture),
      cmocka_unit_test(test_kept),
      cmocka_unit_test(test_closed),
      cmocka_unit_test(test_driver_fails),
      cmocka_unit_test(test_out_of_memory),
      cmocka_unit_test(test_fork),
      cmocka_unit_test(test_threads),
      cmocka_unit_test(test_sticky),
  };
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  pega_pack_release(pack);
  bytes_free(&file);
  return failed;
}
