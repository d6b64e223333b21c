/* SPDX-License-Identifier: Apache-2.0 */
#include "elf.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <inttypes.h>
#include <libelf.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { kMaxSymbols = 1 << 22, kMaxVersions = 0x8000, kMaxVersionBytes = 1 << 20, kChainPart = 256 };
#define MAX_FILE ((uint64_t)4 << 30)

#if defined(__x86_64__)
static const uint16_t host_machine = EM_X86_64;
#elif defined(__aarch64__)
static const uint16_t host_machine = EM_AARCH64;
#else
#error "pega: unknown architecture; add its ELF machine number here"
#endif

/* What the dynamic segment says. Addresses are 0 where it says nothing. */
typedef struct dynamic {
  uint64_t symbols;
  uint64_t strings;
  uint64_t strings_size;
  uint64_t hash;
  uint64_t gnu_hash;
  uint64_t versions; /* an index for each symbol */
  uint64_t version_needs;
  uint64_t version_definitions;
  uint64_t next_tables[8]; /* addresses that may come after the symbols */
  int num_next_tables;
} dynamic;

/* A version: its index is its place. */
typedef struct version {
  const char *name;
  const char *library;
} version;

typedef struct reader {
  const char *path; /* as it was given */
  Elf *elf;
  pega_elf *file;
  pega_error *error;
  uint64_t dynamic_offset, dynamic_size;
  dynamic dynamic;
  uint64_t strings_size;
  version *known; /* kMaxVersions of them, or NULL */
} reader;

static pega_status no_memory(const char *path, pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "%s: no memory to read it", path);
}

__attribute__((format(printf, 2, 3))) static pega_status damaged(reader *r, const char *format,
                                                                 ...) {
  char why[160];
  va_list args;
  /* libelf tells a lack of memory from a bad file by this alone; it is 0 when reading begins. */
  if (errno == ENOMEM) return no_memory(r->path, r->error);
  va_start(args, format);
  vsnprintf(why, sizeof why, format, args);
  va_end(args);
  return pega_error_set(r->error, PEGA_ERROR_FORMAT, NULL,
                        "%s: damaged: %s; copy or install it again", r->path, why);
}

static const char *machine_name(uint16_t machine, char buffer[32]) {
  switch (machine) {
    case EM_X86_64:
      return "x86-64";
    case EM_AARCH64:
      return "aarch64";
    case EM_386:
      return "x86 (32 bit)";
    case EM_ARM:
      return "arm (32 bit)";
    case EM_PPC64:
      return "ppc64";
    case EM_RISCV:
      return "riscv";
    case EM_CUDA:
      return "CUDA (a cubin)";
    default:
      snprintf(buffer, 32, "ELF machine %u", machine);
      return buffer;
  }
}

const char *pega_elf_machine_name(const pega_elf *file, char buffer[64]) {
  char name[32];
  snprintf(buffer, 64, "%s%s%s", machine_name(file->machine, name),
           file->is_64_bit || file->machine == EM_386 || file->machine == EM_ARM
               ? ""
               : " (a 32-bit file)",
           file->is_big_endian ? " (big-endian)" : "");
  return buffer;
}

/* ---- Pieces of the file ---- */

/* `count` records of a type at an offset, in the order of bytes and the width of this machine's; NULL if
 * they do not lie within the file. They live as long as the Elf. */
static Elf_Data *records(reader *r, uint64_t offset, uint64_t count, Elf_Type type) {
  size_t size = gelf_fsize(r->elf, type, 1, EV_CURRENT);
  if (size == 0 || count == 0 || offset > r->file->size ||
      count > (r->file->size - offset) / size) {
    return NULL;
  }
  return elf_getdata_rawchunk(r->elf, (int64_t)offset, (size_t)(count * size), type);
}

static size_t record_size(reader *r, Elf_Type type) {
  return gelf_fsize(r->elf, type, 1, EV_CURRENT);
}

/* Where an address lies in the file, and how many bytes its segment has from there on. */
static bool find_address(const pega_elf *file, uint64_t address, uint64_t *offset, uint64_t *room) {
  for (int32_t i = 0; i < file->num_segments; ++i) {
    const pega_elf_segment *segment = &file->segments[i];
    if (address < segment->address || address - segment->address >= segment->size) continue;
    *offset = segment->offset + (address - segment->address);
    *room = segment->size - (address - segment->address);
    return true;
  }
  return false;
}

static bool read_word(reader *r, uint64_t address, uint32_t *out) {
  uint64_t offset;
  uint64_t room;
  if (!find_address(r->file, address, &offset, &room) || room < sizeof *out) return false;
  Elf_Data *data = records(r, offset, 1, ELF_T_WORD);
  if (data == NULL) return false;
  memcpy(out, data->d_buf, sizeof *out);
  return true;
}

