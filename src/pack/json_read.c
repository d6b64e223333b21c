/* SPDX-License-Identifier: Apache-2.0 */
#include "json_read.h"

#include <inttypes.h>
#include <math.h>

#include "core/text.h"

/* ---- Errors ---- */

bool pega_json_fail(pega_json_reader *reader, const pega_json *at, pega_status status,
                    const char *format, ...) {
  char path[kJsonPathRoom];
  char what_room[2048];
  pega_text what = {what_room, sizeof what_room, 0};
  what_room[0] = '\0';
  pega_json_path(at, path);
  va_list args;
  va_start(args, format);
  pega_text_vprintf(&what, format, args);
  va_end(args);
  reader->status = pega_error_set(reader->error, status, NULL, "%s: %s%s%s%s", reader->source,
                                  reader->document == NULL ? "manifest: " : reader->document, path,
                                  path[0] == '\0' ? "" : ": ", what_room);
  return false;
}

static const char *describe(const pega_json_value *value, char buffer[120]) {
  char name[96];
  pega_text text = {buffer, 120, 0};
  switch (value->type) {
    case kJsonObject:
      return "an object";
    case kJsonArray:
      return "an array";
    case kJsonString:
      pega_text_printf(&text, "\"%s\"", pega_text_short_name(value->as.text, name));
      return buffer;
    case kJsonInt:
      pega_text_printf(&text, "%" PRId64, value->as.i64);
      return buffer;
    case kJsonReal:
      pega_text_printf(&text,
                       fabs(value->as.f64) > (double)PEGA_MAX_JSON_INTEGER
                           ? "about %.6g: past 2^53 - 1 an integer is not kept exactly"
                           : "%.17g, which is no integer",
                       value->as.f64);
      return buffer;
    case kJsonTrue:
      return "true";
    case kJsonFalse:
      return "false";
    default:
      return "null";
  }
}

bool pega_json_expected(pega_json_reader *reader, const pega_json *at, const char *what) {
  char got[120];
  return pega_json_fail(reader, at, PEGA_ERROR_FORMAT, "expected %s, got %s", what,
                        describe(at->value, got));
}

bool pega_json_out_of_memory(pega_json_reader *reader) {
  reader->status = pega_error_set(reader->error, PEGA_ERROR_OUT_OF_MEMORY, NULL,
                                  "%s: no memory for its manifest", reader->source);
  return false;
}

bool pega_json_wrap(pega_json_reader *reader, const pega_json *at, pega_error *inner) {
  if (inner->status == PEGA_ERROR_OUT_OF_MEMORY) {
    pega_json_out_of_memory(reader);
  } else {
    pega_json_fail(reader, at, PEGA_ERROR_FORMAT, "%s", pega_error_message(inner));
  }
  pega_error_clear(inner);
  return false;
}

bool pega_json_parse(pega_json_reader *reader, const char *text, size_t size, pega_arena *arena,
                     pega_json_value *out) {
  pega_json_error error;
  pega_json_outcome outcome = pega_json_parse_text(text, size, arena, out, &error);
  if (outcome == kJsonGood) return true;
  if (outcome == kJsonNoMemory) return pega_json_out_of_memory(reader);
  const pega_status status = outcome == kJsonTooMuch ? PEGA_ERROR_RANGE : PEGA_ERROR_FORMAT;
  if (error.line > 0) {
    return pega_json_fail(reader, NULL, status,
                          "line %zu, column %zu: no JSON that can be read: %s", error.line,
                          error.column, error.what);
  }
  return pega_json_fail(reader, NULL, status, "%s%sno JSON that can be read: %s", error.path,
                        error.path[0] == '\0' ? "" : ": ", error.what);
}

/* ---- Values ---- */

static const char *name_of_field(const void *self, size_t index) {
  return ((const char *const *)self)[index];
}

bool pega_json_fields(pega_json_reader *reader, const pega_json *at, const char *const *fields) {
  if (!pega_json_is(at->value, kJsonObject)) return pega_json_expected(reader, at, "an object");
  for (uint32_t i = 0; i < at->value->size; ++i) {
    const char *key = at->value->as.members[i].key;
    size_t count = 0;
    while (fields[count] != NULL && strcmp(fields[count], key) != 0) ++count;
    if (fields[count] != NULL) continue;
    char shown[96];
    const char *nearest = pega_text_nearest(key, count, name_of_field, fields);
    return pega_json_fail(reader, at, PEGA_ERROR_FORMAT, "unknown field '%s'%s%s%s",
                          pega_text_short_name(key, shown),
                          nearest == NULL ? "" : "; the nearest is '",
                          nearest == NULL ? "" : nearest, nearest == NULL ? "" : "'");
  }
  return true;
}

bool pega_json_get(const pega_json *object, const char *key, pega_json *out) {
  out->parent = object;
  out->key = key;
  out->index = 0;
  out->value = pega_json_find(object->value, key);
  return out->value != NULL;
}

