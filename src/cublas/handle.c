/* SPDX-License-Identifier: Apache-2.0 */
/* A handle for each thread in each context, a workspace for each of its streams. */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "cublas.h"

enum { kMaxStreams = 16, kMaxDevices = 64 };
enum { kSmallWorkspace = 4 << 20, kLargeWorkspace = 32 << 20 };

/* CU_STREAM_PER_THREAD is another stream in each thread. */
#define PER_THREAD_STREAM ((void *)2)

typedef struct workspace {
  void *stream;
  CUdeviceptr memory;
} workspace;

typedef struct owned_handle {
  struct owned_handle *next; /* of all; under the lock */
  struct owned_handle *mine; /* of the thread's; its own */
  bool taken;                /* a thread has it; under the lock */
  CUcontext context;
  unsigned long long id; /* of a context that is not the primary one */
  bool primary;
  int32_t ordinal;
  cublasHandle_t handle; /* NULL after pega_cublas_close() */
  bool bound;            /* `stream` and its workspace are set */
  void *stream;
  uint64_t workspace_bytes; /* of each */
  int num_workspaces;
  workspace workspaces[kMaxStreams];
} owned_handle;

static owned_handle *all;                         /* under the lock */
static _Atomic(CUcontext) primaries[kMaxDevices]; /* retained */
static _Thread_local owned_handle *mine;
static pthread_key_t thread_end; /* made under the lock */
static bool has_thread_end;

/* The next thread in the same context takes them. No call of CUDA: other threads' captures, and a process
 * that ends, are not disturbed. */
static void end_thread(void *first) {
  pega_cublas_lock();
  for (owned_handle *at = first, *next; at != NULL; at = next) {
    next = at->mine;
    at->mine = NULL;
    at->taken = false;
  }
  pega_cublas_unlock();
}

static pega_status out_of_memory(const char *where, pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "%s: no memory for a handle", where);
}

/* ---- Contexts ---- */

static bool same_context(const pega_cublas_api *api, const owned_handle *at) {
  unsigned long long id = 0;
  if (at->primary || api->cuCtxGetId == NULL) return true;
  return api->cuCtxGetId(at->context, &id) == kCudaSuccess && id == at->id;
}

static pega_status get_primary(const pega_cublas_api *api, const char *where, int32_t ordinal,
                               CUcontext *out, pega_error *error) {
  *out = atomic_load_explicit(&primaries[ordinal], memory_order_acquire);
  if (*out != NULL) return PEGA_OK;
  /* Without the lock, as a driver may load libraries for it. One reference is kept. */
  CUcontext made = NULL, before = NULL;
  CUresult result = api->cuDevicePrimaryCtxRetain(&made, ordinal);
  if (result == kCudaSuccess) {
    *out = made;
    if (!atomic_compare_exchange_strong(&primaries[ordinal], &before, made)) {
      *out = before;
      result = api->cuDevicePrimaryCtxRelease_v2(ordinal);
    }
  }
  if (result == kCudaSuccess) return PEGA_OK;
  return pega_cublas_driver_fail(api, where, "cuDevicePrimaryCtxRetain", result,
                                 "nothing was launched", error);
}

/* The context of a call: the current one if it is of the device, else the primary one. */
static pega_status choose_context(const pega_cublas_api *api, const char *where, int32_t ordinal,
                                  CUcontext current, CUcontext *out, pega_error *error) {
  CUdevice handle = -1;
  if (current != NULL) {
    CUresult result = api->cuCtxGetDevice(&handle);
    if (result != kCudaSuccess) {
      return pega_cublas_driver_fail(api, where, "cuCtxGetDevice", result, "nothing was launched",
                                     error);
    }
  }
  pega_status status = get_primary(api, where, ordinal, out, error);
  if (status == PEGA_OK && handle == ordinal) *out = current;
  return status;
}

pega_status pega_cublas_leave(const char *where, const pega_cublas_lease *lease, pega_status status,
                              pega_error *error) {
  if (!lease->pushed) return status;
  const pega_cublas_api *api = lease->api;
  CUcontext popped, current;
  CUresult result = api->cuCtxPopCurrent_v2(&popped);
  if (result == kCudaSuccess) return status;
  /* A context that is beyond use may refuse to be popped. */
  if (api->cuCtxGetCurrent(&current) == kCudaSuccess && current == lease->before) return status;
  if (api->cuCtxSetCurrent(lease->before) == kCudaSuccess || status != PEGA_OK) return status;
  return pega_cublas_driver_fail(
      api, where, "cuCtxPopCurrent", result,
      "the work was done, but the context that was current could not be restored", error);
}

