/* SPDX-License-Identifier: Apache-2.0 */
#include "gdr_reference.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Numbers ---- */

static uint64_t next_random(uint64_t *state) {
  uint64_t x = *state += 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

double gdr_uniform(uint64_t *state) { return ((double)(next_random(state) >> 12) + 0.5) * 0x1p-52; }

double gdr_normal(uint64_t *state) {
  const double radius = sqrt(-2.0 * log(gdr_uniform(state)));
  return radius * cos(6.283185307179586 * gdr_uniform(state));
}

double gdr_bf16_to_double(uint16_t bits) {
  const uint32_t wide = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &wide, sizeof value);
  return (double)value;
}

uint16_t gdr_double_to_bf16(double x) {
  const float value = (float)x;
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40u);
  return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

void *gdr_allocate(int64_t count, size_t size) {
  void *memory = NULL;
  const size_t bytes = (size_t)count * size;
  if (posix_memalign(&memory, 64, bytes == 0 ? 64 : bytes) != 0) {
    fprintf(stderr, "no memory for the test's numbers: %zu bytes\n", bytes);
    exit(1);
  }
  return memory;
}

double *gdr_widen_bf16(const uint16_t *bits, int64_t count) {
  double *wide = gdr_allocate(count, sizeof *wide);
  for (int64_t i = 0; i < count; ++i) wide[i] = gdr_bf16_to_double(bits[i]);
  return wide;
}

double *gdr_widen_f32(const float *values, int64_t count) {
  double *wide = gdr_allocate(count, sizeof *wide);
  for (int64_t i = 0; i < count; ++i) wide[i] = (double)values[i];
  return wide;
}

uint16_t *gdr_narrow_bf16(const double *values, int64_t count) {
  uint16_t *bits = gdr_allocate(count, sizeof *bits);
  for (int64_t i = 0; i < count; ++i) bits[i] = gdr_double_to_bf16(values[i]);
  return bits;
}

float *gdr_narrow_f32(const double *values, int64_t count) {
  float *narrow = gdr_allocate(count, sizeof *narrow);
  for (int64_t i = 0; i < count; ++i) narrow[i] = (float)values[i];
  return narrow;
}

/* ---- All processors ---- */

typedef struct pool {
  void (*do_one)(void *user, int64_t i);
  void *user;
  int64_t count;
  _Atomic int64_t next;
} pool;

static void *work(void *opaque) {
  pool *shared = opaque;
  for (;;) {
    const int64_t i = atomic_fetch_add(&shared->next, 1);
    if (i >= shared->count) return NULL;
    shared->do_one(shared->user, i);
  }
}

void gdr_for_all(int64_t count, void (*do_one)(void *user, int64_t i), void *user) {
  enum { kMost = 32 };
  pool shared = {.do_one = do_one, .user = user, .count = count};
  pthread_t threads[kMost];
  int64_t wanted = sysconf(_SC_NPROCESSORS_ONLN) - 1;
  if (wanted > kMost) wanted = kMost;
  if (wanted > count - 1) wanted = count - 1;
  int64_t started = 0;
  while (started < wanted && pthread_create(&threads[started], NULL, work, &shared) == 0) ++started;
  work(&shared);
  while (started > 0) pthread_join(threads[--started], NULL);
}

/* ---- The problem ---- */

/* What a row of random numbers depends on: neither other rows nor who makes them. */
enum { OF_Q = 1, OF_K, OF_V, OF_GATES, OF_STATE, OF_HEADS };

static uint64_t stream_of(uint64_t seed, uint64_t tensor, int64_t row) {
  uint64_t state = seed * 8 + tensor;
  uint64_t mixed = next_random(&state) + (uint64_t)row;
  return next_random(&mixed);
}

typedef struct making {
  gdr_problem *problem;
  const gdr_options *options;
} making;