/* `count` words at an address; NULL if its segment does not hold them. */
static const uint32_t *read_words(reader *r, uint64_t address, uint64_t count) {
  uint64_t offset;
  uint64_t room;
  if (!find_address(r->file, address, &offset, &room) || count > room / sizeof(uint32_t)) {
    return NULL;
  }
  Elf_Data *data = records(r, offset, count, ELF_T_WORD);
  return data == NULL ? NULL : data->d_buf;
}

/* ---- Header, segments ---- */

static pega_status check_header(reader *r, GElf_Ehdr *header) {
  if (elf_kind(r->elf) != ELF_K_ELF || gelf_getehdr(r->elf, header) == NULL) {
    return damaged(r, "its ELF header has an unknown class, order of bytes or version");
  }
  r->file->type = header->e_type;
  r->file->machine = header->e_machine;
  r->file->is_64_bit = header->e_ident[EI_CLASS] == ELFCLASS64;
  r->file->is_big_endian = header->e_ident[EI_DATA] == ELFDATA2MSB;
  return PEGA_OK;
}

/* The loader maps segments past the end of a file that was cut off, and faults when it reads them. */
static pega_status read_segments(reader *r, const GElf_Ehdr *header) {
  pega_elf *file = r->file;
  uint64_t end;
  if (header->e_shoff != 0 &&
      (__builtin_add_overflow(header->e_shoff, (uint64_t)header->e_shnum * header->e_shentsize,
                              &end) ||
       end > file->size)) {
    return pega_error_set(r->error, PEGA_ERROR_FORMAT, NULL,
                          "%s: cut off: its table of sections ends past the file's %" PRIu64
                          " bytes; copy or install it again",
                          r->path, file->size);
  }
  size_t count = 0;
  if (elf_getphdrnum(r->elf, &count) != 0) return damaged(r, "%s", elf_errmsg(-1));
  if (count == 0) return PEGA_OK;
  if (header->e_phentsize != record_size(r, ELF_T_PHDR)) {
    return damaged(r, "its program headers are of %u bytes each, expected %zu", header->e_phentsize,
                   record_size(r, ELF_T_PHDR));
  }
  if (header->e_phoff > file->size ||
      count > (file->size - header->e_phoff) / header->e_phentsize) {
    return pega_error_set(r->error, PEGA_ERROR_FORMAT, NULL,
                          "%s: cut off: its table of segments ends past the file's %" PRIu64
                          " bytes; copy or install it again",
                          r->path, file->size);
  }
  file->segments = calloc(count, sizeof *file->segments);
  if (file->segments == NULL) return no_memory(r->path, r->error);
  uint64_t dynamic_address = 0;
  for (size_t i = 0; i < count; ++i) {
    GElf_Phdr segment;
    if (gelf_getphdr(r->elf, (int)i, &segment) == NULL) {
      return damaged(r, "segment %zu cannot be read: %s", i, elf_errmsg(-1));
    }
    if (__builtin_add_overflow(segment.p_offset, segment.p_filesz, &end) || end > file->size) {
      return pega_error_set(r->error, PEGA_ERROR_FORMAT, NULL,
                            "%s: cut off: segment %zu has %" PRIu64 " bytes at %" PRIu64
                            ", the file has %" PRIu64 "; copy or install it again",
                            r->path, i, segment.p_filesz, segment.p_offset, file->size);
    }
    if (segment.p_type == PT_LOAD) {
      pega_elf_segment *kept = &file->segments[file->num_segments++];
      *kept = (pega_elf_segment){segment.p_vaddr, segment.p_offset, segment.p_filesz};
    } else if (segment.p_type == PT_DYNAMIC && segment.p_filesz > 0) {
      dynamic_address = segment.p_vaddr;
      r->dynamic_size = segment.p_filesz;
      file->has_dynamic = true;
    }
  }
  uint64_t room;
  if (file->has_dynamic &&
      (!find_address(file, dynamic_address, &r->dynamic_offset, &room) || room < r->dynamic_size)) {
    return damaged(r, "its dynamic section lies outside its segments");
  }
  return PEGA_OK;
}

/* ---- What the dynamic section says ---- */

static bool next_entry(reader *r, Elf_Data *data, int *index, GElf_Dyn *out) {
  size_t count = data->d_size / record_size(r, ELF_T_DYN);
  if ((size_t)*index >= count || gelf_getdyn(data, *index, out) == NULL) return false;
  ++*index;
  return out->d_tag != DT_NULL;
}

