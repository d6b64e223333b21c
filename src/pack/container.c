/* SPDX-License-Identifier: Apache-2.0 */
/* Where a pack's bytes come from: a folder, a file, memory. docs/packs.md describes the forms. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pack.h"

enum { kHeaderSize = 24, kAlignment = 64, kContainerVersion = 1 };

static const char kMagic[8] = {'P', 'E', 'G', 'A', 'P', 'A', 'C', 'K'};

/* "packs/x: blobs/<name>", for errors; `file` is NULL for the pack itself. */
typedef struct place {
  const char *pack;
  const char *folder;
  const char *file;
} place;

#define PLACE_FORMAT "%s%s%s%s"
#define PLACE(at)                                                    \
  (at)->pack, (at)->folder != NULL || (at)->file != NULL ? "/" : "", \
      (at)->folder != NULL ? (at)->folder : "", (at)->file != NULL ? (at)->file : ""

static pega_status system_failed(const place *at, int code, pega_error *error) {
  char text[128];
  pega_status status = code == ENOENT || code == ENOTDIR ? PEGA_ERROR_NOT_FOUND : PEGA_ERROR_IO;
  if (code == ELOOP && at->file != NULL) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          PLACE_FORMAT ": it is a link; a pack has regular files only", PLACE(at));
  }
  pega_error_set(error, status, NULL, PLACE_FORMAT ": %s", PLACE(at),
                 strerror_r(code, text, sizeof text));
  if (error != NULL) error->code = code;
  return status;
}

static const char *kind_of_file(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  if (S_ISLNK(mode)) return "a link";
  return "a device";
}

/* What the file is, and that its size is within what is allowed. */
static pega_status check_file(const place *at, const struct stat *found, uint64_t most,
                              pega_error *error) {
  if (!S_ISREG(found->st_mode)) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          PLACE_FORMAT ": it is %s; a pack has regular files only", PLACE(at),
                          kind_of_file(found->st_mode));
  }
  if ((uint64_t)found->st_size > most) {
    return pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                          PLACE_FORMAT ": it has %" PRIu64 " bytes, at most %" PRIu64
                                       " are allowed",
                          PLACE(at), (uint64_t)found->st_size, most);
  }
  return PEGA_OK;
}

static pega_status resized(const place *at, const char *how, uint64_t size, pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                        PLACE_FORMAT ": it %s while it was read: it had %" PRIu64
                                     " bytes at first; try again when nobody writes to it",
                        PLACE(at), how, size);
}

/* Reads from byte `begin` to before `end` of an open file that had `size` bytes. */
static pega_status read_piece(const place *at, int fd, uint64_t size, uint64_t begin, uint64_t end,
                              unsigned char *to, pega_error *error) {
  while (begin < end) {
    size_t wanted = end - begin > SSIZE_MAX ? SSIZE_MAX : (size_t)(end - begin);
    ssize_t got = read(fd, to, wanted);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_failed(at, errno, error);
    if (got == 0) return resized(at, "shrank", size, error);
    begin += (uint64_t)got;
    to += got;
  }
  return PEGA_OK;
}

/* Nothing is behind what was read. */
static pega_status check_end(const place *at, int fd, uint64_t size, pega_error *error) {
  unsigned char more;
  ssize_t got;
  do {
    got = read(fd, &more, 1);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return system_failed(at, errno, error);
  return got == 0 ? PEGA_OK : resized(at, "grew", size, error);
}

/* All of an open file that had `size` bytes, and a NUL behind them; the first `head_size` have been read
 * into `head`. */
static pega_status read_whole(const place *at, int fd, uint64_t size, const unsigned char *head,
                              size_t head_size, unsigned char **out, pega_error *error) {
  unsigned char *bytes = malloc((size_t)size + 1);
  if (bytes == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL,
                          PLACE_FORMAT ": no memory for its %" PRIu64 " bytes", PLACE(at), size);
  }
  if (head_size > 0) memcpy(bytes, head, head_size);
  pega_status status = read_piece(at, fd, size, head_size, size, bytes + head_size, error);
  if (status == PEGA_OK) status = check_end(at, fd, size, error);
  if (status != PEGA_OK) {
    free(bytes);
    return status;
  }
  bytes[size] = '\0';
  *out = bytes;
  return PEGA_OK;
}

/* ---- Folders ---- */

enum { kFileFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY };

/* Reads a file of a folder that is open. */
static pega_status read_at(const place *at, int folder, uint64_t most, unsigned char **out,
                           uint64_t *size, pega_error *error) {
  int fd = openat(folder, at->file, kFileFlags | O_NOFOLLOW);
  if (fd < 0) return system_failed(at, errno, error);
  struct stat found;
  pega_status status;
  *size = 0;
  if (fstat(fd, &found) != 0) {
    status = system_failed(at, errno, error);
  } else {
    status = check_file(at, &found, most, error);
    *size = (uint64_t)found.st_size;
    if (status == PEGA_OK) status = read_whole(at, fd, *size, NULL, 0, out, error);
  }
  close(fd);
  return status;
}

