/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The conversation in both directions, held by C alone: an engine (engine_fixture.c, on pega's
 * headers) and an artifact (fixture_module.c, on TVM FFI's) that know nothing of each other. Each
 * line says who called whom, with what, and what came back; the last says whether all was right.
 */
#include "engine_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pega_error error = PEGA_ERROR_INIT;
static pega_tvm_ffi *runtime;
static pega_tvm_ffi_module *module;
static int num_lines;
static int num_wrong;

#define ENGINE_CALLS "engine -> TVM FFI"
#define TVM_FFI_CALLS "TVM FFI -> engine"

/* Prints a line and compares what came with what should have come. */
static void say(const char *direction, const char *what, const char *got, const char *expected) {
  bool right = strcmp(got, expected) == 0;
  printf("%s  %s = %s\n", direction, what, got);
  if (!right) printf("   WRONG: expected %s\n", expected);
  num_lines++;
  num_wrong += right ? 0 : 1;
}

/* Prints a failure that was asked for; its text must hold `part` and its kind be `kind`. */
static void say_error(const char *direction, const char *what, pega_status status, const char *kind,
                      const char *part) {
  bool right = status != PEGA_OK && strcmp(pega_error_kind(&error), kind) == 0 &&
               strstr(pega_error_message(&error), part) != NULL;
  printf("%s  %s fails with %s: %s\n", direction, what, pega_error_kind(&error),
         pega_error_message(&error));
  if (!right) printf("   WRONG: expected %s: ...%s...\n", kind, part);
  num_lines++;
  num_wrong += right ? 0 : 1;
}

static void stop(const char *what) {
  printf("%s: %s\n", what, pega_error_message(&error));
  exit(1);
}

static pega_function *artifact(const char *name) {
  pega_function *function = NULL;
  if (pega_tvm_ffi_module_get(module, name, &function, &error) != PEGA_OK) stop(name);
  return function;
}

static pega_function *engine(const char *name) {
  pega_function *function = NULL;
  if (pega_registry_get(name, &function, &error) != PEGA_OK) stop(name);
  return function;
}

/* Calls and writes the result as text; a failure's text is what a reader then sees. */
static const char *call(pega_function *function, const pega_value *args, int32_t num_args) {
  static char text[512];
  pega_value result = pega_value_none();
  if (pega_function_call(function, args, num_args, &result, &error) == PEGA_OK) {
    pega_value_format(&result, text, sizeof text);
  } else {
    snprintf(text, sizeof text, "error: %s", pega_error_message(&error));
  }
  pega_value_release(&result);
  return text;
}

#define COUNT(array) ((int32_t)(sizeof(array) / sizeof((array)[0])))
#define CALL(function, ...) \
  call(function, (pega_value[]){__VA_ARGS__}, COUNT(((pega_value[]){__VA_ARGS__})))
#define STATUS(function, ...)                                                                     \
  pega_function_call(function, (pega_value[]){__VA_ARGS__}, COUNT(((pega_value[]){__VA_ARGS__})), \
                     NULL, &error)
#define INT(number) pega_value_int(number)
#define TEXT(text) pega_value_string(text)
#define FUNCTION(function) pega_value_function(function)

static const char *floats(const float *data, int count) {
  static char text[128];
  size_t used = 0;
  for (int i = 0; i < count; i++) {
    used += (size_t)snprintf(text + used, sizeof text - used, "%s%g", i == 0 ? "[" : ", ",
                             (double)data[i]);
  }
  snprintf(text + used, sizeof text - used, "]");
  return text;
}

static DLTensor vector(float *data, int64_t *shape) {
  DLTensor tensor = {data, {kDLCPU, 0}, 1, {kDLFloat, 32, 1}, shape, NULL, 0};
  return tensor;
}

/* ---- the engine calls the artifact ---- */

static void engine_calls(void) {
  pega_function *add = artifact("add");
  pega_function *add_one = artifact("add_one");
  pega_function *return_function = artifact("return_function");
  say(ENGINE_CALLS, "add(2, 3)", CALL(add, INT(2), INT(3)), "5");

  float x[] = {1, 2, 3};
  float y[] = {0, 0, 0};
  int64_t shape[] = {3};
  DLTensor from = vector(x, shape);
  DLTensor to = vector(y, shape);
  const char *done = CALL(add_one, pega_value_tensor(&from), pega_value_tensor(&to));
  say(ENGINE_CALLS, "add_one([1, 2, 3])", strcmp(done, "None") == 0 ? floats(y, 3) : done,
      "[2, 3, 4]");

  pega_value adder = pega_value_none();
  const pega_value forty = INT(40);
  pega_function_call(return_function, &forty, 1, &adder, &error);
  say(ENGINE_CALLS, "return_function(40)(2)", CALL(pega_value_as_function(&adder), INT(2)), "42");
  pega_value_release(&adder);

  pega_function *string = NULL;
  if (pega_tvm_ffi_get_global(runtime, "ffi.String", &string, &error) != PEGA_OK) stop("global");
  say(ENGINE_CALLS, "the global ffi.String(\"text\")", CALL(string, TEXT("text")), "\"text\"");
  pega_function_release(string);
  pega_function_release(return_function);
  pega_function_release(add_one);
  pega_function_release(add);
}

/* ---- the artifact calls the engine ---- */

static void tvm_ffi_calls(void) {
  pega_function *call_global = artifact("call_global");
  pega_function *apply = artifact("apply");
  pega_function *engine_add = engine("engine.add");
  pega_function *engine_apply = engine("engine.apply");
  pega_function *add = artifact("add");
  say(TVM_FFI_CALLS, "by name: engine.add(40, 2)",
      CALL(call_global, TEXT("engine.add"), INT(40), INT(2)), "42");
  say(TVM_FFI_CALLS, "as a callback: apply(engine.add, 20, 22)",
      CALL(apply, FUNCTION(engine_add), INT(20), INT(22)), "42");
  say(TVM_FFI_CALLS, "and back in: apply(engine.apply, add, 19, 23)",
      CALL(apply, FUNCTION(engine_apply), FUNCTION(add), INT(19), INT(23)), "42");

  float x[] = {1, 2, 3};
  float y[] = {0, 0, 0};
  int64_t shape[] = {3};
  DLTensor from = vector(x, shape);
  DLTensor to = vector(y, shape);
  const char *done = CALL(call_global, TEXT("engine.scale"), pega_value_tensor(&from),
                          pega_value_tensor(&to), pega_value_float(2.5));
  say(TVM_FFI_CALLS, "engine.scale([1, 2, 3], by 2.5)",
      strcmp(done, "None") == 0 ? floats(y, 3) : done, "[2.5, 5, 7.5]");

  pega_function *call_on_thread = artifact("apply_on_thread");
  say(TVM_FFI_CALLS, "on a thread of its own: engine.add(1, 2)",
      CALL(call_on_thread, FUNCTION(engine_add), INT(1), INT(2)), "3");
  pega_function_release(call_on_thread);
  pega_function_release(add);
  pega_function_release(engine_apply);
  pega_function_release(engine_add);
  pega_function_release(apply);
  pega_function_release(call_global);
}

/* ---- errors, both ways ---- */

static void errors(void) {
  pega_function *raise_error = artifact("raise");
  pega_function *call_global = artifact("call_global");
  pega_function *apply = artifact("apply");
  pega_function *fail_silently = artifact("fail_silently");
  pega_function *engine_apply = engine("engine.apply");
  say_error(ENGINE_CALLS, "raise(\"IndexError\", ...)",
            STATUS(raise_error, TEXT("IndexError"), TEXT("token 7 of 5")), "IndexError",
            "token 7 of 5");
  say_error(TVM_FFI_CALLS, "engine.add(1, \"2\")",
            STATUS(call_global, TEXT("engine.add"), INT(1), TEXT("2")), "TypeError", "'b'");
  say_error(TVM_FFI_CALLS, "engine -> TVM FFI, two deep: raise(\"KeyError\", ...)",
            STATUS(apply, FUNCTION(engine_apply), FUNCTION(raise_error), TEXT("KeyError"),
                   TEXT("sequence 12")),
            "KeyError", "sequence 12");
  say_error(ENGINE_CALLS, "a function that fails without a word",
            pega_function_call(fail_silently, NULL, 0, NULL, &error), "RuntimeError", "-1");
  pega_function_release(engine_apply);
  pega_function_release(fail_silently);
  pega_function_release(apply);
  pega_function_release(call_global);
  pega_function_release(raise_error);
}

int main(void) {
  char reason[1024];
  if (engine_export(reason, sizeof reason) < 0) {
    printf("the engine cannot export: %s\n", reason);
    return 1;
  }
  if (pega_tvm_ffi_open(NULL, &runtime, &error) != PEGA_OK) stop("runtime");
  if (pega_tvm_ffi_module_open(runtime, PEGA_TEST_FIXTURE, &module, &error) != PEGA_OK) {
    stop("artifact");
  }
  engine_calls();
  tvm_ffi_calls();
  errors();
  pega_tvm_ffi_module_close(module);
  pega_tvm_ffi_close(runtime);
  pega_error_clear(&error);
  printf("C alone: %d exchanges, %d wrong\n", num_lines, num_wrong);
  return num_wrong == 0 ? 0 : 1;
}
