/* SPDX-License-Identifier: Apache-2.0 */
#include "wheel.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { kLevels = 8, kMostBytes = 1 << 26 };

static const char kInfo[] = ".dist-info";

/* A whole small file, NUL-terminated; NULL if it cannot be read. */
static char *read_text(const char *folder, const char *name) {
  char path[PATH_MAX];
  int length = snprintf(path, sizeof path, "%s/%s", folder, name);
  if (length < 0 || (size_t)length >= sizeof path) return NULL;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat status;
  char *text = NULL;
  if (fd < 0) return NULL;
  if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size < kMostBytes) {
    text = malloc((size_t)status.st_size + 1);
  }
  size_t size = 0;
  while (text != NULL && size < (size_t)status.st_size) {
    ssize_t got = read(fd, text + size, (size_t)status.st_size - size);
    if (got <= 0) break;
    size += (size_t)got;
  }
  if (text != NULL) text[size] = '\0';
  close(fd);
  return text;
}

static const char *next_line(const char *line) {
  const char *end = strchr(line, '\n');
  return end == NULL ? NULL : end + 1;
}

/* Whether a line of RECORD ("path,hash,size") is of the file. */
static bool line_names(const char *line, const char *file, size_t size) {
  bool quoted = line[0] == '"';
  if (quoted) ++line;
  return strncmp(line, file, size) == 0 && line[size] == (quoted ? '"' : ',');
}

static bool record_lists(const char *info, const char *file) {
  char *record = read_text(info, "RECORD");
  bool found = false;
  size_t size = strlen(file);
  for (const char *line = record; line != NULL && !found; line = next_line(line)) {
    found = line_names(line, file, size);
  }
  free(record);
  return found;
}

/* The first file called `base` that RECORD lists, as a full path. */
static char *record_find(const char *site, const char *info, const char *base) {
  char *record = read_text(info, "RECORD");
  char *path = NULL;
  size_t size = strlen(base);
  for (const char *line = record; line != NULL && path == NULL; line = next_line(line)) {
    const char *end = line + strcspn(line, ",\n");
    const char *slash = memrchr(line, '/', (size_t)(end - line));
    const char *last = slash == NULL ? line : slash + 1;
    if ((size_t)(end - last) != size || memcmp(last, base, size) != 0) continue;
    if (asprintf(&path, "%s/%.*s", site, (int)(end - line), line) < 0) path = NULL;
  }
  free(record);
  return path;
}

/* The value of header `key` of a METADATA line, or NULL. */
static const char *header_value(const char *line, const char *key, size_t *size) {
  size_t key_size = strlen(key);
  if (strncasecmp(line, key, key_size) != 0 || line[key_size] != ':') return NULL;
  const char *value = line + key_size + 1;
  while (*value == ' ' || *value == '\t') ++value;
  *size = strcspn(value, "\r\n");
  return value;
}

static char *metadata_header(const char *metadata, const char *key) {
  for (const char *line = metadata; line != NULL && line[0] != '\n' && line[0] != '\r';
       line = next_line(line)) {
    size_t size;
    const char *value = header_value(line, key, &size);
    if (value != NULL) return strndup(value, size);
  }
  return NULL;
}

static bool fill(const char *site, const char *info, pega_wheel *out) {
  char *metadata = read_text(info, "METADATA");
  out->site = strdup(site);
  out->info = strdup(info);
  out->name = metadata_header(metadata, "Name");
  out->version = metadata_header(metadata, "Version");
  free(metadata);
  if (out->site != NULL && out->info != NULL && out->name != NULL && out->version != NULL) {
    return true;
  }
  pega_wheel_free(out);
  return false;
}

void pega_wheel_free(pega_wheel *wheel) {
  free(wheel->site);
  free(wheel->info);
  free(wheel->name);
  free(wheel->version);
  memset(wheel, 0, sizeof *wheel);
}

/* Calls `test` for each .dist-info folder of a site until it says yes. */
static bool each_info(const char *site, bool (*test)(void *self, const char *info), void *self) {
  DIR *entries = opendir(site);
  bool found = false;
  struct dirent *entry;
  while (entries != NULL && !found && (entry = readdir(entries)) != NULL) {
    size_t size = strlen(entry->d_name);
    if (size < sizeof kInfo || strcmp(entry->d_name + size - (sizeof kInfo - 1), kInfo) != 0) {
      continue;
    }
    char *info = NULL;
    if (asprintf(&info, "%s/%s", site, entry->d_name) < 0) break;
    found = test(self, info);
    free(info);
  }
  if (entries != NULL) closedir(entries);
  return found;
}

typedef struct owner_query {
  const char *site;
  const char *file; /* relative to the site */
  pega_wheel *out;
} owner_query;

static bool owns(void *self, const char *info) {
  const owner_query *query = self;
  return record_lists(info, query->file) && fill(query->site, info, query->out);
}

