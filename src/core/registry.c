/* SPDX-License-Identifier: Apache-2.0 */
/* The process's functions by name. The one lock guards the table; it is not held while foreign code
 * runs, so a deleter may use the registry. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* a lock that prefers writers */
#endif
#include "registry.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "text.h"

/* Of one name. What it owns is given back without the lock. */
typedef struct registry_entry {
  struct registry_entry *next; /* of its bucket, or of a list on its way in or out */
  uint64_t hash;
  pega_function *function;            /* owned; NULL: made when it is first asked for... */
  const pega_function_source *source; /* ...by this, of which `self` is a reference */
  void *self;
  int32_t index;
  char name[];
} registry_entry;

/* Writers go first: readers that come and go would else keep them out for ever. */
#ifdef PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP
#define REGISTRY_LOCK PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP
#else
#define REGISTRY_LOCK PTHREAD_RWLOCK_INITIALIZER
#endif
static pthread_rwlock_t registry_lock = REGISTRY_LOCK;
static registry_entry *first_buckets[1];
static registry_entry **buckets = first_buckets; /* a power of two of them */
static size_t num_buckets = 1;
static size_t num_entries;
static _Atomic bool registry_has_builtins;

/* Where the entry is linked, or the end of the bucket that it would be in. */
static registry_entry **find(const char *name, uint64_t hash) {
  registry_entry **at = &buckets[hash & (num_buckets - 1)];
  while (*at != NULL && ((*at)->hash != hash || strcmp((*at)->name, name) != 0)) at = &(*at)->next;
  return at;
}

/* `function` may be NULL. */
static registry_entry *make_entry(const char *name, pega_function *function, pega_error *error) {
  const size_t size = strlen(name) + 1;
  registry_entry *entry = calloc(1, sizeof *entry + size);
  if (entry == NULL) {
    pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory to register function '%s'",
                   name);
    return NULL;
  }
  memcpy(entry->name, name, size);
  entry->hash = pega_text_hash(name);
  entry->function = pega_function_retain(function);
  return entry;
}

/* Without the lock, as the next. */
static void release_content(const registry_entry *entry) {
  pega_function_release(entry->function);
  if (entry->self != NULL) entry->source->release(entry->self);
}

static void free_entries(registry_entry *list) {
  while (list != NULL) {
    registry_entry *entry = list;
    list = entry->next;
    release_content(entry);
    free(entry);
  }
}

static pega_status taken(const char *name, pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_ALREADY_EXISTS, NULL,
                        "function '%s' is registered already; remove it first or register with "
                        "PEGA_REGISTER_OVERRIDE",
                        name);
}

/* Two buckets an entry, as far as there is memory. */
static void grow(size_t count) {
  size_t size = num_buckets;
  while (size < 2 * (num_entries + count)) size *= 2;
  registry_entry **made = size == num_buckets ? NULL : calloc(size, sizeof(registry_entry *));
  if (made == NULL) return;
  for (size_t i = 0; i < num_buckets; ++i) {
    for (registry_entry *entry = buckets[i], *next; entry != NULL; entry = next) {
      registry_entry **bucket = &made[entry->hash & (size - 1)];
      next = entry->next;
      entry->next = *bucket;
      *bucket = entry;
    }
  }
  if (buckets != first_buckets) free(buckets);
  buckets = made;
  num_buckets = size;
}

/* With the lock held for writing: moves a list of new names in. *list is what is left to free then: the
 * entries that were replaced, or, on failure, the list as it was. */
static pega_status add_locked(registry_entry **list, size_t count, uint32_t flags,
                              pega_status (*last)(void *user, pega_error *error), void *user,
                              pega_error *error) {
  for (registry_entry *entry = *list; entry != NULL; entry = entry->next) {
    if ((flags & PEGA_REGISTER_OVERRIDE) == 0 && *find(entry->name, entry->hash) != NULL) {
      return taken(entry->name, error);
    }
  }
  pega_status status = last == NULL ? PEGA_OK : last(user, error);
  if (status != PEGA_OK) return status;
  grow(count);
  registry_entry *replaced = NULL;
  for (registry_entry *entry = *list, *next; entry != NULL; entry = next) {
    registry_entry **at = find(entry->name, entry->hash);
    registry_entry *old = *at;
    next = entry->next;
    entry->next = old == NULL ? NULL : old->next;
    *at = entry;
    if (old == NULL) {
      ++num_entries;
    } else {
      old->next = replaced;
      replaced = old;
    }
  }
  *list = replaced;
  return PEGA_OK;
}

