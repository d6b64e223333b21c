/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file bench_device.h
 * \brief What the parts of `pega bench` that need a GPU share: its memory with inputs in it, its times.
 *
 * Everything is on device 0, on one stream, which is the library's current one too.
 */
#ifndef PEGA_CLI_BENCH_DEVICE_H_
#define PEGA_CLI_BENCH_DEVICE_H_

#include <pega/cuda.h>
#include <pega/qwen35.h>

#include "bench.h"
#include "bench_stuff.h"
#include "gpu.h"

#define BENCH_DEVICE ((DLDevice){kDLCUDA, 0})

/** \brief Bytes that rotated calls go through: several times what the L2 cache of an H100 holds. */
#define BENCH_ROTATED ((int64_t)256 << 20)

/**
 * \brief Says whose memory floors are of: a device whose rate is known has that, another what a
 *        copy measured.
 */
void bench_floor_set(const char *device, double copy_rate);
/** \brief Bytes a second that floors are reckoned with. docs/benchmark.md has the definition. */
double bench_floor_rate(void);
/** \brief us in which `bytes` move at that rate. */
double bench_floor(int64_t bytes);
/**
 * \brief Bytes that a solve must move: of each tile of 64 x 64 the ten blocks of 16 x 16
 *        on and below the diagonal read
 *        (fp32), the whole tile written (bf16); 18432 together.
 */
int64_t bench_solve_bytes(int64_t tokens, int64_t value_heads);

/** \brief Returns from a function with `pega_error *error` where a driver's call fails. */
#define BENCH_CUDA(call)                                                \
  do {                                                                  \
    const CUresult result_ = gpu.call;                                  \
    if (result_ != 0) return bench_driver_error(error, result_, #call); \
  } while (0)
/** \brief The same of a call that returns a pega_status. */
#define BENCH_OK(call)                      \
  do {                                      \
    const pega_status status_ = (call);     \
    if (status_ != PEGA_OK) return status_; \
  } while (0)
pega_status bench_driver_error(pega_error *error, CUresult result, const char *call);

/** \brief Retains the primary context, makes the stream. gpu_open() was called. */
pega_status bench_device_open(bench_device **out, pega_error *error);
/** \brief Makes its context and its stream the current ones again, whoever had others. */
void bench_device_enter(const bench_device *device);
/** \brief Gives back everything. Takes NULL. */
void bench_device_close(bench_device *device);
CUstream bench_device_stream(const bench_device *device);
/** \brief Bytes a second that a device-to-device copy reads and writes together. */
pega_status bench_device_copy_rate(bench_device *device, int64_t bytes, double *out,
                                   pega_error *error);

/* -------------------------------------------------------------------------------------- memory -- */

/** \brief Device memory, until bench_device_free() or the end; aligned to 256 bytes at least. */
pega_status bench_device_alloc(bench_device *device, int64_t bytes, CUdeviceptr *out,
                               pega_error *error);
/** \brief Gives back all of it. Nothing is in flight. */
void bench_device_free(bench_device *device);

/**
 * \brief Fills device memory.
 * \param seed Where in the repeating rows it begins, so that q is not k.
 */
pega_status bench_device_fill(bench_device *device, bench_stuff stuff, int seed, CUdeviceptr to,
                              int64_t bytes, pega_error *error);

/** \brief A tensor with its shape. Must not be moved once it was made. */
typedef struct bench_tensor {
  DLTensor view;
  int64_t shape[4];
} bench_tensor;

/** \brief bf16 where `bits` is 16, fp32 where it is 32, int64 for 64, uint8 for 8. */
void bench_tensor_make(bench_tensor *tensor, DLDevice device, void *data, int bits, int ndim,
                       int64_t d0, int64_t d1, int64_t d2, int64_t d3);
int64_t bench_tensor_bytes(const bench_tensor *tensor);
/** \brief The same on the device, filled, or with what is no number where `stuff` is -1. */
pega_status bench_tensor_create(bench_device *device, bench_tensor *tensor, int stuff, int seed,
                                int bits, int ndim, int64_t d0, int64_t d1, int64_t d2, int64_t d3,
                                pega_error *error);

/* --------------------------------------------------------------------------------------- times -- */

/** \brief Calls on the stream, to be timed. Start it with device, put, self and sets; the rest zeros. */
typedef struct bench_job {
  bench_device *device;
  /** Puts one call on the stream. `number` counts them, for a job that takes other memory each time. */
  pega_status (*put)(void *self, int64_t number, pega_error *error);
  void *self;
  int sets; /**< calls after which the memory is the first's again, at least 1 */
  CUgraphExec *execs;
  int num_execs;
  int calls; /**< of each graph */
  int64_t next;
} bench_job;

/** \brief Bits: measure by the host's clock, too; nothing but graphs of one call. */
enum { BENCH_WALL_TOO = 1, BENCH_HOST_TOO = 2, BENCH_GRAPH_ALONE = 4 };

/**
 * \brief Measures the ways of a case, which are jobs, and the peers', in every way of measuring.
 *
 * Graphs of one call; of ten in a row for ways that take less than a millisecond; eager; and what `too` names.
 * Ways that are left out are told once. `ways[0]` has the case's floor.
 */
void bench_device_compare(bench_run *run, bench_way *ways, bench_job *jobs, int num_ways, int too);

/* ------------------------------------------------------------------------------- right or wrong -- */

/** \brief Root of the mean square of got - expected, relative to that of expected; NaN if one is. */
double bench_rms_bf16(const uint16_t *got, const uint16_t *expected, int64_t count);
double bench_rms_fp32(const float *got, const float *expected, int64_t count);
/** \brief Largest |got - expected| relative to the largest |expected|. */
double bench_max_bf16(const uint16_t *got, const uint16_t *expected, int64_t count);

/**
 * \brief Judges a way's result: where the error is not within the limit, and kernels do run here, the way is left
 *        out as wrong and the run has failed.
 * \param what "output", "state".
 * \param told Member of its rows' "error", of an error from the truth; NULL for one from another's result.
 */
void bench_judge(bench_run *run, bench_way *way, const char *what, const char *told, double error,
                 double limit);
/** \brief The same of what the CPU computes, whichever driver there is. */
void bench_judge_here(bench_run *run, bench_way *way, const char *what, const char *told,
                      double error, double limit);

#endif  // PEGA_CLI_BENCH_DEVICE_H_
