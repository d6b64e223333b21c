/* SPDX-License-Identifier: Apache-2.0 */
/* Inspects itself: a program, which can be read and not be opened. */
#include <pega/artifact.h>
#include <stdio.h>

int main(void) {
  pega_error error = PEGA_ERROR_INIT;
  pega_value about = pega_value_none();
  pega_artifact *artifact = NULL;
  pega_artifact_options options = PEGA_ARTIFACT_OPTIONS_INIT;
  options.path = "/proc/self/exe";
  const pega_status inspected = pega_artifact_inspect(&options, &about, &error);
  const pega_status opened = pega_artifact_open(&options, &artifact, &error);
  pega_value_release(&about);
  pega_error_clear(&error);
  if (inspected != PEGA_OK || opened == PEGA_OK) return 1;
  printf("consumer of the opener of pega %s: ok\n", pega_version_string());
  return 0;
}
