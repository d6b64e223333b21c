/* SPDX-License-Identifier: Apache-2.0 */
/* A shared library that defines DEFINES and calls CALLS (each may be absent), and notes in the environment
 * that its code has run. */
#include <stdlib.h>

#ifndef VALUE
#define VALUE 1
#endif

#ifdef CALLS
int CALLS(void);
#endif

__attribute__((constructor)) static void note(void) { setenv("PEGA_TEST_RAN_" PART, "1", 1); }

#ifdef DEFINES
int DEFINES(void);
int DEFINES(void) {
#ifdef CALLS
  return CALLS() + 1;
#else
  return 1;
#endif
}
#endif

#ifdef CALLS
int test_module_value(void);
int test_module_value(void) { return CALLS() + 10; }
#else
int test_module_value(void);
int test_module_value(void) { return VALUE; }
#endif
