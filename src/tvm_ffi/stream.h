/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PEGA_TVM_FFI_STREAM_H_
#define PEGA_TVM_FFI_STREAM_H_

#include "runtime.h"

/* Makes TVM FFI's environment the place where the current streams of this process are kept. */
void tvm_ffi_install_streams(pega_tvm_ffi *runtime);

#endif /* PEGA_TVM_FFI_STREAM_H_ */
