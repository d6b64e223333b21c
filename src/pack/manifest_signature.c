/* SPDX-License-Identifier: Apache-2.0 */
/* The parameters of a function: from JSON to a pega_signature. */
#include <ctype.h>
#include <inttypes.h>

#include "core/signature.h"
#include "manifest.h"

enum { kMaxAlignment = 1 << 30 };

/* The types that a kernel takes, and which fields each knows besides those that all know. */
static const struct {
  uint32_t type;
  const char *fields; /* with a blank around each */
} types[] = {
    {PEGA_TYPE_BOOL, ""},
    {PEGA_TYPE_INT, " min max "},
    {PEGA_TYPE_FLOAT, ""},
    {PEGA_TYPE_POINTER, " nonnull output alignment pointee "},
    {PEGA_TYPE_STREAM, " nonnull "},
    {PEGA_TYPE_TENSOR, " output alignment dtype shape contiguous "},
};
enum { kNumTypes = (int)(sizeof types / sizeof *types) };

static bool read_type(pega_json_reader *reader, const pega_json *at, int *row) {
  static const char *const special[] = {"min",     "max",   "nonnull", "output",    "alignment",
                                        "pointee", "dtype", "shape",   "contiguous"};
  pega_json member;
  if (!pega_json_need(reader, at, "type", &member)) return false;
  const char *name = pega_json_text_of(member.value);
  *row = 0;
  while (*row < kNumTypes && strcmp(pega_type_name(types[*row].type), name) != 0) ++*row;
  if (*row == kNumTypes) {
    return pega_json_expected(
        reader, &member, "\"bool\", \"int\", \"float\", \"pointer\", \"stream\" or \"Tensor\"");
  }
  for (size_t i = 0; i < sizeof special / sizeof *special; ++i) {
    char word[16] = " ";
    strcat(strcat(word, special[i]), " ");
    if (!pega_json_get(at, special[i], &member) || strstr(types[*row].fields, word) != NULL) {
      continue;
    }
    return pega_json_fail(reader, &member, PEGA_ERROR_FORMAT,
                          "a parameter of type %s does not know this field", name);
  }
  return true;
}

static bool read_flag(pega_json_reader *reader, const pega_json *at, const char *key, uint32_t flag,
                      pega_param *out) {
  bool set;
  if (!pega_json_bool_or(reader, at, key, false, &set)) return false;
  if (set) out->flags |= flag;
  return true;
}

static bool read_range(pega_json_reader *reader, const pega_json *at, pega_param *out) {
  pega_json min, max;
  bool has_min = pega_json_get(at, "min", &min);
  bool has_max = pega_json_get(at, "max", &max);
  if (!has_min && !has_max) return true;
  if (has_min != has_max) {
    return pega_json_fail(reader, at, PEGA_ERROR_FORMAT, "'%s' is there without '%s'",
                          has_min ? "min" : "max", has_min ? "max" : "min");
  }
  if (!pega_json_int(reader, &min, INT64_MIN, INT64_MAX, &out->min)) return false;
  if (!pega_json_int(reader, &max, INT64_MIN, INT64_MAX, &out->max)) return false;
  out->flags |= PEGA_PARAM_RANGE;
  return true;
}

static bool read_dtype(pega_json_reader *reader, const pega_json *at, DLDataType *out) {
  if (!pega_json_is(at->value, kJsonString)) return pega_json_expected(reader, at, "a string");
  pega_error error = PEGA_ERROR_INIT;
  if (pega_dtype_parse(pega_json_text_of(at->value), out, &error) == PEGA_OK) return true;
  return pega_manifest_wrap(reader, at, &error);
}

static bool read_alignment(pega_json_reader *reader, const pega_json *at, pega_param *out) {
  pega_json member;
  int64_t alignment;
  if (!pega_json_get(at, "alignment", &member)) return true;
  if (!pega_json_int(reader, &member, 1, kMaxAlignment, &alignment)) return false;
  if ((alignment & (alignment - 1)) != 0) {
    return pega_json_expected(reader, &member, "a power of two");
  }
  out->alignment = pega_json_u32(alignment);
  return true;
}

static bool read_param(pega_json_reader *reader, const pega_json *at, pega_param *out) {
  static const char *const fields[] = {"name",      "type",  "doc",     "domain",     "optional",
                                       "min",       "max",   "nonnull", "output",     "pointee",
                                       "alignment", "dtype", "shape",   "contiguous", NULL};
  int row;
  pega_json member;
  if (!pega_json_fields(reader, at, fields) || !read_type(reader, at, &row) ||
      !pega_json_need_text(reader, at, "name", 1, 64, &out->name) ||
      !pega_json_text_or(reader, at, "doc", NULL, &out->doc) ||
      !pega_json_text_or(reader, at, "domain", NULL, &out->domain) ||
      !pega_json_text_or(reader, at, "shape", NULL, &out->shape) ||
      !read_flag(reader, at, "optional", PEGA_PARAM_OPTIONAL, out) ||
      !read_flag(reader, at, "nonnull", PEGA_PARAM_NONNULL, out) ||
      !read_flag(reader, at, "output", PEGA_PARAM_OUTPUT, out) ||
      !read_flag(reader, at, "contiguous", PEGA_PARAM_CONTIGUOUS, out) ||
      !read_range(reader, at, out) || !read_alignment(reader, at, out)) {
    return false;
  }
  out->type = types[row].type;
  if (out->type != PEGA_TYPE_TENSOR) return true;
  out->device_type = kDLCUDA;
  return !pega_json_get(at, "dtype", &member) || read_dtype(reader, &member, &out->dtype);
}

