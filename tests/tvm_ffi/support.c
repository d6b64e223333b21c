/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

pega_tvm_ffi *support_runtime;
pega_tvm_ffi_module *support_fixture;

int support_open(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  if (pega_tvm_ffi_open(NULL, &support_runtime, &error) != PEGA_OK ||
      pega_tvm_ffi_module_open(support_runtime, PEGA_TEST_FIXTURE, &support_fixture, &error) !=
          PEGA_OK) {
    print_error("%s\n", pega_error_message(&error));
    pega_error_clear(&error);
    return -1;
  }
  pega_tvm_ffi_info info = {.struct_size = sizeof info};
  if (pega_tvm_ffi_describe(support_runtime, &info, &error) != PEGA_OK) return -1;
  print_message("runtime: %s, which reports %u.%u.%u\n", info.path, info.major, info.minor,
                info.patch);
  return 0;
}

int support_close(void **state) {
  (void)state;
  pega_tvm_ffi_module_close(support_fixture);
  pega_tvm_ffi_close(support_runtime);
  return 0;
}

pega_function *support_get(const char *name) {
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function = NULL;
  EXPECT_OK(pega_tvm_ffi_module_get(support_fixture, name, &function, &error));
  assert_non_null(function);
  return function;
}

pega_status support_call(const char *name, const pega_value *args, int32_t num_args,
                         pega_value *result, pega_error *error) {
  pega_function *function = support_get(name);
  pega_status status = pega_function_call(function, args, num_args, result, error);
  pega_function_release(function);
  return status;
}

int64_t support_counter(const char *name) {
  pega_error error = PEGA_ERROR_INIT;
  pega_value result = pega_value_none();
  EXPECT_OK(CALL_FIXTURE0(name, &result));
  assert_int_equal(result.kind, PEGA_INT);
  return result.as.i64;
}

void *support_symbol(const char *name) {
  void *address = NULL;
  return pega_tvm_ffi_symbol(support_runtime, name, &address, NULL) == PEGA_OK ? address : NULL;
}

void support_expect(pega_status got, pega_status expected, pega_error *error, const char *call,
                    const char *file, int line) {
  if (got != expected) {
    print_error("%s\n  expected %s, got %s: %s\n", call, pega_status_name(expected),
                pega_status_name(got), error == NULL ? "" : pega_error_message(error));
    _fail(file, line);
  }
  if (got == PEGA_OK) return;
  if (error->status != (int32_t)got || pega_error_message(error)[0] == '\0' ||
      pega_error_kind(error)[0] == '\0') {
    print_error("%s\n  failed with %s, but its error says status %s, kind '%s', message '%s'\n",
                call, pega_status_name(got), pega_status_name((pega_status)error->status),
                pega_error_kind(error), pega_error_message(error));
    _fail(file, line);
  }
}

void support_expect_text(const char *text, const char *needle, bool present, const char *file,
                         int line) {
  if ((strstr(text, needle) != NULL) == present) return;
  print_error("the text\n  %s\n%s\n  %s\n", text, present ? "lacks" : "should not hold", needle);
  _fail(file, line);
}

void support_expect_all(const char *text, const char *const *needles, size_t count,
                        const char *file, int line) {
  for (size_t i = 0; i < count; i++) support_expect_text(text, needles[i], true, file, line);
}

void support_expect_int(pega_value *value, int64_t expected, const char *file, int line) {
  if (value->kind != PEGA_INT || value->as.i64 != expected) {
    char text[256];
    pega_value_format(value, text, sizeof text);
    print_error("expected %" PRId64 ", got %s (%s)\n", expected, text, pega_kind_name(value->kind));
    _fail(file, line);
  }
  pega_value_release(value);
}

void support_expect_string(pega_value *value, const char *expected, const char *file, int line) {
  size_t size = 0;
  const char *text = pega_value_as_string(value, &size);
  if (text == NULL || size != strlen(expected) || memcmp(text, expected, size) != 0) {
    char shown[256];
    pega_value_format(value, shown, sizeof shown);
    print_error("expected \"%s\", got %s (%s)\n", expected, shown, pega_kind_name(value->kind));
    _fail(file, line);
  }
  pega_value_release(value);
}

void support_vector_init(support_vector *vector, int64_t length, float start) {
  assert_true(length <= SUPPORT_COUNT(vector->data));
  memset(vector, 0, sizeof *vector);
  for (int64_t i = 0; i < length; i++) vector->data[i] = start + (float)i;
  vector->shape[0] = length;
  vector->strides[0] = 1;
  vector->tensor.data = vector->data;
  vector->tensor.device.device_type = kDLCPU;
  vector->tensor.ndim = 1;
  vector->tensor.dtype.code = kDLFloat;
  vector->tensor.dtype.bits = 32;
  vector->tensor.dtype.lanes = 1;
  vector->tensor.shape = vector->shape;
  vector->tensor.strides = vector->strides;
}

struct managed_vector {
  DLManagedTensor managed;
  support_vector vector;
  int *deleted;
};

static void delete_managed_vector(DLManagedTensor *self) {
  struct managed_vector *managed = (struct managed_vector *)self;
  if (managed->deleted != NULL) __atomic_add_fetch(managed->deleted, 1, __ATOMIC_RELAXED);
  free(managed);
}

pega_value support_tensor_create(int64_t length, float start, int *deleted) {
  pega_error error = PEGA_ERROR_INIT;
  pega_value value = pega_value_none();
  struct managed_vector *managed = calloc(1, sizeof *managed);
  assert_non_null(managed);
  support_vector_init(&managed->vector, length, start);
  managed->managed.dl_tensor = managed->vector.tensor;
  managed->managed.deleter = delete_managed_vector;
  managed->deleted = deleted;
  EXPECT_OK(pega_tensor_from_dlpack(&managed->managed, &value, &error));
  return value;
}

static pega_function *make_function(const char *name, const pega_signature *signature,
                                    pega_call call, void *self, void (*deleter)(void *self)) {
  pega_error error = PEGA_ERROR_INIT;
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  options.name = name;
  options.signature = signature;
  options.call = call;
  options.self = self;
  options.deleter = deleter;
  pega_function *function = NULL;
  EXPECT_OK(pega_function_create(&options, &function, &error));
  assert_non_null(function);
  return function;
}

pega_function *support_function(const char *name, const pega_signature *signature, pega_call call,
                                void *self) {
  return make_function(name, signature, call, self, NULL);
}

pega_function *support_function_with_deleter(const char *name, pega_call call, void *self,
                                             void (*deleter)(void *self)) {
  return make_function(name, NULL, call, self, deleter);
}

/* The sanitizers bring their own allocator and keep their own books. */
size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

int64_t support_allocated_bytes(void) {
  if (__sanitizer_get_current_allocated_bytes != NULL) {
    return (int64_t)__sanitizer_get_current_allocated_bytes();
  }
#if __GLIBC_PREREQ(2, 33)
  struct mallinfo2 info = mallinfo2();
  return (int64_t)(info.uordblks + info.hblkhd);
#else
  struct mallinfo info = mallinfo();
  return (int64_t)(unsigned)info.uordblks + (int64_t)(unsigned)info.hblkhd;
#endif
}
