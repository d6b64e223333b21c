/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include <pega/cuda.h>
#include <pega/qwen35.h>

#include "gpu.h"
#include "print.h"
#include "tune.h"

enum { HEAD = PEGA_QWEN35_HEAD_SIZE, STATE = HEAD * HEAD, MOST_CALLS = 16 };
static const double SHORTEST = 200; /* us that one measurement takes at least, if MOST_CALLS do */
static const double FAR = 3; /* what takes so many times as long as the fastest is no choice */
static const double PATIENCE = 1e5; /* us of a call that is not made again to have it warm */

/* --- where --- */

static pega_status failed(const char *what, CUresult result, pega_error *error) {
  (void)pega_error_set(error, result == 2 ? PEGA_ERROR_OUT_OF_MEMORY : PEGA_ERROR_DRIVER, NULL,
                       "%s failed: %s (CUresult %d)", what, gpu_result_name(result), result);
  error->code = result;
  return (pega_status)error->status;
}

#define TRY(what, call)                                    \
  do {                                                     \
    const CUresult result_ = (call);                       \
    if (result_ != 0) return failed(what, result_, error); \
  } while (0)

static pega_status open_cuda(tune_place *out, pega_error *error) {
  const char *reason = gpu_open();
  if (reason != NULL) return pega_error_set(error, PEGA_ERROR_UNAVAILABLE, NULL, "%s", reason);
  pega_device_info info = {.struct_size = sizeof info};
  pega_status status = pega_device_query(out->device, &info, error);
  if (status != PEGA_OK) return status;
  (void)snprintf(out->name, sizeof out->name, "%s", info.name);
  (void)snprintf(out->target, sizeof out->target, "sm_%" PRId32, info.compute_capability);
  out->multiprocessors = info.multiprocessors;
  out->fake = gpu.fake;
  CUcontext context = NULL;
  TRY("cuDevicePrimaryCtxRetain", gpu.primary_retain(&context, out->device.device_id));
  TRY("cuCtxSetCurrent", gpu.context_set(context));
  TRY("cuStreamCreate", gpu.stream_create((CUstream *)&out->stream, GPU_STREAM_NON_BLOCKING));
  TRY("cuEventCreate", gpu.event_create((CUevent *)&out->from, GPU_EVENT_DEFAULT));
  TRY("cuEventCreate", gpu.event_create((CUevent *)&out->to, GPU_EVENT_DEFAULT));
  status = pega_stream_set(out->device, out->stream, NULL, error);
  return status == PEGA_OK ? pega_function_prepare(out->prefill, out->device, error) : status;
}

pega_status tune_open(DLDevice device, const cli_tune_options *given, tune_place *out,
                      pega_error *error) {
  memset(out, 0, sizeof *out);
  out->device = device;
  out->eager = given->eager;
  out->states = given->states;
  pega_status status = pega_registry_get(PEGA_QWEN35_PREFILL, &out->prefill, error);
  if (status == PEGA_OK) {
    status = pega_registry_get(PEGA_QWEN35_PREFILL_EXPLAIN, &out->explain, error);
  }
  if (status != PEGA_OK) return status;
  if (device.device_type == kDLCUDA) return open_cuda(out, error);
  (void)snprintf(out->name, sizeof out->name, "CPU");
  (void)snprintf(out->target, sizeof out->target, "cpu");
  return PEGA_OK;
}

void tune_close(tune_place *place) {
  if (place->stream != NULL) (void)gpu.stream_destroy(place->stream);
  pega_function_release(place->prefill);
  pega_function_release(place->explain);
}

void tune_print_place(const tune_place *place) {
  (void)printf("%s, %s; %s\n", place->name, place->target,
               place->device.device_type == kDLCPU ? "wall clock of a call"
               : place->eager                      ? "calls one by one, between CUDA events"
                                                   : "replays of a CUDA graph of calls");
}

/* --- asking --- */

