/* SPDX-License-Identifier: Apache-2.0 */
#include "locate.h"

#include <dirent.h>
#include <dlfcn.h>
#include <link.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct name_list {
  char **names;
  size_t count;
  size_t capacity;
} name_list;

/* Only collects: the loader's lock is held here, and dlopen would take it again. */
static int collect(struct dl_phdr_info *info, size_t size, void *data) {
  (void)size;
  name_list *list = data;
  if (list->count == list->capacity) {
    size_t capacity = list->capacity == 0 ? 64 : list->capacity * 2;
    char **names = realloc(list->names, capacity * sizeof *names);
    if (names == NULL) return 1;
    list->names = names;
    list->capacity = capacity;
  }
  char *name = strdup(info->dlpi_name == NULL ? "" : info->dlpi_name);
  if (name == NULL) return 1;
  list->names[list->count++] = name;
  return 0;
}

/* Whether the object called `name` ("" is the program) itself defines TVM FFI's version symbol. */
static bool is_copy(const char *name, tvm_ffi_copy *copy) {
  bool program = name[0] == '\0';
  void *library = dlopen(program ? NULL : name, RTLD_LAZY | RTLD_NOLOAD);
  if (library == NULL) return false;
  void *symbol = dlsym(library, "TVMFFIGetVersion");
  struct link_map *map = NULL;
  Dl_info info;
  bool found = false;
  /* dlsym also searches what the object needs: ask whose the symbol is. */
  if (symbol != NULL && dlinfo(library, RTLD_DI_LINKMAP, &map) == 0 && dladdr(symbol, &info) != 0) {
    Dl_info own;
    found = dladdr(map->l_ld, &own) != 0 && own.dli_fbase == info.dli_fbase;
    copy->base = info.dli_fbase;
  }
  dlclose(library);
  if (!found) return false;
  char program_path[4096];
  if (program) {
    ssize_t size = readlink("/proc/self/exe", program_path, sizeof program_path - 1);
    program_path[size > 0 ? size : 0] = '\0';
    name = program_path;
  }
  copy->path = strdup(name);
  return copy->path != NULL;
}

size_t tvm_ffi_find_copies(tvm_ffi_copy *copies, size_t capacity) {
  name_list list = {NULL, 0, 0};
  dl_iterate_phdr(collect, &list);
  size_t count = 0;
  for (size_t i = 0; i < list.count; ++i) {
    tvm_ffi_copy copy;
    if (is_copy(list.names[i], &copy)) {
      if (count < capacity) {
        copies[count] = copy;
      } else {
        free(copy.path);
      }
      ++count;
    }
    free(list.names[i]);
  }
  free(list.names);
  return count;
}

void tvm_ffi_free_copies(tvm_ffi_copy *copies, size_t count) {
  for (size_t i = 0; i < count; ++i) free(copies[i].path);
}

/* Cuts the last component off a path. */
static bool cut(char *path) {
  char *slash = strrchr(path, '/');
  if (slash == NULL) return false;
  *slash = '\0';
  return true;
}

char *tvm_ffi_wheel_version(const char *path) {
  static const char prefix[] = "apache_tvm_ffi-";
  static const char suffix[] = ".dist-info";
  char *folder = realpath(path, NULL);
  char *version = NULL;
  /* .../site-packages/tvm_ffi/lib/libtvm_ffi.so */
  DIR *entries =
      folder != NULL && cut(folder) && cut(folder) && cut(folder) ? opendir(folder) : NULL;
  for (struct dirent *entry; entries != NULL && version == NULL && (entry = readdir(entries));) {
    size_t size = strlen(entry->d_name);
    if (size > sizeof prefix + sizeof suffix - 2 &&
        strncmp(entry->d_name, prefix, sizeof prefix - 1) == 0 &&
        strcmp(entry->d_name + size - (sizeof suffix - 1), suffix) == 0) {
      version = strndup(entry->d_name + sizeof prefix - 1,
                        size - (sizeof prefix - 1) - (sizeof suffix - 1));
    }
  }
  if (entries != NULL) closedir(entries);
  free(folder);
  return version;
}