static const char *string_at(reader *r, uint64_t offset) {
  return offset < r->strings_size ? r->file->strings + offset : NULL;
}

static pega_status read_strings(reader *r) {
  const dynamic *from = &r->dynamic;
  uint64_t offset;
  uint64_t room;
  if (from->strings == 0 || from->strings_size == 0) {
    r->strings_size = 1;
    r->file->strings = calloc(1, 1);
    return r->file->strings == NULL ? no_memory(r->path, r->error) : PEGA_OK;
  }
  if (!find_address(r->file, from->strings, &offset, &room) || from->strings_size > room) {
    return damaged(r, "its table of names, %" PRIu64 " bytes, lies outside its segments",
                   from->strings_size);
  }
  Elf_Data *data = records(r, offset, from->strings_size, ELF_T_BYTE);
  if (data == NULL) return damaged(r, "its table of names cannot be read");
  r->file->strings = malloc((size_t)from->strings_size);
  if (r->file->strings == NULL) return no_memory(r->path, r->error);
  memcpy(r->file->strings, data->d_buf, (size_t)from->strings_size);
  if (r->file->strings[from->strings_size - 1] != '\0') {
    return damaged(r, "its table of names does not end with a 0");
  }
  r->strings_size = from->strings_size;
  return PEGA_OK;
}

static void note_table(dynamic *out, uint64_t address) {
  if (out->num_next_tables < 8) out->next_tables[out->num_next_tables++] = address;
}

static pega_status read_addresses(reader *r, Elf_Data *data, int32_t *num_needed) {
  dynamic *out = &r->dynamic;
  GElf_Dyn entry;
  for (int i = 0; next_entry(r, data, &i, &entry);) {
    uint64_t value = entry.d_un.d_val;
    switch (entry.d_tag) {
      case DT_NEEDED:
        ++*num_needed;
        break;
      case DT_SYMTAB:
        out->symbols = value;
        break;
      case DT_SYMENT:
        if (value != record_size(r, ELF_T_SYM)) {
          return damaged(r, "its symbols are of %" PRIu64 " bytes each, expected %zu", value,
                         record_size(r, ELF_T_SYM));
        }
        break;
      case DT_STRTAB:
        out->strings = value;
        break;
      case DT_STRSZ:
        out->strings_size = value;
        break;
      case DT_HASH:
        out->hash = value;
        break;
      case DT_GNU_HASH:
        out->gnu_hash = value;
        break;
      case DT_VERSYM:
        out->versions = value;
        break;
      case DT_VERNEED:
        out->version_needs = value;
        break;
      case DT_VERDEF:
        out->version_definitions = value;
        break;
      case DT_RELA:
      case DT_REL:
      case DT_JMPREL:
      case DT_RELR:
      case DT_INIT:
        note_table(out, value);
        break;
      case DT_FLAGS_1:
        if ((value & (DF_1_PIE | DF_1_NOOPEN)) != 0) r->file->is_program = true;
        break;
      default:
        break;
    }
  }
  note_table(out, out->strings);
  note_table(out, out->hash);
  note_table(out, out->gnu_hash);
  return PEGA_OK;
}

static pega_status read_names(reader *r, Elf_Data *data, int32_t num_needed) {
  pega_elf *file = r->file;
  GElf_Dyn entry;
  file->needed = calloc((size_t)num_needed + 1, sizeof *file->needed);
  if (file->needed == NULL) return no_memory(r->path, r->error);
  for (int i = 0; next_entry(r, data, &i, &entry);) {
    const char **name = NULL;
    if (entry.d_tag == DT_NEEDED) name = &file->needed[file->num_needed++];
    if (entry.d_tag == DT_SONAME) name = &file->soname;
    if (entry.d_tag == DT_RPATH) name = &file->rpath;
    if (entry.d_tag == DT_RUNPATH) name = &file->runpath;
    if (name == NULL) continue;
    *name = string_at(r, entry.d_un.d_val);
    if (*name == NULL) {
      return damaged(r, "a name of its dynamic section is at %" PRIu64 " of %" PRIu64 " bytes",
                     (uint64_t)entry.d_un.d_val, r->strings_size);
    }
  }
  return PEGA_OK;
}

static pega_status read_dynamic(reader *r) {
  int32_t num_needed = 0;
  Elf_Data *data =
      records(r, r->dynamic_offset, r->dynamic_size / record_size(r, ELF_T_DYN), ELF_T_DYN);
  if (data == NULL) return damaged(r, "its dynamic section cannot be read");
  pega_status status = read_addresses(r, data, &num_needed);
  if (status == PEGA_OK) status = read_strings(r);
  if (status == PEGA_OK) status = read_names(r, data, num_needed);
  return status;
}

