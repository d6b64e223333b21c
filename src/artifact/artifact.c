/* SPDX-License-Identifier: Apache-2.0 */
/* Opening artifacts, and their functions. */
#include <dlfcn.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "context.h"
#include "core/text.h"
#include "examine.h"
#include "foreign_call.h"
#include "pega/pack.h"

struct pega_artifact {
  _Atomic int64_t references;
  char *path;
  const char *format;
  /* One of the three. */
  pega_pack *pack;
  pega_c_library *c_library;
  const pega_artifact_loader *loader;
  void *opened; /* the loader's */
  bool watched; /* it may use CUDA: the functions' own wrapper looks after the current context */
  bool restore;
};

/* ----------------------------------------------------------------------------------- counting -- */

pega_artifact *pega_artifact_retain(pega_artifact *artifact) {
  if (artifact != NULL) atomic_fetch_add_explicit(&artifact->references, 1, memory_order_relaxed);
  return artifact;
}

void pega_artifact_release(pega_artifact *artifact) {
  if (artifact == NULL ||
      atomic_fetch_sub_explicit(&artifact->references, 1, memory_order_acq_rel) != 1) {
    return;
  }
  pega_pack_release(artifact->pack);
  pega_c_library_close(artifact->c_library);
  if (artifact->opened != NULL) artifact->loader->close(artifact->opened);
  free(artifact->path);
  free(artifact);
}

const char *pega_artifact_path(const pega_artifact *artifact) {
  return artifact == NULL ? "" : artifact->path;
}

const char *pega_artifact_format(const pega_artifact *artifact) {
  return artifact == NULL ? "" : artifact->format;
}

/* ------------------------------------------------------------------------------------ opening -- */

static pega_status no_memory(const char *path, pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "%s: no memory to open it", path);
}

static pega_status open_pack(pega_artifact *artifact, const pega_artifact_options *options,
                             pega_error *error) {
  pega_pack_options pack = PEGA_PACK_OPTIONS_INIT;
  pack.path = artifact->path;
  if ((options->flags & PEGA_ARTIFACT_ALLOW_PTX) != 0) pack.flags |= PEGA_PACK_ALLOW_PTX;
  artifact->format = "pack";
  return pega_pack_open(&pack, &artifact->pack, error);
}

/* What a file that lacks something is refused with. */
static pega_status refuse(const pega_examination *of, pega_error *error) {
  int32_t count = pega_examination_num_missing(of);
  pega_status status = of->needs.num_missing > 0 ? of->needs.status
                       : of->unknown != NULL     ? PEGA_ERROR_FORMAT
                                                 : PEGA_ERROR_NOT_FOUND;
  if (count == 1) {
    const char *only = pega_examination_missing(of, 0);
    size_t size = strlen(of->elf.path);
    bool own = strncmp(only, of->elf.path, size) == 0 && (only[size] == ':' || only[size] == ' ');
    return pega_error_set(error, status, NULL, "%s%s%s", own ? "" : of->elf.path,
                          own ? "" : " was not loaded: ", only);
  }
  pega_heap_text text = {NULL, 0, 0, 0};
  pega_heap_text_printf(
      &text, "%s was not loaded, as %" PRId32 " things are missing:", of->elf.path, count);
  for (int32_t i = 0; i < count; ++i) {
    pega_heap_text_printf(&text, "\n  %s", pega_examination_missing(of, i));
  }
  status = text.failed ? no_memory(of->elf.path, error)
                       : pega_error_set_text(error, status, NULL, text.data, text.size);
  free(text.data);
  return status;
}

/* Loads what a C library needs. The check found that this would go well. */
static pega_status load_steps(const pega_examination *of, pega_error *error) {
  const pega_prerequisites *needs = &of->needs;
  for (int32_t i = 0; i < needs->num_steps; ++i) {
    const pega_load_step *step = &needs->steps[i];
    int mode = RTLD_NOW | RTLD_NODELETE | (step->global ? RTLD_GLOBAL : RTLD_LOCAL);
    char why[kForeignWhyRoom];
    bool threw;
    if (pega_foreign_load(step->path, mode, &threw, why, sizeof why) != NULL) continue;
    pega_heap_text stay = {NULL, 0, 0, 0};
    for (int32_t k = 0; k < i; ++k) {
      pega_heap_text_printf(&stay, "%s%s", k == 0 ? "" : ", ", needs->steps[k].path);
    }
    pega_status status = pega_error_set(
        error, threw ? PEGA_ERROR_CALLEE : PEGA_ERROR_IO, NULL,
        "%s needs %s, which seemed whole and could not be loaded all the same: %s; %s%s",
        of->elf.path, step->path, why,
        i == 0        ? "nothing was loaded"
        : stay.failed ? "what was loaded before it stays in the process"
                      : "these were loaded before it and stay in the process: ",
        i == 0 || stay.failed ? "" : stay.data);
    free(stay.data);
    return status;
  }
  return PEGA_OK;
}