pega_status tune_ask(const tune_place *place, const tune_case *sizes, tune_result *out,
                     pega_error *error) {
  const bool cuda = place->device.device_type == kDLCUDA;
  const pega_value args[] = {pega_value_device(place->device),
                             pega_value_int(sizes->tokens * sizes->sequences),
                             pega_value_int(sizes->sequences), pega_value_int(sizes->key_heads),
                             pega_value_int(sizes->value_heads)};
  pega_value answer = pega_value_none();
  memset(out, 0, sizeof *out);
  out->sizes = *sizes;
  const pega_status status = pega_function_call(place->explain, args, 5, &answer, error);
  if (status != PEGA_OK) return status;
  for (int64_t i = 0; i < pega_value_size(&answer) && out->count < TUNE_MOST; ++i) {
    const pega_value *one = pega_array_get(&answer, i);
    const pega_value *workspace = pega_map_get(one, "workspace");
    const pega_value *us = pega_map_get(one, "us");
    if (strcmp(pega_value_as_string(pega_map_get(one, "device"), NULL), cuda ? "cuda" : "cpu") !=
        0) {
      continue;
    }
    tune_time *time = &out->of[out->count++];
    (void)snprintf(time->name, sizeof time->name, "%s",
                   pega_value_as_string(pega_map_get(one, "name"), NULL));
    time->fits = workspace->kind == PEGA_INT;
    time->workspace = time->fits ? workspace->as.i64 : 0;
    time->taken = pega_map_get(one, "taken")->as.boolean;
    time->predicted = us->kind == PEGA_FLOAT ? us->as.f64 : 0;
  }
  pega_value_release(&answer);
  return PEGA_OK;
}

/* --- the tensors --- */

enum { Q, K, V, G, BETA, INITIAL, SEQLENS, SCALE, OUTPUT, FINAL, NORMALIZE, NAME, WORKSPACE, ARGS };

typedef struct call {
  const tune_place *place;
  void *memory[ARGS];
  DLTensor tensors[ARGS];
  int64_t shapes[ARGS][4];
  pega_value args[ARGS];
} call;

static pega_status allocate(call *it, int which, size_t bytes, pega_error *error) {
  if (it->place->device.device_type == kDLCUDA) {
    CUdeviceptr memory = 0;
    TRY("cuMemAlloc", gpu.alloc(&memory, bytes == 0 ? 256 : bytes));
    it->memory[which] = (void *)(uintptr_t)memory;
  } else if (posix_memalign(&it->memory[which], 256, bytes == 0 ? 256 : bytes) != 0) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory for %zu bytes", bytes);
  }
  return PEGA_OK;
}

static uint16_t bf16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return (uint16_t)(bits >> 16);
}

/* Numbers like those of a model: power, and with it the clock, depends on them. */
static void make_pattern(int which, void *out, size_t bytes) {
  uint64_t state = 1 + (uint64_t)which;
  for (size_t i = 0; i < bytes / (which <= V ? 2 : 4); ++i) {
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    const float x = (float)(state >> 40) * 0x1p-24f; /* 0 to 1 */
    if (which == Q || which == K) {
      ((uint16_t *)out)[i] = bf16(x < 0.5f ? -0.08838835f : 0.08838835f); /* rows of length 1 */
    } else if (which == V) {
      ((uint16_t *)out)[i] = bf16(2 * x - 1);
    } else {
      ((float *)out)[i] = which == G ? -0.1f * x : which == BETA ? x : 0.6f * x - 0.3f;
    }
  }
}

static pega_status fill(const call *it, int which, size_t bytes, pega_error *error) {
  enum { PATTERN = 1 << 20 };
  static uint32_t pattern[PATTERN / 4];
  char *to = it->memory[which];
  size_t done = bytes < PATTERN ? bytes : PATTERN;
  make_pattern(which, pattern, done);
  if (it->place->device.device_type != kDLCUDA) {
    for (size_t at = 0; at < bytes; at += PATTERN) {
      memcpy(to + at, pattern, bytes - at < PATTERN ? bytes - at : PATTERN);
    }
    return PEGA_OK;
  }
  const CUdeviceptr from = (CUdeviceptr)(uintptr_t)to;
  TRY("cuMemcpyHtoD", gpu.copy_in(from, pattern, done));
  while (done < bytes) {
    const size_t part = bytes - done < done ? bytes - done : done;
    TRY("cuMemcpyDtoDAsync", gpu.copy_async(from + done, from, part, it->place->stream));
    done += part;
  }
  return PEGA_OK;
}

