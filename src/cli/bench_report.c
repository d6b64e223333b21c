/* SPDX-License-Identifier: Apache-2.0 */
/* The document of `pega bench`, and its tables. */
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "bench_device.h"
#include "table.h"

#ifndef PEGA_CLI_COMMIT
#define PEGA_CLI_COMMIT ""
#endif

enum { SCHEMA_VERSION = 1, MAX_NAMES = 26 };

static const struct {
  const char *how;
  const char *title;
} HOWS[] = {
    {BENCH_GRAPH, "GPU time of a call, replays of a CUDA graph of one"},
    {BENCH_ROW, "GPU time of a call, replays of a CUDA graph of ten or more in a row"},
    {BENCH_EAGER, "GPU time of a call made from the host, between events around it"},
    {BENCH_WALL, "host clock around a call and waiting for its end"},
    {BENCH_HOST, "host time of a call that nothing waits for"},
};
enum { NUM_HOWS = sizeof HOWS / sizeof HOWS[0] };

/* ---- filling it ---- */

/* Another word of the command behind the others, behind its option where it has one. */
static void add_word(json_t **text, const char *option, const char *word) {
  json_t *shown = cli_json_string(word); /* whatever bytes a path has */
  json_t *longer = json_sprintf("%s%s%s %s", json_string_value(*text), *option == '\0' ? "" : " ",
                                option, json_string_value(shown));
  json_decref(shown);
  if (longer == NULL) return;
  json_decref(*text);
  *text = longer;
}

/* The tables that PEGA_CHOICES names, without their folders, or null. */
static json_t *choices_text(void) {
  const char *list = secure_getenv("PEGA_CHOICES");
  char *text = strdup(list == NULL ? "" : list);
  if (text == NULL) cli_out_of_memory();
  char *end = text;
  for (const char *at = text; *at != '\0'; at += *at == ':' ? 1 : 0) {
    const size_t size = strcspn(at, ":");
    const char *name = memrchr(at, '/', size);
    name = name == NULL ? at : name + 1;
    at += size;
    if (name == at) continue;
    if (end != text) *end++ = ':';
    memmove(end, name, (size_t)(at - name)); /* never past what is read next */
    end += at - name;
  }
  json_t *told = end == text ? json_null() : NULL;
  if (told == NULL) {
    char *names = strndup(text, (size_t)(end - text));
    if (names == NULL) cli_out_of_memory();
    told = cli_json_string(names);
    free(names);
  }
  free(text);
  return told;
}

static json_t *command_text(const cli_options *options, const json_t *choices) {
  json_t *text = json_is_string(choices)
                     ? json_sprintf("PEGA_CHOICES=%s pega bench", json_string_value(choices))
                     : json_string("pega bench");
  char batches[16];
  if (text == NULL) cli_out_of_memory();
  for (int i = 0; i < options->num_args; ++i) add_word(&text, "", options->args[i]);
  if (options->quick) add_word(&text, "", "--quick");
  if (options->pack != NULL) add_word(&text, "--pack", options->pack);
  if (options->artifact != NULL) add_word(&text, "--artifact", options->artifact);
  for (int i = 0; i < options->num_peers; ++i) add_word(&text, "--peers", options->peers[i]);
  (void)snprintf(batches, sizeof batches, "%d", (int)options->batches);
  if (options->batches > 0) add_word(&text, "--batches", batches);
#ifdef PEGA_CLI_BRIDGE
  if (options->globals && options->runtime_library == NULL) add_word(&text, "", "--tvm-ffi");
  if (options->runtime_library != NULL) add_word(&text, "--tvm-ffi", options->runtime_library);
#endif
  return text;
}