/* What the guard of a library's calls knows. Its functions outlive the artifact, so it stays: one for each
 * library, as libraries do. */
typedef struct guard_self {
  struct guard_self *next;
  bool restore;
  char path[];
} guard_self;

static guard_self *guards; /* of the whole process */
static pthread_mutex_t guards_lock = PTHREAD_MUTEX_INITIALIZER;

static guard_self *guard_of(const pega_artifact *artifact) {
  size_t size = strlen(artifact->path) + 1;
  pthread_mutex_lock(&guards_lock);
  guard_self *at = guards;
  while (at != NULL &&
         (at->restore != artifact->restore || strcmp(at->path, artifact->path) != 0)) {
    at = at->next;
  }
  if (at == NULL && (at = malloc(sizeof *at + size)) != NULL) {
    at->restore = artifact->restore;
    memcpy(at->path, artifact->path, size);
    at->next = guards;
    guards = at;
  }
  pthread_mutex_unlock(&guards_lock);
  return at;
}

static pega_status guard_begin(void *self, void *room, pega_error *error) {
  _Static_assert(sizeof(pega_context_room) <= kCLibraryGuardRoom, "it has to fit");
  (void)self;
  (void)error;
  pega_context_begin(room);
  return PEGA_OK;
}

static pega_status guard_end(void *self, const char *function, void *room, pega_status status,
                             pega_error *error) {
  const guard_self *of = self;
  return pega_context_end(room, of->path, function, of->restore, status, error);
}

static pega_status open_shared(pega_artifact *artifact, const pega_artifact_options *options,
                               pega_error *error) {
  pega_elf elf;
  memset(&elf, 0, sizeof elf);
  pega_status status = pega_elf_read(artifact->path, &elf, error);
  if (status != PEGA_OK) return status;
  pega_examination of;
  status = pega_examine(&elf, options, &of, error);
  if (status != PEGA_OK) return status;
  if (pega_examination_num_missing(&of) > 0) {
    status = refuse(&of, error);
    pega_examination_free(&of);
    return status;
  }
  /* Code that is not seen to use CUDA may find the driver that is there all the same. */
  bool watched = of.uses_cuda ? pega_context_prepare() : pega_context_prepare_loaded();
  watched = watched || of.uses_cuda;
  pega_context_room room;
  pega_context_begin(&room);
  if (of.form == PEGA_FORM_LOADER) {
    artifact->format = of.loader->name;
    artifact->loader = of.loader;
    const char **libraries = calloc((size_t)of.needs.num_steps + 1, sizeof *libraries);
    if (libraries == NULL) {
      status = no_memory(artifact->path, error);
    } else {
      for (int32_t i = 0; i < of.needs.num_steps; ++i) libraries[i] = of.needs.steps[i].path;
      status = of.loader->open(of.loader->self, &of.view.file, libraries, of.needs.num_steps,
                               &artifact->opened, error);
    }
    /* A constructor may have brought it. */
    artifact->watched = watched || pega_context_prepare_loaded();
    free(libraries);
  }
  if (of.form == PEGA_FORM_C_LIBRARY) {
    artifact->format = "C library";
    status = load_steps(&of, error);
    pega_c_library_guard guard = {guard_begin, guard_end, NULL};
    if (status == PEGA_OK && (guard.self = guard_of(artifact)) == NULL) {
      status = no_memory(artifact->path, error);
    }
    if (status == PEGA_OK) status = pega_c_library_load(of.c_library, &guard, error);
    pega_context_prepare_loaded();
    if (status == PEGA_OK) {
      artifact->c_library = of.c_library;
      of.c_library = NULL;
    }
  }
  pega_examination_free(&of);
  return pega_context_end(&room, artifact->path, NULL, artifact->restore, status, error);
}

