/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one function of the module that flashinfer_gdn.py links: takes what pega/qwen35.h says of a
 * provided prefill, and calls FlashInfer's kernels in their order with the arguments that each
 * wants.
 *
 * Memory of the workspace, each part aligned to 256 bytes: descriptors of tails, one for each
 * multiprocessor; and where there are chunks (`chunk` > 0) the triangles [blocks, HV, 64, 64], then
 * three times states [chunks, HV, 128, 128]. pega's side counts the same
 * (src/ops/qwen35/prefill_provided.c).
 */
#include <stdio.h>
#include <tvm/ffi/c_api.h>

enum { kDim = 128, kBlock = 64, kDescriptors = 256 * 128, kAlignment = 256 };

typedef TVMFFIAny any;

#define KERNEL(name) int __tvm_ffi_##name(void *, const any *, int32_t, any *)
KERNEL(fi_prefill_0);
KERNEL(fi_prefill_1);
KERNEL(fi_cp_t);
KERNEL(fi_cp_mn);
KERNEL(fi_cp_fixup_row4_0);
KERNEL(fi_cp_fixup_row4_1);
KERNEL(fi_cp_fixup_row8_0);
KERNEL(fi_cp_fixup_row8_1);
KERNEL(fi_cp_fixup_hmma_0);
KERNEL(fi_cp_fixup_hmma_1);
KERNEL(fi_cp_prefill_0);
KERNEL(fi_cp_prefill_1);

/* --- arguments --- */

enum {
  kQ,
  kK,
  kV,
  kAlpha,
  kBeta,
  kSequences,
  kInitial,
  kOutput,
  kFinal,
  kWorkspace,
  kScale,
  kChunk,
  kStream,
  kCount
};
enum { kTensors = kWorkspace + 1 };

static const struct {
  const char *name;
  int32_t ndim;
  DLDataType dtype;
} wanted[kTensors] = {
    {"q", 3, {kDLBfloat, 16, 1}},
    {"k", 3, {kDLBfloat, 16, 1}},
    {"v", 3, {kDLBfloat, 16, 1}},
    {"alpha", 2, {kDLFloat, 32, 1}},
    {"beta", 2, {kDLFloat, 32, 1}},
    {"cu_seqlens", 1, {kDLInt, 64, 1}},
    {"initial_state", 4, {kDLFloat, 32, 1}},
    {"output", 3, {kDLBfloat, 16, 1}},
    {"final_state", 4, {kDLFloat, 32, 1}},
    {"workspace", 1, {kDLUInt, 8, 1}},
};

static int refuse(const char *kind, const char *what, const char *name) {
  char text[160];
  snprintf(text, sizeof text, "gated_delta_rule_prefill: %s%s%s", what, name == NULL ? "" : " ",
           name == NULL ? "" : name);
  TVMFFIErrorSetRaisedFromCStr(kind, text);
  return -1;
}

/* NULL for None. */
static const DLTensor *tensor_of(const any *value) {
  if (value->type_index == kTVMFFIDLTensorPtr) return value->v_ptr;
  if (value->type_index == kTVMFFITensor) {
    return (const DLTensor *)(const void *)((const char *)value->v_obj + sizeof(TVMFFIObject));
  }
  return NULL;
}

