/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file kernel_pack.h
 * \brief An open kernel pack with its manifest as JSON, and the packs that the environment names.
 */
#ifndef PEGA_CLI_KERNEL_PACK_H_
#define PEGA_CLI_KERNEL_PACK_H_

#include <pega/pack.h>

#include "cli.h"
#include "print.h"

/** \brief Paths of packs with colons between them: where the library looks for kernels. */
#define CLI_PACK_PATH "PEGA_PACK_PATH"

/** \brief What the pack in libpega is called where others show their path. */
#define CLI_PACK_EMBEDDED "the pack in libpega"

/** \brief A pack. Start it as CLI_PACK_INIT. */
typedef struct cli_pack {
  pega_pack *pack;
  json_t *manifest; /* checked by the library when the pack was opened */
  const char *path; /* borrowed; CLI_PACK_EMBEDDED for the one in libpega */
} cli_pack;

#define CLI_PACK_INIT \
  { NULL, NULL, NULL }

/**
 * \brief Opens a pack; no blob is looked at.
 * \param path Borrowed: must outlive the pack. NULL for the one in libpega; PEGA_ERROR_UNAVAILABLE
 *        where it was built with none.
 * \param out End it with cli_pack_close(), on failure too.
 */
pega_status cli_pack_open(const char *path, bool allow_ptx, cli_pack *out, pega_error *error);
void cli_pack_close(cli_pack *pack);
/** \brief Checks every blob. As with cli_pack_open(), the error's text names the path. */
pega_status cli_pack_verify(const cli_pack *pack, pega_error *error);

/** \brief Whether a word of the command line is a pack's path rather than a function's name. */
bool cli_is_pack_path(const char *word);

/** \brief The manifest's functions, in its order. Borrowed. */
json_t *cli_pack_functions(const cli_pack *pack);
/** \brief One of them, or NULL. Borrowed. */
json_t *cli_pack_function(const cli_pack *pack, const char *name);

/** \brief Sets "name", "functions", "variants", "golden", "blobs" and "bytes" (of all blobs). */
void cli_pack_set_counts(json_t *object, const cli_pack *pack);
/** \brief Prints the same: "2 functions, 3 variants, 1 golden case, 4 blobs of 1000 bytes". */
void cli_pack_print_counts(const cli_pack *pack);

/** \brief Value of PEGA_PACK_PATH, or NULL. */
const char *cli_pack_path(void);
/** \brief Calls `visit` for each path in it until one returns false. `path` is borrowed. */
void cli_pack_path_each(bool (*visit)(void *self, const char *path), void *self);

/** \brief String member of an object, "" if there is none. Borrowed. */
const char *cli_member_text(const json_t *object, const char *key);

/** \brief Prints a pack's description as `pega info` shows it: all of it, or one function. `path`: as
 * cli_pack_open() takes it. */
cli_exit cli_info_pack(const cli_options *options, const char *path, const char *name,
                       pega_error *error);

#endif  // PEGA_CLI_KERNEL_PACK_H_
