/* SPDX-License-Identifier: Apache-2.0 */
#include "error.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"

/* Marks errors that are pending in the frontend language; their number alone says nothing, as any
 * host may use it. */
static const char frontend_error;

/* A chain longer than this is cut: it is a loop or a mistake. */
enum { kMaxCauses = 1024 };

static const TVMFFIErrorCell *cell_of(TVMFFIObjectHandle object) {
  return tvm_ffi_object_cell(object);
}

/* Libraries without the maker of causes have a shorter cell, without the member. */
static TVMFFIObjectHandle cause_of(const pega_tvm_ffi *runtime, TVMFFIObjectHandle object) {
  if (runtime->api.TVMFFIErrorCreateWithCauseAndExtraContext == NULL) return NULL;
  return cell_of(object)->cause_chain;
}

static void fill(TVMFFIObjectHandle object, const char *what, pega_error *error) {
  const TVMFFIErrorCell *cell = cell_of(object);
  char kind[256];
  size_t size = cell->kind.size < sizeof kind ? cell->kind.size : sizeof kind - 1;
  memcpy(kind, cell->kind.data, size);
  kind[size] = '\0';
  const char *shown_kind = kind[0] == '\0' ? "RuntimeError" : kind;
  if (cell->message.size == 0) {
    pega_error_set(error, PEGA_ERROR_CALLEE, shown_kind,
                   "%s failed with an error without a message", what);
  } else {
    pega_error_set_text(error, PEGA_ERROR_CALLEE, shown_kind, cell->message.data,
                        cell->message.size);
  }
  pega_error_append_traceback(error, cell->backtrace.data, cell->backtrace.size);
}

/* Fills the causes from the last one up, as each is moved into the one that it caused. */
static void fill_causes(const pega_tvm_ffi *runtime, TVMFFIObjectHandle object, pega_error *error) {
  TVMFFIObjectHandle causes[kMaxCauses];
  int count = 0;
  for (object = cause_of(runtime, object); object != NULL && count < kMaxCauses;
       object = cause_of(runtime, object)) {
    causes[count++] = object;
  }
  pega_error cause = PEGA_ERROR_INIT;
  for (int i = count - 1; i >= 0; --i) {
    pega_error next = PEGA_ERROR_INIT;
    fill(causes[i], "the cause", &next);
    if (i < count - 1) pega_error_set_cause(&next, &cause);
    cause = next;
  }
  if (count > 0) pega_error_set_cause(error, &cause);
}

/* Tells from which module the error came: the module's own words need not name it. */
static void add_module_frame(const char *what, pega_error *error) {
  const char *end = NULL;
  for (const char *at = what; what[0] == '/' && (at = strstr(at, ": ")) != NULL; ++at) end = at;
  if (end == NULL) return;
  char frame[PATH_MAX + PEGA_MAX_NAME + 40];
  int size = snprintf(frame, sizeof frame, "  File \"%.*s\", line 0, in %s\n", (int)(end - what),
                      what, end + 2);
  if (size > 0 && size < (int)sizeof frame) pega_error_append_traceback(error, frame, (size_t)size);
}

pega_status tvm_ffi_error_take(pega_tvm_ffi *runtime, const char *what, int code,
                               pega_error *error) {
  TVMFFIObjectHandle object = NULL;
  if (code != kTvmFfiFrontendError) runtime->api.TVMFFIErrorMoveFromRaised(&object);
  if (what == NULL || what[0] == '\0') what = "TVM FFI function";
  if (object == NULL) {
    pega_error_set(
        error, PEGA_ERROR_CALLEE, NULL,
        code == kTvmFfiFrontendError
            ? "%s returned %d: an error is pending in the frontend language that called "
              "or was called (a Python exception or signal, say); hand the failure back "
              "to it"
            : "%s returned %d but set no error: the callee failed without saying why; it "
              "must call TVMFFIErrorSetRaised before it returns non-zero",
        what, code);
    if (error != NULL) error->code = code;
    if (code == kTvmFfiFrontendError) pega_error_attach(error, &frontend_error, runtime, NULL);
    return PEGA_ERROR_CALLEE;
  }
  if (error == NULL) {
    runtime->release(object);
    return PEGA_ERROR_CALLEE;
  }
  fill(object, what, error);
  add_module_frame(what, error);
  fill_causes(runtime, object, error);
  error->code = code;
  pega_error_attach(error, runtime, object, runtime->release);
  return PEGA_ERROR_CALLEE;
}

