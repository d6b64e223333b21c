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

#include "digest.h"
#include "pack.h"

enum { kContainerVersion = 2 };

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
                        PLACE_FORMAT ": it %s since it was opened with %" PRIu64
                                     " bytes; open the pack again when nobody writes to it",
                        PLACE(at), how, size);
}

/* Reads bytes `begin` to before `end` of an open file that had `size` bytes. */
static pega_status read_piece(const place *at, int fd, uint64_t size, uint64_t begin, uint64_t end,
                              unsigned char *to, pega_error *error) {
  while (begin < end) {
    size_t wanted = end - begin > SSIZE_MAX ? SSIZE_MAX : (size_t)(end - begin);
    ssize_t got = pread(fd, to, wanted, (off_t)begin);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_failed(at, errno, error);
    if (got == 0) return resized(at, "shrank", size, error);
    begin += (uint64_t)got;
    to += got;
  }
  return PEGA_OK;
}

static pega_status out_of_memory(const place *at, uint64_t size, pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL,
                        PLACE_FORMAT ": no memory for %" PRIu64 " bytes", PLACE(at), size);
}

/* ---- Folders ---- */

enum { kFileFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY };

/* Reads a file of a folder that is open, with a NUL behind it. */
static pega_status read_at(const place *at, int folder, uint64_t most, unsigned char **out,
                           uint64_t *size, pega_error *error) {
  int fd = openat(folder, at->file, kFileFlags | O_NOFOLLOW);
  if (fd < 0) return system_failed(at, errno, error);
  struct stat found;
  pega_status status = fstat(fd, &found) != 0 ? system_failed(at, errno, error)
                                              : check_file(at, &found, most, error);
  unsigned char *bytes = NULL;
  unsigned char more;
  if (status == PEGA_OK) {
    *size = (uint64_t)found.st_size;
    bytes = malloc((size_t)*size + 1);
    if (bytes == NULL) status = out_of_memory(at, *size, error);
  }
  if (status == PEGA_OK) status = read_piece(at, fd, *size, 0, *size, bytes, error);
  if (status == PEGA_OK && pread(fd, &more, 1, (off_t)*size) == 1) {
    status = resized(at, "grew", *size, error);
  }
  close(fd);
  if (status != PEGA_OK) {
    free(bytes);
    return status;
  }
  bytes[*size] = '\0';
  *out = bytes;
  return PEGA_OK;
}

static pega_status open_folder(pega_pack *pack, int folder, pega_error *error) {
  const place manifest = {pack->source, NULL, "manifest.json"};
  const place blobs = {pack->source, NULL, "blobs"};
  unsigned char *bytes = NULL;
  uint64_t size = 0;
  pega_status status = read_at(&manifest, folder, PEGA_MAX_MANIFEST, &bytes, &size, error);
  if (status != PEGA_OK) return status;
  pack->folder = true;
  pack->manifest = (char *)bytes;
  pack->manifest_size = (size_t)size;
  pack->descriptor = openat(folder, "blobs", O_RDONLY | O_CLOEXEC | O_DIRECTORY | O_NOFOLLOW);
  if (pack->descriptor >= 0) return PEGA_OK;
  if (errno == ENOTDIR || errno == ELOOP) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          PLACE_FORMAT ": expected a folder; links are not followed",
                          PLACE(&blobs));
  }
  return system_failed(&blobs, errno, error);
}

static pega_status wrong_size(const place *at, uint64_t size, const pega_blob *blob,
                              pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                        PLACE_FORMAT ": it has %" PRIu64 " bytes, the manifest says %" PRIu64
                                     "; copy or build the pack again",
                        PLACE(at), size, blob->size);
}

pega_status pega_container_read_blob(const pega_pack *pack, int32_t index, void **out,
                                     pega_error *error) {
  const pega_blob *blob = &pack->blobs[index];
  const place at = {pack->source, "blobs/", blob->name};
  if (!pack->folder) {
    return pega_container_read(pack, pack->bytes[index].offset, blob->size, "a blob", out, error);
  }
  unsigned char *bytes = NULL;
  uint64_t size = 0;
  pega_status status = read_at(&at, pack->descriptor, PEGA_MAX_BLOB, &bytes, &size, error);
  if (status != PEGA_OK) return status;
  *out = bytes;
  if (size == blob->size) return PEGA_OK;
  free(bytes);
  return wrong_size(&at, size, blob, error);
}

pega_status pega_container_find_blobs(const pega_pack *pack, pega_error *error) {
  for (int32_t i = 0; i < pack->num_blobs; ++i) {
    const pega_blob *blob = &pack->blobs[i];
    const place at = {pack->source, "blobs/", blob->name};
    struct stat found;
    if (fstatat(pack->descriptor, blob->name, &found, AT_SYMLINK_NOFOLLOW) != 0) {
      return system_failed(&at, errno, error);
    }
    pega_status status = check_file(&at, &found, PEGA_MAX_BLOB, error);
    if (status != PEGA_OK) return status;
    if ((uint64_t)found.st_size != blob->size) {
      return wrong_size(&at, (uint64_t)found.st_size, blob, error);
    }
  }
  return PEGA_OK;
}

/* ---- Files ---- */

pega_status pega_container_read(const pega_pack *pack, uint64_t offset, uint64_t size,
                                const char *what, void **out, pega_error *error) {
  const place at = {pack->source, NULL, NULL};
  unsigned char *bytes = malloc((size_t)size + 1);
  if (bytes == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL,
                          "%s: no memory for %s of %" PRIu64 " bytes", pack->source, what, size);
  }
  pega_status status = PEGA_OK;
  if (pack->memory != NULL) {
    memcpy(bytes, pack->memory + offset, (size_t)size);
  } else {
    status =
        read_piece(&at, pack->descriptor, pack->file_size, offset, offset + size, bytes, error);
  }
  bytes[size] = '\0';
  if (status == PEGA_OK) {
    *out = bytes;
  } else {
    free(bytes);
  }
  return status;
}

