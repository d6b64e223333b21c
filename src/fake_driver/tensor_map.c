/* SPDX-License-Identifier: Apache-2.0 */
/* Tensor maps: the argument rules of cuTensorMapEncodeTiled, source: its description in cuda.h of
   CUDA 13.0; and a record of the arguments in the place of the hardware's format. */
#include <string.h>

#include "fake.h"

enum { kMapSize = 128, kMostRank = 5 };

/* What the 128 bytes hold. The box's sides are at most 256 and stored less one. */
typedef struct encoded {
  char magic[8];
  uint64_t address;
  uint64_t dim[kMostRank]; /* up to 2^32 */
  uint64_t strides[kMostRank - 1];
  uint8_t box[kMostRank];
  uint8_t element_strides[kMostRank];
  uint8_t rank;
  uint8_t data_type;
  uint8_t interleave;
  uint8_t swizzle;
  uint8_t l2_promotion;
  uint8_t oob_fill;
} encoded;

_Static_assert(sizeof(encoded) <= kMapSize, "a tensor map has 128 bytes");

static const char kMagic[8] = {'p', 'e', 'g', 'a', 't', 'm', 'a', 'p'};

typedef struct arguments {
  int data_type;
  uint32_t rank;
  uint64_t address;
  const uint64_t *dim;
  const uint64_t *strides;
  const uint32_t *box;
  const uint32_t *element_strides;
  int interleave;
  int swizzle;
  int l2_promotion;
  int oob_fill;
} arguments;

/* Bits of an element, by CUtensorMapDataType. */
static const uint8_t kBits[] = {8, 16, 32, 32, 64, 64, 16, 32, 64, 16, 32, 32, 32, 4, 4, 6};

static bool is_padded(int type) {
  return type == FAKE_CU_TENSOR_MAP_DATA_TYPE_16U4_ALIGN16B ||
         type == FAKE_CU_TENSOR_MAP_DATA_TYPE_16U6_ALIGN16B;
}

static bool is_float(int type) {
  return type >= FAKE_CU_TENSOR_MAP_DATA_TYPE_FLOAT16 &&
         type <= FAKE_CU_TENSOR_MAP_DATA_TYPE_TFLOAT32_FTZ;
}

static bool enums_are_good(const arguments *it) {
  int type = it->data_type;
  int swizzle = it->swizzle;
  if (type < 0 || type >= (int)sizeof kBits || it->interleave < 0 ||
      it->interleave > FAKE_CU_TENSOR_MAP_INTERLEAVE_32B || swizzle < 0 ||
      swizzle > FAKE_CU_TENSOR_MAP_SWIZZLE_128B_ATOM_64B || it->l2_promotion < 0 ||
      it->l2_promotion > FAKE_CU_TENSOR_MAP_L2_PROMOTION_L2_256B || it->oob_fill < 0 ||
      it->oob_fill > FAKE_CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA) {
    return false;
  }
  if (it->oob_fill != 0 && !is_float(type)) return false;
  if (it->interleave == FAKE_CU_TENSOR_MAP_INTERLEAVE_32B &&
      swizzle != FAKE_CU_TENSOR_MAP_SWIZZLE_32B) {
    return false;
  }
  if (!is_padded(type)) return true;
  bool known = swizzle == FAKE_CU_TENSOR_MAP_SWIZZLE_NONE ||
               swizzle == FAKE_CU_TENSOR_MAP_SWIZZLE_128B ||
               swizzle == FAKE_CU_TENSOR_MAP_SWIZZLE_128B_ATOM_32B;
  if (type == FAKE_CU_TENSOR_MAP_DATA_TYPE_16U4_ALIGN16B) return known;
  return it->interleave == FAKE_CU_TENSOR_MAP_INTERLEAVE_NONE &&
         (known || swizzle == FAKE_CU_TENSOR_MAP_SWIZZLE_128B_ATOM_64B);
}

static bool global_is_good(const arguments *it) {
  bool none = it->interleave == FAKE_CU_TENSOR_MAP_INTERLEAVE_NONE;
  bool by_32 = it->interleave == FAKE_CU_TENSOR_MAP_INTERLEAVE_32B || is_padded(it->data_type);
  uint64_t unit = by_32 ? 32 : 16;
  if (it->rank == 0 || it->rank > kMostRank || (!none && it->rank < 3)) return false;
  if (it->address % unit != 0) return false;
  for (uint32_t i = 0; i < it->rank; ++i) {
    if (it->dim[i] == 0 || it->dim[i] > (uint64_t)1 << 32) return false;
  }
  for (uint32_t i = 0; i + 1 < it->rank; ++i) {
    if (it->strides[i] % unit != 0 || it->strides[i] >= (uint64_t)1 << 40) return false;
  }
  if (is_padded(it->data_type)) return it->dim[0] % 128 == 0;
  return it->data_type != FAKE_CU_TENSOR_MAP_DATA_TYPE_16U4_ALIGN8B || it->dim[0] % 2 == 0;
}

