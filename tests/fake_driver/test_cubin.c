/* SPDX-License-Identifier: Apache-2.0 */
/* What is read of cubins and PTX text, and what is refused. */
#include "support.h"

#include <stdbool.h>
#include <stdlib.h>

#include "cubin.h"

static int attribute(CUfunction function, int which) {
  int value = -99;
  ok(cuFuncGetAttribute(&value, which, function));
  return value;
}

static void assert_param(CUfunction function, size_t index, size_t offset, size_t size) {
  size_t got_offset = 99;
  size_t got_size = 99;
  ok(cuFuncGetParamInfo(function, index, &got_offset, &got_size));
  assert_int_equal(got_offset, offset);
  assert_int_equal(got_size, size);
}

static void test_kernels(void **state) {
  (void)state;
  size_t offset;
  const char *name = NULL;
  assert_param(add, 0, 0, 8);
  assert_param(add, 1, 8, 4);
  assert_param(add, 2, 12, 4);
  assert_int_equal(cuFuncGetParamInfo(add, 3, &offset, NULL), 1);
  assert_int_equal(cuFuncGetParamInfo(plain, 0, &offset, NULL), 1);
  assert_int_equal(attribute(add, FAKE_CU_FUNC_ATTRIBUTE_NUM_REGS), 10);
  assert_int_equal(attribute(plain, FAKE_CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES), 400);
  assert_int_equal(attribute(plain, FAKE_CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES),
                   48 * 1024 - 400);
  assert_int_equal(attribute(heavy, FAKE_CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK), 256);
  assert_int_equal(attribute(heavy, FAKE_CU_FUNC_ATTRIBUTE_CLUSTER_SIZE_MUST_BE_SET), 1);
  assert_int_equal(attribute(heavy, FAKE_CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH), 2);
  assert_int_equal(attribute(add, FAKE_CU_FUNC_ATTRIBUTE_BINARY_VERSION), 90);
  ok(cuFuncGetName(&name, heavy));
  assert_string_equal(name, "heavy");
}

static void test_wide_params(void **state) {
  (void)state;
  static const cubin_kernel kBig = {.name = "big",
                                    .num_params = 3,
                                    .params = {{0, 12000}, {12000, 4}, {12008, 8}},
                                    .wide_params = 1};
  unsigned char *bytes = cubin_make(90, &kBig, 1, NULL);
  CUmodule other;
  CUfunction big;
  ok(cuModuleLoadData(&other, bytes));
  free(bytes); /* the driver keeps nothing of it */
  ok(cuModuleGetFunction(&big, other, "big"));
  assert_param(big, 0, 0, 12000);
  assert_param(big, 1, 12000, 4);
  assert_param(big, 2, 12008, 8);
}

static CUresult load(uint32_t architecture) {
  static const cubin_kernel kOne = {.name = "one"};
  unsigned char *bytes = cubin_make(architecture, &kOne, 1, NULL);
  CUmodule other = NULL;
  CUresult result = cuModuleLoadData(&other, bytes);
  free(bytes);
  return result;
}

static void test_architectures(void **state) {
  (void)state;
  begin_bare("cc=8.6");
  ok(load(80));
  ok(load(86));
  assert_int_equal(load(89), FAKE_CUDA_ERROR_NO_BINARY_FOR_GPU);
  assert_int_equal(load(75), FAKE_CUDA_ERROR_NO_BINARY_FOR_GPU);
  assert_int_equal(load(90), FAKE_CUDA_ERROR_NO_BINARY_FOR_GPU);
  begin_bare("cc=10.3");
  ok(load(100));
  ok(load(103));
  assert_int_equal(load(90), FAKE_CUDA_ERROR_NO_BINARY_FOR_GPU);
  assert_int_equal(load(110), FAKE_CUDA_ERROR_NO_BINARY_FOR_GPU);
}

