/* SPDX-License-Identifier: Apache-2.0 */
#include "values.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cuda/device.h"

/* --- from wherever they are --- */

/* Values of a device come through a buffer of this many bytes at a time: a multiple of a row of
 * 128 in either type. */
enum { kBuffer = 1 << 20 };

/* Looks at some values, of which the first has this index; the status of what is wrong with them. */
typedef pega_status (*look)(void *self, const void *values, int64_t first, int64_t count,
                            pega_error *error);

static pega_status synchronize(const pega_cuda_driver *driver, const pega_gdr_memory *in,
                               pega_cuda_device *device, pega_error *error) {
  if (pega_cuda_records(driver)) {
    return pega_cuda_refuse_recording(in->function, "'check' reads values: leave it out", error);
  }
  void *stream;
  pega_status status = pega_stream_get((DLDevice){kDLCUDA, in->device}, &stream, error);
  if (status != PEGA_OK) return status;
  int capturing = kCaptureStatusNone;
  CUresult result = driver->cuStreamIsCapturing(stream, &capturing);
  if (result == kCudaErrorStreamCaptureImplicit ||
      (result == kCudaSuccess && capturing != kCaptureStatusNone)) {
    pega_error_set(
        error, PEGA_ERROR_UNAVAILABLE, NULL,
        "%s: nothing was launched: 'check' reads values, which is not possible while the "
        "stream is being captured (the capture is still valid)",
        in->function);
    if (error != NULL) error->code = kCudaErrorStreamCaptureUnsupported;
    return PEGA_ERROR_UNAVAILABLE;
  }
  if (result == kCudaSuccess) result = driver->cuCtxSynchronize();
  if (result == kCudaSuccess) return PEGA_OK;
  pega_cuda_note_result(device, result, in->function);
  return pega_cuda_fail(in->function, "cuCtxSynchronize", result, "nothing was launched", error);
}

static pega_status scan_device(const pega_cuda_driver *driver, const pega_gdr_memory *in,
                               pega_cuda_device *device, const void *values, int64_t element,
                               int64_t count, look see, void *self, pega_error *error) {
  pega_status status = synchronize(driver, in, device, error);
  if (status != PEGA_OK) return status;
  void *buffer = malloc(kBuffer);
  if (buffer == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "%s: no memory to check values",
                          in->function);
  }
  const int64_t step = kBuffer / element;
  for (int64_t first = 0; first < count && status == PEGA_OK; first += step) {
    const int64_t some = count - first < step ? count - first : step;
    const CUdeviceptr at = (CUdeviceptr)(uintptr_t)values + (CUdeviceptr)(first * element);
    CUresult result = driver->cuMemcpyDtoH(buffer, at, (size_t)(some * element));
    if (result != kCudaSuccess) {
      pega_cuda_note_result(device, result, in->function);
      status = pega_cuda_fail(in->function, "cuMemcpyDtoH", result, "nothing was launched", error);
    } else {
      status = see(self, buffer, first, some, error);
    }
  }
  free(buffer);
  return status;
}

static pega_status scan(const pega_gdr_memory *in, const void *values, int64_t element,
                        int64_t count, look see, void *self, pega_error *error) {
  if (count == 0) return PEGA_OK;
  if (in->place == kPlaceCpu) return see(self, values, 0, count, error);
  const pega_cuda_driver *driver;
  pega_cuda_device *device;
  pega_cuda_guard guard;
  pega_status status =
      pega_cuda_enter_device(in->function, in->device, &driver, &device, &guard, error);
  if (status != PEGA_OK) return status;
  status = scan_device(driver, in, device, values, element, count, see, self, error);
  return pega_cuda_leave(driver, in->function, &guard, status, error);
}

/* --- what is looked at --- */

typedef struct numbers {
  const char *function;
  const char *name;
  int64_t columns; /* heads */
  int64_t first_row;
} numbers;

static float widen(uint16_t bits) {
  const uint32_t wide = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &wide, sizeof value);
  return value;
}

static float single(const void *values, int64_t index) {
  float value;
  memcpy(&value, (const char *)values + index * 4, sizeof value);
  return value;
}

