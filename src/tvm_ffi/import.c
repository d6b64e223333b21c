/* SPDX-License-Identifier: Apache-2.0 */
/* TVM FFI functions as pega functions. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "artifact/foreign_call.h"
#include "convert.h"
#include "core/text.h"
#include "error.h"

/* `self` of a pega function that calls into TVM FFI. */
typedef struct imported {
  pega_tvm_ffi *runtime;
  TVMFFIObjectHandle handle; /* owned */
  char where[];              /* the name, for texts: with the module's path before it */
} imported;

/* Calls with more arguments than this take their room from the heap. */
enum { kStackArgs = 24 };

/* Calls, with an error that an earlier function raised and nobody read out of the way: what is in
 * TVM FFI's slot after a failure is this call's or nothing. */
typedef struct foreign {
  int (*call)(TVMFFIObjectHandle function, TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);
  TVMFFIObjectHandle function;
  TVMFFIAny *args;
  TVMFFIAny *result;
  int32_t num_args;
  int code;
} foreign;

static void run_foreign(void *data) {
  foreign *to = data;
  to->code = to->call(to->function, to->args, to->num_args, to->result);
}

/* Something was thrown: TVM FFI's functions catch what is thrown in them, so this one is no such. */
__attribute__((cold, noinline)) static pega_status threw(const char *what, const char *thrown,
                                                         TVMFFIAny *result, pega_error *error) {
  *result = tvm_ffi_none();
  return pega_error_set(error, PEGA_ERROR_CALLEE, NULL,
                        "%s: an exception left it: %s; a TVM FFI function must not throw, but set "
                        "an error and return -1",
                        what[0] == '\0' ? "TVM FFI function" : what, thrown);
}

/* Puts an unread error back after a call that succeeded; drops it after one that failed. */
__attribute__((cold, noinline)) static void settle_stale(pega_tvm_ffi *runtime, bool succeeded,
                                                         TVMFFIObjectHandle stale) {
  if (succeeded) runtime->api.TVMFFIErrorSetRaised(stale);
  runtime->release(stale);
}

pega_status tvm_ffi_call(pega_tvm_ffi *runtime, TVMFFIObjectHandle function, const char *what,
                         TVMFFIAny *args, int32_t num_args, TVMFFIAny *result, pega_error *error) {
  TVMFFIObjectHandle stale = NULL;
  char thrown[kForeignWhatRoom];
  *result = tvm_ffi_none();
  foreign to = {runtime->api.TVMFFIFunctionCall, function, args, result, num_args, 0};
  runtime->api.TVMFFIErrorMoveFromRaised(&stale);
  pega_status status = PEGA_OK;
  if (__builtin_expect(!pega_foreign_call(run_foreign, &to, thrown, sizeof thrown), 0)) {
    status = threw(what, thrown, result, error);
  } else if (__builtin_expect(to.code != 0, 0)) {
    status = tvm_ffi_error_take(runtime, what, to.code, error);
  }
  /* The failure's own error was taken before the old one is dropped or put back. */
  if (__builtin_expect(stale != NULL, 0)) settle_stale(runtime, status == PEGA_OK, stale);
  return status;
}

static pega_status bad_argument(const imported *self, int32_t index, pega_status status,
                                pega_error *error) {
  if (error == NULL) return status;
  pega_error why = PEGA_ERROR_INIT;
  pega_error_copy(error, &why);
  pega_error_set(error, status, pega_error_kind(&why), "%s: argument %" PRId32 ": %s",
                 self->where[0] == '\0' ? "TVM FFI function" : self->where, index,
                 pega_error_message(&why));
  pega_error_clear(&why);
  return status;
}

/*
 * A descriptor need not have strides (none: row-major), but code that a DSL's compiler wrote reads them without
 * asking. So foreign code gets a copy that has them.
 */
enum { kRoomDims = 8 };
typedef struct strided {
  DLTensor tensor;
  int64_t strides[kRoomDims]; /* or as many as there is memory for */
} strided;

static bool lacks_strides(const DLTensor *tensor) {
  return tensor->strides == NULL && tensor->ndim > 0;
}

