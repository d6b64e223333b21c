/* SPDX-License-Identifier: Apache-2.0 */
/* Current streams: a small table per thread, or a provider's. */
#include <inttypes.h>
#include <stdatomic.h>

#include "options.h"
#include "pega/pega.h"

enum { kMaxStreams = 32 };

static _Thread_local struct {
  DLDevice device;
  void *stream;
} streams[kMaxStreams];
static _Thread_local int32_t num_streams;

static _Atomic(const pega_stream_provider *) stream_provider;

static pega_status check_device(const char *function, DLDevice device, pega_error *error) {
  /* Providers index tables by these numbers. */
  if ((int32_t)device.device_type >= 1 && (int32_t)device.device_type <= 64 &&
      device.device_id >= 0 && device.device_id < 65536) {
    return PEGA_OK;
  }
  return pega_error_set(error, PEGA_ERROR_DEVICE, NULL,
                        "%s: device {type %d, id %" PRId32
                        "}: expected a DLPack device type and an id from 0 to 65535",
                        function, (int)device.device_type, device.device_id);
}

/* Hands the streams that this thread set before there was a provider over to it. */
static pega_status hand_over(const pega_stream_provider *provider, pega_error *error) {
  for (int32_t i = 0; i < num_streams; ++i) {
    /* A stream that was set in the provider since is newer. */
    void *newer = NULL;
    pega_status status = provider->get(provider->self, streams[i].device, &newer, error);
    if (status == PEGA_OK && newer == NULL && streams[i].stream != NULL) {
      status = provider->set(provider->self, streams[i].device, streams[i].stream, NULL, error);
    }
    if (status != PEGA_OK) return status;
  }
  /* Only now that it has them all: where it refuses one, the thread keeps every one. */
  num_streams = 0;
  return PEGA_OK;
}

static int32_t find(DLDevice device) {
  for (int32_t i = 0; i < num_streams; ++i) {
    if (streams[i].device.device_type == device.device_type &&
        streams[i].device.device_id == device.device_id) {
      return i;
    }
  }
  return -1;
}

pega_status pega_stream_set(DLDevice device, void *stream, void **previous, pega_error *error) {
  pega_status status = check_device("pega_stream_set", device, error);
  if (status != PEGA_OK) return status;
  const pega_stream_provider *provider =
      atomic_load_explicit(&stream_provider, memory_order_acquire);
  if (provider != NULL) {
    status = hand_over(provider, error);
    if (status != PEGA_OK) return status;
    return provider->set(provider->self, device, stream, previous, error);
  }
  int32_t i = find(device);
  if (i < 0) {
    if (num_streams == kMaxStreams) {
      return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL,
                            "pega_stream_set: this thread has streams for %d devices already",
                            kMaxStreams);
    }
    i = num_streams++;
    streams[i].device = device;
    streams[i].stream = NULL;
  }
  if (previous != NULL) *previous = streams[i].stream;
  streams[i].stream = stream;
  return PEGA_OK;
}

pega_status pega_stream_get(DLDevice device, void **stream, pega_error *error) {
  if (stream == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_stream_get: stream is NULL");
  }
  pega_status status = check_device("pega_stream_get", device, error);
  if (status != PEGA_OK) return status;
  const pega_stream_provider *provider =
      atomic_load_explicit(&stream_provider, memory_order_acquire);
  if (provider != NULL) {
    status = hand_over(provider, error);
    if (status != PEGA_OK) return status;
    return provider->get(provider->self, device, stream, error);
  }
  int32_t i = find(device);
  *stream = i < 0 ? NULL : streams[i].stream;
  return PEGA_OK;
}

pega_status pega_stream_set_provider(const pega_stream_provider *provider, pega_error *error) {
  if (provider != NULL &&
      (!pega_options_fit(provider, provider->struct_size, sizeof *provider) ||
       provider->reserved != 0 || provider->set == NULL || provider->get == NULL)) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_stream_set_provider: struct_size %" PRIu32
                          " with set and get: expected %zu and both set",
                          provider->struct_size, sizeof *provider);
  }
  if (provider != NULL) {
    pega_status status = hand_over(provider, error);
    if (status != PEGA_OK) return status;
  }
  atomic_store_explicit(&stream_provider, provider, memory_order_release);
  return PEGA_OK;
}
