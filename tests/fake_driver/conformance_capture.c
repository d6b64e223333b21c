/* SPDX-License-Identifier: Apache-2.0 */
/* Stream capture: what it forbids, to whom, and what becomes of it. */
#include <pthread.h>

#include "conformance.h"

static void begin(CUstream stream, int mode) { CHECK(0, cu.cuStreamBeginCapture_v2(stream, mode)); }

static void end(int line, CUstream stream, CUresult expected) {
  CUgraph graph = NULL;
  int status = -1;
  check(line, "cuStreamIsCapturing after", 0, cu.cuStreamIsCapturing(stream, &status));
  check(line, "capture status (1 active, 2 invalid)", expected == 0 ? 1 : 2, status);
  check(line, "cuStreamEndCapture", expected, cu.cuStreamEndCapture(stream, &graph));
  if (graph != NULL) check(line, "cuGraphDestroy", 0, cu.cuGraphDestroy(graph));
}

#define END(stream, expected) end(__LINE__, stream, expected)
enum { kGlobal = 0, kThreadLocal = 1, kRelaxed = 2, kUnsupported = 900, kInvalidated = 901 };

static void unsafe_calls(int mode, CUresult expected) {
  CUdeviceptr it = 0;
  CUmodule other = NULL;
  CUstream stream = NULL;
  CUevent event = NULL;
  CUresult ended = expected == 0 ? 0 : kInvalidated;
  begin(free_running, mode);
  CHECK(expected, cu.cuMemAlloc_v2(&it, 16));
  END(free_running, ended);
  if (it == 0) CHECK(0, cu.cuMemAlloc_v2(&it, 16));
  begin(free_running, mode);
  CHECK(expected, cu.cuMemFree_v2(it));
  END(free_running, ended);
  if (expected != 0) CHECK(0, cu.cuMemFree_v2(it));
  begin(free_running, mode);
  CHECK(0, cu.cuModuleLoadData(&other, kPtx));
  END(free_running, 0);
  begin(free_running, mode);
  CHECK(expected, cu.cuModuleUnload(other));
  END(free_running, ended);
  if (expected != 0) CHECK(0, cu.cuModuleUnload(other));
  begin(free_running, mode);
  CHECK(kUnsupported, cu.cuCtxSynchronize());
  END(free_running, kInvalidated);
  begin(free_running, mode);
  CHECK(kUnsupported, cu.cuStreamSynchronize(free_running));
  END(free_running, kInvalidated);
  begin(free_running, mode);
  CHECK(kUnsupported, cu.cuStreamQuery(free_running));
  END(free_running, kInvalidated);
  begin(free_running, mode);
  CHECK(expected, cu.cuStreamSynchronize(blocking));
  END(free_running, ended);
  begin(free_running, mode);
  CHECK(expected, cu.cuStreamQuery(blocking));
  END(free_running, ended);
  begin(free_running, mode);
  CHECK(0, launch(empty, 1, 1, 0, NULL)); /* the stream does not block */
  END(free_running, 0);
  begin(free_running, mode);
  CHECK(0, cu.cuStreamCreate(&stream, 1));
  CHECK(0, cu.cuStreamDestroy_v2(stream));
  CHECK(0, cu.cuEventCreate(&event, 0));
  CHECK(0, cu.cuEventRecord(event, blocking));
  END(free_running, 0);
  CHECK(0, cu.cuEventSynchronize(event));
  begin(free_running, mode);
  CHECK(expected, cu.cuEventQuery(event));
  END(free_running, ended);
  begin(free_running, mode);
  CHECK(expected, cu.cuEventSynchronize(event));
  END(free_running, ended);
  begin(free_running, mode);
  CHECK(0, cu.cuEventDestroy_v2(event));
  END(free_running, 0);
}

