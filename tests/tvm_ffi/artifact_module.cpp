// SPDX-License-Identifier: Apache-2.0
// A TVM FFI module that does what none should: an exception that leaves it, a failure that says nothing.
#include <stdexcept>

#include <tvm/ffi/c_api.h>

extern "C" __attribute__((visibility("default"))) int __tvm_ffi_throws(void *, const TVMFFIAny *,
                                                                       int32_t, TVMFFIAny *) {
  throw std::runtime_error("no such thing");
}
extern "C" __attribute__((visibility("default"))) int __tvm_ffi_throws_number(void *,
                                                                              const TVMFFIAny *,
                                                                              int32_t,
                                                                              TVMFFIAny *) {
  throw 7;
}
extern "C" __attribute__((visibility("default"))) int __tvm_ffi_says_nothing(void *,
                                                                             const TVMFFIAny *,
                                                                             int32_t, TVMFFIAny *) {
  return -1;
}
extern "C" __attribute__((visibility("default"))) int __tvm_ffi_answer(void *, const TVMFFIAny *,
                                                                       int32_t, TVMFFIAny *result) {
  result->type_index = kTVMFFIInt;
  result->zero_padding = 0;
  result->v_int64 = 42;
  return 0;
}
