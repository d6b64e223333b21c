/* SPDX-License-Identifier: Apache-2.0 */
/* C libraries that use CUDA: the current stream, the context of the tensors' device, the driver's texts, a
 * driver that is too old. Against the fake driver, with two devices. */
#include <pega/artifact.h>
#include <pega/fake_driver.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../core/support.h"

int cuInit(unsigned flags);
int cuCtxGetCurrent(void **context);
int cuCtxSetCurrent(void *context);
int cuDevicePrimaryCtxRetain(void **context, int device);

static char signature_path[64];
static void *primary; /* of device 0 */

static const char text[] =
    "{\"schema_version\": 1, \"uses_cuda\": true, \"requires\": {\"cuda_driver\": \"%s\"}, "
    "\"functions\": ["
    "{\"name\": \"where\", \"symbol\": \"cuda_fixture_where\", \"params\": [{\"name\": \"x\", \"c\": "
    "\"pointer\", \"type\": \"Tensor\"}, {\"name\": \"stream\", \"c\": \"stream\", \"value\": "
    "\"current\"}, {\"name\": \"out\", \"c\": \"pointer\"}], \"returns\": {\"c\": \"i32\", "
    "\"status\": \"cuda driver\"}}, "
    "{\"name\": \"forget\", \"symbol\": \"cuda_fixture_forget\", \"params\": [{\"name\": \"x\", "
    "\"c\": \"pointer\", \"type\": \"Tensor\"}], \"returns\": {\"c\": \"i32\", \"status\": \"cuda "
    "driver\"}}, "
    "{\"name\": \"fail\", \"symbol\": \"cuda_fixture_fail\", \"params\": [{\"name\": \"code\", "
    "\"c\": \"i32\"}], \"returns\": {\"c\": \"i32\", \"status\": \"cuda driver\"}}]}";

static pega_status open_fixture(const char *driver, pega_artifact **out, pega_error *error) {
  pega_artifact_options options = PEGA_ARTIFACT_OPTIONS_INIT;
  options.path = CUDA_FIXTURE;
  options.signature_path = signature_path;
  FILE *file = fopen(signature_path, "w");
  assert_non_null(file);
  fprintf(file, text, driver);
  fclose(file);
  return pega_artifact_open(&options, out, error);
}

static pega_function *get(const char *name) {
  pega_error error = PEGA_ERROR_INIT;
  pega_artifact *artifact = NULL;
  pega_function *function = NULL;
  EXPECT_OK(open_fixture("12.4", &artifact, &error), &error);
  EXPECT_OK(pega_artifact_get(artifact, name, &function, &error), &error);
  pega_artifact_release(artifact);
  return function;
}

static void *current(void) {
  void *context = NULL;
  assert_int_equal(cuCtxGetCurrent(&context), 0);
  return context;
}

static char memory[64];

static DLTensor on_device(int32_t device, int64_t *shape) {
  DLTensor tensor = {.data = memory, .device = {kDLCUDA, device}, .ndim = 1, .shape = shape};
  tensor.dtype = DTYPE(kDLInt, 8, 1);
  return tensor;
}

static void test_where(void **state) {
  (void)state;
  pega_function *where = get("where");
  pega_error error = PEGA_ERROR_INIT;
  int64_t shape = 16, got[3];
  for (int32_t round = 0; round < 6; ++round) {
    const int32_t device = round % 2;
    void *const before = round < 4 ? primary : NULL;
    DLTensor x = on_device(device, &shape);
    assert_int_equal(cuCtxSetCurrent(before), 0);
    memset(got, 0x55, sizeof got);
    EXPECT_OK(pega_stream_set(x.device, &memory[round], NULL, &error), &error);
    EXPECT_OK(pega_function_call(where, ARGS(pega_value_tensor(&x), pega_value_pointer(got)), NULL,
                                 &error),
              &error);
    assert_int_equal(got[0], device);
    assert_true(got[1] == (int64_t)(intptr_t)&memory[round]);
    assert_true(got[2] == (int64_t)(intptr_t)memory);
    assert_ptr_equal(current(), before);
    EXPECT_OK(pega_stream_set(x.device, NULL, NULL, &error), &error);
  }
  DLTensor nowhere = on_device(7, &shape);
  assert_int_equal(cuCtxSetCurrent(primary), 0);
  EXPECT_ERROR(pega_function_call(where, ARGS(pega_value_tensor(&nowhere), pega_value_pointer(got)),
                                  NULL, &error),
               &error, PEGA_ERROR_DRIVER, "where", "cuda:7", CUDA_FIXTURE, "CUresult 101");
  assert_ptr_equal(current(), primary);
  pega_error_clear(&error);
  pega_function_release(where);
}

