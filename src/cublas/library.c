/* SPDX-License-Identifier: Apache-2.0 */
#include <dlfcn.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/options.h"
#include "core/text.h"
#include "cublas.h"

enum { kLeastMajor = 11 };
#define DRIVER "libcuda.so.1"

/* Newest first. */
static const char *const names[] = {"libcublas.so.13", "libcublas.so.12", "libcublas.so.11"};

_Atomic(const pega_cublas_api *) pega_cublas_opened;
atomic_bool pega_cublas_fork_seen;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pega_cublas_api table;    /* written before `pega_cublas_opened` is set, then never again */
static _Atomic(uint32_t) starts; /* of the driver: that went well, or go on */
static atomic_bool watches_fork;

/* In the child: a driver does not survive a fork. What the lock guards is of no more use then. */
static void note_fork(void) {
  if (atomic_load_explicit(&starts, memory_order_relaxed) != 0) {
    atomic_store_explicit(&pega_cublas_fork_seen, true, memory_order_relaxed);
  }
  pthread_mutex_init(&mutex, NULL);
}

void pega_cublas_lock(void) { pthread_mutex_lock(&mutex); }
void pega_cublas_unlock(void) { pthread_mutex_unlock(&mutex); }

/* ---- Statuses ---- */

const char *pega_cublas_status_name(int status) {
  switch (status) {
#define NAME(name, number) \
  case number:             \
    return "CUBLAS_STATUS_" #name;
    PEGA_CUBLAS_STATUSES(NAME)
#undef NAME
    default:
      return "an unknown status";
  }
}

pega_status pega_cublas_fail(const char *where, const char *call, cublas_status result,
                             const char *what, pega_error *error) {
  pega_status status = result == kCublas_ALLOC_FAILED    ? PEGA_ERROR_OUT_OF_MEMORY
                       : result == kCublas_NOT_SUPPORTED ? PEGA_ERROR_UNSUPPORTED
                                                         : PEGA_ERROR_DRIVER;
  pega_error_set(error, status, NULL, "%s: %s failed: %s (%d); %s", where, call,
                 pega_cublas_status_name(result), result, what);
  if (error != NULL) error->code = (int32_t)result;
  return status;
}

pega_status pega_cublas_driver_fail(const pega_cublas_api *api, const char *where, const char *call,
                                    CUresult result, const char *what, pega_error *error) {
  const char *name = NULL;
  if (api->cuGetErrorName(result, &name) != kCudaSuccess || name == NULL) name = "CUresult";
  pega_status status =
      result == kCudaErrorOutOfMemory ? PEGA_ERROR_OUT_OF_MEMORY : PEGA_ERROR_DRIVER;
  pega_error_set(error, status, NULL, "%s: %s failed: %s (%d); %s", where, call, name, result,
                 what);
  if (error != NULL) error->code = result;
  return status;
}

/* ---- The driver ---- */

static pega_status no_driver(pega_error *error, const char *why, const char *detail) {
  return pega_error_set(error, PEGA_ERROR_UNAVAILABLE, NULL,
                        "no CUDA driver for cuBLAS: %s%.300s; install the NVIDIA driver", why,
                        detail);
}

