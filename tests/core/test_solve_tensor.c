/* SPDX-License-Identifier: Apache-2.0 */
/* The chunk solve on CPU tensors: the numbers against an fp64 inverse, and what is refused. */
#include <pega/qwen35.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "solve_reference.h"
#include "support.h"

static pega_function *solve;

static int get_solve(void **state) {
  (void)state;
  return pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE, &solve, NULL) == PEGA_OK ? 0 : -1;
}

static int release_solve(void **state) {
  (void)state;
  pega_function_release(solve);
  return 0;
}

/* The two tensors of a problem. */
typedef struct tensors {
  int64_t shape[3];
  DLTensor a_tril;
  DLTensor a_inv;
} tensors;

static void describe(const solve_problem *problem, tensors *out) {
  out->shape[0] = problem->seq_len;
  out->shape[1] = problem->num_value_heads;
  out->shape[2] = PEGA_QWEN35_CHUNK;
  out->a_tril = (DLTensor){
      .data = problem->a_tril, .device = CPU, .ndim = 3, .dtype = FLOAT32, .shape = out->shape};
  out->a_inv = (DLTensor){
      .data = problem->a_inv, .device = CPU, .ndim = 3, .dtype = BFLOAT16, .shape = out->shape};
}

static pega_status run(const tensors *given, pega_error *error) {
  pega_value result = pega_value_int(99);
  const pega_status status = pega_function_call(
      solve, ARGS(pega_value_tensor(&given->a_tril), pega_value_tensor(&given->a_inv)), &result,
      error);
  assert_int_equal(result.kind, PEGA_NONE);
  return status;
}

static void expect_right(const solve_problem *problem, const char *what) {
  const solve_comparison got = solve_problem_compare(problem);
  if (got.max_error <= 1e-3 && got.badly_rounded == 0 && got.bad_above == 0 &&
      got.bad_outside == 0) {
    return;
  }
  print_error(
      "%s, T %d, HV %d: max error %.3g, rms %.3g, %d badly rounded, %d wrong on or above the "
      "diagonal, %d written outside\n",
      what, (int)problem->seq_len, (int)problem->num_value_heads, got.max_error, got.rms_error,
      (int)got.badly_rounded, (int)got.bad_above, (int)got.bad_outside);
  fail();
}

static void test_shapes(void **state) {
  (void)state;
  static const int64_t seq_lens[] = {0, 1, 63, 64, 65, 127, 128, 129, 1000};
  static const struct {
    int64_t key;
    int64_t value;
  } heads[] = {{1, 1}, {4, 8}, {16, 32}, {16, 48}, {16, 64}};
  static const double lowest_gates[] = {-0.1, -10};
  double worst = 0;
  for (int t = 0; t < COUNT(seq_lens); ++t) {
    for (int h = 0; h < COUNT(heads); ++h) {
      for (int g = 0; g < COUNT(lowest_gates); ++g) {
        solve_problem problem =
            solve_problem_create(seq_lens[t], heads[h].key, heads[h].value, lowest_gates[g],
                                 (uint64_t)(100 * t + 10 * h + g));
        tensors given;
        pega_error error = PEGA_ERROR_INIT;
        describe(&problem, &given);
        EXPECT_OK(run(&given, &error), &error);
        expect_right(&problem, lowest_gates[g] < -1 ? "gates to -10" : "gates to -0.1");
        const solve_comparison got = solve_problem_compare(&problem);
        if (got.max_error > worst) worst = got.max_error;
        solve_problem_free(&problem);
      }
    }
  }
  print_message("worst max error against the fp64 inverse: %.3g\n", worst);
}

