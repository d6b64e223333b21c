/* SPDX-License-Identifier: Apache-2.0 */
#include "cubin.h"

#include <gelf.h>
#include <inttypes.h>
#include <libelf.h>

enum {
  /* Two layouts of the header are in use: of CUDA before 13, and since (Blackwell: 12.8). */
  kOsAbi = 0x33,
  kAbi = 7,
  kAbiAcceleratedFlag = 0x800,
  kNewOsAbi = 0x41,
  kNewAbi = 8,
  kNewAbiAcceleratedFlag = 0x8, /* assemblers of CUDA 12; those of 13 write .nv.compat instead */

  /* Attributes of .nv.info (EIATTR_*) and .nv.compat. */
  kAttrMaxThreads = 0x05,
  kAttrReqntid = 0x10,
  kAttrFrameSize = 0x11,
  kAttrMinStackSize = 0x12,
  kAttrKparamInfo = 0x17,
  kAttrCbankParamSize = 0x19,
  kAttrRegcount = 0x2f,
  kAttrCtaPerCluster = 0x3d,
  kAttrKparamInfoV2 = 0x45,
  kAttrCompatAcceleratorTarget = 0x09,

  /* How an attribute's value is stored: in its 4 bytes, or behind them. */
  kFormatInline = 3,
  kFormatBehind = 4,

  kReservedShared = 1024 /* of each block, on 9.0 and later */
};

typedef struct reader {
  const unsigned char *bytes;
  size_t size;
  Elf *elf;
  size_t names; /* index of the section that has the sections' names */
  const char *entry;
  uint32_t entry_symbol;
  const char *what;
  pega_cubin_kernel *kernel;
  pega_error *error;
  bool has_registers;
} reader;

/* An attribute: `value` are its bytes. */
typedef struct attribute {
  uint8_t format;
  uint8_t name;
  const unsigned char *value;
  size_t size;
} attribute;

static pega_status bad(reader *r, const char *why) {
  return pega_error_set(r->error, PEGA_ERROR_FORMAT, NULL,
                        "%s: the cubin is damaged: %s; build the pack again", r->what, why);
}

static uint32_t u16_at(const unsigned char *bytes) {
  return (uint32_t)(bytes[0] | (uint32_t)bytes[1] << 8);
}

static uint32_t u32_at(const unsigned char *bytes) {
  return u16_at(bytes) | u16_at(bytes + 2) << 16;
}

/* ---- The file ---- */

static pega_status check_header(reader *r) {
  Elf64_Ehdr header;
  if (r->size < sizeof header || memcmp(r->bytes, ELFMAG, SELFMAG) != 0) {
    return pega_error_set(r->error, PEGA_ERROR_FORMAT, NULL,
                          "%s: the blob is no cubin: it is no ELF file", r->what);
  }
  memcpy(&header, r->bytes, sizeof header);
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
      header.e_machine != EM_CUDA) {
    return pega_error_set(r->error, PEGA_ERROR_FORMAT, NULL,
                          "%s: the blob is no cubin: expected a 64-bit little-endian ELF file of "
                          "machine %d, got class %u, order %u, machine %u",
                          r->what, EM_CUDA, header.e_ident[EI_CLASS], header.e_ident[EI_DATA],
                          header.e_machine);
  }
  uint64_t end;
  if (header.e_ident[EI_VERSION] != EV_CURRENT || header.e_ehsize != sizeof header ||
      header.e_shentsize != sizeof(Elf64_Shdr) ||
      __builtin_add_overflow(header.e_shoff, (uint64_t)header.e_shnum * sizeof(Elf64_Shdr), &end) ||
      end > r->size || header.e_shnum == 0 || header.e_shoff % _Alignof(Elf64_Shdr) != 0 ||
      header.e_shstrndx >= header.e_shnum) {
    return bad(r, "its table of sections does not fit");
  }
  r->names = header.e_shstrndx;
  uint8_t abi = header.e_ident[EI_OSABI], version = header.e_ident[EI_ABIVERSION];
  if (abi == kOsAbi && version == kAbi) {
    r->kernel->compute_capability = (int32_t)(header.e_flags & 0xff);
    r->kernel->accelerated = (header.e_flags & kAbiAcceleratedFlag) != 0;
  } else if (abi == kNewOsAbi && version == kNewAbi) {
    r->kernel->compute_capability = (int32_t)(header.e_flags >> 8 & 0xff);
    r->kernel->accelerated = (header.e_flags & kNewAbiAcceleratedFlag) != 0;
  } else {
    return pega_error_set(r->error, PEGA_ERROR_FORMAT, NULL,
                          "%s: a cubin of an unknown ABI: 0x%x, version %u; expected 0x%x, version "
                          "%d, or 0x%x, version %d",
                          r->what, abi, version, kOsAbi, kAbi, kNewOsAbi, kNewAbi);
  }
  return PEGA_OK;
}

