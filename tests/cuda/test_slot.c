/* SPDX-License-Identifier: Apache-2.0 */
/* The built-in solve on a GPU: where its kernel comes from, and what the kernel gets from each form.
 * A slot is filled once in a process, so each case is a process of its own. */
#include <dlfcn.h>
#include <pega/qwen35.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "machine.h"
#include "packs.h"

#define SOLVE_PARAMS                                                                                               \
  "[{'name':'a_tril_ptr','type':'pointer'},{'name':'a_inv_ptr','type':'pointer'},{'name':'seq_len','type':'int'}," \
  "{'name':'num_value_heads','type':'int'},{'name':'stream','type':'stream'}]"

#define NORMALIZE "pegainfer.triton_cubin.qwen35.gated_delta_rule_prefill_normalize"
#define NORMALIZE_PARAMS                                                         \
  "[{'name':'q_ptr','type':'pointer'},{'name':'k_ptr','type':'pointer'},"        \
  "{'name':'q_out_ptr','type':'pointer'},{'name':'k_out_ptr','type':'pointer'}," \
  "{'name':'num_tokens','type':'int'},{'name':'num_key_heads','type':'int'},"    \
  "{'name':'stream','type':'stream'}]"

static const kernel_param params[] = {PARAM("pointer", "a_tril_ptr"),
                                      PARAM("pointer", "a_inv_ptr"),
                                      PARAM("i32", "seq_len"),
                                      PARAM("i32", "num_value_heads"),
                                      SCRATCH("global_scratch"),
                                      SCRATCH("profile_scratch"),
                                      END_OF_PARAMS};
static const kernel_variant first = {"sm_90a", "first", .params = params,
                                     .grid = {"cdiv(seq_len, 64)", "num_value_heads"}};
static const kernel_variant second = {"sm_90a", "second", .params = params,
                                      .grid = {"cdiv(seq_len, 64)", "num_value_heads"}};
static const kernel_variant bare = {"sm_90a", "bare", .grid = {"1"}};
static const kernel_function good = {PEGA_QWEN35_CHUNK_SOLVE_RAW, SOLVE_PARAMS, &first, 1, NULL};
static const kernel_function better = {PEGA_QWEN35_CHUNK_SOLVE_RAW, SOLVE_PARAMS, &second, 1, NULL};
static const kernel_function wrong = {
    PEGA_QWEN35_CHUNK_SOLVE_RAW,
    "[{'name':'a','type':'pointer'},{'name':'b','type':'pointer'},"
    "{'name':'n','type':'int'},{'name':'x','type':'Tensor'},"
    "{'name':'s','type':'stream'}]",
    &bare, 1, NULL};
static const kernel_function narrow = {
    PEGA_QWEN35_CHUNK_SOLVE_RAW,
    "[{'name':'a_tril_ptr','type':'pointer'},{'name':'a_inv_ptr','type':'pointer'},"
    "{'name':'seq_len','type':'int','min':0,'max':100},{'name':'num_value_heads','type':'int'},"
    "{'name':'stream','type':'stream'}]",
    &bare, 1, NULL};
static const kernel_function swapped = {
    PEGA_QWEN35_CHUNK_SOLVE_RAW,
    "[{'name':'a_inv_ptr','type':'pointer'},{'name':'a_tril_ptr','type':'pointer'},"
    "{'name':'seq_len','type':'int'},{'name':'num_value_heads','type':'int'},"
    "{'name':'stream','type':'stream'}]",
    &bare, 1, NULL};
static const kernel_function unrelated = {"t.unrelated", "[]", &bare, 1, NULL};

static char good_path[128], better_path[128], bad_path[128], wrong_path[128], unrelated_path[128];
static char narrow_path[128], swapped_path[128];
static const char *folder;
static uint64_t a_tril, a_inv;

static void write_pack(const kernel_function *described, const char *name, char *path) {
  bytes file = pack_make(name, described, 1, NULL, 0);
  snprintf(path, 128, "%s/%s.pegapack", folder, name);
  build_write(path, file.data, file.size);
  bytes_free(&file);
}

static void start(const char *pack_path) {
  if (pack_path == NULL) {
    unsetenv("PEGA_PACK_PATH");
  } else {
    setenv("PEGA_PACK_PATH", pack_path, 1);
  }
  machine_start("devices=2");
  a_tril = machine_alloc(1, 65 * 3 * 64 * 4);
  a_inv = machine_alloc(1, 65 * 3 * 64 * 2);
}

