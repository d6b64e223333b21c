/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The solve's numbers on a GPU: every shape and edge case in its three forms, against the fp64 inverse
 * and against the CPU's answer. PEGA_TEST_BRIEF leaves a few shapes and allocates exactly what each
 * needs, for tools that watch memory.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

static bool brief;

static const char *const form_names[NUM_FORMS] = {"raw form", "tensor form", "C symbol"};

static double bf16(uint16_t bits) {
  const uint32_t wide = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &wide, sizeof value);
  return (double)value;
}

/* The greatest difference from what the CPU makes of the same input, relative to the greatest entry. */
static double difference_from_cpu(const solve_problem *problem) {
  const int64_t count = problem->seq_len * problem->num_value_heads * PEGA_QWEN35_CHUNK;
  uint16_t *other = aligned_alloc(64, (size_t)(count * 2 + 63) / 64 * 64);
  assert_non_null(other);
  const int64_t heads = problem->num_value_heads;
  const DLTensor in = TENSOR(problem->a_tril, FLOAT32, problem->seq_len, heads, PEGA_QWEN35_CHUNK);
  const DLTensor out = TENSOR(other, BFLOAT16, problem->seq_len, heads, PEGA_QWEN35_CHUNK);
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_OK(pega_function_call(fixture_function(PEGA_QWEN35_CHUNK_SOLVE),
                               ARGS(pega_value_tensor(&in), pega_value_tensor(&out)), NULL, &error),
            &error);
  double greatest = 0;
  double difference = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double expected = bf16(other[i]);
    const double apart = fabs(bf16(problem->a_inv[i]) - expected);
    if (!(apart <= difference)) difference = apart;
    greatest = fmax(greatest, fabs(expected));
  }
  free(other);
  return greatest == 0 ? 0 : difference / greatest;
}

typedef struct worst {
  double max_error;
  double rms_error;
  double from_cpu;
  int problems;
} worst;

static void run_problem(int64_t seq_len, int64_t heads, double lowest_gate, uint64_t seed,
                        worst *total) {
  device_solve solve = device_solve_create(seq_len, heads, lowest_gate, seed, brief);
  const size_t bytes = (size_t)(solve.problem.num_rows * heads * PEGA_QWEN35_CHUNK) * 2;
  uint16_t *first = malloc(bytes);
  assert_non_null(first);
  for (int form = 0; form < NUM_FORMS; ++form) {
    device_solve_poison(&solve);
    device_solve_launch(&solve, (solve_form)form, NULL);
    GPU_OK(gpu.synchronize());
    if (form == FORM_RAW) {
      const solve_comparison got = device_solve_expect_right(&solve, form_names[form]);
      memcpy(first, solve.problem.out_buffer, bytes);
      const double from_cpu = difference_from_cpu(&solve.problem);
      /* Two answers, each within 1e-3 of the true one. */
      assert_true(from_cpu <= 2e-3);
      total->max_error = fmax(total->max_error, got.max_error);
      total->rms_error = fmax(total->rms_error, got.rms_error);
      total->from_cpu = fmax(total->from_cpu, from_cpu);
      ++total->problems;
    } else {
      device_solve_download(&solve);
      if (memcmp(first, solve.problem.out_buffer, bytes) != 0) {
        print_error("T=%lld HV=%lld: the %s and the raw form differ\n", (long long)seq_len,
                    (long long)heads, form_names[form]);
        fail();
      }
    }
  }
  free(first);
  device_solve_free(&solve);
}

static void run_gate(double lowest_gate) {
  static const int64_t few_tokens[] = {0, 1, 63, 64, 65, 127, 129};
  static const int64_t all_heads[] = {1, 3, 8, 32, 48, 64};
  static const int64_t larger[][2] = {{1000, 1}, {1000, 32}, {1000, 48}, {4096, 3}, {4096, 32}};
  static const int64_t briefly[][2] = {{1, 1}, {65, 3}, {129, 32}, {1000, 8}};
  worst total = {0};
  uint64_t seed = 11;
  if (brief) {
    for (int i = 0; i < COUNT(briefly); ++i) {
      run_problem(briefly[i][0], briefly[i][1], lowest_gate, ++seed, &total);
    }
  } else {
    for (int t = 0; t < COUNT(few_tokens); ++t) {
      for (int h = 0; h < COUNT(all_heads); ++h) {
        run_problem(few_tokens[t], all_heads[h], lowest_gate, ++seed, &total);
      }
    }
    for (int i = 0; i < COUNT(larger); ++i) {
      run_problem(larger[i][0], larger[i][1], lowest_gate, ++seed, &total);
    }
  }
  printf(
      "g in [%g, 0]: %d problems, each in 3 forms: max error %.2e (limit 1e-3), rms %.2e; from the "
      "CPU's %.2e\n",
      lowest_gate, total.problems, total.max_error, total.rms_error, total.from_cpu);
}

