/* SPDX-License-Identifier: Apache-2.0 */
#include "json.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <string.h>

#include "core/text.h"

typedef struct parser {
  const char *at, *end; /* *end is 0 */
  pega_arena *arena;
  const char *what;
  char *path; /* of what is wrong in the tree */
  pega_json_outcome outcome;
} parser;

static bool fail(parser *p, pega_json_outcome outcome, const char *what) {
  p->outcome = outcome;
  p->what = what;
  return false;
}

static bool bad(parser *p, const char *what) { return fail(p, kJsonBad, what); }

static bool no_memory(parser *p) { return fail(p, kJsonNoMemory, "no memory"); }

/* ---- Before parsing: what cJSON takes and should not ---- */

static bool is_digit(char sign) { return sign >= '0' && sign <= '9'; }

/* Behind "\u". cJSON takes four characters that are no digits for a NUL, and a NUL for the end. */
static bool scan_unicode(parser *p) {
  bool zero = true;
  for (int i = 0; i < 4; ++i) {
    const char sign = p->at[i];
    if (!is_digit(sign) && !(sign >= 'a' && sign <= 'f') && !(sign >= 'A' && sign <= 'F')) {
      return bad(p, "\\u without four hexadecimal digits");
    }
    zero = zero && sign == '0';
  }
  if (zero) return bad(p, "\\u0000 in a string");
  p->at += 4;
  return true;
}

/* Behind the first quote, to behind the last. cJSON takes control characters. */
static bool scan_string(parser *p) {
  for (; *p->at != '"'; ++p->at) {
    if (p->at == p->end) return bad(p, "the text ends within a string");
    if ((unsigned char)*p->at < ' ') return bad(p, "a control character in a string");
    if (*p->at != '\\') continue;
    ++p->at;
    if (*p->at == 'u') {
      ++p->at;
      if (!scan_unicode(p)) return false;
      --p->at;
    } else if ((unsigned char)*p->at < ' ') {
      --p->at; /* for the next turn to refuse */
    }
  }
  ++p->at;
  return true;
}

static void skip_digits(parser *p) {
  while (is_digit(*p->at)) ++p->at;
}

/* cJSON takes what strtod() does: 01, 1. and -.5, too. */
static bool scan_number(parser *p) {
  const char *begin = p->at;
  if (*p->at == '-') ++p->at;
  if (!is_digit(*p->at)) return bad(p, "a number without digits");
  if (*p->at == '0' && is_digit(p->at[1])) return bad(p, "a number that begins with 0");
  skip_digits(p);
  if (*p->at == '.') {
    ++p->at;
    if (!is_digit(*p->at)) return bad(p, "a number without digits behind its point");
    skip_digits(p);
  }
  if (*p->at == 'e' || *p->at == 'E') {
    ++p->at;
    if (*p->at == '+' || *p->at == '-') ++p->at;
    if (!is_digit(*p->at)) return bad(p, "a number without digits in its exponent");
    skip_digits(p);
  }
  if (p->at - begin <= kMaxJsonNumber) return true;
  return fail(p, kJsonTooMuch, "a number of more than 63 characters");
}

/* Walks over strings, numbers and brackets: all else is cJSON's to judge. */
static bool scan(parser *p) {
  int depth = 0;
  size_t num_values = 1;
  /* cJSON skips it. */
  if (strncmp(p->at, "\xef\xbb\xbf", 3) == 0) return bad(p, "a byte order mark");
  while (p->at < p->end) {
    const char sign = *p->at;
    if (sign == '-' || is_digit(sign)) {
      if (!scan_number(p)) return false;
      continue;
    }
    /* cJSON takes each of them for a blank. */
    if ((unsigned char)sign < ' ' && sign != '\t' && sign != '\n' && sign != '\r') {
      return bad(p, "a control character");
    }
    ++p->at;
    if (sign == '"' && !scan_string(p)) return false;
    if (sign == '}' || sign == ']') --depth;
    /* cJSON's own limit is 1000, a thousand frames of a caller's stack. */
    if ((sign == '{' || sign == '[') && ++depth > kMaxJsonDepth) {
      return fail(p, kJsonTooMuch, "nested deeper than 16");
    }
    /* Each value but the outermost is behind one of these. */
    if ((sign == '{' || sign == '[' || sign == ',') && ++num_values > kMaxJsonValues) {
      return fail(p, kJsonTooMuch, "more than 2097152 values");
    }
  }
  return true;
}

