/* SPDX-License-Identifier: Apache-2.0 */
/* Reads signature files: a list of C parameters each, of which those without a "value" are the parameters of
 * the function that callers see. */
#include "c_signature.h"

#include <elf.h>
#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/signature.h"
#include "core/text.h"
#include "pack/param.h"
#include "plain_call.h"

enum { kSchemaVersion = 1 };

#define BIT(type) (1u << PEGA_TYPE_##type)

/* What each type of C holds, and what it may be to callers; the first is what it is if nothing is said. */
static const struct {
  const char *name;
  uint32_t fallback, types;
  const char *types_text;
  int64_t min, max;
} c_types[kNumCTypes] = {
    [kCPointer] = {"pointer", PEGA_TYPE_POINTER, BIT(POINTER) | BIT(TENSOR),
                   "\"pointer\" or \"Tensor\"", 0, INT64_MAX},
    [kCI8] = {"i8", PEGA_TYPE_INT, BIT(INT) | BIT(BOOL), "\"int\" or \"bool\"", INT8_MIN, INT8_MAX},
    [kCI16] = {"i16", PEGA_TYPE_INT, BIT(INT) | BIT(BOOL), "\"int\" or \"bool\"", INT16_MIN,
               INT16_MAX},
    [kCI32] = {"i32", PEGA_TYPE_INT, BIT(INT) | BIT(BOOL), "\"int\" or \"bool\"", INT32_MIN,
               INT32_MAX},
    [kCI64] = {"i64", PEGA_TYPE_INT, BIT(INT) | BIT(BOOL), "\"int\" or \"bool\"", INT64_MIN,
               INT64_MAX},
    [kCU8] = {"u8", PEGA_TYPE_INT, BIT(INT) | BIT(BOOL), "\"int\" or \"bool\"", 0, UINT8_MAX},
    [kCU16] = {"u16", PEGA_TYPE_INT, BIT(INT) | BIT(BOOL), "\"int\" or \"bool\"", 0, UINT16_MAX},
    [kCU32] = {"u32", PEGA_TYPE_INT, BIT(INT) | BIT(BOOL), "\"int\" or \"bool\"", 0, UINT32_MAX},
    [kCU64] = {"u64", PEGA_TYPE_INT, BIT(INT) | BIT(BOOL), "\"int\" or \"bool\"", 0, INT64_MAX},
    [kCSize] = {"size", PEGA_TYPE_INT, BIT(INT) | BIT(BOOL), "\"int\" or \"bool\"", 0, INT64_MAX},
    [kCF32] = {"f32", PEGA_TYPE_FLOAT, BIT(FLOAT), "\"float\"", 0, 0},
    [kCF64] = {"f64", PEGA_TYPE_FLOAT, BIT(FLOAT), "\"float\"", 0, 0},
    [kCBool] = {"bool", PEGA_TYPE_BOOL, BIT(BOOL), "\"bool\"", 0, 1},
    [kCStream] = {"stream", PEGA_TYPE_STREAM, BIT(STREAM), "\"stream\"", 0, INT64_MAX},
    [kCText] = {"cstring", PEGA_TYPE_STRING, BIT(STRING), "\"string\"", 0, 0},
};
static const char c_type_names[] =
    "\"pointer\", \"i8\", \"i16\", \"i32\", \"i64\", \"u8\", \"u16\", \"u32\", \"u64\", \"size\", "
    "\"f32\", \"f64\", \"bool\", \"stream\" or \"cstring\"";

const char *pega_c_type_name(uint8_t type) {
  return type < kNumCTypes ? c_types[type].name : "void";
}

static bool is_float(uint8_t type) { return type == kCF32 || type == kCF64; }
static bool is_int(uint8_t type) { return type >= kCI8 && type <= kCSize; }

/* The file that is being read. */
typedef struct file_reader {
  pega_json_reader reader;
  const pega_elf *elf;
  pega_c_signature *out;
} file_reader;

