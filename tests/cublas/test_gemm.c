/* SPDX-License-Identifier: Apache-2.0 */
/* Products of tensors against sums in fp64, by a fake cuBLAS that knows column-major matrices alone. */
#include <stdio.h>
#include <stdlib.h>

#include "support_cublas.h"

static fake_cublas *state;
static pega_function *gemm;
static pega_error error = PEGA_ERROR_INIT;

/* A tensor in device memory: [batch, rows, columns] with its rows and matrices apart. */
typedef struct operand {
  uint64_t memory;
  int64_t elements;
  int64_t shape[3], strides[3];
  DLTensor tensor;
} operand;

static double element(const operand *of, int64_t at, int64_t i, int64_t j) {
  return number_read(of->tensor.data, cublas_type(of->tensor.dtype),
                     at * of->strides[0] + i * of->strides[1] + j * of->strides[2]);
}

/* `flip`: its columns lie side by side. `batch` 0: of rank 2. */
static operand *make(DLDataType dtype, int64_t batch, int64_t rows, int64_t columns, int64_t gap,
                     bool flip, unsigned seed) {
  operand *made = calloc(1, sizeof *made);
  const int64_t row = (flip ? rows : columns) + gap, one = row * (flip ? columns : rows) + gap;
  made->shape[0] = batch;
  made->shape[1] = rows;
  made->shape[2] = columns;
  made->strides[0] = one;
  made->strides[1] = flip ? 1 : row;
  made->strides[2] = flip ? row : 1;
  made->elements = one * (batch > 0 ? batch : 1) + 1;
  const size_t bytes = (size_t)(made->elements * dtype.bits / 8);
  made->memory = machine_alloc(0, bytes);
  made->tensor = (DLTensor){.data = (void *)(uintptr_t)made->memory,
                            .device = CUDA(0),
                            .ndim = batch > 0 ? 3 : 2,
                            .dtype = dtype,
                            .shape = batch > 0 ? made->shape : made->shape + 1,
                            .strides = batch > 0 ? made->strides : made->strides + 1};
  for (int64_t i = 0; i < made->elements; ++i) {
    seed = seed * 1664525 + 1013904223;
    number_write(made->tensor.data, cublas_type(dtype), i, (double)(seed >> 20) / 2048 - 1);
  }
  if (batch <= 0) made->strides[0] = 0;
  return made;
}

static void drop(operand *of) {
  machine_free(0, of->memory);
  free(of);
}

typedef struct shape_case {
  int64_t batch, m, n, k, gap;
  DLDataType in, out;
  bool ta, tb, flip_a, flip_b, broadcast_b;
  double alpha, beta;
} shape_case;

static void check(const shape_case *t) {
  operand *a =
      make(t->in, t->batch, t->ta ? t->k : t->m, t->ta ? t->m : t->k, t->gap, t->flip_a, 1);
  operand *b = make(t->in, t->broadcast_b ? 0 : t->batch, t->tb ? t->n : t->k, t->tb ? t->k : t->n,
                    t->gap, t->flip_b, 2);
  operand *c = make(t->out, t->batch, t->m, t->n, t->gap, false, 3);
  const size_t bytes = (size_t)(c->elements * t->out.bits / 8);
  void *before = malloc(bytes);
  memcpy(before, c->tensor.data, bytes);
  EXPECT_OK(pega_function_call(
                gemm,
                ARGS(pega_value_tensor(&a->tensor), pega_value_tensor(&b->tensor),
                     pega_value_tensor(&c->tensor), pega_value_bool(t->ta), pega_value_bool(t->tb),
                     pega_value_float(t->alpha), pega_value_float(t->beta)),
                NULL, &error),
            &error);
  const int type = cublas_type(t->out);
  char *expected = malloc(bytes);
  memcpy(expected, before, bytes); /* between the rows nothing is written */
  for (int64_t at = 0; at < (t->batch > 0 ? t->batch : 1); ++at) {
    for (int64_t i = 0; i < t->m; ++i) {
      for (int64_t j = 0; j < t->n; ++j) {
        double sum = 0;
        for (int64_t l = 0; l < t->k; ++l) {
          sum += (t->ta ? element(a, at, l, i) : element(a, at, i, l)) *
                 (t->tb ? element(b, at, j, l) : element(b, at, l, j));
        }
        const int64_t to = at * c->strides[0] + i * c->strides[1] + j;
        double result = (double)(float)t->alpha * sum;
        if (t->beta != 0) result += (double)(float)t->beta * number_read(before, type, to);
        number_write(expected, type, to, result);
      }
    }
  }
  if (memcmp(expected, c->tensor.data, bytes) != 0) {
    fail_msg("batch %d, %d x %d x %d, gap %d, transposes %d %d, flips %d %d: other numbers",
             (int)t->batch, (int)t->m, (int)t->n, (int)t->k, (int)t->gap, t->ta, t->tb, t->flip_a,
             t->flip_b);
  }
  free(before);
  free(expected);
  drop(a);
  drop(b);
  drop(c);
}

