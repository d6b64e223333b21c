/* SPDX-License-Identifier: Apache-2.0 */
/* ns per call of a no-op through each boundary. */
#include "bench.h"

enum { DEFAULT_BATCHES = 300, QUICK_BATCHES = 3, CALLS = 1000, NUM_ARGS = 5, SIZE = 8 };

static pega_status no_op(void *self, const pega_value *args, int32_t num_args, pega_value *result,
                         pega_error *error) {
  (void)self;
  (void)args;
  (void)num_args;
  (void)result;
  (void)error;
  return PEGA_OK;
}

/* A native function and what it is called with. */
typedef struct native {
  pega_function *function;
  pega_value args[NUM_ARGS];
} native;

static pega_status native_batch(void *self, int32_t calls, pega_error *error) {
  const native *one = self;
  pega_status status = PEGA_OK;
  for (int32_t i = 0; i < calls && status == PEGA_OK; ++i) {
    pega_value result;
    status = pega_function_call(one->function, one->args, NUM_ARGS, &result, error);
  }
  return status;
}

static const char *const NAMES[NUM_ARGS] = {"a", "b", "c", "d", "e"};

/* A no-op whose five parameters are like `param`, or that takes anything. */
static pega_status make_no_op(const char *name, const pega_param *param, pega_function **out,
                              pega_error *error) {
  pega_param params[NUM_ARGS];
  pega_signature signature = PEGA_SIGNATURE_INIT;
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  for (int i = 0; param != NULL && i < NUM_ARGS; ++i) {
    params[i] = *param;
    params[i].name = NAMES[i];
  }
  signature.params = params;
  signature.num_params = NUM_ARGS;
  options.name = name;
  options.call = no_op;
  options.signature = param == NULL ? NULL : &signature;
  return pega_function_create(&options, out, error);
}

/* The functions and arguments that all rows share. */
typedef struct fixture {
  pega_function *ints;
  pega_function *tensors;
  pega_function *anything;
  float data[SIZE][SIZE];
  int64_t shape[2];
  DLTensor views[NUM_ARGS];
  native ints_checked;
  native ints_unchecked;
  native tensors_checked;
  native tensors_unchecked;
} fixture;

static pega_status fixture_make(fixture *self, pega_error *error) {
  pega_param number;
  pega_param tensor;
  memset(&number, 0, sizeof number);
  number.type = PEGA_TYPE_INT;
  number.flags = PEGA_PARAM_RANGE;
  number.min = 0;
  number.max = INT32_MAX;
  memset(&tensor, 0, sizeof tensor);
  tensor.type = PEGA_TYPE_TENSOR;
  tensor.flags = PEGA_PARAM_CONTIGUOUS;
  tensor.dtype = (DLDataType){kDLFloat, 32, 1};
  tensor.device_type = kDLCPU;
  tensor.shape = "M, N";
  pega_status status = make_no_op("pega.bench.ints", &number, &self->ints, error);
  if (status == PEGA_OK) status = make_no_op("pega.bench.tensors", &tensor, &self->tensors, error);
  if (status == PEGA_OK) status = make_no_op("pega.bench.anything", NULL, &self->anything, error);
  self->ints_checked.function = self->ints;
  self->tensors_checked.function = self->tensors;
  self->ints_unchecked.function = self->anything;
  self->tensors_unchecked.function = self->anything;
  self->shape[0] = SIZE;
  self->shape[1] = SIZE;
  for (int i = 0; i < NUM_ARGS; ++i) {
    DLTensor *view = &self->views[i];
    view->data = self->data;
    view->device.device_type = kDLCPU;
    view->ndim = 2;
    view->dtype = tensor.dtype;
    view->shape = self->shape;
    self->ints_checked.args[i] = pega_value_int(i);
    self->ints_unchecked.args[i] = pega_value_int(i);
    self->tensors_checked.args[i] = pega_value_tensor(view);
    self->tensors_unchecked.args[i] = pega_value_tensor(view);
  }
  return status;
}

static void fixture_clear(fixture *self) {
  pega_function_release(self->ints);
  pega_function_release(self->tensors);
  pega_function_release(self->anything);
}

#define INTS "five ints"
#define TENSORS "five tensors"

/* The table of the benchmark: in each group what the others are compared with comes first. */
static const struct {
  const char *group;
  const char *name; /* of a native row; NULL: bench_foreign_row() says it */
  int foreign;      /* number of a foreign row */
  size_t native;    /* offset of a native one in fixture */
} ROWS[] = {
    {INTS, NULL, BENCH_FOREIGN_CALL, 0},
    {INTS, NULL, BENCH_IMPORTED_CALL, 0},
    {INTS, "pega function, signature checked", 0, offsetof(fixture, ints_checked)},
    {INTS, "pega function, no signature", 0, offsetof(fixture, ints_unchecked)},
    {INTS, NULL, BENCH_EXPORTED_CALL, 0},
    {TENSORS, NULL, BENCH_FOREIGN_CALL_TENSORS, 0},
    {TENSORS, NULL, BENCH_IMPORTED_CALL_TENSORS, 0},
    {TENSORS, "pega function, signature checked", 0, offsetof(fixture, tensors_checked)},
    {TENSORS, "pega function, no signature", 0, offsetof(fixture, tensors_unchecked)},
    {TENSORS, NULL, BENCH_EXPORTED_CALL_TENSORS, 0},
};
enum { NUM_ROWS = sizeof ROWS / sizeof ROWS[0] };

pega_status bench_call(bench_run *run, pega_error *error) {
  const cli_options *options = run->options;
  fixture shared;
  bench_row rows[NUM_ROWS];
  bench_foreign *foreign = NULL;
  pega_error why = PEGA_ERROR_INIT;
  const int32_t usual = run->quick ? QUICK_BATCHES : DEFAULT_BATCHES;
  const int32_t batches = options->batches == 0 ? usual : options->batches;
  memset(rows, 0, sizeof rows);
  memset(&shared, 0, sizeof shared);
  pega_status status = fixture_make(&shared, error);
  if (status == PEGA_OK) {
    /* A runtime that was asked for and cannot be had is a failure; none at all is not. */
    const pega_status opened = bench_foreign_open(options->runtime_library, shared.ints,
                                                  shared.tensors, shared.views, &foreign, &why);
    if (opened != PEGA_OK && options->runtime_library != NULL) {
      pega_error_copy(&why, error);
      status = opened;
    }
  }
  for (int i = 0; status == PEGA_OK && i < NUM_ROWS; ++i) {
    rows[i].group = ROWS[i].group;
    if (ROWS[i].name != NULL) {
      rows[i].name = ROWS[i].name;
      rows[i].batch = native_batch;
      rows[i].self = (char *)&shared + ROWS[i].native;
    } else {
      bench_foreign_row(foreign, ROWS[i].foreign, &rows[i]);
      if (foreign == NULL) rows[i].left_out = pega_error_message(&why);
    }
  }
  if (status == PEGA_OK) bench_measure(run, rows, NUM_ROWS, batches, CALLS);
  bench_foreign_close(foreign);
  fixture_clear(&shared);
  pega_error_clear(&why);
  return status;
}
