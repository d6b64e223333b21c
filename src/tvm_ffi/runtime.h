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

/* Where modules' runtime may be. Borrowed. */
typedef struct tvm_ffi_places {
  const char *given_path;     /* pega_tvm_ffi_options.library_path, or NULL */
  const char *const *folders; /* that were given with the artifact */
  int32_t num_folders;
} tvm_ffi_places;

/* Which runtime tvm_ffi_open_for() would give, found out without loading one: `open` receives a runtime
 * that is in the process, else NULL and `path` its file or name, on the heap. False if there is no memory. */
bool tvm_ffi_foresee(const tvm_ffi_places *places, pega_tvm_ffi **open, char **path);

/* pega_tvm_ffi_open() that also looks in folders, or the one that is open. */
pega_status tvm_ffi_open_for(const tvm_ffi_places *places, pega_tvm_ffi **out, pega_error *error);

/* Adds the loader of modules, as pega_tvm_ffi_add_loader() does. */
pega_status tvm_ffi_add_loader(const char *library_path, pega_error *error);

/* pega_foreign_load() that leaves the host's SIGSEGV handler as it was. */
void *tvm_ffi_dlopen(const char *path, int mode, bool *threw, char *why, size_t why_size);

/* PEGA_ERROR_ALREADY_EXISTS if the TVM FFI library at `path` would be a second one beside another. */
pega_status tvm_ffi_refuse_second_copy(const char *path, pega_error *error);

#endif /* PEGA_TVM_FFI_RUNTIME_H_ */
