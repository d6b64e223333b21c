/* SPDX-License-Identifier: Apache-2.0 */
#include "text.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

void pega_text_append(pega_text *text, const char *bytes, size_t size) {
  if (text->size < text->capacity) {
    size_t room = text->capacity - text->size - 1;
    size_t part = size < room ? size : room;
    if (part > 0) memcpy(text->data + text->size, bytes, part);
    text->data[text->size + part] = '\0';
  }
  text->size += size;
}

void pega_text_vprintf(pega_text *text, const char *format, va_list args) {
  size_t room = text->size < text->capacity ? text->capacity - text->size : 0;
  int size = vsnprintf(room > 0 ? text->data + text->size : NULL, room, format, args);
  if (size > 0) text->size += (size_t)size;
}

void pega_text_printf(pega_text *text, const char *format, ...) {
  va_list args;
  va_start(args, format);
  pega_text_vprintf(text, format, args);
  va_end(args);
}

/* Calls `append(self, bytes, size)` for the pieces of the quoted text. */
static void quote(void *self, void (*append)(void *self, const char *bytes, size_t size),
                  const char *bytes, size_t size) {
  append(self, "\"", 1);
  size_t start = 0;
  for (size_t i = 0; i < size; ++i) {
    unsigned char c = (unsigned char)bytes[i];
    char escape[8];
    int length = 0;
    if (c == '"' || c == '\\') {
      length = snprintf(escape, sizeof escape, "\\%c", c);
    } else if (c == '\n') {
      length = snprintf(escape, sizeof escape, "\\n");
    } else if (c < 0x20 || c == 0x7f) {
      length = snprintf(escape, sizeof escape, "\\u%04x", c);
    }
    if (length > 0) {
      append(self, bytes + start, i - start);
      append(self, escape, (size_t)length);
      start = i + 1;
    }
  }
  append(self, bytes + start, size - start);
  append(self, "\"", 1);
}

static void append_fixed(void *self, const char *bytes, size_t size) {
  pega_text_append((pega_text *)self, bytes, size);
}

static void append_heap(void *self, const char *bytes, size_t size) {
  pega_heap_text_append((pega_heap_text *)self, bytes, size);
}

void pega_text_quote(pega_text *text, const char *bytes, size_t size) {
  quote(text, append_fixed, bytes, size);
}

void pega_heap_text_quote(pega_heap_text *text, const char *bytes, size_t size) {
  quote(text, append_heap, bytes, size);
}

void pega_heap_text_append(pega_heap_text *text, const char *bytes, size_t size) {
  if (text->failed) return;
  if (size >= text->capacity - text->size) {
    size_t capacity = text->capacity == 0 ? 128 : text->capacity;
    while (capacity - text->size <= size) {
      if (capacity > SIZE_MAX / 2) {
        text->failed = 1;
        return;
      }
      capacity *= 2;
    }
    char *data = realloc(text->data, capacity);
    if (data == NULL) {
      text->failed = 1;
      return;
    }
    text->data = data;
    text->capacity = capacity;
  }
  if (size > 0) memcpy(text->data + text->size, bytes, size);
  text->size += size;
  text->data[text->size] = '\0';
}

void pega_heap_text_printf(pega_heap_text *text, const char *format, ...) {
  char buffer[512];
  va_list args;
  va_start(args, format);
  va_list again;
  va_copy(again, args);
  int size = vsnprintf(buffer, sizeof buffer, format, args);
  va_end(args);
  if (size >= 0 && (size_t)size < sizeof buffer) {
    pega_heap_text_append(text, buffer, (size_t)size);
  } else if (size >= 0) {
    char *heap = malloc((size_t)size + 1);
    if (heap == NULL) {
      text->failed = 1;
    } else {
      vsnprintf(heap, (size_t)size + 1, format, again);
      pega_heap_text_append(text, heap, (size_t)size);
      free(heap);
    }
  }
  va_end(again);
}

uint64_t pega_text_hash(const char *name) {
  __extension__ typedef unsigned __int128 wide;
  static _Atomic(const void *) random; /* 16 bytes that the system gave the process */
  static const uint64_t none[2], factor = 0x9e3779b97f4a7c15;
  const void *from = atomic_load_explicit(&random, memory_order_relaxed);
  if (from == NULL) {
    from = (const void *)getauxval(AT_RANDOM);
    if (from == NULL) from = none;
    atomic_store_explicit(&random, from, memory_order_relaxed);
  }
  uint64_t key[2];
  memcpy(key, from, sizeof key);
  key[1] = (key[1] ^ factor) | 1;
  for (size_t left = strlen(name) + 1; left > 0;) { /* the NUL counts: no word is empty */
    const size_t size = left < sizeof *key ? left : sizeof *key;
    uint64_t word = 0;
    if (size == sizeof word) {
      memcpy(&word, name, sizeof word);
    } else {
      memcpy(&word, name, size);
    }
    const wide product = (wide)(key[0] ^ word) * key[1];
    key[0] = (uint64_t)product ^ (uint64_t)(product >> 64);
    name += size;
    left -= size;
  }
  return key[0];
}

