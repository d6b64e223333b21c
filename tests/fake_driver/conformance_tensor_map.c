/* SPDX-License-Identifier: Apache-2.0 */
/* The argument rules of cuTensorMapEncodeTiled. */
#include "conformance.h"

typedef struct tiled {
  int type;
  uint32_t rank;
  uint64_t address;
  uint64_t dim[5];
  uint64_t strides[4];
  uint32_t box[5];
  uint32_t element[5];
  int interleave, swizzle, promotion, fill;
} tiled;

static const tiled kGood = {6, 2, 0x7000000, {128, 64}, {256}, {64, 32}, {1, 1}, 0, 3, 2, 0};

static CUresult encode(const tiled *it) {
  _Alignas(64) unsigned char map[128];
  return cu.cuTensorMapEncodeTiled(map, it->type, it->rank, (void *)(uintptr_t)it->address, it->dim,
                                   it->strides, it->box, it->element, it->interleave, it->swizzle,
                                   it->promotion, it->fill);
}

#define TILED(expected, ...)                                            \
  do {                                                                  \
    tiled it = kGood;                                                   \
    __VA_ARGS__;                                                        \
    check(__LINE__, "tiled with " #__VA_ARGS__, expected, encode(&it)); \
  } while (0)

void check_tensor_maps(void) {
  _Alignas(64) unsigned char map[192];
  TILED(0, (void)0);
  TILED(1, it.rank = 0);
  TILED(1, it.rank = 6);
  TILED(1, it.address += 8);
  TILED(1, it.dim[0] = 0);
  TILED(1, it.dim[1] = ((uint64_t)1 << 32) + 1);
  TILED(0, it.dim[1] = (uint64_t)1 << 32);
  TILED(1, it.strides[0] = 264);
  TILED(1, it.strides[0] = (uint64_t)1 << 40);
  TILED(0, it.strides[0] = 128); /* less than a row */
  TILED(1, it.box[0] = 0);
  TILED(1, it.box[1] = 257);
  TILED(0, it.box[1] = 256);
  TILED(1, it.box[0] = 4);
  TILED(1, it.box[0] = 128); /* 256 bytes, more than the swizzle */
  TILED(0, it.box[0] = 128, it.swizzle = 0);
  TILED(1, it.swizzle = 2);
  TILED(0, it.box[0] = 32, it.swizzle = 2);
  TILED(1, it.box[0] = 32, it.swizzle = 1);
  TILED(0, it.box[0] = 16, it.swizzle = 1);
  TILED(1, it.element[1] = 0);
  TILED(1, it.element[1] = 9);
  TILED(0, it.element[1] = 8);
  TILED(1, it.element[0] = 0);
  TILED(1, it.interleave = 1);
  TILED(1, it.interleave = 3);
  TILED(1, it.swizzle = 99);
  TILED(1, it.promotion = 4);
  TILED(1, it.fill = 2);
  TILED(0, it.fill = 1);
  TILED(1, it.fill = 1, it.type = 1);
  TILED(1, it.type = 99);
  CHECK(1, cu.cuTensorMapEncodeTiled(map, 6, 2, NULL, NULL, kGood.strides, kGood.box, kGood.element,
                                     0, 3, 2, 0));
  TILED(0, it.address = 0);
}
