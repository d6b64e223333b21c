/* SPDX-License-Identifier: Apache-2.0 */
#include "module_loader.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static const char kPrefix[] = "test_module_";
static const char *wanted;

static bool recognises(void *self, const pega_artifact_file *file) {
  (void)self;
  for (int32_t i = 0; i < file->num_exports; ++i) {
    if (strncmp(file->exports[i], kPrefix, sizeof kPrefix - 1) == 0) return true;
  }
  return false;
}

static pega_status inspect(void *self, const pega_artifact_file *file, pega_value *out,
                           pega_error *error) {
  (void)self;
  pega_value names[64];
  int64_t count = 0;
  for (int32_t i = 0; i < file->num_exports && count < 64; ++i) {
    if (strncmp(file->exports[i], kPrefix, sizeof kPrefix - 1) != 0) continue;
    names[count++] = pega_value_string(file->exports[i] + sizeof kPrefix - 1);
  }
  const pega_value keys[] = {pega_value_string("functions"), pega_value_string("libraries")};
  pega_value values[] = {pega_value_none(), pega_value_none()};
  const pega_value extra = pega_value_string(wanted);
  pega_status status = pega_array_create(names, count, &values[0], error);
  if (status == PEGA_OK) {
    status = pega_array_create(&extra, wanted == NULL ? 0 : 1, &values[1], error);
  }
  if (status == PEGA_OK) status = pega_map_create(keys, values, 2, out, error);
  pega_value_release(&values[0]);
  pega_value_release(&values[1]);
  return status;
}

static pega_status open_file(void *self, const pega_artifact_file *file,
                             const char *const *libraries, int32_t num_libraries, void **out,
                             pega_error *error) {
  (void)self;
  for (int32_t i = 0; i < num_libraries; ++i) {
    const char *name = strrchr(libraries[i], '/') + 1;
    bool global = wanted != NULL && strcmp(name, wanted) == 0;
    if (dlopen(libraries[i], RTLD_NOW | (global ? RTLD_GLOBAL : RTLD_LOCAL)) == NULL) {
      return pega_error_set(error, PEGA_ERROR_IO, NULL, "dlopen: %s", dlerror());
    }
  }
  *out = dlopen(file->path, RTLD_NOW | RTLD_LOCAL);
  return *out != NULL ? PEGA_OK
                      : pega_error_set(error, PEGA_ERROR_IO, NULL, "dlopen: %s", dlerror());
}

static void close_file(void *artifact) { (void)artifact; }

static pega_status list(void *artifact, pega_value *out, pega_error *error) {
  const char *const names[] = {"value", "well_behaved"};
  pega_value found[2];
  int64_t count = 0;
  for (int i = 0; i < 2; ++i) {
    char symbol[128];
    snprintf(symbol, sizeof symbol, "%s%s", kPrefix, names[i]);
    if (dlsym(artifact, symbol) != NULL) found[count++] = pega_value_string(names[i]);
  }
  return pega_array_create(found, count, out, error);
}

static pega_status call(void *self, const pega_value *args, int32_t num_args, pega_value *result,
                        pega_error *error) {
  int (*function)(void);
  (void)args;
  (void)num_args;
  *(void **)&function = self;
  int got = function();
  if (got == 5) return pega_error_set(error, PEGA_ERROR_CALLEE, NULL, "the module said 5");
  *result = pega_value_int(got);
  return PEGA_OK;
}

static pega_status get(void *artifact, const char *name, pega_function **out, pega_error *error) {
  char symbol[128];
  snprintf(symbol, sizeof symbol, "%s%s", kPrefix, name);
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  options.name = name;
  options.doc = "a function of the tests";
  options.call = call;
  options.self = dlsym(artifact, symbol);
  if (options.self == NULL) {
    return pega_error_set(error, PEGA_ERROR_NOT_FOUND, NULL, "no '%s'", name);
  }
  return pega_function_create(&options, out, error);
}

pega_status module_loader_add(const char *extra, pega_error *error) {
  static const pega_artifact_loader loader = {(uint32_t)sizeof loader,
                                              0,
                                              "test module",
                                              NULL,
                                              recognises,
                                              inspect,
                                              open_file,
                                              close_file,
                                              list,
                                              get};
  wanted = extra;
  return pega_artifact_add_loader(&loader, error);
}

pega_status module_open(const char *file, const char *const *folders, uint32_t flags,
                        pega_artifact **out, pega_error *error) {
  pega_artifact_options options = PEGA_ARTIFACT_OPTIONS_INIT;
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", FIXTURES, file);
  options.path = path;
  options.flags = flags;
  options.search_paths = folders;
  while (folders != NULL && folders[options.num_search_paths] != NULL) ++options.num_search_paths;
  return pega_artifact_open(&options, out, error);
}
