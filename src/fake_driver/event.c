/* SPDX-License-Identifier: Apache-2.0 */
/* Events: when they were recorded, and which launches they stand behind. */
#include <stdlib.h>
#include <time.h>

#include "fake.h"

static CUresult create(CUevent *out, unsigned flags) {
  if (out == NULL || flags > 7) return FAKE_CUDA_ERROR_INVALID_VALUE;
  fake_event *event = calloc(1, sizeof *event);
  if (event == NULL) return FAKE_CUDA_ERROR_OUT_OF_MEMORY;
  event->flags = flags;
  fake_slot *slot = fake_slot_create(kIsEvent, fake_current(), event);
  if (slot == NULL) {
    free(event);
    return FAKE_CUDA_ERROR_OUT_OF_MEMORY;
  }
  *out = slot;
  return FAKE_CUDA_SUCCESS;
}

CUresult cuEventCreate(CUevent *out, unsigned flags) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuEventCreate);
  if (result == 0) result = create(out, flags);
  return fake_leave(&call, result);
}

static CUresult record(CUevent handle, CUstream stream_handle) {
  fake_event *event = fake_object(handle, kIsEvent);
  if (event == NULL) return FAKE_CUDA_ERROR_INVALID_HANDLE;
  fake_stream *stream;
  CUresult result = fake_stream_use(stream_handle, &stream);
  if (result != 0) return result;
  if (stream->context != handle->context) return FAKE_CUDA_ERROR_INVALID_HANDLE;
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  event->milliseconds = (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
  event->recorded = true;
  event->captured = stream->capture != NULL;
  event->stream = stream;
  event->count = stream->submitted;
  return FAKE_CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuEventRecord);
  if (result == 0) result = record(event, stream);
  return fake_leave(&call, result);
}

static CUresult wait(CUevent handle) {
  fake_event *event = fake_object(handle, kIsEvent);
  if (event == NULL) return FAKE_CUDA_ERROR_INVALID_HANDLE;
  if (event->captured) {
    if (event->stream != NULL && event->stream->capture != NULL) {
      fake_capture_invalidate(event->stream->capture);
    }
    return FAKE_CUDA_ERROR_CAPTURED_EVENT;
  }
  if (!fake_capture_permits()) return FAKE_CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (event->stream != NULL) fake_stream_wait(event->stream, event->count);
  return atomic_load(&handle->context->sticky);
}

CUresult cuEventQuery(CUevent event) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuEventQuery);
  if (result == 0) result = wait(event);
  return fake_leave(&call, result);
}

CUresult cuEventSynchronize(CUevent event) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuEventSynchronize);
  if (result == 0) result = wait(event);
  return fake_leave(&call, result);
}

/* Joining another stream to a capture is not modelled. */
static CUresult stream_wait(CUstream stream_handle, CUevent handle) {
  const fake_event *event = fake_object(handle, kIsEvent);
  if (event == NULL) return FAKE_CUDA_ERROR_INVALID_HANDLE;
  fake_stream *stream;
  CUresult result = fake_stream_use(stream_handle, &stream);
  if (result != 0) return result;
  if (event->captured && event->stream != stream) return FAKE_CUDA_ERROR_NOT_SUPPORTED;
  if (stream->capture != NULL && event->recorded && !event->captured) {
    fake_capture_invalidate(stream->capture);
    return FAKE_CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
  }
  return FAKE_CUDA_SUCCESS;
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuStreamWaitEvent);
  if (result == 0 && flags > 1) result = FAKE_CUDA_ERROR_INVALID_VALUE;
  if (result == 0) result = stream_wait(stream, event);
  return fake_leave(&call, result);
}

static CUresult elapsed(float *out, CUevent start_handle, CUevent end_handle) {
  if (out == NULL) return FAKE_CUDA_ERROR_INVALID_VALUE;
  const fake_event *start = fake_object(start_handle, kIsEvent);
  const fake_event *end = fake_object(end_handle, kIsEvent);
  if (start == NULL || end == NULL || !start->recorded || !end->recorded || start->captured ||
      end->captured || ((start->flags | end->flags) & FAKE_CU_EVENT_DISABLE_TIMING) != 0) {
    return FAKE_CUDA_ERROR_INVALID_HANDLE;
  }
  *out = (float)(end->milliseconds - start->milliseconds);
  return FAKE_CUDA_SUCCESS;
}

CUresult cuEventElapsedTime(float *out, CUevent start, CUevent end) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuEventElapsedTime);
  if (result == 0) result = elapsed(out, start, end);
  return fake_leave(&call, result);
}

CUresult cuEventElapsedTime_v2(float *out, CUevent start, CUevent end) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuEventElapsedTime_v2);
  if (result == 0) result = elapsed(out, start, end);
  return fake_leave(&call, result);
}

CUresult cuEventDestroy_v2(CUevent handle) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuEventDestroy_v2);
  fake_event *event = NULL;
  if (result == 0) {
    event = fake_object(handle, kIsEvent);
    if (event == NULL) result = FAKE_CUDA_ERROR_INVALID_HANDLE;
  }
  if (result == 0) {
    free(event);
    fake_slot_destroy(handle);
  }
  return fake_leave(&call, result);
}
