/* SPDX-License-Identifier: Apache-2.0 */
/* The function: from tensors to one call of cuBLAS. */
#include <inttypes.h>
#include <stdio.h>

#include "core/text.h"
#include "cublas.h"

static const char where[] = PEGA_CUBLAS_GEMM;

enum { A, B, C, TRANSPOSE_A, TRANSPOSE_B, ALPHA, BETA, TF32, STREAM, NUM_PARAMS };

/* A batch of matrices in memory: rows of `columns` elements side by side. */
typedef struct matrix {
  const DLTensor *tensor;
  const char *name;
  unsigned char *data;
  int64_t rows, columns; /* as they lie */
  int64_t row_stride;    /* elements; at least 1 and at least `columns` */
  int64_t stride;        /* from one matrix to the next; 0 where there is one for all */
  int64_t count;
  int64_t bytes; /* of an element */
  int64_t span;  /* bytes from the first to behind the last element; 0 where there is none */
  int type;      /* cudaDataType */
  bool flipped;  /* its columns lie side by side: what is here are its columns as rows */
} matrix;

typedef struct product {
  matrix a, b, c;
  bool transpose_a, transpose_b;
  int64_t m, n, k, count;
  float alpha, beta;
  int compute;
} product;

/* ---- Texts ---- */

static void print_shape(pega_text *text, const DLTensor *tensor) {
  char name[PEGA_NAME_SIZE];
  pega_text_printf(text, "%s[", pega_dtype_name(tensor->dtype, name));
  for (int32_t i = 0; i < tensor->ndim; ++i) {
    pega_text_printf(text, "%s%" PRId64, i == 0 ? "" : ", ", tensor->shape[i]);
  }
  pega_text_printf(text, "]");
}

/* "c float32[4, 8] = 1 * a bfloat16[4, 16] @ b bfloat16[8, 16]^T + 0 * c on cuda:0". */
static const char *describe(const product *p, char *buffer, size_t capacity) {
  pega_text text = {buffer, capacity, 0};
  char device[PEGA_NAME_SIZE];
  buffer[0] = '\0';
  pega_text_printf(&text, "computing c ");
  print_shape(&text, p->c.tensor);
  pega_text_printf(&text, " = %g * a ", (double)p->alpha);
  print_shape(&text, p->a.tensor);
  pega_text_printf(&text, "%s @ b ", p->transpose_a ? "^T" : "");
  print_shape(&text, p->b.tensor);
  pega_text_printf(&text, "%s + %g * c on %s", p->transpose_b ? "^T" : "", (double)p->beta,
                   pega_device_name(p->c.tensor->device, device));
  return buffer;
}

__attribute__((cold, noinline, format(printf, 4, 5))) static pega_status refuse(
    const product *p, pega_status status, pega_error *error, const char *format, ...) {
  char why[512], what[1024];
  va_list args;
  va_start(args, format);
  vsnprintf(why, sizeof why, format, args);
  va_end(args);
  return pega_error_set(error, status, NULL, "%s: %s; %s", where, why,
                        describe(p, what, sizeof what));
}

/* ---- Checks ---- */

static int type_of(DLDataType dtype) {
  if (dtype.lanes != 1) return -1;
  if (dtype.code == kDLFloat && dtype.bits == 32) return kCudaR32F;
  if (dtype.code == kDLFloat && dtype.bits == 16) return kCudaR16F;
  if (dtype.code == kDLBfloat && dtype.bits == 16) return kCudaR16BF;
  return -1;
}

