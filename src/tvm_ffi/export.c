/* SPDX-License-Identifier: Apache-2.0 */
/* pega functions as TVM FFI functions. */
#include <inttypes.h>
#include <stdlib.h>

#include "convert.h"
#include "core/text.h"
#include "error.h"
#include "metadata.h"

/* `self` of a TVM FFI function that calls a pega function. */
typedef struct exported {
  pega_tvm_ffi *runtime;
  pega_function *function; /* owned */
} exported;

enum { kStackArgs = 24 };

static int fail(pega_tvm_ffi *runtime, pega_error *error) {
  int code = tvm_ffi_error_raise(runtime, error);
  pega_error_clear(error);
  return code;
}

static int call_exported(void *data, const TVMFFIAny *any, int32_t num_args, TVMFFIAny *result) {
  const exported *self = data;
  pega_tvm_ffi *runtime = self->runtime;
  pega_value stack_args[kStackArgs];
  pega_value *args = stack_args;
  stack_args[0] = pega_value_none();
  pega_error error;
  pega_error_init(&error);
  if (num_args < 0 || (num_args > 0 && any == NULL)) {
    pega_error_set(&error, PEGA_ERROR_INVALID_ARGUMENT, NULL, "%s: %" PRId32 " arguments at %s",
                   pega_function_name(self->function), num_args,
                   any == NULL ? "NULL" : "an address");
    return fail(runtime, &error);
  }
  if (num_args > kStackArgs) {
    args = malloc((size_t)num_args * sizeof *args);
    if (args == NULL) {
      pega_error_set(&error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory for %" PRId32 " arguments",
                     num_args);
      return fail(runtime, &error);
    }
  }
  pega_status status = PEGA_OK;
  int32_t done = 0;
  for (; status == PEGA_OK && done < num_args; ++done) {
    if (tvm_ffi_plain_from_any(&any[done], &args[done])) continue;
    args[done] = pega_value_none();
    status = tvm_ffi_from_view(runtime, &any[done], &args[done], &error);
    if (status != PEGA_OK) {
      pega_error why = error;
      error = (pega_error)PEGA_ERROR_INIT;
      pega_error_set(&error, status, pega_error_kind(&why), "%s: argument %" PRId32 ": %s",
                     pega_function_name(self->function), done, pega_error_message(&why));
      pega_error_clear(&why);
    }
  }
  if (status == PEGA_OK) {
    pega_value returned;
    status = pega_function_call(self->function, args, num_args, &returned, &error);
    if (status == PEGA_OK && !tvm_ffi_plain_to_any(&returned, result)) {
      TVMFFIAny converted;
      status = tvm_ffi_result(runtime, &returned, &converted, &error);
      if (status == PEGA_OK) *result = converted;
      pega_value_release(&returned);
    }
  }
  for (int32_t i = 0; i < done; ++i) {
    if (args[i].flags != 0) pega_value_release(&args[i]);
  }
  if (args != stack_args) free(args);
  if (status != PEGA_OK) return fail(runtime, &error);
  if (error.detail != NULL) pega_error_clear(&error);
  return 0;
}

static void delete_exported(void *data) {
  exported *self = data;
  pega_function_release(self->function);
  free(self);
}

pega_status tvm_ffi_wrap(pega_tvm_ffi *runtime, pega_function *function, TVMFFIObjectHandle *out,
                         pega_error *error) {
  exported *self = malloc(sizeof *self);
  if (self == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory for a function");
  }
  self->runtime = runtime;
  self->function = pega_function_retain(function);
  int code = runtime->api.TVMFFIFunctionCreate(self, call_exported, delete_exported, out);
  if (code == 0) return PEGA_OK;
  delete_exported(self);
  return tvm_ffi_error_take(runtime, "TVMFFIFunctionCreate", code, error);
}

