/* SPDX-License-Identifier: Apache-2.0 */
/* What PTX says of itself in plain text. What its parameters and registers are, a driver knows once it
 * has compiled it. */
#ifndef PEGA_PACK_PTX_H_
#define PEGA_PACK_PTX_H_

#include "description.h"

/* The text begins with a version, is written for exactly `target`, and has `entry` for others to see.
 * PEGA_ERROR_FORMAT where not; `what` names the pack, function and variant, for errors. `text` needs no
 * NUL behind it. */
pega_status pega_ptx_check(const char *text, size_t size, const pega_target *target,
                           const char *entry, const char *what, pega_error *error);

#endif /* PEGA_PACK_PTX_H_ */