/* ---- How many symbols there are: only the tables of hashes tell ---- */

/* DT_GNU_HASH: the last symbol is the end of the chain that begins last. False if it is damaged; a count
 * of 0 where it has no chain, and so tells nothing of the symbols that are undefined. */
static bool count_by_gnu_hash(reader *r, uint64_t *count) {
  uint64_t at = r->dynamic.gnu_hash;
  const uint32_t *head = read_words(r, at, 4);
  if (head == NULL) return false;
  uint64_t buckets_at = at + 16 + (uint64_t)head[2] * (r->file->is_64_bit ? 8 : 4);
  uint32_t num_buckets = head[0];
  uint32_t first = head[1];
  const uint32_t *buckets = num_buckets == 0 ? NULL : read_words(r, buckets_at, num_buckets);
  if (num_buckets != 0 && buckets == NULL) return false;
  uint32_t last = 0;
  for (uint32_t i = 0; i < num_buckets; ++i) {
    if (buckets[i] > last) last = buckets[i];
  }
  *count = first > 1 ? first : 0;
  if (last == 0) return true;
  if (last < first) return false;
  uint64_t chain = buckets_at + (uint64_t)num_buckets * 4 + (uint64_t)(last - first) * 4;
  for (uint64_t done = 0; done < kMaxSymbols; done += kChainPart) {
    uint64_t offset;
    uint64_t room;
    if (!find_address(r->file, chain + done * 4, &offset, &room)) return false;
    uint64_t length = room / 4 < kChainPart ? room / 4 : kChainPart;
    const uint32_t *hashes = read_words(r, chain + done * 4, length);
    for (uint64_t i = 0; i < length && hashes != NULL; ++i) {
      if ((hashes[i] & 1) != 0) {
        *count = last + done + i + 1;
        return true;
      }
    }
    if (length < kChainPart) return false;
  }
  return false;
}

/* Without a table of hashes: up to whatever comes next. */
static uint64_t count_by_place(reader *r) {
  const dynamic *from = &r->dynamic;
  uint64_t offset;
  uint64_t room;
  if (!find_address(r->file, from->symbols, &offset, &room)) return 0;
  const uint64_t versions[] = {from->versions, from->version_needs, from->version_definitions};
  for (int i = 0; i < from->num_next_tables + 3; ++i) {
    uint64_t next =
        i < from->num_next_tables ? from->next_tables[i] : versions[i - from->num_next_tables];
    if (next > from->symbols && next - from->symbols < room) room = next - from->symbols;
  }
  return room / record_size(r, ELF_T_SYM);
}

static pega_status count_symbols(reader *r, uint64_t *count) {
  *count = 0;
  if (r->dynamic.hash != 0) {
    uint32_t chains;
    if (!read_word(r, r->dynamic.hash + 4, &chains)) {
      return damaged(r, "its table of hashes lies outside its segments");
    }
    *count = chains;
  } else if (r->dynamic.gnu_hash != 0 && !count_by_gnu_hash(r, count)) {
    return damaged(r, "its table of hashes does not fit");
  }
  if (*count == 0) *count = count_by_place(r);
  if (*count > kMaxSymbols) {
    return damaged(r, "it has %" PRIu64 " symbols, expected at most %d", *count, kMaxSymbols);
  }
  return PEGA_OK;
}

/* ---- Versions of symbols ---- */

static pega_status keep_version(reader *r, uint32_t index, const char *name, const char *library) {
  index &= kMaxVersions - 1;
  if (name == NULL || library == NULL) return damaged(r, "a version of its symbols has no name");
  if (index > 1) r->known[index] = (version){name, library};
  return PEGA_OK;
}

/* Both tables are chains: each link says how far the next one is. */
static pega_status read_version_needs(reader *r) {
  uint64_t offset;
  uint64_t room;
  if (!find_address(r->file, r->dynamic.version_needs, &offset, &room)) {
    return damaged(r, "the versions that it needs lie outside its segments");
  }
  if (room > kMaxVersionBytes) room = kMaxVersionBytes;
  Elf_Data *data = records(r, offset, room, ELF_T_BYTE);
  if (data == NULL) return damaged(r, "the versions that it needs cannot be read");
  data->d_type = ELF_T_VNEED;
  uint64_t at = 0;
  for (int links = 0; links < kMaxVersions; ++links) {
    GElf_Verneed need;
    GElf_Vernaux item;
    if (at > INT32_MAX || gelf_getverneed(data, (int)at, &need) == NULL) break;
    uint64_t item_at = at + need.vn_aux;
    for (uint32_t i = 0; i < need.vn_cnt; ++i) {
      if (item_at > INT32_MAX || gelf_getvernaux(data, (int)item_at, &item) == NULL) {
        return damaged(r, "the versions that it needs end outside their segment");
      }
      pega_status status =
          keep_version(r, item.vna_other, string_at(r, item.vna_name), string_at(r, need.vn_file));
      if (status != PEGA_OK) return status;
      item_at += item.vna_next;
      if (item.vna_next == 0) break;
    }
    at += need.vn_next;
    if (need.vn_next == 0) return PEGA_OK;
  }
  return damaged(r, "the versions that it needs end outside their segment");
}

