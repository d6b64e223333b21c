/* SPDX-License-Identifier: Apache-2.0 */
/* The whole prefill: every implementation that fits, on q, k, v and from the projections. */
#include <stdlib.h>

#include "bench_device.h"
#include "bench_truth.h"
#include "provide.h"

enum {
  HEAD = PEGA_QWEN35_HEAD_SIZE,
  MAX_WAYS = 24,
  FIRST_ROWS = 256, /* of the first sequence, compared with the CPU's output */
  LAST_ROWS = 64,   /* of the last sequence */
  TRUE_HEADS = 4,   /* value heads that are computed in double, too */
  MEMORY = 1024,    /* tokens after which a state is forgotten, with gates as the inputs have */
  RECURRENT_TOKENS = 2048 /* of a sequence, more of which nobody takes token by token */
};

/* The limits of the tests for every implementation, bf16 on both sides. */
static const double kOutputLimit = 6e-3;
static const double kStateLimit = 4e-3;

typedef struct prefill_case {
  int64_t sequences;
  int64_t tokens; /* of each */
  int64_t key_heads;
  int64_t value_heads;
  bool brief; /* of the plain form, replays of a graph alone */
} prefill_case;

/* Those of the aims first: peers may run out of time. The brief ones make every power of two of them. */
static const prefill_case CASES[] = {
    {1, 64, 16, 32, false},     {1, 128, 16, 32, false},  {1, 512, 16, 32, false},
    {1, 2048, 16, 32, false},   {1, 8192, 16, 32, false}, {1, 32768, 16, 32, false},
    {1, 131072, 16, 32, false}, {32, 512, 16, 32, false}, {8, 4096, 16, 32, false},
    {1, 8192, 16, 48, false},   {1, 8192, 16, 64, false}, {1, 8192, 4, 8, false},
    {1, 256, 16, 32, true},     {1, 1024, 16, 32, true},  {1, 4096, 16, 32, true},
    {1, 16384, 16, 32, true},   {1, 65536, 16, 32, true},
};
static const prefill_case QUICK_CASES[] = {
    {1, 64, 2, 4, false}, {3, 96, 2, 4, false}, {1, 130, 2, 4, true}};

/* Inputs of both forms, outputs, and what the CPU makes of their beginning and end. */
typedef struct prefill {
  prefill_case is;
  int64_t total;
  bench_tensor q, k, v, g, beta;
  bench_tensor qkv, b, a, dt_bias, a_log;
  bench_tensor cu_seqlens; /* no data where there is one sequence */
  bench_tensor output, final_state, workspace;
  struct {
    uint16_t *first; /* output of the first rows; all owned */
    uint16_t *last;  /* output of the last rows */
    float *state;    /* final state of the last sequence */
  } right[2];        /* plain, projected */
  /* By the rule in double, of the plain form: some heads, one behind the other. */
  double *true_first, *true_last, *true_state;
} prefill;

/* What ours and the peers' get alike: of one sequence, and of several that end inside a chunk. */
enum { SAME_TOKENS = 512, SAME_SEQUENCES = 3, SAME_EACH = 170, MAX_SAME = 8 };

/* A way: an implementation and a form. */
typedef struct prefill_way {
  prefill *on;
  pega_function *function;
  char implementation[64];
  char name[96];
  bool projected;
} prefill_way;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static pega_value tensor_or_none(const bench_tensor *tensor) {
  return tensor->view.data == NULL ? pega_value_none() : pega_value_tensor(&tensor->view);
}

static pega_status put(void *self, int64_t number, pega_error *error) {
  const prefill_way *way = self;
  const prefill *on = way->on;
  (void)number;
  const pega_value none = pega_value_none();
  const pega_value name = pega_value_string(way->implementation);
  const pega_value plain[] = {tensor_or_none(&on->q),
                              tensor_or_none(&on->k),
                              tensor_or_none(&on->v),
                              tensor_or_none(&on->g),
                              tensor_or_none(&on->beta),
                              none,
                              tensor_or_none(&on->cu_seqlens),
                              none,
                              tensor_or_none(&on->output),
                              tensor_or_none(&on->final_state),
                              none,
                              name,
                              tensor_or_none(&on->workspace)};
  const pega_value projected[] = {tensor_or_none(&on->qkv),
                                  tensor_or_none(&on->b),
                                  tensor_or_none(&on->a),
                                  tensor_or_none(&on->dt_bias),
                                  tensor_or_none(&on->a_log),
                                  none,
                                  tensor_or_none(&on->cu_seqlens),
                                  none,
                                  tensor_or_none(&on->output),
                                  tensor_or_none(&on->final_state),
                                  name,
                                  tensor_or_none(&on->workspace)};
  return way->projected
             ? pega_function_call(way->function, projected,
                                  (int32_t)(sizeof projected / sizeof *projected), NULL, error)
             : pega_function_call(way->function, plain, (int32_t)(sizeof plain / sizeof *plain),
                                  NULL, error);
}