/* The function that is being read: C parameters, and those that callers see. */
typedef struct function_reader {
  file_reader *file;
  pega_c_function *out;
  pega_c_argument *arguments;
  pega_param *params;
} function_reader;

/* ---- Types and symbols ---- */

static bool read_c_type(pega_json_reader *reader, const pega_json *at, uint8_t *out) {
  pega_json member;
  if (!pega_json_need(reader, at, "c", &member)) return false;
  for (*out = 0; *out < kNumCTypes; ++*out) {
    if (strcmp(pega_json_text_of(member.value), c_types[*out].name) == 0) return true;
  }
  return pega_json_expected(reader, &member, c_type_names);
}

/* Whether a symbol's address is in a part of the file that is run. The file was read before: its header is
 * whole. */
static bool is_code(const pega_elf *file, uint64_t address) {
  Elf64_Ehdr header;
  if (file->bytes == NULL || !file->is_64_bit || file->size < sizeof header) return true;
  memcpy(&header, file->bytes, sizeof header);
  for (uint64_t i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    const uint64_t offset = header.e_phoff + i * sizeof segment;
    if (offset > file->size || file->size - offset < sizeof segment) return false;
    memcpy(&segment, file->bytes + offset, sizeof segment);
    if (segment.p_type == PT_LOAD && (segment.p_flags & PF_X) != 0 && address >= segment.p_vaddr &&
        address - segment.p_vaddr < segment.p_memsz) {
      return true;
    }
  }
  return false;
}

static const char *name_of_symbol(const void *self, size_t index) {
  return ((const pega_elf *)self)->defined[index].name;
}

static bool check_symbol(file_reader *file, const pega_json *at, const char *name) {
  const pega_elf_symbol *symbol = pega_elf_find_defined(file->elf, name);
  if (symbol == NULL) {
    char shown[96];
    for (int32_t i = 0; i < file->elf->num_defined; ++i) {
      const pega_elf_symbol *hidden = &file->elf->defined[i];
      if (!hidden->hidden_version || strcmp(hidden->name, name) != 0) continue;
      return pega_json_fail(&file->reader, at, PEGA_ERROR_SYMBOL,
                            "%s exports symbol '%s' of version %s alone, which is not its default: "
                            "nothing finds it by its name; export it as '%s@@%s'",
                            file->elf->path, pega_text_short_name(name, shown), hidden->version,
                            shown, hidden->version);
    }
    const char *nearest =
        pega_text_nearest(name, (size_t)file->elf->num_defined, name_of_symbol, file->elf);
    return pega_json_fail(&file->reader, at, PEGA_ERROR_SYMBOL, "%s exports no symbol '%s'%s%s%s",
                          file->elf->path, pega_text_short_name(name, shown),
                          nearest == NULL ? "" : "; the nearest is '",
                          nearest == NULL ? "" : nearest, nearest == NULL ? "" : "'");
  }
  if (is_code(file->elf, symbol->address)) return true;
  return pega_json_fail(&file->reader, at, PEGA_ERROR_SYMBOL, "symbol '%s' of %s is no function",
                        name, file->elf->path);
}

/* ---- What a parameter is to callers ---- */

static const char *const seen_fields[] = {
    "name",   "c",         "type",  "doc",   "domain",     "optional", "min",     "max", "nonnull",
    "output", "alignment", "dtype", "shape", "contiguous", "device",   "default", NULL};
static const char *const computed_fields[] = {"name", "c", "doc", "value", NULL};

static bool read_device(function_reader *function, const pega_json *at, pega_param *out) {
  pega_json_reader *reader = &function->file->reader;
  pega_json member;
  if (!pega_json_get(at, "device", &member)) {
    out->device_type = function->file->out->needs.uses_cuda ? kDLCUDA : kDLCPU;
    return true;
  }
  if (out->type != PEGA_TYPE_TENSOR) {
    return pega_json_fail(reader, &member, PEGA_ERROR_FORMAT, "only a Tensor has a device");
  }
  const char *name = pega_json_text_of(member.value);
  DLDevice device;
  if (strcmp(name, "any") == 0) return true;
  if (strchr(name, ':') != NULL || pega_device_parse(name, &device, NULL) != PEGA_OK) {
    return pega_json_expected(reader, &member, "\"cpu\", \"cuda\", \"any\" or another device type");
  }
  out->device_type = (int32_t)device.device_type;
  return true;
}

