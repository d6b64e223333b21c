/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rehearsal.h"

enum { kChunk = PEGA_QWEN35_CHUNK };

void fixture_gpu_ok(CUresult result, const char *call, const char *file, int line) {
  if (result == 0) return;
  print_error("%s\n  expected CUDA_SUCCESS, got %s (%d)\n", call, gpu_result_name(result), result);
  _fail(file, line);
}

static int leave_out(const char *why) {
  printf("SKIP: %s\n", why);
  return SUPPORT_SKIP;
}

int fixture_begin(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  const char *pack = getenv("PEGA_PACK_PATH");
  if (pack != NULL && access(pack, F_OK) != 0) {
    printf("SKIP: there is no %s: ./dev kernels makes it\n", pack);
    return SUPPORT_SKIP;
  }
  const char *why = gpu_open();
  if (why != NULL) return leave_out(why);
  if (gpu.fake && getenv("PEGA_TEST_REHEARSAL") == NULL) {
    return leave_out(
        "libcuda.so.1 is the fake driver, which runs no kernel (PEGA_TEST_REHEARSAL=1 runs "
        "what it can)");
  }
  if (gpu.fake) {
    printf("REHEARSAL on the fake driver: nothing here counts for a GPU\n");
    rehearsal_begin();
  } else {
    printf("%s, driver %d.%d\n", gpu.name, gpu.version / 1000, gpu.version % 1000 / 10);
  }
  CUcontext context;
  CUresult result = gpu.primary_retain(&context, 0);
  if (result == 0) result = gpu.context_set(context);
  if (result != 0) return leave_out(gpu_result_name(result));
  return 0;
}

int fixture_begin_solve(void) { return fixture_begin_with(PEGA_QWEN35_CHUNK_SOLVE_RAW); }

int fixture_begin_with(const char *function) {
  int status = fixture_begin();
  if (status != 0) return status;
  pega_error error = PEGA_ERROR_INIT;
  if (pega_function_prepare(fixture_function(function), CUDA0, &error) == PEGA_ERROR_UNSUPPORTED) {
    return leave_out(pega_error_message(&error));
  }
  /* Any other failure is for the tests to find. */
  pega_error_clear(&error);
  return 0;
}

bool fixture_rehearsal(const char *left_out) {
  if (gpu.fake) printf("SKIP: %s: the fake driver cannot show it\n", left_out);
  return gpu.fake;
}

pega_pack *fixture_pack(const char *name) {
  const char *folder = getenv("PEGA_TEST_KERNELS");
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", folder == NULL ? "." : folder, name);
  pega_pack_options options = PEGA_PACK_OPTIONS_INIT;
  options.path = path;
  pega_pack *pack = NULL;
  pega_error error = PEGA_ERROR_INIT;
  pega_status status = pega_pack_open(&options, &pack, &error);
  if (status == PEGA_ERROR_NOT_FOUND) {
    printf("SKIP: there is no %s: ./dev kernels makes it, PEGA_TEST_KERNELS names its folder\n",
           path);
    pega_error_clear(&error);
    return NULL;
  }
  if (status != PEGA_OK) {
    printf("%s: %s\n", path, pega_error_message(&error));
    exit(1);
  }
  return pack;
}

pega_function *fixture_function(const char *name) {
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function;
  if (pega_registry_get(name, &function, &error) != PEGA_OK) {
    printf("%s\n", pega_error_message(&error));
    exit(1);
  }
  pega_function_release(function); /* the registry keeps it */
  return function;
}

/* ---- solves ---- */

static size_t num_entries(const device_solve *solve) {
  const int64_t rows = solve->exact ? solve->problem.seq_len : solve->problem.num_rows;
  return (size_t)(rows * solve->problem.num_value_heads * kChunk);
}

/* What may not be read must not matter whatever it is. */
static void fill_with_junk(const solve_problem *problem) {
  static const float junk[] = {(float)NAN, (float)INFINITY, -(float)INFINITY, 3e38f, -1.5f};
  const int64_t count = problem->num_rows * problem->num_value_heads * kChunk;
  for (int64_t i = 0; i < count; ++i) {
    if (isnan(problem->in_buffer[i])) problem->in_buffer[i] = junk[(i ^ i >> 6) % COUNT(junk)];
  }
}

device_solve device_solve_create(int64_t seq_len, int64_t num_value_heads, double lowest_gate,
                                 uint64_t seed, bool exact) {
  const int64_t key_heads = num_value_heads % 2 == 0 ? num_value_heads / 2 : num_value_heads;
  device_solve solve;
  memset(&solve, 0, sizeof solve);
  solve.problem = solve_problem_create(seq_len, key_heads, num_value_heads, lowest_gate, seed);
  solve.exact = exact;
  fill_with_junk(&solve.problem);
  const size_t count = num_entries(&solve);
  GPU_OK(gpu.alloc(&solve.in_memory, count == 0 ? 16 : count * sizeof(float)));
  GPU_OK(gpu.alloc(&solve.out_memory, count == 0 ? 16 : count * sizeof(uint16_t)));
  const size_t margin = exact ? 0 : (size_t)(kSolveMargin * num_value_heads * kChunk);
  solve.a_tril = solve.in_memory + margin * sizeof(float);
  solve.a_inv = solve.out_memory + margin * sizeof(uint16_t);
  device_solve_upload(&solve);
  device_solve_poison(&solve);
  return solve;
}

