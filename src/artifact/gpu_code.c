/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu_code.h"

#include <elf.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  /* A cubin's header: two layouts (see src/pack/cubin.c). */
  kOldOsAbi = 0x33,
  kNewOsAbi = 0x41,
  kOldAcceleratedFlag = 0x800,
  kNewAcceleratedFlag = 0x8,
  kAttrAcceleratorTarget = 0x09, /* of .nv.compat */
  kSymbolIsEntry = 0x10,         /* st_other of a kernel */

  /* A fatbin: a header, then entries that each have one. */
  kFatbinHeader = 16,
  kFatbinEntryHeader = 64,
  kFatbinPtx = 1,
  kFatbinElf = 2,
  kFatbinLz4 = 0x2000,
  kFatbinZstd = 0x8000,
  kFatbinAccelerated = 0x100000,
  kFatbinFamily = 0x200000,

  kMaxCodes = 1 << 16,
  kMaxEntries = 1 << 16,
  kMaxGap = 4096, /* of PTX, between its first two directives: comments */
  /* Sections that are looked at for what then is no cubin: a file cannot make the search take for ever. */
  kMaxWork = 1 << 24
};

static const unsigned char kElf[4] = {0x7f, 'E', 'L', 'F'};
static const unsigned char kFatbin[4] = {0x50, 0xed, 0x55, 0xba};
static const char kVersion[] = ".version";

typedef struct finder {
  const unsigned char *bytes;
  size_t size;
  pega_gpu_codes *out;
  int64_t work; /* that is left */
  bool failed;  /* no memory */
} finder;

/* A piece of the file. */
typedef struct piece {
  const unsigned char *bytes;
  size_t size;
} piece;

static uint32_t u16_at(const unsigned char *bytes) {
  return (uint32_t)(bytes[0] | (uint32_t)bytes[1] << 8);
}

static uint32_t u32_at(const unsigned char *bytes) {
  return u16_at(bytes) | u16_at(bytes + 2) << 16;
}

static uint64_t u64_at(const unsigned char *bytes) {
  return u32_at(bytes) | (uint64_t)u32_at(bytes + 4) << 32;
}

/* ---- Results ---- */

static pega_gpu_code *add(finder *f, const char *kind, const unsigned char *at, size_t size) {
  pega_gpu_codes *out = f->out;
  if (out->count == kMaxCodes) {
    out->cut_off = true;
    return NULL;
  }
  if (out->count == out->capacity) {
    int32_t capacity = out->capacity == 0 ? 16 : out->capacity * 2;
    pega_gpu_code *items = realloc(out->items, (size_t)capacity * sizeof *items);
    if (items == NULL) {
      f->failed = true;
      return NULL;
    }
    out->items = items;
    out->capacity = capacity;
  }
  pega_gpu_code *item = &out->items[out->count++];
  memset(item, 0, sizeof *item);
  item->kind = kind;
  item->offset = (uint64_t)(at - f->bytes);
  item->size = size;
  return item;
}

static void add_entry(finder *f, pega_gpu_code *item, const char *name, size_t size) {
  if (item->num_entries == kMaxEntries || size == 0 || f->failed) return;
  size_t needed = item->entries_size + size + 1;
  /* Room grows by doubling: it is a power of two that holds what is there. */
  size_t room = 64;
  while (room < item->entries_size) room *= 2;
  if (item->entries == NULL || needed > room) {
    while (room < needed) room *= 2;
    char *entries = realloc(item->entries, room);
    if (entries == NULL) {
      f->failed = true;
      return;
    }
    item->entries = entries;
  }
  memcpy(item->entries + item->entries_size, name, size);
  item->entries[item->entries_size + size] = '\0';
  item->entries_size = needed;
  ++item->num_entries;
}

static void set_target(pega_gpu_code *item, uint32_t number, char suffix) {
  snprintf(item->target, sizeof item->target, "sm_%" PRIu32 "%s", number % 100000,
           suffix == 'a'   ? "a"
           : suffix == 'f' ? "f"
                           : "");
}

