/* SPDX-License-Identifier: Apache-2.0 */
/* Loaded modules: one for each blob and context, kept until pega_cuda_close(). */
#ifndef PEGA_CUDA_MODULE_H_
#define PEGA_CUDA_MODULE_H_

#include "kernel.h"

typedef struct pega_module {
  struct pega_module *next;
  uint64_t number; /* greater than that of all before it */
  pega_cuda_device *device;
  CUcontext context;
  unsigned long long context_id;
  bool primary;
  unsigned char sha256[kSha256Bytes];
  pega_target target; /* a fatbin has code for several */
  bool ptx;
  CUmodule handle; /* NULL: unloaded, but the thread's context could not be given back */
} pega_module;

/* What is loaded in this context, which is current, of a variant's blob; loads it if need be. All
 * under the kernels' lock. */
pega_status pega_module_load(const pega_cuda_driver *driver, const char *where, pega_kernel *kernel,
                             const pega_kernel_variant *variant, const pega_prepared *in,
                             CUmodule *out, pega_error *error);

/* Modules that are loaded after a mark was taken are unloaded again. Their context is current. */
uint64_t pega_module_mark(void);
void pega_module_undo(const pega_cuda_driver *driver, uint64_t mark);

/* Unloads every module, each in its own context; those of contexts that are gone went with them. The
 * first failure. */
pega_status pega_modules_unload(const pega_cuda_driver *driver, pega_error *error);

#endif /* PEGA_CUDA_MODULE_H_ */
