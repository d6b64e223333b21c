/* SPDX-License-Identifier: Apache-2.0 */
/* Launches from ever more threads. */
#include <dlfcn.h>
#include <limits.h>
#include <pega/cuda.h>
#include <pega/pack.h>
#include <pega/qwen35.h>
#include <pthread.h>
#include <stdlib.h>

#include "bench_kernel.h"
#include "bench_scale.h"
#include "kernel_pack.h"

/* Launches between two waits: fewer than a stream's queue holds. The fake driver has none, and a launch by it
 * takes so little that starting the threads would count. */
enum {
  MOST_THREADS = 16,
  LAUNCHES = 500,
  FAKE_LAUNCHES = 50000,
  IN_BYTES = 64 * 64 * 4,
  OUT_BYTES = 64 * 64 * 2
};

/* Of the fake driver: it then keeps no record, for which it has a lock. */
static void (*set_quiet)(bool quiet);

/* Threads that begin together. */
typedef struct crew {
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  int expected;
  int waiting;
  unsigned turn;
  bool stop; /* not all could be started */
} crew;

/* False where there is nothing to begin. */
static bool wait_for_all(crew *self) {
  (void)pthread_mutex_lock(&self->mutex);
  const unsigned turn = self->turn;
  if (++self->waiting == self->expected) {
    self->waiting = 0;
    ++self->turn;
    (void)pthread_cond_broadcast(&self->changed);
  }
  while (self->turn == turn && !self->stop) {
    (void)pthread_cond_wait(&self->changed, &self->mutex);
  }
  const bool go = !self->stop;
  (void)pthread_mutex_unlock(&self->mutex);
  return go;
}

/* One of them. */
typedef struct worker {
  pthread_t thread;
  crew *crew;
  CUcontext context;
  pega_function *solve;       /* NULL: launched by hand */
  const bench_kernel *kernel; /* by hand: what */
  CUfunction entry;
  int num_samples;
  int num_launches; /* of each sample */
  double *begins;
  double *ends;
  bool failed;
  pega_error error;
} worker;

/* `launch`: by hand, or NULL. */
static void launch_all(worker *self, const pega_value *args, int32_t num_args, CUstream stream,
                       bench_kernel_launch *launch) {
  for (int i = -1; i < self->num_samples && wait_for_all(self->crew); ++i) {
    const double begin = bench_scale_now();
    for (int k = 0; k < self->num_launches && !self->failed && launch == NULL; ++k) {
      self->failed = pega_function_call(self->solve, args, num_args, NULL, &self->error) != PEGA_OK;
    }
    for (int k = 0; k < self->num_launches && !self->failed && launch != NULL; ++k) {
      self->failed = gpu.launch_ex(&launch->config, self->entry, launch->params, NULL) != 0;
    }
    if (i >= 0) {
      self->begins[i] = begin;
      self->ends[i] = bench_scale_now();
    }
    self->failed = self->failed || gpu.stream_synchronize(stream) != 0;
  }
}

static void *work(void *user) {
  worker *self = user;
  CUdeviceptr in = 0;
  CUdeviceptr out = 0;
  CUstream stream = NULL;
  bench_kernel_launch launch;
  self->failed = gpu.context_set(self->context) != 0 || gpu.alloc(&in, IN_BYTES) != 0 ||
                 gpu.alloc(&out, OUT_BYTES) != 0 || gpu.set_bytes(in, 0, IN_BYTES) != 0 ||
                 gpu.stream_create(&stream, GPU_STREAM_NON_BLOCKING) != 0;
  const pega_value args[] = {pega_value_pointer((void *)(uintptr_t)in),
                             pega_value_pointer((void *)(uintptr_t)out), pega_value_int(64),
                             pega_value_int(1), pega_value_pointer(stream)};
  if (self->solve == NULL) {
    const bench_args by_hand = {in, out, 64, 1};
    self->failed = self->failed || !bench_launch_make(self->kernel, &by_hand, &launch);
    if (!self->failed) bench_launch_on(self->kernel, stream, &launch);
  }
  launch_all(self, args, 5, stream, self->solve == NULL ? &launch : NULL);
  if (stream != NULL) (void)gpu.stream_destroy(stream);
  if (in != 0) (void)gpu.release(in);
  if (out != 0) (void)gpu.release(out);
  return NULL;
}

