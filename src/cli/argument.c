/* SPDX-License-Identifier: Apache-2.0 */
#include "argument.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

void cli_files_clear(cli_files *files) {
  for (size_t i = 0; i < files->count; ++i) {
    free(files->items[i].path);
    safetensors_close(files->items[i].file);
  }
  free(files->items);
  memset(files, 0, sizeof *files);
}

static pega_status files_open(cli_files *files, const char *path, const safetensors **out,
                              pega_error *error) {
  for (size_t i = 0; i < files->count; ++i) {
    if (strcmp(files->items[i].path, path) == 0) {
      *out = files->items[i].file;
      return PEGA_OK;
    }
  }
  struct cli_file item = {strdup(path), NULL};
  struct cli_file *grown = realloc(files->items, (files->count + 1) * sizeof *grown);
  if (grown != NULL) files->items = grown;
  if (grown == NULL || item.path == NULL) {
    free(item.path);
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "out of memory");
  }
  const pega_status status = safetensors_open(path, &item.file, error);
  if (status != PEGA_OK) {
    free(item.path);
    return status;
  }
  files->items[files->count++] = item;
  *out = item.file;
  return PEGA_OK;
}

/* A counted tensor: functions that keep or return their argument take no other. Its memory stays the
 * argument's, which outlives the result. */
static pega_status share_tensor(cli_argument *argument, pega_error *error) {
  const pega_status status =
      pega_tensor_create(&argument->tensor.view, 0, NULL, NULL, NULL, &argument->owned, error);
  if (status == PEGA_OK) argument->value = argument->owned;
  return status;
}

/* "FILE.safetensors:TENSOR", "FILE:TENSOR" or "FILE": where FILE ends. A tensor's name may hold
 * colons, and so may a file's that ends in .safetensors. */
static size_t file_size_of(const char *text) {
  static const char ending[] = ".safetensors";
  const char *at = strstr(text, ".safetensors:");
  if (at != NULL) return (size_t)(at - text) + strlen(ending);
  const size_t size = strlen(text);
  if (size > strlen(ending) && strcmp(text + size - strlen(ending), ending) == 0) return size;
  return strcspn(text, ":");
}

static pega_status parse_file(const char *text, cli_files *files, cli_argument *out,
                              pega_error *error) {
  const safetensors *file = NULL;
  const safetensors_entry *entry = NULL;
  const size_t size = file_size_of(text);
  const char *name = text[size] == ':' ? text + size + 1 : NULL;
  char *path = strndup(text, size);
  if (path == NULL) return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "out of memory");
  pega_status status = files_open(files, path, &file, error);
  free(path);
  if (status == PEGA_OK) status = safetensors_find(file, name, &entry, error);
  if (status == PEGA_OK) {
    status = cli_tensor_create(entry->dtype, entry->ndim, entry->shape, &out->tensor, error);
  }
  if (status == PEGA_OK) status = safetensors_read(file, entry, out->tensor.view.data, error);
  if (status == PEGA_OK) status = share_tensor(out, error);
  return status;
}

/* Decimal or 0x; nothing around it. ERANGE: an integer, but of more than 64 bits. */
static int parse_uint(const char *text, uint64_t *out) {
  const bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
  const char *digits = hex ? text + 2 : text;
  char *end = NULL;
  if (!isxdigit((unsigned char)*digits)) return EINVAL;
  errno = 0;
  const unsigned long long number = strtoull(digits, &end, hex ? 16 : 10);
  if (end == digits || *end != '\0') return EINVAL;
  if (errno == ERANGE) return ERANGE;
  *out = number;
  return 0;
}

static int parse_int(const char *text, pega_value *out) {
  uint64_t magnitude = 0;
  const bool negative = *text == '-';
  const int code = parse_uint(negative || *text == '+' ? text + 1 : text, &magnitude);
  if (code != 0) return code;
  if (negative) {
    if (magnitude > (uint64_t)INT64_MAX + 1) return ERANGE;
    *out = pega_value_int(magnitude == 0 ? 0 : -(int64_t)(magnitude - 1) - 1);
  } else {
    *out = magnitude <= INT64_MAX ? pega_value_int((int64_t)magnitude) : pega_value_uint(magnitude);
  }
  return 0;
}

