/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PEGA_TVM_FFI_RUNTIME_H_
#define PEGA_TVM_FFI_RUNTIME_H_

#include <pthread.h>

#include "api.h"
#include "pega/tvm_ffi.h"

/* More copies of TVM FFI in one process than this are a mistake. */
enum { kMaxRuntimes = 4 };

/* An open library. Runtimes live in a table and are never freed: objects of theirs may be given back
 * at any time. Everything but `references` is written before the runtime is handed out. */
struct pega_tvm_ffi {
  tvm_ffi_api api;
  tvm_ffi_globals globals;
  void *library;    /* dlopen handle, never closed */
  const void *base; /* load address */
  char *path;
  char *wheel_version;
  TVMFFIVersion version;
  pega_tvm_ffi_source source;
  /* Gives back an object of this runtime; see pega_payload. */
  void (*release)(void *object);
  pega_stream_provider streams;
  /* TVM FFI's table of globals has no lock of its own; this one is the bridge's. */
  pthread_mutex_t globals_lock;
};

/* pega_tvm_ffi_open() for code that TVM FFI itself loaded: the runtime in the process and no other. */
pega_status tvm_ffi_open_in_process(pega_tvm_ffi **out, pega_error *error);

/* dlopen that leaves the host's SIGSEGV handler as it was. */
void *tvm_ffi_dlopen(const char *path, int mode);

/* PEGA_ERROR_ALREADY_EXISTS if the TVM FFI library at `path` would be a second one beside another. */
pega_status tvm_ffi_refuse_second_copy(const char *path, pega_error *error);

#endif /* PEGA_TVM_FFI_RUNTIME_H_ */
