/* SPDX-License-Identifier: Apache-2.0 */
/* All that is known of a shared library before it is loaded. Inspecting shows it and opening acts on it,
 * so that the two never disagree. */
#ifndef PEGA_ARTIFACT_EXAMINE_H_
#define PEGA_ARTIFACT_EXAMINE_H_

#include "c_library.h"
#include "gpu_code.h"
#include "loader.h"
#include "prerequisites.h"

/* What a file is to the opener. */
typedef enum pega_artifact_form {
  PEGA_FORM_UNKNOWN,   /* a shared library that nobody knows how to call */
  PEGA_FORM_LOADER,    /* one of a loader's format */
  PEGA_FORM_C_LIBRARY, /* one with a signature file */
} pega_artifact_form;

typedef struct pega_examination {
  pega_elf elf;
  pega_artifact_form form;
  const pega_artifact_loader *loader; /* PEGA_FORM_LOADER; lives as long as the process */
  char *signature_path;               /* of the signature file that was looked for; never NULL */
  pega_c_library *c_library;          /* PEGA_FORM_C_LIBRARY: what its signature file says */
  pega_artifact_view view;
  pega_value told; /* the loader's own map (see pega_artifact_loader.inspect), or none */
  char *unknown;   /* PEGA_FORM_UNKNOWN of a file that could be loaded: why it cannot be called */
  pega_prerequisites needs;
  pega_gpu_codes codes; /* embedded code for GPUs */
  bool uses_cuda;
} pega_examination;

/* Examines a file that pega_elf_read() has read; `elf` is taken whether or not this succeeds. What the
 * loader says is missing is in `told` alone ("missing"), what pega_prerequisites_find() does in `needs`;
 * pega_examination_missing() has both. An object file, a cubin or another architecture is examined too:
 * `needs` then says why it cannot be loaded, and no loader is asked. A signature file that is there and
 * does not fit is an error, as is what a loader calls damaged. */
pega_status pega_examine(pega_elf *elf, const pega_artifact_options *options, pega_examination *out,
                         pega_error *error);
void pega_examination_free(pega_examination *examination); /* takes a zeroed one */

/* How many things are missing in all, and sentence `index` of them (NULL past the last). For a file that
 * nobody knows how to call, one sentence says so. */
int32_t pega_examination_num_missing(const pega_examination *examination);
const char *pega_examination_missing(const pega_examination *examination, int32_t index);
/* Names of the functions, sorted; an owned array, empty where they are not known. */
pega_status pega_examination_functions(const pega_examination *examination, pega_value *out,
                                       pega_error *error);

/* Whether a file is a kernel pack: a folder, or a file that starts like one. PEGA_ERROR_NOT_FOUND or
 * PEGA_ERROR_IO if there is no such file. */
pega_status pega_artifact_is_pack(const char *path, bool *out, pega_error *error);

/* Checks the options of pega_artifact_open() and pega_artifact_inspect(). */
pega_status pega_artifact_check_options(const char *function, const pega_artifact_options *options,
                                        pega_error *error);

#endif /* PEGA_ARTIFACT_EXAMINE_H_ */
