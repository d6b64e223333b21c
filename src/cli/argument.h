/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file argument.h
 * \brief Words of the command line as arguments of a function.
 */
#ifndef PEGA_CLI_ARGUMENT_H_
#define PEGA_CLI_ARGUMENT_H_

#include <pega/pega.h>

#include "cli.h"
#include "safetensors.h"
#include "tensor.h"

/** \brief .safetensors files, each opened once however many arguments name it. */
typedef struct cli_files {
  struct cli_file {
    char *path;
    safetensors *file;
  } * items;
  size_t count;
} cli_files;

/** \brief Closes the files. */
void cli_files_clear(cli_files *files);

/** \brief An argument and what keeps it alive. Must not be moved once parsed. */
typedef struct cli_argument {
  pega_value value;
  pega_value owned;        /**< released by cli_argument_clear(), or none */
  cli_tensor tensor;       /**< memory of a tensor argument */
  pega_function *function; /**< of a function argument */
  bool zeros;              /**< made by "zeros:" */
} cli_argument;

/**
 * \brief Reads a word.
 *
 * A prefix ("str:", "@", "zeros:", ...) says what the word is; without one the parameter's type
 * does; without a type what it looks like. Whether the function takes it is for the call to check.
 * \param word Borrowed: must outlive the argument.
 * \param index Of the argument, for error texts.
 * \param param NULL where the function has no signature.
 * \param out End it with cli_argument_clear(), on failure too.
 * \return CLI_MISUSE for a word that is none; CLI_FAILED for a file or function that is not there.
 */
cli_exit cli_argument_parse(const char *word, int index, const pega_param *param, cli_files *files,
                            cli_argument *out, pega_error *error);
void cli_argument_clear(cli_argument *argument);

#endif  // PEGA_CLI_ARGUMENT_H_
