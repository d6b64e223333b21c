/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file gdr_cases.h
 * \brief Cases of the gated delta rule's prefill and decode step, for whatever memory and
 *        implementations a test has: each is run, and compared with the recurrence in fp64.
 */
#ifndef PEGA_TESTS_CORE_GDR_CASES_H_
#define PEGA_TESTS_CORE_GDR_CASES_H_

#include "gdr_call.h"

/** Memory of a place. */
typedef struct gdr_buffer {
  void *data; /* an address there */
  int64_t bytes;
} gdr_buffer;

/** Where tensors are, and how to get at them. */
typedef struct gdr_place {
  DLDevice device;
  /** Memory that holds a copy of `from`, or, where that is NULL, NaNs, with a margin around it. */
  gdr_buffer (*create)(int64_t bytes, const void *from);
  /** Memory as the library may find it: NaNs, or never written. */
  gdr_buffer (*create_workspace)(int64_t bytes);
  void (*read)(gdr_buffer buffer, void *out);
  bool (*intact)(gdr_buffer buffer); /* whether the margin is */
  void (*destroy)(gdr_buffer buffer);
  /** Calls the function, and waits for the numbers. */
  pega_status (*run)(gdr_args *args, pega_error *error);
} gdr_place;

/** The CPU's. */
extern const gdr_place gdr_cpu_place;

/** A place and what is expected there. */
typedef struct gdr_setting {
  const gdr_place *place;
  const char *const *implementations; /* NULL is the library's choice */
  int num_implementations;
  double output_limit; /* relative rms */
  double state_limit;
  /* How many times these limits at the edges of what may be given, where one rounding of a factor decides
   * (0 is once), and where all keys are the same, so that roundings add up. */
  double at_edges;
  double for_equal_keys;
  bool brief; /* few cases and small ones */
} gdr_setting;

/** How a problem is put. All zero: q to beta, 64-bit cu_seqlens, a final state, the library's choice. */
typedef struct gdr_variation {
  const char *implementation;
  bool projected;
  int cu_bits; /* 32, 64, or -1 for None */
  bool no_final_state;
  bool in_place; /* the final state over the initial one */
  bool scale;    /* the problem's is given */
  bool check;
  bool workspace; /* the caller's, exactly as large as it has to be */
} gdr_variation;

typedef struct gdr_outcome {
  gdr_error output;
  gdr_error final_state;
  uint16_t *outputs;   /* what was written, to be freed; only with `keep` */
  float *final_states; /* the same */
} gdr_outcome;

/** Runs a prefill; the test fails if it fails, is further off than the limits, or wrote elsewhere. */
gdr_outcome gdr_run_prefill(const gdr_setting *setting, const gdr_problem *problem,
                            const gdr_answer *answer, const gdr_variation *how, const char *what,
                            bool keep);
/** gdr_run_prefill() with every implementation that takes it. */
void gdr_run_prefills(const gdr_setting *setting, const gdr_problem *problem, gdr_variation how,
                      const char *what);
/** Whether an implementation (NULL for the library's choice) takes a call that is put so. */
bool gdr_takes(const char *implementation, const gdr_problem *problem, const gdr_variation *how);

/** Fails, naming the case, unless the rms is within the limit. */
void gdr_expect_within(const char *name, gdr_error got, double limit, const gdr_problem *problem,
                       const char *implementation, const char *what);

/* ---- cases, each a test ---- */

/** Those inputs on which error is measured; prints a line for each. */
void gdr_case_measured_inputs(const gdr_setting *setting);
void gdr_case_heads(const gdr_setting *setting);
void gdr_case_lengths(const gdr_setting *setting);
void gdr_case_sequences(const gdr_setting *setting);
/** A sequence's numbers do not depend on its neighbours. */
void gdr_case_sequences_are_alone(const gdr_setting *setting);
void gdr_case_projected(const gdr_setting *setting);
void gdr_case_normalize(const gdr_setting *setting);
void gdr_case_scale(const gdr_setting *setting);
/** Gates, betas and keys at the ends of what they may be. */
void gdr_case_extremes(const gdr_setting *setting);
void gdr_case_in_place(const gdr_setting *setting);
/** A prefill, then another or a decode step, is one prefill of all. */
void gdr_case_carried_states(const gdr_setting *setting);
void gdr_case_workspace(const gdr_setting *setting);

/** Batches of a decode step: every order of slots, padding, states that nobody asked for. */
void gdr_case_decode_batches(const gdr_setting *setting);
void gdr_case_decode_heads(const gdr_setting *setting);
void gdr_case_decode_many_steps(const gdr_setting *setting);
void gdr_case_decode_extremes(const gdr_setting *setting);

#endif /* PEGA_TESTS_CORE_GDR_CASES_H_ */
