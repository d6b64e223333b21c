/* SPDX-License-Identifier: Apache-2.0 */
/* An engine's own test: the driver fails when it is told to, and nothing is left in the end. */
#include <pega/cuda.h>
#include <pega/fake_driver.h>
#include <stdio.h>
#include <string.h>

int main(void) {
  pega_error error = PEGA_ERROR_INIT;
  pega_device_info info = {.struct_size = sizeof info};
  pega_fake_driver_live_counts live;
  const DLDevice device = {kDLCUDA, 2};
  if (pega_fake_driver_configure("devices=3,cc=10.0") != 0) return 1;
  if (pega_fake_driver_fail("cuDeviceGetName", 1, 999, false) != 0) return 2;
  if (pega_device_query(device, &info, &error) != PEGA_ERROR_DRIVER || error.code != 999) return 3;
  if (strstr(pega_error_message(&error), "cuDeviceGetName") == NULL) return 4;
  if (pega_device_query(device, &info, &error) != PEGA_OK || info.compute_capability != 100)
    return 5;
  if (pega_cuda_close(&error) != PEGA_OK) return 6;
  pega_fake_driver_live(&live);
  if (live.retained != 0 || live.modules != 0) return 7;
  pega_error_clear(&error);
  printf("%d calls\n", (int)pega_fake_driver_num_calls());
  return 0;
}
