/* SPDX-License-Identifier: Apache-2.0 */
/* Current streams: kept per thread and device, or by a provider. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "support.h"

static char streams[4];

static void *expect_no_stream(void *failed) {
  pega_error error = PEGA_ERROR_INIT;
  void *stream = streams;
  void *previous = streams;
  if (pega_stream_get(DEVICE(kDLCUDA, 0), &stream, &error) != PEGA_OK || stream != NULL) {
    *(bool *)failed = true;
  }
  if (pega_stream_set(DEVICE(kDLCUDA, 0), &streams[3], &previous, &error) != PEGA_OK ||
      previous != NULL) {
    *(bool *)failed = true;
  }
  return NULL;
}

static void test_set_and_get(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  void *stream = streams, *previous = streams;
  EXPECT_OK(pega_stream_get(DEVICE(kDLCUDA, 0), &stream, &error), &error);
  assert_null(stream);
  EXPECT_OK(pega_stream_set(DEVICE(kDLCUDA, 0), &streams[0], &previous, &error), &error);
  assert_null(previous);
  EXPECT_OK(pega_stream_set(DEVICE(kDLCUDA, 1), &streams[1], NULL, &error), &error);
  EXPECT_OK(pega_stream_set(DEVICE(kDLROCM, 0), &streams[2], NULL, &error), &error);
  EXPECT_OK(pega_stream_get(DEVICE(kDLCUDA, 0), &stream, &error), &error);
  assert_ptr_equal(stream, &streams[0]);
  EXPECT_OK(pega_stream_get(DEVICE(kDLCUDA, 1), &stream, &error), &error);
  assert_ptr_equal(stream, &streams[1]);
  EXPECT_OK(pega_stream_get(DEVICE(kDLROCM, 0), &stream, &error), &error);
  assert_ptr_equal(stream, &streams[2]);

  /* Another thread has its own, and changes no one else's. */
  pthread_t thread;
  bool failed = false;
  assert_int_equal(pthread_create(&thread, NULL, expect_no_stream, &failed), 0);
  pthread_join(thread, NULL);
  assert_false(failed);
  EXPECT_OK(pega_stream_set(DEVICE(kDLCUDA, 0), NULL, &previous, &error), &error);
  assert_ptr_equal(previous, &streams[0]);
  EXPECT_OK(pega_stream_get(DEVICE(kDLCUDA, 0), &stream, &error), &error);
  assert_null(stream);
}

static void test_refusals(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  void *stream = streams, *previous = streams;
  static const struct {
    int32_t type;
    int32_t id;
    const char *text;
  } bad[] = {
      {0, 0, "device {type 0, id 0}"},
      {-1, 0, "device {type -1, id 0}"},
      {65, 0, "device {type 65, id 0}"},
      {kDLCUDA, -1, "device {type 2, id -1}"},
      {kDLCUDA, 65536, "device {type 2, id 65536}"},
  };
  for (int i = 0; i < COUNT(bad); ++i) {
    const DLDevice device = DEVICE((DLDeviceType)bad[i].type, bad[i].id);
    EXPECT_ERROR(pega_stream_set(device, streams, &previous, &error), &error, PEGA_ERROR_DEVICE,
                 "pega_stream_set: ", bad[i].text, "expected a DLPack device type");
    EXPECT_ERROR(pega_stream_get(device, &stream, &error), &error, PEGA_ERROR_DEVICE,
                 "pega_stream_get: ", bad[i].text);
  }
  assert_ptr_equal(stream, streams);
  assert_ptr_equal(previous, streams);
  EXPECT_ERROR(pega_stream_get(DEVICE(kDLCUDA, 0), NULL, &error), &error,
               PEGA_ERROR_INVALID_ARGUMENT, "pega_stream_get: stream is NULL");
  pega_error_clear(&error);
}

static void *set_many_devices(void *failed) {
  pega_error error = PEGA_ERROR_INIT;
  int32_t id = 0;
  while (id < 1000 && pega_stream_set(DEVICE(kDLCUDA, id), streams, NULL, &error) == PEGA_OK) ++id;
  /* Room for more devices than a machine has; past it, an error and nothing lost. */
  void *stream = NULL;
  if (id < 16 || id == 1000 || error.status != PEGA_ERROR_OUT_OF_MEMORY ||
      strstr(error.message, "this thread has streams for ") == NULL ||
      pega_stream_get(DEVICE(kDLCUDA, id), &stream, NULL) != PEGA_OK || stream != NULL ||
      pega_stream_get(DEVICE(kDLCUDA, id - 1), &stream, NULL) != PEGA_OK || stream != streams) {
    *(int *)failed = id + 1;
  }
  pega_error_clear(&error);
  return NULL;
}

