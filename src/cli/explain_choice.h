/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file explain_choice.h
 * \brief `pega explain` of a function that chooses between implementations.
 */
#ifndef PEGA_CLI_EXPLAIN_CHOICE_H_
#define PEGA_CLI_EXPLAIN_CHOICE_H_

#include "cli.h"
#include "kernel_pack.h"

/** \brief The function that tells how `name` chooses, or NULL. Returns owned. */
pega_function *cli_choice_find(const char *name);

/**
 * \brief Prints what it says: `explain NAME [TOKENS [SEQUENCES [KEY_HEADS [VALUE_HEADS]]]]`, for the
 *        CPU, or with --device for a GPU, which need not be there.
 */
cli_exit cli_choice_explain(pega_function *function, const cli_options *options, pega_error *error);

#endif  // PEGA_CLI_EXPLAIN_CHOICE_H_
