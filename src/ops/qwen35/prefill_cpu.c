/* SPDX-License-Identifier: Apache-2.0 */
#include "prefill_cpu.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/parallel.h"
#include "ops/qwen35/gated_delta_rule_cpu.h"

static int64_t round_up(int64_t bytes) {
  const int64_t unit = kGdrWorkspaceAlignment;
  return (bytes + unit - 1) / unit * unit;
}

/* The gates and betas that the projections stand for. */
static int64_t gates_bytes(const pega_prefill *call) {
  return call->in.projected ? round_up(call->shape.num_tokens * call->shape.num_value_heads * 4)
                            : 0;
}

/* Processors of the machine, counted once: the system is asked through files. */
static int count_processors(void) {
  static atomic_int known;
  int count = atomic_load_explicit(&known, memory_order_relaxed);
  if (count > 0) return count;
  const long found = sysconf(_SC_NPROCESSORS_CONF);
  count = found < 1                           ? 1
          : found > PEGA_PARALLEL_MAX_THREADS ? PEGA_PARALLEL_MAX_THREADS
                                              : (int)found;
  atomic_store_explicit(&known, count, memory_order_relaxed);
  return count;
}

/* For as many threads as the machine has processors: what a caller was told stays true whatever thread
 * calls, and whichever processors it may run on. */
static int64_t scratch_bytes(const pega_prefill *call, pega_qwen35_implementation how) {
  const pega_gdr_shape *shape = &call->shape;
  return (int64_t)pega_qwen35_prefill_cpu_workspace(how, shape->num_sequences, shape->num_key_heads,
                                                    shape->num_value_heads, count_processors());
}

static int64_t workspace_bytes(const pega_prefill *call, pega_qwen35_implementation how) {
  return 2 * gates_bytes(call) + round_up(scratch_bytes(call, how));
}

static pega_status run(const pega_prefill *call, pega_qwen35_implementation how, void *workspace,
                       pega_error *error) {
  const pega_gdr_shape *shape = &call->shape;
  char *at = workspace;
  pega_qwen35_prefill prefill = {
      .implementation = how,
      .q = call->in.q,
      .k = call->in.k,
      .v = call->in.v,
      .q_stride = call->in.qk_stride,
      .k_stride = call->in.qk_stride,
      .v_stride = call->in.v_stride,
      .g = call->in.g,
      .beta = call->in.beta,
      .initial_state = call->initial_state,
      .cu_seqlens = {call->cu_seqlens, call->cu_seqlens_bits},
      .output = call->output,
      .final_state = call->final_state,
      .num_tokens = shape->num_tokens,
      .num_sequences = shape->num_sequences,
      .num_key_heads = shape->num_key_heads,
      .num_value_heads = shape->num_value_heads,
      .scale = call->scale,
      .normalize = call->in.normalize,
      .num_threads = 0,
      .workspace_size = (size_t)scratch_bytes(call, how),
  };
  if (call->in.projected && shape->num_tokens > 0) {
    float *g = (float *)(void *)at;
    at += gates_bytes(call);
    float *beta = (float *)(void *)at;
    at += gates_bytes(call);
    pega_qwen35_gates_cpu(call->in.b, call->in.a, call->in.dt_bias, call->in.a_log, g, beta,
                          shape->num_tokens, shape->num_value_heads, 0);
    prefill.g = g;
    prefill.beta = beta;
  }
  prefill.workspace = at;
  if (pega_qwen35_prefill_cpu(NULL, &prefill) == 0) return PEGA_OK;
  return pega_error_set(error, PEGA_ERROR_INTERNAL, NULL, "%s: the workspace is too small",
                        call->function);
}

int64_t pega_prefill_cpu_chunked_workspace(const pega_prefill *call) {
  return workspace_bytes(call, PEGA_QWEN35_CHUNKED);
}

pega_status pega_prefill_cpu_chunked(const pega_prefill *call, void *workspace, pega_error *error) {
  return run(call, PEGA_QWEN35_CHUNKED, workspace, error);
}

int64_t pega_prefill_cpu_recurrent_workspace(const pega_prefill *call) {
  return workspace_bytes(call, PEGA_QWEN35_RECURRENT);
}

pega_status pega_prefill_cpu_recurrent(const pega_prefill *call, void *workspace,
                                       pega_error *error) {
  return run(call, PEGA_QWEN35_RECURRENT, workspace, error);
}

pega_status pega_prefill_run_cpu(const pega_prefill *call,
                                 const pega_prefill_implementation *implementation, void *workspace,
                                 pega_error *error) {
  const int64_t bytes = implementation->workspace(call);
  if (workspace != NULL || bytes == 0) return implementation->run(call, workspace, error);
  void *own = NULL;
  if ((uint64_t)bytes > SIZE_MAX ||
      posix_memalign(&own, kGdrWorkspaceAlignment, (size_t)bytes) != 0) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL,
                          "%s: no memory for a workspace of %" PRId64 " bytes", call->function,
                          bytes);
  }
  pega_status status = implementation->run(call, own, error);
  free(own);
  return status;
}
