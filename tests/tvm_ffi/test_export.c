/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TVM FFI -> engine: pega functions as TVM FFI globals (with doc and signature as metadata,
 * overridden, removed) and as callbacks; deleters run once, on whatever thread.
 */
#include "support.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static pega_error error = PEGA_ERROR_INIT;

/* ---- what the engine offers ---- */

static pega_status scale(void *self, const pega_value *args, int32_t num_args, pega_value *result,
                         pega_error *out_error) {
  (void)num_args;
  (void)out_error;
  *result = pega_value_int(args[0].as.i64 * *(const int *)self);
  return PEGA_OK;
}

/* Says what arrived: "kind text, kind text, ..." */
static pega_status describe(void *self, const pega_value *args, int32_t num_args,
                            pega_value *result, pega_error *out_error) {
  char text[512] = "";
  (void)self;
  for (int32_t i = 0; i < num_args; i++) {
    size_t used = strlen(text);
    char value[64];
    pega_value_format(&args[i], value, sizeof value);
    snprintf(text + used, sizeof text - used, "%s%s %s", i == 0 ? "" : ", ",
             pega_kind_name(args[i].kind), value);
  }
  return pega_string_create(text, strlen(text), result, out_error);
}

static pega_status echo(void *self, const pega_value *args, int32_t num_args, pega_value *result,
                        pega_error *out_error) {
  (void)self;
  (void)num_args;
  return pega_value_retain(&args[0], result, out_error);
}

struct counted {
  int deleted;
  pthread_t thread;
};

static void count_deleter(void *self) {
  struct counted *counted = self;
  counted->deleted++;
  counted->thread = pthread_self();
}

static pega_status seven(void *self, const pega_value *args, int32_t num_args, pega_value *result,
                         pega_error *out_error) {
  (void)self;
  (void)args;
  (void)num_args;
  (void)out_error;
  *result = pega_value_int(7);
  return PEGA_OK;
}

static int two = 2;
static int three = 3;

static pega_function *make_scale(const char *name, int *factor) {
  static const pega_param params[] = {{.name = "x",
                                       .doc = "what to scale",
                                       .type = PEGA_TYPE_INT,
                                       .flags = PEGA_PARAM_RANGE,
                                       .min = 0,
                                       .max = 100}};
  pega_signature signature = PEGA_SIGNATURE_INIT;
  signature.params = params;
  signature.num_params = 1;
  signature.result = PEGA_TYPE_INT;
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  options.name = name;
  options.doc = "Scales a number.";
  options.signature = &signature;
  options.call = scale;
  options.self = factor;
  pega_function *function = NULL;
  EXPECT_OK(pega_function_create(&options, &function, &error));
  return function;
}

/* ---- globals ---- */

static void test_global(void **state) {
  (void)state;
  pega_function *function = make_scale("test.scale", &two);
  EXPECT_OK(pega_tvm_ffi_export(support_runtime, NULL, function, 0, &error));
  pega_function_release(function);

  /* TVM FFI code finds it by name. */
  pega_value result = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("call_global", &result, TEXT("test.scale"), INT(21)));
  EXPECT_INT(&result, 42);

  /* Its signature is checked before it runs, and the text says what is wrong. */
  EXPECT_FAILURE(PEGA_ERROR_CALLEE,
                 CALL_FIXTURE("call_global", &result, TEXT("test.scale"), INT(101)), "test.scale",
                 "x", "101", "100");
  assert_string_equal(pega_error_kind(&error), "ValueError");

  /* The engine finds it too. */
  pega_function *found = NULL;
  EXPECT_OK(pega_tvm_ffi_get_global(support_runtime, "test.scale", &found, &error));
  EXPECT_OK(CALL(found, &result, INT(4)));
  EXPECT_INT(&result, 8);
  pega_function_release(found);
  EXPECT_OK(pega_tvm_ffi_remove_global(support_runtime, "test.scale", &error));
}