static pega_status make_tensor(call *it, int which, DLDataType dtype, int32_t ndim, int64_t a,
                               int64_t b, int64_t c, int64_t d, pega_error *error) {
  const int64_t shape[4] = {a, b, c, d};
  size_t bytes = dtype.bits / 8;
  for (int i = 0; i < ndim; ++i) bytes *= (size_t)shape[i];
  memcpy(it->shapes[which], shape, sizeof shape);
  pega_status status = allocate(it, which, bytes, error);
  if (status == PEGA_OK && which <= INITIAL) status = fill(it, which, bytes, error);
  it->tensors[which] =
      (DLTensor){it->memory[which], it->place->device, ndim, dtype, it->shapes[which], NULL, 0};
  it->args[which] = pega_value_tensor(&it->tensors[which]);
  return status;
}

static pega_status make_seqlens(call *it, const tune_case *sizes, pega_error *error) {
  const DLDataType int64 = {kDLInt, 64, 1};
  const size_t count = (size_t)sizes->sequences + 1;
  pega_status status = make_tensor(it, SEQLENS, int64, 1, (int64_t)count, 1, 1, 1, error);
  int64_t *starts = calloc(count, sizeof *starts);
  if (starts == NULL) cli_out_of_memory();
  for (size_t i = 0; i < count; ++i) starts[i] = (int64_t)i * sizes->tokens;
  if (status == PEGA_OK && it->place->device.device_type == kDLCUDA) {
    const CUresult result =
        gpu.copy_in((CUdeviceptr)(uintptr_t)it->memory[SEQLENS], starts, count * sizeof *starts);
    if (result != 0) status = failed("cuMemcpyHtoD", result, error);
  } else if (status == PEGA_OK) {
    memcpy(it->memory[SEQLENS], starts, count * sizeof *starts);
  }
  free(starts);
  return status;
}

static void unmake(call *it) {
  for (int i = 0; i < ARGS; ++i) {
    if (it->memory[i] == NULL) continue;
    if (it->place->device.device_type == kDLCUDA) {
      (void)gpu.release((CUdeviceptr)(uintptr_t)it->memory[i]);
    } else {
      free(it->memory[i]);
    }
  }
}

static pega_status make(call *it, const tune_result *result, pega_error *error) {
  const DLDataType bf = {kDLBfloat, 16, 1};
  const DLDataType fp = {kDLFloat, 32, 1};
  const tune_case *sizes = &result->sizes;
  const int64_t t = sizes->tokens * sizes->sequences;
  const int64_t n = sizes->sequences;
  const int64_t hk = sizes->key_heads;
  const int64_t hv = sizes->value_heads;
  int64_t workspace = 0;
  for (int i = 0; i < result->count; ++i) {
    if (result->of[i].workspace > workspace) workspace = result->of[i].workspace;
  }
  pega_status status = PEGA_OK;
  for (int i = 0; i < ARGS; ++i) it->args[i] = pega_value_none();
#define MAKE(which, ...) \
  if (status == PEGA_OK) status = make_tensor(it, which, __VA_ARGS__, error)
  MAKE(Q, bf, 3, t, hk, HEAD, 1);
  MAKE(K, bf, 3, t, hk, HEAD, 1);
  MAKE(V, bf, 3, t, hv, HEAD, 1);
  MAKE(G, fp, 2, t, hv, 1, 1);
  MAKE(BETA, fp, 2, t, hv, 1, 1);
  if (it->place->states) MAKE(INITIAL, fp, 4, n, hv, HEAD, HEAD);
  MAKE(OUTPUT, bf, 3, t, hv, HEAD, 1);
  MAKE(FINAL, fp, 4, n, hv, HEAD, HEAD);
  MAKE(WORKSPACE, ((DLDataType){kDLUInt, 8, 1}), 1, workspace, 1, 1, 1);
#undef MAKE
  if (status == PEGA_OK && n > 1) status = make_seqlens(it, sizes, error);
  if (status == PEGA_OK && it->place->device.device_type == kDLCUDA) {
    TRY("cuCtxSynchronize", gpu.synchronize());
  }
  return status;
}

static pega_status run(call *it, const tune_time *time, int calls, pega_error *error) {
  pega_status status = PEGA_OK;
  it->args[NAME] = pega_value_string(time->name);
  for (int i = 0; i < calls && status == PEGA_OK; ++i) {
    status = pega_function_call(it->place->prefill, it->args, ARGS, NULL, error);
  }
  return status;
}

