/* SPDX-License-Identifier: Apache-2.0 */
/* DLPack tensors in and out: never copied, each deleter run once, read-only kept. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

/* A tensor as a producer makes it; `deleted` counts. */
typedef struct producer {
  DLManagedTensor managed;
  DLManagedTensorVersioned versioned;
  int64_t shape[3];
  int64_t strides[3];
  _Alignas(64) float data[32];
  _Atomic int deleted;
  _Atomic int wrong_self;
} producer;

static void delete_managed(DLManagedTensor *self) {
  producer *made = self->manager_ctx;
  if (self != &made->managed) ++made->wrong_self;
  ++made->deleted;
}

static void delete_versioned(DLManagedTensorVersioned *self) {
  producer *made = self->manager_ctx;
  if (self != &made->versioned) ++made->wrong_self;
  ++made->deleted;
}

static void produce(producer *made) {
  memset(made, 0, sizeof *made);
  memcpy(made->shape, SHAPE(2, 3, 4), sizeof made->shape);
  memcpy(made->strides, SHAPE(12, 4, 1), sizeof made->strides);
  DLTensor view = {.data = made->data,
                   .device = CPU,
                   .ndim = 3,
                   .dtype = FLOAT32,
                   .shape = made->shape,
                   .strides = made->strides,
                   .byte_offset = 16};
  made->managed = (DLManagedTensor){view, made, delete_managed};
  made->versioned.version.major = DLPACK_MAJOR_VERSION;
  made->versioned.version.minor = DLPACK_MINOR_VERSION;
  made->versioned.manager_ctx = made;
  made->versioned.deleter = delete_versioned;
  made->versioned.dl_tensor = view;
}

/* The very memory, shape and strides of the producer, not copies of them. */
static void expect_same_view(const DLTensor *view, const producer *made) {
  assert_non_null(view);
  assert_ptr_equal(view->data, made->data);
  assert_ptr_equal(view->shape, made->shape);
  assert_ptr_equal(view->strides, made->strides);
  assert_int_equal(view->byte_offset, 16);
  assert_int_equal(view->ndim, 3);
  assert_int_equal(view->device.device_type, kDLCPU);
  assert_memory_equal(&view->dtype, &FLOAT32, sizeof view->dtype);
  assert_ptr_equal(pega_tensor_data(view), made->data + 4);
}

static void *release_value(void *value) {
  pega_value_release(value);
  return NULL;
}

static void test_from_dlpack(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  producer made;
  produce(&made);
  pega_value value, kept;
  EXPECT_OK(pega_tensor_from_dlpack(&made.managed, &value, &error), &error);
  assert_int_equal(value.kind, PEGA_TENSOR);
  assert_int_equal(value.flags, PEGA_VALUE_COUNTED);
  expect_same_view(pega_value_as_tensor(&value), &made);
  assert_int_equal(pega_tensor_flags(&value), 0);
  EXPECT_OK(pega_value_retain(&value, &kept, &error), &error);
  pega_value_release(&value);
  assert_int_equal(made.deleted, 0);
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, release_value, &kept), 0);
  pthread_join(thread, NULL);
  assert_int_equal(made.deleted, 1);
  assert_int_equal(made.wrong_self, 0);

  /* A producer with nothing to delete. */
  produce(&made);
  made.managed.deleter = NULL;
  EXPECT_OK(pega_tensor_from_dlpack(&made.managed, &value, &error), &error);
  pega_value_release(&value);
  assert_int_equal(made.deleted, 0);
}

static void test_from_dlpack_versioned(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  producer made;
  produce(&made);
  made.versioned.version.minor = 99;
  made.versioned.flags = DLPACK_FLAG_BITMASK_READ_ONLY | DLPACK_FLAG_BITMASK_IS_COPIED;
  pega_value value;
  EXPECT_OK(pega_tensor_from_dlpack_versioned(&made.versioned, &value, &error), &error);
  expect_same_view(pega_value_as_tensor(&value), &made);
  assert_int_equal(pega_tensor_flags(&value), 3);
  pega_value_release(&value);
  assert_int_equal(made.deleted, 1);
  assert_int_equal(made.wrong_self, 0);
  produce(&made);
  made.versioned.deleter = NULL;
  EXPECT_OK(pega_tensor_from_dlpack_versioned(&made.versioned, &value, &error), &error);
  pega_value_release(&value);
}

