/* SPDX-License-Identifier: Apache-2.0 */
/* The parameters of a kernel: type, place, and where their bytes come from. */
#include <inttypes.h>

#include "manifest.h"

static const struct {
  const char *name;
  uint16_t size;
  uint16_t alignment;
} param_types[] = {
    [kParamPointer] = {"pointer", 8, 8},
    [kParamBool] = {"bool", 1, 1},
    [kParamI8] = {"i8", 1, 1},
    [kParamI16] = {"i16", 2, 2},
    [kParamI32] = {"i32", 4, 4},
    [kParamI64] = {"i64", 8, 8},
    [kParamU8] = {"u8", 1, 1},
    [kParamU16] = {"u16", 2, 2},
    [kParamU32] = {"u32", 4, 4},
    [kParamU64] = {"u64", 8, 8},
    [kParamF16] = {"f16", 2, 2},
    [kParamBf16] = {"bf16", 2, 2},
    [kParamF32] = {"f32", 4, 4},
    [kParamF64] = {"f64", 8, 8},
    /* Aligned to 64 in the constant bank, where parameters begin at 0x160 or 0x210 before sm_100. */
    [kParamTensorMap] = {"tensor_map", 128, 16},
};
enum { kNumParamTypes = (int)(sizeof param_types / sizeof *param_types) };

static const char *const roles[] = {"argument", "tensor_descriptor", "global_scratch",
                                    "profile_scratch"};

static const char *member_text(const pega_json *object, const char *key, pega_json *member) {
  if (!pega_json_get(object, key, member) || !pega_json_is(member->value, kJsonString)) return "";
  return pega_json_text_of(member->value);
}

static bool read_type(pega_json_reader *reader, const pega_json *at, pega_kernel_param *out) {
  pega_json member;
  if (!pega_json_need(reader, at, "type", &member)) return false;
  const char *name = member_text(at, "type", &member);
  for (uint8_t i = 0; i < kNumParamTypes; ++i) {
    if (strcmp(name, param_types[i].name) != 0) continue;
    out->type = i;
    out->size = param_types[i].size;
    return true;
  }
  return pega_json_expected(reader, &member,
                            "a type of kernel parameters: pointer, bool, i8 to i64, u8 to u64, "
                            "f16, bf16, f32, f64 or tensor_map");
}

/* Size and offset: behind the parameter before, aligned to what it is. */
static bool read_place(pega_json_reader *reader, const pega_json *at, uint32_t begin,
                       pega_kernel_param *out) {
  pega_json member;
  int64_t size, offset;
  const uint32_t alignment = param_types[out->type].alignment;
  if (!pega_json_need(reader, at, "size", &member) ||
      !pega_json_int(reader, &member, 1, kMaxKernelParamBytes, &size)) {
    return false;
  }
  if (size != out->size) {
    return pega_json_fail(reader, &member, PEGA_ERROR_FORMAT,
                          "expected %u, the size of type %s, got %" PRId64, out->size,
                          param_types[out->type].name, size);
  }
  if (!pega_json_need(reader, at, "offset", &member) ||
      !pega_json_int(reader, &member, 0, kMaxKernelParamBytes - 1, &offset)) {
    return false;
  }
  if (offset % alignment != 0) {
    return pega_json_fail(reader, &member, PEGA_ERROR_FORMAT,
                          "%" PRId64 " is no multiple of %" PRIu32 ", to which type %s is aligned",
                          offset, alignment, param_types[out->type].name);
  }
  if (offset < begin) {
    return pega_json_fail(reader, &member, PEGA_ERROR_FORMAT,
                          "%" PRId64 " is before byte %" PRIu32
                          ", where the parameter before ends: expected ascending offsets",
                          offset, begin);
  }
  if (offset + size > kMaxKernelParamBytes) {
    return pega_json_fail(reader, &member, PEGA_ERROR_RANGE,
                          "the parameter ends at byte %" PRId64 ", at most %d are allowed",
                          offset + size, kMaxKernelParamBytes);
  }
  out->offset = pega_json_u32(offset);
  return true;
}

/* ---- Where the bytes come from ---- */

