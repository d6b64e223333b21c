/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include <pega/qwen35.h>

#include "print.h"
#include "provide.h"
#include "table.h"
#include "tune.h"

enum { MOST_NUMBERS = 64, MOST_TOKENS = 262144 /* of all sequences, where none are given */ };

static const double NEAR =
    1.1; /* times so near to each other may change places between two sizes */
static const double GOOD = 1.015;  /* a choice that is no slower than this needs no more sizes */
static const double STEP = 1.2;    /* sizes that are no farther apart have nothing between them */
static const double ENOUGH = 1.03; /* what a choice may be slower than the fastest */

/* Both sides of the first chunks' ends, where a call gets longer at once. */
static const int64_t usual_tokens[] = {1,    2,    4,     8,     16,    32,    64,   65,
                                       128,  129,  192,   256,   257,   512,   1024, 2048,
                                       4096, 8192, 16384, 32768, 65536, 131072};
static const int64_t quick_tokens[] = {1, 16, 64, 256, 1024, 4096, 16384, 65536};
static const int64_t cpu_tokens[] = {1, 2, 4, 8, 16, 32, 64, 256, 1024};

/* A layer as it is, as parts of it on several devices, and batches. 132 multiprocessors are filled
 * once by 4 sequences of 32 heads, twice by 8 and three times by 12: times jump with one more. */
static const tune_case usual_curves[] = {
    {2, 4, 1, 0},    {4, 8, 1, 0},    {8, 16, 1, 0},   {16, 32, 1, 0},  {16, 48, 1, 0},
    {16, 64, 1, 0},  {16, 32, 2, 0},  {16, 32, 3, 0},  {16, 32, 4, 0},  {16, 32, 5, 0},
    {16, 32, 6, 0},  {16, 32, 7, 0},  {16, 32, 8, 0},  {16, 32, 9, 0},  {16, 32, 10, 0},
    {16, 32, 11, 0}, {16, 32, 12, 0}, {16, 32, 13, 0}, {16, 32, 16, 0}, {16, 32, 20, 0},
    {16, 32, 24, 0}, {16, 32, 32, 0}, {16, 32, 48, 0}, {16, 32, 64, 0}, {4, 8, 8, 0},
    {4, 8, 32, 0}};
static const tune_case quick_curves[] = {
    {4, 8, 1, 0}, {16, 32, 1, 0}, {16, 32, 4, 0}, {16, 32, 8, 0}, {16, 32, 32, 0}};
static const tune_case cpu_curves[] = {{4, 8, 1, 0}, {16, 32, 1, 0}, {16, 32, 8, 0}};

typedef struct numbers {
  int count;
  int64_t of[MOST_NUMBERS][2];
} numbers;

/* "1,8" or, as pairs, "16:32,4:8". */
static cli_exit read_list(const char *option, const char *text, bool pairs, int64_t most,
                          numbers *out, pega_error *error) {
  const char *at = text;
  out->count = 0;
  if (text == NULL) return CLI_DONE;
  do {
    for (int i = 0; i < (pairs ? 2 : 1); ++i) {
      char *end = NULL;
      errno = 0;
      const long long number = strtoll(at, &end, 10);
      const char wanted = pairs && i == 0 ? ':' : *end == '\0' ? '\0' : ',';
      if (end == at || errno != 0 || number < 1 || number > most || *end != wanted ||
          out->count == MOST_NUMBERS) {
        return cli_misuse(
            error, "--%s: expected up to %d numbers from 1 to %" PRId64 " like %s, got \"%.100s\"",
            option, MOST_NUMBERS, most, pairs ? "16:32,4:8" : "1,8", text);
      }
      out->of[out->count][i] = number;
      at = *end == '\0' ? end : end + 1;
    }
    if (pairs && out->of[out->count][1] % out->of[out->count][0] != 0) {
      return cli_misuse(error,
                        "--%s: expected value heads that are a multiple of the key heads, "
                        "got \"%.100s\"",
                        option, text);
    }
    ++out->count;
  } while (*at != '\0');
  return CLI_DONE;
}

/* --- the work --- */

