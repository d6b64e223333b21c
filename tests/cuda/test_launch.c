/* SPDX-License-Identifier: Apache-2.0 */
/* What a kernel gets: each launch's record, byte by byte, against a table. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"
#include "packs.h"

#define INT_N "{'name':'n','type':'int'}"
#define STREAM "{'name':'s','type':'stream'}"
#define SOME_STREAM pega_value_pointer(NULL)

static void drop(pega_pack *pack, pega_function *function) {
  pega_function_release(function);
  pega_pack_release(pack);
}

static void expect_param(const pega_fake_driver_launch *launch, uint32_t index, uint32_t offset,
                         const void *expected, uint32_t size) {
  assert_true(index < launch->num_params);
  assert_int_equal(launch->params[index].offset, offset);
  assert_int_equal(launch->params[index].size, size);
  assert_memory_equal(launch->params[index].bytes, expected, size);
}

/* ---- Types ---- */

static void test_every_type(void **state) {
  (void)state;
  static const kernel_param params[] = {
      PARAM("bool", "b"),         PARAM("i8", "n"),      PARAM("i16", "n"),
      PARAM("i32", "n"),          PARAM("i64", "n"),     PARAM("u8", "m"),
      PARAM("u16", "m"),          PARAM("u32", "m"),     PARAM("u64", "m"),
      PARAM("f16", "f"),          PARAM("bf16", "f"),    PARAM("f32", "f"),
      PARAM("f64", "f"),          PARAM("pointer", "p"), SCRATCH("global_scratch"),
      SCRATCH("profile_scratch"), END_OF_PARAMS};
  static const kernel_variant variant = {"sm_90a", "types", .params = params};
  static const kernel_function described = {
      "t.types",
      "[{'name':'b','type':'bool'}," INT_N
      ",{'name':'m','type':'int'},{'name':'f','type':'float'},{'name':'p','type':'pointer'}," STREAM
      "]",
      &variant, 1, NULL};
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function;
  pega_pack *pack = pack_of(&described, &function);
  EXPECT_OK(pega_function_prepare(function, CUDA(0), &error), &error);
  const uint64_t memory = machine_alloc(0, 64);
  EXPECT_OK(pega_function_call(function,
                               ARGS(pega_value_bool(true), pega_value_int(-2), pega_value_int(200),
                                    pega_value_float(-1.5),
                                    pega_value_pointer((void *)(uintptr_t)memory), SOME_STREAM),
                               NULL, &error),
            &error);
  const pega_fake_driver_launch got = machine_last_launch();
  assert_string_equal(got.name, "types");
  assert_int_equal(got.num_params, 16);
  assert_int_equal(got.params_size, 72);
  const unsigned char yes = 1;
  const int8_t i8 = -2;
  const int16_t i16 = -2;
  const int32_t i32 = -2;
  const int64_t i64 = -2;
  const uint8_t u8 = 200;
  const uint16_t u16 = 200;
  const uint32_t u32 = 200;
  const uint64_t u64 = 200, null = 0;
  const uint16_t f16 = 0xbe00, bf16 = 0xbfc0;
  const float f32 = -1.5f;
  const double f64 = -1.5;
  expect_param(&got, 0, 0, &yes, 1);
  expect_param(&got, 1, 1, &i8, 1);
  expect_param(&got, 2, 2, &i16, 2);
  expect_param(&got, 3, 4, &i32, 4);
  expect_param(&got, 4, 8, &i64, 8);
  expect_param(&got, 5, 16, &u8, 1);
  expect_param(&got, 6, 18, &u16, 2);
  expect_param(&got, 7, 20, &u32, 4);
  expect_param(&got, 8, 24, &u64, 8);
  expect_param(&got, 9, 32, &f16, 2);
  expect_param(&got, 10, 34, &bf16, 2);
  expect_param(&got, 11, 36, &f32, 4);
  expect_param(&got, 12, 40, &f64, 8);
  expect_param(&got, 13, 48, &memory, 8);
  expect_param(&got, 14, 56, &null, 8);
  expect_param(&got, 15, 64, &null, 8);
  /* What a float parameter takes may be an int, and a pointer one too. */
  EXPECT_OK(
      pega_function_call(function,
                         ARGS(pega_value_bool(false), pega_value_int(0), pega_value_int(0),
                              pega_value_int(3), pega_value_int((int64_t)memory), SOME_STREAM),
                         NULL, &error),
      &error);
  const pega_fake_driver_launch again = machine_last_launch();
  const double three = 3;
  assert_memory_equal(again.params[12].bytes, &three, 8);
  assert_memory_equal(again.params[13].bytes, &memory, 8);
  assert_int_equal(*(const unsigned char *)again.params[0].bytes, 0);
  machine_free(0, memory);
  drop(pack, function);
}

/* A kernel of one parameter `type` whose value is `value` of n, f and u. */
static pega_pack *one_param(const char *type, const char *value, pega_function **out) {
  const kernel_param params[] = {{.type = type, .value = value}, END_OF_PARAMS};
  const kernel_variant variant = {"sm_90", "one", .params = params};
  const kernel_function described = {"t.one", "[" INT_N ",{'name':'f','type':'float'}," STREAM "]",
                                     &variant, 1, NULL};
  pega_pack *pack = pack_of(&described, out);
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_OK(pega_function_prepare(*out, CUDA(0), &error), &error);
  return pack;
}

static pega_status call_one(pega_function *function, pega_value n, double f, pega_error *error) {
  CUcontext context = NULL;
  assert_int_equal(cu.cuDevicePrimaryCtxRetain(&context, 0), 0);
  assert_int_equal(cu.cuCtxPushCurrent_v2(context), 0);
  const pega_status status =
      pega_function_call(function, ARGS(n, pega_value_float(f), SOME_STREAM), NULL, error);
  assert_int_equal(cu.cuCtxPopCurrent_v2(&context), 0);
  assert_int_equal(cu.cuDevicePrimaryCtxRelease_v2(0), 0);
  return status;
}

