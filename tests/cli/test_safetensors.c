/* SPDX-License-Identifier: Apache-2.0 */
/* The reader and writer of .safetensors files, and files that lie. */
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "safetensors.h"
#include "support.h"
#include "tensor.h"

/* Checks how opening a file fails. */
static void expect_refused(const char *what, const char *path, pega_status status,
                           const char *text) {
  pega_error error = PEGA_ERROR_INIT;
  safetensors *file = NULL;
  const pega_status got = safetensors_open(path, &file, &error);
  const char *message = pega_error_message(&error);
  if (got != status || strstr(message, text) == NULL || strstr(message, path) == NULL ||
      file != NULL) {
    fail_msg("%s: expected %s with \"%s\" and the path, got %s: %s", what, pega_status_name(status),
             text, pega_status_name(got), message);
  }
  pega_error_clear(&error);
  /* Without anybody to tell, too. */
  assert_int_equal(safetensors_open(path, &file, NULL), status);
}

#define TENSOR(name, dtype, shape, begin, end)                                                     \
  "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" #begin "," #end \
  "]}"

/* Files whose header can be read and is wrong: its text, bytes of data, what must be said. */
static const struct {
  const char *what;
  const char *header;
  size_t data;
  pega_status status;
  const char *text;
} LIES[] = {
    {"an array", "[1,2]", 0, PEGA_ERROR_FORMAT, "begins with '{'; got byte 0x5b"},
    {"a blank first", " {}", 0, PEGA_ERROR_FORMAT, "got byte 0x20"},
    {"no JSON", "{nonsense}", 0, PEGA_ERROR_FORMAT, "not the JSON it should be"},
    {"cut off", "{\"a\":{\"dtype\":\"F32\"", 0, PEGA_ERROR_FORMAT, "not the JSON it should be"},
    {"something behind", "{} x", 0, PEGA_ERROR_FORMAT, "not the JSON it should be"},
    {"broken UTF-8", "{\"\xff\":1}", 0, PEGA_ERROR_FORMAT, "not the JSON it should be"},
    {"NUL in a name", "{\"a\\u0000b\":1}", 0, PEGA_ERROR_FORMAT, "not the JSON it should be"},
    {"deep nesting", "{\"a\":[[[[[[[[[]]]]]]]]]}", 0, PEGA_ERROR_FORMAT, "nest deeper than 3"},
    {"a name twice", "{" TENSOR("a", "U8", "2", 0, 2) "," TENSOR("a", "U8", "2", 0, 2) "}", 2,
     PEGA_ERROR_FORMAT, "duplicate object key"},
    {"a member twice",
     "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"I8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2,
     PEGA_ERROR_FORMAT, "duplicate object key"},
    {"a number for a tensor", "{\"a\":7}", 0, PEGA_ERROR_FORMAT,
     "tensor \"a\": expected an object"},
    {"metadata no object", "{\"__metadata__\":[]}", 0, PEGA_ERROR_FORMAT, "an object of strings"},
    {"metadata of numbers", "{\"__metadata__\":{\"k\":1}}", 0, PEGA_ERROR_FORMAT,
     "__metadata__: \"k\": expected a string"},
    {"an unknown member",
     "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"strides\":[1],\"data_offsets\":[0,2]}}", 2,
     PEGA_ERROR_FORMAT, "unknown member \"strides\""},
    {"no dtype", "{\"a\":{\"shape\":[2],\"data_offsets\":[0,2]}}", 2, PEGA_ERROR_FORMAT,
     "dtype: expected a string"},
    {"dtype a number", "{\"a\":{\"dtype\":1,\"shape\":[2],\"data_offsets\":[0,2]}}", 2,
     PEGA_ERROR_FORMAT, "dtype: expected a string"},
    {"an unknown dtype", "{" TENSOR("a", "F33", "2", 0, 2) "}", 2, PEGA_ERROR_UNSUPPORTED,
     "tensor \"a\": dtype \"F33\" is not known"},
    {"dtype in small letters", "{" TENSOR("a", "f32", "2", 0, 8) "}", 8, PEGA_ERROR_UNSUPPORTED,
     "dtype \"f32\" is not known"},
    {"no shape", "{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,2]}}", 2, PEGA_ERROR_FORMAT,
     "shape: expected an array"},
    {"shape a number", "{\"a\":{\"dtype\":\"U8\",\"shape\":2,\"data_offsets\":[0,2]}}", 2,
     PEGA_ERROR_FORMAT, "shape: expected an array"},
    {"a size no integer", "{" TENSOR("a", "U8", "2.0", 0, 2) "}", 2, PEGA_ERROR_FORMAT,
     "dimension 0: expected an integer"},
    {"a size a text", "{" TENSOR("a", "U8", "1,\"2\"", 0, 2) "}", 2, PEGA_ERROR_FORMAT,
     "dimension 1: expected an integer"},
    {"a negative size", "{" TENSOR("a", "U8", "-2", 0, 2) "}", 2, PEGA_ERROR_SHAPE,
     "dimension 0: expected 0 or more, got -2"},
    {"two negative sizes", "{" TENSOR("a", "U8", "-1,-2", 0, 2) "}", 2, PEGA_ERROR_SHAPE,
     "expected 0 or more, got -1"},
    {"a size past 64 bits", "{" TENSOR("a", "U8", "99999999999999999999", 0, 2) "}", 2,
     PEGA_ERROR_FORMAT, "not the JSON it should be"},
    {"sizes that wrap round to 2", "{" TENSOR("a", "U8", "4611686018427387905,4,2", 0, 2) "}", 2,
     PEGA_ERROR_SHAPE, "more than 2^63 - 1 bytes"},
    {"bytes that wrap round", "{" TENSOR("a", "F64", "2305843009213693952", 0, 0) "}", 0,
     PEGA_ERROR_SHAPE, "more than 2^63 - 1 bytes"},
    {"sizes that wrap round beside 0",
     "{" TENSOR("a", "U8", "0,9223372036854775807,9223372036854775807", 0, 0) "}", 0,
     PEGA_ERROR_SHAPE, "more than 2^63 - 1 bytes"},
    {"rank 33",
     "{" TENSOR("a", "U8", "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1", 0,
                1) "}",
     1, PEGA_ERROR_SHAPE, "at most 32 dimensions, got 33"},
    {"no offsets", "{\"a\":{\"dtype\":\"U8\",\"shape\":[2]}}", 2, PEGA_ERROR_FORMAT,
     "data_offsets: expected two integers"},
    {"one offset", "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2]}}", 2,
     PEGA_ERROR_FORMAT, "data_offsets: expected two integers"},
    {"three offsets", "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2,2]}}", 2,
     PEGA_ERROR_FORMAT, "data_offsets: expected two integers"},
    {"offsets of text", "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,\"2\"]}}", 2,
     PEGA_ERROR_FORMAT, "data_offsets: expected two integers"},
    {"a negative offset", "{" TENSOR("a", "U8", "2", -2, 0) "}", 2, PEGA_ERROR_FORMAT,
     "within the 2 bytes of data, got [-2, 0]"},
    {"offsets backwards", "{" TENSOR("a", "U8", "2", 2, 0) "}", 2, PEGA_ERROR_FORMAT, "got [2, 0]"},
    {"offsets past the end", "{" TENSOR("a", "U8", "3", 0, 3) "}", 2, PEGA_ERROR_FORMAT,
     "within the 2 bytes of data, got [0, 3]"},
    {"offsets far past the end",
     "{" TENSOR("a", "U8", "2", 9223372036854775805, 9223372036854775807) "}", 2, PEGA_ERROR_FORMAT,
     "within the 2 bytes of data"},
    {"offsets shorter than the shape", "{" TENSOR("a", "F32", "2", 0, 7) "}", 7, PEGA_ERROR_FORMAT,
     "dtype and shape take 8 bytes, [0, 7] holds 7"},
    {"offsets longer than the shape", "{" TENSOR("a", "BF16", "2", 0, 8) "}", 8, PEGA_ERROR_FORMAT,
     "dtype and shape take 4 bytes, [0, 8] holds 8"},
    {"an overlap", "{" TENSOR("a", "U8", "4", 0, 4) "," TENSOR("b", "U8", "4", 2, 6) "}", 6,
     PEGA_ERROR_FORMAT, "tensor \"b\": data_offsets: expected to begin at 4, got 2: it overlaps"},
    {"the same bytes twice", "{" TENSOR("a", "U8", "4", 0, 4) "," TENSOR("b", "U8", "4", 0, 4) "}",
     4, PEGA_ERROR_FORMAT, "it overlaps"},
    {"an empty one inside another",
     "{" TENSOR("a", "U8", "4", 0, 4) "," TENSOR("b", "U8", "0", 2, 2) "}", 4, PEGA_ERROR_FORMAT,
     "it overlaps"},
    {"a gap", "{" TENSOR("a", "U8", "2", 0, 2) "," TENSOR("b", "U8", "2", 3, 5) "}", 5,
     PEGA_ERROR_FORMAT, "expected to begin at 2, got 3: there is a gap"},
    {"a gap at the start", "{" TENSOR("a", "U8", "2", 1, 3) "}", 3, PEGA_ERROR_FORMAT,
     "expected to begin at 0, got 1: there is a gap"},
    {"bytes behind", "{" TENSOR("a", "U8", "2", 0, 2) "}", 5, PEGA_ERROR_FORMAT,
     "end at byte 2 of the data, which has 5: 3 bytes belong to none"},
    {"bytes and no tensor", "{}", 1, PEGA_ERROR_FORMAT, "1 bytes belong to none"},
};

