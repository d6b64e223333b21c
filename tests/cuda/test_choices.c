/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables of measured times: what is refused, and that a choice is what the rule says, by a model of
 * its own. On the fake driver, whose first device is of compute capability 9.0 with 132
 * multiprocessors.
 */
#include <math.h>
#include <pega/qwen35.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../core/allocations.h"
#include "machine.h"

#define HEAD "{\"schema_version\": 1, \"function\": \"" PEGA_QWEN35_PREFILL "\", "
#define H100 "\"device\": {\"target\": \"sm_90\", \"multiprocessors\": 132}, "
#define CPU_DEVICE "\"device\": {\"target\": \"cpu\"}, "
#define ROW(hk, hv, n, t, us)                                                                 \
  "{\"key_heads\": " #hk ", \"value_heads\": " #hv ", \"sequences\": " #n ", \"tokens\": " #t \
  ", \"us\": {" us "}}"

/* --- asking --- */

static pega_function *explain_function;

typedef struct answer {
  char taken[32];
  char reason[128]; /* of the one taken */
  char table[256];  /* "" for none */
  char rows[64];
  double us[8]; /* of the implementations in their order; 0 for none */
  int count;
} answer;

static const char *text_of(const pega_value *map, const char *key) {
  const char *text = pega_value_as_string(pega_map_get(map, key), NULL);
  return text == NULL ? "" : text;
}

static pega_status ask(DLDevice device, int64_t hk, int64_t hv, int64_t n, int64_t tokens,
                       answer *out, pega_error *error) {
  const pega_value args[] = {pega_value_device(device), pega_value_int(tokens), pega_value_int(n),
                             pega_value_int(hk), pega_value_int(hv)};
  pega_value all = pega_value_none();
  if (explain_function == NULL) {
    EXPECT_OK(pega_registry_get(PEGA_QWEN35_PREFILL_EXPLAIN, &explain_function, error), error);
  }
  const pega_status status = pega_function_call(explain_function, args, 5, &all, error);
  if (status != PEGA_OK) return status;
  memset(out, 0, sizeof *out);
  int taken = 0;
  for (int64_t i = 0; i < pega_value_size(&all); ++i) {
    const pega_value *one = pega_array_get(&all, i);
    const pega_value *us = pega_map_get(one, "us");
    out->us[out->count++] = us->kind == PEGA_FLOAT ? us->as.f64 : 0;
    if (!pega_map_get(one, "taken")->as.boolean) continue;
    ++taken;
    snprintf(out->taken, sizeof out->taken, "%s", text_of(one, "name"));
    snprintf(out->reason, sizeof out->reason, "%s", text_of(one, "reason"));
    snprintf(out->table, sizeof out->table, "%s", text_of(one, "table"));
    snprintf(out->rows, sizeof out->rows, "%s", text_of(one, "rows"));
  }
  assert_int_equal(taken, 1);
  pega_value_release(&all);
  return PEGA_OK;
}

static answer asked(DLDevice device, int64_t hk, int64_t hv, int64_t n, int64_t tokens) {
  pega_error error = PEGA_ERROR_INIT;
  answer out;
  EXPECT_OK(ask(device, hk, hv, n, tokens, &out, &error), &error);
  return out;
}

static void expect_taken(DLDevice device, int64_t hk, int64_t hv, int64_t n, int64_t tokens,
                         const char *name) {
  const answer got = asked(device, hk, hv, n, tokens);
  if (strcmp(got.taken, name) != 0) {
    print_error("HK=%d HV=%d N=%d T=%d: expected %s, got %s (%s; %s; rows %s)\n", (int)hk, (int)hv,
                (int)n, (int)tokens, name, got.taken, got.reason, got.table, got.rows);
    fail();
  }
}

static void load(const char *text) {
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_OK(pega_qwen35_load_choices("given", text, strlen(text), &error), &error);
}

/* --- what is provided --- */

static void provide(void) {
  pega_error error = PEGA_ERROR_INIT;
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  pega_function *function;
  options.call = support_no_op;
  EXPECT_OK(pega_function_create(&options, &function, &error), &error);
  EXPECT_OK(pega_qwen35_provide_prefill("flashinfer", function, &error), &error);
  EXPECT_OK(pega_qwen35_provide_prefill("flashinfer_cp", function, &error), &error);
  pega_function_release(function);
}

/* --- without a table of ours --- */

/* Where no table knows of a call, fixed limits hold: 10.0 has no table. */
static void defaults(void) {
  machine_start("");
  machine_set_capability(0, 10, 0);
  provide();
  static const struct {
    int64_t hk, hv, n, tokens;
    const char *taken;
  } all[] = {{16, 32, 1, 16, "cuda_recurrent"},    {16, 32, 1, 17, "triton_chunked"},
             {16, 32, 64, 1024, "cuda_recurrent"}, {16, 32, 65, 1025, "triton_chunked"},
             {16, 32, 1, 64, "triton_chunked"},    {16, 32, 1, 100000, "triton_chunked"},
             {4, 8, 1, 8192, "triton_chunked"},    {16, 32, 0, 0, "cuda_recurrent"}};
  for (int i = 0; i < COUNT(all); ++i) {
    expect_taken(CUDA(0), all[i].hk, all[i].hv, all[i].n, all[i].tokens, all[i].taken);
  }
  expect_taken(CPU, 16, 32, 1, 4, "cpu_recurrent");
  expect_taken(CPU, 16, 32, 1, 5, "cpu_chunked");
  const answer got = asked(CUDA(0), 16, 32, 1, 16);
  assert_string_equal(got.table, "");
  assert_string_equal(got.reason, "the first that fits");
}