/* --- times --- */

static double now_us(void) {
  struct timespec time;
  (void)clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e6 + (double)time.tv_nsec * 1e-3;
}

/* A call's part of one measurement: of `exec`, or of `calls` calls. */
static pega_status measure_once(call *it, const tune_time *time, CUgraphExec exec, int calls,
                                double *us, pega_error *error) {
  const tune_place *place = it->place;
  if (place->device.device_type != kDLCUDA) {
    const double begin = now_us();
    const pega_status status = run(it, time, calls, error);
    *us = (now_us() - begin) / calls;
    return status;
  }
  float ms = 0;
  TRY("cuEventRecord", gpu.event_record(place->from, place->stream));
  if (exec != NULL) {
    TRY("cuGraphLaunch", gpu.graph_launch(exec, place->stream));
  } else {
    const pega_status status = run(it, time, calls, error);
    if (status != PEGA_OK) return status;
  }
  TRY("cuEventRecord", gpu.event_record(place->to, place->stream));
  TRY("cuEventSynchronize", gpu.event_synchronize(place->to));
  TRY("cuEventElapsedTime", gpu.event_elapsed(&ms, place->from, place->to));
  *us = (double)ms * 1e3 / calls;
  if (*us < 1e-3) *us = 1e-3; /* the fake driver's clock may stand still */
  return PEGA_OK;
}

static pega_status capture(call *it, const tune_time *time, int calls, CUgraphExec *out,
                           pega_error *error) {
  CUgraph graph = NULL;
  TRY("cuStreamBeginCapture", gpu.capture_begin(it->place->stream, GPU_CAPTURE_GLOBAL));
  const pega_status status = run(it, time, calls, error);
  const CUresult ended = gpu.capture_end(it->place->stream, &graph);
  if (status != PEGA_OK) return status;
  if (ended != 0) return failed("cuStreamEndCapture", ended, error);
  const CUresult made = gpu.graph_instantiate(out, graph, 0);
  (void)gpu.graph_destroy(graph);
  return made == 0 ? PEGA_OK : failed("cuGraphInstantiate", made, error);
}

static int compare_doubles(const void *left, const void *right) {
  const double a = *(const double *)left;
  const double b = *(const double *)right;
  return (a > b) - (a < b);
}

double tune_quantile(double *values, int count, double quantile) {
  qsort(values, (size_t)count, sizeof *values, compare_doubles);
  const double at = quantile * (count - 1);
  const int below = (int)at;
  const int above = below + 1 < count ? below + 1 : below;
  return values[below] + (values[above] - values[below]) * (at - below);
}

static void summarize(tune_time *time) {
  double sorted[TUNE_ROUNDS];
  if (time->rounds == 0) return;
  memcpy(sorted, time->us, sizeof sorted);
  time->median = tune_quantile(sorted, time->rounds, 0.5);
  time->low = tune_quantile(sorted, time->rounds, 0.1);
  time->high = tune_quantile(sorted, time->rounds, 0.9);
}

/* One call as it will be measured: by the host, whose part of a short call says nothing of a
 * graph's, no more than once. */
static pega_status estimate(call *it, const tune_time *time, bool graphs, double *us,
                            pega_error *why) {
  CUgraphExec exec = NULL;
  pega_status status = measure_once(it, time, NULL, 1, us, why);
  if (status == PEGA_OK && graphs) status = capture(it, time, 1, &exec, why);
  /* The first of a graph is its upload's, too. */
  for (int again = 0; again < (graphs ? 2 : 1) && *us < PATIENCE && status == PEGA_OK; ++again) {
    status = measure_once(it, time, exec, 1, us, why);
  }
  if (exec != NULL) (void)gpu.exec_destroy(exec);
  return status;
}

