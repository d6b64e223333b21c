/* SPDX-License-Identifier: Apache-2.0 */
#include "driver.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>

#include "core/options.h"

/* The least driver: what stream capture, its queries and cuGetProcAddress need. */
enum { kLeastDriver = 11030 };

typedef CUresult (*get_proc_address_v2)(const char *name, void **out, int version, uint64_t flags,
                                        int *found);
typedef CUresult (*get_proc_address_v1)(const char *name, void **out, int version, uint64_t flags);

/* Where entry points are looked up. */
typedef struct source {
  void *library; /* NULL where `options->find` is used */
  const pega_cuda_driver_options *options;
  get_proc_address_v2 v2;
  get_proc_address_v1 v1;
} source;

static pega_cuda_mutex open_mutex = PEGA_CUDA_MUTEX_INIT;
static pega_cuda_driver table; /* written before `driver` is set, then never again */
_Atomic(const pega_cuda_driver *) pega_cuda_opened_driver;
static atomic_bool started; /* cuInit was called, and has not failed */
atomic_uint pega_cuda_attention;
static atomic_bool watches_fork;
static _Atomic(pega_cuda_mutex *) mutexes; /* all that were ever locked */

/* In the child. A driver that was never started can be started there. */
static void note_fork(void) {
  if (atomic_load_explicit(&started, memory_order_relaxed)) {
    atomic_fetch_or_explicit(&pega_cuda_attention, kForkSeen, memory_order_relaxed);
  }
  pega_cuda_mutex *at = atomic_load_explicit(&mutexes, memory_order_acquire);
  for (; at != NULL; at = at->next) pthread_mutex_init(&at->mutex, NULL);
}

/* 0, or why not. Two threads may register it both: it does no harm twice. */
static int watch_fork(void) {
  if (atomic_load_explicit(&watches_fork, memory_order_acquire)) return 0;
  int failed = pthread_atfork(NULL, NULL, note_fork);
  if (failed == 0) atomic_store_explicit(&watches_fork, true, memory_order_release);
  return failed;
}

void pega_cuda_lock(pega_cuda_mutex *mutex) {
  watch_fork(); /* without memory: the next lock tries again, and nothing opens the driver */
  if (!atomic_exchange_explicit(&mutex->listed, true, memory_order_relaxed)) {
    mutex->next = atomic_load_explicit(&mutexes, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&mutexes, &mutex->next, mutex,
                                                  memory_order_release, memory_order_relaxed)) {
    }
  }
  pthread_mutex_lock(&mutex->mutex);
}

void pega_cuda_unlock(pega_cuda_mutex *mutex) { pthread_mutex_unlock(&mutex->mutex); }

static void *find(const source *from, const char *name, int version) {
  void *address = NULL;
  if (from->options != NULL && from->options->find != NULL) {
    return from->options->find(from->options->user, name, version);
  }
  if (from->v2 != NULL) {
    int found = 0;
    return from->v2(name, &address, version, 0, &found) == kCudaSuccess ? address : NULL;
  }
  return from->v1(name, &address, version, 0) == kCudaSuccess ? address : NULL;
}

/* What every failure to open ends with. */
#ifdef PEGA_MODULE
#define ON_CPU "use another implementation: this module's kernels are for GPUs alone"
#else
#define ON_CPU "call the tensor form on CPU tensors"
#endif

static pega_status refuse(pega_error *error, pega_status status, CUresult code, const char *text,
                          const char *detail) {
  const char *advice = "install the NVIDIA driver to run on a GPU, or " ON_CPU;
  if (code == kCudaErrorNoDevice) advice = "look at what nvidia-smi says, or " ON_CPU;
  pega_error_set(error, status, NULL, "%s%.400s; %s", text, detail, advice);
  if (error != NULL) error->code = code;
  return status;
}

static pega_status refuse_code(pega_error *error, CUresult code, const char *text) {
  char detail[48];
  snprintf(detail, sizeof detail, " (CUresult %d)", code);
  return refuse(error, PEGA_ERROR_UNAVAILABLE, code, text, detail);
}

