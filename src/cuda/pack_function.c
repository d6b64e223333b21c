/* SPDX-License-Identifier: Apache-2.0 */
/* Functions of packs: made, registered, prepared, explained. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/function.h"
#include "core/hot.h"
#include "core/registry.h"
#include "kernel.h"
#include "slot.h"

PEGA_HOT static pega_status call_kernel(void *self, const pega_value *args, int32_t num_args,
                                        pega_value *result, pega_error *error) {
  (void)num_args;
  (void)result;
  return pega_kernel_launch((pega_kernel *)self, args, error);
}

static pega_status prepare_kernel(void *self, DLDevice device, pega_error *error) {
  return pega_kernel_prepare_here((pega_kernel *)self, device, error);
}

pega_kernel *pega_kernel_of(const pega_function *function) {
  return (pega_kernel *)pega_function_self(function, call_kernel);
}

/* The end of a function: the pack hears of it before its memory goes. */
static void release_kernel(void *self) {
  pega_kernel *kernel = self;
  pega_pack_set_made(kernel->pack, pega_pack_index(kernel->pack, kernel->function->name), NULL);
  pega_kernel_release(kernel);
}

static pega_status bad_argument(const char *function, const char *what, pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL, "%s: %s is NULL", function, what);
}

static pega_status create(pega_pack *pack, int32_t index, pega_function **out, pega_error *error) {
  const pega_pack_function *described;
  pega_kernel *kernel;
  pega_status status = pega_pack_describe(pack, index, &described, error);
  if (status == PEGA_OK) status = pega_kernel_get(pack, described, &kernel, error);
  if (status != PEGA_OK) return status;
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  options.name = described->name;
  options.doc = described->doc;
  /* A launch is on one device, whatever the manifest says of its tensors. */
  pega_signature signature = described->signature;
  signature.flags |= PEGA_SIGNATURE_SAME_DEVICE;
  options.signature = &signature;
  options.call = call_kernel;
  options.self = kernel;
  options.deleter = release_kernel;
  status = pega_function_create(&options, out, error);
  if (status != PEGA_OK) {
    pega_kernel_release(kernel);
    return status;
  }
  pega_function_set_prepare(*out, prepare_kernel);
  pega_function *own = *out;
  *out = pega_pack_set_made(pack, index, own);
  if (*out != own) pega_function_release(own); /* another thread was first */
  return PEGA_OK;
}

/* The function of an index: the one that somebody has, or a new one. */
static pega_status get(void *pack, int32_t index, pega_function **out, pega_error *error) {
  pega_function *made = pega_pack_made(pack, index);
  if (made == NULL) return create(pack, index, out, error);
  *out = made;
  return PEGA_OK;
}

pega_status pega_pack_get(pega_pack *pack, const char *name, pega_function **out,
                          pega_error *error) {
  if (pack == NULL || name == NULL || out == NULL) {
    return bad_argument("pega_pack_get",
                        pack == NULL   ? "pack"
                        : name == NULL ? "name"
                                       : "out",
                        error);
  }
  int32_t index;
  pega_status status = pega_pack_find(pack, name, &index, error);
  return status == PEGA_OK ? get(pack, index, out, error) : status;
}

pega_status pega_function_prepare(pega_function *function, DLDevice device, pega_error *error) {
  if (function == NULL) return bad_argument("pega_function_prepare", "function", error);
  if ((int)device.device_type != kDLCUDA && (int)device.device_type != kDLCUDAManaged) {
    char name[PEGA_NAME_SIZE];
    return pega_error_set(error, PEGA_ERROR_DEVICE, NULL,
                          "pega_function_prepare: expected a cuda device, got %s",
                          pega_device_name(device, name));
  }
  return pega_function_run_prepare(function, device, error);
}

/* --- register --- */

/* A kernel on its way into a slot. */
typedef struct filling {
  pega_kernel_slot *slot;
  pega_kernel *kernel; /* NULL once it is there */
} filling;

/* What pega_pack_register() works on. */
typedef struct registration {
  pega_pack *pack;
  uint32_t flags;
  int32_t *functions; /* indices of those that go into the registry */
  int32_t num_functions;
  filling *fillings;
  int32_t num_fillings;
} registration;

