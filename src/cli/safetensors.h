/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file safetensors.h
 * \brief Reads and writes .safetensors files, and believes nothing that a file says of itself.
 *
 * Layout: the header's size as a little-endian uint64, the header (a JSON object of
 * `name: {"dtype", "shape", "data_offsets": [begin, end]}` and, if present, `"__metadata__"`, an
 * object of strings; blanks may follow), then the tensors' bytes. Offsets count from the header's
 * end. The tensors cover the bytes behind the header exactly: no gap, no overlap, nothing after.
 */
#ifndef PEGA_CLI_SAFETENSORS_H_
#define PEGA_CLI_SAFETENSORS_H_

#include <pega/pega.h>

/** \brief The greatest header that is read, in bytes. */
#define SAFETENSORS_MAX_HEADER 100000000

/** \brief A file that is open for reading, its header read and checked. */
typedef struct safetensors safetensors;

/** \brief One tensor of a file. Lives as long as the file is open. */
typedef struct safetensors_entry {
  const char *name;
  DLDataType dtype;
  int32_t ndim;
  int64_t shape[PEGA_MAX_RANK];
  uint64_t begin; /**< offset of its bytes behind the header */
  uint64_t size;  /**< bytes */
} safetensors_entry;

/**
 * \brief Opens a file and checks its header against itself and the file's size.
 *
 * Anything but a regular file is refused without waiting for it. Memory in use afterwards grows
 * with the header, not with the data.
 * \param path Borrowed.
 * \param out Returns owned; give back with safetensors_close().
 */
pega_status safetensors_open(const char *path, safetensors **out, pega_error *error);
/** \brief Closes a file. Takes NULL. */
void safetensors_close(safetensors *file);

/** \brief Number of tensors. */
size_t safetensors_count(const safetensors *file);
/** \brief Tensor `index` in the order of the data, or NULL. Borrowed. */
const safetensors_entry *safetensors_at(const safetensors *file, size_t index);
/**
 * \brief Finds a tensor by name.
 * \param name NULL for the file's only tensor.
 * \param out Borrowed. PEGA_ERROR_NOT_FOUND lists what there is.
 */
pega_status safetensors_find(const safetensors *file, const char *name,
                             const safetensors_entry **out, pega_error *error);
/** \brief Reads a tensor's `entry->size` bytes into `destination`. */
pega_status safetensors_read(const safetensors *file, const safetensors_entry *entry,
                             void *destination, pega_error *error);

/** \brief A tensor to write. */
typedef struct safetensors_item {
  const char *name;       /**< UTF-8, unique, not "__metadata__" */
  const DLTensor *tensor; /**< row-major, in memory that the CPU can read */
} safetensors_item;

/**
 * \brief Whether a file could be written at `path`: PEGA_OK, or why not.
 *
 * For a caller that wants to know before it has something to write. Changes nothing.
 */
pega_status safetensors_check_target(const char *path, pega_error *error);

/**
 * \brief Writes a file, or leaves everything as it was.
 *
 * The bytes go to a temporary file in the same folder, which then takes the name `path`: a reader
 * sees the old file or the whole new one. On failure, and on a signal that ends the process, the
 * temporary file is removed. An existing `path` is replaced if it is a regular file; a symbolic link
 * to one keeps being a link. One call at a time in the process.
 */
pega_status safetensors_write(const char *path, const safetensors_item *items, size_t num_items,
                              pega_error *error);

/** \brief The format's name of an element type ("BF16"), or NULL if it has none. */
const char *safetensors_dtype_name(DLDataType dtype);

/** \brief Quotes a name that may be long or ill for an error text. Returns `buffer`. */
#define SAFETENSORS_SHOWN 160
const char *safetensors_shown(const char *name, char buffer[SAFETENSORS_SHOWN]);

#endif  // PEGA_CLI_SAFETENSORS_H_
