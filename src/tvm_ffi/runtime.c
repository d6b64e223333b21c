/* SPDX-License-Identifier: Apache-2.0 */
/* Finding, opening and judging a TVM FFI runtime library. */
#include "runtime.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <link.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include "artifact/elf.h"
#include "artifact/foreign_call.h"
#include "core/options.h"
#include "core/text.h"
#include "locate.h"
#include "stream.h"

/* The copy that the build was made with; "" where there is none to name. */
#ifndef PEGA_TVM_FFI_BUILD_LIBRARY
#define PEGA_TVM_FFI_BUILD_LIBRARY ""
#endif

/* Versions that the bridge works with: from 0.1.0 up to, not including, 0.2.0. */
enum { kMajor = 0, kMinor = 1 };
#define SUPPORTED "0.1.0 up to, not including, 0.2.0"

static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER; /* guards the two below */
static pega_tvm_ffi runtimes[kMaxRuntimes];
static int num_runtimes;

/* An object carries no word of its runtime, and a payload's release gets the object alone: one
 * function per place in the table makes up for it. */
#define RELEASE_IN(place) \
  static void release_in_##place(void *object) { runtimes[place].api.TVMFFIObjectDecRef(object); }
RELEASE_IN(0)
RELEASE_IN(1)
RELEASE_IN(2)
RELEASE_IN(3)
static void (*const release_in[kMaxRuntimes])(void *) = {release_in_0, release_in_1, release_in_2,
                                                         release_in_3};

static const char *source_name(pega_tvm_ffi_source source) {
  switch (source) {
    case PEGA_TVM_FFI_EXPLICIT:
      return "given path";
    case PEGA_TVM_FFI_ENVIRONMENT:
      return "$" PEGA_TVM_FFI_LIBRARY_ENV;
    case PEGA_TVM_FFI_PROCESS:
      return "already in the process";
    case PEGA_TVM_FFI_FOLDER:
      return "the given folders'";
    case PEGA_TVM_FFI_BUILD:
      return "the build's copy";
    case PEGA_TVM_FFI_SYSTEM:
      return "the system's";
  }
  return "unknown";
}

/* ------------------------------------------------------------------------------- loading -- */

/* A load that leaves the host's SIGSEGV handler as it was. A handler that another thread sets
 * meanwhile is not of the new library, and stays. */
void *tvm_ffi_dlopen(const char *path, int mode, bool *threw, char *why, size_t why_size) {
  struct sigaction before;
  struct sigaction after;
  bool saved = sigaction(SIGSEGV, NULL, &before) == 0;
  void *library = pega_foreign_load(path, mode, threw, why, why_size);
  if (library == NULL || !saved || sigaction(SIGSEGV, NULL, &after) != 0) return library;
  bool had_info = (before.sa_flags & SA_SIGINFO) != 0;
  bool has_info = (after.sa_flags & SA_SIGINFO) != 0;
  uintptr_t old_handler = had_info ? (uintptr_t)before.sa_sigaction : (uintptr_t)before.sa_handler;
  uintptr_t new_handler = has_info ? (uintptr_t)after.sa_sigaction : (uintptr_t)after.sa_handler;
  if (old_handler == new_handler) return library;
  Dl_info info;
  struct link_map *map = NULL;
  if (dladdr((void *)new_handler, &info) != 0 && dlinfo(library, RTLD_DI_LINKMAP, &map) == 0) {
    Dl_info own;
    if (dladdr(map->l_ld, &own) != 0 && own.dli_fbase == info.dli_fbase) {
      sigaction(SIGSEGV, &before, NULL);
    }
  }
  return library;
}

static const void *base_of(void *library) {
  struct link_map *map = NULL;
  Dl_info own;
  if (dlinfo(library, RTLD_DI_LINKMAP, &map) != 0 || dladdr(map->l_ld, &own) == 0) return NULL;
  return own.dli_fbase;
}

