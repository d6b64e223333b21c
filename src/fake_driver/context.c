/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts: made, primary, and the stack of them that each thread has. */
#include <stdlib.h>
#include <string.h>

#include "fake.h"

static fake_context *new_context(unsigned flags, bool primary) {
  fake_context *context = calloc(1, sizeof *context);
  if (context == NULL) return NULL;
  context->id = ++fake.next_id;
  context->flags = flags;
  context->primary = primary;
  return context;
}

static void bind(fake_slot *slot, fake_context *context, CUdevice device) {
  slot->device = device;
  context->legacy.context = slot;
  context->per_thread.context = slot;
}

static fake_slot *next_of(fake_slot *after, fake_kind kind, const fake_slot *context) {
  do {
    after = fake_slot_next(after, kind);
  } while (after != NULL && after->context != context);
  return after;
}

void fake_context_empty(fake_slot *slot) {
  fake_context *context = slot->object;
  fake_context_wait(slot);
  for (fake_slot *it = NULL; (it = next_of(it, kIsModule, slot)) != NULL;) {
    ++fake.faults.lost_with_context;
    fake_module_destroy(it->object);
  }
  for (fake_slot *it = NULL; (it = next_of(it, kIsStream, slot)) != NULL;) {
    ++fake.faults.lost_with_context;
    fake_stream_destroy(it->object);
  }
  for (fake_slot *it = NULL; (it = next_of(it, kIsEvent, slot)) != NULL;) {
    ++fake.faults.lost_with_context;
    free(it->object);
    fake_slot_destroy(it);
  }
  fake_memory_empty(slot);
  if (context->per_thread.capture != NULL) fake_capture_drop(context->per_thread.capture);
}

static void destroy(fake_slot *slot) {
  fake_context_empty(slot);
  free(slot->object);
  fake_slot_destroy(slot);
  fake_update_slow();
}

void fake_contexts_reset(void) {
  for (fake_slot *it = NULL; (it = fake_slot_next(it, kIsGraphExec)) != NULL;) {
    fake_graph_free(it->object);
    fake_slot_destroy(it);
  }
  for (fake_slot *it = NULL; (it = fake_slot_next(it, kIsGraph)) != NULL;) {
    fake_graph_free(it->object);
    fake_slot_destroy(it);
  }
  for (fake_slot *it = NULL; (it = fake_slot_next(it, kIsContext)) != NULL;) destroy(it);
}

void fake_context_poison(fake_slot *context, int result) {
  int before = atomic_exchange(&context->sticky, result);
  if (before == 0 && result != 0) ++fake.num_poisoned;
  if (before != 0 && result == 0) --fake.num_poisoned;
  fake_update_slow();
}

/* -------------------------------------------------------------------------- primary contexts -- */

/* A primary context's handle stays the same over its lives. */
static CUresult revive(fake_device *device, CUdevice ordinal) {
  fake_context *context = new_context(0, true);
  if (context == NULL) return FAKE_CUDA_ERROR_OUT_OF_MEMORY;
  if (device->primary == NULL) {
    device->primary = fake_slot_create(kIsContext, NULL, context);
    if (device->primary == NULL) {
      free(context);
      return FAKE_CUDA_ERROR_OUT_OF_MEMORY;
    }
  } else {
    device->primary->object = context;
    atomic_store(&device->primary->kind, kIsContext);
  }
  bind(device->primary, context, ordinal);
  return FAKE_CUDA_SUCCESS;
}

static CUresult retain(CUcontext *out, CUdevice ordinal) {
  if (out == NULL) return FAKE_CUDA_ERROR_INVALID_VALUE;
  fake_device *device = fake_device_of(ordinal);
  if (device == NULL) return FAKE_CUDA_ERROR_INVALID_DEVICE;
  if (device->primary == NULL || !fake_slot_is(device->primary, kIsContext)) {
    CUresult result = revive(device, ordinal);
    if (result != 0) return result;
  }
  ++device->retains;
  *out = device->primary;
  return FAKE_CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *out, CUdevice device) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuDevicePrimaryCtxRetain);
  if (result == 0) result = retain(out, device);
  return fake_leave(&call, result);
}

static CUresult release(CUdevice ordinal) {
  fake_device *device = fake_device_of(ordinal);
  if (device == NULL) return FAKE_CUDA_ERROR_INVALID_DEVICE;
  if (device->retains == 0) return FAKE_CUDA_ERROR_INVALID_CONTEXT;
  if (--device->retains == 0 && fake_slot_is(device->primary, kIsContext)) destroy(device->primary);
  return FAKE_CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuDevicePrimaryCtxRelease_v2);
  if (result == 0) result = release(device);
  return fake_leave(&call, result);
}

