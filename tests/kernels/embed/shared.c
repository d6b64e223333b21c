/* SPDX-License-Identifier: Apache-2.0 */
#include "shared_kernels.h"

#ifdef __cplusplus
extern "C"
#endif
    const unsigned char *
    in_shared(size_t *size);

const unsigned char *in_shared(size_t *size) {
  *size = shared_kernels_size;
  return shared_kernels;
}