static pega_status call_raw(void *stream, pega_error *error) {
  pega_function *solve;
  EXPECT_OK(pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE_RAW, &solve, error), error);
  const pega_status status = pega_function_call(
      solve,
      ARGS(pega_value_pointer((void *)(uintptr_t)a_tril), pega_value_int((int64_t)a_inv),
           pega_value_int(65), pega_value_int(3), pega_value_pointer(stream)),
      NULL, error);
  pega_function_release(solve);
  return status;
}

static pega_status call_tensor(pega_error *error) {
  pega_function *solve;
  EXPECT_OK(pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE, &solve, error), error);
  const DLTensor in = {(void *)(uintptr_t)a_tril, CUDA(1), 3, FLOAT32, SHAPE(65, 3, 64), NULL, 0};
  const DLTensor out = {(void *)(uintptr_t)a_inv, CUDA(1), 3, BFLOAT16, SHAPE(65, 3, 64), NULL, 0};
  const pega_status status =
      pega_function_call(solve, ARGS(pega_value_tensor(&in), pega_value_tensor(&out)), NULL, error);
  pega_function_release(solve);
  return status;
}

static int call_symbol(void *stream) {
  return gated_delta_rule_prefill_chunk_solve_cuda((const float *)(uintptr_t)a_tril,
                                                   (uint16_t *)(uintptr_t)a_inv, 65, 3, stream);
}

static void expect_launch(const char *kernel, CUstream stream) {
  const pega_fake_driver_launch got = machine_last_launch();
  const int32_t n = 65, h = 3;
  const uint64_t null = 0;
  assert_string_equal(got.name, kernel);
  assert_ptr_equal(got.stream, stream);
  assert_int_equal(got.device, 1);
  assert_int_equal(got.num_params, 6);
  assert_memory_equal(got.params[0].bytes, &a_tril, 8);
  assert_memory_equal(got.params[1].bytes, &a_inv, 8);
  assert_memory_equal(got.params[2].bytes, &n, 4);
  assert_memory_equal(got.params[3].bytes, &h, 4);
  assert_memory_equal(got.params[4].bytes, &null, 8);
  assert_memory_equal(got.params[5].bytes, &null, 8);
  assert_int_equal(got.grid[0], 2);
  assert_int_equal(got.grid[1], 3);
  assert_int_equal(got.grid[2], 1);
  pega_fake_driver_clear_records();
}

/* Raw form, C symbol and tensor form, each on a stream and on the default one. */
static void expect_all_forms(const char *kernel) {
  pega_error error = PEGA_ERROR_INIT;
  CUstream stream = machine_stream(1, 1);
  EXPECT_OK(call_raw(NULL, &error), &error);
  expect_launch(kernel, NULL);
  EXPECT_OK(call_raw(stream, &error), &error);
  expect_launch(kernel, stream);
  assert_int_equal(call_symbol(NULL), 0);
  expect_launch(kernel, NULL);
  assert_int_equal(call_symbol(stream), 0);
  expect_launch(kernel, stream);
  EXPECT_OK(call_tensor(&error), &error);
  expect_launch(kernel, NULL);
  EXPECT_OK(pega_stream_set(CUDA(1), stream, NULL, &error), &error);
  EXPECT_OK(call_tensor(&error), &error);
  expect_launch(kernel, stream);
  EXPECT_OK(pega_stream_set(CUDA(1), NULL, NULL, &error), &error);
  assert_null(machine_current());
  machine_destroy_stream(1, stream);
}

/* Every form fails, with this status and these texts; the symbol with this number. */
static void expect_no_form(pega_status status, int number, const char *text, const char *more) {
  pega_error error = PEGA_ERROR_INIT;
  for (int again = 0; again < 2; ++again) {
    EXPECT_ERROR(call_raw(NULL, &error), &error, status,
                 PEGA_QWEN35_CHUNK_SOLVE_RAW ": nothing was launched: ", text, more);
    EXPECT_ERROR(call_tensor(&error), &error, status,
                 PEGA_QWEN35_CHUNK_SOLVE ": nothing was launched: ", text, more);
    assert_int_equal(call_symbol(NULL), number);
    EXPECT_ERROR(pega_symbol_last_error(&error), &error, status, text, more);
    pega_function *solve;
    EXPECT_OK(pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE, &solve, &error), &error);
    EXPECT_ERROR(pega_function_prepare(solve, CUDA(1), &error), &error, status, text, more);
    pega_function_release(solve);
  }
  assert_int_equal(pega_fake_driver_num_launches(), 0);
  pega_error_clear(&error);
}

/* Whether this library was built with a pack of its own that has the kernel. */
static bool is_embedded(void) {
  pega_error error = PEGA_ERROR_INIT;
  const bool there = call_raw(NULL, &error) != PEGA_ERROR_UNSUPPORTED;
  pega_error_clear(&error);
  return there;
}

