/* SPDX-License-Identifier: Apache-2.0 */
/* Layout (of TVM FFI's module format): u64 size of what follows; the import tree as two vectors of
 * u64 (count, then items): starts of each module's children, then the children; then for each module
 * its kind (u64 size, bytes) and, unless that is "_lib", its content (u64 size, bytes). Numbers are
 * little-endian. */
#include "library_bin.h"

#include <inttypes.h>
#include <stdio.h>

#include "error.h"

enum { kLongestKind = 96 };

typedef struct reader {
  const char *at;
  const char *end;
} reader;

static bool read_u64(reader *in, uint64_t *out) {
  if ((size_t)(in->end - in->at) < 8) return false;
  uint64_t number = 0;
  for (int i = 0; i < 8; ++i) number |= (uint64_t)(unsigned char)in->at[i] << (8 * i);
  in->at += 8;
  *out = number;
  return true;
}

static bool read_bytes(reader *in, const char **data, uint64_t *size) {
  if (!read_u64(in, size) || *size > (uint64_t)(in->end - in->at)) return false;
  *data = in->at;
  in->at += *size;
  return true;
}

static bool read_vector(reader *in, uint64_t *count, reader *items) {
  if (!read_u64(in, count) || *count > (uint64_t)(in->end - in->at) / 8) return false;
  items->at = in->at;
  in->at += *count * 8;
  items->end = in->at;
  return true;
}

/* What usually registers the loader of a kind. */
const char *tvm_ffi_provider_text(const char *kind) {
  static const struct {
    const char *kind;
    const char *provider;
  } providers[] = {
      {"cuda", "Apache TVM's libtvm_runtime.so (TileLang's wheel has one in tilelang/lib)"},
      {"hip", "Apache TVM's libtvm_runtime.so built for ROCm"},
      {"rocm", "Apache TVM's libtvm_runtime.so built for ROCm"},
      {"metal", "Apache TVM's libtvm_runtime.so built for Metal"},
      {"opencl", "Apache TVM's libtvm_runtime.so built for OpenCL"},
      {"vulkan", "Apache TVM's libtvm_runtime.so built for Vulkan"},
      {"static_library", "Apache TVM's libtvm_compiler.so"},
  };
  for (size_t i = 0; i < sizeof providers / sizeof *providers; ++i) {
    if (strcmp(providers[i].kind, kind) == 0) return providers[i].provider;
  }
  return "the runtime library of the DSL that made it, such as Apache TVM's libtvm_runtime.so";
}

const char *const *tvm_ffi_provider_libraries(const char *kind) {
  static const char *const compiler[] = {"libtvm_compiler.so", NULL};
  static const char *const cuda[] = {"libtvm_runtime.so", "libtvm_runtime_cuda.so", NULL};
  static const char *const others[] = {"libtvm_runtime.so", "libtvm_runtime_extra.so", NULL};
  if (strcmp(kind, "static_library") == 0) return compiler;
  return strcmp(kind, "cuda") == 0 ? cuda : others;
}

static pega_status malformed(const char *path, const char *what, pega_error *error) {
  return pega_error_set(
      error, PEGA_ERROR_FORMAT, NULL,
      "%s: the binary that it embeds (__tvm_ffi__library_bin) is malformed: %s; the "
      "file is damaged or was made by another version",
      path, what);
}

pega_status tvm_ffi_has_loader(pega_tvm_ffi *runtime, const char *kind, bool *out,
                               pega_error *error) {
  char name[sizeof TVM_FFI_LOADER_PREFIX + kLongestKind];
  int length = snprintf(name, sizeof name, TVM_FFI_LOADER_PREFIX "%s", kind);
  TVMFFIByteArray key = {name, (size_t)length};
  TVMFFIObjectHandle loader = NULL;
  pthread_mutex_lock(&runtime->globals_lock);
  int code = runtime->api.TVMFFIFunctionGetGlobal(&key, &loader);
  pthread_mutex_unlock(&runtime->globals_lock);
  if (code != 0) return tvm_ffi_error_take(runtime, "TVMFFIFunctionGetGlobal", code, error);
  *out = loader != NULL;
  if (loader != NULL) runtime->release(loader);
  return PEGA_OK;
}

