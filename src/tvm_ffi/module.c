/* SPDX-License-Identifier: Apache-2.0 */
/* TVM FFI modules: artifacts as files, and their functions. */
#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>

#include "artifact/elf.h"
#include "artifact/foreign_call.h"
#include "convert.h"
#include "core/text.h"
#include "error.h"
#include "library_bin.h"
#include "module.h"

struct pega_tvm_ffi_module {
  pega_tvm_ffi *runtime;
  TVMFFIObjectHandle handle; /* owned */
  char *path;
  char **names; /* of the functions that the file exports, sorted */
  size_t num_names;
};

static const char kPrefix[] = "__tvm_ffi_";

const char *tvm_ffi_function_of_symbol(const char *symbol) {
  /* Symbols of the module format itself begin like functions. */
  static const char *const others[] = {"__tvm_ffi__library_", "__tvm_ffi__metadata_",
                                       "__tvm_ffi__doc_"};
  if (strncmp(symbol, kPrefix, sizeof kPrefix - 1) != 0) return NULL;
  for (size_t i = 0; i < sizeof others / sizeof *others; ++i) {
    if (strncmp(symbol, others[i], strlen(others[i])) == 0) return NULL;
  }
  return symbol[sizeof kPrefix - 1] == '\0' ? NULL : symbol + sizeof kPrefix - 1;
}

