/* SPDX-License-Identifier: Apache-2.0 */
#include "module.h"

#include <stdio.h>
#include <stdlib.h>

/* By their blobs' digests, of each list the newest first; under the kernels' lock. */
enum { kModuleLists = 1024 };
static pega_module *modules[kModuleLists];
static uint64_t newest; /* how many were ever loaded */

/* PTX is compiled by the driver, whose log is the best account of a failure. */
static CUresult load_ptx(const pega_cuda_driver *driver, CUmodule *out, const void *text, char *log,
                         size_t log_size) {
  int options[] = {kJitErrorLogBuffer, kJitErrorLogBytes};
  void *values[] = {log, (void *)(uintptr_t)log_size};
  return driver->cuModuleLoadDataEx(out, text, 2, options, values);
}

pega_status pega_module_load(const pega_cuda_driver *driver, const char *where, pega_kernel *kernel,
                             const pega_kernel_variant *variant, const pega_prepared *in,
                             CUmodule *out, pega_error *error) {
  const pega_blob *blob = pega_pack_blob(kernel->pack, variant->blob);
  /* Checked again for each variant: two may share a blob and say different things of it. */
  const void *bytes;
  size_t size;
  pega_status status =
      pega_pack_variant_bytes(kernel->pack, kernel->function, variant, &bytes, &size, error);
  if (status != PEGA_OK) return status;
  uint32_t begin;
  memcpy(&begin, blob->sha256, sizeof begin);
  pega_module **list = &modules[begin % kModuleLists];
  for (pega_module *at = *list; at != NULL; at = at->next) {
    if (at->context == in->context && at->context_id == in->context_id &&
        memcmp(at->sha256, blob->sha256, sizeof at->sha256) == 0 && at->ptx == variant->ptx &&
        strcmp(at->target.name, variant->target.name) == 0) {
      *out = at->handle;
      return PEGA_OK;
    }
  }
  pega_module *made = malloc(sizeof *made);
  if (made == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "%s: no memory for a module",
                          where);
  }
  char log[512] = "";
  /* The pack keeps a NUL behind PTX, as the driver wants it. */
  bool ptx = variant->ptx;
  CUresult result = ptx ? load_ptx(driver, &made->handle, bytes, log, sizeof log)
                        : driver->cuModuleLoadData(&made->handle, bytes);
  if (result != kCudaSuccess) {
    free(made);
    char hint[1024];
    log[sizeof log - 1] = '\0';
    snprintf(hint, sizeof hint, "blob %.16s... (%s, %zu bytes) for %s on cuda:%d, sm_%d%s%s",
             blob->name, ptx ? "PTX" : "cubin", size, variant->target.name,
             (int)in->device->ordinal, (int)in->device->compute_capability,
             log[0] == '\0' ? "" : ": ", log);
    pega_cuda_note_result(in->device, result, kernel->name);
    return pega_cuda_fail(where, ptx ? "cuModuleLoadDataEx" : "cuModuleLoadData", result, hint,
                          error);
  }
  made->device = in->device;
  made->context = in->context;
  made->context_id = in->context_id;
  made->primary = in->primary;
  memcpy(made->sha256, blob->sha256, sizeof made->sha256);
  made->target = variant->target;
  made->ptx = ptx;
  made->number = ++newest;
  made->next = *list;
  *list = made;
  *out = made->handle;
  return PEGA_OK;
}

uint64_t pega_module_mark(void) { return newest; }

void pega_module_undo(const pega_cuda_driver *driver, uint64_t mark) {
  for (int i = 0; i < kModuleLists && newest != mark; ++i) {
    pega_module **at = &modules[i];
    while (*at != NULL && (*at)->number > mark) {
      pega_module *gone = *at;
      /* What cannot be unloaded is still loaded: the next attempt or pega_cuda_close() finds it. */
      if (driver->cuModuleUnload(gone->handle) != kCudaSuccess) {
        at = &gone->next;
      } else {
        *at = gone->next;
        free(gone);
      }
    }
  }
}

/* Whether the module's context is there to unload it from. */
static CUresult find_context(const pega_cuda_driver *driver, const pega_module *module,
                             bool *there) {
  unsigned long long id = 0;
  /* A context that is beyond use takes its modules with it. */
  *there = !pega_cuda_is_sticky(module->device);
  if (!*there || module->primary) return kCudaSuccess;
  CUresult result = driver->cuCtxGetId(module->context, &id);
  *there = result == kCudaSuccess && id == module->context_id;
  bool gone = result == kCudaErrorContextIsDestroyed || result == kCudaErrorInvalidContext;
  return gone ? kCudaSuccess : result;
}

static pega_status unload(const pega_cuda_driver *driver, pega_module *module, pega_error *error) {
  static const char where[] = "pega_cuda_close";
  bool there;
  if (module->handle == NULL) return PEGA_OK;
  CUresult result = find_context(driver, module, &there);
  if (result != kCudaSuccess) return pega_cuda_fail(where, "cuCtxGetId", result, NULL, error);
  if (!there) return PEGA_OK;
  pega_cuda_guard guard;
  pega_status status = pega_cuda_enter(driver, where, module->context, &guard, error);
  if (status != PEGA_OK) return status;
  result = driver->cuModuleUnload(module->handle);
  if (result == kCudaSuccess) {
    module->handle = NULL;
  } else {
    /* Once it is known to be beyond use, the next pega_cuda_close() lets go of it. */
    pega_cuda_note_result(module->device, result, where);
    status = pega_cuda_fail(where, "cuModuleUnload", result, NULL, error);
  }
  return pega_cuda_leave(driver, where, &guard, status, error);
}

pega_status pega_modules_unload(const pega_cuda_driver *driver, pega_error *error) {
  pega_status status = PEGA_OK;
  for (int i = 0; i < kModuleLists; ++i) {
    pega_module **at = &modules[i];
    while (*at != NULL) {
      pega_module *module = *at;
      pega_status unloaded = unload(driver, module, status == PEGA_OK ? error : NULL);
      if (unloaded == PEGA_OK) {
        *at = module->next;
        free(module);
      } else {
        at = &module->next;
        if (status == PEGA_OK) status = unloaded;
      }
    }
  }
  return status;
}
