/* SPDX-License-Identifier: Apache-2.0 */
/* The pack as an object: opening, counting, what it tells of itself. */
#include "pack.h"

#include <inttypes.h>
#include <stdlib.h>

#include "core/object.h"
#include "core/options.h"
#include "core/text.h"

/* Open packs. Their locks are free in a child of fork, whoever held them: what they guard is changed by
 * single stores, so that it is whole at any time. The lock of the list is held for that of a few. */
static pthread_mutex_t packs_lock = PTHREAD_MUTEX_INITIALIZER;
static pega_pack *packs;

static void before_fork(void) { pthread_mutex_lock(&packs_lock); }
static void after_fork(void) { pthread_mutex_unlock(&packs_lock); }

/* A mutex with no attributes needs no memory: glibc cannot fail here. */
static void make_locks(pega_pack *pack) {
  pthread_mutex_init(&pack->lock, NULL);
  pthread_mutex_init(&pack->blobs_lock, NULL);
}

static void after_fork_in_child(void) {
  for (pega_pack *pack = packs; pack != NULL; pack = pack->next) make_locks(pack);
  pega_json_make_lock();
  after_fork();
}

static pthread_once_t fork_is_watched = PTHREAD_ONCE_INIT;
/* Where there is no memory for it, a child is as without. */
static void watch_fork(void) { pthread_atfork(before_fork, after_fork, after_fork_in_child); }

static void put_into_list(pega_pack *pack) {
  pthread_once(&fork_is_watched, watch_fork);
  pthread_mutex_lock(&packs_lock);
  pack->next = packs;
  pack->link = &packs;
  if (packs != NULL) packs->link = &pack->next;
  packs = pack;
  pthread_mutex_unlock(&packs_lock);
}

static void take_from_list(pega_pack *pack) {
  pthread_mutex_lock(&packs_lock);
  *pack->link = pack->next;
  if (pack->next != NULL) pack->next->link = pack->link;
  pthread_mutex_unlock(&packs_lock);
}

