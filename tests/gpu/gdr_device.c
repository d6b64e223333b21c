/* SPDX-License-Identifier: Apache-2.0 */
#include "gdr_device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kMargin = 1024, kMarginByte = 0xa5, kPoisonByte = 0xff };

bool gdr_device_exact;

static CUdeviceptr address_of(gdr_buffer buffer) { return (CUdeviceptr)(uintptr_t)buffer.data; }

static int64_t margin(void) { return gdr_device_exact ? 0 : kMargin; }

static gdr_buffer allocate(int64_t bytes) {
  CUdeviceptr memory;
  const size_t all = (size_t)(bytes + 2 * margin());
  GPU_OK(gpu.alloc(&memory, all == 0 ? 16 : all));
  if (margin() > 0) GPU_OK(gpu.set_bytes(memory, kMarginByte, all));
  return (gdr_buffer){(void *)(uintptr_t)(memory + (CUdeviceptr)margin()), bytes};
}

void gdr_device_poison(gdr_buffer buffer) {
  if (buffer.bytes == 0) return;
  GPU_OK(gpu.set_bytes(address_of(buffer), kPoisonByte, (size_t)buffer.bytes));
  GPU_OK(gpu.synchronize());
}

void gdr_device_write(gdr_buffer buffer, const void *from) {
  if (buffer.bytes == 0) return;
  GPU_OK(gpu.copy_in(address_of(buffer), from, (size_t)buffer.bytes));
  GPU_OK(gpu.synchronize());
}

static gdr_buffer create(int64_t bytes, const void *from) {
  const gdr_buffer buffer = allocate(bytes);
  if (from == NULL) {
    gdr_device_poison(buffer);
  } else {
    gdr_device_write(buffer, from);
  }
  return buffer;
}

/* NaN in whatever type. A kernel's tensor maps are written there by an instruction that the initcheck tool
 * does not see as a write: what is read before it was written has to show in the results instead. */
static gdr_buffer create_workspace(int64_t bytes) {
  const gdr_buffer buffer = allocate(bytes);
  gdr_device_poison(buffer);
  return buffer;
}

static void read(gdr_buffer buffer, void *out) {
  if (buffer.bytes == 0) return;
  GPU_OK(gpu.copy_out(out, address_of(buffer), (size_t)buffer.bytes));
}

static bool all_are(CUdeviceptr memory, int64_t bytes, unsigned char value) {
  unsigned char *copy = gdr_allocate(bytes, 1);
  if (bytes > 0) GPU_OK(gpu.copy_out(copy, memory, (size_t)bytes));
  bool same = true;
  for (int64_t i = 0; i < bytes; ++i) same = same && copy[i] == value;
  free(copy);
  return same;
}

static bool intact(gdr_buffer buffer) {
  return all_are(address_of(buffer) - (CUdeviceptr)margin(), margin(), kMarginByte) &&
         all_are(address_of(buffer) + (CUdeviceptr)buffer.bytes, margin(), kMarginByte);
}

bool gdr_device_untouched(gdr_buffer buffer) {
  return all_are(address_of(buffer), buffer.bytes, kPoisonByte);
}

static void destroy(gdr_buffer buffer) {
  GPU_OK(gpu.release(address_of(buffer) - (CUdeviceptr)margin()));
}

/* The same on the CPU. A GPU's implementation and workspace are none of its own. */
static pega_status rehearse(const gdr_args *args, pega_error *error) {
  gdr_args copy = *args;
  for (int i = 0; i < copy.count; ++i) {
    if (copy.values[i].kind == PEGA_TENSOR) {
      copy.tensors[i].device = CPU;
      copy.tensors[i].shape = copy.shapes[i];
      copy.values[i] = pega_value_tensor(&copy.tensors[i]);
    }
  }
  const bool plain = strcmp(copy.name, PEGA_QWEN35_PREFILL) == 0;
  if (plain || strcmp(copy.name, PEGA_QWEN35_PREFILL_PROJECTED) == 0) {
    const int choice = plain ? PREFILL_IMPLEMENTATION : PROJECTED_IMPLEMENTATION;
    copy.values[choice] = copy.values[choice + 1] = pega_value_none();
  }
  return gdr_run(&copy, error);
}

pega_status gdr_device_call(gdr_args *args, CUstream stream, pega_error *error) {
  void *previous;
  pega_status status = pega_stream_set(CUDA0, stream, &previous, error);
  if (status != PEGA_OK) return status;
  status = gdr_run(args, error);
  const pega_status restored =
      pega_stream_set(CUDA0, previous, NULL, status == PEGA_OK ? error : NULL);
  if (status == PEGA_OK && gpu.fake) status = rehearse(args, error);
  return status == PEGA_OK ? restored : status;
}

static pega_status run(gdr_args *args, pega_error *error) {
  const pega_status status = gdr_device_call(args, NULL, error);
  GPU_OK(gpu.synchronize());
  return status;
}

const gdr_place gdr_device_place = {.device = {kDLCUDA, 0},
                                    .create = create,
                                    .create_workspace = create_workspace,
                                    .read = read,
                                    .intact = intact,
                                    .destroy = destroy,
                                    .run = run};

/* Scratch memory that begins as bytes of 0xff, as a workspace does. */
static pega_status allocate_filled(void *self, DLDevice where, size_t size, size_t alignment,
                                   void *stream, void **out, pega_error *error) {
  (void)self;
  (void)where;
  (void)alignment;
  (void)stream;
  (void)error;
  CUdeviceptr memory;
  GPU_OK(gpu.alloc(&memory, size));
  GPU_OK(gpu.set_bytes(memory, 0xff, size));
  *out = (void *)(uintptr_t)memory;
  return PEGA_OK;
}

static void release_filled(void *self, DLDevice where, void *memory, void *stream) {
  (void)self;
  (void)where;
  (void)stream;
  GPU_OK(gpu.synchronize());
  GPU_OK(gpu.release((CUdeviceptr)(uintptr_t)memory));
}

int gdr_device_begin(const char *function) {
  static const pega_cuda_allocator filled = {sizeof filled, 0, allocate_filled, release_filled,
                                             NULL};
  gdr_device_exact = getenv("PEGA_TEST_BRIEF") != NULL;
  const int status = fixture_begin_with(function);
  if (status == 0 && gdr_device_exact) {
    pega_error error = PEGA_ERROR_INIT;
    EXPECT_OK(pega_cuda_set_allocator(&filled, &error), &error);
  }
  return status;
}

gdr_setting gdr_device_setting(const char *const *implementations, int num_implementations) {
  return (gdr_setting){.place = &gdr_device_place,
                       .implementations = implementations,
                       .num_implementations = num_implementations,
                       .output_limit = 3.8e-3,
                       .state_limit = 3.0e-3,
                       /* Three factors in bf16: 3 x 2^-9. */
                       .at_edges = 2,
                       .for_equal_keys = 7,
                       .brief = gdr_device_exact || gpu.fake};
}
