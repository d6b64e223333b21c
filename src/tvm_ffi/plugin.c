/* SPDX-License-Identifier: Apache-2.0 */
/* This library as a TVM FFI module: what `tvm_ffi.load_module(".../libpega_tvm_ffi.so")` finds. */
#include <dlfcn.h>

#include "convert.h"
#include "error.h"

#define PLUGIN_FUNCTION __attribute__((visibility("default")))

/* Opens the runtime that the caller runs in. Its error functions are looked up by name where there
 * is no runtime to raise the error with. */
static pega_tvm_ffi *open_caller(void) {
  pega_error error = PEGA_ERROR_INIT;
  pega_tvm_ffi *runtime = NULL;
  if (tvm_ffi_open_in_process(&runtime, &error) != PEGA_OK) {
    void (*raise)(const char *kind, const char *message);
    *(void **)&raise = dlsym(RTLD_DEFAULT, "TVMFFIErrorSetRaisedFromCStr");
    if (raise != NULL) raise("RuntimeError", pega_error_message(&error));
    pega_error_clear(&error);
  }
  return runtime;
}

static int finish(pega_tvm_ffi *runtime, pega_status status, pega_value *value, TVMFFIAny *result,
                  pega_error *error) {
  if (status == PEGA_OK) status = tvm_ffi_result(runtime, value, result, error);
  pega_value_release(value);
  int code = status == PEGA_OK ? 0 : tvm_ffi_error_raise(runtime, error);
  pega_error_clear(error);
  return code;
}

/* pega_register(override=false): registers every function of the library as a global; the names. */
PLUGIN_FUNCTION int __tvm_ffi_pega_register(void *self, const TVMFFIAny *args, int32_t num_args,
                                            TVMFFIAny *result);
int __tvm_ffi_pega_register(void *self, const TVMFFIAny *args, int32_t num_args,
                            TVMFFIAny *result) {
  (void)self;
  pega_tvm_ffi *runtime = open_caller();
  if (runtime == NULL) return -1;
  pega_error error = PEGA_ERROR_INIT;
  pega_value names = pega_value_none();
  pega_status status = PEGA_OK;
  if (num_args > 1 || (num_args == 1 && args[0].type_index != kTVMFFIBool)) {
    status = pega_error_set(&error, PEGA_ERROR_TYPE, NULL,
                            "pega_register: expected no argument or override: bool");
  } else {
    bool override = num_args == 1 && args[0].v_int64 != 0;
    status =
        pega_tvm_ffi_export_all(runtime, override ? PEGA_REGISTER_OVERRIDE : 0, &names, &error);
  }
  return finish(runtime, status, &names, result, &error);
}

/* pega_get(name): a function of the library, without registering it. */
PLUGIN_FUNCTION int __tvm_ffi_pega_get(void *self, const TVMFFIAny *args, int32_t num_args,
                                       TVMFFIAny *result);
int __tvm_ffi_pega_get(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  pega_tvm_ffi *runtime = open_caller();
  if (runtime == NULL) return -1;
  pega_error error = PEGA_ERROR_INIT;
  pega_value name = pega_value_none();
  pega_value found = pega_value_none();
  pega_status status = PEGA_OK;
  if (num_args == 1) status = tvm_ffi_from_view(runtime, &args[0], &name, &error);
  size_t size = 0;
  const char *text = pega_value_as_string(&name, &size);
  if (status == PEGA_OK &&
      (text == NULL || size > PEGA_MAX_NAME || memchr(text, 0, size) != NULL)) {
    status = pega_error_set(&error, PEGA_ERROR_TYPE, NULL,
                            "pega_get: expected the name of a function, at most %d bytes",
                            PEGA_MAX_NAME);
  }
  if (status == PEGA_OK) {
    /* A view's text need not end in NUL. */
    char key[PEGA_MAX_NAME + 1];
    memcpy(key, text, size);
    key[size] = '\0';
    pega_function *function = NULL;
    status = pega_registry_get(key, &function, &error);
    /* The value takes the reference. */
    if (status == PEGA_OK) found = pega_value_function(function);
  }
  pega_value_release(&name);
  return finish(runtime, status, &found, result, &error);
}

/* pega_version(): "0.1.0". */
PLUGIN_FUNCTION int __tvm_ffi_pega_version(void *self, const TVMFFIAny *args, int32_t num_args,
                                           TVMFFIAny *result);
int __tvm_ffi_pega_version(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  pega_tvm_ffi *runtime = open_caller();
  if (runtime == NULL) return -1;
  pega_error error = PEGA_ERROR_INIT;
  pega_value version = pega_value_string(pega_version_string());
  pega_status status = PEGA_OK;
  if (num_args != 0) {
    status = pega_error_set(&error, PEGA_ERROR_ARGUMENT_COUNT, NULL,
                            "pega_version: expected no argument, got %d", (int)num_args);
  }
  return finish(runtime, status, &version, result, &error);
}