static void test_what_fits(void **state) {
  (void)state;
  static const struct {
    const char *type;
    int64_t least, most;
  } rows[] = {{"bool", 0, 1},
              {"i8", INT8_MIN, INT8_MAX},
              {"i16", INT16_MIN, INT16_MAX},
              {"i32", INT32_MIN, INT32_MAX},
              {"i64", INT64_MIN, INT64_MAX},
              {"u8", 0, UINT8_MAX},
              {"u16", 0, UINT16_MAX},
              {"u32", 0, UINT32_MAX},
              {"u64", 0, INT64_MAX}};
  /* The same once as an argument alone and once as an expression: they go different ways. */
  static const char *const values[] = {"n", "n - 0", "min(n, n)"};
  for (int i = 0; i < COUNT(rows) * COUNT(values); ++i) {
    const char *type = rows[i / COUNT(values)].type, *value = values[i % COUNT(values)];
    const int64_t least = rows[i / COUNT(values)].least, most = rows[i / COUNT(values)].most;
    pega_error error = PEGA_ERROR_INIT;
    pega_function *function;
    pega_pack *pack = one_param(type, value, &function);
    for (int end = 0; end < 2; ++end) {
      const int64_t number = end == 0 ? least : most;
      EXPECT_OK(call_one(function, pega_value_int(number), 0, &error), &error);
      const pega_fake_driver_launch got = machine_last_launch();
      assert_memory_equal(got.params[0].bytes, &number, got.params[0].size);
      if (number == INT64_MIN || number == INT64_MAX) continue;
      const int64_t beyond = end == 0 ? least - 1 : most + 1;
      const uint64_t launches = pega_fake_driver_num_launches();
      char text[128];
      snprintf(text, sizeof text, "parameter 'p0' = %s = %lld does not fit the kernel's %s", value,
               (long long)beyond, type);
      EXPECT_ERROR(call_one(function, pega_value_int(beyond), 0, &error), &error, PEGA_ERROR_RANGE,
                   "t.one: nothing was launched: ", text);
      assert_int_equal(pega_fake_driver_num_launches(), launches);
    }
    /* Past what an expression computes with. */
    EXPECT_ERROR(call_one(function, pega_value_uint(UINT64_MAX), 0, &error), &error,
                 PEGA_ERROR_RANGE, "n");
    pega_error_clear(&error);
    drop(pack, function);
  }
}

/* An argument is put in place unseen only where its range says that it fits. */
static void test_ranges(void **state) {
  (void)state;
  static const kernel_param params[] = {PARAM("i32", "n"), END_OF_PARAMS};
  static const kernel_variant variant = {"sm_90", "range", .params = params};
  static const struct {
    const char *range;
    int64_t good, bad; /* both in the range; 0: none is bad */
  } rows[] = {{"'min':-2147483648,'max':2147483647", INT32_MIN, 0},
              {"'min':0,'max':2147483648", INT32_MAX, (int64_t)INT32_MAX + 1},
              {"'min':0,'max':4294967296", 1, (int64_t)1 << 32},
              {"'min':-2147483649,'max':0", INT32_MIN, (int64_t)INT32_MIN - 1}};
  for (int i = 0; i < COUNT(rows); ++i) {
    char signature[128];
    snprintf(signature, sizeof signature, "[{'name':'n','type':'int',%s}]", rows[i].range);
    const kernel_function described = {"t.range", signature, &variant, 1, NULL};
    pega_error error = PEGA_ERROR_INIT;
    pega_function *function;
    pega_pack *pack = pack_of(&described, &function);
    EXPECT_OK(pega_function_call(function, ARGS(pega_value_int(rows[i].good)), NULL, &error),
              &error);
    const pega_fake_driver_launch got = machine_last_launch();
    const int32_t expected = (int32_t)rows[i].good;
    expect_param(&got, 0, 0, &expected, sizeof expected);
    const uint64_t launches = pega_fake_driver_num_launches();
    if (rows[i].bad != 0) {
      char text[128];
      snprintf(text, sizeof text, "parameter 'p0' = n = %lld does not fit the kernel's i32",
               (long long)rows[i].bad);
      EXPECT_ERROR(pega_function_call(function, ARGS(pega_value_int(rows[i].bad)), NULL, &error),
                   &error, PEGA_ERROR_RANGE, "t.range: nothing was launched: ", text);
    }
    assert_int_equal(pega_fake_driver_num_launches(), launches);
    pega_error_clear(&error);
    drop(pack, function);
  }
}

static void test_rounding(void **state) {
  (void)state;
  static const struct {
    double value;
    uint16_t f16, bf16;
  } rows[] = {
      {0, 0, 0},
      {-0.0, 0x8000, 0x8000},
      {1, 0x3c00, 0x3f80},
      {-2, 0xc000, 0xc000},
      {0.1, 0x2e66, 0x3dcd},
      {65504, 0x7bff, 0x4780},
      {65519.999, 0x7bff, 0x4780},
      {65520, 0x7c00, 0x4780},
      {-65520, 0xfc00, 0xc780},
      {1 + 0x1p-11, 0x3c00, 0x3f80},           /* a tie, to even */
      {1 + 3 * 0x1p-11, 0x3c02, 0x3f80},       /* a tie, to even */
      {1 + 0x1p-11 + 0x1p-52, 0x3c01, 0x3f80}, /* just above the tie */
      {1 + 0x1p-8, 0x3c04, 0x3f80},            /* bfloat16: a tie */
      {1 + 3 * 0x1p-8, 0x3c0c, 0x3f82},        /* bfloat16: a tie */
      {1 + 0x1p-8 + 0x1p-52, 0x3c04, 0x3f81},
      {2 - 0x1p-12, 0x4000, 0x4000},    /* a carry into the exponent */
      {0x1p-14, 0x0400, 0x3880},        /* the least normal float16 */
      {1023 * 0x1p-24, 0x03ff, 0x3880}, /* the greatest subnormal */
      {1023.5 * 0x1p-24, 0x0400, 0x3880},
      {0x1p-24, 0x0001, 0x3380},
      {0x1p-25, 0, 0x3300}, /* a tie with zero */
      {0x1p-25 + 0x1p-70, 0x0001, 0x3300},
      {1.5 * 0x1p-24, 0x0002, 0x33c0},
      {-0x1p-24, 0x8001, 0xb380},
      {0x1p-126, 0, 0x0080}, /* the least normal bfloat16 */
      {0x1p-133, 0, 0x0001},
      {0x1p-134, 0, 0},
      {1.5 * 0x1p-133, 0, 0x0002},
      {127.5 * 0x1p-133, 0, 0x0080},
      {3.3895313892515355e38, 0x7c00, 0x7f7f}, /* the greatest bfloat16 */
      {3.4028234663852886e38, 0x7c00, 0x7f80},
      {1e300, 0x7c00, 0x7f80},
      {-1e300, 0xfc00, 0xff80},
      {5e-324, 0, 0},
      {-5e-324, 0x8000, 0x8000},
      {(double)INFINITY, 0x7c00, 0x7f80},
      {-(double)INFINITY, 0xfc00, 0xff80},
      {(double)NAN, 0x7e00, 0x7fc0},
  };
  static const char *const types[] = {"f16", "bf16"};
  for (int t = 0; t < COUNT(types); ++t) {
    pega_error error = PEGA_ERROR_INIT;
    pega_function *function;
    pega_pack *pack = one_param(types[t], "f", &function);
    for (int i = 0; i < COUNT(rows); ++i) {
      const uint16_t expected = t == 0 ? rows[i].f16 : rows[i].bf16;
      const uint16_t infinity = t == 0 ? 0x7c00 : 0x7f80;
      if (isfinite(rows[i].value) && (expected & 0x7fff) == infinity) {
        const char *text =
            t == 0 ? "does not fit the kernel's f16" : "does not fit the kernel's bf16";
        EXPECT_ERROR(call_one(function, pega_value_int(0), rows[i].value, &error), &error,
                     PEGA_ERROR_RANGE, "t.one: nothing was launched: parameter 'p0' = ", text);
        continue;
      }
      EXPECT_OK(call_one(function, pega_value_int(0), rows[i].value, &error), &error);
      uint16_t got;
      memcpy(&got, machine_last_launch().params[0].bytes, sizeof got);
      if (got != expected) {
        fail_msg("%a as %s: expected 0x%04x, got 0x%04x", rows[i].value, types[t], expected, got);
      }
    }
    pega_error_clear(&error);
    /* Each 16-bit number is itself. */
    for (uint32_t bits = 0; bits < 0x10000; bits += 17) {
      const int fraction_bits = t == 0 ? 10 : 7;
      const int exponent = (int)(bits >> fraction_bits & (t == 0 ? 0x1f : 0xff));
      const int fraction = (int)(bits & ((1u << fraction_bits) - 1));
      const int bias = t == 0 ? 15 : 127;
      if (exponent == (t == 0 ? 0x1f : 0xff)) continue;
      double value = exponent == 0
                         ? ldexp(fraction, 1 - bias - fraction_bits)
                         : ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits);
      if ((bits & 0x8000) != 0) value = -value;
      EXPECT_OK(call_one(function, pega_value_int(0), value, &error), &error);
      uint16_t got;
      memcpy(&got, machine_last_launch().params[0].bytes, sizeof got);
      assert_int_equal(got, bits);
    }
    drop(pack, function);
  }
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function;
  pega_pack *pack = one_param("f32", "f", &function);
  EXPECT_OK(call_one(function, pega_value_int(0), 0.1, &error), &error);
  const float tenth = 0.1f;
  assert_memory_equal(machine_last_launch().params[0].bytes, &tenth, 4);
  EXPECT_ERROR(call_one(function, pega_value_int(0), -1e300, &error), &error, PEGA_ERROR_RANGE,
               "parameter 'p0' = -1e+300 does not fit the kernel's f32");
  EXPECT_OK(call_one(function, pega_value_int(0), -(double)INFINITY, &error), &error);
  const float infinity = -INFINITY;
  assert_memory_equal(machine_last_launch().params[0].bytes, &infinity, 4);
  pega_error_clear(&error);
  drop(pack, function);
}