/* Length 1 as prepare makes it, to bf16. */
static void normalize_row(const uint16_t *row, uint16_t *out) {
  double squares = 1e-12;
  for (int d = 0; d < kGdrDim; ++d) {
    const double x = gdr_bf16_to_double(row[d]);
    squares += x * x;
  }
  const double length = sqrt(squares);
  for (int d = 0; d < kGdrDim; ++d) {
    out[d] = gdr_double_to_bf16(gdr_bf16_to_double(row[d]) / length);
  }
}

/* Whether x is nearly halfway between two bf16 numbers. */
static bool is_tie(double x) {
  int exponent;
  (void)frexp(x, &exponent);
  const double units = ldexp(fabs(x), 8 - exponent);
  return fabs(units - floor(units) - 0.5) < 1e-3;
}

/* Changes last bits of a row, and so its length, until none of its normalised numbers is: there a last
 * bit of fp32 decides, and each of two answers is right. One try in four fails. */
static void move_off_ties(uint16_t *row) {
  for (int next = 0; next < kGdrDim; ++next) {
    double squares = 1e-12;
    for (int d = 0; d < kGdrDim; ++d) squares += pow(gdr_bf16_to_double(row[d]), 2);
    bool found = false;
    for (int d = 0; d < kGdrDim; ++d) {
      found = found || is_tie(gdr_bf16_to_double(row[d]) / sqrt(squares));
    }
    if (!found) return;
    row[next] ^= 1;
  }
}

static void make_normal_rows(uint64_t seed, uint64_t tensor, int64_t row, int64_t rows, double size,
                             uint16_t *out) {
  for (int64_t i = 0; i < rows; ++i) {
    uint64_t random = stream_of(seed, tensor, row * rows + i);
    for (int d = 0; d < kGdrDim; ++d) {
      out[i * kGdrDim + d] = gdr_double_to_bf16(size * gdr_normal(&random));
    }
  }
}

static void make_unit_rows(uint64_t seed, uint64_t tensor, int64_t row, int64_t rows,
                           uint16_t *out) {
  for (int64_t i = 0; i < rows; ++i) {
    uint64_t random = stream_of(seed, tensor, row * rows + i);
    double values[kGdrDim];
    double squares = 1e-12;
    for (int d = 0; d < kGdrDim; ++d) {
      values[d] = gdr_normal(&random);
      squares += values[d] * values[d];
    }
    const double length = sqrt(squares);
    for (int d = 0; d < kGdrDim; ++d) {
      out[i * kGdrDim + d] = gdr_double_to_bf16(values[d] / length);
    }
  }
}

/* Token `row` of every input, but for what is made of projections. */
static void make_token(void *user, int64_t row) {
  const making *it = user;
  gdr_problem *problem = it->problem;
  const uint64_t seed = it->options->seed;
  const int64_t hk = problem->num_key_heads;
  const int64_t hv = problem->num_value_heads;
  uint64_t random = stream_of(seed, OF_GATES, row);
  if (it->options->projected) {
    uint16_t *qkv = problem->qkv + row * (2 * hk + hv) * kGdrDim;
    make_normal_rows(seed, OF_Q, row, hk, 1.5, qkv);
    make_normal_rows(seed, OF_K, row, hk, 0.7, qkv + hk * kGdrDim);
    for (int64_t h = 0; h < 2 * hk; ++h) move_off_ties(qkv + h * kGdrDim);
    make_normal_rows(seed, OF_V, row, hv, 1, qkv + 2 * hk * kGdrDim);
    for (int64_t h = 0; h < hv; ++h) {
      problem->b[row * hv + h] = gdr_double_to_bf16(gdr_normal(&random));
      problem->a[row * hv + h] = gdr_double_to_bf16(gdr_normal(&random));
    }
    return;
  }
  if (it->options->long_rows) {
    make_normal_rows(seed, OF_Q, row, hk, 1.5, problem->long_q + row * hk * kGdrDim);
    make_normal_rows(seed, OF_K, row, hk, 0.7, problem->long_k + row * hk * kGdrDim);
    for (int64_t h = row * hk; h < (row + 1) * hk; ++h) {
      move_off_ties(problem->long_q + h * kGdrDim);
      move_off_ties(problem->long_k + h * kGdrDim);
    }
  } else {
    make_unit_rows(seed, OF_Q, row, hk, problem->q + row * hk * kGdrDim);
    make_unit_rows(seed, OF_K, row, hk, problem->k + row * hk * kGdrDim);
  }
  make_normal_rows(seed, OF_V, row, hv, 1, problem->v + row * hv * kGdrDim);
  for (int64_t h = 0; h < hv; ++h) {
    problem->g[row * hv + h] = (float)(it->options->lowest_gate * gdr_uniform(&random));
    problem->beta[row * hv + h] = (float)gdr_uniform(&random);
  }
}

