/* SPDX-License-Identifier: Apache-2.0 */
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include <pega/qwen35.h>

#include "doctor.h"

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

/* The processor's own name for itself, where the system tells it. */
static json_t *model_name(void) {
  json_t *name = NULL;
  char line[256];
  FILE *file = fopen("/proc/cpuinfo", "re");
  while (file != NULL && name == NULL && fgets(line, sizeof line, file) != NULL) {
    const char *colon = strchr(line, ':');
    if (strncmp(line, "model name", 10) != 0 || colon == NULL) continue;
    const char *text = colon + 1 + strspn(colon + 1, " \t");
    name = cli_json_text(text, strcspn(text, "\n"));
  }
  if (file != NULL) (void)fclose(file);
  return name == NULL ? json_null() : name;
}

static json_t *features(void) {
  json_t *names = json_array();
#if defined(__x86_64__)
#define FEATURE(name) \
  if (__builtin_cpu_supports(name)) cli_json_append(names, json_string(name));
  __builtin_cpu_init();
  FEATURE("avx")
  FEATURE("avx2")
  FEATURE("fma")
  FEATURE("avx512f")
  FEATURE("avx512bw")
  FEATURE("avx512dq")
  FEATURE("avx512vl")
#undef FEATURE
#elif defined(__aarch64__)
  /* Advanced SIMD is bit 1 and SVE bit 22 of the kernel's HWCAP for arm64. */
  const unsigned long bits = getauxval(AT_HWCAP);
  if ((bits >> 1 & 1) != 0) cli_json_append(names, json_string("neon"));
  if ((bits >> 22 & 1) != 0) cli_json_append(names, json_string("sve"));
#endif
  return names;
}

static long num_threads(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  return sysconf(_SC_NPROCESSORS_ONLN);
}

json_t *cli_doctor_cpu(void) {
  json_t *object = json_object();
  cli_json_set(object, "model", model_name());
  cli_json_set(object, "threads", json_integer(num_threads()));
  cli_json_set(object, "features", features());
  return object;
}

/* Rows of the tried solve: a whole chunk and one row of the next. */
enum { ROWS = PEGA_QWEN35_CHUNK + 1 };

/* (I + A)^-1 = I - A for an A with one element, at row 1, column 0. */
static pega_status try_solve(pega_error *error) {
  static float a_tril[ROWS][PEGA_QWEN35_CHUNK];
  static uint16_t a_inv[ROWS][PEGA_QWEN35_CHUNK];
  int64_t shape[3] = {ROWS, 1, PEGA_QWEN35_CHUNK};
  pega_function *solve = NULL;
  DLTensor input;
  memset(&input, 0, sizeof input);
  input.device.device_type = kDLCPU;
  input.ndim = 3;
  input.shape = shape;
  DLTensor output = input;
  input.data = a_tril;
  input.dtype = (DLDataType){kDLFloat, 32, 1};
  output.data = a_inv;
  output.dtype = (DLDataType){kDLBfloat, 16, 1};
  a_tril[1][0] = 0.5F;
  pega_status status = pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE, &solve, error);
  if (status != PEGA_OK) return status;
  const pega_value args[2] = {pega_value_tensor(&input), pega_value_tensor(&output)};
  status = pega_function_call(solve, args, 2, NULL, error);
  for (int row = 0; status == PEGA_OK && row < ROWS; ++row) {
    for (int column = 0; status == PEGA_OK && column < PEGA_QWEN35_CHUNK; ++column) {
      unsigned expected = row % PEGA_QWEN35_CHUNK == column ? 0x3f80 : 0; /* 1 and 0 */
      if (row == 1 && column == 0) expected = 0xbf00;                     /* -0.5 */
      /* Below the diagonal a zero may have either sign. */
      const bool below = column < row % PEGA_QWEN35_CHUNK;
      const unsigned got = a_inv[row][column];
      if (got == expected || (below && expected == 0 && got == 0x8000)) continue;
      status =
          pega_error_set(error, PEGA_ERROR_INTERNAL, NULL,
                         "%s: a wrong result at row %d, column %d: expected 0x%04x, got 0x%04x",
                         PEGA_QWEN35_CHUNK_SOLVE, row, column, expected, got);
    }
  }
  pega_function_release(solve);
  return status;
}

json_t *cli_doctor_functions(json_t *problems) {
  json_t *object = json_object();
  pega_error error = PEGA_ERROR_INIT;
  pega_value names = pega_value_none();
  if (pega_registry_list(&names, &error) == PEGA_OK) {
    cli_json_set(object, "registered", json_integer(pega_value_size(&names)));
  } else {
    cli_json_append(problems, cli_json_string(pega_error_message(&error)));
  }
  pega_value_release(&names);
  const pega_status status = try_solve(&error);
  cli_json_set(object, "chunk_solve_on_cpu",
               json_string(status == PEGA_OK ? "right on a small tensor" : "fails"));
  if (status != PEGA_OK) cli_json_append(problems, cli_json_string(pega_error_message(&error)));
  pega_error_clear(&error);
  return object;
}
