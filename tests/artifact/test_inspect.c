/* SPDX-License-Identifier: Apache-2.0 */
/* pega_artifact_inspect(): every kind of file, what is missing, and that no code of a file runs. */
#include <elf.h>
#include <pega/artifact.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bytes.h"

#define COPY SCRATCH "/inspected.so"

static pega_status inspect_in(const char *path, const char *folder, pega_value *out,
                              pega_error *error) {
  pega_artifact_options options = PEGA_ARTIFACT_OPTIONS_INIT;
  options.path = path;
  options.search_paths = &folder;
  options.num_search_paths = folder != NULL;
  *out = pega_value_none();
  return pega_artifact_inspect(&options, out, error);
}

static pega_value inspect(const char *path) {
  pega_value out;
  pega_error error = PEGA_ERROR_INIT;
  if (inspect_in(path, NULL, &out, &error) != PEGA_OK) fail_msg("%s", pega_error_message(&error));
  assert_int_equal(out.kind, PEGA_MAP);
  return out;
}

static const char *text(const pega_value *map, const char *key) {
  const char *found = pega_value_as_string(pega_map_get(map, key), NULL);
  assert_non_null(found);
  return found;
}

static const pega_value *array(const pega_value *map, const char *key) {
  const pega_value *found = pega_map_get(map, key);
  assert_non_null(found);
  assert_int_equal(found->kind, PEGA_ARRAY);
  return found;
}

/* The item of an array of maps whose "name" is `name`. */
static const pega_value *named(const pega_value *map, const char *key, const char *name) {
  const pega_value *all = array(map, key);
  for (int64_t i = 0; i < pega_value_size(all); ++i) {
    const pega_value *one = pega_array_get(all, i);
    if (strcmp(text(one, "name"), name) == 0) return one;
  }
  fail_msg("%s has no %s", key, name);
  return NULL;
}

static bool is_missing(const pega_value *map, const char *part) {
  const pega_value *all = array(map, "missing");
  for (int64_t i = 0; i < pega_value_size(all); ++i) {
    const char *sentence = pega_value_as_string(pega_array_get(all, i), NULL);
    assert_non_null(sentence);
    if (strstr(sentence, part) != NULL) return true;
  }
  return false;
}

static void refused(const char *path, pega_status expected, const char *part) {
  pega_value out;
  pega_error error = PEGA_ERROR_INIT;
  const pega_status status = inspect_in(path, NULL, &out, &error);
  if (status != expected || strstr(pega_error_message(&error), part) == NULL) {
    fail_msg("expected %s: \"%s\", got %s: \"%s\"", pega_status_name(expected), part,
             pega_status_name(status), pega_error_message(&error));
  }
  assert_int_equal(out.kind, PEGA_NONE);
  pega_error_clear(&error);
}

static void test_constructor_does_not_run(void **state) {
  (void)state;
  pega_value about = inspect(ABORTS);
  assert_string_equal(text(&about, "format"), "shared library");
  bool found = false;
  for (int64_t i = 0; i < pega_value_size(array(&about, "exports")); ++i) {
    const char *name = pega_value_as_string(pega_array_get(array(&about, "exports"), i), NULL);
    found = found || strcmp(name, "aborts_function") == 0;
  }
  assert_true(found);
  assert_true(is_missing(&about, "no known format"));
  pega_value_release(&about);
  bytes maps = {NULL, 0};
  char line[512];
  FILE *file = fopen("/proc/self/maps", "r");
  assert_non_null(file);
  while (fgets(line, sizeof line, file) != NULL) assert_null(strstr(line, "artifact_aborts"));
  (void)fclose(file);
  bytes_free(&maps);
}

