/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_same.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench_truth.h"

enum { HEAD = PEGA_QWEN35_HEAD_SIZE, STATE = HEAD * HEAD };

int64_t bench_same_output(const bench_same *self) {
  return self->sequences * self->tokens * self->value_heads * HEAD;
}

int64_t bench_same_states(const bench_same *self) {
  return self->sequences * self->value_heads * STATE;
}

static bool write_all(int file, const void *data, size_t size) {
  const char *at = data;
  while (size > 0) {
    const ssize_t written = write(file, at, size);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    at += written;
    size -= (size_t)written;
  }
  return true;
}

static bool read_all(int file, void *data, size_t size, int64_t offset) {
  char *to = data;
  while (size > 0) {
    const ssize_t got = pread(file, to, size, offset);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    to += got;
    offset += got;
    size -= (size_t)got;
  }
  return true;
}

/* Head by head: a state is as large as a cache. */
static void make_right(bench_same *self, const void *const in[5]) {
  const int64_t heads = self->value_heads;
  const bench_rule rule = {in[0], in[1], in[2], in[3], in[4], self->key_heads, heads};
  double *rows = calloc((size_t)(self->tokens * HEAD), sizeof *rows);
  self->output = calloc((size_t)bench_same_output(self), sizeof *self->output);
  self->states = calloc((size_t)bench_same_states(self), sizeof *self->states);
  if (rows == NULL || self->output == NULL || self->states == NULL) cli_out_of_memory();
  for (int64_t i = 0; i < self->sequences * heads; ++i) {
    const int64_t begin = i / heads * self->tokens;
    bench_recurrence(&rule, i % heads, begin, self->tokens, self->states + i * STATE, rows);
    for (int64_t t = 0; t < self->tokens; ++t) {
      memcpy(self->output + ((begin + t) * heads + i % heads) * HEAD, rows + t * HEAD,
             HEAD * sizeof *rows);
    }
  }
  free(rows);
}

pega_status bench_same_open(bench_same *out, int64_t sequences, int64_t tokens, int64_t key_heads,
                            int64_t value_heads, const void *const in[5], pega_error *error) {
  *out = (bench_same){sequences, tokens, key_heads, value_heads, -1, -1, NULL, NULL, NULL};
  const size_t rows = (size_t)(sequences * tokens);
  const size_t keys = rows * (size_t)key_heads * HEAD * 2;
  const size_t values = rows * (size_t)value_heads * HEAD * 2;
  const size_t gates = rows * (size_t)value_heads * 4;
  const size_t sizes[5] = {keys, keys, values, gates, gates};
  out->inputs = memfd_create("pega-bench-inputs", MFD_CLOEXEC);
  out->results = memfd_create("pega-bench-results", MFD_CLOEXEC);
  bool good = out->inputs >= 0 && out->results >= 0;
  for (int i = 0; i < 5 && good; ++i) good = write_all(out->inputs, in[i], sizes[i]);
  if (!good) {
    return pega_error_set(error, PEGA_ERROR_IO, NULL, "no file in memory for the peers' inputs: %s",
                          strerror(errno));
  }
  out->request = json_pack("{s:I, s:I, s:o, s:o}", "sequences", (json_int_t)sequences, "tokens",
                           (json_int_t)tokens, "inputs",
                           json_sprintf("/proc/%d/fd/%d", (int)getpid(), out->inputs), "results",
                           json_sprintf("/proc/%d/fd/%d", (int)getpid(), out->results));
  if (out->request == NULL) cli_out_of_memory();
  make_right(out, in);
  return PEGA_OK;
}

void bench_same_close(bench_same *self) {
  if (self->tokens != 0 && self->inputs >= 0) (void)close(self->inputs);
  if (self->tokens != 0 && self->results >= 0) (void)close(self->results);
  json_decref(self->request);
  free(self->output);
  free(self->states);
  memset(self, 0, sizeof *self);
}

json_t *bench_same_judge(const bench_same *self, const uint16_t *output, const float *states,
                         double *largest) {
  bench_sums outputs = {0, 0};
  bench_sums finals = {0, 0};
  for (int64_t i = 0; i < bench_same_output(self); ++i) {
    bench_sums_add(&outputs, bench_from_bf16(output[i]), self->output[i]);
  }
  for (int64_t i = 0; i < bench_same_states(self); ++i) {
    bench_sums_add(&finals, states[i], self->states[i]);
  }
  const double errors[2] = {bench_sums_rms(&outputs), bench_sums_rms(&finals)};
  json_t *told = json_object();
  cli_json_set(told, "sequences", json_integer(self->sequences));
  cli_json_set(told, "tokens", json_integer(self->tokens));
  for (int i = 0; i < 2; ++i) {
    cli_json_set(told, i == 0 ? "output_rms" : "state_rms",
                 isfinite(errors[i]) ? json_real(errors[i]) : json_null());
  }
  /* A NaN is kept. */
  if (largest != NULL) *largest = !(errors[0] <= errors[1]) ? errors[0] : errors[1];
  return told;
}

json_t *bench_same_judge_file(const bench_same *self, int64_t number, double *largest) {
  const int64_t first = bench_same_output(self) * 2;
  const int64_t second = bench_same_states(self) * 4;
  const int64_t begin = number * (first + second);
  uint16_t *output = malloc((size_t)first);
  float *states = malloc((size_t)second);
  json_t *told = NULL;
  if (output == NULL || states == NULL) cli_out_of_memory();
  if (read_all(self->results, output, (size_t)first, begin) &&
      read_all(self->results, states, (size_t)second, begin + first)) {
    told = bench_same_judge(self, output, states, largest);
  }
  free(output);
  free(states);
  return told;
}