static pega_status check_types(product *p, pega_error *error) {
  matrix *all[3] = {&p->a, &p->b, &p->c};
  for (int i = 0; i < 3; ++i) {
    char name[PEGA_NAME_SIZE];
    const DLTensor *tensor = all[i]->tensor;
    all[i]->type = type_of(tensor->dtype);
    all[i]->bytes = tensor->dtype.bits / 8;
    if (tensor->ndim < 2) {
      return refuse(p, PEGA_ERROR_SHAPE, error, "argument %d '%s' has rank %d: expected at least 2",
                    i, all[i]->name, (int)tensor->ndim);
    }
    if (all[i]->type < 0) {
      return refuse(p, PEGA_ERROR_DTYPE, error,
                    "argument %d '%s' is %s: expected bfloat16, float16 or float32", i,
                    all[i]->name, pega_dtype_name(tensor->dtype, name));
    }
    if ((int)tensor->device.device_type != kDLCUDA &&
        (int)tensor->device.device_type != kDLCUDAManaged) {
      return refuse(p, PEGA_ERROR_DEVICE, error,
                    "argument %d '%s' is on %s: expected a cuda device", i, all[i]->name,
                    pega_device_name(tensor->device, name));
    }
  }
  if (p->a.type != p->b.type) {
    return refuse(p, PEGA_ERROR_DTYPE, error, "'a' and 'b' are of different element types");
  }
  if (p->c.type != p->a.type && p->c.type != kCudaR32F) {
    return refuse(p, PEGA_ERROR_DTYPE, error,
                  "expected 'c' of the type of 'a' and 'b', or float32");
  }
  return PEGA_OK;
}

/* Elements from one index of dimension `i` to the next. */
static int64_t stride_of(const DLTensor *tensor, int32_t i) {
  if (tensor->strides != NULL) return tensor->strides[i];
  int64_t stride = 1;
  for (int32_t j = tensor->ndim; j-- > i + 1;) stride *= tensor->shape[j];
  return stride;
}

/* The leading dimensions: those of `c`, or ones for one matrix of all. They must be at one distance. */
static pega_status read_batch(const product *p, matrix *out, pega_error *error) {
  const DLTensor *tensor = out->tensor, *c = p->c.tensor;
  const int32_t leading = tensor->ndim - 2;
  bool same = tensor->ndim == c->ndim, ones = true;
  out->count = 1;
  out->stride = 0;
  for (int32_t i = 0; i < leading; ++i) {
    ones = ones && tensor->shape[i] == 1;
    same = same && tensor->shape[i] == c->shape[i];
    out->count *= tensor->shape[i];
  }
  if (!same && !ones) {
    return refuse(p, PEGA_ERROR_SHAPE, error,
                  "'%s' has other leading sizes than 'c': expected the same, or none, or ones",
                  out->name);
  }
  int64_t inner = -1; /* what the next outer stride has to be */
  for (int32_t i = leading; i-- > 0;) {
    const int64_t stride = stride_of(tensor, i);
    if (tensor->shape[i] == 1 || out->count == 0) continue;
    if (stride < 0 || (inner >= 0 && stride != inner)) {
      return refuse(p, PEGA_ERROR_LAYOUT, error,
                    "'%s' has a batch that does not lie at one distance: stride %" PRId64
                    " of dimension %d, expected %s",
                    out->name, stride, (int)i, stride < 0 ? "0 or more" : "that of its inner ones");
    }
    if (inner < 0) out->stride = stride;
    if (__builtin_mul_overflow(stride, tensor->shape[i], &inner)) inner = INT64_MAX;
  }
  return PEGA_OK;
}

/* Bytes that the matrix takes. What pega_tensor_validate() has seen fits. */
static int64_t span_of(const matrix *of) {
  if (of->rows == 0 || of->columns == 0 || of->count == 0) return 0;
  return (((of->count - 1) * of->stride + (of->rows - 1) * of->row_stride) + of->columns) *
         of->bytes;
}

static pega_status read_matrix(const product *p, matrix *out, pega_error *error) {
  const DLTensor *tensor = out->tensor;
  const int32_t last = tensor->ndim - 1;
  pega_status status = read_batch(p, out, error);
  if (status != PEGA_OK) return status;
  int64_t rows = tensor->shape[last - 1], columns = tensor->shape[last];
  int64_t row_stride = stride_of(tensor, last - 1), column_stride = stride_of(tensor, last);
  out->data = pega_tensor_data(tensor);
  /* A size of 1 excuses any stride, and what is empty has none. */
  const bool empty = rows == 0 || columns == 0 || out->count == 0;
  if (rows <= 1 || empty) row_stride = columns;
  if (columns <= 1 || empty) column_stride = 1;
  if (column_stride != 1 && out != &p->c && (row_stride == 1 || rows <= 1)) {
    out->flipped = true;
    const int64_t swapped = rows;
    rows = columns;
    columns = swapped;
    row_stride = column_stride;
    column_stride = 1;
  }
  if (column_stride != 1) {
    return refuse(p, PEGA_ERROR_LAYOUT, error,
                  "'%s' has strides %" PRId64 ", %" PRId64
                  ": expected elements of a row side by side%s; copy it",
                  out->name, row_stride, column_stride,
                  out == &p->c ? "" : ", or those of a column");
  }
  if (row_stride < columns) {
    return refuse(p, PEGA_ERROR_LAYOUT, error,
                  "'%s' has rows of %" PRId64 " elements at a distance of %" PRId64
                  ": expected at least their length; copy it",
                  out->name, columns, row_stride);
  }
  out->rows = rows;
  out->columns = columns;
  out->row_stride = row_stride > 0 ? row_stride : 1;
  out->span = span_of(out);
  return PEGA_OK;
}

