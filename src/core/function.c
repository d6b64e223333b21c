/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "function.h"
#include "hot.h"
#include "object.h"
#include "options.h"
#include "signature.h"
#include "text.h"

struct pega_function {
  pega_object object;
  pega_call call;
  void *self;
  pega_compiled_signature *signature; /* NULL: takes anything */
  void (*deleter)(void *self);
  pega_prepare prepare; /* NULL: nothing to prepare */
  const char *name;     /* "" if anonymous; the texts follow in the same block */
  const char *doc;
  const char *untyped; /* "name(...)" */
  char texts[];
};

uint32_t pega_version(void) {
  return PEGA_VERSION_MAJOR * 10000 + PEGA_VERSION_MINOR * 100 + PEGA_VERSION_PATCH;
}

#define VERSION_TEXT_(number) #number
#define VERSION_TEXT(number) VERSION_TEXT_(number)

const char *pega_version_string(void) {
  return VERSION_TEXT(PEGA_VERSION_MAJOR) "." VERSION_TEXT(PEGA_VERSION_MINOR) "." VERSION_TEXT(
      PEGA_VERSION_PATCH);
}

static void destroy_function(pega_object *object) {
  pega_function *function = (pega_function *)object;
  if (function->deleter != NULL) function->deleter(function->self);
  pega_signature_free(function->signature);
  free(function);
}

static pega_status check_name(const char *name, pega_error *error) {
  char shown[96];
  size_t size = strnlen(name, PEGA_MAX_NAME + 1);
  if (size == 0 || size > PEGA_MAX_NAME) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "function name '%s': expected 1 to %d bytes, got %s",
                          pega_text_short_name(name, shown), PEGA_MAX_NAME,
                          size == 0 ? "none" : "more");
  }
  for (size_t i = 0; i < size; ++i) {
    if ((unsigned char)name[i] <= ' ' || name[i] == 0x7f) {
      return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                            "function name '%s': byte %zu is a blank or control character",
                            pega_text_short_name(name, shown), i);
    }
  }
  if (!pega_text_is_utf8(name, size)) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "function name of %zu bytes is not UTF-8: peers in other languages could "
                          "not read it",
                          size);
  }
  return PEGA_OK;
}

pega_status pega_function_create(const pega_function_options *options, pega_function **out,
                                 pega_error *error) {
  if (options == NULL || out == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_function_create: %s is NULL", out == NULL ? "out" : "options");
  }
  if (!pega_options_fit(options, options->struct_size, sizeof *options)) {
    return pega_error_set(error, PEGA_ERROR_VERSION, NULL,
                          "pega_function_create: options of struct_size %" PRIu32
                          ": expected %zu (or more with zeros after it); start from "
                          "PEGA_FUNCTION_OPTIONS_INIT",
                          options->struct_size, sizeof *options);
  }
  if (options->call == NULL || options->reserved != 0) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_function_create: options.%s",
                          options->call == NULL ? "call is NULL" : "reserved is not 0");
  }
  if (options->name != NULL) {
    pega_status status = check_name(options->name, error);
    if (status != PEGA_OK) return status;
  }
  if (options->doc != NULL && !pega_text_is_utf8(options->doc, strlen(options->doc))) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "the doc of function '%s' is not UTF-8",
                          options->name == NULL ? "" : options->name);
  }
  const char *shown_name = options->name == NULL ? "function" : options->name;
  pega_compiled_signature *signature = NULL;
  if (options->signature != NULL) {
    pega_status status = pega_signature_compile(options->signature, shown_name, &signature, error);
    if (status != PEGA_OK) return status;
  }
  const char *name = options->name == NULL ? "" : options->name;
  const char *doc = options->doc == NULL ? "" : options->doc;
  size_t name_size = strlen(name);
  size_t doc_size = strlen(doc) + 1;
  pega_function *function =
      malloc(sizeof *function + 2 * name_size + sizeof "(...)" + 1 + doc_size);
  if (function == NULL) {
    pega_signature_free(signature);
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory for function '%s'",
                          shown_name);
  }
  pega_object_init(&function->object, PEGA_FUNCTION, destroy_function);
  function->call = options->call;
  function->self = options->self;
  function->deleter = options->deleter;
  function->prepare = NULL;
  function->signature = signature;
  char *room = function->texts;
  function->name = memcpy(room, name, name_size + 1);
  room += name_size + 1;
  function->untyped = memcpy(room, name, name_size);
  memcpy(room + name_size, "(...)", sizeof "(...)");
  room += name_size + sizeof "(...)";
  function->doc = memcpy(room, doc, doc_size);
  *out = function;
  return PEGA_OK;
}

void pega_function_set_prepare(pega_function *function, pega_prepare prepare) {
  function->prepare = prepare;
}

bool pega_function_can_prepare(const pega_function *function) { return function->prepare != NULL; }

