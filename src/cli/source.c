/* SPDX-License-Identifier: Apache-2.0 */
#include "source.h"

#include <pega/artifact.h>
#include <stdlib.h>

#include "kernel_pack.h"

#ifdef PEGA_CLI_BRIDGE
#include <pega/tvm_ffi.h>
#endif

struct cli_source {
  const char *only;        /* a place and no other; NULL: the registry and what else there is */
  cli_pack pack;           /* open with CLI_FROM_PACK */
  pega_artifact *artifact; /* with CLI_FROM_ARTIFACT */
#ifdef PEGA_CLI_BRIDGE
  pega_tvm_ffi *runtime;       /* or NULL */
  pega_tvm_ffi_module *module; /* or NULL */
#endif
};

#ifdef PEGA_CLI_BRIDGE

static pega_status open_foreign(const cli_options *options, cli_source *source, pega_error *error) {
  pega_tvm_ffi_options how = PEGA_TVM_FFI_OPTIONS_INIT;
  how.library_path = options->runtime_library;
  pega_status status = pega_tvm_ffi_open(&how, &source->runtime, error);
  if (status == PEGA_OK) status = pega_tvm_ffi_export_all(source->runtime, 0, NULL, error);
  if (status == PEGA_OK && options->module != NULL) {
    status = pega_tvm_ffi_module_open(source->runtime, options->module, &source->module, error);
  }
  return status;
}

static void close_foreign(cli_source *source) {
  pega_tvm_ffi_module_close(source->module);
  pega_tvm_ffi_close(source->runtime);
}

static pega_status get_foreign(cli_source *source, const char *name, pega_function **out,
                               pega_error *error) {
  if (source->module != NULL) return pega_tvm_ffi_module_get(source->module, name, out, error);
  return pega_tvm_ffi_get_global(source->runtime, name, out, error);
}

static pega_status list_foreign(cli_source *source, pega_value *names, pega_error *error) {
  if (source->module != NULL) return pega_tvm_ffi_module_list(source->module, names, error);
  return pega_tvm_ffi_list_globals(source->runtime, names, error);
}

static bool has_foreign(const cli_source *source) { return source->runtime != NULL; }

static pega_status add_loaders(const cli_options *options, pega_error *error) {
  pega_tvm_ffi_options how = PEGA_TVM_FFI_OPTIONS_INIT;
  how.library_path = options->runtime_library;
  return pega_tvm_ffi_add_loader(&how, error);
}

#else

static pega_status add_loaders(const cli_options *options, pega_error *error) {
  (void)options;
  (void)error;
  return PEGA_OK;
}

static pega_status open_foreign(const cli_options *options, cli_source *source, pega_error *error) {
  (void)options;
  (void)source;
  return pega_error_set(
      error, PEGA_ERROR_UNSUPPORTED, NULL,
      "this build of pega has no bridge to a foreign runtime: README.md says how to build one that "
      "has");
}

static void close_foreign(cli_source *source) { (void)source; }

static pega_status get_foreign(cli_source *source, const char *name, pega_function **out,
                               pega_error *error) {
  (void)source;
  (void)name;
  (void)out;
  return pega_error_set(error, PEGA_ERROR_INTERNAL, NULL, "no bridge");
}

static pega_status list_foreign(cli_source *source, pega_value *names, pega_error *error) {
  return get_foreign(source, NULL, (pega_function **)(void *)names, error);
}

static bool has_foreign(const cli_source *source) {
  (void)source;
  return false;
}

#endif

static pega_status open_artifact(const cli_options *options, cli_source *source,
                                 pega_error *error) {
  pega_artifact_options how = PEGA_ARTIFACT_OPTIONS_INIT;
  how.path = options->artifact;
  how.signature_path = options->signature;
  how.search_paths = options->search;
  how.num_search_paths = options->num_search;
  if (options->allow_ptx) how.flags |= PEGA_ARTIFACT_ALLOW_PTX;
  const pega_status status = add_loaders(options, error);
  return status != PEGA_OK ? status : pega_artifact_open(&how, &source->artifact, error);
}