void device_solve_free(device_solve *solve) {
  GPU_OK(gpu.release(solve->in_memory));
  GPU_OK(gpu.release(solve->out_memory));
  solve_problem_free(&solve->problem);
}

static void copy_out_buffer(const device_solve *solve, bool to_device) {
  uint16_t *host = solve->exact ? solve->problem.a_inv : solve->problem.out_buffer;
  const size_t bytes = num_entries(solve) * sizeof(uint16_t);
  if (bytes == 0) return;
  GPU_OK(to_device ? gpu.copy_in(solve->out_memory, host, bytes)
                   : gpu.copy_out(host, solve->out_memory, bytes));
}

void device_solve_upload(const device_solve *solve) {
  const float *host = solve->exact ? solve->problem.a_tril : solve->problem.in_buffer;
  const size_t bytes = num_entries(solve) * sizeof(float);
  if (bytes == 0) return;
  GPU_OK(gpu.copy_in(solve->in_memory, host, bytes));
  GPU_OK(gpu.synchronize());
}

void device_solve_poison(const device_solve *solve) {
  solve_problem_reset((solve_problem *)(uintptr_t)&solve->problem);
  copy_out_buffer(solve, true);
  GPU_OK(gpu.synchronize());
}

void device_solve_download(device_solve *solve) { copy_out_buffer(solve, false); }

solve_comparison device_solve_expect_right(device_solve *solve, const char *what) {
  device_solve_download(solve);
  const solve_comparison got = solve_problem_compare(&solve->problem);
  if (!(got.max_error <= 1e-3) || got.bad_above != 0 || got.bad_outside != 0) {
    print_error(
        "%s, T=%lld HV=%lld: max error %.3g (at most 1e-3), rms %.3g, %lld entries wrong on "
        "or above the diagonal, %lld written outside\n",
        what, (long long)solve->problem.seq_len, (long long)solve->problem.num_value_heads,
        got.max_error, got.rms_error, (long long)got.bad_above, (long long)got.bad_outside);
    fail();
  }
  return got;
}

bool device_solve_untouched(device_solve *solve) {
  device_solve_download(solve);
  const int64_t count = solve->problem.num_rows * solve->problem.num_value_heads * kChunk;
  for (int64_t i = 0; i < count; ++i) {
    if (solve->problem.out_buffer[i] != SOLVE_UNTOUCHED) return false;
  }
  return true;
}

static pega_status call_tensors(const device_solve *solve, CUstream stream, pega_error *error) {
  int64_t shape[] = {solve->problem.seq_len, solve->problem.num_value_heads, kChunk};
  const DLTensor a_tril = {.data = (void *)(uintptr_t)solve->a_tril,
                           .device = CUDA0,
                           .ndim = 3,
                           .dtype = FLOAT32,
                           .shape = shape};
  DLTensor a_inv = a_tril;
  a_inv.data = (void *)(uintptr_t)solve->a_inv;
  a_inv.dtype = BFLOAT16;
  void *previous;
  pega_status status = pega_stream_set(CUDA0, stream, &previous, error);
  if (status != PEGA_OK) return status;
  status =
      pega_function_call(fixture_function(PEGA_QWEN35_CHUNK_SOLVE),
                         ARGS(pega_value_tensor(&a_tril), pega_value_tensor(&a_inv)), NULL, error);
  pega_status restored = pega_stream_set(CUDA0, previous, NULL, status == PEGA_OK ? error : NULL);
  return status == PEGA_OK ? restored : status;
}

pega_status device_solve_call(const device_solve *solve, solve_form form, CUstream stream,
                              pega_error *error) {
  const solve_problem *problem = &solve->problem;
  if (form == FORM_TENSOR) return call_tensors(solve, stream, error);
  if (form == FORM_SYMBOL) {
    int result = gated_delta_rule_prefill_chunk_solve_cuda(
        (const float *)(uintptr_t)solve->a_tril, (uint16_t *)(uintptr_t)solve->a_inv,
        (int32_t)problem->seq_len, (int32_t)problem->num_value_heads, stream);
    pega_status status = pega_symbol_last_error(error);
    return result != 0 && status == PEGA_OK ? PEGA_ERROR_INTERNAL : status;
  }
  return pega_function_call(
      fixture_function(PEGA_QWEN35_CHUNK_SOLVE_RAW),
      ARGS(pega_value_pointer((const void *)(uintptr_t)solve->a_tril),
           pega_value_pointer((const void *)(uintptr_t)solve->a_inv),
           pega_value_int(problem->seq_len), pega_value_int(problem->num_value_heads),
           pega_value_pointer(stream)),
      NULL, error);
}

void device_solve_launch(const device_solve *solve, solve_form form, CUstream stream) {
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_OK(device_solve_call(solve, form, stream, &error), &error);
  pega_error_clear(&error);
}
