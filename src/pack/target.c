/* SPDX-License-Identifier: Apache-2.0 */
/* Which device runs what was compiled for which target. */
#include <inttypes.h>
#include <stdio.h>

#include "pack.h"

bool pega_target_parse(const char *name, pega_target *out) {
  int32_t number = 0;
  size_t size = 3;
  if (strncmp(name, "sm_", 3) != 0 || name[3] == '0') return false;
  for (; name[size] >= '0' && name[size] <= '9' && size < 6; ++size) {
    number = number * 10 + (name[size] - '0');
  }
  char suffix = name[size];
  if (number < 10 || (suffix != '\0' && suffix != 'a' && suffix != 'f')) return false;
  if (suffix != '\0' && name[size + 1] != '\0') return false;
  /* Architecture-specific targets came with 9.0, those of a family with 10.0. */
  if ((suffix == 'a' && number < 90) || (suffix == 'f' && number < 100)) return false;
  memset(out, 0, sizeof *out);
  out->compute_capability = number;
  out->suffix = suffix;
  memcpy(out->name, name, strlen(name) + 1);
  return true;
}

/* Better fits have greater ranks; within one kind, the target nearest to the device. */
enum {
  kRankExactA = 3000,
  kRankExactFamily = 2900,
  kRankExact = 2800,
  kRankFamily = 2000,
  kRankMinor = 1000,
  kRankPtxA = 500,
  kRankPtxFamily = 400
};

int pega_target_rank(const pega_target *target, int32_t compute_capability, char *reason,
                     size_t capacity) {
  int32_t wanted = target->compute_capability;
  bool same_major = wanted / 10 == compute_capability / 10;
  const char *fit = NULL;
  int rank = 0;
  if (wanted == compute_capability) {
    fit = "is made for";
    rank = target->suffix == 'a'   ? kRankExactA
           : target->suffix == 'f' ? kRankExactFamily
                                   : kRankExact;
  } else if (same_major && wanted < compute_capability && target->suffix == 'f') {
    fit = "is of the family of";
    rank = kRankFamily + wanted % 10;
  } else if (same_major && wanted < compute_capability && target->suffix == 0) {
    fit = "also runs on";
    rank = kRankMinor + wanted % 10;
  }
  if (fit != NULL) {
    snprintf(reason, capacity, "%s %s compute capability %" PRId32 ".%" PRId32, target->name, fit,
             compute_capability / 10, compute_capability % 10);
  } else {
    const char *range = target->suffix == 'a'   ? " alone"
                        : target->suffix == 'f' ? " and later ones of its family"
                                                : " and later minors";
    snprintf(reason, capacity,
             "%s runs on compute capability %" PRId32 ".%" PRId32 "%s, this is %" PRId32
             ".%" PRId32,
             target->name, wanted / 10, wanted % 10, range, compute_capability / 10,
             compute_capability % 10);
  }
  return rank;
}

int pega_variant_rank(const pega_pack *pack, const pega_kernel_variant *variant,
                      int32_t compute_capability, char *reason, size_t capacity) {
  const pega_target *target = &variant->target;
  int32_t wanted = target->compute_capability;
  if (!variant->ptx) {
    return pega_target_rank(target, compute_capability, reason, capacity);
  }
  if ((pega_pack_flags(pack) & PEGA_PACK_ALLOW_PTX) == 0) {
    snprintf(reason, capacity,
             "it is PTX for %s, which the driver would compile: open the pack with "
             "PEGA_PACK_ALLOW_PTX to let it",
             target->name);
    return 0;
  }
  int rank = 0;
  if (target->suffix == 0) {
    if (wanted <= compute_capability) rank = wanted;
  } else {
    rank = pega_target_rank(target, compute_capability, reason, capacity);
    if (rank != 0) rank = target->suffix == 'a' ? kRankPtxA : kRankPtxFamily + wanted % 10;
  }
  snprintf(reason, capacity, "PTX for %s %s compute capability %" PRId32 ".%" PRId32, target->name,
           rank != 0 ? "can be compiled for" : "cannot be compiled for", compute_capability / 10,
           compute_capability % 10);
  return rank;
}
