/* SPDX-License-Identifier: Apache-2.0 */
#include "places.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

enum { kMostCache = 1 << 26 };

static const char kCache[] = "/etc/ld.so.cache";

static void read_cache(pega_places *out) {
  int fd = open(kCache, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat status;
  if (fd < 0) return;
  if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0 &&
      status.st_size < kMostCache) {
    out->cache = malloc((size_t)status.st_size + 1);
  }
  while (out->cache != NULL && out->cache_size < (size_t)status.st_size) {
    ssize_t got = read(fd, out->cache + out->cache_size, (size_t)status.st_size - out->cache_size);
    if (got <= 0) break;
    out->cache_size += (size_t)got;
  }
  if (out->cache != NULL) out->cache[out->cache_size] = '\0';
  close(fd);
}

/* Where the standard folders begin in the loader's list, whose last they are. The list does not mark them:
 * they are what is called as they are, each once. */
static unsigned first_standard(const Dl_serinfo *info, void *library) {
  struct link_map *map = NULL;
  const char *own = dlinfo(library, RTLD_DI_LINKMAP, &map) == 0 ? map->l_name : "";
  const char *slash = strrchr(own, '/');
  size_t own_size = slash == NULL ? 0 : (size_t)(slash - own);
  unsigned first = info->dls_cnt;
  for (; first > 0; --first) {
    const char *name = info->dls_serpath[first - 1].dls_name;
    bool is_own = own_size > 0 && strncmp(name, own, own_size) == 0 && name[own_size] == '\0';
    if (!is_own && strncmp(name, "/lib", 4) != 0 && strncmp(name, "/usr/lib", 8) != 0) break;
    bool again = false;
    for (unsigned i = first; i < info->dls_cnt; ++i) {
      again = again || strcmp(info->dls_serpath[i].dls_name, name) == 0;
    }
    if (again) break;
  }
  return first;
}

/* The folders that the loader searches for a library without a search path of its own: libc is one. */
static bool read_folders(pega_places *out) {
  void *library = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
  if (library == NULL) library = dlopen(NULL, RTLD_LAZY);
  if (library == NULL) return true;
  Dl_serinfo size;
  Dl_serinfo *info = NULL;
  bool done = dlinfo(library, RTLD_DI_SERINFOSIZE, &size) != 0;
  if (!done) info = malloc(size.dls_size);
  if (info != NULL) {
    *info = size;
    done = dlinfo(library, RTLD_DI_SERINFO, info) != 0;
    out->folders = done ? NULL : calloc(info->dls_cnt + 1, sizeof *out->folders);
    out->standard = done ? NULL : calloc(info->dls_cnt + 1, sizeof *out->standard);
    bool room = out->folders != NULL && out->standard != NULL;
    unsigned first = done ? 0 : first_standard(info, library);
    for (unsigned i = 0; room && i < info->dls_cnt; ++i) {
      char *folder = strdup(info->dls_serpath[i].dls_name);
      if (folder == NULL) {
        room = false;
      } else if (i >= first) {
        out->standard[out->num_standard++] = folder;
      } else {
        out->folders[out->num_folders++] = folder;
      }
    }
    done = done || room;
  }
  free(info);
  dlclose(library);
  return done;
}

/* $LIB is what the standard folders are called below the root, and nothing says it but their names. */
static bool read_lib(pega_places *out) {
  const char *last = NULL;
  const char *at = out->num_standard == 0 ? NULL : out->standard[0];
  while (at != NULL && (at = strstr(at, "/lib")) != NULL) last = ++at;
  if (last == NULL) return true;
  out->lib = strdup(last);
  if (out->lib == NULL) return false;
  size_t size = strlen(out->lib);
  while (size > 0 && out->lib[size - 1] == '/') out->lib[--size] = '\0';
  return true;
}

/* What depends on the processor. */
static void read_processor(pega_places *out) {
  unsigned long platform = getauxval(AT_PLATFORM);
  if (platform != 0) out->platform = (const char *)platform;
#if defined(__x86_64__)
  int major = 0;
  int minor = 0;
  size_t count = 0;
  __builtin_cpu_init();
  bool v2 = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("ssse3") &&
            __builtin_cpu_supports("popcnt");
  bool v3 = v2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
            __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("fma");
  bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512vl");
  /* The C library calls such processors by a name of its own. */
  if (v3 && __builtin_cpu_is("intel")) out->platform = "haswell";
  if (sscanf(gnu_get_libc_version(), "%d.%d", &major, &minor) != 2 || major != 2 || minor < 33) {
    return;
  }
  if (v4) out->subfolders[count++] = "glibc-hwcaps/x86-64-v4";
  if (v3) out->subfolders[count++] = "glibc-hwcaps/x86-64-v3";
  if (v2) out->subfolders[count++] = "glibc-hwcaps/x86-64-v2";
#endif
}

