/* SPDX-License-Identifier: Apache-2.0 */
/* The number of a name that tables use: of each process its own, so that names cannot be made to meet. */
#include "core/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

enum { kNames = 4096, kBuckets = 2 * kNames };

static const char *program;

static uint64_t of_another_process(void) {
  char command[4096];
  uint64_t number = 0;
  snprintf(command, sizeof command, "'%s' hash", program);
  FILE *pipe = popen(command, "r");
  assert_non_null(pipe);
  assert_int_equal(fscanf(pipe, "%" SCNx64, &number), 1);
  assert_int_equal(pclose(pipe), 0);
  return number;
}

static void test_each_process_has_its_own(void **state) {
  (void)state;
  char copy[] = "a name of some length";
  assert_int_equal(pega_text_hash("a name of some length"), pega_text_hash(copy));
  assert_true(pega_text_hash("a name of some length") != of_another_process());
}

/* Names that differ in little are spread, by the lowest bits and by the highest. */
static void test_spread(void **state) {
  (void)state;
  static const char *const forms[][2] = {
      {"f", ""}, {"", ".some.engine.kernel"}, {"engine.attention_", "_bf16"}, {"12345678", ""}};
  for (int form = 0; form < COUNT(forms); ++form) {
    for (int shift = 0; shift <= 64 - 13; shift += 64 - 13) {
      static unsigned char counts[kBuckets];
      memset(counts, 0, sizeof counts);
      for (int i = 0; i < kNames; ++i) {
        char name[64];
        snprintf(name, sizeof name, "%s%d%s", forms[form][0], i, forms[form][1]);
        /* Of 4096 thrown into 8192 no 20 meet. */
        assert_true(++counts[pega_text_hash(name) >> shift & (kBuckets - 1)] < 20);
      }
    }
  }
}

int main(int argc, char **argv) {
  if (argc == 2 && strcmp(argv[1], "hash") == 0) {
    printf("%" PRIx64 "\n", pega_text_hash("a name of some length"));
    return 0;
  }
  program = argv[0];
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_each_process_has_its_own),
      cmocka_unit_test(test_spread),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
