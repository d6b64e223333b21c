/* SPDX-License-Identifier: Apache-2.0 */
/* What a shared library needs before it can be loaded, and whether that is there: found out from files
 * and from what is in the process, with nothing loaded and no code run. It follows the dynamic loader's
 * own rules (glibc), so that what is found complete is loaded and what is not is never begun. */
#ifndef PEGA_ARTIFACT_PREREQUISITES_H_
#define PEGA_ARTIFACT_PREREQUISITES_H_

#include "elf.h"

/* Where libraries may be, beside the places that the dynamic loader knows. Borrowed. */
typedef struct pega_prerequisite_search {
  const char *const *folders; /* looked in first, in this order */
  int32_t num_folders;
  const char *const *extras; /* libraries wanted beyond the file's list: names, or full paths */
  int32_t num_extras;
  const char *wanted_by; /* who wants the extras, for texts: "the loader 'X'" */
  const char *advice;    /* how others are chosen, for texts; or NULL */
} pega_prerequisite_search;

/* A library that is needed, by the file or by something that it needs. */
typedef struct pega_prerequisite {
  const char *name;      /* as it is wanted */
  const char *path;      /* full path, "" if it is nowhere */
  const char *where;     /* "process", "given folder", "file" (RPATH, RUNPATH), "system", "" */
  const char *wanted_by; /* path of the file that wants it, or the search's `wanted_by` */
  bool direct;           /* the file itself names it */
  bool extra;            /* the search named it */
} pega_prerequisite;

/* An undefined symbol of the file itself. */
typedef struct pega_wanted_symbol {
  const char *name;
  const char *version; /* "" for none */
  const char *library; /* path of what provides it, "" if nothing does */
  bool weak;
} pega_wanted_symbol;

/* A file to load before the file itself. */
typedef struct pega_load_step {
  const char *path;
  bool global; /* its symbols are for all that is loaded later: what the search named */
} pega_load_step;

/* All text lives as long as the struct. */
typedef struct pega_prerequisites {
  pega_prerequisite
      *libraries; /* each once: breadth first, the file's own first, extras after them */
  int32_t num_libraries;
  pega_wanted_symbol *symbols; /* in the order of file->undefined */
  int32_t num_symbols;
  /* In the order of loading; without what the dynamic loader finds on its own, and without what is in the
   * process already, but for extras: those are loaded again so that their symbols are for all. */
  pega_load_step *steps;
  int32_t num_steps;
  const char **missing; /* a sentence each, beginning with the path of the file that lacks it */
  int32_t num_missing;
  pega_status
      status; /* PEGA_OK or what the first of `missing` is: PEGA_ERROR_NOT_FOUND for a library,
                         PEGA_ERROR_SYMBOL, PEGA_ERROR_VERSION, PEGA_ERROR_FORMAT */
  struct pega_prerequisites_memory *memory;
} pega_prerequisites;

/* Finds out. `file` is borrowed and must outlive `out`. What is missing is in `out` and is no failure:
 * that is PEGA_ERROR_OUT_OF_MEMORY alone. A file that cannot be loaded into this process at all
 * (pega_elf_check_loadable) has that as its one missing thing. */
pega_status pega_prerequisites_find(const pega_elf *file, const pega_prerequisite_search *search,
                                    pega_prerequisites *out, pega_error *error);
/* Takes a zeroed one. */
void pega_prerequisites_free(pega_prerequisites *prerequisites);

#endif /* PEGA_ARTIFACT_PREREQUISITES_H_ */
