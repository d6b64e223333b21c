/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_device.h"
#include "bench_truth.h"

#include <math.h>
#include <stdlib.h>

/*
 * Work that the device has before a replay is timed, so that the host has put the whole replay behind it by the time
 * the first event is reached: a graph of so many fills one after the other, 30 to 50 us, of memory so small that
 * caches keep what they had. It is made twice as long where the host was too slow, and no longer than MOST_FILLS.
 * bench/peers/_common.py does the same.
 */
enum { LEAD_FILLS = 32, MOST_FILLS = 256, LEAD_BYTES = 64 << 10 };

enum { MAX_MEMORY = 512, IN_A_ROW = 10, HOST_CALLS = 20, SCRATCH = 64 << 20 };

/* us above which a way is not measured in a row. */
static const double kShort = 1000;

struct bench_device {
  CUcontext context;
  CUdeviceptr scratch; /* of SCRATCH bytes, for kernels that want some */
  CUstream stream;
  CUevent from;
  CUevent to;
  CUdeviceptr lead_memory;
  CUgraphExec lead;
  int fills; /* of it */
  CUdeviceptr memory[MAX_MEMORY];
  int num_memory;
};

/* Bytes a second that floors are reckoned with. */
static double floor_rate = 3.0e12;

double bench_floor_rate(void) { return floor_rate; }

void bench_floor_set(const char *device, double copy_rate) {
  static const struct {
    const char *name;
    double rate;
  } known[] = {{"NVIDIA H100 80GB HBM3", 3.0e12}};
  floor_rate = copy_rate;
  for (size_t i = 0; i < sizeof known / sizeof *known; ++i) {
    if (strcmp(device, known[i].name) == 0) floor_rate = known[i].rate;
  }
}

double bench_floor(int64_t bytes) { return (double)bytes / floor_rate * 1e6; }

int64_t bench_solve_bytes(int64_t tokens, int64_t value_heads) {
  enum { C = PEGA_QWEN35_CHUNK, BLOCKS = 10 };
  return tokens / C * value_heads * (BLOCKS * 16 * 16 * 4 + C * C * 2);
}

pega_status bench_driver_error(pega_error *error, CUresult result, const char *call) {
  return pega_error_set(error, PEGA_ERROR_DRIVER, NULL, "%.*s: %s (%d)", (int)strcspn(call, "("),
                        call, gpu_result_name(result), result);
}

/* Kernels' scratch stays, as an engine keeps it: a graph allocates none. Everything is on one stream. */
static pega_status allocate(void *self, DLDevice where, size_t size, size_t alignment, void *stream,
                            void **out, pega_error *error) {
  const bench_device *device = self;
  (void)where;
  (void)stream;
  if (size > SCRATCH || device->scratch % alignment != 0) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL,
                          "a kernel wants %zu bytes of scratch, aligned to %zu: there are %d", size,
                          alignment, (int)SCRATCH);
  }
  *out = (void *)(uintptr_t)device->scratch;
  return PEGA_OK;
}

static void give_back(void *self, DLDevice where, void *memory, void *stream) {
  (void)self;
  (void)where;
  (void)memory;
  (void)stream;
}

static pega_status make_lead(bench_device *device, int fills, pega_error *error) {
  CUgraphExec made = NULL;
  CUgraph graph = NULL;
  CUresult filled = 0;
  BENCH_CUDA(capture_begin(device->stream, GPU_CAPTURE_GLOBAL));
  for (int i = 0; i < fills && filled == 0; ++i) {
    filled = gpu.set_bytes_async(device->lead_memory, 0, LEAD_BYTES, device->stream);
  }
  BENCH_CUDA(capture_end(device->stream, &graph));
  if (filled == 0) filled = gpu.graph_instantiate(&made, graph, 0);
  (void)gpu.graph_destroy(graph);
  if (filled != 0) return bench_driver_error(error, filled, "graph_instantiate");
  if (device->lead != NULL) (void)gpu.exec_destroy(device->lead);
  device->lead = made;
  device->fills = fills;
  BENCH_CUDA(graph_launch(device->lead, device->stream));
  BENCH_CUDA(stream_synchronize(device->stream));
  return PEGA_OK;
}