/* ---- Parsing ---- */

/* cJSON writes where it failed into a variable of its own at each parse. Nobody reads it, but two
 * threads that open packs would write it at once. */
static pthread_mutex_t parse_lock = PTHREAD_MUTEX_INITIALIZER;

void pega_json_make_lock(void) { pthread_mutex_init(&parse_lock, NULL); }

/* The document, to be deleted; NULL when something is wrong. */
static cJSON *parse(parser *p, const char *text, size_t size) {
  /* cJSON reads numbers by the locale's decimal point, of which it knows one byte. */
  const locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
  if (plain == (locale_t)0) {
    no_memory(p);
    return NULL;
  }
  const char *at = text;
  pthread_mutex_lock(&parse_lock);
  const locale_t before = uselocale(plain);
  errno = 0;
  /* With the NUL: cJSON reads one byte ahead, and finds by the NUL that nothing follows. */
  cJSON *root = cJSON_ParseWithLengthOpts(text, size + 1, &at, 1);
  /* It has no other way to tell a lack of memory from bad text, and stops at the first of either. */
  const bool out_of_memory = errno == ENOMEM;
  uselocale(before);
  pthread_mutex_unlock(&parse_lock);
  freelocale(plain);
  if (root != NULL) return root;
  p->at = at;
  if (out_of_memory) {
    no_memory(p);
  } else {
    bad(p, at >= p->end ? "its end is missing or wrong" : "this is no JSON");
  }
  return NULL;
}

/* ---- After parsing: cJSON's tree as ours ---- */

static void append_path(pega_text *text, const pega_json *at) {
  char name[96];
  if (at == NULL || at->parent == NULL) return;
  append_path(text, at->parent);
  if (at->key == NULL) {
    pega_text_printf(text, "[%zu]", at->index);
  } else {
    pega_text_printf(text, "%s%s", text->size == 0 ? "" : ".", pega_text_short_name(at->key, name));
  }
}

void pega_json_path(const pega_json *at, char path[kJsonPathRoom]) {
  pega_text text = {path, kJsonPathRoom, 0};
  path[0] = '\0';
  append_path(&text, at);
}

static bool fail_at(parser *p, const pega_json *at, pega_json_outcome outcome, const char *what) {
  pega_json_path(at, p->path);
  return fail(p, outcome, what);
}

/* `at` is where the value is; its own `value` is not there yet. */
static bool convert(parser *p, const cJSON *item, const pega_json *at, pega_json_value *out);

static bool convert_number(parser *p, double number, const pega_json *at, pega_json_value *out) {
  if (!isfinite(number)) return fail_at(p, at, kJsonBad, "a number past what a double can hold");
  const bool whole = fabs(number) <= (double)PEGA_MAX_JSON_INTEGER && trunc(number) == number;
  if (whole && !(number == 0 && signbit(number))) {
    out->type = kJsonInt;
    out->as.i64 = (int64_t)number;
  } else {
    out->type = kJsonReal;
    out->as.f64 = number;
  }
  return true;
}

static bool convert_string(parser *p, const char *text, pega_json_value *out) {
  const size_t size = strlen(text);
  out->type = kJsonString;
  out->size = (uint32_t)size;
  out->as.text = pega_arena_text(p->arena, text, size);
  return out->as.text != NULL || no_memory(p);
}

