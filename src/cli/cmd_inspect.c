/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <pega/artifact.h>
#include <stdlib.h>

#include "cli.h"
#include "print.h"
#include "table.h"

#ifdef PEGA_CLI_BRIDGE
#include <pega/tvm_ffi.h>
#endif

enum { kShownNames = 24, kWidth = 100, kMostRows = 32, kLongestName = 90 };

static pega_status add_loaders(pega_error *error) {
#ifdef PEGA_CLI_BRIDGE
  return pega_tvm_ffi_add_loader(NULL, error);
#else
  (void)error;
  return PEGA_OK;
#endif
}

/* --- Reading the description --- */

static int64_t count_of(const pega_value *map, const char *key) {
  const pega_value *array = pega_map_get(map, key);
  const int64_t count = array == NULL || array->kind != PEGA_ARRAY ? 0 : pega_value_size(array);
  return count < 0 ? 0 : count;
}

static const pega_value *item_of(const pega_value *map, const char *key, int64_t index) {
  return pega_array_get(pega_map_get(map, key), index);
}

static const char *text_of(const pega_value *map, const char *key) {
  const pega_value *value = pega_map_get(map, key);
  const char *text = value == NULL ? NULL : pega_value_as_string(value, NULL);
  return text == NULL ? "" : text;
}

static const char *text_at(const pega_value *map, const char *key, int64_t index) {
  const pega_value *value = item_of(map, key, index);
  const char *text = value == NULL ? NULL : pega_value_as_string(value, NULL);
  return text == NULL ? "" : text;
}

static bool is_true(const pega_value *map, const char *key) {
  const pega_value *value = pega_map_get(map, key);
  return value != NULL && value->kind == PEGA_BOOL && value->as.boolean;
}

static int64_t int_of(const pega_value *map, const char *key, int64_t otherwise) {
  const pega_value *value = pega_map_get(map, key);
  return value != NULL && value->kind == PEGA_INT ? value->as.i64 : otherwise;
}

/* --- JSON: the description as it is --- */

static json_t *plain_json(const pega_value *value) {
  if (value->kind == PEGA_MAP) {
    json_t *object = json_object();
    for (int64_t i = 0; i < pega_value_size(value); ++i) {
      const char *key = pega_value_as_string(pega_map_key(value, i), NULL);
      if (key != NULL) cli_json_set(object, key, plain_json(pega_map_value(value, i)));
    }
    return object;
  }
  if (value->kind == PEGA_ARRAY) {
    json_t *array = json_array();
    for (int64_t i = 0; i < pega_value_size(value); ++i) {
      cli_json_append(array, plain_json(pega_array_get(value, i)));
    }
    return array;
  }
  size_t size = 0;
  const char *text = pega_value_as_string(value, &size);
  if (text != NULL) return cli_json_text(text, size);
  if (value->kind == PEGA_BOOL) return json_boolean(value->as.boolean);
  if (value->kind == PEGA_INT) return json_integer(value->as.i64);
  return cli_json_value(value);
}

/* --- Text --- */

/* Names with commas between them, in lines of their own behind `indent` blanks. */
typedef struct names {
  int indent;
  int column; /* 0: nothing was printed yet */
} names;

static void print_name(names *self, const char *name) {
  char *shown = cli_escape_line(name);
  if (strlen(shown) > kLongestName) memcpy(shown + kLongestName - 3, "...", 4);
  const int size = (int)strlen(shown);
  if (self->column == 0) {
    self->column = printf("%*s", self->indent, "");
  } else if (self->column + size + 2 > kWidth) {
    (void)printf(",\n%*s", self->indent, "");
    self->column = self->indent;
  } else {
    self->column += printf(", ");
  }
  (void)fputs(shown, stdout);
  self->column += size;
  free(shown);
}

static void end_names(names *self, int64_t hidden) {
  if (hidden > 0) (void)printf("%s%" PRId64 " more", self->column == 0 ? "  " : " and ", hidden);
  if (self->column > 0 || hidden > 0) (void)putchar('\n');
}

static void print_names(const cli_options *options, const pega_value *about, const char *key,
                        const char *title) {
  const int64_t count = count_of(about, key);
  if (count == 0) return;
  names shown = {4, 0};
  const int64_t most = options->symbols || count <= kShownNames ? count : kShownNames;
  (void)printf("  %s (%" PRId64 "):\n", title, count);
  for (int64_t i = 0; i < most; ++i) print_name(&shown, text_at(about, key, i));
  end_names(&shown, count - most);
}

