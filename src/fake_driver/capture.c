/* SPDX-License-Identifier: Apache-2.0 */
/* Stream capture: what it records, and what it forbids. Source of the rules: the descriptions of
   cuStreamBeginCapture and cuThreadExchangeStreamCaptureMode in cuda.h of CUDA 13.0. */
#include <stdlib.h>

#include "fake.h"

void fake_capture_invalidate(fake_capture *capture) {
  if (capture->invalid) return;
  capture->invalid = true;
  ++fake.faults.captures_invalidated;
}

bool fake_capture_permits(void) {
  const fake_thread *thread = fake_this_thread();
  bool permitted = true;
  if (thread->capture_mode == FAKE_CU_STREAM_CAPTURE_MODE_RELAXED) return true;
  for (fake_capture *it = fake.captures; it != NULL; it = it->next) {
    bool own = it->thread == thread->number && it->mode != FAKE_CU_STREAM_CAPTURE_MODE_RELAXED;
    bool other = it->mode == FAKE_CU_STREAM_CAPTURE_MODE_GLOBAL &&
                 thread->capture_mode == FAKE_CU_STREAM_CAPTURE_MODE_GLOBAL;
    if (!own && !other) continue;
    fake_capture_invalidate(it);
    permitted = false;
  }
  return permitted;
}

CUresult fake_capture_check_legacy(fake_slot *context) {
  CUresult result = FAKE_CUDA_SUCCESS;
  for (fake_capture *it = fake.captures; it != NULL; it = it->next) {
    const fake_stream *stream = it->stream;
    if (stream->context != context || (stream->flags & FAKE_CU_STREAM_NON_BLOCKING) != 0) continue;
    fake_capture_invalidate(it);
    result = FAKE_CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
  }
  return result;
}

CUresult fake_capture_add(fake_capture *capture, fake_node node) {
  fake_graph *graph = capture->graph->object;
  node.handle = fake_slot_create(kIsNode, graph->context, NULL);
  if (node.handle == NULL) return FAKE_CUDA_ERROR_OUT_OF_MEMORY;
  CUresult result = fake_graph_add(graph, node);
  if (result != 0) {
    fake_slot_destroy(node.handle);
    return result;
  }
  capture->last = node.handle;
  return FAKE_CUDA_SUCCESS;
}

static void unlink_capture(fake_capture *capture) {
  for (fake_capture **at = &fake.captures; *at != NULL; at = &(*at)->next) {
    if (*at != capture) continue;
    *at = capture->next;
    break;
  }
  capture->stream->capture = NULL;
  free(capture);
  fake_update_slow();
}

void fake_capture_drop(fake_capture *capture) {
  fake_graph_free(capture->graph->object);
  fake_slot_destroy(capture->graph);
  unlink_capture(capture);
}

void fake_captures_reset(void) {
  while (fake.captures != NULL) fake_capture_drop(fake.captures);
}

static bool is_legacy(CUstream stream) { return stream == NULL || stream == FAKE_STREAM_LEGACY; }

static CUresult begin(CUstream handle, int mode) {
  if (mode < 0 || mode > FAKE_CU_STREAM_CAPTURE_MODE_RELAXED) return FAKE_CUDA_ERROR_INVALID_VALUE;
  if (is_legacy(handle)) return FAKE_CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  fake_stream *stream = fake_stream_of(handle);
  if (stream == NULL) return FAKE_CUDA_ERROR_INVALID_HANDLE;
  if (stream->capture != NULL) return FAKE_CUDA_ERROR_ILLEGAL_STATE;
  fake_capture *capture = calloc(1, sizeof *capture);
  fake_graph *graph = calloc(1, sizeof *graph);
  fake_slot *slot = NULL;
  if (graph != NULL) slot = fake_slot_create(kIsGraph, stream->context, graph);
  if (capture == NULL || slot == NULL) {
    free(capture);
    free(graph);
    if (slot != NULL) fake_slot_destroy(slot);
    return FAKE_CUDA_ERROR_OUT_OF_MEMORY;
  }
  graph->context = stream->context;
  *capture = (fake_capture){.stream = stream,
                            .graph = slot,
                            .id = ++fake.next_id,
                            .thread = fake_this_thread()->number,
                            .mode = mode,
                            .next = fake.captures};
  fake.captures = capture;
  stream->capture = capture;
  fake_update_slow();
  return FAKE_CUDA_SUCCESS;
}

CUresult cuStreamBeginCapture_v2(CUstream stream, int mode) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuStreamBeginCapture_v2);
  if (result == 0) result = begin(stream, mode);
  return fake_leave(&call, result);
}

