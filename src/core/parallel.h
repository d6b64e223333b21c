/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PEGA_CORE_PARALLEL_H_
#define PEGA_CORE_PARALLEL_H_

#include <stdint.h>

/**
 * \file parallel.h
 * \brief A parallel loop over independent items
 *
 * Threads live only as long as one call: nothing is kept between calls, so there is nothing to
 * shut down at exit, nothing to repair after fork(), and no global state of any kind. Starting a
 * thread costs some tens of microseconds, which is why a caller states how much work is worth one.
 *
 * Threads that were kept and parked would save about half of that: of some 40 us from the call to a
 * helper's first item, waking a processor takes 20 to 25 either way. That is 2 % of the prefill of
 * 64 tokens on two processors, and no reason to keep threads that outlive a fork, a dlclose or a
 * change of the caller's processors.
 */

/**
 * \brief The body of a loop: does items begin <= i < end
 *
 * Called from several threads at once, each time with a range that no other call gets. It must
 * return normally (no longjmp out of it, no thread exit).
 */
typedef void (*pega_parallel_body)(void *self, int64_t begin, int64_t end);

/** \brief The most threads that one loop ever uses, the calling thread included */
#define PEGA_PARALLEL_MAX_THREADS 256

/**
 * \brief The number of threads that pega_parallel_for() would use for the same arguments
 *
 * At least 1. For num_threads > 0: that many, but no more than there are grains. For
 * num_threads <= 0: one for each CPU that the calling thread may run on, but only as many as have
 * two grains of work each, so that small loops stay on the calling thread.
 */
int pega_parallel_num_threads(int64_t count, int64_t grain, int num_threads);

/**
 * \brief Run body over the items 0 <= i < count and return when all are done
 *
 * Ranges of grain items (the last one may be shorter) are handed out in increasing order to
 * whichever thread is free. The calling thread takes part. What body wrote is visible to the
 * caller on return. A thread that cannot be started is done without: the loop then runs on fewer
 * threads, in the end on the calling one alone; it never fails.
 *
 * The helper threads block all signals but faults, so that a signal handler of the application
 * never runs on them. The calling thread cannot be cancelled while the loop runs.
 *
 * \param count number of items; nothing is done for count <= 0
 * \param grain items in one range, at least 1
 * \param num_threads see pega_parallel_num_threads()
 * \param body called for each range
 * \param self borrowed for the call, passed to body
 *
 * Thread-safe; calls may be nested (each starts threads of its own).
 */
void pega_parallel_for(int64_t count, int64_t grain, int num_threads, pega_parallel_body body,
                       void *self);

#endif /* PEGA_CORE_PARALLEL_H_ */
