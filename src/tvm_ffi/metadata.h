/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PEGA_TVM_FFI_METADATA_H_
#define PEGA_TVM_FFI_METADATA_H_

#include "runtime.h"

/* JSON with TVM FFI's own "type_schema" and pega's richer signature beside it. The doc is in it too:
 * TVM FFI keeps docs of globals, but has no function that gives one back. On the heap; NULL without
 * memory. */
char *tvm_ffi_metadata(const pega_tvm_ffi *runtime, const pega_function *function);

#endif /* PEGA_TVM_FFI_METADATA_H_ */