static pega_status see_gates(void *self, const void *values, int64_t first, int64_t count,
                             pega_error *error) {
  const numbers *of = self;
  for (int64_t i = 0; i < count; ++i) {
    const float g = single(values, i);
    if (g <= 0) continue;
    return pega_error_set(
        error, PEGA_ERROR_RANGE, NULL,
        "%s: g[%" PRId64 ", %" PRId64 "] is %g: expected a log gate, <= 0%s", of->function,
        of->first_row + (first + i) / of->columns, (first + i) % of->columns, (double)g,
        g > 0 && g <= 1
            ? "; if these are linear gates (alpha = exp(g), as FlashInfer has them), give "
              "their logarithms"
            : "");
  }
  return PEGA_OK;
}

static pega_status see_betas(void *self, const void *values, int64_t first, int64_t count,
                             pega_error *error) {
  const numbers *of = self;
  for (int64_t i = 0; i < count; ++i) {
    const float beta = single(values, i);
    if (beta >= 0 && beta <= 1) continue;
    return pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                          "%s: beta[%" PRId64 ", %" PRId64
                          "] is %g: expected 0 to 1; were they meant to go through a sigmoid?",
                          of->function, of->first_row + (first + i) / of->columns,
                          (first + i) % of->columns, (double)beta);
  }
  return PEGA_OK;
}

static pega_status see_norms(void *self, const void *values, int64_t first, int64_t count,
                             pega_error *error) {
  const numbers *of = self;
  const uint16_t *elements = values;
  for (int64_t row = 0; row < count / kGdrHeadSize; ++row) {
    double squares = 0;
    for (int i = 0; i < kGdrHeadSize; ++i) {
      const double x = (double)widen(elements[row * kGdrHeadSize + i]);
      squares += x * x;
    }
    /* bf16 rounds each element by up to 2^-9 of itself; a row of zeros stays one. */
    if ((squares >= 0.98 && squares <= 1.02) || squares == 0) continue;
    const int64_t index = first / kGdrHeadSize + row;
    return pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                          "%s: row [%" PRId64 ", %" PRId64
                          "] of '%s' has length %g: expected rows of length 1, or normalize = True",
                          of->function, of->first_row + index / of->columns, index % of->columns,
                          of->name, sqrt(squares));
  }
  return PEGA_OK;
}

static pega_status fail_finite(const numbers *of, int64_t index, float value, pega_error *error) {
  char row[48] = "";
  if (of->first_row > 0) snprintf(row, sizeof row, " from row %" PRId64 " on", of->first_row);
  return pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                        "%s: element %" PRId64 " of '%s'%s is %g: expected finite numbers",
                        of->function, index, of->name, row, (double)value);
}

static pega_status see_finite16(void *self, const void *values, int64_t first, int64_t count,
                                pega_error *error) {
  const uint16_t *bits = values;
  for (int64_t i = 0; i < count; ++i) {
    if ((bits[i] & 0x7f80) == 0x7f80) return fail_finite(self, first + i, widen(bits[i]), error);
  }
  return PEGA_OK;
}

static pega_status see_finite32(void *self, const void *values, int64_t first, int64_t count,
                                pega_error *error) {
  for (int64_t i = 0; i < count; ++i) {
    const float value = single(values, i);
    if (!isfinite(value)) return fail_finite(self, first + i, value, error);
  }
  return PEGA_OK;
}

pega_status pega_gdr_check_gates(const pega_gdr_memory *in, const float *g, int64_t rows,
                                 int64_t num_value_heads, pega_error *error) {
  numbers of = {in->function, "g", num_value_heads, in->first_row};
  return scan(in, g, 4, rows * num_value_heads, see_gates, &of, error);
}

pega_status pega_gdr_check_betas(const pega_gdr_memory *in, const float *beta, int64_t rows,
                                 int64_t num_value_heads, pega_error *error) {
  numbers of = {in->function, "beta", num_value_heads, in->first_row};
  return scan(in, beta, 4, rows * num_value_heads, see_betas, &of, error);
}

