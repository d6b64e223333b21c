/* SPDX-License-Identifier: Apache-2.0 */
#include "safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tensor.h"

/* How many names the text of a tensor that is not there lists. */
enum { LISTED_NAMES = 8 };

/* Objects and arrays inside one another in a header: the header, a tensor, its shape. */
enum { MAX_DEPTH = 3 };

struct safetensors {
  int descriptor;
  uint64_t data; /* offset of the data in the file */
  size_t count;
  safetensors_entry *entries; /* in the order of the data */
  json_t *header;             /* holds the names */
  char shown[SAFETENSORS_SHOWN];
};

/* The format's name of each element type that it shares with DLPack and that fills whole bytes. */
static const struct {
  const char *name;
  DLDataType dtype;
} DTYPES[] = {
    {"BOOL", {kDLBool, 8, 1}},
    {"U8", {kDLUInt, 8, 1}},
    {"I8", {kDLInt, 8, 1}},
    {"F8_E4M3", {kDLFloat8_e4m3fn, 8, 1}},
    {"F8_E5M2", {kDLFloat8_e5m2, 8, 1}},
    {"F8_E8M0", {kDLFloat8_e8m0fnu, 8, 1}},
    {"F8_E4M3FNUZ", {kDLFloat8_e4m3fnuz, 8, 1}},
    {"F8_E5M2FNUZ", {kDLFloat8_e5m2fnuz, 8, 1}},
    {"U16", {kDLUInt, 16, 1}},
    {"I16", {kDLInt, 16, 1}},
    {"F16", {kDLFloat, 16, 1}},
    {"BF16", {kDLBfloat, 16, 1}},
    {"U32", {kDLUInt, 32, 1}},
    {"I32", {kDLInt, 32, 1}},
    {"F32", {kDLFloat, 32, 1}},
    {"U64", {kDLUInt, 64, 1}},
    {"I64", {kDLInt, 64, 1}},
    {"F64", {kDLFloat, 64, 1}},
    {"C64", {kDLComplex, 64, 1}},
};
enum { NUM_DTYPES = sizeof DTYPES / sizeof DTYPES[0] };

const char *safetensors_dtype_name(DLDataType dtype) {
  for (int i = 0; i < NUM_DTYPES; ++i) {
    const DLDataType known = DTYPES[i].dtype;
    if (known.code == dtype.code && known.bits == dtype.bits && known.lanes == dtype.lanes) {
      return DTYPES[i].name;
    }
  }
  return NULL;
}

const char *safetensors_shown(const char *name, char buffer[SAFETENSORS_SHOWN]) {
  const size_t size = strlen(name);
  const int most = SAFETENSORS_SHOWN - 8;
  (void)snprintf(buffer, SAFETENSORS_SHOWN, "\"%.*s%s\"", most, name,
                 size > (size_t)most ? "..." : "");
  return buffer;
}

/* ------------------------------------------------------------------------------- the header -- */

/* Arrays and objects nested deeper than a header's are refused before they are parsed. */
static bool is_shallow(const char *text, size_t size) {
  int depth = 0;
  bool quoted = false;
  for (size_t i = 0; i < size; ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\') ++i;
      if (c == '"') quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      if (++depth > MAX_DEPTH) return false;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return true;
}

static pega_status check_metadata(const safetensors *file, json_t *metadata, pega_error *error) {
  const char *key = NULL;
  json_t *value = NULL;
  char shown[SAFETENSORS_SHOWN];
  if (!json_is_object(metadata)) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: __metadata__: expected an object of strings", file->shown);
  }
  json_object_foreach(metadata, key, value) {
    if (!json_is_string(value)) {
      return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                            "%s: __metadata__: %s: expected a string", file->shown,
                            safetensors_shown(key, shown));
    }
  }
  return PEGA_OK;
}

