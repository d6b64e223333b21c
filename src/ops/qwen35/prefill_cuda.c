/* SPDX-License-Identifier: Apache-2.0 */
/* A prefill on a GPU: which kernels are launched, on which parts of the workspace. */
#include <inttypes.h>

#include "cuda/kernel.h"
#include "cuda/scratch.h"
#include "ops/qwen35/chunk_solve.h"
#include "ops/qwen35/prefill_launch.h"
#include "ops/qwen35/stages.h"

/* --- the kernels --- */

enum { kPrepare, kNormalize, kChunk, kScan, kFused, kRecurrent, kNumKernels };
#define TRITON "pegainfer.triton_cubin.qwen35.gated_delta_rule_prefill_"
#define CUDA "pegainfer.cuda_cubin.qwen35.gated_delta_rule_prefill_"
#define SIZES "#num_tokens #num_sequences &cu_seqlens_bits ^num_key_heads ^num_value_heads "
#define WHOLE                                                                 \
  "*q_ptr *k_ptr *v_ptr *g_ptr *beta_ptr ?initial_state_ptr ?cu_seqlens_ptr " \
  "*output_ptr ?final_state_ptr " SIZES "#v_stride %scale ~stream"
static pega_kernel_slot slots[kNumKernels] = {
    [kPrepare] = {TRITON "prepare", NULL,
                  "*qkv_ptr *b_ptr *a_ptr *dt_bias_ptr *a_log_ptr *q_out_ptr *k_out_ptr *g_out_ptr "
                  "*beta_out_ptr #num_tokens ^num_key_heads ^num_value_heads #qkv_dim ~stream",
                  NULL},
    [kNormalize] = {TRITON "normalize", NULL,
                    "*q_ptr *k_ptr *q_out_ptr *k_out_ptr #num_tokens ^num_key_heads ~stream", NULL},
    [kChunk] = {TRITON "chunk", NULL,
                "*q_ptr *k_ptr *v_ptr *g_ptr *beta_ptr ?cu_seqlens_ptr *w_ptr *u_ptr *p_ptr "
                "*g_cumsum_ptr " SIZES "#v_stride ~stream",
                NULL},
    [kScan] =
        {TRITON "scan", NULL,
         "*q_ptr *k_ptr *w_ptr *u_ptr *p_ptr *g_cumsum_ptr ?initial_state_ptr ?cu_seqlens_ptr "
         "*output_ptr ?final_state_ptr " SIZES "%scale ~stream",
         NULL},
    [kFused] = {TRITON "fused", NULL, WHOLE, NULL},
    [kRecurrent] = {CUDA "recurrent", NULL, WHOLE, NULL},
};

pega_kernel_slot pega_prefill_linear_inputs = {
    CUDA "linear_inputs", NULL,
    "*g_ptr ?initial_state_ptr ?cu_seqlens_ptr *alpha_out_ptr ?state_out_ptr *cu_seqlens_out_ptr "
    "#num_tokens #num_sequences &cu_seqlens_bits ^num_value_heads ~stream",
    NULL};
pega_kernel_slot pega_prefill_linear_outputs = {
    CUDA "linear_outputs", NULL,
    "*state_ptr ?initial_state_ptr *cu_seqlens_ptr *final_state_ptr #num_sequences "
    "^num_value_heads ~stream",
    NULL};

pega_kernel_slot *pega_prefill_kernel_slot(const char *name) {
  if (strcmp(pega_prefill_linear_inputs.name, name) == 0) return &pega_prefill_linear_inputs;
  if (strcmp(pega_prefill_linear_outputs.name, name) == 0) return &pega_prefill_linear_outputs;
  for (int i = 0; i < kNumKernels; ++i) {
    if (strcmp(slots[i].name, name) == 0) return &slots[i];
  }
  return NULL;
}

/* --- the workspace --- */

void *pega_prefill_take(pega_prefill_parts *workspace, int64_t bytes) {
  void *part = workspace->base == NULL ? NULL : workspace->base + workspace->used;
  const int64_t unit = kGdrWorkspaceAlignment;
  workspace->used += (bytes + unit - 1) / unit * unit;
  return part;
}

/* Kernels that walk over the chunks of a sequence and head keep descriptors in global scratch: of this
 * many bytes, with room to spare, over all CTAs of a head. */
enum { kHeadScratch = 4096 };

static int64_t head_scratch(const pega_prefill *call) {
  return call->shape.num_sequences * call->shape.num_value_heads * kHeadScratch;
}

