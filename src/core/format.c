/* SPDX-License-Identifier: Apache-2.0 */
/* Values, element types and devices as text, and back. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "object.h"
#include "text.h"

/* One list for both directions. `bits` is 0 where the number of bits follows the word. */
static const struct dtype_name {
  const char *word;
  uint8_t code;
  uint8_t bits;
} dtype_names[] = {
    {"int", kDLInt, 0},           {"uint", kDLUInt, 0},       {"float", kDLFloat, 0},
    {"bfloat", kDLBfloat, 0},     {"complex", kDLComplex, 0}, {"handle", kDLOpaqueHandle, 64},
    {"bool", kDLBool, 8},         {"float8_e3m4", 7, 8},      {"float8_e4m3", 8, 8},
    {"float8_e4m3b11fnuz", 9, 8}, {"float8_e4m3fn", 10, 8},   {"float8_e4m3fnuz", 11, 8},
    {"float8_e5m2", 12, 8},       {"float8_e5m2fnuz", 13, 8}, {"float8_e8m0fnu", 14, 8},
    {"float6_e2m3fn", 15, 6},     {"float6_e3m2fn", 16, 6},   {"float4_e2m1fn", 17, 4},
};
enum { kNumDtypeNames = sizeof dtype_names / sizeof *dtype_names };

const char *pega_dtype_name(DLDataType dtype, char buffer[PEGA_NAME_SIZE]) {
  pega_text text = {buffer, PEGA_NAME_SIZE, 0};
  const struct dtype_name *found = NULL;
  for (int i = 0; i < kNumDtypeNames; ++i) {
    if (dtype_names[i].code == dtype.code) found = &dtype_names[i];
  }
  if (found == NULL) {
    pega_text_printf(&text, "code%u_%u", dtype.code, dtype.bits);
  } else if (found->bits == 0) {
    pega_text_printf(&text, "%s%u", found->word, dtype.bits);
  } else if (found->bits == dtype.bits) {
    pega_text_printf(&text, "%s", found->word);
  } else {
    pega_text_printf(&text, "%s_%ubit", found->word, dtype.bits);
  }
  if (dtype.lanes != 1) pega_text_printf(&text, "x%u", dtype.lanes);
  return buffer;
}

/* Reads a decimal number of at most `most` at *at and moves past it. */
static bool read_number(const char **at, unsigned long most, unsigned long *out) {
  if (**at < '0' || **at > '9') return false;
  unsigned long number = 0;
  for (; **at >= '0' && **at <= '9'; ++*at) {
    number = number * 10 + (unsigned long)(**at - '0');
    if (number > most) return false;
  }
  *out = number;
  return true;
}

pega_status pega_dtype_parse(const char *name, DLDataType *out, pega_error *error) {
  char shown[96];
  if (name == NULL || out == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL, "pega_dtype_parse: %s is NULL",
                          name == NULL ? "name" : "out");
  }
  for (int i = 0; i < kNumDtypeNames; ++i) {
    const struct dtype_name *entry = &dtype_names[i];
    size_t size = strlen(entry->word);
    if (strncmp(name, entry->word, size) != 0) continue;
    const char *at = name + size;
    unsigned long bits = entry->bits;
    unsigned long lanes = 1;
    if (entry->bits == 0 && (!read_number(&at, UINT8_MAX, &bits) || bits == 0)) continue;
    if (*at == 'x') {
      ++at;
      if (!read_number(&at, UINT16_MAX, &lanes) || lanes == 0) continue;
    }
    const DLDataType dtype = {entry->code, (uint8_t)bits, (uint16_t)lanes};
    if (*at != '\0' || !pega_dtype_is_known(dtype)) continue;
    *out = dtype;
    return PEGA_OK;
  }
  return pega_error_set(error, PEGA_ERROR_DTYPE, NULL,
                        "unknown element type '%s': expected a name such as float32, bfloat16, "
                        "int64, uint8, bool, float8_e4m3fn or int8x4",
                        pega_text_short_name(name, shown));
}

/* Numbers as DLPack pins them: an older <dlpack/dlpack.h> lacks the later names. */
static const struct device_name {
  const char *word;
  int32_t type;
} device_names[] = {
    {"cpu", 1},        {"cuda", 2},     {"cuda_host", 3},     {"opencl", 4},
    {"vulkan", 7},     {"metal", 8},    {"vpi", 9},           {"rocm", 10},
    {"rocm_host", 11}, {"ext_dev", 12}, {"cuda_managed", 13}, {"oneapi", 14},
    {"webgpu", 15},    {"hexagon", 16}, {"maia", 17},         {"trn", 18},
};
enum { kNumDeviceNames = sizeof device_names / sizeof *device_names };

const char *pega_device_name(DLDevice device, char buffer[PEGA_NAME_SIZE]) {
  for (int i = 0; i < kNumDeviceNames; ++i) {
    if (device_names[i].type == (int32_t)device.device_type) {
      snprintf(buffer, PEGA_NAME_SIZE, "%s:%" PRId32, device_names[i].word, device.device_id);
      return buffer;
    }
  }
  snprintf(buffer, PEGA_NAME_SIZE, "device%d:%" PRId32, (int)device.device_type, device.device_id);
  return buffer;
}

