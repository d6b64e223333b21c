/* SPDX-License-Identifier: Apache-2.0 */
/* The whole prefill as functions: what they take, and what is checked before anything runs. */
#include "prefill.h"

#include <inttypes.h>

#include "core/function.h"
#include "core/hot.h"
#include "ops/qwen35/prefill_cpu.h"

#define OPTIONAL PEGA_PARAM_OPTIONAL

/* What both forms take after their first five. */
#define STATE_AND_OUTPUT                                                                        \
  PEGA_GDR_FP32_TENSOR(                                                                         \
      "initial_state", OPTIONAL, "N, HV, 128, 128",                                             \
      "state of each sequence and head, (K, V) with V contiguous; None is zeros"),              \
      {.name = "cu_seqlens",                                                                    \
       .doc = "int32 or int64: where each sequence begins, and T; None is one sequence",        \
       .type = PEGA_TYPE_TENSOR,                                                                \
       .flags = OPTIONAL | PEGA_PARAM_CONTIGUOUS,                                               \
       .shape = "_",                                                                            \
       .domain = "0 first, T last, never decreasing"},                                          \
      {.name = "scale", .doc = "None is 128^-0.5", .type = PEGA_TYPE_FLOAT, .flags = OPTIONAL}, \
      PEGA_GDR_BF16_TENSOR("output", PEGA_PARAM_OUTPUT, "T, HV, 128", "the rule's output"),     \
      PEGA_GDR_FP32_TENSOR(                                                                     \
          "final_state", OPTIONAL | PEGA_PARAM_OUTPUT, "N, HV, 128, 128",                       \
          "the states after the last tokens; may be initial_state; None where not wanted")
#define CHOICE_AND_CHECK                                                                          \
  {.name = "implementation",                                                                      \
   .doc = "the name of one of them; None lets the table choose",                                  \
   .type = PEGA_TYPE_STRING,                                                                      \
   .flags = OPTIONAL},                                                                            \
      {.name = "workspace",                                                                       \
       .doc =                                                                                     \
           "uint8, as many as the workspace function says; None takes it from the stream's pool " \
           "or the heap",                                                                         \
       .type = PEGA_TYPE_TENSOR,                                                                  \
       .flags = OPTIONAL | PEGA_PARAM_CONTIGUOUS | PEGA_PARAM_OUTPUT,                             \
       .dtype = {kDLUInt, 8, 1},                                                                  \
       .shape = "_"},                                                                             \
      PEGA_GDR_CHECK

static const pega_param plain_params[] = {
    PEGA_GDR_PLAIN_INPUTS("T"),
    STATE_AND_OUTPUT,
    PEGA_GDR_NORMALIZE,
    CHOICE_AND_CHECK,
};

static const pega_param projected_params[] = {
    PEGA_GDR_PROJECTED_INPUTS("T"),
    STATE_AND_OUTPUT,
    CHOICE_AND_CHECK,
};

/* Of the parameters above. */
enum { kInitial = 5, kSeqlens, kScale, kOutput, kFinal, kNormalize };

/* --- reading a call --- */

static pega_status read_seqlens(const pega_value *value, pega_prefill *call, pega_error *error) {
  call->shape.num_sequences = 1;
  pega_status status = pega_gdr_read_indices(call->function, "cu_seqlens", value, &call->cu_seqlens,
                                             &call->cu_seqlens_bits, error);
  const DLTensor *tensor = pega_value_as_tensor(value);
  if (status != PEGA_OK || tensor == NULL) return status;
  if (tensor->shape[0] < 1) {
    return pega_error_set(error, PEGA_ERROR_SHAPE, NULL,
                          "%s: 'cu_seqlens' has no elements: expected N + 1", call->function);
  }
  call->shape.num_sequences = tensor->shape[0] - 1;
  return PEGA_OK;
}

