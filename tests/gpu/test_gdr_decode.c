/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decode step on a GPU in all its forms, against the recurrence in fp64: batches with slots in a
 * pool, states by address, captured. PEGA_TEST_BRIEF leaves a few, for tools that watch memory.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "gdr_device.h"

static gdr_setting device;

#define CASE(name)                        \
  static void test_##name(void **state) { \
    (void)state;                          \
    gdr_case_decode_##name(&device);      \
  }

CASE(batches)
CASE(heads)
CASE(many_steps)
CASE(extremes)

/* ---- the C symbols ---- */

enum { kBatch = 5 };

static gdr_problem make_batch(int64_t count, int64_t hk, int64_t hv, uint64_t seed) {
  static const int64_t ones[kBatch] = {1, 1, 1, 1, 1};
  const gdr_options options = {.num_key_heads = hk,
                               .num_value_heads = hv,
                               .lengths = ones,
                               .num_sequences = count,
                               .lowest_gate = seed % 2 == 0 ? -0.1 : -10,
                               .state_size = 0.4,
                               .seed = seed,
                               .projected = true};
  return gdr_problem_create(&options);
}

#define BITS(buffer) ((uint16_t *)(buffer).data)
#define FLOATS(buffer) ((float *)(buffer).data)

/* What the symbols do where no kernel runs. */
static void rehearse(const gdr_problem *problem, const gdr_buffer *all, float *states) {
  const gdr_memory memory = {.device = CPU,
                             .qkv = all[0].data,
                             .b = all[1].data,
                             .a = all[2].data,
                             .dt_bias = all[3].data,
                             .a_log = all[4].data,
                             .output = all[5].data,
                             .states = states,
                             .num_slots = problem->num_tokens};
  gdr_args args;
  pega_error error = PEGA_ERROR_INIT;
  gdr_decode_projected_args(&args, problem, &memory);
  EXPECT_OK(gdr_run(&args, &error), &error);
}

static void expect_symbol(int result, const char *symbol) {
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_OK(pega_symbol_last_error(&error), &error);
  if (result != 0) {
    print_error("%s returned %d\n", symbol, result);
    fail();
  }
}

