/* SPDX-License-Identifier: Apache-2.0 */
/* A host that loads the bridge, adds its loader and closes the bridge again: the loader's code stays. This
 * program is linked with libpega_artifact, not with the bridge. */
#include <dlfcn.h>
#include <pega/artifact.h>
#include <pega/tvm_ffi.h>

#include "../core/support.h"

static bool is_loaded(const char *path) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
  if (library != NULL) dlclose(library);
  return library != NULL;
}

/* What is no module of TVM FFI: every loader is asked, and none takes it. */
static void open_a_file(const char *who) {
  pega_error error = PEGA_ERROR_INIT;
  pega_artifact *artifact = NULL;
  pega_artifact_options options = PEGA_ARTIFACT_OPTIONS_INIT;
  options.path = PLAIN_LIBRARY;
  EXPECT_ERROR(pega_artifact_open(&options, &artifact, &error), &error, PEGA_ERROR_FORMAT,
               PLAIN_LIBRARY, who);
  assert_null(artifact);
  pega_error_clear(&error);
}

static void test_bridge_is_closed(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  open_a_file("no loader was added");
  assert_false(is_loaded(BRIDGE));
  void *bridge = dlopen(BRIDGE, RTLD_NOW | RTLD_LOCAL);
  if (bridge == NULL) fail_msg("%s", dlerror());
  void *found = dlsym(bridge, "pega_tvm_ffi_add_loader");
  assert_non_null(found);
  pega_status (*add_loader)(const pega_tvm_ffi_options *options, pega_error *error);
  memcpy(&add_loader, &found, sizeof found);
  EXPECT_OK(add_loader(NULL, &error), &error);
  assert_int_equal(dlclose(bridge), 0);
  open_a_file("the loaders that were asked do not know it: TVM FFI module");
  assert_true(is_loaded(BRIDGE));
}

#ifdef ALONE /* a sanitizer's runtime wants to be in one namespace */
/* Threads that end and functions that are held run its code. In a namespace where nothing else holds it. */
static void test_artifact_library_is_closed(void **state) {
  (void)state;
  void *library = dlmopen(LM_ID_NEWLM, ARTIFACT_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  Lmid_t space;
  if (library == NULL) fail_msg("%s", dlerror());
  assert_int_equal(dlinfo(library, RTLD_DI_LMID, &space), 0);
  assert_int_equal(dlclose(library), 0);
  library = dlmopen(space, ARTIFACT_LIBRARY, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
  assert_non_null(library);
}
#endif

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_bridge_is_closed),
#ifdef ALONE
      cmocka_unit_test(test_artifact_library_is_closed),
#endif
  };
  return cmocka_run_group_tests_name("unload", tests, NULL, NULL);
}
