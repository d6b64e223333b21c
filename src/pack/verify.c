/* SPDX-License-Identifier: Apache-2.0 */
/* A variant's blob against the manifest, with no device. */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

#include "core/text.h"
#include "cubin.h"
#include "fatbin.h"
#include "pack.h"
#include "ptx.h"

/* "dir/x.pegapack: pack 'x', function 'f', variant 2 (sm_90a), entry 'k'". */
static void name_variant(const pega_pack *pack, const pega_pack_function *function,
                         const pega_kernel_variant *variant, char *buffer, size_t capacity) {
  char name[96], entry[96];
  snprintf(buffer, capacity, "%s: pack '%s', function '%s', variant %d (%s), entry '%s'",
           pack->source, pack->name, pega_text_short_name(function->name, name),
           (int)(variant - function->variants), variant->target.name,
           pega_text_short_name(variant->entry, entry));
}

static pega_status differs(const char *what, const char *quantity, uint64_t manifest,
                           uint64_t cubin, pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                        "%s: %s differ: manifest %" PRIu64 ", cubin %" PRIu64
                        "; build the pack again",
                        what, quantity, manifest, cubin);
}

static pega_status params_differ(const char *what, const pega_kernel_variant *variant,
                                 const pega_cubin_kernel *cubin, pega_error *error) {
  char manifest_room[1500], cubin_room[1500];
  pega_text manifest = {manifest_room, sizeof manifest_room, 0};
  pega_text found = {cubin_room, sizeof cubin_room, 0};
  manifest_room[0] = cubin_room[0] = '\0';
  for (int32_t i = 0; i < variant->num_params; ++i) {
    const pega_kernel_param *param = &variant->params[i];
    char name[96];
    pega_text_printf(&manifest, "%s%" PRIu32 "+%u %s", i == 0 ? "" : ", ", param->offset,
                     param->size, pega_text_short_name(param->name, name));
  }
  for (int32_t i = 0; i < cubin->num_params; ++i) {
    pega_text_printf(&found, "%s%" PRIu32 "+%" PRIu32, i == 0 ? "" : ", ", cubin->params[i].offset,
                     cubin->params[i].size);
  }
  return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                        "%s: parameters differ: manifest [%s] (%" PRIu32
                        " bytes), cubin [%s] (%" PRIu32 " bytes); build the pack again",
                        what, manifest_room, variant->param_bytes, cubin_room, cubin->param_bytes);
}

static pega_status compare_params(const char *what, const pega_kernel_variant *variant,
                                  const pega_cubin_kernel *cubin, pega_error *error) {
  bool same =
      variant->num_params == cubin->num_params && variant->param_bytes == cubin->param_bytes;
  for (int32_t i = 0; same && i < variant->num_params; ++i) {
    same = variant->params[i].offset == cubin->params[i].offset &&
           variant->params[i].size == cubin->params[i].size;
  }
  return same ? PEGA_OK : params_differ(what, variant, cubin, error);
}

/* Nothing in a cubin tells a target of a family, "sm_100f", from a plain one. */
static pega_status compare_target(const char *what, const pega_target *target,
                                  const pega_cubin_kernel *cubin, pega_error *error) {
  bool accelerated = target->suffix == 'a';
  if (target->compute_capability == cubin->compute_capability &&
      accelerated == cubin->accelerated) {
    return PEGA_OK;
  }
  return pega_error_set(
      error, PEGA_ERROR_FORMAT, NULL,
      "%s: targets differ: manifest %s, cubin sm_%" PRId32 "%s; build the pack again", what,
      target->name, cubin->compute_capability, cubin->accelerated ? "a" : "");
}

static pega_status dims_differ(const char *what, const char *quantity, const uint32_t manifest[3],
                               const char *relation, const uint32_t cubin[3], pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                        "%s: %s differ: manifest %" PRIu32 " x %" PRIu32 " x %" PRIu32
                        ", cubin %s%" PRIu32 " x %" PRIu32 " x %" PRIu32 "; build the pack again",
                        what, quantity, manifest[0], manifest[1], manifest[2], relation, cubin[0],
                        cubin[1], cubin[2]);
}

static uint64_t product(const uint32_t dims[3]) {
  uint64_t result;
  if (__builtin_mul_overflow((uint64_t)dims[0] * dims[1], dims[2], &result)) return UINT64_MAX;
  return result;
}

static pega_status compare_launch(const char *what, const pega_kernel_variant *variant,
                                  const pega_cubin_kernel *cubin, pega_error *error) {
  if (cubin->block[0] != 0 && memcmp(cubin->block, variant->block, sizeof cubin->block) != 0) {
    return dims_differ(what, "blocks", variant->block, "", cubin->block, error);
  }
  if (cubin->max_threads[0] != 0 && product(variant->block) > product(cubin->max_threads)) {
    return dims_differ(what, "blocks", variant->block, "at most ", cubin->max_threads, error);
  }
  if (cubin->cluster[0] != 0 &&
      memcmp(cubin->cluster, variant->cluster, sizeof cubin->cluster) != 0) {
    return dims_differ(what, "clusters", variant->cluster, "", cubin->cluster, error);
  }
  return PEGA_OK;
}