static void test_every_form(void **unused) {
  (void)unused;
  static const int64_t shapes[][3] = {{1, 1, 1}, {3, 5, 7}, {8, 16, 4}, {1, 9, 3},
                                      {9, 1, 3}, {4, 6, 0}, {5, 5, 5},  {2, 3, 17}};
  const DLDataType types[][2] = {{BFLOAT16, BFLOAT16},
                                 {BFLOAT16, FLOAT32},
                                 {FLOAT16, FLOAT16},
                                 {FLOAT16, FLOAT32},
                                 {FLOAT32, FLOAT32}};
  int done = 0;
  for (int s = 0; s < COUNT(shapes); ++s) {
    for (int d = 0; d < COUNT(types); ++d) {
      for (int bits = 0; bits < 128; ++bits) {
        const shape_case t = {.batch = (bits & 16) != 0 ? 3 : 0,
                              .m = shapes[s][0],
                              .n = shapes[s][1],
                              .k = shapes[s][2],
                              .gap = (bits & 32) != 0 ? 2 : 0,
                              .in = types[d][0],
                              .out = types[d][1],
                              .ta = (bits & 1) != 0,
                              .tb = (bits & 2) != 0,
                              .flip_a = (bits & 4) != 0,
                              .flip_b = (bits & 8) != 0,
                              .broadcast_b = (bits & 64) != 0,
                              .alpha = (bits & 3) == 3 ? -0.75 : 1,
                              .beta = (bits & 5) == 5 ? 0.5 : 0};
        check(&t);
        ++done;
      }
    }
  }
  assert_int_equal(done, 5120);
  assert_int_equal(state->math_mode, 16);
  cublas_expect_clean(state);
}

/* With the defaults nothing but three tensors is needed; NaN in c is not read. */
static void test_defaults(void **unused) {
  (void)unused;
  operand *a = make(FLOAT32, 0, 2, 3, 0, false, 4), *b = make(FLOAT32, 0, 3, 2, 0, false, 5);
  operand *c = make(FLOAT32, 0, 2, 2, 0, false, 6);
  for (int i = 0; i < 4; ++i) number_write(c->tensor.data, NUMBER_F32, i, (double)NAN);
  const pega_value args[9] = {pega_value_tensor(&a->tensor),
                              pega_value_tensor(&b->tensor),
                              pega_value_tensor(&c->tensor),
                              pega_value_none(),
                              pega_value_none(),
                              pega_value_none(),
                              pega_value_none(),
                              pega_value_bool(true)};
  EXPECT_OK(pega_function_call(gemm, args, 3, NULL, &error), &error);
  for (int i = 0; i < 4; ++i) assert_true(isnan(number_read(c->tensor.data, NUMBER_F32, i)) == 0);
  assert_int_equal(state->last.compute, 68); /* no TF32 */
  assert_true(state->last.workspace_bytes == 32 << 20);
  EXPECT_OK(pega_function_call(gemm, args, 8, NULL, &error), &error);
  assert_int_equal(state->last.compute, 77);
  /* The stream: the thread's, or the call's. */
  CUstream stream = machine_stream(0, 0);
  EXPECT_OK(pega_stream_set(CUDA(0), stream, NULL, &error), &error);
  EXPECT_OK(pega_function_call(gemm, args, 3, NULL, &error), &error);
  assert_ptr_equal(state->last.stream, stream);
  EXPECT_OK(pega_stream_set(CUDA(0), NULL, NULL, &error), &error);
  pega_value with_stream[9];
  memcpy(with_stream, args, sizeof args);
  with_stream[8] = pega_value_pointer(stream);
  EXPECT_OK(pega_function_call(gemm, with_stream, 9, NULL, &error), &error);
  assert_ptr_equal(state->last.stream, stream);
  EXPECT_OK(pega_cublas_release_stream(CUDA(0), stream, &error), &error);
  machine_destroy_stream(0, stream);
  drop(a);
  drop(b);
  drop(c);
}

