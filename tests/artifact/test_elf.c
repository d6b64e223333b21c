/* SPDX-License-Identifier: Apache-2.0 */
/* ELF files: what is read of whole ones, and that broken ones are refused, each for its reason. */
#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <pega/pega.h>
#include <sys/stat.h>
#include <unistd.h>

#include "artifact/elf.h"
#include "bytes.h"

#define BROKEN SCRATCH "/broken.so"

static const pega_elf_symbol *find(const pega_elf_symbol *symbols, int32_t count, const char *name,
                                   const char *version) {
  for (int32_t i = 0; i < count; ++i) {
    if (strcmp(symbols[i].name, name) == 0 && strcmp(symbols[i].version, version) == 0) {
      return &symbols[i];
    }
  }
  fail_msg("no symbol %s@%s", name, version);
  return NULL;
}

static void check_small(const char *path) {
  pega_elf file;
  assert_int_equal(pega_elf_read(path, &file, NULL), PEGA_OK);
  assert_int_equal(pega_elf_check_loadable(&file, NULL), PEGA_OK);
  assert_int_equal(file.num_needed, 1);
  assert_string_equal(file.needed[0], "libartifact_other.so");
  assert_string_equal(file.runpath, "$ORIGIN/elsewhere:/nowhere");
  assert_string_equal(file.rpath, "");
  assert_true(file.is_64_bit);
  assert_false(file.is_big_endian);
  assert_int_equal(file.type, ET_DYN);
  assert_int_equal(file.num_defined, 3);
  (void)find(file.defined, file.num_defined, "small_call", "SMALL_1");
  (void)find(file.defined, file.num_defined, "small_second", "SMALL_1");
  const pega_elf_symbol *other = find(file.undefined, file.num_undefined, "other", "OTHER_2");
  assert_string_equal(other->library, "libartifact_other.so");
  assert_false(other->weak);
  (void)find(file.undefined, file.num_undefined, "other_plain", "OTHER_1");
  assert_true(find(file.undefined, file.num_undefined, "perhaps", "")->weak);
  assert_int_equal(file.num_undefined, 3);
  size_t size = 0;
  const char *text = pega_elf_symbol_bytes(&file, "small_text", &size);
  assert_non_null(text);
  assert_true(size >= sizeof "the bytes of a symbol");
  assert_string_equal(text, "the bytes of a symbol");
  assert_null(pega_elf_symbol_bytes(&file, "small_", &size));
  assert_null(pega_elf_symbol_bytes(&file, "other", &size));
  pega_elf_free(&file);
  assert_int_equal(pega_elf_read_interface(path, &file, NULL), PEGA_OK);
  assert_null(file.bytes);
  assert_int_equal(file.num_defined, 3);
  assert_int_equal(file.num_undefined, 3);
  pega_elf_free(&file);
}

static void test_whole(void **state) {
  (void)state;
  check_small(SMALL);
  check_small(SMALL_SYSV);
}

static void test_versions(void **state) {
  (void)state;
  pega_elf file;
  assert_int_equal(pega_elf_read(OTHER, &file, NULL), PEGA_OK);
  assert_true(find(file.defined, file.num_defined, "other", "OTHER_1")->hidden_version);
  assert_false(find(file.defined, file.num_defined, "other", "OTHER_2")->hidden_version);
  (void)find(file.defined, file.num_defined, "other_plain", "OTHER_1");
  assert_int_equal(file.num_defined, 3); /* the versions' own symbols do not count */
  assert_string_equal(pega_elf_find_defined(&file, "other")->version, "OTHER_2");
  assert_null(pega_elf_find_defined(&file, "othe"));
  pega_elf_free(&file);
}

/* A symbol with a hidden version alone is there, and is none that its name finds. */
static void test_hidden_versions(void **state) {
  (void)state;
  pega_elf file;
  assert_int_equal(pega_elf_read(HIDDEN, &file, NULL), PEGA_OK);
  assert_true(find(file.defined, file.num_defined, "hidden_oldest", "HIDDEN_1")->oldest_version);
  assert_false(find(file.defined, file.num_defined, "hidden_newer", "HIDDEN_2")->oldest_version);
  assert_null(pega_elf_find_defined(&file, "hidden_oldest"));
  assert_null(pega_elf_find_defined(&file, "hidden_newer"));
  pega_elf_free(&file);
}

/* Its table of hashes has no symbol in it. */
static void test_defines_nothing(void **state) {
  (void)state;
  pega_elf file;
  assert_int_equal(pega_elf_read(SILENT, &file, NULL), PEGA_OK);
  assert_int_equal(file.num_defined, 0);
  assert_int_equal(file.num_undefined, 2);
  (void)find(file.undefined, file.num_undefined, "other", "OTHER_2");
  pega_elf_free(&file);
}