static void test_other_name(void **state) {
  (void)state;
  pega_function *function = make_scale("test.own_name", &two);
  EXPECT_OK(pega_tvm_ffi_export(support_runtime, "test.other_name", function, 0, &error));
  pega_function_release(function);
  pega_value result = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("call_global", &result, TEXT("test.other_name"), INT(1)));
  EXPECT_INT(&result, 2);
  EXPECT_FAILURE(PEGA_ERROR_CALLEE,
                 CALL_FIXTURE("call_global", &result, TEXT("test.own_name"), INT(1)),
                 "test.own_name");
  EXPECT_OK(pega_tvm_ffi_remove_global(support_runtime, "test.other_name", &error));
}

static void test_anonymous_needs_a_name(void **state) {
  (void)state;
  pega_function *function = support_function(NULL, NULL, seven, NULL);
  assert_int_equal(pega_tvm_ffi_export(support_runtime, NULL, function, 0, &error),
                   PEGA_ERROR_INVALID_ARGUMENT);
  pega_function_release(function);
}

static void test_metadata(void **state) {
  (void)state;
  pega_function *function = make_scale("test.documented", &two);
  EXPECT_OK(pega_tvm_ffi_export(support_runtime, NULL, function, 0, &error));
  pega_function *metadata = NULL;
  pega_value text = pega_value_none();
  EXPECT_OK(
      pega_tvm_ffi_get_global(support_runtime, "ffi.GetGlobalFuncMetadata", &metadata, &error));
  EXPECT_OK(CALL(metadata, &text, TEXT("test.documented")));
  const char *json = pega_value_as_string(&text, NULL);
  assert_non_null(json);
  EXPECT_TEXT(json, "Scales a number.");
  EXPECT_TEXT(json, pega_function_signature_text(function));
  pega_value_release(&text);

  /* JSON that the runtime's own parser reads. */
  pega_function *parse = NULL;
  pega_value parsed = pega_value_none();
  EXPECT_OK(CALL(metadata, &text, TEXT("test.documented")));
  EXPECT_OK(pega_tvm_ffi_get_global(support_runtime, "ffi.json.Parse", &parse, &error));
  EXPECT_OK(CALL(parse, &parsed, text));
  assert_int_equal(parsed.kind, PEGA_MAP);
  pega_value_release(&parsed);
  pega_value_release(&text);
  pega_function_release(parse);
  pega_function_release(metadata);
  pega_function_release(function);
  EXPECT_OK(pega_tvm_ffi_remove_global(support_runtime, "test.documented", &error));
}

static void test_override(void **state) {
  (void)state;
  pega_function *doubling = make_scale("test.override", &two);
  pega_function *tripling = make_scale("test.override", &three);
  EXPECT_OK(pega_tvm_ffi_export(support_runtime, NULL, doubling, 0, &error));
  EXPECT_FAILURE(PEGA_ERROR_ALREADY_EXISTS,
                 pega_tvm_ffi_export(support_runtime, NULL, tripling, 0, &error), "test.override");
  pega_function *held = NULL;
  pega_value result = pega_value_none();
  EXPECT_OK(pega_tvm_ffi_get_global(support_runtime, "test.override", &held, &error));
  EXPECT_OK(CALL(held, &result, INT(10)));
  EXPECT_INT(&result, 20);

  EXPECT_OK(pega_tvm_ffi_export(support_runtime, NULL, tripling, PEGA_REGISTER_OVERRIDE, &error));
  EXPECT_OK(CALL_FIXTURE("call_global", &result, TEXT("test.override"), INT(10)));
  EXPECT_INT(&result, 30);
  /* Whoever holds the old one keeps it. */
  EXPECT_OK(CALL(held, &result, INT(10)));
  EXPECT_INT(&result, 20);

  EXPECT_OK(pega_tvm_ffi_remove_global(support_runtime, "test.override", &error));
  EXPECT_OK(CALL(held, &result, INT(10)));
  EXPECT_INT(&result, 20);
  assert_int_equal(pega_tvm_ffi_get_global(support_runtime, "test.override", &tripling, &error),
                   PEGA_ERROR_NOT_FOUND);
  EXPECT_FAILURE(PEGA_ERROR_NOT_FOUND,
                 pega_tvm_ffi_remove_global(support_runtime, "test.override", &error),
                 "test.override");
  pega_function_release(held);
  pega_function_release(doubling);
  pega_function_release(tripling);
}

