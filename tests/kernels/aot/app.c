/* SPDX-License-Identifier: Apache-2.0 */
/* Writes what the library carries to standard output. */
#include <stdio.h>

const unsigned char *own_pack(size_t *size);

int main(void) {
  size_t size = 0;
  const unsigned char *pack = own_pack(&size);
  return fwrite(pack, 1, size, stdout) != size;
}
