/* SPDX-License-Identifier: Apache-2.0 */
/* The fixture module's heart: numbers, a tensor, callbacks, globals and functions as results. */
#include "fixture.h"

#include <pthread.h>
#include <stdlib.h>

int fixture_fail(const char *kind, const char *message) {
  TVMFFIErrorSetRaisedFromCStr(kind, message);
  return -1;
}

bool fixture_text(const TVMFFIAny *value, TVMFFIByteArray *out) {
  switch (value->type_index) {
    case kTVMFFISmallStr:
    case kTVMFFISmallBytes:
      out->data = value->v_bytes;
      out->size = value->small_str_len;
      return true;
    case kTVMFFIRawStr:
      out->data = value->v_c_str;
      out->size = strlen(value->v_c_str);
      return true;
    case kTVMFFIByteArrayPtr:
      *out = *(const TVMFFIByteArray *)value->v_ptr;
      return true;
    case kTVMFFIStr:
    case kTVMFFIBytes:
      *out = *(const TVMFFIByteArray *)fixture_cell(value);
      return true;
    default:
      return false;
  }
}

DLTensor *fixture_tensor(const TVMFFIAny *value) {
  if (value->type_index == kTVMFFIDLTensorPtr) return value->v_ptr;
  if (value->type_index == kTVMFFITensor) return fixture_cell(value);
  return NULL;
}

int fixture_call(void *function, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  /* The C API takes arguments without const but does not write to them. */
  return TVMFFIFunctionCall(function, (TVMFFIAny *)(uintptr_t)args, num_args, result);
}

int fixture_call_global(const char *name, const TVMFFIAny *args, int32_t num_args,
                        TVMFFIAny *result) {
  TVMFFIByteArray key = {name, strlen(name)};
  TVMFFIObjectHandle function = NULL;
  int status = TVMFFIFunctionGetGlobal(&key, &function);
  if (status != 0) return status;
  if (function == NULL) return fixture_fail("KeyError", name);
  status = fixture_call(function, args, num_args, result);
  TVMFFIObjectDecRef(function);
  return status;
}

FIXTURE_EXPORT(add) {
  if (num_args != 2) return fixture_fail("TypeError", "add: expected 2 arguments");
  if (args[0].type_index != kTVMFFIInt || args[1].type_index != kTVMFFIInt) {
    return fixture_fail("TypeError", "add: expected two integers");
  }
  /* Wraps around: signed overflow is undefined in C. */
  fixture_return_int(result, (int64_t)((uint64_t)args[0].v_int64 + (uint64_t)args[1].v_int64));
  return 0;
}

static bool is_float_vector(const DLTensor *tensor) {
  return tensor != NULL && tensor->ndim == 1 && tensor->device.device_type == kDLCPU &&
         tensor->dtype.code == kDLFloat && tensor->dtype.bits == 32 && tensor->dtype.lanes == 1;
}

/* y[i] = x[i] + 1, whatever the strides and offsets of the two. */
FIXTURE_EXPORT(add_one) {
  const DLTensor *x = num_args == 2 ? fixture_tensor(&args[0]) : NULL;
  const DLTensor *y = num_args == 2 ? fixture_tensor(&args[1]) : NULL;
  if (!is_float_vector(x) || !is_float_vector(y)) {
    return fixture_fail("TypeError", "add_one: expected two float32 vectors on the CPU");
  }
  if (x->shape[0] != y->shape[0]) {
    return fixture_fail("ValueError", "add_one: the two vectors differ in length");
  }
  const float *from = (const float *)((const char *)x->data + x->byte_offset);
  float *to = (float *)((char *)y->data + y->byte_offset);
  int64_t from_stride = x->strides == NULL ? 1 : x->strides[0];
  int64_t to_stride = y->strides == NULL ? 1 : y->strides[0];
  for (int64_t i = 0; i < x->shape[0]; i++) to[i * to_stride] = from[i * from_stride] + 1.0f;
  return 0;
}

/* apply(f, ...): what f returns, and its error untouched if it fails. */
FIXTURE_EXPORT(apply) {
  if (!fixture_is_function(args, num_args, 0)) {
    return fixture_fail("TypeError", "apply: argument 0 must be a function");
  }
  return fixture_call(args[0].v_obj, args + 1, num_args - 1, result);
}

struct thread_call {
  const TVMFFIAny *args;
  int32_t num_args;
  TVMFFIAny result;
  int status;
  TVMFFIObjectHandle error;
};

static void *run_thread_call(void *argument) {
  struct thread_call *call = argument;
  call->status =
      fixture_call(call->args[0].v_obj, call->args + 1, call->num_args - 1, &call->result);
  if (call->status != 0) TVMFFIErrorMoveFromRaised(&call->error);
  return NULL;
}

/* apply on a thread that neither the host nor the runtime has seen; its error is carried over. */
FIXTURE_EXPORT(apply_on_thread) {
  if (!fixture_is_function(args, num_args, 0)) {
    return fixture_fail("TypeError", "apply_on_thread: argument 0 must be a function");
  }
  struct thread_call call = {args, num_args, *result, 0, NULL};
  pthread_t thread;
  if (pthread_create(&thread, NULL, run_thread_call, &call) != 0) {
    return fixture_fail("OSError", "apply_on_thread: no thread to be had");
  }
  pthread_join(thread, NULL);
  *result = call.result;
  if (call.error != NULL) {
    TVMFFIErrorSetRaised(call.error);
    TVMFFIObjectDecRef(call.error);
  }
  return call.status;
}

/* call_global(name, ...): what the runtime's global function returns. */
FIXTURE_EXPORT(call_global) {
  TVMFFIByteArray name;
  if (num_args < 1 || !fixture_text(&args[0], &name)) {
    return fixture_fail("TypeError", "call_global: argument 0 must be a name");
  }
  char *copy = strndup(name.data, name.size);
  if (copy == NULL) return fixture_fail("MemoryError", "call_global: no memory");
  int status = fixture_call_global(copy, args + 1, num_args - 1, result);
  free(copy);
  return status;
}

static int64_t function_deleters;

static int call_adder(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  if (num_args != 1 || args[0].type_index != kTVMFFIInt) {
    return fixture_fail("TypeError", "adder: expected one integer");
  }
  fixture_return_int(result, args[0].v_int64 + *(const int64_t *)self);
  return 0;
}

static void delete_adder(void *self) {
  free(self);
  __atomic_add_fetch(&function_deleters, 1, __ATOMIC_RELAXED);
}

/* return_function(n): a new function that adds n. */
FIXTURE_EXPORT(return_function) {
  if (num_args != 1 || args[0].type_index != kTVMFFIInt) {
    return fixture_fail("TypeError", "return_function: expected one integer");
  }
  int64_t *addend = malloc(sizeof *addend);
  if (addend == NULL) return fixture_fail("MemoryError", "return_function: no memory");
  *addend = args[0].v_int64;
  TVMFFIObjectHandle function = NULL;
  if (TVMFFIFunctionCreate(addend, call_adder, delete_adder, &function) != 0) {
    free(addend);
    return -1;
  }
  fixture_return_object(result, function);
  return 0;
}

/* deleter_count(): how many functions made by return_function are gone. */
FIXTURE_EXPORT(deleter_count) {
  fixture_return_int(result, __atomic_load_n(&function_deleters, __ATOMIC_RELAXED));
  return 0;
}
