/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file pega/cublas.h
 * \brief libpega_cublas: NVIDIA's cuBLAS as a function on tensors, `pegainfer.cublas.gemm`.
 *
 * cuBLAS is opened at run time: nothing links it, nothing needs it to build. An engine that does
 * not link libpega_cublas knows nothing of it.
 *
 * ## The function
 *
 *     pegainfer.cublas.gemm(a, b, c, transpose_a, transpose_b, alpha, beta, tf32, stream)
 *
 * c[..., M, N] = alpha * op(a)[..., M, K] @ op(b)[..., K, N] + beta * c, all row-major, on one CUDA
 * device.
 * - `a` and `b` are of one element type: bfloat16, float16 or float32; `c` is of the same, or
 *   float32. Sums are made in float32. `tf32` (false) lets float32 inputs be rounded to TF32;
 *   NVIDIA_TF32_OVERRIDE of the environment is cuBLAS's own and is obeyed by it.
 * - `transpose_a`, `transpose_b` (false): `a` is [..., K, M], `b` is [..., N, K].
 * - `alpha` (1), `beta` (0) are rounded to float32. With beta 0 what is in `c` is not read, with
 *   alpha 0 nor are `a` and `b`.
 * - Leading dimensions are a batch: those of `c`. `a` and `b` have the same ones, or only ones, or
 *   none: such a matrix is used for the whole batch.
 * - Rows may lie apart, batches may lie anywhere at one distance; elements of a row lie side by
 *   side (in `a` and `b`: or those of a column). What cuBLAS cannot take is PEGA_ERROR_LAYOUT:
 *   nothing is copied.
 * - `c` overlaps neither input nor itself. Columns side by side in rows of one length do not
 *   overlap.
 * - Where M, N or the batch is 0 nothing is done. Where K is 0, c = beta * c.
 * - Sizes and distances of rows past 2^31 - 1 need a cuBLAS of 12 or later.
 * - `stream`: a CUstream; None is the thread's current one of the device (pega_stream_get()).
 *
 * ## Handles
 * cuBLAS's handles may be used by one thread at a time, and the workspace of one by one stream at a
 * time. So **each thread has a handle of its own in each context, and each of its streams a
 * workspace of its own** (32 MiB on compute capability 9.0 and later, else 4 MiB, as cuBLAS
 * recommends, or as the options say; 16 streams at most). They are made at the thread's first call
 * on that stream, which takes a lock and allocates, or by pega_cublas_prepare(). Later calls take
 * no lock and allocate nothing (what cuBLAS does inside is its own), and ask the driver for the
 * current context alone. When a thread ends, its handles and workspaces are kept for the next one
 * that calls in the same context.
 *
 * ## Graphs
 * A call can be captured. What it needs is made before: a first call on a stream that captures is
 * refused with PEGA_ERROR_UNAVAILABLE, and the capture stays valid. A graph uses the workspace of
 * the stream that it was captured on: launch it so that it does not run beside other work of that
 * thread and stream, and not after that workspace was given back.
 *
 * ## Contexts, fork
 * As of pega/cuda.h: a call runs in the current context if that belongs to the device, else in the
 * primary one, which is retained until pega_cublas_close(); the caller's context is current
 * afterwards. In a child of fork made after the first call, calls fail with PEGA_ERROR_UNAVAILABLE.
 * A handle whose context others destroyed is never used again, nor given back to cuBLAS. The driver
 * is "libcuda.so.1", also where pega_cuda_open() was given another.
 *
 * ## Errors
 * Of cuBLAS: OUT_OF_MEMORY, UNSUPPORTED or DRIVER, with the status's name and what was computed in
 * the text and its number in `code`.
 *
 * Words, errors and threads are those of pega.h. Everything here is since 0.1.0.
 */
#ifndef PEGA_CUBLAS_H_
#define PEGA_CUBLAS_H_

#include "pega.h"