static void no_pack(void) {
  start(NULL);
  if (is_embedded()) {
    print_message("the library has a pack of its own\n");
    return;
  }
  expect_no_form(PEGA_ERROR_UNSUPPORTED, 801, "holds no GPU kernel for it",
                 "PEGA_PACK_PATH is not set; name a pack in PEGA_PACK_PATH or give one to "
                 "pega_pack_register()");
}

static void good_pack(void) {
  pega_error error = PEGA_ERROR_INIT;
  start(good_path);
  expect_all_forms("first");
  EXPECT_OK(pega_cuda_close(&error), &error);
  expect_all_forms("first");
  pega_function *solve;
  EXPECT_OK(pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE_RAW, &solve, &error), &error);
  EXPECT_OK(pega_cuda_close(&error), &error);
  EXPECT_OK(pega_function_prepare(solve, CUDA(1), &error), &error);
  assert_int_equal(machine_live().functions_loaded, 1);
  pega_function_release(solve);
  /* Its own checks come first. */
  assert_int_equal(gated_delta_rule_prefill_chunk_solve_cuda(NULL, NULL, 1, 1, NULL), 1);
  assert_int_equal(gated_delta_rule_prefill_chunk_solve_cuda(
                       (const float *)(uintptr_t)a_tril, (uint16_t *)(uintptr_t)a_inv, 0, 3, NULL),
                   0);
  assert_int_equal(pega_fake_driver_num_launches(), 0);
}

static void prepared_and_captured(void) {
  pega_error error = PEGA_ERROR_INIT;
  start(good_path);
  CUstream stream = machine_stream(1, 1);
  CUgraph graph;
  CUcontext context;
  assert_int_equal(cu.cuDevicePrimaryCtxRetain(&context, 1), 0);
  assert_int_equal(cu.cuCtxPushCurrent_v2(context), 0);
  assert_int_equal(cu.cuStreamBeginCapture_v2(stream, 0), 0);
  EXPECT_ERROR(call_raw(stream, &error), &error, PEGA_ERROR_UNAVAILABLE,
               "the capture is still valid");
  assert_int_equal(call_symbol(stream), 900);
  pega_function *solve;
  EXPECT_OK(pega_registry_get(PEGA_QWEN35_CHUNK_SOLVE, &solve, &error), &error);
  EXPECT_OK(pega_function_prepare(solve, CUDA(1), &error), &error);
  pega_function_release(solve);
  EXPECT_OK(call_raw(stream, &error), &error);
  assert_int_equal(call_symbol(stream), 0);
  assert_int_equal(cu.cuStreamEndCapture(stream, &graph), 0);
  assert_int_equal(pega_fake_driver_num_launches(), 2);
  pega_error_clear(&error);
}

static void bad_pack(void) {
  start(bad_path);
  expect_no_form(PEGA_ERROR_FORMAT, 999, "PEGA_PACK_PATH names a pack that cannot be used: ",
                 "bad.pegapack: no pack: it does not begin with PEGAPACK");
}

static void missing_pack(void) {
  start("/nowhere/kernels.pegapack");
  expect_no_form(PEGA_ERROR_NOT_FOUND, 209,
                 "PEGA_PACK_PATH names a pack that cannot be used: ", "/nowhere/kernels.pegapack");
}

static void wrong_pack(void) {
  start(wrong_path);
  expect_no_form(PEGA_ERROR_FORMAT, 999, "PEGA_PACK_PATH names a pack that cannot be used: ",
                 "takes (a: pointer, b: pointer, n: int, x: Tensor, s: stream): expected "
                 "(a_tril_ptr: pointer, a_inv_ptr: pointer, seq_len: int, num_value_heads: int");
}

/* The library's own check lets more pass than this pack takes. */
static void narrow_pack(void) {
  start(narrow_path);
  expect_no_form(PEGA_ERROR_FORMAT, 999, "PEGA_PACK_PATH names a pack that cannot be used: ",
                 "with ranges no smaller and alignments no greater");
}

/* The same types in another order. */
static void swapped_pack(void) {
  start(swapped_path);
  expect_no_form(PEGA_ERROR_FORMAT, 999, "PEGA_PACK_PATH names a pack that cannot be used: ",
                 "takes (a_inv_ptr: pointer, a_tril_ptr: pointer");
}

static void unrelated_pack(void) {
  start(unrelated_path);
  if (is_embedded()) return;
  expect_no_form(PEGA_ERROR_UNSUPPORTED, 801, "no pack of PEGA_PACK_PATH '", "' has it");
}

