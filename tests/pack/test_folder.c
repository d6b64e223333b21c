/* SPDX-License-Identifier: Apache-2.0 */
/* Folders and files that are not what they should be: links, pipes, other things by the name. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "build.h"

static parts good;
static const char *root;
static char pack_path[200], manifest_path[220], blobs_path[220], blob_path[300], other[220];

static int set_up(void **state) {
  (void)state;
  good = build_parts();
  root = build_temporary();
  snprintf(pack_path, sizeof pack_path, "%s/pack", root);
  snprintf(manifest_path, sizeof manifest_path, "%s/manifest.json", pack_path);
  snprintf(blobs_path, sizeof blobs_path, "%s/blobs", pack_path);
  snprintf(blob_path, sizeof blob_path, "%s/%s", blobs_path, good.names[0]);
  snprintf(other, sizeof other, "%s/other", root);
  build_folder(&good, pack_path);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  build_remove(root);
  build_free(&good);
  return 0;
}

static void expect_open_error(pega_status status, const char *text, const char *where) {
  pega_error error = PEGA_ERROR_INIT;
  pega_pack *pack = NULL;
  EXPECT_ERROR(build_open_path(pack_path, &pack, &error), &error, status, text, where);
  pega_error_clear(&error);
}

static void move_away_and_link(const char *path) {
  assert_int_equal(rename(path, other), 0);
  assert_int_equal(symlink(other, path), 0);
}

static void test_manifest_is_a_link(void **state) {
  (void)state;
  move_away_and_link(manifest_path);
  expect_open_error(PEGA_ERROR_FORMAT, "it is a link; a pack has regular files only",
                    "pack/manifest.json: ");
}

static void test_blobs_is_a_link(void **state) {
  (void)state;
  move_away_and_link(blobs_path);
  expect_open_error(PEGA_ERROR_FORMAT, "expected a folder; links are not followed", "pack/blobs: ");
}

static void test_blob_is_a_link(void **state) {
  (void)state;
  move_away_and_link(blob_path);
  expect_open_error(PEGA_ERROR_FORMAT, "it is a link; a pack has regular files only",
                    good.names[0]);
}

static void replace_by_pipe(const char *path) {
  assert_int_equal(unlink(path), 0);
  assert_int_equal(mkfifo(path, 0666), 0);
}

static void test_pipes(void **state) {
  (void)state;
  replace_by_pipe(blob_path);
  expect_open_error(PEGA_ERROR_FORMAT, "it is a pipe; a pack has regular files only",
                    good.names[0]);
  replace_by_pipe(manifest_path);
  expect_open_error(PEGA_ERROR_FORMAT, "it is a pipe; a pack has regular files only",
                    "manifest.json");
  build_remove(pack_path);
  assert_int_equal(mkfifo(pack_path, 0666), 0);
  expect_open_error(PEGA_ERROR_FORMAT, "it is a pipe; a pack has regular files only", "/pack: ");
}

static void test_folders_in_place_of_files(void **state) {
  (void)state;
  assert_int_equal(unlink(blob_path), 0);
  assert_int_equal(mkdir(blob_path, 0777), 0);
  expect_open_error(PEGA_ERROR_FORMAT, "it is a folder; a pack has regular files only",
                    good.names[0]);
  assert_int_equal(unlink(manifest_path), 0);
  assert_int_equal(mkdir(manifest_path, 0777), 0);
  expect_open_error(PEGA_ERROR_FORMAT, "it is a folder", "manifest.json");
}

static void test_file_in_place_of_blobs(void **state) {
  (void)state;
  assert_int_equal(rename(blobs_path, other), 0);
  build_write(blobs_path, "x", 1);
  expect_open_error(PEGA_ERROR_FORMAT, "expected a folder", "/blobs: ");
}

static void test_missing(void **state) {
  (void)state;
  assert_int_equal(unlink(blob_path), 0);
  expect_open_error(PEGA_ERROR_NOT_FOUND, "No such file or directory", good.names[0]);
  assert_int_equal(rename(blobs_path, other), 0);
  expect_open_error(PEGA_ERROR_NOT_FOUND, "No such file or directory", "/blobs: ");
  assert_int_equal(unlink(manifest_path), 0);
  expect_open_error(PEGA_ERROR_NOT_FOUND, "No such file or directory", "manifest.json: ");
}

static void test_devices(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_pack *pack = NULL;
  EXPECT_ERROR(build_open_path("/dev/zero", &pack, &error), &error, PEGA_ERROR_FORMAT,
               "/dev/zero: it is a device");
  EXPECT_ERROR(build_open_path("/dev/null/x", &pack, &error), &error, PEGA_ERROR_NOT_FOUND,
               "Not a directory");
  pega_error_clear(&error);
}

static void test_unreadable(void **state) {
  (void)state;
  if (geteuid() == 0) { /* permissions do not hold for root */
    print_message("root reads everything: nothing to see\n");
    return;
  }
  assert_int_equal(chmod(manifest_path, 0), 0);
  expect_open_error(PEGA_ERROR_IO, "Permission denied", "manifest.json");
}