/* Every compute capability has its own tables; 10.0 has none. */
static void other_target(void) {
  machine_start("");
  machine_set_capability(0, 10, 0);
  load(HEAD H100 "\"rows\": [" ROW(1, 1, 1, 1, "\"cuda_recurrent\": 1") "]}");
  expect_taken(CUDA(0), 16, 32, 1, 16, "cuda_recurrent");
  expect_taken(CUDA(0), 16, 32, 1, 17, "triton_chunked");
  load(HEAD "\"device\": {\"target\": \"sm_100a\"}, \"rows\": [" ROW(1, 1, 1, 1,
                                                                     "\"cuda_recurrent\": 1") "]}");
  expect_taken(CUDA(0), 16, 32, 1, 17, "cuda_recurrent");
  /* Before the first of a curve it says nothing, and the limits hold. */
  load(HEAD "\"device\": {\"target\": \"sm_100a\"}, \"rows\": [" ROW(1, 1, 1, 64,
                                                                     "\"triton_chunked\": 1") "]}");
  expect_taken(CUDA(0), 1, 1, 1, 64, "triton_chunked");
  const answer got = asked(CUDA(0), 1, 1, 1, 16);
  assert_string_equal(got.table, "");
  assert_string_equal(got.taken, "cuda_recurrent");
}

static double time_of(const answer *of, const char *name) {
  static const char *const own[] = {"cuda_recurrent", "triton_chunked", "triton_fused"};
  for (int i = 0; i < COUNT(own); ++i) {
    if (strcmp(own[i], name) == 0) return of->us[2 + i];
  }
  fail();
  return 0;
}

/* The library has the rows of the file in kernels/choices that matter, without what is provided: it takes what
 * the file takes, or what is as fast by it. */
static void built_in(void) {
  machine_start("");
  static const int64_t cases[][4] = {{16, 32, 1, 64},   {16, 32, 1, 100},   {16, 32, 1, 300},
                                     {16, 32, 1, 5000}, {16, 32, 1, 90000}, {4, 8, 1, 8192},
                                     {8, 16, 1, 9000},  {16, 32, 4, 9000}};
  answer own[COUNT(cases)];
  pega_error error = PEGA_ERROR_INIT;
  for (int i = 0; i < COUNT(cases); ++i) {
    own[i] = asked(CUDA(0), cases[i][0], cases[i][1], cases[i][2], cases[i][3]);
    EXPECT_TEXT(own[i].table, "the library's own table (NVIDIA H100");
    assert_string_equal(own[i].reason, "the shortest time");
    assert_true(own[i].us[6] == 0 && own[i].us[7] == 0); /* nothing of what is provided */
  }
  const char *path = getenv("PEGA_TEST_CHOICES");
  EXPECT_OK(pega_qwen35_load_choices(path, NULL, 0, &error), &error);
  for (int i = 0; i < COUNT(cases); ++i) {
    const answer got = asked(CUDA(0), cases[i][0], cases[i][1], cases[i][2], cases[i][3]);
    assert_string_equal(got.table, path);
    assert_true(time_of(&got, own[i].taken) <= 1.03 * time_of(&got, got.taken));
    assert_true(fabs(time_of(&own[i], got.taken) / time_of(&got, got.taken) - 1) < 0.2);
  }
  /* With what it has of those that are provided, once they are. */
  provide();
  expect_taken(CUDA(0), 16, 32, 1, 64, "triton_fused");
  expect_taken(CUDA(0), 16, 32, 1, 512, "triton_chunked");
  expect_taken(CUDA(0), 16, 32, 1, 8192, "flashinfer_cp");
  expect_taken(CUDA(0), 4, 8, 1, 8192, "flashinfer_cp");
}

/* --- the rule, example by example --- */