static void test_context_is_put_back(void **state) {
  (void)state;
  pega_function *forget = get("forget");
  pega_error error = PEGA_ERROR_INIT;
  int64_t shape = 16;
  for (int32_t device = 0; device < 2; ++device) {
    DLTensor x = on_device(device, &shape);
    assert_int_equal(cuCtxSetCurrent(primary), 0);
    const pega_status status =
        pega_function_call(forget, ARGS(pega_value_tensor(&x)), NULL, &error);
    /* On the other device it is that device's context, made current for the call, that it took off. */
    assert_int_equal(status, PEGA_ERROR_CALLEE);
    assert_string_equal(error.kind, "ContextError");
    EXPECT_TEXT(pega_error_message(&error), CUDA_FIXTURE);
    assert_ptr_equal(current(), primary);
    pega_error_clear(&error);
  }
  pega_function_release(forget);
}

/* The library's own symbols tell that it uses CUDA: its signature file need not. */
static void test_context_is_put_back_unasked(void **state) {
  (void)state;
  static const char *const fields[] = {"", "\"uses_cuda\": false, "};
  for (size_t i = 0; i < sizeof fields / sizeof *fields; ++i) {
    pega_artifact_options options = PEGA_ARTIFACT_OPTIONS_INIT;
    options.path = CUDA_FIXTURE;
    options.signature_path = signature_path;
    FILE *file = fopen(signature_path, "w");
    assert_non_null(file);
    fprintf(file,
            "{\"schema_version\": 1, %s\"functions\": ["
            "{\"name\": \"forget\", \"symbol\": \"cuda_fixture_forget\", \"params\": [{\"name\": "
            "\"x\", \"c\": \"pointer\"}], \"returns\": {\"c\": \"i32\"}}, "
            "{\"name\": \"forget_text\", \"symbol\": \"cuda_fixture_forget\", \"params\": "
            "[{\"name\": \"x\", \"c\": \"cstring\"}], \"returns\": {\"c\": \"i32\"}}, "
            "{\"name\": \"where\", \"symbol\": \"cuda_fixture_where\", \"params\": [{\"name\": "
            "\"x\", \"c\": \"pointer\", \"type\": \"Tensor\", \"device\": \"cuda\"}, {\"name\": "
            "\"stream\", \"c\": \"stream\", \"value\": null}, {\"name\": \"out\", \"c\": "
            "\"pointer\"}], \"returns\": {\"c\": \"i32\"}}]}",
            fields[i]);
    fclose(file);
    pega_error error = PEGA_ERROR_INIT;
    pega_artifact *artifact = NULL;
    pega_function *forget, *forget_text, *where;
    EXPECT_OK(pega_artifact_open(&options, &artifact, &error), &error);
    EXPECT_OK(pega_artifact_get(artifact, "forget", &forget, &error), &error);
    EXPECT_OK(pega_artifact_get(artifact, "forget_text", &forget_text, &error), &error);
    EXPECT_OK(pega_artifact_get(artifact, "where", &where, &error), &error);
    pega_artifact_release(artifact);

    assert_int_equal(cuCtxSetCurrent(primary), 0);
    EXPECT_ERROR(pega_function_call(forget, ARGS(pega_value_pointer(memory)), NULL, &error), &error,
                 PEGA_ERROR_CALLEE, "forget", CUDA_FIXTURE);
    assert_string_equal(error.kind, "ContextError");
    assert_ptr_equal(current(), primary);
    pega_error_clear(&error);
    EXPECT_ERROR(pega_function_call(forget_text, ARGS(pega_value_string("x")), NULL, &error),
                 &error, PEGA_ERROR_CALLEE, "forget_text", CUDA_FIXTURE);
    assert_string_equal(error.kind, "ContextError");
    assert_ptr_equal(current(), primary);
    pega_error_clear(&error);

    int64_t shape = 16, got[3] = {-1, -1, -1};
    DLTensor x = on_device(1, &shape);
    pega_value result = pega_value_none();
    EXPECT_OK(pega_function_call(where, ARGS(pega_value_tensor(&x), pega_value_pointer(got)),
                                 &result, &error),
              &error);
    assert_int_equal(got[0], 1);
    assert_ptr_equal(current(), primary);
    pega_function_release(forget);
    pega_function_release(forget_text);
    pega_function_release(where);
  }
}