json_t *bench_report_begin(const bench_run *run) {
  char date[32];
  const time_t now = time(NULL);
  struct tm parts;
  json_t *report = json_object();
  (void)strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &parts));
  cli_json_set(report, "schema_version", json_integer(SCHEMA_VERSION));
  json_t *choices = choices_text();
  cli_json_set(report, "command", command_text(run->options, choices));
  cli_json_set(report, "choices", choices);
  cli_json_set(report, "date", json_string(date));
  cli_json_set(report, "pega", json_string(pega_version_string()));
  cli_json_set(report, "commit",
               *PEGA_CLI_COMMIT == '\0' ? json_null() : json_string(PEGA_CLI_COMMIT));
  cli_json_set(report, "quick", json_boolean(run->quick));
  json_t *machine = bench_machine();
  cli_json_set(machine, "gpu", json_null());
  cli_json_set(report, "machine", machine);
  cli_json_set(report, "peers", json_array());
  cli_json_set(report, "parts", json_array());
  cli_json_set(report, "left_out", json_array());
  cli_json_set(report, "rows", json_array());
  return report;
}

static json_t *begin_row(const bench_run *run, const char *name, const char *by, const char *how) {
  json_t *row = json_object();
  cli_json_set(row, "part", json_string(run->part));
  cli_json_set(row, "case", json_incref(run->case_));
  cli_json_set(row, "name", cli_json_string(name));
  cli_json_set(row, "by", cli_json_string(by));
  cli_json_set(row, "how", json_string(how));
  cli_json_set(row, "unit", json_string(run->unit));
  cli_json_append(json_object_get(run->report, "rows"), row);
  return row;
}

void bench_add_row(bench_run *run, const bench_way *way, const char *how, const double *samples,
                   int num_samples, double ratio) {
  json_t *row = begin_row(run, way->name, way->by, how);
  cli_json_set(row, "median", json_real(bench_quantile(samples, num_samples, 0.5)));
  cli_json_set(row, "low", json_real(bench_quantile(samples, num_samples, 0.1)));
  cli_json_set(row, "high", json_real(bench_quantile(samples, num_samples, 0.9)));
  cli_json_set(row, "samples", json_integer(num_samples));
  cli_json_set(row, "floor", way->floor > 0 ? json_real(way->floor) : json_null());
  if (way->chosen) cli_json_set(row, "default", json_true());
  if (way->rotated) cli_json_set(row, "rotated", json_true());
  if (ratio > 0) cli_json_set(row, "ratio", json_real(ratio));
  if (way->extra != NULL && json_object_update(row, way->extra) != 0) cli_out_of_memory();
}

void bench_add_left_out(bench_run *run, const char *name, const char *by, const char *how,
                        const char *reason) {
  json_t *row = begin_row(run, name, by, how);
  cli_json_set(row, "left_out", cli_json_string(reason));
}

void bench_add_left_out_part(bench_run *run, const char *part, const char *reason) {
  json_t *one = json_object();
  cli_json_set(one, "part", json_string(part));
  cli_json_set(one, "reason", cli_json_string(reason));
  cli_json_append(json_object_get(run->report, "left_out"), one);
  if (!run->text) return;
  (void)printf("\nleft out: %s: ", part);
  cli_print_line(stdout, reason);
  (void)putchar('\n');
}

void bench_report_device(bench_run *run, const char *name, double copy_rate) {
  json_t *one = json_object();
  const char *driver = bench_driver_version();
  json_t *clocks = bench_clocks();
  pega_device_info info;
  memset(&info, 0, sizeof info);
  info.struct_size = (uint32_t)sizeof info;
  const bool known = pega_device_query((DLDevice){kDLCUDA, 0}, &info, NULL) == PEGA_OK;
  cli_json_set(one, "name", cli_json_string(name));
  if (driver != NULL) {
    cli_json_set(one, "driver", cli_json_string(driver));
  } else {
    cli_json_set(
        one, "driver",
        json_sprintf("CUDA %d.%d", info.driver_version / 1000, info.driver_version % 1000 / 10));
  }
  cli_json_set(one, "multiprocessors", known ? json_integer(info.multiprocessors) : json_null());
  cli_json_set(one, "fake", json_boolean(run->fake));
  if (json_is_object(clocks)) {
    cli_json_set(one, "sm_clock_mhz", json_incref(json_object_get(clocks, "sm_mhz")));
    cli_json_set(one, "memory_clock_mhz", json_incref(json_object_get(clocks, "memory_mhz")));
  }
  cli_json_set(one, "copy_bytes_per_second", json_real(copy_rate));
  cli_json_set(one, "floor_bytes_per_second", json_real(bench_floor_rate()));
  json_decref(clocks);
  cli_json_set(json_object_get(run->report, "machine"), "gpu", one);
}

