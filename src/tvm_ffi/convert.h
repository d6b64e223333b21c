/* SPDX-License-Identifier: Apache-2.0 */
/* Values across the boundary. */
#ifndef PEGA_TVM_FFI_CONVERT_H_
#define PEGA_TVM_FFI_CONVERT_H_

#include "runtime.h"

/* Arrays and maps nest at most this deep across the boundary; mutable ones may contain themselves. */
enum { kMaxNesting = 64 };

static inline TVMFFIAny tvm_ffi_none(void) {
  TVMFFIAny any = {.type_index = kTVMFFINone, .zero_padding = 0, .v_int64 = 0};
  return any;
}

/* Gives back what a converted value owns. */
static inline void tvm_ffi_any_release(pega_tvm_ffi *runtime, TVMFFIAny *any) {
  if (any->type_index >= kTVMFFIStaticObjectBegin) runtime->api.TVMFFIObjectDecRef(any->v_obj);
  *any = tvm_ffi_none();
}

/* Kinds and type indices that differ in their numbers alone, -1 for the rest. Both sides keep the
 * payload in the same 8 bytes. */
static inline bool tvm_ffi_plain_to_any(const pega_value *value, TVMFFIAny *out) {
  static const int8_t type_index[] = {
      [PEGA_NONE] = kTVMFFINone,      [PEGA_BOOL] = kTVMFFIBool,
      [PEGA_INT] = kTVMFFIInt,        [PEGA_UINT] = -1,
      [PEGA_FLOAT] = kTVMFFIFloat,    [PEGA_POINTER] = kTVMFFIOpaquePtr,
      [PEGA_DTYPE] = kTVMFFIDataType, [PEGA_DEVICE] = kTVMFFIDevice,
  };
  if (value->kind > PEGA_DEVICE || value->kind == PEGA_UINT) return false;
  out->type_index = type_index[value->kind];
  out->zero_padding = 0;
  out->v_uint64 = value->as.u64;
  return true;
}

static inline bool tvm_ffi_plain_from_any(const TVMFFIAny *any, pega_value *out) {
  static const uint8_t kind[] = {
      [kTVMFFINone] = PEGA_NONE,         [kTVMFFIInt] = PEGA_INT,
      [kTVMFFIBool] = PEGA_BOOL,         [kTVMFFIFloat] = PEGA_FLOAT,
      [kTVMFFIOpaquePtr] = PEGA_POINTER, [kTVMFFIDataType] = PEGA_DTYPE,
      [kTVMFFIDevice] = PEGA_DEVICE,
  };
  if ((uint32_t)any->type_index > kTVMFFIDevice) return false;
  out->kind = kind[any->type_index];
  out->flags = 0;
  out->size = 0;
  out->as.u64 = any->v_uint64;
  return true;
}

/* pega -> TVM FFI as an argument: `*owned` tells whether tvm_ffi_any_release() is due after the
 * call. */
pega_status tvm_ffi_argument(pega_tvm_ffi *runtime, const pega_value *value, TVMFFIAny *out,
                             bool *owned, pega_error *error);
/* pega -> TVM FFI as a result: owned whatever it is. */
pega_status tvm_ffi_result(pega_tvm_ffi *runtime, const pega_value *value, TVMFFIAny *out,
                           pega_error *error);
/* TVM FFI -> pega as an argument: borrowed from `any`, but for counted values, which are the
 * caller's to release (pega_value_release() does nothing to the others). */
pega_status tvm_ffi_from_view(pega_tvm_ffi *runtime, const TVMFFIAny *any, pega_value *out,
                              pega_error *error);
/* TVM FFI -> pega as a result: takes what `any` owns, also on failure. */
pega_status tvm_ffi_from_owned(pega_tvm_ffi *runtime, TVMFFIAny *any, pega_value *out,
                               pega_error *error);

/* Calls a TVM FFI function. On failure the error is taken; `what` names the function. */
pega_status tvm_ffi_call(pega_tvm_ffi *runtime, TVMFFIObjectHandle function, const char *what,
                         TVMFFIAny *args, int32_t num_args, TVMFFIAny *result, pega_error *error);

/* Handle of a function that came from this runtime, or NULL. Borrowed. (import.c) */
TVMFFIObjectHandle tvm_ffi_handle_of(pega_tvm_ffi *runtime, const pega_function *function);
/* A pega function around a handle, which it takes on success. `path` is the module that it is of, for
 * texts; NULL for none. (import.c) */
pega_status tvm_ffi_import(pega_tvm_ffi *runtime, TVMFFIObjectHandle handle, const char *name,
                           const char *doc, const char *path, pega_function **out,
                           pega_error *error);
/* A new handle around a pega function, which it retains. (export.c) */
pega_status tvm_ffi_wrap(pega_tvm_ffi *runtime, pega_function *function, TVMFFIObjectHandle *out,
                         pega_error *error);

#endif /* PEGA_TVM_FFI_CONVERT_H_ */
