/* SPDX-License-Identifier: Apache-2.0 */
#include "installed.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool cli_installed(const char *place, char *path, size_t size) {
  char self[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
  if (length <= 0) return false;
  self[length] = '\0';
  /* PREFIX/bin/pega */
  for (int i = 0; i < 2; ++i) {
    char *slash = strrchr(self, '/');
    if (slash == NULL) return false;
    *slash = '\0';
  }
  const int written = snprintf(path, size, "%s/%s", self, place);
  return written > 0 && (size_t)written < size && access(path, F_OK) == 0;
}
