/* SPDX-License-Identifier: Apache-2.0 */
/* The commonest values of a launch are had without interpreting their expression. Each value here is in
 * two kernels: as it is, and written so that it takes the interpreter. On arguments at random both launch
 * the same, or fail the same. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "machine.h"
#include "packs.h"

enum { kNumCalls = 20000, kNumWays = 2, kTextSize = 64, kParamsSize = 12 };

static const char signature[] =
    "[{'name':'n','type':'int'},{'name':'m','type':'int'},"
    "{'name':'o','type':'int','optional':true},{'name':'b','type':'bool'},"
    "{'name':'p','type':'pointer'},"
    "{'name':'fits','type':'int','min':-2147483648,'max':2147483647},"
    "{'name':'above','type':'int','min':-2147483648,'max':2147483648},"
    "{'name':'below','type':'int','min':-2147483649,'max':2147483647},"
    "{'name':'some','type':'int','optional':true,'min':-5,'max':5}]";

/* In grids, conditions and an i64. */
static const char *const values[] = {"n",
                                     "m",
                                     "o",
                                     "b",
                                     "p",
                                     "fits",
                                     "some",
                                     "0",
                                     "3",
                                     "-n",
                                     "n + 1",
                                     "n * m",
                                     "n / 3",
                                     "min(n, 5)",
                                     "n % 0",
                                     "n % 1",
                                     "n % 7",
                                     "n % 16",
                                     "o % 7",
                                     "p % 16",
                                     "n % m",
                                     "n % 7 * m",
                                     "cdiv(n, 0)",
                                     "cdiv(n, 1)",
                                     "cdiv(n, 3)",
                                     "cdiv(n, 64)",
                                     "cdiv(n, 4294967295)",
                                     "cdiv(n, 4294967296)",
                                     "cdiv(o, 2)",
                                     "cdiv(o, 7)",
                                     "cdiv(b, 2)",
                                     "cdiv(n, m)",
                                     "cdiv(n, 64) + m",
                                     "cdiv(n, 64) * 2",
                                     "cdiv(n, 64) * m",
                                     "cdiv(n, 7) * m",
                                     "cdiv(n, 64) * o"};
/* In an i32. */
static const char *const narrow[] = {"fits", "above", "below", "some", "n"};

typedef struct way {
  char name[24], value[kTextSize], narrow[kTextSize], small[kTextSize], equal[kTextSize];
  kernel_param params[3];
  kernel_variant variants[3];
} way;

typedef struct outcome {
  pega_status status;
  uint64_t num_launches;
  uint32_t grid[3];
  unsigned char params[kParamsSize];
  char entry[8];
  char text[512];
} outcome;

static unsigned seed;

static uint64_t next_random(void) {
  uint64_t bits = 0;
  for (int i = 0; i < 4; ++i) bits = bits << 16 ^ (uint64_t)(unsigned)rand_r(&seed);
  return bits;
}

static int64_t below(int64_t count) { return (int64_t)(next_random() % (uint64_t)count); }

/* Mostly what a launch is given, and the ends of what there is. */
static int64_t some_int(void) {
  switch (below(8)) {
    case 0:
      return (int64_t)next_random();
    case 1:
      return INT64_MAX - below(3);
    case 2:
      return INT64_MIN + below(3);
    case 3:
      return -below(70);
    default:
      return below(300);
  }
}

static int64_t in_range(int64_t least, int64_t most) {
  switch (below(4)) {
    case 0:
      return least + below(3);
    case 1:
      return most - below(3);
    default:
      return below(5);
  }
}

static pega_value maybe(int64_t number) {
  pega_value value = pega_value_int(number);
  if (below(3) != 0) return value;
  /* What stands in a none counts for nothing. */
  const uint64_t left = value.as.u64;
  value = pega_value_none();
  value.as.u64 = left;
  return value;
}

static void fill(pega_value args[9]) {
  args[0] = pega_value_int(some_int());
  if (args[0].as.i64 >= 0 && below(4) == 0) args[0] = pega_value_uint(args[0].as.u64);
  args[1] = pega_value_int(some_int());
  args[2] = maybe(some_int());
  args[3] = pega_value_bool(below(2) != 0);
  args[4] = pega_value_pointer((void *)(uintptr_t)(some_int() & INT64_MAX));
  args[5] = pega_value_int(in_range(INT32_MIN, INT32_MAX));
  args[6] = pega_value_int(in_range(INT32_MIN, (int64_t)INT32_MAX + 1));
  args[7] = pega_value_int(in_range((int64_t)INT32_MIN - 1, INT32_MAX));
  args[8] = maybe(in_range(-5, 5));
}

/* The kernel of value `index`; slow: what no step is made of. */
static void describe(int index, bool slow, way *out, kernel_function *function) {
  static const char *const entries[] = {"small", "equal", "other"};
  const char *more = slow ? " + 0" : "";
  snprintf(out->name, sizeof out->name, "t.%s%d", slow ? "slow" : "fast", index);
  char value[kTextSize - 16];
  snprintf(value, sizeof value, slow ? "(%s) + 0" : "%s", values[index]);
  snprintf(out->value, sizeof out->value, "%s", value);
  snprintf(out->narrow, sizeof out->narrow, "%s%s", narrow[index % COUNT(narrow)], more);
  snprintf(out->small, sizeof out->small, "['%s <= 40']", value);
  snprintf(out->equal, sizeof out->equal, "['%s == 100']", value);
  out->params[0] = (kernel_param)PARAM("i64", out->value);
  out->params[1] = (kernel_param)PARAM("i32", out->narrow);
  out->params[2] = (kernel_param)END_OF_PARAMS;
  for (int i = 0; i < COUNT(out->variants); ++i) {
    out->variants[i] = (kernel_variant){"sm_90", entries[i], .params = out->params,
                                        .grid = {out->value, "2", "1"}};
  }
  out->variants[0].when = out->small;
  out->variants[1].when = out->equal;
  out->variants[0].grid[2] = out->value;
  *function = (kernel_function){out->name, signature, out->variants, COUNT(out->variants), NULL};
}

