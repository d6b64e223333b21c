/* SPDX-License-Identifier: Apache-2.0 */
#include "ops/qwen35/choices_read.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ops/qwen35/prefill.h"
#include "pack/description.h"
#include "pack/json_read.h"

enum { kMaxFile = 4 << 20, kMaxRows = 16384 };

/* Both lists only grow, by single stores. */
static _Atomic(const pega_choices *) loaded;
static _Atomic(const pega_choices *) from_environment;
static atomic_bool environment_was_read;

/* --- a table --- */

/* A row as it is read: the order of its members is that of the points. */
typedef struct point {
  uint16_t parallel, value_heads, key_heads, tokens;
  uint16_t row;
} point;

static bool read_times(pega_json_reader *reader, const pega_json *us, pega_gdr_place place,
                       uint16_t *out) {
  const char *names[kMaxImplementations + 1] = {NULL};
  int known = 0;
  for (int i = 0; i < pega_num_prefill_implementations; ++i) {
    const pega_prefill_implementation *candidate = &pega_prefill_implementations[i];
    pega_json at;
    double time;
    out[i] = kNoTime;
    if (candidate->place != place) continue;
    names[known++] = candidate->name;
    if (!pega_json_is(us->value, kJsonObject) || !pega_json_get(us, candidate->name, &at)) continue;
    if (!pega_json_number(reader, &at, &time)) return false;
    if (!(time >= 1e-3 && time <= 1e12)) {
      return pega_json_expected(reader, &at, "microseconds, 0.001 to 1e12");
    }
    out[i] = pega_choices_log(time * kLogUnit);
  }
  if (!pega_json_fields(reader, us, names)) return false;
  return us->value->size > 0 || pega_json_expected(reader, us, "a time or more");
}

static bool read_row(pega_json_reader *reader, const pega_json *at, pega_gdr_place place,
                     point *out, uint16_t *times) {
  static const char *const fields[] = {"key_heads", "value_heads", "sequences", "tokens",
                                       "us",        "low",         "high",      NULL};
  int64_t size[4];
  pega_json us;
  if (!pega_json_fields(reader, at, fields)) return false;
  for (int i = 0; i < 4; ++i) {
    const int64_t most = i < 2 ? kGdrMaxHeads : INT32_MAX;
    if (!pega_json_need_int(reader, at, fields[i], 1, most, &size[i])) return false;
  }
  if (size[1] % size[0] != 0) {
    return pega_json_fail(reader, at, PEGA_ERROR_FORMAT,
                          "expected value_heads to be a multiple of key_heads");
  }
  out->parallel = pega_choices_log((double)size[1] * (double)size[2]);
  out->value_heads = pega_choices_log((double)size[1]);
  out->key_heads = pega_choices_log((double)size[0]);
  out->tokens = pega_choices_log((double)size[3]);
  out->row = (uint16_t)at->index;
  return pega_json_need(reader, at, "us", &us) && read_times(reader, &us, place, times);
}

static int order(const void *a, const void *b) {
  const uint16_t *left = a;
  const uint16_t *right = b;
  int i = 0;
  while (i < 3 && left[i] == right[i]) ++i;
  return left[i] - right[i];
}

/* Into the members of a table with room for `count` of each. */
static bool read_rows(pega_json_reader *reader, const pega_json *rows, pega_gdr_place place,
                      size_t count, point *points, pega_choice_curve *curves, uint16_t *tokens,
                      uint16_t *row_of, uint16_t *us, int32_t *num_curves) {
  for (size_t i = 0; i < count; ++i) {
    const pega_json at = pega_json_item(rows, i);
    if (!read_row(reader, &at, place, &points[i], us + i * kMaxImplementations)) return false;
  }
  qsort(points, count, sizeof *points, order);
  int32_t made = 0;
  for (size_t i = 0; i < count; ++i) {
    const point *now = &points[i];
    if (i > 0 && order(now - 1, now) == 0) {
      return pega_json_fail(reader, rows, PEGA_ERROR_FORMAT,
                            "%d and %d are of sizes that cannot be told apart (less than 0.07 %%)",
                            now[-1].row, now->row);
    }
    if (i == 0 || memcmp(now - 1, now, 3 * sizeof now->tokens) != 0) {
      curves[made++] =
          (pega_choice_curve){now->parallel, now->value_heads, now->key_heads, (uint16_t)i};
    }
    tokens[i] = now->tokens;
    row_of[i] = now->row;
  }
  curves[made].begin = (uint16_t)count;
  *num_curves = made;
  return true;
}