static pega_status open_device(bench_device *device, pega_error *error) {
  static pega_cuda_allocator allocator;
  BENCH_CUDA(primary_retain(&device->context, 0));
  BENCH_CUDA(context_set(device->context));
  BENCH_CUDA(stream_create(&device->stream, GPU_STREAM_NON_BLOCKING));
  BENCH_CUDA(event_create(&device->from, GPU_EVENT_DEFAULT));
  BENCH_CUDA(event_create(&device->to, GPU_EVENT_DEFAULT));
  BENCH_CUDA(alloc(&device->scratch, SCRATCH));
  BENCH_CUDA(alloc(&device->lead_memory, LEAD_BYTES));
  BENCH_OK(make_lead(device, LEAD_FILLS, error));
  allocator = (pega_cuda_allocator){.struct_size = (uint32_t)sizeof allocator,
                                    .allocate = allocate,
                                    .release = give_back,
                                    .self = device};
  BENCH_OK(pega_cuda_set_allocator(&allocator, error));
  return pega_stream_set(BENCH_DEVICE, device->stream, NULL, error);
}

pega_status bench_device_open(bench_device **out, pega_error *error) {
  bench_device *device = calloc(1, sizeof *device);
  if (device == NULL) cli_out_of_memory();
  const pega_status status = open_device(device, error);
  if (status != PEGA_OK) {
    bench_device_close(device);
    device = NULL;
  }
  *out = device;
  return status;
}

void bench_device_close(bench_device *device) {
  if (device == NULL) return;
  bench_device_free(device);
  (void)pega_stream_set(BENCH_DEVICE, NULL, NULL, NULL);
  (void)pega_cuda_set_allocator(NULL, NULL);
  if (device->lead != NULL) (void)gpu.exec_destroy(device->lead);
  if (device->lead_memory != 0) (void)gpu.release(device->lead_memory);
  if (device->scratch != 0) (void)gpu.release(device->scratch);
  if (device->from != NULL) (void)gpu.event_destroy(device->from);
  if (device->to != NULL) (void)gpu.event_destroy(device->to);
  if (device->stream != NULL) (void)gpu.stream_destroy(device->stream);
  free(device);
  (void)pega_cuda_close(NULL);
  (void)gpu.primary_release(0);
}

void bench_device_enter(const bench_device *device) {
  (void)gpu.context_set(device->context);
  (void)pega_stream_set(BENCH_DEVICE, device->stream, NULL, NULL);
}

CUstream bench_device_stream(const bench_device *device) { return device->stream; }

/* ---- memory ---- */

pega_status bench_device_alloc(bench_device *device, int64_t bytes, CUdeviceptr *out,
                               pega_error *error) {
  if (device->num_memory == MAX_MEMORY) {
    return pega_error_set(error, PEGA_ERROR_INTERNAL, NULL, "too many pieces of device memory");
  }
  BENCH_CUDA(alloc(out, (size_t)(bytes > 0 ? bytes : 1)));
  device->memory[device->num_memory++] = *out;
  return PEGA_OK;
}

void bench_device_free(bench_device *device) {
  (void)gpu.stream_synchronize(device->stream);
  while (device->num_memory > 0) (void)gpu.release(device->memory[--device->num_memory]);
}

pega_status bench_device_fill(bench_device *device, bench_stuff stuff, int seed, CUdeviceptr to,
                              int64_t bytes, pega_error *error) {
  const int64_t period = bench_stuff_bytes(stuff);
  const int64_t shift = bench_stuff_shift(stuff, seed);
  const char *from = bench_stuff_made(stuff);
  const int64_t first = bytes < period - shift ? bytes : period - shift;
  BENCH_CUDA(copy_in(to, from + shift, (size_t)first));
  const int64_t second = bytes - first < shift ? bytes - first : shift;
  if (second > 0) BENCH_CUDA(copy_in(to + (CUdeviceptr)first, from, (size_t)second));
  for (int64_t done = period; done < bytes;) {
    const int64_t part = bytes - done < done ? bytes - done : done;
    BENCH_CUDA(copy_async(to + (CUdeviceptr)done, to, (size_t)part, device->stream));
    done += part;
  }
  BENCH_CUDA(stream_synchronize(device->stream));
  return PEGA_OK;
}

