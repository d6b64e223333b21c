/* SPDX-License-Identifier: Apache-2.0 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sched_getaffinity */
#endif

#include "core/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

typedef struct {
  _Atomic int64_t next_grain;
  int64_t num_grains;
  int64_t count;
  int64_t grain;
  pega_parallel_body body;
  void *self;
} loop;

static void run_grains(loop *l) {
  for (;;) {
    /* Relaxed is enough: the counter only hands out ranges. Data reach the helpers through
     * pthread_create and come back through pthread_join. */
    const int64_t index = atomic_fetch_add_explicit(&l->next_grain, 1, memory_order_relaxed);
    if (index >= l->num_grains) return;
    const int64_t begin = index * l->grain;
    const int64_t left = l->count - begin;
    l->body(l->self, begin, begin + (left < l->grain ? left : l->grain));
  }
}

static void *helper_main(void *arg) {
  run_grains(arg);
  return NULL;
}

static int64_t num_grains_of(int64_t count, int64_t grain) {
  return count / grain + (count % grain != 0);
}

static int num_usable_cpus(void) {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  /* Also reached where the kernel knows more CPUs than cpu_set_t can name. */
  const long online = sysconf(_SC_NPROCESSORS_ONLN);
  if (online < 1) return 1;
  return online > PEGA_PARALLEL_MAX_THREADS ? PEGA_PARALLEL_MAX_THREADS : (int)online;
}

int pega_parallel_num_threads(int64_t count, int64_t grain, int num_threads) {
  if (count <= 0 || num_threads == 1) return 1;
  int64_t limit = num_grains_of(count, grain);
  if (num_threads <= 0) {
    limit /= 2;
    if (limit <= 1) return 1; /* spares small loops the system call */
    num_threads = num_usable_cpus();
  }
  if (limit > PEGA_PARALLEL_MAX_THREADS) limit = PEGA_PARALLEL_MAX_THREADS;
  if (limit > num_threads) limit = num_threads;
  return limit < 1 ? 1 : (int)limit;
}

void pega_parallel_for(int64_t count, int64_t grain, int num_threads, pega_parallel_body body,
                       void *self) {
  if (count <= 0) return;
  const int wanted = pega_parallel_num_threads(count, grain, num_threads);
  if (wanted == 1) {
    body(self, 0, count);
    return;
  }

  loop l = {.num_grains = num_grains_of(count, grain),
            .count = count,
            .grain = grain,
            .body = body,
            .self = self};
  atomic_init(&l.next_grain, 0);

  /* The helpers work on this stack frame, and pthread_join is a cancellation point: a cancelled
   * caller would unwind the frame under them. */
  int old_cancel_state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old_cancel_state);

  /* A new thread inherits the signal mask, so it is set around pthread_create, not inside. Faults
   * stay unblocked: a blocked one would kill the process without its handler having run. */
  sigset_t blocked, old_mask;
  sigfillset(&blocked);
  sigdelset(&blocked, SIGSEGV);
  sigdelset(&blocked, SIGBUS);
  sigdelset(&blocked, SIGILL);
  sigdelset(&blocked, SIGFPE);
  sigdelset(&blocked, SIGTRAP);
  pthread_sigmask(SIG_SETMASK, &blocked, &old_mask);
  pthread_t helpers[PEGA_PARALLEL_MAX_THREADS - 1];
  int num_helpers = 0;
  while (num_helpers < wanted - 1 &&
         pthread_create(&helpers[num_helpers], NULL, helper_main, &l) == 0) {
    num_helpers++;
  }
  pthread_sigmask(SIG_SETMASK, &old_mask, NULL);

  run_grains(&l);
  for (int i = 0; i < num_helpers; i++) pthread_join(helpers[i], NULL);
  pthread_setcancelstate(old_cancel_state, NULL);
}