/* ---- showing it ---- */

static bool is_of(const json_t *row, const char *part, const char *how) {
  return strcmp(json_string_value(json_object_get(row, "part")), part) == 0 &&
         (how == NULL || strcmp(json_string_value(json_object_get(row, "how")), how) == 0);
}

static const char *text_of(const json_t *row, const char *key) {
  return json_string_value(json_object_get(row, key));
}

static double number_of(const json_t *row, const char *key) {
  return json_number_value(json_object_get(row, key));
}

/* "1 x 8192, HK 16, HV 32". Returns owned. */
static char *case_text(const json_t *what) {
  static const struct {
    const char *key;
    const char *format;
  } known[] = {{"sequences", "%" JSON_INTEGER_FORMAT " x"},
               {"tokens", "%" JSON_INTEGER_FORMAT},
               {"batch", "batch %" JSON_INTEGER_FORMAT},
               {"key_heads", "HK %" JSON_INTEGER_FORMAT},
               {"value_heads", "HV %" JSON_INTEGER_FORMAT}};
  char *text = NULL;
  size_t size = 0;
  FILE *stream = open_memstream(&text, &size);
  const char *key = NULL;
  json_t *value = NULL;
  const char *comma = "";
  if (stream == NULL) cli_out_of_memory();
  json_object_foreach((json_t *)(uintptr_t)what, key, value) {
    const char *format = NULL;
    for (size_t i = 0; i < sizeof known / sizeof *known && format == NULL; ++i) {
      if (strcmp(known[i].key, key) == 0) format = known[i].format;
    }
    (void)fputs(comma, stream);
    comma = strcmp(key, "sequences") == 0 ? " " : ", ";
    if (json_is_string(value)) {
      (void)fputs(json_string_value(value), stream);
    } else if (strcmp(key, "tokens") == 0 && json_object_get(what, "sequences") == NULL) {
      (void)fprintf(stream, "T = %" JSON_INTEGER_FORMAT, json_integer_value(value));
    } else if (format != NULL && json_is_integer(value)) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
      (void)fprintf(stream, format, json_integer_value(value));
#pragma GCC diagnostic pop
    } else {
      (void)fprintf(stream, "%s %g", key, json_number_value(value));
    }
  }
  if (fclose(stream) != 0 || text == NULL) cli_out_of_memory();
  return text;
}

/* Three digits and a half, as tables of times are read. */
static void add_number(cli_table *table, double number, const char *mark) {
  const int digits = number < 9.95 ? 2 : number < 99.5 ? 1 : 0;
  cli_table_addf(table, "%.*f%s", digits, number, mark);
}

/* The rows of one table. */
typedef struct shown {
  const json_t *rows;
  const char *part;
  const char *unit;
  const char *how;
  const char *names[MAX_NAMES]; /* of columns: ours, then the peers' */
  const char *bys[MAX_NAMES];   /* whose; a peer may use our names */
  int num_names;
  json_t *cases;
  const char *corner; /* the unit where it is none of the part's, else "" */
} shown;

static void add_name(shown *it, const char *name, const char *by) {
  for (int i = 0; i < it->num_names; ++i) {
    if (strcmp(it->names[i], name) == 0 && strcmp(it->bys[i], by) == 0) return;
  }
  if (it->num_names == MAX_NAMES) return;
  it->names[it->num_names] = name;
  it->bys[it->num_names++] = by;
}

/* Ours come first, but where they are the lines. */
static void collect(shown *it, bool by_name) {
  size_t i = 0;
  size_t k = 0;
  const json_t *row = NULL;
  json_t *other = NULL;
  it->cases = json_array();
  for (int theirs = 0; theirs < 2; ++theirs) {
    json_array_foreach(it->rows, i, row) {
      const bool ours = strcmp(text_of(row, "by"), BENCH_OURS) == 0;
      if (!is_of(row, it->part, it->how) || json_object_get(row, "median") == NULL) continue;
      if (by_name || ours == (theirs == 0)) add_name(it, text_of(row, "name"), text_of(row, "by"));
    }
  }
  json_array_foreach(it->rows, i, row) {
    json_t *what = json_object_get(row, "case");
    bool there = !is_of(row, it->part, it->how) || json_object_get(row, "median") == NULL;
    json_array_foreach(it->cases, k, other) there = there || json_equal(other, what);
    if (!there) cli_json_append(it->cases, json_incref(what));
  }
}

