/* SPDX-License-Identifier: Apache-2.0 */
/* Every public function given NULL and garbage: it refuses with a text, and changes nothing.
 *
 * Run with the word "list", the program prints the functions that it covers, one a line; the test
 * core.bad_input_covers_all compares that with what the library exports. */
#include <pega/cuda.h>
#include <pega/pack.h>
#include <pega/qwen35.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

/* ---- What was covered ---- */

static char covered[128][64];
static int num_covered;

/* The function that a call, given as text, calls. */
static void cover(const char *call) {
  if (*call == '(') call = strchr(call, ')') + 1;
  char name[64];
  snprintf(name, sizeof name, "%.*s", (int)strcspn(call, "("), call);
  for (int i = 0; i < num_covered; ++i) {
    if (strcmp(covered[i], name) == 0) return;
  }
  assert_true(num_covered < COUNT(covered));
  memcpy(covered[num_covered++], name, sizeof name);
}

/* ---- Where calls put their results: nothing may be written there ---- */

static union {
  char bytes[64];
  pega_value value;
  pega_function *function;
  DLManagedTensor *managed;
  DLManagedTensorVersioned *versioned;
  DLDataType dtype;
  DLDevice device;
  void *pointer;
  size_t size;
} out;

static void fill_out(void) { memset(&out, 0x5a, sizeof out); }

static void expect_untouched(const char *call) {
  for (size_t i = 0; i < sizeof out.bytes; ++i) {
    if (out.bytes[i] != 0x5a) {
      print_error("%s wrote to its result\n", call);
      fail();
    }
  }
}

/* The call fails with this status and a text that holds `text`; the same without an error. `error`
 * is where the call puts its error. */