static void blocking_capture(int mode) {
  int status = -1;
  int back = 0;
  CUdeviceptr it = 0;
  CHECK(0, cu.cuMemAlloc_v2(&it, 16));
  begin(blocking, mode);
  CHECK(906, launch(empty, 1, 1, 0, NULL));
  END(blocking, kInvalidated);
  begin(blocking, mode);
  CHECK(906, cu.cuMemcpyDtoH_v2(&back, it, 4));
  END(blocking, kInvalidated);
  begin(blocking, mode);
  CHECK(906, cu.cuStreamIsCapturing(NULL, &status));
  END(blocking, 0);
  begin(blocking, mode);
  CHECK(906, cu.cuStreamSynchronize(NULL));
  END(blocking, kInvalidated);
  CHECK(0, cu.cuMemFree_v2(it));
}

static void sync_copies(int mode) {
  int back = 0;
  CUdeviceptr it = 0;
  CHECK(0, cu.cuMemAlloc_v2(&it, 16));
  begin(free_running, mode);
  CHECK(0, cu.cuMemcpyDtoH_v2(&back, it, 4));
  CHECK(0, cu.cuMemcpyHtoD_v2(it, &back, 4));
  CHECK(0, cu.cuMemsetD8_v2(it, 0, 4));
  END(free_running, 0);
  CHECK(0, cu.cuMemFree_v2(it));
}

static void capture_states(void) {
  CUgraph graph = NULL;
  CUgraph current = NULL;
  CUgraphExec exec = NULL;
  uint64_t id = 0;
  int status = -1;
  size_t count = 99;
  const CUgraphNode *dependencies = NULL;
  CHECK(kUnsupported, cu.cuStreamBeginCapture_v2(NULL, 0));
  CHECK(ERROR(INVALID_VALUE), cu.cuStreamBeginCapture_v2(free_running, 7));
  CHECK(ERROR(ILLEGAL_STATE), cu.cuStreamEndCapture(free_running, &graph));
  begin(free_running, kGlobal);
  CHECK(ERROR(ILLEGAL_STATE), cu.cuStreamBeginCapture_v2(free_running, 0));
  CHECK(0,
        cu.cuStreamGetCaptureInfo_v2(free_running, &status, &id, &current, &dependencies, &count));
  CHECK(1, status);
  CHECK(0, count);
  CHECK(0, launch(empty, 1, 1, 0, free_running));
  CHECK(0,
        cu.cuStreamGetCaptureInfo_v2(free_running, &status, &id, &current, &dependencies, &count));
  CHECK(1, count);
  CHECK(0, cu.cuStreamEndCapture(free_running, &graph));
  CHECK(1, graph == current);
  count = 0;
  CHECK(0, cu.cuGraphGetNodes(graph, NULL, &count));
  CHECK(1, count);
  CHECK(0, cu.cuGraphInstantiateWithFlags(&exec, graph, 0));
  CHECK(0, cu.cuGraphDestroy(graph));
  CHECK(0, cu.cuGraphLaunch(exec, blocking));
  CHECK(0, cu.cuStreamSynchronize(blocking));
  /* After it was made invalid nothing goes into it. */
  begin(free_running, kGlobal);
  CHECK(kUnsupported, cu.cuGraphLaunch(exec, free_running));
  END(free_running, kInvalidated);
  CHECK(0, cu.cuGraphExecDestroy(exec));
  begin(free_running, kGlobal);
  CHECK(kUnsupported, cu.cuCtxSynchronize());
  CHECK(kInvalidated, launch(empty, 1, 1, 0, free_running));
  CHECK(0, cu.cuStreamIsCapturing(free_running, &status));
  CHECK(2, status);
  END(free_running, kInvalidated);
  /* Replays use the values of the capture. */
  CUdeviceptr it = 0;
  int back = 0;
  CHECK(0, cu.cuMemAlloc_v2(&it, 16));
  CHECK(0, cu.cuMemsetD8_v2(it, 0, 16));
  begin(free_running, kGlobal);
  CHECK(0, cu.cuMemsetD8Async(it, 3, 4, free_running));
  CHECK(0, cu.cuStreamEndCapture(free_running, &graph));
  CHECK(0, cu.cuMemcpyDtoH_v2(&back, it, 4));
  CHECK(0, back);
  CHECK(0, cu.cuGraphInstantiateWithFlags(&exec, graph, 0));
  CHECK(0, cu.cuGraphLaunch(exec, free_running));
  CHECK(0, cu.cuStreamSynchronize(free_running));
  CHECK(0, cu.cuMemcpyDtoH_v2(&back, it, 4));
  CHECK(0x03030303, back);
  CHECK(0, cu.cuGraphExecDestroy(exec));
  CHECK(0, cu.cuGraphDestroy(graph));
  CHECK(0, cu.cuMemFree_v2(it));
}

