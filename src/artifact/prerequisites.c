/* SPDX-License-Identifier: Apache-2.0 */
/* Builds the graph of what a file needs the way the dynamic loader would map it (breadth first, a library
 * that is there by its name is taken), then looks up each symbol in the scope that it would be bound in. */
#include "prerequisites.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/text.h"
#include "pack/arena.h"
#include "places.h"
#include "wheel.h"

enum { kMostNodes = 4096, kShownSymbols = 3 };

typedef struct node {
  const char *name; /* as it is wanted */
  const char *path; /* "" if it is nowhere */
  const char *where;
  const char *wanted_by;
  const pega_elf *elf; /* of a file that would be loaded */
  pega_elf own;        /* what `elf` is, but for the file itself */
  void *handle;        /* of a library in the process */
  int32_t parent;      /* who wants it, -1 for nobody in the graph */
  int32_t *needs;      /* nodes, in the order of the file's list */
  int32_t num_needs;
  bool direct;
  bool extra;
  bool step;   /* the dynamic loader would not find it on its own, or not give it to all */
  bool loaded; /* by an earlier step */
  bool global; /* for all that is loaded after it */
  int mark;    /* of a walk */
} node;

/* A library in the process whose file had to be read, to tell its versions. */
typedef struct pega_read_file {
  char *path;
  pega_elf elf;
  struct pega_read_file *next;
} pega_read_file;

typedef struct pega_prerequisites_memory {
  pega_arena arena;
} pega_prerequisites_memory;

typedef struct finder {
  const pega_prerequisite_search *search;
  pega_prerequisites *out;
  pega_arena *arena;
  pega_places places;
  void *program;
  node **nodes;
  int32_t num_nodes;
  int32_t capacity;
  int32_t missing_capacity;
  pega_read_file *read_files;
  int mark;
  bool no_memory;
} finder;

static const char *keep(finder *find, const char *text) {
  const char *copy = pega_arena_text(find->arena, text, strlen(text));
  if (copy == NULL) find->no_memory = true;
  return copy == NULL ? "" : copy;
}

/* Takes the sentence. */
static void add_missing(finder *find, pega_status status, pega_heap_text *sentence) {
  pega_prerequisites *out = find->out;
  if (sentence->failed || sentence->data == NULL) find->no_memory = true;
  if (!find->no_memory && out->num_missing == find->missing_capacity) {
    int32_t capacity = find->missing_capacity == 0 ? 8 : find->missing_capacity * 2;
    const char **missing = pega_arena_alloc(find->arena, (size_t)capacity, sizeof *missing);
    if (missing == NULL) {
      find->no_memory = true;
    } else {
      for (int32_t i = 0; i < out->num_missing; ++i) missing[i] = out->missing[i];
      out->missing = missing;
      find->missing_capacity = capacity;
    }
  }
  if (!find->no_memory) {
    out->missing[out->num_missing] = keep(find, sentence->data);
    if (out->num_missing == 0) out->status = status;
    ++out->num_missing;
  }
  free(sentence->data);
}