static void run_symbols(int64_t hk, int64_t hv, uint64_t seed) {
  const gdr_place *place = &gdr_device_place;
  const int64_t size = hv * kGdrState;
  for (int64_t count = 1; count <= kBatch; count += kBatch - 1) {
    gdr_problem problem = make_batch(count, hk, hv, seed);
    gdr_answer answer = gdr_solve_recurrence(&problem);
    const gdr_buffer all[] = {place->create(count * (2 * hk + hv) * kGdrDim * 2, problem.qkv),
                              place->create(count * hv * 2, problem.b),
                              place->create(count * hv * 2, problem.a),
                              place->create(hv * 2, problem.dt_bias),
                              place->create(hv * 4, problem.a_log),
                              place->create(count * hv * kGdrDim * 2, NULL),
                              place->create(count * size * 4, problem.initial_state)};
    /* Addresses of states in another order than the tokens'; the last but one is padding. */
    uint64_t addresses[kBatch];
    const int64_t padding = count > 1 ? count - 2 : -1;
    for (int64_t i = 0; i < count; ++i) {
      addresses[i] = (uint64_t)(uintptr_t)(FLOATS(all[6]) + i * size);
      if (i == padding) addresses[i] = 0;
    }
    const gdr_buffer pointers = place->create(count * 8, addresses);
    CUstream stream;
    GPU_OK(gpu.stream_create(&stream, GPU_STREAM_NON_BLOCKING));
    for (int batch = count == 1 ? 0 : 1; batch < 2; ++batch) {
      gdr_device_write(all[6], problem.initial_state);
      gdr_device_poison(all[5]);
      if (batch == 1) {
        expect_symbol(gated_delta_rule_decode_batch_cuda(
                          BITS(all[0]), BITS(all[1]), BITS(all[2]), BITS(all[3]), FLOATS(all[4]),
                          pointers.data, BITS(all[5]), (int32_t)count, (int32_t)hk, (int32_t)hv,
                          kGdrDim, kGdrDim, stream),
                      "gated_delta_rule_decode_batch_cuda");
      } else {
        expect_symbol(
            gated_delta_rule_decode_cuda(BITS(all[0]), BITS(all[1]), BITS(all[2]), BITS(all[3]),
                                         FLOATS(all[4]), FLOATS(all[6]), BITS(all[5]), (int32_t)hk,
                                         (int32_t)hv, kGdrDim, kGdrDim, stream),
            "gated_delta_rule_decode_cuda");
      }
      GPU_OK(gpu.stream_synchronize(stream));
      if (gpu.fake) rehearse(&problem, all, FLOATS(all[6]));
      uint16_t *output = gdr_allocate(all[5].bytes, 1);
      float *states = gdr_allocate(all[6].bytes, 1);
      place->read(all[5], output);
      place->read(all[6], states);
      for (int64_t i = 0; i < count; ++i) {
        if (i == padding && !gpu.fake) {
          assert_memory_equal(states + i * size, problem.initial_state + i * size,
                              (size_t)size * 4);
          for (int64_t j = 0; j < hv * kGdrDim; ++j) {
            assert_int_equal(output[i * hv * kGdrDim + j], 0);
          }
          continue;
        }
        gdr_expect_within("output",
                          gdr_compare_bf16(output + i * hv * kGdrDim,
                                           answer.output + i * hv * kGdrDim, hv * kGdrDim),
                          device.output_limit, &problem, "the C symbol", "decode");
        gdr_expect_within("state",
                          gdr_compare_f32(states + i * size, answer.final_state + i * size, size),
                          device.state_limit, &problem, "the C symbol", "decode");
      }
      free(output);
      free(states);
    }
    GPU_OK(gpu.stream_destroy(stream));
    for (int i = 0; i < COUNT(all); ++i) {
      assert_true(place->intact(all[i]));
      place->destroy(all[i]);
    }
    place->destroy(pointers);
    gdr_answer_free(&answer);
    gdr_problem_free(&problem);
  }
}

static void test_symbols(void **state) {
  (void)state;
  run_symbols(2, 4, 20);
  if (gdr_device_exact) return;
  run_symbols(16, 32, 21);
  run_symbols(1, 1, 22);
  run_symbols(16, 64, 23);
}

static void expect_refused(int result, pega_status status, const char *text) {
  pega_error error = PEGA_ERROR_INIT;
  assert_int_equal(result, 1);
  EXPECT_ERROR(pega_symbol_last_error(&error), &error, status, "gated_delta_rule_decode", text);
  pega_error_clear(&error);
}

