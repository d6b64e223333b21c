/* SPDX-License-Identifier: Apache-2.0 */
#include "launch.h"

namespace {
thread_local const char *last = "";
}

int handwritten::fail(cudaError_t code, const char *text) {
  last = text;
  return static_cast<int>(code);
}

EXPORT const char *pegainfer_kernels_cuda_last_error(void) { return last; }