static void test_blob_of_another_size(void **state) {
  (void)state;
  build_write(blob_path, "x", 1);
  expect_open_error(PEGA_ERROR_FORMAT, "it has 1 bytes, the manifest says", good.names[0]);
  assert_int_equal(truncate(blob_path, (off_t)1 << 40), 0);
  expect_open_error(PEGA_ERROR_RANGE, "at most 1073741824 are allowed", good.names[0]);
  assert_int_equal(truncate(manifest_path, (off_t)1 << 40), 0);
  expect_open_error(PEGA_ERROR_RANGE, "at most 33554432 are allowed", "manifest.json");
}

static void test_huge_file(void **state) {
  (void)state;
  build_remove(pack_path);
  build_write(pack_path, "PEGAPACK", 8);
  assert_int_equal(truncate(pack_path, ((off_t)4 << 30) + 1), 0);
  expect_open_error(PEGA_ERROR_RANGE, "at most 4294967296 are allowed", "/pack: ");
}

/* Kilobytes that this process has had at most. */
static long most_memory(void) {
  struct rusage used;
  assert_int_equal(getrusage(RUSAGE_SELF, &used), 0);
  return used.ru_maxrss;
}

/* A file that is no pack is refused by its first bytes: the rest, full of zeros, is not read. */
static void test_wrong_file_is_not_read(void **state) {
  (void)state;
  static const struct {
    const char *header;
    pega_status status;
    const char *text;
  } cases[] = {
      {"PEGAPICK\2\0\0\0\1\0\0\0", PEGA_ERROR_FORMAT, "does not begin with PEGAPACK"},
      {"PEGAPACK\1\0\0\0\1\0\0\0", PEGA_ERROR_VERSION, "container version 1"},
      {"PEGAPACK\2\0\0\0\1\0\x80\0", PEGA_ERROR_RANGE, "an index of 8388609 bytes"},
      {"PEGAPACK\2\0\0\0\0\0\1\0", PEGA_ERROR_FORMAT, "its index has not the SHA-256"},
  };
  build_remove(pack_path);
  const long before = most_memory();
  for (int32_t i = 0; i < COUNT(cases); ++i) {
    build_write(pack_path, cases[i].header, 16);
    assert_int_equal(truncate(pack_path, (off_t)1 << 29), 0);
    expect_open_error(cases[i].status, cases[i].text, "/pack: ");
  }
  /* The index does not fit into the file: nor is that file read. */
  build_write(pack_path, "PEGAPACK\2\0\0\0\0\0\x80\0", 16);
  assert_int_equal(truncate(pack_path, (off_t)8 << 20), 0);
  expect_open_error(PEGA_ERROR_FORMAT, "cut off: it has 8388608 bytes, and the index ends", "");
  assert_true(most_memory() - before < 16 << 10);
}

/* Cut shorter than its header, or to nothing. */
static void test_short_files(void **state) {
  (void)state;
  bytes file = build_file(&good);
  build_remove(pack_path);
  for (size_t size = 0; size < 200; ++size) {
    build_write(pack_path, file.data, size);
    expect_open_error(PEGA_ERROR_FORMAT, size < 8 ? "does not begin with PEGAPACK" : "cut off",
                      "/pack: ");
  }
  bytes_free(&file);
}