static void test_places(void **state) {
  (void)state;
  static const kernel_param params[] = {PARAM("i32", "n"),
                                        {.type = "i64", .value = "n + 1", .offset = 24},
                                        {.type = "i8", .value = "7", .offset = 63},
                                        END_OF_PARAMS};
  static const kernel_variant variant = {"sm_90", "gaps", .params = params};
  static const kernel_function described = {"t.gaps", "[" INT_N "]", &variant, 1, NULL};
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function;
  pega_pack *pack = pack_of(&described, &function);
  EXPECT_OK(pega_function_call(function, ARGS(pega_value_int(5)), NULL, &error), &error);
  const pega_fake_driver_launch got = machine_last_launch();
  unsigned char expected[64] = {5};
  expected[24] = 6;
  expected[63] = 7;
  assert_int_equal(got.params_size, sizeof expected);
  assert_memory_equal(got.params_bytes, expected, sizeof expected);
  drop(pack, function);
}

/* ---- Expressions of tensors ---- */

static void test_tensors(void **state) {
  (void)state;
  static const kernel_param params[] = {PARAM("pointer", "x"),
                                        PARAM("pointer", "o"),
                                        PARAM("i64", "stride(x, 0)"),
                                        PARAM("i64", "stride(x, 1)"),
                                        PARAM("i32", "shape(x, 1) * 2 - T"),
                                        PARAM("i32", "cdiv(T, 3) + (T % 3 == 1)"),
                                        PARAM("bool", "x % 16 == 0"),
                                        END_OF_PARAMS};
  static const kernel_variant variant = {"sm_90", "tensors", .params = params,
                                         .grid = {"T", "max(1, shape(x, 1) / 4)"}};
  static const kernel_function described = {
      "t.tensors",
      "[{'name':'x','type':'Tensor','dtype':'float32','shape':'T, W'},"
      "{'name':'o','type':'Tensor','optional':true}]",
      &variant, 1, NULL};
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function;
  pega_pack *pack = pack_of(&described, &function);
  const uint64_t memory = machine_alloc(0, 4096);
  DLTensor x = {(void *)(uintptr_t)memory, CUDA(0), 2, FLOAT32, SHAPE(7, 9), SHAPE(16, 1), 8};
  EXPECT_OK(
      pega_function_call(function, ARGS(pega_value_tensor(&x), pega_value_none()), NULL, &error),
      &error);
  pega_fake_driver_launch got = machine_last_launch();
  const uint64_t address = memory + 8, null = 0;
  const int64_t rows = 16, columns = 1;
  const int32_t eleven = 11, four = 4;
  const unsigned char no = 0, yes = 1;
  expect_param(&got, 0, 0, &address, 8);
  expect_param(&got, 1, 8, &null, 8);
  expect_param(&got, 2, 16, &rows, 8);
  expect_param(&got, 3, 24, &columns, 8);
  expect_param(&got, 4, 32, &eleven, 4);
  expect_param(&got, 5, 36, &four, 4);
  expect_param(&got, 6, 40, &no, 1);
  assert_int_equal(got.grid[0], 7);
  assert_int_equal(got.grid[1], 2);
  assert_int_equal(got.grid[2], 1);
  /* Contiguous, with no strides of its own; counted; and an optional one that is there. */
  x.strides = NULL;
  x.byte_offset = 0;
  pega_value counted;
  EXPECT_OK(pega_tensor_create(&x, 0, NULL, NULL, NULL, &counted, &error), &error);
  EXPECT_OK(pega_function_call(function, ARGS(counted, pega_value_tensor(&x)), NULL, &error),
            &error);
  got = machine_last_launch();
  const int64_t nine = 9;
  expect_param(&got, 0, 0, &memory, 8);
  expect_param(&got, 1, 8, &memory, 8);
  expect_param(&got, 2, 16, &nine, 8);
  expect_param(&got, 6, 40, &yes, 1);
  pega_value_release(&counted);
  /* A tensor that is elsewhere. */
  x.device = CPU;
  EXPECT_ERROR(
      pega_function_call(function, ARGS(pega_value_tensor(&x), pega_value_none()), NULL, &error),
      &error, PEGA_ERROR_DEVICE, "'x'", "cuda", "cpu");
  pega_error_clear(&error);
  machine_free(0, memory);
  drop(pack, function);
}

