/* SPDX-License-Identifier: Apache-2.0 */
/* Many threads need the same blobs for the first time, and give the pack back; many open packs. */
#include <cjson/cJSON.h>
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "build.h"
#include "pack/pack.h"

enum { kThreads = 8, kRounds = 50 };

typedef struct job {
  pega_pack *pack; /* a reference of its own */
  pthread_barrier_t *start;
  const void *bytes[4];
  const pega_pack_function *functions[2];
  pega_status status;
} job;

static void *use_blobs(void *self) {
  job *mine = self;
  pthread_barrier_wait(mine->start);
  for (int32_t i = 0; i < 2; ++i) {
    if (pega_pack_describe(mine->pack, i, &mine->functions[i], NULL) != PEGA_OK) {
      mine->status = PEGA_ERROR_INTERNAL;
    }
  }
  if (mine->status == PEGA_OK) mine->status = pega_pack_verify(mine->pack, NULL);
  for (int32_t i = 0; i < 4; ++i) {
    size_t size;
    if (pega_pack_blob_bytes(mine->pack, i, &mine->bytes[i], &size, NULL) != PEGA_OK) {
      mine->status = PEGA_ERROR_INTERNAL;
    }
  }
  pega_pack_release(mine->pack);
  return NULL;
}

static void race(pega_pack *pack) {
  pthread_t threads[kThreads];
  pthread_barrier_t start;
  job jobs[kThreads];
  assert_int_equal(pthread_barrier_init(&start, NULL, kThreads), 0);
  for (int i = 0; i < kThreads; ++i) {
    jobs[i] = (job){pega_pack_retain(pack), &start, {NULL}, {NULL}, PEGA_OK};
    assert_int_equal(pthread_create(&threads[i], NULL, use_blobs, &jobs[i]), 0);
  }
  pega_pack_release(pack);
  for (int i = 0; i < kThreads; ++i) assert_int_equal(pthread_join(threads[i], NULL), 0);
  for (int i = 0; i < kThreads; ++i) {
    assert_int_equal(jobs[i].status, PEGA_OK);
    /* All were given the one copy. */
    assert_memory_equal(jobs[i].bytes, jobs[0].bytes, sizeof jobs[i].bytes);
    assert_memory_equal(jobs[i].functions, jobs[0].functions, sizeof jobs[i].functions);
  }
  pthread_barrier_destroy(&start);
}

static void test_folder(void **state) {
  (void)state;
  char path[200];
  parts made = build_parts();
  const char *root = build_temporary();
  snprintf(path, sizeof path, "%s/pack", root);
  build_folder(&made, path);
  for (int i = 0; i < kRounds; ++i) {
    pega_pack *pack = NULL;
    assert_int_equal(build_open_path(path, &pack, NULL), PEGA_OK);
    race(pack);
  }
  build_remove(root);
  build_free(&made);
}

static void test_file(void **state) {
  (void)state;
  char path[200];
  parts made = build_parts();
  bytes file = build_file(&made);
  const char *root = build_temporary();
  snprintf(path, sizeof path, "%s/pack", root);
  build_write(path, file.data, file.size);
  for (int i = 0; i < kRounds; ++i) {
    pega_pack *pack = NULL;
    assert_int_equal(build_open_path(path, &pack, NULL), PEGA_OK);
    race(pack);
  }
  build_remove(root);
  bytes_free(&file);
  build_free(&made);
}

static void test_memory(void **state) {
  (void)state;
  parts made = build_parts();
  bytes file = build_file(&made);
  for (int i = 0; i < kRounds; ++i) {
    pega_pack *pack = NULL;
    assert_int_equal(build_open(&file, 0, &pack, NULL), PEGA_OK);
    race(pack);
  }
  bytes_free(&file);
  build_free(&made);
}

/* What is read of `watched` in this thread, and how often nobody else could look a function up meanwhile.
 * It stands before the C library's. */
static _Thread_local pega_pack *watched;
static _Thread_local int reads, reads_locked;

/* Where a thread is to stay, under locks, until it may leave. */
enum { kNowhere, kReading, kParsing };
static _Thread_local int stays;
static atomic_bool is_in, may_leave;

static void stay(int where) {
  if (stays != where) return;
  is_in = true;
  while (!may_leave) sched_yield();
  stays = kNowhere;
}

ssize_t pread(int fd, void *to, size_t size, off_t offset) {
  ssize_t (*next)(int, void *, size_t, off_t);
  *(void **)&next = dlsym(RTLD_NEXT, "pread");
  stay(kReading);
  if (watched != NULL) {
    const bool locked = pthread_mutex_trylock(&watched->lock) != 0;
    if (!locked) pthread_mutex_unlock(&watched->lock);
    ++reads;
    reads_locked += locked;
  }
  return next(fd, to, size, offset);
}

/* Of a blob that takes long to read, those who want something else do not hear. */
static void test_blob_beside_lookups(void **state) {
  (void)state;
  char path[200];
  parts made = build_parts();
  bytes file = build_file(&made);
  const char *root = build_temporary();
  const void *data;
  size_t size;
  pega_pack *pack = NULL;
  snprintf(path, sizeof path, "%s/pack", root);
  build_write(path, file.data, file.size);
  assert_int_equal(build_open_path(path, &pack, NULL), PEGA_OK);
  watched = pack;
  const pega_status status = pega_pack_blob_bytes(pack, 0, &data, &size, NULL);
  watched = NULL;
  assert_int_equal(status, PEGA_OK);
  assert_true(reads > 0);
  assert_int_equal(reads_locked, 0);
  pega_pack_release(pack);
  build_remove(root);
  bytes_free(&file);
  build_free(&made);
}

