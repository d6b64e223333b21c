/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An artifact, as a DSL's compiler would make it: a shared library that exports __tvm_ffi_<name>
 * functions and leaves TVM FFI's own symbols undefined. Here it is written in plain C.
 *
 *   add_one(x, y)         y = x + 1 on float32 vectors of the CPU
 *   sum(f, n)             f(0) + f(1) + ... + f(n - 1) of a function that it is given
 *   sum_global(name, n)   the same of a function that it looks up by name
 */
#include <stddef.h>
#include <tvm/ffi/c_api.h>

#define ARTIFACT_FUNCTION(name)                                                                \
  TVM_FFI_DLL_EXPORT int __tvm_ffi_##name(void *self, const TVMFFIAny *args, int32_t num_args, \
                                          TVMFFIAny *result);                                  \
  int __tvm_ffi_##name(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result)

static int fail(const char *kind, const char *message) {
  TVMFFIErrorSetRaisedFromCStr(kind, message);
  return -1;
}

/* A tensor arrives as a bare DLTensor* or in a Tensor object, behind the object's header. */
static const DLTensor *vector_of(const TVMFFIAny *value) {
  const DLTensor *tensor = NULL;
  if (value->type_index == kTVMFFIDLTensorPtr) tensor = value->v_ptr;
  if (value->type_index == kTVMFFITensor) tensor = (const DLTensor *)(value->v_obj + 1);
  if (tensor == NULL || tensor->ndim != 1 || tensor->dtype.code != kDLFloat ||
      tensor->dtype.bits != 32 || tensor->dtype.lanes != 1 ||
      tensor->device.device_type != kDLCPU) {
    return NULL;
  }
  return tensor;
}

ARTIFACT_FUNCTION(add_one) {
  (void)self;
  (void)result;
  const DLTensor *x = num_args == 2 ? vector_of(&args[0]) : NULL;
  const DLTensor *y = num_args == 2 ? vector_of(&args[1]) : NULL;
  if (x == NULL || y == NULL || x->shape[0] != y->shape[0]) {
    return fail("TypeError", "add_one: expected two float32 vectors of one length on the CPU");
  }
  const float *from = (const float *)((const char *)x->data + x->byte_offset);
  float *to = (float *)((char *)y->data + y->byte_offset);
  int64_t from_stride = x->strides == NULL ? 1 : x->strides[0];
  int64_t to_stride = y->strides == NULL ? 1 : y->strides[0];
  for (int64_t i = 0; i < x->shape[0]; i++) to[i * to_stride] = from[i * from_stride] + 1.0f;
  return 0;
}

static int sum_of(TVMFFIObjectHandle function, int64_t count, TVMFFIAny *result) {
  int64_t sum = 0;
  for (int64_t i = 0; i < count; i++) {
    TVMFFIAny argument = {.type_index = kTVMFFIInt, .v_int64 = i};
    TVMFFIAny value = {.type_index = kTVMFFINone};
    /* A failure is passed on as it is: whoever called us reads it. */
    if (TVMFFIFunctionCall(function, &argument, 1, &value) != 0) return -1;
    if (value.type_index != kTVMFFIInt) return fail("TypeError", "sum: expected integers");
    sum += value.v_int64;
  }
  result->type_index = kTVMFFIInt;
  result->v_int64 = sum;
  return 0;
}

ARTIFACT_FUNCTION(sum) {
  (void)self;
  if (num_args != 2 || args[0].type_index != kTVMFFIFunction || args[1].type_index != kTVMFFIInt) {
    return fail("TypeError", "sum: expected a function and an integer");
  }
  return sum_of(args[0].v_obj, args[1].v_int64, result);
}

ARTIFACT_FUNCTION(sum_global) {
  (void)self;
  if (num_args != 2 || args[1].type_index != kTVMFFIInt) {
    return fail("TypeError", "sum_global: expected a name and an integer");
  }
  /* Text of up to seven bytes lies in the value itself, longer text in a String object. */
  TVMFFIByteArray name = {args[0].v_bytes, args[0].small_str_len};
  if (args[0].type_index == kTVMFFIStr) name = *(const TVMFFIByteArray *)(args[0].v_obj + 1);
  if (args[0].type_index == kTVMFFIRawStr) {
    name.data = args[0].v_c_str;
    for (name.size = 0; name.data[name.size] != '\0'; name.size++) continue;
  }
  TVMFFIObjectHandle function = NULL;
  if (TVMFFIFunctionGetGlobal(&name, &function) != 0) return -1;
  if (function == NULL) return fail("KeyError", "sum_global: no function of that name");
  int status = sum_of(function, args[1].v_int64, result);
  TVMFFIObjectDecRef(function);
  return status;
}