/* ---- what is right ---- */

/* Rows of a tensor [total, ...] on the host. Returns owned. */
static pega_status fetch(const bench_tensor *from, int64_t begin, int64_t rows, bench_tensor *out,
                         pega_error *error) {
  *out = *from;
  out->view.shape = out->shape;
  out->shape[0] = rows;
  out->view.device = (DLDevice){kDLCPU, 0};
  const size_t bytes = (size_t)bench_tensor_bytes(out);
  const size_t row = rows == 0 ? 0 : bytes / (size_t)rows;
  out->view.data = malloc(bytes + 1);
  if (out->view.data == NULL) cli_out_of_memory();
  BENCH_CUDA(copy_out(out->view.data,
                      (CUdeviceptr)(uintptr_t)from->view.data + (CUdeviceptr)begin * row, bytes));
  return PEGA_OK;
}

static int64_t true_head(const prefill *on, int which) {
  return which * (on->is.value_heads - 1) / (TRUE_HEADS - 1);
}

/* What is right of some rows, from a state of zeros: outputs [TRUE_HEADS, rows, 128] and states. Owned. */
static void make_true(const prefill *on, const bench_tensor in[5], int64_t rows, double **output,
                      double **states) {
  const bench_rule rule = {in[0].view.data, in[1].view.data,  in[2].view.data,   in[3].view.data,
                           in[4].view.data, on->is.key_heads, on->is.value_heads};
  *output = calloc((size_t)(TRUE_HEADS * rows * HEAD), sizeof **output);
  *states = calloc((size_t)TRUE_HEADS * HEAD * HEAD, sizeof **states);
  if (*output == NULL || *states == NULL) cli_out_of_memory();
  for (int i = 0; i < TRUE_HEADS; ++i) {
    bench_recurrence(&rule, true_head(on, i), 0, rows, *states + i * HEAD * HEAD,
                     *output + i * rows * HEAD);
  }
}

/* The two references, which know nothing of each other. */
static pega_status agree(const prefill *on, const uint16_t *output, int64_t rows,
                         const double *true_output, pega_error *error) {
  bench_sums sums = {0, 0};
  for (int i = 0; i < TRUE_HEADS; ++i) {
    for (int64_t row = 0; row < rows; ++row) {
      const uint16_t *got = output + (row * on->is.value_heads + true_head(on, i)) * HEAD;
      const double *wanted = true_output + (i * rows + row) * HEAD;
      for (int k = 0; k < HEAD; ++k) bench_sums_add(&sums, bench_from_bf16(got[k]), wanted[k]);
    }
  }
  if (bench_sums_rms(&sums) <= kOutputLimit) return PEGA_OK;
  return pega_error_set(error, PEGA_ERROR_INTERNAL, NULL,
                        "the prefill on the CPU is off by %.2e from the rule in double",
                        bench_sums_rms(&sums));
}

