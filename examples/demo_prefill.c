/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Section 6 of the demo: linear attention of Qwen3.5 as an engine runs it. A prompt is prefilled, then
 * tokens are decoded after it with the state that the prefill left, and every output is compared with the
 * recurrence in fp64: S <- exp(g) S; u = beta (v - S^T k); S <- S + k u^T; o = scale S^T q.
 */
#include "demo.h"
#include "demo_device.h"

#include <math.h>
#include <pega/cuda.h>
#include <pega/qwen35.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
  kPrompt = 500,
  kDecoded = 12,
  kTokens = kPrompt + kDecoded,
  kKeyHeads = 16,
  kValueHeads = 32,
  kSize = PEGA_QWEN35_HEAD_SIZE,
  kStateSize = kSize * kSize,
  kRuns = 5,
};

/* Prompt and decoded tokens in one; bf16 as its 16 bits. */
struct sequence {
  uint16_t *q, *k; /* [kTokens, kKeyHeads, 128], rows of length 1 */
  uint16_t *v;     /* [kTokens, kValueHeads, 128] */
  float *g, *beta; /* [kTokens, kValueHeads]; g is the log gate */
  uint16_t *output;
  float *state;  /* [kValueHeads, 128, 128] */
  double *exact; /* of output */
  double *exact_state;
};

/* ---- inputs, the same on every run ---- */

static uint64_t random_state = 0x9e3779b97f4a7c15u;

static double uniform(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (double)(random_state >> 11) / 9007199254740992.0;
}

static double normal(void) {
  double radius = sqrt(-2.0 * log(1.0 - uniform()));
  return radius * cos(6.283185307179586 * uniform());
}

static uint16_t to_bfloat16(double number) {
  float value = (float)number;
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static double from_bfloat16(uint16_t bits) {
  uint32_t wide = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &wide, sizeof value);
  return (double)value;
}

static void make_unit_row(uint16_t *row) {
  double numbers[kSize];
  double squares = 0;
  for (int i = 0; i < kSize; i++) {
    numbers[i] = normal();
    squares += numbers[i] * numbers[i];
  }
  for (int i = 0; i < kSize; i++) row[i] = to_bfloat16(numbers[i] / sqrt(squares));
}

enum {
  kKeyCount = kTokens * kKeyHeads * kSize,
  kValueCount = kTokens * kValueHeads * kSize,
  kGateCount = kTokens * kValueHeads,
  kStateCount = kValueHeads * kStateSize
};

static bool sequence_create(struct sequence *s) {
  s->q = malloc(kKeyCount * sizeof *s->q);
  s->k = malloc(kKeyCount * sizeof *s->k);
  s->v = malloc(kValueCount * sizeof *s->v);
  s->g = malloc(kGateCount * sizeof *s->g);
  s->beta = malloc(kGateCount * sizeof *s->beta);
  s->output = malloc(kValueCount * sizeof *s->output);
  s->state = malloc(kStateCount * sizeof *s->state);
  s->exact = malloc(kValueCount * sizeof *s->exact);
  s->exact_state = calloc(kStateCount, sizeof *s->exact_state);
  if (s->q == NULL || s->k == NULL || s->v == NULL || s->g == NULL || s->beta == NULL ||
      s->output == NULL || s->state == NULL || s->exact == NULL || s->exact_state == NULL) {
    return false;
  }
  for (int row = 0; row < kTokens * kKeyHeads; row++) {
    make_unit_row(s->q + row * kSize);
    make_unit_row(s->k + row * kSize);
  }
  for (int i = 0; i < kValueCount; i++) s->v[i] = to_bfloat16(normal());
  for (int i = 0; i < kGateCount; i++) {
    s->g[i] = (float)(-0.1 * uniform());
    s->beta[i] = (float)uniform();
  }
  return true;
}

static void sequence_free(struct sequence *s) {
  free(s->q);
  free(s->k);
  free(s->v);
  free(s->g);
  free(s->beta);
  free(s->output);
  free(s->state);
  free(s->exact);
  free(s->exact_state);
}

/* ---- the oracle ---- */

/* One token of one head: the rule as it is written. */
static void step(double *state, const uint16_t *q, const uint16_t *k, const uint16_t *v, double g,
                 double beta, double *output) {
  double u[kSize];
  const double gate = exp(g);
  for (int j = 0; j < kSize; j++) u[j] = from_bfloat16(v[j]);
  for (int i = 0; i < kSize; i++) {
    const double ki = from_bfloat16(k[i]);
    double *row = state + i * kSize;
    for (int j = 0; j < kSize; j++) {
      row[j] *= gate;
      u[j] -= row[j] * ki;
    }
  }
  for (int j = 0; j < kSize; j++) {
    u[j] *= beta;
    output[j] = 0;
  }
  for (int i = 0; i < kSize; i++) {
    const double ki = from_bfloat16(k[i]);
    const double qi = from_bfloat16(q[i]) / sqrt(kSize);
    double *row = state + i * kSize;
    for (int j = 0; j < kSize; j++) {
      row[j] += ki * u[j];
      output[j] += row[j] * qi;
    }
  }
}

