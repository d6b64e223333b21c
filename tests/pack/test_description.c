/* SPDX-License-Identifier: Apache-2.0 */
/* What a manifest becomes, and which device takes which target. */
#include <string.h>

#include "build.h"
#include "pack/arena.h"
#include "pack/description.h"

static pega_pack *open_good(uint32_t flags) {
  pega_error error = PEGA_ERROR_INIT;
  pega_pack *pack = NULL;
  parts made = build_parts();
  bytes file = build_file(&made);
  EXPECT_OK(build_open(&file, flags, &pack, &error), &error);
  bytes_free(&file);
  build_free(&made);
  return pack;
}

static const pega_pack_function *described(pega_pack *pack, const char *name) {
  pega_error error = PEGA_ERROR_INIT;
  const pega_pack_function *function = NULL;
  int32_t index;
  EXPECT_OK(pega_pack_find(pack, name, &index, &error), &error);
  EXPECT_OK(pega_pack_describe(pack, index, &function, &error), &error);
  return function;
}

static void test_function(void **state) {
  (void)state;
  pega_pack *pack = open_good(0);
  pega_error error = PEGA_ERROR_INIT;
  assert_int_equal(pega_pack_num_functions(pack), 2);
  const pega_pack_function *f = described(pack, "t.scale");
  assert_ptr_equal(f, described(pack, "t.scale"));
  /* In the manifest's order. */
  assert_int_equal(pega_pack_index(pack, "t.scale"), 0);
  assert_int_equal(pega_pack_index(pack, "t.map"), 1);
  assert_string_equal(pega_pack_function_name(pack, 1), "t.map");
  assert_string_equal(f->doc, "Scales.");
  assert_int_equal(f->signature.num_params, 6);
  assert_int_equal(f->signature.flags, 0);
  assert_int_equal(f->signature.result, PEGA_TYPE_NONE);
  const pega_param *p = f->signature.params;
  assert_int_equal(p[0].flags, PEGA_PARAM_NONNULL);
  assert_int_equal(p[0].alignment, 16);
  assert_string_equal(p[0].doc, "in");
  assert_int_equal(p[1].flags, PEGA_PARAM_OUTPUT);
  assert_int_equal(p[2].flags, PEGA_PARAM_RANGE);
  assert_int_equal(p[2].max, 1000);
  assert_string_equal(p[3].domain, "> 0");
  assert_int_equal(p[5].type, PEGA_TYPE_STREAM);
  assert_null(p[5].doc);

  const pega_pack_function *map = described(pack, "t.map");
  assert_int_equal(map->signature.flags, PEGA_SIGNATURE_SAME_DEVICE);
  p = map->signature.params;
  assert_int_equal(p[0].device_type, kDLCUDA);
  assert_int_equal(p[0].dtype.code, kDLFloat);
  assert_int_equal(p[0].dtype.bits, 16);
  assert_string_equal(p[0].shape, "M, 64");
  assert_int_equal(p[0].flags, PEGA_PARAM_CONTIGUOUS);
  assert_int_equal(p[1].flags, PEGA_PARAM_OUTPUT | PEGA_PARAM_OPTIONAL);
  assert_string_equal(map->doc, "");
  assert_int_equal(map->num_golden, 0);

  int32_t index;
  EXPECT_ERROR(pega_pack_find(pack, "t.scal", &index, &error), &error, PEGA_ERROR_NOT_FOUND,
               "no function 't.scal' among the 2 of pack 'tests'; the nearest is 't.scale'");
  assert_int_equal(pega_pack_find(pack, "zzzzzzzz", &index, NULL), PEGA_ERROR_NOT_FOUND);
  assert_int_equal(pega_pack_index(pack, ""), -1);
  pega_error_clear(&error);
  pega_pack_release(pack);
}

