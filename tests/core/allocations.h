/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file allocations.h
 * \brief Counts the calling thread's allocations and locks, and makes one allocation fail.
 *
 * Takes the place of malloc() and its like, and of pthread's locks, in the whole process, unless a
 * sanitizer or valgrind has taken it already.
 */
#ifndef PEGA_TESTS_CORE_ALLOCATIONS_H_
#define PEGA_TESTS_CORE_ALLOCATIONS_H_

#include <stdbool.h>
#include <stdint.h>

#include "support.h"

/** What happened on this thread between allocations_begin() and allocations_end(). */
typedef struct allocations {
  int64_t made;  /**< successful allocations, growth of a block included */
  int64_t live;  /**< blocks made and not freed; below 0 where older blocks were freed */
  int64_t locks; /**< locks taken, of any kind */
  bool failed;   /**< an allocation was made to fail */
} allocations;

/** Whether allocations are counted in this process. */
bool allocations_are_counted(void);

/** Begins to count. The allocation number `fail_at`, from 1, fails; 0 for none. */
void allocations_begin(int64_t fail_at);
allocations allocations_end(void);
/** Goes on counting after allocations_end(), as if there had been none; nothing more fails. */
void allocations_continue(void);

#endif /* PEGA_TESTS_CORE_ALLOCATIONS_H_ */