pega_status pega_function_run_prepare(pega_function *function, DLDevice device, pega_error *error) {
  return function->prepare == NULL ? PEGA_OK : function->prepare(function->self, device, error);
}

pega_function *pega_function_retain(pega_function *function) {
  if (function != NULL) pega_object_retain(&function->object);
  return function;
}

void pega_function_release(pega_function *function) {
  if (function != NULL) pega_object_release(&function->object);
}

const char *pega_function_name(const pega_function *function) {
  return function == NULL ? "" : function->name;
}

const char *pega_function_doc(const pega_function *function) {
  return function == NULL ? "" : function->doc;
}

const pega_signature *pega_function_signature(const pega_function *function) {
  return function == NULL || function->signature == NULL ? NULL : &function->signature->public;
}

static const char *shown_name(const pega_function *function) {
  return function->name[0] == '\0' ? "function" : function->name;
}

const char *pega_function_signature_text(const pega_function *function) {
  if (function == NULL) return "";
  return function->signature == NULL ? function->untyped : function->signature->text;
}

void *pega_function_self(const pega_function *function, pega_call call) {
  return function != NULL && call != NULL && function->call == call ? function->self : NULL;
}

/* Makes sure that the caller of a failed function learns what failed and where. */
__attribute__((cold, noinline)) static pega_status call_failed(const pega_function *function,
                                                               pega_status status,
                                                               pega_error *error) {
  bool known = strcmp(pega_status_name(status), "UNKNOWN") != 0;
  pega_status reported = known ? status : PEGA_ERROR_CALLEE;
  if (error == NULL) return reported;
  if (error->status == PEGA_OK) {
    pega_error_set(error, reported, NULL,
                   "%s failed with status %d (%s) and said nothing more: the function returned a "
                   "failure without filling its error",
                   shown_name(function), (int)status, pega_status_name(status));
  }
  error->status = (int32_t)reported;
  char frame[PEGA_MAX_NAME + 40];
  int size =
      snprintf(frame, sizeof frame, "  File \"<pega>\", line 0, in %s\n", shown_name(function));
  if (size > 0) pega_error_append_traceback(error, frame, (size_t)size);
  return reported;
}

__attribute__((cold, noinline)) static pega_status bad_call(const pega_function *function,
                                                            const pega_value *args,
                                                            int32_t num_args, pega_error *error) {
  if (function == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_function_call: function is NULL");
  }
  return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                        "%s: expected a count >= 0 of arguments and their address, got %" PRId32
                        " at %s",
                        shown_name(function), num_args, args == NULL ? "NULL" : "an address");
}

PEGA_HOT pega_status pega_function_check(const pega_function *function, const pega_value *args,
                                         int32_t num_args, pega_error *error) {
  if (function == NULL || num_args < 0 || (num_args > 0 && args == NULL)) {
    return bad_call(function, args, num_args, error);
  }
  if (function->signature == NULL) {
    return pega_untyped_check(shown_name(function), args, num_args, error);
  }
  return pega_signature_check(function->signature, shown_name(function), args, num_args, error);
}

/* What a function is called with always has its signature's length: what was left out is None. */
__attribute__((noinline)) static pega_status call_padded(pega_function *function,
                                                         const pega_value *args, int32_t num_args,
                                                         pega_value *result, pega_error *error) {
  pega_value all[kMaxParams];
  const int32_t num_params = function->signature->num_params;
  if (num_args > 0) memcpy(all, args, (size_t)num_args * sizeof *all);
  for (int32_t i = num_args; i < num_params; ++i) all[i] = pega_value_none();
  return function->call(function->self, all, num_params, result, error);
}

PEGA_HOT pega_status pega_function_call(pega_function *function, const pega_value *args,
                                        int32_t num_args, pega_value *result, pega_error *error) {
  pega_value returned = pega_value_none();
  pega_status status = pega_function_check(function, args, num_args, error);
  if (status == PEGA_OK) {
    /* What an earlier call left behind must not pass for this one's failure; it is kept until the end,
     * as the arguments may be its text. */
    pega_error fresh;
    pega_error *stale = error != NULL && error->status != PEGA_OK ? error : NULL;
    if (stale != NULL) {
      pega_error_init(&fresh);
      error = &fresh;
    }
    const bool whole = function->signature == NULL || num_args == function->signature->num_params;
    status = __builtin_expect(whole, 1)
                 ? function->call(function->self, args, num_args, &returned, error)
                 : call_padded(function, args, num_args, &returned, error);
    if (status != PEGA_OK) {
      pega_value_release(&returned);
      status = call_failed(function, status, error);
    } else if (error != NULL && error->status != PEGA_OK) {
      /* A function that filled its error and succeeded after all. */
      pega_error_clear(error);
    }
    if (stale != NULL) {
      pega_error_clear(stale);
      *stale = fresh;
    }
  }
  if (result != NULL) {
    *result = returned;
  } else if (returned.flags != 0) {
    pega_value_release(&returned);
  }
  return status;
}