pega_status pega_gdr_check_norms(const pega_gdr_memory *in, const char *name,
                                 const uint16_t *values, int64_t rows, int64_t num_heads,
                                 pega_error *error) {
  numbers of = {in->function, name, num_heads, in->first_row};
  return scan(in, values, 2, rows * num_heads * kGdrHeadSize, see_norms, &of, error);
}

pega_status pega_gdr_check_finite(const pega_gdr_memory *in, const char *name, const void *values,
                                  int bits, int64_t count, pega_error *error) {
  numbers of = {in->function, name, count, in->first_row};
  return scan(in, values, bits / 8, count, bits == 16 ? see_finite16 : see_finite32, &of, error);
}

/* --- indices --- */

int64_t pega_gdr_index(const void *values, int bits, int64_t index) {
  if (bits == 32) {
    int32_t value;
    memcpy(&value, (const char *)values + index * 4, sizeof value);
    return value;
  }
  int64_t value;
  memcpy(&value, (const char *)values + index * 8, sizeof value);
  return value;
}

typedef struct lengths {
  const char *function;
  int bits;
  int64_t num_sequences, num_tokens;
  int64_t before; /* the one before those that are looked at */
} lengths;

static pega_status see_seqlens(void *self, const void *values, int64_t first, int64_t count,
                               pega_error *error) {
  lengths *of = self;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t value = pega_gdr_index(values, of->bits, i);
    const int64_t index = first + i;
    const bool last = index == of->num_sequences;
    if (value < of->before || (index == 0 && value != 0) || (last && value != of->num_tokens) ||
        value > of->num_tokens) {
      return pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                            "%s: cu_seqlens[%" PRId64 "] is %" PRId64
                            ": expected the first to be 0, none below the one before (%" PRId64
                            "), and the last to be T = %" PRId64,
                            of->function, index, value, of->before, of->num_tokens);
    }
    of->before = value;
  }
  return PEGA_OK;
}

pega_status pega_gdr_check_seqlens(const pega_gdr_memory *in, const void *values, int bits,
                                   int64_t num_sequences, int64_t num_tokens, pega_error *error) {
  lengths of = {in->function, bits, num_sequences, num_tokens, 0};
  return scan(in, values, bits / 8, num_sequences + 1, see_seqlens, &of, error);
}

typedef struct slots {
  const char *function;
  int bits;
  int64_t num_slots;
  unsigned char *seen; /* a bit a slot */
  int64_t *out;        /* or NULL */
} slots;

static pega_status see_slots(void *self, const void *values, int64_t first, int64_t count,
                             pega_error *error) {
  slots *of = self;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t slot = pega_gdr_index(values, of->bits, i);
    if (of->out != NULL) of->out[first + i] = slot;
    if (slot < 0) continue;
    if (slot >= of->num_slots) {
      return pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                            "%s: slots[%" PRId64 "] is %" PRId64 ": expected less than %" PRId64
                            ", the number of states, or a negative one for padding",
                            of->function, first + i, slot, of->num_slots);
    }
    unsigned char *byte = &of->seen[slot / 8];
    const unsigned bit = 1u << (slot % 8);
    if ((*byte & bit) != 0) {
      return pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                            "%s: slots[%" PRId64 "] is %" PRId64
                            ", which is there before: expected each state once",
                            of->function, first + i, slot);
    }
    *byte = (unsigned char)(*byte | bit);
  }
  return PEGA_OK;
}

pega_status pega_gdr_check_slots(const pega_gdr_memory *in, const void *values, int bits,
                                 int64_t batch_size, int64_t num_slots, int64_t *out,
                                 pega_error *error) {
  unsigned char few[512] = {0};
  slots of = {in->function, bits, num_slots, few, out};
  const size_t bytes = (size_t)(num_slots / 8 + 1);
  if (bytes > sizeof few) {
    of.seen = calloc(bytes, 1);
    if (of.seen == NULL) {
      return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "%s: no memory to check slots",
                            in->function);
    }
  }
  pega_status status = scan(in, values, bits / 8, batch_size, see_slots, &of, error);
  if (of.seen != few) free(of.seen);
  return status;
}
