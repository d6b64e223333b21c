/* SPDX-License-Identifier: Apache-2.0 */
/* How good a table's choices are, at sizes that it may not have. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include <pega/qwen35.h>

#include "print.h"
#include "table.h"
#include "tune.h"

enum { POINTS = 40, ROUNDS = 11, AGAIN = 33, MOST_CURVES = 1024 };
static const double ALLOWED = 0.03;
static const double SAMPLED =
    0.25; /* of those that seem fast enough, measured again all the same */

/* The curves of a table, and the longest of each. */
typedef struct curves {
  int count;
  tune_case of[MOST_CURVES]; /* tokens: the most */
} curves;

static int64_t member(const json_t *row, const char *name) {
  return json_integer_value(json_object_get(row, name));
}

static pega_status read_curves(const char *path, curves *out, pega_error *error) {
  json_error_t problem;
  json_t *table = json_load_file(path, JSON_REJECT_DUPLICATES, &problem);
  if (table == NULL) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL, "%s: line %d: %s", path, problem.line,
                          problem.text);
  }
  size_t index = 0;
  json_t *row = NULL;
  out->count = 0;
  json_array_foreach(json_object_get(table, "rows"), index, row) {
    const tune_case sizes = {member(row, "key_heads"), member(row, "value_heads"),
                             member(row, "sequences"), member(row, "tokens")};
    int at = 0;
    while (at < out->count && (out->of[at].key_heads != sizes.key_heads ||
                               out->of[at].value_heads != sizes.value_heads ||
                               out->of[at].sequences != sizes.sequences)) {
      ++at;
    }
    if (at == MOST_CURVES) break;
    if (at == out->count) out->of[out->count++] = sizes;
    if (sizes.tokens > out->of[at].tokens) out->of[at].tokens = sizes.tokens;
  }
  json_decref(table);
  return PEGA_OK;
}

/* Numbers that a seed gives again. */
static double draw(uint64_t *state) {
  *state += UINT64_C(0x9e3779b97f4a7c15);
  uint64_t x = *state;
  x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
  return (double)((x ^ (x >> 31)) >> 11) * 0x1p-53;
}

/* Between two numbers, even in their logarithms. */
static int64_t between(double part, int64_t low, int64_t high) {
  const double at = log((double)low) + (log((double)high) - log((double)low)) * part;
  const int64_t out = llround(exp(at));
  return out < low ? low : out > high ? high : out;
}

/* Heads of the table; as many sequences and tokens as it goes up to. */
static tune_case draw_case(const curves *known, uint64_t *state) {
  const tune_case *one = &known->of[(int)(draw(state) * known->count)];
  tune_case out = *one;
  int64_t most_sequences = 1;
  int64_t most_total = 1;
  for (int i = 0; i < known->count; ++i) {
    const tune_case *other = &known->of[i];
    if (other->key_heads != one->key_heads || other->value_heads != one->value_heads) continue;
    if (other->sequences > most_sequences) most_sequences = other->sequences;
    if (other->sequences * other->tokens > most_total)
      most_total = other->sequences * other->tokens;
  }
  out.sequences = between(draw(state), 1, most_sequences);
  out.tokens = between(draw(state), 1, most_total / out.sequences);
  return out;
}

static cli_exit read_number(const char *option, const char *text, uint64_t fallback, uint64_t most,
                            uint64_t *out, pega_error *error) {
  char *end = NULL;
  *out = fallback;
  if (text == NULL) return CLI_DONE;
  errno = 0;
  *out = strtoull(text, &end, 10);
  if (end != text && *end == '\0' && errno == 0 && *out >= 1 && *out <= most && *text != '-') {
    return CLI_DONE;
  }
  return cli_misuse(error, "--%s: expected a number from 1 to %" PRIu64 ", got \"%.100s\"", option,
                    most, text);
}

/* Measures a case. What seems too slow is measured again, longer, and that counts: of many sizes some
 * seem so by chance. So do as many others as `sampled` says, since by chance some seem fast
 * enough. */
static pega_status check_case(const tune_place *place, const tune_case *sizes, bool sampled,
                              tune_result *result, double loss[3], bool *measured, bool *twice,
                              pega_error *error) {
  *measured = false;
  *twice = false;
  for (int again = 0; again < 2; ++again) {
    pega_status status = tune_ask(place, sizes, result, error);
    if (status == PEGA_OK) status = tune_measure(place, again ? AGAIN : ROUNDS, result, error);
    if (status == PEGA_ERROR_OUT_OF_MEMORY) {
      pega_error_clear(error);
      return PEGA_OK;
    }
    if (status != PEGA_OK) return status;
    const tune_time *best = tune_best(result);
    const tune_time *taken = tune_taken(result);
    if (best == NULL || taken == NULL || taken->rounds == 0) return PEGA_OK;
    tune_compare(taken, best, loss);
    *measured = true;
    *twice = again == 1;
    if (loss[1] <= ALLOWED && !sampled) return PEGA_OK;
  }
  return PEGA_OK;
}