#define REFUSES(status, text, call)                        \
  do {                                                     \
    pega_error error_ = PEGA_ERROR_INIT;                   \
    pega_error *error = &error_;                           \
    cover(#call);                                          \
    fill_out();                                            \
    EXPECT_ERROR(call, error, status, text);               \
    assert_true(strlen(pega_error_message(error)) < 1000); \
    expect_untouched(#call);                               \
    error = NULL;                                          \
    assert_int_equal(call, status);                        \
    expect_untouched(#call);                               \
    pega_error_clear(&error_);                             \
  } while (0)
#define INVALID(text, call) REFUSES(PEGA_ERROR_INVALID_ARGUMENT, text, call)

/* The call, which has no error to give, comes back and writes nothing. */
#define HARMLESS(call)       \
  do {                       \
    cover(#call);            \
    fill_out();              \
    call;                    \
    expect_untouched(#call); \
  } while (0)
#define IS(expected, call)             \
  do {                                 \
    cover(#call);                      \
    assert_true((call) == (expected)); \
  } while (0)
#define IS_TEXT(expected, call)          \
  do {                                   \
    cover(#call);                        \
    assert_string_equal(call, expected); \
  } while (0)

/* ---- Garbage ---- */

static char huge_name[(1 << 20) + 1]; /* 1 MiB of letters */
static _Alignas(64) char memory[64];
static pega_function *function;
static pega_value array;

static pega_value with_kind(uint16_t kind, uint16_t flags, uint64_t payload) {
  pega_value value = pega_value_none();
  value.kind = kind;
  value.flags = flags;
  value.size = 5;
  value.as.u64 = payload;
  return value;
}

static int set_up(void **state) {
  (void)state;
  memset(huge_name, 'n', sizeof huge_name - 1);
  const pega_param param = {.name = "n", .type = PEGA_TYPE_INT};
  function = support_function("t.f", &param, 1, 0);
  const pega_value item = pega_value_int(1);
  return pega_array_create(&item, 1, &array, NULL) == PEGA_OK ? 0 : -1;
}

static int tear_down(void **state) {
  (void)state;
  pega_function_release(function);
  pega_value_release(&array);
  return 0;
}

/* ---- Errors ---- */

static void test_errors(void **state) {
  (void)state;
  support_counter released = {0};
  pega_error cause = PEGA_ERROR_INIT, empty = PEGA_ERROR_INIT;
  IS_TEXT("UNKNOWN", pega_status_name((pega_status)-1));
  IS(PEGA_ERROR_IO, pega_error_set(NULL, PEGA_ERROR_IO, NULL, "%s", "text"));
  IS(PEGA_ERROR_IO, pega_error_set_text(NULL, PEGA_ERROR_IO, NULL, NULL, SIZE_MAX));
  HARMLESS(pega_error_clear(NULL));
  HARMLESS(pega_error_append_traceback(NULL, NULL, 0));
  HARMLESS(pega_error_append_traceback(NULL, "x", 1));
  HARMLESS(pega_error_append_traceback(&empty, NULL, SIZE_MAX));
  HARMLESS(pega_error_set_cause(NULL, NULL));
  HARMLESS(pega_error_set_cause(&empty, NULL));
  HARMLESS(pega_error_set_cause(NULL, &cause));
  HARMLESS(pega_error_copy(NULL, NULL));
  HARMLESS(pega_error_copy(NULL, &empty));
  HARMLESS(pega_error_copy(&empty, NULL));
  HARMLESS(pega_error_attach(NULL, NULL, NULL, NULL));
  HARMLESS(pega_error_attach(NULL, NULL, &released, support_count));
  assert_int_equal(released.count, 1);
  IS_TEXT("", pega_error_kind(NULL));
  IS_TEXT("", pega_error_message(NULL));
  IS_TEXT("", pega_error_traceback(NULL));
  IS(NULL, pega_error_cause(NULL));
  IS(NULL, pega_error_payload(NULL, NULL));
  assert_int_equal(empty.status, PEGA_OK);
  assert_null(empty.detail);
}

static void test_error_without_a_format(void **state) {
  (void)state;
  /* Not a constant, which compilers would warn about. */
  const char *volatile format = NULL;
  pega_error error = PEGA_ERROR_INIT;
  assert_int_equal(pega_error_set(&error, PEGA_ERROR_IO, NULL, format, 1), PEGA_ERROR_IO);
  assert_int_equal(error.status, PEGA_ERROR_IO);
  pega_error_clear(&error);
}

/* ---- Values ---- */

static void test_values(void **state) {
  (void)state;
  const pega_value none = pega_value_none();
  const pega_value number = pega_value_int(5);
  const pega_value strange = with_kind(99, 0, 0);
  const pega_value broken_text = with_kind(PEGA_STRING, 0, 0);
  static const uint16_t object_kinds[] = {PEGA_FUNCTION, PEGA_ARRAY, PEGA_MAP, PEGA_OBJECT};

  IS_TEXT("unknown", pega_kind_name(UINT32_MAX));
  IS(NULL, pega_value_as_string(NULL, &out.size));
  IS(NULL, pega_value_as_string(&strange, NULL));
  IS(NULL, pega_value_as_string(&broken_text, NULL));
  IS(NULL, pega_value_as_bytes(NULL, NULL));
  IS(NULL, pega_value_as_tensor(NULL));
  IS(NULL, pega_value_as_function(NULL));
  IS(-1, pega_value_size(NULL));
  IS(NULL, pega_array_get(NULL, 0));
  IS(NULL, pega_array_get(&array, INT64_MIN));
  IS(NULL, pega_array_get(&number, 0));
  IS(NULL, pega_map_key(NULL, 0));
  IS(NULL, pega_map_key(&array, 0));
  IS(NULL, pega_map_value(NULL, 0));
  IS(NULL, pega_map_get(NULL, "key"));
  IS(NULL, pega_map_get(&array, "key"));
  IS(NULL, pega_map_get(NULL, NULL));
  IS_TEXT("none", pega_value_type_key(NULL));
  IS_TEXT("unknown", pega_value_type_key(&strange));
  IS(NULL, pega_value_payload(NULL, &out));
  IS(NULL, pega_value_payload(&number, &out));
  IS(0, pega_value_format(NULL, out.bytes, 0));
  IS(0, pega_value_format(NULL, NULL, SIZE_MAX));
  assert_int_equal(pega_value_format(&strange, NULL, 0), strlen("value of unknown kind 99"));
  HARMLESS(pega_value_release(NULL));

  INVALID("value is NULL", pega_value_retain(NULL, &out.value, error));
  INVALID("out is NULL", pega_value_retain(&number, NULL, error));
  INVALID("text is NULL", pega_value_retain(&broken_text, &out.value, error));
  for (int i = 0; i < COUNT(object_kinds); ++i) {
    /* An object kind that carries no object, in all the ways to say so. */
    const pega_value bad[] = {with_kind(object_kinds[i], 0, 0), with_kind(object_kinds[i], 1, 0),
                              with_kind(object_kinds[i], 0, (uint64_t)(uintptr_t)memory)};
    for (int j = 0; j < COUNT(bad); ++j) {
      pega_value value = bad[j];
      INVALID("malformed value (kind ", pega_value_retain(&value, &out.value, error));
      IS(NULL, pega_value_as_function(&value));
      IS(-1, pega_value_size(&value));
      IS(NULL, pega_value_payload(&value, memory));
      assert_true(pega_value_format(&value, NULL, 0) > 0);
      HARMLESS(pega_value_release(&value));
    }
  }
  INVALID("out is NULL", pega_string_create("x", 1, NULL, error));
  INVALID("text is NULL", pega_string_create(NULL, 1, &out.value, error));
  REFUSES(PEGA_ERROR_OUT_OF_MEMORY, "no memory",
          pega_string_create("x", SIZE_MAX, &out.value, error));
  INVALID("out is NULL", pega_bytes_create("x", 1, NULL, error));
  INVALID("text is NULL", pega_bytes_create(NULL, 1, &out.value, error));
  INVALID("out NULL", pega_array_create(&none, 1, NULL, error));
  INVALID("items NULL", pega_array_create(NULL, 1, &out.value, error));
  INVALID("a negative count", pega_array_create(&none, INT64_MIN, &out.value, error));
  REFUSES(PEGA_ERROR_OUT_OF_MEMORY, "no memory",
          pega_array_create(&none, INT64_MAX, &out.value, error));
  INVALID("items NULL", pega_map_create(NULL, &none, 1, &out.value, error));
  INVALID("items NULL", pega_map_create(&none, NULL, 1, &out.value, error));
  INVALID("a negative count", pega_map_create(&none, &none, -1, &out.value, error));
  REFUSES(PEGA_ERROR_OUT_OF_MEMORY, "no memory",
          pega_map_create(&none, &none, INT64_MAX / 2, &out.value, error));
  INVALID("type_key is NULL", pega_object_create(NULL, NULL, NULL, NULL, &out.value, error));
  INVALID("out is NULL", pega_object_create("t", NULL, NULL, NULL, NULL, error));
}

/* A value that is no object, with the flag of one: its payload is not followed. */
static void test_values_with_a_wrong_flag(void **state) {
  (void)state;
  for (uint16_t kind = PEGA_NONE; kind <= PEGA_DEVICE; ++kind) {
    pega_value value = with_kind(kind, PEGA_VALUE_COUNTED, 5);
    assert_null(pega_value_payload(&value, memory));
    assert_int_equal(pega_value_size(&value), -1);
    pega_value_release(&value);
    assert_int_equal(value.kind, PEGA_NONE);
  }
}

static void test_values_of_unknown_kind_are_not_kept(void **state) {
  (void)state;
  const pega_value strange = with_kind(99, 0, 0);
  INVALID("malformed value", pega_value_retain(&strange, &out.value, error));
  INVALID("malformed value", pega_array_create(&strange, 1, &out.value, error));
}

/* ---- Tensors ---- */

static void test_tensors(void **state) {
  (void)state;
  DLTensor huge_rank = TENSOR(memory, FLOAT32, 1);
  huge_rank.ndim = INT32_MAX;
  DLTensor negative = TENSOR(memory, FLOAT32, -1);
  DLManagedTensor managed = {huge_rank, NULL, NULL};
  DLManagedTensorVersioned versioned = {{DLPACK_MAJOR_VERSION, 0}, NULL, NULL, 0, huge_rank};
  DLManagedTensorVersioned future = {{99, 0}, NULL, NULL, 0, huge_rank};
  const pega_value number = pega_value_int(5);
  const pega_value broken = with_kind(PEGA_TENSOR, 0, 0);

  REFUSES(PEGA_ERROR_INVALID_ARGUMENT, "tensor is NULL", pega_tensor_validate(NULL, error));
  REFUSES(PEGA_ERROR_SHAPE, "tensor rank is 2147483647", pega_tensor_validate(&huge_rank, error));
  REFUSES(PEGA_ERROR_SHAPE, "shape[0] is -1", pega_tensor_validate(&negative, error));
  INVALID("managed is NULL", pega_tensor_from_dlpack(NULL, &out.value, error));
  INVALID("out is NULL", pega_tensor_from_dlpack(&managed, NULL, error));
  REFUSES(PEGA_ERROR_SHAPE, "rank", pega_tensor_from_dlpack(&managed, &out.value, error));
  INVALID("managed is NULL", pega_tensor_from_dlpack_versioned(NULL, &out.value, error));
  INVALID("out is NULL", pega_tensor_from_dlpack_versioned(&versioned, NULL, error));
  REFUSES(PEGA_ERROR_SHAPE, "rank",
          pega_tensor_from_dlpack_versioned(&versioned, &out.value, error));
  REFUSES(PEGA_ERROR_VERSION, "version 99.0",
          pega_tensor_from_dlpack_versioned(&future, &out.value, error));
  INVALID("the value is no tensor", pega_tensor_to_dlpack(NULL, &out.managed, error));
  INVALID("the value is no tensor", pega_tensor_to_dlpack(&number, &out.managed, error));
  INVALID("the value is no tensor", pega_tensor_to_dlpack(&broken, &out.managed, error));
  INVALID("out is NULL", pega_tensor_to_dlpack(&number, NULL, error));
  INVALID("the value is no tensor", pega_tensor_to_dlpack_versioned(NULL, &out.versioned, error));
  INVALID("the value is no tensor",
          pega_tensor_to_dlpack_versioned(&number, &out.versioned, error));
  INVALID("out is NULL", pega_tensor_to_dlpack_versioned(&number, NULL, error));
  INVALID("tensor is NULL", pega_tensor_create(NULL, 0, NULL, NULL, NULL, &out.value, error));
  INVALID("out is NULL", pega_tensor_create(&negative, 0, NULL, NULL, NULL, NULL, error));
  REFUSES(PEGA_ERROR_SHAPE, "shape[0] is -1",
          pega_tensor_create(&negative, 0, NULL, NULL, NULL, &out.value, error));
  IS(0, pega_tensor_flags(NULL));
  IS(0, pega_tensor_flags(&number));
}

static void test_no_tensor(void **state) {
  (void)state;
  IS(0, pega_tensor_num_elements(NULL));
  IS(0, pega_tensor_num_bytes(NULL));
  IS(false, pega_tensor_is_contiguous(NULL));
  IS(NULL, pega_tensor_data(NULL));
}

static void test_names(void **state) {
  (void)state;
  char name[PEGA_NAME_SIZE];
  INVALID("name is NULL", pega_dtype_parse(NULL, &out.dtype, error));
  INVALID("out is NULL", pega_dtype_parse("int8", NULL, error));
  REFUSES(PEGA_ERROR_DTYPE, "unknown element type", pega_dtype_parse(huge_name, &out.dtype, error));
  INVALID("name is NULL", pega_device_parse(NULL, &out.device, error));
  INVALID("out is NULL", pega_device_parse("cpu", NULL, error));
  REFUSES(PEGA_ERROR_DEVICE, "unknown device", pega_device_parse(huge_name, &out.device, error));
  IS_TEXT("code255_255x65535", pega_dtype_name(DTYPE(255, 255, 65535), name));
  IS_TEXT("device-1:-1", pega_device_name(DEVICE((DLDeviceType)-1, -1), name));
  IS_TEXT("unknown", pega_type_name(UINT32_MAX));
}

/* ---- Functions, registry, streams, symbols ---- */

static void test_functions(void **state) {
  (void)state;
  pega_signature lying_signature = PEGA_SIGNATURE_INIT;
  lying_signature.num_params = INT32_MAX;
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  const pega_value number = pega_value_int(5);
  const pega_value strange = with_kind(99, 7, 3);

  INVALID("options is NULL", pega_function_create(NULL, &out.function, error));
  INVALID("out is NULL", pega_function_create(&options, NULL, error));
  INVALID("call is NULL", pega_function_create(&options, &out.function, error));
  options.call = support_no_op;
  options.name = huge_name;
  INVALID("expected 1 to 255 bytes, got more",
          pega_function_create(&options, &out.function, error));
  options.name = "";
  INVALID("expected 1 to 255 bytes, got none",
          pega_function_create(&options, &out.function, error));
  options.name = "t.f";
  options.signature = &lying_signature;
  INVALID("2147483647 parameters", pega_function_create(&options, &out.function, error));
  options.struct_size = UINT32_MAX;
  REFUSES(PEGA_ERROR_VERSION, "struct_size", pega_function_create(&options, &out.function, error));

  IS(NULL, pega_function_retain(NULL));
  HARMLESS(pega_function_release(NULL));
  IS_TEXT("", pega_function_name(NULL));
  IS_TEXT("", pega_function_doc(NULL));
  IS(NULL, pega_function_signature(NULL));
  IS_TEXT("", pega_function_signature_text(NULL));
  IS(NULL, pega_function_self(NULL, support_no_op));
  IS(NULL, pega_function_self(function, NULL));

  INVALID("function is NULL", pega_function_check(NULL, NULL, 0, error));
  INVALID("got 1 at NULL", pega_function_check(function, NULL, 1, error));
  INVALID("got -1 at", pega_function_check(function, &number, -1, error));
  REFUSES(PEGA_ERROR_ARGUMENT_COUNT, "got 2147483647",
          pega_function_check(function, &number, INT32_MAX, error));
  INVALID("malformed value", pega_function_check(function, &strange, 1, error));
  INVALID("function is NULL", pega_function_call(NULL, NULL, 0, NULL, error));
  INVALID("got 1 at NULL", pega_function_call(function, NULL, 1, NULL, error));
  INVALID("got -2147483648 at", pega_function_call(function, &number, INT32_MIN, NULL, error));
  INVALID("malformed value", pega_function_call(function, &strange, 1, NULL, error));
}

static void test_registry(void **state) {
  (void)state;
  pega_value before = pega_value_none(), after = pega_value_none();
  assert_int_equal(pega_registry_list(&before, NULL), PEGA_OK);
  INVALID("function is NULL", pega_registry_add(NULL, 0, error));
  INVALID("unknown flags 0xffffffff", pega_registry_add(function, UINT32_MAX, error));
  INVALID("name is NULL", pega_registry_remove(NULL, error));
  REFUSES(PEGA_ERROR_NOT_FOUND, "no function 'nnn", pega_registry_remove(huge_name, error));
  INVALID("name is NULL", pega_registry_get(NULL, &out.function, error));
  INVALID("out is NULL", pega_registry_get("t.f", NULL, error));
  REFUSES(PEGA_ERROR_NOT_FOUND, "no function 'nnn",
          pega_registry_get(huge_name, &out.function, error));
  REFUSES(PEGA_ERROR_NOT_FOUND, "no function '?[2J'",
          pega_registry_get("\x1b[2J", &out.function, error));
  INVALID("out is NULL", pega_registry_list(NULL, error));
  assert_int_equal(pega_registry_list(&after, NULL), PEGA_OK);
  assert_int_equal(pega_value_size(&before), pega_value_size(&after));
  pega_value_release(&before);
  pega_value_release(&after);
}

static void test_streams(void **state) {
  (void)state;
  const DLDevice cuda = DEVICE(kDLCUDA, 0);
  const DLDevice strange = DEVICE((DLDeviceType)INT32_MAX, INT32_MIN);
  const pega_stream_provider zero = {0, 0, NULL, NULL, NULL};
  INVALID("stream is NULL", pega_stream_get(cuda, NULL, error));
  REFUSES(PEGA_ERROR_DEVICE, "type 2147483647", pega_stream_get(strange, &out.pointer, error));
  REFUSES(PEGA_ERROR_DEVICE, "type 2147483647",
          pega_stream_set(strange, memory, &out.pointer, error));
  INVALID("struct_size 0", pega_stream_set_provider(&zero, error));
}

static void test_provided_prefill(void **state) {
  (void)state;
  INVALID("'implementation' is NULL", pega_qwen35_provide_prefill(NULL, function, error));
  INVALID("'function' is NULL", pega_qwen35_provide_prefill("flashinfer", NULL, error));
  REFUSES(PEGA_ERROR_NOT_FOUND, "no implementation 'nnn",
          pega_qwen35_provide_prefill(huge_name, function, error));
  REFUSES(PEGA_ERROR_NOT_FOUND, "no implementation '?[2J'",
          pega_qwen35_provide_prefill("\x1b[2J", function, error));
  REFUSES(PEGA_ERROR_TYPE, "10 tensors",
          pega_qwen35_provide_prefill("flashinfer", function, error));
  INVALID("path and text are NULL", pega_qwen35_load_choices(NULL, NULL, 7, error));
  REFUSES(PEGA_ERROR_FORMAT, "choices in memory: ", pega_qwen35_load_choices(NULL, "", 0, error));
  REFUSES(PEGA_ERROR_NOT_FOUND, ": No such file", pega_qwen35_load_choices("", NULL, 0, error));
  REFUSES(PEGA_ERROR_RANGE, "at most", pega_qwen35_load_choices("x", "y", SIZE_MAX, error));
}

static void test_symbols(void **state) {
  (void)state;
  IS(1, gated_delta_rule_prefill_chunk_solve_cuda(NULL, NULL, 64, 64, NULL));
  IS(PEGA_ERROR_RANGE, pega_symbol_last_error(NULL));
  IS(1, gated_delta_rule_prefill_chunk_solve_cuda((const float *)(void *)(memory + 1),
                                                  (uint16_t *)(void *)(memory + 3), INT32_MIN,
                                                  INT32_MIN, memory));
  const float *f = (const float *)(void *)(memory + 1);
  float *o = (float *)(void *)(memory + 3);
  const uint16_t *h = (const uint16_t *)(void *)(memory + 1);
  uint16_t *w = (uint16_t *)(void *)(memory + 3);
  IS(1, gated_delta_rule_prefill_chunk_prepare_cuda(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
                                                    NULL, NULL, 1, 1, 384, 1, NULL));
  IS(1, gated_delta_rule_prefill_chunk_prepare_cuda(h, h, h, h, f, w, w, w, o, o, INT32_MIN,
                                                    INT32_MAX, INT32_MIN, INT32_MAX, memory));
  IS(1, gated_delta_rule_prefill_chunk_cumsum_cuda(NULL, NULL, 1, 1, NULL));
  IS(1, gated_delta_rule_prefill_chunk_cumsum_cuda(f, o, INT32_MIN, INT32_MAX, memory));
  IS(1, gated_delta_rule_prefill_chunk_a_cuda(NULL, NULL, NULL, NULL, 1, 1, NULL));
  IS(1, gated_delta_rule_prefill_chunk_a_cuda(h, f, f, o, INT32_MIN, INT32_MAX, memory));
  IS(1, gated_delta_rule_prefill_chunk_recompute_cuda(NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1,
                                                      1, NULL));
  IS(1, gated_delta_rule_prefill_chunk_recompute_cuda(h, h, f, w, w, h, f, INT32_MIN, INT32_MAX,
                                                      memory));
  IS(1, gated_delta_rule_prefill_chunk_state_cuda(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1,
                                                  1, NULL));
  IS(1, gated_delta_rule_prefill_chunk_state_cuda(h, h, h, f, f, o, w, o, INT32_MIN, INT32_MAX,
                                                  memory));
  IS(1, gated_delta_rule_prefill_chunk_o_cuda(NULL, NULL, NULL, NULL, NULL, NULL, 1, 1, 1, NULL));
  IS(1, gated_delta_rule_prefill_chunk_o_cuda(h, h, h, f, f, w, INT32_MIN, INT32_MAX, 1, memory));
  IS(1,
     gated_delta_rule_decode_cuda(NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1, 1, 128, 128, NULL));
  IS(1, gated_delta_rule_decode_cuda(h, h, h, h, f, o, w, 1, 1, 128, 128, memory));
  IS(1, gated_delta_rule_decode_cuda(h, h, h, h, f, o, w, INT32_MIN, INT32_MAX, 127, 0, memory));
  IS(1, gated_delta_rule_decode_batch_cuda(NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1, 1, 1, 128,
                                           128, NULL));
  IS(1, gated_delta_rule_decode_batch_cuda(h, h, h, h, f, (const uint64_t *)(const void *)h, w,
                                           INT32_MIN, 1, 1, 128, 128, memory));
  IS(1, gated_delta_rule_decode_batch_cuda(h, h, h, h, f, (const uint64_t *)(const void *)h, w, 1,
                                           3, 2, 128, 128, memory));
  IS(PEGA_VERSION_MAJOR * 10000 + PEGA_VERSION_MINOR * 100 + PEGA_VERSION_PATCH, pega_version());
  HARMLESS((void)pega_version_string());
}

/* Refused before a driver is looked for; a machine may have one or not. */
static void test_cuda(void **state) {
  (void)state;
  const DLDevice cuda = DEVICE(kDLCUDA, 0);
  pega_cuda_driver_options options = PEGA_CUDA_DRIVER_OPTIONS_INIT;
  pega_cuda_allocator allocator = {0, 0, NULL, NULL, NULL};
  pega_device_info info = {.struct_size = 0};
  pega_device_health_info health = {.struct_size = sizeof health - 1};
  options.struct_size = 0;
  REFUSES(PEGA_ERROR_VERSION, "struct_size 0", pega_cuda_open(&options, error));
  options.struct_size = UINT32_MAX;
  REFUSES(PEGA_ERROR_VERSION, "struct_size 4294967295", pega_cuda_open(&options, error));
  options.struct_size = sizeof options;
  options.path = huge_name;
  options.find = (void *(*)(void *, const char *, int))(uintptr_t)1;
  INVALID("both path and find", pega_cuda_open(&options, error));
  options.find = NULL;
  REFUSES(PEGA_ERROR_UNAVAILABLE, "nnn", pega_cuda_open(&options, error));
  IS(PEGA_OK, pega_cuda_close(NULL));
  INVALID("struct_size 0", pega_cuda_set_allocator(&allocator, error));
  allocator.struct_size = sizeof allocator;
  INVALID("allocate and release both set", pega_cuda_set_allocator(&allocator, error));
  INVALID("out is NULL", pega_device_count(NULL, error));
  REFUSES(PEGA_ERROR_VERSION, "out is NULL", pega_device_query(cuda, NULL, error));
  REFUSES(PEGA_ERROR_VERSION, "struct_size 0", pega_device_query(cuda, &info, error));
  REFUSES(PEGA_ERROR_VERSION, "out is NULL", pega_device_health(cuda, NULL, error));
  REFUSES(PEGA_ERROR_VERSION, "struct_size", pega_device_health(cuda, &health, error));
  INVALID("function is NULL", pega_function_prepare(NULL, cuda, error));
  REFUSES(PEGA_ERROR_DEVICE, "expected a cuda device, got cpu",
          pega_function_prepare(function, CPU, error));
  REFUSES(PEGA_ERROR_DEVICE, "expected a cuda device",
          pega_function_prepare(function, DEVICE((DLDeviceType)INT32_MAX, INT32_MIN), error));
  INVALID("function is NULL", pega_plan_create(NULL, NULL, 0, (pega_plan **)&out.pointer, error));
  INVALID("out is NULL", pega_plan_create(function, NULL, 0, NULL, error));
  INVALID("expected a count >= 0",
          pega_plan_create(function, NULL, -1, (pega_plan **)&out.pointer, error));
  INVALID("plan is NULL", pega_plan_call(NULL, NULL, NULL, error));
  IS(NULL, pega_plan_retain(NULL));
  HARMLESS(pega_plan_release(NULL));
  IS(0, pega_plan_num_launches(NULL));
  IS(0, pega_plan_num_pointers(NULL));
  IS(-1, pega_plan_pointer_argument(NULL, INT32_MIN));
  IS(0, pega_plan_pointer_alignment(NULL, INT32_MAX));
}

static void test_packs(void **state) {
  (void)state;
  const DLDevice cuda = DEVICE(kDLCUDA, 0);
  pega_pack *pack = (pega_pack *)(void *)memory; /* not looked at */
  INVALID("pack is NULL", pega_pack_get(NULL, "t.f", &out.function, error));
  INVALID("name is NULL", pega_pack_get(pack, NULL, &out.function, error));
  INVALID("out is NULL", pega_pack_get(pack, "t.f", NULL, error));
  INVALID("pack is NULL", pega_pack_register(NULL, 0, error));
  INVALID("unknown flags 0xffffffff", pega_pack_register(pack, UINT32_MAX, error));
  INVALID("pack is NULL", pega_pack_explain(NULL, "t.f", "sm_90", &out.value, error));
  INVALID("name is NULL", pega_pack_explain(pack, NULL, "sm_90", &out.value, error));
  INVALID("target is NULL", pega_pack_explain(pack, "t.f", NULL, &out.value, error));
  INVALID("out is NULL", pega_pack_explain(pack, "t.f", "sm_90", NULL, error));
  INVALID("pack is NULL", pega_pack_image(NULL, NULL, 0, NULL, &out.value, error));
  INVALID("out is NULL", pega_pack_image(pack, NULL, 0, NULL, NULL, error));
  INVALID("expected a count >= 0", pega_pack_image(pack, NULL, 1, NULL, &out.value, error));
  INVALID("expected a count >= 0", pega_pack_image(pack, NULL, INT32_MIN, NULL, &out.value, error));
  INVALID("target ''", pega_pack_image(pack, NULL, 0, "", &out.value, error));
  INVALID("pack is NULL", pega_pack_test(NULL, cuda, NULL, NULL, error));
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_errors),
      cmocka_unit_test(test_values),
      cmocka_unit_test(test_tensors),
      cmocka_unit_test(test_names),
      cmocka_unit_test(test_functions),
      cmocka_unit_test(test_registry),
      cmocka_unit_test(test_streams),
      cmocka_unit_test(test_provided_prefill),
      cmocka_unit_test(test_symbols),
      cmocka_unit_test(test_cuda),
      cmocka_unit_test(test_packs),
      cmocka_unit_test(test_error_without_a_format),
      cmocka_unit_test(test_values_with_a_wrong_flag),
      cmocka_unit_test(test_values_of_unknown_kind_are_not_kept),
      cmocka_unit_test(test_no_tensor),
  };
  const int failed = cmocka_run_group_tests(tests, set_up, tear_down);
  if (argc == 2 && strcmp(argv[1], "list") == 0) {
    for (int i = 0; i < num_covered; ++i) printf("%s\n", covered[i]);
  }
  return failed;
}
