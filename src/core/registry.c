/* SPDX-License-Identifier: Apache-2.0 */
/* The process's functions by name. The one lock guards the table; it is not held while foreign code
 * runs, so a deleter may use the registry. */
#include "registry.h"

#include <pthread.h>
#include <stdlib.h>

#include "text.h"

/* An allocation that fails leaves the table as it was. */
#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(entry) ((entry)->function = NULL)
#include <uthash.h>

typedef struct registry_entry {
  pega_function *function; /* owned; its name is the key */
  UT_hash_handle hh;
} registry_entry;

static pthread_rwlock_t registry_lock = PTHREAD_RWLOCK_INITIALIZER;
static registry_entry *registry_table;
static bool registry_has_builtins;

static registry_entry *find(const char *name, size_t size) {
  registry_entry *entry;
  HASH_FIND(hh, registry_table, name, size, entry);
  return entry;
}

/* With the lock held for writing. *replaced receives a function to release after it is given up. */
static pega_status add_locked(pega_function *function, uint32_t flags, pega_function **replaced,
                              pega_error *error) {
  const char *name = pega_function_name(function);
  size_t size = strlen(name);
  registry_entry *entry = find(name, size);
  if (entry != NULL && (flags & PEGA_REGISTER_OVERRIDE) == 0) {
    return pega_error_set(error, PEGA_ERROR_ALREADY_EXISTS, NULL,
                          "function '%s' is registered already; remove it first or register with "
                          "PEGA_REGISTER_OVERRIDE",
                          name);
  }
  if (entry != NULL) {
    /* In place, so that nothing can fail: the key is the same text in the new function. */
    *replaced = entry->function;
    entry->function = pega_function_retain(function);
    entry->hh.key = name;
    return PEGA_OK;
  }
  registry_entry *added = calloc(1, sizeof *added);
  if (added == NULL) goto out_of_memory;
  added->function = pega_function_retain(function);
  HASH_ADD_KEYPTR(hh, registry_table, name, size, added);
  if (added->function == NULL) {
    pega_function_release(function);
    free(added);
    goto out_of_memory;
  }
  return PEGA_OK;
out_of_memory:
  return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL,
                        "no memory to register function '%s'", name);
}

static pega_status add_builtin(pega_function *function, pega_error *error) {
  pega_function *replaced = NULL;
  /* A retry after a failure finds some in place. */
  if (find(pega_function_name(function), strlen(pega_function_name(function))) != NULL) {
    return PEGA_OK;
  }
  return add_locked(function, 0, &replaced, error);
}

/* Takes the lock for writing, with the built-in functions in the table. */
static pega_status lock_for_writing(pega_error *error) {
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
  for (;;) {
    pthread_rwlock_rdlock(&registry_lock);
    if (registry_has_builtins) return PEGA_OK;
    pthread_rwlock_unlock(&registry_lock);
    pega_status status = lock_for_writing(error);
    if (status != PEGA_OK) return status;
    pthread_rwlock_unlock(&registry_lock);
  }
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
  pega_function *replaced = NULL;
  pega_status status = lock_for_writing(error);
  if (status != PEGA_OK) return status;
  status = add_locked(function, flags, &replaced, error);
  pthread_rwlock_unlock(&registry_lock);
  pega_function_release(replaced);
  return status;
}

static const char *name_of_table(const void *self, size_t index) {
  return ((const char *const *)self)[index];
}

static int compare_names(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* With the lock held: the names, borrowed from the functions, or NULL when out of memory. */
static const char **names_locked(size_t *count) {
  *count = HASH_COUNT(registry_table);
  const char **names = malloc((*count + 1) * sizeof *names);
  if (names == NULL) return NULL;
  size_t i = 0;
  for (registry_entry *entry = registry_table; entry != NULL; entry = entry->hh.next) {
    names[i++] = pega_function_name(entry->function);
  }
  qsort(names, *count, sizeof *names, compare_names);
  return names;
}

static pega_status not_found_locked(const char *name, pega_error *error) {
  char shown[96];
  size_t count;
  const char **names = names_locked(&count);
  const char *nearest = names == NULL ? NULL : pega_text_nearest(name, count, name_of_table, names);
  pega_status status =
      pega_error_set(error, PEGA_ERROR_NOT_FOUND, NULL,
                     "no function '%s' among the %u registered%s%s%s; `pega list` or "
                     "pega_registry_list() shows all",
                     pega_text_short_name(name, shown), HASH_COUNT(registry_table),
                     nearest == NULL ? "" : "; the nearest is '", nearest == NULL ? "" : nearest,
                     nearest == NULL ? "" : "'");
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
  pega_function *removed = NULL;
  registry_entry *entry = find(name, strlen(name));
  if (entry == NULL) {
    status = not_found_locked(name, error);
  } else {
    HASH_DELETE(hh, registry_table, entry);
    removed = entry->function;
    free(entry);
  }
  pthread_rwlock_unlock(&registry_lock);
  pega_function_release(removed);
  return status;
}

pega_status pega_registry_get(const char *name, pega_function **out, pega_error *error) {
  if (name == NULL || out == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL, "pega_registry_get: %s is NULL",
                          out == NULL ? "out" : "name");
  }
  pega_status status = lock_for_reading(error);
  if (status != PEGA_OK) return status;
  registry_entry *entry = find(name, strlen(name));
  if (entry == NULL) {
    status = not_found_locked(name, error);
  } else {
    *out = pega_function_retain(entry->function);
  }
  pthread_rwlock_unlock(&registry_lock);
  return status;
}

pega_status pega_registry_list(pega_value *out, pega_error *error) {
  if (out == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_registry_list: out is NULL");
  }
  pega_status status = lock_for_reading(error);
  if (status != PEGA_OK) return status;
  size_t count;
  const char **names = names_locked(&count);
  pega_value *values = names == NULL ? NULL : malloc((count + 1) * sizeof *values);
  if (values == NULL) {
    status =
        pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory for %zu names", count);
  } else {
    for (size_t i = 0; i < count; ++i) values[i] = pega_value_string(names[i]);
    status = pega_array_create(values, (int64_t)count, out, error);
  }
  pthread_rwlock_unlock(&registry_lock);
  free(values);
  free(names);
  return status;
}