static void test_refused_tensors_stay_the_callers(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  producer made;
  produce(&made);
  made.shape[1] = -3;
  pega_value value = pega_value_int(5);
  EXPECT_ERROR(pega_tensor_from_dlpack(&made.managed, &value, &error), &error, PEGA_ERROR_SHAPE,
               "shape[1] is -3");
  EXPECT_ERROR(pega_tensor_from_dlpack_versioned(&made.versioned, &value, &error), &error,
               PEGA_ERROR_SHAPE, "shape[1] is -3");
  produce(&made);
  EXPECT_ERROR(pega_tensor_from_dlpack(NULL, &value, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "pega_tensor_from_dlpack: managed is NULL");
  EXPECT_ERROR(pega_tensor_from_dlpack_versioned(NULL, &value, &error), &error,
               PEGA_ERROR_INVALID_ARGUMENT, "pega_tensor_from_dlpack_versioned: managed is NULL");
  EXPECT_ERROR(pega_tensor_from_dlpack(&made.managed, NULL, &error), &error,
               PEGA_ERROR_INVALID_ARGUMENT, "out is NULL");
  EXPECT_ERROR(pega_tensor_from_dlpack_versioned(&made.versioned, NULL, &error), &error,
               PEGA_ERROR_INVALID_ARGUMENT, "out is NULL");
  assert_int_equal(value.as.i64, 5);
  assert_int_equal(made.deleted, 0);
  pega_error_clear(&error);
}

static void test_wrong_major_version(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  static const uint32_t majors[] = {0, 2, UINT32_MAX};
  for (int i = 0; i < COUNT(majors); ++i) {
    /* As much as every version has: a checker of memory sees any look past it. */
    DLPackVersion *version = malloc(sizeof *version);
    assert_non_null(version);
    version->major = majors[i];
    version->minor = 7;
    char text[64];
    snprintf(text, sizeof text, "DLPack tensor of version %u.7", majors[i]);
    pega_value value = pega_value_int(5);
    DLManagedTensorVersioned *managed;
    memcpy(&managed, &version, sizeof managed);
    EXPECT_ERROR(pega_tensor_from_dlpack_versioned(managed, &value, &error), &error,
                 PEGA_ERROR_VERSION, text, "expected major version 1");
    assert_int_equal(value.as.i64, 5);
    free(version);
  }
  pega_error_clear(&error);
}

static void test_create(void **state) {
  (void)state;
  static const int tag, other;
  pega_error error = PEGA_ERROR_INIT;
  support_counter released = {0};
  producer made;
  produce(&made);
  pega_value value;
  EXPECT_OK(pega_tensor_create(&made.managed.dl_tensor, 1, &tag, &released, support_count, &value,
                               &error),
            &error);
  expect_same_view(pega_value_as_tensor(&value), &made);
  assert_int_equal(pega_tensor_flags(&value), DLPACK_FLAG_BITMASK_READ_ONLY);
  assert_ptr_equal(pega_value_payload(&value, &tag), &released);
  assert_null(pega_value_payload(&value, &other));
  pega_value_release(&value);
  assert_int_equal(released.count, 1);

  EXPECT_ERROR(pega_tensor_create(NULL, 0, &tag, &released, support_count, &value, &error), &error,
               PEGA_ERROR_INVALID_ARGUMENT, "tensor is NULL");
  made.managed.dl_tensor.byte_offset = 1;
  EXPECT_ERROR(pega_tensor_create(&made.managed.dl_tensor, 0, &tag, &released, support_count,
                                  &value, &error),
               &error, PEGA_ERROR_LAYOUT, "aligned to 4 bytes");
  assert_int_equal(released.count, 1);
  pega_error_clear(&error);
}

static void test_flags_of_other_values(void **state) {
  (void)state;
  producer made;
  produce(&made);
  pega_value value = pega_value_tensor(&made.managed.dl_tensor);
  assert_int_equal(pega_tensor_flags(&value), 0);
  value = pega_value_int(1);
  assert_int_equal(pega_tensor_flags(&value), 0);
  assert_int_equal(pega_tensor_flags(NULL), 0);
  value = pega_value_none();
  value.kind = PEGA_TENSOR;
  value.flags = PEGA_VALUE_COUNTED;
  assert_int_equal(pega_tensor_flags(&value), 0);
}

/* ---- Export ---- */

static void test_to_dlpack(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  producer made;
  produce(&made);
  pega_value value;
  DLManagedTensor *first, *second;
  DLManagedTensorVersioned *versioned;
  EXPECT_OK(pega_tensor_from_dlpack(&made.managed, &value, &error), &error);
  EXPECT_OK(pega_tensor_to_dlpack(&value, &first, &error), &error);
  EXPECT_OK(pega_tensor_to_dlpack(&value, &second, &error), &error);
  EXPECT_OK(pega_tensor_to_dlpack_versioned(&value, &versioned, &error), &error);
  pega_value_release(&value);
  expect_same_view(&first->dl_tensor, &made);
  expect_same_view(&versioned->dl_tensor, &made);
  assert_int_equal(versioned->version.major, DLPACK_MAJOR_VERSION);
  assert_int_equal(versioned->version.minor, DLPACK_MINOR_VERSION);
  assert_int_equal(versioned->flags, 0);
  first->deleter(first);
  versioned->deleter(versioned);
  assert_int_equal(made.deleted, 0);
  /* The last owner of any form is the one that counts. */
  second->deleter(second);
  assert_int_equal(made.deleted, 1);
}

static void test_export_completes_strides(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  static const struct {
    int32_t ndim;
    int64_t shape[3];
    int64_t strides[3];
  } cases[] = {
      {3, {2, 3, 4}, {12, 4, 1}},
      {2, {2, 3}, {3, 1}},
      {3, {2, 0, 4}, {4, 4, 1}},
      {1, {1}, {1}},
      {0, {0}, {0}},
  };
  for (int i = 0; i < COUNT(cases); ++i) {
    producer made;
    produce(&made);
    memcpy(made.shape, cases[i].shape, sizeof made.shape);
    made.managed.dl_tensor.ndim = cases[i].ndim;
    made.managed.dl_tensor.strides = NULL;
    pega_value value;
    DLManagedTensor *managed;
    DLManagedTensorVersioned *versioned;
    EXPECT_OK(pega_tensor_from_dlpack(&made.managed, &value, &error), &error);
    EXPECT_OK(pega_tensor_to_dlpack(&value, &managed, &error), &error);
    EXPECT_OK(pega_tensor_to_dlpack_versioned(&value, &versioned, &error), &error);
    assert_null(pega_value_as_tensor(&value)->strides);
    pega_value_release(&value);
    for (int axis = 0; axis < cases[i].ndim; ++axis) {
      assert_int_equal(managed->dl_tensor.strides[axis], cases[i].strides[axis]);
      assert_int_equal(versioned->dl_tensor.strides[axis], cases[i].strides[axis]);
    }
    if (cases[i].ndim == 0) assert_null(managed->dl_tensor.strides);
    managed->deleter(managed);
    assert_int_equal(made.deleted, 0);
    versioned->deleter(versioned);
    assert_int_equal(made.deleted, 1);
  }
}

static void test_read_only_export(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  producer made;
  produce(&made);
  made.versioned.flags = DLPACK_FLAG_BITMASK_READ_ONLY;
  pega_value value;
  DLManagedTensor *managed = NULL;
  DLManagedTensorVersioned *versioned;
  EXPECT_OK(pega_tensor_from_dlpack_versioned(&made.versioned, &value, &error), &error);
  EXPECT_ERROR(pega_tensor_to_dlpack(&value, &managed, &error), &error, PEGA_ERROR_UNSUPPORTED,
               "the tensor is read-only", "use pega_tensor_to_dlpack_versioned()");
  assert_null(managed);
  EXPECT_OK(pega_tensor_to_dlpack_versioned(&value, &versioned, &error), &error);
  assert_int_equal(versioned->flags, DLPACK_FLAG_BITMASK_READ_ONLY);
  pega_value_release(&value);

  /* Back in again, it is still the same memory and still read-only. */
  EXPECT_OK(pega_tensor_from_dlpack_versioned(versioned, &value, &error), &error);
  expect_same_view(pega_value_as_tensor(&value), &made);
  assert_int_equal(pega_tensor_flags(&value), DLPACK_FLAG_BITMASK_READ_ONLY);
  assert_int_equal(made.deleted, 0);
  pega_value_release(&value);
  assert_int_equal(made.deleted, 1);
  pega_error_clear(&error);
}

static void test_export_refusals(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  producer made;
  produce(&made);
  const pega_value uncounted = pega_value_tensor(&made.managed.dl_tensor);
  const pega_value number = pega_value_int(1);
  DLManagedTensor *managed = NULL;
  DLManagedTensorVersioned *versioned = NULL;
  EXPECT_ERROR(pega_tensor_to_dlpack(&uncounted, &managed, &error), &error, PEGA_ERROR_UNSUPPORTED,
               "borrowed DLTensor has no owner", "pega_tensor_from_dlpack()");
  EXPECT_ERROR(pega_tensor_to_dlpack_versioned(&uncounted, &versioned, &error), &error,
               PEGA_ERROR_UNSUPPORTED, "borrowed DLTensor has no owner");
  EXPECT_ERROR(pega_tensor_to_dlpack(&number, &managed, &error), &error,
               PEGA_ERROR_INVALID_ARGUMENT, "the value is no tensor");
  EXPECT_ERROR(pega_tensor_to_dlpack_versioned(NULL, &versioned, &error), &error,
               PEGA_ERROR_INVALID_ARGUMENT, "the value is no tensor");
  EXPECT_ERROR(pega_tensor_to_dlpack(&uncounted, NULL, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "out is NULL");
  EXPECT_ERROR(pega_tensor_to_dlpack_versioned(&uncounted, NULL, &error), &error,
               PEGA_ERROR_INVALID_ARGUMENT, "out is NULL");
  assert_null(managed);
  assert_null(versioned);
  pega_error_clear(&error);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_from_dlpack),
      cmocka_unit_test(test_from_dlpack_versioned),
      cmocka_unit_test(test_refused_tensors_stay_the_callers),
      cmocka_unit_test(test_wrong_major_version),
      cmocka_unit_test(test_create),
      cmocka_unit_test(test_to_dlpack),
      cmocka_unit_test(test_export_completes_strides),
      cmocka_unit_test(test_read_only_export),
      cmocka_unit_test(test_export_refusals),
      cmocka_unit_test(test_flags_of_other_values),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
