/* SPDX-License-Identifier: Apache-2.0 */
/* Functions of packs by name: found, made when they are first asked for, registered without being made. */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "build.h"

static parts good;
static bytes file;
static file_places places;

static int set_up(void **state) {
  (void)state;
  good = build_parts();
  file = build_file_at(&good, &places);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  bytes_free(&file);
  build_free(&good);
  return 0;
}

static pega_pack *open_good(void) {
  pega_error error = PEGA_ERROR_INIT;
  pega_pack *pack = NULL;
  EXPECT_OK(build_open(&file, PEGA_PACK_STATIC, &pack, &error), &error);
  return pack;
}

static bool is_listed(const char *name) {
  pega_value names = pega_value_none();
  bool found = false;
  assert_int_equal(pega_registry_list(&names, NULL), PEGA_OK);
  for (int64_t i = 0; i < pega_value_size(&names); ++i) {
    const char *one = pega_value_as_string(pega_array_get(&names, i), NULL);
    found = found || strcmp(one, name) == 0;
  }
  pega_value_release(&names);
  return found;
}

static void remove_names(void) {
  assert_int_equal(pega_registry_remove("t.scale", NULL), PEGA_OK);
  assert_int_equal(pega_registry_remove("t.map", NULL), PEGA_OK);
}

/* Registering reads no description: one that is damaged is an error of the first get, each time, until it
 * is right. */
static void test_made_when_asked_for(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function = NULL, *again = NULL;
  pega_pack *pack = open_good();
  unsigned char *byte = &file.data[places.functions[0] + 20];
  *byte ^= 1;
  EXPECT_OK(pega_pack_register(pack, 0, &error), &error);
  assert_true(is_listed("t.scale"));
  assert_true(is_listed("t.map"));
  EXPECT_OK(pega_registry_get("t.map", &function, &error), &error);
  assert_string_equal(pega_function_name(function), "t.map");
  pega_function_release(function);
  for (int i = 0; i < 2; ++i) {
    EXPECT_ERROR(pega_registry_get("t.scale", &function, &error), &error, PEGA_ERROR_FORMAT,
                 "pack in memory: manifest: function 't.scale': its SHA-256 is not the index's");
    assert_true(is_listed("t.scale"));
  }
  *byte ^= 1;
  EXPECT_OK(pega_registry_get("t.scale", &function, &error), &error);
  assert_int_equal(pega_function_signature(function)->num_params, 6);
  assert_string_equal(pega_function_doc(function), "Scales.");
  /* Damaged again: it was read, and is not read any more. */
  *byte ^= 1;
  EXPECT_OK(pega_registry_get("t.scale", &again, &error), &error);
  assert_ptr_equal(again, function);
  *byte ^= 1;
  pega_function_release(again);
  pega_function_release(function);
  remove_names();
  pega_pack_release(pack);
}

/* One object for all who have it; another, as good, when nobody has it any more. */
static void test_same_while_held(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_function *one = NULL, *two = NULL, *registered = NULL;
  pega_pack *pack = open_good();
  EXPECT_OK(pega_pack_get(pack, "t.scale", &one, &error), &error);
  EXPECT_OK(pega_pack_get(pack, "t.scale", &two, &error), &error);
  assert_ptr_equal(one, two);
  EXPECT_OK(pega_pack_get(pack, "t.map", &registered, &error), &error);
  assert_ptr_not_equal(one, registered);
  pega_function_release(registered);
  EXPECT_OK(pega_pack_register(pack, 0, &error), &error);
  EXPECT_OK(pega_registry_get("t.scale", &registered, &error), &error);
  assert_ptr_equal(one, registered);
  pega_function_release(registered);
  remove_names();
  pega_function_release(two);
  /* It outlives the pack's other references. */
  pega_pack_retain(pack);
  pega_pack_release(pack);
  assert_string_equal(pega_function_name(one), "t.scale");
  pega_function_release(one);
  for (int i = 0; i < 3; ++i) {
    EXPECT_OK(pega_pack_get(pack, "t.scale", &one, &error), &error);
    assert_string_equal(pega_function_name(one), "t.scale");
    assert_int_equal(pega_function_signature(one)->num_params, 6);
    pega_function_release(one);
  }
  EXPECT_OK(pega_pack_get(pack, "t.scale", &one, &error), &error);
  pega_pack_release(pack);
  assert_string_equal(pega_function_doc(one), "Scales.");
  pega_function_release(one);
}

