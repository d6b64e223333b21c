/* SPDX-License-Identifier: Apache-2.0 */
#include "engine_fixture.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define ENGINE_FUNCTION(name)                                                               \
  static pega_status name(                                                                  \
      __attribute__((unused)) void *self, __attribute__((unused)) const pega_value *args,   \
      __attribute__((unused)) int32_t num_args, __attribute__((unused)) pega_value *result, \
      __attribute__((unused)) pega_error *error)

/* ---- numbers, tensors, text ---- */

ENGINE_FUNCTION(engine_add) {
  *result = pega_value_int((int64_t)((uint64_t)args[0].as.i64 + (uint64_t)args[1].as.i64));
  return PEGA_OK;
}

ENGINE_FUNCTION(engine_scale) {
  const DLTensor *x = pega_value_as_tensor(&args[0]);
  const DLTensor *y = pega_value_as_tensor(&args[1]);
  const float *from = pega_tensor_data(x);
  float *to = pega_tensor_data(y);
  double factor = args[2].kind == PEGA_INT ? (double)args[2].as.i64 : args[2].as.f64;
  int64_t count = pega_tensor_num_elements(x);
  for (int64_t i = 0; i < count; i++) to[i] = (float)(from[i] * factor);
  return PEGA_OK;
}

/* What arrived, as a person reads it: "int 3, string \"x\"". */
ENGINE_FUNCTION(engine_describe) {
  char text[2048] = "";
  size_t used = 0;
  for (int32_t i = 0; i < num_args && used < sizeof text; i++) {
    char value[256];
    pega_value_format(&args[i], value, sizeof value);
    used += (size_t)snprintf(text + used, sizeof text - used, "%s%s %s", i == 0 ? "" : ", ",
                             pega_kind_name(args[i].kind), value);
  }
  return pega_string_create(text, strlen(text), result, error);
}

ENGINE_FUNCTION(engine_echo) {
  return num_args == 0 ? PEGA_OK : pega_value_retain(&args[0], result, error);
}

/* ---- calling what it is given ---- */

static pega_function *callee(const pega_value *args, int32_t num_args, pega_error *error) {
  pega_function *function = num_args < 1 ? NULL : pega_value_as_function(&args[0]);
  if (function == NULL) {
    pega_error_set(error, PEGA_ERROR_TYPE, NULL, "argument 0 must be a function");
  }
  return function;
}

ENGINE_FUNCTION(engine_apply) {
  pega_function *function = callee(args, num_args, error);
  if (function == NULL) return PEGA_ERROR_TYPE;
  return pega_function_call(function, args + 1, num_args - 1, result, error);
}

struct thread_call {
  pega_function *function;
  const pega_value *args;
  int32_t num_args;
  pega_value *result;
  pega_error *error;
  pega_status status;
};

static void *run_thread_call(void *argument) {
  struct thread_call *call = argument;
  call->status =
      pega_function_call(call->function, call->args, call->num_args, call->result, call->error);
  return NULL;
}

ENGINE_FUNCTION(engine_apply_on_thread) {
  struct thread_call call = {
      callee(args, num_args, error), args + 1, num_args - 1, result, error, PEGA_OK};
  pthread_t thread;
  if (call.function == NULL) return PEGA_ERROR_TYPE;
  if (pthread_create(&thread, NULL, run_thread_call, &call) != 0) {
    return pega_error_set(error, PEGA_ERROR_IO, NULL, "no thread to be had");
  }
  pthread_join(thread, NULL);
  return call.status;
}

/* Like apply, but a failure becomes the cause of the engine's own. */
ENGINE_FUNCTION(engine_wrap) {
  pega_function *function = callee(args, num_args, error);
  if (function == NULL) return PEGA_ERROR_TYPE;
  pega_error inner = PEGA_ERROR_INIT;
  pega_status status = pega_function_call(function, args + 1, num_args - 1, result, &inner);
  if (status == PEGA_OK) return PEGA_OK;
  pega_error_set(error, PEGA_ERROR_UNAVAILABLE, NULL, "the engine's step failed");
  pega_error_set_cause(error, &inner);
  return PEGA_ERROR_UNAVAILABLE;
}

ENGINE_FUNCTION(engine_call_global) {
  const char *name = num_args < 1 ? NULL : pega_value_as_string(&args[0], NULL);
  if (name == NULL) {
    return pega_error_set(error, PEGA_ERROR_TYPE, NULL, "argument 0 must be a name");
  }
  pega_tvm_ffi *runtime = NULL;
  pega_function *function = NULL;
  pega_status status = pega_tvm_ffi_open(NULL, &runtime, error);
  if (status == PEGA_OK) status = pega_tvm_ffi_get_global(runtime, name, &function, error);
  if (status == PEGA_OK) {
    status = pega_function_call(function, args + 1, num_args - 1, result, error);
  }
  pega_function_release(function);
  pega_tvm_ffi_close(runtime);
  return status;
}

/* ---- failing ---- */