static void test_needs(void **state) {
  (void)state;
  /* Copied to where its folders lead nowhere. */
  bytes file = bytes_read(SMALL);
  bytes_write(COPY, file.data, file.size);
  pega_value about = inspect(COPY);
  const pega_value *library = named(&about, "libraries", "libartifact_other.so");
  assert_string_equal(text(library, "found"), "");
  assert_string_equal(text(library, "where"), "");
  assert_true(is_missing(&about, "libartifact_other.so"));
  const pega_value *symbol = named(&about, "symbols", "other");
  assert_string_equal(text(symbol, "version"), "OTHER_2");
  assert_string_equal(text(symbol, "library"), "");
  assert_true(pega_map_get(named(&about, "symbols", "perhaps"), "weak")->as.boolean);
  assert_int_equal(pega_map_get(&about, "size")->as.i64, file.size);
  pega_value_release(&about);

  /* Found in a folder that is given. */
  char folder[] = OTHER;
  *strrchr(folder, '/') = '\0';
  pega_error error = PEGA_ERROR_INIT;
  assert_int_equal(inspect_in(COPY, folder, &about, &error), PEGA_OK);
  library = named(&about, "libraries", "libartifact_other.so");
  assert_string_equal(text(library, "where"), "given folder");
  assert_true(pega_map_get(library, "direct")->as.boolean);
  assert_non_null(strstr(text(library, "found"), "/libartifact_other.so"));
  assert_non_null(strstr(text(named(&about, "symbols", "other"), "library"), "artifact_other"));
  assert_false(is_missing(&about, "libartifact_other.so"));
  pega_value_release(&about);

  /* Found through its own RUNPATH. */
  (void)mkdir(SCRATCH "/elsewhere", 0700);
  bytes other = bytes_read(OTHER);
  bytes_write(SCRATCH "/elsewhere/libartifact_other.so", other.data, other.size);
  about = inspect(COPY);
  assert_string_equal(text(named(&about, "libraries", "libartifact_other.so"), "where"), "file");
  pega_value_release(&about);
  assert_int_equal(unlink(SCRATCH "/elsewhere/libartifact_other.so"), 0);
  bytes_free(&file);
  bytes_free(&other);
}

static void test_other_architecture(void **state) {
  (void)state;
  bytes file = bytes_read(SMALL);
  Elf64_Ehdr *header = (Elf64_Ehdr *)(void *)file.data;
  header->e_machine = header->e_machine == EM_AARCH64 ? EM_X86_64 : EM_AARCH64;
  bytes_write(COPY, file.data, file.size);
  pega_value about = inspect(COPY);
  assert_string_equal(text(&about, "architecture"),
                      header->e_machine == EM_AARCH64 ? "aarch64" : "x86-64");
  assert_true(is_missing(&about, "wrong architecture"));
  assert_string_equal(text(named(&about, "libraries", "libartifact_other.so"), "where"),
                      "not looked for");
  (void)named(&about, "symbols", "other");
  assert_false(pega_map_get(&about, "looked_for")->as.boolean);
  pega_value_release(&about);
  bytes_free(&file);
  about = inspect(SMALL);
  assert_true(pega_map_get(&about, "looked_for")->as.boolean);
  pega_value_release(&about);
}

static void test_object_file(void **state) {
  (void)state;
  pega_value about = inspect(OBJECT);
  assert_string_equal(text(&about, "format"), "object file");
  (void)named(&about, "symbols", "other");
  assert_true(is_missing(&about, "an object file"));
  pega_value_release(&about);
}

static void check_kernel(const pega_value *about, int64_t index, const char *kind,
                         const char *target, const char *entry) {
  const pega_value *kernel = pega_array_get(array(about, "kernels"), index);
  assert_non_null(kernel);
  assert_string_equal(text(kernel, "kind"), kind);
  assert_string_equal(text(kernel, "target"), target);
  const pega_value *entries = array(kernel, "entries");
  assert_int_equal(pega_value_size(entries), entry == NULL ? 0 : 2);
  if (entry != NULL) {
    assert_string_equal(pega_value_as_string(pega_array_get(entries, 0), NULL), entry);
  }
}

static void test_gpu_code(void **state) {
  (void)state;
  bytes cubin = {NULL, 0};
  bytes fatbin = {NULL, 0};
  bytes_add_cubin(&cubin, 13, 90, true, "kernel");
  const size_t place = bytes_begin_fatbin(&fatbin);
  bytes_add_fatbin_entry(&fatbin, FATBIN_ELF, 90, FATBIN_A, cubin.data, cubin.size);
  bytes_add_fatbin_entry(&fatbin, FATBIN_PTX, 80, FATBIN_ZSTD, "packed", 6);
  bytes_end_fatbin(&fatbin, place);

  bytes_write(COPY, cubin.data, cubin.size);
  pega_value about = inspect(COPY);
  assert_string_equal(text(&about, "format"), "cubin");
  check_kernel(&about, 0, "cubin", "sm_90a", "kernel");
  assert_true(is_missing(&about, "make a kernel pack of it"));
  pega_value_release(&about);

  bytes_write(COPY, fatbin.data, fatbin.size);
  about = inspect(COPY);
  assert_string_equal(text(&about, "format"), "fatbin");
  check_kernel(&about, 0, "cubin", "sm_90a", "kernel");
  check_kernel(&about, 1, "ptx", "sm_80", NULL);
  assert_true(pega_map_get(pega_array_get(array(&about, "kernels"), 1), "compressed")->as.boolean);
  pega_value_release(&about);

  /* Behind a shared library, as a linker puts it somewhere inside. */
  bytes file = bytes_read(SMALL);
  const size_t behind = file.size;
  bytes_add(&file, fatbin.data, fatbin.size);
  bytes_write(COPY, file.data, file.size);
  about = inspect(COPY);
  assert_string_equal(text(&about, "format"), "shared library");
  check_kernel(&about, 0, "cubin", "sm_90a", "kernel");
  const pega_value *kernel = pega_array_get(array(&about, "kernels"), 0);
  assert_int_equal(pega_map_get(kernel, "offset")->as.i64, behind + 16 + 64);
  assert_true(pega_map_get(kernel, "fatbin")->as.boolean);
  pega_value_release(&about);

  bytes_write(COPY, ".version 8.0\n.target sm_80\n", 27);
  about = inspect(COPY);
  assert_string_equal(text(&about, "format"), "PTX");
  check_kernel(&about, 0, "ptx", "sm_80", NULL);
  pega_value_release(&about);

  bytes_write(COPY, fatbin.data, fatbin.size - 1);
  refused(COPY, PEGA_ERROR_FORMAT, "a fatbin that is cut off or damaged");
  bytes_write(COPY, cubin.data, cubin.size - 1);
  refused(COPY, PEGA_ERROR_FORMAT, "a cubin that is cut off or damaged");
  bytes_free(&file);
  bytes_free(&cubin);
  bytes_free(&fatbin);
}

