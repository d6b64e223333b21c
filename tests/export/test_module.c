/* SPDX-License-Identifier: Apache-2.0 */
/* An exported module from C: opened by the bridge, beside libpega and another module, on the fake driver. */
#include <dlfcn.h>
#include <pega/artifact.h>
#include <pega/tvm_ffi.h>
#include <pthread.h>
#include <stdlib.h>
#include <tvm/ffi/c_api.h>

#include "../core/allocations.h"
#include "../cuda/machine.h"
#include "kernels.h"

static pega_tvm_ffi *runtime;
static pega_tvm_ffi_module *module;

static pega_tvm_ffi_module *open_module(const char *path) {
  pega_error error = PEGA_ERROR_INIT;
  pega_tvm_ffi_module *opened = NULL;
  EXPECT_OK(pega_tvm_ffi_module_open(runtime, path, &opened, &error), &error);
  return opened;
}

static pega_function *get_from(pega_tvm_ffi_module *from, const char *name) {
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function = NULL;
  EXPECT_OK(pega_tvm_ffi_module_get(from, name, &function, &error), &error);
  return function;
}

static int open_all(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  machine_start("devices=2");
  EXPECT_OK(pega_tvm_ffi_open(NULL, &runtime, &error), &error);
  module = open_module(PEGA_TEST_MODULE);
  return 0;
}

static pega_value at(uint64_t address) { return pega_value_pointer((void *)(uintptr_t)address); }

static void expect_bytes(const pega_fake_driver_launch *launch, uint32_t index,
                         const void *expected, uint32_t size) {
  assert_true(index < launch->num_params);
  assert_int_equal(launch->params[index].size, size);
  assert_memory_equal(launch->params[index].bytes, expected, size);
}

/* The error of a module's function is its own text, under the kind that its language knows. */
static void expect_refused(pega_function *function, const pega_value *args, int32_t num_args,
                           const char *kind, const char *text) {
  pega_error error = PEGA_ERROR_INIT;
  const uint64_t before = pega_fake_driver_num_launches();
  assert_int_equal(pega_function_call(function, args, num_args, NULL, &error), PEGA_ERROR_CALLEE);
  assert_string_equal(pega_error_kind(&error), kind);
  if (strstr(pega_error_message(&error), text) == NULL) {
    print_error("expected \"%s\" in: %s\n", text, pega_error_message(&error));
    fail();
  }
  assert_int_equal(pega_fake_driver_num_launches(), before);
  pega_error_clear(&error);
}

/* ---- what a kernel gets ---- */

static void test_pointers(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_function *scale = get_from(module, KERNELS_SCALE);
  const uint64_t x = machine_alloc(0, 4096);
  const uint64_t y = machine_alloc(0, 4096);
  CUstream stream = machine_stream(0, 0);
  EXPECT_OK(pega_function_call(scale,
                               ARGS(at(x), at(y), pega_value_int(64), pega_value_float(0.5),
                                    pega_value_pointer(stream)),
                               NULL, &error),
            &error);
  pega_fake_driver_launch got = machine_last_launch();
  const int32_t n = 64;
  const float by = 0.5f;
  assert_string_equal(got.name, "scale");
  assert_ptr_equal(got.stream, stream);
  assert_int_equal(got.num_params, 4);
  expect_bytes(&got, 0, &x, 8);
  expect_bytes(&got, 1, &y, 8);
  expect_bytes(&got, 2, &n, 4);
  expect_bytes(&got, 3, &by, 4);
  /* The other variant; its stream left out, then None: the environment's of the device. */
  EXPECT_OK(pega_stream_set(CUDA(0), stream, NULL, &error), &error);
  EXPECT_OK(pega_function_call(scale, ARGS(at(x), at(y), pega_value_int(1000), pega_value_int(2)),
                               NULL, &error),
            &error);
  got = machine_last_launch();
  assert_string_equal(got.name, "scale_large");
  assert_int_equal(got.grid[0], 8);
  assert_int_equal(got.block[0], 128);
  assert_ptr_equal(got.stream, stream);
  EXPECT_OK(pega_stream_set(CUDA(0), NULL, NULL, &error), &error);
  EXPECT_OK(
      pega_function_call(
          scale, ARGS(at(x), at(y), pega_value_int(1), pega_value_float(2), pega_value_none()),
          NULL, &error),
      &error);
  got = machine_last_launch();
  assert_ptr_equal(got.stream, NULL);
  machine_destroy_stream(0, stream);
  machine_free(0, x);
  machine_free(0, y);
  pega_function_release(scale);
}

