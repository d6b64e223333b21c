/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file gdr_call.h
 * \brief Arguments of the gated delta rule's functions, for tensors on the CPU or on a device, and
 *        memory that shows what was written beside it.
 */
#ifndef PEGA_TESTS_CORE_GDR_CALL_H_
#define PEGA_TESTS_CORE_GDR_CALL_H_

#include <pega/qwen35.h>

#include "gdr_reference.h"
#include "support.h"

#define INT32 DTYPE(kDLInt, 32, 1)
#define UINT8 DTYPE(kDLUInt, 8, 1)

/** Arguments in the order of the signatures. */
enum {
  PREFILL_Q,
  PREFILL_K,
  PREFILL_V,
  PREFILL_G,
  PREFILL_BETA,
  PREFILL_INITIAL_STATE,
  PREFILL_CU_SEQLENS,
  PREFILL_SCALE,
  PREFILL_OUTPUT,
  PREFILL_FINAL_STATE,
  PREFILL_NORMALIZE,
  PREFILL_IMPLEMENTATION,
  PREFILL_WORKSPACE,
  PREFILL_CHECK,
  NUM_PREFILL
};
enum {
  PROJECTED_QKV,
  PROJECTED_B,
  PROJECTED_A,
  PROJECTED_DT_BIAS,
  PROJECTED_A_LOG,
  PROJECTED_INITIAL_STATE,
  PROJECTED_CU_SEQLENS,
  PROJECTED_SCALE,
  PROJECTED_OUTPUT,
  PROJECTED_FINAL_STATE,
  PROJECTED_IMPLEMENTATION,
  PROJECTED_WORKSPACE,
  PROJECTED_CHECK,
  NUM_PROJECTED
};
enum {
  DECODE_Q,
  DECODE_K,
  DECODE_V,
  DECODE_G,
  DECODE_BETA,
  DECODE_STATES,
  DECODE_SLOTS,
  DECODE_SCALE,
  DECODE_OUTPUT,
  DECODE_NORMALIZE,
  DECODE_CHECK,
  NUM_DECODE
};
enum {
  DECODE_PROJECTED_QKV,
  DECODE_PROJECTED_B,
  DECODE_PROJECTED_A,
  DECODE_PROJECTED_DT_BIAS,
  DECODE_PROJECTED_A_LOG,
  DECODE_PROJECTED_STATES,
  DECODE_PROJECTED_SLOTS,
  DECODE_PROJECTED_SCALE,
  DECODE_PROJECTED_OUTPUT,
  DECODE_PROJECTED_CHECK,
  NUM_DECODE_PROJECTED
};

/** One call. Not to be moved: values point at tensors, tensors at shapes. */
typedef struct gdr_args {
  const char *name; /* of the function */
  int32_t count;    /* of arguments passed */
  pega_value values[16];
  DLTensor tensors[16];
  int64_t shapes[16][4];
} gdr_args;

/** Where the tensors of a call are. NULL is None for what may be None. */
typedef struct gdr_memory {
  DLDevice device;
  const void *q, *k, *v, *g, *beta;
  const void *qkv, *b, *a, *dt_bias, *a_log;
  const void *initial_state;
  const void *cu_seqlens;
  int cu_bits; /* 32 or 64 */
  const void *output;
  const void *final_state;
  const void *states; /* decode: [num_slots, HV, 128, 128] */
  int64_t num_slots;
  const void *slots;
  int slot_bits; /* 32 or 64 */
} gdr_memory;

/** The problem's own inputs on the CPU: rows to be normalised where there are such; no output. */
gdr_memory gdr_host_memory(const gdr_problem *problem);

/** All optional arguments that a gdr_memory does not name are None. Sizes are the problem's. */
void gdr_prefill_args(gdr_args *args, const gdr_problem *sizes, const gdr_memory *memory);
void gdr_projected_args(gdr_args *args, const gdr_problem *sizes, const gdr_memory *memory);
void gdr_decode_args(gdr_args *args, const gdr_problem *sizes, const gdr_memory *memory);
void gdr_decode_projected_args(gdr_args *args, const gdr_problem *sizes, const gdr_memory *memory);

/** Makes argument `index` a row-major tensor of `ndim` sizes. */
void gdr_set_tensor(gdr_args *args, int index, DLDevice device, DLDataType dtype, const void *data,
                    int32_t ndim, const int64_t *sizes);

/** Calls the function; its result is dropped. */
pega_status gdr_run(const gdr_args *args, pega_error *error);

/** Bytes of workspace that the library says the prefill needs; the test fails if it says nothing. */
int64_t gdr_workspace_bytes(const gdr_problem *sizes, DLDevice device, bool projected,
                            bool normalize, const char *implementation);

/* ---- memory that shows what was written ---- */

/** Bytes with a margin on both sides. */
typedef struct gdr_guarded {
  unsigned char *memory;
  void *data;
  int64_t bytes;
} gdr_guarded;

/** All of it NaN as bf16 and as fp32. Aligned to 64 bytes. */
gdr_guarded gdr_guarded_create(int64_t bytes);
/** The one whose data is there. */
gdr_guarded gdr_guarded_of(void *data, int64_t bytes);
void gdr_guarded_poison(gdr_guarded *guarded);
/** Whether nothing was written beside it. */
bool gdr_guarded_intact(const gdr_guarded *guarded);
/** Whether it is as it was poisoned. */
bool gdr_guarded_untouched(const gdr_guarded *guarded);
void gdr_guarded_free(gdr_guarded *guarded);

#endif /* PEGA_TESTS_CORE_GDR_CALL_H_ */
