/* SPDX-License-Identifier: Apache-2.0 */
/* What src/cuda asks of an open pack, over a module's own data: it was checked when it was exported. */
#include "cuda/driver.h"
#include "module.h"

struct pega_pack {
  const pega_image *image;
  void *kept;
};

static pega_cuda_mutex open_mutex = PEGA_CUDA_MUTEX_INIT;
static pega_pack the_pack;
static _Atomic(pega_pack *) opened;

/* Makes an offset an address. One that is there already stays: another thread of the parent of a fork may
 * have been at it. */
static void add(void *field, const void *base) {
  uintptr_t address;
  memcpy(&address, field, sizeof address);
  if (address < (uintptr_t)base) address += (uintptr_t)base;
  memcpy(field, &address, sizeof address);
}

static pega_status open_locked(pega_error *error) {
  const pega_module_parts *parts = &pega_this_module;
  pega_image *image = (pega_image *)(void *)parts->image;
  if (image->layout != PEGA_IMAGE_LAYOUT) {
    return pega_error_set(
        error, PEGA_ERROR_VERSION, NULL,
        "the module was put together from parts of two versions of pega: its data "
        "has layout %#llx, its code is for %#llx; export it again",
        (unsigned long long)image->layout, (unsigned long long)PEGA_IMAGE_LAYOUT);
  }
  for (uint64_t i = 0; i < parts->num_addresses; ++i) {
    add(parts->image + parts->addresses[i], parts->image);
  }
  for (int32_t i = 0; i < image->num_blobs; ++i) add(&image->bytes[i], parts->blobs);
  the_pack.image = image;
  atomic_store_explicit(&opened, &the_pack, memory_order_release);
  return PEGA_OK;
}

pega_status pega_module_pack(pega_pack **out, pega_error *error) {
  *out = atomic_load_explicit(&opened, memory_order_acquire);
  if (*out != NULL) return PEGA_OK;
  pega_cuda_lock(&open_mutex);
  pega_status status = PEGA_OK;
  if (atomic_load_explicit(&opened, memory_order_relaxed) == NULL) status = open_locked(error);
  pega_cuda_unlock(&open_mutex);
  if (status == PEGA_OK) *out = &the_pack;
  return status;
}

pega_pack *pega_pack_retain(pega_pack *pack) { return pack; }

void pega_pack_release(pega_pack *pack) { (void)pack; }

void **pega_pack_keep(pega_pack *pack, void (*release)(void *kept)) {
  (void)release; /* it lives as long as the module */
  return &pack->kept;
}

pega_status pega_pack_describe(pega_pack *pack, int32_t index, const pega_pack_function **out,
                               pega_error *error) {
  (void)error;
  *out = &pack->image->functions[index];
  return PEGA_OK;
}

uint32_t pega_pack_flags(const pega_pack *pack) {
  (void)pack;
  return pega_this_module.flags;
}

const pega_blob *pega_pack_blob(const pega_pack *pack, int32_t index) {
  return &pack->image->blobs[index];
}

pega_status pega_pack_variant_bytes(pega_pack *pack, const pega_pack_function *function,
                                    const pega_kernel_variant *variant, const void **bytes,
                                    size_t *size, pega_error *error) {
  (void)function;
  (void)error;
  *bytes = pack->image->bytes[variant->blob];
  *size = (size_t)pack->image->blobs[variant->blob].size;
  return PEGA_OK;
}
