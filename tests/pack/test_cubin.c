/* SPDX-License-Identifier: Apache-2.0 */
/* Cubins against the manifest: each difference is refused with both sides in the text; damaged ones
 * are refused, whatever the damage. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "build.h"
#include "pack/cubin.h"

static pega_status verify(const cubin_spec *spec, pega_error *error) {
  pega_pack *pack = NULL;
  parts made = build_parts_with(build_cubin(spec));
  bytes file = build_file(&made);
  pega_status status = build_open(&file, 0, &pack, error);
  if (status == PEGA_OK) status = pega_pack_verify(pack, error);
  pega_pack_release(pack);
  bytes_free(&file);
  build_free(&made);
  return status;
}

static void expect_ok(const cubin_spec *spec) {
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_OK(verify(spec, &error), &error);
}

#define VARIANT "pack in memory: pack 'tests', function 't.scale', variant 0 (sm_90a), entry 'k': "

static void expect_difference(const cubin_spec *spec, const char *text) {
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_ERROR(verify(spec, &error), &error, PEGA_ERROR_FORMAT, VARIANT, text);
  EXPECT_TEXT(pega_error_message(&error), "build the pack again");
  pega_error_clear(&error);
}

static void test_good_ones(void **state) {
  (void)state;
  cubin_spec spec = build_spec_k();
  expect_ok(&spec);
  spec.new_abi = true;
  expect_ok(&spec);
  spec.accelerated = false;
  spec.compat_accelerated = true;
  expect_ok(&spec);
  spec.params_v2 = true;
  expect_ok(&spec);
  /* The least stack counts, and the frame where that is not said. */
  spec.stack = -1;
  spec.frame = 8;
  expect_ok(&spec);
  spec.reserved = false;
  spec.shared = 400;
  expect_ok(&spec);
  memset(spec.max_threads, 0, sizeof spec.max_threads);
  memset(spec.cluster, 0, sizeof spec.cluster);
  expect_ok(&spec);
}

static void test_params_differ(void **state) {
  (void)state;
  cubin_spec spec = build_spec_k();
  spec.params[2].size = 8;
  expect_difference(&spec,
                    "parameters differ: manifest [0+8 px, 8+8 py, 16+4 kn, 20+4 kf, 24+1 kb, "
                    "32+8 gs, 40+8 ps] (48 bytes), cubin [0+8, 8+8, 16+8, 20+4, 24+1, 32+8, 40+8] "
                    "(48 bytes)");
  spec = build_spec_k();
  spec.params[3].offset = 24;
  expect_difference(&spec, "cubin [0+8, 8+8, 16+4, 24+4, 24+1, 32+8, 40+8]");
  spec = build_spec_k();
  spec.num_params = 6;
  expect_difference(&spec, "cubin [0+8, 8+8, 16+4, 20+4, 24+1, 32+8] (48 bytes)");
  spec = build_spec_k();
  spec.bank = 56;
  expect_difference(&spec, "(56 bytes)");
  spec = build_spec_k();
  spec.params[spec.num_params].offset = 48;
  spec.params[spec.num_params++].size = 8;
  expect_difference(&spec, "40+8, 48+8] (48 bytes)");
}

static void test_everything_else_differs(void **state) {
  (void)state;
  cubin_spec spec = build_spec_k();
  spec.sm = 80;
  expect_difference(&spec, "targets differ: manifest sm_90a, cubin sm_80a");
  spec = build_spec_k();
  spec.accelerated = false;
  expect_difference(&spec, "targets differ: manifest sm_90a, cubin sm_90;");
  spec.new_abi = true;
  expect_difference(&spec, "targets differ: manifest sm_90a, cubin sm_90;");
  spec = build_spec_k();
  spec.entry = "kernel";
  expect_difference(&spec, "the cubin has no such entry, it has: kernel");
  spec = build_spec_k();
  spec.registers = 25;
  expect_difference(&spec, "registers differ: manifest 24, cubin 25");
  spec = build_spec_k();
  spec.stack = 16;
  expect_difference(&spec, "local bytes differ: manifest 8, cubin 16");
  spec = build_spec_k();
  spec.shared = 1425;
  expect_difference(&spec, "bytes of static shared memory differ: manifest 400, cubin 401");
  spec = build_spec_k();
  spec.reserved = false;
  expect_difference(&spec, "static shared memory differ: manifest 400, cubin 1424");
  spec = build_spec_k();
  spec.max_threads[0] = 127;
  expect_difference(&spec, "blocks differ: manifest 64 x 2 x 1, cubin at most 127 x 1 x 1");
  spec = build_spec_k();
  spec.block[0] = 128;
  spec.block[1] = spec.block[2] = 1;
  expect_difference(&spec, "blocks differ: manifest 64 x 2 x 1, cubin 128 x 1 x 1");
  spec = build_spec_k();
  spec.cluster[0] = 4;
  expect_difference(&spec, "clusters differ: manifest 2 x 1 x 1, cubin 4 x 1 x 1");
}

