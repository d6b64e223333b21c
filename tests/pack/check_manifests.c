/* SPDX-License-Identifier: Apache-2.0 */
/* check_manifests FILE...: opens each pack, asks for its manifest and prints "OK" or the status and text, one line each. */
#include <pega/pack.h>
#include <stdio.h>

int main(int argc, char **argv) {
  for (int i = 1; i < argc; ++i) {
    pega_error error = PEGA_ERROR_INIT;
    pega_pack *pack = NULL;
    pega_pack_options options = PEGA_PACK_OPTIONS_INIT;
    options.path = argv[i];
    const char *manifest;
    pega_status status = pega_pack_open(&options, &pack, &error);
    if (status == PEGA_OK) status = pega_pack_manifest(pack, &manifest, NULL, &error);
    printf("%s %s\n", pega_status_name(status), pega_error_message(&error));
    pega_pack_release(pack);
    pega_error_clear(&error);
  }
  return 0;
}