static void test_lies(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof LIES / sizeof LIES[0]; ++i) {
    write_safetensors("lie.safetensors", LIES[i].header, LIES[i].data);
    expect_refused(LIES[i].what, "lie.safetensors", LIES[i].status, LIES[i].text);
  }
}

/* The first eight bytes, and files that are shorter than they say. */
static void test_sizes(void **state) {
  (void)state;
  static const unsigned char seven[7] = {2};
  static const unsigned char empty_header[8] = {0};
  static const unsigned char past_end[9] = {2, 0, 0, 0, 0, 0, 0, 0, '{'};
  static const unsigned char most[9] = {255, 255, 255, 255, 255, 255, 255, 255, '{'};
  /* 100 000 001, in a file that has as many bytes: holes, which take no room. */
  static const unsigned char above_cap[8] = {0x01, 0xe1, 0xf5, 0x05};
  write_file("a.safetensors", "", 0);
  expect_refused("empty", "a.safetensors", PEGA_ERROR_FORMAT, "truncated: expected at least the 8");
  write_file("a.safetensors", seven, sizeof seven);
  expect_refused("7 bytes", "a.safetensors", PEGA_ERROR_FORMAT, "got 7");
  write_file("a.safetensors", empty_header, sizeof empty_header);
  expect_refused("empty header", "a.safetensors", PEGA_ERROR_FORMAT, "got 0 bytes");
  write_file("a.safetensors", past_end, sizeof past_end);
  expect_refused("header past the end", "a.safetensors", PEGA_ERROR_FORMAT,
                 "truncated: the header should have 2 bytes, the file has 1 left");
  write_file("a.safetensors", most, sizeof most);
  expect_refused("header of 2^64 - 1", "a.safetensors", PEGA_ERROR_FORMAT,
                 "expected at most 100000000 bytes, the file says 18446744073709551615");
  write_file("a.safetensors", above_cap, sizeof above_cap);
  assert_int_equal(truncate("a.safetensors", 100000100), 0);
  expect_refused("header above the cap", "a.safetensors", PEGA_ERROR_FORMAT,
                 "the file says 100000001");
  write_safetensors("a.safetensors", "{" TENSOR("a", "U8", "4", 0, 4) "}", 3);
  expect_refused("data cut off", "a.safetensors", PEGA_ERROR_FORMAT,
                 "within the 3 bytes of data, got [0, 4]");
  write_file("a.safetensors", "just a text file, no tensors in it\n", 35);
  expect_refused("a text file", "a.safetensors", PEGA_ERROR_FORMAT, "no .safetensors file");
}