static void test_variant(void **state) {
  (void)state;
  pega_pack *pack = open_good(PEGA_PACK_ALLOW_PTX);
  assert_int_equal(pega_pack_flags(pack), PEGA_PACK_ALLOW_PTX);
  const pega_pack_function *f = described(pack, "t.scale");
  assert_int_equal(f->num_variants, 2);
  const pega_kernel_variant *v = &f->variants[0];
  assert_string_equal(v->target.name, "sm_90a");
  assert_int_equal(v->target.compute_capability, 90);
  assert_int_equal(v->target.suffix, 'a');
  assert_int_equal(v->blob, 0);
  assert_int_equal(pega_pack_blob(pack, v->blob)->kind, kBlobCubin);
  assert_string_equal(v->entry, "k");
  assert_int_equal(v->num_conditions, 2);
  assert_string_equal(v->conditions[0].text, "n % 2 == 1");
  assert_int_equal(v->conditions[0].size, 5);
  assert_int_equal(v->num_params, 7);
  assert_int_equal(v->param_bytes, 48);
  assert_int_equal(v->params[2].type, kParamI32);
  assert_int_equal(v->params[2].offset, 16);
  assert_int_equal(v->params[2].size, 4);
  assert_int_equal(v->params[2].argument, -1);
  assert_int_equal(v->params[2].value.size, 3);
  assert_int_equal(v->params[3].argument, 3);
  assert_int_equal(v->params[3].value.size, 0);
  assert_int_equal(v->params[5].role, kRoleGlobalScratch);
  assert_null(v->params[5].encoding);
  assert_int_equal(v->params[6].role, kRoleProfileScratch);
  assert_string_equal(v->grid[0].text, "cdiv(n, 64)");
  assert_int_equal(v->block[1], 2);
  assert_int_equal(v->cluster[0], 2);
  assert_int_equal(v->shared, 1024);
  assert_int_equal(v->static_shared, 400);
  assert_int_equal(v->registers, 24);
  assert_int_equal(v->local_bytes, 8);
  assert_true(v->pdl);
  assert_false(v->cooperative);
  assert_int_equal(v->global_scratch.size, 256);
  assert_int_equal(v->global_scratch.alignment, 128);
  assert_int_equal(v->profile_scratch.alignment, 1);
  v = &f->variants[1];
  assert_int_equal(v->num_conditions, 0);
  assert_int_equal(v->cluster[0], 1);
  assert_int_equal(v->global_scratch.size, 0);
  assert_int_equal(v->global_scratch.alignment, 1);

  v = &described(pack, "t.map")->variants[0];
  assert_int_equal(v->params[0].argument, 0);
  assert_int_equal(v->params[0].size, 128);
  const pega_tensor_encoding *e = v->params[0].encoding;
  assert_int_equal(e->rank, 2);
  assert_int_equal(e->block[1], 64);
  assert_int_equal(e->swizzle, 3);
  assert_int_equal(e->elem_type, 6);
  assert_int_equal(e->elem_size, 2);
  assert_int_equal(e->l2_promotion, 2);
  pega_pack_release(pack);
}

static void test_golden(void **state) {
  (void)state;
  pega_pack *pack = open_good(0);
  const pega_pack_function *f = described(pack, "t.scale");
  assert_int_equal(f->num_golden, 1);
  const pega_golden *golden = &f->golden[0];
  assert_string_equal(golden->name, "three");
  assert_int_equal(golden->num_args, 5);
  const pega_golden_arg *a = golden->args;
  assert_int_equal(a[0].kind, PEGA_TENSOR);
  assert_int_equal(a[0].rank, 2);
  assert_int_equal(a[0].shape[0], 3);
  assert_int_equal(a[0].fill, kFillUniform);
  assert_int_equal(a[0].seed, 7);
  assert_true(a[0].low == -1 && a[0].high == 1.5);
  assert_int_equal(a[0].fill_blob, -1);
  assert_int_equal(a[0].expect_blob, -1);
  assert_int_equal(a[1].fill, kFillBlob);
  assert_int_equal(a[1].fill_blob, 2);
  assert_int_equal(a[1].expect_blob, 2);
  assert_true(a[1].atol == 0.001 && a[1].rtol == 0);
  assert_int_equal(a[2].kind, PEGA_INT);
  assert_int_equal(a[2].as.i64, 3);
  assert_int_equal(a[3].kind, PEGA_FLOAT);
  assert_true(a[3].as.f64 == 2);
  assert_int_equal(a[4].kind, PEGA_BOOL);
  assert_int_equal(a[4].as.i64, 1);
  assert_int_equal(a[4].fill, kFillNone);
  pega_pack_release(pack);
}

