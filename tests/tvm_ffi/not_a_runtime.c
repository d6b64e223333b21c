/* SPDX-License-Identifier: Apache-2.0 */
/* A shared library like any other: no TVM FFI runtime, no TVM FFI module. */
__attribute__((visibility("default"))) int not_a_runtime(void);
int not_a_runtime(void) { return 1; }
