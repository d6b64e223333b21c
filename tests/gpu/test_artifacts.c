/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_gpu_artifacts [ROW]: opens what the compilers of kernel languages made (./dev artifacts) from C, calls
 * each with tensors on the GPU, compares with fp64 and measures what a call costs the host. Every row is a
 * process of its own: they need different runtimes, and one that fails does not take the others along.
 *
 * PEGA_TEST_ARTIFACTS names the folder of the artifacts. A line "ROW {...}" of JSON tells of each row.
 */
#include <math.h>
#include <pega/artifact.h>
#include <pega/tvm_ffi.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <tvm/ffi/c_api.h>
#include <unistd.h>

#include "artifact_rows.h"
#include "fixture.h"

#ifndef ARTIFACTS
#define ARTIFACTS "."
#endif

enum { BATCHES = 200, CALLS = 100 };
#define WARM_UP_NS 5e8 /* until clocks are up, the processor's and the GPU's */

extern char **environ;

static const char *in_folder(const char *file, char *buffer, size_t size) {
  const char *folder = getenv("PEGA_TEST_ARTIFACTS");
  if (file == NULL) return NULL;
  snprintf(buffer, size, "%s/%s", folder != NULL ? folder : ARTIFACTS, file);
  return buffer;
}

static double now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static int compare(const void *a, const void *b) {
  const double x = *(const double *)a;
  const double y = *(const double *)b;
  return (x > y) - (x < y);
}

/* A way to make the call once. */
typedef struct way {
  pega_function *function; /* through pega */
  const artifact_call *call;
  int (*direct)(TVMFFIObjectHandle, TVMFFIAny *, int32_t, TVMFFIAny *); /* or without it */
  TVMFFIObjectHandle handle;
  TVMFFIAny args[ARTIFACT_MAX_ARGS];
} way;

static bool call_once(way *self) {
  if (self->direct == NULL) {
    return pega_function_call(self->function, self->call->args, self->call->num_args, NULL, NULL) ==
           PEGA_OK;
  }
  TVMFFIAny result = {.type_index = kTVMFFINone};
  return self->direct(self->handle, self->args, self->call->num_args, &result) == 0;
}

/* The median, over batches, of what one launch into the stream costs the host; nothing is waited for inside. */
static double measure(way *self) {
  static double batches[BATCHES];
  const double begin = now_ns();
  while (now_ns() - begin < WARM_UP_NS) {
    for (int i = 0; i < CALLS; i++) {
      if (!call_once(self)) return NAN;
    }
    GPU_OK(gpu.stream_synchronize(self->call->stream));
  }
  for (int b = 0; b < BATCHES; b++) {
    double start = now_ns();
    for (int i = 0; i < CALLS; i++) (void)call_once(self);
    batches[b] = (now_ns() - start) / CALLS;
    GPU_OK(gpu.stream_synchronize(self->call->stream));
  }
  qsort(batches, BATCHES, sizeof batches[0], compare);
  return batches[BATCHES / 2];
}

/* The same call by TVM FFI's own C function, with nothing of pega in it: what a call costs at least. NAN where the
 * artifact is no TVM FFI module, or an argument has no plain form. */
static double measure_directly(const artifact_call *call, const pega_tvm_ffi_options *options,
                               const char *path, const char *name) {
  way self = {.call = call};
  pega_tvm_ffi *runtime = NULL;
  pega_tvm_ffi_module *module = NULL;
  pega_function *function = NULL;
  double cost = NAN;
  for (int32_t i = 0; i < call->num_args; i++) {
    const pega_value *from = &call->args[i];
    TVMFFIAny *to = &self.args[i];
    if (from->kind == PEGA_TENSOR) {
      to->type_index = kTVMFFIDLTensorPtr;
      to->v_ptr = pega_value_as_tensor(from);
    } else if (from->kind == PEGA_FLOAT) {
      to->type_index = kTVMFFIFloat;
      to->v_float64 = from->as.f64;
    } else if (from->kind == PEGA_INT || from->kind == PEGA_BOOL) {
      to->type_index = from->kind == PEGA_INT ? kTVMFFIInt : kTVMFFIBool;
      to->v_int64 = from->kind == PEGA_INT ? from->as.i64 : from->as.boolean;
    } else {
      return NAN;
    }
  }
  if (pega_tvm_ffi_open(options, &runtime, NULL) == PEGA_OK &&
      pega_tvm_ffi_module_open(runtime, path, &module, NULL) == PEGA_OK &&
      pega_tvm_ffi_module_get(module, name, &function, NULL) == PEGA_OK &&
      pega_tvm_ffi_function_to_handle(runtime, function, &self.handle, NULL) == PEGA_OK &&
      pega_tvm_ffi_symbol(runtime, "TVMFFIFunctionCall", (void **)&self.direct, NULL) == PEGA_OK) {
    cost = measure(&self);
  }
  pega_function_release(function);
  pega_tvm_ffi_module_close(module);
  return cost;
}