static void make_state(void *user, int64_t i) {
  const making *it = user;
  uint64_t random = stream_of(it->options->seed, OF_STATE, i);
  float *state = it->problem->initial_state + i * kGdrState;
  for (int64_t j = 0; j < kGdrState; ++j) {
    state[j] = (float)(it->options->state_size * gdr_normal(&random));
  }
}

static void normalize_token(void *user, int64_t row) {
  gdr_problem *problem = user;
  for (int64_t h = 0; h < problem->num_key_heads; ++h) {
    const int64_t at = (row * problem->num_key_heads + h) * kGdrDim;
    normalize_row(problem->long_q + at, problem->q + at);
    normalize_row(problem->long_k + at, problem->k + at);
  }
}

void gdr_problem_normalize(gdr_problem *problem) {
  gdr_for_all(problem->num_rows, normalize_token, problem);
}

static void prepare_token(void *user, int64_t row) {
  gdr_problem *problem = user;
  const int64_t hk = problem->num_key_heads;
  const int64_t hv = problem->num_value_heads;
  const uint16_t *qkv = problem->qkv + row * (2 * hk + hv) * kGdrDim;
  for (int64_t h = 0; h < hk; ++h) {
    normalize_row(qkv + h * kGdrDim, problem->q + (row * hk + h) * kGdrDim);
    normalize_row(qkv + (hk + h) * kGdrDim, problem->k + (row * hk + h) * kGdrDim);
  }
  memcpy(problem->v + row * hv * kGdrDim, qkv + 2 * hk * kGdrDim,
         (size_t)(hv * kGdrDim) * sizeof(uint16_t));
  for (int64_t h = 0; h < hv; ++h) {
    const int64_t at = row * hv + h;
    const double x = gdr_bf16_to_double(problem->a[at]) + gdr_bf16_to_double(problem->dt_bias[h]);
    const double softplus = x > 20 ? x : log1p(exp(x));
    problem->g[at] = (float)(-exp((double)problem->a_log[h]) * softplus);
    problem->beta[at] = (float)(1 / (1 + exp(-gdr_bf16_to_double(problem->b[at]))));
  }
}

void gdr_problem_prepare(gdr_problem *problem) {
  gdr_for_all(problem->num_rows, prepare_token, problem);
}