/* ---- Cubins ---- */

static bool section_at(piece in, const Elf64_Ehdr *header, uint32_t index, Elf64_Shdr *out) {
  if (index >= header->e_shnum) return false;
  memcpy(out, in.bytes + header->e_shoff + (uint64_t)index * sizeof *out, sizeof *out);
  return true;
}

static bool fits(piece in, uint64_t offset, uint64_t size) {
  return offset <= in.size && size <= in.size - offset;
}

static uint64_t later(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* The header, and how long the cubin is; false for what is none. */
static bool measure_cubin(finder *f, piece in, Elf64_Ehdr *header, uint64_t *size) {
  if (in.size < sizeof *header || memcmp(in.bytes, kElf, sizeof kElf) != 0) return false;
  memcpy(header, in.bytes, sizeof *header);
  if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB ||
      header->e_machine != EM_CUDA || header->e_ehsize != sizeof *header ||
      header->e_shentsize != sizeof(Elf64_Shdr) || header->e_shnum == 0 ||
      !fits(in, header->e_shoff, (uint64_t)header->e_shnum * sizeof(Elf64_Shdr))) {
    return false;
  }
  *size = later(sizeof *header, header->e_shoff + (uint64_t)header->e_shnum * sizeof(Elf64_Shdr));
  if (header->e_phnum != 0) {
    uint64_t segments = (uint64_t)header->e_phnum * sizeof(Elf64_Phdr);
    if (header->e_phentsize != sizeof(Elf64_Phdr) || !fits(in, header->e_phoff, segments)) {
      return false;
    }
    *size = later(*size, header->e_phoff + segments);
  }
  for (uint32_t i = 0; i < header->e_shnum; ++i) {
    Elf64_Shdr section;
    if (--f->work < 0 || !section_at(in, header, i, &section)) return false;
    if (section.sh_type == SHT_NOBITS || section.sh_type == SHT_NULL) continue;
    if (!fits(in, section.sh_offset, section.sh_size)) return false;
    *size = later(*size, section.sh_offset + section.sh_size);
  }
  return true;
}

static bool section_is(piece in, const Elf64_Shdr *names, const Elf64_Shdr *section,
                       const char *name) {
  size_t size = strlen(name) + 1;
  return section->sh_name < names->sh_size && size <= names->sh_size - section->sh_name &&
         memcmp(in.bytes + names->sh_offset + section->sh_name, name, size) == 0;
}

/* The compatibility of a cubin that CUDA 13 made: whether it is for one architecture alone. */
static bool is_accelerated(piece in, const Elf64_Shdr *compat) {
  const unsigned char *at = in.bytes + compat->sh_offset;
  const unsigned char *end = at + compat->sh_size;
  while (end - at >= 4) {
    uint32_t behind = at[0] == 4 ? u16_at(at + 2) : 0;
    if (at[1] == kAttrAcceleratorTarget && at[2] != 0) return true;
    at += 4;
    if ((uint64_t)(end - at) < behind) break;
    at += behind;
  }
  return false;
}

static void read_entries(finder *f, piece in, const Elf64_Ehdr *header, const Elf64_Shdr *symbols,
                         pega_gpu_code *item) {
  Elf64_Shdr names;
  if (!section_at(in, header, symbols->sh_link, &names) || names.sh_type != SHT_STRTAB) return;
  const char *text = (const char *)in.bytes + names.sh_offset;
  for (uint64_t i = 0; i < symbols->sh_size / sizeof(Elf64_Sym); ++i) {
    Elf64_Sym symbol;
    memcpy(&symbol, in.bytes + symbols->sh_offset + i * sizeof symbol, sizeof symbol);
    if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC || (symbol.st_other & kSymbolIsEntry) == 0 ||
        symbol.st_shndx == SHN_UNDEF || symbol.st_name >= names.sh_size) {
      continue;
    }
    size_t room = (size_t)(names.sh_size - symbol.st_name);
    size_t size = strnlen(text + symbol.st_name, room < 4096 ? room : 4096);
    if (size < room && size < 4096) add_entry(f, item, text + symbol.st_name, size);
  }
}

