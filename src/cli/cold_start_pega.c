/* SPDX-License-Identifier: Apache-2.0 */
/* cold_start_pega PACK: from a process's start to the solve's first result, by the library. */
#include <pega/pack.h>
#include <pega/qwen35.h>

#include "cold_start.h"

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  CUdeviceptr a_tril;
  CUdeviceptr a_inv;
  cold_begin(&a_tril, &a_inv);
  const double start = cold_now();
  pega_error error = PEGA_ERROR_INIT;
  pega_pack_options options = PEGA_PACK_OPTIONS_INIT;
  options.path = argv[1];
  pega_pack *pack;
  pega_function *solve;
  const pega_value args[] = {pega_value_pointer((void *)(uintptr_t)a_tril),
                             pega_value_pointer((void *)(uintptr_t)a_inv), pega_value_int(64),
                             pega_value_int(1), pega_value_pointer(NULL)};
  if (pega_pack_open(&options, &pack, &error) != PEGA_OK ||
      pega_pack_get(pack, PEGA_QWEN35_CHUNK_SOLVE_RAW, &solve, &error) != PEGA_OK ||
      pega_function_call(solve, args, 5, NULL, &error) != PEGA_OK) {
    fprintf(stderr, "%s\n", pega_error_message(&error));
    return 1;
  }
  const int code = cold_end(a_inv, start);
  pega_function_release(solve);
  pega_pack_release(pack);
  return code;
}
