/* SPDX-License-Identifier: Apache-2.0 */
/* Packs of ever more functions. They are written here: docs/packs.md, "File". */
#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <pega/pack.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench_scale.h"

enum { VARIANTS = 4, NAME_SIZE = 64, CODE_SIZE = 1024, LOOKUPS = 20000, FEW = 64 };
#define PREFIX "pega.bench.scale.f"

/* ---- Writing ---- */

/* Bytes that grow. */
typedef struct buffer {
  char *data;
  size_t size;
  FILE *stream;
} buffer;

static bool buffer_open(buffer *self) {
  self->stream = open_memstream(&self->data, &self->size);
  return self->stream != NULL;
}

static void put_number(buffer *to, uint64_t number, int size) {
  for (int i = 0; i < size; ++i) (void)fputc((int)(number >> 8 * i & 0xff), to->stream);
}

static void digest_of(const void *data, size_t size, uint8_t digest[SHA256_DIGEST_SIZE]) {
  struct sha256_ctx context;
  sha256_init(&context);
  sha256_update(&context, size, data);
  sha256_digest(&context, SHA256_DIGEST_SIZE, digest);
}

static void put_digest(buffer *to, const void *data, size_t size) {
  uint8_t digest[SHA256_DIGEST_SIZE];
  digest_of(data, size, digest);
  (void)fwrite(digest, 1, sizeof digest, to->stream);
}

static void name_of(int index, char name[NAME_SIZE]) {
  (void)snprintf(name, NAME_SIZE, PREFIX "%05d_scale_and_shift", index);
}

/* Code that nothing launches, another for each function. */
static void code_of(int index, char code[CODE_SIZE]) {
  const int used = snprintf(code, CODE_SIZE,
                            ".version 8.0\n.target sm_80\n.address_size 64\n"
                            ".visible .entry kernel() { ret; }\n// %d\n",
                            index);
  memset(code + used, '/', (size_t)(CODE_SIZE - used));
}