/* The words of the command that a table is from. Returns owned. */
static json_t *command_text(const cli_options *options) {
  const cli_tune_options *given = &options->tune;
  char *text = NULL;
  size_t size = 0;
  FILE *stream = open_memstream(&text, &size);
  const struct {
    const char *option, *value;
  } words[] = {{"--device", given->device},       {"--heads", given->heads},
               {"--sequences", given->sequences}, {"--tokens", given->tokens},
               {"--artifact", options->artifact}, {"--output", given->output}};
  if (stream == NULL) cli_out_of_memory();
  (void)fputs("pega tune", stream);
  if (given->quick) (void)fputs(" --quick", stream);
  if (given->eager) (void)fputs(" --eager", stream);
  if (given->own) (void)fputs(" --own", stream);
  if (given->states) (void)fputs(" --states", stream);
  for (size_t i = 0; i < sizeof words / sizeof *words; ++i) {
    if (words[i].value != NULL) (void)fprintf(stream, " %s %s", words[i].option, words[i].value);
  }
  if (fclose(stream) != 0 || text == NULL) cli_out_of_memory();
  json_t *out = cli_json_string(text);
  free(text);
  return out;
}

typedef struct work {
  const cli_options *options;
  tune_place place;
  int rounds;
  bool quiet;
  numbers tokens, sequences, heads; /* as they were given */
  tune_result **results;            /* owned; of each curve together, in the order of tokens */
  size_t count, room;
  size_t left_out;
} work;

static void print_head(void) {
  (void)printf("%-6s %5s %9s %8s  %-16s %10s  %s\n", "HK:HV", "N", "tokens", "each", "fastest",
               "us", "others");
}

static void print_result(const tune_result *result) {
  const tune_time *best = tune_best(result);
  char heads[48];
  (void)snprintf(heads, sizeof heads, "%" PRId64 ":%" PRId64, result->sizes.key_heads,
                 result->sizes.value_heads);
  (void)printf("%-6s %5" PRId64 " %9" PRId64 " %8" PRId64 "  ", heads, result->sizes.sequences,
               result->sizes.tokens * result->sizes.sequences, result->sizes.tokens);
  if (best == NULL) {
    (void)puts("nothing was measured");
    return;
  }
  (void)printf("%-16s %10.1f ", best->name, best->median);
  for (int i = 0; i < result->count; ++i) {
    const tune_time *time = &result->of[i];
    if (time == best || time->rounds == 0) continue;
    (void)printf(" %s %.2f x", time->name, time->median / best->median);
  }
  (void)putchar('\n');
  (void)fflush(stdout);
}

/* Measures one case; NULL in `out` where the device has no room for it. */
static pega_status measure(work *self, const tune_case *sizes, tune_result **out,
                           pega_error *error) {
  tune_result *result = malloc(sizeof *result);
  if (result == NULL) cli_out_of_memory();
  *out = NULL;
  pega_status status = tune_ask(&self->place, sizes, result, error);
  if (status == PEGA_OK) status = tune_measure(&self->place, self->rounds, result, error);
  if (status == PEGA_ERROR_OUT_OF_MEMORY) {
    ++self->left_out;
    (void)fprintf(stderr, "pega: left out: %" PRId64 " x %" PRId64 " tokens: %s\n",
                  sizes->sequences, sizes->tokens, pega_error_message(error));
    pega_error_clear(error);
    status = PEGA_OK;
  } else if (status == PEGA_OK && tune_best(result) != NULL) {
    if (!self->quiet) print_result(result);
    *out = result;
    return PEGA_OK;
  }
  free(result);
  return status;
}

/* Puts it before `at`. */
static void insert(work *self, size_t at, tune_result *result) {
  if (self->count == self->room) {
    self->room = 2 * self->room + 64;
    self->results = realloc(self->results, self->room * sizeof *self->results);
    if (self->results == NULL) cli_out_of_memory();
  }
  memmove(self->results + at + 1, self->results + at, (self->count - at) * sizeof *self->results);
  self->results[at] = result;
  ++self->count;
}

static double median_of(const tune_result *result, const char *name) {
  const tune_time *time = tune_find(result, name);
  return time == NULL || time->rounds == 0 ? HUGE_VAL : time->median;
}

/* How much slower at `between` is what the table would take there, knowing `from` and `to` alone. */
static double loss_between(const tune_result *from, const tune_result *to,
                           const tune_result *between) {
  const double part = log((double)between->sizes.tokens / (double)from->sizes.tokens) /
                      log((double)to->sizes.tokens / (double)from->sizes.tokens);
  double least = HUGE_VAL;
  const char *chosen = NULL;
  for (int i = 0; i < from->count; ++i) {
    const double a = median_of(from, from->of[i].name);
    const double b = median_of(to, from->of[i].name);
    if (a == HUGE_VAL || b == HUGE_VAL) continue;
    const double time = log(a) + (log(b) - log(a)) * part;
    if (chosen == NULL || time < least) {
      least = time;
      chosen = from->of[i].name;
    }
  }
  return chosen == NULL ? 1 : median_of(between, chosen) / tune_best(between)->median;
}