static bool read_argument(const pega_manifest_function *function, const pega_json *at,
                          pega_kernel_param *out) {
  pega_json_reader *reader = &function->manifest->reader;
  const pega_signature *signature = &function->description->signature;
  pega_json member;
  if (!pega_json_need(reader, at, "value", &member)) return false;
  if (out->type == kParamTensorMap) {
    pega_json_get(at, "role", &member);
    return pega_json_expected(reader, &member,
                              "\"tensor_descriptor\" for a parameter of type tensor_map");
  }
  if (out->type < kParamF16) return pega_manifest_read_expression(function, &member, &out->value);
  const char *name = member_text(at, "value", &member);
  out->argument = pega_manifest_param(signature, name);
  if (out->argument >= 0) {
    uint32_t type = signature->params[out->argument].type;
    if (type == PEGA_TYPE_FLOAT || type == PEGA_TYPE_INT) return true;
  }
  return pega_json_expected(reader, &member, "the name of a float or int parameter");
}

static bool read_encoding(pega_json_reader *reader, const pega_json *at,
                          pega_tensor_encoding *out) {
  static const char *const fields[] = {"block",      "swizzle",      "elem_type",
                                       "elem_size",  "padding",      "fp4_padded",
                                       "interleave", "l2_promotion", NULL};
  pega_json block;
  size_t rank;
  int64_t swizzle, elem_type, elem_size, padding, fp4_padded, interleave, l2_promotion;
  if (!pega_json_fields(reader, at, fields) || !pega_json_need(reader, at, "block", &block) ||
      !pega_json_array(reader, &block, 1, 5, &rank) ||
      !pega_json_need_int(reader, at, "swizzle", 0, 6, &swizzle) ||
      !pega_json_need_int(reader, at, "elem_type", 0, 15, &elem_type) ||
      !pega_json_need_int(reader, at, "elem_size", 1, 16, &elem_size) ||
      !pega_json_need_int(reader, at, "padding", 0, 1, &padding) ||
      !pega_json_int_or(reader, at, "fp4_padded", 0, 1, 0, &fp4_padded) ||
      !pega_json_int_or(reader, at, "interleave", 0, 2, 0, &interleave) ||
      !pega_json_int_or(reader, at, "l2_promotion", 0, 3, 0, &l2_promotion)) {
    return false;
  }
  for (size_t i = 0; i < rank; ++i) {
    pega_json item = pega_json_item(&block, i);
    int64_t size;
    if (!pega_json_int(reader, &item, 1, 256, &size)) return false;
    out->block[i] = pega_json_u32(size);
  }
  out->rank = (int32_t)rank;
  out->swizzle = (int32_t)swizzle;
  out->elem_type = (int32_t)elem_type;
  out->elem_size = (int32_t)elem_size;
  out->padding = (int32_t)padding;
  out->fp4_padded = (int32_t)fp4_padded;
  out->interleave = (int32_t)interleave;
  out->l2_promotion = (int32_t)l2_promotion;
  return true;
}

static bool read_descriptor(const pega_manifest_function *function, const pega_json *at,
                            pega_kernel_param *out) {
  pega_json_reader *reader = &function->manifest->reader;
  const pega_signature *signature = &function->description->signature;
  pega_json member;
  if (out->type != kParamTensorMap) {
    pega_json_get(at, "type", &member);
    return pega_json_expected(reader, &member, "\"tensor_map\" for a tensor_descriptor");
  }
  if (!pega_json_need(reader, at, "value", &member)) return false;
  out->argument = pega_manifest_param(signature, member_text(at, "value", &member));
  if (out->argument < 0 || signature->params[out->argument].type != PEGA_TYPE_TENSOR) {
    return pega_json_expected(reader, &member, "the name of a Tensor parameter");
  }
  pega_tensor_encoding *encoding = pega_arena_alloc(reader->arena, 1, sizeof *encoding);
  if (encoding == NULL) return pega_json_out_of_memory(reader);
  out->encoding = encoding;
  if (!pega_json_need(reader, at, "encoding", &member) ||
      !read_encoding(reader, &member, encoding)) {
    return false;
  }
  const pega_param *tensor = &signature->params[out->argument];
  int32_t rank = tensor->shape == NULL ? encoding->rank : pega_shape_rank(tensor->shape);
  if (rank == encoding->rank) return true;
  return pega_json_fail(reader, &member, PEGA_ERROR_FORMAT,
                        "block has %" PRId32 " sizes, Tensor '%s' has %" PRId32 " dimensions",
                        encoding->rank, tensor->name, rank);
}