pega_prefill_inputs pega_prefill_take_inputs(const pega_prefill *call,
                                             pega_prefill_parts *workspace) {
  pega_prefill_inputs in = {call->in.q, call->in.k, call->in.g, call->in.beta};
  const int64_t keys = call->shape.num_tokens * call->shape.num_key_heads * kGdrHeadSize;
  if (call->in.normalize) {
    in.q = pega_prefill_take(workspace, keys * 2);
    in.k = pega_prefill_take(workspace, keys * 2);
  }
  if (call->in.projected) {
    in.g = pega_prefill_take(workspace, pega_prefill_rows(call) * 4);
    in.beta = pega_prefill_take(workspace, pega_prefill_rows(call) * 4);
  }
  return in;
}

/* --- launches --- */

#define P(pointer) pega_value_pointer(pointer)
#define I(number) pega_value_int(number)
#define F(number) pega_value_float((double)(number))

pega_status pega_prefill_start(const pega_prefill *call, pega_kernel_slot *const *needed, int count,
                               pega_prefill_launcher *out, pega_error *error) {
  pega_kernel *kernels[kPrefillMaxLaunches];
  *out = (pega_prefill_launcher){.call = call};
  pega_status status = pega_stream_get((DLDevice){kDLCUDA, call->device}, &out->stream, error);
  for (int i = 0; i < count && status == PEGA_OK; ++i) {
    status = pega_kernel_slot_find(needed[i], call->function, &kernels[i], error);
  }
  if (status != PEGA_OK) return status;
  return pega_kernels_ready(kernels, count, out->stream, call->device, error);
}

pega_status pega_prefill_enqueue(pega_prefill_launcher *with, pega_kernel_slot *slot,
                                 const pega_value *args, pega_error *error) {
  pega_status status =
      pega_kernel_slot_launch(slot, with->call->function, args, with->call->device,
                              with->scratch.memory == NULL ? NULL : &with->scratch, error);
  if (status == PEGA_OK) {
    ++with->launched;
    return PEGA_OK;
  }
  return pega_launch_failed_midway(with->call->function, with->launched, status, error);
}

pega_status pega_prefill_prepare_inputs(pega_prefill_launcher *with, const pega_prefill_inputs *in,
                                        pega_error *error) {
  const pega_prefill *call = with->call;
  const pega_gdr_shape *shape = &call->shape;
  if (shape->num_tokens == 0 || !call->in.normalize) return PEGA_OK;
  if (call->in.projected) {
    const pega_value args[] = {
        P(call->in.q),
        P(call->in.b),
        P(call->in.a),
        P(call->in.dt_bias),
        P(call->in.a_log),
        P(in->q),
        P(in->k),
        P(in->g),
        P(in->beta),
        I(shape->num_tokens),
        I(shape->num_key_heads),
        I(shape->num_value_heads),
        I(call->in.qk_stride),
        P(with->stream),
    };
    return pega_prefill_enqueue(with, &slots[kPrepare], args, error);
  }
  const pega_value args[] = {P(call->in.q),  P(call->in.k),        P(in->q),
                             P(in->k),       I(shape->num_tokens), I(shape->num_key_heads),
                             P(with->stream)};
  return pega_prefill_enqueue(with, &slots[kNormalize], args, error);
}

int pega_prefill_list_kernels(const pega_prefill *call, pega_kernel_slot *first,
                              pega_kernel_slot *second,
                              pega_kernel_slot *out[kPrefillMaxLaunches]) {
  int count = 0;
  if (call->shape.num_tokens > 0 && call->in.normalize) {
    out[count++] = &slots[call->in.projected ? kPrepare : kNormalize];
  }
  if (first != NULL) out[count++] = first;
  out[count++] = second;
  return count;
}

/* --- chunked: two launches --- */

typedef struct chunked {
  pega_prefill_inputs in;
  void *w, *u, *p, *g_cumsum, *scratch;
} chunked;

static chunked take_chunked(const pega_prefill *call, pega_prefill_parts *workspace) {
  chunked out;
  out.in = pega_prefill_take_inputs(call, workspace);
  out.w = pega_prefill_take(workspace, pega_prefill_rows(call) * kGdrHeadSize * 2);
  out.u = pega_prefill_take(workspace, pega_prefill_rows(call) * kGdrHeadSize * 2);
  out.p = pega_prefill_take(workspace, pega_prefill_rows(call) * kGdrChunk * 2);
  out.g_cumsum = pega_prefill_take(workspace, pega_prefill_rows(call) * 4);
  out.scratch = pega_prefill_take(workspace, head_scratch(call));
  return out;
}

