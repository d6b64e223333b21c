/* SPDX-License-Identifier: Apache-2.0 */
/* Values from pega to TVM FFI. */
#include <inttypes.h>
#include <stdlib.h>

#include "convert.h"
#include "error.h"

static pega_status convert(pega_tvm_ffi *runtime, const pega_value *value, TVMFFIAny *out,
                           bool *owned, int depth, pega_error *error);

static pega_status too_deep(pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                        "an array or map nests more than %d deep, which does not cross to TVM FFI",
                        kMaxNesting);
}

static pega_status convert_uint(pega_tvm_ffi *runtime, uint64_t number, TVMFFIAny *out, bool *owned,
                                pega_error *error) {
  if (number <= INT64_MAX) {
    out->type_index = kTVMFFIInt;
    out->v_int64 = (int64_t)number;
    return PEGA_OK;
  }
  if (runtime->api.TVMFFIBigIntFromByteArray == NULL) {
    return pega_error_set(error, PEGA_ERROR_RANGE, "OverflowError",
                          "%" PRIu64 " does not fit in int64, and TVM FFI %" PRIu32 ".%" PRIu32
                          ".%" PRIu32 " has no greater integers",
                          number, runtime->version.major, runtime->version.minor,
                          runtime->version.patch);
  }
  uint64_t words[2] = {number, 0};
  TVMFFIByteArray bytes = {(const char *)words, sizeof words};
  int code = runtime->api.TVMFFIBigIntFromByteArray(&bytes, out);
  if (code != 0) return tvm_ffi_error_take(runtime, "TVMFFIBigIntFromByteArray", code, error);
  *owned = true;
  return PEGA_OK;
}

static pega_status convert_text(pega_tvm_ffi *runtime, const pega_value *value, TVMFFIAny *out,
                                bool *owned, pega_error *error) {
  TVMFFIByteArray bytes = {NULL, 0};
  bool string = value->kind == PEGA_STRING;
  bytes.data =
      string ? pega_value_as_string(value, &bytes.size) : pega_value_as_bytes(value, &bytes.size);
  if (bytes.data == NULL) bytes.data = "";
  int code = string ? runtime->api.TVMFFIStringFromByteArray(&bytes, out)
                    : runtime->api.TVMFFIBytesFromByteArray(&bytes, out);
  if (code != 0) return tvm_ffi_error_take(runtime, "TVMFFIStringFromByteArray", code, error);
  *owned = true;
  return PEGA_OK;
}

static pega_status convert_tensor(pega_tvm_ffi *runtime, const pega_value *value, TVMFFIAny *out,
                                  bool *owned, pega_error *error) {
  void *own = pega_value_payload(value, runtime);
  if (own != NULL) {
    out->type_index = kTVMFFITensor;
    out->v_obj = own;
    return PEGA_OK;
  }
  if ((value->flags & PEGA_VALUE_COUNTED) == 0) {
    /* Foreign code trusts a descriptor; counted tensors were checked when they were made. */
    pega_status valid = pega_tensor_validate(value->as.tensor, error);
    if (valid != PEGA_OK) return valid;
    out->type_index = kTVMFFIDLTensorPtr;
    out->v_ptr = value->as.tensor;
    return PEGA_OK;
  }
  if ((pega_tensor_flags(value) & DLPACK_FLAG_BITMASK_READ_ONLY) != 0) {
    return pega_error_set(
        error, PEGA_ERROR_UNSUPPORTED, NULL,
        "the tensor is read-only, which a TVM FFI Tensor cannot say; pass a copy, or "
        "its DLTensor (pega_value_as_tensor) if the callee only reads");
  }
  DLManagedTensorVersioned *managed;
  pega_status status = pega_tensor_to_dlpack_versioned(value, &managed, error);
  if (status != PEGA_OK) return status;
  TVMFFIObjectHandle tensor = NULL;
  int code = runtime->api.TVMFFITensorFromDLPackVersioned(managed, 0, 0, &tensor);
  if (code != 0) {
    managed->deleter(managed);
    return tvm_ffi_error_take(runtime, "TVMFFITensorFromDLPackVersioned", code, error);
  }
  out->type_index = kTVMFFITensor;
  out->v_obj = tensor;
  *owned = true;
  return PEGA_OK;
}

static pega_status convert_function(pega_tvm_ffi *runtime, const pega_value *value, TVMFFIAny *out,
                                    bool *owned, pega_error *error) {
  pega_function *function = pega_value_as_function(value);
  TVMFFIObjectHandle handle = tvm_ffi_handle_of(runtime, function);
  if (handle == NULL) {
    pega_status status = tvm_ffi_wrap(runtime, function, &handle, error);
    if (status != PEGA_OK) return status;
    *owned = true;
  }
  out->type_index = kTVMFFIFunction;
  out->v_obj = handle;
  return PEGA_OK;
}