static void test_export_all(void **state) {
  (void)state;
  pega_function *function = make_scale("test.registered", &two);
  EXPECT_OK(pega_registry_add(function, 0, &error));
  pega_function_release(function);
  pega_value names = pega_value_none();
  EXPECT_OK(pega_tvm_ffi_export_all(support_runtime, 0, &names, &error));
  bool found = false;
  for (int64_t i = 0; i < pega_value_size(&names); i++) {
    const char *name = pega_value_as_string(pega_array_get(&names, i), NULL);
    found = found || strcmp(name, "test.registered") == 0;
  }
  assert_true(found);
  pega_value_release(&names);
  pega_value result = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("call_global", &result, TEXT("test.registered"), INT(5)));
  EXPECT_INT(&result, 10);

  /* Now every name is taken: none is registered again, unless that is asked for. */
  EXPECT_OK(pega_tvm_ffi_export_all(support_runtime, 0, &names, &error));
  assert_int_equal(pega_value_size(&names), 0);
  pega_value_release(&names);
  EXPECT_OK(pega_tvm_ffi_export_all(support_runtime, PEGA_REGISTER_OVERRIDE, &names, &error));
  assert_true(pega_value_size(&names) > 0);
  pega_value_release(&names);
  EXPECT_OK(pega_tvm_ffi_export_all(support_runtime, 0, NULL, &error));

  EXPECT_OK(pega_registry_remove("test.registered", &error));
  EXPECT_OK(pega_tvm_ffi_remove_global(support_runtime, "test.registered", &error));
}

/* ---- callbacks ---- */

static void test_callback(void **state) {
  (void)state;
  pega_function *function = make_scale(NULL, &three);
  pega_value result = pega_value_none();
  EXPECT_OK(CALL_FIXTURE("apply", &result, pega_value_function(function), INT(14)));
  EXPECT_INT(&result, 42);
  EXPECT_OK(CALL_FIXTURE("apply_on_thread", &result, pega_value_function(function), INT(14)));
  EXPECT_INT(&result, 42);
  pega_function_release(function);
}

/* What a callback is given: every kind arrives as itself. */
static void test_callback_arguments(void **state) {
  (void)state;
  pega_function *function = support_function("test.describe", NULL, describe, NULL);
  support_vector vector;
  support_vector_init(&vector, 3, 1.0f);
  const pega_value items[] = {INT(1), INT(2)};
  pega_value array = pega_value_none();
  pega_value text = pega_value_none();
  EXPECT_OK(pega_array_create(items, 2, &array, &error));
  EXPECT_OK(CALL_FIXTURE("apply", &text, pega_value_function(function), pega_value_none(),
                         pega_value_bool(true), INT(-3), pega_value_float(0.5), TEXT("short"),
                         TEXT("a much longer text"), pega_value_bytes("abc", 3),
                         pega_value_dtype((DLDataType){kDLBfloat, 16, 1}),
                         pega_value_device((DLDevice){kDLCUDA, 1}),
                         pega_value_tensor(&vector.tensor), array, pega_value_function(function)));
  const char *got = pega_value_as_string(&text, NULL);
  assert_non_null(got);
  static const char *const expected[] = {
      "none ",      "bool true",        "int -3",
      "float 0.5",  "string \"short\"", "string \"a much longer text\"",
      "bytes ",     "bfloat16",         "cuda:1",
      "float32[3]", "array ",           "function "};
  for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) EXPECT_TEXT(got, expected[i]);
  pega_value_release(&text);
  pega_value_release(&array);
  pega_function_release(function);
}

