/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file provide.h
 * \brief Implementations that an artifact brings for functions of the library.
 */
#ifndef PEGA_CLI_PROVIDE_H_
#define PEGA_CLI_PROVIDE_H_

#include "cli.h"

/**
 * \brief Opens the artifact that --artifact names and gives its prefill to the library, as every
 *        implementation that can be provided: "flashinfer" and "flashinfer_cp". Without --artifact
 *        it does nothing.
 */
pega_status cli_provide(const cli_options *options, pega_error *error);

#endif  // PEGA_CLI_PROVIDE_H_