/* What changes between opening and the first need of a blob. */
static void test_changed_after_opening(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_pack *pack = NULL;
  bytes changed = {NULL, 0};
  bytes_append(&changed, good.blobs[0].data, good.blobs[0].size);
  changed.data[99] ^= 1;
  EXPECT_OK(build_open_path(pack_path, &pack, &error), &error);
  build_write(blob_path, changed.data, changed.size);
  EXPECT_ERROR(pega_pack_verify(pack, &error), &error, PEGA_ERROR_FORMAT, "its SHA-256 is ");
  build_write(blob_path, changed.data, changed.size - 1);
  EXPECT_ERROR(pega_pack_verify(pack, &error), &error, PEGA_ERROR_FORMAT, "the manifest says");
  move_away_and_link(blob_path);
  EXPECT_ERROR(pega_pack_verify(pack, &error), &error, PEGA_ERROR_FORMAT, "it is a link");
  /* The folder that was opened is the folder that is read. */
  assert_int_equal(unlink(blob_path), 0);
  build_write(blob_path, good.blobs[0].data, good.blobs[0].size);
  char moved[220];
  snprintf(moved, sizeof moved, "%s/moved", root);
  assert_int_equal(rename(pack_path, moved), 0);
  EXPECT_OK(pega_pack_verify(pack, &error), &error);
  /* From now on nothing is read again. */
  build_remove(moved);
  EXPECT_OK(pega_pack_verify(pack, &error), &error);
  pega_pack_release(pack);
  pega_error_clear(&error);
  bytes_free(&changed);
}

static void expect_verify_error(pega_pack *pack, const char *text) {
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_ERROR(pega_pack_verify(pack, &error), &error, PEGA_ERROR_FORMAT, pack_path, text);
  pega_error_clear(&error);
}

/* Of a file the index is read when it is opened, the rest later, from the file that was opened. */
static void test_file_changed_after_opening(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_pack *pack = NULL;
  pega_value variants = pega_value_none();
  file_places places;
  bytes file = build_file_at(&good, &places);
  build_remove(pack_path);
  build_write(pack_path, file.data, file.size);
  EXPECT_OK(build_open_path(pack_path, &pack, &error), &error);
  file.data[places.functions[0] + 5] ^= 1;
  build_write(pack_path, file.data, file.size);
  EXPECT_ERROR(pega_pack_explain(pack, "t.scale", "sm_90", &variants, &error), &error,
               PEGA_ERROR_FORMAT, pack_path, "manifest: function 't.scale': its SHA-256 is not");
  EXPECT_OK(pega_pack_explain(pack, "t.map", "sm_90", &variants, &error), &error);
  pega_value_release(&variants);
  expect_verify_error(pack, "manifest: its SHA-256 is not the index's");
  /* Shorter: nothing is read past its end. */
  assert_int_equal(truncate(pack_path, (off_t)places.functions[0]), 0);
  EXPECT_ERROR(pega_pack_explain(pack, "t.scale", "sm_90", &variants, &error), &error,
               PEGA_ERROR_FORMAT, "it shrank since it was opened with");
  expect_verify_error(pack, "; open the pack again when nobody writes to it");
  /* Right again, and then it is: an error was none for good. */
  file.data[places.functions[0] + 5] ^= 1;
  file.data[places.blobs + 9] ^= 1;
  build_write(pack_path, file.data, file.size);
  EXPECT_OK(pega_pack_explain(pack, "t.scale", "sm_90", &variants, &error), &error);
  pega_value_release(&variants);
  expect_verify_error(pack, good.names[0]);
  file.data[places.blobs + 9] ^= 1;
  assert_true(places.blobs > places.manifest + places.manifest_size);
  file.data[places.blobs - 1] = 1;
  build_write(pack_path, file.data, file.size);
  expect_verify_error(pack, "is padding: expected 0, got 1");
  file.data[places.blobs - 1] = 0;
  build_write(pack_path, file.data, file.size);
  /* Another in its place is another. */
  assert_int_equal(rename(pack_path, other), 0);
  build_write(pack_path, "nothing", 7);
  EXPECT_OK(pega_pack_verify(pack, &error), &error);
  pega_pack_release(pack);
  bytes_free(&file);
}

/* The file stays open, and is not handed to programs that this one starts. */
static void test_file_is_closed_on_exec(void **state) {
  (void)state;
  pega_pack *pack = NULL;
  bytes file = build_file(&good);
  struct stat wanted, found;
  int held = 0;
  build_remove(pack_path);
  build_write(pack_path, file.data, file.size);
  assert_int_equal(build_open_path(pack_path, &pack, NULL), PEGA_OK);
  assert_int_equal(stat(pack_path, &wanted), 0);
  for (int fd = 0; fd < 1024; ++fd) {
    if (fstat(fd, &found) != 0 || found.st_ino != wanted.st_ino || found.st_dev != wanted.st_dev) {
      continue;
    }
    ++held;
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  }
  assert_int_equal(held, 1);
  pega_pack_release(pack);
  for (int fd = 0; fd < 1024; ++fd) {
    assert_false(fstat(fd, &found) == 0 && found.st_ino == wanted.st_ino &&
                 found.st_dev == wanted.st_dev);
  }
  bytes_free(&file);
}