pega_status pega_artifact_open(const pega_artifact_options *options, pega_artifact **out,
                               pega_error *error) {
  if (out == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_artifact_open: out is NULL");
  }
  pega_status status = pega_artifact_check_options("pega_artifact_open", options, error);
  bool is_pack = false;
  if (status == PEGA_OK) status = pega_artifact_is_pack(options->path, &is_pack, error);
  if (status != PEGA_OK) return status;
  pega_artifact *artifact = calloc(1, sizeof *artifact);
  if (artifact == NULL) return no_memory(options->path, error);
  atomic_init(&artifact->references, 1);
  artifact->restore = (options->flags & PEGA_ARTIFACT_RESTORE_CONTEXT) != 0;
  artifact->path = realpath(options->path, NULL);
  if (artifact->path == NULL) {
    status = no_memory(options->path, error);
  } else {
    status = is_pack ? open_pack(artifact, options, error) : open_shared(artifact, options, error);
  }
  if (status != PEGA_OK) {
    pega_artifact_release(artifact);
    return status;
  }
  *out = artifact;
  return PEGA_OK;
}

/* ---------------------------------------------------------------------------------- functions -- */

static pega_status check_artifact(const pega_artifact *artifact, const void *other,
                                  const char *other_name, const char *function, pega_error *error) {
  if (artifact != NULL && other != NULL) return PEGA_OK;
  return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL, "%s: %s is NULL", function,
                        artifact == NULL ? "artifact" : other_name);
}

pega_status pega_artifact_list(pega_artifact *artifact, pega_value *out, pega_error *error) {
  pega_status status = check_artifact(artifact, out, "out", "pega_artifact_list", error);
  if (status != PEGA_OK) return status;
  if (artifact->pack != NULL) return pega_pack_list(artifact->pack, out, error);
  if (artifact->c_library != NULL) return pega_c_library_list(artifact->c_library, out, error);
  return artifact->loader->list(artifact->opened, out, error);
}

/* A function under another name, or with the watch of the context around it, or both. */
typedef struct wrapper {
  pega_artifact *artifact; /* counted */
  pega_function *inner;    /* counted */
} wrapper;

static pega_status call_renamed(void *self, const pega_value *args, int32_t num_args,
                                pega_value *result, pega_error *error) {
  return pega_function_call(((const wrapper *)self)->inner, args, num_args, result, error);
}

static pega_status call_watched(void *self, const pega_value *args, int32_t num_args,
                                pega_value *result, pega_error *error) {
  const wrapper *to = self;
  pega_context_room room;
  pega_context_begin(&room);
  pega_status status = pega_function_call(to->inner, args, num_args, result, error);
  return pega_context_end(&room, to->artifact->path, pega_function_name(to->inner),
                          to->artifact->restore, status, error);
}

static void delete_wrapper(void *self) {
  wrapper *to = self;
  pega_function_release(to->inner);
  pega_artifact_release(to->artifact);
  free(to);
}

/* Takes `inner` if it succeeds. */
static pega_status wrap(pega_artifact *artifact, pega_function *inner, const char *name,
                        pega_call call, pega_function **out, pega_error *error) {
  wrapper *to = malloc(sizeof *to);
  if (to == NULL) return no_memory(artifact->path, error);
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  options.name = name[0] == '\0' ? NULL : name;
  options.doc = pega_function_doc(inner);
  options.signature = pega_function_signature(inner);
  options.call = call;
  options.self = to;
  options.deleter = delete_wrapper;
  to->inner = inner;
  to->artifact = pega_artifact_retain(artifact);
  pega_status status = pega_function_create(&options, out, error);
  if (status != PEGA_OK) {
    pega_artifact_release(artifact);
    free(to);
  }
  return status;
}

/* The function as the format has it. */
static pega_status get_inner(pega_artifact *artifact, const char *name, pega_function **out,
                             pega_error *error) {
  if (artifact->pack != NULL) return pega_pack_get(artifact->pack, name, out, error);
  if (artifact->c_library != NULL) {
    return pega_c_library_get(artifact->c_library, name, out, error);
  }
  return artifact->loader->get(artifact->opened, name, out, error);
}

/* `as`: under that name instead of its own; NULL for its own. */
static pega_status get_as(pega_artifact *artifact, const char *name, const char *as,
                          pega_function **out, pega_error *error) {
  pega_function *inner = NULL;
  pega_status status = get_inner(artifact, name, &inner, error);
  if (status != PEGA_OK) return status;
  if (artifact->watched || as != NULL) {
    pega_function *outer = NULL;
    status = wrap(artifact, inner, as == NULL ? pega_function_name(inner) : as,
                  artifact->watched ? call_watched : call_renamed, &outer, error);
    if (status != PEGA_OK) {
      pega_function_release(inner);
      return status;
    }
    inner = outer;
  }
  *out = inner;
  return PEGA_OK;
}