/* The range of an int is its type's, or a part of it. */
static bool read_int_range(pega_json_reader *reader, const pega_json *at, uint8_t type,
                           pega_param *out) {
  if ((out->flags & PEGA_PARAM_RANGE) == 0) {
    out->min = c_types[type].min;
    out->max = c_types[type].max;
    if (type != kCI64) out->flags |= PEGA_PARAM_RANGE;
    return true;
  }
  if (out->min >= c_types[type].min && out->max <= c_types[type].max) return true;
  return pega_json_fail(reader, at, PEGA_ERROR_RANGE,
                        "min %" PRId64 " and max %" PRId64 ": a %s holds %" PRId64 " to %" PRId64,
                        out->min, out->max, c_types[type].name, c_types[type].min,
                        c_types[type].max);
}

static uint64_t float_word(uint8_t type, double number) {
  uint64_t word = 0;
  if (type == kCF32) {
    /* Past the greatest float is infinity, as the conversion of hardware has it. */
    const float narrow = (float)number;
    memcpy(&word, &narrow, sizeof narrow);
  } else {
    memcpy(&word, &number, sizeof number);
  }
  return word;
}

/* A number, true or false as it is written, as the word of an argument. */
static bool read_scalar(pega_json_reader *reader, const pega_json *at, uint8_t type, int64_t min,
                        int64_t max, uint64_t *out) {
  if (is_float(type)) {
    double number;
    if (!pega_json_number(reader, at, &number)) return false;
    if (type == kCF32 && fabs(number) > FLT_MAX) {
      return pega_json_expected(reader, at, "a number that a float holds");
    }
    *out = float_word(type, number);
    return true;
  }
  int64_t number;
  if (pega_json_is_bool(at->value) && (type == kCBool || is_int(type))) {
    *out = pega_json_is(at->value, kJsonTrue);
    return true;
  }
  if (type == kCBool) return pega_json_expected(reader, at, "true or false");
  if (!pega_json_int(reader, at, min, max, &number)) return false;
  *out = (uint64_t)number;
  return true;
}

/* What None stands for. */
static bool read_default(pega_json_reader *reader, const pega_json *at, pega_param *param,
                         pega_c_argument *out) {
  const bool scalar = is_int(out->type) || is_float(out->type) || out->type == kCBool;
  pega_json member;
  if (!pega_json_get(at, "default", &member)) {
    out->optional = (param->flags & PEGA_PARAM_OPTIONAL) != 0;
    if (!scalar || !out->optional) return true;
    return pega_json_fail(reader, at, PEGA_ERROR_FORMAT,
                          "an optional %s needs a 'default', which None stands for",
                          c_types[out->type].name);
  }
  if (!scalar) {
    return pega_json_fail(reader, &member, PEGA_ERROR_FORMAT,
                          "a %s has no default: if it is optional, None is NULL",
                          c_types[out->type].name);
  }
  param->flags |= PEGA_PARAM_OPTIONAL;
  out->optional = true;
  return read_scalar(reader, &member, out->type, param->min, param->max, &out->fallback);
}