static void run_oracle(struct sequence *s) {
  for (int token = 0; token < kTokens; token++) {
    for (int head = 0; head < kValueHeads; head++) {
      const int key_row = token * kKeyHeads + head * kKeyHeads / kValueHeads;
      const int row = token * kValueHeads + head;
      step(s->exact_state + head * kStateSize, s->q + key_row * kSize, s->k + key_row * kSize,
           s->v + row * kSize, (double)s->g[row], (double)s->beta[row], s->exact + row * kSize);
    }
  }
}

/* Root of the mean square of the difference, relative to that of what is exact. */
static double output_error(const struct sequence *s, int first, int last) {
  double difference = 0;
  double size = 0;
  for (int i = first * kValueHeads * kSize; i < last * kValueHeads * kSize; i++) {
    const double off = from_bfloat16(s->output[i]) - s->exact[i];
    difference += off * off;
    size += s->exact[i] * s->exact[i];
  }
  return sqrt(difference / size);
}

static double state_error(const struct sequence *s) {
  double difference = 0;
  double size = 0;
  for (int i = 0; i < kStateCount; i++) {
    const double off = (double)s->state[i] - s->exact_state[i];
    difference += off * off;
    size += s->exact_state[i] * s->exact_state[i];
  }
  return sqrt(difference / size);
}

/* ---- the calls ---- */

struct tensor {
  DLTensor tensor;
  int64_t shape[4];
};