/* ---- Making ---- */

/* With the context current. A stream that captures must not see an allocation. */
static pega_status refuse_capture(const pega_cublas_api *api, const char *where, int32_t ordinal,
                                  void *stream, pega_error *error) {
  int capturing = kCaptureStatusNone;
  CUresult result = api->cuStreamIsCapturing((CUstream)stream, &capturing);
  if (result == kCudaSuccess && capturing == kCaptureStatusNone) return PEGA_OK;
  if (result != kCudaSuccess && result != kCudaErrorStreamCaptureImplicit) {
    return pega_cublas_driver_fail(api, where, "cuStreamIsCapturing", result,
                                   "nothing was launched; is it a stream of this context?", error);
  }
  pega_error_set(
      error, PEGA_ERROR_UNAVAILABLE, NULL,
      "%s: nothing was launched: this thread has no handle or no workspace for the stream on "
      "cuda:%" PRId32
      " yet, and the stream is being captured, during which nothing may be allocated; call "
      "pega_cublas_prepare() before the capture (the capture is still valid)",
      where, ordinal);
  if (error != NULL) error->code = kCudaErrorStreamCaptureUnsupported;
  return PEGA_ERROR_UNAVAILABLE;
}

static owned_handle *find_mine(const pega_cublas_api *api, CUcontext context, int32_t ordinal) {
  owned_handle *at = mine;
  while (at != NULL &&
         (at->context != context || at->ordinal != ordinal || !same_context(api, at))) {
    at = at->mine;
  }
  return at;
}

static workspace *find_workspace(owned_handle *in, void *stream) {
  for (int i = 0; i < in->num_workspaces; ++i) {
    if (in->workspaces[i].stream == stream) return &in->workspaces[i];
  }
  return NULL;
}

static void drop_workspace(owned_handle *in, workspace *which) {
  *which = in->workspaces[--in->num_workspaces];
  in->bound = false;
}

/* A struct of the thread's for `context`: one that an ended thread left, else a new one without a handle. */
static pega_status take(const pega_cublas_api *api, const char *where, CUcontext context,
                        int32_t ordinal, owned_handle **out, pega_error *error) {
  unsigned long long id = 0;
  const bool primary = context == atomic_load(&primaries[ordinal]);
  if (!primary && api->cuCtxGetId != NULL) {
    CUresult result = api->cuCtxGetId(context, &id);
    if (result != kCudaSuccess) {
      return pega_cublas_driver_fail(api, where, "cuCtxGetId", result, "nothing was launched",
                                     error);
    }
  }
  owned_handle *fresh = calloc(1, sizeof *fresh);
  if (fresh == NULL) return out_of_memory(where, error);
  fresh->context = context;
  fresh->id = id;
  fresh->primary = primary;
  fresh->ordinal = ordinal;
  pega_cublas_lock();
  if (!has_thread_end) has_thread_end = pthread_key_create(&thread_end, end_thread) == 0;
  owned_handle *at = all;
  while (at != NULL &&
         (at->taken || at->context != context || at->ordinal != ordinal || at->id != id)) {
    at = at->next;
  }
  const bool old = at != NULL;
  if (!old) at = fresh;
  at->mine = mine;
  const bool kept = has_thread_end && pthread_setspecific(thread_end, at) == 0;
  if (kept) {
    at->taken = true;
    if (!old) {
      at->next = all;
      all = at;
    }
    mine = at;
  } else {
    at->mine = NULL;
  }
  pega_cublas_unlock();
  if (old || !kept) free(fresh);
  if (!kept) return out_of_memory(where, error);
  *out = at;
  if (!old) return PEGA_OK;
  /* The ended thread's own stream may still be at work on its workspace; freeing it waits. */
  workspace *left = find_workspace(at, PER_THREAD_STREAM);
  if (left != NULL) {
    CUresult result = api->cuMemFree_v2(left->memory);
    if (result != kCudaSuccess) {
      return pega_cublas_driver_fail(api, where, "cuMemFree", result, "nothing was launched",
                                     error);
    }
    pega_cublas_lock();
    drop_workspace(at, left);
    pega_cublas_unlock();
  }
  return PEGA_OK;
}