static DLTensor tensor_at(uint64_t memory, int device, int64_t rows, int64_t *shape) {
  shape[0] = rows;
  shape[1] = 4;
  return (DLTensor){
      (void *)(uintptr_t)memory, CUDA(device), 2, DTYPE(kDLFloat, 32, 1), shape, NULL, 0};
}

static void test_tensors_on_their_device(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_function *scale = get_from(module, KERNELS_SCALE);
  pega_function *add = get_from(module, KERNELS_ADD);
  const uint64_t memory = machine_alloc(1, 4096);
  CUstream stream = machine_stream(1, 0);
  int64_t shapes[3][2];
  DLTensor a = tensor_at(memory, 1, 5, shapes[0]);
  DLTensor b = tensor_at(memory + 256, 1, 5, shapes[1]);
  DLTensor sum = tensor_at(memory + 512, 1, 5, shapes[2]);
  const pega_value args[] = {pega_value_tensor(&a), pega_value_tensor(&b), pega_value_tensor(&sum)};
  EXPECT_OK(pega_stream_set(CUDA(1), stream, NULL, &error), &error);
  EXPECT_OK(pega_function_call(add, args, 3, NULL, &error), &error);
  pega_fake_driver_launch got = machine_last_launch();
  const uint64_t null = 0, second = memory + 256;
  const int64_t rows = 5;
  assert_string_equal(got.name, "add");
  assert_int_equal(got.device, 1);
  assert_ptr_equal(got.stream, stream);
  assert_int_equal(got.grid[0], 5);
  expect_bytes(&got, 0, &memory, 8);
  expect_bytes(&got, 1, &second, 8);
  expect_bytes(&got, 3, &null, 8);
  expect_bytes(&got, 4, &rows, 8);
  /* Tensors in the place of pointers: their addresses, and their device with its stream. */
  EXPECT_OK(
      pega_function_call(scale, ARGS(args[0], args[1], pega_value_int(20), pega_value_float(1)),
                         NULL, &error),
      &error);
  got = machine_last_launch();
  assert_string_equal(got.name, "scale");
  assert_int_equal(got.device, 1);
  assert_ptr_equal(got.stream, stream);
  expect_bytes(&got, 0, &memory, 8);
  expect_bytes(&got, 1, &second, 8);
  EXPECT_OK(pega_stream_set(CUDA(1), NULL, NULL, &error), &error);
  machine_destroy_stream(1, stream);
  machine_free(1, memory);
  pega_function_release(scale);
  pega_function_release(add);
}

static void test_scratch_and_map(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_function *scratch = get_from(module, KERNELS_SCRATCH);
  pega_function *map = get_from(module, KERNELS_MAP);
  const uint64_t memory = machine_alloc(0, 4096);
  int64_t shape[2];
  DLTensor x = tensor_at(memory, 0, 16, shape);
  EXPECT_OK(
      pega_function_call(scratch, ARGS(pega_value_tensor(&x), pega_value_int(3)), NULL, &error),
      &error);
  pega_fake_driver_launch got = machine_last_launch();
  uint64_t address;
  assert_string_equal(got.name, "scratch");
  memcpy(&address, got.params[2].bytes, sizeof address);
  assert_int_not_equal(address, 0);
  assert_int_equal(address % 128, 0);
  EXPECT_OK(pega_function_call(map, ARGS(pega_value_tensor(&x)), NULL, &error), &error);
  got = machine_last_launch();
  pega_fake_driver_tensor_map made;
  assert_int_equal(pega_fake_driver_tensor_map_decode(got.params[0].bytes, &made), 0);
  assert_int_equal(made.global_address, memory);
  assert_int_equal(made.global_dim[1], 16);
  machine_free(0, memory);
  pega_function_release(scratch);
  pega_function_release(map);
}

/* ---- what is refused ---- */

