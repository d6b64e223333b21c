/* SPDX-License-Identifier: Apache-2.0 */
/* Modules as a format of pega_artifact_open(). */
#include <dlfcn.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "artifact/foreign_call.h"
#include "core/options.h"
#include "core/text.h"
#include "library_bin.h"
#include "locate.h"
#include "module.h"
#include "pega/artifact.h"

enum { kMostKinds = 64 };

static const char kFormat[] = "TVM FFI module";
static const char kAdviceText[] =
    "which TVM FFI runtime a process uses is chosen before its first is opened: by "
    "pega_tvm_ffi_options.library_path, by " PEGA_TVM_FFI_LIBRARY_ENV
    ", or by a libtvm_ffi.so in a given folder";
static const char kLibraryBin[] = "__tvm_ffi__library_bin";

/* The runtime that was asked for, once; never changed again. */
static pthread_mutex_t chosen_lock = PTHREAD_MUTEX_INITIALIZER;
static char *chosen_path;

static const char *chosen(void) {
  pthread_mutex_lock(&chosen_lock);
  const char *path = chosen_path;
  pthread_mutex_unlock(&chosen_lock);
  return path;
}

static tvm_ffi_places places_of(const pega_artifact_file *file) {
  return (tvm_ffi_places){chosen(), file->search_paths, file->num_search_paths};
}

static bool recognises(void *self, const pega_artifact_file *file) {
  (void)self;
  bool found = false;
  for (int32_t i = 0; i < file->num_exports; ++i) {
    const char *name = file->exports[i];
    if (strcmp(name, "TVMFFIGetVersion") == 0) return false; /* the runtime itself */
    found = found || tvm_ffi_function_of_symbol(name) != NULL || strcmp(name, kLibraryBin) == 0;
  }
  for (int32_t i = 0; i < file->num_undefined && !found; ++i) {
    found = strncmp(file->undefined[i], "TVMFFI", 6) == 0;
  }
  return found;
}

/* ---------------------------------------------------------------------------------- inspecting -- */

/* What an inspection has found. */
typedef struct account {
  const pega_artifact_file *file;
  pega_tvm_ffi *runtime; /* that is open, or NULL */
  char *runtime_path;    /* of one that is not, or NULL */
  char *kinds[kMostKinds];
  bool found[kMostKinds]; /* whether a loader is registered */
  int32_t num_kinds;
  char *libraries[kMostKinds + 2];
  int32_t num_libraries;
  pega_heap_text missing; /* one sentence */
  bool uses_cuda;
  const char
      *backend; /* a function of libtvm_runtime.so that it calls through a pointer, or NULL */
} account;

static void free_account(account *of) {
  for (int32_t i = 0; i < of->num_kinds; ++i) free(of->kinds[i]);
  for (int32_t i = 0; i < of->num_libraries; ++i) free(of->libraries[i]);
  free(of->runtime_path);
  free(of->missing.data);
}

static pega_status no_memory(const char *path, pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "%s: no memory to inspect it", path);
}

static pega_status note_kind(void *self, const char *kind, pega_error *error) {
  account *of = self;
  for (int32_t i = 0; i < of->num_kinds; ++i) {
    if (strcmp(of->kinds[i], kind) == 0) return PEGA_OK;
  }
  if (of->num_kinds == kMostKinds) {
    return pega_error_set(error, PEGA_ERROR_UNSUPPORTED, NULL,
                          "%s: the binary that it embeds names more than %d loaders",
                          of->file->path, kMostKinds);
  }
  char *copy = strdup(kind);
  if (copy == NULL) return no_memory(of->file->path, error);
  if (strcmp(kind, "cuda") == 0) of->uses_cuda = true;
  of->kinds[of->num_kinds++] = copy;
  if (of->runtime == NULL) return PEGA_OK;
  return tvm_ffi_has_loader(of->runtime, kind, &of->found[of->num_kinds - 1], error);
}

