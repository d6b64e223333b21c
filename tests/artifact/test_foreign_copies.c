/* SPDX-License-Identifier: Apache-2.0 */
/* Exceptions of libraries that have an unwinder and a C++ runtime library of their own, in a program that has
 * neither. */
#include <dlfcn.h>
#include <string.h>

#include "../core/support.h"
#include "artifact/foreign_call.h"

static void no_unwinding(void *data) { (void)data; }

/* What is said of a Counted, by a runtime library whose functions are visible or not. */
static void throws(const char *path, const char *counted, const char *integer) {
  char what[kForeignWhatRoom];
  void (*thrower)(void *) = NULL;
  int (*alive)(void) = NULL;
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) fail_msg("%s", dlerror());
  *(void **)&thrower = dlsym(library, "foreign_thrower");
  *(void **)&alive = dlsym(library, "foreign_thrower_alive");
  for (int i = 0; i < 1000; ++i) {
    int kind = i % 3;
    memset(what, '#', sizeof what);
    assert_int_equal(pega_foreign_call(thrower, &kind, what, sizeof what), kind == 2);
    if (kind < 2) assert_string_equal(what, kind == 0 ? counted : integer);
    assert_int_equal(alive(), 0);
    kind = 0;
    assert_false(pega_foreign_call(thrower, &kind, NULL, 0));
    assert_int_equal(alive(), 0);
    assert_true(pega_foreign_call(no_unwinding, NULL, what, sizeof what));
  }
}

static const char text[] = "(anonymous namespace)::Counted: counted";

/* First: the process's own unwinder has not run yet. */
static void test_static(void **state) {
  (void)state;
  throws(STATIC_THROWER, text, "int");
}

/* Its functions cannot be had: the name as the linker has it, and no text. */
static void test_hidden(void **state) {
  (void)state;
  throws(HIDDEN_THROWER, "N12_GLOBAL__N_17CountedE", "i");
}

static void test_shared(void **state) {
  (void)state;
  throws(SHARED_THROWER, text, "int");
  throws(STATIC_THROWER, text, "int");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_static),
      cmocka_unit_test(test_hidden),
      cmocka_unit_test(test_shared),
  };
  return cmocka_run_group_tests_name("foreign copies", tests, NULL, NULL);
}