static void destroy(pega_pack *pack) {
  take_from_list(pack);
  if (pack->kept != NULL) pack->release_kept(pack->kept);
  pega_container_close(pack);
  for (int32_t i = 0; pack->bytes != NULL && i < pack->num_blobs; ++i) free(pack->bytes[i].owned);
  free(pack->manifest);
  pthread_mutex_destroy(&pack->lock);
  pthread_mutex_destroy(&pack->blobs_lock);
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
  pack->descriptor = -1;
  make_locks(pack);
  put_into_list(pack);
  const char *source = options->path == NULL ? "pack in memory" : options->path;
  pack->source = pega_arena_text(&pack->arena, source, strlen(source));
  if (pack->source == NULL) {
    destroy(pack);
    goto out_of_memory;
  }
  status = pega_container_open(pack, options, error);
  if (status == PEGA_OK) {
    status = pack->folder ? pega_manifest_read(pack, error) : pega_index_read(pack, error);
  }
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

pega_status pega_pack_manifest(pega_pack *pack, const char **out, size_t *size, pega_error *error) {
  if (pack == NULL || out == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_pack_manifest: %s is NULL", out == NULL ? "out" : "pack");
  }
  pega_status status = PEGA_OK;
  pthread_mutex_lock(&pack->lock);
  if (pack->manifest == NULL) status = pega_manifest_check(pack, error);
  pthread_mutex_unlock(&pack->lock);
  const pega_pack_function *function;
  for (int32_t i = 0; i < pack->num_functions && status == PEGA_OK; ++i) {
    status = pega_pack_describe(pack, i, &function, error);
  }
  if (status == PEGA_OK) {
    pega_json_reader reader = {pack->source, NULL, error, PEGA_OK, NULL};
    pega_manifest_blobs_used(&reader, pack);
    status = reader.status;
  }
  if (status != PEGA_OK) return status;
  if (size != NULL) *size = pack->manifest_size;
  *out = pack->manifest;
  return PEGA_OK;
}

const char *pega_pack_blob_name(const void *pack, size_t index) {
  return ((const pega_pack *)pack)->blobs[index].name;
}

const char *pega_pack_function_name(const void *pack, size_t index) {
  return ((const pega_pack *)pack)->functions[index].name;
}

static int compare_names(const void *a, const void *b) {
  return strcmp(pega_value_as_string((const pega_value *)a, NULL),
                pega_value_as_string((const pega_value *)b, NULL));
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
  for (size_t i = 0; i < count; ++i) {
    names[i] = pega_value_string(pega_pack_function_name(pack, i));
  }
  qsort(names, count, sizeof *names, compare_names);
  pega_status status = pega_array_create(names, (int64_t)count, out, error);
  free(names);
  return status;
}

int32_t pega_pack_num_functions(const pega_pack *pack) { return pack->num_functions; }

pega_status pega_pack_describe(pega_pack *pack, int32_t index, const pega_pack_function **out,
                               pega_error *error) {
  const pega_pack_entry *entry = &pack->functions[index];
  pega_status status = PEGA_OK;
  *out = atomic_load_explicit(&entry->description, memory_order_acquire);
  if (*out != NULL) return PEGA_OK;
  pthread_mutex_lock(&pack->lock);
  *out = atomic_load_explicit(&entry->description, memory_order_relaxed);
  if (*out == NULL) {
    status = pega_manifest_describe(pack, index, error);
    *out = atomic_load_explicit(&entry->description, memory_order_relaxed);
  }
  pthread_mutex_unlock(&pack->lock);
  return status;
}

int32_t pega_pack_index(const pega_pack *pack, const char *name) {
  return pega_table_find(&pack->function_names, name, pega_pack_function_name, pack);
}

pega_status pega_pack_find(pega_pack *pack, const char *name, int32_t *out, pega_error *error) {
  *out = pega_pack_index(pack, name);
  if (*out >= 0) return PEGA_OK;
  if (error == NULL) return PEGA_ERROR_NOT_FOUND;
  char shown[96];
  const char *nearest =
      pega_text_nearest(name, (size_t)pack->num_functions, pega_pack_function_name, pack);
  return pega_error_set(error, PEGA_ERROR_NOT_FOUND, NULL,
                        "no function '%s' among the %" PRId32
                        " of pack '%s'%s%s%s; pega_pack_list() shows all",
                        pega_text_short_name(name, shown), pack->num_functions, pack->name,
                        nearest == NULL ? "" : "; the nearest is '", nearest == NULL ? "" : nearest,
                        nearest == NULL ? "" : "'");
}

/* With the lock: what was made, with a reference more, or NULL. */
__attribute__((noinline)) static pega_function *take_made(const pega_pack_entry *entry) {
  pega_object *made = (pega_object *)entry->made;
  return made != NULL && pega_object_try_retain(made) ? entry->made : NULL;
}

pega_function *pega_pack_made(pega_pack *pack, int32_t index) {
  pthread_mutex_lock(&pack->lock);
  pega_function *made = take_made(&pack->functions[index]);
  pthread_mutex_unlock(&pack->lock);
  return made;
}

pega_function *pega_pack_set_made(pega_pack *pack, int32_t index, pega_function *made) {
  pega_pack_entry *entry = &pack->functions[index];
  pthread_mutex_lock(&pack->lock);
  /* Another may have been made since what goes had its last reference, or since `made` was begun. */
  pega_function *there = made == NULL ? NULL : take_made(entry);
  if (there != NULL) {
    made = there;
  } else if (made != NULL ||
             (entry->made != NULL && pega_object_is_gone((pega_object *)entry->made))) {
    entry->made = made;
  }
  pthread_mutex_unlock(&pack->lock);
  return made;
}

void **pega_pack_keep(pega_pack *pack, void (*release)(void *kept)) {
  pack->release_kept = release;
  return &pack->kept;
}

uint32_t pega_pack_flags(const pega_pack *pack) { return pack->flags; }

const pega_blob *pega_pack_blob(const pega_pack *pack, int32_t index) {
  return &pack->blobs[index];
}