void bench_tensor_make(bench_tensor *tensor, DLDevice device, void *data, int bits, int ndim,
                       int64_t d0, int64_t d1, int64_t d2, int64_t d3) {
  memset(tensor, 0, sizeof *tensor);
  tensor->shape[0] = d0;
  tensor->shape[1] = d1;
  tensor->shape[2] = d2;
  tensor->shape[3] = d3;
  tensor->view.data = data;
  tensor->view.device = device;
  tensor->view.ndim = ndim;
  tensor->view.shape = tensor->shape;
  tensor->view.dtype.code = (uint8_t)(bits == 16   ? kDLBfloat
                                      : bits == 32 ? kDLFloat
                                      : bits == 64 ? kDLInt
                                                   : kDLUInt);
  tensor->view.dtype.bits = (uint8_t)bits;
  tensor->view.dtype.lanes = 1;
}

int64_t bench_tensor_bytes(const bench_tensor *tensor) {
  int64_t bytes = tensor->view.dtype.bits / 8;
  for (int i = 0; i < tensor->view.ndim; ++i) bytes *= tensor->shape[i];
  return bytes;
}

pega_status bench_tensor_create(bench_device *device, bench_tensor *tensor, int stuff, int seed,
                                int bits, int ndim, int64_t d0, int64_t d1, int64_t d2, int64_t d3,
                                pega_error *error) {
  CUdeviceptr memory = 0;
  bench_tensor_make(tensor, BENCH_DEVICE, NULL, bits, ndim, d0, d1, d2, d3);
  const int64_t bytes = bench_tensor_bytes(tensor);
  BENCH_OK(bench_device_alloc(device, bytes, &memory, error));
  tensor->view.data = (void *)(uintptr_t)memory;
  if (stuff >= 0) {
    return bench_device_fill(device, (bench_stuff)stuff, seed, memory, bytes, error);
  }
  BENCH_CUDA(set_bytes(memory, 0xff, (size_t)bytes));
  return PEGA_OK;
}

/* ---- times ---- */

static void release_graphs(bench_job *job) {
  for (int i = 0; i < job->num_execs; ++i) (void)gpu.exec_destroy(job->execs[i]);
  free(job->execs);
  job->execs = NULL;
  job->num_execs = 0;
}

static pega_status capture_one(bench_job *job, int64_t first, CUgraphExec *out, pega_error *error) {
  CUgraph graph = NULL;
  pega_status status = PEGA_OK;
  BENCH_CUDA(capture_begin(job->device->stream, GPU_CAPTURE_GLOBAL));
  for (int i = 0; i < job->calls && status == PEGA_OK; ++i) {
    status = job->put(job->self, first + i, error);
  }
  const CUresult ended = gpu.capture_end(job->device->stream, &graph);
  if (status == PEGA_OK && ended != 0) status = bench_driver_error(error, ended, "capture_end");
  if (status == PEGA_OK) {
    const CUresult made = gpu.graph_instantiate(out, graph, 0);
    if (made != 0) status = bench_driver_error(error, made, "graph_instantiate");
  }
  if (graph != NULL) (void)gpu.graph_destroy(graph);
  return status;
}

/* Graphs of `calls` calls: one for each set of memory, or one that goes through all of them. */
static pega_status capture(bench_job *job, int calls, pega_error *error) {
  const int count = calls == 1 ? job->sets : 1;
  job->calls = calls == 1 ? 1 : (calls + job->sets - 1) / job->sets * job->sets;
  job->next = 0;
  job->execs = calloc((size_t)count, sizeof(CUgraphExec));
  if (job->execs == NULL) cli_out_of_memory();
  for (int i = 0; i < count; ++i) {
    BENCH_OK(capture_one(job, i, &job->execs[i], error));
    ++job->num_execs;
  }
  /* What a first launch costs, the upload of the graph, is none of the samples'. */
  for (int i = 0; i < count; ++i) BENCH_CUDA(graph_launch(job->execs[i], job->device->stream));
  BENCH_CUDA(stream_synchronize(job->device->stream));
  return PEGA_OK;
}

static pega_status replay(bench_job *job, pega_error *error) {
  BENCH_CUDA(graph_launch(job->execs[job->next++ % job->num_execs], job->device->stream));
  return PEGA_OK;
}

static pega_status call(bench_job *job, pega_error *error) {
  return job->put(job->self, job->next++, error);
}