/* Whether a file holds text, ended by a NUL. */
static bool file_holds(const char *path, const char *text) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat status;
  bool found = false;
  size_t wanted = strlen(text) + 1;
  if (fd < 0) return false;
  enum { kPiece = 1 << 16 };
  char *piece = malloc(kPiece);
  if (piece != NULL && fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) {
    size_t kept = 0; /* of the piece before, as the text may lie across */
    ssize_t got;
    while (!found && (got = read(fd, piece + kept, kPiece - kept)) > 0) {
      size_t size = kept + (size_t)got;
      found = memmem(piece, size, text, wanted) != NULL;
      kept = size < wanted - 1 ? size : wanted - 1;
      memmove(piece, piece + size - kept, kept);
    }
  }
  free(piece);
  close(fd);
  return found;
}

static void loader_name(const char *kind, char name[160]) {
  snprintf(name, 160, TVM_FFI_LOADER_PREFIX "%s", kind);
}

static bool add_library(account *of, const char *name) {
  for (int32_t i = 0; i < of->num_libraries; ++i) {
    if (strcmp(of->libraries[i], name) == 0) return true;
  }
  char *copy = strdup(name);
  if (copy != NULL) of->libraries[of->num_libraries++] = copy;
  return copy != NULL;
}

/* Names the library that registers the loader of a kind: the one in the given folders that says so, else by
 * the name of what usually does. */
static bool add_provider(account *of, const char *kind) {
  const char *const *names = tvm_ffi_provider_libraries(kind);
  char wanted[160];
  char path[PATH_MAX];
  loader_name(kind, wanted);
  for (int32_t i = 0; i < of->file->num_search_paths; ++i) {
    for (const char *const *name = names; *name != NULL; ++name) {
      int length = snprintf(path, sizeof path, "%s/%s", of->file->search_paths[i], *name);
      if (length < 0 || (size_t)length >= sizeof path || !file_holds(path, wanted)) continue;
      char *real = realpath(path, NULL);
      bool added = real != NULL && add_library(of, real);
      free(real);
      return added;
    }
  }
  return add_library(of, names[0]);
}

/* What loops on threads, or wants scratch memory, calls libtvm_runtime.so through pointers that the module
 * exports and that are filled in when it is loaded: where that library is not there, they stay NULL and the
 * first call jumps to nothing. No undefined symbol tells of it. */
static bool add_backend(account *of) {
  static const char kPointer[] = "__TVMBackend";
  static const char kRuntime[] = "libtvm_runtime.so";
  char path[PATH_MAX];
  for (int32_t i = 0; i < of->file->num_exports && of->backend == NULL; ++i) {
    if (strncmp(of->file->exports[i], kPointer, sizeof kPointer - 1) == 0) {
      of->backend = of->file->exports[i] + 2;
    }
  }
  if (of->backend == NULL) return true;
  for (int32_t i = 0; i < of->file->num_search_paths; ++i) {
    int length = snprintf(path, sizeof path, "%s/%s", of->file->search_paths[i], kRuntime);
    if (length < 0 || (size_t)length >= sizeof path || access(path, R_OK) != 0) continue;
    char *real = realpath(path, NULL);
    bool added = real != NULL && add_library(of, real);
    free(real);
    return added;
  }
  return add_library(of, kRuntime);
}

