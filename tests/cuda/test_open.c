/* SPDX-License-Identifier: Apache-2.0 */
/* Opening the driver, each way that it can fail and each driver that lacks something; and fork. What
 * happens once in a process happens here in a process of its own. */
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "entry_names.h"
#include "machine.h"
#include "packs.h"

static const kernel_param params[] = {SCRATCH("global_scratch"), END_OF_PARAMS};
static const kernel_param map_params[] = {
    {.type = "tensor_map",
     .value = "x",
     .role = "tensor_descriptor",
     .encoding = "{'block':[4,4],'swizzle':0,'elem_type':7,'elem_size':4,'padding':0}"},
    END_OF_PARAMS};
static const kernel_variant cluster = {"sm_90", "cluster", .params = params, .cluster = {2, 1, 1},
                                       .grid = {"2"}};
static const kernel_variant scratch = {"sm_90", "scratch", .params = params, .global_scratch = 16};
static const kernel_variant map = {"sm_90a", "map", .params = map_params};
static const kernel_variant both[] = {{"sm_90", "plain", .params = params},
                                      {"sm_80", "plain", .params = params}};
static const kernel_function functions[] = {
    {"t.plain", "[]", both, 2, NULL},
    {"t.cluster", "[]", &cluster, 1, NULL},
    {"t.scratch", "[]", &scratch, 1, NULL},
    {"t.map", "[{'name':'x','type':'Tensor'}]", &map, 1, NULL},
};
static bytes file;

static pega_function *get(const char *name) {
  pega_error error = PEGA_ERROR_INIT;
  pega_function *function;
  pega_pack *pack = pack_open(&file, 0);
  EXPECT_OK(pega_pack_get(pack, name, &function, &error), &error);
  pega_pack_release(pack);
  return function;
}

static pega_status call(const char *name, pega_error *error) {
  pega_function *function = get(name);
  const DLTensor x = {(void *)(uintptr_t)0x10000, CUDA(0), 2, FLOAT32, SHAPE(4, 4), NULL, 0};
  const pega_value value = pega_value_tensor(&x);
  const pega_status status =
      pega_function_call(function, &value, strcmp(name, "t.map") == 0 ? 1 : 0, NULL, error);
  pega_function_release(function);
  return status;
}

/* ---- Every call of the first use fails ---- */

static uint64_t nth;
static int code;
static bool no_such_call;

static void fail_one_call(void) {
  pega_error error = PEGA_ERROR_INIT;
  pega_device_info info = {.struct_size = sizeof info};
  pega_fake_driver_call failed;
  machine_start("");
  assert_int_equal(pega_fake_driver_fail(NULL, nth, code, false), 0);
  const pega_status status = pega_device_query(CUDA(0), &info, &error);
  pega_fake_driver_clear_failures();
  if (pega_fake_driver_get_call(nth - 1, &failed) != 0) {
    assert_int_equal(status, PEGA_OK);
    exit(77);
  }
  const char *text = pega_error_message(&error);
  char expected[128];
  char name[64];
  snprintf(name, sizeof name, "%s", failed.name);
  char *version = strstr(name, "_v");
  if (version != NULL) *version = '\0';
  if (strcmp(name, "cuInit") == 0 || strcmp(name, "cuDeviceGetCount") == 0 ||
      strcmp(name, "cuDriverGetVersion") == 0) {
    snprintf(expected, sizeof expected, "%s failed (CUresult %d)", name, code);
    assert_int_equal(status, PEGA_ERROR_UNAVAILABLE);
    assert_int_equal(error.code, code);
    EXPECT_TEXT(text, expected);
  } else if (strcmp(name, "cuGetProcAddress") == 0) {
    if (status != PEGA_OK) {
      assert_int_equal(status, PEGA_ERROR_SYMBOL);
      assert_int_equal(error.code, 803);
      EXPECT_TEXT(text, "libcuda.so.1 of version 13.0 lacks cu");
      EXPECT_TEXT(text, "which the library cannot do without");
    }
  } else {
    snprintf(expected, sizeof expected, "(%d)", code);
    assert_int_equal(status, code == 2 ? PEGA_ERROR_OUT_OF_MEMORY : PEGA_ERROR_DRIVER);
    assert_int_equal(error.code, code);
    EXPECT_TEXT(text, name);
    EXPECT_TEXT(text, expected);
  }
  /* A failure is not kept. */
  EXPECT_OK(pega_device_query(CUDA(0), &info, &error), &error);
  assert_int_equal(info.compute_capability, 90);
  /* An optional entry point that was not found is one that the driver has not. */
  EXPECT_OK(call(strcmp(name, "cuGetProcAddress") == 0 ? "t.plain" : "t.cluster", &error), &error);
  EXPECT_OK(pega_cuda_close(&error), &error);
  pega_error_clear(&error);
}

