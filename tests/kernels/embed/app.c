/* SPDX-License-Identifier: Apache-2.0 */
/* app FILE: exits 0 if what is embedded in three places is FILE, aligned to 64 bytes. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif
const unsigned char *in_shared(size_t *size);
const unsigned char *in_static(size_t *size);
#ifdef __cplusplus
}
#endif

static int check(const char *where, const unsigned char *bytes, size_t size,
                 const unsigned char *want, size_t want_size) {
  if (size != want_size || memcmp(bytes, want, size) != 0) {
    fprintf(stderr, "%s: %zu bytes are not the %zu of the file\n", where, size, want_size);
    return 1;
  }
  if ((uintptr_t)bytes % 64 != 0) {
    fprintf(stderr, "%s: not aligned: %p\n", where, (const void *)bytes);
    return 1;
  }
  return 0;
}

int main(int argc, char **argv) {
  static unsigned char want[1 << 16];
  size_t size = 0, want_size;
  const unsigned char *bytes;
  FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
  int failed = 0;
  if (file == NULL) return 2;
  want_size = fread(want, 1, sizeof want, file);
  fclose(file);
  failed |= check("program", app_kernels, app_kernels_size, want, want_size);
  bytes = in_shared(&size);
  failed |= check("shared library", bytes, size, want, want_size);
  bytes = in_static(&size);
  failed |= check("static library", bytes, size, want, want_size);
  return failed;
}
