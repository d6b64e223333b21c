/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the pack that the tests export: make_pack FILE. */
#include <stdio.h>

#include "kernels.h"

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  bytes file = kernels_make();
  FILE *to = fopen(argv[1], "wb");
  bool good = to != NULL && fwrite(file.data, 1, file.size, to) == file.size;
  if (to != NULL && fclose(to) != 0) good = false;
  if (!good) perror(argv[1]);
  bytes_free(&file);
  return good ? 0 : 1;
}
