/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's own cuBLAS through pegainfer.cublas.gemm: numbers against fp64, captured and
 * replayed, on two streams and from two threads; what a call costs the host beside cublasGemmEx
 * itself.
 */
#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <pega/cublas.h>

#include "../cublas/numbers.h"
#include "fixture.h"

#define FLOAT16 DTYPE(kDLFloat, 16, 1)

static pega_function *gemm;
static pega_error error = PEGA_ERROR_INIT;

typedef struct operand {
  char *host;
  CUdeviceptr memory;
  size_t bytes;
  int type;
  int64_t shape[3], strides[3];
  DLTensor tensor;
} operand;

static int type_of(DLDataType dtype) {
  return dtype.bits == 32 ? NUMBER_F32 : dtype.code == kDLBfloat ? NUMBER_BF16 : NUMBER_F16;
}

/* [batch, rows, columns] with `gap` elements behind each row; of rank 2 where batch is 0. */
static operand make(DLDataType dtype, int64_t batch, int64_t rows, int64_t columns, int64_t gap,
                    unsigned seed) {
  operand made;
  memset(&made, 0, sizeof made);
  const int64_t row = columns + gap, one = row * rows, all = one * (batch > 0 ? batch : 1) + 8;
  made.type = type_of(dtype);
  made.bytes = (size_t)(all * number_bytes(made.type));
  made.host = malloc(made.bytes);
  made.shape[0] = batch;
  made.shape[1] = rows;
  made.shape[2] = columns;
  made.strides[0] = batch > 0 ? one : 0;
  made.strides[1] = row;
  made.strides[2] = 1;
  for (int64_t i = 0; i < all; ++i) {
    seed = seed * 1664525 + 1013904223;
    number_write(made.host, made.type, i, (double)(seed >> 16) / 32768 - 1);
  }
  GPU_OK(gpu.alloc(&made.memory, made.bytes));
  GPU_OK(gpu.copy_in(made.memory, made.host, made.bytes));
  made.tensor = (DLTensor){.data = (void *)(uintptr_t)made.memory,
                           .device = CUDA0,
                           .ndim = batch > 0 ? 3 : 2,
                           .dtype = dtype};
  return made;
}

/* The arrays of a struct that was returned by value are where it is now. */
static DLTensor *tensor_of(operand *of) {
  const int skip = of->tensor.ndim == 3 ? 0 : 1;
  of->tensor.shape = of->shape + skip;
  of->tensor.strides = of->strides + skip;
  return &of->tensor;
}

static void drop(operand *of) {
  GPU_OK(gpu.release(of->memory));
  free(of->host);
}

static double element(const operand *of, int64_t at, int64_t i, int64_t j) {
  return number_read(of->host, of->type,
                     at * of->strides[0] + i * of->strides[1] + j * of->strides[2]);
}

typedef struct form {
  DLDataType in, out;
  int64_t batch, m, n, k, gap;
  bool ta, tb, broadcast, tf32;
  double alpha, beta;
} form;

typedef struct product {
  form is;
  operand a, b, c;
} product;

static product make_product(const form *is) {
  product p;
  memset(&p, 0, sizeof p);
  p.is = *is;
  p.a = make(is->in, is->batch, is->ta ? is->k : is->m, is->ta ? is->m : is->k, is->gap, 1);
  p.b = make(is->in, is->broadcast ? 0 : is->batch, is->tb ? is->n : is->k, is->tb ? is->k : is->n,
             is->gap, 2);
  p.c = make(is->out, is->batch, is->m, is->n, is->gap, 3);
  return p;
}

static void drop_product(product *p) {
  drop(&p->a);
  drop(&p->b);
  drop(&p->c);
}

static pega_status call(product *p, CUstream stream, pega_error *failure) {
  const pega_value args[9] = {
      pega_value_tensor(tensor_of(&p->a)), pega_value_tensor(tensor_of(&p->b)),
      pega_value_tensor(tensor_of(&p->c)), pega_value_bool(p->is.ta),
      pega_value_bool(p->is.tb),           pega_value_float(p->is.alpha),
      pega_value_float(p->is.beta),        pega_value_bool(p->is.tf32),
      pega_value_pointer(stream)};
  return pega_function_call(gemm, args, 9, NULL, failure);
}

