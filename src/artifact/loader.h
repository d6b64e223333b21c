/* SPDX-License-Identifier: Apache-2.0 */
/* The table of loaders (pega_artifact_add_loader), and what they are shown of a file. */
#ifndef PEGA_ARTIFACT_LOADER_H_
#define PEGA_ARTIFACT_LOADER_H_

#include "elf.h"
#include "pega/artifact.h"

/* A pega_artifact_file over a pega_elf, which it borrows. */
typedef struct pega_artifact_view {
  pega_artifact_file file;
  const char **names; /* of both lists */
} pega_artifact_view;

pega_status pega_artifact_view_make(const pega_elf *elf, pega_artifact_view *out,
                                    pega_error *error);
void pega_artifact_view_free(pega_artifact_view *view); /* takes a zeroed one */

/* The first loader that recognises the file, or NULL. Lives as long as the process. */
const pega_artifact_loader *pega_artifact_find_loader(const pega_artifact_file *file);

/* Name of loader `index` in the order of adding, or NULL past the last. */
const char *pega_artifact_loader_name(int32_t index);

#endif /* PEGA_ARTIFACT_LOADER_H_ */