static int compare_names(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool keep_names(pega_tvm_ffi_module *module, const pega_elf *file) {
  module->names = calloc((size_t)file->num_defined + 1, sizeof *module->names);
  if (module->names == NULL) return false;
  for (int32_t i = 0; i < file->num_defined; ++i) {
    const char *function = tvm_ffi_function_of_symbol(file->defined[i].name);
    if (function == NULL) continue;
    char *name = strdup(function);
    if (name == NULL) return false;
    module->names[module->num_names++] = name;
  }
  qsort(module->names, module->num_names, sizeof *module->names, compare_names);
  return true;
}

static bool begins_tvm_ffi(const pega_elf_symbol *symbols, int32_t count) {
  for (int32_t i = 0; i < count; ++i) {
    if (strncmp(symbols[i].name, "TVMFFI", 6) == 0) return true;
  }
  return false;
}

/* Whether it defines or needs a symbol of TVM FFI's C API. */
static bool uses_tvm_ffi(const pega_elf *file) {
  return begins_tvm_ffi(file->defined, file->num_defined) ||
         begins_tvm_ffi(file->undefined, file->num_undefined);
}

void pega_tvm_ffi_module_close(pega_tvm_ffi_module *module) {
  if (module == NULL) return;
  if (module->handle != NULL) module->runtime->release(module->handle);
  for (size_t i = 0; i < module->num_names; ++i) free(module->names[i]);
  free(module->names);
  free(module->path);
  free(module);
}

/* Loads the file so that everything it needs is found now and not at its first call, where the
 * loader would end the process. It stays: what its functions return may outlive the module. */
static pega_status load(pega_tvm_ffi *runtime, const char *path, int mode, pega_error *error) {
  char why[kForeignWhyRoom];
  bool threw;
  mode |= RTLD_NOW | RTLD_NODELETE;
  if (tvm_ffi_dlopen(path, mode, &threw, why, sizeof why) != NULL) return PEGA_OK;
  if (threw) {
    return pega_error_set(error, PEGA_ERROR_CALLEE, NULL, "%s cannot be loaded: %s", path, why);
  }
  bool symbol = strstr(why, "undefined symbol") != NULL;
  bool library = strstr(why, "cannot open shared object file") != NULL;
  return pega_error_set(
      error, symbol ? PEGA_ERROR_SYMBOL : PEGA_ERROR_IO, NULL,
      "%s cannot be loaded: %s; %s%s%s, version %" PRIu32 ".%" PRIu32 ".%" PRIu32 ")", path, why,
      symbol    ? "it was built against another version of a library that is loaded, or needs one "
                  "that pega_tvm_ffi_load_library() must load first"
      : library ? "install the library that it needs, or load it first with "
                  "pega_tvm_ffi_load_library()"
                : "the dynamic loader refused it",
      " (TVM FFI runtime: ", runtime->path, runtime->version.major, runtime->version.minor,
      runtime->version.patch);
}

static pega_status load_module(pega_tvm_ffi *runtime, const char *path, TVMFFIObjectHandle *out,
                               pega_error *error) {
  const pega_value arguments[] = {pega_value_string(path), pega_value_string("so")};
  TVMFFIAny any[2];
  bool owned[2] = {false, false};
  TVMFFIAny result = tvm_ffi_none();
  pega_status status = tvm_ffi_argument(runtime, &arguments[0], &any[0], &owned[0], error);
  if (status == PEGA_OK) {
    status = tvm_ffi_argument(runtime, &arguments[1], &any[1], &owned[1], error);
  }
  if (status == PEGA_OK) {
    status = tvm_ffi_call(runtime, runtime->globals.module_load, "ffi.Module.load_from_file.so",
                          any, 2, &result, error);
  }
  for (int i = 0; i < 2; ++i) {
    if (owned[i]) tvm_ffi_any_release(runtime, &any[i]);
  }
  if (status != PEGA_OK) return status;
  if (result.type_index < kTVMFFIStaticObjectBegin) {
    return pega_error_set(error, PEGA_ERROR_CALLEE, NULL,
                          "%s: ffi.Module.load_from_file.so returned no module", path);
  }
  *out = result.v_obj;
  return PEGA_OK;
}

pega_status pega_tvm_ffi_module_open(pega_tvm_ffi *runtime, const char *path,
                                     pega_tvm_ffi_module **out, pega_error *error) {
  if (runtime == NULL || path == NULL || out == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_tvm_ffi_module_open: %s is NULL",
                          runtime == NULL ? "runtime"
                          : path == NULL  ? "path"
                                          : "out");
  }
  pega_elf file;
  pega_status status = pega_elf_read(path, &file, error);
  if (status != PEGA_OK) return status;
  status = pega_elf_check_loadable(&file, error);
  if (status != PEGA_OK) {
    pega_elf_free(&file);
    return status;
  }
  pega_tvm_ffi_module *module = calloc(1, sizeof *module);
  if (module != NULL) {
    module->runtime = runtime;
    module->path = realpath(path, NULL);
  }
  if (module == NULL || module->path == NULL || !keep_names(module, &file)) {
    status =
        pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "%s: no memory for its names", path);
  }
  if (status == PEGA_OK && pega_elf_find_defined(&file, "TVMFFIGetVersion") != NULL) {
    status = tvm_ffi_refuse_second_copy(path, error);
  }
  if (status == PEGA_OK && module->num_names == 0 && !uses_tvm_ffi(&file)) {
    status = pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                            "%s is no TVM FFI module: it exports no symbol that starts with %s and "
                            "uses none of TVM FFI's",
                            path, kPrefix);
  }
  if (status == PEGA_OK) status = tvm_ffi_check_library_bin(runtime, path, &file, error);
  pega_elf_free(&file);
  if (status == PEGA_OK) status = load(runtime, module->path, RTLD_LOCAL, error);
  if (status == PEGA_OK) status = load_module(runtime, module->path, &module->handle, error);
  if (status != PEGA_OK) {
    pega_tvm_ffi_module_close(module);
    return status;
  }
  *out = module;
  return PEGA_OK;
}

pega_status pega_tvm_ffi_module_list(pega_tvm_ffi_module *module, pega_value *out,
                                     pega_error *error) {
  if (module == NULL || out == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_tvm_ffi_module_list: %s is NULL", out == NULL ? "out" : "module");
  }
  pega_value *names = calloc(module->num_names + 1, sizeof *names);
  if (names == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory for %zu names",
                          module->num_names);
  }
  for (size_t i = 0; i < module->num_names; ++i) names[i] = pega_value_string(module->names[i]);
  pega_status status = pega_array_create(names, (int64_t)module->num_names, out, error);
  free(names);
  return status;
}

static const char *name_at(const void *self, size_t index) {
  return ((const pega_tvm_ffi_module *)self)->names[index];
}