/* The greatest |got - expected| in units of the bound: K roundings of float32 of the sum of the terms'
 * sizes, and the rounding of the output. The gaps must be as they were. */
static double compare(product *p) {
  const form *is = &p->is;
  char *got = malloc(p->c.bytes);
  GPU_OK(gpu.synchronize());
  GPU_OK(gpu.copy_out(got, p->c.memory, p->c.bytes));
  const double unit = is->tf32 ? ldexp(1, -10) : ldexp(1, -24);
  const double output = p->c.type == NUMBER_BF16  ? ldexp(1, -8)
                        : p->c.type == NUMBER_F16 ? ldexp(1, -11)
                                                  : ldexp(1, -24);
  double worst = 0;
  for (int64_t at = 0; at < (is->batch > 0 ? is->batch : 1); ++at) {
    for (int64_t i = 0; i < is->m; ++i) {
      for (int64_t j = 0; j < is->n; ++j) {
        double sum = 0, size = 0;
        for (int64_t l = 0; l < is->k; ++l) {
          const double term = (is->ta ? element(&p->a, at, l, i) : element(&p->a, at, i, l)) *
                              (is->tb ? element(&p->b, at, j, l) : element(&p->b, at, l, j));
          sum += term;
          size += fabs(term);
        }
        const int64_t to = at * p->c.strides[0] + i * p->c.strides[1] + j;
        const double before = is->beta == 0 ? 0 : is->beta * number_read(p->c.host, p->c.type, to);
        const double expected = is->alpha * sum + before;
        const double bound = (double)(is->k + 4) * unit * (fabs(is->alpha) * size + fabs(before)) +
                             output * fabs(expected) +
                             (p->c.type == NUMBER_F16 ? ldexp(1, -25) : 1e-30);
        const double off = fabs(number_read(got, p->c.type, to) - expected) / bound;
        if (!(off <= worst)) worst = off;
      }
      const int64_t end = at * p->c.strides[0] + i * p->c.strides[1] + is->n;
      const size_t bytes = (size_t)number_bytes(p->c.type);
      assert_memory_equal(got + (size_t)end * bytes, p->c.host + (size_t)end * bytes,
                          (size_t)is->gap * bytes);
    }
  }
  free(got);
  return worst;
}

static void test_numbers(void **state) {
  (void)state;
  const DLDataType types[][2] = {{BFLOAT16, BFLOAT16}, {BFLOAT16, FLOAT32}, {FLOAT16, FLOAT16},
                                 {FLOAT16, FLOAT32},   {FLOAT32, FLOAT32},  {FLOAT32, FLOAT32}};
  static const int64_t shapes[][4] = {
      {0, 1, 1, 1},   {0, 128, 64, 256}, {0, 33, 65, 17}, {0, 1, 129, 511}, {0, 127, 1, 63},
      {3, 17, 31, 8}, {2, 64, 128, 96},  {4, 5, 7, 0},    {0, 6, 9, 0},     {0, 16, 24, 2048}};
  double worst[COUNT(types)] = {0};
  int done = 0;
  for (int d = 0; d < COUNT(types); ++d) {
    for (int s = 0; s < COUNT(shapes); ++s) {
      for (int bits = 0; bits < 16; ++bits) {
        const form is = {.in = types[d][0],
                         .out = types[d][1],
                         .batch = shapes[s][0],
                         .m = shapes[s][1],
                         .n = shapes[s][2],
                         .k = shapes[s][3],
                         .gap = (bits & 4) != 0 ? 3 : 0,
                         .ta = (bits & 1) != 0,
                         .tb = (bits & 2) != 0,
                         .broadcast = (bits & 8) != 0,
                         .tf32 = d == 5,
                         .alpha = (bits & 5) == 5 ? -0.5 : 1,
                         .beta = (bits & 6) == 6 ? 2 : 0};
        product p = make_product(&is);
        EXPECT_OK(call(&p, NULL, &error), &error);
        const double off = compare(&p);
        if (!(off <= 1)) {
          fail_msg("types %d, batch %d, %d x %d x %d, form %d: %g times the bound", d,
                   (int)is.batch, (int)is.m, (int)is.n, (int)is.k, bits, off);
        }
        if (off > worst[d]) worst[d] = off;
        drop_product(&p);
        ++done;
      }
    }
  }
  printf(
      "%d products; worst, of the bound: bf16 %.3f, bf16 -> fp32 %.3f, fp16 %.3f, fp16 -> fp32 "
      "%.3f, fp32 %.3f, tf32 %.3f\n",
      done, worst[0], worst[1], worst[2], worst[3], worst[4], worst[5]);
}