static void examples(void) {
  machine_start("");
  load(
      HEAD H100
      "\"rows\": [" ROW(2, 4, 1, 16, "\"cuda_recurrent\": 10, \"triton_chunked\": 20") ", " ROW(2, 4, 1, 256, "\"cuda_recurrent\": 40, \"triton_chunked\": 20") ", " ROW(
          2, 4, 4, 64,
          "\"triton_chunked\": 5, \"cuda_recurrent\": 6") ", " ROW(4, 4, 4, 64,
                                                                   "\"cuda_recurrent\": 5, \"triton_chunked\": 6") "]}");
  /* 10 to 40 and 20 to 20 meet half-way between 16 and 256. */
  expect_taken(CUDA(0), 2, 4, 1, 63, "cuda_recurrent");
  expect_taken(CUDA(0), 2, 4, 1, 65, "triton_chunked");
  /* Past the last, times grow as tokens do. Several sequences of more than 1024 tokens in all are too many. */
  expect_taken(CUDA(0), 2, 4, 1, 100000, "triton_chunked");
  answer got = asked(CUDA(0), 2, 4, 1, 100000);
  assert_true(fabs(got.us[2] / got.us[3] - 2) < 0.01);
  assert_true(fabs(got.us[3] / (20 * 100000 / 256.0) - 1) < 0.01);
  assert_string_equal(got.rows, "1");
  expect_taken(CUDA(0), 4, 4, 4, 1024, "cuda_recurrent");
  expect_taken(CUDA(0), 4, 4, 4, 1025, "triton_chunked");
  /* As parallel: the curve with the likest heads. */
  expect_taken(CUDA(0), 2, 4, 4, 256, "triton_chunked");
  expect_taken(CUDA(0), 1, 2, 8, 512, "triton_chunked");
  expect_taken(CUDA(0), 16, 16, 1, 64, "cuda_recurrent");
  /* Before the first of a curve it says nothing, and the next table is asked. */
  EXPECT_TEXT(asked(CUDA(0), 2, 4, 1, 15).table, "own table");
  /* Between 4 and 16 in parallel both count: at 64 tokens 20 and 20, then 5 and 6. */
  got = asked(CUDA(0), 2, 4, 2, 128);
  assert_string_equal(got.rows, "0, 1, 2");
  assert_true(fabs(got.us[3] - 10) < 0.1 && fabs(got.us[2] - sqrt(20.0 * 6)) < 0.1); /* at 64 */
  /* Of equal times the first. */
  load(HEAD H100
       "\"rows\": [" ROW(2, 4, 1, 1, "\"triton_chunked\": 7, \"cuda_recurrent\": 7") "]}");
  expect_taken(CUDA(0), 2, 4, 1, 500, "cuda_recurrent");
  /* The one for the same number of multiprocessors first, then the last that was loaded. */
  load(HEAD "\"device\": {\"target\": \"sm_90\", \"multiprocessors\": 78}, \"rows\": [" ROW(
      2, 4, 1, 1, "\"triton_chunked\": 7") "]}");
  expect_taken(CUDA(0), 2, 4, 1, 500, "cuda_recurrent");
  /* Who is not measured is not taken; where none that was can do it, the next table is asked. */
  load(HEAD H100 "\"rows\": [" ROW(2, 4, 1, 1, "\"flashinfer\": 7") "]}");
  expect_taken(CUDA(0), 2, 4, 1, 500, "triton_chunked");
  provide();
  expect_taken(CUDA(0), 2, 4, 1, 500, "flashinfer");
  expect_taken(CUDA(0), 2, 4, 65536, 65536, "triton_chunked");
  load(HEAD H100 "\"rows\": [" ROW(2, 4, 1, 1, "\"flashinfer\": 7, \"triton_chunked\": 8.5") "]}");
  expect_taken(CUDA(0), 2, 4, 1, 500, "flashinfer");
  /* The CPU has its own. */
  expect_taken(CPU, 2, 4, 1, 500, "cpu_chunked");
  load(HEAD CPU_DEVICE "\"rows\": [" ROW(2, 4, 1, 2, "\"cpu_recurrent\": 7") "]}");
  expect_taken(CPU, 2, 4, 1, 500, "cpu_recurrent");
  expect_taken(CPU, 2, 4, 1, 1, "cpu_recurrent");
  expect_taken(CPU, 2, 4, 2, 2000, "cpu_chunked");
}

/* --- the rule, by a model --- */

enum { kMostPoints = 60, kNames = 5 };
static const char *const names[kNames] = {"cuda_recurrent", "triton_chunked", "triton_fused",
                                          "flashinfer", "flashinfer_cp"};
static const int index_of[kNames] = {2, 3, 4, 6, 7};

typedef struct point {
  int64_t hk, hv, n, tokens;
  double us[kNames]; /* 0 for none */
} point;

static uint64_t random_state = 12345;
static uint32_t random_below(uint32_t most) {
  random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)(random_state >> 33) % most;
}
static double random_part(void) { return random_below(1 << 20) / (double)(1 << 20); }

static bool same_curve(const point *a, const point *b) {
  return a->hk == b->hk && a->hv == b->hv && a->n == b->n;
}

/* As a table has sizes: in units of 1/1024 of a factor of two. */
static double lg(double number) { return number > 1 ? floor(log2(number) * 1024 + 0.5) / 1024 : 0; }

/* Times that the model expects of a call by one curve; false where it has only longer ones. */
static bool model_curve(const point *points, int count, const point *curve, double tokens,
                        double us[kNames]) {
  const point *below = NULL;
  const point *above = NULL;
  for (int i = 0; i < count; ++i) {
    const point *at = &points[i];
    if (!same_curve(at, curve)) continue;
    if ((double)at->tokens <= tokens && (below == NULL || at->tokens > below->tokens)) below = at;
    if ((double)at->tokens > tokens && (above == NULL || at->tokens < above->tokens)) above = at;
  }
  if (below == NULL) return false;
  for (int i = 0; i < kNames; ++i) {
    if (above == NULL) {
      us[i] = below->us[i] * exp2(lg(tokens) - lg((double)below->tokens));
      continue;
    }
    const double part = (lg(tokens) - lg((double)below->tokens)) /
                        (lg((double)above->tokens) - lg((double)below->tokens));
    us[i] = below->us[i] == 0 || above->us[i] == 0
                ? 0
                : exp(log(below->us[i]) * (1 - part) + log(above->us[i]) * part);
  }
  return true;
}

