/* SPDX-License-Identifier: Apache-2.0 */
/* A pack's descriptions as one piece of data without a parser: what `pega export` puts into a module. */
#ifndef PEGA_PACK_IMAGE_H_
#define PEGA_PACK_IMAGE_H_

#include "description.h"

/* Where the image begins. Addresses in it are offsets from its beginning until they are made addresses. */
typedef struct pega_image {
  uint64_t layout;  /* PEGA_IMAGE_LAYOUT of who wrote it */
  const char *pack; /* name */
  const pega_pack_function *functions;
  const pega_blob *blobs;
  const void *
      *bytes; /* of each blob, with a NUL behind them; offsets from where the first one is */
  int32_t num_functions;
  int32_t num_blobs;
} pega_image;

/* Differs where a description's layout does. */
#define PEGA_IMAGE_LAYOUT                                                                    \
  ((uint64_t)1 << 56 | (uint64_t)sizeof(pega_pack_function) << 42 |                          \
   (uint64_t)sizeof(pega_kernel_variant) << 28 | (uint64_t)sizeof(pega_kernel_param) << 14 | \
   (uint64_t)sizeof(pega_param))

#endif /* PEGA_PACK_IMAGE_H_ */
