/* SPDX-License-Identifier: Apache-2.0 */
/* What a shared library needs is found, or is missing and nothing is loaded. Each case runs in a process of
 * its own: what one loads would be there for the next. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../core/support.h"
#include "module_loader.h"

static const char *const kNone[] = {NULL};
static const char *const kLibraries[] = {FIXTURES "/libraries", NULL};

/* Runs a test in a child, whose failure is this one's. */
static void apart(void (*run)(void)) {
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    run();
    fflush(NULL);
    _exit(0);
  }
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
}

#define CHECK(condition)                                              \
  do {                                                                \
    if (!(condition)) {                                               \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      _exit(1);                                                       \
    }                                                                 \
  } while (0)

static bool ran(const char *part) {
  char name[128];
  snprintf(name, sizeof name, "PEGA_TEST_RAN_%s", part);
  return getenv(name) != NULL;
}

/* The file is refused with these words, and no code of it ran. */
static void refused(const char *file, const char *part, const char *const *folders,
                    pega_status expected, const char *const *words) {
  pega_error error = PEGA_ERROR_INIT;
  pega_artifact *artifact = NULL;
  CHECK(module_loader_add(NULL, &error) == PEGA_OK);
  pega_status got = module_open(file, folders, 0, &artifact, &error);
  if (got != expected) fprintf(stderr, "%d: %s\n", got, pega_error_message(&error));
  CHECK(got == expected);
  CHECK(artifact == NULL);
  for (; *words != NULL; ++words) {
    if (strstr(pega_error_message(&error), *words) == NULL) {
      fprintf(stderr, "no \"%s\" in: %s\n", *words, pega_error_message(&error));
      _exit(1);
    }
  }
  CHECK(!ran(part));
  CHECK(!ran("chain_b") && !ran("chain_c") && !ran("ring_a") && !ran("ring_b"));
  pega_error_clear(&error);
}

static int64_t value_of(const char *file, const char *const *folders) {
  pega_error error = PEGA_ERROR_INIT;
  pega_artifact *artifact = NULL;
  pega_function *function = NULL;
  pega_value result = pega_value_none();
  pega_status status = module_open(file, folders, 0, &artifact, &error);
  if (status != PEGA_OK) fprintf(stderr, "%s\n", pega_error_message(&error));
  CHECK(status == PEGA_OK);
  CHECK(pega_artifact_get(artifact, "value", &function, &error) == PEGA_OK);
  CHECK(pega_function_call(function, NULL, 0, &result, &error) == PEGA_OK);
  pega_function_release(function);
  pega_artifact_release(artifact);
  return result.as.i64;
}

static void run_missing_library(void) {
  const char *const words[] = {"chain_a.so needs library 'libchain_b.so', which was not found",
                               "looked in the process, no given folders", "the system's folders",
                               "search path", NULL};
  refused("chain_a.so", "chain_a", kNone, PEGA_ERROR_NOT_FOUND, words);
}

static void run_missing_further_down(void) {
  const char *const words[] = {"partial/libchain_b.so needs library 'libchain_c.so'", NULL};
  const char *const folders[] = {FIXTURES "/partial", NULL};
  refused("chain_a.so", "chain_a", folders, PEGA_ERROR_NOT_FOUND, words);
}

static void run_missing_symbol(void) {
  const char *const words[] = {"lacks_symbol.so needs the symbol not_defined_anywhere",
                               "nothing that is loaded or would be defines it", NULL};
  refused("lacks_symbol.so", "lacks_symbol", kLibraries, PEGA_ERROR_SYMBOL, words);
}

static void run_missing_version(void) {
  const char *const words[] = {"wants_version.so needs version PART_2.0 of libversioned.so",
                               "old/libversioned.so has it up to PART_1.0", "install a newer",
                               NULL};
  const char *const folders[] = {FIXTURES "/old", NULL};
  refused("wants_version.so", "wants_version", folders, PEGA_ERROR_VERSION, words);
}