/* A section's header and bytes; false where they do not lie within the file. */
static bool read_section(reader *r, Elf_Scn *section, GElf_Shdr *header,
                         const unsigned char **bytes) {
  uint64_t end;
  *bytes = NULL;
  if (gelf_getshdr(section, header) == NULL) return false;
  if (header->sh_type == SHT_NOBITS || header->sh_type == SHT_NULL) return true;
  if (__builtin_add_overflow(header->sh_offset, header->sh_size, &end) || end > r->size) {
    return false;
  }
  *bytes = r->bytes + header->sh_offset;
  return true;
}

/* Text within a string table that ends within it; NULL for anything else. */
static const char *string_at(reader *r, size_t table, size_t offset) {
  GElf_Shdr header;
  const unsigned char *bytes;
  Elf_Scn *section = elf_getscn(r->elf, table);
  if (section == NULL || !read_section(r, section, &header, &bytes) || bytes == NULL ||
      header.sh_type != SHT_STRTAB || offset >= header.sh_size ||
      memchr(bytes + offset, 0, (size_t)(header.sh_size - offset)) == NULL) {
    return NULL;
  }
  return (const char *)bytes + offset;
}

/* The section of this name, or of this name and the entry's; NULL where there is none. */
static Elf_Scn *find_section(reader *r, const char *name, bool of_entry, GElf_Shdr *header,
                             const unsigned char **bytes) {
  size_t size = strlen(name);
  for (Elf_Scn *section = elf_nextscn(r->elf, NULL); section != NULL;
       section = elf_nextscn(r->elf, section)) {
    if (!read_section(r, section, header, bytes)) continue;
    const char *found = string_at(r, r->names, header->sh_name);
    if (found == NULL || strncmp(found, name, size) != 0) continue;
    if (strcmp(found + size, of_entry ? r->entry : "") == 0) return section;
  }
  return NULL;
}

static pega_status check_sections(reader *r) {
  for (Elf_Scn *section = elf_nextscn(r->elf, NULL); section != NULL;
       section = elf_nextscn(r->elf, section)) {
    GElf_Shdr header;
    const unsigned char *bytes;
    if (!read_section(r, section, &header, &bytes)) return bad(r, "a section lies outside of it");
  }
  return PEGA_OK;
}