static bool read_device(pega_json_reader *reader, const pega_json *root, pega_choices *out) {
  static const char *const fields[] = {"name", "target", "multiprocessors", NULL};
  pega_json device;
  int64_t processors;
  const char *name;
  pega_target target;
  if (!pega_json_need(reader, root, "device", &device) ||
      !pega_json_fields(reader, &device, fields) ||
      !pega_json_need_text(reader, &device, "target", 1, sizeof target.name - 1, &name) ||
      !pega_json_int_or(reader, &device, "multiprocessors", 0, INT32_MAX, 0, &processors)) {
    return false;
  }
  out->processors = (int32_t)processors;
  out->target = 0;
  if (strcmp(name, "cpu") == 0) return true;
  if (pega_target_parse(name, &target)) {
    out->target = target.compute_capability;
    return true;
  }
  return pega_json_fail(reader, &device, PEGA_ERROR_FORMAT, "expected a target like sm_90, or cpu");
}

static bool read_table(pega_json_reader *reader, const pega_json_value *document,
                       pega_choices **out) {
  static const char *const fields[] = {"schema_version", "function", "device", "rows", "date",
                                       "pega",           "command",  "how",    NULL};
  const pega_json root = {NULL, NULL, 0, document};
  int64_t version;
  const char *function;
  pega_choices read = {.columns = kMaxImplementations};
  pega_json rows;
  size_t count;
  if (!pega_json_fields(reader, &root, fields) ||
      !pega_json_need_int(reader, &root, fields[0], 1, 1, &version) ||
      !pega_json_need_text(reader, &root, fields[1], 1, kMaxText, &function)) {
    return false;
  }
  if (strcmp(function, PEGA_QWEN35_PREFILL) != 0) {
    return pega_json_fail(reader, &root, PEGA_ERROR_FORMAT,
                          "expected times of the function " PEGA_QWEN35_PREFILL);
  }
  if (!read_device(reader, &root, &read) || !pega_json_need(reader, &root, "rows", &rows) ||
      !pega_json_array(reader, &rows, 1, kMaxRows, &count)) {
    return false;
  }
  const size_t source_size = strlen(reader->source) + 1;
  const size_t curves_size = (count + 1) * sizeof *read.curves;
  const size_t numbers = count * (2 + kMaxImplementations);
  char *block = calloc(1, sizeof read + curves_size + numbers * sizeof(uint16_t) + source_size);
  point *points = calloc(count, sizeof *points);
  bool ok = (block != NULL && points != NULL) || pega_json_out_of_memory(reader);
  if (ok) {
    pega_choice_curve *curves = (void *)(block + sizeof read);
    uint16_t *tokens = (void *)(block + sizeof read + curves_size);
    read.curves = curves;
    read.tokens = tokens;
    read.rows = tokens + count;
    read.us = tokens + 2 * count;
    read.source = memcpy(tokens + numbers, reader->source, source_size);
    ok = read_rows(reader, &rows, read.target == 0 ? kPlaceCpu : kPlaceCuda, count, points, curves,
                   tokens, tokens + count, tokens + 2 * count, &read.num_curves);
  }
  free(points);
  if (!ok) {
    free(block);
    return false;
  }
  *out = memcpy(block, &read, sizeof read);
  return true;
}

static pega_status parse(const char *source, const char *text, size_t size, pega_choices **out,
                         pega_error *error) {
  pega_arena arena = {NULL};
  pega_json_reader reader = {source, &arena, error, PEGA_OK, ""};
  pega_json_value document;
  if (pega_json_parse(&reader, text, size, &arena, &document)) read_table(&reader, &document, out);
  pega_arena_free(&arena);
  return reader.status;
}

/* --- its file --- */

static pega_status failed(const char *path, pega_error *error) {
  const int code = errno;
  char text[128];
  pega_error_set(error, code == ENOENT ? PEGA_ERROR_NOT_FOUND : PEGA_ERROR_IO, NULL, "%s: %s", path,
                 strerror_r(code, text, sizeof text));
  if (error != NULL) error->code = code;
  return code == ENOENT ? PEGA_ERROR_NOT_FOUND : PEGA_ERROR_IO;
}

