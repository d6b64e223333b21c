/* SPDX-License-Identifier: Apache-2.0 */
#include "stream.h"

#include "error.h"

static pega_status set_stream(void *self, DLDevice device, void *stream, void **previous,
                              pega_error *error) {
  pega_tvm_ffi *runtime = self;
  void *old = NULL;
  int code =
      runtime->api.TVMFFIEnvSetStream((int32_t)device.device_type, device.device_id, stream, &old);
  if (code != 0) return tvm_ffi_error_take(runtime, "TVMFFIEnvSetStream", code, error);
  if (previous != NULL) *previous = old;
  return PEGA_OK;
}

static pega_status get_stream(void *self, DLDevice device, void **stream, pega_error *error) {
  (void)error;
  pega_tvm_ffi *runtime = self;
  *stream = runtime->api.TVMFFIEnvGetStream((int32_t)device.device_type, device.device_id);
  return PEGA_OK;
}

void tvm_ffi_install_streams(pega_tvm_ffi *runtime) {
  runtime->streams.struct_size = (uint32_t)sizeof runtime->streams;
  runtime->streams.set = set_stream;
  runtime->streams.get = get_stream;
  runtime->streams.self = runtime;
  pega_stream_set_provider(&runtime->streams, NULL);
}
