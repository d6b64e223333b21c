/* SPDX-License-Identifier: Apache-2.0 */
#include "dsl.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const char *dsl_path(const char *file) {
  static char paths[8][4096];
  static unsigned next;
  char *path = paths[next++ % 8];
  const char *folder = getenv("PEGA_TEST_ARTIFACTS");
  snprintf(path, sizeof paths[0], "%s/%s", folder != NULL ? folder : DSL_ARTIFACTS, file);
  return path;
}

int dsl_missing(const char *what, const char *made_by) {
  const char *expected = getenv("PEGA_EXPECT_ARTIFACTS");
  const bool fails = expected != NULL && strcmp(expected, "1") == 0;
  printf("%s: there is no %s; %s makes it\n", fails ? "FAILED" : "SKIP", what, made_by);
  return fails ? 1 : 77;
}

int dsl_need(const char *file, const char *made_by) {
  const char *path = dsl_path(file);
  return access(path, R_OK) == 0 ? 0 : dsl_missing(path, made_by);
}

pega_status dsl_add_loader(const char *library, pega_error *error) {
  pega_tvm_ffi_options options = PEGA_TVM_FFI_OPTIONS_INIT;
  options.library_path = library;
  return pega_tvm_ffi_add_loader(library == NULL ? NULL : &options, error);
}

pega_status dsl_open(const char *file, const char *folder, pega_artifact **out, pega_error *error) {
  pega_artifact_options options = PEGA_ARTIFACT_OPTIONS_INIT;
  options.path = dsl_path(file);
  options.search_paths = &folder;
  options.num_search_paths = folder == NULL ? 0 : 1;
  return pega_artifact_open(&options, out, error);
}

void dsl_tensor_init(dsl_tensor *out, void *data, DLDataType dtype, int64_t size0, int64_t size1) {
  memset(out, 0, sizeof *out);
  out->tensor.data = data;
  out->tensor.device = (DLDevice){kDLCPU, 0};
  out->tensor.dtype = dtype;
  out->tensor.ndim = size1 < 0 ? 1 : 2;
  out->tensor.shape = out->shape;
  out->tensor.strides = out->strides;
  out->shape[0] = size0;
  out->shape[1] = size1;
  out->strides[0] = size1 < 0 ? 1 : size1;
  out->strides[1] = 1;
}

void dsl_expect(pega_status got, pega_status expected, const pega_error *error,
                const char *const *needles, const char *call, const char *file, int line) {
  const char *text = pega_error_message(error);
  if (got != expected) {
    print_error("%s\n  expected %s, got %s: %s\n", call, pega_status_name(expected),
                pega_status_name(got), text);
    _fail(file, line);
  }
  for (; needles != NULL && *needles != NULL; needles++) {
    if (strstr(text, *needles) == NULL) {
      print_error("%s\n  the text lacks '%s': %s\n", call, *needles, text);
      _fail(file, line);
    }
  }
  if (needles != NULL) print_message("%s: %s\n", pega_error_kind(error), text);
}

float dsl_random(uint64_t *seed) {
  *seed = *seed * 6364136223846793005u + 1442695040888963407u;
  return (float)(int32_t)(*seed >> 32) / 2147483648.0f;
}
