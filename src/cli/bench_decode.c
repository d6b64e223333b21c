/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decode step, one token of each of a batch, whose states lie in a pool that is larger than the caches: call
 * after call takes the next states, as the steps of one layer find theirs.
 */
#include <stdlib.h>

#include "bench_device.h"
#include "bench_truth.h"

enum { HEAD = PEGA_QWEN35_HEAD_SIZE, MAX_SETS = 160, COMPARED = 4 };

/* One rounding to bf16 on either side, and of factors from projections; states are fp32. */
static const double kOutputLimit = 4e-3;
static const double kStateLimit = 1e-3;

typedef struct decode {
  int64_t batch, key_heads, value_heads;
  int sets;
  bench_tensor q, k, v, g, beta;
  bench_tensor qkv, b, a, dt_bias, a_log;
  bench_tensor states;
  bench_tensor slots[MAX_SETS]; /* of each set, in another order than they lie */
  bench_tensor output;
  int32_t first[1024]; /* slots of set 0, on the host */
} decode;

typedef struct decode_way {
  decode *on;
  pega_function *function;
  bool projected;
} decode_way;

static pega_status put(void *self, int64_t number, pega_error *error) {
  const decode_way *way = self;
  const decode *on = way->on;
  const bench_tensor *const in[2][5] = {{&on->q, &on->k, &on->v, &on->g, &on->beta},
                                        {&on->qkv, &on->b, &on->a, &on->dt_bias, &on->a_log}};
  pega_value args[9];
  for (int i = 0; i < 5; ++i) args[i] = pega_value_tensor(&in[way->projected][i]->view);
  args[5] = pega_value_tensor(&on->states.view);
  args[6] = pega_value_tensor(&on->slots[number % on->sets].view);
  args[7] = pega_value_none();
  args[8] = pega_value_tensor(&on->output.view);
  return pega_function_call(way->function, args, 9, NULL, error);
}

/* Slots of a set, the batch in an order that a stride coprime to it makes. */
static pega_status make_slots(bench_run *run, decode *on, int set, pega_error *error) {
  int32_t slots[1024];
  int64_t stride = 7;
  while (on->batch % stride == 0) stride += 2;
  for (int64_t i = 0; i < on->batch; ++i) {
    slots[i] = (int32_t)(set * on->batch + i * stride % on->batch);
  }
  if (set == 0) memcpy(on->first, slots, (size_t)on->batch * sizeof *slots);
  BENCH_OK(
      bench_tensor_create(run->device, &on->slots[set], -1, 0, 32, 1, on->batch, 1, 1, 1, error));
  on->slots[set].view.dtype.code = (uint8_t)kDLInt;
  BENCH_CUDA(copy_in((CUdeviceptr)(uintptr_t)on->slots[set].view.data, slots,
                     (size_t)on->batch * sizeof *slots));
  return PEGA_OK;
}

