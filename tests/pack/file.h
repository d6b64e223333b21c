/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file file.h
 * \brief The file form of a pack, around a manifest that may be wrong: the tests' own writer.
 */
#ifndef PEGA_TESTS_PACK_FILE_H_
#define PEGA_TESTS_PACK_FILE_H_

#include <stddef.h>

/** \brief The kinds as the index has them. */
enum { FILE_CUBIN, FILE_PTX, FILE_DATA, FILE_FATBIN };

typedef struct file_blob {
  const void *data;
  size_t size;
  unsigned kind;
} file_blob;

/** \brief Where what a test wants to change is in a file. */
typedef struct file_places {
  size_t index_size;
  size_t manifest;
  size_t manifest_size;
  size_t functions[16]; /**< of each of the first: its text in the file... */
  size_t sizes[16];     /**< ...and its size */
  int num_functions;
  size_t blobs; /**< the first */
} file_places;

enum { FILE_HEADER = 48, FILE_INDEX_BEGIN = 56, FILE_INDEX_BLOB = 44, FILE_INDEX_FUNCTION = 36 };

/**
 * \brief Makes a file of `manifest`; what of its functions can be found becomes the index.
 * \param size Receives its bytes.
 * \param places May be NULL.
 * \return To be freed.
 */
unsigned char *file_make(const char *manifest, size_t manifest_size, const file_blob *blobs,
                         int num_blobs, size_t *size, file_places *places);

/** \brief The same with an index that passes over a function. */
unsigned char *file_make_without(const char *manifest, size_t manifest_size, const file_blob *blobs,
                                 int num_blobs, size_t *size, const char *name);

/** \brief Makes digests right again: of each function, of the manifest, of the index. */
void file_digest(unsigned char *file);
/** \brief The one of the index alone. */
void file_digest_index(unsigned char *file);

#endif /* PEGA_TESTS_PACK_FILE_H_ */