static bool box_is_good(const arguments *it) {
  for (uint32_t i = 0; i < it->rank; ++i) {
    if (it->box[i] == 0 || it->box[i] > 256) return false;
    if (it->element_strides[i] == 0 || it->element_strides[i] > 8) return false;
  }
  if (is_padded(it->data_type) && it->box[0] != 128) return false;
  if (it->interleave != FAKE_CU_TENSOR_MAP_INTERLEAVE_NONE) return true;
  uint32_t inner = it->box[0] * kBits[it->data_type] / 8;
  if (!is_padded(it->data_type) && inner % 16 != 0) return false;
  switch (it->swizzle) {
    case FAKE_CU_TENSOR_MAP_SWIZZLE_NONE:
      return true;
    case FAKE_CU_TENSOR_MAP_SWIZZLE_32B:
      return inner <= 32;
    case FAKE_CU_TENSOR_MAP_SWIZZLE_64B:
      return inner <= 64;
    default:
      return inner <= 128;
  }
}

static void encode(const arguments *it, encoded *out) {
  memset(out, 0, sizeof *out);
  memcpy(out->magic, kMagic, sizeof kMagic);
  out->address = it->address;
  for (uint32_t i = 0; i < it->rank; ++i) {
    out->dim[i] = it->dim[i];
    out->box[i] = (uint8_t)(it->box[i] - 1);
    out->element_strides[i] = (uint8_t)it->element_strides[i];
    if (i + 1 < it->rank) out->strides[i] = it->strides[i];
  }
  out->rank = (uint8_t)it->rank;
  out->data_type = (uint8_t)it->data_type;
  out->interleave = (uint8_t)it->interleave;
  out->swizzle = (uint8_t)it->swizzle;
  out->l2_promotion = (uint8_t)it->l2_promotion;
  out->oob_fill = (uint8_t)it->oob_fill;
}

/* Without a current context it is device 0 that counts. */
static bool is_supported(void) {
  const fake_slot *context = fake_current();
  bool alive = context != NULL && fake_slot_is(context, kIsContext);
  const fake_device *device = fake_device_of(alive ? context->device : 0);
  return device->attributes[FAKE_CU_DEVICE_ATTRIBUTE_TENSOR_MAP_ACCESS_SUPPORTED] != 0;
}

static CUresult encode_tiled(void *map, const arguments *it) {
  if (!is_supported()) return FAKE_CUDA_ERROR_NOT_SUPPORTED;
  if (map == NULL || (uintptr_t)map % 64 != 0 || it->dim == NULL || it->box == NULL ||
      it->element_strides == NULL || (it->rank > 1 && it->strides == NULL)) {
    return FAKE_CUDA_ERROR_INVALID_VALUE;
  }
  if (!enums_are_good(it) || !global_is_good(it) || !box_is_good(it)) {
    return FAKE_CUDA_ERROR_INVALID_VALUE;
  }
  encoded record;
  encode(it, &record);
  memset(map, 0, kMapSize);
  memcpy(map, &record, sizeof record);
  return FAKE_CUDA_SUCCESS;
}

CUresult cuTensorMapEncodeTiled(void *map, int data_type, uint32_t rank, void *address,
                                const uint64_t *dim, const uint64_t *strides, const uint32_t *box,
                                const uint32_t *element_strides, int interleave, int swizzle,
                                int l2_promotion, int oob_fill) {
  fake_call call;
  CUresult result = fake_enter(&call, FAKE_cuTensorMapEncodeTiled);
  arguments it = {data_type,
                  rank,
                  (uint64_t)(uintptr_t)address,
                  dim,
                  strides,
                  box,
                  element_strides,
                  interleave,
                  swizzle,
                  l2_promotion,
                  oob_fill};
  if (result == 0) result = encode_tiled(map, &it);
  return fake_leave(&call, result);
}

int pega_fake_driver_tensor_map_decode(const void *map, pega_fake_driver_tensor_map *out) {
  encoded record;
  if (map == NULL || out == NULL) return FAKE_CUDA_ERROR_INVALID_VALUE;
  memcpy(&record, map, sizeof record);
  if (memcmp(record.magic, kMagic, sizeof kMagic) != 0) return FAKE_CUDA_ERROR_INVALID_VALUE;
  memset(out, 0, sizeof *out);
  out->global_address = record.address;
  memcpy(out->global_dim, record.dim, sizeof out->global_dim);
  memcpy(out->global_strides, record.strides, sizeof out->global_strides);
  for (int i = 0; i < record.rank; ++i) {
    out->box_dim[i] = record.box[i] + 1u;
    out->element_strides[i] = record.element_strides[i];
  }
  out->rank = record.rank;
  out->data_type = record.data_type;
  out->interleave = record.interleave;
  out->swizzle = record.swizzle;
  out->l2_promotion = record.l2_promotion;
  out->oob_fill = record.oob_fill;
  return FAKE_CUDA_SUCCESS;
}
