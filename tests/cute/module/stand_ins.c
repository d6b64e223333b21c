/* SPDX-License-Identifier: Apache-2.0 */
/* What CuTe DSL and CUDA make, as far as the linking of a module goes: one part each compilation. */
#include <stdint.h>

int cudaGetDevice(int *device);
const char *cudaGetErrorName(int code);
const char *cudaGetErrorString(int code);
int _cudaLaunchKernelEx(const void *config);
void cuda_dialect_assert_success(int code);
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t num_parts);
void CuteDSLRT_TVMFFISetRaisedCudaError(void (*set_raised)(const char *, const char **, int32_t),
                                        int32_t code);
void CuteDSLRT_NotOfThisRelease(void);
int __tvm_ffi_object(void *self, const void *args, int32_t num_args, void *result);
int plain_object(void);
__attribute__((visibility("default"))) int engine_object(void);

#if defined(CUDART)
int cudaGetDevice(int *device) { return *device = 0, 100; }
const char *cudaGetErrorName(int code) { return code == 0 ? "cudaSuccess" : "an error"; }
const char *cudaGetErrorString(int code) { return code == 0 ? "no error" : "an error's text"; }
#elif defined(DIALECT)
int _cudaLaunchKernelEx(const void *config) { return config != 0 ? cudaGetDevice(&(int){0}) : 1; }
void cuda_dialect_assert_success(int code) { (void)code; }
#elif defined(OBJECT) || defined(NEWER) || defined(ABORTS)
int __tvm_ffi_object(void *self, const void *args, int32_t num_args, void *result) {
  (void)self;
  (void)num_args;
  (void)result;
#if defined(NEWER)
  CuteDSLRT_NotOfThisRelease();
#endif
#if defined(ABORTS)
  cuda_dialect_assert_success(1);
#endif
  CuteDSLRT_TVMFFISetRaisedCudaError(TVMFFIErrorSetRaisedFromCStrParts, _cudaLaunchKernelEx(args));
  return -1;
}
#elif defined(PLAIN)
int plain_object(void) { return _cudaLaunchKernelEx("") + 7; }
#elif defined(SHIM)
#include <pega/cute_module.h>
int engine_object(void) { return pega_cute_result(plain_object() - 7); }
#endif