/* With the lock held for writing. What may be freed is no last reference, or one of the library's. */
static pega_status add_function_locked(pega_function *function, uint32_t flags, pega_error *error) {
  registry_entry *entry = make_entry(pega_function_name(function), function, error);
  if (entry == NULL) return PEGA_ERROR_OUT_OF_MEMORY;
  pega_status status = add_locked(&entry, 1, flags, NULL, NULL, error);
  free_entries(entry);
  return status;
}

/* A retry after a failure finds some in place. */
static pega_status add_builtin(pega_function *function, pega_error *error) {
  return add_function_locked(function, PEGA_REGISTER_OVERRIDE, error);
}

/* A child of fork has no other threads: it must not be made while one of them changes the table, and
 * the readers that were in are gone in it. */
static void before_fork(void) { pthread_rwlock_rdlock(&registry_lock); }
static void after_fork(void) { pthread_rwlock_unlock(&registry_lock); }
static void after_fork_in_child(void) {
  static const pthread_rwlock_t unlocked = REGISTRY_LOCK;
  registry_lock = unlocked;
}

static pthread_once_t fork_is_watched = PTHREAD_ONCE_INIT;
/* Where there is no memory for it, a child is as without. */
static void watch_fork(void) { pthread_atfork(before_fork, after_fork, after_fork_in_child); }

/* Takes the lock for writing, with the built-in functions in the table. */
static pega_status lock_for_writing(pega_error *error) {
  pthread_once(&fork_is_watched, watch_fork);
  pthread_rwlock_wrlock(&registry_lock);
  if (registry_has_builtins) return PEGA_OK;
  pega_status status = pega_builtin_functions(add_builtin, error);
  if (status != PEGA_OK) {
    pthread_rwlock_unlock(&registry_lock);
    return status;
  }
  registry_has_builtins = true;
  return PEGA_OK;
}

/* Takes the lock for reading, with the built-in functions in the table. */
static pega_status lock_for_reading(pega_error *error) {
  if (!atomic_load_explicit(&registry_has_builtins, memory_order_acquire)) {
    pega_status status = lock_for_writing(error);
    if (status != PEGA_OK) return status;
    pthread_rwlock_unlock(&registry_lock);
  }
  pthread_rwlock_rdlock(&registry_lock);
  return PEGA_OK;
}

pega_status pega_registry_add(pega_function *function, uint32_t flags, pega_error *error) {
  if (function == NULL || pega_function_name(function)[0] == '\0') {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL, "pega_registry_add: %s",
                          function == NULL ? "function is NULL" : "the function has no name");
  }
  if ((flags & ~PEGA_REGISTER_OVERRIDE) != 0) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_registry_add: unknown flags 0x%x", flags);
  }
  pega_status status = lock_for_writing(error);
  if (status != PEGA_OK) return status;
  const char *name = pega_function_name(function);
  registry_entry *entry = *find(name, pega_text_hash(name));
  registry_entry replaced = {.function = NULL};
  if (entry == NULL || flags == 0) {
    status = add_function_locked(function, flags, error);
  } else {
    /* In place, so that nothing can fail. */
    replaced = *entry;
    entry->function = pega_function_retain(function);
    entry->self = NULL;
  }
  pthread_rwlock_unlock(&registry_lock);
  release_content(&replaced);
  return status;
}

pega_status pega_registry_add_source(const pega_function_source *source, void *self,
                                     const int32_t *indices, int32_t count, uint32_t flags,
                                     pega_status (*last)(void *user, pega_error *error), void *user,
                                     pega_error *error) {
  registry_entry *list = NULL;
  for (int32_t i = count - 1; i >= 0; --i) { /* the first is at the head */
    registry_entry *entry = make_entry(source->name(self, indices[i]), NULL, error);
    if (entry == NULL) {
      free_entries(list);
      return PEGA_ERROR_OUT_OF_MEMORY;
    }
    source->retain(self);
    entry->source = source;
    entry->self = self;
    entry->index = indices[i];
    entry->next = list;
    list = entry;
  }
  pega_status status = lock_for_writing(error);
  if (status == PEGA_OK) {
    status = add_locked(&list, (size_t)count, flags, last, user, error);
    pthread_rwlock_unlock(&registry_lock);
  }
  free_entries(list);
  return status;
}

static const char *name_of_table(const void *self, size_t index) {
  return ((const char *const *)self)[index];
}