static CUresult end(CUstream handle, CUgraph *out) {
  fake_stream *stream = fake_stream_of(handle);
  if (stream == NULL) return FAKE_CUDA_ERROR_INVALID_HANDLE;
  if (out == NULL) return FAKE_CUDA_ERROR_INVALID_VALUE;
  fake_capture *capture = stream->capture;
  if (capture == NULL) return FAKE_CUDA_ERROR_ILLEGAL_STATE;
  if (capture->thread != fake_this_thread()->number &&
      capture->mode != FAKE_CU_STREAM_CAPTURE_MODE_RELAXED) {
    fake_capture_drop(capture); /* driver 13.0 ends it */
    return FAKE_CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
  }
  if (capture->invalid) {
    *out = NULL;
    fake_capture_drop(capture);
    return FAKE_CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  }
  *out = capture->graph;
  unlink_capture(capture);
  return FAKE_CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *out) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuStreamEndCapture);
  if (result == 0) result = end(stream, out);
  return fake_leave(&call, result);
}

/* Asking the legacy stream while a blocking one captures is refused, but harms nothing. */
static CUresult find(CUstream handle, const int *status, fake_stream **out) {
  if (status == NULL) return FAKE_CUDA_ERROR_INVALID_VALUE;
  fake_stream *stream = fake_stream_of(handle);
  if (stream == NULL) {
    return fake_current() == NULL ? FAKE_CUDA_ERROR_INVALID_CONTEXT
                                  : FAKE_CUDA_ERROR_INVALID_HANDLE;
  }
  *out = stream;
  if (!is_legacy(handle)) return FAKE_CUDA_SUCCESS;
  for (const fake_capture *it = fake.captures; it != NULL; it = it->next) {
    if (it->stream->context == stream->context &&
        (it->stream->flags & FAKE_CU_STREAM_NON_BLOCKING) == 0) {
      return FAKE_CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    }
  }
  return FAKE_CUDA_SUCCESS;
}

static int status_of(const fake_stream *stream) {
  if (stream->capture == NULL) return FAKE_CU_STREAM_CAPTURE_STATUS_NONE;
  return stream->capture->invalid ? FAKE_CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                  : FAKE_CU_STREAM_CAPTURE_STATUS_ACTIVE;
}

CUresult cuStreamIsCapturing(CUstream handle, int *out) {
  fake_call call;
  fake_stream *stream;
  CUresult result = fake_enter(&call, FAKE_cuStreamIsCapturing);
  if (result == 0) result = find(handle, out, &stream);
  if (result == 0) *out = status_of(stream);
  return fake_leave(&call, result);
}

static CUresult info(CUstream handle, int *status, uint64_t *id, CUgraph *graph,
                     const CUgraphNode **dependencies, size_t *count) {
  fake_stream *stream;
  CUresult result = find(handle, status, &stream);
  if (result != 0) return result;
  *status = status_of(stream);
  fake_capture *capture = stream->capture;
  if (capture == NULL || capture->invalid) return FAKE_CUDA_SUCCESS;
  if (id != NULL) *id = capture->id;
  if (graph != NULL) *graph = capture->graph;
  if (dependencies != NULL) *dependencies = &capture->last;
  if (count != NULL) *count = capture->last != NULL;
  return FAKE_CUDA_SUCCESS;
}

CUresult cuStreamGetCaptureInfo_v2(CUstream stream, int *status, uint64_t *id, CUgraph *graph,
                                   const CUgraphNode **dependencies, size_t *count) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuStreamGetCaptureInfo_v2);
  if (result == 0) result = info(stream, status, id, graph, dependencies, count);
  return fake_leave(&call, result);
}

CUresult cuStreamGetCaptureInfo_v3(CUstream stream, int *status, uint64_t *id, CUgraph *graph,
                                   const CUgraphNode **dependencies, const void **edges,
                                   size_t *count) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuStreamGetCaptureInfo_v3);
  if (result == 0) result = info(stream, status, id, graph, dependencies, count);
  if (result == 0 && edges != NULL) *edges = NULL;
  return fake_leave(&call, result);
}

CUresult cuThreadExchangeStreamCaptureMode(int *mode) {
  fake_call call;
  fake_thread *thread = fake_this_thread();
  CUresult result = fake_enter(&call, FAKE_cuThreadExchangeStreamCaptureMode);
  if (result == 0 && (mode == NULL || *mode < 0 || *mode > FAKE_CU_STREAM_CAPTURE_MODE_RELAXED)) {
    result = FAKE_CUDA_ERROR_INVALID_VALUE;
  }
  if (result == 0) {
    int old = thread->capture_mode;
    thread->capture_mode = *mode;
    *mode = old;
  }
  return fake_leave(&call, result);
}
