/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dsl_call OUT: calls rms_norm of Apache TVM's module from C. Into the file OUT go x, weight and the result as
 * raw float32; lines tell what a call costs ("host_ns: 123") and what the text is for an argument of
 * the wrong type ("error: TypeError: ..."). client.py and the matrix compare Python with it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "dsl.h"

enum { ROWS = 9, COLUMNS = 256, BATCHES = 200, CALLS = 1000 };

static float x[ROWS * COLUMNS] __attribute__((aligned(64)));
static float weight[COLUMNS] __attribute__((aligned(64)));
static float out[ROWS * COLUMNS] __attribute__((aligned(64)));

static double now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static int compare(const void *a, const void *b) {
  const double left = *(const double *)a;
  const double right = *(const double *)b;
  return (left > right) - (left < right);
}

/* The median of the batches, of one row each: little beside the call. */
static double measure(pega_function *function, pega_value *args) {
  static double batches[BATCHES];
  for (int b = 0; b < BATCHES; b++) {
    double start = now_ns();
    for (int i = 0; i < CALLS; i++) (void)pega_function_call(function, args, 4, NULL, NULL);
    batches[b] = (now_ns() - start) / CALLS;
  }
  qsort(batches, BATCHES, sizeof batches[0], compare);
  return batches[BATCHES / 2];
}

int main(int argc, char **argv) {
  pega_error error = PEGA_ERROR_INIT;
  pega_artifact *artifact = NULL;
  pega_function *rms_norm = NULL;
  uint64_t seed = 7;
  if (argc != 2) {
    fprintf(stderr, "usage: %s OUT\n", argv[0]);
    return 2;
  }
  int missing = dsl_need("tvm/cpu.so", "./dev artifacts tvm");
  if (missing != 0) return missing;
  for (int i = 0; i < ROWS * COLUMNS; i++) x[i] = dsl_random(&seed);
  for (int i = 0; i < COLUMNS; i++) weight[i] = dsl_random(&seed);
  dsl_tensor tensors[3];
  dsl_tensor_init(&tensors[0], x, DSL_FLOAT32, ROWS, COLUMNS);
  dsl_tensor_init(&tensors[1], weight, DSL_FLOAT32, COLUMNS, -1);
  dsl_tensor_init(&tensors[2], out, DSL_FLOAT32, ROWS, COLUMNS);
  pega_value args[] = {T(tensors[0]), T(tensors[1]), pega_value_float(1e-6), T(tensors[2])};
  if (dsl_add_loader(NULL, &error) != PEGA_OK ||
      dsl_open("tvm/cpu.so", NULL, &artifact, &error) != PEGA_OK ||
      pega_artifact_get(artifact, "rms_norm", &rms_norm, &error) != PEGA_OK ||
      pega_function_call(rms_norm, args, 4, NULL, &error) != PEGA_OK) {
    printf("%s\n", pega_error_message(&error));
    return 1;
  }
  FILE *file = fopen(argv[1], "wb");
  if (file == NULL || fwrite(x, sizeof x, 1, file) != 1 ||
      fwrite(weight, sizeof weight, 1, file) != 1 || fwrite(out, sizeof out, 1, file) != 1 ||
      fclose(file) != 0) {
    perror(argv[1]);
    return 1;
  }
  tensors[0].tensor.dtype = DSL_FLOAT64;
  if (pega_function_call(rms_norm, args, 4, NULL, &error) == PEGA_OK) return 1;
  printf("error: %s: %s\n", pega_error_kind(&error), pega_error_message(&error));
  tensors[0].tensor.dtype = DSL_FLOAT32;
  tensors[0].shape[0] = tensors[2].shape[0] = 1;
  printf("host_ns: %.1f\n", measure(rms_norm, args));
  pega_error_clear(&error);
  pega_function_release(rms_norm);
  pega_artifact_release(artifact);
  return 0;
}