bool pega_wheel_of(const char *path, pega_wheel *out) {
  memset(out, 0, sizeof *out);
  char *site = realpath(path, NULL);
  char *whole = site == NULL ? NULL : strdup(site);
  bool found = false;
  for (int level = 0; whole != NULL && level < kLevels && !found; ++level) {
    char *slash = strrchr(site, '/');
    if (slash == NULL || slash == site) break;
    *slash = '\0';
    owner_query query = {site, whole + strlen(site) + 1, out};
    found = each_info(site, owns, &query);
  }
  free(whole);
  free(site);
  return found;
}

/* Whether the first `size` bytes name the same project: case, '-', '_' and '.' do not count. */
static bool same_project(const char *a, size_t size, const char *b) {
  size_t i = 0;
  for (; i < size && b[i] != '\0'; ++i) {
    char x = a[i] == '_' || a[i] == '.' ? '-' : a[i];
    char y = b[i] == '_' || b[i] == '.' ? '-' : b[i];
    if (x >= 'A' && x <= 'Z') x = (char)(x - 'A' + 'a');
    if (y >= 'A' && y <= 'Z') y = (char)(y - 'A' + 'a');
    if (x != y) return false;
  }
  return i == size && b[i] == '\0';
}

char *pega_wheel_requirement(const pega_wheel *wheel, const char *name) {
  char *metadata = read_text(wheel->info, "METADATA");
  char *requirement = NULL;
  for (const char *line = metadata;
       line != NULL && line[0] != '\n' && line[0] != '\r' && requirement == NULL;
       line = next_line(line)) {
    size_t size;
    const char *value = header_value(line, "Requires-Dist", &size);
    if (value == NULL) continue;
    size_t project = strcspn(value, " \t\r\n;<>=!~([");
    if (!same_project(value, project, name)) continue;
    size_t end = strcspn(value, ";\r\n");
    while (end > 0 && (value[end - 1] == ' ' || value[end - 1] == '\t')) --end;
    requirement = strndup(value, end);
  }
  free(metadata);
  return requirement;
}

/* ---- Versions, as Python packages are counted (PEP 440) ---- */

enum { kMostParts = 8, kFinal = 4, kAfterAll = INT_MAX };

typedef struct version {
  long release[kMostParts]; /* zeros behind those that are said */
  int parts;                /* that are said */
  long pre;                 /* 0: of what has a dev alone, 1 to 3: a, b, rc, kFinal */
  long pre_number;
  long post; /* -1: none */
  long dev;  /* kAfterAll: none */
} version;

static bool read_number(const char **at, const char *end, long *out) {
  long number = 0;
  const char *from = *at;
  for (; *at < end && **at >= '0' && **at <= '9'; ++*at) {
    if (number > kAfterAll / 10 - 10) return false;
    number = number * 10 + (**at - '0');
  }
  *out = number;
  return *at > from;
}

static bool skip_word(const char **at, const char *end, const char *word) {
  size_t size = strlen(word);
  if ((size_t)(end - *at) < size || strncasecmp(*at, word, size) != 0) return false;
  *at += size;
  return true;
}

static void skip_separator(const char **at, const char *end) {
  if (*at < end && (**at == '.' || **at == '-' || **at == '_')) ++*at;
}

/* "1.2.3", with a suffix as "rc1", ".post2", ".dev3"; a local one ("+cu130") does not count. Epochs are not
 * understood. `any`: whether it ended in ".*" (NULL where it may not). */
static bool read_version(const char *at, const char *end, version *out, bool *any) {
  static const struct {
    const char *word;
    long pre;
  } pres[] = {{"alpha", 1}, {"beta", 2}, {"preview", 3}, {"pre", 3},
              {"rc", 3},    {"a", 1},    {"b", 2},       {"c", 3}};
  memset(out, 0, sizeof *out);
  out->pre = kFinal;
  out->post = -1;
  out->dev = kAfterAll;
  if (any != NULL) *any = false;
  if (at < end && (*at == 'v' || *at == 'V')) ++at;
  do {
    if (any != NULL && out->parts > 0 && end - at == 1 && *at == '*') {
      *any = true;
      return true;
    }
    if (out->parts == kMostParts || !read_number(&at, end, &out->release[out->parts])) return false;
    ++out->parts;
  } while (end - at >= 2 && at[0] == '.' && (at[1] == '*' || (at[1] >= '0' && at[1] <= '9')) &&
           ++at < end);
  const char *before = at;
  skip_separator(&at, end);
  bool found = false;
  for (size_t i = 0; i < sizeof pres / sizeof *pres && !found; ++i) {
    found = skip_word(&at, end, pres[i].word);
    if (!found) continue;
    out->pre = pres[i].pre;
    skip_separator(&at, end);
    read_number(&at, end, &out->pre_number);
    before = at;
  }
  at = before;
  skip_separator(&at, end);
  if (skip_word(&at, end, "post")) {
    skip_separator(&at, end);
    out->post = 0;
    read_number(&at, end, &out->post);
    before = at;
  }
  at = before;
  skip_separator(&at, end);
  if (skip_word(&at, end, "dev")) {
    skip_separator(&at, end);
    out->dev = 0;
    read_number(&at, end, &out->dev);
    if (out->pre == kFinal && out->post < 0) out->pre = 0;
    before = at;
  }
  at = before;
  return at == end || *at == '+';
}