static bool read_seen(function_reader *function, const pega_json *at, pega_c_argument *out) {
  pega_json_reader *reader = &function->file->reader;
  pega_signature *signature = &function->out->signature;
  pega_param *param = &function->params[signature->num_params];
  pega_json member;
  const pega_param_words words = {seen_fields, c_types[out->type].types,
                                  c_types[out->type].types_text, c_types[out->type].fallback};
  if (!pega_param_read(reader, at, &words, param)) return false;
  if (param->type == PEGA_TYPE_TENSOR) {
    /* C sees no strides: who declares a tensor that has some passes them on. */
    if (!pega_json_get(at, "contiguous", &member)) param->flags |= PEGA_PARAM_CONTIGUOUS;
    out->source = kFromTensor;
  } else if (param->type == PEGA_TYPE_BOOL) {
    out->source = kFromBool;
  } else if (param->type == PEGA_TYPE_FLOAT) {
    out->source = out->type == kCF32 ? kFromF32 : kFromF64;
  } else if (param->type == PEGA_TYPE_STRING) {
    out->source = kFromText;
    function->out->has_text = true;
  } else {
    out->source = kFromWord;
  }
  if (param->type == PEGA_TYPE_TENSOR || pega_json_get(at, "device", &member)) {
    if (!read_device(function, at, param)) return false;
  }
  if (param->type == PEGA_TYPE_INT && !read_int_range(reader, at, out->type, param)) return false;
  if (param->type == PEGA_TYPE_BOOL) param->max = 1;
  if (!read_default(reader, at, param, out)) return false;
  if (param->type == PEGA_TYPE_BOOL) param->max = 0;
  out->arg = (int16_t)signature->num_params++;
  return true;
}

/* ---- What is computed ---- */

/* Text of an expression, compiled. */
static bool read_expression(function_reader *function, const pega_json *at, pega_expression *out) {
  pega_json_reader *reader = &function->file->reader;
  pega_instruction code[kMaxExpressionSize];
  pega_error error = PEGA_ERROR_INIT;
  if (!pega_json_text(reader, at, 1, kMaxExpressionText, &out->text)) return false;
  if (pega_expression_compile(out->text, &function->out->signature, code, &out->size, &error) !=
      PEGA_OK) {
    return pega_json_wrap(reader, at, &error);
  }
  pega_instruction *kept = pega_arena_alloc(reader->arena, (size_t)out->size, sizeof *kept);
  if (kept == NULL) return pega_json_out_of_memory(reader);
  memcpy(kept, code, (size_t)out->size * sizeof *kept);
  out->code = kept;
  return true;
}

/* The member "value" of a parameter, when all that callers see is known. */
static bool read_value(function_reader *function, const pega_json *at, pega_c_argument *out) {
  pega_json_reader *reader = &function->file->reader;
  const pega_signature *signature = &function->out->signature;
  pega_json member;
  const char *text;
  if (!pega_json_get(at, "value", &member)) return true;
  const bool is_text = pega_json_is(member.value, kJsonString);
  out->source = kFromConstant;
  if (out->type == kCText) {
    if (!pega_json_text(reader, &member, 0, kMaxText, &text)) return false;
    out->fallback = (uint64_t)(uintptr_t)text;
    return true;
  }
  if ((out->type == kCPointer || out->type == kCStream) && pega_json_is(member.value, kJsonNull)) {
    return true;
  }
  if (out->type == kCStream) {
    if (strcmp(pega_json_text_of(member.value), "current") != 0) {
      return pega_json_expected(reader, &member, "\"current\" or null");
    }
    out->source = kFromStream;
    if (function->out->tensor >= 0) return true;
    return pega_json_fail(reader, &member, PEGA_ERROR_FORMAT,
                          "a current stream is a device's, and this function has no Tensor that is "
                          "not optional to tell which: leave 'value' out, and the stream is an "
                          "argument");
  }
  if (!is_text && out->type != kCPointer) {
    return read_scalar(reader, &member, out->type, out->min, out->max, &out->fallback);
  }
  if (!is_text) return pega_json_expected(reader, &member, "an expression or null");
  if (!read_expression(function, &member, &out->value)) return false;
  out->source = kFromExpression;
  const pega_instruction *first = out->value.code;
  if (out->value.size == 1 && first->op == kOpShape && is_int(out->type) &&
      (signature->params[first->arg].flags & PEGA_PARAM_OPTIONAL) == 0) {
    out->source = kFromSize;
    out->arg = (int16_t)first->arg;
    out->dim = first->dim;
  }
  return true;
}