static void test_no_files(void **state) {
  (void)state;
  char long_path[5000];
  pega_error error = PEGA_ERROR_INIT;
  safetensors *file = NULL;
  expect_refused("missing", "missing.safetensors", PEGA_ERROR_NOT_FOUND, "No such file");
  expect_refused("a folder", ".", PEGA_ERROR_IO, "expected a .safetensors file, got a directory");
  assert_int_equal(mkfifo("fifo.safetensors", 0600), 0);
  expect_refused("a FIFO", "fifo.safetensors", PEGA_ERROR_IO, "got a FIFO");
  expect_refused("a device", "/dev/null", PEGA_ERROR_IO, "got a character device");
  expect_refused("a file as a folder", "fifo.safetensors/a", PEGA_ERROR_IO, "Not a directory");
  assert_int_equal(symlink("loop.safetensors", "loop.safetensors"), 0);
  expect_refused("a loop", "loop.safetensors", PEGA_ERROR_IO, "symbolic links");
  memset(long_path, 'x', sizeof long_path - 1);
  long_path[sizeof long_path - 1] = '\0';
  assert_int_equal(safetensors_open(long_path, &file, &error), PEGA_ERROR_IO);
  assert_non_null(strstr(pega_error_message(&error), "xxx...\""));
  assert_true(strlen(pega_error_message(&error)) < 400);
  pega_error_clear(&error);
}