/* The library's own prefill of some rows on the CPU, from a state of zeros. */
static pega_status on_the_cpu(prefill *on, bool projected, int64_t begin, int64_t rows,
                              uint16_t *output, float *state, double **true_output,
                              double **true_states, pega_error *error) {
  const DLDevice cpu = {kDLCPU, 0};
  const prefill_case *is = &on->is;
  bench_tensor *const plain[] = {&on->q, &on->k, &on->v, &on->g, &on->beta};
  bench_tensor *const from_projections[] = {&on->qkv, &on->b, &on->a, &on->dt_bias, &on->a_log};
  bench_tensor in[5];
  bench_tensor out;
  bench_tensor final;
  pega_function *function = NULL;
  memset(in, 0, sizeof in);
  bench_tensor_make(&out, cpu, output, 16, 3, rows, is->value_heads, HEAD, 1);
  bench_tensor_make(&final, cpu, state, 32, 4, 1, is->value_heads, HEAD, HEAD);
  pega_status status = pega_registry_get(
      projected ? PEGA_QWEN35_PREFILL_PROJECTED : PEGA_QWEN35_PREFILL, &function, error);
  for (int i = 0; i < 5 && status == PEGA_OK; ++i) {
    const bench_tensor *from = projected ? from_projections[i] : plain[i];
    /* dt_bias and a_log are of heads, not of tokens. */
    const bool whole = projected && i >= 3;
    status = fetch(from, whole ? 0 : begin, whole ? is->value_heads : rows, &in[i], error);
    in[i].view.shape = in[i].shape;
  }
  if (status == PEGA_OK) {
    const pega_value args[] = {pega_value_tensor(&in[0].view),
                               pega_value_tensor(&in[1].view),
                               pega_value_tensor(&in[2].view),
                               pega_value_tensor(&in[3].view),
                               pega_value_tensor(&in[4].view),
                               pega_value_none(),
                               pega_value_none(),
                               pega_value_none(),
                               pega_value_tensor(&out.view),
                               pega_value_tensor(&final.view)};
    status = pega_function_call(function, args, (int32_t)(sizeof args / sizeof *args), NULL, error);
  }
  if (status == PEGA_OK && !projected) {
    make_true(on, in, rows, true_output, true_states);
    status = agree(on, output, rows, *true_output, error);
  }
  for (int i = 0; i < 5; ++i) free(in[i].view.data);
  pega_function_release(function);
  return status;
}

static pega_status make_right(prefill *on, bool projected, pega_error *error) {
  const prefill_case *is = &on->is;
  const int64_t width = is->value_heads * HEAD;
  const int64_t first = smaller(is->tokens, FIRST_ROWS);
  const int64_t tail = smaller(is->tokens, MEMORY);
  const int64_t last = smaller(tail, LAST_ROWS);
  double *unused = NULL;
  uint16_t *rows = malloc((size_t)(tail * width) * 2);
  float *state = malloc((size_t)(width * HEAD) * 4);
  on->right[projected].first = malloc((size_t)(first * width) * 2);
  on->right[projected].last = malloc((size_t)(last * width) * 2);
  on->right[projected].state = malloc((size_t)(width * HEAD) * 4);
  if (rows == NULL || state == NULL || on->right[projected].first == NULL ||
      on->right[projected].last == NULL || on->right[projected].state == NULL) {
    cli_out_of_memory();
  }
  pega_status status = on_the_cpu(on, projected, 0, first, on->right[projected].first, state,
                                  &on->true_first, &unused, error);
  if (status == PEGA_OK) {
    status = on_the_cpu(on, projected, on->total - tail, tail, rows, on->right[projected].state,
                        &on->true_last, &on->true_state, error);
  }
  if (status == PEGA_OK) {
    memcpy(on->right[projected].last, rows + (tail - last) * width, (size_t)(last * width) * 2);
  }
  free(unused);
  free(rows);
  free(state);
  return status;
}

/* From the rule in double: of the first rows and the last, and of the final state. */
static void tell_errors(bench_run *run, const prefill *on, bench_way *way, const uint16_t *first,
                        int64_t num_first, const uint16_t *last, int64_t num_last,
                        const float *state) {
  const int64_t tail = smaller(on->is.tokens, MEMORY);
  bench_sums outputs = {0, 0};
  bench_sums states = {0, 0};
  for (int i = 0; i < TRUE_HEADS; ++i) {
    const int64_t head = true_head(on, i);
    const double *right = on->true_first + i * num_first * HEAD;
    const double *right_last = on->true_last + ((i + 1) * tail - num_last) * HEAD;
    for (int64_t row = 0; row < num_first + num_last; ++row) {
      const bool early = row < num_first;
      const int64_t own = early ? row : row - num_first;
      const uint16_t *got = (early ? first : last) + (own * on->is.value_heads + head) * HEAD;
      const double *wanted = (early ? right : right_last) + own * HEAD;
      for (int k = 0; k < HEAD; ++k) bench_sums_add(&outputs, bench_from_bf16(got[k]), wanted[k]);
    }
    for (int k = 0; k < HEAD * HEAD; ++k) {
      bench_sums_add(&states, state[head * HEAD * HEAD + k], on->true_state[i * HEAD * HEAD + k]);
    }
  }
  bench_judge(run, way, "output", "output_rms", bench_sums_rms(&outputs), kOutputLimit);
  bench_judge(run, way, "state", "state_rms", bench_sums_rms(&states), kStateLimit);
}

