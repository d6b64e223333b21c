/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file scenarios.h
 * \brief What an engine does with a GPU, each a piece that can be repeated: for tests that make
 *        every driver call or every allocation in it fail.
 */
#ifndef PEGA_TESTS_CUDA_SCENARIOS_H_
#define PEGA_TESTS_CUDA_SCENARIOS_H_

#include "machine.h"
#include "packs.h"

typedef struct scenario {
  const char *name;
  void (*setup)(void); /**< NULL for none; nothing fails in it */
  /** What the test is about; leaves nothing behind but what is prepared. */
  pega_status (*run)(pega_error *error);
  void (*teardown)(void); /**< undoes setup; nothing fails in it */
  pega_status expected;   /**< of run, when nothing fails */
  bool captures;          /**< a stream captures: still valid at teardown */
} scenario;

extern const scenario scenarios[];
extern const int num_scenarios;

/** The machine that they run on: two devices, 9.0 and 8.0. Makes the pack. */
void scenarios_start(void);
void scenarios_end(void);
/** From now on the scenarios but one use one open pack: opening has tests of its own. */
void scenarios_share_pack(void);

#endif /* PEGA_TESTS_CUDA_SCENARIOS_H_ */