static pega_status open_folder(pega_pack *pack, int folder, pega_error *error) {
  const place manifest = {pack->source, NULL, "manifest.json"};
  const place blobs = {pack->source, NULL, "blobs"};
  unsigned char *bytes = NULL;
  uint64_t size = 0;
  pega_status status = read_at(&manifest, folder, PEGA_MAX_MANIFEST, &bytes, &size, error);
  if (status != PEGA_OK) return status;
  pack->manifest = (char *)bytes;
  pack->manifest_size = (size_t)size;
  pack->blobs_folder = openat(folder, "blobs", O_RDONLY | O_CLOEXEC | O_DIRECTORY | O_NOFOLLOW);
  if (pack->blobs_folder >= 0) return PEGA_OK;
  if (errno == ENOTDIR || errno == ELOOP) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          PLACE_FORMAT ": expected a folder; links are not followed",
                          PLACE(&blobs));
  }
  return system_failed(&blobs, errno, error);
}

pega_status pega_container_read_blob(const pega_pack *pack, const pega_blob *blob, void **out,
                                     pega_error *error) {
  const place at = {pack->source, "blobs/", blob->name};
  unsigned char *bytes = NULL;
  uint64_t size = 0;
  pega_status status = read_at(&at, pack->blobs_folder, PEGA_MAX_BLOB, &bytes, &size, error);
  if (status != PEGA_OK) return status;
  if (size != blob->size) {
    free(bytes);
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          PLACE_FORMAT ": it has %" PRIu64 " bytes, the manifest says %" PRIu64
                                       "; copy or build the pack again",
                          PLACE(&at), size, blob->size);
  }
  *out = bytes;
  return PEGA_OK;
}

static pega_status find_blobs_of_folder(const pega_pack *pack, pega_error *error) {
  for (int32_t i = 0; i < pack->num_blobs; ++i) {
    const pega_blob *blob = &pack->blobs[i];
    const place at = {pack->source, "blobs/", blob->name};
    struct stat found;
    if (fstatat(pack->blobs_folder, blob->name, &found, AT_SYMLINK_NOFOLLOW) != 0) {
      return system_failed(&at, errno, error);
    }
    pega_status status = check_file(&at, &found, PEGA_MAX_BLOB, error);
    if (status != PEGA_OK) return status;
    if ((uint64_t)found.st_size != blob->size) {
      return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                            PLACE_FORMAT ": it has %" PRIu64 " bytes, the manifest says %" PRIu64
                                         "; copy or build the pack again",
                            PLACE(&at), (uint64_t)found.st_size, blob->size);
    }
  }
  return PEGA_OK;
}

/* ---- Files ---- */

static uint64_t little_endian(const unsigned char *bytes, int size) {
  uint64_t number = 0;
  for (int i = size - 1; i >= 0; --i) number = number << 8 | bytes[i];
  return number;
}

static pega_status cut_off(const pega_pack *pack, uint64_t wanted, const char *what,
                           pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                        "%s: cut off: it has %" PRIu64 " bytes, and %s ends at byte %" PRIu64
                        "; copy or build the pack again",
                        pack->source, pack->file_size, what, wanted);
}

/* Everything from `begin` to the next multiple of kAlignment is there and is zero. */
static pega_status skip_padding(const pega_pack *pack, uint64_t begin, uint64_t *end,
                                pega_error *error) {
  *end = (begin + kAlignment - 1) / kAlignment * kAlignment;
  if (*end > pack->file_size) return cut_off(pack, *end, "the padding", error);
  for (uint64_t i = begin; i < *end; ++i) {
    if (pack->file[i] != 0) {
      return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                            "%s: byte %" PRIu64 " is padding: expected 0, got %u", pack->source, i,
                            pack->file[i]);
    }
  }
  return PEGA_OK;
}

/* `header` are the first kHeaderSize bytes of the file, or all of a shorter one. */
static pega_status check_header(pega_pack *pack, const unsigned char *header, pega_error *error) {
  if (pack->file_size < sizeof kMagic || memcmp(header, kMagic, sizeof kMagic) != 0) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: no pack: it does not begin with PEGAPACK", pack->source);
  }
  if (pack->file_size < kHeaderSize) return cut_off(pack, kHeaderSize, "the header", error);
  uint64_t version = little_endian(header + 8, 4);
  uint64_t zero = little_endian(header + 12, 4);
  uint64_t size = little_endian(header + 16, 8);
  if (version != kContainerVersion) {
    return pega_error_set(error, PEGA_ERROR_VERSION, NULL,
                          "%s: container version %" PRIu64
                          ": this library reads version %d; use a newer one",
                          pack->source, version, kContainerVersion);
  }
  if (zero != 0) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: bytes 12 to 15 of the header: expected 0, got %" PRIu64,
                          pack->source, zero);
  }
  if (size > PEGA_MAX_MANIFEST) {
    return pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                          "%s: a manifest of %" PRIu64 " bytes, at most %" PRIu64 " are allowed",
                          pack->source, size, PEGA_MAX_MANIFEST);
  }
  if (kHeaderSize + size > pack->file_size) {
    return cut_off(pack, kHeaderSize + size, "the manifest", error);
  }
  pack->manifest_size = (size_t)size;
  return PEGA_OK;
}

