/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The launch convention on a GPU: every golden case of the test kernels' pack, and what no golden case
 * can say: whose memory scratch is, grids with nothing in them, grids and numbers that do not fit.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

static pega_pack *pack;
static pega_pack *solve_pack;

static pega_function *get(const char *name) {
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function = NULL;
  EXPECT_OK(pega_pack_get(pack, name, &function, &error), &error);
  return function;
}

/* ---- golden cases ---- */

static void count_result(void *user, const pega_pack_test_result *result) {
  int *counts = user;
  ++counts[result->mismatches != 0];
  if (result->mismatches == 0) return;
  print_error("%s '%s' %s: %lld of %lld elements differ, by up to %g (tolerance %g)\n",
              result->function, result->golden, result->argument, (long long)result->mismatches,
              (long long)result->elements, result->max_error, result->tolerance);
}

static void run_golden_cases(pega_pack *of, int least) {
  pega_error error = PEGA_ERROR_INIT;
  int counts[2] = {0, 0};
  pega_status status = pega_pack_test(of, CUDA0, count_result, counts, &error);
  printf("golden cases of %s: %d outputs agree, %d differ\n", pega_pack_name(of), counts[0],
         counts[1]);
  EXPECT_OK(status, &error);
  assert_int_equal(counts[1], 0);
  assert_true(counts[0] >= least);
}

static void test_golden_cases(void **state) {
  (void)state;
  if (fixture_rehearsal("golden cases")) skip();
  run_golden_cases(pack, 50);
}

static void test_golden_cases_of_solve(void **state) {
  (void)state;
  if (fixture_rehearsal("golden cases of the solve")) skip();
  run_golden_cases(solve_pack, 1);
}

static void test_verify(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_OK(pega_pack_verify(pack, &error), &error);
  EXPECT_OK(pega_pack_verify(solve_pack, &error), &error);
}

/* ---- scratch ---- */

enum { ROWS = 140, COLUMNS = 92, TILES = 5 * 3, SCRATCH = 256 };

typedef struct scratch_log {
  atomic_int allocated;
  atomic_int released;
  size_t size;
  size_t alignment;
  void *memory;
  void *stream;
  bool matched; /* what was released is what was allocated, on the same stream */
} scratch_log;

static pega_status log_allocate(void *self, DLDevice device, size_t size, size_t alignment,
                                void *stream, void **out, pega_error *error) {
  scratch_log *log = self;
  (void)device;
  CUdeviceptr memory;
  if (gpu.alloc_async(&memory, size, (CUstream)stream) != 0) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no scratch");
  }
  *out = (void *)(uintptr_t)memory;
  log->memory = *out;
  log->stream = stream;
  log->size = size;
  log->alignment = alignment;
  ++log->allocated;
  return PEGA_OK;
}

static void log_release(void *self, DLDevice device, void *memory, void *stream) {
  scratch_log *log = self;
  (void)device;
  log->matched = memory == log->memory && stream == log->stream;
  if (gpu.release_async((CUdeviceptr)(uintptr_t)memory, (CUstream)stream) == 0) ++log->released;
}

static pega_status refuse_allocate(void *self, DLDevice device, size_t size, size_t alignment,
                                   void *stream, void **out, pega_error *error) {
  (void)self, (void)device, (void)size, (void)alignment, (void)stream, (void)out;
  return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "the engine's pool is empty");
}

static pega_status call_scratch(pega_function *function, CUdeviceptr x, CUdeviceptr y,
                                CUstream stream, pega_error *error) {
  return pega_function_call(
      function,
      ARGS(pega_value_pointer((void *)(uintptr_t)x), pega_value_pointer((void *)(uintptr_t)y),
           pega_value_int(ROWS), pega_value_int(COLUMNS), pega_value_int(5),
           pega_value_pointer(stream)),
      NULL, error);
}

static void expect_sum(CUdeviceptr y) {
  static float got[ROWS * COLUMNS];
  GPU_OK(gpu.copy_out(got, y, sizeof got));
  if (gpu.fake) return;
  for (int i = 0; i < ROWS * COLUMNS; ++i) assert_true(got[i] == (float)(i % 1000) + 5);
}

/* Bytes that the default pool has given out; 0 where the driver does not tell. */
static uint64_t pool_used(void) {
  CUmemoryPool pool;
  uint64_t used = 0;
  if (gpu.default_pool == NULL || gpu.pool_get == NULL) return 0;
  GPU_OK(gpu.default_pool(&pool, 0));
  GPU_OK(gpu.pool_get(pool, GPU_MEMPOOL_USED_CURRENT, &used));
  return used;
}