/* Launches a second of all threads together, from when the first began to when the last was done. */
static void rates(const worker *workers, int num_threads, int num_samples, double *samples) {
  for (int i = 0; i < num_samples; ++i) {
    double begin = workers[0].begins[i];
    double end = workers[0].ends[i];
    for (int k = 1; k < num_threads; ++k) {
      if (workers[k].begins[i] < begin) begin = workers[k].begins[i];
      if (workers[k].ends[i] > end) end = workers[k].ends[i];
    }
    samples[i] = (double)num_threads * workers[0].num_launches / (end - begin) * 1e9;
  }
}

static pega_status measure(worker *workers, int num_threads, pega_error *error) {
  crew together = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, num_threads, 0, 0, false};
  int started = 0;
  pega_status status = PEGA_OK;
  while (started < num_threads && status == PEGA_OK) {
    workers[started].crew = &together;
    if (pthread_create(&workers[started].thread, NULL, work, &workers[started]) == 0) {
      ++started;
      continue;
    }
    status = pega_error_set(error, PEGA_ERROR_UNAVAILABLE, NULL, "only %d threads can be started",
                            started);
    (void)pthread_mutex_lock(&together.mutex);
    together.stop = true;
    (void)pthread_cond_broadcast(&together.changed);
    (void)pthread_mutex_unlock(&together.mutex);
  }
  for (int i = 0; i < started; ++i) {
    (void)pthread_join(workers[i].thread, NULL);
    if (workers[i].failed && status == PEGA_OK) {
      status = pega_error_set(error, PEGA_ERROR_DRIVER, NULL, "a thread could not launch: %s",
                              pega_error_message(&workers[i].error));
    }
    pega_error_clear(&workers[i].error);
  }
  return status;
}

/* What threads launch. */
typedef struct launched {
  const char *name;             /* of the row */
  pega_function *const *solves; /* one a thread; NULL: by hand */
  const bench_kernel *kernel;
  CUfunction entry;
} launched;

/* With `room` for the samples of a row and the begins and ends of each thread. */
static pega_status measure_all(const bench_scale_rows *rows, CUcontext context,
                               const launched *what, double *room, pega_error *error) {
  worker workers[MOST_THREADS];
  const int count = rows->num_samples;
  pega_status status = PEGA_OK;
  for (int threads = 1; threads <= MOST_THREADS && status == PEGA_OK; threads *= 2) {
    for (int i = 0; i < threads; ++i) {
      workers[i] = (worker){.context = context,
                            .solve = what->solves == NULL ? NULL : what->solves[i],
                            .kernel = what->kernel,
                            .entry = what->entry,
                            .num_samples = count,
                            .num_launches = set_quiet != NULL ? FAKE_LAUNCHES : LAUNCHES,
                            .begins = room + (size_t)(1 + 2 * i) * (size_t)count,
                            .ends = room + (size_t)(2 + 2 * i) * (size_t)count};
      pega_error_init(&workers[i].error);
    }
    status = measure(workers, threads, error);
    if (status != PEGA_OK) break;
    rates(workers, threads, count, room);
    bench_scale_done(rows, what->name, what->solves == NULL ? "driver" : NULL, "threads", threads,
                     "launches/s", room);
  }
  return status;
}

static void leave_out(const bench_scale_rows *rows, const char *name, const char *by,
                      const char *why) {
  for (int threads = 1; threads <= MOST_THREADS; threads *= 2) {
    const bench_scale_row row = {.name = name,
                                 .by = by,
                                 .count = "threads",
                                 .number = threads,
                                 .unit = "launches/s",
                                 .left_out = why};
    rows->add(rows->user, &row);
  }
}

static bool take_first(void *self, const char *path) {
  (void)snprintf(self, PATH_MAX, "%s", path);
  return false;
}

/* The pack whose kernels are launched: the first that is named, else "", the one in libpega. */
static const char *pack_path(void) {
  static char path[PATH_MAX];
  *path = '\0';
  cli_pack_path_each(take_first, path);
  return path;
}

/* The solve of a pack that was opened for it alone: what it launches is shared with nobody. */
static pega_status open_own(pega_function **out, pega_error *error) {
  pega_pack_options options = PEGA_PACK_OPTIONS_INIT;
  pega_pack *pack = NULL;
  options.path = pack_path();
  if (*options.path == '\0') {
    options.path = NULL;
    options.data = pega_pack_embedded(&options.size);
    options.flags = PEGA_PACK_STATIC;
  }
  pega_status status = pega_pack_open(&options, &pack, error);
  if (status == PEGA_OK) status = pega_pack_get(pack, PEGA_QWEN35_CHUNK_SOLVE_RAW, out, error);
  pega_pack_release(pack); /* the function holds its own use */
  return status == PEGA_OK ? pega_function_prepare(*out, (DLDevice){kDLCUDA, 0}, error) : status;
}

