/* SPDX-License-Identifier: Apache-2.0 */
#include "context.h"

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"

/* More contexts than this on top of the caller's are not looked through. */
enum { kDeepest = 64 };

typedef struct driver {
  int (*get_current)(void **context);
  int (*set_current)(void *context);
  int (*pop_current)(void **context);
  int (*push_current)(void *context);
  int (*get_device)(int *device);
} driver;

static driver table; /* written before `opened`, then never again */
static _Atomic(const driver *) opened;
static pthread_mutex_t prepare_lock = PTHREAD_MUTEX_INITIALIZER;

static bool prepare(int mode) {
  if (atomic_load_explicit(&opened, memory_order_acquire) != NULL) return true;
  /* Without the lock: this runs the library's constructors. Two threads get the same library. */
  void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE | mode);
  if (library == NULL) return false;
  driver found;
  *(void **)&found.get_current = dlsym(library, "cuCtxGetCurrent");
  *(void **)&found.set_current = dlsym(library, "cuCtxSetCurrent");
  *(void **)&found.pop_current = dlsym(library, "cuCtxPopCurrent_v2");
  *(void **)&found.push_current = dlsym(library, "cuCtxPushCurrent_v2");
  *(void **)&found.get_device = dlsym(library, "cuCtxGetDevice");
  if (found.get_current == NULL || found.set_current == NULL || found.pop_current == NULL ||
      found.push_current == NULL || found.get_device == NULL) {
    return false;
  }
  pthread_mutex_lock(&prepare_lock);
  if (atomic_load_explicit(&opened, memory_order_relaxed) == NULL) {
    table = found;
    atomic_store_explicit(&opened, &table, memory_order_release);
  }
  pthread_mutex_unlock(&prepare_lock);
  return true;
}

bool pega_context_prepare(void) { return prepare(0); }

static int is_driver(struct dl_phdr_info *info, size_t size, void *data) {
  static const char kName[] = "libcuda.so";
  (void)size;
  (void)data;
  const char *slash = info->dlpi_name == NULL ? NULL : strrchr(info->dlpi_name, '/');
  return slash != NULL && strncmp(slash + 1, kName, sizeof kName - 1) == 0;
}

/* Without a dlopen() that fails: that leaves a text behind for dlerror(). */
bool pega_context_prepare_loaded(void) {
  if (atomic_load_explicit(&opened, memory_order_acquire) != NULL) return true;
  return dl_iterate_phdr(is_driver, NULL) != 0 && prepare(RTLD_NOLOAD);
}

/* The current context; NULL also where the driver has not been initialised. */
static void *current(const driver *cuda) {
  void *context = NULL;
  return cuda->get_current(&context) == 0 ? context : NULL;
}

void pega_context_begin(pega_context_room *room) {
  const driver *cuda = atomic_load_explicit(&opened, memory_order_acquire);
  room->driver = cuda;
  room->before = cuda == NULL ? NULL : current(cuda);
}

/* The device of the current context; negative if there is none, or it is of no use. */
static int current_device(const driver *cuda) {
  int device;
  return cuda->get_device(&device) == 0 ? device : -1;
}

/* "context 0x7f.. of device 1" */
static void describe(void *context, int device, char *text, size_t size) {
  if (context == NULL) {
    snprintf(text, size, "no context");
  } else if (device >= 0) {
    snprintf(text, size, "context %p of device %d", context, device);
  } else {
    snprintf(text, size, "context %p", context);
  }
}

/* Takes off what was pushed over `before`. If it is not below, the stack is left as it was but for its
 * top, which becomes `before`, and *replaced says so: the code either set another context, and then that is
 * all, or took some off, and then how many is not known. Returns the driver's code. */
static int put_back(const driver *cuda, void *before, bool *replaced) {
  void *popped[kDeepest];
  int count = 0;
  void *now = current(cuda);
  while (now != before && now != NULL && count < kDeepest) {
    if (cuda->pop_current(&popped[count]) != 0) break;
    ++count;
    now = current(cuda);
  }
  *replaced = now != before;
  if (now == before) return 0;
  while (count > 0) cuda->push_current(popped[--count]);
  int code = cuda->set_current(before);
  int device;
  /* One that was destroyed may be taken, and be of no use. */
  return code == 0 && before != NULL ? cuda->get_device(&device) : code;
}

