/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cold_start_driver CUBIN ENTRY GRID_X GRID_Y GRID_Z BLOCK_X BLOCK_Y BLOCK_Z SHARED VALUE...: the same by
 * the driver alone. A VALUE is in, out, or a number of at most 8 bytes.
 */
#include <string.h>

#include "cold_start.h"

static void *read_file(const char *path) {
  FILE *file = fopen(path, "rb");
  if (file == NULL || fseek(file, 0, SEEK_END) != 0) return NULL;
  const long size = ftell(file);
  rewind(file);
  void *bytes = size < 0 ? NULL : malloc((size_t)size);
  if (bytes != NULL && fread(bytes, 1, (size_t)size, file) != (size_t)size) return NULL;
  fclose(file);
  return bytes;
}

int main(int argc, char **argv) {
  uint64_t storage[16];
  void *params[16];
  unsigned n[7];
  if (argc < 10 || argc > 26) return 2;
  CUdeviceptr a_tril;
  CUdeviceptr a_inv;
  cold_begin(&a_tril, &a_inv);
  const double start = cold_now();
  for (int i = 0; i < 7; ++i) n[i] = (unsigned)strtoul(argv[3 + i], NULL, 10);
  for (int i = 10; i < argc; ++i) {
    storage[i - 10] = strcmp(argv[i], "in") == 0    ? a_tril
                      : strcmp(argv[i], "out") == 0 ? a_inv
                                                    : strtoull(argv[i], NULL, 10);
    params[i - 10] = &storage[i - 10];
  }
  void *cubin = read_file(argv[1]);
  if (cubin == NULL) return 1;
  CUmodule module;
  CUfunction function;
  cold_must(gpu.module_load(&module, cubin), "cuModuleLoadData");
  cold_must(gpu.module_function(&function, module, argv[2]), "cuModuleGetFunction");
  if (n[6] > 48 * 1024) {
    cold_must(gpu.function_set(function, GPU_FUNCTION_MAX_SHARED, (int)n[6]), "cuFuncSetAttribute");
  }
  cold_must(gpu.launch(function, n[0], n[1], n[2], n[3], n[4], n[5], n[6], NULL, params, NULL),
            "cuLaunchKernel");
  const int code = cold_end(a_inv, start);
  free(cubin);
  return code;
}