/* K = 0: c = beta * c. M, N or the batch 0: nothing at all, with no memory behind the tensors. */
static void test_empty(void **unused) {
  (void)unused;
  operand *c = make(FLOAT32, 0, 2, 2, 0, false, 6);
  for (int i = 0; i < 4; ++i) number_write(c->tensor.data, NUMBER_F32, i, 8);
  DLTensor a = TENSOR(NULL, FLOAT32, 2, 0), b = TENSOR(NULL, FLOAT32, 0, 2);
  a.device = b.device = CUDA(0);
  EXPECT_OK(pega_function_call(gemm,
                               ARGS(pega_value_tensor(&a), pega_value_tensor(&b),
                                    pega_value_tensor(&c->tensor), pega_value_none(),
                                    pega_value_none(), pega_value_none(), pega_value_float(0.25)),
                               NULL, &error),
            &error);
  for (int i = 0; i < 4; ++i) assert_true(number_read(c->tensor.data, NUMBER_F32, i) == 2);
  EXPECT_OK(
      pega_function_call(
          gemm, ARGS(pega_value_tensor(&a), pega_value_tensor(&b), pega_value_tensor(&c->tensor)),
          NULL, &error),
      &error);
  for (int i = 0; i < 4; ++i) assert_true(number_read(c->tensor.data, NUMBER_F32, i) == 0);
  const int before = state->calls[FAKE_GEMM];
  DLTensor none = TENSOR(NULL, FLOAT32, 0, 2), none_a = TENSOR(NULL, FLOAT32, 0, 0);
  DLTensor batch = TENSOR(NULL, FLOAT32, 0, 2, 2);
  none.device = none_a.device = batch.device = CUDA(0);
  EXPECT_OK(
      pega_function_call(
          gemm, ARGS(pega_value_tensor(&none_a), pega_value_tensor(&b), pega_value_tensor(&none)),
          NULL, &error),
      &error);
  EXPECT_OK(pega_function_call(gemm,
                               ARGS(pega_value_tensor(&c->tensor), pega_value_tensor(&batch),
                                    pega_value_tensor(&batch)),
                               NULL, &error),
            &error);
  assert_int_equal(state->calls[FAKE_GEMM], before);
  drop(c);
}

/* Sizes past int32: the wide form, with numbers as they are. */
static void test_wide(void **unused) {
  (void)unused;
  const int64_t far = (int64_t)1 << 32;
  operand *c = make(FLOAT32, 0, 2, 2, 0, false, 6);
  operand *b = make(FLOAT32, 0, 3, 2, 0, false, 7);
  int64_t strides[2] = {far, 1};
  DLTensor a = TENSOR((void *)(uintptr_t)0x1000, FLOAT32, 2, 3);
  a.device = CUDA(0);
  a.strides = strides;
  EXPECT_OK(pega_function_call(gemm,
                               ARGS(pega_value_tensor(&a), pega_value_tensor(&b->tensor),
                                    pega_value_tensor(&c->tensor)),
                               NULL, &error),
            &error);
  assert_string_equal(state->last.name, "cublasGemmEx_64");
  assert_true(state->last.ldb == far);
  int64_t batch_strides[3] = {4 * far, far, 1};
  DLTensor batch = TENSOR((void *)(uintptr_t)0x1000, FLOAT32, 2, 2, 3);
  batch.device = CUDA(0);
  batch.strides = batch_strides;
  operand *out = make(FLOAT32, 2, 2, 2, 0, false, 6);
  EXPECT_OK(pega_function_call(gemm,
                               ARGS(pega_value_tensor(&batch), pega_value_tensor(&b->tensor),
                                    pega_value_tensor(&out->tensor)),
                               NULL, &error),
            &error);
  assert_string_equal(state->last.name, "cublasGemmStridedBatchedEx_64");
  assert_true(state->last.stride_b == 4 * far);
  assert_true(state->last.stride_a == 0); /* one matrix for the whole batch */
  drop(out);
  drop(b);
  drop(c);
}

#define TRY(a_, b_, c_)                                                                         \
  pega_function_call(gemm,                                                                      \
                     ARGS(pega_value_tensor(a_), pega_value_tensor(b_), pega_value_tensor(c_)), \
                     NULL, &error)