/* Adds the cubin that `in` begins with; returns its size, 0 for none. */
static uint64_t find_cubin(finder *f, piece in, bool in_fatbin) {
  Elf64_Ehdr header;
  Elf64_Shdr names;
  uint64_t size;
  if (!measure_cubin(f, in, &header, &size)) return 0;
  bool is_new = header.e_ident[EI_OSABI] == kNewOsAbi;
  if (!is_new && header.e_ident[EI_OSABI] != kOldOsAbi) return 0;
  pega_gpu_code *item = add(f, "cubin", in.bytes, (size_t)size);
  if (item == NULL) return size;
  bool accelerated =
      (header.e_flags & (uint32_t)(is_new ? kNewAcceleratedFlag : kOldAcceleratedFlag)) != 0;
  if (!section_at(in, &header, header.e_shstrndx, &names) || names.sh_type != SHT_STRTAB) {
    memset(&names, 0, sizeof names);
  }
  bool has_symbols = false;
  bool has_compat = false;
  for (uint32_t i = 0; i < header.e_shnum; ++i) {
    Elf64_Shdr section;
    section_at(in, &header, i, &section);
    if (section.sh_type == SHT_NOBITS || section.sh_type == SHT_NULL) continue;
    if (section.sh_type == SHT_SYMTAB && !has_symbols) {
      has_symbols = true;
      read_entries(f, in, &header, &section, item);
    } else if (is_new && !has_compat && section_is(in, &names, &section, ".nv.compat")) {
      has_compat = true;
      accelerated = accelerated || is_accelerated(in, &section);
    }
  }
  item->in_fatbin = in_fatbin;
  set_target(item, header.e_flags >> (is_new ? 8 : 0) & 0xff, accelerated ? 'a' : 0);
  return size;
}

/* ---- PTX ---- */

/* Past blanks, ends of lines and comments. */
static size_t skip_blanks(piece in, size_t at, size_t most) {
  size_t end = most < in.size - at ? at + most : in.size;
  while (at < end) {
    unsigned char c = in.bytes[at];
    if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
      ++at;
    } else if (c == '/' && end - at > 1 && in.bytes[at + 1] == '/') {
      while (at < end && in.bytes[at] != '\n') ++at;
    } else if (c == '/' && end - at > 1 && in.bytes[at + 1] == '*') {
      at += 2;
      while (at < end && !(in.bytes[at] == '*' && end - at > 1 && in.bytes[at + 1] == '/')) ++at;
      at = end - at < 2 ? end : at + 2;
    } else {
      break;
    }
  }
  return at;
}

static bool is_digit(piece in, size_t at) {
  return at < in.size && in.bytes[at] >= '0' && in.bytes[at] <= '9';
}

static bool begins(piece in, size_t at, const char *text) {
  size_t size = strlen(text);
  return at <= in.size && size <= in.size - at && memcmp(in.bytes + at, text, size) == 0;
}

/* ".version 8.4 .target sm_90a": where the rest begins; 0 for no PTX. */
static size_t read_target(piece in, size_t at, uint32_t *number, char *suffix) {
  at += sizeof kVersion - 1;
  if (at >= in.size || (in.bytes[at] != ' ' && in.bytes[at] != '\t')) return 0;
  at = skip_blanks(in, at, kMaxGap);
  if (!is_digit(in, at)) return 0;
  while (is_digit(in, at)) ++at;
  if (at >= in.size || in.bytes[at] != '.' || !is_digit(in, at + 1)) return 0;
  ++at;
  while (is_digit(in, at)) ++at;
  at = skip_blanks(in, at, kMaxGap);
  if (!begins(in, at, ".target")) return 0;
  at = skip_blanks(in, at + 7, kMaxGap);
  if (!begins(in, at, "sm_") || !is_digit(in, at + 3)) return 0;
  *number = 0;
  for (at += 3; is_digit(in, at) && *number < 10000; ++at) {
    *number = *number * 10 + (uint32_t)(in.bytes[at] - '0');
  }
  *suffix = at < in.size ? (char)in.bytes[at] : '\0';
  return at;
}

