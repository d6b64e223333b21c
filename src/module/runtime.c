/* SPDX-License-Identifier: Apache-2.0 */
/* TVM FFI as the dynamic loader binds it, in the place of the library that the bridge opens. */
#include "module.h"

static const char path[] = "libtvm_ffi.so";

static void release(void *object) { TVMFFIObjectDecRef(object); }

/* What a library may lack is weak. */
#pragma weak TVMFFIErrorCreateWithCauseAndExtraContext
#pragma weak TVMFFIBigIntGetContentByteArray

/* Filled as far as a module calls it; immutable but for the version, which a call for metadata asks for. */
pega_tvm_ffi pega_module_runtime = {
    .api =
        {
            .TVMFFIGetVersion = TVMFFIGetVersion,
            .TVMFFIObjectIncRef = TVMFFIObjectIncRef,
            .TVMFFIObjectDecRef = TVMFFIObjectDecRef,
            .TVMFFIErrorCreate = TVMFFIErrorCreate,
            .TVMFFIErrorSetRaised = TVMFFIErrorSetRaised,
            .TVMFFIErrorSetRaisedFromCStr = TVMFFIErrorSetRaisedFromCStr,
            .TVMFFIErrorMoveFromRaised = TVMFFIErrorMoveFromRaised,
            .TVMFFIStringFromByteArray = TVMFFIStringFromByteArray,
            .TVMFFIGetTypeInfo = TVMFFIGetTypeInfo,
            .TVMFFIErrorCreateWithCauseAndExtraContext = TVMFFIErrorCreateWithCauseAndExtraContext,
            .TVMFFIBigIntGetContentByteArray = TVMFFIBigIntGetContentByteArray,
        },
    .path = (char *)(uintptr_t)path,
    .release = release,
};

/* The environment's current stream: what pega_stream_get() is in a module. */
pega_status pega_stream_get(DLDevice device, void **stream, pega_error *error) {
  (void)error;
  *stream = TVMFFIEnvGetStream((int32_t)device.device_type, device.device_id);
  return PEGA_OK;
}
