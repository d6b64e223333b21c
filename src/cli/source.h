/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file source.h
 * \brief Where a command's functions come from: the registry, an artifact, a TVM FFI module, the
 *        runtime, or a kernel pack.
 */
#ifndef PEGA_CLI_SOURCE_H_
#define PEGA_CLI_SOURCE_H_

#include <pega/pega.h>

#include "cli.h"

/** \brief Functions by name, as the command line asks for them. */
typedef struct cli_source cli_source;

/** \brief Where one function came from, for people and JSON. */
#define CLI_FROM_REGISTRY "registry"
#define CLI_FROM_MODULE "module"
#define CLI_FROM_GLOBAL "global"
#define CLI_FROM_PACK "pack"
#define CLI_FROM_ARTIFACT "artifact"

/**
 * \brief Opens what the options name: nothing, an artifact, a module, a pack, or a runtime.
 *
 * With a runtime the registry's functions become its globals first (names that are taken are left
 * alone), so that modules can call them.
 * \param out Returns owned; give back with cli_source_close(), after the functions.
 */
pega_status cli_source_open(const cli_options *options, cli_source **out, pega_error *error);
/** \brief Gives back what was opened. Takes NULL. */
void cli_source_close(cli_source *source);

/**
 * \brief Finds a function: of the artifact, the module or the pack if there is one, else of the registry and then,
 *        with --tvm-ffi, of the runtime's globals.
 * \param out Returns owned.
 * \param from Receives a CLI_FROM_*; may be NULL.
 */
pega_status cli_source_get(cli_source *source, const char *name, pega_function **out,
                           const char **from, pega_error *error);

/** \brief Calls `visit` for each function, by name; `function` is NULL where `name` leads to none. */
typedef void (*cli_source_visit)(void *self, const char *name, pega_function *function,
                                 const char *from);
pega_status cli_source_each(cli_source *source, cli_source_visit visit, void *self,
                            pega_error *error);

#endif  // PEGA_CLI_SOURCE_H_
