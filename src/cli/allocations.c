/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The executable's own malloc() and its kin come before glibc's in every library's search, so they
 * see each allocation of the process; they count it and pass it on under glibc's second name for
 * the same function. free() is passed on too: with all of the family from one place a preloaded
 * allocator cannot get memory that is not its own.
 *
 * A sanitizer brings an allocator that must not be bypassed; then nothing is defined here.
 */
#include "allocations.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)
#define COUNTED 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
#define COUNTED 0
#endif
#endif
#ifndef COUNTED
#define COUNTED 1
#endif

#if COUNTED

#include <malloc.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *memory);

static _Atomic uint64_t allocations;

static void count_one(void) {
  (void)atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
}

void *malloc(size_t size) {
  count_one();
  return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
  count_one();
  return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size) {
  count_one();
  return __libc_realloc(memory, size);
}

void *memalign(size_t alignment, size_t size) {
  count_one();
  return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
  count_one();
  return __libc_memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size) {
  count_one();
  if (alignment % sizeof(void *) != 0 || (alignment & (alignment - 1)) != 0 || alignment == 0) {
    return EINVAL;
  }
  void *memory = __libc_memalign(alignment, size);
  if (memory == NULL) return ENOMEM;
  *out = memory;
  return 0;
}

void free(void *memory) { __libc_free(memory); }

/* Whether a library's allocations come by here: strdup()'s is made inside the C library. */
static bool is_counting(void) {
  const uint64_t before = atomic_load_explicit(&allocations, memory_order_relaxed);
  char *volatile copy = strdup("x"); /* volatile: else the compiler may leave the pair out */
  free(copy);
  return atomic_load_explicit(&allocations, memory_order_relaxed) != before;
}

bool cli_allocations(uint64_t *out) {
  if (!is_counting()) return false;
  *out = atomic_load_explicit(&allocations, memory_order_relaxed);
  return true;
}

#else

bool cli_allocations(uint64_t *out) {
  *out = 0;
  return false;
}

#endif