static void test_symbols_refuse(void **state) {
  (void)state;
  const gdr_place *place = &gdr_device_place;
  gdr_problem problem = make_batch(1, 1, 2, 30);
  const gdr_buffer all[] = {place->create(4 * kGdrDim * 2, problem.qkv),
                            place->create(2 * 2, problem.b),
                            place->create(2 * 2, problem.a),
                            place->create(2 * 2, problem.dt_bias),
                            place->create(2 * 4, problem.a_log),
                            place->create(2 * kGdrDim * 2, NULL),
                            place->create(2 * kGdrState * 4, problem.initial_state)};
  uint16_t *bits[6];
  for (int i = 0; i < 6; ++i) bits[i] = BITS(all[i]);
#define ONE(qkv_, output_, state_, hk_, hv_, k_, v_)                                             \
  gated_delta_rule_decode_cuda(qkv_, bits[1], bits[2], bits[3], FLOATS(all[4]), state_, output_, \
                               hk_, hv_, k_, v_, NULL)
  float *const it = FLOATS(all[6]);
  expect_refused(ONE(NULL, bits[5], it, 1, 2, 128, 128), PEGA_ERROR_INVALID_ARGUMENT,
                 "'qkv' is NULL");
  expect_refused(ONE(bits[0], NULL, it, 1, 2, 128, 128), PEGA_ERROR_INVALID_ARGUMENT,
                 "'output' is NULL");
  expect_refused(ONE(bits[0], bits[5], NULL, 1, 2, 128, 128), PEGA_ERROR_INVALID_ARGUMENT,
                 "'state' is NULL");
  expect_refused(ONE(bits[0] + 4, bits[5], it, 1, 2, 128, 128), PEGA_ERROR_LAYOUT, "aligned");
  expect_refused(ONE(bits[0], bits[5], it + 2, 1, 2, 128, 128), PEGA_ERROR_LAYOUT, "aligned");
  expect_refused(ONE(bits[0], bits[0], it, 1, 2, 128, 128), PEGA_ERROR_LAYOUT, "overlap");
  expect_refused(ONE(bits[0], bits[5], it, 1, 2, 64, 128), PEGA_ERROR_RANGE, "key_dim");
  expect_refused(ONE(bits[0], bits[5], it, 1, 2, 128, 256), PEGA_ERROR_RANGE, "val_dim");
  expect_refused(ONE(bits[0], bits[5], it, 0, 2, 128, 128), PEGA_ERROR_SHAPE, "HK = 0");
  expect_refused(ONE(bits[0], bits[5], it, 1, -2, 128, 128), PEGA_ERROR_SHAPE, "HV = -2");
  expect_refused(ONE(bits[0], bits[5], it, 2, 3, 128, 128), PEGA_ERROR_SHAPE, "multiple");
#undef ONE
  expect_refused(
      gated_delta_rule_decode_batch_cuda(bits[0], bits[1], bits[2], bits[3], FLOATS(all[4]), NULL,
                                         bits[5], 1, 1, 2, 128, 128, NULL),
      PEGA_ERROR_INVALID_ARGUMENT, "'state_ptrs' is NULL");
  expect_refused(gated_delta_rule_decode_batch_cuda(bits[0], bits[1], bits[2], bits[3],
                                                    FLOATS(all[4]), (const uint64_t *)all[6].data,
                                                    bits[5], -1, 1, 2, 128, 128, NULL),
                 PEGA_ERROR_RANGE, "-1 ");
  GPU_OK(gpu.synchronize());
  assert_true(gdr_device_untouched(all[5]));
  for (int i = 0; i < COUNT(all); ++i) {
    assert_true(place->intact(all[i]));
    place->destroy(all[i]);
  }
  gdr_problem_free(&problem);
}

/* ---- slots that are none, and capture ---- */

enum { kSlots = 4, kHeads = 2, kTokens = 3 };

/* A batch of three with states in a pool of four; `it` must not be moved. */
typedef struct batch_call {
  gdr_problem problem;
  gdr_buffer memory[8];
  float *pool;
  gdr_args args;
} batch_call;
enum { OF_Q, OF_K, OF_V, OF_G, OF_BETA, OF_OUTPUT, OF_STATES, OF_SLOTS };

