/* SPDX-License-Identifier: Apache-2.0 */
/* A variant: one compiled kernel and how it is launched. */
#include <inttypes.h>

#include "digest.h"
#include "manifest.h"

enum {
  kMaxBlockThreads = 1024,
  kMaxBlockZ = 64,
  kMaxClusterSize = 16, /* 8 everywhere, 16 where the device and the kernel allow */
  kMaxShared = 256 << 10,
  kMaxRegisters = 255,
  kMaxLocal = 512 << 10,
  kMaxScratch = 1 << 30,
  kMaxScratchAlignment = 1 << 20,
  kMaxEntry = 4095,
  kMaxMadeByItems = 256 /* of a list; of an object JSON itself takes no more members */
};

bool pega_manifest_read_expression(const pega_manifest_function *function, const pega_json *at,
                                   pega_expression *out) {
  pega_json_reader *reader = &function->manifest->reader;
  pega_instruction code[kMaxExpressionSize];
  pega_error error;
  pega_error_init(&error);
  if (!pega_json_is(at->value, kJsonString)) return pega_json_expected(reader, at, "an expression");
  if (!pega_json_text(reader, at, 1, kMaxExpressionText, &out->text)) return false;
  if (pega_expression_compile(out->text, &function->description->signature, code, &out->size,
                              &error) != PEGA_OK) {
    return pega_json_wrap(reader, at, &error);
  }
  pega_instruction *kept = pega_arena_alloc(reader->arena, (size_t)out->size, sizeof *kept);
  if (kept == NULL) return pega_json_out_of_memory(reader);
  memcpy(kept, code, (size_t)out->size * sizeof *kept);
  out->code = kept;
  return true;
}

static bool read_target(pega_json_reader *reader, const pega_json *at, pega_target *out) {
  pega_json member;
  if (!pega_json_need(reader, at, "target", &member)) return false;
  if (pega_json_is(member.value, kJsonString) &&
      pega_target_parse(pega_json_text_of(member.value), out)) {
    return true;
  }
  return pega_json_expected(reader, &member, "a target such as \"sm_90\", \"sm_90a\", \"sm_100f\"");
}

static bool read_conditions(const pega_manifest_function *function, const pega_json *at,
                            pega_kernel_variant *out) {
  pega_json_reader *reader = &function->manifest->reader;
  pega_json array;
  size_t count;
  if (!pega_json_get(at, "when", &array)) return true;
  if (!pega_json_array(reader, &array, 0, kMaxConditions, &count)) return false;
  pega_expression *conditions = pega_arena_alloc(reader->arena, count, sizeof *conditions);
  if (conditions == NULL) return pega_json_out_of_memory(reader);
  for (size_t i = 0; i < count; ++i) {
    pega_json item = pega_json_item(&array, i);
    if (!pega_manifest_read_expression(function, &item, &conditions[i])) return false;
  }
  out->conditions = conditions;
  out->num_conditions = (int32_t)count;
  return true;
}

static bool read_grid(const pega_manifest_function *function, const pega_json *at,
                      pega_kernel_variant *out) {
  pega_json array;
  size_t count;
  if (!pega_json_need(&function->manifest->reader, at, "grid", &array) ||
      !pega_json_array(&function->manifest->reader, &array, 3, 3, &count)) {
    return false;
  }
  for (size_t i = 0; i < 3; ++i) {
    pega_json item = pega_json_item(&array, i);
    if (!pega_manifest_read_expression(function, &item, &out->grid[i])) return false;
  }
  return true;
}

/* Three sizes from 1 whose product is at most `most`. */
static bool read_dims(pega_json_reader *reader, const pega_json *array, int64_t most,
                      int64_t most_z, uint32_t out[3]) {
  size_t count;
  int64_t product = 1;
  if (!pega_json_array(reader, array, 3, 3, &count)) return false;
  for (size_t i = 0; i < 3; ++i) {
    pega_json item = pega_json_item(array, i);
    int64_t size;
    if (!pega_json_int(reader, &item, 1, i == 2 ? most_z : most, &size)) return false;
    out[i] = pega_json_u32(size);
    product *= size;
  }
  if (product <= most) return true;
  return pega_json_fail(reader, array, PEGA_ERROR_FORMAT,
                        "%" PRIu32 " x %" PRIu32 " x %" PRIu32 " is %" PRId64 ", at most %" PRId64
                        " are allowed",
                        out[0], out[1], out[2], product, most);
}