gdr_problem gdr_problem_create(const gdr_options *options) {
  const int64_t hk = options->num_key_heads;
  const int64_t hv = options->num_value_heads;
  gdr_problem problem = {.num_sequences = options->num_sequences,
                         .num_key_heads = hk,
                         .num_value_heads = hv,
                         .scale = 1 / sqrt(kGdrDim)};
  problem.cu_seqlens = gdr_allocate(options->num_sequences + 1, sizeof(int64_t));
  problem.cu_seqlens[0] = 0;
  for (int64_t s = 0; s < options->num_sequences; ++s) {
    problem.cu_seqlens[s + 1] = problem.cu_seqlens[s] + options->lengths[s];
  }
  problem.num_tokens = problem.cu_seqlens[options->num_sequences];
  const int64_t rows = options->period > 0 ? options->period : problem.num_tokens;
  problem.num_rows = rows;
  problem.q = gdr_allocate(rows * hk * kGdrDim, sizeof(uint16_t));
  problem.k = gdr_allocate(rows * hk * kGdrDim, sizeof(uint16_t));
  problem.v = gdr_allocate(rows * hv * kGdrDim, sizeof(uint16_t));
  problem.g = gdr_allocate(rows * hv, sizeof(float));
  problem.beta = gdr_allocate(rows * hv, sizeof(float));
  making it = {&problem, options};
  if (options->projected) {
    problem.qkv = gdr_allocate(rows * (2 * hk + hv) * kGdrDim, sizeof(uint16_t));
    problem.b = gdr_allocate(rows * hv, sizeof(uint16_t));
    problem.a = gdr_allocate(rows * hv, sizeof(uint16_t));
    problem.dt_bias = gdr_allocate(hv, sizeof(uint16_t));
    problem.a_log = gdr_allocate(hv, sizeof(float));
    uint64_t random = stream_of(options->seed, OF_HEADS, 0);
    for (int64_t h = 0; h < hv; ++h) {
      /* In every fourth head softplus(x) is x. */
      problem.dt_bias[h] = gdr_double_to_bf16(h % 4 == 3 ? 25 : gdr_normal(&random));
      problem.a_log[h] = (float)log(-options->lowest_gate * gdr_uniform(&random) + 1e-6);
    }
  } else if (options->long_rows) {
    problem.long_q = gdr_allocate(rows * hk * kGdrDim, sizeof(uint16_t));
    problem.long_k = gdr_allocate(rows * hk * kGdrDim, sizeof(uint16_t));
  }
  gdr_for_all(rows, make_token, &it);
  if (options->projected) gdr_problem_prepare(&problem);
  if (problem.long_q != NULL) gdr_problem_normalize(&problem);
  if (options->state_size > 0) {
    problem.initial_state = gdr_allocate(options->num_sequences * hv * kGdrState, sizeof(float));
    gdr_for_all(options->num_sequences * hv, make_state, &it);
  }
  return problem;
}

gdr_problem gdr_problem_simple(int64_t num_tokens, int64_t num_key_heads, int64_t num_value_heads,
                               double lowest_gate, uint64_t seed) {
  const gdr_options options = {.num_key_heads = num_key_heads,
                               .num_value_heads = num_value_heads,
                               .lengths = &num_tokens,
                               .num_sequences = 1,
                               .lowest_gate = lowest_gate,
                               .seed = seed};
  return gdr_problem_create(&options);
}

void gdr_problem_free(gdr_problem *problem) {
  void *const all[] = {problem->cu_seqlens, problem->q,
                       problem->k,          problem->v,
                       problem->g,          problem->beta,
                       problem->long_q,     problem->long_k,
                       problem->qkv,        problem->b,
                       problem->a,          problem->dt_bias,
                       problem->a_log,      problem->initial_state};
  for (size_t i = 0; i < sizeof all / sizeof *all; ++i) free(all[i]);
  memset(problem, 0, sizeof *problem);
}

/* ---- The recurrence ---- */

enum { kColumns = 16 };

/* So many columns of the state of one head: they know nothing of the others. */
typedef struct walk {
  const gdr_problem *problem;
  int64_t sequence;
  int64_t head;
  int64_t column;
  const int64_t *tokens;
  int64_t num_tokens;
  double *output;
  double *final_state;
} walk;