/* Whether something else than what is fastest at both may be between. */
static bool may_change(const tune_result *from, const tune_result *to) {
  const tune_time *best[2] = {tune_best(from), tune_best(to)};
  if (strcmp(best[0]->name, best[1]->name) != 0) {
    return median_of(from, best[1]->name) > ENOUGH * best[0]->median ||
           median_of(to, best[0]->name) > ENOUGH * best[1]->median;
  }
  for (int i = 0; i < from->count; ++i) {
    const char *name = from->of[i].name;
    if (strcmp(name, best[0]->name) == 0) continue;
    if (median_of(from, name) < NEAR * best[0]->median ||
        median_of(to, name) < NEAR * best[1]->median) {
      return true;
    }
  }
  return false;
}

/* Adds sizes between result `at` and the next, where a choice between them would be wrong. `*end` counts
 * what it adds. */
static pega_status refine(work *self, size_t at, size_t *end, pega_error *error) {
  const tune_result *from = self->results[at];
  const tune_result *to = self->results[at + 1];
  tune_case sizes = from->sizes;
  sizes.tokens = llround(sqrt((double)from->sizes.tokens * (double)to->sizes.tokens));
  if ((double)to->sizes.tokens < STEP * (double)from->sizes.tokens ||
      sizes.tokens <= from->sizes.tokens || sizes.tokens >= to->sizes.tokens ||
      !may_change(from, to)) {
    return PEGA_OK;
  }
  tune_result *between;
  pega_status status = measure(self, &sizes, &between, error);
  if (status != PEGA_OK || between == NULL) return status;
  const bool same = strcmp(tune_best(from)->name, tune_best(to)->name) == 0;
  const bool right = same && loss_between(from, to, between) <= GOOD;
  insert(self, at + 1, between);
  ++*end;
  if (right) return PEGA_OK;
  status = refine(self, at + 1, end, error); /* the later half first: `at` stays where it is */
  return status == PEGA_OK ? refine(self, at, end, error) : status;
}

static pega_status measure_curve(work *self, tune_case sizes, const numbers *tokens, bool given,
                                 pega_error *error) {
  const size_t begin = self->count;
  pega_status status = PEGA_OK;
  for (int i = 0; i < tokens->count && status == PEGA_OK; ++i) {
    tune_result *result;
    sizes.tokens = tokens->of[i][0];
    if (sizes.tokens * sizes.sequences > INT32_MAX ||
        (!given && sizes.tokens * sizes.sequences > MOST_TOKENS)) {
      break;
    }
    status = measure(self, &sizes, &result, error);
    if (status == PEGA_OK && result == NULL) break; /* what is longer has no room either */
    if (status == PEGA_OK) insert(self, self->count, result);
  }
  size_t end = self->count;
  for (size_t at = begin; status == PEGA_OK && at + 1 < end;) {
    const size_t before = end;
    status = refine(self, at, &end, error);
    at += 1 + end - before;
  }
  return status;
}