static void test_read(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  safetensors *file = NULL;
  const safetensors_entry *entry = NULL;
  unsigned char bytes[8];
  /* The second tensor stands first in the header; blanks follow. */
  write_safetensors(
      "b.safetensors",
      "{\"__metadata__\":{\"format\":\"x\"}," TENSOR("second:1", "I16", "2,2", 4, 12) "," TENSOR(
          "first", "F32", "", 0, 4) "," TENSOR("zero", "F64", "0,3", 4, 4) "}      ",
      12);
  assert_int_equal(safetensors_open("b.safetensors", &file, &error), PEGA_OK);
  assert_int_equal(safetensors_count(file), 3);
  assert_string_equal(safetensors_at(file, 0)->name, "first");
  assert_string_equal(safetensors_at(file, 1)->name, "zero");
  assert_null(safetensors_at(file, 3));
  assert_int_equal(safetensors_find(file, "second:1", &entry, &error), PEGA_OK);
  assert_int_equal(entry->ndim, 2);
  assert_int_equal(entry->shape[0], 2);
  assert_int_equal(entry->size, 8);
  assert_int_equal(entry->dtype.code, kDLInt);
  assert_int_equal(entry->dtype.bits, 16);
  assert_int_equal(safetensors_read(file, entry, bytes, &error), PEGA_OK);
  for (unsigned char i = 0; i < 8; ++i) assert_int_equal(bytes[i], 4 + i);
  assert_int_equal(safetensors_find(file, "third", &entry, &error), PEGA_ERROR_NOT_FOUND);
  assert_non_null(strstr(pega_error_message(&error),
                         "no tensor \"third\": it holds 3: \"first\", \"zero\", \"second:1\""));
  assert_int_equal(safetensors_find(file, NULL, &entry, &error), PEGA_ERROR_NOT_FOUND);
  assert_non_null(strstr(pega_error_message(&error), "say which tensor"));
  /* Cut off while it is open. */
  assert_int_equal(safetensors_find(file, "second:1", &entry, &error), PEGA_OK);
  assert_int_equal(truncate("b.safetensors", 20), 0);
  assert_int_equal(safetensors_read(file, entry, bytes, &error), PEGA_ERROR_FORMAT);
  assert_non_null(strstr(pega_error_message(&error), "8 bytes too early"));
  pega_error_clear(&error);
  safetensors_close(file);
  safetensors_close(NULL);
}

