/* SPDX-License-Identifier: Apache-2.0 */
#include "tensor.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

/* How many elements cli_tensor_print() shows. */
enum { SHOWN_ELEMENTS = 8 };

pega_status cli_tensor_bytes(DLDataType dtype, int32_t ndim, const int64_t *shape, uint64_t *out,
                             pega_error *error) {
  if (ndim < 0 || ndim > PEGA_MAX_RANK) {
    return pega_error_set(error, PEGA_ERROR_SHAPE, NULL, "rank %" PRId32 ": at most %d is possible",
                          ndim, PEGA_MAX_RANK);
  }
  const int64_t bits = (int64_t)dtype.bits * dtype.lanes;
  int64_t bytes = (bits + 7) / 8;
  bool empty = false;
  for (int32_t i = 0; i < ndim; ++i) {
    if (shape[i] < 0) {
      return pega_error_set(error, PEGA_ERROR_SHAPE, NULL,
                            "size of dimension %" PRId32 ": expected 0 or more, got %" PRId64, i,
                            shape[i]);
    }
    if (shape[i] == 0) {
      empty = true;
    } else if (__builtin_mul_overflow(bytes, shape[i], &bytes)) {
      return pega_error_set(error, PEGA_ERROR_SHAPE, NULL,
                            "the sizes up to dimension %" PRId32 " take more than 2^63 - 1 bytes",
                            i);
    }
  }
  *out = empty ? 0 : (uint64_t)bytes;
  return PEGA_OK;
}

static uint64_t physical_memory(void) {
  const long pages = sysconf(_SC_PHYS_PAGES);
  const long page = sysconf(_SC_PAGESIZE);
  return pages <= 0 || page <= 0 ? UINT64_MAX : (uint64_t)pages * (uint64_t)page;
}

pega_status cli_tensor_create(DLDataType dtype, int32_t ndim, const int64_t *shape, cli_tensor *out,
                              pega_error *error) {
  uint64_t bytes = 0;
  const pega_status status = cli_tensor_bytes(dtype, ndim, shape, &bytes, error);
  if (status != PEGA_OK) return status;
  const uint64_t memory = physical_memory();
  if (bytes > memory) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL,
                          "a tensor of %" PRIu64 " bytes: this machine has %" PRIu64, bytes,
                          memory);
  }
  /* A whole number of alignments, as aligned_alloc() asks for; never none. */
  const size_t room = ((size_t)bytes / CLI_TENSOR_ALIGNMENT + 1) * CLI_TENSOR_ALIGNMENT;
  void *data = aligned_alloc(CLI_TENSOR_ALIGNMENT, room);
  if (data == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "a tensor of %" PRIu64 " bytes",
                          bytes);
  }
  memset(data, 0, room);
  memset(out, 0, sizeof *out);
  if (ndim > 0) memcpy(out->shape, shape, (size_t)ndim * sizeof *shape);
  out->view.data = data;
  out->view.device.device_type = kDLCPU;
  out->view.ndim = ndim;
  out->view.dtype = dtype;
  out->view.shape = out->shape;
  return PEGA_OK;
}

void cli_tensor_clear(cli_tensor *tensor) {
  free(tensor->view.data);
  tensor->view.data = NULL;
}

static pega_status parse_shape(const char *text, int32_t *ndim, int64_t *shape, pega_error *error) {
  const char *at = text;
  *ndim = 0;
  while (*at != ']') {
    char *end = NULL;
    errno = 0;
    const bool digit = *at >= '0' && *at <= '9';
    const long long size = digit ? strtoll(at, &end, 10) : 0;
    if (!digit || errno != 0 || (*end != ',' && *end != ']')) break;
    if (*ndim == PEGA_MAX_RANK) {
      return pega_error_set(error, PEGA_ERROR_SHAPE, NULL, "a tensor has at most %d dimensions",
                            PEGA_MAX_RANK);
    }
    shape[(*ndim)++] = size;
    at = *end == ',' ? end + 1 : end;
    if (*end == ',' && *at == ']') break;
  }
  if (at[0] == ']' && at[1] == '\0' && at[-1] != ',') return PEGA_OK;
  return pega_error_set(error, PEGA_ERROR_SHAPE, NULL,
                        "expected sizes like [128,2,64], got \"[%.100s\"", text);
}

