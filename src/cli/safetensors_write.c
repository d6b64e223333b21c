/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "safetensors.h"

/* The data starts at a multiple of this many bytes, so that a mapped file's tensors are aligned. */
enum { HEADER_ALIGNMENT = 8 };

/* Signals that end the process while the temporary file exists. */
static const int SIGNALS[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};
enum { NUM_SIGNALS = sizeof SIGNALS / sizeof SIGNALS[0] };

/* Name of the temporary file, for mkstemp(). */
static const char NAME[] = ".pega-XXXXXX";

/* The temporary file that on_signal() removes. Written only while the signals are blocked. */
static char temporary[PATH_MAX + sizeof NAME];

static void on_signal(int number) {
  (void)unlink(temporary);
  (void)raise(number); /* SA_RESETHAND: what the signal did before we came */
}

/* Sets or restores what the signals do. */
static void watch_signals(struct sigaction old[NUM_SIGNALS]) {
  for (int i = 0; i < NUM_SIGNALS; ++i) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = (int)SA_RESETHAND;
    (void)sigaction(SIGNALS[i], NULL, &old[i]);
    /* A signal that was ignored, as under nohup, stays ignored. */
    if (old[i].sa_handler != SIG_IGN) (void)sigaction(SIGNALS[i], &action, NULL);
  }
}

static void restore_signals(const struct sigaction old[NUM_SIGNALS]) {
  for (int i = 0; i < NUM_SIGNALS; ++i) (void)sigaction(SIGNALS[i], &old[i], NULL);
}

static pega_status io_error(pega_error *error, const char *path, const char *what, int number) {
  char shown[SAFETENSORS_SHOWN];
  const pega_status status =
      pega_error_set(error, number == ENOENT ? PEGA_ERROR_NOT_FOUND : PEGA_ERROR_IO, NULL,
                     "%s: %s: %s", safetensors_shown(path, shown), what, strerror(number));
  if (error != NULL) error->code = number;
  return status;
}

/* What `path` really names: a link is followed, so that its target is replaced and not the link. */
static pega_status resolve(const char *path, char resolved[PATH_MAX], pega_error *error) {
  char shown[SAFETENSORS_SHOWN];
  struct stat info;
  if (stat(path, &info) != 0) {
    if (errno != ENOENT) return io_error(error, path, "cannot write", errno);
    if (*path == '\0') return io_error(error, path, "cannot write", ENOENT);
    if (strlen(path) >= PATH_MAX) return io_error(error, path, "cannot write", ENAMETOOLONG);
    memcpy(resolved, path, strlen(path) + 1);
    return PEGA_OK;
  }
  if (!S_ISREG(info.st_mode)) {
    return pega_error_set(error, PEGA_ERROR_IO, NULL,
                          "%s: cannot write: it exists and is no regular file",
                          safetensors_shown(path, shown));
  }
  if (realpath(path, resolved) == NULL) return io_error(error, path, "cannot write", errno);
  return PEGA_OK;
}

/* Bytes of a path up to its last '/', included. */
static size_t folder_size(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash == NULL ? 0 : (size_t)(slash - path) + 1;
}

pega_status safetensors_check_target(const char *path, pega_error *error) {
  char resolved[PATH_MAX];
  const pega_status status = resolve(path, resolved, error);
  if (status != PEGA_OK) return status;
  const size_t folder = folder_size(resolved);
  if (folder > 0) {
    resolved[folder] = '\0';
  } else {
    memcpy(resolved, ".", 2);
  }
  if (access(resolved, W_OK | X_OK) != 0) return io_error(error, path, "cannot write", errno);
  return PEGA_OK;
}

static pega_status check_item(const safetensors_item *item, pega_error *error) {
  char shown[SAFETENSORS_SHOWN];
  char name[PEGA_NAME_SIZE];
  (void)safetensors_shown(item->name, shown);
  if (strcmp(item->name, "__metadata__") == 0) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "tensor %s: the name is taken by the format", shown);
  }
  const pega_status status = pega_tensor_validate(item->tensor, error);
  if (status != PEGA_OK) return status;
  if (safetensors_dtype_name(item->tensor->dtype) == NULL) {
    return pega_error_set(error, PEGA_ERROR_UNSUPPORTED, NULL,
                          "tensor %s: a .safetensors file has no element type %s", shown,
                          pega_dtype_name(item->tensor->dtype, name));
  }
  if (item->tensor->device.device_type != kDLCPU || !pega_tensor_is_contiguous(item->tensor)) {
    return pega_error_set(error, PEGA_ERROR_LAYOUT, NULL,
                          "tensor %s: expected a row-major tensor on the CPU", shown);
  }
  return PEGA_OK;
}

