/* SPDX-License-Identifier: Apache-2.0 */
/* The check of tensor arguments: element type, shape across arguments, device, layout, writing. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "support.h"

static _Alignas(64) char memory[4096];

#define P(...) \
  { .type = PEGA_TYPE_TENSOR, __VA_ARGS__ }
#define PARAMS(...) ((const pega_param[]){__VA_ARGS__}), COUNT(((const pega_param[]){__VA_ARGS__}))

static pega_status check(const pega_param *params, int32_t num_params, uint32_t signature_flags,
                         pega_error *error, const pega_value *args, int32_t num_args) {
  pega_function *function = support_function("t.f", params, num_params, signature_flags);
  const pega_status status = pega_function_check(function, args, num_args, error);
  assert_int_equal(pega_function_check(function, args, num_args, NULL), status);
  pega_function_release(function);
  return status;
}

static uint32_t signature_flags;

/* PASSES(parameters in PARAMS(), tensor values...). */
#define PASSES(params, ...)                                                         \
  do {                                                                              \
    pega_error error_ = PEGA_ERROR_INIT;                                            \
    EXPECT_OK(check(params, signature_flags, &error_, ARGS(__VA_ARGS__)), &error_); \
  } while (0)
#define FAILS(params, status, text, ...)                                                      \
  do {                                                                                        \
    pega_error error_ = PEGA_ERROR_INIT;                                                      \
    EXPECT_ERROR(check(params, signature_flags, &error_, ARGS(__VA_ARGS__)), &error_, status, \
                 "t.f: argument ", text, "; call it as t.f(");                                \
    pega_error_clear(&error_);                                                                \
  } while (0)

/* A borrowed tensor value of float32 with the sizes that follow. */
#define T(...) pega_value_tensor(&TENSOR(memory, FLOAT32, __VA_ARGS__))

static pega_value on_device(DLTensor *tensor, DLDeviceType type, int32_t id) {
  tensor->device = DEVICE(type, id);
  return pega_value_tensor(tensor);
}

static void test_dtype(void **state) {
  (void)state;
  const pega_value ints = pega_value_tensor(&TENSOR(memory, INT64, 2));
  const pega_value pairs = pega_value_tensor(&TENSOR(memory, DTYPE(kDLFloat, 32, 2), 2));
  PASSES(PARAMS(P(.name = "a")), ints);
  PASSES(PARAMS(P(.name = "a", .dtype = FLOAT32)), T(2));
  FAILS(PARAMS(P(.name = "a", .dtype = FLOAT32)), PEGA_ERROR_DTYPE,
        "0 'a': expected dtype float32, got int64", ints);
  FAILS(PARAMS(P(.name = "a", .dtype = FLOAT32)), PEGA_ERROR_DTYPE,
        "0 'a': expected dtype float32, got float32x2", pairs);
  FAILS(PARAMS(P(.name = "a", .dtype = DTYPE(kDLFloat, 16, 1))), PEGA_ERROR_DTYPE,
        "expected dtype float16, got float32", T(2));
  FAILS(PARAMS(P(.name = "a", .dtype = DTYPE(kDLInt, 32, 1))), PEGA_ERROR_DTYPE,
        "expected dtype int32, got float32", T(2));
}

static void test_rank_and_sizes(void **state) {
  (void)state;
  DLTensor scalar_tensor = TENSOR(memory, FLOAT32, 1);
  scalar_tensor.ndim = 0;
  const pega_value scalar = pega_value_tensor(&scalar_tensor);
  PASSES(PARAMS(P(.name = "a")), T(1, 2, 3));
  PASSES(PARAMS(P(.name = "a", .shape = "")), scalar);
  PASSES(PARAMS(P(.name = "a", .shape = "2, 3")), T(2, 3));
  PASSES(PARAMS(P(.name = "a", .shape = "_, 3")), T(7, 3));
  PASSES(PARAMS(P(.name = "a", .shape = "0, T")), T(0, 3));
  FAILS(PARAMS(P(.name = "a", .shape = "2, 3")), PEGA_ERROR_SHAPE,
        "0 'a': expected shape (2, 3), got (2) of rank 1", T(2));
  FAILS(PARAMS(P(.name = "a", .shape = "")), PEGA_ERROR_SHAPE,
        "0 'a': expected shape (), got (2) of rank 1", T(2));
  FAILS(PARAMS(P(.name = "a", .shape = "T")), PEGA_ERROR_SHAPE,
        "0 'a': expected shape (T), got () of rank 0", scalar);
  FAILS(PARAMS(P(.name = "a", .shape = "_, 64")), PEGA_ERROR_SHAPE,
        "0 'a': expected shape (_, 64), got (2, 63): shape[1] must be 64", T(2, 63));
  FAILS(PARAMS(P(.name = "a", .shape = "1")), PEGA_ERROR_SHAPE, "shape[0] must be 1", T(0));
}

