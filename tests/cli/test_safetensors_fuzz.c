/* SPDX-License-Identifier: Apache-2.0 */
/* Thousands of damaged .safetensors files, the same ones each time: each is read or refused. */
#include <sys/mman.h>
#include <unistd.h>

#include "safetensors.h"
#include "support.h"

enum { ROUNDS = 6000, MOST = 4096 };

/* Marsaglia's xorshift: the same numbers everywhere. */
static uint32_t random_state = 0x2545f491;

static uint32_t random_below(uint32_t limit) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 17;
  random_state ^= random_state << 5;
  return random_state % limit;
}

typedef struct sample {
  unsigned char bytes[MOST];
  size_t size;
} sample;

static void make_sample(sample *out) {
  static const char header[] =
      "{\"__metadata__\":{\"format\":\"pt\"},"
      "\"w\":{\"dtype\":\"BF16\",\"shape\":[4,2],\"data_offsets\":[0,16]},"
      "\"x\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[16,28]},"
      "\"y\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[28,36]},"
      "\"z\":{\"dtype\":\"U8\",\"shape\":[0,7],\"data_offsets\":[36,36]}} ";
  const size_t header_size = sizeof header - 1;
  memset(out, 0, sizeof *out);
  out->bytes[0] = (unsigned char)header_size;
  out->bytes[1] = (unsigned char)(header_size >> 8);
  memcpy(out->bytes + 8, header, header_size);
  out->size = 8 + header_size + 36;
}

/* Replaces `old` bytes at `at` by a text. */
static void splice(sample *file, size_t at, size_t old, const char *text) {
  const size_t size = strlen(text);
  if (at + old > file->size || file->size - old + size > MOST) return;
  memmove(file->bytes + at + size, file->bytes + at + old, file->size - at - old);
  memcpy(file->bytes + at, text, size);
  file->size = file->size - old + size;
}

/* Sets the header's size to what it was plus a change. */
static void resize_header(sample *file, int change) {
  const int size = file->bytes[0] + 256 * file->bytes[1] + change;
  file->bytes[0] = (unsigned char)size;
  file->bytes[1] = (unsigned char)(size >> 8);
}

static void mutate(sample *file) {
  static const char *const numbers[] = {"0",
                                        "-1",
                                        "1",
                                        "36",
                                        "2147483648",
                                        "4611686018427387904",
                                        "9223372036854775807",
                                        "-9223372036854775808",
                                        "18446744073709551616",
                                        "1e3",
                                        "0.5",
                                        "null",
                                        "[]",
                                        "\"\""};
  static const char *const tokens[] = {"{",    "}",       "[",      "]",       ",",
                                       ":",    "\"",      "\\",     "\\u0000", "F64",
                                       "BOOL", "\"w\":{", "[[[[[[", "\xff",    " "};
  const size_t at = random_below((uint32_t)file->size);
  const size_t before = file->size;
  switch (random_below(8)) {
    case 0:
      file->bytes[at] ^= (unsigned char)(1U << random_below(8));
      break;
    case 1:
      file->bytes[at] = (unsigned char)random_below(256);
      break;
    case 2:
      file->size = at;
      break;
    case 3:
      file->bytes[random_below(8)] = (unsigned char)random_below(256);
      break;
    case 4: /* a number becomes another, and the header's size follows */
    case 5: {
      size_t digit = at;
      while (digit < file->size && (file->bytes[digit] < '0' || file->bytes[digit] > '9')) ++digit;
      splice(file, digit, 1, numbers[random_below(sizeof numbers / sizeof numbers[0])]);
      resize_header(file, (int)file->size - (int)before);
      break;
    }
    case 6:
      splice(file, at, random_below(3), tokens[random_below(sizeof tokens / sizeof tokens[0])]);
      if (random_below(2) != 0) resize_header(file, (int)file->size - (int)before);
      break;
    default:
      splice(file, file->size, 0, "tail");
      break;
  }
}

/* What a file that was taken must hold. */
static void check_taken(const safetensors *file, size_t file_size) {
  uint64_t total = 0;
  for (size_t i = 0; i < safetensors_count(file); ++i) {
    const safetensors_entry *entry = safetensors_at(file, i);
    uint64_t bytes = entry->dtype.bits / 8U;
    assert_in_range(entry->ndim, 0, PEGA_MAX_RANK);
    for (int32_t axis = 0; axis < entry->ndim; ++axis) bytes *= (uint64_t)entry->shape[axis];
    assert_int_equal(entry->size, bytes);
    assert_int_equal(entry->begin, total);
    assert_true(entry->size <= file_size);
    void *data = malloc(entry->size + 1);
    assert_non_null(data);
    assert_int_equal(safetensors_read(file, entry, data, NULL), PEGA_OK);
    free(data);
    total += entry->size;
  }
  assert_true(total < file_size);
}

static void test_fuzz(void **state) {
  (void)state;
  sample file;
  char path[64];
  int taken = 0;
  /* A file in memory: thousands on a disk take long. */
  const int descriptor = memfd_create("fuzz", MFD_CLOEXEC);
  assert_true(descriptor >= 0);
  (void)snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
  for (int round = 0; round < ROUNDS; ++round) {
    pega_error error = PEGA_ERROR_INIT;
    safetensors *opened = NULL;
    make_sample(&file);
    /* Round 0 is the sound file itself. */
    for (uint32_t i = 0; round > 0 && i <= random_below(3); ++i) {
      if (file.size > 0) mutate(&file);
    }
    assert_int_equal(ftruncate(descriptor, 0), 0);
    assert_int_equal(pwrite(descriptor, file.bytes, file.size, 0), file.size);
    const pega_status status = safetensors_open(path, &opened, &error);
    if (status == PEGA_OK) {
      check_taken(opened, file.size);
      ++taken;
      safetensors_close(opened);
    } else {
      assert_true(round > 0);
      assert_int_equal(error.status, status);
      assert_true(strstr(pega_error_message(&error), path) != NULL);
      assert_true(strlen(pega_error_message(&error)) > strlen(path) + 4);
      assert_string_not_equal(pega_status_name(status), "UNKNOWN");
      assert_int_not_equal(status, PEGA_ERROR_INTERNAL);
    }
    pega_error_clear(&error);
  }
  (void)close(descriptor);
  print_message("%d of %d files taken\n", taken, (int)ROUNDS);
  /* Damage in the data or in a name is none to the reader; most damage is. */
  assert_in_range(taken, ROUNDS / 100, ROUNDS / 2);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_fuzz)};
  return cmocka_run_group_tests_name("cli.safetensors_fuzz", tests, NULL, NULL);
}