static const form medium = {
    .in = {kDLBfloat, 16, 1}, .out = {kDLBfloat, 16, 1}, .m = 256, .n = 192, .k = 1024, .alpha = 1};

static void test_graph(void **state) {
  (void)state;
  product p = make_product(&medium);
  CUstream stream;
  CUgraph graph;
  CUgraphExec exec;
  GPU_OK(gpu.stream_create(&stream, GPU_STREAM_NON_BLOCKING));
  GPU_OK(gpu.capture_begin(stream, GPU_CAPTURE_GLOBAL));
  EXPECT_ERROR(call(&p, stream, &error), &error, PEGA_ERROR_UNAVAILABLE, "pega_cublas_prepare()");
  GPU_OK(gpu.capture_end(stream, &graph));
  GPU_OK(gpu.graph_destroy(graph));
  EXPECT_OK(pega_cublas_prepare(CUDA0, stream, &error), &error);
  GPU_OK(gpu.capture_begin(stream, GPU_CAPTURE_GLOBAL));
  EXPECT_OK(call(&p, stream, &error), &error);
  GPU_OK(gpu.capture_end(stream, &graph));
  GPU_OK(gpu.graph_instantiate(&exec, graph, 0));
  GPU_OK(gpu.set_bytes(p.c.memory, 0, p.c.bytes));
  memset(p.c.host, 0, p.c.bytes);
  for (int i = 0; i < 3; ++i) GPU_OK(gpu.graph_launch(exec, stream));
  GPU_OK(gpu.stream_synchronize(stream));
  if (!gpu.fake) assert_true(compare(&p) <= 1); /* which replays kernels alone */
  GPU_OK(gpu.exec_destroy(exec));
  GPU_OK(gpu.graph_destroy(graph));
  EXPECT_OK(pega_cublas_release_stream(CUDA0, stream, &error), &error);
  GPU_OK(gpu.stream_destroy(stream));
  drop_product(&p);
}

typedef struct job {
  product products[2];
  CUstream streams[2];
  CUcontext context;
  pega_error error;
} job;

static void *work(void *self) {
  job *me = self;
  (void)gpu.context_set(me->context);
  for (int i = 0; i < (gpu.fake ? 4 : 200) && me->error.status == PEGA_OK; ++i) {
    call(&me->products[i % 2], me->streams[i % 2], &me->error);
  }
  return NULL;
}

