/* SPDX-License-Identifier: Apache-2.0 */
/* A module's functions: TVM FFI's arguments to a launch. */
#include "module.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "convert.h"
#include "core/hot.h"
#include "core/signature.h"
#include "core/text.h"
#include "cuda/kernel.h"
#include "error.h"
#include "metadata.h"

/* A function of the module. Lives as long as the process, as the module does. */
typedef struct module_function {
  pega_function *checked; /* for its signature: its check, its text */
  pega_kernel *kernel;
} module_function;

/* What one call works on. */
typedef struct module_call {
  const module_function *function;
  pega_value args[kMaxParams];
  int32_t ordinal;                     /* of the CUDA device that tensors are on, -1 for none */
  int32_t ordinal_from;                /* which argument said so */
  uint64_t addressed;                  /* bit per argument: a tensor in the place of a pointer */
  const DLTensor *tensors[kMaxParams]; /* those */
} module_call;

/* --- a function, when it is first used --- */

static pega_status never_called(void *self, const pega_value *args, int32_t num_args,
                                pega_value *result, pega_error *error) {
  (void)self;
  (void)args;
  (void)num_args;
  (void)result;
  return pega_error_set(error, PEGA_ERROR_INTERNAL, NULL, "a module's function has no call");
}

/* The pack's signature, but for the stream, which may be left to the environment. */
static pega_status make_checked(const pega_pack_function *described, pega_function **out,
                                pega_error *error) {
  pega_param params[kMaxParams];
  pega_signature signature = described->signature;
  for (int32_t i = 0; i < signature.num_params; ++i) {
    params[i] = signature.params[i];
    if (params[i].type == PEGA_TYPE_STREAM) params[i].flags |= PEGA_PARAM_OPTIONAL;
  }
  signature.params = params;
  signature.flags |= PEGA_SIGNATURE_SAME_DEVICE; /* a launch is on one device */
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  options.name = described->name;
  options.doc = described->doc;
  options.signature = &signature;
  options.call = never_called;
  return pega_function_create(&options, out, error);
}

__attribute__((cold, noinline)) static pega_status open_function(int32_t index,
                                                                 const module_function **out,
                                                                 pega_error *error) {
  pega_pack *pack;
  const pega_pack_function *described;
  pega_status status = pega_module_pack(&pack, error);
  if (status == PEGA_OK) status = pega_pack_describe(pack, index, &described, error);
  if (status != PEGA_OK) return status;
  module_function *made = calloc(1, sizeof *made);
  if (made == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory for function '%s'",
                          described->name);
  }
  status = make_checked(described, &made->checked, error);
  if (status == PEGA_OK) status = pega_kernel_get(pack, described, &made->kernel, error);
  void *first = NULL;
  if (status == PEGA_OK &&
      atomic_compare_exchange_strong(&pega_this_module.functions[index], &first, made)) {
    *out = made;
    return PEGA_OK;
  }
  /* Another thread was first. */
  if (status == PEGA_OK) *out = first;
  if (made->kernel != NULL) pega_kernel_release(made->kernel);
  pega_function_release(made->checked);
  free(made);
  return status;
}

static inline pega_status get_function(int32_t index, const module_function **out,
                                       pega_error *error) {
  *out = atomic_load_explicit(&pega_this_module.functions[index], memory_order_acquire);
  return __builtin_expect(*out != NULL, 1) ? PEGA_OK : open_function(index, out, error);
}

static int fail(pega_error *error) {
  int code = tvm_ffi_error_raise(&pega_module_runtime, error);
  pega_error_clear(error);
  return code;
}

/* --- arguments --- */

__attribute__((cold, noinline, format(printf, 5, 6))) static pega_status refuse(
    const module_call *call, int32_t index, pega_status status, pega_error *error,
    const char *format, ...) {
  char why[512];
  va_list args;
  va_start(args, format);
  (void)vsnprintf(why, sizeof why, format, args);
  va_end(args);
  const pega_function *checked = call->function->checked;
  return pega_error_set(error, status, NULL, "%s: argument %" PRId32 " '%s': %s; call it as %s",
                        pega_function_name(checked), index,
                        pega_function_signature(checked)->params[index].name, why,
                        pega_function_signature_text(checked));
}