static void make_call(batch_call *it, const int64_t slots[kTokens], int slot_bits) {
  static const int64_t ones[kTokens] = {1, 1, 1};
  const gdr_place *place = &gdr_device_place;
  const gdr_options options = {.num_key_heads = 1,
                               .num_value_heads = kHeads,
                               .lengths = ones,
                               .num_sequences = kTokens,
                               .lowest_gate = -0.1,
                               .state_size = 0.4,
                               .seed = 40};
  memset(it, 0, sizeof *it);
  it->problem = gdr_problem_create(&options);
  it->pool = gdr_allocate(kSlots * kHeads * kGdrState, 4);
  uint64_t random = 3;
  for (int64_t i = 0; i < kSlots * kHeads * kGdrState; ++i) {
    it->pool[i] = (float)(0.4 * gdr_normal(&random));
  }
  /* The answer's initial states are those of the slots. */
  for (int t = 0; t < kTokens; ++t) {
    if (slots[t] < 0 || slots[t] >= kSlots) continue;
    memcpy(it->problem.initial_state + t * kHeads * kGdrState,
           it->pool + slots[t] * kHeads * kGdrState, kHeads * kGdrState * 4);
  }
  int32_t narrow[kTokens];
  for (int t = 0; t < kTokens; ++t) narrow[t] = (int32_t)slots[t];
  it->memory[OF_Q] = place->create(kTokens * kGdrDim * 2, it->problem.q);
  it->memory[OF_K] = place->create(kTokens * kGdrDim * 2, it->problem.k);
  it->memory[OF_V] = place->create(kTokens * kHeads * kGdrDim * 2, it->problem.v);
  it->memory[OF_G] = place->create(kTokens * kHeads * 4, it->problem.g);
  it->memory[OF_BETA] = place->create(kTokens * kHeads * 4, it->problem.beta);
  it->memory[OF_OUTPUT] = place->create(kTokens * kHeads * kGdrDim * 2, NULL);
  it->memory[OF_STATES] = place->create(kSlots * kHeads * kGdrState * 4, it->pool);
  it->memory[OF_SLOTS] =
      slot_bits == 32 ? place->create(kTokens * 4, narrow) : place->create(kTokens * 8, slots);
  const gdr_memory memory = {.device = CUDA0,
                             .q = it->memory[OF_Q].data,
                             .k = it->memory[OF_K].data,
                             .v = it->memory[OF_V].data,
                             .g = it->memory[OF_G].data,
                             .beta = it->memory[OF_BETA].data,
                             .output = it->memory[OF_OUTPUT].data,
                             .states = it->memory[OF_STATES].data,
                             .num_slots = kSlots,
                             .slots = it->memory[OF_SLOTS].data,
                             .slot_bits = slot_bits};
  gdr_decode_args(&it->args, &it->problem, &memory);
}

static void unmake_call(batch_call *it) {
  for (int i = 0; i < COUNT(it->memory); ++i) {
    assert_true(gdr_device_place.intact(it->memory[i]));
    gdr_device_place.destroy(it->memory[i]);
  }
  free(it->pool);
  gdr_problem_free(&it->problem);
}

/* Tokens with a slot have their answer, the others zeros; states without a token stay. */
static void expect_right(const batch_call *it, const int64_t slots[kTokens], const float *pool,
                         const char *what) {
  uint16_t *output = gdr_allocate(it->memory[OF_OUTPUT].bytes, 1);
  float *states = gdr_allocate(it->memory[OF_STATES].bytes, 1);
  gdr_device_place.read(it->memory[OF_OUTPUT], output);
  gdr_device_place.read(it->memory[OF_STATES], states);
  gdr_answer answer = gdr_solve_recurrence(&it->problem);
  const int64_t size = kHeads * kGdrState;
  const int64_t row = kHeads * kGdrDim;
  bool asked[kSlots] = {false};
  for (int t = 0; t < kTokens; ++t) {
    if (slots[t] < 0 || slots[t] >= kSlots) {
      for (int64_t j = 0; j < row; ++j) assert_int_equal(output[t * row + j], 0);
      continue;
    }
    asked[slots[t]] = true;
    gdr_expect_within("output", gdr_compare_bf16(output + t * row, answer.output + t * row, row),
                      device.output_limit, &it->problem, "decode", what);
    gdr_expect_within(
        "state", gdr_compare_f32(states + slots[t] * size, answer.final_state + t * size, size),
        device.state_limit, &it->problem, "decode", what);
  }
  for (int s = 0; s < kSlots; ++s) {
    if (asked[s]) continue;
    assert_memory_equal(states + s * size, pool + s * size, (size_t)size * 4);
  }
  gdr_answer_free(&answer);
  free(output);
  free(states);
}

