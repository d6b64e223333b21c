/* SPDX-License-Identifier: Apache-2.0 */
#include "driver.h"

#include <dlfcn.h>
#include <string.h>

driver cu;

bool driver_open(void **library) {
  *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (*library == NULL) return false;
  void *found;
#define DRIVER_FIND_(symbol, name, version, needs, parameters) \
  found = dlsym(*library, #symbol);                            \
  memcpy(&cu.symbol, &found, sizeof found);
  FAKE_ENTRIES(DRIVER_FIND_)
#undef DRIVER_FIND_
  return true;
}