static bool read_block(pega_json_reader *reader, const pega_json *at, pega_kernel_variant *out) {
  pega_json member;
  for (int i = 0; i < 3; ++i) out->cluster[i] = 1;
  if (!pega_json_need(reader, at, "block", &member) ||
      !read_dims(reader, &member, kMaxBlockThreads, kMaxBlockZ, out->block)) {
    return false;
  }
  if (!pega_json_get(at, "cluster", &member)) return true;
  if (!read_dims(reader, &member, kMaxClusterSize, kMaxClusterSize, out->cluster)) return false;
  bool clustered = out->cluster[0] * out->cluster[1] * out->cluster[2] > 1;
  if (!clustered || out->target.compute_capability >= 90) return true;
  return pega_json_fail(reader, &member, PEGA_ERROR_FORMAT,
                        "target %s has no clusters: expected [1, 1, 1]; they came with sm_90",
                        out->target.name);
}

static bool read_resources(pega_json_reader *reader, const pega_json *at,
                           pega_kernel_variant *out) {
  int64_t shared, static_shared, registers, local_bytes;
  if (!pega_json_need_int(reader, at, "shared", 0, kMaxShared, &shared) ||
      !pega_json_need_int(reader, at, "static_shared", 0, kMaxShared, &static_shared) ||
      !pega_json_need_int(reader, at, "registers", 0, kMaxRegisters, &registers) ||
      !pega_json_need_int(reader, at, "local_bytes", 0, kMaxLocal, &local_bytes)) {
    return false;
  }
  if (shared + static_shared > kMaxShared) {
    return pega_json_fail(reader, at, PEGA_ERROR_FORMAT,
                          "shared is %" PRId64 " and static_shared %" PRId64
                          " bytes, at most %d together are allowed",
                          shared, static_shared, kMaxShared);
  }
  out->shared = pega_json_u32(shared);
  out->static_shared = pega_json_u32(static_shared);
  out->registers = pega_json_u32(registers);
  out->local_bytes = pega_json_u32(local_bytes);
  return true;
}

static bool read_launch(pega_json_reader *reader, const pega_json *at, pega_kernel_variant *out) {
  if (!pega_json_bool_or(reader, at, "pdl", false, &out->pdl) ||
      !pega_json_bool_or(reader, at, "cooperative", false, &out->cooperative)) {
    return false;
  }
  if (!out->pdl || out->target.compute_capability >= 90) return true;
  pega_json member;
  pega_json_get(at, "pdl", &member);
  return pega_json_fail(reader, &member, PEGA_ERROR_FORMAT,
                        "target %s has no programmatic dependent launch: expected false; it came "
                        "with sm_90",
                        out->target.name);
}

static bool read_scratch(pega_json_reader *reader, const pega_json *at, const char *key,
                         pega_param_role role, const pega_kernel_variant *variant,
                         pega_scratch *out) {
  static const char *const fields[] = {"size", "alignment", NULL};
  pega_json member, place;
  int64_t size, alignment;
  out->alignment = 1;
  if (!pega_json_get(at, key, &member)) return true;
  if (!pega_json_fields(reader, &member, fields) ||
      !pega_json_need_int(reader, &member, "size", 0, kMaxScratch, &size) ||
      !pega_json_need(reader, &member, "alignment", &place) ||
      !pega_json_int(reader, &place, 1, kMaxScratchAlignment, &alignment)) {
    return false;
  }
  if ((alignment & (alignment - 1)) != 0) {
    return pega_json_expected(reader, &place, "a power of two");
  }
  out->size = (uint64_t)size;
  out->alignment = pega_json_u32(alignment);
  for (int32_t i = 0; size > 0 && i < variant->num_params; ++i) {
    if (variant->params[i].role == (uint8_t)role) return true;
  }
  return size == 0 || pega_json_fail(reader, &member, PEGA_ERROR_FORMAT,
                                     "no parameter of the kernel has the role %s", key);
}

static bool check_length(pega_json_reader *reader, const pega_json *at, size_t size) {
  if (size <= kMaxText) return true;
  return pega_json_fail(reader, at, PEGA_ERROR_RANGE, "longer than %d bytes", kMaxText);
}