static const json_t *find(const shown *it, const json_t *what, int column) {
  size_t i = 0;
  const json_t *row = NULL;
  json_array_foreach(it->rows, i, row) {
    if (is_of(row, it->part, it->how) && strcmp(text_of(row, "name"), it->names[column]) == 0 &&
        strcmp(text_of(row, "by"), it->bys[column]) == 0 &&
        json_equal(json_object_get(row, "case"), what) && json_object_get(row, "median") != NULL) {
      return row;
    }
  }
  return NULL;
}

/* The unit of a column where it is not the part's, else NULL. */
static const char *other_unit(const shown *it, int column) {
  size_t i = 0;
  const json_t *row = NULL;
  json_array_foreach(it->rows, i, row) {
    if (!is_of(row, it->part, it->how) || strcmp(text_of(row, "name"), it->names[column]) != 0 ||
        strcmp(text_of(row, "by"), it->bys[column]) != 0) {
      continue;
    }
    const char *unit = text_of(row, "unit");
    if (strcmp(unit, it->unit) != 0) return unit;
  }
  return NULL;
}

/* The name, with its unit where that is not the part's. */
static void add_head(cli_table *table, const shown *it, int column) {
  const char *unit = other_unit(it, column);
  if (unit == NULL) cli_table_add(table, it->names[column]);
  if (unit != NULL) cli_table_addf(table, "%s, %s", it->names[column], unit);
}

/* Columns that a table has beside those of the ways. */
static void find_beside(const shown *it, bool *peers, bool *floors) {
  size_t k = 0;
  json_t *what = NULL;
  *peers = false;
  *floors = false;
  for (int i = 0; i < it->num_names; ++i) {
    json_array_foreach(it->cases, k, what) {
      const json_t *row = find(it, what, i);
      if (row == NULL) continue;
      /* A rate is no time, whose ratio would be told. */
      *peers = *peers || (strcmp(text_of(row, "by"), BENCH_OURS) != 0 && *it->corner == '\0' &&
                          strcmp(text_of(row, "unit"), it->unit) == 0);
      *floors = *floors || number_of(row, "floor") > 0;
    }
  }
}

/* A line a case, a column a way, of those from `first` on as many as fit a page. */
static void print_columns(const shown *it, int first, int end) {
  size_t k = 0;
  json_t *what = NULL;
  bool peers = false;
  bool floors = false;
  /* The CPU's floor is that of one algorithm on these processors. */
  const bool roof = strcmp(it->part, "cpu") == 0;
  find_beside(it, &peers, &floors);
  cli_table table = {1 + end - first + (floors ? 2 : 0) + (peers ? 1 : 0), 0, 0, NULL};
  cli_table_add(&table, it->corner);
  if (floors) cli_table_add(&table, roof ? "roof" : "floor");
  for (int i = first; i < end; ++i) add_head(&table, it, i);
  if (floors) cli_table_add(&table, roof ? "of roof" : "of floor");
  if (peers) cli_table_add(&table, "peer / ours");
  json_array_foreach(it->cases, k, what) {
    bool there = false;
    for (int i = first; i < end; ++i) there = there || find(it, what, i) != NULL;
    if (!there) continue;
    char *text = case_text(what);
    const json_t *ours = NULL;
    double theirs = 0;
    double floor = 0;
    cli_table_add(&table, text);
    free(text);
    for (int i = 0; i < it->num_names; ++i) {
      const json_t *row = find(it, what, i);
      if (row == NULL) continue;
      if (floor == 0) floor = number_of(row, "floor");
      if (strcmp(text_of(row, "by"), BENCH_OURS) != 0) {
        if (theirs == 0 || number_of(row, "median") < theirs) theirs = number_of(row, "median");
      } else if (ours == NULL || json_is_true(json_object_get(row, "default")) ||
                 (!json_is_true(json_object_get(ours, "default")) &&
                  number_of(row, "median") < number_of(ours, "median"))) {
        /* What is taken by itself; where nothing is, the fastest. */
        ours = row;
      }
    }
    if (floors && floor > 0) add_number(&table, floor, "");
    if (floors && floor == 0) cli_table_add(&table, "");
    for (int i = first; i < end; ++i) {
      const json_t *row = find(it, what, i);
      if (row == NULL) {
        cli_table_add(&table, "-");
      } else {
        add_number(&table, number_of(row, "median"),
                   json_is_true(json_object_get(row, "default")) ? "*" : "");
      }
    }
    const double best = ours == NULL ? 0 : number_of(ours, "median");
    if (floors && floor > 0 && best > 0) cli_table_addf(&table, "%.2f", best / floor);
    if (floors && !(floor > 0 && best > 0)) cli_table_add(&table, "");
    if (peers && theirs > 0 && best > 0) cli_table_addf(&table, "%.2f", theirs / best);
    if (peers && !(theirs > 0 && best > 0)) cli_table_add(&table, "");
  }
  cli_table_print(&table, 2);
}

