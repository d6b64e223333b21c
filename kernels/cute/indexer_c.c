/* SPDX-License-Identifier: Apache-2.0 */
/*
 * C functions of the indexer's kernels in their plain C export. q is [rows, 8, 128] and kv [compressed_len,
 * 128], bfloat16; dots is [rows, 8, compressed_len], weights [rows, 8] and scores [rows, compressed_len],
 * float; all of them row-major. The work is put on `stream` of the current device.
 *
 * Returns a CUresult: CUDA_ERROR_INVALID_VALUE for a size below 0 or too large, a null pointer where there
 * is something to read or write, and an address of q, kv or dots that is no multiple of 16 bytes (of
 * weights and scores: of 4). Nothing is launched then, nor where there is nothing to do.
 */
#include "indexer_c_entries.h" /* written by the build: what CuTe DSL named the entries */
#include "pega/cute_module.h"

#include <stdint.h>

/* Of the driver, declared here so that no headers of CUDA are needed. */
typedef struct CUstream_st *CUstream;
typedef int CUresult;

__attribute__((visibility("default"))) CUresult deepseek_cutedsl_indexer_dots_bf16_cuda(
    const void *q, const void *kv, float *dots, int32_t rows, int32_t compressed_len,
    CUstream stream);
__attribute__((visibility("default"))) CUresult deepseek_cutedsl_indexer_scores_bf16_cuda(
    const void *q, const void *kv, const float *weights, float *scores, int32_t rows,
    int32_t compressed_len, CUstream stream);

enum { HEADS = 8, INVALID_VALUE = 1 };

PEGA_CUTE_LIBRARY(pega_indexer_dots)
PEGA_CUTE_LIBRARY(pega_indexer_scores)

/* Tensors as the entries take them: sizes and strides that are not fixed. */
typedef struct rows_tensor {
  const void *data;
  int32_t rows;
} rows_tensor;

typedef struct dots_tensor {
  void *data;
  int32_t sizes[2];
  int64_t strides[2];
} dots_tensor;

typedef struct scores_tensor {
  void *data;
  int32_t sizes[2];
  int64_t strides[1];
} scores_tensor;

static int is_at(const void *address, uintptr_t alignment) {
  return address != NULL && ((uintptr_t)address & (alignment - 1)) == 0;
}

CUresult deepseek_cutedsl_indexer_dots_bf16_cuda(const void *q, const void *kv, float *dots,
                                                 int32_t rows, int32_t compressed_len,
                                                 CUstream stream) {
  if (rows < 0 || compressed_len < 0 || rows > INT32_MAX / HEADS - 16 ||
      compressed_len > INT32_MAX - 128) {
    return INVALID_VALUE;
  }
  if (rows == 0 || compressed_len == 0) {
    return 0;
  }
  if (!is_at(q, 16) || !is_at(kv, 16) || !is_at(dots, 16)) {
    return INVALID_VALUE;
  }
  int error = pega_cute_prepare(&pega_indexer_dots_library);
  if (error == 0) {
    rows_tensor q_tensor = {q, rows};
    rows_tensor kv_tensor = {kv, compressed_len};
    dots_tensor out = {
        dots, {rows, compressed_len}, {(int64_t)HEADS * compressed_len, compressed_len}};
    void *args[] = {&q_tensor, &kv_tensor, &out, &stream, &error};
    PEGA_INDEXER_DOTS_ENTRY(args, 5);
  }
  return pega_cute_result(error);
}

CUresult deepseek_cutedsl_indexer_scores_bf16_cuda(const void *q, const void *kv,
                                                   const float *weights, float *scores,
                                                   int32_t rows, int32_t compressed_len,
                                                   CUstream stream) {
  if (rows < 0 || compressed_len < 0 || rows > INT32_MAX / HEADS - 16 ||
      compressed_len > INT32_MAX - 128) {
    return INVALID_VALUE;
  }
  if (rows == 0 || compressed_len == 0) {
    return 0;
  }
  if (!is_at(q, 16) || !is_at(kv, 16) || !is_at(weights, 4) || !is_at(scores, 4)) {
    return INVALID_VALUE;
  }
  int error = pega_cute_prepare(&pega_indexer_scores_library);
  if (error == 0) {
    rows_tensor q_tensor = {q, rows};
    rows_tensor kv_tensor = {kv, compressed_len};
    rows_tensor weights_tensor = {weights, rows};
    scores_tensor out = {scores, {rows, compressed_len}, {compressed_len}};
    void *args[] = {&q_tensor, &kv_tensor, &weights_tensor, &out, &stream, &error};
    PEGA_INDEXER_SCORES_ENTRY(args, 6);
  }
  return pega_cute_result(error);
}
