/* SPDX-License-Identifier: Apache-2.0 */
/* The one rule for structs that begin with struct_size. */
#ifndef PEGA_CORE_OPTIONS_H_
#define PEGA_CORE_OPTIONS_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether a caller's struct of `struct_size` bytes can be used as one of `known` bytes: not smaller,
 * and zero in everything that a newer caller may have put behind. */
static inline bool pega_options_fit(const void *options, uint32_t struct_size, size_t known) {
  const unsigned char *bytes = (const unsigned char *)options;
  if (struct_size < known || struct_size > 4096) return false;
  for (size_t i = known; i < struct_size; ++i) {
    if (bytes[i] != 0) return false;
  }
  return true;
}

#endif /* PEGA_CORE_OPTIONS_H_ */