static pega_status make_inputs(bench_run *run, decode *on, int64_t batch, int64_t hk, int64_t hv,
                               pega_error *error) {
  bench_device *device = run->device;
  memset(on, 0, sizeof *on);
  on->batch = batch;
  on->key_heads = hk;
  on->value_heads = hv;
  const int64_t state_bytes = batch * hv * HEAD * HEAD * 4;
  const int64_t rotated = run->quick ? 2 * state_bytes : BENCH_ROTATED;
  const int64_t sets = (rotated + state_bytes - 1) / state_bytes;
  on->sets = sets < 2 ? 2 : sets > MAX_SETS ? MAX_SETS : (int)sets;
  BENCH_OK(
      bench_tensor_create(device, &on->q, BENCH_UNIT_ROWS, 1, 16, 3, batch, hk, HEAD, 1, error));
  BENCH_OK(
      bench_tensor_create(device, &on->k, BENCH_UNIT_ROWS, 2, 16, 3, batch, hk, HEAD, 1, error));
  BENCH_OK(bench_tensor_create(device, &on->v, BENCH_NORMAL, 3, 16, 3, batch, hv, HEAD, 1, error));
  BENCH_OK(bench_tensor_create(device, &on->g, BENCH_GATES, 4, 32, 2, batch, hv, 1, 1, error));
  BENCH_OK(bench_tensor_create(device, &on->beta, BENCH_BETAS, 5, 32, 2, batch, hv, 1, 1, error));
  BENCH_OK(bench_tensor_create(device, &on->qkv, BENCH_NORMAL, 6, 16, 2, batch,
                               (2 * hk + hv) * HEAD, 1, 1, error));
  BENCH_OK(bench_tensor_create(device, &on->b, BENCH_NORMAL, 7, 16, 2, batch, hv, 1, 1, error));
  BENCH_OK(bench_tensor_create(device, &on->a, BENCH_NORMAL, 8, 16, 2, batch, hv, 1, 1, error));
  BENCH_OK(bench_tensor_create(device, &on->dt_bias, BENCH_NORMAL, 9, 16, 1, hv, 1, 1, 1, error));
  BENCH_OK(bench_tensor_create(device, &on->a_log, BENCH_DECAYS, 10, 32, 1, hv, 1, 1, 1, error));
  BENCH_OK(bench_tensor_create(device, &on->output, -1, 0, 16, 3, batch, hv, HEAD, 1, error));
  BENCH_OK(bench_tensor_create(device, &on->states, BENCH_STATES, 11, 32, 4, on->sets * batch, hv,
                               HEAD, HEAD, error));
  for (int i = 0; i < on->sets; ++i) BENCH_OK(make_slots(run, on, i, error));
  return PEGA_OK;
}

/* ---- what is right ---- */

static pega_status fetch(const bench_tensor *from, int64_t rows, bench_tensor *out,
                         pega_error *error) {
  *out = *from;
  out->view.shape = out->shape;
  out->view.device = (DLDevice){kDLCPU, 0};
  if (rows > 0) out->shape[0] = rows;
  const size_t bytes = (size_t)bench_tensor_bytes(out);
  out->view.data = malloc(bytes);
  if (out->view.data == NULL) cli_out_of_memory();
  BENCH_CUDA(copy_out(out->view.data, (CUdeviceptr)(uintptr_t)from->view.data, bytes));
  return PEGA_OK;
}

static pega_status copy_states(const decode *on, int64_t rows, float *out, pega_error *error) {
  const int64_t count = on->value_heads * HEAD * HEAD;
  for (int64_t i = 0; i < rows; ++i) {
    BENCH_CUDA(copy_out(
        out + i * count,
        (CUdeviceptr)(uintptr_t)on->states.view.data + (CUdeviceptr)(on->first[i] * count) * 4,
        (size_t)count * 4));
  }
  return PEGA_OK;
}

/* Errors from the rule in double, of every head of the tokens: of the output, of the states. */
typedef struct errors {
  double output;
  double state;
} errors;

static errors find_errors(const decode *on, const bench_tensor in[5], const float *before,
                          const uint16_t *output, const float *after, int64_t rows) {
  const bench_rule rule = {in[0].view.data, in[1].view.data, in[2].view.data, in[3].view.data,
                           in[4].view.data, on->key_heads,   on->value_heads};
  double *state = malloc(HEAD * HEAD * sizeof *state);
  bench_sums outputs = {0, 0};
  bench_sums states = {0, 0};
  if (state == NULL) cli_out_of_memory();
  for (int64_t row = 0; row < rows * on->value_heads; ++row) {
    double right[HEAD];
    for (int i = 0; i < HEAD * HEAD; ++i) state[i] = before[row * HEAD * HEAD + i];
    bench_recurrence(&rule, row % on->value_heads, row / on->value_heads, 1, state, right);
    for (int i = 0; i < HEAD; ++i) {
      bench_sums_add(&outputs, bench_from_bf16(output[row * HEAD + i]), right[i]);
    }
    for (int i = 0; i < HEAD * HEAD; ++i) {
      bench_sums_add(&states, after[row * HEAD * HEAD + i], state[i]);
    }
  }
  free(state);
  return (errors){bench_sums_rms(&outputs), bench_sums_rms(&states)};
}