static void fail_in_child(void) {
  int status = -1;
  fflush(NULL);
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    fail_one_call();
    exit(0);
  }
  assert_int_equal(waitpid(child, &status, 0), child);
  no_such_call = WIFEXITED(status) && WEXITSTATUS(status) == 77;
  if (status != 0 && !no_such_call) {
    fail_msg("call %d failing with %d: the child ended with 0x%x", (int)nth, code,
             (unsigned)status);
  }
}

static void test_each_call_of_the_first_use(void **state) {
  (void)state;
  static const int codes[] = {1, 2, 3, 100, 201, 209, 400, 500, 700, 719, 801, 803, 999};
  for (int i = 0; i < COUNT(codes); ++i) {
    code = codes[i];
    no_such_call = false;
    for (nth = 1; !no_such_call; ++nth) {
      assert_true(nth < 200);
      /* Looking names up fails in one way alone. */
      if (i > 0 && nth > 4 && nth < 40) continue;
      fail_in_child();
    }
    assert_true(nth > 50);
  }
}

/* ---- Where the driver comes from ---- */

static void open_by_path(void) {
  pega_error error = PEGA_ERROR_INIT;
  pega_cuda_driver_options options = PEGA_CUDA_DRIVER_OPTIONS_INIT;
  Dl_info where;
  machine_start("");
  EXPECT_OK(pega_cuda_close(&error), &error);
  assert_int_equal(pega_fake_driver_num_calls(), 0); /* closing opens nothing */
  options.path = "/nowhere/libcuda.so.1";
  EXPECT_ERROR(
      pega_cuda_open(&options, &error), &error, PEGA_ERROR_UNAVAILABLE,
      "no CUDA driver: /nowhere/libcuda.so.1 could not be opened: ", "install the NVIDIA driver");
  options.path = "libm.so.6";
  EXPECT_ERROR(pega_cuda_open(&options, &error), &error, PEGA_ERROR_UNAVAILABLE,
               "libm.so.6 is no CUDA driver: it lacks cuInit");
  void *address;
  memcpy(&address, &cu.cuInit, sizeof address);
  assert_true(dladdr(address, &where) != 0);
  options.path = where.dli_fname;
  EXPECT_OK(pega_cuda_open(&options, &error), &error);
  EXPECT_OK(pega_cuda_open(NULL, &error), &error);
  EXPECT_ERROR(pega_cuda_open(&options, &error), &error, PEGA_ERROR_ALREADY_EXISTS,
               "a CUDA driver is open already");
  int32_t count = 0;
  EXPECT_OK(pega_device_count(&count, &error), &error);
  assert_int_equal(count, 1);
  EXPECT_OK(call("t.plain", &error), &error);
  pega_error_clear(&error);
}