static pega_status read_version_definitions(reader *r) {
  uint64_t offset;
  uint64_t room;
  if (!find_address(r->file, r->dynamic.version_definitions, &offset, &room)) {
    return damaged(r, "the versions that it defines lie outside its segments");
  }
  if (room > kMaxVersionBytes) room = kMaxVersionBytes;
  Elf_Data *data = records(r, offset, room, ELF_T_BYTE);
  if (data == NULL) return damaged(r, "the versions that it defines cannot be read");
  data->d_type = ELF_T_VDEF;
  uint64_t at = 0;
  for (int links = 0; links < kMaxVersions; ++links) {
    GElf_Verdef definition;
    GElf_Verdaux item;
    if (at > INT32_MAX || gelf_getverdef(data, (int)at, &definition) == NULL ||
        at + definition.vd_aux > INT32_MAX ||
        gelf_getverdaux(data, (int)(at + definition.vd_aux), &item) == NULL) {
      break;
    }
    pega_status status = keep_version(r, definition.vd_ndx, string_at(r, item.vda_name), "");
    if (status != PEGA_OK) return status;
    at += definition.vd_next;
    if (definition.vd_next == 0) return PEGA_OK;
  }
  return damaged(r, "the versions that it defines end outside their segment");
}

/* A record for each symbol, or NULL where they have no versions. */
static pega_status read_versions(reader *r, uint64_t num_symbols, Elf_Data **out) {
  uint64_t offset;
  uint64_t room;
  *out = NULL;
  if (r->dynamic.versions == 0 || num_symbols == 0) return PEGA_OK;
  /* The chains are read where they lie: only in this machine's own order of bytes. */
  const uint16_t one = 1;
  const bool host_is_big_endian = *(const unsigned char *)&one == 0;
  if (r->file->is_big_endian != host_is_big_endian) return PEGA_OK;
  if (!find_address(r->file, r->dynamic.versions, &offset, &room) ||
      num_symbols > room / sizeof(Elf64_Half)) {
    return damaged(r, "the versions of its symbols lie outside its segments");
  }
  *out = records(r, offset, num_symbols, ELF_T_HALF);
  if (*out == NULL) return damaged(r, "the versions of its symbols cannot be read");
  r->known = calloc(kMaxVersions, sizeof *r->known);
  if (r->known == NULL) return no_memory(r->path, r->error);
  pega_status status = PEGA_OK;
  if (r->dynamic.version_needs != 0) status = read_version_needs(r);
  if (status == PEGA_OK && r->dynamic.version_definitions != 0) {
    status = read_version_definitions(r);
  }
  return status;
}

/* ---- Symbols ---- */

static int compare_symbols(const void *a, const void *b) {
  const pega_elf_symbol *left = a;
  const pega_elf_symbol *right = b;
  int order = strcmp(left->name, right->name);
  if (order == 0) order = (int)left->hidden_version - (int)right->hidden_version;
  return order != 0 ? order : strcmp(left->version, right->version);
}

static void keep_symbol(reader *r, const GElf_Sym *symbol, const char *name, uint32_t index) {
  pega_elf *file = r->file;
  bool is_undefined = symbol->st_shndx == SHN_UNDEF;
  pega_elf_symbol kept = {name,
                          "",
                          "",
                          is_undefined ? 0 : symbol->st_value,
                          GELF_ST_BIND(symbol->st_info) == STB_WEAK,
                          !is_undefined && (index & 0x8000) != 0,
                          !is_undefined && (index & 0x7fff) == 2};
  const version *of = r->known == NULL ? NULL : &r->known[index & 0x7fff];
  if (of != NULL && of->name != NULL) {
    kept.version = of->name;
    if (is_undefined) kept.library = of->library;
  }
  if (is_undefined) {
    file->undefined[file->num_undefined++] = kept;
    return;
  }
  /* A version that a file defines is a symbol of its own name, and nothing that one could use. */
  if (symbol->st_shndx == SHN_ABS && strcmp(name, kept.version) == 0) return;
  file->defined[file->num_defined++] = kept;
}

