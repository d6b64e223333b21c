/* SPDX-License-Identifier: Apache-2.0 */
/* FAKE_MAJOR and FAKE_MINOR are its version. FAKE_LACKS_WORKSPACE leaves cublasSetWorkspace out. */
#include "fake_cublas.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "cublas/api.h"
#include "numbers.h"

#define EXPORT __attribute__((visibility("default")))

struct cublasContext {
  CUcontext context;
  CUstream stream;
  void *workspace;
  size_t workspace_bytes;
  CUdeviceptr own; /* a real handle has memory of its own, too */
  _Atomic int users;
};

static fake_cublas state;

EXPORT fake_cublas *fake_cublas_get(void);
EXPORT fake_cublas *fake_cublas_get(void) { return &state; }

/* Where each workspace was used: on which stream, by which handle. */
enum { kPlaces = 1024 };
static struct place {
  _Atomic(void *) workspace;
  _Atomic(CUstream) stream;
  _Atomic(cublasHandle_t) handle;
} places[kPlaces];

static void note_workspace(cublasHandle_t handle) {
  if (handle->workspace == NULL) {
    ++state.no_workspaces;
    return;
  }
  for (int i = 0; i < kPlaces; ++i) {
    void *expected = NULL;
    if (atomic_compare_exchange_strong(&places[i].workspace, &expected, handle->workspace)) {
      atomic_store(&places[i].stream, handle->stream);
      atomic_store(&places[i].handle, handle);
      return;
    }
    if (expected != handle->workspace) continue;
    if (atomic_load(&places[i].stream) != handle->stream ||
        atomic_load(&places[i].handle) != handle) {
      ++state.shared_workspaces;
    }
    return;
  }
}

static void forget_workspaces(cublasHandle_t handle) {
  for (int i = 0; i < kPlaces; ++i) {
    if (atomic_load(&places[i].handle) != handle) continue;
    atomic_store(&places[i].handle, NULL);
    atomic_store(&places[i].workspace, (void *)1);
  }
}

/* Of the driver that the process has, however it was opened. */
static void *driver_symbol(const char *name) {
  void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  void *symbol = driver == NULL ? NULL : dlsym(driver, name);
  if (driver != NULL) dlclose(driver);
  return symbol;
}

static CUcontext current(void) {
  CUresult (*get)(CUcontext *) = NULL;
  CUcontext context = NULL;
  void *address = driver_symbol("cuCtxGetCurrent");
  memcpy(&get, &address, sizeof get);
  return get != NULL && get(&context) == 0 ? context : NULL;
}

static bool captures(CUstream stream) {
  CUresult (*ask)(CUstream, int *) = NULL;
  int status = 0;
  void *address = driver_symbol("cuStreamIsCapturing");
  memcpy(&ask, &address, sizeof ask);
  return ask(stream, &status) == 0 && status != 0;
}

static cublas_status count(fake_function function) {
  ++state.calls[function];
  return (cublas_status)atomic_load(&state.fail[function]);
}

static cublas_status begin(cublasHandle_t handle, fake_function function) {
  const cublas_status failed = count(function);
  if (failed != kCublas_SUCCESS) return failed;
  if (handle == NULL) return kCublas_NOT_INITIALIZED;
  if (handle->users++ != 0) ++state.shared_handles;
  if (current() != handle->context) ++state.wrong_contexts;
  return kCublas_SUCCESS;
}

static cublas_status end(cublasHandle_t handle, cublas_status status) {
  --handle->users;
  return status;
}

EXPORT cublas_status cublasGetProperty(int type, int *value);
EXPORT cublas_status cublasGetProperty(int type, int *value) {
  *value = type == kPropertyMajor ? FAKE_MAJOR : type == kPropertyMinor ? FAKE_MINOR : 0;
  return kCublas_SUCCESS;
}

EXPORT cublas_status cublasCreate_v2(cublasHandle_t *out);
EXPORT cublas_status cublasCreate_v2(cublasHandle_t *out) {
  const cublas_status failed = count(FAKE_CREATE);
  CUresult (*allocate)(CUdeviceptr *, size_t) = NULL;
  void *address = driver_symbol("cuMemAlloc_v2");
  if (failed != kCublas_SUCCESS) return failed;
  memcpy(&allocate, &address, sizeof allocate);
  cublasHandle_t made = calloc(1, sizeof *made);
  if (made == NULL) return kCublas_ALLOC_FAILED;
  made->context = current();
  if (allocate(&made->own, 256) != 0) {
    free(made);
    return kCublas_ALLOC_FAILED;
  }
  ++state.handles;
  *out = made;
  return kCublas_SUCCESS;
}

EXPORT cublas_status cublasDestroy_v2(cublasHandle_t handle);
EXPORT cublas_status cublasDestroy_v2(cublasHandle_t handle) {
  CUresult (*release)(CUdeviceptr) = NULL;
  void *address = driver_symbol("cuMemFree_v2");
  memcpy(&release, &address, sizeof release);
  const cublas_status failed = begin(handle, FAKE_DESTROY);
  if (failed != kCublas_SUCCESS) return failed;
  release(handle->own);
  forget_workspaces(handle);
  free(handle);
  --state.handles;
  return kCublas_SUCCESS;
}