static outcome call(pega_function *function, const pega_value *args) {
  pega_error error = PEGA_ERROR_INIT;
  outcome got;
  memset(&got, 0, sizeof got);
  pega_fake_driver_clear_records();
  got.status = pega_function_call(function, args, 9, NULL, &error);
  snprintf(got.text, sizeof got.text, "%s", pega_error_message(&error));
  pega_error_clear(&error);
  got.num_launches = pega_fake_driver_num_launches();
  if (got.num_launches == 0) return got;
  const pega_fake_driver_launch launch = machine_last_launch();
  memcpy(got.grid, launch.grid, sizeof got.grid);
  assert_int_equal(launch.params_size, kParamsSize);
  memcpy(got.params, launch.params_bytes, sizeof got.params);
  snprintf(got.entry, sizeof got.entry, "%s", launch.name);
  return got;
}

static bool same(const outcome *a, const outcome *b) {
  return a->status == b->status && a->num_launches == b->num_launches &&
         memcmp(a->grid, b->grid, sizeof a->grid) == 0 &&
         memcmp(a->params, b->params, sizeof a->params) == 0 && strcmp(a->entry, b->entry) == 0;
}

static void tell(const char *what, const outcome *of) {
  int64_t wide;
  int32_t thin;
  memcpy(&wide, of->params, sizeof wide);
  memcpy(&thin, of->params + sizeof wide, sizeof thin);
  print_message("%s: %s, %" PRIu64 " launches of '%s', grid %" PRIu32 " x %" PRIu32 " x %" PRIu32
                ", i64 %" PRId64 ", i32 %" PRId32 " %s\n",
                what, pega_status_name(of->status), of->num_launches, of->entry, of->grid[0],
                of->grid[1], of->grid[2], wide, thin, of->text);
}

static void test_steps_and_expressions(void **state) {
  (void)state;
  static way ways[COUNT(values)][kNumWays];
  static kernel_function described[COUNT(values) * kNumWays];
  static pega_function *functions[COUNT(values)][kNumWays];
  static int launched[COUNT(values)];
  pega_error error = PEGA_ERROR_INIT;
  for (int i = 0; i < COUNT(described); ++i) {
    const int index = i / kNumWays, slow = i % kNumWays;
    describe(index, slow != 0, &ways[index][slow], &described[i]);
  }
  bytes file = pack_make("steps", described, COUNT(described), NULL, 0);
  pega_pack *pack = pack_open(&file, 0);
  for (int i = 0; i < COUNT(described); ++i) {
    pega_function **function = &functions[i / kNumWays][i % kNumWays];
    EXPECT_OK(pega_pack_get(pack, described[i].name, function, &error), &error);
    EXPECT_OK(pega_function_prepare(*function, CUDA(0), &error), &error);
  }
  CUcontext context;
  assert_int_equal(cu.cuDevicePrimaryCtxRetain(&context, 0), 0);
  assert_int_equal(cu.cuCtxPushCurrent_v2(context), 0);
  for (int i = 0; i < kNumCalls; ++i) {
    const int index = i % COUNT(values);
    pega_value args[9];
    fill(args);
    const outcome fast = call(functions[index][0], args);
    const outcome slow = call(functions[index][1], args);
    launched[index] += (int)fast.num_launches;
    if (same(&fast, &slow)) continue;
    for (int arg = 0; arg < COUNT(args); ++arg) {
      print_message("argument %d: kind %d, %" PRId64 "\n", arg, (int)args[arg].kind,
                    args[arg].as.i64);
    }
    tell("as it is", &fast);
    tell("interpreted", &slow);
    fail_msg("call %d: '%s', i32 '%s': a step is not what its expression is", i, values[index],
             ways[index][0].narrow);
  }
  int total = 0;
  for (int i = 0; i < COUNT(values); ++i) total += launched[i];
  print_message("%d calls, %d launched\n", kNumCalls, total);
  assert_true(total > kNumCalls / 10);
  assert_int_equal(cu.cuCtxPopCurrent_v2(&context), 0);
  assert_int_equal(cu.cuDevicePrimaryCtxRelease_v2(0), 0);
  for (int i = 0; i < COUNT(described); ++i) {
    pega_function_release(functions[i / kNumWays][i % kNumWays]);
  }
  pega_pack_release(pack);
  bytes_free(&file);
  EXPECT_OK(pega_cuda_close(&error), &error);
  machine_expect_no_faults(0);
}

int main(void) {
  const char *given = getenv("PEGA_TEST_SEED");
  seed = given != NULL ? (unsigned)strtoul(given, NULL, 0) : (unsigned)time(NULL);
  print_message("PEGA_TEST_SEED=%u\n", seed);
  machine_start("");
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_steps_and_expressions)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