/* Names of the rows: all threads launch one function, each one of its own; the driver alone launches the same kernel. */
static const char kShared[] = "launches of the chunk solve";
static const char kOwn[] = "launches, a function of its own each";
static const char kDriver[] = "cuLaunchKernelEx alone";

static pega_status measure_by_hand(const bench_scale_rows *rows, CUcontext context, double *room,
                                   pega_error *error) {
  static const bench_args args = {0, 0, 64, 1};
  bench_kernel kernel;
  bench_kernel_launch launch;
  CUcontext before = NULL;
  CUmodule module = NULL;
  launched what = {kDriver, NULL, &kernel, NULL};
  pega_status status = PEGA_OK;
  const char *path = pack_path();
  (void)gpu.context_get(&before);
  (void)gpu.context_set(context);
  const bool read = bench_kernel_read(*path == '\0' ? NULL : path, "cuda:0", &args, &kernel) &&
                    bench_launch_make(&kernel, &args, &launch);
  const char *why =
      read ? bench_kernel_load(&kernel, &module, &what.entry) : bench_kernel_problem();
  if (why != NULL) {
    leave_out(rows, kDriver, "driver", why);
  } else {
    status = measure_all(rows, context, &what, room, error);
  }
  if (module != NULL) (void)gpu.module_unload(module);
  free(kernel.cubin);
  (void)gpu.context_set(before);
  return status;
}

static pega_status measure_each(const bench_scale_rows *rows, CUcontext context,
                                pega_function *solve, pega_error *error) {
  pega_function *solves[MOST_THREADS];
  pega_error failure = PEGA_ERROR_INIT;
  pega_status own = PEGA_OK;
  launched what = {kShared, solves, NULL, NULL};
  double *room = calloc((size_t)rows->num_samples, (1 + 2 * MOST_THREADS) * sizeof *room);
  if (room == NULL) return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "out of memory");
  for (int i = 0; i < MOST_THREADS; ++i) solves[i] = solve;
  pega_status status = measure_all(rows, context, &what, room, error);
  memset(solves, 0, sizeof solves);
  for (int i = 0; i < MOST_THREADS && status == PEGA_OK && own == PEGA_OK; ++i) {
    own = open_own(&solves[i], &failure);
  }
  what.name = kOwn;
  if (own != PEGA_OK) leave_out(rows, kOwn, NULL, pega_error_message(&failure));
  if (own == PEGA_OK && status == PEGA_OK) {
    status = measure_all(rows, context, &what, room, error);
  }
  if (status == PEGA_OK) status = measure_by_hand(rows, context, room, error);
  for (int i = 0; i < MOST_THREADS; ++i) pega_function_release(solves[i]);
  pega_error_clear(&failure);
  free(room);
  return status;
}

pega_status bench_scale_threads(const bench_scale_rows *rows, pega_error *error) {
  CUcontext context = NULL;
  pega_function *solve = NULL;
  pega_error failure = PEGA_ERROR_INIT;
  const char *why = gpu_open();
  if (why == NULL && gpu.primary_retain(&context, 0) != 0) why = "the device has no context";
  /* A call would find the kernel, too; this tells why there is none. */
  if (why == NULL && (pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE_RAW, &solve, &failure) != PEGA_OK ||
                      pega_function_prepare(solve, (DLDevice){kDLCUDA, 0}, &failure) != PEGA_OK)) {
    why = pega_error_message(&failure);
  }
  pega_status status = PEGA_OK;
  if (why != NULL) {
    leave_out(rows, kShared, NULL, why);
    leave_out(rows, kOwn, NULL, why);
    leave_out(rows, kDriver, "driver", why);
  } else {
    *(void **)&set_quiet = dlsym(gpu.library, "pega_fake_driver_set_quiet");
    if (set_quiet != NULL) set_quiet(true);
    status = measure_each(rows, context, solve, error);
    if (set_quiet != NULL) set_quiet(false);
  }
  pega_function_release(solve);
  pega_error_clear(&failure);
  return status;
}
