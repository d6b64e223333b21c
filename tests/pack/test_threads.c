/* SPDX-License-Identifier: Apache-2.0 */
/* Many threads need the same blobs for the first time, and give the pack back; many open packs. */
#include <cjson/cJSON.h>
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "build.h"
#include "pack/description.h"

enum { kThreads = 8, kRounds = 50 };

typedef struct job {
  pega_pack *pack; /* a reference of its own */
  pthread_barrier_t *start;
  const void *bytes[4];
  pega_status status;
} job;

static void *use_blobs(void *self) {
  job *mine = self;
  pthread_barrier_wait(mine->start);
  mine->status = pega_pack_verify(mine->pack, NULL);
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
    jobs[i] = (job){pega_pack_retain(pack), &start, {NULL}, PEGA_OK};
    assert_int_equal(pthread_create(&threads[i], NULL, use_blobs, &jobs[i]), 0);
  }
  pega_pack_release(pack);
  for (int i = 0; i < kThreads; ++i) assert_int_equal(pthread_join(threads[i], NULL), 0);
  for (int i = 0; i < kThreads; ++i) {
    assert_int_equal(jobs[i].status, PEGA_OK);
    /* All were given the one copy. */
    assert_memory_equal(jobs[i].bytes, jobs[0].bytes, sizeof jobs[i].bytes);
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

/* cJSON keeps the place of its last error for all threads: only one may be within it. It stands
 * before the library's; what the sanitizers do not see, as they do not see into the library. */
static _Atomic int parsing, parsed, parsed_at_once;

CJSON_PUBLIC(cJSON *)
cJSON_ParseWithLengthOpts(const char *value, size_t size, const char **end, cJSON_bool whole) {
  cJSON *(*next)(const char *, size_t, const char **, cJSON_bool);
  *(void **)&next = dlsym(RTLD_NEXT, "cJSON_ParseWithLengthOpts");
  if (atomic_fetch_add(&parsing, 1) > 0) atomic_store(&parsed_at_once, 1);
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
    const pega_status status = build_open(mine->file, 0, &pack, NULL);
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
  assert_int_equal(atomic_load(&parsed), kThreads * kRounds);
  assert_int_equal(atomic_load(&parsed_at_once), 0);
  bytes_free(&file);
  build_free(&made);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_folder),
      cmocka_unit_test(test_memory),
      cmocka_unit_test(test_opening),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