pega_status pega_artifact_get(pega_artifact *artifact, const char *name, pega_function **out,
                              pega_error *error) {
  pega_status status = check_artifact(artifact, name == NULL ? NULL : (const void *)out,
                                      name == NULL ? "name" : "out", "pega_artifact_get", error);
  return status != PEGA_OK ? status : get_as(artifact, name, NULL, out, error);
}

/* --------------------------------------------------------------------------------- registering -- */

/* Which artifact registered a name, for the texts of later conflicts. */
typedef struct origin {
  struct origin *next;
  const pega_function *function; /* compared, never used */
  char *path;
  char name[];
} origin;

static origin *origins; /* of the whole process; one a name */
static pthread_mutex_t origins_lock = PTHREAD_MUTEX_INITIALIZER;

/* What cannot be noted for want of memory is not noted. */
static void note_origin(const pega_artifact *artifact, const pega_function *function,
                        const char *name) {
  char *path = strdup(artifact->path);
  size_t size = strlen(name) + 1;
  if (path == NULL) return;
  pthread_mutex_lock(&origins_lock);
  origin *at = origins;
  while (at != NULL && strcmp(at->name, name) != 0) at = at->next;
  if (at == NULL) {
    at = malloc(sizeof *at + size);
    if (at != NULL) {
      memcpy(at->name, name, size);
      at->path = NULL;
      at->next = origins;
      origins = at;
    }
  }
  if (at != NULL) {
    free(at->path);
    at->path = path;
    at->function = function;
  } else {
    free(path);
  }
  pthread_mutex_unlock(&origins_lock);
}

/* Path of the artifact that registered what is registered as `name` now, on the heap; NULL if unknown. */
static char *origin_of(const char *name) {
  pega_function *now = NULL;
  if (pega_registry_get(name, &now, NULL) != PEGA_OK) return NULL;
  char *path = NULL;
  pthread_mutex_lock(&origins_lock);
  for (const origin *at = origins; at != NULL; at = at->next) {
    if (strcmp(at->name, name) == 0 && at->function == now) path = strdup(at->path);
  }
  pthread_mutex_unlock(&origins_lock);
  pega_function_release(now);
  return path;
}

static pega_status name_taken(const pega_artifact *artifact, const char *name, pega_error *error) {
  char *other = origin_of(name);
  pega_error_set(error, PEGA_ERROR_ALREADY_EXISTS, NULL,
                 "%s: its function '%s' was not registered, as there is one of that name already"
                 "%s%s; give a prefix, or PEGA_REGISTER_OVERRIDE to replace it; nothing of this "
                 "artifact was registered",
                 artifact->path, name, other == NULL ? "" : ", of ", other == NULL ? "" : other);
  free(other);
  return PEGA_ERROR_ALREADY_EXISTS;
}

/* One function on its way into the registry. */
typedef struct entry {
  pega_function *function;
  pega_function *replaced; /* what was there, or NULL */
} entry;

static pega_status collect(pega_artifact *artifact, const char *prefix, const pega_value *names,
                           entry *entries, int64_t count, pega_error *error) {
  pega_status status = PEGA_OK;
  for (int64_t i = 0; status == PEGA_OK && i < count; ++i) {
    const char *name = pega_value_as_string(pega_array_get(names, i), NULL);
    if (name == NULL) name = "";
    if (prefix[0] == '\0') {
      status = get_as(artifact, name, NULL, &entries[i].function, error);
      if (status == PEGA_OK && pega_function_name(entries[i].function)[0] == '\0') {
        status = pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                                "%s: its function '%s' has a name that the registry cannot hold; "
                                "nothing of this artifact was registered",
                                artifact->path, name);
      }
      continue;
    }
    char *whole = NULL;
    if (asprintf(&whole, "%s%s", prefix, name) < 0) return no_memory(artifact->path, error);
    status = get_as(artifact, name, whole, &entries[i].function, error);
    free(whole);
  }
  return status;
}