static int compare_release(const version *a, const version *b, int parts) {
  for (int i = 0; i < parts; ++i) {
    if (a->release[i] != b->release[i]) return a->release[i] < b->release[i] ? -1 : 1;
  }
  return 0;
}

static int compare_versions(const version *a, const version *b) {
  int order = compare_release(a, b, kMostParts);
  const long left[] = {a->pre, a->pre_number, a->post, a->dev};
  const long right[] = {b->pre, b->pre_number, b->post, b->dev};
  for (int i = 0; i < 4 && order == 0; ++i) {
    if (left[i] != right[i]) order = left[i] < right[i] ? -1 : 1;
  }
  return order;
}

/* Whether a version is one that "<0.1.13" and its like leave out. */
static bool refuses_one(const char *at, const char *end, const version *have) {
  static const char *const operators[] = {"===", "<=", ">=", "==", "!=", "~=", "<", ">"};
  enum { kSame, kAtMost, kAtLeast, kIs, kIsNot, kLike, kBelow, kAbove, kNone };
  int which = 0;
  version asked;
  bool any;
  while (which < kNone && !skip_word(&at, end, operators[which])) ++which;
  while (at < end && (*at == ' ' || *at == '\t')) ++at;
  if (which == kSame || which == kNone || !read_version(at, end, &asked, &any)) return false;
  if (any && which != kIs && which != kIsNot) return false;
  int order = compare_versions(have, &asked);
  bool same_release = compare_release(have, &asked, kMostParts) == 0;
  bool alike = any ? compare_release(have, &asked, asked.parts) == 0 : order == 0;
  switch (which) {
    case kAtMost:
      return order > 0;
    case kAtLeast:
      return order < 0;
    case kIs:
      return !alike;
    case kIsNot:
      return alike;
    case kLike:
      return asked.parts >= 2 && (order < 0 || compare_release(have, &asked, asked.parts - 1) != 0);
    case kBelow: /* but what comes before a version is not below it */
      return order >= 0 || (same_release && have->pre < kFinal && asked.pre == kFinal);
    default: /* nor above it what comes after */
      return order <= 0 || (same_release && have->post >= 0 && asked.post < 0);
  }
}

/* Of "name[extra] (<2,>=1.1)". */
static bool refuses(const char *at, const char *end, const version *have) {
  if (at < end && *at == '[') {
    while (at < end && *at != ']') ++at;
    if (at < end) ++at;
  }
  while (at < end && (*at == ' ' || *at == '\t' || *at == '(')) ++at;
  while (at < end) {
    const char *comma = memchr(at, ',', (size_t)(end - at));
    const char *stop = comma == NULL ? end : comma;
    const char *last = stop;
    while (at < stop && (*at == ' ' || *at == '\t')) ++at;
    while (last > at && (last[-1] == ' ' || last[-1] == '\t' || last[-1] == ')')) --last;
    if (refuses_one(at, last, have)) return true;
    at = comma == NULL ? end : comma + 1;
  }
  return false;
}

char *pega_wheel_refusal(const pega_wheel *wheel, const char *name, const char *have_text) {
  version have;
  if (!read_version(have_text, have_text + strlen(have_text), &have, NULL)) return NULL;
  char *metadata = read_text(wheel->info, "METADATA");
  char *refusal = NULL;
  for (const char *line = metadata;
       line != NULL && line[0] != '\n' && line[0] != '\r' && refusal == NULL;
       line = next_line(line)) {
    size_t size;
    const char *value = header_value(line, "Requires-Dist", &size);
    if (value == NULL || memchr(value, ';', size) != NULL) continue;
    size_t project = strcspn(value, " \t\r\n;<>=!~([");
    if (!same_project(value, project, name)) continue;
    const char *from = value + project;
    while (from < value + size && (*from == ' ' || *from == '\t')) ++from;
    if (refuses(from, value + size, &have)) refusal = strndup(value, size);
  }
  free(metadata);
  return refusal;
}

typedef struct beside_query {
  const char *site;
  const char *name;
  const char *base;
  pega_wheel *out;
  char **path;
} beside_query;

static bool is_project(void *self, const char *info) {
  const beside_query *query = self;
  const char *folder = strrchr(info, '/') + 1;
  /* The folder is <name>-<version>.dist-info, and no name has a '-' there. */
  if (!same_project(folder, strcspn(folder, "-"), query->name)) return false;
  *query->path = record_find(query->site, info, query->base);
  if (*query->path == NULL) return false;
  if (access(*query->path, R_OK) == 0 && fill(query->site, info, query->out)) return true;
  free(*query->path);
  *query->path = NULL;
  return false;
}

bool pega_wheel_beside(const char *site, const char *name, const char *base, pega_wheel *out,
                       char **path) {
  memset(out, 0, sizeof *out);
  *path = NULL;
  beside_query query = {site, name, base, out, path};
  return each_info(site, is_project, &query);
}