#ifdef __cplusplus
extern "C" {
#endif

/** \brief Name of the function. */
#define PEGA_CUBLAS_GEMM "pegainfer.cublas.gemm"

/** \brief Environment variable that names the library; ignored with raised privileges. */
#define PEGA_CUBLAS_LIBRARY_ENV "PEGA_CUBLAS_LIBRARY"

/** \brief Which cuBLAS, and how much memory. */
typedef struct pega_cublas_options {
  uint32_t struct_size;     /**< sizeof(pega_cublas_options) */
  uint32_t reserved;        /**< 0 */
  const char *library_path; /**< the library to open and no other; NULL to search */
  uint64_t workspace_bytes; /**< of a stream's workspace; 0 for what cuBLAS recommends */
} pega_cublas_options;

#define PEGA_CUBLAS_OPTIONS_INIT \
  { (uint32_t)sizeof(pega_cublas_options), 0, NULL, 0 }

/**
 * \brief Opens cuBLAS. Calling it is optional: the first call of the function does the same.
 *
 * Looked for are library_path, else $PEGA_CUBLAS_LIBRARY (choices: if one is set and fails, nothing
 * else is tried), else libcublas.so.13, .12 and .11: first one that is in the process already, then
 * the dynamic loader's. One whose major version is greater than the driver's is passed over: it
 * cannot run there. The library stays in the process for good.
 * \param options NULL for the defaults.
 * \return PEGA_OK also if it is open already and options are NULL; PEGA_ERROR_ALREADY_EXISTS if it
 *         is open and options are not; PEGA_ERROR_UNAVAILABLE with what was tried and found;
 *         PEGA_ERROR_VERSION for one older than 11.0 or newer than the driver; PEGA_ERROR_SYMBOL
 *         naming what it lacks. A failure is not kept: the next call tries again.
 */
PEGA_API pega_status pega_cublas_open(const pega_cublas_options *options, pega_error *error);

/** \brief `pegainfer.cublas.gemm`. Opens nothing. Returns owned; give back with pega_function_release(). */
PEGA_API pega_status pega_cublas_gemm(pega_function **out, pega_error *error);

/**
 * \brief Puts the function into the registry. Opens nothing.
 * \param flags As of pega_registry_add().
 */
PEGA_API pega_status pega_cublas_register(uint32_t flags, pega_error *error);

/**
 * \brief Makes what the calling thread's calls on a stream need: its handle and the stream's
 * workspace.
 * \param device A CUDA device.
 * \param stream NULL for the default stream.
 */
PEGA_API pega_status pega_cublas_prepare(DLDevice device, void *stream, pega_error *error);

/**
 * \brief Gives back the workspace of the calling thread for a stream: before a stream is destroyed,
 *        so that another takes its place. Waits for the work on the device. PEGA_OK where there is
 *        none.
 */
PEGA_API pega_status pega_cublas_release_stream(DLDevice device, void *stream, pega_error *error);

/**
 * \brief Gives back every handle, workspace and primary context.
 *
 * Calls make them again. The caller makes sure that no other thread is in a call, that no work is
 * in flight and that no graph that holds a call is launched again. Call it before pega_cuda_close()
 * and before a context is destroyed or reset.
 * \return The first failure; what could not be given back is forgotten.
 */
PEGA_API pega_status pega_cublas_close(pega_error *error);

/** \brief What is known of cuBLAS and what is held. */
typedef struct pega_cublas_info {
  uint32_t struct_size;     /**< in: sizeof(pega_cublas_info) */
  int32_t version;          /**< major * 10000 + minor * 100 + patch */
  const char *path;         /**< the file; lives as long as the process */
  uint64_t handles;         /**< of all threads, those kept for later ones included */
  uint64_t workspaces;      /**< of all handles */
  uint64_t workspace_bytes; /**< of all workspaces */
  int32_t wide;             /**< 1 where it takes sizes past 2^31 - 1 */
  int32_t reserved;         /**< 0 */
} pega_cublas_info;

/** \brief Tells of the open cuBLAS, which is opened if need be. */
PEGA_API pega_status pega_cublas_describe(pega_cublas_info *info, pega_error *error);

#ifdef __cplusplus
} /* extern "C" */
#endif
#endif /* PEGA_CUBLAS_H_ */
