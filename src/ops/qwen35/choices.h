/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of measured times, by which a prefill chooses its implementation: docs/tuning.md. */
#ifndef PEGA_OPS_QWEN35_CHOICES_H_
#define PEGA_OPS_QWEN35_CHOICES_H_

#include "ops/qwen35/shape.h"

enum {
  kMaxImplementations = 8, /* of the prefill, on all devices together */
  kLogUnit = 1024,         /* logarithms to base 2 are kept in units of 1 / 1024 */
  kNoTime = 65535          /* the implementation was not measured there */
};

/* Cases of the same heads and sequences, which differ in their tokens: logarithms of these. */
typedef struct pega_choice_curve {
  uint16_t parallel;               /* of sequences times value heads */
  uint16_t value_heads, key_heads; /* of these */
  uint16_t begin;                  /* its first point; it ends where the next one begins */
} pega_choice_curve;

/* Times of the implementations for cases, as logarithms. Curves are in the order of their members, points of a
 * curve in that of their tokens. Immutable; kept for the rest of the process. */
typedef struct pega_choices {
  const struct pega_choices *next;
  const char *source; /* where it comes from, for people */
  int32_t target;     /* compute capability of the device that it was measured on, 0 for a CPU */
  int32_t processors; /* its multiprocessors */
  int32_t num_curves;
  const pega_choice_curve *curves; /* and one more, which begins where the last one ends */
  const uint16_t *tokens;          /* of a point: of the tokens of a sequence */
  const uint16_t *rows;            /* of a point: its row in the table; NULL: as the points are */
  int32_t first, columns;          /* us[row * columns] is the first of so many implementations */
  const uint16_t *us;              /* of 1024 times the microseconds; kNoTime for none */
} pega_choices;

/* What a call lies between: of two curves each the points below and above its tokens. */
typedef struct pega_choice_place {
  const pega_choices *choices; /* NULL: no table knows of such a call */
  int32_t at[2][2];            /* rows */
  int32_t tokens[2];           /* how far the call is from the first to the second, 0 to 1024 */
  int32_t beyond[2];           /* how far, as a logarithm, past the last: times grow as tokens do */
  int32_t parallel;
} pega_choice_place;

/* Finds it in the tables for a device of this target. Fails where PEGA_CHOICES names what is no table. */
pega_status pega_choices_find(const char *function, const pega_gdr_shape *shape, int32_t target,
                              int32_t processors, pega_choice_place *out, pega_error *error);

/* The logarithm of the time that is expected of an implementation, as in a point. */
int32_t pega_choices_time(const pega_choice_place *place, int implementation);

#endif /* PEGA_OPS_QWEN35_CHOICES_H_ */
