/* SPDX-License-Identifier: Apache-2.0 */
/* The decode step on CPU tensors: against the recurrence in fp64, and what it refuses. */
#include <math.h>
#include <stdio.h>

#include "gdr_cases.h"

/* There everything takes ten times as long, and what threads share does not depend on shapes. */
#if defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZED true
#elif defined(__has_feature)
#define THREAD_SANITIZED __has_feature(thread_sanitizer)
#else
#define THREAD_SANITIZED false
#endif

/* Rounding the output to bf16 alone is about 1.7e-3. */
static const gdr_setting cpu = {.place = &gdr_cpu_place,
                                .output_limit = 2.0e-3,
                                .state_limit = 1e-4,
                                .brief = THREAD_SANITIZED};

#define CASE(name)                        \
  static void test_##name(void **state) { \
    (void)state;                          \
    gdr_case_decode_##name(&cpu);         \
  }

CASE(batches)
CASE(heads)
CASE(many_steps)
CASE(extremes)

/* ---- what is refused, with nothing written ---- */

#define REFUSED(status, ...)                                                        \
  do {                                                                              \
    pega_error error_ = PEGA_ERROR_INIT;                                            \
    EXPECT_ERROR(gdr_run(&args, &error_), &error_, status, args.name, __VA_ARGS__); \
    pega_error_clear(&error_);                                                      \
    assert_true(gdr_guarded_untouched(&output));                                    \
    assert_memory_equal(states, before, sizeof before);                             \
    gdr_decode_args(&args, &problem, &memory);                                      \
  } while (0)

enum { kRefusedHeads = 2, kRefusedSlots = 3 };