static pega_status make_handle(const pega_cublas_api *api, const char *where, owned_handle *in,
                               pega_error *error) {
  char what[64];
  snprintf(what, sizeof what, "for a handle on cuda:%" PRId32 "; nothing was launched",
           in->ordinal);
  cublasHandle_t made = NULL;
  cublas_status result = api->cublasCreate_v2(&made);
  if (result != kCublas_SUCCESS) {
    return pega_cublas_fail(where, "cublasCreate", result, what, error);
  }
  /* Partial sums stay in float32, too. */
  result = api->cublasSetMathMode(made, kCublasMathDefault | kCublasMathNoReducedReduction);
  if (result != kCublas_SUCCESS) {
    (void)api->cublasDestroy_v2(made);
    return pega_cublas_fail(where, "cublasSetMathMode", result, what, error);
  }
  in->workspace_bytes = api->workspace_bytes;
  int major = 0;
  if (in->workspace_bytes == 0) {
    (void)api->cuDeviceGetAttribute(&major, kDeviceComputeMajor, in->ordinal);
    in->workspace_bytes = major >= 9 ? kLargeWorkspace : kSmallWorkspace;
  }
  in->bound = false;
  pega_cublas_lock(); /* for those that count */
  in->num_workspaces = 0;
  in->handle = made;
  pega_cublas_unlock();
  return PEGA_OK;
}

static pega_status make_workspace(const pega_cublas_api *api, const char *where, owned_handle *in,
                                  void *stream, pega_error *error) {
  if (in->num_workspaces == kMaxStreams) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL,
                          "%s: this thread has workspaces for %d streams of cuda:%" PRId32
                          " already: give back those of streams that are gone with "
                          "pega_cublas_release_stream(), or all with pega_cublas_close()",
                          where, kMaxStreams, in->ordinal);
  }
  workspace *made = &in->workspaces[in->num_workspaces];
  CUresult result = api->cuMemAlloc_v2(&made->memory, (size_t)in->workspace_bytes);
  if (result != kCudaSuccess) {
    char what[128];
    snprintf(what, sizeof what,
             "for a workspace of %" PRIu64 " bytes on cuda:%" PRId32 "; nothing was launched",
             in->workspace_bytes, in->ordinal);
    return pega_cublas_driver_fail(api, where, "cuMemAlloc", result, what, error);
  }
  made->stream = stream;
  pega_cublas_lock();
  ++in->num_workspaces;
  pega_cublas_unlock();
  return PEGA_OK;
}

/* Under a relaxed capture mode, so that another thread's capture stays valid. */
static pega_status make_relaxed(const pega_cublas_api *api, const char *where, CUcontext context,
                                int32_t ordinal, void *stream, owned_handle **out,
                                pega_error *error) {
  pega_status status = PEGA_OK;
  if (*out == NULL) status = take(api, where, context, ordinal, out, error);
  if (status == PEGA_OK && (*out)->handle == NULL) status = make_handle(api, where, *out, error);
  if (status == PEGA_OK && find_workspace(*out, stream) == NULL) {
    status = make_workspace(api, where, *out, stream, error);
  }
  return status;
}

/* With `context` current. */
__attribute__((cold, noinline)) static pega_status make(const pega_cublas_api *api,
                                                        const char *where, CUcontext context,
                                                        int32_t ordinal, void *stream,
                                                        owned_handle **out, pega_error *error) {
  pega_status status = refuse_capture(api, where, ordinal, stream, error);
  if (status != PEGA_OK) return status;
  int mode = kCaptureModeRelaxed;
  CUresult result = api->cuThreadExchangeStreamCaptureMode(&mode);
  if (result != kCudaSuccess) {
    return pega_cublas_driver_fail(api, where, "cuThreadExchangeStreamCaptureMode", result,
                                   "nothing was launched", error);
  }
  status = make_relaxed(api, where, context, ordinal, stream, out, error);
  (void)api->cuThreadExchangeStreamCaptureMode(&mode);
  return status;
}

