/* SPDX-License-Identifier: Apache-2.0 */
#include "ops/qwen35/gated_delta_rule_cpu.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "core/parallel.h"
#include "ops/qwen35/gated_delta_rule_cpu_kernels.h"

/* ---- Choice of kernels ---- */

static bool runs(const pega_qwen35_kernels *kernels) {
#if defined(__x86_64__)
  /* These ask about the operating system too: it must save the wide registers. */
  if (kernels != &pega_qwen35_kernels_portable) {
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return false;
  }
  if (kernels == &pega_qwen35_kernels_avx512) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl");
  }
#else
  (void)kernels;
#endif
  return true;
}

/* Asked anew for each call: it costs a few loads, and a remembered answer would be global state. */
static const pega_qwen35_kernels *runnable(int index) {
  /* Fastest first; the last one runs anywhere. */
  static const pega_qwen35_kernels *const all[] = {
#if defined(__x86_64__)
    &pega_qwen35_kernels_avx512,
    &pega_qwen35_kernels_avx2,
#elif defined(__aarch64__)
    &pega_qwen35_kernels_neon,
#endif
    &pega_qwen35_kernels_portable,
  };
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
    if (runs(all[i]) && index-- == 0) return all[i];
  }
  return NULL;
}

const pega_qwen35_kernels *pega_qwen35_kernels_fastest(void) { return runnable(0); }

const char *pega_qwen35_kernels_name(int index) {
  const pega_qwen35_kernels *kernels = index < 0 ? NULL : runnable(index);
  return kernels == NULL ? NULL : kernels->name;
}

const pega_qwen35_kernels *pega_qwen35_kernels_named(const char *name) {
  const pega_qwen35_kernels *kernels;
  for (int i = 0; (kernels = runnable(i)) != NULL; i++) {
    if (strcmp(kernels->name, name) == 0) break;
  }
  return kernels;
}

/* ---- Gates ---- */