pega_status tvm_ffi_visit_library_bin(const char *path, const void *bytes, size_t room,
                                      pega_status (*visit)(void *self, const char *kind,
                                                           pega_error *error),
                                      void *self, pega_error *error) {
  reader in = {bytes, (const char *)bytes + room};
  uint64_t size;
  if (!read_u64(&in, &size) || size > (uint64_t)(in.end - in.at)) {
    return malformed(path, "it is larger than the file", error);
  }
  in.end = in.at + size;
  uint64_t num_starts;
  uint64_t num_children;
  reader starts;
  reader children;
  if (!read_vector(&in, &num_starts, &starts) || !read_vector(&in, &num_children, &children) ||
      num_starts < 2) {
    return malformed(path, "the import tree does not fit", error);
  }
  uint64_t num_modules = num_starts - 1;
  uint64_t last = 0;
  for (uint64_t i = 0; i < num_starts; ++i) {
    uint64_t start = 0;
    read_u64(&starts, &start);
    if (start < last || start > num_children) {
      return malformed(path, "the import tree points outside itself", error);
    }
    last = start;
  }
  for (uint64_t i = 0; i < num_children; ++i) {
    uint64_t child = 0;
    read_u64(&children, &child);
    if (child >= num_modules) return malformed(path, "the import tree names no such part", error);
  }
  for (uint64_t i = 0; i < num_modules; ++i) {
    const char *kind;
    const char *content;
    uint64_t kind_size;
    uint64_t content_size;
    if (!read_bytes(&in, &kind, &kind_size))
      return malformed(path, "a part's kind is cut off", error);
    if (kind_size == 4 && memcmp(kind, "_lib", 4) == 0) continue;
    if (!read_bytes(&in, &content, &content_size)) {
      return malformed(path, "a part's content is cut off", error);
    }
    char name[kLongestKind + 1];
    if (kind_size == 0 || kind_size > kLongestKind ||
        memchr(kind, '\0', (size_t)kind_size) != NULL) {
      return malformed(path, "the kind of a part is no name", error);
    }
    memcpy(name, kind, (size_t)kind_size);
    name[kind_size] = '\0';
    pega_status status = visit(self, name, error);
    if (status != PEGA_OK) return status;
  }
  return PEGA_OK;
}

/* A check of one file in a runtime. */
typedef struct loader_check {
  pega_tvm_ffi *runtime;
  const char *path;
} loader_check;

static pega_status check_loader(void *self, const char *kind, pega_error *error) {
  const loader_check *check = self;
  bool found = false;
  pega_status status = tvm_ffi_has_loader(check->runtime, kind, &found, error);
  if (status != PEGA_OK || found) return status;
  return pega_error_set(error, PEGA_ERROR_UNAVAILABLE, NULL,
                        "%s needs the runtime loader '" TVM_FFI_LOADER_PREFIX
                        "%s', which nobody has registered in %s; load the library that provides it "
                        "first with pega_tvm_ffi_load_library(): %s",
                        check->path, kind, check->runtime->path, tvm_ffi_provider_text(kind));
}

pega_status tvm_ffi_check_library_bin(pega_tvm_ffi *runtime, const char *path, const pega_elf *file,
                                      pega_error *error) {
  size_t room;
  const void *bytes = pega_elf_symbol_bytes(file, "__tvm_ffi__library_bin", &room);
  if (bytes == NULL) {
    if (pega_elf_find_defined(file, "__tvm_ffi__library_bin") == NULL) return PEGA_OK;
    return malformed(path, "it lies outside the file", error);
  }
  loader_check check = {runtime, path};
  return tvm_ffi_visit_library_bin(path, bytes, room, check_loader, &check, error);
}