pega_status pega_pack_cut_off(const pega_pack *pack, uint64_t wanted, const char *what,
                              pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                        "%s: cut off: it has %" PRIu64 " bytes, and %s ends at byte %" PRIu64
                        "; copy or build the pack again",
                        pack->source, pack->file_size, what, wanted);
}

/* From `begin` to the next multiple of kBlobAlignment. */
static pega_status check_zeros(const pega_pack *pack, uint64_t begin, pega_error *error) {
  void *read;
  const uint64_t end = pega_padded(begin);
  pega_status status = pega_container_read(pack, begin, end - begin, "padding", &read, error);
  if (status != PEGA_OK) return status;
  const unsigned char *bytes = read;
  for (uint64_t i = begin; i < end && status == PEGA_OK; ++i) {
    if (bytes[i - begin] == 0) continue;
    status = pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                            "%s: byte %" PRIu64 " is padding: expected 0, got %u", pack->source, i,
                            bytes[i - begin]);
  }
  free(read);
  return status;
}

pega_status pega_container_check_padding(const pega_pack *pack, pega_error *error) {
  pega_status status = check_zeros(pack, pack->manifest_offset + pack->manifest_size, error);
  for (int32_t i = 0; i < pack->num_blobs && status == PEGA_OK; ++i) {
    status = check_zeros(pack, pack->bytes[i].offset + pack->blobs[i].size, error);
  }
  return status;
}

/* `header` are the first kHeaderSize bytes of the file, or all of a shorter one. */
static pega_status check_header(pega_pack *pack, const unsigned char *header, pega_error *error) {
  if (pack->file_size < sizeof kMagic || memcmp(header, kMagic, sizeof kMagic) != 0) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: no pack: it does not begin with PEGAPACK", pack->source);
  }
  if (pack->file_size < kHeaderSize)
    return pega_pack_cut_off(pack, kHeaderSize, "the header", error);
  const uint64_t version = pega_little_endian(header + 8, 4);
  pack->index_size = (size_t)pega_little_endian(header + 12, 4);
  if (version != kContainerVersion) {
    return pega_error_set(error, PEGA_ERROR_VERSION, NULL,
                          "%s: container version %" PRIu64 ": this library reads version %d; %s",
                          pack->source, version, kContainerVersion,
                          version < kContainerVersion ? "build the pack again" : "use a newer one");
  }
  if (pack->index_size > PEGA_MAX_INDEX) {
    return pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                          "%s: an index of %zu bytes, at most %" PRIu64 " are allowed",
                          pack->source, pack->index_size, PEGA_MAX_INDEX);
  }
  pack->manifest_offset = kHeaderSize + pack->index_size;
  if (pack->manifest_offset <= pack->file_size) return PEGA_OK;
  return pega_pack_cut_off(pack, pack->manifest_offset, "the index", error);
}

static pega_status check_index(const pega_pack *pack, const unsigned char *header,
                               pega_error *error) {
  unsigned char digest[kSha256Bytes];
  pega_sha256(pack->index, pack->index_size, digest);
  if (memcmp(digest, header + 16, sizeof digest) == 0) return PEGA_OK;
  return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                        "%s: its index has not the SHA-256 that its header says: damaged or "
                        "changed; copy or build the pack again",
                        pack->source);
}

/* ---- Either ---- */

/* A file that is no pack is not read behind its header. */
static pega_status open_file(pega_pack *pack, const place *at, pega_error *error) {
  unsigned char header[kHeaderSize];
  const uint64_t size = pack->file_size < kHeaderSize ? pack->file_size : kHeaderSize;
  pega_status status = read_piece(at, pack->descriptor, pack->file_size, 0, size, header, error);
  if (status == PEGA_OK) status = check_header(pack, header, error);
  if (status == PEGA_OK) {
    status =
        pega_container_read(pack, kHeaderSize, pack->index_size, "its index", &pack->owned, error);
  }
  pack->index = pack->owned;
  return status == PEGA_OK ? check_index(pack, header, error) : status;
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
    if (status == PEGA_OK) {
      pack->descriptor = fd;
      pack->file_size = (uint64_t)found.st_size;
      return open_file(pack, &at, error);
    }
  }
  close(fd);
  return status;
}

static pega_status open_memory(pega_pack *pack, const void *data, size_t size, pega_error *error) {
  const place at = {pack->source, NULL, NULL};
  if (size > PEGA_MAX_PACK_FILE) {
    return pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                          "%s: it has %zu bytes, at most %" PRIu64 " are allowed", pack->source,
                          size, PEGA_MAX_PACK_FILE);
  }
  pack->file_size = size;
  pega_status status = check_header(pack, data, error);
  if (status != PEGA_OK) return status;
  pack->memory = data;
  if ((pack->flags & PEGA_PACK_STATIC) == 0) {
    pack->owned = malloc(size);
    if (pack->owned == NULL) return out_of_memory(&at, size, error);
    pack->memory = memcpy(pack->owned, data, size);
  }
  pack->index = pack->memory + kHeaderSize;
  return check_index(pack, pack->memory, error);
}

pega_status pega_container_open(pega_pack *pack, const pega_pack_options *options,
                                pega_error *error) {
  return options->path != NULL ? open_path(pack, error)
                               : open_memory(pack, options->data, options->size, error);
}

void pega_container_close(pega_pack *pack) {
  if (pack->descriptor >= 0) close(pack->descriptor);
  free(pack->owned);
}