static bool read_scratch(pega_json_reader *reader, const pega_json *at,
                         const pega_kernel_param *params, int32_t index) {
  pega_json member;
  if (params[index].type != kParamPointer) {
    pega_json_get(at, "type", &member);
    return pega_json_expected(reader, &member, "\"pointer\" for a scratch parameter");
  }
  for (int32_t i = 0; i < index; ++i) {
    if (params[i].role != params[index].role) continue;
    pega_json_get(at, "role", &member);
    return pega_json_fail(reader, &member, PEGA_ERROR_FORMAT,
                          "parameter %" PRId32 " has it already", i);
  }
  return true;
}

static bool read_role(const pega_manifest_function *function, const pega_json *at,
                      pega_kernel_param *params, int32_t index) {
  pega_json_reader *reader = &function->manifest->reader;
  pega_kernel_param *out = &params[index];
  pega_json member;
  uint8_t role = 0;
  if (!pega_json_need(reader, at, "role", &member)) return false;
  const char *name = member_text(at, "role", &member);
  while (role < 4 && strcmp(name, roles[role]) != 0) ++role;
  if (role == 4) {
    return pega_json_expected(reader, &member,
                              "\"argument\", \"tensor_descriptor\", \"global_scratch\" or "
                              "\"profile_scratch\"");
  }
  out->role = role;
  out->argument = -1;
  if (role != kRoleTensorDescriptor && pega_json_get(at, "encoding", &member)) {
    return pega_json_fail(reader, &member, PEGA_ERROR_FORMAT,
                          "only a tensor_descriptor has an encoding");
  }
  if (role >= kRoleGlobalScratch && pega_json_get(at, "value", &member)) {
    return pega_json_fail(reader, &member, PEGA_ERROR_FORMAT, "a %s has no value", roles[role]);
  }
  if (role == kRoleArgument) return read_argument(function, at, out);
  if (role == kRoleTensorDescriptor) return read_descriptor(function, at, out);
  return read_scratch(reader, at, params, index);
}

bool pega_manifest_read_kernel_params(const pega_manifest_function *function, const pega_json *at,
                                      pega_kernel_variant *variant) {
  static const char *const fields[] = {"name", "type",  "offset",   "size",
                                       "role", "value", "encoding", NULL};
  pega_json_reader *reader = &function->manifest->reader;
  pega_json array;
  size_t count;
  if (!pega_json_need(reader, at, "params", &array) ||
      !pega_json_array(reader, &array, 0, kMaxKernelParams, &count)) {
    return false;
  }
  pega_kernel_param *params = pega_arena_alloc(reader->arena, count, sizeof *params);
  if (params == NULL) return pega_json_out_of_memory(reader);
  for (int32_t i = 0; i < (int32_t)count; ++i) {
    pega_json item = pega_json_item(&array, (size_t)i);
    pega_kernel_param *param = &params[i];
    if (!pega_json_fields(reader, &item, fields) ||
        !pega_manifest_word(reader, &item, "name", PEGA_MAX_NAME, &param->name) ||
        !read_type(reader, &item, param) ||
        !read_place(reader, &item, variant->param_bytes, param) ||
        !read_role(function, &item, params, i)) {
      return false;
    }
    variant->param_bytes = param->offset + param->size;
    for (int32_t j = 0; j < i; ++j) {
      if (strcmp(params[j].name, param->name) != 0) continue;
      return pega_json_fail(reader, &item, PEGA_ERROR_FORMAT, "the name '%s' is used twice",
                            param->name);
    }
  }
  variant->params = params;
  variant->num_params = (int32_t)count;
  return true;
}
