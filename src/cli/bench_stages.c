/* SPDX-License-Identifier: Apache-2.0 */
/* The prefill's seven stages, each alone, on what the ones before have made. */
#include <stdlib.h>

#include "bench_device.h"

enum {
  HEAD = PEGA_QWEN35_HEAD_SIZE,
  CHUNK = PEGA_QWEN35_CHUNK,
  NUM_STAGES = 7,
  MAX_TENSORS = 10,
  COMPARED = 2 * CHUNK /* tokens whose results are compared with the CPU's */
};

/* How many of a tensor's outermost dimension belong to some tokens. */
typedef enum stage_extent { PER_TOKEN, PER_CHUNK, WHOLE } stage_extent;

/* Every tensor of the stages. */
enum {
  QKV,
  B,
  A,
  DT_BIAS,
  A_LOG,
  Q,
  K,
  V,
  G,
  BETA,
  G_CUMSUM,
  A_TRIL,
  A_INV,
  W,
  U,
  CHUNK_STATE,
  V_NEW,
  FINAL_STATE,
  OUTPUT,
  NUM_TENSORS,
  NONE = -1
};

static const struct {
  int stuff; /* -1: a stage makes it */
  int bits;
  stage_extent extent;
} TENSORS[NUM_TENSORS] = {
    [QKV] = {BENCH_NORMAL, 16, PER_TOKEN},
    [B] = {BENCH_NORMAL, 16, PER_TOKEN},
    [A] = {BENCH_NORMAL, 16, PER_TOKEN},
    [DT_BIAS] = {BENCH_NORMAL, 16, WHOLE},
    [A_LOG] = {BENCH_DECAYS, 32, WHOLE},
    [Q] = {-1, 16, PER_TOKEN},
    [K] = {-1, 16, PER_TOKEN},
    [V] = {-1, 16, PER_TOKEN},
    [G] = {-1, 32, PER_TOKEN},
    [BETA] = {-1, 32, PER_TOKEN},
    [G_CUMSUM] = {-1, 32, PER_TOKEN},
    [A_TRIL] = {-1, 32, PER_TOKEN},
    [A_INV] = {-1, 16, PER_TOKEN},
    [W] = {-1, 16, PER_TOKEN},
    [U] = {-1, 16, PER_TOKEN},
    [CHUNK_STATE] = {-1, 32, PER_CHUNK},
    [V_NEW] = {-1, 16, PER_TOKEN},
    [FINAL_STATE] = {-1, 32, WHOLE},
    [OUTPUT] = {-1, 16, PER_TOKEN},
};

static const struct {
  const char *name;
  const char *function;
  int arguments[MAX_TENSORS];
  int count;
  unsigned outputs; /* bits of arguments */
} STAGES[NUM_STAGES] = {
    {"prepare",
     PEGA_QWEN35_CHUNK_PREPARE,
     {QKV, B, A, DT_BIAS, A_LOG, Q, K, V, G, BETA},
     10,
     0x3e0},
    {"cumsum", PEGA_QWEN35_CHUNK_CUMSUM, {G, G_CUMSUM}, 2, 0x2},
    {"a", PEGA_QWEN35_CHUNK_A, {K, G_CUMSUM, BETA, A_TRIL}, 4, 0x8},
    {"solve", PEGA_QWEN35_CHUNK_SOLVE, {A_TRIL, A_INV}, 2, 0x2},
    {"recompute", PEGA_QWEN35_CHUNK_RECOMPUTE, {K, V, BETA, W, U, A_INV, G_CUMSUM}, 7, 0x18},
    {"state",
     PEGA_QWEN35_CHUNK_STATE,
     {K, W, U, G_CUMSUM, NONE, CHUNK_STATE, V_NEW, FINAL_STATE},
     8,
     0xe0},
    {"o", PEGA_QWEN35_CHUNK_O, {Q, K, V_NEW, CHUNK_STATE, G_CUMSUM, OUTPUT, NONE}, 7, 0x20},
};

/* rms; tensor cores round factors to bf16. What the tests allow each tensor is less. */
static const double kLimit = 6e-3;

typedef struct stages {
  bench_tensor tensors[NUM_TENSORS];
  int64_t tokens;
} stages;

typedef struct stage_way {
  stages *on;
  pega_function *function;
  int which;
} stage_way;

static pega_status call(pega_function *function, int which, const bench_tensor *tensors,
                        pega_error *error) {
  pega_value args[MAX_TENSORS];
  for (int i = 0; i < STAGES[which].count; ++i) {
    const int number = STAGES[which].arguments[i];
    args[i] = number == NONE ? pega_value_none() : pega_value_tensor(&tensors[number].view);
  }
  return pega_function_call(function, args, STAGES[which].count, NULL, error);
}

static pega_status put(void *self, int64_t number, pega_error *error) {
  const stage_way *way = self;
  (void)number;
  return call(way->function, way->which, way->on->tensors, error);
}

static pega_status make_tensors(bench_run *run, stages *on, int64_t tokens, int64_t hk, int64_t hv,
                                pega_error *error) {
  on->tokens = tokens;
  for (int i = 0; i < NUM_TENSORS; ++i) {
    int64_t shape[4] = {TENSORS[i].extent == PER_CHUNK ? tokens / CHUNK : tokens, hv, HEAD, 1};
    int ndim = 3;
    if (i == QKV) {
      shape[1] = (2 * hk + hv) * HEAD;
      ndim = 2;
    } else if (i == B || i == A || i == G || i == BETA || i == G_CUMSUM) {
      ndim = 2;
    } else if (i == DT_BIAS || i == A_LOG) {
      shape[0] = hv;
      ndim = 1;
    } else if (i == A_TRIL || i == A_INV) {
      shape[2] = CHUNK;
    } else if (i == CHUNK_STATE) {
      shape[3] = HEAD;
      ndim = 4;
    } else if (i == FINAL_STATE) {
      shape[0] = hv;
      shape[1] = HEAD;
    }
    BENCH_OK(bench_tensor_create(run->device, &on->tensors[i], TENSORS[i].stuff, i, TENSORS[i].bits,
                                 ndim, shape[0], shape[1], shape[2], shape[3], error));
  }
  return PEGA_OK;
}