ENGINE_FUNCTION(engine_fail) {
  size_t size = 0;
  const char *message = pega_value_as_string(&args[1], &size);
  return pega_error_set_text(error, PEGA_ERROR_INVALID_ARGUMENT,
                             pega_value_as_string(&args[0], NULL), message, size);
}

ENGINE_FUNCTION(engine_fail_silently) { return PEGA_ERROR_INTERNAL; }

ENGINE_FUNCTION(engine_fail_caused) {
  pega_error cause = PEGA_ERROR_INIT;
  pega_error_set(&cause, PEGA_ERROR_IO, NULL, "the disk is full");
  pega_error_set(error, PEGA_ERROR_UNAVAILABLE, NULL, "the cache cannot grow");
  pega_error_set_cause(error, &cause);
  return PEGA_ERROR_UNAVAILABLE;
}

/* ---- making and keeping ---- */

static int live_tensors;
static int live_adders;
static pega_value held;

struct vector {
  DLManagedTensor managed;
  int64_t shape[1];
  float data[];
};

static void delete_vector(DLManagedTensor *self) {
  free(self);
  __atomic_sub_fetch(&live_tensors, 1, __ATOMIC_RELAXED);
}

/* 0, 1, ..., n - 1 as float32. */
ENGINE_FUNCTION(engine_make_tensor) {
  size_t length = (size_t)args[0].as.i64;
  struct vector *vector = calloc(1, sizeof *vector + length * sizeof(float));
  if (vector == NULL) return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory");
  vector->shape[0] = args[0].as.i64;
  for (size_t i = 0; i < length; i++) vector->data[i] = (float)i;
  DLTensor *view = &vector->managed.dl_tensor;
  view->data = vector->data;
  view->device.device_type = kDLCPU;
  view->ndim = 1;
  view->dtype = (DLDataType){kDLFloat, 32, 1};
  view->shape = vector->shape;
  vector->managed.deleter = delete_vector;
  pega_status status = pega_tensor_from_dlpack(&vector->managed, result, error);
  if (status != PEGA_OK) {
    free(vector);
    return status;
  }
  __atomic_add_fetch(&live_tensors, 1, __ATOMIC_RELAXED);
  return PEGA_OK;
}

ENGINE_FUNCTION(engine_live_tensors) {
  *result = pega_value_int(__atomic_load_n(&live_tensors, __ATOMIC_RELAXED));
  return PEGA_OK;
}

ENGINE_FUNCTION(adder_call) {
  *result = pega_value_int(*(const int64_t *)self + (num_args == 1 ? args[0].as.i64 : 0));
  return PEGA_OK;
}

static void delete_adder(void *self) {
  free(self);
  __atomic_sub_fetch(&live_adders, 1, __ATOMIC_RELAXED);
}

ENGINE_FUNCTION(engine_make_adder) {
  int64_t *addend = malloc(sizeof *addend);
  if (addend == NULL) return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory");
  *addend = args[0].as.i64;
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  options.name = "engine.adder";
  options.call = adder_call;
  options.self = addend;
  options.deleter = delete_adder;
  pega_function *function = NULL;
  pega_status status = pega_function_create(&options, &function, error);
  if (status != PEGA_OK) {
    free(addend);
    return status;
  }
  __atomic_add_fetch(&live_adders, 1, __ATOMIC_RELAXED);
  /* The only reference passes to the result. */
  *result = pega_value_function(function);
  return PEGA_OK;
}

ENGINE_FUNCTION(engine_live_adders) {
  *result = pega_value_int(__atomic_load_n(&live_adders, __ATOMIC_RELAXED));
  return PEGA_OK;
}

ENGINE_FUNCTION(engine_hold) {
  pega_value_release(&held);
  return pega_value_retain(&args[0], &held, error);
}

ENGINE_FUNCTION(engine_get_held) { return pega_value_retain(&held, result, error); }

static void *release_held(void *argument) {
  pega_value_release(argument);
  return NULL;
}

ENGINE_FUNCTION(engine_release_held_on_thread) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, release_held, &held) != 0) {
    return pega_error_set(error, PEGA_ERROR_IO, NULL, "no thread to be had");
  }
  pthread_join(thread, NULL);
  return PEGA_OK;
}

ENGINE_FUNCTION(engine_current_stream) {
  void *stream = NULL;
  pega_status status = pega_stream_get(args[0].as.device, &stream, error);
  if (status == PEGA_OK) *result = pega_value_pointer(stream);
  return status;
}

/* ---- the table ---- */

#define VECTOR(name_)                                                        \
  {                                                                          \
    .name = name_, .type = PEGA_TYPE_TENSOR, .flags = PEGA_PARAM_CONTIGUOUS, \
    .dtype = {kDLFloat, 32, 1}, .device_type = kDLCPU, .shape = "n"          \
  }

static const pega_param two_integers[] = {{.name = "a", .type = PEGA_TYPE_INT},
                                          {.name = "b", .type = PEGA_TYPE_INT}};