/* What a callback returns: every kind comes back as itself, through TVM FFI code. */
static void test_callback_results(void **state) {
  (void)state;
  int deleted = 0;
  pega_function *function = support_function("test.echo", NULL, echo, NULL);
  pega_value tensor = support_tensor_create(3, 1.0f, &deleted);
  pega_value array = pega_value_none();
  EXPECT_OK(pega_array_create(&tensor, 1, &array, &error));
  const pega_value values[] = {pega_value_none(),
                               pega_value_bool(true),
                               INT(5),
                               pega_value_float(2.5),
                               TEXT("a text of some length"),
                               pega_value_bytes("a\0b", 3),
                               pega_value_pointer(&deleted),
                               pega_value_dtype((DLDataType){kDLFloat, 32, 1}),
                               pega_value_device((DLDevice){kDLCPU, 0}),
                               tensor,
                               array,
                               pega_value_function(function)};
  for (int i = 0; i < SUPPORT_COUNT(values); i++) {
    pega_value result = pega_value_none();
    EXPECT_OK(CALL_FIXTURE("apply", &result, pega_value_function(function), values[i]));
    assert_string_equal(pega_kind_name(result.kind), pega_kind_name(values[i].kind));
    char sent[128];
    char got[128];
    pega_value_format(&values[i], sent, sizeof sent);
    pega_value_format(&result, got, sizeof got);
    /* A function comes back as TVM FFI's, which has no name. */
    if (result.kind != PEGA_FUNCTION) assert_string_equal(got, sent);
    pega_value_release(&result);
  }
  pega_value_release(&array);
  assert_int_equal(deleted, 0);
  pega_value_release(&tensor);
  assert_int_equal(deleted, 1);
  pega_function_release(function);
}

/* An uncounted tensor cannot be a result: nobody would keep its memory. The error says so. */
static void test_callback_cannot_return_a_view(void **state) {
  (void)state;
  pega_function *function = support_function("test.echo", NULL, echo, NULL);
  support_vector vector;
  support_vector_init(&vector, 3, 1.0f);
  pega_value result = pega_value_none();
  EXPECT_FAILURE(PEGA_ERROR_CALLEE,
                 CALL_FIXTURE("apply", &result, pega_value_function(function),
                              pega_value_tensor(&vector.tensor)),
                 "tensor");
  pega_function_release(function);
}

/* ---- deleters ---- */

static void test_deleter_of_global(void **state) {
  (void)state;
  struct counted counted = {0};
  pega_function *function =
      support_function_with_deleter("test.counted", seven, &counted, count_deleter);
  EXPECT_OK(pega_tvm_ffi_export(support_runtime, NULL, function, 0, &error));
  pega_function_release(function);
  pega_value result = pega_value_none();
  for (int i = 0; i < 3; i++) {
    EXPECT_OK(CALL_FIXTURE("call_global", &result, TEXT("test.counted")));
    EXPECT_INT(&result, 7);
  }
  assert_int_equal(counted.deleted, 0);
  EXPECT_OK(pega_tvm_ffi_remove_global(support_runtime, "test.counted", &error));
  assert_int_equal(counted.deleted, 1);
}

static void test_deleter_of_overridden_global(void **state) {
  (void)state;
  struct counted counted = {0};
  pega_function *function =
      support_function_with_deleter("test.counted", seven, &counted, count_deleter);
  EXPECT_OK(pega_tvm_ffi_export(support_runtime, NULL, function, 0, &error));
  pega_function_release(function);
  function = make_scale("test.counted", &two);
  EXPECT_OK(pega_tvm_ffi_export(support_runtime, NULL, function, PEGA_REGISTER_OVERRIDE, &error));
  assert_int_equal(counted.deleted, 1);
  pega_function_release(function);
  EXPECT_OK(pega_tvm_ffi_remove_global(support_runtime, "test.counted", &error));
}

struct asking {
  int deleted;
  bool failed;
};

/* A deleter is anybody's code: this one asks for globals itself. */
static void asking_deleter(void *self) {
  struct asking *asking = self;
  pega_function *found = NULL;
  pega_value names = pega_value_none();
  asking->failed =
      asking->failed ||
      pega_tvm_ffi_get_global(support_runtime, "test.asking", &found, NULL) != PEGA_OK ||
      pega_tvm_ffi_list_globals(support_runtime, &names, NULL) != PEGA_OK;
  asking->deleted++;
  pega_function_release(found);
  pega_value_release(&names);
}

