// SPDX-License-Identifier: Apache-2.0
// A TVM FFI module that cannot be loaded: a constructor throws.
#include <stdexcept>

#include <tvm/ffi/c_api.h>

namespace {
struct at_load {
  at_load() { throw std::runtime_error("not today"); }
} once;
}  // namespace

extern "C" __attribute__((visibility("default"))) int __tvm_ffi_never(void *, const TVMFFIAny *,
                                                                      int32_t, TVMFFIAny *) {
  return 0;
}
