/* SPDX-License-Identifier: Apache-2.0 */
/* pega_value: every kind made, read and kept; containers and objects; references that balance. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "support.h"

/* One value of each kind; the counted ones are owned and freed by free_all(). */
enum { kKinds = PEGA_OBJECT + 1 };

static float tensor_data[6];
static int64_t tensor_shape[2] = {2, 3};
static DLTensor tensor_view = {.data = tensor_data,
                               .device = {kDLCPU, 0},
                               .ndim = 2,
                               .dtype = {kDLFloat, 32, 1},
                               .shape = tensor_shape};

static void make_all(pega_value values[kKinds]) {
  pega_error error = PEGA_ERROR_INIT;
  const pega_value key = pega_value_string("key");
  values[PEGA_NONE] = pega_value_none();
  values[PEGA_BOOL] = pega_value_bool(true);
  values[PEGA_INT] = pega_value_int(-3);
  values[PEGA_UINT] = pega_value_uint(UINT64_MAX);
  values[PEGA_FLOAT] = pega_value_float(0.5);
  values[PEGA_POINTER] = pega_value_pointer(tensor_data);
  values[PEGA_DTYPE] = pega_value_dtype(BFLOAT16);
  values[PEGA_DEVICE] = pega_value_device(DEVICE(kDLCUDA, 1));
  EXPECT_OK(pega_string_create("text", 4, &values[PEGA_STRING], &error), &error);
  EXPECT_OK(pega_bytes_create("bytes", 5, &values[PEGA_BYTES], &error), &error);
  EXPECT_OK(pega_tensor_create(&tensor_view, 0, NULL, NULL, NULL, &values[PEGA_TENSOR], &error),
            &error);
  values[PEGA_FUNCTION] = pega_value_function(support_function("f", NULL, 0, 0));
  EXPECT_OK(pega_array_create(values, 4, &values[PEGA_ARRAY], &error), &error);
  EXPECT_OK(pega_map_create(&key, values, 1, &values[PEGA_MAP], &error), &error);
  EXPECT_OK(pega_object_create("t.Type", NULL, NULL, NULL, &values[PEGA_OBJECT], &error), &error);
}

static void free_all(pega_value values[kKinds]) {
  for (int kind = 0; kind < kKinds; ++kind) pega_value_release(&values[kind]);
}

/* An object that counts in `released` when it is gone. */
static pega_value make_counting(support_counter *released) {
  pega_error error = PEGA_ERROR_INIT;
  pega_value value;
  EXPECT_OK(pega_object_create("t.Counting", NULL, released, support_count, &value, &error),
            &error);
  return value;
}

