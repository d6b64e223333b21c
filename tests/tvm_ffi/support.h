/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file support.h
 * \brief What the tests of the bridge share: an open runtime and fixture, calls, checks on text.
 */
#ifndef PEGA_TESTS_TVM_FFI_SUPPORT_H_
#define PEGA_TESTS_TVM_FFI_SUPPORT_H_

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h asks for the four above to be there before it. */
#include <cmocka.h>

#include <pega/pega.h>
#include <pega/tvm_ffi.h>
#include <tvm/ffi/c_api.h>

/** The runtime and the fixture module of this process, opened by support_open(). */
extern pega_tvm_ffi *support_runtime;
extern pega_tvm_ffi_module *support_fixture;

/** Group setup and teardown of every program that needs a runtime and the fixture. */
int support_open(void **state);
int support_close(void **state);

/** A fixture function by name; the test fails if there is none. Owned. */
pega_function *support_get(const char *name);
/** Calls a fixture function by name. */
pega_status support_call(const char *name, const pega_value *args, int32_t num_args,
                         pega_value *result, pega_error *error);
/** Result of a fixture function without arguments that returns an integer. */
int64_t support_counter(const char *name);
/** Address of a symbol of the runtime, NULL if it has none. */
void *support_symbol(const char *name);

#define SUPPORT_COUNT(array) ((int32_t)(sizeof(array) / sizeof((array)[0])))
/** Calls a function with the values listed, at least one. A pega_error `error` is in scope. */
#define CALL(function, result, ...)                         \
  pega_function_call(function, (pega_value[]){__VA_ARGS__}, \
                     SUPPORT_COUNT(((pega_value[]){__VA_ARGS__})), result, &error)
/** The same for a fixture function by name. */
#define CALL_FIXTURE(name, result, ...)                                                         \
  support_call(name, (pega_value[]){__VA_ARGS__}, SUPPORT_COUNT(((pega_value[]){__VA_ARGS__})), \
               result, &error)
/** And without arguments. */
#define CALL_FIXTURE0(name, result) support_call(name, NULL, 0, result, &error)

#define INT(value) pega_value_int(value)
#define TEXT(value) pega_value_string(value)

/** The call succeeds; if not, the test fails with the error's text. */
#define EXPECT_OK(call) support_expect(call, PEGA_OK, &error, #call, __FILE__, __LINE__)
/** The call fails with this status, its text holds all that follows; the error stays filled. */
#define EXPECT_FAILURE(expected, call, ...)                                                        \
  do {                                                                                             \
    support_expect(call, expected, &error, #call, __FILE__, __LINE__);                             \
    const char *const needles_[] = {__VA_ARGS__};                                                  \
    support_expect_all(pega_error_message(&error), needles_, sizeof needles_ / sizeof needles_[0], \
                       __FILE__, __LINE__);                                                        \
  } while (0)
#define EXPECT_TEXT(text, needle) support_expect_text(text, needle, true, __FILE__, __LINE__)
#define EXPECT_NO_TEXT(text, needle) support_expect_text(text, needle, false, __FILE__, __LINE__)
/** A value is this integer; the value is released. */
#define EXPECT_INT(value, expected) support_expect_int(value, expected, __FILE__, __LINE__)
/** A value is this string; the value is released. */
#define EXPECT_STRING(value, expected) support_expect_string(value, expected, __FILE__, __LINE__)

void support_expect(pega_status got, pega_status expected, pega_error *error, const char *call,
                    const char *file, int line);
void support_expect_all(const char *text, const char *const *needles, size_t count,
                        const char *file, int line);
void support_expect_text(const char *text, const char *needle, bool present, const char *file,
                         int line);
void support_expect_int(pega_value *value, int64_t expected, const char *file, int line);
void support_expect_string(pega_value *value, const char *expected, const char *file, int line);

/** A float32 vector on the stack that nobody counts. */
typedef struct support_vector {
  DLTensor tensor;
  int64_t shape[1];
  int64_t strides[1];
  float data[16];
} support_vector;

/** Fills a vector with `start`, start + 1, ... */
void support_vector_init(support_vector *vector, int64_t length, float start);
/** A counted tensor of the same kind; `deleted`, if given, grows when it is gone. */
pega_value support_tensor_create(int64_t length, float start, int *deleted);

/** Makes a pega function; the test fails if that fails. `deleter` counts in *(int *)self. */
pega_function *support_function(const char *name, const pega_signature *signature, pega_call call,
                                void *self);
/** The same with a deleter. */
pega_function *support_function_with_deleter(const char *name, pega_call call, void *self,
                                             void (*deleter)(void *self));

/** Bytes that the process has allocated and not freed, whoever keeps the books. */
int64_t support_allocated_bytes(void);

#endif /* PEGA_TESTS_TVM_FFI_SUPPORT_H_ */
