/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The demo: an inference engine's side, written in C, and a TVM FFI artifact (example_module.c) call
 * each other; errors cross both ways; kernel functions run on tensors of real shape: a solve, a whole
 * prefill with decode steps after it, on the CPU and where there is one on a GPU.
 * Needs no GPU. Ends with 1 if anything is not as it should be.
 */
#include "demo.h"

#include <dlfcn.h>
#include <pega/qwen35.h>
#include <stdarg.h>
#include <stdio.h>

static int num_checks;
static int num_failed;

void demo_section(const char *title) { printf("\n%s\n", title); }

void demo_check(bool passed, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  printf("  ");
  vprintf(format, arguments);
  printf("%s\n", passed ? "  PASS" : "  FAIL");
  va_end(arguments);
  num_checks++;
  num_failed += passed ? 0 : 1;
}

static const char *source_text(uint32_t source) {
  switch (source) {
    case PEGA_TVM_FFI_ENVIRONMENT:
      return "named by $" PEGA_TVM_FFI_LIBRARY_ENV;
    case PEGA_TVM_FFI_PROCESS:
      return "already in the process";
    case PEGA_TVM_FFI_FOLDER:
      return "a given folder";
    case PEGA_TVM_FFI_BUILD:
      return "the build's";
    default:
      return "the system's";
  }
}

static pega_status show_what_is_here(pega_tvm_ffi *runtime, pega_tvm_ffi_module *module,
                                     pega_error *error) {
  pega_tvm_ffi_info info = {.struct_size = sizeof info};
  pega_value names = pega_value_none();
  pega_status status = pega_tvm_ffi_describe(runtime, &info, error);
  if (status == PEGA_OK) status = pega_tvm_ffi_module_list(module, &names, error);
  if (status != PEGA_OK) return status;
  printf("  pega %s\n", pega_version_string());
  printf("  runtime: %s\n", info.path);
  printf("           reports %u.%u.%u, %s%s%s\n", info.major, info.minor, info.patch,
         source_text(info.source), info.wheel_version[0] == '\0' ? "" : ", wheel ",
         info.wheel_version);
  printf("  artifact: example_module.so with");
  for (int64_t i = 0; i < pega_value_size(&names); i++) {
    printf("%s %s", i == 0 ? "" : ",", pega_value_as_string(pega_array_get(&names, i), NULL));
  }
  printf("\n");
  pega_value_release(&names);
  return PEGA_OK;
}

/* The raw form takes device pointers: it is called only where it must fail before any launch. */
static void show_gpu(void) {
  demo_section("7. The GPU");
  void *driver = dlopen("libcuda.so.1", RTLD_NOW);
  if (driver != NULL) {
    dlclose(driver);
    printf("  a CUDA driver is here; `pega doctor` tells its version and the devices\n");
    return;
  }
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function = NULL;
  /* One token of one head, in and out. */
  static _Alignas(16) float a_tril[PEGA_QWEN35_CHUNK];
  static _Alignas(16) uint16_t a_inv[PEGA_QWEN35_CHUNK];
  const pega_value args[] = {pega_value_pointer(a_tril), pega_value_pointer(a_inv),
                             pega_value_int(1), pega_value_int(1), pega_value_int(0)};
  pega_status status = pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE_RAW, &function, &error);
  if (status == PEGA_OK) status = pega_function_call(function, args, 5, NULL, &error);
  demo_check(status == PEGA_ERROR_UNAVAILABLE, "the raw form fails before any launch:\n    %s\n ",
             pega_error_message(&error));
  pega_function_release(function);
  pega_error_clear(&error);
}

int main(int argc, char **argv) {
  const char *path = argc > 1 ? argv[1] : EXAMPLE_MODULE;
  pega_error error = PEGA_ERROR_INIT;
  pega_tvm_ffi *runtime = NULL;
  pega_tvm_ffi_module *module = NULL;

  demo_section("1. What is here");
  pega_status status = pega_tvm_ffi_open(NULL, &runtime, &error);
  if (status == PEGA_OK) status = pega_tvm_ffi_module_open(runtime, path, &module, &error);
  if (status == PEGA_OK) status = show_what_is_here(runtime, module, &error);
  if (status == PEGA_OK) {
    demo_boundary(runtime, module);
    demo_solve();
    demo_prefill();
    show_gpu();
  } else {
    demo_check(false, "%s", pega_error_message(&error));
  }
  pega_tvm_ffi_module_close(module);
  pega_tvm_ffi_close(runtime);
  pega_error_clear(&error);

  if (num_failed == 0) {
    printf("\nevery check passed (%d)\n", num_checks);
  } else {
    printf("\n%d of %d checks failed\n", num_failed, num_checks);
  }
  return num_failed == 0 ? 0 : 1;
}