/* ---- Changed copies ---- */

static Elf64_Ehdr *header_of(const bytes *file) { return (Elf64_Ehdr *)(void *)file->data; }

static Elf64_Phdr *segment_of(const bytes *file, uint32_t type) {
  Elf64_Phdr *segments = (Elf64_Phdr *)(void *)(file->data + header_of(file)->e_phoff);
  for (int i = 0; i < header_of(file)->e_phnum; ++i) {
    if (segments[i].p_type == type) return &segments[i];
  }
  fail_msg("no segment of type %u", type);
  return NULL;
}

static Elf64_Dyn *entry_of(const bytes *file, int64_t tag) {
  Elf64_Dyn *entry = (Elf64_Dyn *)(void *)(file->data + segment_of(file, PT_DYNAMIC)->p_offset);
  for (; entry->d_tag != DT_NULL; ++entry) {
    if (entry->d_tag == tag) return entry;
  }
  fail_msg("no dynamic entry %lld", (long long)tag);
  return NULL;
}

/* The fixtures' first segment begins with the file: an address in it is its place. */
static void *at(const bytes *file, uint64_t address) { return file->data + address; }

/* Expects a refusal with `text`, and that both ways of reading agree. */
static void refused(const char *path, pega_status expected, const char *text) {
  for (int i = 0; i < 2; ++i) {
    pega_elf file;
    pega_error error = PEGA_ERROR_INIT;
    pega_status status =
        i == 0 ? pega_elf_read(path, &file, &error) : pega_elf_read_interface(path, &file, &error);
    if (status == PEGA_OK) {
      status = pega_elf_check_loadable(&file, &error);
      pega_elf_free(&file);
    }
    if (status != expected || strstr(pega_error_message(&error), text) == NULL) {
      fail_msg("expected %s: \"%s\", got %s: \"%s\"", pega_status_name(expected), text,
               pega_status_name(status), pega_error_message(&error));
    }
    /* What was read is told by its full path. */
    assert_true(path[0] == '\0' || strlen(path) >= PATH_MAX ||
                pega_error_message(&error)[0] == '/');
    pega_error_clear(&error);
  }
}

static void refused_bytes(bytes *file, const char *text) {
  bytes_write(BROKEN, file->data, file->size);
  refused(BROKEN, PEGA_ERROR_FORMAT, text);
  bytes_free(file);
  *file = bytes_read(SMALL);
}

/* Without section headers, as strippers of the thorough kind leave it. */
static void test_without_sections(void **state) {
  (void)state;
  bytes file = bytes_read(SMALL);
  size_t end = 0;
  Elf64_Phdr *segments = (Elf64_Phdr *)(void *)(file.data + header_of(&file)->e_phoff);
  for (int i = 0; i < header_of(&file)->e_phnum; ++i) {
    if (segments[i].p_offset + segments[i].p_filesz > end) {
      end = segments[i].p_offset + segments[i].p_filesz;
    }
  }
  header_of(&file)->e_shoff = 0;
  header_of(&file)->e_shnum = 0;
  header_of(&file)->e_shstrndx = 0;
  assert_true(end < file.size);
  bytes_write(SCRATCH "/sections.so", file.data, end);
  check_small(SCRATCH "/sections.so");
  bytes_free(&file);
}

static void test_no_files(void **state) {
  (void)state;
  char path[PATH_MAX + 8];
  memset(path, 'x', sizeof path);
  path[sizeof path - 1] = '\0';
  refused("", PEGA_ERROR_INVALID_ARGUMENT, "is empty");
  refused(path, PEGA_ERROR_INVALID_ARGUMENT, "longer than");
  refused("/nowhere/a.so", PEGA_ERROR_NOT_FOUND, "No such file");
  refused(SCRATCH, PEGA_ERROR_FORMAT, "it is a folder");
  (void)unlink(SCRATCH "/pipe");
  assert_int_equal(mkfifo(SCRATCH "/pipe", 0600), 0);
  refused(SCRATCH "/pipe", PEGA_ERROR_FORMAT, "no regular file");
  refused("/dev/null", PEGA_ERROR_FORMAT, "no regular file");
  bytes_write(BROKEN, "", 0);
  refused(BROKEN, PEGA_ERROR_FORMAT, "not a shared library");
  bytes_write(BROKEN, "\177", 1);
  refused(BROKEN, PEGA_ERROR_FORMAT, "it is no ELF file");
  bytes_write(BROKEN, "#!/bin/sh\n", 10);
  refused(BROKEN, PEGA_ERROR_FORMAT, "it is no ELF file");
}