static void loading_in_capture(void) {
  int loaded = -1;
  CUfunction lazy = function("lazy3");
  begin(free_running, kGlobal);
  CHECK(0, cu.cuFuncIsLoaded(&loaded, lazy));
  CHECK(1, loaded);
  CHECK(0, launch(lazy, 1, 1, 0, free_running));
  CHECK(0, cu.cuFuncLoad(function("lazy4")));
  CHECK(0,
        cu.cuFuncSetAttribute(empty, FAKE_CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 1000));
  END(free_running, 0);
}

static void thread_modes(void) {
  CUdeviceptr it = 0;
  int mode = kRelaxed;
  begin(free_running, kGlobal);
  CHECK(0, cu.cuThreadExchangeStreamCaptureMode(&mode));
  CHECK(kGlobal, mode);
  CHECK(0, cu.cuMemAlloc_v2(&it, 16));
  CHECK(0, cu.cuThreadExchangeStreamCaptureMode(&mode));
  CHECK(kRelaxed, mode);
  END(free_running, 0);
  CHECK(0, cu.cuMemFree_v2(it));
}

typedef struct alloc_in_thread {
  int mode;
  CUresult result;
} alloc_in_thread;

static void *run_alloc(void *self) {
  alloc_in_thread *it = self;
  CUdeviceptr address = 0;
  int mode = it->mode;
  cu.cuCtxSetCurrent(context);
  cu.cuThreadExchangeStreamCaptureMode(&mode);
  it->result = cu.cuMemAlloc_v2(&address, 16);
  if (it->result == 0) {
    mode = kRelaxed;
    cu.cuThreadExchangeStreamCaptureMode(&mode);
    cu.cuMemFree_v2(address);
  }
  return NULL;
}

static void *run_end(void *self) {
  alloc_in_thread *it = self;
  CUgraph graph = NULL;
  cu.cuCtxSetCurrent(context);
  it->result = cu.cuStreamEndCapture(free_running, &graph);
  if (graph != NULL) cu.cuGraphDestroy(graph);
  return NULL;
}

static CUresult in_thread(void *(*run)(void *), int mode) {
  pthread_t thread;
  alloc_in_thread it = {mode, -1};
  pthread_create(&thread, NULL, run, &it);
  pthread_join(thread, NULL);
  return it.result;
}

static void other_threads(void) {
  CUgraph graph = NULL;
  static const int kExpected[3][3] = {{kUnsupported, 0, 0}, {0, 0, 0}, {0, 0, 0}};
  for (int capture = 0; capture < 3; ++capture) {
    for (int mode = 0; mode < 3; ++mode) {
      int expected = kExpected[capture][mode];
      begin(free_running, capture);
      CHECK(expected, in_thread(run_alloc, mode));
      END(free_running, expected == 0 ? 0 : kInvalidated);
    }
  }
  begin(free_running, kGlobal);
  CHECK(908, in_thread(run_end, 0));
  CHECK(ERROR(ILLEGAL_STATE), cu.cuStreamEndCapture(free_running, &graph)); /* it is over */
  begin(free_running, kRelaxed);
  CHECK(0, in_thread(run_end, 0));
}

void check_capture(void) {
  capture_states();
  unsafe_calls(kGlobal, kUnsupported);
  unsafe_calls(kThreadLocal, kUnsupported);
  unsafe_calls(kRelaxed, 0);
  for (int mode = 0; mode < 3; ++mode) blocking_capture(mode);
  for (int mode = 0; mode < 3; ++mode) sync_copies(mode);
  loading_in_capture();
  thread_modes();
  other_threads();
}
