/* SPDX-License-Identifier: Apache-2.0 */
/* From the text of an expression to its postfix program. */
#include "expression.h"

#include <ctype.h>
#include <stdio.h>

#include "core/text.h"

typedef struct parser {
  const char *text;
  const char *at;
  const pega_signature *signature;
  pega_instruction *code;
  int32_t size;
  int32_t stack;   /* values that the program has on its stack here */
  int32_t nesting; /* of what is being read */
  pega_error *error;
  pega_status status;
} parser;

static bool parse_or(parser *p);

__attribute__((format(printf, 2, 3), cold)) static bool fail(parser *p, const char *format, ...) {
  char what[400];
  char shown[160];
  pega_text text = {what, sizeof what, 0};
  va_list args;
  va_start(args, format);
  pega_text_vprintf(&text, format, args);
  va_end(args);
  snprintf(shown, sizeof shown, "%.120s%s", p->text, strnlen(p->text, 121) > 120 ? "..." : "");
  p->status = pega_error_set(p->error, PEGA_ERROR_FORMAT, NULL, "expression '%s', at byte %zu: %s",
                             shown, (size_t)(p->at - p->text), what);
  return false;
}

/* Appends an instruction that takes `pops` values and leaves one. */
static bool emit(parser *p, pega_op op, int pops, int32_t arg, int32_t dim, int64_t number) {
  if (p->size == kMaxExpressionSize) {
    return fail(p, "more than %d operations and operands", kMaxExpressionSize);
  }
  p->stack += 1 - pops;
  if (p->stack > kMaxExpressionDepth) {
    return fail(p, "more than %d values are needed at once", kMaxExpressionDepth);
  }
  p->code[p->size++] = (pega_instruction){(uint8_t)op, (uint8_t)dim, (uint16_t)arg, number};
  return true;
}

static void skip_blanks(parser *p) {
  while (*p->at == ' ') ++p->at;
}

/* Takes `sign` if it is next. */
static bool accept(parser *p, const char *sign) {
  skip_blanks(p);
  size_t size = strlen(sign);
  if (strncmp(p->at, sign, size) != 0) return false;
  p->at += size;
  return true;
}

static size_t word_size(const char *at) {
  size_t size = 0;
  if (!isalpha((unsigned char)*at) && *at != '_') return 0;
  while (isalnum((unsigned char)at[size]) || at[size] == '_') ++size;
  return size;
}

/* Takes `word` if it is next, whole. */
static bool accept_word(parser *p, const char *word) {
  skip_blanks(p);
  size_t size = strlen(word);
  if (word_size(p->at) != size || memcmp(p->at, word, size) != 0) return false;
  p->at += size;
  return true;
}

static bool expect(parser *p, const char *sign) {
  if (accept(p, sign)) return true;
  if (*p->at == '\0') return fail(p, "expected '%s', and the text ends", sign);
  return fail(p, "expected '%s', got '%.16s'", sign, p->at);
}

/* ---- Names ---- */

static bool same_word(const char *text, const char *word, size_t size) {
  return strncmp(text, word, size) == 0 && text[size] == '\0';
}

static int32_t find_param(const parser *p, const char *word, size_t size) {
  for (int32_t i = 0; i < p->signature->num_params; ++i) {
    if (same_word(p->signature->params[i].name, word, size)) return i;
  }
  return -1;
}

/* Which dimension of a shape, "T, HV, 64", has this name; -1 for none. */
static int32_t find_dim(const char *shape, const char *word, size_t size) {
  int32_t dim = 0;
  for (const char *at = shape; *at != '\0'; ++at) {
    if (*at == ',') ++dim;
    size_t found = word_size(at);
    if (found == size && memcmp(at, word, size) == 0) return dim;
    if (found > 0) at += found - 1;
  }
  return -1;
}

int32_t pega_shape_rank(const char *shape) {
  int32_t rank = strspn(shape, " ") == strlen(shape) ? 0 : 1;
  for (const char *at = shape; *at != '\0'; ++at) rank += *at == ',';
  return rank;
}

/* A tensor whose shape has this symbol: one that is always there, if there is one. */
static bool find_symbol(const parser *p, const char *word, size_t size, int32_t *arg,
                        int32_t *dim) {
  *arg = -1;
  if (size == 1 && *word == '_') return false;
  for (int32_t i = 0; i < p->signature->num_params; ++i) {
    const pega_param *param = &p->signature->params[i];
    if (param->type != PEGA_TYPE_TENSOR || param->shape == NULL) continue;
    int32_t found = find_dim(param->shape, word, size);
    bool optional = (param->flags & PEGA_PARAM_OPTIONAL) != 0;
    if (found < 0 || (*arg >= 0 && optional)) continue;
    *arg = i;
    *dim = found;
    if (!optional) break;
  }
  return *arg >= 0;
}

