/* SPDX-License-Identifier: Apache-2.0 */
/* Call plans: the launches of a call, with the places where its pointers go. */
#ifndef PEGA_CUDA_PLAN_H_
#define PEGA_CUDA_PLAN_H_

#include "kernel.h"

enum {
  kMaxPlanPointers = 64, /* as many as a function has parameters */
  kMaxPlanLaunches = 8,
  kMaxPlanParams = 64, /* of a kernel */
  kMaxPlanWords = 64,  /* of 8 bytes, of all of them */
  kPlanStep = 4        /* how many addresses of parameters are copied at once */
};

/* Parameter `param` is pointers[pointer] + offset. */
typedef struct pega_plan_relocation {
  uint16_t param;
  uint16_t pointer;
  uint64_t offset; /* modulo 2^64 */
} pega_plan_relocation;

/* Words first, so that what else is compared of two launches stands together. */
typedef struct pega_plan_launch {
  uint64_t words[kMaxPlanWords]; /* its parameters; gaps are 0 */
  CUfunction function;
  const char *name; /* interned */
  unsigned grid[3];
  unsigned block[3];
  unsigned shared;
  unsigned num_params;
  unsigned num_attributes;                     /* 0: a plain launch */
  _Alignas(8) CUlaunchAttribute attributes[3]; /* as the driver has them */
  unsigned num_relocations;
  const void *addresses[kMaxPlanParams]; /* of its parameters, in `words` */
  pega_plan_relocation relocations[kMaxPlanParams];
} pega_plan_launch;

/* Immutable but for the count of references. */
struct pega_plan {
  _Atomic uint32_t refs;
  unsigned closings; /* pega_cuda_closings when it was made */
  int32_t num_pointers;
  int32_t num_launches;
  CUcontext context; /* the primary one that its kernels are in; else none that is ever current */
  pega_cuda_device *device;
  const pega_prepared *prepared;    /* the first kernel's; NULL where nothing is launched */
  pega_function *function;          /* a reference */
  uint64_t masks[kMaxPlanPointers]; /* bits of a pointer that have to be 0 */
  uint8_t arguments[kMaxPlanPointers];
  pega_plan_launch launches[];
};

/* Takes down what a table that records was asked to launch; `driver` is that table. */
pega_status pega_plan_record(const pega_cuda_driver *driver, const char *name,
                             const pega_prepared *prepared, const pega_prepared_variant *chosen,
                             const unsigned grid[3], const void *const *params, pega_error *error);

/* Launches all; the plan's context is current. */
pega_status pega_plan_launch_all(const pega_plan *plan, const pega_cuda_driver *driver,
                                 void *const *pointers, void *stream, pega_error *error);
/* With another context, or none, current, or in a context that others made. */
pega_status pega_plan_call_elsewhere(const pega_plan *plan, const pega_cuda_driver *driver,
                                     void *const *pointers, void *stream, pega_error *error);
/* What is wrong with a call of which something is. */
pega_status pega_plan_refuse(const pega_plan *plan, void *const *pointers, pega_error *error);
/* What the driver answered to launch `index`. */
pega_status pega_plan_failed(const pega_plan *plan, int32_t index, CUresult result,
                             pega_error *error);

/* Whether a context that others made is still the one that was prepared. */
static inline bool pega_prepared_is_there(const pega_cuda_driver *driver,
                                          const pega_prepared *prepared) {
  unsigned long long id = 0;
  return prepared->primary ||
         (driver->cuCtxGetId(prepared->context, &id) == kCudaSuccess && id == prepared->context_id);
}

#endif /* PEGA_CUDA_PLAN_H_ */
