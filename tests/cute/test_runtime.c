/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pega::cute_runtime by itself: CUDA's runtime, the functions of an object and TVM FFI's are played here.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "pega/cute_module.h"

typedef void (*set_raised_from_parts)(const char *kind, const char **parts, int32_t num_parts);
void CuteDSLRT_TVMFFISetRaisedCudaError(set_raised_from_parts set_raised, int32_t code);
void CuteDSLRT_TVMFFISetRaisedCudaLaunchError(
    set_raised_from_parts set_raised, int32_t grid_x, int32_t grid_y, int32_t grid_z,
    int32_t block_x, int32_t block_y, int32_t block_z, int32_t block_threads,
    int64_t dynamic_shared, int32_t device, int32_t max_threads, int32_t max_block_x,
    int32_t max_block_y, int32_t max_block_z, int32_t max_grid_x, int32_t max_grid_y,
    int32_t max_grid_z, int32_t max_shared, int32_t max_shared_optin, const char *violation,
    const char *source_file, int32_t source_line, int32_t source_column, int32_t source_end_column);

/* ---- CUDA's runtime ---- */

const char *cudaGetErrorName(int code);
const char *cudaGetErrorString(int code);
int cudaGetDevice(int *device);

static const struct {
  int code;
  const char *name, *text;
} errors[] = {
    {1, "cudaErrorInvalidValue", "invalid argument"},
    {2, "cudaErrorMemoryAllocation", "out of memory"},
    {9, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {35, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {209, "cudaErrorNoKernelImageForDevice",
     "no kernel image is available for execution on the device"},
    {700, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
};
enum { NUM_ERRORS = sizeof errors / sizeof errors[0] };

static const char *no_text; /* what a code that is not in the list is called */
static _Thread_local int current_device;
static int device_error;

const char *cudaGetErrorName(int code) {
  for (size_t i = 0; i < NUM_ERRORS; ++i) {
    if (errors[i].code == code) return errors[i].name;
  }
  return no_text;
}

const char *cudaGetErrorString(int code) {
  for (size_t i = 0; i < NUM_ERRORS; ++i) {
    if (errors[i].code == code) return errors[i].text;
  }
  return no_text;
}

int cudaGetDevice(int *device) {
  *device = current_device;
  return device_error;
}

/* ---- TVM FFI ---- */

static char raised_kind[64];
static char raised[2048];
static int num_raised;

static void set_raised(const char *kind, const char **parts, int32_t num_parts) {
  ++num_raised;
  snprintf(raised_kind, sizeof raised_kind, "%s", kind);
  raised[0] = '\0';
  for (int32_t i = 0; i < num_parts; ++i) {
    assert_non_null(parts[i]);
    strncat(raised, parts[i], sizeof raised - strlen(raised) - 1);
  }
}

static void test_each_error_has_its_text(void **state) {
  (void)state;
  for (size_t i = 0; i < NUM_ERRORS; ++i) {
    char expected[256];
    snprintf(expected, sizeof expected, "CUDA Error Code: %d %s: %s", errors[i].code,
             errors[i].name, errors[i].text);
    num_raised = 0;
    CuteDSLRT_TVMFFISetRaisedCudaError(set_raised, errors[i].code);
    assert_int_equal(num_raised, 1);
    assert_string_equal(raised, expected);
    /* The kind that CuTe DSL's Python part knows, and the beginning that it parses. */
    assert_string_equal(raised_kind, "CUDADialectError");
  }
}

static void test_unknown_codes(void **state) {
  (void)state;
  no_text = NULL;
  CuteDSLRT_TVMFFISetRaisedCudaError(set_raised, 123456);
  assert_string_equal(raised, "CUDA Error Code: 123456 unknown error: no description");
  CuteDSLRT_TVMFFISetRaisedCudaError(set_raised, INT32_MIN);
  assert_string_equal(raised, "CUDA Error Code: -2147483648 unknown error: no description");
  no_text = "unrecognized error code";
  CuteDSLRT_TVMFFISetRaisedCudaError(set_raised, -1);
  assert_string_equal(raised,
                      "CUDA Error Code: -1 unrecognized error code: unrecognized error code");
}

static void test_nobody_to_tell(void **state) {
  (void)state;
  num_raised = 0;
  CuteDSLRT_TVMFFISetRaisedCudaError(NULL, 700);
  CuteDSLRT_TVMFFISetRaisedCudaLaunchError(NULL, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                           0, NULL, NULL, 0, 0, 0);
  assert_int_equal(num_raised, 0);
}

static void test_launch_error(void **state) {
  (void)state;
  CuteDSLRT_TVMFFISetRaisedCudaLaunchError(set_raised, 1, 2, 3, 4, 5, 6, 120, 1 << 20, 7, 1024, 11,
                                           12, 13, 21, 22, 23, 49152, 232448,
                                           "dynamic_smem_exceeds_limit", "kernel.py", 31, 32, 33);
  assert_string_equal(raised_kind, "CUDADialectError");
  assert_string_equal(
      raised,
      "CUDA Error Code: 1 kind=cuda_launch;api=cudaLaunchKernelExC;error_name=cudaErrorInvalidValue;"
      "error_string=invalid argument;grid=1,2,3;block=4,5,6;block_threads=120;"
      "dynamic_smem_bytes=1048576;stream=unknown;device=7;max_threads_per_block=1024;"
      "max_block_dim=11,12,13;max_grid_dim=21,22,23;max_shared_mem_per_block_bytes=49152;"
      "max_shared_mem_per_block_optin_bytes=232448;violation=dynamic_smem_exceeds_limit;"
      "source_file=kernel.py;source_line=31;source_col=32;source_end_col=33");
  /* The longest numbers fit. */
  const int32_t least = INT32_MIN;
  CuteDSLRT_TVMFFISetRaisedCudaLaunchError(
      set_raised, least, least, least, least, least, least, least, INT64_MIN, least, least, least,
      least, least, least, least, least, least, least, NULL, NULL, least, least, least);
  assert_non_null(strstr(raised,
                         "max_shared_mem_per_block_optin_bytes=-2147483648;violation=unknown;"
                         "source_file=;source_line=-2147483648;source_col=-2147483648;"
                         "source_end_col=-2147483648"));
}

/* ---- an object of the plain C export ---- */

static int num_init, num_load[80], init_error, load_error;
static char the_library;

void _mlir_object_cuda_init(void **args);
void _mlir_object_cuda_load_to_device(void **args);

void _mlir_object_cuda_init(void **args) {
  void **place = *(void ***)args[0];
  ++num_init;
  usleep(2000);
  *place = &the_library; /* also where it fails, as a caller must not rely on the opposite */
  *(int *)args[1] = init_error;
}

void _mlir_object_cuda_load_to_device(void **args) {
  void **place = *(void ***)args[0];
  assert_ptr_equal(*place, &the_library);
  int32_t device = *(int32_t *)args[1];
  ++num_load[device];
  usleep(2000);
  *(int *)args[2] = load_error;
}

PEGA_CUTE_LIBRARY(object)

static int forget(void **state) {
  (void)state;
  object_library.library = NULL;
  object_library.devices = 0;
  num_init = init_error = load_error = device_error = 0;
  memset(num_load, 0, sizeof num_load);
  current_device = 0;
  return 0;
}

static void test_loaded_once_a_device(void **state) {
  (void)state;
  for (int round = 0; round < 3; ++round) {
    for (current_device = 0; current_device < 64; current_device += 21) {
      assert_int_equal(pega_cute_prepare(&object_library), 0);
      assert_int_equal(num_load[current_device], 1);
    }
  }
  assert_int_equal(num_init, 1);
  /* No bit tells of these: nothing is loaded again and again. */
  static const int others[] = {64, 70, 127, -1, INT32_MAX, INT32_MIN};
  for (size_t i = 0; i < sizeof others / sizeof others[0]; ++i) {
    current_device = others[i];
    assert_int_equal(pega_cute_prepare(&object_library), 101);
  }
  assert_int_equal(num_load[64] + num_load[70], 0);
  assert_int_equal(num_init, 1);
  current_device = 63;
  assert_int_equal(pega_cute_prepare(&object_library), 0);
  assert_int_equal(num_load[63], 1);
  assert_int_equal(num_init, 1);
}

static void test_errors_are_returned_and_not_kept(void **state) {
  (void)state;
  device_error = 100;
  assert_int_equal(pega_cute_prepare(&object_library), 100);
  assert_int_equal(num_init, 0);
  device_error = 0;
  init_error = 35;
  assert_int_equal(pega_cute_prepare(&object_library), 35);
  assert_int_equal(num_load[0], 0);
  init_error = 0;
  load_error = 209;
  assert_int_equal(pega_cute_prepare(&object_library), 209);
  load_error = 0;
  assert_int_equal(pega_cute_prepare(&object_library), 0);
  assert_int_equal(num_init, 2);
  assert_int_equal(num_load[0], 2);
}

static void *prepare(void *device) {
  current_device = (int)(intptr_t)device;
  return (void *)(intptr_t)pega_cute_prepare(&object_library);
}

static void test_threads(void **state) {
  (void)state;
  enum { NUM_THREADS = 16, NUM_DEVICES = 2 };
  pthread_t threads[NUM_THREADS];
  for (intptr_t i = 0; i < NUM_THREADS; ++i) {
    assert_int_equal(pthread_create(&threads[i], NULL, prepare, (void *)(i % NUM_DEVICES)), 0);
  }
  for (int i = 0; i < NUM_THREADS; ++i) {
    void *result = &result;
    assert_int_equal(pthread_join(threads[i], &result), 0);
    assert_null(result);
  }
  assert_int_equal(num_init, 1);
  assert_int_equal(num_load[0], 1);
  assert_int_equal(num_load[1], 1);
}

static void test_results(void **state) {
  (void)state;
  static const int same[] = {0, 1, 2, 3, 4, 34, 100, 101, 200, 209, 400, 700, 719, 999};
  for (size_t i = 0; i < sizeof same / sizeof same[0]; ++i) {
    assert_int_equal(pega_cute_result(same[i]), same[i]);
  }
  assert_int_equal(pega_cute_result(9), 1);
  assert_int_equal(pega_cute_result(35), 803);
  assert_int_equal(pega_cute_result(98), 209);
  assert_int_equal(pega_cute_result(52), 999);
  assert_int_equal(pega_cute_result(-5), 999);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_each_error_has_its_text),
      cmocka_unit_test(test_unknown_codes),
      cmocka_unit_test(test_nobody_to_tell),
      cmocka_unit_test(test_launch_error),
      cmocka_unit_test_setup(test_loaded_once_a_device, forget),
      cmocka_unit_test_setup(test_errors_are_returned_and_not_kept, forget),
      cmocka_unit_test_setup(test_threads, forget),
      cmocka_unit_test(test_results),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