/* ---- Grids, blocks, shared memory, attributes ---- */

static void test_grids(void **state) {
  (void)state;
  static const kernel_variant variants[3] = {
      {"sm_90", "grids", .grid = {"n", "1", "1"}, .block = {8, 4, 2}},
      {"sm_90", "grids", .grid = {"1", "n * 1", "1"}},
      {"sm_90", "grids", .grid = {"1", "1", "n"}}};
  static const int64_t limits[3] = {INT32_MAX, 65535, 65535};
  for (int axis = 0; axis < 3; ++axis) {
    const kernel_function described = {"t.grids", "[" INT_N "]", &variants[axis], 1, NULL};
    pega_error error = PEGA_ERROR_INIT;
    pega_function *function;
    pega_pack *pack = pack_of(&described, &function);
    EXPECT_OK(pega_function_call(function, ARGS(pega_value_int(limits[axis])), NULL, &error),
              &error);
    const pega_fake_driver_launch got = machine_last_launch();
    for (int i = 0; i < 3; ++i) assert_int_equal(got.grid[i], i == axis ? limits[axis] : 1);
    if (axis == 0) {
      assert_int_equal(got.block[0], 8);
      assert_int_equal(got.block[1], 4);
      assert_int_equal(got.block[2], 2);
      assert_int_equal(got.shared_bytes, 0);
      assert_int_equal(got.num_attributes, 0);
    }
    const uint64_t launches = pega_fake_driver_num_launches();
    const int64_t bad[] = {limits[axis] + 1, -1, INT64_MIN, (int64_t)1 << 32,
                           ((int64_t)1 << 32) + 1};
    for (int i = 0; i < COUNT(bad); ++i) {
      char text[96], range[64];
      snprintf(text, sizeof text, "t.grids: nothing was launched: grid %c = ", "xyz"[axis]);
      snprintf(range, sizeof range, "= %lld: expected 0 to %lld", (long long)bad[i],
               (long long)limits[axis]);
      EXPECT_ERROR(pega_function_call(function, ARGS(pega_value_int(bad[i])), NULL, &error), &error,
                   PEGA_ERROR_RANGE, text, range);
    }
    /* Nothing to do is nothing launched. */
    EXPECT_OK(pega_function_call(function, ARGS(pega_value_int(0)), NULL, &error), &error);
    assert_int_equal(pega_fake_driver_num_launches(), launches);
    pega_error_clear(&error);
    drop(pack, function);
  }
}

static void test_bad_arithmetic(void **state) {
  (void)state;
  static const kernel_param params[] = {PARAM("i64", "n * 4611686018427387904"), END_OF_PARAMS};
  static const kernel_variant variant = {"sm_90", "divides", .params = params, .grid = {"10 / n"}};
  static const kernel_function described = {"t.divides", "[" INT_N "]", &variant, 1, NULL};
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function;
  pega_pack *pack = pack_of(&described, &function);
  EXPECT_OK(pega_function_call(function, ARGS(pega_value_int(1)), NULL, &error), &error);
  EXPECT_ERROR(pega_function_call(function, ARGS(pega_value_int(0)), NULL, &error), &error,
               PEGA_ERROR_RANGE, "10 / n");
  EXPECT_ERROR(pega_function_call(function, ARGS(pega_value_int(3)), NULL, &error), &error,
               PEGA_ERROR_RANGE, "n * 4611686018427387904");
  pega_error_clear(&error);
  drop(pack, function);
}

static void test_shared_memory(void **state) {
  (void)state;
  static const uint32_t sizes[] = {1000, 48 * 1024, 48 * 1024 + 16, 227 * 1024 - 64};
  for (int i = 0; i < COUNT(sizes); ++i) {
    const kernel_variant variant = {"sm_90", "shared", .shared = sizes[i], .static_shared = 64};
    const kernel_function described = {"t.shared", "[]", &variant, 1, NULL};
    pega_error error = PEGA_ERROR_INIT;
    pega_function *function;
    pega_pack *pack = pack_of(&described, &function);
    EXPECT_OK(pega_function_call(function, NULL, 0, NULL, &error), &error);
    assert_int_equal(machine_last_launch().shared_bytes, sizes[i]);
    drop(pack, function);
  }
  const kernel_variant variant = {"sm_90", "shared", .shared = 227 * 1024 - 63,
                                  .static_shared = 64};
  const kernel_function described = {"t.shared", "[]", &variant, 1, NULL};
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function;
  pega_pack *pack = pack_of(&described, &function);
  EXPECT_ERROR(pega_function_prepare(function, CUDA(0), &error), &error, PEGA_ERROR_UNSUPPORTED,
               "'shared' (sm_90) needs 232449 bytes of shared memory a block (232385 dynamic, 64 "
               "static): cuda:0 has 232448");
  pega_error_clear(&error);
  drop(pack, function);
}

/* The manifest's block against what the driver, which has compiled the kernel, allows. */
/* Packs that hold the same cubin share what is loaded: what one asked for, another does not take away. */
static void test_shared_memory_of_one_cubin(void **state) {
  (void)state;
  static const kernel_variant variants[] = {{"sm_90", "sharing", .shared = 100000},
                                            {"sm_90", "sharing", .shared = 50000}};
  pega_error error = PEGA_ERROR_INIT;
  pega_function *functions[2];
  pega_pack *packs[2];
  for (int i = 0; i < 2; ++i) {
    const kernel_function described = {i == 0 ? "t.much" : "t.less", "[]", &variants[i], 1, NULL};
    packs[i] = pack_of(&described, &functions[i]);
    EXPECT_OK(pega_function_prepare(functions[i], CUDA(0), &error), &error);
  }
  assert_int_equal(machine_live().modules, 1);
  for (int i = 0; i < 2; ++i) {
    EXPECT_OK(pega_function_call(functions[i], NULL, 0, NULL, &error), &error);
    assert_int_equal(machine_last_launch().shared_bytes, variants[i].shared);
    drop(packs[i], functions[i]);
  }
}

