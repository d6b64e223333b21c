/* SPDX-License-Identifier: Apache-2.0 */
#include "slot.h"
#include "core/hot.h"

#include <stdlib.h>

#include "core/text.h"
#include "kernel.h"

static pega_cuda_mutex fill_mutex = PEGA_CUDA_MUTEX_INIT;
pega_cuda_mutex pega_kernel_slots_mutex = PEGA_CUDA_MUTEX_INIT;

#ifdef PEGA_EMBEDDED_PACK
/* The pack that the library was built with. */
extern const unsigned char pega_embedded_pack[];
extern const size_t pega_embedded_pack_size;
#endif

const void *pega_pack_embedded(size_t *size) {
#ifdef PEGA_EMBEDDED_PACK
  if (size != NULL) *size = pega_embedded_pack_size;
  return pega_embedded_pack;
#else
  if (size != NULL) *size = 0;
  return NULL;
#endif
}

bool pega_kernel_slot_next_param(const char **at, pega_param *out, char name[64]) {
  static const struct {
    char letter;
    uint32_t type, flags, alignment;
    int64_t min, max;
  } letters[] = {{'*', PEGA_TYPE_POINTER, PEGA_PARAM_NONNULL, 16, 0, 0},
                 {'?', PEGA_TYPE_POINTER, 0, 16, 0, 0},
                 {'#', PEGA_TYPE_INT, PEGA_PARAM_RANGE, 0, 0, INT32_MAX},
                 {'^', PEGA_TYPE_INT, PEGA_PARAM_RANGE, 0, 1, 1 << 16},
                 {'&', PEGA_TYPE_INT, 0, 0, 0, 0},
                 {'%', PEGA_TYPE_FLOAT, 0, 0, 0, 0},
                 {'~', PEGA_TYPE_STREAM, 0, 0, 0, 0}};
  *at += strspn(*at, " ");
  if (**at == '\0') return false;
  memset(out, 0, sizeof *out);
  for (size_t i = 0; i < sizeof letters / sizeof *letters; ++i) {
    if (letters[i].letter != **at) continue;
    out->type = letters[i].type;
    out->flags = letters[i].flags;
    out->alignment = letters[i].alignment;
    out->min = letters[i].min;
    out->max = letters[i].max;
  }
  const size_t size = strcspn(*at + 1, " ");
  memcpy(name, *at + 1, size < 63 ? size : 63);
  name[size < 63 ? size : 63] = '\0';
  out->name = name;
  *at += 1 + size;
  return true;
}

/* Whether `theirs` is the same parameter as `mine` and takes all that mine lets pass: what the library's
 * own signature has checked is not checked again. */
static bool takes(const pega_param *theirs, const pega_param *mine) {
  if (theirs->type != mine->type || strcmp(theirs->name, mine->name) != 0) return false;
  if ((theirs->flags & PEGA_PARAM_NONNULL) > (mine->flags & PEGA_PARAM_NONNULL)) return false;
  if (theirs->alignment > mine->alignment) return false;
  if ((theirs->flags & PEGA_PARAM_RANGE) == 0) return true;
  return (mine->flags & PEGA_PARAM_RANGE) != 0 && theirs->min <= mine->min &&
         theirs->max >= mine->max;
}

/* Of values that the library has two or three of ('&') it passes those that the kernel was made for. */
static bool takes_params(const pega_signature *packed, const char *params) {
  pega_param own;
  char name[64];
  int32_t i = 0;
  for (; pega_kernel_slot_next_param(&params, &own, name); ++i) {
    if (i >= packed->num_params) return false;
    const bool any = own.type == PEGA_TYPE_INT && (own.flags & PEGA_PARAM_RANGE) == 0;
    pega_param theirs = packed->params[i];
    if (any) theirs.flags &= ~PEGA_PARAM_RANGE;
    if (!takes(&theirs, &own)) return false;
  }
  return i == packed->num_params;
}

static void list_params(const char *params, char *buffer, size_t capacity) {
  pega_text text = {buffer, capacity, 0};
  pega_param own;
  char name[64];
  buffer[0] = '\0';
  while (pega_kernel_slot_next_param(&params, &own, name)) {
    pega_text_printf(&text, "%s%s: %s", text.size == 0 ? "" : ", ", name, pega_type_name(own.type));
  }
}

static void list_types(const pega_signature *signature, char *buffer, size_t capacity) {
  pega_text text = {buffer, capacity, 0};
  buffer[0] = '\0';
  for (int32_t i = 0; i < signature->num_params; ++i) {
    const pega_param *param = &signature->params[i];
    pega_text_printf(&text, "%s%s: %s", i == 0 ? "" : ", ", param->name,
                     pega_type_name(param->type));
  }
}

pega_status pega_kernel_slot_check(const pega_kernel_slot *slot, const pega_pack_function *function,
                                   pega_error *error) {
  const pega_signature *own = slot->signature;
  const pega_signature *packed = &function->signature;
  bool same;
  if (own == NULL) {
    same = takes_params(packed, slot->params);
  } else {
    same = own->num_params == packed->num_params;
    for (int32_t i = 0; same && i < own->num_params; ++i) {
      same = takes(&packed->params[i], &own->params[i]);
    }
  }
  if (same) return PEGA_OK;
  char expected[448];
  char got[448];
  if (own == NULL) {
    list_params(slot->params, expected, sizeof expected);
  } else {
    list_types(own, expected, sizeof expected);
  }
  list_types(packed, got, sizeof got);
  return pega_error_set(
      error, PEGA_ERROR_FORMAT, NULL,
      "the pack's '%s' takes (%s): expected (%s), with ranges no smaller and alignments no greater, as the "
      "library's own of this name; take a pack that was made for this version of the library",
      slot->name, got, expected);
}