static void test_refused(void **state) {
  (void)state;
  pega_function *scale = get_from(module, KERNELS_SCALE);
  pega_function *add = get_from(module, KERNELS_ADD);
  const uint64_t memory = machine_alloc(0, 4096);
  int64_t shapes[4][2];
  DLTensor a = tensor_at(memory, 0, 5, shapes[0]);
  DLTensor b = tensor_at(memory, 0, 6, shapes[1]);
  DLTensor other = tensor_at(memory, 1, 5, shapes[2]);
  DLTensor host = tensor_at(memory, 0, 5, shapes[3]);
  int64_t strides[2] = {8, 1};
  DLTensor strided = a;
  strided.strides = strides;
  host.device = DEVICE(kDLCPU, 0);
  const pega_value t = pega_value_tensor(&a), one = pega_value_int(1), f = pega_value_float(1);
  expect_refused(scale, ARGS(t), "TypeError",
                 "t.scale: expected 4 to 5 arguments, got 1; call it as");
  expect_refused(scale, ARGS(t, t, pega_value_int(-1), f), "ValueError",
                 "t.scale: argument 2 'n': expected a value from 0 to 1000000, got int -1");
  expect_refused(scale, ARGS(t, t, f, f), "TypeError", "argument 2 'n': expected int, got float 1");
  expect_refused(scale, ARGS(t, t, one, pega_value_string("0.5")), "TypeError",
                 "argument 3 'by': expected float, got string \"0.5\"");
  expect_refused(scale, ARGS(at(memory + 4), t, one, f), "ValueError",
                 "argument 0 'x_ptr': expected an address aligned to 16 bytes");
  expect_refused(scale, ARGS(pega_value_tensor(&strided), t, one, f), "ValueError",
                 "argument 0 'x_ptr': expected a pointer or a contiguous tensor");
  expect_refused(scale, ARGS(t, pega_value_tensor(&host), one, f), "ValueError",
                 "argument 1 'y_ptr': expected memory of a cuda device, got a tensor on cpu:0");
  expect_refused(scale, ARGS(t, pega_value_tensor(&other), one, f), "ValueError",
                 "argument 1 'y_ptr': expected device cuda:0 as in argument 0 'x_ptr', got cuda:1");
  expect_refused(scale, ARGS(t, pega_value_function(pega_function_retain(add)), one, f),
                 "TypeError", "argument 1 'y_ptr': expected a pointer (or int >= 0), got object");
  pega_function_release(add);
  /* What the pack says of the memory behind a pointer. */
  expect_refused(
      scale, ARGS(t, t, pega_value_int(21), f), "ValueError",
      "argument 1 'y_ptr': expected a tensor of float32 [n], which is 21 elements, got 20");
  DLTensor half = a;
  half.dtype = DTYPE(kDLFloat, 16, 1);
  expect_refused(scale, ARGS(t, pega_value_tensor(&half), one, f), "TypeError",
                 "argument 1 'y_ptr': expected a tensor of float32 [n], got dtype float16");
  expect_refused(add, ARGS(t, pega_value_tensor(&b), t), "ValueError",
                 "t.add: argument 1 'b': expected shape (T, 4), got (6, 4)");
  expect_refused(
      add, ARGS(pega_value_tensor(&host), pega_value_tensor(&host), pega_value_tensor(&host)),
      "ValueError", "t.add: argument 0 'a': expected a tensor on a cuda device, got cpu:0");
  expect_refused(add, ARGS(t, pega_value_none(), t), "TypeError",
                 "argument 1 'b': expected Tensor, got None");
  machine_free(0, memory);
  pega_function_release(scale);
  pega_function_release(add);
}