static void test_many_devices(void **state) {
  (void)state;
  pthread_t thread;
  int failed = 0;
  assert_int_equal(pthread_create(&thread, NULL, set_many_devices, &failed), 0);
  pthread_join(thread, NULL);
  assert_int_equal(failed, 0);
  /* What one thread used up, others still have. */
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_OK(pega_stream_set(DEVICE(kDLCUDA, 77), streams, NULL, &error), &error);
}

/* A provider that keeps one stream for everything, and fails on request. */
typedef struct provider_state {
  void *stream;
  bool fail;
  int sets;
  int gets;
} provider_state;

static pega_status provider_set(void *self, DLDevice device, void *stream, void **previous,
                                pega_error *error) {
  provider_state *it = self;
  ++it->sets;
  if (it->fail)
    return pega_error_set(error, PEGA_ERROR_DRIVER, NULL, "device %d", device.device_id);
  if (previous != NULL) *previous = it->stream;
  it->stream = stream;
  return PEGA_OK;
}

static pega_status provider_get(void *self, DLDevice device, void **stream, pega_error *error) {
  provider_state *it = self;
  ++it->gets;
  if (it->fail)
    return pega_error_set(error, PEGA_ERROR_DRIVER, NULL, "device %d", device.device_id);
  *stream = it->stream;
  return PEGA_OK;
}

static void test_provider(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  provider_state kept = {.stream = NULL};
  pega_stream_provider provider = {sizeof provider, 0, provider_set, provider_get, &kept};
  void *stream = NULL, *previous = NULL;
  EXPECT_OK(pega_stream_set(DEVICE(kDLCUDA, 0), &streams[0], NULL, &error), &error);
  EXPECT_OK(pega_stream_set_provider(&provider, &error), &error);
  /* What this thread had set before was handed over. */
  assert_true(kept.sets > 0);
  kept = (provider_state){.stream = &streams[3]};
  EXPECT_OK(pega_stream_get(DEVICE(kDLCUDA, 0), &stream, &error), &error);
  assert_ptr_equal(stream, &streams[3]);
  EXPECT_OK(pega_stream_set(DEVICE(kDLCUDA, 5), &streams[2], &previous, &error), &error);
  assert_ptr_equal(previous, &streams[3]);
  assert_ptr_equal(kept.stream, &streams[2]);

  /* Its errors are the caller's; devices that are none do not reach it. */
  kept.fail = true;
  EXPECT_ERROR(pega_stream_set(DEVICE(kDLCUDA, 7), NULL, NULL, &error), &error, PEGA_ERROR_DRIVER,
               "device 7");
  EXPECT_ERROR(pega_stream_get(DEVICE(kDLCUDA, 7), &stream, &error), &error, PEGA_ERROR_DRIVER,
               "device 7");
  assert_int_equal(kept.sets, 2);
  assert_int_equal(kept.gets, 2);
  EXPECT_ERROR(pega_stream_get(DEVICE(kDLCUDA, -7), &stream, &error), &error, PEGA_ERROR_DEVICE,
               "id -7");
  EXPECT_ERROR(pega_stream_get(DEVICE(kDLCUDA, 7), NULL, &error), &error,
               PEGA_ERROR_INVALID_ARGUMENT, "stream is NULL");
  assert_int_equal(kept.gets, 2);

  /* Without it the library keeps its own again, which begin empty: the provider had taken them. */
  EXPECT_OK(pega_stream_set_provider(NULL, &error), &error);
  EXPECT_OK(pega_stream_get(DEVICE(kDLCUDA, 0), &stream, &error), &error);
  assert_null(stream);
  pega_error_clear(&error);
}

/* A provider that keeps a stream a device, for every thread alike. */
enum { kRefusedDevice = 0 };
static _Atomic(void *) taken[4];
static int32_t refused_device = kRefusedDevice;

static pega_status taken_set(void *self, DLDevice device, void *stream, void **previous,
                             pega_error *error) {
  if (*(bool *)self || device.device_id == refused_device)
    return pega_error_set(error, PEGA_ERROR_DRIVER, NULL, "not now");
  void *old = atomic_exchange(&taken[device.device_id], stream);
  if (previous != NULL) *previous = old;
  return PEGA_OK;
}

static pega_status taken_get(void *self, DLDevice device, void **stream, pega_error *error) {
  (void)self;
  (void)error;
  *stream = atomic_load(&taken[device.device_id]);
  return PEGA_OK;
}

static pthread_barrier_t provider_barrier;