/* All of a call's tensors on CUDA devices are on one. */
static inline pega_status note_device(module_call *call, int32_t index, const DLTensor *tensor,
                                      pega_error *error) {
  if (call->ordinal < 0) {
    call->ordinal = tensor->device.device_id;
    call->ordinal_from = index;
  }
  if (call->ordinal == tensor->device.device_id) return PEGA_OK;
  char name[PEGA_NAME_SIZE];
  const pega_signature *signature = pega_function_signature(call->function->checked);
  return refuse(call, index, PEGA_ERROR_DEVICE, error,
                "expected device cuda:%" PRId32 " as in argument %" PRId32 " '%s', got %s",
                call->ordinal, call->ordinal_from, signature->params[call->ordinal_from].name,
                pega_device_name(tensor->device, name));
}

static inline bool is_cuda(const DLTensor *tensor) {
  return (int)tensor->device.device_type == kDLCUDA ||
         (int)tensor->device.device_type == kDLCUDAManaged;
}

/* A tensor in the place of a pointer: its address, if it is all that a pointer can be. */
static pega_status take_address(module_call *call, int32_t index, const DLTensor *tensor,
                                pega_error *error) {
  char name[PEGA_NAME_SIZE];
  pega_error why = PEGA_ERROR_INIT;
  pega_status status = pega_tensor_validate(tensor, &why);
  if (status != PEGA_OK) {
    refuse(call, index, status, error, "%s", pega_error_message(&why));
    pega_error_clear(&why);
    return status;
  }
  if (!is_cuda(tensor)) {
    return refuse(call, index, PEGA_ERROR_DEVICE, error,
                  "expected memory of a cuda device, got a tensor on %s",
                  pega_device_name(tensor->device, name));
  }
  if (!pega_tensor_is_contiguous(tensor)) {
    return refuse(call, index, PEGA_ERROR_LAYOUT, error,
                  "expected a pointer or a contiguous tensor, got a tensor with strides; copy it");
  }
  call->args[index] = pega_value_pointer(pega_tensor_data(tensor));
  call->addressed |= (uint64_t)1 << index;
  call->tensors[index] = tensor;
  return note_device(call, index, tensor, error);
}

/* "float32 [seq_len, 32, 64]". */
static const char *name_pointee(const pega_signature *signature, const pega_pointee *pointee,
                                char *buffer, size_t capacity) {
  char name[PEGA_NAME_SIZE];
  pega_text text = {buffer, capacity, 0};
  pega_text_printf(&text, "%s [", pega_dtype_name(pointee->dtype, name));
  for (int32_t i = 0; i < pointee->rank; ++i) {
    const pega_pointee_dim *dim = &pointee->dims[i];
    if (i > 0) pega_text_append(&text, ", ", 2);
    if (dim->param < 0) {
      pega_text_printf(&text, "%" PRId64, dim->size);
    } else {
      pega_text_printf(&text, "%s", signature->params[dim->param].name);
    }
  }
  pega_text_append(&text, "]", 1);
  return buffer;
}

/* A tensor in the place of a pointer holds at least what the pack says of the memory, if it says. The other
 * arguments are checked. */
static pega_status check_memory(const module_call *call, int32_t index, pega_error *error) {
  const pega_pack_function *described = call->function->kernel->function;
  const pega_pointee *pointee = &described->pointees[index];
  const DLTensor *tensor = call->tensors[index];
  char expected[256];
  char got[PEGA_NAME_SIZE];
  if (pointee->rank < 0) return PEGA_OK;
  int64_t count = 1;
  bool fits = true;
  for (int32_t i = 0; i < pointee->rank; ++i) {
    const pega_pointee_dim *dim = &pointee->dims[i];
    if (dim->param >= 0 && call->args[dim->param].kind != PEGA_INT) return PEGA_OK;
    const int64_t size = dim->param < 0 ? dim->size : call->args[dim->param].as.i64;
    if (__builtin_mul_overflow(count, size, &count)) fits = false;
  }
  if (memcmp(&pointee->dtype, &tensor->dtype, sizeof tensor->dtype) != 0) {
    return refuse(call, index, PEGA_ERROR_DTYPE, error,
                  "expected a tensor of %s, got dtype %s; give its address if it is meant",
                  name_pointee(&described->signature, pointee, expected, sizeof expected),
                  pega_dtype_name(tensor->dtype, got));
  }
  if (fits && pega_tensor_num_elements(tensor) >= count) return PEGA_OK;
  return refuse(call, index, PEGA_ERROR_SHAPE, error,
                "expected a tensor of %s, which is %" PRId64 " elements, got %" PRId64,
                name_pointee(&described->signature, pointee, expected, sizeof expected),
                fits ? count : INT64_MAX, pega_tensor_num_elements(tensor));
}