static void test_makers(void **state) {
  (void)state;
  pega_value value;
  assert_int_equal(sizeof(pega_value), 16);
  value = pega_value_none();
  assert_true(value.kind == 0 && value.flags == 0 && value.size == 0 && value.as.u64 == 0);
  value = pega_value_bool(true);
  assert_true(value.kind == 1 && value.flags == 0 && value.as.boolean && value.as.i64 == 1);
  assert_int_equal(pega_value_bool(false).as.i64, 0);
  value = pega_value_int(INT64_MIN);
  assert_true(value.kind == 2 && value.flags == 0 && value.as.i64 == INT64_MIN);
  value = pega_value_uint(UINT64_MAX);
  assert_true(value.kind == 3 && value.as.u64 == UINT64_MAX);
  value = pega_value_float(-0.25);
  assert_true(value.kind == 4 && value.as.f64 == -0.25);
  value = pega_value_pointer(&value);
  assert_true(value.kind == 5 && value.as.pointer == &value);
  assert_int_equal(pega_value_pointer(NULL).kind, PEGA_POINTER);
  value = pega_value_dtype(BFLOAT16);
  assert_true(value.kind == 6 && value.as.dtype.code == kDLBfloat && value.as.dtype.bits == 16);
  value = pega_value_device(DEVICE(kDLCUDA, 3));
  assert_true(value.kind == 7 && value.as.device.device_type == kDLCUDA &&
              value.as.device.device_id == 3);
  value = pega_value_string("abc");
  assert_true(value.kind == 8 && value.flags == 0 && value.size == 3);
  value = pega_value_bytes("ab\0c", 4);
  assert_true(value.kind == 9 && value.flags == 0 && value.size == 4);
  value = pega_value_tensor(&tensor_view);
  assert_true(value.kind == 10 && value.flags == 0 && value.as.tensor == &tensor_view);

  /* What stands for nothing is None. */
  assert_int_equal(pega_value_string(NULL).kind, PEGA_NONE);
  assert_int_equal(pega_value_bytes(NULL, 3).kind, PEGA_NONE);
  assert_int_equal(pega_value_tensor(NULL).kind, PEGA_NONE);
  assert_int_equal(pega_value_function(NULL).kind, PEGA_NONE);
  assert_int_equal(pega_value_function(NULL).flags, 0);
  if (SIZE_MAX > UINT32_MAX) {
    assert_int_equal(pega_value_string_n("x", (size_t)UINT32_MAX + 1).kind, PEGA_NONE);
    assert_int_equal(pega_value_bytes("x", (size_t)UINT32_MAX + 1).kind, PEGA_NONE);
    assert_int_equal(pega_value_string_n("x", UINT32_MAX).kind, PEGA_STRING);
  }
}

static void test_kind_names(void **state) {
  (void)state;
  static const char *const names[kKinds] = {"none",    "bool",     "int",    "uint",   "float",
                                            "pointer", "dtype",    "device", "string", "bytes",
                                            "tensor",  "function", "array",  "map",    "object"};
  for (uint32_t kind = 0; kind < kKinds; ++kind) {
    assert_string_equal(pega_kind_name(kind), names[kind]);
  }
  assert_string_equal(pega_kind_name(kKinds), "unknown");
  assert_string_equal(pega_kind_name(UINT32_MAX), "unknown");
}

/* Each accessor answers for its own kind and for no other. */
static void test_accessors(void **state) {
  (void)state;
  pega_value values[kKinds];
  make_all(values);
  for (int kind = 0; kind < kKinds; ++kind) {
    const pega_value *value = &values[kind];
    size_t size = 99;
    assert_int_equal(value->kind, kind);
    assert_int_equal(pega_value_as_string(value, &size) != NULL, kind == PEGA_STRING);
    assert_int_equal(pega_value_as_bytes(value, &size) != NULL, kind == PEGA_BYTES);
    assert_int_equal(pega_value_as_tensor(value) != NULL, kind == PEGA_TENSOR);
    assert_int_equal(pega_value_as_function(value) != NULL, kind == PEGA_FUNCTION);
    assert_int_equal(pega_value_size(value), kind == PEGA_ARRAY ? 4 : kind == PEGA_MAP ? 1 : -1);
    assert_int_equal(pega_array_get(value, 0) != NULL, kind == PEGA_ARRAY);
    assert_int_equal(pega_map_key(value, 0) != NULL, kind == PEGA_MAP);
    assert_int_equal(pega_map_value(value, 0) != NULL, kind == PEGA_MAP);
    assert_int_equal(pega_map_get(value, "key") != NULL, kind == PEGA_MAP);
    assert_string_equal(pega_value_type_key(value),
                        kind == PEGA_OBJECT ? "t.Type" : pega_kind_name((uint32_t)kind));
    if (size != 99) assert_int_equal(size, kind == PEGA_STRING ? 4 : 5);
  }
  assert_ptr_equal(pega_value_as_tensor(&values[PEGA_TENSOR])->data, tensor_data);
  free_all(values);
}

