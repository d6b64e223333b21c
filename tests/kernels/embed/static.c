/* SPDX-License-Identifier: Apache-2.0 */
#include "static_kernels.h"

#ifdef __cplusplus
extern "C"
#endif
    const unsigned char *
    in_static(size_t *size);

const unsigned char *in_static(size_t *size) {
  *size = static_kernels_size;
  return static_kernels;
}
