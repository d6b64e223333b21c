/* SPDX-License-Identifier: Apache-2.0 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "pega/pega.h"
#include "text.h"

_Static_assert(sizeof(pega_error) == 1024 || sizeof(void *) != 8, "pega_error is part of the ABI");

/* A foreign object tied to an error; shared by copies of the error. */
typedef struct attachment {
  _Atomic uint32_t refs;
  const void *tag;
  void *payload;
  void (*release)(void *payload);
} attachment;

struct pega_error_detail {
  _Atomic uint32_t refs;
  char *kind;        /* whole, where it does not fit inline; else NULL */
  char *message;     /* the same */
  char *traceback;   /* or NULL */
  pega_error *cause; /* or NULL */
  attachment *attached;
};

const char *pega_status_name(pega_status status) {
  switch (status) {
    case PEGA_OK:
      return "OK";
#define PEGA_STATUS_CASE_(name, number, kind) \
  case PEGA_ERROR_##name:                     \
    return #name;
      PEGA_STATUS_LIST(PEGA_STATUS_CASE_)
#undef PEGA_STATUS_CASE_
  }
  return "UNKNOWN";
}

static const char *default_kind(pega_status status) {
  switch (status) {
    case PEGA_OK:
      return "";
#define PEGA_STATUS_KIND_(name, number, kind) \
  case PEGA_ERROR_##name:                     \
    return kind;
      PEGA_STATUS_LIST(PEGA_STATUS_KIND_)
#undef PEGA_STATUS_KIND_
  }
  return "RuntimeError";
}

static void attachment_release(attachment *attached) {
  if (attached == NULL) return;
  if (atomic_fetch_sub_explicit(&attached->refs, 1, memory_order_acq_rel) != 1) return;
  if (attached->release != NULL) attached->release(attached->payload);
  free(attached);
}

/* Causes are released in a loop: a long chain must not use up the stack. */
static void detail_release(pega_error_detail *detail) {
  while (detail != NULL) {
    if (atomic_fetch_sub_explicit(&detail->refs, 1, memory_order_acq_rel) != 1) return;
    pega_error_detail *next = NULL;
    if (detail->cause != NULL) {
      next = detail->cause->detail;
      free(detail->cause);
    }
    attachment_release(detail->attached);
    free(detail->kind);
    free(detail->message);
    free(detail->traceback);
    free(detail);
    detail = next;
  }
}

static char *copy_text(const char *text) { return text == NULL ? NULL : strdup(text); }

/* A detail that this error alone holds, made if there was none; NULL when out of memory. */
static pega_error_detail *own_detail(pega_error *error) {
  pega_error_detail *old = error->detail;
  if (old != NULL && atomic_load_explicit(&old->refs, memory_order_acquire) == 1) return old;
  pega_error_detail *detail = calloc(1, sizeof *detail);
  if (detail == NULL) return NULL;
  atomic_init(&detail->refs, 1);
  if (old != NULL) {
    detail->kind = copy_text(old->kind);
    detail->message = copy_text(old->message);
    detail->traceback = copy_text(old->traceback);
    if (old->cause != NULL) {
      detail->cause = calloc(1, sizeof *detail->cause);
      if (detail->cause != NULL) pega_error_copy(old->cause, detail->cause);
    }
    detail->attached = old->attached;
    if (detail->attached != NULL) {
      atomic_fetch_add_explicit(&detail->attached->refs, 1, memory_order_relaxed);
    }
    detail_release(old);
  }
  error->detail = detail;
  return detail;
}

void pega_error_clear(pega_error *error) {
  if (error == NULL) return;
  pega_error_detail *detail = error->detail;
  error->detail = NULL;
  error->status = PEGA_OK;
  error->code = 0;
  error->kind[0] = '\0';
  error->message[0] = '\0';
  detail_release(detail);
}

/* Copies text into a field of the error; what does not fit is kept whole on the heap. A cut never
 * splits a UTF-8 sequence. */
static void set_field(char *field, size_t capacity, const char *text, size_t size, char **whole) {
  *whole = NULL;
  if (size < capacity) {
    memcpy(field, text, size);
    field[size] = '\0';
    return;
  }
  size_t cut = pega_text_cut(text, capacity - 4);
  memcpy(field, text, cut);
  memcpy(field + cut, "...", 4);
  *whole = malloc(size + 1);
  if (*whole != NULL) {
    memcpy(*whole, text, size);
    (*whole)[size] = '\0';
  }
}