/* A call of what is loaded takes no lock and allocates nothing. */
static void test_path_of_a_call(void **state) {
  (void)state;
  if (!allocations_are_counted()) skip();
  pega_error error = PEGA_ERROR_INIT;
  int (*add)(void *, const TVMFFIAny *, int32_t, TVMFFIAny *);
  void *library = dlopen(PEGA_TEST_MODULE, RTLD_NOW | RTLD_LOCAL);
  assert_non_null(library);
  *(void **)(void *)&add = dlsym(library, "__tvm_ffi_t.add");
  const uint64_t memory = machine_alloc(0, 4096);
  int64_t shape[2];
  DLTensor tensor = tensor_at(memory, 0, 5, shape);
  TVMFFIAny args[3];
  TVMFFIAny result;
  memset(args, 0, sizeof args);
  for (int i = 0; i < COUNT(args); ++i) {
    args[i].type_index = kTVMFFIDLTensorPtr;
    args[i].v_ptr = &tensor;
  }
  EXPECT_OK(pega_stream_set(CUDA(0), NULL, NULL, &error), &error);
  assert_int_equal(add(NULL, args, 3, &result), 0);
  /* With the context current, as pushing it is the driver's to pay for. */
  CUcontext context = NULL;
  assert_int_equal(cu.cuDevicePrimaryCtxRetain(&context, 0), 0);
  assert_int_equal(cu.cuCtxPushCurrent_v2(context), 0);
  pega_fake_driver_set_quiet(true);
  assert_int_equal(add(NULL, args, 3, &result), 0);
  allocations_begin(0);
  for (int i = 0; i < 100; ++i) assert_int_equal(add(NULL, args, 3, &result), 0);
  const allocations counted = allocations_end();
  pega_fake_driver_set_quiet(false);
  assert_int_equal(result.type_index, kTVMFFINone);
  assert_int_equal(counted.made, 0);
  assert_int_equal(counted.locks, 0);
  assert_int_equal(cu.cuCtxPopCurrent_v2(&context), 0);
  assert_int_equal(cu.cuDevicePrimaryCtxRelease_v2(0), 0);
  machine_free(0, memory);
}

/* ---- several at once ---- */

static void test_beside_others(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  bytes file = kernels_make();
  pega_pack *pack = pack_open(&file, 0);
  bytes_free(&file);
  pega_function *own;
  EXPECT_OK(pega_pack_get(pack, KERNELS_SCALE, &own, &error), &error);
  pega_tvm_ffi_module *second = open_module(PEGA_TEST_SECOND);
  pega_function *theirs = get_from(second, "other_t_scale");
  pega_function *first = get_from(module, KERNELS_SCALE);
  const uint64_t memory = machine_alloc(0, 4096);
  const uint64_t before = pega_fake_driver_num_launches();
  pega_function *const all[] = {own, theirs, first};
  for (int i = 0; i < COUNT(all); ++i) {
    EXPECT_OK(pega_function_call(all[i],
                                 ARGS(at(memory), at(memory), pega_value_int(i),
                                      pega_value_float(1), pega_value_pointer(NULL)),
                                 NULL, &error),
              &error);
    const pega_fake_driver_launch got = machine_last_launch();
    const int32_t n = i;
    expect_bytes(&got, 2, &n, 4);
  }
  assert_int_equal(pega_fake_driver_num_launches(), before + 3);
  /* The second was exported with one function alone. */
  pega_value names = pega_value_none();
  EXPECT_OK(pega_tvm_ffi_module_list(second, &names, &error), &error);
  assert_int_equal(pega_value_size(&names), 2);
  pega_value_release(&names);
  /* Its names have no slash that a file could not have, but for what they are. */
  pega_function *odd = get_from(module, KERNELS_ODD);
  EXPECT_OK(pega_function_call(odd, ARGS(pega_value_int(7)), NULL, &error), &error);
  assert_string_equal(machine_last_launch().name, "odd");
  machine_free(0, memory);
  pega_function_release(odd);
  pega_function_release(own);
  pega_function_release(theirs);
  pega_function_release(first);
  pega_tvm_ffi_module_close(second);
  pega_pack_release(pack);
}

