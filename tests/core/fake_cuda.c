/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for the CUDA driver: built once for each way that a driver can be there or fail. */

int cuInit(unsigned flags);
int cuDeviceGetCount(int *count);
int cuDriverGetVersion(int *version);
int cuGetProcAddress(const char *name, void **out, int version, unsigned long long flags);

#ifndef FAKE_CUDA_WITHOUT_INIT
int cuInit(unsigned flags) { return flags == 0 ? FAKE_CUDA_INIT : 1; }
#endif

int cuDeviceGetCount(int *count) {
  *count = FAKE_CUDA_DEVICES;
  return FAKE_CUDA_COUNT;
}

#ifdef FAKE_CUDA_VERSION
int cuDriverGetVersion(int *version) {
  *version = FAKE_CUDA_VERSION;
  return FAKE_CUDA_VERSION < 1000 ? FAKE_CUDA_VERSION : 0;
}
#endif

/* One that knows no name at all. */
#ifdef FAKE_CUDA_WITH_LOOKUP
int cuGetProcAddress(const char *name, void **out, int version, unsigned long long flags) {
  (void)name;
  (void)version;
  (void)flags;
  *out = 0;
  return 500;
}
#endif
