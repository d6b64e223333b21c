/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <pega/tvm_ffi.h>
#include <stdlib.h>
#include <tvm/ffi/c_api.h>

enum { NUM_ARGS = 5 };

/* One row: through whom, whose function, with which arguments. */
typedef struct row_self {
  bench_foreign *owner;
  TVMFFIObjectHandle handle; /* foreign rows */
  const TVMFFIAny *any_args;
  pega_function *function; /* imported rows */
  const pega_value *args;
} row_self;

struct bench_foreign {
  pega_tvm_ffi *runtime;
  int (*create)(void *self, TVMFFISafeCallType call, void (*deleter)(void *self),
                TVMFFIObjectHandle *out);
  int (*call)(TVMFFIObjectHandle function, TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);
  int (*release)(TVMFFIObjectHandle object);
  TVMFFIObjectHandle no_op;
  TVMFFIObjectHandle ints; /* pega functions, exported */
  TVMFFIObjectHandle tensors;
  pega_function *imported; /* no_op, imported */
  TVMFFIAny any_ints[NUM_ARGS];
  TVMFFIAny any_tensors[NUM_ARGS];
  pega_value int_values[NUM_ARGS];
  pega_value tensor_values[NUM_ARGS];
  row_self rows[BENCH_EXPORTED_CALL_TENSORS + 1];
};

static int no_op(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  (void)result;
  return 0;
}

static pega_status foreign_batch(void *self, int32_t calls, pega_error *error) {
  const row_self *row = self;
  int (*const call)(TVMFFIObjectHandle, TVMFFIAny *, int32_t, TVMFFIAny *) = row->owner->call;
  const TVMFFIObjectHandle handle = row->handle;
  TVMFFIAny args[NUM_ARGS];
  memcpy(args, row->any_args, sizeof args);
  for (int32_t i = 0; i < calls; ++i) {
    TVMFFIAny result;
    result.type_index = kTVMFFINone;
    result.zero_padding = 0;
    result.v_int64 = 0;
    if (call(handle, args, NUM_ARGS, &result) != 0) {
      return pega_error_set(error, PEGA_ERROR_CALLEE, NULL, "TVMFFIFunctionCall fails");
    }
  }
  return PEGA_OK;
}

static pega_status imported_batch(void *self, int32_t calls, pega_error *error) {
  const row_self *row = self;
  pega_status status = PEGA_OK;
  for (int32_t i = 0; i < calls && status == PEGA_OK; ++i) {
    pega_value result;
    status = pega_function_call(row->function, row->args, NUM_ARGS, &result, error);
  }
  return status;
}

static pega_status get_symbol(bench_foreign *self, const char *name, void *out, pega_error *error) {
  void *address = NULL;
  const pega_status status = pega_tvm_ffi_symbol(self->runtime, name, &address, error);
  if (status == PEGA_OK) memcpy(out, &address, sizeof address);
  return status;
}

static pega_status make_functions(bench_foreign *self, const char *library, pega_function *ints,
                                  pega_function *tensors, pega_error *error) {
  pega_tvm_ffi_options options = PEGA_TVM_FFI_OPTIONS_INIT;
  options.library_path = library;
  pega_status status = pega_tvm_ffi_open(&options, &self->runtime, error);
  if (status == PEGA_OK) status = get_symbol(self, "TVMFFIFunctionCreate", &self->create, error);
  if (status == PEGA_OK) status = get_symbol(self, "TVMFFIFunctionCall", &self->call, error);
  if (status == PEGA_OK) status = get_symbol(self, "TVMFFIObjectDecRef", &self->release, error);
  if (status == PEGA_OK && self->create(NULL, no_op, NULL, &self->no_op) != 0) {
    status = pega_error_set(error, PEGA_ERROR_CALLEE, NULL, "TVMFFIFunctionCreate fails");
  }
  if (status == PEGA_OK) {
    status = pega_tvm_ffi_function_from_handle(self->runtime, self->no_op, "bench.no_op",
                                               &self->imported, error);
  }
  if (status == PEGA_OK) {
    status = pega_tvm_ffi_function_to_handle(self->runtime, ints, &self->ints, error);
  }
  if (status == PEGA_OK) {
    status = pega_tvm_ffi_function_to_handle(self->runtime, tensors, &self->tensors, error);
  }
  return status;
}

static void set_row(bench_foreign *self, int which, bool tensors, TVMFFIObjectHandle handle,
                    pega_function *function) {
  row_self *row = &self->rows[which];
  row->owner = self;
  row->handle = handle;
  row->function = function;
  row->any_args = tensors ? self->any_tensors : self->any_ints;
  row->args = tensors ? self->tensor_values : self->int_values;
}

pega_status bench_foreign_open(const char *library, pega_function *ints, pega_function *tensors,
                               DLTensor *args, bench_foreign **out, pega_error *error) {
  bench_foreign *self = calloc(1, sizeof *self);
  if (self == NULL) return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "out of memory");
  const pega_status status = make_functions(self, library, ints, tensors, error);
  if (status != PEGA_OK) {
    bench_foreign_close(self);
    return status;
  }
  for (int i = 0; i < NUM_ARGS; ++i) {
    self->any_ints[i].type_index = kTVMFFIInt;
    self->any_ints[i].v_int64 = i;
    self->any_tensors[i].type_index = kTVMFFIDLTensorPtr;
    self->any_tensors[i].v_ptr = &args[i];
    self->int_values[i] = pega_value_int(i);
    self->tensor_values[i] = pega_value_tensor(&args[i]);
  }
  set_row(self, BENCH_FOREIGN_CALL, false, self->no_op, NULL);
  set_row(self, BENCH_FOREIGN_CALL_TENSORS, true, self->no_op, NULL);
  set_row(self, BENCH_IMPORTED_CALL, false, NULL, self->imported);
  set_row(self, BENCH_IMPORTED_CALL_TENSORS, true, NULL, self->imported);
  set_row(self, BENCH_EXPORTED_CALL, false, self->ints, NULL);
  set_row(self, BENCH_EXPORTED_CALL_TENSORS, true, self->tensors, NULL);
  *out = self;
  return PEGA_OK;
}

void bench_foreign_close(bench_foreign *self) {
  if (self == NULL) return;
  pega_function_release(self->imported);
  if (self->tensors != NULL) (void)self->release(self->tensors);
  if (self->ints != NULL) (void)self->release(self->ints);
  if (self->no_op != NULL) (void)self->release(self->no_op);
  pega_tvm_ffi_close(self->runtime);
  free(self);
}

static void fill_row(bench_foreign *self, int which, bool imported, bench_row *row) {
  if (self == NULL) return;
  row->batch = imported ? imported_batch : foreign_batch;
  row->self = &self->rows[which];
}

void bench_foreign_row(bench_foreign *self, int which, bench_row *row) {
  const bool imported = which == BENCH_IMPORTED_CALL || which == BENCH_IMPORTED_CALL_TENSORS;
  const bool exported = which == BENCH_EXPORTED_CALL || which == BENCH_EXPORTED_CALL_TENSORS;
  row->name = imported   ? "TVM FFI function through libpega"
              : exported ? "pega function from TVM FFI, signature checked"
                         : "TVM FFI function from TVM FFI";
  if (!imported && !exported) row->by = "tvm-ffi";
  fill_row(self, which, imported, row);
}
