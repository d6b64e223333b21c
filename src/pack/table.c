/* SPDX-License-Identifier: Apache-2.0 */
#include "table.h"

#include <string.h>

#include "core/text.h"

enum { kIndexBits = 20 };
#define INDEX_MASK ((1u << kIndexBits) - 1)

bool pega_table_make(pega_table *table, pega_arena *arena, size_t count) {
  size_t size = 2;
  while (size < 2 * count) size *= 2;
  table->mask = (uint32_t)size - 1;
  table->slots = pega_arena_alloc(arena, size, sizeof *table->slots);
  return table->slots != NULL;
}

/* The slot of the name, or the empty one where it would be: the table is at most half full; its value but
 * for the index. */
static uint32_t *look(const pega_table *table, const char *name, pega_name_at name_at,
                      const void *self, uint32_t *tag) {
  const uint64_t hash = pega_text_hash(name);
  uint32_t at = (uint32_t)hash & table->mask;
  *tag = (uint32_t)(hash >> 32) & ~INDEX_MASK;
  for (;; at = (at + 1) & table->mask) {
    uint32_t *slot = &table->slots[at];
    if (*slot == 0) return slot;
    if ((*slot & ~INDEX_MASK) == *tag &&
        strcmp(name_at(self, (*slot & INDEX_MASK) - 1), name) == 0) {
      return slot;
    }
  }
}

int32_t pega_table_find(const pega_table *table, const char *name, pega_name_at name_at,
                        const void *self) {
  uint32_t tag;
  const uint32_t *slot = look(table, name, name_at, self, &tag);
  return (int32_t)(*slot & INDEX_MASK) - 1;
}

int32_t pega_table_put(pega_table *table, size_t index, pega_name_at name_at, const void *self) {
  uint32_t tag;
  uint32_t *slot = look(table, name_at(self, index), name_at, self, &tag);
  const int32_t there = (int32_t)(*slot & INDEX_MASK) - 1;
  if (there < 0) *slot = tag | (uint32_t)(index + 1);
  return there;
}
