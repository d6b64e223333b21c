/* SPDX-License-Identifier: Apache-2.0 */
/* Functions of packs: made, registered, prepared, explained. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/function.h"
#include "core/hot.h"
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

static void release_kernel(void *self) { pega_kernel_release((pega_kernel *)self); }

static pega_status bad_argument(const char *function, const char *what, pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL, "%s: %s is NULL", function, what);
}

static pega_status create(pega_pack *pack, const pega_pack_function *described, pega_function **out,
                          pega_error *error) {
  pega_kernel *kernel;
  pega_status status = pega_kernel_get(pack, described, &kernel, error);
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
  const pega_pack_function *described = pega_pack_find(pack, name, error);
  return described == NULL ? PEGA_ERROR_NOT_FOUND : create(pack, described, out, error);
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

/* A function on its way into the registry, or a kernel on its way into a slot. */
typedef struct registration {
  pega_function *function; /* NULL for a slot */
  pega_function *before;   /* what had the name in the registry */
  pega_kernel_slot *slot;
  pega_kernel *kernel;
} registration;

static pega_status taken(const char *name, pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_ALREADY_EXISTS, NULL,
                        "pega_pack_register: '%s' has a kernel already; PEGA_REGISTER_OVERRIDE "
                        "replaces it",
                        name);
}

/* Makes what is to be registered; nobody sees it yet. */
static pega_status make_registration(pega_pack *pack, const pega_pack_function *described,
                                     uint32_t flags, registration *out, pega_error *error) {
  out->slot = pega_builtin_kernel_slot(described->name);
  if (out->slot == NULL) return create(pack, described, &out->function, error);
  pega_status status = pega_kernel_slot_check(out->slot, described, error);
  if (status != PEGA_OK) return status;
  if ((flags & PEGA_REGISTER_OVERRIDE) == 0 &&
      atomic_load_explicit(&out->slot->kernel, memory_order_acquire) != NULL) {
    return taken(described->name, error);
  }
  return pega_kernel_get(pack, described, &out->kernel, error);
}

static pega_status add_function(registration *at, uint32_t flags, pega_error *error) {
  pega_status status = PEGA_OK;
  if ((flags & PEGA_REGISTER_OVERRIDE) != 0) {
    status = pega_registry_get(pega_function_name(at->function), &at->before, NULL);
    if (status != PEGA_OK) at->before = NULL;
  }
  return pega_registry_add(at->function, flags, error);
}

static void remove_function(const registration *at) {
  if (at->before != NULL) {
    pega_registry_add(at->before, PEGA_REGISTER_OVERRIDE, NULL);
  } else {
    pega_registry_remove(pega_function_name(at->function), NULL);
  }
}

static pega_status fill_slot(registration *at, uint32_t flags, pega_error *error) {
  pega_kernel *expected = NULL;
  if ((flags & PEGA_REGISTER_OVERRIDE) != 0) {
    /* What was there stays: a call may be using it. Its use is never given back. */
    atomic_store_explicit(&at->slot->kernel, at->kernel, memory_order_release);
  } else if (!atomic_compare_exchange_strong(&at->slot->kernel, &expected, at->kernel)) {
    return taken(at->slot->name, error);
  }
  at->kernel = NULL;
  return PEGA_OK;
}

/* Functions first, slots last: what went into a slot may be in use at once and stays. */
static pega_status publish(registration *items, int32_t count, uint32_t flags, pega_error *error) {
  pega_status status = PEGA_OK;
  int32_t added = 0;
  for (; added < count && status == PEGA_OK; ++added) {
    if (items[added].function != NULL) status = add_function(&items[added], flags, error);
  }
  if (status != PEGA_OK) --added; /* the one that failed */
  for (int32_t i = 0; i < count && status == PEGA_OK; ++i) {
    if (items[i].slot != NULL) status = fill_slot(&items[i], flags, error);
  }
  for (int32_t i = 0; i < added && status != PEGA_OK; ++i) {
    if (items[i].function != NULL) remove_function(&items[i]);
  }
  return status;
}

pega_status pega_pack_register(pega_pack *pack, uint32_t flags, pega_error *error) {
  if (pack == NULL) return bad_argument("pega_pack_register", "pack", error);
  if ((flags & ~PEGA_REGISTER_OVERRIDE) != 0) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_pack_register: unknown flags 0x%" PRIx32, flags);
  }
  const int32_t count = pega_pack_num_functions(pack);
  registration *items = calloc((size_t)count + 1, sizeof *items);
  if (items == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "pega_pack_register: no memory");
  }
  pega_status status = PEGA_OK;
  for (int32_t i = 0; i < count && status == PEGA_OK; ++i) {
    status = make_registration(pack, pega_pack_function_at(pack, i), flags, &items[i], error);
  }
  if (status == PEGA_OK) status = publish(items, count, flags, error);
  for (int32_t i = 0; i < count; ++i) {
    pega_function_release(items[i].function);
    pega_function_release(items[i].before);
    if (items[i].kernel != NULL) pega_kernel_release(items[i].kernel);
  }
  free(items);
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
  const pega_pack_function *function = pega_pack_find(pack, name, error);
  if (function == NULL) return PEGA_ERROR_NOT_FOUND;
  int32_t capability = 0;
  pega_status status = read_target(target, &capability, error);
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
