/* SPDX-License-Identifier: Apache-2.0 */
/* The memory that a call works on: whether what it writes is its own. */
#ifndef PEGA_OPS_MEMORY_H_
#define PEGA_OPS_MEMORY_H_

#include "pega/pega.h"

/* One argument's memory, on whatever device. */
typedef struct pega_memory {
  const char *name;
  uintptr_t begin;
  int64_t bytes; /* 0 where the argument is absent or empty: nothing is checked then */
  bool output;
  int8_t in_place; /* index of the memory that it may be exactly, or -1 */
} pega_memory;

/* That each output ends within the address space and overlaps no other memory. `function` begins the
 * error's text. */
pega_status pega_memory_check(const char *function, const pega_memory *memory, int count,
                              pega_error *error);

#endif /* PEGA_OPS_MEMORY_H_ */