pega_status cli_tensor_parse_zeros(const char *text, cli_tensor *out, pega_error *error) {
  char name[PEGA_NAME_SIZE];
  DLDataType dtype;
  int32_t ndim = 0;
  int64_t shape[PEGA_MAX_RANK];
  const char *bracket = strchr(text, '[');
  if (bracket == NULL || (size_t)(bracket - text) >= sizeof name) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "expected an element type and sizes, like bfloat16[128,2,64], got "
                          "\"%.100s\"",
                          text);
  }
  memcpy(name, text, (size_t)(bracket - text));
  name[bracket - text] = '\0';
  pega_status status = pega_dtype_parse(name, &dtype, error);
  if (status == PEGA_OK) status = parse_shape(bracket + 1, &ndim, shape, error);
  if (status == PEGA_OK) status = cli_tensor_create(dtype, ndim, shape, out, error);
  return status;
}

static bool is_cpu_readable(DLDevice device) {
  return device.device_type == kDLCPU || device.device_type == kDLCUDAHost ||
         device.device_type == kDLROCMHost;
}

pega_status cli_tensor_copy(const DLTensor *tensor, cli_tensor *out, pega_error *error) {
  char name[PEGA_NAME_SIZE];
  pega_status status = pega_tensor_validate(tensor, error);
  if (status != PEGA_OK) return status;
  if (!is_cpu_readable(tensor->device)) {
    return pega_error_set(error, PEGA_ERROR_DEVICE, NULL,
                          "expected memory that the CPU can read, got a tensor on %s",
                          pega_device_name(tensor->device, name));
  }
  status = cli_tensor_create(tensor->dtype, tensor->ndim, tensor->shape, out, error);
  if (status != PEGA_OK) return status;
  const int64_t count = pega_tensor_num_elements(tensor);
  const char *source = pega_tensor_data(tensor);
  char *target = out->view.data;
  if (count == 0) return PEGA_OK;
  if (pega_tensor_is_contiguous(tensor)) {
    memcpy(target, source, (size_t)pega_tensor_num_bytes(tensor));
    return PEGA_OK;
  }
  const size_t bits = (size_t)tensor->dtype.bits * tensor->dtype.lanes;
  if (bits % 8 != 0) {
    cli_tensor_clear(out);
    return pega_error_set(error, PEGA_ERROR_UNSUPPORTED, NULL,
                          "a tensor of %s with strides: elements are no whole bytes",
                          pega_dtype_name(tensor->dtype, name));
  }
  const size_t size = bits / 8;
  int64_t index[PEGA_MAX_RANK] = {0};
  int64_t offset = 0; /* of the element at `index`, in elements */
  for (int64_t i = 0; i < count; ++i) {
    memcpy(target + (size_t)i * size, source + offset * (int64_t)size, size);
    for (int32_t axis = tensor->ndim - 1; axis >= 0; --axis) {
      offset += tensor->strides[axis];
      if (++index[axis] < tensor->shape[axis]) break;
      offset -= tensor->strides[axis] * tensor->shape[axis];
      index[axis] = 0;
    }
  }
  return PEGA_OK;
}

/* A float of `exponent` and `mantissa` bits and a sign. Formats without infinities ("fn") give the
 * codes of infinity to numbers, all but the one that is NaN. */