/* The signature is one that functions are made of. */
static pega_status no_call(void *self, const pega_value *args, int32_t num_args, pega_value *result,
                           pega_error *error) {
  return support_no_op(self, args, num_args, result, error);
}

static void test_signature_makes_a_function(void **state) {
  (void)state;
  pega_pack *pack = open_good(0);
  for (int32_t i = 0; i < pega_pack_num_functions(pack); ++i) {
    const pega_pack_function *f = described(pack, pega_pack_function_name(pack, (size_t)i));
    pega_error error = PEGA_ERROR_INIT;
    pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
    pega_function *function = NULL;
    options.name = f->name;
    options.doc = f->doc;
    options.signature = &f->signature;
    options.call = no_call;
    EXPECT_OK(pega_function_create(&options, &function, &error), &error);
    pega_function_release(function);
  }
  pega_pack_release(pack);
}

static void test_target_names(void **state) {
  (void)state;
  static const char *const bad[] = {"",        "sm_",    "sm_9",     "sm_090", "sm_9000", "sm_90b",
                                    "sm_90aa", "sm_90 ", " sm_90",   "SM_90",  "sm90",    "sm_80a",
                                    "sm_90f",  "sm_-90", "sm_90a\n", "sm_a",   "sm_1000a"};
  static const char *const good[] = {"sm_75", "sm_90", "sm_90a", "sm_100", "sm_100a", "sm_103f"};
  pega_target target;
  for (int32_t i = 0; i < COUNT(bad); ++i) assert_false(pega_target_parse(bad[i], &target));
  for (int32_t i = 0; i < COUNT(good); ++i) {
    assert_true(pega_target_parse(good[i], &target));
    assert_string_equal(target.name, good[i]);
  }
  assert_int_equal(target.compute_capability, 103);
  assert_int_equal(target.suffix, 'f');
}

static int rank_of(const char *name, int32_t device, char reason[200]) {
  pega_target target;
  assert_true(pega_target_parse(name, &target));
  memset(reason, 0x7f, 200);
  const int rank = pega_target_rank(&target, device, reason, 200);
  assert_true(strnlen(reason, 200) > 10 && strnlen(reason, 200) < 199);
  return rank;
}

static void test_target_ranks(void **state) {
  (void)state;
  /* Best first; then what does not run. */
  static const struct {
    int32_t device;
    const char *order[8];
    const char *never[8];
  } cases[] = {
      {90, {"sm_90a", "sm_90"}, {"sm_80", "sm_100", "sm_100a", "sm_89"}},
      {89, {"sm_89", "sm_86", "sm_80"}, {"sm_90", "sm_90a", "sm_75"}},
      {80, {"sm_80"}, {"sm_86", "sm_90", "sm_75"}},
      {103,
       {"sm_103a", "sm_103f", "sm_103", "sm_100f", "sm_100"},
       {"sm_100a", "sm_90", "sm_110f", "sm_120"}},
      {121, {"sm_121a", "sm_121", "sm_120f", "sm_120"}, {"sm_120a", "sm_100f", "sm_100", "sm_90"}},
  };
  char reason[200];
  for (int32_t i = 0; i < COUNT(cases); ++i) {
    int before = 1 << 30;
    for (int j = 0; j < 8 && cases[i].order[j] != NULL; ++j) {
      const int rank = rank_of(cases[i].order[j], cases[i].device, reason);
      assert_true(rank > 0 && rank < before);
      before = rank;
    }
    for (int j = 0; j < 8 && cases[i].never[j] != NULL; ++j) {
      assert_int_equal(rank_of(cases[i].never[j], cases[i].device, reason), 0);
    }
  }
  rank_of("sm_90a", 100, reason);
  assert_string_equal(reason, "sm_90a runs on compute capability 9.0 alone, this is 10.0");
  rank_of("sm_100f", 90, reason);
  EXPECT_TEXT(reason, "10.0 and later ones of its family, this is 9.0");
  rank_of("sm_86", 89, reason);
  assert_string_equal(reason, "sm_86 also runs on compute capability 8.9");
  pega_target target;
  assert_true(pega_target_parse("sm_90", &target));
  assert_true(pega_target_rank(&target, 90, NULL, 0) > 0);
}

