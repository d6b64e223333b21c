/* SPDX-License-Identifier: Apache-2.0 */
/* Foreign code that does all kinds of things to the current CUDA context. */
#include <stddef.h>

int cuCtxGetCurrent(void **context);
int cuCtxSetCurrent(void *context);
int cuCtxPushCurrent_v2(void *context);
int cuCtxPopCurrent_v2(void **context);
int cuCtxDestroy_v2(void *context);
int cuDevicePrimaryCtxRetain(void **context, int device);

int test_module_well_behaved(void);
int test_module_sets(void);
int test_module_pushes(void);
int test_module_pushes_twice(void);
int test_module_pops(void);
int test_module_destroys(void);
int test_module_fails_and_pushes(void);
int test_module_fails_and_pops(void);

static void *primary(int device) {
  void *context = NULL;
  cuDevicePrimaryCtxRetain(&context, device);
  return context;
}

int test_module_well_behaved(void) {
  void *popped;
  if (cuCtxPushCurrent_v2(primary(1)) != 0) return 1;
  return cuCtxPopCurrent_v2(&popped);
}
int test_module_nothing(void);
int test_module_nothing(void) { return 0; }
int test_module_sets(void) { return cuCtxSetCurrent(primary(1)); }
int test_module_pushes(void) { return cuCtxPushCurrent_v2(primary(1)); }
int test_module_pushes_twice(void) {
  return cuCtxPushCurrent_v2(primary(1)) + cuCtxPushCurrent_v2(primary(0));
}
int test_module_pops(void) {
  void *popped;
  return cuCtxPopCurrent_v2(&popped);
}
int test_module_destroys(void) {
  void *context;
  cuCtxGetCurrent(&context);
  return cuCtxDestroy_v2(context);
}
int test_module_fails_and_pushes(void) {
  cuCtxPushCurrent_v2(primary(1));
  return 5;
}
int test_module_fails_and_pops(void) {
  void *popped;
  cuCtxPopCurrent_v2(&popped);
  return 5;
}