/* Output as close to its input, and as badly aligned, as it may be. */
static void test_neighbouring_and_unaligned_memory(void **state) {
  (void)state;
  enum { kRows = 70, kHeads = 2, kEntries = kRows * kHeads * 64 };
  static _Alignas(64) char memory[kEntries * 6 + 64];
  solve_problem model = solve_problem_create(kRows, 1, kHeads, -0.1, 7);
  pega_error error = PEGA_ERROR_INIT;
  for (int after = 0; after < 2; ++after) {
    for (size_t shift = 0; shift < 12; shift += 4) {
      solve_problem problem = model;
      char *start = memory + shift;
      problem.a_tril = (float *)(void *)(start + (after ? 0 : kEntries * 2));
      problem.a_inv = (uint16_t *)(void *)(start + (after ? kEntries * 4 : 0));
      memcpy(problem.a_tril, model.a_tril, kEntries * 4);
      tensors given;
      describe(&problem, &given);
      EXPECT_OK(run(&given, &error), &error);
      expect_right(&problem, after ? "output after input" : "output before input");
    }
  }
  solve_problem_free(&model);
}

/* Tensors from elsewhere have their own ways to say the same. */
static void test_other_descriptions(void **state) {
  (void)state;
  solve_problem problem = solve_problem_create(65, 1, 3, -0.1, 8);
  pega_error error = PEGA_ERROR_INIT;
  tensors given;
  describe(&problem, &given);
  given.a_tril.data = problem.in_buffer;
  given.a_tril.byte_offset = kSolveMargin * 3 * 64 * sizeof(float);
  given.a_inv.strides = SHAPE(3 * 64, 64, 1);
  given.a_tril.device = given.a_inv.device = DEVICE(kDLCUDAHost, 0);
  EXPECT_OK(run(&given, &error), &error);
  expect_right(&problem, "byte_offset, strides, cuda_host");
  solve_problem_free(&problem);
}

static void *run_in_thread(void *given) {
  for (int i = 0; i < 10; ++i) {
    if (pega_function_call(solve,
                           ARGS(pega_value_tensor(&((tensors *)given)->a_tril),
                                pega_value_tensor(&((tensors *)given)->a_inv)),
                           NULL, NULL) != PEGA_OK) {
      return given;
    }
  }
  return NULL;
}

static void test_two_threads_at_once(void **state) {
  (void)state;
  solve_problem problems[2];
  tensors given[2];
  pthread_t threads[2];
  for (int i = 0; i < 2; ++i) {
    problems[i] = solve_problem_create(200, 4, 8, -0.1, (uint64_t)i);
    describe(&problems[i], &given[i]);
  }
  for (int i = 0; i < 2; ++i) {
    assert_int_equal(pthread_create(&threads[i], NULL, run_in_thread, &given[i]), 0);
  }
  for (int i = 0; i < 2; ++i) {
    void *failed;
    pthread_join(threads[i], &failed);
    assert_null(failed);
    expect_right(&problems[i], "two threads");
    solve_problem_free(&problems[i]);
  }
}

/* ---- What is refused, with nothing written ---- */

#define REFUSED(status, ...)                                                           \
  do {                                                                                 \
    pega_error error_ = PEGA_ERROR_INIT;                                               \
    EXPECT_ERROR(run(&given, &error_), &error_, status,                                \
                 "pegainfer.qwen35.gated_delta_rule_chunk_solve: ", __VA_ARGS__);      \
    assert_int_equal(run(&given, NULL), status);                                       \
    pega_error_clear(&error_);                                                         \
    for (int64_t i_ = 0; i_ < problem.num_rows * problem.num_value_heads * 64; ++i_) { \
      assert_int_equal(problem.out_buffer[i_], SOLVE_UNTOUCHED);                       \
    }                                                                                  \
    describe(&problem, &given);                                                        \
  } while (0)

