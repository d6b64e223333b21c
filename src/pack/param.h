/* SPDX-License-Identifier: Apache-2.0 */
/* A parameter of a function: from JSON to a pega_param. Compiled into each library that reads such
 * descriptions. */
#ifndef PEGA_PACK_PARAM_H_
#define PEGA_PACK_PARAM_H_

#include "json_read.h"

/* What a description may say of its parameters. */
typedef struct pega_param_words {
  const char *const *fields; /* all that an object may have, "name" and "type" too; ends in NULL */
  uint32_t types;            /* bit pega_type: allowed */
  const char *types_text;    /* the same for people */
  uint32_t fallback;         /* a pega_type where none is said; PEGA_TYPE_ANY: one has to be said */
} pega_param_words;

/* Reads name, type, doc, domain, optional, min, max, nonnull, output, alignment, dtype, shape, contiguous
 * into a zeroed `out`. Who asks reads the other fields. */
bool pega_param_read(pega_json_reader *reader, const pega_json *at, const pega_param_words *words,
                     pega_param *out);
/* A function of what was read, for its checks: calling it is an error. NULL after the reader's error. */
pega_function *pega_param_function(pega_json_reader *reader, const pega_json *at, const char *name,
                                   const char *doc, const pega_signature *signature);
bool pega_param_read_dtype(pega_json_reader *reader, const pega_json *at, DLDataType *out);

#endif /* PEGA_PACK_PARAM_H_ */
