/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels that built-in functions launch: each is found in a pack when it is first needed. */
#ifndef PEGA_CUDA_SLOT_H_
#define PEGA_CUDA_SLOT_H_

#include <stdatomic.h>

#include "kernel.h"

/* Where a built-in function keeps the kernel it launches. */
typedef struct pega_kernel_slot {
  const char *name; /* of the pack's function */
  /* The arguments that it is launched with: a signature, where a public function has the same one, else
   * their names in order with a letter before each, "*q_ptr ?slots_ptr #num_tokens %scale ~stream": '*' a
   * pointer to memory aligned to 16 bytes, '?' one that may also be 0, '#' an integer from 0 to INT32_MAX,
   * '^' one from 1 to 2^16, '&' one of a few values, '%' a float, '~' the stream. */
  const pega_signature *signature;
  const char *params;
  _Atomic(pega_kernel *) kernel; /* a use, kept for the rest of the process; set under the next */
} pega_kernel_slot;

/* Held for moments only, so that several slots are filled at once. */
extern pega_cuda_mutex pega_kernel_slots_mutex;

/* The next of a slot's params, whose text moves on; the name is put into `name`. False at the end. */
bool pega_kernel_slot_next_param(const char **params, pega_param *out, char name[64]);

/* The slot's kernel; where it is empty, first the packs named in PEGA_PACK_PATH, then the library's
 * embedded pack are looked through. PEGA_ERROR_UNSUPPORTED tells what was looked through. */
pega_status pega_kernel_slot_get(pega_kernel_slot *slot, pega_kernel **out, pega_error *error);

/* Whether a pack's function takes what the slot's is launched with: the same parameters, in
 * ranges no smaller and with alignments no greater. PEGA_ERROR_FORMAT with both. */
pega_status pega_kernel_slot_check(const pega_kernel_slot *slot, const pega_pack_function *function,
                                   pega_error *error);

/* The slot's kernel, the driver being open. `function` begins the text where there is none of either. */
pega_status pega_kernel_slot_find(pega_kernel_slot *slot, const char *function, pega_kernel **out,
                                  pega_error *error);

/* Launches the slot's kernel on checked arguments, on the device `ordinal`, -1 where it is not known, with
 * scratch memory of the caller's where `given` is not NULL. Where there is no driver or no kernel,
 * `function` begins the text. */
static inline pega_status pega_kernel_slot_launch(pega_kernel_slot *slot, const char *function,
                                                  const pega_value *args, int32_t ordinal,
                                                  const pega_given_scratch *given,
                                                  pega_error *error) {
  pega_kernel *kernel = atomic_load_explicit(&slot->kernel, memory_order_acquire);
  if (__builtin_expect(kernel == NULL || pega_cuda_driver_opened() == NULL, 0)) {
    pega_status status = pega_kernel_slot_find(slot, function, &kernel, error);
    if (status != PEGA_OK) return status;
  }
  return pega_kernel_launch_on(kernel, args, ordinal, given, error);
}

/* The library's slot of this name, or NULL; defined in src/builtin.c. */
pega_kernel_slot *pega_builtin_kernel_slot(const char *name);

/* Prepares the slot's kernel on a device: what a built-in's pega_prepare does. */
pega_status pega_kernel_slot_prepare(pega_kernel_slot *slot, DLDevice device, pega_error *error);

#endif /* PEGA_CUDA_SLOT_H_ */