static bool push_param(parser *p, int32_t index) {
  const pega_param *param = &p->signature->params[index];
  switch (param->type) {
    case PEGA_TYPE_INT:
    case PEGA_TYPE_BOOL:
      return emit(p, kOpInt, 0, index, 0, 0);
    case PEGA_TYPE_POINTER:
    case PEGA_TYPE_TENSOR:
      return emit(p, kOpAddress, 0, index, 0, 0);
    default:
      return fail(p, "parameter '%s' is of type %s: expected an int, a bool, a pointer or a Tensor",
                  param->name, pega_type_name(param->type));
  }
}

static bool parse_name(parser *p, size_t size) {
  const char *word = p->at;
  int32_t arg = 0, dim = 0;
  int32_t param = find_param(p, word, size);
  bool symbol = find_symbol(p, word, size, &arg, &dim);
  if (param >= 0 && symbol) {
    return fail(p, "'%.*s' is both a parameter and a size in the shape of '%s': rename one",
                (int)size, word, p->signature->params[arg].name);
  }
  if (param < 0 && !symbol) {
    return fail(p, "unknown name '%.*s': no parameter, and no size in a Tensor's shape",
                size < 64 ? (int)size : 64, word);
  }
  bool pushed = param >= 0 ? push_param(p, param) : emit(p, kOpShape, 0, arg, dim, 0);
  p->at += size;
  return pushed;
}

static bool parse_number(parser *p, int64_t *number) {
  *number = 0;
  for (; isdigit((unsigned char)*p->at); ++p->at) {
    if (__builtin_mul_overflow(*number, 10, number) ||
        __builtin_add_overflow(*number, *p->at - '0', number)) {
      return fail(p, "the number is past int64");
    }
  }
  if (word_size(p->at) > 0 || *p->at == '.') {
    return fail(p, "expected a decimal integer, got '%.16s'", p->at);
  }
  return true;
}

/* shape(x, 0) and stride(x, 0), behind the name of the function. */
static bool parse_shape_of(parser *p, pega_op op) {
  int64_t dim;
  if (!expect(p, "(")) return false;
  skip_blanks(p);
  size_t size = word_size(p->at);
  int32_t arg = size == 0 ? -1 : find_param(p, p->at, size);
  if (arg < 0 || p->signature->params[arg].type != PEGA_TYPE_TENSOR) {
    return fail(p, "expected the name of a Tensor parameter, got '%.*s'",
                size == 0 || size > 64 ? 16 : (int)size, p->at);
  }
  const pega_param *param = &p->signature->params[arg];
  p->at += size;
  if (!expect(p, ",")) return false;
  skip_blanks(p);
  if (!isdigit((unsigned char)*p->at)) return fail(p, "expected the number of a dimension");
  const char *at = p->at;
  if (!parse_number(p, &dim)) return false;
  int32_t rank = param->shape == NULL ? PEGA_MAX_RANK : pega_shape_rank(param->shape);
  if (dim >= rank) {
    p->at = at;
    return fail(p, "'%s' has %d dimensions at most", param->name, (int)rank);
  }
  return expect(p, ")") && emit(p, op, 0, arg, (int32_t)dim, 0);
}

static bool parse_pair(parser *p, pega_op op) {
  return expect(p, "(") && parse_or(p) && expect(p, ",") && parse_or(p) && expect(p, ")") &&
         emit(p, op, 2, 0, 0, 0);
}

/* A call, if a word and a parenthesis are next. */
static bool parse_call(parser *p, size_t size, bool *is_call) {
  static const struct {
    const char *name;
    pega_op op;
  } functions[] = {{"cdiv", kOpCdiv}, {"min", kOpMin}, {"max", kOpMax}};
  const char *behind = p->at + size;
  while (*behind == ' ') ++behind;
  *is_call = *behind == '(';
  if (!*is_call) return true;
  if (accept_word(p, "shape")) return parse_shape_of(p, kOpShape);
  if (accept_word(p, "stride")) return parse_shape_of(p, kOpStride);
  for (size_t i = 0; i < sizeof functions / sizeof *functions; ++i) {
    if (accept_word(p, functions[i].name)) return parse_pair(p, functions[i].op);
  }
  return fail(p, "unknown function '%.*s': expected cdiv, min, max, shape or stride",
              size < 64 ? (int)size : 64, p->at);
}

