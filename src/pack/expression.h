/* SPDX-License-Identifier: Apache-2.0 */
/* Integer expressions over a call's arguments: grids, scalar parameters, conditions of variants.
 *
 *   names       a number parameter, a symbol of the shapes ("T"), a pointer or tensor (its address)
 *   shape(x, 0), stride(x, 0)   of a tensor; strides in elements
 *   + - * / % ( )   / and % round down; dividing by 0 fails
 *   == != < <= > >= and or not   give 1 or 0; both sides of and, or are evaluated
 *   cdiv(a, b), min(a, b), max(a, b)
 *
 * Everything is int64 and every operation is checked. */
#ifndef PEGA_PACK_EXPRESSION_H_
#define PEGA_PACK_EXPRESSION_H_

#include "pega/pega.h"

typedef enum pega_op {
  kOpConstant, /* pushes `number` */
  kOpInt,      /* pushes args[arg].as.i64 (int, uint that fits, bool) */
  kOpAddress,  /* pushes the address of pointer or tensor args[arg]; None is 0 */
  kOpShape,    /* pushes size `dim` of tensor args[arg] */
  kOpStride,   /* pushes stride `dim` of tensor args[arg], in elements */
  kOpAdd,
  kOpSub,
  kOpMul,
  kOpDiv,
  kOpMod,
  kOpCdiv,
  kOpMin,
  kOpMax,
  kOpNeg,
  kOpEq,
  kOpNe,
  kOpLt,
  kOpLe,
  kOpGt,
  kOpGe,
  kOpAnd,
  kOpOr,
  kOpNot
} pega_op;

typedef struct pega_instruction {
  uint8_t op; /* a pega_op */
  uint8_t dim;
  uint16_t arg;
  int64_t number;
} pega_instruction;

enum { kMaxExpressionSize = 64, kMaxExpressionDepth = 16, kMaxExpressionText = 512 };

/* Compiled: a postfix program. An empty one (size 0) has no value. */
typedef struct pega_expression {
  const pega_instruction *code;
  int32_t size;
  const char *text; /* as written, for errors */
} pega_expression;

/* Compiles `text` against a signature's parameters. `code`, with room for kMaxExpressionSize
 * instructions, receives the program; `size` their number. PEGA_ERROR_FORMAT says where in the text and why. */
pega_status pega_expression_compile(const char *text, const pega_signature *signature,
                                    pega_instruction *code, int32_t *size, pega_error *error);

/* Evaluates on checked arguments. PEGA_ERROR_RANGE for overflow or division by zero, with the text.
 * No allocation, no lock. */
pega_status pega_expression_evaluate(const pega_expression *expression, const pega_value *args,
                                     int64_t *out, pega_error *error);

/* Number of dimensions of a signature's well-formed shape, "T, HV, 64". */
int32_t pega_shape_rank(const char *shape);

#endif /* PEGA_PACK_EXPRESSION_H_ */