/* ---- A function ---- */

static bool read_param(function_reader *function, const pega_json *at, int32_t index) {
  pega_json_reader *reader = &function->file->reader;
  pega_c_argument *out = &function->arguments[index];
  pega_json member;
  if (!pega_json_is(at->value, kJsonObject)) return pega_json_expected(reader, at, "an object");
  const bool computed = pega_json_get(at, "value", &member);
  if (!pega_json_fields(reader, at, computed ? computed_fields : seen_fields) ||
      !read_c_type(reader, at, &out->type) ||
      !pega_json_need_text(reader, at, "name", 1, 64, &out->name)) {
    return false;
  }
  for (int32_t i = 0; i < index; ++i) {
    if (strcmp(function->arguments[i].name, out->name) != 0) continue;
    return pega_json_fail(reader, at, PEGA_ERROR_FORMAT, "the name '%s' is used twice", out->name);
  }
  out->arg = -1;
  out->min = c_types[out->type].min;
  out->max = c_types[out->type].max;
  return computed || read_seen(function, at, out);
}

/* The calling convention: registers for the first of each kind, then the stack, in order. */
static void place_arguments(function_reader *function) {
  int32_t ints = 0, floats = 0;
  for (int32_t i = 0; i < function->out->num_arguments; ++i) {
    pega_c_argument *argument = &function->arguments[i];
    if (is_float(argument->type) && floats < kPlainFloats) {
      argument->place = (uint8_t)(kPlainFloatsAt + floats++);
    } else if (!is_float(argument->type) && ints < kPlainInts) {
      argument->place = (uint8_t)ints++;
    } else {
      argument->place = (uint8_t)(kPlainStackAt + function->out->num_stack++);
    }
  }
}

/* The tensor whose device is the function's: the first CUDA tensor, or the first of any kind, that has to
 * be there. */
static int32_t find_tensor(const pega_signature *signature) {
  int32_t found = -1;
  for (int32_t i = 0; i < signature->num_params; ++i) {
    const pega_param *param = &signature->params[i];
    if (param->type != PEGA_TYPE_TENSOR || (param->flags & PEGA_PARAM_OPTIONAL) != 0) continue;
    if (param->device_type == kDLCUDA) return i;
    if (found < 0) found = i;
  }
  return found;
}

static bool read_params(function_reader *function, const pega_json *at) {
  pega_json_reader *reader = &function->file->reader;
  pega_c_function *out = function->out;
  const pega_signature empty = PEGA_SIGNATURE_INIT;
  pega_json array;
  size_t count;
  if (!pega_json_need(reader, at, "params", &array) ||
      !pega_json_array(reader, &array, 0, kMaxCArguments, &count)) {
    return false;
  }
  function->arguments = pega_arena_alloc(reader->arena, count, sizeof *function->arguments);
  function->params = pega_arena_alloc(reader->arena, count, sizeof *function->params);
  if (function->arguments == NULL || function->params == NULL) {
    return pega_json_out_of_memory(reader);
  }
  out->signature = empty;
  out->signature.params = function->params;
  out->arguments = function->arguments;
  out->num_arguments = (int32_t)count;
  for (int32_t i = 0; i < out->num_arguments; ++i) {
    const pega_json item = pega_json_item(&array, (size_t)i);
    if (!read_param(function, &item, i)) return false;
  }
  out->tensor = find_tensor(&out->signature);
  for (int32_t i = 0; i < out->num_arguments; ++i) {
    const pega_json item = pega_json_item(&array, (size_t)i);
    if (!read_value(function, &item, &function->arguments[i])) return false;
  }
  place_arguments(function);
  return true;
}