static const pega_param vectors_and_factor[] = {
    VECTOR("x"), VECTOR("y"), {.name = "factor", .type = PEGA_TYPE_FLOAT}};
static const pega_param two_strings[] = {{.name = "kind", .type = PEGA_TYPE_STRING},
                                         {.name = "message", .type = PEGA_TYPE_STRING}};
static const pega_param length[] = {
    {.name = "n", .type = PEGA_TYPE_INT, .flags = PEGA_PARAM_RANGE, .min = 0, .max = 1 << 20}};
static const pega_param anything[] = {{.name = "value", .type = PEGA_TYPE_ANY}};
static const pega_param device[] = {{.name = "device", .type = PEGA_TYPE_DEVICE}};

static const struct entry {
  const char *name;
  const char *doc;
  pega_call call;
  const pega_param *params; /* NULL: anything passes */
  int32_t num_params;
  pega_type result;
} table[] = {
    {"engine.add", "Adds two integers.", engine_add, two_integers, 2, PEGA_TYPE_INT},
    {"engine.scale", "y = factor * x.", engine_scale, vectors_and_factor, 3, PEGA_TYPE_NONE},
    {"engine.describe", "Says what it is given.", engine_describe, NULL, 0, PEGA_TYPE_ANY},
    {"engine.echo", "Returns what it is given.", engine_echo, NULL, 0, PEGA_TYPE_ANY},
    {"engine.apply", "Calls a function.", engine_apply, NULL, 0, PEGA_TYPE_ANY},
    {"engine.apply_on_thread", "Calls a function on a thread.", engine_apply_on_thread, NULL, 0,
     PEGA_TYPE_ANY},
    {"engine.wrap", "Calls a function; its failure becomes a cause.", engine_wrap, NULL, 0,
     PEGA_TYPE_ANY},
    {"engine.call_global", "Calls a TVM FFI global by name.", engine_call_global, NULL, 0,
     PEGA_TYPE_ANY},
    {"engine.fail", "Fails.", engine_fail, two_strings, 2, PEGA_TYPE_NONE},
    {"engine.fail_silently", "Fails without a word.", engine_fail_silently, NULL, 0, PEGA_TYPE_ANY},
    {"engine.fail_caused", "Fails because something else did.", engine_fail_caused, NULL, 0,
     PEGA_TYPE_ANY},
    {"engine.make_tensor", "Makes 0, 1, ..., n - 1.", engine_make_tensor, length, 1,
     PEGA_TYPE_TENSOR},
    {"engine.live_tensors", "Tensors that are not gone.", engine_live_tensors, NULL, 0,
     PEGA_TYPE_ANY},
    {"engine.make_adder", "Makes a function that adds n.", engine_make_adder, length, 1,
     PEGA_TYPE_FUNCTION},
    {"engine.live_adders", "Adders that are not gone.", engine_live_adders, NULL, 0, PEGA_TYPE_ANY},
    {"engine.hold", "Keeps a value.", engine_hold, anything, 1, PEGA_TYPE_NONE},
    {"engine.get_held", "Returns the value that is kept.", engine_get_held, NULL, 0, PEGA_TYPE_ANY},
    {"engine.release_held_on_thread", "Drops it on another thread.", engine_release_held_on_thread,
     NULL, 0, PEGA_TYPE_ANY},
    {"engine.current_stream", "The current stream of a device.", engine_current_stream, device, 1,
     PEGA_TYPE_POINTER},
};

static pega_status add_entry(const struct entry *entry, pega_error *error) {
  pega_signature signature = PEGA_SIGNATURE_INIT;
  signature.params = entry->params;
  signature.num_params = entry->num_params;
  signature.result = entry->result;
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  options.name = entry->name;
  options.doc = entry->doc;
  options.call = entry->call;
  options.signature = entry->params == NULL ? NULL : &signature;
  pega_function *function = NULL;
  pega_status status = pega_function_create(&options, &function, error);
  if (status == PEGA_OK) status = pega_registry_add(function, PEGA_REGISTER_OVERRIDE, error);
  pega_function_release(function);
  return status;
}

static int add_all(pega_error *error) {
  const int count = (int)(sizeof table / sizeof table[0]);
  for (int i = 0; i < count; i++) {
    if (add_entry(&table[i], error) != PEGA_OK) return -1;
  }
  return count;
}

int engine_add_to_registry(void) { return add_all(NULL); }

int engine_export(char *reason, size_t capacity) {
  pega_error error = PEGA_ERROR_INIT;
  pega_tvm_ffi *runtime = NULL;
  int count = add_all(&error);
  if (count < 0 || pega_tvm_ffi_open(NULL, &runtime, &error) != PEGA_OK ||
      pega_tvm_ffi_export_all(runtime, PEGA_REGISTER_OVERRIDE, NULL, &error) != PEGA_OK) {
    snprintf(reason, capacity, "%s", pega_error_message(&error));
    pega_error_clear(&error);
    count = -1;
  }
  pega_tvm_ffi_close(runtime);
  return count;
}