int64_t pega_prefill_chunked_workspace(const pega_prefill *call) {
  pega_prefill_parts workspace = {NULL, 0};
  (void)take_chunked(call, &workspace);
  return workspace.used;
}

pega_status pega_prefill_chunked(const pega_prefill *call, void *memory, pega_error *error) {
  const pega_gdr_shape *shape = &call->shape;
  pega_prefill_parts workspace = {memory, 0};
  const chunked at = take_chunked(call, &workspace);
  pega_kernel_slot *needed[kPrefillMaxLaunches];
  const int count = pega_prefill_list_kernels(call, shape->num_tokens > 0 ? &slots[kChunk] : NULL,
                                              &slots[kScan], needed);
  pega_prefill_launcher with;
  pega_status status = pega_prefill_start(call, needed, count, &with, error);
  if (status == PEGA_OK) status = pega_prefill_prepare_inputs(&with, &at.in, error);
  if (status == PEGA_OK && shape->num_tokens > 0) {
    const pega_value args[] = {
        P(at.in.q),
        P(at.in.k),
        P(call->in.v),
        P(at.in.g),
        P(at.in.beta),
        P(call->cu_seqlens),
        P(at.w),
        P(at.u),
        P(at.p),
        P(at.g_cumsum),
        I(shape->num_tokens),
        I(shape->num_sequences),
        I(call->cu_seqlens_bits),
        I(shape->num_key_heads),
        I(shape->num_value_heads),
        I(call->in.v_stride),
        P(with.stream),
    };
    status = pega_prefill_enqueue(&with, &slots[kChunk], args, error);
  }
  if (status != PEGA_OK) return status;
  const pega_value args[] = {
      P(at.in.q),
      P(at.in.k),
      P(at.w),
      P(at.u),
      P(at.p),
      P(at.g_cumsum),
      P(call->initial_state),
      P(call->cu_seqlens),
      P(call->output),
      P(call->final_state),
      I(shape->num_tokens),
      I(shape->num_sequences),
      I(call->cu_seqlens_bits),
      I(shape->num_key_heads),
      I(shape->num_value_heads),
      F(call->scale),
      P(with.stream),
  };
  with.scratch = (pega_given_scratch){at.scratch, (uint64_t)head_scratch(call)};
  return pega_prefill_enqueue(&with, &slots[kScan], args, error);
}

/* --- recurrent and fused: one launch --- */

int64_t pega_prefill_inputs_workspace(const pega_prefill *call) {
  pega_prefill_parts workspace = {NULL, 0};
  (void)pega_prefill_take_inputs(call, &workspace);
  return workspace.used;
}

static pega_status run_whole(const pega_prefill *call, pega_kernel_slot *slot, void *memory,
                             pega_error *error) {
  const pega_gdr_shape *shape = &call->shape;
  pega_prefill_parts workspace = {memory, 0};
  const pega_prefill_inputs in = pega_prefill_take_inputs(call, &workspace);
  pega_kernel_slot *needed[kPrefillMaxLaunches];
  const int count = pega_prefill_list_kernels(call, NULL, slot, needed);
  pega_prefill_launcher with;
  pega_status status = pega_prefill_start(call, needed, count, &with, error);
  if (status == PEGA_OK) status = pega_prefill_prepare_inputs(&with, &in, error);
  if (status != PEGA_OK) return status;
  const pega_value args[] = {
      P(in.q),
      P(in.k),
      P(call->in.v),
      P(in.g),
      P(in.beta),
      P(call->initial_state),
      P(call->cu_seqlens),
      P(call->output),
      P(call->final_state),
      I(shape->num_tokens),
      I(shape->num_sequences),
      I(call->cu_seqlens_bits),
      I(shape->num_key_heads),
      I(shape->num_value_heads),
      I(call->in.v_stride),
      F(call->scale),
      P(with.stream),
  };
  return pega_prefill_enqueue(&with, slot, args, error);
}

pega_status pega_prefill_recurrent(const pega_prefill *call, void *memory, pega_error *error) {
  return run_whole(call, &slots[kRecurrent], memory, error);
}

pega_status pega_prefill_fused(const pega_prefill *call, void *memory, pega_error *error) {
  return run_whole(call, &slots[kFused], memory, error);
}

/* --- the seven stages --- */

