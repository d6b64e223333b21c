/* SPDX-License-Identifier: Apache-2.0 */
/* Prints the GPUs that there are: "2 sm_80 Fake GPU 0". Knows nothing of the fake driver. */
#include <inttypes.h>
#include <pega/cuda.h>
#include <stdio.h>

int main(void) {
  pega_error error = PEGA_ERROR_INIT;
  int32_t count = 0;
  pega_device_info info = {.struct_size = sizeof info};
  if (pega_device_count(&count, &error) != PEGA_OK ||
      pega_device_query((DLDevice){kDLCUDA, 0}, &info, &error) != PEGA_OK) {
    printf("%s\n", pega_error_message(&error));
    return 1;
  }
  printf("%" PRId32 " sm_%" PRId32 " %s\n", count, info.compute_capability, info.name);
  return 0;
}
