/* SPDX-License-Identifier: Apache-2.0 */
/* Names to indices, in one look: made once, then only read. */
#ifndef PEGA_PACK_TABLE_H_
#define PEGA_PACK_TABLE_H_

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"

typedef struct pega_table {
  uint32_t *slots; /* 0: empty; else a piece of the name's hash and 1 + its index */
  uint32_t mask;
} pega_table;

/* The name of an index; `self` is whose names they are. */
typedef const char *(*pega_name_at)(const void *self, size_t index);

/* An empty table for `count` names; false when out of memory. */
bool pega_table_make(pega_table *table, pega_arena *arena, size_t count);
/* The index of a name, -1 for none. */
int32_t pega_table_find(const pega_table *table, const char *name, pega_name_at name_at,
                        const void *self);
/* Puts the name of `index`, and returns -1; or the index that has the same name. */
int32_t pega_table_put(pega_table *table, size_t index, pega_name_at name_at, const void *self);

#endif /* PEGA_PACK_TABLE_H_ */