static bool read_constraints(function_reader *function, const pega_json *at) {
  pega_json_reader *reader = &function->file->reader;
  pega_json array;
  size_t count;
  if (!pega_json_get(at, "constraints", &array)) return true;
  if (!pega_json_array(reader, &array, 0, kMaxCConstraints, &count)) return false;
  pega_expression *constraints = pega_arena_alloc(reader->arena, count, sizeof *constraints);
  if (constraints == NULL) return pega_json_out_of_memory(reader);
  for (size_t i = 0; i < count; ++i) {
    const pega_json item = pega_json_item(&array, i);
    if (!read_expression(function, &item, &constraints[i])) return false;
  }
  function->out->constraints = constraints;
  function->out->num_constraints = (int32_t)count;
  return true;
}

/* Tensors are on one device unless it is said, or their kinds of device say, that they are not. */
static bool read_same_device(function_reader *function, const pega_json *at) {
  pega_signature *signature = &function->out->signature;
  int32_t device = -1;
  bool same = true;
  for (int32_t i = 0; i < signature->num_params; ++i) {
    if (signature->params[i].type != PEGA_TYPE_TENSOR) continue;
    if (device >= 0 && device != signature->params[i].device_type) same = false;
    device = signature->params[i].device_type;
  }
  if (!pega_json_bool_or(&function->file->reader, at, "same_device", same, &same)) return false;
  if (same) signature->flags |= PEGA_SIGNATURE_SAME_DEVICE;
  return true;
}

static bool read_returns(function_reader *function, const pega_json *at) {
  static const char *const fields[] = {"c", "status", "last_error", NULL};
  static const char *const domains[] = {"", "cuda driver", "cuda runtime", "errno", "own"};
  pega_json_reader *reader = &function->file->reader;
  pega_c_function *out = function->out;
  pega_json returns, member;
  if (!pega_json_need(reader, at, "returns", &returns)) return false;
  if (strcmp(pega_json_text_of(returns.value), "void") == 0) {
    out->result = kCVoid;
    return true;
  }
  if (!pega_json_is(returns.value, kJsonObject)) {
    return pega_json_expected(
        reader, &returns, "\"void\" or an object such as {\"c\": \"i32\", \"status\": \"own\"}");
  }
  if (!pega_json_fields(reader, &returns, fields) || !read_c_type(reader, &returns, &out->result)) {
    return false;
  }
  if (pega_json_get(&returns, "status", &member)) {
    for (uint8_t i = kDomainCudaDriver; i <= kDomainOwn; ++i) {
      if (strcmp(pega_json_text_of(member.value), domains[i]) == 0) out->domain = i;
    }
    if (out->domain == kDomainNone) {
      return pega_json_expected(reader, &member,
                                "\"cuda driver\", \"cuda runtime\", \"errno\" or \"own\"");
    }
    if (out->result != kCI32) {
      pega_json_get(&returns, "c", &member);
      return pega_json_expected(reader, &member, "\"i32\" for a status");
    }
  } else {
    out->signature.result = c_types[out->result].fallback;
  }
  if (!pega_json_get(&returns, "last_error", &member)) return true;
  if (out->domain == kDomainNone) {
    return pega_json_fail(reader, &member, PEGA_ERROR_FORMAT, "only a status has a last_error");
  }
  return pega_json_text(reader, &member, 1, PEGA_MAX_NAME, &out->last_error) &&
         check_symbol(function->file, &member, out->last_error);
}

static bool read_function(file_reader *file, const pega_json *at, pega_c_function *out) {
  static const char *const fields[] = {"name",    "symbol",      "doc",         "params",
                                       "returns", "same_device", "constraints", NULL};
  pega_json_reader *reader = &file->reader;
  function_reader function = {file, out, NULL, NULL};
  pega_function *checked;
  pega_json member;
  if (!pega_json_fields(reader, at, fields) ||
      !pega_json_need_text(reader, at, "name", 1, PEGA_MAX_NAME, &out->name) ||
      !pega_json_text_or(reader, at, "symbol", out->name, &out->symbol) ||
      !pega_json_text_or(reader, at, "doc", "", &out->doc) || !read_params(&function, at) ||
      !read_constraints(&function, at) || !read_same_device(&function, at) ||
      !read_returns(&function, at)) {
    return false;
  }
  if (!pega_json_get(at, "symbol", &member)) member = *at;
  if (!check_symbol(file, &member, out->symbol)) return false;
  /* Who makes a function of it later can then only run out of memory. */
  checked = pega_param_function(reader, at, out->name, out->doc, &out->signature);
  if (checked == NULL) return false;
  pega_function_release(checked);
  return true;
}

