/* SPDX-License-Identifier: Apache-2.0 */
/* Host time of one launch: batches of each way take turns, another one first each time. */
#include <dlfcn.h>
#include <pega/cuda.h>
#include <pega/pack.h>
#include <pega/qwen35.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch.h"
#include "launch_cubin_launcher.h"

enum { ROUNDS = 200, BATCH = 100, WARM_UPS = 3, MAX_WAYS = 9 };

typedef struct setting {
  const bench_kernel *kernel;
  bench_launch launch;
  CUfunction function;
  CUlaunchAttribute attributes[3];
  CUlaunchConfig config;
  CUstream stream;
  pega_function *pack;
  pega_function *raw;
  pega_function *tensors;
  pega_value raw_args[5];
  DLTensor a_tril;
  DLTensor a_inv;
  pega_value tensor_args[2];
  int64_t shape[3];
  const bench_cubin_launcher *launcher;
  void *launcher_kernel;
} setting;

typedef struct way {
  const char *name;
  int (*run)(setting *it); /* BATCH launches; not 0 is a failure */
  double times[ROUNDS];    /* ns a launch */
} way;

static int run_kernel(setting *it) {
  const bench_kernel *k = it->kernel;
  int failed = 0;
  for (int i = 0; i < BATCH; ++i) {
    failed |= gpu.launch(it->function, it->launch.grid[0], it->launch.grid[1], it->launch.grid[2],
                         k->block[0], k->block[1], k->block[2], k->shared, it->stream,
                         it->launch.params, NULL);
  }
  return failed;
}

static int run_kernel_ex(setting *it) {
  int failed = 0;
  for (int i = 0; i < BATCH; ++i) {
    failed |= gpu.launch_ex(&it->config, it->function, it->launch.params, NULL);
  }
  return failed;
}