static double off(const point *at, int64_t hk, int64_t hv) {
  return fabs(log2((double)at->hv / (double)hv)) + fabs(log2((double)at->hk / (double)hk));
}

/* The curve nearest in its heads of those that are the next above (or below) in parallel. NULL for none;
 * `*tied` where several are as near. */
static const point *model_next(const point *points, int count, bool above, int64_t hk, int64_t hv,
                               int64_t n, bool *tied) {
  const point *best = NULL;
  for (int i = 0; i < count; ++i) {
    const point *at = &points[i];
    const int64_t parallel = at->hv * at->n;
    if (above ? parallel < hv * n : parallel >= hv * n) continue;
    if (best == NULL || (above ? parallel < best->hv * best->n : parallel > best->hv * best->n)) {
      best = at;
      *tied = false;
    } else if (parallel == best->hv * best->n && !same_curve(at, best)) {
      const double difference = off(at, hk, hv) - off(best, hk, hv);
      if (fabs(difference) < 0.01) *tied = true;
      if (difference < -0.01) {
        best = at;
        *tied = false;
      }
    }
  }
  return best;
}

/* Times that the model expects; false where no curve says anything. */
static bool model(const point *points, int count, int64_t hk, int64_t hv, int64_t n, int64_t total,
                  double us[kNames], bool *tied) {
  const double tokens = (double)total / (double)n;
  double times[2][kNames];
  bool tie[2] = {false, false};
  const point *above = model_next(points, count, true, hk, hv, n, &tie[1]);
  const bool alike = above != NULL && above->hv * above->n == hv * n;
  const point *below = alike ? NULL : model_next(points, count, false, hk, hv, n, &tie[0]);
  const bool has_above = above != NULL && model_curve(points, count, above, tokens, times[1]);
  const bool has_below = below != NULL && model_curve(points, count, below, tokens, times[0]);
  *tied = tie[0] || tie[1];
  if (!has_above && !has_below) return false;
  for (int i = 0; i < kNames; ++i) {
    if (!has_above || !has_below) {
      us[i] = times[has_above ? 1 : 0][i];
      continue;
    }
    const double part = (lg((double)(hv * n)) - lg((double)(below->hv * below->n))) /
                        (lg((double)(above->hv * above->n)) - lg((double)(below->hv * below->n)));
    us[i] = times[0][i] == 0 || times[1][i] == 0
                ? 0
                : exp(log(times[0][i]) * (1 - part) + log(times[1][i]) * part);
  }
  return true;
}

/* A table of random curves, and its text. */
static int draw_table(point points[kMostPoints], char *text, size_t room) {
  static const int64_t heads[][2] = {{1, 1}, {1, 4}, {4, 8}, {16, 32}, {16, 48}, {2, 64}};
  int count = 0;
  while (count < 2 + (int)random_below(kMostPoints - 2)) {
    point at;
    const int64_t *of = heads[random_below(COUNT(heads))];
    at.hk = of[0];
    at.hv = of[1];
    static const int64_t numbers[] = {1, 2, 3, 5, 8, 13, 21, 34};
    at.n = numbers[random_below(COUNT(numbers))];
    at.tokens = (int64_t)exp2(random_part() * 14);
    bool there = false;
    for (int i = 0; i < count; ++i) {
      /* Where neighbours differ by little, a table's 1/1024 of a factor of two is much. */
      there = there || (same_curve(&points[i], &at) &&
                        fabs(log2((double)points[i].tokens / (double)at.tokens)) < 0.1);
    }
    if (there) continue;
    int some = 0;
    for (int i = 0; i < kNames; ++i) {
      at.us[i] = random_below(4) == 0 ? 0 : 100 + 60 * random_part();
      some += at.us[i] != 0;
    }
    if (some > 0) points[count++] = at;
  }
  size_t used = (size_t)snprintf(text, room, HEAD H100 "\"rows\": [");
  for (int i = 0; i < count; ++i) {
    const point *at = &points[i];
    used += (size_t)snprintf(text + used, room - used,
                             "%s{\"tokens\": %lld, \"key_heads\": %lld, \"value_heads\": %lld, "
                             "\"sequences\": %lld, \"low\": [], \"us\": {",
                             i == 0 ? "" : ", ", (long long)at->tokens, (long long)at->hk,
                             (long long)at->hv, (long long)at->n);
    const char *comma = "";
    for (int k = 0; k < kNames; ++k) {
      if (at->us[k] == 0) continue;
      used +=
          (size_t)snprintf(text + used, room - used, "%s\"%s\": %.6f", comma, names[k], at->us[k]);
      comma = ", ";
    }
    used += (size_t)snprintf(text + used, room - used, "}}");
  }
  snprintf(text + used, room - used, "]}");
  return count;
}