static pega_status check_shapes(product *p, pega_error *error) {
  const int64_t *a = p->a.tensor->shape + p->a.tensor->ndim - 2;
  const int64_t *b = p->b.tensor->shape + p->b.tensor->ndim - 2;
  const int64_t *c = p->c.tensor->shape + p->c.tensor->ndim - 2;
  p->m = a[p->transpose_a ? 1 : 0];
  p->k = a[p->transpose_a ? 0 : 1];
  p->n = b[p->transpose_b ? 0 : 1];
  const int64_t inner = b[p->transpose_b ? 1 : 0];
  if (inner != p->k) {
    return refuse(p, PEGA_ERROR_SHAPE, error,
                  "K is %" PRId64 " in op(a) and %" PRId64 " in op(b): expected the same", p->k,
                  inner);
  }
  if (c[0] != p->m || c[1] != p->n) {
    return refuse(p, PEGA_ERROR_SHAPE, error,
                  "'c' has matrices of %" PRId64 " x %" PRId64 ": expected M x N = %" PRId64
                  " x %" PRId64,
                  c[0], c[1], p->m, p->n);
  }
  return PEGA_OK;
}

/* Columns side by side in rows of one length: `c` and one matrix more. */
static bool interleaved(const matrix *c, const matrix *other) {
  const int64_t row = c->row_stride * c->bytes;
  if (c->count > 1 || (other->count > 1 && other->stride != 0) ||
      other->row_stride * other->bytes != row) {
    return false;
  }
  int64_t offset = (int64_t)((intptr_t)other->data - (intptr_t)c->data) % row;
  if (offset < 0) offset += row;
  return offset >= c->columns * c->bytes && offset + other->columns * other->bytes <= row;
}

static pega_status check_overlap(const product *p, pega_error *error) {
  const matrix *c = &p->c;
  const int64_t one = (c->rows - 1) * c->row_stride + c->columns;
  if (c->count > 1 && c->stride < one && c->row_stride < (c->count - 1) * c->stride + c->columns) {
    return refuse(p, PEGA_ERROR_LAYOUT, error,
                  "the matrices of 'c' overlap: they lie at a distance of %" PRId64 " elements",
                  c->stride);
  }
  if (c->count > 1 && c->stride < one && c->stride < c->columns) {
    return refuse(p, PEGA_ERROR_LAYOUT, error,
                  "the rows of 'c' overlap those of its other matrices: distance %" PRId64,
                  c->stride);
  }
  const matrix *inputs[2] = {&p->a, &p->b};
  for (int i = 0; i < 2; ++i) {
    const matrix *in = inputs[i];
    const uintptr_t from = (uintptr_t)in->data, to = (uintptr_t)c->data;
    if (in->span == 0 || from >= to + (uintptr_t)c->span || to >= from + (uintptr_t)in->span ||
        interleaved(c, in)) {
      continue;
    }
    return refuse(p, PEGA_ERROR_LAYOUT, error,
                  "'c' overlaps '%s': [0x%" PRIxPTR ", 0x%" PRIxPTR ") and [0x%" PRIxPTR
                  ", 0x%" PRIxPTR "): expected separate memory",
                  in->name, to, to + (uintptr_t)c->span, from, from + (uintptr_t)in->span);
  }
  return PEGA_OK;
}

/* ---- The call ---- */

static bool needs_wide(const product *p) {
  const int64_t sizes[] = {p->m,           p->n, p->k, p->count, p->a.row_stride, p->b.row_stride,
                           p->c.row_stride};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; ++i) {
    if (sizes[i] > INT32_MAX) return true;
  }
  return false;
}