/* The two references, which know nothing of each other; and the device's result. */
static pega_status tell_errors(bench_run *run, const decode *on, bench_way *way,
                               const bench_tensor in[5], const float *before, const uint16_t *right,
                               const float *right_states, const uint16_t *got,
                               const float *got_states, int64_t rows, pega_error *error) {
  const errors here = find_errors(on, in, before, right, right_states, rows);
  const errors there = find_errors(on, in, before, got, got_states, rows);
  if (!(here.output <= kOutputLimit && here.state <= kStateLimit)) {
    return pega_error_set(error, PEGA_ERROR_INTERNAL, NULL,
                          "the decode step on the CPU is off by %.2e, its states by %.2e, from the "
                          "rule in double",
                          here.output, here.state);
  }
  bench_judge(run, way, "output", "output_rms", there.output, kOutputLimit);
  bench_judge(run, way, "state", "state_rms", there.state, kStateLimit);
  return PEGA_OK;
}

/* One step of the first tokens, here and on the CPU, from the same states. */
static pega_status compare(bench_run *run, decode *on, bench_way *way, decode_way *self,
                           bench_tensor in[5], bench_tensor *output, float *states, float *got,
                           int64_t rows, pega_error *error) {
  const DLDevice cpu = {kDLCPU, 0};
  const bench_tensor *const from[2][5] = {{&on->q, &on->k, &on->v, &on->g, &on->beta},
                                          {&on->qkv, &on->b, &on->a, &on->dt_bias, &on->a_log}};
  const int64_t count = on->value_heads * HEAD;
  bench_tensor pool;
  bench_tensor right;
  uint16_t *expected = malloc((size_t)(rows * count) * 2);
  const size_t state_bytes = (size_t)(rows * count * HEAD) * 4;
  float *before = malloc(state_bytes);
  if (expected == NULL || before == NULL) cli_out_of_memory();
  bench_tensor_make(&pool, cpu, states, 32, 4, rows, on->value_heads, HEAD, HEAD);
  bench_tensor_make(&right, cpu, expected, 16, 3, rows, on->value_heads, HEAD, 1);
  pega_status status = copy_states(on, rows, states, error);
  if (status == PEGA_OK) memcpy(before, states, state_bytes);
  for (int i = 0; i < 5 && status == PEGA_OK; ++i) {
    status = fetch(from[self->projected][i], self->projected && i >= 3 ? 0 : rows, &in[i], error);
  }
  if (status == PEGA_OK) status = put(self, 0, error);
  if (status == PEGA_OK) {
    const CUresult result = gpu.stream_synchronize(bench_device_stream(run->device));
    if (result != 0) status = bench_driver_error(error, result, "stream_synchronize");
  }
  if (status == PEGA_OK) status = fetch(&on->output, rows, output, error);
  if (status == PEGA_OK) status = copy_states(on, rows, got, error);
  if (status == PEGA_OK) {
    const pega_value args[] = {pega_value_tensor(&in[0].view),
                               pega_value_tensor(&in[1].view),
                               pega_value_tensor(&in[2].view),
                               pega_value_tensor(&in[3].view),
                               pega_value_tensor(&in[4].view),
                               pega_value_tensor(&pool.view),
                               pega_value_none(),
                               pega_value_none(),
                               pega_value_tensor(&right.view)};
    status = pega_function_call(self->function, args, 9, NULL, error);
  }
  if (status == PEGA_OK && !self->projected) {
    status = tell_errors(run, on, way, in, before, expected, states, output->view.data, got, rows,
                         error);
  }
  if (status == PEGA_OK) {
    bench_judge(run, way, "output", NULL, bench_rms_bf16(output->view.data, expected, rows * count),
                kOutputLimit);
    bench_judge(run, way, "state", NULL, bench_rms_fp32(got, states, rows * count * HEAD),
                kStateLimit);
  }
  free(before);
  free(expected);
  return status;
}