/* The end of the columns from `first` on that a page has room for: one at least. */
static int page_end(const shown *it, int first) {
  enum { COLUMNS = 6 };
  static const size_t PAGE = 120, CASE = 20, NUMBER = 8, FLOORS = 18, RATIO = 13, BETWEEN = 2;
  bool peers = false;
  bool floors = false;
  find_beside(it, &peers, &floors);
  size_t width = CASE + (floors ? FLOORS : 0) + (peers ? RATIO : 0);
  int end = first;
  while (end < it->num_names && end < first + COLUMNS) {
    const char *unit = other_unit(it, end);
    const size_t own = strlen(it->names[end]) + (unit == NULL ? 0 : 2 + strlen(unit));
    width += BETWEEN + (own < NUMBER ? NUMBER : own);
    if (width > PAGE && end > first) break;
    ++end;
  }
  return end;
}

/* In several tables where there are more ways than a line has room for: of as many columns each, if they fit. */
static void print_split(const shown *it) {
  int tables = 0;
  bool even = true;
  for (int first = 0; first < it->num_names; first = page_end(it, first)) ++tables;
  for (int i = 0; i < tables; ++i) {
    even = even && page_end(it, it->num_names * i / tables) >= it->num_names * (i + 1) / tables;
  }
  int first = 0;
  for (int i = 1; i <= tables; ++i) {
    const int end = even ? it->num_names * i / tables : page_end(it, first);
    print_columns(it, first, end);
    first = end;
  }
}

/* Whether both tell of the same things. */
static bool is_alike(const json_t *a, const json_t *b) {
  const char *key = NULL;
  json_t *value = NULL;
  bool alike = json_object_size(a) == json_object_size(b);
  json_object_foreach((json_t *)(uintptr_t)a, key, value) {
    alike = alike && json_object_get(b, key) != NULL;
  }
  return alike;
}

/* Cases of one kind are one table, with the columns that they have. */
static void print_by_case(const shown *it) {
  json_t *done = json_array();
  size_t i = 0;
  size_t k = 0;
  json_t *first = NULL;
  json_t *other = NULL;
  json_array_foreach(it->cases, i, first) {
    bool told = false;
    json_array_foreach(done, k, other) told = told || is_alike(first, other);
    if (told) continue;
    cli_json_append(done, json_incref(first));
    shown kind = *it;
    kind.cases = json_array();
    kind.num_names = 0;
    json_array_foreach(it->cases, k, other) {
      if (is_alike(first, other)) cli_json_append(kind.cases, json_incref(other));
    }
    for (int name = 0; name < it->num_names; ++name) {
      bool there = false;
      json_array_foreach(kind.cases, k, other) there = there || find(it, other, name) != NULL;
      if (there) add_name(&kind, it->names[name], it->bys[name]);
    }
    /* A unit of all columns is told once. */
    const char *unit = other_unit(&kind, 0);
    for (int name = 1; name < kind.num_names && unit != NULL; ++name) {
      const char *its = other_unit(&kind, name);
      if (its == NULL || strcmp(its, unit) != 0) unit = NULL;
    }
    if (unit != NULL) kind.unit = kind.corner = unit;
    print_split(&kind);
    json_decref(kind.cases);
  }
  json_decref(done);
}

