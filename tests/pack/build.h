/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file build.h
 * \brief Makes packs for the tests: cubins by hand, manifests from a template, both forms of a pack.
 */
#ifndef PEGA_TESTS_PACK_BUILD_H_
#define PEGA_TESTS_PACK_BUILD_H_

#include "../core/support.h"
#include "file.h"
#include "pega/pack.h"

/** Bytes on the heap. */
typedef struct bytes {
  unsigned char *data;
  size_t size;
} bytes;

void bytes_append(bytes *to, const void *data, size_t size);
void bytes_pad(bytes *to, size_t multiple);
void bytes_free(bytes *which);

/** What a cubin says of its one kernel. */
typedef struct cubin_spec {
  bool new_abi;
  int sm;
  bool accelerated;        /**< in the header's flags */
  bool compat_accelerated; /**< in .nv.compat */
  const char *entry;
  int num_params;
  struct {
    uint16_t offset;
    uint16_t size;
  } params[16];
  int first_ordinal; /**< of the parameters, 0 but for a gap */
  bool params_v2;    /**< the form for large parameters */
  int bank;          /**< bytes of all parameters */
  uint32_t registers, frame;
  int stack; /**< -1: not said */
  uint32_t shared;
  bool reserved; /**< the system's shared memory has a section */
  uint32_t max_threads[3], block[3], cluster[3];
} cubin_spec;

/** The kernel `k` of the manifest's function t.scale, and `m` of t.map. */
cubin_spec build_spec_k(void);
cubin_spec build_spec_m(void);
bytes build_cubin(const cubin_spec *spec);

/** The parts of a pack. */
typedef struct parts {
  bytes blobs[4]; /**< cubin k, ptx, data, cubin m */
  char names[4][65];
  char *manifest;
} parts;

/** A good pack. Its manifest may be changed with build_replace(). */
parts build_parts(void);
/** The same with another cubin k. Takes it. */
parts build_parts_with(bytes cubin);
void build_free(parts *which);
/** Replaces the first `from` in the manifest by `to`; the test fails where there is none.
 *  Quotes are written as ' in both. */
void build_replace(parts *which, const char *from, const char *to);

/** The pack as one file. */
bytes build_file(const parts *which);
/** The same; `places` receives where what is. */
bytes build_file_at(const parts *which, file_places *places);
/** The pack as a folder, which must not be there. */
void build_folder(const parts *which, const char *folder);

void build_write(const char *path, const void *data, size_t size);
/** A new folder for files of the test; removed with build_remove(). */
const char *build_temporary(void);
void build_remove(const char *folder);

/** Opens bytes of a pack file, which may go away afterwards. */
pega_status build_open(const bytes *file, uint32_t flags, pega_pack **out, pega_error *error);
pega_status build_open_path(const char *path, pega_pack **out, pega_error *error);

/** SHA-256 in hexadecimal. */
void build_digest(const void *data, size_t size, char name[65]);

#endif /* PEGA_TESTS_PACK_BUILD_H_ */