static void test_launch_bounds(void **state) {
  (void)state;
  static const char ptx[] =
      ".version 8.0\n.target sm_90\n.visible .entry bounded() .maxntid 64, 2 { ret; }\n";
  static const kernel_variant fits = {"sm_90", "bounded", .block = {32, 2, 2}, .ptx = ptx};
  static const kernel_variant too_large = {"sm_90", "bounded", .block = {43, 3, 1}, .ptx = ptx};
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function;
  kernel_function described = {"t.bounded", "[]", &fits, 1, NULL};
  pega_pack *pack = pack_of(&described, &function);
  EXPECT_OK(pega_function_call(function, NULL, 0, NULL, &error), &error);
  drop(pack, function);
  described.variants = &too_large;
  pack = pack_of(&described, &function);
  const uint64_t modules = machine_live().modules;
  EXPECT_ERROR(
      pega_function_prepare(function, CUDA(0), &error), &error, PEGA_ERROR_FORMAT,
      "t.bounded: cannot be prepared on cuda:0: 'bounded' (sm_90) is to run with blocks of "
      "129 threads: the driver allows 128 for it");
  assert_int_equal(machine_live().modules, modules);
  pega_error_clear(&error);
  drop(pack, function);
}

static void expect_attribute(const pega_fake_driver_launch *launch, uint32_t index, uint32_t id,
                             const void *value, size_t size) {
  assert_true(index < launch->num_attributes);
  assert_int_equal(launch->attributes[index].id, id);
  assert_memory_equal(launch->attributes[index].value, value, size);
}

static void test_attributes(void **state) {
  (void)state;
  static const kernel_variant variant = {
      "sm_90",         "all",       .grid = {"8", "2"}, .cluster = {4, 2, 1},
      .shared = 60000, .pdl = true, .cooperative = true};
  static const kernel_function described = {"t.all", "[" STREAM "]", &variant, 1, NULL};
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function;
  pega_pack *pack = pack_of(&described, &function);
  EXPECT_OK(pega_function_prepare(function, CUDA(0), &error), &error);
  CUstream stream = machine_stream(0, 1);
  EXPECT_OK(pega_function_call(function, ARGS(pega_value_pointer(stream)), NULL, &error), &error);
  const pega_fake_driver_launch got = machine_last_launch();
  const uint32_t cluster[3] = {4, 2, 1};
  const int one = 1;
  assert_ptr_equal(got.stream, stream);
  assert_int_equal(got.num_attributes, 3);
  expect_attribute(&got, 0, 4, cluster, sizeof cluster);
  expect_attribute(&got, 1, 6, &one, sizeof one);
  expect_attribute(&got, 2, 2, &one, sizeof one);
  assert_true(got.cooperative);
  assert_true(got.programmatic);
  assert_memory_equal(got.cluster, cluster, sizeof cluster);
  assert_int_equal(got.shared_bytes, 60000);
  machine_destroy_stream(0, stream);
  drop(pack, function);
}

static void test_clusters_of_more_than_eight(void **state) {
  (void)state;
  static const kernel_variant variant = {"sm_90", "wide", .grid = {"n"}, .cluster = {16, 1, 1}};
  static const kernel_function described = {"t.wide", "[" INT_N "]", &variant, 1, NULL};
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function;
  pega_pack *pack = pack_of(&described, &function);
  EXPECT_OK(pega_function_call(function, ARGS(pega_value_int(32)), NULL, &error), &error);
  assert_int_equal(machine_last_launch().cluster[0], 16);
  EXPECT_ERROR(pega_function_call(function, ARGS(pega_value_int(33)), NULL, &error), &error,
               PEGA_ERROR_RANGE,
               "t.wide: nothing was launched: grid x = 33: expected a multiple of 16");
  pega_error_clear(&error);
  drop(pack, function);
}

/* ---- Variants ---- */

static void test_variants_by_arguments(void **state) {
  (void)state;
  static const kernel_variant variants[] = {
      {"sm_90", "one", .when = "['n == 1']"},
      {"sm_90", "divisible", .when = "['n % 16 == 0','p % 16 == 0']"},
      {"sm_90", "ten_times", .when = "['n % 10 == 0']"},
      {"sm_90", "general", .when = "['n != 13']"}};
  static const kernel_function described = {
      "t.variants", "[" INT_N ",{'name':'p','type':'pointer'}," STREAM "]", variants, 4, NULL};
  static const struct {
    int64_t n, address;
    const char *taken;
  } rows[] = {{1, 16, "one"},         {16, 16, "divisible"},  {160, 32, "divisible"},
              {160, 33, "ten_times"}, {10, 16, "ten_times"},  {7, 16, "general"},
              {0, 0, "divisible"},    {-16, 64, "divisible"}, {16, 8, "general"}};
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function;
  pega_pack *pack = pack_of(&described, &function);
  EXPECT_OK(pega_function_prepare(function, CUDA(0), &error), &error);
  CUstream stream = machine_stream(0, 0);
  for (int i = 0; i < COUNT(rows); ++i) {
    EXPECT_OK(pega_function_call(function,
                                 ARGS(pega_value_int(rows[i].n), pega_value_int(rows[i].address),
                                      pega_value_pointer(stream)),
                                 NULL, &error),
              &error);
    assert_string_equal(machine_last_launch().name, rows[i].taken);
  }
  EXPECT_ERROR(
      pega_function_call(function,
                         ARGS(pega_value_int(13), pega_value_int(16), pega_value_pointer(stream)),
                         NULL, &error),
      &error, PEGA_ERROR_NOT_FOUND,
      "t.variants: nothing was launched: none of the 4 variants for sm_90 takes these "
      "arguments; the first wants n == 1");
  pega_error_clear(&error);
  machine_destroy_stream(0, stream);
  drop(pack, function);
}

static void test_no_variant_for_the_device(void **state) {
  (void)state;
  static const kernel_variant variants[] = {
      {.target = "sm_80", .entry = "a"},
      {.target = "sm_100a", .entry = "b"},
      {"sm_90", "c", .ptx = ".version 8.0\n.target sm_90\n.visible .entry c() { ret; }\n"}};
  static const kernel_function described = {"t.none", "[]", variants, 3, NULL};
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function;
  bytes file = pack_make("none", &described, 1, NULL, 0);
  pega_pack *pack = pack_open(&file, 0);
  EXPECT_OK(pega_pack_get(pack, "t.none", &function, &error), &error);
  EXPECT_ERROR(pega_function_prepare(function, CUDA(0), &error), &error, PEGA_ERROR_NOT_FOUND,
               "t.none: cannot be prepared on cuda:0: no variant runs on cuda:0, sm_90: sm_80: ",
               "sm_100a: ", "PEGA_PACK_ALLOW_PTX", "compile the pack for this target");
  drop(pack, function);
  /* With PTX allowed that is what there is. */
  pack = pack_open(&file, PEGA_PACK_ALLOW_PTX);
  EXPECT_OK(pega_pack_get(pack, "t.none", &function, &error), &error);
  EXPECT_OK(pega_function_call(function, NULL, 0, NULL, &error), &error);
  assert_string_equal(machine_last_launch().name, "c");
  pega_error_clear(&error);
  bytes_free(&file);
  drop(pack, function);
}