/* Sets a stream before there is a provider; asks for it when there is one. */
static void *set_before_provider(void *out) {
  pega_stream_set(DEVICE(kDLCUDA, 1), &streams[1], NULL, NULL);
  pthread_barrier_wait(&provider_barrier);
  pthread_barrier_wait(&provider_barrier);
  pega_stream_get(DEVICE(kDLCUDA, 1), out, NULL);
  return NULL;
}

static void test_streams_set_before_provider(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  bool refuses = true;
  const pega_stream_provider provider = {sizeof provider, 0, taken_set, taken_get, &refuses};
  pthread_t thread;
  void *of_thread = NULL, *stream = NULL;
  pthread_barrier_init(&provider_barrier, NULL, 2);
  assert_int_equal(pthread_create(&thread, NULL, set_before_provider, &of_thread), 0);
  EXPECT_OK(pega_stream_set(DEVICE(kDLCUDA, 2), &streams[2], NULL, &error), &error);
  pthread_barrier_wait(&provider_barrier);

  /* One that cannot take the streams is not installed, and they stay. */
  EXPECT_ERROR(pega_stream_set_provider(&provider, &error), &error, PEGA_ERROR_DRIVER, "not now");
  EXPECT_OK(pega_stream_get(DEVICE(kDLCUDA, 2), &stream, &error), &error);
  assert_ptr_equal(stream, &streams[2]);

  /* Also where it took some of them first. */
  refuses = false;
  EXPECT_OK(pega_stream_set(DEVICE(kDLCUDA, kRefusedDevice), &streams[0], NULL, &error), &error);
  EXPECT_OK(pega_stream_set(DEVICE(kDLCUDA, 3), &streams[3], NULL, &error), &error);
  EXPECT_ERROR(pega_stream_set_provider(&provider, &error), &error, PEGA_ERROR_DRIVER, "not now");
  EXPECT_OK(pega_stream_get(DEVICE(kDLCUDA, 2), &stream, &error), &error);
  assert_ptr_equal(stream, &streams[2]);
  EXPECT_OK(pega_stream_get(DEVICE(kDLCUDA, 3), &stream, &error), &error);
  assert_ptr_equal(stream, &streams[3]);
  EXPECT_OK(pega_stream_get(DEVICE(kDLCUDA, kRefusedDevice), &stream, &error), &error);
  assert_ptr_equal(stream, &streams[0]);

  refused_device = -1;
  EXPECT_OK(pega_stream_set_provider(&provider, &error), &error);
  assert_ptr_equal(atomic_load(&taken[2]), &streams[2]);
  EXPECT_OK(pega_stream_get(DEVICE(kDLCUDA, 2), &stream, &error), &error);
  assert_ptr_equal(stream, &streams[2]);
  pthread_barrier_wait(&provider_barrier);
  pthread_join(thread, NULL);
  assert_ptr_equal(of_thread, &streams[1]);
  EXPECT_OK(pega_stream_set_provider(NULL, &error), &error);
  pthread_barrier_destroy(&provider_barrier);
  pega_error_clear(&error);
}

static void test_provider_refusals(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  provider_state kept = {0};
  const pega_stream_provider good = {sizeof good, 0, provider_set, provider_get, &kept};
  pega_stream_provider bad = good;
  bad.struct_size = 8;
  EXPECT_ERROR(pega_stream_set_provider(&bad, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "pega_stream_set_provider: struct_size 8");
  struct {
    pega_stream_provider known;
    uint64_t unknown;
  } newer = {good, 1};
  newer.known.struct_size = sizeof newer;
  EXPECT_ERROR(pega_stream_set_provider(&newer.known, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "pega_stream_set_provider: struct_size ");
  bad = good;
  bad.set = NULL;
  EXPECT_ERROR(pega_stream_set_provider(&bad, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "expected", "both set");
  bad = good;
  bad.get = NULL;
  EXPECT_ERROR(pega_stream_set_provider(&bad, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "expected", "both set");
  bad = good;
  bad.reserved = 1;
  EXPECT_ERROR(pega_stream_set_provider(&bad, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "pega_stream_set_provider");
  /* None of them is in force. */
  void *stream = streams;
  EXPECT_OK(pega_stream_get(DEVICE(kDLMetal, 0), &stream, &error), &error);
  assert_null(stream);
  assert_int_equal(kept.gets, 0);
  EXPECT_OK(pega_stream_set_provider(NULL, &error), &error);
  pega_error_clear(&error);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_set_and_get),
      cmocka_unit_test(test_refusals),
      cmocka_unit_test(test_many_devices),
      cmocka_unit_test(test_provider),
      cmocka_unit_test(test_streams_set_before_provider),
      cmocka_unit_test(test_provider_refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