static pega_status bind(const pega_cublas_api *api, const char *where, owned_handle *to,
                        const workspace *which, pega_error *error) {
  to->bound = false;
  const char *call = "cublasSetStream";
  cublas_status result = api->cublasSetStream_v2(to->handle, (CUstream)which->stream);
  if (result == kCublas_SUCCESS) {
    call = "cublasSetWorkspace";
    result = api->cublasSetWorkspace_v2(to->handle, (void *)(uintptr_t)which->memory,
                                        (size_t)to->workspace_bytes);
  }
  if (result != kCublas_SUCCESS) {
    return pega_cublas_fail(where, call, result, "nothing was launched", error);
  }
  to->stream = which->stream;
  to->bound = true;
  return PEGA_OK;
}

/* ---- A call's ---- */

static pega_status push(const pega_cublas_api *api, const char *where, CUcontext context,
                        pega_cublas_lease *out, pega_error *error) {
  if (out->before == context) return PEGA_OK;
  CUresult result = api->cuCtxPushCurrent_v2(context);
  if (result != kCudaSuccess) {
    return pega_cublas_driver_fail(api, where, "cuCtxPushCurrent", result, "nothing was launched",
                                   error);
  }
  out->pushed = true;
  return PEGA_OK;
}

pega_status pega_cublas_enter(const char *where, int32_t ordinal, void *stream,
                              pega_cublas_lease *out, pega_error *error) {
  const pega_cublas_api *api;
  pega_status status = pega_cublas_get(where, &api, error);
  if (status != PEGA_OK) return status;
  out->api = api;
  out->pushed = false;
  CUresult result = api->cuCtxGetCurrent(&out->before);
  if (result != kCudaSuccess) {
    return pega_cublas_driver_fail(api, where, "cuCtxGetCurrent", result, "nothing was launched",
                                   error);
  }
  owned_handle *found = out->before == NULL ? NULL : find_mine(api, out->before, ordinal);
  CUcontext context = out->before;
  if (found == NULL) {
    const int most = api->num_devices < kMaxDevices ? api->num_devices : kMaxDevices;
    if (ordinal < 0 || ordinal >= most) {
      return pega_error_set(error, PEGA_ERROR_DEVICE, NULL,
                            "%s: there is no cuda:%" PRId32 ": expected 0 to %d", where, ordinal,
                            most - 1);
    }
    status = choose_context(api, where, ordinal, out->before, &context, error);
    if (status == PEGA_OK) status = push(api, where, context, out, error);
    if (status != PEGA_OK) return status;
    found = find_mine(api, context, ordinal);
  }
  if (found == NULL || found->handle == NULL || !found->bound || found->stream != stream) {
    workspace *which =
        found == NULL || found->handle == NULL ? NULL : find_workspace(found, stream);
    if (which == NULL) {
      status = make(api, where, context, ordinal, stream, &found, error);
      if (status == PEGA_OK) which = find_workspace(found, stream);
    }
    if (status == PEGA_OK) status = bind(api, where, found, which, error);
    if (status != PEGA_OK) return pega_cublas_leave(where, out, status, error);
  }
  out->handle = found->handle;
  return PEGA_OK;
}

/* ---- The public ones ---- */

static pega_status check_device(const char *where, DLDevice device, pega_error *error) {
  if ((int)device.device_type == kDLCUDA || (int)device.device_type == kDLCUDAManaged) {
    return PEGA_OK;
  }
  char name[PEGA_NAME_SIZE];
  return pega_error_set(error, PEGA_ERROR_DEVICE, NULL, "%s: expected a cuda device, got %s", where,
                        pega_device_name(device, name));
}

pega_status pega_cublas_prepare(DLDevice device, void *stream, pega_error *error) {
  static const char where[] = "pega_cublas_prepare";
  pega_cublas_lease lease;
  pega_status status = check_device(where, device, error);
  if (status == PEGA_OK) {
    status = pega_cublas_enter(where, device.device_id, stream, &lease, error);
  }
  return status == PEGA_OK ? pega_cublas_leave(where, &lease, status, error) : status;
}