/* ---- The file ---- */

static int compare_functions(const void *a, const void *b) {
  return strcmp(((const pega_c_function *)a)->name, ((const pega_c_function *)b)->name);
}

static bool read_functions(file_reader *file, const pega_json *root) {
  pega_json_reader *reader = &file->reader;
  pega_json array;
  size_t count;
  if (!pega_json_need(reader, root, "functions", &array) ||
      !pega_json_array(reader, &array, 1, kMaxCFunctions, &count)) {
    return false;
  }
  pega_c_function *functions = pega_arena_alloc(reader->arena, count, sizeof *functions);
  if (functions == NULL) return pega_json_out_of_memory(reader);
  for (size_t i = 0; i < count; ++i) {
    const pega_json item = pega_json_item(&array, i);
    if (!read_function(file, &item, &functions[i])) return false;
  }
  qsort(functions, count, sizeof *functions, compare_functions);
  for (size_t i = 1; i < count; ++i) {
    if (strcmp(functions[i - 1].name, functions[i].name) != 0) continue;
    return pega_json_fail(reader, &array, PEGA_ERROR_FORMAT, "the name '%s' is used twice",
                          functions[i].name);
  }
  file->out->functions = functions;
  file->out->num_functions = (int32_t)count;
  return true;
}

/* "12.4" as 12040. */
static bool read_driver(pega_json_reader *reader, const pega_json *at, int32_t *out) {
  pega_json member;
  if (!pega_json_get(at, "cuda_driver", &member)) return true;
  int32_t numbers[2] = {0, 0};
  const char *text = pega_json_text_of(member.value);
  for (int i = 0; i < 2; ++i) {
    int digits = 0;
    for (; *text >= '0' && *text <= '9' && digits < 3; ++digits) {
      numbers[i] = 10 * numbers[i] + (*text++ - '0');
    }
    if (digits == 0 || (i == 0 && *text++ != '.')) {
      return pega_json_expected(reader, &member, "a version such as \"12.4\"");
    }
  }
  if (*text != '\0' || numbers[1] > 99) {
    return pega_json_expected(reader, &member, "a version such as \"12.4\"");
  }
  *out = numbers[0] * 1000 + numbers[1] * 10;
  return true;
}

/* A path of the signature file's is relative to that file's folder, whatever folder the process is in. */
static bool settle_path(file_reader *file, const char **path) {
  const char *source = file->out->source;
  const char *slash = strrchr(source, '/');
  if (slash == NULL || (*path)[0] == '/' || strchr(*path, '/') == NULL) return true;
  size_t folder = (size_t)(slash - source) + 1;
  size_t size = strlen(*path);
  char *whole = malloc(folder + size);
  if (whole != NULL) {
    memcpy(whole, source, folder);
    memcpy(whole + folder, *path, size);
    *path = pega_arena_text(file->reader.arena, whole, folder + size);
  }
  bool done = whole != NULL && *path != NULL;
  free(whole);
  return done || pega_json_out_of_memory(&file->reader);
}

