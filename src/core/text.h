/* SPDX-License-Identifier: Apache-2.0 */
/* Text helpers that both libraries compile in. */
#ifndef PEGA_CORE_TEXT_H_
#define PEGA_CORE_TEXT_H_

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* Appends to a buffer of fixed size: `size` counts what the whole text needs, so that a first pass
 * with capacity 0 measures. The buffer is NUL-terminated whenever capacity > 0. */
typedef struct pega_text {
  char *data;
  size_t capacity;
  size_t size;
} pega_text;

void pega_text_append(pega_text *text, const char *bytes, size_t size);
void pega_text_printf(pega_text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void pega_text_vprintf(pega_text *text, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));
/* Appends bytes in double quotes, with control characters and quotes escaped as in JSON. */
void pega_text_quote(pega_text *text, const char *bytes, size_t size);

/* Grows on the heap. After a failed allocation `failed` is set and appends do nothing. */
typedef struct pega_heap_text {
  char *data;
  size_t size;
  size_t capacity;
  int failed;
} pega_heap_text;

void pega_heap_text_append(pega_heap_text *text, const char *bytes, size_t size);
void pega_heap_text_printf(pega_heap_text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void pega_heap_text_quote(pega_heap_text *text, const char *bytes, size_t size);

/* A number that differs between names, for tables. Another in every process: nobody can choose names that
 * have one number, and make looking them up slow. */
uint64_t pega_text_hash(const char *name);

/* The candidate nearest to `name` by edit distance, or NULL if none is near (a third of its length)
 * or the first of them took too long; by the last part of a dotted name any is found.
 * `get` returns candidate `index`. */
const char *pega_text_nearest(const char *name, size_t count,
                              const char *(*get)(const void *self, size_t index), const void *self);

/* "name" for error texts: at most 80 bytes of it, unprintable ones replaced, "..." where cut. */
const char *pega_text_short_name(const char *name, char buffer[96]);

/* Whether the bytes are UTF-8 without NUL, as peers in other languages insist. */
int pega_text_is_utf8(const char *bytes, size_t size);

/* The greatest length <= `size` at which cutting `text` splits no UTF-8 sequence. */
size_t pega_text_cut(const char *text, size_t size);

#endif /* PEGA_CORE_TEXT_H_ */
