/* SPDX-License-Identifier: Apache-2.0 */
#include "param.h"

enum { kMaxAlignment = 1 << 30 };

/* The types that there are, and which fields each knows besides those that all know. */
static const struct {
  uint32_t type;
  const char *fields; /* with a blank around each */
} types[] = {
    {PEGA_TYPE_BOOL, ""},
    {PEGA_TYPE_INT, " min max "},
    {PEGA_TYPE_FLOAT, ""},
    {PEGA_TYPE_POINTER, " nonnull output alignment pointee "},
    {PEGA_TYPE_STREAM, " nonnull "},
    {PEGA_TYPE_STRING, ""},
    {PEGA_TYPE_TENSOR, " output alignment dtype shape contiguous "},
};
enum { kNumTypes = (int)(sizeof types / sizeof *types) };

static bool read_type(pega_json_reader *reader, const pega_json *at, const pega_param_words *words,
                      int *row) {
  static const char *const special[] = {"min",     "max",   "nonnull", "output",    "alignment",
                                        "pointee", "dtype", "shape",   "contiguous"};
  pega_json member = *at;
  const char *name = pega_type_name(words->fallback);
  if (words->fallback == PEGA_TYPE_ANY) {
    if (!pega_json_need(reader, at, "type", &member)) return false;
    name = pega_json_text_of(member.value);
  } else if (pega_json_get(at, "type", &member)) {
    name = pega_json_text_of(member.value);
  }
  *row = 0;
  while (*row < kNumTypes && strcmp(pega_type_name(types[*row].type), name) != 0) ++*row;
  if (*row == kNumTypes || (words->types >> types[*row].type & 1) == 0) {
    return pega_json_expected(reader, &member, words->types_text);
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

bool pega_param_read_dtype(pega_json_reader *reader, const pega_json *at, DLDataType *out) {
  if (!pega_json_is(at->value, kJsonString)) return pega_json_expected(reader, at, "a string");
  pega_error error;
  pega_error_init(&error);
  if (pega_dtype_parse(pega_json_text_of(at->value), out, &error) == PEGA_OK) return true;
  return pega_json_wrap(reader, at, &error);
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

bool pega_param_read(pega_json_reader *reader, const pega_json *at, const pega_param_words *words,
                     pega_param *out) {
  int row;
  pega_json member;
  if (!pega_json_fields(reader, at, words->fields) || !read_type(reader, at, words, &row) ||
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
  return !pega_json_get(at, "dtype", &member) ||
         pega_param_read_dtype(reader, &member, &out->dtype);
}

static pega_status never_called(void *self, const pega_value *args, int32_t num_args,
                                pega_value *result, pega_error *error) {
  (void)self;
  (void)args;
  (void)num_args;
  (void)result;
  return pega_error_set(error, PEGA_ERROR_INTERNAL, NULL, "a description is called");
}

pega_function *pega_param_function(pega_json_reader *reader, const pega_json *at, const char *name,
                                   const char *doc, const pega_signature *signature) {
  pega_function *function;
  pega_error error;
  pega_error_init(&error);
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  options.name = name;
  options.doc = doc;
  options.signature = signature;
  options.call = never_called;
  if (pega_function_create(&options, &function, &error) == PEGA_OK) return function;
  pega_json_wrap(reader, at, &error);
  return NULL;
}
