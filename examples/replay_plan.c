/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bind a call's arguments once, then launch it for every layer on that layer's memory.
 *
 * One token is decoded through a few layers, all of the same sizes: each has its own projections,
 * states and output. Needs a GPU and a kernel pack, in libpega or named by PEGA_PACK_PATH.
 */
#include <pega/cuda.h>
#include <pega/qwen35.h>
#include <stdio.h>
#include <stdlib.h>

#include "demo_device.h"

enum {
  LAYERS = 4,
  KEY_HEADS = 2,
  VALUE_HEADS = 4,
  POINTERS = 7,
  QKV = (2 * KEY_HEADS + VALUE_HEADS) * 128
};

/* The arguments of the decode step that are memory, in their order. */
static int64_t shapes[POINTERS][4] = {
    {1, QKV},      {1, VALUE_HEADS},           {1, VALUE_HEADS},     {VALUE_HEADS},
    {VALUE_HEADS}, {1, VALUE_HEADS, 128, 128}, {1, VALUE_HEADS, 128}};
static const int32_t ranks[POINTERS] = {2, 2, 2, 1, 1, 4, 3};
static const int bits[POINTERS] = {16, 16, 16, 16, 32, 32, 16};

static size_t bytes_of(int which) {
  size_t bytes = (size_t)bits[which] / 8;
  for (int32_t i = 0; i < ranks[which]; ++i) bytes *= (size_t)shapes[which][i];
  return bytes;
}

/* Binds everything but the addresses, on those of the first layer. */
static pega_status make_plan(void *const *first, pega_plan **plan, pega_error *error) {
  DLTensor tensors[POINTERS];
  for (int i = 0; i < POINTERS; ++i) {
    tensors[i] = (DLTensor){.data = first[i],
                            .device = {kDLCUDA, 0},
                            .ndim = ranks[i],
                            .dtype = {bits[i] == 16 ? kDLBfloat : kDLFloat, (uint8_t)bits[i], 1},
                            .shape = shapes[i]};
  }
  /* qkv, b, a, dt_bias, a_log, states, slots, scale, output */
  const pega_value args[] = {pega_value_tensor(&tensors[0]),
                             pega_value_tensor(&tensors[1]),
                             pega_value_tensor(&tensors[2]),
                             pega_value_tensor(&tensors[3]),
                             pega_value_tensor(&tensors[4]),
                             pega_value_tensor(&tensors[5]),
                             pega_value_none(),
                             pega_value_none(),
                             pega_value_tensor(&tensors[6])};
  pega_function *decode = NULL;
  pega_status status = pega_registry_get(PEGA_QWEN35_DECODE_PROJECTED, &decode, error);
  if (status == PEGA_OK) status = pega_plan_create(decode, args, 9, plan, error);
  pega_function_release(decode); /* the plan holds it */
  return status;
}

int main(void) {
  struct demo_device gpu;
  if (!demo_gpu(&gpu)) {
    printf("SKIP: no GPU: nothing to launch on\n");
    return 77;
  }
  void *memory[LAYERS][POINTERS]; /* the driver aligns it to 256 bytes */
  for (int layer = 0; layer < LAYERS; ++layer) {
    for (int i = 0; i < POINTERS; ++i) {
      void *zeros = calloc(1, bytes_of(i));
      memory[layer][i] = demo_device_copy(&gpu, zeros, bytes_of(i));
      free(zeros);
    }
  }

  pega_error error = PEGA_ERROR_INIT;
  pega_plan *plan = NULL;
  pega_status status = make_plan(memory[0], &plan, &error);
  if (status == PEGA_OK) {
    printf("a plan of %d launch, of %d pointers\n", (int)pega_plan_num_launches(plan),
           (int)pega_plan_num_pointers(plan));
    for (int32_t i = 0; i < pega_plan_num_pointers(plan); ++i) {
      printf("  pointer %d: argument %d, aligned to %zu bytes\n", (int)i,
             (int)pega_plan_pointer_argument(plan, i), pega_plan_pointer_alignment(plan, i));
    }
  }
  /* Every token from here on: no argument is looked at again. */
  for (int layer = 0; layer < LAYERS && status == PEGA_OK; ++layer) {
    status = pega_plan_call(plan, memory[layer], NULL, &error);
    if (status == PEGA_OK) printf("layer %d is launched\n", layer);
  }
  if (status == PEGA_OK && gpu.synchronize() != 0) printf("the device failed\n");
  if (status != PEGA_OK) {
    printf("%s%s\n", status == PEGA_ERROR_UNSUPPORTED ? "SKIP: " : "", pega_error_message(&error));
  }

  pega_plan_release(plan);
  pega_error_clear(&error);
  for (int layer = 0; layer < LAYERS; ++layer) {
    for (int i = 0; i < POINTERS; ++i) demo_device_free(&gpu, memory[layer][i]);
  }
  return status == PEGA_OK ? 0 : status == PEGA_ERROR_UNSUPPORTED ? 77 : 1;
}