/* cJSON keeps keys that are there twice. */
static bool convert_key(parser *p, const pega_json *at, pega_json_member *members, size_t count) {
  members[count].key = pega_arena_text(p->arena, at->key, strlen(at->key));
  if (members[count].key == NULL) return no_memory(p);
  for (size_t i = 0; i < count; ++i) {
    if (strcmp(members[i].key, at->key) == 0) {
      return fail_at(p, at, kJsonBad, "duplicate object key");
    }
  }
  return true;
}

static bool convert_members(parser *p, const cJSON *item, bool object, const pega_json *at,
                            pega_json_value *out) {
  size_t count = 0;
  for (const cJSON *child = item->child; child != NULL; child = child->next) ++count;
  if (object && count > kMaxJsonMembers) {
    return fail_at(p, at, kJsonTooMuch, "an object of more than 256 members");
  }
  pega_json_member *members = pega_arena_alloc(p->arena, count, sizeof *members);
  if (members == NULL) return no_memory(p);
  count = 0;
  for (const cJSON *child = item->child; child != NULL; child = child->next) {
    const pega_json place = {at, object ? child->string : NULL, count, NULL};
    if (object && !convert_key(p, &place, members, count)) return false;
    if (!convert(p, child, &place, &members[count].value)) return false;
    ++count;
  }
  out->type = object ? kJsonObject : kJsonArray;
  out->size = (uint32_t)count;
  out->as.members = members;
  return true;
}

static bool convert(parser *p, const cJSON *item, const pega_json *at, pega_json_value *out) {
  switch (item->type & 0xff) {
    case cJSON_Object:
    case cJSON_Array:
      return convert_members(p, item, (item->type & 0xff) == cJSON_Object, at, out);
    case cJSON_String:
      return convert_string(p, item->valuestring, out);
    case cJSON_Number:
      return convert_number(p, item->valuedouble, at, out);
    case cJSON_True:
      out->type = kJsonTrue;
      return true;
    case cJSON_False:
      out->type = kJsonFalse;
      return true;
    default:
      out->type = kJsonNull;
      return true;
  }
}

/* ---- All of it ---- */

/* The first byte that belongs to no character, or is a NUL, is where the parser is. */
static bool check_utf8(parser *p, size_t size) {
  if (pega_text_is_utf8(p->at, size)) return true;
  while (p->at < p->end) {
    size_t bytes = 1;
    while (bytes < 4 && bytes < (size_t)(p->end - p->at) && !pega_text_is_utf8(p->at, bytes)) {
      ++bytes;
    }
    if (!pega_text_is_utf8(p->at, bytes)) break;
    p->at += bytes;
  }
  return bad(p, *p->at == '\0' ? "it has a NUL" : "it is not UTF-8");
}

static void find_place(const char *text, const char *at, pega_json_error *error) {
  error->line = 1;
  error->column = 1;
  for (; text < at; ++text) {
    ++error->column;
    if (*text == '\n') {
      ++error->line;
      error->column = 1;
    }
  }
}

pega_json_outcome pega_json_parse_text(const char *text, size_t size, pega_arena *arena,
                                       pega_json_value *out, pega_json_error *error) {
  parser p = {text, text + size, arena, NULL, error->path, kJsonGood};
  const pega_json place = {NULL, NULL, 0, NULL};
  memset(out, 0, sizeof *out);
  memset(error, 0, sizeof *error);
  cJSON *root = check_utf8(&p, size) && scan(&p) ? parse(&p, text, size) : NULL;
  if (root == NULL) {
    find_place(text, p.at, error);
  } else {
    convert(&p, root, &place, out);
    cJSON_Delete(root);
  }
  error->what = p.what;
  return p.outcome;
}

const pega_json_value *pega_json_find(const pega_json_value *object, const char *key) {
  if (object->type != kJsonObject) return NULL;
  for (uint32_t i = 0; i < object->size; ++i) {
    if (strcmp(object->as.members[i].key, key) == 0) return &object->as.members[i].value;
  }
  return NULL;
}