/* us between events around `run`, behind the lead where it is `led`. Whether the host was ahead of the device. */
static pega_status between_events(bench_job *job, pega_status (*run)(bench_job *, pega_error *),
                                  bool led, double *out, bool *ahead, pega_error *error) {
  const bench_device *device = job->device;
  float milliseconds = 0;
  BENCH_CUDA(stream_synchronize(device->stream));
  if (led) BENCH_CUDA(graph_launch(device->lead, device->stream));
  BENCH_CUDA(event_record(device->from, device->stream));
  BENCH_OK(run(job, error));
  BENCH_CUDA(event_record(device->to, device->stream));
  *ahead = gpu.event_query(device->from) == GPU_NOT_READY;
  BENCH_CUDA(event_synchronize(device->to));
  BENCH_CUDA(event_elapsed(&milliseconds, device->from, device->to));
  *out = (double)milliseconds * 1e3 / job->calls;
  return PEGA_OK;
}

/* The device's time alone. One that does not count comes first: somebody else had the device. */
static pega_status sample_graph(void *self, int count, double *out, pega_error *error) {
  bench_job *job = self;
  BENCH_OK(replay(job, error));
  for (int i = 0; i < count;) {
    bool ahead = false;
    BENCH_OK(between_events(job, replay, true, &out[i], &ahead, error));
    if (ahead || gpu.fake || job->device->fills == MOST_FILLS) {
      ++i;
    } else {
      BENCH_OK(make_lead(job->device, 2 * job->device->fills, error));
    }
  }
  return PEGA_OK;
}

/* On an idle device, for what the host takes shows. */
static pega_status sample_eager(void *self, int count, double *out, pega_error *error) {
  bench_job *job = self;
  bool ahead = false;
  job->calls = 1;
  BENCH_OK(call(job, error));
  for (int i = 0; i < count; ++i) {
    BENCH_OK(between_events(job, call, false, &out[i], &ahead, error));
  }
  return PEGA_OK;
}

static pega_status sample_wall(void *self, int count, double *out, pega_error *error) {
  bench_job *job = self;
  BENCH_OK(call(job, error));
  for (int i = 0; i < count; ++i) {
    BENCH_CUDA(stream_synchronize(job->device->stream));
    const double start = bench_now();
    BENCH_OK(call(job, error));
    BENCH_CUDA(stream_synchronize(job->device->stream));
    out[i] = (bench_now() - start) * 1e-3;
  }
  return PEGA_OK;
}

/* Host time alone: calls one after the other, as many as the peers make, which nothing waits for. */
static pega_status sample_host(void *self, int count, double *out, pega_error *error) {
  bench_job *job = self;
  BENCH_OK(call(job, error));
  for (int i = 0; i < count; ++i) {
    BENCH_CUDA(stream_synchronize(job->device->stream));
    const double start = bench_now();
    for (int k = 0; k < HOST_CALLS; ++k) BENCH_OK(call(job, error));
    out[i] = (bench_now() - start) * 1e-3 / HOST_CALLS;
  }
  BENCH_CUDA(stream_synchronize(job->device->stream));
  return PEGA_OK;
}

pega_status bench_device_copy_rate(bench_device *device, int64_t bytes, double *out,
                                   pega_error *error) {
  enum { COPIES = 4, SAMPLES = 21 };
  CUdeviceptr memory = 0;
  double times[SAMPLES];
  BENCH_OK(bench_device_alloc(device, bytes, &memory, error));
  BENCH_OK(bench_device_fill(device, BENCH_STATES, 0, memory, bytes, error));
  for (int i = -3; i < SAMPLES; ++i) {
    float milliseconds = 0;
    BENCH_CUDA(event_record(device->from, device->stream));
    for (int k = 0; k < COPIES; ++k) {
      BENCH_CUDA(copy_async(memory + (CUdeviceptr)(bytes / 2), memory, (size_t)(bytes / 2),
                            device->stream));
    }
    BENCH_CUDA(event_record(device->to, device->stream));
    BENCH_CUDA(event_synchronize(device->to));
    BENCH_CUDA(event_elapsed(&milliseconds, device->from, device->to));
    if (i >= 0) times[i] = (double)milliseconds * 1e-3 / COPIES;
  }
  bench_sort(times, SAMPLES);
  *out = (double)bytes / bench_quantile(times, SAMPLES, 0.5);
  bench_device_free(device);
  return PEGA_OK;
}

