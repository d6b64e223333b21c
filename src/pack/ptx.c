/* SPDX-License-Identifier: Apache-2.0 */
#include "ptx.h"

#include <string.h>

#include "core/text.h"

/* A directive, a name or a number; of anything else one byte. A point begins one: "8.0" is two. */
typedef struct token {
  const char *text;
  size_t size; /* 0 at the end */
} token;

typedef struct scanner {
  const char *at, *end;
} scanner;

/* What has been found up to where the scanner is. */
typedef struct findings {
  token target;
  token other; /* the first entry of another name that others see */
  bool hidden; /* the entry is there, and nobody sees it */
  bool found;
} findings;

static bool is_digit(char sign) { return sign >= '0' && sign <= '9'; }

static bool is_in_word(char sign) {
  return is_digit(sign) || (sign >= 'a' && sign <= 'z') || (sign >= 'A' && sign <= 'Z') ||
         sign == '_' || sign == '$' || sign == '%';
}

static bool is(token which, const char *word) {
  return which.size == strlen(word) && memcmp(which.text, word, which.size) == 0;
}

static bool at_pair(const scanner *s, char first, char second) {
  return s->end - s->at >= 2 && s->at[0] == first && s->at[1] == second;
}

/* Blanks and comments. A comment without an end is all the rest. */
static void skip(scanner *s) {
  while (s->at < s->end) {
    if (at_pair(s, '/', '/')) {
      while (s->at < s->end && *s->at != '\n') ++s->at;
    } else if (at_pair(s, '/', '*')) {
      s->at += 2;
      while (s->at < s->end && !at_pair(s, '*', '/')) ++s->at;
      s->at = s->end - s->at >= 2 ? s->at + 2 : s->end;
    } else if (strchr(" \t\r\n\v\f", *s->at) != NULL && *s->at != '\0') {
      ++s->at;
    } else {
      return;
    }
  }
}

/* Names of files and pragmas: neither a comment nor a directive begins in them. */
static void skip_string(scanner *s) {
  for (++s->at; s->at < s->end && *s->at != '\n'; ++s->at) {
    if (*s->at == '"') {
      ++s->at;
      return;
    }
    if (*s->at == '\\' && s->end - s->at >= 2 && s->at[1] != '\n') ++s->at;
  }
}

static token next(scanner *s) {
  skip(s);
  const char *begin = s->at;
  if (begin == s->end) return (token){begin, 0};
  if (*begin == '"') {
    skip_string(s);
  } else {
    ++s->at;
    if (*begin == '.' || is_in_word(*begin)) {
      while (s->at < s->end && is_in_word(*s->at)) ++s->at;
    }
  }
  return (token){begin, (size_t)(s->at - begin)};
}

/* A copy for an error's text. */
static const char *shown(token which, char buffer[96]) {
  char text[96];
  const size_t size = which.size < sizeof text ? which.size : sizeof text - 1;
  memcpy(text, which.text, size);
  text[size] = '\0';
  return pega_text_short_name(text, buffer);
}

static bool digits(token which, size_t from) {
  for (size_t i = from; i < which.size; ++i) {
    if (!is_digit(which.text[i])) return false;
  }
  return which.size > from;
}

/* ".version 8.0", the first thing in every PTX. */
static bool skip_version(scanner *s) {
  if (!is(next(s), ".version")) return false;
  const token major = next(s);
  const token minor = next(s);
  return digits(major, 0) && minor.size > 0 && minor.text[0] == '.' && digits(minor, 1);
}

static pega_status wrong(const char *what, const char *text, pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_FORMAT, NULL, "%s: %s; build the pack again", what, text);
}

/* Walks to the end, or to a second target that is not the first. */
static void look(scanner *s, const pega_target *target, const char *entry, findings *out) {
  token before = {s->at, 0};
  for (token now = next(s); now.size > 0; before = now, now = next(s)) {
    if (is(now, ".target")) {
      const token named = next(s);
      if (out->target.size == 0 || !is(named, target->name)) out->target = named;
      now = named;
    } else if (is(now, ".entry")) {
      const bool seen = is(before, ".visible") || is(before, ".weak");
      const token name = next(s);
      if (is(name, entry)) {
        out->found = out->found || seen;
        out->hidden = out->hidden || !seen;
      } else if (seen && out->other.size == 0) {
        out->other = name;
      }
      now = name;
    }
  }
}

pega_status pega_ptx_check(const char *text, size_t size, const pega_target *target,
                           const char *entry, const char *what, pega_error *error) {
  char name[96];
  scanner s = {text, text + size};
  findings found = {{text, 0}, {text, 0}, false, false};
  if (!skip_version(&s)) {
    return wrong(what, "this is no PTX: it does not begin with .version and a number such as 8.0",
                 error);
  }
  look(&s, target, entry, &found);
  if (found.target.size == 0) return wrong(what, "the PTX has no .target", error);
  if (!is(found.target, target->name)) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: targets differ: manifest %s, PTX %s; build the pack again", what,
                          target->name, shown(found.target, name));
  }
  if (found.found) return PEGA_OK;
  if (found.hidden) {
    return wrong(what, "the PTX's entry of this name is neither .visible nor .weak", error);
  }
  if (found.other.size == 0) return wrong(what, "the PTX has no visible entry", error);
  return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                        "%s: the PTX has no such entry, it has: %s; build the pack again", what,
                        shown(found.other, name));
}