static void test_gaps_and_doubles(void **state) {
  (void)state;
  cubin_spec spec = build_spec_k();
  spec.first_ordinal = 1;
  expect_difference(&spec, "a parameter is missing from its table");
  spec.first_ordinal = 255;
  expect_difference(&spec, "it has more than 256 parameters");
}

/* The other blobs of the pack: no cubin, and PTX with a NUL. */
static void test_other_bytes(void **state) {
  (void)state;
  static const struct {
    const char *data;
    size_t size;
    const char *text;
  } cases[] = {
      {"", 0, "the blob is no cubin: it is no ELF file"},
      {"\177ELF", 4, "the blob is no cubin: it is no ELF file"},
      {".version 8.0 .target sm_90a .entry k() { ret; } // longer than an ELF header is", 76,
       "the blob is no cubin: it is no ELF file"},
  };
  for (int32_t i = 0; i < COUNT(cases); ++i) {
    pega_error error = PEGA_ERROR_INIT;
    pega_cubin_kernel kernel;
    EXPECT_ERROR(pega_cubin_read(cases[i].data, cases[i].size, "k", "it", &kernel, &error), &error,
                 PEGA_ERROR_FORMAT, cases[i].text);
    pega_error_clear(&error);
  }
  const cubin_spec spec = build_spec_k();
  bytes cubin = build_cubin(&spec);
  pega_error error = PEGA_ERROR_INIT;
  pega_cubin_kernel kernel;
  cubin.data[18] = 62;
  EXPECT_ERROR(pega_cubin_read(cubin.data, cubin.size, "k", "it", &kernel, &error), &error,
               PEGA_ERROR_FORMAT, "of machine 190, got class 2, order 1, machine 62");
  cubin.data[18] = 190;
  cubin.data[7] = 0x42;
  EXPECT_ERROR(pega_cubin_read(cubin.data, cubin.size, "k", "it", &kernel, &error), &error,
               PEGA_ERROR_FORMAT, "a cubin of an unknown ABI: 0x42, version 7");
  pega_error_clear(&error);
  bytes_free(&cubin);
}

static void test_ptx_with_a_nul(void **state) {
  (void)state;
  pega_error error = PEGA_ERROR_INIT;
  pega_pack *pack = NULL;
  char from[80], to[80];
  parts made = build_parts();
  made.blobs[1].data[40] = 0;
  snprintf(from, sizeof from, "%s", made.names[1]);
  build_digest(made.blobs[1].data, made.blobs[1].size, made.names[1]);
  snprintf(to, sizeof to, "%s", made.names[1]);
  build_replace(&made, from, to);
  build_replace(&made, from, to);
  bytes file = build_file(&made);
  EXPECT_OK(build_open(&file, 0, &pack, &error), &error);
  EXPECT_ERROR(pega_pack_verify(pack, &error), &error, PEGA_ERROR_FORMAT, "pack in memory: ",
               "variant 1 (sm_80), entry 'k': the PTX has a NUL at byte 40 of 56");
  pega_pack_release(pack);
  pega_error_clear(&error);
  bytes_free(&file);
  build_free(&made);
}

/* A copy that ends where its allocation does, for sanitizers to see. */
static pega_status read_copy(const unsigned char *data, size_t size) {
  pega_cubin_kernel kernel;
  pega_error error = PEGA_ERROR_INIT;
  unsigned char *copy = malloc(size == 0 ? 1 : size);
  assert_non_null(copy);
  memcpy(copy, data, size);
  pega_status status = pega_cubin_read(copy, size, "k", "it", &kernel, &error);
  if (status != PEGA_OK) {
    assert_int_equal(status, PEGA_ERROR_FORMAT);
    assert_true(pega_error_message(&error)[0] != '\0');
  }
  pega_error_clear(&error);
  free(copy);
  return status;
}

static void test_damaged(void **state) {
  (void)state;
  const cubin_spec spec = build_spec_k();
  bytes cubin = build_cubin(&spec);
  for (size_t size = 0; size < cubin.size; ++size) {
    assert_int_equal(read_copy(cubin.data, size), PEGA_ERROR_FORMAT);
  }
  static const unsigned char values[] = {0, 1, 0x7f, 0x80, 0xff};
  for (size_t i = 0; i < cubin.size; ++i) {
    const unsigned char before = cubin.data[i];
    for (int32_t j = 0; j < COUNT(values); ++j) {
      cubin.data[i] = values[j];
      read_copy(cubin.data, cubin.size);
    }
    for (int bit = 0; bit < 8; ++bit) {
      cubin.data[i] = (unsigned char)(before ^ 1 << bit);
      read_copy(cubin.data, cubin.size);
    }
    cubin.data[i] = before;
  }
  assert_int_equal(read_copy(cubin.data, cubin.size), PEGA_OK);
  bytes_free(&cubin);
}

