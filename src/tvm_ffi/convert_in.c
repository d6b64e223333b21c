/* SPDX-License-Identifier: Apache-2.0 */
/* Values from TVM FFI to pega. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "convert.h"
#include "error.h"

static pega_status from_view(pega_tvm_ffi *runtime, const TVMFFIAny *any, pega_value *out,
                             int depth, pega_error *error);

static pega_status from_owned(pega_tvm_ffi *runtime, TVMFFIAny *any, pega_value *out, int depth,
                              pega_error *error);

static const char *type_key(pega_tvm_ffi *runtime, int32_t type_index, char buffer[128]) {
  const TVMFFITypeInfo *info = runtime->api.TVMFFIGetTypeInfo(type_index);
  if (info == NULL || info->type_key.data == NULL || info->type_key.size >= 128) {
    snprintf(buffer, 128, "type index %" PRId32, type_index);
  } else {
    memcpy(buffer, info->type_key.data, info->type_key.size);
    buffer[info->type_key.size] = '\0';
  }
  return buffer;
}

/* The parts below make values that own a reference of their own to `object`. */

static pega_status wrap_object(pega_tvm_ffi *runtime, TVMFFIObject *object, pega_value *out,
                               pega_error *error) {
  char key[128];
  pega_status status = pega_object_create(type_key(runtime, object->type_index, key), runtime,
                                          object, runtime->release, out, error);
  if (status == PEGA_OK) runtime->api.TVMFFIObjectIncRef(object);
  return status;
}

static pega_status wrap_tensor(pega_tvm_ffi *runtime, TVMFFIObject *object, pega_value *out,
                               pega_error *error) {
  pega_status status = pega_tensor_create(tvm_ffi_object_cell(object), 0, runtime, object,
                                          runtime->release, out, error);
  if (status == PEGA_OK) runtime->api.TVMFFIObjectIncRef(object);
  return status;
}

static pega_status wrap_function(pega_tvm_ffi *runtime, TVMFFIObject *object, pega_value *out,
                                 pega_error *error) {
  pega_function *function;
  pega_status status = tvm_ffi_import(runtime, object, NULL, NULL, NULL, &function, error);
  if (status != PEGA_OK) return status;
  runtime->api.TVMFFIObjectIncRef(object);
  /* The value takes the reference that import returned. */
  *out = pega_value_function(function);
  return PEGA_OK;
}

static pega_status wrap_shape(TVMFFIObject *object, pega_value *out, pega_error *error) {
  const TVMFFIShapeCell *shape = tvm_ffi_object_cell(object);
  pega_value *sizes = calloc(shape->size + 1, sizeof *sizes);
  if (sizes == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory for %zu sizes",
                          shape->size);
  }
  for (size_t i = 0; i < shape->size; ++i) sizes[i] = pega_value_int(shape->data[i]);
  pega_status status = pega_array_create(sizes, (int64_t)shape->size, out, error);
  free(sizes);
  return status;
}

static pega_status wrap_big_integer(pega_tvm_ffi *runtime, const TVMFFIAny *any, pega_value *out,
                                    pega_error *error) {
  if (runtime->api.TVMFFIBigIntGetContentByteArray != NULL) {
    TVMFFIByteArray bytes = runtime->api.TVMFFIBigIntGetContentByteArray(any);
    uint64_t words[2];
    if (bytes.size == sizeof words) {
      memcpy(words, bytes.data, sizeof words);
      if (words[1] == 0) {
        *out = pega_value_uint(words[0]);
        return PEGA_OK;
      }
    }
  }
  return wrap_object(runtime, any->v_obj, out, error);
}

static pega_status missing(pega_tvm_ffi *runtime, const char *name, pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_UNSUPPORTED, NULL,
                        "%s has no global function %s: this value cannot cross", runtime->path,
                        name);
}

/* Calls a function that takes an object and perhaps a number. */
static pega_status ask(pega_tvm_ffi *runtime, TVMFFIObjectHandle function, const char *name,
                       const TVMFFIAny *object, const int64_t *number, TVMFFIAny *result,
                       pega_error *error) {
  if (function == NULL) return missing(runtime, name, error);
  TVMFFIAny args[2] = {*object, tvm_ffi_none()};
  if (number != NULL) {
    args[1].type_index = kTVMFFIInt;
    args[1].v_int64 = *number;
  }
  return tvm_ffi_call(runtime, function, name, args, number == NULL ? 1 : 2, result, error);
}

static pega_status ask_size(pega_tvm_ffi *runtime, TVMFFIObjectHandle function, const char *name,
                            const TVMFFIAny *object, int64_t *size, pega_error *error) {
  TVMFFIAny result = tvm_ffi_none();
  pega_status status = ask(runtime, function, name, object, NULL, &result, error);
  if (status != PEGA_OK) return status;
  *size = result.v_int64;
  if (result.type_index == kTVMFFIInt && *size >= 0) return PEGA_OK;
  tvm_ffi_any_release(runtime, &result);
  return pega_error_set(error, PEGA_ERROR_CALLEE, NULL, "%s returned no size", name);
}

