/* SPDX-License-Identifier: Apache-2.0 */
/* Finds code for GPUs in a file's bytes: cubins, fatbins and PTX, wherever they lie and whoever put them
 * there. Nothing of them is trusted, and nothing is unpacked. */
#ifndef PEGA_ARTIFACT_GPU_CODE_H_
#define PEGA_ARTIFACT_GPU_CODE_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pega/pega.h"

enum { kGpuTargetRoom = 16 };

/* One piece of code. Of a fatbin each entry is a piece. */
typedef struct pega_gpu_code {
  const char *kind;            /* "cubin", "ptx"; "fatbin" for what a fatbin holds beside them */
  char target[kGpuTargetRoom]; /* "sm_90a" */
  uint64_t offset;             /* in the file */
  uint64_t size;               /* in the file, compressed or not */
  bool in_fatbin;
  bool compressed;
  char *entries; /* names of kernels, each with its 0; NULL for none */
  size_t entries_size;
  int32_t num_entries;
} pega_gpu_code;

typedef struct pega_gpu_codes {
  pega_gpu_code *items; /* in the order of the file */
  int32_t count;
  int32_t capacity;
  bool cut_off; /* the search was given up: there may be more */
} pega_gpu_codes;

/* Finds all. Fails with PEGA_ERROR_OUT_OF_MEMORY alone; what is damaged is not found. */
pega_status pega_gpu_code_find(const unsigned char *bytes, size_t size, pega_gpu_codes *out,
                               pega_error *error);
void pega_gpu_codes_free(pega_gpu_codes *codes); /* takes a zeroed one */

/* What a file that begins so is: "cubin", "fatbin", "PTX"; NULL for anything else. */
const char *pega_gpu_code_format(const unsigned char *bytes, size_t size);

#endif /* PEGA_ARTIFACT_GPU_CODE_H_ */
