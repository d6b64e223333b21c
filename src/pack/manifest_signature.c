/* SPDX-License-Identifier: Apache-2.0 */
/* The parameters of a function: from JSON to a pega_signature. */
#include <ctype.h>
#include <inttypes.h>

#include "core/signature.h"
#include "manifest.h"
#include "param.h"

static bool read_param(pega_json_reader *reader, const pega_json *at, pega_param *out) {
  static const char *const fields[] = {"name",      "type",  "doc",     "domain",     "optional",
                                       "min",       "max",   "nonnull", "output",     "pointee",
                                       "alignment", "dtype", "shape",   "contiguous", NULL};
  static const pega_param_words words = {
      fields,
      1u << PEGA_TYPE_BOOL | 1u << PEGA_TYPE_INT | 1u << PEGA_TYPE_FLOAT | 1u << PEGA_TYPE_POINTER |
          1u << PEGA_TYPE_STREAM | 1u << PEGA_TYPE_TENSOR,
      "\"bool\", \"int\", \"float\", \"pointer\", \"stream\" or \"Tensor\"", PEGA_TYPE_ANY};
  if (!pega_param_read(reader, at, &words, out)) return false;
  if (out->type == PEGA_TYPE_TENSOR) out->device_type = kDLCUDA;
  return true;
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
  if (!pega_json_need(reader, &at, "dtype", &member) ||
      !pega_param_read_dtype(reader, &member, &out->dtype) ||
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
