/* SPDX-License-Identifier: Apache-2.0 */
#include "loader.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/options.h"
#include "core/text.h"

enum { kMostLoaders = 32 };

/* Entries are written before the count that covers them, and never again. */
static pega_artifact_loader loaders[kMostLoaders];
static _Atomic int32_t num_loaders;
static pthread_mutex_t add_lock = PTHREAD_MUTEX_INITIALIZER;

static pega_status check(const pega_artifact_loader *loader, pega_error *error) {
  if (loader == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_artifact_add_loader: loader is NULL");
  }
  if (!pega_options_fit(loader, loader->struct_size, sizeof *loader)) {
    return pega_error_set(error, PEGA_ERROR_VERSION, NULL,
                          "pega_artifact_add_loader: a loader of struct_size %" PRIu32
                          ": expected %zu (or more with zeros after it)",
                          loader->struct_size, sizeof *loader);
  }
  const char *lacking = loader->name == NULL || loader->name[0] == '\0' ? "name"
                        : loader->recognises == NULL                    ? "recognises"
                        : loader->open == NULL                          ? "open"
                        : loader->close == NULL                         ? "close"
                        : loader->list == NULL                          ? "list"
                        : loader->get == NULL                           ? "get"
                                                                        : NULL;
  if (loader->flags != 0 || lacking != NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          lacking == NULL
                              ? "pega_artifact_add_loader: unknown flags 0x%" PRIx32 "%s"
                              : "pega_artifact_add_loader: flags 0x%" PRIx32 ", %s is not set",
                          loader->flags, lacking == NULL ? "" : lacking);
  }
  return PEGA_OK;
}

static bool same(const pega_artifact_loader *a, const pega_artifact_loader *b) {
  return a->self == b->self && a->recognises == b->recognises && a->inspect == b->inspect &&
         a->open == b->open && a->close == b->close && a->list == b->list && a->get == b->get;
}

pega_status pega_artifact_add_loader(const pega_artifact_loader *loader, pega_error *error) {
  pega_status status = check(loader, error);
  if (status != PEGA_OK) return status;
  char shown[96];
  pthread_mutex_lock(&add_lock);
  int32_t count = atomic_load_explicit(&num_loaders, memory_order_relaxed);
  int32_t place = 0;
  while (place < count && strcmp(loaders[place].name, loader->name) != 0) ++place;
  if (place < count) {
    if (!same(&loaders[place], loader)) {
      status = pega_error_set(error, PEGA_ERROR_ALREADY_EXISTS, NULL,
                              "pega_artifact_add_loader: there is another loader called '%s'",
                              pega_text_short_name(loader->name, shown));
    }
  } else if (count == kMostLoaders) {
    status = pega_error_set(error, PEGA_ERROR_UNSUPPORTED, NULL,
                            "pega_artifact_add_loader: '%s' would be one more than %d loaders",
                            pega_text_short_name(loader->name, shown), kMostLoaders);
  } else {
    loaders[count] = *loader;
    atomic_store_explicit(&num_loaders, count + 1, memory_order_release);
  }
  pthread_mutex_unlock(&add_lock);
  return status;
}

const pega_artifact_loader *pega_artifact_find_loader(const pega_artifact_file *file) {
  int32_t count = atomic_load_explicit(&num_loaders, memory_order_acquire);
  for (int32_t i = 0; i < count; ++i) {
    if (loaders[i].recognises(loaders[i].self, file)) return &loaders[i];
  }
  return NULL;
}

const char *pega_artifact_loader_name(int32_t index) {
  int32_t count = atomic_load_explicit(&num_loaders, memory_order_acquire);
  return index >= 0 && index < count ? loaders[index].name : NULL;
}

/* ------------------------------------------------------------------------------------ the view -- */

static const void *symbol_bytes(const pega_artifact_file *file, const char *name, size_t *size) {
  return pega_elf_symbol_bytes(file->self, name, size);
}

/* A symbol with several versions is one name; one with a hidden version alone has none that could be used. */
static int32_t copy_names(const pega_elf_symbol *symbols, int32_t count, const char **to) {
  int32_t copied = 0;
  for (int32_t i = 0; i < count; ++i) {
    if (symbols[i].hidden_version) continue;
    if (copied > 0 && strcmp(to[copied - 1], symbols[i].name) == 0) continue;
    to[copied++] = symbols[i].name;
  }
  return copied;
}

pega_status pega_artifact_view_make(const pega_elf *elf, pega_artifact_view *out,
                                    pega_error *error) {
  memset(out, 0, sizeof *out);
  size_t count = (size_t)elf->num_defined + (size_t)elf->num_undefined;
  out->names = calloc(count + 1, sizeof *out->names);
  if (out->names == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "%s: no memory for %zu names",
                          elf->path, count);
  }
  out->file.struct_size = (uint32_t)sizeof out->file;
  out->file.path = elf->path;
  out->file.exports = out->names;
  out->file.num_exports = copy_names(elf->defined, elf->num_defined, out->names);
  out->file.undefined = out->names + elf->num_defined;
  out->file.num_undefined =
      copy_names(elf->undefined, elf->num_undefined, out->names + elf->num_defined);
  out->file.symbol_bytes = symbol_bytes;
  out->file.self = elf;
  return PEGA_OK;
}

void pega_artifact_view_free(pega_artifact_view *view) {
  free(view->names);
  memset(view, 0, sizeof *view);
}