__attribute__((always_inline)) static inline void walk_columns(const walk *it) {
  const gdr_problem *problem = it->problem;
  const int64_t hv = problem->num_value_heads;
  const int64_t key_head = it->head * problem->num_key_heads / hv;
  const int64_t begin = problem->cu_seqlens[it->sequence];
  const int64_t length = problem->cu_seqlens[it->sequence + 1] - begin;
  _Alignas(64) double state[kGdrDim][kColumns] = {{0}};
  if (problem->initial_state != NULL) {
    const float *from =
        problem->initial_state + (it->sequence * hv + it->head) * kGdrState + it->column;
    for (int d = 0; d < kGdrDim; ++d) {
      for (int c = 0; c < kColumns; ++c) state[d][c] = (double)from[d * kGdrDim + c];
    }
  }
  int64_t kept = 0;
  for (int64_t t = 0; t < length; ++t) {
    const int64_t row = (begin + t) % problem->num_rows;
    const uint16_t *q_bits = problem->q + (row * problem->num_key_heads + key_head) * kGdrDim;
    const uint16_t *k_bits = problem->k + (row * problem->num_key_heads + key_head) * kGdrDim;
    const uint16_t *v = problem->v + (row * hv + it->head) * kGdrDim + it->column;
    const double decay = exp((double)problem->g[row * hv + it->head]);
    const double beta = (double)problem->beta[row * hv + it->head];
    double q[kGdrDim];
    double k[kGdrDim];
    for (int d = 0; d < kGdrDim; ++d) {
      q[d] = gdr_bf16_to_double(q_bits[d]);
      k[d] = gdr_bf16_to_double(k_bits[d]);
    }
    double u[kColumns] = {0};
    for (int d = 0; d < kGdrDim; ++d) {
      for (int c = 0; c < kColumns; ++c) {
        state[d][c] *= decay;
        u[c] += k[d] * state[d][c];
      }
    }
    for (int c = 0; c < kColumns; ++c) u[c] = beta * (gdr_bf16_to_double(v[c]) - u[c]);
    double o[kColumns] = {0};
    for (int d = 0; d < kGdrDim; ++d) {
      for (int c = 0; c < kColumns; ++c) {
        state[d][c] += k[d] * u[c];
        o[c] += q[d] * state[d][c];
      }
    }
    if (it->tokens != NULL && (kept == it->num_tokens || it->tokens[kept] != t)) continue;
    /* All rows of a walk over every head are HV rows apart. */
    const int64_t stride = it->tokens == NULL ? hv * kGdrDim : kGdrDim;
    for (int c = 0; c < kColumns; ++c) it->output[kept * stride + c] = problem->scale * o[c];
    ++kept;
  }
  for (int d = 0; d < kGdrDim; ++d) {
    memcpy(it->final_state + d * kGdrDim, state[d], sizeof state[d]);
  }
}

static void walk_plain(const walk *it) { walk_columns(it); }

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static void walk_avx2(const walk *it) { walk_columns(it); }
#endif

static void walk_any(const walk *it) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    walk_avx2(it);
    return;
  }
#endif
  walk_plain(it);
}

typedef struct walks {
  const gdr_problem *problem;
  const int64_t *heads;
  const int64_t *tokens;
  int64_t num_tokens;
  double *outputs;
  double *final_states;
} walks;

static void walk_one_of_all(void *user, int64_t i) {
  const walks *it = user;
  const int64_t blocks = kGdrDim / kColumns;
  const int64_t hv = it->problem->num_value_heads;
  const int64_t which = i / blocks; /* sequence and head */
  const int64_t column = i % blocks * kColumns;
  const int64_t begin = it->problem->cu_seqlens[which / hv];
  const walk one = {.problem = it->problem,
                    .sequence = which / hv,
                    .head = which % hv,
                    .column = column,
                    .output = it->outputs + (begin * hv + which % hv) * kGdrDim + column,
                    .final_state = it->final_states + which * kGdrState + column};
  walk_any(&one);
}

