/* SPDX-License-Identifier: Apache-2.0 */
/* What a signature file says of a library of plain C functions, as checked data (docs/c-library.md). All of
 * it is immutable and lives as long as its arena. */
#ifndef PEGA_ARTIFACT_C_SIGNATURE_H_
#define PEGA_ARTIFACT_C_SIGNATURE_H_

#include "c_library.h"
#include "pack/arena.h"
#include "pack/expression.h"

enum {
  kMaxCFunctions = 4096,
  kMaxCArguments = 64,
  kMaxCConstraints = 16,
  kMaxCText = 4096, /* bytes of all texts that a call passes, with their NULs */
  kMaxSignatureFile = 8 << 20
};

/* A type of C, as a parameter or result. */
typedef enum pega_c_type {
  kCPointer,
  kCI8,
  kCI16,
  kCI32,
  kCI64,
  kCU8,
  kCU16,
  kCU32,
  kCU64,
  kCSize,
  kCF32,
  kCF64,
  kCBool,
  kCStream,
  kCText, /* const char *, NUL-terminated */
  kNumCTypes,
  kCVoid = kNumCTypes /* of a result alone */
} pega_c_type;

/* Name of a type in signature files, "i32". */
const char *pega_c_type_name(uint8_t type);

/* Where an argument's word comes from. `arg` is the function's parameter. */
typedef enum pega_c_source {
  kFromWord,   /* the value's own word: integers, pointers, streams */
  kFromTensor, /* address of the first element */
  kFromBool,
  kFromF32, /* a number as float */
  kFromF64,
  kFromText, /* a copy with a NUL */
  kFromSize, /* size `dim` of a tensor */
  kFromExpression,
  kFromConstant, /* `fallback` */
  kFromStream    /* the current stream of the function's device */
} pega_c_source;

typedef struct pega_c_argument {
  const char *name;
  uint8_t type;   /* a pega_c_type */
  uint8_t source; /* a pega_c_source */
  uint8_t dim;
  uint8_t place;     /* of its word, see plain_call.h */
  int16_t arg;       /* -1: none */
  bool optional;     /* None stands for `fallback` */
  int64_t min, max;  /* what the type holds; of what is computed */
  uint64_t fallback; /* as a word */
  pega_expression value;
} pega_c_argument;

/* What numbers of a status mean. */
typedef enum pega_c_domain {
  kDomainNone, /* the result is a value */
  kDomainCudaDriver,
  kDomainCudaRuntime,
  kDomainErrno,
  kDomainOwn
} pega_c_domain;

typedef struct pega_c_function {
  const char *name;
  const char *symbol;
  const char *doc;
  pega_signature signature; /* as pega_function_create() takes it */
  const pega_c_argument *arguments;
  int32_t num_arguments;
  const pega_expression *constraints; /* none of them is 0 in a call */
  int32_t num_constraints;
  int32_t num_stack; /* words on the stack */
  int32_t tensor;    /* parameter whose device is the function's, -1: none */
  bool has_text;
  uint8_t result;         /* a pega_c_type */
  uint8_t domain;         /* a pega_c_domain */
  const char *last_error; /* symbol, or NULL */
} pega_c_function;

typedef struct pega_c_signature {
  const char *library;              /* path */
  const char *source;               /* path of the signature file */
  const pega_c_function *functions; /* sorted by name */
  int32_t num_functions;
  pega_c_library_needs needs;
} pega_c_signature;

/* See pega_c_library_read(). */
pega_status pega_c_signature_read(const pega_elf *file, const char *path, pega_arena *arena,
                                  pega_c_signature *out, pega_error *error);

#endif /* PEGA_ARTIFACT_C_SIGNATURE_H_ */