static void test_all_or_none(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_function *taken = support_function("t.map", NULL, 0, 0), *found = NULL;
  pega_pack *pack = open_good();
  EXPECT_OK(pega_registry_add(taken, 0, &error), &error);
  EXPECT_ERROR(pega_pack_register(pack, 0, &error), &error, PEGA_ERROR_ALREADY_EXISTS,
               "function 't.map' is registered already", "PEGA_REGISTER_OVERRIDE");
  assert_false(is_listed("t.scale"));
  EXPECT_OK(pega_registry_get("t.map", &found, &error), &error);
  assert_ptr_equal(found, taken);
  pega_function_release(found);
  EXPECT_OK(pega_pack_register(pack, PEGA_REGISTER_OVERRIDE, &error), &error);
  EXPECT_OK(pega_registry_get("t.map", &found, &error), &error);
  assert_ptr_not_equal(found, taken);
  assert_non_null(pega_function_signature(found));
  pega_function_release(found);
  /* In the place of one that was never made, and of one that was. */
  EXPECT_ERROR(pega_pack_register(pack, 0, &error), &error, PEGA_ERROR_ALREADY_EXISTS, "'t.scale'");
  EXPECT_OK(pega_pack_register(pack, PEGA_REGISTER_OVERRIDE, &error), &error);
  pega_function *own = support_function("t.scale", NULL, 0, 0);
  EXPECT_ERROR(pega_registry_add(own, 0, &error), &error, PEGA_ERROR_ALREADY_EXISTS, "'t.scale'");
  EXPECT_OK(pega_registry_add(own, PEGA_REGISTER_OVERRIDE, &error), &error);
  EXPECT_OK(pega_registry_get("t.scale", &found, &error), &error);
  assert_ptr_equal(found, own);
  pega_function_release(found);
  remove_names();
  EXPECT_ERROR(pega_registry_get("t.scale", &found, &error), &error, PEGA_ERROR_NOT_FOUND,
               "no function 't.scale' among the ");
  pega_function_release(own);
  pega_function_release(taken);
  pega_pack_release(pack);
  pega_error_clear(&error);
}

static bool is_open(const struct stat *wanted) {
  struct stat found;
  for (int fd = 0; fd < 1024; ++fd) {
    if (fstat(fd, &found) == 0 && found.st_ino == wanted->st_ino &&
        found.st_dev == wanted->st_dev) {
      return true;
    }
  }
  return false;
}

/* A name that is registered keeps the pack; without it, its file is closed. */
static void test_registered_keeps_the_pack(void **state) {
  (void)state;
  char path[200];
  pega_error error = PEGA_ERROR_INIT;
  pega_pack *pack = NULL;
  pega_function *function = NULL;
  struct stat wanted;
  const char *root = build_temporary();
  snprintf(path, sizeof path, "%s/x.pegapack", root);
  build_write(path, file.data, file.size);
  assert_int_equal(stat(path, &wanted), 0);
  EXPECT_OK(build_open_path(path, &pack, &error), &error);
  EXPECT_OK(pega_pack_register(pack, 0, &error), &error);
  pega_pack_release(pack);
  EXPECT_OK(pega_registry_get("t.scale", &function, &error), &error);
  assert_string_equal(pega_function_doc(function), "Scales.");
  EXPECT_OK(pega_registry_remove("t.scale", &error), &error);
  assert_true(is_open(&wanted));
  EXPECT_OK(pega_registry_remove("t.map", &error), &error); /* never made */
  assert_true(is_open(&wanted));
  pega_function_release(function);
  assert_false(is_open(&wanted));
  build_remove(root);
}