static void test_text_is_copied(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  char source[] = "a\0b\xff";
  pega_value string, bytes, empty;
  size_t size;
  EXPECT_OK(pega_string_create(source, 4, &string, &error), &error);
  EXPECT_OK(pega_bytes_create(source, 4, &bytes, &error), &error);
  memset(source, 'x', sizeof source);
  assert_memory_equal(pega_value_as_string(&string, &size), "a\0b\xff", 5);
  assert_int_equal(size, 4);
  assert_memory_equal(pega_value_as_bytes(&bytes, &size), "a\0b\xff", 5);
  assert_int_equal(size, 4);
  assert_non_null(pega_value_as_string(&string, NULL));

  EXPECT_OK(pega_string_create(NULL, 0, &empty, &error), &error);
  assert_string_equal(pega_value_as_string(&empty, &size), "");
  assert_int_equal(size, 0);
  pega_value_release(&empty);
  pega_value_release(&string);
  pega_value_release(&bytes);

  EXPECT_ERROR(pega_string_create(NULL, 3, &string, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "pega_string_create", "text is NULL");
  EXPECT_ERROR(pega_bytes_create("x", 1, NULL, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "pega_bytes_create", "out is NULL");
  EXPECT_ERROR(pega_string_create("x", SIZE_MAX, &string, &error), &error, PEGA_ERROR_OUT_OF_MEMORY,
               "no memory for string");
  assert_int_equal(string.kind, PEGA_NONE);
  pega_error_clear(&error);
}

/* Uncounted text is copied, counted objects are shared, plain values stay as they are. */
static void test_retain(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_value values[kKinds];
  make_all(values);
  for (int kind = 0; kind < kKinds; ++kind) {
    pega_value kept;
    EXPECT_OK(pega_value_retain(&values[kind], &kept, &error), &error);
    assert_memory_equal(&kept, &values[kind], sizeof kept);
    pega_value_release(&kept);
    assert_int_equal(kept.kind, PEGA_NONE);
    assert_int_equal(kept.as.u64, 0);
    pega_value_release(&kept);
  }
  free_all(values);

  char text[] = "view";
  pega_value kept = pega_value_int(5);
  const pega_value string = pega_value_string(text);
  const pega_value bytes = pega_value_bytes(text, 4);
  const pega_value tensor = pega_value_tensor(&tensor_view);
  EXPECT_OK(pega_value_retain(&string, &kept, &error), &error);
  text[0] = 'X';
  assert_int_equal(kept.flags, PEGA_VALUE_COUNTED);
  assert_string_equal(pega_value_as_string(&kept, NULL), "view");
  pega_value_release(&kept);
  EXPECT_OK(pega_value_retain(&bytes, &kept, &error), &error);
  assert_int_equal(kept.kind, PEGA_BYTES);
  pega_value_release(&kept);

  kept = pega_value_int(5);
  EXPECT_ERROR(pega_value_retain(&tensor, &kept, &error), &error, PEGA_ERROR_UNSUPPORTED,
               "borrowed DLTensor cannot be kept", "pega_tensor_from_dlpack()");
  assert_int_equal(kept.as.i64, 5);
  EXPECT_ERROR(pega_value_retain(NULL, &kept, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "pega_value_retain: value is NULL");
  EXPECT_ERROR(pega_value_retain(&string, NULL, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "pega_value_retain: out is NULL");
  pega_value_release(NULL);
  pega_error_clear(&error);
}

static void test_references_balance(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  support_counter released = {0};
  pega_value value = make_counting(&released);
  pega_value kept[100];
  for (int i = 0; i < 100; ++i) EXPECT_OK(pega_value_retain(&value, &kept[i], &error), &error);
  pega_value_release(&value);
  for (int i = 0; i < 99; ++i) pega_value_release(&kept[i]);
  assert_int_equal(released.count, 0);
  pega_value_release(&kept[99]);
  assert_int_equal(released.count, 1);
}

static void test_array(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  support_counter released = {0};
  char text[] = "item";
  pega_value items[] = {pega_value_int(7), pega_value_string(text), make_counting(&released)};
  pega_value array, outer;
  EXPECT_OK(pega_array_create(items, 3, &array, &error), &error);
  pega_value_release(&items[2]);
  text[0] = 'X';
  assert_int_equal(pega_value_size(&array), 3);
  assert_int_equal(pega_array_get(&array, 0)->as.i64, 7);
  assert_string_equal(pega_value_as_string(pega_array_get(&array, 1), NULL), "item");
  assert_null(pega_array_get(&array, 3));
  assert_null(pega_array_get(&array, -1));
  assert_null(pega_array_get(&array, INT64_MAX));

  EXPECT_OK(pega_array_create(&array, 1, &outer, &error), &error);
  pega_value_release(&array);
  assert_int_equal(released.count, 0);
  assert_int_equal(pega_array_get(pega_array_get(&outer, 0), 0)->as.i64, 7);
  pega_value_release(&outer);
  assert_int_equal(released.count, 1);

  EXPECT_OK(pega_array_create(NULL, 0, &array, &error), &error);
  assert_int_equal(pega_value_size(&array), 0);
  assert_null(pega_array_get(&array, 0));
  pega_value_release(&array);
}

static void test_container_refusals(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  support_counter released = {0};
  pega_value out = pega_value_int(5);
  pega_value items[] = {make_counting(&released), pega_value_tensor(&tensor_view)};
  /* What was copied before the item that failed is given back. */
  EXPECT_ERROR(pega_array_create(items, 2, &out, &error), &error, PEGA_ERROR_UNSUPPORTED,
               "borrowed DLTensor");
  EXPECT_ERROR(pega_map_create(items, items + 1, 1, &out, &error), &error, PEGA_ERROR_UNSUPPORTED,
               "borrowed DLTensor");
  pega_value_release(&items[0]);
  assert_int_equal(released.count, 1);
  EXPECT_ERROR(pega_array_create(items, -1, &out, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "pega_array_create", "negative count");
  EXPECT_ERROR(pega_array_create(NULL, 1, &out, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "items NULL");
  EXPECT_ERROR(pega_array_create(items, 1, NULL, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "out NULL");
  EXPECT_ERROR(pega_map_create(items, NULL, 1, &out, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "pega_map_create");
  EXPECT_ERROR(pega_array_create(items, INT64_MAX, &out, &error), &error, PEGA_ERROR_OUT_OF_MEMORY,
               "no memory for array");
  EXPECT_ERROR(pega_map_create(items, items, INT64_MAX / 16, &out, &error), &error,
               PEGA_ERROR_OUT_OF_MEMORY, "no memory for map");
  assert_int_equal(out.as.i64, 5);
  pega_error_clear(&error);
}

static void test_map(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_value counted_key, map;
  EXPECT_OK(pega_string_create("b", 1, &counted_key, &error), &error);
  const pega_value keys[] = {pega_value_string("a"), counted_key, pega_value_int(3),
                             pega_value_string("a"), pega_value_string_n("c\0d", 3)};
  const pega_value values[] = {pega_value_int(1), pega_value_int(2), pega_value_int(3),
                               pega_value_int(4), pega_value_int(5)};
  EXPECT_OK(pega_map_create(keys, values, 5, &map, &error), &error);
  pega_value_release(&counted_key);
  assert_int_equal(pega_value_size(&map), 5);
  for (int64_t i = 0; i < 5; ++i) assert_int_equal(pega_map_value(&map, i)->as.i64, i + 1);
  assert_int_equal(pega_map_key(&map, 2)->as.i64, 3);
  assert_int_equal(pega_map_get(&map, "a")->as.i64, 1);
  assert_int_equal(pega_map_get(&map, "b")->as.i64, 2);
  assert_null(pega_map_get(&map, "c"));
  assert_null(pega_map_get(&map, ""));
  assert_null(pega_map_get(&map, NULL));
  assert_null(pega_map_key(&map, 5));
  assert_null(pega_map_value(&map, -1));
  assert_null(pega_array_get(&map, 0));
  pega_value_release(&map);
}

static void *release_value(void *value) {
  pega_value_release(value);
  return NULL;
}

static void test_object(void **state) {
  (void)state;
  static const int tag, other;
  pega_error error = PEGA_ERROR_INIT;
  support_counter released = {0};
  char type_key[] = "t.Type";
  pega_value object;
  EXPECT_OK(pega_object_create(type_key, &tag, &released, support_count, &object, &error), &error);
  type_key[0] = 'X';
  assert_int_equal(object.kind, PEGA_OBJECT);
  assert_string_equal(pega_value_type_key(&object), "t.Type");
  assert_ptr_equal(pega_value_payload(&object, &tag), &released);
  assert_null(pega_value_payload(&object, &other));
  assert_null(pega_value_payload(&object, NULL));
  assert_null(pega_value_payload(NULL, &tag));
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, release_value, &object), 0);
  pthread_join(thread, NULL);
  assert_int_equal(released.count, 1);

  /* On failure the payload stays the caller's. */
  EXPECT_ERROR(pega_object_create(NULL, &tag, &released, support_count, &object, &error), &error,
               PEGA_ERROR_INVALID_ARGUMENT, "pega_object_create: type_key is NULL");
  EXPECT_ERROR(pega_object_create("t", &tag, &released, support_count, NULL, &error), &error,
               PEGA_ERROR_INVALID_ARGUMENT, "pega_object_create: out is NULL");
  assert_int_equal(released.count, 1);
  pega_error_clear(&error);
}

enum { kThreads = 8, kRounds = 2000 };

static void *retain_and_release(void *shared) {
  for (int i = 0; i < kRounds; ++i) {
    pega_value kept;
    if (pega_value_retain(shared, &kept, NULL) != PEGA_OK) break;
    pega_value_release(&kept);
  }
  return NULL;
}

static void test_threads_share_objects(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  support_counter released = {0};
  pega_value object = make_counting(&released);
  pega_value array;
  EXPECT_OK(pega_array_create(&object, 1, &array, &error), &error);
  pega_value_release(&object);
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; ++i) {
    assert_int_equal(pthread_create(&threads[i], NULL, retain_and_release, &array), 0);
  }
  for (int i = 0; i < kThreads; ++i) pthread_join(threads[i], NULL);
  assert_int_equal(released.count, 0);
  pega_value_release(&array);
  assert_int_equal(released.count, 1);
}

enum { kDepth = 100000 };

static void *nest_deeply(void *failed) {
  pega_value value = pega_value_int(1);
  for (int i = 0; i < kDepth; ++i) {
    pega_value outer;
    const pega_value key = pega_value_int(i);
    pega_status status = i % 2 == 0 ? pega_array_create(&value, 1, &outer, NULL)
                                    : pega_map_create(&key, &value, 1, &outer, NULL);
    pega_value_release(&value);
    if (status != PEGA_OK) *(int *)failed = (int)status;
    value = outer;
  }
  pega_value_release(&value);
  return NULL;
}

static void test_deep_nesting_needs_no_stack(void **state) {
  (void)state;
  pthread_attr_t attributes;
  pthread_t thread;
  int failed = 0;
  pthread_attr_init(&attributes);
  assert_int_equal(pthread_attr_setstacksize(&attributes, 256 * 1024), 0);
  assert_int_equal(pthread_create(&thread, &attributes, nest_deeply, &failed), 0);
  pthread_join(thread, NULL);
  pthread_attr_destroy(&attributes);
  assert_int_equal(failed, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_makers),
      cmocka_unit_test(test_kind_names),
      cmocka_unit_test(test_accessors),
      cmocka_unit_test(test_text_is_copied),
      cmocka_unit_test(test_retain),
      cmocka_unit_test(test_references_balance),
      cmocka_unit_test(test_array),
      cmocka_unit_test(test_container_refusals),
      cmocka_unit_test(test_map),
      cmocka_unit_test(test_object),
      cmocka_unit_test(test_threads_share_objects),
      cmocka_unit_test(test_deep_nesting_needs_no_stack),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