/* What the library asks of the driver, and nothing else. */
static int run_context_and_kernel(setting *it) {
  const bench_kernel *k = it->kernel;
  int failed = 0;
  for (int i = 0; i < BATCH; ++i) {
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
  for (int i = 0; i < BATCH; ++i) {
    failed |= (int)pega_function_call(it->raw, it->raw_args, 5, NULL, NULL);
  }
  return failed;
}

static int run_pack(setting *it) {
  int failed = 0;
  for (int i = 0; i < BATCH; ++i) {
    failed |= (int)pega_function_call(it->pack, it->raw_args, 5, NULL, NULL);
  }
  return failed;
}

static int run_tensors(setting *it) {
  int failed = 0;
  for (int i = 0; i < BATCH; ++i) {
    failed |= (int)pega_function_call(it->tensors, it->tensor_args, 2, NULL, NULL);
  }
  return failed;
}

static int run_symbol(setting *it) {
  int failed = 0;
  for (int i = 0; i < BATCH; ++i) {
    failed |= gated_delta_rule_prefill_chunk_solve_cuda(
        (const float *)it->a_tril.data, (uint16_t *)it->a_inv.data, (int32_t)it->shape[0],
        (int32_t)it->shape[1], it->stream);
  }
  return failed;
}

static int run_launcher(setting *it) {
  int failed = 0;
  for (int i = 0; i < BATCH; ++i) {
    failed |= it->launcher->call(it->launcher_kernel, it->a_tril.data, it->a_inv.data, it->shape[0],
                                 it->shape[1], it->stream);
  }
  return failed;
}

/* The peer passes these arguments in this order, then NULL for scratch, and no launch attributes. */
static bool launcher_fits(const setting *it) {
  static const char *const values[] = {"a_tril_ptr",      "a_inv_ptr", "seq_len",
                                       "num_value_heads", "0",         "0"};
  bool fits = it->kernel->num_params <= 6 && it->config.num_attributes == 0;
  for (int i = 0; i < it->kernel->num_params && fits; ++i) {
    fits = strcmp(it->kernel->values[i], values[i]) == 0;
  }
  if (!fits)
    printf("left out: tvm-ffi's cubin_launcher: written for another launch of the kernel\n");
  return fits;
}

/* The optional peer beside this program; NULL, having said why. */
static const bench_cubin_launcher *open_launcher(const setting *it) {
  if (!launcher_fits(it)) return NULL;
  void *library = dlopen("libbench_cubin_launcher.so", RTLD_NOW | RTLD_LOCAL);
  const bench_cubin_launcher *(*get)(void);
  if (library == NULL) {
    printf("left out: tvm-ffi's cubin_launcher: %s\n", dlerror());
    return NULL;
  }
  *(void **)&get = dlsym(library, "bench_cubin_launcher_get");
  return get == NULL ? NULL : get();
}

static void set_attributes(setting *it) {
  const bench_kernel *k = it->kernel;
  unsigned n = 0;
  if (k->cluster[0] * k->cluster[1] * k->cluster[2] > 1) {
    it->attributes[n].id = GPU_ATTRIBUTE_CLUSTER;
    memcpy(it->attributes[n++].value.cluster, k->cluster, sizeof k->cluster);
  }
  if (k->pdl) {
    it->attributes[n].id = GPU_ATTRIBUTE_PROGRAMMATIC;
    it->attributes[n++].value.number = 1;
  }
  if (k->cooperative) {
    it->attributes[n].id = GPU_ATTRIBUTE_COOPERATIVE;
    it->attributes[n++].value.number = 1;
  }
  memcpy(it->config.grid, it->launch.grid, sizeof it->config.grid);
  memcpy(it->config.block, k->block, sizeof it->config.block);
  it->config.shared_bytes = k->shared;
  it->config.stream = it->stream;
  it->config.attributes = it->attributes;
  it->config.num_attributes = n;
}

static bool set_up(setting *it, CUmodule *module) {
  /* More programs than the variant for small grids takes, so that every way launches the same kernel. */
  enum { SEQ_LEN = 64, HEADS = 300, ENTRIES = SEQ_LEN * HEADS * PEGA_QWEN35_CHUNK };
  CUdeviceptr memory;
  MUST(gpu.alloc(&memory, ENTRIES * 6));
  MUST(gpu.set_bytes(memory, 0, ENTRIES * 6));
  const bench_args args = {memory, memory + ENTRIES * 4, SEQ_LEN, HEADS};
  if (!bench_launch_make(it->kernel, &args, &it->launch)) return false;
  MUST(gpu.stream_create(&it->stream, GPU_STREAM_NON_BLOCKING));
  MUST(gpu.module_load(module, it->kernel->cubin));
  MUST(gpu.module_function(&it->function, *module, it->kernel->entry));
  if (it->kernel->shared > 48 * 1024) {
    MUST(gpu.function_set(it->function, GPU_FUNCTION_MAX_SHARED, (int)it->kernel->shared));
  }
  set_attributes(it);
  const DLDevice device = {kDLCUDA, 0};
  it->shape[0] = SEQ_LEN;
  it->shape[1] = HEADS;
  it->shape[2] = PEGA_QWEN35_CHUNK;
  it->a_tril = (DLTensor){.data = (void *)(uintptr_t)args.a_tril,
                          .device = device,
                          .ndim = 3,
                          .dtype = {kDLFloat, 32, 1},
                          .shape = it->shape};
  it->a_inv = it->a_tril;
  it->a_inv.data = (void *)(uintptr_t)args.a_inv;
  it->a_inv.dtype.code = kDLBfloat;
  it->a_inv.dtype.bits = 16;
  it->tensor_args[0] = pega_value_tensor(&it->a_tril);
  it->tensor_args[1] = pega_value_tensor(&it->a_inv);
  it->raw_args[0] = pega_value_pointer(it->a_tril.data);
  it->raw_args[1] = pega_value_pointer(it->a_inv.data);
  it->raw_args[2] = pega_value_int(SEQ_LEN);
  it->raw_args[3] = pega_value_int(HEADS);
  it->raw_args[4] = pega_value_pointer(it->stream);
  pega_error error = PEGA_ERROR_INIT;
  pega_pack_options options = PEGA_PACK_OPTIONS_INIT;
  options.path = getenv("PEGA_PACK_PATH"); /* set by the program */
  pega_pack *pack = NULL;
  if (pega_pack_open(&options, &pack, &error) != PEGA_OK ||
      pega_pack_get(pack, PEGA_QWEN35_CHUNK_SOLVE_RAW, &it->pack, &error) != PEGA_OK ||
      pega_function_prepare(it->pack, device, &error) != PEGA_OK ||
      pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE_RAW, &it->raw, &error) != PEGA_OK ||
      pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE, &it->tensors, &error) != PEGA_OK ||
      pega_function_prepare(it->raw, device, &error) != PEGA_OK ||
      pega_stream_set(device, it->stream, NULL, &error) != PEGA_OK) {
    printf("%s\n", pega_error_message(&error));
    pega_pack_release(pack);
    return false;
  }
  pega_pack_release(pack); /* the function holds its own use */
  if (gpu.fake) return true;
  it->launcher = open_launcher(it);
  if (it->launcher == NULL) return true;
  const unsigned *g = it->launch.grid;
  const unsigned *b = it->kernel->block;
  it->launcher_kernel =
      it->launcher->open(it->kernel->cubin, it->kernel->entry, g, b, it->kernel->shared);
  if (it->launcher_kernel == NULL) {
    printf("left out: tvm-ffi's cubin_launcher: it does not load the kernel\n");
    it->launcher = NULL;
  }
  return true;
}