pega_status pega_tvm_ffi_function_to_handle(pega_tvm_ffi *runtime, pega_function *function,
                                            void **handle, pega_error *error) {
  if (runtime == NULL || function == NULL || handle == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_tvm_ffi_function_to_handle: %s is NULL",
                          runtime == NULL    ? "runtime"
                          : function == NULL ? "function"
                                             : "handle");
  }
  TVMFFIObjectHandle own = tvm_ffi_handle_of(runtime, function);
  if (own == NULL) return tvm_ffi_wrap(runtime, function, handle, error);
  runtime->api.TVMFFIObjectIncRef(own);
  *handle = own;
  return PEGA_OK;
}

/* --------------------------------------------------------------------------------- global names -- */

/* With the lock held. Asks first: the library itself would write to the log about a name that is
 * taken. *old receives the function that was there, to be released when the lock is given up, as its
 * deleter may be anybody's code. */
static pega_status register_locked(pega_tvm_ffi *runtime, const TVMFFIMethodInfo *info,
                                   uint32_t flags, TVMFFIObjectHandle *old, pega_error *error) {
  int code = runtime->api.TVMFFIFunctionGetGlobal(&info->name, old);
  if (code != 0) return tvm_ffi_error_take(runtime, "TVMFFIFunctionGetGlobal", code, error);
  if (*old != NULL && (flags & PEGA_REGISTER_OVERRIDE) == 0) {
    return pega_error_set(error, PEGA_ERROR_ALREADY_EXISTS, NULL,
                          "TVM FFI has a global function '%s' already; remove it first or export "
                          "with PEGA_REGISTER_OVERRIDE",
                          info->name.data);
  }
  code = runtime->api.TVMFFIFunctionSetGlobalFromMethodInfo(info, 1);
  if (code != 0) {
    return tvm_ffi_error_take(runtime, "TVMFFIFunctionSetGlobalFromMethodInfo", code, error);
  }
  return PEGA_OK;
}

/* The rule of pega's own names, so that a global can be imported under the name it has. */
static pega_status check_global_name(const char *name, pega_error *error) {
  char shown[96];
  size_t size = strnlen(name, PEGA_MAX_NAME + 1);
  bool blank = false;
  for (size_t i = 0; i < size; ++i) blank |= (unsigned char)name[i] <= ' ' || name[i] == 0x7f;
  blank |= size <= PEGA_MAX_NAME && !pega_text_is_utf8(name, size);
  if (size > 0 && size <= PEGA_MAX_NAME && !blank) return PEGA_OK;
  return pega_error_set(
      error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
      "global function name '%s': expected 1 to %d bytes of UTF-8 without blanks or control "
      "characters, got %s",
      pega_text_short_name(name, shown), PEGA_MAX_NAME,
      size == 0 ? "none"
      : blank   ? "one with"
                : "more");
}

pega_status pega_tvm_ffi_export(pega_tvm_ffi *runtime, const char *name, pega_function *function,
                                uint32_t flags, pega_error *error) {
  if (runtime == NULL || function == NULL || (flags & ~PEGA_REGISTER_OVERRIDE) != 0) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL, "pega_tvm_ffi_export: %s",
                          runtime == NULL    ? "runtime is NULL"
                          : function == NULL ? "function is NULL"
                                             : "unknown flags");
  }
  if (name == NULL) name = pega_function_name(function);
  pega_status status = check_global_name(name, error);
  if (status != PEGA_OK) return status;
  void *handle = NULL;
  status = pega_tvm_ffi_function_to_handle(runtime, function, &handle, error);
  if (status != PEGA_OK) return status;
  char *metadata = tvm_ffi_metadata(runtime, function);
  if (metadata == NULL) {
    runtime->release(handle);
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory to export '%s'", name);
  }
  const char *doc = pega_function_doc(function);
  TVMFFIMethodInfo info = {.name = {name, strlen(name)},
                           .doc = {doc, strlen(doc)},
                           .metadata = {metadata, strlen(metadata)},
                           .flags = kTVMFFIFieldFlagBitMaskIsStaticMethod,
                           .method = tvm_ffi_none()};
  info.method.type_index = kTVMFFIFunction;
  info.method.v_obj = handle;
  TVMFFIObjectHandle old = NULL;
  pthread_mutex_lock(&runtime->globals_lock);
  status = register_locked(runtime, &info, flags, &old, error);
  pthread_mutex_unlock(&runtime->globals_lock);
  if (old != NULL) runtime->release(old);
  runtime->release(handle);
  free(metadata);
  return status;
}