/* Runs it once, and compares. */
static pega_status check(bench_run *run, prefill *on, bench_way *way, prefill_way *self,
                         pega_error *error) {
  const prefill_case *is = &on->is;
  const int64_t width = is->value_heads * HEAD;
  const int64_t first = smaller(is->tokens, FIRST_ROWS);
  const int64_t last = smaller(is->tokens, LAST_ROWS);
  const CUdeviceptr output = (CUdeviceptr)(uintptr_t)on->output.view.data;
  const CUdeviceptr states = (CUdeviceptr)(uintptr_t)on->final_state.view.data;
  BENCH_CUDA(set_bytes(output, 0xff, (size_t)bench_tensor_bytes(&on->output)));
  BENCH_CUDA(set_bytes(states, 0xff, (size_t)bench_tensor_bytes(&on->final_state)));
  BENCH_OK(put(self, 0, error));
  BENCH_CUDA(stream_synchronize(bench_device_stream(run->device)));
  uint16_t *rows = malloc((size_t)((first + last) * width) * 2);
  float *state = malloc((size_t)(width * HEAD) * 4);
  if (rows == NULL || state == NULL) cli_out_of_memory();
  CUresult result = gpu.copy_out(rows, output, (size_t)(first * width) * 2);
  if (result == 0) {
    result =
        gpu.copy_out(rows + first * width, output + (CUdeviceptr)((on->total - last) * width) * 2,
                     (size_t)(last * width) * 2);
  }
  if (result == 0) {
    result = gpu.copy_out(state, states + (CUdeviceptr)((is->sequences - 1) * width * HEAD) * 4,
                          (size_t)(width * HEAD) * 4);
  }
  if (result == 0) {
    const double head = bench_rms_bf16(rows, on->right[self->projected].first, first * width);
    const double tail =
        bench_rms_bf16(rows + first * width, on->right[self->projected].last, last * width);
    if (!self->projected) {
      tell_errors(run, on, way, rows, first, rows + first * width, last, state);
    }
    bench_judge(run, way, "output", NULL, !(tail <= head) ? tail : head, kOutputLimit);
    bench_judge(run, way, "state", NULL,
                bench_rms_fp32(state, on->right[self->projected].state, width * HEAD), kStateLimit);
  }
  free(rows);
  free(state);
  return result == 0 ? PEGA_OK : bench_driver_error(error, result, "copy_out");
}

/* ---- what there is ---- */

static pega_status make_inputs(bench_run *run, prefill *on, const prefill_case *is,
                               pega_error *error) {
  bench_device *device = run->device;
  const int64_t t = is->sequences * is->tokens;
  const int64_t hk = is->key_heads;
  const int64_t hv = is->value_heads;
  memset(on, 0, sizeof *on);
  on->is = *is;
  on->total = t;
  BENCH_OK(bench_tensor_create(device, &on->q, BENCH_UNIT_ROWS, 1, 16, 3, t, hk, HEAD, 1, error));
  BENCH_OK(bench_tensor_create(device, &on->k, BENCH_UNIT_ROWS, 2, 16, 3, t, hk, HEAD, 1, error));
  BENCH_OK(bench_tensor_create(device, &on->v, BENCH_NORMAL, 3, 16, 3, t, hv, HEAD, 1, error));
  BENCH_OK(bench_tensor_create(device, &on->g, BENCH_GATES, 4, 32, 2, t, hv, 1, 1, error));
  BENCH_OK(bench_tensor_create(device, &on->beta, BENCH_BETAS, 5, 32, 2, t, hv, 1, 1, error));
  if (!is->brief) {
    BENCH_OK(bench_tensor_create(device, &on->qkv, BENCH_NORMAL, 6, 16, 2, t, (2 * hk + hv) * HEAD,
                                 1, 1, error));
    BENCH_OK(bench_tensor_create(device, &on->b, BENCH_NORMAL, 7, 16, 2, t, hv, 1, 1, error));
    BENCH_OK(bench_tensor_create(device, &on->a, BENCH_NORMAL, 8, 16, 2, t, hv, 1, 1, error));
    BENCH_OK(bench_tensor_create(device, &on->dt_bias, BENCH_NORMAL, 9, 16, 1, hv, 1, 1, 1, error));
    BENCH_OK(bench_tensor_create(device, &on->a_log, BENCH_DECAYS, 10, 32, 1, hv, 1, 1, 1, error));
  }
  BENCH_OK(bench_tensor_create(device, &on->output, -1, 0, 16, 3, t, hv, HEAD, 1, error));
  BENCH_OK(bench_tensor_create(device, &on->final_state, -1, 0, 32, 4, is->sequences, hv, HEAD,
                               HEAD, error));
  if (is->sequences > 1) {
    int64_t ends[64];
    for (int64_t i = 0; i <= is->sequences; ++i) ends[i] = i * is->tokens;
    BENCH_OK(bench_tensor_create(device, &on->cu_seqlens, -1, 0, 64, 1, is->sequences + 1, 1, 1, 1,
                                 error));
    BENCH_CUDA(copy_in((CUdeviceptr)(uintptr_t)on->cu_seqlens.view.data, ends,
                       (size_t)(is->sequences + 1) * 8));
  }
  return PEGA_OK;
}