static bool same_file(const char *a, const char *b) {
  struct stat x;
  struct stat y;
  return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* --------------------------------------------------------------------------------- judging -- */

static pega_status missing_symbol(const char *path, const char *symbol, pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_SYMBOL, NULL,
                        "%s: symbol %s is missing: expected a whole TVM FFI of version " SUPPORTED,
                        path, symbol);
}

/* Looks every symbol up in the file, before any of the library's code runs. */
static pega_status check_symbols(const char *path, const pega_elf *file, pega_error *error) {
#define CHECK_(symbol) \
  if (pega_elf_find_defined(file, #symbol) == NULL) return missing_symbol(path, #symbol, error);
  TVM_FFI_REQUIRED_SYMBOLS(CHECK_)
#undef CHECK_
  return PEGA_OK;
}

static pega_status check_version(const char *path, const char *wheel, TVMFFIVersion version,
                                 pega_error *error) {
  bool too_old = version.major == kMajor && version.minor < kMinor;
  bool too_new = version.major > kMajor || (version.major == kMajor && version.minor > kMinor);
  if (!too_old && !too_new) return PEGA_OK;
  return pega_error_set(error, PEGA_ERROR_VERSION, NULL,
                        "%s: too %s: it reports version %" PRIu32 ".%" PRIu32 ".%" PRIu32
                        "%s%s%s, expected " SUPPORTED "; %s",
                        path, too_old ? "old" : "new", version.major, version.minor, version.patch,
                        wheel == NULL ? "" : " (wheel ", wheel == NULL ? "" : wheel,
                        wheel == NULL ? "" : ")",
                        too_old ? "install a newer apache-tvm-ffi"
                                : "install apache-tvm-ffi < 0.2 or a pega made for this one");
}

static void fill_api(tvm_ffi_api *api, void *library) {
#define FILL_(symbol) *(void **)&api->symbol = dlsym(library, #symbol);
  TVM_FFI_REQUIRED_SYMBOLS(FILL_)
  TVM_FFI_OPTIONAL_SYMBOLS(FILL_)
#undef FILL_
}

static const char *missing_in(const tvm_ffi_api *api) {
#define MISSING_(symbol) \
  if (api->symbol == NULL) return #symbol;
  TVM_FFI_REQUIRED_SYMBOLS(MISSING_)
#undef MISSING_
  return NULL;
}

static void fill_globals(pega_tvm_ffi *runtime) {
#define FILL_(member, name)                                                          \
  {                                                                                  \
    TVMFFIByteArray key = {name, sizeof(name) - 1};                                  \
    if (runtime->api.TVMFFIFunctionGetGlobal(&key, &runtime->globals.member) != 0) { \
      runtime->globals.member = NULL;                                                \
    }                                                                                \
  }
  TVM_FFI_GLOBAL_FUNCTIONS(FILL_)
#undef FILL_
}

/* With open_lock held: takes a loaded library into the table, or refuses it. */
static pega_status adopt(void *library, const char *path, pega_tvm_ffi_source source,
                         pega_tvm_ffi **out, pega_error *error) {
  const void *base = base_of(library);
  for (int i = 0; i < num_runtimes; ++i) {
    if (runtimes[i].base == base) {
      *out = &runtimes[i];
      return PEGA_OK;
    }
  }
  if (num_runtimes == kMaxRuntimes) {
    return pega_error_set(error, PEGA_ERROR_UNSUPPORTED, NULL,
                          "%s: %d TVM FFI libraries are open already", path, kMaxRuntimes);
  }
  tvm_ffi_api api;
  fill_api(&api, library);
  if (missing_in(&api) != NULL) return missing_symbol(path, missing_in(&api), error);
  char *wheel = tvm_ffi_wheel_version(path);
  TVMFFIVersion version = {0, 0, 0};
  api.TVMFFIGetVersion(&version);
  pega_status status = check_version(path, wheel, version, error);
  char *kept_path = status == PEGA_OK ? strdup(path) : NULL;
  if (status == PEGA_OK && kept_path == NULL) {
    status = pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "%s: no memory", path);
  }
  if (status != PEGA_OK) {
    free(wheel);
    return status;
  }
  pega_tvm_ffi *runtime = &runtimes[num_runtimes];
  runtime->api = api;
  fill_globals(runtime);
  if (runtime->globals.module_load == NULL || runtime->globals.module_get_function == NULL) {
    free(wheel);
    free(kept_path);
    return pega_error_set(error, PEGA_ERROR_SYMBOL, NULL,
                          "%s: global function %s is missing: expected a whole TVM FFI of "
                          "version " SUPPORTED,
                          path,
                          runtime->globals.module_load == NULL ? "ffi.Module.load_from_file.so"
                                                               : "ffi.ModuleGetFunction");
  }
  runtime->library = library;
  runtime->base = base;
  runtime->path = kept_path;
  runtime->wheel_version = wheel;
  runtime->version = version;
  runtime->source = source;
  runtime->release = release_in[num_runtimes];
  pthread_mutex_init(&runtime->globals_lock, NULL);
  if (num_runtimes == 0) tvm_ffi_install_streams(runtime);
  ++num_runtimes;
  *out = runtime;
  return PEGA_OK;
}

/* Modules leave TVM FFI's symbols undefined: they must find this library when they are loaded. It
 * also stays for good, as what it made may be released at any time. */
static bool publish(const char *path) {
  return dlopen(path, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD | RTLD_NODELETE) != NULL;
}

/* Two copies keep two registries, and their C++ symbols get into each other's way: copies of two
 * versions have been seen to end the process. */
pega_status tvm_ffi_refuse_second_copy(const char *path, pega_error *error) {
  tvm_ffi_copy copies[kMaxRuntimes];
  size_t count = tvm_ffi_find_copies(copies, kMaxRuntimes);
  if (count > kMaxRuntimes) count = kMaxRuntimes;
  pega_status status = PEGA_OK;
  bool this_one = false;
  for (size_t i = 0; i < count; ++i) this_one = this_one || same_file(copies[i].path, path);
  if (count > 0 && !this_one) {
    status = pega_error_set(error, PEGA_ERROR_ALREADY_EXISTS, NULL,
                            "%s: another copy of TVM FFI is in the process already: %s; two copies "
                            "keep two registries and do not see each other's functions; use that "
                            "one",
                            path, copies[0].path);
  }
  tvm_ffi_free_copies(copies, count);
  return status;
}

/* Opens the library file at `path`. */
static pega_status open_file(const char *path, pega_tvm_ffi_source source, pega_tvm_ffi **out,
                             pega_error *error) {
  pega_elf file;
  pega_status status = pega_elf_read_interface(path, &file, error);
  if (status != PEGA_OK) return status;
  status = pega_elf_check_loadable(&file, error);
  if (status == PEGA_OK && pega_elf_find_defined(&file, "TVMFFIGetVersion") == NULL) {
    status = missing_symbol(path, "TVMFFIGetVersion", error);
  }
  bool whole = status == PEGA_OK && check_symbols(path, &file, error) == PEGA_OK;
  pega_elf_free(&file);
  if (status == PEGA_OK) status = tvm_ffi_refuse_second_copy(path, error);
  if (status != PEGA_OK) return status;
  char real[PATH_MAX];
  if (realpath(path, real) == NULL) {
    return pega_error_set(error, PEGA_ERROR_IO, NULL, "%s: errno %d", path, errno);
  }
  /* A library that lacks symbols may be of another version: that is the better reason, and only
   * running it tells. */
  char why[kForeignWhyRoom];
  bool threw;
  void *library =
      tvm_ffi_dlopen(real, (whole ? RTLD_NOW : RTLD_LAZY) | RTLD_LOCAL, &threw, why, sizeof why);
  if (library == NULL) {
    return pega_error_set(error, threw ? PEGA_ERROR_CALLEE : PEGA_ERROR_IO, NULL,
                          "%s: cannot be loaded: %s", path, why);
  }
  if (!whole) {
    TVMFFIVersion version = {0, 0, 0};
    void (*get_version)(TVMFFIVersion *);
    *(void **)&get_version = dlsym(library, "TVMFFIGetVersion");
    get_version(&version);
    pega_error missing = PEGA_ERROR_INIT;
    if (error != NULL) pega_error_copy(error, &missing);
    char *wheel = tvm_ffi_wheel_version(real);
    status = check_version(path, wheel, version, error);
    free(wheel);
    if (status == PEGA_OK) {
      status = PEGA_ERROR_SYMBOL;
      if (error != NULL) pega_error_copy(&missing, error);
    }
    pega_error_clear(&missing);
  } else {
    status = adopt(library, real, source, out, error);
    if (status == PEGA_OK && !publish(real)) {
      status = pega_error_set(error, PEGA_ERROR_IO, NULL, "%s: cannot be made global: %s", path,
                              dlerror());
    }
  }
  if (status != PEGA_OK) dlclose(library);
  return status;
}

static pega_status open_in_process(pega_tvm_ffi **out, pega_error *error) {
  tvm_ffi_copy copies[kMaxRuntimes];
  size_t count = tvm_ffi_find_copies(copies, kMaxRuntimes);
  if (count > kMaxRuntimes) count = kMaxRuntimes;
  if (count == 0) {
    return pega_error_set(error, PEGA_ERROR_NOT_FOUND, NULL, "none");
  }
  void *library = dlopen(copies[0].path, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
  /* A program that holds TVM FFI itself is not opened by its path. */
  bool program = library == NULL;
  if (program) library = dlopen(NULL, RTLD_NOW);
  pega_status status = adopt(library, copies[0].path, PEGA_TVM_FFI_PROCESS, out, error);
  if (status == PEGA_OK && !program) publish(copies[0].path);
  tvm_ffi_free_copies(copies, count);
  return status;
}

static pega_status open_system(pega_tvm_ffi **out, pega_error *error) {
  tvm_ffi_copy copies[kMaxRuntimes];
  size_t count = tvm_ffi_find_copies(copies, kMaxRuntimes);
  if (count > kMaxRuntimes) count = kMaxRuntimes;
  char why[kForeignWhyRoom] = "libtvm_ffi.so: not found";
  void *library = tvm_ffi_dlopen("libtvm_ffi.so", RTLD_LAZY | RTLD_LOCAL, NULL, why, sizeof why);
  struct link_map *map = NULL;
  pega_status status;
  if (library == NULL || dlinfo(library, RTLD_DI_LINKMAP, &map) != 0) {
    status = pega_error_set(error, PEGA_ERROR_NOT_FOUND, NULL, "%s", why);
  } else if (count > 0) {
    /* The loader gives a library of that name that it has already, or a second one. Neither will do
     * after the one in the process was refused. */
    bool known = false;
    for (size_t i = 0; i < count; ++i) known = known || copies[i].base == base_of(library);
    status =
        pega_error_set(error, PEGA_ERROR_ALREADY_EXISTS, NULL,
                       known ? "not looked for: the dynamic loader gives the copy that is in the "
                               "process, %s"
                             : "%s: another copy of TVM FFI is in the process already",
                       map->l_name);
  } else {
    char path[PATH_MAX];
    status = realpath(map->l_name, path) != NULL
                 ? open_file(path, PEGA_TVM_FFI_SYSTEM, out, error)
                 : pega_error_set(error, PEGA_ERROR_IO, NULL, "%s: errno %d", map->l_name, errno);
  }
  if (library != NULL) dlclose(library);
  tvm_ffi_free_copies(copies, count);
  return status;
}

/* ------------------------------------------------------------------------------ the search -- */

typedef struct search {
  pega_heap_text report; /* a line for each place that was looked at */
  bool chosen;           /* somebody named the library: nothing else was tried */
  pega_status status;    /* of the most telling failure */
  int32_t code;
  pega_tvm_ffi *found;
} search;

static void note(search *state, pega_tvm_ffi_source source, pega_status status,
                 const pega_error *error) {
  if (status == PEGA_OK) {
    const pega_tvm_ffi *runtime = state->found;
    pega_heap_text_printf(
        &state->report,
        "\n  %s: %s: taken, reports version %" PRIu32 ".%" PRIu32 ".%" PRIu32 "%s%s%s",
        source_name(source), runtime->path, runtime->version.major, runtime->version.minor,
        runtime->version.patch, runtime->wheel_version == NULL ? "" : " (wheel ",
        runtime->wheel_version == NULL ? "" : runtime->wheel_version,
        runtime->wheel_version == NULL ? "" : ")");
    return;
  }
  pega_heap_text_printf(&state->report, "\n  %s: %s", source_name(source),
                        pega_error_message(error));
  /* That nothing was there says least. */
  if (state->status == PEGA_OK || state->status == PEGA_ERROR_NOT_FOUND) {
    state->status = status;
    state->code = error->code;
  }
}

/* Runs one place; true when the search is over, found or not. */
static bool try_place(search *state, pega_tvm_ffi_source source, const char *path, bool choice) {
  pega_error error = PEGA_ERROR_INIT;
  pega_status status;
  if (source == PEGA_TVM_FFI_PROCESS) {
    status = open_in_process(&state->found, &error);
  } else if (source == PEGA_TVM_FFI_SYSTEM) {
    status = open_system(&state->found, &error);
  } else if (path[0] == '\0') {
    status = pega_error_set(&error, choice ? PEGA_ERROR_INVALID_ARGUMENT : PEGA_ERROR_NOT_FOUND,
                            NULL, choice ? "the path is empty" : "none");
  } else {
    status = open_file(path, source, &state->found, &error);
  }
  note(state, source, status, &error);
  pega_error_clear(&error);
  return status == PEGA_OK || choice;
}

/* The first libtvm_ffi.so in the folders that is one for this machine, on the heap; NULL for none. */
static char *find_in(const tvm_ffi_places *places) {
  for (int32_t i = 0; i < places->num_folders; ++i) {
    char path[PATH_MAX];
    int length = snprintf(path, sizeof path, "%s/libtvm_ffi.so", places->folders[i]);
    if (length < 0 || (size_t)length >= sizeof path || access(path, R_OK) != 0) continue;
    pega_elf file;
    if (pega_elf_read_interface(path, &file, NULL) != PEGA_OK) continue;
    bool fits = pega_elf_check_loadable(&file, NULL) == PEGA_OK &&
                pega_elf_find_defined(&file, "TVMFFIGetVersion") != NULL;
    pega_elf_free(&file);
    char *real = fits ? realpath(path, NULL) : NULL;
    if (real != NULL) return real;
  }
  return NULL;
}

static void run_search(search *state, const tvm_ffi_places *places) {
  const char *given_path = places->given_path;
  pthread_mutex_lock(&open_lock);
  const char *environment = secure_getenv(PEGA_TVM_FFI_LIBRARY_ENV);
  bool over = false;
  state->chosen = given_path != NULL || (environment != NULL && environment[0] != '\0');
  if (given_path != NULL) {
    over = try_place(state, PEGA_TVM_FFI_EXPLICIT, given_path, true);
  } else if (state->chosen) {
    over = try_place(state, PEGA_TVM_FFI_ENVIRONMENT, environment, true);
  } else if (getenv(PEGA_TVM_FFI_LIBRARY_ENV) != NULL && getauxval(AT_SECURE) != 0) {
    pega_heap_text_printf(&state->report, "\n  $" PEGA_TVM_FFI_LIBRARY_ENV
                                          ": ignored, as this process runs with raised privileges");
  } else {
    pega_heap_text_printf(&state->report, "\n  $" PEGA_TVM_FFI_LIBRARY_ENV ": not set");
  }
  over = over || try_place(state, PEGA_TVM_FFI_PROCESS, NULL, false);
  char *of_folder = over ? NULL : find_in(places);
  if (of_folder != NULL) over = try_place(state, PEGA_TVM_FFI_FOLDER, of_folder, true);
  free(of_folder);
  over = over || try_place(state, PEGA_TVM_FFI_BUILD, PEGA_TVM_FFI_BUILD_LIBRARY, false);
  over = over || try_place(state, PEGA_TVM_FFI_SYSTEM, NULL, false);
  pthread_mutex_unlock(&open_lock);
}

static pega_status check_options(const pega_tvm_ffi_options *options, pega_error *error) {
  if (options == NULL) return PEGA_OK;
  if (!pega_options_fit(options, options->struct_size, sizeof *options)) {
    return pega_error_set(error, PEGA_ERROR_VERSION, NULL,
                          "pega_tvm_ffi_open: options of struct_size %" PRIu32
                          ": expected %zu (or more with zeros after it); start from "
                          "PEGA_TVM_FFI_OPTIONS_INIT",
                          options->struct_size, sizeof *options);
  }
  if (options->flags != 0) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_tvm_ffi_open: unknown flags 0x%x", options->flags);
  }
  return PEGA_OK;
}

static pega_status open_from(const tvm_ffi_places *places, pega_tvm_ffi **out, pega_error *error) {
  pega_status status = PEGA_OK;
  search state = {.found = NULL};
  run_search(&state, places);
  if (state.found == NULL) {
    /* Nothing anywhere is "unavailable"; a choice that failed, or a library that is there and was
     * refused, is told by its own status. */
    status = state.status == PEGA_ERROR_NOT_FOUND && !state.chosen ? PEGA_ERROR_UNAVAILABLE
                                                                   : state.status;
    pega_error_set(
        error, status, NULL,
        "no TVM FFI runtime could be opened; expected libtvm_ffi.so of version " SUPPORTED
        "; tried:%s\nInstall it (`pip install 'apache-tvm-ffi<0.2'`) and name its "
        "tvm_ffi/lib/libtvm_ffi.so in $" PEGA_TVM_FFI_LIBRARY_ENV
        " or in pega_tvm_ffi_options.library_path",
        state.report.failed || state.report.data == NULL ? " (no memory to tell)"
                                                         : state.report.data);
    if (error != NULL) error->code = state.code;
  } else {
    *out = state.found;
    status = tvm_ffi_add_loader(NULL, error);
  }
  free(state.report.data);
  return status;
}

pega_status pega_tvm_ffi_open(const pega_tvm_ffi_options *options, pega_tvm_ffi **out,
                              pega_error *error) {
  if (out == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_tvm_ffi_open: out is NULL");
  }
  pega_status status = check_options(options, error);
  if (status != PEGA_OK) return status;
  const tvm_ffi_places places = {options == NULL ? NULL : options->library_path, NULL, 0};
  return open_from(&places, out, error);
}

pega_status tvm_ffi_open_in_process(pega_tvm_ffi **out, pega_error *error) {
  pthread_mutex_lock(&open_lock);
  pega_status status = open_in_process(out, error);
  pthread_mutex_unlock(&open_lock);
  return status;
}

bool tvm_ffi_foresee(const tvm_ffi_places *places, pega_tvm_ffi **open, char **path) {
  const char *given_path = places->given_path;
  *open = NULL;
  *path = NULL;
  const char *environment = secure_getenv(PEGA_TVM_FFI_LIBRARY_ENV);
  pthread_mutex_lock(&open_lock);
  /* One that is open is the one to use, unless another was named for modules. */
  for (int i = 0; i < num_runtimes && *open == NULL; ++i) {
    if (given_path == NULL || same_file(runtimes[i].path, given_path)) *open = &runtimes[i];
  }
  bool chosen = given_path != NULL || (environment != NULL && environment[0] != '\0');
  if (*open == NULL && !chosen) open_in_process(open, NULL);
  pthread_mutex_unlock(&open_lock);
  if (*open != NULL) return true;
  if (!chosen && (*path = find_in(places)) != NULL) return true;
  const char *from = given_path != NULL ? given_path : chosen ? environment : NULL;
  if (from == NULL && access(PEGA_TVM_FFI_BUILD_LIBRARY, R_OK) == 0) {
    from = PEGA_TVM_FFI_BUILD_LIBRARY;
  }
  if (from == NULL) {
    *path = strdup("libtvm_ffi.so");
  } else {
    *path = realpath(from, NULL);
    if (*path == NULL) *path = strdup(from);
  }
  return *path != NULL;
}

pega_status tvm_ffi_open_for(const tvm_ffi_places *places, pega_tvm_ffi **out, pega_error *error) {
  char *path = NULL;
  if (!tvm_ffi_foresee(places, out, &path)) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory for a runtime's path");
  }
  free(path);
  return *out != NULL ? PEGA_OK : open_from(places, out, error);
}