static bool is_name(unsigned char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '$' || c == '%';
}

/* Adds the PTX whose ".version" is at `at` of `in`; returns where it ends, 0 for none. */
static size_t find_ptx(finder *f, piece in, size_t at, bool in_fatbin) {
  uint32_t number;
  char suffix;
  size_t start = at;
  at = read_target(in, start, &number, &suffix);
  if (at == 0) return 0;
  size_t end = at;
  while (end < in.size && (in.bytes[end] >= 0x20 || in.bytes[end] == '\n' ||
                           in.bytes[end] == '\t' || in.bytes[end] == '\r')) {
    ++end;
  }
  pega_gpu_code *item = add(f, "ptx", in.bytes + start, end - start);
  if (item == NULL) return end;
  item->in_fatbin = in_fatbin;
  set_target(item, number, suffix);
  piece text = {in.bytes, end};
  for (;;) {
    const unsigned char *found = memmem(text.bytes + at, end - at, ".entry", 6);
    if (found == NULL) break;
    size_t word = (size_t)(found - text.bytes) + 6;
    size_t name = skip_blanks(text, word, kMaxGap);
    size_t name_end = name;
    while (name_end < end && is_name(text.bytes[name_end])) ++name_end;
    if (name > word) add_entry(f, item, (const char *)text.bytes + name, name_end - name);
    at = name_end;
  }
  return end;
}

/* ---- Fatbins ---- */

/* Adds an entry of a fatbin: `at` is its header, `in` what it holds. */
static void read_entry(finder *f, const unsigned char *at, piece in) {
  uint32_t kind = u16_at(at);
  uint32_t target = u32_at(at + 28);
  uint64_t flags = u64_at(at + 40);
  char suffix = (flags & kFatbinAccelerated) != 0 ? 'a' : (flags & kFatbinFamily) != 0 ? 'f' : 0;
  bool compressed = (flags & (kFatbinLz4 | kFatbinZstd)) != 0;
  int32_t before = f->out->count;
  if (!compressed && kind == kFatbinElf) find_cubin(f, in, true);
  if (!compressed && kind == kFatbinPtx) {
    size_t start = skip_blanks(in, 0, in.size);
    if (begins(in, start, kVersion)) find_ptx(f, in, start, true);
  }
  pega_gpu_code *item = f->out->count > before ? &f->out->items[before] : NULL;
  if (item == NULL) {
    item = add(f,
               kind == kFatbinElf   ? "cubin"
               : kind == kFatbinPtx ? "ptx"
                                    : "fatbin",
               in.bytes, in.size);
  }
  if (item == NULL) return;
  /* The fatbin knows more than a cubin: what is for a family looks like any other. */
  item->in_fatbin = true;
  item->compressed = compressed;
  set_target(item, target, suffix);
}

/* Adds the fatbin that `in` begins with; returns its size, 0 for none. All entries have to fit. */
static uint64_t find_fatbin(finder *f, piece in) {
  if (in.size < kFatbinHeader || memcmp(in.bytes, kFatbin, sizeof kFatbin) != 0) return 0;
  uint32_t version = u16_at(in.bytes + 4);
  uint64_t size = u64_at(in.bytes + 8);
  if (version != 1 || u16_at(in.bytes + 6) != kFatbinHeader || size == 0 ||
      !fits(in, kFatbinHeader, size)) {
    return 0;
  }
  /* Once to see that it is one, once to read it. */
  for (int pass = 0; pass < 2; ++pass) {
    const unsigned char *at = in.bytes + kFatbinHeader;
    const unsigned char *end = at + size;
    while (at < end) {
      if (end - at < kFatbinEntryHeader || --f->work < 0) return 0;
      uint32_t header = u32_at(at + 4);
      uint64_t content = u64_at(at + 8);
      if (header < kFatbinEntryHeader || header > (uint64_t)(end - at) ||
          content > (uint64_t)(end - at) - header || u32_at(at + 28) == 0) {
        return 0;
      }
      uint64_t used = u32_at(at + 16);
      if (used == 0 || used > content) used = content;
      if (pass == 1) read_entry(f, at, (piece){at + header, (size_t)used});
      at += header + content;
    }
  }
  return kFatbinHeader + size;
}