EXPORT cublas_status cublasSetStream_v2(cublasHandle_t handle, CUstream stream);
EXPORT cublas_status cublasSetStream_v2(cublasHandle_t handle, CUstream stream) {
  const cublas_status failed = begin(handle, FAKE_SET_STREAM);
  if (failed != kCublas_SUCCESS) return failed;
  handle->stream = stream;
  handle->workspace = NULL; /* as the documentation says: back to the default one */
  return end(handle, kCublas_SUCCESS);
}

EXPORT cublas_status cublasSetMathMode(cublasHandle_t handle, int mode);
EXPORT cublas_status cublasSetMathMode(cublasHandle_t handle, int mode) {
  const cublas_status failed = begin(handle, FAKE_SET_MATH_MODE);
  if (failed != kCublas_SUCCESS) return failed;
  state.math_mode = mode;
  return end(handle, kCublas_SUCCESS);
}

#ifndef FAKE_LACKS_WORKSPACE
EXPORT cublas_status cublasSetWorkspace_v2(cublasHandle_t handle, void *workspace, size_t size);
EXPORT cublas_status cublasSetWorkspace_v2(cublasHandle_t handle, void *workspace, size_t size) {
  const cublas_status failed = begin(handle, FAKE_SET_WORKSPACE);
  if (failed != kCublas_SUCCESS) return failed;
  handle->workspace = workspace;
  handle->workspace_bytes = size;
  return end(handle, kCublas_SUCCESS);
}
#endif

/* Column-major, as the real one documents it: element (i, j) is at i + j * ld. */
static void compute(const fake_gemm *g, const float *alpha, const char *a, const char *b,
                    const float *beta, char *c) {
  for (int64_t at = 0; at < g->count; ++at) {
    for (int64_t j = 0; j < g->n; ++j) {
      for (int64_t i = 0; i < g->m; ++i) {
        double sum = 0;
        for (int64_t l = 0; *alpha != 0 && l < g->k; ++l) {
          const int64_t from_a = g->op_a == kCublasOpN ? i + l * g->lda : l + i * g->lda;
          const int64_t from_b = g->op_b == kCublasOpN ? l + j * g->ldb : j + l * g->ldb;
          sum += number_read(a, g->a_type, at * g->stride_a + from_a) *
                 number_read(b, g->b_type, at * g->stride_b + from_b);
        }
        const int64_t to = at * g->stride_c + i + j * g->ldc;
        double result = (double)*alpha * sum;
        if (*beta != 0) result += (double)*beta * number_read(c, g->c_type, to);
        number_write(c, g->c_type, to, result);
      }
    }
  }
}

/* What the real one refuses with INVALID_VALUE. */
static bool valid(const fake_gemm *g) {
  const int64_t rows_a = g->op_a == kCublasOpN ? g->m : g->k;
  const int64_t rows_b = g->op_b == kCublasOpN ? g->k : g->n;
  return g->m >= 0 && g->n >= 0 && g->k >= 0 && g->count >= 0 && g->lda >= 1 && g->ldb >= 1 &&
         g->ldc >= 1 && g->lda >= rows_a && g->ldb >= rows_b && g->ldc >= g->m;
}

static cublas_status run(cublasHandle_t handle, fake_gemm *g, const void *alpha, const void *a,
                         const void *b, const void *beta, void *c) {
  const cublas_status failed = begin(handle, FAKE_GEMM);
  if (failed != kCublas_SUCCESS) return failed;
  note_workspace(handle);
  g->stream = handle->stream;
  g->workspace_bytes = handle->workspace_bytes;
  g->captured = !state.quiet && captures(handle->stream);
  if (atomic_load(&state.handles) == 1) state.last = *g;
  if (!valid(g)) return end(handle, kCublas_INVALID_VALUE);
  if (g->a_type != g->b_type || (g->c_type != g->a_type && g->c_type != kCudaR32F)) {
    return end(handle, kCublas_NOT_SUPPORTED);
  }
  /* What is past 32 bits is more than a test wants to compute. */
  if (!g->captured && g->lda <= INT32_MAX && g->ldb <= INT32_MAX && g->ldc <= INT32_MAX) {
    compute(g, alpha, a, b, beta, c);
  }
  return end(handle, kCublas_SUCCESS);
}

#define ONE(name, size_type)                                                                 \
  EXPORT cublas_status name PEGA_CUBLAS_GEMM_(size_type);                                    \
  EXPORT cublas_status name PEGA_CUBLAS_GEMM_(size_type) {                                   \
    fake_gemm g = {#name, transa, transb, m,      n,      k,       lda,  ldb,  ldc, 1,    0, \
                   0,     0,      a_type, b_type, c_type, compute, algo, NULL, 0,   false};  \
    return run(handle, &g, alpha, a, b, beta, c);                                            \
  }
#define BATCH(name, size_type)                                                    \
  EXPORT cublas_status name PEGA_CUBLAS_GEMM_BATCHED_(size_type);                 \
  EXPORT cublas_status name PEGA_CUBLAS_GEMM_BATCHED_(size_type) {                \
    fake_gemm g = {#name,  transa, transb,  m,        n,        k,        lda,    \
                   ldb,    ldc,    count,   stride_a, stride_b, stride_c, a_type, \
                   b_type, c_type, compute, algo,     NULL,     0,        false}; \
    return run(handle, &g, alpha, a, b, beta, c);                                 \
  }

ONE(cublasGemmEx, int)
BATCH(cublasGemmStridedBatchedEx, int)
#if FAKE_MAJOR >= 12
ONE(cublasGemmEx_64, int64_t)
BATCH(cublasGemmStridedBatchedEx_64, int64_t)
#endif