/* A value that no kernel takes, for the check to name. */
static pega_status take_object(const TVMFFIAny *any, pega_value *out, pega_error *error) {
  const TVMFFITypeInfo *info = TVMFFIGetTypeInfo(any->type_index);
  char key[128];
  const size_t size = info == NULL || info->type_key.data == NULL ? 0 : info->type_key.size;
  (void)snprintf(key, sizeof key, "%.*s", (int)(size < sizeof key ? size : 0),
                 size == 0 ? "" : info->type_key.data);
  return pega_object_create(size == 0 ? "of an unknown type" : key, &pega_module_runtime, NULL,
                            NULL, out, error);
}

static pega_status take_big_integer(const TVMFFIAny *any, pega_value *out, pega_error *error) {
  /* Not by its name: an older library has none, and has to load the module all the same. */
  const tvm_ffi_api *api = &pega_module_runtime.api;
  if (api->TVMFFIBigIntGetContentByteArray != NULL) {
    const TVMFFIByteArray bytes = api->TVMFFIBigIntGetContentByteArray(any);
    uint64_t words[2] = {0, 1};
    if (bytes.size == sizeof words) memcpy(words, bytes.data, sizeof words);
    if (words[1] == 0) {
      *out = pega_value_uint(words[0]);
      return PEGA_OK;
    }
  }
  return take_object(any, out, error);
}

/* What is neither plain nor a tensor. Texts are views of what the caller holds. */
__attribute__((cold, noinline)) static pega_status take_rest(const TVMFFIAny *any, pega_value *out,
                                                             pega_error *error) {
  const TVMFFIByteArray *bytes;
  switch (any->type_index) {
    case kTVMFFIRawStr:
      *out = pega_value_string(any->v_c_str);
      return PEGA_OK;
    case kTVMFFISmallStr:
      *out = pega_value_string_n(any->v_bytes, any->small_str_len);
      return PEGA_OK;
    case kTVMFFISmallBytes:
      *out = pega_value_bytes(any->v_bytes, any->small_str_len);
      return PEGA_OK;
    case kTVMFFIStr:
    case kTVMFFIBytes:
    case kTVMFFIByteArrayPtr:
      bytes = any->type_index == kTVMFFIByteArrayPtr ? any->v_ptr : tvm_ffi_object_cell(any->v_obj);
      if (bytes->size > UINT32_MAX) return take_object(any, out, error);
      *out = any->type_index == kTVMFFIStr ? pega_value_string_n(bytes->data, bytes->size)
                                           : pega_value_bytes(bytes->data, bytes->size);
      return PEGA_OK;
    case kTVMFFIBigInt:
      return take_big_integer(any, out, error);
    default:
      return take_object(any, out, error);
  }
}

static pega_status take(module_call *call, int32_t index, const TVMFFIAny *any, uint32_t type,
                        pega_error *error) {
  pega_value *out = &call->args[index];
  const DLTensor *tensor;
  switch (any->type_index) {
    case kTVMFFIDLTensorPtr:
      tensor = any->v_ptr;
      break;
    case kTVMFFITensor:
      tensor = tvm_ffi_object_cell(any->v_obj);
      break;
    case kTVMFFIObjectRValueRef: {
      /* A reference that the callee may move from; looking through it leaves it as it is. */
      TVMFFIObject *const *slot = any->v_ptr;
      TVMFFIAny moved = tvm_ffi_none();
      if (slot != NULL && *slot != NULL) {
        moved.type_index = (*slot)->type_index;
        moved.v_obj = *slot;
      }
      if (moved.type_index == kTVMFFIObjectRValueRef) return take_object(any, out, error);
      return moved.type_index == kTVMFFINone ? PEGA_OK : take(call, index, &moved, type, error);
    }
    default:
      return take_rest(any, out, error);
  }
  if (type == PEGA_TYPE_POINTER && tensor != NULL) return take_address(call, index, tensor, error);
  if (tensor == NULL) {
    return refuse(call, index, PEGA_ERROR_INVALID_ARGUMENT, error, "the tensor is NULL");
  }
  *out = pega_value_tensor((DLTensor *)(uintptr_t)tensor);
  return is_cuda(tensor) ? note_device(call, index, tensor, error) : PEGA_OK;
}

/* --- the call --- */

/* The environment's stream, for a stream that was left out: the current context's device's where no tensor
 * says which. */
