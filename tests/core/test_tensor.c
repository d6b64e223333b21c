/* SPDX-License-Identifier: Apache-2.0 */
/* Tensor descriptors: each refusal with its text, what passes, and what is computed from them. */
#include <stdio.h>
#include <string.h>

#include "support.h"

static _Alignas(64) char memory[256];

static void expect_valid(DLTensor tensor) {
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_OK(pega_tensor_validate(&tensor, &error), &error);
}

#define EXPECT_REFUSED(tensor, status, ...)                                              \
  do {                                                                                   \
    DLTensor tensor_ = (tensor);                                                         \
    pega_error error_ = PEGA_ERROR_INIT;                                                 \
    EXPECT_ERROR(pega_tensor_validate(&tensor_, &error_), &error_, status, __VA_ARGS__); \
    assert_int_equal(pega_tensor_validate(&tensor_, NULL), status);                      \
    pega_error_clear(&error_);                                                           \
  } while (0)

static DLTensor with_strides(DLTensor tensor, int64_t *strides) {
  tensor.strides = strides;
  return tensor;
}

static DLTensor at(DLTensor tensor, void *data, uint64_t byte_offset) {
  tensor.data = data;
  tensor.byte_offset = byte_offset;
  return tensor;
}

static void test_rank_and_shape(void **state) {
  (void)state;
  int64_t ones[PEGA_MAX_RANK + 1];
  for (int i = 0; i <= PEGA_MAX_RANK; ++i) ones[i] = 1;
  DLTensor tensor = TENSOR(memory, FLOAT32, 1);
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_ERROR(pega_tensor_validate(NULL, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "tensor is NULL");
  pega_error_clear(&error);

  tensor.shape = ones;
  static const int32_t wrong_ranks[] = {-1, PEGA_MAX_RANK + 1, INT32_MAX, INT32_MIN};
  for (int i = 0; i < COUNT(wrong_ranks); ++i) {
    char text[64];
    snprintf(text, sizeof text, "tensor rank is %d: expected 0 to 32", wrong_ranks[i]);
    tensor.ndim = wrong_ranks[i];
    EXPECT_REFUSED(tensor, PEGA_ERROR_SHAPE, text);
  }
  tensor.ndim = PEGA_MAX_RANK;
  expect_valid(tensor);
  tensor.shape = NULL;
  EXPECT_REFUSED(tensor, PEGA_ERROR_SHAPE, "tensor of rank 32 has shape NULL");
  tensor.ndim = 0;
  expect_valid(tensor);

  EXPECT_REFUSED(TENSOR(memory, FLOAT32, 2, -1), PEGA_ERROR_SHAPE,
                 "tensor shape[1] is -1: expected a size >= 0");
  EXPECT_REFUSED(TENSOR(memory, FLOAT32, INT64_MIN, 0), PEGA_ERROR_SHAPE,
                 "tensor shape[0] is -9223372036854775808");
}

static void test_dtypes(void **state) {
  (void)state;
  static const DLDataType good[] = {
      {kDLInt, 8, 1},           {kDLInt, 4, 1},         {kDLUInt, 128, 1},        {kDLUInt, 1, 1},
      {kDLFloat, 8, 1},         {kDLFloat, 16, 1},      {kDLFloat, 32, 4},        {kDLFloat, 64, 1},
      {kDLBfloat, 16, 2},       {kDLComplex, 32, 1},    {kDLComplex, 128, 1},     {kDLBool, 8, 1},
      {kDLOpaqueHandle, 64, 1}, {kDLFloat8_e3m4, 8, 1}, {kDLFloat4_e2m1fn, 4, 1},
  };
  for (int i = 0; i < COUNT(good); ++i) expect_valid(TENSOR(memory, good[i], 1));
  static const DLDataType bad[] = {
      {kDLFloat, 32, 0}, {kDLFloat, 0, 1},   {0, 0, 0},  {kDLFloat, 24, 1}, {kDLBfloat, 32, 1},
      {kDLInt, 129, 1},  {kDLComplex, 8, 1}, {18, 8, 1}, {255, 255, 65535},
  };
  for (int i = 0; i < COUNT(bad); ++i) {
    char text[96];
    snprintf(text, sizeof text,
             "tensor dtype {code %u, bits %u, lanes %u} is none that DLPack defines", bad[i].code,
             bad[i].bits, bad[i].lanes);
    EXPECT_REFUSED(TENSOR(memory, bad[i], 1), PEGA_ERROR_DTYPE, text);
  }
}

static void test_extent(void **state) {
  (void)state;
  const int64_t most = INT64_MAX;
  EXPECT_REFUSED(TENSOR(memory, FLOAT32, 2, most), PEGA_ERROR_SHAPE,
                 "tensor shape[0] = 2 with stride 9223372036854775807 reaches past int64",
                 "the sizes or strides are wrong");
  EXPECT_REFUSED(TENSOR(memory, FLOAT32, most / 2), PEGA_ERROR_SHAPE,
                 "tensor's bytes do not fit in int64");
  EXPECT_REFUSED(TENSOR(memory, FLOAT32, most, most, most), PEGA_ERROR_SHAPE, "reaches past int64");
  EXPECT_REFUSED(with_strides(TENSOR(memory, FLOAT32, 3), SHAPE(most)), PEGA_ERROR_SHAPE,
                 "tensor shape[0] = 3 with stride 9223372036854775807");
  EXPECT_REFUSED(with_strides(TENSOR(memory, FLOAT32, 3), SHAPE(INT64_MIN)), PEGA_ERROR_SHAPE,
                 "stride -9223372036854775808");
  EXPECT_REFUSED(with_strides(TENSOR(memory, FLOAT32, 2, 2), SHAPE(most, most)), PEGA_ERROR_SHAPE,
                 "reaches past int64");
  EXPECT_REFUSED(with_strides(TENSOR(memory, FLOAT32, 2, 2), SHAPE(-most, -most)), PEGA_ERROR_SHAPE,
                 "reaches past int64");
  /* Each end is within int64, the way from one to the other is not. */
  EXPECT_REFUSED(with_strides(TENSOR(memory, FLOAT32, 2, 2), SHAPE(most - 1, 1 - most)),
                 PEGA_ERROR_SHAPE, "tensor's bytes do not fit in int64");
  EXPECT_REFUSED(with_strides(TENSOR(memory, FLOAT32, 2), SHAPE(INT64_MIN)), PEGA_ERROR_SHAPE,
                 "tensor's bytes do not fit in int64");
  EXPECT_REFUSED(with_strides(TENSOR(memory, FLOAT32, 2), SHAPE(most / 4)), PEGA_ERROR_SHAPE,
                 "tensor's bytes do not fit in int64");
  /* A size that a product with zero would hide. */
  EXPECT_REFUSED(TENSOR(memory, FLOAT32, 0, most, 2), PEGA_ERROR_SHAPE, "reaches past int64");

  expect_valid(with_strides(TENSOR(memory, FLOAT32, 1, 1), SHAPE(most, INT64_MIN)));
  expect_valid(with_strides(TENSOR(memory, FLOAT32, 0, 5), SHAPE(most, most)));
  expect_valid(with_strides(TENSOR(memory, FLOAT32, 5, 5), SHAPE(0, 0)));
  expect_valid(with_strides(TENSOR(memory + 64, FLOAT32, 2, 4), SHAPE(-4, -1)));
}

static void test_data(void **state) {
  (void)state;
  const DLTensor floats = TENSOR(memory, FLOAT32, 4);
  EXPECT_REFUSED(at(floats, NULL, 0), PEGA_ERROR_INVALID_ARGUMENT,
                 "tensor has elements but data is NULL");
  EXPECT_REFUSED(at(floats, NULL, 64), PEGA_ERROR_INVALID_ARGUMENT, "data is NULL");
  EXPECT_REFUSED(at(floats, memory, UINT64_MAX), PEGA_ERROR_LAYOUT,
                 "tensor data + byte_offset 18446744073709551615 wraps around");
  EXPECT_REFUSED(at(floats, memory + 1, 0), PEGA_ERROR_LAYOUT, "tensor data + byte_offset is 0x",
                 "aligned to 4 bytes");
  EXPECT_REFUSED(at(floats, memory, 2), PEGA_ERROR_LAYOUT, "aligned to 4 bytes");
  /* The sum counts, not its parts. */
  expect_valid(at(floats, memory + 1, 3));
  expect_valid(at(TENSOR(NULL, FLOAT32, 3, 0), NULL, 0));
  expect_valid(at(TENSOR(NULL, FLOAT32, 0), memory + 1, 0));

  static const struct {
    DLDataType dtype;
    uint64_t alignment;
  } aligned[] = {
      {{kDLInt, 8, 1}, 1},        {{kDLInt, 4, 1}, 1},     {{kDLInt, 8, 3}, 1},
      {{kDLBfloat, 16, 1}, 2},    {{kDLFloat, 16, 3}, 2},  {{kDLFloat, 64, 1}, 8},
      {{kDLComplex, 128, 1}, 16}, {{kDLFloat, 32, 4}, 16}, {{kDLFloat, 64, 8}, 16},
  };
  for (int i = 0; i < COUNT(aligned); ++i) {
    const uint64_t alignment = aligned[i].alignment;
    expect_valid(at(TENSOR(NULL, aligned[i].dtype, 2), memory, alignment));
    if (alignment == 1) continue;
    char text[64];
    snprintf(text, sizeof text, "aligned to %d bytes", (int)alignment);
    EXPECT_REFUSED(at(TENSOR(NULL, aligned[i].dtype, 2), memory, alignment / 2), PEGA_ERROR_LAYOUT,
                   text);
  }
}

static void test_counts(void **state) {
  (void)state;
  DLTensor tensor = TENSOR(memory, FLOAT32, 2, 3, 5);
  assert_int_equal(pega_tensor_num_elements(&tensor), 30);
  assert_int_equal(pega_tensor_num_bytes(&tensor), 120);
  tensor.ndim = 0;
  assert_int_equal(pega_tensor_num_elements(&tensor), 1);
  assert_int_equal(pega_tensor_num_bytes(&tensor), 4);
  tensor = TENSOR(memory, BFLOAT16, 3, 0);
  assert_int_equal(pega_tensor_num_elements(&tensor), 0);
  assert_int_equal(pega_tensor_num_bytes(&tensor), 0);
  tensor = TENSOR(memory, DTYPE(kDLFloat4_e2m1fn, 4, 1), 3);
  assert_int_equal(pega_tensor_num_bytes(&tensor), 2);
  tensor = TENSOR(memory, DTYPE(kDLInt, 8, 3), 5);
  assert_int_equal(pega_tensor_num_elements(&tensor), 5);
  assert_int_equal(pega_tensor_num_bytes(&tensor), 15);
  /* As many bits as int64 can count. */
  tensor = TENSOR(memory, DTYPE(kDLUInt, 1, 1), INT64_MAX);
  expect_valid(tensor);
  assert_int_equal(pega_tensor_num_bytes(&tensor), (int64_t)1 << 60);

  tensor = at(TENSOR(NULL, FLOAT32, 1), memory, 12);
  assert_ptr_equal(pega_tensor_data(&tensor), memory + 12);
}

static void test_contiguous(void **state) {
  (void)state;
#define CONTIGUOUS(expected, strides_, ...)                                          \
  do {                                                                               \
    DLTensor tensor_ = with_strides(TENSOR(memory, FLOAT32, __VA_ARGS__), strides_); \
    assert_int_equal(pega_tensor_is_contiguous(&tensor_), expected);                 \
  } while (0)
  CONTIGUOUS(true, NULL, 2, 3);
  CONTIGUOUS(true, SHAPE(3, 1), 2, 3);
  CONTIGUOUS(false, SHAPE(1, 2), 2, 3);
  CONTIGUOUS(false, SHAPE(4, 1), 2, 3);
  CONTIGUOUS(false, SHAPE(3, 2), 2, 3);
  CONTIGUOUS(false, SHAPE(-3, 1), 2, 3);
  CONTIGUOUS(false, SHAPE(0, 1), 2, 3);
  /* Sizes of 1 and 0 excuse any stride. */
  CONTIGUOUS(true, SHAPE(99, 1), 1, 3);
  CONTIGUOUS(true, SHAPE(3, 77, 1), 2, 1, 3);
  CONTIGUOUS(true, SHAPE(7, 7), 0, 3);
  CONTIGUOUS(true, SHAPE(7, 7), 3, 0);
  CONTIGUOUS(false, SHAPE(77, 77, 1), 2, 1, 3);
#undef CONTIGUOUS
  DLTensor scalar = TENSOR(memory, FLOAT32, 1);
  scalar.ndim = 0;
  scalar.strides = SHAPE(1);
  assert_true(pega_tensor_is_contiguous(&scalar));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_rank_and_shape), cmocka_unit_test(test_dtypes),
      cmocka_unit_test(test_extent),         cmocka_unit_test(test_data),
      cmocka_unit_test(test_counts),         cmocka_unit_test(test_contiguous),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
