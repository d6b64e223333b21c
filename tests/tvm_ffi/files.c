/* SPDX-License-Identifier: Apache-2.0 */
#include "files.h"

#include <elf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int files_write(const char *path, const void *bytes, size_t size) {
  FILE *file = fopen(path, "wb");
  if (file == NULL) return -1;
  size_t written = size == 0 ? 0 : fwrite(bytes, 1, size, file);
  return fclose(file) == 0 && written == size ? 0 : -1;
}

long files_size(const char *path) {
  struct stat status;
  return stat(path, &status) == 0 ? (long)status.st_size : -1;
}

int files_copy(const char *from, const char *to) {
  long size = files_size(from);
  FILE *file = size < 0 ? NULL : fopen(from, "rb");
  if (file == NULL) return -1;
  char *bytes = malloc((size_t)size + 1);
  size_t got = bytes == NULL ? 0 : fread(bytes, 1, (size_t)size, file);
  fclose(file);
  /* A new file: the old one may be mapped by a process that runs. */
  unlink(to);
  int result = bytes != NULL && got == (size_t)size ? files_write(to, bytes, got) : -1;
  free(bytes);
  return result == 0 ? chmod(to, 0755) : -1;
}

int files_patch(const char *path, long offset, const void *bytes, size_t size) {
  FILE *file = fopen(path, "r+b");
  if (file == NULL) return -1;
  size_t written = fseek(file, offset, SEEK_SET) == 0 ? fwrite(bytes, 1, size, file) : 0;
  return fclose(file) == 0 && written == size ? 0 : -1;
}

int files_truncate(const char *path, long size) { return truncate(path, size); }

int files_copy_for_other_architecture(const char *from, const char *to) {
#if defined(__aarch64__)
  const uint16_t machine = EM_X86_64;
#else
  const uint16_t machine = EM_AARCH64;
#endif
  if (files_copy(from, to) != 0) return -1;
  return files_patch(to, (long)offsetof(Elf64_Ehdr, e_machine), &machine, sizeof machine);
}
