/* SPDX-License-Identifier: Apache-2.0 */
#include "allocations.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

static _Thread_local bool counting;
static _Thread_local int64_t to_fail;
static _Thread_local allocations counted;

void allocations_begin(int64_t fail_at) {
  counted = (allocations){0};
  to_fail = fail_at;
  counting = true;
}

allocations allocations_end(void) {
  counting = false;
  return counted;
}

void allocations_continue(void) {
  to_fail = 0;
  counting = true;
}

bool allocations_are_counted(void) {
  allocations_begin(0);
  void *volatile block = malloc(1);
  const bool counted_one = allocations_end().made == 1;
  free(block);
  return counted_one;
}

#if defined(__GLIBC__) && !SUPPORT_SANITIZED

/* glibc's own, under the names that it keeps for those who take the place of the others. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *block);

/* Whether this is the allocation that has to fail. */
static bool fails(void) {
  if (!counting || to_fail == 0 || --to_fail > 0) return false;
  counted.failed = true;
  errno = ENOMEM;
  return true;
}

static void *made(void *block, bool grown) {
  if (counting && block != NULL) {
    ++counted.made;
    if (!grown) ++counted.live;
  }
  return block;
}

void *malloc(size_t size) { return fails() ? NULL : made(__libc_malloc(size), false); }

void *calloc(size_t count, size_t size) {
  return fails() ? NULL : made(__libc_calloc(count, size), false);
}

void *realloc(void *block, size_t size) {
  return fails() ? NULL : made(__libc_realloc(block, size), block != NULL);
}

int posix_memalign(void **out, size_t alignment, size_t size) {
  void *block = fails() ? NULL : made(__libc_memalign(alignment, size), false);
  if (block == NULL) return ENOMEM;
  *out = block;
  return 0;
}

void free(void *block) {
  if (counting && block != NULL) --counted.live;
  __libc_free(block);
}

/* Defines `name`, whose parameters and arguments are given in parentheses, to count and go on to
 * the next definition after this program's. */
#define COUNTED_LOCK(name, parameters, arguments)                \
  int name parameters {                                          \
    static int(*next) parameters;                                \
    if (next == NULL) *(void **)&next = dlsym(RTLD_NEXT, #name); \
    if (counting) ++counted.locks;                               \
    return next arguments;                                       \
  }

COUNTED_LOCK(pthread_mutex_lock, (pthread_mutex_t * lock), (lock))
COUNTED_LOCK(pthread_mutex_trylock, (pthread_mutex_t * lock), (lock))
COUNTED_LOCK(pthread_rwlock_rdlock, (pthread_rwlock_t * lock), (lock))
COUNTED_LOCK(pthread_rwlock_tryrdlock, (pthread_rwlock_t * lock), (lock))
COUNTED_LOCK(pthread_rwlock_wrlock, (pthread_rwlock_t * lock), (lock))
COUNTED_LOCK(pthread_rwlock_trywrlock, (pthread_rwlock_t * lock), (lock))
COUNTED_LOCK(pthread_spin_lock, (pthread_spinlock_t * lock), (lock))
COUNTED_LOCK(pthread_once, (pthread_once_t * once, void (*routine)(void)), (once, routine))

#endif