pega_status pega_device_parse(const char *name, DLDevice *out, pega_error *error) {
  char shown[96];
  if (name == NULL || out == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL, "pega_device_parse: %s is NULL",
                          name == NULL ? "name" : "out");
  }
  for (int i = 0; i < kNumDeviceNames; ++i) {
    size_t size = strlen(device_names[i].word);
    if (strncmp(name, device_names[i].word, size) != 0) continue;
    const char *at = name + size;
    unsigned long id = 0;
    if (*at == ':') {
      ++at;
      if (!read_number(&at, INT32_MAX, &id)) continue;
    }
    if (*at != '\0') continue;
    out->device_type = (DLDeviceType)device_names[i].type;
    out->device_id = (int32_t)id;
    return PEGA_OK;
  }
  return pega_error_set(error, PEGA_ERROR_DEVICE, NULL,
                        "unknown device '%s': expected a name such as cpu or cuda:0",
                        pega_text_short_name(name, shown));
}

/* A text for people: deep, wide and long containers are cut, with "..." for the rest. */
enum { kMaxFormatDepth = 8, kMaxFormatItems = 16, kMaxFormatSize = 4096 };

static void format_value(pega_text *text, const pega_value *value, int depth);

static void format_tensor(pega_text *text, const DLTensor *tensor) {
  char dtype[PEGA_NAME_SIZE];
  char device[PEGA_NAME_SIZE];
  pega_text_printf(text, "%s[", pega_dtype_name(tensor->dtype, dtype));
  int32_t ndim = tensor->ndim;
  if (ndim < 0 || ndim > PEGA_MAX_RANK || (ndim > 0 && tensor->shape == NULL)) {
    pega_text_printf(text, "rank %" PRId32, ndim);
    ndim = 0;
  }
  for (int32_t i = 0; i < ndim; ++i) {
    pega_text_printf(text, "%s%" PRId64, i == 0 ? "" : ", ", tensor->shape[i]);
  }
  pega_text_printf(text, "] on %s", pega_device_name(tensor->device, device));
}

static void format_items(pega_text *text, const pega_value *value, int depth) {
  int64_t size = pega_value_size(value);
  bool map = value->kind == PEGA_MAP;
  pega_text_append(text, map ? "{" : "[", 1);
  for (int64_t i = 0; i < size; ++i) {
    if (i > 0) pega_text_append(text, ", ", 2);
    if (i == kMaxFormatItems || depth == kMaxFormatDepth || text->size > kMaxFormatSize) {
      pega_text_append(text, "...", 3);
      break;
    }
    if (map) {
      format_value(text, pega_map_key(value, i), depth + 1);
      pega_text_append(text, ": ", 2);
    }
    format_value(text, map ? pega_map_value(value, i) : pega_array_get(value, i), depth + 1);
  }
  pega_text_append(text, map ? "}" : "]", 1);
}

static void format_value(pega_text *text, const pega_value *value, int depth) {
  char name[PEGA_NAME_SIZE];
  size_t size = 0;
  const char *bytes;
  switch (value->kind) {
    case PEGA_NONE:
      pega_text_printf(text, "None");
      return;
    case PEGA_BOOL:
      pega_text_printf(text, value->as.i64 != 0 ? "true" : "false");
      return;
    case PEGA_INT:
      pega_text_printf(text, "%" PRId64, value->as.i64);
      return;
    case PEGA_UINT:
      pega_text_printf(text, "%" PRIu64, value->as.u64);
      return;
    case PEGA_FLOAT:
      /* Always distinguishable from an integer. */
      pega_text_printf(text,
                       isfinite(value->as.f64) && value->as.f64 == trunc(value->as.f64) &&
                               fabs(value->as.f64) < 1e15
                           ? "%.1f"
                           : "%.17g",
                       value->as.f64);
      return;
    case PEGA_POINTER:
      pega_text_printf(text, "pointer 0x%" PRIx64, value->as.u64);
      return;
    case PEGA_DTYPE:
      pega_text_printf(text, "%s", pega_dtype_name(value->as.dtype, name));
      return;
    case PEGA_DEVICE:
      pega_text_printf(text, "%s", pega_device_name(value->as.device, name));
      return;
    case PEGA_STRING:
      bytes = pega_value_as_string(value, &size);
      if (bytes != NULL) pega_text_quote(text, bytes, size);
      return;
    case PEGA_BYTES:
      pega_value_as_bytes(value, &size);
      pega_text_printf(text, "%zu bytes", size);
      return;
    case PEGA_TENSOR:
      if (pega_value_as_tensor(value) == NULL) {
        pega_text_printf(text, "tensor NULL");
      } else {
        format_tensor(text, pega_value_as_tensor(value));
      }
      return;
    case PEGA_FUNCTION:
      if (pega_value_as_function(value) == NULL) {
        pega_text_printf(text, "function NULL");
      } else {
        pega_text_printf(text, "function %s",
                         pega_function_signature_text(pega_value_as_function(value)));
      }
      return;
    case PEGA_ARRAY:
    case PEGA_MAP:
      format_items(text, value, depth);
      return;
    case PEGA_OBJECT:
      pega_text_printf(text, "object %s", pega_value_type_key(value));
      return;
    default:
      pega_text_printf(text, "value of unknown kind %u", value->kind);
  }
}

size_t pega_value_format(const pega_value *value, char *buffer, size_t capacity) {
  pega_text text = {buffer, buffer == NULL ? 0 : capacity, 0};
  if (text.capacity > 0) buffer[0] = '\0';
  if (value != NULL) format_value(&text, value, 0);
  return text.size;
}
