/* SPDX-License-Identifier: Apache-2.0 */
/* Uses libpega_cublas as far as it goes without a GPU: there may be none on the machine. */
#include <pega/cublas.h>
#include <stdio.h>

int main(void) {
  pega_error error = PEGA_ERROR_INIT;
  pega_function *gemm = NULL;
  pega_cublas_options options = PEGA_CUBLAS_OPTIONS_INIT;
  options.library_path = "/nowhere/libcublas.so";
  const pega_status opened = pega_cublas_open(&options, &error);
  const pega_status registered = pega_cublas_register(0, &error);
  const pega_status got = pega_registry_get(PEGA_CUBLAS_GEMM, &gemm, &error);
  pega_function_release(gemm);
  pega_error_clear(&error);
  if (opened == PEGA_OK || registered != PEGA_OK || got != PEGA_OK) return 1;
  printf("consumer of cuBLAS through pega %s: ok\n", pega_version_string());
  return pega_cublas_close(NULL) != PEGA_OK;
}