static void test_scratch(void **state) {
  (void)state;
  static float in[ROWS * COLUMNS];
  for (int i = 0; i < ROWS * COLUMNS; ++i) in[i] = (float)(i % 1000);
  pega_error error = PEGA_ERROR_INIT;
  CUdeviceptr x;
  CUdeviceptr y;
  CUstream stream;
  GPU_OK(gpu.stream_create(&stream, GPU_STREAM_NON_BLOCKING));
  GPU_OK(gpu.alloc(&x, sizeof in));
  GPU_OK(gpu.alloc(&y, sizeof in));
  GPU_OK(gpu.copy_in(x, in, sizeof in));
  pega_function *function = get("abi.global_scratch");
  EXPECT_OK(pega_function_prepare(function, CUDA0, &error), &error);

  /* The library's own way: nothing is left in the pool. */
  if (gpu.default_pool == NULL) fixture_rehearsal("that scratch goes back to the pool");
  const uint64_t used = pool_used();
  for (int i = 0; i < 200; ++i) {
    GPU_OK(gpu.set_bytes_async(y, 0xff, sizeof in, stream));
    EXPECT_OK(call_scratch(function, x, y, stream, &error), &error);
  }
  GPU_OK(gpu.stream_synchronize(stream));
  expect_sum(y);
  assert_int_equal(pool_used(), used);

  /* The engine's allocator. */
  scratch_log log;
  memset(&log, 0, sizeof log);
  const pega_cuda_allocator allocator = {.struct_size = sizeof allocator,
                                         .allocate = log_allocate,
                                         .release = log_release,
                                         .self = &log};
  EXPECT_OK(pega_cuda_set_allocator(&allocator, &error), &error);
  for (int i = 1; i <= 3; ++i) {
    GPU_OK(gpu.set_bytes_async(y, 0xff, sizeof in, stream));
    log.matched = false;
    EXPECT_OK(call_scratch(function, x, y, stream, &error), &error);
    assert_int_equal(log.allocated, i);
    assert_int_equal(log.released, i);
    assert_true(log.matched);
    assert_ptr_equal(log.stream, stream);
    assert_true(log.size >= (size_t)TILES * SCRATCH);
    assert_true(log.alignment >= 128);
  }
  GPU_OK(gpu.stream_synchronize(stream));
  expect_sum(y);
  assert_int_equal(pool_used(), used);

  /* One that refuses: nothing is launched, its word comes through. */
  const pega_cuda_allocator refusing = {.struct_size = sizeof refusing,
                                        .allocate = refuse_allocate,
                                        .release = log_release,
                                        .self = &log};
  EXPECT_OK(pega_cuda_set_allocator(&refusing, &error), &error);
  EXPECT_ERROR(call_scratch(function, x, y, stream, &error), &error, PEGA_ERROR_OUT_OF_MEMORY,
               "the engine's pool is empty");
  assert_int_equal(log.released, 3);
  EXPECT_OK(pega_cuda_set_allocator(NULL, &error), &error);
  pega_function_release(function);
  pega_error_clear(&error);
  GPU_OK(gpu.stream_destroy(stream));
  GPU_OK(gpu.release(x));
  GPU_OK(gpu.release(y));
}

/* ---- grids ---- */

static pega_status call_grid(CUdeviceptr ids, int64_t nx, int64_t ny, int64_t nz,
                             pega_error *error) {
  pega_function *function = get("abi.grid");
  pega_status status =
      pega_function_call(function,
                         ARGS(pega_value_pointer((void *)(uintptr_t)ids), pega_value_int(nx),
                              pega_value_int(ny), pega_value_int(nz), pega_value_pointer(NULL)),
                         NULL, error);
  pega_function_release(function);
  return status;
}