static void by_a_model(void) {
  machine_start("");
  provide();
  static char text[1 << 16];
  static point points[kMostPoints];
  int chosen_by_table = 0;
  int looked_at = 0;
  for (int table = 0; table < 60; ++table) {
    const int count = draw_table(points, text, sizeof text);
    load(text);
    for (int i = 0; i < 100; ++i) {
      static const int64_t heads[][2] = {{1, 1}, {4, 8}, {8, 16}, {16, 32}, {1, 3}, {16, 64}};
      const int64_t *of = heads[random_below(COUNT(heads))];
      const int64_t n = 1 + random_below(50);
      const int64_t total = n + (int64_t)(exp2(random_part() * 12) * (double)n) - n / 2;
      double us[kNames];
      bool tied;
      bool beside = false;
      for (int k = 0; k < count; ++k) {
        /* Too near to a point to say on which side of it a table has the call. */
        const double apart = log2((double)total / (double)n / (double)points[k].tokens);
        beside = beside || (apart != 0 && fabs(apart) < 0.003);
      }
      if (beside) continue;
      const bool known = model(points, count, of[0], of[1], n, total, us, &tied);
      if (tied) continue;
      const answer got = asked(CUDA(0), of[0], of[1], n, total);
      if (!known) {
        /* The table before it, of random sizes too, or the library's own. */
        assert_string_not_equal(got.reason, "");
        continue;
      }
      ++looked_at;
      double least = 0;
      int named = -1;
      for (int k = 0; k < kNames; ++k) {
        if (strcmp(got.taken, names[k]) == 0) named = k;
        if (k == 0 && n > 1 && total > 1024) continue;
        if (us[k] != 0 && (least == 0 || us[k] < least)) least = us[k];
      }
      if (least == 0) {
        assert_string_not_equal(got.reason, "the shortest time");
        continue;
      }
      ++chosen_by_table;
      assert_string_equal(got.table, "given");
      assert_true(named >= 0);
      for (int k = 0; k < kNames; ++k) {
        const double ours = got.us[index_of[k]];
        if (us[k] == 0 ? ours != 0 : fabs(ours / us[k] - 1) > 0.015) {
          printf("%s\n", text);
          print_error("%s at HK=%d HV=%d N=%d T=%d: expected %f us, got %f by rows %s\n", names[k],
                      (int)of[0], (int)of[1], (int)n, (int)total, us[k], ours, got.rows);
          fail();
        }
      }
      assert_true(us[named] <= least * 1.015);
    }
  }
  assert_true(chosen_by_table > 2000);
  printf("%d choices, %d of them by a table\n", looked_at, chosen_by_table);
}

/* --- what is refused --- */