static pega_status keep_symbols(reader *r, Elf_Data *data, uint64_t count, Elf_Data *versions) {
  pega_elf *file = r->file;
  uint64_t num_undefined = 0;
  for (uint64_t i = 0; i < count; ++i) {
    GElf_Sym symbol;
    if (gelf_getsym(data, (int)i, &symbol) != NULL && symbol.st_shndx == SHN_UNDEF) {
      ++num_undefined;
    }
  }
  file->undefined = calloc((size_t)num_undefined + 1, sizeof *file->undefined);
  file->defined = calloc((size_t)(count - num_undefined) + 1, sizeof *file->defined);
  if (file->undefined == NULL || file->defined == NULL) return no_memory(r->path, r->error);
  for (uint64_t i = 1; i < count; ++i) {
    GElf_Sym symbol;
    GElf_Versym index = 0;
    if (gelf_getsym(data, (int)i, &symbol) == NULL) {
      return damaged(r, "symbol %" PRIu64 " cannot be read", i);
    }
    if (GELF_ST_BIND(symbol.st_info) == STB_LOCAL) continue;
    const char *name = string_at(r, symbol.st_name);
    if (name == NULL) {
      return damaged(r, "the name of symbol %" PRIu64 " is at %u of %" PRIu64 " bytes", i,
                     symbol.st_name, r->strings_size);
    }
    if (name[0] == '\0') continue;
    if (versions != NULL) gelf_getversym(versions, (int)i, &index);
    keep_symbol(r, &symbol, name, (uint32_t)index);
  }
  qsort(file->defined, (size_t)file->num_defined, sizeof *file->defined, compare_symbols);
  qsort(file->undefined, (size_t)file->num_undefined, sizeof *file->undefined, compare_symbols);
  return PEGA_OK;
}

static pega_status read_symbols(reader *r) {
  uint64_t count;
  uint64_t offset;
  uint64_t room;
  Elf_Data *versions;
  pega_status status = count_symbols(r, &count);
  if (status != PEGA_OK || r->dynamic.symbols == 0 || count == 0) return status;
  if (!find_address(r->file, r->dynamic.symbols, &offset, &room) ||
      count > room / record_size(r, ELF_T_SYM)) {
    return damaged(r, "its %" PRIu64 " symbols lie outside its segments", count);
  }
  status = read_versions(r, count, &versions);
  if (status != PEGA_OK) return status;
  Elf_Data *data = records(r, offset, count, ELF_T_SYM);
  if (data == NULL) return damaged(r, "its symbols cannot be read");
  return keep_symbols(r, data, count, versions);
}

/* ---- Object files have sections alone ---- */

static pega_status read_object(reader *r) {
  pega_elf *file = r->file;
  GElf_Shdr symbols = {.sh_type = SHT_NULL};
  GElf_Shdr names = {.sh_type = SHT_NULL};
  Elf_Scn *section = NULL;
  while ((section = elf_nextscn(r->elf, section)) != NULL) {
    GElf_Shdr header;
    uint64_t end;
    if (gelf_getshdr(section, &header) == NULL) return damaged(r, "%s", elf_errmsg(-1));
    if (header.sh_type == SHT_NOBITS || header.sh_type == SHT_NULL) continue;
    if (__builtin_add_overflow(header.sh_offset, header.sh_size, &end) || end > file->size) {
      return pega_error_set(r->error, PEGA_ERROR_FORMAT, NULL,
                            "%s: cut off: section %zu has %" PRIu64 " bytes at %" PRIu64
                            ", the file has %" PRIu64 "; copy or install it again",
                            r->path, elf_ndxscn(section), (uint64_t)header.sh_size,
                            (uint64_t)header.sh_offset, file->size);
    }
    if (header.sh_type != SHT_SYMTAB) continue;
    Elf_Scn *strings = elf_getscn(r->elf, header.sh_link);
    symbols = header;
    if (strings == NULL || gelf_getshdr(strings, &names) == NULL || names.sh_type != SHT_STRTAB ||
        names.sh_size == 0) {
      return damaged(r, "its symbols have no names");
    }
  }
  if (symbols.sh_type == SHT_NULL) return PEGA_OK;
  uint64_t count = symbols.sh_size / record_size(r, ELF_T_SYM);
  Elf_Data *bytes = records(r, names.sh_offset, names.sh_size, ELF_T_BYTE);
  if (bytes == NULL) return damaged(r, "the names of its symbols lie outside the file");
  if (count == 0) return PEGA_OK;
  if (count > kMaxSymbols) {
    return damaged(r, "it has %" PRIu64 " symbols, expected at most %d", count, kMaxSymbols);
  }
  file->strings = malloc((size_t)names.sh_size);
  if (file->strings == NULL) return no_memory(r->path, r->error);
  memcpy(file->strings, bytes->d_buf, (size_t)names.sh_size);
  if (file->strings[names.sh_size - 1] != '\0') {
    return damaged(r, "its table of names does not end with a 0");
  }
  r->strings_size = names.sh_size;
  Elf_Data *data = records(r, symbols.sh_offset, count, ELF_T_SYM);
  if (data == NULL) return damaged(r, "its symbols cannot be read");
  return keep_symbols(r, data, count, NULL);
}