static bool read_requires(file_reader *file, const pega_json *root) {
  static const char *const fields[] = {"libraries", "cuda_driver", NULL};
  pega_json_reader *reader = &file->reader;
  pega_c_library_needs *needs = &file->out->needs;
  pega_json requires, array;
  size_t count;
  if (!pega_json_get(root, "requires", &requires)) return true;
  if (!pega_json_fields(reader, &requires, fields) ||
      !read_driver(reader, &requires, &needs->cuda_driver)) {
    return false;
  }
  if (!pega_json_get(&requires, "libraries", &array)) return true;
  if (!pega_json_array(reader, &array, 0, 64, &count)) return false;
  const char **libraries = pega_arena_alloc(reader->arena, count, sizeof *libraries);
  if (libraries == NULL) return pega_json_out_of_memory(reader);
  for (size_t i = 0; i < count; ++i) {
    const pega_json item = pega_json_item(&array, i);
    if (!pega_json_text(reader, &item, 1, 4095, &libraries[i]) ||
        !settle_path(file, &libraries[i])) {
      return false;
    }
  }
  needs->libraries = libraries;
  needs->num_libraries = (int32_t)count;
  return true;
}

static bool read_root(file_reader *file, const pega_json *root) {
  static const char *const fields[] = {"$schema",   "schema_version", "doc", "requires",
                                       "uses_cuda", "functions",      NULL};
  pega_json_reader *reader = &file->reader;
  const char *text;
  int64_t version;
  /* Of another version nothing else is known. */
  if (!pega_json_need_int(reader, root, "schema_version", 1, INT64_MAX, &version)) return false;
  if (version != kSchemaVersion) {
    return pega_json_fail(reader, root, PEGA_ERROR_VERSION,
                          "schema_version %" PRId64 ": this library reads %d; use a newer one",
                          version, kSchemaVersion);
  }
  return pega_json_fields(reader, root, fields) &&
         pega_json_text_or(reader, root, "$schema", "", &text) &&
         pega_json_text_or(reader, root, "doc", "", &text) &&
         pega_json_bool_or(reader, root, "uses_cuda", false, &file->out->needs.uses_cuda) &&
         read_requires(file, root) && read_functions(file, root);
}

/* The whole file with a NUL behind it, to be freed. */
static pega_status read_file(const char *path, char **out, size_t *size, pega_error *error) {
  uint64_t length = 0;
  int fd;
  pega_status status = pega_elf_open_file(path, "a signature file", &fd, &length, error);
  if (status != PEGA_OK) return status;
  if (length > kMaxSignatureFile) {
    close(fd);
    return pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                          "%s: %" PRIu64 " bytes: a signature file has at most %d", path, length,
                          kMaxSignatureFile);
  }
  char *text = malloc((size_t)length + 1);
  size_t got = 0;
  ssize_t last = 1;
  while (text != NULL && got < length && last > 0) {
    last = read(fd, text + got, (size_t)length - got);
    if (last > 0) got += (size_t)last;
    if (last < 0 && errno == EINTR) last = 1;
  }
  const int why = errno;
  close(fd);
  if (text == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "%s: no memory to read it", path);
  }
  if (got < length) {
    free(text);
    return pega_error_set(error, PEGA_ERROR_IO, NULL, "%s: cannot be read to its end: %s", path,
                          last < 0 ? strerror(why) : "it became shorter");
  }
  text[got] = '\0';
  *out = text;
  *size = got;
  return PEGA_OK;
}

pega_status pega_c_signature_read(const pega_elf *file, const char *path, pega_arena *arena,
                                  pega_c_signature *out, pega_error *error) {
  file_reader reader = {{path, arena, error, PEGA_OK, "signature file: "}, file, out};
  pega_arena document = {NULL};
  pega_json_value value;
  const pega_json root = {NULL, NULL, 0, &value};
  char *text = NULL;
  size_t size = 0;
  pega_status status = read_file(path, &text, &size, error);
  if (status != PEGA_OK) return status;
  memset(out, 0, sizeof *out);
  out->library = pega_arena_text(arena, file->path, strlen(file->path));
  out->source = pega_arena_text(arena, path, strlen(path));
  bool read = out->library != NULL && out->source != NULL;
  if (!read) pega_json_out_of_memory(&reader.reader);
  read = read && pega_json_parse(&reader.reader, text, size, &document, &value) &&
         read_root(&reader, &root);
  pega_arena_free(&document);
  free(text);
  return read ? PEGA_OK : reader.reader.status;
}