static int check(const any *args, int32_t num_args, const DLTensor *in[kTensors]) {
  if (num_args != kCount) return refuse("TypeError", "expected 13 arguments", NULL);
  for (int i = 0; i < kTensors; ++i) {
    in[i] = tensor_of(&args[i]);
    if (in[i] == NULL) {
      if (i == kInitial && args[i].type_index == kTVMFFINone) continue;
      return refuse("TypeError", "expected a tensor for", wanted[i].name);
    }
    const DLDataType dtype = in[i]->dtype;
    if (in[i]->ndim != wanted[i].ndim || dtype.code != wanted[i].dtype.code ||
        dtype.bits != wanted[i].dtype.bits || dtype.lanes != 1) {
      return refuse("TypeError", "wrong rank or dtype of", wanted[i].name);
    }
  }
  const int64_t *q = in[kQ]->shape, *v = in[kV]->shape;
  const int64_t tokens = q[0], heads = v[1];
  const int64_t sequences = in[kSequences]->shape[0] - 1;
  for (int i = 0; i < kTensors; ++i) {
    if (in[i] == NULL || i == kSequences || i == kWorkspace) continue;
    const int64_t *shape = in[i]->shape;
    const int states = i == kInitial || i == kFinal;
    const int64_t rows = states ? sequences : tokens;
    const int64_t columns = i == kQ || i == kK ? q[1] : heads;
    int fits = shape[0] == rows && shape[1] == columns;
    for (int d = 2; d < in[i]->ndim; ++d) fits = fits && shape[d] == kDim;
    if (!fits) return refuse("ValueError", "wrong shape of", wanted[i].name);
  }
  if (tokens < 1 || sequences < 1 || q[1] < 1 || heads % q[1] != 0) {
    return refuse("ValueError",
                  "expected tokens, sequences, and value heads a multiple of key heads", NULL);
  }
  if (args[kScale].type_index != kTVMFFIFloat)
    return refuse("TypeError", "expected a float for", "scale");
  if (args[kChunk].type_index != kTVMFFIInt || args[kChunk].v_int64 < 0 ||
      args[kChunk].v_int64 % kBlock != 0) {
    return refuse("ValueError", "expected a multiple of 64 for", "chunk");
  }
  const int32_t stream = args[kStream].type_index;
  if (stream != kTVMFFIOpaquePtr && stream != kTVMFFIInt && stream != kTVMFFINone) {
    return refuse("TypeError", "expected a pointer for", "stream");
  }
  return 0;
}

/* --- making arguments of kernels --- */

typedef struct view {
  DLTensor tensor;
  int64_t shape[4], strides[4];
} view;

static any of_int(int64_t number) {
  any out = {.type_index = kTVMFFIInt};
  out.v_int64 = number;
  return out;
}

static const any none = {.type_index = kTVMFFINone};

/* Memory `data` on the device of `like`, with these extents and steps. */
static any of_view(view *out, void *data, const DLTensor *like, DLDataType dtype, int32_t ndim,
                   const int64_t *shape, const int64_t *strides) {
  for (int i = 0; i < ndim; ++i) {
    out->shape[i] = shape[i];
    out->strides[i] = strides[i];
  }
  out->tensor = (DLTensor){data, like->device, ndim, dtype, out->shape, out->strides, 0};
  any value = {.type_index = kTVMFFIDLTensorPtr};
  value.v_ptr = &out->tensor;
  return value;
}

static void *data_of(const DLTensor *tensor) { return (char *)tensor->data + tensor->byte_offset; }

static any of_line(view *out, void *data, const DLTensor *like, DLDataType dtype, int64_t count) {
  return of_view(out, data, like, dtype, 1, (int64_t[]){count}, (int64_t[]){1});
}

/* All of a tensor as one line. */
static any of_flat(view *out, const DLTensor *tensor) {
  int64_t count = 1;
  for (int i = 0; i < tensor->ndim; ++i) count *= tensor->shape[i];
  return of_line(out, data_of(tensor), tensor, tensor->dtype, count);
}

static int64_t row_of(const DLTensor *rows) {
  return rows->strides == NULL ? rows->shape[1] * kDim : rows->strides[0];
}

/* Rows [T, H, 128] with the heads last: (T, 128, H). */
static any of_queries(view *out, const DLTensor *rows) {
  return of_view(out, data_of(rows), rows, rows->dtype, 3,
                 (int64_t[]){rows->shape[0], kDim, rows->shape[1]},
                 (int64_t[]){row_of(rows), 1, kDim});
}

/* (128, T, H). */
static any of_rows(view *out, const DLTensor *rows) {
  return of_view(out, data_of(rows), rows, rows->dtype, 3,
                 (int64_t[]){kDim, rows->shape[0], rows->shape[1]},
                 (int64_t[]){1, row_of(rows), kDim});
}

static any of_states(view *out, const DLTensor *states) {
  return of_view(out, data_of(states), states, states->dtype, 4, states->shape,
                 (int64_t[]){states->shape[1] * kDim * kDim, kDim * kDim, kDim, 1});
}

