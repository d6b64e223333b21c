// SPDX-License-Identifier: Apache-2.0
// An exported module from C++: client MODULE, with the fake driver as libcuda.so.1.
#include <dlfcn.h>
#include <tvm/ffi/error.h>
#include <tvm/ffi/extra/module.h>

#include <cstdint>
#include <cstdio>
#include <cstring>

namespace ffi = tvm::ffi;

#define EXPECT(condition)                                                  \
  do {                                                                     \
    if (!(condition)) {                                                    \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      return 1;                                                            \
    }                                                                      \
  } while (false)

int main(int argc, char **argv) {
  EXPECT(argc == 2);
  ffi::Module module = ffi::Module::LoadFromFile(argv[1]);
  ffi::Optional<ffi::Function> scale = module->GetFunction("t.scale");
  EXPECT(scale.has_value());
  EXPECT(!module->GetFunction("t.nothing").has_value());

  std::string kind;
  std::string message;
  try {
    (*scale)(1, 2);
  } catch (const ffi::Error &error) {
    kind = error.kind();
    message = error.message();
  }
  EXPECT(kind == "TypeError");
  EXPECT(message.find("t.scale: expected 4 to 5 arguments, got 2; call it as t.scale(") == 0);

  void *driver = dlopen("libcuda.so.1", RTLD_NOW);
  EXPECT(driver != nullptr);
  auto launches = reinterpret_cast<uint64_t (*)()>(dlsym(driver, "pega_fake_driver_num_launches"));
  EXPECT(launches != nullptr);
  // The fake driver's memory is the host's, but a pointer says of no device: the context does.
  auto init = reinterpret_cast<int (*)(unsigned)>(dlsym(driver, "cuInit"));
  auto retain = reinterpret_cast<int (*)(void **, int)>(dlsym(driver, "cuDevicePrimaryCtxRetain"));
  auto set = reinterpret_cast<int (*)(void *)>(dlsym(driver, "cuCtxSetCurrent"));
  void *context = nullptr;
  EXPECT(init(0) == 0 && retain(&context, 0) == 0 && set(context) == 0);
  alignas(16) static float memory[8];
  (*scale)(static_cast<void *>(memory), static_cast<void *>(memory), 8, 0.5);
  EXPECT(launches() == 1);
  std::puts("loaded, refused, launched");
  return 0;
}
