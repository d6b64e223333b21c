/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the fields of a parsed JSON document one by one. Whatever is not as expected fills the
 * error with where it is, what was expected and what is there:
 * "functions[3].variants[0].params[2].offset: expected an integer 0 to 4095, got -1". All functions
 * that return bool return false after that. */
#ifndef PEGA_PACK_JSON_READ_H_
#define PEGA_PACK_JSON_READ_H_

#include "json.h"
#include "pega/pega.h"

enum { kMaxText = 65535 };

typedef struct pega_json_reader {
  const char *source; /* whose manifest it is, for errors */
  pega_arena *arena;  /* where texts go */
  pega_error *error;
  pega_status status;   /* of the failure */
  const char *document; /* goes before the path in errors; NULL: "manifest: " */
} pega_json_reader;

/* Parses a whole document: `size` bytes with a NUL behind them. It lives as long as `arena`. */
bool pega_json_parse(pega_json_reader *reader, const char *text, size_t size, pega_arena *arena,
                     pega_json_value *out);

bool pega_json_fail(pega_json_reader *reader, const pega_json *at, pega_status status,
                    const char *format, ...) PEGA_PRINTF(4, 5);
/* "expected <what>, got <the value>". */
bool pega_json_expected(pega_json_reader *reader, const pega_json *at, const char *what);
bool pega_json_out_of_memory(pega_json_reader *reader);
/* The error of a part that has texts of its own, with where it is in the document. */
bool pega_json_wrap(pega_json_reader *reader, const pega_json *at, pega_error *inner);

/* The value is an object that has none but these fields; the list ends in NULL. */
bool pega_json_fields(pega_json_reader *reader, const pega_json *at, const char *const *fields);
/* A member; false where there is none, and then nothing is wrong. */
bool pega_json_get(const pega_json *object, const char *key, pega_json *out);
/* A member that has to be there. */
bool pega_json_need(pega_json_reader *reader, const pega_json *object, const char *key,
                    pega_json *out);
/* The value is an array of `least` to `most` items. */
bool pega_json_array(pega_json_reader *reader, const pega_json *at, size_t least, size_t most,
                     size_t *count);
pega_json pega_json_item(const pega_json *array, size_t index);

bool pega_json_int(pega_json_reader *reader, const pega_json *at, int64_t min, int64_t max,
                   int64_t *out);
/* A finite number, whole or not. */
bool pega_json_number(pega_json_reader *reader, const pega_json *at, double *out);
/* Text of `least` to `most` bytes, copied into the arena. */
bool pega_json_text(pega_json_reader *reader, const pega_json *at, size_t least, size_t most,
                    const char **out);

/* The same for members: one that has to be there, or one with a default. */
bool pega_json_need_int(pega_json_reader *reader, const pega_json *object, const char *key,
                        int64_t min, int64_t max, int64_t *out);
bool pega_json_need_number(pega_json_reader *reader, const pega_json *object, const char *key,
                           double *out);
bool pega_json_need_text(pega_json_reader *reader, const pega_json *object, const char *key,
                         size_t least, size_t most, const char **out);
bool pega_json_int_or(pega_json_reader *reader, const pega_json *object, const char *key,
                      int64_t min, int64_t max, int64_t fallback, int64_t *out);
bool pega_json_bool_or(pega_json_reader *reader, const pega_json *object, const char *key,
                       bool fallback, bool *out);
bool pega_json_text_or(pega_json_reader *reader, const pega_json *object, const char *key,
                       const char *fallback, const char **out);

/* An unsigned number that is known to be small enough for 32 bits. */
static inline uint32_t pega_json_u32(int64_t number) { return (uint32_t)number; }

#endif /* PEGA_PACK_JSON_READ_H_ */
