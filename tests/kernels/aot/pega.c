/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>

#ifndef PEGA_EMBEDDED_PACK
#error "PEGA_EMBEDDED_PACK is not defined"
#endif
extern const unsigned char pega_embedded_pack[];
extern const size_t pega_embedded_pack_size;

const unsigned char *own_pack(size_t *size);

const unsigned char *own_pack(size_t *size) {
  *size = pega_embedded_pack_size;
  return pega_embedded_pack;
}