/* Says of a call that failed what else it did: in the message, as few look at more, and in the traceback.
 * `below` is NULL where nothing could be put back. */
static void tell_too(const char *path, const char *function, const char *is, const char *was,
                     const char *below, pega_error *error) {
  char text[640];
  const char *then = below == NULL ? "" : ", which was put back";
  if (below == NULL) below = "";
  int size = snprintf(text, sizeof text, "%s: it also left %s current, where %s was%s%s\n",
                      function == NULL ? path : function, is, was, then, below);
  if (error == NULL || size <= 0) return;
  if ((size_t)size >= sizeof text) size = (int)sizeof text - 1;
  pega_error_append_traceback(error, text, (size_t)size);
  pega_heap_text whole = {NULL, 0, 0, 0};
  pega_heap_text_printf(&whole, "%s; it also left %s current, where %s was%s%s",
                        pega_error_message(error), is, was, then, below);
  pega_error before = PEGA_ERROR_INIT;
  pega_error_copy(error, &before);
  if (!whole.failed) {
    const char *traceback = pega_error_traceback(&before);
    const pega_error *cause = pega_error_cause(&before);
    pega_error_set_text(error, (pega_status)before.status, pega_error_kind(&before), whole.data,
                        whole.size);
    error->code = before.code;
    pega_error_append_traceback(error, traceback, strlen(traceback));
    if (cause != NULL) {
      pega_error copy = PEGA_ERROR_INIT;
      pega_error_copy(cause, &copy);
      pega_error_set_cause(error, &copy);
    }
  }
  pega_error_clear(&before);
  free(whole.data);
}

__attribute__((cold, noinline)) static pega_status restore_context(
    const driver *cuda, const pega_context_room *room, void *after, const char *path,
    const char *function, bool restore, pega_status status, pega_error *error) {
  /* No text, and no query for one, where there is no error. */
  const int device = room->before != NULL && !restore ? current_device(cuda) : -1;
  bool replaced;
  const int code = put_back(cuda, room->before, &replaced);
  if (code == 0 && (room->before == NULL || restore)) return status;
  char was[64];
  char is[64];
  describe(after, device, is, sizeof is);
  describe(room->before, code != 0 ? -1 : current_device(cuda), was, sizeof was);
  const char *below =
      replaced ? "; what lies below it on the thread's stack of contexts may not be what did" : "";
  if (status != PEGA_OK) {
    tell_too(path, function, is, was, code != 0 ? NULL : below, error);
    return status;
  }
  char failed[96] = "";
  if (code != 0) {
    snprintf(failed, sizeof failed, "; it could not be put back (CUresult %d): was it destroyed?",
             code);
  }
  pega_error_set(error, PEGA_ERROR_CALLEE, "ContextError",
                 "%s: %s%s%sleft %s current on the thread, where %s was%s%s%s", path,
                 function == NULL ? "loading it " : "function '", function == NULL ? "" : function,
                 function == NULL ? "" : "' ", is, was,
                 code != 0 ? failed : "; that is current again", code != 0 ? "" : below,
                 code != 0 ? ""
                           : "; the foreign code must leave the context as it found it "
                             "(PEGA_ARTIFACT_RESTORE_CONTEXT accepts what does not)");
  if (error != NULL) error->code = code;
  return PEGA_ERROR_CALLEE;
}

pega_status pega_context_end(const pega_context_room *room, const char *path, const char *function,
                             bool restore, pega_status status, pega_error *error) {
  const driver *cuda = room->driver; /* one found meanwhile does not know what was current */
  if (cuda == NULL) return status;
  void *after = current(cuda);
  if (__builtin_expect(after == room->before, 1)) return status;
  return restore_context(cuda, room, after, path, function, restore, status, error);
}