static pega_status gather(account *of, pega_error *error) {
  const pega_artifact_file *file = of->file;
  const tvm_ffi_places places = places_of(file);
  if (!tvm_ffi_foresee(&places, &of->runtime, &of->runtime_path)) {
    return no_memory(file->path, error);
  }
  if (of->runtime == NULL && strchr(of->runtime_path, '/') != NULL) {
    pega_error refused = PEGA_ERROR_INIT;
    if (tvm_ffi_refuse_second_copy(of->runtime_path, &refused) != PEGA_OK) {
      pega_heap_text_printf(&of->missing, "%s", pega_error_message(&refused));
    }
    pega_error_clear(&refused);
  }
  const char *runtime = of->runtime != NULL ? of->runtime->path : of->runtime_path;
  if (!add_library(of, runtime) || !add_backend(of)) return no_memory(file->path, error);
  size_t room = 0;
  const void *bytes = file->symbol_bytes(file, kLibraryBin, &room);
  if (bytes == NULL) {
    for (int32_t i = 0; i < file->num_exports; ++i) {
      if (strcmp(file->exports[i], kLibraryBin) != 0) continue;
      return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                            "%s: the binary that it embeds (%s) lies outside the file", file->path,
                            kLibraryBin);
    }
    return PEGA_OK;
  }
  pega_status status = tvm_ffi_visit_library_bin(file->path, bytes, room, note_kind, of, error);
  for (int32_t i = 0; status == PEGA_OK && i < of->num_kinds; ++i) {
    if (!of->found[i] && !add_provider(of, of->kinds[i])) status = no_memory(file->path, error);
  }
  return status;
}

static int compare_texts(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static pega_status texts(const char *const *items, int32_t count, pega_value *out,
                         pega_error *error) {
  pega_value *values = calloc((size_t)count + 1, sizeof *values);
  if (values == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory for %" PRId32 " names",
                          count);
  }
  for (int32_t i = 0; i < count; ++i) values[i] = pega_value_string(items[i]);
  pega_status status = pega_array_create(values, count, out, error);
  free(values);
  return status;
}

static pega_status functions_of(const pega_artifact_file *file, pega_value *out,
                                pega_error *error) {
  const char **names = calloc((size_t)file->num_exports + 1, sizeof *names);
  if (names == NULL) return no_memory(file->path, error);
  int32_t count = 0;
  for (int32_t i = 0; i < file->num_exports; ++i) {
    const char *name = tvm_ffi_function_of_symbol(file->exports[i]);
    if (name != NULL) names[count++] = name;
  }
  qsort(names, (size_t)count, sizeof *names, compare_texts);
  pega_status status = texts(names, count, out, error);
  free(names);
  return status;
}

static pega_status loaders_of(const account *of, pega_value *out, pega_error *error) {
  pega_value items[kMostKinds];
  const pega_value keys[2] = {pega_value_string("name"), pega_value_string("found")};
  pega_status status = PEGA_OK;
  int32_t made = 0;
  for (; status == PEGA_OK && made < of->num_kinds; ++made) {
    char name[160];
    loader_name(of->kinds[made], name);
    const pega_value values[2] = {pega_value_string(name), pega_value_bool(of->found[made])};
    items[made] = pega_value_none();
    status = pega_map_create(keys, values, 2, &items[made], error);
  }
  if (status == PEGA_OK) status = pega_array_create(items, made, out, error);
  for (int32_t i = 0; i < made; ++i) pega_value_release(&items[i]);
  return status;
}

/* Why libraries beyond the file's own are wanted. */
static void tell_why(const account *of, char *text, size_t size) {
  pega_text to = {text, size, 0};
  pega_text_printf(&to, "the format '%s'", kFormat);
  if (of->backend != NULL) {
    pega_text_printf(&to, ", whose code here calls %s() of Apache TVM's runtime library",
                     of->backend);
  }
  bool first = true;
  for (int32_t i = 0; i < of->num_kinds; ++i) {
    if (of->found[i]) continue;
    pega_text_printf(
        &to, "%s '" TVM_FFI_LOADER_PREFIX "%s'",
        first ? ", whose runtime needs for the binary that this file embeds the loader" : ",",
        of->kinds[i]);
    if (first) pega_text_printf(&to, " (of %s)", tvm_ffi_provider_text(of->kinds[i]));
    first = false;
  }
}

