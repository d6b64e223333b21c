/* SPDX-License-Identifier: Apache-2.0 */
/* Entry points by name and CUDA version, and results by name. */
#include <string.h>

#include "fake.h"

typedef void (*any_function)(void);

static const struct {
  const char *name;
  int version;
  any_function function;
} entries[] = {
#define FAKE_ENTRY_ROW_(symbol, name, version, needs, parameters) \
  {name, version, (any_function)symbol},
    FAKE_ENTRIES(FAKE_ENTRY_ROW_)
#undef FAKE_ENTRY_ROW_
};

/* The newest variant that the requested version and the modelled driver have. */
static CUresult find(const char *name, void **out, int version, uint64_t flags, int *status) {
  if (name == NULL || out == NULL || flags > 3 || version > fake.driver_version) {
    return FAKE_CUDA_ERROR_INVALID_VALUE;
  }
  any_function found = NULL;
  int best = 0;
  bool known = false;
  for (size_t i = 0; i < sizeof entries / sizeof entries[0]; ++i) {
    if (strcmp(entries[i].name, name) != 0 || entries[i].version > fake.driver_version) continue;
    known = true;
    if (entries[i].version > version || entries[i].version < best) continue;
    best = entries[i].version;
    found = entries[i].function;
  }
  if (status != NULL) {
    *status = found != NULL ? FAKE_CU_GET_PROC_ADDRESS_SUCCESS
              : known       ? FAKE_CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT
                            : FAKE_CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
  }
  memcpy(out, &found, sizeof *out);
  return found == NULL && fake.absent_is_error ? FAKE_CUDA_ERROR_NOT_FOUND : FAKE_CUDA_SUCCESS;
}

CUresult cuGetProcAddress(const char *name, void **out, int version, uint64_t flags) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuGetProcAddress);
  if (result == 0) result = find(name, out, version, flags, NULL);
  return fake_leave(&call, result);
}

CUresult cuGetProcAddress_v2(const char *name, void **out, int version, uint64_t flags,
                             int *status) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuGetProcAddress_v2);
  if (result == 0) result = find(name, out, version, flags, status);
  return fake_leave(&call, result);
}

/* ----------------------------------------------------------------------------------- results -- */

static const char *name_of(CUresult result) {
  switch (result) {
#define FAKE_RESULT_NAME_(name, number) \
  case number:                          \
    return #name;
    FAKE_RESULTS(FAKE_RESULT_NAME_)
#undef FAKE_RESULT_NAME_
    default:
      return NULL;
  }
}

/* The text is the name itself: what the real driver says is its own. */
static CUresult get_text(CUresult asked, const char **out) {
  if (out == NULL) return FAKE_CUDA_ERROR_INVALID_VALUE;
  *out = name_of(asked);
  return *out == NULL ? FAKE_CUDA_ERROR_INVALID_VALUE : FAKE_CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult asked, const char **out) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuGetErrorName);
  if (result == 0) result = get_text(asked, out);
  return fake_leave(&call, result);
}

CUresult cuGetErrorString(CUresult asked, const char **out) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuGetErrorString);
  if (result == 0) result = get_text(asked, out);
  return fake_leave(&call, result);
}
