/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_modules CASE: modules of compilers whose kernels need a GPU, where there is none: what they need is
 * found or named, and a call fails with a text. Each case is a process of its own, as what is loaded stays.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "dsl.h"

static pega_error error = PEGA_ERROR_INIT;

#define TILELANG "tilelang/rms_norm_bf16.so"
#define FLASHINFER "flashinfer/norm.so"
#define TILELANG_RUNTIME "tilelang/runtime"

/* Whether a file of this name is mapped into the process. */
static bool loaded(const char *name) {
  FILE *maps = fopen("/proc/self/maps", "r");
  char line[8192];
  bool found = false;
  while (maps != NULL && fgets(line, sizeof line, maps) != NULL) {
    if (strstr(line, name) != NULL) found = true;
  }
  if (maps != NULL) fclose(maps);
  return found;
}

static bool has_driver(void) {
  void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (driver != NULL) dlclose(driver);
  return driver != NULL;
}

static const char *of_tilelang(void) { return dsl_path(TILELANG_RUNTIME "/libtvm_ffi.so"); }

/* The whole memory that the calls below point at. */
static char memory[1 << 20] __attribute__((aligned(64)));

/* ---- what is missing is named, and nothing is loaded ---- */

static void tilelang_nothing_given(void) {
  pega_artifact *artifact = NULL;
  DSL_OK(dsl_add_loader(of_tilelang(), &error));
  DSL_FAILURE(PEGA_ERROR_NOT_FOUND, dsl_open(TILELANG, NULL, &artifact, &error), "rms_norm_bf16.so",
              "ffi.Module.load_from_bytes.cuda", "libtvm_runtime.so");
  assert_null(artifact);
  assert_false(loaded("rms_norm_bf16.so"));
  assert_false(loaded("libtvm_runtime.so"));
}

/* The folder has libtvm_runtime.so, which was built with another libtvm_ffi.so than is there. */
static void tilelang_too_new(void) {
  pega_artifact *artifact = NULL;
  DSL_OK(dsl_add_loader(getenv("PEGA_TEST_TOO_NEW"), &error));
  pega_status status = dsl_open(TILELANG, dsl_path(TILELANG_RUNTIME), &artifact, &error);
  assert_true(status == PEGA_ERROR_SYMBOL || status == PEGA_ERROR_VERSION);
  DSL_FAILURE(status, status, "libtvm_runtime.so", "libtvm_ffi.so", "apache-tvm-ffi 0.1.15.post2",
              "<0.1.13", "pega_tvm_ffi_options.library_path", "PEGA_TVM_FFI_LIBRARY",
              "in a given folder");
  assert_null(artifact);
  assert_false(loaded("rms_norm_bf16.so"));
  assert_false(loaded("libtvm_runtime.so"));
}

/* All its symbols are there, and its wheel asks for a later version. */
static void tilelang_too_old(void) {
  pega_artifact *artifact = NULL;
  DSL_OK(dsl_add_loader(getenv("PEGA_TEST_TOO_OLD"), &error));
  DSL_FAILURE(PEGA_ERROR_VERSION, dsl_open(TILELANG, dsl_path(TILELANG_RUNTIME), &artifact, &error),
              "libtvm_runtime.so (of the Python wheel tilelang ", "asks for apache-tvm-ffi",
              ">=0.1.11", "apache-tvm-ffi 0.1.0", "in a given folder");
  assert_null(artifact);
  assert_false(loaded("libtvm_runtime.so"));
}

/* ---- where all is there ---- */

static void expect_functions(pega_artifact *artifact, const char *const *names, int64_t count) {
  pega_value list = pega_value_none();
  DSL_OK(pega_artifact_list(artifact, &list, &error));
  for (int64_t i = 0; i < count; i++) {
    bool found = false;
    for (int64_t j = 0; j < pega_value_size(&list); j++) {
      found = found || strcmp(pega_value_as_string(pega_array_get(&list, j), NULL), names[i]) == 0;
    }
    if (!found) fail_msg("%s is not listed", names[i]);
  }
  pega_value_release(&list);
}

/* The folder has the runtime that it was built with, and that one is taken. */
static void tilelang_opens(void) {
  pega_artifact *artifact = NULL;
  pega_function *rms_norm = NULL;
  DSL_OK(dsl_add_loader(NULL, &error));
  DSL_OK(dsl_open(TILELANG, dsl_path(TILELANG_RUNTIME), &artifact, &error));
  assert_true(loaded("libtvm_runtime.so"));
  expect_functions(artifact, (const char *[]){"rms_norm"}, 1);
  DSL_OK(pega_artifact_get(artifact, "rms_norm", &rms_norm, &error));

  dsl_tensor x;
  dsl_tensor weight;
  dsl_tensor_init(&x, memory, DSL_BFLOAT16, 4, 4096);
  dsl_tensor_init(&weight, memory, DSL_BFLOAT16, 4096, -1);
  const pega_value epsilon = pega_value_float(1e-6);
  DSL_FAILURE(PEGA_ERROR_CALLEE, DSL_CALL(rms_norm, T(x), T(weight), T(x), epsilon), "device_type");
  x.tensor.device.device_type = weight.tensor.device.device_type = kDLCUDA;
  if (has_driver()) {
    print_message("there is a driver: this memory is not shown to it\n");
  } else {
    DSL_FAILURE(PEGA_ERROR_CALLEE, DSL_CALL(rms_norm, T(x), T(weight), T(x), epsilon), "CUDA");
  }
  pega_function_release(rms_norm);
  pega_artifact_release(artifact);
}