/* ---- The whole ---- */

pega_status pega_elf_open_file(const char *path, const char *what, int *fd, uint64_t *size,
                               pega_error *error) {
  size_t path_size = strnlen(path, PATH_MAX);
  if (path_size == 0 || path_size == PATH_MAX) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          path_size == 0 ? "the path of the file is empty"
                                         : "the path of the file is longer than %d bytes",
                          PATH_MAX - 1);
  }
  /* A device is not even opened: that alone may make it act. What takes the file's place meanwhile is
   * still seen to be none. */
  struct stat status;
  *fd = -1;
  if (stat(path, &status) != 0 ||
      (S_ISREG(status.st_mode) &&
       ((*fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) < 0 || fstat(*fd, &status) != 0))) {
    int code = errno;
    if (*fd >= 0) close(*fd);
    pega_status result = code == ENOENT || code == ENOTDIR ? PEGA_ERROR_NOT_FOUND : PEGA_ERROR_IO;
    char text[128];
    pega_error_set(error, result, NULL, "%s: %s", path, strerror_r(code, text, sizeof text));
    if (error != NULL) error->code = code;
    return result;
  }
  if (!S_ISREG(status.st_mode)) {
    if (*fd >= 0) close(*fd);
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL, "%s: not %s: it is %s", path, what,
                          S_ISDIR(status.st_mode) ? "a folder" : "no regular file");
  }
  *size = (uint64_t)status.st_size;
  return PEGA_OK;
}

/* All `size` bytes; *out is freed by the caller. */
static pega_status read_whole(const char *path, int fd, uint64_t size, unsigned char **out,
                              pega_error *error) {
  *out = NULL;
  if (size > MAX_FILE) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: it has %" PRIu64 " bytes; no more than %" PRIu64 " are read", path,
                          size, MAX_FILE);
  }
  unsigned char *bytes = malloc((size_t)size + 1);
  if (bytes == NULL) return no_memory(path, error);
  for (uint64_t done = 0; done < size;) {
    ssize_t got = pread(fd, bytes + done, (size_t)(size - done), (off_t)done);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      int code = got < 0 ? errno : 0;
      char text[128];
      free(bytes);
      pega_error_set(error, PEGA_ERROR_IO, NULL, "%s: cannot be read at %" PRIu64 ": %s", path,
                     done,
                     got < 0 ? strerror_r(code, text, sizeof text) : "it became shorter meanwhile");
      if (error != NULL) error->code = code;
      return PEGA_ERROR_IO;
    }
    done += (uint64_t)got;
  }
  *out = bytes;
  return PEGA_OK;
}

pega_status pega_elf_read_bytes(const char *path, const char *what, uint64_t most,
                                unsigned char **bytes, uint64_t *size, pega_error *error) {
  int fd;
  *bytes = NULL;
  pega_status status = pega_elf_open_file(path, what, &fd, size, error);
  if (status != PEGA_OK) return status;
  if (*size > most) *size = most;
  status = read_whole(path, fd, *size, bytes, error);
  close(fd);
  return status;
}

static pega_status read_elf(reader *r) {
  GElf_Ehdr header;
  pega_status status = check_header(r, &header);
  if (status == PEGA_OK) status = read_segments(r, &header);
  if (status != PEGA_OK) return status;
  if (r->file->has_dynamic) {
    status = read_dynamic(r);
    if (status == PEGA_OK) status = read_symbols(r);
  } else if (r->file->type == ET_REL && r->file->machine != EM_CUDA) {
    status = read_object(r);
  }
  return status;
}

/* Before libelf sees it: whether it is such a file at all. */
static pega_status check_magic(reader *r, int fd) {
  unsigned char head[sizeof(Elf64_Ehdr)];
  ssize_t got = pread(fd, head, sizeof head, 0);
  if (got < SELFMAG || memcmp(head, ELFMAG, SELFMAG) != 0) {
    return pega_error_set(r->error, PEGA_ERROR_FORMAT, NULL, "%s: not a shared library: it is %s",
                          r->path, r->file->size == 0 ? "empty" : "no ELF file");
  }
  if (got >= (ssize_t)sizeof head) return PEGA_OK;
  return pega_error_set(r->error, PEGA_ERROR_FORMAT, NULL,
                        "%s: cut off: it ends within its ELF header; copy or install it again",
                        r->path);
}

