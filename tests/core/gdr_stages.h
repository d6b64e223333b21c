/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file gdr_stages.h
 * \brief The seven stages of the chunked prefill: which tensors each reads and writes, numbers for
 *        them with the answers in fp64, and the three ways to call one.
 */
#ifndef PEGA_TESTS_CORE_GDR_STAGES_H_
#define PEGA_TESTS_CORE_GDR_STAGES_H_

#include "gdr_call.h"

/** Every tensor of the stages. */
typedef enum gdr_tensor {
  TENSOR_QKV,
  TENSOR_B,
  TENSOR_A,
  TENSOR_DT_BIAS,
  TENSOR_A_LOG,
  TENSOR_Q,
  TENSOR_K,
  TENSOR_V,
  TENSOR_G,
  TENSOR_BETA,
  TENSOR_G_CUMSUM,
  TENSOR_A_TRIL,
  TENSOR_A_INV,
  TENSOR_W,
  TENSOR_U,
  TENSOR_INITIAL_STATE,
  TENSOR_CHUNK_STATE,
  TENSOR_V_NEW,
  TENSOR_FINAL_STATE,
  TENSOR_OUTPUT,
  NUM_TENSORS
} gdr_tensor;

typedef enum gdr_stage {
  STAGE_PREPARE,
  STAGE_CUMSUM,
  STAGE_A,
  STAGE_SOLVE,
  STAGE_RECOMPUTE,
  STAGE_STATE,
  STAGE_O,
  NUM_STAGES
} gdr_stage;

/** A stage's tensors are its pointer arguments, in this order; the outputs are neighbours. */
typedef struct gdr_stage_description {
  const char *name; /* "prepare", ... */
  const char *tensor_form;
  const char *raw_form;
  int num_tensors;
  int first_output;
  int num_outputs;
  gdr_tensor tensors[10];
} gdr_stage_description;

extern const gdr_stage_description gdr_stage_descriptions[NUM_STAGES];

/** Name, element type and sizes of a tensor. */
const char *gdr_tensor_name(gdr_tensor tensor);
bool gdr_tensor_is_bf16(gdr_tensor tensor);

/**
 * Numbers for every stage: each input is what the formulas before make of the inputs, rounded to the
 * tensor's type; each stage's answer is its formula in fp64 on those rounded numbers.
 */
typedef struct gdr_stage_problem {
  gdr_problem problem; /* projections, one sequence */
  gdr_answer answer;   /* of the recurrence */
  int64_t counts[NUM_TENSORS];
  int64_t bytes[NUM_TENSORS];
  void *data[NUM_TENSORS];       /* rounded; NULL for an initial state that is not there */
  double *expected[NUM_TENSORS]; /* of outputs, not rounded */
} gdr_stage_problem;

gdr_stage_problem gdr_stage_problem_create(int64_t num_tokens, int64_t num_key_heads,
                                           int64_t num_value_heads, double lowest_gate,
                                           bool initial_state, uint64_t seed);
void gdr_stage_problem_free(gdr_stage_problem *problem);

/** How what a stage wrote compares with the answer. */
gdr_error gdr_stage_compare(const gdr_stage_problem *problem, gdr_tensor tensor, const void *got);

/** The call on tensors at `places`, one for each gdr_tensor. */
void gdr_stage_tensor_args(gdr_args *args, gdr_stage stage, const gdr_problem *sizes,
                           DLDevice device, const void *const places[NUM_TENSORS]);
/** The call on pointers. */
void gdr_stage_raw_args(gdr_args *args, gdr_stage stage, const gdr_problem *sizes,
                        const void *const places[NUM_TENSORS], void *stream);
/** Calls the C symbol; what it returned. */
int gdr_stage_symbol(gdr_stage stage, const gdr_problem *sizes,
                     const void *const places[NUM_TENSORS], void *stream);

#endif /* PEGA_TESTS_CORE_GDR_STAGES_H_ */
