/* SPDX-License-Identifier: Apache-2.0 */
/* Compiled signatures: what a call is checked against. */
#ifndef PEGA_CORE_SIGNATURE_H_
#define PEGA_CORE_SIGNATURE_H_

#include "pega/pega.h"

enum { kMaxParams = 64, kMaxSymbols = 64 };

/* A dimension: a size >= 0, kAnySize, or a symbol (its number is kFirstSymbol - dim). */
enum { kAnySize = -1, kFirstSymbol = -2 };

/* A parameter, ready for the check. ndim is -1 for any rank. The rest is all that there is to check
 * of a tensor that is not empty, not counted and without gaps; one that fails is looked at again in
 * full. */
typedef struct pega_compiled_param {
  int32_t ndim;
  int32_t device_type; /* 0 for any */
  const int64_t *dims;
  int64_t most;  /* elements whose bytes fit in int64; 0: a tensor is always looked at in full */
  uint64_t mask; /* bits of the address that have to be 0 */
  DLDataType dtype;
} pega_compiled_param;

/* All that there is to check of a plain value, in 24 bytes: an argument that passes is right, one that
 * does not is looked at again in full. */
typedef struct pega_quick_param {
  uint32_t kinds; /* bit pega_kind: taken; 0 for tensors and the like */
  uint32_t mask;  /* bits that have to be 0 */
  uint64_t min;   /* of as.u64, and how far it may be above, modulo 2^64 */
  uint64_t span;
} pega_quick_param;

/* One block: this struct, then quick parameters, dimensions, parameters and every string. */
typedef struct pega_compiled_signature {
  int32_t num_params;
  int32_t num_required; /* up to the last parameter that is not optional */
  const pega_quick_param *quick;
  pega_signature public; /* `params` points into the block */
  const pega_compiled_param *compiled;
  int32_t num_symbols;
  const char *symbols[kMaxSymbols];
  char *text; /* "(a: int) -> None", on the heap */
} pega_compiled_signature;

/* Checks the description and makes a copy of it, or says what is wrong with which parameter. */
pega_status pega_signature_compile(const pega_signature *signature, const char *function,
                                   pega_compiled_signature **out, pega_error *error);
void pega_signature_free(pega_compiled_signature *signature);

/* Checks arguments; `function` is the name for error texts. `args` has num_args items. */
pega_status pega_signature_check(const pega_compiled_signature *signature, const char *function,
                                 const pega_value *args, int32_t num_args, pega_error *error);

/* What is checked of arguments that no signature speaks of: that values and tensors are well-formed. */
pega_status pega_untyped_check(const char *function, const pega_value *args, int32_t num_args,
                               pega_error *error);

#endif /* PEGA_CORE_SIGNATURE_H_ */