static void test_texts_of_the_driver(void **state) {
  (void)state;
  pega_function *fail_with = get("fail");
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_ERROR(pega_function_call(fail_with, ARGS(pega_value_int(1)), NULL, &error), &error,
               PEGA_ERROR_DRIVER, "fail", "returned 1 (CUDA_ERROR_INVALID_VALUE", CUDA_FIXTURE);
  assert_int_equal(error.code, 1);
  EXPECT_ERROR(pega_function_call(fail_with, ARGS(pega_value_int(2)), NULL, &error), &error,
               PEGA_ERROR_OUT_OF_MEMORY, "returned 2 (CUDA_ERROR_OUT_OF_MEMORY");
  EXPECT_ERROR(pega_function_call(fail_with, ARGS(pega_value_int(12345)), NULL, &error), &error,
               PEGA_ERROR_DRIVER, "returned 12345");
  pega_error_clear(&error);
  pega_function_release(fail_with);
}

static void test_driver_version(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_artifact *artifact = NULL;
  EXPECT_ERROR(open_fixture("99.1", &artifact, &error), &error, PEGA_ERROR_VERSION, CUDA_FIXTURE,
               "99.1", "13.0");
  assert_null(artifact);
  pega_error_clear(&error);
  EXPECT_OK(open_fixture("13.0", &artifact, &error), &error);
  pega_artifact_release(artifact);
}

/* ---- The handwritten kernels' own signature file ---- */

static uint16_t floats[4096] __attribute__((aligned(64)));

#define ON_GPU(dtype_, ...)                                        \
  pega_value_tensor(&(DLTensor){.data = floats,                    \
                                .device = {kDLCUDA, 0},            \
                                .dtype = dtype_,                   \
                                .ndim = COUNT(SHAPE(__VA_ARGS__)), \
                                .shape = SHAPE(__VA_ARGS__)})
#define BF16 DTYPE(kDLBfloat, 16, 1)
#define FP32 DTYPE(kDLFloat, 32, 1)

static pega_status decode(pega_function *function, int64_t width, int64_t value_heads,
                          pega_error *error) {
  const int64_t w = width, hv = value_heads;
  memset(floats, 0, sizeof floats);
  return pega_function_call(
      function,
      ARGS(ON_GPU(BF16, w), ON_GPU(BF16, hv), ON_GPU(BF16, hv), ON_GPU(BF16, hv), ON_GPU(FP32, hv),
           ON_GPU(FP32, hv, 128, 128), ON_GPU(BF16, hv, 128)),
      NULL, error);
}

