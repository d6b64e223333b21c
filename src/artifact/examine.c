/* SPDX-License-Identifier: Apache-2.0 */
#include "examine.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/options.h"
#include "core/text.h"

enum { kShownExports = 24 };

static const char kPackMagic[8] = {'P', 'E', 'G', 'A', 'P', 'A', 'C', 'K'};

static pega_status no_memory(const char *path, pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "%s: no memory to examine it", path);
}

pega_status pega_artifact_check_options(const char *function, const pega_artifact_options *options,
                                        pega_error *error) {
  if (options == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL, "%s: options is NULL",
                          function);
  }
  if (!pega_options_fit(options, options->struct_size, sizeof *options)) {
    return pega_error_set(error, PEGA_ERROR_VERSION, NULL,
                          "%s: options of struct_size %" PRIu32
                          ": expected %zu (or more with zeros after it); start from "
                          "PEGA_ARTIFACT_OPTIONS_INIT",
                          function, options->struct_size, sizeof *options);
  }
  if ((options->flags & ~(PEGA_ARTIFACT_RESTORE_CONTEXT | PEGA_ARTIFACT_ALLOW_PTX)) != 0) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL, "%s: unknown flags 0x%" PRIx32,
                          function, options->flags);
  }
  size_t size = options->path == NULL ? 0 : strnlen(options->path, PATH_MAX);
  if (size == 0 || size == PATH_MAX) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL, "%s: the path is %s", function,
                          options->path == NULL ? "NULL"
                          : size == 0           ? "empty"
                                                : "longer than a path can be");
  }
  if (options->num_search_paths < 0 ||
      (options->num_search_paths > 0 && options->search_paths == NULL)) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "%s: search_paths is NULL, or num_search_paths (%" PRId32 ") is below 0",
                          function, options->num_search_paths);
  }
  for (int32_t i = 0; i < options->num_search_paths; ++i) {
    const char *folder = options->search_paths[i];
    struct stat status;
    if (folder != NULL && stat(folder, &status) == 0 && S_ISDIR(status.st_mode)) continue;
    return pega_error_set(error,
                          folder == NULL ? PEGA_ERROR_INVALID_ARGUMENT : PEGA_ERROR_NOT_FOUND, NULL,
                          "%s: search path %" PRId32 " (%s) is no folder", function, i,
                          folder == NULL ? "NULL" : folder);
  }
  return PEGA_OK;
}

pega_status pega_artifact_is_pack(const char *path, bool *out, pega_error *error) {
  struct stat status;
  char magic[sizeof kPackMagic];
  char text[128];
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0 || fstat(fd, &status) != 0) {
    int code = errno;
    if (fd >= 0) close(fd);
    pega_status result = code == ENOENT || code == ENOTDIR ? PEGA_ERROR_NOT_FOUND : PEGA_ERROR_IO;
    pega_error_set(error, result, NULL, "%s: %s", path, strerror_r(code, text, sizeof text));
    if (error != NULL) error->code = code;
    return result;
  }
  *out = S_ISDIR(status.st_mode) ||
         (S_ISREG(status.st_mode) && pread(fd, magic, sizeof magic, 0) == (ssize_t)sizeof magic &&
          memcmp(magic, kPackMagic, sizeof magic) == 0);
  close(fd);
  return PEGA_OK;
}

static const char *array_text(const pega_value *map, const char *key, int64_t index) {
  if (map->kind != PEGA_MAP) return NULL;
  const pega_value *array = pega_map_get(map, key);
  return array == NULL ? NULL : pega_value_as_string(pega_array_get(array, index), NULL);
}

static int32_t array_size(const pega_value *map, const char *key) {
  const pega_value *array = map->kind == PEGA_MAP ? pega_map_get(map, key) : NULL;
  int64_t size = array == NULL || array->kind != PEGA_ARRAY ? 0 : pega_value_size(array);
  return size > INT32_MAX || size < 0 ? 0 : (int32_t)size;
}

/* Whether a name is of CUDA's driver, its runtime or a library over them. */
static bool is_cuda_symbol(const char *name) {
  if (strncmp(name, "__cuda", 6) == 0) return true;
  if (name[0] != 'c' || name[1] != 'u') return false;
  static const char *const families[] = {"cuda",   "cublas",   "cudnn",   "cufft",
                                         "curand", "cusolver", "cusparse"};
  for (size_t i = 0; i < sizeof families / sizeof *families; ++i) {
    if (strncmp(name, families[i], strlen(families[i])) == 0) return true;
  }
  return name[2] >= 'A' && name[2] <= 'Z';
}