/* A file made so that looking for GPU code would take for ever: what was left out is told of. */
static void test_search_given_up(void **state) {
  (void)state;
  enum { HEADERS = 300, SECTIONS = 65535 };
  bytes cubin = {NULL, 0};
  bytes file = bytes_read(SMALL);
  bytes_add_cubin(&cubin, 13, 90, true, "kernel");
  const size_t place = file.size;
  bytes_add(&file, NULL, (size_t)(HEADERS + SECTIONS) * 64);
  for (size_t i = 0; i < HEADERS; ++i) {
    const uint64_t sections = (HEADERS - i) * 64;
    const uint16_t count = SECTIONS;
    unsigned char *at = file.data + place + i * 64;
    memcpy(at, cubin.data, 64);
    memcpy(at + 40, &sections, sizeof sections);
    memcpy(at + 60, &count, sizeof count);
  }
  /* The last section of all lies outside. */
  unsigned char *last = file.data + file.size - 64;
  last[4] = 1;
  memset(last + 24, 0xff, 16);
  bytes_add(&file, cubin.data, cubin.size);
  bytes_write(COPY, file.data, file.size);
  pega_value about = inspect(COPY);
  assert_int_equal(pega_value_size(array(&about, "kernels")), 0);
  const pega_value *told = pega_map_get(&about, "kernels_cut_off");
  assert_non_null(told);
  assert_true(told->kind == PEGA_BOOL && told->as.boolean);
  pega_value_release(&about);
  bytes_free(&file);

  file = bytes_read(SMALL);
  bytes_add(&file, cubin.data, cubin.size);
  bytes_write(COPY, file.data, file.size);
  about = inspect(COPY);
  assert_int_equal(pega_value_size(array(&about, "kernels")), 1);
  assert_null(pega_map_get(&about, "kernels_cut_off"));
  pega_value_release(&about);
  bytes_free(&file);
  bytes_free(&cubin);
}

static void test_refused(void **state) {
  (void)state;
  refused("/nowhere/at.all", PEGA_ERROR_NOT_FOUND, "/nowhere/at.all");
  bytes_write(COPY, "\177", 1);
  refused(COPY, PEGA_ERROR_FORMAT, "no ELF file");
  bytes_write(COPY, "", 0);
  refused(COPY, PEGA_ERROR_FORMAT, "empty");
  (void)unlink(SCRATCH "/inspected.pipe");
  assert_int_equal(mkfifo(SCRATCH "/inspected.pipe", 0600), 0);
  refused(SCRATCH "/inspected.pipe", PEGA_ERROR_FORMAT, "no regular file");
  /* A folder may be a pack; this one is none. */
  refused(SCRATCH, PEGA_ERROR_NOT_FOUND, "manifest.json");
  refused("", PEGA_ERROR_INVALID_ARGUMENT, "empty");
  refused(NULL, PEGA_ERROR_INVALID_ARGUMENT, "NULL");
  pega_value out;
  pega_artifact_options options = PEGA_ARTIFACT_OPTIONS_INIT;
  options.path = SMALL;
  assert_int_equal(pega_artifact_inspect(&options, NULL, NULL), PEGA_ERROR_INVALID_ARGUMENT);
  assert_int_equal(pega_artifact_inspect(NULL, &out, NULL), PEGA_ERROR_INVALID_ARGUMENT);
  options.struct_size = 4;
  assert_int_equal(pega_artifact_inspect(&options, &out, NULL), PEGA_ERROR_VERSION);
  pega_error error = PEGA_ERROR_INIT;
  assert_int_equal(inspect_in(SMALL, "/nowhere", &out, &error), PEGA_ERROR_NOT_FOUND);
  pega_error_clear(&error);
}