static void empty_path(void) {
  start("");
  if (is_embedded()) return;
  expect_no_form(PEGA_ERROR_UNSUPPORTED, 801, "holds no GPU kernel for it", "PEGA_PACK_PATH");
}

static void list_of_packs(void) {
  char list[512];
  snprintf(list, sizeof list, "::%s:%s:%s:", unrelated_path, better_path, good_path);
  start(list);
  expect_all_forms("second");
}

/* A failure is not kept. */
static void pack_that_comes_later(void) {
  pega_error error = PEGA_ERROR_INIT;
  char path[160];
  snprintf(path, sizeof path, "%s/later.pegapack", folder);
  start(path);
  EXPECT_ERROR(call_raw(NULL, &error), &error, PEGA_ERROR_NOT_FOUND, "later.pegapack");
  assert_int_equal(symlink(good_path, path), 0);
  expect_all_forms("first");
  pega_error_clear(&error);
}

static void registered(void) {
  pega_error error = PEGA_ERROR_INIT;
  start(better_path);
  bytes file = pack_make("registered", &good, 1, NULL, 0);
  bytes other = pack_make("other", &better, 1, NULL, 0);
  pega_pack *pack = pack_open(&file, 0), *next = pack_open(&other, 0);
  EXPECT_OK(pega_pack_register(pack, 0, &error), &error);
  pega_pack_release(pack);
  expect_all_forms("first");
  EXPECT_ERROR(pega_pack_register(next, 0, &error), &error, PEGA_ERROR_ALREADY_EXISTS,
               PEGA_QWEN35_CHUNK_SOLVE_RAW
               "' has a kernel already; PEGA_REGISTER_OVERRIDE replaces it");
  expect_all_forms("first");
  EXPECT_OK(pega_pack_register(next, PEGA_REGISTER_OVERRIDE, &error), &error);
  expect_all_forms("second");
  EXPECT_ERROR(pega_pack_register(next, 6, &error), &error, PEGA_ERROR_INVALID_ARGUMENT,
               "unknown flags 0x6");
  pega_pack_release(next);
  expect_all_forms("second");
  bytes_free(&file);
  bytes_free(&other);
  /* The built-in keeps its place: one entry for each of its forms. */
  pega_value names;
  EXPECT_OK(pega_registry_list(&names, &error), &error);
  assert_int_equal(pega_value_size(&names), NUM_BUILTINS);
  pega_value_release(&names);
  pega_error_clear(&error);
}

static void expect_registered(const char *name, pega_status expected) {
  pega_function *found = NULL;
  assert_int_equal(pega_registry_get(name, &found, NULL), expected);
  pega_function_release(found);
}

/* One of several cannot be registered: then none is, and with OVERRIDE all are as they were. */
static void all_or_none(void) {
  pega_error error = PEGA_ERROR_INIT;
  static const kernel_function several[] = {
      {"t.one", "[]", &bare, 1, NULL},
      {PEGA_QWEN35_CHUNK_SOLVE_RAW, SOLVE_PARAMS, &first, 1, NULL},
      {"t.taken", "[]", &bare, 1, NULL},
      {"t.two", "[]", &bare, 1, NULL}};
  start(NULL);
  pega_function *taken = support_function("t.taken", NULL, 0, 0);
  EXPECT_OK(pega_registry_add(taken, 0, &error), &error);
  const bool embedded = is_embedded();
  bytes file = pack_make("several", several, COUNT(several), NULL, 0);
  pega_pack *pack = pack_open(&file, 0);
  EXPECT_ERROR(pega_pack_register(pack, 0, &error), &error, PEGA_ERROR_ALREADY_EXISTS, "'");
  expect_registered("t.one", PEGA_ERROR_NOT_FOUND);
  expect_registered("t.two", PEGA_ERROR_NOT_FOUND);
  if (!embedded) {
    EXPECT_ERROR(call_raw(NULL, &error), &error, PEGA_ERROR_UNSUPPORTED, "holds no GPU kernel");
  }
  /* With a function that cannot be the built-in's kernel. */
  bytes_free(&file);
  pega_pack_release(pack);
  kernel_function with_wrong[] = {several[0], several[2], wrong};
  file = pack_make("wrong", with_wrong, COUNT(with_wrong), NULL, 0);
  pack = pack_open(&file, 0);
  EXPECT_ERROR(pega_pack_register(pack, PEGA_REGISTER_OVERRIDE, &error), &error, PEGA_ERROR_FORMAT,
               "takes (a: pointer, b: pointer, n: int, x: Tensor, s: stream)");
  expect_registered("t.one", PEGA_ERROR_NOT_FOUND);
  pega_function *found;
  EXPECT_OK(pega_registry_get("t.taken", &found, &error), &error);
  assert_ptr_equal(found, taken);
  pega_function_release(found);
  bytes_free(&file);
  pega_pack_release(pack);
  /* And when nothing is in the way, all. */
  file = pack_make("several", several, COUNT(several), NULL, 0);
  pack = pack_open(&file, 0);
  EXPECT_OK(pega_pack_register(pack, PEGA_REGISTER_OVERRIDE, &error), &error);
  pega_pack_release(pack);
  expect_registered("t.one", PEGA_OK);
  expect_registered("t.two", PEGA_OK);
  EXPECT_OK(pega_registry_get("t.taken", &found, &error), &error);
  assert_ptr_not_equal(found, taken);
  EXPECT_OK(pega_function_call(found, NULL, 0, NULL, &error), &error);
  assert_string_equal(machine_last_launch().name, "bare");
  pega_function_release(found);
  pega_function_release(taken);
  expect_all_forms("first");
  bytes_free(&file);
  pega_error_clear(&error);
}