/* Fills dtype, shape and size of an entry from its members. */
static pega_status read_layout(const safetensors *file, const char *name, json_t *members,
                               safetensors_entry *entry, pega_error *error) {
  char shown[SAFETENSORS_SHOWN];
  char type_shown[SAFETENSORS_SHOWN];
  const char *type = json_string_value(json_object_get(members, "dtype"));
  const json_t *shape = json_object_get(members, "shape");
  (void)safetensors_shown(name, shown);
  if (type == NULL) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL, "%s: tensor %s: dtype: expected a string",
                          file->shown, shown);
  }
  int found = 0;
  while (found < NUM_DTYPES && strcmp(DTYPES[found].name, type) != 0) ++found;
  if (found == NUM_DTYPES) {
    return pega_error_set(error, PEGA_ERROR_UNSUPPORTED, NULL,
                          "%s: tensor %s: dtype %s is not known here", file->shown, shown,
                          safetensors_shown(type, type_shown));
  }
  entry->dtype = DTYPES[found].dtype;
  if (!json_is_array(shape)) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: tensor %s: shape: expected an array of sizes", file->shown, shown);
  }
  const size_t rank = json_array_size(shape);
  if (rank > PEGA_MAX_RANK) {
    return pega_error_set(error, PEGA_ERROR_SHAPE, NULL,
                          "%s: tensor %s: shape: expected at most %d dimensions, got %zu",
                          file->shown, shown, PEGA_MAX_RANK, rank);
  }
  entry->ndim = (int32_t)rank;
  for (size_t i = 0; i < rank; ++i) {
    const json_t *size = json_array_get(shape, i);
    if (!json_is_integer(size)) {
      return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                            "%s: tensor %s: shape: dimension %zu: expected an integer", file->shown,
                            shown, i);
    }
    entry->shape[i] = json_integer_value(size);
  }
  pega_error cause = PEGA_ERROR_INIT;
  const pega_status status =
      cli_tensor_bytes(entry->dtype, entry->ndim, entry->shape, &entry->size, &cause);
  if (status != PEGA_OK) {
    (void)pega_error_set(error, status, NULL, "%s: tensor %s: shape: %s", file->shown, shown,
                         pega_error_message(&cause));
  }
  pega_error_clear(&cause);
  return status;
}

static pega_status read_entry(const safetensors *file, const char *name, json_t *members,
                              uint64_t data_size, safetensors_entry *entry, pega_error *error) {
  char shown[SAFETENSORS_SHOWN];
  const char *key = NULL;
  json_t *value = NULL;
  (void)safetensors_shown(name, shown);
  memset(entry, 0, sizeof *entry);
  entry->name = name;
  if (!json_is_object(members)) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL, "%s: tensor %s: expected an object",
                          file->shown, shown);
  }
  json_object_foreach(members, key, value) {
    if (strcmp(key, "dtype") != 0 && strcmp(key, "shape") != 0 &&
        strcmp(key, "data_offsets") != 0) {
      char key_shown[SAFETENSORS_SHOWN];
      return pega_error_set(error, PEGA_ERROR_FORMAT, NULL, "%s: tensor %s: unknown member %s",
                            file->shown, shown, safetensors_shown(key, key_shown));
    }
  }
  const pega_status status = read_layout(file, name, members, entry, error);
  if (status != PEGA_OK) return status;
  const json_t *offsets = json_object_get(members, "data_offsets");
  const json_t *first = json_array_get(offsets, 0);
  const json_t *second = json_array_get(offsets, 1);
  if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(second)) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: tensor %s: data_offsets: expected two integers", file->shown, shown);
  }
  const json_int_t begin = json_integer_value(first);
  const json_int_t end = json_integer_value(second);
  if (begin < 0 || end < begin || (uint64_t)end > data_size) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: tensor %s: data_offsets: expected a range within the %" PRIu64
                          " bytes of data, got [%lld, %lld]",
                          file->shown, shown, data_size, (long long)begin, (long long)end);
  }
  if ((uint64_t)(end - begin) != entry->size) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: tensor %s: data_offsets: dtype and shape take %" PRIu64
                          " bytes, [%lld, %lld] holds %lld",
                          file->shown, shown, entry->size, (long long)begin, (long long)end,
                          (long long)(end - begin));
  }
  entry->begin = (uint64_t)begin;
  return PEGA_OK;
}

static int compare_entries(const void *left, const void *right) {
  const safetensors_entry *a = left;
  const safetensors_entry *b = right;
  if (a->begin != b->begin) return a->begin < b->begin ? -1 : 1;
  if (a->size != b->size) return a->size < b->size ? -1 : 1;
  return strcmp(a->name, b->name);
}