pega_status pega_tvm_ffi_export_all(pega_tvm_ffi *runtime, uint32_t flags, pega_value *out,
                                    pega_error *error) {
  if (runtime == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_tvm_ffi_export_all: runtime is NULL");
  }
  pega_value names = pega_value_none();
  pega_status status = pega_registry_list(&names, error);
  if (status != PEGA_OK) return status;
  int64_t size = pega_value_size(&names);
  int64_t done = 0;
  pega_value *exported_names = calloc((size_t)size + 1, sizeof *exported_names);
  if (exported_names == NULL) {
    status = pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL,
                            "no memory for %" PRId64 " names", size);
  }
  for (int64_t i = 0; status == PEGA_OK && i < size; ++i) {
    const pega_value *name = pega_array_get(&names, i);
    pega_function *function;
    /* A function may have been removed since the list was made. */
    if (pega_registry_get(pega_value_as_string(name, NULL), &function, NULL) != PEGA_OK) continue;
    pega_error why = PEGA_ERROR_INIT;
    status = pega_tvm_ffi_export(runtime, NULL, function, flags, &why);
    pega_function_release(function);
    if (status == PEGA_OK) {
      exported_names[done++] = *name;
    } else if (status == PEGA_ERROR_ALREADY_EXISTS) {
      status = PEGA_OK;
    } else {
      pega_error_copy(&why, error);
    }
    pega_error_clear(&why);
  }
  if (status == PEGA_OK && out != NULL)
    status = pega_array_create(exported_names, done, out, error);
  free(exported_names);
  pega_value_release(&names);
  return status;
}

pega_status pega_tvm_ffi_remove_global(pega_tvm_ffi *runtime, const char *name, pega_error *error) {
  if (runtime == NULL || name == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_tvm_ffi_remove_global: %s is NULL",
                          runtime == NULL ? "runtime" : "name");
  }
  if (runtime->globals.remove_global == NULL) {
    return pega_error_set(error, PEGA_ERROR_UNSUPPORTED, NULL,
                          "%s has no global function ffi.FunctionRemoveGlobal", runtime->path);
  }
  const pega_value argument = pega_value_string(name);
  TVMFFIAny key;
  TVMFFIAny removed = tvm_ffi_none();
  bool owned;
  pega_status status = tvm_ffi_argument(runtime, &argument, &key, &owned, error);
  if (status != PEGA_OK) return status;
  /* Its deleter may be anybody's code: what is removed is held, under the lock that removes it, until
   * the lock is given up. */
  TVMFFIByteArray bytes = {name, strlen(name)};
  TVMFFIObjectHandle kept = NULL;
  pthread_mutex_lock(&runtime->globals_lock);
  int code = runtime->api.TVMFFIFunctionGetGlobal(&bytes, &kept);
  if (code != 0) {
    status = tvm_ffi_error_take(runtime, "TVMFFIFunctionGetGlobal", code, error);
  } else if (kept != NULL) {
    status = tvm_ffi_call(runtime, runtime->globals.remove_global, "ffi.FunctionRemoveGlobal", &key,
                          1, &removed, error);
  }
  pthread_mutex_unlock(&runtime->globals_lock);
  if (owned) tvm_ffi_any_release(runtime, &key);
  if (status == PEGA_OK && kept == NULL) {
    /* Only for the text, which names the nearest. */
    pega_function *other = NULL;
    status = pega_tvm_ffi_get_global(runtime, name, &other, error);
    if (status == PEGA_OK) {
      pega_function_release(other);
      status = pega_error_set(error, PEGA_ERROR_NOT_FOUND, NULL,
                              "no TVM FFI global function '%s' was there to remove", name);
    }
  }
  if (kept != NULL) runtime->release(kept);
  return status;
}
