/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file artifact_rows.h
 * \brief Artifacts that test_gpu_artifacts calls: one row each. To add one, add a row to the table in
 *        artifact_rows.c, with a function that makes its arguments and one that tells how wrong it is.
 */
#ifndef PEGA_TESTS_GPU_ARTIFACT_ROWS_H_
#define PEGA_TESTS_GPU_ARTIFACT_ROWS_H_

#include <pega/pega.h>
#include <stddef.h>
#include <stdint.h>

#include "cuda.h"

enum { ARTIFACT_MAX_ARGS = 24, ARTIFACT_MAX_TENSORS = 16 };

/** A contiguous tensor on the GPU, and its numbers here. */
typedef struct artifact_tensor {
  DLTensor tensor;
  int64_t shape[4];
  int64_t strides[4];
  size_t bytes;
  void *host; /* uploaded before the call, downloaded after it */
} artifact_tensor;

/** One call of an artifact's function. */
typedef struct artifact_call {
  pega_value args[ARTIFACT_MAX_ARGS];
  int32_t num_args;
  artifact_tensor tensors[ARTIFACT_MAX_TENSORS];
  int num_tensors;
  CUstream stream; /* also the thread's current one; for functions that take it as an argument */
  uint64_t seed;
} artifact_call;

typedef struct artifact_row {
  const char *dsl;      /**< as the matrix names it */
  const char *artifact; /**< file in the folder of artifacts */
  const char *search;   /**< folder there that has what it needs, or NULL */
  const char *runtime;  /**< the libtvm_ffi.so there that it has to be opened with; NULL: any */
  const char *function; /**< which of its functions */
  void (*make)(artifact_call *call);
  /** The largest error after the call, on the scale of `tolerance`; tensors' `host` is what came back. */
  double (*error)(const artifact_call *call);
  double tolerance;
} artifact_row;

extern const artifact_row artifact_rows[];
extern const size_t num_artifact_rows;

/**
 * Adds a tensor of up to four sizes (-1 ends them) with random numbers between -1 and 1, or zeros, on the
 * GPU. bfloat16, float16, float32, int32 (zeros). Returns its number in `tensors`.
 */
int artifact_add_tensor(artifact_call *call, DLDataType dtype, bool random, const int64_t *sizes,
                        int num_sizes);
/** Adds a tensor as an argument. */
void artifact_pass_tensor(artifact_call *call, int tensor);
/** Adds any other value as an argument. */
void artifact_pass(artifact_call *call, pega_value value);

/** Element `i` of a tensor's host memory. */
double artifact_at(const artifact_tensor *tensor, int64_t i);

#endif /* PEGA_TESTS_GPU_ARTIFACT_ROWS_H_ */