typedef struct staged {
  void *q, *k, *v, *g, *beta, *g_cumsum, *a_tril, *a_inv, *w, *u, *v_new, *chunk_state, *scratch;
} staged;

static staged take_staged(const pega_prefill *call, pega_prefill_parts *workspace) {
  const int64_t row = pega_prefill_rows(call) * kGdrHeadSize * 2;
  const int64_t chunks = pega_gdr_num_chunks(call->shape.num_tokens) * call->shape.num_value_heads;
  staged out;
  out.q = pega_prefill_take(workspace, row);
  out.k = pega_prefill_take(workspace, row);
  out.v = pega_prefill_take(workspace, row);
  out.g = pega_prefill_take(workspace, pega_prefill_rows(call) * 4);
  out.beta = pega_prefill_take(workspace, pega_prefill_rows(call) * 4);
  out.g_cumsum = pega_prefill_take(workspace, pega_prefill_rows(call) * 4);
  out.a_tril = pega_prefill_take(workspace, pega_prefill_rows(call) * kGdrChunk * 4);
  out.a_inv = pega_prefill_take(workspace, pega_prefill_rows(call) * kGdrChunk * 2);
  out.w = pega_prefill_take(workspace, row);
  out.u = pega_prefill_take(workspace, row);
  out.v_new = pega_prefill_take(workspace, row);
  out.chunk_state = pega_prefill_take(workspace, chunks * kGdrStateSize * 4);
  out.scratch = pega_prefill_take(workspace, head_scratch(call));
  return out;
}

int64_t pega_prefill_stages_workspace(const pega_prefill *call) {
  pega_prefill_parts workspace = {NULL, 0};
  (void)take_staged(call, &workspace);
  return workspace.used;
}

static pega_status launch_stage(pega_prefill_launcher *with, pega_gdr_stage stage,
                                const pega_value *args, pega_error *error) {
  return pega_prefill_enqueue(with, pega_gdr_stages[stage].slot, args, error);
}

pega_status pega_prefill_stages(const pega_prefill *call, void *memory, pega_error *error) {
  const pega_gdr_shape *shape = &call->shape;
  const pega_value tokens = I(shape->num_tokens);
  const pega_value heads = I(shape->num_value_heads);
  pega_prefill_parts workspace = {memory, 0};
  const staged at = take_staged(call, &workspace);
  pega_kernel_slot *needed[kPrefillMaxLaunches] = {&pega_qwen35_chunk_solve_kernel};
  for (int i = 0; i < kNumStages; ++i) needed[i + 1] = pega_gdr_stages[i].slot;
  pega_prefill_launcher with;
  pega_status status = pega_prefill_start(call, needed, kPrefillMaxLaunches, &with, error);
  const pega_value stream = P(with.stream);
  if (status == PEGA_OK && shape->num_tokens > 0) {
    const pega_value prepare[] = {P(call->in.q),
                                  P(call->in.b),
                                  P(call->in.a),
                                  P(call->in.dt_bias),
                                  P(call->in.a_log),
                                  P(at.q),
                                  P(at.k),
                                  P(at.v),
                                  P(at.g),
                                  P(at.beta),
                                  I(shape->num_key_heads),
                                  heads,
                                  I(call->in.qk_stride),
                                  tokens,
                                  stream};
    const pega_value cumsum[] = {P(at.g), P(at.g_cumsum), tokens, heads, stream};
    const pega_value a[] = {P(at.k), P(at.g_cumsum), P(at.beta), P(at.a_tril),
                            tokens,  heads,          stream};
    const pega_value solve[] = {P(at.a_tril), P(at.a_inv), tokens, heads, stream};
    const pega_value recompute[] = {P(at.k),     P(at.v),        P(at.beta), P(at.w), P(at.u),
                                    P(at.a_inv), P(at.g_cumsum), tokens,     heads,   stream};
    status = launch_stage(&with, kStagePrepare, prepare, error);
    if (status == PEGA_OK) status = launch_stage(&with, kStageCumsum, cumsum, error);
    if (status == PEGA_OK) status = launch_stage(&with, kStageA, a, error);
    if (status == PEGA_OK)
      status = pega_prefill_enqueue(&with, &pega_qwen35_chunk_solve_kernel, solve, error);
    if (status == PEGA_OK) status = launch_stage(&with, kStageRecompute, recompute, error);
  }
  if (status == PEGA_OK) {
    const pega_value state[] = {P(at.k),
                                P(at.w),
                                P(at.u),
                                P(at.g_cumsum),
                                P(call->initial_state),
                                P(at.chunk_state),
                                P(at.v_new),
                                P(call->final_state),
                                tokens,
                                heads,
                                stream};
    with.scratch = (pega_given_scratch){at.scratch, (uint64_t)head_scratch(call)};
    status = launch_stage(&with, kStageState, state, error);
    with.scratch.memory = NULL;
  }
  if (status == PEGA_OK && shape->num_tokens > 0) {
    const pega_value o[] = {P(at.q),        P(at.k),         P(at.v_new), P(at.chunk_state),
                            P(at.g_cumsum), P(call->output), tokens,      heads,
                            F(call->scale), stream};
    status = launch_stage(&with, kStageO, o, error);
  }
  return status;
}