/* A line a way, a table a case. */
static void print_by_name(const shown *it, const json_t *what) {
  char *text = case_text(what);
  bool floors = false;
  bool allocations = false;
  bool ratios = false;
  for (int i = 0; i < it->num_names; ++i) {
    const json_t *row = find(it, what, i);
    if (row == NULL) continue;
    floors = floors || number_of(row, "floor") > 0;
    ratios = ratios || json_object_get(row, "ratio") != NULL;
    allocations = allocations || json_object_get(row, "allocations") != NULL;
  }
  cli_table table = {4 + (floors ? 2 : 0) + (ratios ? 1 : 0) + (allocations ? 1 : 0), 0, 0, NULL};
  cli_table_add(&table, text);
  free(text);
  if (floors) cli_table_add(&table, "floor");
  cli_table_add(&table, "median");
  cli_table_add(&table, "p10");
  cli_table_add(&table, "p90");
  if (floors) cli_table_add(&table, "of floor");
  if (ratios) cli_table_add(&table, "ratio");
  if (allocations) cli_table_add(&table, "allocations");
  for (int i = 0; i < it->num_names; ++i) {
    const json_t *row = find(it, what, i);
    if (row == NULL) continue;
    const double floor = number_of(row, "floor");
    const double median = number_of(row, "median");
    cli_table_add(&table, it->names[i]);
    if (floors) add_number(&table, floor, "");
    add_number(&table, median, "");
    add_number(&table, number_of(row, "low"), "");
    add_number(&table, number_of(row, "high"), "");
    if (floors) cli_table_addf(&table, "%.2f", floor > 0 ? median / floor : 0);
    if (ratios) cli_table_addf(&table, "%.3f", number_of(row, "ratio"));
    if (allocations) {
      const json_t *count = json_object_get(row, "allocations");
      if (json_is_integer(count)) {
        cli_table_addf(&table, "%" JSON_INTEGER_FORMAT, json_integer_value(count));
      } else {
        cli_table_add(&table, "not counted");
      }
    }
  }
  cli_table_print(&table, 2);
}

/* What was left out: a line for each name and reason, with the first case. */
static void print_left_out(const json_t *rows, const char *part) {
  size_t i = 0;
  size_t k = 0;
  const json_t *row = NULL;
  const json_t *other = NULL;
  json_array_foreach(rows, i, row) {
    const char *reason = text_of(row, "left_out");
    int same = 0;
    bool first = reason != NULL && is_of(row, part, NULL);
    if (!first) continue;
    json_array_foreach(rows, k, other) {
      const char *its = text_of(other, "left_out");
      if (its == NULL || !is_of(other, part, NULL) || strcmp(its, reason) != 0 ||
          strcmp(text_of(row, "name"), text_of(other, "name")) != 0) {
        continue;
      }
      first = first && k >= i;
      ++same;
    }
    if (!first) continue;
    char *what = case_text(json_object_get(row, "case"));
    (void)printf("  left out: ");
    cli_print_line(stdout, text_of(row, "name"));
    (void)printf(", %s", what);
    if (same > 1) (void)printf(" and %d more", same - 1);
    (void)printf(": ");
    cli_print_line(stdout, reason);
    (void)putchar('\n');
    free(what);
  }
}

void bench_print_part(const bench_run *run, const bench_part *part) {
  const json_t *rows = json_object_get(run->report, "rows");
  for (int i = 0; i < NUM_HOWS; ++i) {
    shown it = {
        .rows = rows, .part = part->name, .unit = part->unit, .how = HOWS[i].how, .corner = ""};
    collect(&it, part->by_name);
    if (it.num_names > 0) {
      (void)printf("\n%s, %s: %s, %s\n", part->name, part->unit, part->title, HOWS[i].title);
      size_t k = 0;
      json_t *what = NULL;
      if (!part->by_name) print_by_case(&it);
      json_array_foreach(it.cases, k, what) {
        if (part->by_name) print_by_name(&it, what);
      }
    }
    json_decref(it.cases);
  }
  print_left_out(rows, part->name);
  (void)fflush(stdout);
}
