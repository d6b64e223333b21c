/* SPDX-License-Identifier: Apache-2.0 */
#include "pack_file.h"

#include "../pack/file.h"

#include <math.h>
#include <nettle/sha2.h>
#include <sys/stat.h>

enum { NUM_BLOBS = 6 };

#define PTX(target)               \
  ".version 7.8\n.target " target \
  "\n.address_size 64\n"          \
  ".visible .entry keep(.param .u64 px, .param .u32 pn)\n{\n  ret;\n}\n"
static const char PTX_80[] = PTX("sm_80");
static const char PTX_90[] = PTX("sm_90");
static const float ONES[4] = {1, 1, 1, 1};
static const float TWOS[4] = {2, 2, 2, 2};
static const float NANS[4] = {NAN, NAN, NAN, NAN};

/* What a manifest may refer to, as @name@; what it does not is left out of the pack. */
static const struct {
  const char *name;
  const char *kind;
  const void *bytes;
  size_t size;
} BLOBS[NUM_BLOBS] = {
    {"@sm_80@", "ptx", PTX_80, sizeof PTX_80 - 1},
    {"@sm_90@", "ptx", PTX_90, sizeof PTX_90 - 1},
    {"@ones@", "data", ONES, sizeof ONES},
    {"@twos@", "data", TWOS, sizeof TWOS},
    {"@nul@", "ptx", "x\0y", 3},
    {"@nans@", "data", NANS, sizeof NANS},
};

static void digest(const void *bytes, size_t size, char name[65]) {
  struct sha256_ctx context;
  unsigned char raw[SHA256_DIGEST_SIZE];
  sha256_init(&context);
  sha256_update(&context, size, bytes);
  sha256_digest(&context, sizeof raw, raw);
  for (size_t i = 0; i < sizeof raw; ++i) (void)snprintf(name + 2 * i, 3, "%02x", raw[i]);
}

static void append(char **text, const char *more, size_t size) {
  const size_t used = *text == NULL ? 0 : strlen(*text);
  *text = realloc(*text, used + size + 1);
  assert_non_null(*text);
  memcpy(*text + used, more, size);
  (*text)[used + size] = '\0';
}

static char *make_manifest(const pack_text *what) {
  char names[NUM_BLOBS][65];
  char *text = NULL;
  static const char head[] = "{'schema_version':1,'name':'small','doc':'";
  append(&text, head, strlen(head));
  append(&text, what->doc, strlen(what->doc));
  append(&text, "','blobs':[", strlen("','blobs':["));
  const char *between = "";
  for (size_t i = 0; i < NUM_BLOBS; ++i) {
    char entry[160];
    digest(BLOBS[i].bytes, BLOBS[i].size, names[i]);
    if (strstr(what->functions, BLOBS[i].name) == NULL) continue;
    const int size = snprintf(entry, sizeof entry, "%s{'sha256':'%s','size':%zu,'kind':'%s'}",
                              between, names[i], BLOBS[i].size, BLOBS[i].kind);
    append(&text, entry, (size_t)size);
    between = ",";
  }
  append(&text, "],'functions':[", strlen("],'functions':["));
  for (const char *at = what->functions; *at != '\0';) {
    size_t i = 0;
    while (i < NUM_BLOBS && strncmp(at, BLOBS[i].name, strlen(BLOBS[i].name)) != 0) ++i;
    append(&text, i < NUM_BLOBS ? names[i] : at, i < NUM_BLOBS ? 64 : 1);
    at += i < NUM_BLOBS ? strlen(BLOBS[i].name) : 1;
  }
  append(&text, "]}", 2);
  for (char *at = text; *at != '\0'; ++at) {
    if (*at == '\'') *at = '"';
  }
  return text;
}

void write_pack_file(const char *path, const pack_text *text) {
  static const char *const kinds[] = {"cubin", "ptx", "data", "fatbin"};
  char *manifest = make_manifest(text);
  file_blob blobs[NUM_BLOBS];
  int num_blobs = 0;
  for (size_t i = 0; i < NUM_BLOBS; ++i) {
    if (strstr(text->functions, BLOBS[i].name) == NULL) continue;
    file_blob *blob = &blobs[num_blobs++];
    *blob = (file_blob){BLOBS[i].bytes, BLOBS[i].size, 0};
    while (strcmp(kinds[blob->kind], BLOBS[i].kind) != 0) ++blob->kind;
  }
  size_t size = 0;
  unsigned char *content = file_make(manifest, strlen(manifest), blobs, num_blobs, &size, NULL);
  write_file(path, (const char *)content, size);
  free(content);
  free(manifest);
}

void write_pack_folder(const char *path, const pack_text *text) {
  char name[256];
  char *manifest = make_manifest(text);
  assert_int_equal(mkdir(path, 0700), 0);
  (void)snprintf(name, sizeof name, "%s/blobs", path);
  assert_int_equal(mkdir(name, 0700), 0);
  (void)snprintf(name, sizeof name, "%s/manifest.json", path);
  write_file(name, manifest, strlen(manifest));
  for (size_t i = 0; i < NUM_BLOBS; ++i) {
    char hex[65];
    if (strstr(text->functions, BLOBS[i].name) == NULL) continue;
    digest(BLOBS[i].bytes, BLOBS[i].size, hex);
    (void)snprintf(name, sizeof name, "%.100s/blobs/%s", path, hex);
    write_file(name, BLOBS[i].bytes, BLOBS[i].size);
  }
  free(manifest);
}

void damage_pack_file(const char *path) {
  size_t size = 0;
  char *bytes = read_whole_file(path, &size);
  /* The last blob ends the file but for padding. */
  while (size > 0 && bytes[size - 1] == 0) --size;
  bytes[size - 1] ^= 1;
  FILE *file = fopen(path, "r+b");
  assert_non_null(file);
  assert_int_equal(fwrite(bytes, 1, size, file), size);
  assert_int_equal(fclose(file), 0);
  free(bytes);
}