/* That a state is there for each sequence. */
static pega_status check_states(const pega_prefill *call, const char *name, const pega_value *value,
                                pega_error *error) {
  const DLTensor *tensor = pega_value_as_tensor(value);
  if (tensor == NULL || tensor->shape[0] == call->shape.num_sequences) return PEGA_OK;
  return pega_error_set(error, PEGA_ERROR_SHAPE, NULL,
                        "%s: '%s' is for %" PRId64 " sequences: expected N = %" PRId64 "%s",
                        call->function, name, tensor->shape[0], call->shape.num_sequences,
                        call->cu_seqlens == NULL ? ", as there is no cu_seqlens" : "");
}

/* --- checks of more than one argument --- */

static pega_status check_values(const pega_prefill *call, pega_error *error) {
  const pega_gdr_memory in = {call->function, call->place, call->device, 0};
  const pega_gdr_shape *shape = &call->shape;
  pega_status status = PEGA_OK;
  if (call->cu_seqlens != NULL) {
    status = pega_gdr_check_seqlens(&in, call->cu_seqlens, call->cu_seqlens_bits,
                                    shape->num_sequences, shape->num_tokens, error);
  }
  if (status == PEGA_OK)
    status = pega_gdr_check_inputs(&in, &call->in, shape, shape->num_tokens, error);
  if (status != PEGA_OK || call->initial_state == NULL) return status;
  return pega_gdr_check_finite(&in, "initial_state", call->initial_state, 32,
                               shape->num_sequences * shape->num_value_heads * kGdrStateSize,
                               error);
}

/* --- the workspace --- */

static pega_status read_workspace(const pega_value *value, const pega_prefill *call,
                                  const pega_prefill_implementation *implementation, void **out,
                                  pega_error *error) {
  const DLTensor *tensor = pega_value_as_tensor(value);
  *out = NULL;
  if (tensor == NULL) return PEGA_OK;
  const int64_t wanted = pega_prefill_workspace(call, implementation);
  if (tensor->shape[0] < wanted) {
    return pega_error_set(error, PEGA_ERROR_SHAPE, NULL,
                          "%s: 'workspace' has %" PRId64 " bytes: '%s' wants %" PRId64
                          " for these sizes, as %s says",
                          call->function, tensor->shape[0], implementation->name, wanted,
                          PEGA_QWEN35_PREFILL_WORKSPACE);
  }
  if (wanted == 0) return PEGA_OK;
  const uintptr_t unit = kGdrWorkspaceAlignment;
  const uintptr_t begin = (uintptr_t)pega_tensor_data(tensor);
  *out = (void *)((begin + unit - 1) / unit * unit);
  return PEGA_OK;
}

/* --- the calls --- */

/* `choice` is the index of the argument 'implementation', which workspace and check follow. */
PEGA_HOT static pega_status run(pega_prefill *call, const pega_value *args,
                                const pega_param *params, int32_t choice, pega_error *error) {
  pega_status status = read_seqlens(&args[kSeqlens], call, error);
  if (status == PEGA_OK)
    status = pega_gdr_read_inputs(call->function, args, &call->in, &call->shape, error);
  if (status == PEGA_OK && call->shape.num_sequences == 0 && call->shape.num_tokens > 0) {
    return pega_error_set(error, PEGA_ERROR_SHAPE, NULL,
                          "%s: 'cu_seqlens' is for no sequence and there are %" PRId64
                          " tokens: expected N + 1 elements, N >= 1",
                          call->function, call->shape.num_tokens);
  }
  if (status == PEGA_OK) {
    status = check_states(call, "initial_state", &args[kInitial], error);
  }
  if (status == PEGA_OK) status = check_states(call, "final_state", &args[kFinal], error);
  if (status != PEGA_OK) return status;
  const DLDevice device = pega_value_as_tensor(&args[0])->device;
  call->device = device.device_id;
  status = pega_gdr_place_of(call->function, params[0].name, device, &call->place, error);
  if (status != PEGA_OK) return status;
  call->initial_state = pega_gdr_data(&args[kInitial]);
  call->output = pega_gdr_data(&args[kOutput]);
  call->final_state = pega_gdr_data(&args[kFinal]);
  call->scale = pega_gdr_scale(&args[kScale]);
  const pega_gdr_memory in = {call->function, call->place, call->device, 0};
  const pega_gdr_memory_arg memory[] = {{0, false, -1},
                                        {1, false, -1},
                                        {2, false, -1},
                                        {3, false, -1},
                                        {4, false, -1},
                                        {kInitial, false, -1},
                                        {kSeqlens, true, -1},
                                        {kOutput, false, -1},
                                        {kFinal, false, 5 /* the initial state */},
                                        {(uint8_t)(choice + 1), true, -1}};
  status = pega_gdr_check_memory(&in, params, args, memory, PEGA_GDR_COUNT(memory), error);
  if (status != PEGA_OK) return status;
  if (pega_gdr_is_true(&args[choice + 2])) {
    status = check_values(call, error);
  } else if (call->place == kPlaceCpu && call->cu_seqlens != NULL) {
    status = pega_gdr_check_seqlens(&in, call->cu_seqlens, call->cu_seqlens_bits,
                                    call->shape.num_sequences, call->shape.num_tokens, error);
  }
  if (status != PEGA_OK) return status;
  size_t name_size = 0;
  const char *name = pega_value_as_string(&args[choice], &name_size);
  const pega_prefill_implementation *implementation;
  status = pega_prefill_choose(call, name, name_size, &implementation, error);
  if (status != PEGA_OK) return status;
  void *workspace;
  status = read_workspace(&args[choice + 1], call, implementation, &workspace, error);
  if (status != PEGA_OK || call->shape.num_sequences == 0) return status;
  return call->place == kPlaceCpu ? pega_prefill_run_cpu(call, implementation, workspace, error)
                                  : pega_prefill_launch(call, implementation, workspace, error);
}