static void refused(void) {
  machine_start("");
  pega_error error = PEGA_ERROR_INIT;
  const bool counted = allocations_are_counted();
#define GOOD_ROW ROW(2, 4, 1, 64, "\"triton_chunked\": 5")
  static const struct {
    pega_status status;
    const char *text, *says;
  } all[] = {
      {PEGA_ERROR_FORMAT, "", "no JSON"},
      {PEGA_ERROR_FORMAT, "[]", "expected an object, got an array"},
      {PEGA_ERROR_FORMAT, "{}", "the field 'schema_version' is missing"},
      {PEGA_ERROR_FORMAT, HEAD H100 "\"rows\": [" GOOD_ROW "]", "no JSON"},
      {PEGA_ERROR_FORMAT, HEAD H100 "\"rows\": [" GOOD_ROW "]}}", "no JSON"},
      {PEGA_ERROR_FORMAT, HEAD H100 "\"rows\": [" GOOD_ROW "], \"more\": 1}",
       "unknown field 'more'"},
      {PEGA_ERROR_FORMAT, "{\"schema_version\": 2, \"function\": \"x\"}",
       "schema_version: expected the integer 1, got 2"},
      {PEGA_ERROR_FORMAT, "{\"schema_version\": 1, \"function\": \"x\"}",
       "expected times of the function " PEGA_QWEN35_PREFILL},
      {PEGA_ERROR_FORMAT, "{\"schema_version\": 1, \"function\": 3}",
       "function: expected a string"},
      {PEGA_ERROR_FORMAT, HEAD "\"rows\": [" GOOD_ROW "]}", "the field 'device' is missing"},
      {PEGA_ERROR_FORMAT, HEAD "\"device\": 1, \"rows\": [" GOOD_ROW "]}",
       "device: expected an object, got 1"},
      {PEGA_ERROR_FORMAT, HEAD "\"device\": {}, \"rows\": [" GOOD_ROW "]}",
       "the field 'target' is missing"},
      {PEGA_ERROR_FORMAT, HEAD "\"device\": {\"target\": \"sm90\"}, \"rows\": [" GOOD_ROW "]}",
       "device: expected a target like sm_90, or cpu"},
      {PEGA_ERROR_RANGE,
       HEAD "\"device\": {\"target\": \"sm_90aaaaaaaaaaaaaaaa\"}, \"rows\": [" GOOD_ROW "]}",
       "device.target: expected a string of 1 to 14 bytes"},
      {PEGA_ERROR_FORMAT,
       HEAD "\"device\": {\"target\": \"sm_90\", \"multiprocessors\": -1}, \"rows\": [" GOOD_ROW
            "]}",
       "device.multiprocessors: expected an integer 0 to"},
      {PEGA_ERROR_FORMAT,
       HEAD "\"device\": {\"target\": \"sm_90\", \"processor\": 1}, \"rows\": [" GOOD_ROW "]}",
       "unknown field 'processor'"},
      {PEGA_ERROR_FORMAT, HEAD H100 "\"date\": \"\"}", "the field 'rows' is missing"},
      {PEGA_ERROR_FORMAT, HEAD H100 "\"rows\": {}}", "rows: expected an array"},
      {PEGA_ERROR_FORMAT, HEAD H100 "\"rows\": []}", "rows: expected an array of 1 to 16384 items"},
      {PEGA_ERROR_FORMAT, HEAD H100 "\"rows\": [1]}", "rows[0]: expected an object, got 1"},
      {PEGA_ERROR_FORMAT, HEAD H100 "\"rows\": [" GOOD_ROW ", {}]}",
       "rows[1]: the field 'key_heads' is missing"},
      {PEGA_ERROR_FORMAT, HEAD H100 "\"rows\": [" ROW(0, 4, 1, 64, "\"triton_chunked\": 5") "]}",
       "rows[0].key_heads: expected an integer 1 to 65536, got 0"},
      {PEGA_ERROR_FORMAT, HEAD H100 "\"rows\": [" ROW(2, 65537, 1, 64, "") "]}",
       "rows[0].value_heads: expected an integer 1 to 65536"},
      {PEGA_ERROR_FORMAT, HEAD H100 "\"rows\": [" ROW(2, 3, 1, 64, "") "]}",
       "rows[0]: expected value_heads to be a multiple of key_heads"},
      {PEGA_ERROR_FORMAT, HEAD H100 "\"rows\": [" ROW(2, 4, 2147483648, 64, "") "]}",
       "rows[0].sequences: expected an integer 1 to 2147483647"},
      {PEGA_ERROR_FORMAT, HEAD H100 "\"rows\": [" ROW(2, 4, 1, 1.5, "") "]}",
       "rows[0].tokens: expected an integer"},
      {PEGA_ERROR_FORMAT, HEAD H100 "\"rows\": [" ROW(2, 4, 1, 1e300, "") "]}",
       "rows[0].tokens: expected an integer"},
      {PEGA_ERROR_FORMAT, HEAD H100 "\"rows\": [" ROW(2, 4, 1, 64, "") "]}",
       "rows[0].us: expected a time or more"},
      {PEGA_ERROR_FORMAT, HEAD H100 "\"rows\": [" ROW(2, 4, 1, 64, "\"triton_chunked\": 0") "]}",
       "rows[0].us.triton_chunked: expected microseconds, 0.001 to 1e12, got 0"},
      {PEGA_ERROR_FORMAT, HEAD H100 "\"rows\": [" ROW(2, 4, 1, 64, "\"triton_chunked\": 1e13") "]}",
       "expected microseconds"},
      {PEGA_ERROR_FORMAT, HEAD H100 "\"rows\": [" ROW(2, 4, 1, 64, "\"triton_chunked\": -3") "]}",
       "expected microseconds"},
      {PEGA_ERROR_FORMAT,
       HEAD H100 "\"rows\": [" ROW(2, 4, 1, 64, "\"triton_chunked\": \"3\"") "]}",
       "rows[0].us.triton_chunked: expected a number, got \"3\""},
      {PEGA_ERROR_FORMAT, HEAD H100 "\"rows\": [" ROW(2, 4, 1, 64, "\"triton_chunket\": 3") "]}",
       "unknown field 'triton_chunket'; the nearest is 'triton_chunked'"},
      {PEGA_ERROR_FORMAT, HEAD H100 "\"rows\": [" ROW(2, 4, 1, 64, "\"cpu_chunked\": 3") "]}",
       "unknown field 'cpu_chunked'"},
      {PEGA_ERROR_FORMAT,
       HEAD H100 "\"rows\": [{\"key_heads\": 1, \"value_heads\": 1, \"sequences\": 1, "
                 "\"tokens\": 1}]}",
       "rows[0]: the field 'us' is missing"},
      {PEGA_ERROR_FORMAT,
       HEAD H100 "\"rows\": [{\"key_heads\": 1, \"value_heads\": 1, \"sequences\": 1, "
                 "\"tokens\": 1, \"us\": 3}]}",
       "rows[0].us: expected an object, got 3"},
      {PEGA_ERROR_FORMAT, HEAD H100 "\"rows\": [" GOOD_ROW ", " GOOD_ROW "]}",
       "are of sizes that cannot be told apart (less than 0.07 %)"},
      {PEGA_ERROR_FORMAT, HEAD CPU_DEVICE "\"rows\": [" GOOD_ROW "]}",
       "unknown field 'triton_chunked'"},
  };
  for (int i = 0; i < COUNT(all); ++i) {
    EXPECT_ERROR(pega_qwen35_load_choices("a/table", all[i].text, strlen(all[i].text), &error),
                 &error, all[i].status, "a/table: ", all[i].says);
    if (counted) allocations_begin(0);
    const pega_status again =
        pega_qwen35_load_choices("a/table", all[i].text, strlen(all[i].text), NULL);
    if (counted) assert_int_equal(allocations_end().live, 0);
    assert_int_equal(again, all[i].status);
  }
  EXPECT_ERROR(pega_qwen35_load_choices(NULL, "x", 1, &error), &error, PEGA_ERROR_FORMAT,
               "choices in memory: ");
  EXPECT_ERROR(pega_qwen35_load_choices(NULL, NULL, 0, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "path and text are NULL");
  /* Every piece that is cut off, and bytes of any kind. */
  static const char whole[] = HEAD H100 "\"rows\": [" GOOD_ROW "]}";
  for (size_t size = 0; size + 1 < sizeof whole; ++size) {
    assert_int_not_equal(pega_qwen35_load_choices("cut", whole, size, &error), PEGA_OK);
  }
  /* Nothing of it was taken. */
  EXPECT_TEXT(asked(CUDA(0), 16, 32, 1, 512).table, "own table");
  /* Files. */
  EXPECT_ERROR(pega_qwen35_load_choices("/nonexistent/table.json", NULL, 0, &error), &error,
               PEGA_ERROR_NOT_FOUND, "/nonexistent/table.json: No such file");
  EXPECT_ERROR(pega_qwen35_load_choices("/", NULL, 0, &error), &error, PEGA_ERROR_RANGE,
               "/: expected a regular file of at most");
  EXPECT_ERROR(pega_qwen35_load_choices("/dev/zero", NULL, 0, &error), &error, PEGA_ERROR_RANGE,
               "expected a regular file");
  static char path[] = "choices-XXXXXX";
  const int fd = mkstemp(path);
  assert_true(fd >= 0 && write(fd, whole, sizeof whole - 1) == (ssize_t)sizeof whole - 1);
  EXPECT_OK(pega_qwen35_load_choices(path, NULL, 0, &error), &error);
  assert_string_equal(asked(CUDA(0), 2, 4, 1, 512).table, path);
  assert_int_equal(ftruncate(fd, (4 << 20) + 1), 0);
  EXPECT_ERROR(pega_qwen35_load_choices(path, NULL, 0, &error), &error, PEGA_ERROR_RANGE,
               "at most 4194304 bytes");
  if (getuid() != 0) {
    assert_int_equal(fchmod(fd, 0), 0);
    EXPECT_ERROR(pega_qwen35_load_choices(path, NULL, 0, &error), &error, PEGA_ERROR_IO,
                 "Permission denied");
  }
  close(fd);
  unlink(path);
  /* Bytes of any kind; some make another table. */
  char copy[sizeof whole];
  for (size_t i = 0; i + 1 < sizeof whole; ++i) {
    memcpy(copy, whole, sizeof whole);
    copy[i] = (char)(i * 37 + 128);
    (void)pega_qwen35_load_choices("spoilt", copy, sizeof whole - 1, &error);
  }
  pega_error_clear(&error);
}

static void out_of_memory(void) {
  if (!allocations_are_counted()) return;
  machine_start("");
  static const char text[] = HEAD H100 "\"rows\": [" GOOD_ROW "]}";
  pega_error error = PEGA_ERROR_INIT;
  bool failed = true;
  int at = 1;
  for (; failed; ++at) {
    allocations_begin(at);
    const pega_status status = pega_qwen35_load_choices("t", text, sizeof text - 1, &error);
    const allocations got = allocations_end();
    failed = got.failed;
    if (!failed) {
      EXPECT_OK(status, &error);
      assert_int_equal(got.live, 1); /* the table, which is kept */
      break;
    }
    assert_int_equal(status, PEGA_ERROR_OUT_OF_MEMORY);
    assert_int_equal(got.live, 0);
  }
  assert_true(at > 4);
  pega_error_clear(&error);
}

/* --- the environment --- */

static void write_file(const char *path, const char *text) {
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  fputs(text, file);
  assert_int_equal(fclose(file), 0);
}

static void environment(void) {
  char first[] = "choices-XXXXXX";
  char second[] = "choices-XXXXXX";
  char list[64];
  pega_error error = PEGA_ERROR_INIT;
  answer got;
  close(mkstemp(first));
  close(mkstemp(second));
  write_file(first, HEAD H100 "\"rows\": [" ROW(2, 4, 1, 1, "\"cuda_recurrent\": 5") "]}");
  write_file(second, HEAD H100 "\"rows\": [" ROW(2, 4, 1, 1, "\"triton_chunked\": 5") "]}");
  machine_start("");
  /* One that cannot be used is an error each time, until it can. */
  assert_int_equal(setenv("PEGA_CHOICES", "/nonexistent:", 1), 0);
  for (int i = 0; i < 2; ++i) {
    EXPECT_ERROR(ask(CUDA(0), 2, 4, 1, 500, &got, &error), &error, PEGA_ERROR_NOT_FOUND,
                 PEGA_QWEN35_PREFILL_EXPLAIN
                 ": PEGA_CHOICES names a table that cannot be used: "
                 "/nonexistent: No such file");
  }
  snprintf(list, sizeof list, "%s:/nonexistent", first);
  assert_int_equal(setenv("PEGA_CHOICES", list, 1), 0);
  EXPECT_ERROR(ask(CPU, 2, 4, 1, 500, &got, &error), &error, PEGA_ERROR_NOT_FOUND, "/nonexistent");
  if (allocations_are_counted()) {
    allocations_begin(0);
    assert_int_equal(ask(CPU, 2, 4, 1, 500, &got, NULL), PEGA_ERROR_NOT_FOUND);
    assert_int_equal(allocations_end().live, 0); /* the first of them is given back */
  }
  snprintf(list, sizeof list, "::%s:%s:", first, second);
  assert_int_equal(setenv("PEGA_CHOICES", list, 1), 0);
  expect_taken(CUDA(0), 2, 4, 1, 500, "cuda_recurrent"); /* the first of them */
  assert_string_equal(asked(CUDA(0), 2, 4, 1, 500).table, first);
  /* It is read once. What is loaded goes before it. */
  assert_int_equal(setenv("PEGA_CHOICES", "/nonexistent", 1), 0);
  expect_taken(CUDA(0), 2, 4, 1, 500, "cuda_recurrent");
  load(HEAD H100 "\"rows\": [" ROW(2, 4, 1, 1, "\"triton_chunked\": 5") "]}");
  expect_taken(CUDA(0), 2, 4, 1, 500, "triton_chunked");
  unlink(first);
  unlink(second);
  pega_error_clear(&error);
}

/* --- a call --- */

static pega_function *workspace_function;

/* Chooses as a call does, and nothing else of note. */
static int64_t workspace_of(int64_t tokens) {
  const pega_value args[] = {pega_value_int(tokens), pega_value_int(1), pega_value_int(2),
                             pega_value_int(4), pega_value_device(CUDA(0))};
  pega_value out = pega_value_none();
  return pega_function_call(workspace_function, args, 5, &out, NULL) == PEGA_OK ? out.as.i64 : -1;
}

static void find_workspace_function(void) {
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_OK(pega_registry_get(PEGA_QWEN35_PREFILL_WORKSPACE, &workspace_function, &error), &error);
}

static void costs_nothing(void) {
  machine_start("");
  find_workspace_function();
  assert_int_equal(workspace_of(500) > 0, true); /* reads the environment, opens the driver */
  load(HEAD H100 "\"rows\": [" ROW(2, 4, 1, 1, "\"triton_chunked\": 5") ", " ROW(
      2, 4, 1, 1000, "\"triton_chunked\": 5, \"cuda_recurrent\": 6") "]}");
  if (!allocations_are_counted()) return;
  const uint64_t calls = pega_fake_driver_num_calls();
  allocations_begin(0);
  const int64_t bytes = workspace_of(500);
  const allocations got = allocations_end();
  assert_true(bytes > 0);
  assert_int_equal(got.made, 0);
  assert_int_equal(got.locks, 0);
  assert_int_equal(pega_fake_driver_num_calls(), calls);
}

/* --- threads --- */

enum { kThreads = 4 };
static atomic_int ready;
static atomic_bool stop;

static void *asks_all_the_time(void *unused) {
  (void)unused;
  atomic_fetch_add(&ready, 1);
  const int64_t recurrent = 0;
  while (!atomic_load(&stop)) {
    const int64_t bytes = workspace_of(500);
    assert_true(bytes == recurrent || bytes > 100000);
  }
  return NULL;
}

static void loaded_meanwhile(void) {
  char path[] = "choices-XXXXXX";
  close(mkstemp(path));
  write_file(path, HEAD H100 "\"rows\": [" ROW(2, 4, 1, 1, "\"cuda_recurrent\": 5") "]}");
  assert_int_equal(setenv("PEGA_CHOICES", path, 1), 0);
  machine_start("");
  find_workspace_function();
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; ++i) {
    assert_int_equal(pthread_create(&threads[i], NULL, asks_all_the_time, NULL), 0);
  }
  while (atomic_load(&ready) < kThreads) usleep(100);
  for (int i = 0; i < 50; ++i) {
    load(i % 2 == 0 ? HEAD H100 "\"rows\": [" ROW(2, 4, 1, 1, "\"triton_chunked\": 5") "]}"
                    : HEAD H100 "\"rows\": [" ROW(2, 4, 1, 1, "\"cuda_recurrent\": 5") "]}");
    usleep(200);
  }
  atomic_store(&stop, true);
  for (int i = 0; i < kThreads; ++i) pthread_join(threads[i], NULL);
  unlink(path);
}

#define IN_CHILD(name)                    \
  static void test_##name(void **state) { \
    (void)state;                          \
    machine_in_child(name);               \
  }
IN_CHILD(defaults)
IN_CHILD(other_target)
IN_CHILD(built_in)
IN_CHILD(examples)
IN_CHILD(by_a_model)
IN_CHILD(refused)
IN_CHILD(out_of_memory)
IN_CHILD(environment)
IN_CHILD(costs_nothing)
IN_CHILD(loaded_meanwhile)

int main(void) {
  unsetenv("PEGA_CHOICES");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_defaults),      cmocka_unit_test(test_other_target),
      cmocka_unit_test(test_built_in),      cmocka_unit_test(test_examples),
      cmocka_unit_test(test_by_a_model),    cmocka_unit_test(test_refused),
      cmocka_unit_test(test_out_of_memory), cmocka_unit_test(test_environment),
      cmocka_unit_test(test_costs_nothing), cmocka_unit_test(test_loaded_meanwhile),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