static pega_status read_file(const char *path, bool whole, pega_elf *out, pega_error *error) {
  int fd;
  memset(out, 0, sizeof *out);
  out->soname = out->rpath = out->runpath = "";
  reader r = {.path = path, .file = out, .error = error};
  pega_status status = pega_elf_open_file(path, "a shared library", &fd, &out->size, error);
  if (status != PEGA_OK) {
    pega_elf_free(out);
    return status;
  }
  out->path = realpath(path, NULL);
  out->given = strdup(path);
  if (out->path == NULL || out->given == NULL) status = no_memory(path, error);
  errno = 0;
  if (status == PEGA_OK) status = check_magic(&r, fd);
  if (status == PEGA_OK && whole) {
    unsigned char *bytes;
    status = read_whole(path, fd, out->size, &bytes, error);
    out->bytes = bytes;
  }
  if (status == PEGA_OK) {
    elf_version(EV_CURRENT);
    /* libelf takes what it does not write to without const. */
    r.elf = whole ? elf_memory((char *)(uintptr_t)out->bytes, (size_t)out->size)
                  : elf_begin(fd, ELF_C_READ, NULL);
    if (r.elf == NULL) {
      status = damaged(&r, "%s", elf_errmsg(-1));
    } else {
      status = read_elf(&r);
      elf_end(r.elf);
    }
  }
  free(r.known);
  close(fd);
  if (status != PEGA_OK) pega_elf_free(out);
  return status;
}

pega_status pega_elf_read(const char *path, pega_elf *out, pega_error *error) {
  return read_file(path, true, out, error);
}

pega_status pega_elf_read_interface(const char *path, pega_elf *out, pega_error *error) {
  return read_file(path, false, out, error);
}

void pega_elf_free(pega_elf *file) {
  free(file->path);
  free(file->given);
  free((void *)(uintptr_t)file->bytes);
  free(file->needed);
  free(file->defined);
  free(file->undefined);
  free(file->segments);
  free(file->strings);
  memset(file, 0, sizeof *file);
}

pega_status pega_elf_check_loadable(const pega_elf *file, pega_error *error) {
  if (file->machine != host_machine || !file->is_64_bit || file->is_big_endian) {
    char name[64];
    char host[32];
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: wrong architecture: the file is for %s, this process is %s; build "
                          "or install it for %s",
                          file->given, pega_elf_machine_name(file, name),
                          machine_name(host_machine, host), machine_name(host_machine, host));
  }
  if (file->type != ET_DYN) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: not a shared library: ELF type %u%s, expected %u (link it with "
                          "-shared)",
                          file->given, file->type,
                          file->type == ET_REL    ? ", an object file"
                          : file->type == ET_EXEC ? ", a program"
                                                  : "",
                          ET_DYN);
  }
  if (file->num_segments == 0) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: not a shared library: it has no program headers (damaged, or an "
                          "object file)",
                          file->given);
  }
  if (!file->has_dynamic) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: not a shared library: it has no dynamic section (damaged, or a "
                          "statically linked program)",
                          file->given);
  }
  if (file->is_program) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: not a shared library: it is marked as a program, or as one that "
                          "must not be loaded at run time (link it with -shared)",
                          file->given);
  }
  return PEGA_OK;
}

const pega_elf_symbol *pega_elf_find_defined(const pega_elf *file, const char *name) {
  int32_t low = 0;
  int32_t high = file->num_defined;
  while (low < high) {
    int32_t middle = low + (high - low) / 2;
    if (strcmp(file->defined[middle].name, name) < 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  /* Those with a hidden version come after those without. */
  bool found = low < file->num_defined && strcmp(file->defined[low].name, name) == 0 &&
               !file->defined[low].hidden_version;
  return found ? &file->defined[low] : NULL;
}

const void *pega_elf_symbol_bytes(const pega_elf *file, const char *name, size_t *size) {
  const pega_elf_symbol *symbol = pega_elf_find_defined(file, name);
  uint64_t offset;
  uint64_t room;
  *size = 0;
  if (symbol == NULL || file->bytes == NULL || file->type == ET_REL ||
      !find_address(file, symbol->address, &offset, &room)) {
    return NULL;
  }
  *size = (size_t)room;
  return file->bytes + offset;
}
