/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What objects that CuTe DSL exports for TVM FFI import beyond the static library of its wheel: the
 * functions that put a CUDA error into TVM FFI's slot. The wheel has them in a library of tens of
 * megabytes only. An object passes TVMFFIErrorSetRaisedFromCStrParts itself, so nothing is imported here
 * but two functions of CUDA's runtime, which the wheel's static library needs as well.
 *
 * Kind and beginning of the texts are what CuTe DSL's Python part parses: "CUDADialectError" and
 * "CUDA Error Code: <number>", a detail following.
 */
#include "pega/cute_module.h"

#include <stdio.h>

typedef void (*set_raised_from_parts)(const char *kind, const char **parts, int32_t num_parts);

/* Of CUDA's runtime, declared here so that no headers of CUDA are needed. */
const char *cudaGetErrorName(int code);
const char *cudaGetErrorString(int code);

/* Called by objects. */
void CuteDSLRT_TVMFFISetRaisedCudaError(set_raised_from_parts set_raised, int32_t code);
void CuteDSLRT_TVMFFISetRaisedCudaLaunchError(
    set_raised_from_parts set_raised, int32_t grid_x, int32_t grid_y, int32_t grid_z,
    int32_t block_x, int32_t block_y, int32_t block_z, int32_t block_threads,
    int64_t dynamic_shared, int32_t device, int32_t max_threads, int32_t max_block_x,
    int32_t max_block_y, int32_t max_block_z, int32_t max_grid_x, int32_t max_grid_y,
    int32_t max_grid_z, int32_t max_shared, int32_t max_shared_optin, const char *violation,
    const char *source_file, int32_t source_line, int32_t source_column, int32_t source_end_column);

enum {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  UNKNOWN = 999,
};

void CuteDSLRT_TVMFFISetRaisedCudaError(set_raised_from_parts set_raised, int32_t code) {
  if (set_raised == NULL) {
    return;
  }
  const char *name = cudaGetErrorName(code);
  const char *text = cudaGetErrorString(code);
  char number[16];
  snprintf(number, sizeof number, "%d", (int)code);
  const char *parts[] = {"CUDA Error Code: ",
                         number,
                         " ",
                         name != NULL ? name : "unknown error",
                         ": ",
                         text != NULL ? text : "no description"};
  set_raised("CUDADialectError", parts, (int32_t)(sizeof parts / sizeof parts[0]));
}

/*
 * Objects compiled for debugging check a launch before they make it and report what is wrong with it as
 * fields that CuTe DSL's Python part turns into text.
 */
void CuteDSLRT_TVMFFISetRaisedCudaLaunchError(
    set_raised_from_parts set_raised, int32_t grid_x, int32_t grid_y, int32_t grid_z,
    int32_t block_x, int32_t block_y, int32_t block_z, int32_t block_threads,
    int64_t dynamic_shared, int32_t device, int32_t max_threads, int32_t max_block_x,
    int32_t max_block_y, int32_t max_block_z, int32_t max_grid_x, int32_t max_grid_y,
    int32_t max_grid_z, int32_t max_shared, int32_t max_shared_optin, const char *violation,
    const char *source_file, int32_t source_line, int32_t source_column,
    int32_t source_end_column) {
  if (set_raised == NULL) {
    return;
  }
  char launch[640];
  char source[96];
  const char *name = cudaGetErrorName(INVALID_VALUE);
  const char *text = cudaGetErrorString(INVALID_VALUE);
  snprintf(launch, sizeof launch,
           ";grid=%d,%d,%d;block=%d,%d,%d;block_threads=%d;dynamic_smem_bytes=%lld;stream=unknown;"
           "device=%d;max_threads_per_block=%d;max_block_dim=%d,%d,%d;max_grid_dim=%d,%d,%d;"
           "max_shared_mem_per_block_bytes=%d;max_shared_mem_per_block_optin_bytes=%d;violation=",
           (int)grid_x, (int)grid_y, (int)grid_z, (int)block_x, (int)block_y, (int)block_z,
           (int)block_threads, (long long)dynamic_shared, (int)device, (int)max_threads,
           (int)max_block_x, (int)max_block_y, (int)max_block_z, (int)max_grid_x, (int)max_grid_y,
           (int)max_grid_z, (int)max_shared, (int)max_shared_optin);
  snprintf(source, sizeof source, ";source_line=%d;source_col=%d;source_end_col=%d",
           (int)source_line, (int)source_column, (int)source_end_column);
  const char *parts[] = {"CUDA Error Code: 1",
                         " kind=cuda_launch;api=cudaLaunchKernelExC;error_name=",
                         name != NULL ? name : "cudaErrorInvalidValue",
                         ";error_string=",
                         text != NULL ? text : "invalid argument",
                         launch,
                         violation != NULL ? violation : "unknown",
                         ";source_file=",
                         source_file != NULL ? source_file : "",
                         source};
  set_raised("CUDADialectError", parts, (int32_t)(sizeof parts / sizeof parts[0]));
}

/*
 * The runtime's numbers are the driver's where both have a name for the thing; this is what differs, of what
 * loading and launching can return.
 */
int pega_cute_result(int code) {
  switch (code) {
    case 9: /* cudaErrorInvalidConfiguration */
      return INVALID_VALUE;
    case 35:      /* cudaErrorInsufficientDriver: there is none, or it is too old */
      return 803; /* CUDA_ERROR_SYSTEM_DRIVER_MISMATCH */
    case 98:      /* cudaErrorInvalidDeviceFunction */
      return 209; /* CUDA_ERROR_NO_BINARY_FOR_GPU */
    default:
      return code >= 0 && code <= 8 ? code : code == 34 || code >= 100 ? code : UNKNOWN;
  }
}