static int parse_float(const char *text, pega_value *out) {
  char *end = NULL;
  if (*text == '\0' || isspace((unsigned char)*text)) return EINVAL;
  errno = 0;
  const double number = strtod(text, &end);
  if (*end != '\0') return EINVAL;
  if (errno == ERANGE && isinf(number)) return ERANGE;
  *out = pega_value_float(number);
  return 0;
}

static cli_exit parse_pointer(const char *text, cli_argument *out, pega_error *error) {
  uint64_t address = 0;
  if (parse_uint(text, &address) != 0 || address > UINTPTR_MAX) {
    return cli_misuse(error, "expected an address like ptr:0x10, got \"%.100s\"", text);
  }
  out->value = pega_value_make_(PEGA_POINTER);
  out->value.as.u64 = address;
  return CLI_DONE;
}

static cli_exit parse_bytes(const char *text, cli_argument *out, pega_error *error) {
  const size_t size = strlen(text) / 2;
  unsigned char *bytes = malloc(size + 1);
  bool good = bytes != NULL && strlen(text) % 2 == 0;
  for (size_t i = 0; good && i < size; ++i) {
    const char pair[3] = {text[2 * i], text[2 * i + 1], '\0'};
    good = isxdigit((unsigned char)pair[0]) && isxdigit((unsigned char)pair[1]);
    bytes[i] = (unsigned char)strtoul(pair, NULL, 16);
  }
  cli_exit code = CLI_DONE;
  if (!good) {
    code = cli_misuse(error, "expected two hexadecimal digits for each byte, got \"%.100s\"", text);
  } else if (pega_bytes_create(bytes, size, &out->owned, error) != PEGA_OK) {
    code = CLI_FAILED;
  }
  out->value = out->owned;
  free(bytes);
  return code;
}

static cli_exit parse_dtype(const char *text, cli_argument *out, pega_error *error) {
  DLDataType dtype;
  if (pega_dtype_parse(text, &dtype, error) != PEGA_OK) return CLI_MISUSE;
  out->value = pega_value_dtype(dtype);
  return CLI_DONE;
}

static cli_exit parse_device(const char *text, cli_argument *out, pega_error *error) {
  DLDevice device;
  if (pega_device_parse(text, &device, error) != PEGA_OK) return CLI_MISUSE;
  out->value = pega_value_device(device);
  return CLI_DONE;
}

static cli_exit parse_string(const char *text, cli_argument *out, pega_error *error) {
  (void)error;
  out->value = pega_value_string(text);
  return CLI_DONE;
}

static cli_exit parse_zeros(const char *text, cli_argument *out, pega_error *error) {
  pega_status status = cli_tensor_parse_zeros(text, &out->tensor, error);
  if (status == PEGA_OK) status = share_tensor(out, error);
  if (status == PEGA_ERROR_OUT_OF_MEMORY) return CLI_FAILED;
  if (status != PEGA_OK) return CLI_MISUSE;
  out->zeros = true;
  return CLI_DONE;
}

static cli_exit parse_function(const char *text, cli_argument *out, pega_error *error) {
  if (pega_registry_get(text, &out->function, error) != PEGA_OK) return CLI_FAILED;
  out->value = pega_value_function(out->function);
  return CLI_DONE;
}

/* What a word may start with to say what it is. */
static const struct {
  const char *text;
  cli_exit (*parse)(const char *text, cli_argument *out, pega_error *error);
} PREFIXES[] = {
    {"str:", parse_string},  {"bytes:", parse_bytes},   {"ptr:", parse_pointer},
    {"dtype:", parse_dtype}, {"device:", parse_device}, {"zeros:", parse_zeros},
    {"fn:", parse_function},
};
enum { NUM_PREFIXES = sizeof PREFIXES / sizeof PREFIXES[0] };

