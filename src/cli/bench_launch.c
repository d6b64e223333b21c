/* SPDX-License-Identifier: Apache-2.0 */
/* Host time of one launch: batches of each way take turns, another one first each time. */
#include <dlfcn.h>
#include <pega/pack.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench_device.h"
#include "bench_kernel.h"

enum { ROUNDS = 200, BATCH = 100, MAX_WAYS = 12 };

/* More programs than the variant for small grids takes, so that every way launches the same kernel. */
enum { SEQ_LEN = 64, HEADS = 600, ENTRIES = SEQ_LEN * HEADS * PEGA_QWEN35_CHUNK };

/* Of the largest element of the inverse. */
static const double kLimit = 5e-3;

typedef struct setting {
  int batch; /* launches of a run */
  const bench_kernel *kernel;
  bench_kernel_launch launch;
  CUfunction function;
  CUstream stream;
  pega_function *pack;
  pega_function *raw;
  pega_function *tensors;
  pega_value raw_args[5];
  DLTensor a_tril;
  DLTensor a_inv;
  pega_value tensor_args[2];
  int64_t shape[3];
  pega_plan *plan; /* of the pack's function */
  void *pointers[2];
  /* Seven tensors: a stage, and a decode step with a plan of it. */
  pega_function *stage;
  pega_function *decode;
  pega_value stage_args[7];
  pega_value decode_args[9];
  DLTensor stage_tensors[7];
  DLTensor decode_tensors[9];
  pega_plan *decode_plan;
  void *decode_pointers[7];
} setting;

typedef struct way {
  const char *name;
  int (*run)(setting *it); /* it->batch launches; not 0 is a failure */
  const char *by;
  setting *it;
} way;

static int run_kernel(setting *it) {
  const bench_kernel *k = it->kernel;
  int failed = 0;
  for (int i = 0; i < it->batch; ++i) {
    failed |= gpu.launch(it->function, it->launch.grid[0], it->launch.grid[1], it->launch.grid[2],
                         k->block[0], k->block[1], k->block[2], k->shared, it->stream,
                         it->launch.params, NULL);
  }
  return failed;
}

static int run_kernel_ex(setting *it) {
  int failed = 0;
  for (int i = 0; i < it->batch; ++i) {
    failed |= gpu.launch_ex(&it->launch.config, it->function, it->launch.params, NULL);
  }
  return failed;
}

/* What the library asks of the driver, and nothing else. */
static int run_context_and_kernel(setting *it) {
  const bench_kernel *k = it->kernel;
  int failed = 0;
  for (int i = 0; i < it->batch; ++i) {
    CUcontext context;
    failed |= gpu.context_get(&context);
    failed |= gpu.launch(it->function, it->launch.grid[0], it->launch.grid[1], it->launch.grid[2],
                         k->block[0], k->block[1], k->block[2], k->shared, it->stream,
                         it->launch.params, NULL);
  }
  return failed;
}

static int run_raw(setting *it) {
  int failed = 0;
  for (int i = 0; i < it->batch; ++i) {
    failed |= (int)pega_function_call(it->raw, it->raw_args, 5, NULL, NULL);
  }
  return failed;
}

static int run_pack(setting *it) {
  int failed = 0;
  for (int i = 0; i < it->batch; ++i) {
    failed |= (int)pega_function_call(it->pack, it->raw_args, 5, NULL, NULL);
  }
  return failed;
}

static int run_tensors(setting *it) {
  int failed = 0;
  for (int i = 0; i < it->batch; ++i) {
    failed |= (int)pega_function_call(it->tensors, it->tensor_args, 2, NULL, NULL);
  }
  return failed;
}

static int run_plan(setting *it) {
  int failed = 0;
  for (int i = 0; i < it->batch; ++i) {
    failed |= (int)pega_plan_call(it->plan, it->pointers, it->stream, NULL);
  }
  return failed;
}