pega_status cli_source_open(const cli_options *options, cli_source **out, pega_error *error) {
  cli_source *source = calloc(1, sizeof *source);
  if (source == NULL) return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "out of memory");
  pega_status status = PEGA_OK;
  if (options->artifact != NULL) {
    source->only = CLI_FROM_ARTIFACT;
    status = open_artifact(options, source, error);
  } else if (options->pack != NULL || options->embedded) {
    source->only = CLI_FROM_PACK;
    status = cli_pack_open(options->pack, options->allow_ptx, &source->pack, error);
  } else if (options->module != NULL || options->globals) {
    if (options->module != NULL) source->only = CLI_FROM_MODULE;
    status = open_foreign(options, source, error);
  }
  if (status != PEGA_OK) {
    cli_source_close(source);
    return status;
  }
  *out = source;
  return PEGA_OK;
}

void cli_source_close(cli_source *source) {
  if (source == NULL) return;
  close_foreign(source);
  pega_artifact_release(source->artifact);
  cli_pack_close(&source->pack);
  free(source);
}

pega_status cli_source_get(cli_source *source, const char *name, pega_function **out,
                           const char **from, pega_error *error) {
  const char *found = source->only != NULL ? source->only : CLI_FROM_REGISTRY;
  pega_status status = PEGA_OK;
  if (source->artifact != NULL) {
    status = pega_artifact_get(source->artifact, name, out, error);
  } else if (source->pack.pack != NULL) {
    status = pega_pack_get(source->pack.pack, name, out, error);
  } else if (source->only != NULL) {
    status = get_foreign(source, name, out, error);
  } else {
    status = pega_registry_get(name, out, error);
    if (status == PEGA_ERROR_NOT_FOUND && has_foreign(source)) {
      found = CLI_FROM_GLOBAL;
      status = get_foreign(source, name, out, error);
      /* What the failed look-up in the registry said is no news any more. */
      if (status == PEGA_OK) pega_error_clear(error);
    }
  }
  if (status == PEGA_OK && from != NULL) *from = found;
  return status;
}

/* Visits the names of one place. Globals that the registry put there were visited already. */
static void visit_names(cli_source *source, const pega_value *names, const char *from,
                        cli_source_visit visit, void *self) {
  const int64_t count = pega_value_size(names);
  for (int64_t i = 0; i < count; ++i) {
    size_t size = 0;
    const char *text = pega_value_as_string(pega_array_get(names, i), &size);
    char *name = text == NULL ? NULL : strndup(text, size);
    pega_function *function = NULL;
    const char *found = from;
    if (name == NULL) continue;
    /* A name that leads to nothing is shown as such: the others still are worth listing. */
    (void)cli_source_get(source, name, &function, &found, NULL);
    if (function == NULL || strcmp(found, from) == 0) visit(self, name, function, from);
    pega_function_release(function);
    free(name);
  }
}

pega_status cli_source_each(cli_source *source, cli_source_visit visit, void *self,
                            pega_error *error) {
  pega_value names = pega_value_none();
  if (source->only == NULL) {
    const pega_status status = pega_registry_list(&names, error);
    if (status != PEGA_OK) return status;
    visit_names(source, &names, CLI_FROM_REGISTRY, visit, self);
    pega_value_release(&names);
  }
  const bool pack = source->pack.pack != NULL;
  if (pack || source->artifact != NULL || has_foreign(source)) {
    const pega_status status = source->artifact != NULL
                                   ? pega_artifact_list(source->artifact, &names, error)
                               : pack ? pega_pack_list(source->pack.pack, &names, error)
                                      : list_foreign(source, &names, error);
    if (status != PEGA_OK) return status;
    visit_names(source, &names, source->only != NULL ? source->only : CLI_FROM_GLOBAL, visit, self);
    pega_value_release(&names);
  }
  return PEGA_OK;
}