CUresult cuDevicePrimaryCtxGetState(CUdevice ordinal, unsigned *flags, int *active) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuDevicePrimaryCtxGetState);
  const fake_device *device = fake_device_of(ordinal);
  if (result == 0 && (flags == NULL || active == NULL)) result = FAKE_CUDA_ERROR_INVALID_VALUE;
  if (result == 0 && device == NULL) result = FAKE_CUDA_ERROR_INVALID_DEVICE;
  if (result == 0) {
    *flags = 0;
    *active = device->primary != NULL && fake_slot_is(device->primary, kIsContext);
  }
  return fake_leave(&call, result);
}

/* A reset ends the context's life, not the retains: who uses it next finds it destroyed. */
CUresult cuDevicePrimaryCtxReset_v2(CUdevice ordinal) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuDevicePrimaryCtxReset_v2);
  fake_device *device = fake_device_of(ordinal);
  if (result == 0 && device == NULL) result = FAKE_CUDA_ERROR_INVALID_DEVICE;
  if (result == 0 && device->primary != NULL && fake_slot_is(device->primary, kIsContext)) {
    destroy(device->primary);
  }
  return fake_leave(&call, result);
}

/* -------------------------------------------------------------------------- made by the user -- */

static CUresult push(fake_slot *context) {
  fake_thread *thread = fake_this_thread();
  if (thread->depth == kMaxStack) return FAKE_CUDA_ERROR_OUT_OF_MEMORY;
  thread->stack[thread->depth++] = context;
  return FAKE_CUDA_SUCCESS;
}

static CUresult create(CUcontext *out, unsigned flags, CUdevice device) {
  if (out == NULL || (flags & ~0xFFu) != 0) return FAKE_CUDA_ERROR_INVALID_VALUE;
  if (fake_device_of(device) == NULL) return FAKE_CUDA_ERROR_INVALID_DEVICE;
  fake_context *context = new_context(flags, false);
  fake_slot *slot = context == NULL ? NULL : fake_slot_create(kIsContext, NULL, context);
  CUresult result = slot == NULL ? FAKE_CUDA_ERROR_OUT_OF_MEMORY : push(slot);
  if (result != 0) {
    free(context);
    if (slot != NULL) fake_slot_destroy(slot);
    return result;
  }
  bind(slot, context, device);
  *out = slot;
  return FAKE_CUDA_SUCCESS;
}

CUresult cuCtxCreate_v2(CUcontext *out, unsigned flags, CUdevice device) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuCtxCreate_v2);
  if (result == 0) result = create(out, flags, device);
  return fake_leave(&call, result);
}

CUresult cuCtxCreate_v3(CUcontext *out, void *affinity, int count, unsigned flags,
                        CUdevice device) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuCtxCreate_v3);
  if (result == 0 && (affinity != NULL || count != 0)) result = FAKE_CUDA_ERROR_NOT_SUPPORTED;
  if (result == 0) result = create(out, flags, device);
  return fake_leave(&call, result);
}

CUresult cuCtxCreate_v4(CUcontext *out, void *params, unsigned flags, CUdevice device) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuCtxCreate_v4);
  if (result == 0 && params != NULL) result = FAKE_CUDA_ERROR_NOT_SUPPORTED;
  if (result == 0) result = create(out, flags, device);
  return fake_leave(&call, result);
}

static CUresult destroy_by_user(CUcontext slot) {
  if (slot == NULL) return FAKE_CUDA_ERROR_INVALID_VALUE;
  const fake_context *context = fake_object(slot, kIsContext);
  if (context == NULL || context->primary) return FAKE_CUDA_ERROR_INVALID_CONTEXT;
  destroy(slot);
  fake_thread *thread = fake_this_thread();
  if (fake_current() == slot) --thread->depth;
  return FAKE_CUDA_SUCCESS;
}

CUresult cuCtxDestroy_v2(CUcontext context) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuCtxDestroy_v2);
  if (result == 0) result = destroy_by_user(context);
  return fake_leave(&call, result);
}

/* --------------------------------------------------------------------------------- the stack -- */

CUresult cuCtxGetCurrent(CUcontext *out) {
  if (out != NULL && atomic_load_explicit(&fake_slow, memory_order_acquire) == 0) {
    fake_count_quietly(kQuietGetCurrent);
    *out = fake_current();
    return FAKE_CUDA_SUCCESS;
  }
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuCtxGetCurrent);
  if (result == 0 && out == NULL) result = FAKE_CUDA_ERROR_INVALID_VALUE;
  if (result == 0) *out = fake_current();
  return fake_leave(&call, result);
}

