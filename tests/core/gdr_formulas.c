/* SPDX-License-Identifier: Apache-2.0 */
/* The chunked form's stages in fp64, each as its formula reads. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gdr_reference.h"

double *gdr_expand_heads(const gdr_problem *problem, const uint16_t *rows) {
  const int64_t hk = problem->num_key_heads;
  const int64_t hv = problem->num_value_heads;
  double *out = gdr_allocate(problem->num_rows * hv * kGdrDim, sizeof *out);
  for (int64_t t = 0; t < problem->num_rows; ++t) {
    for (int64_t h = 0; h < hv; ++h) {
      const uint16_t *row = rows + (t * hk + h * hk / hv) * kGdrDim;
      for (int d = 0; d < kGdrDim; ++d) {
        out[(t * hv + h) * kGdrDim + d] = gdr_bf16_to_double(row[d]);
      }
    }
  }
  return out;
}

/* Numbers of one stage; which of them are there depends on the stage. */
typedef struct stage {
  int64_t num_tokens;
  int64_t num_heads;
  const double *q;
  const double *k;
  const double *v;
  const double *beta;
  const double *sums; /* g_cumsum */
  const double *a;    /* a_tril, or a_inv */
  const double *w_in;
  const double *u_in;
  const double *states_in;
  double *out;
  double *w;
  double *u;
  double *states;
  double *v_new;
  double *final_state;
  double scale;
} stage;

/* One chunk of one head. */
typedef struct place {
  int64_t head;
  int64_t first; /* its first row, counted in rows of [T, HV] */
  int64_t rows;
} place;

static place place_of(const stage *it, int64_t i) {
  const int64_t chunk = i / it->num_heads;
  const int64_t left = it->num_tokens - chunk * kGdrChunk;
  const int64_t head = i % it->num_heads;
  return (place){head, chunk * kGdrChunk * it->num_heads + head,
                 left < kGdrChunk ? left : kGdrChunk};
}

static int64_t num_chunks(int64_t num_tokens) { return (num_tokens + kGdrChunk - 1) / kGdrChunk; }

/* Where row i of a place begins, in a tensor whose rows have `width` numbers. */
static int64_t row_of(const stage *it, place at, int64_t i, int64_t width) {
  return (at.first + i * it->num_heads) * width;
}

static double sum_at(const stage *it, place at, int64_t i) {
  return it->sums[row_of(it, at, i, 1)];
}

static double dot(const double *x, const double *y) {
  double sum = 0;
  for (int d = 0; d < kGdrDim; ++d) sum += x[d] * y[d];
  return sum;
}

void gdr_stage_cumsum(int64_t num_tokens, int64_t num_heads, const double *g, double *g_cumsum) {
  for (int64_t t = 0; t < num_tokens; ++t) {
    for (int64_t h = 0; h < num_heads; ++h) {
      const double before = t % kGdrChunk == 0 ? 0 : g_cumsum[(t - 1) * num_heads + h];
      /* As docs/functions.md has it: exp(-128) is 0 in fp32. */
      g_cumsum[t * num_heads + h] = before + fmax(g[t * num_heads + h], -128);
    }
  }
}

static void do_a(void *user, int64_t index) {
  const stage *it = user;
  const place at = place_of(it, index);
  for (int64_t i = 0; i < at.rows; ++i) {
    double *out = it->out + row_of(it, at, i, kGdrChunk);
    memset(out, 0, kGdrChunk * sizeof *out);
    for (int64_t j = 0; j < i; ++j) {
      out[j] = it->beta[row_of(it, at, i, 1)] * exp(sum_at(it, at, i) - sum_at(it, at, j)) *
               dot(it->k + row_of(it, at, i, kGdrDim), it->k + row_of(it, at, j, kGdrDim));
    }
  }
}

void gdr_stage_a(int64_t num_tokens, int64_t num_heads, const double *k, const double *g_cumsum,
                 const double *beta, double *a_tril) {
  stage it = {.num_tokens = num_tokens,
              .num_heads = num_heads,
              .k = k,
              .sums = g_cumsum,
              .beta = beta,
              .out = a_tril};
  gdr_for_all(num_chunks(num_tokens) * num_heads, do_a, &it);
}

static void do_solve(void *user, int64_t index) {
  const stage *it = user;
  const place at = place_of(it, index);
  for (int64_t i = 0; i < at.rows; ++i) {
    double *out = it->out + row_of(it, at, i, kGdrChunk);
    const double *a = it->a + row_of(it, at, i, kGdrChunk);
    memset(out, 0, kGdrChunk * sizeof *out);
    out[i] = 1;
    for (int64_t j = 0; j < i; ++j) {
      const double *above = it->out + row_of(it, at, j, kGdrChunk);
      for (int64_t c = 0; c <= j; ++c) out[c] -= a[j] * above[c];
    }
  }
}

void gdr_stage_solve(int64_t num_tokens, int64_t num_heads, const double *a_tril, double *a_inv) {
  stage it = {.num_tokens = num_tokens, .num_heads = num_heads, .a = a_tril, .out = a_inv};
  gdr_for_all(num_chunks(num_tokens) * num_heads, do_solve, &it);
}

