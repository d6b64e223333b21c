/* SPDX-License-Identifier: Apache-2.0 */
#include "cubin.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kRoom = 1 << 16, kMostSections = 64, kNvInfo = 0x70000000, kMachine = 190 };

typedef struct maker {
  unsigned char *bytes;
  size_t size;
  Elf64_Shdr sections[kMostSections];
  unsigned num_sections;
  char names[4096];
  size_t names_size;
  char strings[4096];
  size_t strings_size;
} maker;

static size_t add_text(char *to, size_t *size, const char *text) {
  size_t at = *size;
  memcpy(to + at, text, strlen(text) + 1);
  *size += strlen(text) + 1;
  return at;
}

static unsigned add_section(maker *it, const char *prefix, const char *name, uint32_t type,
                            const void *bytes, size_t size, uint32_t link, uint64_t entry_size) {
  char whole[256];
  snprintf(whole, sizeof whole, "%s%s", prefix, name);
  Elf64_Shdr *section = &it->sections[it->num_sections];
  it->size = (it->size + 7) / 8 * 8;
  *section = (Elf64_Shdr){.sh_type = type,
                          .sh_offset = it->size,
                          .sh_size = size,
                          .sh_link = link,
                          .sh_addralign = 8,
                          .sh_entsize = entry_size};
  section->sh_name = (uint32_t)add_text(it->names, &it->names_size, whole);
  if (type != SHT_NOBITS && bytes != NULL) {
    memcpy(it->bytes + it->size, bytes, size);
    it->size += size;
  }
  return it->num_sections++;
}

typedef struct info {
  unsigned char bytes[1024];
  size_t size;
} info;

static void put(info *it, int format, int attribute, const void *value, size_t size) {
  unsigned char head[4] = {(unsigned char)format, (unsigned char)attribute, 0, 0};
  if (format == 4) {
    head[2] = (unsigned char)size;
  } else if (size > 0) {
    memcpy(head + 2, value, size);
  }
  memcpy(it->bytes + it->size, head, 4);
  it->size += 4;
  if (format == 4) {
    memcpy(it->bytes + it->size, value, size);
    it->size += size;
  }
}

static void describe_kernel(info *it, const cubin_kernel *kernel) {
  uint16_t whole = 0;
  put(it, 4, 0x37, &(uint32_t){130}, 4);
  for (uint32_t i = kernel->num_params; i-- > 0;) { /* last first, as the compiler does */
    uint32_t value[3] = {0, i | (uint32_t)kernel->params[i].offset << 16,
                         (uint32_t)kernel->params[i].size << 18 | 0x1f000};
    if (kernel->wide_params) value[2] = kernel->params[i].size;
    put(it, 4, kernel->wide_params ? 0x45 : 0x17, value, sizeof value);
    uint16_t end = (uint16_t)(kernel->params[i].offset + kernel->params[i].size);
    if (end > whole) whole = end;
  }
  put(it, 3, 0x1b, &(uint16_t){255}, 2);
  put(it, 2, 0x4c, "\1", 1);
  put(it, 3, 0x19, &whole, 2);
  if (kernel->max_threads > 0) {
    put(it, 4, 0x05, &(uint32_t[3]){kernel->max_threads, 1, 1}, 12);
  }
  if (kernel->cluster[0] > 0) {
    put(it, 1, 0x3e, NULL, 0);
    put(it, 4, 0x3d, kernel->cluster, 12);
  }
}

static void finish(maker *it, uint32_t architecture) {
  unsigned names = it->num_sections;
  /* Its own name must be in it before it is copied. */
  size_t own = it->names_size;
  add_text(it->names, &it->names_size, ".shstrtab");
  it->size = (it->size + 7) / 8 * 8;
  it->sections[names] = (Elf64_Shdr){.sh_name = (uint32_t)own,
                                     .sh_type = SHT_STRTAB,
                                     .sh_offset = it->size,
                                     .sh_size = it->names_size,
                                     .sh_addralign = 1};
  memcpy(it->bytes + it->size, it->names, it->names_size);
  it->size = (it->size + it->names_size + 7) / 8 * 8;
  ++it->num_sections;
  Elf64_Ehdr header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, 1, 0x41, 8},
                       .e_type = ET_EXEC,
                       .e_machine = kMachine,
                       .e_version = 1,
                       .e_shoff = it->size,
                       .e_flags = 0x6000004 | architecture << 8,
                       .e_ehsize = sizeof header,
                       .e_shentsize = sizeof(Elf64_Shdr),
                       .e_shnum = (uint16_t)it->num_sections,
                       .e_shstrndx = (uint16_t)names};
  memcpy(it->bytes, &header, sizeof header);
  memcpy(it->bytes + it->size, it->sections, it->num_sections * sizeof(Elf64_Shdr));
  it->size += it->num_sections * sizeof(Elf64_Shdr);
}

unsigned char *cubin_make(uint32_t architecture, const cubin_kernel *kernels, size_t count,
                          size_t *size) {
  maker *it = calloc(1, sizeof *it);
  Elf64_Sym symbols[32];
  info whole = {.size = 0};
  memset(symbols, 0, sizeof symbols);
  it->bytes = calloc(1, kRoom);
  it->size = sizeof(Elf64_Ehdr);
  it->names_size = it->strings_size = 1;
  it->num_sections = 1;
  for (size_t i = 0; i < count; ++i) {
    const cubin_kernel *kernel = &kernels[i];
    info own = {.size = 0};
    uint32_t symbol = (uint32_t)i + 1;
    uint32_t reserved = architecture >= 90 ? 1024 : 0;
    describe_kernel(&own, kernel);
    put(&whole, 4, 0x2f, &(uint32_t[2]){symbol, kernel->registers}, 8);
    put(&whole, 4, 0x11, &(uint32_t[2]){symbol, 0}, 8);
    add_section(it, ".nv.info.", kernel->name, kNvInfo, own.bytes, own.size, 0, 0);
    unsigned text = add_section(it, ".text.", kernel->name, SHT_PROGBITS, "\0\0\0\0", 4, 0, 0);
    add_section(it, ".nv.shared.", kernel->name, SHT_NOBITS, NULL, kernel->shared + reserved, 0, 0);
    symbols[symbol].st_name = (uint32_t)add_text(it->strings, &it->strings_size, kernel->name);
    symbols[symbol].st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC);
    symbols[symbol].st_other = 0x10;
    symbols[symbol].st_shndx = (uint16_t)text;
  }
  unsigned strings =
      add_section(it, ".strtab", "", SHT_STRTAB, it->strings, it->strings_size, 0, 0);
  add_section(it, ".symtab", "", SHT_SYMTAB, symbols, (count + 1) * sizeof *symbols, strings,
              sizeof *symbols);
  add_section(it, ".nv.info", "", kNvInfo, whole.bytes, whole.size, 0, 0);
  finish(it, architecture);
  unsigned char *bytes = realloc(it->bytes, it->size); /* to its size, so that reading on is seen */
  if (size != NULL) *size = it->size;
  free(it);
  return bytes;
}