/* Every input read once, output and final states written once. */
static double floor_of(const prefill *on, bool projected) {
  const bench_tensor *const plain[] = {&on->q, &on->k, &on->v, &on->g, &on->beta};
  const bench_tensor *const from_projections[] = {&on->qkv, &on->b, &on->a, &on->dt_bias,
                                                  &on->a_log};
  int64_t bytes = bench_tensor_bytes(&on->output) + bench_tensor_bytes(&on->final_state);
  if (on->is.sequences > 1) bytes += bench_tensor_bytes(&on->cu_seqlens);
  for (int i = 0; i < 5; ++i) {
    bytes += bench_tensor_bytes(projected ? from_projections[i] : plain[i]);
  }
  return bench_floor(bytes);
}

static void copy_string(char *to, size_t size, const pega_value *map, const char *key) {
  size_t length = 0;
  const char *text = pega_value_as_string(pega_map_get(map, key), &length);
  (void)snprintf(to, size, "%.*s", text == NULL ? 0 : (int)length, text == NULL ? "" : text);
}

/* The ways of one form, as the table that chooses tells of them. */
static pega_status add_ways(prefill *on, bool projected, pega_function *explain,
                            pega_function *function, bench_way *ways, prefill_way *selves,
                            int *count, int64_t *workspace, pega_error *error) {
  pega_value choices = pega_value_none();
  const pega_value args[] = {pega_value_device(BENCH_DEVICE),    pega_value_int(on->total),
                             pega_value_int(on->is.sequences),   pega_value_int(on->is.key_heads),
                             pega_value_int(on->is.value_heads), pega_value_bool(projected)};
  BENCH_OK(
      pega_function_call(explain, args, (int32_t)(sizeof args / sizeof *args), &choices, error));
  for (int64_t i = 0; i < pega_value_size(&choices) && *count < MAX_WAYS; ++i) {
    const pega_value *choice = pega_array_get(&choices, i);
    const pega_value *bytes = pega_map_get(choice, "workspace");
    char place[16];
    char reason[256];
    copy_string(place, sizeof place, choice, "device");
    if (strcmp(place, "cuda") != 0) continue;
    bench_way *way = &ways[*count];
    prefill_way *self = &selves[*count];
    ++*count;
    self->on = on;
    self->function = function;
    self->projected = projected;
    copy_string(self->implementation, sizeof self->implementation, choice, "name");
    copy_string(reason, sizeof reason, choice, "reason");
    (void)snprintf(self->name, sizeof self->name, "%s%s", self->implementation,
                   projected ? ", projected" : "");
    way->name = self->name;
    way->by = BENCH_OURS;
    way->chosen = !projected && pega_map_get(choice, "taken")->as.boolean;
    way->floor = floor_of(on, projected);
    if (bytes == NULL || bytes->kind != PEGA_INT) {
      bench_leave_out(way, reason);
    } else if (strstr(self->implementation, "recurrent") != NULL &&
               on->is.tokens > RECURRENT_TOKENS) {
      bench_leave_out(way, "measured up to 2048 tokens of a sequence: token by token takes long");
    } else if (bytes->as.i64 > *workspace) {
      *workspace = bytes->as.i64;
    }
  }
  pega_value_release(&choices);
  return PEGA_OK;
}

