/* SPDX-License-Identifier: Apache-2.0 */
/* What an ELF file says of itself, read without running any of it. Compiled into each library that reads
 * such files. What the dynamic loader would use is read from where it would read it, the program headers: a
 * file without section headers is read as well. Nothing of the file is trusted. */
#ifndef PEGA_ARTIFACT_ELF_H_
#define PEGA_ARTIFACT_ELF_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pega/pega.h"

/* A dynamic symbol. Text lives as long as the file. */
typedef struct pega_elf_symbol {
  const char *name;
  const char *version; /* of .gnu.version_r or _d, "" where there is none */
  const char *library; /* the NEEDED library that an undefined symbol's version names, or "" */
  uint64_t address;    /* of a defined one */
  bool weak;
  bool hidden_version; /* a defined one that is found by its version alone (name@version) */
  bool oldest_version; /* a defined one, of the first version that the file defines */
} pega_elf_symbol;

typedef struct pega_elf_segment {
  uint64_t address, offset, size; /* of what the file has of it */
} pega_elf_segment;

typedef struct pega_elf {
  char *path;  /* full path */
  char *given; /* as it was asked for: errors begin with it */
  uint64_t size;
  const unsigned char *bytes; /* the whole file, read into memory once; NULL: not read */
  uint16_t type;              /* ET_DYN, ET_REL ... */
  uint16_t machine;           /* EM_X86_64 ... */
  bool is_64_bit;
  bool is_big_endian;
  bool is_program;     /* marked as a program, or as not to be loaded at run time */
  bool has_dynamic;    /* it has what the dynamic loader reads */
  const char *soname;  /* or "" */
  const char *rpath;   /* DT_RPATH, or "" */
  const char *runpath; /* DT_RUNPATH, or "" */
  const char **needed; /* DT_NEEDED, in their order */
  int32_t num_needed;
  pega_elf_symbol *defined; /* dynamic, sorted by name; of an object file, the global ones */
  int32_t num_defined;
  pega_elf_symbol *undefined; /* the same */
  int32_t num_undefined;
  pega_elf_segment *segments; /* loadable ones */
  int32_t num_segments;
  char *strings; /* the names; the file's own table */
} pega_elf;

/* Reads a file. Refuses what is no ELF file or is damaged or cut off; another architecture and other types
 * than shared libraries are read. The text starts with the path. Free with pega_elf_free(), which takes a
 * zeroed one; a failure leaves it zeroed. */
pega_status pega_elf_read(const char *path, pega_elf *out, pega_error *error);
/* The same without `bytes`: libraries that others need may be very large. */
pega_status pega_elf_read_interface(const char *path, pega_elf *out, pega_error *error);
void pega_elf_free(pega_elf *file);

/* Refuses what cannot be loaded into this process: another architecture, not a shared library. */
pega_status pega_elf_check_loadable(const pega_elf *file, pega_error *error);

/* A name for a file's architecture, as "x86-64". */
const char *pega_elf_machine_name(const pega_elf *file, char buffer[64]);

/* The defined symbol that dlsym() finds by this name; never one with a hidden version. */
const pega_elf_symbol *pega_elf_find_defined(const pega_elf *file, const char *name);

/* Bytes of the file from a symbol's address to the end of its segment's bytes in the file; NULL for none,
 * or where `bytes` were not read. */
const void *pega_elf_symbol_bytes(const pega_elf *file, const char *name, size_t *size);

/* Opens a regular file for reading; a pipe or a folder must neither block nor be read. `what` is what was
 * expected ("a shared library"). */
pega_status pega_elf_open_file(const char *path, const char *what, int *fd, uint64_t *size,
                               pega_error *error);
/* The first `most` bytes of such a file, or all there are; freed by the caller. */
pega_status pega_elf_read_bytes(const char *path, const char *what, uint64_t most,
                                unsigned char **bytes, uint64_t *size, pega_error *error);

#endif /* PEGA_ARTIFACT_ELF_H_ */