static void flashinfer_opens(void) {
  pega_artifact *artifact = NULL;
  pega_function *rmsnorm = NULL;
  DSL_OK(dsl_add_loader(NULL, &error));
  DSL_OK(dsl_open(FLASHINFER, dsl_path("flashinfer/runtime"), &artifact, &error));
  assert_true(loaded("libcudart.so.13"));
  expect_functions(
      artifact, (const char *[]){"rmsnorm", "fused_add_rmsnorm", "gemma_rmsnorm", "layernorm"}, 4);
  DSL_OK(pega_artifact_get(artifact, "rmsnorm", &rmsnorm, &error));

  dsl_tensor x;
  dsl_tensor weight;
  dsl_tensor_init(&x, memory, DSL_BFLOAT16, 4, 4096);
  dsl_tensor_init(&weight, memory, DSL_BFLOAT16, 4096, -1);
  const pega_value epsilon = pega_value_float(1e-6);
  const pega_value pdl = pega_value_bool(false);
  DSL_FAILURE(PEGA_ERROR_CALLEE, DSL_CALL(rmsnorm, T(x), T(x), T(weight), epsilon, pdl),
              "must be a CUDA tensor");
  x.tensor.device.device_type = weight.tensor.device.device_type = kDLCUDA;
  if (has_driver()) {
    print_message("there is a driver: this memory is not shown to it\n");
  } else {
    DSL_FAILURE(PEGA_ERROR_CALLEE, DSL_CALL(rmsnorm, T(x), T(x), T(weight), epsilon, pdl), "CUDA");
  }
  pega_function_release(rmsnorm);
  pega_artifact_release(artifact);
}

/* ---- what other compilers make: each opens, and refuses tensors on the CPU ---- */

/* What one says of a call, in the words that are not its compiler's version's. */
typedef struct refusal {
  pega_status status; /* PEGA_ERROR_CALLEE: it says so itself */
  const char *kind;
  const char *what, *got;
} refusal;

static void opens_and_refuses(const char *file, const char *search, const char *function_name,
                              const pega_value *args, int32_t num_args, const refusal *said) {
  pega_artifact *artifact = NULL;
  pega_function *function = NULL;
  DSL_OK(dsl_add_loader(NULL, &error));
  DSL_OK(dsl_open(file, search, &artifact, &error));
  DSL_OK(pega_artifact_get(artifact, function_name, &function, &error));
  DSL_FAILURE(said->status, pega_function_call(function, args, num_args, NULL, &error), said->what,
              said->got);
  assert_string_equal(pega_error_kind(&error), said->kind);
  pega_function_release(function);
  pega_artifact_release(artifact);
}

static void refuses_dots(const char *file, const char *function, const refusal *said) {
  dsl_tensor q;
  dsl_tensor kv;
  dsl_tensor dots;
  dsl_tensor_init(&q, memory, DSL_BFLOAT16, 4, 1024);
  dsl_tensor_init(&kv, memory, DSL_BFLOAT16, 64, 128);
  dsl_tensor_init(&dots, memory, DSL_FLOAT32, 4, 512);
  q.tensor.ndim = dots.tensor.ndim = 3;
  memcpy(q.shape, (int64_t[]){4, 8, 128}, 3 * sizeof(int64_t));
  memcpy(q.strides, (int64_t[]){1024, 128, 1}, 3 * sizeof(int64_t));
  memcpy(dots.shape, (int64_t[]){4, 8, 64}, 3 * sizeof(int64_t));
  memcpy(dots.strides, (int64_t[]){512, 64, 1}, 3 * sizeof(int64_t));
  const pega_value args[] = {T(q), T(kv), T(dots)};
  opens_and_refuses(file, NULL, function, args, 3, said);
}

static void cute_opens(void) {
  const refusal said = {PEGA_ERROR_CALLEE, "ValueError", "argument #0 when calling: `indexer_dots(",
                        "expected device_type=cuda"};
  refuses_dots("cute/indexer_tvm_ffi.so", "indexer_dots", &said);
}