/* Each length, and each byte of the headers broken: an answer or an error, and nothing else. */
static void test_broken(void **state) {
  (void)state;
  bytes file = bytes_read(SMALL);
  pega_value out;
  for (size_t size = 0; size < file.size; size += 7) {
    bytes_write(COPY, file.data, size);
    pega_error error = PEGA_ERROR_INIT;
    assert_int_equal(inspect_in(COPY, NULL, &out, &error), PEGA_ERROR_FORMAT);
    pega_error_clear(&error);
  }
  const size_t headers = 64 + (size_t)((Elf64_Ehdr *)(void *)file.data)->e_phnum * 56;
  for (size_t i = 0; i < headers; ++i) {
    file.data[i] ^= 0xff;
    bytes_write(COPY, file.data, file.size);
    file.data[i] ^= 0xff;
    pega_error error = PEGA_ERROR_INIT;
    const pega_status status = inspect_in(COPY, NULL, &out, &error);
    assert_true(status == PEGA_OK || status == PEGA_ERROR_FORMAT);
    pega_value_release(&out);
    pega_error_clear(&error);
  }
  bytes_free(&file);
}

/* ---- A loader: what it says is in the description ---- */

static bool recognises(void *self, const pega_artifact_file *file) {
  size_t size = 0;
  const char *found = file->symbol_bytes(file, "small_text", &size);
  (void)self;
  return found != NULL && strcmp(found, "the bytes of a symbol") == 0;
}

static pega_status tell(void *self, const pega_artifact_file *file, pega_value *out,
                        pega_error *error) {
  pega_value functions = pega_value_none();
  pega_value missing = pega_value_none();
  const pega_value name = pega_value_string("small");
  const pega_value sentence = pega_value_string("the loader lacks something");
  (void)self;
  (void)file;
  pega_status status = pega_array_create(&name, 1, &functions, error);
  if (status == PEGA_OK) status = pega_array_create(&sentence, 1, &missing, error);
  const pega_value keys[] = {pega_value_string("functions"), pega_value_string("missing")};
  const pega_value values[] = {functions, missing};
  if (status == PEGA_OK) status = pega_map_create(keys, values, 2, out, error);
  pega_value_release(&functions);
  pega_value_release(&missing);
  return status;
}

static pega_status never_open(void *self, const pega_artifact_file *file,
                              const char *const *libraries, int32_t num_libraries, void **out,
                              pega_error *error) {
  (void)self, (void)file, (void)libraries, (void)num_libraries, (void)out;
  return pega_error_set(error, PEGA_ERROR_INTERNAL, NULL, "opened");
}
static void never_close(void *artifact) { (void)artifact; }
static pega_status never_list(void *artifact, pega_value *out, pega_error *error) {
  (void)artifact, (void)out;
  return pega_error_set(error, PEGA_ERROR_INTERNAL, NULL, "listed");
}
static pega_status never_get(void *artifact, const char *name, pega_function **out,
                             pega_error *error) {
  (void)artifact, (void)name, (void)out;
  return pega_error_set(error, PEGA_ERROR_INTERNAL, NULL, "got");
}

static void test_loader(void **state) {
  (void)state;
  const pega_artifact_loader loader = {
      (uint32_t)sizeof loader,
      0,
      "small format",
      NULL,
      recognises,
      tell,
      never_open,
      never_close,
      never_list,
      never_get,
  };
  assert_int_equal(pega_artifact_add_loader(&loader, NULL), PEGA_OK);
  pega_value about = inspect(SMALL_SYSV);
  assert_string_equal(text(&about, "format"), "small format");
  assert_int_equal(pega_value_size(array(&about, "functions")), 1);
  assert_true(is_missing(&about, "the loader lacks something"));
  assert_false(is_missing(&about, "no known format"));
  pega_value_release(&about);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_constructor_does_not_run),
      cmocka_unit_test(test_needs),
      cmocka_unit_test(test_other_architecture),
      cmocka_unit_test(test_object_file),
      cmocka_unit_test(test_gpu_code),
      cmocka_unit_test(test_search_given_up),
      cmocka_unit_test(test_refused),
      cmocka_unit_test(test_broken),
      cmocka_unit_test(test_loader),
  };
  return cmocka_run_group_tests_name("artifact.inspect", tests, NULL, NULL);
}
