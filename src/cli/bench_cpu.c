/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_cpu.h"
#include "bench_stuff.h"
#include "bench_truth.h"

#include <pega/qwen35.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

enum { DIM = PEGA_QWEN35_HEAD_SIZE, CHUNK = PEGA_QWEN35_CHUNK, KEY_HEADS = 16, VALUE_HEADS = 32 };
enum { PREFILL_CHUNK = 32, STATE = DIM * DIM, MAX_TENSORS = 10, MAX_ARGS = 16 };

#define CHUNKED "cpu_chunked"

/* ---- cases and what they take ---- */

static bool is(const bench_cpu_case *what, const char *op) { return strcmp(what->op, op) == 0; }

int bench_cpu_cases(int threads, bool quick, bench_cpu_case *out, int room) {
  static const struct {
    const char *op;
    int64_t sizes[3], small;
  } all[] = {{"prefill", {64, 512, 4096}, 70},
             {"decode", {1, 8, 64}, 1},
             {"solve", {512, 2048, 8192}, 128}};
  int count = 0;
  for (size_t i = 0; i < sizeof all / sizeof *all; ++i) {
    for (int k = 0; k < (quick ? 1 : 3) && count < room; ++k) {
      out[count++] = (bench_cpu_case){all[i].op, quick ? all[i].small : all[i].sizes[k], threads};
    }
  }
  return count;
}

json_t *bench_cpu_describe(const bench_cpu_case *what) {
  json_t *object = json_object();
  cli_json_set(object, "op", json_string(what->op));
  if (is(what, "prefill")) cli_json_set(object, "sequences", json_integer(1));
  cli_json_set(object, is(what, "decode") ? "batch" : "tokens", json_integer(what->size));
  if (!is(what, "solve")) cli_json_set(object, "key_heads", json_integer(KEY_HEADS));
  cli_json_set(object, "value_heads", json_integer(VALUE_HEADS));
  cli_json_set(object, "threads", json_integer(what->threads));
  return object;
}

static double prefill_operations(int64_t tokens) {
  const double square = (double)STATE;
  double count = 0;
  int64_t done = 0;
  while (done < tokens) {
    const int64_t most = done == 0 ? CHUNK : PREFILL_CHUNK;
    const double n = (double)(tokens - done < most ? tokens - done : most);
    const double inside = n * (n - 1) * DIM + n * (n + 1) * DIM;
    count += VALUE_HEADS * ((done == 0 ? 2 : 6) * n * square + inside) + KEY_HEADS * inside;
    done += (int64_t)n;
  }
  return count;
}

static double solve_operations(int64_t tokens) {
  double count = 0;
  for (int64_t done = 0; done < tokens; done += CHUNK) {
    const double n = (double)(tokens - done < CHUNK ? tokens - done : CHUNK);
    count += VALUE_HEADS * n * (n * n - 1) / 3;
  }
  return count;
}

double bench_cpu_operations(const bench_cpu_case *what) {
  if (is(what, "prefill")) return prefill_operations(what->size);
  if (is(what, "solve")) return solve_operations(what->size);
  return 7.0 * STATE * VALUE_HEADS * (double)what->size;
}

double bench_cpu_bytes(const bench_cpu_case *what) {
  const double rows = (double)what->size;
  /* q, k, v, output; gates and betas */
  const double tokens = rows * (2.0 * (2 * KEY_HEADS + 2 * VALUE_HEADS) * DIM + 8.0 * VALUE_HEADS);
  const double states = 4.0 * STATE * VALUE_HEADS;
  if (is(what, "prefill")) return tokens + states;
  if (is(what, "decode")) return tokens + 2 * rows * states;
  double read = 0;
  for (int64_t done = 0; done < what->size; done += CHUNK) {
    const double n = (double)(what->size - done < CHUNK ? what->size - done : CHUNK);
    read += n * (n - 1) / 2;
  }
  return VALUE_HEADS * (4.0 * read + 2.0 * CHUNK * rows);
}

/* ---- inputs ---- */

struct bench_cpu_work {
  bench_cpu_case what;
  pega_function *function;
  DLTensor tensors[MAX_TENSORS];
  int64_t shapes[MAX_TENSORS][4];
  int num_tensors;
  pega_value args[MAX_ARGS];
  int num_args;
  int calls; /* of a sample */
  double sample_us;
};

static void *add_tensor(bench_cpu_work *self, int bits, int ndim, const int64_t *shape) {
  DLTensor *tensor = &self->tensors[self->num_tensors];
  int64_t count = 1;
  for (int i = 0; i < ndim; ++i) {
    self->shapes[self->num_tensors][i] = shape[i];
    count *= shape[i];
  }
  tensor->device.device_type = kDLCPU;
  tensor->ndim = ndim;
  tensor->shape = self->shapes[self->num_tensors++];
  tensor->dtype = (DLDataType){(uint8_t)(bits == 16 ? kDLBfloat : kDLFloat), (uint8_t)bits, 1};
  if (posix_memalign(&tensor->data, 4096, (size_t)(count * bits / 8)) != 0) cli_out_of_memory();
  memset(tensor->data, 0, (size_t)(count * bits / 8));
  self->args[self->num_args++] = pega_value_tensor(tensor);
  return tensor->data;
}