static bool is_cuda_library(const char *name) {
  const char *slash = strrchr(name, '/');
  const char *base = slash == NULL ? name : slash + 1;
  return strncmp(base, "libcu", 5) == 0 && is_cuda_symbol(base + 3);
}

static bool uses_cuda(const pega_examination *of) {
  for (int32_t i = 0; i < of->elf.num_undefined; ++i) {
    if (is_cuda_symbol(of->elf.undefined[i].name)) return true;
  }
  for (int32_t i = 0; i < of->needs.num_libraries; ++i) {
    const char *name = of->needs.libraries[i].name;
    if (is_cuda_library(name) || strncmp(name, "libcuda.so", 10) == 0) return true;
  }
  if (of->c_library != NULL && pega_c_library_needs_of(of->c_library).uses_cuda) return true;
  if (of->codes.count > 0) return true;
  const pega_value *told = of->told.kind == PEGA_MAP ? pega_map_get(&of->told, "uses_cuda") : NULL;
  return told != NULL && told->kind == PEGA_BOOL && told->as.boolean;
}

/* Decides what the file is. */
static pega_status decide(pega_examination *out, const pega_artifact_options *options,
                          pega_error *error) {
  bool asked = options->signature_path != NULL;
  if (!asked) {
    out->loader = pega_artifact_find_loader(&out->view.file);
    if (out->loader != NULL) {
      out->form = PEGA_FORM_LOADER;
      if (out->loader->inspect == NULL) return PEGA_OK;
      return out->loader->inspect(out->loader->self, &out->view.file, &out->told, error);
    }
    if (access(out->signature_path, F_OK) != 0) return PEGA_OK;
  }
  pega_status status = pega_c_library_read(&out->elf, out->signature_path, &out->c_library, error);
  if (status == PEGA_OK) out->form = PEGA_FORM_C_LIBRARY;
  return status;
}

/* Why a file that could be loaded cannot be called. */
static char *tell_unknown(const pega_examination *of) {
  pega_heap_text text = {NULL, 0, 0, 0};
  const pega_artifact_file *file = &of->view.file;
  pega_heap_text_printf(&text, "%s is a shared library of no known format; it exports ",
                        file->path);
  for (int32_t i = 0; i < file->num_exports && i < kShownExports; ++i) {
    pega_heap_text_printf(&text, "%s%s", i == 0 ? "" : ", ", file->exports[i]);
  }
  if (file->num_exports == 0) pega_heap_text_printf(&text, "nothing");
  if (file->num_exports > kShownExports) {
    pega_heap_text_printf(&text, " and %" PRId32 " more", file->num_exports - kShownExports);
  }
  pega_heap_text_printf(&text, "; there is no signature file %s; ", of->signature_path);
  const char *name = pega_artifact_loader_name(0);
  if (name == NULL) {
    pega_heap_text_printf(&text, "no loader was added that could be asked");
  } else {
    pega_heap_text_printf(&text, "the loaders that were asked do not know it:");
    for (int32_t i = 0; (name = pega_artifact_loader_name(i)) != NULL; ++i) {
      pega_heap_text_printf(&text, "%s %s", i == 0 ? "" : ",", name);
    }
  }
  pega_heap_text_printf(&text,
                        "; write a signature file that says how its functions are called, or "
                        "add the loader of its format before it is opened");
  if (text.failed) {
    free(text.data);
    return NULL;
  }
  return text.data;
}

