/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PEGA_OPS_QWEN35_STAGES_H_
#define PEGA_OPS_QWEN35_STAGES_H_

#include "ops/qwen35/stage.h"

/* The stages of the prefill but the solve, which has a file of its own. */
typedef enum pega_gdr_stage {
  kStagePrepare,
  kStageCumsum,
  kStageA,
  kStageRecompute,
  kStageState,
  kStageO,
  kNumStages
} pega_gdr_stage;

extern const pega_stage pega_gdr_stages[kNumStages];

#endif /* PEGA_OPS_QWEN35_STAGES_H_ */