static void test_refusals(void **state) {
  (void)state;
  solve_problem problem = solve_problem_create(65, 1, 2, -0.1, 9);
  tensors given;
  describe(&problem, &given);

  given.a_tril.dtype = DTYPE(kDLFloat, 16, 1);
  REFUSED(PEGA_ERROR_DTYPE, "argument 0 'a_tril': expected dtype float32, got float16");
  given.a_inv.dtype = DTYPE(kDLFloat, 16, 1);
  REFUSED(PEGA_ERROR_DTYPE, "argument 1 'a_inv': expected dtype bfloat16, got float16");
  given.a_tril.ndim = 2;
  REFUSED(PEGA_ERROR_SHAPE,
          "argument 0 'a_tril': expected shape (T, HV, 64), got (65, 2) of rank 2");
  given.a_tril.shape = SHAPE(65, 2, 63);
  REFUSED(PEGA_ERROR_SHAPE, "got (65, 2, 63): shape[2] must be 64");
  given.a_inv.shape = SHAPE(64, 2, 64);
  REFUSED(PEGA_ERROR_SHAPE, "argument 1 'a_inv'",
          "shape[0] must be T = 65 as in argument 0 'a_tril'");
  given.a_inv.shape = SHAPE(65, 1, 64);
  REFUSED(PEGA_ERROR_SHAPE, "shape[1] must be HV = 2 as in argument 0 'a_tril'");
  given.a_inv.shape = SHAPE(-65, 2, 64);
  REFUSED(PEGA_ERROR_SHAPE, "argument 1 'a_inv': tensor shape[0] is -65");
  given.a_tril.strides = SHAPE(256, 64, 1);
  REFUSED(PEGA_ERROR_LAYOUT, "argument 0 'a_tril': expected a contiguous row-major tensor");
  given.a_inv.strides = SHAPE(64, 65 * 64, 1);
  REFUSED(PEGA_ERROR_LAYOUT, "argument 1 'a_inv': expected a contiguous row-major tensor");
  given.a_tril.byte_offset = 2;
  REFUSED(PEGA_ERROR_LAYOUT, "argument 0 'a_tril': tensor data + byte_offset",
          "aligned to 4 bytes");
  given.a_inv.byte_offset = 1;
  REFUSED(PEGA_ERROR_LAYOUT, "argument 1 'a_inv': tensor data + byte_offset", "aligned to 2 bytes");
  given.a_tril.data = NULL;
  REFUSED(PEGA_ERROR_INVALID_ARGUMENT, "argument 0 'a_tril': tensor has elements but data is NULL");
  given.a_inv.device = DEVICE(kDLCUDA, 0);
  REFUSED(PEGA_ERROR_DEVICE,
          "argument 1 'a_inv': expected device cpu:0 as in argument 0 'a_tril', got cuda:0");
  given.a_tril.device = given.a_inv.device = DEVICE(kDLVulkan, 1);
  REFUSED(PEGA_ERROR_DEVICE,
          "argument 0 'a_tril': expected a tensor on a cpu or cuda device, got vulkan:1");

  /* Overlap: the same memory, and each one's last byte in the other's first. */
  given.a_inv.data = problem.a_tril;
  REFUSED(PEGA_ERROR_LAYOUT, "arguments 0 and 1 overlap: a_tril is [0x", "a_inv is [0x",
          "expected separate memory");
  given.a_inv.data = (char *)problem.a_tril + 65 * 2 * 64 * 4 - 2;
  REFUSED(PEGA_ERROR_LAYOUT, "overlap");
  given.a_inv.data = (char *)problem.a_tril - (65 * 2 * 64 * 2 - 2);
  REFUSED(PEGA_ERROR_LAYOUT, "overlap");

  /* Sizes that fit a descriptor, but no memory. */
  given.a_tril.shape = given.a_inv.shape = SHAPE((int64_t)1 << 30, (int64_t)1 << 24, 64);
  REFUSED(PEGA_ERROR_SHAPE, "do not fit in int64");
  given.a_tril.shape = given.a_inv.shape = SHAPE((int64_t)1 << 30, (int64_t)1 << 24, 64);
  given.a_tril.data = given.a_inv.data = problem.in_buffer;
  REFUSED(PEGA_ERROR_SHAPE, "do not fit in int64");
  given.a_tril.data = (void *)(UINTPTR_MAX - 4095);
  REFUSED(PEGA_ERROR_RANGE, "ends past the address space");
  solve_problem_free(&problem);
}

