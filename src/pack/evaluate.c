/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the postfix programs of expressions: on the way of every launch. */
#include <inttypes.h>

#include "expression.h"

__attribute__((cold, noinline)) static pega_status fail(const pega_expression *expression,
                                                        const char *why, int32_t arg,
                                                        pega_status status, pega_error *error) {
  if (arg < 0) {
    return pega_error_set(error, status, NULL, "expression '%s': %s", expression->text, why);
  }
  return pega_error_set(error, status, NULL, "expression '%s': argument %" PRId32 " %s",
                        expression->text, arg, why);
}

/* Why it cannot be had as an integer, or NULL. */
static const char *load_int(const pega_value *value, int64_t *out) {
  switch (value->kind) {
    case PEGA_INT:
      *out = value->as.i64;
      return NULL;
    case PEGA_BOOL:
      *out = value->as.boolean ? 1 : 0;
      return NULL;
    case PEGA_UINT:
      *out = (int64_t)value->as.u64;
      return value->as.u64 > INT64_MAX ? "is past int64" : NULL;
    default:
      return "is no integer";
  }
}

static const char *load_address(const pega_value *value, int64_t *out) {
  uint64_t address = 0;
  switch (value->kind) {
    case PEGA_NONE:
      break;
    case PEGA_INT:
    case PEGA_UINT:
    case PEGA_POINTER:
      address = value->as.u64;
      break;
    case PEGA_TENSOR:
      address = (uint64_t)(uintptr_t)pega_tensor_data(pega_value_as_tensor(value));
      break;
    default:
      return "has no address";
  }
  *out = (int64_t)address;
  return address > INT64_MAX ? "is no address below 2^63" : NULL;
}

static const char *load_size(const pega_value *value, uint8_t dim, bool stride, int64_t *out) {
  const DLTensor *tensor = pega_value_as_tensor(value);
  if (tensor == NULL) return "is no tensor";
  if (dim >= tensor->ndim) return "has too few dimensions";
  if (!stride) {
    *out = tensor->shape[dim];
    return NULL;
  }
  if (tensor->strides != NULL) {
    *out = tensor->strides[dim];
    return NULL;
  }
  *out = 1;
  for (int32_t i = tensor->ndim - 1; i > (int32_t)dim; --i) {
    if (__builtin_mul_overflow(*out, tensor->shape[i], out)) return "has a stride past int64";
  }
  return NULL;
}

/* Division that rounds down, or up. */
static const char *divide(int64_t a, int64_t b, bool up, int64_t *out) {
  if (b == 0) return "division by zero";
  if (a == INT64_MIN && b == -1) return "overflow of int64";
  *out = a / b;
  if (a % b != 0) {
    bool positive = (a < 0) == (b < 0);
    if (up && positive) ++*out;
    if (!up && !positive) --*out;
  }
  return NULL;
}

static const char *modulo(int64_t a, int64_t b, int64_t *out) {
  if (b == 0) return "division by zero";
  *out = b == -1 ? 0 : a % b;
  if (*out != 0 && (*out < 0) != (b < 0)) *out += b;
  return NULL;
}

static const char *overflows(bool overflow) { return overflow ? "overflow of int64" : NULL; }

static const char *combine(pega_op op, int64_t a, int64_t b, int64_t *out) {
  switch (op) {
    case kOpAdd:
      return overflows(__builtin_add_overflow(a, b, out));
    case kOpSub:
      return overflows(__builtin_sub_overflow(a, b, out));
    case kOpMul:
      return overflows(__builtin_mul_overflow(a, b, out));
    case kOpDiv:
      return divide(a, b, false, out);
    case kOpCdiv:
      return divide(a, b, true, out);
    case kOpMod:
      return modulo(a, b, out);
    case kOpMin:
      *out = a < b ? a : b;
      return NULL;
    case kOpMax:
      *out = a > b ? a : b;
      return NULL;
    case kOpEq:
      *out = a == b;
      return NULL;
    case kOpNe:
      *out = a != b;
      return NULL;
    case kOpLt:
      *out = a < b;
      return NULL;
    case kOpLe:
      *out = a <= b;
      return NULL;
    case kOpGt:
      *out = a > b;
      return NULL;
    case kOpGe:
      *out = a >= b;
      return NULL;
    case kOpAnd:
      *out = a != 0 && b != 0;
      return NULL;
    case kOpOr:
      *out = a != 0 || b != 0;
      return NULL;
    default:
      return "unknown operation";
  }
}