static pega_status inspect(void *self, const pega_artifact_file *file, pega_value *out,
                           pega_error *error) {
  (void)self;
  account of;
  memset(&of, 0, sizeof of);
  of.file = file;
  char why[768];
  enum { kFunctions, kLoaders, kLibraries, kMissing, kWantedBy, kUsesCuda, kAdvice, kNumKeys };
  static const char *const names[kNumKeys] = {"functions", "loaders",   "libraries", "missing",
                                              "wanted_by", "uses_cuda", "advice"};
  pega_value keys[kNumKeys];
  pega_value values[kNumKeys];
  for (int i = 0; i < kNumKeys; ++i) {
    keys[i] = pega_value_string(names[i]);
    values[i] = pega_value_none();
  }
  pega_status status = gather(&of, error);
  if (status == PEGA_OK && of.missing.failed) status = no_memory(file->path, error);
  if (status == PEGA_OK) status = functions_of(file, &values[kFunctions], error);
  if (status == PEGA_OK) status = loaders_of(&of, &values[kLoaders], error);
  if (status == PEGA_OK) {
    status = texts((const char *const *)of.libraries, of.num_libraries, &values[kLibraries], error);
  }
  const char *missing = of.missing.data;
  if (status == PEGA_OK) {
    status = texts(&missing, missing == NULL ? 0 : 1, &values[kMissing], error);
  }
  tell_why(&of, why, sizeof why);
  values[kWantedBy] = pega_value_string(why);
  values[kUsesCuda] = pega_value_bool(of.uses_cuda);
  values[kAdvice] = pega_value_string(kAdviceText);
  if (status == PEGA_OK) status = pega_map_create(keys, values, kNumKeys, out, error);
  for (int i = 0; i <= kMissing; ++i) pega_value_release(&values[i]);
  free_account(&of);
  return status;
}

/* ------------------------------------------------------------------------------------- opening -- */

/* What is looked for before anything is loaded. */
typedef struct promise {
  const pega_artifact_file *file;
  const char *const *libraries;
  int32_t num_libraries;
  pega_tvm_ffi *runtime;
} promise;

/* A library of the right name may be built without the loader. */
static pega_status check_promise(void *self, const char *kind, pega_error *error) {
  const promise *of = self;
  char name[160];
  bool found = false;
  pega_status status = tvm_ffi_has_loader(of->runtime, kind, &found, error);
  if (status != PEGA_OK || found) return status;
  loader_name(kind, name);
  pega_heap_text seen = {NULL, 0, 0, 0};
  for (int32_t i = 0; i < of->num_libraries; ++i) {
    if (file_holds(of->libraries[i], name)) {
      free(seen.data);
      return PEGA_OK;
    }
    pega_heap_text_printf(&seen, "%s%s", i == 0 ? "" : ", ", of->libraries[i]);
  }
  status = pega_error_set(
      error, PEGA_ERROR_NOT_FOUND, NULL,
      "%s was not loaded: it needs the runtime loader '%s', which nobody has registered in %s and "
      "none of what would be loaded first knows (%s); it is registered by %s",
      of->file->path, name, of->runtime->path, seen.data == NULL ? "nothing" : seen.data,
      tvm_ffi_provider_text(kind));
  free(seen.data);
  return status;
}

static bool same_path(const char *a, const char *b) {
  struct stat x;
  struct stat y;
  return strcmp(a, b) == 0 ||
         (stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino);
}

/* Whether a library is wanted for what it registers: others find it by its symbols then. */
static bool is_provider(const char *path) {
  const char *slash = strrchr(path, '/');
  return strncmp(slash == NULL ? path : slash + 1, "libtvm_", 7) == 0;
}

static pega_status load_libraries(pega_tvm_ffi *runtime, const char *path,
                                  const char *const *libraries, int32_t count, pega_error *error) {
  pega_heap_text stay = {NULL, 0, 0, 0};
  pega_status status = PEGA_OK;
  for (int32_t i = 0; status == PEGA_OK && i < count; ++i) {
    if (same_path(libraries[i], runtime->path)) continue;
    int mode = RTLD_NOW | RTLD_NODELETE | (is_provider(libraries[i]) ? RTLD_GLOBAL : RTLD_LOCAL);
    char reason[kForeignWhyRoom];
    bool threw;
    if (tvm_ffi_dlopen(libraries[i], mode, &threw, reason, sizeof reason) == NULL) {
      status = pega_error_set(
          error, threw ? PEGA_ERROR_CALLEE : PEGA_ERROR_IO, NULL,
          "%s needs %s, which seemed whole and could not be loaded all the same: %s; %s%s", path,
          libraries[i], reason,
          stay.data == NULL ? "nothing was loaded"
                            : "these were loaded before it and stay in the process: ",
          stay.data == NULL ? "" : stay.data);
    } else {
      pega_heap_text_printf(&stay, "%s%s", stay.data == NULL ? "" : ", ", libraries[i]);
    }
  }
  free(stay.data);
  return status;
}

