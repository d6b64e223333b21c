/* SPDX-License-Identifier: Apache-2.0 */
#include "support_cublas.h"

#include <dlfcn.h>

fake_cublas *cublas_start(const char *machine, const char *library, uint64_t workspace_bytes) {
  pega_error error = PEGA_ERROR_INIT;
  pega_cublas_options options = PEGA_CUBLAS_OPTIONS_INIT;
  machine_start(machine);
  options.library_path = library;
  options.workspace_bytes = workspace_bytes;
  EXPECT_OK(pega_cublas_open(&options, &error), &error);
  void *opened = dlopen(library, RTLD_NOW | RTLD_NOLOAD);
  assert_non_null(opened);
  void *address = dlsym(opened, "fake_cublas_get");
  assert_non_null(address);
  fake_cublas_getter get;
  memcpy(&get, &address, sizeof get);
  return get();
}

void cublas_expect_clean(const fake_cublas *state) {
  assert_int_equal(state->shared_handles, 0);
  assert_int_equal(state->shared_workspaces, 0);
  assert_int_equal(state->wrong_contexts, 0);
  assert_int_equal(state->no_workspaces, 0);
}

pega_function *cublas_function(void) {
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function = NULL;
  EXPECT_OK(pega_cublas_gemm(&function, &error), &error);
  return function;
}

int cublas_type(DLDataType dtype) {
  return dtype.bits == 32 ? NUMBER_F32 : dtype.code == kDLBfloat ? NUMBER_BF16 : NUMBER_F16;
}