/* Says "ROW {...}"; text is put between quotes as JSON wants it. */
static void report(const artifact_row *row, bool ran, double max_error, double host_ns,
                   double direct_ns, const char *text) {
  printf("ROW {\"dsl\": \"%s\", \"artifact\": \"%s\", \"function\": \"%s\", \"ran\": %s", row->dsl,
         row->artifact, row->function, ran ? "true" : "false");
  if (isfinite(max_error)) printf(", \"max_error\": %.6g", max_error);
  if (isfinite(host_ns)) printf(", \"host_ns\": %.0f", host_ns);
  if (isfinite(direct_ns)) printf(", \"direct_ns\": %.0f", direct_ns);
  if (text != NULL) {
    printf(", \"text\": \"");
    for (; *text != '\0'; text++) {
      if ((unsigned char)*text < ' ') {
        printf(" ");
      } else {
        printf(*text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
      }
    }
    printf("\"");
  }
  printf("}\n");
}

static int run_row(const artifact_row *row) {
  char path[4096];
  char search[4096];
  char runtime[4096];
  pega_error error = PEGA_ERROR_INIT;
  pega_artifact *artifact = NULL;
  pega_function *function = NULL;
  static artifact_call call = {.seed = 1};

  int skip = fixture_begin();
  if (skip != 0) return skip;
  if (fixture_rehearsal("an artifact's kernel")) return SUPPORT_SKIP;
  pega_tvm_ffi_options options = PEGA_TVM_FFI_OPTIONS_INIT;
  options.library_path = in_folder(row->runtime, runtime, sizeof runtime);
  pega_artifact_options open = PEGA_ARTIFACT_OPTIONS_INIT;
  const char *folder = in_folder(row->search, search, sizeof search);
  open.path = in_folder(row->artifact, path, sizeof path);
  open.search_paths = &folder;
  open.num_search_paths = folder == NULL ? 0 : 1;
  GPU_OK(gpu.stream_create(&call.stream, GPU_STREAM_NON_BLOCKING));
  if (pega_tvm_ffi_add_loader(&options, &error) != PEGA_OK ||
      pega_artifact_open(&open, &artifact, &error) != PEGA_OK ||
      pega_artifact_get(artifact, row->function, &function, &error) != PEGA_OK ||
      pega_stream_set(CUDA0, call.stream, NULL, &error) != PEGA_OK) {
    report(row, false, NAN, NAN, NAN, pega_error_message(&error));
    return 1;
  }
  row->make(&call);
  for (int i = 0; i < call.num_tensors; i++) {
    const artifact_tensor *tensor = &call.tensors[i];
    GPU_OK(gpu.copy_in((CUdeviceptr)(uintptr_t)tensor->tensor.data, tensor->host, tensor->bytes));
  }
  GPU_OK(gpu.synchronize());
  if (pega_function_call(function, call.args, call.num_args, NULL, &error) != PEGA_OK) {
    report(row, false, NAN, NAN, NAN, pega_error_message(&error));
    return 1;
  }
  GPU_OK(gpu.stream_synchronize(call.stream));
  for (int i = 0; i < call.num_tensors; i++) {
    const artifact_tensor *tensor = &call.tensors[i];
    GPU_OK(gpu.copy_out(tensor->host, (CUdeviceptr)(uintptr_t)tensor->tensor.data, tensor->bytes));
  }
  const double max_error = row->error(&call);
  const bool right = max_error <= row->tolerance;
  way through_pega = {.function = function, .call = &call};
  const double host_ns = measure(&through_pega);
  const bool module = strcmp(pega_artifact_format(artifact), "TVM FFI module") == 0;
  const double direct_ns = module ? measure_directly(&call, &options, path, row->function) : NAN;
  report(row, right, max_error, host_ns, direct_ns, right ? NULL : "the numbers are wrong");
  pega_function_release(function);
  pega_artifact_release(artifact);
  return right ? 0 : 1;
}

/* Runs this program for one row. */
static int run_process(const char *program, size_t number) {
  char row[32];
  snprintf(row, sizeof row, "%zu", number);
  const char *arguments[] = {program, row, NULL};
  pid_t child;
  int status;
  fflush(stdout);
  if (posix_spawn(&child, "/proc/self/exe", NULL, NULL, (char *const *)arguments, environ) != 0) {
    return 1;
  }
  if (waitpid(child, &status, 0) != child) return 1;
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  report(&artifact_rows[number], false, NAN, NAN, NAN, "the process was ended by a signal");
  return 1;
}

int main(int argc, char **argv) {
  char path[4096];
  if (argc == 2) {
    const size_t number = (size_t)strtoul(argv[1], NULL, 10);
    return number < num_artifact_rows ? run_row(&artifact_rows[number]) : 2;
  }
  int passed = 0;
  int failed = 0;
  for (size_t i = 0; i < num_artifact_rows; i++) {
    if (access(in_folder(artifact_rows[i].artifact, path, sizeof path), R_OK) != 0) {
      printf("SKIP: there is no %s: ./dev artifacts makes it\n", path);
      continue;
    }
    const int status = run_process(argv[0], i);
    passed += status == 0;
    failed += status != 0 && status != SUPPORT_SKIP;
  }
  printf("%d artifacts called, %d failed\n", passed, failed);
  if (failed != 0) return 1;
  return passed != 0 ? 0 : SUPPORT_SKIP;
}
