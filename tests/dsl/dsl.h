/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file dsl.h
 * \brief What the tests of real compilers' artifacts share: artifacts of build/artifacts, or a skip.
 */
#ifndef PEGA_TESTS_DSL_DSL_H_
#define PEGA_TESTS_DSL_DSL_H_

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h asks for the four above to be there before it. */
#include <cmocka.h>

#include <pega/artifact.h>
#include <pega/pega.h>
#include <pega/tvm_ffi.h>

/**
 * What a program ends with that lacks something: 77, having said which command makes it. 1 where
 * PEGA_EXPECT_ARTIFACTS=1 says that the command was run: then it is a failure.
 */
int dsl_missing(const char *what, const char *made_by);
/** The same for an artifact that was not built; 0 for one that was. */
int dsl_need(const char *file, const char *made_by);

/** Full path of a file of build/artifacts, or of $PEGA_TEST_ARTIFACTS; in one of eight buffers. */
const char *dsl_path(const char *file);

/** Adds the loader of TVM FFI modules, with this runtime library (NULL: found as always). */
pega_status dsl_add_loader(const char *library, pega_error *error);

/** Opens an artifact with one folder given to search in, or none for NULL. */
pega_status dsl_open(const char *file, const char *folder, pega_artifact **out, pega_error *error);

/** A contiguous CPU tensor on the stack. */
typedef struct dsl_tensor {
  DLTensor tensor;
  int64_t shape[4];
  int64_t strides[4];
} dsl_tensor;

/** Describes memory as a contiguous tensor of up to four sizes; a size of -1 ends them. */
void dsl_tensor_init(dsl_tensor *out, void *data, DLDataType dtype, int64_t size0, int64_t size1);

#define DSL_FLOAT32 ((DLDataType){kDLFloat, 32, 1})
#define DSL_FLOAT64 ((DLDataType){kDLFloat, 64, 1})
#define DSL_FLOAT16 ((DLDataType){kDLFloat, 16, 1})
#define DSL_BFLOAT16 ((DLDataType){kDLBfloat, 16, 1})

/** The value of a tensor. */
#define T(name) pega_value_tensor(&(name).tensor)

/** Calls a function with the values listed. */
#define DSL_CALL(function, ...)                                                                 \
  pega_function_call(function, (pega_value[]){__VA_ARGS__},                                     \
                     (int32_t)(sizeof((pega_value[]){__VA_ARGS__}) / sizeof(pega_value)), NULL, \
                     &error)
/** The call succeeds; if not, the test fails with the error's text. */
#define DSL_OK(call) dsl_expect(call, PEGA_OK, &error, NULL, #call, __FILE__, __LINE__)
/** The call fails with this status, and its text holds all that follows. */
#define DSL_FAILURE(status, call, ...)                                                        \
  dsl_expect(call, status, &error, (const char *const[]){__VA_ARGS__, NULL}, #call, __FILE__, \
             __LINE__)

void dsl_expect(pega_status got, pega_status expected, const pega_error *error,
                const char *const *needles, const char *call, const char *file, int line);

/** A number between -1 and 1 that depends on the seed alone. */
float dsl_random(uint64_t *seed);

#endif /* PEGA_TESTS_DSL_DSL_H_ */