static void do_recompute(void *user, int64_t index) {
  const stage *it = user;
  const place at = place_of(it, index);
  for (int64_t i = 0; i < at.rows; ++i) {
    double *w = it->w + row_of(it, at, i, kGdrDim);
    double *u = it->u + row_of(it, at, i, kGdrDim);
    memset(w, 0, kGdrDim * sizeof *w);
    memset(u, 0, kGdrDim * sizeof *u);
    for (int64_t j = 0; j <= i; ++j) {
      const double of_v = it->a[row_of(it, at, i, kGdrChunk) + j] * it->beta[row_of(it, at, j, 1)];
      const double of_k = of_v * exp(sum_at(it, at, j));
      const double *k = it->k + row_of(it, at, j, kGdrDim);
      const double *v = it->v + row_of(it, at, j, kGdrDim);
      for (int d = 0; d < kGdrDim; ++d) {
        w[d] += of_k * k[d];
        u[d] += of_v * v[d];
      }
    }
  }
}

void gdr_stage_recompute(int64_t num_tokens, int64_t num_heads, const double *k, const double *v,
                         const double *beta, const double *a_inv, const double *g_cumsum, double *w,
                         double *u) {
  stage it = {.num_tokens = num_tokens,
              .num_heads = num_heads,
              .k = k,
              .v = v,
              .beta = beta,
              .a = a_inv,
              .sums = g_cumsum,
              .w = w,
              .u = u};
  gdr_for_all(num_chunks(num_tokens) * num_heads, do_recompute, &it);
}

/* All chunks of one head. */
static void do_state(void *user, int64_t head) {
  const stage *it = user;
  double *state = gdr_allocate(kGdrState, sizeof *state);
  if (it->states_in == NULL) {
    memset(state, 0, kGdrState * sizeof *state);
  } else {
    memcpy(state, it->states_in + head * kGdrState, kGdrState * sizeof *state);
  }
  for (int64_t chunk = 0; chunk < num_chunks(it->num_tokens); ++chunk) {
    const int64_t index = chunk * it->num_heads + head;
    const place at = place_of(it, index);
    memcpy(it->states + index * kGdrState, state, kGdrState * sizeof *state);
    const double last = sum_at(it, at, at.rows - 1);
    for (int64_t i = 0; i < at.rows; ++i) {
      const double *w = it->w_in + row_of(it, at, i, kGdrDim);
      const double *u = it->u_in + row_of(it, at, i, kGdrDim);
      double *out = it->v_new + row_of(it, at, i, kGdrDim);
      memcpy(out, u, kGdrDim * sizeof *out);
      for (int r = 0; r < kGdrDim; ++r) {
        for (int c = 0; c < kGdrDim; ++c) out[c] -= w[r] * state[r * kGdrDim + c];
      }
    }
    for (int64_t j = 0; j < kGdrState; ++j) state[j] *= exp(last);
    for (int64_t i = 0; i < at.rows; ++i) {
      const double *k = it->k + row_of(it, at, i, kGdrDim);
      const double *v_new = it->v_new + row_of(it, at, i, kGdrDim);
      const double decay = exp(last - sum_at(it, at, i));
      for (int r = 0; r < kGdrDim; ++r) {
        for (int c = 0; c < kGdrDim; ++c) state[r * kGdrDim + c] += decay * k[r] * v_new[c];
      }
    }
  }
  if (it->final_state != NULL) {
    memcpy(it->final_state + head * kGdrState, state, kGdrState * sizeof *state);
  }
  free(state);
}

void gdr_stage_state(int64_t num_tokens, int64_t num_heads, const double *k, const double *w,
                     const double *u, const double *g_cumsum, const double *initial_state,
                     double *chunk_state, double *v_new, double *final_state) {
  stage it = {.num_tokens = num_tokens,
              .num_heads = num_heads,
              .k = k,
              .w_in = w,
              .u_in = u,
              .sums = g_cumsum,
              .states_in = initial_state,
              .states = chunk_state,
              .v_new = v_new,
              .final_state = final_state};
  gdr_for_all(num_heads, do_state, &it);
}

static void do_o(void *user, int64_t index) {
  const stage *it = user;
  const place at = place_of(it, index);
  const double *state = it->states_in + index * kGdrState;
  for (int64_t i = 0; i < at.rows; ++i) {
    const double *q = it->q + row_of(it, at, i, kGdrDim);
    double *out = it->out + row_of(it, at, i, kGdrDim);
    double sum[kGdrDim] = {0};
    for (int r = 0; r < kGdrDim; ++r) {
      const double factor = q[r] * exp(sum_at(it, at, i));
      for (int c = 0; c < kGdrDim; ++c) sum[c] += factor * state[r * kGdrDim + c];
    }
    for (int64_t j = 0; j <= i; ++j) {
      const double factor =
          exp(sum_at(it, at, i) - sum_at(it, at, j)) * dot(q, it->k + row_of(it, at, j, kGdrDim));
      const double *v_new = it->v + row_of(it, at, j, kGdrDim);
      for (int c = 0; c < kGdrDim; ++c) sum[c] += factor * v_new[c];
    }
    for (int c = 0; c < kGdrDim; ++c) out[c] = it->scale * sum[c];
  }
}

void gdr_stage_o(int64_t num_tokens, int64_t num_heads, const double *q, const double *k,
                 const double *v_new, const double *chunk_state, const double *g_cumsum,
                 double scale, double *output) {
  stage it = {.num_tokens = num_tokens,
              .num_heads = num_heads,
              .q = q,
              .k = k,
              .v = v_new,
              .states_in = chunk_state,
              .sums = g_cumsum,
              .scale = scale,
              .out = output};
  gdr_for_all(num_chunks(num_tokens) * num_heads, do_o, &it);
}