/* The header's text, padded; NULL if it cannot be made. Returns owned. */
static char *make_header(const safetensors_item *items, size_t num_items, size_t *size) {
  json_t *header = json_object();
  uint64_t offset = 0;
  bool made = header != NULL;
  for (size_t i = 0; made && i < num_items; ++i) {
    const DLTensor *tensor = items[i].tensor;
    const uint64_t bytes = (uint64_t)pega_tensor_num_bytes(tensor);
    json_t *shape = json_array();
    for (int32_t axis = 0; axis < tensor->ndim; ++axis) {
      made = made && json_array_append_new(shape, json_integer(tensor->shape[axis])) == 0;
    }
    json_t *members =
        json_pack("{s:s, s:o, s:[I, I]}", "dtype", safetensors_dtype_name(tensor->dtype), "shape",
                  shape, "data_offsets", (json_int_t)offset, (json_int_t)(offset + bytes));
    if (json_object_get(header, items[i].name) != NULL) made = false;
    /* Takes `members`, and refuses a NULL and a name that is not UTF-8. */
    if (json_object_set_new(header, items[i].name, members) != 0) made = false;
    offset += bytes;
  }
  char *text = NULL;
  *size = made ? json_dumpb(header, NULL, 0, JSON_COMPACT) : 0;
  if (*size > 0 && *size <= SAFETENSORS_MAX_HEADER - HEADER_ALIGNMENT) {
    const size_t padded = (*size + HEADER_ALIGNMENT - 1) / HEADER_ALIGNMENT * HEADER_ALIGNMENT;
    text = malloc(padded);
    if (text != NULL) {
      (void)json_dumpb(header, text, padded, JSON_COMPACT);
      memset(text + *size, ' ', padded - *size);
      *size = padded;
    }
  }
  json_decref(header);
  return text;
}

static bool write_all(int descriptor, const void *bytes, uint64_t size) {
  const char *at = bytes;
  while (size > 0) {
    const size_t part = size > (1U << 30) ? (1U << 30) : (size_t)size;
    const ssize_t done = write(descriptor, at, part);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return false;
    at += done;
    size -= (uint64_t)done;
  }
  return true;
}

static bool write_content(int descriptor, const char *header, size_t header_size,
                          const safetensors_item *items, size_t num_items) {
  unsigned char prefix[8];
  for (int i = 0; i < 8; ++i) prefix[i] = (unsigned char)((uint64_t)header_size >> (8 * i));
  if (!write_all(descriptor, prefix, sizeof prefix)) return false;
  if (!write_all(descriptor, header, header_size)) return false;
  for (size_t i = 0; i < num_items; ++i) {
    const uint64_t bytes = (uint64_t)pega_tensor_num_bytes(items[i].tensor);
    if (!write_all(descriptor, pega_tensor_data(items[i].tensor), bytes)) return false;
  }
  return true;
}

/* mkstemp() lets only the owner read; a file made the ordinary way follows the umask. */
static mode_t ordinary_mode(const char *resolved) {
  struct stat info;
  if (stat(resolved, &info) == 0) return info.st_mode & 0777;
  const mode_t mask = umask(0);
  (void)umask(mask);
  return 0666 & ~mask;
}

static pega_status replace(const char *path, const char *resolved, const char *header,
                           size_t header_size, const safetensors_item *items, size_t num_items,
                           pega_error *error) {
  struct sigaction old[NUM_SIGNALS];
  sigset_t blocked;
  sigset_t before;
  (void)sigemptyset(&blocked);
  for (int i = 0; i < NUM_SIGNALS; ++i) (void)sigaddset(&blocked, SIGNALS[i]);
  (void)sigprocmask(SIG_BLOCK, &blocked, &before);
  const size_t folder = folder_size(resolved);
  memcpy(temporary, resolved, folder);
  memcpy(temporary + folder, NAME, sizeof NAME);
  const int descriptor = mkstemp(temporary);
  int number = errno;
  if (descriptor >= 0) watch_signals(old);
  (void)sigprocmask(SIG_SETMASK, &before, NULL);
  if (descriptor < 0) return io_error(error, path, "cannot write", number);

  bool done = write_content(descriptor, header, header_size, items, num_items) &&
              fchmod(descriptor, ordinary_mode(resolved)) == 0 && fsync(descriptor) == 0;
  number = errno;
  if (close(descriptor) != 0 && done) {
    done = false;
    number = errno;
  }
  (void)sigprocmask(SIG_BLOCK, &blocked, &before);
  if (done && rename(temporary, resolved) != 0) {
    done = false;
    number = errno;
  }
  if (!done) (void)unlink(temporary);
  restore_signals(old);
  (void)sigprocmask(SIG_SETMASK, &before, NULL);
  return done ? PEGA_OK : io_error(error, path, "cannot write", number);
}

/* Wider elements first, so that each tensor's offset is a multiple of its element's size. */
static int compare_items(const void *left, const void *right) {
  const safetensors_item *a = left;
  const safetensors_item *b = right;
  if (a->tensor->dtype.bits != b->tensor->dtype.bits) {
    return a->tensor->dtype.bits > b->tensor->dtype.bits ? -1 : 1;
  }
  return strcmp(a->name, b->name);
}

pega_status safetensors_write(const char *path, const safetensors_item *items, size_t num_items,
                              pega_error *error) {
  char resolved[PATH_MAX];
  size_t header_size = 0;
  for (size_t i = 0; i < num_items; ++i) {
    const pega_status checked = check_item(&items[i], error);
    if (checked != PEGA_OK) return checked;
  }
  pega_status status = resolve(path, resolved, error);
  if (status != PEGA_OK) return status;
  safetensors_item *sorted = calloc(num_items == 0 ? 1 : num_items, sizeof *sorted);
  if (sorted == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "out of memory");
  }
  if (num_items > 0) memcpy(sorted, items, num_items * sizeof *sorted);
  qsort(sorted, num_items, sizeof *sorted, compare_items);
  char *header = make_header(sorted, num_items, &header_size);
  if (header == NULL) {
    char shown[SAFETENSORS_SHOWN];
    status = pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                            "%s: cannot make a header of %zu tensors: their names must be UTF-8, "
                            "each used once",
                            safetensors_shown(path, shown), num_items);
  } else {
    status = replace(path, resolved, header, header_size, sorted, num_items, error);
  }
  free(header);
  free(sorted);
  return status;
}