/* cJSON keeps the place of its last error for all threads: only one may be within it. It stands
 * before the library's; what the sanitizers do not see, as they do not see into the library. */
static _Atomic int parsing, parsed, parsed_at_once;

CJSON_PUBLIC(cJSON *)
cJSON_ParseWithLengthOpts(const char *value, size_t size, const char **end, cJSON_bool whole) {
  cJSON *(*next)(const char *, size_t, const char **, cJSON_bool);
  *(void **)&next = dlsym(RTLD_NEXT, "cJSON_ParseWithLengthOpts");
  if (atomic_fetch_add(&parsing, 1) > 0) atomic_store(&parsed_at_once, 1);
  stay(kParsing);
  sched_yield();
  cJSON *root = next(value, size, end, whole);
  atomic_fetch_add(&parsed, 1);
  atomic_fetch_sub(&parsing, 1);
  return root;
}

typedef struct opener {
  const bytes *file;
  pthread_barrier_t *start;
  pega_status status;
} opener;

static void *open_often(void *self) {
  opener *mine = self;
  pthread_barrier_wait(mine->start);
  for (int i = 0; i < kRounds; ++i) {
    pega_pack *pack = NULL;
    const char *manifest;
    pega_status status = build_open(mine->file, 0, &pack, NULL);
    if (status == PEGA_OK) status = pega_pack_manifest(pack, &manifest, NULL, NULL);
    if (status != PEGA_OK) mine->status = status;
    pega_pack_release(pack);
  }
  return NULL;
}

static void test_opening(void **state) {
  (void)state;
  pthread_t threads[kThreads];
  opener openers[kThreads];
  pthread_barrier_t start;
  parts made = build_parts();
  bytes file = build_file(&made);
  atomic_store(&parsed, 0);
  assert_int_equal(pthread_barrier_init(&start, NULL, kThreads), 0);
  for (int i = 0; i < kThreads; ++i) {
    openers[i] = (opener){&file, &start, PEGA_OK};
    assert_int_equal(pthread_create(&threads[i], NULL, open_often, &openers[i]), 0);
  }
  for (int i = 0; i < kThreads; ++i) assert_int_equal(pthread_join(threads[i], NULL), 0);
  for (int i = 0; i < kThreads; ++i) assert_int_equal(openers[i].status, PEGA_OK);
  pthread_barrier_destroy(&start);
  /* The manifest without its functions, and each of those. */
  assert_int_equal(atomic_load(&parsed), 3 * kThreads * kRounds);
  assert_int_equal(atomic_load(&parsed_at_once), 0);
  bytes_free(&file);
  build_free(&made);
}

static void *describe(void *pack) {
  const pega_pack_function *function;
  return pega_pack_describe(pack, 0, &function, NULL) == PEGA_OK ? pack : NULL;
}

static void *read_and_stay(void *pack) {
  stays = kReading;
  return describe(pack);
}

static void *parse_and_stay(void *pack) {
  stays = kParsing;
  return describe(pack);
}

static void *read_blob_and_stay(void *pack) {
  const void *data;
  size_t size;
  stays = kReading;
  return pega_pack_blob_bytes(pack, 0, &data, &size, NULL) == PEGA_OK ? pack : NULL;
}

static void use_in_child(pega_pack *pack, const char *path) {
  const char *manifest;
  pega_pack *other;
  alarm(20); /* ends one that hangs */
  if (pega_pack_manifest(pack, &manifest, NULL, NULL) != PEGA_OK) _exit(1);
  if (pega_pack_verify(pack, NULL) != PEGA_OK) _exit(2);
  pega_pack_release(pack);
  if (build_open_path(path, &other, NULL) != PEGA_OK) _exit(3);
  if (pega_pack_verify(other, NULL) != PEGA_OK) _exit(4);
  pega_pack_release(other);
  _exit(0);
}

/* A child of fork can use a pack that another thread was reading, in whichever lock that was, and others. */
static void test_fork(void **state) {
  (void)state;
  if (SUPPORT_SANITIZED) skip(); /* their own threads and locks do not go through it */
  static void *(*const works[])(void *) = {read_and_stay, parse_and_stay, read_blob_and_stay};
  char path[200];
  parts made = build_parts();
  bytes file = build_file(&made);
  const char *root = build_temporary();
  snprintf(path, sizeof path, "%s/pack", root);
  build_write(path, file.data, file.size);
  for (int i = 0; i < 2 * COUNT(works); ++i) {
    pega_pack *packs[3] = {NULL};
    pthread_t thread;
    void *result;
    int status;
    /* The one in the middle of the list is used, or the last of it. */
    for (int p = 0; p < 3; ++p) assert_int_equal(build_open_path(path, &packs[p], NULL), PEGA_OK);
    if (i >= COUNT(works)) pega_pack_release(packs[0]);
    is_in = may_leave = false;
    assert_int_equal(pthread_create(&thread, NULL, works[i % COUNT(works)], packs[1]), 0);
    while (!is_in) sched_yield();
    const pid_t child = fork();
    if (child == 0) use_in_child(packs[1], path);
    may_leave = true;
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_int_equal(status, 0);
    assert_ptr_equal(result, packs[1]);
    for (int p = i < COUNT(works) ? 0 : 1; p < 3; ++p) pega_pack_release(packs[p]);
  }
  build_remove(root);
  bytes_free(&file);
  build_free(&made);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_folder),
      cmocka_unit_test(test_file),
      cmocka_unit_test(test_memory),
      cmocka_unit_test(test_opening),
      cmocka_unit_test(test_blob_beside_lookups),
      cmocka_unit_test(test_fork),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
