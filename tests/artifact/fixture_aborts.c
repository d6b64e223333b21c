/* SPDX-License-Identifier: Apache-2.0 */
/* Ends the process that loads it. */
#include <stdlib.h>

int aborts_function(void);

__attribute__((constructor)) static void begin(void) { abort(); }
int aborts_function(void) { return 1; }
