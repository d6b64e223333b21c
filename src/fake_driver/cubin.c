/* SPDX-License-Identifier: Apache-2.0 */
/* What a cubin says of its kernels: symbols, .nv.info, .nv.shared, .nv.constant0. */
#include <gelf.h>
#include <libelf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake.h"

/* EIATTR numbers of .nv.info: the kind of value, and what it tells. */
enum {
  kNoValue = 1,
  kByteValue = 2,
  kHalfValue = 3,
  kSizedValue = 4,
  kMaxThreads = 0x05,
  kRequiredThreads = 0x10,
  kFrameSize = 0x11,
  kKparamInfo = 0x17,
  kParamSize = 0x19, /* of the parameters' part of constant bank 0 */
  kRegCount = 0x2f,
  kCtaPerCluster = 0x3d,
  kExplicitCluster = 0x3e,
  kKparamInfoV2 = 0x45,
  kMostParams = 4096,
  kMostParamBytes = 32764,
  kMostImage = 1 << 30
};

static uint32_t word(const unsigned char *bytes) {
  uint32_t value;
  memcpy(&value, bytes, sizeof value);
  return value;
}

static uint16_t half(const unsigned char *bytes) {
  uint16_t value;
  memcpy(&value, bytes, sizeof value);
  return value;
}

/* -------------------------------------------------------------------------------- attributes -- */

static CUresult add_param(fake_kernel *kernel, uint32_t ordinal, uint32_t offset, uint32_t size) {
  if (ordinal >= kMostParams || offset + size > kMostParamBytes) {
    return FAKE_CUDA_ERROR_INVALID_IMAGE;
  }
  if (ordinal >= kernel->num_params) {
    fake_param *grown = realloc(kernel->params, (ordinal + 1) * sizeof *grown);
    if (grown == NULL) return FAKE_CUDA_ERROR_OUT_OF_MEMORY;
    memset(&grown[kernel->num_params], 0, (ordinal + 1 - kernel->num_params) * sizeof *grown);
    kernel->params = grown;
    kernel->num_params = ordinal + 1;
  }
  kernel->params[ordinal] = (fake_param){offset, size};
  if (offset + size > kernel->params_size) kernel->params_size = offset + size;
  return FAKE_CUDA_SUCCESS;
}

/* One attribute of a kernel's own .nv.info section. */
static CUresult read_own(fake_kernel *kernel, int attribute, const unsigned char *value,
                         size_t size) {
  switch (attribute) {
    case kKparamInfo:
      if (size < 12) return FAKE_CUDA_ERROR_INVALID_IMAGE;
      return add_param(kernel, half(value + 4), half(value + 6), word(value + 8) >> 18);
    case kKparamInfoV2:
      if (size < 12) return FAKE_CUDA_ERROR_INVALID_IMAGE;
      if (word(value + 8) > kMostParamBytes) return FAKE_CUDA_ERROR_INVALID_IMAGE;
      return add_param(kernel, half(value + 4), half(value + 6), word(value + 8));
    case kParamSize:
      if (half(value) > kMostParamBytes) return FAKE_CUDA_ERROR_INVALID_IMAGE;
      if (half(value) > kernel->params_size) kernel->params_size = half(value);
      break;
    case kMaxThreads:
    case kRequiredThreads:
      if (size >= 12) kernel->max_threads = word(value) * word(value + 4) * word(value + 8);
      break;
    case kCtaPerCluster:
      for (int i = 0; size >= 12 && i < 3; ++i) kernel->cluster[i] = word(value + 4 * i);
      break;
    case kExplicitCluster:
      kernel->explicit_cluster = true;
      break;
    default:
      break;
  }
  return FAKE_CUDA_SUCCESS;
}

typedef CUresult (*attribute_reader)(void *self, int attribute, const unsigned char *value,
                                     size_t size);

static CUresult read_attributes(const Elf_Data *data, attribute_reader read, void *self) {
  const unsigned char *bytes = data->d_buf;
  size_t at = 0;
  while (bytes != NULL && at + 4 <= data->d_size) {
    int format = bytes[at];
    int attribute = bytes[at + 1];
    const unsigned char *value = bytes + at + 2;
    size_t size = 2;
    at += 4;
    if (format < kNoValue || format > kSizedValue) return FAKE_CUDA_ERROR_INVALID_IMAGE;
    if (format == kSizedValue) {
      size = half(value);
      value = bytes + at;
      if (size > data->d_size - at) return FAKE_CUDA_ERROR_INVALID_IMAGE;
      at += size;
    }
    CUresult result = read(self, attribute, value, size);
    if (result != 0) return result;
  }
  return FAKE_CUDA_SUCCESS;
}

