/* SPDX-License-Identifier: Apache-2.0 */
/* A TVM FFI module that raises what CuTe DSL's objects raise, with names of errors played: raise_cuda(code). */
#include <stddef.h>
#include <stdint.h>
#include <tvm/ffi/c_api.h>

typedef void (*set_raised_from_parts)(const char *kind, const char **parts, int32_t num_parts);
void CuteDSLRT_TVMFFISetRaisedCudaError(set_raised_from_parts set_raised, int32_t code);
const char *cudaGetErrorName(int code);
const char *cudaGetErrorString(int code);
int cudaGetDevice(int *device);

const char *cudaGetErrorName(int code) { return code == 700 ? "cudaErrorIllegalAddress" : NULL; }
const char *cudaGetErrorString(int code) {
  return code == 700 ? "an illegal memory access was encountered" : NULL;
}
int cudaGetDevice(int *device) {
  *device = 0;
  return 100;
}

TVM_FFI_DLL_EXPORT int __tvm_ffi_raise_cuda(void *self, const TVMFFIAny *args, int32_t num_args,
                                            TVMFFIAny *result);

TVM_FFI_DLL_EXPORT int __tvm_ffi_raise_cuda(void *self, const TVMFFIAny *args, int32_t num_args,
                                            TVMFFIAny *result) {
  (void)self;
  (void)num_args;
  (void)result;
  CuteDSLRT_TVMFFISetRaisedCudaError(TVMFFIErrorSetRaisedFromCStrParts, (int32_t)args[0].v_int64);
  return -1;
}
