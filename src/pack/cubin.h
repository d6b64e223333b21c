/* SPDX-License-Identifier: Apache-2.0 */
/* What a cubin says of a kernel: its ELF file, read from memory, never trusted. */
#ifndef PEGA_PACK_CUBIN_H_
#define PEGA_PACK_CUBIN_H_

#include "description.h"

typedef struct pega_cubin_param {
  bool present;
  uint32_t offset;
  uint32_t size;
} pega_cubin_param;

typedef struct pega_cubin_kernel {
  int32_t compute_capability;                /* 90 */
  bool accelerated;                          /* made for a target with the suffix 'a' */
  pega_cubin_param params[kMaxKernelParams]; /* by ordinal, without gaps */
  int32_t num_params;
  uint32_t param_bytes; /* of the constant bank */
  uint32_t registers;
  uint32_t local_bytes;
  uint32_t static_shared;  /* without what the system reserves */
  uint32_t max_threads[3]; /* of a block, 0 where nothing is said */
  uint32_t block[3];       /* which the kernel insists on; 0 for any */
  uint32_t cluster[3];     /* the same for clusters */
} pega_cubin_kernel;

/* Reads what there is of `entry`. PEGA_ERROR_FORMAT for what is no cubin or lacks the entry; `what`
 * names the pack, function and variant, for errors. `bytes` are aligned to 8. */
pega_status pega_cubin_read(const void *bytes, size_t size, const char *entry, const char *what,
                            pega_cubin_kernel *out, pega_error *error);

#endif /* PEGA_PACK_CUBIN_H_ */