static void test_deleter_that_asks_for_globals(void **state) {
  (void)state;
  struct asking asking = {0, false};
  for (int with_holder = 0; with_holder < 2; with_holder++) {
    asking.deleted = 0;
    pega_function *function =
        support_function_with_deleter("test.asking", seven, &asking, asking_deleter);
    EXPECT_OK(pega_tvm_ffi_export(support_runtime, NULL, function, 0, &error));
    pega_function_release(function);
    pega_function *held = NULL;
    if (with_holder) {
      EXPECT_OK(pega_tvm_ffi_get_global(support_runtime, "test.asking", &held, &error));
    }
    function = make_scale("test.asking", &two);
    alarm(20); /* ends the test where it would wait for a lock of its own for ever */
    EXPECT_OK(pega_tvm_ffi_export(support_runtime, NULL, function, PEGA_REGISTER_OVERRIDE, &error));
    assert_int_equal(asking.deleted, with_holder ? 0 : 1);
    pega_function_release(held);
    alarm(0);
    assert_int_equal(asking.deleted, 1);
    pega_function_release(function);
    EXPECT_OK(pega_tvm_ffi_remove_global(support_runtime, "test.asking", &error));
  }
  assert_false(asking.failed);
}

static void test_deleter_of_callback(void **state) {
  (void)state;
  struct counted counted = {0};
  pega_function *function = support_function_with_deleter(NULL, seven, &counted, count_deleter);
  for (int i = 0; i < 3; i++) {
    EXPECT_OK(CALL_FIXTURE("apply", NULL, pega_value_function(function)));
  }
  assert_int_equal(counted.deleted, 0);
  pega_function_release(function);
  assert_int_equal(counted.deleted, 1);
}

static void test_deleter_on_another_thread(void **state) {
  (void)state;
  struct counted counted = {0};
  pega_function *function = support_function_with_deleter(NULL, seven, &counted, count_deleter);
  EXPECT_OK(CALL_FIXTURE("hold", NULL, pega_value_function(function)));
  pega_function_release(function);
  assert_int_equal(counted.deleted, 0);
  pega_value result = pega_value_none();
  EXPECT_OK(CALL_FIXTURE0("call_held", &result));
  EXPECT_INT(&result, 7);
  EXPECT_OK(CALL_FIXTURE0("release_held_on_thread", NULL));
  assert_int_equal(counted.deleted, 1);
  assert_false(pthread_equal(counted.thread, pthread_self()));
}

/* ---- handles ---- */

static void test_handles(void **state) {
  (void)state;
  struct counted counted = {0};
  pega_function *function =
      support_function_with_deleter("test.handle", seven, &counted, count_deleter);
  void *handle = NULL;
  EXPECT_OK(pega_tvm_ffi_function_to_handle(support_runtime, function, &handle, &error));
  assert_non_null(handle);
  pega_function_release(function);
  assert_int_equal(counted.deleted, 0);

  int (*call)(void *, TVMFFIAny *, int32_t, TVMFFIAny *) = NULL;
  int (*release)(void *) = NULL;
  *(void **)&call = support_symbol("TVMFFIFunctionCall");
  *(void **)&release = support_symbol("TVMFFIObjectDecRef");
  assert_non_null(call);
  assert_non_null(release);
  TVMFFIAny result = {0};
  assert_int_equal(call(handle, NULL, 0, &result), 0);
  assert_int_equal(result.type_index, kTVMFFIInt);
  assert_int_equal(result.v_int64, 7);

  pega_function *back = NULL;
  pega_value value = pega_value_none();
  EXPECT_OK(pega_tvm_ffi_function_from_handle(support_runtime, handle, "test.back", &back, &error));
  assert_int_equal(release(handle), 0);
  EXPECT_OK(pega_function_call(back, NULL, 0, &value, &error));
  EXPECT_INT(&value, 7);
  assert_int_equal(counted.deleted, 0);
  pega_function_release(back);
  assert_int_equal(counted.deleted, 1);
}

/* A reference that the callee may move from (Python and C++ pass some arguments so) is looked
 * through and left as it is. */