static void test_manifest_and_blob_differ(void **state) {
  (void)state;
  static const kernel_variant variant = {"sm_90", "liar", .wrong_target = "sm_80"};
  static const kernel_function described = {"t.liar", "[]", &variant, 1, NULL};
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function;
  pega_pack *pack = pack_of(&described, &function);
  const uint64_t loads = pega_fake_driver_count("cuModuleLoadData");
  EXPECT_ERROR(pega_function_prepare(function, CUDA(0), &error), &error, PEGA_ERROR_FORMAT,
               "manifest sm_90, cubin sm_80");
  assert_int_equal(pega_fake_driver_count("cuModuleLoadData"), loads);
  pega_error_clear(&error);
  drop(pack, function);
}

/* ---- Scratch ---- */

static const kernel_param scratch_params[] = {PARAM("i32", "n"), SCRATCH("global_scratch"),
                                              SCRATCH("profile_scratch"), END_OF_PARAMS};
static const kernel_variant scratch_variant = {"sm_90",
                                               "scratch",
                                               .params = scratch_params,
                                               .grid = {"n", "3"},
                                               .global_scratch = 100,
                                               .global_alignment = 64,
                                               .profile_scratch = 8,
                                               .profile_alignment = 8};
static const kernel_function scratch_function = {"t.scratch", "[" INT_N "]", &scratch_variant, 1,
                                                 NULL};

static uint64_t bytes_seen[2];

static int see_scratch(const pega_fake_driver_launch *launch, void *user) {
  (void)user;
  for (int i = 0; i < 2; ++i) {
    unsigned char *memory;
    memcpy(&memory, launch->params[i + 1].bytes, sizeof memory);
    bytes_seen[i] = (uint64_t)(uintptr_t)memory;
    /* Every byte that was asked for is there: a sanitizer looks on. */
    if (memory != NULL) memset(memory, 0xab, (size_t)(i == 0 ? 100 : 8) * launch->grid[0] * 3);
  }
  return 0;
}

static void test_scratch_of_the_pool(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function;
  pega_pack *pack = pack_of(&scratch_function, &function);
  EXPECT_OK(pega_function_prepare(function, CUDA(0), &error), &error);
  const pega_fake_driver_live_counts at_first = machine_live();
  const uint64_t allocated = pega_fake_driver_count("cuMemAllocAsync");
  assert_int_equal(pega_fake_driver_set_kernel("scratch", see_scratch, NULL), 0);
  EXPECT_OK(pega_function_call(function, ARGS(pega_value_int(5)), NULL, &error), &error);
  assert_true(bytes_seen[0] != 0 && bytes_seen[1] != 0 && bytes_seen[0] != bytes_seen[1]);
  assert_int_equal(pega_fake_driver_count("cuMemAllocAsync"), allocated + 2);
  machine_expect_live(&at_first, "after a launch with scratch");
  /* A grid of nothing needs none. */
  EXPECT_OK(pega_function_call(function, ARGS(pega_value_int(0)), NULL, &error), &error);
  assert_int_equal(pega_fake_driver_count("cuMemAllocAsync"), allocated + 2);
  /* What cannot be: more than there is. */
  EXPECT_ERROR(pega_function_call(function, ARGS(pega_value_int(INT32_MAX)), NULL, &error), &error,
               PEGA_ERROR_OUT_OF_MEMORY, "cuMemAllocAsync (global scratch) failed",
               "nothing was launched");
  machine_expect_live(&at_first, "after a launch without memory");
  assert_int_equal(pega_fake_driver_set_kernel("scratch", NULL, NULL), 0);
  pega_error_clear(&error);
  drop(pack, function);
}

/* The driver promises 256 bytes, no more. */
static void test_scratch_alignment(void **state) {
  (void)state;
  static const kernel_param params[] = {SCRATCH("global_scratch"), SCRATCH("profile_scratch"),
                                        END_OF_PARAMS};
  static const struct {
    uint32_t alignment;
    bool works;
  } rows[] = {{256, true}, {512, false}};
  for (int i = 0; i < COUNT(rows); ++i) {
    const kernel_variant variant = {"sm_90", "aligned", .params = params, .global_scratch = 1024,
                                    .global_alignment = rows[i].alignment};
    const kernel_function described = {"t.aligned", "[]", &variant, 1, NULL};
    pega_error error = PEGA_ERROR_INIT;
    pega_function *function;
    pega_pack *pack = pack_of(&described, &function);
    EXPECT_OK(pega_function_prepare(function, CUDA(0), &error), &error);
    const uint64_t launches = pega_fake_driver_num_launches();
    const uint64_t allocated = pega_fake_driver_count("cuMemAllocAsync");
    const pega_status status = pega_function_call(function, NULL, 0, NULL, &error);
    if (rows[i].works) {
      EXPECT_OK(status, &error);
    } else {
      EXPECT_ERROR(status, &error, PEGA_ERROR_UNSUPPORTED,
                   "t.aligned: nothing was launched: it needs 1024 bytes of global scratch aligned "
                   "to 512, which cuda:0 has no stream-ordered pool for",
                   "give an allocator to pega_cuda_set_allocator()");
    }
    assert_int_equal(pega_fake_driver_num_launches(), launches + (rows[i].works ? 1 : 0));
    assert_int_equal(pega_fake_driver_count("cuMemAllocAsync"),
                     allocated + (rows[i].works ? 1 : 0));
    pega_error_clear(&error);
    drop(pack, function);
  }
}

static void *given;
static pega_status given_status;
static int given_count, given_released;
static const char *given_text;

static pega_status give(void *self, DLDevice device, size_t size, size_t alignment, void *stream,
                        void **out, pega_error *error) {
  (void)stream;
  assert_ptr_equal(self, &given);
  assert_int_equal(device.device_type, kDLCUDA);
  assert_int_equal(device.device_id, 0);
  assert_true((size == 100 * 6 && alignment == 64) || (size == 8 * 6 && alignment == 8));
  ++given_count;
  *out = given;
  if (given_status == PEGA_OK || given_text == NULL) return given_status;
  return pega_error_set(error, given_status, NULL, "%s", given_text);
}

static void take_back(void *self, DLDevice device, void *memory, void *stream) {
  (void)device;
  (void)stream;
  assert_ptr_equal(self, &given);
  assert_ptr_equal(memory, given);
  ++given_released;
}

