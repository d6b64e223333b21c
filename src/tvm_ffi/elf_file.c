/* SPDX-License-Identifier: Apache-2.0 */
#include "elf_file.h"

#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <inttypes.h>
#include <libelf.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { kMaxLibraryBin = 1 << 30, kMaxSymbols = 1 << 22 };

static const char kLibraryBin[] = "__tvm_ffi__library_bin";

#if defined(__x86_64__)
static const uint16_t host_machine = EM_X86_64;
#elif defined(__aarch64__)
static const uint16_t host_machine = EM_AARCH64;
#else
#error "pega: unknown architecture; add its ELF machine number here"
#endif

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

static pega_status check_header(const char *path, Elf *elf, pega_error *error) {
  GElf_Ehdr header;
  char name[32];
  char host[32];
  size_t ident_size = 0;
  const char *ident = elf_getident(elf, &ident_size);
  bool magic = ident != NULL && ident_size >= SELFMAG && memcmp(ident, ELFMAG, SELFMAG) == 0;
  if (magic && (elf_kind(elf) != ELF_K_ELF || gelf_getehdr(elf, &header) == NULL)) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: cut off: it ends within its ELF header; copy or install it again",
                          path);
  }
  if (!magic) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: not a shared library: it is no ELF file", path);
  }
  if (header.e_machine != host_machine || header.e_ident[EI_CLASS] != ELFCLASS64 ||
      header.e_ident[EI_DATA] != ELFDATA2LSB) {
    return pega_error_set(
        error, PEGA_ERROR_FORMAT, NULL,
        "%s: wrong architecture: the file is for %s%s%s, this process is %s; build "
        "or install it for %s",
        path, machine_name(header.e_machine, name),
        header.e_ident[EI_CLASS] == ELFCLASS64 ? "" : " (a 32-bit file)",
        header.e_ident[EI_DATA] == ELFDATA2MSB ? " (big-endian)" : "",
        machine_name(host_machine, host), machine_name(host_machine, host));
  }
  if (header.e_type != ET_DYN) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: not a shared library: ELF type %u, expected %u (link it with "
                          "-shared)",
                          path, header.e_type, ET_DYN);
  }
  return PEGA_OK;
}

/* Copies the bytes from address `start` to the end of the file's part of its segment. */
static pega_status copy_segment_rest(const char *path, int fd, Elf *elf, uint64_t start,
                                     elf_file *out, pega_error *error) {
  size_t count = 0;
  elf_getphdrnum(elf, &count);
  for (size_t i = 0; i < count; ++i) {
    GElf_Phdr segment;
    if (gelf_getphdr(elf, (int)i, &segment) == NULL || segment.p_type != PT_LOAD) continue;
    if (start < segment.p_vaddr || start - segment.p_vaddr >= segment.p_filesz) continue;
    uint64_t skip = start - segment.p_vaddr;
    uint64_t size = segment.p_filesz - skip;
    if (size > kMaxLibraryBin) size = kMaxLibraryBin;
    out->library_bin = malloc((size_t)size);
    if (out->library_bin == NULL) {
      return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL,
                            "%s: no memory for %" PRIu64 " bytes", path, size);
    }
    while (out->library_bin_size < size) {
      ssize_t got =
          pread(fd, out->library_bin + out->library_bin_size, (size_t)size - out->library_bin_size,
                (off_t)(segment.p_offset + skip + out->library_bin_size));
      if (got <= 0) break;
      out->library_bin_size += (size_t)got;
    }
    return PEGA_OK;
  }
  return pega_error_set(error, PEGA_ERROR_FORMAT, NULL, "%s: %s lies outside the file", path,
                        kLibraryBin);
}

/* The loader maps segments past the end of a file that was cut off, and faults when it reads them. */
static pega_status check_segments(const char *path, uint64_t file_size, Elf *elf,
                                  pega_error *error) {
  size_t count = 0;
  GElf_Ehdr header;
  uint64_t sections_end;
  if (gelf_getehdr(elf, &header) == NULL ||
      __builtin_add_overflow(header.e_shoff, (uint64_t)header.e_shnum * header.e_shentsize,
                             &sections_end) ||
      sections_end > file_size) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: cut off: its table of sections ends past the file's %" PRIu64
                          " bytes; copy or install it again",
                          path, file_size);
  }
  if (elf_getphdrnum(elf, &count) != 0 || count == 0) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: not a shared library: it has no program headers (damaged, or an "
                          "object file)",
                          path);
  }
  for (size_t i = 0; i < count; ++i) {
    GElf_Phdr segment;
    uint64_t end;
    if (gelf_getphdr(elf, (int)i, &segment) == NULL) continue;
    if (__builtin_add_overflow(segment.p_offset, segment.p_filesz, &end) || end > file_size) {
      return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                            "%s: cut off: segment %zu has %" PRIu64 " bytes at %" PRIu64
                            ", the file has %" PRIu64 "; copy or install it again",
                            path, i, segment.p_filesz, segment.p_offset, file_size);
    }
  }
  return PEGA_OK;
}