static pega_status compare_cubin(const char *what, const pega_kernel_variant *variant,
                                 const pega_cubin_kernel *cubin, pega_error *error) {
  pega_status status = compare_target(what, &variant->target, cubin, error);
  if (status == PEGA_OK) status = compare_params(what, variant, cubin, error);
  if (status == PEGA_OK) status = compare_launch(what, variant, cubin, error);
  if (status != PEGA_OK) return status;
  if (variant->registers != cubin->registers) {
    return differs(what, "registers", variant->registers, cubin->registers, error);
  }
  if (variant->local_bytes != cubin->local_bytes) {
    return differs(what, "local bytes", variant->local_bytes, cubin->local_bytes, error);
  }
  if (variant->static_shared != cubin->static_shared) {
    return differs(what, "bytes of static shared memory", variant->static_shared,
                   cubin->static_shared, error);
  }
  return PEGA_OK;
}

static pega_status check_ptx(const char *what, const pega_kernel_variant *variant, const char *text,
                             size_t size, pega_error *error) {
  /* The driver reads PTX up to its first NUL. */
  const char *end = memchr(text, '\0', size);
  if (end == NULL) return pega_ptx_check(text, size, &variant->target, variant->entry, what, error);
  return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                        "%s: the PTX has a NUL at byte %zu of %zu; build the pack again", what,
                        (size_t)(end - text), size);
}

static pega_status bad_fatbin(const char *what, const char *why, pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                        "%s: the fatbin is damaged: %s; build the pack again", what, why);
}

/* The one entry of a fatbin that is the variant's: the driver is given it alone, so that it has no choice. */
static pega_status take_entry(const char *what, const pega_kernel_variant *variant,
                              const void **bytes, size_t *size, pega_error *error) {
  pega_fatbin fatbin;
  pega_fatbin_entry entry, found = {.bytes = NULL};
  bool more;
  char room[400] = "none";
  pega_text has = {room, sizeof room, 0};
  const char *why = pega_fatbin_begin(&fatbin, *bytes, *size, NULL);
  for (; why == NULL && (why = pega_fatbin_next(&fatbin, &entry, &more)) == NULL && more;) {
    if (entry.kind != kFatbinPtx && entry.kind != kFatbinCubin) continue;
    const bool ptx = entry.kind == kFatbinPtx;
    pega_text_printf(&has, "%s%s for sm_%" PRIu32 "%.1s", has.size == 0 ? "" : ", ",
                     ptx ? "PTX" : "a cubin", entry.arch, &entry.suffix);
    if (ptx != variant->ptx || entry.arch != (uint32_t)variant->target.compute_capability ||
        entry.suffix != variant->target.suffix) {
      continue;
    }
    if (found.bytes != NULL) why = "it has two entries for the target";
    found = entry;
  }
  if (why != NULL) return bad_fatbin(what, why, error);
  if (found.bytes == NULL) {
    return pega_error_set(
        error, PEGA_ERROR_FORMAT, NULL,
        "%s: the fatbin has no %s for this target, it has: %s; build the pack again", what,
        variant->ptx ? "PTX" : "cubin", room);
  }
  if (found.compressed) {
    return pega_error_set(
        error, PEGA_ERROR_FORMAT, NULL,
        "%s: the fatbin's entry is compressed and cannot be checked; build it with "
        "--no-compress",
        what);
  }
  *bytes = found.bytes;
  *size = found.size;
  if (!variant->ptx) return PEGA_OK;
  /* Text up to its NUL, which the driver reads it by. */
  *size = strnlen((const char *)found.bytes, found.size);
  return *size < found.size ? PEGA_OK : bad_fatbin(what, "its PTX has no NUL behind it", error);
}

pega_status pega_pack_variant_bytes(pega_pack *pack, const pega_pack_function *function,
                                    const pega_kernel_variant *variant, const void **bytes,
                                    size_t *size, pega_error *error) {
  char what[PATH_MAX + 800];
  const void *found;
  size_t found_size;
  pega_status status = pega_pack_blob_bytes(pack, variant->blob, &found, &found_size, error);
  if (status != PEGA_OK) return status;
  name_variant(pack, function, variant, what, sizeof what);
  if (pack->blobs[variant->blob].kind == kBlobFatbin) {
    status = take_entry(what, variant, &found, &found_size, error);
  }
  if (status != PEGA_OK) return status;
  if (variant->ptx) {
    status = check_ptx(what, variant, found, found_size, error);
  } else {
    pega_cubin_kernel cubin;
    status = pega_cubin_read(found, found_size, variant->entry, what, &cubin, error);
    if (status == PEGA_OK) status = compare_cubin(what, variant, &cubin, error);
  }
  if (status != PEGA_OK) return status;
  *bytes = found;
  *size = found_size;
  return PEGA_OK;
}

pega_status pega_pack_verify(pega_pack *pack, pega_error *error) {
  const void *bytes;
  size_t size;
  if (pack == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_pack_verify: pack is NULL");
  }
  const char *manifest;
  pega_status status = pega_pack_manifest(pack, &manifest, NULL, error);
  if (status == PEGA_OK && !pack->folder) status = pega_container_check_padding(pack, error);
  for (int32_t i = 0; i < pack->num_blobs && status == PEGA_OK; ++i) {
    status = pega_pack_blob_bytes(pack, i, &bytes, &size, error);
  }
  for (int32_t i = 0; i < pack->num_functions && status == PEGA_OK; ++i) {
    const pega_pack_function *function;
    status = pega_pack_describe(pack, i, &function, error);
    for (int32_t j = 0; status == PEGA_OK && j < function->num_variants; ++j) {
      status =
          pega_pack_variant_bytes(pack, function, &function->variants[j], &bytes, &size, error);
    }
  }
  return status;
}
