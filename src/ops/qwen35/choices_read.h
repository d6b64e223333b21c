/* SPDX-License-Identifier: Apache-2.0 */
/* Where tables of measured times come from. */
#ifndef PEGA_OPS_QWEN35_CHOICES_READ_H_
#define PEGA_OPS_QWEN35_CHOICES_READ_H_

#include "ops/qwen35/choices.h"

/* The logarithm of a number, 0 for what is below 1. */
uint16_t pega_choices_log(double number);

/* The tables that were loaded, and those that PEGA_CHOICES names, which are read on the first call. */
pega_status pega_choices_loaded(const char *function, const pega_choices *out[2],
                                pega_error *error);

#endif /* PEGA_OPS_QWEN35_CHOICES_READ_H_ */