static CUresult own_reader(void *self, int attribute, const unsigned char *value, size_t size) {
  return read_own(self, attribute, value, size);
}

/* ---------------------------------------------------------------------------------- sections -- */

typedef struct cubin {
  Elf *elf;
  size_t names;      /* index of the section with the sections' names */
  Elf_Data *symbols; /* NULL where there are none */
  size_t strings;
  fake_image *image;
} cubin;

static Elf_Scn *find_section(const cubin *it, const char *prefix, const char *name,
                             GElf_Shdr *header) {
  size_t size = strlen(prefix);
  for (Elf_Scn *at = elf_nextscn(it->elf, NULL); at != NULL; at = elf_nextscn(it->elf, at)) {
    if (gelf_getshdr(at, header) == NULL) continue;
    const char *text = elf_strptr(it->elf, it->names, header->sh_name);
    if (text == NULL || strncmp(text, prefix, size) != 0) continue;
    if (strcmp(text + size, name) == 0) return at;
  }
  return NULL;
}

static fake_kernel *kernel_of_symbol(const cubin *it, uint32_t index) {
  GElf_Sym symbol;
  if (it->symbols == NULL || gelf_getsym(it->symbols, (int)index, &symbol) == NULL) return NULL;
  const char *name = elf_strptr(it->elf, it->strings, symbol.st_name);
  for (size_t i = 0; name != NULL && i < it->image->num_kernels; ++i) {
    if (strcmp(it->image->kernels[i].name, name) == 0) return &it->image->kernels[i];
  }
  return NULL;
}

/* .nv.info of the whole: pairs of a symbol and a number. */
static CUresult shared_reader(void *self, int attribute, const unsigned char *value, size_t size) {
  if ((attribute != kRegCount && attribute != kFrameSize) || size < 8) return FAKE_CUDA_SUCCESS;
  fake_kernel *kernel = kernel_of_symbol(self, word(value));
  if (kernel == NULL) return FAKE_CUDA_SUCCESS;
  if (attribute == kRegCount) {
    kernel->registers = word(value + 4);
  } else {
    kernel->local_bytes = word(value + 4);
  }
  return FAKE_CUDA_SUCCESS;
}

static CUresult add_kernel(cubin *it, const char *name) {
  fake_image *image = it->image;
  fake_kernel *grown = realloc(image->kernels, (image->num_kernels + 1) * sizeof *grown);
  if (grown == NULL) return FAKE_CUDA_ERROR_OUT_OF_MEMORY;
  image->kernels = grown;
  char *copy = strdup(name);
  if (copy == NULL) return FAKE_CUDA_ERROR_OUT_OF_MEMORY;
  grown[image->num_kernels++] = (fake_kernel){.name = copy};
  return FAKE_CUDA_SUCCESS;
}

/* An entry is a global function with a .nv.info section of its own. */
static CUresult read_symbols(cubin *it) {
  GElf_Shdr header;
  Elf_Scn *section = find_section(it, ".symtab", "", &header);
  if (section == NULL) return FAKE_CUDA_SUCCESS;
  it->strings = header.sh_link;
  it->symbols = elf_getdata(section, NULL);
  GElf_Sym symbol;
  for (int i = 0; it->symbols != NULL && gelf_getsym(it->symbols, i, &symbol) != NULL; ++i) {
    if (GELF_ST_TYPE(symbol.st_info) != STT_FUNC || symbol.st_shndx == SHN_UNDEF) continue;
    const char *name = elf_strptr(it->elf, it->strings, symbol.st_name);
    GElf_Shdr own;
    if (name == NULL || find_section(it, ".nv.info.", name, &own) == NULL) continue;
    CUresult result = add_kernel(it, name);
    if (result != 0) return result;
  }
  return FAKE_CUDA_SUCCESS;
}

static CUresult read_kernel(const cubin *it, fake_kernel *kernel, uint32_t reserved) {
  GElf_Shdr header;
  Elf_Scn *section = find_section(it, ".nv.info.", kernel->name, &header);
  Elf_Data *data = section == NULL ? NULL : elf_getdata(section, NULL);
  CUresult result = data == NULL ? 0 : read_attributes(data, own_reader, kernel);
  if (result != 0) return result;
  if (find_section(it, ".nv.shared.", kernel->name, &header) != NULL) {
    kernel->static_shared = (uint32_t)header.sh_size;
    kernel->static_shared -= kernel->static_shared < reserved ? kernel->static_shared : reserved;
  }
  if (find_section(it, ".nv.constant3", "", &header) != NULL) {
    kernel->constant_bytes = (uint32_t)header.sh_size;
  }
  return FAKE_CUDA_SUCCESS;
}