static void test_grids(void **state) {
  (void)state;
  static const int64_t empty[][3] = {{0, 5, 7}, {5, 0, 7}, {5, 7, 0}, {0, 0, 0}};
  pega_error error = PEGA_ERROR_INIT;
  CUdeviceptr ids;
  unsigned char bytes[4096];
  GPU_OK(gpu.alloc(&ids, sizeof bytes));
  GPU_OK(gpu.set_bytes(ids, 0xab, sizeof bytes));
  for (int i = 0; i < COUNT(empty); ++i) {
    EXPECT_OK(call_grid(ids, empty[i][0], empty[i][1], empty[i][2], &error), &error);
  }
  EXPECT_ERROR(call_grid(ids, 1, 65536, 1, &error), &error, PEGA_ERROR_RANGE, "abi.grid",
               "nothing was launched", "grid y = ny = 65536", "0 to 65535");
  EXPECT_ERROR(call_grid(ids, 1, 1, 65536, &error), &error, PEGA_ERROR_RANGE, "grid z");
  GPU_OK(gpu.synchronize());
  GPU_OK(gpu.copy_out(bytes, ids, sizeof bytes));
  for (size_t i = 0; i < sizeof bytes; ++i) assert_int_equal(bytes[i], 0xab);

  /* The control: the same call with a grid of one writes. */
  EXPECT_OK(call_grid(ids, 1, 1, 1, &error), &error);
  GPU_OK(gpu.synchronize());
  GPU_OK(gpu.copy_out(bytes, ids, sizeof bytes));
  if (!gpu.fake) assert_int_equal(bytes[0], 0);
  GPU_OK(gpu.release(ids));
  pega_error_clear(&error);
}

/* ---- numbers that do not fit ---- */

/* Sets one scalar of abi.scalars, by its place, and expects the call to be refused or not. */
static void call_scalars(CUdeviceptr out, const char *name, pega_value value, bool refused,
                         const char *text) {
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function = get("abi.scalars");
  const pega_signature *signature = pega_function_signature(function);
  pega_value args[64];
  bool found = false;
  assert_true(signature->num_params <= COUNT(args));
  for (int32_t i = 0; i < signature->num_params; ++i) {
    const pega_param *param = &signature->params[i];
    if (strcmp(param->name, name) == 0) {
      args[i] = value;
      found = true;
    } else if (param->type == PEGA_TYPE_POINTER) {
      args[i] = pega_value_pointer((void *)(uintptr_t)(out + (CUdeviceptr)i * 16));
    } else if (param->type == PEGA_TYPE_BOOL) {
      args[i] = pega_value_bool(true);
    } else if (param->type == PEGA_TYPE_STREAM) {
      args[i] = pega_value_pointer(NULL);
    } else {
      args[i] = pega_value_int(1);
    }
  }
  assert_true(found);
  if (refused) {
    EXPECT_ERROR(pega_function_call(function, args, signature->num_params, NULL, &error), &error,
                 PEGA_ERROR_RANGE, "abi.scalars", name, text);
  } else {
    EXPECT_OK(pega_function_call(function, args, signature->num_params, NULL, &error), &error);
  }
  pega_function_release(function);
  pega_error_clear(&error);
}

static void test_numbers_that_do_not_fit(void **state) {
  (void)state;
  CUdeviceptr out;
  GPU_OK(gpu.alloc(&out, 4096));
  call_scalars(out, "e_u8", pega_value_int(256), true, "u8");
  call_scalars(out, "e_u8", pega_value_int(-1), true, "u8");
  call_scalars(out, "a_i8", pega_value_int(128), true, "i8");
  call_scalars(out, "d_u16", pega_value_int(65536), true, "u16");
  call_scalars(out, "j_i16", pega_value_int(-32769), true, "i16");
  call_scalars(out, "l_u32", pega_value_int(INT64_C(1) << 32), true, "u32");
  call_scalars(out, "h_i32", pega_value_int(INT64_C(1) << 31), true, "i32");
  call_scalars(out, "m_u64", pega_value_int(-1), true, "u64");
  call_scalars(out, "e_u8", pega_value_int(255), false, NULL);
  call_scalars(out, "i_fp16", pega_value_float(65504), false, NULL);
  GPU_OK(gpu.synchronize());
  GPU_OK(gpu.release(out));
}

static void test_half_that_does_not_fit(void **state) {
  (void)state;
  CUdeviceptr out;
  GPU_OK(gpu.alloc(&out, 4096));
  call_scalars(out, "i_fp16", pega_value_float(65520), true, "f16");
  call_scalars(out, "i_fp16", pega_value_float(-1e300), true, "f16");
  GPU_OK(gpu.release(out));
}

int main(void) {
  const int status = fixture_begin();
  if (status != 0) return status;
  pack = fixture_pack("abi.pegapack");
  solve_pack = fixture_pack("qwen35.pegapack");
  if (pack == NULL || solve_pack == NULL) return SUPPORT_SKIP;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_verify),
      cmocka_unit_test(test_golden_cases),
      cmocka_unit_test(test_golden_cases_of_solve),
      cmocka_unit_test(test_scratch),
      cmocka_unit_test(test_grids),
      cmocka_unit_test(test_numbers_that_do_not_fit),
      cmocka_unit_test(test_half_that_does_not_fit),
  };
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  pega_pack_release(pack);
  pega_pack_release(solve_pack);
  return failed;
}