static json_t *describe(const tune_result *result, const double loss[3], bool twice) {
  const tune_time *taken = tune_taken(result);
  json_t *row = json_object();
  cli_json_set(row, "key_heads", json_integer(result->sizes.key_heads));
  cli_json_set(row, "value_heads", json_integer(result->sizes.value_heads));
  cli_json_set(row, "sequences", json_integer(result->sizes.sequences));
  cli_json_set(row, "tokens", json_integer(result->sizes.tokens));
  cli_json_set(row, "taken", cli_json_string(taken->name));
  cli_json_set(row, "us", cli_json_float(taken->median));
  cli_json_set(row, "predicted_us",
               taken->predicted > 0 ? cli_json_float(taken->predicted) : json_null());
  cli_json_set(row, "fastest", cli_json_string(tune_best(result)->name));
  cli_json_set(row, "slower", cli_json_float(loss[1]));
  cli_json_set(row, "slower_p10", cli_json_float(loss[0]));
  cli_json_set(row, "slower_p90", cli_json_float(loss[2]));
  cli_json_set(row, "measured", json_integer(twice ? 2 : 1));
  return row;
}

static double number_of(const json_t *row, const char *name) {
  return json_number_value(json_object_get(row, name));
}

static void print_rows(const json_t *rows) {
  cli_table table = {8, 0, 0, NULL};
  static const char *const head[] = {"HK:HV", "N",         "tokens each", "taken",
                                     "us",    "predicted", "fastest",     "slower, % (p10 to p90)"};
  size_t index = 0;
  json_t *row = NULL;
  for (size_t i = 0; i < sizeof head / sizeof *head; ++i) cli_table_add(&table, head[i]);
  json_array_foreach(rows, index, row) {
    cli_table_addf(&table, "%" PRId64 ":%" PRId64, member(row, "key_heads"),
                   member(row, "value_heads"));
    cli_table_addf(&table, "%" PRId64, member(row, "sequences"));
    cli_table_addf(&table, "%" PRId64, member(row, "tokens"));
    cli_table_add(&table, json_string_value(json_object_get(row, "taken")));
    cli_table_addf(&table, "%.1f", number_of(row, "us"));
    if (json_is_null(json_object_get(row, "predicted_us"))) {
      cli_table_add(&table, "-");
    } else {
      cli_table_addf(&table, "%.1f", number_of(row, "predicted_us"));
    }
    cli_table_add(&table, json_string_value(json_object_get(row, "fastest")));
    cli_table_addf(&table, "%.1f (%.1f to %.1f)%s", 100 * number_of(row, "slower"),
                   100 * number_of(row, "slower_p10"), 100 * number_of(row, "slower_p90"),
                   number_of(row, "slower") > ALLOWED ? "  too slow" : "");
  }
  cli_table_print(&table, 2);
}

static cli_exit report(const cli_options *options, uint64_t seed, json_t *rows, size_t over,
                       size_t left_out, size_t again) {
  if (options->json) {
    json_t *object = json_object();
    cli_json_set(object, "table", cli_json_string(options->tune.check));
    cli_json_set(object, "seed", cli_json_uint(seed));
    cli_json_set(object, "left_out", json_integer((json_int_t)left_out));
    cli_json_set(object, "too_slow", json_integer((json_int_t)over));
    cli_json_set(object, "sizes", rows);
    cli_print_json(object);
    return over == 0 ? CLI_DONE : CLI_FAILED;
  }
  print_rows(rows);
  (void)printf(
      "\n%zu of %zu choices more than 3 %% slower than the fastest, by the median of the "
      "ratio over rounds in which all took turns; %zu were measured twice, the second time longer: "
      "those that seemed slower, and of the others one of four; seed %" PRIu64 "%s\n",
      over, json_array_size(rows), again, seed,
      left_out == 0 ? "" : "; some sizes had no room and were left out");
  json_decref(rows);
  return over == 0 ? CLI_DONE : CLI_FAILED;
}

cli_exit tune_check(const cli_options *options, const tune_place *place, pega_error *error) {
  const cli_tune_options *given = &options->tune;
  static curves known;
  uint64_t seed;
  uint64_t points;
  cli_exit code = read_number("seed", given->seed, (uint64_t)time(NULL), UINT64_MAX, &seed, error);
  if (code == CLI_DONE) {
    code = read_number("points", given->points, given->quick ? POINTS / 4 : POINTS, 10000, &points,
                       error);
  }
  if (code != CLI_DONE) return code;
  if (pega_qwen35_load_choices(given->check, NULL, 0, error) != PEGA_OK ||
      read_curves(given->check, &known, error) != PEGA_OK) {
    return CLI_FAILED;
  }
  if (!options->json) tune_print_place(place);
  json_t *rows = json_array();
  size_t over = 0;
  size_t left_out = 0;
  size_t again_count = 0;
  uint64_t state = seed;
  uint64_t again = ~seed; /* which are measured again does not change which there are */
  for (uint64_t i = 0; i < points; ++i) {
    const tune_case sizes = draw_case(&known, &state);
    static tune_result result;
    double loss[3];
    bool measured;
    bool twice;
    const bool sampled = draw(&again) < SAMPLED;
    if (check_case(place, &sizes, sampled, &result, loss, &measured, &twice, error) != PEGA_OK) {
      json_decref(rows);
      return CLI_FAILED;
    }
    if (!measured) {
      ++left_out;
      continue;
    }
    if (loss[1] > ALLOWED) ++over;
    if (twice) ++again_count;
    cli_json_append(rows, describe(&result, loss, twice));
  }
  return report(options, seed, rows, over, left_out, again_count);
}