static void test_wrong_slots(void **state) {
  (void)state;
  if (fixture_rehearsal("slots past the pool")) skip();
  static const int64_t wrong[][kTokens] = {{4, 0, -1},
                                           {INT64_MAX, 2, INT64_MIN},
                                           {(int64_t)1 << 32, 3, 1000000},
                                           {-4, (int64_t)1 << 31, 1},
                                           {INT32_MAX, INT32_MIN, 0}};
  pega_error error = PEGA_ERROR_INIT;
  for (int w = 0; w < COUNT(wrong); ++w) {
    for (int bits = 32; bits <= 64; bits += 32) {
      int64_t slots[kTokens];
      for (int t = 0; t < kTokens; ++t) {
        slots[t] = wrong[w][t];
        if (bits == 32 && slots[t] > INT32_MAX) slots[t] = INT32_MAX;
        if (bits == 32 && slots[t] < INT32_MIN) slots[t] = INT32_MIN;
      }
      batch_call it;
      make_call(&it, slots, bits);
      EXPECT_OK(gdr_device_call(&it.args, NULL, &error), &error);
      GPU_OK(gpu.synchronize());
      expect_right(&it, slots, it.pool, "slots past the pool");
      it.args.values[DECODE_CHECK] = pega_value_bool(true);
      gdr_device_poison(it.memory[OF_OUTPUT]);
      EXPECT_ERROR(gdr_device_call(&it.args, NULL, &error), &error, PEGA_ERROR_RANGE, "slots[",
                   "expected less than 4");
      assert_true(gdr_device_untouched(it.memory[OF_OUTPUT]));
      unmake_call(&it);
    }
  }
  /* The same state twice is found where it is looked for. */
  static const int64_t twice[kTokens] = {2, 0, 2};
  batch_call it;
  make_call(&it, twice, 64);
  it.args.values[DECODE_CHECK] = pega_value_bool(true);
  EXPECT_ERROR(gdr_device_call(&it.args, NULL, &error), &error, PEGA_ERROR_RANGE, "slots[2] is 2");
  pega_error_clear(&error);
  unmake_call(&it);
}

static void test_capture(void **state) {
  (void)state;
  static const int64_t slots[kTokens] = {3, 0, 2};
  batch_call it;
  make_call(&it, slots, 64);
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_OK(pega_function_prepare(fixture_function(PEGA_QWEN35_DECODE), CUDA0, &error), &error);
  CUstream stream;
  CUgraph graph;
  CUgraphExec exec;
  GPU_OK(gpu.stream_create(&stream, GPU_STREAM_NON_BLOCKING));
  GPU_OK(gpu.capture_begin(stream, GPU_CAPTURE_GLOBAL));
  void *previous;
  EXPECT_OK(pega_stream_set(CUDA0, stream, &previous, &error), &error);
  EXPECT_OK(gdr_run(&it.args, &error), &error);
  EXPECT_OK(pega_stream_set(CUDA0, previous, NULL, &error), &error);
  GPU_OK(gpu.capture_end(stream, &graph));
  assert_true(gdr_device_untouched(it.memory[OF_OUTPUT]));
  GPU_OK(gpu.graph_instantiate(&exec, graph, 0));
  for (int replay = 0; replay < 3; ++replay) {
    GPU_OK(gpu.graph_launch(exec, stream));
    GPU_OK(gpu.stream_synchronize(stream));
    if (fixture_rehearsal("what a replayed graph computes")) break;
    expect_right(&it, slots, it.pool, "a replayed graph");
    /* The next step goes on from these states. */
    float *states = gdr_allocate(it.memory[OF_STATES].bytes, 1);
    gdr_device_place.read(it.memory[OF_STATES], states);
    for (int t = 0; t < kTokens; ++t) {
      memcpy(it.problem.initial_state + t * kHeads * kGdrState,
             states + slots[t] * kHeads * kGdrState, kHeads * kGdrState * 4);
    }
    free(states);
  }
  GPU_OK(gpu.exec_destroy(exec));
  GPU_OK(gpu.graph_destroy(graph));
  GPU_OK(gpu.stream_destroy(stream));
  unmake_call(&it);
}