pega_status pega_cublas_release_stream(DLDevice device, void *stream, pega_error *error) {
  static const char where[] = "pega_cublas_release_stream";
  pega_status status = check_device(where, device, error);
  const pega_cublas_api *api =
      atomic_load_explicit(&pega_cublas_fork_seen, memory_order_relaxed)
          ? NULL
          : atomic_load_explicit(&pega_cublas_opened, memory_order_acquire);
  if (status != PEGA_OK || api == NULL) return status;
  for (owned_handle *at = mine; at != NULL; at = at->mine) {
    workspace *which = find_workspace(at, stream);
    if (at->ordinal != device.device_id || which == NULL || !same_context(api, at)) continue;
    pega_cublas_lease lease = {api, at->handle, false, NULL};
    CUresult result = api->cuCtxGetCurrent(&lease.before);
    if (result == kCudaSuccess) status = push(api, where, at->context, &lease, error);
    if (result == kCudaSuccess && status == PEGA_OK) {
      result = api->cuMemFree_v2(which->memory);
      if (result == kCudaSuccess) {
        pega_cublas_lock();
        drop_workspace(at, which);
        pega_cublas_unlock();
      }
    }
    if (result != kCudaSuccess) {
      status = pega_cublas_driver_fail(api, where, "cuMemFree", result, "it is kept", error);
    }
    return pega_cublas_leave(where, &lease, status, error);
  }
  return PEGA_OK;
}

/* Gives back what is in one struct, which is empty then. */
static pega_status empty(const pega_cublas_api *api, owned_handle *which, pega_error *error) {
  static const char where[] = "pega_cublas_close";
  pega_status status = PEGA_OK;
  pega_cublas_lease lease = {api, which->handle, false, NULL};
  if (which->handle != NULL && same_context(api, which) &&
      api->cuCtxGetCurrent(&lease.before) == kCudaSuccess) {
    status = push(api, where, which->context, &lease, error);
    if (status == PEGA_OK) {
      cublas_status result = api->cublasDestroy_v2(which->handle);
      if (result != kCublas_SUCCESS) {
        status = pega_cublas_fail(where, "cublasDestroy", result, "the handle is lost", error);
      }
      for (int i = 0; i < which->num_workspaces; ++i) {
        CUresult freed = api->cuMemFree_v2(which->workspaces[i].memory);
        if (freed != kCudaSuccess && status == PEGA_OK) {
          status = pega_cublas_driver_fail(api, where, "cuMemFree", freed, "the workspace is lost",
                                           error);
        }
      }
      status = pega_cublas_leave(where, &lease, status, error);
    }
  }
  which->handle = NULL;
  which->num_workspaces = 0;
  which->bound = false;
  return status;
}

pega_status pega_cublas_close(pega_error *error) {
  const pega_cublas_api *api = atomic_load_explicit(&pega_cublas_opened, memory_order_acquire);
  if (api == NULL) return PEGA_OK;
  /* Says why a child of fork cannot. */
  pega_status status = pega_cublas_get("pega_cublas_close", &api, error);
  if (status != PEGA_OK) return status;
  pega_cublas_lock();
  for (owned_handle **at = &all; *at != NULL;) {
    owned_handle *which = *at;
    pega_status emptied = empty(api, which, status == PEGA_OK ? error : NULL);
    if (status == PEGA_OK) status = emptied;
    if (which->taken) { /* its thread still knows of it, and fills it again */
      at = &which->next;
    } else {
      *at = which->next;
      free(which);
    }
  }
  for (int i = 0; i < kMaxDevices; ++i) {
    if (atomic_load_explicit(&primaries[i], memory_order_relaxed) == NULL) continue;
    CUresult result = api->cuDevicePrimaryCtxRelease_v2(i);
    atomic_store_explicit(&primaries[i], NULL, memory_order_release);
    if (result != kCudaSuccess && status == PEGA_OK) {
      status = pega_cublas_driver_fail(api, "pega_cublas_close", "cuDevicePrimaryCtxRelease",
                                       result, "it is forgotten", error);
    }
  }
  pega_cublas_unlock();
  return status;
}

void pega_cublas_count(pega_cublas_info *info) {
  pega_cublas_lock();
  for (const owned_handle *at = all; at != NULL; at = at->next) {
    if (at->handle == NULL) continue;
    ++info->handles;
    info->workspaces += (uint64_t)at->num_workspaces;
    info->workspace_bytes += (uint64_t)at->num_workspaces * at->workspace_bytes;
  }
  pega_cublas_unlock();
}