/* What another thread does meanwhile: once, before the library locks the registry for writing. It stands
 * before the C library's. */
static pega_pack *registered_first;

int pthread_rwlock_wrlock(pthread_rwlock_t *lock) {
  int (*next)(pthread_rwlock_t *);
  *(void **)&next = dlsym(RTLD_NEXT, "pthread_rwlock_wrlock");
  pega_pack *pack = registered_first;
  registered_first = NULL;
  if (pack != NULL) assert_int_equal(pega_pack_register(pack, 0, NULL), PEGA_OK);
  return next(lock);
}

/* Another registers one of the kernels after this one has found it free: then this one fills none. */
static void registered_at_once(void) {
  pega_error error = PEGA_ERROR_INIT;
  static const kernel_function both[] = {
      {NORMALIZE, NORMALIZE_PARAMS, &bare, 1, NULL},
      {PEGA_QWEN35_CHUNK_SOLVE_RAW, SOLVE_PARAMS, &second, 1, NULL}};
  start(NULL);
  bytes file = pack_make("both", both, 2, NULL, 0);
  bytes other = pack_make("good", &good, 1, NULL, 0);
  bytes rest = pack_make("rest", both, 1, NULL, 0);
  pega_pack *pack = pack_open(&file, 0), *left = pack_open(&rest, 0), *one = pack_open(&other, 0);
  registered_first = one;
  EXPECT_ERROR(pega_pack_register(pack, 0, &error), &error, PEGA_ERROR_ALREADY_EXISTS,
               "'" PEGA_QWEN35_CHUNK_SOLVE_RAW "' has a kernel already");
  assert_null(registered_first);
  EXPECT_OK(pega_pack_register(left, 0, &error), &error); /* its kernel's place is still free */
  expect_all_forms("first");
  pega_pack_release(pack);
  pega_pack_release(left);
  pega_pack_release(one);
  bytes_free(&file);
  bytes_free(&rest);
  bytes_free(&other);
}

static void in_child(void **state) { machine_in_child(*(void (**)(void)) * state); }

int main(void) {
  folder = build_temporary();
  write_pack(&good, "good", good_path);
  write_pack(&better, "better", better_path);
  write_pack(&wrong, "wrong", wrong_path);
  write_pack(&narrow, "narrow", narrow_path);
  write_pack(&swapped, "swapped", swapped_path);
  write_pack(&unrelated, "unrelated", unrelated_path);
  snprintf(bad_path, sizeof bad_path, "%s/bad.pegapack", folder);
  build_write(bad_path, "no pack at all, but long enough to be one", 41);
  static void (*bodies[])(void) = {no_pack,     good_pack,     prepared_and_captured,
                                   bad_pack,    missing_pack,  wrong_pack,
                                   narrow_pack, swapped_pack,  unrelated_pack,
                                   empty_path,  list_of_packs, pack_that_comes_later,
                                   registered,  all_or_none,   registered_at_once};
  static const char *const names[] = {"no pack",     "good pack",     "prepared and captured",
                                      "bad pack",    "missing pack",  "wrong pack",
                                      "narrow pack", "swapped pack",  "unrelated pack",
                                      "empty path",  "list of packs", "pack that comes later",
                                      "registered",  "all or none",   "registered at once"};
  struct CMUnitTest tests[COUNT(bodies)];
  for (int i = 0; i < COUNT(bodies); ++i) {
    tests[i] = (struct CMUnitTest){names[i], in_child, NULL, NULL, &bodies[i]};
  }
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  build_remove(folder);
  return failed;
}