/* cuBLAS has columns side by side, so that it sees each matrix transposed: c^T = op(b)^T @ op(a)^T. */
static pega_status launch(const product *p, const pega_cublas_lease *lease, pega_error *error) {
  const pega_cublas_api *api = lease->api;
  const int op_b = p->transpose_b != p->b.flipped ? kCublasOpT : kCublasOpN;
  const int op_a = p->transpose_a != p->a.flipped ? kCublasOpT : kCublasOpN;
  const bool wide = needs_wide(p);
  const char *call;
  cublas_status result;
  if (wide && api->cublasGemmEx_64 == NULL) {
    return refuse(
        p, PEGA_ERROR_UNSUPPORTED, error,
        "a size or a distance of rows is past %d, which needs cuBLAS 12 or later: this one is "
        "%d.%d.%d",
        INT32_MAX, api->version / 10000, api->version % 10000 / 100, api->version % 100);
  }
  if (p->count == 1 && !wide) {
    call = "cublasGemmEx";
    result = api->cublasGemmEx(lease->handle, op_b, op_a, (int)p->n, (int)p->m, (int)p->k,
                               &p->alpha, p->b.data, p->b.type, (int)p->b.row_stride, p->a.data,
                               p->a.type, (int)p->a.row_stride, &p->beta, p->c.data, p->c.type,
                               (int)p->c.row_stride, p->compute, kCublasGemmDefault);
  } else if (!wide) {
    call = "cublasGemmStridedBatchedEx";
    result = api->cublasGemmStridedBatchedEx(
        lease->handle, op_b, op_a, (int)p->n, (int)p->m, (int)p->k, &p->alpha, p->b.data, p->b.type,
        (int)p->b.row_stride, p->b.stride, p->a.data, p->a.type, (int)p->a.row_stride, p->a.stride,
        &p->beta, p->c.data, p->c.type, (int)p->c.row_stride, p->c.stride, (int)p->count,
        p->compute, kCublasGemmDefault);
  } else if (p->count == 1) {
    call = "cublasGemmEx_64";
    result = api->cublasGemmEx_64(lease->handle, op_b, op_a, p->n, p->m, p->k, &p->alpha, p->b.data,
                                  p->b.type, p->b.row_stride, p->a.data, p->a.type, p->a.row_stride,
                                  &p->beta, p->c.data, p->c.type, p->c.row_stride, p->compute,
                                  kCublasGemmDefault);
  } else {
    call = "cublasGemmStridedBatchedEx_64";
    result = api->cublasGemmStridedBatchedEx_64(
        lease->handle, op_b, op_a, p->n, p->m, p->k, &p->alpha, p->b.data, p->b.type,
        p->b.row_stride, p->b.stride, p->a.data, p->a.type, p->a.row_stride, p->a.stride, &p->beta,
        p->c.data, p->c.type, p->c.row_stride, p->c.stride, p->count, p->compute,
        kCublasGemmDefault);
  }
  if (result == kCublas_SUCCESS) return PEGA_OK;
  char what[1024];
  return pega_cublas_fail(where, call, result, describe(p, what, sizeof what), error);
}

static double number_of(const pega_value *value, double otherwise) {
  switch (value->kind) {
    case PEGA_FLOAT:
      return value->as.f64;
    case PEGA_INT:
      return (double)value->as.i64;
    case PEGA_UINT:
      return (double)value->as.u64;
    default:
      return otherwise;
  }
}

static bool flag_of(const pega_value *value) {
  return value->kind == PEGA_BOOL && value->as.boolean;
}