/* The file names a pipe as a library: it is not waited for, nor opened at all. */
static void run_pipe(void) {
  const char *const words[] = {"wants_pipe.so needs library '" FIXTURES "/pipe'",
                               "it is no regular file", NULL};
  char event[sizeof(struct inotify_event) + 256];
  unlink(FIXTURES "/pipe");
  CHECK(mkfifo(FIXTURES "/pipe", 0600) == 0);
  int watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  CHECK(watch >= 0 && inotify_add_watch(watch, FIXTURES "/pipe", IN_OPEN) >= 0);
  alarm(60); /* this one would wait for ever */
  refused("wants_pipe.so", "wants_pipe", kNone, PEGA_ERROR_FORMAT, words);
  CHECK(read(watch, event, sizeof event) < 0);
  close(watch);
  unlink(FIXTURES "/pipe");
}

/* Symbols without a default version: what was linked without versions gets the oldest, and no other. */
static void run_hidden_version(void) {
  const char *const words[] = {"wants_hidden_newer.so needs the symbol hidden_newer", NULL};
  const char *const folders[] = {FIXTURES, NULL};
  refused("wants_hidden_newer.so", "wants_hidden_newer", folders, PEGA_ERROR_SYMBOL, words);
  CHECK(value_of("wants_hidden_oldest.so", folders) == 11);
  CHECK(dlopen(FIXTURES "/wants_hidden_newer.so", RTLD_NOW) == NULL);
}

static void run_wrong_architecture(void) {
  const char *const words[] = {"wrong architecture", NULL};
  refused("foreign.so", "foreign", kNone, PEGA_ERROR_FORMAT, words);
}

static void run_wrong_library(void) {
  const char *const words[] = {
      "needs library 'libchain_b.so', which was not found; refused: ", "wrong architecture", NULL};
  const char *const folders[] = {FIXTURES "/wrong", NULL};
  refused("chain_a.so", "chain_a", folders, PEGA_ERROR_FORMAT, words);
}

static void run_other_soname(void) {
  const char *const words[] = {"refused: ", "DT_SONAME, is 'libother.so'", NULL};
  const char *const folders[] = {FIXTURES "/renamed", NULL};
  refused("chain_a.so", "chain_a", folders, PEGA_ERROR_FORMAT, words);
}

static void run_ring_refused(void) {
  const char *const words[] = {"needs it in turn", "RUNPATH $ORIGIN", NULL};
  const char *const folders[] = {FIXTURES "/ring", NULL};
  refused("wants_ring.so", "wants_ring", folders, PEGA_ERROR_NOT_FOUND, words);
}

static void run_ring_with_runpath(void) {
  const char *const folders[] = {FIXTURES "/ring_runpath", NULL};
  CHECK(module_loader_add(NULL, NULL) == PEGA_OK);
  CHECK(value_of("wants_ring.so", folders) == 11);
  CHECK(ran("ring_runpath_a") && ran("ring_runpath_b"));
}

static void run_found(void) {
  CHECK(module_loader_add(NULL, NULL) == PEGA_OK);
  CHECK(value_of("chain_a.so", kLibraries) == 12);
  CHECK(ran("chain_a") && ran("chain_b") && ran("chain_c"));
  /* Now they are in the process. */
  CHECK(value_of("chain_a.so", kNone) == 12);
}

/* A symbol of a library that the loader names, which the file does not. */
static void run_extra(void) {
  CHECK(module_loader_add("libchain_c.so", NULL) == PEGA_OK);
  CHECK(value_of("wants_extra.so", kLibraries) == 11);
}

/* The same, where the process has that library for itself alone: it becomes one for all. */
static void run_extra_local(void) {
  CHECK(module_loader_add("libchain_c.so", NULL) == PEGA_OK);
  CHECK(dlopen(FIXTURES "/libraries/libchain_c.so", RTLD_NOW | RTLD_LOCAL) != NULL);
  CHECK(dlsym(RTLD_DEFAULT, "chain_c_value") == NULL);
  CHECK(value_of("wants_extra.so", kNone) == 11);
  CHECK(dlsym(RTLD_DEFAULT, "chain_c_value") != NULL);
  CHECK(value_of("wants_extra.so", kNone) == 11);
}