/* Adds all, or takes out again what was added. */
static pega_status add_all(const pega_artifact *artifact, entry *entries, int64_t count,
                           uint32_t flags, pega_error *error) {
  pega_status status = PEGA_OK;
  int64_t added = 0;
  for (; added < count; ++added) {
    const char *name = pega_function_name(entries[added].function);
    if (flags != 0) pega_registry_get(name, &entries[added].replaced, NULL);
    status = pega_registry_add(entries[added].function, flags, error);
    if (status == PEGA_ERROR_ALREADY_EXISTS) status = name_taken(artifact, name, error);
    if (status != PEGA_OK) break;
  }
  if (status == PEGA_OK) {
    for (int64_t i = 0; i < count; ++i) {
      note_origin(artifact, entries[i].function, pega_function_name(entries[i].function));
    }
    return PEGA_OK;
  }
  while (added-- > 0) {
    if (entries[added].replaced != NULL) {
      pega_registry_add(entries[added].replaced, PEGA_REGISTER_OVERRIDE, NULL);
    } else {
      pega_registry_remove(pega_function_name(entries[added].function), NULL);
    }
  }
  return status;
}

static const char *name_at(const pega_value *names, int64_t index) {
  const char *name = pega_value_as_string(pega_array_get(names, index), NULL);
  return name == NULL ? "" : name;
}

static void note_pack(const pega_artifact *artifact, const pega_value *names, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    pega_function *now = NULL;
    if (pega_registry_get(name_at(names, i), &now, NULL) != PEGA_OK) continue;
    note_origin(artifact, now, name_at(names, i));
    pega_function_release(now);
  }
}

/* Path of the artifact that has the name which `why` speaks of, on the heap; NULL if unknown. */
static char *origin_in(const pega_value *names, int64_t count, const char *why) {
  for (int64_t i = 0; i < count; ++i) {
    char quoted[512];
    int length = snprintf(quoted, sizeof quoted, "'%s'", name_at(names, i));
    if (length < 0 || (size_t)length >= sizeof quoted || strstr(why, quoted) == NULL) continue;
    return origin_of(name_at(names, i));
  }
  return NULL;
}

/* A pack without a prefix also gives built-in functions their kernels. */
static pega_status register_pack(pega_artifact *artifact, uint32_t flags, pega_error *error) {
  pega_value names = pega_value_none();
  pega_status status = pega_pack_list(artifact->pack, &names, error);
  if (status != PEGA_OK) return status;
  int64_t count = pega_value_size(&names);
  status = pega_pack_register(artifact->pack, flags, error);
  if (status == PEGA_OK) note_pack(artifact, &names, count);
  if (status != PEGA_OK && error != NULL) {
    pega_error why = PEGA_ERROR_INIT;
    pega_error_copy(error, &why);
    char *other = status == PEGA_ERROR_ALREADY_EXISTS
                      ? origin_in(&names, count, pega_error_message(&why))
                      : NULL;
    pega_error_set(error, status, pega_error_kind(&why), "%s: %s%s%s", artifact->path,
                   pega_error_message(&why), other == NULL ? "" : "; it is of ",
                   other == NULL ? "" : other);
    free(other);
    pega_error_clear(&why);
  }
  pega_value_release(&names);
  return status;
}

pega_status pega_artifact_register(pega_artifact *artifact, const char *prefix, uint32_t flags,
                                   pega_error *error) {
  pega_status status = check_artifact(artifact, artifact, "", "pega_artifact_register", error);
  if (status != PEGA_OK) return status;
  if ((flags & ~PEGA_REGISTER_OVERRIDE) != 0) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_artifact_register: unknown flags 0x%" PRIx32, flags);
  }
  if (prefix == NULL) prefix = "";
  if (artifact->pack != NULL && prefix[0] == '\0') return register_pack(artifact, flags, error);
  pega_value names = pega_value_none();
  status = pega_artifact_list(artifact, &names, error);
  if (status != PEGA_OK) return status;
  int64_t count = pega_value_size(&names);
  if (count < 0) count = 0;
  entry *entries = calloc((size_t)count + 1, sizeof *entries);
  if (entries == NULL) {
    status = no_memory(artifact->path, error);
  } else {
    status = collect(artifact, prefix, &names, entries, count, error);
    if (status == PEGA_OK) status = add_all(artifact, entries, count, flags, error);
    for (int64_t i = 0; i < count; ++i) {
      pega_function_release(entries[i].function);
      pega_function_release(entries[i].replaced);
    }
  }
  free(entries);
  pega_value_release(&names);
  return status;
}
