/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host calls a function of an artifact (example_module.c): open the runtime, open the artifact,
 * get the function, call it on tensors of the host's own memory. Nothing is copied.
 *
 *   example_host_calls_dsl [ARTIFACT]
 */
#include <pega/pega.h>
#include <pega/tvm_ffi.h>
#include <stdio.h>

/* A float32 vector over memory that stays the caller's. */
static DLTensor vector_over(float *data, int64_t *shape) {
  DLTensor tensor = {
      .data = data,
      .device = {kDLCPU, 0},
      .ndim = 1,
      .dtype = {kDLFloat, 32, 1},
      .shape = shape,
  };
  return tensor;
}

static pega_status call_add_one(pega_function *add_one, pega_error *error) {
  float x[] = {1, 2, 3};
  float y[] = {0, 0, 0};
  int64_t shape[] = {3};
  DLTensor from = vector_over(x, shape);
  DLTensor to = vector_over(y, shape);
  const pega_value args[] = {pega_value_tensor(&from), pega_value_tensor(&to)};
  pega_status status = pega_function_call(add_one, args, 2, NULL, error);
  if (status == PEGA_OK) {
    printf("add_one([1, 2, 3]) = [%g, %g, %g]\n", (double)y[0], (double)y[1], (double)y[2]);
  }
  return status;
}

int main(int argc, char **argv) {
  const char *path = argc > 1 ? argv[1] : EXAMPLE_MODULE;
  pega_error error = PEGA_ERROR_INIT;
  pega_tvm_ffi *runtime = NULL;
  pega_tvm_ffi_module *module = NULL;
  pega_function *add_one = NULL;

  /* NULL options: $PEGA_TVM_FFI_LIBRARY, a copy in the process, the build's, the system's. */
  pega_status status = pega_tvm_ffi_open(NULL, &runtime, &error);
  if (status == PEGA_OK) status = pega_tvm_ffi_module_open(runtime, path, &module, &error);
  if (status == PEGA_OK) status = pega_tvm_ffi_module_get(module, "add_one", &add_one, &error);
  if (status == PEGA_OK) status = call_add_one(add_one, &error);
  if (status != PEGA_OK) {
    fprintf(stderr, "%s: %s\n", pega_error_kind(&error), pega_error_message(&error));
  }

  pega_function_release(add_one);
  pega_tvm_ffi_module_close(module);
  pega_tvm_ffi_close(runtime);
  pega_error_clear(&error);
  return status == PEGA_OK ? 0 : 1;
}