static void test_named_sizes(void **state) {
  (void)state;
#define AB PARAMS(P(.name = "a", .shape = "T, HV"), P(.name = "b", .shape = "HV, T, 4"))
  PASSES(AB, T(2, 3), T(3, 2, 4));
  PASSES(AB, T(0, 3), T(3, 0, 4));
  FAILS(
      AB, PEGA_ERROR_SHAPE,
      "1 'b': expected shape (HV, T, 4), got (3, 5, 4): shape[1] must be T = 2 as in argument 0 'a'",
      T(2, 3), T(3, 5, 4));
  FAILS(AB, PEGA_ERROR_SHAPE, "shape[0] must be HV = 3 as in argument 0 'a'", T(2, 3), T(2, 2, 4));
  FAILS(AB, PEGA_ERROR_SHAPE, "shape[2] must be 4", T(2, 3), T(3, 2, 5));
#undef AB
  /* Twice within one tensor. */
  PASSES(PARAMS(P(.name = "a", .shape = "N, N")), T(3, 3));
  FAILS(PARAMS(P(.name = "a", .shape = "N, N")), PEGA_ERROR_SHAPE,
        "0 'a': expected shape (N, N), got (3, 4): shape[1] must be N = 3 as in argument 0 'a'",
        T(3, 4));
  /* "_" is no name, and names that start alike are different ones. */
  PASSES(PARAMS(P(.name = "a", .shape = "_, _")), T(3, 4));
  PASSES(PARAMS(P(.name = "a", .shape = "T, T1, T12, _T")), T(1, 2, 3, 4));
  /* A check begins anew with each call. */
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function = support_function(
      "t.f", PARAMS(P(.name = "a", .shape = "N"), P(.name = "b", .shape = "N")), 0);
  for (int64_t n = 1; n < 5; ++n) {
    EXPECT_OK(pega_function_check(function, ARGS(T(n), T(n)), &error), &error);
    EXPECT_ERROR(pega_function_check(function, ARGS(T(n), T(n + 1)), &error), &error,
                 PEGA_ERROR_SHAPE, "argument 1 'b'");
  }
  pega_error_clear(&error);
  pega_function_release(function);
}

static void test_as_many_names_as_there_may_be(void **state) {
  (void)state;
  /* 64 names in two tensors of rank 32; a third repeats the last of them. */
  static const char first[] =
      "a0,a1,a2,a3,a4,a5,a6,a7,a8,a9,b0,b1,b2,b3,b4,b5,b6,b7,b8,b9,c0,c1,c2,c3,c4,c5,c6,c7,c8,c9,d0,d1";
  static const char second[] =
      "e0,e1,e2,e3,e4,e5,e6,e7,e8,e9,f0,f1,f2,f3,f4,f5,f6,f7,f8,f9,g0,g1,g2,g3,g4,g5,g6,g7,g8,g9,h0,h1";
  int64_t ones[PEGA_MAX_RANK];
  for (int i = 0; i < PEGA_MAX_RANK; ++i) ones[i] = 1;
  DLTensor tensor = TENSOR(memory, FLOAT32, 1);
  tensor.ndim = PEGA_MAX_RANK;
  tensor.shape = ones;
  const pega_value value = pega_value_tensor(&tensor);
#define ABC                                                               \
  PARAMS(P(.name = "a", .shape = first), P(.name = "b", .shape = second), \
         P(.name = "c", .shape = "h1"))
  PASSES(ABC, value, value, T(1));
  FAILS(ABC, PEGA_ERROR_SHAPE,
        "2 'c': expected shape (h1), got (2): shape[0] must be h1 = 1 as in argument 1 'b'", value,
        value, T(2));
#undef ABC
}

