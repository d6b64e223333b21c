/* SPDX-License-Identifier: Apache-2.0 */
/* The two functions that translate errors, one for each direction. */
#ifndef PEGA_TVM_FFI_ERROR_H_
#define PEGA_TVM_FFI_ERROR_H_

#include "runtime.h"

/* What a TVM FFI function returns when the error is pending in the frontend language. */
enum { kTvmFfiFrontendError = -2 };

/* Moves the error that `code` tells of out of TVM FFI's slot into `error` (NULL drops it). `what` is
 * the function that failed. Returns PEGA_ERROR_CALLEE. */
pega_status tvm_ffi_error_take(pega_tvm_ffi *runtime, const char *what, int code,
                               pega_error *error);

/* Raises a pega error in TVM FFI's slot and returns what the TVM FFI function is to return. */
int tvm_ffi_error_raise(pega_tvm_ffi *runtime, pega_error *error);

#endif /* PEGA_TVM_FFI_ERROR_H_ */
