/* SPDX-License-Identifier: Apache-2.0 */
/** What the tests of libpega_cublas share. FAKE_FOLDER holds the fake libraries. */
#ifndef PEGA_TESTS_CUBLAS_SUPPORT_CUBLAS_H_
#define PEGA_TESTS_CUBLAS_SUPPORT_CUBLAS_H_

#include <pega/cublas.h>

#include "../cuda/machine.h"
#include "fake_cublas.h"
#include "numbers.h"

#define FAKE_CONSTRUCTOR FAKE_FOLDER "/bad/fake_constructor.so"
#define FAKE_12 FAKE_FOLDER "/search/libcublas.so.12"
#define FAKE_11 FAKE_FOLDER "/search/libcublas.so.11"

/** Opens the driver's model and a fake cuBLAS, whose state is returned; the test fails if it cannot. */
fake_cublas *cublas_start(const char *machine, const char *library, uint64_t workspace_bytes);
/** No misuse was seen. */
void cublas_expect_clean(const fake_cublas *state);
/** `pegainfer.cublas.gemm`, owned. */
pega_function *cublas_function(void);

#define FLOAT16 DTYPE(kDLFloat, 16, 1)
/** The number of cudaDataType. */
int cublas_type(DLDataType dtype);

#endif /* PEGA_TESTS_CUBLAS_SUPPORT_CUBLAS_H_ */