static void test_weak_gates(void **state) {
  (void)state;
  run_gate(-0.1);
}

static void test_strong_gates(void **state) {
  (void)state;
  run_gate(-10);
}

/* ---- more elements than 32 bits count ---- */

enum { LARGE_HEADS = 32 };
static const int64_t large_tokens = (INT64_C(1) << 31) / (LARGE_HEADS * PEGA_QWEN35_CHUNK) + 262;

/* Checks the rows of one chunk of the large output: right where it was given a problem, else I. */
static void check_chunk(CUdeviceptr a_inv, int64_t chunk, solve_problem *sample) {
  const int64_t row_entries = LARGE_HEADS * PEGA_QWEN35_CHUNK;
  const int64_t first = chunk * PEGA_QWEN35_CHUNK;
  const int64_t rows =
      large_tokens - first < PEGA_QWEN35_CHUNK ? large_tokens - first : PEGA_QWEN35_CHUNK;
  solve_problem_reset(sample);
  GPU_OK(gpu.copy_out(sample->a_inv, a_inv + (CUdeviceptr)(first * row_entries * 2),
                      (size_t)(rows * row_entries) * 2));
  sample->seq_len = rows;
  const solve_comparison got = solve_problem_compare(sample);
  if (!(got.max_error <= 1e-3) || got.bad_above != 0) {
    print_error("chunk %lld: max error %.3g, %lld entries wrong on or above the diagonal\n",
                (long long)chunk, got.max_error, (long long)got.bad_above);
    fail();
  }
}

static void test_past_31_bits(void **state) {
  (void)state;
  if (brief) skip();
  if (fixture_rehearsal("more than 2^31 elements")) skip();
  const int64_t row_entries = LARGE_HEADS * PEGA_QWEN35_CHUNK;
  const size_t entries = (size_t)(large_tokens * row_entries);
  size_t available = 0;
  size_t total = 0;
  GPU_OK(gpu.memory_info(&available, &total));
  if (available < entries * 6 + (size_t)(256 << 20)) {
    printf("SKIP: more than 2^31 elements: needs %zu MB of GPU memory, %zu MB are free\n",
           entries * 6 >> 20, available >> 20);
    skip();
  }
  CUdeviceptr a_tril;
  CUdeviceptr a_inv;
  const size_t canary = 4096;
  GPU_OK(gpu.alloc(&a_tril, entries * 4));
  GPU_OK(gpu.alloc(&a_inv, entries * 2 + canary));
  GPU_OK(gpu.set_bytes(a_tril, 0, entries * 4));
  GPU_OK(gpu.set_bytes(a_inv, 0xff, entries * 2 + canary));

  /* Where offsets in bytes or elements pass 2^31 and 2^32, the ends, and one between. */
  const int64_t chunk_entries = PEGA_QWEN35_CHUNK * row_entries;
  const int64_t last = large_tokens / PEGA_QWEN35_CHUNK;
  const int64_t chunks[] = {0,
                            1,
                            (INT64_C(1) << 29) / chunk_entries,
                            (INT64_C(1) << 30) / chunk_entries - 1,
                            (INT64_C(1) << 30) / chunk_entries,
                            (INT64_C(1) << 31) / chunk_entries - 1,
                            last - 1,
                            last};
  solve_problem samples[COUNT(chunks)];
  for (int i = 0; i < COUNT(chunks); ++i) {
    const int64_t rows = chunks[i] == last ? large_tokens % PEGA_QWEN35_CHUNK : PEGA_QWEN35_CHUNK;
    samples[i] = solve_problem_create(PEGA_QWEN35_CHUNK, 16, LARGE_HEADS, -0.1, 100 + (uint64_t)i);
    GPU_OK(gpu.copy_in(a_tril + (CUdeviceptr)(chunks[i] * chunk_entries * 4), samples[i].a_tril,
                       (size_t)(rows * row_entries) * 4));
  }
  device_solve solve;
  memset(&solve, 0, sizeof solve);
  solve.problem.seq_len = large_tokens;
  solve.problem.num_value_heads = LARGE_HEADS;
  solve.a_tril = a_tril;
  solve.a_inv = a_inv;
  device_solve_launch(&solve, FORM_RAW, NULL);
  GPU_OK(gpu.synchronize());
  for (int i = 0; i < COUNT(chunks); ++i) check_chunk(a_inv, chunks[i], &samples[i]);

  /* Chunks whose A is 0, next to those. */
  solve_problem zero = solve_problem_create(PEGA_QWEN35_CHUNK, 16, LARGE_HEADS, -0.1, 1);
  memset(zero.in_buffer, 0, (size_t)(zero.num_rows * row_entries) * 4);
  check_chunk(a_inv, 2, &zero);
  check_chunk(a_inv, (INT64_C(1) << 30) / chunk_entries + 1, &zero);
  check_chunk(a_inv, last - 2, &zero);

  unsigned char behind[4096];
  GPU_OK(gpu.copy_out(behind, a_inv + entries * 2, canary));
  for (size_t i = 0; i < canary; ++i) assert_int_equal(behind[i], 0xff);
  printf("T=%lld HV=%d, %zu elements: %d chunks looked at\n", (long long)large_tokens, LARGE_HEADS,
         entries, COUNT(chunks) + 3);
  for (int i = 0; i < COUNT(chunks); ++i) solve_problem_free(&samples[i]);
  solve_problem_free(&zero);
  GPU_OK(gpu.release(a_tril));
  GPU_OK(gpu.release(a_inv));
}