static CUresult read_sections(cubin *it) {
  if (elf_getshdrstrndx(it->elf, &it->names) != 0) return FAKE_CUDA_ERROR_INVALID_IMAGE;
  CUresult result = read_symbols(it);
  if (result != 0) return result;
  GElf_Shdr header;
  /* From 9.0 on the first 1024 bytes are the system's, and the section has them too. */
  uint32_t reserved = it->image->architecture >= 90 ? 1024 : 0;
  for (size_t i = 0; i < it->image->num_kernels; ++i) {
    result = read_kernel(it, &it->image->kernels[i], reserved);
    if (result != 0) return result;
  }
  Elf_Scn *section = find_section(it, ".nv.info", "", &header);
  Elf_Data *data = section == NULL ? NULL : elf_getdata(section, NULL);
  return data == NULL ? FAKE_CUDA_SUCCESS : read_attributes(data, shared_reader, it);
}

/* ------------------------------------------------------------------------------------- image -- */

/* The driver is given no size: the header and the table of sections tell it. */
static CUresult size_of(const unsigned char *bytes, size_t *out) {
  Elf64_Ehdr header;
  memcpy(&header, bytes, EI_NIDENT);
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB) {
    return FAKE_CUDA_ERROR_INVALID_IMAGE;
  }
  memcpy(&header, bytes, sizeof header);
  if (header.e_machine != EM_CUDA || header.e_shoff > kMostImage || header.e_phoff > kMostImage ||
      (header.e_shnum > 0 && header.e_shentsize != sizeof(Elf64_Shdr))) {
    return FAKE_CUDA_ERROR_INVALID_IMAGE;
  }
  uint64_t end = header.e_shoff + (uint64_t)header.e_shnum * sizeof(Elf64_Shdr);
  uint64_t other = header.e_phoff + (uint64_t)header.e_phnum * header.e_phentsize;
  if (other > end) end = other;
  if (end < sizeof header) end = sizeof header;
  for (unsigned i = 0; i < header.e_shnum; ++i) {
    Elf64_Shdr section;
    memcpy(&section, bytes + header.e_shoff + i * sizeof section, sizeof section);
    if (section.sh_type == SHT_NOBITS) continue;
    if (section.sh_offset > kMostImage || section.sh_size > kMostImage) {
      return FAKE_CUDA_ERROR_INVALID_IMAGE;
    }
    if (section.sh_offset + section.sh_size > end) end = section.sh_offset + section.sh_size;
  }
  *out = (size_t)end;
  return FAKE_CUDA_SUCCESS;
}

/* ABI version 8 (CUDA 13) has the number in e_flags' second byte, versions before in the first. */
static uint32_t architecture_of(const unsigned char *bytes) {
  Elf64_Ehdr header;
  memcpy(&header, bytes, sizeof header);
  bool newer = header.e_ident[EI_ABIVERSION] >= 8;
  return (newer ? header.e_flags >> 8 : header.e_flags) & 0xFF;
}

CUresult fake_cubin_read(const void *bytes, fake_image *out) {
  size_t size;
  CUresult result = size_of(bytes, &size);
  if (result != 0) return result;
  elf_version(EV_CURRENT);
  /* libelf wants to own what it reads, and writes to it for foreign byte orders. */
  char *copy = malloc(size);
  if (copy == NULL) return FAKE_CUDA_ERROR_OUT_OF_MEMORY;
  memcpy(copy, bytes, size);
  out->architecture = architecture_of(bytes);
  cubin it = {.elf = elf_memory(copy, size), .image = out};
  result = it.elf == NULL ? FAKE_CUDA_ERROR_INVALID_IMAGE : read_sections(&it);
  if (it.elf != NULL) elf_end(it.elf);
  free(copy);
  return result;
}

void fake_image_free(fake_image *image) {
  for (size_t i = 0; i < image->num_kernels; ++i) {
    free(image->kernels[i].name);
    free(image->kernels[i].params);
  }
  free(image->kernels);
  memset(image, 0, sizeof *image);
}