static void test_refused(void **unused) {
  (void)unused;
  operand *x = make(FLOAT32, 0, 4, 8, 0, false, 1), *y = make(FLOAT32, 0, 8, 4, 0, false, 1);
  operand *z = make(FLOAT32, 0, 4, 4, 0, false, 1), *h = make(FLOAT16, 0, 8, 4, 0, false, 1);
  operand *o = make(BFLOAT16, 0, 4, 4, 0, false, 1);
  const int before = state->calls[FAKE_GEMM];
  DLTensor *a = &x->tensor, *b = &y->tensor, *c = &z->tensor, bad;
  /* What is computed is always told. */
  EXPECT_ERROR(
      TRY(a, &h->tensor, c), &error, PEGA_ERROR_DTYPE, "different element types",
      "computing c float32[4, 4] = 1 * a float32[4, 8] @ b float16[8, 4] + 0 * c on cuda:0");
  EXPECT_ERROR(TRY(a, b, &o->tensor), &error, PEGA_ERROR_DTYPE, "expected 'c' of the type");
  bad = *a;
  bad.dtype = INT64;
  EXPECT_ERROR(TRY(&bad, b, c), &error, PEGA_ERROR_DTYPE, "argument 0 'a' is int64");
  EXPECT_ERROR(TRY(b, a, c), &error, PEGA_ERROR_SHAPE, "'c' has matrices of 4 x 4", "8 x 8");
  EXPECT_ERROR(TRY(a, a, c), &error, PEGA_ERROR_SHAPE, "K is 8 in op(a) and 4 in op(b)");
  bad = *a;
  bad.ndim = 1;
  EXPECT_ERROR(TRY(&bad, b, c), &error, PEGA_ERROR_SHAPE, "'a' has rank 1: expected at least 2");
  bad = *c;
  int64_t three[3] = {3, 4, 4}, two[3] = {2, 4, 8};
  bad.ndim = 3;
  bad.shape = three;
  bad.strides = NULL;
  DLTensor batch = *a;
  batch.ndim = 3;
  batch.shape = two;
  batch.strides = NULL;
  EXPECT_ERROR(TRY(&batch, b, &bad), &error, PEGA_ERROR_SHAPE, "'a' has other leading sizes");
  /* Layouts. */
  bad = *a;
  int64_t gaps[2] = {16, 2}, narrow[2] = {4, 1}, backwards[2] = {-8, 1};
  bad.strides = gaps;
  EXPECT_ERROR(TRY(&bad, b, c), &error, PEGA_ERROR_LAYOUT, "'a' has strides 16, 2",
               "or those of a column");
  bad.strides = narrow;
  EXPECT_ERROR(TRY(&bad, b, c), &error, PEGA_ERROR_LAYOUT, "rows of 8 elements at a distance of 4");
  bad.strides = backwards;
  EXPECT_ERROR(TRY(&bad, b, c), &error, PEGA_ERROR_LAYOUT, "at a distance of -8");
  bad = *c;
  int64_t columns[2] = {1, 4};
  bad.strides = columns;
  EXPECT_ERROR(TRY(a, b, &bad), &error, PEGA_ERROR_LAYOUT, "'c' has strides 1, 4");
  int64_t same[3] = {0, 4, 1}, into[3] = {2, 4, 1}, uneven[4] = {100, 16, 4, 1};
  bad = *c;
  bad.ndim = 3;
  bad.shape = three;
  bad.strides = same;
  EXPECT_ERROR(TRY(a, b, &bad), &error, PEGA_ERROR_LAYOUT, "overlap");
  bad.strides = into;
  EXPECT_ERROR(TRY(a, b, &bad), &error, PEGA_ERROR_LAYOUT, "matrices of 'c' overlap");
  int64_t four[4] = {2, 3, 4, 4};
  bad.ndim = 4;
  bad.shape = four;
  bad.strides = uneven;
  EXPECT_ERROR(TRY(a, b, &bad), &error, PEGA_ERROR_LAYOUT, "does not lie at one distance");
  /* Memory. */
  bad = *c;
  bad.data = (char *)a->data + 16;
  EXPECT_ERROR(TRY(a, b, &bad), &error, PEGA_ERROR_LAYOUT, "'c' overlaps 'a'", "separate memory");
  bad.data = (char *)c->data + 2;
  EXPECT_ERROR(TRY(a, b, &bad), &error, PEGA_ERROR_LAYOUT, "argument 2 'c'", "align");
  /* Devices. */
  bad = *a;
  bad.device = CPU;
  EXPECT_ERROR(TRY(&bad, b, c), &error, PEGA_ERROR_DEVICE, "'a'", "cuda:0");
  DLTensor on_cpu[3] = {*a, *b, *c};
  for (int i = 0; i < 3; ++i) on_cpu[i].device = CPU;
  EXPECT_ERROR(TRY(&on_cpu[0], &on_cpu[1], &on_cpu[2]), &error, PEGA_ERROR_DEVICE,
               "'a' is on cpu:0: expected a cuda device");
  for (int i = 0; i < 3; ++i) on_cpu[i].device = CUDA(7);
  EXPECT_ERROR(TRY(&on_cpu[0], &on_cpu[1], &on_cpu[2]), &error, PEGA_ERROR_DEVICE,
               "there is no cuda:7: expected 0 to 1");
  assert_int_equal(state->calls[FAKE_GEMM], before);
  pega_error_clear(&error);
  drop(x);
  drop(y);
  drop(z);
  drop(h);
  drop(o);
}

