/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file fixture.h
 * \brief What the files of the fixture module share: exporting, failing, reading arguments.
 *
 * The fixture knows tvm-ffi's C header and nothing of pega: it stands for an artifact that somebody
 * else made. TVMFFI* stay undefined in it, as in every artifact.
 */
#ifndef PEGA_TESTS_FIXTURE_H_
#define PEGA_TESTS_FIXTURE_H_

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <tvm/ffi/c_api.h>

#define FIXTURE_EXPORT(name)                                                                   \
  TVM_FFI_DLL_EXPORT int __tvm_ffi_##name(void *self, const TVMFFIAny *args, int32_t num_args, \
                                          TVMFFIAny *result);                                  \
  TVM_FFI_DLL_EXPORT int __tvm_ffi_##name(                                                     \
      __attribute__((unused)) void *self, __attribute__((unused)) const TVMFFIAny *args,       \
      __attribute__((unused)) int32_t num_args, __attribute__((unused)) TVMFFIAny *result)

/** Raises an error and returns -1, so that a function can `return fixture_fail(...)`. */
int fixture_fail(const char *kind, const char *message);

/** Text or bytes of any of the forms that TVM FFI has for them; false if it is neither. */
bool fixture_text(const TVMFFIAny *value, TVMFFIByteArray *out);

/** The tensor behind a DLTensor* or a Tensor object; NULL if it is neither. */
DLTensor *fixture_tensor(const TVMFFIAny *value);

/** Calls the runtime's global function `name`. */
int fixture_call_global(const char *name, const TVMFFIAny *args, int32_t num_args,
                        TVMFFIAny *result);

/** Calls a function object. */
int fixture_call(void *function, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);

static inline bool fixture_is_function(const TVMFFIAny *args, int32_t num_args, int32_t index) {
  return index < num_args && args[index].type_index == kTVMFFIFunction;
}

static inline void fixture_return_int(TVMFFIAny *result, int64_t value) {
  result->type_index = kTVMFFIInt;
  result->zero_padding = 0;
  result->v_int64 = value;
}

static inline void fixture_return_bool(TVMFFIAny *result, bool value) {
  result->type_index = kTVMFFIBool;
  result->zero_padding = 0;
  result->v_int64 = value ? 1 : 0;
}

/** Hands an owned object to the caller. */
static inline void fixture_return_object(TVMFFIAny *result, void *object) {
  result->type_index = ((TVMFFIObject *)object)->type_index;
  result->zero_padding = 0;
  result->v_obj = object;
}

/** What a counted object is and holds begins right behind its header. */
static inline void *fixture_cell(const TVMFFIAny *value) {
  return (char *)value->v_obj + sizeof(TVMFFIObject);
}

/** Strong references of an object. */
static inline int64_t fixture_references(const void *object) {
  const uint64_t *count = &((const TVMFFIObject *)object)->combined_ref_count;
  return (int64_t)(__atomic_load_n(count, __ATOMIC_ACQUIRE) & 0xffffffffu);
}

/** Gives back what an owned value holds. */
static inline void fixture_release(TVMFFIAny *value) {
  if (value->type_index >= kTVMFFIStaticObjectBegin) TVMFFIObjectDecRef(value->v_obj);
  memset(value, 0, sizeof *value);
}

#endif /* PEGA_TESTS_FIXTURE_H_ */