static pega_status check_empty(const registration *self, const pega_kernel_slot *slot,
                               pega_error *error) {
  if ((self->flags & PEGA_REGISTER_OVERRIDE) != 0 ||
      atomic_load_explicit(&slot->kernel, memory_order_relaxed) == NULL) {
    return PEGA_OK;
  }
  return pega_error_set(error, PEGA_ERROR_ALREADY_EXISTS, NULL,
                        "pega_pack_register: '%s' has a kernel already; PEGA_REGISTER_OVERRIDE "
                        "replaces it",
                        slot->name);
}

/* Makes what goes into slots; nobody sees it yet. */
static pega_status make_registration(registration *self, pega_error *error) {
  const pega_pack_function *described;
  const int32_t count = pega_pack_num_functions(self->pack);
  for (int32_t i = 0; i < count; ++i) {
    pega_kernel_slot *slot =
        pega_builtin_kernel_slot(pega_pack_function_name(self->pack, (size_t)i));
    if (slot == NULL) {
      self->functions[self->num_functions++] = i;
      continue;
    }
    filling *at = &self->fillings[self->num_fillings++];
    at->slot = slot;
    pega_status status = pega_pack_describe(self->pack, i, &described, error);
    if (status == PEGA_OK) status = pega_kernel_slot_check(slot, described, error);
    if (status == PEGA_OK) status = check_empty(self, slot, error);
    if (status == PEGA_OK) {
      status = pega_kernel_get(self->pack, described, &at->kernel, error);
    }
    if (status != PEGA_OK) return status;
  }
  return PEGA_OK;
}

/* Slots, when nothing else can fail any more: what went into one may be in use at once and stays. So all
 * are looked at once more before the first is filled. */
static pega_status fill_slots(void *user, pega_error *error) {
  const registration *self = user;
  pega_status status = PEGA_OK;
  pega_cuda_lock(&pega_kernel_slots_mutex);
  for (int32_t i = 0; i < self->num_fillings && status == PEGA_OK; ++i) {
    status = check_empty(self, self->fillings[i].slot, error);
  }
  for (int32_t i = 0; i < self->num_fillings && status == PEGA_OK; ++i) {
    filling *at = &self->fillings[i];
    /* What was there stays: a call may be using it. Its use is never given back. */
    atomic_store_explicit(&at->slot->kernel, at->kernel, memory_order_release);
    at->kernel = NULL;
  }
  pega_cuda_unlock(&pega_kernel_slots_mutex);
  return status;
}

static const char *name_of(const void *pack, int32_t index) {
  return pega_pack_function_name(pack, (size_t)index);
}

static void retain_pack(void *pack) { pega_pack_retain(pack); }

static void release_pack(void *pack) { pega_pack_release(pack); }

pega_status pega_pack_register(pega_pack *pack, uint32_t flags, pega_error *error) {
  static const pega_function_source source = {name_of, get, retain_pack, release_pack};
  if (pack == NULL) return bad_argument("pega_pack_register", "pack", error);
  if ((flags & ~PEGA_REGISTER_OVERRIDE) != 0) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_pack_register: unknown flags 0x%" PRIx32, flags);
  }
  const size_t count = (size_t)pega_pack_num_functions(pack);
  registration self = {pack, flags, NULL, 0, NULL, 0};
  self.functions = calloc(count + 1, sizeof *self.functions);
  self.fillings = calloc(count + 1, sizeof *self.fillings);
  pega_status status = PEGA_OK;
  if (self.functions == NULL || self.fillings == NULL) {
    status = pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "pega_pack_register: no memory");
  }
  if (status == PEGA_OK) status = make_registration(&self, error);
  if (status == PEGA_OK) {
    status = pega_registry_add_source(&source, pack, self.functions, self.num_functions, flags,
                                      fill_slots, &self, error);
  }
  for (int32_t i = 0; i < self.num_fillings; ++i) {
    if (self.fillings[i].kernel != NULL) pega_kernel_release(self.fillings[i].kernel);
  }
  free(self.functions);
  free(self.fillings);
  return status;
}