/* Takes the kernel out of a pack. PEGA_ERROR_NOT_FOUND, with no text, if the pack has no such one. */
static pega_status take(pega_kernel_slot *slot, const pega_pack_options *options,
                        pega_error *error) {
  pega_pack *pack;
  pega_status status = pega_pack_open(options, &pack, error);
  if (status != PEGA_OK) return status;
  const int32_t index = pega_pack_index(pack, slot->name);
  if (index < 0) {
    status = PEGA_ERROR_NOT_FOUND;
  } else {
    const pega_pack_function *function;
    pega_kernel *kernel;
    status = pega_pack_describe(pack, index, &function, error);
    if (status == PEGA_OK) status = pega_kernel_slot_check(slot, function, error);
    if (status == PEGA_OK) status = pega_kernel_get(pack, function, &kernel, error);
    if (status == PEGA_OK) {
      pega_cuda_lock(&pega_kernel_slots_mutex);
      /* What pega_pack_register() put there meanwhile goes first. */
      const bool empty = atomic_load_explicit(&slot->kernel, memory_order_relaxed) == NULL;
      if (empty) atomic_store_explicit(&slot->kernel, kernel, memory_order_release);
      pega_cuda_unlock(&pega_kernel_slots_mutex);
      if (!empty) pega_kernel_release(kernel);
    }
  }
  pega_pack_release(pack);
  return status;
}

/* Looks through "first:second", skipping empty ones. */
static pega_status take_from_path(pega_kernel_slot *slot, const char *list, pega_error *error) {
  while (*list != '\0') {
    size_t size = strcspn(list, ":");
    if (size > 0) {
      char *path = strndup(list, size);
      if (path == NULL) {
        return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory for a path");
      }
      pega_pack_options options = PEGA_PACK_OPTIONS_INIT;
      options.path = path;
      pega_error failure;
      pega_error_init(&failure);
      pega_status status = take(slot, &options, &failure);
      if (status != PEGA_OK && failure.status != PEGA_OK) {
        pega_error_set(error, status, NULL, "PEGA_PACK_PATH names a pack that cannot be used: %s",
                       pega_error_message(&failure));
      }
      pega_error_clear(&failure);
      free(path);
      if (status != PEGA_ERROR_NOT_FOUND || (error != NULL && error->status != PEGA_OK)) {
        return status;
      }
    }
    list += size;
    list += *list == ':' ? 1 : 0;
  }
  return PEGA_ERROR_NOT_FOUND;
}

static pega_status fill(pega_kernel_slot *slot, pega_error *error) {
  const char *path = secure_getenv("PEGA_PACK_PATH");
  if (path != NULL && *path == '\0') path = NULL;
  if (path != NULL) {
    pega_status status = take_from_path(slot, path, error);
    if (status != PEGA_ERROR_NOT_FOUND || (error != NULL && error->status != PEGA_OK))
      return status;
  }
  const char *embedded =
      "this version of the library holds no GPU kernel for it (it was built without PEGA_AOT)";
  pega_pack_options options = PEGA_PACK_OPTIONS_INIT;
  options.flags = PEGA_PACK_STATIC;
  options.data = pega_pack_embedded(&options.size);
  if (options.data != NULL) {
    pega_status status = take(slot, &options, error);
    if (status != PEGA_ERROR_NOT_FOUND) return status;
    embedded = "the pack in the library lacks it";
  }
  return pega_error_set(error, PEGA_ERROR_UNSUPPORTED, NULL,
                        "%s, and %s%s%s; name a pack in PEGA_PACK_PATH or give one to "
                        "pega_pack_register()",
                        embedded,
                        path == NULL ? "PEGA_PACK_PATH is not set" : "no pack of PEGA_PACK_PATH '",
                        path == NULL ? "" : path, path == NULL ? "" : "' has it");
}

PEGA_HOT pega_status pega_kernel_slot_get(pega_kernel_slot *slot, pega_kernel **out,
                                          pega_error *error) {
  *out = atomic_load_explicit(&slot->kernel, memory_order_acquire);
  if (__builtin_expect(*out != NULL, 1)) return PEGA_OK;
  pega_cuda_lock(&fill_mutex);
  pega_status status = PEGA_OK;
  if (atomic_load_explicit(&slot->kernel, memory_order_relaxed) == NULL) {
    pega_error failure;
    pega_error_init(&failure);
    status = fill(slot, &failure);
    if (status != PEGA_OK && error != NULL) {
      pega_error_copy(&failure, error);
    }
    pega_error_clear(&failure);
  }
  *out = atomic_load_explicit(&slot->kernel, memory_order_relaxed);
  pega_cuda_unlock(&fill_mutex);
  return status;
}

pega_status pega_kernel_slot_find(pega_kernel_slot *slot, const char *function, pega_kernel **out,
                                  pega_error *error) {
  pega_error why;
  pega_error_init(&why);
  const pega_cuda_driver *driver;
  pega_status status = pega_cuda_driver_get(&driver, &why);
  if (status == PEGA_OK) status = pega_kernel_slot_get(slot, out, &why);
  if (status == PEGA_OK) return PEGA_OK;
  pega_error_set(error, status, NULL, "%s: nothing was launched: %s", function,
                 pega_error_message(&why));
  if (error != NULL) error->code = why.code;
  pega_error_clear(&why);
  return status;
}

pega_status pega_kernel_slot_prepare(pega_kernel_slot *slot, DLDevice device, pega_error *error) {
  const pega_cuda_driver *driver;
  pega_kernel *kernel;
  pega_status status = pega_cuda_driver_get(&driver, error);
  if (status == PEGA_OK) status = pega_kernel_slot_get(slot, &kernel, error);
  return status == PEGA_OK ? pega_kernel_prepare_here(kernel, device, error) : status;
}