static void print_libraries(const cli_options *options, const pega_value *about) {
  const int64_t count = count_of(about, "libraries");
  cli_table table = {3, 0, 0, NULL};
  int64_t hidden = 0;
  if (count == 0) return;
  (void)puts("  libraries:");
  cli_table_add(&table, "name");
  cli_table_add(&table, "where");
  cli_table_add(&table, "path");
  for (int64_t i = 0; i < count; ++i) {
    const pega_value *library = item_of(about, "libraries", i);
    const bool found = *text_of(library, "found") != '\0';
    /* What a loader wants is wanted by no file. */
    const bool shown = is_true(library, "direct") || *text_of(library, "wanted_by") != '/';
    if (!shown && found && !options->symbols) {
      ++hidden;
      continue;
    }
    cli_table_add(&table, text_of(library, "name"));
    const char *where = text_of(library, "where");
    cli_table_add(&table, *where == '\0' ? "NOWHERE" : where);
    if (found || *where != '\0') {
      cli_table_add(&table, text_of(library, "found"));
    } else {
      cli_table_addf(&table, "wanted by %s", text_of(library, "wanted_by"));
    }
  }
  cli_table_print(&table, 4);
  if (hidden > 0) {
    (void)printf("    and %" PRId64 " that these need (--symbols shows them)\n", hidden);
  }
}

static void print_symbols(const cli_options *options, const pega_value *about) {
  const int64_t count = count_of(about, "symbols");
  const bool looked = is_true(about, "looked_for");
  int64_t lacking = 0;
  if (count == 0) return;
  if (options->symbols) {
    cli_table table = {3, 0, 0, NULL};
    cli_table_add(&table, "symbol");
    cli_table_add(&table, "version");
    cli_table_add(&table, "from");
    (void)printf("  undefined symbols (%" PRId64 "):\n", count);
    for (int64_t i = 0; i < count; ++i) {
      const pega_value *symbol = item_of(about, "symbols", i);
      const char *library = text_of(symbol, "library");
      cli_table_add(&table, text_of(symbol, "name"));
      cli_table_add(&table, text_of(symbol, "version"));
      cli_table_add(&table, *library != '\0'          ? library
                            : !looked                 ? "not looked for"
                            : is_true(symbol, "weak") ? "nobody; may be so"
                                                      : "NOBODY");
    }
    cli_table_print(&table, 4);
    return;
  }
  if (!looked) {
    (void)printf("  undefined symbols: %" PRId64 " (--symbols shows them)\n", count);
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    const pega_value *symbol = item_of(about, "symbols", i);
    if (*text_of(symbol, "library") == '\0' && !is_true(symbol, "weak")) ++lacking;
  }
  (void)printf("  undefined symbols: %" PRId64 ", %s%s\n", count,
               lacking == 0 ? "each found" : "of which nobody provides",
               lacking == 0 ? " (--symbols shows them)" : ":");
  names shown = {4, 0};
  int64_t hidden = 0;
  for (int64_t i = 0; i < count && lacking > 0; ++i) {
    const pega_value *symbol = item_of(about, "symbols", i);
    if (*text_of(symbol, "library") != '\0' || is_true(symbol, "weak")) continue;
    if (lacking - hidden > 0 && hidden < kShownNames) print_name(&shown, text_of(symbol, "name"));
    ++hidden;
  }
  if (lacking > 0) end_names(&shown, lacking > kShownNames ? lacking - kShownNames : 0);
}

static void print_loaders(const pega_value *about) {
  const int64_t count = count_of(about, "loaders");
  if (count == 0) return;
  (void)puts("  runtime loaders:");
  for (int64_t i = 0; i < count; ++i) {
    const pega_value *loader = item_of(about, "loaders", i);
    (void)fputs("    ", stdout);
    cli_print_line(stdout, text_of(loader, "name"));
    (void)puts(is_true(loader, "found")          ? "  found"
               : count_of(about, "missing") == 0 ? "  of a library that is loaded before"
                                                 : "  NOT FOUND");
  }
}

/* Code of one kind for one target. */
typedef struct row {
  const char *target;
  const char *kind;
  int64_t pieces, bytes, kernels, compressed;
} row;

