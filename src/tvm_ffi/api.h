/* SPDX-License-Identifier: Apache-2.0 */
/* The part of TVM FFI's C API that the bridge uses, as a table filled at run time. */
#ifndef PEGA_TVM_FFI_API_H_
#define PEGA_TVM_FFI_API_H_

#include <tvm/ffi/c_api.h>
#include <tvm/ffi/extra/c_env_api.h>

/* Without these a library is refused. All are in 0.1.0. */
#define TVM_FFI_REQUIRED_SYMBOLS(X)        \
  X(TVMFFIGetVersion)                      \
  X(TVMFFIObjectIncRef)                    \
  X(TVMFFIObjectDecRef)                    \
  X(TVMFFIFunctionCreate)                  \
  X(TVMFFIFunctionCall)                    \
  X(TVMFFIFunctionGetGlobal)               \
  X(TVMFFIFunctionSetGlobalFromMethodInfo) \
  X(TVMFFIErrorCreate)                     \
  X(TVMFFIErrorSetRaised)                  \
  X(TVMFFIErrorSetRaisedFromCStr)          \
  X(TVMFFIErrorMoveFromRaised)             \
  X(TVMFFIStringFromByteArray)             \
  X(TVMFFIBytesFromByteArray)              \
  X(TVMFFITensorFromDLPackVersioned)       \
  X(TVMFFIGetTypeInfo)                     \
  X(TVMFFIEnvSetStream)                    \
  X(TVMFFIEnvGetStream)

/* NULL where the library is older than they are. */
#define TVM_FFI_OPTIONAL_SYMBOLS(X)                                               \
  X(TVMFFIErrorCreateWithCauseAndExtraContext) /* with it, errors have a cause */ \
  X(TVMFFIBigIntFromByteArray)                 /* integers past int64 */          \
  X(TVMFFIBigIntGetContentByteArray)

typedef struct tvm_ffi_api {
#define TVM_FFI_MEMBER_(symbol) __typeof__(&symbol) symbol;
  TVM_FFI_REQUIRED_SYMBOLS(TVM_FFI_MEMBER_)
  TVM_FFI_OPTIONAL_SYMBOLS(TVM_FFI_MEMBER_)
#undef TVM_FFI_MEMBER_
} tvm_ffi_api;

/* Global functions of the library that stand in for C API it does not have. The first two are
 * needed; the others' features fail with an error where a library lacks them. */
#define TVM_FFI_GLOBAL_FUNCTIONS(X)                          \
  X(module_load, "ffi.Module.load_from_file.so")             \
  X(module_get_function, "ffi.ModuleGetFunction")            \
  X(module_get_function_doc, "ffi.ModuleGetFunctionDoc")     \
  X(array, "ffi.Array")                                      \
  X(array_size, "ffi.ArraySize")                             \
  X(array_get, "ffi.ArrayGetItem")                           \
  X(list_size, "ffi.ListSize")                               \
  X(list_get, "ffi.ListGetItem")                             \
  X(map, "ffi.Map")                                          \
  X(map_size, "ffi.MapSize")                                 \
  X(map_iterate, "ffi.MapForwardIterFunctor")                \
  X(dict_size, "ffi.DictSize")                               \
  X(dict_iterate, "ffi.DictForwardIterFunctor")              \
  X(list_global_names, "ffi.FunctionListGlobalNamesFunctor") \
  X(remove_global, "ffi.FunctionRemoveGlobal")

typedef struct tvm_ffi_globals {
#define TVM_FFI_MEMBER_(member, name) TVMFFIObjectHandle member;
  TVM_FFI_GLOBAL_FUNCTIONS(TVM_FFI_MEMBER_)
#undef TVM_FFI_MEMBER_
} tvm_ffi_globals;

/* What follows an object's header, by c_api.h. */
static inline const void *tvm_ffi_object_cell(TVMFFIObjectHandle object) {
  return (const char *)object + sizeof(TVMFFIObject);
}

#endif /* PEGA_TVM_FFI_API_H_ */