pega_status pega_error_set_text(pega_error *error, pega_status status, const char *kind,
                                const char *text, size_t size) {
  if (error == NULL) return status;
  /* The new text may lie inside the old error: build it before anything is freed. */
  pega_error filled;
  pega_error_init(&filled);
  char *whole_kind;
  char *whole_message;
  if (kind == NULL) kind = default_kind(status);
  if (text == NULL) size = 0;
  filled.status = (int32_t)status;
  set_field(filled.kind, sizeof filled.kind, kind, strlen(kind), &whole_kind);
  set_field(filled.message, sizeof filled.message, text == NULL ? "" : text, size, &whole_message);
  if (whole_kind != NULL || whole_message != NULL) {
    pega_error_detail *detail = own_detail(&filled);
    if (detail == NULL) {
      free(whole_kind);
      free(whole_message);
    } else {
      detail->kind = whole_kind;
      detail->message = whole_message;
    }
  }
  pega_error_clear(error);
  *error = filled;
  return status;
}

pega_status pega_error_set(pega_error *error, pega_status status, const char *kind,
                           const char *format, ...) {
  if (error == NULL) return status;
  if (format == NULL) return pega_error_set_text(error, status, kind, "", 0);
  char buffer[2048];
  va_list args;
  va_start(args, format);
  va_list again;
  va_copy(again, args);
  int size = vsnprintf(buffer, sizeof buffer, format, args);
  va_end(args);
  if (size < 0) size = 0;
  if ((size_t)size < sizeof buffer) {
    pega_error_set_text(error, status, kind, buffer, (size_t)size);
  } else {
    char *heap = malloc((size_t)size + 1);
    if (heap == NULL) {
      pega_error_set_text(error, status, kind, buffer, sizeof buffer - 1);
    } else {
      vsnprintf(heap, (size_t)size + 1, format, again);
      pega_error_set_text(error, status, kind, heap, (size_t)size);
      free(heap);
    }
  }
  va_end(again);
  return status;
}

void pega_error_append_traceback(pega_error *error, const char *text, size_t size) {
  if (error == NULL || text == NULL || size == 0) return;
  pega_error_detail *detail = own_detail(error);
  if (detail == NULL) return;
  size_t before = detail->traceback == NULL ? 0 : strlen(detail->traceback);
  /* Not realloc: the text may lie in the traceback that it is appended to. */
  char *traceback = malloc(before + size + 1);
  if (traceback == NULL) return;
  if (before > 0) memcpy(traceback, detail->traceback, before);
  memcpy(traceback + before, text, size);
  traceback[before + size] = '\0';
  free(detail->traceback);
  detail->traceback = traceback;
}

void pega_error_set_cause(pega_error *error, pega_error *cause) {
  if (cause == NULL || cause == error) return;
  pega_error_detail *detail = error == NULL ? NULL : own_detail(error);
  pega_error *kept = detail == NULL ? NULL : calloc(1, sizeof *kept);
  if (kept == NULL) {
    pega_error_clear(cause);
    return;
  }
  *kept = *cause;
  cause->detail = NULL;
  pega_error_clear(cause);
  if (detail->cause != NULL) {
    pega_error_clear(detail->cause);
    free(detail->cause);
  }
  detail->cause = kept;
  /* With a cause of its own it is no longer the error that the foreign object stands for. */
  attachment *old = detail->attached;
  detail->attached = NULL;
  attachment_release(old);
}

void pega_error_copy(const pega_error *source, pega_error *destination) {
  if (source == NULL || destination == NULL || source == destination) return;
  if (source->detail != NULL) {
    atomic_fetch_add_explicit(&source->detail->refs, 1, memory_order_relaxed);
  }
  pega_error copy = *source;
  pega_error_clear(destination);
  *destination = copy;
}

const char *pega_error_kind(const pega_error *error) {
  if (error == NULL) return "";
  return error->detail != NULL && error->detail->kind != NULL ? error->detail->kind : error->kind;
}

const char *pega_error_message(const pega_error *error) {
  if (error == NULL) return "";
  return error->detail != NULL && error->detail->message != NULL ? error->detail->message
                                                                 : error->message;
}

const char *pega_error_traceback(const pega_error *error) {
  if (error == NULL || error->detail == NULL || error->detail->traceback == NULL) return "";
  return error->detail->traceback;
}

const pega_error *pega_error_cause(const pega_error *error) {
  return error == NULL || error->detail == NULL ? NULL : error->detail->cause;
}

void pega_error_attach(pega_error *error, const void *tag, void *payload,
                       void (*release)(void *payload)) {
  pega_error_detail *detail = error == NULL ? NULL : own_detail(error);
  attachment *attached = detail == NULL ? NULL : malloc(sizeof *attached);
  if (attached == NULL) {
    if (release != NULL) release(payload);
    return;
  }
  atomic_init(&attached->refs, 1);
  attached->tag = tag;
  attached->payload = payload;
  attached->release = release;
  attachment *old = detail->attached;
  detail->attached = attached;
  attachment_release(old);
}

void *pega_error_payload(const pega_error *error, const void *tag) {
  if (error == NULL || error->detail == NULL) return NULL;
  attachment *attached = error->detail->attached;
  return attached != NULL && attached->tag == tag ? attached->payload : NULL;
}