static pega_status open_driver(pega_cublas_api *api, pega_error *error) {
  enum { REQUIRED, OPTIONAL };
  void *library = dlopen(DRIVER, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) {
    const char *why = dlerror();
    return no_driver(error, DRIVER " could not be opened: ", why == NULL ? "no reason" : why);
  }
  const char *missing = NULL;
  void *address;
#define RESOLVE(name, need, parameters)         \
  address = dlsym(library, #name);              \
  memcpy(&api->name, &address, sizeof address); \
  if (address == NULL && (need) == REQUIRED && missing == NULL) missing = #name;
  PEGA_CUBLAS_DRIVER_FUNCTIONS(RESOLVE)
#undef RESOLVE
  if (missing != NULL) {
    return pega_error_set(error, PEGA_ERROR_SYMBOL, NULL, DRIVER " lacks %s; update the driver",
                          missing);
  }
  if (!atomic_load(&watches_fork)) {
    if (pthread_atfork(NULL, NULL, note_fork) != 0) {
      return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory to watch for fork");
    }
    atomic_store(&watches_fork, true); /* two threads may both have done it: it does no harm */
  }
  atomic_fetch_add(&starts, 1);
  CUresult result = api->cuInit(0);
  if (result == kCudaSuccess) result = api->cuDriverGetVersion(&api->driver_version);
  if (result == kCudaSuccess) result = api->cuDeviceGetCount(&api->num_devices);
  if (result == kCudaSuccess && api->num_devices > 0) return PEGA_OK;
  if (result != kCudaSuccess) atomic_fetch_sub(&starts, 1);
  if (result == kCudaSuccess) result = kCudaErrorNoDevice;
  char text[64];
  snprintf(text, sizeof text, "%d", result);
  no_driver(error, "it did not start, or has no device: CUresult ", text);
  if (error != NULL) error->code = result;
  return PEGA_ERROR_UNAVAILABLE;
}

/* ---- cuBLAS ---- */

/* A search: what was tried, for the text of its failure; the most telling status. */
typedef struct search {
  pega_heap_text tried;
  pega_status status;
} search;

static void note(search *s, const char *name, pega_status status, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static void note(search *s, const char *name, pega_status status, const char *format, ...) {
  char text[512];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  pega_heap_text_printf(&s->tried, "%s%s: %s", s->tried.size == 0 ? "" : "; ", name, text);
  if (s->status == PEGA_OK || s->status == PEGA_ERROR_UNAVAILABLE) s->status = status;
}

static bool resolve(search *s, const char *name, void *library, pega_cublas_api *api) {
  enum { REQUIRED, OPTIONAL };
  const char *missing = NULL, *since = "";
  void *address;
#define RESOLVE(function, need, brought, parameters)              \
  address = dlsym(library, #function);                            \
  memcpy(&api->function, &address, sizeof address);               \
  if (address == NULL && (need) == REQUIRED && missing == NULL) { \
    missing = #function;                                          \
    since = brought;                                              \
  }
  PEGA_CUBLAS_FUNCTIONS(RESOLVE)
#undef RESOLVE
  /* The wide form of one alone is none. */
  if (api->cublasGemmEx_64 == NULL || api->cublasGemmStridedBatchedEx_64 == NULL) {
    api->cublasGemmEx_64 = NULL;
    api->cublasGemmStridedBatchedEx_64 = NULL;
  }
  int parts[3] = {0, 0, 0};
  if (api->cublasGetProperty == NULL) {
    note(s, name, PEGA_ERROR_SYMBOL, "it is no cuBLAS, or one older than 8.0: it lacks %s",
         "cublasGetProperty");
    return false;
  }
  for (int i = 0; i < 3; ++i) {
    cublas_status result = api->cublasGetProperty(kPropertyMajor + i, &parts[i]);
    if (result != kCublas_SUCCESS) {
      note(s, name, PEGA_ERROR_UNAVAILABLE, "cublasGetProperty failed: %s (%d)",
           pega_cublas_status_name(result), result);
      return false;
    }
  }
  api->version = parts[0] * 10000 + parts[1] * 100 + parts[2];
  if (parts[0] < kLeastMajor) {
    note(s, name, PEGA_ERROR_VERSION, "it is cuBLAS %d.%d.%d: expected %d.0 or newer", parts[0],
         parts[1], parts[2], kLeastMajor);
    return false;
  }
  if (missing != NULL) {
    note(s, name, PEGA_ERROR_SYMBOL, "it is cuBLAS %d.%d.%d and lacks %s (cuBLAS %s)", parts[0],
         parts[1], parts[2], missing, since);
    return false;
  }
  if (parts[0] > api->driver_version / 1000) {
    note(s, name, PEGA_ERROR_VERSION,
         "it is cuBLAS %d.%d.%d, which needs a driver of CUDA %d: this one is of %d.%d", parts[0],
         parts[1], parts[2], parts[0], api->driver_version / 1000, api->driver_version % 1000 / 10);
    return false;
  }
  return true;
}

/* Tries one library. `how`: 0, or RTLD_NOLOAD for one that is in the process. */
static bool try_library(search *s, const char *name, int how, pega_cublas_api *api) {
  void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL | how);
  if (library == NULL) {
    const char *why = dlerror();
    if (how == 0) note(s, name, PEGA_ERROR_UNAVAILABLE, "%s", why == NULL ? "not opened" : why);
    return false;
  }
  /* It is never closed: a library of CUDA does not like to be taken out of a process. */
  pega_cublas_api found = *api;
  if (!resolve(s, name, library, &found)) return false;
  Dl_info info;
  void *address;
  memcpy(&address, &found.cublasCreate_v2, sizeof address);
  found.path =
      strdup(dladdr(address, &info) != 0 && info.dli_fname != NULL ? info.dli_fname : name);
  if (found.path == NULL) {
    note(s, name, PEGA_ERROR_OUT_OF_MEMORY, "out of memory");
    return false;
  }
  *api = found;
  return true;
}

static bool find_library(search *s, const char *path, pega_cublas_api *api) {
  if (path == NULL) path = secure_getenv(PEGA_CUBLAS_LIBRARY_ENV);
  if (path != NULL && *path != '\0') return try_library(s, path, 0, api);
  for (size_t i = 0; i < sizeof names / sizeof *names; ++i) {
    if (try_library(s, names[i], RTLD_NOLOAD, api)) return true;
  }
  for (size_t i = 0; i < sizeof names / sizeof *names; ++i) {
    if (try_library(s, names[i], 0, api)) return true;
  }
  return false;
}

/* Opens a cuBLAS, or takes what another thread opened meanwhile: `*won` tells. Without the lock until it is
 * there: a constructor that dlopen() runs may itself come here, in this thread or, while this one waits for
 * the dynamic loader, in another. Of several that are at it the first one's stays. */
static pega_status open_library(const char *where, const pega_cublas_options *options, bool *won,
                                pega_error *error) {
  pega_cublas_api api;
  search s = {{NULL, 0, 0, 0}, PEGA_OK};
  bool found = false;
  memset(&api, 0, sizeof api);
  pega_status status = open_driver(&api, error);
  if (status == PEGA_OK) {
    if (options != NULL) api.workspace_bytes = options->workspace_bytes;
    found = find_library(&s, options == NULL ? NULL : options->library_path, &api);
  }
  pega_cublas_lock();
  *won = found && atomic_load_explicit(&pega_cublas_opened, memory_order_relaxed) == NULL;
  if (*won) {
    table = api;
    atomic_store_explicit(&pega_cublas_opened, &table, memory_order_release);
  }
  const bool opened = atomic_load_explicit(&pega_cublas_opened, memory_order_relaxed) != NULL;
  pega_cublas_unlock();
  /* The library stays in the process all the same. */
  if (found && !*won) free((char *)(uintptr_t)api.path);
  if (opened) {
    if (status != PEGA_OK) pega_error_clear(error);
    status = PEGA_OK;
  } else if (status == PEGA_OK) {
    status = pega_error_set(
        error, s.status, NULL,
        "%s: no cuBLAS that can be used: %s; install it (it comes with the CUDA toolkit, and as the Python "
        "package nvidia-cublas), or name the file in %s or pega_cublas_options.library_path",
        where, s.tried.data == NULL ? "out of memory" : s.tried.data, PEGA_CUBLAS_LIBRARY_ENV);
  }
  free(s.tried.data);
  return status;
}

static pega_status refuse_fork(const char *where, pega_error *error) {
  return pega_error_set(
      error, PEGA_ERROR_UNAVAILABLE, NULL,
      "%s: this process was forked from one that had started the CUDA driver, which does not survive a "
      "fork: start the child with exec, or fork before the first use of a GPU",
      where);
}

pega_status pega_cublas_get(const char *where, const pega_cublas_api **out, pega_error *error) {
  *out = NULL;
  if (atomic_load_explicit(&pega_cublas_fork_seen, memory_order_relaxed)) {
    return refuse_fork(where, error);
  }
  *out = atomic_load_explicit(&pega_cublas_opened, memory_order_acquire);
  if (*out != NULL) return PEGA_OK;
  bool won;
  const pega_status status = open_library(where, NULL, &won, error);
  *out = atomic_load_explicit(&pega_cublas_opened, memory_order_acquire);
  return status;
}

pega_status pega_cublas_open(const pega_cublas_options *options, pega_error *error) {
  static const char where[] = "pega_cublas_open";
  const pega_cublas_api *api;
  if (options == NULL) return pega_cublas_get(where, &api, error);
  if (!pega_options_fit(options, options->struct_size, sizeof *options) || options->reserved != 0) {
    return pega_error_set(error, PEGA_ERROR_VERSION, NULL,
                          "%s: options of struct_size %" PRIu32 ", reserved %" PRIu32
                          ": expected %zu (or more with zeros after it) and 0; start from "
                          "PEGA_CUBLAS_OPTIONS_INIT",
                          where, options->struct_size, options->reserved, sizeof *options);
  }
  if (options->workspace_bytes > INT64_MAX) {
    return pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                          "%s: workspace_bytes is %" PRIu64 ": expected at most %" PRId64, where,
                          options->workspace_bytes, INT64_MAX);
  }
  if (atomic_load_explicit(&pega_cublas_fork_seen, memory_order_relaxed)) {
    return refuse_fork(where, error);
  }
  bool won = false;
  if (atomic_load_explicit(&pega_cublas_opened, memory_order_acquire) == NULL) {
    const pega_status status = open_library(where, options, &won, error);
    if (won || status != PEGA_OK) return status;
  }
  return pega_error_set(
      error, PEGA_ERROR_ALREADY_EXISTS, NULL,
      "%s: cuBLAS %s is open already and stays for the rest of the process; call this "
      "before the first use",
      where, atomic_load_explicit(&pega_cublas_opened, memory_order_acquire)->path);
}

pega_status pega_cublas_describe(pega_cublas_info *info, pega_error *error) {
  const pega_cublas_api *api;
  if (info == NULL || info->struct_size < sizeof *info) {
    return pega_error_set(error, PEGA_ERROR_VERSION, NULL,
                          "pega_cublas_describe: info %s: expected struct_size %zu",
                          info == NULL ? "is NULL" : "is of a smaller struct_size", sizeof *info);
  }
  pega_status status = pega_cublas_get("pega_cublas_describe", &api, error);
  if (status != PEGA_OK) return status;
  const uint32_t size = info->struct_size;
  memset(info, 0, sizeof *info);
  info->struct_size = size;
  info->version = api->version;
  info->path = api->path;
  info->wide = api->cublasGemmEx_64 != NULL;
  pega_cublas_count(info);
  return PEGA_OK;
}