/* a / b rounded up, a >= 0, b > 0. Tiles are powers of two, and a division takes longer than the rest. */
static inline int64_t ceiling(int64_t a, int64_t b) {
  if ((b & (b - 1)) == 0) {
    return (int64_t)(((uint64_t)a + (uint64_t)b - 1) >> __builtin_ctzll((uint64_t)b));
  }
  return a / b + (a % b != 0);
}

/* Whether a division can be a narrow one, which takes a fraction of the time. */
static inline bool narrow(int64_t a, int64_t b) {
  return ((uint64_t)a | (uint64_t)b) >> 32 == 0 && b != 0;
}

/* An instruction that something can be wrong with; `top` is the last value on the stack, which
 * grows and shrinks as the caller knows. */
__attribute__((cold, noinline)) static const char *step(const pega_instruction *at,
                                                        const pega_value *args, int64_t *top) {
  switch (at->op) {
    case kOpInt:
      return load_int(&args[at->arg], top + 1);
    case kOpAddress:
      return load_address(&args[at->arg], top + 1);
    case kOpShape:
    case kOpStride:
      return load_size(&args[at->arg], at->dim, at->op == kOpStride, top + 1);
    case kOpNeg:
      return overflows(__builtin_sub_overflow((int64_t)0, *top, top));
    case kOpNot:
      *top = *top == 0;
      return NULL;
    default:
      return combine((pega_op)at->op, top[-1], top[0], &top[-1]);
  }
}

pega_status pega_expression_evaluate(const pega_expression *expression, const pega_value *args,
                                     int64_t *out, pega_error *error) {
  int64_t stack[1 + kMaxExpressionDepth];
  int64_t *top = stack;
  if (expression->size == 0) {
    return pega_error_set(error, PEGA_ERROR_INTERNAL, NULL, "an empty expression has no value");
  }
  const pega_instruction *at = expression->code;
  const pega_instruction *const end = at + expression->size;
  for (; at != end; ++at) {
    /* The commonest first, where nothing can go wrong with them. */
    const pega_value *value = &args[at->arg];
    switch (at->op) {
      case kOpConstant:
        *++top = at->number;
        continue;
      case kOpInt:
        if (value->kind != PEGA_INT) break;
        *++top = value->as.i64;
        continue;
      case kOpAddress:
        if (value->kind != PEGA_POINTER || value->as.i64 < 0) break;
        *++top = value->as.i64;
        continue;
      case kOpCdiv:
        if (top[-1] < 0 || top[0] <= 0) break;
        --top;
        *top = ceiling(top[0], top[1]);
        continue;
      case kOpDiv:
        if (!narrow(top[-1], top[0])) break;
        --top;
        *top = (uint32_t)top[0] / (uint32_t)top[1];
        continue;
      case kOpMod:
        if (!narrow(top[-1], top[0])) {
          /* Of an address by a power of two. */
          if (top[-1] < 0 || top[0] <= 0 || (top[0] & (top[0] - 1)) != 0) break;
          --top;
          *top = top[0] & (top[1] - 1);
          continue;
        }
        --top;
        *top = (uint32_t)top[0] % (uint32_t)top[1];
        continue;
      case kOpMul:
        if (__builtin_mul_overflow(top[-1], top[0], &top[-1])) {
          return fail(expression, "overflow of int64", -1, PEGA_ERROR_RANGE, error);
        }
        --top;
        continue;
      case kOpMin:
        --top;
        *top = top[0] < top[1] ? top[0] : top[1];
        continue;
      case kOpOr:
        --top;
        *top = (top[0] != 0) | (top[1] != 0);
        continue;
      case kOpEq:
        --top;
        *top = top[0] == top[1];
        continue;
      case kOpNe:
        --top;
        *top = top[0] != top[1];
        continue;
      case kOpLe:
        --top;
        *top = top[0] <= top[1];
        continue;
      default:
        break;
    }
    const char *why = step(at, args, top);
    const bool loads = at->op >= kOpInt && at->op <= kOpStride;
    if (__builtin_expect(why != NULL, 0)) {
      return fail(expression, why, loads ? at->arg : -1, PEGA_ERROR_RANGE, error);
    }
    if (loads) {
      ++top;
    } else if (at->op != kOpNeg && at->op != kOpNot) {
      --top;
    }
  }
  *out = *top;
  return PEGA_OK;
}