PEGA_HOT static pega_status call_plain(void *self, const pega_value *args, int32_t num_args,
                                       pega_value *result, pega_error *error) {
  (void)self;
  (void)num_args;
  (void)result;
  pega_prefill call;
  call.function = PEGA_QWEN35_PREFILL;
  call.in.projected = false;
  call.in.normalize = pega_gdr_is_true(&args[kNormalize]);
  return run(&call, args, plain_params, kNormalize + 1, error);
}

PEGA_HOT static pega_status call_projected(void *self, const pega_value *args, int32_t num_args,
                                           pega_value *result, pega_error *error) {
  (void)self;
  (void)num_args;
  (void)result;
  pega_prefill call;
  call.function = PEGA_QWEN35_PREFILL_PROJECTED;
  call.in.projected = true;
  call.in.normalize = true;
  return run(&call, args, projected_params, kNormalize, error);
}

/* --- asking about it --- */

#define SIZES                                                      \
  PEGA_GDR_INT("num_tokens", 0, INT32_MAX, "T, of all sequences"), \
      PEGA_GDR_INT("num_sequences", 0, INT32_MAX, "N"),            \
      PEGA_GDR_INT("num_key_heads", 1, kGdrMaxHeads, "HK"),        \
      PEGA_GDR_INT("num_value_heads", 1, kGdrMaxHeads, "HV, a multiple of HK")
#define DEVICE \
  { .name = "device", .doc = "where the tensors would be", .type = PEGA_TYPE_DEVICE }

static const pega_param workspace_params[] = {
    SIZES,
    DEVICE,
    PEGA_GDR_FLAG("projected", "for the form from the projections; None is False"),
    PEGA_GDR_FLAG("normalize", "as in the call; None is False"),
    {.name = "implementation",
     .doc = "as in the call",
     .type = PEGA_TYPE_STRING,
     .flags = OPTIONAL},
};
static const pega_param explain_params[] = {
    DEVICE,
    SIZES,
    PEGA_GDR_FLAG("projected", "for the form from the projections; None is False"),
    PEGA_GDR_FLAG("normalize", "as in the call; None is False"),
};

/* A call of these sizes, of which nothing but them is known. */
static pega_status read_sizes(const char *function, const pega_value *sizes,
                              const pega_value *device, bool projected, bool normalize,
                              pega_prefill *call, pega_error *error) {
  memset(call, 0, sizeof *call);
  call->function = function;
  call->shape =
      (pega_gdr_shape){sizes[0].as.i64, sizes[1].as.i64, sizes[2].as.i64, sizes[3].as.i64};
  call->in.projected = projected;
  call->in.normalize = projected || normalize;
  call->device = device->as.device.device_id;
  pega_status status = pega_gdr_check_shape(function, &call->shape, error);
  if (status != PEGA_OK) return status;
  return pega_gdr_place_of(function, "device", device->as.device, &call->place, error);
}