static pega_status open_module(void *self, const pega_artifact_file *file,
                               const char *const *libraries, int32_t num_libraries, void **out,
                               pega_error *error) {
  (void)self;
  promise of = {file, libraries, num_libraries, NULL};
  const tvm_ffi_places places = places_of(file);
  pega_status status = tvm_ffi_open_for(&places, &of.runtime, error);
  if (status != PEGA_OK) return status;
  size_t room = 0;
  const void *bytes = file->symbol_bytes(file, kLibraryBin, &room);
  if (bytes != NULL) {
    status = tvm_ffi_visit_library_bin(file->path, bytes, room, check_promise, &of, error);
  }
  if (status == PEGA_OK) {
    status = load_libraries(of.runtime, file->path, libraries, num_libraries, error);
  }
  pega_tvm_ffi_module *module = NULL;
  if (status == PEGA_OK) status = pega_tvm_ffi_module_open(of.runtime, file->path, &module, error);
  if (status == PEGA_OK) *out = module;
  return status;
}

static void close_module(void *artifact) { pega_tvm_ffi_module_close(artifact); }

static pega_status list_module(void *artifact, pega_value *out, pega_error *error) {
  return pega_tvm_ffi_module_list(artifact, out, error);
}

static pega_status get_of_module(void *artifact, const char *name, pega_function **out,
                                 pega_error *error) {
  return pega_tvm_ffi_module_get(artifact, name, out, error);
}

/* -------------------------------------------------------------------------------------- adding -- */

static pega_status choose(const char *library_path, pega_error *error) {
  if (library_path == NULL) return PEGA_OK;
  pega_status status = PEGA_OK;
  pthread_mutex_lock(&chosen_lock);
  if (chosen_path == NULL) {
    chosen_path = strdup(library_path);
    if (chosen_path == NULL) {
      status = pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory for a path");
    }
  } else if (strcmp(chosen_path, library_path) != 0) {
    status = pega_error_set(error, PEGA_ERROR_ALREADY_EXISTS, NULL,
                            "pega_tvm_ffi_add_loader: modules use %s already, not %s", chosen_path,
                            library_path);
  }
  pthread_mutex_unlock(&chosen_lock);
  return status;
}

pega_status tvm_ffi_add_loader(const char *library_path, pega_error *error) {
  static const pega_artifact_loader loader = {(uint32_t)sizeof loader,
                                              0,
                                              kFormat,
                                              NULL,
                                              recognises,
                                              inspect,
                                              open_module,
                                              close_module,
                                              list_module,
                                              get_of_module};
  pega_status status = pega_artifact_add_loader(&loader, error);
  return status == PEGA_OK ? choose(library_path, error) : status;
}

pega_status pega_tvm_ffi_add_loader(const pega_tvm_ffi_options *options, pega_error *error) {
  if (options != NULL &&
      (!pega_options_fit(options, options->struct_size, sizeof *options) || options->flags != 0)) {
    return pega_error_set(error, PEGA_ERROR_VERSION, NULL,
                          "pega_tvm_ffi_add_loader: options of struct_size %" PRIu32
                          ", flags 0x%" PRIx32
                          ": expected %zu (or more with zeros after it) and 0; start from "
                          "PEGA_TVM_FFI_OPTIONS_INIT",
                          options->struct_size, options->flags, sizeof *options);
  }
  return tvm_ffi_add_loader(options == NULL ? NULL : options->library_path, error);
}