static bool same_file(const char *a, const char *b) {
  struct stat x;
  struct stat y;
  return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* The last part of a path. */
static const char *base_name(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash == NULL ? path : slash + 1;
}

static const char *path_of_handle(finder *find, void *handle) {
  struct link_map *map = NULL;
  if (dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0 || map->l_name[0] == '\0') {
    char program[PATH_MAX];
    ssize_t size = readlink("/proc/self/exe", program, sizeof program - 1);
    program[size > 0 ? size : 0] = '\0';
    return keep(find, program);
  }
  return keep(find, map->l_name);
}

/* ----------------------------------------------------------------------------------- the graph -- */

static node *add_node(finder *find, const char *name, int32_t parent) {
  if (find->num_nodes == find->capacity) {
    int32_t capacity = find->capacity == 0 ? 32 : find->capacity * 2;
    node **nodes = realloc(find->nodes, (size_t)capacity * sizeof(node *));
    if (nodes == NULL) {
      find->no_memory = true;
      return NULL;
    }
    find->nodes = nodes;
    find->capacity = capacity;
  }
  node *added = calloc(1, sizeof *added);
  if (added == NULL) {
    find->no_memory = true;
    return NULL;
  }
  added->name = name;
  added->path = "";
  added->where = "";
  added->parent = parent;
  added->wanted_by = parent >= 0 ? find->nodes[parent]->path : "";
  find->nodes[find->num_nodes++] = added;
  return added;
}

/* A look for one library. */
typedef struct hunt {
  finder *find;
  const char *name;
  const char *where;    /* of the places that are being looked at */
  const char *taken;    /* "" until it is found */
  const char *taken_in; /* where */
  pega_elf elf;         /* of what was taken */
  bool by_name;         /* only a file that calls itself `name` is of use */
  bool elf_wanted;
  pega_heap_text refused; /* what was there and was no good */
} hunt;

static void refuse(hunt *look, const char *path, const char *why) {
  pega_heap_text_printf(&look->refused, "%s%s (%s)", look->refused.size == 0 ? "" : ", ", path,
                        why);
}

/* Takes the file at `path` if it can be loaded. */
static bool consider(void *self, const char *path) {
  hunt *look = self;
  if (access(path, F_OK) != 0) return false;
  char *real = realpath(path, NULL);
  if (real == NULL) return false;
  if (!look->elf_wanted) {
    look->taken = keep(look->find, real);
    look->taken_in = look->where;
    free(real);
    return true;
  }
  pega_error error = PEGA_ERROR_INIT;
  pega_elf elf;
  memset(&elf, 0, sizeof elf);
  pega_status status = pega_elf_read_interface(real, &elf, &error);
  if (status == PEGA_OK) status = pega_elf_check_loadable(&elf, &error);
  if (status == PEGA_ERROR_OUT_OF_MEMORY) look->find->no_memory = true;
  if (status != PEGA_OK) {
    /* The text begins with the path. */
    const char *text = pega_error_message(&error);
    size_t size = strlen(real);
    if (strncmp(text, real, size) == 0 && text[size] == ':') text += size + 1;
    refuse(look, real, text + strspn(text, " "));
  } else if (look->by_name && strcmp(elf.soname, look->name) != 0) {
    char why[320];
    snprintf(why, sizeof why,
             "its name for the dynamic loader, DT_SONAME, is %s%.100s%s: it cannot stand for it",
             elf.soname[0] == '\0' ? "not set" : "'", elf.soname, elf.soname[0] == '\0' ? "" : "'");
    refuse(look, real, why);
    status = PEGA_ERROR_NOT_FOUND;
  } else {
    look->taken = keep(look->find, real);
    look->taken_in = look->where;
    look->elf = elf;
  }
  if (status != PEGA_OK) pega_elf_free(&elf);
  pega_error_clear(&error);
  free(real);
  return status == PEGA_OK;
}

static bool consider_in(hunt *look, const char *folder) {
  char path[PATH_MAX];
  int length = snprintf(path, sizeof path, "%s/%s", folder, look->name);
  return length > 0 && (size_t)length < sizeof path && consider(look, path);
}

/* The same as the dynamic loader does: subfolders for this processor come first. */
static bool consider_within(hunt *look, const char *folder) {
  char path[PATH_MAX];
  for (const char *const *at = look->find->places.subfolders; *at != NULL; ++at) {
    int length = snprintf(path, sizeof path, "%s/%s", folder, *at);
    if (length > 0 && (size_t)length < sizeof path && consider_in(look, path)) return true;
  }
  return consider_in(look, folder);
}

static bool consider_along(hunt *look, const char *search_path, const char *file) {
  char folder[PATH_MAX];
  char *origin = strdup(file);
  if (origin == NULL) {
    look->find->no_memory = true;
    return false;
  }
  char *slash = strrchr(origin, '/');
  if (slash != NULL) *slash = '\0';
  const char *at = search_path[0] == '\0' ? NULL : search_path;
  bool found = false;
  while (!found && pega_places_next(&look->find->places, &at, origin, folder)) {
    found = consider_within(look, folder);
  }
  free(origin);
  return found;
}

/* The dynamic loader's own search on behalf of node `parent` (-1: a plain dlopen). */
static bool consider_own(hunt *look, int32_t parent) {
  finder *find = look->find;
  const pega_elf *wanting = parent >= 0 ? find->nodes[parent]->elf : NULL;
  look->where = "file";
  if (wanting == NULL || wanting->runpath[0] == '\0') {
    for (int32_t at = parent; at >= 0; at = find->nodes[at]->parent) {
      const pega_elf *elf = find->nodes[at]->elf;
      if (elf == NULL || elf->runpath[0] != '\0') continue;
      if (consider_along(look, elf->rpath, elf->path)) return true;
    }
  }
  look->where = "system";
  for (size_t i = 0; i < find->places.num_folders; ++i) {
    if (consider_within(look, find->places.folders[i])) return true;
  }
  look->where = "file";
  if (wanting != NULL && consider_along(look, wanting->runpath, wanting->path)) return true;
  look->where = "system";
  if (pega_places_cached(&find->places, look->name, consider, look)) return true;
  for (size_t i = 0; i < find->places.num_standard; ++i) {
    if (consider_within(look, find->places.standard[i])) return true;
  }
  return false;
}

static void looked_in(const finder *find, int32_t parent, pega_heap_text *text) {
  const pega_elf *wanting = parent >= 0 ? find->nodes[parent]->elf : NULL;
  pega_heap_text_printf(text, "the process");
  for (int32_t i = 0; i < find->search->num_folders; ++i) {
    pega_heap_text_printf(text, ", %s", find->search->folders[i]);
  }
  if (find->search->num_folders == 0) pega_heap_text_printf(text, ", no given folders");
  if (wanting != NULL && wanting->runpath[0] != '\0') {
    pega_heap_text_printf(text, ", the file's RUNPATH (%s)", wanting->runpath);
  } else if (wanting != NULL && wanting->rpath[0] != '\0') {
    pega_heap_text_printf(text, ", the file's RPATH (%s)", wanting->rpath);
  }
  const char *environment = getenv("LD_LIBRARY_PATH");
  pega_heap_text_printf(text, "%s, the system's folders",
                        environment != NULL && environment[0] != '\0' ? ", LD_LIBRARY_PATH" : "");
}

static void missing_library(finder *find, const node *lacking, hunt *look) {
  pega_heap_text text = {NULL, 0, 0, 0};
  if (lacking->parent >= 0) {
    pega_heap_text_printf(&text, "%s needs library '%s', which was not found",
                          find->nodes[lacking->parent]->path, lacking->name);
  } else {
    pega_heap_text_printf(&text, "library '%s' is needed by %s, and was not found", lacking->name,
                          lacking->wanted_by);
  }
  if (look->refused.size > 0) pega_heap_text_printf(&text, "; refused: %s", look->refused.data);
  pega_heap_text_printf(&text, "; looked in ");
  looked_in(find, lacking->parent, &text);
  pega_heap_text_printf(&text, "; install it, or give the folder that holds it as a search path");
  add_missing(find, look->refused.size > 0 ? PEGA_ERROR_FORMAT : PEGA_ERROR_NOT_FOUND, &text);
}

/* A library of this name that is in the process. Of a path the dynamic loader opens the file to compare it:
 * what is no file is not shown to it, as opening a pipe may take for ever and a device may act on it. */
static void *in_process(const char *name) {
  struct stat status;
  if (strchr(name, '/') != NULL && stat(name, &status) == 0 && !S_ISREG(status.st_mode)) {
    return NULL;
  }
  return dlopen(name, RTLD_LAZY | RTLD_NOLOAD);
}

/* A node that the dynamic loader would take for `name` because it is mapped already. */
static int32_t mapped(const finder *find, const char *name) {
  bool is_path = strchr(name, '/') != NULL;
  for (int32_t i = 0; i < find->num_nodes; ++i) {
    const node *at = find->nodes[i];
    if (strcmp(at->name, name) == 0) return i;
    if (at->elf != NULL && strcmp(at->elf->soname, name) == 0) return i;
    if (is_path && at->path[0] != '\0' && same_file(at->path, name)) return i;
  }
  return -1;
}

/* Another node of the same file, under another name. */
static int32_t same_node(const finder *find, const node *one) {
  for (int32_t i = 0; i < find->num_nodes; ++i) {
    const node *at = find->nodes[i];
    if (at == one || at->path[0] == '\0') continue;
    if (strcmp(at->path, one->path) == 0 || same_file(at->path, one->path)) return i;
  }
  return -1;
}

/* Finds library `name`; returns its node, or -1 without memory. */
static int32_t resolve(finder *find, const char *name, int32_t parent, bool extra) {
  int32_t known = mapped(find, name);
  if (known >= 0) return known;
  node *added = find->num_nodes < kMostNodes ? add_node(find, keep(find, name), parent) : NULL;
  if (added == NULL) {
    find->no_memory = true;
    return -1;
  }
  added->extra = extra;
  if (parent < 0) added->wanted_by = find->search->wanted_by == NULL ? "" : find->search->wanted_by;
  int32_t self = find->num_nodes - 1;
  added->handle = in_process(name);
  if (added->handle != NULL) {
    added->path = path_of_handle(find, added->handle);
    added->where = "process";
    return self;
  }
  hunt look;
  memset(&look, 0, sizeof look);
  look.find = find;
  look.name = name;
  look.taken = "";
  look.elf_wanted = true;
  bool found = false;
  if (strchr(name, '/') != NULL) {
    look.where = extra ? "given folder" : "file";
    added->step = extra;
    found = consider(&look, name);
  } else {
    look.where = "given folder";
    look.by_name = !extra;
    for (int32_t i = 0; !found && i < find->search->num_folders; ++i) {
      found = consider_in(&look, find->search->folders[i]);
    }
    added->step = found || extra;
    look.by_name = false;
    if (found && !extra) {
      /* Where the dynamic loader finds the same file by itself, it need not be helped. */
      hunt own = {.find = find, .name = name, .taken = ""};
      if (consider_own(&own, parent)) added->step = !same_file(own.taken, look.taken);
      free(own.refused.data);
    }
    if (!found) found = consider_own(&look, extra ? find->num_nodes > 1 ? 0 : -1 : parent);
  }
  if (found) {
    added->own = look.elf;
    added->elf = &added->own;
    added->path = look.taken;
    added->where = look.taken_in;
    int32_t twin = same_node(find, added);
    if (twin >= 0) {
      pega_elf_free(&added->own);
      free(added);
      --find->num_nodes;
      self = twin;
    } else if ((added->handle = in_process(added->path)) != NULL) {
      /* In the process under another name, a link to it say. */
      pega_elf_free(&added->own);
      added->elf = NULL;
      added->where = "process";
      added->step = false;
    }
  } else if (!find->no_memory) {
    missing_library(find, added, &look);
  }
  free(look.refused.data);
  return self;
}

/* Follows what nodes need from `first` on, breadth first. */
static void spread(finder *find, int32_t first) {
  for (int32_t i = first; i < find->num_nodes && !find->no_memory; ++i) {
    node *at = find->nodes[i];
    if (at->elf == NULL || at->needs != NULL) continue;
    at->needs = pega_arena_alloc(find->arena, (size_t)at->elf->num_needed, sizeof *at->needs);
    if (at->needs == NULL) {
      find->no_memory = true;
      return;
    }
    for (int32_t k = 0; k < at->elf->num_needed; ++k) {
      char folder[PATH_MAX];
      const char *name = at->elf->needed[k];
      const char *expanding = name;
      if (strchr(name, '$') != NULL) {
        /* A name may hold $ORIGIN and its like as a search path does. */
        char *origin = strdup(at->elf->path);
        char *slash = origin == NULL ? NULL : strrchr(origin, '/');
        if (slash != NULL) *slash = '\0';
        if (origin != NULL && pega_places_next(&find->places, &expanding, origin, folder)) {
          name = folder;
        }
        free(origin);
      }
      int32_t found = resolve(find, name, i, false);
      if (found < 0) return;
      if (i == 0) find->nodes[found]->direct = true;
      at->needs[at->num_needs++] = found;
    }
  }
}

/* -------------------------------------------------------------------------------------- symbols -- */

/* Whether a definition answers to a wanted version. As for the dynamic loader one without any does, and to
 * who wants none a hidden one does only if it is of the oldest version. */
static bool version_fits(const pega_elf_symbol *defined, const char *version) {
  if (version[0] == '\0') return !defined->hidden_version || defined->oldest_version;
  return defined->version[0] == '\0' || strcmp(defined->version, version) == 0;
}

/* The first definition of `name` in a file's sorted list; `end` receives where they end. */
static int32_t definitions(const pega_elf *elf, const char *name, int32_t *end) {
  int32_t low = 0;
  int32_t high = elf->num_defined;
  while (low < high) {
    int32_t middle = low + (high - low) / 2;
    if (strcmp(elf->defined[middle].name, name) < 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  *end = low;
  while (*end < elf->num_defined && strcmp(elf->defined[*end].name, name) == 0) ++*end;
  return low;
}

static bool file_defines(const pega_elf *elf, const char *name, const char *version) {
  int32_t end;
  for (int32_t i = definitions(elf, name, &end); i < end; ++i) {
    if (version_fits(&elf->defined[i], version)) return true;
  }
  return false;
}

/* The file of a library in the process, read once; NULL if it cannot be. */
static const pega_elf *read_again(finder *find, const char *path) {
  for (pega_read_file *at = find->read_files; at != NULL; at = at->next) {
    if (strcmp(at->path, path) == 0) return at->elf.path == NULL ? NULL : &at->elf;
  }
  pega_read_file *added = calloc(1, sizeof *added);
  if (added != NULL) added->path = strdup(path);
  if (added == NULL || added->path == NULL) {
    free(added);
    find->no_memory = true;
    return NULL;
  }
  if (pega_elf_read_interface(path, &added->elf, NULL) != PEGA_OK)
    memset(&added->elf, 0, sizeof added->elf);
  added->next = find->read_files;
  find->read_files = added;
  return added->elf.path == NULL ? NULL : &added->elf;
}

/* Path of the object that holds an address, "" if that cannot be told. */
static const char *path_of_address(const void *address) {
  Dl_info info;
  if (address == NULL || dladdr(address, &info) == 0 || info.dli_fname == NULL) return "";
  return info.dli_fname;
}

/* Looks a symbol up in a library of the process and what it needs, or in all that is global there.
 * `provider` receives the path, "" if unknown. */
static bool handle_defines(finder *find, void *handle, const char *name, const char *version,
                           const char **provider) {
  void *address = version[0] == '\0' ? dlsym(handle, name) : dlvsym(handle, name, version);
  *provider = "";
  if (address != NULL) {
    *provider = path_of_address(address);
    return true;
  }
  if (version[0] == '\0') return false;
  /* A library without versions answers for any. */
  address = dlsym(handle, name);
  if (address == NULL) return false;
  const char *path = path_of_address(address);
  const pega_elf *elf = path[0] == '/' ? read_again(find, path) : NULL;
  if (elf == NULL || !file_defines(elf, name, version)) return false;
  *provider = path;
  return true;
}

/* The nodes that a load of `root` maps, breadth first; returns how many. */
static int32_t scope_of(finder *find, int32_t root, int32_t *scope) {
  int mark = ++find->mark;
  int32_t count = 0;
  scope[count++] = root;
  find->nodes[root]->mark = mark;
  for (int32_t i = 0; i < count; ++i) {
    const node *at = find->nodes[scope[i]];
    for (int32_t k = 0; k < at->num_needs; ++k) {
      node *next = find->nodes[at->needs[k]];
      if (next->mark == mark) continue;
      next->mark = mark;
      scope[count++] = at->needs[k];
    }
  }
  return count;
}

/* Who of what is in the process defines a symbol whose address tells nothing: a thread's own variable. */
static const char *find_definer(finder *find, const char *name, const char *version) {
  for (int32_t i = 0; i < find->num_nodes; ++i) {
    const node *at = find->nodes[i];
    const pega_elf *elf = at->handle == NULL ? NULL : read_again(find, at->path);
    if (elf != NULL && file_defines(elf, name, version)) return at->path;
  }
  return path_of_handle(find, find->program);
}

static bool node_defines(finder *find, const node *at, const char *name, const char *version,
                         const char **provider) {
  if (at->elf != NULL) {
    *provider = at->path;
    return file_defines(at->elf, name, version);
  }
  return at->handle != NULL && handle_defines(find, at->handle, name, version, provider);
}

/* Who would provide a symbol to what is loaded with `scope`: the process, what was loaded before for all,
 * then the scope. */
static bool provided(finder *find, const int32_t *scope, int32_t count, const char *name,
                     const char *version, const char **provider) {
  if (handle_defines(find, find->program, name, version, provider)) return true;
  for (int32_t i = 0; i < find->num_nodes; ++i) {
    const node *at = find->nodes[i];
    if (at->global && node_defines(find, at, name, version, provider)) return true;
  }
  for (int32_t i = 0; i < count; ++i) {
    if (node_defines(find, find->nodes[scope[i]], name, version, provider)) return true;
  }
  *provider = "";
  return false;
}

/* Compares versions as people count: runs of digits are numbers. */
static int compare_versions(const char *a, const char *b) { return strverscmp(a, b); }

/* The greatest version of the same family ("GLIBC_2.38": the family is "GLIBC_") that a file has, or
 * NULL. `has` tells whether it has `version` itself, `any` whether it has versions at all. */
static const char *greatest_version(const pega_elf *elf, const char *version, bool *has,
                                    bool *any) {
  const char *underscore = strrchr(version, '_');
  size_t family = underscore == NULL ? 0 : (size_t)(underscore - version) + 1;
  const char *greatest = NULL;
  *has = false;
  *any = false;
  for (int32_t i = 0; i < elf->num_defined; ++i) {
    const char *one = elf->defined[i].version;
    if (one[0] == '\0') continue;
    *any = true;
    if (strcmp(one, version) == 0) *has = true;
    if (strncmp(one, version, family) != 0 || one[family] < '0' || one[family] > '9') continue;
    if (greatest == NULL || compare_versions(one, greatest) > 0) greatest = one;
  }
  return greatest;
}

/* " (of the Python wheel some-project 1.2.3)" */
static void tell_wheel(const char *path, pega_heap_text *text) {
  pega_wheel wheel;
  if (!pega_wheel_of(path, &wheel)) return;
  pega_heap_text_printf(text, " (of the Python wheel %s %s)", wheel.name, wheel.version);
  pega_wheel_free(&wheel);
}

/* Whether the file is of the C library and its like: never the answer to where a symbol should be. */
static bool is_plumbing(const char *name) {
  static const char *const names[] = {"libc.so",      "libm.so",     "libdl.so",  "libpthread.so",
                                      "librt.so",     "libgcc_s.so", "ld-linux",  "libstdc++.so",
                                      "libresolv.so", "libutil.so",  "libc++.so", "libc++abi.so"};
  const char *base = base_name(name);
  for (size_t i = 0; i < sizeof names / sizeof *names; ++i) {
    if (strncmp(base, names[i], strlen(names[i])) == 0) return true;
  }
  return false;
}

/* What was asked for, and where that lies. */
static void tell_other(const pega_wheel *wanting, const pega_wheel *found, const char *found_path,
                       const char *requirement, pega_heap_text *text) {
  pega_wheel other;
  char *other_path;
  if (pega_wheel_beside(wanting->site, found->name, base_name(found_path), &other, &other_path)) {
    if (!same_file(other_path, found_path)) {
      pega_heap_text_printf(text, "; %s %s lies at %s: let this process use that one, or",
                            other.name, other.version, other_path);
    } else {
      pega_heap_text_printf(text, ";");
    }
    free(other_path);
    pega_wheel_free(&other);
  } else {
    pega_heap_text_printf(text, ";");
  }
  pega_heap_text_printf(text, " install %s", requirement);
}

/* What is known of the wheels on both sides of a missing symbol. */
static void tell_requirements(finder *find, const node *lacking, const int32_t *scope,
                              int32_t count, pega_heap_text *text) {
  pega_wheel wanting;
  if (!pega_wheel_of(lacking->path, &wanting)) return;
  for (int32_t i = 0; i < count; ++i) {
    const node *at = find->nodes[scope[i]];
    pega_wheel found;
    if (at == lacking || at->path[0] == '\0' || is_plumbing(at->name)) continue;
    if (!pega_wheel_of(at->path, &found)) continue;
    char *requirement =
        strcmp(found.info, wanting.info) == 0 ? NULL : pega_wheel_requirement(&wanting, found.name);
    if (requirement != NULL) {
      pega_heap_text_printf(text, "; %s %s asks for %s, and found is %s %s", wanting.name,
                            wanting.version, requirement, found.name, found.version);
      tell_other(&wanting, &found, at->path, requirement, text);
    }
    free(requirement);
    pega_wheel_free(&found);
    if (requirement != NULL) break;
  }
  pega_wheel_free(&wanting);
}

/* How another one is chosen, where what was chosen for the file does not fit. */
static void tell_advice(const finder *find, const int32_t *scope, int32_t count,
                        pega_heap_text *text) {
  bool has_extra = false;
  for (int32_t i = 0; i < count; ++i) has_extra = has_extra || find->nodes[scope[i]]->extra;
  if (!has_extra || find->search->advice == NULL) return;
  pega_heap_text_printf(text, "; %s", find->search->advice);
}

static bool is_of_wheel(const char *path, const pega_wheel *wheel) {
  pega_wheel other;
  if (!pega_wheel_of(path, &other)) return false;
  bool same = strcmp(other.info, wheel->info) == 0;
  pega_wheel_free(&other);
  return same;
}

/* Symbols of one file that nobody defines. */
typedef struct lack {
  const char *names[kShownSymbols];
  int32_t count;
} lack;

static void missing_symbols(finder *find, const node *lacking, const lack *symbols,
                            const int32_t *scope, int32_t count) {
  pega_heap_text text = {NULL, 0, 0, 0};
  pega_heap_text_printf(&text, "%s needs the symbol%s", lacking->path,
                        symbols->count == 1 ? "" : "s");
  for (int32_t i = 0; i < symbols->count && i < kShownSymbols; ++i) {
    pega_heap_text_printf(&text, "%s %s", i == 0 ? "" : ",", symbols->names[i]);
  }
  if (symbols->count > kShownSymbols) {
    pega_heap_text_printf(&text, " and %" PRId32 " more", symbols->count - kShownSymbols);
  }
  pega_heap_text_printf(&text, ", and nothing that is loaded or would be defines %s",
                        symbols->count == 1 ? "it" : "them");
  bool first = true;
  pega_wheel own;
  bool has_own = pega_wheel_of(lacking->path, &own);
  for (int32_t i = 0; i < count; ++i) {
    const node *at = find->nodes[scope[i]];
    if (at == lacking || at->path[0] == '\0' || is_plumbing(at->name)) continue;
    /* What comes in the same wheel is not what is amiss. */
    if (has_own && is_of_wheel(at->path, &own)) continue;
    pega_heap_text_printf(&text, "%s %s", first ? "; found:" : ",", at->path);
    tell_wheel(at->path, &text);
    first = false;
  }
  if (has_own) pega_wheel_free(&own);
  size_t before = text.size;
  tell_requirements(find, lacking, scope, count, &text);
  if (text.size == before) {
    pega_heap_text_printf(
        &text, first ? "; it names no library that could: load what defines it first, or link it "
                       "with that"
                     : "; it was built against another version of one of these, or lacks a library "
                       "that it does not name");
  }
  tell_advice(find, scope, count, &text);
  add_missing(find, PEGA_ERROR_SYMBOL, &text);
}

/* A version of a library that a file wants and the library does not have. */
static bool check_version(finder *find, const node *wanting, const pega_elf_symbol *symbol) {
  if (symbol->library[0] == '\0' || symbol->version[0] == '\0') return true;
  int32_t index = mapped(find, symbol->library);
  const node *at = index < 0 ? NULL : find->nodes[index];
  if (at == NULL || at->path[0] == '\0') return true; /* said already */
  const char *provider;
  if (node_defines(find, at, symbol->name, symbol->version, &provider)) return true;
  const pega_elf *elf = at->elf != NULL ? at->elf : read_again(find, at->path);
  if (elf == NULL) return true;
  bool has;
  bool any;
  const char *greatest = greatest_version(elf, symbol->version, &has, &any);
  if (has || !any) return true; /* the symbol itself is looked for elsewhere, too */
  pega_heap_text text = {NULL, 0, 0, 0};
  pega_heap_text_printf(&text, "%s needs version %s of %s (for symbol %s), and %s", wanting->path,
                        symbol->version, symbol->library, symbol->name, at->path);
  tell_wheel(at->path, &text);
  if (strcmp(at->where, "process") == 0) pega_heap_text_printf(&text, ", already in the process,");
  if (greatest == NULL) {
    pega_heap_text_printf(&text, " has no such version");
  } else {
    pega_heap_text_printf(&text, " has it up to %s", greatest);
  }
  pega_heap_text_printf(
      &text, "; install a newer %s%s, or build the file on a system as old as this one",
      symbol->library,
      strcmp(at->where, "process") == 0 ? " and let the process load that one" : "");
  add_missing(find, PEGA_ERROR_VERSION, &text);
  return false;
}

/* Whether a scope holds a library that is nowhere: what it would define is not known then. */
static bool has_gap(const finder *find, const int32_t *scope, int32_t count) {
  for (int32_t i = 0; i < count; ++i) {
    if (find->nodes[scope[i]]->path[0] == '\0') return true;
  }
  for (int32_t i = 1; i < find->num_nodes; ++i) {
    if (find->nodes[i]->extra && find->nodes[i]->path[0] == '\0') return true;
  }
  return false;
}

/* Checks a file that needs what the search named: whether its wheel asks for another version of that. */
static void check_wheels(finder *find, const node *at, const int32_t *scope, int32_t count) {
  pega_wheel wanting = {NULL, NULL, NULL, NULL};
  bool known = false;
  for (int32_t i = 0; i < at->num_needs; ++i) {
    const node *extra = find->nodes[at->needs[i]];
    pega_wheel found;
    if (!extra->extra || extra->path[0] == '\0') continue;
    if (!known && !pega_wheel_of(at->path, &wanting)) return;
    known = true;
    if (!pega_wheel_of(extra->path, &found)) continue;
    char *refusal = strcmp(found.info, wanting.info) == 0
                        ? NULL
                        : pega_wheel_refusal(&wanting, found.name, found.version);
    if (refusal != NULL) {
      pega_heap_text text = {NULL, 0, 0, 0};
      pega_heap_text_printf(&text, "%s (of the Python wheel %s %s) asks for %s, and found is %s",
                            at->path, wanting.name, wanting.version, refusal, extra->path);
      tell_wheel(extra->path, &text);
      tell_other(&wanting, &found, extra->path, refusal, &text);
      tell_advice(find, scope, count, &text);
      add_missing(find, PEGA_ERROR_VERSION, &text);
    }
    free(refusal);
    pega_wheel_free(&found);
  }
  pega_wheel_free(&wanting);
}

/* Checks the files that a load of `root` would map. */
static void check_load(finder *find, int32_t root, int32_t *scope) {
  int32_t count = scope_of(find, root, scope);
  bool gap = has_gap(find, scope, count);
  for (int32_t i = 0; i < count && !find->no_memory; ++i) {
    const node *at = find->nodes[scope[i]];
    if (at->elf == NULL || at->loaded) continue;
    lack symbols = {{NULL}, 0};
    const char *told[16]; /* versions that were said to be missing */
    size_t num_told = 0;
    for (int32_t k = 0; k < at->elf->num_undefined && !find->no_memory; ++k) {
      const pega_elf_symbol *symbol = &at->elf->undefined[k];
      const char *provider = "";
      bool known = false;
      for (size_t t = 0; t < num_told; ++t) known = known || strcmp(told[t], symbol->version) == 0;
      if (!known && !symbol->weak && !check_version(find, at, symbol)) {
        known = true;
        if (num_told < sizeof told / sizeof *told) told[num_told++] = symbol->version;
      }
      bool found = provided(find, scope, count, symbol->name, symbol->version, &provider);
      if (found && provider[0] == '\0' && scope[i] == 0) {
        provider = find_definer(find, symbol->name, symbol->version);
      }
      if (scope[i] == 0) {
        pega_wanted_symbol *wanted = &find->out->symbols[find->out->num_symbols++];
        wanted->name = symbol->name;
        wanted->version = symbol->version;
        wanted->library = found && !known ? keep(find, provider) : "";
        wanted->weak = symbol->weak;
      }
      if (found || known || symbol->weak || gap) continue;
      if (symbols.count < kShownSymbols) symbols.names[symbols.count] = symbol->name;
      ++symbols.count;
    }
    if (find->no_memory) break;
    if (symbols.count > 0) {
      missing_symbols(find, at, &symbols, scope, count);
    } else {
      check_wheels(find, at, scope, count);
    }
  }
  for (int32_t i = 0; i < count; ++i) find->nodes[scope[i]]->loaded = true;
}

/* --------------------------------------------------------------------------------------- steps -- */

/* Orders what is to be loaded below `index` so that what a file needs comes before it. `helped` is the
 * number of files on the way here that must themselves be loaded first. */
static void order(finder *find, int32_t index, int32_t *steps, int32_t *num_steps, int32_t *way,
                  int32_t depth) {
  node *at = find->nodes[index];
  at->mark = 1; /* on the way */
  way[depth] = index;
  for (int32_t i = 0; i < at->num_needs && !find->no_memory; ++i) {
    node *next = find->nodes[at->needs[i]];
    if (next->mark == 0) {
      order(find, at->needs[i], steps, num_steps, way, depth + 1);
    } else if (next->mark == 1 && (next->step || at->needs[i] == 0) && next != at) {
      /* A ring. If a file between the two is loaded on its own, it is loaded before `next`. */
      int32_t k = depth;
      while (way[k] != at->needs[i] && !find->nodes[way[k]]->step) --k;
      if (way[k] == at->needs[i]) continue;
      pega_heap_text text = {NULL, 0, 0, 0};
      pega_heap_text_printf(
          &text,
          "%s needs library '%s', and that needs it in turn; both lie in folders that the dynamic "
          "loader does not know, so neither can be loaded first; link them with RUNPATH $ORIGIN, or "
          "name the folder in LD_LIBRARY_PATH before the program starts",
          at->path, next->name);
      add_missing(find, PEGA_ERROR_NOT_FOUND, &text);
    }
  }
  at->mark = 2;
  if (at->step && index != 0) steps[(*num_steps)++] = index;
}

static bool make_steps(finder *find, const int32_t *roots, int32_t num_roots) {
  size_t room = (size_t)find->num_nodes;
  int32_t *steps = pega_arena_alloc(find->arena, room, sizeof *steps);
  int32_t *way = pega_arena_alloc(find->arena, room + 1, sizeof *way);
  int32_t *scope = pega_arena_alloc(find->arena, room, sizeof *scope);
  pega_prerequisites *out = find->out;
  out->steps = pega_arena_alloc(find->arena, room, sizeof *out->steps);
  out->symbols = pega_arena_alloc(find->arena, (size_t)find->nodes[0]->elf->num_undefined,
                                  sizeof *out->symbols);
  if (steps == NULL || way == NULL || scope == NULL || out->steps == NULL || out->symbols == NULL) {
    return false;
  }
  int32_t num_steps = 0;
  for (int32_t i = 0; i < find->num_nodes; ++i) find->nodes[i]->mark = 0;
  for (int32_t i = 0; i < num_roots; ++i) {
    if (find->nodes[roots[i]]->mark == 0) order(find, roots[i], steps, &num_steps, way, 0);
  }
  find->mark = 2;
  for (int32_t i = 0; i < num_steps && !find->no_memory; ++i) {
    node *at = find->nodes[steps[i]];
    if (at->path[0] == '\0') continue;
    check_load(find, steps[i], scope);
    if (at->extra) {
      int32_t count = scope_of(find, steps[i], scope);
      for (int32_t k = 0; k < count; ++k) find->nodes[scope[k]]->global = true;
    }
    out->steps[out->num_steps].path = at->path;
    out->steps[out->num_steps].global = at->extra;
    ++out->num_steps;
  }
  if (!find->no_memory) check_load(find, 0, scope);
  return !find->no_memory;
}

/* -------------------------------------------------------------------------------------- the whole -- */

static bool list_libraries(finder *find) {
  pega_prerequisites *out = find->out;
  out->libraries = pega_arena_alloc(find->arena, (size_t)find->num_nodes, sizeof *out->libraries);
  if (out->libraries == NULL) return false;
  /* The file's own first. */
  for (int pass = 0; pass < 2; ++pass) {
    for (int32_t i = 1; i < find->num_nodes; ++i) {
      const node *at = find->nodes[i];
      if (at->direct != (pass == 0)) continue;
      pega_prerequisite *to = &out->libraries[out->num_libraries++];
      to->name = at->name;
      to->path = at->path;
      to->where = at->where;
      to->wanted_by = keep(find, at->wanted_by);
      to->direct = at->direct;
      to->extra = at->extra;
    }
  }
  return !find->no_memory;
}

static bool run(finder *find, const pega_elf *file) {
  const pega_prerequisite_search *search = find->search;
  if (!pega_places_read(&find->places)) return false;
  find->program = dlopen(NULL, RTLD_LAZY);
  node *root = add_node(find, file->path, -1);
  if (root == NULL) return false;
  root->path = file->path;
  root->elf = file;
  int32_t *roots = pega_arena_alloc(find->arena, (size_t)search->num_extras + 1, sizeof *roots);
  if (roots == NULL) return false;
  /* Extras are loaded before the file: what they map is there when the file's turn comes. */
  for (int32_t i = 0; i < search->num_extras && !find->no_memory; ++i) {
    roots[i] = resolve(find, search->extras[i], -1, true);
    if (roots[i] < 0) return false;
    node *at = find->nodes[roots[i]];
    at->extra = true;
    /* What is in the process may be there for those alone that asked for it: loading it once more, for
     * all, makes it so. */
    if (at->handle != NULL) at->step = true;
    spread(find, roots[i] == 0 ? 1 : roots[i]);
  }
  roots[search->num_extras] = 0;
  spread(find, 0);
  return !find->no_memory && make_steps(find, roots, search->num_extras + 1) &&
         list_libraries(find);
}

static void end(finder *find) {
  for (int32_t i = 0; i < find->num_nodes; ++i) {
    node *at = find->nodes[i];
    if (at->handle != NULL) dlclose(at->handle);
    if (at->elf == &at->own) pega_elf_free(&at->own);
    free(at);
  }
  free(find->nodes);
  while (find->read_files != NULL) {
    pega_read_file *at = find->read_files;
    find->read_files = at->next;
    pega_elf_free(&at->elf);
    free(at->path);
    free(at);
  }
  if (find->program != NULL) dlclose(find->program);
  pega_places_free(&find->places);
}

pega_status pega_prerequisites_find(const pega_elf *file, const pega_prerequisite_search *search,
                                    pega_prerequisites *out, pega_error *error) {
  memset(out, 0, sizeof *out);
  out->memory = calloc(1, sizeof *out->memory);
  finder find;
  memset(&find, 0, sizeof find);
  find.search = search;
  find.out = out;
  bool done = out->memory != NULL;
  if (done) {
    find.arena = &out->memory->arena;
    pega_error refused = PEGA_ERROR_INIT;
    pega_status status = pega_elf_check_loadable(file, &refused);
    if (status == PEGA_OK) {
      done = run(&find, file);
    } else {
      pega_heap_text text = {NULL, 0, 0, 0};
      pega_heap_text_printf(&text, "%s", pega_error_message(&refused));
      add_missing(&find, status, &text);
      done = !find.no_memory;
    }
    pega_error_clear(&refused);
  }
  end(&find);
  if (done) return PEGA_OK;
  pega_prerequisites_free(out);
  return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL,
                        "%s: no memory to look for what it needs", file->path);
}

void pega_prerequisites_free(pega_prerequisites *prerequisites) {
  if (prerequisites->memory != NULL) pega_arena_free(&prerequisites->memory->arena);
  free(prerequisites->memory);
  memset(prerequisites, 0, sizeof *prerequisites);
}