/* ---- inputs that all get ---- */

/* Those of the case's kind, made when first wanted. */
static pega_status find_same(bench_run *run, const prefill_case *is, prefill *small,
                             bench_same *known, const bench_same **out, pega_error *error) {
  const bool several = is->sequences > 1;
  const prefill_case of = {several ? SAME_SEQUENCES : 1,
                           run->quick ? 40
                           : several  ? SAME_EACH
                                      : SAME_TOKENS,
                           is->key_heads, is->value_heads, false};
  BENCH_OK(make_inputs(run, small, &of, error));
  int at = 0;
  while (at < MAX_SAME && known[at].tokens != 0 &&
         (known[at].sequences != of.sequences || known[at].key_heads != of.key_heads ||
          known[at].value_heads != of.value_heads)) {
    ++at;
  }
  if (at == MAX_SAME) return PEGA_OK;
  *out = &known[at];
  if (known[at].tokens != 0) return PEGA_OK;
  const bench_tensor *const from[5] = {&small->q, &small->k, &small->v, &small->g, &small->beta};
  bench_tensor in[5];
  const void *data[5];
  memset(in, 0, sizeof in);
  pega_status status = PEGA_OK;
  for (int i = 0; i < 5 && status == PEGA_OK; ++i) {
    status = fetch(from[i], 0, small->total, &in[i], error);
    data[i] = in[i].view.data;
  }
  if (status == PEGA_OK) {
    status = bench_same_open(&known[at], of.sequences, of.tokens, of.key_heads, of.value_heads,
                             data, error);
  }
  for (int i = 0; i < 5; ++i) free(in[i].view.data);
  return status;
}

/* The most workspace that an implementation wants for it. */
static pega_status give_workspace(bench_run *run, prefill *small, pega_function *explain,
                                  pega_error *error) {
  pega_value choices = pega_value_none();
  int64_t most = 0;
  const pega_value args[] = {
      pega_value_device(BENCH_DEVICE),       pega_value_int(small->total),
      pega_value_int(small->is.sequences),   pega_value_int(small->is.key_heads),
      pega_value_int(small->is.value_heads), pega_value_bool(false)};
  BENCH_OK(
      pega_function_call(explain, args, (int32_t)(sizeof args / sizeof *args), &choices, error));
  for (int64_t i = 0; i < pega_value_size(&choices); ++i) {
    const pega_value *bytes = pega_map_get(pega_array_get(&choices, i), "workspace");
    if (bytes != NULL && bytes->kind == PEGA_INT && bytes->as.i64 > most) most = bytes->as.i64;
  }
  pega_value_release(&choices);
  return bench_tensor_create(run->device, &small->workspace, -1, 0, 8, 1, most + 1, 1, 1, 1, error);
}

/* Adds "same_data" to what the way's rows have. */
static pega_status judge_same(bench_run *run, prefill *small, bench_way *way, prefill_way *self,
                              pega_error *error) {
  const CUdeviceptr output = (CUdeviceptr)(uintptr_t)small->output.view.data;
  const CUdeviceptr states = (CUdeviceptr)(uintptr_t)small->final_state.view.data;
  const size_t output_bytes = (size_t)bench_tensor_bytes(&small->output);
  const size_t state_bytes = (size_t)bench_tensor_bytes(&small->final_state);
  prefill_way here = *self;
  here.on = small;
  BENCH_CUDA(set_bytes(output, 0xff, output_bytes));
  BENCH_CUDA(set_bytes(states, 0xff, state_bytes));
  BENCH_OK(put(&here, 0, error));
  BENCH_CUDA(stream_synchronize(bench_device_stream(run->device)));
  uint16_t *rows = malloc(output_bytes);
  float *final = malloc(state_bytes);
  if (rows == NULL || final == NULL) cli_out_of_memory();
  CUresult result = gpu.copy_out(rows, output, output_bytes);
  if (result == 0) result = gpu.copy_out(final, states, state_bytes);
  if (result == 0) {
    double largest = 0;
    if (way->extra == NULL) way->extra = json_object();
    cli_json_set(way->extra, "same_data", bench_same_judge(run->same, rows, final, &largest));
    bench_judge(run, way, "output or state on the inputs that all get", NULL, largest,
                kOutputLimit);
  }
  free(rows);
  free(final);
  return result == 0 ? PEGA_OK : bench_driver_error(error, result, "copy_out");
}