static pega_status convert_items(pega_tvm_ffi *runtime, const pega_value *value, TVMFFIAny *out,
                                 bool *owned, int depth, pega_error *error) {
  bool map = value->kind == PEGA_MAP;
  const char *what = map ? "ffi.Map" : "ffi.Array";
  TVMFFIObjectHandle maker = map ? runtime->globals.map : runtime->globals.array;
  if (maker == NULL) {
    return pega_error_set(error, PEGA_ERROR_UNSUPPORTED, NULL,
                          "%s has no global function %s: arrays and maps cannot cross",
                          runtime->path, what);
  }
  if (depth == kMaxNesting) return too_deep(error);
  int64_t size = pega_value_size(value) * (map ? 2 : 1);
  if (size > INT32_MAX) {
    return pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                          "%" PRId64 " items do not cross to TVM FFI at once", size);
  }
  TVMFFIAny *items = calloc((size_t)size + 1, sizeof *items);
  bool *item_owned = calloc((size_t)size + 1, sizeof *item_owned);
  pega_status status = PEGA_OK;
  if (items == NULL || item_owned == NULL) {
    status = pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL,
                            "no memory for %" PRId64 " items", size);
  }
  int64_t done = 0;
  for (; status == PEGA_OK && done < size; ++done) {
    const pega_value *item = !map            ? pega_array_get(value, done)
                             : done % 2 == 0 ? pega_map_key(value, done / 2)
                                             : pega_map_value(value, done / 2);
    status = convert(runtime, item, &items[done], &item_owned[done], depth + 1, error);
  }
  if (status == PEGA_OK) {
    status = tvm_ffi_call(runtime, maker, what, items, (int32_t)size, out, error);
    *owned = status == PEGA_OK;
  }
  for (int64_t i = 0; i < done; ++i) {
    if (item_owned[i]) tvm_ffi_any_release(runtime, &items[i]);
  }
  free(items);
  free(item_owned);
  return status;
}

static pega_status convert_object(pega_tvm_ffi *runtime, const pega_value *value, TVMFFIAny *out,
                                  pega_error *error) {
  TVMFFIObject *object = pega_value_payload(value, runtime);
  if (object == NULL) {
    return pega_error_set(
        error, PEGA_ERROR_TYPE, NULL,
        "an object of type '%s' is not of this TVM FFI runtime and has no form in "
        "it; pass a pointer",
        pega_value_type_key(value));
  }
  out->type_index = object->type_index;
  out->v_obj = object;
  return PEGA_OK;
}

static pega_status malformed(const pega_value *value, pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                        "malformed value (kind %u, flags %u, payload 0x%" PRIx64
                        ") does not cross to TVM FFI",
                        value->kind, value->flags, value->as.u64);
}

/* Sets *owned only where it becomes true. */
static pega_status convert(pega_tvm_ffi *runtime, const pega_value *value, TVMFFIAny *out,
                           bool *owned, int depth, pega_error *error) {
  if (tvm_ffi_plain_to_any(value, out)) return PEGA_OK;
  *out = tvm_ffi_none();
  switch (value->kind) {
    case PEGA_UINT:
      return convert_uint(runtime, value->as.u64, out, owned, error);
    case PEGA_STRING:
    case PEGA_BYTES:
      if (value->as.bytes == NULL && (value->size != 0 || value->flags != 0)) break;
      return convert_text(runtime, value, out, owned, error);
    case PEGA_TENSOR:
      if (value->as.object == NULL) break;
      return convert_tensor(runtime, value, out, owned, error);
    default:
      break;
  }
  if (value->kind > PEGA_OBJECT || value->kind <= PEGA_TENSOR || value->as.object == NULL ||
      (value->flags & PEGA_VALUE_COUNTED) == 0) {
    return malformed(value, error);
  }
  switch (value->kind) {
    case PEGA_FUNCTION:
      return convert_function(runtime, value, out, owned, error);
    case PEGA_OBJECT:
      return convert_object(runtime, value, out, error);
    default:
      return convert_items(runtime, value, out, owned, depth, error);
  }
}

pega_status tvm_ffi_argument(pega_tvm_ffi *runtime, const pega_value *value, TVMFFIAny *out,
                             bool *owned, pega_error *error) {
  *owned = false;
  return convert(runtime, value, out, owned, 0, error);
}

pega_status tvm_ffi_result(pega_tvm_ffi *runtime, const pega_value *value, TVMFFIAny *out,
                           pega_error *error) {
  if (value->kind == PEGA_TENSOR && (value->flags & PEGA_VALUE_COUNTED) == 0) {
    return pega_error_set(error, PEGA_ERROR_UNSUPPORTED, NULL,
                          "the function returned a borrowed DLTensor, which nothing keeps alive; "
                          "return a counted one (pega_tensor_from_dlpack)");
  }
  bool owned = false;
  pega_status status = convert(runtime, value, out, &owned, 0, error);
  if (status == PEGA_OK && !owned && out->type_index >= kTVMFFIStaticObjectBegin) {
    runtime->api.TVMFFIObjectIncRef(out->v_obj);
  }
  return status;
}