/* Names enough for the tables to grow and to have neighbours. */
static void test_many(void **state) {
  (void)state;
  enum { COUNT_OF_NAMES = 1500 };
  pega_error error = PEGA_ERROR_INIT;
  pega_pack *pack = NULL;
  pega_value names = pega_value_none();
  char digest[65], text[500], name[40];
  static const char ptx[] = ".version 8.0\n.target sm_80\n.visible .entry k() { ret; }\n";
  bytes manifest = {NULL, 0};
  build_digest(ptx, sizeof ptx - 1, digest);
  snprintf(text, sizeof text,
           "{\"schema_version\":1,\"name\":\"many\",\"blobs\":[{\"sha256\":\"%s\",\"size\":%zu,"
           "\"kind\":\"ptx\"}],\"functions\":[",
           digest, sizeof ptx - 1);
  bytes_append(&manifest, text, strlen(text));
  for (int i = 0; i < COUNT_OF_NAMES; ++i) {
    snprintf(text, sizeof text,
             "%s{\"name\":\"t.many.%d\",\"params\":[],\"variants\":[{\"target\":\"sm_80\",\"blob\":"
             "\"%s\",\"entry\":\"k\",\"params\":[],\"grid\":[\"1\",\"1\",\"1\"],\"block\":[1,1,1],"
             "\"shared\":0,\"static_shared\":0,\"registers\":0,\"local_bytes\":0}]}",
             i == 0 ? "" : ",", i, digest);
    bytes_append(&manifest, text, strlen(text));
  }
  bytes_append(&manifest, "]}", 2);
  const file_blob blob = {ptx, sizeof ptx - 1, FILE_PTX};
  bytes made = {NULL, 0};
  made.data = file_make((const char *)manifest.data, manifest.size, &blob, 1, &made.size, NULL);
  EXPECT_OK(build_open(&made, 0, &pack, &error), &error);
  EXPECT_OK(pega_pack_list(pack, &names, &error), &error);
  assert_int_equal(pega_value_size(&names), COUNT_OF_NAMES);
  for (int64_t i = 1; i < COUNT_OF_NAMES; ++i) {
    assert_true(strcmp(pega_value_as_string(pega_array_get(&names, i - 1), NULL),
                       pega_value_as_string(pega_array_get(&names, i), NULL)) < 0);
  }
  pega_value_release(&names);
  EXPECT_OK(pega_pack_register(pack, 0, &error), &error);
  pega_function *held[COUNT_OF_NAMES];
  for (int i = 0; i < COUNT_OF_NAMES; ++i) {
    snprintf(name, sizeof name, "t.many.%d", i);
    pega_function *registered = NULL;
    EXPECT_OK(pega_registry_get(name, &registered, &error), &error);
    EXPECT_OK(pega_pack_get(pack, name, &held[i], &error), &error);
    assert_ptr_equal(registered, held[i]);
    assert_string_equal(pega_function_name(held[i]), name);
    pega_function_release(registered);
  }
  EXPECT_ERROR(pega_pack_get(pack, "t.many.1500", &held[0], &error), &error, PEGA_ERROR_NOT_FOUND,
               "no function 't.many.1500' among the 1500 of pack 'many'; the nearest is 't.many.");
  for (int i = 0; i < COUNT_OF_NAMES; ++i) {
    snprintf(name, sizeof name, "t.many.%d", i);
    EXPECT_OK(pega_registry_remove(name, &error), &error);
    assert_int_equal(pega_registry_remove(name, NULL), PEGA_ERROR_NOT_FOUND);
    pega_function_release(held[i]);
  }
  EXPECT_OK(pega_pack_verify(pack, &error), &error);
  pega_pack_release(pack);
  bytes_free(&made);
  bytes_free(&manifest);
  pega_error_clear(&error);
}

/* ---- Threads ---- */

enum { THREADS = 8, ROUNDS = 400 };

static pega_pack *shared;
static _Atomic int failures;