/* ---- What pointers point at ---- */

/* Reads one dimension, a number or the name of an int parameter; NULL for what is wrong. */
static const char *read_pointee_dim(const char *at, const pega_signature *signature,
                                    pega_pointee_dim *out) {
  out->param = -1;
  out->size = 0;
  if (isdigit((unsigned char)*at)) {
    for (; isdigit((unsigned char)*at); ++at) {
      if (__builtin_mul_overflow(out->size, 10, &out->size) ||
          __builtin_add_overflow(out->size, *at - '0', &out->size)) {
        return NULL;
      }
    }
    return at;
  }
  size_t size = 0;
  while (isalnum((unsigned char)at[size]) || at[size] == '_') ++size;
  for (int32_t i = 0; size > 0 && i < signature->num_params; ++i) {
    const pega_param *param = &signature->params[i];
    if (param->type != PEGA_TYPE_INT || strlen(param->name) != size) continue;
    if (memcmp(param->name, at, size) == 0) out->param = i;
  }
  return out->param < 0 ? NULL : at + size;
}

static bool read_pointee_shape(pega_json_reader *reader, const pega_json *at,
                               const pega_signature *signature, pega_pointee *out) {
  if (!pega_json_is(at->value, kJsonString)) return pega_json_expected(reader, at, "a string");
  const char *text = pega_json_text_of(at->value);
  while (*text == ' ') ++text;
  for (bool more = *text != '\0'; more;) {
    if (out->rank == kMaxGoldenRank) {
      return pega_json_fail(reader, at, PEGA_ERROR_RANGE, "more than %d dimensions",
                            kMaxGoldenRank);
    }
    text = read_pointee_dim(text, signature, &out->dims[out->rank]);
    if (text != NULL) {
      while (*text == ' ') ++text;
      more = *text == ',';
    }
    if (text == NULL || (!more && *text != '\0')) {
      return pega_json_expected(reader, at,
                                "a list of sizes and names of int parameters such as \"n, 64\"");
    }
    if (more) ++text;
    while (*text == ' ') ++text;
    ++out->rank;
  }
  return true;
}

static bool read_pointee(pega_json_reader *reader, const pega_json *param,
                         const pega_signature *signature, pega_pointee *out) {
  static const char *const fields[] = {"dtype", "shape", "layout", NULL};
  pega_json at, member;
  out->rank = -1;
  if (!pega_json_get(param, "pointee", &at)) return true;
  if (!pega_json_fields(reader, &at, fields)) return false;
  if (pega_json_get(&at, "layout", &member) &&
      (!pega_json_is(member.value, kJsonString) ||
       strcmp(pega_json_text_of(member.value), "row-major") != 0)) {
    return pega_json_expected(reader, &member, "\"row-major\"");
  }
  if (!pega_json_need(reader, &at, "dtype", &member) || !read_dtype(reader, &member, &out->dtype) ||
      !pega_json_need(reader, &at, "shape", &member)) {
    return false;
  }
  out->rank = 0;
  return read_pointee_shape(reader, &member, signature, out);
}

/* ---- All of them ---- */

bool pega_manifest_read_signature(pega_manifest *manifest, const pega_json *function,
                                  pega_signature *out, pega_pointee *pointees) {
  pega_json_reader *reader = &manifest->reader;
  const pega_signature empty = PEGA_SIGNATURE_INIT;
  pega_json array;
  size_t count;
  int32_t stream = -1;
  if (!pega_json_need(reader, function, "params", &array) ||
      !pega_json_array(reader, &array, 0, kMaxParams, &count)) {
    return false;
  }
  pega_param *params = pega_arena_alloc(reader->arena, count, sizeof *params);
  if (params == NULL) return pega_json_out_of_memory(reader);
  *out = empty;
  out->params = params;
  out->num_params = (int32_t)count;
  for (int32_t i = 0; i < out->num_params; ++i) {
    pega_json item = pega_json_item(&array, (size_t)i);
    if (!read_param(reader, &item, &params[i])) return false;
    if (params[i].type != PEGA_TYPE_STREAM) continue;
    if (stream >= 0) {
      return pega_json_fail(reader, &item, PEGA_ERROR_FORMAT,
                            "parameter %" PRId32 " '%s' is a stream, too: expected one at most",
                            stream, params[stream].name);
    }
    stream = i;
  }
  for (int32_t i = 0; i < out->num_params; ++i) {
    pega_json item = pega_json_item(&array, (size_t)i);
    if (!read_pointee(reader, &item, out, &pointees[i])) return false;
  }
  return true;
}
