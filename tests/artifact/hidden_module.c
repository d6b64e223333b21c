/* SPDX-License-Identifier: Apache-2.0 */
/* Foreign code that finds the driver by itself and changes the current context: when it is called, or
 * (WHEN_LOADED) when it is loaded. */
#include <dlfcn.h>
#include <stddef.h>

int test_module_sets(void);

static int set(void) {
  void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  int (*retain)(void **context, int device) = NULL;
  int (*set_current)(void *context) = NULL;
  void *context = NULL;
  if (driver == NULL) return 1;
  *(void **)&retain = dlsym(driver, "cuDevicePrimaryCtxRetain");
  *(void **)&set_current = dlsym(driver, "cuCtxSetCurrent");
  if (retain == NULL || set_current == NULL || retain(&context, 1) != 0) return 2;
  return set_current(context);
}

int test_module_sets(void) { return set(); }

#ifdef WHEN_LOADED
__attribute__((constructor)) static void when_loaded(void) { set(); }
#endif