static float from_bf16(uint16_t x) {
  const uint32_t bits = (uint32_t)x << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

typedef struct {
  const uint16_t *b, *a, *dt_bias;
  const float *a_log;
  float *g, *beta;
  int64_t num_value_heads;
} gates_job;

static void gates_of_tokens(void *self, int64_t begin, int64_t end) {
  const gates_job *job = self;
  const int64_t n = job->num_value_heads;
  for (int64_t i = begin * n; i < end * n; i++) {
    const int64_t head = i % n;
    const float x = from_bf16(job->a[i]) + from_bf16(job->dt_bias[head]);
    const float softplus = x > 20.0f ? x : log1pf(expf(x));
    job->g[i] = -expf(job->a_log[head]) * softplus;
    job->beta[i] = 1.0f / (1.0f + expf(-from_bf16(job->b[i])));
  }
}

void pega_qwen35_gates_cpu(const uint16_t *b, const uint16_t *a, const uint16_t *dt_bias,
                           const float *a_log, float *g, float *beta, int64_t num_tokens,
                           int64_t num_value_heads, int num_threads) {
  if (num_value_heads <= 0) return;
  gates_job job = {b, a, dt_bias, a_log, g, beta, num_value_heads};
  pega_parallel_for(num_tokens, 1 + 4096 / num_value_heads, num_threads, gates_of_tokens, &job);
}

/* ---- What prefill works through ---- */

static int64_t index_at(const pega_qwen35_indices *indices, int64_t i) {
  return indices->bits == 32 ? ((const int32_t *)indices->values)[i]
                             : ((const int64_t *)indices->values)[i];
}

typedef struct {
  int64_t begin, end;
} span;

static span sequence_of(const pega_qwen35_prefill *p, int64_t sequence) {
  if (p->cu_seqlens.values == NULL) return (span){0, p->num_tokens};
  span s = {index_at(&p->cu_seqlens, sequence), index_at(&p->cu_seqlens, sequence + 1)};
  if (s.begin < 0) s.begin = 0;
  if (s.begin > p->num_tokens) s.begin = p->num_tokens;
  if (s.end > p->num_tokens) s.end = p->num_tokens;
  if (s.end < s.begin) s.end = s.begin;
  return s;
}

/* An item is what one thread does on its own: some value heads of one key head of one sequence, and
 * some columns of them. Heads that share a key head share the products of keys and queries; columns
 * of a state depend on nothing but themselves. */
typedef struct {
  int heads;   /* value heads of an item, at most kMaxHeads */
  int columns; /* of each of them; divides 128 */
} split;

enum {
  kMaxHeads = 4,
  kMinColumns = 32,
  kTokensAtHand = 16,
  /* The products within a chunk grow with its length, those with the state do not. Half of what
   * the stages use is a tenth less work, and enough rows for a product to run at full speed. Only
   * where there is no state before it, which spares two of the three, a first one is whole. */
  kPrefillChunk = 32,
};

typedef struct {
  const pega_qwen35_prefill *prefill;
  const pega_qwen35_kernels *kernels;
  split split;
  int64_t heads_per_key_head;
  int64_t items_per_key_head;
  int64_t num_items;
  _Atomic int64_t next_item;
  const int64_t *order; /* sequences, long ones first; NULL: as they come */
  char *scratch;        /* of the first thread */
  size_t scratch_size;  /* of each thread */
} prefill_job;

/* ---- Chunk by chunk ---- */

typedef struct {
  pega_qwen35_chunk_scratch chunk;
  float states[]; /* of each head, in panels */
} prefill_scratch;

typedef struct {
  span tokens;
  int64_t sequence, key_head, first_head;
  int num_heads, first_column, num_columns;
} work_item;

/* Rows that are needed soon, into the second-level cache: they lie a page or so apart, too far for
 * a processor to foresee. */
static void fetch_rows(const void *rows, int64_t stride, int num_rows, size_t row_bytes) {
  for (const char *row = rows; num_rows > 0; num_rows--, row += stride) {
    for (size_t i = 0; i < row_bytes; i += 64) __builtin_prefetch(row + i, 0, 2);
    __asm__ volatile(""); /* gcc drops calls of a function that does nothing but prefetch */
  }
}

/* One head of a chunk */
typedef struct {
  int64_t token, head;
  int num_rows;
  int num_next_rows;  /* of the chunk that follows */
  bool zero;          /* the state before it is */
  float *final_state; /* where the state after it goes; NULL if nowhere yet */
} chunk_head;

/* One panel of it, from the state before the chunk to the one after it. */
static void do_panel(const prefill_job *job, pega_qwen35_chunk_scratch *s, float *state,
                     const chunk_head *at, int first_column) {
  const pega_qwen35_prefill *p = job->prefill;
  const pega_qwen35_kernels *kernels = job->kernels;
  const int columns = kernels->columns;
  const int num_rows = at->num_rows;
  const int padded = pega_qwen35_padded_rows(num_rows);
  const int depth = at->zero ? 0 : kDim;
  const int64_t token_stride = p->num_value_heads * kDim;
  const int64_t column = at->head * kDim + first_column;
  const uint16_t *v = p->v + at->token * p->v_stride + column;
  uint16_t *output = p->output + at->token * token_stride + column;
  const size_t row_bytes = (size_t)columns * sizeof *v;
  fetch_rows(v + num_rows * p->v_stride, p->v_stride * 2, at->num_next_rows, row_bytes);
  fetch_rows(output + num_rows * token_stride, token_stride * 2, at->num_next_rows, row_bytes);
  if (at->final_state != NULL) {
    fetch_rows(at->final_state + first_column, kDim * sizeof(float), kDim, row_bytes * 2);
  }

  /* v_new = (I + A)^-1 (beta (v - exp(G) (k S))), with -A in place of A */
  kernels->multiply(s->v, s->k, state, columns, NULL, padded, depth, PEGA_QWEN35_FULL);
  kernels->subtract_from(s->v, s->gates.from_start, v, p->v_stride, num_rows);
  kernels->multiply(s->v, pega_qwen35_chunk_a_of(s), s->v, columns, s->gates.beta, padded, 0,
                    PEGA_QWEN35_SOLVE);
  /* o = scale (exp(G) (q S) + P v_new) */
  kernels->multiply(s->o, s->q, state, columns, NULL, padded, depth, PEGA_QWEN35_FULL);
  kernels->multiply(s->o, pega_qwen35_chunk_p_of(s), s->v, columns, s->gates.from_start, padded, 0,
                    PEGA_QWEN35_LOWER);
  kernels->store(output, token_stride, s->o, p->scale, num_rows);
  pega_qwen35_update_state(kernels, state, s, num_rows, at->zero);
}

static void do_chunks(const prefill_job *job, const work_item *item, char *memory) {
  const pega_qwen35_prefill *p = job->prefill;
  const pega_qwen35_kernels *kernels = job->kernels;
  prefill_scratch *scratch = (prefill_scratch *)(void *)memory;
  pega_qwen35_chunk_scratch *s = &scratch->chunk;
  const int64_t first_state = item->sequence * p->num_value_heads + item->first_head;
  const int panel_size = kDim * kernels->columns;

  /* A product of finite numbers with a zero state is left out, which changes no bit. */
  bool zero[kMaxHeads];
  for (int h = 0; h < item->num_heads; h++) {
    float *state = scratch->states + h * kDim * kDim;
    const float *initial = p->initial_state;
    if (initial != NULL) initial += (first_state + h) * kDim * kDim;
    zero[h] = true;
    /* Where there is none, the first chunk writes the state; without a chunk it is zeros. */
    if (initial != NULL || item->tokens.begin == item->tokens.end) {
      zero[h] = pega_qwen35_state_to_panels(state, initial, item->first_column, item->num_columns,
                                            kernels->columns);
    }
  }
  /* Not so where the states are there and zero: that is known for an item's columns alone, and no
   * bit of a result may depend on which items there are. */
  int most_rows = p->initial_state == NULL ? kChunk : kPrefillChunk;
  int num_rows;
  for (int64_t token = item->tokens.begin; token < item->tokens.end; token += num_rows) {
    const int64_t left = item->tokens.end - token;
    num_rows = left < most_rows ? (int)left : most_rows;
    most_rows = kPrefillChunk;
    const int64_t after = left - num_rows;
    const int num_next_rows = after < kPrefillChunk ? (int)after : kPrefillChunk;
    const uint16_t *k = p->k + token * p->k_stride + item->key_head * kDim;
    const uint16_t *q = p->q + token * p->q_stride + item->key_head * kDim;
    pega_qwen35_load_rows(kernels, s->k, k, p->k_stride, num_rows, p->normalize);
    pega_qwen35_load_rows(kernels, s->q, q, p->q_stride, num_rows, p->normalize);
    fetch_rows(k + num_rows * p->k_stride, p->k_stride * 2, num_next_rows, kDim * sizeof *k);
    fetch_rows(q + num_rows * p->q_stride, p->q_stride * 2, num_next_rows, kDim * sizeof *q);
    pega_qwen35_transpose_k(s, num_rows);
    pega_qwen35_multiply_k(kernels, s->kk, s->k, s, num_rows);
    pega_qwen35_multiply_k(kernels, s->qk, s->q, s, num_rows);
    for (int h = 0; h < item->num_heads; h++) {
      const int64_t head = item->first_head + h;
      const int64_t gate = token * p->num_value_heads + head;
      pega_qwen35_sum_gates(&s->gates, p->g + gate, p->num_value_heads, num_rows);
      pega_qwen35_take_betas(&s->gates, p->beta + gate, p->num_value_heads, num_rows);
      kernels->decay(pega_qwen35_chunk_a_of(s), pega_qwen35_chunk_p_of(s), s->kk, s->qk, &s->gates,
                     -1.0f, pega_qwen35_padded_rows(num_rows));
      float *state = scratch->states + h * kDim * kDim;
      chunk_head at = {token, head, num_rows, num_next_rows, zero[h], NULL};
      if (after == 0 && p->final_state != NULL) {
        at.final_state = p->final_state + (first_state + h) * kDim * kDim;
      }
      for (int column = 0; column < item->num_columns; column += kernels->columns) {
        do_panel(job, s, state, &at, item->first_column + column);
        state += panel_size;
      }
      zero[h] = false;
    }
  }
  for (int h = 0; h < item->num_heads && p->final_state != NULL; h++) {
    pega_qwen35_state_from_panels(p->final_state + (first_state + h) * kDim * kDim,
                                  scratch->states + h * kDim * kDim, item->first_column,
                                  item->num_columns, kernels->columns);
  }
}

/* ---- Token by token ---- */

/* An item's columns of one head, 64 at a time: with what is at hand of q and k they fit the
 * second-level cache of any CPU, and the part that recur() takes at a time fits the first. */
static void do_tokens(const prefill_job *job, const work_item *item) {
  enum { kColumns = 64 };
  const pega_qwen35_prefill *p = job->prefill;
  const pega_qwen35_kernels *kernels = job->kernels;
  const int64_t token_stride = p->num_value_heads * kDim;
  const int64_t head = item->first_head;
  const int64_t state_offset = (item->sequence * p->num_value_heads + head) * kDim * kDim;
  _Alignas(64) float state[kDim * kColumns];
  _Alignas(64) float q[kTokensAtHand * kDim], k[kTokensAtHand * kDim];

  const int past = item->first_column + item->num_columns;
  for (int column = item->first_column; column < past; column += kColumns) {
    pega_qwen35_state_to_panels(state,
                                p->initial_state == NULL ? NULL : p->initial_state + state_offset,
                                column, kColumns, kColumns);
    for (int64_t token = item->tokens.begin; token < item->tokens.end; token += kTokensAtHand) {
      const int64_t left = item->tokens.end - token;
      const int num_tokens = left < kTokensAtHand ? (int)left : kTokensAtHand;
      const int64_t key_offset = item->key_head * kDim;
      kernels->load(k, p->k + token * p->k_stride + key_offset, p->k_stride, num_tokens,
                    p->normalize);
      kernels->load(q, p->q + token * p->q_stride + key_offset, p->q_stride, num_tokens,
                    p->normalize);
      for (int part = 0; part < kColumns; part += kernels->recur_columns) {
        const int64_t value_offset = head * kDim + column + part;
        for (int i = 0; i < num_tokens; i++) {
          const int64_t t = token + i;
          const int64_t gate = t * p->num_value_heads + head;
          kernels->recur(state + part, kColumns, q + i * kDim, k + i * kDim,
                         p->v + t * p->v_stride + value_offset,
                         p->output + t * token_stride + value_offset, expf(p->g[gate]),
                         p->beta[gate], p->scale, NULL);
        }
      }
    }
    if (p->final_state != NULL) {
      pega_qwen35_state_from_panels(p->final_state + state_offset, state, column, kColumns,
                                    kColumns);
    }
  }
}

/* ---- Sharing out ---- */

static void do_item(const prefill_job *job, int64_t index, char *scratch) {
  const pega_qwen35_prefill *p = job->prefill;
  const int64_t columns_per_row = kDim / job->split.columns;
  work_item item = {.num_columns = job->split.columns};
  item.first_column = (int)(index % columns_per_row) * job->split.columns;
  index /= columns_per_row;
  const int64_t first = index % job->items_per_key_head * job->split.heads;
  const int64_t num_heads = job->heads_per_key_head - first;
  item.num_heads = num_heads < job->split.heads ? (int)num_heads : job->split.heads;
  index /= job->items_per_key_head;
  item.key_head = index % p->num_key_heads;
  item.first_head = item.key_head * job->heads_per_key_head + first;
  index /= p->num_key_heads;
  item.sequence = job->order == NULL ? index : job->order[index];
  item.tokens = sequence_of(p, item.sequence);
  if (p->implementation == PEGA_QWEN35_CHUNKED) {
    do_chunks(job, &item, scratch);
  } else {
    do_tokens(job, &item);
  }
}

/* Each of these is a thread, with a scratch of its own. */
static void do_items(void *self, int64_t begin, int64_t end) {
  prefill_job *job = self;
  for (int64_t thread = begin; thread < end; thread++) {
    char *scratch = job->scratch;
    if (scratch != NULL) scratch += (size_t)thread * job->scratch_size;
    for (;;) {
      const int64_t index = atomic_fetch_add_explicit(&job->next_item, 1, memory_order_relaxed);
      if (index >= job->num_items) break;
      do_item(job, index, scratch);
    }
  }
}

/* A measure of length: the number of bits and the two bits that follow the first. */
enum { kNumLengths = 256 };
static int length_class(span s) {
  const uint64_t length = (uint64_t)(s.end - s.begin);
  if (length < 4) return (int)length;
  const int top = 63 - __builtin_clzll(length);
  return top * 4 + (int)(length >> (top - 2) & 3);
}

/* Long sequences first, so that no thread begins one when the others are about to end. */
static void sort_by_length(const pega_qwen35_prefill *p, int64_t *order) {
  int64_t place[kNumLengths + 1] = {0};
  for (int64_t i = 0; i < p->num_sequences; i++) place[length_class(sequence_of(p, i))]++;
  int64_t longer = 0;
  for (int length = kNumLengths - 1; length >= 0; length--) {
    const int64_t count = place[length];
    place[length] = longer;
    longer += count;
  }
  for (int64_t i = 0; i < p->num_sequences; i++)
    order[place[length_class(sequence_of(p, i))]++] = i;
}

/* Thousands of operations that a token of an item costs, roughly. */
static double cost_per_token(pega_qwen35_implementation implementation, split s) {
  if (implementation == PEGA_QWEN35_RECURRENT) return 5.0 + 2.0 * s.columns;
  return 30.0 + s.heads * (5.0 + 0.9 * s.columns);
}

static int64_t items_per_key_head(int64_t heads_per_key_head, split s) {
  return (heads_per_key_head + s.heads - 1) / s.heads;
}

/* Chooses the number of threads, and the split with which the last of them is done first. */
static int make_plan(prefill_job *job, int max_threads) {
  const pega_qwen35_prefill *p = job->prefill;
  const bool chunked = p->implementation == PEGA_QWEN35_CHUNKED;
  int64_t longest = 0;
  for (int64_t i = 0; i < p->num_sequences; i++) {
    const span s = sequence_of(p, i);
    if (s.end - s.begin > longest) longest = s.end - s.begin;
  }
  const int all_heads =
      (int)(job->heads_per_key_head < kMaxHeads ? job->heads_per_key_head : kMaxHeads);
  double best = 0.0;
  int num_threads = max_threads;
  for (int heads = chunked ? all_heads : 1;; heads = 1) {
    for (int columns = kDim; columns >= (chunked ? kMinColumns : 64); columns /= 2) {
      const split s = {heads, columns};
      const double per_token = cost_per_token(p->implementation, s);
      const double items_of_one =
          (double)(p->num_key_heads * items_per_key_head(job->heads_per_key_head, s) *
                   (kDim / columns));
      const double all = per_token * items_of_one * (double)p->num_tokens;
      if (best == 0.0 && p->num_threads <= 0) {
        /* A thread costs some tens of microseconds. */
        const double worth = 1.0 + all / 5000.0;
        if (worth < num_threads) num_threads = (int)worth;
      }
      const double largest = per_token * (double)(longest > 0 ? longest : 1);
      const double time = largest * ceil(all / (largest * num_threads));
      if (best == 0.0 || time < best) {
        best = time > 0.0 ? time : 1.0;
        job->split = s;
      }
    }
    if (heads == 1) break;
  }
  job->items_per_key_head = items_per_key_head(job->heads_per_key_head, job->split);
  job->num_items =
      p->num_sequences * p->num_key_heads * job->items_per_key_head * (kDim / job->split.columns);
  return job->num_items < num_threads ? (int)job->num_items : num_threads;
}

static size_t round_up_to_line(size_t size) { return (size + 63) / 64 * 64; }

static size_t scratch_size_of(pega_qwen35_implementation implementation,
                              int64_t heads_per_key_head) {
  if (implementation != PEGA_QWEN35_CHUNKED) return 0;
  const size_t num_states =
      (size_t)(heads_per_key_head < kMaxHeads ? heads_per_key_head : kMaxHeads);
  return sizeof(prefill_scratch) + num_states * kDim * kDim * sizeof(float);
}

/* Threads for something that is worth them. */
static int most_threads(int num_threads) {
  return pega_parallel_num_threads((int64_t)2 * PEGA_PARALLEL_MAX_THREADS, 1, num_threads);
}

size_t pega_qwen35_prefill_cpu_workspace(pega_qwen35_implementation implementation,
                                         int64_t num_sequences, int64_t num_key_heads,
                                         int64_t num_value_heads, int num_threads) {
  if (num_sequences <= 0 || num_key_heads <= 0 || num_value_heads < num_key_heads) return 0;
  const int64_t max_items_of_one = num_value_heads * (kDim / kMinColumns);
  int64_t threads = most_threads(num_threads);
  if (num_sequences < threads / max_items_of_one + 1 &&
      num_sequences * max_items_of_one < threads) {
    threads = num_sequences * max_items_of_one;
  }
  const size_t order = num_sequences > 1 ? (size_t)num_sequences * sizeof(int64_t) : 0;
  return round_up_to_line(order) +
         (size_t)threads * scratch_size_of(implementation, num_value_heads / num_key_heads);
}

int pega_qwen35_prefill_cpu(const pega_qwen35_kernels *kernels,
                            const pega_qwen35_prefill *prefill) {
  const pega_qwen35_prefill *p = prefill;
  if (p->num_sequences <= 0 || p->num_key_heads <= 0 || p->num_value_heads < p->num_key_heads) {
    return 0;
  }
  prefill_job job = {
      .prefill = p,
      .kernels = kernels == NULL ? pega_qwen35_kernels_fastest() : kernels,
      .heads_per_key_head = p->num_value_heads / p->num_key_heads,
  };
  job.scratch_size = scratch_size_of(p->implementation, job.heads_per_key_head);
  int max_threads = most_threads(p->num_threads);

  char *memory = p->workspace;
  size_t size = p->workspace == NULL ? 0 : p->workspace_size;
  const size_t misaligned = (size_t)((uintptr_t)memory % 64);
  if (misaligned != 0) {
    const size_t skipped = 64 - misaligned < size ? 64 - misaligned : size;
    memory += skipped;
    size -= skipped;
  }
  if (job.scratch_size != 0) {
    if (size < job.scratch_size) return -1;
    job.scratch = memory;
    if (size / job.scratch_size < (size_t)max_threads) {
      max_threads = (int)(size / job.scratch_size);
    }
    memory += (size_t)max_threads * job.scratch_size;
    size -= (size_t)max_threads * job.scratch_size;
  }
  const int num_threads = make_plan(&job, max_threads);
  if (num_threads > 1 && p->num_sequences > 1 &&
      size / sizeof(int64_t) >= (size_t)p->num_sequences) {
    sort_by_length(p, (int64_t *)(void *)memory);
    job.order = (const int64_t *)(void *)memory;
  }
  atomic_init(&job.next_item, 0);
  pega_parallel_for(num_threads, 1, num_threads, do_items, &job);
  return 0;
}

/* ---- Decode ---- */

typedef struct {
  const pega_qwen35_decode *decode;
  const pega_qwen35_kernels *kernels;
} decode_job;

static void decode_heads(void *self, int64_t begin, int64_t end) {
  const decode_job *job = self;
  const pega_qwen35_decode *d = job->decode;
  _Alignas(64) float q[kDim], k[kDim];
  for (int64_t i = begin; i < end; i++) {
    const int64_t token = i / d->num_value_heads;
    const int64_t head = i % d->num_value_heads;
    uint16_t *output = d->output + i * kDim;
    const int64_t slot = d->slots.values == NULL ? token : index_at(&d->slots, token);
    if (slot < 0 || slot >= d->num_slots) {
      memset(output, 0, kDim * sizeof *output);
      continue;
    }
    const int64_t key_offset = head / (d->num_value_heads / d->num_key_heads) * kDim;
    job->kernels->load(q, d->q + token * d->q_stride + key_offset, 0, 1, d->normalize);
    job->kernels->load(k, d->k + token * d->k_stride + key_offset, 0, 1, d->normalize);
    float *state = d->states + (slot * d->num_value_heads + head) * kDim * kDim;
    const float decay = expf(d->g[i]);
    const int columns = job->kernels->recur_columns;
    for (int column = 0; column < kDim; column += columns) {
      const float *next = head + 1 < d->num_value_heads ? state + kDim * kDim + column : NULL;
      job->kernels->recur(state + column, kDim, q, k,
                          d->v + token * d->v_stride + head * kDim + column, output + column, decay,
                          d->beta[i], d->scale, next);
    }
  }
}

void pega_qwen35_decode_cpu(const pega_qwen35_kernels *kernels, const pega_qwen35_decode *decode) {
  if (decode->num_key_heads <= 0 || decode->num_value_heads < decode->num_key_heads) return;
  decode_job job = {decode, kernels == NULL ? pega_qwen35_kernels_fastest() : kernels};
  /* A head is two microseconds of work where the states are near: 32 are worth the start of a
   * thread. */
  pega_parallel_for(decode->batch_size * decode->num_value_heads, 16, decode->num_threads,
                    decode_heads, &job);
}
