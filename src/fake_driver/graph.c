/* SPDX-License-Identifier: Apache-2.0 */
/* Graphs that a capture made, and their replay: nodes in the order in which they were captured. */
#include <stdlib.h>

#include "fake.h"

CUresult fake_graph_add(fake_graph *graph, fake_node node) {
  if (graph->num_nodes == graph->capacity) {
    size_t capacity = graph->capacity == 0 ? 16 : graph->capacity * 2;
    fake_node *grown = realloc(graph->nodes, capacity * sizeof *grown);
    if (grown == NULL) return FAKE_CUDA_ERROR_OUT_OF_MEMORY;
    graph->nodes = grown;
    graph->capacity = capacity;
  }
  graph->nodes[graph->num_nodes++] = node;
  if (node.launch != NULL && node.launch->module != NULL) ++node.launch->module->graph_nodes;
  return FAKE_CUDA_SUCCESS;
}

void fake_graph_free(fake_graph *graph) {
  for (size_t i = 0; i < graph->num_nodes; ++i) {
    fake_node *node = &graph->nodes[i];
    if (node->handle != NULL) fake_slot_destroy(node->handle);
    if (node->launch == NULL) continue;
    if (node->launch->module != NULL) --node->launch->module->graph_nodes;
    free(node->launch);
  }
  free(graph->nodes);
  free(graph);
}

CUresult cuGraphGetNodes(CUgraph handle, CUgraphNode *nodes, size_t *count) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuGraphGetNodes);
  if (result == 0 && count == NULL) result = FAKE_CUDA_ERROR_INVALID_VALUE;
  const fake_graph *graph = NULL;
  if (result == 0) {
    graph = fake_object(handle, kIsGraph);
    if (graph == NULL) result = FAKE_CUDA_ERROR_INVALID_VALUE;
  }
  if (result == 0) {
    if (nodes != NULL) {
      for (size_t i = 0; i < *count; ++i) {
        nodes[i] = i < graph->num_nodes ? graph->nodes[i].handle : NULL;
      }
    }
    if (nodes == NULL || *count > graph->num_nodes) *count = graph->num_nodes;
  }
  return fake_leave(&call, result);
}

static CUresult copy_nodes(const fake_graph *from, fake_graph *to) {
  for (size_t i = 0; i < from->num_nodes; ++i) {
    fake_node node = from->nodes[i];
    node.handle = NULL;
    if (node.launch != NULL) {
      node.launch = fake_launch_copy(node.launch);
      if (node.launch == NULL) return FAKE_CUDA_ERROR_OUT_OF_MEMORY;
    }
    CUresult result = fake_graph_add(to, node);
    if (result != 0) {
      free(node.launch);
      return result;
    }
  }
  return FAKE_CUDA_SUCCESS;
}

static CUresult instantiate(CUgraphExec *out, CUgraph handle, unsigned long long flags) {
  if (out == NULL || (flags & ~0xFull) != 0) return FAKE_CUDA_ERROR_INVALID_VALUE;
  const fake_graph *graph = fake_object(handle, kIsGraph);
  if (graph == NULL) return FAKE_CUDA_ERROR_INVALID_VALUE;
  fake_graph *exec = calloc(1, sizeof *exec);
  if (exec == NULL) return FAKE_CUDA_ERROR_OUT_OF_MEMORY;
  exec->context = graph->context;
  CUresult result = copy_nodes(graph, exec);
  fake_slot *slot = result == 0 ? fake_slot_create(kIsGraphExec, graph->context, exec) : NULL;
  if (slot == NULL) {
    fake_graph_free(exec);
    return result != 0 ? result : FAKE_CUDA_ERROR_OUT_OF_MEMORY;
  }
  *out = slot;
  return FAKE_CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *out, CUgraph graph, unsigned long long flags) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuGraphInstantiateWithFlags);
  if (result == 0) result = instantiate(out, graph, flags);
  return fake_leave(&call, result);
}

static CUresult replay_launch(const fake_node *node, CUstream handle, uint64_t sequence) {
  fake_stream *stream = fake_stream_of(handle);
  if (stream == NULL) return FAKE_CUDA_ERROR_INVALID_HANDLE;
  fake_launch *launch = fake_launch_copy(node->launch);
  if (launch == NULL) return FAKE_CUDA_ERROR_OUT_OF_MEMORY;
  launch->view.captured = false;
  launch->view.replayed = true;
  launch->view.stream = handle;
  return fake_launch_run(launch, stream, sequence);
}

/* What was there at the capture may have been freed since. */
static CUresult replay(const fake_node *node, CUstream stream, uint64_t sequence) {
  if (node->kind == kNodeLaunch) return replay_launch(node, stream, sequence);
  CUresult result = fake_node_check(node);
  if (result == 0) fake_node_run(node);
  return result;
}

static CUresult launch(CUgraphExec handle, CUstream stream_handle, uint64_t sequence) {
  fake_graph *exec = fake_object(handle, kIsGraphExec);
  if (exec == NULL) return FAKE_CUDA_ERROR_INVALID_VALUE;
  fake_stream *stream;
  CUresult result = fake_stream_use(stream_handle, &stream);
  if (result != 0) return result;
  if (stream->capture != NULL) {
    fake_capture_invalidate(stream->capture);
    return FAKE_CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  /* A host function runs without the lock and could destroy what is being replayed. */
  for (size_t i = 0; result == 0 && fake_slot_is(handle, kIsGraphExec) && i < exec->num_nodes;
       ++i) {
    result = replay(&exec->nodes[i], stream_handle, sequence);
  }
  return result;
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuGraphLaunch);
  if (result == 0) result = launch(exec, stream, call.sequence);
  return fake_leave(&call, result);
}

static CUresult destroy(fake_slot *handle, fake_kind kind) {
  fake_graph *graph = fake_object(handle, kind);
  if (graph == NULL) return FAKE_CUDA_ERROR_INVALID_VALUE;
  for (const fake_capture *it = fake.captures; it != NULL; it = it->next) {
    if (it->graph == handle) return FAKE_CUDA_ERROR_INVALID_VALUE; /* still the capture's */
  }
  fake_graph_free(graph);
  fake_slot_destroy(handle);
  return FAKE_CUDA_SUCCESS;
}

CUresult cuGraphDestroy(CUgraph graph) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuGraphDestroy);
  if (result == 0) result = destroy(graph, kIsGraph);
  return fake_leave(&call, result);
}

CUresult cuGraphExecDestroy(CUgraphExec exec) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuGraphExecDestroy);
  if (result == 0) result = destroy(exec, kIsGraphExec);
  return fake_leave(&call, result);
}