static void test_refusals(void **state) {
  (void)state;
  static float states[kRefusedSlots * kRefusedHeads * kGdrState];
  static float before[kRefusedSlots * kRefusedHeads * kGdrState];
  static int64_t slots[2] = {2, 0};
  static int32_t short_slots[2] = {2, 0};
  const int64_t ones[2] = {1, 1};
  const gdr_options options = {.num_key_heads = 1,
                               .num_value_heads = kRefusedHeads,
                               .lengths = ones,
                               .num_sequences = 2,
                               .lowest_gate = -0.1,
                               .seed = 90};
  gdr_problem problem = gdr_problem_create(&options);
  gdr_guarded output = gdr_guarded_create(2 * kRefusedHeads * kGdrDim * 2);
  gdr_memory memory = gdr_host_memory(&problem);
  memory.output = output.data;
  memory.states = states;
  memory.num_slots = kRefusedSlots;
  memory.slots = slots;
  gdr_args args;
  gdr_decode_args(&args, &problem, &memory);

  /* Slots. */
  slots[1] = 3;
  REFUSED(PEGA_ERROR_RANGE, "slots[1] is 3", "3");
  slots[1] = INT64_MAX;
  REFUSED(PEGA_ERROR_RANGE, "slots[1] is 9223372036854775807");
  slots[1] = (int64_t)1 << 32; /* would be 0 if it were cut to 32 bits */
  REFUSED(PEGA_ERROR_RANGE, "slots[1] is 4294967296");
  slots[1] = 2;
  REFUSED(PEGA_ERROR_RANGE, "slots[1] is 2", "before");
  slots[1] = 0;
  memory.slots = short_slots;
  memory.slot_bits = 32;
  gdr_decode_args(&args, &problem, &memory);
  short_slots[0] = 0;
  REFUSED(PEGA_ERROR_RANGE, "slots[1] is 0", "before");
  short_slots[0] = INT32_MAX;
  REFUSED(PEGA_ERROR_RANGE, "slots[0] is 2147483647");
  memory.slots = slots;
  memory.slot_bits = 64;
  gdr_decode_args(&args, &problem, &memory);
  args.tensors[DECODE_SLOTS].dtype = DTYPE(kDLFloat, 64, 1);
  REFUSED(PEGA_ERROR_DTYPE, "slots", "float64", "int32 or int64");
  args.tensors[DECODE_SLOTS].dtype = DTYPE(kDLUInt, 64, 1);
  REFUSED(PEGA_ERROR_DTYPE, "slots", "uint64", "int32 or int64");
  args.shapes[DECODE_SLOTS][0] = 1;
  REFUSED(PEGA_ERROR_SHAPE, "slots", "2");
  args.values[DECODE_SLOTS] = pega_value_none();
  args.shapes[DECODE_STATES][0] = 1;
  REFUSED(PEGA_ERROR_SHAPE, "states", "1", "2");

  /* Types, shapes, layouts. */
  for (int i = 0; i <= DECODE_OUTPUT; ++i) {
    if (i == DECODE_SCALE || i == DECODE_SLOTS) continue;
    char argument[32];
    snprintf(argument, sizeof argument, "argument %d '", i);
    args.tensors[i].dtype = DTYPE(kDLFloat, 16, 1);
    REFUSED(PEGA_ERROR_DTYPE, argument, "float16");
    args.tensors[i].ndim -= 1;
    REFUSED(PEGA_ERROR_SHAPE, argument);
    args.tensors[i].device = DEVICE(kDLCUDA, 0);
    REFUSED(PEGA_ERROR_DEVICE, "cuda:0");
    args.tensors[i].data = NULL;
    REFUSED(PEGA_ERROR_INVALID_ARGUMENT, argument, "NULL");
    args.values[i] = pega_value_none();
    REFUSED(PEGA_ERROR_TYPE, argument, "got None");
  }
  args.shapes[DECODE_K][1] = 2;
  REFUSED(PEGA_ERROR_SHAPE, "'k'");
  args.shapes[DECODE_STATES][3] = 64;
  REFUSED(PEGA_ERROR_SHAPE, "'states'", "128");
  args.tensors[DECODE_STATES].strides =
      SHAPE(kRefusedHeads * kGdrState, kGdrState, 1, kGdrDim); /* V by K */
  REFUSED(PEGA_ERROR_LAYOUT, "'states'", "contiguous");

  /* Memory. */
  args.tensors[DECODE_OUTPUT].data = problem.v;
  REFUSED(PEGA_ERROR_LAYOUT, "overlap", "output", "'v'");
  args.tensors[DECODE_OUTPUT].data = (char *)states + 256;
  REFUSED(PEGA_ERROR_LAYOUT, "overlap", "output", "states");
  args.tensors[DECODE_STATES].data = (char *)output.data - 1024;
  REFUSED(PEGA_ERROR_LAYOUT, "overlap", "'states'");

  /* Values, where they are looked at. */
#define WITH_CHECK args.values[DECODE_CHECK] = pega_value_bool(true)
  const float gate = problem.g[3];
  WITH_CHECK;
  problem.g[3] = 0.9f;
  REFUSED(PEGA_ERROR_RANGE, "g[1, 1] is 0.9", "log", "linear");
  problem.g[3] = NAN;
  WITH_CHECK;
  REFUSED(PEGA_ERROR_RANGE, "g[1, 1] is ");
  problem.g[3] = gate;
  const float beta = problem.beta[2];
  problem.beta[2] = 2;
  WITH_CHECK;
  REFUSED(PEGA_ERROR_RANGE, "beta[1, 0] is 2", "0 to 1");
  problem.beta[2] = beta;
  states[kRefusedHeads * kGdrState * 2 + 5] = before[kRefusedHeads * kGdrState * 2 + 5] = INFINITY;
  WITH_CHECK;
  REFUSED(PEGA_ERROR_RANGE, "states", "inf");
  states[kRefusedHeads * kGdrState * 2 + 5] = before[kRefusedHeads * kGdrState * 2 + 5] = 0;
  for (int d = 0; d < kGdrDim; ++d) problem.k[d] = 0x4000; /* 2 */
  WITH_CHECK;
  REFUSED(PEGA_ERROR_RANGE, "row [0, 0] of 'k'", "length", "normalize");
#undef WITH_CHECK

  args.count = DECODE_OUTPUT;
  REFUSED(PEGA_ERROR_ARGUMENT_COUNT, "expected 9 to 11 arguments, got 8");
  gdr_guarded_free(&output);
  gdr_problem_free(&problem);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_batches),    cmocka_unit_test(test_heads),
      cmocka_unit_test(test_many_steps), cmocka_unit_test(test_extremes),
      cmocka_unit_test(test_refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
