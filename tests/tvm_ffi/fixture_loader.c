/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Artifacts with an embedded binary, as compilers make them: `__tvm_ffi__library_bin` holds a tree
 * of modules, each with the kind of loader that it needs. LOADER_VARIANT picks what is wrong:
 *   0 nothing, but kind "cuda" needs a loader that no plain runtime has
 *   1 the size of the whole is absurd              2 the count of the import tree is absurd
 *   3 a kind is longer than the whole              4 a module is longer than the whole
 *   5 the whole ends in the middle of a module     6 there is no module at all
 *   7 the tree names a module that is not there    8 a kind that nobody has heard of
 *   9 the tree runs backwards                     10 the second module is the library once more
 */
#include "fixture.h"

#ifndef LOADER_VARIANT
#define LOADER_VARIANT 0
#endif

#define ABSURD UINT64_C(0x7fffffffffffff00)

#if LOADER_VARIANT == 8
#define KIND \
  { 'a', 'c', 'm', 'e' }
#elif LOADER_VARIANT == 10
#define KIND \
  { '_', 'l', 'i', 'b' }
#else
#define KIND \
  { 'c', 'u', 'd', 'a' }
#endif

struct __attribute__((packed)) tree {
  uint64_t num_offsets;
  uint64_t offsets[3];
  uint64_t num_children;
  uint64_t children[1];
  uint64_t root_kind_size;
  char root_kind[4];
  uint64_t kind_size;
  char kind[4];
#if LOADER_VARIANT != 10
  uint64_t module_size;
  char module[5];
#endif
};

struct __attribute__((packed)) library_bin {
  uint64_t size;
  struct tree tree;
};

TVM_FFI_DLL_EXPORT extern const struct library_bin __tvm_ffi__library_bin;
const struct library_bin __tvm_ffi__library_bin = {
#if LOADER_VARIANT == 1
    .size = ABSURD,
#elif LOADER_VARIANT == 5
    .size = sizeof(struct tree) - 3,
#else
    .size = sizeof(struct tree),
#endif
    .tree =
        {
#if LOADER_VARIANT == 2
            .num_offsets = ABSURD / 8,
#elif LOADER_VARIANT == 6
            .num_offsets = 0,
#else
            .num_offsets = 3,
#endif
#if LOADER_VARIANT == 9
            .offsets = {1, 0, 1},
#else
            .offsets = {0, 1, 1},
#endif
            .num_children = 1,
#if LOADER_VARIANT == 7
            .children = {99},
#else
            .children = {1},
#endif
            .root_kind_size = 4,
            .root_kind = {'_', 'l', 'i', 'b'},
#if LOADER_VARIANT == 3
            .kind_size = ABSURD,
#else
            .kind_size = 4,
#endif
            .kind = KIND,
#if LOADER_VARIANT == 4
            .module_size = ABSURD,
            .module = {'c', 'u', 'b', 'i', 'n'},
#elif LOADER_VARIANT != 10
            .module_size = 5,
            .module = {'c', 'u', 'b', 'i', 'n'},
#endif
        },
};

/* A function of the library itself, so that the artifact has something to list. */
FIXTURE_EXPORT(host_part) {
  fixture_return_int(result, 11);
  return 0;
}