static pega_status call_workspace(void *self, const pega_value *args, int32_t num_args,
                                  pega_value *result, pega_error *error) {
  (void)self;
  (void)num_args;
  pega_prefill call;
  pega_status status =
      read_sizes(PEGA_QWEN35_PREFILL_WORKSPACE, args, &args[4], pega_gdr_is_true(&args[5]),
                 pega_gdr_is_true(&args[6]), &call, error);
  if (status != PEGA_OK) return status;
  size_t name_size = 0;
  const char *name = pega_value_as_string(&args[7], &name_size);
  const pega_prefill_implementation *implementation;
  status = pega_prefill_choose(&call, name, name_size, &implementation, error);
  if (status == PEGA_OK) *result = pega_value_int(pega_prefill_workspace(&call, implementation));
  return status;
}

static pega_status call_explain(void *self, const pega_value *args, int32_t num_args,
                                pega_value *result, pega_error *error) {
  (void)self;
  (void)num_args;
  pega_prefill call;
  pega_status status =
      read_sizes(PEGA_QWEN35_PREFILL_EXPLAIN, &args[1], &args[0], pega_gdr_is_true(&args[5]),
                 pega_gdr_is_true(&args[6]), &call, error);
  return status == PEGA_OK ? pega_prefill_explain(&call, result, error) : status;
}

/* --- making them --- */

static const pega_signature plain_signature =
    PEGA_GDR_SIGNATURE(plain_params, PEGA_SIGNATURE_SAME_DEVICE, PEGA_TYPE_NONE);
static const pega_signature projected_signature =
    PEGA_GDR_SIGNATURE(projected_params, PEGA_SIGNATURE_SAME_DEVICE, PEGA_TYPE_NONE);
static const pega_signature workspace_signature =
    PEGA_GDR_SIGNATURE(workspace_params, 0, PEGA_TYPE_INT);
static const pega_signature explain_signature =
    PEGA_GDR_SIGNATURE(explain_params, 0, PEGA_TYPE_ARRAY);

pega_status pega_prefill_functions(pega_status (*add)(pega_function *function, pega_error *error),
                                   pega_error *error) {
  static const struct {
    const char *name, *doc;
    const pega_signature *signature;
    pega_call call;
    pega_prepare prepare;
  } made[] = {
      {PEGA_QWEN35_PREFILL,
       "The gated delta rule over whole sequences: S <- exp(g) S; u = beta (v - S^T k); S <- S + k "
       "u^T; o = scale S^T q. Runs where the tensors are; on CUDA tensors on the current stream.",
       &plain_signature, call_plain, pega_prefill_prepare},
      {PEGA_QWEN35_PREFILL_PROJECTED,
       "The gated delta rule over whole sequences from the projections: q and k are normalised, g = "
       "-exp(a_log) softplus(a + dt_bias), beta = sigmoid(b). Runs where the tensors are.",
       &projected_signature, call_projected, pega_prefill_prepare},
      {PEGA_QWEN35_PREFILL_WORKSPACE, "Bytes of workspace that a prefill of these sizes wants.",
       &workspace_signature, call_workspace, NULL},
      {PEGA_QWEN35_PREFILL_EXPLAIN,
       "The implementations of a prefill in the order in which they are asked, and which is taken.",
       &explain_signature, call_explain, NULL},
  };
  pega_status status = PEGA_OK;
  for (size_t i = 0; i < sizeof made / sizeof *made && status == PEGA_OK; ++i) {
    pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
    pega_function *function;
    options.name = made[i].name;
    options.doc = made[i].doc;
    options.signature = made[i].signature;
    options.call = made[i].call;
    status = pega_function_create(&options, &function, error);
    if (status != PEGA_OK) break;
    if (made[i].prepare != NULL) pega_function_set_prepare(function, made[i].prepare);
    status = add(function, error);
    pega_function_release(function);
  }
  return status;
}