static int run_stage(setting *it) {
  int failed = 0;
  for (int i = 0; i < it->batch; ++i) {
    failed |= (int)pega_function_call(it->stage, it->stage_args, 7, NULL, NULL);
  }
  return failed;
}

static int run_decode(setting *it) {
  int failed = 0;
  for (int i = 0; i < it->batch; ++i) {
    failed |= (int)pega_function_call(it->decode, it->decode_args, 9, NULL, NULL);
  }
  return failed;
}

static int run_decode_plan(setting *it) {
  int failed = 0;
  for (int i = 0; i < it->batch; ++i) {
    failed |= (int)pega_plan_call(it->decode_plan, it->decode_pointers, it->stream, NULL);
  }
  return failed;
}

static int run_symbol(setting *it) {
  int failed = 0;
  for (int i = 0; i < it->batch; ++i) {
    failed |= gated_delta_rule_prefill_chunk_solve_cuda(
        (const float *)it->a_tril.data, (uint16_t *)it->a_inv.data, (int32_t)it->shape[0],
        (int32_t)it->shape[1], it->stream);
  }
  return failed;
}

/* Loads the kernel, to be launched by hand. NULL, or why it cannot be: no failure of the library's. */
static const char *load_kernel(setting *it, CUdeviceptr memory, CUmodule *module) {
  const bench_args args = {memory, memory + ENTRIES * 4, SEQ_LEN, HEADS};
  if (it->kernel == NULL || !bench_launch_make(it->kernel, &args, &it->launch)) {
    return bench_kernel_problem();
  }
  const char *why = bench_kernel_load(it->kernel, module, &it->function);
  if (why == NULL) bench_launch_on(it->kernel, it->stream, &it->launch);
  return why;
}

/* Tensors of small sizes, one behind the other. */
static void place(DLTensor *out, CUdeviceptr *at, DLDataType dtype, int ndim, int64_t *shape) {
  int64_t bytes = dtype.bits / 8;
  for (int i = 0; i < ndim; ++i) bytes *= shape[i];
  *out = (DLTensor){.data = (void *)(uintptr_t)*at,
                    .device = {kDLCUDA, 0},
                    .ndim = ndim,
                    .dtype = dtype,
                    .shape = shape};
  *at += (CUdeviceptr)((bytes + 255) / 256 * 256);
}

static int64_t bytes_of(const DLTensor *tensor) {
  int64_t bytes = tensor->dtype.bits / 8;
  for (int i = 0; i < tensor->ndim; ++i) bytes *= tensor->shape[i];
  return bytes;
}

static pega_status fill_tensor(bench_run *run, const DLTensor *tensor, bench_stuff stuff, int seed,
                               pega_error *error) {
  return bench_device_fill(run->device, stuff, seed, (CUdeviceptr)(uintptr_t)tensor->data,
                           bytes_of(tensor), error);
}

/* Of a chunk, [64, heads, 64]: nothing above the diagonal. */
static pega_status fill_inverse(const DLTensor *tensor, pega_error *error) {
  enum { C = PEGA_QWEN35_CHUNK };
  const int64_t bytes = bytes_of(tensor);
  uint16_t *data = malloc((size_t)bytes);
  if (data == NULL) cli_out_of_memory();
  bench_stuff_fill(BENCH_NORMAL, 5, data, bytes);
  for (int64_t i = 0; i < bytes / 2; ++i) {
    if (i % C > i / C / tensor->shape[1]) data[i] = 0;
  }
  const CUresult result = gpu.copy_in((CUdeviceptr)(uintptr_t)tensor->data, data, (size_t)bytes);
  free(data);
  return result == 0 ? PEGA_OK : bench_driver_error(error, result, "copy_in");
}