/* cuInit and cuDeviceGetCount under the names that every driver has had. */
static pega_status start(const char *name, CUresult (*init)(unsigned),
                         CUresult (*count_devices)(int *), int *count, pega_error *error) {
  char text[512];
  if (init == NULL || count_devices == NULL) {
    snprintf(text, sizeof text, "%s is no CUDA driver: it lacks %s", name,
             init == NULL ? "cuInit" : "cuDeviceGetCount");
    return refuse(error, PEGA_ERROR_UNAVAILABLE, 0, text, "");
  }
  bool before = atomic_exchange_explicit(&started, true, memory_order_relaxed);
  CUresult result = init(0);
  if (result != kCudaSuccess) {
    atomic_store_explicit(&started, before, memory_order_relaxed);
    return refuse_code(error, result, "the CUDA driver did not start: cuInit failed");
  }
  result = count_devices(count);
  if (result != kCudaSuccess) {
    return refuse_code(error, result,
                       "the CUDA driver could not count devices: cuDeviceGetCount failed");
  }
  if (*count <= 0) {
    return refuse(error, PEGA_ERROR_UNAVAILABLE, kCudaErrorNoDevice,
                  "the CUDA driver is there: it has no device", "");
  }
  return PEGA_OK;
}

/* Fills `out` from `from`; the first required entry point that is missing is named. */
static pega_status resolve(const source *from, const char *name, pega_cuda_driver *out,
                           pega_error *error) {
  enum { REQUIRED, OPTIONAL };
  const char *missing = NULL;
  int since = 0;
  void *address;
#define RESOLVE(entry, need, entry_version, parameters)           \
  address = find(from, #entry, entry_version);                    \
  memcpy(&out->entry, &address, sizeof address);                  \
  if (address == NULL && (need) == REQUIRED && missing == NULL) { \
    missing = #entry;                                             \
    since = entry_version;                                        \
  }
  PEGA_CUDA_ENTRY_POINTS(RESOLVE)
#undef RESOLVE
  if (missing == NULL) return PEGA_OK;
  char text[512];
  snprintf(text, sizeof text,
           "%s of version %d.%d lacks %s (CUDA %d.%d), which the library cannot do without", name,
           out->version / 1000, out->version % 1000 / 10, missing, since / 1000, since % 1000 / 10);
  return refuse(error, PEGA_ERROR_SYMBOL, kCudaErrorSystemDriverMismatch, text, "");
}

static pega_status too_old(const char *name, int version, const char *lacks, pega_error *error) {
  char text[512];
  snprintf(text, sizeof text,
           "%s is CUDA driver version %d.%d%s: expected %d.%d or newer; update the driver", name,
           version / 1000, version % 1000 / 10, lacks, kLeastDriver / 1000,
           kLeastDriver % 1000 / 10);
  return refuse(error, PEGA_ERROR_VERSION, kCudaErrorSystemDriverMismatch, text, "");
}

static pega_status open_from(source *from, const char *name, pega_cuda_driver *out,
                             pega_error *error) {
  CUresult (*init)(unsigned);
  CUresult (*count)(int *);
  CUresult (*get_version)(int *);
  void *symbols[3] = {NULL, NULL, NULL};
  static const char *const names[3] = {"cuInit", "cuDeviceGetCount", "cuDriverGetVersion"};
  for (int i = 0; i < 3; ++i) {
    symbols[i] =
        from->library != NULL ? dlsym(from->library, names[i]) : find(from, names[i], 2020);
  }
  memcpy(&init, &symbols[0], sizeof init);
  memcpy(&count, &symbols[1], sizeof count);
  memcpy(&get_version, &symbols[2], sizeof get_version);
  pega_status status = start(name, init, count, &out->num_devices, error);
  if (status != PEGA_OK) return status;
  int version = 0;
  if (get_version != NULL) {
    CUresult result = get_version(&version);
    if (result != kCudaSuccess) {
      return refuse_code(error, result,
                         "the CUDA driver did not tell its version: cuDriverGetVersion failed");
    }
  }
  out->version = version;
  if (from->library != NULL) {
    void *v2 = dlsym(from->library, "cuGetProcAddress_v2");
    void *v1 = dlsym(from->library, "cuGetProcAddress");
    memcpy(&from->v2, &v2, sizeof from->v2);
    memcpy(&from->v1, &v1, sizeof from->v1);
    if (v1 == NULL && v2 == NULL) {
      return too_old(name, version, " and lacks cuGetProcAddress", error);
    }
  }
  if (version < kLeastDriver) return too_old(name, version, "", error);
  return resolve(from, name, out, error);
}

static pega_status open_locked(const pega_cuda_driver_options *options, pega_error *error) {
  source from = {NULL, options, NULL, NULL};
  const char *name = "libcuda.so.1";
  if (options != NULL && options->path != NULL) name = options->path;
  if (options != NULL && options->find != NULL) {
    name = "the given driver";
  } else {
    from.library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (from.library == NULL) {
      const char *why = dlerror();
      char text[256];
      snprintf(text, sizeof text, "no CUDA driver: %s could not be opened: ", name);
      return refuse(error, PEGA_ERROR_UNAVAILABLE, 0, text, why == NULL ? "no reason given" : why);
    }
  }
  int failed = watch_fork();
  if (failed != 0) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL,
                          "no memory to watch for fork (pthread_atfork: %d)", failed);
  }
  /* The library is never closed: a driver does not like to be taken out of a process. */
  pega_cuda_driver opened;
  memset(&opened, 0, sizeof opened);
  pega_status status = open_from(&from, name, &opened, error);
  if (status != PEGA_OK) return status;
  table = opened;
  atomic_store_explicit(&pega_cuda_opened_driver, &table, memory_order_release);
  return PEGA_OK;
}