static DLTensor *with_strides(const DLTensor *tensor, strided *room) {
  int64_t stride = 1;
  for (int32_t i = tensor->ndim; i-- > 0;) {
    room->strides[i] = stride;
    stride *= tensor->shape[i];
  }
  room->tensor = *tensor;
  room->tensor.strides = room->strides;
  return &room->tensor;
}

/* The same for an argument that is otherwise ready, in memory of its own. */
static pega_status give_strides(TVMFFIAny *any, pega_error *error) {
  if (any->type_index != kTVMFFIDLTensorPtr || !lacks_strides(any->v_ptr)) return PEGA_OK;
  const DLTensor *tensor = any->v_ptr;
  strided *room =
      malloc(offsetof(strided, strides) + (size_t)tensor->ndim * sizeof room->strides[0]);
  if (room == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL,
                          "no memory for %" PRId32 " strides", tensor->ndim);
  }
  any->v_ptr = with_strides(tensor, room);
  return PEGA_OK;
}

/* The way of a call whose arguments or result need more than a change of numbers. */
__attribute__((noinline)) static pega_status call_converting(const imported *self,
                                                             const pega_value *args,
                                                             int32_t num_args, pega_value *result,
                                                             pega_error *error) {
  pega_tvm_ffi *runtime = self->runtime;
  TVMFFIAny stack_args[kStackArgs];
  bool stack_owned[kStackArgs];
  TVMFFIAny *any = stack_args;
  bool *owned = stack_owned;
  void *heap = NULL;
  if (num_args > kStackArgs) {
    heap = calloc((size_t)num_args, sizeof *any + sizeof *owned);
    if (heap == NULL) {
      return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL,
                            "no memory for %" PRId32 " arguments", num_args);
    }
    any = heap;
    owned = (bool *)(any + num_args);
  }
  pega_status status = PEGA_OK;
  int32_t done = 0;
  for (; done < num_args; ++done) {
    status = tvm_ffi_argument(runtime, &args[done], &any[done], &owned[done], error);
    if (status == PEGA_OK) status = give_strides(&any[done], error);
    if (status != PEGA_OK) {
      status = bad_argument(self, done, status, error);
      break;
    }
  }
  if (status == PEGA_OK) {
    TVMFFIAny returned;
    status = tvm_ffi_call(runtime, self->handle, self->where, any, num_args, &returned, error);
    if (status == PEGA_OK) status = tvm_ffi_from_owned(runtime, &returned, result, error);
  }
  for (int32_t i = 0; i < done; ++i) {
    if (owned[i]) {
      tvm_ffi_any_release(runtime, &any[i]);
    } else if (any[i].type_index == kTVMFFIDLTensorPtr && any[i].v_ptr != args[i].as.tensor) {
      free(any[i].v_ptr); /* of give_strides() */
    }
  }
  free(heap);
  return status;
}

static pega_status call_imported(void *data, const pega_value *args, int32_t num_args,
                                 pega_value *result, pega_error *error) {
  const imported *self = data;
  TVMFFIAny any[kStackArgs];
  strided rooms[kStackArgs];
  if (num_args > kStackArgs) return call_converting(self, args, num_args, result, error);
  for (int32_t i = 0; i < num_args; ++i) {
    if (tvm_ffi_plain_to_any(&args[i], &any[i])) continue;
    /* A bare tensor was validated by pega_function_call(). */
    if (args[i].kind != PEGA_TENSOR || args[i].flags != 0) {
      return call_converting(self, args, num_args, result, error);
    }
    any[i].type_index = kTVMFFIDLTensorPtr;
    any[i].zero_padding = 0;
    any[i].v_ptr = args[i].as.tensor;
    if (lacks_strides(args[i].as.tensor)) {
      if (args[i].as.tensor->ndim > kRoomDims) {
        return call_converting(self, args, num_args, result, error);
      }
      any[i].v_ptr = with_strides(args[i].as.tensor, &rooms[i]);
    }
  }
  TVMFFIAny returned;
  pega_status status =
      tvm_ffi_call(self->runtime, self->handle, self->where, any, num_args, &returned, error);
  if (status != PEGA_OK || tvm_ffi_plain_from_any(&returned, result)) return status;
  return tvm_ffi_from_owned(self->runtime, &returned, result, error);
}

static void delete_imported(void *data) {
  imported *self = data;
  self->runtime->release(self->handle);
  free(self);
}