static void hex_digest_of(int index, char hex[65]) {
  char code[CODE_SIZE];
  uint8_t digest[SHA256_DIGEST_SIZE];
  code_of(index, code);
  digest_of(code, sizeof code, digest);
  for (int i = 0; i < SHA256_DIGEST_SIZE; ++i) (void)snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

/* One for each of some targets, as kernels are compiled. */
static void put_variant(buffer *to, const char *hex, int which) {
  static const char *const targets[VARIANTS] = {"sm_80", "sm_86", "sm_89", "sm_90"};
  (void)fprintf(
      to->stream,
      "%s{\"blob\":\"%s\",\"block\":[128,1,1],\"cluster\":[1,1,1],\"cooperative\":false,"
      "\"entry\":\"kernel\",\"grid\":[\"cdiv(n, 128)\",\"1\",\"1\"],\"local_bytes\":0,"
      "\"params\":["
      "{\"name\":\"x\",\"offset\":0,\"role\":\"argument\",\"size\":8,\"type\":\"pointer\","
      "\"value\":\"x\"},"
      "{\"name\":\"y\",\"offset\":8,\"role\":\"argument\",\"size\":8,\"type\":\"pointer\","
      "\"value\":\"y\"},"
      "{\"name\":\"n\",\"offset\":16,\"role\":\"argument\",\"size\":4,\"type\":\"i32\","
      "\"value\":\"n\"},"
      "{\"name\":\"factor\",\"offset\":20,\"role\":\"argument\",\"size\":4,\"type\":\"f32\","
      "\"value\":\"factor\"}],"
      "\"pdl\":false,\"registers\":16,\"shared\":0,\"static_shared\":0,\"target\":\"%s\","
      "\"when\":[]}",
      which == 0 ? "" : ",", hex, targets[which]);
}

/* A small kernel's description. */
static void put_function(buffer *to, int index, int variants) {
  char name[NAME_SIZE];
  char hex[65];
  name_of(index, name);
  hex_digest_of(index, hex);
  (void)fprintf(
      to->stream,
      "{\"doc\":\"y = factor x\",\"golden\":[],\"name\":\"%s\",\"params\":["
      "{\"doc\":\"source\",\"name\":\"x\",\"nonnull\":true,\"type\":\"pointer\"},"
      "{\"doc\":\"result\",\"name\":\"y\",\"nonnull\":true,\"output\":true,\"type\":\"pointer\"},"
      "{\"doc\":\"elements\",\"max\":1073741824,\"min\":0,\"name\":\"n\",\"type\":\"int\"},"
      "{\"doc\":\"by what\",\"name\":\"factor\",\"type\":\"float\"},"
      "{\"name\":\"stream\",\"type\":\"stream\"}],\"same_device\":false,\"variants\":[",
      name);
  for (int i = 0; i < variants; ++i) put_variant(to, hex, i);
  (void)fputs("]}", to->stream);
}

/* The manifest; where each function begins in it, and where the last ends. */
static bool make_manifest(buffer *to, int count, int variants, size_t *begins) {
  if (!buffer_open(to)) return false;
  (void)fputs("{\"blobs\":[", to->stream);
  for (int i = 0; i < count; ++i) {
    char hex[65];
    hex_digest_of(i, hex);
    (void)fprintf(to->stream, "%s{\"kind\":\"ptx\",\"sha256\":\"%s\",\"size\":%d}",
                  i == 0 ? "" : ",", hex, CODE_SIZE);
  }
  (void)fputs("],\"doc\":\"\",\"functions\":[", to->stream);
  for (int i = 0; i < count; ++i) {
    if (i > 0) (void)fputc(',', to->stream);
    begins[i] = (size_t)ftell(to->stream);
    put_function(to, i, variants);
  }
  begins[count] = (size_t)ftell(to->stream) + 1;
  (void)fputs("],\"name\":\"scale\",\"schema_version\":1}", to->stream);
  return fclose(to->stream) == 0;
}

static bool make_index(buffer *to, int count, const buffer *manifest, const size_t *begins) {
  char name[NAME_SIZE];
  char code[CODE_SIZE];
  if (!buffer_open(to)) return false;
  put_number(to, manifest->size, 8);
  put_digest(to, manifest->data, manifest->size);
  put_number(to, (uint64_t)count, 4);
  put_number(to, (uint64_t)count, 4);
  put_number(to, begins[0], 4);
  put_number(to, PEGA_PACK_SCHEMA_VERSION, 4);
  for (int i = 0; i < count; ++i) {
    code_of(i, code);
    put_digest(to, code, sizeof code);
    put_number(to, sizeof code, 8);
    put_number(to, 1, 4); /* PTX */
  }
  for (int i = 0; i < count; ++i) {
    const size_t size = begins[i + 1] - begins[i] - 1;
    put_digest(to, manifest->data + begins[i], size);
    put_number(to, size, 4);
  }
  (void)fwrite("scale", 1, sizeof "scale", to->stream);
  for (int i = 0; i < count; ++i) {
    name_of(i, name);
    (void)fwrite(name, 1, strlen(name) + 1, to->stream);
  }
  return fclose(to->stream) == 0;
}

static bool write_pack(const char *path, int count, int variants) {
  buffer manifest = {NULL, 0, NULL};
  buffer index = {NULL, 0, NULL};
  char code[CODE_SIZE];
  size_t *begins = calloc((size_t)count + 1, sizeof *begins);
  bool good = begins != NULL && make_manifest(&manifest, count, variants, begins) &&
              make_index(&index, count, &manifest, begins);
  buffer file = {NULL, 0, good ? fopen(path, "wb") : NULL};
  good = file.stream != NULL;
  if (good) {
    (void)fwrite("PEGAPACK", 1, 8, file.stream);
    put_number(&file, 2, 4);
    put_number(&file, index.size, 4);
    put_digest(&file, index.data, index.size);
    (void)fwrite(index.data, 1, index.size, file.stream);
    (void)fwrite(manifest.data, 1, manifest.size, file.stream);
    while (ftell(file.stream) % 64 != 0) (void)fputc(0, file.stream);
    for (int i = 0; i < count; ++i) { /* each is a multiple of 64 */
      code_of(i, code);
      (void)fwrite(code, 1, sizeof code, file.stream);
    }
    good = ferror(file.stream) == 0;
    good = fclose(file.stream) == 0 && good;
  }
  free(begins);
  free(manifest.data);
  free(index.data);
  return good;
}

/* ---- Measuring ---- */

/* A pack of `count` functions, and what is asked of it. */
typedef struct subject {
  const bench_scale_rows *rows;
  const char *path;
  int count;
  int variants;              /* of each function */
  int *order;                /* in which names are looked up */
  char (*names)[NAME_SIZE];  /* by index */
  pega_function **functions; /* held */
  double *samples;
} subject;

static pega_status open_pack(const subject *self, pega_pack **out, pega_error *error) {
  pega_pack_options options = PEGA_PACK_OPTIONS_INIT;
  options.path = self->path;
  return pega_pack_open(&options, out, error);
}

static void done(const subject *self, const char *name, const char *unit) {
  bench_scale_done(self->rows, name, NULL, "functions", self->count, unit, self->samples);
}

/* Opening, then the first look-up in a pack that was just opened. */
static pega_status measure_open(const subject *self, pega_error *error) {
  const bool one = self->variants == 1;
  pega_status status = PEGA_OK;
  for (int i = -1; i < self->rows->num_samples && status == PEGA_OK; ++i) {
    pega_pack *pack = NULL;
    const double begin = bench_scale_now();
    status = open_pack(self, &pack, error);
    if (i >= 0) self->samples[i] = (bench_scale_now() - begin) / 1e3;
    pega_pack_release(pack);
  }
  if (status == PEGA_OK) done(self, one ? "open" : "open, 4 variants each", "us");
  for (int i = -1; i < self->rows->num_samples && status == PEGA_OK; ++i) {
    pega_pack *pack = NULL;
    pega_function *function = NULL;
    const char *name = self->names[self->order[(i + 1) % self->count]];
    status = open_pack(self, &pack, error);
    const double begin = bench_scale_now();
    if (status == PEGA_OK) status = pega_pack_get(pack, name, &function, error);
    if (i >= 0) self->samples[i] = (bench_scale_now() - begin) / 1e3;
    pega_function_release(function);
    pega_pack_release(pack);
  }
  if (status == PEGA_OK) done(self, one ? "first look-up" : "first look-up, 4 variants each", "us");
  return status;
}

static pega_status remove_names(const subject *self, pega_error *error) {
  pega_status status = PEGA_OK;
  for (int i = 0; i < self->count && status == PEGA_OK; ++i) {
    status = pega_registry_remove(self->names[i], error);
  }
  return status;
}

static pega_status measure_register(const subject *self, pega_error *error) {
  pega_status status = PEGA_OK;
  for (int i = -1; i < self->rows->num_samples && status == PEGA_OK; ++i) {
    pega_pack *pack = NULL;
    status = open_pack(self, &pack, error);
    const double begin = bench_scale_now();
    if (status == PEGA_OK) status = pega_pack_register(pack, 0, error);
    if (i >= 0) self->samples[i] = (bench_scale_now() - begin) / 1e3;
    if (status == PEGA_OK) status = remove_names(self, error);
    pega_pack_release(pack);
  }
  if (status == PEGA_OK) done(self, "register", "us");
  return status;
}

/* The first `count` names of the order, by turns, of a pack or, where it is NULL, of the registry; what is
 * found is given back. */
static pega_status measure_lookup(const subject *self, pega_pack *pack, int count, const char *name,
                                  pega_error *error) {
  if (count > self->count) count = self->count;
  pega_status status = PEGA_OK;
  for (int i = -1; i < self->rows->num_samples; ++i) {
    const double begin = bench_scale_now();
    for (int k = 0, at = 0; k < LOOKUPS && status == PEGA_OK; ++k) {
      pega_function *function = NULL;
      const char *wanted = self->names[self->order[at]];
      at = at + 1 == count ? 0 : at + 1;
      status = pack != NULL ? pega_pack_get(pack, wanted, &function, error)
                            : pega_registry_get(wanted, &function, error);
      pega_function_release(function);
    }
    if (i >= 0) self->samples[i] = (bench_scale_now() - begin) / LOOKUPS;
  }
  if (status == PEGA_OK) done(self, name, "ns");
  return status;
}

static pega_status no_op(void *self, const pega_value *args, int32_t num_args, pega_value *result,
                         pega_error *error) {
  (void)self;
  (void)args;
  (void)num_args;
  (void)result;
  (void)error;
  return PEGA_OK;
}

static pega_status measure_call(const subject *self, pega_error *error) {
  static const char name[] = "pega.bench.scale.no_op";
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  pega_function *function = NULL;
  options.name = name;
  options.call = no_op;
  pega_status status = pega_function_create(&options, &function, error);
  if (status == PEGA_OK) status = pega_registry_add(function, PEGA_REGISTER_OVERRIDE, error);
  pega_function_release(function);
  function = NULL;
  if (status == PEGA_OK) status = pega_registry_get(name, &function, error);
  for (int i = -1; i < self->rows->num_samples && status == PEGA_OK; ++i) {
    const double begin = bench_scale_now();
    for (int k = 0; k < LOOKUPS && status == PEGA_OK; ++k) {
      status = pega_function_call(function, NULL, 0, NULL, error);
    }
    if (i >= 0) self->samples[i] = (bench_scale_now() - begin) / LOOKUPS;
  }
  pega_function_release(function);
  if (status == PEGA_OK) done(self, "call of a registered no-op", "ns");
  if (status == PEGA_OK) status = pega_registry_remove(name, error);
  return status;
}

/* With all functions got before. */
static pega_status measure_lookups(const subject *self, pega_error *error) {
  pega_pack *pack = NULL;
  pega_status status = open_pack(self, &pack, error);
  for (int i = 0; i < self->count && status == PEGA_OK; ++i) {
    status = pega_pack_get(pack, self->names[i], &self->functions[i], error);
  }
  /* Of few names everything stays in caches; of all of many each has its misses. */
  if (status == PEGA_OK) status = measure_lookup(self, pack, FEW, "look-up in the pack", error);
  if (status == PEGA_OK) {
    status =
        measure_lookup(self, pack, self->count, "look-up in the pack, all names by turns", error);
  }
  if (status == PEGA_OK) status = pega_pack_register(pack, 0, error);
  for (int i = 0; i < self->count && status == PEGA_OK; ++i) {
    pega_function *function = NULL;
    status = pega_registry_get(self->names[i], &function, error);
    pega_function_release(function);
  }
  if (status == PEGA_OK) status = measure_lookup(self, NULL, FEW, "look-up in the registry", error);
  if (status == PEGA_OK) {
    status = measure_lookup(self, NULL, self->count, "look-up in the registry, all names by turns",
                            error);
  }
  if (status == PEGA_OK) status = measure_call(self, error);
  if (status == PEGA_OK) status = remove_names(self, error);
  for (int i = 0; i < self->count; ++i) pega_function_release(self->functions[i]);
  pega_pack_release(pack);
  return status;
}

static pega_status measure_pack(subject *self, pega_error *error) {
  uint32_t state = 1;
  for (int i = 0; i < self->count; ++i) {
    name_of(i, self->names[i]);
    self->functions[i] = NULL;
    /* Shuffled, the same each time. */
    state = state * 1664525u + 1013904223u;
    const int other = (int)((state >> 8) % (uint32_t)(i + 1));
    self->order[i] = self->order[other];
    self->order[other] = i;
  }
  pega_status status = measure_open(self, error);
  if (self->variants > 1 || status != PEGA_OK) return status;
  status = measure_register(self, error);
  return status == PEGA_OK ? measure_lookups(self, error) : status;
}

static pega_status system_failed(const char *what, const char *root, pega_error *error) {
  const int code = errno;
  char text[128];
  pega_error_set(error, PEGA_ERROR_IO, NULL, "%s in %s: %s", what, root,
                 strerror_r(code, text, sizeof text));
  if (error != NULL) error->code = code;
  return PEGA_ERROR_IO;
}

/* A file that has no name any more once this returns, so that nothing is left however the program ends. */
static int nameless_file(const char *root) {
  char path[300];
  (void)snprintf(path, sizeof path, "%s/pega_bench_XXXXXX", root);
  const int fd = mkostemp(path, O_CLOEXEC);
  if (fd >= 0) (void)unlink(path);
  return fd;
}

static pega_status measure_packs(subject *self, const char *root, int most, pega_error *error) {
  char path[64];
  pega_status status = PEGA_OK;
  self->path = path;
  for (self->count = 10; self->count <= most && status == PEGA_OK; self->count *= 10) {
    for (self->variants = 1; self->variants <= VARIANTS && status == PEGA_OK;
         self->variants *= VARIANTS) {
      const int fd = nameless_file(root);
      if (fd < 0) return system_failed("no file for packs can be made", root, error);
      (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
      if (!write_pack(path, self->count, self->variants)) {
        status = system_failed("a pack cannot be written", root, error);
      } else {
        status = measure_pack(self, error);
      }
      (void)close(fd);
    }
  }
  return status;
}

pega_status bench_scale_packs(const bench_scale_rows *rows, int most, pega_error *error) {
  const char *root = secure_getenv("TMPDIR");
  const size_t count = (size_t)most;
  if (root == NULL || *root == '\0' || strlen(root) > 200) root = "/tmp";
  subject self = {rows,
                  NULL,
                  0,
                  1,
                  calloc(count, sizeof *self.order),
                  calloc(count, sizeof *self.names),
                  calloc(count, sizeof(pega_function *)),
                  calloc((size_t)rows->num_samples, sizeof *self.samples)};
  pega_status status;
  if (self.order == NULL || self.names == NULL || self.functions == NULL || self.samples == NULL) {
    status = pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "out of memory");
  } else {
    status = measure_packs(&self, root, most, error);
  }
  free(self.order);
  free(self.names);
  free(self.functions);
  free(self.samples);
  return status;
}