/* The tensors must follow one another from the first byte of the data to the last. */
static pega_status check_cover(const safetensors *file, uint64_t data_size, pega_error *error) {
  char shown[SAFETENSORS_SHOWN];
  uint64_t at = 0;
  for (size_t i = 0; i < file->count; ++i) {
    const safetensors_entry *entry = &file->entries[i];
    if (entry->begin != at) {
      return pega_error_set(
          error, PEGA_ERROR_FORMAT, NULL,
          "%s: tensor %s: data_offsets: expected to begin at %" PRIu64 ", got %" PRIu64 ": %s",
          file->shown, safetensors_shown(entry->name, shown), at, entry->begin,
          entry->begin < at ? "it overlaps the tensor before it" : "there is a gap before it");
    }
    at += entry->size;
  }
  if (at == data_size) return PEGA_OK;
  return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                        "%s: the tensors end at byte %" PRIu64 " of the data, which has %" PRIu64
                        ": %" PRIu64 " bytes belong to none",
                        file->shown, at, data_size, data_size - at);
}

static pega_status read_header(safetensors *file, const char *text, size_t size, uint64_t data_size,
                               pega_error *error) {
  json_error_t problem;
  if (text[0] != '{') {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: header: expected a JSON object, which begins with '{'; got byte "
                          "0x%02x",
                          file->shown, (unsigned)(unsigned char)text[0]);
  }
  if (!is_shallow(text, size)) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: header: arrays and objects nest deeper than %d", file->shown,
                          (int)MAX_DEPTH);
  }
  file->header = json_loadb(text, size, JSON_REJECT_DUPLICATES, &problem);
  if (file->header == NULL) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: header: not the JSON it should be: %s (byte %d)", file->shown,
                          problem.text, problem.position);
  }
  const char *name = NULL;
  json_t *members = NULL;
  const size_t most = json_object_size(file->header);
  file->entries = calloc(most == 0 ? 1 : most, sizeof *file->entries);
  if (file->entries == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "%s: %zu tensors", file->shown,
                          most);
  }
  json_object_foreach(file->header, name, members) {
    pega_status status = PEGA_OK;
    if (strcmp(name, "__metadata__") == 0) {
      status = check_metadata(file, members, error);
    } else {
      status = read_entry(file, name, members, data_size, &file->entries[file->count], error);
      ++file->count;
    }
    if (status != PEGA_OK) return status;
  }
  qsort(file->entries, file->count, sizeof *file->entries, compare_entries);
  return check_cover(file, data_size, error);
}

/* --------------------------------------------------------------------------------- the file -- */

/* Reads exactly `size` bytes at `offset`. */
static pega_status read_at(const safetensors *file, void *target, uint64_t size, uint64_t offset,
                           const char *what, pega_error *error) {
  char *at = target;
  while (size > 0) {
    /* The kernel reads at most about 2 GiB at once; asking for less keeps ssize_t out of trouble. */
    const size_t part = size > (1U << 30) ? (1U << 30) : (size_t)size;
    const ssize_t got = pread(file->descriptor, at, part, (off_t)offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      const int number = errno;
      const pega_status status =
          pega_error_set(error, PEGA_ERROR_IO, NULL, "%s: %s: cannot read: %s", file->shown, what,
                         strerror(number));
      if (error != NULL) error->code = number;
      return status;
    }
    if (got == 0) {
      return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                            "%s: %s: the file ends %" PRIu64 " bytes too early", file->shown, what,
                            size);
    }
    at += got;
    size -= (uint64_t)got;
    offset += (uint64_t)got;
  }
  return PEGA_OK;
}

static const char *type_of_file(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISSOCK(mode)) return "a socket";
  if (S_ISCHR(mode)) return "a character device";
  if (S_ISBLK(mode)) return "a block device";
  return "no regular file";
}

/* Opens the file and says how long it is. */
static pega_status open_file(safetensors *file, const char *path, uint64_t *size,
                             pega_error *error) {
  struct stat info;
  /* Without O_NONBLOCK opening a FIFO waits for a writer that may never come. */
  file->descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (file->descriptor < 0 || fstat(file->descriptor, &info) != 0) {
    const int number = errno;
    const pega_status status =
        pega_error_set(error, number == ENOENT ? PEGA_ERROR_NOT_FOUND : PEGA_ERROR_IO, NULL,
                       "%s: cannot open: %s", file->shown, strerror(number));
    if (error != NULL) error->code = number;
    return status;
  }
  if (!S_ISREG(info.st_mode)) {
    return pega_error_set(error, PEGA_ERROR_IO, NULL, "%s: expected a .safetensors file, got %s",
                          file->shown, type_of_file(info.st_mode));
  }
  *size = (uint64_t)info.st_size;
  return PEGA_OK;
}