/* ---- The whole file ---- */

/* Where `pattern` comes next; the size of the file if it does not. Looks no further than that. */
static size_t next(const finder *f, size_t at, const unsigned char *pattern, size_t size) {
  while (at < f->size) {
    const unsigned char *found = memchr(f->bytes + at, pattern[0], f->size - at);
    if (found == NULL) break;
    at = (size_t)(found - f->bytes);
    if (f->size - at < size) break;
    if (memcmp(found, pattern, size) == 0) return at;
    ++at;
  }
  return f->size;
}

static bool at_line_start(const finder *f, size_t at) {
  for (; at > 0; --at) {
    unsigned char c = f->bytes[at - 1];
    if (c == ' ' || c == '\t') continue;
    return c == '\n' || c == '\r' || c < 0x20 || c >= 0x7f || c == '"';
  }
  return true;
}

static void find_all(finder *f) {
  enum { kPatterns = 3 };
  const unsigned char *const patterns[kPatterns] = {kFatbin, kElf, (const unsigned char *)kVersion};
  const size_t sizes[kPatterns] = {sizeof kFatbin, sizeof kElf, sizeof kVersion - 1};
  size_t places[kPatterns];
  for (int i = 0; i < kPatterns; ++i) places[i] = next(f, 0, patterns[i], sizes[i]);
  while (!f->failed) {
    int which = 0;
    for (int i = 1; i < kPatterns; ++i) {
      if (places[i] < places[which]) which = i;
    }
    size_t at = places[which];
    if (at >= f->size) break;
    piece rest = {f->bytes + at, f->size - at};
    uint64_t size = 0;
    if (which == 0) size = find_fatbin(f, rest);
    if (which == 1) size = find_cubin(f, rest, false);
    if (which == 2 && at_line_start(f, at)) size = find_ptx(f, rest, 0, false);
    /* What was found is not looked into again; what was not may have something inside. */
    size_t from = at + (size > 0 ? (size_t)size : 1);
    for (int i = 0; i < kPatterns; ++i) {
      if (places[i] < from) places[i] = next(f, from, patterns[i], sizes[i]);
    }
  }
}

pega_status pega_gpu_code_find(const unsigned char *bytes, size_t size, pega_gpu_codes *out,
                               pega_error *error) {
  finder f = {bytes, size, out, kMaxWork, false};
  memset(out, 0, sizeof *out);
  find_all(&f);
  if (f.work < 0) out->cut_off = true;
  if (!f.failed) return PEGA_OK;
  pega_gpu_codes_free(out);
  return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory for the GPU code found");
}

void pega_gpu_codes_free(pega_gpu_codes *codes) {
  for (int32_t i = 0; i < codes->count; ++i) free(codes->items[i].entries);
  free(codes->items);
  memset(codes, 0, sizeof *codes);
}

const char *pega_gpu_code_format(const unsigned char *bytes, size_t size) {
  piece in = {bytes, size};
  uint32_t number;
  char suffix;
  if (size >= sizeof kFatbin && memcmp(bytes, kFatbin, sizeof kFatbin) == 0) return "fatbin";
  if (size >= 20 && memcmp(bytes, kElf, sizeof kElf) == 0) {
    return u16_at(bytes + 18) == EM_CUDA ? "cubin" : NULL;
  }
  size_t start = skip_blanks(in, 0, size);
  bool is_ptx = begins(in, start, kVersion) && read_target(in, start, &number, &suffix) != 0;
  return is_ptx ? "PTX" : NULL;
}