static bool check_flag(pega_json_reader *reader, const pega_json *at, bool nested) {
  size_t count;
  if (pega_json_is(at->value, kJsonString)) return check_length(reader, at, at->value->size);
  if (!nested && pega_json_is(at->value, kJsonArray)) {
    if (!pega_json_array(reader, at, 0, kMaxMadeByItems, &count)) return false;
    for (size_t i = 0; i < count; ++i) {
      pega_json item = pega_json_item(at, i);
      if (!check_flag(reader, &item, true)) return false;
    }
    return true;
  }
  if (!pega_json_is(at->value, kJsonObject) && !pega_json_is(at->value, kJsonArray)) return true;
  return pega_json_expected(reader, at, "a string, a number, true, false, null, or a list of such");
}

/* Nothing of it is kept: it is for people, who have the manifest. */
static bool check_made_by(pega_json_reader *reader, const pega_json *variant) {
  static const char *const fields[] = {"tool",          "version", "assembler", "source",
                                       "source_sha256", "flags",   NULL};
  pega_json at, member;
  if (!pega_json_get(variant, "made_by", &at)) return true;
  if (!pega_json_fields(reader, &at, fields)) return false;
  for (int i = 0; i < 5; ++i) {
    if (!pega_json_get(&at, fields[i], &member)) continue;
    if (!pega_json_is(member.value, kJsonString))
      return pega_json_expected(reader, &member, "a string");
    if (!check_length(reader, &member, member.value->size)) return false;
  }
  unsigned char digest[kSha256Bytes];
  if (pega_json_get(&at, "source_sha256", &member) &&
      !pega_sha256_parse(pega_json_text_of(member.value), digest)) {
    return pega_json_expected(reader, &member, "64 hexadecimal digits in lower case");
  }
  if (!pega_json_get(&at, "flags", &member)) return true;
  if (!pega_json_is(member.value, kJsonObject))
    return pega_json_expected(reader, &member, "an object");
  for (uint32_t i = 0; i < member.value->size; ++i) {
    const pega_json_member *found = &member.value->as.members[i];
    pega_json flag = {&member, found->key, 0, &found->value};
    if (!check_length(reader, &flag, strlen(found->key))) return false;
    if (!check_flag(reader, &flag, false)) return false;
  }
  return true;
}

/* Which code of a fatbin is meant; of other blobs the kind says it. */
static bool read_form(const pega_manifest_function *function, const pega_json *at,
                      pega_kernel_variant *out) {
  pega_json_reader *reader = &function->manifest->reader;
  pega_json member;
  const uint32_t kind = function->manifest->pack->blobs[out->blob].kind;
  out->ptx = kind == kBlobPtx;
  if (!pega_json_get(at, "ptx", &member)) return true;
  if (kind == kBlobFatbin) return pega_json_bool_or(reader, at, "ptx", false, &out->ptx);
  return pega_json_fail(reader, &member, PEGA_ERROR_FORMAT, "only a blob of kind fatbin has this");
}

bool pega_manifest_read_variant(const pega_manifest_function *function, const pega_json *at,
                                pega_kernel_variant *out) {
  static const char *const fields[] = {"target",
                                       "blob",
                                       "ptx",
                                       "entry",
                                       "when",
                                       "params",
                                       "grid",
                                       "block",
                                       "cluster",
                                       "shared",
                                       "static_shared",
                                       "registers",
                                       "local_bytes",
                                       "pdl",
                                       "cooperative",
                                       "global_scratch",
                                       "profile_scratch",
                                       "made_by",
                                       NULL};
  pega_json_reader *reader = &function->manifest->reader;
  return pega_json_fields(reader, at, fields) && read_target(reader, at, &out->target) &&
         pega_manifest_blob(function->manifest, at, "blob", kAnyKernelBlob, &out->blob) &&
         read_form(function, at, out) &&
         pega_manifest_word(reader, at, "entry", kMaxEntry, &out->entry) &&
         read_conditions(function, at, out) &&
         pega_manifest_read_kernel_params(function, at, out) && read_grid(function, at, out) &&
         read_block(reader, at, out) && read_resources(reader, at, out) &&
         read_launch(reader, at, out) &&
         read_scratch(reader, at, "global_scratch", kRoleGlobalScratch, out,
                      &out->global_scratch) &&
         read_scratch(reader, at, "profile_scratch", kRoleProfileScratch, out,
                      &out->profile_scratch) &&
         check_made_by(reader, at);
}