/* ---- Operators ---- */

static bool parse_primary(parser *p) {
  int64_t number;
  if (accept(p, "(")) return parse_or(p) && expect(p, ")");
  if (isdigit((unsigned char)*p->at)) {
    return parse_number(p, &number) && emit(p, kOpConstant, 0, 0, 0, number);
  }
  size_t size = word_size(p->at);
  if (size > 0) {
    bool is_call;
    if (!parse_call(p, size, &is_call)) return false;
    return is_call || parse_name(p, size);
  }
  if (*p->at == '\0') return fail(p, "expected a value, and the text ends");
  return fail(p, "expected a value, got '%.16s'", p->at);
}

static bool parse_unary(parser *p) {
  if (!accept(p, "-")) return parse_primary(p);
  if (++p->nesting > kMaxExpressionDepth) return fail(p, "nested too deeply");
  bool parsed = parse_unary(p) && emit(p, kOpNeg, 1, 0, 0, 0);
  --p->nesting;
  return parsed;
}

static bool parse_product(parser *p) {
  if (!parse_unary(p)) return false;
  for (;;) {
    pega_op op;
    if (accept(p, "*")) {
      op = kOpMul;
    } else if (accept(p, "/")) {
      op = kOpDiv;
    } else if (accept(p, "%")) {
      op = kOpMod;
    } else {
      return true;
    }
    if (!parse_unary(p) || !emit(p, op, 2, 0, 0, 0)) return false;
  }
}

static bool parse_sum(parser *p) {
  if (!parse_product(p)) return false;
  for (;;) {
    pega_op op;
    if (accept(p, "+")) {
      op = kOpAdd;
    } else if (accept(p, "-")) {
      op = kOpSub;
    } else {
      return true;
    }
    if (!parse_product(p) || !emit(p, op, 2, 0, 0, 0)) return false;
  }
}

static bool accept_comparison(parser *p, pega_op *op) {
  static const struct {
    const char *sign;
    pega_op op;
  } signs[] = {{"==", kOpEq}, {"!=", kOpNe}, {"<=", kOpLe},
               {">=", kOpGe}, {"<", kOpLt},  {">", kOpGt}};
  for (size_t i = 0; i < sizeof signs / sizeof *signs; ++i) {
    *op = signs[i].op;
    if (accept(p, signs[i].sign)) return true;
  }
  return false;
}

static bool parse_comparison(parser *p) {
  pega_op op;
  if (!parse_sum(p)) return false;
  if (!accept_comparison(p, &op)) return true;
  if (!parse_sum(p) || !emit(p, op, 2, 0, 0, 0)) return false;
  return !accept_comparison(p, &op) || fail(p, "comparisons do not chain: write 'a < b and b < c'");
}

static bool parse_not(parser *p) {
  if (!accept_word(p, "not")) return parse_comparison(p);
  if (++p->nesting > kMaxExpressionDepth) return fail(p, "nested too deeply");
  bool parsed = parse_not(p) && emit(p, kOpNot, 1, 0, 0, 0);
  --p->nesting;
  return parsed;
}

static bool parse_and(parser *p) {
  if (!parse_not(p)) return false;
  while (accept_word(p, "and")) {
    if (!parse_not(p) || !emit(p, kOpAnd, 2, 0, 0, 0)) return false;
  }
  return true;
}

static bool parse_or(parser *p) {
  if (++p->nesting > kMaxExpressionDepth) return fail(p, "nested too deeply");
  bool parsed = parse_and(p);
  while (parsed && accept_word(p, "or")) {
    parsed = parse_and(p) && emit(p, kOpOr, 2, 0, 0, 0);
  }
  --p->nesting;
  return parsed;
}

pega_status pega_expression_compile(const char *text, const pega_signature *signature,
                                    pega_instruction *code, int32_t *size, pega_error *error) {
  parser p = {text, text, signature, code, 0, 0, 0, error, PEGA_OK};
  if (strnlen(text, kMaxExpressionText + 1) > kMaxExpressionText) {
    return pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                          "expression '%.40s...': longer than %d bytes", text, kMaxExpressionText);
  }
  if (!parse_or(&p)) return p.status;
  skip_blanks(&p);
  if (*p.at != '\0') {
    fail(&p, "expected an operator or the end, got '%.16s'", p.at);
    return p.status;
  }
  *size = p.size;
  return PEGA_OK;
}