/* A library that the process has for itself alone and nobody names provides nothing. */
static void run_local_is_not_counted(void) {
  const char *const words[] = {"wants_extra.so needs the symbol chain_c_value", NULL};
  CHECK(dlopen(FIXTURES "/libraries/libchain_c.so", RTLD_NOW | RTLD_LOCAL) != NULL);
  CHECK(unsetenv("PEGA_TEST_RAN_chain_c") == 0);
  refused("wants_extra.so", "wants_extra", kNone, PEGA_ERROR_SYMBOL, words);
}

/* What names it gets it, as it would from the dynamic loader. */
static void run_local_is_named(void) {
  CHECK(module_loader_add(NULL, NULL) == PEGA_OK);
  CHECK(dlopen(FIXTURES "/libraries/libchain_c.so", RTLD_NOW | RTLD_LOCAL) != NULL);
  CHECK(value_of("chain_a.so", kLibraries) == 12);
  CHECK(dlsym(RTLD_DEFAULT, "chain_c_value") == NULL);
}

static void run_extra_missing(void) {
  pega_error error = PEGA_ERROR_INIT;
  pega_artifact *artifact = NULL;
  CHECK(module_loader_add("libchain_c.so", NULL) == PEGA_OK);
  CHECK(module_open("wants_extra.so", kNone, 0, &artifact, &error) == PEGA_ERROR_NOT_FOUND);
  CHECK(strstr(error.message, "library 'libchain_c.so' is needed by the format 'test module'"));
  CHECK(strstr(error.message, "chain_c_value") == NULL); /* what it would define is not told of */
  CHECK(!ran("wants_extra"));
  pega_error_clear(&error);
}

/* What is found missing is what the dynamic loader finds missing. */
static void run_agrees(void) {
  static const char *const files[] = {"chain_a.so", "lacks_symbol.so", "wants_version.so",
                                      "wants_ring.so", "wants_extra.so"};
  CHECK(module_loader_add(NULL, NULL) == PEGA_OK);
  for (size_t i = 0; i < sizeof files / sizeof *files; ++i) {
    pega_artifact *artifact = NULL;
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", FIXTURES, files[i]);
    CHECK(module_open(files[i], kNone, 0, &artifact, NULL) != PEGA_OK);
    CHECK(dlopen(path, RTLD_NOW) == NULL);
  }
}

/* A variable of each thread's own, of a library that is in the process. */
static void run_thread_local(void) {
  pega_error error = PEGA_ERROR_INIT;
  pega_value about = pega_value_none();
  pega_artifact_options options = PEGA_ARTIFACT_OPTIONS_INIT;
  options.path = FIXTURES "/artifact_tls_user.so";
  CHECK(dlopen(FIXTURES "/artifact_tls_owner.so", RTLD_NOW | RTLD_GLOBAL) != NULL);
  CHECK(module_loader_add(NULL, NULL) == PEGA_OK);
  CHECK(pega_artifact_inspect(&options, &about, &error) == PEGA_OK);
  const pega_value *symbols = pega_map_get(&about, "symbols");
  bool found = false;
  for (int64_t i = 0; i < pega_value_size(symbols); ++i) {
    const pega_value *symbol = pega_array_get(symbols, i);
    if (strcmp(pega_value_as_string(pega_map_get(symbol, "name"), NULL), "tls_value") != 0)
      continue;
    found = true;
    const char *library = pega_value_as_string(pega_map_get(symbol, "library"), NULL);
    CHECK(strstr(library, "artifact_tls_owner.so") != NULL);
  }
  CHECK(found);
  pega_value_release(&about);
}