/* ---- what is refused ---- */

static void expect_refused(const device_solve *solve, pega_status expected, const char *text) {
  pega_error error = PEGA_ERROR_INIT;
  for (int form = 0; form < NUM_FORMS; ++form) {
    EXPECT_ERROR(device_solve_call(solve, (solve_form)form, NULL, &error), &error, expected, text);
  }
  pega_error_clear(&error);
}

static void test_refused(void **state) {
  (void)state;
  device_solve solve = device_solve_create(65, 4, -0.1, 5, false);
  device_solve wrong = solve;
  wrong.a_tril += 4;
  expect_refused(&wrong, PEGA_ERROR_LAYOUT, "aligned");
  wrong = solve;
  wrong.a_inv += 2;
  expect_refused(&wrong, PEGA_ERROR_LAYOUT, "aligned");
  wrong = solve;
  wrong.a_inv = wrong.a_tril + 65 * 4 * PEGA_QWEN35_CHUNK * 4 - 16;
  expect_refused(&wrong, PEGA_ERROR_LAYOUT, "overlap");
  wrong.a_inv = wrong.a_tril;
  expect_refused(&wrong, PEGA_ERROR_LAYOUT, "overlap");
  assert_int_equal(gated_delta_rule_prefill_chunk_solve_cuda(NULL, NULL, 1, 1, NULL), 1);
  assert_int_equal(
      gated_delta_rule_prefill_chunk_solve_cuda((const float *)(uintptr_t)solve.a_tril,
                                                (uint16_t *)(uintptr_t)solve.a_inv, -1, 1, NULL),
      1);
  GPU_OK(gpu.synchronize());
  assert_true(device_solve_untouched(&solve));
  device_solve_free(&solve);
}

/* Nothing to do is a success that touches nothing. */
static void test_empty(void **state) {
  (void)state;
  device_solve solve = device_solve_create(65, 4, -0.1, 6, false);
  device_solve empty = solve;
  empty.problem.seq_len = 0;
  for (int form = 0; form < NUM_FORMS; ++form) device_solve_launch(&empty, (solve_form)form, NULL);
  empty = solve;
  empty.problem.num_value_heads = 0;
  for (int form = 0; form < NUM_FORMS; ++form) device_solve_launch(&empty, (solve_form)form, NULL);
  GPU_OK(gpu.synchronize());
  assert_true(device_solve_untouched(&solve));
  device_solve_free(&solve);
}

int main(void) {
  brief = getenv("PEGA_TEST_BRIEF") != NULL;
  const int status = fixture_begin_solve();
  if (status != 0) return status;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_weak_gates),   cmocka_unit_test(test_strong_gates),
      cmocka_unit_test(test_refused),      cmocka_unit_test(test_empty),
      cmocka_unit_test(test_past_31_bits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
