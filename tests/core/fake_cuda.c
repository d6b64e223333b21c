/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for the CUDA driver: built once for each way that a driver can be there or fail. */

int cuInit(unsigned flags);
int cuDeviceGetCount(int *count);

#ifndef FAKE_CUDA_WITHOUT_INIT
int cuInit(unsigned flags) { return flags == 0 ? FAKE_CUDA_INIT : 1; }
#endif

int cuDeviceGetCount(int *count) {
  *count = FAKE_CUDA_DEVICES;
  return FAKE_CUDA_COUNT;
}