/* --- explain --- */

/* The compute capability that "sm_90", "sm_90a" or "cuda:0" stands for. */
static pega_status read_target(const char *target, int32_t *out, pega_error *error) {
  static const char where[] = "pega_pack_explain";
  pega_target parsed;
  if (pega_target_parse(target, &parsed)) {
    *out = parsed.compute_capability;
    return PEGA_OK;
  }
  DLDevice device;
  if (pega_device_parse(target, &device, NULL) != PEGA_OK || (int)device.device_type != kDLCUDA) {
    return pega_error_set(
        error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
        "%s: target '%.64s': expected one such as \"sm_90\", \"sm_90a\" or \"cuda:0\"", where,
        target);
  }
  const pega_cuda_driver *driver;
  pega_cuda_device *known;
  pega_status status = pega_cuda_driver_get(&driver, error);
  if (status == PEGA_OK) status = pega_cuda_device_of(driver, where, device, &known, error);
  if (status == PEGA_OK) *out = known->compute_capability;
  return status;
}

static pega_status explain_variant(const pega_kernel_variant *variant, int32_t index,
                                   bool taken_now, const char *reason, pega_value *out,
                                   pega_error *error) {
  const pega_value keys[] = {pega_value_string("index"), pega_value_string("target"),
                             pega_value_string("entry"), pega_value_string("taken"),
                             pega_value_string("reason")};
  const pega_value values[] = {pega_value_int(index), pega_value_string(variant->target.name),
                               pega_value_string(variant->entry), pega_value_bool(taken_now),
                               pega_value_string(reason)};
  return pega_map_create(keys, values, (int64_t)(sizeof keys / sizeof *keys), out, error);
}

pega_status pega_pack_explain(pega_pack *pack, const char *name, const char *target,
                              pega_value *out, pega_error *error) {
  if (pack == NULL || name == NULL || target == NULL || out == NULL) {
    return bad_argument("pega_pack_explain",
                        pack == NULL     ? "pack"
                        : name == NULL   ? "name"
                        : target == NULL ? "target"
                                         : "out",
                        error);
  }
  const pega_pack_function *function;
  int32_t index, capability = 0;
  pega_status status = pega_pack_find(pack, name, &index, error);
  if (status == PEGA_OK) status = pega_pack_describe(pack, index, &function, error);
  if (status == PEGA_OK) status = read_target(target, &capability, error);
  if (status != PEGA_OK) return status;
  char reason[512];
  const pega_kernel_variant *best = NULL;
  int best_rank = 0;
  for (int32_t i = 0; i < function->num_variants; ++i) {
    int rank = pega_variant_rank(pack, &function->variants[i], capability, reason, sizeof reason);
    if (rank > best_rank) {
      best = &function->variants[i];
      best_rank = rank;
    }
  }
  pega_value *items = calloc((size_t)function->num_variants + 1, sizeof *items);
  if (items == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "pega_pack_explain: no memory");
  }
  int32_t made = 0;
  while (made < function->num_variants && status == PEGA_OK) {
    const pega_kernel_variant *variant = &function->variants[made];
    int rank = pega_variant_rank(pack, variant, capability, reason, sizeof reason);
    bool takes =
        rank > 0 && rank == best_rank && strcmp(variant->target.name, best->target.name) == 0;
    if (rank > 0 && !takes) {
      snprintf(reason, sizeof reason, "it would run, but %s fits better", best->target.name);
    } else if (takes && variant->num_conditions > 0) {
      size_t used = strlen(reason);
      snprintf(reason + used, sizeof reason - used, "; for calls with %s%s",
               variant->conditions[0].text, variant->num_conditions > 1 ? " and more" : "");
    }
    status = explain_variant(variant, made, takes, reason, &items[made], error);
    if (status == PEGA_OK) ++made;
  }
  if (status == PEGA_OK) status = pega_array_create(items, made, out, error);
  for (int32_t i = 0; i < made; ++i) pega_value_release(&items[i]);
  free(items);
  return status;
}
