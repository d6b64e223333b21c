// SPDX-License-Identifier: Apache-2.0
// The public headers from C++17: every one of them, and a function made, called and failing.
#include <pega/dlpack.h>
#include <pega/pega.h>
#include <pega/qwen35.h>
#ifdef APP_TVM_FFI
#include <pega/tvm_ffi.h>
#endif

#include <cstdio>
#include <memory>
#include <string>

namespace {

struct Release {
  void operator()(pega_function *function) const { pega_function_release(function); }
};
using Function = std::unique_ptr<pega_function, Release>;

pega_status greet(void *self, const pega_value *args, int32_t num_args, pega_value *result,
                  pega_error *error) {
  const auto *greeting = static_cast<const std::string *>(self);
  if (num_args != 1) {
    return pega_error_set(error, PEGA_ERROR_ARGUMENT_COUNT, nullptr, "got %d arguments", num_args);
  }
  std::size_t size = 0;
  const char *name = pega_value_as_string(&args[0], &size);
  if (name == nullptr) return pega_error_set(error, PEGA_ERROR_TYPE, nullptr, "expected a string");
  const std::string text = *greeting + std::string(name, size);
  return pega_string_create(text.data(), text.size(), result, error);
}

bool run() {
  std::string greeting = "hello ";
  pega_error error = PEGA_ERROR_INIT;
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  options.name = "app.greet";
  options.call = greet;
  options.self = &greeting;
  pega_function *made = nullptr;
  if (pega_function_create(&options, &made, &error) != PEGA_OK) return false;
  const Function function(made);

  const pega_value args[] = {pega_value_string("C++"), pega_value_bool(true),
                             pega_value_int(-1),       pega_value_uint(1),
                             pega_value_float(0.5),    pega_value_pointer(nullptr)};
  pega_value result = pega_value_none();
  if (pega_function_call(function.get(), args, 1, &result, &error) != PEGA_OK) return false;
  const bool greeted = std::string("hello C++") == pega_value_as_string(&result, nullptr);
  pega_value_release(&result);

  const bool refused =
      pega_function_call(function.get(), args + 1, 1, &result, &error) == PEGA_ERROR_TYPE &&
      std::string("expected a string") == pega_error_message(&error);
  pega_error_clear(&error);

  const DLDevice device = {kDLCPU, 0};
  const DLDataType dtype = {kDLBfloat, 16, 1};
  char name[PEGA_NAME_SIZE];
  const bool named = std::string("cpu:0") == pega_device_name(device, name) &&
                     std::string("bfloat16") == pega_dtype_name(dtype, name);
  const bool symbol =
      gated_delta_rule_prefill_chunk_solve_cuda(nullptr, nullptr, 1, 1, nullptr) == 1;
#ifdef APP_TVM_FFI
  pega_tvm_ffi_close(nullptr);
#endif
  return greeted && refused && named && symbol;
}

}  // namespace

int main() {
  if (!run()) return 1;
  std::printf("C++ consumer of pega %s: ok\n", pega_version_string());
  return 0;
}
