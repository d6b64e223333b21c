/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file export.h
 * \brief What `pega export` does one after the other: an image of the pack, sources, a link, a module.
 */
#ifndef PEGA_CLI_EXPORT_H_
#define PEGA_CLI_EXPORT_H_

#include <limits.h>
#include <signal.h>

#include "cli.h"

/** \brief Where things are put while a module is made. All paths are absolute. */
typedef struct cli_export_place {
  char folder[PATH_MAX];  /* new, beside the output; "" before it is made */
  char sources[PATH_MAX]; /* the same, or --keep's */
  char archive[PATH_MAX]; /* libpega_module.a */
  char output[PATH_MAX];
  sigset_t watched; /* signals that end the work, blocked meanwhile */
  sigset_t before;  /* the mask to restore */
  int interrupted;  /* the signal that came, or 0 */
} cli_export_place;

/**
 * \brief Finds the archive, looks at the output and makes the folder; from here on signals wait.
 *
 * \param out End it with cli_export_leave(), on failure too.
 */
pega_status cli_export_enter(const char *output, const char *keep, cli_export_place *out,
                             pega_error *error);
/** \brief Whether a signal asks to end; fills `error` then. */
bool cli_export_interrupted(cli_export_place *place, pega_error *error);
/** \brief Removes the folder with all that is in it; then lets the signal that came end the process. */
void cli_export_leave(cli_export_place *place);
/** \brief Writes a new file of the sources. */
pega_status cli_export_write(const cli_export_place *place, const char *name, const void *data,
                             size_t size, pega_error *error);
/** \brief Compiles and links the sources, and moves the module to its place. */
pega_status cli_export_link(cli_export_place *place, pega_error *error);

#endif  // PEGA_CLI_EXPORT_H_
