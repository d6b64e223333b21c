/* SPDX-License-Identifier: Apache-2.0 */
/* What PTX text says of its kernels: names, parameters, launch bounds. No instruction is read. */
#include <stdlib.h>
#include <string.h>

#include "fake.h"

/* Past white space and comments. */
static const char *skip(const char *at) {
  for (;;) {
    at += strspn(at, " \t\r\n");
    const char *end;
    if (at[0] == '/' && at[1] == '/') {
      end = strchr(at, '\n');
    } else if (at[0] == '/' && at[1] == '*') {
      end = strstr(at, "*/");
      if (end != NULL) end += 1;
    } else {
      return at;
    }
    if (end == NULL) return at + strlen(at);
    at = end + 1;
  }
}

static bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '$' || c == '%';
}

static size_t word_size(const char *at) {
  size_t size = at[0] == '.' ? 1 : 0;
  while (is_name(at[size])) ++size;
  return size;
}

static bool is_word(const char *at, const char *word) {
  return word_size(at) == strlen(word) && strncmp(at, word, strlen(word)) == 0;
}

/* The next word that is `word`, or NULL. */
static const char *find_word(const char *at, const char *word) {
  for (at = skip(at); *at != '\0'; at = skip(at)) {
    size_t size = word_size(at);
    if (is_word(at, word)) return at + size;
    at += size == 0 ? 1 : size;
  }
  return NULL;
}

/* Bytes of a type, ".u64" 8; 0 where it is none. */
static uint32_t type_size(const char *at) {
  size_t size = word_size(at);
  if (size < 3 || at[0] != '.' || strchr("usbf", at[1]) == NULL) return 0;
  unsigned long bits = strtoul(at + 2, NULL, 10);
  return bits == 8 || bits == 16 || bits == 32 || bits == 64 || bits == 128 ? (uint32_t)bits / 8
                                                                            : 0;
}

static CUresult add_param(fake_kernel *kernel, uint32_t align, uint32_t size) {
  if (align == 0 || size == 0 || size > 32764 || kernel->num_params == 4096) {
    return FAKE_CUDA_ERROR_INVALID_PTX;
  }
  fake_param *grown = realloc(kernel->params, (kernel->num_params + 1) * sizeof *grown);
  if (grown == NULL) return FAKE_CUDA_ERROR_OUT_OF_MEMORY;
  uint32_t offset = (kernel->params_size + align - 1) / align * align;
  kernel->params = grown;
  kernel->params[kernel->num_params++] = (fake_param){offset, size};
  kernel->params_size = offset + size;
  return FAKE_CUDA_SUCCESS;
}

/* From after "(" to after ")": .param [.align N] .type [.ptr ...] name[[N]], ... */
static CUresult read_params(const char **text, fake_kernel *kernel) {
  const char *at = *text;
  while (*(at = skip(at)) != ')') {
    uint32_t align = 0;
    uint32_t element = 0;
    uint32_t count = 1;
    if (!is_word(at, ".param")) return FAKE_CUDA_ERROR_INVALID_PTX;
    bool pointer = false;
    for (at = skip(at + 6); *at != ',' && *at != ')'; at = skip(at)) {
      size_t size = word_size(at);
      if (*at == '\0') return FAKE_CUDA_ERROR_INVALID_PTX;
      if (is_word(at, ".align")) {
        char *end;
        unsigned long number = strtoul(skip(at + size), &end, 10);
        if (!pointer) align = (uint32_t)number; /* after .ptr it is of what it points at */
        at = end;
        continue;
      }
      if (is_word(at, ".ptr")) pointer = true;
      if (element == 0) element = type_size(at);
      if (*at == '[') count = (uint32_t)strtoul(skip(at + 1), NULL, 10);
      at += size == 0 ? 1 : size;
    }
    if (count > 32764) return FAKE_CUDA_ERROR_INVALID_PTX;
    CUresult result = add_param(kernel, align == 0 ? element : align, element * count);
    if (result != 0) return result;
    if (*at == ',') ++at;
  }
  *text = at + 1;
  return FAKE_CUDA_SUCCESS;
}

/* Directives between the parameters and the body. */
static void read_bounds(const char *at, fake_kernel *kernel) {
  for (at = skip(at); *at != '{' && *at != ';' && *at != '\0'; at = skip(at)) {
    bool threads = is_word(at, ".maxntid") || is_word(at, ".reqntid");
    bool cluster = is_word(at, ".reqnctapercluster");
    size_t size = word_size(at);
    at += size == 0 ? 1 : size;
    if (is_word(at - size, ".explicitcluster")) kernel->explicit_cluster = true;
    if (!threads && !cluster) continue;
    uint32_t sides[3] = {1, 1, 1};
    for (int i = 0; i < 3; ++i) {
      char *end;
      at = skip(at);
      sides[i] = (uint32_t)strtoul(at, &end, 10);
      at = skip(end);
      if (*at != ',') break;
      ++at;
    }
    if (threads) kernel->max_threads = sides[0] * sides[1] * sides[2];
    if (cluster) memcpy(kernel->cluster, sides, sizeof sides);
  }
}

static CUresult read_entry(const char **text, fake_image *image) {
  const char *at = skip(*text);
  size_t size = word_size(at);
  if (size == 0) return FAKE_CUDA_ERROR_INVALID_PTX;
  fake_kernel *grown = realloc(image->kernels, (image->num_kernels + 1) * sizeof *grown);
  if (grown == NULL) return FAKE_CUDA_ERROR_OUT_OF_MEMORY;
  image->kernels = grown;
  fake_kernel *kernel = &grown[image->num_kernels];
  /* The compiler decides on registers; a small number stands in for it. */
  *kernel = (fake_kernel){.name = strndup(at, size), .registers = 32};
  if (kernel->name == NULL) return FAKE_CUDA_ERROR_OUT_OF_MEMORY;
  ++image->num_kernels;
  at = skip(at + size);
  if (*at == '(') {
    ++at;
    CUresult result = read_params(&at, kernel);
    if (result != 0) return result;
  }
  read_bounds(at, kernel);
  *text = at;
  return FAKE_CUDA_SUCCESS;
}

/* CUDA 13.0 came with PTX 9.0, 12.0 with 8.0; minor numbers went together, or nearly so. */
static bool is_too_new(const char *version) {
  char *end;
  long major = strtol(version, &end, 10);
  long minor = *end == '.' ? strtol(end + 1, NULL, 10) : 0;
  long most_major = fake.driver_version / 1000 - 4;
  long most_minor = fake.driver_version % 1000 / 10;
  return major > most_major || (major == most_major && minor > most_minor);
}

CUresult fake_ptx_read(const char *text, fake_image *out) {
  const char *at = skip(text);
  if (!is_word(at, ".version")) return FAKE_CUDA_ERROR_INVALID_IMAGE;
  at = skip(at + strlen(".version"));
  if (is_too_new(at)) return FAKE_CUDA_ERROR_UNSUPPORTED_PTX_VERSION;
  at = find_word(at, ".target");
  if (at == NULL) return FAKE_CUDA_ERROR_INVALID_PTX;
  at = skip(at);
  if (strncmp(at, "sm_", 3) != 0) return FAKE_CUDA_ERROR_INVALID_PTX;
  out->architecture = (uint32_t)strtoul(at + 3, NULL, 10);
  out->ptx = true;
  while ((at = find_word(at, ".entry")) != NULL) {
    CUresult result = read_entry(&at, out);
    if (result != 0) return result;
  }
  return FAKE_CUDA_SUCCESS;
}