static pega_status no_function(const pega_tvm_ffi_module *module, const char *name,
                               pega_error *error) {
  char shown[96];
  pega_heap_text list = {NULL, 0, 0, 0};
  for (size_t i = 0; i < module->num_names; ++i) {
    if (i == 32) {
      pega_heap_text_printf(&list, ", and %zu more", module->num_names - i);
      break;
    }
    pega_heap_text_printf(&list, "%s%s", i == 0 ? "" : ", ", module->names[i]);
  }
  const char *nearest = pega_text_nearest(name, module->num_names, name_at, module);
  pega_error_set(error, PEGA_ERROR_NOT_FOUND, NULL,
                 "%s has no function '%s' (no symbol %s%s); it has %s%s%s%s", module->path,
                 pega_text_short_name(name, shown), kPrefix, shown,
                 list.data == NULL || list.failed ? "none" : list.data,
                 nearest == NULL ? "" : "; the nearest is '", nearest == NULL ? "" : nearest,
                 nearest == NULL ? "" : "'");
  free(list.data);
  return PEGA_ERROR_NOT_FOUND;
}

/* Asks the module's method `method` for `name`; the answer is None where it has no such thing. */
static pega_status ask(pega_tvm_ffi_module *module, TVMFFIObjectHandle method, const char *what,
                       const char *name, TVMFFIAny *result, pega_error *error) {
  pega_tvm_ffi *runtime = module->runtime;
  const pega_value text = pega_value_string(name);
  TVMFFIAny args[3] = {tvm_ffi_none(), tvm_ffi_none(), tvm_ffi_none()};
  bool owned;
  args[0].type_index = ((TVMFFIObject *)module->handle)->type_index;
  args[0].v_obj = module->handle;
  pega_status status = tvm_ffi_argument(runtime, &text, &args[1], &owned, error);
  if (status != PEGA_OK) return status;
  args[2].type_index = kTVMFFIBool;
  args[2].v_int64 = 1; /* look into imported modules too */
  status = tvm_ffi_call(runtime, method, what, args, 3, result, error);
  if (owned) tvm_ffi_any_release(runtime, &args[1]);
  return status;
}

pega_status pega_tvm_ffi_module_get(pega_tvm_ffi_module *module, const char *name,
                                    pega_function **out, pega_error *error) {
  if (module == NULL || name == NULL || out == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_tvm_ffi_module_get: %s is NULL",
                          module == NULL ? "module"
                          : name == NULL ? "name"
                                         : "out");
  }
  pega_tvm_ffi *runtime = module->runtime;
  if (name[0] == '\0' || strnlen(name, PEGA_MAX_NAME + 1) > PEGA_MAX_NAME) {
    return no_function(module, name, error);
  }
  TVMFFIAny found = tvm_ffi_none();
  pega_status status = ask(module, runtime->globals.module_get_function, "ffi.ModuleGetFunction",
                           name, &found, error);
  if (status != PEGA_OK) return status;
  if (found.type_index != kTVMFFIFunction) {
    tvm_ffi_any_release(runtime, &found);
    return no_function(module, name, error);
  }
  /* A module that tells its functions' docs is asked for this one's; one that fails to is not. */
  TVMFFIAny answer = tvm_ffi_none();
  pega_value doc = pega_value_none();
  if (runtime->globals.module_get_function_doc != NULL &&
      ask(module, runtime->globals.module_get_function_doc, "ffi.ModuleGetFunctionDoc", name,
          &answer, NULL) == PEGA_OK) {
    tvm_ffi_from_owned(runtime, &answer, &doc, NULL);
  }
  status = tvm_ffi_import(runtime, found.v_obj, name, pega_value_as_string(&doc, NULL),
                          module->path, out, error);
  if (status != PEGA_OK) tvm_ffi_any_release(runtime, &found);
  pega_value_release(&doc);
  return status;
}

pega_status pega_tvm_ffi_load_library(pega_tvm_ffi *runtime, const char *path, pega_error *error) {
  if (runtime == NULL || path == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_tvm_ffi_load_library: %s is NULL",
                          runtime == NULL ? "runtime" : "path");
  }
  pega_elf file;
  pega_status status = pega_elf_read_interface(path, &file, error);
  if (status != PEGA_OK) return status;
  status = pega_elf_check_loadable(&file, error);
  if (status == PEGA_OK && pega_elf_find_defined(&file, "TVMFFIGetVersion") != NULL)
    status = tvm_ffi_refuse_second_copy(path, error);
  pega_elf_free(&file);
  if (status != PEGA_OK) return status;
  char real[PATH_MAX];
  if (realpath(path, real) == NULL) {
    return pega_error_set(error, PEGA_ERROR_IO, NULL, "%s: errno %d", path, errno);
  }
  return load(runtime, real, RTLD_GLOBAL, error);
}