static pega_status copy_manifest(pega_pack *pack, pega_error *error) {
  const size_t size = pack->manifest_size;
  pack->manifest = malloc(size + 1);
  if (pack->manifest == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "%s: no memory for its manifest",
                          pack->source);
  }
  memcpy(pack->manifest, pack->file + kHeaderSize, size);
  pack->manifest[size] = '\0';
  return PEGA_OK;
}

static pega_status place_blobs_of_file(pega_pack *pack, pega_error *error) {
  uint64_t at = kHeaderSize + pack->manifest_size;
  pega_status status = skip_padding(pack, at, &at, error);
  for (int32_t i = 0; status == PEGA_OK && i < pack->num_blobs; ++i) {
    const pega_blob *blob = &pack->blobs[i];
    pack->bytes[i].offset = at;
    if (blob->size > pack->file_size - at) {
      char what[96];
      snprintf(what, sizeof what, "blob %" PRId32 " (%.16s...)", i, blob->name);
      return cut_off(pack, at + blob->size, what, error);
    }
    status = skip_padding(pack, at + blob->size, &at, error);
  }
  if (status == PEGA_OK && at != pack->file_size) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: it ends at byte %" PRIu64 " by its manifest, and has %" PRIu64
                          " bytes: nothing may follow the last blob",
                          pack->source, at, pack->file_size);
  }
  return status;
}

/* ---- Either ---- */

/* A file that is no pack is not read behind its header. */
static pega_status open_file(pega_pack *pack, const place *at, int fd, uint64_t size,
                             pega_error *error) {
  unsigned char header[kHeaderSize];
  const size_t header_size = size < kHeaderSize ? (size_t)size : kHeaderSize;
  unsigned char *bytes;
  pack->file_size = size;
  pega_status status = read_piece(at, fd, size, 0, header_size, header, error);
  if (status == PEGA_OK) status = check_header(pack, header, error);
  if (status == PEGA_OK) status = read_whole(at, fd, size, header, header_size, &bytes, error);
  if (status != PEGA_OK) return status;
  pack->owned_file = bytes;
  pack->file = bytes;
  return PEGA_OK;
}

static pega_status open_path(pega_pack *pack, pega_error *error) {
  const place at = {pack->source, NULL, NULL};
  struct stat found;
  int fd = open(pack->source, kFileFlags);
  if (fd < 0) return system_failed(&at, errno, error);
  pega_status status;
  if (fstat(fd, &found) != 0) {
    status = system_failed(&at, errno, error);
  } else if (S_ISDIR(found.st_mode)) {
    status = open_folder(pack, fd, error);
  } else {
    status = check_file(&at, &found, PEGA_MAX_PACK_FILE, error);
    if (status == PEGA_OK) status = open_file(pack, &at, fd, (uint64_t)found.st_size, error);
  }
  close(fd);
  return status;
}

static pega_status open_memory(pega_pack *pack, const void *data, size_t size, pega_error *error) {
  if (size > PEGA_MAX_PACK_FILE) {
    return pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                          "%s: it has %zu bytes, at most %" PRIu64 " are allowed", pack->source,
                          size, PEGA_MAX_PACK_FILE);
  }
  pack->file_size = size;
  pega_status status = check_header(pack, data, error);
  if (status != PEGA_OK) return status;
  pack->file = data;
  if ((pack->flags & PEGA_PACK_STATIC) != 0) return PEGA_OK;
  pack->owned_file = malloc(size + 1);
  if (pack->owned_file == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "%s: no memory for its %zu bytes",
                          pack->source, size);
  }
  pack->file = memcpy(pack->owned_file, data, size);
  return PEGA_OK;
}

pega_status pega_container_open(pega_pack *pack, const pega_pack_options *options,
                                pega_error *error) {
  pega_status status = options->path != NULL
                           ? open_path(pack, error)
                           : open_memory(pack, options->data, options->size, error);
  if (status == PEGA_OK && pack->file != NULL) status = copy_manifest(pack, error);
  return status;
}

pega_status pega_container_place(pega_pack *pack, pega_error *error) {
  return pack->file != NULL ? place_blobs_of_file(pack, error) : find_blobs_of_folder(pack, error);
}

void pega_container_close(pega_pack *pack) {
  if (pack->blobs_folder >= 0) close(pack->blobs_folder);
  free(pack->owned_file);
}