/* ---------------------------------------------------------------------------------- writing -- */

static const struct {
  const char *name;
  DLDataType dtype;
} ALL_DTYPES[] = {
    {"BOOL", {kDLBool, 8, 1}},
    {"U8", {kDLUInt, 8, 1}},
    {"I8", {kDLInt, 8, 1}},
    {"U16", {kDLUInt, 16, 1}},
    {"I16", {kDLInt, 16, 1}},
    {"U32", {kDLUInt, 32, 1}},
    {"I32", {kDLInt, 32, 1}},
    {"U64", {kDLUInt, 64, 1}},
    {"I64", {kDLInt, 64, 1}},
    {"F16", {kDLFloat, 16, 1}},
    {"BF16", {kDLBfloat, 16, 1}},
    {"F32", {kDLFloat, 32, 1}},
    {"F64", {kDLFloat, 64, 1}},
    {"F8_E4M3", {kDLFloat8_e4m3fn, 8, 1}},
    {"F8_E5M2", {kDLFloat8_e5m2, 8, 1}},
};
enum { NUM_DTYPES = sizeof ALL_DTYPES / sizeof ALL_DTYPES[0] };

static void test_round_trip(void **state) {
  (void)state;
  static const int64_t shape[2] = {3, 5};
  cli_tensor tensors[NUM_DTYPES + 2];
  safetensors_item items[NUM_DTYPES + 2];
  pega_error error = PEGA_ERROR_INIT;
  safetensors *file = NULL;
  const int count = NUM_DTYPES + 2;
  for (int i = 0; i < count; ++i) {
    /* The last two: rank 0 and no element. */
    static const int64_t none[2] = {0, 5};
    const DLDataType dtype = ALL_DTYPES[i < NUM_DTYPES ? i : 11].dtype;
    const int32_t rank = i == NUM_DTYPES ? 0 : 2;
    assert_int_equal(
        cli_tensor_create(dtype, rank, i < NUM_DTYPES ? shape : none, &tensors[i], &error),
        PEGA_OK);
    assert_int_equal((uintptr_t)tensors[i].view.data % CLI_TENSOR_ALIGNMENT, 0);
    items[i].name = i < NUM_DTYPES    ? ALL_DTYPES[i].name
                    : i == NUM_DTYPES ? "\xc3\xa4 \"\\"
                                      : "none";
    items[i].tensor = &tensors[i].view;
    const int64_t bytes = pega_tensor_num_bytes(&tensors[i].view);
    for (int64_t j = 0; j < bytes; ++j) ((char *)tensors[i].view.data)[j] = (char)(i * 31 + j);
    assert_string_equal(safetensors_dtype_name(dtype), ALL_DTYPES[i < NUM_DTYPES ? i : 11].name);
  }
  assert_int_equal(safetensors_write("c.safetensors", items, (size_t)count, &error), PEGA_OK);
  assert_int_equal(count_files(".pega-"), 0);
  assert_int_equal(safetensors_open("c.safetensors", &file, &error), PEGA_OK);
  assert_int_equal(safetensors_count(file), (size_t)count);
  for (int i = 0; i < count; ++i) {
    const safetensors_entry *entry = NULL;
    char bytes[256];
    assert_int_equal(safetensors_find(file, items[i].name, &entry, &error), PEGA_OK);
    assert_int_equal(entry->size, pega_tensor_num_bytes(&tensors[i].view));
    assert_memory_equal(&entry->dtype, &tensors[i].view.dtype, sizeof(DLDataType));
    assert_int_equal(entry->ndim, tensors[i].view.ndim);
    for (int32_t axis = 0; axis < entry->ndim; ++axis) {
      assert_int_equal(entry->shape[axis], tensors[i].shape[axis]);
    }
    assert_int_equal(entry->begin % (entry->dtype.bits / 8U), 0);
    assert_int_equal(safetensors_read(file, entry, bytes, &error), PEGA_OK);
    assert_memory_equal(bytes, tensors[i].view.data, entry->size);
  }
  safetensors_close(file);
  for (int i = 0; i < count; ++i) cli_tensor_clear(&tensors[i]);
}

