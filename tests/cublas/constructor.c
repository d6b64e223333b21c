/* SPDX-License-Identifier: Apache-2.0 */
/* A library whose constructor runs what the test says: an address in the environment. */
#include <stdint.h>
#include <stdlib.h>

__attribute__((constructor)) static void run(void) {
  const char *text = getenv("PEGA_TEST_CONSTRUCTOR");
  if (text == NULL) return;
  void (*hook)(void) = (void (*)(void))(uintptr_t)strtoull(text, NULL, 16);
  hook();
}