/* A file that changes its size all the time: each try is right or refused, never half. */
static _Atomic int stop;

typedef struct resized_file {
  const char *path;
  off_t size;
} resized_file;

static void *keep_resizing(void *self) {
  const resized_file *file = self;
  while (!stop) {
    if (truncate(file->path, file->size + 5) != 0 || truncate(file->path, file->size - 5) != 0 ||
        truncate(file->path, file->size) != 0) {
      break;
    }
  }
  return NULL;
}

static void open_while_it_changes(const char *path, size_t size) {
  resized_file file = {path, (off_t)size};
  pthread_t thread;
  int shrank = 0, grew = 0;
  stop = 0;
  assert_int_equal(pthread_create(&thread, NULL, keep_resizing, &file), 0);
  for (int i = 0; i < 2000; ++i) {
    pega_error error = PEGA_ERROR_INIT;
    pega_pack *pack = NULL;
    pega_status status = build_open_path(pack_path, &pack, &error);
    if (status == PEGA_OK) status = pega_pack_verify(pack, &error);
    if (status != PEGA_OK) {
      assert_int_equal(error.status, PEGA_ERROR_FORMAT);
      shrank += strstr(pega_error_message(&error), "it shrank since it was opened") != NULL;
      grew += strstr(pega_error_message(&error), "it grew since it was opened") != NULL;
    }
    pega_pack_release(pack);
    pega_error_clear(&error);
  }
  stop = 1;
  assert_int_equal(pthread_join(thread, NULL), 0);
  print_message("met while it shrank %d times, while it grew %d times\n", shrank, grew);
}

/* A file of the kernel that says 4096 bytes and has fewer than a header. */
static void test_shorter_than_it_says(void **state) {
  (void)state;
  static const char path[] = "/sys/kernel/uevent_seqnum";
  struct stat found;
  pega_error error = PEGA_ERROR_INIT;
  pega_pack *pack = NULL;
  if (stat(path, &found) != 0 || found.st_size <= 24 || access(path, R_OK) != 0) {
    print_message("no %s of more than 24 bytes\n", path);
    return;
  }
  EXPECT_ERROR(build_open_path(path, &pack, &error), &error, PEGA_ERROR_FORMAT, path,
               "it shrank since it was opened");
  pega_error_clear(&error);
}

static void test_size_changes_while_reading(void **state) {
  (void)state;
  open_while_it_changes(manifest_path, strlen(good.manifest));
  bytes file = build_file(&good);
  build_remove(pack_path);
  build_write(pack_path, file.data, file.size);
  open_while_it_changes(pack_path, file.size);
  bytes_free(&file);
}

/* Every descriptor is given back. */
static void test_descriptors(void **state) {
  (void)state;
  const int before = open("/dev/null", O_RDONLY | O_CLOEXEC);
  close(before);
  for (int i = 0; i < 3; ++i) {
    pega_pack *pack = NULL;
    assert_int_equal(build_open_path(pack_path, &pack, NULL), PEGA_OK);
    assert_int_equal(pega_pack_verify(pack, NULL), PEGA_OK);
    pega_pack_release(pack);
  }
  assert_int_equal(unlink(blob_path), 0);
  for (int i = 0; i < 3; ++i) {
    pega_pack *pack = NULL;
    assert_int_equal(build_open_path(pack_path, &pack, NULL), PEGA_ERROR_NOT_FOUND);
  }
  const int after = open("/dev/null", O_RDONLY | O_CLOEXEC);
  close(after);
  assert_int_equal(before, after);
}

#define FOLDER_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      FOLDER_TEST(test_manifest_is_a_link),
      FOLDER_TEST(test_blobs_is_a_link),
      FOLDER_TEST(test_blob_is_a_link),
      FOLDER_TEST(test_pipes),
      FOLDER_TEST(test_folders_in_place_of_files),
      FOLDER_TEST(test_file_in_place_of_blobs),
      FOLDER_TEST(test_missing),
      FOLDER_TEST(test_devices),
      FOLDER_TEST(test_unreadable),
      FOLDER_TEST(test_blob_of_another_size),
      FOLDER_TEST(test_huge_file),
      FOLDER_TEST(test_wrong_file_is_not_read),
      FOLDER_TEST(test_short_files),
      FOLDER_TEST(test_changed_after_opening),
      FOLDER_TEST(test_file_changed_after_opening),
      FOLDER_TEST(test_file_is_closed_on_exec),
      FOLDER_TEST(test_shorter_than_it_says),
      FOLDER_TEST(test_size_changes_while_reading),
      FOLDER_TEST(test_descriptors),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