static pega_status read_symbols(const char *path, int fd, Elf *elf, elf_file *out,
                                pega_error *error) {
  for (Elf_Scn *section = elf_nextscn(elf, NULL); section != NULL;
       section = elf_nextscn(elf, section)) {
    GElf_Shdr header;
    if (gelf_getshdr(section, &header) == NULL || header.sh_type != SHT_DYNSYM) continue;
    Elf_Data *data = elf_getdata(section, NULL);
    if (data == NULL || header.sh_entsize == 0) continue;
    size_t count = data->d_size / sizeof(Elf64_Sym);
    if (count > kMaxSymbols) count = kMaxSymbols;
    out->symbols = calloc(count + 1, sizeof *out->symbols);
    if (out->symbols == NULL) goto out_of_memory;
    for (size_t i = 0; i < count; ++i) {
      GElf_Sym symbol;
      if (gelf_getsym(data, (int)i, &symbol) == NULL) continue;
      const char *name = elf_strptr(elf, header.sh_link, symbol.st_name);
      if (name == NULL || name[0] == '\0') continue;
      if (strncmp(name, "TVMFFI", 6) == 0) out->uses_tvm_ffi = true;
      if (symbol.st_shndx == SHN_UNDEF) continue;
      char *copy = strdup(name);
      if (copy == NULL) goto out_of_memory;
      out->symbols[out->num_symbols++] = copy;
      if (strcmp(name, kLibraryBin) == 0 && out->library_bin == NULL) {
        pega_status status = copy_segment_rest(path, fd, elf, symbol.st_value, out, error);
        if (status != PEGA_OK) return status;
      }
    }
    return PEGA_OK;
  }
  return PEGA_OK;
out_of_memory:
  return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "%s: no memory for its symbols",
                        path);
}

/* Opens a regular file; a pipe or a folder must neither block nor be read. */
static pega_status open_file(const char *path, int *fd, uint64_t *size, pega_error *error) {
  *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat status;
  if (*fd < 0 || fstat(*fd, &status) != 0) {
    int code = errno;
    if (*fd >= 0) close(*fd);
    pega_status result = code == ENOENT || code == ENOTDIR ? PEGA_ERROR_NOT_FOUND : PEGA_ERROR_IO;
    char text[128];
    pega_error_set(error, result, NULL, "%s: %s", path, strerror_r(code, text, sizeof text));
    if (error != NULL) error->code = code;
    return result;
  }
  if (!S_ISREG(status.st_mode)) {
    close(*fd);
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL, "%s: not a shared library: it is %s",
                          path, S_ISDIR(status.st_mode) ? "a folder" : "no regular file");
  }
  *size = (uint64_t)status.st_size;
  return PEGA_OK;
}

pega_status elf_file_read(const char *path, elf_file *out, pega_error *error) {
  memset(out, 0, sizeof *out);
  size_t path_size = strnlen(path, PATH_MAX);
  if (path_size == 0 || path_size == PATH_MAX) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          path_size == 0 ? "the path of the file is empty"
                                         : "the path of the file is longer than %d bytes",
                          PATH_MAX - 1);
  }
  int fd;
  uint64_t size;
  pega_status status = open_file(path, &fd, &size, error);
  if (status != PEGA_OK) return status;
  elf_version(EV_CURRENT);
  Elf *elf = elf_begin(fd, ELF_C_READ, NULL);
  if (elf == NULL) {
    status = pega_error_set(error, PEGA_ERROR_FORMAT, NULL, "%s: not a shared library: %s", path,
                            elf_errmsg(-1));
  } else {
    status = check_header(path, elf, error);
    if (status == PEGA_OK) status = check_segments(path, size, elf, error);
    if (status == PEGA_OK) status = read_symbols(path, fd, elf, out, error);
    elf_end(elf);
  }
  close(fd);
  if (status != PEGA_OK) elf_file_free(out);
  return status;
}

void elf_file_free(elf_file *file) {
  for (size_t i = 0; i < file->num_symbols; ++i) free(file->symbols[i]);
  free(file->symbols);
  free(file->library_bin);
  memset(file, 0, sizeof *file);
}

bool elf_file_defines(const elf_file *file, const char *symbol) {
  for (size_t i = 0; i < file->num_symbols; ++i) {
    if (strcmp(file->symbols[i], symbol) == 0) return true;
  }
  return false;
}