/* One float, 1.5. */
static void make_item(safetensors_item *item, cli_tensor *tensor, const char *name) {
  const int64_t one = 1;
  assert_int_equal(cli_tensor_create((DLDataType){kDLFloat, 32, 1}, 1, &one, tensor, NULL),
                   PEGA_OK);
  *(float *)tensor->view.data = 1.5F;
  item->name = name;
  item->tensor = &tensor->view;
}

static void expect_not_written(const char *path, const safetensors_item *items, size_t count,
                               pega_status status, const char *text) {
  pega_error error = PEGA_ERROR_INIT;
  const int before = count_files("");
  const pega_status got = safetensors_write(path, items, count, &error);
  if (got != status || strstr(pega_error_message(&error), text) == NULL) {
    fail_msg("expected %s with \"%s\", got %s: %s", pega_status_name(status), text,
             pega_status_name(got), pega_error_message(&error));
  }
  assert_int_equal(count_files(""), before);
  pega_error_clear(&error);
}

static void test_write_refused(void **state) {
  (void)state;
  safetensors_item items[2];
  cli_tensor tensors[2];
  int64_t strides[1] = {2};
  make_item(&items[0], &tensors[0], "a");
  make_item(&items[1], &tensors[1], "a");
  expect_not_written("d.safetensors", items, 2, PEGA_ERROR_INVALID_ARGUMENT, "each used once");
  items[1].name = "\xff";
  expect_not_written("d.safetensors", items, 2, PEGA_ERROR_INVALID_ARGUMENT, "must be UTF-8");
  items[1].name = "__metadata__";
  expect_not_written("d.safetensors", items, 2, PEGA_ERROR_INVALID_ARGUMENT, "taken by the format");
  items[1].name = "b";
  tensors[1].view.dtype = (DLDataType){kDLFloat, 32, 2};
  expect_not_written("d.safetensors", items, 2, PEGA_ERROR_UNSUPPORTED,
                     "no element type float32x2");
  tensors[1].view.dtype = (DLDataType){kDLFloat, 32, 1};
  tensors[1].view.strides = strides;
  tensors[1].shape[0] = 2;
  expect_not_written("d.safetensors", items, 2, PEGA_ERROR_LAYOUT, "expected a row-major tensor");
  tensors[1].view.strides = NULL;
  tensors[1].shape[0] = 1;
  tensors[1].view.device.device_type = kDLCUDA;
  expect_not_written("d.safetensors", items, 2, PEGA_ERROR_LAYOUT, "on the CPU");
  tensors[1].view.device.device_type = kDLCPU;
  expect_not_written("no-folder/d.safetensors", items, 2, PEGA_ERROR_NOT_FOUND, "No such file");
  expect_not_written(".", items, 2, PEGA_ERROR_IO, "no regular file");
  expect_not_written("/dev/full", items, 2, PEGA_ERROR_IO, "no regular file");
  expect_not_written("", items, 2, PEGA_ERROR_NOT_FOUND, "cannot write");
  cli_tensor_clear(&tensors[0]);
  cli_tensor_clear(&tensors[1]);
}