/* All of the file with a NUL behind it, or of `text`, which need not have one. */
static pega_status load(const char *path, const char *text, size_t size, pega_choices **out,
                        pega_error *error) {
  const int fd = text != NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  struct stat found;
  if (text == NULL) {
    if (fd < 0) return failed(path, error);
    size = fstat(fd, &found) == 0 && S_ISREG(found.st_mode) ? (size_t)found.st_size : kMaxFile + 1;
  }
  char *copy = size > kMaxFile ? NULL : malloc(size + 1);
  pega_status status = PEGA_OK;
  if (size > kMaxFile) {
    status = pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                            "%s: expected a regular file of at most %d bytes", path, kMaxFile);
  } else if (copy == NULL) {
    status = pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "%s: no memory for it", path);
  } else if (text != NULL) {
    memcpy(copy, text, size);
  } else {
    const ssize_t got = read(fd, copy, size);
    if (got < 0) status = failed(path, error);
    size = got < 0 ? 0 : (size_t)got; /* one that is being written is no JSON */
  }
  if (fd >= 0) close(fd);
  if (status == PEGA_OK) {
    copy[size] = '\0';
    status = parse(path, copy, size, out, error);
  }
  free(copy);
  return status;
}

pega_status pega_qwen35_load_choices(const char *path, const char *text, size_t size,
                                     pega_error *error) {
  if (path == NULL && text == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_qwen35_load_choices: path and text are NULL, expected one");
  }
  pega_choices *choices;
  pega_status status = load(path == NULL ? "choices in memory" : path, text, size, &choices, error);
  if (status != PEGA_OK) return status;
  choices->next = atomic_load_explicit(&loaded, memory_order_relaxed);
  while (!atomic_compare_exchange_weak(&loaded, &choices->next, choices)) continue;
  return PEGA_OK;
}

/* --- the environment --- */

static void drop(pega_choices *choices) {
  while (choices != NULL) {
    pega_choices *next = (void *)(uintptr_t)choices->next;
    free(choices);
    choices = next;
  }
}

/* "first:second", empty ones skipped. */
static pega_status load_list(const char *list, pega_choices **out, pega_error *error) {
  const pega_choices **end = (const pega_choices **)out;
  for (; *list != '\0'; list += *list == ':' ? 1 : 0) {
    const size_t size = strcspn(list, ":");
    if (size == 0) continue;
    char *path = strndup(list, size);
    pega_choices *choices = NULL;
    if (path == NULL) {
      return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory for a path");
    }
    const pega_status status = load(path, NULL, 0, &choices, error);
    free(path);
    if (status != PEGA_OK) return status;
    *end = choices;
    end = &choices->next;
    list += size;
  }
  return PEGA_OK;
}

__attribute__((cold, noinline)) static pega_status read_environment(const char *function,
                                                                    pega_error *error) {
  const char *list = secure_getenv("PEGA_CHOICES");
  pega_choices *choices = NULL;
  const pega_choices *none = NULL;
  pega_error why;
  pega_error_init(&why);
  const pega_status status = list == NULL ? PEGA_OK : load_list(list, &choices, &why);
  if (status != PEGA_OK) {
    drop(choices);
    pega_error_set(error, status, NULL, "%s: PEGA_CHOICES names a table that cannot be used: %s",
                   function, pega_error_message(&why));
    pega_error_clear(&why);
    return status;
  }
  /* Another thread may have read them, too. */
  if (!atomic_compare_exchange_strong(&from_environment, &none, choices)) drop(choices);
  atomic_store_explicit(&environment_was_read, true, memory_order_release);
  return PEGA_OK;
}

pega_status pega_choices_loaded(const char *function, const pega_choices *out[2],
                                pega_error *error) {
  if (__builtin_expect(!atomic_load_explicit(&environment_was_read, memory_order_acquire), 0)) {
    pega_status status = read_environment(function, error);
    if (status != PEGA_OK) return status;
  }
  out[0] = atomic_load_explicit(&loaded, memory_order_acquire);
  out[1] = atomic_load_explicit(&from_environment, memory_order_acquire);
  return PEGA_OK;
}