static void test_device(void **state) {
  (void)state;
  DLTensor tensor = TENSOR(memory, FLOAT32, 2);
  DLTensor other = TENSOR(memory, FLOAT32, 2);
  PASSES(PARAMS(P(.name = "a")), on_device(&tensor, kDLVulkan, 3));
  PASSES(PARAMS(P(.name = "a", .device_type = kDLCUDA)), on_device(&tensor, kDLCUDA, 3));
  FAILS(PARAMS(P(.name = "a", .device_type = kDLCUDA)), PEGA_ERROR_DEVICE,
        "0 'a': expected a tensor on a cuda device, got cpu:0", on_device(&tensor, kDLCPU, 0));
  FAILS(PARAMS(P(.name = "a", .device_type = kDLCPU)), PEGA_ERROR_DEVICE,
        "0 'a': expected a tensor on a cpu device, got cuda:1", on_device(&tensor, kDLCUDA, 1));
#define ANB PARAMS(P(.name = "a"), {.name = "n", .type = PEGA_TYPE_INT}, P(.name = "b"))
  PASSES(ANB, on_device(&tensor, kDLCUDA, 0), pega_value_int(1), on_device(&other, kDLCPU, 0));
  signature_flags = PEGA_SIGNATURE_SAME_DEVICE;
  PASSES(ANB, on_device(&tensor, kDLCUDA, 1), pega_value_int(1), on_device(&other, kDLCUDA, 1));
  FAILS(ANB, PEGA_ERROR_DEVICE, "2 'b': expected device cuda:1 as in argument 0 'a', got cuda:0",
        on_device(&tensor, kDLCUDA, 1), pega_value_int(1), on_device(&other, kDLCUDA, 0));
  FAILS(ANB, PEGA_ERROR_DEVICE, "2 'b': expected device cpu:0 as in argument 0 'a', got cuda:0",
        on_device(&tensor, kDLCPU, 0), pega_value_int(1), on_device(&other, kDLCUDA, 0));
  signature_flags = 0;
#undef ANB
}

static void test_layout(void **state) {
  (void)state;
  DLTensor tensor = TENSOR(memory, FLOAT32, 2, 3);
#define CONTIGUOUS PARAMS(P(.name = "a", .flags = PEGA_PARAM_CONTIGUOUS))
  PASSES(CONTIGUOUS, pega_value_tensor(&tensor));
  tensor.strides = SHAPE(3, 1);
  PASSES(CONTIGUOUS, pega_value_tensor(&tensor));
  tensor.strides = SHAPE(1, 2);
  PASSES(PARAMS(P(.name = "a")), pega_value_tensor(&tensor));
  FAILS(CONTIGUOUS, PEGA_ERROR_LAYOUT,
        "0 'a': expected a contiguous row-major tensor, got strides (1, 2); copy it to one",
        pega_value_tensor(&tensor));
#undef CONTIGUOUS
#define ALIGNED PARAMS(P(.name = "a", .alignment = 64))
  tensor = TENSOR(memory, FLOAT32, 2);
  PASSES(ALIGNED, pega_value_tensor(&tensor));
  tensor.byte_offset = 4;
  FAILS(ALIGNED, PEGA_ERROR_LAYOUT, "0 'a': expected data aligned to 64 bytes, got address 0x",
        pega_value_tensor(&tensor));
  tensor.data = memory + 60;
  PASSES(ALIGNED, pega_value_tensor(&tensor));
  /* No element, no address that matters. */
  tensor = TENSOR(memory + 4, FLOAT32, 0);
  PASSES(ALIGNED, pega_value_tensor(&tensor));
#undef ALIGNED
}

static void test_output(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  const DLTensor tensor = TENSOR(memory, FLOAT32, 2);
  pega_value writable, read_only;
  EXPECT_OK(pega_tensor_create(&tensor, DLPACK_FLAG_BITMASK_IS_COPIED, NULL, NULL, NULL, &writable,
                               &error),
            &error);
  EXPECT_OK(pega_tensor_create(&tensor, DLPACK_FLAG_BITMASK_READ_ONLY, NULL, NULL, NULL, &read_only,
                               &error),
            &error);
  PASSES(PARAMS(P(.name = "a", .flags = PEGA_PARAM_OUTPUT)), writable);
  PASSES(PARAMS(P(.name = "a", .flags = PEGA_PARAM_OUTPUT)), pega_value_tensor(&tensor));
  PASSES(PARAMS(P(.name = "a")), read_only);
  FAILS(PARAMS(P(.name = "a"), P(.name = "b", .flags = PEGA_PARAM_OUTPUT)), PEGA_ERROR_LAYOUT,
        "1 'b': expected a writable tensor, got a read-only one", read_only, read_only);
  pega_value_release(&writable);
  pega_value_release(&read_only);
}