static pega_status check(bench_run *run, decode *on, bench_way *way, decode_way *self,
                         pega_error *error) {
  const int64_t rows = on->batch < COMPARED ? on->batch : COMPARED;
  const size_t bytes = (size_t)(rows * on->value_heads * HEAD * HEAD) * 4;
  bench_tensor in[5];
  bench_tensor output;
  memset(in, 0, sizeof in);
  memset(&output, 0, sizeof output);
  float *states = malloc(bytes);
  float *got = malloc(bytes);
  if (states == NULL || got == NULL) cli_out_of_memory();
  const pega_status status = compare(run, on, way, self, in, &output, states, got, rows, error);
  for (int i = 0; i < 5; ++i) free(in[i].view.data);
  free(output.view.data);
  free(states);
  free(got);
  return status;
}

static pega_status measure(bench_run *run, pega_function *const *functions, int64_t batch,
                           int64_t hk, int64_t hv, pega_error *error) {
  static decode on;
  static const char *const names[] = {"cuda", "cuda, projected"};
  bench_way ways[2];
  bench_job jobs[2];
  decode_way selves[2];
  memset(ways, 0, sizeof ways);
  memset(jobs, 0, sizeof jobs);
  BENCH_OK(make_inputs(run, &on, batch, hk, hv, error));
  for (int i = 0; i < 2; ++i) {
    pega_error failure = PEGA_ERROR_INIT;
    selves[i] = (decode_way){&on, functions[i], i == 1};
    ways[i].name = names[i];
    ways[i].by = BENCH_OURS;
    ways[i].chosen = i == 0;
    ways[i].rotated = true;
    /* Every state read and written. */
    ways[i].floor = bench_floor(2 * batch * hv * HEAD * HEAD * 4);
    jobs[i] = (bench_job){.device = run->device, .put = put, .self = &selves[i], .sets = on.sets};
    if (check(run, &on, &ways[i], &selves[i], &failure) != PEGA_OK) {
      bench_leave_out(&ways[i], pega_error_message(&failure));
      run->failed = true;
    }
    pega_error_clear(&failure);
  }
  bench_device_compare(run, ways, jobs, 2, BENCH_HOST_TOO);
  bench_ways_clear(ways, 2);
  return PEGA_OK;
}

pega_status bench_decode(bench_run *run, pega_error *error) {
  static const int64_t batches[] = {1, 8, 64, 256};
  static const int64_t quick_batches[] = {1, 3};
  pega_function *functions[2] = {NULL, NULL};
  const int64_t *all = run->quick ? quick_batches : batches;
  const int count = run->quick ? 2 : 4;
  const int64_t hk = run->quick ? 2 : 16;
  const int64_t hv = run->quick ? 4 : 32;
  pega_status status = pega_registry_get(PEGA_QWEN35_DECODE, &functions[0], error);
  if (status == PEGA_OK) {
    status = pega_registry_get(PEGA_QWEN35_DECODE_PROJECTED, &functions[1], error);
  }
  for (int i = 0; i < count && status == PEGA_OK; ++i) {
    bench_case_begin(run,
                     json_pack("{s:I, s:I, s:I}", "batch", (json_int_t)all[i], "key_heads",
                               (json_int_t)hk, "value_heads", (json_int_t)hv),
                     BENCH_PEERS_ROTATING);
    bench_case_try(run, measure(run, functions, all[i], hk, hv, error), error);
    bench_case_end(run);
    bench_device_free(run->device);
  }
  pega_function_release(functions[0]);
  pega_function_release(functions[1]);
  return status;
}