/* Squares [count, heads, side, side] as (side, side, heads, count), the first two in their
 * order. */
static any of_squares(view *out, void *data, const DLTensor *like, DLDataType dtype, int64_t side,
                      int64_t heads, int64_t count) {
  return of_view(out, data, like, dtype, 4, (int64_t[]){side, side, heads, count},
                 (int64_t[]){side, 1, side * side, heads * side * side});
}

/* As many pieces of `size` tokens as any sequences of so many tokens can have. */
static int64_t pieces(int64_t sequences, int64_t tokens, int64_t size) {
  const int64_t least = sequences < tokens ? sequences : tokens;
  return least + (tokens - least) / size;
}

static int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

/* --- the calls --- */

static int whole(const any *args, const DLTensor *const in[kTensors]) {
  const int64_t key_heads = in[kQ]->shape[1], heads = in[kV]->shape[1];
  const int64_t sequences = in[kSequences]->shape[0] - 1;
  view views[10];
  const any given[] = {
      of_queries(&views[0], in[kQ]),
      of_rows(&views[1], in[kK]),
      of_rows(&views[2], in[kV]),
      of_rows(&views[3], in[kOutput]),
      of_flat(&views[4], in[kAlpha]),
      of_flat(&views[5], in[kBeta]),
      of_states(&views[6], in[kFinal]),
      in[kInitial] == NULL ? none : of_states(&views[7], in[kInitial]),
      none, /* indices of states */
      none, /* checkpoints, and where they begin */
      none,
      of_line(&views[8], data_of(in[kWorkspace]), in[kWorkspace], (DLDataType){kDLInt, 8, 1},
              kDescriptors),
      of_flat(&views[9], in[kSequences]),
      args[kScale],
      of_int(key_heads),
      of_int(key_heads),
      of_int(heads),
      of_int(heads),
      of_int(sequences),
      of_int(1), /* checkpoints */
      of_int(0), /* tokens between them */
      of_int(sequences * heads),
      args[kStream],
  };
  any result = none;
  return (in[kInitial] == NULL ? __tvm_ffi_fi_prefill_0 : __tvm_ffi_fi_prefill_1)(
      NULL, given, (int32_t)(sizeof given / sizeof *given), &result);
}

