/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An artifact that needs another library's function, as DSL artifacts need their DSL's runtime, and,
 * with FIXTURE_PROVIDER, the library that has it.
 */
#include "fixture.h"

TVM_FFI_DLL int fixture_provided(void);

#ifdef FIXTURE_PROVIDER
int fixture_provided(void) { return 5; }
#else
FIXTURE_EXPORT(call_provided) {
  fixture_return_int(result, fixture_provided());
  return 0;
}
#endif