#ifdef PEGA_MODULE
const pega_cuda_driver *pega_cuda_driver_look(void) { return NULL; }
#else
static _Thread_local const pega_cuda_driver *own_table;

const pega_cuda_driver *pega_cuda_driver_look(void) {
  if (pega_cuda_forked()) return NULL;
  return own_table != NULL ? own_table
                           : atomic_load_explicit(&pega_cuda_opened_driver, memory_order_acquire);
}

void pega_cuda_driver_use(const pega_cuda_driver *own) {
  own_table = own;
  if (own != NULL) {
    atomic_fetch_add_explicit(&pega_cuda_attention, 1, memory_order_relaxed);
  } else {
    atomic_fetch_sub_explicit(&pega_cuda_attention, 1, memory_order_relaxed);
  }
}
#endif

pega_status pega_cuda_refuse_recording(const char *where, const char *why, pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_UNSUPPORTED, NULL,
                        "%s: no plan can be made of this call: %s", where, why);
}

static pega_status refuse_fork(pega_error *error) {
  pega_error_set(
      error, PEGA_ERROR_UNAVAILABLE, NULL,
      "this process was forked from one that had started the CUDA driver, which does not "
      "survive a fork: start the child with exec (posix_spawn, Python's 'spawn'), or fork "
      "before the first use of a GPU");
  if (error != NULL) error->code = kCudaErrorNotInitialized;
  return PEGA_ERROR_UNAVAILABLE;
}

pega_status pega_cuda_driver_open(const pega_cuda_driver **out, pega_error *error) {
  if (pega_cuda_forked()) return refuse_fork(error);
  *out = atomic_load_explicit(&pega_cuda_opened_driver, memory_order_acquire);
  if (__builtin_expect(*out != NULL, 1)) return PEGA_OK;
  pega_cuda_lock(&open_mutex);
  pega_status status = PEGA_OK;
  if (atomic_load_explicit(&pega_cuda_opened_driver, memory_order_relaxed) == NULL) {
    status = open_locked(NULL, error);
  }
  pega_cuda_unlock(&open_mutex);
  *out = status == PEGA_OK ? &table : NULL;
  return status;
}