static pega_status measure_case(bench_run *run, const prefill_case *is, prefill *small,
                                pega_function *const *all, pega_error *error) {
  static prefill on;
  bench_way ways[MAX_WAYS];
  prefill_way selves[MAX_WAYS];
  bench_job jobs[MAX_WAYS];
  int count = 0;
  int64_t workspace = 0;
  memset(ways, 0, sizeof ways);
  memset(jobs, 0, sizeof jobs);
  BENCH_OK(make_inputs(run, &on, is, error));
  for (int projected = 0; projected < (is->brief ? 1 : 2); ++projected) {
    BENCH_OK(add_ways(&on, projected == 1, all[0], all[1 + projected], ways, selves, &count,
                      &workspace, error));
  }
  BENCH_OK(
      bench_tensor_create(run->device, &on.workspace, -1, 0, 8, 1, workspace + 1, 1, 1, 1, error));
  BENCH_OK(give_workspace(run, small, all[0], error));
  pega_status status = make_right(&on, false, error);
  if (status == PEGA_OK && !is->brief) status = make_right(&on, true, error);
  for (int i = 0; i < count && status == PEGA_OK; ++i) {
    pega_error failure = PEGA_ERROR_INIT;
    jobs[i].device = run->device;
    jobs[i].put = put;
    jobs[i].self = &selves[i];
    jobs[i].sets = 1;
    if (ways[i].left_out != NULL) continue;
    pega_status own = check(run, &on, &ways[i], &selves[i], &failure);
    if (own == PEGA_OK && ways[i].left_out == NULL && !selves[i].projected && run->same != NULL) {
      own = judge_same(run, small, &ways[i], &selves[i], &failure);
    }
    if (own != PEGA_OK) {
      bench_leave_out(&ways[i], pega_error_message(&failure));
      run->failed = true;
    }
    pega_error_clear(&failure);
  }
  if (status == PEGA_OK) {
    bench_device_compare(
        run, ways, jobs, count,
        is->brief ? BENCH_GRAPH_ALONE
                  : BENCH_HOST_TOO | (on.total == 64 || run->quick ? BENCH_WALL_TOO : 0));
  }
  bench_ways_clear(ways, count);
  for (int i = 0; i < 2; ++i) {
    free(on.right[i].first);
    free(on.right[i].last);
    free(on.right[i].state);
  }
  free(on.true_first);
  free(on.true_last);
  free(on.true_state);
  return status;
}

pega_status bench_prefill(bench_run *run, pega_error *error) {
  static const char *const names[] = {PEGA_QWEN35_PREFILL_EXPLAIN, PEGA_QWEN35_PREFILL,
                                      PEGA_QWEN35_PREFILL_PROJECTED};
  static bench_same known[MAX_SAME];
  pega_function *all[3] = {NULL, NULL, NULL};
  const prefill_case *cases = run->quick ? QUICK_CASES : CASES;
  const size_t count =
      run->quick ? sizeof QUICK_CASES / sizeof *cases : sizeof CASES / sizeof *cases;
  pega_status status = cli_provide(run->options, error);
  for (int i = 0; i < 3 && status == PEGA_OK; ++i) {
    status = pega_registry_get(names[i], &all[i], error);
  }
  for (size_t i = 0; i < count && status == PEGA_OK; ++i) {
    static prefill small;
    run->same = NULL;
    status = find_same(run, &cases[i], &small, known, &run->same, error);
    if (status != PEGA_OK) break;
    bench_case_begin(
        run,
        json_pack("{s:I, s:I, s:I, s:I}", "sequences", (json_int_t)cases[i].sequences, "tokens",
                  (json_int_t)cases[i].tokens, "key_heads", (json_int_t)cases[i].key_heads,
                  "value_heads", (json_int_t)cases[i].value_heads),
        BENCH_PEERS);
    bench_case_try(run, measure_case(run, &cases[i], &small, all, error), error);
    bench_case_end(run);
    bench_device_free(run->device);
  }
  run->same = NULL;
  for (int i = 0; i < MAX_SAME; ++i) bench_same_close(&known[i]);
  for (int i = 0; i < 3; ++i) pega_function_release(all[i]);
  return status;
}