static void cute_c_opens(void) {
  const refusal said = {PEGA_ERROR_DEVICE, "ValueError", "deepseek.indexer_dots: argument 0 'q': ",
                        "expected a tensor on a cuda device, got cpu:0"};
  refuses_dots("cute/indexer_c.so", "deepseek.indexer_dots", &said);
}

static void export_opens(void) {
  dsl_tensor gates;
  dsl_tensor_init(&gates, memory, DSL_FLOAT32, 64, 4);
  const pega_value args[] = {T(gates), T(gates), pega_value_int(64), pega_value_int(4)};
  const refusal said = {PEGA_ERROR_CALLEE, "ValueError",
                        "gated_delta_rule_chunk_cumsum: argument 0 'g_in_ptr': ",
                        "expected memory of a cuda device, got a tensor on cpu:0"};
  opens_and_refuses("export/qwen35.so", NULL,
                    "pegainfer.triton_cubin.qwen35.gated_delta_rule_chunk_cumsum", args, 4, &said);
}

static void flashinfer_gdn_opens(void) {
  dsl_tensor x;
  dsl_tensor_init(&x, memory, DSL_BFLOAT16, 4, 128);
  const pega_value args[] = {T(x)};
  const refusal said = {PEGA_ERROR_CALLEE, "TypeError", "gated_delta_rule_prefill",
                        "expected 13 arguments"};
  opens_and_refuses("flashinfer/flashinfer_gdn_sm90.so", NULL, "gated_delta_rule_prefill", args, 1,
                    &said);
}

/* It says itself which driver it needs, and is not opened where there is none. */
static void handwritten_refused(void) {
  pega_artifact *artifact = NULL;
  if (has_driver()) {
    print_message("there is a driver: nothing is missing\n");
    return;
  }
  DSL_OK(dsl_add_loader(NULL, &error));
  DSL_FAILURE(PEGA_ERROR_NOT_FOUND,
              dsl_open("handwritten/libpegainfer_kernels_cuda.so", NULL, &artifact, &error),
              "libpegainfer_kernels_cuda.so needs a CUDA driver of version 13.0 or later",
              "libcuda.so.1");
  assert_null(artifact);
  assert_false(loaded("libpegainfer_kernels_cuda.so"));
}

/* ---- which case ---- */

static const struct {
  const char *name;
  const char *needs;
  const char *made_by;
  void (*run)(void);
} cases[] = {
    {"tilelang_nothing_given", TILELANG, "./dev artifacts tilelang", tilelang_nothing_given},
    {"tilelang_too_new", TILELANG, "./dev artifacts tilelang", tilelang_too_new},
    {"tilelang_too_old", TILELANG, "./dev artifacts tilelang", tilelang_too_old},
    {"tilelang_opens", TILELANG, "./dev artifacts tilelang", tilelang_opens},
    {"flashinfer_opens", FLASHINFER, "./dev artifacts flashinfer", flashinfer_opens},
    {"flashinfer_gdn_opens", "flashinfer/flashinfer_gdn_sm90.so", "./dev artifacts flashinfer:gdn",
     flashinfer_gdn_opens},
    {"cute_opens", "cute/indexer_tvm_ffi.so", "./dev artifacts cute", cute_opens},
    {"cute_c_opens", "cute/indexer_c.so", "./dev artifacts cute", cute_c_opens},
    {"export_opens", "export/qwen35.so", "./dev artifacts export", export_opens},
    {"handwritten_refused", "handwritten/libpegainfer_kernels_cuda.so",
     "./dev artifacts handwritten", handwritten_refused},
};
static size_t chosen;

static void test_case(void **state) {
  (void)state;
  cases[chosen].run();
}

int main(int argc, char **argv) {
  const size_t count = sizeof cases / sizeof cases[0];
  while (argc == 2 && chosen < count && strcmp(argv[1], cases[chosen].name) != 0) chosen++;
  if (argc != 2 || chosen == count) {
    fprintf(stderr, "usage: %s CASE\n", argv[0]);
    return 2;
  }
  int missing = dsl_need(cases[chosen].needs, cases[chosen].made_by);
  if (missing != 0) return missing;
  if (strcmp(argv[1], "tilelang_too_new") == 0 && getenv("PEGA_TEST_TOO_NEW") == NULL) {
    return dsl_missing("TVM FFI of 0.1.15.post2", "./dev setup");
  }
  if (strcmp(argv[1], "tilelang_too_old") == 0 && getenv("PEGA_TEST_TOO_OLD") == NULL) {
    printf("SKIP: there is no TVM FFI of 0.1.0: ./dev setup fetches it\n");
    return 77;
  }
  const struct CMUnitTest tests[] = {{argv[1], test_case, NULL, NULL, NULL}};
  int failed = cmocka_run_group_tests_name("modules", tests, NULL, NULL);
  pega_error_clear(&error);
  return failed;
}