bool pega_places_read(pega_places *out) {
  memset(out, 0, sizeof *out);
  if (!read_folders(out) || !read_lib(out)) {
    pega_places_free(out);
    return false;
  }
  read_processor(out);
  read_cache(out);
  return true;
}

void pega_places_free(pega_places *places) {
  for (size_t i = 0; i < places->num_folders; ++i) free(places->folders[i]);
  for (size_t i = 0; i < places->num_standard; ++i) free(places->standard[i]);
  free(places->folders);
  free(places->standard);
  free(places->cache);
  free(places->lib);
  memset(places, 0, sizeof *places);
}

/* Whether a path is in this subfolder; NULL: in none. */
static bool is_in(const char *path, const char *subfolder) {
  const char *at = strstr(path, "/glibc-hwcaps/");
  if (subfolder == NULL || at == NULL) return subfolder == NULL && at == NULL;
  size_t size = strlen(subfolder);
  return strncmp(at + 1, subfolder, size) == 0 && at[1 + size] == '/';
}

static bool cached_in(const pega_places *places, const char *name, const char *subfolder,
                      bool (*test)(void *self, const char *path), void *self) {
  size_t size = strlen(name);
  const char *end = places->cache + places->cache_size;
  for (const char *at = places->cache;; ++at) {
    at = memmem(at, (size_t)(end - at), name, size + 1);
    if (at == NULL) return false;
    if (at == places->cache || at[-1] != '/') continue;
    const char *path = at;
    while (path > places->cache && path[-1] != '\0') --path;
    if (path[0] == '/' && is_in(path, subfolder) && test(self, path)) return true;
  }
}

/* The cache's layout is the C library's own; its text is what can be relied on: full paths, each ended by
 * a NUL. */
bool pega_places_cached(const pega_places *places, const char *name,
                        bool (*test)(void *self, const char *path), void *self) {
  if (places->cache == NULL || name[0] == '\0') return false;
  for (size_t i = 0;; ++i) {
    if (cached_in(places, name, places->subfolders[i], test, self)) return true;
    if (places->subfolders[i] == NULL) return false;
  }
}

/* What "$NAME" or "${NAME}" at `at` stands for, and how long it is; NULL if it is none that is known. */
static const char *token_at(const pega_places *places, const char *at, const char *end,
                            const char *origin, size_t *size) {
  static const char *const names[] = {"ORIGIN", "LIB", "PLATFORM"};
  const char *const values[] = {origin, places->lib, places->platform};
  for (size_t i = 0; i < 3; ++i) {
    char braced[16];
    snprintf(braced, sizeof braced, "${%s}", names[i]);
    size_t name_size = strlen(names[i]);
    *size = name_size + 3;
    if ((size_t)(end - at) >= *size && memcmp(at, braced, *size) == 0) return values[i];
    *size = name_size + 1;
    if ((size_t)(end - at) >= *size && memcmp(at + 1, names[i], name_size) == 0) return values[i];
  }
  return NULL;
}

bool pega_places_next(const pega_places *places, const char **at, const char *origin,
                      char *folder) {
  while (*at != NULL) {
    const char *from = *at;
    const char *end = strchrnul(from, ':');
    *at = *end == '\0' ? NULL : end + 1;
    size_t size = 0;
    bool fits = true;
    while (from < end && fits) {
      const char *piece = from;
      size_t piece_size = 1;
      size_t taken = 1;
      if (*from == '$') {
        piece = token_at(places, from, end, origin, &taken);
        piece_size = piece == NULL ? 0 : strlen(piece);
      }
      fits = piece != NULL && size + piece_size + 2 < PATH_MAX;
      if (fits) memcpy(folder + size, piece, piece_size);
      size += piece_size;
      from += taken;
    }
    if (!fits) continue;
    if (size == 0) folder[size++] = '.';
    folder[size] = '\0';
    return true;
  }
  return false;
}