static bool run_all(setting *it, way *ways, int count) {
  for (int w = 0; w < count; ++w) {
    for (int i = 0; i < WARM_UPS; ++i) {
      if (ways[w].run(it) == 0) continue;
      printf("%s: the launch fails\n", ways[w].name);
      return false;
    }
    MUST(gpu.stream_synchronize(it->stream));
  }
  int failed = 0;
  for (int round = 0; round < ROUNDS; ++round) {
    for (int turn = 0; turn < count; ++turn) {
      way *w = &ways[(round + turn) % count];
      const double start = bench_now();
      failed |= w->run(it);
      w->times[round] = (bench_now() - start) / BATCH;
      MUST(gpu.stream_synchronize(it->stream));
    }
  }
  if (failed != 0) printf("a launch failed\n");
  return failed == 0;
}

/* Median over rounds of this way's time over the base's in the same round. */
static double paired_ratio(const way *one, const way *base) {
  double ratios[ROUNDS];
  for (int i = 0; i < ROUNDS; ++i) ratios[i] = one->times[i] / base->times[i];
  bench_sort(ratios, ROUNDS);
  return bench_quantile(ratios, ROUNDS, 0.5);
}

static json_t *report(way *ways, int count) {
  double sorted[ROUNDS];
  double base = 0;
  json_t *rows = json_object();
  printf(
      "\nhost time of a launch, ns (median of %d batches of %d, by turns; the kernel is the same)\n",
      ROUNDS, BATCH);
  printf("  %-36s %9s %9s %9s %9s %9s\n", "", "median", "p10", "p90", "ratio", "over base");
  for (int w = 0; w < count; ++w) {
    const double ratio = paired_ratio(&ways[w], &ways[0]);
    memcpy(sorted, ways[w].times, sizeof sorted);
    bench_sort(sorted, ROUNDS);
    const double median = bench_quantile(sorted, ROUNDS, 0.5);
    const double low = bench_quantile(sorted, ROUNDS, 0.1);
    const double high = bench_quantile(sorted, ROUNDS, 0.9);
    if (w == 0) base = median;
    printf("  %-36s %9.1f %9.1f %9.1f %9.3f %+9.1f\n", ways[w].name, median, low, high, ratio,
           median - base);
    json_object_set_new(rows, ways[w].name,
                        json_pack("{s:f, s:f, s:f, s:f, s:f}", "median_ns", median, "p10_ns", low,
                                  "p90_ns", high, "ratio", ratio, "over_base_ns", median - base));
  }
  printf("  ratio and difference are to the first row%s\n",
         gpu.fake ? ": what is left is the library's own, up to the driver's entry" : "");
  return rows;
}

static void be_quiet(void) {
  void (*set_quiet)(bool);
  *(void **)&set_quiet = dlsym(gpu.library, "pega_fake_driver_set_quiet");
  if (set_quiet != NULL) set_quiet(true);
}

json_t *bench_launches(const bench_kernel *kernel) {
  static setting it;
  static way ways[MAX_WAYS];
  int count = 0;
  CUmodule module;
  memset(&it, 0, sizeof it);
  it.kernel = kernel;
  if (!set_up(&it, &module)) return NULL;
  bool plain = it.config.num_attributes == 0;
  const way both = {.name = "cuCtxGetCurrent + cuLaunchKernel", .run = run_context_and_kernel};
  if (gpu.fake) {
    be_quiet();
    ways[count++] = both;
  } else {
    ways[count++] = (way){.name = "cuLaunchKernelEx", .run = run_kernel_ex};
    if (plain) ways[count++] = both;
  }
  /* With attributes only cuLaunchKernelEx launches the same. */
  if (plain) ways[count++] = (way){.name = "cuLaunchKernel", .run = run_kernel};
  ways[count++] = (way){.name = "pega, the pack's function", .run = run_pack};
  ways[count++] = (way){.name = "pega, raw form", .run = run_raw};
  ways[count++] = (way){.name = "pega, C symbol", .run = run_symbol};
  ways[count++] = (way){.name = "pega, tensor form", .run = run_tensors};
  if (it.launcher != NULL) {
    ways[count++] = (way){.name = "tvm-ffi cubin_launcher, packed", .run = run_launcher};
  }
  json_t *rows = run_all(&it, ways, count) ? report(ways, count) : NULL;
  pega_stream_set((DLDevice){kDLCUDA, 0}, NULL, NULL, NULL);
  pega_function_release(it.pack);
  pega_function_release(it.raw);
  pega_function_release(it.tensors);
  MUST(gpu.stream_destroy(it.stream));
  MUST(gpu.module_unload(module));
  return rows;
}