/* A stage and a decode step, both of seven tensors, and plans. */
static pega_status set_up_others(bench_run *run, setting *it, pega_error *error) {
  enum { BYTES = 4 << 20 };
  CUdeviceptr memory = 0;
  BENCH_OK(bench_device_alloc(run->device, BYTES, &memory, error));
  static const DLDataType bf16 = {kDLBfloat, 16, 1}, fp32 = {kDLFloat, 32, 1};
  static int64_t wide[] = {64, 4, 128}, narrow[] = {64, 4, 64}, gates[] = {64, 4};
  static int64_t qkv[] = {1, 8 * 128}, heads[] = {1, 4}, states[] = {1, 4, 128, 128};
  static int64_t output[] = {1, 4, 128};
  DLTensor *s = it->stage_tensors;
  DLTensor *d = it->decode_tensors;
  CUdeviceptr at = memory;
  place(&s[0], &at, bf16, 3, wide);
  place(&s[1], &at, bf16, 3, wide);
  place(&s[2], &at, fp32, 2, gates);
  place(&s[3], &at, bf16, 3, wide);
  place(&s[4], &at, bf16, 3, wide);
  place(&s[5], &at, bf16, 3, narrow);
  place(&s[6], &at, fp32, 2, gates);
  place(&d[0], &at, bf16, 2, qkv);
  place(&d[1], &at, bf16, 2, heads);
  place(&d[2], &at, bf16, 2, heads);
  place(&d[3], &at, bf16, 1, &heads[1]);
  place(&d[4], &at, fp32, 1, &heads[1]);
  place(&d[5], &at, fp32, 4, states);
  place(&d[8], &at, bf16, 3, output);
  static const bench_stuff of_stage[] = {BENCH_UNIT_ROWS, BENCH_NORMAL, BENCH_BETAS, BENCH_NORMAL,
                                         BENCH_NORMAL,    BENCH_NORMAL, BENCH_GATES};
  static const bench_stuff of_decode[] = {BENCH_NORMAL, BENCH_NORMAL, BENCH_NORMAL,
                                          BENCH_NORMAL, BENCH_DECAYS, BENCH_STATES};
  for (int i = 0; i < 7; ++i) {
    if (i != 5) BENCH_OK(fill_tensor(run, &s[i], of_stage[i], i, error));
  }
  BENCH_OK(fill_inverse(&s[5], error));
  for (int i = 0; i < 6; ++i) BENCH_OK(fill_tensor(run, &d[i], of_decode[i], i, error));
  for (int i = 0; i < 7; ++i) it->stage_args[i] = pega_value_tensor(&s[i]);
  for (int i = 0, n = 0; i < 9; ++i) {
    const bool none = i == 6 || i == 7; /* slots, scale */
    it->decode_args[i] = none ? pega_value_none() : pega_value_tensor(&d[i]);
    if (!none) it->decode_pointers[n++] = d[i].data;
  }
  it->pointers[0] = it->a_tril.data;
  it->pointers[1] = it->a_inv.data;
  BENCH_OK(pega_registry_get(PEGA_QWEN35_CHUNK_RECOMPUTE, &it->stage, error));
  BENCH_OK(pega_registry_get(PEGA_QWEN35_DECODE_PROJECTED, &it->decode, error));
  BENCH_OK(pega_function_prepare(it->stage, BENCH_DEVICE, error));
  BENCH_OK(pega_function_prepare(it->decode, BENCH_DEVICE, error));
  BENCH_OK(pega_plan_create(it->pack, it->raw_args, 5, &it->plan, error));
  return pega_plan_create(it->decode, it->decode_args, 9, &it->decode_plan, error);
}