static pega_status read_file(safetensors *file, const char *path, pega_error *error) {
  unsigned char prefix[8];
  uint64_t file_size = 0;
  uint64_t header_size = 0;
  pega_status status = open_file(file, path, &file_size, error);
  if (status != PEGA_OK) return status;
  if (file_size < sizeof prefix) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: truncated: expected at least the 8 bytes of the header's size, got "
                          "%" PRIu64,
                          file->shown, file_size);
  }
  status = read_at(file, prefix, sizeof prefix, 0, "the header's size", error);
  if (status != PEGA_OK) return status;
  for (int i = 7; i >= 0; --i) header_size = (header_size << 8) | prefix[i];
  if (header_size > SAFETENSORS_MAX_HEADER) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: header: expected at most %d bytes, the file says %" PRIu64
                          ": no .safetensors file, or a damaged one",
                          file->shown, SAFETENSORS_MAX_HEADER, header_size);
  }
  if (header_size > file_size - sizeof prefix) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: truncated: the header should have %" PRIu64
                          " bytes, the file has %" PRIu64 " left for it",
                          file->shown, header_size, file_size - sizeof prefix);
  }
  if (header_size == 0) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: header: expected a JSON object, got 0 bytes", file->shown);
  }
  file->data = sizeof prefix + header_size;
  char *text = malloc((size_t)header_size);
  if (text == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL,
                          "%s: a header of %" PRIu64 " bytes", file->shown, header_size);
  }
  status = read_at(file, text, header_size, sizeof prefix, "the header", error);
  if (status == PEGA_OK) {
    status = read_header(file, text, (size_t)header_size, file_size - file->data, error);
  }
  free(text);
  return status;
}

pega_status safetensors_open(const char *path, safetensors **out, pega_error *error) {
  safetensors *file = calloc(1, sizeof *file);
  if (file == NULL) return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "out of memory");
  file->descriptor = -1;
  (void)safetensors_shown(path, file->shown);
  const pega_status status = read_file(file, path, error);
  if (status != PEGA_OK) {
    safetensors_close(file);
    return status;
  }
  *out = file;
  return PEGA_OK;
}

void safetensors_close(safetensors *file) {
  if (file == NULL) return;
  if (file->descriptor >= 0) (void)close(file->descriptor);
  json_decref(file->header);
  free(file->entries);
  free(file);
}

size_t safetensors_count(const safetensors *file) { return file->count; }

const safetensors_entry *safetensors_at(const safetensors *file, size_t index) {
  return index < file->count ? &file->entries[index] : NULL;
}

/* Appends to a text that is cut where the buffer ends. */
static void append(char *buffer, size_t capacity, const char *text) {
  const size_t used = strlen(buffer);
  (void)snprintf(buffer + used, capacity - used, "%s", text);
}

pega_status safetensors_find(const safetensors *file, const char *name,
                             const safetensors_entry **out, pega_error *error) {
  char shown[SAFETENSORS_SHOWN];
  char listed[LISTED_NAMES * (SAFETENSORS_SHOWN + 2) + 64] = "";
  if (name == NULL && file->count == 1) {
    *out = &file->entries[0];
    return PEGA_OK;
  }
  for (size_t i = 0; name != NULL && i < file->count; ++i) {
    if (strcmp(file->entries[i].name, name) == 0) {
      *out = &file->entries[i];
      return PEGA_OK;
    }
  }
  for (size_t i = 0; i < file->count && i < LISTED_NAMES; ++i) {
    if (i > 0) append(listed, sizeof listed, ", ");
    append(listed, sizeof listed, safetensors_shown(file->entries[i].name, shown));
  }
  if (file->count == 0) append(listed, sizeof listed, "no tensor");
  if (file->count > LISTED_NAMES) append(listed, sizeof listed, ", ...");
  if (name == NULL) {
    return pega_error_set(error, PEGA_ERROR_NOT_FOUND, NULL,
                          "%s: say which tensor, as FILE:TENSOR: it holds %zu: %s", file->shown,
                          file->count, listed);
  }
  return pega_error_set(error, PEGA_ERROR_NOT_FOUND, NULL, "%s: no tensor %s: it holds %zu: %s",
                        file->shown, safetensors_shown(name, shown), file->count, listed);
}

pega_status safetensors_read(const safetensors *file, const safetensors_entry *entry,
                             void *destination, pega_error *error) {
  char shown[SAFETENSORS_SHOWN];
  return read_at(file, destination, entry->size, file->data + entry->begin,
                 safetensors_shown(entry->name, shown), error);
}
