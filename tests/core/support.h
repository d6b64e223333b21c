/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file support.h
 * \brief What the tests of the core share: checks on statuses and texts, tensors, functions.
 */
#ifndef PEGA_TESTS_CORE_SUPPORT_H_
#define PEGA_TESTS_CORE_SUPPORT_H_

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h asks for the four above to be there before it. */
#include <cmocka.h>

#include <pega/pega.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SUPPORT_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
#define SUPPORT_SANITIZED 1
#endif
#endif
#ifndef SUPPORT_SANITIZED
#define SUPPORT_SANITIZED 0
#endif

/** Exit status of a program whose tests cannot run here; its output says why after "SKIP:". */
#define SUPPORT_SKIP 77

/** Functions that the library has of its own. */
enum { NUM_BUILTINS = 20 };

#define COUNT(array) ((int32_t)(sizeof(array) / sizeof((array)[0])))

/** The call succeeds; if not, the test fails with the error's text. */
#define EXPECT_OK(call, error) support_expect_ok(call, error, #call, __FILE__, __LINE__)

/** The call fails with this status, and the error's text holds every string that follows. */
#define EXPECT_ERROR(call, error, expected, ...)                                            \
  do {                                                                                      \
    const char *const needles_[] = {__VA_ARGS__};                                           \
    const pega_status got_ = (call);                                                        \
    support_expect_error(got_, error, expected, needles_, COUNT(needles_), #call, __FILE__, \
                         __LINE__);                                                         \
  } while (0)

#define EXPECT_TEXT(text, needle) support_expect_text(text, needle, true, __FILE__, __LINE__)
#define EXPECT_NO_TEXT(text, needle) support_expect_text(text, needle, false, __FILE__, __LINE__)

void support_expect_ok(pega_status got, const pega_error *error, const char *call, const char *file,
                       int line);
void support_expect_error(pega_status got, const pega_error *error, pega_status expected,
                          const char *const *needles, int32_t num_needles, const char *call,
                          const char *file, int line);
void support_expect_text(const char *text, const char *needle, bool present, const char *file,
                         int line);

#define DTYPE(code, bits, lanes) ((DLDataType){code, bits, lanes})
#define FLOAT32 DTYPE(kDLFloat, 32, 1)
#define BFLOAT16 DTYPE(kDLBfloat, 16, 1)
#define INT64 DTYPE(kDLInt, 64, 1)
#define DEVICE(type, id) ((DLDevice){type, id})
#define CPU DEVICE(kDLCPU, 0)

#define SHAPE(...) ((int64_t[]){__VA_ARGS__})
/** A row-major CPU tensor of the sizes that follow. The shape lives as long as the block. */
#define TENSOR(data_, dtype_, ...)               \
  ((DLTensor){.data = (data_),                   \
              .device = CPU,                     \
              .ndim = COUNT(SHAPE(__VA_ARGS__)), \
              .dtype = dtype_,                   \
              .shape = SHAPE(__VA_ARGS__)})

/** Arguments for pega_function_call(): the values, and how many they are. */
#define ARGS(...) ((const pega_value[]){__VA_ARGS__}), COUNT(((const pega_value[]){__VA_ARGS__}))

/** A call that does nothing and succeeds. */
pega_status support_no_op(void *self, const pega_value *args, int32_t num_args, pega_value *result,
                          pega_error *error);

/** Options of a function with these parameters (none: no signature). `signature` keeps them. */
pega_function_options support_options(const char *name, pega_signature *signature,
                                      const pega_param *params, int32_t num_params);

/** A function that does nothing, with these parameters; the test fails if there is none. Owned. */
pega_function *support_function(const char *name, const pega_param *params, int32_t num_params,
                                uint32_t signature_flags);

/** A counter that a release function or deleter, given its address, adds 1 to. */
typedef struct support_counter {
  _Atomic int count;
} support_counter;
void support_count(void *counter);

#endif /* PEGA_TESTS_CORE_SUPPORT_H_ */