static pega_status set_up(bench_run *run, setting *it, CUdeviceptr memory, pega_error *error) {
  it->stream = bench_device_stream(run->device);
  it->shape[0] = SEQ_LEN;
  it->shape[1] = HEADS;
  it->shape[2] = PEGA_QWEN35_CHUNK;
  it->a_tril = (DLTensor){.data = (void *)(uintptr_t)memory,
                          .device = BENCH_DEVICE,
                          .ndim = 3,
                          .dtype = {kDLFloat, 32, 1},
                          .shape = it->shape};
  it->a_inv = it->a_tril;
  it->a_inv.data = (void *)(uintptr_t)(memory + ENTRIES * 4);
  it->a_inv.dtype.code = kDLBfloat;
  it->a_inv.dtype.bits = 16;
  it->tensor_args[0] = pega_value_tensor(&it->a_tril);
  it->tensor_args[1] = pega_value_tensor(&it->a_inv);
  it->raw_args[0] = pega_value_pointer(it->a_tril.data);
  it->raw_args[1] = pega_value_pointer(it->a_inv.data);
  it->raw_args[2] = pega_value_int(SEQ_LEN);
  it->raw_args[3] = pega_value_int(HEADS);
  it->raw_args[4] = pega_value_pointer(it->stream);
  pega_pack_options options = PEGA_PACK_OPTIONS_INIT;
  options.path = run->pack;
  if (run->pack == NULL) {
    options.data = pega_pack_embedded(&options.size);
    options.flags = PEGA_PACK_STATIC;
  }
  pega_pack *pack = NULL;
  BENCH_OK(pega_pack_open(&options, &pack, error));
  const pega_status status = pega_pack_get(pack, PEGA_QWEN35_CHUNK_SOLVE_RAW, &it->pack, error);
  pega_pack_release(pack); /* the function holds its own use */
  BENCH_OK(status);
  BENCH_OK(pega_function_prepare(it->pack, BENCH_DEVICE, error));
  BENCH_OK(pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE_RAW, &it->raw, error));
  BENCH_OK(pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE, &it->tensors, error));
  BENCH_OK(pega_function_prepare(it->raw, BENCH_DEVICE, error));
  return set_up_others(run, it, error);
}

static pega_status sample(void *self, int count, double *out, pega_error *error) {
  way *w = self;
  for (int i = 0; i < count; ++i) {
    const double start = bench_now();
    const int failed = w->run(w->it);
    out[i] = (bench_now() - start) / BATCH;
    BENCH_CUDA(stream_synchronize(w->it->stream));
    if (failed != 0) return pega_error_set(error, PEGA_ERROR_DRIVER, NULL, "the launch fails");
  }
  return PEGA_OK;
}

/* What the way's launches leave, beside the CPU's. */
static pega_status check(bench_run *run, bench_way *measured, way *w, const uint16_t *right,
                         pega_error *error) {
  uint16_t *got = malloc(ENTRIES * 2);
  if (got == NULL) cli_out_of_memory();
  CUresult result = gpu.set_bytes((CUdeviceptr)(uintptr_t)w->it->a_inv.data, 0xff, ENTRIES * 2);
  const int failed = result == 0 ? w->run(w->it) : 0;
  if (result == 0) result = gpu.stream_synchronize(w->it->stream);
  if (result == 0) {
    result = gpu.copy_out(got, (CUdeviceptr)(uintptr_t)w->it->a_inv.data, ENTRIES * 2);
  }
  if (result == 0 && failed == 0) {
    bench_judge(run, measured, "output", NULL, bench_max_bf16(got, right, ENTRIES), kLimit);
  }
  free(got);
  if (failed != 0) return pega_error_set(error, PEGA_ERROR_DRIVER, NULL, "the launch fails");
  return result == 0 ? PEGA_OK : bench_driver_error(error, result, "copy_out");
}

static pega_status make_right(setting *it, uint16_t *right, pega_error *error) {
  float *a = malloc(ENTRIES * 4);
  if (a == NULL) cli_out_of_memory();
  const CUresult result = gpu.copy_out(a, (CUdeviceptr)(uintptr_t)it->a_tril.data, ENTRIES * 4);
  pega_status status = result == 0 ? PEGA_OK : bench_driver_error(error, result, "copy_out");
  if (status == PEGA_OK) {
    bench_tensor in;
    bench_tensor out;
    bench_tensor_make(&in, (DLDevice){kDLCPU, 0}, a, 32, 3, SEQ_LEN, HEADS, PEGA_QWEN35_CHUNK, 1);
    bench_tensor_make(&out, (DLDevice){kDLCPU, 0}, right, 16, 3, SEQ_LEN, HEADS, PEGA_QWEN35_CHUNK,
                      1);
    const pega_value args[] = {pega_value_tensor(&in.view), pega_value_tensor(&out.view)};
    status = pega_function_call(it->tensors, args, 2, NULL, error);
  }
  free(a);
  return status;
}

