/* SPDX-License-Identifier: Apache-2.0 */
#include "bytes.h"

#include <elf.h>

bytes bytes_read(const char *path) {
  bytes out = {NULL, 0};
  FILE *file = fopen(path, "rb");
  assert_non_null(file);
  assert_int_equal(fseek(file, 0, SEEK_END), 0);
  const long size = ftell(file);
  assert_true(size >= 0);
  rewind(file);
  bytes_add(&out, NULL, (size_t)size);
  assert_int_equal(fread(out.data, 1, out.size, file), out.size);
  (void)fclose(file);
  return out;
}

void bytes_write(const char *path, const void *data, size_t size) {
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  if (size > 0) assert_int_equal(fwrite(data, 1, size, file), size);
  assert_int_equal(fclose(file), 0);
}

void bytes_free(bytes *from) {
  free(from->data);
  memset(from, 0, sizeof *from);
}

void bytes_add(bytes *to, const void *from, size_t size) {
  unsigned char *data = realloc(to->data, to->size + size + 1);
  assert_non_null(data);
  to->data = data;
  if (from == NULL) {
    memset(data + to->size, 0, size);
  } else if (size > 0) {
    memcpy(data + to->size, from, size);
  }
  to->size += size;
}

void bytes_add_cubin(bytes *to, int layout, uint32_t sm, bool accelerated, const char *entry) {
  enum { NAMES = 1, TEXT, SYMBOLS, COMPAT, CODE, COUNT };
  static const char names[] = "\0.names\0.text\0.symbols\0.nv.compat\0.code";
  const unsigned char compat[8] = {2, 9, accelerated, 0, 2, 2, 1, 2};
  char text[256];
  Elf64_Ehdr header = {.e_type = 2,
                       .e_machine = 190,
                       .e_version = 1,
                       .e_ehsize = sizeof header,
                       .e_shentsize = sizeof(Elf64_Shdr),
                       .e_shnum = COUNT,
                       .e_shstrndx = NAMES};
  Elf64_Shdr sections[COUNT] = {{0}};
  Elf64_Sym symbols[4] = {{0}};
  memcpy(header.e_ident, "\177ELF\2\1\1", 7);
  header.e_ident[7] = layout == 12 ? 0x33 : 0x41;
  header.e_ident[8] = layout == 12 ? 7 : 8;
  header.e_flags = layout == 12 ? sm | (accelerated ? 0x800 : 0) : sm << 8 | 4;
  const size_t length = strlen(entry);
  const size_t second = length + 2;
  const size_t third = second + length + 3;
  memset(text, 0, sizeof text);
  (void)snprintf(text + 1, 80, "%s", entry);
  (void)snprintf(text + second, 80, "%s_2", entry);
  (void)snprintf(text + third, 80, "device_function");
  const uint32_t places[3] = {1, (uint32_t)second, (uint32_t)third};
  for (int i = 0; i < 3; ++i) {
    symbols[i + 1] = (Elf64_Sym){.st_name = places[i],
                                 .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC),
                                 .st_other = i < 2 ? 0x10 : 0,
                                 .st_shndx = CODE};
  }
  const struct {
    const char *name;
    uint32_t type;
    const void *data;
    size_t size;
  } content[COUNT] = {{"", SHT_NULL, NULL, 0},
                      {".names", SHT_STRTAB, names, sizeof names},
                      {".text", SHT_STRTAB, text, sizeof text},
                      {".symbols", SHT_SYMTAB, symbols, sizeof symbols},
                      {".nv.compat", 0x70000086, layout == 12 ? NULL : compat, sizeof compat},
                      {".code", SHT_PROGBITS, NULL, 128}};
  uint64_t at = sizeof header;
  for (int i = 1; i < COUNT; ++i) {
    const char *name = names + 1;
    while (strcmp(name, content[i].name) != 0) name += strlen(name) + 1;
    sections[i].sh_name = (uint32_t)(name - names);
    sections[i].sh_type = content[i].type;
    sections[i].sh_offset = at;
    sections[i].sh_size = content[i].size;
    at += content[i].size;
  }
  sections[SYMBOLS].sh_link = TEXT;
  sections[SYMBOLS].sh_entsize = sizeof *symbols;
  header.e_shoff = at;
  bytes_add(to, &header, sizeof header);
  for (int i = 1; i < COUNT; ++i) bytes_add(to, content[i].data, content[i].size);
  bytes_add(to, sections, sizeof sections);
}

size_t bytes_begin_fatbin(bytes *to) {
  static const unsigned char start[16] = {0x50, 0xed, 0x55, 0xba, 1, 0, 16, 0};
  const size_t place = to->size;
  bytes_add(to, start, sizeof start);
  return place;
}

void bytes_add_fatbin_entry(bytes *to, uint16_t kind, uint32_t sm, uint32_t flags, const void *from,
                            size_t size) {
  unsigned char header[64] = {0};
  const uint32_t header_size = sizeof header;
  const uint64_t padded = (size + 7) / 8 * 8;
  const uint32_t packed = (flags & (FATBIN_LZ4 | FATBIN_ZSTD)) != 0 ? (uint32_t)size : 0;
  flags |= 0x11;
  header[2] = 1;
  header[3] = 1;
  memcpy(header, &kind, sizeof kind);
  memcpy(header + 4, &header_size, sizeof header_size);
  memcpy(header + 8, &padded, sizeof padded);
  memcpy(header + 16, &packed, sizeof packed);
  memcpy(header + 28, &sm, sizeof sm);
  memcpy(header + 40, &flags, sizeof flags);
  bytes_add(to, header, sizeof header);
  bytes_add(to, from, size);
  bytes_add(to, NULL, padded - size);
}

void bytes_end_fatbin(bytes *to, size_t place) {
  const uint64_t size = to->size - place - 16;
  memcpy(to->data + place + 8, &size, sizeof size);
}
