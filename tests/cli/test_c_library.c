/* SPDX-License-Identifier: Apache-2.0 */
/* The command line on a library of plain C functions: its signature file beside it, or named. */
#include "support.h"

static char *library; /* has no signature file beside it */

static const char text[] =
    "{\"schema_version\": 1, \"functions\": [{\"name\": \"t.echo\", \"symbol\": \"fixture_i32\", "
    "\"params\": [{\"name\": \"x\", \"c\": \"i32\"}], \"returns\": {\"c\": \"i32\"}}]}";

static void test_named(void **state) {
  (void)state;
  write_file("elsewhere.json", text, sizeof text - 1);
  expect(run("list", "--artifact", library, "--signature", "elsewhere.json"), 0,
         "t.echo(x: int[-2147483648..2147483647]) -> int", NULL);
  expect(run("info", "--artifact", library, "--signature", "elsewhere.json", "t.echo"), 0,
         "  x: int", NULL);
  expect(run("call", "--artifact", library, "--signature", "elsewhere.json", "t.echo", "-7"), 0,
         "-7\n", NULL);
  expect(run("inspect", library, "--signature", "elsewhere.json"), 0, ": C library,", NULL);
  expect(run("inspect", library, "--signature=elsewhere.json"), 0, "t.echo", NULL);
}

static void test_beside(void **state) {
  (void)state;
  size_t size = 0;
  char *copy = read_whole_file(library, &size);
  write_file("copy.so", copy, size);
  free(copy);
  expect(run("list", "--artifact", "./copy.so"), 1, NULL, "copy.so.json");
  write_file("copy.so.json", text, sizeof text - 1);
  expect(run("call", "--artifact", "./copy.so", "t.echo", "3"), 0, "3\n", NULL);
  /* The one that is named decides. */
  expect(run("call", "--artifact", "./copy.so", "--signature", "none.json", "t.echo", "3"), 1, NULL,
         "none.json");
}

static void test_refused(void **state) {
  (void)state;
  write_file("bad.json", "{", 1);
  expect(run("list", "--artifact", library, "--signature", "bad.json"), 1, NULL, "bad.json");
  expect(run("inspect", library, "--signature", "bad.json"), 1, NULL, "bad.json");
  expect(run("list", "--signature", "elsewhere.json"), 2, NULL, "--signature is for --artifact");
  expect(run("call", "t.echo", "1", "--signature", "elsewhere.json"), 2, NULL,
         "--signature is for --artifact");
  expect(run("inspect", library, library, "--signature", "elsewhere.json"), 2, NULL,
         "--signature is for one FILE, got 2");
  expect(run("list", "--artifact", library, "--signature"), 2, NULL, "needs a value");
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_named),
      cmocka_unit_test(test_beside),
      cmocka_unit_test(test_refused),
  };
  set_pega_path(argc, argv);
  if (argc != 3) {
    (void)fprintf(stderr, "usage: %s PEGA LIBRARY\n", argv[0]);
    return 2;
  }
  library = argv[2];
  enter_folder();
  const int failed = cmocka_run_group_tests_name("cli.c_library", tests, NULL, NULL);
  leave_folder();
  free(pega_path);
  return failed;
}