static pega_status gemm(void *self, const pega_value *args, int32_t num_args, pega_value *result,
                        pega_error *error) {
  (void)self;
  (void)num_args;
  (void)result;
  product p;
  memset(&p, 0, sizeof p);
  p.a.tensor = pega_value_as_tensor(&args[A]);
  p.b.tensor = pega_value_as_tensor(&args[B]);
  p.c.tensor = pega_value_as_tensor(&args[C]);
  p.a.name = "a";
  p.b.name = "b";
  p.c.name = "c";
  p.transpose_a = flag_of(&args[TRANSPOSE_A]);
  p.transpose_b = flag_of(&args[TRANSPOSE_B]);
  p.alpha = (float)number_of(&args[ALPHA], 1);
  p.beta = (float)number_of(&args[BETA], 0);
  pega_status status = check_types(&p, error);
  p.compute =
      flag_of(&args[TF32]) && p.a.type == kCudaR32F ? kCublasCompute32FFastTf32 : kCublasCompute32F;
  if (status == PEGA_OK) status = check_shapes(&p, error);
  if (status == PEGA_OK) status = read_matrix(&p, &p.c, error);
  if (status == PEGA_OK) status = read_matrix(&p, &p.a, error);
  if (status == PEGA_OK) status = read_matrix(&p, &p.b, error);
  if (status != PEGA_OK || p.c.span == 0) return status;
  p.count = p.c.count;
  status = check_overlap(&p, error);
  if (status != PEGA_OK) return status;
  const int32_t ordinal = p.c.tensor->device.device_id;
  void *stream = (void *)(uintptr_t)args[STREAM].as.u64;
  if (args[STREAM].kind == PEGA_NONE) {
    status = pega_stream_get((DLDevice){kDLCUDA, ordinal}, &stream, error);
    if (status != PEGA_OK) return status;
  }
  pega_cublas_lease lease;
  status = pega_cublas_enter(where, ordinal, stream, &lease, error);
  if (status != PEGA_OK) return status;
  status = launch(&p, &lease, error);
  return pega_cublas_leave(where, &lease, status, error);
}

/* ---- What is made of it ---- */

static const pega_param params[NUM_PARAMS] = {
    {.name = "a",
     .doc = "[..., M, K], or [..., K, M]: bfloat16, float16 or float32",
     .type = PEGA_TYPE_TENSOR},
    {.name = "b", .doc = "[..., K, N], or [..., N, K]: of the same type", .type = PEGA_TYPE_TENSOR},
    {.name = "c",
     .doc = "[..., M, N]: of the same type or float32",
     .type = PEGA_TYPE_TENSOR,
     .flags = PEGA_PARAM_OUTPUT},
    {.name = "transpose_a",
     .doc = "a is [..., K, M]; false where it is None",
     .type = PEGA_TYPE_BOOL,
     .flags = PEGA_PARAM_OPTIONAL},
    {.name = "transpose_b",
     .doc = "b is [..., N, K]; false where it is None",
     .type = PEGA_TYPE_BOOL,
     .flags = PEGA_PARAM_OPTIONAL},
    {.name = "alpha",
     .doc = "1 where it is None",
     .type = PEGA_TYPE_FLOAT,
     .flags = PEGA_PARAM_OPTIONAL},
    {.name = "beta",
     .doc = "0 where it is None: then what is in c is not read",
     .type = PEGA_TYPE_FLOAT,
     .flags = PEGA_PARAM_OPTIONAL},
    {.name = "tf32",
     .doc = "float32 inputs may be rounded to TF32; false where it is None",
     .type = PEGA_TYPE_BOOL,
     .flags = PEGA_PARAM_OPTIONAL},
    {.name = "stream",
     .doc = "CUstream; the thread's current one where it is None",
     .type = PEGA_TYPE_STREAM,
     .flags = PEGA_PARAM_OPTIONAL},
};

pega_status pega_cublas_gemm(pega_function **out, pega_error *error) {
  if (out == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_cublas_gemm: out is NULL");
  }
  pega_signature signature = PEGA_SIGNATURE_INIT;
  signature.params = params;
  signature.num_params = NUM_PARAMS;
  signature.flags = PEGA_SIGNATURE_SAME_DEVICE;
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  options.name = PEGA_CUBLAS_GEMM;
  options.doc =
      "c = alpha * op(a) @ op(b) + beta * c of row-major matrices, by cuBLAS, with sums in float32";
  options.signature = &signature;
  options.call = gemm;
  return pega_function_create(&options, out, error);
}

pega_status pega_cublas_register(uint32_t flags, pega_error *error) {
  pega_function *function;
  pega_status status = pega_cublas_gemm(&function, error);
  if (status != PEGA_OK) return status;
  status = pega_registry_add(function, flags, error);
  pega_function_release(function);
  return status;
}
