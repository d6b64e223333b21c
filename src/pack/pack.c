/* SPDX-License-Identifier: Apache-2.0 */
/* The pack as an object: opening, counting, what it tells of itself. */
#include "pack.h"

#include <inttypes.h>
#include <stdlib.h>

#include "core/options.h"
#include "core/text.h"

static void destroy(pega_pack *pack) {
  pega_container_close(pack);
  if (pack->bytes != NULL) {
    for (int32_t i = 0; i < pack->num_blobs; ++i) free(pack->bytes[i].owned);
  }
  free(pack->manifest);
  pthread_mutex_destroy(&pack->lock);
  pega_arena_free(&pack->arena);
  free(pack);
}

static pega_status check_options(const pega_pack_options *options, pega_error *error) {
  if (!pega_options_fit(options, options->struct_size, sizeof *options)) {
    return pega_error_set(error, PEGA_ERROR_VERSION, NULL,
                          "pega_pack_open: options of struct_size %" PRIu32
                          ": expected %zu (or more with zeros after it); start from "
                          "PEGA_PACK_OPTIONS_INIT",
                          options->struct_size, sizeof *options);
  }
  if ((options->flags & ~(PEGA_PACK_ALLOW_PTX | PEGA_PACK_STATIC)) != 0) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_pack_open: unknown flags 0x%" PRIx32, options->flags);
  }
  if ((options->path == NULL) == (options->data == NULL)) {
    return pega_error_set(
        error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
        "pega_pack_open: %s of options.path and options.data is set, expected one",
        options->path == NULL ? "none" : "each");
  }
  if (options->path != NULL && (options->size != 0 || (options->flags & PEGA_PACK_STATIC) != 0)) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_pack_open: options.%s is for data, and a path is given",
                          options->size != 0 ? "size" : "flags: PEGA_PACK_STATIC");
  }
  if (options->path != NULL && options->path[0] == '\0') {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_pack_open: options.path is empty");
  }
  return PEGA_OK;
}

pega_status pega_pack_open(const pega_pack_options *options, pega_pack **out, pega_error *error) {
  if (options == NULL || out == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL, "pega_pack_open: %s is NULL",
                          out == NULL ? "out" : "options");
  }
  pega_status status = check_options(options, error);
  if (status != PEGA_OK) return status;
  pega_pack *pack = calloc(1, sizeof *pack);
  if (pack == NULL) goto out_of_memory;
  atomic_init(&pack->refs, 1);
  pack->flags = options->flags;
  pack->blobs_folder = -1;
  /* A mutex with no attributes needs no memory: glibc cannot fail here. */
  pthread_mutex_init(&pack->lock, NULL);
  const char *source = options->path == NULL ? "pack in memory" : options->path;
  pack->source = pega_arena_text(&pack->arena, source, strlen(source));
  if (pack->source == NULL) {
    destroy(pack);
    goto out_of_memory;
  }
  status = pega_container_open(pack, options, error);
  if (status == PEGA_OK) status = pega_manifest_read(pack, error);
  if (status != PEGA_OK) {
    destroy(pack);
    return status;
  }
  *out = pack;
  return PEGA_OK;
out_of_memory:
  return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory for a pack");
}

pega_pack *pega_pack_retain(pega_pack *pack) {
  if (pack != NULL) atomic_fetch_add_explicit(&pack->refs, 1, memory_order_relaxed);
  return pack;
}

void pega_pack_release(pega_pack *pack) {
  if (pack != NULL && atomic_fetch_sub_explicit(&pack->refs, 1, memory_order_acq_rel) == 1) {
    destroy(pack);
  }
}

const char *pega_pack_name(const pega_pack *pack) { return pack == NULL ? "" : pack->name; }

const char *pega_pack_manifest(const pega_pack *pack, size_t *size) {
  if (size != NULL) *size = pack == NULL ? 0 : pack->manifest_size;
  return pack == NULL ? "" : pack->manifest;
}

static const char *name_at(const void *self, size_t index) {
  const pega_pack *pack = self;
  return pack->functions[pack->by_name[index]].name;
}

pega_status pega_pack_list(const pega_pack *pack, pega_value *out, pega_error *error) {
  if (pack == NULL || out == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL, "pega_pack_list: %s is NULL",
                          out == NULL ? "out" : "pack");
  }
  size_t count = (size_t)pack->num_functions;
  pega_value *names = malloc((count + 1) * sizeof *names);
  if (names == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory for %zu names", count);
  }
  for (size_t i = 0; i < count; ++i) names[i] = pega_value_string(name_at(pack, i));
  pega_status status = pega_array_create(names, (int64_t)count, out, error);
  free(names);
  return status;
}

int32_t pega_pack_num_functions(const pega_pack *pack) { return pack->num_functions; }

const pega_pack_function *pega_pack_function_at(const pega_pack *pack, int32_t index) {
  return &pack->functions[index];
}

const pega_pack_function *pega_pack_find(const pega_pack *pack, const char *name,
                                         pega_error *error) {
  int32_t low = 0, high = pack->num_functions;
  while (low < high) {
    int32_t middle = low + (high - low) / 2;
    int order = strcmp(name, name_at(pack, (size_t)middle));
    if (order == 0) return &pack->functions[pack->by_name[middle]];
    if (order < 0) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  char shown[96];
  const char *nearest = pega_text_nearest(name, (size_t)pack->num_functions, name_at, pack);
  pega_error_set(error, PEGA_ERROR_NOT_FOUND, NULL,
                 "no function '%s' among the %" PRId32
                 " of pack '%s'%s%s%s; pega_pack_list() shows all",
                 pega_text_short_name(name, shown), pack->num_functions, pack->name,
                 nearest == NULL ? "" : "; the nearest is '", nearest == NULL ? "" : nearest,
                 nearest == NULL ? "" : "'");
  return NULL;
}

uint32_t pega_pack_flags(const pega_pack *pack) { return pack->flags; }

const pega_blob *pega_pack_blob(const pega_pack *pack, int32_t index) {
  return &pack->blobs[index];
}