/* Every tensor read or written once; of the solve's input the blocks that it needs. */
static double floor_of(const stages *on, int which) {
  int64_t bytes = 0;
  if (STAGES[which].arguments[0] == A_TRIL) {
    return bench_floor(bench_solve_bytes(on->tokens, on->tensors[A_TRIL].shape[1]));
  }
  for (int i = 0; i < STAGES[which].count; ++i) {
    const int number = STAGES[which].arguments[i];
    if (number != NONE) bytes += bench_tensor_bytes(&on->tensors[number]);
  }
  return bench_floor(bytes);
}

/* ---- what is right ---- */

static pega_status fetch(const bench_tensor *from, stage_extent extent, int64_t tokens,
                         bench_tensor *out, pega_error *error) {
  *out = *from;
  out->view.shape = out->shape;
  out->view.device = (DLDevice){kDLCPU, 0};
  if (extent == PER_TOKEN) out->shape[0] = tokens;
  if (extent == PER_CHUNK) out->shape[0] = tokens / CHUNK;
  const size_t bytes = (size_t)bench_tensor_bytes(out);
  out->view.data = malloc(bytes);
  if (out->view.data == NULL) cli_out_of_memory();
  BENCH_CUDA(copy_out(out->view.data, (CUdeviceptr)(uintptr_t)from->view.data, bytes));
  return PEGA_OK;
}

/* The same stage of the first tokens on the CPU, on the inputs that the device has. */
static pega_status check(bench_run *run, stages *on, bench_way *way, const stage_way *self,
                         pega_error *error) {
  bench_tensor got[NUM_TENSORS];
  bench_tensor right[NUM_TENSORS];
  pega_status status = PEGA_OK;
  double worst = 0;
  memset(got, 0, sizeof got);
  memset(right, 0, sizeof right);
  const int which = self->which;
  const int64_t tokens = on->tokens < COMPARED ? on->tokens : COMPARED;
  for (int i = 0; i < STAGES[which].count && status == PEGA_OK; ++i) {
    const int number = STAGES[which].arguments[i];
    if (number == NONE) continue;
    status = fetch(&on->tensors[number], TENSORS[number].extent, tokens, &got[number], error);
    if (status == PEGA_OK) {
      status = fetch(&on->tensors[number], TENSORS[number].extent, tokens, &right[number], error);
    }
    right[number].view.shape = right[number].shape;
  }
  if (status == PEGA_OK) status = call(self->function, which, right, error);
  for (int i = 0; i < STAGES[which].count && status == PEGA_OK; ++i) {
    const int number = STAGES[which].arguments[i];
    /* A final state is that of all tokens. */
    if ((STAGES[which].outputs >> i & 1) == 0 || number == FINAL_STATE) continue;
    const int64_t count = bench_tensor_bytes(&got[number]) / (TENSORS[number].bits / 8);
    const double error_of =
        TENSORS[number].bits == 16
            ? bench_rms_bf16(got[number].view.data, right[number].view.data, count)
            : bench_rms_fp32(got[number].view.data, right[number].view.data, count);
    if (!(error_of <= worst)) worst = error_of;
  }
  for (int i = 0; i < NUM_TENSORS; ++i) {
    free(got[i].view.data);
    free(right[i].view.data);
  }
  if (status == PEGA_OK) bench_judge(run, way, "output", NULL, worst, kLimit);
  return status;
}

static void measure_one(bench_run *run, stages *on, pega_function *function, int which) {
  stage_way self = {on, function, which};
  bench_way way = {.name = "triton", .by = BENCH_OURS, .floor = floor_of(on, which)};
  bench_job job = {.device = run->device, .put = put, .self = &self, .sets = 1};
  pega_error failure = PEGA_ERROR_INIT;
  pega_status status = put(&self, 0, &failure);
  if (status == PEGA_OK) {
    const CUresult result = gpu.stream_synchronize(bench_device_stream(run->device));
    if (result != 0) status = bench_driver_error(&failure, result, "stream_synchronize");
  }
  if (status == PEGA_OK) status = check(run, on, &way, &self, &failure);
  if (status != PEGA_OK) {
    bench_leave_out(&way, pega_error_message(&failure));
    run->failed = true;
  }
  pega_error_clear(&failure);
  bench_device_compare(run, &way, &job, 1, 0);
  bench_ways_clear(&way, 1);
}

pega_status bench_stages(bench_run *run, pega_error *error) {
  static stages on;
  const int64_t tokens = run->quick ? 128 : 32768;
  const int64_t hk = run->quick ? 2 : 16;
  const int64_t hv = run->quick ? 4 : 32;
  BENCH_OK(make_tensors(run, &on, tokens, hk, hv, error));
  for (int i = 0; i < NUM_STAGES; ++i) {
    pega_function *function = NULL;
    BENCH_OK(pega_registry_get(STAGES[i].function, &function, error));
    bench_case_begin(
        run,
        json_pack("{s:s, s:I, s:I, s:I}", "stage", STAGES[i].name, "tokens", (json_int_t)tokens,
                  "key_heads", (json_int_t)hk, "value_heads", (json_int_t)hv),
        BENCH_ALONE);
    measure_one(run, &on, function, i);
    bench_case_end(run);
    pega_function_release(function);
  }
  bench_device_free(run->device);
  return PEGA_OK;
}