static int compare_numbers(const void *a, const void *b) {
  const int64_t x = *(const int64_t *)a;
  const int64_t y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

static void usual_numbers(const int64_t *from, size_t count, numbers *out) {
  out->count = (int)count;
  for (size_t i = 0; i < count; ++i) out->of[i][0] = from[i];
}

/* Every heads with every number of sequences, where either was given; else the usual. */
static size_t list_curves(const work *self, const numbers *heads, const numbers *sequences,
                          tune_case out[MOST_NUMBERS * MOST_NUMBERS]) {
  const bool cpu = self->place.device.device_type == kDLCPU;
  size_t count = 0;
  if (heads->count == 0 && sequences->count == 0) {
    const tune_case *from = cpu ? cpu_curves : usual_curves;
    count = cpu ? sizeof cpu_curves / sizeof *from : sizeof usual_curves / sizeof *from;
    if (self->options->tune.quick) {
      from = cpu ? cpu_curves + 1 : quick_curves;
      count = cpu ? 1 : sizeof quick_curves / sizeof *from;
    }
    memcpy(out, from, count * sizeof *out);
    return count;
  }
  for (int i = 0; i == 0 || i < heads->count; ++i) {
    for (int k = 0; k == 0 || k < sequences->count; ++k) {
      out[count++] = (tune_case){heads->count == 0 ? 16 : heads->of[i][0],
                                 heads->count == 0 ? 32 : heads->of[i][1],
                                 sequences->count == 0 ? 1 : sequences->of[k][0], 0};
    }
  }
  return count;
}

static cli_exit read_lists(work *self, pega_error *error) {
  const cli_tune_options *given = &self->options->tune;
  cli_exit code = read_list("tokens", given->tokens, false, INT32_MAX, &self->tokens, error);
  if (code == CLI_DONE) {
    code = read_list("sequences", given->sequences, false, INT32_MAX, &self->sequences, error);
  }
  if (code == CLI_DONE) code = read_list("heads", given->heads, true, 1 << 16, &self->heads, error);
  return code;
}

/* What there is so far, with the command. Returns owned. */
static json_t *table_of(const work *self) {
  json_t *table = tune_table(&self->place, (const tune_result *const *)self->results, self->count,
                             self->options->tune.own);
  cli_json_set(table, "command", command_text(self->options));
  return table;
}

/* After every curve: a run that is cut short leaves what it had. */
static pega_status save(const work *self, pega_error *error) {
  if (self->options->tune.output == NULL || self->count == 0) return PEGA_OK;
  json_t *table = table_of(self);
  const pega_status status = tune_write(table, self->options->tune.output, error);
  json_decref(table);
  return status;
}

static cli_exit measure_all(work *self, pega_error *error) {
  const cli_tune_options *given = &self->options->tune;
  static tune_case curves[MOST_NUMBERS * MOST_NUMBERS];
  numbers tokens = self->tokens;
  if (given->tokens == NULL && self->place.device.device_type == kDLCPU) {
    usual_numbers(cpu_tokens, sizeof cpu_tokens / sizeof *cpu_tokens, &tokens);
  } else if (given->tokens == NULL && given->quick) {
    usual_numbers(quick_tokens, sizeof quick_tokens / sizeof *quick_tokens, &tokens);
  } else if (given->tokens == NULL) {
    usual_numbers(usual_tokens, sizeof usual_tokens / sizeof *usual_tokens, &tokens);
  }
  qsort(tokens.of, (size_t)tokens.count, sizeof tokens.of[0], compare_numbers);
  int distinct = 0;
  for (int i = 0; i < tokens.count; ++i) {
    if (i == 0 || tokens.of[i][0] != tokens.of[distinct - 1][0]) {
      tokens.of[distinct++][0] = tokens.of[i][0];
    }
  }
  tokens.count = distinct;
  const size_t count = list_curves(self, &self->heads, &self->sequences, curves);
  if (!self->quiet) {
    tune_print_place(&self->place);
    print_head();
  }
  for (size_t i = 0; i < count; ++i) {
    bool again = false;
    for (size_t k = 0; k < i; ++k)
      again = again || memcmp(&curves[k], &curves[i], sizeof *curves) == 0;
    if (again) continue;
    if (measure_curve(self, curves[i], &tokens, given->tokens != NULL, error) != PEGA_OK ||
        save(self, error) != PEGA_OK) {
      return CLI_FAILED;
    }
  }
  return CLI_DONE;
}

/* --- what it says --- */

/* How much the library's choices so far are slower than the fastest. */
static json_t *judge_before(const work *self) {
  double worst = 1;
  double sum = 0;
  size_t over = 0;
  size_t looked = 0;
  const tune_result *at = NULL;
  for (size_t i = 0; i < self->count; ++i) {
    const tune_time *best = tune_best(self->results[i]);
    const tune_time *taken = tune_taken(self->results[i]);
    if (taken == NULL || taken->rounds == 0) continue;
    const double ratio = taken->median / best->median;
    ++looked;
    sum += log(ratio);
    if (ratio > ENOUGH) ++over;
    if (at == NULL || ratio > worst) {
      worst = ratio;
      at = self->results[i];
    }
  }
  json_t *out = json_object();
  cli_json_set(out, "sizes", json_integer((json_int_t)looked));
  cli_json_set(out, "over_3_percent", json_integer((json_int_t)over));
  cli_json_set(out, "mean_ratio", cli_json_float(looked == 0 ? 1 : exp(sum / (double)looked)));
  cli_json_set(out, "worst_ratio", cli_json_float(worst));
  if (at == NULL) return out;
  cli_json_set(out, "worst_tokens", json_integer(at->sizes.tokens));
  cli_json_set(out, "worst_sequences", json_integer(at->sizes.sequences));
  cli_json_set(out, "worst_value_heads", json_integer(at->sizes.value_heads));
  cli_json_set(out, "worst_taken", cli_json_string(tune_taken(at)->name));
  cli_json_set(out, "worst_fastest", cli_json_string(tune_best(at)->name));
  return out;
}

static void print_before(const json_t *before) {
  const json_int_t sizes = json_integer_value(json_object_get(before, "sizes"));
  (void)printf("\nthe choice until now: %" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT
               " sizes more than 3 %% slower than the fastest",
               json_integer_value(json_object_get(before, "over_3_percent")), sizes);
  if (sizes > 0) {
    (void)printf(
        "; %.3f x on average, %.2f x at worst (%s where %s is fastest: HV %" JSON_INTEGER_FORMAT
        ", %" JSON_INTEGER_FORMAT " x %" JSON_INTEGER_FORMAT " tokens)",
        json_real_value(json_object_get(before, "mean_ratio")),
        json_real_value(json_object_get(before, "worst_ratio")),
        json_string_value(json_object_get(before, "worst_taken")),
        json_string_value(json_object_get(before, "worst_fastest")),
        json_integer_value(json_object_get(before, "worst_value_heads")),
        json_integer_value(json_object_get(before, "worst_sequences")),
        json_integer_value(json_object_get(before, "worst_tokens")));
  }
  (void)putchar('\n');
}

static cli_exit make_table(work *self, pega_error *error) {
  const char *path = self->options->tune.output;
  const cli_exit code = measure_all(self, error);
  if (code != CLI_DONE) return code;
  if (self->count == 0) {
    (void)pega_error_set(error, PEGA_ERROR_UNAVAILABLE, NULL,
                         "tune: nothing could be measured on %s: see above", self->place.name);
    return CLI_FAILED;
  }
  json_t *table = table_of(self);
  json_t *before = judge_before(self);
  if (self->options->json) {
    json_t *report = json_object();
    cli_json_set(report, "table", table);
    cli_json_set(report, "before", before);
    cli_json_set(report, "file", cli_json_string(path));
    cli_print_json(report);
    return CLI_DONE;
  }
  print_before(before);
  json_decref(before);
  json_decref(table);
  if (path != NULL) {
    (void)fputs("written to ", stdout);
    cli_print_string(stdout, path);
    (void)puts("; PEGA_CHOICES names it to every process, pega_qwen35_load_choices() to one");
  }
  if (self->place.fake) (void)puts("This is the fake driver: the times mean nothing.");
  return CLI_DONE;
}

static cli_exit read_device(const char *text, DLDevice *out, pega_error *error) {
  char name[PEGA_NAME_SIZE];
  *out = (DLDevice){kDLCUDA, 0};
  if (text == NULL) return CLI_DONE;
  const bool bare = *text != '\0' && strspn(text, "0123456789") == strlen(text);
  const int size = snprintf(name, sizeof name, "%s%s", bare ? "cuda:" : "", text);
  if (size < (int)sizeof name && pega_device_parse(name, out, NULL) == PEGA_OK &&
      (out->device_type == kDLCUDA || out->device_type == kDLCPU)) {
    return CLI_DONE;
  }
  return cli_misuse(error, "--device: expected 0, cuda:0 or cpu, got \"%.100s\"", text);
}

cli_exit cli_tune(const cli_options *options, pega_error *error) {
  work self;
  DLDevice device;
  memset(&self, 0, sizeof self);
  self.options = options;
  self.quiet = options->json;
  self.rounds = options->tune.quick ? 5 : 11;
  if (options->num_args > 0 && strcmp(options->args[0], PEGA_QWEN35_PREFILL) != 0) {
    return cli_misuse(error,
                      "tune: \"%.200s\" chooses by no table: expected " PEGA_QWEN35_PREFILL
                      ", or nothing for it",
                      options->args[0]);
  }
  if (options->tune.check != NULL && (options->tune.output != NULL || options->tune.own)) {
    return cli_misuse(error, "tune: --check measures and writes nothing: not with --%s",
                      options->tune.own ? "own" : "output");
  }
  cli_exit code = read_device(options->tune.device, &device, error);
  if (code == CLI_DONE) code = read_lists(&self, error);
  if (code != CLI_DONE) return code;
  if (options->artifact != NULL && device.device_type != kDLCUDA) {
    return cli_misuse(error,
                      "tune: what --artifact provides runs on a CUDA device, not on the CPU");
  }
  /* A file that cannot be written is better known before the work than after it. */
  if (options->tune.output != NULL && tune_write(NULL, options->tune.output, error) != PEGA_OK) {
    return CLI_FAILED;
  }
  if (cli_provide(options, error) != PEGA_OK) return CLI_FAILED;
  pega_status status = tune_open(device, &options->tune, &self.place, error);
  cli_exit done = CLI_FAILED;
  if (status == PEGA_OK) {
    done = options->tune.check != NULL ? tune_check(options, &self.place, error)
                                       : make_table(&self, error);
  }
  for (size_t i = 0; i < self.count; ++i) free(self.results[i]);
  free(self.results);
  tune_close(&self.place);
  return done;
}
