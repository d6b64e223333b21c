/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file packs.h
 * \brief Packs for the tests of the launcher: kernels described in C, with cubins made by hand.
 */
#ifndef PEGA_TESTS_CUDA_PACKS_H_
#define PEGA_TESTS_CUDA_PACKS_H_

#include "../pack/build.h"

/** One parameter of a kernel; a list ends with a type of NULL. */
typedef struct kernel_param {
  const char *type;     /**< "i32" */
  const char *value;    /**< expression or name; unused for scratch */
  const char *role;     /**< NULL: "argument" */
  const char *encoding; /**< JSON of a tensor descriptor's, with ' for quotes */
  uint32_t offset;      /**< 0: the next place that the type allows */
} kernel_param;

#define PARAM(type_, value_) \
  { .type = type_, .value = value_ }
/** Of the role "global_scratch" or "profile_scratch". */
#define SCRATCH(role_) \
  { .type = "pointer", .role = role_ }
#define END_OF_PARAMS \
  { .type = NULL }

/** What is 0 or NULL is left out of the manifest, or is 1 where a 0 makes no sense. */
typedef struct kernel_variant {
  const char *target; /**< "sm_90a" */
  const char *entry;
  const char *when; /**< JSON list, with ' for quotes */
  const kernel_param *params;
  const char *grid[3];
  uint32_t block[3]; /**< 32 x 1 x 1 */
  uint32_t cluster[3];
  uint32_t shared, static_shared;
  uint32_t registers; /**< 16 */
  bool pdl, cooperative;
  uint32_t global_scratch, global_alignment, profile_scratch, profile_alignment; /**< bytes */
  const char *ptx;          /**< text of a PTX blob in place of a cubin */
  const char *wrong_target; /**< what the cubin itself is made for */
} kernel_variant;

typedef struct kernel_function {
  const char *name;
  const char *params; /**< JSON list, with ' for quotes */
  const kernel_variant *variants;
  int num_variants;
  const char *golden; /**< JSON list, with ' for quotes; @0 is the digest of data blob 0 */
} kernel_function;

/** A pack file. */
bytes pack_make(const char *name, const kernel_function *functions, int num_functions,
                const bytes *data, int num_data);

/** Opens the bytes; the test fails where they are no pack. Owned. */
pega_pack *pack_open(const bytes *file, uint32_t flags);
/** A pack of one function, and the function. Both owned. */
pega_pack *pack_of(const kernel_function *described, pega_function **function);

#endif /* PEGA_TESTS_CUDA_PACKS_H_ */
