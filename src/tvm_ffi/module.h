/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PEGA_TVM_FFI_MODULE_H_
#define PEGA_TVM_FFI_MODULE_H_

/* The function that a module exports as `symbol`, or NULL if that is none. */
const char *tvm_ffi_function_of_symbol(const char *symbol);

#endif /* PEGA_TVM_FFI_MODULE_H_ */