static void be_quiet(bool quiet) {
  void (*set_quiet)(bool);
  *(void **)&set_quiet = dlsym(gpu.library, "pega_fake_driver_set_quiet");
  if (set_quiet != NULL) set_quiet(quiet);
}

/* The ways that can launch the same; the first is what the others are compared with. */
static int list_ways(setting *it, bool loaded, way *ways) {
  const bool plain = loaded && it->launch.config.num_attributes == 0;
  const way both = {"cuCtxGetCurrent + cuLaunchKernel", run_context_and_kernel, "driver", it};
  int count = 0;
  if (gpu.fake && plain) ways[count++] = both;
  if (loaded && !(gpu.fake && plain)) {
    ways[count++] = (way){"cuLaunchKernelEx", run_kernel_ex, "driver", it};
  }
  if (!gpu.fake && plain) ways[count++] = both;
  /* With attributes only cuLaunchKernelEx launches the same. */
  if (plain) ways[count++] = (way){"cuLaunchKernel", run_kernel, "driver", it};
  ways[count++] = (way){"the pack's function", run_pack, BENCH_OURS, it};
  ways[count++] = (way){"raw form", run_raw, BENCH_OURS, it};
  ways[count++] = (way){"C symbol", run_symbol, BENCH_OURS, it};
  ways[count++] = (way){"tensor form", run_tensors, BENCH_OURS, it};
  ways[count++] = (way){"a plan", run_plan, BENCH_OURS, it};
  return count;
}

/* Uniform in [-0.1, 0.1]: inverses stay small. */
static pega_status fill(CUdeviceptr memory, pega_error *error) {
  float *a = malloc(ENTRIES * 4);
  uint64_t state = 1;
  if (a == NULL) cli_out_of_memory();
  for (int i = 0; i < ENTRIES; ++i) {
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    a[i] = ((float)(state >> 40) * 0x1p-24F - 0.5F) * 0.2F;
  }
  const CUresult result = gpu.copy_in(memory, a, ENTRIES * 4);
  free(a);
  return result == 0 ? PEGA_OK : bench_driver_error(error, result, "copy_in");
}

/* What one launch leaves, beside the same function's on the CPU, from the same inputs. */
static pega_status check_other(bench_run *run, bench_way *measured, way *w, bool stage,
                               pega_error *error) {
  enum { MOST = 9 };
  setting *it = w->it;
  const DLTensor *from = stage ? it->stage_tensors : it->decode_tensors;
  const int count = stage ? 7 : 9;
  const int outputs[2] = {stage ? 3 : 8, stage ? 4 : 5};
  const double limits[2] = {stage ? 6e-3 : 4e-3, stage ? 6e-3 : 1e-3};
  DLTensor here[MOST];
  pega_value args[MOST];
  void *got[2] = {NULL, NULL};
  CUresult result = 0;
  int failed = 0;
  for (int i = 0; i < count; ++i) {
    here[i] = from[i];
    here[i].device = (DLDevice){kDLCPU, 0};
    args[i] = from[i].data == NULL ? pega_value_none() : pega_value_tensor(&here[i]);
    if (from[i].data == NULL) continue;
    here[i].data = malloc((size_t)bytes_of(&from[i]));
    if (here[i].data == NULL) cli_out_of_memory();
    if (result != 0) continue;
    result = gpu.copy_out(here[i].data, (CUdeviceptr)(uintptr_t)from[i].data,
                          (size_t)bytes_of(&from[i]));
  }
  it->batch = 1;
  if (result == 0) failed = w->run(it);
  it->batch = BATCH;
  if (result == 0) result = gpu.stream_synchronize(it->stream);
  for (int i = 0; i < 2; ++i) {
    const DLTensor *output = &from[outputs[i]];
    got[i] = malloc((size_t)bytes_of(output));
    if (got[i] == NULL) cli_out_of_memory();
    if (result != 0) continue;
    result = gpu.copy_out(got[i], (CUdeviceptr)(uintptr_t)output->data, (size_t)bytes_of(output));
  }
  pega_status status =
      result != 0   ? bench_driver_error(error, result, "copy_out")
      : failed != 0 ? pega_error_set(error, PEGA_ERROR_DRIVER, NULL, "the launch fails")
                    : pega_function_call(stage ? it->stage : it->decode, args, count, NULL, error);
  for (int i = 0; i < 2 && status == PEGA_OK; ++i) {
    const DLTensor *right = &here[outputs[i]];
    const int64_t elements = bytes_of(right) / (right->dtype.bits / 8);
    const double off = right->dtype.bits == 16 ? bench_rms_bf16(got[i], right->data, elements)
                                               : bench_rms_fp32(got[i], right->data, elements);
    bench_judge(run, measured, i == 0 ? "output" : "second output", NULL, off, limits[i]);
  }
  for (int i = 0; i < 2; ++i) free(got[i]);
  for (int i = 0; i < count; ++i) {
    if (from[i].data != NULL) free(here[i].data);
  }
  return status;
}