/* Where a tensor begins in what repeats, so that no two are the same. */
static void fill(bench_cpu_work *self, bench_stuff stuff, int bits, int ndim,
                 const int64_t *shape) {
  void *data = add_tensor(self, bits, ndim, shape);
  int64_t bytes = bits / 8;
  for (int i = 0; i < ndim; ++i) bytes *= shape[i];
  bench_stuff_fill(stuff, self->num_tensors, data, bytes);
}

/* q, k, v, g, beta: what the GPU's parts have, too. */
static void add_inputs(bench_cpu_work *self) {
  const int64_t keys[] = {self->what.size, KEY_HEADS, DIM};
  const int64_t values[] = {self->what.size, VALUE_HEADS, DIM};
  fill(self, BENCH_UNIT_ROWS, 16, 3, keys);
  fill(self, BENCH_UNIT_ROWS, 16, 3, keys);
  fill(self, BENCH_NORMAL, 16, 3, values);
  fill(self, BENCH_GATES, 32, 2, values);
  fill(self, BENCH_BETAS, 32, 2, values);
}

static void make_prefill(bench_cpu_work *self) {
  const int64_t output[] = {self->what.size, VALUE_HEADS, DIM};
  const int64_t state[] = {1, VALUE_HEADS, DIM, DIM};
  add_inputs(self);
  for (int i = 0; i < 3; ++i) self->args[self->num_args++] = pega_value_none();
  (void)add_tensor(self, 16, 3, output);
  (void)add_tensor(self, 32, 4, state);
  self->args[self->num_args++] = pega_value_none();
  self->args[self->num_args++] = pega_value_string(CHUNKED);
}

static void make_decode(bench_cpu_work *self) {
  const int64_t output[] = {self->what.size, VALUE_HEADS, DIM};
  const int64_t states[] = {self->what.size, VALUE_HEADS, DIM, DIM};
  add_inputs(self);
  fill(self, BENCH_STATES, 32, 4, states);
  for (int i = 0; i < 2; ++i) self->args[self->num_args++] = pega_value_none();
  (void)add_tensor(self, 16, 3, output);
}

static void make_solve(bench_cpu_work *self) {
  const int64_t shape[] = {self->what.size, VALUE_HEADS, CHUNK};
  fill(self, BENCH_TRIANGLES, 32, 3, shape);
  (void)add_tensor(self, 16, 3, shape);
}

pega_status bench_cpu_open(const bench_cpu_case *what, bool quick, bench_cpu_work **out,
                           pega_error *error) {
  static const struct {
    const char *op;
    const char *function;
    void (*make)(bench_cpu_work *self);
  } all[] = {{"prefill", PEGA_QWEN35_PREFILL, make_prefill},
             {"decode", PEGA_QWEN35_DECODE, make_decode},
             {"solve", PEGA_QWEN35_CHUNK_SOLVE, make_solve}};
  bench_cpu_work *self = calloc(1, sizeof *self);
  if (self == NULL) cli_out_of_memory();
  self->what = *what;
  self->sample_us = quick ? 0 : 20000;
  pega_status status = PEGA_OK;
  for (size_t i = 0; i < sizeof all / sizeof *all; ++i) {
    if (!is(what, all[i].op)) continue;
    status = pega_registry_get(all[i].function, &self->function, error);
    all[i].make(self);
  }
  if (status != PEGA_OK) {
    bench_cpu_close(self);
    self = NULL;
  }
  *out = self;
  return status;
}

void bench_cpu_close(bench_cpu_work *self) {
  if (self == NULL) return;
  for (int i = 0; i < self->num_tensors; ++i) free(self->tensors[i].data);
  pega_function_release(self->function);
  free(self);
}

const char *bench_cpu_name(const bench_cpu_work *self) {
  return is(&self->what, "prefill") ? CHUNKED : "cpu";
}

/* ---- samples ---- */

static pega_status call(bench_cpu_work *self, int calls, double *us, pega_error *error) {
  struct timespec start;
  struct timespec end;
  pega_status status = PEGA_OK;
  (void)clock_gettime(CLOCK_MONOTONIC, &start);
  for (int i = 0; i < calls && status == PEGA_OK; ++i) {
    status = pega_function_call(self->function, self->args, self->num_args, NULL, error);
  }
  (void)clock_gettime(CLOCK_MONOTONIC, &end);
  *us = ((double)(end.tv_sec - start.tv_sec) * 1e6 + (double)(end.tv_nsec - start.tv_nsec) * 1e-3) /
        calls;
  return status;
}

/* ---- right or wrong ---- */

enum { TRUE_HEADS = 4, TRUE_ROWS = 4 };

static int64_t true_head(int which) { return which * (VALUE_HEADS - 1) / (TRUE_HEADS - 1); }