/* A copy in which what is not UTF-8 is replaced: peers in other languages cannot read it and would
 * lose the whole error. NULL where the text is fine as it is, or there is no memory. */
static char *readable(const char *text) {
  if (pega_text_is_utf8(text, strlen(text))) return NULL;
  char *copy = strdup(text);
  for (char *at = copy; at != NULL && *at != '\0'; ++at) {
    if ((unsigned char)*at >= 0x80) *at = '?';
  }
  return copy;
}

static TVMFFIByteArray bytes_of(const char *text) { return (TVMFFIByteArray){text, strlen(text)}; }

/* Makes an error object; `cause` is borrowed. NULL when there is no memory. */
static TVMFFIObjectHandle make(pega_tvm_ffi *runtime, const pega_error *error,
                               TVMFFIObjectHandle cause) {
  char *readable_kind = readable(pega_error_kind(error));
  char *readable_message = readable(pega_error_message(error));
  TVMFFIByteArray kind = bytes_of(readable_kind != NULL ? readable_kind : pega_error_kind(error));
  if (kind.size == 0) kind = bytes_of("RuntimeError");
  TVMFFIByteArray message =
      bytes_of(readable_message != NULL ? readable_message : pega_error_message(error));
  TVMFFIByteArray traceback = bytes_of(pega_error_traceback(error));
  TVMFFIObjectHandle made = NULL;
  int code;
  if (runtime->api.TVMFFIErrorCreateWithCauseAndExtraContext != NULL) {
    code = runtime->api.TVMFFIErrorCreateWithCauseAndExtraContext(&kind, &message, &traceback,
                                                                  cause, NULL, &made);
  } else {
    /* This runtime's errors have no cause: the text tells of it. */
    pega_heap_text text = {NULL, 0, 0, 0};
    const pega_error *next = pega_error_cause(error);
    if (next != NULL) pega_heap_text_printf(&text, "%s", pega_error_message(error));
    for (int depth = 0; next != NULL && depth < kMaxCauses; ++depth) {
      pega_heap_text_printf(&text, "\nCaused by %s: %s", pega_error_kind(next),
                            pega_error_message(next));
      next = pega_error_cause(next);
    }
    if (text.data != NULL && !text.failed) message = bytes_of(text.data);
    code = runtime->api.TVMFFIErrorCreate(&kind, &message, &traceback, &made);
    free(text.data);
  }
  free(readable_kind);
  free(readable_message);
  return code == 0 ? made : NULL;
}

static TVMFFIObjectHandle make_with_causes(pega_tvm_ffi *runtime, const pega_error *error) {
  const pega_error *chain[kMaxCauses];
  int count = 0;
  for (; error != NULL && count < kMaxCauses; error = pega_error_cause(error)) {
    chain[count++] = error;
  }
  TVMFFIObjectHandle made = NULL;
  for (int i = count - 1; i >= 0; --i) {
    TVMFFIObjectHandle next = NULL;
    /* Without causes only the outermost is made: its text holds the rest. */
    if (i == 0 || runtime->api.TVMFFIErrorCreateWithCauseAndExtraContext != NULL) {
      next = make(runtime, chain[i], made);
    }
    if (made != NULL) runtime->release(made);
    made = next;
  }
  return made;
}

int tvm_ffi_error_raise(pega_tvm_ffi *runtime, pega_error *error) {
  TVMFFIObjectHandle object = pega_error_payload(error, runtime);
  if (object != NULL) {
    /* The very object that came in goes out, told of the functions that it passed; but for one that
     * others hold too, as they may read it meanwhile. */
    bool shared = (uint32_t)__atomic_load_n(&((TVMFFIObject *)object)->combined_ref_count,
                                            __ATOMIC_ACQUIRE) != 1;
    runtime->api.TVMFFIObjectIncRef(object);
    if (!shared) {
      TVMFFIByteArray traceback = bytes_of(pega_error_traceback(error));
      cell_of(object)->update_backtrace(object, &traceback, kTVMFFIBacktraceUpdateModeReplace);
    }
  } else if (pega_error_payload(error, &frontend_error) == runtime) {
    return kTvmFfiFrontendError;
  } else {
    object = make_with_causes(runtime, error);
  }
  if (object == NULL) {
    runtime->api.TVMFFIErrorSetRaisedFromCStr("MemoryError", "no memory for an error object");
    return -1;
  }
  runtime->api.TVMFFIErrorSetRaised(object);
  runtime->release(object);
  return -1;
}