/* Calls of other kernels: no ratio. */
static void measure_others(bench_run *run, setting *it, bench_rounds rounds) {
  way ways[] = {{"a stage, 7 tensors", run_stage, BENCH_OURS, it},
                {"a decode step, 7 tensors", run_decode, BENCH_OURS, it},
                {"a plan of the decode step", run_decode_plan, BENCH_OURS, it}};
  enum { COUNT = sizeof ways / sizeof ways[0] };
  bench_way measured[COUNT];
  memset(measured, 0, sizeof measured);
  for (int i = 0; i < COUNT; ++i) {
    measured[i].name = ways[i].name;
    measured[i].by = ways[i].by;
    measured[i].sample = sample;
    measured[i].self = &ways[i];
    pega_error failure = PEGA_ERROR_INIT;
    if (check_other(run, &measured[i], &ways[i], i == 0, &failure) != PEGA_OK) {
      bench_leave_out(&measured[i], pega_error_message(&failure));
      run->failed = true;
    }
    pega_error_clear(&failure);
  }
  bench_case_begin(run, json_pack("{s:s}", "kernel", "others"), BENCH_ALONE);
  if (gpu.fake) be_quiet(true);
  bench_compare(run, BENCH_HOST, rounds, measured, COUNT, -1, 0);
  if (gpu.fake) be_quiet(false);
  bench_case_end(run);
  bench_ways_clear(measured, COUNT);
}

static json_t *three(const unsigned *values) {
  return json_pack("[i, i, i]", (int)values[0], (int)values[1], (int)values[2]);
}

/* {"kernel": {...}}: what is launched, for peers that launch it by their own means; NULL where it is none that anybody
 * could. `file` has the cubin, in memory, until it is closed. */
static json_t *tell_kernel(const bench_kernel *kernel, FILE **file) {
  const bench_args args = {0, 0, SEQ_LEN, HEADS};
  bench_kernel_launch launch;
  if (kernel->cooperative || kernel->cluster[0] * kernel->cluster[1] * kernel->cluster[2] > 1 ||
      !bench_launch_make(kernel, &args, &launch)) {
    return NULL;
  }
  const int memory = memfd_create("pega-bench-kernel", MFD_CLOEXEC);
  if (memory < 0) return NULL;
  *file = fdopen(memory, "wb");
  if (*file == NULL) {
    (void)close(memory);
    return NULL;
  }
  if (fwrite(kernel->cubin, kernel->cubin_size, 1, *file) != 1 || fflush(*file) != 0) return NULL;
  json_t *sizes = json_array();
  for (int i = 0; i < kernel->num_params; ++i) {
    cli_json_append(sizes, json_integer(kernel->sizes[i]));
  }
  json_t *told =
      json_pack("{s:{s:o, s:s, s:o, s:o, s:i, s:o, s:b}}", "kernel", "cubin",
                json_sprintf("/proc/%d/fd/%d", (int)getpid(), memory), "entry", kernel->entry,
                "grid", three(launch.grid), "block", three(kernel->block), "shared",
                (int)kernel->shared, "params", sizes, "early", (int)kernel->pdl);
  if (told == NULL) cli_out_of_memory();
  return told;
}

