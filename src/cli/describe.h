/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file describe.h
 * \brief One parameter of a signature, for people and as JSON.
 */
#ifndef PEGA_CLI_DESCRIBE_H_
#define PEGA_CLI_DESCRIBE_H_

#include "print.h"

/** \brief {"name", "doc", "type", "flags", ...}. Returns owned. */
json_t *cli_json_param(const pega_param *param);
/** \brief Prints it behind `indent` blanks, doc and domain on lines of their own. */
void cli_print_param(const pega_param *param, int indent);

#endif  // PEGA_CLI_DESCRIBE_H_