static void release_values(pega_value *values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) pega_value_release(&values[i]);
  free(values);
}

static pega_status copy_array(pega_tvm_ffi *runtime, const TVMFFIAny *any, pega_value *out,
                              int depth, pega_error *error) {
  bool list = any->type_index == kTVMFFIList;
  const tvm_ffi_globals *globals = &runtime->globals;
  int64_t size = 0;
  pega_status status = ask_size(runtime, list ? globals->list_size : globals->array_size,
                                list ? "ffi.ListSize" : "ffi.ArraySize", any, &size, error);
  if (status != PEGA_OK) return status;
  pega_value *items = calloc((size_t)size + 1, sizeof *items);
  if (items == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory for %" PRId64 " items",
                          size);
  }
  int64_t done = 0;
  for (; status == PEGA_OK && done < size; ++done) {
    TVMFFIAny item = tvm_ffi_none();
    status = ask(runtime, list ? globals->list_get : globals->array_get,
                 list ? "ffi.ListGetItem" : "ffi.ArrayGetItem", any, &done, &item, error);
    if (status == PEGA_OK) status = from_owned(runtime, &item, &items[done], depth + 1, error);
  }
  if (status == PEGA_OK) status = pega_array_create(items, size, out, error);
  release_values(items, done);
  return status;
}

/* One step of a map's iterator: 0 the key, 1 the value, 2 on to the next. */
static pega_status step(pega_tvm_ffi *runtime, const TVMFFIAny *iterator, int64_t command,
                        TVMFFIAny *result, pega_error *error) {
  TVMFFIAny arg = tvm_ffi_none();
  arg.type_index = kTVMFFIInt;
  arg.v_int64 = command;
  return tvm_ffi_call(runtime, iterator->v_obj, "a map's iterator", &arg, 1, result, error);
}

static pega_status copy_pairs(pega_tvm_ffi *runtime, const TVMFFIAny *iterator, int64_t size,
                              pega_value *keys, pega_value *values, int depth, pega_error *error) {
  for (int64_t i = 0; i < size; ++i) {
    TVMFFIAny item = tvm_ffi_none();
    pega_status status = step(runtime, iterator, 0, &item, error);
    if (status == PEGA_OK) status = from_owned(runtime, &item, &keys[i], depth + 1, error);
    item = tvm_ffi_none();
    if (status == PEGA_OK) status = step(runtime, iterator, 1, &item, error);
    if (status == PEGA_OK) status = from_owned(runtime, &item, &values[i], depth + 1, error);
    item = tvm_ffi_none();
    if (status == PEGA_OK) status = step(runtime, iterator, 2, &item, error);
    if (status != PEGA_OK) return status;
    bool more = item.type_index == kTVMFFIBool && item.v_int64 != 0;
    tvm_ffi_any_release(runtime, &item);
    if (more != (i + 1 < size)) {
      return pega_error_set(error, PEGA_ERROR_CALLEE, NULL,
                            "a map changed while it was read: expected %" PRId64 " pairs", size);
    }
  }
  return PEGA_OK;
}

static pega_status copy_map(pega_tvm_ffi *runtime, const TVMFFIAny *any, pega_value *out, int depth,
                            pega_error *error) {
  bool dict = any->type_index == kTVMFFIDict;
  const tvm_ffi_globals *globals = &runtime->globals;
  int64_t size = 0;
  pega_status status = ask_size(runtime, dict ? globals->dict_size : globals->map_size,
                                dict ? "ffi.DictSize" : "ffi.MapSize", any, &size, error);
  if (status != PEGA_OK) return status;
  pega_value *keys = calloc((size_t)size + 1, sizeof *keys);
  pega_value *values = calloc((size_t)size + 1, sizeof *values);
  TVMFFIAny iterator = tvm_ffi_none();
  if (keys == NULL || values == NULL) {
    status = pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL,
                            "no memory for %" PRId64 " pairs", size);
  } else if (size > 0) {
    status = ask(runtime, dict ? globals->dict_iterate : globals->map_iterate,
                 dict ? "ffi.DictForwardIterFunctor" : "ffi.MapForwardIterFunctor", any, NULL,
                 &iterator, error);
    if (status == PEGA_OK && iterator.type_index != kTVMFFIFunction) {
      status = pega_error_set(error, PEGA_ERROR_CALLEE, NULL, "a map's iterator is no function");
    }
    if (status == PEGA_OK) {
      status = copy_pairs(runtime, &iterator, size, keys, values, depth, error);
    }
    tvm_ffi_any_release(runtime, &iterator);
  }
  if (status == PEGA_OK) status = pega_map_create(keys, values, size, out, error);
  if (keys != NULL) release_values(keys, size);
  if (values != NULL) release_values(values, size);
  return status;
}