gdr_answer gdr_solve_recurrence(const gdr_problem *problem) {
  const int64_t hv = problem->num_value_heads;
  gdr_answer answer;
  answer.output = gdr_allocate(problem->num_tokens * hv * kGdrDim, sizeof(double));
  answer.final_state = gdr_allocate(problem->num_sequences * hv * kGdrState, sizeof(double));
  walks it = {.problem = problem, .outputs = answer.output, .final_states = answer.final_state};
  gdr_for_all(problem->num_sequences * hv * (kGdrDim / kColumns), walk_one_of_all, &it);
  return answer;
}

void gdr_answer_free(gdr_answer *answer) {
  free(answer->output);
  free(answer->final_state);
  answer->output = NULL;
  answer->final_state = NULL;
}

static void walk_one_of_heads(void *user, int64_t i) {
  const walks *it = user;
  const int64_t blocks = kGdrDim / kColumns;
  const int64_t which = i / blocks;
  const int64_t column = i % blocks * kColumns;
  const walk one = {.problem = it->problem,
                    .sequence = 0,
                    .head = it->heads[which],
                    .column = column,
                    .tokens = it->tokens,
                    .num_tokens = it->num_tokens,
                    .output = it->outputs + which * it->num_tokens * kGdrDim + column,
                    .final_state = it->final_states + which * kGdrState + column};
  walk_any(&one);
}

void gdr_walk_heads(const gdr_problem *problem, const int64_t *heads, int64_t num_heads,
                    const int64_t *tokens, int64_t num_tokens, double *outputs,
                    double *final_states) {
  walks it = {.problem = problem,
              .heads = heads,
              .tokens = tokens,
              .num_tokens = num_tokens,
              .outputs = outputs,
              .final_states = final_states};
  gdr_for_all(num_heads * (kGdrDim / kColumns), walk_one_of_heads, &it);
}

/* ---- Comparisons ---- */

typedef struct sums {
  double squared_difference;
  double squared_reference;
  double max_difference;
  double max_reference;
} sums;

static void add(sums *total, double got, double expected) {
  const double difference = fabs(got - expected);
  total->squared_difference += difference * difference;
  total->squared_reference += expected * expected;
  /* A NaN must not pass for a small number. */
  if (!(difference <= total->max_difference)) total->max_difference = difference;
  total->max_reference = fmax(total->max_reference, fabs(expected));
}

static gdr_error judge(const sums *total) {
  if (total->squared_difference == 0) return (gdr_error){0, 0};
  const double rms = sqrt(total->squared_difference) / sqrt(total->squared_reference);
  /* A NaN that came before a number is in the sum. */
  const double max = isnan(rms) ? rms : total->max_difference / total->max_reference;
  return (gdr_error){rms, max};
}

gdr_error gdr_compare_bf16(const uint16_t *got, const double *expected, int64_t count) {
  sums total = {0};
  for (int64_t i = 0; i < count; ++i) add(&total, gdr_bf16_to_double(got[i]), expected[i]);
  return judge(&total);
}

gdr_error gdr_compare_f32(const float *got, const double *expected, int64_t count) {
  sums total = {0};
  for (int64_t i = 0; i < count; ++i) add(&total, (double)got[i], expected[i]);
  return judge(&total);
}

int64_t gdr_badly_rounded(const uint16_t *got, const double *expected, int64_t count) {
  double greatest = 0;
  for (int64_t i = 0; i < count; ++i) greatest = fmax(greatest, fabs(expected[i]));
  int64_t bad = 0;
  for (int64_t i = 0; i < count; ++i) {
    /* Half a unit in the last place is at most 2^-8 of a number. A NaN is bad. */
    const double most = fabs(expected[i]) * 0x1p-8 + greatest * 1e-5;
    if (!(fabs(gdr_bf16_to_double(got[i]) - expected[i]) <= most)) ++bad;
  }
  return bad;
}

static double worse(double one, double other) { return isnan(other) || other > one ? other : one; }

gdr_error gdr_worse(gdr_error one, gdr_error other) {
  return (gdr_error){worse(one.rms, other.rms), worse(one.max, other.max)};
}