void pega_tvm_ffi_close(pega_tvm_ffi *runtime) {
  /* The library stays for the rest of the process, so there is nothing to give back yet; callers
   * pair open and close so that this can change. */
  (void)runtime;
}

pega_status pega_tvm_ffi_search_report(const pega_tvm_ffi_options *options, pega_value *out,
                                       pega_error *error) {
  if (out == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_tvm_ffi_search_report: out is NULL");
  }
  pega_status status = check_options(options, error);
  if (status != PEGA_OK) return status;
  search state = {.found = NULL};
  const tvm_ffi_places places = {options == NULL ? NULL : options->library_path, NULL, 0};
  run_search(&state, &places);
  if (state.report.failed || state.report.data == NULL) {
    status = pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory for the report");
  } else {
    /* Each line begins with a line break and two blanks. */
    const char *text = state.report.data + 1;
    status = pega_string_create(text, strlen(text), out, error);
  }
  free(state.report.data);
  return status;
}

pega_status pega_tvm_ffi_describe(pega_tvm_ffi *runtime, pega_tvm_ffi_info *info,
                                  pega_error *error) {
  if (runtime == NULL || info == NULL || info->struct_size < sizeof *info ||
      info->struct_size > 4096) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_tvm_ffi_describe: expected a runtime and an info whose struct_size "
                          "is %zu",
                          sizeof *info);
  }
  /* What a newer caller's struct has behind what is known here is told as nothing. */
  memset((char *)info + sizeof *info, 0, info->struct_size - sizeof *info);
  /* Copies are few and their paths do not change: kept so that the text may live on. */
  static pthread_mutex_t kept_lock = PTHREAD_MUTEX_INITIALIZER;
  static tvm_ffi_copy kept[kMaxRuntimes];
  static size_t num_kept;
  tvm_ffi_copy copies[kMaxRuntimes];
  size_t count = tvm_ffi_find_copies(copies, kMaxRuntimes);
  info->source = (uint32_t)runtime->source;
  info->major = runtime->version.major;
  info->minor = runtime->version.minor;
  info->patch = runtime->version.patch;
  info->num_copies = (uint32_t)count;
  info->path = runtime->path;
  info->wheel_version = runtime->wheel_version == NULL ? "" : runtime->wheel_version;
  info->other_copy = "";
  pthread_mutex_lock(&kept_lock);
  for (size_t i = 0; i < count && i < kMaxRuntimes; ++i) {
    if (copies[i].base == runtime->base) {
      free(copies[i].path);
      continue;
    }
    size_t place = 0;
    while (place < num_kept && strcmp(kept[place].path, copies[i].path) != 0) ++place;
    if (place < num_kept || num_kept == kMaxRuntimes) {
      free(copies[i].path);
    } else {
      kept[num_kept++] = copies[i];
    }
    if (place < num_kept) info->other_copy = kept[place].path;
  }
  pthread_mutex_unlock(&kept_lock);
  return PEGA_OK;
}

pega_status pega_tvm_ffi_symbol(pega_tvm_ffi *runtime, const char *name, void **out,
                                pega_error *error) {
  if (runtime == NULL || name == NULL || out == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_tvm_ffi_symbol: %s is NULL",
                          runtime == NULL ? "runtime"
                          : name == NULL  ? "name"
                                          : "out");
  }
  void *symbol = dlsym(runtime->library, name);
  if (symbol == NULL) {
    char shown[96];
    return pega_error_set(error, PEGA_ERROR_SYMBOL, NULL,
                          "%s (version %" PRIu32 ".%" PRIu32 ".%" PRIu32 ") has no symbol '%s'",
                          runtime->path, runtime->version.major, runtime->version.minor,
                          runtime->version.patch, pega_text_short_name(name, shown));
  }
  *out = symbol;
  return PEGA_OK;
}
