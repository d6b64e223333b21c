/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A library that only claims to be libtvm_ffi.so: it reports the version FAKE_MAJOR.FAKE_MINOR.
 * FAKE_PATCH and has every C symbol, each of which fails; with FAKE_MISSING one of them is left out.
 */
#include <stdint.h>

#define FAKE_EXPORT __attribute__((visibility("default")))

struct fake_version {
  uint32_t major;
  uint32_t minor;
  uint32_t patch;
};

FAKE_EXPORT void TVMFFIGetVersion(struct fake_version *out);
void TVMFFIGetVersion(struct fake_version *out) {
  out->major = FAKE_MAJOR;
  out->minor = FAKE_MINOR;
  out->patch = FAKE_PATCH;
}

#ifdef FAKE_MISSING
#define FAKE_OPTIONAL(X)
#else
#define FAKE_OPTIONAL(X) X(TVMFFIErrorMoveFromRaised)
#endif

#define FAKE_SYMBOLS(X)                        \
  X(TVMFFIAnyViewToOwnedAny)                   \
  X(TVMFFIBacktrace)                           \
  X(TVMFFIBigIntFromByteArray)                 \
  X(TVMFFIBigIntGetContentByteArray)           \
  X(TVMFFIBytesFromByteArray)                  \
  X(TVMFFIDataTypeFromString)                  \
  X(TVMFFIDataTypeToString)                    \
  X(TVMFFIEnvCheckSignals)                     \
  X(TVMFFIEnvGetDLPackManagedTensorAllocator)  \
  X(TVMFFIEnvGetStream)                        \
  X(TVMFFIEnvModLookupFromImports)             \
  X(TVMFFIEnvModRegisterContextSymbol)         \
  X(TVMFFIEnvModRegisterSystemLibSymbol)       \
  X(TVMFFIEnvRegisterCAPI)                     \
  X(TVMFFIEnvSetDLPackManagedTensorAllocator)  \
  X(TVMFFIEnvSetStream)                        \
  X(TVMFFIEnvTensorAlloc)                      \
  X(TVMFFIErrorCreate)                         \
  X(TVMFFIErrorCreateWithCauseAndExtraContext) \
  X(TVMFFIErrorSetRaised)                      \
  X(TVMFFIErrorSetRaisedFromCStr)              \
  X(TVMFFIErrorSetRaisedFromCStrParts)         \
  X(TVMFFIFunctionCall)                        \
  X(TVMFFIFunctionCreate)                      \
  X(TVMFFIFunctionGetGlobal)                   \
  X(TVMFFIFunctionSetGlobal)                   \
  X(TVMFFIFunctionSetGlobalFromMethodInfo)     \
  X(TVMFFIGetTypeAttrColumn)                   \
  X(TVMFFIGetTypeInfo)                         \
  X(TVMFFIObjectCreateOpaque)                  \
  X(TVMFFIObjectDecRef)                        \
  X(TVMFFIObjectIncRef)                        \
  X(TVMFFIStringFromByteArray)                 \
  X(TVMFFITensorFromDLPack)                    \
  X(TVMFFITensorFromDLPackVersioned)           \
  X(TVMFFITensorToDLPack)                      \
  X(TVMFFITensorToDLPackVersioned)             \
  X(TVMFFITypeGetOrAllocIndex)                 \
  X(TVMFFITypeKeyToIndex)                      \
  X(TVMFFITypeRegisterAttr)                    \
  X(TVMFFITypeRegisterField)                   \
  X(TVMFFITypeRegisterMetadata)                \
  X(TVMFFITypeRegisterMethod)                  \
  FAKE_OPTIONAL(X)

#define FAKE_DECLARE(name) FAKE_EXPORT long name(void);
#define FAKE_DEFINE(name) \
  long name(void) { return -1; }
FAKE_SYMBOLS(FAKE_DECLARE)
FAKE_SYMBOLS(FAKE_DEFINE)