/* Each by itself, warm: how long it takes about. Whoever cannot is out, and says why. */
static pega_status try_each(call *it, tune_result *result, bool graphs, double *least,
                            pega_error *error) {
  *least = 0;
  for (int i = 0; i < result->count; ++i) {
    tune_time *time = &result->of[i];
    pega_error why = PEGA_ERROR_INIT;
    double us = 0;
    if (!time->fits) continue;
    const pega_status status = estimate(it, time, graphs, &us, &why);
    if (status != PEGA_OK) {
      (void)fprintf(stderr, "pega: left out: %s: %s\n", time->name, pega_error_message(&why));
      time->fits = false;
      /* An error that stays with the device ends it all. */
      if (status == PEGA_ERROR_DRIVER) pega_error_copy(&why, error);
      pega_error_clear(&why);
      if (status == PEGA_ERROR_DRIVER) return status;
      continue;
    }
    time->us[0] = us;
    time->rounds = 1;
    if (*least == 0 || us < *least) *least = us;
  }
  return PEGA_OK;
}

static pega_status measure_all(call *it, int rounds, tune_result *result, CUgraphExec *execs,
                               pega_error *error) {
  double least;
  bool near[TUNE_MOST] = {false};
  const bool graphs = it->place->device.device_type == kDLCUDA && !it->place->eager;
  pega_status status = try_each(it, result, graphs, &least, error);
  if (status != PEGA_OK) return status;
  const double wanted = SHORTEST / (least > 1e-3 ? least : 1e-3);
  const int calls = wanted < 1 ? 1 : wanted > MOST_CALLS ? MOST_CALLS : (int)wanted;
  for (int i = 0; i < result->count && status == PEGA_OK; ++i) {
    const tune_time *time = &result->of[i];
    near[i] = time->fits && time->us[0] <= FAR * least;
    if (near[i] && graphs) status = capture(it, time, calls, &execs[i], error);
  }
  for (int round = 0; round < rounds; ++round) {
    for (int i = 0; i < result->count && status == PEGA_OK; ++i) {
      tune_time *time = &result->of[i];
      if (!near[i]) continue;
      double us = 0;
      /* The first is for the caches, which have the other's data. */
      for (int again = 0; again < 2 && us < PATIENCE && status == PEGA_OK; ++again) {
        status = measure_once(it, time, execs[i], calls, &us, error);
      }
      time->us[round] = us;
      time->rounds = round + 1;
    }
  }
  return status;
}

pega_status tune_measure(const tune_place *place, int rounds, tune_result *result,
                         pega_error *error) {
  call it;
  CUgraphExec execs[TUNE_MOST] = {NULL};
  memset(&it, 0, sizeof it);
  it.place = place;
  if (rounds > TUNE_ROUNDS) rounds = TUNE_ROUNDS;
  pega_status status = make(&it, result, error);
  if (status == PEGA_OK) status = measure_all(&it, rounds, result, execs, error);
  for (int i = 0; i < TUNE_MOST; ++i) {
    if (execs[i] != NULL) (void)gpu.exec_destroy(execs[i]);
  }
  for (int i = 0; i < result->count; ++i) summarize(&result->of[i]);
  unmake(&it);
  return status;
}

/* --- looking at them --- */

const tune_time *tune_find(const tune_result *result, const char *name) {
  for (int i = 0; i < result->count; ++i) {
    if (strcmp(result->of[i].name, name) == 0) return &result->of[i];
  }
  return NULL;
}

const tune_time *tune_best(const tune_result *result) {
  const tune_time *best = NULL;
  for (int i = 0; i < result->count; ++i) {
    const tune_time *time = &result->of[i];
    if (time->rounds > 0 && (best == NULL || time->median < best->median)) best = time;
  }
  return best;
}

const tune_time *tune_taken(const tune_result *result) {
  for (int i = 0; i < result->count; ++i) {
    if (result->of[i].taken) return &result->of[i];
  }
  return NULL;
}

void tune_compare(const tune_time *slow, const tune_time *fast, double out[3]) {
  double ratios[TUNE_ROUNDS];
  const int count = slow->rounds < fast->rounds ? slow->rounds : fast->rounds;
  if (count < 2) { /* one of them takes far longer, or is the other */
    const double ratio = count == 0 || fast->median <= 0 ? 1 : slow->median / fast->median;
    for (int i = 0; i < 3; ++i) out[i] = ratio - 1;
    return;
  }
  for (int i = 0; i < count; ++i) ratios[i] = slow->us[i] / fast->us[i];
  out[0] = tune_quantile(ratios, count, 0.1) - 1;
  out[1] = tune_quantile(ratios, count, 0.5) - 1;
  out[2] = tune_quantile(ratios, count, 0.9) - 1;
}
