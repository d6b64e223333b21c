/* SPDX-License-Identifier: Apache-2.0 */
/* Uses the bridge as far as it goes without a TVM FFI runtime: there may be none on the machine. */
#include <pega/tvm_ffi.h>
#include <stdio.h>

int main(void) {
  pega_error error = PEGA_ERROR_INIT;
  pega_value report = pega_value_none();
  pega_tvm_ffi *runtime = NULL;
  pega_tvm_ffi_options options = PEGA_TVM_FFI_OPTIONS_INIT;
  options.library_path = "/nowhere/libtvm_ffi.so";
  const pega_status opened = pega_tvm_ffi_open(&options, &runtime, &error);
  const pega_status reported = pega_tvm_ffi_search_report(&options, &report, &error);
  pega_tvm_ffi_close(runtime);
  pega_value_release(&report);
  pega_error_clear(&error);
  if (opened == PEGA_OK || reported != PEGA_OK) return 1;
  printf("consumer of the bridge of pega %s: ok\n", pega_version_string());
  return 0;
}
