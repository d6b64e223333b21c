/* SPDX-License-Identifier: Apache-2.0 */
/* What the readers of the manifest's parts share. */
#ifndef PEGA_PACK_MANIFEST_H_
#define PEGA_PACK_MANIFEST_H_

#include "json_read.h"
#include "pack.h"

typedef struct pega_manifest {
  pega_json_reader reader;
  pega_pack *pack;
} pega_manifest;

/* The function that is being read. */
typedef struct pega_manifest_function {
  pega_manifest *manifest;
  pega_pack_function *description; /* its signature is complete */
  pega_function *function;         /* of that signature, for its check */
  const pega_pointee *pointees;    /* one for each parameter */
} pega_manifest_function;

enum { kAnyKernelBlob = 1 << kBlobCubin | 1 << kBlobPtx | 1 << kBlobFatbin };

/* The index of the blob that the member `key` names, which has to be of one of `kinds`. */
bool pega_manifest_blob(pega_manifest *manifest, const pega_json *object, const char *key,
                        unsigned kinds, int32_t *out);
/* A member that has to be there: text of 1 to `most` bytes without blanks or control characters. */
bool pega_manifest_word(pega_json_reader *reader, const pega_json *object, const char *key,
                        size_t most, const char **out);
/* The index of the parameter of this name; -1 for none. */
int32_t pega_manifest_param(const pega_signature *signature, const char *name);

bool pega_manifest_read_signature(pega_manifest *manifest, const pega_json *function,
                                  pega_signature *out, pega_pointee *pointees);
bool pega_manifest_read_variant(const pega_manifest_function *function, const pega_json *at,
                                pega_kernel_variant *out);
bool pega_manifest_read_kernel_params(const pega_manifest_function *function, const pega_json *at,
                                      pega_kernel_variant *variant);
bool pega_manifest_read_expression(const pega_manifest_function *function, const pega_json *at,
                                   pega_expression *out);
bool pega_manifest_read_golden(const pega_manifest_function *function, const pega_json *at,
                               pega_golden *out);

#endif /* PEGA_PACK_MANIFEST_H_ */