/* What is wanted beyond the file's own list. */
static pega_status find_needs(pega_examination *out, const pega_artifact_options *options,
                              pega_error *error) {
  pega_prerequisite_search search;
  memset(&search, 0, sizeof search);
  search.folders = options->search_paths;
  search.num_folders = options->num_search_paths;
  const char **extras = NULL;
  char wanted_by[160] = "";
  if (out->form == PEGA_FORM_LOADER) {
    int32_t count = array_size(&out->told, "libraries");
    extras = calloc((size_t)count + 1, sizeof *extras);
    if (extras == NULL) return no_memory(out->elf.path, error);
    for (int32_t i = 0; i < count; ++i) {
      const char *name = array_text(&out->told, "libraries", i);
      if (name != NULL) extras[search.num_extras++] = name;
    }
    snprintf(wanted_by, sizeof wanted_by, "the format '%.100s'", out->loader->name);
    search.extras = extras;
  }
  if (out->form == PEGA_FORM_C_LIBRARY) {
    pega_c_library_needs needs = pega_c_library_needs_of(out->c_library);
    search.extras = needs.libraries;
    search.num_extras = needs.num_libraries;
    snprintf(wanted_by, sizeof wanted_by, "the signature file");
  }
  const pega_value *reason =
      out->told.kind == PEGA_MAP ? pega_map_get(&out->told, "wanted_by") : NULL;
  const char *text = pega_value_as_string(reason, NULL);
  search.wanted_by = text == NULL ? wanted_by : text;
  const pega_value *advice = out->told.kind == PEGA_MAP ? pega_map_get(&out->told, "advice") : NULL;
  search.advice = advice == NULL ? NULL : pega_value_as_string(advice, NULL);
  pega_status status = pega_prerequisites_find(&out->elf, &search, &out->needs, error);
  free(extras);
  return status;
}

pega_status pega_examine(pega_elf *elf, const pega_artifact_options *options, pega_examination *out,
                         pega_error *error) {
  memset(out, 0, sizeof *out);
  out->elf = *elf;
  memset(elf, 0, sizeof *elf);
  out->told = pega_value_none();
  const char *given = options->signature_path;
  if (asprintf(&out->signature_path, "%s%s", given == NULL ? options->path : given,
               given == NULL ? ".json" : "") < 0) {
    out->signature_path = NULL;
  }
  pega_status status = out->signature_path == NULL
                           ? no_memory(out->elf.path, error)
                           : pega_artifact_view_make(&out->elf, &out->view, error);
  out->view.file.search_paths = options->search_paths;
  out->view.file.num_search_paths = options->num_search_paths;
  bool loadable = pega_elf_check_loadable(&out->elf, NULL) == PEGA_OK;
  if (status == PEGA_OK && loadable) status = decide(out, options, error);
  if (status == PEGA_OK) {
    status = pega_gpu_code_find(out->elf.bytes, out->elf.size, &out->codes, error);
  }
  if (status == PEGA_OK) status = find_needs(out, options, error);
  if (status == PEGA_OK && loadable && out->form == PEGA_FORM_UNKNOWN) {
    out->unknown = tell_unknown(out);
    if (out->unknown == NULL) status = no_memory(out->elf.path, error);
  }
  if (status != PEGA_OK) {
    pega_examination_free(out);
    return status;
  }
  out->uses_cuda = uses_cuda(out);
  return PEGA_OK;
}

void pega_examination_free(pega_examination *examination) {
  pega_prerequisites_free(&examination->needs);
  pega_value_release(&examination->told);
  pega_c_library_close(examination->c_library);
  pega_gpu_codes_free(&examination->codes);
  pega_artifact_view_free(&examination->view);
  free(examination->signature_path);
  free(examination->unknown);
  pega_elf_free(&examination->elf);
  memset(examination, 0, sizeof *examination);
}

/* The loader's account first: it knows what it speaks of. */
int32_t pega_examination_num_missing(const pega_examination *examination) {
  return array_size(&examination->told, "missing") + examination->needs.num_missing +
         (examination->unknown != NULL);
}

const char *pega_examination_missing(const pega_examination *examination, int32_t index) {
  int32_t told = array_size(&examination->told, "missing");
  if (index < 0) return NULL;
  if (index < told) {
    const char *text = array_text(&examination->told, "missing", index);
    return text == NULL ? "" : text;
  }
  index -= told;
  if (index < examination->needs.num_missing) return examination->needs.missing[index];
  return index == examination->needs.num_missing ? examination->unknown : NULL;
}

pega_status pega_examination_functions(const pega_examination *examination, pega_value *out,
                                       pega_error *error) {
  if (examination->form == PEGA_FORM_C_LIBRARY) {
    return pega_c_library_list(examination->c_library, out, error);
  }
  const pega_value *functions =
      examination->told.kind == PEGA_MAP ? pega_map_get(&examination->told, "functions") : NULL;
  if (functions != NULL) return pega_value_retain(functions, out, error);
  return pega_array_create(NULL, 0, out, error);
}