/* Each byte of the image changed in turn: loaded or refused, and nothing read that is not there. */
static void test_damaged(void **state) {
  (void)state;
  static const cubin_kernel kOne = {
      .name = "one", .num_params = 1, .params = {{0, 8}}, .registers = 4, .max_threads = 64};
  size_t size;
  unsigned char *bytes = cubin_make(90, &kOne, 1, &size);
  static const unsigned char kChanges[] = {0x01, 0x80, 0xff};
  const size_t table = size - 8 * 64; /* of the sections, at the end */
  unsigned refused = 0;
  for (size_t i = sizeof "\177ELF" - 1; i < size; ++i) {
    /* The image's extent is told by these alone: the driver has no other way to know it. */
    bool header = (i >= 0x20 && i < 0x30) || (i >= 0x36 && i < 0x3e);
    bool extent = i >= table && (i - table) % 64 >= 24 && (i - table) % 64 < 40;
    if (header || extent) continue;
    for (size_t k = 0; k < sizeof kChanges; ++k) {
      unsigned char kept = bytes[i];
      CUmodule other = NULL;
      bytes[i] ^= kChanges[k];
      unsigned char *copy = calloc(1, size + 4096); /* a section of shared memory turned to bytes */
      memcpy(copy, bytes, size);
      CUresult result = cuModuleLoadData(&other, copy);
      if (result == 0 && other != NULL) ok(cuModuleUnload(other));
      refused += result != 0;
      free(copy);
      bytes[i] = kept;
    }
  }
  free(bytes);
  assert_true(refused > 20);
  assert_int_equal(live().modules, 1);
}

static void test_refused(void **state) {
  (void)state;
  CUmodule other = NULL;
  unsigned char host[64] = {0x7f, 'E', 'L', 'F', 2, 1, 1};
  host[18] = 62; /* x86-64 */
  assert_int_equal(cuModuleLoadData(&other, host), FAKE_CUDA_ERROR_INVALID_IMAGE);
  assert_int_equal(cuModuleLoadData(&other, ""), FAKE_CUDA_ERROR_INVALID_IMAGE);
  assert_int_equal(cuModuleLoadData(&other, "words"), FAKE_CUDA_ERROR_INVALID_IMAGE);
  assert_int_equal(cuModuleLoadData(&other, ".version 8.0\n"), FAKE_CUDA_ERROR_INVALID_PTX);
  assert_int_equal(cuModuleLoadData(&other, "// a\n/* b */ .version 8.0 .target sm_90 .entry"),
                   FAKE_CUDA_ERROR_INVALID_PTX);
  assert_int_equal(cuModuleLoadData(&other, ".version 8.0 .target sm_90 .entry a(.param .u32 x"),
                   FAKE_CUDA_ERROR_INVALID_PTX);
  assert_int_equal(cuModuleLoadData(&other, ".version 8.0 .target sm_90 .entry a(.param .zz x)"),
                   FAKE_CUDA_ERROR_INVALID_PTX);
  assert_null(other);
  assert_int_equal(live().modules, 1);
}

static void test_ptx(void **state) {
  (void)state;
  static const char kText[] =
      "// made by hand\n.version 8.0\n.target sm_80, debug\n.address_size 64\n"
      ".visible .func (.param .u32 r) helper(.param .u32 x) { ret; }\n"
      ".visible .entry _Z1kPf(\n  .param .u32 first, .param .u64 .ptr .global .align 16 p, /* , */\n"
      "  .param .align 8 .b8 s[12],\n  .param .f32 f\n)"
      " .maxntid 128, 2 .reqnctapercluster 4\n{ ret; }\n"
      ".entry none { ret; }\n";
  CUmodule other;
  CUfunction function;
  ok(cuModuleLoadDataEx(&other, kText, 0, NULL, NULL));
  ok(cuModuleGetFunction(&function, other, "_Z1kPf"));
  assert_param(function, 0, 0, 4);
  assert_param(function, 1, 8, 8); /* aligned by its type, not by what it points at */
  assert_param(function, 2, 16, 12);
  assert_param(function, 3, 28, 4);
  assert_int_equal(attribute(function, FAKE_CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK), 256);
  assert_int_equal(attribute(function, FAKE_CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH), 4);
  assert_int_equal(attribute(function, FAKE_CU_FUNC_ATTRIBUTE_PTX_VERSION), 80);
  assert_int_equal(attribute(function, FAKE_CU_FUNC_ATTRIBUTE_BINARY_VERSION), 90);
  ok(cuModuleGetFunction(&function, other, "none"));
  assert_int_equal(cuModuleGetFunction(&function, other, "helper"), FAKE_CUDA_ERROR_NOT_FOUND);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_kernels, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_wide_params, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_architectures, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_damaged, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_ptx, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