static pega_status decode_batch(pega_function *function, int64_t width, int64_t value_heads,
                                pega_error *error) {
  const int64_t w = width, hv = value_heads;
  memset(floats, 0, sizeof floats);
  return pega_function_call(
      function,
      ARGS(ON_GPU(BF16, 3, w), ON_GPU(BF16, 3, hv), ON_GPU(BF16, 3, hv), ON_GPU(BF16, hv),
           ON_GPU(FP32, hv), ON_GPU(DTYPE(kDLUInt, 64, 1), 3), ON_GPU(BF16, 3, hv, 128)),
      NULL, error);
}

static void test_handwritten_heads(void **state) {
  (void)state;
  static const struct {
    int64_t width, value_heads;
    const char *expected, *got;
  } rows[] = {
      {8256, 32, "expected W % 128 == 0, got W = 8256", ""},
      {8191, 32, "expected W % 128 == 0, got W = 8191", ""},
      {33 * 128, 32, "expected (W / 128 - HV) % 2 == 0, got W = 4224, HV = 32", ""},
      {32 * 128, 32, "expected W / 128 > HV, got W = 4096, HV = 32", ""},
      {16 * 128, 32, "expected W / 128 > HV, got W = 2048, HV = 32", ""},
      {0, 32, "expected W / 128 > HV, got W = 0, HV = 32", ""},
      {(32 + 2 * 24) * 128, 32, "expected HV % ((W / 128 - HV) / 2) == 0", "W = 10240"},
  };
  static const struct {
    const char *name;
    pega_status (*call)(pega_function *, int64_t, int64_t, pega_error *);
  } forms[] = {{"pegainfer.handwritten.gated_delta_rule_decode", decode},
               {"pegainfer.handwritten.gated_delta_rule_decode_batch", decode_batch}};
  pega_error error = PEGA_ERROR_INIT;
  pega_artifact *artifact = NULL;
  pega_artifact_options options = PEGA_ARTIFACT_OPTIONS_INIT;
  options.path = HANDWRITTEN_FIXTURE;
  options.signature_path = HANDWRITTEN_SIGNATURES;
  EXPECT_OK(pega_artifact_open(&options, &artifact, &error), &error);
  for (int i = 0; i < COUNT(forms); ++i) {
    pega_function *function = NULL;
    EXPECT_OK(pega_artifact_get(artifact, forms[i].name, &function, &error), &error);
    EXPECT_OK(forms[i].call(function, 64 * 128, 32, &error), &error);
    assert_int_equal(floats[0], 16);
    assert_int_equal(floats[1], 32);
    EXPECT_OK(forms[i].call(function, 96 * 128, 32, &error), &error);
    assert_int_equal(floats[0], 32);
    for (int j = 0; j < COUNT(rows); ++j) {
      EXPECT_ERROR(forms[i].call(function, rows[j].width, rows[j].value_heads, &error), &error,
                   PEGA_ERROR_SHAPE, forms[i].name, rows[j].expected, rows[j].got);
      assert_int_equal(floats[1], 0); /* it was not called */
    }
    pega_function_release(function);
  }
  pega_error_clear(&error);
  pega_artifact_release(artifact);
}

static int begin(void **state) {
  (void)state;
  strcpy(signature_path, "/tmp/pega-c-library-XXXXXX");
  const int fd = mkstemp(signature_path);
  if (fd < 0 || close(fd) != 0) return -1;
  if (pega_fake_driver_configure("devices=2") != 0 || cuInit(0) != 0) return -1;
  return cuDevicePrimaryCtxRetain(&primary, 0);
}

static int end(void **state) {
  (void)state;
  return unlink(signature_path);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_where),
      cmocka_unit_test(test_context_is_put_back),
      cmocka_unit_test(test_context_is_put_back_unasked),
      cmocka_unit_test(test_texts_of_the_driver),
      cmocka_unit_test(test_driver_version),
      cmocka_unit_test(test_handwritten_heads),
  };
  return cmocka_run_group_tests_name("C library with CUDA", tests, begin, end);
}