static void test_movable_argument(void **state) {
  (void)state;
  pega_function *function = support_function("test.describe", NULL, describe, NULL);
  void *handle = NULL;
  EXPECT_OK(pega_tvm_ffi_function_to_handle(support_runtime, function, &handle, &error));
  int (*call)(void *, TVMFFIAny *, int32_t, TVMFFIAny *) = NULL;
  int (*make_text)(const TVMFFIByteArray *, TVMFFIAny *) = NULL;
  int (*release)(void *) = NULL;
  *(void **)&call = support_symbol("TVMFFIFunctionCall");
  *(void **)&make_text = support_symbol("TVMFFIStringFromByteArray");
  *(void **)&release = support_symbol("TVMFFIObjectDecRef");
  TVMFFIByteArray bytes = {"a text that may be moved", 24};
  TVMFFIAny text = {0};
  assert_int_equal(make_text(&bytes, &text), 0);
  assert_int_equal(text.type_index, kTVMFFIStr);
  void *slot = text.v_obj;
  TVMFFIAny argument = {.type_index = kTVMFFIObjectRValueRef};
  argument.v_ptr = &slot;
  TVMFFIAny result = {0};
  assert_int_equal(call(handle, &argument, 1, &result), 0);
  assert_int_equal(result.type_index, kTVMFFIStr);
  const TVMFFIByteArray *got =
      (const TVMFFIByteArray *)((const char *)result.v_obj + sizeof(TVMFFIObject));
  EXPECT_TEXT(got->data, "string \"a text that may be moved\"");
  assert_ptr_equal(slot, text.v_obj);
  assert_true((text.v_obj->combined_ref_count & 0xffffffffu) == 1);
  release(result.v_obj);
  release(text.v_obj);
  release(handle);
  pega_function_release(function);
}

/* Integers that not even uint64 holds arrive as the objects that they are. */
static void test_greater_integers(void **state) {
  (void)state;
  int (*make)(const TVMFFIByteArray *, TVMFFIAny *) = NULL;
  *(void **)&make = support_symbol("TVMFFIBigIntFromByteArray");
  if (make == NULL) return; /* this runtime has none */
  int (*call)(void *, TVMFFIAny *, int32_t, TVMFFIAny *) = NULL;
  int (*release)(void *) = NULL;
  *(void **)&call = support_symbol("TVMFFIFunctionCall");
  *(void **)&release = support_symbol("TVMFFIObjectDecRef");
  pega_function *function = support_function("test.describe", NULL, describe, NULL);
  void *handle = NULL;
  EXPECT_OK(pega_tvm_ffi_function_to_handle(support_runtime, function, &handle, &error));
  static const int64_t words[][2] = {{5, 0}, {0, 1}, {0, -1}, {-1, 0}, {INT64_MAX, -1}};
  static const char *const expected[] = {"int 5", "object", "object", "uint 18446744073709551615",
                                         "object"};
  for (int i = 0; i < SUPPORT_COUNT(words); i++) {
    TVMFFIByteArray bytes = {(const char *)words[i], sizeof words[i]};
    TVMFFIAny number = {0};
    TVMFFIAny result = {0};
    assert_int_equal(make(&bytes, &number), 0);
    assert_int_equal(call(handle, &number, 1, &result), 0);
    const char *text = result.v_bytes;
    if (result.type_index == kTVMFFIStr) {
      text = ((const TVMFFIByteArray *)((const char *)result.v_obj + sizeof(TVMFFIObject)))->data;
    }
    EXPECT_TEXT(text, expected[i]);
    if (result.type_index == kTVMFFIStr) release(result.v_obj);
    if (number.type_index == kTVMFFIBigInt) release(number.v_obj);
  }
  release(handle);
  pega_function_release(function);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_global),
      cmocka_unit_test(test_other_name),
      cmocka_unit_test(test_anonymous_needs_a_name),
      cmocka_unit_test(test_metadata),
      cmocka_unit_test(test_override),
      cmocka_unit_test(test_export_all),
      cmocka_unit_test(test_callback),
      cmocka_unit_test(test_callback_arguments),
      cmocka_unit_test(test_callback_results),
      cmocka_unit_test(test_callback_cannot_return_a_view),
      cmocka_unit_test(test_deleter_of_global),
      cmocka_unit_test(test_deleter_of_overridden_global),
      cmocka_unit_test(test_deleter_that_asks_for_globals),
      cmocka_unit_test(test_deleter_of_callback),
      cmocka_unit_test(test_deleter_on_another_thread),
      cmocka_unit_test(test_handles),
      cmocka_unit_test(test_movable_argument),
      cmocka_unit_test(test_greater_integers),
  };
  int failed = cmocka_run_group_tests_name("export", tests, support_open, support_close);
  pega_error_clear(&error);
  return failed;
}
