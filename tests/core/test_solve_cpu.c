/* SPDX-License-Identifier: Apache-2.0 */
/* Every CPU implementation of the chunk solve that this machine can run, each against the fp64
 * inverse and against the others. */
#include "ops/qwen35/chunk_solve_cpu.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "solve_reference.h"
#include "support.h"

static int run(const char *name, const solve_problem *problem, int num_threads) {
  return pega_qwen35_chunk_solve_cpu_with(name, problem->a_tril, problem->a_inv, problem->seq_len,
                                          problem->num_value_heads, num_threads);
}

static void expect_right(const solve_problem *problem, const char *name) {
  const solve_comparison got = solve_problem_compare(problem);
  if (got.max_error <= 1e-3 && got.badly_rounded == 0 && got.bad_above == 0 &&
      got.bad_outside == 0) {
    return;
  }
  print_error(
      "%s, T %d, HV %d: max error %.3g, rms %.3g, %d badly rounded, %d wrong on or above the "
      "diagonal, %d written outside\n",
      name, (int)problem->seq_len, (int)problem->num_value_heads, got.max_error, got.rms_error,
      (int)got.badly_rounded, (int)got.bad_above, (int)got.bad_outside);
  fail();
}

static void test_names(void **state) {
  (void)state;
  int count = 0;
  while (pega_qwen35_chunk_solve_cpu_name(count) != NULL) {
    print_message("this CPU runs %s\n", pega_qwen35_chunk_solve_cpu_name(count));
    ++count;
  }
  assert_true(count >= 1);
  assert_string_equal(pega_qwen35_chunk_solve_cpu_name(count - 1), "portable");
  assert_string_equal(pega_qwen35_chunk_solve_cpu_name(0),
                      pega_qwen35_chunk_solve_cpu_implementation());
  assert_null(pega_qwen35_chunk_solve_cpu_name(-1));
  assert_null(pega_qwen35_chunk_solve_cpu_name(INT32_MAX));
  solve_problem problem = solve_problem_create(3, 1, 1, -0.1, 1);
  assert_int_equal(run("vax", &problem, 1), -1);
  assert_int_equal(run("", &problem, 1), -1);
  assert_int_equal(problem.a_inv[0], SOLVE_UNTOUCHED);
  solve_problem_free(&problem);
}

static void test_against_the_inverse(void **state) {
  (void)state;
  static const int64_t seq_lens[] = {1,  2,  3,  4,  5,  15,  16,  17,  31,
                                     33, 61, 63, 64, 65, 127, 128, 129, 200};
  static const int64_t heads[] = {1, 3, 48};
  for (int t = 0; t < COUNT(seq_lens); ++t) {
    for (int h = 0; h < COUNT(heads); ++h) {
      for (int threads = 0; threads < 4; ++threads) {
        solve_problem problem = solve_problem_create(
            seq_lens[t], 1, heads[h], threads % 2 == 0 ? -0.1 : -10, (uint64_t)(10 * t + h));
        const char *name;
        for (int i = 0; (name = pega_qwen35_chunk_solve_cpu_name(i)) != NULL; ++i) {
          solve_problem_reset(&problem);
          assert_int_equal(run(name, &problem, threads), 0);
          expect_right(&problem, name);
        }
        solve_problem_reset(&problem);
        pega_qwen35_chunk_solve_cpu(problem.a_tril, problem.a_inv, problem.seq_len,
                                    problem.num_value_heads, threads);
        expect_right(&problem, "the default");
        solve_problem_free(&problem);
      }
    }
  }
}

/* The result does not depend on how many threads share the work. */
static void test_threads_agree(void **state) {
  (void)state;
  solve_problem problem = solve_problem_create(1000, 4, 8, -0.1, 3);
  const size_t bytes = (size_t)(problem.num_rows * problem.num_value_heads * 64) * sizeof(uint16_t);
  uint16_t *first = malloc(bytes);
  assert_non_null(first);
  const char *name;
  for (int i = 0; (name = pega_qwen35_chunk_solve_cpu_name(i)) != NULL; ++i) {
    for (int threads = 1; threads < 6; ++threads) {
      solve_problem_reset(&problem);
      assert_int_equal(run(name, &problem, threads), 0);
      if (threads == 1) memcpy(first, problem.out_buffer, bytes);
      assert_memory_equal(problem.out_buffer, first, bytes);
    }
  }
  free(first);
  solve_problem_free(&problem);
}