/* Columns of one larger matrix: inputs and output side by side. */
static void test_side_by_side(void **unused) {
  (void)unused;
  operand *all = make(FLOAT32, 0, 4, 12, 0, false, 1);
  DLTensor a = all->tensor, b = all->tensor, c = all->tensor;
  int64_t square[2] = {4, 4}, strides[2] = {12, 1};
  a.shape = b.shape = c.shape = square;
  a.strides = b.strides = c.strides = strides;
  b.byte_offset = 16;
  c.byte_offset = 32;
  EXPECT_OK(TRY(&a, &b, &c), &error);
  c.byte_offset = 28;
  EXPECT_ERROR(TRY(&a, &b, &c), &error, PEGA_ERROR_LAYOUT, "'c' overlaps 'b'");
  pega_error_clear(&error);
  drop(all);
}

/* What cuBLAS answers is told by its name. */
static void test_statuses(void **unused) {
  (void)unused;
  static const struct {
    int number;
    const char *name;
    pega_status status;
  } statuses[] = {{1, "CUBLAS_STATUS_NOT_INITIALIZED (1)", PEGA_ERROR_DRIVER},
                  {3, "CUBLAS_STATUS_ALLOC_FAILED (3)", PEGA_ERROR_OUT_OF_MEMORY},
                  {7, "CUBLAS_STATUS_INVALID_VALUE (7)", PEGA_ERROR_DRIVER},
                  {8, "CUBLAS_STATUS_ARCH_MISMATCH (8)", PEGA_ERROR_DRIVER},
                  {11, "CUBLAS_STATUS_MAPPING_ERROR (11)", PEGA_ERROR_DRIVER},
                  {13, "CUBLAS_STATUS_EXECUTION_FAILED (13)", PEGA_ERROR_DRIVER},
                  {14, "CUBLAS_STATUS_INTERNAL_ERROR (14)", PEGA_ERROR_DRIVER},
                  {15, "CUBLAS_STATUS_NOT_SUPPORTED (15)", PEGA_ERROR_UNSUPPORTED},
                  {16, "CUBLAS_STATUS_LICENSE_ERROR (16)", PEGA_ERROR_DRIVER},
                  {99, "an unknown status (99)", PEGA_ERROR_DRIVER}};
  operand *x = make(FLOAT32, 0, 4, 4, 0, false, 1), *y = make(FLOAT32, 0, 4, 4, 0, false, 1);
  operand *z = make(FLOAT32, 0, 4, 4, 0, false, 1);
  for (int i = 0; i < COUNT(statuses); ++i) {
    state->fail[FAKE_GEMM] = statuses[i].number;
    EXPECT_ERROR(TRY(&x->tensor, &y->tensor, &z->tensor), &error, statuses[i].status,
                 "pegainfer.cublas.gemm: cublasGemmEx failed: ", statuses[i].name,
                 "a float32[4, 4] @ b float32[4, 4]");
    assert_int_equal(error.code, statuses[i].number);
  }
  state->fail[FAKE_GEMM] = 0;
  EXPECT_OK(TRY(&x->tensor, &y->tensor, &z->tensor), &error);
  drop(x);
  drop(y);
  drop(z);
}

int main(void) {
  state = cublas_start("devices=2,quiet=0", FAKE_12, 0);
  gemm = cublas_function();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_form), cmocka_unit_test(test_defaults),
      cmocka_unit_test(test_empty),      cmocka_unit_test(test_wide),
      cmocka_unit_test(test_refused),    cmocka_unit_test(test_side_by_side),
      cmocka_unit_test(test_statuses),
  };
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  pega_function_release(gemm);
  return pega_cublas_close(NULL) != PEGA_OK || failed != 0;
}
