/* SPDX-License-Identifier: Apache-2.0 */
#include "arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { kChunkSize = 1 << 15 };

typedef struct pega_arena_chunk {
  struct pega_arena_chunk *next;
  size_t used;
  size_t capacity;
  _Alignas(max_align_t) unsigned char bytes[];
} pega_arena_chunk;

void *pega_arena_alloc(pega_arena *arena, size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes) ||
      __builtin_add_overflow(bytes, _Alignof(max_align_t), &bytes)) {
    return NULL;
  }
  bytes &= ~(_Alignof(max_align_t) - 1);
  pega_arena_chunk *chunk = arena->chunks;
  if (chunk == NULL || chunk->capacity - chunk->used < bytes) {
    size_t capacity = bytes > kChunkSize ? bytes : kChunkSize;
    size_t whole;
    if (__builtin_add_overflow(capacity, sizeof *chunk, &whole)) return NULL;
    chunk = calloc(1, whole);
    if (chunk == NULL) return NULL;
    chunk->capacity = capacity;
    chunk->next = arena->chunks;
    arena->chunks = chunk;
  }
  void *memory = chunk->bytes + chunk->used;
  chunk->used += bytes;
  return memory;
}

char *pega_arena_text(pega_arena *arena, const char *text, size_t size) {
  char *copy = size == SIZE_MAX ? NULL : pega_arena_alloc(arena, size + 1, 1);
  if (copy != NULL) memcpy(copy, text, size);
  return copy;
}

static void free_to(pega_arena *arena, const pega_arena_chunk *last) {
  while (arena->chunks != last) {
    pega_arena_chunk *chunk = arena->chunks;
    arena->chunks = chunk->next;
    free(chunk);
  }
}

void pega_arena_free(pega_arena *arena) { free_to(arena, NULL); }

pega_arena_mark pega_arena_here(const pega_arena *arena) {
  return (pega_arena_mark){arena->chunks, arena->chunks == NULL ? 0 : arena->chunks->used};
}

void pega_arena_undo(pega_arena *arena, pega_arena_mark mark) {
  free_to(arena, mark.chunk);
  if (mark.chunk == NULL) return;
  memset(mark.chunk->bytes + mark.used, 0, mark.chunk->used - mark.used);
  mark.chunk->used = mark.used;
}