/* The entry: a global function symbol in a section .text.<entry>. */
static pega_status find_entry(reader *r) {
  GElf_Shdr header;
  const unsigned char *bytes;
  char known[400] = "";
  size_t used = 0;
  for (Elf_Scn *section = elf_nextscn(r->elf, NULL); section != NULL;
       section = elf_nextscn(r->elf, section)) {
    if (!read_section(r, section, &header, &bytes) || header.sh_type != SHT_SYMTAB) continue;
    if (header.sh_entsize != sizeof(Elf64_Sym)) return bad(r, "its symbols are of another size");
    for (uint32_t i = 0; i < header.sh_size / sizeof(Elf64_Sym); ++i) {
      Elf64_Sym symbol;
      memcpy(&symbol, bytes + i * sizeof symbol, sizeof symbol);
      if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC ||
          ELF64_ST_BIND(symbol.st_info) != STB_GLOBAL || symbol.st_shndx == SHN_UNDEF) {
        continue;
      }
      const char *name = string_at(r, header.sh_link, symbol.st_name);
      if (name == NULL) return bad(r, "a symbol has no name");
      if (strcmp(name, r->entry) == 0) {
        r->entry_symbol = i;
        GElf_Shdr text;
        Elf_Scn *code = find_section(r, ".text.", true, &text, &bytes);
        if (code == NULL || elf_ndxscn(code) != symbol.st_shndx) {
          return bad(r, "the entry's symbol is not in its section");
        }
        return PEGA_OK;
      }
      size_t size = strnlen(name, 80);
      if (used + size + 4 < sizeof known) {
        memcpy(known + used, used == 0 ? "" : ", ", used == 0 ? 0 : 2);
        used += used == 0 ? 0 : 2;
        memcpy(known + used, name, size);
        used += size;
      }
    }
  }
  return pega_error_set(r->error, PEGA_ERROR_FORMAT, NULL,
                        "%s: the cubin has no such entry, it has: %s; build the pack again",
                        r->what, used == 0 ? "none" : known);
}

/* ---- Attributes ---- */

/* The next attribute of a list, which it leaves; false at its end or where it is damaged. */
static bool next_attribute(const unsigned char **at, const unsigned char *end, attribute *out) {
  if (end - *at < 4) return false;
  out->format = (*at)[0];
  out->name = (*at)[1];
  out->value = *at + 2;
  out->size = 2;
  *at += 4;
  if (out->format <= kFormatInline && out->format > 0) return true;
  if (out->format != kFormatBehind) return false;
  out->size = u16_at(out->value);
  out->value = *at;
  if ((size_t)(end - *at) < out->size) return false;
  *at += out->size;
  return true;
}

static void read_three(const attribute *from, uint32_t out[3]) {
  for (size_t i = 0; i < 3 && from->size >= 12; ++i) out[i] = u32_at(from->value + 4 * i);
}

static pega_status read_param(reader *r, const attribute *from) {
  pega_cubin_kernel *kernel = r->kernel;
  if (from->size != 12) return bad(r, "a parameter's entry is not 12 bytes");
  uint32_t ordinal = u16_at(from->value + 4);
  if (ordinal >= kMaxKernelParams) return bad(r, "it has more than 256 parameters");
  pega_cubin_param *param = &kernel->params[ordinal];
  if (param->present) return bad(r, "it has a parameter twice");
  param->present = true;
  param->offset = u16_at(from->value + 6);
  param->size = u32_at(from->value + 8);
  /* The first form keeps the size in 14 bits; the second is for what does not fit there. */
  if (from->name == kAttrKparamInfo) param->size >>= 18;
  if ((int32_t)ordinal >= kernel->num_params) kernel->num_params = (int32_t)ordinal + 1;
  return PEGA_OK;
}

static pega_status read_entry_attributes(reader *r) {
  GElf_Shdr header;
  const unsigned char *at;
  pega_cubin_kernel *kernel = r->kernel;
  if (find_section(r, ".nv.info.", true, &header, &at) == NULL || at == NULL) {
    return bad(r, "it has no .nv.info of the entry");
  }
  attribute found;
  const unsigned char *end = at + header.sh_size;
  while (next_attribute(&at, end, &found)) {
    pega_status status = PEGA_OK;
    if (found.name == kAttrKparamInfo || found.name == kAttrKparamInfoV2) {
      status = read_param(r, &found);
    }
    if (found.name == kAttrCbankParamSize) kernel->param_bytes = u16_at(found.value);
    if (found.name == kAttrMaxThreads) read_three(&found, kernel->max_threads);
    if (found.name == kAttrReqntid) read_three(&found, kernel->block);
    if (found.name == kAttrCtaPerCluster) read_three(&found, kernel->cluster);
    if (status != PEGA_OK) return status;
  }
  if (at != end) return bad(r, "the .nv.info of the entry ends within an attribute");
  for (int32_t i = 0; i < kernel->num_params; ++i) {
    if (!kernel->params[i].present) return bad(r, "a parameter is missing from its table");
  }
  return PEGA_OK;
}