static void test_scratch_of_an_allocator(void **state) {
  (void)state;
  static const pega_cuda_allocator allocator = {sizeof allocator, 0, give, take_back, &given};
  static _Alignas(64) unsigned char room[1024];
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function;
  pega_pack *pack = pack_of(&scratch_function, &function);
  EXPECT_OK(pega_function_prepare(function, CUDA(0), &error), &error);
  EXPECT_OK(pega_cuda_set_allocator(&allocator, &error), &error);
  const uint64_t allocated = pega_fake_driver_count("cuMemAllocAsync");
  given = room;
  EXPECT_OK(pega_function_call(function, ARGS(pega_value_int(2)), NULL, &error), &error);
  assert_memory_equal(machine_last_launch().params[1].bytes, &given, 8);
  assert_int_equal(given_count, 2);
  assert_int_equal(given_released, 2);
  const uint64_t launches = pega_fake_driver_num_launches();
  given = room + 8;
  EXPECT_ERROR(pega_function_call(function, ARGS(pega_value_int(2)), NULL, &error), &error,
               PEGA_ERROR_LAYOUT, "the allocator given to pega_cuda_set_allocator() returned 0x",
               "expected 600 bytes aligned to 64");
  assert_int_equal(given_released, 3);
  given = NULL;
  EXPECT_ERROR(pega_function_call(function, ARGS(pega_value_int(2)), NULL, &error), &error,
               PEGA_ERROR_LAYOUT, "nothing was launched");
  assert_int_equal(given_released, 3);
  given_status = PEGA_ERROR_OUT_OF_MEMORY;
  EXPECT_ERROR(pega_function_call(function, ARGS(pega_value_int(2)), NULL, &error), &error,
               PEGA_ERROR_OUT_OF_MEMORY, "said nothing more", "600 bytes");
  given_text = "the engine's arena is full";
  EXPECT_ERROR(pega_function_call(function, ARGS(pega_value_int(2)), NULL, &error), &error,
               PEGA_ERROR_OUT_OF_MEMORY, "the engine's arena is full");
  assert_int_equal(pega_fake_driver_num_launches(), launches);
  assert_int_equal(pega_fake_driver_count("cuMemAllocAsync"), allocated);
  assert_int_equal(given_released, 3);
  EXPECT_OK(pega_cuda_set_allocator(NULL, &error), &error);
  pega_error_clear(&error);
  drop(pack, function);
}

/* ---- Tensor descriptors ---- */

static void test_tensor_descriptor(void **state) {
  (void)state;
  static const kernel_param params[] = {
      PARAM("i32", "7"),
      {.type = "tensor_map",
       .value = "x",
       .role = "tensor_descriptor",
       .encoding = "{'block':[8,16,32],'swizzle':2,'elem_type':6,'elem_size':2,'padding':1,"
                   "'interleave':0,'l2_promotion':3}"},
      END_OF_PARAMS};
  static const kernel_variant variant = {"sm_90a", "map", .params = params};
  static const kernel_function described = {
      "t.map", "[{'name':'x','type':'Tensor','shape':'T, U, V'}]", &variant, 1, NULL};
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function;
  pega_pack *pack = pack_of(&described, &function);
  const uint64_t memory = machine_alloc(0, 1 << 16);
  DLTensor x = {(void *)(uintptr_t)memory, CUDA(0), 3, DTYPE(kDLFloat, 16, 1), SHAPE(4, 20, 40),
                SHAPE(1000, 48, 1),        32};
  EXPECT_OK(pega_function_call(function, ARGS(pega_value_tensor(&x)), NULL, &error), &error);
  pega_fake_driver_launch got = machine_last_launch();
  pega_fake_driver_tensor_map map;
  assert_int_equal(got.params[1].offset, 64);
  assert_int_equal(got.params[1].size, 128);
  assert_int_equal(pega_fake_driver_tensor_map_decode(got.params[1].bytes, &map), 0);
  assert_int_equal(map.global_address, memory + 32);
  assert_int_equal(map.rank, 3);
  assert_int_equal(map.global_dim[0], 40);
  assert_int_equal(map.global_dim[1], 20);
  assert_int_equal(map.global_dim[2], 4);
  assert_int_equal(map.global_strides[0], 96);
  assert_int_equal(map.global_strides[1], 2000);
  assert_int_equal(map.box_dim[0], 32);
  assert_int_equal(map.box_dim[1], 16);
  assert_int_equal(map.box_dim[2], 8);
  for (int i = 0; i < 3; ++i) assert_int_equal(map.element_strides[i], 1);
  assert_int_equal(map.data_type, 6);
  assert_int_equal(map.swizzle, 2);
  assert_int_equal(map.interleave, 0);
  assert_int_equal(map.l2_promotion, 3);
  assert_int_equal(map.oob_fill, 1);
  x.strides = NULL;
  EXPECT_OK(pega_function_call(function, ARGS(pega_value_tensor(&x)), NULL, &error), &error);
  got = machine_last_launch();
  assert_int_equal(pega_fake_driver_tensor_map_decode(got.params[1].bytes, &map), 0);
  assert_int_equal(map.global_strides[0], 80);
  assert_int_equal(map.global_strides[1], 1600);
  /* What the driver would refuse with a number is refused with a reason. */
  const uint64_t launches = pega_fake_driver_num_launches();
#define REFUSED(status, ...)                                                                   \
  EXPECT_ERROR(                                                                                \
      pega_function_call(function, ARGS(pega_value_tensor(&x)), NULL, &error), &error, status, \
      "t.map: nothing was launched: tensor descriptor 'p1' of argument 0 'x': ", __VA_ARGS__)
  x.byte_offset = 8;
  REFUSED(PEGA_ERROR_LAYOUT, "expected a multiple of 16");
  x.byte_offset = 0;
  x.dtype = FLOAT32;
  REFUSED(PEGA_ERROR_DTYPE, "expected elements of 2 bytes, got 32 bits");
  x.dtype = DTYPE(kDLFloat, 16, 1);
  x.strides = SHAPE(1000, 41, 1);
  REFUSED(PEGA_ERROR_LAYOUT, "stride of dimension 1 is 41 elements");
  x.strides = SHAPE(1000, 48, 2);
  REFUSED(PEGA_ERROR_LAYOUT, "stride of the last dimension is 2: expected 1");
  x.strides = SHAPE((int64_t)1 << 40, 48, 1);
  REFUSED(PEGA_ERROR_LAYOUT, "below 2^40");
  x.strides = SHAPE(0, 0, 1);
  x.shape = SHAPE((int64_t)1 << 40, 20, 40);
  REFUSED(PEGA_ERROR_SHAPE, "size 0 is 1099511627776: expected 1 to 2^32");
  assert_int_equal(pega_fake_driver_num_launches(), launches);
  pega_error_clear(&error);
  machine_free(0, memory);
  drop(pack, function);
}

/* ---- Golden cases ---- */

static float golden_answer;
static pega_pack_test_result seen[8];
static int num_seen;

static int answer(const pega_fake_driver_launch *launch, void *user) {
  (void)user;
  float *x, *y;
  memcpy(&x, launch->params[0].bytes, sizeof x);
  memcpy(&y, launch->params[1].bytes, sizeof y);
  for (int i = 0; i < 4; ++i) y[i] = i == 2 ? golden_answer : 2 * x[i];
  return 0;
}

