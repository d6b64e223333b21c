/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PEGA_OPS_SYMBOL_ERROR_H_
#define PEGA_OPS_SYMBOL_ERROR_H_

#include "pega/pega.h"

/* Keeps how the plain C symbol `symbol` ended, in its name, for pega_symbol_last_error(), empties `error`, and returns the
 * number that the symbol returns. */
int pega_symbol_return(const char *symbol, pega_status status, pega_error *error);

#endif /* PEGA_OPS_SYMBOL_ERROR_H_ */
