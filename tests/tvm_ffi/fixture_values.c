/* SPDX-License-Identifier: Apache-2.0 */
/* The fixture module's values: what arrives, what leaves, who holds it and for how long. */
#include "fixture.h"

#include <pthread.h>
#include <stdlib.h>
#include <tvm/ffi/extra/c_env_api.h>

/* identity(x): an owned copy of x, whatever it is. */
FIXTURE_EXPORT(identity) {
  if (num_args != 1) return fixture_fail("TypeError", "identity: expected 1 argument");
  return TVMFFIAnyViewToOwnedAny(&args[0], result);
}

/* nothing(...): None, whatever it is given. */
FIXTURE_EXPORT(nothing) { return 0; }

/* type_index(x): the tag with which x arrived. */
FIXTURE_EXPORT(type_index) {
  if (num_args != 1) return fixture_fail("TypeError", "type_index: expected 1 argument");
  fixture_return_int(result, args[0].type_index);
  return 0;
}

/* int_bits(x): the payload of x as an integer. */
FIXTURE_EXPORT(int_bits) {
  if (num_args != 1) return fixture_fail("TypeError", "int_bits: expected 1 argument");
  fixture_return_int(result, args[0].v_int64);
  return 0;
}

/* text_size(x): bytes of a string or bytes value of any form. */
FIXTURE_EXPORT(text_size) {
  TVMFFIByteArray text;
  if (num_args != 1 || !fixture_text(&args[0], &text)) {
    return fixture_fail("TypeError", "text_size: expected text or bytes");
  }
  fixture_return_int(result, (int64_t)text.size);
  return 0;
}

/* references(x): strong references of a counted object. */
FIXTURE_EXPORT(references) {
  if (num_args != 1 || args[0].type_index < kTVMFFIStaticObjectBegin) {
    return fixture_fail("TypeError", "references: expected an object");
  }
  fixture_return_int(result, fixture_references(args[0].v_obj));
  return 0;
}

FIXTURE_EXPORT(make_array) { return fixture_call_global("ffi.Array", args, num_args, result); }

/* make_map(key, value, key, value, ...) */
FIXTURE_EXPORT(make_map) { return fixture_call_global("ffi.Map", args, num_args, result); }

/* array_sum(a): the integers of an Array, read through the runtime: a is a real one. */
FIXTURE_EXPORT(array_sum) {
  if (num_args != 1) return fixture_fail("TypeError", "array_sum: expected 1 argument");
  TVMFFIAny size = {0};
  if (fixture_call_global("ffi.ArraySize", args, 1, &size) != 0) return -1;
  int64_t sum = 0;
  for (int64_t i = 0; i < size.v_int64; i++) {
    TVMFFIAny request[2] = {args[0], {0}};
    TVMFFIAny item = {0};
    fixture_return_int(&request[1], i);
    if (fixture_call_global("ffi.ArrayGetItem", request, 2, &item) != 0) return -1;
    sum += item.type_index == kTVMFFIInt ? item.v_int64 : 0;
    fixture_release(&item);
  }
  fixture_return_int(result, sum);
  return 0;
}

/* map_get(m, key): the item of a Map, read through the runtime. */
FIXTURE_EXPORT(map_get) { return fixture_call_global("ffi.MapGetItem", args, num_args, result); }

/* ---- values that outlive the call ---- */

static TVMFFIAny held;

/* hold(x): keeps x. */
FIXTURE_EXPORT(hold) {
  if (num_args != 1) return fixture_fail("TypeError", "hold: expected 1 argument");
  fixture_release(&held);
  return TVMFFIAnyViewToOwnedAny(&args[0], &held);
}

/* call_held(...): calls the function that is kept. */
FIXTURE_EXPORT(call_held) {
  if (held.type_index != kTVMFFIFunction) {
    return fixture_fail("RuntimeError", "call_held: no function is held");
  }
  return fixture_call(held.v_obj, args, num_args, result);
}

/* get_held(): the value that is kept. */
FIXTURE_EXPORT(get_held) { return TVMFFIAnyViewToOwnedAny(&held, result); }

FIXTURE_EXPORT(release_held) {
  fixture_release(&held);
  return 0;
}

static void *release_held(void *argument) {
  (void)argument;
  fixture_release(&held);
  return NULL;
}

/* release_held_on_thread(): the last reference is given back on a thread of the fixture's own. */
FIXTURE_EXPORT(release_held_on_thread) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, release_held, NULL) != 0) {
    return fixture_fail("OSError", "release_held_on_thread: no thread to be had");
  }
  pthread_join(thread, NULL);
  return 0;
}

/* ---- tensors ---- */

static int64_t tensor_deleters;

struct owned_tensor {
  DLManagedTensor managed;
  int64_t shape[1];
  float data[];
};

static void delete_tensor(DLManagedTensor *self) {
  free(self);
  __atomic_add_fetch(&tensor_deleters, 1, __ATOMIC_RELAXED);
}

/* make_tensor(n): a Tensor object holding 0, 1, ..., n - 1 as float32. */
FIXTURE_EXPORT(make_tensor) {
  if (num_args != 1 || args[0].type_index != kTVMFFIInt || args[0].v_int64 < 0) {
    return fixture_fail("TypeError", "make_tensor: expected a length");
  }
  size_t length = (size_t)args[0].v_int64;
  struct owned_tensor *tensor = calloc(1, sizeof *tensor + length * sizeof(float));
  if (tensor == NULL) return fixture_fail("MemoryError", "make_tensor: no memory");
  tensor->shape[0] = args[0].v_int64;
  for (size_t i = 0; i < length; i++) tensor->data[i] = (float)i;
  DLTensor *view = &tensor->managed.dl_tensor;
  view->data = tensor->data;
  view->device.device_type = kDLCPU;
  view->ndim = 1;
  view->dtype.code = kDLFloat;
  view->dtype.bits = 32;
  view->dtype.lanes = 1;
  view->shape = tensor->shape;
  tensor->managed.deleter = delete_tensor;
  TVMFFIObjectHandle object = NULL;
  if (TVMFFITensorFromDLPack(&tensor->managed, 0, 0, &object) != 0) {
    free(tensor);
    return -1;
  }
  fixture_return_object(result, object);
  return 0;
}

/* tensor_deleter_count(): how many tensors made by make_tensor are gone. */
FIXTURE_EXPORT(tensor_deleter_count) {
  fixture_return_int(result, __atomic_load_n(&tensor_deleters, __ATOMIC_RELAXED));
  return 0;
}

/* tensor_address(x): where the elements of x begin. */
FIXTURE_EXPORT(tensor_address) {
  const DLTensor *tensor = num_args == 1 ? fixture_tensor(&args[0]) : NULL;
  if (tensor == NULL) return fixture_fail("TypeError", "tensor_address: expected a tensor");
  result->type_index = kTVMFFIOpaquePtr;
  result->zero_padding = 0;
  result->v_ptr = (char *)tensor->data + tensor->byte_offset;
  return 0;
}

/* get_stream(device_type, device_id): the runtime's current stream of the calling thread. */
FIXTURE_EXPORT(get_stream) {
  if (num_args != 2 || args[0].type_index != kTVMFFIInt || args[1].type_index != kTVMFFIInt) {
    return fixture_fail("TypeError", "get_stream: expected two integers");
  }
  result->type_index = kTVMFFIOpaquePtr;
  result->zero_padding = 0;
  result->v_ptr = TVMFFIEnvGetStream((int32_t)args[0].v_int64, (int32_t)args[1].v_int64);
  return 0;
}