static void test_threads_and_streams(void **state) {
  (void)state;
  job jobs[2];
  pthread_t threads[2];
  CUcontext context;
  memset(jobs, 0, sizeof jobs);
  GPU_OK(gpu.context_get(&context));
  for (int i = 0; i < 2; ++i) {
    form is = medium;
    is.k = 4096; /* few blocks and a long K: the workspace is used */
    jobs[i].context = context;
    for (int j = 0; j < 2; ++j) {
      is.n = 64 + 32 * i + 16 * j;
      is.m = 64;
      jobs[i].products[j] = make_product(&is);
      GPU_OK(gpu.stream_create(&jobs[i].streams[j], GPU_STREAM_NON_BLOCKING));
    }
  }
  for (int i = 0; i < 2; ++i) {
    assert_int_equal(pthread_create(&threads[i], NULL, work, &jobs[i]), 0);
  }
  for (int i = 0; i < 2; ++i) pthread_join(threads[i], NULL);
  pega_cublas_info info = {.struct_size = sizeof info};
  EXPECT_OK(pega_cublas_describe(&info, &error), &error);
  printf("cuBLAS %d of %s: %d handles, %d workspaces, %d MiB\n", info.version, info.path,
         (int)info.handles, (int)info.workspaces, (int)(info.workspace_bytes >> 20));
  assert_true(info.handles >= 2 && info.workspaces >= 4);
  for (int i = 0; i < 2; ++i) {
    EXPECT_OK((pega_status)jobs[i].error.status, &jobs[i].error);
    for (int j = 0; j < 2; ++j) {
      GPU_OK(gpu.stream_synchronize(jobs[i].streams[j]));
      assert_true(compare(&jobs[i].products[j]) <= 1);
      drop_product(&jobs[i].products[j]);
    }
  }
  EXPECT_OK(pega_cublas_close(&error), &error);
  for (int i = 0; i < 4; ++i) GPU_OK(gpu.stream_destroy(jobs[i / 2].streams[i % 2]));
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

enum { BATCHES = 30, CALLS = 100 };

static int by_size(const void *left, const void *right) {
  const double a = *(const double *)left, b = *(const double *)right;
  return a < b ? -1 : a > b;
}

typedef int (*gemm_ex)(void *, int, int, int, int, int, const void *, const void *, int, int,
                       const void *, int, int, const void *, void *, int, int, int, int);

/* What the host pays for a small product: through the library, and of cuBLAS itself. Printed, not judged. */
static void test_host_time(void **state) {
  (void)state;
  if (fixture_rehearsal("what a call costs")) return;
  form is = medium;
  is.m = is.n = is.k = 64;
  product p = make_product(&is);
  pega_cublas_info info = {.struct_size = sizeof info};
  EXPECT_OK(pega_cublas_describe(&info, &error), &error);
  void *library = dlopen(info.path, RTLD_NOW | RTLD_NOLOAD);
  assert_non_null(library);
  int (*create)(void **) = NULL;
  int (*destroy)(void *) = NULL;
  gemm_ex direct = NULL;
  void *handle = NULL,
       *symbols[3] = {dlsym(library, "cublasCreate_v2"), dlsym(library, "cublasDestroy_v2"),
                      dlsym(library, "cublasGemmEx")};
  memcpy(&create, &symbols[0], sizeof create);
  memcpy(&destroy, &symbols[1], sizeof destroy);
  memcpy(&direct, &symbols[2], sizeof direct);
  assert_int_equal(create(&handle), 0);
  const float alpha = 1, beta = 0;
  double times[2][BATCHES] = {{0}};
  for (int batch = -3; batch < BATCHES; ++batch) {
    for (int which = 0; which < 2; ++which) {
      const double begin = now();
      for (int i = 0; i < CALLS; ++i) {
        if (which == 0) {
          call(&p, NULL, NULL);
        } else {
          direct(handle, 0, 0, 64, 64, 64, &alpha, (void *)(uintptr_t)p.b.memory, 14, 64,
                 (void *)(uintptr_t)p.a.memory, 14, 64, &beta, (void *)(uintptr_t)p.c.memory, 14,
                 64, 68, -1);
        }
      }
      if (batch >= 0) times[which][batch] = (now() - begin) / CALLS;
      GPU_OK(gpu.synchronize());
    }
  }
  for (int which = 0; which < 2; ++which) {
    qsort(times[which], BATCHES, sizeof(double), by_size);
    printf(
        "host ns per call, bf16 64 x 64 x 64, median of %d batches of %d: %s %.0f (least %.0f)\n",
        BATCHES, CALLS, which == 0 ? "pegainfer.cublas.gemm" : "cublasGemmEx",
        times[which][BATCHES / 2], times[which][0]);
  }
  printf(
      "ROW {\"dsl\": \"cuBLAS\", \"artifact\": \"cublas\", \"function\": \"pegainfer.cublas.gemm\", "
      "\"ran\": true, \"host_ns\": %.0f, \"direct_ns\": %.0f}\n",
      times[0][BATCHES / 2], times[1][BATCHES / 2]);
  assert_int_equal(destroy(handle), 0);
  drop_product(&p);
}

int main(void) {
  const int begun = fixture_begin();
  if (begun != 0) return begun;
  if (pega_cublas_open(NULL, &error) != PEGA_OK) {
    printf("SKIP: %s\n", pega_error_message(&error));
    pega_error_clear(&error);
    return SUPPORT_SKIP;
  }
  if (pega_cublas_gemm(&gemm, &error) != PEGA_OK) return 1;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_numbers),
      cmocka_unit_test(test_graph),
      cmocka_unit_test(test_threads_and_streams),
      cmocka_unit_test(test_host_time),
  };
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  pega_function_release(gemm);
  return pega_cublas_close(NULL) != PEGA_OK || failed != 0;
}