/* A word with neither prefix nor a type that decides. */
static cli_exit parse_bare(const char *word, uint32_t type, cli_argument *out, pega_error *error) {
  if (strcmp(word, "none") == 0) return CLI_DONE;
  if (strcmp(word, "true") == 0 || strcmp(word, "false") == 0) {
    out->value = pega_value_bool(*word == 't');
    return CLI_DONE;
  }
  const int code = parse_int(word, &out->value);
  if (code == 0 || (code == EINVAL && parse_float(word, &out->value) == 0)) return CLI_DONE;
  if (code == ERANGE) {
    return cli_misuse(error, "an integer of more than 64 bits: \"%.100s\"", word);
  }
  switch (type) {
    case PEGA_TYPE_ANY:
    case PEGA_TYPE_OBJECT:
    case PEGA_TYPE_ARRAY:
    case PEGA_TYPE_MAP:
      return cli_misuse(error,
                        "cannot tell what \"%.100s\" is: a string is written str:%.100s, a tensor "
                        "@FILE:TENSOR",
                        word, word);
    case PEGA_TYPE_TENSOR:
      return cli_misuse(
          error, "expected a tensor, @FILE:TENSOR or zeros:DTYPE[SIZES], got \"%.100s\"", word);
    default:
      return cli_misuse(error, "expected a value of type %s, got \"%.100s\"", pega_type_name(type),
                        word);
  }
}

/* A word without a prefix whose parameter's type is known. */
static cli_exit parse_typed(const char *word, const pega_param *param, cli_argument *out,
                            pega_error *error) {
  if ((param->flags & PEGA_PARAM_OPTIONAL) != 0 && strcmp(word, "none") == 0) return CLI_DONE;
  uint64_t number = 0;
  switch (param->type) {
    case PEGA_TYPE_STRING:
      return parse_string(word, out, error);
    case PEGA_TYPE_BYTES:
      out->value = pega_value_bytes(word, strlen(word));
      return CLI_DONE;
    case PEGA_TYPE_DTYPE:
      return parse_dtype(word, out, error);
    case PEGA_TYPE_DEVICE:
      return parse_device(word, out, error);
    case PEGA_TYPE_FUNCTION:
      return parse_function(word, out, error);
    case PEGA_TYPE_FLOAT:
      if (parse_float(word, &out->value) == 0) return CLI_DONE;
      break;
    case PEGA_TYPE_POINTER:
    case PEGA_TYPE_STREAM:
      if (parse_uint(word, &number) == 0) return parse_pointer(word, out, error);
      break;
    default:
      break;
  }
  return parse_bare(word, param->type, out, error);
}

/* Puts which argument it was before what was wrong with it. */
static void name_argument(int index, const pega_param *param, pega_error *error) {
  pega_error plain = PEGA_ERROR_INIT;
  pega_error_copy(error, &plain);
  (void)pega_error_set(error, (pega_status)plain.status, pega_error_kind(&plain),
                       "argument %d%s%.64s%s: %s", index, param == NULL ? "" : " '",
                       param == NULL ? "" : param->name, param == NULL ? "" : "'",
                       pega_error_message(&plain));
  error->code = plain.code;
  pega_error_clear(&plain);
}

cli_exit cli_argument_parse(const char *word, int index, const pega_param *param, cli_files *files,
                            cli_argument *out, pega_error *error) {
  cli_exit code = CLI_DONE;
  int prefix = 0;
  memset(out, 0, sizeof *out);
  while (prefix < NUM_PREFIXES &&
         strncmp(word, PREFIXES[prefix].text, strlen(PREFIXES[prefix].text)) != 0) {
    ++prefix;
  }
  if (word[0] == '@') {
    if (parse_file(word + 1, files, out, error) != PEGA_OK) code = CLI_FAILED;
  } else if (prefix < NUM_PREFIXES) {
    code = PREFIXES[prefix].parse(word + strlen(PREFIXES[prefix].text), out, error);
  } else if (param != NULL) {
    code = parse_typed(word, param, out, error);
  } else {
    code = parse_bare(word, PEGA_TYPE_ANY, out, error);
  }
  if (code != CLI_DONE) name_argument(index, param, error);
  return code;
}

void cli_argument_clear(cli_argument *argument) {
  pega_value_release(&argument->owned);
  cli_tensor_clear(&argument->tensor);
  pega_function_release(argument->function);
  argument->function = NULL;
}