/* A new file follows the umask; an old one keeps its mode; a link stays a link. */
static void test_write_in_place(void **state) {
  (void)state;
  safetensors_item item;
  cli_tensor tensor;
  struct stat info;
  size_t size = 0;
  make_item(&item, &tensor, "a");
  const mode_t mask = umask(027);
  assert_int_equal(safetensors_write("e.safetensors", &item, 1, NULL), PEGA_OK);
  (void)umask(mask);
  assert_int_equal(stat("e.safetensors", &info), 0);
  assert_int_equal(info.st_mode & 0777, 0640);
  assert_int_equal(chmod("e.safetensors", 0604), 0);
  assert_int_equal(symlink("e.safetensors", "link.safetensors"), 0);
  *(float *)tensor.view.data = 2.5F;
  assert_int_equal(safetensors_write("link.safetensors", &item, 1, NULL), PEGA_OK);
  assert_int_equal(lstat("link.safetensors", &info), 0);
  assert_true(S_ISLNK(info.st_mode));
  assert_int_equal(stat("e.safetensors", &info), 0);
  assert_int_equal(info.st_mode & 0777, 0604);
  char *bytes = read_whole_file("e.safetensors", &size);
  float number = 0;
  memcpy(&number, bytes + size - sizeof number, sizeof number);
  assert_true(number == 2.5F);
  free(bytes);
  cli_tensor_clear(&tensor);
}

/* A write that fails half-way leaves the old file and nothing else. */
static void test_write_fails(void **state) {
  (void)state;
  const int64_t many = 1 << 20;
  safetensors_item item;
  cli_tensor tensor;
  size_t size = 0;
  struct rlimit old;
  make_item(&item, &tensor, "a");
  write_file("f.safetensors", "old", 3);
  cli_tensor_clear(&tensor);
  assert_int_equal(cli_tensor_create((DLDataType){kDLUInt, 8, 1}, 1, &many, &tensor, NULL),
                   PEGA_OK);
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
  const struct rlimit low = {1 << 16, old.rlim_max};
  (void)signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
  expect_not_written("f.safetensors", &item, 1, PEGA_ERROR_IO, "File too large");
  expect_not_written("new.safetensors", &item, 1, PEGA_ERROR_IO, "File too large");
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
  (void)signal(SIGXFSZ, SIG_DFL);
  char *bytes = read_whole_file("f.safetensors", &size);
  assert_string_equal(bytes, "old");
  free(bytes);
  cli_tensor_clear(&tensor);
}

/* A process that is ended while it writes takes its temporary file along. */
static void test_write_interrupted(void **state) {
  (void)state;
  const int64_t many = INT64_C(1) << 27;
  for (int attempt = 0; attempt < 10; ++attempt) {
    const struct timespec pause = {0, 200000};
    int status = 0;
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
      safetensors_item item = {"a", NULL};
      cli_tensor tensor;
      if (cli_tensor_create((DLDataType){kDLUInt, 8, 1}, 1, &many, &tensor, NULL) != PEGA_OK) {
        _exit(1);
      }
      item.tensor = &tensor.view;
      _exit(safetensors_write("g.safetensors", &item, 1, NULL) == PEGA_OK ? 0 : 1);
    }
    while (count_files(".pega-") == 0 && waitpid(child, &status, WNOHANG) == 0) {
      (void)nanosleep(&pause, NULL);
    }
    (void)kill(child, SIGTERM);
    (void)waitpid(child, &status, 0);
    assert_int_equal(count_files(".pega-"), 0);
    (void)unlink("g.safetensors");
    if (WIFSIGNALED(status)) {
      assert_int_equal(WTERMSIG(status), SIGTERM);
      return;
    }
    assert_int_equal(WEXITSTATUS(status), 0);
  }
  print_message("SKIP: the file was written before the signal came, ten times\n");
  skip();
}

int main(int argc, char **argv) {
  (void)argc;
  (void)argv;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_lies),
      cmocka_unit_test(test_sizes),
      cmocka_unit_test(test_no_files),
      cmocka_unit_test(test_read),
      cmocka_unit_test(test_round_trip),
      cmocka_unit_test(test_write_refused),
      cmocka_unit_test(test_write_in_place),
      cmocka_unit_test(test_write_fails),
      cmocka_unit_test(test_write_interrupted),
  };
  enter_folder();
  const int failed = cmocka_run_group_tests_name("cli.safetensors", tests, NULL, NULL);
  leave_folder();
  return failed;
}