/* What the tensor itself gets wrong is said under the argument's name, with its own status. */
static void test_invalid_tensors(void **state) {
  (void)state;
  DLTensor tensor = TENSOR(memory, FLOAT32, 2, -3);
  FAILS(PARAMS(P(.name = "a")), PEGA_ERROR_SHAPE,
        "0 'a': tensor shape[1] is -3: expected a size >= 0", pega_value_tensor(&tensor));
  tensor = TENSOR(memory + 1, FLOAT32, 2);
  FAILS(PARAMS(P(.name = "a")), PEGA_ERROR_LAYOUT, "0 'a': tensor data + byte_offset is 0x",
        pega_value_tensor(&tensor));
  tensor = TENSOR(NULL, FLOAT32, 2);
  FAILS(PARAMS(P(.name = "a")), PEGA_ERROR_INVALID_ARGUMENT,
        "0 'a': tensor has elements but data is NULL", pega_value_tensor(&tensor));
  tensor = TENSOR(memory, FLOAT32, 2);
  tensor.ndim = INT32_MAX;
  FAILS(PARAMS(P(.name = "a")), PEGA_ERROR_SHAPE, "0 'a': tensor rank is 2147483647",
        pega_value_tensor(&tensor));
  /* Also where anything is accepted. */
  FAILS(PARAMS({.name = "a"}), PEGA_ERROR_SHAPE, "0 'a': tensor rank is 2147483647",
        pega_value_tensor(&tensor));
  tensor = TENSOR(memory, DTYPE(99, 8, 1), 2);
  FAILS(PARAMS(P(.name = "a", .dtype = FLOAT32)), PEGA_ERROR_DTYPE, "0 'a': tensor dtype {code 99",
        pega_value_tensor(&tensor));
}

static void test_no_tensor_in_it(void **state) {
  (void)state;
  pega_value empty = T(2);
  empty.as.tensor = NULL;
  FAILS(PARAMS(P(.name = "a", .dtype = FLOAT32, .shape = "T")), PEGA_ERROR_INVALID_ARGUMENT,
        "0 'a': malformed value (kind 10", empty);
  /* One that is empty is no shorter way around the other sizes. */
  FAILS(PARAMS(P(.name = "a", .dtype = FLOAT32, .shape = "T, 3, H")), PEGA_ERROR_SHAPE,
        "reaches past int64", T(INT64_MAX, 3, 0));
}

/* ---- In one pass, and in full ---- */

/* A counted tensor is always looked at in full, a borrowed one in one pass where nothing is wrong
 * with it: on tensors at random both come to the same. */
enum { kRandomCalls = 200000 };

static unsigned seed;

static int64_t one_of(const int64_t *choices, int count) {
  return choices[(unsigned)rand_r(&seed) / 7 % (unsigned)count];
}
#define ONE_OF(...) one_of(SHAPE(__VA_ARGS__), COUNT(SHAPE(__VA_ARGS__)))

typedef struct random_tensor {
  DLTensor view;
  int64_t shape[4], strides[4];
} random_tensor;

static bool rarely(void) { return rand_r(&seed) / 7 % 10 == 0; }

/* Mostly right for rank, type and the like; what is wrong is so in one place or two. */
static void fill_at_random(random_tensor *out, int32_t rank) {
  const int64_t huge = INT64_MAX / 8;
  out->view = (DLTensor){.data = memory + 16, .device = CPU, .ndim = rank, .dtype = FLOAT32};
  DLTensor *view = &out->view;
  for (int i = 0; i < 4; ++i) out->shape[i] = ONE_OF(1, 2, 3, 3, 3);
  for (int i = 0; i < 2; ++i) {
    if (rarely()) out->shape[ONE_OF(0, 1, 2)] = ONE_OF(0, -1, huge, INT64_MAX, 1);
  }
  int64_t packed = 1;
  for (int32_t i = rank - 1; i >= 0; --i) {
    out->strides[i] = packed;
    if (__builtin_mul_overflow(packed, out->shape[i], &packed)) packed = 1;
  }
  if (rarely()) out->strides[ONE_OF(0, 1, 2)] = ONE_OF(0, 1, 2, -1, 9, huge);
  view->shape = rarely() ? NULL : out->shape;
  view->strides = ONE_OF(0, 1) != 0 ? out->strides : NULL;
  if (rarely()) view->ndim = (int32_t)ONE_OF(-1, 0, 1, 2, 3, 4, 40);
  if (rarely()) {
    view->dtype = DTYPE((uint8_t)ONE_OF(0, 2, 200), (uint8_t)ONE_OF(16, 32, 0), 1);
    view->dtype.lanes = (uint16_t)ONE_OF(0, 1, 2);
  }
  if (rarely()) {
    view->device = DEVICE((DLDeviceType)ONE_OF(kDLCPU, kDLCUDA, kDLCUDAManaged, 0, -1),
                          (int32_t)ONE_OF(0, 1, -1));
  }
  if (rarely()) view->data = memory + ONE_OF(0, 2, 4, 8, 32);
  if (rarely()) view->data = NULL;
  if (rarely()) view->byte_offset = (uint64_t)ONE_OF(4, 8, 16, 2, INT64_MAX, -16);
}