/* One way of measuring. Takes those that are not left out yet, all of them if `first`. */
static void compare(bench_run *run, const char *how, bench_way *ways, bench_job *jobs, int num_ways,
                    bool first, double limit) {
  bench_way *taken = calloc((size_t)num_ways + 1, sizeof *taken);
  int *which = calloc((size_t)num_ways + 1, sizeof *which);
  int count = 0;
  if (taken == NULL || which == NULL) cli_out_of_memory();
  for (int i = 0; i < num_ways; ++i) {
    bench_way *way = &ways[i];
    pega_error error = PEGA_ERROR_INIT;
    pega_status status = PEGA_OK;
    const bool out_before = way->left_out != NULL;
    if (out_before && !first) continue;
    if (!out_before && limit > 0 && way->median > limit) continue;
    const bool graph = strcmp(how, BENCH_GRAPH) == 0;
    if (!out_before && (graph || strcmp(how, BENCH_ROW) == 0)) {
      way->sample = sample_graph;
      status = capture(&jobs[i], graph ? 1 : IN_A_ROW, &error);
    } else {
      way->sample = strcmp(how, BENCH_EAGER) == 0  ? sample_eager
                    : strcmp(how, BENCH_WALL) == 0 ? sample_wall
                                                   : sample_host;
    }
    way->self = &jobs[i];
    if (status != PEGA_OK) {
      bench_leave_out(way, pega_error_message(&error));
      run->failed = true;
    }
    pega_error_clear(&error);
    which[count] = i;
    taken[count++] = *way;
  }
  bench_compare(run, how, bench_usual_rounds(run), taken, count, -1, limit);
  for (int i = 0; i < count; ++i) {
    if (first) ways[which[i]].median = taken[i].median;
    ways[which[i]].left_out = taken[i].left_out;
    release_graphs(&jobs[which[i]]);
  }
  free(which);
  free(taken);
}

void bench_device_compare(bench_run *run, bench_way *ways, bench_job *jobs, int num_ways, int too) {
  compare(run, BENCH_GRAPH, ways, jobs, num_ways, true, 0);
  if ((too & BENCH_GRAPH_ALONE) != 0) return;
  compare(run, BENCH_ROW, ways, jobs, num_ways, false, kShort);
  compare(run, BENCH_EAGER, ways, jobs, num_ways, false, 0);
  if ((too & BENCH_WALL_TOO) != 0) compare(run, BENCH_WALL, ways, jobs, num_ways, false, 0);
  if ((too & BENCH_HOST_TOO) != 0) compare(run, BENCH_HOST, ways, jobs, num_ways, false, 0);
}

/* ---- right or wrong ---- */

double bench_rms_bf16(const uint16_t *got, const uint16_t *expected, int64_t count) {
  bench_sums sums = {0, 0};
  for (int64_t i = 0; i < count; ++i) {
    bench_sums_add(&sums, bench_from_bf16(got[i]), bench_from_bf16(expected[i]));
  }
  return bench_sums_rms(&sums);
}

double bench_rms_fp32(const float *got, const float *expected, int64_t count) {
  bench_sums sums = {0, 0};
  for (int64_t i = 0; i < count; ++i) bench_sums_add(&sums, got[i], expected[i]);
  return bench_sums_rms(&sums);
}

double bench_max_bf16(const uint16_t *got, const uint16_t *expected, int64_t count) {
  double difference = 0;
  double largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double wanted = bench_from_bf16(expected[i]);
    const double off = fabs(bench_from_bf16(got[i]) - wanted);
    /* A NaN is kept. */
    if (!(off <= difference)) difference = off;
    if (fabs(wanted) > largest) largest = fabs(wanted);
  }
  return difference / largest;
}

void bench_judge_here(bench_run *run, bench_way *way, const char *what, const char *told,
                      double error, double limit) {
  if (way->left_out != NULL) return;
  if (told != NULL) {
    if (way->extra == NULL) way->extra = json_object();
    if (json_object_get(way->extra, "error") == NULL) {
      cli_json_set(way->extra, "error", json_object());
    }
    /* JSON has no NaN. */
    cli_json_set(json_object_get(way->extra, "error"), told,
                 isfinite(error) ? json_real(error) : json_null());
  }
  if (error <= limit || limit == INFINITY) return; /* any, and a NaN */
  char text[160];
  (void)snprintf(text, sizeof text,
                 "wrong: its %s is off by %.2e, where at most %.1e is right; not timed", what,
                 error, limit);
  bench_leave_out(way, text);
  run->failed = true;
}

void bench_judge(bench_run *run, bench_way *way, const char *what, const char *told, double error,
                 double limit) {
  bench_judge_here(run, way, what, told, error, run->fake ? INFINITY : limit);
}
