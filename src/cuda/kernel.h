/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel of a pack: described, then prepared in contexts, then launched. */
#ifndef PEGA_CUDA_KERNEL_H_
#define PEGA_CUDA_KERNEL_H_

#include "device.h"
#include "pack/description.h"

/* How the commonest values are had without interpreting an expression; decided when a kernel is
 * prepared. An argument that a step names is there and of the kind that its parameter says, as the
 * signature was checked before. */
typedef enum pega_step_kind {
  kStepExpression, /* whatever the description says */
  kStepConstant,   /* `number` */
  kStepInt,        /* integer args[arg] */
  kStepCdiv,       /* integer args[arg] >= 0 divided by `number`, rounded up */
  kStepCdivMul,    /* the same times integer args[arg2] */
  kStepModulo,     /* integer args[arg] >= 0 modulo `number` */
  kStepDirect,     /* a parameter: the low bytes of args[arg], in place */
  kStepNull        /* a parameter: 8 bytes of 0 */
} pega_step_kind;

typedef struct pega_step {
  uint8_t kind; /* a pega_step_kind */
  uint8_t arg;
  uint8_t arg2;
  uint8_t compare; /* of a condition: kOpEq or kOpLe against `limit`; 0 where it is an expression */
  uint8_t axis;    /* of a grid */
  uint8_t reserved[3];
  uint32_t number;
  uint32_t limit;
} pega_step;

/* A variant that is loaded in a context. What a launch reads stands together, in few cache lines: between
 * two launches the driver has used the cache for itself. */
typedef struct pega_prepared_variant {
  CUfunction function;
  const pega_step *params;     /* one for each; these two in the prepared kernel's block */
  const pega_step *conditions; /* one for each */
  int32_t num_params;
  int32_t num_conditions;
  uint32_t block[3];
  uint32_t shared;
  uint32_t fixed_grid[3]; /* what of the grid is constant, in place */
  uint16_t num_grid;      /* steps of the rest */
  uint8_t num_attributes; /* 0: a plain launch */
  bool scratch;           /* a launch needs scratch memory */
  pega_step grid[3];
  uint32_t max_grid[3];
  const pega_kernel_variant *variant;
  CUlaunchAttribute attributes[3];
} pega_prepared_variant;

/* A kernel in a context: all variants of the target that the device takes. Immutable. */
typedef struct pega_prepared {
  struct pega_prepared *next;
  pega_cuda_device *device;
  CUcontext context;
  unsigned long long context_id; /* where `primary` is false: an address may come again */
  bool primary;                  /* retained by the library, so its address stays its own */
  int32_t num_variants;
  pega_prepared_variant variants[];
} pega_prepared;

/* One for each function of a pack, shared by all who got it. The pack keeps it, and with it what was
 * prepared, as long as it lives. */
typedef struct pega_kernel {
  pega_pack *pack;
  const pega_pack_function *function;
  const char *name;    /* interned */
  int32_t stream_arg;  /* index of the stream parameter, -1: the current stream */
  int32_t tensor_arg;  /* first tensor parameter, a required one if any; -1: on pointers */
  int32_t pointer_arg; /* first pointer parameter, -1 for none */
  _Atomic(pega_prepared *) prepared;
  struct pega_kernel *next;    /* under the kernels' lock, as the next */
  struct pega_kernel *sibling; /* of the same pack */
} pega_kernel;

/* The kernel of a pack's function, with a reference to the pack, which pega_kernel_release() gives back. */
pega_status pega_kernel_get(pega_pack *pack, const pega_pack_function *function, pega_kernel **out,
                            pega_error *error);
void pega_kernel_release(pega_kernel *kernel);

/* The kernel that a function of a pack is; NULL for any other function. Borrowed. */
pega_kernel *pega_kernel_of(const pega_function *function);

/* Prepares in the device's primary context, or, where `context` is not NULL, in that one, which
 * belongs to the device. Takes its lock; finds what another thread has prepared. */
pega_status pega_kernel_prepare(pega_kernel *kernel, const pega_cuda_driver *driver,
                                pega_cuda_device *device, CUcontext context,
                                const pega_prepared **out, pega_error *error);

/* Prepares in the context that a call of this thread on the device would run in. */
pega_status pega_kernel_prepare_here(pega_kernel *kernel, DLDevice device, pega_error *error);

/* Memory for a kernel's global scratch that the caller has; used where it is large enough. */
typedef struct pega_given_scratch {
  void *memory; /* of the device, aligned to 256 bytes */
  uint64_t size;
} pega_given_scratch;

/* Launches on checked arguments, on the device of their tensors, or that of the current context. */
pega_status pega_kernel_launch(pega_kernel *kernel, const pega_value *args, pega_error *error);
/* The same for a kernel on pointers whose device is known; -1 where it is not. `given` may be NULL. */
pega_status pega_kernel_launch_on(pega_kernel *kernel, const pega_value *args, int32_t ordinal,
                                  const pega_given_scratch *given, pega_error *error);

/* What the launches of a table that records answer. */
enum { kLaunchRecorded = -1 };

/* Tells of a launch that the driver refused; `entry` is how it was called. */
pega_status pega_launch_failed(pega_cuda_device *device, const char *name, const char *entry,
                               CUresult result, pega_error *error);
/* The same of one that others of its call, `launched` of them, went before; `error` tells of it. */
pega_status pega_launch_failed_midway(const char *function, int launched, pega_status status,
                                      pega_error *error);

/* Counts pega_cuda_close() where there was something to close: what was prepared before is gone. */
extern atomic_uint pega_cuda_closings;

/* Makes sure that kernels can be launched on the stream: prepares what is not, or refuses where it is
 * being captured. For calls of several launches, before the first. */
pega_status pega_kernels_ready(pega_kernel *const *kernels, int count, CUstream stream,
                               int32_t ordinal, pega_error *error);

#endif /* PEGA_CUDA_KERNEL_H_ */