/* An output of 8 MiB and more is written around the caches, where it is aligned to 64 bytes. */
static void test_large_outputs(void **state) {
  (void)state;
  enum { kRows = 1025, kHeads = 64, kEntries = kRows * kHeads * 64 };
  solve_problem problem = solve_problem_create(kRows, 16, kHeads, -0.1, 4);
  uint16_t *memory = NULL;
  assert_int_equal(posix_memalign((void **)&memory, 64, (kEntries + 64) * sizeof(uint16_t)), 0);
  const char *name;
  for (int i = 0; (name = pega_qwen35_chunk_solve_cpu_name(i)) != NULL; ++i) {
    solve_problem_reset(&problem);
    assert_int_equal(run(name, &problem, 2), 0);
    expect_right(&problem, name);
    /* Aligned to 2 bytes alone: the same bits, and nothing beside them. */
    for (int shift = 0; shift < 2; ++shift) {
      uint16_t *out = memory + 1 + shift * 8;
      out[-1] = out[kEntries] = SOLVE_UNTOUCHED;
      assert_int_equal(
          pega_qwen35_chunk_solve_cpu_with(name, problem.a_tril, out, kRows, kHeads, 2), 0);
      assert_memory_equal(out, problem.a_inv, kEntries * sizeof(uint16_t));
      assert_int_equal(out[-1], SOLVE_UNTOUCHED);
      assert_int_equal(out[kEntries], SOLVE_UNTOUCHED);
    }
  }
  free(memory);
  solve_problem_free(&problem);
}

static void test_nothing_to_do(void **state) {
  (void)state;
  static const int64_t sizes[][2] = {{0, 4}, {4, 0}, {-1, 4}, {4, -1}};
  for (int i = 0; i < COUNT(sizes); ++i) {
    pega_qwen35_chunk_solve_cpu(NULL, NULL, sizes[i][0], sizes[i][1], 0);
    assert_int_equal(
        pega_qwen35_chunk_solve_cpu_with("portable", NULL, NULL, sizes[i][0], sizes[i][1], 2), 0);
  }
}

/* ---- Numbers of every size ---- */

typedef struct tile {
  _Alignas(64) float a[64][64];
  _Alignas(64) uint16_t x[64][64];
} tile;

static void solve_tile(const char *name, tile *it) {
  memset(it->x, 0xa5, sizeof it->x);
  assert_int_equal(pega_qwen35_chunk_solve_cpu_with(name, &it->a[0][0], &it->x[0][0], 64, 1, 1), 0);
}

static bool is_nan(uint16_t bits) { return (bits & 0x7fff) > 0x7f80; }
static bool is_finite(uint16_t bits) { return (bits & 0x7f80) != 0x7f80; }

/* With one entry below the diagonal the inverse is that entry, negated: rounding on its own. */
static void test_rounding(void **state) {
  (void)state;
  static const struct {
    uint32_t in;
    uint16_t out;
  } cases[] = {
      {0x3f800000, 0xbf80}, /* 1 */
      {0x3f808000, 0xbf80}, /* halfway, to even below */
      {0x3f818000, 0xbf82}, /* halfway, to even above */
      {0x3f808001, 0xbf81}, /* just above halfway */
      {0x3f807fff, 0xbf80}, /* just below halfway */
      {0xbf808001, 0x3f81}, /* negative */
      {0x3fffffff, 0xc000}, /* carries into the exponent */
      {0x00010000, 0x8001}, /* subnormal */
      {0x7f7fffff, 0xff80}, /* past the greatest bf16 */
      {0x7f7f7fff, 0xff7f}, /* the greatest that stays finite */
      {0x7f800000, 0xff80}, /* infinite */
  };
  const char *name;
  static tile it;
  for (int i = 0; (name = pega_qwen35_chunk_solve_cpu_name(i)) != NULL; ++i) {
    for (int c = 0; c < COUNT(cases); ++c) {
      memset(it.a, 0, sizeof it.a);
      memcpy(&it.a[1][0], &cases[c].in, sizeof(float));
      solve_tile(name, &it);
      if (it.x[1][0] != cases[c].out) {
        print_error("%s: 0x%08x rounds to 0x%04x, expected 0x%04x\n", name, cases[c].in, it.x[1][0],
                    cases[c].out);
        fail();
      }
    }
    /* Every NaN comes out as a quiet NaN. */
    static const uint32_t nans[] = {0x7f800001, 0x7fffffff, 0xff800001, 0xffffffff, 0x7fc00000};
    for (int n = 0; n < COUNT(nans); ++n) {
      memset(it.a, 0, sizeof it.a);
      memcpy(&it.a[1][0], &nans[n], sizeof(float));
      solve_tile(name, &it);
      assert_true(is_nan(it.x[1][0]));
      assert_int_not_equal(it.x[1][0] & 0x40, 0);
    }
  }
}