static void bad_options(void) {
  pega_error error = PEGA_ERROR_INIT;
  machine_start("");
  struct {
    pega_cuda_driver_options options;
    char more[16];
  } longer = {PEGA_CUDA_DRIVER_OPTIONS_INIT, {0}};
  longer.options.struct_size = sizeof longer;
  longer.more[5] = 1;
  EXPECT_ERROR(pega_cuda_open(&longer.options, &error), &error, PEGA_ERROR_VERSION, "struct_size");
  longer.options.struct_size = 4;
  EXPECT_ERROR(pega_cuda_open(&longer.options, &error), &error, PEGA_ERROR_VERSION,
               "struct_size 4");
  longer.options.struct_size = sizeof longer.options;
  longer.options.reserved = 1;
  EXPECT_ERROR(pega_cuda_open(&longer.options, &error), &error, PEGA_ERROR_VERSION, "reserved 1");
  longer.options.reserved = 0;
  longer.options.path = "x";
  longer.options.find = (void *(*)(void *, const char *, int))(uintptr_t)1;
  EXPECT_ERROR(pega_cuda_open(&longer.options, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "both path and find");
  longer.more[5] = 0;
  longer.options.find = NULL;
  longer.options.path = NULL;
  longer.options.struct_size = sizeof longer;
  EXPECT_OK(pega_cuda_open(&longer.options, &error), &error);
  pega_error_clear(&error);
}

static void too_old(void) {
  pega_error error = PEGA_ERROR_INIT;
  machine_start("driver=11020");
  EXPECT_ERROR(
      pega_cuda_open(NULL, &error), &error, PEGA_ERROR_VERSION,
      "libcuda.so.1 is CUDA driver version 11.2: expected 11.3 or newer; update the driver");
  assert_int_equal(error.code, 803);
  assert_int_equal(pega_fake_driver_configure("driver=11030,cc=8.0"), 0);
  EXPECT_OK(pega_cuda_open(NULL, &error), &error);
  pega_device_info info = {.struct_size = sizeof info};
  EXPECT_OK(pega_device_query(CUDA(0), &info, &error), &error);
  assert_int_equal(info.driver_version, 11030);
  assert_int_equal(info.compute_capability, 80);
  EXPECT_OK(call("t.plain", &error), &error);
  pega_error_clear(&error);
}

static void no_device(void) {
  pega_error error = PEGA_ERROR_INIT;
  int32_t count = 7;
  machine_start("devices=0");
  EXPECT_ERROR(pega_device_count(&count, &error), &error, PEGA_ERROR_UNAVAILABLE, "CUDA driver",
               "call the tensor form on CPU tensors");
  assert_int_equal(error.code, 100);
  assert_int_equal(count, 7);
  EXPECT_ERROR(call("t.map", &error), &error, PEGA_ERROR_UNAVAILABLE, "CUDA driver");
  assert_int_equal(pega_fake_driver_configure("devices=3"), 0);
  EXPECT_OK(pega_device_count(&count, &error), &error);
  assert_int_equal(count, 3);
  pega_error_clear(&error);
}

static void test_where_it_comes_from(void **state) {
  (void)state;
  machine_in_child(open_by_path);
  machine_in_child(bad_options);
  machine_in_child(too_old);
  machine_in_child(no_device);
}

/* ---- A driver that is given, with something missing or changed ---- */

static const char *missing;
static int num_found;
static unsigned long long id_offset;
static sem_t entered, go_on;
static const char *blocking;

static CUresult (*real_id)(CUcontext, unsigned long long *);
static CUresult changed_id(CUcontext context, unsigned long long *id) {
  const CUresult result = real_id(context, id);
  *id += id_offset;
  return result;
}

static CUresult (*real_load)(CUmodule *, const void *);
static CUresult blocking_load(CUmodule *out, const void *image) {
  sem_post(&entered);
  sem_wait(&go_on);
  return real_load(out, image);
}

static CUresult (*real_init)(unsigned);
static CUresult blocking_init(unsigned flags) {
  sem_post(&entered);
  sem_wait(&go_on);
  return real_init(flags);
}

static void *find(void *user, const char *name, int version) {
  void *found = NULL;
  int status;
  assert_ptr_equal(user, &missing);
  ++num_found;
  if (missing != NULL && strcmp(name, missing) == 0) return NULL;
  if (cu.cuGetProcAddress_v2(name, &found, version, 0, &status) != 0) return NULL;
  if (strcmp(name, "cuCtxGetId") == 0) {
    memcpy(&real_id, &found, sizeof found);
    CUresult (*own)(CUcontext, unsigned long long *) = changed_id;
    memcpy(&found, &own, sizeof found);
  }
  if (blocking != NULL && strcmp(name, blocking) == 0 && strcmp(name, "cuInit") == 0) {
    memcpy(&real_init, &found, sizeof found);
    CUresult (*own)(unsigned) = blocking_init;
    memcpy(&found, &own, sizeof found);
  }
  if (blocking != NULL && strcmp(name, blocking) == 0 && strcmp(name, "cuModuleLoadData") == 0) {
    memcpy(&real_load, &found, sizeof found);
    CUresult (*own)(CUmodule *, const void *) = blocking_load;
    memcpy(&found, &own, sizeof found);
  }
  return found;
}

static pega_status open_given(pega_error *error) {
  pega_cuda_driver_options options = PEGA_CUDA_DRIVER_OPTIONS_INIT;
  options.find = find;
  options.user = &missing;
  return pega_cuda_open(&options, error);
}

static void without_required(void) {
  pega_error error = PEGA_ERROR_INIT;
  char text[128];
  machine_start("");
  snprintf(text, sizeof text, "lacks %s", missing);
  const bool first = strcmp(missing, "cuInit") == 0 || strcmp(missing, "cuDeviceGetCount") == 0;
  const bool version = strcmp(missing, "cuDriverGetVersion") == 0;
  const pega_status status = open_given(&error);
  if (version) {
    assert_int_equal(status, PEGA_ERROR_VERSION);
    EXPECT_TEXT(pega_error_message(&error), "the given driver is CUDA driver version 0.0");
  } else {
    assert_int_equal(status, first ? PEGA_ERROR_UNAVAILABLE : PEGA_ERROR_SYMBOL);
    EXPECT_TEXT(pega_error_message(&error), "the given driver");
    EXPECT_TEXT(pega_error_message(&error), text);
  }
  missing = NULL;
  EXPECT_OK(open_given(&error), &error);
  EXPECT_OK(call("t.cluster", &error), &error);
  pega_error_clear(&error);
}

static void without_optional(void) {
  pega_error error = PEGA_ERROR_INIT;
  machine_start("");
  EXPECT_OK(open_given(&error), &error);
  assert_true(num_found > 40);
  EXPECT_OK(call("t.plain", &error), &error);
  if (strcmp(missing, "cuLaunchKernelEx") == 0) {
    EXPECT_ERROR(
        call("t.cluster", &error), &error, PEGA_ERROR_UNSUPPORTED,
        "t.cluster: cannot be prepared on cuda:0: 'cluster' (sm_90) needs cuLaunchKernelEx "
        "(CUDA 11.6), which cuda:0 or its driver 13.0 lacks");
  } else {
    EXPECT_OK(call("t.cluster", &error), &error);
  }
  if (strcmp(missing, "cuMemAllocAsync") == 0 || strcmp(missing, "cuMemFreeAsync") == 0) {
    EXPECT_ERROR(call("t.scratch", &error), &error, PEGA_ERROR_UNSUPPORTED,
                 "t.scratch: nothing was launched: it needs 16 bytes of global scratch",
                 "pega_cuda_set_allocator()");
  } else {
    EXPECT_OK(call("t.scratch", &error), &error);
  }
  if (strcmp(missing, "cuTensorMapEncodeTiled") == 0) {
    EXPECT_ERROR(call("t.map", &error), &error, PEGA_ERROR_UNSUPPORTED,
                 "lacks cuTensorMapEncodeTiled (CUDA 12.0)");
  } else {
    EXPECT_OK(call("t.map", &error), &error);
  }
  CUcontext foreign;
  assert_int_equal(cu.cuCtxCreate_v2(&foreign, 0, 0), 0);
  if (strcmp(missing, "cuCtxGetId") == 0) {
    EXPECT_ERROR(call("t.plain", &error), &error, PEGA_ERROR_UNSUPPORTED,
                 "the current context is not the device's primary one", "cuCtxGetId, CUDA 12.0",
                 "make the primary context current");
  } else {
    EXPECT_OK(call("t.plain", &error), &error);
  }
  EXPECT_OK(pega_cuda_close(&error), &error);
  assert_int_equal(machine_live().modules, 0);
  pega_error_clear(&error);
}

static void test_missing_entry_points(void **state) {
  (void)state;
  static const char *const required[] = {PEGA_TEST_REQUIRED_ENTRIES};
  static const char *const optional[] = {PEGA_TEST_OPTIONAL_ENTRIES};
  assert_true(COUNT(required) > 30);
  assert_true(COUNT(optional) > 5);
  for (int i = 0; i < COUNT(required); ++i) {
    missing = required[i];
    machine_in_child(without_required);
  }
  for (int i = 0; i < COUNT(optional); ++i) {
    missing = optional[i];
    machine_in_child(without_optional);
  }
  missing = NULL;
}

/* A context of others that went, and came again at the same address: its number tells. */
static void context_that_comes_again(void) {
  pega_error error = PEGA_ERROR_INIT;
  CUcontext foreign;
  machine_start("");
  EXPECT_OK(open_given(&error), &error);
  pega_function *function = get("t.plain");
  assert_int_equal(cu.cuCtxCreate_v2(&foreign, 0, 0), 0);
  EXPECT_OK(pega_function_call(function, NULL, 0, NULL, &error), &error);
  const uint64_t loads = pega_fake_driver_count("cuModuleLoadData");
  EXPECT_OK(pega_function_call(function, NULL, 0, NULL, &error), &error);
  assert_int_equal(pega_fake_driver_count("cuModuleLoadData"), loads);
  id_offset = 1000;
  EXPECT_OK(pega_function_call(function, NULL, 0, NULL, &error), &error);
  assert_int_equal(pega_fake_driver_count("cuModuleLoadData"), loads + 1);
  EXPECT_OK(pega_function_call(function, NULL, 0, NULL, &error), &error);
  assert_int_equal(pega_fake_driver_count("cuModuleLoadData"), loads + 1);
  pega_function_release(function);
}

static void no_memory_pools(void) {
  pega_error error = PEGA_ERROR_INIT;
  machine_start("");
  assert_int_equal(pega_fake_driver_set_attribute(0, 115, 0), 0);
  assert_int_equal(pega_fake_driver_set_attribute(0, 120, 0), 0);
  EXPECT_ERROR(call("t.scratch", &error), &error, PEGA_ERROR_UNSUPPORTED,
               "cuda:0 has no stream-ordered pool for", "pega_cuda_set_allocator()");
  EXPECT_ERROR(call("t.cluster", &error), &error, PEGA_ERROR_UNSUPPORTED,
               "needs clusters, which cuda:0 or its driver 13.0 lacks");
  pega_error_clear(&error);
}

static void test_devices_that_differ(void **state) {
  (void)state;
  machine_in_child(context_that_comes_again);
  machine_in_child(no_memory_pools);
}

/* ---- Fork ---- */

static pega_function *before_fork;

/* In a child of fork; what it says is the same for all. */
#define REFUSED(call_)                                      \
  EXPECT_ERROR(call_, &error, PEGA_ERROR_UNAVAILABLE,       \
               "forked from one that had started the CUDA " \
               "driver",                                    \
               "start the child with exec");                \
  assert_int_equal(error.code, 3)

static void in_forked_child(void) {
  pega_error error = PEGA_ERROR_INIT;
  int32_t count;
  pega_device_info info = {.struct_size = sizeof info};
  pega_device_health_info health = {.struct_size = sizeof health};
  pega_pack *pack = pack_open(&file, 0);
  const uint64_t calls = pega_fake_driver_count(NULL);
  pega_cuda_driver_options options = PEGA_CUDA_DRIVER_OPTIONS_INIT;
  REFUSED(pega_device_count(&count, &error));
  REFUSED(pega_device_query(CUDA(0), &info, &error));
  REFUSED(pega_device_health(CUDA(0), &health, &error));
  REFUSED(pega_cuda_open(NULL, &error));
  REFUSED(pega_cuda_open(&options, &error));
  REFUSED(call("t.plain", &error));
  REFUSED(pega_pack_test(pack, CUDA(0), NULL, NULL, &error));
  if (before_fork != NULL) {
    REFUSED(pega_function_call(before_fork, NULL, 0, NULL, &error));
    REFUSED(pega_function_prepare(before_fork, CUDA(0), &error));
    pega_function_release(before_fork);
  }
  EXPECT_OK(pega_pack_register(pack, 0, &error), &error);
  EXPECT_OK(pega_cuda_close(&error), &error);
  /* What needs no device works. */
  pega_value value;
  EXPECT_OK(pega_pack_explain(pack, "t.plain", "sm_90", &value, &error), &error);
  pega_value_release(&value);
  assert_int_equal(pega_fake_driver_count(NULL), calls);
  pega_pack_release(pack);
  pega_error_clear(&error);
}

static void fork_after_use(void) {
  pega_error error = PEGA_ERROR_INIT;
  machine_start("");
  before_fork = get("t.plain");
  EXPECT_OK(pega_function_call(before_fork, NULL, 0, NULL, &error), &error);
  machine_in_child(in_forked_child);
  /* The parent goes on. */
  EXPECT_OK(pega_function_call(before_fork, NULL, 0, NULL, &error), &error);
  pega_function_release(before_fork);
  EXPECT_OK(pega_cuda_close(&error), &error);
  before_fork = NULL;
  machine_in_child(in_forked_child);
}

/* A driver that did not start can be started in a child. */
static void start_in_child(void) {
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_OK(call("t.plain", &error), &error);
  EXPECT_OK(pega_cuda_close(&error), &error);
}
static void fork_after_a_failure(void) {
  pega_error error = PEGA_ERROR_INIT;
  int32_t count;
  machine_start("");
  assert_int_equal(pega_fake_driver_fail("cuInit", 1, 100, false), 0);
  EXPECT_ERROR(pega_device_count(&count, &error), &error, PEGA_ERROR_UNAVAILABLE, "cuInit");
  machine_in_child(start_in_child);
  pega_error_clear(&error);
}

static void *prepare_slowly(void *unused) {
  pega_error error = PEGA_ERROR_INIT;
  (void)unused;
  if (pega_function_prepare(before_fork, CUDA(0), &error) != PEGA_OK) abort();
  return NULL;
}

static void *open_slowly(void *unused) {
  pega_error error = PEGA_ERROR_INIT;
  (void)unused;
  if (open_given(&error) != PEGA_OK) abort();
  return NULL;
}

/* Another thread is in the middle of it, with the library's locks held. */
static void fork_in_the_middle(void) {
  pega_error error = PEGA_ERROR_INIT;
  pthread_t thread;
  machine_start("");
  sem_init(&entered, 0, 0);
  sem_init(&go_on, 0, 0);
  const bool opening = strcmp(blocking, "cuInit") == 0;
  if (!opening) {
    EXPECT_OK(open_given(&error), &error);
    before_fork = get("t.plain");
  }
  assert_int_equal(pthread_create(&thread, NULL, opening ? open_slowly : prepare_slowly, NULL), 0);
  assert_int_equal(sem_wait(&entered), 0);
  machine_in_child(in_forked_child);
  sem_post(&go_on);
  assert_int_equal(pthread_join(thread, NULL), 0);
  EXPECT_OK(call("t.plain", &error), &error);
  pega_function_release(before_fork);
  before_fork = NULL;
}

static void test_fork(void **state) {
  (void)state;
  machine_in_child(fork_after_use);
  machine_in_child(fork_after_a_failure);
  blocking = "cuModuleLoadData";
  machine_in_child(fork_in_the_middle);
  blocking = "cuInit";
  machine_in_child(fork_in_the_middle);
  blocking = NULL;
}

int main(void) {
  file = pack_make("open", functions, COUNT(functions), NULL, 0);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_where_it_comes_from),
      cmocka_unit_test(test_missing_entry_points),
      cmocka_unit_test(test_devices_that_differ),
      cmocka_unit_test(test_fork),
      cmocka_unit_test(test_each_call_of_the_first_use),
  };
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  bytes_free(&file);
  return failed;
}