static int in_chunks(const any *args, const DLTensor *const in[kTensors], int64_t chunk) {
  const int64_t tokens = in[kQ]->shape[0], key_heads = in[kQ]->shape[1], heads = in[kV]->shape[1];
  const int64_t sequences = in[kSequences]->shape[0] - 1;
  const int64_t blocks = pieces(sequences, tokens, kBlock);
  const int64_t chunks = pieces(sequences, tokens, chunk);
  const int64_t of_one =
      (tokens + chunk - 1) / chunk; /* the longest sequence may have all tokens */
  const DLDataType bf16 = in[kQ]->dtype, fp32 = in[kAlpha]->dtype;
  const DLTensor *like = in[kWorkspace];
  const int64_t num_triangles = blocks * heads * kBlock * kBlock;
  const int64_t num_states = chunks * heads * kDim * kDim;
  char *memory = data_of(like);
  char *triangles = memory + kDescriptors;
  char *transfer = triangles + aligned(num_triangles * 2);
  char *local = transfer + aligned(num_states * 4);
  char *fixed = local + aligned(num_states * 4);
  if (fixed + num_states * 4 > memory + like->shape[0]) {
    return refuse("ValueError", "too few bytes of", "workspace");
  }
  view rows[4], lines[6], squares[3], initial;
  const any k = of_rows(&rows[0], in[kK]);
  const any v = of_rows(&rows[1], in[kV]);
  const any alpha = of_flat(&lines[0], in[kAlpha]);
  const any starts = of_flat(&lines[1], in[kSequences]);
  const any transfer_line = of_line(&lines[2], transfer, like, fp32, num_states);
  const any local_line = of_line(&lines[3], local, like, fp32, num_states);
  const any fixed_line = of_line(&lines[4], fixed, like, fp32, num_states);
  const any t = of_squares(&squares[0], triangles, like, bf16, kBlock, heads, blocks);
  const any state = in[kInitial] == NULL ? none : of_states(&initial, in[kInitial]);
  any result = none;
  {
    view beta, line;
    const any given[] = {k,
                         of_flat(&beta, in[kBeta]),
                         of_line(&line, triangles, like, bf16, num_triangles),
                         starts,
                         of_int(key_heads),
                         of_int(heads),
                         of_int(blocks),
                         of_int((tokens + kBlock - 1) / kBlock),
                         of_int(sequences),
                         args[kStream]};
    const int code =
        __tvm_ffi_fi_cp_t(NULL, given, (int32_t)(sizeof given / sizeof *given), &result);
    if (code != 0) return code;
  }
  {
    const any given[] = {k,
                         v,
                         t,
                         alpha,
                         transfer_line,
                         local_line,
                         starts,
                         of_int(chunk),
                         of_int(key_heads),
                         of_int(heads),
                         of_int(heads),
                         of_int(chunks),
                         of_int(of_one),
                         of_int(sequences),
                         args[kStream]};
    const int code =
        __tvm_ffi_fi_cp_mn(NULL, given, (int32_t)(sizeof given / sizeof *given), &result);
    if (code != 0) return code;
  }
  {
    const any given[] = {of_squares(&squares[1], transfer, like, fp32, kDim, heads, chunks),
                         of_squares(&squares[2], local, like, fp32, kDim, heads, chunks),
                         state,
                         none, /* indices of states */
                         fixed_line,
                         starts,
                         of_int(chunk),
                         of_int(chunks),
                         of_int(sequences),
                         of_int(heads),
                         args[kStream]};
    static const TVMFFISafeCallType fixups[3][2] = {
        {__tvm_ffi_fi_cp_fixup_row4_0, __tvm_ffi_fi_cp_fixup_row4_1},
        {__tvm_ffi_fi_cp_fixup_row8_0, __tvm_ffi_fi_cp_fixup_row8_1},
        {__tvm_ffi_fi_cp_fixup_hmma_0, __tvm_ffi_fi_cp_fixup_hmma_1}};
    const int code = fixups[heads <= 8    ? 0
                            : heads <= 16 ? 1
                                          : 2][in[kInitial] != NULL](
        NULL, given, (int32_t)(sizeof given / sizeof *given), &result);
    if (code != 0) return code;
  }
  view final, descriptors;
  const any given[] = {
      of_queries(&rows[2], in[kQ]),
      k,
      v,
      t,
      of_rows(&rows[3], in[kOutput]),
      alpha,
      of_states(&final, in[kFinal]),
      fixed_line,
      state,
      none, /* indices of states */
      none, /* checkpoints, and where they begin */
      none,
      of_line(&descriptors, memory, like, (DLDataType){kDLInt, 8, 1}, kDescriptors),
      starts,
      args[kScale],
      of_int(key_heads),
      of_int(key_heads),
      of_int(heads),
      of_int(heads),
      of_int(chunk),
      of_int(chunks),
      of_int(of_one),
      of_int(sequences),
      of_int(1), /* checkpoints */
      of_int(0), /* tokens between them */
      args[kStream]};
  return (in[kInitial] == NULL ? __tvm_ffi_fi_cp_prefill_0 : __tvm_ffi_fi_cp_prefill_1)(
      NULL, given, (int32_t)(sizeof given / sizeof *given), &result);
}

TVM_FFI_DLL_EXPORT int __tvm_ffi_gated_delta_rule_prefill(void *self, const any *args,
                                                          int32_t num_args, any *result) {
  (void)self;
  const DLTensor *in[kTensors];
  any own[kCount];
  if (check(args, num_args, in) != 0) return -1;
  for (int i = 0; i < kCount; ++i) own[i] = args[i];
  own[kStream].type_index = kTVMFFIOpaquePtr; /* an integer and None have the same 8 bytes */
  result->type_index = kTVMFFINone;
  result->v_int64 = 0;
  if (in[kWorkspace]->shape[0] < kDescriptors) {
    return refuse("ValueError", "too few bytes of", "workspace");
  }
  return own[kChunk].v_int64 == 0 ? whole(own, in) : in_chunks(own, in, own[kChunk].v_int64);
}