/* --- running one --- */

static pega_status refuse_capture(const pega_prefill *call, int64_t bytes, pega_error *error) {
  pega_error_set(
      error, PEGA_ERROR_UNAVAILABLE, NULL,
      "%s: nothing was launched: it needs a workspace of %" PRId64
      " bytes and the stream is being captured, during which nothing is allocated: give a "
      "'workspace' (the capture is still valid)",
      call->function, bytes);
  if (error != NULL) error->code = kCudaErrorStreamCaptureUnsupported;
  return PEGA_ERROR_UNAVAILABLE;
}

/* With the context current. */
static pega_status run_with_pool(const pega_prefill *call,
                                 const pega_prefill_implementation *implementation,
                                 const pega_cuda_driver *driver, pega_cuda_device *device,
                                 int64_t bytes, pega_error *error) {
  void *stream;
  pega_status status = pega_stream_get((DLDevice){kDLCUDA, call->device}, &stream, error);
  if (status != PEGA_OK) return status;
  int capturing = kCaptureStatusNone;
  CUresult result = driver->cuStreamIsCapturing(stream, &capturing);
  if (result == kCudaErrorStreamCaptureImplicit ||
      (result == kCudaSuccess && capturing != kCaptureStatusNone)) {
    return refuse_capture(call, bytes, error);
  }
  if (result != kCudaSuccess) {
    pega_cuda_note_result(device, result, call->function);
    return pega_cuda_fail(call->function, "cuStreamIsCapturing", result,
                          "nothing was launched; is it a stream of this context?", error);
  }
  pega_scratch_memory memory;
  status = pega_scratch_allocate(call->function, driver, device, (uint64_t)bytes,
                                 kGdrWorkspaceAlignment, stream, &memory, error);
  if (status != PEGA_OK) return status;
  status = implementation->run(call, memory.address, error);
  return pega_scratch_release(call->function, driver, device, stream, &memory, status, error);
}

pega_status pega_prefill_launch(const pega_prefill *call,
                                const pega_prefill_implementation *implementation, void *workspace,
                                pega_error *error) {
  const int64_t bytes = implementation->workspace(call);
  if (workspace != NULL || bytes == 0) return implementation->run(call, workspace, error);
  const pega_cuda_driver *driver;
  pega_cuda_device *device;
  pega_cuda_guard guard;
  pega_status status =
      pega_cuda_enter_device(call->function, call->device, &driver, &device, &guard, error);
  if (status != PEGA_OK) return status;
  status = run_with_pool(call, implementation, driver, device, bytes, error);
  return pega_cuda_leave(driver, call->function, &guard, status, error);
}

pega_status pega_prefill_prepare(void *self, DLDevice device, pega_error *error) {
  (void)self;
  pega_status status = PEGA_OK;
  for (int i = 0; i < kNumKernels && status == PEGA_OK; ++i) {
    status = pega_kernel_slot_prepare(&slots[i], device, error);
  }
  /* What runs by name only: a pack may be without it. */
  pega_kernel_slot *const more[] = {&pega_qwen35_chunk_solve_kernel, &pega_prefill_linear_inputs,
                                    &pega_prefill_linear_outputs};
  enum { kNumMore = sizeof more / sizeof *more };
  pega_error why;
  pega_error_init(&why);
  for (int i = 0; i < kNumStages + kNumMore && status == PEGA_OK; ++i) {
    pega_kernel_slot *slot = i < kNumStages ? pega_gdr_stages[i].slot : more[i - kNumStages];
    const pega_status had = pega_kernel_slot_prepare(slot, device, &why);
    if (had == PEGA_OK || had == PEGA_ERROR_UNSUPPORTED) continue;
    status = had;
    if (error != NULL) pega_error_copy(&why, error);
  }
  pega_error_clear(&why);
  return status;
}