TVMFFIObjectHandle tvm_ffi_handle_of(pega_tvm_ffi *runtime, const pega_function *function) {
  const imported *self = pega_function_self(function, call_imported);
  return self != NULL && self->runtime == runtime ? self->handle : NULL;
}

/* Foreign names may be what a pega name may not be; the function is anonymous then. */
static bool usable_name(const char *name) {
  if (name == NULL || name[0] == '\0' || strnlen(name, PEGA_MAX_NAME + 1) > PEGA_MAX_NAME) {
    return false;
  }
  if (!pega_text_is_utf8(name, strlen(name))) return false;
  for (; *name != '\0'; ++name) {
    if ((unsigned char)*name <= ' ' || *name == 0x7f) return false;
  }
  return true;
}

pega_status tvm_ffi_import(pega_tvm_ffi *runtime, TVMFFIObjectHandle handle, const char *name,
                           const char *doc, const char *path, pega_function **out,
                           pega_error *error) {
  if (!usable_name(name)) name = NULL;
  if (doc != NULL && !pega_text_is_utf8(doc, strlen(doc))) doc = NULL;
  size_t name_size = name == NULL ? 0 : strlen(name);
  size_t path_size = path == NULL ? 0 : strlen(path) + 2; /* ": " */
  imported *self = malloc(sizeof *self + path_size + name_size + 1);
  if (self == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory for a function");
  }
  self->runtime = runtime;
  self->handle = handle;
  if (path_size > 0) snprintf(self->where, path_size + 1, "%s: ", path);
  if (name_size > 0) memcpy(self->where + path_size, name, name_size);
  self->where[path_size + name_size] = '\0';
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  options.name = name;
  options.doc = doc;
  options.call = call_imported;
  options.self = self;
  options.deleter = delete_imported;
  pega_status status = pega_function_create(&options, out, error);
  if (status != PEGA_OK) free(self);
  return status;
}

pega_status pega_tvm_ffi_function_from_handle(pega_tvm_ffi *runtime, void *handle, const char *name,
                                              pega_function **out, pega_error *error) {
  if (runtime == NULL || handle == NULL || out == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_tvm_ffi_function_from_handle: %s is NULL",
                          runtime == NULL  ? "runtime"
                          : handle == NULL ? "handle"
                                           : "out");
  }
  const TVMFFIObject *object = handle;
  if (object->type_index != kTVMFFIFunction) {
    return pega_error_set(error, PEGA_ERROR_TYPE, NULL,
                          "pega_tvm_ffi_function_from_handle: the object has type index %" PRId32
                          ": expected %d, a Function",
                          object->type_index, kTVMFFIFunction);
  }
  pega_status status = tvm_ffi_import(runtime, handle, name, NULL, NULL, out, error);
  if (status == PEGA_OK) runtime->api.TVMFFIObjectIncRef(handle);
  return status;
}

/* ---------------------------------------------------------------------------- global functions -- */

/* With the lock held: all names, as owned values. */
static pega_status list_locked(pega_tvm_ffi *runtime, pega_value **names, int64_t *count,
                               pega_error *error) {
  if (runtime->globals.list_global_names == NULL) {
    return pega_error_set(error, PEGA_ERROR_UNSUPPORTED, NULL,
                          "%s has no global function ffi.FunctionListGlobalNamesFunctor",
                          runtime->path);
  }
  TVMFFIAny functor = tvm_ffi_none();
  pega_status status = tvm_ffi_call(runtime, runtime->globals.list_global_names,
                                    "ffi.FunctionListGlobalNamesFunctor", NULL, 0, &functor, error);
  if (status == PEGA_OK && functor.type_index != kTVMFFIFunction) {
    tvm_ffi_any_release(runtime, &functor);
    status =
        pega_error_set(error, PEGA_ERROR_CALLEE, NULL, "the list of global names is no function");
  }
  if (status != PEGA_OK) return status;
  TVMFFIAny index = tvm_ffi_none();
  index.type_index = kTVMFFIInt;
  index.v_int64 = -1;
  TVMFFIAny item = tvm_ffi_none();
  status =
      tvm_ffi_call(runtime, functor.v_obj, "the list of global names", &index, 1, &item, error);
  *count = status == PEGA_OK && item.type_index == kTVMFFIInt ? item.v_int64 : 0;
  *names = calloc((size_t)*count + 1, sizeof **names);
  if (status == PEGA_OK && *names == NULL) {
    status = pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL,
                            "no memory for %" PRId64 " names", *count);
  }
  for (index.v_int64 = 0; status == PEGA_OK && index.v_int64 < *count; ++index.v_int64) {
    status =
        tvm_ffi_call(runtime, functor.v_obj, "the list of global names", &index, 1, &item, error);
    if (status == PEGA_OK) {
      status = tvm_ffi_from_owned(runtime, &item, &(*names)[index.v_int64], error);
    }
  }
  tvm_ffi_any_release(runtime, &functor);
  return status;
}