/* .nv.info has pairs of a function's symbol and a number. */
static pega_status read_function_attributes(reader *r) {
  GElf_Shdr header;
  const unsigned char *at;
  attribute found;
  if (find_section(r, ".nv.info", false, &header, &at) == NULL || at == NULL) {
    return bad(r, "it has no .nv.info");
  }
  const unsigned char *end = at + header.sh_size;
  while (next_attribute(&at, end, &found)) {
    if (found.size != 8 || u32_at(found.value) != r->entry_symbol) continue;
    uint32_t number = u32_at(found.value + 4);
    if (found.name == kAttrRegcount) {
      r->kernel->registers = number;
      r->has_registers = true;
    }
    /* The frame is the entry's own, the least stack counts what it calls, too. */
    if ((found.name == kAttrFrameSize || found.name == kAttrMinStackSize) &&
        number > r->kernel->local_bytes) {
      r->kernel->local_bytes = number;
    }
  }
  if (at != end) return bad(r, "its .nv.info ends within an attribute");
  if (!r->has_registers) return bad(r, "it does not say how many registers the entry uses");
  return PEGA_OK;
}

static pega_status read_target_attributes(reader *r) {
  GElf_Shdr header;
  const unsigned char *at;
  attribute found;
  if (find_section(r, ".nv.compat", false, &header, &at) == NULL || at == NULL) return PEGA_OK;
  const unsigned char *end = at + header.sh_size;
  while (next_attribute(&at, end, &found)) {
    if (found.name == kAttrCompatAcceleratorTarget && found.value[0] != 0) {
      r->kernel->accelerated = true;
    }
  }
  return at == end ? PEGA_OK : bad(r, "its .nv.compat ends within an attribute");
}

/* Where a cubin has the section of what the system reserves, the entry's own counts it, too. */
static pega_status read_shared(reader *r) {
  GElf_Shdr header, reserved;
  const unsigned char *bytes;
  if (find_section(r, ".nv.shared.", true, &header, &bytes) == NULL) return PEGA_OK;
  if (header.sh_size > UINT32_MAX) return bad(r, "its shared memory is of an impossible size");
  r->kernel->static_shared = (uint32_t)header.sh_size;
  if (header.sh_size >= kReservedShared &&
      find_section(r, ".nv.shared.reserved.0", false, &reserved, &bytes) != NULL) {
    r->kernel->static_shared -= kReservedShared;
  }
  return PEGA_OK;
}

pega_status pega_cubin_read(const void *bytes, size_t size, const char *entry, const char *what,
                            pega_cubin_kernel *out, pega_error *error) {
  reader r = {bytes, size, NULL, 0, entry, 0, what, out, error, false};
  memset(out, 0, sizeof *out);
  pega_status status = check_header(&r);
  if (status != PEGA_OK) return status;
  elf_version(EV_CURRENT);
  /* libelf takes what it does not write to without const. */
  r.elf = elf_memory((char *)(uintptr_t)bytes, size);
  if (r.elf == NULL) {
    if (elf_errno() == 0) return bad(&r, "libelf does not read it");
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "%s: no memory to read the cubin",
                          what);
  }
  status = check_sections(&r);
  if (status == PEGA_OK) status = find_entry(&r);
  if (status == PEGA_OK) status = read_entry_attributes(&r);
  if (status == PEGA_OK) status = read_function_attributes(&r);
  if (status == PEGA_OK) status = read_target_attributes(&r);
  if (status == PEGA_OK) status = read_shared(&r);
  elf_end(r.elf);
  return status;
}