static void test_ptx_ranks(void **state) {
  (void)state;
  char reason[200];
  pega_pack *pack = open_good(0);
  const pega_kernel_variant *v = described(pack, "t.scale")->variants;
  assert_int_equal(pega_variant_rank(pack, &v[1], 90, reason, sizeof reason), 0);
  EXPECT_TEXT(reason, "it is PTX for sm_80");
  EXPECT_TEXT(reason, "PEGA_PACK_ALLOW_PTX");
  assert_true(pega_variant_rank(pack, &v[0], 90, reason, sizeof reason) > 0);
  pega_pack_release(pack);
  pack = open_good(PEGA_PACK_ALLOW_PTX);
  v = described(pack, "t.scale")->variants;
  const int ptx = pega_variant_rank(pack, &v[1], 120, reason, sizeof reason);
  assert_true(ptx > 0);
  EXPECT_TEXT(reason, "PTX for sm_80 can be compiled for compute capability 12.0");
  /* Behind the worst cubin. */
  assert_true(ptx < rank_of("sm_120", 129, reason));
  assert_int_equal(pega_variant_rank(pack, &v[1], 75, reason, sizeof reason), 0);
  EXPECT_TEXT(reason, "PTX for sm_80 cannot be compiled for compute capability 7.5");
  pega_pack_release(pack);
}

static void test_blob_bytes(void **state) {
  (void)state;
  pega_pack *pack = open_good(0);
  pega_error error = PEGA_ERROR_INIT;
  const void *found = NULL, *again = NULL;
  size_t size = 0;
  const pega_pack_function *f = described(pack, "t.scale");
  EXPECT_OK(pega_pack_variant_bytes(pack, f, &f->variants[0], &found, &size, &error), &error);
  EXPECT_OK(pega_pack_blob_bytes(pack, 0, &again, &size, &error), &error);
  assert_ptr_equal(found, again);
  assert_int_equal(size, pega_pack_blob(pack, 0)->size);
  /* PTX has a NUL behind it, which the driver needs. */
  EXPECT_OK(pega_pack_variant_bytes(pack, f, &f->variants[1], &found, &size, &error), &error);
  assert_int_equal(((const char *)found)[size], 0);
  assert_int_equal(strlen(found), size);
  pega_pack_release(pack);
}

/* What is given back is zeroed when it is given out again, as all of an arena's memory. */
static void test_arena(void **state) {
  (void)state;
  pega_arena arena = {NULL};
  unsigned char *first = pega_arena_alloc(&arena, 1, 16);
  memset(first, 1, 16);
  const pega_arena_mark mark = pega_arena_here(&arena);
  unsigned char *before = NULL;
  for (int i = 0; i < 3; ++i) {
    unsigned char *again = pega_arena_alloc(&arena, 1, 100);
    if (i > 0) assert_ptr_equal(again, before);
    before = again;
    for (int k = 0; k < 100; ++k) assert_int_equal(again[k], 0);
    memset(again, 1, 100);
    assert_non_null(pega_arena_alloc(&arena, 1, 1 << 20)); /* a piece of its own */
    pega_arena_undo(&arena, mark);
  }
  assert_int_equal(first[15], 1);
  pega_arena_free(&arena);
  const pega_arena_mark nothing = pega_arena_here(&arena);
  assert_non_null(pega_arena_alloc(&arena, 1, 1));
  pega_arena_undo(&arena, nothing);
  assert_null(arena.chunks);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_function),     cmocka_unit_test(test_variant),
      cmocka_unit_test(test_golden),       cmocka_unit_test(test_signature_makes_a_function),
      cmocka_unit_test(test_target_names), cmocka_unit_test(test_target_ranks),
      cmocka_unit_test(test_arena),        cmocka_unit_test(test_ptx_ranks),
      cmocka_unit_test(test_blob_bytes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
