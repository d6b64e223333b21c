/* SPDX-License-Identifier: Apache-2.0 */
/* Streams, and which launches on them nothing has waited for. */
#include <stdlib.h>

#include "fake.h"

fake_stream *fake_stream_of(CUstream stream) {
  fake_slot *current = fake_current();
  if (stream == NULL || stream == FAKE_STREAM_LEGACY || stream == FAKE_STREAM_PER_THREAD) {
    if (current == NULL || !fake_slot_is(current, kIsContext)) return NULL;
    fake_context *context = current->object;
    return stream == FAKE_STREAM_PER_THREAD ? &context->per_thread : &context->legacy;
  }
  return fake_object(stream, kIsStream);
}

static bool is_legacy(const fake_stream *stream) {
  const fake_context *context = stream->context->object;
  return stream == &context->legacy;
}

CUresult fake_stream_use(CUstream handle, fake_stream **out) {
  fake_stream *stream = fake_stream_of(handle);
  if (stream == NULL) return FAKE_CUDA_ERROR_INVALID_HANDLE;
  *out = stream;
  if (stream->capture != NULL && stream->capture->invalid) {
    return FAKE_CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  }
  return is_legacy(stream) ? fake_capture_check_legacy(stream->context) : FAKE_CUDA_SUCCESS;
}

void fake_stream_wait(fake_stream *stream, uint64_t count) {
  if (count > stream->done) stream->done = count;
  if (!is_legacy(stream)) return;
  for (fake_slot *it = NULL; (it = fake_slot_next(it, kIsStream)) != NULL;) {
    fake_stream *other = it->object;
    if (other->context == stream->context && (other->flags & FAKE_CU_STREAM_NON_BLOCKING) == 0) {
      other->done = other->submitted;
    }
  }
}

void fake_context_wait(fake_slot *context) {
  fake_context *it = context->object;
  it->legacy.done = it->legacy.submitted;
  it->per_thread.done = it->per_thread.submitted;
  for (fake_slot *slot = NULL; (slot = fake_slot_next(slot, kIsStream)) != NULL;) {
    fake_stream *stream = slot->object;
    if (stream->context == context) stream->done = stream->submitted;
  }
}

static CUresult create(CUstream *out, unsigned flags, int priority) {
  if (out == NULL || flags > FAKE_CU_STREAM_NON_BLOCKING) return FAKE_CUDA_ERROR_INVALID_VALUE;
  fake_stream *stream = calloc(1, sizeof *stream);
  if (stream == NULL) return FAKE_CUDA_ERROR_OUT_OF_MEMORY;
  stream->context = fake_current();
  stream->flags = flags;
  stream->priority = priority;
  stream->handle = fake_slot_create(kIsStream, stream->context, stream);
  if (stream->handle == NULL) {
    free(stream);
    return FAKE_CUDA_ERROR_OUT_OF_MEMORY;
  }
  *out = stream->handle;
  return FAKE_CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream *out, unsigned flags) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuStreamCreate);
  if (result == 0) result = create(out, flags, 0);
  return fake_leave(&call, result);
}

CUresult cuStreamCreateWithPriority(CUstream *out, unsigned flags, int priority) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuStreamCreateWithPriority);
  if (result == 0) result = create(out, flags, priority);
  return fake_leave(&call, result);
}

/* What pointed at the stream must not find it again. */
static void forget(const fake_stream *stream) {
  for (fake_slot *it = NULL; (it = fake_slot_next(it, kIsEvent)) != NULL;) {
    fake_event *event = it->object;
    if (event->stream == stream) event->stream = NULL;
  }
  for (fake_slot *it = NULL; (it = fake_slot_next(it, kIsModule)) != NULL;) {
    fake_module *module = it->object;
    for (size_t i = 0; i < module->num_pending;) {
      if (module->pending[i].stream == stream) {
        module->pending[i] = module->pending[--module->num_pending];
      } else {
        ++i;
      }
    }
  }
}

void fake_stream_destroy(fake_stream *stream) {
  if (stream->capture != NULL) fake_capture_drop(stream->capture);
  if (stream->done < stream->submitted) ++fake.faults.freed_in_flight;
  forget(stream);
  fake_slot_destroy(stream->handle);
  free(stream);
}

CUresult cuStreamDestroy_v2(CUstream handle) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuStreamDestroy_v2);
  fake_stream *stream = NULL;
  if (result == 0) {
    stream = handle == NULL ? NULL : fake_object(handle, kIsStream);
    if (stream == NULL) result = FAKE_CUDA_ERROR_INVALID_HANDLE;
  }
  if (result == 0) fake_stream_destroy(stream);
  return fake_leave(&call, result);
}

/* Waiting and asking conflict with a capture whatever the thread's mode is. */
static CUresult wait(CUstream handle) {
  fake_stream *stream;
  CUresult result = fake_stream_use(handle, &stream);
  if (result != 0) return result;
  if (stream->capture != NULL) {
    fake_capture_invalidate(stream->capture);
    return FAKE_CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  if (!fake_capture_permits()) return FAKE_CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  fake_stream_wait(stream, stream->submitted);
  return atomic_load(&stream->context->sticky);
}

CUresult cuStreamSynchronize(CUstream stream) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuStreamSynchronize);
  if (result == 0) result = wait(stream);
  return fake_leave(&call, result);
}

CUresult cuStreamQuery(CUstream stream) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuStreamQuery);
  if (result == 0) result = wait(stream);
  return fake_leave(&call, result);
}

/* The stream of a query, and somewhere to write. */
static CUresult find(CUstream handle, const void *out, fake_stream **stream) {
  if (out == NULL) return FAKE_CUDA_ERROR_INVALID_VALUE;
  *stream = fake_stream_of(handle);
  if (*stream != NULL) return FAKE_CUDA_SUCCESS;
  return fake_current() == NULL ? FAKE_CUDA_ERROR_INVALID_CONTEXT : FAKE_CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuStreamGetFlags(CUstream handle, unsigned *out) {
  fake_call call;
  fake_stream *stream;
  CUresult result = fake_enter(&call, FAKE_cuStreamGetFlags);
  if (result == 0) result = find(handle, out, &stream);
  if (result == 0) *out = stream->flags;
  return fake_leave(&call, result);
}

CUresult cuStreamGetCtx(CUstream handle, CUcontext *out) {
  fake_call call;
  fake_stream *stream;
  CUresult result = fake_enter(&call, FAKE_cuStreamGetCtx);
  if (result == 0) result = find(handle, out, &stream);
  if (result == 0) *out = stream->context;
  return fake_leave(&call, result);
}

CUresult cuStreamGetCtx_v2(CUstream handle, CUcontext *out, void **green) {
  fake_call call;
  fake_stream *stream;
  CUresult result = fake_enter(&call, FAKE_cuStreamGetCtx_v2);
  if (result == 0) result = find(handle, out, &stream);
  if (result == 0) {
    *out = stream->context;
    if (green != NULL) *green = NULL;
  }
  return fake_leave(&call, result);
}

CUresult cuStreamGetDevice(CUstream handle, CUdevice *out) {
  fake_call call;
  fake_stream *stream;
  CUresult result = fake_enter(&call, FAKE_cuStreamGetDevice);
  if (result == 0) result = find(handle, out, &stream);
  if (result == 0) *out = stream->context->device;
  return fake_leave(&call, result);
}