static void test_not_loadable(void **state) {
  (void)state;
  bytes file = bytes_read(SMALL);
  const uint16_t other = header_of(&file)->e_machine == EM_AARCH64 ? EM_X86_64 : EM_AARCH64;
  header_of(&file)->e_machine = other;
  refused_bytes(&file, other == EM_AARCH64 ? "wrong architecture: the file is for aarch64"
                                           : "wrong architecture: the file is for x86-64");
  header_of(&file)->e_machine = 190;
  refused_bytes(&file, "the file is for CUDA (a cubin)");
  header_of(&file)->e_type = ET_CORE;
  refused_bytes(&file, "ELF type 4, expected 3");
  refused(OBJECT, PEGA_ERROR_FORMAT, "ELF type 1, an object file, expected 3");
  refused("/proc/self/exe", PEGA_ERROR_FORMAT, "");
  header_of(&file)->e_phnum = 0;
  refused_bytes(&file, "no program headers");
  segment_of(&file, PT_DYNAMIC)->p_type = PT_NULL;
  refused_bytes(&file, "no dynamic section");
  entry_of(&file, DT_RUNPATH)->d_un.d_val = DF_1_PIE;
  entry_of(&file, DT_RUNPATH)->d_tag = DT_FLAGS_1;
  refused_bytes(&file, "marked as a program");
  bytes_free(&file);
}

static void test_damaged(void **state) {
  (void)state;
  bytes file = bytes_read(SMALL);
  file.size = 40;
  refused_bytes(&file, "cut off: it ends within its ELF header");
  file.data[EI_CLASS] = 9;
  refused_bytes(&file, "unknown class");
  header_of(&file)->e_shoff = file.size;
  refused_bytes(&file, "cut off: its table of sections ends past the file's");
  header_of(&file)->e_shoff = UINT64_MAX - 64;
  refused_bytes(&file, "cut off: its table of sections");
  header_of(&file)->e_phentsize = 32;
  refused_bytes(&file, "program headers are of 32 bytes each, expected 56");
  segment_of(&file, PT_LOAD)->p_filesz = file.size + 1;
  refused_bytes(&file, "cut off: segment");
  segment_of(&file, PT_LOAD)->p_offset = UINT64_MAX;
  refused_bytes(&file, "cut off: segment");
  segment_of(&file, PT_DYNAMIC)->p_vaddr = UINT64_MAX - 8;
  refused_bytes(&file, "dynamic section lies outside its segments");
  entry_of(&file, DT_STRTAB)->d_un.d_val = UINT64_MAX;
  refused_bytes(&file, "its table of names");
  entry_of(&file, DT_STRSZ)->d_un.d_val = UINT64_MAX;
  refused_bytes(&file, "its table of names, 18446744073709551615 bytes, lies outside");
  entry_of(&file, DT_STRSZ)->d_un.d_val -= 1;
  refused_bytes(&file, "");
  *((char *)at(&file, entry_of(&file, DT_STRTAB)->d_un.d_val +
                          entry_of(&file, DT_STRSZ)->d_un.d_val - 1)) = 'x';
  refused_bytes(&file, "its table of names does not end with a 0");
  entry_of(&file, DT_NEEDED)->d_un.d_val = 1 << 20;
  refused_bytes(&file, "a name of its dynamic section is at 1048576 of");
  entry_of(&file, DT_SYMENT)->d_un.d_val = 16;
  refused_bytes(&file, "its symbols are of 16 bytes each, expected 24");
  entry_of(&file, DT_SYMTAB)->d_un.d_val = UINT64_MAX - 100;
  refused_bytes(&file, "symbols lie outside its segments");
  entry_of(&file, DT_GNU_HASH)->d_un.d_val = UINT64_MAX - 2;
  refused_bytes(&file, "its table of hashes does not fit");
  *((uint32_t *)at(&file, entry_of(&file, DT_GNU_HASH)->d_un.d_val)) = UINT32_MAX;
  refused_bytes(&file, "its table of hashes does not fit");
  ((Elf64_Sym *)at(&file, entry_of(&file, DT_SYMTAB)->d_un.d_val))[1].st_name = 1 << 24;
  refused_bytes(&file, "the name of symbol 1 is at 16777216 of");
  entry_of(&file, DT_VERSYM)->d_un.d_val = UINT64_MAX - 1;
  refused_bytes(&file, "the versions of its symbols lie outside");
  entry_of(&file, DT_VERNEED)->d_un.d_val = UINT64_MAX - 1;
  refused_bytes(&file, "the versions that it needs lie outside");
  ((Elf64_Verneed *)at(&file, entry_of(&file, DT_VERNEED)->d_un.d_val))->vn_next = 1 << 20;
  refused_bytes(&file, "the versions that it needs end outside");
  ((Elf64_Verneed *)at(&file, entry_of(&file, DT_VERNEED)->d_un.d_val))->vn_file = 1 << 20;
  refused_bytes(&file, "a version of its symbols has no name");
  ((Elf64_Verdef *)at(&file, entry_of(&file, DT_VERDEF)->d_un.d_val))->vd_next = 1 << 20;
  refused_bytes(&file, "the versions that it defines end outside");
  bytes_free(&file);
  /* The other table of hashes says how many there are. */
  file = bytes_read(SMALL_SYSV);
  ((uint32_t *)at(&file, entry_of(&file, DT_HASH)->d_un.d_val))[1] = UINT32_MAX;
  refused_bytes(&file, "it has 4294967295 symbols, expected at most");
  bytes_free(&file);
  file = bytes_read(SMALL_SYSV);
  ((uint32_t *)at(&file, entry_of(&file, DT_HASH)->d_un.d_val))[1] = 1 << 21;
  refused_bytes(&file, "symbols lie outside its segments");
  bytes_free(&file);
}