/* The opener takes the module as it takes the pack that it was made of: the same names, the same launch. */
static void test_through_the_opener(void **state) {
  (void)state;
  static const char *const paths[] = {PEGA_TEST_PACK, PEGA_TEST_MODULE};
  static const char *const formats[] = {"pack", "TVM FFI module"};
  pega_error error = PEGA_ERROR_INIT;
  const uint64_t memory = machine_alloc(0, 4096);
  pega_value names[2] = {pega_value_none(), pega_value_none()};
  for (int i = 0; i < COUNT(paths); ++i) {
    pega_artifact_options options = PEGA_ARTIFACT_OPTIONS_INIT;
    options.path = paths[i];
    pega_artifact *artifact = NULL;
    pega_function *scale = NULL;
    EXPECT_OK(pega_artifact_open(&options, &artifact, &error), &error);
    assert_string_equal(pega_artifact_format(artifact), formats[i]);
    EXPECT_OK(pega_artifact_list(artifact, &names[i], &error), &error);
    EXPECT_OK(pega_artifact_get(artifact, KERNELS_SCALE, &scale, &error), &error);
    EXPECT_OK(pega_function_call(scale,
                                 ARGS(at(memory), at(memory), pega_value_int(300),
                                      pega_value_float(2), pega_value_pointer(NULL)),
                                 NULL, &error),
              &error);
    const pega_fake_driver_launch got = machine_last_launch();
    const int32_t n = 300;
    assert_string_equal(got.name, "scale_large");
    assert_int_equal(got.grid[0], 3);
    expect_bytes(&got, 0, &memory, 8);
    expect_bytes(&got, 2, &n, 4);
    pega_function_release(scale);
    pega_artifact_release(artifact);
  }
  assert_int_equal(pega_value_size(&names[0]), 5);
  assert_int_equal(pega_value_size(&names[1]), 5);
  for (int i = 0; i < 5; ++i) {
    assert_string_equal(pega_value_as_string(pega_array_get(&names[0], i), NULL),
                        pega_value_as_string(pega_array_get(&names[1], i), NULL));
  }
  pega_value_release(&names[0]);
  pega_value_release(&names[1]);
  machine_free(0, memory);
}

enum { kThreads = 8 };
static pthread_barrier_t barrier;
static pega_tvm_ffi_module *fresh;
static uint64_t shared_memory;

static void *first_use(void *unused) {
  (void)unused;
  pega_error error = PEGA_ERROR_INIT;
  pega_function *scale = NULL;
  if (pega_tvm_ffi_module_get(fresh, KERNELS_SCALE, &scale, &error) != PEGA_OK) return (void *)1;
  pthread_barrier_wait(&barrier);
  uintptr_t failed = 0;
  for (int i = 0; i < 100; ++i) {
    const pega_value args[] = {at(shared_memory), at(shared_memory), pega_value_int(i),
                               pega_value_float(1)};
    failed += pega_function_call(scale, args, 4, NULL, &error) != PEGA_OK;
  }
  pega_function_release(scale);
  pega_error_clear(&error);
  return (void *)failed;  // NOLINT(performance-no-int-to-ptr)
}

static void test_first_use_of_many_threads(void **state) {
  (void)state;
  fresh = open_module(PEGA_TEST_THIRD);
  shared_memory = machine_alloc(0, 4096);
  pega_fake_driver_clear_records();
  pthread_t threads[kThreads];
  assert_int_equal(pthread_barrier_init(&barrier, NULL, kThreads), 0);
  for (int i = 0; i < kThreads; ++i) {
    assert_int_equal(pthread_create(&threads[i], NULL, first_use, NULL), 0);
  }
  for (int i = 0; i < kThreads; ++i) {
    void *failed = NULL;
    assert_int_equal(pthread_join(threads[i], &failed), 0);
    assert_null(failed);
  }
  (void)pthread_barrier_destroy(&barrier);
  /* 100 calls each, the first of which has an n of 0 and still a grid of 1. */
  assert_int_equal(pega_fake_driver_num_launches(), kThreads * 100);
  assert_int_equal(pega_fake_driver_count("cuModuleLoadData"),
                   2); /* a blob each for two variants */
  machine_free(0, shared_memory);
  pega_tvm_ffi_module_close(fresh);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_pointers),        cmocka_unit_test(test_tensors_on_their_device),
      cmocka_unit_test(test_scratch_and_map), cmocka_unit_test(test_refused),
      cmocka_unit_test(test_path_of_a_call),  cmocka_unit_test(test_through_the_opener),
      cmocka_unit_test(test_beside_others),   cmocka_unit_test(test_first_use_of_many_threads),
  };
  return cmocka_run_group_tests(tests, open_all, NULL);
}
