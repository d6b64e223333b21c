/* SPDX-License-Identifier: Apache-2.0 */
#include "print.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* Values nest no deeper than this in JSON; what lies below is null. */
enum { MAX_DEPTH = 64 };

/* Causes are printed up to this many; a chain may be longer than anybody reads. */
enum { MAX_CAUSES = 8 };

void cli_out_of_memory(void) {
  (void)fputs("pega: out of memory\n", stderr);
  exit(1);
}

/* Bytes of the UTF-8 character at `text`, and which it is; or 0 if there is none of at most `size`
 * bytes. */
static size_t utf8_length(const unsigned char *text, size_t size, uint32_t *out) {
  const unsigned char first = text[0];
  *out = first;
  if (first < 0x80) return 1;
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || length > size) return 0;
  uint32_t code = first & (0x7fU >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((text[i] & 0xc0) != 0x80) return 0;
    code = (code << 6) | (text[i] & 0x3fU);
  }
  static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code >= 0xd800 && code <= 0xdfff;
  *out = code;
  return code < least[length] || code > 0x10ffff || surrogate ? 0 : length;
}

/* Control characters: C0 but newline and tab, DEL, C1, and those that turn the direction of text,
 * which let it look like other text. */
static bool is_control(uint32_t code) {
  if (code < 0x20) return code != '\n' && code != '\t';
  if (code >= 0x7f && code < 0xa0) return true;
  if (code == 0x061c || code == 0x200e || code == 0x200f) return true;
  return (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

void cli_print_text(FILE *stream, const char *text, size_t size) {
  const unsigned char *bytes = (const unsigned char *)text;
  for (size_t i = 0; i < size;) {
    uint32_t code = 0;
    size_t length = utf8_length(bytes + i, size - i, &code);
    const bool plain = length != 0 && !is_control(code);
    if (length == 0) length = 1;
    if (plain) {
      (void)fwrite(bytes + i, 1, length, stream);
    } else {
      for (size_t j = 0; j < length; ++j) (void)fprintf(stream, "\\x%02x", bytes[i + j]);
    }
    i += length;
  }
}

void cli_print_string(FILE *stream, const char *text) {
  cli_print_text(stream, text, strlen(text));
}

char *cli_escape_line(const char *text) {
  const unsigned char *bytes = (const unsigned char *)text;
  const size_t size = strlen(text);
  char *out = size > SIZE_MAX / 4 - 1 ? NULL : malloc(size * 4 + 1);
  if (out == NULL) cli_out_of_memory();
  size_t used = 0;
  for (size_t i = 0; i < size;) {
    uint32_t code = 0;
    size_t length = utf8_length(bytes + i, size - i, &code);
    const bool plain = length != 0 && code != '\n' && code != '\t' && !is_control(code);
    if (length == 0) length = 1;
    for (size_t j = i; j < i + length; ++j) {
      if (plain) {
        out[used++] = text[j];
      } else {
        used += (size_t)snprintf(out + used, 5, "\\x%02x", bytes[j]);
      }
    }
    i += length;
  }
  out[used] = '\0';
  return out;
}

void cli_print_line(FILE *stream, const char *text) {
  if (text == NULL) return;
  char *escaped = cli_escape_line(text);
  (void)fputs(escaped, stream);
  free(escaped);
}

void cli_print_lines(const char *text, int indent) {
  while (text != NULL && *text != '\0') {
    const size_t size = strcspn(text, "\n");
    (void)printf("%*s", indent, "");
    cli_print_text(stdout, text, size);
    (void)putchar('\n');
    text += text[size] == '\n' ? size + 1 : size;
  }
}

/* pega_value_format() into memory of its own. */
static char *value_text(const pega_value *value, size_t *size) {
  *size = pega_value_format(value, NULL, 0);
  char *text = malloc(*size + 1);
  if (text == NULL) cli_out_of_memory();
  (void)pega_value_format(value, text, *size + 1);
  return text;
}

void cli_print_value(FILE *stream, const pega_value *value) {
  size_t size = 0;
  char *text = value_text(value, &size);
  cli_print_text(stream, text, size);
  free(text);
}

char *cli_signature_text(const char *name, const pega_function *function) {
  const char *parameters = "(...)";
  if (pega_function_signature(function) != NULL) {
    parameters = pega_function_signature_text(function);
    parameters += strcspn(parameters, "(");
  }
  const size_t size = strlen(name) + strlen(parameters) + 1;
  char *text = malloc(size);
  if (text == NULL) cli_out_of_memory();
  (void)snprintf(text, size, "%s%s", name, parameters);
  return text;
}

/* What the library says to programs in C, and the same for the command line. */
static const struct {
  const char *library;
  const char *own;
} WORDS[] = {
    {"open the pack with PEGA_PACK_ALLOW_PTX to let it", "--allow-ptx lets it"},
    {"`pega list` or pega_registry_list() shows all", "`pega list` shows all"},
    {"pega_pack_list() shows all", "`pega list --pack PACK` (or --embedded) shows all"},
    {"name a pack in PEGA_PACK_PATH or give one to pega_pack_register()",
     "name a pack in PEGA_PACK_PATH"},
    {"start a new process, or try pega_cuda_close() once all work on the GPU has stopped: some "
     "drivers never recover in the same process",
     "run pega again"},
};
enum { NUM_WORDS = sizeof WORDS / sizeof WORDS[0] };

char *cli_own_words(const char *text) {
  char *out = NULL;
  size_t size = 0;
  FILE *stream = open_memstream(&out, &size);
  if (stream == NULL) cli_out_of_memory();
  while (*text != '\0') {
    int i = 0;
    while (i < NUM_WORDS && strncmp(text, WORDS[i].library, strlen(WORDS[i].library)) != 0) ++i;
    if (i < NUM_WORDS) {
      (void)fputs(WORDS[i].own, stream);
      text += strlen(WORDS[i].library);
    } else {
      (void)fputc(*text++, stream);
    }
  }
  if (fclose(stream) != 0) cli_out_of_memory();
  return out;
}

static void print_error_text(const pega_error *error) {
  /* A foreign error's kind says what the text alone may not; pega's own texts are whole. */
  if (error->status == PEGA_ERROR_CALLEE) {
    cli_print_string(stderr, pega_error_kind(error));
    (void)fputs(": ", stderr);
  }
  char *message = cli_own_words(pega_error_message(error));
  cli_print_string(stderr, message);
  free(message);
  (void)fputc('\n', stderr);
  const char *traceback = pega_error_traceback(error);
  if (*traceback != '\0') {
    (void)fputs("traceback, innermost call first:\n", stderr);
    cli_print_string(stderr, traceback);
    if (traceback[strlen(traceback) - 1] != '\n') (void)fputc('\n', stderr);
  }
}

void cli_print_error(const pega_error *error, bool json) {
  if (json) {
    json_t *object = json_object();
    cli_json_set(object, "error", cli_json_error(error));
    cli_print_json(object);
    return;
  }
  (void)fflush(stdout);
  (void)fputs("pega: ", stderr);
  print_error_text(error);
  const pega_error *cause = pega_error_cause(error);
  for (int i = 0; cause != NULL && i < MAX_CAUSES; ++i, cause = pega_error_cause(cause)) {
    (void)fputs("caused by: ", stderr);
    print_error_text(cause);
  }
}

void cli_json_set(json_t *object, const char *key, json_t *value) {
  if (json_object_set_new(object, key, value) != 0) cli_out_of_memory();
}

void cli_json_append(json_t *array, json_t *value) {
  if (json_array_append_new(array, value) != 0) cli_out_of_memory();
}

json_t *cli_json_text(const char *text, size_t size) {
  json_t *string = json_stringn(text, size);
  if (string != NULL) return string;
  /* Not UTF-8: each byte that is no part of a character becomes \xNN. */
  const unsigned char *bytes = (const unsigned char *)text;
  char *copy = size > SIZE_MAX / 4 - 1 ? NULL : malloc(size * 4 + 1);
  if (copy == NULL) cli_out_of_memory();
  size_t used = 0;
  for (size_t i = 0; i < size;) {
    uint32_t code = 0;
    const size_t length = utf8_length(bytes + i, size - i, &code);
    if (length != 0) {
      memcpy(copy + used, bytes + i, length);
      used += length;
      i += length;
    } else {
      used += (size_t)snprintf(copy + used, 5, "\\x%02x", bytes[i]);
      ++i;
    }
  }
  string = json_stringn(copy, used);
  free(copy);
  if (string == NULL) cli_out_of_memory();
  return string;
}

json_t *cli_json_string(const char *text) {
  return text == NULL ? json_null() : cli_json_text(text, strlen(text));
}

json_t *cli_json_uint(uint64_t number) {
  char digits[24];
  if (number <= INT64_MAX) return json_integer((json_int_t)number);
  (void)snprintf(digits, sizeof digits, "%" PRIu64, number);
  return json_string(digits);
}

json_t *cli_json_float(double number) {
  /* JSON has no word for these. */
  if (isnan(number)) return json_string("nan");
  if (isinf(number)) return json_string(number > 0 ? "inf" : "-inf");
  return json_real(number);
}

static json_t *json_bytes(const unsigned char *bytes, size_t size) {
  char *hex = size > SIZE_MAX / 2 - 1 ? NULL : malloc(size * 2 + 1);
  if (hex == NULL) cli_out_of_memory();
  for (size_t i = 0; i < size; ++i) (void)snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
  json_t *string = json_stringn(hex, size * 2);
  free(hex);
  return string;
}

static json_t *json_value(const pega_value *value, int depth);

static void set_tensor(json_t *object, const DLTensor *tensor) {
  char name[PEGA_NAME_SIZE];
  json_t *shape = json_array();
  for (int32_t i = 0; i < tensor->ndim; ++i) cli_json_append(shape, json_integer(tensor->shape[i]));
  cli_json_set(object, "dtype", json_string(pega_dtype_name(tensor->dtype, name)));
  cli_json_set(object, "shape", shape);
  cli_json_set(object, "device", json_string(pega_device_name(tensor->device, name)));
}

static json_t *json_items(const pega_value *value, int depth) {
  const bool map = value->kind == PEGA_MAP;
  const int64_t size = pega_value_size(value);
  json_t *items = json_array();
  for (int64_t i = 0; i < size; ++i) {
    if (map) {
      json_t *pair = json_array();
      cli_json_append(pair, json_value(pega_map_key(value, i), depth + 1));
      cli_json_append(pair, json_value(pega_map_value(value, i), depth + 1));
      cli_json_append(items, pair);
    } else {
      cli_json_append(items, json_value(pega_array_get(value, i), depth + 1));
    }
  }
  return items;
}

static json_t *json_value(const pega_value *value, int depth) {
  char name[PEGA_NAME_SIZE];
  size_t size = 0;
  if (depth > MAX_DEPTH) return json_null();
  json_t *object = json_object();
  cli_json_set(object, "kind", json_string(pega_kind_name(value->kind)));
  switch ((pega_kind)value->kind) {
    case PEGA_NONE:
      cli_json_set(object, "value", json_null());
      break;
    case PEGA_BOOL:
      cli_json_set(object, "value", json_boolean(value->as.boolean));
      break;
    case PEGA_INT:
      cli_json_set(object, "value", json_integer(value->as.i64));
      break;
    case PEGA_UINT:
      cli_json_set(object, "value", cli_json_uint(value->as.u64));
      break;
    case PEGA_FLOAT:
      cli_json_set(object, "value", cli_json_float(value->as.f64));
      break;
    case PEGA_POINTER:
      cli_json_set(object, "value", json_sprintf("0x%" PRIx64, value->as.u64));
      break;
    case PEGA_DTYPE:
      cli_json_set(object, "value", json_string(pega_dtype_name(value->as.dtype, name)));
      break;
    case PEGA_DEVICE:
      cli_json_set(object, "value", json_string(pega_device_name(value->as.device, name)));
      break;
    case PEGA_STRING: {
      const char *text = pega_value_as_string(value, &size);
      cli_json_set(object, "value", cli_json_text(text, size));
      break;
    }
    case PEGA_BYTES: {
      const unsigned char *bytes = pega_value_as_bytes(value, &size);
      cli_json_set(object, "hex", json_bytes(bytes, size));
      break;
    }
    case PEGA_TENSOR:
      set_tensor(object, pega_value_as_tensor(value));
      break;
    case PEGA_FUNCTION:
      cli_json_set(object, "name",
                   cli_json_string(pega_function_name(pega_value_as_function(value))));
      break;
    case PEGA_ARRAY:
    case PEGA_MAP:
      cli_json_set(object, "items", json_items(value, depth));
      break;
    case PEGA_OBJECT:
      cli_json_set(object, "type_key", cli_json_string(pega_value_type_key(value)));
      break;
  }
  return object;
}

json_t *cli_json_value(const pega_value *value) { return json_value(value, 0); }

json_t *cli_json_error(const pega_error *error) {
  json_t *first = json_object();
  json_t *object = first;
  for (int i = 0;; ++i) {
    cli_json_set(object, "status", json_string(pega_status_name((pega_status)error->status)));
    cli_json_set(object, "kind", cli_json_string(pega_error_kind(error)));
    char *message = cli_own_words(pega_error_message(error));
    cli_json_set(object, "message", cli_json_string(message));
    free(message);
    cli_json_set(object, "traceback", cli_json_string(pega_error_traceback(error)));
    error = pega_error_cause(error);
    if (error == NULL || i == MAX_CAUSES) return first;
    json_t *cause = json_object();
    cli_json_set(object, "cause", cause);
    object = cause;
  }
}

/* JSON needs escapes for C0 alone; a terminal also obeys the other control characters. */
static void print_json_text(const char *text) {
  const unsigned char *bytes = (const unsigned char *)text;
  const size_t size = strlen(text);
  size_t start = 0;
  for (size_t i = 0; i < size;) {
    uint32_t code = 0;
    size_t length = utf8_length(bytes + i, size - i, &code);
    if (length == 0) length = 1; /* never: jansson writes UTF-8 */
    if (is_control(code)) {
      (void)fwrite(text + start, 1, i - start, stdout);
      (void)printf("\\u%04x", (unsigned)code);
      start = i + length;
    }
    i += length;
  }
  (void)fwrite(text + start, 1, size - start, stdout);
}

void cli_print_json(json_t *object) {
  if (object == NULL) cli_out_of_memory();
  char *text = json_dumps(object, JSON_INDENT(2));
  if (text == NULL) cli_out_of_memory();
  /* A failing write leaves its mark on stdout, which main() looks at. */
  print_json_text(text);
  (void)fputc('\n', stdout);
  free(text);
  json_decref(object);
}