/* A view of the text that an object holds; one too long for a view is copied. */
static pega_status view_text(bool string, const char *data, size_t size, pega_value *out,
                             pega_error *error) {
  if (size > UINT32_MAX) {
    return string ? pega_string_create(data, size, out, error)
                  : pega_bytes_create(data, size, out, error);
  }
  if (data == NULL) data = "";
  *out = string ? pega_value_string_n(data, size) : pega_value_bytes(data, size);
  return PEGA_OK;
}

static pega_status from_object(pega_tvm_ffi *runtime, const TVMFFIAny *any, pega_value *out,
                               int depth, pega_error *error) {
  TVMFFIObject *object = any->v_obj;
  if (object == NULL) {
    *out = pega_value_none();
    return PEGA_OK;
  }
  const TVMFFIByteArray *bytes = tvm_ffi_object_cell(object);
  switch (any->type_index) {
    case kTVMFFIStr:
    case kTVMFFIBytes:
      return view_text(any->type_index == kTVMFFIStr, bytes->data, bytes->size, out, error);
    case kTVMFFIFunction:
      return wrap_function(runtime, object, out, error);
    case kTVMFFIShape:
      return wrap_shape(object, out, error);
    case kTVMFFITensor:
      return wrap_tensor(runtime, object, out, error);
    case kTVMFFIBigInt:
      return wrap_big_integer(runtime, any, out, error);
    case kTVMFFIArray:
    case kTVMFFIList:
    case kTVMFFIMap:
    case kTVMFFIDict:
      if (depth == kMaxNesting) {
        return pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                              "an array or map nests more than %d deep (or contains itself), which "
                              "does not cross from TVM FFI",
                              kMaxNesting);
      }
      return any->type_index == kTVMFFIArray || any->type_index == kTVMFFIList
                 ? copy_array(runtime, any, out, depth, error)
                 : copy_map(runtime, any, out, depth, error);
    default:
      return wrap_object(runtime, object, out, error);
  }
}

static pega_status from_view(pega_tvm_ffi *runtime, const TVMFFIAny *any, pega_value *out,
                             int depth, pega_error *error) {
  if (tvm_ffi_plain_from_any(any, out)) return PEGA_OK;
  const TVMFFIByteArray *bytes;
  switch (any->type_index) {
    case kTVMFFIDLTensorPtr:
      /* pega_function_call() validates what it points at. */
      *out = pega_value_tensor(any->v_ptr);
      return any->v_ptr != NULL
                 ? PEGA_OK
                 : pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL, "tensor is NULL");
    case kTVMFFIRawStr:
      *out = pega_value_string(any->v_c_str);
      return PEGA_OK;
    case kTVMFFIByteArrayPtr:
      bytes = any->v_ptr;
      return view_text(false, bytes->data, bytes->size, out, error);
    case kTVMFFISmallStr:
      return view_text(true, any->v_bytes, any->small_str_len, out, error);
    case kTVMFFISmallBytes:
      return view_text(false, any->v_bytes, any->small_str_len, out, error);
    case kTVMFFIObjectRValueRef: {
      /* A reference that the callee may move from; looking through it leaves it as it is. */
      TVMFFIObject *const *slot = any->v_ptr;
      TVMFFIAny moved = tvm_ffi_none();
      if (slot != NULL && *slot != NULL) {
        moved.type_index = (*slot)->type_index;
        moved.v_obj = *slot;
      }
      return from_view(runtime, &moved, out, depth, error);
    }
    default:
      break;
  }
  if (any->type_index >= kTVMFFIStaticObjectBegin) {
    return from_object(runtime, any, out, depth, error);
  }
  return pega_error_set(error, PEGA_ERROR_TYPE, NULL,
                        "a TVM FFI value of type index %" PRId32 " has no meaning here",
                        any->type_index);
}

static pega_status from_owned(pega_tvm_ffi *runtime, TVMFFIAny *any, pega_value *out, int depth,
                              pega_error *error) {
  pega_value view = pega_value_none();
  pega_status status = from_view(runtime, any, &view, depth, error);
  if (status == PEGA_OK && (view.flags & PEGA_VALUE_COUNTED) == 0) {
    /* Still a view of what `any` owns, or plain: text is copied, a bare DLTensor refused. */
    status = pega_value_retain(&view, out, error);
  } else if (status == PEGA_OK) {
    *out = view;
  }
  tvm_ffi_any_release(runtime, any);
  return status;
}

pega_status tvm_ffi_from_view(pega_tvm_ffi *runtime, const TVMFFIAny *any, pega_value *out,
                              pega_error *error) {
  return from_view(runtime, any, out, 0, error);
}

pega_status tvm_ffi_from_owned(pega_tvm_ffi *runtime, TVMFFIAny *any, pega_value *out,
                               pega_error *error) {
  return from_owned(runtime, any, out, 0, error);
}