static void test_read_only_output(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  solve_problem problem = solve_problem_create(3, 1, 1, -0.1, 10);
  tensors given;
  describe(&problem, &given);
  pega_value a_tril, a_inv;
  EXPECT_OK(pega_tensor_create(&given.a_tril, DLPACK_FLAG_BITMASK_READ_ONLY, NULL, NULL, NULL,
                               &a_tril, &error),
            &error);
  EXPECT_OK(pega_tensor_create(&given.a_inv, DLPACK_FLAG_BITMASK_READ_ONLY, NULL, NULL, NULL,
                               &a_inv, &error),
            &error);
  EXPECT_ERROR(pega_function_call(solve, ARGS(a_tril, a_inv), NULL, &error), &error,
               PEGA_ERROR_LAYOUT,
               "argument 1 'a_inv': expected a writable tensor, got a read-only one");
  pega_value_release(&a_inv);
  EXPECT_OK(pega_tensor_create(&given.a_inv, 0, NULL, NULL, NULL, &a_inv, &error), &error);
  EXPECT_OK(pega_function_call(solve, ARGS(a_tril, a_inv), NULL, &error), &error);
  expect_right(&problem, "read-only input");
  pega_value_release(&a_tril);
  pega_value_release(&a_inv);
  solve_problem_free(&problem);
  pega_error_clear(&error);
}

static void test_other_arguments(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  const DLTensor empty = TENSOR(NULL, FLOAT32, 0, 2, 64);
  const pega_value tensor = pega_value_tensor(&empty);
  EXPECT_ERROR(pega_function_call(solve, ARGS(tensor), NULL, &error), &error,
               PEGA_ERROR_ARGUMENT_COUNT, "expected 2 arguments, got 1");
  EXPECT_ERROR(pega_function_call(solve, ARGS(tensor, tensor, tensor), NULL, &error), &error,
               PEGA_ERROR_ARGUMENT_COUNT, "expected 2 arguments, got 3");
  EXPECT_ERROR(pega_function_call(solve, ARGS(pega_value_none(), tensor), NULL, &error), &error,
               PEGA_ERROR_TYPE, "argument 0 'a_tril': expected Tensor, got None");
  EXPECT_ERROR(pega_function_call(solve, ARGS(tensor, pega_value_pointer(&error)), NULL, &error),
               &error, PEGA_ERROR_TYPE, "argument 1 'a_inv': expected Tensor, got pointer");
  pega_error_clear(&error);
}

/* No tokens or no heads: nothing to do, whatever the addresses. */
static void test_nothing_to_do(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  static const int64_t sizes[][2] = {{0, 0}, {0, 32}, {64, 0}};
  for (int i = 0; i < COUNT(sizes); ++i) {
    const DLTensor a_tril = TENSOR(NULL, FLOAT32, sizes[i][0], sizes[i][1], 64);
    const DLTensor a_inv = TENSOR(NULL, BFLOAT16, sizes[i][0], sizes[i][1], 64);
    EXPECT_OK(pega_function_call(solve, ARGS(pega_value_tensor(&a_tril), pega_value_tensor(&a_inv)),
                                 NULL, &error),
              &error);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_shapes),
      cmocka_unit_test(test_neighbouring_and_unaligned_memory),
      cmocka_unit_test(test_other_descriptions),
      cmocka_unit_test(test_two_threads_at_once),
      cmocka_unit_test(test_refusals),
      cmocka_unit_test(test_read_only_output),
      cmocka_unit_test(test_other_arguments),
      cmocka_unit_test(test_nothing_to_do),
  };
  return cmocka_run_group_tests(tests, get_solve, release_solve);
}