static void see(void *user, const pega_pack_test_result *result) {
  (void)user;
  assert_string_equal(result->function, "t.golden");
  assert_string_equal(result->golden, "twice");
  assert_string_equal(result->argument, "y");
  seen[num_seen++ % COUNT(seen)] = *result;
}

static void test_golden(void **state) {
  (void)state;
  static const kernel_param params[] = {PARAM("pointer", "x"), PARAM("pointer", "y"),
                                        END_OF_PARAMS};
  static const kernel_variant variant = {"sm_90", "golden", .params = params};
  static const kernel_function described = {
      "t.golden",
      "[{'name':'x','type':'Tensor','dtype':'float32'},"
      "{'name':'y','type':'pointer','output':true,'pointee':{'dtype':'float32','shape':'4'}}]",
      &variant, 1,
      "[{'name':'twice','args':{'x':{'dtype':'float32','shape':[4],'fill':{'generator':'constant',"
      "'value':1.5}},'y':{'dtype':'float32','shape':[4],'expect':{'blob':'@0','atol':0.25,'rtol':0}}"
      "}}]"};
  static float expected[4] = {3, 3, 3, 3};
  const bytes data = {(unsigned char *)expected, sizeof expected};
  pega_error error = PEGA_ERROR_INIT;
  bytes file = pack_make("golden", &described, 1, &data, 1);
  pega_pack *pack = pack_open(&file, 0);
  assert_int_equal(pega_fake_driver_set_kernel("golden", answer, NULL), 0);
  const pega_fake_driver_live_counts at_first = machine_live();
  golden_answer = 3.25f;
  EXPECT_OK(pega_pack_test(pack, CUDA(0), see, NULL, &error), &error);
  assert_int_equal(num_seen, 1);
  assert_int_equal(seen[0].elements, 4);
  assert_int_equal(seen[0].mismatches, 0);
  assert_true(seen[0].max_error == 0.25 && seen[0].tolerance == 0.25);
  golden_answer = 3.5f;
  EXPECT_ERROR(pega_pack_test(pack, CUDA(0), see, NULL, &error), &error, PEGA_ERROR_CALLEE,
               "t.golden on cuda:0: golden 'twice': 1 of 4 elements of 'y' are off",
               "the first is [2]: expected 3, got 3.5");
  assert_int_equal(seen[1].mismatches, 1);
  golden_answer = (float)NAN;
  EXPECT_ERROR(pega_pack_test(pack, CUDA(0), NULL, NULL, &error), &error, PEGA_ERROR_CALLEE, "nan");
  assert_int_equal(machine_live().allocations, at_first.allocations);
  pega_pack_release(pack);
  bytes_free(&file);
  pega_function *function;
  pack = pack_of(&scratch_function, &function);
  EXPECT_ERROR(pega_pack_test(pack, CUDA(0), NULL, NULL, &error), &error, PEGA_ERROR_NOT_FOUND,
               "pack 'one' has no golden case");
  pega_error_clear(&error);
  drop(pack, function);
}

/* Given back and got again while the pack is there: prepared still, so that a capture can call it. */
static void test_prepared_stays_with_the_pack(void **state) {
  (void)state;
  static const kernel_variant variant = {"sm_90a", "kept", .grid = {"1"}};
  static const kernel_function described = {"t.kept", "[" STREAM "]", &variant, 1, NULL};
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function;
  CUgraph graph;
  pega_pack *pack = pack_of(&described, &function);
  EXPECT_OK(pega_function_prepare(function, CUDA(0), &error), &error);
  pega_function_release(function);
  EXPECT_OK(pega_pack_get(pack, "t.kept", &function, &error), &error);
  CUstream stream = machine_stream(0, 1);
  CUcontext context;
  assert_int_equal(cu.cuDevicePrimaryCtxRetain(&context, 0), 0);
  assert_int_equal(cu.cuCtxPushCurrent_v2(context), 0);
  assert_int_equal(cu.cuStreamBeginCapture_v2(stream, 0), 0);
  const uint64_t looked_up = pega_fake_driver_count("cuModuleGetFunction");
  EXPECT_OK(pega_function_call(function, ARGS(pega_value_pointer(stream)), NULL, &error), &error);
  assert_int_equal(pega_fake_driver_count("cuModuleGetFunction"), looked_up);
  assert_int_equal(cu.cuStreamEndCapture(stream, &graph), 0);
  assert_int_equal(cu.cuGraphDestroy(graph), 0);
  assert_int_equal(cu.cuCtxPopCurrent_v2(&context), 0);
  assert_int_equal(cu.cuDevicePrimaryCtxRelease_v2(0), 0);
  machine_destroy_stream(0, stream);
  drop(pack, function);
}

static int close_all(void **state) {
  (void)state;
  machine_expect_no_faults(0);
  assert_int_equal(pega_cuda_close(NULL), PEGA_OK);
  const pega_fake_driver_live_counts nothing = {0};
  machine_expect_live(&nothing, "in the end");
  machine_expect_no_faults(0);
  return 0;
}

int main(void) {
  machine_start("");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(test_every_type, close_all),
      cmocka_unit_test_teardown(test_what_fits, close_all),
      cmocka_unit_test_teardown(test_ranges, close_all),
      cmocka_unit_test_teardown(test_rounding, close_all),
      cmocka_unit_test_teardown(test_places, close_all),
      cmocka_unit_test_teardown(test_tensors, close_all),
      cmocka_unit_test_teardown(test_grids, close_all),
      cmocka_unit_test_teardown(test_bad_arithmetic, close_all),
      cmocka_unit_test_teardown(test_shared_memory, close_all),
      cmocka_unit_test_teardown(test_shared_memory_of_one_cubin, close_all),
      cmocka_unit_test_teardown(test_launch_bounds, close_all),
      cmocka_unit_test_teardown(test_attributes, close_all),
      cmocka_unit_test_teardown(test_clusters_of_more_than_eight, close_all),
      cmocka_unit_test_teardown(test_variants_by_arguments, close_all),
      cmocka_unit_test_teardown(test_no_variant_for_the_device, close_all),
      cmocka_unit_test_teardown(test_manifest_and_blob_differ, close_all),
      cmocka_unit_test_teardown(test_scratch_of_the_pool, close_all),
      cmocka_unit_test_teardown(test_scratch_alignment, close_all),
      cmocka_unit_test_teardown(test_scratch_of_an_allocator, close_all),
      cmocka_unit_test_teardown(test_tensor_descriptor, close_all),
      cmocka_unit_test_teardown(test_golden, close_all),
      cmocka_unit_test_teardown(test_prepared_stays_with_the_pack, close_all),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