static void test_at_random(void **state) {
  (void)state;
  const char *given = getenv("PEGA_TEST_SEED");
  seed = given != NULL ? (unsigned)strtoul(given, NULL, 0) : (unsigned)time(NULL);
  print_message("PEGA_TEST_SEED=%u\n", seed);
  enum { kSignatures = 8 };
  pega_function *functions[kSignatures];
  for (int i = 0; i < kSignatures; ++i) {
    const pega_param params[] = {
        P(.name = "a", .dtype = FLOAT32, .shape = "T, 3, H",
          .flags = (i & 1) != 0 ? PEGA_PARAM_CONTIGUOUS : 0, .alignment = (i & 2) != 0 ? 16 : 0),
        P(.name = "b", .dtype = FLOAT32, .shape = "H, _", .flags = PEGA_PARAM_OUTPUT,
          .device_type = (i & 2) != 0 ? kDLCPU : 0)};
    functions[i] =
        support_function("t.f", params, 2, (i & 4) != 0 ? PEGA_SIGNATURE_SAME_DEVICE : 0);
  }
  int passed = 0, invalid = 0;
  for (int call = 0; call < kRandomCalls; ++call) {
    random_tensor tensors[2];
    pega_value borrowed[2], counted[2];
    pega_error error = PEGA_ERROR_INIT, expected_error = PEGA_ERROR_INIT;
    bool valid = true;
    for (int i = 0; i < 2; ++i) {
      fill_at_random(&tensors[i], i == 0 ? 3 : 2);
      borrowed[i] = counted[i] = pega_value_tensor(&tensors[i].view);
      pega_value made;
      if (pega_tensor_create(&tensors[i].view, 0, NULL, NULL, NULL, &made, NULL) == PEGA_OK) {
        counted[i] = made;
      } else {
        valid = false;
      }
    }
    const pega_status expected =
        pega_function_check(functions[call % kSignatures], counted, 2, &expected_error);
    const pega_status got = pega_function_check(functions[call % kSignatures], borrowed, 2, &error);
    if (got != expected || (!valid && got == PEGA_OK) ||
        strcmp(pega_error_message(&error), pega_error_message(&expected_error)) != 0) {
      fail_msg("call %d of signature %d: %s, not %s: '%s', not '%s'", call, call % kSignatures,
               pega_status_name(got), pega_status_name(expected), pega_error_message(&error),
               pega_error_message(&expected_error));
    }
    passed += got == PEGA_OK;
    invalid += !valid;
    for (int i = 0; i < 2; ++i) {
      if (counted[i].flags != 0) pega_value_release(&counted[i]);
    }
    pega_error_clear(&error);
    pega_error_clear(&expected_error);
  }
  print_message("%d calls, %d passed, %d of invalid tensors\n", kRandomCalls, passed, invalid);
  assert_true(passed > kRandomCalls / 200 && invalid > kRandomCalls / 20);
  for (int i = 0; i < kSignatures; ++i) pega_function_release(functions[i]);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_dtype),           cmocka_unit_test(test_rank_and_sizes),
      cmocka_unit_test(test_named_sizes),     cmocka_unit_test(test_as_many_names_as_there_may_be),
      cmocka_unit_test(test_device),          cmocka_unit_test(test_layout),
      cmocka_unit_test(test_output),          cmocka_unit_test(test_invalid_tensors),
      cmocka_unit_test(test_no_tensor_in_it), cmocka_unit_test(test_at_random),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
