/* SPDX-License-Identifier: Apache-2.0 */
/* Strict JSON (RFC 8259) for manifests that nobody vouches for. cJSON parses; what it lets pass is
 * refused around it: NUL, bytes that are not UTF-8, a byte order mark, control characters, \u without
 * digits, numbers that JSON does not have or a double cannot hold, keys that are there twice, and
 * what nests deeper, has more values or more members than the limits below. An allocation that fails
 * is reported as such. */
#ifndef PEGA_PACK_JSON_H_
#define PEGA_PACK_JSON_H_

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"

enum {
  kMaxJsonDepth = 16,
  kMaxJsonMembers = 256,    /* of one object */
  kMaxJsonValues = 1 << 21, /* of a document: while it is parsed each takes 120 bytes */
  kMaxJsonNumber = 63       /* characters of a number: an older cJSON reads no more of one */
};

/* 2^53 - 1: numbers are doubles, which have a neighbour at 1 up to here. What is past it cannot be told
 * from an integer beside it, and is no kJsonInt. */
#define PEGA_MAX_JSON_INTEGER INT64_C(9007199254740991)

typedef enum pega_json_type {
  kJsonNull,
  kJsonFalse,
  kJsonTrue,
  kJsonInt,  /* 1, and 1.0: a whole number of at most PEGA_MAX_JSON_INTEGER in magnitude */
  kJsonReal, /* any other, and -0 */
  kJsonString,
  kJsonArray,
  kJsonObject
} pega_json_type;

typedef struct pega_json_value {
  uint8_t type;  /* a pega_json_type */
  uint32_t size; /* bytes of a string, items of an array, members of an object */
  union {
    int64_t i64;
    double f64;
    const char *text;                       /* NUL-terminated */
    const struct pega_json_member *members; /* items of arrays, too: their keys are NULL */
  } as;
} pega_json_value;

typedef struct pega_json_member {
  const char *key;
  pega_json_value value;
} pega_json_member;

typedef enum pega_json_outcome {
  kJsonGood,
  kJsonBad,     /* no JSON, or not as strict */
  kJsonTooMuch, /* past a limit */
  kJsonNoMemory
} pega_json_outcome;

/* A value and where it is: lives on the stack of who reads it. */
typedef struct pega_json {
  const struct pega_json *parent; /* NULL for the root */
  const char *key;                /* of a member; NULL for an item of an array */
  size_t index;
  const pega_json_value *value;
} pega_json;

enum { kJsonPathRoom = 512 };

/* "functions[3].variants[0].target", "" for the root and for NULL; cut where the room ends. */
void pega_json_path(const pega_json *at, char path[kJsonPathRoom]);

/* What is wrong and where: a place in the text, or, where that is gone, the path to it. */
typedef struct pega_json_error {
  const char *what;
  size_t line, column;      /* from 1, bytes; 0 where `path` says where */
  char path[kJsonPathRoom]; /* "" for the root and where there is a line */
} pega_json_error;

/* Makes the lock that parsing takes: in a child of fork, where nobody holds it. */
void pega_json_make_lock(void);

/* Parses `size` bytes, NUL behind them, whole. Any thread; one document at a time. */
pega_json_outcome pega_json_parse_text(const char *text, size_t size, pega_arena *arena,
                                       pega_json_value *out, pega_json_error *error);

/* The member of this key, or NULL. Of what is no object: NULL. */
const pega_json_value *pega_json_find(const pega_json_value *object, const char *key);

static inline bool pega_json_is(const pega_json_value *value, pega_json_type type) {
  return value->type == (uint8_t)type;
}

static inline bool pega_json_is_bool(const pega_json_value *value) {
  return value->type == kJsonTrue || value->type == kJsonFalse;
}

/* Text of a string, "" of anything else: a text that no field takes. */
static inline const char *pega_json_text_of(const pega_json_value *value) {
  return value->type == kJsonString ? value->as.text : "";
}

#endif /* PEGA_PACK_JSON_H_ */