enum {
  kLongestCompared = 255,
  kMostCompared =
      1 << 24 /* pairs of bytes in one search: enough for some 10,000 names of 40 bytes */
};

/* Edit distance, given up past `limit`. Both names are at most kLongestCompared bytes; *compared grows. */
static size_t distance(const char *a, size_t a_size, const char *b, size_t b_size, size_t limit,
                       size_t *compared) {
  uint16_t row[kLongestCompared + 1];
  for (size_t j = 0; j <= b_size; ++j) row[j] = (uint16_t)j;
  for (size_t i = 1; i <= a_size; ++i) {
    uint16_t diagonal = row[0];
    uint16_t least = row[0] = (uint16_t)i;
    for (size_t j = 1; j <= b_size; ++j) {
      uint16_t best = (uint16_t)(diagonal + (a[i - 1] != b[j - 1]));
      if (row[j] + 1 < best) best = (uint16_t)(row[j] + 1);
      if (row[j - 1] + 1 < best) best = (uint16_t)(row[j - 1] + 1);
      diagonal = row[j];
      row[j] = best;
      if (best < least) least = best;
    }
    *compared += b_size;
    if (least > limit) return limit + 1;
  }
  return row[b_size];
}

const char *pega_text_nearest(const char *name, size_t count,
                              const char *(*get)(const void *self, size_t index),
                              const void *self) {
  size_t size = strnlen(name, kLongestCompared + 1);
  if (size > kLongestCompared) return NULL;
  size_t limit = size / 3 + 1;
  size_t compared = 0;
  const char *nearest = NULL;
  for (size_t i = 0; i < count; ++i) {
    const char *candidate = get(self, i);
    size_t candidate_size = strnlen(candidate, kLongestCompared + 1);
    if (candidate_size > kLongestCompared) continue;
    size_t gap = size < candidate_size ? candidate_size - size : size - candidate_size;
    size_t found;
    /* The last part of a dotted name is what people remember. */
    const char *tail = strrchr(candidate, '.');
    if (tail != NULL && strcmp(tail + 1, name) == 0) {
      found = 0;
    } else if (gap > limit || compared > kMostCompared) {
      continue;
    } else {
      found = distance(name, size, candidate, candidate_size, limit, &compared);
    }
    if (found < limit || (found == limit && nearest == NULL)) {
      limit = found;
      nearest = candidate;
    }
    if (limit == 0) break;
  }
  return nearest;
}

int pega_text_is_utf8(const char *bytes, size_t size) {
  for (size_t i = 0; i < size;) {
    unsigned char c = (unsigned char)bytes[i];
    size_t more = c < 0x80 ? 0 : c >= 0xC2 && c <= 0xDF ? 1 : (c & 0xF0) == 0xE0 ? 2 : 3;
    if (c == 0 || (c >= 0x80 && c < 0xC2) || c > 0xF4 || size - i <= more) return 0;
    for (size_t j = 1; j <= more; ++j) {
      if (((unsigned char)bytes[i + j] & 0xC0) != 0x80) return 0;
    }
    /* Too long a form, a surrogate, or past the last code point. */
    unsigned char next = more == 0 ? 0 : (unsigned char)bytes[i + 1];
    if ((c == 0xE0 && next < 0xA0) || (c == 0xED && next > 0x9F) || (c == 0xF0 && next < 0x90) ||
        (c == 0xF4 && next > 0x8F)) {
      return 0;
    }
    i += more + 1;
  }
  return 1;
}

size_t pega_text_cut(const char *text, size_t size) {
  while (size > 0 && ((unsigned char)text[size] & 0xC0) == 0x80) --size;
  return size;
}

const char *pega_text_short_name(const char *name, char buffer[96]) {
  if (name == NULL) {
    memcpy(buffer, "(null)", 7);
    return buffer;
  }
  size_t i = 0;
  for (; i < 80 && name[i] != '\0'; ++i) {
    unsigned char c = (unsigned char)name[i];
    buffer[i] = c < 0x20 || c == 0x7f ? '?' : (char)c;
  }
  if (name[i] != '\0') {
    i = pega_text_cut(name, i);
    memcpy(buffer + i, "...", 3);
    i += 3;
  }
  buffer[i] = '\0';
  return buffer;
}
