// SPDX-License-Identifier: Apache-2.0
#include "launch_cubin_launcher.h"

#include <tvm/ffi/extra/cuda/cubin_launcher.h>
#include <tvm/ffi/tvm_ffi.h>

#include <chrono>
#include <cstdio>
#include <exception>
#include <memory>

namespace {

using tvm::ffi::CubinKernel;
using tvm::ffi::CubinModule;
using tvm::ffi::dim3;
using tvm::ffi::Function;
namespace cuda_api = tvm::ffi::cuda_api;

struct Kernel {
  CubinModule module;
  CubinKernel kernel;
  dim3 grid, block;
  uint32_t shared;
  cuda_api::LaunchAttrType early = {};
  Function function;

  Kernel(const char *cubin, const char *entry, const unsigned *g, const unsigned *b, unsigned s,
         bool begins_early)
      : module(cubin),
        kernel(module[entry]),
        grid(g[0], g[1], g[2]),
        block(b[0], b[1], b[2]),
        shared(s) {
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
    function = Function::FromTyped([this, begins_early](void *a_tril, void *a_inv, int64_t seq_len,
                                                        int64_t num_value_heads, void *stream) {
      int32_t tokens = static_cast<int32_t>(seq_len);
      int32_t heads = static_cast<int32_t>(num_value_heads);
      void *scratch = nullptr;
      void *args[] = {&a_tril, &a_inv, &tokens, &heads, &scratch, &scratch};
      TVM_FFI_CHECK_CUBIN_LAUNCHER_CUDA_ERROR(
          begins_early
              ? LaunchEarly(args, static_cast<cudaStream_t>(stream))
              : kernel.Launch(args, grid, block, static_cast<cudaStream_t>(stream), shared));
    });
  }

  cudaError_t LaunchEarly(void **args, cudaStream_t stream) {
    cuda_api::LaunchConfig config = {};
    config.gridDim = {grid.x, grid.y, grid.z};
    config.blockDim = {block.x, block.y, block.z};
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    config.attrs = &early;
    config.numAttrs = 1;
    return kernel.LaunchEx(args, config);
  }
};

void *Open(const void *cubin, const char *entry, const unsigned *grid, const unsigned *block,
           unsigned shared, int early) {
  try {
    return new Kernel(static_cast<const char *>(cubin), entry, grid, block, shared, early != 0);
  } catch (const std::exception &error) {
    std::fprintf(stderr, "cubin_launcher: %s\n", error.what());
    return nullptr;
  }
}

TVMFFIAny Pointer(void *pointer) {
  TVMFFIAny any = {};
  any.type_index = kTVMFFIOpaquePtr;
  any.v_ptr = pointer;
  return any;
}

TVMFFIAny Int(int64_t value) {
  TVMFFIAny any = {};
  any.type_index = kTVMFFIInt;
  any.v_int64 = value;
  return any;
}

int Call(void *kernel, void *a_tril, void *a_inv, int64_t seq_len, int64_t num_value_heads,
         void *stream) {
  TVMFFIAny args[] = {Pointer(a_tril), Pointer(a_inv), Int(seq_len), Int(num_value_heads),
                      Pointer(stream)};
  TVMFFIAny result = {};
  TVMFFIObjectHandle function = tvm::ffi::details::ObjectUnsafe::TVMFFIObjectPtrFromObjectRef(
      static_cast<Kernel *>(kernel)->function);
  return TVMFFIFunctionCall(function, args, 5, &result);
}

double Time(void *kernel, void *a_tril, void *a_inv, int64_t seq_len, int64_t num_value_heads,
            void *stream, int count) {
  int failed = 0;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < count; ++i) {
    failed |= Call(kernel, a_tril, a_inv, seq_len, num_value_heads, stream);
  }
  const std::chrono::duration<double, std::nano> passed = std::chrono::steady_clock::now() - start;
  return failed != 0 ? -1 : passed.count() / count;
}

const bench_cubin_launcher launcher = {Open, Call, Time};

}  // namespace

__attribute__((visibility("default"))) const bench_cubin_launcher *bench_cubin_launcher_get() {
  return &launcher;
}