static void test_random_damage(void **state) {
  (void)state;
  const char *given = getenv("PEGA_TEST_SEED");
  unsigned seed = given == NULL ? 20240602u : (unsigned)strtoul(given, NULL, 10);
  print_message("PEGA_TEST_SEED=%u\n", seed);
  const cubin_spec spec = build_spec_k();
  bytes cubin = build_cubin(&spec), copy = {NULL, 0};
  bytes_append(&copy, cubin.data, cubin.size);
  for (int i = 0; i < 20000; ++i) {
    memcpy(copy.data, cubin.data, cubin.size);
    const int count = 1 + rand_r(&seed) % 6;
    for (int j = 0; j < count; ++j) {
      /* Half of the damage is where it hurts: the header and the table of sections. */
      const size_t table = cubin.size - 640;
      size_t at = (size_t)rand_r(&seed) % cubin.size;
      if (rand_r(&seed) % 2 == 0) at = at % 704 < 64 ? at % 64 : table + at % 640;
      copy.data[at] = rand_r(&seed) % 3 == 0 ? 0xff : (unsigned char)rand_r(&seed);
    }
    read_copy(copy.data, copy.size);
  }
  bytes_free(&copy);
  bytes_free(&cubin);
}

/* ---- What the toolkit's assembler makes, where there is one ---- */

static bytes read_file(const char *path) {
  bytes made = {NULL, 0};
  char part[4096];
  size_t got;
  FILE *file = fopen(path, "rb");
  if (file == NULL) return made;
  while ((got = fread(part, 1, sizeof part, file)) > 0) bytes_append(&made, part, got);
  fclose(file);
  return made;
}

static void test_assembled(void **state) {
  (void)state;
  static const char source[] =
      ".version 8.0\n.target sm_%s\n.address_size 64\n"
      ".visible .entry k(.param .u64 p, .param .u32 n, .param .align 64 .b8 m[128])\n"
      ".reqntid 128, 1, 1\n{\n.shared .align 4 .b8 s[400];\n.reg .b64 %%rd<4>;\n.reg .b32 %%r<4>;\n"
      "ld.param.u64 %%rd1, [p];\nld.param.u32 %%r1, [n];\nst.shared.u32 [s], %%r1;\nbar.sync 0;\n"
      "ld.shared.u32 %%r2, [s+396];\nst.global.u32 [%%rd1], %%r2;\nret;\n}\n";
  static const struct {
    const char *name;
    int32_t compute_capability;
    bool accelerated;
  } targets[] = {{"80", 80, false}, {"90", 90, false}, {"90a", 90, true}};
  const char *ptxas = getenv("PEGA_TEST_PTXAS");
  const char *folder = build_temporary();
  char path[200], out[200], command[1000];
  int tried = 0;
  for (int32_t i = 0; i < COUNT(targets); ++i) {
    snprintf(path, sizeof path, "%s/k.ptx", folder);
    snprintf(out, sizeof out, "%s/k%s.cubin", folder, targets[i].name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, source, targets[i].name);
    fclose(file);
    snprintf(command, sizeof command, "%s -arch=sm_%s %s -o %s 2>/dev/null",
             ptxas == NULL ? "ptxas" : ptxas, targets[i].name, path, out);
    if (system(command) != 0) continue;
    ++tried;
    bytes cubin = read_file(out);
    pega_cubin_kernel kernel;
    pega_error error = PEGA_ERROR_INIT;
    EXPECT_OK(pega_cubin_read(cubin.data, cubin.size, "k", "it", &kernel, &error), &error);
    assert_int_equal(kernel.compute_capability, targets[i].compute_capability);
    assert_int_equal(kernel.accelerated, targets[i].accelerated);
    assert_int_equal(kernel.num_params, 3);
    assert_int_equal(kernel.params[0].offset, 0);
    assert_int_equal(kernel.params[0].size, 8);
    assert_int_equal(kernel.params[1].offset, 8);
    assert_int_equal(kernel.params[1].size, 4);
    /* To 64 in the constant bank, where the first parameter is at 0x160 or 0x210. */
    assert_int_equal(kernel.params[2].offset, targets[i].compute_capability == 80 ? 32 : 48);
    assert_int_equal(kernel.params[2].size, 128);
    assert_int_equal(kernel.param_bytes, kernel.params[2].offset + 128);
    assert_int_equal(kernel.static_shared, 400);
    assert_int_equal(kernel.block[0], 128);
    assert_true(kernel.registers > 0 && kernel.registers < 64);
    assert_int_equal(kernel.local_bytes, 0);
    EXPECT_ERROR(pega_cubin_read(cubin.data, cubin.size, "kk", "it", &kernel, &error), &error,
                 PEGA_ERROR_FORMAT, "it: the cubin has no such entry, it has: k");
    pega_error_clear(&error);
    bytes_free(&cubin);
  }
  build_remove(folder);
  if (tried == 0) print_message("no ptxas on PATH: only cubins made by hand were read\n");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_good_ones),
      cmocka_unit_test(test_params_differ),
      cmocka_unit_test(test_everything_else_differs),
      cmocka_unit_test(test_gaps_and_doubles),
      cmocka_unit_test(test_other_bytes),
      cmocka_unit_test(test_ptx_with_a_nul),
      cmocka_unit_test(test_damaged),
      cmocka_unit_test(test_random_damage),
      cmocka_unit_test(test_assembled),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
