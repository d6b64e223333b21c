/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file fake_cublas.h
 * \brief A cuBLAS for machines with no GPU: computes on the fake driver's memory, which is the
 *        host's, and watches how it is used.
 *
 * It is opened at run time as the real one is; `fake_cublas_get` is looked up in it.
 */
#ifndef PEGA_TESTS_CUBLAS_FAKE_CUBLAS_H_
#define PEGA_TESTS_CUBLAS_FAKE_CUBLAS_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Functions that can be made to fail, and are counted. */
typedef enum fake_function {
  FAKE_CREATE,
  FAKE_DESTROY,
  FAKE_SET_STREAM,
  FAKE_SET_WORKSPACE,
  FAKE_SET_MATH_MODE,
  FAKE_GEMM,
  FAKE_NUM_FUNCTIONS
} fake_function;

/** The last product, as it was asked for: everything column-major. */
typedef struct fake_gemm {
  const char *name; /**< of the function */
  int op_a, op_b;
  int64_t m, n, k, lda, ldb, ldc, count;
  long long stride_a, stride_b, stride_c;
  int a_type, b_type, c_type, compute, algo;
  const void *stream;
  size_t workspace_bytes;
  bool captured; /**< its stream captures: nothing was computed */
} fake_gemm;

typedef struct fake_cublas {
  _Atomic int calls[FAKE_NUM_FUNCTIONS];
  _Atomic int fail[FAKE_NUM_FUNCTIONS]; /**< the status that calls return; 0 for none */
  _Atomic int handles;                  /**< alive */
  _Atomic int math_mode;                /**< set last */
  bool quiet; /**< does not ask the driver whether a stream captures, which locks there */
  /** Misuse. */
  _Atomic int shared_handles;    /**< a handle in two threads at once */
  _Atomic int shared_workspaces; /**< one workspace on two streams, or in two handles */
  _Atomic int wrong_contexts;    /**< a handle used in another context than it was made in */
  _Atomic int no_workspaces;     /**< a product with cuBLAS's own workspace */
  fake_gemm last;                /**< valid while one thread computes */
} fake_cublas;

typedef fake_cublas *(*fake_cublas_getter)(void);

#endif /* PEGA_TESTS_CUBLAS_FAKE_CUBLAS_H_ */