static void test_object_file(void **state) {
  (void)state;
  pega_elf file;
  assert_int_equal(pega_elf_read(OBJECT, &file, NULL), PEGA_OK);
  assert_int_equal(file.type, ET_REL);
  (void)find(file.defined, file.num_defined, "small_call", "");
  (void)find(file.undefined, file.num_undefined, "other", "");
  assert_true(find(file.undefined, file.num_undefined, "perhaps", "")->weak);
  pega_elf_free(&file);
  bytes object = bytes_read(OBJECT);
  Elf64_Shdr *sections = (Elf64_Shdr *)(void *)(object.data + header_of(&object)->e_shoff);
  for (int i = 0; i < header_of(&object)->e_shnum; ++i) {
    if (sections[i].sh_type == SHT_SYMTAB) sections[i].sh_size = 1 << 30;
  }
  refused_bytes(&object, "cut off: section");
  bytes_free(&object);
}

/* ---- Every byte ---- */

/* A file that is changed in place; whatever it became, reading it ends. */
static pega_status read_open(void) {
  pega_elf file;
  pega_error error = PEGA_ERROR_INIT;
  pega_status status = pega_elf_read(BROKEN, &file, &error);
  if (status == PEGA_OK) {
    for (int32_t i = 0; i < file.num_defined; ++i) {
      size_t size = 0;
      const unsigned char *found = pega_elf_symbol_bytes(&file, file.defined[i].name, &size);
      assert_true(found == NULL || (found >= file.bytes && found + size <= file.bytes + file.size));
    }
    (void)pega_elf_check_loadable(&file, NULL);
  } else {
    assert_int_equal(status, PEGA_ERROR_FORMAT);
    assert_true(strlen(pega_error_message(&error)) > strlen(BROKEN));
  }
  pega_elf_free(&file);
  pega_error_clear(&error);
  return status;
}

static void every_length(const char *path) {
  bytes file = bytes_read(path);
  bytes_write(BROKEN, file.data, file.size);
  for (size_t size = file.size; size-- > 0;) {
    assert_int_equal(truncate(BROKEN, (off_t)size), 0);
    assert_int_not_equal(read_open(), PEGA_OK);
  }
  bytes_free(&file);
}

static void test_every_length(void **state) {
  (void)state;
  every_length(SMALL);
  every_length(OBJECT);
}

static void every_byte(const char *path) {
  static const unsigned char masks[] = {0x01, 0x80, 0xff};
  bytes file = bytes_read(path);
  bytes_write(BROKEN, file.data, file.size);
  const int fd = open(BROKEN, O_WRONLY | O_CLOEXEC);
  assert_true(fd >= 0);
  int refusals = 0;
  for (size_t i = 0; i < file.size; ++i) {
    for (int k = 0; k < 3; ++k) {
      const unsigned char broken = file.data[i] ^ masks[k];
      assert_int_equal(pwrite(fd, &broken, 1, (off_t)i), 1);
      refusals += read_open() != PEGA_OK;
    }
    assert_int_equal(pwrite(fd, &file.data[i], 1, (off_t)i), 1);
  }
  assert_int_equal(close(fd), 0);
  assert_int_equal(read_open(), PEGA_OK);
  assert_true(refusals > 200);
  bytes_free(&file);
}

static void test_every_byte(void **state) {
  (void)state;
  every_byte(SMALL);
  every_byte(SMALL_SYSV);
  every_byte(OBJECT);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_whole),
      cmocka_unit_test(test_versions),
      cmocka_unit_test(test_hidden_versions),
      cmocka_unit_test(test_defines_nothing),
      cmocka_unit_test(test_without_sections),
      cmocka_unit_test(test_no_files),
      cmocka_unit_test(test_not_loadable),
      cmocka_unit_test(test_damaged),
      cmocka_unit_test(test_object_file),
      cmocka_unit_test(test_every_length),
      cmocka_unit_test(test_every_byte),
  };
  return cmocka_run_group_tests_name("artifact.elf", tests, NULL, NULL);
}
