/* SPDX-License-Identifier: Apache-2.0 */
#include "ops/qwen35/choices.h"

#include <math.h>

#include "ops/qwen35/choices_read.h"

#include "ops/qwen35/choices_built_in.inl"

uint16_t pega_choices_log(double number) {
  const double units = number > 1 ? log2(number) * kLogUnit + 0.5 : 0;
  return (uint16_t)(units < kNoTime - 1 ? units : kNoTime - 1);
}

static int32_t distance(int32_t a, int32_t b) { return a < b ? b - a : a - b; }

/* How many of `count` ascending numbers, `stride` apart, are less than `least`. */
static int32_t count_below(const uint16_t *numbers, int32_t count, int32_t stride, int32_t least) {
  int32_t low = 0;
  while (low < count) {
    const int32_t middle = low + (count - low) / 2;
    if (numbers[middle * stride] < least) {
      low = middle + 1;
    } else {
      count = middle;
    }
  }
  return low;
}

/* Of the curves as parallel as curve `from`, the one with the likest heads. */
static const pega_choice_curve *likest(const pega_choices *choices, int32_t from,
                                       const pega_gdr_shape *shape) {
  const pega_choice_curve *curve = &choices->curves[from];
  const pega_choice_curve *best = curve;
  const uint16_t parallel = curve->parallel;
  int32_t least = INT32_MAX;
  for (; curve < choices->curves + choices->num_curves && curve->parallel == parallel; ++curve) {
    const int32_t off =
        distance(curve->value_heads, pega_choices_log((double)shape->num_value_heads)) +
        distance(curve->key_heads, pega_choices_log((double)shape->num_key_heads));
    if (off < least) {
      least = off;
      best = curve;
    }
  }
  return best;
}

/* The points of a curve on both sides of the call's tokens. False where all of its points have more. */
static bool look(const pega_choices *choices, const pega_choice_curve *curve, int32_t tokens,
                 int32_t side, pega_choice_place *out) {
  const uint16_t *of = choices->tokens + curve->begin;
  const int32_t count = curve[1].begin - curve->begin;
  const int32_t after = count_below(of, count, 1, tokens + 1);
  if (after == 0) return false;
  for (int i = 0; i < 2; ++i) {
    const int32_t point = curve->begin + (after - 1 + i < count ? after - 1 + i : count - 1);
    out->at[side][i] = choices->rows != NULL ? choices->rows[point] : point;
  }
  const int32_t past = tokens - of[after - 1];
  const int32_t width = after < count ? of[after] - of[after - 1] : 0;
  out->tokens[side] = width == 0 ? 0 : past * kLogUnit / width;
  out->beyond[side] = width == 0 ? past : 0;
  return true;
}

static bool find_in(const pega_choices *choices, const pega_gdr_shape *shape, int32_t parallel,
                    int32_t tokens, pega_choice_place *out) {
  enum { kStride = sizeof(pega_choice_curve) / sizeof(uint16_t) };
  const pega_choice_curve *curves = choices->curves;
  const int32_t count = choices->num_curves;
  const int32_t above = count_below(&curves->parallel, count, kStride, parallel);
  int32_t ends[2] = {above, above};
  if (above == count || (curves[above].parallel != parallel && above > 0)) {
    ends[0] = count_below(&curves->parallel, count, kStride, curves[above - 1].parallel);
  }
  int32_t at[2] = {0, 0};
  bool has[2] = {false, false};
  for (int i = 0; i < 2; ++i) {
    if (ends[i] == count || (i == 0 && ends[0] == above)) continue;
    const pega_choice_curve *curve = likest(choices, ends[i], shape);
    at[i] = curve->parallel;
    has[i] = look(choices, curve, tokens, i, out);
  }
  if (!has[0] && !has[1]) return false;
  if (!has[0] || !has[1]) {
    const int from = has[1] ? 1 : 0;
    memcpy(out->at[1 - from], out->at[from], sizeof out->at[from]);
    out->tokens[1 - from] = out->tokens[from];
    out->beyond[1 - from] = out->beyond[from];
    at[1 - from] = at[from];
  }
  const int32_t width = at[1] - at[0];
  out->parallel = width == 0 ? 0 : (parallel - at[0]) * kLogUnit / width;
  out->choices = choices;
  return true;
}

/* The first for the same number of processors, else the first for the target. */
static const pega_choices *table_for(const pega_choices *list, int32_t target, int32_t processors) {
  const pega_choices *found = NULL;
  for (; list != NULL; list = list->next) {
    if (list->target != target) continue;
    if (list->processors == processors) return list;
    if (found == NULL) found = list;
  }
  return found;
}

pega_status pega_choices_find(const char *function, const pega_gdr_shape *shape, int32_t target,
                              int32_t processors, pega_choice_place *out, pega_error *error) {
  const pega_choices *lists[3] = {NULL, NULL, &built_in};
  out->choices = NULL;
  pega_status status = pega_choices_loaded(function, lists, error);
  if (status != PEGA_OK || shape->num_tokens == 0 || shape->num_sequences == 0) return status;
  const double sequences = (double)shape->num_sequences;
  const int32_t parallel = pega_choices_log(sequences * (double)shape->num_value_heads);
  const int32_t tokens = pega_choices_log((double)shape->num_tokens / sequences);
  for (int i = 0; i < 3; ++i) {
    const pega_choices *choices = table_for(lists[i], target, processors);
    if (choices != NULL && find_in(choices, shape, parallel, tokens, out)) break;
  }
  return PEGA_OK;
}

int32_t pega_choices_time(const pega_choice_place *place, int implementation) {
  const pega_choices *choices = place->choices;
  const int32_t column = implementation - choices->first;
  if (column < 0 || column >= choices->columns) return kNoTime;
  int32_t of_curve[2];
  for (int i = 0; i < 2; ++i) {
    const int32_t from = choices->us[place->at[i][0] * choices->columns + column];
    const int32_t to = choices->us[place->at[i][1] * choices->columns + column];
    if (from == kNoTime || to == kNoTime) return kNoTime;
    of_curve[i] = from + (to - from) * place->tokens[i] / kLogUnit + place->beyond[i];
  }
  return of_curve[0] + (of_curve[1] - of_curve[0]) * place->parallel / kLogUnit;
}