static void write_file(const char *path, const char *text) {
  FILE *file = fopen(path, "w");
  CHECK(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

#define WHEELS FIXTURES "/wheels"

/* A library's wheel says which versions it works with of the one that the loader chose. */
static void run_wheels(void) {
  static const struct {
    const char *asked;
    const char *found;
    bool fits;
  } table[] = {
      {"<0.1.13,>=0.1.11", "0.1.12", true},
      {"<0.1.13,>=0.1.11", "0.1.0", false},
      {"<0.1.13,>=0.1.11", "0.1.13", false},
      {"<0.1.13,>=0.1.11", "0.1.15.post2", false},
      {"<0.1.13,>=0.1.11", "0.1.11", true},
      {"<0.1.13,>=0.1.11", "0.1.12.post4", true},
      {"<0.1.13", "0.1.13rc1", false},
      {"<0.1.13rc2", "0.1.13rc1", true},
      {">0.1.12", "0.1.12.post1", false},
      {">0.1.12", "0.1.13", true},
      {">=0.1.9", "0.1.10", true},
      {">=1.0", "1", true},
      {">=1.0", "1.0.dev3", false},
      {">=1.0", "1.0a1", false},
      {"<=1.0", "1.0.post1", false},
      {"==1.0", "1.0.0+cu130", true},
      {"==1.0", "1.0.1", false},
      {"==1.*", "1.7", true},
      {"==1.*", "2.0", false},
      {"!=1.2.*", "1.2.9", false},
      {"!=1.2", "1.2.1", true},
      {"~=1.4", "1.9", true},
      {"~=1.4", "2.0", false},
      {"~=1.4.2", "1.5", false},
      {"~=1.4.2", "1.4.1", false},
      {" (<2)", "2.1", false},
      {"[extra] >= 3 , <4", "4.1", false},
      {"<2; extra == 'x'", "3.0", true},
      {"===5", "6", true},
      {"<1!2", "3", true},
      {"<2", "what", true},
      {"", "3", true},
      {" @ file:///nowhere", "3", true},
  };
  static const char *const folders[] = {WHEELS, NULL};
  CHECK(system("mkdir -p " WHEELS "/b-1.dist-info " WHEELS "/c-1.dist-info && cp " FIXTURES
               "/libraries/libchain_?.so " WHEELS) == 0);
  write_file(WHEELS "/b-1.dist-info/RECORD", "libchain_b.so,,\n");
  write_file(WHEELS "/c-1.dist-info/RECORD", "libchain_c.so,,\n");
  pega_error error = PEGA_ERROR_INIT;
  CHECK(module_loader_add("libchain_c.so", &error) == PEGA_OK);
  pega_artifact_options options = PEGA_ARTIFACT_OPTIONS_INIT;
  options.path = FIXTURES "/chain_a.so";
  options.search_paths = folders;
  options.num_search_paths = 1;
  for (int i = 0; i < COUNT(table); ++i) {
    char text[512];
    snprintf(text, sizeof text, "Name: chain-b\nVersion: 1\nRequires-Dist: Chain_C%s\n\n",
             table[i].asked);
    write_file(WHEELS "/b-1.dist-info/METADATA", text);
    snprintf(text, sizeof text, "Name: chain-c\nVersion: %s\n\n", table[i].found);
    write_file(WHEELS "/c-1.dist-info/METADATA", text);
    pega_value about = pega_value_none();
    CHECK(pega_artifact_inspect(&options, &about, &error) == PEGA_OK);
    const pega_value *missing = pega_map_get(&about, "missing");
    if ((pega_value_size(missing) == 0) != table[i].fits) {
      fprintf(stderr, "%s of %s\n", table[i].asked, table[i].found);
      _exit(1);
    }
    pega_value_release(&about);
  }
  write_file(WHEELS "/b-1.dist-info/METADATA",
             "Name: chain-b\nVersion: 1\nRequires-Dist: chain-c>=4\n\n");
  pega_artifact *artifact = NULL;
  CHECK(module_open("chain_a.so", folders, 0, &artifact, &error) == PEGA_ERROR_VERSION);
  CHECK(strstr(pega_error_message(&error), "(of the Python wheel chain-b 1) asks for chain-c>=4") !=
        NULL);
  CHECK(strstr(pega_error_message(&error), "(of the Python wheel chain-c 3)") != NULL);
  CHECK(!ran("chain_b") && !ran("chain_c"));
  pega_error_clear(&error);
}

/* Makes the folders above a file. */
static void make_folders(char *path) {
  for (char *at = path + 1; (at = strchr(at, '/')) != NULL; ++at) {
    *at = '\0';
    mkdir(path, 0700);
    *at = '/';
  }
}

static void run_open_wants_place(void) {
  CHECK(module_loader_add(NULL, NULL) == PEGA_OK);
  value_of("wants_place.so", kNone);
}

static void run_load_wants_place(void) {
  CHECK(dlopen(FIXTURES "/wants_place.so", RTLD_NOW | RTLD_LOCAL) != NULL);
}

/* Whether it ends well in a process of its own. */
static bool works(void (*run)(void)) {
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    freopen("/dev/null", "w", stderr);
    run();
    _exit(0);
  }
  int status = 1;
  return waitpid(child, &status, 0) == child && status == 0;
}

/* A library is found in a folder where the dynamic loader finds it, and in no other. */
static void test_places(void **state) {
  const char *platform = (const char *)getauxval(AT_PLATFORM);
  const char *const places[] = {"lib",
                                "lib64",
                                "lib/x86_64-linux-gnu",
                                "lib/aarch64-linux-gnu",
                                platform == NULL ? "none" : platform,
                                "haswell",
                                "own",
                                "own/glibc-hwcaps",
                                "own/glibc-hwcaps/x86-64-v1",
                                "own/glibc-hwcaps/x86-64-v2",
                                "own/glibc-hwcaps/x86-64-v3",
                                "own/glibc-hwcaps/x86-64-v4",
                                "elsewhere"};
  int found = 0;
  (void)state;
  for (size_t i = 0; i < sizeof places / sizeof *places; ++i) {
    char path[4096];
    snprintf(path, sizeof path, "%s/places/%s/libplace.so", FIXTURES, places[i]);
    make_folders(path);
    unlink(path);
    assert_int_equal(symlink(FIXTURES "/stand_in/libplace.so", path), 0);
    bool by_loader = works(run_load_wants_place);
    bool by_us = works(run_open_wants_place);
    unlink(path);
    if (by_loader != by_us) {
      fail_msg("%s: found by the dynamic loader: %d, by this library: %d", path, by_loader, by_us);
    }
    found += by_us;
  }
  assert_true(found >= 3); /* $LIB, $PLATFORM, a folder of its own */
}

/* The file's own folders come before the system's. */
static void run_ranks(void) {
  CHECK(module_loader_add(NULL, NULL) == PEGA_OK);
  CHECK(value_of("wants_ranked.so", kNone) == 11);
}

#define CASE(name)                        \
  static void test_##name(void **state) { \
    (void)state;                          \
    apart(run_##name);                    \
  }
CASE(missing_library)
CASE(missing_further_down)
CASE(missing_symbol)
CASE(missing_version)
CASE(pipe)
CASE(hidden_version)
CASE(wrong_architecture)
CASE(wrong_library)
CASE(other_soname)
CASE(thread_local)
CASE(wheels)
CASE(ring_refused)
CASE(ring_with_runpath)
CASE(found)
CASE(extra)
CASE(extra_local)
CASE(local_is_not_counted)
CASE(local_is_named)
CASE(extra_missing)
CASE(agrees)
CASE(ranks)

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_missing_library),
      cmocka_unit_test(test_missing_further_down),
      cmocka_unit_test(test_missing_symbol),
      cmocka_unit_test(test_missing_version),
      cmocka_unit_test(test_pipe),
      cmocka_unit_test(test_hidden_version),
      cmocka_unit_test(test_wrong_architecture),
      cmocka_unit_test(test_wrong_library),
      cmocka_unit_test(test_other_soname),
      cmocka_unit_test(test_thread_local),
      cmocka_unit_test(test_wheels),
      cmocka_unit_test(test_ring_refused),
      cmocka_unit_test(test_ring_with_runpath),
      cmocka_unit_test(test_found),
      cmocka_unit_test(test_extra),
      cmocka_unit_test(test_extra_local),
      cmocka_unit_test(test_local_is_not_counted),
      cmocka_unit_test(test_local_is_named),
      cmocka_unit_test(test_extra_missing),
      cmocka_unit_test(test_agrees),
      cmocka_unit_test(test_ranks),
      cmocka_unit_test(test_places),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