/* A tensor of rows `first` to `last` of memory whose rows have `row` bytes. */
static pega_value view(struct tensor *out, const struct demo_device *where, void *memory,
                       size_t row, int first, int last, DLDataType dtype, int64_t heads,
                       int64_t size) {
  memset(out, 0, sizeof *out);
  out->shape[0] = last - first;
  out->shape[1] = heads;
  out->shape[2] = size;
  out->tensor.data = (char *)memory + (size_t)first * row;
  out->tensor.device = where->device;
  out->tensor.dtype = dtype;
  out->tensor.ndim = size == 0 ? 2 : 3;
  out->tensor.shape = out->shape;
  return pega_value_tensor(&out->tensor);
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* The sequence's memory where it is computed. */
struct placed {
  const struct demo_device *where;
  void *q, *k, *v, *g, *beta, *output, *state;
  pega_function *prefill, *decode;
};

static pega_status call(const struct placed *at, int first, int last, bool decode,
                        pega_error *error) {
  static const DLDataType bf16 = {kDLBfloat, 16, 1};
  static const DLDataType fp32 = {kDLFloat, 32, 1};
  struct tensor q, k, v, g, beta, output, state;
  const size_t key_row = kKeyHeads * kSize * 2;
  const size_t value_row = kValueHeads * kSize * 2;
  const size_t gate_row = kValueHeads * 4;
  const pega_value q_value =
      view(&q, at->where, at->q, key_row, first, last, bf16, kKeyHeads, kSize);
  const pega_value k_value =
      view(&k, at->where, at->k, key_row, first, last, bf16, kKeyHeads, kSize);
  const pega_value v_value =
      view(&v, at->where, at->v, value_row, first, last, bf16, kValueHeads, kSize);
  const pega_value g_value =
      view(&g, at->where, at->g, gate_row, first, last, fp32, kValueHeads, 0);
  const pega_value beta_value =
      view(&beta, at->where, at->beta, gate_row, first, last, fp32, kValueHeads, 0);
  const pega_value output_value =
      view(&output, at->where, at->output, value_row, first, last, bf16, kValueHeads, kSize);
  pega_value state_value = view(&state, at->where, at->state, 0, 0, 1, fp32, kValueHeads, kSize);
  state.tensor.ndim = 4;
  state.shape[3] = kSize;
  const pega_value none = pega_value_none();
  if (decode) {
    const pega_value args[] = {q_value,     k_value, v_value, g_value,     beta_value,
                               state_value, none,    none,    output_value};
    return pega_function_call(at->decode, args, 9, NULL, error);
  }
  /* No initial state, one sequence, the usual scale. */
  const pega_value args[] = {q_value, k_value, v_value, g_value,      beta_value,
                             none,    none,    none,    output_value, state_value};
  return pega_function_call(at->prefill, args, 10, NULL, error);
}

static pega_status run(const struct placed *at, double *prefill_time, double *decode_time,
                       pega_error *error) {
  pega_status status = PEGA_OK;
  *prefill_time = HUGE_VAL;
  for (int i = 0; i < kRuns && status == PEGA_OK; i++) {
    const double before = seconds();
    status = call(at, 0, kPrompt, false, error);
    demo_device_wait(at->where);
    *prefill_time = fmin(*prefill_time, seconds() - before);
  }
  const double before = seconds();
  for (int token = kPrompt; token < kTokens && status == PEGA_OK; token++) {
    status = call(at, token, token + 1, true, error);
  }
  demo_device_wait(at->where);
  *decode_time = (seconds() - before) / kDecoded;
  return status;
}

static pega_status find_functions(struct placed *at, pega_error *error) {
  pega_status status = pega_registry_get(PEGA_QWEN35_PREFILL, &at->prefill, error);
  if (status == PEGA_OK) status = pega_registry_get(PEGA_QWEN35_DECODE, &at->decode, error);
  if (status != PEGA_OK || at->where->driver == NULL) return status;
  /* Loads the kernels, so that the first calls are like all others. */
  status = pega_function_prepare(at->prefill, at->where->device, error);
  return status == PEGA_OK ? pega_function_prepare(at->decode, at->where->device, error) : status;
}

static void prefill_and_decode(struct sequence *s, const struct demo_device *where,
                               double output_limit, double state_limit) {
  char device[PEGA_NAME_SIZE];
  pega_error error = PEGA_ERROR_INIT;
  struct placed at = {.where = where,
                      .q = demo_device_copy(where, s->q, kKeyCount * 2),
                      .k = demo_device_copy(where, s->k, kKeyCount * 2),
                      .v = demo_device_copy(where, s->v, kValueCount * 2),
                      .g = demo_device_copy(where, s->g, kGateCount * 4),
                      .beta = demo_device_copy(where, s->beta, kGateCount * 4),
                      .output = demo_device_copy(where, NULL, kValueCount * 2),
                      .state = demo_device_copy(where, NULL, kStateCount * 4)};
  pega_device_name(where->device, device);
  const bool placed = at.q != NULL && at.k != NULL && at.v != NULL && at.g != NULL &&
                      at.beta != NULL && at.output != NULL && at.state != NULL;
  double prefill_time = 0;
  double decode_time = 0;
  pega_status status = placed ? find_functions(&at, &error) : PEGA_ERROR_OUT_OF_MEMORY;
  if (status == PEGA_OK) status = run(&at, &prefill_time, &decode_time, &error);
  if (status == PEGA_OK && demo_device_read(where, s->output, at.output, kValueCount * 2) &&
      demo_device_read(where, s->state, at.state, kStateCount * 4)) {
    const double of_prompt = output_error(s, 0, kPrompt);
    const double of_decoded = output_error(s, kPrompt, kTokens);
    const double of_state = state_error(s);
    demo_check(of_prompt <= output_limit,
               "%s: prefill of %d tokens: rms error %.1e (<= %.1e), %.3f ms", device, kPrompt,
               of_prompt, output_limit, prefill_time * 1e3);
    demo_check(of_decoded <= output_limit,
               "%s: %d tokens decoded after it: rms error %.1e (<= %.1e), %.3f ms a token", device,
               kDecoded, of_decoded, output_limit, decode_time * 1e3);
    demo_check(of_state <= state_limit, "%s: the state after all of them: rms error %.1e (<= %.1e)",
               device, of_state, state_limit);
  } else if (status == PEGA_ERROR_UNSUPPORTED || status == PEGA_ERROR_NOT_FOUND) {
    printf("  %s is left out: %s\n", device, pega_error_message(&error));
  } else {
    demo_check(false, "%s: %s", device, placed ? pega_error_message(&error) : "no memory");
  }
  pega_error_clear(&error);
  pega_function_release(at.prefill);
  pega_function_release(at.decode);
  void *const memory[] = {at.q, at.k, at.v, at.g, at.beta, at.output, at.state};
  for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) demo_device_free(where, memory[i]);
}

void demo_prefill(void) {
  demo_section("6. Qwen3.5's linear attention: a prompt prefilled, tokens decoded after it");
  struct sequence s;
  if (!sequence_create(&s)) {
    demo_check(false, "no memory");
    sequence_free(&s);
    return;
  }
  printf("  %d key heads, %d value heads of %d; errors are against the recurrence in fp64\n",
         kKeyHeads, kValueHeads, kSize);
  run_oracle(&s);
  const struct demo_device cpu = demo_cpu();
  struct demo_device gpu;
  prefill_and_decode(&s, &cpu, 2e-3, 1e-4);
  if (demo_gpu(&gpu)) {
    prefill_and_decode(&s, &gpu, 3.8e-3, 3e-3);
  } else {
    printf("  no GPU here: the same calls on CUDA tensors run there\n");
  }
  sequence_free(&s);
}
