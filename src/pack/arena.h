/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that is given back all at once: what a pack's descriptions are made of. */
#ifndef PEGA_PACK_ARENA_H_
#define PEGA_PACK_ARENA_H_

#include <stddef.h>

typedef struct pega_arena {
  struct pega_arena_chunk *chunks; /* the newest first */
} pega_arena;

/* Zeroed memory for `count` items of `size` bytes, aligned for anything; NULL when out of memory.
 * A count of 0 gives an address, too. */
void *pega_arena_alloc(pega_arena *arena, size_t count, size_t size);
/* A copy of `size` bytes and a NUL; NULL when out of memory. */
char *pega_arena_text(pega_arena *arena, const char *text, size_t size);
void pega_arena_free(pega_arena *arena);

/* What was allocated up to now, to give back what comes after it. */
typedef struct pega_arena_mark {
  struct pega_arena_chunk *chunk;
  size_t used;
} pega_arena_mark;

pega_arena_mark pega_arena_here(const pega_arena *arena);
void pega_arena_undo(pega_arena *arena, pega_arena_mark mark);

#endif /* PEGA_PACK_ARENA_H_ */