__attribute__((noinline)) static pega_status take_stream(module_call *call, pega_error *error) {
  int32_t ordinal = call->ordinal;
  if (ordinal < 0) {
    const pega_cuda_driver *driver;
    CUdevice handle = 0;
    pega_status status = pega_cuda_driver_get(&driver, error);
    if (status != PEGA_OK) return status;
    ordinal = driver->cuCtxGetDevice(&handle) == kCudaSuccess ? handle : 0;
  }
  void *stream = TVMFFIEnvGetStream(kDLCUDA, ordinal);
  call->args[call->function->kernel->stream_arg] = pega_value_pointer(stream);
  return PEGA_OK;
}

PEGA_HOT static pega_status run(module_call *call, const TVMFFIAny *any, int32_t num_args,
                                pega_error *error) {
  const pega_signature *signature = pega_function_signature(call->function->checked);
  const int32_t num_params = signature->num_params;
  const int32_t num_taken = num_args < num_params ? num_args : num_params;
  pega_status status = PEGA_OK;
  int32_t done = 0;
  bool counted = false;
  for (; done < num_taken && status == PEGA_OK; ++done) {
    if (tvm_ffi_plain_from_any(&any[done], &call->args[done])) continue;
    call->args[done] = pega_value_none();
    status = take(call, done, &any[done], signature->params[done].type, error);
    counted |= call->args[done].flags != 0;
  }
  if (status == PEGA_OK) {
    /* One that is called with too many arguments looks at none of them. */
    status = pega_function_check(call->function->checked, call->args, num_args, error);
  }
  for (uint64_t left = call->addressed; left != 0 && status == PEGA_OK; left &= left - 1) {
    status = check_memory(call, __builtin_ctzll(left), error);
  }
  if (__builtin_expect(counted, 0)) {
    for (int32_t i = 0; i < done; ++i) pega_value_release(&call->args[i]);
  }
  if (status != PEGA_OK) return status;
  for (int32_t i = done; i < num_params; ++i) call->args[i] = pega_value_none();
  pega_kernel *kernel = call->function->kernel;
  if (kernel->stream_arg >= 0 && call->args[kernel->stream_arg].kind == PEGA_NONE) {
    status = take_stream(call, error);
    if (status != PEGA_OK) return status;
  }
  return pega_kernel_launch_on(kernel, call->args, call->ordinal, NULL, error);
}

PEGA_HOT int pega_module_call(int32_t index, const TVMFFIAny *args, int32_t num_args,
                              TVMFFIAny *result) {
  module_call call;
  call.ordinal = call.ordinal_from = -1;
  call.addressed = 0;
  pega_error error;
  pega_error_init(&error);
  pega_status status = get_function(index, &call.function, &error);
  if (status == PEGA_OK && (num_args < 0 || (num_args > 0 && args == NULL))) {
    status = pega_error_set(
        &error, PEGA_ERROR_INVALID_ARGUMENT, NULL, "%s: %" PRId32 " arguments at %s",
        pega_function_name(call.function->checked), num_args, args == NULL ? "NULL" : "an address");
  }
  if (status == PEGA_OK) status = run(&call, args, num_args, &error);
  if (__builtin_expect(status != PEGA_OK, 0)) return fail(&error);
  if (result != NULL) *result = tvm_ffi_none();
  return 0;
}

/* --- what a function tells of itself --- */

static int give_text(const char *text, TVMFFIAny *result) {
  const TVMFFIByteArray bytes = {text, strlen(text)};
  return TVMFFIStringFromByteArray(&bytes, result);
}

int pega_module_metadata(int32_t index, TVMFFIAny *result) {
  const module_function *function;
  pega_error error = PEGA_ERROR_INIT;
  if (get_function(index, &function, &error) != PEGA_OK) return fail(&error);
  pega_tvm_ffi runtime = {.api = pega_module_runtime.api};
  TVMFFIGetVersion(&runtime.version);
  char *metadata = tvm_ffi_metadata(&runtime, function->checked);
  if (metadata == NULL) {
    pega_error_set(&error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory for metadata");
    return fail(&error);
  }
  int code = give_text(metadata, result);
  free(metadata);
  return code;
}

int pega_module_doc(int32_t index, TVMFFIAny *result) {
  const module_function *function;
  pega_error error = PEGA_ERROR_INIT;
  if (get_function(index, &function, &error) != PEGA_OK) return fail(&error);
  return give_text(pega_function_doc(function->checked), result);
}