/* A number that is not finite spoils rows from its own on, and no column past its group of 16. */
static void test_non_finite_entries_stay_where_they_may(void **state) {
  (void)state;
  static const float bad[] = {INFINITY, -INFINITY, NAN};
  static const int rows[] = {1, 2, 3, 5, 17, 33, 63};
  const char *name;
  static tile clean, it;
  uint64_t seed = 5;
  for (int i = 0; (name = pega_qwen35_chunk_solve_cpu_name(i)) != NULL; ++i) {
    for (int b = 0; b < COUNT(bad); ++b) {
      for (int r = 0; r < COUNT(rows); ++r) {
        for (int column = 0; column < rows[r]; column += 7) {
          solve_problem problem = solve_problem_create(64, 1, 1, -0.1, seed++);
          memcpy(clean.a, problem.a_tril, sizeof clean.a);
          solve_problem_free(&problem);
          memcpy(it.a, clean.a, sizeof it.a);
          it.a[rows[r]][column] = bad[b];
          solve_tile(name, &clean);
          solve_tile(name, &it);
          assert_false(is_finite(it.x[rows[r]][column]));
          for (int row = 0; row < 64; ++row) {
            const int first_clean = row < rows[r] ? 0 : (column / 16 + 1) * 16;
            for (int j = first_clean; j < 64; ++j) assert_int_equal(it.x[row][j], clean.x[row][j]);
            for (int j = row; j < 64; ++j) assert_int_equal(it.x[row][j], j == row ? 0x3f80 : 0);
          }
        }
      }
    }
  }
}

/* With whole numbers every sum is exact: all implementations give the same bits as fp64. */
static void test_exact_numbers(void **state) {
  (void)state;
  static tile it;
  static double x[64][64];
  for (int i = 0; i < 64; ++i) {
    for (int j = 0; j < 64; ++j)
      it.a[i][j] = j >= i ? NAN : (float)((i * 7 + j * 3) % 5 == 0 ? 1 : 0);
  }
  /* Three entries a row keep the inverse small enough for bf16 to hold it exactly. */
  for (int i = 0; i < 64; ++i) {
    for (int j = 0; j < i - 3; ++j) it.a[i][j] = 0;
  }
  for (int column = 0; column < 64; ++column) {
    for (int i = 0; i < 64; ++i) {
      double sum = i == column ? 1 : 0;
      for (int j = column; j < i; ++j) sum -= (double)it.a[i][j] * x[j][column];
      x[i][column] = i < column ? 0 : sum;
    }
  }
  const char *name;
  for (int n = 0; (name = pega_qwen35_chunk_solve_cpu_name(n)) != NULL; ++n) {
    solve_tile(name, &it);
    for (int i = 0; i < 64; ++i) {
      for (int j = 0; j < 64; ++j) {
        const uint32_t wide = (uint32_t)it.x[i][j] << 16;
        float value;
        memcpy(&value, &wide, sizeof value);
        assert_true(fabs(x[i][j]) <= 256);
        assert_true((double)value == x[i][j]);
      }
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_names),
      cmocka_unit_test(test_against_the_inverse),
      cmocka_unit_test(test_threads_agree),
      cmocka_unit_test(test_large_outputs),
      cmocka_unit_test(test_nothing_to_do),
      cmocka_unit_test(test_rounding),
      cmocka_unit_test(test_non_finite_entries_stay_where_they_may),
      cmocka_unit_test(test_exact_numbers),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