static double decode_float(uint32_t bits, int exponent_bits, int mantissa_bits, bool infinities) {
  const uint32_t mantissa = bits & ((1U << mantissa_bits) - 1);
  const uint32_t greatest = (1U << exponent_bits) - 1;
  const uint32_t exponent = (bits >> mantissa_bits) & greatest;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const double sign = (bits >> (mantissa_bits + exponent_bits)) != 0 ? -1.0 : 1.0;
  if (exponent == greatest) {
    if (infinities) return mantissa == 0 ? sign * (double)INFINITY : (double)NAN;
    if (mantissa == (1U << mantissa_bits) - 1) return (double)NAN;
  }
  const uint32_t implied = exponent == 0 ? 0 : 1U << mantissa_bits;
  const int power = (exponent == 0 ? 1 : (int)exponent) - bias - mantissa_bits;
  return sign * ldexp((double)(mantissa + implied), power);
}

/* Prints one element; false for a type whose elements have no text here. */
static bool print_element(FILE *stream, DLDataType dtype, const char *at) {
  uint64_t bits = 0;
  if (dtype.lanes != 1 || dtype.bits % 8 != 0 || dtype.bits > 64 || dtype.bits == 0) return false;
  switch (dtype.bits) {
    case 8:
      bits = (unsigned char)*at;
      break;
    case 16: {
      uint16_t half = 0;
      memcpy(&half, at, sizeof half);
      bits = half;
      break;
    }
    case 32: {
      uint32_t word = 0;
      memcpy(&word, at, sizeof word);
      bits = word;
      break;
    }
    case 64:
      memcpy(&bits, at, sizeof bits);
      break;
    default:
      return false;
  }
  double number = 0;
  switch (dtype.code) {
    case kDLInt: {
      const uint64_t sign = UINT64_C(1) << (dtype.bits - 1);
      (void)fprintf(stream, "%" PRId64, (int64_t)((bits ^ sign) - sign));
      return true;
    }
    case kDLUInt:
      (void)fprintf(stream, "%" PRIu64, bits);
      return true;
    case kDLBool:
      (void)fputs(bits != 0 ? "true" : "false", stream);
      return true;
    case kDLFloat:
      if (dtype.bits == 8) return false;
      if (dtype.bits == 16) number = decode_float((uint32_t)bits, 5, 10, true);
      if (dtype.bits == 32) number = decode_float((uint32_t)bits, 8, 23, true);
      if (dtype.bits == 64) memcpy(&number, &bits, sizeof number);
      break;
    case kDLBfloat:
      if (dtype.bits != 16) return false;
      number = decode_float((uint32_t)bits, 8, 7, true);
      break;
    case kDLFloat8_e4m3fn:
      number = decode_float((uint32_t)bits, 4, 3, false);
      break;
    case kDLFloat8_e5m2:
      number = decode_float((uint32_t)bits, 5, 2, true);
      break;
    default:
      return false;
  }
  (void)fprintf(stream, "%.7g", number);
  return true;
}

void cli_tensor_print(FILE *stream, const DLTensor *tensor) {
  char dtype[PEGA_NAME_SIZE];
  char device[PEGA_NAME_SIZE];
  (void)fprintf(stream, "%s[", pega_dtype_name(tensor->dtype, dtype));
  for (int32_t i = 0; i < tensor->ndim; ++i) {
    (void)fprintf(stream, "%s%" PRId64, i == 0 ? "" : ", ", tensor->shape[i]);
  }
  (void)fprintf(stream, "] on %s", pega_device_name(tensor->device, device));
  if (!is_cpu_readable(tensor->device) || !pega_tensor_is_contiguous(tensor)) return;
  const int64_t count = pega_tensor_num_elements(tensor);
  const char *data = pega_tensor_data(tensor);
  const size_t size = (size_t)tensor->dtype.bits / 8;
  for (int64_t i = 0; i < count && i < SHOWN_ELEMENTS; ++i) {
    if (i == 0) (void)fputs(": ", stream);
    if (i != 0) (void)fputs(", ", stream);
    if (!print_element(stream, tensor->dtype, data + (size_t)i * size)) {
      (void)fputs("(not shown)", stream);
      return;
    }
  }
  if (count > SHOWN_ELEMENTS) (void)fputs(", ...", stream);
}