static void print_kernels(const cli_options *options, const pega_value *about) {
  const int64_t count = count_of(about, "kernels");
  row rows[kMostRows];
  int num_rows = 0;
  if (count == 0) return;
  for (int64_t i = 0; i < count; ++i) {
    const pega_value *kernel = item_of(about, "kernels", i);
    const char *target = text_of(kernel, "target");
    const char *kind = text_of(kernel, "kind");
    int k = 0;
    while (k < num_rows &&
           (strcmp(rows[k].target, target) != 0 || strcmp(rows[k].kind, kind) != 0)) {
      ++k;
    }
    if (k == num_rows && num_rows < kMostRows) {
      rows[num_rows++] = (row){target, kind, 0, 0, 0, 0};
    } else if (k == num_rows) {
      k = kMostRows - 1;
      rows[k].target = "others";
    }
    ++rows[k].pieces;
    rows[k].bytes += int_of(kernel, "size", 0);
    rows[k].kernels += count_of(kernel, "entries");
    if (is_true(kernel, "compressed")) ++rows[k].compressed;
  }
  cli_table table = {5, 0, 0, NULL};
  static const char *const head[] = {"target", "kind", "pieces", "bytes", "kernels"};
  for (int i = 0; i < 5; ++i) cli_table_add(&table, head[i]);
  for (int i = 0; i < num_rows; ++i) {
    cli_table_add(&table, rows[i].target);
    cli_table_add(&table, rows[i].kind);
    cli_table_addf(&table, "%" PRId64, rows[i].pieces);
    cli_table_addf(&table, "%" PRId64, rows[i].bytes);
    if (rows[i].compressed > 0) {
      cli_table_addf(&table, "%" PRId64 ", and those of %" PRId64 " compressed", rows[i].kernels,
                     rows[i].compressed);
    } else {
      cli_table_addf(&table, "%" PRId64, rows[i].kernels);
    }
  }
  (void)puts("  GPU code:");
  cli_table_print(&table, 4);
  if (!options->symbols) return;
  names shown = {4, 0};
  for (int64_t i = 0; i < count; ++i) {
    const pega_value *kernel = item_of(about, "kernels", i);
    for (int64_t k = 0; k < count_of(kernel, "entries"); ++k) {
      print_name(&shown, text_at(kernel, "entries", k));
    }
  }
  end_names(&shown, 0);
}

static void print_cut_off(const pega_value *about) {
  if (is_true(about, "kernels_cut_off")) {
    (void)puts("  GPU code: the search was given up; there may be more");
  }
}

static void print_text(const cli_options *options, const pega_value *about) {
  const int64_t missing = count_of(about, "missing");
  const int64_t size = int_of(about, "size", -1);
  cli_print_line(stdout, text_of(about, "path"));
  (void)fputs(": ", stdout);
  cli_print_line(stdout, text_of(about, "format"));
  if (*text_of(about, "architecture") != '\0') {
    (void)fputs(", ", stdout);
    cli_print_line(stdout, text_of(about, "architecture"));
  }
  if (size >= 0) (void)printf(", %" PRId64 " bytes", size);
  (void)putchar('\n');
  print_names(options, about, "functions", "functions");
  if (options->symbols || count_of(about, "functions") == 0) {
    print_names(options, about, "exports", "exported symbols");
  }
  print_libraries(options, about);
  print_symbols(options, about);
  print_loaders(about);
  print_kernels(options, about);
  for (int64_t i = 0; i < count_of(about, "requires"); ++i) {
    (void)fputs(i == 0 ? "  needs besides: " : ", ", stdout);
    cli_print_line(stdout, text_at(about, "requires", i));
  }
  if (count_of(about, "requires") > 0) (void)puts(" (looked for when it is opened)");
  print_cut_off(about);
  (void)puts(missing == 0 ? "  missing: nothing that is known" : "  missing:");
  for (int64_t i = 0; i < missing; ++i) {
    char *text = cli_own_words(text_at(about, "missing", i));
    cli_print_lines(text, 4);
    free(text);
  }
}

/* Whether the file was read and lacks nothing. */
static bool inspect_one(const cli_options *options, const char *path, json_t *report) {
  pega_artifact_options how = PEGA_ARTIFACT_OPTIONS_INIT;
  pega_value about = pega_value_none();
  pega_error error = PEGA_ERROR_INIT;
  how.path = path;
  how.signature_path = options->signature;
  how.search_paths = options->search;
  how.num_search_paths = options->num_search;
  const pega_status status = pega_artifact_inspect(&how, &about, &error);
  const bool whole = status == PEGA_OK && count_of(&about, "missing") == 0;
  if (report != NULL && status == PEGA_OK) {
    cli_json_append(report, plain_json(&about));
  } else if (report != NULL) {
    json_t *item = json_object();
    cli_json_set(item, "path", cli_json_string(path));
    cli_json_set(item, "error", cli_json_error(&error));
    cli_json_append(report, item);
  } else if (status == PEGA_OK) {
    print_text(options, &about);
  } else {
    cli_print_error(&error, false);
  }
  pega_value_release(&about);
  pega_error_clear(&error);
  return whole;
}

cli_exit cli_inspect(const cli_options *options, pega_error *error) {
  if (options->signature != NULL && options->num_args > 1) {
    return cli_misuse(error, "inspect: --signature is for one FILE, got %d", options->num_args);
  }
  if (add_loaders(error) != PEGA_OK) return CLI_FAILED;
  json_t *report = options->json ? json_array() : NULL;
  int failed = 0;
  for (int i = 0; i < options->num_args; ++i) {
    if (i > 0 && report == NULL) (void)putchar('\n');
    if (!inspect_one(options, options->args[i], report)) ++failed;
  }
  if (report != NULL) {
    json_t *object = json_object();
    cli_json_set(object, "files", report);
    cli_json_set(object, "failed", json_integer(failed));
    cli_print_json(object);
  }
  return failed == 0 ? CLI_DONE : CLI_FAILED;
}