bool pega_json_need(pega_json_reader *reader, const pega_json *object, const char *key,
                    pega_json *out) {
  if (!pega_json_is(object->value, kJsonObject))
    return pega_json_expected(reader, object, "an object");
  if (pega_json_get(object, key, out)) return true;
  return pega_json_fail(reader, object, PEGA_ERROR_FORMAT, "the field '%s' is missing", key);
}

bool pega_json_array(pega_json_reader *reader, const pega_json *at, size_t least, size_t most,
                     size_t *count) {
  if (!pega_json_is(at->value, kJsonArray)) return pega_json_expected(reader, at, "an array");
  *count = at->value->size;
  if (*count >= least && *count <= most) return true;
  pega_status status = *count > most && least != most ? PEGA_ERROR_RANGE : PEGA_ERROR_FORMAT;
  if (least == most) {
    return pega_json_fail(reader, at, status, "expected an array of %zu items, got %zu", least,
                          *count);
  }
  return pega_json_fail(reader, at, status, "expected an array of %zu to %zu items, got %zu", least,
                        most, *count);
}

pega_json pega_json_item(const pega_json *array, size_t index) {
  return (pega_json){array, NULL, index, &array->value->as.members[index].value};
}

bool pega_json_int(pega_json_reader *reader, const pega_json *at, int64_t min, int64_t max,
                   int64_t *out) {
  const bool zero = pega_json_is(at->value, kJsonReal) && at->value->as.f64 == 0; /* -0 */
  if (pega_json_is(at->value, kJsonInt) || zero) {
    *out = zero ? 0 : at->value->as.i64;
    if (*out >= min && *out <= max) return true;
  }
  if (min < -PEGA_MAX_JSON_INTEGER) min = -PEGA_MAX_JSON_INTEGER;
  if (max > PEGA_MAX_JSON_INTEGER) max = PEGA_MAX_JSON_INTEGER;
  char what[96];
  pega_text text = {what, sizeof what, 0};
  if (min == max) {
    pega_text_printf(&text, "the integer %" PRId64, min);
  } else if (min == -PEGA_MAX_JSON_INTEGER && max == PEGA_MAX_JSON_INTEGER) {
    pega_text_printf(&text, "an integer");
  } else {
    pega_text_printf(&text, "an integer %" PRId64 " to %" PRId64, min, max);
  }
  return pega_json_expected(reader, at, what);
}

bool pega_json_number(pega_json_reader *reader, const pega_json *at, double *out) {
  if (pega_json_is(at->value, kJsonInt)) {
    *out = (double)at->value->as.i64;
  } else if (pega_json_is(at->value, kJsonReal)) {
    *out = at->value->as.f64;
  } else {
    return pega_json_expected(reader, at, "a number");
  }
  return true;
}

bool pega_json_text(pega_json_reader *reader, const pega_json *at, size_t least, size_t most,
                    const char **out) {
  if (!pega_json_is(at->value, kJsonString)) return pega_json_expected(reader, at, "a string");
  size_t size = at->value->size;
  if (size < least || size > most) {
    return pega_json_fail(reader, at, size > most ? PEGA_ERROR_RANGE : PEGA_ERROR_FORMAT,
                          "expected a string of %zu to %zu bytes, got %zu", least, most, size);
  }
  *out = pega_arena_text(reader->arena, pega_json_text_of(at->value), size);
  return *out != NULL || pega_json_out_of_memory(reader);
}

/* ---- Members ---- */

bool pega_json_need_int(pega_json_reader *reader, const pega_json *object, const char *key,
                        int64_t min, int64_t max, int64_t *out) {
  pega_json at;
  return pega_json_need(reader, object, key, &at) && pega_json_int(reader, &at, min, max, out);
}

bool pega_json_need_number(pega_json_reader *reader, const pega_json *object, const char *key,
                           double *out) {
  pega_json at;
  return pega_json_need(reader, object, key, &at) && pega_json_number(reader, &at, out);
}

bool pega_json_need_text(pega_json_reader *reader, const pega_json *object, const char *key,
                         size_t least, size_t most, const char **out) {
  pega_json at;
  return pega_json_need(reader, object, key, &at) && pega_json_text(reader, &at, least, most, out);
}

bool pega_json_int_or(pega_json_reader *reader, const pega_json *object, const char *key,
                      int64_t min, int64_t max, int64_t fallback, int64_t *out) {
  pega_json at;
  *out = fallback;
  return !pega_json_get(object, key, &at) || pega_json_int(reader, &at, min, max, out);
}

bool pega_json_bool_or(pega_json_reader *reader, const pega_json *object, const char *key,
                       bool fallback, bool *out) {
  pega_json at;
  *out = fallback;
  if (!pega_json_get(object, key, &at)) return true;
  if (!pega_json_is_bool(at.value)) return pega_json_expected(reader, &at, "true or false");
  *out = pega_json_is(at.value, kJsonTrue);
  return true;
}

bool pega_json_text_or(pega_json_reader *reader, const pega_json *object, const char *key,
                       const char *fallback, const char **out) {
  pega_json at;
  *out = fallback;
  return !pega_json_get(object, key, &at) || pega_json_text(reader, &at, 0, kMaxText, out);
}