static pega_status measure(bench_run *run, setting *it, pega_error *error) {
  way ways[MAX_WAYS];
  bench_way measured[MAX_WAYS];
  CUdeviceptr memory = 0;
  CUmodule module = NULL;
  memset(measured, 0, sizeof measured);
  BENCH_OK(bench_device_alloc(run->device, ENTRIES * 6, &memory, error));
  BENCH_OK(fill(memory, error));
  BENCH_OK(set_up(run, it, memory, error));
  uint16_t *right = malloc(ENTRIES * 2);
  if (right == NULL) cli_out_of_memory();
  pega_status status = make_right(it, right, error);
  const char *why = load_kernel(it, memory, &module);
  if (why != NULL) bench_add_left_out(run, "by hand", "driver", BENCH_HOST, why);
  const int count = list_ways(it, why == NULL, ways);
  for (int i = 0; i < count && status == PEGA_OK; ++i) {
    pega_error failure = PEGA_ERROR_INIT;
    measured[i].name = ways[i].name;
    measured[i].by = ways[i].by;
    measured[i].sample = sample;
    measured[i].self = &ways[i];
    if (check(run, &measured[i], &ways[i], right, &failure) != PEGA_OK) {
      bench_leave_out(&measured[i], pega_error_message(&failure));
      run->failed = true;
    }
    pega_error_clear(&failure);
  }
  if (status == PEGA_OK) {
    if (gpu.fake) be_quiet(true);
    /* A peer's turn is a batch, too; each turn costs an answer. */
    const bench_rounds rounds = {run->quick ? 2 : ROUNDS, 1};
    bench_compare(run, BENCH_HOST, rounds, measured, count, 0, 0);
    if (gpu.fake) be_quiet(false);
  }
  bench_ways_clear(measured, count);
  if (module != NULL) (void)gpu.module_unload(module);
  free(right);
  return status;
}

pega_status bench_launch(bench_run *run, pega_error *error) {
  setting it;
  bench_kernel kernel;
  FILE *file = NULL;
  json_t *told = NULL;
  memset(&it, 0, sizeof it);
  it.batch = BATCH;
  it.kernel = bench_kernel_read(run->pack, "cuda:0", NULL, &kernel) ? &kernel : NULL;
  if (it.kernel != NULL) told = tell_kernel(&kernel, &file);
  run->told = told;
  bench_case_begin(run,
                   json_pack("{s:s, s:i, s:i}", "kernel", "chunk_solve", "tokens", (int)SEQ_LEN,
                             "value_heads", (int)HEADS),
                   BENCH_PEERS);
  const pega_status status = measure(run, &it, error);
  bench_case_try(run, status, error);
  bench_case_end(run);
  run->told = NULL;
  json_decref(told);
  if (file != NULL) (void)fclose(file);
  if (status == PEGA_OK && !run->failed) {
    measure_others(run, &it, (bench_rounds){run->quick ? 2 : ROUNDS, 1});
  }
  pega_plan_release(it.plan);
  pega_plan_release(it.decode_plan);
  pega_function_release(it.stage);
  pega_function_release(it.decode);
  pega_function_release(it.pack);
  pega_function_release(it.raw);
  pega_function_release(it.tensors);
  bench_device_free(run->device);
  free(kernel.cubin);
  return PEGA_OK;
}