/* Output and states, from states that are `before`, [rows, ...], or zeros. */
static void compare(const bench_cpu_work *self, int64_t sequences, int64_t tokens,
                    const float *before, int output_at, int states_at, bench_cpu_errors *out) {
  const DLTensor *in = self->tensors;
  const bench_rule rule = {in[0].data, in[1].data, in[2].data, in[3].data,
                           in[4].data, KEY_HEADS,  VALUE_HEADS};
  const uint16_t *output = self->tensors[output_at].data;
  const float *states = self->tensors[states_at].data;
  double *right = calloc((size_t)(tokens * DIM), sizeof *right);
  double *state = calloc(STATE, sizeof *state);
  bench_sums outputs = {0, 0};
  bench_sums finals = {0, 0};
  if (right == NULL || state == NULL) cli_out_of_memory();
  for (int64_t i = 0; i < sequences * TRUE_HEADS; ++i) {
    const int64_t head = true_head((int)(i % TRUE_HEADS));
    const int64_t begin = i / TRUE_HEADS * tokens;
    const int64_t own = (i / TRUE_HEADS * VALUE_HEADS + head) * STATE;
    for (int k = 0; k < STATE; ++k) state[k] = before == NULL ? 0 : before[own + k];
    bench_recurrence(&rule, head, begin, tokens, state, right);
    for (int64_t t = 0; t < tokens; ++t) {
      for (int k = 0; k < DIM; ++k) {
        bench_sums_add(&outputs,
                       bench_from_bf16(output[((begin + t) * VALUE_HEADS + head) * DIM + k]),
                       right[t * DIM + k]);
      }
    }
    for (int k = 0; k < STATE; ++k) bench_sums_add(&finals, states[own + k], state[k]);
  }
  free(right);
  free(state);
  out->output = bench_sums_rms(&outputs);
  out->state = bench_sums_rms(&finals);
}

static void compare_solve(const bench_cpu_work *self, bench_cpu_errors *out) {
  const float *a = self->tensors[0].data;
  const uint16_t *got = self->tensors[1].data;
  bench_solve_errors worst = {0, 0, 0};
  const int64_t chunks = self->what.size / CHUNK;
  for (int64_t i = 0; i < chunks * VALUE_HEADS; ++i) {
    const int64_t chunk = i / VALUE_HEADS;
    if (chunk >= BENCH_TRIANGLE_CHUNKS && chunk != chunks - 1) continue;
    const int64_t at = (chunk * CHUNK * VALUE_HEADS + i % VALUE_HEADS) * CHUNK;
    bench_solve_error(a + at, got + at, VALUE_HEADS * CHUNK, &worst);
  }
  out->output = worst.max;
}

static pega_status call(bench_cpu_work *self, int calls, double *us, pega_error *error);

pega_status bench_cpu_check(bench_cpu_work *self, bench_cpu_errors *out, pega_error *error) {
  const int64_t rows = self->what.size < TRUE_ROWS ? self->what.size : TRUE_ROWS;
  const size_t bytes = (size_t)(rows * VALUE_HEADS) * STATE * sizeof(float);
  const bool decode = is(&self->what, "decode");
  float *before = decode ? malloc(bytes) : NULL;
  double us = 0;
  memset(out, 0, sizeof *out);
  if (decode && before == NULL) cli_out_of_memory();
  if (decode) memcpy(before, self->tensors[5].data, bytes);
  const pega_status status = call(self, 1, &us, error);
  if (status == PEGA_OK && decode) compare(self, rows, 1, before, 6, 5, out);
  if (status == PEGA_OK && is(&self->what, "prefill")) {
    compare(self, 1, self->what.size, NULL, 5, 6, out);
  }
  if (status == PEGA_OK && is(&self->what, "solve")) compare_solve(self, out);
  free(before);
  return status;
}

/* The library has as many threads as its caller has processors, and no more than these. */
static void take_processors(const cpu_set_t *from, int count, cpu_set_t *out) {
  CPU_ZERO(out);
  for (size_t i = 0; i < CPU_SETSIZE && count > 0; ++i) {
    if (!CPU_ISSET(i, from)) continue;
    CPU_SET(i, out);
    --count;
  }
}

pega_status bench_cpu_sample(void *of, int count, double *out, pega_error *error) {
  const struct timespec settle = {0, 10000000};
  bench_cpu_work *self = of;
  cpu_set_t all;
  cpu_set_t taken;
  pega_status status = PEGA_OK;
  const bool known = sched_getaffinity(0, sizeof all, &all) == 0;
  const bool bound = known && self->what.threads < CPU_COUNT(&all);
  if (bound) {
    take_processors(&all, self->what.threads, &taken);
    (void)sched_setaffinity(0, sizeof taken, &taken);
  }
  for (int i = 0; i < count && status == PEGA_OK; ++i) {
    double us = 0;
    if (self->sample_us > 0) (void)nanosleep(&settle, NULL);
    status = call(self, 1, &us, error);
    if (self->calls == 0) {
      if (status == PEGA_OK) status = call(self, 1, &us, error);
      self->calls = us < self->sample_us ? (int)(self->sample_us / us) : 1;
    }
    if (status == PEGA_OK) status = call(self, self->calls, &out[i], error);
  }
  if (bound) (void)sched_setaffinity(0, sizeof all, &all);
  return status;
}