static CUresult set_current(CUcontext context) {
  fake_thread *thread = fake_this_thread();
  /* A destroyed context may be made current; the calls that use it then fail with 709. */
  if (context != NULL && fake_object(context, kIsContext) == NULL &&
      !fake_slot_is(context, kIsContext | kDead)) {
    return FAKE_CUDA_ERROR_INVALID_CONTEXT;
  }
  if (context == NULL) {
    if (thread->depth > 0) --thread->depth;
  } else if (thread->depth == 0) {
    return push(context);
  } else {
    thread->stack[thread->depth - 1] = context;
  }
  return FAKE_CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuCtxSetCurrent);
  if (result == 0) result = set_current(context);
  return fake_leave(&call, result);
}

CUresult cuCtxPushCurrent_v2(CUcontext context) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuCtxPushCurrent_v2);
  if (result == 0 && fake_object(context, kIsContext) == NULL) {
    result = FAKE_CUDA_ERROR_INVALID_CONTEXT;
  }
  if (result == 0) result = push(context);
  return fake_leave(&call, result);
}

CUresult cuCtxPopCurrent_v2(CUcontext *out) {
  fake_call call;
  fake_thread *thread = fake_this_thread();
  CUresult result = fake_enter(&call, FAKE_cuCtxPopCurrent_v2);
  if (result == 0 && thread->depth == 0) result = FAKE_CUDA_ERROR_INVALID_CONTEXT;
  if (result == 0) {
    fake_slot *context = thread->stack[--thread->depth];
    if (out != NULL) *out = context;
  }
  return fake_leave(&call, result);
}

/* ----------------------------------------------------------------------------------- queries -- */

/* A context by handle, NULL for the current one. */
static CUresult find(CUcontext handle, fake_slot **out) {
  *out = handle == NULL ? fake_current() : handle;
  if (*out != NULL && fake_slot_is(*out, kIsContext | kDead)) {
    return FAKE_CUDA_ERROR_CONTEXT_IS_DESTROYED;
  }
  return *out != NULL && fake_object(*out, kIsContext) != NULL ? FAKE_CUDA_SUCCESS
                                                               : FAKE_CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuCtxGetDevice(CUdevice *out) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuCtxGetDevice);
  if (result == 0 && out == NULL) result = FAKE_CUDA_ERROR_INVALID_VALUE;
  if (result == 0) *out = fake_current()->device;
  return fake_leave(&call, result);
}

CUresult cuCtxGetDevice_v2(CUdevice *out, CUcontext context) {
  fake_call call;
  fake_slot *it;
  CUresult result = fake_enter(&call, FAKE_cuCtxGetDevice_v2);
  if (result == 0 && out == NULL) result = FAKE_CUDA_ERROR_INVALID_VALUE;
  if (result == 0) result = find(context, &it);
  if (result == 0) *out = it->device;
  return fake_leave(&call, result);
}

CUresult cuCtxGetFlags(unsigned *out) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuCtxGetFlags);
  if (result == 0 && out == NULL) result = FAKE_CUDA_ERROR_INVALID_VALUE;
  if (result == 0) *out = ((const fake_context *)fake_current()->object)->flags;
  return fake_leave(&call, result);
}

CUresult cuCtxGetId(CUcontext context, unsigned long long *out) {
  fake_call call;
  fake_slot *it;
  CUresult result = fake_enter(&call, FAKE_cuCtxGetId);
  if (result == 0 && out == NULL) result = FAKE_CUDA_ERROR_INVALID_VALUE;
  if (result == 0) result = find(context, &it);
  if (result == 0) *out = ((const fake_context *)it->object)->id;
  return fake_leave(&call, result);
}

CUresult cuCtxGetApiVersion(CUcontext context, unsigned *out) {
  fake_call call;
  fake_slot *it;
  CUresult result = fake_enter(&call, FAKE_cuCtxGetApiVersion);
  if (result == 0 && out == NULL) result = FAKE_CUDA_ERROR_INVALID_VALUE;
  if (result == 0) result = find(context, &it);
  if (result == 0) *out = 3020; /* what contexts of the _v2 functions and later have */
  return fake_leave(&call, result);
}

static CUresult synchronize(fake_slot *context) {
  bool capturing = false;
  for (fake_capture *it = fake.captures; it != NULL; it = it->next) {
    if (it->stream->context != context) continue;
    fake_capture_invalidate(it);
    capturing = true;
  }
  if (capturing || !fake_capture_permits()) return FAKE_CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  fake_context_wait(context);
  return atomic_load(&context->sticky);
}

CUresult cuCtxSynchronize(void) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuCtxSynchronize);
  if (result == 0) result = synchronize(fake_current());
  return fake_leave(&call, result);
}

CUresult cuCtxSynchronize_v2(CUcontext context) {
  fake_call call;
  fake_slot *it;
  CUresult result = fake_enter(&call, FAKE_cuCtxSynchronize_v2);
  if (result == 0) result = find(context, &it);
  if (result == 0) result = synchronize(it);
  return fake_leave(&call, result);
}