static int compare_names(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* With the lock held: the names and their texts in one block, or NULL when out of memory. */
static const char **copy_names_locked(void) {
  size_t size = 1, count = 0;
  for (size_t i = 0; i < num_buckets; ++i) {
    for (const registry_entry *entry = buckets[i]; entry != NULL; entry = entry->next) {
      size += sizeof entry + strlen(entry->name) + 1;
    }
  }
  const char **names = malloc(size);
  if (names == NULL) return NULL;
  char *text = (char *)(names + num_entries);
  for (size_t i = 0; i < num_buckets; ++i) {
    for (const registry_entry *entry = buckets[i]; entry != NULL; entry = entry->next) {
      names[count++] = text;
      text = stpcpy(text, entry->name) + 1;
    }
  }
  return names;
}

/* The names, sorted; the lock is held only while they are copied. */
static pega_status copy_names(const char ***out, size_t *count, pega_error *error) {
  pega_status status = lock_for_reading(error);
  if (status != PEGA_OK) return status;
  *count = num_entries;
  *out = copy_names_locked();
  pthread_rwlock_unlock(&registry_lock);
  if (*out == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory for %zu names", *count);
  }
  qsort(*out, *count, sizeof **out, compare_names);
  return PEGA_OK;
}

/* Without the lock. */
static pega_status not_found(const char *name, pega_error *error) {
  if (error == NULL) return PEGA_ERROR_NOT_FOUND;
  char shown[96];
  const char **names = NULL;
  const char *nearest = NULL;
  size_t count = 0;
  if (copy_names(&names, &count, NULL) == PEGA_OK) {
    nearest = pega_text_nearest(name, count, name_of_table, names);
  }
  pega_status status = pega_error_set(
      error, PEGA_ERROR_NOT_FOUND, NULL,
      "no function '%s' among the %zu registered%s%s%s; `pega list` or "
      "pega_registry_list() shows all",
      pega_text_short_name(name, shown), count, nearest == NULL ? "" : "; the nearest is '",
      nearest == NULL ? "" : nearest, nearest == NULL ? "" : "'");
  free(names);
  return status;
}

pega_status pega_registry_remove(const char *name, pega_error *error) {
  if (name == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_registry_remove: name is NULL");
  }
  pega_status status = lock_for_writing(error);
  if (status != PEGA_OK) return status;
  registry_entry **at = find(name, pega_text_hash(name));
  registry_entry *removed = *at;
  if (removed != NULL) {
    *at = removed->next;
    removed->next = NULL;
    --num_entries;
  }
  pthread_rwlock_unlock(&registry_lock);
  free_entries(removed);
  return removed == NULL ? not_found(name, error) : PEGA_OK;
}

/* Makes a function that was asked for first: without the lock, as a description is read for it. Takes a
 * reference of `self`. */
static pega_status make(const char *name, uint64_t hash, const pega_function_source *source,
                        void *self, int32_t index, pega_function **out, pega_error *error) {
  pega_status status = source->make(self, index, out, error);
  if (status == PEGA_OK) {
    pthread_rwlock_wrlock(&registry_lock);
    registry_entry *entry = *find(name, hash);
    /* Unless another was registered meanwhile, or another thread was first. */
    const bool waits = entry != NULL && entry->self == self && entry->index == index;
    if (waits) {
      entry->function = pega_function_retain(*out);
      entry->self = NULL;
    }
    pthread_rwlock_unlock(&registry_lock);
    if (waits) source->release(self);
  }
  source->release(self);
  return status;
}

pega_status pega_registry_get(const char *name, pega_function **out, pega_error *error) {
  if (name == NULL || out == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL, "pega_registry_get: %s is NULL",
                          out == NULL ? "out" : "name");
  }
  const uint64_t hash = pega_text_hash(name);
  pega_status status = lock_for_reading(error);
  if (status != PEGA_OK) return status;
  const registry_entry *entry = *find(name, hash);
  const bool there = entry != NULL;
  if (there && entry->function != NULL) {
    *out = pega_function_retain(entry->function);
  } else if (there) {
    const pega_function_source *source = entry->source;
    void *self = entry->self;
    const int32_t index = entry->index;
    source->retain(self);
    pthread_rwlock_unlock(&registry_lock);
    return make(name, hash, source, self, index, out, error);
  }
  pthread_rwlock_unlock(&registry_lock);
  return there ? PEGA_OK : not_found(name, error);
}

pega_status pega_registry_list(pega_value *out, pega_error *error) {
  if (out == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_registry_list: out is NULL");
  }
  const char **names;
  size_t count;
  pega_status status = copy_names(&names, &count, error);
  if (status != PEGA_OK) return status;
  pega_value *values = malloc((count + 1) * sizeof *values);
  if (values == NULL) {
    status =
        pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory for %zu names", count);
  } else {
    for (size_t i = 0; i < count; ++i) values[i] = pega_value_string(names[i]);
    status = pega_array_create(values, (int64_t)count, out, error);
  }
  free(values);
  free(names);
  return status;
}