pega_status pega_cuda_open(const pega_cuda_driver_options *options, pega_error *error) {
  const pega_cuda_driver *opened;
  if (options == NULL) return pega_cuda_driver_get(&opened, error);
  if (!pega_options_fit(options, options->struct_size, sizeof *options) || options->reserved != 0) {
    return pega_error_set(error, PEGA_ERROR_VERSION, NULL,
                          "pega_cuda_open: options of struct_size %" PRIu32 ", reserved %" PRIu32
                          ": expected %zu (or more with zeros after it) and 0; start from "
                          "PEGA_CUDA_DRIVER_OPTIONS_INIT",
                          options->struct_size, options->reserved, sizeof *options);
  }
  if (options->path != NULL && options->find != NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_cuda_open: options have both path and find: expected at most one");
  }
  if (pega_cuda_forked()) return refuse_fork(error);
  pega_cuda_lock(&open_mutex);
  pega_status status;
  if (atomic_load_explicit(&pega_cuda_opened_driver, memory_order_relaxed) != NULL) {
    status = pega_error_set(error, PEGA_ERROR_ALREADY_EXISTS, NULL,
                            "pega_cuda_open: a CUDA driver is open already and stays for the rest "
                            "of the process; call this before anything that uses a GPU");
  } else {
    status = open_locked(options, error);
  }
  pega_cuda_unlock(&open_mutex);
  return status;
}

const char *pega_cuda_result_text(CUresult result, char *buffer, size_t capacity) {
  const pega_cuda_driver *opened =
      atomic_load_explicit(&pega_cuda_opened_driver, memory_order_acquire);
  const char *name = NULL;
  const char *text = NULL;
  if (opened != NULL) {
    if (opened->cuGetErrorName(result, &name) != kCudaSuccess) name = NULL;
    if (opened->cuGetErrorString(result, &text) != kCudaSuccess) text = NULL;
  }
  /* Some drivers have no text beyond the name. */
  if (name != NULL && text != NULL && strcmp(name, text) == 0) text = NULL;
  snprintf(buffer, capacity, "%s (%d)%s%s", name == NULL ? "CUresult" : name, result,
           text == NULL ? "" : ": ", text == NULL ? "" : text);
  return buffer;
}

pega_status pega_cuda_fail(const char *where, const char *call, CUresult result, const char *hint,
                           pega_error *error) {
  char text[256];
  pega_status status =
      result == kCudaErrorOutOfMemory ? PEGA_ERROR_OUT_OF_MEMORY : PEGA_ERROR_DRIVER;
  pega_error_set(error, status, NULL, "%s: %s failed: %s%s%s", where, call,
                 pega_cuda_result_text(result, text, sizeof text), hint == NULL ? "" : "; ",
                 hint == NULL ? "" : hint);
  if (error != NULL) error->code = result;
  return status;
}

int pega_cuda_result(pega_status status, const pega_error *error) {
  switch (status) {
    case PEGA_OK:
      return kCudaSuccess;
    case PEGA_ERROR_UNAVAILABLE:
      return error != NULL && error->code != 0 ? error->code : kCudaErrorNoDevice;
    case PEGA_ERROR_UNSUPPORTED:
      return kCudaErrorNotSupported;
    case PEGA_ERROR_NOT_FOUND:
      return kCudaErrorNoBinaryForGpu;
    case PEGA_ERROR_VERSION:
    case PEGA_ERROR_SYMBOL:
      return kCudaErrorSystemDriverMismatch;
    case PEGA_ERROR_OUT_OF_MEMORY:
      return kCudaErrorOutOfMemory;
    case PEGA_ERROR_DRIVER:
      return error != NULL && error->code != 0 ? error->code : kCudaErrorUnknown;
    case PEGA_ERROR_INTERNAL:
    case PEGA_ERROR_FORMAT:
    case PEGA_ERROR_IO:
      return kCudaErrorUnknown;
    default:
      return kCudaErrorInvalidValue;
  }
}