static void free_names(pega_value *names, int64_t count) {
  for (int64_t i = 0; names != NULL && i < count; ++i) pega_value_release(&names[i]);
  free(names);
}

static int compare_names(const void *a, const void *b) {
  const char *x = pega_value_as_string(a, NULL);
  const char *y = pega_value_as_string(b, NULL);
  return strcmp(x == NULL ? "" : x, y == NULL ? "" : y);
}

pega_status pega_tvm_ffi_list_globals(pega_tvm_ffi *runtime, pega_value *out, pega_error *error) {
  if (runtime == NULL || out == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_tvm_ffi_list_globals: %s is NULL", out == NULL ? "out" : "runtime");
  }
  pega_value *names = NULL;
  int64_t count = 0;
  pthread_mutex_lock(&runtime->globals_lock);
  pega_status status = list_locked(runtime, &names, &count, error);
  pthread_mutex_unlock(&runtime->globals_lock);
  if (status == PEGA_OK) {
    qsort(names, (size_t)count, sizeof *names, compare_names);
    status = pega_array_create(names, count, out, error);
  }
  free_names(names, count);
  return status;
}

static const char *name_at(const void *self, size_t index) {
  const char *name = pega_value_as_string((const pega_value *)self + index, NULL);
  return name == NULL ? "" : name;
}

/* With the lock held. */
static pega_status no_global(pega_tvm_ffi *runtime, const char *name, pega_error *error) {
  if (error == NULL) return PEGA_ERROR_NOT_FOUND;
  char shown[96];
  pega_value *names = NULL;
  int64_t count = 0;
  const char *nearest = NULL;
  if (list_locked(runtime, &names, &count, NULL) == PEGA_OK) {
    nearest = pega_text_nearest(name, (size_t)count, name_at, names);
  }
  pega_error_set(error, PEGA_ERROR_NOT_FOUND, NULL,
                 "no TVM FFI global function '%s' among the %" PRId64
                 " of %s%s%s%s; is the library "
                 "that registers it loaded?",
                 pega_text_short_name(name, shown), count, runtime->path,
                 nearest == NULL ? "" : "; the nearest is '", nearest == NULL ? "" : nearest,
                 nearest == NULL ? "" : "'");
  free_names(names, count);
  return PEGA_ERROR_NOT_FOUND;
}

pega_status pega_tvm_ffi_get_global(pega_tvm_ffi *runtime, const char *name, pega_function **out,
                                    pega_error *error) {
  if (runtime == NULL || name == NULL || out == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_tvm_ffi_get_global: %s is NULL",
                          runtime == NULL ? "runtime"
                          : name == NULL  ? "name"
                                          : "out");
  }
  TVMFFIByteArray key = {name, strlen(name)};
  TVMFFIObjectHandle handle = NULL;
  pega_status status = PEGA_OK;
  pthread_mutex_lock(&runtime->globals_lock);
  int code = runtime->api.TVMFFIFunctionGetGlobal(&key, &handle);
  if (code != 0) {
    status = tvm_ffi_error_take(runtime, "TVMFFIFunctionGetGlobal", code, error);
  } else if (handle == NULL) {
    status = no_global(runtime, name, error);
  }
  pthread_mutex_unlock(&runtime->globals_lock);
  if (status != PEGA_OK) return status;
  status = tvm_ffi_import(runtime, handle, name, NULL, NULL, out, error);
  if (status != PEGA_OK) runtime->release(handle);
  return status;
}