static void use(pega_status status, pega_function *function, const char *name) {
  if (status != PEGA_OK || strcmp(pega_function_name(function), name) != 0) ++failures;
  if (status == PEGA_OK) pega_function_release(function);
}

/* Gets and gives back, so that the last reference goes again and again. */
static void *get_often(void *self) {
  const char *name = (intptr_t)self % 2 == 0 ? "t.scale" : "t.map";
  for (int i = 0; i < ROUNDS; ++i) {
    pega_function *function = NULL;
    const pega_status status = pega_pack_get(shared, name, &function, NULL);
    use(status, function, name);
  }
  return NULL;
}

static void *get_registered(void *self) {
  const char *name = (intptr_t)self % 2 == 0 ? "t.scale" : "t.map";
  for (int i = 0; i < ROUNDS; ++i) {
    pega_function *function = NULL;
    const pega_status status = pega_registry_get(name, &function, NULL);
    use(status, function, name);
  }
  return NULL;
}

/* Another promise in the place of the one that is being kept. */
static void *register_again(void *self) {
  (void)self;
  for (int i = 0; i < ROUNDS; ++i) {
    if (pega_pack_register(shared, PEGA_REGISTER_OVERRIDE, NULL) != PEGA_OK) ++failures;
  }
  return NULL;
}

static void run_all(void *(*const *bodies)(void *), int count) {
  pthread_t threads[THREADS];
  for (intptr_t i = 0; i < THREADS; ++i) {
    assert_int_equal(pthread_create(&threads[i], NULL, bodies[i % count], (void *)(i / count)), 0);
  }
  for (int i = 0; i < THREADS; ++i) assert_int_equal(pthread_join(threads[i], NULL), 0);
  assert_int_equal(failures, 0);
}

static void test_threads(void **state) {
  (void)state;
  static void *(*const only_get[])(void *) = {get_often};
  static void *(*const all[])(void *) = {get_registered, get_often, register_again};
  for (int i = 0; i < 10; ++i) {
    shared = open_good();
    run_all(only_get, 1);
    assert_int_equal(pega_pack_register(shared, 0, NULL), PEGA_OK);
    run_all(all, 3);
    remove_names();
    pega_pack_release(shared);
  }
}

#define REGISTER_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

/* What another thread does meanwhile: before the library takes a lock, when `locks_left` comes to 0. It
 * stands before the C library's. */
static _Thread_local int locks_left;
static pega_pack *raced;
static pega_function *first_got;

int pthread_mutex_lock(pthread_mutex_t *mutex) {
  int (*next)(pthread_mutex_t *);
  *(void **)&next = dlsym(RTLD_NEXT, "pthread_mutex_lock");
  if (locks_left > 0 && --locks_left == 0) {
    assert_int_equal(pega_pack_get(raced, "t.scale", &first_got, NULL), PEGA_OK);
  }
  return next(mutex);
}

/* Wherever another thread's look-up falls into one's own, both get the same object. */
static void test_one_object(void **state) {
  (void)state;
  pega_function *function = NULL;
  int met = 0;
  raced = open_good();
  for (int lock = 1; lock < 12; ++lock) {
    first_got = NULL;
    locks_left = lock;
    assert_int_equal(pega_pack_get(raced, "t.scale", &function, NULL), PEGA_OK);
    locks_left = 0;
    if (first_got != NULL) {
      assert_ptr_equal(function, first_got);
      ++met;
      pega_function_release(first_got);
    }
    pega_function_release(function);
  }
  assert_in_range(met, 2, 11); /* before it looked, and between that and telling what it made */
  pega_pack_release(raced);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      REGISTER_TEST(test_made_when_asked_for),
      REGISTER_TEST(test_same_while_held),
      REGISTER_TEST(test_all_or_none),
      REGISTER_TEST(test_registered_keeps_the_pack),
      REGISTER_TEST(test_many),
      REGISTER_TEST(test_threads),
      REGISTER_TEST(test_one_object),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