/* A pool of more than 2^31 elements: its last states are as near as the first. */
static void test_large_pool(void **state) {
  (void)state;
  if (gdr_device_exact) skip();
  if (fixture_rehearsal("a pool of more than 2^31 elements")) skip();
  enum { kValueHeads = 64 };
  const int64_t size = kValueHeads * kGdrState;
  const int64_t num_slots = ((int64_t)1 << 32) / size + 3;
  const size_t bytes = (size_t)(num_slots * size) * 4;
  size_t available = 0;
  size_t total = 0;
  GPU_OK(gpu.memory_info(&available, &total));
  if (available < bytes + ((size_t)1 << 30)) {
    printf("SKIP: a pool of more than 2^31 elements: needs %zu MB of GPU memory, %zu MB are free\n",
           bytes >> 20, available >> 20);
    skip();
  }
  const gdr_place *place = &gdr_device_place;
  const int64_t slots[kBatch] = {num_slots - 1, 0, ((int64_t)1 << 31) / size,
                                 ((int64_t)1 << 31) / size - 1, num_slots - 2};
  gdr_problem problem = make_batch(kBatch, 16, kValueHeads, 50);
  gdr_answer answer = gdr_solve_recurrence(&problem);
  CUdeviceptr pool;
  GPU_OK(gpu.alloc(&pool, bytes));
  for (int i = 0; i < kBatch; ++i) {
    GPU_OK(gpu.copy_in(pool + (CUdeviceptr)(slots[i] * size * 4), problem.initial_state + i * size,
                       (size_t)size * 4));
  }
  const gdr_buffer all[] = {
      place->create(kBatch * (2 * 16 + kValueHeads) * kGdrDim * 2, problem.qkv),
      place->create(kBatch * kValueHeads * 2, problem.b),
      place->create(kBatch * kValueHeads * 2, problem.a),
      place->create(kValueHeads * 2, problem.dt_bias),
      place->create(kValueHeads * 4, problem.a_log),
      place->create(kBatch * kValueHeads * kGdrDim * 2, NULL),
      place->create(kBatch * 8, slots)};
  const gdr_memory memory = {.device = CUDA0,
                             .qkv = all[0].data,
                             .b = all[1].data,
                             .a = all[2].data,
                             .dt_bias = all[3].data,
                             .a_log = all[4].data,
                             .output = all[5].data,
                             .states = (const void *)(uintptr_t)pool,
                             .num_slots = num_slots,
                             .slots = all[6].data,
                             .slot_bits = 64};
  gdr_args args;
  pega_error error = PEGA_ERROR_INIT;
  gdr_decode_projected_args(&args, &problem, &memory);
  EXPECT_OK(gdr_device_call(&args, NULL, &error), &error);
  GPU_OK(gpu.synchronize());
  uint16_t *output = gdr_allocate(all[5].bytes, 1);
  float *state_of = gdr_allocate(size, 4);
  place->read(all[5], output);
  gdr_expect_within("output",
                    gdr_compare_bf16(output, answer.output, kBatch * kValueHeads * kGdrDim),
                    device.output_limit, &problem, "decode", "a large pool");
  for (int i = 0; i < kBatch; ++i) {
    GPU_OK(gpu.copy_out(state_of, pool + (CUdeviceptr)(slots[i] * size * 4), (size_t)size * 4));
    gdr_expect_within("state", gdr_compare_f32(state_of, answer.final_state + i * size, size),
                      device.state_limit, &problem, "decode", "a large pool");
  }
  printf("a pool of %lld states, %lld elements: 5 of them used\n", (long long)num_slots,
         (long long)(num_slots * size));
  free(output);
  free(state_of);
  for (int i = 0; i < COUNT(all); ++i) {
    assert_true(place->intact(all[i]));
    place->destroy(all[i]);
  }
  GPU_OK(gpu.release(pool));
  gdr_answer_free(&answer);
  gdr_problem_free(&problem);
}

int main(void) {
  const int status = gdr_device_begin(PEGA_QWEN35_DECODE);
  if (status != 0) return status;
  device = gdr_device_setting(NULL, 0);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_batches),     cmocka_unit_test(test_heads),
      cmocka_unit_test(test_many_steps),  cmocka_unit_test(test_extremes),
      cmocka_unit_test(test_symbols),     cmocka_unit_test(test_symbols_refuse),
      cmocka_unit_test(test_wrong_slots), cmocka_unit_test(test_capture),
      cmocka_unit_test(test_large_pool),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
